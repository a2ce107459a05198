package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestChaos: clients and targets that break off anywhere, while targets come and go. What comes back through a flow is what went into
// it, as far as it comes, and nothing is left behind.
func TestChaos(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"TCP", "TLS", "TLS to TLS"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a, b := newBackend(t, "a", nil), newBackend(t, "b", nil)
			a.l.Close()
			b.l.Close()
			targets := [2]string{wild(t, kind == "TLS to TLS"), wild(t, kind == "TLS to TLS")}
			config := func(states ...string) Config {
				cfg := simple(a, b)
				g := cfg.Groups["g"]
				for i := range g.Targets {
					g.Targets[i].Addr, g.Targets[i].State = targets[i], states[i]
				}
				if kind == "TLS to TLS" {
					g.Protocol = TLS
				}
				cfg.Groups["g"] = g
				return cfg
			}
			both, other := config(Healthy, Healthy), config(Healthy, Unhealthy)
			if kind != "TCP" {
				both = secure(t, both)
				other.Listeners = both.Listeners
			}
			lb := newLB(t, both, nil)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for k := range 8 {
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
							breakOff(t, lb, kind != "TCP", fmt.Sprintf("<%d-%d>", k, i))
						}
					}
				})
			}
			for start, i := time.Now(), 0; time.Since(start) < time.Second; i++ {
				if err := lb.Apply([]Config{other, both}[i%2]); err != nil {
					t.Error(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			close(stop)
			wg.Wait()
			waitFor(t, "all flows have ended", func() bool { return lb.active[kindTCP].Load()+lb.active[kindTLS].Load() == 0 })
			lb.mu.Lock()
			defer lb.mu.Unlock()
			for _, x := range lb.targets {
				if len(x.flows) > 0 {
					t.Errorf("%d flows are left at %s", len(x.flows), x.addr)
				}
			}
		})
	}
}

// wild is a target that sends back what comes, for as long as it likes.
func wild(t *testing.T, secured bool) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var cfg *tls.Config
	if secured {
		x := certificate(t, "target")
		pair, err := tls.X509KeyPair([]byte(x.CertPEM), []byte(x.KeyPEM))
		if err != nil {
			t.Fatal(err)
		}
		cfg = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			tcp, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer tcp.Close()
				tcp.SetDeadline(time.Now().Add(5 * time.Second))
				if rand.IntN(3) == 0 {
					tcp.(*net.TCPConn).SetLinger(0)
				}
				if rand.IntN(8) == 0 {
					return
				}
				c := tcp
				if cfg != nil {
					c = tls.Server(tcp, cfg)
				}
				if rand.IntN(4) == 0 {
					io.CopyN(c, c, rand.Int64N(50_000))
					return
				}
				io.Copy(c, c)
				if tc, ok := c.(interface{ CloseWrite() error }); ok {
					tc.CloseWrite()
				}
			})
		}
	})
	return l.Addr().String()
}

func breakOff(t *testing.T, lb *lb, secured bool, id string) {
	tcp, err := net.Dial("tcp", lb.addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return // its target was gone at once
	}
	if err != nil {
		t.Error(err)
		return
	}
	defer tcp.Close()
	tcp.SetDeadline(time.Now().Add(5 * time.Second))
	if rand.IntN(3) == 0 {
		tcp.(*net.TCPConn).SetLinger(0)
	}
	if rand.IntN(4) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, func() { tcp.Close() })
	}
	c := tcp
	if secured {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		tc := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true})
		if tc.HandshakeContext(ctx) != nil {
			return
		}
		c = tc
	}
	data := bytes.Repeat([]byte(id), rand.IntN(20_000))
	whole := rand.IntN(3) > 0
	go func() {
		for rest := data; len(rest) > 0; {
			k := min(len(rest), 1+rand.IntN(30_000))
			if _, err := c.Write(rest[:k]); err != nil {
				return
			}
			rest = rest[k:]
		}
		if whole {
			if tc, ok := c.(interface{ CloseWrite() error }); ok {
				tc.CloseWrite()
			}
		}
	}()
	if !whole {
		io.CopyN(io.Discard, c, rand.Int64N(int64(len(data)+1)))
		return
	}
	got, _ := io.ReadAll(c)
	if !bytes.HasPrefix(data, got) {
		t.Errorf("%s: %d bytes came back that were not sent", id, len(got))
	}
}
