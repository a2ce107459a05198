//go:build linux && (amd64 || arm64)

package proxy

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

const (
	listenEvents  = unix.EPOLLIN | unix.EPOLLEXCLUSIVE
	acceptBackoff = 500 * time.Millisecond
)

// listen watches a listening socket.
func (l *loop) listen(p *Proxy, ln *listener, fd int) {
	c := &lconn{fd: int32(fd), kind: kindListener, p: p, ln: ln, slot: -1}
	if err := l.add(c, listenEvents); err != nil {
		p.opt.Log.Error("listener", "addr", ln.addr, "err", err)
		sysClose(c.fd)
		p.wg.Done()
	}
}

// accept takes new connections.
func (l *loop) accept(ls *lconn) {
	p := ls.p
	for range acceptBatch {
		fd, from := sysAccept(ls.fd)
		if fd < 0 {
			switch errno := unix.Errno(-fd); errno {
			case unix.EAGAIN:
				return
			case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
				if l.shed() {
					continue
				}
				p.opt.Log.Warn("accept", "listener", ls.ln.addr, "err", errno)
				epollDelete(l.ep, ls.fd) // EPOLLEXCLUSIVE can't be modified
				l.conns[ls.fd] = ls
				l.arm(ls, acceptBackoff)
				return
			}
			continue // that client is gone
		}
		if fd >= l.mostFDs {
			p.counters.inc(cRejectedConnection)
			sysClose(int32(fd))
			continue
		}
		if !p.admit() {
			sysClose(int32(fd))
			continue
		}
		setOption(int32(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		c := l.mem.conn()
		c.fd, c.kind, c.state, c.closed = int32(fd), kindClient, atRest, false
		c.p, c.ln, c.addr = p, ls.ln, from
		c.born = l.clock(p).UnixNano()
		if err := l.add(c, edges); err != nil {
			p.opt.Log.Warn("accept", "listener", ls.ln.addr, "err", err)
			sysClose(c.fd)
			l.mem.putConn(c)
			p.left()
			continue
		}
		lt := ls.ln.table.Load()
		if lt.tls != nil {
			c.tls, c.state = &loopTLS{c: c, peer: peerInfo{addr: c.addr, born: c.born}}, greeting
			l.arm(c, handshakeTimeout)
			continue
		}
		if lt.connLog != nil {
			lt.logConnection(l.id, connEntry{at: time.Unix(0, c.born), client: c.addr, born: c.born})
		}
		l.arm(c, lt.attrs.idle)
	}
}

// forget takes a connection out of the loop's books; its descriptor stays open.
func (l *loop) forget(c *lconn) {
	l.unplace(c)
	l.conns[c.fd] = nil
	l.mem.putBuf(c.in)
	l.mem.putBuf(c.out)
	if c.tls != nil {
		l.mem.putBuf(c.tls.in)
	}
	c.in, c.out, c.closed, c.tls = nil, nil, true, nil
	l.mem.putConn(c)
}

// close closes a connection that no exchange is on, or a listener.
func (l *loop) close(c *lconn) {
	if c.closed {
		return
	}
	p := c.p
	if t := c.tls; t != nil {
		if hs := t.hs; hs != nil {
			t.hs = nil
			hs.Abort()
		}
		l.farewell(c)
	}
	sysClose(c.fd)
	switch c.kind {
	case kindClient:
		l.forget(c)
		p.left()
	case kindTarget:
		if c.x == nil {
			l.unpool(c)
		}
		l.forget(c)
	case kindListener:
		l.forget(c)
		p.wg.Done()
	}
}

// cut closes a client's connection at once, with what is under way on it.
func (l *loop) cut(c *lconn) {
	if c.closed {
		return
	}
	if x := c.x; x != nil {
		l.dropTarget(x)
		l.release(x)
	}
	l.close(c)
}

func (l *loop) onClient(c *lconn, ev uint32) {
	if c.state == greeting {
		c.readable = c.readable || ev&^unix.EPOLLOUT != 0
		c.hup = c.hup || ev&(unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP) != 0
		l.greet(c)
		return
	}
	if ev&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if c.x != nil && c.state != flushing {
			l.gone(c.x)
		} else {
			l.cut(c)
		}
		return
	}
	if ev&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
		c.readable = true
	}
	if ev&unix.EPOLLRDHUP != 0 {
		c.hup = true
		if c.state == waiting {
			l.await(c)
		}
	}
	if ev&unix.EPOLLOUT != 0 && c.out != nil && !l.flush(c) {
		return
	}
	l.proceed(c)
}

