package proxy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"skerry/internal/require"
)

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern       string
		fold, escapes bool
		yes, no       string // space-separated
	}{
		{"/img/*", false, false, "/img/ /img/a /img/a/b", "/img /IMG/a /x/img/"},
		{"/*/x", false, false, "//x /a/x /a/b/x", "/x /a/x/"},
		{"*.example.com", true, false, "a.example.com A.B.Example.COM", "example.com a.example.com.x"},
		{"/a?c", false, false, "/abc /a?c /a/c", "/ac /abbc"},
		{"*", false, false, "a /b/c", ""},
		{"a*b*c", false, false, "abc aXbYc abcbc", "ab acb abcd"},
		{"a**b", false, false, "ab aXb", "a b"},
		{`a\*b`, false, true, "a*b", "aXb"},
		{`a\*b`, false, false, `a\Xb a\b`, "a*b"},
		{"exact", true, false, "EXACT exact", "exac exactly"},
		{"?", false, false, "x", "xy"},
	} {
		p := newPattern(c.pattern, c.fold, c.escapes)
		for _, s := range strings.Fields(c.yes) {
			if !p.match([]byte(s)) {
				t.Errorf("%q does not match %q", c.pattern, s)
			}
		}
		for _, s := range strings.Fields(c.no) {
			if p.match([]byte(s)) {
				t.Errorf("%q matches %q", c.pattern, s)
			}
		}
	}
	p := newPattern("a*a*a*a*a*a*a*a*b", false, false)
	if d := require.Spent(t, func() { p.match([]byte(strings.Repeat("a", 16000))) }); d > time.Second {
		t.Errorf("a hostile pattern took %v", d)
	}
}

// fixed is an action that names itself by its status.
func fixed(status int) []Action {
	return []Action{{Type: FixedResponse, Fixed: &Fixed{StatusCode: strconv.Itoa(status)}}}
}

