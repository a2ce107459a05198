package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
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

// h2call is one request to a target on a stream. To the exchange it is a connection that speaks HTTP/1.1: the head and the
// body that are written to it become frames, and the target's frames are read from it as a head and a body.
type h2call struct {
	c           *h2client
	interrupted atomic.Bool
	canRead     chan struct{}
	canWrite    chan struct{}
	src         bodySource // the request's body, as it is written; the writer's
	head        bool       // the request is HEAD

	// Guarded by c.mu.
	id         uint32 // 0: not sent yet
	closed     bool
	err        error
	sendWindow int64
	recvWindow int64
	in         []byte // the answer in HTTP/1.1's form; in[used:] is not read yet
	used       int
	owed       int64 // flow-control bytes in in
	debt       int64
	answered   bool // the final head is in
	chunked    bool // its body is framed as chunks
	ended      bool // all of the answer is in
	sent       bool // all of the request is out
	cut        bool // the target wants no more of it
}

func (k *h2call) wakeWriter() {
	select {
	case k.canWrite <- struct{}{}:
	default:
	}
}

func (k *h2call) wake() {
	k.wakeWriter()
	select {
	case k.canRead <- struct{}{}:
	default:
	}
}

// takeHead takes a header block: an interim head, the final one, or trailers.
func (k *h2call) takeHead(f *http2.MetaHeadersFrame) bool {
	if f.Truncated || k.ended {
		return false
	}
	if k.answered { // trailers
		if !f.StreamEnded() || len(f.PseudoFields()) > 0 {
			return false
		}
		if k.ended = true; !k.chunked {
			return true
		}
		k.in = append(k.in, "0\r\n"...)
		if !k.takeFields(f.Fields, true) {
			return false
		}
		k.in = append(k.in, '\r', '\n')
		return true
	}
	ps := f.PseudoFields()
	if len(ps) != 1 || ps[0].Name != ":status" || len(ps[0].Value) != 3 {
		return false
	}
	status := ps[0].Value
	if status[0] == '1' && (f.StreamEnded() || status == "101" || len(k.in)-k.used > maxInterim*maxResponseHead) {
		return false
	}
	k.in = append(k.in, "HTTP/1.1 "...)
	k.in = append(k.in, status...)
	k.in = append(k.in, " \r\n"...)
	sized := false
	fs := f.RegularFields()
	trailers := hasField(fs, "trailer")
	for i := range fs {
		if fs[i].Name == "content-length" {
			if trailers {
				fs = append(fs[:i:i], fs[i+1:]...) // trailers need chunks
			} else {
				sized = true
			}
			break
		}
	}
	if !k.takeFields(fs, false) {
		return false
	}
	if status[0] == '1' {
		k.in = append(k.in, '\r', '\n')
		return true
	}
	k.answered, k.ended = true, f.StreamEnded()
	if !k.head && status != "204" && status != "304" && !sized {
		k.chunked = true
		k.in = append(k.in, "transfer-encoding: chunked\r\n"...)
	}
	k.in = append(k.in, '\r', '\n')
	if k.ended && k.chunked {
		k.in = append(k.in, "0\r\n\r\n"...)
	}
	return true
}

func hasField(fs []hpack.HeaderField, name string) bool {
	return slices.ContainsFunc(fs, func(f hpack.HeaderField) bool { return f.Name == name })
}

func (k *h2call) takeFields(fs []hpack.HeaderField, trailers bool) bool {
	for i := range fs {
		f := &fs[i]
		switch f.Name {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			return false
		case "content-length":
			if trailers {
				continue
			}
		}
		k.in = append(k.in, f.Name...)
		k.in = append(k.in, ": "...)
		k.in = append(k.in, f.Value...)
		k.in = append(k.in, '\r', '\n')
	}
	return true
}

