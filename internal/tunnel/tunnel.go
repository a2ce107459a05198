package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultMaxFlows  = 65536
	handshakeTimeout = 10 * time.Second
	connectTimeout   = 30 * time.Second // a target answers a new flow within it
	tick             = time.Second
	keepAlive        = 20 * time.Second // of flows through TLS listeners, on both sides
)

// Options are what a Tunnel takes from outside.
type Options struct {
	// Listen opens a listener; nil is net's.
	Listen func(network, addr string) (net.Listener, error)
	// Dial connects to a target. from is the client's address where the group preserves it, else it is not valid. nil is net's, which
	// preserves none.
	Dial func(ctx context.Context, from netip.AddrPort, addr string) (net.Conn, error)
	// Access gets an entry for each connection to a TLS listener, when it has ended; nil: none are made. It must not wait.
	Access func(*Entry)
	Log    *slog.Logger
	// Clock is the time; nil is time.Now.
	Clock func() time.Time
	// MaxFlows bounds the flows; above it new ones are reset. 0 is 65536.
	MaxFlows int
	// Scale divides the waits that are policy, 0 is 1.
	Scale float64
}

// Tunnel is the user-space part of one node. Safe for concurrent use.
type Tunnel struct {
	opt      Options
	ctx      context.Context // ends when Shutdown gives up waiting
	cancel   context.CancelFunc
	counters counters
	active   [2]atomic.Int64 // flows, TCP and TLS
	access   atomic.Bool
	wg       sync.WaitGroup // listeners, flows
	tickDone chan struct{}
	tickEnd  chan struct{}

	mu        sync.Mutex // guards what follows
	listeners map[string]*listener
	targets   map[string]*target
	flows     map[*flow]struct{}
	name      string
	down      bool
}

// listener is an open listening socket with the part of the configuration that it serves now.
type listener struct {
	l       net.Listener
	table   atomic.Pointer[table]
	closing atomic.Bool
}

// target is a target's live state, kept from configuration to configuration. Its flows are guarded by Tunnel.mu.
type target struct {
	key, addr string
	flows     map[*flow]struct{}
	sick      time.Time // since when it is unhealthy
	cutAt     time.Time // when its flows end; zero: they stay
}

// New returns a Tunnel that serves nothing yet.
func New(opt Options) *Tunnel {
	if opt.Listen == nil {
		lc := net.ListenConfig{KeepAlive: -1}
		opt.Listen = func(network, addr string) (net.Listener, error) {
			return lc.Listen(context.Background(), network, addr)
		}
	}
	if opt.Dial == nil {
		d := net.Dialer{KeepAlive: -1}
		opt.Dial = func(ctx context.Context, _ netip.AddrPort, addr string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.MaxFlows <= 0 {
		opt.MaxFlows = defaultMaxFlows
	}
	if opt.Scale <= 0 {
		opt.Scale = 1
	}
	t := &Tunnel{opt: opt, listeners: map[string]*listener{}, targets: map[string]*target{}, flows: map[*flow]struct{}{}, tickDone: make(chan struct{}), tickEnd: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	go t.tick()
	return t
}

func (t *Tunnel) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / t.opt.Scale)
}

var errDown = errors.New("the tunnel is shut down")

// Apply replaces the configuration for all new flows. Listeners that stay keep their socket. On error nothing has changed.
func (t *Tunnel) Apply(cfg Config) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down {
		return errDown
	}
	targets := map[string]*target{}
	tables, groups, err := compile(cfg, t.listeners, func(key, addr string) *target {
		x := t.targets[key]
		if x == nil {
			x = &target{key: key, addr: addr, flows: map[*flow]struct{}{}}
		}
		targets[key] = x
		return x
	})
	if err != nil {
		return err
	}
	opened := map[string]*listener{}
	for addr := range tables {
		if t.listeners[addr] != nil {
			continue
		}
		l, err := t.opt.Listen("tcp", addr)
		if err != nil {
			for _, o := range opened {
				o.l.Close()
			}
			return fmt.Errorf("listener %s: %w", addr, err)
		}
		opened[addr] = &listener{l: l}
	}
	t.name = cfg.LBName
	t.settle(groups, targets)
	for addr, ln := range t.listeners {
		if tb := tables[addr]; tb != nil {
			ln.table.Store(tb)
		} else { // its flows stay
			delete(t.listeners, addr)
			ln.closing.Store(true)
			ln.l.Close()
		}
	}
	for addr, ln := range opened {
		ln.table.Store(tables[addr])
		t.listeners[addr] = ln
		t.wg.Add(1)
		go t.accept(ln)
	}
	return nil
}

