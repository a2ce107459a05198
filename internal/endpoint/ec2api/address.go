package ec2api

import (
	"iter"
	"slices"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func (s *Server) registerAddresses(m *api.Mux) {
	on(m, ec2.AllocateAddress, s.allocateAddress)
	on(m, ec2.ReleaseAddress, s.releaseAddress)
	on(m, ec2.AssociateAddress, s.associateAddress)
	on(m, ec2.DisassociateAddress, s.disassociateAddress)
	on(m, ec2.DescribeAddresses, s.describeAddresses)
	on(m, ec2.DescribeAddressesAttribute, s.describeAddressesAttribute)
	on(m, ec2.DescribeAddressTransfers, s.describeAddressTransfers)
}

type address = ec2.Address

var addressListing = listing[network.Address, address]{
	table: network.Addresses, ids: addressIDs, id: func(a network.Address) string { return a.AllocationID }, convert: describeAddress,
	kind: describe.Kind[address]{Tags: eachTag(func(v *address) []ec2.Tag { return v.Tags }), Filters: attrs[address]{
		"allocation-id": field(func(v *address) *string { return v.AllocationId }), "association-id": field(func(v *address) *string { return v.AssociationId }), "instance-id": field(func(v *address) *string { return v.InstanceId }),
		"network-border-group": field(func(v *address) *string { return v.NetworkBorderGroup }), "network-interface-id": field(func(v *address) *string { return v.NetworkInterfaceId }),
		"network-interface-owner-id": field(func(v *address) *string { return v.NetworkInterfaceOwnerId }), "private-ip-address": field(func(v *address) *string { return v.PrivateIpAddress }),
		"public-ip": field(func(v *address) *string { return v.PublicIp }), "domain": field(func(v *address) *string { return v.Domain }),
	}},
}

func describeAddress(tx store.Tx, a network.Address) ec2.Address {
	out := ec2.Address{AllocationId: ptr(a.AllocationID), PublicIp: ptr(a.PublicIP), Domain: ptr("vpc"), PublicIpv4Pool: ptr("amazon"), NetworkBorderGroup: ptr(a.Region), AssociationId: str(a.AssociationID), InstanceId: str(a.InstanceID),
		NetworkInterfaceId: str(a.NetworkInterfaceID), PrivateIpAddress: str(a.PrivateIP), Tags: tagsOf(tx, a.Scope, a.AllocationID)}
	if a.NetworkInterfaceID != "" {
		out.NetworkInterfaceOwnerId = ptr(a.Account)
	}
	return out
}

func (s *Server) allocateAddress(c *api.Call, in *ec2.AllocateAddressRequest) (*ec2.AllocateAddressResult, error) {
	if d := api.Val(in.Domain); d != "" && d != "vpc" {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter domain is invalid. Valid values are: vpc.", d)
	}
	if p := api.Val(in.PublicIpv4Pool); p != "" && p != "amazon" {
		return nil, fault.New(fault.NotFound, "InvalidPublicIpv4PoolID.NotFound", "The pool ID '%s' does not exist", p)
	}
	if err := unsupported("Address", in.Address != nil, "IpamPoolId", in.IpamPoolId != nil, "CustomerOwnedIpv4Pool", in.CustomerOwnedIpv4Pool != nil,
		"NetworkBorderGroup", in.NetworkBorderGroup != nil && *in.NetworkBorderGroup != c.Region); err != nil {
		return nil, err
	}
	var a network.Address
	err := c.Update(func(w *store.WriteTx) error {
		var err error
		if a, err = network.AllocateAddress(w, c.Scope()); err != nil {
			return err
		}
		return tagged(w, c.Scope(), a.AllocationID, "elastic-ip", in.TagSpecifications)
	})
	return &ec2.AllocateAddressResult{AllocationId: ptr(a.AllocationID), PublicIp: ptr(a.PublicIP), Domain: ptr("vpc"), PublicIpv4Pool: ptr("amazon"), NetworkBorderGroup: ptr(c.Region)}, err
}

// allocation finds the elastic address that a request names by its id or by itself.
func allocation(tx store.Tx, s scope.Scope, id, ip *string) (network.Address, error) {
	switch {
	case api.Val(id) != "":
		if err := addressIDs.check(*id); err != nil {
			return network.Address{}, err
		}
		return network.GetAddress(tx, s, *id)
	case api.Val(ip) != "":
		return network.AddressByIP(tx, s, *ip)
	}
	return network.Address{}, fault.New(fault.Invalid, "MissingParameter", "Either 'publicIp' or 'allocationId' must be provided.")
}

func (s *Server) releaseAddress(c *api.Call, in *ec2.ReleaseAddressRequest) (*ec2.ReleaseAddressOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		a, err := allocation(w, c.Scope(), in.AllocationId, in.PublicIp)
		if err != nil {
			return err
		}
		return network.ReleaseAddress(w, c.Scope(), a.AllocationID)
	})
}

