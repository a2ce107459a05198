package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// longest is how long a test waits for what should come at once, on whatever machine.
const longest = 30 * time.Second

// TestMain fails the package if a goroutine outlives the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for end := time.Now().Add(longest); code == 0; time.Sleep(20 * time.Millisecond) {
		b := make([]byte, 1<<20)
		b = b[:runtime.Stack(b, true)]
		n := bytes.Count(b, []byte("skerry/internal/proxy.(*"))
		if n == 0 {
			break
		}
		if time.Now().After(end) {
			fmt.Fprintf(os.Stderr, "goroutines of the package outlive its tests:\n%s\n", b)
			code = 1
		}
	}
	os.Exit(code)
}

// lb is a proxy under test. Its listeners have the addresses that the configuration names in name only: all are on loopback.
type lb struct {
	*Proxy
	t     *testing.T
	mu    sync.Mutex
	addrs map[string]string // configured → real
}

func newLB(t *testing.T, cfg Config) *lb {
	t.Helper()
	b := &lb{t: t, addrs: map[string]string{}}
	b.Proxy = New(Options{Goroutines: strings.HasPrefix(t.Name(), "TestGoroutinePath/"), Listen: func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, "127.0.0.1:0")
		if err == nil {
			b.mu.Lock()
			b.addrs[addr] = l.Addr().String()
			b.mu.Unlock()
		}
		return l, err
	}})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b.Shutdown(ctx)
	})
	b.apply(cfg)
	return b
}

func (b *lb) apply(cfg Config) {
	b.t.Helper()
	if err := b.Apply(cfg); err != nil {
		b.t.Fatal(err)
	}
}

func (b *lb) addr(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addrs[name]
}

// front is the listener that most tests use.
const front = "10.0.0.1:80"

func forwardTo(groups ...string) []Action {
	a := Action{Type: Forward}
	for _, g := range groups {
		a.Forward = append(a.Forward, Weighted{GroupARN: g, Weight: 1})
	}
	return []Action{a}
}

// simple is a configuration of one HTTP listener and one group of these targets.
func simple(addrs ...string) Config {
	g := TargetGroup{Attributes: map[string]string{}}
	for i, a := range addrs {
		g.Targets = append(g.Targets, Target{ID: "i-" + strconv.Itoa(i), Addr: a, State: Healthy})
	}
	return Config{LBName: "app/t/1", Attributes: map[string]string{}, Listeners: []Listener{{Addr: front, Protocol: HTTP, DefaultActions: forwardTo("g")}},
		TargetGroups: map[string]TargetGroup{"g": g}}
}

func with(m map[string]string, kv ...string) map[string]string {
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

func addrOf(s *httptest.Server) string { return s.Listener.Addr().String() }

// server is an HTTP server that ends with the test.
func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// named is a server that answers its name.
func named(t *testing.T, name string) string {
	return addrOf(server(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }))
}

// script is a raw TCP server: fn gets each connection.
func script(t *testing.T, fn func(c net.Conn, r *bufio.Reader)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				c.SetDeadline(time.Now().Add(longest))
				fn(c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

// answers reads requests and answers each with the same bytes.
func answers(t *testing.T, s string) string {
	return script(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			if _, err := io.WriteString(c, s); err != nil {
				return
			}
		}
	})
}

// talk is a raw client connection.
type talk struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (b *lb) dial() *talk {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr(front))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(longest))
	return &talk{c, b.t, bufio.NewReader(c)}
}

func (c *talk) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *talk) get(path string, headers ...string) *http.Response {
	c.t.Helper()
	c.send(lines(append([]string{"GET " + path + " HTTP/1.1", "Host: a"}, headers...)...))
	return c.answer("GET")
}

// answer reads an answer with its whole body.
func (c *talk) answer(method string) *http.Response {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, &http.Request{Method: method})
	for err == nil && r.StatusCode/100 == 1 && r.StatusCode != 101 {
		r, err = http.ReadResponse(c.r, &http.Request{Method: method})
	}
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	if r.StatusCode == 101 {
		return r
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatalf("status %d, body: %v", r.StatusCode, err)
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return r
}