// takeData takes data; n is what flow control counts.
func (k *h2call) takeData(b []byte, n int64, end bool) {
	k.owed += n
	if k.used > 0 && len(k.in)+len(b)+32 > cap(k.in) {
		k.in = k.in[:copy(k.in, k.in[k.used:])]
		k.used = 0
	}
	switch {
	case !k.chunked:
		k.in = append(k.in, b...)
	case len(b) > 0:
		k.in = appendChunk(k.in, b)
	}
	if k.ended = end; end && k.chunked {
		k.in = append(k.in, "0\r\n\r\n"...)
	}
}

// Read reads the answer.
func (k *h2call) Read(b []byte) (int, error) {
	c := k.c
	for {
		c.mu.Lock()
		if k.used < len(k.in) {
			n := copy(b, k.in[k.used:])
			if k.used += n; k.used == len(k.in) {
				k.in, k.used = k.in[:0], 0
				if k.debt += k.owed; k.debt >= callWindow/2 && !k.ended && !k.closed && k.err == nil {
					c.out = appendWindowUpdate(c.out, k.id, k.debt)
					k.recvWindow += k.debt
					k.debt = 0
					c.signal()
				}
				k.owed = 0
			}
			c.mu.Unlock()
			return n, nil
		}
		ended, err := k.ended, k.err
		c.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case ended:
			return 0, io.EOF
		case k.interrupted.Load():
			return 0, os.ErrDeadlineExceeded
		}
		<-k.canRead
	}
}

// Write takes the request: first its head, whole, then the body in the head's framing.
func (k *h2call) Write(b []byte) (int, error) {
	c := k.c
	body := b
	if k.id == 0 {
		i := bytes.Index(b, []byte("\r\n\r\n"))
		if i < 0 {
			return 0, errBadHeader
		}
		block, end := k.appendHead(nil, b[:i+2])
		c.mu.Lock()
		if c.closing || c.ended || k.closed {
			c.mu.Unlock()
			return 0, errNotProcessed
		}
		k.id = c.next
		c.next += 2
		c.reserved--
		c.calls[k.id] = k
		k.sendWindow, k.recvWindow, k.sent = c.peerWindow, callWindow, end
		c.out = appendBlock(c.out, k.id, block, end, c.resize)
		c.resize = false
		c.signal()
		c.mu.Unlock()
		if body = b[i+4:]; len(body) == 0 {
			return len(b), nil
		}
		body = append([]byte(nil), body...) // it may be sent again, and is decoded in place
	}
	n, _, end, err := k.src.decode(body)
	if err != nil {
		return 0, err
	}
	if err := k.send(body[:n], end); err != nil {
		return 1, err
	}
	return len(b), nil
}

// send frames data as the windows allow.
func (k *h2call) send(b []byte, end bool) error {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case k.err != nil:
			return k.err
		case k.cut, k.closed:
			return syscall.EPIPE
		case k.sent:
			return nil
		}
		n := int(min(int64(len(b)), h2MaxFrame, k.sendWindow, c.sendWindow, int64(max(0, callOut-len(c.out)))))
		if n > 0 || end && len(b) == 0 {
			var flags http2.Flags
			if end && n == len(b) {
				flags, k.sent = http2.FlagDataEndStream, true
			}
			c.out = appendFrame(c.out, http2.FrameData, flags, k.id, n)
			c.out = append(c.out, b[:n]...)
			b = b[n:]
			k.sendWindow -= int64(n)
			c.sendWindow -= int64(n)
			c.signal()
		}
		if len(b) == 0 {
			return nil
		}
		if n > 0 {
			continue
		}
		if k.interrupted.Load() {
			return os.ErrDeadlineExceeded
		}
		c.mu.Unlock()
		<-k.canWrite
		c.mu.Lock()
	}
}

