//go:build linux && (amd64 || arm64)

package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	h2config "github.com/summerwind/h2spec/config"
	h2generic "github.com/summerwind/h2spec/generic"
	h2hpack "github.com/summerwind/h2spec/hpack"
	h2http2 "github.com/summerwind/h2spec/http2"
	h2test "github.com/summerwind/h2spec/spec"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"skerry/internal/require"
)

// overTLS is an HTTPS listener in front of one target.
func overTLS(t *testing.T, targets ...string) Config {
	return secure(simple(targets...), "ELBSecurityPolicy-TLS13-1-2-2021-06", certificate(t, "x", false, "a.test"))
}

// TestH2Spec runs h2spec's cases, those of its strict mode too.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	b := newLB(t, overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "hello")
	}))))
	host, port, _ := net.SplitHostPort(b.addr(front))
	n, _ := strconv.Atoi(port)
	cfg := &h2config.Config{Host: host, Port: n, Path: "/", Timeout: 5 * time.Second, MaxHeaderLen: 4000, Strict: true, TLS: true, Insecure: true}
	cases := 0
	var walk func(g *h2test.TestGroup)
	walk = func(g *h2test.TestGroup) {
		for _, c := range append(g.Tests, g.StrictTests...) {
			cases++
			if err := c.Test(cfg, cases); err != nil {
				t.Fatal(err)
			}
			if r := c.Result; r == nil || r.Failed || r.Skipped {
				t.Errorf("%s, %s: %+v", g.Title(), c.Desc, r)
			}
		}
		for _, s := range g.Groups {
			walk(s)
		}
	}
	for _, g := range []*h2test.TestGroup{h2generic.Spec(), h2http2.Spec(), h2hpack.Spec()} {
		walk(g)
	}
	if cases < 146 {
		t.Errorf("%d cases", cases)
	}
}

// h2raw is a client made of frames.
type h2raw struct {
	t *testing.T
	*http2.Framer
	c   net.Conn
	hb  bytes.Buffer
	enc *hpack.Encoder
}

func (b *lb) h2raw(settings ...http2.Setting) *h2raw {
	b.t.Helper()
	c, err := tls.Dial("tcp", b.addr(front), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(longest))
	io.WriteString(c, http2.ClientPreface)
	r := &h2raw{t: b.t, c: c, Framer: http2.NewFramer(c, bufio.NewReader(c))}
	r.enc = hpack.NewEncoder(&r.hb)
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.WriteSettings(settings...)
	return r
}

func (r *h2raw) block(kv ...string) []byte {
	r.hb.Reset()
	for i := 0; i < len(kv); i += 2 {
		r.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return bytes.Clone(r.hb.Bytes())
}

func (r *h2raw) request(id uint32, end bool, method, path string, kv ...string) {
	r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true,
		BlockFragment: r.block(append([]string{":method", method, ":scheme", "https", ":authority", "a.test", ":path", path}, kv...)...)})
}

// next returns the next frame that is none of settings, pings and window updates.
func (r *h2raw) next() http2.Frame {
	r.t.Helper()
	for {
		f, err := r.ReadFrame()
		if err != nil {
			r.t.Fatal(err)
		}
		switch f.(type) {
		case *http2.SettingsFrame, *http2.WindowUpdateFrame, *http2.PingFrame:
		default:
			return f
		}
	}
}

// status reads an answer's head.
func (r *h2raw) status(id uint32) string {
	r.t.Helper()
	f, ok := r.next().(*http2.MetaHeadersFrame)
	if !ok || f.StreamID != id {
		r.t.Fatalf("%v instead of an answer on stream %d", f, id)
	}
	return f.PseudoValue("status")
}

// goneWith reads to the end of the connection and returns the code of the last GOAWAY.
func (r *h2raw) goneWith() (code http2.ErrCode, last uint32) {
	r.t.Helper()
	code = 99
	for {
		f, err := r.ReadFrame()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				r.t.Fatal("the connection stays open")
			}
			return
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code, last = g.ErrCode, g.LastStreamID
		}
	}
}

