//go:build !race

package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
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

// TestAllocationsTLS: the same over TLS. The client, whose TLS allocates, is a process of its own.
func TestAllocationsTLS(t *testing.T) {
	const requests = 2000
	if addr := os.Getenv("SKERRY_TEST_TLS_CLIENT"); addr != "" {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		r := bufio.NewReader(c)
		for n := 100; ; n = requests {
			for range n {
				exchangeOnce(t, c, r)
			}
			fmt.Println()
			if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
				return
			}
		}
	}
	l := rawTarget(t)
	defer l.Close()
	p, addr := benchProxy(t, l.Addr().String())
	defer p.Shutdown(t.Context())
	if err := p.Apply(secure(simple(l.Addr().String()), "ELBSecurityPolicy-TLS13-1-2-2021-06", certificate(t, "x", false, "a.test"))); err != nil {
		t.Fatal(err)
	}
	in, out := alone(t, "SKERRY_TEST_TLS_CLIENT="+addr)
	step := func() {
		t.Helper()
		if b := make([]byte, 1); func() error { _, err := out.Read(b); return err }() != nil || b[0] != '\n' {
			rest, _ := io.ReadAll(out)
			t.Fatalf("the client says %q", append(b, rest...))
		}
	}
	step()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	step()
	runtime.ReadMemStats(&after)
	if n := float64(after.Mallocs-before.Mallocs) / requests; n >= 0.5 {
		t.Errorf("%v allocations a request over TLS, target included; there should be none", n)
	}
	if n := p.counters[cTarget2xx].Load(); n != 100+requests {
		t.Errorf("%d requests, want %d", n, 100+requests)
	}
}

// alone runs this test in a process of its own, with env added, until its input ends.
func alone(t *testing.T, env ...string) (in io.WriteCloser, out io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return in, out
}
