package ec2api

import (
	"slices"
	"strings"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/store"
)

func (s *Server) registerACLs(m *api.Mux) {
	on(m, ec2.DescribeNetworkAcls, s.describeNetworkAcls)
	refuse(m, ec2.CreateNetworkAcl, "CreateNetworkAcl", noACL)
	refuse(m, ec2.CreateNetworkAclEntry, "CreateNetworkAclEntry", noACL)
	refuse(m, ec2.ReplaceNetworkAclEntry, "ReplaceNetworkAclEntry", noACL)
	refuse(m, ec2.ReplaceNetworkAclAssociation, "ReplaceNetworkAclAssociation", noACL)
	on(m, ec2.DeleteNetworkAcl, s.deleteNetworkAcl)
	on(m, ec2.DeleteNetworkAclEntry, s.deleteNetworkAclEntry)
}

const noACL = "a VPC has the default network ACL, which allows all traffic, and no other"

// refuse registers an operation that is known and not served, with the reason.
func refuse[In, Out any](m *api.Mux, op api.Op[In, Out], name, reason string) {
	on(m, op, func(*api.Call, *In) (*Out, error) {
		return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "%s is not supported: %s.", name, reason)
	})
}

type nacl = ec2.NetworkAcl

var aclListing = listing[network.NetworkACL, nacl]{
	table: network.NetworkACLs, ids: aclIDs, id: func(a network.NetworkACL) string { return a.ID }, convert: describeACL,
	kind: describe.Kind[nacl]{IDs: "networkAclIdSet", Min: 5, Max: 1000, Tags: eachTag(func(v *nacl) []ec2.Tag { return v.Tags }), Filters: attrs[nacl]{
		"association.association-id": aclAssociation(func(a *ec2.NetworkAclAssociation) *string { return a.NetworkAclAssociationId }), "association.network-acl-id": aclAssociation(func(a *ec2.NetworkAclAssociation) *string { return a.NetworkAclId }),
		"association.subnet-id": aclAssociation(func(a *ec2.NetworkAclAssociation) *string { return a.SubnetId }), "default": func(v *nacl) []string { return bools(v.IsDefault) },
		"entry.cidr": aclEntry(func(e *ec2.NetworkAclEntry) []string { return texts(e.CidrBlock) }), "entry.protocol": aclEntry(func(e *ec2.NetworkAclEntry) []string { return texts(e.Protocol) }),
		"entry.rule-action": aclEntry(func(e *ec2.NetworkAclEntry) []string { return texts(e.RuleAction) }), "entry.egress": aclEntry(func(e *ec2.NetworkAclEntry) []string { return bools(e.Egress) }),
		"entry.rule-number": aclEntry(func(e *ec2.NetworkAclEntry) []string { return nums(e.RuleNumber) }), "entry.icmp.code": none[nacl](), "entry.icmp.type": none[nacl](), "entry.ipv6-cidr": none[nacl](),
		"entry.port-range.from": none[nacl](), "entry.port-range.to": none[nacl](), "network-acl-id": field(func(v *nacl) *string { return v.NetworkAclId }), "owner-id": field(func(v *nacl) *string { return v.OwnerId }),
		"vpc-id": field(func(v *nacl) *string { return v.VpcId }),
	}},
}

func aclAssociation(get func(*ec2.NetworkAclAssociation) *string) func(*nacl) []string {
	return each(func(v *nacl) []ec2.NetworkAclAssociation { return v.Associations }, func(a *ec2.NetworkAclAssociation) []string { return texts(get(a)) })
}

func aclEntry(get func(*ec2.NetworkAclEntry) []string) func(*nacl) []string {
	return each(func(v *nacl) []ec2.NetworkAclEntry { return v.Entries }, get)
}

