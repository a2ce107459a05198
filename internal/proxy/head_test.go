package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const crlf = "\r\n"

func lines(ls ...string) string { return strings.Join(ls, crlf) + crlf + crlf }

// TestRequestRefused has every message that must not be forwarded in strictest mode, with its answer.
func TestRequestRefused(t *testing.T) {
	head := func(ls ...string) string { return lines(append([]string{"POST /x HTTP/1.1", "Host: a"}, ls...)...) }
	first := func(l string) string { return lines(l, "Host: a") }
	for _, c := range []struct {
		name, head string
		status     int
	}{
		{"both framings", head("Content-Length: 5", "Transfer-Encoding: chunked"), 400},
		{"two lengths", head("Content-Length: 5", "Content-Length: 6"), 400},
		{"two equal lengths", head("Content-Length: 5", "Content-Length: 5"), 400},
		{"a list of lengths", head("Content-Length: 5, 5"), 400},
		{"signed length", head("Content-Length: +5"), 400},
		{"hexadecimal length", head("Content-Length: 0x5"), 400},
		{"no length", head("Content-Length:"), 400},
		{"length over 2^63", head("Content-Length: 9223372036854775808"), 400},
		{"control character before a length", head("Content-Length: \v5"), 400},
		{"unknown coding", head("Transfer-Encoding: gzip, chunked"), 501},
		{"identity", head("Transfer-Encoding: identity"), 400},
		{"coding with a parameter", head("Transfer-Encoding: chunked;q=1"), 400},
		{"quoted coding", head(`Transfer-Encoding: "chunked"`), 400},
		{"empty coding", head("Transfer-Encoding:"), 400},
		{"two codings", head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400},
		{"coding in 1.0", lines("POST /x HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"), 400},
		{"folded line", head("X-A: b", " c"), 400},
		{"folded first line", lines("GET / HTTP/1.1", " X: y", "Host: a"), 400},
		{"bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n", 400},
		{"bare LF in a header", head("X-A: b\nX-C: d"), 400},
		{"bare CR in a header", head("X-A: b\rX-C: d"), 400},
		{"space before the colon", head("X-A : b"), 400},
		{"tab before the colon", head("Transfer-Encoding\t: chunked"), 400},
		{"no colon", head("X-A"), 400},
		{"no name", head(": b"), 400},
		{"name that is no token", head("X(A): b"), 400},
		{"NUL in a name", head("X\x00A: b"), 400},
		{"NUL in a value", head("X-A: b\x00c"), 400},
		{"DEL in a value", head("X-A: b\x7fc"), 400},
		{"no host", lines("GET / HTTP/1.1"), 400},
		{"two hosts", lines("GET / HTTP/1.1", "Host: a", "Host: a"), 400},
		{"empty host", lines("GET / HTTP/1.1", "Host:"), 400},
		{"host with a space", lines("GET / HTTP/1.1", "Host: a b"), 400},
		{"host with a slash", lines("GET / HTTP/1.1", "Host: a/b"), 400},
		{"host with user information", lines("GET / HTTP/1.1", "Host: u@a"), 400},
		{"host with a strange port", lines("GET / HTTP/1.1", "Host: a:b"), 400},
		{"host with two ports", lines("GET / HTTP/1.1", "Host: a:1:"), 400},
		{"host with half a bracket", lines("GET / HTTP/1.1", "Host: [::1"), 400},
		{"host with something behind its bracket", lines("GET / HTTP/1.1", "Host: [::1]a"), 400},
		{"host of a port only", lines("GET / HTTP/1.1", "Host: :80"), 400},
		{"two spaces", first("GET  / HTTP/1.1"), 400},
		{"space in the target", first("GET /a b HTTP/1.1"), 400},
		{"control character in the target", first("GET /\x01 HTTP/1.1"), 400},
		{"fragment in the target", first("GET /a#b HTTP/1.1"), 400},
		{"target without a slash", first("GET a HTTP/1.1"), 400},
		{"asterisk for GET", first("GET * HTTP/1.1"), 400},
		{"authority form", first("GET a:80 HTTP/1.1"), 400},
		{"absolute form without a host", first("GET http:///a HTTP/1.1"), 400},
		{"absolute form with user information", first("GET http://u@a/ HTTP/1.1"), 400},
		{"other scheme", first("GET ftp://a/ HTTP/1.1"), 400},
		{"control character in the method", first("G\x01T / HTTP/1.1"), 400},
		{"no version", lines("GET /", "Host: a"), 400},
		{"nothing but a method", lines("GET", "Host: a"), 400},
		{"HTTP/0.9", first("GET / HTTP/0.9"), 505},
		{"HTTP/2.0", first("GET / HTTP/2.0"), 505},
		{"HTTP/1.10", first("GET / HTTP/1.10"), 400},
		{"lower-case version", first("GET / http/1.1"), 400},
		{"other expectation", head("Expect: more"), 417},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r request
			status := 0
			var se *statusError
			if errors.As(r.parse([]byte(c.head)), &se) {
				status = se.status
			} else if (&balancerAttributes{desync: strictest}).judge(&r) {
				status = 400
			}
			if status != c.status {
				t.Errorf("status %d, want %d: this message can be read in two ways and must not be forwarded in strictest mode", status, c.status)
			}
		})
	}
}

