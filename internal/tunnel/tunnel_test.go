package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"skerry/internal/tlsfront"
)

func certificate(t testing.TB, arn string) tlsfront.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(0x1234), DNSNames: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return tlsfront.Certificate{ARN: arn, CertPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}))}
}

// backend greets with its name and then echoes, until its client has finished.
type backend struct {
	l     net.Listener
	name  string
	mu    sync.Mutex
	conns []net.Conn
	first chan []byte // what came first, of each connection
}

func newBackend(t testing.TB, name string, cfg *tls.Config) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{l: l, name: name, first: make(chan []byte, 64)}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		b.mu.Lock()
		for _, c := range b.conns {
			c.Close()
		}
		b.mu.Unlock()
		wg.Wait()
	})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, c)
			b.mu.Unlock()
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				side := c
				if cfg != nil {
					side = tls.Server(c, cfg)
					defer side.Close()
				}
				io.WriteString(side, name+"\n")
				buf := make([]byte, 32<<10)
				for i := 0; ; i++ {
					n, err := side.Read(buf)
					if i == 0 {
						b.first <- bytes.Clone(buf[:n])
					}
					if n > 0 {
						side.Write(buf[:n])
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return b
}

func (b *backend) addr() string { return b.l.Addr().String() }

// lb is a tunnel whose listener is at addr.
type lb struct {
	*Tunnel
	t    testing.TB
	addr string
}

func newLB(t testing.TB, cfg Config, change func(*Options)) *lb {
	t.Helper()
	b := &lb{t: t}
	o := Options{Listen: func(network, _ string) (net.Listener, error) {
		l, err := net.Listen(network, "127.0.0.1:0")
		if err == nil {
			b.addr = l.Addr().String()
		}
		return l, err
	}}
	if change != nil {
		change(&o)
	}
	b.Tunnel = New(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b.Shutdown(ctx)
	})
	if err := b.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *lb) dial() net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// refused is how a connection ends that nobody carries.
func (b *lb) refused() error {
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

// who returns the name of the backend that a connection has reached.
func who(t testing.TB, c net.Conn) string {
	t.Helper()
	var name []byte
	for one := make([]byte, 1); ; name = append(name, one[0]) {
		if _, err := c.Read(one); err != nil {
			t.Fatalf("%q %v", name, err)
		}
		if one[0] == '\n' {
			return string(name)
		}
	}
}

func simple(bs ...*backend) Config {
	g := Group{Protocol: TCP, Attributes: map[string]string{}}
	for _, b := range bs {
		g.Targets = append(g.Targets, Target{ID: b.name, Addr: b.addr()})
	}
	return Config{LBName: "net/x/1", TicketSecret: []byte("k"), Groups: map[string]Group{"g": g},
		Listeners: []Listener{{ARN: "arn:l/net/x/1/abc", Addr: "10.0.0.1:443", Protocol: TCP, Forward: []Weighted{{"g", 1}}, Attributes: map[string]string{}}}}
}

func secure(t testing.TB, cfg Config) Config {
	l := &cfg.Listeners[0]
	l.Protocol, l.SSLPolicy, l.Certificates = TLS, "ELBSecurityPolicy-TLS13-1-2-2021-06", []tlsfront.Certificate{certificate(t, "arn:cert")}
	return cfg
}

// echoed sends random bytes, closes that side and wants them back.
func echoed(t testing.TB, c interface {
	net.Conn
	CloseWrite() error
}, size int) {
	t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes came back: %v", len(got), size, err)
	}
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never happened: %s", what)
		}
	}
}

func (b *lb) counter(name string, sum map[string]float64) float64 {
	for k, v := range b.Stats().Counters {
		sum[k] += v
	}
	return sum[name]
}

