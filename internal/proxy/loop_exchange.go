//go:build linux && (amd64 || arm64)

package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// lexchange is an exchange on a loop. It is also the client side of it.
type lexchange struct {
	exchange
	l        *loop
	c        *lconn
	u        *lconn // the connection to the target, once there is one
	request  request
	peerInfo peerInfo
	text     [64]byte

	src         bodySource // the request's body
	asrc        bodySource // the answer's
	atHandBytes []byte     // came with the head and is not used yet

	sent     int  // bytes of out that the target's connection has taken
	whole    bool // out holds the whole request
	resent   bool
	got      bool // something of the answer has arrived
	early    bool // the answer is complete, the request's body is not
	settles  bool // then: the target's connection may be kept
	interims int
	sentAt   time.Time
	tried    tries
}

// start prepares the exchange for a request.
func (x *lexchange) start(c *lconn, lt *listenerTable) {
	x.reset(c.p, lt, &x.request, &x.peerInfo, nil, x)
	x.shard = x.l.id
	if c.tls != nil {
		x.peerInfo = c.tls.peer
	} else {
		x.peerInfo = peerInfo{}
	}
	x.peerInfo.addr, x.peerInfo.born = c.addr, c.born
	x.peerInfo.text = c.addr.Addr().AppendTo(x.text[:0])
	x.out = x.out[:0]
	x.sent, x.whole, x.resent, x.got, x.early, x.settles, x.interims = 0, false, false, false, false, false, 0
	x.extra = x.extra[:0]
}

// The client's side, as the shared parts see it.

func (x *lexchange) body([]byte) (int, bool, error) { panic("proxy: a loop reads no body by itself") }
func (x *lexchange) trailer() []byte                { return x.src.dec.trailer }

func (x *lexchange) begin(*exchange, []byte, int, bool, []byte) error {
	panic("proxy: a loop passes answers on by itself")
}
func (x *lexchange) data(*exchange, []byte, int, bool, []byte) error {
	panic("proxy: a loop passes answers on by itself")
}

// toClient writes to the client.
func (x *lexchange) toClient(b []byte) error {
	if !x.l.put(x.c, b) {
		return unix.EPIPE
	}
	return nil
}

func (x *lexchange) own(o ownAnswer, closes bool) error {
	out := appendOwn(x.l.wbuf[:0], o, x.lt, x.req.noBodyRead, closes, x.l.clock(x.p))
	x.l.keepW(out)
	x.bytes.Add(int64(len(out)))
	return x.toClient(out)
}

func (x *lexchange) interim(resp *response) error {
	if x.req.minor == 0 {
		return nil
	}
	out := appendResponse(x.l.wbuf[:0], resp, responsePlan{}, x.lt, nil, time.Time{})
	x.l.keepW(out)
	return x.toClient(out)
}

func (x *lexchange) expectContinue() error { return x.toClient(continueLine) }

// keepW keeps the buffer that has grown.
func (l *loop) keepW(b []byte) {
	if cap(b) > cap(l.wbuf) && cap(b) <= 256<<10 {
		l.wbuf = b[:0]
	}
}

// atHand appends the body's bytes that have come with the head to dst, framed for the target.
func (x *lexchange) atHand(dst []byte) ([]byte, bool, error) {
	if x.src.framing == noBody {
		return dst, true, nil
	}
	b := x.atHandBytes
	data, used, end, err := x.src.decode(b)
	x.atHandBytes = b[used:]
	if err != nil {
		return dst, false, err
	}
	x.received.Add(int64(data))
	return appendBody(dst, b[:data], end, &x.src), end, nil
}

// release lets go of an exchange: it has ended.
func (l *loop) release(x *lexchange) {
	if x.forwards {
		x.choice.t.inflight.Add(-1)
	}
	x.account(l.id, l.clock(x.p))
	x.c.x = nil
	l.mem.putExchange(x)
}

// send sends the request over an idle connection to the chosen target, or a new one.
func (l *loop) send(x *lexchange) {
	x.whole = x.bodyEnd
	if x.bodyEnd {
		l.await(x.c)
	} else {
		x.c.state, x.copying = receiving, true
	}
	if !x.resent {
		if u := l.take(x.choice.t); u != nil {
			u.reused = true
			l.attach(x, u)
			l.soon(u)
			return
		}
	}
	l.connect(x)
}

