package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Sizes of the transfer buffers.
const (
	bufferSize    = 32 << 10
	largeSize     = maxRequestHead + bufferSize
	maxInterim    = 16 // 1xx answers before the final one
	earlyPatience = 100 * time.Millisecond
)

type buffer struct{ b []byte }

var (
	buffers      = sync.Pool{New: func() any { return &buffer{make([]byte, bufferSize)} }}
	largeBuffers = sync.Pool{New: func() any { return &buffer{make([]byte, largeSize)} }}
)

// client is the side of an exchange that asked: an HTTP/1 connection or an HTTP/2 stream.
type client interface {
	// body reads decoded bytes of the request's body. end comes with the last of them; trailer holds after it.
	body(b []byte) (n int, end bool, err error)
	trailer() []byte
	// own sends an answer that the load balancer makes itself.
	own(o ownAnswer, closes bool) error
	// interim passes a 1xx answer on.
	interim(resp *response) error
	// begin sends the head of the target's answer, with the first n bytes of the body, which stand at buf[chunkRoom:].
	begin(x *exchange, buf []byte, n int, end bool, trailer []byte) error
	// data sends the next n bytes of the body, which stand at buf[chunkRoom:].
	data(x *exchange, buf []byte, n int, end bool, trailer []byte) error
}

// exchange is one request with its answer. The goroutine that serves the client owns it; the goroutine that copies a long
// request body shares what is atomic or behind done.
type exchange struct {
	p       *Proxy
	lt      *listenerTable
	req     *request
	resp    response
	peer    *peerInfo
	w       *watch
	c       client
	choice  choice
	tgFor   time.Duration
	plan    responsePlan
	extra   []byte // header lines added to the answer
	cookies []byte // those of a refreshed session
	out     []byte // request head, and body as far as it was at hand
	keep    bool   // the client's connection may go on, as far as the client is concerned
	begun   bool   // the answer's head has gone out
	code    uint32 // with which the target reset its stream, or 0
	cut     bool   // the answer ended before its end: the client must see that
	linger  bool   // the client may still be sending
	loop    bool   // an epoll loop owns it, not a goroutine
	// forwards tells the loop that the request is ready to be sent to the chosen target.
	forwards bool
	received atomic.Int64 // bytes of the request
	bytes    atomic.Int64 // bytes of the answer
	upgraded *upgraded    // after a 101
	shard    int          // of counters and logs: the loop's number, or anyShard
	refused  oddity       // why the request could not be parsed
	entry    entry

	// The request body.
	bodyEnd bool // all of it is in out
	copying bool
	done    chan struct{} // closed when the copying goroutine has ended
	bodyErr error         // why it ended early on the client's side; read after done
	failed  atomic.Bool   // there is a bodyErr
}

// errBodyCut says that the client's body ended early.
var errBodyCut = errors.New("request body incomplete")

// forward sends the request to a target and its answer to the client.
func (x *exchange) forward(a *action, now time.Time) {
	ob := buffers.Get().(*buffer)
	x.out = ob.b[:0]
	sent := x.prepare(a, now)
	if sent {
		x.send(now)
	}
	x.out = nil
	buffers.Put(ob)
	if x.upgraded != nil {
		x.tunnel() // it may last: nothing that isn't needed is held
	}
	if sent {
		x.choice.t.inflight.Add(-1)
	}
}

// prepare chooses the target and appends to out the request as the target gets it, as far as it is at hand. If it returns
// false, the exchange has ended.
func (x *exchange) prepare(a *action, now time.Time) bool {
	g, set, forged := a.chooseGroup(x.req, x.lt.sealer, now)
	if forged {
		x.entry.reason = "AWSALBTGCookieInvalid"
	}
	if g == nil {
		x.fail(503)
		return false
	}
	if g.mismatch(x.req) {
		x.fail(464)
		return false
	}
	if a.transforms != nil && !x.rewrite(a.transforms) {
		x.fail(500)
		return false
	}
	x.tgFor = a.sticky
	t, sticky := g.choose(x.req, x.lt.sealer, now)
	x.choice = choice{g: g, t: t, setGroup: set, sticky: sticky}
	if t == nil {
		x.fail(503)
		return false
	}
	g.counters.inc(cRequest)
	x.p.counters.inc(cRequest)
	if x.req.grpc {
		x.p.counters.inc(cGRPCRequest)
	}
	if g.failOpen {
		g.counters.inc(cUnhealthyRouting)
	}
	x.out = appendRequest(x.out, x.req, x.lt, x.peer, now)
	x.bodyEnd = !x.req.hasBody()
	if e, ok := x.c.(early); ok && !x.bodyEnd {
		var err error
		if x.out, x.bodyEnd, err = e.atHand(x.out); err != nil {
			x.p.counters.inc(cDesync)
			x.fail(400)
			return false
		}
		if x.req.expect && !x.bodyEnd {
			if e.expectContinue() != nil {
				x.cut = true
				return false
			}
		}
	}
	return true
}

