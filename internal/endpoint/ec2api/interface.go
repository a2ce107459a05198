package ec2api

import (
	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/store"
)

func (s *Server) registerInterfaces(m *api.Mux) {
	on(m, ec2.CreateNetworkInterface, s.createNetworkInterface)
	on(m, ec2.DeleteNetworkInterface, s.deleteNetworkInterface)
	on(m, ec2.DescribeNetworkInterfaces, s.describeNetworkInterfaces)
	on(m, ec2.DescribeNetworkInterfaceAttribute, s.describeNetworkInterfaceAttribute)
	on(m, ec2.ModifyNetworkInterfaceAttribute, s.modifyNetworkInterfaceAttribute)
	on(m, ec2.ResetNetworkInterfaceAttribute, s.resetNetworkInterfaceAttribute)
	on(m, ec2.AttachNetworkInterface, s.attachNetworkInterface)
	on(m, ec2.DetachNetworkInterface, s.detachNetworkInterface)
}

type netif = ec2.NetworkInterface

var interfaceListing = listing[network.ENI, netif]{
	table: network.ENIs, ids: eniIDs, id: func(e network.ENI) string { return e.ID }, convert: describeInterface,
	kind: describe.Kind[netif]{IDs: "networkInterfaceIdSet", Min: 5, Max: 1000, Tags: eachTag(func(v *netif) []ec2.Tag { return v.TagSet }), Filters: interfaceFilters()},
}

func interfaceFilters() attrs[netif] {
	assoc := func(get func(*ec2.NetworkInterfaceAssociation) *string) func(*netif) []string {
		return func(v *netif) []string {
			if v.Association == nil {
				return nil
			}
			return texts(get(v.Association))
		}
	}
	attach := func(get func(*ec2.NetworkInterfaceAttachment) []string) func(*netif) []string {
		return func(v *netif) []string {
			if v.Attachment == nil {
				return nil
			}
			return get(v.Attachment)
		}
	}
	text := func(get func(*netif) *string) func(*netif) []string { return field(get) }
	groups := func(get func(*ec2.GroupIdentifier) *string) func(*netif) []string {
		return each(func(v *netif) []ec2.GroupIdentifier { return v.Groups }, func(g *ec2.GroupIdentifier) []string { return texts(get(g)) })
	}
	return attrs[netif]{
		"association.allocation-id": assoc(func(a *ec2.NetworkInterfaceAssociation) *string { return a.AllocationId }), "association.association-id": assoc(func(a *ec2.NetworkInterfaceAssociation) *string { return a.AssociationId }),
		"association.ip-owner-id": assoc(func(a *ec2.NetworkInterfaceAssociation) *string { return a.IpOwnerId }), "association.public-ip": assoc(func(a *ec2.NetworkInterfaceAssociation) *string { return a.PublicIp }),
		"association.public-dns-name": assoc(func(a *ec2.NetworkInterfaceAssociation) *string { return a.PublicDnsName }), "addresses.association.owner-id": assoc(func(a *ec2.NetworkInterfaceAssociation) *string { return a.IpOwnerId }),
		"addresses.association.public-ip": assoc(func(a *ec2.NetworkInterfaceAssociation) *string { return a.PublicIp }), "addresses.primary": fixed[netif]("true"),
		"addresses.private-ip-address": text(func(v *netif) *string { return v.PrivateIpAddress }),
		"attachment.attach-time":       attach(func(a *ec2.NetworkInterfaceAttachment) []string { return times(a.AttachTime) }), "attachment.attachment-id": attach(func(a *ec2.NetworkInterfaceAttachment) []string { return texts(a.AttachmentId) }),
		"attachment.delete-on-termination": attach(func(a *ec2.NetworkInterfaceAttachment) []string { return bools(a.DeleteOnTermination) }), "attachment.device-index": attach(func(a *ec2.NetworkInterfaceAttachment) []string { return nums(a.DeviceIndex) }),
		"attachment.instance-id": attach(func(a *ec2.NetworkInterfaceAttachment) []string { return texts(a.InstanceId) }), "attachment.instance-owner-id": attach(func(a *ec2.NetworkInterfaceAttachment) []string { return texts(a.InstanceOwnerId) }),
		"attachment.status": attach(func(a *ec2.NetworkInterfaceAttachment) []string { return texts(a.Status) }), "availability-zone": text(func(v *netif) *string { return v.AvailabilityZone }),
		"availability-zone-id": text(func(v *netif) *string { return v.AvailabilityZoneId }), "description": text(func(v *netif) *string { return v.Description }),
		"group-id": groups(func(g *ec2.GroupIdentifier) *string { return g.GroupId }), "group-name": groups(func(g *ec2.GroupIdentifier) *string { return g.GroupName }),
		"interface-type": text(func(v *netif) *string { return v.InterfaceType }), "mac-address": text(func(v *netif) *string { return v.MacAddress }), "network-interface-id": text(func(v *netif) *string { return v.NetworkInterfaceId }),
		"owner-id": text(func(v *netif) *string { return v.OwnerId }), "private-dns-name": text(func(v *netif) *string { return v.PrivateDnsName }), "private-ip-address": text(func(v *netif) *string { return v.PrivateIpAddress }),
		"requester-id": text(func(v *netif) *string { return v.RequesterId }), "requester-managed": func(v *netif) []string { return bools(v.RequesterManaged) }, "source-dest-check": func(v *netif) []string { return bools(v.SourceDestCheck) },
		"status": text(func(v *netif) *string { return v.Status }), "subnet-id": text(func(v *netif) *string { return v.SubnetId }), "vpc-id": text(func(v *netif) *string { return v.VpcId }),
		"ipv6-addresses.ipv6-address": none[netif](), "operator.managed": fixed[netif]("false"), "operator.principal": none[netif](),
	}
}