// proceed does what the connection's state allows.
func (l *loop) proceed(c *lconn) {
	switch c.state {
	case atRest:
		if c.readable || c.in != nil {
			l.readHead(c)
		}
	case receiving:
		l.pumpBody(c.x)
	case lingering:
		l.linger(c)
	case greeting:
		l.greet(c)
	}
}

// recv reads from a client: the number of bytes, 0 if there are none now, -1 at the end or on an error.
func (l *loop) recv(c *lconn, b []byte) int {
	if !c.readable {
		return 0
	}
	if c.tls != nil {
		return l.recvTLS(c, b)
	}
	n := sysRead(c.fd, b, 0)
	switch {
	case n == wouldWait:
		c.readable = false
		return 0
	case n <= 0:
		return -1
	case n < len(b) && !c.hup: // with hup, the end follows and no event tells
		c.readable = false
	}
	return n
}

// readHead reads a request's head and begins its exchange.
func (l *loop) readHead(c *lconn) {
	for budget := readBudget; ; budget-- {
		if c.in == nil {
			// Nothing is at hand, so nothing need be copied if a whole head comes.
			b := l.rbuf[:readSize]
			n := l.recv(c, b)
			if n == 0 {
				return
			}
			if n < 0 {
				l.close(c)
				return
			}
			b = b[:n]
			at := 0
			if n >= 2 && b[0] == '\r' && b[1] == '\n' { // one empty line before a request is forgiven
				at = 2
			}
			var scan headScanner
			hn, err := 0, errMore
			if n >= 2 && at < n {
				hn, err = scan.scan(b[at:], maxRequestHead)
			}
			if err == nil {
				l.begin(c, b[at:at+hn], b[at+hn:], int64(n))
				return
			}
			if err != errMore {
				l.refuse(c, err, int64(n))
				return
			}
			in := l.mem.buf(n + 1)
			in.w = copy(in.b, b[at:])
			in.skipped = n >= 2
			in.scan = scan
			c.in = in
			l.arm(c, c.ln.table.Load().attrs.idle) // the whole head must come within the limit
			continue
		}
		in := c.in
		if !in.skipped && in.w-in.r >= 2 {
			if in.b[in.r] == '\r' && in.b[in.r+1] == '\n' {
				in.r += 2
			}
			in.skipped = true
		}
		if in.skipped && in.w > in.r {
			hn, err := in.scan.scan(in.b[in.r:in.w], maxRequestHead)
			if err == nil {
				from := in.r
				in.r += hn
				l.begin(c, in.b[from:in.r], in.b[in.r:in.w], 0)
				return
			}
			if err != errMore {
				l.refuse(c, err, 0)
				return
			}
		}
		if !c.readable {
			return
		}
		if budget <= 0 {
			l.later(c)
			return
		}
		n := l.recv(c, l.rbuf[:readSize])
		if n < 0 {
			l.close(c)
			return
		}
		if !l.room(c, n) {
			l.refuse(c, errHeaderTooLarge, 0)
			return
		}
		in = c.in
		in.w += copy(in.b[in.w:], l.rbuf[:n])
		if n == 0 {
			return
		}
	}
}

// room makes room for n bytes behind those at hand.
func (l *loop) room(c *lconn, n int) bool {
	in := c.in
	if in.w+n <= len(in.b) {
		return true
	}
	if in.w-in.r+n > bufSizes[len(bufSizes)-1]+readSize {
		return false
	}
	more := l.mem.buf(in.w - in.r + n)
	more.w = copy(more.b, in.b[in.r:in.w])
	more.scan, more.skipped = in.scan, in.skipped
	l.mem.putBuf(in)
	c.in = more
	return true
}

