package cloud

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"skerry/internal/balance"
	"skerry/internal/network"
	"skerry/internal/store"
	"skerry/internal/zone"
)

// nameTables are those that planNames reads, but for the fronts, which only names.step writes.
var nameTables = []store.AnyTable{balance.LoadBalancers, balance.Listeners, balance.Rules, balance.TargetGroups, balance.Observations, balance.Registrations, network.ENIs}

// namePlan is what the host is to know about load balancers' names.
type namePlan struct {
	addrs  map[string][]netip.Addr         // name → public addresses of the nodes that serve
	block  map[string][]string             // name → lines of the hosts file
	fronts map[netip.Addr][]netip.Addr     // for the fabric
	lack   map[string]balance.LoadBalancer // ARN → load balancer that is to get a front
	stale  []string                        // holders of fronts that are gone
}

// planNames is pure. DNS answers rotate, so that clients find every node; a hosts file has a fixed order, and most clients
// take its first address. There the first is the load balancer's front, which the fabric spreads over the nodes; the nodes'
// own addresses follow, for clients that try further ones. A load balancer gets a front when it has more than one node,
// and keeps it.
func planNames(tx store.Tx) namePlan {
	p := namePlan{addrs: map[string][]netip.Addr{}, block: map[string][]string{}, fronts: map[netip.Addr][]netip.Addr{}, lack: map[string]balance.LoadBalancer{}}
	have := map[string]string{}
	for f := range network.Fronts(tx) {
		have[f.HolderID] = f.IP
	}
	for lb := range balance.LoadBalancers.All(tx) {
		n := balance.NameOf(tx, lb)
		p.addrs[n.Name] = n.Public
		if lb.SchemeName == balance.InternetFacing {
			if ip, ok := have[lb.ARN]; ok {
				delete(have, lb.ARN)
				p.fronts[netip.MustParseAddr(ip)] = n.Public
				p.block[n.Name] = []string{ip}
			} else if len(lb.Nodes) > 1 {
				p.lack[lb.ARN] = lb
			}
		}
		for _, a := range n.Public {
			p.block[n.Name] = append(p.block[n.Name], a.String())
		}
	}
	for holder := range have {
		p.stale = append(p.stale, holder)
	}
	slices.Sort(p.stale)
	return p
}

// names keeps the host's names of load balancers current: their fronts, the hosts file's block, and the DNS server.
type names struct {
	c         *control
	setFronts func(context.Context, map[netip.Addr][]netip.Addr) error
	hosts     string // path of the hosts file, "" = leave it alone
	short     bool   // the pool had no address for a front; owned by step

	mu    sync.Mutex // guards addrs
	addrs map[string][]netip.Addr
}

func (c *control) newNames() *names {
	n := &names{c: c, setFronts: c.fabric.SetFronts}
	if c.o.HostsFile {
		n.hosts = hostsPath
	}
	return n
}

// lookup answers a question of a client of this host (in lower case): the nodes' addresses, in an order that begins anywhere.
func (n *names) lookup(name string) ([]netip.Addr, bool) {
	n.mu.Lock()
	a, ok := n.addrs[name]
	n.mu.Unlock()
	if len(a) < 2 {
		return a, ok
	}
	i := rand.IntN(len(a))
	return slices.Concat(a[i:], a[:i]), ok
}

// step makes everything equal to the state and tells whether all of it worked. An address is taken before it is a front,
// and given back when it is none any more.
func (n *names) step(ctx context.Context) bool {
	p := n.plan()
	if len(p.lack) > 0 {
		n.take()
		p = n.plan()
	}
	n.mu.Lock()
	n.addrs = p.addrs
	n.mu.Unlock()
	ok := true
	if err := n.setFronts(ctx, p.fronts); err != nil {
		ok = false
		if ctx.Err() == nil {
			n.c.log.Error("connections to load balancers could not be spread over their nodes; trying again", "err", err)
		}
	}
	if n.hosts != "" {
		if err := hostsBlock(n.hosts, n.c.id, p.block); err != nil {
			ok = false
			n.c.log.Error("the hosts file could not be written; trying again", "err", err)
		}
	}
	if ok && len(p.stale) > 0 {
		err := n.c.db.Update(func(w *store.WriteTx) error {
			for _, holder := range planNames(w).stale {
				network.GiveFront(w, holder)
			}
			return nil
		})
		if err != nil {
			ok = false
			n.c.log.Error("the fronts of deleted load balancers could not be given back; trying again", "err", err)
		}
	}
	return ok
}

func (n *names) plan() (p namePlan) {
	n.c.db.View(func(tx *store.ReadTx) error { p = planNames(tx); return nil })
	return p
}

// take gives fronts to the load balancers that lack one, as far as the pool goes: without one the name leads to the
// nodes alone.
func (n *names) take() {
	var short error
	err := n.c.db.Update(func(w *store.WriteTx) error {
		for arn, lb := range planNames(w).lack {
			if _, err := network.TakeFront(w, lb.Scope, arn); err != nil {
				short = err
				break
			}
		}
		return nil
	})
	if err != nil {
		n.c.log.Error("a load balancer's front could not be recorded", "err", err)
	}
	if short != nil && !n.short {
		n.c.log.Warn("a load balancer got no front: clients that read the hosts file reach only its first node", "err", short)
	}
	n.short = short != nil
}

// run steps at every change, and serves DNS, until ctx ends.
func (n *names) run(ctx context.Context) {
	var dns netip.Addr
	n.c.db.View(func(tx *store.ReadTx) error { dns, _ = network.DNSAddress(tx); return nil })
	stop, err := zone.ServeHostDNS(netip.AddrPortFrom(dns, 53).String(), zone.HostDNS{Lookup: n.lookup})
	if err != nil {
		n.c.log.Warn("the DNS server for this host can't be served; the hosts file still has the names", "err", err)
	} else {
		defer stop()
	}
	for {
		changed := n.c.db.Watch(nameTables...)
		retry := retryPause
		if n.step(ctx) {
			retry = 0
		}
		if !pause(ctx, changed, retry) {
			return
		}
	}
}
