//go:build linux && (amd64 || arm64)

package proxy

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"skerry/internal/tlsfront"
)

// servesH2 tells whether this build offers HTTP/2 to clients.
const servesH2 = true

// h2conn is a client's HTTP/2 connection. One goroutine runs it: it waits on an epoll set that holds the client's socket and
// those of the targets that short exchanges use, handles all that is ready as one batch, and then writes all frames that came
// of it at once. An exchange that may have to wait for something else has a goroutine of its own; it meets the connection's
// goroutine under mu, and flushes what it has to say itself.
type h2conn struct {
	p    *Proxy
	ln   *listener
	peer peerInfo
	born time.Time

	wire   h2wire
	set    *os.File // the epoll set, which Go's own poller waits for
	setRaw syscall.RawConn
	woken  atomic.Bool
	due    atomic.Int64                 // when the ticker must wake the goroutine, ns of Proxy.ticks
	events *[eventBatch]unix.EpollEvent // while there are some
	wg     sync.WaitGroup               // goroutines of streams

	mu       sync.Mutex // guards what follows; held neither over a wait nor over calls into a watch that could call back
	in       *buffer    // what has been read and not used is in.b[r:w]; nil when there is nothing
	r, w     int
	readable bool
	preface  int // bytes of the client's preface seen
	settled  bool
	out      []byte // frames to be written
	streams  map[uint32]*h2stream
	lastID   uint32 // highest stream that the client opened
	requests int
	busy     int // goroutines of streams

	sendWindow int64 // of the connection
	recvWindow int64
	recvDebt   int64 // bytes used and not yet given back to the client
	peerWindow int64 // initial, of streams

	dec       *hpack.Decoder
	head      streamHead
	block     headerBlock
	resize    bool           // the next header block must say that we use no dynamic table
	closed    []closedStream // the latest ones, up to maxClosed; then a ring
	closedAt  int
	idleFloor int // frames in a row that brought no request and no data
	resets    int // streams that the client reset of late, less those that it let finish
	resetsAt  int64

	goingAway bool  // a GOAWAY has gone out: no stream above lastID counts
	over      bool  // nothing is read any more; the connection ends when out is written
	dead      bool  // and nothing is written either
	lastUse   int64 // ticks
	lastWrite int64 // when the client last took something, or nothing waited for it
	drain     atomic.Bool
	killed    atomic.Bool
	fast      h2fast
}

// headerBlock is a block of header fields on its way in.
type headerBlock struct {
	id     uint32 // 0: none
	s      *h2stream
	size   int
	frames int
	end    bool
	drop   http2.ErrCode // decoded, but the stream is reset
	ignore bool          // decoded, and that is all
}

type closedStream struct {
	id    uint32
	reset bool // by us: what was under way is no error
}

// serveH2 runs a connection that has agreed on HTTP/2.
func (p *Proxy) serveH2(ln *listener, nc net.Conn, s *tlsfront.Session, peer peerInfo) {
	if s.State == nil {
		// RFC 9113 section 9.2.2: a suite that HTTP/2 forbids.
		t := s.Conn(nc, nil, nil)
		t.SetDeadline(time.Now().Add(lastWriteTime))
		b := appendFrame(nil, http2.FrameSettings, 0, 0, 0)
		t.Write(append(appendFrame(b, http2.FrameGoAway, 0, 0, 8), 0, 0, 0, 0, 0, 0, 0, byte(http2.ErrCodeInadequateSecurity)))
		t.Close()
		return
	}
	fd, err := dupSocket(nc)
	if err != nil {
		p.opt.Log.Warn("HTTP/2 connection", "err", err)
		return
	}
	nc.Close()
	c := &h2conn{p: p, ln: ln, peer: peer, born: p.opt.Clock(), streams: map[uint32]*h2stream{},
		sendWindow: 65535, recvWindow: connWindow, peerWindow: 65535, readable: true}
	c.wire = h2wire{fd: int32(fd), state: s.State}
	if len(s.Rest) > 0 {
		c.wire.in = buffers.Get().(*buffer)
		c.wire.w = copy(c.wire.in.b, s.Rest) // a handshake's buffer is smaller
	}
	c.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) { c.head.add(f) })
	c.lastUse = p.ticks.Load()
	if err := c.open(); err != nil {
		p.opt.Log.Warn("HTTP/2 connection", "err", err)
		c.wire.close()
		return
	}
	p.h2.add(c)
	defer p.h2.remove(c)
	if ln.closing.Load() {
		c.drain.Store(true)
	}
	c.run()
}