// await begins to wait for the answer to a complete request.
func (l *loop) await(c *lconn) {
	c.state = waiting
	if c.hup { // look soon whether the client has left
		l.place(c, l.now+2*int64(tick))
	}
}

func (l *loop) attach(x *lexchange, u *lconn) {
	x.u, u.x = u, x
	u.state = carrying
	l.unplace(u)
}

// connect opens a connection to the chosen target.
func (l *loop) connect(x *lexchange) {
	t := x.choice.t
	fd, err := x.p.opt.Socket(t.numeric.Addr())
	if err != nil && Exhausted(err) && l.shed() {
		fd, err = x.p.opt.Socket(t.numeric.Addr())
	}
	if err != nil {
		l.unreachable(x, err)
		return
	}
	u := l.mem.conn()
	u.fd, u.kind, u.closed = int32(fd), kindTarget, false
	u.p, u.t = x.p, t
	setOption(u.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	setOption(u.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience/time.Millisecond))
	e := sysConnect(u.fd, t.numeric)
	if e == 0 {
		if err := l.add(u, edges); err != nil {
			e = unix.EMFILE
		}
	}
	if e != 0 {
		sysClose(u.fd)
		l.mem.putConn(u)
		l.unreachable(x, e)
		return
	}
	l.attach(x, u)
	u.state = connecting
	l.arm(x.c, dialTimeout)
}

// unreachable handles a target that can't be connected to: nothing was sent, so another one may have the request.
func (l *loop) unreachable(x *lexchange, err error) {
	x.choice.unconnected(x.p, err)
	if x.tried.next(&x.choice, l.clock(x.p)) {
		l.send(x)
		return
	}
	x.fail(502)
	l.finish(x)
}

// transmit writes the request as far as it is in out.
func (l *loop) transmit(x *lexchange) {
	u := x.u
	if x.sent == 0 {
		x.sentAt = l.clock(x.p)
	}
	n := sysWrite(u.fd, x.out[x.sent:])
	if n < 0 && n != wouldWait {
		x.writeFailed(n)
		return
	}
	if n > 0 {
		x.sent += n
		l.arm(x.c, x.lt.attrs.idle)
	}
	if x.sent < len(x.out) {
		return
	}
	if x.c.state == receiving {
		if !u.calm {
			u.calm = true
			setOption(u.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0)
		}
		l.pumpBody(x)
	}
}

// writeFailed handles a connection to the target that doesn't take the request.
func (x *lexchange) writeFailed(n int) {
	l, u := x.l, x.u
	if x.mayResend() && (x.sent == 0 || x.whole && x.req.idempotent) {
		l.resend(x)
		return
	}
	if x.whole && l.elsewhere(x) {
		return
	}
	if e := unix.Errno(-n); x.bodyEnd || e != unix.EPIPE && e != unix.ECONNRESET {
		l.lost(x, 502)
		return
	}
	// The target may have answered before it closed: what it sent is read, the rest of the request isn't sent.
	x.keep, x.linger = false, true
	x.c.state = waiting
	u.readable, u.hup = true, true
	l.later(u)
}

// mayResend tells whether the connection may have been stale.
func (x *lexchange) mayResend() bool {
	return x.u.reused && !x.resent && !x.got && (x.whole || x.sent == 0)
}

func (l *loop) resend(x *lexchange) {
	l.dropTarget(x)
	x.resent, x.sent = true, 0
	l.send(x)
}

// elsewhere sends the request to another target, if that is harmless: the one that has it is gone.
func (l *loop) elsewhere(x *lexchange) bool {
	if x.got || !x.whole || !x.tried.move(x.req, &x.choice, l.clock(x.p)) {
		return false
	}
	x.resent = false
	l.dropTarget(x)
	x.sent = 0
	l.send(x)
	return true
}

// dropTarget closes the connection to the target.
func (l *loop) dropTarget(x *lexchange) {
	if u := x.u; u != nil {
		x.u = nil
		l.close(u)
		u.x = nil
	}
}

