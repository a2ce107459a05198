package network

import (
	"encoding/binary"
	"net/netip"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// firstPublic is the offset of the first address that is given out: the range's own address and the one after it, which
// is the DNS server's, are not.
const firstPublic = 2

// SetPublicPool sets the range of public addresses. A range that leaves out an address in use is refused.
func SetPublicPool(w *store.WriteTx, prefix netip.Prefix) error {
	prefix = prefix.Masked()
	if !prefix.IsValid() || !prefix.Addr().Is4() || prefix.Bits() > 29 {
		return fault.New(fault.Invalid, "InvalidParameterValue", "The public pool %s is not an IPv4 range of /29 or more addresses.", prefix)
	}
	if p, ok := PublicPool.Get(w, "pool"); ok && p.Prefix == prefix.String() {
		return nil
	}
	for a := range PublicAddresses.All(w) {
		if ip, err := netip.ParseAddr(a.IP); err != nil || !prefix.Contains(ip) {
			return fault.New(fault.State, "IncorrectState", "The public address %s of %s is in use and outside of the new pool %s.", a.IP, a.HolderID, prefix)
		}
	}
	PublicPool.Put(w, Pool{Prefix: prefix.String(), Next: firstPublic})
	return nil
}

// DNSAddress returns the pool's first address, where the cloud's DNS server listens on the host.
func DNSAddress(tx store.Tx) (netip.Addr, bool) {
	p, ok := PublicPool.Get(tx, "pool")
	if !ok {
		return netip.Addr{}, false
	}
	return nth(netip.MustParsePrefix(p.Prefix), 1), true
}

// takePublic gives the next free public address to the holder. Addresses rotate, so that one that was just given back
// rests as long as possible: clients and connection tables still know its former owner.
func takePublic(w *store.WriteTx, s scope.Scope, holder string) (string, error) {
	p, ok := PublicPool.Get(w, "pool")
	if !ok {
		return "", fault.New(fault.Capacity, "InsufficientAddressCapacity", "Not enough public addresses are available.")
	}
	prefix := netip.MustParsePrefix(p.Prefix)
	last := size(prefix) - 2 // without the broadcast address
	for tried := uint32(0); tried < last-firstPublic+1; tried++ {
		at := p.Next
		if at < firstPublic || at > last {
			at = firstPublic
		}
		p.Next = at + 1
		ip := nth(prefix, at).String()
		if _, used := PublicAddresses.Get(w, ip); !used {
			PublicPool.Put(w, p)
			PublicAddresses.Put(w, PublicAddress{Scope: s, IP: ip, HolderID: holder})
			return ip, nil
		}
	}
	return "", fault.New(fault.Capacity, "InsufficientAddressCapacity", "Not enough public addresses are available.")
}

func givePublic(w *store.WriteTx, ip string) { PublicAddresses.Delete(w, ip) }

// nth returns the address at an offset of an IPv4 range.
func nth(p netip.Prefix, n uint32) netip.Addr {
	b := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}

// size is the number of addresses of an IPv4 range, at most 2^31 here.
func size(p netip.Prefix) uint32 { return uint32(1) << min(31, 32-p.Bits()) }