// appendHead appends the header block for an HTTP/1.1 head, and notes how the body behind it is framed. end tells that there
// is none.
func (k *h2call) appendHead(dst, head []byte) (block []byte, end bool) {
	i := bytes.IndexByte(head, '\n')
	line, fields := head[:i-1], head[i+1:]
	sp, sp2 := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	method := line[:sp]
	k.head = string(method) == "HEAD"
	switch string(method) {
	case "GET":
		dst = append(dst, 0x82)
	case "POST":
		dst = append(dst, 0x83)
	default:
		dst = appendIndexed(dst, 2, method)
	}
	if k.c.t.tls {
		dst = append(dst, 0x87)
	} else {
		dst = append(dst, 0x86)
	}
	dst = appendIndexed(dst, 4, line[sp+1:sp2])
	// The pseudo-headers come first.
	each := func(fn func(id fieldID, name, value []byte)) {
		for b := fields; len(b) > 0; {
			i := bytes.IndexByte(b, '\n')
			j := bytes.IndexByte(b, ':')
			fn(known(b[:j]), b[:j], trim(b[j+1:i-1]))
			b = b[i+1:]
		}
	}
	each(func(id fieldID, _, value []byte) {
		if id == fHost {
			dst = appendIndexed(dst, 1, value)
		}
	})
	end = true
	grpc := false
	each(func(id fieldID, name, value []byte) {
		switch id {
		case fHost, fConnection, fUpgrade, fHop:
			return
		case fTransferEncoding:
			end = false
			k.src = bodySource{framing: byChunks}
			return
		case fContentLength:
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 {
				end = false
				k.src = bodySource{framing: byLength, left: n}
			}
		case fOther:
			grpc = grpc || isContentType(name) && isGRPC(value)
		}
		dst = appendField(dst, name, value)
	})
	if grpc {
		dst = appendField(dst, []byte("te"), []byte("trailers"))
	}
	return dst, end
}

// appendIndexed appends a field whose name is in the static table.
func appendIndexed(dst []byte, index uint64, value []byte) []byte {
	dst = appendHpackInt(dst, 0, 4, index)
	dst = appendHpackInt(dst, 0, 7, uint64(len(value)))
	return append(dst, value...)
}

// Close ends the call: one that is not complete is reset.
func (k *h2call) Close() error {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	if k.id == 0 {
		c.reserved--
	} else if c.calls[k.id] == k {
		delete(c.calls, k.id)
		if !k.ended || !k.sent {
			c.out = appendReset(c.out, k.id, http2.ErrCodeCancel)
			c.signal()
		}
	}
	k.wake()
	if len(c.calls)+c.reserved == 0 {
		c.idleSince = c.p.opt.Clock()
		if c.closing || c.t.removed.Load() {
			c.endLocked(nil)
		}
	}
	return nil
}

// SetDeadline interrupts the call, or undoes that: there is no other use.
func (k *h2call) SetDeadline(t time.Time) error {
	k.interrupted.Store(!t.IsZero())
	k.wake()
	return nil
}

func (k *h2call) SetReadDeadline(t time.Time) error  { return k.SetDeadline(t) }
func (k *h2call) SetWriteDeadline(t time.Time) error { return k.SetDeadline(t) }
func (k *h2call) LocalAddr() net.Addr                { return k.c.c.LocalAddr() }
func (k *h2call) RemoteAddr() net.Addr               { return k.c.c.RemoteAddr() }

func isContentType(name []byte) bool { return len(name) == 12 && equalFold(name, "content-type") }

// isGRPC tells whether a content type is gRPC's.
func isGRPC(v []byte) bool {
	const t = "application/grpc"
	return len(v) >= len(t) && equalFold(v[:len(t)], t) && (len(v) == len(t) || v[len(t)] == '+' || v[len(t)] == ';')
}

// mismatch tells whether the group's targets do not speak the version that the request needs.
func (g *group) mismatch(r *request) bool {
	switch g.version {
	case HTTP2:
		return !r.http2
	case GRPC:
		return !r.grpc || string(r.method) != "POST"
	}
	return r.grpc
}

// noteVersion notes that the request came over HTTP/2.
func (r *request) noteVersion() {
	r.http2 = true
	for i := range r.fields {
		if f := &r.fields[i]; f.id == fOther && isContentType(f.name) {
			r.grpc = isGRPC(f.value)
		}
	}
}