// send runs the attempts. It leaves the chosen target's inflight count raised by one.
func (x *exchange) send(now time.Time) {
	var tried tries
	resent := false
	ch := &x.choice
	ch.t.inflight.Add(1)
	for {
		u := (*upstream)(nil)
		if !resent {
			u = ch.t.take(now)
		}
		reused := u != nil
		if u == nil {
			var err error
			if u, err = x.p.dial(x.p.ctx, ch.t); err != nil {
				ch.unconnected(x.p, err)
				status := 502
				var te *targetTLSError
				if errors.As(err, &te) {
					ch.g.counters.inc(cTargetTLSError)
				}
				if isTimeout(err) && te == nil {
					status = 504
				} else if te == nil && x.w.why() == notFired && tried.next(ch, now) {
					continue // nothing was sent
				}
				x.fail(status)
				return
			}
		}
		switch x.attempt(u, (reused || ch.t.speaksH2) && !resent, &tried) {
		case again:
			resent = true
			continue
		case elsewhere:
			resent = false
			continue
		case finished:
		}
		return
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

type outcome uint8

const (
	finished  outcome = iota
	again             // the reused connection was stale: send once more on a new one
	elsewhere         // the target is gone: send once more to the one that has been chosen
)

// attempt sends the request over u and handles the answer.
func (x *exchange) attempt(u *upstream, mayRetry bool, tried *tries) outcome {
	if x.w.attach(u, x.bodyEnd) != notFired {
		return x.lost(u, nil)
	}
	n, err := u.Write(x.out)
	if err != nil {
		if mayRetry && (n == 0 || x.bodyEnd && x.req.idempotent) && x.w.detach() {
			u.Close()
			return again
		}
		if x.bodyEnd && x.movable(err) && tried.move(x.req, &x.choice, x.p.opt.Clock()) {
			x.w.detach()
			u.Close()
			return elsewhere
		}
		if x.bodyEnd || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			return x.lost(u, err)
		}
		// The target may have answered before it closed.
	} else if !x.bodyEnd {
		mayRetry = false
		u.lift()
		x.copying, x.done = true, make(chan struct{})
		go x.copyBody(u)
	}
	start := x.p.opt.Clock()
	x.w.touch()

	// The answer's head is read to the front of in; the body, to buf[chunkRoom:].
	in := buffers.Get().(*buffer)
	defer buffers.Put(in)
	have, used := 0, 0
	for interims := 0; ; {
		var scan headScanner
		headLen := 0
		for {
			if have > used {
				if headLen, err = scan.scan(in.b[used:have], maxResponseHead); err == nil {
					break
				} else if err != errMore {
					return x.bad(u)
				}
			}
			if used > 0 && have == len(in.b) {
				have = copy(in.b, in.b[used:have])
				used = 0
			}
			if have == len(in.b) {
				return x.bad(u)
			}
			k, err := u.Read(in.b[have:])
			if k > 0 {
				have += k
				x.w.touch()
				continue
			}
			if err != nil {
				if mayRetry && have == 0 && (x.req.idempotent || err == errNotProcessed) && x.w.detach() {
					u.Close()
					return again
				}
				if have == 0 && x.bodyEnd && x.movable(err) && tried.move(x.req, &x.choice, start) {
					x.w.detach()
					u.Close()
					return elsewhere
				}
				return x.lost(u, err)
			}
		}
		if x.resp.parse(in.b[used:used+headLen]) != nil {
			return x.bad(u)
		}
		s := x.resp.status
		if s/100 != 1 || s == 101 {
			used += headLen
			break
		}
		if interims++; interims > maxInterim {
			return x.bad(u)
		}
		if s != 100 { // the client has had its 100, if it wanted one
			if err := x.c.interim(&x.resp); err != nil {
				return x.gone(u)
			}
		}
		used += headLen
	}
	if x.resp.status == 101 && (!x.req.upgrade || !x.resp.upgrade) {
		return x.bad(u)
	}
	x.answered(start, x.p.opt.Clock())
	if x.resp.status == 101 {
		x.upgrade(u, in.b[used:have])
		return finished
	}
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	return x.answer(u, buf.b, in.b[used:have])
}

// movable tells whether err means that the target is gone, rather than that it was too slow, refused, or that the client left.
func (x *exchange) movable(err error) bool {
	_, reset := err.(targetReset)
	return !reset && !errors.Is(err, os.ErrDeadlineExceeded) && x.w.why() == notFired
}

// nextHead parses the head of an answer that b begins with, and returns its length; errMore says that it isn't whole yet.
func (x *exchange) nextHead(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, errMore
	}
	var scan headScanner
	n, err := scan.scan(b, maxResponseHead)
	if err == nil {
		err = x.resp.parse(b[:n])
	}
	return n, err
}