func compiled(t *testing.T, l Listener, groups ...string) *listenerTable {
	t.Helper()
	l.Addr = front
	if l.Protocol == "" {
		l.Protocol = HTTP
	}
	cfg := Config{Listeners: []Listener{l}, TargetGroups: map[string]TargetGroup{}}
	for _, g := range groups {
		cfg.TargetGroups[g] = TargetGroup{Targets: []Target{{ID: g, Addr: "127.0.0.1:1"}}}
	}
	tb, _, err := compile(cfg, live{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return tb.listeners[front]
}

func parsed(t *testing.T, head string) *request {
	t.Helper()
	var r request
	if err := r.parse([]byte(head)); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestRules(t *testing.T) {
	cond := func(field string, values ...string) []Condition { return []Condition{{Field: field, Values: values}} }
	l := compiled(t, Listener{DefaultActions: fixed(404), Rules: []Rule{
		{Priority: 30, Conditions: cond(PathPattern, "/api", "/api/*"), Actions: fixed(230)},
		{Priority: 10, Conditions: append(cond(HostHeader, "*.company.test"), cond(PathPattern, "/api/*")...), Actions: fixed(210)},
		{Priority: 40, Conditions: cond(RequestMethod, "PURGE"), Actions: fixed(240)},
		{Priority: 50, Conditions: []Condition{{Field: HTTPHeader, Header: "User-Agent", Values: []string{"*Chrome*", "*firefox*"}}}, Actions: fixed(250)},
		{Priority: 60, Conditions: []Condition{{Field: QueryField, Query: []QueryString{{Key: "version", Value: "v?"}, {Value: "*beta*"}}}}, Actions: fixed(260)},
		{Priority: 70, Conditions: cond(SourceIP, "192.0.2.0/24", "2001:db8::/32"), Actions: fixed(270)},
		{Priority: 75, Conditions: []Condition{{Field: HostHeader, Regex: []string{`^api-[0-9]+\.test$`}}}, Actions: fixed(275)},
		{Priority: 80, Conditions: []Condition{{Field: PathPattern, Regex: []string{`^/v[0-9]+/`}}}, Actions: fixed(280)},
	}})
	for _, c := range []struct {
		head, peer string
		want       int
	}{
		{lines("GET /api/x HTTP/1.1", "Host: www.company.test:81"), "", 210},
		{lines("GET /api/x HTTP/1.1", "Host: WWW.Company.TEST"), "", 210},
		{lines("GET /api/x HTTP/1.1", "Host: company.test"), "", 230},
		{lines("GET /api?x=/api/y HTTP/1.1", "Host: a"), "", 230},
		{lines("GET /API HTTP/1.1", "Host: a"), "", 404},
		{lines("PURGE / HTTP/1.1", "Host: a"), "", 240},
		{lines("purge / HTTP/1.1", "Host: a"), "", 404},
		{lines("GET / HTTP/1.1", "Host: a", "user-agent: x", "USER-AGENT: mozilla FireFox"), "", 250},
		{lines("GET /?a=1&VERSION=V2 HTTP/1.1", "Host: a"), "", 260},
		{lines("GET /?version=v22 HTTP/1.1", "Host: a"), "", 404},
		{lines("GET /?x=mybeta1 HTTP/1.1", "Host: a"), "", 260},
		{lines("GET / HTTP/1.1", "Host: a"), "192.0.2.9", 270},
		{lines("GET / HTTP/1.1", "Host: a"), "2001:db8::1", 270},
		{lines("GET / HTTP/1.1", "Host: a", "X-Forwarded-For: 192.0.2.9"), "198.51.100.1", 404},
		{lines("GET /v12/x HTTP/1.1", "Host: a"), "", 280},
		{lines("GET /V12/x HTTP/1.1", "Host: a"), "", 404},
		{lines("GET / HTTP/1.1", "Host: API-7.Test:81"), "", 275},
		{lines("GET / HTTP/1.0"), "", 404},
	} {
		peer := netip.IPv4Unspecified()
		if c.peer != "" {
			peer = netip.MustParseAddr(c.peer)
		}
		if a, _ := l.decide(parsed(t, c.head), peer); a.status != c.want {
			t.Errorf("%q from %s: rule %d, want %d", c.head, peer, a.status, c.want)
		}
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct {
		name       string
		to         Redirect
		proto      string
		port       int
		head, want string
	}{
		{"to HTTPS", Redirect{Protocol: "HTTPS", Port: "443", StatusCode: "HTTP_301"}, HTTP, 80, lines("GET /x?y=1 HTTP/1.1", "Host: host"), "301 https://host:443/x?y=1"},
		{"to HTTPS, spelt out", Redirect{Protocol: "HTTPS", Port: "443", Host: "#{host}", Path: "/#{path}", Query: "#{query}", StatusCode: "HTTP_301"}, HTTP, 80,
			lines("GET /x?y=1 HTTP/1.1", "Host: host:80"), "301 https://host:443/x?y=1"},
		{"to another host", Redirect{Host: "www.company.test", Path: "/blog/#{path}", StatusCode: "HTTP_302"}, HTTP, 443, lines("GET /p HTTP/1.1", "Host: blog.company.test"),
			"302 http://www.company.test:443/blog/p"},
		{"every keyword", Redirect{Host: "x-#{host}", Port: "#{port}", Path: "/#{host}/#{port}/#{path}", Query: "#{protocol}&#{query}&#{path}"}, HTTP, 81, lines("GET /a/b?c HTTP/1.1", "Host: h"),
			"302 http://x-h:81/h/81/a/b?http&c&a/b"},
		{"an unknown keyword stays", Redirect{Path: "/#{what}"}, HTTP, 80, lines("GET / HTTP/1.1", "Host: h"), "302 http://h:80/#{what}"},
		{"no query, no question mark", Redirect{Path: "/y"}, HTTP, 80, lines("GET /x HTTP/1.1", "Host: h"), "302 http://h:80/y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := compiled(t, Listener{Port: c.port, Protocol: c.proto, DefaultActions: []Action{{Type: RedirectTo, Redirect: &c.to}}})
			r := parsed(t, c.head)
			a, _ := l.decide(r, netip.Addr{})
			if got := fmt.Sprintf("%d %s", a.status, a.to.location(r, l, nil)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	l := compiled(t, Listener{DefaultActions: []Action{{Type: RedirectTo, Redirect: &Redirect{Port: "443"}}}})
	for local, want := range map[string]string{"10.0.0.1:80": "http://10.0.0.1:443/x", "[2001:db8::1]:80": "http://[2001:db8::1]:443/x"} {
		if loc := l.fallback[0].to.location(parsed(t, lines("GET /x HTTP/1.0")), l, []byte(local)); string(loc) != want {
			t.Errorf("without a host: %s, want %s", loc, want)
		}
	}
	l = compiled(t, Listener{DefaultActions: []Action{{Type: RedirectTo, Redirect: &Redirect{Path: "/#{path}#{path}", Port: "443"}}}})
	if loc := l.fallback[0].to.location(parsed(t, lines("GET /"+strings.Repeat("x", 5000)+" HTTP/1.1", "Host: h")), l, nil); loc != nil {
		t.Errorf("a Location of %d bytes; 8 KiB are the limit", len(loc))
	}
}

func TestRedirectEndToEnd(t *testing.T) {
	t.Parallel()
	cfg := simple()
	cfg.Listeners[0].DefaultActions = []Action{{Type: RedirectTo, Redirect: &Redirect{Protocol: "HTTPS", Port: "443", StatusCode: "HTTP_301"}}}
	c := newLB(t, cfg).dial()
	for range 2 {
		r := c.get("/x?y=1")
		if r.StatusCode != 301 || r.Header.Get("Location") != "https://a:443/x?y=1" || r.Header.Get("Server") != "awselb/2.0" || r.ContentLength != 134 {
			t.Errorf("%v", r)
		}
	}
}

func TestBadConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"attribute idle_timeout.timeout_seconds": func(c *Config) { c.Attributes["idle_timeout.timeout_seconds"] = "0" },
		"attribute routing.http2.enabled":        func(c *Config) { c.Attributes["routing.http2.enabled"] = "yes" },
		"host:port":                              func(c *Config) { c.Listeners[0].Addr = "10.0.0.1" },
		`protocol "TCP"`:                         func(c *Config) { c.Listeners[0].Protocol = "TCP" },
		"needs a certificate":                    func(c *Config) { c.Listeners[0].Protocol = HTTPS },
		"no action":                              func(c *Config) { c.Listeners[0].DefaultActions = nil },
		`target group "h" does not exist`:        func(c *Config) { c.Listeners[0].DefaultActions = forwardTo("h") },
		`action "authenticate-oidc"`:             func(c *Config) { c.Listeners[0].DefaultActions = []Action{{Type: "authenticate-oidc"}} },
		"there twice": func(c *Config) {
			c.Listeners = append(c.Listeners, c.Listeners[0])
		},
		`condition field "colour"`: func(c *Config) {
			c.Listeners[0].Rules = []Rule{{Conditions: []Condition{{Field: "colour"}}, Actions: fixed(200)}}
		},
		"not a CIDR block": func(c *Config) {
			c.Listeners[0].Rules = []Rule{{Conditions: []Condition{{Field: SourceIP, Values: []string{"x"}}}, Actions: fixed(200)}}
		},
		"regular expression": func(c *Config) {
			c.Listeners[0].Rules = []Rule{{Conditions: []Condition{{Field: PathPattern, Regex: []string{"("}}}, Actions: fixed(200)}}
		},
		`status code "600"`: func(c *Config) { c.Listeners[0].DefaultActions = fixed(600) },
		"redirect status": func(c *Config) {
			c.Listeners[0].DefaultActions = []Action{{Type: RedirectTo, Redirect: &Redirect{StatusCode: "HTTP_307"}}}
		},
		"redirect template": func(c *Config) {
			c.Listeners[0].DefaultActions = []Action{{Type: RedirectTo, Redirect: &Redirect{Path: "/\r\nX: y"}}}
		},
		"state \"odd\"":   func(c *Config) { c.TargetGroups["g"].Targets[0].State = "odd" },
		"target address ": func(c *Config) { c.TargetGroups["g"].Targets[0].Addr = "127.0.0.1" },
	} {
		t.Run(want, func(t *testing.T) {
			cfg := simple("127.0.0.1:1")
			change(&cfg)
			if _, _, err := compile(cfg, live{}, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		})
	}
}

// group is a compiled target group with these targets.
func groupOf(t *testing.T, attrs map[string]string, targets ...Target) *group {
	t.Helper()
	for i := range targets {
		if targets[i].Addr == "" {
			targets[i].Addr = "127.0.0.1:1"
		}
	}
	lv := live{groups: map[string]*groupState{}, targets: map[string]*target{}}
	g, err := compileGroup("g", TargetGroup{Attributes: attrs, Targets: targets}, live{}, &lv, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, fn := range lv.adopt {
		fn()
	}
	return g
}

// counts chooses n times and counts by target id.
func counts(g *group, ids []string, n int, now time.Time) map[string]int {
	m := map[string]int{}
	for range n {
		t := g.pick(nil, now)
		for _, id := range ids {
			if t != nil && t.id == hash(id, t.addr) {
				m[id]++
			}
		}
	}
	return m
}

func TestChoice(t *testing.T) {
	now := time.Now()
	ids := []string{"a", "b", "c"}
	t.Run("round robin", func(t *testing.T) {
		g := groupOf(t, nil, Target{ID: "a"}, Target{ID: "b"}, Target{ID: "c", State: Unhealthy})
		if m := counts(g, ids, 100, now); m["a"] != 50 || m["b"] != 50 {
			t.Errorf("%v", m)
		}
	})
	t.Run("weights", func(t *testing.T) {
		g := groupOf(t, nil, Target{ID: "a", Weight: 30}, Target{ID: "b", Weight: 10})
		if m := counts(g, ids, 100, now); m["a"] != 75 || m["b"] != 25 || len(g.healthy) != 4 {
			t.Errorf("%v", m)
		}
	})
	t.Run("fail open", func(t *testing.T) {
		g := groupOf(t, nil, Target{ID: "a", State: Unhealthy}, Target{ID: "b", State: Initial}, Target{ID: "c", State: Draining})
		if m := counts(g, ids, 100, now); !g.failOpen || m["a"] != 50 || m["b"] != 50 {
			t.Errorf("%v; all but the draining one should get requests when none is healthy", m)
		}
	})
	t.Run("fail open below a count", func(t *testing.T) {
		g := groupOf(t, map[string]string{"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": "2"}, Target{ID: "a"}, Target{ID: "b", State: Unhealthy})
		if m := counts(g, ids, 100, now); m["b"] != 50 {
			t.Errorf("%v", m)
		}
	})
	t.Run("fail open below a percentage", func(t *testing.T) {
		g := groupOf(t, map[string]string{"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "50"},
			Target{ID: "a"}, Target{ID: "b", State: Unhealthy}, Target{ID: "c", State: Unhealthy})
		if !g.failOpen {
			t.Error("a third is healthy, half was asked for")
		}
	})
	t.Run("only draining", func(t *testing.T) {
		if g := groupOf(t, nil, Target{ID: "a", State: Draining}); g.pick(nil, now) != nil {
			t.Error("a draining target got a new request")
		}
	})
	t.Run("least outstanding", func(t *testing.T) {
		g := groupOf(t, map[string]string{"load_balancing.algorithm.type": "least_outstanding_requests"}, Target{ID: "a"}, Target{ID: "b"}, Target{ID: "c"})
		g.members[hash("a", "127.0.0.1:1")].t.inflight.Store(5)
		g.members[hash("b", "127.0.0.1:1")].t.inflight.Store(2)
		g.members[hash("c", "127.0.0.1:1")].t.inflight.Store(3)
		if m := counts(g, ids, 10, now); m["b"] != 10 {
			t.Errorf("%v", m)
		}
	})
	t.Run("not one that was tried", func(t *testing.T) {
		g := groupOf(t, nil, Target{ID: "a"}, Target{ID: "b"})
		a := g.members[hash("a", "127.0.0.1:1")].t
		for range 10 {
			if g.pick([]*target{a}, now) == a {
				t.Fatal("chosen again")
			}
		}
	})
	t.Run("slow start", func(t *testing.T) {
		g := groupOf(t, map[string]string{"slow_start.duration_seconds": "100"}, Target{ID: "a"}, Target{ID: "b"})
		b := g.members[hash("b", "127.0.0.1:1")].t
		if b.since.Load() != 0 {
			t.Error("the group's first targets ramp up")
		}
		b.since.Store(now.UnixNano())
		early, half, after := counts(g, ids, 2000, now.Add(time.Second)), counts(g, ids, 2000, now.Add(50*time.Second)), counts(g, ids, 2000, now.Add(101*time.Second))
		if early["b"] > 100 || half["b"] < 300 || half["b"] > 700 || after["b"] != 1000 {
			t.Errorf("of 2000: %d after 1 %%, %d after 50 %%, %d after all", early["b"], half["b"], after["b"])
		}
	})
}

func TestWeightedGroups(t *testing.T) {
	l := compiled(t, Listener{DefaultActions: []Action{{Type: Forward, Forward: []Weighted{{"g1", 90}, {"g2", 10}}, StickySeconds: 60}}}, "g1", "g2")
	a := &l.fallback[0]
	now := time.Now()
	n := 0
	for range 1000 {
		if g, set, _ := a.chooseGroup(parsed(t, lines("GET / HTTP/1.1", "Host: a")), l.sealer, now); g.key == "g1" {
			n++
			if !set {
				t.Fatal("no cookie for a sticky choice")
			}
		}
	}
	if n < 850 || n > 950 {
		t.Errorf("%d of 1000 went to the group with weight 90 of 100", n)
	}
	v := l.sealer.seal(nil, cookieTG, hash("g2"), now.Add(time.Minute))
	r := parsed(t, lines("GET / HTTP/1.1", "Host: a", "Cookie: x=y; AWSALBTG="+string(v)))
	for range 50 {
		if g, _, _ := a.chooseGroup(r, l.sealer, now); g.key != "g2" {
			t.Fatal("the cookie's group was not kept")
		}
	}
	for value, forged := range map[string]bool{string(v): false, "%" + string(v): true, string(v[1:]): true, "": true, string(v[:10]) + "A" + string(v[11:]): v[10] != 'A'} {
		r := parsed(t, lines("GET / HTTP/1.1", "Host: a", "Cookie: AWSALBTG="+value))
		for _, at := range []time.Time{now, now.Add(2 * time.Minute)} { // one whose time is over is no forgery
			if _, _, got := a.chooseGroup(r, l.sealer, at); got != forged {
				t.Errorf("cookie %q forged: %v", value, got)
			}
		}
	}
	later := 0
	for range 50 {
		if g, _, _ := a.chooseGroup(r, l.sealer, now.Add(2*time.Minute)); g.key == "g2" {
			later++
		}
	}
	if later > 25 {
		t.Error("the cookie counts after its time")
	}
	l = compiled(t, Listener{DefaultActions: []Action{{Type: Forward, Forward: []Weighted{{"g1", 0}, {"g2", 0}}}}}, "g1", "g2")
	if g, _, _ := l.fallback[0].chooseGroup(r, l.sealer, now); g != nil {
		t.Error("a group with weight 0 was chosen")
	}
}

func TestSealer(t *testing.T) {
	s, now := newSealer([]byte("k"), ""), time.Now()
	v := s.seal(nil, "p", 42, now.Add(time.Minute))
	if id, ok := s.open(v, "p", now); !ok || id != 42 {
		t.Fatal("a genuine value is refused")
	}
	if string(v) == string(s.seal(nil, "p", 42, now.Add(time.Minute))) {
		t.Error("equal values: a client could tell that it shares a target")
	}
	for name, ok := range map[string]bool{
		"other purpose": func() bool { _, ok := s.open(v, "q", now); return ok }(),
		"too late":      func() bool { _, ok := s.open(v, "p", now.Add(time.Hour)); return ok }(),
		"other key":     func() bool { _, ok := newSealer([]byte("l"), "").open(v, "p", now); return ok }(),
		"changed":       func() bool { b := append([]byte{}, v...); b[20] ^= 1; _, ok := s.open(b, "p", now); return ok }(),
		"cut":           func() bool { _, ok := s.open(v[:len(v)-4], "p", now); return ok }(),
		"empty":         func() bool { _, ok := s.open(nil, "p", now); return ok }(),
		"long":          func() bool { _, ok := s.open([]byte(strings.Repeat("A", 9000)), "p", now); return ok }(),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
}
