//go:build linux && (amd64 || arm64)

package proxy

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/record"
	"skerry/internal/tlsfront"
)

const (
	sealedSize  = 48 << 10 // read at once; less than readSize, so that what is opened always fits
	closeNotify = 40       // longer is no close_notify
)

// loopTLS is the TLS side of a client's connection.
type loopTLS struct {
	c     *lconn
	hs    *tlsfront.Handshake // until it is over
	state *record.State       // then
	in    *lbuf               // sealed: a part of a record
	ended bool                // the client has said that nothing more comes
	peer  peerInfo
}

// Read and Write are the handshake's.

func (t *loopTLS) Read(b []byte) (int, error) {
	c := t.c
	if !c.readable {
		return 0, tlsfront.ErrWait
	}
	n := sysRead(c.fd, b, 0)
	switch {
	case n == wouldWait:
		c.readable = false
		return 0, tlsfront.ErrWait
	case n == 0:
		return 0, io.EOF
	case n < 0:
		return 0, unix.Errno(-n)
	case n < len(b) && !c.hup:
		c.readable = false
	}
	return n, nil
}

func (t *loopTLS) Write(b []byte) (int, error) {
	n := sysWrite(t.c.fd, b)
	switch {
	case n == wouldWait:
		return 0, tlsfront.ErrWait
	case n < 0:
		return 0, unix.Errno(-n)
	}
	return n, nil
}

var errHandshakeTime = errors.New("the handshake took too long")

// greet goes on with a handshake.
func (l *loop) greet(c *lconn) {
	t, p := c.tls, c.p
	if t.hs == nil {
		if !c.readable {
			return
		}
		lt := c.ln.table.Load()
		if lt.tls == nil {
			l.close(c) // not a TLS listener any more
			return
		}
		t.hs = lt.tls.server.Begin(t, l.clock(p))
		t.hs.Away = l
	}
	if !t.hs.Step() {
		return
	}
	hs := t.hs
	s, err := hs.Result()
	t.hs = nil
	p.greeted(c.ln, &t.peer, hs.Facts, err)
	switch {
	case err != nil:
		l.close(c)
	case s.State == nil || hs.Facts.Protocol == "h2":
		l.toGoroutine(c, nil, s)
	default:
		t.state = s.State
		if len(s.Rest) > 0 {
			t.in = l.mem.buf(len(s.Rest))
			t.in.w = copy(t.in.b, s.Rest)
			c.readable = true
		}
		c.state = atRest
		if c.ln.closing.Load() {
			l.close(c)
			return
		}
		l.arm(c, c.ln.table.Load().attrs.idle)
		l.proceed(c)
	}
}

// Away runs what takes long in a handshake on a goroutine. They wait for their turn, so that the loops need not wait for them.
func (l *loop) Away(sock tlsfront.Socket, job func()) {
	t := sock.(*loopTLS)
	hs := t.hs
	l.away.Add(1)
	go func() {
		defer l.away.Done()
		func() {
			l.turns <- struct{}{}
			defer func() {
				<-l.turns
				if err := recover(); err != nil {
					slog.Default().Error("panic", "err", err, "stack", string(debug.Stack()))
				}
			}()
			job()
		}()
		l.post(func() {
			if c := t.c; t.hs == hs { // it is neither over nor given up
				defer l.recovered(c)
				l.greet(c)
			}
		})
	}()
}

// greetingFailed ends a handshake that took too long.
func (l *loop) greetingFailed(c *lconn) {
	t := c.tls
	if t.hs == nil {
		c.p.greeted(c.ln, &t.peer, &tlsfront.Facts{Began: c.p.opt.Clock()}, errHandshakeTime)
	} else {
		hs := t.hs
		t.hs = nil
		hs.Abort()
		c.p.greeted(c.ln, &t.peer, hs.Facts, errHandshakeTime)
	}
	l.close(c)
}

// recvTLS reads from a client and opens what came; see recv. b must have room for sealedSize bytes.
func (l *loop) recvTLS(c *lconn, b []byte) int {
	for c.readable && !c.tls.ended {
		if n := l.openTLS(c, b); n > 0 {
			return n
		}
	}
	if c.tls.ended {
		return -1
	}
	return 0
}

// openTLS reads once. What it returns may be 0, also when more can be read.
func (l *loop) openTLS(c *lconn, b []byte) int {
	t := c.tls
	have := 0
	if t.in != nil {
		have = copy(l.sealed, t.in.b[t.in.r:t.in.w])
		l.mem.putBuf(t.in)
		t.in = nil
	}
	n := sysRead(c.fd, l.sealed[have:sealedSize], 0)
	switch {
	case n == wouldWait:
		c.readable, n = false, 0
	case n <= 0: // the end, without a close_notify
		t.ended, n = true, 0
	case n < sealedSize-have && !c.hup:
		c.readable = false
	}
	src := l.sealed[:have+n]
	out, used, err := t.state.Open(b[:0:len(b)], src)
	if err != nil {
		t.ended, c.readable = true, true
		if f, ok := err.(*record.Fault); ok && c.out == nil {
			sysWrite(c.fd, t.state.Alert(nil, f.Alert))
			c.abrupt = true
		}
	} else if rest := src[used:]; len(rest) > 0 {
		t.in = l.mem.buf(len(rest))
		t.in.w = copy(t.in.b, rest)
	}
	return len(out)
}

// farewell says that nothing more comes.
func (l *loop) farewell(c *lconn) {
	if t := c.tls; t != nil && t.state != nil && c.out == nil && !c.abrupt {
		sysWrite(c.fd, t.state.Alert(l.sbuf[:0], record.CloseNotify))
		c.abrupt = true
	}
}

// hasLeft tells whether a client that has closed its side, and said nothing but that, is gone.
func hasLeft(c *lconn) bool {
	var b [closeNotify]byte
	n := sysRead(c.fd, b[:], unix.MSG_PEEK)
	return n == 0 || n < 0 && n != wouldWait || c.tls != nil && n > 0 && n < closeNotify
}

// toGoroutine leaves a connection to a goroutine: one whose handshake led to the session s, or one of which atHand has been read.
func (l *loop) toGoroutine(c *lconn, atHand []byte, s *tlsfront.Session) {
	p, ln, fd := c.p, c.ln, int(c.fd)
	born := time.Unix(0, c.born)
	peer := peerInfo{addr: c.addr}
	var over func(nc net.Conn) net.Conn
	if t := c.tls; t != nil {
		peer = t.peer
		if s == nil {
			var sealed []byte
			if t.in != nil {
				sealed = append(sealed, t.in.b[t.in.r:t.in.w]...)
			}
			state := t.state
			over = func(nc net.Conn) net.Conn { return record.NewConn(nc, state, nil, sealed) }
		}
	}
	epollDelete(l.ep, c.fd)
	l.forget(c)
	go func() {
		nc, err := connOf(fd)
		if err != nil {
			p.opt.Log.Warn("connection to a goroutine", "listener", ln.addr, "err", err)
			p.left()
			return
		}
		client := nc
		if over != nil {
			client = over(nc)
		}
		peer.text = peer.addr.Addr().AppendTo(nil)
		peer.local = []byte(nc.LocalAddr().String())
		p.serveHanded(ln, s, client, nc, peer, born, atHand)
	}()
}
