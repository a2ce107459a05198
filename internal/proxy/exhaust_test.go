//go:build linux && (amd64 || arm64)

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNoPortLeft: the kernel has no port left for a connection to a target. Another target gets the request if there is one; who has
// no port is not the target's fault.
func TestNoPortLeft(t *testing.T) {
	t.Parallel()
	taken, free := named(t, "taken"), named(t, "free")
	// An address of the test's own, on which nobody else has ports; port is the only one that connections may have.
	from, port := [4]byte{127, 7, byte(os.Getpid() >> 8), byte(os.Getpid())}, 0
	socket := func(to netip.Addr) (int, error) {
		fd, err := newSocket(to)
		if err != nil {
			return -1, err
		}
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: from}); err != nil {
			t.Error(err)
		}
		return fd, nil
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from[:]}, Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	c, err := d.Dial("tcp", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	port = c.LocalAddr().(*net.TCPAddr).Port
	for _, h2 := range []bool{false, true} {
		b := &lb{t: t, addrs: map[string]string{}}
		b.Proxy = New(Options{Socket: socket, Listen: func(network, addr string) (net.Listener, error) {
			l, err := net.Listen(network, "127.0.0.1:0")
			if err == nil {
				b.addrs[addr] = l.Addr().String()
			}
			return l, err
		}})
		defer b.Shutdown(t.Context())
		get := func() (int, string) {
			t.Helper()
			if !h2 {
				r := b.dial().get("/", "Connection: close")
				return r.StatusCode, text(r)
			}
			r := b.h2raw()
			defer r.c.Close()
			r.request(1, true, "GET", "/")
			status := r.status(1)
			body := r.next().(interface{ Data() []byte }).Data()
			n := 0
			fmt.Sscan(status, &n)
			return n, string(body)
		}
		config := simple
		if h2 {
			config = func(addrs ...string) Config { return overTLS(t, addrs...) }
		}
		b.apply(config(taken))
		if code, page := get(); code != 502 {
			t.Errorf("HTTP/2 %v: %d %q without a port", h2, code, page)
		}
		b.mu.Lock()
		for _, x := range b.live.targets {
			if x.errors.Load() != 0 {
				t.Errorf("HTTP/2 %v: the target is blamed", h2)
			}
		}
		b.mu.Unlock()
		if n := b.Stats().Groups["g"].Counters["TargetConnectionErrorCount"]; n != 1 {
			t.Errorf("HTTP/2 %v: %v errors counted", h2, n)
		}
		if h2 { // its connection to the other one would have the port
			continue
		}
		b.apply(config(taken, free))
		if code, page := get(); code != 200 || page != "free" {
			t.Errorf("HTTP/2 %v: %d %q, with another target", h2, code, page)
		}
	}
}

// TestNoDescriptorLeft: clients that come when descriptors have run out are refused at once; connections that are there go on, and
// so does all when there are descriptors again. The proxy is a process of its own.
func TestNoDescriptorLeft(t *testing.T) {
	t.Parallel()
	if target := os.Getenv("SKERRY_TEST_FEW_DESCRIPTORS"); target != "" {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 128, Max: 128}); err != nil {
			t.Fatal(err)
		}
		p := New(Options{})
		cfg := simple(target, os.Getenv("SKERRY_TEST_OTHER"))
		// An address of its own: the port stays free until Apply.
		ln, err := net.Listen("tcp", fmt.Sprintf("127.7.%d.%d:0", byte(os.Getpid()>>8), byte(os.Getpid())))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listeners[0].Addr = ln.Addr().String()
		ln.Close()
		if err := p.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		fmt.Println("at", cfg.Listeners[0].Addr)
		io.Copy(io.Discard, os.Stdin)
		s := p.Stats()
		fmt.Println("rejected", s.Counters["RejectedConnectionCount"])
		p.Shutdown(t.Context())
		return
	}
	target, other := named(t, "ok"), named(t, "ok")
	in, out := alone(t, "SKERRY_TEST_FEW_DESCRIPTORS="+target, "SKERRY_TEST_OTHER="+other)
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(first), "at ")
	if !ok {
		rest, _ := io.ReadAll(lines)
		t.Fatalf("%q %v %s", first, err, rest)
	}
	ask := func(c net.Conn) error {
		c.SetDeadline(time.Now().Add(longest))
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			return err
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); r.StatusCode != 200 || string(b) != "ok" {
			return fmt.Errorf("%d %q %v", r.StatusCode, b, err)
		}
		return nil
	}
	var served []net.Conn
	refused := 0
	slowest := time.Duration(0)
	for range 150 {
		began := time.Now()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := ask(c); err == nil {
			served = append(served, c)
			continue
		}
		refused++
		slowest = max(slowest, time.Since(began))
	}
	if len(served) < 40 || refused < 40 || slowest > 10*time.Second {
		t.Errorf("%d served, %d refused, the slowest after %v", len(served), refused, slowest)
	}
	for i, c := range served {
		if err := ask(c); err != nil {
			t.Fatalf("connection %d of %d: %v", i, len(served), err)
		}
	}
	for _, c := range served {
		c.Close()
	}
	for end := time.Now().Add(longest); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		err = ask(c)
		c.Close()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("there are descriptors again, and a client gets %v", err)
		}
	}
	in.Close()
	rest, _ := io.ReadAll(lines)
	if !strings.Contains(string(rest), fmt.Sprint("rejected ", refused)) {
		t.Errorf("%d refused; the proxy says %q", refused, rest)
	}
}
