package ec2api

import (
	"strconv"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/store"
)

func (s *Server) registerNetwork(m *api.Mux) {
	on(m, ec2.CreateVpc, s.createVpc)
	on(m, ec2.DeleteVpc, s.deleteVpc)
	on(m, ec2.DescribeVpcs, s.describeVpcs)
	on(m, ec2.DescribeVpcAttribute, s.describeVpcAttribute)
	on(m, ec2.ModifyVpcAttribute, s.modifyVpcAttribute)
	on(m, ec2.CreateDefaultVpc, s.createDefaultVpc)
	on(m, ec2.CreateDefaultSubnet, s.createDefaultSubnet)
	on(m, ec2.CreateSubnet, s.createSubnet)
	on(m, ec2.DeleteSubnet, s.deleteSubnet)
	on(m, ec2.DescribeSubnets, s.describeSubnets)
	on(m, ec2.ModifySubnetAttribute, s.modifySubnetAttribute)
	s.registerRoutes(m)
	s.registerAddresses(m)
	s.registerInterfaces(m)
	s.registerACLs(m)
	s.registerDhcp(m)
}

type vpc = ec2.Vpc

var vpcListing = listing[network.VPC, vpc]{
	table: network.VPCs, ids: vpcIDs, id: func(v network.VPC) string { return v.ID }, convert: describeVpc,
	kind: describe.Kind[vpc]{IDs: "vpcSet", Min: 5, Max: 1000, Tags: eachTag(func(v *vpc) []ec2.Tag { return v.Tags }), Filters: attrs[vpc]{
		"cidr": field(func(v *vpc) *string { return v.CidrBlock }), "cidrBlock": field(func(v *vpc) *string { return v.CidrBlock }),
		"cidr-block-association.cidr-block":     field(func(v *vpc) *string { return v.CidrBlock }),
		"cidr-block-association.association-id": field(func(v *vpc) *string { return v.CidrBlockAssociationSet[0].AssociationId }),
		"cidr-block-association.state":          fixed[vpc]("associated"),
		"dhcp-options-id":                       field(func(v *vpc) *string { return v.DhcpOptionsId }),
		"is-default":                            func(v *vpc) []string { return bools(v.IsDefault) }, "isDefault": func(v *vpc) []string { return bools(v.IsDefault) },
		"owner-id": field(func(v *vpc) *string { return v.OwnerId }), "state": field(func(v *vpc) *string { return v.State }), "vpc-id": field(func(v *vpc) *string { return v.VpcId }),
		"ipv6-cidr-block-association.ipv6-cidr-block": none[vpc](), "ipv6-cidr-block-association.ipv6-pool": none[vpc](),
		"ipv6-cidr-block-association.association-id": none[vpc](), "ipv6-cidr-block-association.state": none[vpc](),
	}},
}

func describeVpc(tx store.Tx, v network.VPC) ec2.Vpc {
	return ec2.Vpc{VpcId: ptr(v.ID), CidrBlock: ptr(v.CIDR), State: ptr("available"), IsDefault: ptr(v.IsDefault), DhcpOptionsId: ptr(v.DhcpOptionsID), InstanceTenancy: ptr(v.InstanceTenancy), OwnerId: ptr(v.Account),
		CidrBlockAssociationSet: []ec2.VpcCidrBlockAssociation{{AssociationId: ptr(v.CIDRAssociationID), CidrBlock: ptr(v.CIDR), CidrBlockState: &ec2.VpcCidrBlockState{State: ptr("associated")}}},
		Tags:                    tagsOf(tx, v.Scope, v.ID)}
}

