package zone

import (
	"strings"
	"testing"
	"time"
)

func TestHealthMachine(t *testing.T) {
	const ok, refused, slow, wrong = "o", "r", "s", "w"
	results := map[string]result{ok: {OK: true}, refused: {Reason: reasonFailed}, slow: {Reason: reasonTimeout}, wrong: {Reason: reasonMismatch, Code: 503}}
	for _, c := range []struct {
		name, checks       string
		healthy, unhealthy int
		state, reason, why string
	}{
		{"one success makes a new target healthy", "o", 5, 2, Healthy, "", ""},
		{"a first failure leaves it initial", "r", 5, 2, Initial, reasonInitial, "Initial health checks in progress"},
		{"failures up to the threshold make it unhealthy", "rr", 5, 2, Unhealthy, reasonFailed, "Health checks failed"},
		{"a success among failures while initial counts", "ro", 5, 2, Healthy, "", ""},
		{"a healthy target forgives less than the threshold", "ororr", 2, 3, Healthy, "", ""},
		{"a healthy target falls at the threshold", "orr", 2, 2, Unhealthy, reasonFailed, "Health checks failed"},
		{"an unhealthy one needs the whole healthy threshold", "rroo", 3, 2, Unhealthy, reasonFailed, "Health checks failed"},
		{"and has it then", "rrooo", 3, 2, Healthy, "", ""},
		{"a failure on the way back starts the count anew", "rrooroo", 3, 2, Unhealthy, reasonFailed, "Health checks failed"},
		{"the latest reason is shown", "rrsw", 3, 2, Unhealthy, reasonMismatch, "Health checks failed with these codes: [503]"},
		{"a timeout has its own words", "oss", 3, 2, Unhealthy, reasonTimeout, "Request timed out"},
	} {
		now := time.Unix(0, 0)
		m := newMachine(now)
		if m.State != Initial || m.Reason != reasonRegistration {
			t.Fatalf("a new target is %s %s", m.State, m.Reason)
		}
		for _, r := range strings.Split(c.checks, "") {
			now = now.Add(time.Second)
			m = m.step(results[r], c.healthy, c.unhealthy, now)
		}
		if m.State != c.state || m.Reason != c.reason || m.Description != c.why {
			t.Errorf("%s: after %q %s %q %q, wanted %s %q %q", c.name, c.checks, m.State, m.Reason, m.Description, c.state, c.reason, c.why)
		}
	}
}

func TestSinceMovesWithTheStateOnly(t *testing.T) {
	m := newMachine(time.Unix(1, 0))
	m = m.step(result{OK: true}, 2, 2, time.Unix(2, 0))
	m = m.step(result{OK: true}, 2, 2, time.Unix(3, 0))
	if m.Since != time.Unix(2, 0) {
		t.Errorf("healthy since %v, wanted the second that it became so", m.Since)
	}
}

func TestMatcher(t *testing.T) {
	for _, c := range []struct {
		matcher string
		code    int
		want    bool
	}{{"200", 200, true}, {"200", 201, false}, {"200-299", 250, true}, {"200-299", 300, false}, {"200,302", 302, true}, {"200,301-303", 302, true}, {"", 200, false}} {
		if got := codeMatches(c.matcher, c.code); got != c.want {
			t.Errorf("%q %d: %v", c.matcher, c.code, got)
		}
	}
}