// TestHTTP2FlowControl sends through windows of a few bytes, with and without a goroutine for the exchange.
func TestHTTP2FlowControl(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("0123456789"), 30_000)
	b := newLB(t, overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(body)
	}))))
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			r := b.h2raw(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
			r.request(1, method == "GET", method, "/")
			if method == "POST" {
				r.WriteData(1, true, []byte("x"))
			}
			if s := r.status(1); s != "200" {
				t.Fatal(s)
			}
			var got []byte
			conn, stream := 65535, 10
			for {
				f, ok := r.next().(*http2.DataFrame)
				if !ok {
					t.Fatal(f)
				}
				n := len(f.Data())
				got = append(got, f.Data()...)
				if conn, stream = conn-n, stream-n; conn < 0 || stream < 0 {
					t.Fatal("more than the windows allow")
				}
				if f.StreamEnded() {
					break
				}
				if stream == 0 {
					stream += 7_001
					r.WriteWindowUpdate(1, 7_001)
				}
				if conn == 0 || conn < 100 {
					conn += 20_000
					r.WriteWindowUpdate(0, 20_000)
				}
			}
			if !bytes.Equal(got, body) {
				t.Errorf("%d bytes came", len(got))
			}
		})
	}
	// The settings change the windows of streams that run.
	r := b.h2raw(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	r.request(1, true, "GET", "/")
	r.status(1)
	r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	if f, ok := r.next().(*http2.DataFrame); !ok || len(f.Data()) != 100 {
		t.Error(f)
	}
	r.WriteRSTStream(1, http2.ErrCodeCancel)
	r.request(3, true, "GET", "/") // another one is not hindered
	r.status(3)
}

// TestHTTP2Upload: a target that doesn't read stops the client, and memory stays bounded.
// TestHTTP2LongDownload: a client that takes a long answer in small parts acknowledges each, which is no flood.
func TestHTTP2LongDownload(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	b := newLB(t, overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 1<<20)
		for range size / len(b) {
			w.Write(b)
		}
	}))))
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr}).Get("https://" + b.addr(front) + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	total := 0
	for buf := make([]byte, 4096); err == nil; {
		var n int
		n, err = r.Body.Read(buf)
		total += n
	}
	if r.ProtoMajor != 2 || total != size || err != io.EOF {
		t.Errorf("HTTP/%d, %d bytes of %d: %v", r.ProtoMajor, total, size, err)
	}
}

func TestHTTP2Upload(t *testing.T) {
	t.Parallel()
	begin := make(chan struct{})
	b := newLB(t, overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		<-begin
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))))
	r := b.h2raw()
	r.request(1, false, "POST", "/")
	sent, window, conn := 0, streamWindow, connWindow
	var mu sync.Mutex
	var answer string
	got := make(chan struct{})
	go func() {
		defer close(got)
		for {
			f, err := r.ReadFrame()
			if err != nil {
				return
			}
			mu.Lock()
			switch f := f.(type) {
			case *http2.WindowUpdateFrame:
				if f.StreamID == 1 {
					window += int(f.Increment)
				} else if f.Increment != connWindow-65535 {
					conn += int(f.Increment)
				}
			case *http2.DataFrame:
				answer += string(f.Data())
				if f.StreamEnded() {
					mu.Unlock()
					return
				}
			}
			mu.Unlock()
		}
	}()
	const total = 20 << 20
	chunk := make([]byte, 16384)
	stalled := 0
	for sent < total {
		mu.Lock()
		ok := window >= len(chunk) && conn >= len(chunk)
		if ok {
			window, conn = window-len(chunk), conn-len(chunk)
		}
		mu.Unlock()
		if !ok {
			if stalled++; stalled == 50 {
				if sent > 16<<20 {
					t.Errorf("%d bytes were taken that nobody reads", sent)
				}
				close(begin)
			}
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if err := r.WriteData(1, sent+len(chunk) == total, chunk); err != nil {
			t.Fatal(err)
		}
		sent += len(chunk)
	}
	<-got
	if answer != strconv.Itoa(total) {
		t.Errorf("the target got %q bytes", answer)
	}
}

