package tunnel

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
)

// choose returns the group of a new flow by the weights: by the flow's addresses, or by the client's alone where a group is
// sticky. Groups without a target have no share; nil if none has one.
func (t *table) choose(client, local netip.AddrPort) *group {
	if len(t.groups) < 2 {
		for _, w := range t.groups {
			return w.g
		}
		return nil
	}
	h := fnv.New64a()
	h.Write([]byte(t.arn)) // not as the group's target is picked
	ip := client.Addr().As16()
	h.Write(ip[:])
	if !slices.ContainsFunc(t.groups, func(w weighted) bool { return w.g.sticky }) {
		h.Write(binary.BigEndian.AppendUint16(nil, client.Port()))
		ip = local.Addr().As16()
		h.Write(ip[:])
	}
	n := int(mix(h.Sum64()) % uint64(t.total))
	for _, w := range t.groups {
		if n -= w.weight; n < 0 {
			return w.g
		}
	}
	return nil
}

// pick returns the target of a new flow, nil if there is none: by the flow's addresses, or by the client's alone where the group is
// sticky. Then a change of the targets moves only the clients of those that changed.
func (g *group) pick(client, local netip.AddrPort) *target {
	if len(g.targets) == 0 {
		return nil
	}
	if !g.sticky {
		h := fnv.New64a()
		for _, a := range []netip.AddrPort{client, local} {
			ip := a.Addr().As16()
			h.Write(ip[:])
			h.Write(binary.BigEndian.AppendUint16(nil, a.Port()))
		}
		return g.targets[mix(h.Sum64())%uint64(len(g.targets))]
	}
	var best *target
	var most uint64
	ip := client.Addr().As16()
	for _, t := range g.targets {
		h := fnv.New64a()
		h.Write(ip[:])
		h.Write([]byte(t.key))
		if v := mix(h.Sum64()); best == nil || v > most {
			best, most = t, v
		}
	}
	return best
}

// mix spreads what differs in few bits.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
