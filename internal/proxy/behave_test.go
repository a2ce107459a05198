package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func cookieOf(r *http.Response, name string) string {
	for _, c := range r.Cookies() {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func TestStickiness(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "a"), named(t, "b"), named(t, "c"))
	b := newLB(t, cfg)
	c := b.dial()
	if r := c.get("/"); cookieOf(r, "AWSALB") != "" {
		t.Fatal("a cookie without stickiness")
	}
	sticky := func(states ...string) {
		g := cfg.TargetGroups["g"]
		g.Attributes = map[string]string{"stickiness.enabled": "true", "stickiness.type": "lb_cookie", "stickiness.lb_cookie.duration_seconds": "60"}
		g.Targets = append([]Target{}, g.Targets...)
		for i, s := range states {
			g.Targets[i].State = s
		}
		nc := cfg
		nc.TargetGroups = map[string]TargetGroup{"g": g}
		b.apply(nc)
	}
	sticky()
	first := c.get("/")
	who, val := text(first), cookieOf(first, "AWSALB")
	if val == "" || cookieOf(first, "AWSALBCORS") != val {
		t.Fatalf("cookies %v", first.Header["Set-Cookie"])
	}
	for _, k := range first.Cookies() {
		if d := time.Until(k.Expires); d < 6*24*time.Hour || d > 8*24*time.Hour || k.Path != "/" || k.MaxAge != 0 {
			t.Errorf("cookie %v", k)
		}
		if cors := k.Name == "AWSALBCORS"; cors != k.Secure || cors != (k.SameSite == http.SameSiteNoneMode) {
			t.Errorf("cookie %v", k)
		}
	}
	stays := func(cookie, want string, n int) bool {
		t.Helper()
		for range n {
			r := c.get("/", "Cookie: a=b; "+cookie)
			if text(r) != want {
				return false
			}
			if cookieOf(r, "AWSALB") == "" {
				t.Error("the cookie is not refreshed")
			}
		}
		return true
	}
	if !stays("AWSALB="+val, who, 20) || !stays("AWSALBCORS="+val, who, 20) {
		t.Error("the client changed its target")
	}
	if stays("AWSALB=nonsense", who, 20) || stays("AWSALB="+val[:len(val)-8], who, 20) {
		t.Error("an invalid cookie was honoured")
	}
	states := []string{Healthy, Healthy, Healthy}
	i := int(who[0] - 'a')
	states[i] = Draining
	sticky(states...)
	if !stays("AWSALB="+val, who, 20) {
		t.Error("a client left its draining target")
	}
	for range 20 {
		if text(c.get("/")) == who {
			t.Fatal("a new client went to a draining target")
		}
	}
	states[i] = Unhealthy
	sticky(states...)
	r := c.get("/", "Cookie: AWSALB="+val)
	other, val2 := text(r), cookieOf(r, "AWSALB")
	if other == who || val2 == "" {
		t.Fatalf("the client of an unhealthy target went to %s with cookie %q", other, val2)
	}
	if !stays("AWSALB="+val2, other, 20) {
		t.Error("the new cookie is not honoured")
	}
}

func TestAppCookie(t *testing.T) {
	t.Parallel()
	app := func(name string) string {
		return addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login" {
				http.SetCookie(w, &http.Cookie{Name: "SID", Value: "x"})
			}
			io.WriteString(w, name)
		}))
	}
	cfg := simple(app("a"), app("b"))
	with(cfg.TargetGroups["g"].Attributes, "stickiness.enabled", "true", "stickiness.type", "app_cookie", "stickiness.app_cookie.cookie_name", "SID")
	c := newLB(t, cfg).dial()
	if r := c.get("/"); len(r.Cookies()) > 0 {
		t.Errorf("cookies %v though the target set none", r.Cookies())
	}
	r := c.get("/login")
	who, val := text(r), cookieOf(r, "AWSALBAPP-0")
	if val == "" {
		t.Fatalf("cookies %v", r.Cookies())
	}
	seen := func(cookie string) map[string]bool {
		m := map[string]bool{}
		for range 20 {
			m[text(c.get("/", "Cookie: "+cookie))] = true
		}
		return m
	}
	if m := seen("SID=x; AWSALBAPP-0=" + val); len(m) != 1 || !m[who] {
		t.Errorf("%v, want only %s", m, who)
	}
	if m := seen("AWSALBAPP-0=" + val); len(m) != 2 {
		t.Error("sticky without the application's cookie")
	}
}