// open makes the epoll set.
func (c *h2conn) open() error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	unix.SetNonblock(ep, true) // so that Go's poller takes it
	c.set = os.NewFile(uintptr(ep), "epoll")
	if c.setRaw, err = c.set.SyscallConn(); err == nil {
		err = epollAdd(ep, c.wire.fd, 0, edges)
	}
	if err != nil {
		c.set.Close()
		return err
	}
	c.fast.init(c, ep)
	return nil
}

func (c *h2conn) run() {
	c.mu.Lock()
	defer func() {
		if err := recover(); err != nil {
			c.p.opt.Log.Error("panic", "listener", c.ln.addr, "err", err, "stack", stack())
		}
		c.dead = true
		c.abandon()
		c.fast.end()
		c.mu.Unlock()
		c.wg.Wait()
		c.set.Close()
		c.wire.close()
		if c.in != nil {
			largeBuffers.Put(c.in)
			c.in = nil
		}
	}()
	c.hello()
	for {
		c.work()
		c.flush()
		if c.dead || c.over && len(c.wire.out) == 0 && c.lingered() {
			return
		}
		more := c.readable && !c.congested() || len(c.fast.ready) > 0
		c.mu.Unlock()
		n := c.wait(!more)
		c.mu.Lock()
		c.fast.gather()
		for i := range n {
			e := &c.events[i]
			if e.Fd != c.wire.fd {
				c.fast.event(e)
				continue
			}
			if e.Events&^unix.EPOLLOUT != 0 {
				c.readable = true
			}
			if e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
				c.wire.hup = true
			}
			c.wire.full = false
		}
		if n > 0 {
			eventPool.Put(c.events)
		}
		c.fast.resume()
		c.look()
	}
}

// wait returns the number of events, after waiting for one or a call of wake if block is set.
func (c *h2conn) wait(block bool) (n int) {
	err := c.setRaw.Read(func(fd uintptr) bool {
		c.events = eventPool.Get().(*[eventBatch]unix.EpollEvent)
		if n = epollWait(int(fd), c.events[:], 0); n > 0 {
			return true
		}
		eventPool.Put(c.events)
		return !block || c.woken.Load()
	})
	if err != nil || c.woken.Load() {
		c.set.SetReadDeadline(time.Time{})
		c.woken.Store(false)
	}
	return max(n, 0)
}

var eventPool = sync.Pool{New: func() any { return new([eventBatch]unix.EpollEvent) }}

// wake makes the goroutine look around.
func (c *h2conn) wake() {
	if !c.woken.Swap(true) {
		c.set.SetReadDeadline(past)
	}
}

// hello sends our settings, and opens the connection's window beyond its initial size.
func (c *h2conn) hello() {
	c.out = appendFrame(c.out, http2.FrameSettings, 0, 0, 18)
	for _, s := range [...]http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams}, {ID: http2.SettingInitialWindowSize, Val: streamWindow},
		{ID: http2.SettingMaxHeaderListSize, Val: maxRequestHead}} {
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(s.ID))
		c.out = binary.BigEndian.AppendUint32(c.out, s.Val)
	}
	c.windowUpdate(0, connWindow-65535)
}

func (c *h2conn) windowUpdate(id uint32, n int64) {
	c.out = appendWindowUpdate(c.out, id, n)
}

func (c *h2conn) rst(id uint32, code http2.ErrCode) {
	c.out = appendReset(c.out, id, code)
}

