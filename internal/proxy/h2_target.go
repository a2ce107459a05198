package proxy

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Bounds of HTTP/2 connections to targets.
const (
	maxCalls      = 100              // streams on one connection, if the target allows as many
	callWindow    = 128 << 10        // of a stream, which bounds what waits for a slow client
	targetWindow  = 16 << 20         // of a connection; what arrives is given back at once
	maxTargetOut  = 1 << 20          // frames that wait to be written
	callOut       = 64 << 10         // above it no more data are framed
	targetH2Quiet = 20 * time.Second // for the acknowledgement of what was sent
)

// errNotProcessed says that a target has not looked at a request: it may be sent again, whatever it is.
var errNotProcessed = errors.New("the target did not process the request")

// targetReset is a stream that the target has reset.
type targetReset http2.ErrCode

func (r targetReset) Error() string {
	return "the target reset the stream: " + http2.ErrCode(r).String()
}

// h2pool are the HTTP/2 connections to one target. Safe for concurrent use.
type h2pool struct {
	mu     sync.Mutex
	conns  []*h2client
	flight *h2flight
}

// h2flight is an attempt to connect that several requests wait for.
type h2flight struct {
	done chan struct{}
	err  error
}

// take returns a new stream of a connection that has room, or nil.
func (pl *h2pool) take(t *target) *upstream {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for i := len(pl.conns) - 1; i >= 0; i-- {
		if call := pl.conns[i].reserve(); call != nil {
			return &upstream{Conn: call, t: t, calm: true}
		}
	}
	return nil
}

// dialH2 opens a stream to the target, on a new connection if need be.
func (p *Proxy) dialH2(ctx context.Context, t *target) (*upstream, error) {
	for range maxAttempts {
		if u := t.h2.take(t); u != nil {
			return u, nil
		}
		t.h2.mu.Lock()
		f := t.h2.flight
		first := f == nil
		if first {
			f = &h2flight{done: make(chan struct{})}
			t.h2.flight = f
		}
		t.h2.mu.Unlock()
		if first {
			c, err := p.connectH2(ctx, t)
			t.h2.mu.Lock()
			t.h2.flight, f.err = nil, err
			if err == nil {
				t.h2.conns = append(t.h2.conns, c)
			}
			t.h2.mu.Unlock()
			close(f.done)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if f.err != nil {
			return nil, f.err
		}
	}
	return nil, errNotProcessed
}

var targetTLSH2 = func() *tls.Config {
	c := targetTLS.Clone()
	c.MinVersion = tls.VersionTLS12
	c.NextProtos = []string{"h2"}
	return c
}()

func (p *Proxy) connectH2(ctx context.Context, t *target) (*h2client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := p.opt.Dial(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	setPatience(rawConn(nc), targetH2Quiet)
	if t.tls {
		tc := tls.Client(nc, targetTLSH2)
		err := tc.HandshakeContext(ctx)
		if err == nil && tc.ConnectionState().NegotiatedProtocol != "h2" {
			err = errors.New("the target does not agree on h2")
		}
		if err != nil {
			nc.Close()
			return nil, &targetTLSError{err}
		}
		nc = tc
	}
	c := &h2client{p: p, t: t, c: nc, calls: map[uint32]*h2call{}, next: 1, limit: maxCalls, sendWindow: 65535, peerWindow: 65535, work: make(chan struct{}, 1), idleSince: p.opt.Clock()}
	c.out = append(c.out, http2.ClientPreface...)
	c.out = appendFrame(c.out, http2.FrameSettings, 0, 0, 18)
	for _, s := range [...]http2.Setting{{ID: http2.SettingEnablePush}, {ID: http2.SettingInitialWindowSize, Val: callWindow}, {ID: http2.SettingMaxHeaderListSize, Val: maxResponseHead}} {
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(s.ID))
		c.out = binary.BigEndian.AppendUint32(c.out, s.Val)
	}
	c.out = appendWindowUpdate(c.out, 0, targetWindow-65535)
	c.signal()
	p.upstreams.Add(2)
	go c.write()
	go c.read()
	return c, nil
}

// expire closes connections without streams: those idle for longer than d, and those that take no more streams.
func (pl *h2pool) expire(now time.Time, d time.Duration) {
	pl.mu.Lock()
	conns := append([]*h2client(nil), pl.conns...)
	pl.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		c.closing = c.closing || d < 0
		quiet := len(c.calls)+c.reserved == 0
		if quiet && (c.closing || now.Sub(c.idleSince) > d) {
			c.endLocked(nil)
		}
		c.mu.Unlock()
	}
}

