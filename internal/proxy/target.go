package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds of the connections to targets.
const (
	dialTimeout    = 10 * time.Second
	maxIdleTargets = 128                   // idle connections kept a target
	peekAfter      = 20 * time.Millisecond // an idle connection is looked at before use when it rested longer
	maxAttempts    = 3                     // targets tried when connections fail
	patience       = 5 * time.Second       // for the acknowledgement of a request
)

// target is the live state of a registered target; it outlasts tables. Safe for concurrent use.
type target struct {
	addr      string
	numeric   netip.AddrPort // the same, unless addr holds a name
	id        uint64
	tls       bool
	inflight  atomic.Int64
	healthy   atomic.Bool
	since     atomic.Int64 // when its slow start began, Unix ns; 0 when it's over
	answers   atomic.Int64 // since the latest judgement
	errors    atomic.Int64
	anomalous atomic.Bool
	cut       atomic.Int32 // of its weight
	removed   atomic.Bool  // deregistered for good: what is in flight is cut

	speaksH2 bool // HTTP/2; then
	h2       h2pool
	spares   spares
	gone     atomic.Bool // in no table any more

	mu   sync.Mutex
	idle []*upstream // the one used last is last

	pools []pool // by loop
	ails  bool   // it has become unhealthy, and the loops don't know yet; Apply's
}

// upstream is a connection to a target.
type upstream struct {
	net.Conn
	raw  syscall.RawConn // of the TCP connection below, nil if there is none
	t    *target
	rest time.Time // when it became idle
	calm bool      // patience is lifted: a long body may have to wait for the target to read
}

// lift takes the bound on unacknowledged bytes away; a target that reads slowly closes its window for as long as it likes.
func (u *upstream) lift() {
	if !u.calm {
		u.calm = true
		setPatience(u.raw, 0)
	}
}

// take returns an idle connection that is still good, or nil.
func (t *target) take(now time.Time) *upstream {
	if t.speaksH2 {
		return t.h2.take(t)
	}
	for {
		t.mu.Lock()
		n := len(t.idle)
		if n == 0 {
			t.mu.Unlock()
			return nil
		}
		u := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		if now.Sub(u.rest) < peekAfter || u.alive() {
			return u
		}
		u.Close()
	}
}

// give keeps a connection for the next request.
func (t *target) give(u *upstream, now time.Time) {
	if t.speaksH2 {
		u.Close() // the connection below stays
		return
	}
	u.rest = now
	if u.calm {
		u.calm = false
		setPatience(u.raw, patience)
	}
	t.mu.Lock()
	if len(t.idle) < maxIdleTargets && !t.removed.Load() {
		t.idle = append(t.idle, u)
		u = nil
	}
	t.mu.Unlock()
	if u != nil {
		u.Close()
	}
}

// expire closes connections that have been idle for longer than d.
func (t *target) expire(now time.Time, d time.Duration) {
	if t.speaksH2 {
		t.h2.expire(now, d)
		return
	}
	t.spares.expire(now, d)
	t.mu.Lock()
	n := 0
	for n < len(t.idle) && now.Sub(t.idle[n].rest) > d {
		n++
	}
	old := append([]*upstream(nil), t.idle[:n]...)
	t.idle = append(t.idle[:0], t.idle[n:]...)
	t.mu.Unlock()
	for _, u := range old {
		u.Close()
	}
}

// peek looks at a socket without waiting or reading: whether the peer has closed it, and whether bytes wait.
func peek(raw syscall.RawConn) (closed, data bool) {
	if raw == nil {
		return false, false
	}
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EAGAIN || err == syscall.EINTR:
		case err != nil || n == 0:
			closed = true
		default:
			data = true
		}
	})
	return closed || err != nil, data
}

// alive tells whether an idle connection may carry a request. Bytes that nobody asked for make it useless, except under TLS,
// where they may be a session ticket.
func (u *upstream) alive() bool {
	closed, data := peek(u.raw)
	return !closed && (!data || u.t.tls)
}

func rawConn(c net.Conn) syscall.RawConn {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// dial opens a connection to the target.
func (p *Proxy) dial(ctx context.Context, t *target) (*upstream, error) {
	if t.speaksH2 {
		return p.dialH2(ctx, t)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := p.opt.Dial(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	u := &upstream{Conn: c, raw: rawConn(c), t: t}
	setPatience(u.raw, patience)
	if t.tls {
		tc := tls.Client(c, targetTLS)
		if err := tc.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, &targetTLSError{err}
		}
		u.Conn = tc
	}
	return u, nil
}

// Exhausted tells whether a connection failed for want of a port, a descriptor or memory of this machine's.
func Exhausted(err error) bool {
	e, ok := errors.AsType[syscall.Errno](err)
	return ok && (e == syscall.EADDRNOTAVAIL || e == syscall.EADDRINUSE || e == syscall.EMFILE || e == syscall.ENFILE || e == syscall.ENOBUFS || e == syscall.ENOMEM)
}

type targetTLSError struct{ err error }

func (e *targetTLSError) Error() string { return "TLS handshake with the target: " + e.err.Error() }
func (e *targetTLSError) Unwrap() error { return e.err }
