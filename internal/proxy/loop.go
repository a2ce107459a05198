//go:build linux && (amd64 || arm64)

package proxy

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of a loop.
const (
	eventBatch   = 256
	clientBatch  = 64 // events of clients before targets have their turn again
	acceptBatch  = 64
	headRoom     = 12 << 10 // in front of what is read: for the head that is sent before it
	readSize     = 64 << 10 // read at once
	tailRoom     = maxTrailer + 64
	sendSoon     = 1 << 10 // an answer's last part up to this size waits for the end of the round
	readBudget   = 4       // reads of one connection before the others have their turn
	wheelSize    = 64
	commandQueue = 256

	maxIdleOfLoop = 1024 // idle connections kept a target and loop
)

// Engine is a set of epoll loops, each on a thread of its own, that carry the connections of any number of Proxies.
type Engine struct {
	loops []*loop
	wg    sync.WaitGroup
	once  sync.Once
}

// NewEngine starts n loops, 0 for one for each processor that Go uses.
func NewEngine(n int) (*Engine, error) {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	e := &Engine{}
	turns := make(chan struct{}, max(1, n/2))
	for i := range n {
		l, err := newLoop(i, turns)
		if err != nil {
			for _, l := range e.loops {
				l.free()
			}
			return nil, fmt.Errorf("event loop: %w", err)
		}
		e.loops = append(e.loops, l)
	}
	for _, l := range e.loops {
		e.wg.Add(1)
		go func() {
			defer e.wg.Done()
			l.run()
		}()
	}
	return e, nil
}

// Close ends the loops. The Proxies that use them must have been shut down.
func (e *Engine) Close() {
	e.once.Do(func() {
		for _, l := range e.loops {
			l.away.Wait()
			l.post(func() { l.ending = true })
		}
		e.wg.Wait()
	})
}

// each runs fn on all loops and waits for it.
func (e *Engine) each(fn func(l *loop)) {
	var wg sync.WaitGroup
	for _, l := range e.loops {
		wg.Add(1)
		l.post(func() {
			defer wg.Done()
			fn(l)
		})
	}
	wg.Wait()
}

// listen gives the loops a listener's sockets.
func (e *Engine) listen(p *Proxy, ln *listener) {
	fds := ln.fds
	ln.fds = nil
	p.wg.Add(len(fds))
	e.each(func(l *loop) { l.listen(p, ln, fds[l.id]) })
}

// unlisten closes a listener and its idle connections.
func (e *Engine) unlisten(ln *listener) {
	e.each(func(l *loop) {
		for _, c := range l.conns {
			if c == nil || c.ln != ln {
				continue
			}
			if c.kind == kindListener || c.kind == kindClient && c.state == atRest && c.in == nil {
				l.close(c)
			}
		}
	})
}

// expire closes the idle connections to targets, and cuts those in use of targets that were removed.
func (e *Engine) expire(ts ...*target) {
	if len(ts) == 0 {
		return
	}
	e.each(func(l *loop) {
		removed := false
		for _, t := range ts {
			if l.id < len(t.pools) {
				for idle := &t.pools[l.id].idle; len(*idle) > 0; {
					l.close((*idle)[len(*idle)-1])
				}
			}
			removed = removed || t.removed.Load()
		}
		if !removed {
			return
		}
		for _, u := range l.conns {
			if u != nil && u.kind == kindTarget && u.x != nil && u.t.removed.Load() {
				if !l.elsewhere(u.x) {
					l.lost(u.x, 502)
				}
			}
		}
	})
}

// kill cuts all connections of a proxy.
func (e *Engine) kill(p *Proxy) {
	e.each(func(l *loop) {
		for _, c := range l.conns {
			if c != nil && c.p == p && c.kind == kindClient {
				l.cut(c)
			}
		}
	})
}

// loop is one epoll loop. Only its thread touches it, except for what is atomic and the queue of commands.
type loop struct {
	id      int
	ep      int // of clients, listeners and wakeFD
	targets int // of connections to targets
	wakeFD  int
	mostFDs int   // descriptors from here on are for connections to targets and all else: clients that get one are refused
	shedAt  int64 // when shed looked last
	cmds    chan func()
	turns   chan struct{}  // of goroutines that work for handshakes; the engine's
	away    sync.WaitGroup // those that work for this loop
	woken   atomic.Bool
	ending  bool

	conns  []*lconn // by descriptor
	gen    int32
	now    int64 // ns since base
	base   time.Time
	timeOf *Proxy    // whose clock time is
	time   time.Time // of the event under way
	armed  int
	events [eventBatch]unix.EpollEvent
	ready  []*lconn // have something to do without an event
	next   []*lconn
	unsent []*lconn // have something to send at the end of the round

	rbuf []byte // what is read, from headRoom on
	wbuf []byte // what is made
	sbuf []byte // what is sealed

	sealed []byte // what is read sealed
	mem    memory

	wheel  [wheelSize]*lconn
	turned int64 // ticks so far
}

