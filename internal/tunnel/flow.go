package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"skerry/internal/tlsfront"
)

// Kinds of flows.
const (
	kindTCP = iota
	kindTLS
)

// cutReason says why a flow was ended from here.
type cutReason uint8

const (
	notCut cutReason = iota
	cutTarget
	cutIdle
	cutShutdown
)

// flow is one client connection with its target's. Two goroutines move its bytes.
type flow struct {
	t    *Tunnel
	tb   *table
	kind int
	tg   *target
	due  time.Time // when to look whether it is idle; guarded by Tunnel.mu

	client, target net.Conn // the sockets; target is set under mu
	spliced        bool     // the kernel moves the bytes, and knows how many

	up, down way
	last     atomic.Int64 // Unix ns of the latest byte, if not spliced

	mu      sync.Mutex
	why     cutReason
	closed  bool
	counted int64
}

// way is one direction.
type way struct {
	bytes atomic.Int64
	ended atomic.Bool
}

// serve runs one flow.
func (t *Tunnel) serve(tb *table, nc net.Conn, kind int) {
	f := &flow{t: t, tb: tb, kind: kind, client: nc, due: time.Now().Add(t.scaled(tb.idle))}
	f.touch()
	t.mu.Lock()
	t.flows[f] = struct{}{}
	down := t.down && t.ctx.Err() != nil
	t.mu.Unlock()
	if down {
		f.cut(cutShutdown)
	}
	began := t.opt.Clock()
	e := &Entry{Client: nc.RemoteAddr().String(), ListenerARN: tb.arn, Created: began}
	f.run(e)
	f.end()
	t.mu.Lock()
	delete(t.flows, f)
	if f.tg != nil {
		delete(f.tg.flows, f)
	}
	e.LBName = t.name
	t.mu.Unlock()
	if e.Facts != nil && t.opt.Access != nil {
		e.Received, e.Sent, e.Ended = f.up.bytes.Load(), f.down.bytes.Load(), t.opt.Clock()
		t.opt.Access(e)
	}
}

func (f *flow) run(e *Entry) {
	t, tb := f.t, f.tb
	client, local := addrPort(f.client.RemoteAddr()), addrPort(f.client.LocalAddr())
	clear := f.client // what the client says, without its TLS
	if f.kind == kindTLS {
		alive(f.client)
		f.client.SetDeadline(time.Now().Add(handshakeTimeout))
		sess, facts, err := tb.tls.Accept(f.client, e.Created)
		e.Facts = facts
		if err != nil {
			switch err {
			case io.EOF:
			case tlsfront.ErrBusy:
				t.reject(f.kind)
			default:
				t.counters[cClientTLSError].Add(1)
			}
			return
		}
		f.client.SetDeadline(time.Time{})
		clear = sess.Conn(f.client, nil, sess.Rest)
	}
	g := tb.choose(client, local)
	if g != nil {
		f.tg = g.pick(client, local)
	}
	if f.tg == nil {
		t.reject(f.kind)
		f.abort()
		return
	}
	t.counters[cNewTCP+counter(f.kind)].Add(1)
	if g.failOpen {
		t.counters[cUnhealthyRouting].Add(1)
	}
	e.Target = f.tg.addr
	from := netip.AddrPort{}
	if g.preserve {
		from = client
	}
	ctx, cancel := context.WithTimeout(t.ctx, connectTimeout)
	tc, err := t.opt.Dial(ctx, from, f.tg.addr)
	cancel()
	if err != nil {
		switch {
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
			t.counters[cTargetReset].Add(1)
		case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE):
			t.counters[cPortError].Add(1) // the node has no port left
		}
		f.abort()
		return
	}
	if !f.attach(tc) {
		return
	}
	if f.kind == kindTLS {
		alive(tc)
	}
	if g.proxy {
		if _, err := tc.Write(appendProxy(nil, client, local)); err != nil {
			f.failed(tc)
			return
		}
	}
	backend := tc
	if g.tls {
		if backend = f.secure(tc, e.Facts, e); backend == nil {
			return
		}
	}
	f.move(clear, backend)
}

// attach notes the target's connection, unless the flow has been cut.
func (f *flow) attach(tc net.Conn) bool {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = tc
	if f.closed {
		reset(tc)
		return false
	}
	f.tg.flows[f] = struct{}{}
	return true
}

// secure does the handshake with a target; its certificate is not validated, as in the service. What was agreed on with the client
// is what the target is asked for.
func (f *flow) secure(tc net.Conn, facts *tlsfront.Facts, e *Entry) net.Conn {
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, CipherSuites: tlsfront.TargetSuites}
	if facts != nil && facts.Protocol != "" {
		cfg.NextProtos = []string{facts.Protocol}
	}
	c := tls.Client(tc, cfg)
	tc.SetDeadline(time.Now().Add(handshakeTimeout))
	if err := c.HandshakeContext(f.t.ctx); err != nil {
		f.t.counters[cTargetTLSError].Add(1)
		f.abort()
		return nil
	}
	tc.SetDeadline(time.Time{})
	e.TargetALPN = c.ConnectionState().NegotiatedProtocol
	return c
}

// move carries the bytes until both sides have ended.
func (f *flow) move(client, backend net.Conn) {
	f.touch()
	if client == f.client && backend == f.target {
		_, a := tcpInfo(client)
		_, b := tcpInfo(backend)
		f.mu.Lock()
		f.spliced = a && b
		f.mu.Unlock()
	}
	done := make(chan bool, 1)
	go func() { done <- f.copy(backend, client, f.client, &f.up) }()
	ok := f.copy(client, backend, f.target, &f.down)
	if ok = <-done && ok; ok && !f.spliced {
		f.count()
		client.Close() // with a close_notify
		backend.Close()
	}
}