func describeInterface(tx store.Tx, e network.ENI) ec2.NetworkInterface {
	var assoc *ec2.NetworkInterfaceAssociation
	if e.PublicIP != "" {
		owner := "amazon"
		if e.AssociationID != "" {
			owner = e.Account
		}
		assoc = &ec2.NetworkInterfaceAssociation{AllocationId: str(e.AllocationID), AssociationId: str(e.AssociationID), IpOwnerId: ptr(owner), PublicIp: ptr(e.PublicIP), PublicDnsName: ptr(network.PublicDNSName(e.Region, e.PublicIP))}
	}
	name := network.PrivateDNSName(e.Region, e.PrivateIP)
	out := ec2.NetworkInterface{NetworkInterfaceId: ptr(e.ID), Description: ptr(e.Description), InterfaceType: ptr(e.InterfaceType), MacAddress: ptr(e.MAC), OwnerId: ptr(e.Account), PrivateDnsName: ptr(name), PrivateIpAddress: ptr(e.PrivateIP),
		SourceDestCheck: ptr(e.SourceDestCheck), Status: ptr(e.Status()), SubnetId: ptr(e.SubnetID), VpcId: ptr(e.VpcID), AvailabilityZone: ptr(e.AvailabilityZone), AvailabilityZoneId: str(network.ZoneID(e.Region, e.AvailabilityZone)),
		RequesterId: str(e.RequesterID), RequesterManaged: ptr(e.RequesterManaged), Groups: groupNames(tx, e), Association: assoc, TagSet: tagsOf(tx, e.Scope, e.ID), Ipv6Addresses: []ec2.NetworkInterfaceIpv6Address{},
		PrivateIpAddresses: []ec2.NetworkInterfacePrivateIpAddress{{Primary: ptr(true), PrivateDnsName: ptr(name), PrivateIpAddress: ptr(e.PrivateIP), Association: assoc}}}
	if e.AttachmentID != "" {
		out.Attachment = attachment(e)
	}
	return out
}

