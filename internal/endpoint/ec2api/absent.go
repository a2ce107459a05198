package ec2api

import (
	"slices"

	"skerry/api"
	"skerry/api/ec2"
)

// nothing registers a Describe operation of a kind of resource that this cloud has none of: ids are not found, and every
// filter leaves the same empty list.
func nothing[In, Out any](m *api.Mux, op api.Op[In, Out], k idKind, ids func(*In) []string) {
	on(m, op, func(_ *api.Call, in *In) (*Out, error) {
		if list := ids(in); len(list) > 0 {
			if err := k.check(list...); err != nil {
				return nil, err
			}
			return nil, k.missing(list)
		}
		return new(Out), nil
	})
}

// placement is the kind of placement groups, which go by name.
var placement = idKind{notFound: "InvalidPlacementGroup.Unknown", text: "The Placement Group '%s' is unknown."}

// unnamed is for operations that take no ids.
func unnamed[In any](*In) []string { return nil }

func (s *Server) registerAbsent(m *api.Mux) {
	nothing(m, ec2.DescribeNatGateways, idKind{"nat", "NatGatewayMalformed", "NatGatewayNotFound", "NatGateway %s was not found"}, func(in *ec2.DescribeNatGatewaysRequest) []string { return in.NatGatewayIds })
	nothing(m, ec2.DescribeVpcEndpoints, idKind{"vpce", "InvalidVpcEndpointId.Malformed", "InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id '%s' does not exist"}, func(in *ec2.DescribeVpcEndpointsRequest) []string { return in.VpcEndpointIds })
	nothing(m, ec2.DescribeVpcPeeringConnections, idKind{"pcx", "InvalidVpcPeeringConnectionId.Malformed", "InvalidVpcPeeringConnectionID.NotFound", "The vpcPeeringConnection ID '%s' does not exist"}, func(in *ec2.DescribeVpcPeeringConnectionsRequest) []string { return in.VpcPeeringConnectionIds })
	nothing(m, ec2.DescribeVpnGateways, idKind{"vgw", "InvalidVpnGatewayID.Malformed", "InvalidVpnGatewayID.NotFound", "The vpnGateway ID '%s' does not exist"}, func(in *ec2.DescribeVpnGatewaysRequest) []string { return in.VpnGatewayIds })
	nothing(m, ec2.DescribeEgressOnlyInternetGateways, idKind{"eigw", "InvalidEgressOnlyInternetGatewayId.Malformed", "InvalidGatewayID.NotFound", "The egress only internet gateway ID '%s' does not exist"}, func(in *ec2.DescribeEgressOnlyInternetGatewaysRequest) []string {
		return in.EgressOnlyInternetGatewayIds
	})
	nothing(m, ec2.DescribeFlowLogs, idKind{"fl", "InvalidFlowLogId.Malformed", "InvalidFlowLogId.NotFound", "The flow log ID '%s' does not exist"}, func(in *ec2.DescribeFlowLogsRequest) []string { return in.FlowLogIds })
	nothing(m, ec2.DescribeHosts, idKind{"h", "InvalidHostID.Malformed", "InvalidHostID.NotFound", "The host ID '%s' does not exist"}, func(in *ec2.DescribeHostsRequest) []string { return in.HostIds })
	nothing(m, ec2.DescribeCapacityReservations, idKind{"cr", "InvalidCapacityReservationId.Malformed", "InvalidCapacityReservationId.NotFound", "The capacity reservation ID '%s' does not exist"}, func(in *ec2.DescribeCapacityReservationsRequest) []string { return in.CapacityReservationIds })
	on(m, ec2.CancelSpotInstanceRequests, s.cancelSpotInstanceRequests)
	on(m, ec2.DescribeSpotInstanceRequests, s.describeSpotInstanceRequests)
	pl := idKind{"pl", "InvalidPrefixListId.Malformed", "InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist"}
	nothing(m, ec2.DescribePrefixLists, pl, func(in *ec2.DescribePrefixListsRequest) []string { return in.PrefixListIds })
	nothing(m, ec2.DescribeManagedPrefixLists, pl, func(in *ec2.DescribeManagedPrefixListsRequest) []string { return in.PrefixListIds })
	nothing(m, ec2.GetManagedPrefixListEntries, pl, func(in *ec2.GetManagedPrefixListEntriesRequest) []string { return []string{api.Val(in.PrefixListId)} })
	on(m, ec2.DescribePlacementGroups, func(_ *api.Call, in *ec2.DescribePlacementGroupsRequest) (*ec2.DescribePlacementGroupsResult, error) {
		if named := append(slices.Clone(in.GroupNames), in.GroupIds...); len(named) > 0 {
			return nil, placement.missing(named[:1])
		}
		return nil, nil
	})
	nothing(m, ec2.DescribeReservedInstances, idKind{}, unnamed[ec2.DescribeReservedInstancesRequest])
	on(m, ec2.DescribeSpotPriceHistory, s.describeSpotPriceHistory)
	nothing(m, ec2.DescribeVolumesModifications, idKind{}, unnamed[ec2.DescribeVolumesModificationsRequest])
	nothing(m, ec2.DescribeVpcClassicLink, idKind{}, unnamed[ec2.DescribeVpcClassicLinkRequest])
	nothing(m, ec2.DescribeVpcClassicLinkDnsSupport, idKind{}, unnamed[ec2.DescribeVpcClassicLinkDnsSupportRequest])
	nothing(m, ec2.DescribeInstanceTopology, idKind{}, unnamed[ec2.DescribeInstanceTopologyRequest]) // only types of clusters have one
	nothing(m, ec2.DescribePrincipalIdFormat, idKind{}, unnamed[ec2.DescribePrincipalIdFormatRequest])

	const one = "a network interface has its primary private address only"
	refuse(m, ec2.AssignPrivateIpAddresses, "AssignPrivateIpAddresses", one)
	refuse(m, ec2.UnassignPrivateIpAddresses, "UnassignPrivateIpAddresses", one)
	const range4 = "a VPC has the one IPv4 range that it was made with, and no IPv6"
	refuse(m, ec2.AssociateVpcCidrBlock, "AssociateVpcCidrBlock", range4)
	refuse(m, ec2.DisassociateVpcCidrBlock, "DisassociateVpcCidrBlock", range4)
	refuse(m, ec2.AssociateSubnetCidrBlock, "AssociateSubnetCidrBlock", range4)
	refuse(m, ec2.DisassociateSubnetCidrBlock, "DisassociateSubnetCidrBlock", range4)
	refuse(m, ec2.CreateNatGateway, "CreateNatGateway", "there are no NAT gateways yet; give instances public addresses")
	on(m, ec2.DeleteNatGateway, func(_ *api.Call, in *ec2.DeleteNatGatewayRequest) (*ec2.DeleteNatGatewayResult, error) {
		return nil, idKind{notFound: "NatGatewayNotFound", text: "NatGateway %s was not found"}.missing([]string{api.Val(in.NatGatewayId)})
	})
	const groups = "there are no placement groups"
	refuse(m, ec2.CreatePlacementGroup, "CreatePlacementGroup", groups)
	on(m, ec2.DeletePlacementGroup, func(_ *api.Call, in *ec2.DeletePlacementGroupRequest) (*ec2.DeletePlacementGroupOutput, error) {
		return nil, placement.missing([]string{api.Val(in.GroupName)})
	})
	const vgw = "there are no virtual private gateways"
	refuse(m, ec2.EnableVgwRoutePropagation, "EnableVgwRoutePropagation", vgw)
	refuse(m, ec2.DisableVgwRoutePropagation, "DisableVgwRoutePropagation", vgw)
	refuse(m, ec2.ModifyAddressAttribute, "ModifyAddressAttribute", "an address has no reverse DNS name of its own")
	refuse(m, ec2.ModifyInstanceCapacityReservationAttributes, "ModifyInstanceCapacityReservationAttributes", "there are no capacity reservations")
	refuse(m, ec2.ModifyInstanceNetworkPerformanceOptions, "ModifyInstanceNetworkPerformanceOptions", "no instance type has bandwidth weightings")
	refuse(m, ec2.SendDiagnosticInterrupt, "SendDiagnosticInterrupt", "instances have no kernel of their own to interrupt")
	refuse(m, ec2.GetInstanceUefiData, "GetInstanceUefiData", "instances have no UEFI variables")
	refuse(m, ec2.EnableEbsEncryptionByDefault, "EnableEbsEncryptionByDefault", "volumes are not encrypted")
	refuse(m, ec2.EnableSerialConsoleAccess, "EnableSerialConsoleAccess", "there is no serial console; GetConsoleOutput shows the console")
}
