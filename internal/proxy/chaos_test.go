//go:build linux && (amd64 || arm64)

package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// wild is a target that does what it likes. What it answers names the request.
func wild(t *testing.T) string {
	return script(t, func(c net.Conn, r *bufio.Reader) {
		defer func() {
			if rand.IntN(2) == 0 {
				c.(*net.TCPConn).SetLinger(0)
			}
		}()
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			id := req.Header.Get("X-Id")
			whole := func() { io.Copy(io.Discard, req.Body) }
			pause := func() {
				if rand.IntN(3) == 0 {
					time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
				}
			}
			if rand.IntN(4) > 0 {
				whole()
			}
			for range rand.IntN(3) {
				io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
				pause()
			}
			body := strings.Repeat(id, 1+rand.IntN(3000))
			switch rand.IntN(14) {
			case 0: // gone before an answer
				return
			case 1: // in the middle of the head
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
				return
			case 2: // in the middle of the body
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(body)+1, body)
				return
			case 3: // in the middle of a chunk
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Echo: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s", id, len(body)+1, body)
				return
			case 4: // until it closes
				fmt.Fprintf(c, "HTTP/1.0 200 OK\r\nX-Echo: %s\r\n\r\n%s", id, body)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
				return
			case 5: // nonsense
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")
				return
			case 6: // more than was asked for
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nX-Echo: evil\r\nContent-Length: 0\r\n\r\n", id, len(body), body)
			case 7:
				fmt.Fprintf(c, "HTTP/1.1 204 No Content\r\nX-Echo: %s\r\n\r\n", id)
			case 8: // says that it ends
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Echo: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", id, len(body), body)
				return
			case 9: // in small parts
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Echo: %s\r\nTransfer-Encoding: chunked\r\n\r\n", id)
				for range 3 {
					fmt.Fprintf(c, "%x\r\n%s", len(id), id)
					pause()
					io.WriteString(c, "\r\n")
				}
				io.WriteString(c, "0\r\nX-T: 1\r\n\r\n")
			default:
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Echo: %s\r\n", id)
				pause()
				fmt.Fprintf(c, "Content-Length: %d\r\n\r\n%s", len(body), body[:len(body)/2])
				pause()
				io.WriteString(c, body[len(body)/2:])
			}
			if req.Method == "HEAD" {
				return // it has said too much
			}
			whole()
		}
	})
}

// TestChaos mixes clients that break off anywhere with targets that do, and changes of the configuration: nothing panics, no request
// is answered with another's bytes, and nothing is left behind.
func TestChaos(t *testing.T) {
	t.Parallel()
	one, two := wild(t), wild(t)
	for _, secured := range []bool{false, true} {
		config := func(states ...string) Config {
			cfg := simple(one, two)
			if secured {
				cfg = overTLS(t, one, two)
			}
			g := cfg.TargetGroups["g"]
			for i := range g.Targets {
				g.Targets[i].State = states[i]
			}
			cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
			return cfg
		}
		b := newLB(t, config(Healthy, Healthy))
		both := []Config{config(Draining, Healthy), config(Healthy, Draining)}
		only := config(Healthy, Healthy)
		g := only.TargetGroups["g"]
		g.Targets = g.Targets[:1] // the other one is cut
		only.TargetGroups["g"] = g
		for i := range both {
			both[i].Listeners = config(Healthy, Healthy).Listeners
		}
		both = append(both, only)
		var log syncBuffer
		b.opt.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for k := range 16 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						breakOff(t, b, secured, fmt.Sprintf("<%d-%d>", k, i))
					}
				}
			})
		}
		for start, i := time.Now(), 0; time.Since(start) < 600*time.Millisecond; i++ {
			b.apply(both[i%len(both)])
			time.Sleep(20 * time.Millisecond)
		}
		close(stop)
		wg.Wait()
		b.apply(config(Healthy, Healthy))
		waitFor(t, "all connections have ended", func() bool { return b.active.Load() == 0 })
		b.Proxy.mu.Lock()
		targets := slices.Collect(maps.Values(b.live.targets))
		b.Proxy.mu.Unlock()
		for _, x := range targets {
			if n := x.inflight.Load(); n != 0 {
				t.Errorf("TLS %v: %d requests are left at %s", secured, n, x.addr)
			}
		}
		if b.engine != nil {
			b.engine.each(func(l *loop) {
				for _, c := range l.conns {
					if c != nil && c.x != nil {
						t.Errorf("TLS %v: a connection of kind %d is in an exchange", secured, c.kind)
					}
				}
			})
		}
		if s := log.String(); s != "" {
			t.Error(s)
		}
		if n := b.counters[cRequest].Load(); n < 50 {
			t.Errorf("TLS %v: %d requests only", secured, n)
		}
	}
}

