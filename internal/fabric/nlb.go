package fabric

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
)

// NLBService is one listener of a network load balancer's node: packets to VIP:Port go to one of the targets, the same
// for all of a flow. Without targets the node itself answers, which means a reset (TCP) or port unreachable (UDP).
type NLBService struct {
	VIP              netip.Addr // the node's private address
	Port             uint16
	Proto            string // tcp, udp
	Targets          []NLBTarget
	PreserveClientIP bool // else targets see the node's address
	StickySourceIP   bool // the client's address alone decides
}

// NLBTarget is where an NLB sends to. Weights are relative; 0 gets no new flows.
type NLBTarget struct {
	IP     netip.Addr
	Port   uint16
	Weight int
}

// maxSlots bounds the table from hash to target of one service.
const maxSlots = 1024

func nlbTable(zone string) string { return "inet nlb-" + zone }

// nlbApplied remembers what this process wrote, so that equal states cost nothing: namespace and zone → inode, script.
var nlbApplied sync.Map

type nlbKey struct{ ns, zone string }
type nlbState struct {
	inode  uint64
	script string
}

// ApplyNLB makes the services of one zone's load-balancer nodes in the VPC namespace at ns equal to services, in one
// transaction: no packet sees half of it, and nothing of other zones is touched. Established flows keep their target, also
// one that is no longer listed (see CutFlows). Idempotent; equal services again cost no transaction.
func ApplyNLB(ctx context.Context, ns, zone string, services []NLBService) error {
	if err := checkNLB(zone, services); err != nil {
		return err
	}
	inode := nsInode(ns)
	if inode == 0 {
		return fmt.Errorf("nlb of zone %s: no network namespace at %s", zone, ns)
	}
	key, state := nlbKey{ns, zone}, nlbState{inode, nlbScript(zone, services)}
	if old, ok := nlbApplied.Load(key); ok && old == state {
		return nil
	}
	nlbApplied.Delete(key)
	if err := nft(ctx, ns, state.script); err != nil {
		return fmt.Errorf("nlb of zone %s: %w", zone, err)
	}
	nlbApplied.Store(key, state)
	return nil
}

// ApplyNLB is the function ApplyNLB for a VPC by its id.
func (f *Fabric) ApplyNLB(ctx context.Context, vpcID, zone string, services []NLBService) error {
	return ApplyNLB(ctx, f.VPCNamespace(vpcID), zone, services)
}

func checkNLB(zone string, services []NLBService) error {
	if err := checkWord("zone", zone); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, s := range services {
		if !s.VIP.Is4() || s.Port == 0 || s.Proto != "tcp" && s.Proto != "udp" {
			return fmt.Errorf("nlb service %s %v:%d: an IPv4 address, a port, and tcp or udp are needed", s.Proto, s.VIP, s.Port)
		}
		if id := fmt.Sprint(s.Proto, s.VIP, s.Port); seen[id] {
			return fmt.Errorf("nlb service %s %v:%d is listed twice", s.Proto, s.VIP, s.Port)
		} else {
			seen[id] = true
		}
		if len(s.Targets) > maxSlots {
			return fmt.Errorf("nlb service %s %v:%d: more than %d targets", s.Proto, s.VIP, s.Port, maxSlots)
		}
		for _, t := range s.Targets {
			if !t.IP.Is4() || t.Port == 0 || t.Weight < 0 {
				return fmt.Errorf("nlb service %s %v:%d: bad target %v:%d weight %d", s.Proto, s.VIP, s.Port, t.IP, t.Port, t.Weight)
			}
		}
	}
	return nil
}

