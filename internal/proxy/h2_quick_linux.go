//go:build linux && (amd64 || arm64)

package proxy

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// h2fast carries those exchanges of a connection that need no goroutine: requests without a body that are answered here or
// by a target that speaks HTTP/1.1 in the clear. The connection's goroutine owns it, under the connection's mu.
type h2fast struct {
	c     *h2conn
	ep    int
	now   time.Time // of this batch of events
	ups   []*h2up   // by slot
	free  []int32   // slots
	freed []int32   // in this batch: events of their last owners may still be around
	idle  map[*target][]*h2up
	ready []uint32 // streams that may go on though no event came
	next  []uint32
	buf   *buffer // what is read
	req   []byte  // what is sent to a target
	block []byte  // header block
}

// h2up is a connection to a target.
type h2up struct {
	fd         int32
	slot       int32
	t          *target
	s          *h2stream // nil: idle
	rest       time.Time // when it became idle
	connecting bool
	reused     bool
	readable   bool
	hup        bool
}

// quick is what h2fast keeps of a stream.
type quick struct {
	u        *h2up
	out      []byte // of the request: what the target's connection has not taken yet
	sentAt   time.Time
	last     int64 // tick of the latest progress
	resent   bool
	got      bool // something of the answer has arrived
	queued   bool
	ends     bool // data is the answer's last
	interims int
	src      bodySource // of the answer
	in       *buffer    // holds part, or data
	part     int        // length of the beginning of a head
	data     []byte     // what the client hasn't taken yet, in in or of an answer of our own
	tried    tries
}

func (f *h2fast) init(c *h2conn, ep int) {
	f.c, f.ep = c, ep
}

// gather begins a batch of events.
func (f *h2fast) gather() {
	f.now = f.c.p.opt.Clock()
	f.free = append(f.free, f.freed...)
	f.freed = f.freed[:0]
}

// serve carries out the exchange of a parsed request, unless it needs a goroutine.
func (f *h2fast) serve(s *h2stream, now time.Time) (handover bool) {
	f.prepare(s)
	s.x.loop = true
	s.x.out = f.req[:0]
	if s.x.serve(now) {
		s.x.loop, s.x.out = false, nil
		return true
	}
	if !s.x.forwards {
		f.finish(s)
		return false
	}
	f.req = s.x.out[:0]
	s.x.choice.t.inflight.Add(1)
	f.send(s, now)
	return false
}

func (f *h2fast) prepare(s *h2stream) {
	src := s.quick.src
	src.dec.reset()
	s.quick = quick{out: s.quick.out[:0], src: src, last: f.c.p.ticks.Load()}
}

// send sends the request in x.out.
func (f *h2fast) send(s *h2stream, now time.Time) {
	q := &s.quick
	q.sentAt = now
	if !q.resent {
		if u := f.take(s.x.choice.t, now); u != nil {
			u.s, q.u = s, u
			n := sysWrite(u.fd, s.x.out)
			switch {
			case n == len(s.x.out):
				s.x.out = nil
				return
			case n >= 0 || n == wouldWait:
				q.out = append(q.out[:0], s.x.out[max(n, 0):]...)
				s.x.out = nil
				return
			}
			f.drop(s) // stale
			q.resent = true
		}
	}
	q.out = append(q.out[:0], s.x.out...)
	s.x.out = nil
	f.connect(s)
}

// connect opens a connection to the chosen target; what is to be sent is in out.
func (f *h2fast) connect(s *h2stream) {
	t := s.x.choice.t
	fd, err := f.c.p.opt.Socket(t.numeric.Addr())
	if err != nil {
		f.unreachable(s, err)
		return
	}
	u := &h2up{fd: int32(fd), t: t, connecting: true}
	setOption(u.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	setOption(u.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience/time.Millisecond))
	f.place(u)
	u.s, s.quick.u = s, u
	e := sysConnect(u.fd, t.numeric)
	if e == 0 && epollAdd(f.ep, u.fd, u.slot, edges) != nil {
		e = unix.EMFILE
	}
	if e != 0 {
		f.drop(s)
		f.unreachable(s, e)
	}
}

