package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestBodies(t *testing.T) {
	t.Parallel()
	echo := addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	}))
	b := newLB(t, simple(echo))
	big := bytes.Repeat([]byte("abcdefghij"), 500000)
	t.Run("backpressure both ways", func(t *testing.T) {
		t.Parallel()
		for _, chunked := range []bool{false, true} {
			var rd io.Reader = bytes.NewReader(big)
			if chunked {
				rd = io.MultiReader(rd)
			}
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			req, _ := http.NewRequest("POST", "http://"+b.addr(front), rd)
			r, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(got, big) {
				t.Fatalf("%d of %d bytes, %v", len(got), len(big), err)
			}
		}
	})
	t.Run("100-continue", func(t *testing.T) {
		t.Parallel()
		c := b.dial()
		for range 2 {
			c.send(lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Expect: 100-continue"))
			if s, err := c.r.ReadString('\n'); s != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("%q, %v", s, err)
			}
			c.r.ReadString('\n')
			c.send("hello")
			if s := text(c.answer("POST")); s != "hello" {
				t.Errorf("%q", s)
			}
		}
	})
	t.Run("incomplete at the client's close", func(t *testing.T) {
		t.Parallel()
		seen := make(chan error, 1)
		b := newLB(t, simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			seen <- err
		}))))
		for _, head := range []string{lines("POST / HTTP/1.1", "Host: a", "Content-Length: 100") + "part", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked") + "64\r\npart"} {
			c := b.dial()
			c.send(head)
			c.Conn.(*net.TCPConn).CloseWrite()
			if r := c.answer("POST"); r.StatusCode != 400 {
				t.Errorf("status %d", r.StatusCode)
			}
			if err := <-seen; err == nil {
				t.Error("the target took the incomplete body for whole")
			}
		}
	})
	t.Run("answer before the body", func(t *testing.T) {
		t.Parallel()
		b := newLB(t, simple(script(t, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 413 Big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
			time.Sleep(100 * time.Millisecond)
		})))
		c := b.dial()
		c.send(lines("POST / HTTP/1.1", "Host: a", fmt.Sprintf("Content-Length: %d", len(big))))
		go c.Write(big)
		if r := c.answer("POST"); r.StatusCode != 413 || text(r) != "big" || !r.Close {
			t.Errorf("%v", r)
		}
	})
	t.Run("trailers both ways", func(t *testing.T) {
		t.Parallel()
		b := newLB(t, simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "ok")
			w.Header().Set("X-Sum", r.Trailer.Get("X-T"))
		}))))
		c := b.dial()
		c.send(lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Trailer: X-T") + "2\r\nhi\r\n0\r\nX-T: 7\r\n\r\n")
		r, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadAll(r.Body)
		if r.Trailer.Get("X-Sum") != "7" {
			t.Errorf("trailer %v", r.Trailer)
		}
	})
}

// TestCutAnswers: a body that the target cuts must look cut to the client too, and is never framed as whole.
func TestCutAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"length":        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"chunk":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
		"between":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"bad chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\nevil\r\n0\r\n\r\n",
		"in the length": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0",
	} {
		for _, version := range []string{"1.1", "1.0"} {
			t.Run(name+" to "+version, func(t *testing.T) {
				t.Parallel()
				c := newLB(t, simple(script(t, func(c net.Conn, r *bufio.Reader) {
					http.ReadRequest(r)
					io.WriteString(c, answer)
				}))).dial()
				c.send(lines("GET / HTTP/"+version, "Host: a"))
				r, err := http.ReadResponse(c.r, nil)
				if err != nil {
					return // a reset before the head was read is as good
				}
				if b, err := io.ReadAll(r.Body); err == nil && r.StatusCode != 502 {
					t.Errorf("%d, %q looks complete", r.StatusCode, b)
				}
			})
		}
	}
}

// TestUnsolicited: bytes that a target sends behind an answer reach nobody.
func TestUnsolicited(t *testing.T) {
	t.Parallel()
	b := newLB(t, simple(answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")))
	c := b.dial()
	for range 5 {
		if s := text(c.get("/")); s != "ok" {
			t.Fatalf("%q", s)
		}
	}
}

// TestChunksBehindHead: the last header of an answer passes unchanged when its body, framed anew, comes with the head.
func TestChunksBehindHead(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 15, 16, 255, 256, 4095, 4096, 30000} {
		body := strings.Repeat("b", size)
		for name, answer := range map[string]string{
			"until the end": "HTTP/1.0 200 OK\r\nX-Last: value\r\n\r\n" + body,
			"chunked":       fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Last: value\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, body),
		} {
			b := newLB(t, simple(script(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					io.WriteString(c, answer)
				}
			})))
			r := b.dial().get("/")
			if got := text(r); got != body || r.Header.Get("X-Last") != "value" || r.Header.Get("Date") == "" {
				t.Errorf("%s, %d bytes: %d bytes, headers %q", name, size, len(got), r.Header)
			}
		}
	}
}

// TestAnnouncedNoContent: a target that announces a body with its 204, and may send it later, gets no further request there.
func TestAnnouncedNoContent(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	b := newLB(t, simple(script(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n")
			time.AfterFunc(200*time.Microsecond, func() { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison") })
		}
	})))
	c := b.dial()
	for range 20 {
		if r := c.get("/"); r.StatusCode != 204 {
			t.Fatalf("%v", r)
		}
	}
	if n := conns.Load(); n != 20 {
		t.Errorf("%d connections for 20 requests", n)
	}
}

// TestEndsWithoutReset: what a client sends beyond its last request does not destroy the answer on its way.
func TestEndsWithoutReset(t *testing.T) {
	t.Parallel()
	b := newLB(t, simple(addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(20 * time.Millisecond)
		io.WriteString(w, "ok")
	}))))
	for _, more := range []string{"\r\n", lines("GET /next HTTP/1.1", "Host: a"), strings.Repeat("x", 100000)} {
		c := b.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("b", 300000) + more)
		time.Sleep(100 * time.Millisecond)
		if s := text(c.answer("POST")); s != "ok" {
			t.Fatalf("%q", s)
		}
		if rest, err := io.ReadAll(c.r); len(rest) != 0 || err != nil {
			t.Errorf("with %d bytes more: %q %v", len(more), rest, err)
		}
	}
}