// nlbScript is the transaction that replaces a zone's table. Pure; equal services in any order give equal text.
func nlbScript(zone string, services []NLBService) string {
	r := newRuleset(nlbTable(zone))
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b NLBService) int {
		return cmp.Or(a.VIP.Compare(b.VIP), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto))
	})
	var pre, post []string
	for _, s := range services {
		slots := s.slots()
		if len(slots) == 0 {
			continue
		}
		dest := fmt.Sprintf("ip daddr %s %s dport %d", s.VIP, s.Proto, s.Port)
		if len(slots) == 1 {
			pre = append(pre, fmt.Sprintf("%s dnat ip to %s:%d", dest, slots[0].IP, slots[0].Port))
		} else {
			key := fmt.Sprintf("ip saddr . %s sport . ip daddr . %s dport", s.Proto, s.Proto)
			if s.StickySourceIP {
				key = "ip saddr . ip daddr"
			}
			var elems []string
			for i, t := range slots {
				elems = append(elems, fmt.Sprintf("%d : %s . %d", i, t.IP, t.Port))
			}
			pre = append(pre, fmt.Sprintf("%s dnat ip to jhash %s mod %d seed 0x%x map { %s }", dest, key, len(slots), s.seed(), strings.Join(elems, ", ")))
		}
		orig := fmt.Sprintf("meta l4proto %s ct original ip daddr %s ct original proto-dst %d", s.Proto, s.VIP, s.Port)
		if !s.PreserveClientIP {
			post = append(post, fmt.Sprintf("%s snat ip to %s", orig, s.VIP))
			continue
		}
		var self []string // a target that is its own client must not answer itself past the load balancer
		for _, t := range slots {
			self = append(self, fmt.Sprintf("%s . %s", t.IP, t.IP))
		}
		slices.Sort(self)
		post = append(post, fmt.Sprintf("%s ip saddr . ip daddr { %s } snat ip to %s", orig, strings.Join(slices.Compact(self), ", "), s.VIP))
	}
	r.chain("on_dnat", "type nat hook prerouting priority -110;", pre...)
	r.chain("on_snat", "type nat hook postrouting priority 90;", post...)
	return r.full()
}

// seed makes nodes that share clients choose differently.
func (s NLBService) seed() uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %v %d", s.Proto, s.VIP, s.Port)
	return h.Sum32() | 1
}

// slots is the table from hash to target: each target as often as its weight says, at least once, interleaved.
func (s NLBService) slots() []NLBTarget {
	var ts []NLBTarget
	sum, divisor := 0, 0
	for _, t := range s.Targets {
		if t.Weight > 0 {
			ts = append(ts, t)
			sum += t.Weight
			divisor = gcd(divisor, t.Weight)
		}
	}
	if len(ts) == 0 {
		return nil
	}
	slices.SortFunc(ts, func(a, b NLBTarget) int { return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Port, b.Port)) })
	n := min(sum/divisor, maxSlots)
	n = max(n, len(ts))
	var out []NLBTarget
	given := make([]int, len(ts))
	for i := range ts { // everybody once, then whoever is furthest behind
		given[i] = 1
		out = append(out, ts[i])
	}
	for len(out) < n {
		best, lag := 0, 0.0
		for i, t := range ts {
			if l := float64(t.Weight)/float64(sum)*float64(len(out)+1) - float64(given[i]); i == 0 || l > lag {
				best, lag = i, l
			}
		}
		given[best]++
		out = append(out, ts[best])
	}
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// CutFlows ends the flows of an NLB's listener to one target in the VPC namespace at ns, as for a target that has become
// unhealthy or whose deregistration delay is over. What follows on such a flow is answered by another target, with a reset.
func CutFlows(ns, proto string, vip netip.AddrPort, target netip.AddrPort) (int, error) {
	num := map[string]uint8{"tcp": 6, "udp": 17}[proto]
	return deleteFlows(ns, matchFunc(func(c *netlink.ConntrackFlow) bool {
		return c.Forward.Protocol == num && is(c.Forward.DstIP, vip.Addr()) && c.Forward.DstPort == vip.Port() &&
			is(c.Reverse.SrcIP, target.Addr()) && c.Reverse.SrcPort == target.Port()
	}))
}

func is(ip []byte, a netip.Addr) bool {
	b, ok := netip.AddrFromSlice(ip)
	return ok && b.Unmap() == a
}
