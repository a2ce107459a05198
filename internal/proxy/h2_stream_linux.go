//go:build linux && (amd64 || arm64)

package proxy

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// h2stream is the client side of an exchange on a stream. What the connection needs of it is guarded by the connection's mu.
type h2stream struct {
	c  *h2conn
	id uint32
	lt *listenerTable

	sendWindow int64
	recvWindow int64
	recvDebt   int64
	ended      bool  // the client has sent all
	done       bool  // we have sent all
	gone       bool  // the connection knows it no more
	broken     bool  // the client broke the protocol
	declared   int64 // content-length, -1 without
	got        int64

	head []byte
	req  request
	x    exchange
	wt   watch
	date []byte

	// Of a stream with a goroutine.
	slow     bool
	canRead  chan struct{} // wakes who waits for the client's bytes
	canWrite chan struct{} // wakes who waits for the client to take some
	stopped  atomic.Bool
	pend     []byte // of the request's body: what has arrived and is not used is pend[used:]
	used     int
	tr       []byte

	quick quick
}

var streamPool = sync.Pool{New: func() any { return &h2stream{canRead: make(chan struct{}, 1), canWrite: make(chan struct{}, 1)} }}

func newStream(c *h2conn, id uint32, lt *listenerTable, end bool) *h2stream {
	s := streamPool.Get().(*h2stream)
	s.c, s.id, s.lt = c, id, lt
	s.sendWindow, s.recvWindow, s.recvDebt = c.peerWindow, streamWindow, 0
	s.ended, s.done, s.gone, s.broken, s.slow = end, false, false, false, false
	s.got, s.pend, s.used, s.tr = 0, nil, 0, s.tr[:0]
	return s
}

// start decides what happens to the request; size is its header block's.
func (s *h2stream) start(now time.Time, size int) {
	c := s.c
	s.wt.p, s.wt.ln = c.p, c.ln
	s.x.reset(c.p, s.lt, &s.req, &c.peer, &s.wt, s)
	s.x.keep = true
	s.x.received.Store(int64(size))
	if c.head.large {
		s.refuse(errHeaderTooLarge)
		return
	}
	if err := s.req.parse(s.head); err != nil {
		var se *statusError
		if !errors.As(err, &se) {
			se = errBadHeader
		}
		s.refuse(se)
		return
	}
	s.req.bodyOdd = noOddity // frames delimit a body whatever the method
	s.req.noteVersion()
	s.run(now)
}

// refuse answers a request that can't be handled.
func (s *h2stream) refuse(se *statusError) {
	s.c.p.counters.inc(cDesync)
	s.c.fast.prepare(s)
	s.x.refusedFor(se, s.c.p.opt.Clock())
	s.x.fail(se.status)
	s.c.fast.finish(s)
}

// run carries the exchange out, without a goroutine if that can be.
func (s *h2stream) run(now time.Time) {
	if s.req.hasBody() || s.c.fast.serve(s, now) {
		s.slowly(func(now time.Time) { s.x.serve(now) })
	}
}

// slowly carries out the exchange on a goroutine of its own.
func (s *h2stream) slowly(serve func(time.Time)) {
	c := s.c
	s.slow, s.x.loop = true, false
	s.stopped.Store(false)
	for _, ch := range [...]chan struct{}{s.canRead, s.canWrite} {
		select {
		case <-ch:
		default:
		}
	}
	c.busy++
	c.wg.Add(1)
	now := c.p.opt.Clock()
	s.wt.stop = func() {
		s.stopped.Store(true)
		s.signal()
	}
	s.wt.enter(exchanging, s.lt.attrs.idle)
	c.p.watches.add(&s.wt)
	go func() {
		defer c.wg.Done()
		defer func() {
			if err := recover(); err != nil {
				c.p.opt.Log.Error("panic", "listener", c.ln.addr, "err", err, "stack", stack())
				s.x.cut = true
			}
			c.p.watches.remove(&s.wt)
			c.mu.Lock()
			s.end()
			c.busy--
			c.flush()
			c.mu.Unlock()
			streamPool.Put(s)
		}()
		serve(now)
	}()
}

