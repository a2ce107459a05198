package zone

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"skerry/internal/fabric"
)

// nlbState is what one VPC's kernel table was last made from.
type nlbState struct {
	ident    string
	services []kernelService
	open     map[fabric.NLBFlows]bool      // flows that may go on, also where no new ones begin
	sick     map[fabric.NLBFlows]time.Time // targets that are unhealthy, since when
	counts   map[fabric.NLBKey]fabric.NLBCounts
	blocked  map[netip.Addr]fabric.Blocked
	counted  time.Time
	active   map[fabric.NLBKey]int
	listed   time.Time // when active was read
}

// kernelService is one listener and protocol that the kernel serves.
type kernelService struct {
	fabric.NLBService
	arn      string // of the load balancer
	failOpen bool   // a group has too few healthy targets, so all of its get flows
	groups   []kernelGroup
}

// kernelGroup is one of the target groups that a service's flows go to.
type kernelGroup struct {
	failOpen  bool // not enough targets are healthy, so all get flows
	cutGone   bool // flows end when their target's deregistration delay is over
	cutSick   bool // flows end when their target becomes unhealthy,
	sickAfter time.Duration
	healthy   map[netip.AddrPort]bool // what flows may go on to
	unhealthy map[netip.AddrPort]bool
}

// forwarded is a target group with its share of a listener's flows.
type forwarded struct {
	TargetGroup
	weight int
}

func (s kernelService) flows(target netip.AddrPort) fabric.NLBFlows {
	return fabric.NLBFlows{Service: s.Key(), Target: target}
}

func (n *nodes) networkBalancers(ns string) []Balancer {
	var out []Balancer
	for _, b := range n.desired.Balancers {
		if b.Type == "network" && b.Namespace == ns {
			out = append(out, b)
		}
	}
	return out
}