func TestWeightedGroupsEndToEnd(t *testing.T) {
	t.Parallel()
	cfg := simple()
	cfg.TargetGroups = map[string]TargetGroup{"blue": {Targets: []Target{{ID: "1", Addr: named(t, "blue")}}}, "green": {Targets: []Target{{ID: "2", Addr: named(t, "green")}}}}
	cfg.Listeners[0].DefaultActions = []Action{{Type: Forward, Forward: []Weighted{{"blue", 1}, {"green", 1}}, StickySeconds: 60}}
	b := newLB(t, cfg)
	c := b.dial()
	seen := map[string]string{}
	for range 60 {
		r := c.get("/")
		seen[text(r)] = cookieOf(r, "AWSALBTG")
	}
	if len(seen) != 2 {
		t.Fatalf("only %v", seen)
	}
	for name, val := range seen {
		for range 20 {
			if got := text(c.get("/", "Cookie: AWSALBTG="+val)); got != name {
				t.Fatalf("%s became %s", name, got)
			}
		}
	}
}

// TestApplyKeepsConnections: a listener that stays keeps its connections, a removed one ends them when they are idle.
func TestApplyKeepsConnections(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
		io.WriteString(w, "old")
	}))
	cfg := simple(slow)
	b := newLB(t, cfg)
	busy, resting := b.dial(), b.dial()
	resting.get("/")
	busy.send(lines("GET /slow HTTP/1.1", "Host: a"))
	waitFor(t, "the request is on its way", func() bool { return b.live.targets["g\x00i-0\x00"+slow].inflight.Load() == 1 })

	bad := cfg
	bad.Listeners = append([]Listener{{Addr: "10.0.0.1:81", Protocol: HTTP, DefaultActions: forwardTo("nothing")}}, cfg.Listeners...)
	if b.Apply(bad) == nil {
		t.Fatal("a bad configuration was applied")
	}
	if got := text(resting.get("/")); got != "old" {
		t.Errorf("a refused configuration changed something: %q", got)
	}
	next := simple(named(t, "new"))
	next.TargetGroups = map[string]TargetGroup{"h": next.TargetGroups["g"]}
	next.Listeners[0].DefaultActions = forwardTo("h")
	b.apply(next)
	if got := text(resting.get("/")); got != "new" {
		t.Errorf("after Apply the connection is served %q", got)
	}
	close(release)
	if got := text(busy.answer("GET")); got != "old" {
		t.Errorf("the running request got %q", got)
	}
	if got := text(busy.get("/")); got != "new" {
		t.Errorf("its connection then gets %q", got)
	}
	moved := next
	moved.Listeners = []Listener{{Addr: "10.0.0.1:82", Protocol: HTTP, DefaultActions: forwardTo("h")}}
	b.apply(moved)
	if !resting.ended() || !busy.ended() {
		t.Error("an idle connection of a removed listener stays open")
	}
	if c, err := net.Dial("tcp", b.addr(front)); err == nil {
		c.Close()
		t.Error("a removed listener still accepts")
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(longest); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

// TestDeregistration: a draining target finishes what it has; one that is taken out is cut.
func TestDeregistration(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		io.WriteString(w, "done")
	}))
	cfg := simple(slow)
	b := newLB(t, cfg)
	state := func(states ...string) {
		g := TargetGroup{}
		for _, s := range states {
			g.Targets = append(g.Targets, Target{ID: "i-0", Addr: slow, State: s})
		}
		c := cfg
		c.TargetGroups = map[string]TargetGroup{"g": g}
		b.apply(c)
	}
	inflight := func(n int64) {
		t.Helper()
		waitFor(t, "requests in flight", func() bool { return b.live.targets["g\x00i-0\x00"+slow].inflight.Load() == n })
	}
	one := b.dial()
	one.send(lines("GET / HTTP/1.1", "Host: a"))
	inflight(1)
	state(Draining)
	if r := b.dial().get("/"); r.StatusCode != 503 {
		t.Errorf("a new request to a draining target: %d", r.StatusCode)
	}
	release <- struct{}{}
	if r := one.answer("GET"); text(r) != "done" {
		t.Errorf("the request in flight got %v", r)
	}
	inflight(0)
	state(Healthy)
	two := b.dial()
	two.send(lines("GET / HTTP/1.1", "Host: a"))
	inflight(1)
	state()
	if r := two.answer("GET"); r.StatusCode != 502 {
		t.Errorf("a request in flight at the end of the deregistration delay: %d", r.StatusCode)
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	hang := addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/half":
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("half"))
			w.(http.Flusher).Flush()
		case "/ok":
			io.Copy(io.Discard, r.Body)
			return
		}
		<-r.Context().Done()
	}))
	cfg := simple(hang)
	cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
	b := newLB(t, cfg)
	run := func(name string, fn func(t *testing.T, c *talk)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			fn(t, b.dial())
			if d := time.Since(start); d < 900*time.Millisecond || d > 20*time.Second { // the default is a minute
				t.Errorf("after %v; the idle timeout is 1 s", d)
			}
		})
	}
	run("the target does not answer: 504", func(t *testing.T, c *talk) {
		if r := c.get("/"); r.StatusCode != 504 || text(r) != string(htmlPage(504)) {
			t.Errorf("status %d", r.StatusCode)
		}
	})
	run("the client stops in the body: 408", func(t *testing.T, c *talk) {
		c.send(lines("POST /ok HTTP/1.1", "Host: a", "Content-Length: 100") + "part")
		if r := c.answer("POST"); r.StatusCode != 408 || !c.ended() {
			t.Errorf("status %d", r.StatusCode)
		}
	})
	run("the client stops in the head: 408", func(t *testing.T, c *talk) {
		c.send("GET / HTTP/1.1\r\nHo")
		if r := c.answer("GET"); r.StatusCode != 408 || !c.ended() {
			t.Errorf("status %d", r.StatusCode)
		}
	})
	run("an idle connection is closed without a word", func(t *testing.T, c *talk) {
		c.get("/ok")
		b, err := io.ReadAll(c.r)
		if len(b) > 0 || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	run("the target stops in the body: cut", func(t *testing.T, c *talk) {
		c.send(lines("GET /half HTTP/1.1", "Host: a"))
		r, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r.Body); err == nil || string(b) != "half" {
			t.Errorf("%q, %v; a cut body must not look complete", b, err)
		}
	})
	run("an idle tunnel is closed", func(t *testing.T, c *talk) {
		c2 := newLB(t, func() Config {
			cfg := simple(wsEcho(t))
			cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
			return cfg
		}()).dial()
		c2.upgrade()
		if !c2.ended() {
			t.Error("still open")
		}
	})
}