func describeACL(tx store.Tx, a network.NetworkACL) ec2.NetworkAcl {
	out := ec2.NetworkAcl{NetworkAclId: ptr(a.ID), VpcId: ptr(a.VpcID), IsDefault: ptr(a.IsDefault), OwnerId: ptr(a.Account), Tags: tagsOf(tx, a.Scope, a.ID), Associations: []ec2.NetworkAclAssociation{}}
	for _, e := range a.Entries {
		action := "deny"
		if e.Allow {
			action = "allow"
		}
		out.Entries = append(out.Entries, ec2.NetworkAclEntry{RuleNumber: ptr(e.Number), Egress: ptr(e.Egress), Protocol: ptr(e.Protocol), RuleAction: ptr(action), CidrBlock: ptr(e.CIDR)})
	}
	for sn := range network.Subnets.By(tx, "acl", a.Key(a.ID)) {
		out.Associations = append(out.Associations, ec2.NetworkAclAssociation{NetworkAclAssociationId: ptr(sn.ACLAssociationID), NetworkAclId: ptr(a.ID), SubnetId: ptr(sn.ID)})
	}
	return out
}

func (s *Server) describeNetworkAcls(c *api.Call, in *ec2.DescribeNetworkAclsRequest) (*ec2.DescribeNetworkAclsResult, error) {
	out, next, err := aclListing.describe(c, in.NetworkAclIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeNetworkAclsResult{NetworkAcls: out, NextToken: next}, err
}

func getACL(tx store.Tx, c *api.Call, id *string) (network.NetworkACL, error) {
	acl, err := aclIDs.need("networkAclId", id)
	if err != nil {
		return network.NetworkACL{}, err
	}
	found, err := aclListing.find(tx, c.Scope(), []string{acl})
	if err != nil {
		return network.NetworkACL{}, err
	}
	return found[0], nil
}

func (s *Server) deleteNetworkAcl(c *api.Call, in *ec2.DeleteNetworkAclRequest) (*ec2.DeleteNetworkAclOutput, error) {
	if _, err := getACL(c.DB.Read(), c, in.NetworkAclId); err != nil {
		return nil, err
	}
	return nil, fault.New(fault.Invalid, "InvalidParameterValue", "cannot delete default network ACL %s", *in.NetworkAclId)
}

func (s *Server) deleteNetworkAclEntry(c *api.Call, in *ec2.DeleteNetworkAclEntryRequest) (*ec2.DeleteNetworkAclEntryOutput, error) {
	a, err := getACL(c.DB.Read(), c, in.NetworkAclId)
	if err != nil {
		return nil, err
	}
	n := api.Val(in.RuleNumber)
	if !slices.ContainsFunc(a.Entries, func(e network.ACLEntry) bool {
		return e.Number == n && e.Number != 32767 && e.Egress == api.Val(in.Egress)
	}) {
		way := "ingress"
		if api.Val(in.Egress) {
			way = "egress"
		}
		return nil, fault.New(fault.NotFound, "InvalidNetworkAclEntry.NotFound", "The %s entry with rule number %d does not exist in network ACL %s", way, n, a.ID)
	}
	return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "DeleteNetworkAclEntry is not supported: %s.", noACL)
}

func (s *Server) registerDhcp(m *api.Mux) {
	on(m, ec2.CreateDhcpOptions, s.createDhcpOptions)
	on(m, ec2.DeleteDhcpOptions, s.deleteDhcpOptions)
	on(m, ec2.DescribeDhcpOptions, s.describeDhcpOptions)
	on(m, ec2.AssociateDhcpOptions, s.associateDhcpOptions)
}

type dhcp = ec2.DhcpOptions

var dhcpListing = listing[network.DhcpOptions, dhcp]{
	table: network.DhcpOptionSets, ids: dhcpIDs, id: func(d network.DhcpOptions) string { return d.ID }, convert: describeDhcp,
	kind: describe.Kind[dhcp]{IDs: "dhcpOptionsSet", Min: 5, Max: 1000, Tags: eachTag(func(v *dhcp) []ec2.Tag { return v.Tags }), Filters: attrs[dhcp]{
		"dhcp-options-id": field(func(v *dhcp) *string { return v.DhcpOptionsId }), "owner-id": field(func(v *dhcp) *string { return v.OwnerId }),
		"key": each(func(v *dhcp) []ec2.DhcpConfiguration { return v.DhcpConfigurations }, func(d *ec2.DhcpConfiguration) []string { return texts(d.Key) }),
		"value": each(func(v *dhcp) []ec2.DhcpConfiguration { return v.DhcpConfigurations }, func(d *ec2.DhcpConfiguration) []string {
			return collect(d.Values, func(a ec2.AttributeValue) *string { return a.Value })
		}),
	}},
}

