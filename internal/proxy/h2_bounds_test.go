//go:build linux && (amd64 || arm64)

package proxy

import (
	"bytes"
	"context"
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
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"skerry/internal/require"
)

func TestHTTP2Bounds(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	target := addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			select {
			case <-r.Context().Done():
			case <-hang:
			}
		}
	}))
	t.Cleanup(func() { close(hang) }) // before the server ends
	cfg := overTLS(t, target)
	cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
	cfg.Listeners[0].Rules = []Rule{{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/fixed"}}}, Actions: fixed(204)}}
	b := newLB(t, cfg)
	enhance, none := http2.ErrCodeEnhanceYourCalm, http2.ErrCodeNo
	t.Run("all", func(t *testing.T) {
		for name, c := range map[string]struct {
			fn   func(r *h2raw)
			code http2.ErrCode
		}{
			"idle": {func(r *h2raw) {
				r.request(1, true, "GET", "/fixed")
				if s := r.status(1); s != "204" {
					t.Error(s)
				}
			}, none},
			"idle with pings": {func(r *h2raw) {
				for range 5 {
					time.Sleep(300 * time.Millisecond)
					r.WritePing(false, [8]byte{1})
				}
			}, none},
			"compressed header": {func(r *h2raw) {
				for i, b := 0, r.block(":method", "GET", ":scheme", "https", ":path", "/", "x", strings.Repeat("\x7f", 9000)); len(b) > 0; i++ {
					n := min(len(b), 4000)
					if i == 0 {
						r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:n]})
					} else {
						r.WriteContinuation(1, n == len(b), b[:n])
					}
					b = b[n:]
				}
			}, enhance},
			"empty continuations": {func(r *h2raw) {
				r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(":method", "GET")})
				for range 100 {
					r.WriteContinuation(1, false, nil)
				}
			}, enhance},
			"pings": {func(r *h2raw) {
				go io.Copy(io.Discard, io.LimitReader(r.c, 0))
				for range maxIdleFrames + 10 {
					if r.WritePing(false, [8]byte{1}) != nil {
						return
					}
				}
			}, enhance},
			"settings": {func(r *h2raw) {
				for range maxIdleFrames/20 + 10 {
					if r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}) != nil {
						return
					}
				}
			}, enhance},
			"empty data": {func(r *h2raw) {
				r.request(1, false, "POST", "/hang")
				for range maxIdleFrames + 10 {
					if r.WriteData(1, false, nil) != nil {
						return
					}
				}
			}, enhance},
			"resets that the client has us make": {func(r *h2raw) {
				for i := range uint32(4 * maxResets) {
					r.request(2*i+1, true, "GET", "/hang")
					if r.WriteRawFrame(http2.FrameWindowUpdate, 0, 2*i+1, make([]byte, 4)) != nil { // by nothing: an error of the stream
						return
					}
				}
			}, enhance},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := b.h2raw()
				r.t = t
				c.fn(r)
				if code, _ := r.goneWith(); code != c.code {
					t.Errorf("ended with %v, want %v", code, c.code)
				}
			})
		}
		t.Run("rapid reset", func(t *testing.T) {
			t.Parallel()
			r := b.h2raw()
			start, sent, done := time.Now(), uint32(0), make(chan struct{})
			go func() {
				defer close(done)
				for ; time.Since(start) < longest/2; sent++ { // they are counted by the second: a slow machine takes several
					r.request(2*sent+1, true, "GET", "/hang")
					if r.WriteRSTStream(2*sent+1, http2.ErrCodeCancel) != nil {
						return
					}
				}
			}()
			code, _ := r.goneWith()
			<-done
			if took := time.Since(start); code != enhance {
				if float64(sent) < maxResets*took.Seconds() {
					require.That(t, "rapid-resets", fmt.Errorf("%d in %v", sent, took))
				}
				t.Errorf("ended with %v, want %v, after %d resets in %v", code, enhance, sent, took)
			}
		})
		t.Run("streams", func(t *testing.T) {
			t.Parallel()
			r := b.h2raw()
			for i := range uint32(maxStreams) {
				r.request(2*i+1, true, "GET", "/hang")
			}
			r.request(2*maxStreams+1, true, "GET", "/fixed")
			if f, ok := r.next().(*http2.RSTStreamFrame); !ok || f.ErrCode != http2.ErrCodeRefusedStream || f.StreamID != 2*maxStreams+1 {
				t.Error(f)
			}
			r.WriteRSTStream(1, http2.ErrCodeCancel)
			r.request(2*maxStreams+3, true, "GET", "/fixed")
			if s := r.status(2*maxStreams + 3); s != "204" {
				t.Error(s)
			}
		})
		t.Run("requests", func(t *testing.T) {
			t.Parallel()
			r := b.h2raw()
			id := uint32(1)
			for n := 0; n < maxStreamRequests; n += 100 {
				for i := range uint32(100) {
					r.request(id+2*i, true, "GET", "/fixed")
				}
				for range 100 {
					r.next()
				}
				id += 200
			}
			if code, last := r.goneWith(); code != none || last != 2*maxStreamRequests-1 {
				t.Error(code, last)
			}
		})
	})
	if n := b.Stats().Counters["HTTPCode_ELB_4XX_Count"]; n < 100 {
		t.Errorf("%v requests counted as left by their clients", n)
	}
}