// end finishes a stream whose exchange is over.
func (s *h2stream) end() {
	c := s.c
	s.x.account(anyShard, s.x.p.opt.Clock())
	if s.req.closes {
		c.goAway(http2.ErrCodeNo)
	}
	switch {
	case s.gone:
	case s.x.cut || !s.done:
		code := http2.ErrCodeInternal
		if s.x.code != 0 {
			code = http2.ErrCode(s.x.code)
		}
		c.rst(s.id, code)
		c.forget(s, true)
	case !s.ended:
		c.rst(s.id, http2.ErrCodeNo) // nobody reads the rest of the request
		c.forget(s, true)
	default:
		c.forget(s, false)
		if c.resets > 0 {
			c.resets--
		}
	}
}

// signal wakes the goroutines that the stream may have, or has the connection look at it.
func (s *h2stream) signal() {
	if !s.slow {
		s.c.fast.again(s)
		return
	}
	for _, ch := range [...]chan struct{}{s.canRead, s.canWrite} {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// left tells the exchange that its client has gone.
func (s *h2stream) left() {
	if !s.slow {
		s.c.fast.left(s)
		return
	}
	s.wt.cut(clientLeft)
}

// take takes bytes of the request's body.
func (s *h2stream) take(b []byte, end bool) {
	if len(b) > 0 {
		if s.used > 0 && len(s.pend)+len(b) > cap(s.pend) {
			s.pend = s.pend[:copy(s.pend, s.pend[s.used:])]
			s.used = 0
		}
		s.pend = append(s.pend, b...)
	}
	s.ended = s.ended || end
	s.signal()
}

// credit gives bytes of the stream's window back.
func (s *h2stream) credit(n int64) {
	if s.recvDebt += n; s.recvDebt >= streamWindow/2 && !s.ended && !s.gone {
		s.c.windowUpdate(s.id, s.recvDebt)
		s.recvWindow += s.recvDebt
		s.recvDebt = 0
	}
}

func (s *h2stream) unload(b []byte) (n int, end bool) {
	n = copy(b, s.pend[s.used:])
	if s.used += n; s.used == len(s.pend) {
		s.pend, s.used = s.pend[:0], 0
	}
	if n > 0 && !s.gone {
		s.c.credit(int64(n))
		s.credit(int64(n))
	}
	return n, s.ended && len(s.pend) == s.used
}

// body reads the request's body for the goroutine that copies it.
func (s *h2stream) body(b []byte) (n int, end bool, err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if s.broken {
			return 0, false, errBodyCut
		}
		if n, end = s.unload(b); n > 0 || end {
			if len(c.out) > 0 {
				c.flush()
			}
			return n, end, nil
		}
		if s.gone || s.stopped.Load() {
			return 0, false, errBodyCut
		}
		if err := s.wait(s.canRead); err != nil {
			return 0, false, err
		}
	}
}

// wait gives up the connection's mu until something has changed. It returns an error if the exchange shall end.
func (s *h2stream) wait(ch chan struct{}) error {
	s.c.flush()
	s.c.mu.Unlock()
	<-ch
	s.c.mu.Lock()
	if s.stopped.Load() || s.gone {
		return errBodyCut
	}
	return nil
}

func (s *h2stream) trailer() []byte { return s.tr }

func (s *h2stream) atHand(dst []byte) (out []byte, end bool, err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	b := s.pend[s.used:]
	end = s.ended
	if s.gone && !end {
		return dst, false, nil // the attempt will see it
	}
	if n := len(b); n > 0 {
		if s.req.chunked {
			dst = appendChunk(dst, b)
		} else {
			dst = append(dst, b...)
		}
		s.x.received.Add(int64(n))
		s.pend, s.used = s.pend[:0], 0
		c.credit(int64(n))
		s.credit(int64(n))
	}
	if end && s.req.chunked {
		dst = append(dst, "0\r\n"...)
		dst = append(dst, s.tr...)
		dst = append(dst, '\r', '\n')
	}
	return dst, end, nil
}

func (s *h2stream) expectContinue() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.headers(appendStatus(nil, 100), false)
	s.c.flush()
	return nil
}

// headers frames a header block.
func (s *h2stream) headers(block []byte, end bool) {
	c := s.c
	if s.gone || s.done || c.dead {
		return
	}
	s.done = s.done || end
	c.out = appendBlock(c.out, s.id, block, end, c.resize)
	c.resize = false
}

