package network

import (
	"net/netip"
	"strconv"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Quotas a region, AWS's defaults raised where a test cloud would meet them at once.
const (
	MaxVPCs              = 100
	MaxSubnetsPerVPC     = 200
	MaxRouteTablesPerVPC = 200
	MaxRoutesPerTable    = 50
	MaxGateways          = 100
	MaxAddresses         = 1000
	maxVPCIndex          = 1 << 14
)

// reservedRanges are this-network, loopback, link-local, multicast and beyond, and what carries public addresses between
// a VPC and the host.
var reservedRanges = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("100.64.0.0/10")}

// GetVPC finds a VPC by its id.
func GetVPC(tx store.Tx, s scope.Scope, id string) (VPC, error) {
	if v, ok := VPCs.Get(tx, s.Key(id)); ok {
		return v, nil
	}
	return VPC{}, fault.New(fault.NotFound, "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
}

// DefaultVPC finds the default VPC of a region.
func DefaultVPC(tx store.Tx, s scope.Scope) (VPC, bool) {
	for v := range VPCs.Prefix(tx, s.Prefix()) {
		if v.IsDefault {
			return v, true
		}
	}
	return VPC{}, false
}

// VPCParams are the parameters of CreateVPC.
type VPCParams struct {
	CIDR    string
	Tenancy string
	Default bool
}

// CreateVPC makes a VPC with its main route table, default security group, default network ACL and DHCP options.
func CreateVPC(w *store.WriteTx, s scope.Scope, p VPCParams) (VPC, error) {
	prefix, err := ParseCIDR(p.CIDR, "cidrBlock")
	if err != nil {
		return VPC{}, err
	}
	if prefix.Bits() < 16 || prefix.Bits() > 28 {
		return VPC{}, fault.New(fault.Invalid, "InvalidVpc.Range", "The CIDR '%s' is invalid.", p.CIDR)
	}
	for _, r := range reservedRanges {
		if r.Overlaps(prefix) {
			return VPC{}, fault.New(fault.Invalid, "InvalidVpc.Range", "The CIDR '%s' is invalid: it overlaps with %s, which cannot be a VPC's.", p.CIDR, r)
		}
	}
	switch p.Tenancy {
	case "":
		p.Tenancy = "default"
	case "default", "dedicated":
	default:
		return VPC{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter instanceTenancy is invalid.", p.Tenancy)
	}
	n := 0
	for range VPCs.Prefix(w, s.Prefix()) {
		n++
	}
	if n >= MaxVPCs {
		return VPC{}, fault.New(fault.Limit, "VpcLimitExceeded", "The maximum number of VPCs has been reached.")
	}
	index, err := freeVPCIndex(w)
	if err != nil {
		return VPC{}, err
	}
	v := VPC{Scope: s, ID: w.NewID("vpc"), CIDR: prefix.String(), CIDRAssociationID: w.NewID("vpc-cidr-assoc"), IsDefault: p.Default,
		DhcpOptionsID: defaultDhcpOptions(w, s).ID, MainRouteTableID: w.NewID("rtb"), DefaultGroupID: w.NewID("sg"), DefaultACLID: w.NewID("acl"),
		EnableDNSSupport: true, EnableDNSHostnames: p.Default, InstanceTenancy: p.Tenancy, Index: index, CreatedAt: w.Now()}
	VPCs.Put(w, v)
	RouteTables.Put(w, RouteTable{Scope: s, ID: v.MainRouteTableID, VpcID: v.ID, CreatedAt: w.Now(),
		Routes:       []Route{{DestinationCIDR: v.CIDR, GatewayID: "local", Origin: "CreateRouteTable"}},
		Associations: []RouteTableAssociation{{ID: w.NewID("rtbassoc"), Main: true}}})
	SecurityGroups.Put(w, SecurityGroup{Scope: s, ID: v.DefaultGroupID, VpcID: v.ID, Name: "default", Description: "default VPC security group", CreatedAt: w.Now(),
		Rules: []Rule{
			{ID: w.NewID("sgr"), Protocol: "-1", FromPort: -1, ToPort: -1, GroupID: v.DefaultGroupID, GroupAccount: s.Account},
			{ID: w.NewID("sgr"), Egress: true, Protocol: "-1", FromPort: -1, ToPort: -1, CIDRv4: "0.0.0.0/0"}}})
	NetworkACLs.Put(w, NetworkACL{Scope: s, ID: v.DefaultACLID, VpcID: v.ID, IsDefault: true, Entries: []ACLEntry{
		{Number: 100, Egress: true, Protocol: "-1", Allow: true, CIDR: "0.0.0.0/0"}, {Number: 32767, Egress: true, Protocol: "-1", CIDR: "0.0.0.0/0"},
		{Number: 100, Protocol: "-1", Allow: true, CIDR: "0.0.0.0/0"}, {Number: 32767, Protocol: "-1", CIDR: "0.0.0.0/0"}}})
	return v, nil
}

// freeVPCIndex finds the smallest index that no VPC of the cloud has.
func freeVPCIndex(tx store.Tx) (uint32, error) {
	for i := uint32(1); i < maxVPCIndex; i++ {
		free := true
		for range VPCs.By(tx, "index", strconv.Itoa(int(i))) {
			free = false
			break
		}
		if free {
			return i, nil
		}
	}
	return 0, fault.New(fault.Limit, "VpcLimitExceeded", "The maximum number of VPCs has been reached.")
}

// DeleteVPC deletes a VPC that has only what came with it.
func DeleteVPC(w *store.WriteTx, s scope.Scope, id string) error {
	v, err := GetVPC(w, s, id)
	if err != nil {
		return err
	}
	if vpcHasDependents(w, v) {
		return fault.New(fault.Conflict, "DependencyViolation", "The vpc '%s' has dependencies and cannot be deleted.", id)
	}
	RouteTables.Delete(w, s.Key(v.MainRouteTableID))
	SecurityGroups.Delete(w, s.Key(v.DefaultGroupID))
	NetworkACLs.Delete(w, s.Key(v.DefaultACLID))
	VPCs.Delete(w, s.Key(id))
	for _, gone := range []string{v.MainRouteTableID, v.DefaultGroupID, v.DefaultACLID, id} {
		tag.DeleteAll(w, s, gone)
	}
	return nil
}

func vpcHasDependents(tx store.Tx, v VPC) bool {
	k := v.Key(v.ID)
	for range Subnets.By(tx, "vpc", k) {
		return true
	}
	for range InternetGateways.By(tx, "vpc", k) {
		return true
	}
	for range ENIs.By(tx, "vpc", k) {
		return true
	}
	for t := range RouteTables.By(tx, "vpc", k) {
		if t.ID != v.MainRouteTableID {
			return true
		}
	}
	for g := range SecurityGroups.By(tx, "vpc", k) {
		if g.ID != v.DefaultGroupID {
			return true
		}
	}
	for a := range NetworkACLs.By(tx, "vpc", k) {
		if !a.IsDefault {
			return true
		}
	}
	return false
}

// EnsureDefaultVPC makes the region's default VPC if the region was never used: 172.31.0.0/16, a /20 subnet in each zone,
// an internet gateway with a default route. A default VPC that its owner deleted does not come back by itself.
func EnsureDefaultVPC(w *store.WriteTx, s scope.Scope) error {
	for range DhcpOptionSets.Prefix(w, s.Prefix()) {
		return nil // the region's DHCP options are made with its first VPC and stay
	}
	_, err := CreateDefaultVPC(w, s)
	return err
}

// RegionUsed tells whether EnsureDefaultVPC has nothing to do.
func RegionUsed(tx store.Tx, s scope.Scope) bool {
	for range DhcpOptionSets.Prefix(tx, s.Prefix()) {
		return true
	}
	return false
}

// CreateDefaultVPC makes the default VPC of a region that has none.
func CreateDefaultVPC(w *store.WriteTx, s scope.Scope) (VPC, error) {
	if _, ok := DefaultVPC(w, s); ok {
		return VPC{}, fault.New(fault.Exists, "DefaultVpcAlreadyExists", "A Default VPC already exists for this account in this region.")
	}
	v, err := CreateVPC(w, s, VPCParams{CIDR: "172.31.0.0/16", Default: true})
	if err != nil {
		return VPC{}, err
	}
	for i, z := range Zones(s.Region) {
		sn, err := CreateSubnet(w, s, SubnetParams{VpcID: v.ID, CIDR: "172.31." + strconv.Itoa(i*16) + ".0/20", AvailabilityZone: z.Name})
		if err != nil {
			return VPC{}, err
		}
		sn.DefaultForAZ, sn.MapPublicIPOnLaunch = true, true
		Subnets.Put(w, sn)
	}
	igw, err := CreateInternetGateway(w, s)
	if err != nil {
		return VPC{}, err
	}
	if err := AttachInternetGateway(w, s, igw.ID, v.ID); err != nil {
		return VPC{}, err
	}
	return v, CreateRoute(w, s, v.MainRouteTableID, Route{DestinationCIDR: "0.0.0.0/0", GatewayID: igw.ID})
}

func defaultDhcpOptions(w *store.WriteTx, s scope.Scope) DhcpOptions {
	for d := range DhcpOptionSets.Prefix(w, s.Prefix()) {
		if d.IsDefault {
			return d
		}
	}
	d := DhcpOptions{Scope: s, ID: w.NewID("dopt"), DomainName: PrivateDomain(s.Region), DomainNameServers: []string{"AmazonProvidedDNS"}, IsDefault: true}
	DhcpOptionSets.Put(w, d)
	return d
}

// ParseCIDR reads an IPv4 range and clears its host bits, as EC2 does.
func ParseCIDR(text, param string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter %s is invalid. This is not a valid CIDR block.", text, param)
	}
	return p.Masked(), nil
}