// TestHTTP2Logged has the lines of requests that took a goroutine and that took none, and of one beyond the connection's limits.
func TestHTTP2Logged(t *testing.T) {
	t.Parallel()
	access, _, _ := logged(t, overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))), false, func(b *lb) {
		r := b.h2raw()
		r.request(1, true, "GET", "/get")
		r.status(1)
		r.request(3, false, "POST", "/post")
		r.WriteData(3, true, []byte("12345"))
		r.status(3)
		block := r.block(":method", "GET", ":scheme", "https", ":path", "/", "x", strings.Repeat("\x7f", 9000))
		r.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: block[:maxHeaderBlock]})
		r.WriteContinuation(5, true, block[maxHeaderBlock:])
		r.goneWith()
	})
	if len(access) != 3 {
		t.Fatalf("%q", access)
	}
	all := strings.Join(access, "\n")
	for _, want := range []string{`"GET https://a.test:443/get HTTP/2.0"`, `"POST https://a.test:443/post HTTP/2.0"`, ` -1 -1 -1 000 - `} {
		if strings.Count(all, want) != 1 {
			t.Errorf("%s is not once in\n%s", want, all)
		}
	}
	for _, line := range access {
		if !strings.HasPrefix(line, "h2 ") {
			t.Error(line)
		}
	}
}

// TestHTTP2KeepAlive: a connection ends when it has lived for client_keep_alive, after what runs on it.
func TestHTTP2KeepAlive(t *testing.T) {
	t.Parallel()
	var skip atomic.Int64
	b := &lb{t: t, addrs: map[string]string{}}
	b.Proxy = New(Options{Clock: func() time.Time { return time.Now().Add(time.Duration(skip.Load())) }, Listen: func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, "127.0.0.1:0")
		b.mu.Lock()
		defer b.mu.Unlock()
		if err == nil {
			b.addrs[addr] = l.Addr().String()
		}
		return l, err
	}})
	t.Cleanup(func() { b.Shutdown(context.Background()) })
	came, hold := make(chan struct{}, 1), make(chan struct{})
	cfg := overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) { came <- struct{}{}; <-hold })))
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	cfg.Attributes["client_keep_alive.seconds"] = "60"
	b.apply(cfg)
	r := b.h2raw()
	r.request(1, true, "GET", "/")
	<-came
	skip.Store(int64(61 * time.Second))
	if g, ok := r.next().(*http2.GoAwayFrame); !ok || g.ErrCode != http2.ErrCodeNo || g.LastStreamID != 1 {
		t.Fatal(g)
	}
	r.request(3, true, "GET", "/") // too late: ignored
	release()
	if s := r.status(1); s != "200" {
		t.Error(s)
	}
	r.goneWith()
}

// TestHTTP2Drain: the connections of a removed listener end after their requests.
func TestHTTP2Drain(t *testing.T) {
	t.Parallel()
	came, hold := make(chan struct{}, 1), make(chan struct{})
	cfg := overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) { came <- struct{}{}; <-hold; io.WriteString(w, "done") })))
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	b := newLB(t, cfg)
	r, idle := b.h2raw(), b.h2raw()
	r.request(1, true, "GET", "/")
	<-came
	cfg.Listeners = nil
	b.apply(cfg)
	if g, ok := r.next().(*http2.GoAwayFrame); !ok || g.LastStreamID != 1 {
		t.Fatal(g)
	}
	if code, _ := idle.goneWith(); code != http2.ErrCodeNo {
		t.Error(code)
	}
	release()
	if s := r.status(1); s != "200" {
		t.Error(s)
	}
	if f, ok := r.next().(*http2.DataFrame); !ok || string(f.Data()) != "done" || !f.StreamEnded() {
		t.Error(f)
	}
}