// ended tells whether the proxy has closed the connection.
func (c *talk) ended() bool {
	c.SetReadDeadline(time.Now().Add(longest))
	_, err := c.r.ReadByte()
	var ne net.Error
	return err != nil && !(errors.As(err, &ne) && ne.Timeout())
}

func text(r *http.Response) string {
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

// TestDifferential sends random requests to a server directly and through the proxy; both must be the same on both ends.
func TestDifferential(t *testing.T) {
	t.Parallel()
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		q := r.URL.Query()
		n, _ := strconv.Atoi(q.Get("n"))
		code, _ := strconv.Atoi(q.Get("code"))
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %d %x %s %s", r.Method, r.URL.RequestURI(), len(b), sha256.Sum256(b), r.Header.Get("X-Own"), r.Trailer.Get("X-Trail")))
		w.Header().Add("Set-Cookie", "a=b")
		w.Header().Add("Set-Cookie", "c=d")
		if q.Get("cl") != "" && code != 204 && code != 304 {
			w.Header().Set("Content-Length", strconv.Itoa(n))
		}
		if q.Get("trail") != "" {
			w.Header().Set("Trailer", "X-Sum")
		}
		w.WriteHeader(code)
		if code == 204 || code == 304 || r.Method == "HEAD" {
			return
		}
		for n > 0 {
			k := min(n, 1+rand.IntN(40000))
			b := make([]byte, k)
			for i := range b {
				b[i] = byte((n - i) >> 3)
			}
			w.Write(b)
			if q.Get("flush") != "" {
				w.(http.Flusher).Flush()
			}
			n -= k
		}
		if q.Get("trail") != "" {
			w.Header().Set("X-Sum", "1")
		}
	})
	b := newLB(t, simple(addrOf(s)))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	pick := func(ss ...string) string { return ss[rnd.IntN(len(ss))] }
	tr := &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	do := func(base, method, path string, body []byte, chunked bool) (string, error) {
		var rd io.Reader
		if body != nil {
			rd = bytes.NewReader(body)
			if chunked {
				rd = io.MultiReader(rd)
			}
		}
		req, err := http.NewRequest(method, "http://"+base+path, rd)
		if err != nil {
			return "", err
		}
		req.Header.Set("X-Own", "1")
		if chunked && body != nil {
			req.Trailer = http.Header{"X-Trail": {"end"}}
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d %s %v %d %d %x %v %s", resp.StatusCode, resp.Header.Get("X-Seen"), resp.Header["Set-Cookie"], resp.ContentLength, len(got),
			sha256.Sum256(got), resp.Trailer, resp.Header.Get("Content-Type")), nil
	}
	for i := range 400 {
		method := pick("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "PROPFIND")
		path := fmt.Sprintf("/%s?n=%d&code=%s&cl=%s&flush=%s&trail=%s", pick("", "a", "a%20b", "%2e%2e/x", "é"), []int{0, 1, 100, 5000, 40000, 300000}[rnd.IntN(6)],
			pick("200", "200", "200", "201", "204", "304", "404", "500"), pick("", "1"), pick("", "1"), pick("", "", "1"))
		var body []byte
		if method != "GET" && method != "HEAD" && rnd.IntN(2) == 0 {
			body = bytes.Repeat([]byte{byte(i)}, []int{1, 100, 5000, 200000}[rnd.IntN(4)])
		}
		chunked := rnd.IntN(2) == 0
		want, err := do(addrOf(s), method, path, body, chunked)
		if err != nil {
			t.Fatal(err)
		}
		got, err := do(b.addr(front), method, path, body, chunked)
		if err != nil || got != want {
			t.Fatalf("%d: %s %s (%d bytes, chunked %v)\ndirect  %s\nproxied %s %v", i, method, path, len(body), chunked, want, got, err)
		}
	}
}

