package fabric

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"
	"time"
)

// NLBService is one listener of a network load balancer's node: packets to VIP:Port go to one of the targets, the same
// for all of a flow. Without targets the node itself answers, which means a reset (TCP) or port unreachable (UDP).
type NLBService struct {
	VIP              netip.Addr // the node's private address
	Port             uint16
	Proto            string // tcp, udp
	Targets          []NLBTarget
	PreserveClientIP bool          // else targets see the node's address
	StickySourceIP   bool          // the client's address alone decides
	Idle             time.Duration // after which a flow is forgotten, whole seconds; 0 = NLBIdleTCP or NLBIdleUDP
	Process          bool          // a process listens there and uses DialAs; the kernel leaves its packets alone
}

// NLBTarget is where an NLB sends to. Weights are relative; 0 gets no new flows, but may have some from before.
type NLBTarget struct {
	IP     netip.Addr
	Port   uint16
	Weight int
}

// NLBKey names a service.
type NLBKey struct {
	VIP   netip.Addr
	Port  uint16
	Proto string
}

// Key returns the service's name.
func (s NLBService) Key() NLBKey { return NLBKey{s.VIP, s.Port, s.Proto} }

// Idle times of flows, and how long a target may take to answer a new one.
const (
	NLBIdleTCP   = 350 * time.Second
	NLBIdleUDP   = 120 * time.Second
	nlbAnswer    = 30 * time.Second
	nlbClosing   = 10 * time.Second // what is over must not fill the table
	nlbHalfClose = 120 * time.Second
)

// Bounds of the table from hash to target of one service. Sticky services have a table of one size, so that a target
// which comes or goes moves its own share of the clients and nobody else's.
const (
	maxSlots    = 1024
	stickySlots = 1021
)

// ApplyNLB makes the services of one zone's load-balancer nodes in the VPC namespace at ns equal to services, in one
// transaction: no packet sees half of it, and nothing of other zones is touched. Established flows keep their target, also
// one that is no longer listed (see CutFlows). Idempotent; equal services again cost no transaction.
func ApplyNLB(ctx context.Context, ns, zone string, services []NLBService) error {
	if err := checkNLB(zone, services); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := applyNLB(ns, zone, services); err != nil {
		return fmt.Errorf("nlb of zone %s: %w", zone, err)
	}
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
	seen := map[NLBKey]bool{}
	for _, s := range services {
		if !s.VIP.Is4() || s.Port == 0 || s.Proto != "tcp" && s.Proto != "udp" {
			return fmt.Errorf("nlb service %s %v:%d: an IPv4 address, a port, and tcp or udp are needed", s.Proto, s.VIP, s.Port)
		}
		if seen[s.Key()] {
			return fmt.Errorf("nlb service %s %v:%d is listed twice", s.Proto, s.VIP, s.Port)
		}
		seen[s.Key()] = true
		if len(s.Targets) > maxSlots {
			return fmt.Errorf("nlb service %s %v:%d: more than %d targets", s.Proto, s.VIP, s.Port, maxSlots)
		}
		if s.Idle < 0 || s.Idle%time.Second != 0 || s.Idle > math.MaxInt32*time.Second/1000 {
			return fmt.Errorf("nlb service %s %v:%d: idle time %v", s.Proto, s.VIP, s.Port, s.Idle)
		}
		for _, t := range s.Targets {
			if !t.IP.Is4() || t.Port == 0 || t.Weight < 0 {
				return fmt.Errorf("nlb service %s %v:%d: bad target %v:%d weight %d", s.Proto, s.VIP, s.Port, t.IP, t.Port, t.Weight)
			}
		}
	}
	return nil
}

// idle is the service's idle time in seconds.
func (s NLBService) idle() uint32 {
	d := NLBIdleTCP
	if s.Proto == "udp" {
		d = NLBIdleUDP
	}
	return uint32(cmp.Or(s.Idle, d) / time.Second)
}

// seed makes nodes that share clients choose differently.
func (s NLBService) seed() uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %v %d", s.Proto, s.VIP, s.Port)
	return h.Sum32() | 1
}

// slots is the table from hash to target. Pure; the order of the targets means nothing.
func (s NLBService) slots() []NLBTarget {
	var ts []NLBTarget
	for _, t := range s.Targets {
		if t.Weight > 0 {
			ts = append(ts, t)
		}
	}
	slices.SortFunc(ts, func(a, b NLBTarget) int { return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Port, b.Port)) })
	switch {
	case len(ts) < 2:
		return ts
	case s.StickySourceIP:
		return rendezvous(ts)
	}
	return interleave(ts)
}

// interleave gives each target as many slots as its weight says, at least one.
func interleave(ts []NLBTarget) []NLBTarget {
	sum, divisor := 0, 0
	for _, t := range ts {
		sum += t.Weight
		divisor = gcd(divisor, t.Weight)
	}
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

// rendezvous gives each slot to the target that scores highest there (weighted rendezvous hashing): a target's score in a
// slot depends on nothing but itself.
func rendezvous(ts []NLBTarget) []NLBTarget {
	seeds := make([]uint64, len(ts))
	for i, t := range ts {
		h := fnv.New64a()
		h.Write(t.IP.AsSlice())
		h.Write(binary.BigEndian.AppendUint16(nil, t.Port))
		seeds[i] = h.Sum64()
	}
	out := make([]NLBTarget, stickySlots)
	for slot := range out {
		best := math.Inf(-1)
		for i, t := range ts {
			h := mix(seeds[i] ^ mix(uint64(slot)+1))
			u := (float64(h>>11) + 0.5) / (1 << 53)
			if score := -float64(t.Weight) / math.Log(u); score > best {
				best, out[slot] = score, t
			}
		}
	}
	return out
}

// mix is a bijection that spreads its bits (the finaliser of splitmix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
