package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// tick is how often time limits are looked at: they fire up to two ticks late, never early.
const tick = 250 * time.Millisecond

// phase is what a watched connection is doing.
type phase uint8

const (
	resting    phase = iota // no limit
	idle                    // between requests
	headPhase               // part of a head has arrived
	exchanging              // a request is on its way
	tunnelling              // after an upgrade
)

// cause says why a watch interrupted its connection.
type cause uint8

const (
	notFired     cause = iota
	idleTooLong        // the phase's limit passed without a byte
	clientLeft         // the client closed while its request was on its way
	targetGone         // the target was deregistered for good
	shuttingDown       // the listener or the proxy ends
)

// watch is the time limit of one client connection or HTTP/2 stream. It costs the request no timer: the proxy's ticker looks
// at all watches. It interrupts by deadlines in the past, so that the goroutine that owns the connection decides what follows.
type watch struct {
	p    *Proxy
	ln   *listener
	last atomic.Int64 // tick of the latest progress
	// writing tells that the owner may be waiting for the client to read.
	writing atomic.Bool

	mu      sync.Mutex
	client  net.Conn // nil for a stream
	stop    func()   // of a stream: interrupts reading its body
	raw     syscall.RawConn
	phase   phase
	limit   int64 // ns; 0 none
	up      *upstream
	fired   cause
	bodyAll bool  // the whole request has been read: a closed client has left
	since   int64 // tick of the phase's begin
	closing bool  // the listener ends: interrupt when idle
}

// touch notes progress.
func (w *watch) touch() { w.last.Store(w.p.ticks.Load()) }

// enter begins a phase. It undoes an interruption that came too late to matter.
func (w *watch) enter(ph phase, limit time.Duration) {
	now := w.p.ticks.Load()
	w.last.Store(now)
	w.mu.Lock()
	w.phase, w.limit, w.since, w.bodyAll = ph, int64(limit), now, false
	if w.fired != notFired {
		w.fired = notFired
		if w.client != nil {
			w.client.SetDeadline(time.Time{})
		}
	}
	if ph == idle && w.closing && w.client != nil {
		w.fired = shuttingDown
		w.client.SetReadDeadline(past)
	}
	w.mu.Unlock()
}

// attach sets the upstream connection that an interruption also concerns. It tells whether one has happened already.
func (w *watch) attach(u *upstream, bodyAll bool) cause {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up, w.bodyAll = u, bodyAll
	return w.fired
}

// detach takes the upstream connection away; it tells whether it was left untouched.
func (w *watch) detach() (clean bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = nil
	return w.fired == notFired
}

func (w *watch) why() cause {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fired
}

var past = time.Unix(1, 0)

// look interrupts the connection if its time is over. The ticker calls it.
func (w *watch) look(now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fired != notFired {
		return
	}
	switch {
	case w.limit > 0 && now-w.last.Load() > w.limit+int64(tick): // last may lag behind by a tick
		w.fire(idleTooLong)
	case w.phase == exchanging && w.up != nil && w.up.t.removed.Load():
		w.fire(targetGone)
	case w.phase == exchanging && w.bodyAll && w.up != nil && now-w.since > int64(tick):
		if closed, _ := peek(w.raw); closed {
			w.fire(clientLeft)
		}
	}
}

func (w *watch) fire(c cause) {
	w.fired = c
	if w.client != nil {
		w.client.SetReadDeadline(past)
		if w.writing.Load() {
			w.client.SetWriteDeadline(past)
		}
	}
	if w.stop != nil {
		w.stop()
	}
	if w.up != nil {
		w.up.SetDeadline(past)
	}
}

// cut interrupts it for good.
func (w *watch) cut(c cause) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fired == notFired {
		w.fire(c)
	}
}

// kill closes the connections at once.
func (w *watch) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fired == notFired {
		w.fire(shuttingDown)
	}
	if w.client != nil {
		w.client.SetDeadline(past)
	}
	w.closing = true
}

// close asks the connection to end: now if it is idle, else after its exchange.
func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closing = true
	if w.phase == idle && w.fired == notFired {
		w.fire(shuttingDown)
	}
}

// watches is the set of all watches.
type watches struct {
	mu sync.Mutex
	m  map[*watch]struct{}
}

func (s *watches) add(w *watch) {
	s.mu.Lock()
	if s.m == nil {
		s.m = map[*watch]struct{}{}
	}
	s.m[w] = struct{}{}
	s.mu.Unlock()
}

func (s *watches) remove(w *watch) {
	s.mu.Lock()
	delete(s.m, w)
	s.mu.Unlock()
}

func (s *watches) each(fn func(*watch)) {
	s.mu.Lock()
	all := make([]*watch, 0, len(s.m))
	for w := range s.m {
		all = append(all, w)
	}
	s.mu.Unlock()
	for _, w := range all {
		fn(w)
	}
}