func TestPlain(t *testing.T) {
	t.Parallel()
	b := newLB(t, simple(newBackend(t, "one", nil)), nil)
	c := b.dial()
	if who(t, c) != "one" {
		t.Fatal("another backend")
	}
	echoed(t, c.(*net.TCPConn), 3<<20)
	sum := map[string]float64{}
	waitFor(t, "bytes and flows are counted", func() bool { return b.counter("ProcessedBytes_TCP", sum) >= 6<<20 })
	if sum["NewFlowCount"] != 1 || sum["NewFlowCount_TCP"] != 1 || sum["ProcessedBytes"] < 6<<20+4 || sum["ProcessedBytes"] > 6<<20+6 || sum["TCP_ELB_Reset_Count"]+sum["TCP_Client_Reset_Count"]+sum["TCP_Target_Reset_Count"] != 0 {
		t.Errorf("%v", sum)
	}
	waitFor(t, "the flow ends", func() bool { return b.Stats().Gauges["ActiveFlowCount"] == 0 })
}

func TestTLS(t *testing.T) {
	t.Parallel()
	inner := certificate(t, "x")
	pair, err := tls.X509KeyPair([]byte(inner.CertPEM), []byte(inner.KeyPEM))
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{TCP, TLS} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(target+" "+tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				var own *tls.Config
				if target == TLS {
					own = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
				}
				cfg := secure(t, simple(newBackend(t, "one", own)))
				cfg.Listeners[0].ALPN = "HTTP2Preferred"
				g := cfg.Groups["g"]
				g.Protocol = target
				cfg.Groups["g"] = g
				entries := make(chan *Entry, 4)
				b := newLB(t, cfg, func(o *Options) { o.Access = func(e *Entry) { entries <- e } })
				raw := b.dial()
				c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", MaxVersion: version, NextProtos: []string{"h2", "x y"}})
				if who(t, c) != "one" {
					t.Fatal("another backend")
				}
				if p := c.ConnectionState().NegotiatedProtocol; p != "h2" {
					t.Errorf("agreed on %q", p)
				}
				echoed(t, c, 1<<20)
				e := <-entries
				line := strings.Fields(string(e.Append(nil)))
				if len(line) != 22 {
					t.Fatalf("%d fields: %q", len(line), line)
				}
				for i, want := range map[int]string{0: "tls", 1: "2.0", 3: "net/x/1", 4: "abc", 5: raw.LocalAddr().String(), 9: fmt.Sprint(1 << 20), 10: fmt.Sprint(1<<20 + 4), 11: "-",
					12: "arn:cert", 13: "1234", 15: map[uint16]string{tls.VersionTLS12: "tlsv12", tls.VersionTLS13: "tlsv13"}[version], 17: "a.test", 18: "h2",
					19: map[string]string{TCP: "-", TLS: "h2"}[target], 20: `"h2","x_y"`} {
					if line[i] != want {
						t.Errorf("field %d is %q, want %q", i, line[i], want)
					}
				}
				sum := map[string]float64{}
				if b.counter("ProcessedBytes_TLS", sum) != 2<<20+4 || sum["NewFlowCount_TLS"] != 1 {
					t.Errorf("%v", sum)
				}
			})
		}
	}
}

func TestTLSErrors(t *testing.T) {
	t.Parallel()
	cfg := secure(t, simple(newBackend(t, "one", nil)))
	entries := make(chan *Entry, 4)
	b := newLB(t, cfg, func(o *Options) { o.Access = func(e *Entry) { entries <- e } })
	io.WriteString(b.dial(), "GET / HTTP/1.0\r\n\r\n")
	if e := <-entries; e.Facts.Version != 0 || len(strings.Fields(string(e.Append(nil)))) != 22 {
		t.Errorf("%+v", e)
	}
	c := tls.Client(b.dial(), &tls.Config{ServerName: "a.test"}) // it doesn't trust us, and says so
	if c.Handshake() == nil {
		t.Error("an unknown certificate is trusted")
	}
	c.Close()
	if e := <-entries; !e.Facts.Alerted || e.Facts.Alert == 0 || e.Facts.ServerName != "a.test" {
		t.Errorf("%+v", e.Facts)
	}
	g := cfg.Groups["g"]
	g.Protocol = TLS // the backend has none
	cfg.Groups["g"] = g
	if err := b.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	c = tls.Client(b.dial(), &tls.Config{InsecureSkipVerify: true})
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a target without TLS answers")
	}
	sum := map[string]float64{}
	if b.counter("ClientTLSNegotiationErrorCount", sum) != 2 || sum["TargetTLSNegotiationErrorCount"] != 1 {
		t.Errorf("%v", sum)
	}
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{0, tls.VersionTLS13} {
		one := newBackend(t, "one", nil)
		cfg := simple(one)
		cfg.Groups["g"].Attributes["proxy_protocol_v2.enabled"] = "true"
		if version != 0 {
			cfg = secure(t, cfg)
		}
		b := newLB(t, cfg, nil)
		raw := b.dial()
		var c net.Conn = raw
		if version != 0 {
			c = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			c.(*tls.Conn).Handshake()
		}
		head := <-one.first
		from, to, rest, err := parseProxy(head)
		if err != nil || from.String() != raw.LocalAddr().String() || to.String() != b.addr || len(rest) != 0 {
			t.Errorf("%v %v %q %v", from, to, rest, err)
		}
		who(t, c) // the header came back with what else the backend echoes
	}
}

