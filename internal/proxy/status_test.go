package proxy

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
)

// TestStatuses has a case for each status of the load balancer's own (docs/format/requests.md), except those of
// authentication, which TestOIDCTurnedAway has, and 460, which no client sees.
func TestStatuses(t *testing.T) {
	t.Parallel()
	silent := script(t, func(c net.Conn, r *bufio.Reader) { r.ReadByte(); c.Read(make([]byte, 1<<16)); c.Read(make([]byte, 1)) })
	closing := script(t, func(c net.Conn, r *bufio.Reader) { r.ReadString('\n') })
	large := answers(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", maxResponseHead)+"\r\nContent-Length: 0\r\n\r\n")
	cfg := simple(named(t, "ok"))
	cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
	for name, addr := range map[string]string{"silent": silent, "closing": closing, "large": large} {
		cfg.TargetGroups[name] = TargetGroup{Targets: []Target{{ID: name, Addr: addr}}}
	}
	cfg.TargetGroups["empty"] = TargetGroup{}
	cfg.TargetGroups["grpc"] = TargetGroup{ProtocolVersion: "GRPC", Targets: []Target{{ID: "g", Addr: silent}}}
	for i, name := range []string{"silent", "closing", "large", "empty", "grpc"} {
		cfg.Listeners[0].Rules = append(cfg.Listeners[0].Rules, Rule{Priority: i + 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/" + name}}}, Actions: forwardTo(name)})
	}
	cfg.Listeners[0].Rules = append(cfg.Listeners[0].Rules,
		Rule{Priority: 8, Conditions: []Condition{{Field: PathPattern, Values: []string{"/transform"}}}, Actions: forwardTo("g"), Transforms: []Transform{{URLRewrite, "^/.*", " "}}},
		Rule{Priority: 9, Conditions: []Condition{{Field: PathPattern, Values: []string{"/zero"}}}, Actions: []Action{{Type: Forward, Forward: []Weighted{{"g", 0}, {"empty", 0}}}}})
	b := newLB(t, cfg)
	get := func(path string, ls ...string) string {
		return lines(append([]string{"GET " + path + " HTTP/1.1", "Host: a"}, ls...)...)
	}
	many := func(n int, value string) (ls []string) {
		for i := range n {
			ls = append(ls, fmt.Sprintf("X-%d: %s", i, value))
		}
		return ls
	}
	for _, c := range []struct {
		name, send string
		want       int
		closes     bool
	}{
		{"nothing wrong", get("/"), 200, false},
		{"malformed", "GET\r\n\r\n", 400, true},
		{"blocked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400, true},
		{"broken chunks", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, true},
		{"no host", lines("GET / HTTP/1.1"), 400, true},
		{"TRACE", lines("TRACE / HTTP/1.1", "Host: a"), 405, false},
		{"CONNECT", lines("CONNECT a:443 HTTP/1.1", "Host: a:443"), 405, true},
		{"half a head", "GET / HTTP/1.1\r\nHo", 408, true},
		{"half a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", 408, true},
		{"request line of 16 KiB", get("/" + strings.Repeat("x", maxLine)), 414, true},
		{"query of 16 KiB", get("/?" + strings.Repeat("x", maxLine)), 414, true},
		{"expectation", get("/", "Expect: more"), 417, true},
		{"header of 16 KiB", get("/", "X: "+strings.Repeat("x", maxLine)), 431, true},
		{"headers of 64 KiB", get("/", many(70, strings.Repeat("x", 1000))...), 431, true},
		{"too many headers", get("/", many(maxFields, "x")...), 431, true},
		{"head just under the limits", get("/", many(60, strings.Repeat("x", 1000))...), 200, false},
		{"31 addresses", get("/", "X-Forwarded-For: 192.0.2.1"+strings.Repeat(", 192.0.2.1", 30)), 463, false},
		{"31 addresses in two lines", get("/", "X-Forwarded-For: 192.0.2.1"+strings.Repeat(", 192.0.2.1", 29), "X-Forwarded-For: 192.0.2.1"), 463, false},
		{"30 addresses", get("/", "X-Forwarded-For: 192.0.2.1"+strings.Repeat(", 192.0.2.1", 29)), 200, false},
		{"HTTP/1.1 to gRPC", get("/grpc"), 464, false},
		{"a transform without a result", get("/transform"), 500, false},
		{"unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, true},
		{"target closes", get("/closing"), 502, false},
		{"response head over 32 KiB", get("/large"), 502, false},
		{"no target", get("/empty"), 503, false},
		{"no weight", get("/zero"), 503, false},
		{"target says nothing", get("/silent"), 504, false},
		{"HTTP/3", lines("GET / HTTP/3.0", "Host: a"), 505, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			talk := b.dial()
			talk.t = t
			talk.send(c.send)
			r := talk.answer("GET")
			if r.StatusCode != c.want {
				t.Fatalf("status %d, want %d", r.StatusCode, c.want)
			}
			if c.want >= 400 {
				if page := text(r); !strings.Contains(page, fmt.Sprintf("<title>%d %s</title>", c.want, reason(c.want))) || r.Header.Get("Server") != "awselb/2.0" {
					t.Errorf("page %q, headers %v", page, r.Header)
				}
			}
			if c.closes != r.Close {
				t.Errorf("the connection ends: %v, want %v", r.Close, c.closes)
			}
		})
	}
}