func TestHeadersToTarget(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		h.Set("Host", r.Host)
		got <- h
	})
	ask := func(b *lb, headers ...string) http.Header {
		c := b.dial()
		if r := c.get("/", headers...); r.StatusCode != 200 {
			t.Fatalf("status %d", r.StatusCode)
		}
		return <-got
	}
	cfg := simple(addrOf(s))
	b := newLB(t, cfg)
	set := func(kv ...string) { c := cfg; c.Attributes = with(map[string]string{}, kv...); b.apply(c) }

	h := ask(b)
	for k, v := range map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "80", "Host": "a"} {
		if h.Get(k) != v {
			t.Errorf("%s is %q, want %q", k, h.Get(k), v)
		}
	}
	if id := h.Get("X-Amzn-Trace-Id"); !strings.HasPrefix(id, "Root=1-") || len(id) != len("Root=1-12345678-123456789012345678901234") {
		t.Errorf("trace id %q", id)
	}
	h = ask(b, "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2", "X-Forwarded-Proto: gopher", "X-Forwarded-Port: 1", "X-Amzn-Trace-Id: Root=1-2-3;Self=9;Lineage=x",
		"Connection: X-Nominated, X-Forwarded-For", "X-Nominated: 1", "TE: trailers", "Keep-Alive: 1", "Proxy-Connection: x", "Upgrade: h2c", "X_Odd: 1")
	if v := h.Get("X-Forwarded-For"); v != "192.0.2.1, 192.0.2.2, 127.0.0.1" {
		t.Errorf("X-Forwarded-For %q: the client's addresses must stay, also if Connection nominates them", v)
	}
	if h.Get("X-Forwarded-Proto") != "http" || len(h["X-Forwarded-Port"]) != 1 {
		t.Errorf("the client's X-Forwarded-Proto or -Port went through: %v", h)
	}
	if v := h.Get("X-Amzn-Trace-Id"); !strings.HasPrefix(v, "Self=1-") || !strings.HasSuffix(v, ";Root=1-2-3;Lineage=x") {
		t.Errorf("trace id %q", v)
	}
	for _, k := range []string{"X-Nominated", "Te", "Keep-Alive", "Proxy-Connection", "Upgrade", "Connection"} {
		if h.Get(k) != "" {
			t.Errorf("hop-by-hop header %s: %s was forwarded", k, h.Get(k))
		}
	}
	if h["X_odd"] == nil {
		t.Error("X_Odd was dropped without being asked to")
	}

	set("routing.http.drop_invalid_header_fields.enabled", "true", "routing.http.xff_client_port.enabled", "true")
	h = ask(b, "X_Odd: 1")
	if h["X_odd"] != nil {
		t.Error("X_Odd was forwarded")
	}
	if v := h.Get("X-Forwarded-For"); !strings.HasPrefix(v, "127.0.0.1:") {
		t.Errorf("X-Forwarded-For %q has no port", v)
	}
	set("routing.http.xff_header_processing.mode", "preserve")
	if h = ask(b, "X-Forwarded-For: 192.0.2.1"); h.Get("X-Forwarded-For") != "192.0.2.1" {
		t.Errorf("preserve: X-Forwarded-For %q", h.Get("X-Forwarded-For"))
	}
	if h = ask(b); h.Get("X-Forwarded-For") != "" {
		t.Errorf("preserve: X-Forwarded-For %q was added", h.Get("X-Forwarded-For"))
	}
	set("routing.http.xff_header_processing.mode", "remove")
	if h = ask(b, "X-Forwarded-For: 192.0.2.1"); h.Get("X-Forwarded-For") != "" {
		t.Errorf("remove: X-Forwarded-For %q", h.Get("X-Forwarded-For"))
	}

	// The port in Host: none for a listener on 80 or 443, always one for others, untouched if it is to be preserved.
	hosts := func(port int, attrs map[string]string, host string) string {
		c := cfg
		c.Attributes = attrs
		c.Listeners = []Listener{cfg.Listeners[0]}
		c.Listeners[0].Port = port
		b.apply(c)
		cn := b.dial()
		cn.send(lines("GET / HTTP/1.1", "Host: "+host))
		cn.answer("GET")
		return (<-got).Get("Host")
	}
	preserve := map[string]string{"routing.http.preserve_host_header.enabled": "true"}
	for _, c := range []struct {
		port       int
		attrs      map[string]string
		host, want string
	}{{80, nil, "a:81", "a"}, {443, nil, "a", "a"}, {8080, nil, "a", "a:8080"}, {8080, nil, "a:1", "a:1"}, {80, preserve, "a:81", "a:81"}, {8080, preserve, "a", "a"}} {
		if got := hosts(c.port, c.attrs, c.host); got != c.want {
			t.Errorf("port %d, %v: Host %s became %s, want %s", c.port, c.attrs, c.host, got, c.want)
		}
	}
}

