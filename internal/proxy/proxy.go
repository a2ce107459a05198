package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what a Proxy takes from outside.
type Options struct {
	// Listen opens a listener; nil is net.Listen.
	Listen func(network, addr string) (net.Listener, error)
	// Dial connects to a target; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Log  *slog.Logger
	// Clock is the time; nil is time.Now.
	Clock func() time.Time
	// MaxConnections bounds the client connections; above it new ones are refused. 0 is 65536.
	MaxConnections int
}

const defaultMaxConnections = 65536

// Proxy is one load-balancer node. Safe for concurrent use.
type Proxy struct {
	opt      Options
	ctx      context.Context // ends when Shutdown gives up waiting
	cancel   context.CancelFunc
	start    time.Time
	ticks    atomic.Int64 // ns since start, as the ticker last saw it
	counters counters
	active   atomic.Int64 // client connections
	watches  watches
	wg       sync.WaitGroup // listeners, connections
	tickEnd  chan struct{}
	tickDone chan struct{}

	mu        sync.Mutex // guards what follows; Apply holds it
	listeners map[string]*listener
	live      live
	table     *table
	down      bool
}

// listener is an open listening socket with the part of the table that it serves now.
type listener struct {
	addr    string
	l       net.Listener
	table   atomic.Pointer[listenerTable]
	closing atomic.Bool
	tls     *tls.Config // outer configuration: session tickets outlast tables
	h2      *h2server
}

// New returns a Proxy that serves nothing yet.
func New(opt Options) *Proxy {
	if opt.Listen == nil {
		opt.Listen = net.Listen
	}
	if opt.Dial == nil {
		opt.Dial = (&net.Dialer{}).DialContext
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
		p.mu.Lock()
		targets, limit := p.live.targets, time.Minute
		if p.table != nil {
			limit = p.table.attrs.idle
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
		l, err := p.opt.Listen("tcp", addr)
		if err != nil {
			for _, o := range opened {
				o.l.Close()
			}
			return fmt.Errorf("listener %s: %w", addr, err)
		}
		opened[addr] = &listener{addr: addr, l: l}
	}

	for _, fn := range lv.adopt {
		fn()
	}
	lv.adopt = nil
	for k, tr := range p.live.targets {
		if lv.targets[k] == nil {
			p.retire(tr, lv, k)
		}
	}
	p.live, p.table = lv, t
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
		ln.tls = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if c := ln.table.Load().tls; c != nil {
				return c, nil
			}
			return nil, errors.New("not a TLS listener any more")
		}}
		ln.h2 = p.newH2(ln)
		p.listeners[addr] = ln
		p.wg.Add(1)
		go p.accept(ln)
	}
	return nil
}

// retire closes the idle connections of a target that is gone. What is in flight is cut when the target was taken out of a
// group that stays: its deregistration delay is over. If the whole group is gone, running exchanges may finish.
func (p *Proxy) retire(t *target, lv live, key string) {
	for i := range key {
		if key[i] == 0 {
			if lv.groups[key[:i]] != nil {
				t.removed.Store(true)
			}
			break
		}
	}
	t.expire(p.opt.Clock(), -1)
}

func (p *Proxy) closeListener(ln *listener) {
	ln.closing.Store(true)
	ln.l.Close()
	p.watches.each(func(w *watch) {
		if w.ln == ln {
			w.close()
		}
	})
	ln.h2.shutdown()
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
		if p.active.Add(1) > int64(p.opt.MaxConnections) {
			p.active.Add(-1)
			p.counters.inc(cRejectedConnection)
			c.Close()
			continue
		}
		p.counters.inc(cNewConnection)
		p.wg.Add(1)
		go p.serve(ln, c)
	}
}

// serve runs one client connection.
func (p *Proxy) serve(ln *listener, nc net.Conn) {
	defer p.wg.Done()
	defer p.active.Add(-1)
	defer nc.Close()
	defer func() {
		if err := recover(); err != nil { // one request's trouble is not the others'
			p.opt.Log.Error("panic", "listener", ln.addr, "err", err, "stack", string(debug.Stack()))
		}
	}()
	peer := peerOf(nc)
	raw := rawConn(nc)
	client := nc
	if ln.table.Load().tls != nil {
		tc := tls.Server(nc, ln.tls)
		nc.SetDeadline(time.Now().Add(handshakeTimeout))
		if err := tc.HandshakeContext(p.ctx); err != nil {
			if err != io.EOF {
				p.counters.inc(cTLSError)
			}
			return
		}
		nc.SetDeadline(time.Time{})
		state := tc.ConnectionState()
		peer.tlsInfo(state)
		client = tc
		if state.NegotiatedProtocol == "h2" {
			p.serveH2(ln, tc, peer)
			return
		}
	}
	c := &conn{p: p, ln: ln, c: client, peer: peer, born: p.opt.Clock()}
	c.watch = watch{p: p, ln: ln, client: client, raw: raw}
	p.watches.add(&c.watch)
	defer p.watches.remove(&c.watch)
	if ln.closing.Load() {
		c.watch.close() // closed while this connection began: no watch was there to be told
	}
	c.serve()
	if tc, ok := client.(*tls.Conn); ok {
		tc.SetWriteDeadline(time.Now().Add(lastWriteTime))
		if !c.x.cut {
			tc.CloseWrite()
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
	s := Stats{Counters: p.counters.drain(), Gauges: map[string]float64{"ActiveConnectionCount": float64(p.active.Load())}, Groups: map[string]GroupStats{}}
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
		for _, ln := range p.listeners {
			ln.h2.close()
		}
		for ended := false; !ended; {
			p.watches.each(func(w *watch) { w.kill() })
			select {
			case <-done:
				ended = true
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	p.cancel()
	for _, t := range targets {
		t.removed.Store(true)
		t.expire(p.opt.Clock(), -1)
	}
	close(p.tickEnd)
	<-p.tickDone
	return err
}