// goAway announces the end. Streams that have begun may finish, unless code is an error: then the connection is over.
func (c *h2conn) goAway(code http2.ErrCode) {
	if !c.goingAway || code != http2.ErrCodeNo {
		c.out = appendFrame(c.out, http2.FrameGoAway, 0, 0, 8)
		c.out = binary.BigEndian.AppendUint32(c.out, c.lastID)
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
	}
	c.goingAway = true
	if code != http2.ErrCodeNo {
		c.abandon()
	}
	if len(c.streams) == 0 {
		c.finish()
	}
}

// finish ends the connection once everything is written. The client's bytes are read and ignored for a moment: closing at
// once would reset the connection and could destroy the last frames on their way.
func (c *h2conn) finish() {
	if !c.over {
		c.over = true
		c.fast.giveBack()
		c.lastUse = c.p.ticks.Load()
		c.due.Store(0)
	}
}

// lingered tells whether the client has had time to read the end.
func (c *h2conn) lingered() bool {
	if !c.wire.ended {
		c.wire.end()
	}
	return c.p.ticks.Load()-c.lastUse >= int64(h2Linger)
}

// congested tells that the client reads too slowly to be answered more, be it frames that only acknowledge.
func (c *h2conn) congested() bool { return len(c.out)+len(c.wire.out) > maxPending }

// room is how many bytes of data may be framed now.
func (c *h2conn) room() int64 {
	return min(c.sendWindow, int64(max(0, pendingData-len(c.out)-len(c.wire.out))))
}

// flush writes what there is to write.
func (c *h2conn) flush() {
	if c.dead {
		return
	}
	if len(c.wire.out) == 0 {
		c.lastWrite = c.p.ticks.Load()
	}
	if len(c.out) > 0 && !c.wire.ended {
		c.wire.out = c.wire.state.Seal(c.wire.out, c.out)
		if cap(c.out) > bufferSize {
			c.out = nil
		}
	}
	c.out = c.out[:0]
	before := len(c.wire.out)
	if before == 0 {
		return
	}
	if c.wire.flush() != nil {
		c.dead = true
		c.wake()
		return
	}
	if len(c.wire.out) < before {
		c.lastWrite = c.p.ticks.Load()
	}
	if before > pendingData && len(c.wire.out) <= pendingData {
		c.unblock()
		if len(c.fast.ready) > 0 {
			c.wake() // it may be a stream's goroutine that writes
		}
	}
}

// unblock lets all streams go on that may have waited for room or a window.
func (c *h2conn) unblock() {
	for _, s := range c.streams {
		s.signal()
	}
}

// work reads and handles frames until nothing is at hand.
func (c *h2conn) work() {
	for n := 0; c.readable && !c.dead && !c.congested(); n++ {
		if n == readsABatch {
			return
		}
		if c.in == nil {
			c.in = largeBuffers.Get().(*buffer)
			c.r, c.w = 0, 0
		}
		if c.r > 0 {
			c.w = copy(c.in.b, c.in.b[c.r:c.w])
			c.r = 0
		}
		b, again, err := c.wire.read(c.in.b[:c.w])
		if c.w = len(b); !c.over {
			c.consume()
		} else {
			c.w = 0
		}
		c.readable = !again
		c.dead = c.dead || err != nil // closed, with or without notice
	}
	if c.in != nil && c.r == c.w {
		largeBuffers.Put(c.in)
		c.in, c.r, c.w = nil, 0, 0
	}
}

// consume handles the frames at hand.
func (c *h2conn) consume() {
	for c.preface < len(http2.ClientPreface) && c.r < c.w {
		if c.in.b[c.r] != http2.ClientPreface[c.preface] {
			c.goAway(http2.ErrCodeProtocol)
			return
		}
		c.preface++
		c.r++
	}
	for c.w-c.r >= 9 && !c.over {
		h := c.in.b[c.r:c.w]
		n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if n > h2MaxFrame {
			c.goAway(http2.ErrCodeFrameSize)
			return
		}
		if len(h) < 9+n {
			return
		}
		c.r += 9 + n
		typ, flags, id := http2.FrameType(h[3]), http2.Flags(h[4]), binary.BigEndian.Uint32(h[5:])&(1<<31-1)
		if code := c.frame(typ, flags, id, h[9:9+n]); code != http2.ErrCodeNo {
			c.goAway(code)
			return
		}
	}
	if c.over {
		c.r = c.w
	}
}