// answered counts the target's answer, whose head has arrived, and plans what the client gets of it.
func (x *exchange) answered(start, now time.Time) {
	g := x.choice.g
	g.latency.add(now.Sub(start), x.shard)
	g.counters.target(x.resp.status)
	x.choice.t.conducted(x.resp.status < 500)
	x.p.counters.target(x.resp.status)
	e := &x.entry
	e.status, e.target, e.sentAt, e.gotAt = x.resp.status, x.resp.status, start, now
	if x.resp.status == 101 {
		return
	}
	if g.attrs.sticky != notSticky || x.choice.setGroup {
		x.extra = appendStickiness(append(x.extra[:0], x.cookies...), &x.choice, &x.resp, x.lt, x.tgFor, now)
		if !x.choice.sticky {
			g.counters.inc(cNonSticky)
		}
	} else {
		x.extra = append(x.extra[:0], x.cookies...)
	}
	if !x.bodyEnd && !x.copying {
		x.keep, x.linger = false, true // the target closed while the request was being sent
	}
	if x.copying && !x.bodyDone() && (!x.resp.keepAlive || x.resp.status >= 400) {
		x.keep = false // the body will hardly be read to its end
	}
	x.plan = planResponse(&x.resp, x.req, x.keep)
}

// answer passes the answer's body on. first holds what has been read of it.
func (x *exchange) answer(u *upstream, buf, first []byte) outcome {
	src := x.source()
	space := buf[chunkRoom : len(buf)-chunkTail-8]
	for {
		var n int
		var err error
		var end bool
		var extra bool
		if len(first) > 0 || src.framing == noBody || src.framing == byLength && src.left == 0 || x.begun {
			if len(first) > 0 {
				n = copy(space, first)
				first = first[n:]
			} else if src.framing != noBody && !(src.framing == byLength && src.left == 0) {
				if n, err = u.Read(space); n > 0 {
					err = nil
				}
			}
			var used int
			if err == nil {
				got := n
				n, used, end, err = src.decode(space[:n])
				extra = used < got || end && len(first) > 0
			} else if err == io.EOF && src.framing == byClose {
				err, end = nil, true
			}
		}
		// else: the head goes out at once, the body when it comes
		if err != nil {
			x.cut = true
			if !x.begun {
				if err == errBadChunk || err == errTrailerTooLarge {
					return x.bad(u)
				}
			}
			if x.begun {
				x.wasReset(err)
				x.drop(u)
				if x.w.why() == notFired && src.framing == byLength {
					x.p.counters.elb(504) // shorter than announced
				}
				return finished
			}
			return x.lost(u, err)
		}
		x.w.touch()
		x.bytes.Add(int64(n))
		if !x.begun {
			if x.begun = true; x.entry.log != nil {
				x.entry.begunAt = x.p.opt.Clock()
			}
			err = x.c.begin(x, buf, n, end, src.dec.trailer)
		} else if n > 0 || end {
			err = x.c.data(x, buf, n, end, src.dec.trailer)
		}
		if err != nil {
			return x.gone(u)
		}
		x.w.touch()
		if end {
			x.settle(u, !extra && x.resp.keepAlive && src.framing != byClose && !x.req.closes)
			return finished
		}
	}
}