func attachment(e network.ENI) *ec2.NetworkInterfaceAttachment {
	owner := e.Account
	if e.InstanceID == "" {
		owner = e.RequesterID
	}
	return &ec2.NetworkInterfaceAttachment{AttachmentId: ptr(e.AttachmentID), AttachTime: when(e.AttachTime), DeleteOnTermination: ptr(e.DeleteOnTermination), DeviceIndex: num(e.DeviceIndex), NetworkCardIndex: num(0), InstanceId: str(e.InstanceID), InstanceOwnerId: str(owner), Status: ptr("attached")}
}

func (s *Server) createNetworkInterface(c *api.Call, in *ec2.CreateNetworkInterfaceRequest) (*ec2.CreateNetworkInterfaceResult, error) {
	sn, err := subnetIDs.need("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	if err := unsupported("Ipv6AddressCount", api.Val(in.Ipv6AddressCount) > 0, "Ipv6Addresses", len(in.Ipv6Addresses) > 0, "Ipv4Prefix", len(in.Ipv4Prefixes) > 0 || api.Val(in.Ipv4PrefixCount) > 0, "Ipv6Prefix", len(in.Ipv6Prefixes) > 0 || api.Val(in.Ipv6PrefixCount) > 0,
		"SecondaryPrivateIpAddressCount", api.Val(in.SecondaryPrivateIpAddressCount) > 0, "PrivateIpAddresses", len(in.PrivateIpAddresses) > 1, "InterfaceType", in.InterfaceType != nil && *in.InterfaceType != "interface",
		"ConnectionTrackingSpecification", in.ConnectionTrackingSpecification != nil, "EnablePrimaryIpv6", api.Val(in.EnablePrimaryIpv6)); err != nil {
		return nil, err
	}
	if err := groupIDs.check(in.Groups...); err != nil {
		return nil, err
	}
	ip := api.Val(in.PrivateIpAddress)
	if len(in.PrivateIpAddresses) == 1 {
		ip = api.Val(in.PrivateIpAddresses[0].PrivateIpAddress)
	}
	var out ec2.NetworkInterface
	err = c.Update(func(w *store.WriteTx) error {
		id, err := compute.Once(w, c.Scope(), "CreateNetworkInterface", api.Val(in.ClientToken), in, func() (string, error) {
			e, err := network.AllocateENI(w, c.Scope(), network.ENIParams{SubnetID: sn, PrivateIP: ip, GroupIDs: in.Groups, Description: api.Val(in.Description)})
			if err != nil {
				return "", err
			}
			return e.ID, tagged(w, c.Scope(), e.ID, "network-interface", in.TagSpecifications)
		})
		if err != nil {
			return err
		}
		e, err := network.GetENI(w, c.Scope(), id)
		if err != nil {
			return err
		}
		out = describeInterface(w, e)
		return nil
	})
	return &ec2.CreateNetworkInterfaceResult{NetworkInterface: &out, ClientToken: in.ClientToken}, err
}