// TestHTTP2Chaos mixes requests of all kinds, clients that leave and targets that break off with changes of the configuration:
// nothing panics, no request is answered with another's bytes, and nothing is left behind.
func TestHTTP2Chaos(t *testing.T) {
	t.Parallel()
	h := func(w http.ResponseWriter, r *http.Request) {
		if rand.IntN(3) == 0 {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		}
		switch n := rand.IntN(40); {
		case n == 0:
			panic(http.ErrAbortHandler)
		case n == 1:
			w.Header().Set("Connection", "close")
		case n == 2:
			w.WriteHeader(500) // and the body is not read
			return
		}
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("X-Echo", r.Header.Get("X-Id"))
		if rand.IntN(2) == 0 {
			w.(http.Flusher).Flush()
		}
		io.Copy(w, r.Body)
		io.WriteString(w, strings.Repeat(r.Header.Get("X-Id"), 1+rand.IntN(2000)))
	}
	one, two, h2 := addrOf(server(t, h)), addrOf(server(t, h)), h2server(t, false, h)
	cfg := overTLS(t, one)
	cfg.TargetGroups["h2"] = TargetGroup{ProtocolVersion: HTTP2, Targets: []Target{{ID: "i-9", Addr: h2}}}
	cfg.Listeners[0].Rules = []Rule{{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/two/*"}}}, Actions: forwardTo("h2")}}
	with := func(states ...string) Config {
		c := cfg
		c.TargetGroups = maps.Clone(cfg.TargetGroups)
		c.TargetGroups["g"] = TargetGroup{Targets: []Target{{ID: "i-0", Addr: one, State: states[0]}, {ID: "i-1", Addr: two, State: states[1]}}}
		return c
	}
	b := newLB(t, with(Healthy, Healthy))
	var log syncBuffer
	b.opt.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const enough = 200 // requests
	var wg sync.WaitGroup
	var done, failed atomic.Int64
	for g := range 24 {
		cl := b.h2client()
		if g%3 != 0 {
			cl.Timeout = 0
		}
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				rctx, stop := context.WithCancel(ctx)
				if rand.IntN(5) == 0 {
					time.AfterFunc(time.Duration(rand.IntN(4000))*time.Microsecond, stop)
				}
				id := fmt.Sprintf("<%d-%d>", g, i)
				var body io.Reader
				sent := ""
				if rand.IntN(2) == 0 {
					sent = strings.Repeat(id, rand.IntN(20_000))
					if body = strings.NewReader(sent); rand.IntN(2) == 0 {
						body = io.NopCloser(body)
					}
				}
				req, _ := http.NewRequestWithContext(rctx, []string{"GET", "POST", "PUT"}[rand.IntN(3)], "https://a.test/"+[]string{"one", "two"}[rand.IntN(2)]+"/", body)
				req.Header.Set("X-Id", id)
				r, err := cl.Do(req)
				if err == nil {
					var got []byte
					got, err = io.ReadAll(r.Body)
					r.Body.Close()
					if r.StatusCode == 200 && (r.Header.Get("X-Echo") != id || strings.Trim(string(got), id) != "") {
						t.Errorf("%s: an answer to %s", id, r.Header.Get("X-Echo"))
					}
					if r.StatusCode == 200 && err == nil && !strings.HasPrefix(string(got), sent) {
						t.Errorf("%s: %d bytes for %d", id, len(got), len(sent))
					}
				}
				if done.Add(1); err != nil {
					failed.Add(1)
				}
				stop()
			}
		})
	}
	for start := time.Now(); time.Since(start) < 1500*time.Millisecond || done.Load() < enough && time.Since(start) < 30*time.Second; {
		b.apply(with(Draining, Healthy))
		time.Sleep(20 * time.Millisecond)
		b.apply(with(Healthy, Draining))
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	if n, f := done.Load(), failed.Load(); n < enough || f > n*6/10 {
		t.Errorf("%d of %d requests failed", f, n)
	}
	b.Proxy.mu.Lock()
	targets := slices.Collect(maps.Values(b.live.targets))
	b.Proxy.mu.Unlock()
	for end := time.Now().Add(longest); ; time.Sleep(10 * time.Millisecond) {
		n := int64(0)
		for _, x := range targets {
			n += x.inflight.Load()
		}
		b.h2.each(func(c *h2conn) {
			c.mu.Lock()
			n += int64(len(c.streams) + c.busy)
			c.mu.Unlock()
		})
		if n == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%d requests are left", n)
		}
	}
	if s := log.String(); s != "" {
		t.Error(s)
	}
}

// syncBuffer is a buffer that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