// place gives a connection its slot.
func (f *h2fast) place(u *h2up) {
	if n := len(f.free); n > 0 {
		u.slot, f.free = f.free[n-1], f.free[:n-1]
	} else {
		u.slot = int32(len(f.ups))
		f.ups = append(f.ups, nil)
	}
	f.ups[u.slot] = u
}

// unreachable handles a target that can't be connected to: nothing was sent, so another one may have the request.
func (f *h2fast) unreachable(s *h2stream, err error) {
	q, ch := &s.quick, &s.x.choice
	ch.unconnected(f.c.p, err)
	if now := f.c.p.opt.Clock(); q.tried.next(ch, now) {
		s.x.out = append(f.req[:0], q.out...)
		f.send(s, now)
		return
	}
	s.x.fail(502)
	f.finish(s)
}

// event handles an event of a connection to a target.
func (f *h2fast) event(e *unix.EpollEvent) {
	if int(e.Pad) >= len(f.ups) {
		return
	}
	u := f.ups[e.Pad]
	if u == nil || u.fd != e.Fd {
		return
	}
	const ended = unix.EPOLLERR | unix.EPOLLHUP | unix.EPOLLRDHUP
	s := u.s
	if s == nil { // idle: whatever comes makes it useless
		if e.Events&(ended|unix.EPOLLIN) != 0 {
			f.unpool(u)
			f.close(u)
		}
		return
	}
	if u.connecting {
		if e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 || e.Events&unix.EPOLLOUT != 0 && connectResult(u.fd) != 0 {
			f.drop(s)
			f.unreachable(s, unix.ECONNREFUSED)
			return
		}
		if e.Events&unix.EPOLLOUT == 0 {
			return
		}
		u.connecting = false
		s.quick.sentAt = f.now
	}
	if e.Events&(ended|unix.EPOLLIN) != 0 {
		u.readable = true
		u.hup = u.hup || e.Events&ended != 0
	}
	if q := &s.quick; e.Events&unix.EPOLLOUT != 0 && len(q.out) > 0 {
		n := sysWrite(u.fd, q.out)
		if n < 0 && n != wouldWait {
			u.readable, u.hup = true, true // the target's answer, if there is one, says why
			n = len(q.out)
		}
		q.out = q.out[:copy(q.out, q.out[max(n, 0):])]
		q.last = f.c.p.ticks.Load()
	}
	if u.readable {
		f.pump(s)
	}
}

// pump passes the target's answer on as it comes.
func (f *h2fast) pump(s *h2stream) {
	q, x, u := &s.quick, &s.x, s.quick.u
	for u.readable && len(q.data) == 0 { // the client takes what there is first
		if f.buf == nil {
			f.buf = buffers.Get().(*buffer)
		}
		b := f.buf.b
		at := 0
		if q.in != nil {
			at = copy(b, q.in.b[:q.part])
			f.release(q)
		}
		n := sysRead(u.fd, b[at:], 0)
		if n == wouldWait {
			u.readable = false
			f.stash(q, b[:at])
			return
		}
		if n <= 0 {
			f.ended(s, n)
			return
		}
		if at+n < len(b) && !u.hup {
			u.readable = false
		}
		q.got = true
		q.last = f.c.p.ticks.Load()
		b = b[:at+n]
		if !x.begun {
			skip, ok := f.answerHead(s, b)
			if !ok {
				return
			}
			if skip < 0 {
				continue
			}
			b = b[skip:]
		}
		data, used, end, err := q.src.decode(b)
		if err != nil {
			f.lost(s, 502)
			return
		}
		if !f.deliver(s, b[:data], end, used < len(b)) {
			return
		}
	}
}

// stash keeps a part of an answer's head.
func (f *h2fast) stash(q *quick, b []byte) {
	if len(b) > 0 {
		q.in = buffers.Get().(*buffer)
		q.part = copy(q.in.b, b)
	}
}