// settle ends a complete answer: the connection to the target is kept if it is clean.
func (x *exchange) settle(u *upstream, reusable bool) {
	if x.copying && !x.bodyDone() {
		select {
		case <-x.done:
		case <-time.After(earlyPatience):
			// The target has answered without reading the whole body.
			x.keep, x.linger = false, true
			x.w.cut(shuttingDown)
			u.Close()
			<-x.done
		}
	}
	if x.copying && (x.failed.Load() || x.bodyErr != nil) {
		x.keep = false
		reusable = false
	}
	if x.w.detach() && reusable {
		u.t.give(u, x.p.opt.Clock())
	} else {
		u.Close()
		x.join()
	}
	if x.plan.close {
		x.keep = false
	}
}

// bodyDone tells whether the copying goroutine has ended.
func (x *exchange) bodyDone() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

// join waits for the copying goroutine, which ends because its connections are closed or interrupted.
func (x *exchange) join() {
	if x.copying {
		if !x.bodyDone() {
			x.w.cut(shuttingDown)
			x.linger = true
		}
		<-x.done
	}
}

// drop closes the connection to the target in the middle.
func (x *exchange) drop(u *upstream) {
	x.w.detach()
	u.Close()
	x.join()
}

// bad handles an answer that must not be passed on.
func (x *exchange) bad(u *upstream) outcome {
	x.drop(u)
	x.fail(502)
	return finished
}

// gone handles a client that can't be written to.
func (x *exchange) gone(u *upstream) outcome {
	x.cut = true
	x.drop(u)
	return finished
}

// lost handles a connection to the target that broke before its answer began.
func (x *exchange) lost(u *upstream, err error) outcome {
	why := x.w.why()
	x.wasReset(err)
	x.drop(u)
	bodyFailed := x.failed.Load()
	switch {
	case bodyFailed && why == notFired:
		var se *statusError
		if errors.As(x.bodyErr, &se) {
			x.linger = true
			x.fail(se.status)
		} else {
			x.fail(400) // the client ended its body early; it may still be reading
		}
	case why == idleTooLong && bodyFailed: // it was waiting for the client
		x.fail(408)
	case why == idleTooLong, err != nil && errors.Is(err, os.ErrDeadlineExceeded) && why == notFired:
		x.fail(504)
	case why == clientLeft:
		x.cut = true
		x.p.counters.elb(460)
		x.entry.status = 460
	case x.code != 0 && x.req.grpc:
		x.cut = true // such clients know what a reset means, above all when their deadline passes
	default:
		x.fail(502)
	}
	return finished
}

// wasReset notes how the target reset its stream.
func (x *exchange) wasReset(err error) {
	if r, ok := err.(targetReset); ok {
		x.code = uint32(r)
	}
}

// fail answers with an error page, unless an answer has begun.
func (x *exchange) fail(status int) {
	if x.begun {
		x.cut, x.keep = true, false
		return
	}
	x.begun = true
	if status == 400 || status == 408 || x.copying || x.req.hasBody() && !x.bodyEnd {
		x.keep = false
		x.linger = true
	}
	x.p.counters.elb(status)
	x.entry.status = status
	if status == 502 || status == 504 {
		x.choice.blame()
	}
	if status >= 500 && x.choice.t != nil {
		x.p.opt.Log.Debug("no answer from the target", "status", status, "target", x.choice.t.addr, "listener", x.lt.addr)
	}
	if err := x.c.own(errorAnswer(status), !x.keep); err != nil {
		x.cut, x.keep = true, false
	}
}

// copyBody sends the rest of the request's body to the target. It owns the client's reading side until it ends.
func (x *exchange) copyBody(u *upstream) {
	defer close(x.done)
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	space := b.b[chunkRoom : len(b.b)-chunkTail-8]
	for {
		n, end, err := x.c.body(space)
		if err != nil {
			x.bodyErr = err
			x.failed.Store(true)
			u.Close() // the target must not take it for complete
			return
		}
		x.w.touch()
		x.received.Add(int64(n))
		if _, err := u.Write(frame(b.b, n, end, x.req.chunked, x.c.trailer())); err != nil {
			return // the target's answer, if there is one, says why
		}
		x.w.touch()
		if end {
			x.w.mu.Lock()
			x.w.bodyAll, x.w.since = true, x.p.ticks.Load()
			x.w.mu.Unlock()
			return
		}
	}
}