func TestOwnAnswers(t *testing.T) {
	t.Parallel()
	start := time.Now()
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused.Close()
	cfg := simple()
	cfg.TargetGroups = map[string]TargetGroup{
		"empty":    {},
		"unused":   {Targets: []Target{{ID: "a", Addr: "127.0.0.1:1", State: Unused}}},
		"refusing": {Targets: []Target{{ID: "a", Addr: refused.Addr().String()}}},
		"closing":  {Targets: []Target{{ID: "a", Addr: script(t, func(c net.Conn, r *bufio.Reader) { http.ReadRequest(r) })}}},
		"garbage":  {Targets: []Target{{ID: "a", Addr: answers(t, "SSH-2.0-x\r\n\r\n")}}},
		"big":      {Targets: []Target{{ID: "a", Addr: answers(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", maxResponseHead)+"\r\n\r\n")}}},
		"switch":   {Targets: []Target{{ID: "a", Addr: answers(t, lines("HTTP/1.1 101 Go", "Connection: Upgrade", "Upgrade: websocket"))}}},
		"many":     {Targets: []Target{{ID: "a", Addr: answers(t, strings.Repeat(lines("HTTP/1.1 103 Hint"), 20))}}},
	}
	prio := 0
	for g := range cfg.TargetGroups {
		prio++
		cfg.Listeners[0].Rules = append(cfg.Listeners[0].Rules, Rule{Priority: prio, Conditions: []Condition{{Field: PathPattern, Values: []string{"/" + g}}}, Actions: forwardTo(g)})
	}
	cfg.Listeners[0].DefaultActions = []Action{{Type: FixedResponse, Fixed: &Fixed{StatusCode: "404", ContentType: "text/plain", Body: "nothing here"}}}
	b := newLB(t, cfg)
	for path, want := range map[string]int{"/empty": 503, "/unused": 503, "/refusing": 502, "/closing": 502, "/garbage": 502, "/big": 502, "/switch": 502, "/many": 502} {
		t.Run(path, func(t *testing.T) {
			c := b.dial()
			for range 2 { // the connection goes on
				r := c.get(path)
				if r.StatusCode != want {
					t.Fatalf("status %d, want %d", r.StatusCode, want)
				}
				if r.Header.Get("Server") != "awselb/2.0" || r.Header.Get("Content-Type") != "text/html" {
					t.Errorf("headers %v", r.Header)
				}
				if s := text(r); s != string(htmlPage(want)) || !strings.Contains(s, "<center><h1>"+strconv.Itoa(want)+" ") {
					t.Errorf("body %q", s)
				}
			}
		})
	}
	c := b.dial()
	if r := c.get("/else"); r.StatusCode != 404 || text(r) != "nothing here" || r.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("fixed response: %v", r)
	}
	c.send(lines("HEAD /else HTTP/1.1", "Host: a"))
	if r := c.answer("HEAD"); r.ContentLength != 12 {
		t.Errorf("HEAD of a fixed response: %v", r)
	}
	c.send(lines("POST /else HTTP/1.1", "Host: a", "Content-Length: 5") + "hello" + lines("GET /else HTTP/1.1", "Host: a"))
	c.answer("POST")
	if r := c.answer("GET"); r.StatusCode != 404 {
		t.Errorf("behind a body that nobody reads: %v", r)
	}
	for _, x := range []struct {
		head string
		want int
	}{
		{lines("TRACE / HTTP/1.1", "Host: a"), 405},
		{lines("GET /empty HTTP/1.1", "Host: a", "X-Forwarded-For: "+strings.Repeat("1,", 30)+"1"), 463},
		{lines("GET / HTTP/1.1", "Host: a", "X: "+strings.Repeat("x", maxLine+10)), 431},
		{lines("GET /"+strings.Repeat("x", maxLine+10)+" HTTP/1.1", "Host: a"), 414},
		{lines("GET / HTTP/1.1"), 400},
	} {
		c := b.dial()
		c.send(x.head)
		if r := c.answer("GET"); r.StatusCode != x.want {
			t.Errorf("%.40q: status %d, want %d", x.head, r.StatusCode, x.want)
		} else if x.want == 400 && (!r.Close || !c.ended()) {
			t.Error("a connection with a malformed request goes on")
		}
	}
	s := b.Stats()
	if s.Counters["HTTPCode_ELB_503_Count"] != 4 || s.Counters["HTTPCode_ELB_5XX_Count"] != 16 || s.Groups["refusing"].Counters["TargetConnectionErrorCount"] < 2 {
		t.Errorf("counters %v, refusing %v", s.Counters, s.Groups["refusing"])
	}
	b.Proxy.mu.Lock() // every such failure counts against its target once
	defer b.Proxy.mu.Unlock()
	for _, tg := range b.Proxy.live.targets {
		if n := tg.errors.Load(); tg.addr != "127.0.0.1:1" && n != 2 && time.Since(start) < judgeEvery {
			t.Errorf("%s failed %d times, want 2", tg.addr, n)
		}
	}
}

// TestResponses: what the client gets of odd but valid answers.
func TestResponses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, answer, method, version string
		status                        int
		body                          string
		check                         func(r *http.Response) bool
	}{
		{"until close, to 1.1", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", "GET", "1.1", 200, "hello", func(r *http.Response) bool { return len(r.TransferEncoding) == 1 && !r.Close }},
		{"until close, to 1.0", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", "GET", "1.0", 200, "hello", func(r *http.Response) bool { return r.Close }},
		{"from a 1.0 server", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", "1.1", 200, "hello", func(r *http.Response) bool { return r.ContentLength == 5 }},
		{"chunks, to 1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "GET", "1.0", 200, "hello", func(r *http.Response) bool { return len(r.TransferEncoding) == 0 && r.Close }},
		{"chunks, to HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", "1.1", 200, "", nil},
		{"length, to HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", "1.1", 200, "", func(r *http.Response) bool { return r.ContentLength == 5 }},
		{"204 with a length", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "GET", "1.1", 204, "", func(r *http.Response) bool { return r.Header.Get("Content-Length") == "" }},
		{"304 with a length", "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "GET", "1.1", 304, "", nil},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "GET", "1.1", 200, "", nil},
		{"unknown status", "HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n", "GET", "1.1", 799, "", nil},
		{"hop-by-hop headers", "HTTP/1.1 200 OK\r\nConnection: X-S\r\nX-S: 1\r\nKeep-Alive: 1\r\nX-P: 2\r\nContent-Length: 0\r\n\r\n", "GET", "1.1", 200, "",
			func(r *http.Response) bool {
				return r.Header.Get("X-S") == "" && r.Header.Get("Keep-Alive") == "" && r.Header.Get("X-P") == "2"
			}},
		{"the target's Server and Date stay", "HTTP/1.1 200 OK\r\nServer: mine\r\nDate: then\r\nContent-Length: 0\r\n\r\n", "GET", "1.1", 200, "",
			func(r *http.Response) bool {
				return r.Header.Get("Server") == "mine" && len(r.Header["Date"]) == 1 && r.Header.Get("Date") == "then"
			}},
		{"100 and 102 before it", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", "1.0", 200, "ok", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newLB(t, simple(script(t, func(cn net.Conn, r *bufio.Reader) {
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					io.WriteString(cn, c.answer)
					if strings.Contains(c.answer, "close") {
						return
					}
				}
			})))
			cn := b.dial()
			for range 2 {
				cn.send(lines(c.method+" / HTTP/"+c.version, "Host: a"))
				r := cn.answer(c.method)
				if s := text(r); r.StatusCode != c.status || s != c.body {
					t.Fatalf("status %d, body %q", r.StatusCode, s)
				}
				if c.check != nil && !c.check(r) {
					t.Errorf("%+v", r)
				}
				if c.version == "1.0" {
					if !cn.ended() {
						t.Error("a 1.0 connection goes on")
					}
					break
				}
			}
		})
	}
}