// begin handles a request: head is complete, rest has come behind it. got bytes were read for it now.
func (l *loop) begin(c *lconn, head, rest []byte, got int64) {
	p := c.p
	x := l.mem.exchange()
	c.x, x.c, x.l = x, c, l
	x.atHandBytes = rest
	lt := c.ln.table.Load()
	now := l.clock(p)
	err := x.request.parse(head)
	x.start(c, lt)
	x.received.Store(int64(len(head)))
	if err != nil {
		l.keepRest(c, head, rest) // it may hold the rest of what is refused
		l.refuse(c, err, 0)
		return
	}
	r := &x.request
	x.keep = r.keepAlive && !c.ln.closing.Load() && now.UnixNano()-c.born < int64(lt.attrs.keepAlive) && (lt.tls != nil) == (c.tls != nil)
	if r.host == nil {
		x.peerInfo.local = localAddr(c.fd).AppendTo(nil)
	}
	x.src.framing, x.src.left = noBody, 0
	x.src.dec.reset()
	switch {
	case r.chunked:
		x.src.framing = byChunks
	case r.length > 0:
		x.src.framing, x.src.left = byLength, r.length
	}
	if x.serve(now) {
		l.release(x)
		l.toGoroutine(c, append(append(make([]byte, 0, len(head)+len(rest)), head...), rest...), nil)
		return
	}
	l.keepRest(c, head, x.atHandBytes)
	if x.forwards {
		x.choice.t.inflight.Add(1)
		l.arm(c, lt.attrs.idle)
		l.send(x)
		return
	}
	l.finish(x)
}

// keepRest keeps what has been read beyond the request's part, for the next one.
func (l *loop) keepRest(c *lconn, head, rest []byte) {
	if c.in != nil {
		c.in.r = c.in.w - len(rest)
		c.in.scan, c.in.skipped = headScanner{}, false
		if len(rest) == 0 {
			l.mem.putBuf(c.in)
			c.in = nil
		}
		return
	}
	if len(rest) > 0 {
		c.in = l.mem.buf(len(rest))
		c.in.w = copy(c.in.b, rest)
	}
}

// refuse answers a request that can't be handled and ends the connection.
func (l *loop) refuse(c *lconn, err error, got int64) {
	x := c.x
	lt := c.ln.table.Load()
	if x == nil {
		x = l.mem.exchange()
		c.x, x.c, x.l = x, c, l
		x.start(c, lt)
		x.request.noBodyRead = false
	}
	if got > 0 {
		x.received.Store(got)
	}
	se, ok := errors.AsType[*statusError](err)
	if !ok {
		se = errBadHeader
	}
	if se.status == 400 {
		c.p.counters.inc(cDesync)
	}
	c.p.counters.elb(se.status)
	x.refusedFor(se, l.clock(c.p))
	x.own(errorAnswer(se.status), true)
	x.keep, x.linger = false, true
	l.finish(x)
}

// finish ends an exchange whose answer has been handed to the connection; the target's has been settled.
func (l *loop) finish(x *lexchange) {
	c := x.c
	cut, byEnd := x.cut, x.plan.framing == byClose
	keep, linger := x.keep, x.linger
	l.release(x)
	if cut {
		if byEnd {
			setReset(c.fd) // the client would take the part for the whole
		}
		c.abrupt = true
		l.close(c)
		return
	}
	c.ends, c.lingers = !keep, linger
	if c.out != nil {
		c.state = flushing
		limit := c.ln.table.Load().attrs.idle
		if c.ends {
			limit = min(limit, lastWriteTime)
		}
		l.arm(c, limit)
		return
	}
	l.goOn(c)
}

// goOn goes on after an answer has gone out whole.
func (l *loop) goOn(c *lconn) {
	switch {
	case c.ends && (c.lingers || l.unread(c)):
		c.state = lingering
		l.mem.putBuf(c.in)
		c.in = nil
		l.farewell(c)
		sysShutdownWrite(c.fd)
		c.born = 0 // counts what is dropped
		l.arm(c, lingerFor)
		l.later(c)
	case c.ends, c.in == nil && c.ln.closing.Load():
		l.close(c)
	default:
		c.state = atRest
		l.arm(c, c.ln.table.Load().attrs.idle)
		if c.readable || c.in != nil {
			l.later(c)
		}
	}
}