func TestResets(t *testing.T) {
	t.Parallel()
	one := newBackend(t, "one", nil)
	b := newLB(t, simple(one), nil)
	sum := map[string]float64{}
	c := b.dial()
	who(t, c)
	reset(c)
	waitFor(t, "the client's reset is counted, and the target sees it", func() bool { return b.counter("TCP_Client_Reset_Count", sum) == 1 })
	c = b.dial()
	who(t, c)
	one.mu.Lock()
	reset(one.conns[1])
	one.mu.Unlock()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
	waitFor(t, "the target's reset is counted", func() bool { return b.counter("TCP_Target_Reset_Count", sum) == 1 })
	one.l.Close()
	if err := b.refused(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("no target listens, and the client sees %v", err)
	}
	waitFor(t, "that reset is our own", func() bool { return b.counter("TCP_ELB_Reset_Count", sum) == 1 })
	cfg := simple()
	b.Apply(cfg)
	if err := b.refused(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("there is no target, and the client sees %v", err)
	}
	waitFor(t, "a flow without target is rejected", func() bool { return b.counter("RejectedFlowCount_TCP", sum) == 1 })
}

// A node without a free port towards its target says so in a metric of its own.
func TestNoPortLeft(t *testing.T) {
	t.Parallel()
	b := newLB(t, simple(newBackend(t, "one", nil)), func(o *Options) {
		o.Dial = func(context.Context, netip.AddrPort, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}
		}
	})
	if err := b.refused(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
	sum := map[string]float64{}
	waitFor(t, "the error is counted", func() bool { return b.counter("PortAllocationErrorCount", sum) == 1 })
}

// TestTargetsLeave: what happens to flows when their target leaves or falls ill is the group's to say.
func TestTargetsLeave(t *testing.T) {
	t.Parallel()
	open := func(c net.Conn) bool {
		c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(c, "x"); err != nil {
			return false
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err == nil
	}
	for _, c := range []struct {
		name  string
		attrs map[string]string
		state string // empty: gone
		want  bool
	}{
		{"gone", nil, "", true},
		{"gone, with termination", map[string]string{"deregistration_delay.connection_termination.enabled": "true"}, "", false},
		{"draining", map[string]string{"deregistration_delay.connection_termination.enabled": "true"}, Draining, true},
		{"ill", nil, Unhealthy, false},
		{"ill, without termination", map[string]string{"target_health_state.unhealthy.connection_termination.enabled": "false"}, Unhealthy, true},
		{"ill, for the interval", map[string]string{"target_health_state.unhealthy.connection_termination.enabled": "false", "target_health_state.unhealthy.draining_interval_seconds": "1"}, Unhealthy, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			one, two := newBackend(t, "one", nil), newBackend(t, "two", nil)
			cfg := simple(one)
			g := cfg.Groups["g"]
			if c.attrs != nil {
				g.Attributes = c.attrs
			}
			cfg.Groups["g"] = g
			b := newLB(t, cfg, nil)
			conn := b.dial()
			who(t, conn)
			if !open(conn) {
				t.Fatal("no echo")
			}
			g.Targets = []Target{{ID: "two", Addr: two.addr()}}
			if c.state != "" {
				g.Targets = append(g.Targets, Target{ID: "one", Addr: one.addr(), State: c.state})
			}
			cfg.Groups = map[string]Group{"g": g}
			if err := b.Apply(cfg); err != nil {
				t.Fatal(err)
			}
			if c.attrs["target_health_state.unhealthy.draining_interval_seconds"] != "" {
				if !open(conn) {
					t.Error("cut at once")
				}
				waitFor(t, "the interval ends", func() bool { return !open(conn) })
			} else if got := open(conn); got != c.want {
				t.Errorf("the flow is open: %v", got)
			}
			if got := who(t, b.dial()); got != "two" {
				t.Errorf("a new flow went to %s", got)
			}
		})
	}
}