func describeDhcp(tx store.Tx, d network.DhcpOptions) ec2.DhcpOptions {
	out := ec2.DhcpOptions{DhcpOptionsId: ptr(d.ID), OwnerId: ptr(d.Account), Tags: tagsOf(tx, d.Scope, d.ID)}
	add := func(key string, values ...string) {
		c := ec2.DhcpConfiguration{Key: ptr(key)}
		for _, v := range values {
			if v != "" {
				c.Values = append(c.Values, ec2.AttributeValue{Value: ptr(v)})
			}
		}
		if len(c.Values) > 0 {
			out.DhcpConfigurations = append(out.DhcpConfigurations, c)
		}
	}
	add("domain-name", d.DomainName)
	add("domain-name-servers", d.DomainNameServers...)
	add("ntp-servers", d.NTPServers...)
	add("netbios-name-servers", d.NetBIOSNameServers...)
	add("netbios-node-type", d.NetBIOSNodeType)
	return out
}

func (s *Server) createDhcpOptions(c *api.Call, in *ec2.CreateDhcpOptionsRequest) (*ec2.CreateDhcpOptionsResult, error) {
	d := network.DhcpOptions{}
	if len(in.DhcpConfigurations) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter dhcpConfiguration")
	}
	for _, x := range in.DhcpConfigurations {
		var values []string
		for _, v := range x.Values {
			for _, one := range strings.Split(v, ",") {
				values = append(values, strings.TrimSpace(one))
			}
		}
		key := api.Val(x.Key)
		if len(values) == 0 {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value for DHCP option %s must be specified", key)
		}
		switch key {
		case "domain-name":
			d.DomainName = strings.Join(values, " ")
		case "domain-name-servers":
			d.DomainNameServers = values
		case "ntp-servers":
			d.NTPServers = values
		case "netbios-name-servers":
			d.NetBIOSNameServers = values
		case "netbios-node-type":
			d.NetBIOSNodeType = values[0]
		default:
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter name is invalid. Unknown DHCP option", key)
		}
	}
	if len(d.DomainNameServers) > 4 || len(d.NTPServers) > 4 || len(d.NetBIOSNameServers) > 4 {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "A DHCP option may have at most four servers.")
	}
	var out ec2.DhcpOptions
	err := c.Update(func(w *store.WriteTx) error {
		d := network.CreateDhcpOptions(w, c.Scope(), d)
		if err := tagged(w, c.Scope(), d.ID, "dhcp-options", in.TagSpecifications); err != nil {
			return err
		}
		out = describeDhcp(w, d)
		return nil
	})
	return &ec2.CreateDhcpOptionsResult{DhcpOptions: &out}, err
}

func (s *Server) deleteDhcpOptions(c *api.Call, in *ec2.DeleteDhcpOptionsRequest) (*ec2.DeleteDhcpOptionsOutput, error) {
	id, err := dhcpIDs.need("dhcpOptionsId", in.DhcpOptionsId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DeleteDhcpOptions(w, c.Scope(), id) })
}

func (s *Server) describeDhcpOptions(c *api.Call, in *ec2.DescribeDhcpOptionsRequest) (*ec2.DescribeDhcpOptionsResult, error) {
	out, next, err := dhcpListing.describe(c, in.DhcpOptionsIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeDhcpOptionsResult{DhcpOptions: out, NextToken: next}, err
}

func (s *Server) associateDhcpOptions(c *api.Call, in *ec2.AssociateDhcpOptionsRequest) (*ec2.AssociateDhcpOptionsOutput, error) {
	v, err := vpcIDs.need("vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	id, err := need("dhcpOptionsId", in.DhcpOptionsId)
	if err != nil {
		return nil, err
	}
	if id != "default" {
		if err := dhcpIDs.check(id); err != nil {
			return nil, err
		}
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.AssociateDhcpOptions(w, c.Scope(), v, id) })
}