func TestRequestAccepted(t *testing.T) {
	for _, c := range []struct {
		name, head string
		check      func(*request) bool
	}{
		{"origin form", lines("GET /a?b=c HTTP/1.1", "Host: h:81"), func(r *request) bool {
			return string(r.path) == "/a" && string(r.query) == "b=c" && string(r.host) == "h:81" && string(r.hostname) == "h" && r.keepAlive
		}},
		{"absolute form wins over Host", lines("GET http://one/a HTTP/1.1", "Host: two"), func(r *request) bool {
			return string(r.host) == "one" && string(r.target) == "/a"
		}},
		{"absolute form without a path", lines("GET http://one?q HTTP/1.1", "Host: two"), func(r *request) bool { return string(r.target) == "/?q" }},
		{"IPv6 host", lines("GET / HTTP/1.1", "Host: [::1]:81"), func(r *request) bool { return string(r.hostname) == "[::1]" }},
		{"IPv6 host without a port", lines("GET / HTTP/1.1", "Host: [::1]"), func(r *request) bool { return string(r.hostname) == "[::1]" }},
		{"absolute form for all of a server", lines("OPTIONS http://one HTTP/1.1", "Host: two"), func(r *request) bool { return string(r.target) == "*" && string(r.host) == "one" }},
		{"asterisk form", lines("OPTIONS * HTTP/1.1", "Host: a"), func(r *request) bool { return string(r.target) == "*" }},
		{"chunked", lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: CHUNKED"), func(r *request) bool { return r.chunked && r.hasBody() }},
		{"length", lines("POST / HTTP/1.1", "Host: a", "content-length:\t7 "), func(r *request) bool { return r.length == 7 }},
		{"close in a list", lines("GET / HTTP/1.1", "Host: a", "Connection: foo, Close"), func(r *request) bool { return !r.keepAlive }},
		{"1.0 without a host", lines("GET / HTTP/1.0"), func(r *request) bool { return !r.keepAlive && r.host == nil }},
		{"1.0 with keep-alive", lines("GET / HTTP/1.0", "Connection: Keep-Alive"), func(r *request) bool { return r.keepAlive }},
		{"WebSocket", lines("GET / HTTP/1.1", "Host: a", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket"), func(r *request) bool { return r.upgrade }},
		{"cleartext HTTP/2 upgrade is no upgrade", lines("GET / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: h2c"), func(r *request) bool { return !r.upgrade }},
		{"upgrade without Connection is no upgrade", lines("GET / HTTP/1.1", "Host: a", "Upgrade: websocket"), func(r *request) bool { return !r.upgrade }},
		{"bytes beyond ASCII", lines("GET /\xc3\xa9 HTTP/1.1", "Host: a", "X: \xe9"), func(r *request) bool { return string(r.path) == "/\xc3\xa9" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r request
			if err := r.parse([]byte(c.head)); err != nil {
				t.Fatal(err)
			}
			if !c.check(&r) {
				t.Errorf("parsed as %+v", r)
			}
		})
	}
}

func TestHeadLimits(t *testing.T) {
	scan := func(s string, limit int) error {
		var sc headScanner
		_, err := sc.scan([]byte(s), limit)
		return err
	}
	long := strings.Repeat("x", maxLine)
	for _, c := range []struct {
		name, head string
		limit      int
		want       error
	}{
		{"long request line", "GET /" + long, maxRequestHead, errLineTooLong},
		{"long request line with its end", "GET /" + long + " HTTP/1.1\r\n", maxRequestHead, errLineTooLong},
		{"long header", "GET / HTTP/1.1\r\nX: " + long, maxRequestHead, errHeaderTooLarge},
		{"many headers", "GET / HTTP/1.1\r\n" + strings.Repeat("X: "+long[:1000]+"\r\n", 66), maxRequestHead, errHeaderTooLarge},
		{"just under", "GET / HTTP/1.1\r\nX: " + long[:maxLine-10], maxRequestHead, errMore},
		{"response header line", "HTTP/1.1 200 OK\r\nX: " + long + long[:8000] + "\r\n\r\n", maxResponseHead, nil},
		{"response head", "HTTP/1.1 200 OK\r\nX: " + long + long + "\r\n\r\n", maxResponseHead, errHeaderTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := scan(c.head, c.limit); err != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	t.Run("incrementally", func(t *testing.T) {
		h := lines("GET / HTTP/1.1", "Host: a", "X: y")
		var sc headScanner
		for i := 1; i < len(h); i++ {
			if _, err := sc.scan([]byte(h[:i]), maxRequestHead); err != errMore {
				t.Fatalf("after %d bytes: %v", i, err)
			}
		}
		if n, err := sc.scan([]byte(h+"rest"), maxRequestHead); n != len(h) || err != nil {
			t.Fatalf("got %d, %v; want %d", n, err, len(h))
		}
	})
}

func TestResponseRefused(t *testing.T) {
	ok := func(ls ...string) string { return lines(append([]string{"HTTP/1.1 200 OK"}, ls...)...) }
	for name, h := range map[string]string{
		"other protocol": lines("SSH-2.0-x"), "no status": lines("HTTP/1.1"), "two digits": lines("HTTP/1.1 20 OK"), "four digits": lines("HTTP/1.1 2000 OK"),
		"status 0": lines("HTTP/1.1 099 OK"), "HTTP/2": lines("HTTP/2.0 200 OK"), "two lengths": ok("Content-Length: 5", "Content-Length: 6"),
		"both framings": ok("Content-Length: 5", "Transfer-Encoding: chunked"), "unknown coding": ok("Transfer-Encoding: gzip"),
		"signed length": ok("Content-Length: -1"), "folded": ok("X: y", " z"), "NUL": ok("X: \x00"),
		"no colon": ok("X"), "coding in 1.0": lines("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"), "control character in the reason": lines("HTTP/1.1 200 O\x01K"),
	} {
		t.Run(name, func(t *testing.T) {
			var r response
			if r.parse([]byte(h)) == nil {
				t.Errorf("accepted %q; a client could read it in another way", h)
			}
		})
	}
	for _, h := range []string{ok(), lines("HTTP/1.1 200"), lines("HTTP/1.1 200 "), lines("HTTP/1.0 404 Not Found", "Connection: keep-alive"), ok("Content-Length: 0")} {
		var r response
		if err := r.parse([]byte(h)); err != nil {
			t.Errorf("%q refused: %v", h, err)
		}
	}
}

func testListener() *listenerTable {
	return &listenerTable{table: &table{attrs: balancerAttributes{forwarded: xffAppend}, sealer: newSealer(nil, "t")}, port: "80", proto: "http", stdPort: true}
}

func testPeer() *peerInfo { return &peerInfo{text: []byte("192.0.2.1"), local: []byte("10.0.0.1:80")} }

// FuzzRequest checks that whatever the parser accepts is, as it is forwarded, the same message for another parser.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		lines("GET /a?b HTTP/1.1", "Host: a"), lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5"), lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"),
		lines("GET http://x/y HTTP/1.1", "Host: a", "Connection: x-a, close", "X-A: b"), lines("GET / HTTP/1.0"), lines("OPTIONS * HTTP/1.1", "Host: [::1]:80"),
		lines("GET / HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket"), lines("GET / HTTP/1.1", "Host: a", "X-Forwarded-For: 1, 2", "X-Amzn-Trace-Id: Root=1-2;Self=x"),
		lines("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"), "GET / HTTP/1.1\nHost: a\n\n",
	} {
		f.Add([]byte(s))
	}
	lt, peer := testListener(), testPeer()
	f.Fuzz(func(t *testing.T, b []byte) {
		var sc headScanner
		n, err := sc.scan(b, maxRequestHead)
		if err != nil {
			return
		}
		var r request
		if r.parse(b[:n]) != nil {
			return
		}
		out := appendRequest(nil, &r, lt, peer, time.Unix(1e9, 0))
		got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
		if err != nil {
			if s := err.Error(); strings.Contains(s, "parse ") || strings.Contains(s, "invalid URI") {
				return // net/http understands escapes in targets; we pass them on
			}
			t.Fatalf("forwarded %q, which net/http refuses: %v", out, err)
		}
		if got.Method != string(r.method) {
			t.Fatalf("method %q became %q in %q", r.method, got.Method, out)
		}
		want := int64(0)
		switch {
		case r.chunked:
			want = -1
		case r.length > 0:
			want = r.length
		}
		if got.ContentLength != want || (len(got.TransferEncoding) > 0) != r.chunked {
			t.Fatalf("body length %d, chunked %v became %d, %v in %q", r.length, r.chunked, got.ContentLength, got.TransferEncoding, out)
		}
		if len(got.Header["X-Forwarded-Proto"]) != 1 || len(got.Header["X-Amzn-Trace-Id"]) != 1 || len(got.Header["X-Forwarded-For"]) != 1 {
			t.Fatalf("a header of ours is there twice, or not at all: %q", out)
		}
		for _, h := range []string{"Keep-Alive", "Te", "Proxy-Connection", "Expect"} {
			if len(got.Header[h]) > 0 {
				t.Fatalf("hop-by-hop header %s was forwarded in %q", h, out)
			}
		}
		// What we forward we would accept, too.
		var again request
		if err := again.parse(out); err != nil {
			t.Fatalf("forwarded %q, which we refuse: %v", out, err)
		}
	})
}

// FuzzResponse checks the same of answers.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		lines("HTTP/1.1 200 OK", "Content-Length: 5"), lines("HTTP/1.1 200", "Transfer-Encoding: chunked"), lines("HTTP/1.0 304 x", "Connection: x, keep-alive", "X: y"),
		lines("HTTP/1.1 204 No", "Content-Length: 3"), lines("HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"),
	} {
		f.Add([]byte(s), true, false)
	}
	lt := testListener()
	f.Fuzz(func(t *testing.T, b []byte, v11, head bool) {
		var sc headScanner
		n, err := sc.scan(b, maxResponseHead)
		if err != nil {
			return
		}
		var r response
		if r.parse(b[:n]) != nil || r.status/100 == 1 {
			return
		}
		req := &request{noBodyRead: head}
		method := "GET"
		if head {
			method = "HEAD"
		}
		if v11 {
			req.minor = 1
		}
		p := planResponse(&r, req, true)
		out := appendResponse(nil, &r, p, lt, nil, time.Unix(1e9, 0))
		got, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("passed on %q, which net/http refuses: %v", out, err)
		}
		if got.StatusCode != r.status {
			t.Fatalf("status %d became %d", r.status, got.StatusCode)
		}
		if !r.bodyless(head) {
			chunked := len(got.TransferEncoding) > 0
			if chunked != (p.framing == byChunks) || p.framing == byLength && got.ContentLength != r.length {
				t.Fatalf("plan %+v of %q became %d %v in %q", p, b[:n], got.ContentLength, got.TransferEncoding, out)
			}
			if chunked && !v11 {
				t.Fatalf("chunks for a 1.0 client: %q", out)
			}
		}
	})
}