// pumpBody passes on the request's body as it comes.
func (l *loop) pumpBody(x *lexchange) {
	c, u := x.c, x.u
	for budget := readBudget; u != nil && u.state == carrying && u.out == nil && x.sent == len(x.out); budget-- {
		if budget == 0 {
			l.later(c)
			return
		}
		space := l.rbuf[chunkRoom:readSize]
		if x.src.framing == byLength && int64(len(space)) > x.src.left && c.tls == nil {
			space = space[:x.src.left]
		}
		got := l.recv(c, space)
		if got == 0 {
			return
		}
		if got < 0 {
			l.bodyFailed(x, 400) // the client ended its body early; it may still be reading
			return
		}
		n, used, end, err := x.src.decode(space[:got])
		if err != nil {
			status := 400
			if se, ok := err.(*statusError); ok {
				status = se.status
			}
			l.bodyFailed(x, status)
			return
		}
		if used < got { // the next request's
			c.in = l.mem.buf(got - used)
			c.in.w = copy(c.in.b, space[used:got])
		}
		if !x.early {
			l.arm(c, x.lt.attrs.idle)
		}
		x.received.Add(int64(n))
		if b := frame(l.rbuf, n, end, x.req.chunked, x.src.dec.trailer); len(b) > 0 && !l.put(u, b) {
			// The target's answer, if there is one, says why.
			x.keep, x.linger = false, true
			c.state = waiting
			if x.early {
				l.settle(x)
				return
			}
			u.readable, u.hup = true, true
			l.later(u)
			return
		}
		if end {
			x.bodyEnd, x.copying = true, false
			l.await(c)
			if x.early {
				l.settle(x)
			}
			return
		}
	}
}

// bodyFailed handles a request body that is wrong or ended early.
func (l *loop) bodyFailed(x *lexchange, status int) {
	l.dropTarget(x) // it must not take the body for complete
	switch {
	case x.early:
		x.keep, x.linger = false, true
	default:
		x.linger = true
		x.fail(status)
	}
	l.finish(x)
}

func (l *loop) onTarget(u *lconn, ev uint32) {
	x := u.x
	const ended = unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLRDHUP
	if x == nil { // idle: whatever comes makes it useless
		if ev&(ended|unix.EPOLLIN) != 0 {
			l.close(u)
		}
		return
	}
	if u.state == connecting {
		if ev&(unix.EPOLLERR|unix.EPOLLHUP) != 0 || ev&unix.EPOLLOUT != 0 && connectResult(u.fd) != 0 {
			l.dropTarget(x)
			l.unreachable(x, unix.ECONNREFUSED)
			return
		}
		if ev&unix.EPOLLOUT == 0 {
			return
		}
		u.state = carrying
	}
	if ev&(ended|unix.EPOLLIN) != 0 {
		u.readable = true
		u.hup = u.hup || ev&ended != 0
	}
	if ev&unix.EPOLLOUT != 0 {
		switch {
		case x.sent < len(x.out):
			l.transmit(x)
		case u.out != nil:
			done, broken := l.write(u)
			if broken {
				u.readable, u.hup = true, true // the target's answer, if there is one, says why
				x.keep, x.linger = false, true
				x.c.state = waiting
				l.mem.putBuf(u.out)
				u.out = nil
			} else {
				if !x.early {
					l.arm(x.c, x.lt.attrs.idle)
				}
				if done && x.c.state == receiving {
					l.pumpBody(x)
				}
			}
		}
	}
	if u.x == x && !u.closed && u.readable {
		l.pumpAnswer(u)
	}
}

// pumpAnswer passes on the target's answer as it comes.
func (l *loop) pumpAnswer(u *lconn) {
	x := u.x
	if x == nil || x.early {
		if x != nil && u.hup { // it has answered, and closed before it had the whole body
			l.settle(x)
		}
		return
	}
	c := x.c
	for budget := readBudget; u.readable && c.out == nil; budget-- {
		if budget == 0 {
			l.later(u)
			return
		}
		from := headRoom
		at := from
		if u.in != nil {
			at += copy(l.rbuf[from:], u.in.b[u.in.r:u.in.w])
			l.mem.putBuf(u.in)
			u.in = nil
		}
		space := l.rbuf[at : headRoom+readSize]
		n := sysRead(u.fd, space, 0)
		if n == wouldWait {
			u.readable = false
			l.stash(u, l.rbuf[from:at])
			return
		}
		if n <= 0 {
			l.ended(x, n)
			return
		}
		if n < len(space) && !u.hup {
			u.readable = false
		}
		x.got = true
		l.arm(c, x.lt.attrs.idle)
		b := l.rbuf[from : at+n]
		if !x.begun {
			skip, ok := l.answerHead(x, b)
			if !ok {
				return
			}
			if skip < 0 {
				continue
			}
			from += skip
			b = b[skip:]
		}
		if !l.passOn(x, from, len(b)) {
			return
		}
	}
}

