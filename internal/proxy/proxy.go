package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"skerry/internal/tlsfront"
)

// Options are what a Proxy takes from outside.
type Options struct {
	// Listen opens a listener; nil is net.Listen.
	Listen func(network, addr string) (net.Listener, error)
	// Dial connects to a target; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// RootCAs are the authorities that identity providers' certificates are verified by; nil are the system's.
	RootCAs *x509.CertPool
	Log     *slog.Logger
	// Clock is the time; nil is time.Now.
	Clock func() time.Time
	// MaxConnections bounds the client connections; above it new ones are refused. 0 is 65536.
	MaxConnections int

	// Logs says where the logs go.
	Logs Logs

	// Engine carries the connections; nil makes one of its own, with a loop for each processor that Go uses. Many Proxies may
	// share one.
	Engine *Engine
	// Goroutines leaves all connections to goroutines: no loop carries any.
	Goroutines bool
	// ListenSockets opens n listening sockets that share an address, one for each loop. nil is ListenSockets of this package,
	// or Listen's socket for all loops, if Listen is set.
	ListenSockets func(addr string, n int) ([]int, error)
	// Socket makes a non-blocking TCP socket that will be connected to an address. It runs on a loop's thread, which is locked,
	// and must not wait. nil is an ordinary socket; but if Dial is set, then all forwarding is left to goroutines.
	Socket func(to netip.Addr) (int, error)
}

const defaultMaxConnections = 65536

// Proxy is one load-balancer node. Safe for concurrent use.
type Proxy struct {
	opt         Options
	ctx         context.Context // ends when Shutdown gives up waiting
	cancel      context.CancelFunc
	start       time.Time
	ticks       atomic.Int64 // ns since start, as the ticker last saw it
	counters    counters
	idp         *idp
	authLatency latency      // ms
	active      atomic.Int64 // client connections
	watches     watches
	engine      *Engine // nil: goroutines do everything
	own         bool    // the engine ends with the proxy
	sockets     bool    // loops can connect to targets
	h2          h2set
	parker      h2parker
	logs        *logWriter
	warned      atomic.Int64   // ticks, when a lack of means was last logged
	judged      int64          // when anomalies were looked for, ns since start; only the ticker's
	wg          sync.WaitGroup // listeners, connections
	upstreams   sync.WaitGroup // goroutines of HTTP/2 connections to targets
	tickEnd     chan struct{}
	tickDone    chan struct{}

	mu        sync.Mutex // guards what follows; Apply holds it
	listeners map[string]*listener
	live      live
	table     *table
	down      bool
}

// listener is an open listening socket with the part of the table that it serves now.
type listener struct {
	addr    string
	l       net.Listener // nil if loops accept
	fds     []int        // one for each loop, until it has it
	table   atomic.Pointer[listenerTable]
	closing atomic.Bool
}

// New returns a Proxy that serves nothing yet.
func New(opt Options) *Proxy {
	if opt.Listen == nil && opt.ListenSockets == nil {
		opt.ListenSockets = ListenSockets
	}
	if opt.Listen == nil {
		opt.Listen = net.Listen
	}
	if opt.Dial == nil {
		opt.Dial = (&net.Dialer{}).DialContext
		if opt.Socket == nil {
			opt.Socket = newSocket
		}
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.MaxConnections <= 0 {
		opt.MaxConnections = defaultMaxConnections
	}
	p := &Proxy{opt: opt, start: time.Now(), listeners: map[string]*listener{}, tickEnd: make(chan struct{}), tickDone: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.idp = newIDP(&p.opt)
	p.engine, p.sockets = opt.Engine, opt.Socket != nil
	if opt.Goroutines {
		p.engine = nil
	} else if p.engine == nil {
		var err error
		if p.engine, err = NewEngine(0); err != nil {
			opt.Log.Warn("no event loops, goroutines instead", "err", err)
			p.engine = nil
		}
		p.own = p.engine != nil
	}
	loops := 0
	if p.engine != nil {
		loops = len(p.engine.loops)
	}
	p.logs = newLogWriter(opt.Logs, loops, opt.Clock, opt.Log)
	go p.tick()
	return p
}

// tick looks at all time limits.
func (p *Proxy) tick() {
	defer close(p.tickDone)
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-p.tickEnd:
			return
		case <-t.C:
		}
		now := int64(time.Since(p.start))
		p.ticks.Store(now)
		p.watches.each(func(w *watch) { w.look(now) })
		p.h2.tick(now)
		p.mu.Lock()
		targets, limit := p.live.targets, time.Minute
		if p.table != nil {
			limit = p.table.attrs.idle
		}
		if p.table != nil && now-p.judged >= int64(judgeEvery) {
			p.judged = now
			for _, g := range p.table.groups {
				g.judge()
			}
		}
		clock := p.opt.Clock()
		for _, t := range targets {
			t.expire(clock, limit)
		}
		p.mu.Unlock()
	}
}