// unread tells whether a client has sent something that nobody will read.
func (l *loop) unread(c *lconn) bool {
	var b [1]byte
	return c.readable && !c.hup && sysRead(c.fd, b[:], unix.MSG_PEEK) > 0
}

// linger reads for a while what the client still sends: closing at once would reset the connection and could destroy the
// answer on its way.
func (l *loop) linger(c *lconn) {
	for range readBudget {
		n := l.recv(c, l.rbuf[:readSize])
		if n == 0 {
			return
		}
		if c.born += int64(n); n < 0 || c.born >= lingerBytes {
			l.close(c)
			return
		}
	}
	if c.readable {
		l.later(c)
	}
}

// putSoon has b written to a client at the end of the loop's round; nothing else waits to be.
func (l *loop) putSoon(c *lconn, b []byte) {
	if c.tls != nil {
		l.sbuf = c.tls.state.Seal(l.sbuf[:0], b)
		b = l.sbuf
	}
	c.out = l.mem.buf(len(b))
	c.out.w = copy(c.out.b, b)
	l.soon(c)
}

// put writes b to a connection, or keeps what it doesn't take now. It returns false if the connection is broken.
func (l *loop) put(c *lconn, b []byte) bool {
	if c.tls != nil {
		l.sbuf = c.tls.state.Seal(l.sbuf[:0], b)
		b = l.sbuf
	}
	if c.out == nil {
		n := sysWrite(c.fd, b)
		switch {
		case n == len(b):
			return true
		case n >= 0:
			b = b[n:]
		case n != wouldWait:
			return false
		}
		c.out = l.mem.buf(len(b))
		c.out.w = copy(c.out.b, b)
		return true
	}
	o := c.out
	if len(b) > len(o.b)-o.w {
		more := l.mem.buf(o.w - o.r + len(b))
		more.w = copy(more.b, o.b[o.r:o.w])
		l.mem.putBuf(o)
		o, c.out = more, more
	}
	o.w += copy(o.b[o.w:], b)
	return true
}

// write writes what waits; false if not all could be.
func (l *loop) write(c *lconn) (done, broken bool) {
	o := c.out
	n := sysWrite(c.fd, o.b[o.r:o.w])
	if n < 0 {
		return false, n != wouldWait
	}
	if o.r += n; o.r < o.w {
		return false, false
	}
	l.mem.putBuf(o)
	c.out = nil
	return true, false
}

// flush writes what waits for a client, and goes on when all is written. It returns false if it closed the connection.
func (l *loop) flush(c *lconn) bool {
	done, broken := l.write(c)
	if broken {
		if c.x != nil {
			l.gone(c.x)
		} else {
			l.close(c)
		}
		return false
	}
	if c.state != flushing || !c.ends {
		l.arm(c, c.ln.table.Load().attrs.idle)
	}
	if !done {
		return true
	}
	if c.state == flushing {
		l.goOn(c)
		return !c.closed
	}
	if x := c.x; x != nil && x.u != nil {
		l.pumpAnswer(x.u)
	}
	return !c.closed
}

// clientDue is called when a client connection's time is over, or when it has closed its side during an exchange.
func (l *loop) clientDue(c *lconn) {
	if c.due > l.now {
		if c.state == waiting && c.hup && !c.x.begun && hasLeft(c) {
			l.gone(c.x)
			return
		}
		if c.tls != nil && c.state == atRest {
			c.tls.state.Rest() // its ciphers are made anew when something comes
		}
		l.place(c, c.due)
		return
	}
	switch c.state {
	case atRest:
		if c.in != nil {
			l.refuse(c, errTimeout, 0)
		} else {
			l.close(c)
		}
	case receiving, waiting:
		l.tooLate(c.x)
	case greeting:
		l.greetingFailed(c)
	default:
		l.close(c)
	}
}