// stash keeps a part of an answer's head.
func (l *loop) stash(u *lconn, b []byte) {
	if len(b) > 0 {
		u.in = l.mem.buf(len(b))
		u.in.w = copy(u.in.b, b)
	}
}

// answerHead reads the answer's head at the beginning of b, and the interim ones before it. It returns where the body
// begins, or -1 if more must come; false if the exchange has ended.
func (l *loop) answerHead(x *lexchange, b []byte) (int, bool) {
	used := 0
	for {
		n, err := x.nextHead(b[used:])
		if err == errMore && len(b)-used <= maxResponseHead {
			l.stash(x.u, b[used:])
			return -1, true
		}
		if err != nil {
			l.lost(x, 502)
			return 0, false
		}
		used += n
		s := x.resp.status
		if s/100 != 1 {
			x.answered(x.sentAt, l.clock(x.p))
			x.asrc.begin(x.source())
			return used, true
		}
		if x.interims++; s == 101 || x.interims > maxInterim {
			l.lost(x, 502)
			return 0, false
		}
		if s != 100 { // the client has had its 100, if it wanted one
			if x.interim(&x.resp) != nil {
				l.gone(x)
				return 0, false
			}
		}
	}
}

// passOn passes n bytes of the answer's body at rbuf[from:] on, behind its head if that has not gone out. It returns false
// when the exchange has ended.
func (l *loop) passOn(x *lexchange, from, n int) bool {
	data, used, end, err := x.asrc.decode(l.rbuf[from : from+n])
	extra := used < n
	if err != nil {
		l.lost(x, 502)
		return false
	}
	return l.deliver(x, from, data, end, extra)
}

// deliver sends data at rbuf[from:] to the client.
func (l *loop) deliver(x *lexchange, from, n int, end, extra bool) bool {
	to := from + n
	var head []byte
	if !x.begun { // made before the body is framed, which happens where the target's head stands
		head = appendResponse(l.wbuf[:0], &x.resp, x.plan, x.lt, x.extra, l.clock(x.p))
		l.keepW(head)
	}
	switch x.plan.framing {
	case noBody:
		to = from
	case byChunks:
		if n > 0 {
			l.rbuf[from-2], l.rbuf[from-1] = '\r', '\n'
			from -= 2
			for v := n; v > 0; v >>= 4 {
				from--
				l.rbuf[from] = "0123456789abcdef"[v&15]
			}
			l.rbuf[to], l.rbuf[to+1] = '\r', '\n'
			to += 2
		}
		if end {
			to += copy(l.rbuf[to:], "0\r\n")
			to += copy(l.rbuf[to:], x.asrc.dec.trailer)
			to += copy(l.rbuf[to:], "\r\n")
		}
	}
	ok, sent := true, n
	if !x.begun {
		x.begun = true
		sent += len(head)
		if len(head) <= from {
			from -= len(head)
			copy(l.rbuf[from:], head)
		} else {
			ok = l.put(x.c, head)
		}
	}
	x.bytes.Add(int64(sent))
	if ok && from < to {
		if b := l.rbuf[from:to]; end && len(b) <= sendSoon && x.c.out == nil {
			l.putSoon(x.c, b)
		} else {
			ok = l.put(x.c, b)
		}
	}
	if !ok {
		l.gone(x)
		return false
	}
	if !end {
		return true
	}
	x.settles = !extra && x.resp.keepAlive && x.asrc.framing != byClose && !x.req.closes
	if x.plan.close {
		x.keep = false
	}
	if x.copying && x.c.state == receiving && !x.u.hup {
		// The target has answered without reading the whole body: it may still come.
		x.early = true
		l.arm(x.c, earlyPatience)
		l.pumpBody(x)
		return false
	}
	l.settle(x)
	return false
}