var errDown = errors.New("the proxy is shut down")

// Apply replaces the configuration at once for all new requests. Listeners that stay keep their socket and connections; those
// of removed ones end after their current request. On error nothing has changed.
func (p *Proxy) Apply(cfg Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return errDown
	}
	now := p.opt.Clock()
	t, lv, err := compile(cfg, p.live, now)
	if err != nil {
		return err
	}
	opened := map[string]*listener{}
	for addr := range t.listeners {
		if p.listeners[addr] != nil {
			continue
		}
		ln, err := p.open(addr)
		if err != nil {
			for _, o := range opened {
				o.drop()
			}
			return fmt.Errorf("listener %s: %w", addr, err)
		}
		opened[addr] = ln
	}

	t.access, t.connLog = p.logs.use(cfg.LBName, &t.attrs)
	for _, fn := range lv.adopt {
		fn()
	}
	lv.adopt = nil
	var ailing []*target
	if p.engine != nil {
		for _, tr := range lv.targets {
			if tr.pools == nil {
				tr.pools = make([]pool, len(p.engine.loops))
			}
			if tr.ails {
				tr.ails = false
				ailing = append(ailing, tr)
			}
		}
	}
	for k, tr := range p.live.targets {
		if lv.targets[k] == nil {
			p.retire(tr, lv, k)
		}
	}
	p.live, p.table = lv, t
	if p.engine != nil {
		p.engine.expire(ailing...)
	}
	p.idp.keep(t.keySets)
	for addr, ln := range p.listeners {
		if lt := t.listeners[addr]; lt != nil {
			ln.table.Store(lt)
		} else {
			delete(p.listeners, addr)
			p.closeListener(ln)
		}
	}
	for addr, ln := range opened {
		ln.table.Store(t.listeners[addr])
		p.listeners[addr] = ln
		if ln.l != nil {
			p.wg.Add(1)
			go p.accept(ln)
		} else {
			p.engine.listen(p, ln)
		}
	}
	return nil
}

// open opens a listener: sockets for the loops, or one for a goroutine.
func (p *Proxy) open(addr string) (ln *listener, err error) {
	ln = &listener{addr: addr}
	if p.engine != nil && p.opt.ListenSockets != nil {
		ln.fds, err = p.opt.ListenSockets(addr, len(p.engine.loops))
		return ln, err
	}
	if ln.l, err = p.opt.Listen("tcp", addr); err != nil {
		return nil, err
	}
	if p.engine != nil {
		if ln.fds = duplicates(ln.l, len(p.engine.loops)); ln.fds != nil {
			ln.l.Close()
			ln.l = nil
		}
	}
	return ln, nil
}

// drop closes a listener that never served.
func (ln *listener) drop() {
	if ln.l != nil {
		ln.l.Close()
	}
	for _, fd := range ln.fds {
		closeSocket(fd)
	}
}

// retire closes the idle connections of a target that is gone. What is in flight is cut when the target was taken out of a
// group that stays: its deregistration delay is over. If the whole group is gone, running exchanges may finish.
func (p *Proxy) retire(t *target, lv live, key string) {
	t.gone.Store(true)
	for i := range key {
		if key[i] == 0 {
			if lv.groups[key[:i]] != nil {
				t.removed.Store(true)
			}
			break
		}
	}
	p.expire(t)
}

// expire closes the idle connections to a target, and those in use if it was removed.
func (p *Proxy) expire(t *target) {
	t.expire(p.opt.Clock(), -1)
	if p.engine != nil {
		p.engine.expire(t)
	}
}

func (p *Proxy) closeListener(ln *listener) {
	ln.closing.Store(true)
	if ln.l != nil {
		ln.l.Close()
	} else {
		p.engine.unlisten(ln)
	}
	p.watches.each(func(w *watch) {
		if w.ln == ln {
			w.close()
		}
	})
	p.h2.close(ln)
}

// accept takes connections until the listener closes.
func (p *Proxy) accept(ln *listener) {
	defer p.wg.Done()
	delay := time.Duration(0)
	for {
		c, err := ln.l.Accept()
		if err != nil {
			if ln.closing.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: wait, longer each time.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			p.opt.Log.Warn("accept", "listener", ln.addr, "err", err)
			time.Sleep(delay)
			continue
		}
		delay = 0
		if !p.admit() {
			c.Close()
			continue
		}
		go p.serve(ln, c)
	}
}

// admit counts a new connection in, unless there are too many. Who ends the connection calls left.
func (p *Proxy) admit() bool {
	if p.active.Add(1) > int64(p.opt.MaxConnections) {
		p.active.Add(-1)
		p.counters.inc(cRejectedConnection)
		return false
	}
	p.counters.inc(cNewConnection)
	p.wg.Add(1)
	return true
}

func (p *Proxy) left() {
	p.active.Add(-1)
	p.wg.Done()
}