// TestHTTP2Answers has targets' answers of all kinds on the way without a goroutine.
func TestHTTP2Answers(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 1<<20)
	long := "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 20_000) + "\r\n"
	for _, c := range []struct {
		name, answer string // | ends what is written at once; ! closes
		status       string
		body         string
		cut          bool
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200", "hello", false},
		{"piecemeal", "HTTP/1.|1 200 OK\r\nContent-Le|ngth: 5\r\n\r|\nhel|lo", "200", "hello", false},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3|\r\nllo\r\n0\r\nX-T: 1\r\n\r\n", "200", "hello", false},
		{"until closed", "HTTP/1.1 200 OK\r\n\r\nhel|lo!", "200", "hello", false},
		{"none", "HTTP/1.1 204 No\r\n\r\n", "204", "", false},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200", "", false},
		{"interim", "HTTP/1.1 103 E\r\nLink: </a>\r\n\r\n|HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "103 200", "", false},
		{"large head", long + "Content-Length: 2\r\n\r\nok", "200", "ok", false},
		{"too large head", long + "X: " + strings.Repeat("y", 20_000) + "\r\nContent-Length: 2\r\n\r\nok", "502", "", false},
		{"large", "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + big, "200", big, false},
		{"large chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + big + "\r\n0\r\n\r\n", "200", big, false},
		{"malformed", "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello", "502", "", false},
		{"no HTTP", "hello\r\n\r\n!", "502", "", false},
		{"closed at once", "!", "502", "", false},
		{"upgrade", "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "502", "", false},
		{"cut", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello!", "200", "hello", true},
		{"cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel!", "200", "hel", true},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n|x!", "200", "hello", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newLB(t, overTLS(t, script(t, func(nc net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				closes := strings.HasSuffix(c.answer, "!")
				for part := range strings.SplitSeq(strings.TrimSuffix(c.answer, "!"), "|") {
					io.WriteString(nc, part)
					time.Sleep(20 * time.Millisecond)
				}
				if !closes {
					r.ReadByte()
				}
			})))
			r := b.h2raw(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			r.WriteWindowUpdate(0, 1<<20)
			r.request(1, true, "GET", "/")
			var status, body string
			for {
				f := r.next()
				switch f := f.(type) {
				case *http2.MetaHeadersFrame:
					if s := f.PseudoValue("status"); s != "" {
						status = strings.TrimSpace(status + " " + s)
					}
				case *http2.DataFrame:
					body += string(f.Data())
				case *http2.RSTStreamFrame:
					if !c.cut {
						t.Error(f)
					}
				}
				if _, reset := f.(*http2.RSTStreamFrame); reset || f.Header().Flags.Has(http2.FlagDataEndStream) {
					if reset != c.cut {
						t.Errorf("reset: %v", reset)
					}
					break
				}
			}
			if status != c.status || c.status != "502" && body != c.body {
				t.Errorf("%s, %d bytes %.50q", status, len(body), body)
			}
		})
	}
}

// TestHTTP2EarlyAnswer: a client that is answered before it has sent its body may finish it; only one that doesn't is told to stop.
func TestHTTP2EarlyAnswer(t *testing.T) {
	t.Parallel()
	cfg := overTLS(t, "127.0.0.1:1")
	cfg.Listeners[0].DefaultActions = []Action{{Type: FixedResponse, Fixed: &Fixed{StatusCode: "403", ContentType: "text/plain", Body: "no"}}}
	b := newLB(t, cfg)
	for n := 0; !earlyAnswer(b.h2raw()); n++ { // the machine was so slow that the client's time was over
		if n == 50 {
			t.Fatal("no client is ever let finish")
		}
	}
}

