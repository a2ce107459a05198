package zone

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"skerry/internal/proxy"
)

// nodeDrain is how long a node that goes away lets its running requests finish.
const nodeDrain = 10 * time.Second

// nodes are the zone's load-balancer nodes. Safe for concurrent use.
type nodes struct {
	o      Options
	rep    *reporter
	checks *checker
	wg     sync.WaitGroup // nodes that shut down
	engine *proxy.Engine  // carries the connections of all nodes; nil if the network makes no sockets for it

	mu      sync.Mutex // guards what follows; taken before the checker's
	desired Desired
	byGroup map[string]TargetGroup
	albs    map[string]*albNode
	nlbs    map[string]*nlbState // by namespace
	tunnels map[string]*tunnelNode
	serving map[string]bool
	totals  map[string]*BalancerStats // counters of nodes that live, by ARN
	healths map[string]*proxy.LineLog // of balancers, by ARN, while they have a node

	checkLogs atomic.Pointer[map[string]checkLog] // of those that are on, by group

	names func() *names // set before the first state
}

// albNode is an application load balancer's node.
type albNode struct {
	ident   string
	ip      netip.Addr
	proxy   *proxy.Proxy
	applied *proxy.Config
}

func newNodes(o Options, rep *reporter, c *checker) *nodes {
	n := &nodes{o: o, rep: rep, checks: c, albs: map[string]*albNode{}, nlbs: map[string]*nlbState{}, tunnels: map[string]*tunnelNode{}, serving: map[string]bool{}, totals: map[string]*BalancerStats{},
		healths: map[string]*proxy.LineLog{}}
	c.change, c.noted = n.healthChanged, n.logCheck
	if _, ok := o.Net.(loopNet); ok {
		var err error
		if n.engine, err = proxy.NewEngine(o.Loops); err != nil {
			o.Log.Warn("load balancers work without event loops", "zone", o.Zone, "err", err)
			n.engine = nil
		}
	}
	return n
}

// apply makes the nodes equal to the desired state and returns what could not be done.
func (n *nodes) apply(ctx context.Context, d Desired) []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.desired, n.byGroup = d, map[string]TargetGroup{}
	for _, g := range d.Groups {
		n.byGroup[g.ARN] = g
	}
	n.checks.sync(d.Groups)
	var errs []error
	serving := map[string]bool{}
	for _, b := range d.Balancers {
		if b.Type != "application" {
			continue
		}
		if err := n.applyALB(b); err != nil {
			errs = append(errs, fmt.Errorf("load balancer %s: %w", b.Name, err))
		}
		if a := n.albs[b.ARN]; a != nil && a.applied != nil { // also with its configuration of before
			serving[b.ARN] = true
		}
	}
	for arn, a := range n.albs {
		if !slices.ContainsFunc(d.Balancers, func(b Balancer) bool { return b.ARN == arn }) {
			delete(n.albs, arn)
			n.retire(a)
		}
	}
	for arn := range n.tunnels {
		if !slices.ContainsFunc(d.Balancers, func(b Balancer) bool { return b.ARN == arn }) {
			n.retireTunnel(arn)
		}
	}
	maps.DeleteFunc(n.totals, func(arn string, _ *BalancerStats) bool {
		return !slices.ContainsFunc(d.Balancers, func(b Balancer) bool { return b.ARN == arn })
	})
	errs = append(errs, n.applyNLBs(ctx, serving)...)
	errs = append(errs, n.applyCheckLogs()...)
	n.rep.setServing(serving)
	return errs
}