// reset prepares the exchange for a request. Its buffers stay.
func (x *exchange) reset(p *Proxy, lt *listenerTable, r *request, peer *peerInfo, w *watch, c client) {
	x.p, x.lt, x.req, x.peer, x.w, x.c = p, lt, r, peer, w, c
	x.choice, x.tgFor, x.plan, x.cookies = choice{}, 0, responsePlan{}, nil
	x.code = 0
	x.begun, x.cut, x.linger, x.bodyEnd, x.copying = false, false, false, false, false
	x.done, x.bodyErr, x.forwards, x.upgraded = nil, nil, false, nil
	if x.failed.Load() { // a load costs less than a store
		x.failed.Store(false)
	}
	if x.received.Load()|x.bytes.Load() != 0 {
		x.received.Store(0)
		x.bytes.Store(0)
	}
	x.refused = noOddity
	x.shard = anyShard
	x.entry.begin(lt.access)
}

// account counts and logs an exchange that has ended; see record for shard.
func (x *exchange) account(shard int, now time.Time) {
	x.record(shard, now)
	x.p.counters.add(cProcessedBytes, x.received.Swap(0)+x.bytes.Swap(0))
}

// early is what an HTTP/1 client can do beyond others.
type early interface {
	atHand(dst []byte) (out []byte, end bool, err error)
	expectContinue() error
}

// serve answers the request: by itself, or through a target. On a loop it returns true, and has done nothing, if the loop
// doesn't carry what is to be done: the connection then needs a goroutine.
func (x *exchange) serve(now time.Time) (handover bool) {
	r, lt := x.req, x.lt
	a, tried := lt.decide(r, x.peer.addr.Addr())
	if x.loop && (!a.plain || r.upgrade || a.kind == doForward && !x.p.sockets) {
		return true
	}
	x.noted(r, now)
	x.carryOut(a, tried, now)
	return false
}

// carryOut does what was decided, unless the request must be refused.
func (x *exchange) carryOut(a *action, tried int, now time.Time) {
	r, lt := x.req, x.lt
	switch {
	case string(r.method) == "TRACE" || string(r.method) == "CONNECT":
		if r.method[0] == 'C' { // what follows may be meant for the tunnel
			x.keep, x.linger = false, true
		}
		x.fail(405)
		return
	case lt.attrs.judge(r):
		x.p.counters.inc(cDesync)
		x.fail(400)
		return
	case r.tooManyForwarders():
		x.fail(463)
		return
	}
	if r.odd != noOddity {
		x.p.counters.inc(cDesync)
	}
	if r.closes {
		x.keep, x.linger = false, true
	}
	if r.oddNames {
		if lt.attrs.dropOddNames {
			x.p.counters.inc(cDroppedHeader)
		} else {
			x.p.counters.inc(cForwardedHeader)
		}
	}
	x.p.counters.add(cRuleEvaluations, int64(tried))
	x.entry.matched, x.entry.action = a.priority, a.kind.String()
	if a.oidc != nil {
		x.entry.action = "authenticate"
		if !x.authenticate(a.oidc, now) {
			return
		}
		x.entry.action = "authenticate," + a.kind.String()
	}
	if a.jwt != nil {
		x.entry.action = "jwt-validation"
		if !x.validate(a.jwt, now) {
			return
		}
		x.entry.action = "jwt-validation," + a.kind.String()
	}
	switch a.kind {
	case doCallback:
		x.callback(now)
	case doFixed:
		x.p.counters.inc(cFixedResponse)
		x.local(ownAnswer{status: a.status, ctype: a.ctype, body: a.body})
	case doRedirect:
		loc := a.to.location(r, lt, x.peer.local)
		if loc == nil {
			x.p.counters.inc(cRedirectLimit)
			x.fail(400)
			return
		}
		x.notedLocation(loc)
		x.p.counters.inc(cRedirect)
		x.local(ownAnswer{status: a.status, ctype: "text/html", body: htmlPages[a.status], location: loc})
	case doForward:
		if x.loop {
			x.forwards = x.prepare(a, now)
		} else {
			x.forward(a, now)
		}
	}
}

// local answers by itself. A body that is not at hand ends the connection: nobody reads it.
func (x *exchange) local(o ownAnswer) {
	x.begun = true
	if x.req.hasBody() {
		if e, ok := x.c.(early); ok {
			if _, end, err := e.atHand(nil); !end || err != nil {
				x.keep, x.linger = false, true
			}
		}
	}
	x.p.counters.elb(o.status)
	x.entry.status = o.status
	if err := x.c.own(o, !x.keep); err != nil {
		x.cut, x.keep = true, false
	}
}