// earlyAnswer tells whether the client could finish its request. That it could not is a fault within earlyPatience only.
func earlyAnswer(r *h2raw) bool {
	t, start := r.t, time.Now()
	answered := func(id uint32) {
		t.Helper()
		if got := r.status(id); got != "403" {
			t.Fatalf("status %s", got)
		}
		if d, ok := r.next().(*http2.DataFrame); !ok || d.StreamID != id || !d.StreamEnded() {
			t.Fatalf("no body, or no end: %v", d)
		}
	}
	r.request(1, false, "POST", "/", "content-length", "70000")
	answered(1)
	for range 7 {
		r.WriteData(1, false, make([]byte, 10000))
	}
	r.WriteData(1, true, nil)
	r.request(3, false, "POST", "/")
	f, ok := r.next().(*http2.MetaHeadersFrame)
	if !ok && time.Since(start) > earlyPatience {
		return false
	}
	if !ok || f.StreamID != 3 || f.PseudoValue("status") != "403" {
		t.Fatalf("%v instead of an answer on stream 3", f)
	}
	if d, ok := r.next().(*http2.DataFrame); !ok || d.StreamID != 3 || !d.StreamEnded() {
		t.Fatalf("no body, or no end: %v", d)
	}
	if f, ok := r.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 3 || f.ErrCode != http2.ErrCodeNo {
		t.Errorf("%v", f)
	}
	r.request(5, true, "GET", "/")
	answered(5)
	return true
}

// TestHTTP2Stale: a target that closes its idle connections costs no request.
func TestHTTP2Stale(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	b := newLB(t, overTLS(t, script(t, func(nc net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for range 2 {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})))
	r := b.h2raw()
	for i := range uint32(40) {
		r.request(2*i+1, true, "GET", "/")
		if s := r.status(2*i + 1); s != "200" {
			t.Fatal(i, s)
		}
		r.next()
	}
	if n := conns.Load(); n < 20 || n > 25 {
		t.Errorf("%d connections for 40 requests, two each", n)
	}
}

// TestHTTP2MovesOn: a stream whose target is gone before it answered goes to another one.
func TestHTTP2MovesOn(t *testing.T) {
	t.Parallel()
	dies := script(t, func(nc net.Conn, r *bufio.Reader) { http.ReadRequest(r) })
	b := newLB(t, overTLS(t, dies, named(t, "alive")))
	r := b.h2raw()
	for i := range uint32(6) {
		r.request(2*i+1, true, "GET", "/")
		if s := r.status(2*i + 1); s != "200" {
			t.Fatal(i, s)
		}
		r.next()
	}
	bad := 0
	for i := uint32(6); i < 8; i++ {
		r.request(2*i+1, true, "DELETE", "/")
		if r.status(2*i+1) == "502" {
			bad++
		}
		r.next()
	}
	if bad != 1 {
		t.Errorf("%d of 2 DELETEs were lost, want the one of the dying target", bad)
	}
}

// TestHTTP2Spares: clients' connections leave those to targets to each other.
func TestHTTP2Spares(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	cfg := overTLS(t, script(t, func(nc net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}))
	b := newLB(t, cfg)
	for range 5 {
		r := b.h2raw()
		for i := range uint32(3) {
			r.request(2*i+1, true, "GET", "/")
			if s := r.status(2*i + 1); s != "200" {
				t.Fatal(s)
			}
		}
		r.WriteGoAway(0, http2.ErrCodeNo, nil)
		r.goneWith()
		waitFor(t, "the client's connection is over", func() bool { n := 0; b.h2.each(func(*h2conn) { n++ }); return n == 0 })
	}
	if n := conns.Load(); n > 2 {
		t.Errorf("%d connections to the target", n)
	}
	// A target that leaves loses them.
	b.Proxy.mu.Lock()
	var tg *target
	for _, x := range b.live.targets {
		tg = x
	}
	b.Proxy.mu.Unlock()
	g := cfg.TargetGroups["g"]
	g.Targets = nil
	cfg.TargetGroups["g"] = g
	b.apply(cfg)
	if fd := tg.spares.take(time.Now()); fd >= 0 {
		t.Error("a spare connection outlives its target's registration")
	}
}

// TestHTTP2SlowReader: a client that takes nothing loses its connection, and keeps no target busy.
func TestHTTP2SlowReader(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 8)
	cfg := overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for b := make([]byte, 64<<10); ; {
			if _, err := w.Write(b); err != nil {
				ended <- struct{}{}
				return
			}
		}
	})))
	cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
	b := newLB(t, cfg)
	r := b.h2raw(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	r.WriteWindowUpdate(0, maxWindow-65535)
	for i := range uint32(4) {
		r.request(2*i+1, i%2 == 0, "POST", "/")
		if i%2 == 1 {
			r.WriteData(2*i+1, true, nil)
		}
	}
	for range 4 {
		select {
		case <-ended:
		case <-time.After(longest):
			t.Fatal("a target still writes")
		}
	}
	for end := time.Now().Add(longest); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		b.h2.each(func(*h2conn) { n++ })
		if n == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatal("the connection stays")
		}
	}
}