func (s *Server) associateAddress(c *api.Call, in *ec2.AssociateAddressRequest) (*ec2.AssociateAddressResult, error) {
	var a network.Address
	err := c.Update(func(w *store.WriteTx) error {
		old, err := allocation(w, c.Scope(), in.AllocationId, in.PublicIp)
		if err != nil {
			return err
		}
		eni := api.Val(in.NetworkInterfaceId)
		switch {
		case eni != "":
			if err := eniIDs.check(eni); err != nil {
				return err
			}
		case in.InstanceId != nil:
			if err := instanceIDs.check(*in.InstanceId); err != nil {
				return err
			}
			i, err := compute.GetInstance(w, c.Scope(), *in.InstanceId)
			if err != nil {
				return err
			}
			if !i.Live() || i.ENIID == "" {
				return fault.New(fault.State, "IncorrectInstanceState", "The instance '%s' is not in a valid state for this operation.", i.ID)
			}
			eni = i.ENIID
		default:
			return fault.New(fault.Invalid, "MissingParameter", "Either 'networkInterfaceId' or 'instanceId' must be provided.")
		}
		e, err := network.GetENI(w, c.Scope(), eni)
		if err != nil {
			return err
		}
		if p := api.Val(in.PrivateIpAddress); p != "" && p != e.PrivateIP {
			return fault.New(fault.Invalid, "InvalidParameterValue", "The private IP address %s is not associated with the network interface %s.", p, eni)
		}
		reassociate := in.AllowReassociation == nil || *in.AllowReassociation
		if a, err = network.AssociateAddress(w, c.Scope(), old.AllocationID, eni, reassociate); err != nil {
			return err
		}
		for _, id := range []string{old.InstanceID, a.InstanceID} {
			if id != "" {
				compute.Refresh(w, c.Scope(), id)
			}
		}
		return nil
	})
	return &ec2.AssociateAddressResult{AssociationId: str(a.AssociationID)}, err
}

func (s *Server) disassociateAddress(c *api.Call, in *ec2.DisassociateAddressRequest) (*ec2.DisassociateAddressOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		var a network.Address
		var err error
		switch {
		case api.Val(in.AssociationId) != "":
			a, err = network.AddressByAssociation(w, c.Scope(), *in.AssociationId)
		case api.Val(in.PublicIp) != "":
			a, err = network.AddressByIP(w, c.Scope(), *in.PublicIp)
			if err == nil && a.AssociationID == "" {
				return nil
			}
		default:
			err = fault.New(fault.Invalid, "MissingParameter", "Either 'publicIp' or 'associationId' must be provided.")
		}
		if err != nil {
			return err
		}
		if _, err := network.DisassociateAddress(w, c.Scope(), a.AssociationID); err != nil {
			return err
		}
		if a.InstanceID != "" {
			compute.Refresh(w, c.Scope(), a.InstanceID)
		}
		return nil
	})
}

func (s *Server) describeAddresses(c *api.Call, in *ec2.DescribeAddressesRequest) (*ec2.DescribeAddressesResult, error) {
	ids := slices.Clone(in.AllocationIds)
	tx := c.DB.Read()
	for _, ip := range in.PublicIps {
		a, err := network.AddressByIP(tx, c.Scope(), ip)
		if err != nil {
			return nil, err
		}
		ids = append(ids, a.AllocationID)
	}
	out, _, err := addressListing.describe(c, ids, in.Filters, nil, nil)
	return &ec2.DescribeAddressesResult{Addresses: out}, err
}

var addressAttributeKind = describe.Kind[ec2.AddressAttribute]{IDs: "AllocationIds", Min: 1, Max: 1000}

// describeAddressesAttribute lists the addresses without a name: reverse DNS names cannot be set.
func (s *Server) describeAddressesAttribute(c *api.Call, in *ec2.DescribeAddressesAttributeRequest) (*ec2.DescribeAddressesAttributeResult, error) {
	if a := api.Val(in.Attribute); a != "" && a != "domain-name" {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Valid values are: domain-name.", a)
	}
	var out []ec2.AddressAttribute
	var next string
	err := c.View(func(tx store.Tx) error {
		var rows iter.Seq[network.Address]
		rows, err := addressListing.rows(tx, c.Scope(), in.AllocationIds)
		if err != nil {
			return err
		}
		q := describe.Query{MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: len(in.AllocationIds) > 0}
		out, next, err = describe.Page(&addressAttributeKind, q, rows, func(a network.Address) string { return a.AllocationID }, func(a network.Address) ec2.AddressAttribute {
			return ec2.AddressAttribute{AllocationId: ptr(a.AllocationID), PublicIp: ptr(a.PublicIP)}
		})
		return err
	})
	return &ec2.DescribeAddressesAttributeResult{Addresses: out, NextToken: str(next)}, err
}

func (s *Server) describeAddressTransfers(*api.Call, *ec2.DescribeAddressTransfersRequest) (*ec2.DescribeAddressTransfersResult, error) {
	return &ec2.DescribeAddressTransfersResult{}, nil
}
