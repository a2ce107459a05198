//go:build linux && (amd64 || arm64)

package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"skerry/internal/require"
)

// TestGoroutinePath runs the tests of behaviour on the path that serves what loops don't carry; without this one they are on loops.
func TestGoroutinePath(t *testing.T) {
	t.Parallel()
	for name, fn := range map[string]func(*testing.T){
		"Stickiness": TestStickiness, "AppCookie": TestAppCookie, "WeightedGroups": TestWeightedGroupsEndToEnd,
		"ApplyKeepsConnections": TestApplyKeepsConnections, "Deregistration": TestDeregistration, "Retry": TestRetry, "RetryUnsent": TestRetryUnsent,
		"ConnectFailover": TestConnectFailover, "MovesOn": TestMovesOn, "Timeouts": TestTimeouts, "ActivityKeepsAlive": TestActivityKeepsAlive, "ClientLeaves": TestClientLeaves,
		"WebSocket": TestWebSocket, "Bodies": TestBodies, "CutAnswers": TestCutAnswers, "Unsolicited": TestUnsolicited, "Pipelining": TestPipelining,
		"Many": TestMany, "Shutdown": TestShutdown, "Differential": TestDifferential, "HeadersToTarget": TestHeadersToTarget,
		"Chaos": TestChaos, "ChunksBehindHead": TestChunksBehindHead,
		"AnnouncedNoContent": TestAnnouncedNoContent, "EndsWithoutReset": TestEndsWithoutReset, "SecureWebSocket": TestSecureWebSocket,
	} {
		t.Run(name, fn)
	}
}

// TestLoopsCarry tells that requests don't leave the loop: no goroutine of a connection is there while one waits.
func TestLoopsCarry(t *testing.T) {
	release := make(chan struct{})
	b := newLB(t, simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) { <-release }))))
	c := b.dial()
	c.send(lines("GET / HTTP/1.1", "Host: a"))
	waitFor(t, "the request is on its way", func() bool { return b.counters[cRequest].Load() == 1 })
	carried := 0
	b.engine.each(func(l *loop) {
		for _, x := range l.conns {
			if x != nil && x.p == b.Proxy && x.kind == kindClient && x.state == waiting {
				carried++
			}
		}
	})
	close(release)
	if c.answer("GET"); carried != 1 {
		t.Errorf("%d requests on loops, want 1", carried)
	}
}

// TestIPv6: clients and targets may have IPv6 addresses, on loops as on goroutines.
func TestIPv6(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::1]:0")
	require.That(t, "ipv6", err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s at %s", r.RemoteAddr, r.Header.Get("X-Forwarded-For"), r.Host)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	for _, goroutines := range []bool{false, true} {
		cfg := simple(l.Addr().String())
		cfg.Listeners[0].Rules = []Rule{
			{Priority: 1, Conditions: []Condition{{Field: SourceIP, Values: []string{"2001:db8::/32", "0.0.0.0/0"}}}, Actions: []Action{{Type: FixedResponse, Fixed: &Fixed{StatusCode: "400"}}}},
			{Priority: 2, Conditions: []Condition{{Field: SourceIP, Values: []string{"::1/128"}}}, Actions: forwardTo("g")},
		}
		cfg.Listeners[0].DefaultActions = []Action{{Type: FixedResponse, Fixed: &Fixed{StatusCode: "404"}}}
		cfg.Attributes = map[string]string{"routing.http.xff_client_port.enabled": "true"}
		addr := ""
		p := New(Options{Goroutines: goroutines, Listen: func(network, _ string) (net.Listener, error) {
			l, err := net.Listen(network, "[::1]:0")
			if err == nil {
				addr = l.Addr().String()
			}
			return l, err
		}})
		if err := p.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		k := &talk{c, t, bufio.NewReader(c)}
		for range 2 {
			k.send(lines("GET / HTTP/1.1", "Host: [::1]"))
			r := k.answer("GET")
			body := text(r)
			if want := " for [" + "::1]:" + strconv.Itoa(c.LocalAddr().(*net.TCPAddr).Port) + " at [::1]"; r.StatusCode != 200 || !strings.HasPrefix(body, "[::1]:") || !strings.HasSuffix(body, want) {
				t.Errorf("goroutines %v: %d %q, want …%q", goroutines, r.StatusCode, body, want)
			}
		}
		k.send(lines("GET / HTTP/1.0")) // the host is then the load balancer's own address
		if r := k.answer("GET"); !strings.HasSuffix(text(r), " at [::1]") && r.StatusCode != 200 {
			t.Errorf("goroutines %v: without a host: %d", goroutines, r.StatusCode)
		}
		c.Close()
		p.Shutdown(t.Context())
	}
}