// TestActivityKeepsAlive: the limit counts from the last byte.
func TestActivityKeepsAlive(t *testing.T) {
	t.Parallel()
	cfg := simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		for range 6 {
			time.Sleep(400 * time.Millisecond)
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}
	})))
	cfg.Attributes["idle_timeout.timeout_seconds"] = "2"
	if s := text(newLB(t, cfg).dial().get("/")); s != "xxxxxx" {
		t.Errorf("%q", s)
	}
}

// TestClientLeaves: a client that closes while it waits ends the request at the target.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	came, left := make(chan struct{}), make(chan struct{})
	b := newLB(t, simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		close(came)
		<-r.Context().Done()
		close(left)
	}))))
	c := b.dial()
	c.send(lines("GET / HTTP/1.1", "Host: a"))
	<-came
	c.Close()
	select {
	case <-left:
	case <-time.After(longest):
		t.Fatal("the target was not told")
	}
	waitFor(t, "the 460 is counted", func() bool { return b.Stats().Counters["HTTPCode_ELB_4XX_Count"] == 1 })
}

func TestPipelining(t *testing.T) {
	t.Parallel()
	b := newLB(t, simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		io.WriteString(w, r.URL.Path+string(b))
	}))))
	c := b.dial()
	var s, want strings.Builder
	for i := range 50 {
		fmt.Fprintf(&s, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
		fmt.Fprintf(&s, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\n", i) // an empty line between requests is forgiven
		fmt.Fprintf(&s, "POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n", i)
		fmt.Fprintf(&want, "/%d /%dabc /%dxyz ", i, i, i)
	}
	go io.WriteString(c, s.String())
	var got strings.Builder
	for range 150 {
		got.WriteString(text(c.answer("GET")) + " ")
	}
	if got.String() != want.String() {
		t.Errorf("got %s", got.String())
	}
}

// TestMany: many clients at once, while the configuration changes under them; not one request fails.
func TestMany(t *testing.T) {
	t.Parallel()
	var addrs []string
	for i := range 3 {
		addrs = append(addrs, named(t, fmt.Sprint(i)))
	}
	b := newLB(t, simple(addrs...))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var n atomic.Int64
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := net.Dial("tcp", b.addr(front))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for {
				select {
				case <-stop:
					return
				default:
				}
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("%v %v", resp, err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				n.Add(1)
			}
		}()
	}
	for i := range 50 {
		cfg := simple(addrs...)
		cfg.TargetGroups["g"].Targets[i%3].State = []string{Unhealthy, Draining, Initial, Healthy}[i%4]
		b.apply(cfg)
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	s := b.Stats()
	if got := s.Counters["RequestCount"]; got != float64(n.Load()) || s.Groups["g"].Latency.Count != got || s.Groups["g"].Counters["HTTPCode_Target_2XX_Count"] != got {
		t.Errorf("%d requests, counted as %v", n.Load(), s)
	}
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	var addr string
	p := New(Options{MaxConnections: 2, Listen: func(n, a string) (net.Listener, error) {
		l, err := net.Listen(n, "127.0.0.1:0")
		if err == nil {
			addr = l.Addr().String()
		}
		return l, err
	}})
	defer p.Shutdown(context.Background())
	cfg := simple()
	cfg.Listeners[0].DefaultActions = fixed(200)
	if err := p.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	var cs []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cs = append(cs, c)
	}
	cs[2].SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := cs[2].Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the third connection is served: %v", err)
	}
	if s := p.Stats(); s.Counters["RejectedConnectionCount"] != 1 || s.Gauges["ActiveConnectionCount"] != 2 {
		t.Errorf("%v", s)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	b := newLB(t, simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		io.WriteString(w, "done")
	}))))
	c := b.dial()
	c.send(lines("GET / HTTP/1.1", "Host: a"))
	waitFor(t, "the request is on its way", func() bool { return b.counters[cRequest].Load() == 1 })
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	if err := b.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if r := c.answer("GET"); text(r) != "done" {
		t.Errorf("%v", r)
	}
	if b.Apply(simple()) == nil {
		t.Error("Apply after Shutdown")
	}

	b = newLB(t, simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))))
	c = b.dial()
	c.send(lines("GET / HTTP/1.1", "Host: a"))
	waitFor(t, "the request is on its way", func() bool { return b.counters[cRequest].Load() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := b.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
