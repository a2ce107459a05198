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
	set    atomic.Pointer[os.File] // the epoll set, which Go's own poller waits for
	setRaw syscall.RawConn
	parked atomic.Bool // the parker has it
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
	idleFloor int // frames that brought no request and no data since one that did, less what the data that went out explain
	resets    int // streams that the client reset of late, or had us reset, less those that it let finish
	resetsAt  int64

	greeted   bool  // our settings have gone out
	rests     bool  // it has given back what an idle connection has no use for
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

// serveH2 begins to run a connection that has agreed on HTTP/2.
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
	if ln.closing.Load() {
		c.drain.Store(true)
	}
	// In a goroutine of its own, whose stack holds nothing of how the connection began: an idle one needs half of it.
	p.active.Add(1)
	p.wg.Add(1)
	go c.live()
}

func (c *h2conn) live() {
	if c.run() {
		c.p.h2.remove(c)
		c.p.left()
	}
}

// open makes the epoll set.
func (c *h2conn) open() error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	unix.SetNonblock(ep, true) // so that Go's poller takes it
	set := os.NewFile(uintptr(ep), "epoll")
	if c.setRaw, err = set.SyscallConn(); err == nil {
		err = epollAdd(ep, c.wire.fd, 0, edges)
	}
	if err != nil {
		set.Close()
		return err
	}
	c.set.Store(set)
	c.fast.init(c, ep)
	return nil
}

// run goes on with the connection until it is over, or parked.
func (c *h2conn) run() (over bool) {
	c.mu.Lock()
	parked := false
	defer func() {
		if parked {
			c.mu.Unlock()
			return
		}
		over = true
		if err := recover(); err != nil {
			c.p.opt.Log.Error("panic", "listener", c.ln.addr, "err", err, "stack", stack())
		}
		c.dead = true
		c.abandon()
		c.fast.end()
		c.mu.Unlock()
		c.wg.Wait()
		c.set.Load().Close()
		c.wire.close()
		if c.in != nil {
			largeBuffers.Put(c.in)
			c.in = nil
		}
	}()
	if !c.greeted {
		c.greeted = true
		c.hello()
	} else { // it was parked
		c.streams, c.readable = map[uint32]*h2stream{}, true
		c.due.Store(c.p.ticks.Load() + int64(tick)) // what came may be no more than a ping
		if err := c.open(); err != nil {
			c.p.opt.Log.Warn("HTTP/2 connection", "err", err)
			return
		}
	}
	for {
		c.work()
		c.flush()
		if c.dead || c.over && c.wire.waiting() == 0 && c.lingered() {
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
		if c.rests {
			c.rests = false
			if parked = c.park(); parked {
				return
			}
		}
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
		c.set.Load().SetReadDeadline(time.Time{})
		c.woken.Store(false)
	}
	return max(n, 0)
}

var eventPool = sync.Pool{New: func() any { return new([eventBatch]unix.EpollEvent) }}

// wake makes the goroutine look around.
func (c *h2conn) wake() {
	if !c.woken.Swap(true) {
		c.set.Load().SetReadDeadline(past)
	}
	if c.parked.Load() {
		c.p.parker.take(c.wire.fd)
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
func (c *h2conn) congested() bool { return len(c.out)+c.wire.waiting() > maxPending }

// room is how many bytes of data may be framed now.
func (c *h2conn) room() int64 {
	return min(c.sendWindow, int64(max(0, pendingData-len(c.out)-c.wire.waiting())))
}

// flush writes what there is to write.
func (c *h2conn) flush() {
	if c.dead {
		return
	}
	if c.wire.waiting() == 0 {
		c.lastWrite = c.p.ticks.Load()
	}
	if len(c.out) > 0 && !c.wire.ended {
		c.wire.out = c.wire.state.Seal(c.wire.out, c.out)
	}
	c.out = c.out[:0]
	before := c.wire.waiting()
	if before == 0 {
		return
	}
	if c.wire.flush() != nil {
		c.dead = true
		c.wake()
		return
	}
	if c.wire.waiting() < before {
		c.lastWrite = c.p.ticks.Load()
	}
	if before > pendingData && c.wire.waiting() <= pendingData {
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
	c.noteReset()
	c.rst(s.id, code)
	c.forget(s, true)
	s.broken = true
	s.left()
}

// noteReset counts a request that the client does not let finish.
func (c *h2conn) noteReset() {
	if now := c.p.ticks.Load(); now-c.resetsAt > int64(time.Second) {
		c.resets, c.resetsAt = c.resets/2, now
	}
	c.resets++
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
	if limit := int64(lt.attrs.idle + tick); c.over && now-c.lastUse > limit || c.wire.waiting() > 0 && now-c.lastWrite > limit {
		c.dead = true
		return
	}
	if c.over || now < c.due.Load() && !c.drain.Load() {
		return
	}
	if !c.goingAway && (c.drain.Load() || c.p.opt.Clock().Sub(c.born) >= lt.attrs.keepAlive) {
		if c.goAway(http2.ErrCodeNo); c.over {
			return
		}
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
	if c.wire.waiting() == 0 {
		c.wire.out = nil
	}
	c.wire.state.Rest()
	c.rests = true
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