func (pl *h2pool) remove(c *h2client) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	for i := range pl.conns {
		if pl.conns[i] == c {
			pl.conns = append(pl.conns[:i], pl.conns[i+1:]...)
			return
		}
	}
}

// h2client is a connection to a target that speaks HTTP/2. It has a goroutine that reads and one that writes, so that neither
// side can make the other wait.
type h2client struct {
	p    *Proxy
	t    *target
	c    net.Conn
	work chan struct{} // out is not empty

	mu         sync.Mutex // guards what follows
	calls      map[uint32]*h2call
	reserved   int // calls that have not been sent yet
	next       uint32
	limit      int
	sendWindow int64
	peerWindow int64
	recvDebt   int64
	resize     bool // the next header block must say that we use no dynamic table
	out        []byte
	closing    bool // takes no more calls
	ended      bool
	idleSince  time.Time
}

func appendWindowUpdate(dst []byte, id uint32, n int64) []byte {
	dst = appendFrame(dst, http2.FrameWindowUpdate, 0, id, 4)
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func appendReset(dst []byte, id uint32, code http2.ErrCode) []byte {
	dst = appendFrame(dst, http2.FrameRSTStream, 0, id, 4)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendFrame(dst []byte, typ http2.FrameType, flags http2.Flags, id uint32, n int) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n), byte(typ), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// appendBlock frames a header block.
func appendBlock(dst []byte, id uint32, block []byte, end, resize bool) []byte {
	var flags http2.Flags
	if end {
		flags = http2.FlagHeadersEndStream
	}
	extra := 0
	if resize {
		extra = 1
	}
	n := min(len(block), h2MaxFrame-extra)
	typ := http2.FrameHeaders
	for first := true; first || len(block) > 0; first = false {
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		dst = appendFrame(dst, typ, flags, id, n+extra)
		if extra > 0 {
			dst = append(dst, 0x20) // dynamic table: size 0
			extra = 0
		}
		dst = append(dst, block[:n]...)
		block = block[n:]
		typ, flags = http2.FrameContinuation, 0
		n = min(len(block), h2MaxFrame)
	}
	return dst
}

// reserve returns a call if the connection has room for it.
func (c *h2client) reserve() *h2call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.ended || len(c.calls)+c.reserved >= c.limit || c.next > maxWindow-2*maxCalls {
		return nil
	}
	c.reserved++
	return &h2call{c: c, canRead: make(chan struct{}, 1), canWrite: make(chan struct{}, 1)}
}