// TestHTTP2Malformed has what RFC 9113 calls malformed (a stream error), and requests that are well-formed but refused.
func TestHTTP2Malformed(t *testing.T) {
	t.Parallel()
	b := newLB(t, overTLS(t, named(t, "x")))
	r := b.h2raw()
	good := []string{":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", "/"}
	id := uint32(1)
	for _, c := range []struct {
		fields []string
		want   string // a status, or "" for a stream error
	}{
		{good, "200"},
		{good[2:], ""},
		{[]string{":method", "GET", ":scheme", "https", ":path", "/", "host", "a.test"}, "200"},
		{append(good[:8:8], "host", "a.test"), "200"},
		{append(good[:8:8], "host", "b.test"), ""},
		{append(good[:8:8], "te", "trailers"), "200"},
		{append(good[:8:8], "te", "gzip"), ""},
		{append(good[:8:8], "transfer-encoding", "chunked"), ""},
		{append(good[:8:8], "content-length", "0"), "200"},
		{append(good[:8:8], "content-length", "5"), ""},
		{append(good[:8:8], "content-length", "+0"), ""},
		{append(good[:8:8], "x", "a\r\nhost: b"), ""},
		{append(good[:8:8], "x", " a"), ""},
		{append(good[:8:8], "x y", "a"), ""},
		{append(good[:8:8], "X", "a"), ""},
		{append(good[:8:8], "", "a"), ""},
		{append(good[:8:8], ":protocol", "websocket"), ""},
		{[]string{":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", "/a b"}, ""},
		{[]string{":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", "http://b.test/"}, ""},
		{[]string{":method", "GET", ":scheme", "https", ":authority", "u@a.test", ":path", "/"}, ""},
		{[]string{":method", "GE T", ":scheme", "https", ":authority", "a.test", ":path", "/"}, ""},
		{[]string{":method", "CONNECT", ":authority", "a.test"}, "405"},
		{[]string{":method", "TRACE", ":scheme", "https", ":authority", "a.test", ":path", "/"}, "405"},
		{append(good[:8:8], "expect", "200-maybe"), "417"},
	} {
		r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: r.block(c.fields...)})
		got := ""
		for {
			f := r.next()
			if f.Header().StreamID != id {
				t.Fatal(f)
			}
			if m, ok := f.(*http2.MetaHeadersFrame); ok {
				got = m.PseudoValue("status")
			}
			if rst, ok := f.(*http2.RSTStreamFrame); ok {
				if rst.ErrCode != http2.ErrCodeProtocol {
					t.Errorf("%q: %v", c.fields, rst.ErrCode)
				}
				break
			}
			if f.Header().Flags.Has(http2.FlagDataEndStream) {
				break
			}
		}
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.fields, got, c.want)
		}
		id += 2
	}
}