// settle takes over the targets of a new configuration and says which of their flows end, and when.
func (t *Tunnel) settle(groups map[string]*group, targets map[string]*target) {
	now := t.opt.Clock()
	for _, g := range groups {
		for key, state := range g.byKey {
			x := targets[key]
			if state != Unhealthy || g.failOpen {
				x.sick, x.cutAt = time.Time{}, time.Time{}
				continue
			}
			if x.sick.IsZero() {
				x.sick = now
			}
			switch {
			case g.cutSick:
				x.cutAt = now
			case g.sickAfter > 0:
				x.cutAt = x.sick.Add(t.scaled(g.sickAfter))
			default:
				x.cutAt = time.Time{}
			}
		}
	}
	for key, x := range t.targets { // those that left: their flows stay, unless their group says otherwise
		if targets[key] != nil {
			continue
		}
		for _, g := range groups {
			if g.cutGone && len(key) > len(g.key) && key[:len(g.key)] == g.key && key[len(g.key)] == 0 {
				x.cutAt = now
			}
		}
		if len(x.flows) > 0 && x.cutAt.IsZero() {
			targets[key] = x // found again if it comes back
		}
		t.cutDue(x, now)
	}
	t.targets = targets
	for _, x := range targets {
		t.cutDue(x, now)
	}
}

// cutDue ends a target's flows if it is time.
func (t *Tunnel) cutDue(x *target, now time.Time) {
	if x.cutAt.IsZero() || now.Before(x.cutAt) {
		return
	}
	for f := range x.flows {
		f.cut(cutTarget)
	}
}

func (t *Tunnel) tick() {
	defer close(t.tickDone)
	tk := time.NewTicker(tick)
	defer tk.Stop()
	for {
		select {
		case <-t.tickEnd:
			return
		case <-tk.C:
		}
		now := time.Now()
		t.mu.Lock()
		clock := t.opt.Clock()
		for _, x := range t.targets {
			t.cutDue(x, clock)
		}
		var due []*flow
		for f := range t.flows {
			if !now.Before(f.due) {
				due = append(due, f)
			}
		}
		t.mu.Unlock()
		for _, f := range due {
			f.look(now)
		}
	}
}

// accept takes connections until the listener closes.
func (t *Tunnel) accept(ln *listener) {
	defer t.wg.Done()
	delay := time.Duration(0)
	for {
		c, err := ln.l.Accept()
		if err != nil {
			if ln.closing.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			delay = min(max(2*delay, 5*time.Millisecond), time.Second) // out of descriptors, most likely
			t.opt.Log.Warn("accept", "listener", ln.l.Addr().String(), "err", err)
			time.Sleep(delay)
			continue
		}
		delay = 0
		tb := ln.table.Load()
		kind := kindTCP
		if tb.tls != nil {
			kind = kindTLS
		}
		if t.active[kind].Add(1)+t.active[1-kind].Load() > int64(t.opt.MaxFlows) {
			t.active[kind].Add(-1)
			t.reject(kind)
			reset(c)
			continue
		}
		t.wg.Add(1)
		go func() {
			defer t.wg.Done()
			defer t.active[kind].Add(-1)
			defer func() {
				if err := recover(); err != nil {
					t.opt.Log.Error("panic", "err", err, "stack", string(debug.Stack()))
					c.Close()
				}
			}()
			t.serve(tb, c, kind)
		}()
	}
}

func (t *Tunnel) reject(kind int) {
	if kind == kindTCP {
		t.counters[cRejectedTCP].Add(1)
	} else {
		t.counters[cRejected].Add(1)
	}
}

// Stats returns the counters since the last call.
func (t *Tunnel) Stats() Stats {
	t.mu.Lock()
	flows := make([]*flow, 0, len(t.flows))
	for f := range t.flows {
		flows = append(flows, f)
	}
	t.mu.Unlock()
	for _, f := range flows {
		f.count()
	}
	tcp, tls := float64(t.active[kindTCP].Load()), float64(t.active[kindTLS].Load())
	return Stats{Counters: t.counters.drain(), Gauges: map[string]float64{"ActiveFlowCount": tcp + tls, "ActiveFlowCount_TCP": tcp, "ActiveFlowCount_TLS": tls}}
}

// Shutdown stops accepting, lets flows go on until ctx ends, then resets what is left. It returns when all goroutines have ended.
func (t *Tunnel) Shutdown(ctx context.Context) error {
	t.mu.Lock()
	if t.down {
		t.mu.Unlock()
		return nil
	}
	t.down = true
	for _, ln := range t.listeners {
		ln.closing.Store(true)
		ln.l.Close()
	}
	t.mu.Unlock()
	done := make(chan struct{})
	go func() {
		t.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		t.cancel()
		t.mu.Lock()
		for f := range t.flows {
			f.cut(cutShutdown)
		}
		t.mu.Unlock()
		<-done
	}
	t.cancel()
	close(t.tickEnd)
	<-t.tickDone
	return err
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