func (s *Server) deleteNetworkInterface(c *api.Call, in *ec2.DeleteNetworkInterfaceRequest) (*ec2.DeleteNetworkInterfaceOutput, error) {
	id, err := eniIDs.need("networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DeleteENI(w, c.Scope(), id) })
}

func (s *Server) describeNetworkInterfaces(c *api.Call, in *ec2.DescribeNetworkInterfacesRequest) (*ec2.DescribeNetworkInterfacesResult, error) {
	out, next, err := interfaceListing.describe(c, in.NetworkInterfaceIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeNetworkInterfacesResult{NetworkInterfaces: out, NextToken: next}, err
}

func (s *Server) describeNetworkInterfaceAttribute(c *api.Call, in *ec2.DescribeNetworkInterfaceAttributeRequest) (*ec2.DescribeNetworkInterfaceAttributeResult, error) {
	id, err := eniIDs.need("networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	tx := c.DB.Read()
	e, err := network.GetENI(tx, c.Scope(), id)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeNetworkInterfaceAttributeResult{NetworkInterfaceId: ptr(id)}
	switch a := api.Val(in.Attribute); a {
	case "description":
		out.Description = &ec2.AttributeValue{Value: ptr(e.Description)}
	case "groupSet":
		out.Groups = groupNames(tx, e)
	case "sourceDestCheck":
		out.SourceDestCheck = boolean(e.SourceDestCheck)
	case "associatePublicIpAddress":
		out.AssociatePublicIpAddress = ptr(e.AutoPublic)
	case "attachment":
		if e.AttachmentID != "" {
			out.Attachment = attachment(e)
		}
	default:
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", a)
	}
	return out, nil
}

func (s *Server) modifyNetworkInterfaceAttribute(c *api.Call, in *ec2.ModifyNetworkInterfaceAttributeRequest) (*ec2.ModifyNetworkInterfaceAttributeOutput, error) {
	id, err := eniIDs.need("networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	if err := unsupported("EnaSrdSpecification", in.EnaSrdSpecification != nil, "EnablePrimaryIpv6", api.Val(in.EnablePrimaryIpv6), "AssociatedSubnetIds", len(in.AssociatedSubnetIds) > 0, "ConnectionTrackingSpecification", in.ConnectionTrackingSpecification != nil,
		"Attachment.EnaQueueCount", in.Attachment != nil && (in.Attachment.EnaQueueCount != nil || api.Val(in.Attachment.DefaultEnaQueueCount))); err != nil {
		return nil, err
	}
	if err := groupIDs.check(in.Groups...); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		e, err := network.GetENI(w, c.Scope(), id)
		if err != nil {
			return err
		}
		if e.RequesterManaged {
			return fault.New(fault.Denied, "OperationNotPermitted", "The network interface '%s' is managed by %s.", id, e.RequesterID)
		}
		if len(in.Groups) > 0 {
			if e, err = network.SetGroups(w, c.Scope(), id, in.Groups); err != nil {
				return err
			}
		}
		if in.Description != nil {
			e.Description = api.Val(in.Description.Value)
		}
		if in.SourceDestCheck != nil {
			e.SourceDestCheck = api.Val(in.SourceDestCheck.Value)
		}
		if in.AssociatePublicIpAddress != nil {
			e.AutoPublic = *in.AssociatePublicIpAddress
		}
		if a := in.Attachment; a != nil {
			if e.AttachmentID == "" || api.Val(a.AttachmentId) != e.AttachmentID {
				return fault.New(fault.NotFound, "InvalidAttachmentID.NotFound", "The attachment ID '%s' does not exist.", api.Val(a.AttachmentId))
			}
			if a.DeleteOnTermination != nil {
				e.DeleteOnTermination = *a.DeleteOnTermination
			}
		}
		network.ENIs.Put(w, e)
		if e.InstanceID != "" {
			compute.Refresh(w, c.Scope(), e.InstanceID)
		}
		return nil
	})
}

func (s *Server) resetNetworkInterfaceAttribute(c *api.Call, in *ec2.ResetNetworkInterfaceAttributeRequest) (*ec2.ResetNetworkInterfaceAttributeOutput, error) {
	id, err := eniIDs.need("networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		e, err := network.GetENI(w, c.Scope(), id)
		if err != nil {
			return err
		}
		e.SourceDestCheck = true
		network.ENIs.Put(w, e)
		return nil
	})
}

// attachNetworkInterface is refused: instances have the one interface that they were launched with.
func (s *Server) attachNetworkInterface(c *api.Call, in *ec2.AttachNetworkInterfaceRequest) (*ec2.AttachNetworkInterfaceResult, error) {
	id, err := eniIDs.need("networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	instance, err := instanceIDs.need("instanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	tx := c.DB.Read()
	if _, err := network.GetENI(tx, c.Scope(), id); err != nil {
		return nil, err
	}
	if _, err := compute.GetInstance(tx, c.Scope(), instance); err != nil {
		return nil, err
	}
	return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "AttachNetworkInterface is not supported: an instance has the one network interface that it was launched with.")
}

func (s *Server) detachNetworkInterface(c *api.Call, in *ec2.DetachNetworkInterfaceRequest) (*ec2.DetachNetworkInterfaceOutput, error) {
	id, err := need("attachmentId", in.AttachmentId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DetachENI(w, c.Scope(), id) })
}