func (f *h2fast) release(q *quick) {
	if q.in != nil {
		buffers.Put(q.in)
		q.in, q.part = nil, 0
	}
}

// answerHead reads the answer's head at the beginning of b, and the interim ones before it. It returns where the body
// begins, or -1 if more must come; false if the exchange has ended.
func (f *h2fast) answerHead(s *h2stream, b []byte) (int, bool) {
	q, x := &s.quick, &s.x
	used := 0
	for {
		n, err := x.nextHead(b[used:])
		if err == errMore && len(b)-used < min(maxResponseHead, len(f.buf.b)) {
			f.stash(q, b[used:])
			return -1, true
		}
		if err != nil {
			f.lost(s, 502)
			return 0, false
		}
		used += n
		st := x.resp.status
		if st/100 != 1 {
			x.answered(q.sentAt, f.now)
			q.src.begin(x.source())
			return used, true
		}
		if q.interims++; st == 101 || q.interims > maxInterim {
			f.lost(s, 502)
			return 0, false
		}
		if st != 100 {
			f.block = appendStreamResponse(f.block[:0], &x.resp, responsePlan{}, s.lt, nil, nil)
			s.headers(f.block, false)
		}
	}
}

// deliver sends data to the client, behind the answer's head if that has not gone out. It returns false when the exchange has
// ended or the client must take something first.
func (f *h2fast) deliver(s *h2stream, data []byte, end, extra bool) bool {
	q, x := &s.quick, &s.x
	if end {
		f.settle(s, !extra && x.resp.keepAlive && q.src.framing != byClose && !x.req.closes)
	}
	trailer := q.src.dec.trailer
	if !x.begun {
		x.begun = true
		empty := x.plan.framing == noBody || end && len(data) == 0 && len(trailer) == 0
		f.block = appendStreamResponse(f.block[:0], &x.resp, x.plan, s.lt, x.extra, s.dateAt(f.now))
		s.headers(f.block, empty)
		x.bytes.Add(int64(len(f.block)))
		if empty {
			f.finish(s)
			return false
		}
	}
	x.bytes.Add(int64(len(data)))
	q.ends = end
	if n := s.push(data, end && len(trailer) == 0); n < len(data) {
		q.in, f.buf = f.buf, nil
		q.data = data[n:]
		return false
	}
	if end {
		f.complete(s)
	}
	return !end
}

// complete ends an answer whose data have all gone out.
func (f *h2fast) complete(s *h2stream) {
	if t := s.quick.src.dec.trailer; len(t) > 0 && !s.done {
		f.block = appendLines(f.block[:0], t)
		s.headers(f.block, true)
	}
	f.finish(s)
}

// settle ends the target's part of a complete answer: the connection is kept if it is clean.
func (f *h2fast) settle(s *h2stream, reusable bool) {
	u := s.quick.u
	if u == nil {
		return
	}
	if reusable && len(s.quick.out) == 0 && !u.hup && !u.t.removed.Load() {
		if u.readable {
			var b [1]byte
			if sysRead(u.fd, b[:], unix.MSG_PEEK) != wouldWait {
				f.drop(s)
				return
			}
			u.readable = false
		}
		s.quick.u, u.s = nil, nil
		u.rest = f.now
		if f.idle == nil {
			f.idle = map[*target][]*h2up{}
		}
		f.idle[u.t] = append(f.idle[u.t], u)
		return
	}
	f.drop(s)
}

// ended handles the end of what the target sends, or an error.
func (f *h2fast) ended(s *h2stream, n int) {
	q, x := &s.quick, &s.x
	if n == 0 && x.begun && q.src.framing == byClose {
		f.deliver(s, nil, true, true)
		return
	}
	if !x.begun && q.u.reused && !q.resent && !q.got && x.req.idempotent {
		f.drop(s)
		q.resent = true
		f.sendAgain(s)
		return
	}
	if !f.elsewhere(s) {
		f.lost(s, 502)
	}
}

