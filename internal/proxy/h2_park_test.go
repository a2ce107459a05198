//go:build linux && (amd64 || arm64)

package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// parked is how many HTTP/2 connections wait without a goroutine.
func (b *lb) parked() (n int) {
	b.h2.each(func(c *h2conn) {
		if c.parked.Load() {
			n++
		}
	})
	return n
}

// TestHTTP2Parked: an idle connection gives up its goroutine, and goes on as if nothing had been: with requests, pings, its end, ours.
func TestHTTP2Parked(t *testing.T) {
	t.Parallel()
	const n = 20
	cfg := overTLS(t, named(t, "ok"))
	b := newLB(t, cfg)
	ask := func(r *h2raw, id uint32) {
		t.Helper()
		r.request(id, true, "GET", "/")
		if s := r.status(id); s != "200" {
			t.Fatal(s)
		}
		if f, ok := r.next().(*http2.DataFrame); !ok || string(f.Data()) != "ok" || !f.StreamEnded() {
			t.Fatal(f)
		}
	}
	var rs []*h2raw
	for range n {
		r := b.h2raw()
		ask(r, 1)
		rs = append(rs, r)
	}
	all := func(want int) {
		t.Helper()
		waitFor(t, "idle connections are parked", func() bool { return b.parked() == want })
	}
	all(n)
	for round := range uint32(3) { // the header table is the same as before
		for _, r := range rs {
			ask(r, 3+4*round)
			ask(r, 5+4*round)
		}
		all(n)
	}
	for _, r := range rs {
		r.WritePing(false, [8]byte{1, 2})
		for {
			f, err := r.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if p, ok := f.(*http2.PingFrame); ok && p.IsAck() && p.Data == [8]byte{1, 2} {
				break
			}
		}
	}
	all(n)
	for _, r := range rs[:n/2] { // they leave
		r.c.Close()
	}
	waitFor(t, "those that left are forgotten", func() bool { return b.active.Load() == n/2 })
	all(n / 2)
	cfg.Listeners = nil
	b.apply(cfg)
	for _, r := range rs[n/2:] {
		if code, last := r.goneWith(); code != http2.ErrCodeNo || last != 13 {
			t.Errorf("ended with %v after stream %d", code, last)
		}
	}
	waitFor(t, "all have ended", func() bool { return b.active.Load() == 0 })
}

// TestHTTP2ParkedTime: the idle timeout ends a parked connection.
func TestHTTP2ParkedTime(t *testing.T) {
	t.Parallel()
	cfg := overTLS(t, named(t, "ok"))
	cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
	b := newLB(t, cfg)
	began := time.Now()
	if code, _ := b.h2raw().goneWith(); code != http2.ErrCodeNo || time.Since(began) < time.Second {
		t.Errorf("ended with %v after %v", code, time.Since(began))
	}
}

// TestHTTP2ParkedRaces: requests that come at the moment of parking, and the end of the proxy, lose nothing.
func TestHTTP2ParkedRaces(t *testing.T) {
	t.Parallel()
	b := newLB(t, overTLS(t, named(t, "ok")))
	var wg sync.WaitGroup
	for k := range 8 {
		r := b.h2raw()
		wg.Go(func() {
			for i := range 3 {
				r.request(uint32(2*i+1), true, "GET", "/")
				if s := r.status(uint32(2*i + 1)); s != "200" {
					t.Error(s)
					return
				}
				r.next()
				time.Sleep(2*tick - 30*time.Millisecond + time.Duration(k*8)*time.Millisecond)
				if err := r.WritePing(false, [8]byte{}); err != nil && !errors.Is(err, net.ErrClosed) && err != io.EOF {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := b.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
