package zone

import (
	"net/netip"
	"strings"
	"time"

	"skerry/internal/fabric"
)

// Bounds of what counting costs.
const (
	listEvery = 5 * time.Second // reading all connections
	peakOver  = time.Second     // the shortest time that a packet rate is taken over
)

// countNLBs brings what the kernel counted into the totals of the network load balancers. The caller holds mu.
func (n *nodes) countNLBs() {
	for ns, s := range n.nlbs {
		n.countNLB(ns, s)
	}
}

// countNLB does so for one VPC.
func (n *nodes) countNLB(ns string, s *nlbState) {
	if len(s.services) == 0 {
		return
	}
	counts, err := n.o.Net.ReadNLB(ns, n.o.Zone)
	if err != nil {
		n.o.Log.Debug("counters of network load balancers can't be read", "zone", n.o.Zone, "namespace", ns, "err", err)
		return
	}
	now := n.o.Now()
	if s.active == nil || now.Sub(s.listed) >= listEvery {
		if s.active, err = n.o.Net.CountFlows(ns); err != nil {
			n.o.Log.Debug("connections can't be counted", "zone", n.o.Zone, "namespace", ns, "err", err)
		}
		s.listed = now
	}
	n.countBlocked(ns, s)
	packets, gauges := map[string]float64{}, map[string]map[string]float64{}
	for _, k := range s.services {
		t := n.total(k.arn)
		if t == nil {
			continue
		}
		d := since(counts[k.Key()], s.counts[k.Key()])
		k.count(t.Counters, d)
		packets[k.arn] += float64(d.Packets)
		g := gauges[k.arn]
		if g == nil {
			g = map[string]float64{}
			gauges[k.arn] = g
		}
		for _, name := range []string{"ActiveFlowCount", "ActiveFlowCount_" + strings.ToUpper(k.Proto)} {
			g[name] += float64(s.active[k.Key()])
		}
	}
	passed := now.Sub(s.counted)
	for arn, g := range gauges {
		t := n.total(arn)
		g["PeakPacketsPerSecond"] = t.Gauges["PeakPacketsPerSecond"]
		if passed >= peakOver {
			g["PeakPacketsPerSecond"] = 0
			if !s.counted.IsZero() {
				g["PeakPacketsPerSecond"] = packets[arn] / passed.Seconds()
			}
		}
		t.Gauges = g
	}
	s.counts = counts
	if passed >= peakOver {
		s.counted = now
	}
}

// countBlocked adds what the nodes' security groups kept away, and kept back.
func (n *nodes) countBlocked(ns string, s *nlbState) {
	now, err := n.o.Net.ReadBlocked(ns)
	if err != nil {
		n.o.Log.Debug("what security groups blocked can't be read", "zone", n.o.Zone, "namespace", ns, "err", err)
		return
	}
	done := map[netip.Addr]bool{}
	for _, k := range s.services {
		t := n.total(k.arn)
		if t == nil || s.blocked == nil || done[k.VIP] { // what was counted before this process began is not its to tell
			continue
		}
		done[k.VIP] = true
		a, b := s.blocked[k.VIP], now[k.VIP]
		addBlocked(t.Counters, "Inbound", a.In, b.In)
		addBlocked(t.Counters, "Outbound", a.Out, b.Out)
	}
	s.blocked = now
}

func addBlocked(to map[string]float64, way string, before, now fabric.Packets) {
	if now.TCP < before.TCP || now.UDP < before.UDP || now.ICMP < before.ICMP {
		before = fabric.Packets{}
	}
	for proto, n := range map[string]uint64{"TCP": now.TCP - before.TCP, "UDP": now.UDP - before.UDP, "ICMP": now.ICMP - before.ICMP} {
		to["SecurityGroupBlockedFlowCount_"+way+"_"+proto] += float64(n)
	}
}

// count adds what was counted for a service to its load balancer's metrics.
func (s kernelService) count(to map[string]float64, d fabric.NLBCounts) {
	proto := strings.ToUpper(s.Proto)
	both := func(name string, v uint64) {
		to[name] += float64(v)
		to[name+"_"+proto] += float64(v)
	}
	both("ProcessedBytes", d.Bytes)
	to["ProcessedPackets"] += float64(d.Packets)
	switch {
	case s.empty():
		both("RejectedFlowCount", d.Flows)
	default:
		both("NewFlowCount", d.Flows)
		if s.failOpen {
			to["UnhealthyRoutingFlowCount"] += float64(d.Flows)
		}
	}
	if s.Proto == "tcp" {
		to["TCP_Client_Reset_Count"] += float64(d.ClientResets)
		to["TCP_Target_Reset_Count"] += float64(d.TargetResets)
		to["TCP_ELB_Reset_Count"] += float64(d.NodeResets)
	}
}

// since is what came to the counts after before. Counts begin anew with a service that is listed anew.
func since(now, before fabric.NLBCounts) fabric.NLBCounts {
	if now.Flows < before.Flows || now.Packets < before.Packets {
		return now
	}
	return fabric.NLBCounts{Flows: now.Flows - before.Flows, Packets: now.Packets - before.Packets,
		Bytes: now.Bytes - before.Bytes, ClientResets: now.ClientResets - before.ClientResets,
		TargetResets: now.TargetResets - before.TargetResets, NodeResets: now.NodeResets - before.NodeResets}
}