// breakOff is a client that may end at any point. What it gets must be its own.
func breakOff(t *testing.T, b *lb, secured bool, id string) {
	tcp, err := net.Dial("tcp", b.addr(front))
	if err != nil {
		t.Error(err)
		return
	}
	defer tcp.Close()
	tcp.SetDeadline(time.Now().Add(5 * time.Second))
	if rand.IntN(3) == 0 {
		tcp.(*net.TCPConn).SetLinger(0)
	}
	if rand.IntN(4) == 0 { // at any time
		time.AfterFunc(time.Duration(rand.IntN(4000))*time.Microsecond, func() { tcp.Close() })
	}
	c := tcp
	if secured {
		if rand.IntN(10) == 0 {
			io.WriteString(tcp, "\x16\x03\x01\x02\x00\x01\x00")
			return
		}
		c = tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS13 - uint16(rand.IntN(2))})
	}
	var out bytes.Buffer
	n := 1 + rand.IntN(4)
	methods := make([]string, n)
	for i := range n {
		m := []string{"GET", "POST", "PUT", "HEAD", "DELETE"}[rand.IntN(5)]
		methods[i] = m
		fmt.Fprintf(&out, "%s /%s HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\n", m, id, id)
		body := strings.Repeat(id, rand.IntN(4000))
		switch {
		case m == "GET" || m == "HEAD" || m == "DELETE":
			out.WriteString("\r\n")
		case rand.IntN(2) == 0:
			if rand.IntN(4) == 0 {
				out.WriteString("Expect: 100-continue\r\n")
			}
			fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n%s", len(body), body)
		case len(body) > 0:
			fmt.Fprintf(&out, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		default:
			out.WriteString("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
		}
	}
	all := out.Bytes()
	if rand.IntN(4) == 0 {
		all = all[:rand.IntN(len(all)+1)]
	}
	go func() {
		for len(all) > 0 {
			k := min(len(all), 1+rand.IntN(30_000))
			if _, err := c.Write(all[:k]); err != nil {
				return
			}
			if all = all[k:]; rand.IntN(3) == 0 {
				time.Sleep(time.Duration(rand.IntN(1500)) * time.Microsecond)
			}
		}
		if rand.IntN(3) == 0 {
			if tc, ok := c.(interface{ CloseWrite() error }); ok {
				tc.CloseWrite()
			}
		}
	}()
	r := bufio.NewReader(c)
	for _, m := range methods {
		resp, err := http.ReadResponse(r, &http.Request{Method: m})
		for err == nil && resp.StatusCode/100 == 1 {
			resp, err = http.ReadResponse(r, &http.Request{Method: m})
		}
		if err != nil {
			return
		}
		if rand.IntN(6) == 0 {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		}
		got, err := io.ReadAll(resp.Body)
		if resp.Header.Get("Server") == "" {
			if e := resp.Header.Get("X-Echo"); e != id || strings.ReplaceAll(string(got), id, "") != "" && err == nil {
				t.Errorf("%s: an answer to %s, %d bytes", id, e, len(got))
			}
		}
		if err != nil || resp.Close {
			return
		}
	}
}