// TestFailOpen: without a healthy target all get flows, and keep them.
func TestFailOpen(t *testing.T) {
	t.Parallel()
	cfg := simple(newBackend(t, "one", nil))
	cfg.Groups["g"].Targets[0].State = Unhealthy
	b := newLB(t, cfg, nil)
	if who(t, b.dial()) != "one" || b.Stats().Counters["UnhealthyRoutingFlowCount"] != 1 {
		t.Error("not failed open")
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{TCP, TLS} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cfg := simple(newBackend(t, "one", nil))
			if kind == TLS {
				cfg = secure(t, cfg)
			}
			b := newLB(t, cfg, func(o *Options) { o.Scale = 350 / 2.5 })
			raw := b.dial()
			var c net.Conn = raw
			if kind == TLS {
				c = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			}
			who(t, c)
			for range 3 { // it is not idle
				time.Sleep(900 * time.Millisecond)
				io.WriteString(c, "x")
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Fatalf("cut while not idle: %v", err)
				}
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("after idling: %v", err)
			}
			if b.Stats().Counters["TCP_ELB_Reset_Count"] != 1 {
				t.Error("not counted")
			}
		})
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	b := newLB(t, simple(newBackend(t, "one", nil)), func(o *Options) { o.MaxFlows = 1 })
	c := b.dial()
	who(t, c)
	if err := b.refused(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the second of one flow: %v", err)
	}
	c.Close()
	waitFor(t, "there is room again", func() bool { return b.Stats().Gauges["ActiveFlowCount"] == 0 })
	who(t, b.dial())
}

func TestChoice(t *testing.T) {
	t.Parallel()
	g := &group{}
	for i := range 10 {
		g.targets = append(g.targets, &target{key: fmt.Sprint("g\x00i-", i)})
	}
	local := netip.MustParseAddrPort("10.0.0.1:443")
	got := map[*target]int{}
	for i := range 10000 {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(1024+i))
		x := g.pick(a, local)
		got[x]++
		if g.pick(a, local) != x {
			t.Fatal("one flow, two targets")
		}
	}
	for x, n := range got {
		if n < 800 || n > 1200 {
			t.Errorf("%s got %d of 10000 flows", x.key, n)
		}
	}
	g.sticky = true
	where := map[netip.Addr]*target{}
	for i := range 256 {
		ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		where[ip] = g.pick(netip.AddrPortFrom(ip, 1), local)
		if g.pick(netip.AddrPortFrom(ip, 2), local) != where[ip] {
			t.Fatal("a client's flows go apart")
		}
	}
	lost := g.targets[3]
	g.targets = append(g.targets[:3:3], g.targets[4:]...)
	for ip, x := range where {
		if now := g.pick(netip.AddrPortFrom(ip, 3), local); x != lost && now != x {
			t.Errorf("%s moved although its target stayed", ip)
		}
	}
	g.targets = nil
	if g.pick(local, local) != nil {
		t.Error("a target out of none")
	}
}