func newLoop(id int, turns chan struct{}) (*loop, error) {
	l := &loop{id: id, turns: turns, cmds: make(chan func(), commandQueue), base: time.Now(), rbuf: make([]byte, headRoom+readSize+tailRoom), wbuf: make([]byte, 0, 16<<10), sealed: make([]byte, sealedSize)}
	l.ep, l.targets, l.wakeFD = -1, -1, -1
	var err error
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		if l.targets, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
			l.wakeFD, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
		}
	}
	if err != nil {
		l.free()
		return nil, err
	}
	l.mostFDs = mostFDs()
	c := &lconn{fd: int32(l.wakeFD), kind: kindWake}
	if err := l.add(c, unix.EPOLLIN); err != nil {
		l.free()
		return nil, err
	}
	return l, nil
}

func (l *loop) free() {
	for _, fd := range []int{l.ep, l.targets, l.wakeFD} {
		unix.Close(fd) // -1 if it was not opened
	}
}

// post has the loop run fn soon. It may wait when many have; the loop itself must not call it.
func (l *loop) post(fn func()) {
	l.cmds <- fn
	if !l.woken.Swap(true) {
		one := [8]byte{1}
		unix.Write(l.wakeFD, one[:])
	}
}

func (l *loop) commands() {
	var b [8]byte
	unix.Read(l.wakeFD, b[:])
	l.woken.Store(false)
	for {
		select {
		case fn := <-l.cmds:
			fn()
		default:
			return
		}
	}
}

func (l *loop) run() {
	runtime.LockOSThread() // for good: the thread ends with the loop
	defer l.free()
	for !l.ending {
		// Answers go first, and clients' requests come in small parts: so the fewest connections to targets are in use, and those are
		// warm in the processor's caches. With 512 clients that saves an eighth of a request's CPU.
		n := l.handle(l.targets, eventBatch)
		n += l.handle(l.ep, clientBatch)
		if len(l.ready) > 0 {
			l.ready, l.next = l.next[:0], l.ready
			for i, c := range l.next {
				l.next[i] = nil
				l.resume(c)
			}
		} else if n == 0 {
			l.rest()
		}
		if l.now >= (l.turned+1)*int64(tick) {
			l.turn()
		}
		l.sendAll()
	}
}

// handle handles the events that there are, at most so many, and tells how many they were.
func (l *loop) handle(ep, most int) int {
	n := max(0, epollWait(ep, l.events[:most], 0))
	if n > 0 || ep == l.ep {
		l.now = int64(time.Since(l.base))
	}
	for i := range n {
		l.event(&l.events[i])
	}
	l.sendAll()
	return n
}

// rest waits for an event or the wheel's next turn, and leaves the processor to other goroutines meanwhile.
func (l *loop) rest() {
	timeout := -1
	if l.armed > 0 {
		timeout = int(max(0, (l.turned+1)*int64(tick)-l.now)/int64(time.Millisecond)) + 1
	}
	unix.Poll([]unix.PollFd{{Fd: int32(l.ep), Events: unix.POLLIN}, {Fd: int32(l.targets), Events: unix.POLLIN}}, timeout)
	l.now = int64(time.Since(l.base))
}

// clock is a proxy's time, asked once an event.
func (l *loop) clock(p *Proxy) time.Time {
	if l.timeOf != p {
		l.timeOf, l.time = p, p.opt.Clock()
	}
	return l.time
}

// event handles one event. A panic costs its connection, not the others.
func (l *loop) event(e *unix.EpollEvent) {
	if int(e.Fd) >= len(l.conns) {
		return
	}
	c := l.conns[e.Fd]
	if c == nil || c.gen != e.Pad {
		return // closed meanwhile
	}
	defer l.recovered(c)
	l.timeOf = nil
	switch c.kind {
	case kindClient:
		l.onClient(c, e.Events)
	case kindTarget:
		l.onTarget(c, e.Events)
	case kindListener:
		l.accept(c)
	case kindWake:
		l.commands()
	}
}

