package proxy

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Bounds of HTTP/2 connections, the service's own.
const (
	maxStreams        = 128
	maxStreamRequests = 10000 // requests on one connection
)

// h2server serves the HTTP/2 connections of one listener. The frames are http2.Server's; each stream's request is written
// as an HTTP/1.1 head and read by the same strict parser, so that rules, checks and forwarding are one for both versions.
type h2server struct {
	p  *Proxy
	ln *listener
	h1 *http.Server // carries the settings, and tells http2 of a shutdown
	h2 *http2.Server
}

// h2conn is what the streams of one connection share.
type h2conn struct {
	peer     peerInfo
	born     time.Time
	requests atomic.Int64
}

type h2key struct{}

func (p *Proxy) newH2(ln *listener) *h2server {
	s := &h2server{p: p, ln: ln}
	idle := ln.table.Load().attrs.idle
	s.h1 = &http.Server{MaxHeaderBytes: maxRequestHead, IdleTimeout: idle, ErrorLog: slog.NewLogLogger(p.opt.Log.Handler(), slog.LevelDebug), Handler: s}
	s.h2 = &http2.Server{MaxConcurrentStreams: maxStreams, IdleTimeout: idle, WriteByteTimeout: idle, MaxUploadBufferPerStream: 256 << 10}
	if err := http2.ConfigureServer(s.h1, s.h2); err != nil {
		panic("proxy: " + err.Error()) // the settings are constant
	}
	return s
}

// shutdown sends all connections a GOAWAY; streams finish.
func (s *h2server) shutdown() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.h1.Shutdown(ctx)
}

func (s *h2server) close() { s.h1.Close() }

func (p *Proxy) serveH2(ln *listener, c net.Conn, peer peerInfo) {
	hc := &h2conn{peer: peer, born: p.opt.Clock()}
	w := &watch{p: p, ln: ln, client: c}
	p.watches.add(w)
	defer p.watches.remove(w)
	ctx := context.WithValue(p.ctx, h2key{}, hc)
	ln.h2.h2.ServeConn(c, &http2.ServeConnOpts{Context: ctx, BaseConfig: ln.h2.h1, Handler: ln.h2})
}

// stream is the client side of an exchange on an HTTP/2 stream.
type stream struct {
	w    http.ResponseWriter
	r    *http.Request
	head []byte
	tr   []byte
	x    exchange
	req  request
	wt   watch
	conn *h2conn
}

// ServeHTTP handles one stream.
func (s *h2server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hc := r.Context().Value(h2key{}).(*h2conn)
	p := s.p
	lt := s.ln.table.Load()
	now := p.opt.Clock()
	st := &stream{w: w, r: r, conn: hc}
	rc := http.NewResponseController(w)
	st.wt = watch{p: p, ln: s.ln}
	st.wt.stop = func() {
		r.Body.Close()
		if st.wt.writing.Load() {
			go rc.SetWriteDeadline(past) // resets the stream; not under our lock
		}
	}
	p.watches.add(&st.wt)
	defer p.watches.remove(&st.wt)
	st.wt.enter(exchanging, lt.attrs.idle)
	stop := context.AfterFunc(r.Context(), func() { st.wt.cut(clientLeft) })
	defer stop()

	x := &st.x
	x.reset(p, lt, &st.req, &hc.peer, &st.wt, st)
	x.keep = true
	if hc.requests.Add(1) >= maxStreamRequests || s.ln.closing.Load() || now.Sub(hc.born) >= lt.attrs.keepAlive {
		w.Header().Set("Connection", "close") // becomes a GOAWAY
	}
	st.head = appendStreamHead(nil, r)
	var se *statusError
	switch err := st.req.parse(st.head); {
	case len(st.head) > maxRequestHead:
		x.fail(431)
	case err == nil:
		st.req.bodyOdd = noOddity // frames delimit a body whatever the method
		x.serve(now)
	default:
		se, _ = err.(*statusError)
		if se == nil {
			se = errBadHeader
		}
		p.counters.inc(cDesync)
		x.fail(se.status)
	}
	p.counters.add(cProcessedBytes, x.bytes.Swap(0)+int64(len(st.head)))
	if x.cut {
		panic(http.ErrAbortHandler) // resets the stream
	}
}