// dial connects from a load balancer's node. Names are those of its VPC, or the machine's: an identity provider has one.
func (n *nodes) dial(ctx context.Context, vpc, ns string, from netip.Addr, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if _, perr := netip.ParseAddr(host); err != nil || perr == nil || n.names == nil {
		return n.o.Net.Dial(ctx, ns, from, network, addr)
	}
	addrs, known := n.names().lookup(vpc, dns.CanonicalName(host))
	if !known {
		return n.o.Net.Dial(ctx, ns, from, network, addr)
	}
	err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	for _, a := range addrs {
		var c net.Conn
		if c, err = n.o.Net.Dial(ctx, ns, from, network, net.JoinHostPort(a.String(), port)); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// retire shuts a node down in the background, its running requests first.
func (n *nodes) retire(a *albNode) {
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		ctx, cancel := context.WithTimeout(context.Background(), nodeDrain)
		defer cancel()
		a.proxy.Shutdown(ctx)
	}()
}

func (n *nodes) applyALB(b Balancer) error {
	ident, err := n.o.Net.Ident(b.Namespace)
	if err != nil {
		return err
	}
	a := n.albs[b.ARN]
	if a != nil && (a.ident != ident || a.ip != b.NodeIP) {
		n.retire(a)
		a = nil
	}
	if a == nil {
		ns, from := b.Namespace, b.NodeIP
		opt := proxy.Options{
			Listen: func(network, addr string) (net.Listener, error) { return n.o.Net.Listen(ns, network, addr) },
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return n.dial(ctx, b.VPC, ns, from, network, addr)
			},
			Log: n.o.Log.With("zone", n.o.Zone, "load_balancer", b.Name), Clock: n.o.Now, Engine: n.engine, Goroutines: n.engine == nil,
			Logs: n.o.logs(b),
		}
		if ln, ok := n.o.Net.(loopNet); ok && n.engine != nil {
			opt.ListenSockets = func(addr string, k int) ([]int, error) { return ln.ListenSockets(ns, addr, k) }
			opt.Socket = func(to netip.Addr) (int, error) { return ln.Socket(ns, from, to) }
		}
		a = &albNode{ident: ident, ip: from, proxy: proxy.New(opt)}
		n.albs[b.ARN] = a
	}
	cfg := n.config(b)
	if a.applied != nil && reflect.DeepEqual(*a.applied, cfg) {
		return nil
	}
	if err := a.proxy.Apply(cfg); err != nil {
		return err
	}
	a.applied = &cfg
	return nil
}

// logs says where a node's logs go: into DATA/s3, under the names that the objects would have in S3.
func (o Options) logs(b Balancer) proxy.Logs {
	l := proxy.Logs{Dir: filepath.Join(o.DataDir, "s3"), Address: b.NodeIP.String(), Every: o.scaled(300)}
	if part := strings.SplitN(b.ARN, ":", 6); len(part) == 6 {
		l.Region, l.Account = part[3], part[4]
	}
	return l
}

// config is what an application load balancer's node serves now, targets' health included.
func (n *nodes) config(b Balancer) proxy.Config {
	cfg := proxy.Config{LBName: b.Name, Zone: n.o.Zone, Attributes: b.Attributes, TargetGroups: map[string]proxy.TargetGroup{}, CookieKey: b.CookieKey}
	use := func(actions []Action) {
		for _, a := range actions {
			for _, w := range a.Forward {
				if g, ok := n.byGroup[w.GroupARN]; ok {
					cfg.TargetGroups[g.ARN] = n.proxyGroup(g)
				}
			}
		}
	}
	for _, l := range b.Listeners {
		cfg.Listeners = append(cfg.Listeners, proxy.Listener{ARN: l.ARN, Addr: netip.AddrPortFrom(b.NodeIP, uint16(l.Port)).String(), Protocol: l.Protocol, Port: l.Port,
			Certificates: l.Certificates, SSLPolicy: l.SSLPolicy, MutualTLS: l.MutualTLS, Attributes: l.Attributes, Rules: l.Rules, DefaultActions: l.Default, DefaultARN: l.DefaultARN})
		use(l.Default)
		for _, r := range l.Rules {
			use(r.Actions)
		}
	}
	return cfg
}

func (n *nodes) proxyGroup(g TargetGroup) proxy.TargetGroup {
	out := proxy.TargetGroup{ARN: g.ARN, Name: g.Name, Protocol: g.Protocol, ProtocolVersion: g.ProtocolVersion, Attributes: g.Attributes}
	for _, t := range g.Targets {
		p := proxy.Target{ID: t.ID, Addr: netip.AddrPortFrom(t.IP, uint16(t.Port)).String(), Zone: t.Zone, State: proxy.Draining}
		if !t.Draining {
			p.State = n.checks.state(g, t)
		}
		out.Targets = append(out.Targets, p)
	}
	return out
}

// healthChanged brings a target's new state to the node that uses its group, before anybody hears of it.
func (n *nodes) healthChanged(group string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.desired.Balancers {
		if b.Type == "application" && n.albs[b.ARN] != nil && b.uses(group) {
			if err := n.applyALB(b); err != nil {
				n.o.Log.Warn("a target's health could not be brought to its load balancer; it is tried again", "zone", n.o.Zone, "load_balancer", b.Name, "err", err)
			}
		}
		if b.Type == "network" && b.uses(group) {
			if err := n.applyNLB(context.Background(), b.Namespace, n.networkBalancers(b.Namespace)); err != nil {
				n.o.Log.Warn("a target's health could not be brought to its load balancer; it is tried again", "zone", n.o.Zone, "load_balancer", b.Name, "err", err)
			}
		}
	}
}