func (f *h2fast) sendAgain(s *h2stream) {
	now := f.c.p.opt.Clock()
	s.x.out = appendRequest(f.req[:0], s.x.req, s.x.lt, s.x.peer, now)
	f.send(s, now)
}

// elsewhere sends the request to another target, if that is harmless: the one that has it is gone.
func (f *h2fast) elsewhere(s *h2stream) bool {
	q := &s.quick
	if q.got || !q.tried.move(s.x.req, &s.x.choice, f.c.p.opt.Clock()) {
		return false
	}
	f.drop(s)
	q.resent = false
	f.sendAgain(s)
	return true
}

// lost handles a connection to the target that broke, or whose answer must not be passed on.
func (f *h2fast) lost(s *h2stream, status int) {
	if s.x.begun && status == 502 && s.quick.src.framing == byLength {
		f.c.p.counters.elb(504) // shorter than announced
	}
	f.drop(s)
	s.x.fail(status)
	f.finish(s)
}

// left handles a client that has reset the stream, or is gone.
func (f *h2fast) left(s *h2stream) {
	if !s.x.begun {
		f.c.p.counters.elb(460)
		s.x.entry.status = 460
	}
	s.x.cut = true
	f.finish(s)
}

// own sends an answer that the load balancer makes itself.
func (f *h2fast) own(s *h2stream, o ownAnswer, body []byte) {
	f.block = appendStreamOwn(f.block[:0], o, s.lt, s.dateAt(f.c.p.opt.Clock()))
	s.headers(f.block, len(body) == 0)
	s.x.bytes.Add(int64(len(f.block) + len(body)))
	if len(body) > 0 {
		s.quick.ends = true
		s.quick.data = body[s.push(body, true):]
	}
}

// finish lets go of the stream when its exchange has ended and the client has what it is to get.
func (f *h2fast) finish(s *h2stream) {
	q := &s.quick
	if len(q.data) > 0 && !s.gone && !s.x.cut {
		return
	}
	f.drop(s)
	f.release(q)
	q.data = nil
	if s.x.forwards {
		s.x.choice.t.inflight.Add(-1)
	}
	s.end()
	streamPool.Put(s)
}

// again has the stream go on if it waits for the client.
func (f *h2fast) again(s *h2stream) {
	if len(s.quick.data) > 0 && !s.quick.queued {
		s.quick.queued = true
		f.ready = append(f.ready, s.id)
	}
}

// resume goes on with the streams that wait for the client.
func (f *h2fast) resume() {
	if len(f.ready) > 0 {
		f.ready, f.next = f.next[:0], f.ready
		for _, id := range f.next {
			if s := f.c.streams[id]; s != nil && !s.slow {
				s.quick.queued = false
				f.proceed(s)
			}
		}
	}
	if f.buf != nil {
		buffers.Put(f.buf)
		f.buf = nil
	}
}

func (f *h2fast) proceed(s *h2stream) {
	q := &s.quick
	n := s.push(q.data, q.ends && len(q.src.dec.trailer) == 0)
	if q.data = q.data[n:]; n > 0 {
		q.last = f.c.p.ticks.Load()
	}
	if len(q.data) > 0 {
		return
	}
	q.data = nil
	f.release(q)
	switch {
	case q.ends:
		f.complete(s)
	case q.u != nil && q.u.readable:
		f.pump(s)
	}
}

// look ends the exchanges whose time is over.
func (f *h2fast) look(now int64) {
	for _, s := range f.c.streams {
		if s.slow {
			continue
		}
		q := &s.quick
		wait := now - q.last
		switch {
		case q.u != nil && q.u.t.removed.Load():
			if !f.elsewhere(s) {
				f.lost(s, 502)
			}
		case q.u != nil && q.u.connecting && wait > int64(dialTimeout):
			s.x.choice.unconnected(f.c.p, unix.ETIMEDOUT)
			f.lost(s, 504)
		case wait > int64(s.lt.attrs.idle)+int64(tick):
			s.x.cut = s.x.begun
			f.lost(s, 504)
		}
	}
	f.prune()
}

