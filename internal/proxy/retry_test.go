package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// TestRetry: what is sent again after a stale connection, and what is not.
func TestRetry(t *testing.T) {
	t.Parallel()
	var got atomic.Int64
	// It answers the first request of a connection, and closes when the second comes.
	addr := script(t, func(c net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			got.Add(1)
			if i == 1 {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	b := newLB(t, simple(addr))
	c := b.dial()
	for i, m := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		body := ""
		if m == "PUT" {
			body = "hello"
		}
		for range 2 {
			c.send(lines(m+" / HTTP/1.1", "Host: a", fmt.Sprintf("Content-Length: %d", len(body))) + body)
			if r := c.answer(m); r.StatusCode != 200 {
				t.Errorf("%s %d: status %d; it should have been sent again", m, i, r.StatusCode)
			}
		}
	}
	b.apply(simple(addr)) // the target stays, with its connections
	fresh := newLB(t, simple(addr)).dial()
	fresh.get("/")
	n := got.Load()
	fresh.send(lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5") + "hello")
	if r := fresh.answer("POST"); r.StatusCode != 502 || got.Load() != n+1 {
		t.Errorf("POST: status %d after %d attempts; the target may have acted on it, so it is not sent again", r.StatusCode, got.Load()-n)
	}
}

// TestRetryUnsent: a connection that the target closed while it was idle serves nobody, whatever the method.
func TestRetryUnsent(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 100)
	b := newLB(t, simple(script(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		time.Sleep(time.Millisecond)
		c.Close()
		closed <- struct{}{}
	})))
	c := b.dial()
	for range 10 {
		c.send(lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5") + "hello")
		if r := c.answer("POST"); r.StatusCode != 200 {
			t.Fatalf("status %d", r.StatusCode)
		}
		<-closed
		time.Sleep(peekAfter + 5*time.Millisecond)
	}
}

// TestMovesOn: a request whose target is gone before it answered is sent to another one, and to a third, if it changes nothing.
func TestMovesOn(t *testing.T) {
	t.Parallel()
	var took atomic.Int64
	dies := func() string {
		return script(t, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				io.Copy(io.Discard, req.Body)
				took.Add(1)
			}
		})
	}
	b := newLB(t, simple(dies(), named(t, "alive")))
	for range 6 { // by turns
		if r := b.dial().get("/"); text(r) != "alive" {
			t.Fatalf("GET: status %d", r.StatusCode)
		}
	}
	if n := took.Load(); n != 3 {
		t.Errorf("the dying target took %d requests, want 3", n)
	}
	for _, m := range []string{"POST", "PUT", "DELETE"} {
		bad := 0
		for range 2 {
			c := b.dial()
			c.send(lines(m+" / HTTP/1.1", "Host: a", "Content-Length: 0"))
			if c.answer(m).StatusCode == 502 {
				bad++
			}
		}
		if bad != 1 {
			t.Errorf("%s: %d of 2 requests were lost, want the one of the dying target", m, bad)
		}
	}
	took.Store(0)
	b = newLB(t, simple(dies(), dies(), dies(), dies()))
	if r := b.dial().get("/"); r.StatusCode != 502 || took.Load() != maxAttempts {
		t.Errorf("status %d after %d attempts, want 502 after 3", r.StatusCode, took.Load())
	}
	partly := script(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 20")
	})
	b = newLB(t, simple(partly, partly))
	if r := b.dial().get("/"); r.StatusCode != 502 {
		t.Errorf("an answer that broke off in its head: status %d", r.StatusCode)
	}
	if n := b.Stats().Groups["g"].Counters["RequestCount"]; n != 1 {
		t.Errorf("%v requests counted, want 1", n)
	}
	waitFor(t, "nothing is in flight", func() bool {
		for _, tr := range b.live.targets {
			if tr.inflight.Load() != 0 {
				return false
			}
		}
		return true
	})
}

// TestConnectFailover: nothing was sent to a target that refuses the connection, so another one serves the request.
func TestConnectFailover(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	b := newLB(t, simple(l.Addr().String(), named(t, "alive")))
	for range 6 {
		if r := b.dial().get("/"); text(r) != "alive" {
			t.Fatalf("status %d", r.StatusCode)
		}
	}
	if n := b.Stats().Groups["g"].Counters["TargetConnectionErrorCount"]; n != 3 {
		t.Errorf("%v connection errors, want 3", n)
	}
}