// TestTargetCloses: an end that comes with the last bytes, or right behind them, is never missed, however the answer is framed.
func TestTargetCloses(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("x", 70000) // more than is read at once
	answers := []string{
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsmall",
		"HTTP/1.1 200 OK\r\n\r\n" + body,
		"HTTP/1.0 200 OK\r\n\r\nold",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
	}
	var n sync.Map
	b := newLB(t, simple(script(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		n.Store(req.URL.Path, true)
		var i int
		fmt.Sscanf(req.URL.Path, "/%d", &i)
		a := answers[i%len(answers)]
		if i%2 == 1 { // the end after a moment, else with the bytes
			io.WriteString(c, a[:len(a)-1])
			time.Sleep(time.Millisecond)
			a = a[len(a)-1:]
		}
		io.WriteString(c, a)
	})))
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for i := k; i < 240; i += 8 {
				c, err := net.Dial("tcp", b.addr(front))
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(longest))
				fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
				r, err := http.ReadResponse(bufio.NewReader(c), nil)
				var got []byte
				if err == nil {
					got, err = io.ReadAll(r.Body)
				}
				c.Close()
				_, want, _ := strings.Cut(answers[i%len(answers)], "\r\n\r\n")
				if i%len(answers) == 5 {
					want = "hello"
				}
				if err != nil || r.StatusCode != 200 || string(got) != want {
					t.Errorf("answer %d: %d of %d bytes, %v", i%len(answers), len(got), len(want), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestSlowHead: the bytes of a head win no time; the whole of it must come within the limit.
func TestSlowHead(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "a"))
	cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
	c := newLB(t, cfg).dial()
	start := time.Now()
	go func() {
		for {
			if _, err := io.WriteString(c, "G"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	if r := c.answer("GET"); r.StatusCode != 408 {
		t.Errorf("status %d", r.StatusCode)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("after %v; the limit is 1 s", d)
	}
}

// TestOneEngine: Proxies share loops; the end of one is not the others'.
func TestOneEngine(t *testing.T) {
	t.Parallel()
	e, err := NewEngine(2)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	cfg := simple(named(t, "a"))
	start := func() (*Proxy, string) {
		var addr string
		p := New(Options{Engine: e, ListenSockets: func(a string, n int) ([]int, error) {
			fds, err := ListenSockets("127.0.0.1:0", n)
			if err == nil {
				addr = localAddr(int32(fds[0])).String()
			}
			return fds, err
		}})
		if err := p.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		return p, addr
	}
	get := func(addr string) error {
		tr := &http.Transport{DisableKeepAlives: true}
		for range 20 { // both loops
			r, err := (&http.Client{Transport: tr}).Get("http://" + addr)
			if err != nil {
				return err
			}
			if s := text(r); s != "a" {
				return fmt.Errorf("%d %q", r.StatusCode, s)
			}
			r.Body.Close()
		}
		return nil
	}
	one, addr1 := start()
	two, addr2 := start()
	if err := errors.Join(get(addr1), get(addr2)); err != nil {
		t.Error(err)
	}
	one.Shutdown(context.Background())
	if get(addr1) == nil {
		t.Error("a proxy serves after its end")
	}
	if err := get(addr2); err != nil {
		t.Errorf("after the other one's end: %v", err)
	}
	if _, err := ListenSockets(addr2, 2); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("an address in use: %v", err)
	}
	two.Shutdown(context.Background())
	e.each(func(l *loop) {
		for _, c := range l.conns {
			if c != nil && c.kind != kindWake {
				t.Errorf("loop %d still has a descriptor of kind %d", l.id, c.kind)
			}
		}
		if l.armed != 0 {
			t.Errorf("loop %d has %d time limits", l.id, l.armed)
		}
	})
}

// TestUnhealthyTargetsConnections: what is idle to a target that fails its checks is closed.
func TestUnhealthyTargetsConnections(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	cfg := simple(script(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				close(closed)
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}), named(t, "b"))
	b := newLB(t, cfg)
	c := b.dial()
	c.get("/")
	c.get("/")
	cfg.TargetGroups["g"].Targets[0].State = Unhealthy
	b.apply(cfg)
	select {
	case <-closed:
	case <-time.After(longest):
		t.Error("the connection to the unhealthy target stays")
	}
}

// TestIdleMemory: an idle connection holds half a kilobyte at most, after a request too.
func TestIdleMemory(t *testing.T) {
	const n = 400
	if s := unsafe.Sizeof(lconn{}); s > 256 {
		t.Errorf("a connection's state is %d bytes", s)
	}
	cfg := simple(named(t, "a"))
	b := newLB(t, cfg)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	held := func() (bufs int) {
		b.engine.each(func(l *loop) {
			for _, c := range l.conns {
				if c != nil && c.kind == kindClient && (c.in != nil || c.out != nil || c.x != nil) {
					bufs++
				}
			}
		})
		return bufs
	}
	ask := []byte(lines("GET / HTTP/1.1", "Host: a"))
	cs := make([]*net.TCPConn, n)
	buf := make([]byte, 4096)
	raddr, err := net.ResolveTCPAddr("tcp", b.addr(front))
	if err != nil {
		t.Fatal(err)
	}
	for i := range cs {
		if cs[i], err = net.DialTCP("tcp", nil, raddr); err != nil {
			t.Fatal(err)
		}
		defer cs[i].Close()
	}
	before := heap()
	for _, c := range cs {
		c.Write(ask)
		if k, err := c.Read(buf); err != nil || !bytes.HasPrefix(buf[:k], []byte("HTTP/1.1 200")) {
			t.Fatalf("%q %v", buf[:k], err)
		}
	}
	if k := held(); k != 0 {
		t.Errorf("%d idle connections hold a buffer or an exchange", k)
	}
	if grown := int64(heap()-before) / n; grown > 512 {
		t.Errorf("%d bytes a connection after its first request", grown)
	}
}