// appendStreamHead writes a stream's request as an HTTP/1.1 head. The parser then refuses what does not belong there.
func appendStreamHead(dst []byte, r *http.Request) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, r.RequestURI...)
	dst = append(dst, " HTTP/1.1\r\nhost: "...)
	dst = append(dst, r.Host...)
	dst = append(dst, '\r', '\n')
	names := make([]string, 0, len(r.Header))
	for n := range r.Header {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		switch n {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "Keep-Alive", "Proxy-Connection", "Te":
			continue
		}
		for _, v := range r.Header[n] {
			dst = append(dst, strings.ToLower(n)...)
			dst = append(dst, ": "...)
			dst = append(dst, v...)
			dst = append(dst, '\r', '\n')
		}
	}
	switch {
	case r.ContentLength > 0:
		dst = append(dst, "content-length: "...)
		dst = strconv.AppendInt(dst, r.ContentLength, 10)
		dst = append(dst, '\r', '\n')
	case r.ContentLength < 0:
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	case r.Method != "GET" && r.Method != "HEAD" && len(r.Header["Content-Length"]) > 0:
		dst = append(dst, "content-length: 0\r\n"...)
	}
	return append(dst, '\r', '\n')
}

func (st *stream) body(b []byte) (n int, end bool, err error) {
	n, err = st.r.Body.Read(b)
	if err == io.EOF {
		for name, vs := range st.r.Trailer {
			if nb := []byte(name); known(nb) == fOther && !forbiddenTrailer(nb) && allOf(nb, isToken) {
				for _, v := range vs {
					if allOf([]byte(v), isValue) {
						st.tr = append(st.tr, strings.ToLower(name)+": "+v+"\r\n"...)
					}
				}
			}
		}
		return n, true, nil
	}
	if err != nil && n == 0 {
		return 0, false, errBodyCut
	}
	return n, false, nil
}

func (st *stream) trailer() []byte { return st.tr }

func (st *stream) own(o ownAnswer, closes bool) error {
	h := st.w.Header()
	if !st.x.lt.hidden {
		h["Server"] = []string{"awselb/2.0"}
	}
	h["Date"] = []string{st.x.p.opt.Clock().UTC().Format(timeFormat)}
	if o.ctype != "" {
		h["Content-Type"] = []string{o.ctype}
	} else {
		h["Content-Type"] = nil
	}
	for i := range st.x.lt.respSet {
		addLines(h, st.x.lt.respSet[i].line)
	}
	if o.location != nil {
		h["Location"] = []string{string(o.location)}
	}
	if o.status != 204 && o.status != 304 {
		h["Content-Length"] = []string{strconv.Itoa(len(o.body))}
	}
	st.w.WriteHeader(o.status)
	if st.req.noBodyRead || o.status == 204 || o.status == 304 {
		return nil
	}
	st.x.bytes.Add(int64(len(o.body)))
	_, err := st.w.Write(o.body)
	return err
}

// addLines adds whole header lines.
func addLines(h http.Header, lines []byte) {
	for len(lines) > 0 {
		line := lines
		if i := bytes.Index(lines, []byte("\r\n")); i >= 0 {
			line, lines = lines[:i], lines[i+2:]
		} else {
			lines = nil
		}
		if n, v, ok := bytes.Cut(line, []byte(": ")); ok {
			h.Add(string(n), string(v))
		}
	}
}

func (st *stream) copyFields(resp *response) http.Header {
	h := st.w.Header()
	for i := range resp.fields {
		f := &resp.fields[i]
		if !f.drop && !(f.id == fOther && setByListener(st.x.lt, f.name)) {
			h.Add(string(f.name), string(f.value))
		}
	}
	return h
}

func (st *stream) interim(resp *response) error {
	h := st.copyFields(resp)
	st.w.WriteHeader(resp.status)
	for i := range resp.fields {
		h.Del(string(resp.fields[i].name))
	}
	return nil
}

func (st *stream) begin(x *exchange, buf []byte, n int, end bool, trailer []byte) error {
	h := st.copyFields(&x.resp)
	for i := range x.lt.respSet {
		addLines(h, x.lt.respSet[i].line)
	}
	addLines(h, x.extra)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // nobody guesses it
	}
	if !x.resp.date {
		h["Date"] = []string{x.p.opt.Clock().UTC().Format(timeFormat)}
	}
	if x.plan.length >= 0 && x.resp.status != 204 {
		h["Content-Length"] = []string{strconv.FormatInt(x.plan.length, 10)}
	}
	st.w.WriteHeader(x.resp.status)
	if x.plan.framing == noBody {
		return nil
	}
	return st.data(x, buf, n, end, trailer)
}

func (st *stream) data(x *exchange, buf []byte, n int, end bool, trailer []byte) error {
	x.w.writing.Store(true)
	defer x.w.writing.Store(false)
	if n > 0 {
		if _, err := st.w.Write(buf[chunkRoom : chunkRoom+n]); err != nil {
			return err
		}
	}
	if end {
		if len(trailer) > 0 {
			t := http.Header{}
			addLines(t, trailer)
			for k, vs := range t {
				st.w.Header()[http.TrailerPrefix+k] = vs
			}
		}
		return nil
	}
	return http.NewResponseController(st.w).Flush()
}
