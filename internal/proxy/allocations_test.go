//go:build !race

package proxy

import (
	"bufio"
	"net"
	"testing"
)

// TestAllocations: a request on a warm connection allocates nothing. (The race detector allocates, so it is not in builds with it.)
func TestAllocations(t *testing.T) {
	t.Run("plain", func(t *testing.T) { allocations(t, false) })
	t.Run("logged", func(t *testing.T) { allocations(t, true) })
}

func allocations(t *testing.T, logs bool) {
	l := rawTarget(t)
	defer l.Close()
	p, addr := benchProxy(t, l.Addr().String())
	defer p.Shutdown(t.Context())
	if logs {
		p.logs.o.Dir = t.TempDir()
		cfg := simple(l.Addr().String())
		cfg.Attributes = with(cfg.Attributes, "access_logs.s3.enabled", "true", "connection_logs.s3.enabled", "true")
		if err := p.Apply(cfg); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for range 100 {
		exchangeOnce(t, c, r)
	}
	if n := testing.AllocsPerRun(2000, func() { exchangeOnce(t, c, r) }); n >= 1 {
		t.Errorf("%v allocations a request, client and target included; the HTTP/1 path should have none", n)
	}
}