// push frames as much of b as the windows and the room allow, and the end if all of it went and end is set.
func (s *h2stream) push(b []byte, end bool) (n int) {
	c := s.c
	if s.gone || c.dead {
		return 0
	}
	for len(b) > 0 {
		k := int(min(int64(len(b)), s.sendWindow, c.room(), h2MaxFrame))
		if k <= 0 {
			return n
		}
		var flags http2.Flags
		if k == len(b) && end {
			flags = http2.FlagDataEndStream
			s.done = true
		}
		c.out = appendFrame(c.out, http2.FrameData, flags, s.id, k)
		c.out = append(c.out, b[:k]...)
		c.sendWindow -= int64(k)
		s.sendWindow -= int64(k)
		c.idleFloor = max(0, c.idleFloor-2-k>>10) // it will be acknowledged by window updates, small ones perhaps
		b = b[k:]
		n += k
		if len(c.out) >= flushAt {
			c.flush()
		}
	}
	if n == 0 && end {
		c.out = appendFrame(c.out, http2.FrameData, http2.FlagDataEndStream, s.id, 0)
		s.done = true
	}
	return n
}

// send pushes all of b, and waits for the client as long as the watch lets it.
func (s *h2stream) send(b []byte, end bool) error {
	s.wt.writing.Store(true)
	defer s.wt.writing.Store(false)
	for {
		if s.gone || s.c.dead {
			return net.ErrClosed
		}
		n := s.push(b, end)
		if b = b[n:]; len(b) == 0 {
			return nil
		}
		if n > 0 {
			s.wt.touch()
		}
		if s.wait(s.canWrite) != nil {
			return net.ErrClosed
		}
	}
}

func (s *h2stream) now() []byte { return s.dateAt(s.c.p.opt.Clock()) }

func (s *h2stream) dateAt(t time.Time) []byte {
	s.date = t.UTC().AppendFormat(s.date[:0], timeFormat)
	return s.date
}

func (s *h2stream) own(o ownAnswer, _ bool) error {
	body := o.body
	if s.req.noBodyRead || o.status == 204 || o.status == 304 {
		body = nil
	}
	if !s.slow {
		s.c.fast.own(s, o, body)
		return nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.x.bytes.Add(int64(len(body)))
	var block [1024]byte
	s.headers(appendStreamOwn(block[:0], o, s.lt, s.now()), len(body) == 0)
	if len(body) > 0 {
		if err := s.send(body, true); err != nil {
			return err
		}
	}
	s.outlast()
	return nil
}

// outlast gives a client that has its answer a moment to send the rest of its request: there are clients that forget the answer
// if the stream is reset behind it.
func (s *h2stream) outlast() {
	if s.ended || s.x.copying && !s.x.bodyDone() {
		return
	}
	t := time.NewTimer(earlyPatience)
	defer t.Stop()
	for over := false; !over; {
		if n := len(s.pend) - s.used; n > 0 && !s.gone {
			s.pend, s.used = s.pend[:0], 0
			s.c.credit(int64(n))
			s.credit(int64(n))
		}
		if s.ended || s.gone || s.stopped.Load() {
			return
		}
		s.c.flush()
		s.c.mu.Unlock()
		select {
		case <-s.canRead:
		case <-t.C:
			over = true
		}
		s.c.mu.Lock()
	}
}

func (s *h2stream) interim(resp *response) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.gone {
		return net.ErrClosed
	}
	s.headers(appendStreamResponse(nil, resp, responsePlan{}, s.lt, nil, nil), false)
	s.c.flush()
	return nil
}

func (s *h2stream) begin(x *exchange, buf []byte, n int, end bool, trailer []byte) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.gone {
		return net.ErrClosed
	}
	empty := x.plan.framing == noBody || end && n == 0 && len(trailer) == 0
	var block [1024]byte
	s.headers(appendStreamResponse(block[:0], &x.resp, x.plan, s.lt, x.extra, s.now()), empty)
	if empty {
		return nil
	}
	return s.pass(buf, n, end, trailer)
}

func (s *h2stream) data(x *exchange, buf []byte, n int, end bool, trailer []byte) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.pass(buf, n, end, trailer)
}

func (s *h2stream) pass(buf []byte, n int, end bool, trailer []byte) error {
	if s.gone {
		return net.ErrClosed
	}
	if n > 0 || end && len(trailer) == 0 {
		if err := s.send(buf[chunkRoom:chunkRoom+n], end && len(trailer) == 0); err != nil {
			return err
		}
	}
	if end && len(trailer) > 0 {
		s.headers(appendLines(nil, trailer), true)
	}
	if !end {
		s.c.flush()
	}
	return nil
}