// copy carries one direction and passes its end on; it tells whether that went well. sock is the source's socket.
func (f *flow) copy(dst, src, sock net.Conn, w *way) bool {
	var err error
	if f.spliced {
		var n int64
		n, err = io.Copy(dst, src)
		w.bytes.Store(n)
		w.ended.Store(true)
	} else {
		_, err = io.Copy(&sink{dst}, &source{f, src, w})
	}
	if err == nil {
		if cw, ok := dst.(interface{ CloseWrite() error }); ok {
			cw.CloseWrite() // if it is gone already, its own direction tells
		}
		return true
	}
	f.failed(sock)
	return false
}

// failed ends a flow one of whose sides has failed, and counts whose reset it was.
func (f *flow) failed(sock net.Conn) {
	f.mu.Lock()
	cut := f.closed
	f.mu.Unlock()
	if cut {
		return
	}
	switch { // a socket that was reset is closed, in the kernel's view
	case gone(f.client):
		f.t.counters[cClientReset].Add(1)
	case f.target != nil && gone(f.target):
		f.t.counters[cTargetReset].Add(1)
	case sock == f.target:
		f.t.counters[cTargetReset].Add(1)
	default:
		f.t.counters[cClientReset].Add(1)
	}
	f.close(notCut)
}

// abort resets a flow that can't be carried.
func (f *flow) abort() {
	f.t.counters[cOwnReset].Add(1)
	f.close(notCut)
}

// cut resets both sides for a reason of our own.
func (f *flow) cut(why cutReason) {
	if f.close(why) {
		f.t.counters[cOwnReset].Add(1)
	}
}

// close resets what is open; it tells whether anything was.
func (f *flow) close(why cutReason) bool {
	f.count()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.closed, f.why = true, why
	reset(f.client)
	if f.target != nil {
		reset(f.target)
	}
	return true
}

// end closes what a flow that went well has left open.
func (f *flow) end() {
	f.count()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	f.client.Close()
	if f.target != nil {
		f.target.Close()
	}
}

func (f *flow) touch() { f.last.Store(time.Now().UnixNano()) }

// count adds to the counters what has been carried since the last time.
func (f *flow) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	if n := f.carried(f.client, &f.up) + f.carried(f.target, &f.down); n > f.counted {
		f.t.counters[cBytesTCP+counter(f.kind)].Add(n - f.counted)
		f.counted = n
	}
}

// carried is what one direction has brought so far. Of a spliced one that goes on, the kernel knows: it counts the end as a byte.
func (f *flow) carried(sock net.Conn, w *way) int64 {
	if f.spliced && !w.ended.Load() {
		if i, ok := tcpInfo(sock); ok {
			return int64(i.received)
		}
	}
	return w.bytes.Load()
}

// look ends the flow if it has been idle for too long, or says when to look again.
func (f *flow) look(now time.Time) {
	limit := f.t.scaled(f.tb.idle)
	idle := now.Sub(time.Unix(0, f.last.Load()))
	f.mu.Lock()
	if f.spliced && !f.closed {
		a, _ := tcpInfo(f.client)
		b, _ := tcpInfo(f.target)
		idle = min(idle, a.quiet, b.quiet)
	}
	f.mu.Unlock()
	if idle >= limit {
		f.cut(cutIdle)
		return
	}
	f.t.mu.Lock()
	f.due = now.Add(limit - idle)
	f.t.mu.Unlock()
}

// sink and source count what passes. They keep the fast ways of the connections behind them.
type sink struct{ net.Conn }

// ReadFrom lets the record layer seal in place what it reads.
func (s *sink) ReadFrom(r io.Reader) (int64, error) {
	if rf, ok := s.Conn.(io.ReaderFrom); ok {
		if _, plain := s.Conn.(*net.TCPConn); !plain {
			return rf.ReadFrom(r)
		}
	}
	return io.Copy(struct{ io.Writer }{s}, r)
}

type source struct {
	f *flow
	net.Conn
	w *way
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if n > 0 {
		s.note(n)
	}
	return n, err
}

func (s *source) note(n int) {
	s.w.bytes.Add(int64(n))
	s.f.touch()
}

// Note is called by the record layer for what it reads from the socket itself.
func (s *source) Note(n int) { s.note(n) }

// SyscallConn is the socket's, if there is no layer between.
func (s *source) SyscallConn() (syscall.RawConn, error) {
	if c, ok := s.Conn.(*net.TCPConn); ok {
		return c.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}

// WriteTo lets the record layer write what it has opened in place.
func (s *source) WriteTo(w io.Writer) (int64, error) {
	if wt, ok := s.Conn.(io.WriterTo); ok {
		if _, plain := s.Conn.(*net.TCPConn); !plain {
			return wt.WriteTo(&counting{s, w})
		}
	}
	if rf, ok := w.(io.ReaderFrom); ok {
		return rf.ReadFrom(struct {
			io.Reader
			syscall.Conn
			noter
		}{s, s, s})
	}
	return io.Copy(w, struct{ io.Reader }{s})
}

type noter interface{ Note(n int) }

type counting struct {
	s *source
	w io.Writer
}

func (c *counting) Write(b []byte) (int, error) {
	c.s.note(len(b))
	return c.w.Write(b)
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// reset closes a connection with a reset.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// alive switches keepalives on.
func alive(c net.Conn) {
	if t, ok := c.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive})
	}
}