// TestGroupsByWeight: new flows go to the groups by their weights, and a sticky client stays with one.
func TestGroupsByWeight(t *testing.T) {
	t.Parallel()
	cfg := func(sticky string, weights ...int) *table {
		c := Config{LBName: "net/x/1", Groups: map[string]Group{"empty": {Protocol: TCP}}}
		l := Listener{ARN: "l", Addr: "10.0.0.1:80", Protocol: TCP, Forward: []Weighted{{"empty", 1000}}}
		for i, w := range weights {
			g := string(rune('a' + i))
			c.Groups[g] = Group{Protocol: TCP, Attributes: map[string]string{"stickiness.enabled": sticky}, Targets: []Target{{ID: g, Addr: "10.0.1.1:80"}}}
			l.Forward = append(l.Forward, Weighted{g, w})
		}
		c.Listeners = []Listener{l}
		tables, _, err := compile(c, nil, func(key, addr string) *target { return &target{} })
		if err != nil {
			t.Fatal(err)
		}
		return tables[l.Addr]
	}
	local := netip.MustParseAddrPort("10.0.0.1:80")
	chosen := func(tb *table, client func(i int) netip.AddrPort) map[string]int {
		n := map[string]int{}
		for i := range 4000 {
			g := tb.choose(client(i), local)
			if g == nil {
				t.Fatal("no group")
			}
			n[g.key]++
		}
		return n
	}
	ports := func(i int) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("10.0.2.1"), uint16(1024+i)) }
	hosts := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), uint16(1024+i))
	}
	if n := chosen(cfg("false", 3, 1, 0), ports); n["a"] < 2850 || n["a"] > 3150 || n["c"] != 0 {
		t.Errorf("of 4000 flows, by weights of 3, 1 and 0: %v", n)
	}
	if n := chosen(cfg("true", 3, 1), ports); len(n) != 1 {
		t.Errorf("a sticky client went to %v", n)
	}
	if n := chosen(cfg("true", 3, 1), hosts); n["a"] < 2850 || n["a"] > 3150 {
		t.Errorf("of 4000 sticky clients: %v", n)
	}
	if g := cfg("false", 0).choose(local, local); g != nil {
		t.Error("a group without a share got a flow")
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	one := newBackend(t, "one", nil)
	b := newLB(t, simple(one), nil)
	for name, change := range map[string]func(*Config){
		"protocol":      func(c *Config) { c.Listeners[0].Protocol = "UDP" },
		"address":       func(c *Config) { c.Listeners[0].Addr = "x" },
		"group":         func(c *Config) { c.Listeners[0].Forward[0].Group = "y" },
		"certificate":   func(c *Config) { c.Listeners[0].Protocol = TLS },
		"ALPN":          func(c *Config) { secure(t, *c); c.Listeners[0].ALPN = "HTTP9" },
		"idle":          func(c *Config) { c.Listeners[0].Attributes["tcp.idle_timeout.seconds"] = "5" },
		"target":        func(c *Config) { c.Groups["g"].Targets[0].Addr = "x" },
		"twice":         func(c *Config) { c.Listeners = append(c.Listeners, c.Listeners[0]) },
		"its protocol":  func(c *Config) { c.Groups["g"] = Group{Protocol: "HTTP"} },
		"target, twice": func(c *Config) { g := c.Groups["g"]; g.Targets = append(g.Targets, g.Targets[0]); c.Groups["g"] = g },
	} {
		cfg := simple(one)
		change(&cfg)
		if b.Apply(cfg) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	who(t, b.dial()) // and all is as before
}

// TestShutdown lets flows end, and cuts those that don't.
func TestShutdown(t *testing.T) {
	t.Parallel()
	b := newLB(t, simple(newBackend(t, "one", nil)), nil)
	ends, stays := b.dial(), b.dial()
	who(t, ends)
	who(t, stays)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.Shutdown(ctx) }()
	echoed(t, ends.(*net.TCPConn), 1000)
	if err := <-done; err == nil {
		t.Error("nothing was cut")
	}
	if _, err := bufio.NewReader(stays).ReadByte(); err == nil || err == io.EOF {
		t.Errorf("what was cut ends with %v", err)
	}
	if b.Apply(Config{}) == nil {
		t.Error("it goes on after its end")
	}
}
