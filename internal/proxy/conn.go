package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	restBuffer    = 4 << 10 // what a connection holds between requests
	lingerFor     = 2 * time.Second
	lingerBytes   = 8 << 20
	lastWriteTime = 5 * time.Second // for an answer to a client that has used up its time
)

var continueLine = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// conn is an HTTP/1 client connection. Its goroutine owns it; during an exchange the goroutine that copies the request's
// body reads through it.
type conn struct {
	p     *Proxy
	ln    *listener
	c     net.Conn
	peer  peerInfo
	born  time.Time
	watch watch
	rest  []byte  // the small read buffer
	large *buffer // the big one, while it is needed
	buf   []byte  // one of the two
	r, w  int     // the bytes at hand are buf[r:w]
	req   request
	src   bodySource // of the request
	x     exchange
	lt    *listenerTable
}

func peerOf(c net.Conn) peerInfo {
	var p peerInfo
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		p.addr = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	p.text = p.addr.Addr().AppendTo(nil)
	p.local = []byte(c.LocalAddr().String())
	return p
}

// serve handles requests until the connection ends. atHand has been read from it already.
func (c *conn) serve(atHand []byte) {
	c.rest = make([]byte, restBuffer)
	c.buf = c.rest
	defer c.release()
	if len(atHand) > len(c.buf) {
		c.large = &buffer{make([]byte, max(largeSize, len(atHand)))}
		c.buf = c.large.b
	}
	c.w = copy(c.buf, atHand)
	for {
		head, err := c.readHead()
		if err != nil {
			var se *statusError
			if errors.As(err, &se) {
				c.req.noBodyRead = false // that was the request before
				c.refuse(se, c.w-c.r)
			}
			return
		}
		if err := c.req.parse(head); err != nil {
			var se *statusError
			if !errors.As(err, &se) {
				se = errBadHeader
			}
			c.refuse(se, len(head))
			return
		}
		if !c.handle() {
			return
		}
		c.shrink()
	}
}

func (c *conn) release() {
	if c.large != nil {
		largeBuffers.Put(c.large)
	}
}

// shrink gives the big buffer back when what is at hand fits into the small one.
func (c *conn) shrink() {
	if c.large == nil || c.w-c.r > len(c.rest) {
		return
	}
	c.w = copy(c.rest, c.buf[c.r:c.w])
	c.r = 0
	c.buf = c.rest
	largeBuffers.Put(c.large)
	c.large = nil
}

// grow makes room behind the bytes at hand.
func (c *conn) grow() bool {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		if c.w < len(c.buf)/2 {
			return true
		}
	}
	if c.large != nil {
		return c.w < len(c.buf)
	}
	c.large = largeBuffers.Get().(*buffer)
	copy(c.large.b, c.buf[:c.w])
	c.buf = c.large.b
	return true
}

var errTimeout = &statusError{408, "RequestTimeout", noOddity}

// readHead waits for a complete head and returns it; it is at hand until the next read.
func (c *conn) readHead() ([]byte, error) {
	lt := c.ln.table.Load()
	c.lt = lt
	var scan headScanner
	skipped := false
	if c.r == c.w {
		c.r, c.w = 0, 0
		c.watch.enter(idle, lt.attrs.idle)
	} else {
		c.watch.enter(headPhase, lt.attrs.idle)
	}
	for {
		if !skipped && c.w-c.r >= 2 {
			if c.buf[c.r] == '\r' && c.buf[c.r+1] == '\n' { // one empty line before a request is forgiven
				c.r += 2
			}
			skipped = true
		}
		if c.w > c.r && skipped {
			n, err := scan.scan(c.buf[c.r:c.w], maxRequestHead)
			if err == nil {
				head := c.buf[c.r : c.r+n]
				c.r += n
				return head, nil
			} else if err != errMore {
				return nil, err
			}
		}
		if c.w == len(c.buf) && !c.grow() {
			return nil, errHeaderTooLarge
		}
		n, err := c.c.Read(c.buf[c.w:])
		if n > 0 {
			if c.w == c.r {
				c.watch.enter(headPhase, lt.attrs.idle) // the whole head must come within the limit
			}
			c.w += n
			continue
		}
		if err != nil {
			if c.w > c.r && c.watch.why() == idleTooLong {
				return nil, errTimeout
			}
			return nil, err
		}
	}
}

// refuse answers a request of that size that can't be handled and ends the connection.
func (c *conn) refuse(se *statusError, size int) {
	c.lt = c.ln.table.Load()
	c.x.reset(c.p, c.lt, &c.req, &c.peer, &c.watch, c)
	c.x.received.Store(int64(size))
	c.x.refusedFor(se, c.p.opt.Clock())
	if se.odd != noOddity {
		c.p.counters.inc(cDesync)
	}
	c.p.counters.elb(se.status)
	c.watch.enter(exchanging, c.lt.attrs.idle)
	c.c.SetDeadline(time.Now().Add(lastWriteTime))
	c.own(errorAnswer(se.status), true)
	c.x.account(anyShard, c.x.p.opt.Clock())
	c.drainClient()
}

// drainClient ends the writing side and reads for a while what the client still sends: closing at once would reset the
// connection and could destroy the answer on its way.
func (c *conn) drainClient() {
	c.watch.enter(resting, 0)
	closeWrite(c.c)
	c.c.SetReadDeadline(time.Now().Add(lingerFor))
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	for n := 0; n < lingerBytes; {
		k, err := c.c.Read(b.b)
		if err != nil {
			return
		}
		n += k
	}
}