// TestChunks decodes each body whole, and split at every byte, with the same result.
func TestChunks(t *testing.T) {
	for _, c := range []struct{ name, in, want, trailer, rest string }{
		{"one", "5\r\nhello\r\n0\r\n\r\n", "hello", "", ""},
		{"several, with what follows", "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET /", "abc0123456789", "", "GET /"},
		{"extensions", "5;a=b\r\nhello\r\n1 ;c=\"d\"\r\n!\r\n0;x\r\n\r\n", "hello!", "", ""},
		{"leading zeros", "0005\r\nhello\r\n000\r\n\r\n", "hello", "", ""},
		{"trailers", "1\r\na\r\n0\r\nX-T: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nX-U: 2\r\n\r\n", "a", "X-T: 1\r\nX-U: 2\r\n", ""},
		{"nothing", "0\r\n\r\n", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{len(c.in), 1, 2, 3, 5} {
				got, trailer, rest, err := decodeAll([]byte(c.in), step)
				if err != nil || got != c.want || trailer != c.trailer || rest != c.rest {
					t.Errorf("in steps of %d: %q, trailer %q, rest %q, %v", step, got, trailer, rest, err)
				}
			}
		})
	}
	for _, in := range []string{
		"\r\n", "g\r\n", "0x5\r\nhello\r\n", "-1\r\n", "+5\r\n", " 5\r\nhello\r\n", "5\nhello\r\n", "5\rXhello\r\n", "3\r\nhello\r\n", "5\r\nhelloXX0\r\n",
		"10000000000000000005\r\n", "5;a\nb\r\nhello\r\n", "0\r\nX: y\n\r\n", "0\r\nno colon\r\n\r\n", "0\r\n folded\r\n\r\n", "5;" + strings.Repeat("x", 5000) + "\r\n",
		"0\r\nX: " + strings.Repeat("y", maxTrailer) + "\r\n\r\n", "5\r\nhello\n0\r\n\r\n",
		"5 5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n",
	} {
		for _, step := range []int{len(in), 1} {
			if got, _, _, err := decodeAll([]byte(in), step); err == nil {
				t.Errorf("%.40q in steps of %d was accepted as %q", in, step, got)
			}
		}
	}
}