func (c *h2client) signal() {
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// endLocked closes the connection; the calls under way fail with err.
func (c *h2client) endLocked(err error) {
	if c.ended {
		return
	}
	c.ended, c.closing = true, true
	for id, k := range c.calls {
		if k.err == nil {
			k.err = err
		}
		k.wake()
		delete(c.calls, id)
	}
	c.c.SetDeadline(past)
	c.signal()
	go c.t.h2.remove(c) // not under our lock
}

func (c *h2client) end(err error) {
	c.mu.Lock()
	c.endLocked(err)
	c.mu.Unlock()
}

// write writes what is to be written until the connection ends.
func (c *h2client) write() {
	defer c.p.upstreams.Done()
	defer c.c.Close()
	var spare []byte
	for range c.work {
		c.mu.Lock()
		b := c.out
		c.out = spare[:0]
		over := c.ended
		if !over {
			c.c.SetWriteDeadline(time.Now().Add(targetH2Quiet))
		}
		c.mu.Unlock()
		if over {
			return
		}
		if len(b) == 0 {
			spare = b
			continue
		}
		if _, err := c.c.Write(b); err != nil {
			c.end(err)
			return
		}
		if spare = b; cap(spare) > 2*callOut {
			spare = nil
		}
		c.mu.Lock()
		for _, k := range c.calls {
			k.wakeWriter()
		}
		c.mu.Unlock()
	}
}

// read handles the target's frames until the connection ends.
func (c *h2client) read() {
	defer c.p.upstreams.Done()
	fr := http2.NewFramer(io.Discard, c.c)
	fr.SetReuseFrames()
	fr.SetMaxReadFrameSize(h2MaxFrame)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.MaxHeaderListSize = maxResponseHead
	settled := false
	for {
		f, err := fr.ReadFrame()
		var se http2.StreamError
		if errors.As(err, &se) {
			c.fail(se.StreamID, http2.ErrCodeProtocol, errBadResponse)
			continue
		}
		if err == nil {
			if _, ok := f.(*http2.SettingsFrame); !ok && !settled {
				err = http2.ConnectionError(http2.ErrCodeProtocol)
			} else {
				settled = true
				err = c.frame(f)
			}
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			c.end(err)
			return
		}
	}
}

// fail ends a call from our side.
func (c *h2client) fail(id uint32, code http2.ErrCode, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.calls[id]; k != nil {
		k.err = err
		delete(c.calls, id)
		k.wake()
	}
	c.out = appendReset(c.out, id, code)
	c.signal()
}

// frame handles one frame. An error is the connection's.
func (c *h2client) frame(f http2.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := f.Header().StreamID
	k := c.calls[id]
	const broken = http2.ConnectionError(http2.ErrCodeProtocol)
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		if k == nil {
			if id&1 == 0 || id >= c.next {
				return broken
			}
			return nil
		}
		if !k.takeHead(f) {
			k.err = errBadResponse
			delete(c.calls, id)
			c.out = appendReset(c.out, id, http2.ErrCodeProtocol)
			c.signal()
		}
		k.wake()
	case *http2.DataFrame:
		n := int64(f.Header().Length)
		if c.recvDebt += n; c.recvDebt >= targetWindow/4 {
			c.out = appendWindowUpdate(c.out, 0, c.recvDebt)
			c.recvDebt = 0
			c.signal()
		}
		if k == nil {
			if id&1 == 0 || id >= c.next {
				return broken
			}
			return nil
		}
		if k.recvWindow -= n; k.recvWindow < 0 || !k.answered || k.ended {
			k.err = errBadResponse
			delete(c.calls, id)
			c.out = appendReset(c.out, id, http2.ErrCodeFlowControl)
			c.signal()
		} else {
			k.takeData(f.Data(), n, f.StreamEnded())
		}
		k.wake()
	case *http2.RSTStreamFrame:
		if k == nil {
			return nil
		}
		delete(c.calls, id)
		switch {
		case k.ended: // the answer is complete; the rest of the request isn't wanted
			k.cut = true
		case f.ErrCode == http2.ErrCodeRefusedStream:
			k.err = errNotProcessed
		default:
			k.err = targetReset(f.ErrCode)
		}
		k.wake()
	case *http2.GoAwayFrame:
		c.closing = true
		for id, k := range c.calls {
			if id > f.LastStreamID {
				k.err = errNotProcessed
				delete(c.calls, id)
				k.wake()
			}
		}
		if len(c.calls)+c.reserved == 0 {
			c.endLocked(nil)
		}
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		err := f.ForeachSetting(func(s http2.Setting) error {
			if err := s.Valid(); err != nil {
				return err
			}
			switch s.ID {
			case http2.SettingMaxConcurrentStreams:
				c.limit = int(min(s.Val, maxCalls))
			case http2.SettingInitialWindowSize:
				more := int64(s.Val) - c.peerWindow
				c.peerWindow = int64(s.Val)
				for _, k := range c.calls {
					k.sendWindow += more
					k.wakeWriter()
				}
			case http2.SettingHeaderTableSize:
				c.resize = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.out = appendFrame(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0, 0)
		c.signal()
	case *http2.WindowUpdateFrame:
		switch n := int64(f.Increment); {
		case id == 0:
			if c.sendWindow += n; c.sendWindow > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
			for _, k := range c.calls {
				k.wakeWriter()
			}
		case k != nil:
			if k.sendWindow += n; k.sendWindow > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
			k.wakeWriter()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			c.out = append(appendFrame(c.out, http2.FramePing, http2.FlagPingAck, 0, 8), f.Data[:]...)
			c.signal()
		}
	case *http2.PushPromiseFrame:
		return broken
	}
	if len(c.out) > maxTargetOut {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}