// handle answers the parsed request. It tells whether the connection goes on.
func (c *conn) handle() bool {
	lt := c.ln.table.Load()
	c.lt = lt
	r := &c.req
	now := c.p.opt.Clock()
	keep := r.keepAlive && !c.ln.closing.Load() && now.Sub(c.born) < lt.attrs.keepAlive && (lt.tls != nil) == c.peer.tls
	c.watch.enter(exchanging, lt.attrs.idle)

	c.src.framing, c.src.left = noBody, 0
	c.src.dec.reset()
	switch {
	case r.chunked:
		c.src.framing = byChunks
	case r.length > 0:
		c.src.framing, c.src.left = byLength, r.length
	}
	x := &c.x
	x.reset(c.p, lt, r, &c.peer, &c.watch, c)
	x.keep = keep
	x.received.Store(int64(len(r.head)))
	x.serve(now)
	x.account(anyShard, x.p.opt.Clock())
	if x.cut {
		return false
	}
	if !x.keep {
		if _, unread := peek(c.watch.raw); x.linger || unread {
			c.drainClient()
		}
		return false
	}
	return true
}

// body reads decoded bytes of the request's body, first those at hand.
func (c *conn) body(b []byte) (n int, end bool, err error) {
	if c.src.framing == noBody {
		return 0, true, nil
	}
	for {
		if c.r < c.w {
			n = copy(b, c.buf[c.r:c.w])
			data, used, end, err := c.src.decode(b[:n])
			c.r += used
			if data > 0 || end || err != nil {
				return data, end, err
			}
			continue
		}
		if c.src.framing == byLength && int64(len(b)) > c.src.left {
			b = b[:c.src.left]
		}
		n, err = c.c.Read(b)
		if n > 0 {
			data, used, end, err := c.src.decode(b[:n])
			if used < n { // the next request's
				c.r, c.w = 0, 0
				for n-used > len(c.buf) {
					c.grow()
				}
				c.w = copy(c.buf, b[used:n])
			}
			if data > 0 || end || err != nil {
				return data, end, err
			}
			c.watch.touch()
			continue
		}
		if err == io.EOF {
			err = errBodyCut
		}
		return 0, false, err
	}
}

func (c *conn) trailer() []byte { return c.src.dec.trailer }

// atHand appends the body's bytes that have come with the head to dst, framed for the target.
func (c *conn) atHand(dst []byte) (out []byte, end bool, err error) {
	if c.src.framing == noBody {
		return dst, true, nil
	}
	b := c.buf[c.r:c.w]
	data, used, end, err := c.src.decode(b)
	c.r += used
	if err != nil {
		return dst, false, err
	}
	c.x.received.Add(int64(data))
	return appendBody(dst, b[:data], end, &c.src), end, nil
}

// appendBody frames a part of a body as src is framed.
func appendBody(dst, data []byte, end bool, src *bodySource) []byte {
	if src.framing == byLength {
		return append(dst, data...)
	}
	if len(data) > 0 {
		dst = appendChunk(dst, data)
	}
	if end {
		dst = append(dst, "0\r\n"...)
		dst = append(dst, src.dec.trailer...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

func appendChunk(dst, data []byte) []byte {
	var head [chunkRoom]byte
	p := len(head)
	for x := len(data); x > 0; x >>= 4 {
		p--
		head[p] = "0123456789abcdef"[x&15]
	}
	dst = append(dst, head[p:]...)
	dst = append(dst, '\r', '\n')
	dst = append(dst, data...)
	return append(dst, '\r', '\n')
}

// expectContinue sends the client its 100, when it waits for one.
func (c *conn) expectContinue() error { return c.write(continueLine) }

// write writes to the client; the watch may interrupt it.
func (c *conn) write(b []byte) error {
	c.watch.writing.Store(true)
	_, err := c.c.Write(b)
	c.watch.writing.Store(false)
	return err
}

func (c *conn) own(o ownAnswer, closes bool) error {
	if closes && c.watch.why() != notFired {
		c.c.SetDeadline(time.Now().Add(lastWriteTime))
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	out := appendOwn(b.b[:0], o, c.lt, c.req.noBodyRead, closes, c.p.opt.Clock())
	c.x.bytes.Add(int64(len(out)))
	return c.write(out)
}

func (c *conn) interim(resp *response) error {
	if c.req.minor == 0 {
		return nil
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	return c.write(appendResponse(b.b[:0], resp, responsePlan{}, c.lt, nil, time.Time{}))
}

func (c *conn) begin(x *exchange, buf []byte, n int, end bool, trailer []byte) error {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	out := appendResponse(b.b[:0], &x.resp, x.plan, c.lt, x.extra, c.p.opt.Clock())
	x.bytes.Add(int64(len(out)))
	if x.plan.framing != noBody {
		out = append(out, frame(buf, n, end, x.plan.framing == byChunks, trailer)...)
	}
	return c.write(out)
}

func (c *conn) data(x *exchange, buf []byte, n int, end bool, trailer []byte) error {
	b := frame(buf, n, end, x.plan.framing == byChunks, trailer)
	if len(b) == 0 {
		return nil
	}
	return c.write(b)
}

// upgrade sends the 101 and hands over the connection with what the client has sent since.
func (c *conn) upgrade(x *exchange, first []byte) (net.Conn, []byte, error) {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	out := appendResponse(b.b[:0], &x.resp, responsePlan{}, c.lt, nil, time.Time{})
	err := c.write(append(out, first...))
	pending := bytes.Clone(c.buf[c.r:c.w])
	c.r, c.w = 0, 0
	c.shrink()
	c.rest, c.buf = nil, nil // nothing is read here any more
	return c.c, pending, err
}