var errNoEnd = errors.New("no end")

// decodeAll feeds in to a decoder in steps.
func decodeAll(in []byte, step int) (data, trailer, rest string, err error) {
	var d chunkDecoder
	for len(in) > 0 {
		b := bytes.Clone(in[:min(step, len(in))])
		n, used, end, err := d.decode(b)
		data += string(b[:n])
		in = in[used:]
		if err != nil || end {
			return data, string(d.trailer), string(in), err
		}
	}
	return data, "", "", errNoEnd
}

// FuzzChunks checks that the decoder does not depend on how bytes arrive, takes nothing that net/http would not take, and
// that what is framed anew decodes to the same.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"5\r\nhello\r\n0\r\n\r\n", "1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n", "0\r\n\r\n", "5\nhello\n0\n\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		if step <= 0 || step > len(b) {
			step = 1
		}
		d1, t1, r1, e1 := decodeAll(b, max(1, len(b)))
		d2, t2, r2, e2 := decodeAll(b, step)
		if (e1 == nil) != (e2 == nil) || e1 == nil && (d1 != d2 || t1 != t2 || r1 != r2) {
			t.Fatalf("whole: %q %q %q %v; in steps of %d: %q %q %q %v", d1, t1, r1, e1, step, d2, t2, r2, e2)
		}
		if e1 != nil {
			return
		}
		raw := append([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), b...)
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r.Body); err != nil || string(got) != d1 {
			if err != nil && strings.Contains(err.Error(), "chunked line ends with bare LF") || err != nil && strings.Contains(err.Error(), "trailer") {
				return
			}
			t.Fatalf("net/http reads %q, %v; we read %q", got, err, d1)
		}
		buf := make([]byte, chunkRoom+len(d1)+16)
		copy(buf[chunkRoom:], d1)
		if d3, _, _, err := decodeAll(frame(buf, len(d1), true, true, nil), 7); err != nil || d3 != d1 {
			t.Fatalf("framed anew: %q, %v; want %q", d3, err, d1)
		}
	})
}
