package fabric

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
)

// VPC is the desired state of one VPC. It is pure data: Apply reads it and keeps nothing of it.
type VPC struct {
	ID         string
	Index      uint32 // unique in the cloud, at most maxIndex; names the gateway's link on the host
	CIDRs      []netip.Prefix
	HasIGW     bool
	Subnets    []Subnet
	Interfaces []Interface
	Groups     []Group
	ZonePorts  map[string]uint16 // zone name → offset of its metadata and DNS listeners' ports
}

// Subnet is a range of a VPC in one zone.
type Subnet struct {
	ID         string
	CIDR       netip.Prefix
	Zone       string
	Gateway    netip.Addr // zero = first address after the network's own
	RouteToIGW bool
}

// Interface is a network interface: of an instance (NetNS), or of a load balancer (Local). One with neither is known to
// the rules; it gets no link, but keeps one that it has.
type Interface struct {
	ID              string // eni-...
	MAC             string // "" = derived from ID
	IP              netip.Addr
	PublicIP        netip.Addr // optional; out of the public pool
	SubnetID        string
	Zone            string
	NetNS           string   // path of the instance's network namespace
	Local           bool     // the address lives in the VPC's own namespace
	GroupIDs        []string // none: a node is open, an instance closed
	SourceDestCheck bool
}

// Group is a security group.
type Group struct {
	ID              string
	Ingress, Egress []Rule
}

// Rule allows what it matches. The other side is a CIDR or the members of a group.
type Rule struct {
	Proto            string // tcp, udp, icmp, -1 (all), or a protocol number
	FromPort, ToPort int    // icmp: type and code, -1 = any
	CIDR             netip.Prefix
	GroupID          string
}

// Ports and addresses that every VPC has.
const (
	IMDSPort uint16 = 18080 // plus the zone's offset: where the zone's metadata service listens, on IMDSAddr
	DNSPort  uint16 = 15353 // plus the zone's offset: its resolver, on DNSAddr and the VPC's base + 2
	APIPort  uint16 = 4566  // on APIAddr
)

// Link-local addresses that every VPC's namespace owns.
var (
	IMDSAddr = netip.MustParseAddr("169.254.169.254")
	DNSAddr  = netip.MustParseAddr("169.254.169.253")
	APIAddr  = netip.MustParseAddr("169.254.169.250")
)

// maxIndex is the largest VPC index whose five base-36 digits fit into a link's name.
const maxIndex = 36*36*36*36*36 - 1

// word is what may become part of a name in a rule set; anything else is refused before it gets near nft.
var word = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkWord(what, s string) error {
	if !word.MatchString(s) {
		return fmt.Errorf("%s %q: letters, digits, dot, dash and underscore only", what, s)
	}
	return nil
}