func (l *loop) recovered(c *lconn) {
	err := recover()
	if err == nil {
		return
	}
	log := slog.Default()
	if c.p != nil {
		log = c.p.opt.Log
	}
	log.Error("panic", "err", err, "stack", string(debug.Stack()))
	x := c.x
	if x == nil {
		if c.kind == kindClient || c.kind == kindTarget {
			l.close(c)
		}
		return
	}
	x.c.p.opt.Log.Error("panic", "listener", x.c.ln.addr)
	l.cut(x.c)
}

// resume goes on with a connection that waits for no event.
func (l *loop) resume(c *lconn) {
	c.queued = false
	if c.closed {
		return
	}
	defer l.recovered(c)
	l.timeOf = nil
	switch c.kind {
	case kindClient:
		l.proceed(c)
	case kindTarget:
		l.pumpAnswer(c)
	}
}

// soon has a connection send what waits on it, together with the others' at the end of the round: a receiver that is fed without
// pause need not be woken for each, and the processor's caches keep the kernel's sending half. That saves a twenty-fifth of a
// request's CPU.
func (l *loop) soon(c *lconn) {
	if !c.unsent {
		c.unsent = true
		l.unsent = append(l.unsent, c)
	}
}

func (l *loop) sendAll() {
	l.timeOf = nil
	for i := 0; i < len(l.unsent); i++ { // sending may add more
		l.sendNow(l.unsent[i])
		l.unsent[i] = nil
	}
	l.unsent = l.unsent[:0]
}

func (l *loop) sendNow(c *lconn) {
	c.unsent = false
	if c.closed {
		return
	}
	defer l.recovered(c)
	switch {
	case c.kind == kindClient && c.out != nil:
		l.flush(c)
	case c.kind == kindTarget && c.x != nil && c.x.sent == 0:
		l.transmit(c.x)
	}
}

func (l *loop) later(c *lconn) {
	if !c.queued {
		c.queued = true
		l.ready = append(l.ready, c)
	}
}

// add registers a connection for good: no later change is needed.
func (l *loop) add(c *lconn, events uint32) error {
	for int(c.fd) >= len(l.conns) {
		l.conns = append(l.conns, make([]*lconn, max(64, len(l.conns)))...)
	}
	l.gen++
	c.gen = l.gen
	ep := l.ep
	if c.kind == kindTarget {
		ep = l.targets
	}
	if err := epollAdd(ep, c.fd, c.gen, events); err != nil {
		return err
	}
	l.conns[c.fd] = c
	return nil
}

const edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// Time limits: a wheel that turns every tick. A connection stands where it is due at the earliest; when the wheel comes there
// and it has got more time since, it moves on. So a request costs no more than setting due.

func (l *loop) arm(c *lconn, d time.Duration) {
	c.due = l.now + int64(d)
	if c.slot < 0 || c.due < c.at {
		l.place(c, c.due)
	}
}

func (l *loop) place(c *lconn, due int64) {
	l.unplace(c)
	n := (due + int64(tick) - 1) / int64(tick) // the first turn at which it is over
	n = min(max(n, l.turned+1), l.turned+wheelSize-1)
	c.at = n * int64(tick)
	c.slot = int16(n % wheelSize)
	head := &l.wheel[c.slot]
	if c.next = *head; c.next != nil {
		c.next.prev = c
	}
	*head = c
	l.armed++
}