// TestHTTP2Reset: a client that resets a stream ends the request at the target.
func TestHTTP2Reset(t *testing.T) {
	t.Parallel()
	began, ended := make(chan string, 4), make(chan string, 4)
	b := newLB(t, overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		began <- r.URL.Path
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "x")
		if strings.HasPrefix(r.URL.Path, "/begun") {
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		ended <- r.URL.Path
	}))))
	r := b.h2raw()
	for i, path := range []string{"/a", "/begun/b", "/c", "/begun/d"} {
		id := uint32(2*i + 1)
		r.request(id, i < 2, "POST", path)
		if i >= 2 {
			r.WriteData(id, true, []byte("x"))
		}
		if strings.HasPrefix(path, "/begun") {
			r.status(id)
			r.next()
		}
		<-began
		r.WriteRSTStream(id, http2.ErrCodeCancel)
		select {
		case got := <-ended:
			if got != path {
				t.Error(got)
			}
		case <-time.After(longest):
			t.Fatalf("%s goes on at the target", path)
		}
	}
	left := 0.0
	for end := time.Now().Add(longest); left < 2 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		left += b.Stats().Counters["HTTPCode_ELB_4XX_Count"]
	}
	if left != 2 {
		t.Errorf("%v requests counted as left by their clients", left)
	}
}

// TestHTTP2Tools drives it with curl and h2load.
func TestHTTP2Tools(t *testing.T) {
	t.Parallel()
	b := newLB(t, overTLS(t, addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
		io.WriteString(w, "end")
	}))))
	url := "https://" + b.addr(front) + "/"
	run := func(name string, arg ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), longest)
		defer cancel()
		out, err := exec.CommandContext(ctx, require.Tool(t, name), arg...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	if got := run("curl", "-sk", "--http2", "-d", "hello", "-w", " %{http_version} %{http_code}", url); got != "helloend 2 200" {
		t.Errorf("curl: %q", got)
	}
	if got := run("h2load", "-n", "2000", "-c", "4", "-m", "100", url); !strings.Contains(got, "2000 succeeded, 0 failed") || !strings.Contains(got, "2000 2xx") {
		t.Errorf("h2load: %s", got)
	}
}

// FuzzStreamHead: what a stream's head becomes is one HTTP/1.1 head with the same parts, or is refused.
func FuzzStreamHead(f *testing.F) {
	f.Add(":method\x00GET\x01:scheme\x00https\x01:authority\x00a.test\x01:path\x00/a?b=c\x01cookie\x00a=b\x01cookie\x00c=d\x01x-a\x00b", true)
	f.Add(":method\x00POST\x01:scheme\x00https\x01:path\x00/\x01host\x00a.test\x01content-length\x0012\x01te\x00trailers", false)
	f.Add(":method\x00GET\x01:scheme\x00https\x01:authority\x00a.test\x01:path\x00/\x01x\x00a\r\nhost: b\r\n", true)
	f.Add(":method\x00CONNECT\x01:authority\x00a.test:443", true)
	f.Fuzz(func(t *testing.T, text string, end bool) {
		var h streamHead
		h.reset(false)
		plain := 0
		for line := range strings.SplitSeq(text, "\x01") {
			name, value, _ := strings.Cut(line, "\x00")
			h.add(hpack.HeaderField{Name: name, Value: value})
			switch name {
			case "te", "host", "cookie", "content-length":
			default:
				if !strings.HasPrefix(name, ":") {
					plain++
				}
			}
		}
		if !h.check(end) || h.large {
			return
		}
		head := h.appendTo(nil, end)
		var sc headScanner
		if n, err := sc.scan(head, 2*maxRequestHead); err == nil && n != len(head) {
			t.Fatalf("%q ends before its end", head)
		}
		var r request
		if err := r.parse(head); err != nil || r.odd == badHeader {
			return
		}
		if string(r.method) != h.method || string(r.target) != h.path {
			t.Fatalf("%q is read as %q %q", head, r.method, r.target)
		}
		others := 0
		for i := range r.fields {
			switch f := &r.fields[i]; {
			case f.id == fConnection, f.id == fUpgrade, f.id == fHop:
				t.Fatalf("%q passes", f.name)
			case f.id == fTransferEncoding, f.id == fHost, f.id == fContentLength, equalFold(f.name, "cookie"):
			default:
				others++
			}
		}
		if others != plain {
			t.Fatalf("%d fields became %d: %q", plain, others, head)
		}
	})
}