// uses tells whether a balancer forwards to a group.
func (b Balancer) uses(group string) bool {
	in := func(actions []Action) bool {
		return slices.ContainsFunc(actions, func(a Action) bool {
			return slices.ContainsFunc(a.Forward, func(w Weighted) bool { return w.GroupARN == group })
		})
	}
	return slices.ContainsFunc(b.Listeners, func(l Listener) bool {
		return in(l.Default) || slices.ContainsFunc(l.Rules, func(r Rule) bool { return in(r.Actions) })
	})
}

// stats adds what the nodes counted since the last call to their totals, and returns those.
func (n *nodes) stats() []BalancerStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.countNLBs()
	n.countTunnels()
	var out []BalancerStats
	for _, b := range n.desired.Balancers {
		t := n.total(b.ARN)
		if a := n.albs[b.ARN]; a != nil {
			s := a.proxy.Stats()
			t.add(s)
			for arn, g := range s.Groups {
				n.rep.setAnomalies(n.byGroup[arn], g.Anomalies)
			}
		}
		out = append(out, t.clone())
	}
	return out
}

// total is a balancer's running total, nil if there is no such balancer. The caller holds mu.
func (n *nodes) total(arn string) *BalancerStats {
	if t := n.totals[arn]; t != nil {
		return t
	}
	for _, b := range n.desired.Balancers {
		if b.ARN == arn {
			t := &BalancerStats{ARN: b.ARN, Name: b.Name, Type: b.Type, Counters: map[string]float64{}, Groups: map[string]GroupStats{}}
			n.totals[arn] = t
			return t
		}
	}
	return nil
}

func (t *BalancerStats) add(s proxy.Stats) {
	for k, v := range s.Counters {
		t.Counters[k] += v
	}
	t.Gauges = s.Gauges
	t.AuthLatency = Summary{Count: t.AuthLatency.Count + s.AuthLatency.Count, Sum: t.AuthLatency.Sum + s.AuthLatency.Sum, Min: s.AuthLatency.Min, Max: s.AuthLatency.Max}
	for arn, g := range t.Groups { // the extremes are those since the last report
		g.Latency.Min, g.Latency.Max = 0, 0
		t.Groups[arn] = g
	}
	for arn, s := range s.Groups {
		g := t.Groups[arn]
		if g.Counters == nil {
			g.Counters = map[string]float64{}
		}
		g.Name = s.Name
		for k, v := range s.Counters {
			g.Counters[k] += v
		}
		g.Latency = Summary{Count: g.Latency.Count + s.Latency.Count, Sum: g.Latency.Sum + s.Latency.Sum, Min: s.Latency.Min, Max: s.Latency.Max,
			Spread: addSpread(g.Latency.Spread, s.Latency.Spread, 1)}
		g.Gauges = s.Gauges
		t.Groups[arn] = g
	}
}

// addSpread returns a distribution with times as many of another's values; both are sorted, and stay as they are.
func addSpread(a, b []proxy.Bin, times float64) []proxy.Bin {
	out := make([]proxy.Bin, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Value < b[0].Value:
			out, a = append(out, a[0]), a[1:]
		case len(a) == 0 || b[0].Value < a[0].Value:
			out, b = append(out, proxy.Bin{Value: b[0].Value, Count: times * b[0].Count}), b[1:]
		default:
			if n := a[0].Count + times*b[0].Count; n != 0 {
				out = append(out, proxy.Bin{Value: a[0].Value, Count: n})
			}
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// Since returns what came to a distribution since before.
func (s Summary) Since(before Summary) []proxy.Bin { return addSpread(s.Spread, before.Spread, -1) }

// clone copies the totals, which go on changing.
func (t *BalancerStats) clone() BalancerStats {
	c := *t
	c.Counters, c.Gauges, c.Groups = maps.Clone(t.Counters), maps.Clone(t.Gauges), maps.Clone(t.Groups)
	for arn, g := range c.Groups {
		g.Counters = maps.Clone(g.Counters)
		c.Groups[arn] = g
	}
	return c
}

// stop shuts all nodes down and waits. The kernel's part (network load balancers) stays: it needs no process.
func (n *nodes) stop(ctx context.Context) {
	n.mu.Lock()
	albs, tunnels := n.albs, n.tunnels
	n.albs, n.tunnels = map[string]*albNode{}, map[string]*tunnelNode{}
	n.mu.Unlock()
	for _, a := range albs {
		n.wg.Add(1)
		go func() {
			defer n.wg.Done()
			a.proxy.Shutdown(ctx)
		}()
	}
	for _, a := range tunnels {
		n.wg.Add(1)
		go func() {
			defer n.wg.Done()
			a.shutdown(ctx)
		}()
	}
	for _, l := range n.healths {
		l.Close()
	}
	n.wg.Wait()
	if n.engine != nil {
		n.engine.Close()
	}
}