// serve runs one client connection.
func (p *Proxy) serve(ln *listener, nc net.Conn) {
	defer p.left()
	defer nc.Close()
	defer p.recovered(ln)
	peer, born := peerOf(nc), p.opt.Clock()
	peer.born = born.UnixNano()
	client := nc
	if lt := ln.table.Load(); lt.tls != nil {
		s := p.handshake(ln, lt, nc, &peer)
		if s == nil {
			return
		}
		if peer.facts.Protocol == "h2" {
			p.serveH2(ln, nc, s, peer)
			return
		}
		client = s.Conn(nc, nil, s.Rest)
	}
	if lt := ln.table.Load(); !peer.tls && lt.connLog != nil {
		lt.logConnection(anyShard, connEntry{at: born, client: peer.addr, born: peer.born})
	}
	p.serveH1(&conn{p: p, ln: ln, c: client, peer: peer, born: born}, nc, nil)
}

// serveHanded goes on with a connection that a loop doesn't carry on. s is its session if the handshake is all that the loop did;
// else client is what to read from behind atHand, which has been read.
func (p *Proxy) serveHanded(ln *listener, s *tlsfront.Session, client, nc net.Conn, peer peerInfo, born time.Time, atHand []byte) {
	defer p.left()
	defer nc.Close()
	defer p.recovered(ln)
	peer.born = born.UnixNano()
	if s != nil {
		if peer.facts.Protocol == "h2" {
			p.serveH2(ln, nc, s, peer)
			return
		}
		client = s.Conn(nc, nil, s.Rest)
	}
	p.serveH1(&conn{p: p, ln: ln, c: client, peer: peer, born: born}, nc, atHand)
}

// recovered keeps one request's trouble from being the others'.
func (p *Proxy) recovered(ln *listener) {
	if err := recover(); err != nil {
		p.opt.Log.Error("panic", "listener", ln.addr, "err", err, "stack", string(debug.Stack()))
	}
}

// serveH1 handles the requests of an HTTP/1 connection, which runs over nc.
func (p *Proxy) serveH1(c *conn, nc net.Conn, atHand []byte) {
	c.watch = watch{p: p, ln: c.ln, client: c.c, raw: rawConn(nc)}
	p.watches.add(&c.watch)
	defer p.watches.remove(&c.watch)
	if c.ln.closing.Load() {
		c.watch.close() // closed while this connection began: no watch was there to be told
	}
	c.serve(atHand)
	if c.c != nc {
		nc.SetWriteDeadline(time.Now().Add(lastWriteTime))
		if cw, ok := c.c.(interface{ CloseWrite() error }); ok && !c.x.cut {
			cw.CloseWrite()
		}
	} else if c.x.cut && c.x.plan.framing == byClose {
		reset(nc) // the client would take the part for the whole
	}
}

// reset makes closing the connection a reset.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
}

// Stats returns the counters since the last call.
func (p *Proxy) Stats() Stats {
	s := Stats{Counters: p.counters.drain(), Gauges: map[string]float64{"ActiveConnectionCount": float64(p.active.Load())}, Groups: map[string]GroupStats{}, AuthLatency: p.authLatency.drain()}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, g := range p.live.groups {
		c := g.counters.drain()
		gs := GroupStats{Name: g.name, Counters: c, Latency: g.latency.drain()}
		if n := c[counterNames[cRequest]]; n > 0 {
			if tg := p.table.groups[key]; tg != nil && len(tg.healthy) > 0 {
				c["RequestCountPerTarget"] = n / float64(tg.distinct)
			}
		}
		if tg := p.table.groups[key]; tg != nil {
			gs.Anomalies = tg.anomalies()
			anomalous, mitigated := 0.0, 0.0
			for _, m := range tg.members {
				if m.t.anomalous.Load() {
					anomalous++
				}
				if m.t.cut.Load() > 0 {
					mitigated++
				}
			}
			gs.Gauges = map[string]float64{"AnomalousHostCount": anomalous, "MitigatedHostCount": mitigated}
		}
		s.Groups[key] = gs
	}
	return s
}

// Shutdown stops accepting, lets running exchanges finish until ctx ends, then cuts what is left. It returns when all
// goroutines have ended.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return nil
	}
	p.down = true
	for _, ln := range p.listeners {
		p.closeListener(ln)
	}
	targets := p.live.targets
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		p.cancel()
		for ended := false; !ended; {
			p.watches.each(func(w *watch) { w.kill() })
			if p.engine != nil {
				p.engine.kill(p)
			}
			p.h2.kill()
			select {
			case <-done:
				ended = true
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	p.cancel()
	p.idp.close()
	for _, t := range targets {
		t.removed.Store(true)
		p.expire(t)
	}
	p.upstreams.Wait()
	p.parker.stop()
	if p.own {
		p.engine.Close()
	}
	close(p.tickEnd)
	<-p.tickDone
	p.logs.stop()
	return err
}
