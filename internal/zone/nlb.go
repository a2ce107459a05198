package zone

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"skerry/internal/fabric"
)

// nlbState is what one VPC's kernel tables were last made from.
type nlbState struct {
	ident    string
	services []fabric.NLBService
	// out are the targets that flows had been led to, by service, with what becomes of their flows when they leave.
	in map[flowKey]bool
}

// flowKey names the flows of one listener to one target.
type flowKey struct {
	proto       string
	vip, target netip.AddrPort
	cutBad      bool // when the target becomes unhealthy
	cutGone     bool // when its deregistration delay is over
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
		if s := n.nlbs[ns]; s != nil && s.services != nil {
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

// applyNLB makes one VPC's table equal to its balancers, and cuts the flows that have to end.
func (n *nodes) applyNLB(ctx context.Context, ns string, balancers []Balancer) error {
	ident, err := n.o.Net.Ident(ns)
	if err != nil {
		return err
	}
	services, in, bad := n.services(balancers)
	old := n.nlbs[ns]
	if err := n.o.Net.ApplyNLB(ctx, ns, n.o.Zone, services); err != nil {
		return fmt.Errorf("network load balancers: %w", err)
	}
	if services == nil {
		services = []fabric.NLBService{}
	}
	n.nlbs[ns] = &nlbState{ident: ident, services: services, in: in}
	if old == nil || old.ident != ident {
		return nil
	}
	for f := range old.in {
		registered := in[f] || bad[f]
		if bad[f] && f.cutBad || !registered && f.cutGone {
			if _, err := n.o.Net.CutFlows(ns, f.proto, f.vip, f.target); err != nil {
				n.o.Log.Warn("flows to a target could not be ended", "zone", n.o.Zone, "target", f.target, "err", err)
			}
		}
	}
	return nil
}

// services are the listeners of network load balancers' nodes as the kernel serves them: flows go to the healthy targets,
// to all if none is healthy. in are the flows that may go on, bad those to targets that have become unhealthy.
func (n *nodes) services(balancers []Balancer) (out []fabric.NLBService, in, bad map[flowKey]bool) {
	in, bad = map[flowKey]bool{}, map[flowKey]bool{}
	for _, b := range balancers {
		for _, l := range b.Listeners {
			g, ok := n.byGroup[l.forwardsTo()]
			if !ok {
				continue
			}
			var healthy, all []fabric.NLBTarget
			unhealthy := map[netip.AddrPort]bool{}
			var draining []netip.AddrPort
			for _, t := range g.Targets {
				at := netip.AddrPortFrom(t.IP, uint16(t.Port))
				if t.Draining {
					draining = append(draining, at)
					continue
				}
				nt := fabric.NLBTarget{IP: t.IP, Port: uint16(t.Port), Weight: 1}
				all = append(all, nt)
				switch n.checks.state(g, t) {
				case Healthy:
					healthy = append(healthy, nt)
				case Unhealthy:
					unhealthy[at] = true
				}
			}
			failOpen := !g.enoughHealthy(len(healthy), len(all))
			if failOpen {
				healthy = all
			}
			for _, proto := range l.kernelProtocols() {
				vip := netip.AddrPortFrom(b.NodeIP, uint16(l.Port))
				out = append(out, fabric.NLBService{VIP: b.NodeIP, Port: uint16(l.Port), Proto: proto, Targets: healthy,
					PreserveClientIP: g.Attributes["preserve_client_ip.enabled"] == "true",
					StickySourceIP:   g.Attributes["stickiness.enabled"] == "true"})
				key := func(at netip.AddrPort) flowKey {
					return flowKey{proto: proto, vip: vip, target: at,
						cutBad:  g.Attributes["target_health_state.unhealthy.connection_termination.enabled"] != "false",
						cutGone: g.Attributes["deregistration_delay.connection_termination.enabled"] == "true"}
				}
				for _, t := range all {
					at := netip.AddrPortFrom(t.IP, t.Port)
					if unhealthy[at] && !failOpen {
						bad[key(at)] = true
					} else {
						in[key(at)] = true
					}
				}
				for _, at := range draining {
					in[key(at)] = true
				}
			}
		}
	}
	return out, in, bad
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

// forwardsTo is the one group of a network load balancer's listener.
func (l Listener) forwardsTo() string {
	for _, a := range l.Default {
		for _, w := range a.Forward {
			return w.GroupARN
		}
	}
	return ""
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