// h2Rest is how long a connection keeps idle connections to targets for itself.
const h2Rest = 10 * time.Second

// prune closes connections that have not been used for some time, or must not be used.
func (f *h2fast) prune() {
	now := f.c.p.opt.Clock()
	for t, us := range f.idle {
		n := 0
		for n < len(us) && (now.Sub(us[n].rest) > h2Rest || t.removed.Load() || !t.healthy.Load()) {
			f.close(us[n])
			n++
		}
		if us = append(us[:0], us[n:]...); len(us) == 0 {
			delete(f.idle, t)
		} else {
			f.idle[t] = us
		}
	}
}

// take returns an idle connection that is still good, or nil.
func (f *h2fast) take(t *target, now time.Time) *h2up {
	us := f.idle[t]
	for n := len(us); n > 0; n = len(us) {
		u := us[n-1]
		us = us[:n-1]
		f.idle[t] = us
		if now.Sub(u.rest) >= peekAfter {
			var b [1]byte
			if sysRead(u.fd, b[:], unix.MSG_PEEK) != wouldWait {
				f.close(u)
				continue
			}
		}
		u.reused = true
		return u
	}
	fd := t.spares.take(now)
	if fd < 0 {
		return nil
	}
	u := &h2up{fd: fd, t: t, reused: true}
	f.place(u)
	if epollAdd(f.ep, u.fd, u.slot, edges) != nil {
		f.close(u)
		return nil
	}
	return u
}

// holds tells whether there are idle connections.
func (f *h2fast) holds() bool { return len(f.idle) > 0 }

// giveBack leaves the idle connections to whoever needs some next.
func (f *h2fast) giveBack() {
	for t, us := range f.idle {
		for _, u := range us {
			epollDelete(f.ep, u.fd)
			t.spares.give(t, u.fd, u.rest)
			f.forget(u)
		}
	}
	f.idle = nil
}

// rest gives back what only a busy connection needs.
func (f *h2fast) rest() {
	f.ups, f.free, f.freed, f.ready, f.next = nil, nil, nil, nil, nil
	f.req, f.block = nil, nil
}

// spares are idle connections to a target that clients' HTTP/2 connections leave to each other. Safe for concurrent use.
type spares struct {
	mu   sync.Mutex
	list []spare
}

type spare struct {
	fd   int32
	rest time.Time
}

func (s *spares) give(t *target, fd int32, rest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) >= maxIdleTargets || t.gone.Load() || t.removed.Load() || !t.healthy.Load() {
		sysClose(fd)
		return
	}
	s.list = append(s.list, spare{fd, rest})
}

// take returns a connection that is still good, or -1.
func (s *spares) take(now time.Time) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(s.list); n > 0; n = len(s.list) {
		fd := s.list[n-1].fd
		s.list = s.list[:n-1]
		var b [1]byte
		if sysRead(fd, b[:], unix.MSG_PEEK) == wouldWait {
			return fd
		}
		sysClose(fd)
	}
	return -1
}

// expire closes those that have rested for longer than d.
func (s *spares) expire(now time.Time, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(x spare) bool {
		if now.Sub(x.rest) <= d {
			return false
		}
		sysClose(x.fd)
		return true
	})
}

func (f *h2fast) unpool(u *h2up) {
	us := f.idle[u.t]
	for i := range us {
		if us[i] == u {
			f.idle[u.t] = append(us[:i], us[i+1:]...)
			return
		}
	}
}

// drop closes the stream's connection to its target.
func (f *h2fast) drop(s *h2stream) {
	if u := s.quick.u; u != nil {
		s.quick.u, u.s = nil, nil
		f.close(u)
	}
}

func (f *h2fast) close(u *h2up) {
	sysClose(u.fd)
	f.forget(u)
}

func (f *h2fast) forget(u *h2up) {
	f.ups[u.slot] = nil
	f.freed = append(f.freed, u.slot)
}

// end lets go of everything.
func (f *h2fast) end() {
	f.giveBack()
	if f.buf != nil {
		buffers.Put(f.buf)
		f.buf = nil
	}
}