func (s *Server) createVpc(c *api.Call, in *ec2.CreateVpcRequest) (*ec2.CreateVpcResult, error) {
	if err := unsupported("AmazonProvidedIpv6CidrBlock", api.Val(in.AmazonProvidedIpv6CidrBlock), "Ipv4IpamPoolId", in.Ipv4IpamPoolId != nil, "Ipv6CidrBlock", in.Ipv6CidrBlock != nil,
		"Ipv6Pool", in.Ipv6Pool != nil, "Ipv6IpamPoolId", in.Ipv6IpamPoolId != nil, "VpcEncryptionControl", in.VpcEncryptionControl != nil,
		"Ipv4NetmaskLength", in.Ipv4NetmaskLength != nil, "Ipv6NetmaskLength", in.Ipv6NetmaskLength != nil, "Ipv6CidrBlockNetworkBorderGroup", in.Ipv6CidrBlockNetworkBorderGroup != nil); err != nil {
		return nil, err
	}
	cidr, err := need("cidrBlock", in.CidrBlock)
	if err != nil {
		return nil, err
	}
	var out ec2.Vpc
	err = c.Update(func(w *store.WriteTx) error {
		v, err := network.CreateVPC(w, c.Scope(), network.VPCParams{CIDR: cidr, Tenancy: api.Val(in.InstanceTenancy)})
		if err != nil {
			return err
		}
		if err := tagged(w, c.Scope(), v.ID, "vpc", in.TagSpecifications); err != nil {
			return err
		}
		out = describeVpc(w, v)
		return nil
	})
	out.State = ptr("pending") // as AWS answers; it is available by the next call
	return &ec2.CreateVpcResult{Vpc: &out}, err
}