func (l *loop) unplace(c *lconn) {
	if c.slot < 0 {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.wheel[c.slot] = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev, c.slot = nil, nil, -1
	l.armed--
}

// turn looks at the connections whose time may be over.
func (l *loop) turn() {
	for now := l.now / int64(tick); l.turned < now; {
		l.turned++
		slot := l.turned % wheelSize
		for c := l.wheel[slot]; c != nil; c = l.wheel[slot] {
			l.unplace(c)
			if c.due > l.now && !c.hup {
				l.place(c, c.due)
				continue
			}
			l.expired(c)
		}
	}
}

func (l *loop) expired(c *lconn) {
	defer l.recovered(c)
	l.timeOf = nil
	switch c.kind {
	case kindClient:
		l.clientDue(c)
	case kindTarget:
		l.close(c) // it was idle
	case kindListener:
		if err := epollAdd(l.ep, c.fd, c.gen, listenEvents); err != nil { // it has rested
			l.arm(c, acceptBackoff)
		}
	}
}

// memory keeps what was freed for the next use. Everything in it is bounded.
type memory struct {
	conns  *lconn
	nconns int
	xs     []*lexchange
	bufs   [len(bufSizes)][]*lbuf
}

var (
	bufSizes = [...]int{1280, 4 << 10, 16 << 10, maxRequestHead + bufferSize}
	bufKeep  = [...]int{512, 512, 128, 16}
)

const (
	keepConns = 4096
	keepXs    = 1024
	keepOut   = 16 << 10 // a larger encoded request is not kept
)

// lbuf holds bytes that wait: b[r:w].
type lbuf struct {
	b       []byte
	r, w    int
	scan    headScanner
	skipped bool
	class   int8
}

func (m *memory) buf(size int) *lbuf {
	for i, s := range bufSizes {
		if size > s {
			continue
		}
		if n := len(m.bufs[i]); n > 0 {
			b := m.bufs[i][n-1]
			m.bufs[i] = m.bufs[i][:n-1]
			return b
		}
		return &lbuf{b: make([]byte, s), class: int8(i)}
	}
	return &lbuf{b: make([]byte, size), class: -1}
}

func (m *memory) putBuf(b *lbuf) {
	if b == nil || b.class < 0 || len(m.bufs[b.class]) >= bufKeep[b.class] {
		return
	}
	b.r, b.w, b.scan, b.skipped = 0, 0, headScanner{}, false
	m.bufs[b.class] = append(m.bufs[b.class], b)
}

func (m *memory) conn() *lconn {
	c := m.conns
	if c == nil {
		return &lconn{slot: -1}
	}
	m.conns = c.next
	m.nconns--
	c.next = nil
	return c
}

// putConn takes a connection back; nobody may point to it any more but the loop's lists.
func (m *memory) putConn(c *lconn) {
	if c.queued || c.unsent || m.nconns >= keepConns {
		return
	}
	*c = lconn{slot: -1, closed: true, next: m.conns}
	m.conns = c
	m.nconns++
}

func (m *memory) exchange() *lexchange {
	if n := len(m.xs); n > 0 {
		x := m.xs[n-1]
		m.xs = m.xs[:n-1]
		return x
	}
	x := &lexchange{}
	x.loop = true
	return x
}

func (m *memory) putExchange(x *lexchange) {
	if len(m.xs) >= keepXs {
		return
	}
	x.c, x.u, x.atHandBytes = nil, nil, nil
	x.tried = tries{}
	if cap(x.out) > keepOut {
		x.out = nil
	}
	x.lt, x.choice = nil, choice{}
	m.xs = append(m.xs, x)
}

// pool is a loop's idle connections to a target, the one used last at the end.
type pool struct{ idle []*lconn }

// lconn is a descriptor that the loop watches: a client's connection, a target's, a listener. An idle one holds no buffer.
type lconn struct {
	fd    int32
	gen   int32
	kind  connKind
	state connState
	slot  int16 // in the wheel, -1 if in none

	readable bool // a read may give something
	hup      bool // the peer has closed its side: an end comes after what can be read
	closed   bool
	queued   bool // in the loop's ready list
	unsent   bool // in the loop's list of that name
	reused   bool // of a target: it has carried a request before
	calm     bool // of a target: its patience is lifted
	ends     bool // of a client: close when out is written
	lingers  bool // of a client: read on for a while before that
	abrupt   bool // of a client: TLS's end is not announced, or has been

	p    *Proxy
	ln   *listener
	t    *target
	tls  *loopTLS   // of a client
	x    *lexchange // under way on it
	in   *lbuf      // read and not used
	out  *lbuf      // to be written
	addr netip.AddrPort
	born int64 // of a client, Unix ns; of an idle target connection, when it became idle by the loop's time
	due  int64 // when its time is over
	at   int64 // when the wheel looks at it
	next *lconn
	prev *lconn
}

type connKind uint8

const (
	kindClient connKind = iota
	kindTarget
	kindListener
	kindWake
)

type connState uint8

const (
	atRest     connState = iota // a client between requests, or in the middle of a head
	receiving                   // its request's body is coming
	waiting                     // its request is complete
	flushing                    // its answer is complete but not written
	lingering                   // refused: what it sends is read and dropped
	greeting                    // TLS handshake
	connecting                  // a target
	carrying                    // a target with a request
)
