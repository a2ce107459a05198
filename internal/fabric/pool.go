package fabric

import (
	"fmt"
	"net/netip"
)

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	cgnat    = netip.MustParsePrefix("100.64.0.0/10") // where transit addresses come from
)

// pool is the arithmetic of public addresses. A public address out of 127.0.0.0/8 cannot be routed, so it travels between
// host and VPC as a transit address: 100.64.0.0/10 with the same low 22 bits. Any other address is its own.
type pool struct {
	public  netip.Prefix
	transit netip.Prefix // what public addresses become
	gateway netip.Addr   // the host's end of every internet gateway; loopback clients appear as it
	vpc     netip.Addr   // the VPC's end; exists only as a next hop
}

func newPool(p netip.Prefix) (pool, error) {
	if !p.IsValid() || !p.Addr().Is4() {
		return pool{}, fmt.Errorf("public pool %v: no IPv4 range", p)
	}
	p = p.Masked()
	if p.Bits() < 10 || p.Bits() > 30 {
		return pool{}, fmt.Errorf("public pool %v: must be between /10 and /30", p)
	}
	if p.Addr() == loopback.Addr() || p.Contains(netip.MustParseAddr("127.0.0.1")) {
		return pool{}, fmt.Errorf("public pool %v: must not hold 127.0.0.1", p)
	}
	low := fromU32(toU32(cgnat.Addr()) | toU32(p.Addr())&^toU32Mask(10))
	t := pool{public: p, transit: netip.PrefixFrom(low, p.Bits()), gateway: low, vpc: low.Next()}
	if !loopback.Contains(p.Addr()) {
		t.transit = p
	}
	return t, nil
}

func toU32Mask(bits int) uint32 { return ^uint32(0) << (32 - bits) }

// translated reports whether public addresses differ from their transit addresses.
func (p pool) translated() bool { return p.public != p.transit }

// toTransit returns the transit address of a public one.
func (p pool) toTransit(a netip.Addr) netip.Addr {
	return fromU32(toU32(p.transit.Addr()) | toU32(a)&^toU32Mask(p.public.Bits()))
}

// toPublic undoes toTransit.
func (p pool) toPublic(a netip.Addr) netip.Addr {
	return fromU32(toU32(p.public.Addr()) | toU32(a)&^toU32Mask(p.public.Bits()))
}