// applyNLBs makes the kernel tables of every VPC equal to the network load balancers' nodes.
func (n *nodes) applyNLBs(ctx context.Context, serving map[string]bool) []error {
	var errs []error
	byNS := map[string][]Balancer{}
	for _, b := range n.desired.Balancers {
		if b.Type == "network" {
			byNS[b.Namespace] = append(byNS[b.Namespace], b)
		}
	}
	for ns := range n.nlbs { // the last one of a VPC went away
		if _, ok := byNS[ns]; !ok {
			byNS[ns] = nil
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(byNS)) {
		if err := n.applyNLB(ctx, ns, byNS[ns]); err != nil {
			if len(byNS[ns]) == 0 { // the VPC is gone, and its tables with it
				delete(n.nlbs, ns)
				continue
			}
			errs = append(errs, err)
		}
		if s := n.nlbs[ns]; s != nil {
			for _, b := range byNS[ns] {
				serving[b.ARN] = true
			}
		}
		if len(byNS[ns]) == 0 {
			delete(n.nlbs, ns)
		}
	}
	return errs
}

// applyNLB makes one VPC's table equal to its balancers, and ends the flows that have to end.
func (n *nodes) applyNLB(ctx context.Context, ns string, balancers []Balancer) error {
	ident, err := n.o.Net.Ident(ns)
	if err != nil {
		return err
	}
	old := n.nlbs[ns]
	if old != nil && old.ident != ident {
		old = nil
	}
	next := &nlbState{ident: ident, services: n.kernelServices(balancers), counts: map[fabric.NLBKey]fabric.NLBCounts{}}
	if old != nil {
		if !sameModes(old.services, next.services) { // what was counted until now, was counted for how it was until now
			n.countNLB(ns, old)
		}
		next.counts, next.counted, next.active, next.listed, next.blocked = old.counts, old.counted, old.active, old.listed, old.blocked
		maps.DeleteFunc(next.counts, func(k fabric.NLBKey, _ fabric.NLBCounts) bool {
			return !slices.ContainsFunc(next.services, func(s kernelService) bool { return s.Key() == k })
		})
	}
	services := make([]fabric.NLBService, 0, len(next.services))
	for _, s := range next.services {
		services = append(services, s.NLBService)
	}
	var failed error // one listener that can't be opened is no reason to keep the others from what they should be
	for _, b := range balancers {
		failed = errors.Join(failed, n.applyTunnel(b, ident))
		for _, l := range b.Listeners {
			if groups := n.forwardedTo(l); len(groups) > 0 && l.userSpace(groups) {
				services = append(services, l.process(b))
			}
		}
	}
	if err := n.o.Net.ApplyNLB(ctx, ns, n.o.Zone, services); err != nil {
		return fmt.Errorf("network load balancers: %w", err)
	}
	n.nlbs[ns] = next
	if err := n.endFlows(ns, old, next, n.o.Now()); err != nil {
		n.o.Log.Warn("flows to a target could not be ended", "zone", n.o.Zone, "namespace", ns, "err", err)
	}
	return failed
}

// endFlows ends the flows that may not go on, and notes which may.
func (n *nodes) endFlows(ns string, old, next *nlbState, now time.Time) error {
	var cuts []fabric.NLBFlows
	next.open, next.sick = map[fabric.NLBFlows]bool{}, map[fabric.NLBFlows]time.Time{}
	var errs []error
	for _, s := range next.services {
		all, cutGone := map[netip.AddrPort]bool{}, true
		for _, g := range s.groups {
			for t := range g.healthy {
				next.open[s.flows(t)] = true
			}
			for t := range g.unhealthy {
				f := s.flows(t)
				since, was := now, false
				if old != nil {
					if at, ok := old.sick[f]; ok {
						since, was = at, true
					}
				}
				next.sick[f] = since
				switch {
				case g.failOpen, !g.cutSick && g.sickAfter == 0, !g.cutSick && now.Sub(since) < g.sickAfter:
					next.open[f] = true
				case old == nil || old.open[f] || !was:
					cuts = append(cuts, f)
				}
			}
			maps.Copy(all, g.targets())
			cutGone = cutGone && g.cutGone
		}
		if old == nil && cutGone { // who knows what left while nobody looked
			_, err := n.o.Net.CutOthers(ns, s.Key(), slices.Collect(maps.Keys(all)))
			errs = append(errs, err)
		}
	}
	if old != nil {
		for _, s := range old.services {
			for _, g := range s.groups {
				if !g.cutGone {
					continue
				}
				for t := range g.targets() {
					f := s.flows(t)
					if _, sick := next.sick[f]; !sick && !next.open[f] {
						cuts = append(cuts, f)
					}
				}
			}
		}
	}
	cuts = slices.DeleteFunc(cuts, func(f fabric.NLBFlows) bool { return next.open[f] }) // good for another group
	if len(cuts) > 0 {
		_, err := n.o.Net.CutFlows(ns, cuts)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (g kernelGroup) targets() map[netip.AddrPort]bool {
	out := maps.Clone(g.healthy)
	maps.Copy(out, g.unhealthy)
	return out
}

// sameModes tells whether counts of both lists mean the same.
func sameModes(a, b []kernelService) bool {
	return slices.EqualFunc(a, b, func(x, y kernelService) bool {
		return x.Key() == y.Key() && x.arn == y.arn && x.failOpen == y.failOpen && x.empty() == y.empty()
	})
}

func (s kernelService) empty() bool {
	return !slices.ContainsFunc(s.Targets, func(t fabric.NLBTarget) bool { return t.Weight > 0 })
}

// kernelServices are the listeners of network load balancers' nodes that the kernel serves: flows go to the healthy
// targets, to all if too few are healthy.
func (n *nodes) kernelServices(balancers []Balancer) (out []kernelService) {
	for _, b := range balancers {
		for _, l := range b.Listeners {
			groups := n.forwardedTo(l)
			if len(groups) == 0 || l.userSpace(groups) {
				continue
			}
			out = append(out, n.listenerServices(b, l, groups)...)
		}
	}
	return out
}

func (n *nodes) listenerServices(b Balancer, l Listener, groups []forwarded) (out []kernelService) {
	s := kernelService{arn: b.ARN, NLBService: fabric.NLBService{VIP: b.NodeIP, Port: uint16(l.Port)}}
	at := map[netip.AddrPort]int{} // where a target is in the service's list: two groups may share it
	for _, f := range groups {
		g, targets := n.kernelGroup(f.TargetGroup)
		s.groups = append(s.groups, g)
		s.failOpen = s.failOpen || g.failOpen && f.weight > 0
		takes := 0
		for _, t := range targets {
			takes += t.Weight
		}
		for _, t := range targets {
			if len(groups) > 1 && t.Weight > 0 { // each has an equal part of its group's share
				if t.Weight = 0; f.weight > 0 {
					t.Weight = max(1, f.weight*shares/takes)
				}
			}
			key := netip.AddrPortFrom(t.IP, t.Port)
			if i, ok := at[key]; ok {
				s.Targets[i].Weight += t.Weight
				continue
			}
			at[key] = len(s.Targets)
			s.Targets = append(s.Targets, t)
		}
		s.PreserveClientIP = s.PreserveClientIP || f.Attributes["preserve_client_ip.enabled"] == "true"
		s.StickySourceIP = s.StickySourceIP || f.Attributes["stickiness.enabled"] == "true"
	}
	for _, proto := range l.kernelProtocols() {
		s.Proto, s.Idle = proto, 0
		if v, err := strconv.Atoi(l.Attributes["tcp.idle_timeout.seconds"]); err == nil && proto == "tcp" {
			s.Idle = time.Duration(v) * time.Second
		}
		out = append(out, s)
	}
	return out
}

// shares is what a group's weight of 1 is divided into among its targets: all of up to 16 get the same.
const shares = 720720

// kernelGroup tells which of a group's targets get new flows (weight 1), and which flows may go on.
func (n *nodes) kernelGroup(g TargetGroup) (kernelGroup, []fabric.NLBTarget) {
	s := kernelGroup{healthy: map[netip.AddrPort]bool{}, unhealthy: map[netip.AddrPort]bool{},
		cutGone: g.Attributes["deregistration_delay.connection_termination.enabled"] == "true",
		cutSick: g.cutsSick()}
	s.sickAfter = n.o.sickInterval(g)
	var healthy, all, draining []fabric.NLBTarget
	for _, t := range g.Targets {
		at := netip.AddrPortFrom(t.IP, uint16(t.Port))
		nt := fabric.NLBTarget{IP: t.IP, Port: uint16(t.Port), Weight: 1}
		if t.Draining {
			nt.Weight = 0
			draining = append(draining, nt)
			s.healthy[at] = true
			continue
		}
		all = append(all, nt)
		switch n.checks.state(g, t) {
		case Healthy:
			healthy = append(healthy, nt)
			s.healthy[at] = true
		case Unhealthy:
			s.unhealthy[at] = true
		default:
			s.healthy[at] = true
		}
	}
	s.failOpen = !g.enoughHealthy(len(healthy), len(all)) && len(all) > 0
	if !s.failOpen {
		for i := range all { // known, but without new flows
			if !slices.Contains(healthy, all[i]) {
				all[i].Weight = 0
			}
		}
	}
	return s, append(all, draining...)
}

// cutsSick tells whether flows end at once when their target becomes unhealthy.
func (g TargetGroup) cutsSick() bool {
	return g.Attributes["target_health_state.unhealthy.connection_termination.enabled"] != "false"
}

// sickInterval is how long flows to a target that became unhealthy go on, where they end later; 0 where they don't.
func (o Options) sickInterval(g TargetGroup) time.Duration {
	v, err := strconv.Atoi(g.Attributes["target_health_state.unhealthy.draining_interval_seconds"])
	if err != nil || g.cutsSick() {
		return 0
	}
	return o.scaled(v)
}

// enoughHealthy tells whether the healthy targets take all flows; with too few of them all targets do.
func (g TargetGroup) enoughHealthy(healthy, all int) bool {
	const key = "target_group_health.unhealthy_state_routing.minimum_healthy_targets."
	if n, err := strconv.Atoi(g.Attributes[key+"count"]); err == nil && healthy < n {
		return false
	}
	if n, err := strconv.Atoi(g.Attributes[key+"percentage"]); err == nil && healthy*100 < n*all {
		return false
	}
	return healthy > 0
}

// forwardedTo are the groups that a network load balancer's listener forwards to.
func (n *nodes) forwardedTo(l Listener) (out []forwarded) {
	for _, a := range l.Default {
		for _, w := range a.Forward {
			if g, ok := n.byGroup[w.GroupARN]; ok {
				out = append(out, forwarded{g, w.Weight})
			}
		}
	}
	return out
}

func (l Listener) kernelProtocols() []string {
	switch l.Protocol {
	case "UDP":
		return []string{"udp"}
	case "TCP_UDP":
		return []string{"tcp", "udp"}
	}
	return []string{"tcp"}
}