// check refuses a state that could not work, before anything is changed.
func (v *VPC) check(p pool) error {
	if err := checkWord("vpc id", v.ID); err != nil {
		return err
	}
	if v.Index > maxIndex {
		return fmt.Errorf("vpc %s: index %d is above %d", v.ID, v.Index, maxIndex)
	}
	if len(v.CIDRs) == 0 {
		return fmt.Errorf("vpc %s: no address range", v.ID)
	}
	for _, c := range v.CIDRs {
		if !c.IsValid() || !c.Addr().Is4() {
			return fmt.Errorf("vpc %s: %v is no IPv4 range", v.ID, c)
		}
		if c.Overlaps(p.transit) || c.Overlaps(p.public) {
			return fmt.Errorf("vpc %s: range %v overlaps the public pool's %v or its transit addresses %v", v.ID, c, p.public, p.transit)
		}
	}
	for zone := range v.ZonePorts {
		if err := checkWord("zone", zone); err != nil {
			return err
		}
	}
	subnets := map[string]bool{}
	for _, s := range v.Subnets {
		if !s.CIDR.IsValid() || !s.CIDR.Addr().Is4() {
			return fmt.Errorf("subnet %s: %v is no IPv4 range", s.ID, s.CIDR)
		}
		subnets[s.ID] = true
	}
	for _, g := range v.Groups {
		if err := checkWord("group id", g.ID); err != nil {
			return err
		}
		for _, r := range append(slices.Clone(g.Ingress), g.Egress...) {
			if err := r.check(); err != nil {
				return fmt.Errorf("group %s: %w", g.ID, err)
			}
		}
	}
	seen, ids, publics, links := map[netip.Addr]string{}, map[string]bool{}, map[netip.Addr]string{}, map[string]string{}
	for _, i := range v.Interfaces {
		if err := checkWord("interface id", i.ID); err != nil {
			return err
		}
		switch {
		case ids[i.ID]:
			return fmt.Errorf("interface %s is listed twice", i.ID)
		case !i.IP.Is4():
			return fmt.Errorf("interface %s: address %v is no IPv4 address", i.ID, i.IP)
		case seen[i.IP] != "":
			return fmt.Errorf("interfaces %s and %s have the same address %v", seen[i.IP], i.ID, i.IP)
		case !subnets[i.SubnetID]:
			return fmt.Errorf("interface %s: no subnet %q in the VPC", i.ID, i.SubnetID)
		case i.Local && i.NetNS != "":
			return fmt.Errorf("interface %s: Local and a namespace exclude each other", i.ID)
		case !i.Local && links[linkName(i.ID)] != "":
			return fmt.Errorf("interfaces %s and %s: the ids end alike, their links would have the same name", links[linkName(i.ID)], i.ID)
		}
		if !i.Local {
			links[linkName(i.ID)] = i.ID
		}
		for _, g := range i.GroupIDs {
			if err := checkWord("group id", g); err != nil {
				return err
			}
		}
		ids[i.ID], seen[i.IP] = true, i.ID
		if i.PublicIP.IsValid() {
			if !p.public.Contains(i.PublicIP) {
				return fmt.Errorf("interface %s: public address %v is not of the pool %v", i.ID, i.PublicIP, p.public)
			}
			if other := publics[i.PublicIP]; other != "" {
				return fmt.Errorf("interfaces %s and %s have the same public address %v", other, i.ID, i.PublicIP)
			}
			publics[i.PublicIP] = i.ID
		}
		if i.MAC != "" {
			if _, err := net.ParseMAC(i.MAC); err != nil {
				return fmt.Errorf("interface %s: %w", i.ID, err)
			}
		}
	}
	return nil
}

// check refuses a rule that names nothing.
func (rule Rule) check() error {
	switch rule.Proto {
	case "", "-1", "all", "tcp", "udp", "icmp", "icmpv6":
	default:
		if _, err := strconv.ParseUint(rule.Proto, 10, 8); err != nil {
			return fmt.Errorf("rule: no protocol %q", rule.Proto)
		}
	}
	if rule.GroupID != "" {
		return checkWord("group id", rule.GroupID)
	}
	if !rule.CIDR.IsValid() {
		return fmt.Errorf("rule: neither a range nor a group")
	}
	return nil
}

// subnet returns the subnet of an interface; check has made sure that there is one.
func (v *VPC) subnet(id string) Subnet {
	for _, s := range v.Subnets {
		if s.ID == id {
			if !s.Gateway.IsValid() {
				s.Gateway = offset(s.CIDR, 1)
			}
			return s
		}
	}
	return Subnet{}
}

// public returns the public address that works for i: its own, if its subnet routes to an internet gateway.
func (v *VPC) public(i Interface) (netip.Addr, bool) {
	if !i.PublicIP.IsValid() || !v.HasIGW || !v.subnet(i.SubnetID).RouteToIGW {
		return netip.Addr{}, false
	}
	return i.PublicIP, true
}

// resolver is the VPC's own DNS address, base + 2 of the first range.
func (v *VPC) resolver() netip.Addr { return offset(v.CIDRs[0], 2) }

// offset returns the n-th address of a range.
func offset(p netip.Prefix, n uint32) netip.Addr {
	return fromU32(toU32(p.Masked().Addr()) + n)
}

func toU32(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }
func fromU32(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
