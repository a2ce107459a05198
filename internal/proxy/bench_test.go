package proxy

import (
	"bufio"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

var benchHead = []byte(lines("GET /api/v1/things?id=42 HTTP/1.1", "Host: www.company.test", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Accept: text/html,application/xhtml+xml",
	"Accept-Language: en", "Accept-Encoding: gzip, deflate, br", "Cookie: a=b; c=d", "Connection: keep-alive"))

// BenchmarkParse is the request's way through the parts without I/O.
func BenchmarkParse(b *testing.B) {
	lt, peer := testListener(), testPeer()
	var r request
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		var sc headScanner
		n, err := sc.scan(benchHead, maxRequestHead)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.parse(benchHead[:n]); err != nil {
			b.Fatal(err)
		}
		out = appendRequest(out[:0], &r, lt, peer, time.Unix(1e9, 0))
	}
}

// BenchmarkRules is a decision behind 20 rules that don't match.
func BenchmarkRules(b *testing.B) {
	l := Listener{Addr: front, Protocol: HTTP, DefaultActions: fixed(200)}
	for i := range 20 {
		l.Rules = append(l.Rules, Rule{Priority: i + 1, Actions: fixed(200), Conditions: []Condition{{Field: PathPattern, Values: []string{"/other/" + strconv.Itoa(i) + "/*"}},
			{Field: HostHeader, Values: []string{"*.company.test"}}}})
	}
	t, _, err := compile(Config{Listeners: []Listener{l}}, live{}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	var r request
	if err := r.parse(benchHead); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		t.listeners[front].decide(&r, netip.Addr{})
	}
}

// rawTarget answers 128 bytes to everything, with as little work of its own as can be.
func rawTarget(tb testing.TB) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + string(make([]byte, 128)))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				for {
					if n, err := c.Read(b); err != nil || n == 0 {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l
}

func benchProxy(tb testing.TB, target string) (*Proxy, string) {
	var addr string
	p := New(Options{Listen: func(n, a string) (net.Listener, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			addr = l.Addr().String()
		}
		return l, err
	}})
	if err := p.Apply(simple(target)); err != nil {
		tb.Fatal(err)
	}
	return p, addr
}

// exchangeOnce sends the benchmark's request and reads the answer.
func exchangeOnce(tb testing.TB, c net.Conn, r *bufio.Reader) {
	if _, err := c.Write(benchHead); err != nil {
		tb.Fatal(err)
	}
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if len(line) == 2 {
			break
		}
		if len(line) > 16 && string(line[:16]) == "Content-Length: " {
			length, _ = strconv.Atoi(string(line[16 : len(line)-2]))
		}
	}
	if _, err := r.Discard(length); err != nil || length == 0 {
		tb.Fatal(err)
	}
}

// BenchmarkRequest is a whole request over loopback, client and target included.
func BenchmarkRequest(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchRequest(b, false) })
	b.Run("logged", func(b *testing.B) { benchRequest(b, true) })
}

func benchRequest(b *testing.B, logs bool) {
	l := rawTarget(b)
	defer l.Close()
	p, addr := benchProxy(b, l.Addr().String())
	if logs {
		p.logs.o.Dir = b.TempDir()
		cfg := simple(l.Addr().String())
		cfg.Attributes = with(cfg.Attributes, "access_logs.s3.enabled", "true")
		if err := p.Apply(cfg); err != nil {
			b.Fatal(err)
		}
	}
	defer p.Shutdown(b.Context())
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		exchangeOnce(b, c, r)
	}
}

// BenchmarkNetHTTPParse is net/http's parser on the same head, for comparison.
func BenchmarkNetHTTPParse(b *testing.B) {
	rd := &repeat{}
	r := bufio.NewReader(rd)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := http.ReadRequest(r); err != nil {
			b.Fatal(err)
		}
	}
}

type repeat struct{ at int }

func (r *repeat) Read(b []byte) (int, error) {
	n := copy(b, benchHead[r.at:])
	r.at = (r.at + n) % len(benchHead)
	return n, nil
}