// frame handles one frame. An error is the connection's.
func (c *h2conn) frame(typ http2.FrameType, flags http2.Flags, id uint32, b []byte) http2.ErrCode {
	if !c.settled && (typ != http2.FrameSettings || flags&http2.FlagSettingsAck != 0) {
		return http2.ErrCodeProtocol
	}
	if c.block.id != 0 && (typ != http2.FrameContinuation || id != c.block.id) {
		return http2.ErrCodeProtocol
	}
	if c.idleFloor++; c.idleFloor > maxIdleFrames {
		return http2.ErrCodeEnhanceYourCalm
	}
	switch typ {
	case http2.FrameData:
		return c.onData(flags, id, b)
	case http2.FrameHeaders:
		return c.onHeaders(flags, id, b)
	case http2.FrameContinuation:
		if c.block.id == 0 {
			return http2.ErrCodeProtocol
		}
		return c.fragment(b, flags&http2.FlagContinuationEndHeaders != 0)
	case http2.FrameSettings:
		return c.onSettings(flags, id, b)
	case http2.FrameWindowUpdate:
		return c.onWindowUpdate(id, b)
	case http2.FrameRSTStream:
		switch {
		case len(b) != 4:
			return http2.ErrCodeFrameSize
		case id == 0 || id > c.lastID || id&1 == 0:
			return http2.ErrCodeProtocol
		}
		if s := c.streams[id]; s != nil {
			if now := c.p.ticks.Load(); now-c.resetsAt > int64(time.Second) {
				c.resets, c.resetsAt = c.resets/2, now
			}
			if c.resets++; c.resets > maxResets {
				return http2.ErrCodeEnhanceYourCalm
			}
			c.drop(s)
			s.left()
		}
	case http2.FramePing:
		switch {
		case len(b) != 8:
			return http2.ErrCodeFrameSize
		case id != 0:
			return http2.ErrCodeProtocol
		}
		if flags&http2.FlagPingAck == 0 {
			c.out = append(appendFrame(c.out, http2.FramePing, http2.FlagPingAck, 0, 8), b...)
		}
	case http2.FramePriority:
		switch {
		case id == 0:
			return http2.ErrCodeProtocol
		case len(b) != 5:
			c.resetID(id, http2.ErrCodeFrameSize)
		case binary.BigEndian.Uint32(b)&(1<<31-1) == id:
			c.resetID(id, http2.ErrCodeProtocol)
		}
	case http2.FrameGoAway:
		switch {
		case id != 0:
			return http2.ErrCodeProtocol
		case len(b) < 8:
			return http2.ErrCodeFrameSize
		}
		c.goAway(http2.ErrCodeNo)
	case http2.FramePushPromise:
		return http2.ErrCodeProtocol
	}
	return http2.ErrCodeNo
}