func (s *Server) deleteVpc(c *api.Call, in *ec2.DeleteVpcRequest) (*ec2.DeleteVpcOutput, error) {
	id, err := vpcIDs.need("vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DeleteVPC(w, c.Scope(), id) })
}

func (s *Server) describeVpcs(c *api.Call, in *ec2.DescribeVpcsRequest) (*ec2.DescribeVpcsResult, error) {
	out, next, err := vpcListing.describe(c, in.VpcIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeVpcsResult{Vpcs: out, NextToken: next}, err
}

func boolean(b bool) *ec2.AttributeBooleanValue { return &ec2.AttributeBooleanValue{Value: ptr(b)} }

func (s *Server) describeVpcAttribute(c *api.Call, in *ec2.DescribeVpcAttributeRequest) (*ec2.DescribeVpcAttributeResult, error) {
	id, err := vpcIDs.need("vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	name, err := need("attribute", in.Attribute)
	if err != nil {
		return nil, err
	}
	v, err := network.GetVPC(c.DB.Read(), c.Scope(), id)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeVpcAttributeResult{VpcId: ptr(id)}
	switch name {
	case "enableDnsSupport":
		out.EnableDnsSupport = boolean(v.EnableDNSSupport)
	case "enableDnsHostnames":
		out.EnableDnsHostnames = boolean(v.EnableDNSHostnames)
	case "enableNetworkAddressUsageMetrics":
		out.EnableNetworkAddressUsageMetrics = boolean(v.EnableNetworkAddressUsageMetrics)
	default:
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", name)
	}
	return out, nil
}

func (s *Server) modifyVpcAttribute(c *api.Call, in *ec2.ModifyVpcAttributeRequest) (*ec2.ModifyVpcAttributeOutput, error) {
	id, err := vpcIDs.need("vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, a := range []*ec2.AttributeBooleanValue{in.EnableDnsSupport, in.EnableDnsHostnames, in.EnableNetworkAddressUsageMetrics} {
		if a != nil {
			n++
		}
	}
	if n != 1 {
		return nil, fault.New(fault.Invalid, "InvalidParameterCombination", "Exactly one attribute must be specified.")
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		v, err := network.GetVPC(w, c.Scope(), id)
		if err != nil {
			return err
		}
		set := func(dst *bool, a *ec2.AttributeBooleanValue) {
			if a != nil {
				*dst = api.Val(a.Value)
			}
		}
		set(&v.EnableDNSSupport, in.EnableDnsSupport)
		set(&v.EnableDNSHostnames, in.EnableDnsHostnames)
		set(&v.EnableNetworkAddressUsageMetrics, in.EnableNetworkAddressUsageMetrics)
		network.VPCs.Put(w, v)
		return nil
	})
}

func (s *Server) createDefaultVpc(c *api.Call, _ *ec2.CreateDefaultVpcRequest) (*ec2.CreateDefaultVpcResult, error) {
	var out ec2.Vpc
	err := c.Update(func(w *store.WriteTx) error {
		v, err := network.CreateDefaultVPC(w, c.Scope())
		out = describeVpc(w, v)
		return err
	})
	return &ec2.CreateDefaultVpcResult{Vpc: &out}, err
}

type subnet = ec2.Subnet

var subnetListing = listing[network.Subnet, subnet]{
	table: network.Subnets, ids: subnetIDs, id: func(v network.Subnet) string { return v.ID }, convert: describeSubnet,
	kind: describe.Kind[subnet]{IDs: "subnetSet", Min: 5, Max: 1000, Tags: eachTag(func(v *subnet) []ec2.Tag { return v.Tags }), Filters: attrs[subnet]{
		"availability-zone": field(func(v *subnet) *string { return v.AvailabilityZone }), "availabilityZone": field(func(v *subnet) *string { return v.AvailabilityZone }),
		"availability-zone-id": field(func(v *subnet) *string { return v.AvailabilityZoneId }), "availabilityZoneId": field(func(v *subnet) *string { return v.AvailabilityZoneId }),
		"available-ip-address-count": func(v *subnet) []string { return []string{strconv.Itoa(int(api.Val(v.AvailableIpAddressCount)))} },
		"cidr-block":                 field(func(v *subnet) *string { return v.CidrBlock }), "cidr": field(func(v *subnet) *string { return v.CidrBlock }), "cidrBlock": field(func(v *subnet) *string { return v.CidrBlock }),
		"default-for-az": func(v *subnet) []string { return bools(v.DefaultForAz) }, "defaultForAz": func(v *subnet) []string { return bools(v.DefaultForAz) },
		"enable-dns64": fixed[subnet]("false"), "ipv6-native": fixed[subnet]("false"), "map-customer-owned-ip-on-launch": fixed[subnet]("false"),
		"map-public-ip-on-launch": func(v *subnet) []string { return bools(v.MapPublicIpOnLaunch) },
		"owner-id":                field(func(v *subnet) *string { return v.OwnerId }), "state": field(func(v *subnet) *string { return v.State }), "subnet-arn": field(func(v *subnet) *string { return v.SubnetArn }),
		"subnet-id": field(func(v *subnet) *string { return v.SubnetId }), "vpc-id": field(func(v *subnet) *string { return v.VpcId }),
		"private-dns-name-options-on-launch.hostname-type":                        field(func(v *subnet) *string { return v.PrivateDnsNameOptionsOnLaunch.HostnameType }),
		"private-dns-name-options-on-launch.enable-resource-name-dns-a-record":    func(v *subnet) []string { return bools(v.PrivateDnsNameOptionsOnLaunch.EnableResourceNameDnsARecord) },
		"private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": fixed[subnet]("false"),
		"ipv6-cidr-block-association.ipv6-cidr-block":                             none[subnet](), "ipv6-cidr-block-association.association-id": none[subnet](), "ipv6-cidr-block-association.state": none[subnet](),
		"outpost-arn": none[subnet](), "customer-owned-ipv4-pool": none[subnet](), "enable-lni-at-device-index": none[subnet](),
	}},
}

func describeSubnet(tx store.Tx, v network.Subnet) ec2.Subnet {
	return ec2.Subnet{SubnetId: ptr(v.ID), SubnetArn: ptr(v.ARN("ec2", "subnet/"+v.ID)), VpcId: ptr(v.VpcID), CidrBlock: ptr(v.CIDR), State: ptr("available"), OwnerId: ptr(v.Account),
		AvailabilityZone: ptr(v.AvailabilityZone), AvailabilityZoneId: str(network.ZoneID(v.Region, v.AvailabilityZone)), AvailableIpAddressCount: num(v.Available()), DefaultForAz: ptr(v.DefaultForAZ),
		MapPublicIpOnLaunch: ptr(v.MapPublicIPOnLaunch), AssignIpv6AddressOnCreation: ptr(false), EnableDns64: ptr(false), Ipv6Native: ptr(false), MapCustomerOwnedIpOnLaunch: ptr(false),
		PrivateDnsNameOptionsOnLaunch: &ec2.PrivateDnsNameOptionsOnLaunch{HostnameType: ptr(v.HostnameType), EnableResourceNameDnsARecord: ptr(v.ResourceNameDNSA), EnableResourceNameDnsAAAARecord: ptr(false)},
		Tags:                          tagsOf(tx, v.Scope, v.ID)}
}

// zoneName is the name of the zone that a request names in one of two ways; an unknown id stays as it is.
func zoneName(region string, name, id *string) string {
	if api.Val(name) != "" || api.Val(id) == "" {
		return api.Val(name)
	}
	for _, z := range network.Zones(region) {
		if z.ID == *id {
			return z.Name
		}
	}
	return *id
}

func (s *Server) createSubnet(c *api.Call, in *ec2.CreateSubnetRequest) (*ec2.CreateSubnetResult, error) {
	if err := unsupported("Ipv6CidrBlock", in.Ipv6CidrBlock != nil, "Ipv6Native", api.Val(in.Ipv6Native), "OutpostArn", in.OutpostArn != nil, "Ipv4IpamPoolId", in.Ipv4IpamPoolId != nil, "Ipv6IpamPoolId", in.Ipv6IpamPoolId != nil,
		"Ipv4NetmaskLength", in.Ipv4NetmaskLength != nil, "Ipv6NetmaskLength", in.Ipv6NetmaskLength != nil); err != nil {
		return nil, err
	}
	vpcID, err := vpcIDs.need("vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	cidr, err := need("cidrBlock", in.CidrBlock)
	if err != nil {
		return nil, err
	}
	zone := zoneName(c.Region, in.AvailabilityZone, in.AvailabilityZoneId)
	var out ec2.Subnet
	err = c.Update(func(w *store.WriteTx) error {
		v, err := network.CreateSubnet(w, c.Scope(), network.SubnetParams{VpcID: vpcID, CIDR: cidr, AvailabilityZone: zone})
		if err != nil {
			return err
		}
		if err := tagged(w, c.Scope(), v.ID, "subnet", in.TagSpecifications); err != nil {
			return err
		}
		out = describeSubnet(w, v)
		return nil
	})
	return &ec2.CreateSubnetResult{Subnet: &out}, err
}

func (s *Server) createDefaultSubnet(c *api.Call, in *ec2.CreateDefaultSubnetRequest) (*ec2.CreateDefaultSubnetResult, error) {
	zone := zoneName(c.Region, in.AvailabilityZone, in.AvailabilityZoneId)
	if _, err := need("availabilityZone", &zone); err != nil {
		return nil, err
	}
	if err := unsupported("Ipv6Native", api.Val(in.Ipv6Native)); err != nil {
		return nil, err
	}
	var out ec2.Subnet
	err := c.Update(func(w *store.WriteTx) error {
		v, err := network.CreateDefaultSubnet(w, c.Scope(), zone)
		if err != nil {
			return err
		}
		out = describeSubnet(w, v)
		return nil
	})
	return &ec2.CreateDefaultSubnetResult{Subnet: &out}, err
}

func (s *Server) deleteSubnet(c *api.Call, in *ec2.DeleteSubnetRequest) (*ec2.DeleteSubnetOutput, error) {
	id, err := subnetIDs.need("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DeleteSubnet(w, c.Scope(), id) })
}

func (s *Server) describeSubnets(c *api.Call, in *ec2.DescribeSubnetsRequest) (*ec2.DescribeSubnetsResult, error) {
	out, next, err := subnetListing.describe(c, in.SubnetIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeSubnetsResult{Subnets: out, NextToken: next}, err
}

func (s *Server) modifySubnetAttribute(c *api.Call, in *ec2.ModifySubnetAttributeRequest) (*ec2.ModifySubnetAttributeOutput, error) {
	id, err := subnetIDs.need("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	yes := func(a *ec2.AttributeBooleanValue) bool { return a != nil && api.Val(a.Value) }
	if err := unsupported("AssignIpv6AddressOnCreation", yes(in.AssignIpv6AddressOnCreation), "EnableDns64", yes(in.EnableDns64), "CustomerOwnedIpv4Pool", in.CustomerOwnedIpv4Pool != nil,
		"MapCustomerOwnedIpOnLaunch", yes(in.MapCustomerOwnedIpOnLaunch), "EnableLniAtDeviceIndex", in.EnableLniAtDeviceIndex != nil, "EnableResourceNameDnsAAAARecordOnLaunch", yes(in.EnableResourceNameDnsAAAARecordOnLaunch),
		"DisableLniAtDeviceIndex", yes(in.DisableLniAtDeviceIndex)); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		v, err := network.GetSubnet(w, c.Scope(), id)
		if err != nil {
			return err
		}
		if a := in.MapPublicIpOnLaunch; a != nil {
			v.MapPublicIPOnLaunch = api.Val(a.Value)
		}
		if a := in.EnableResourceNameDnsARecordOnLaunch; a != nil {
			v.ResourceNameDNSA = api.Val(a.Value)
		}
		switch t := api.Val(in.PrivateDnsHostnameTypeOnLaunch); t {
		case "":
		case "ip-name", "resource-name":
			v.HostnameType = t
		default:
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter privateDnsHostnameTypeOnLaunch is invalid. Valid values are: ip-name, resource-name.", t)
		}
		network.Subnets.Put(w, v)
		return nil
	})
}