// settle ends a complete answer: the connection to the target is kept if it is clean.
func (l *loop) settle(x *lexchange) {
	u := x.u
	if x.copying {
		x.keep, x.linger = false, true
		x.settles = false
	}
	if x.settles && u.out == nil && x.sent == len(x.out) && !u.hup && !u.t.removed.Load() {
		if u.readable {
			var b [1]byte
			if sysRead(u.fd, b[:], unix.MSG_PEEK) != wouldWait {
				l.dropTarget(x)
				l.finish(x)
				return
			}
			u.readable = false
		}
		x.u, u.x = nil, nil
		l.give(u, x.lt.attrs.idle)
	} else {
		l.dropTarget(x)
	}
	l.finish(x)
}

// ended handles the end of what the target sends, or an error.
func (l *loop) ended(x *lexchange, n int) {
	if n == 0 && x.begun && x.asrc.framing == byClose {
		l.deliver(x, headRoom, 0, true, true)
		return
	}
	if !x.begun && x.mayResend() && x.whole && x.req.idempotent {
		l.resend(x)
		return
	}
	if !l.elsewhere(x) {
		l.lost(x, 502)
	}
}

// lost handles a connection to the target that broke, or whose answer must not be passed on.
func (l *loop) lost(x *lexchange, status int) {
	if x.begun && !x.early && status == 502 && x.asrc.framing == byLength {
		x.p.counters.elb(504) // shorter than announced
	}
	l.dropTarget(x)
	x.fail(status)
	l.finish(x)
}

// gone handles a client that has left or can't be written to.
func (l *loop) gone(x *lexchange) {
	if !x.begun {
		if x.c.state == receiving {
			x.p.counters.elb(400)
			x.entry.status = 400
		} else {
			x.p.counters.elb(460)
			x.entry.status = 460
		}
	}
	x.cut, x.keep = true, false
	l.dropTarget(x)
	l.finish(x)
}

// tooLate handles an exchange without progress.
func (l *loop) tooLate(x *lexchange) {
	switch {
	case x.early:
		l.settle(x)
	case x.begun:
		x.cut = true
		l.lost(x, 504)
	case x.c.state == receiving && x.u.state == carrying && x.u.out == nil && x.sent == len(x.out): // it was waiting for the client
		l.dropTarget(x)
		x.fail(408)
		l.finish(x)
	default:
		if x.u.state == connecting {
			x.choice.unconnected(x.p, unix.ETIMEDOUT)
		}
		l.lost(x, 504)
	}
}

// Idle connections to targets.

// take returns an idle connection that is still good, or nil.
func (l *loop) take(t *target) *lconn {
	p := &t.pools[l.id]
	for {
		n := len(p.idle)
		if n == 0 {
			return nil
		}
		u := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		if l.now-u.born < int64(peekAfter) {
			return u
		}
		var b [1]byte
		if sysRead(u.fd, b[:], unix.MSG_PEEK) == wouldWait {
			return u
		}
		l.close(u)
	}
}

// give keeps a connection for the next request.
func (l *loop) give(u *lconn, limit time.Duration) {
	if u.calm {
		u.calm = false
		setOption(u.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience/time.Millisecond))
	}
	p := &u.t.pools[l.id]
	if len(p.idle) >= maxIdleOfLoop {
		l.close(u)
		return
	}
	u.born = l.now
	l.mem.putBuf(u.in)
	u.in = nil
	p.idle = append(p.idle, u)
	l.arm(u, limit)
}

// shed closes the idle connections to targets, when descriptors have run out, and tells whether there were any.
func (l *loop) shed() (any bool) {
	if l.now-l.shedAt < int64(tick) && l.shedAt > 0 {
		return false // looking through all connections is dear
	}
	l.shedAt = l.now
	for _, u := range l.conns {
		if u != nil && u.kind == kindTarget && u.x == nil {
			l.close(u)
			any = true
		}
	}
	return any
}

// unpool takes a connection from the idle ones, if it is among them.
func (l *loop) unpool(u *lconn) {
	p := &u.t.pools[l.id]
	for i, x := range p.idle {
		if x == u {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}