func (c *h2conn) onSettings(flags http2.Flags, id uint32, b []byte) http2.ErrCode {
	switch {
	case id != 0:
		return http2.ErrCodeProtocol
	case flags&http2.FlagSettingsAck != 0 && len(b) > 0, len(b)%6 != 0:
		return http2.ErrCodeFrameSize
	case flags&http2.FlagSettingsAck != 0:
		return http2.ErrCodeNo
	}
	c.settled = true
	c.idleFloor += 20 // dearer than other frames
	for ; len(b) > 0; b = b[6:] {
		v := binary.BigEndian.Uint32(b[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(b)) {
		case http2.SettingHeaderTableSize:
			c.resize = true
		case http2.SettingEnablePush:
			if v > 1 {
				return http2.ErrCodeProtocol
			}
		case http2.SettingInitialWindowSize:
			if v > maxWindow {
				return http2.ErrCodeFlowControl
			}
			more := int64(v) - c.peerWindow
			c.peerWindow = int64(v)
			for _, s := range c.streams {
				if s.sendWindow += more; s.sendWindow > maxWindow {
					return http2.ErrCodeFlowControl
				}
			}
			c.unblock()
		case http2.SettingMaxFrameSize:
			if v < h2MaxFrame || v >= 1<<24 {
				return http2.ErrCodeProtocol
			}
		}
	}
	c.out = appendFrame(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0, 0)
	return http2.ErrCodeNo
}

func (c *h2conn) onWindowUpdate(id uint32, b []byte) http2.ErrCode {
	if len(b) != 4 {
		return http2.ErrCodeFrameSize
	}
	n := int64(binary.BigEndian.Uint32(b) & (1<<31 - 1))
	if id == 0 {
		if n == 0 {
			return http2.ErrCodeProtocol
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return http2.ErrCodeFlowControl
		}
		c.unblock()
		return http2.ErrCodeNo
	}
	if id > c.lastID || id&1 == 0 {
		return http2.ErrCodeProtocol
	}
	s := c.streams[id]
	switch {
	case s == nil:
	case n == 0:
		c.reset(s, http2.ErrCodeProtocol)
	case s.sendWindow+n > maxWindow:
		c.reset(s, http2.ErrCodeFlowControl)
	default:
		s.sendWindow += n
		s.signal()
	}
	return http2.ErrCodeNo
}

// unpad takes the padding off a frame.
func unpad(flags http2.Flags, b []byte) ([]byte, bool) {
	if flags&http2.FlagDataPadded == 0 {
		return b, true
	}
	if len(b) == 0 || int(b[0]) >= len(b) {
		return nil, false
	}
	return b[1 : len(b)-int(b[0])], true
}

func (c *h2conn) onData(flags http2.Flags, id uint32, b []byte) http2.ErrCode {
	if id == 0 || id > c.lastID && !c.goingAway || id&1 == 0 {
		return http2.ErrCodeProtocol
	}
	n := int64(len(b)) // padding counts
	if c.recvWindow -= n; c.recvWindow < 0 {
		return http2.ErrCodeFlowControl
	}
	b, ok := unpad(flags, b)
	if !ok {
		return http2.ErrCodeProtocol
	}
	end := flags&http2.FlagDataEndStream != 0
	s := c.streams[id]
	if s == nil || s.ended {
		c.credit(n)
		if s == nil && (c.wasReset(id) || id > c.lastID) {
			return http2.ErrCodeNo
		}
		if s != nil {
			c.reset(s, http2.ErrCodeStreamClosed)
			return http2.ErrCodeNo
		}
		return http2.ErrCodeStreamClosed
	}
	if s.recvWindow -= n; s.recvWindow < 0 {
		c.credit(n)
		c.reset(s, http2.ErrCodeFlowControl)
		return http2.ErrCodeNo
	}
	if len(b) > 0 || end {
		c.idleFloor = 0
	}
	c.lastUse = c.p.ticks.Load()
	s.got += int64(len(b))
	if s.declared >= 0 && (s.got > s.declared || end && s.got != s.declared) {
		c.credit(n)
		c.reset(s, http2.ErrCodeProtocol)
		return http2.ErrCodeNo
	}
	if pad := n - int64(len(b)); pad > 0 {
		c.credit(pad)
		s.credit(pad)
	}
	s.take(b, end)
	return http2.ErrCodeNo
}

// credit gives bytes of the connection's window back, not too often.
func (c *h2conn) credit(n int64) {
	if c.recvDebt += n; c.recvDebt >= connWindow/2 {
		c.windowUpdate(0, c.recvDebt)
		c.recvWindow += c.recvDebt
		c.recvDebt = 0
	}
}

func (c *h2conn) onHeaders(flags http2.Flags, id uint32, b []byte) http2.ErrCode {
	if id&1 == 0 {
		return http2.ErrCodeProtocol
	}
	b, ok := unpad(flags, b)
	if !ok {
		return http2.ErrCodeProtocol
	}
	c.block = headerBlock{id: id, end: flags&http2.FlagHeadersEndStream != 0}
	if flags&http2.FlagHeadersPriority != 0 {
		if len(b) < 5 {
			return http2.ErrCodeFrameSize
		}
		if binary.BigEndian.Uint32(b)&(1<<31-1) == id {
			c.block.drop = http2.ErrCodeProtocol
		}
		b = b[5:]
	}
	s := c.streams[id]
	switch {
	case s != nil && s.ended:
		c.block.s, c.block.drop = s, http2.ErrCodeStreamClosed
	case s != nil:
		c.block.s = s
		if !c.block.end {
			c.block.drop = http2.ErrCodeProtocol // trailers end the stream
		}
	case id <= c.lastID:
		closed, reset := c.wasClosed(id)
		switch {
		case !closed:
			return http2.ErrCodeProtocol
		case !reset:
			return http2.ErrCodeStreamClosed
		}
		c.block.ignore = true
	case c.goingAway:
		c.block.ignore = true
	default:
		c.lastID = id
		if len(c.streams) >= maxStreams || c.busy >= 2*maxStreams {
			if c.block.drop == 0 {
				c.block.drop = http2.ErrCodeRefusedStream
			}
		}
	}
	c.head.reset(s != nil)
	c.dec.SetEmitEnabled(!c.block.ignore && c.block.drop == 0)
	return c.fragment(b, flags&http2.FlagHeadersEndHeaders != 0)
}

// fragment takes a piece of the header block.
func (c *h2conn) fragment(b []byte, end bool) http2.ErrCode {
	k := &c.block
	k.frames++
	if k.size += len(b); k.size > maxHeaderBlock || k.frames > maxContinuations {
		return http2.ErrCodeEnhanceYourCalm
	}
	if _, err := c.dec.Write(b); err != nil {
		return http2.ErrCodeCompression
	}
	if !end {
		return http2.ErrCodeNo
	}
	if c.dec.Close() != nil {
		return http2.ErrCodeCompression
	}
	id := k.id
	k.id = 0
	switch {
	case k.ignore:
		return http2.ErrCodeNo
	case k.drop != 0:
		if k.s != nil {
			c.reset(k.s, k.drop)
		} else {
			c.resetID(id, k.drop)
		}
		return http2.ErrCodeNo
	case k.s != nil:
		if !c.head.check(true) || c.head.large || k.s.declared >= 0 && k.s.got != k.s.declared {
			c.reset(k.s, http2.ErrCodeProtocol)
			return http2.ErrCodeNo
		}
		k.s.tr = c.head.appendTrailer(k.s.tr[:0])
		c.idleFloor = 0
		k.s.take(nil, true)
		return http2.ErrCodeNo
	}
	if !c.head.check(k.end) {
		c.resetID(id, http2.ErrCodeProtocol)
		return http2.ErrCodeNo
	}
	c.begin(id, k.size, k.end)
	return http2.ErrCodeNo
}

// begin begins the stream whose request is in head.
func (c *h2conn) begin(id uint32, size int, end bool) {
	lt := c.ln.table.Load()
	now := c.p.opt.Clock()
	c.idleFloor = 0
	c.lastUse = c.p.ticks.Load()
	c.requests++
	if len(c.streams) == 0 {
		c.due.Store(0) // its time limit is looked at from the next tick on
	}
	s := newStream(c, id, lt, end)
	s.declared = c.head.length
	c.streams[id] = s
	s.head = c.head.appendTo(s.head[:0], end)
	s.start(now, size)
	if c.requests >= maxStreamRequests || now.Sub(c.born) >= lt.attrs.keepAlive || lt.tls == nil {
		c.goAway(http2.ErrCodeNo)
	}
}

// forget ends the connection's part in a stream: what the client sent and nobody used counts as used.
func (c *h2conn) forget(s *h2stream, reset bool) {
	if c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	c.noteClosed(s.id, reset)
	s.gone = true
	if c.block.s == s {
		c.block.s, c.block.ignore = nil, true
	}
	c.lastUse = c.p.ticks.Load()
	if n := len(s.pend) - s.used; n > 0 {
		c.credit(int64(n))
		s.pend, s.used = nil, 0
	}
	if len(c.streams) == 0 && c.goingAway {
		c.finish()
		c.wake()
	}
}

// drop ends a stream that the client has reset.
func (c *h2conn) drop(s *h2stream) {
	c.forget(s, false)
}

// reset ends a stream with an error. Its exchange takes note.
func (c *h2conn) reset(s *h2stream, code http2.ErrCode) {
	if s.gone {
		return
	}
	c.rst(s.id, code)
	c.forget(s, true)
	s.broken = true
	s.left()
}

// resetID resets a stream that may not exist here.
func (c *h2conn) resetID(id uint32, code http2.ErrCode) {
	if s := c.streams[id]; s != nil {
		c.reset(s, code)
		return
	}
	c.rst(id, code)
	c.noteClosed(id, true)
}

func (c *h2conn) noteClosed(id uint32, reset bool) {
	if len(c.closed) < maxClosed {
		c.closed = append(c.closed, closedStream{id, reset})
		return
	}
	c.closed[c.closedAt%maxClosed] = closedStream{id, reset}
	c.closedAt++
}

func (c *h2conn) wasClosed(id uint32) (closed, reset bool) {
	for i := range c.closed {
		if c.closed[i].id == id {
			closed, reset = true, reset || c.closed[i].reset
		}
	}
	return
}

func (c *h2conn) wasReset(id uint32) bool {
	_, r := c.wasClosed(id)
	return r
}

// abandon ends all streams: the connection is lost.
func (c *h2conn) abandon() {
	for _, s := range c.streams {
		c.forget(s, true)
		s.left()
	}
	if c.goingAway {
		c.finish()
	}
}

// look does what time asks for.
func (c *h2conn) look() {
	now := c.p.ticks.Load()
	if c.killed.Load() {
		c.dead = true
		return
	}
	lt := c.ln.table.Load()
	if limit := int64(lt.attrs.idle + tick); c.over && now-c.lastUse > limit || len(c.wire.out) > 0 && now-c.lastWrite > limit {
		c.dead = true
		return
	}
	if c.over || now < c.due.Load() && !c.drain.Load() {
		return
	}
	if !c.goingAway && (c.drain.Load() || c.p.opt.Clock().Sub(c.born) >= lt.attrs.keepAlive) {
		c.goAway(http2.ErrCodeNo)
	}
	if len(c.streams) > 0 {
		c.fast.look(now)
		c.due.Store(now + int64(tick))
		return
	}
	if idle := int64(lt.attrs.idle); now-c.lastUse > idle+int64(tick) {
		c.goAway(http2.ErrCodeNo)
	} else if c.fast.holds() && now-c.lastUse <= int64(tick) {
		c.due.Store(now + int64(tick))
	} else {
		c.rest()
		c.due.Store(c.lastUse + idle + 2*int64(tick))
	}
}

// rest gives back the memory that an idle connection has no use for.
func (c *h2conn) rest() {
	c.fast.giveBack()
	c.fast.rest()
	if len(c.out) == 0 {
		c.out = nil
	}
	if len(c.wire.out) == 0 {
		c.wire.out = nil
	}
	c.wire.state.Rest()
}

// h2set is the set of a Proxy's HTTP/2 connections.
type h2set struct {
	mu sync.Mutex
	m  map[*h2conn]struct{}
}

func (s *h2set) add(c *h2conn) {
	s.mu.Lock()
	if s.m == nil {
		s.m = map[*h2conn]struct{}{}
	}
	s.m[c] = struct{}{}
	s.mu.Unlock()
}

func (s *h2set) remove(c *h2conn) {
	s.mu.Lock()
	delete(s.m, c)
	s.mu.Unlock()
}

func (s *h2set) each(fn func(c *h2conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.m {
		fn(c)
	}
}

// tick wakes those connections for which it is time.
func (s *h2set) tick(now int64) {
	s.each(func(c *h2conn) {
		if now >= c.due.Load() {
			c.wake()
		}
	})
}

// close asks the connections of a listener to end after their streams.
func (s *h2set) close(ln *listener) {
	s.each(func(c *h2conn) {
		if c.ln == ln {
			c.drain.Store(true)
			c.wake()
		}
	})
}

func (s *h2set) kill() {
	s.each(func(c *h2conn) {
		c.killed.Store(true)
		c.wake()
	})
}
