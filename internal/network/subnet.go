package network

import (
	"net/netip"
	"slices"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// reservedPerSubnet is AWS's count: network address, router, DNS, future use, broadcast.
const reservedPerSubnet = 5

// GetSubnet finds a subnet by its id.
func GetSubnet(tx store.Tx, s scope.Scope, id string) (Subnet, error) {
	if v, ok := Subnets.Get(tx, s.Key(id)); ok {
		return v, nil
	}
	return Subnet{}, fault.New(fault.NotFound, "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
}

// Prefix is the subnet's range.
func (s Subnet) Prefix() netip.Prefix { return netip.MustParsePrefix(s.CIDR) }

// Gateway is the router's address in the subnet.
func (s Subnet) Gateway() netip.Addr { return nth(s.Prefix(), 1) }

// Available is the number of addresses that may still be taken.
func (s Subnet) Available() int { return int(size(s.Prefix())) - reservedPerSubnet - s.InUse }

// SubnetParams are the parameters of CreateSubnet; without a zone the first one is taken.
type SubnetParams struct {
	VpcID            string
	CIDR             string
	AvailabilityZone string
}

// CreateSubnet makes a subnet with the VPC's default network ACL.
func CreateSubnet(w *store.WriteTx, s scope.Scope, p SubnetParams) (Subnet, error) {
	v, err := GetVPC(w, s, p.VpcID)
	if err != nil {
		return Subnet{}, err
	}
	prefix, err := ParseCIDR(p.CIDR, "cidrBlock")
	if err != nil {
		return Subnet{}, err
	}
	vp := netip.MustParsePrefix(v.CIDR)
	if prefix.Bits() < 16 || prefix.Bits() > 28 || !vp.Contains(prefix.Addr()) || prefix.Bits() < vp.Bits() {
		return Subnet{}, fault.New(fault.Invalid, "InvalidSubnet.Range", "The CIDR '%s' is invalid.", p.CIDR)
	}
	zone := p.AvailabilityZone
	if zone == "" {
		zone = Zones(s.Region)[0].Name
	}
	if _, ok := ZoneByName(s.Region, zone); !ok {
		return Subnet{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: %s.", zone, zoneList(s.Region))
	}
	n := 0
	for o := range Subnets.By(w, "vpc", s.Key(v.ID)) {
		if o.Prefix().Overlaps(prefix) {
			return Subnet{}, fault.New(fault.Conflict, "InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", p.CIDR)
		}
		n++
	}
	if n >= MaxSubnetsPerVPC {
		return Subnet{}, fault.New(fault.Limit, "SubnetLimitExceeded", "The maximum number of subnets has been reached.")
	}
	sn := Subnet{Scope: s, ID: w.NewID("subnet"), VpcID: v.ID, CIDR: prefix.String(), AvailabilityZone: zone, HostnameType: "ip-name",
		NetworkACLID: v.DefaultACLID, ACLAssociationID: w.NewID("aclassoc"), Next: 4, CreatedAt: w.Now()}
	Subnets.Put(w, sn)
	return sn, nil
}

// DeleteSubnet deletes a subnet without interfaces; its route table association goes with it.
func DeleteSubnet(w *store.WriteTx, s scope.Scope, id string) error {
	if _, err := GetSubnet(w, s, id); err != nil {
		return err
	}
	for range ENIs.By(w, "subnet", s.Key(id)) {
		return fault.New(fault.Conflict, "DependencyViolation", "The subnet '%s' has dependencies and cannot be deleted.", id)
	}
	for t := range RouteTables.By(w, "subnet", s.Key(id)) {
		var keep []RouteTableAssociation
		for _, a := range t.Associations {
			if a.SubnetID != id {
				keep = append(keep, a)
			}
		}
		t.Associations = keep
		RouteTables.Put(w, t)
	}
	Subnets.Delete(w, s.Key(id))
	tag.DeleteAll(w, s, id)
	return nil
}

// takePrivate finds or checks an address in the subnet and counts it as used. The caller puts the interface.
func takePrivate(w *store.WriteTx, sn Subnet, wanted string) (Subnet, string, error) {
	prefix := sn.Prefix()
	used := func(ip string) bool {
		for range ENIs.By(w, "ip", sn.Key(sn.ID)+"/"+ip) {
			return true
		}
		return false
	}
	last := size(prefix) - 2
	if wanted != "" {
		a, err := netip.ParseAddr(wanted)
		if err != nil || !a.Is4() {
			return sn, "", fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter address is invalid. Invalid IPv4 address.", wanted)
		}
		if !prefix.Contains(a) {
			return sn, "", fault.New(fault.Invalid, "InvalidParameterValue", "Address %s does not fall within the subnet's address range", wanted)
		}
		for n := uint32(0); n < 4; n++ {
			if nth(prefix, n) == a {
				return sn, "", fault.New(fault.Invalid, "InvalidParameterValue", "Address %s is in subnet's reserved address range", wanted)
			}
		}
		if nth(prefix, last+1) == a {
			return sn, "", fault.New(fault.Invalid, "InvalidParameterValue", "Address %s is in subnet's reserved address range", wanted)
		}
		if used(a.String()) {
			return sn, "", fault.New(fault.Conflict, "InvalidIPAddress.InUse", "Address %s is in use.", wanted)
		}
		sn.InUse++
		return sn, a.String(), nil
	}
	if sn.Available() > 0 {
		for tried := uint32(0); tried <= last-4; tried++ {
			at := sn.Next
			if at < 4 || at > last {
				at = 4
			}
			sn.Next = at + 1
			if ip := nth(prefix, at).String(); !used(ip) {
				sn.InUse++
				return sn, ip, nil
			}
		}
	}
	return sn, "", fault.New(fault.Capacity, "InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
}

// CreateDefaultSubnet makes the default subnet of a zone that has none, in the default VPC's first free /20.
func CreateDefaultSubnet(w *store.WriteTx, s scope.Scope, zone string) (Subnet, error) {
	v, ok := DefaultVPC(w, s)
	if !ok {
		return Subnet{}, fault.New(fault.NotFound, "DefaultVpcDoesNotExist", "No default VPC exists for this account in this region.")
	}
	var taken []netip.Prefix
	for o := range Subnets.By(w, "vpc", s.Key(v.ID)) {
		if o.DefaultForAZ && o.AvailabilityZone == zone {
			return Subnet{}, fault.New(fault.Exists, "DefaultSubnetAlreadyExistsInAvailabilityZone", "A default subnet already exists in the availability zone %s.", zone)
		}
		taken = append(taken, o.Prefix())
	}
	vp := netip.MustParsePrefix(v.CIDR)
	for at := uint32(0); at < size(vp); at += 1 << 12 {
		p := netip.PrefixFrom(nth(vp, at), 20)
		if slices.ContainsFunc(taken, p.Overlaps) {
			continue
		}
		sn, err := CreateSubnet(w, s, SubnetParams{VpcID: v.ID, CIDR: p.String(), AvailabilityZone: zone})
		if err != nil {
			return Subnet{}, err
		}
		sn.DefaultForAZ, sn.MapPublicIPOnLaunch = true, true
		Subnets.Put(w, sn)
		return sn, nil
	}
	return Subnet{}, fault.New(fault.Limit, "CidrLimitExceeded", "The default VPC %s has no room for another default subnet.", v.ID)
}
