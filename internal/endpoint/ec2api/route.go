package ec2api

import (
	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/network"
	"skerry/internal/store"
)

func (s *Server) registerRoutes(m *api.Mux) {
	on(m, ec2.CreateRouteTable, s.createRouteTable)
	on(m, ec2.DeleteRouteTable, s.deleteRouteTable)
	on(m, ec2.DescribeRouteTables, s.describeRouteTables)
	on(m, ec2.AssociateRouteTable, s.associateRouteTable)
	on(m, ec2.DisassociateRouteTable, s.disassociateRouteTable)
	on(m, ec2.ReplaceRouteTableAssociation, s.replaceRouteTableAssociation)
	on(m, ec2.CreateRoute, s.createRoute)
	on(m, ec2.ReplaceRoute, s.replaceRoute)
	on(m, ec2.DeleteRoute, s.deleteRoute)
	on(m, ec2.CreateInternetGateway, s.createInternetGateway)
	on(m, ec2.AttachInternetGateway, s.attachInternetGateway)
	on(m, ec2.DetachInternetGateway, s.detachInternetGateway)
	on(m, ec2.DeleteInternetGateway, s.deleteInternetGateway)
	on(m, ec2.DescribeInternetGateways, s.describeInternetGateways)
}

type routeTable = ec2.RouteTable

var tableListing = listing[network.RouteTable, routeTable]{
	table: network.RouteTables, ids: tableIDs, id: func(v network.RouteTable) string { return v.ID }, convert: describeRouteTable,
	kind: describe.Kind[routeTable]{IDs: "routeTableIdSet", Min: 5, Max: 100, Tags: eachTag(func(v *routeTable) []ec2.Tag { return v.Tags }), Filters: attrs[routeTable]{
		"association.route-table-association-id": routeAssociation(func(a *ec2.RouteTableAssociation) []string { return texts(a.RouteTableAssociationId) }),
		"association.route-table-id":             routeAssociation(func(a *ec2.RouteTableAssociation) []string { return texts(a.RouteTableId) }),
		"association.subnet-id":                  routeAssociation(func(a *ec2.RouteTableAssociation) []string { return texts(a.SubnetId) }),
		"association.main":                       routeAssociation(func(a *ec2.RouteTableAssociation) []string { return bools(a.Main) }),
		"association.gateway-id":                 none[routeTable](),
		"owner-id":                               field(func(v *routeTable) *string { return v.OwnerId }), "route-table-id": field(func(v *routeTable) *string { return v.RouteTableId }),
		"vpc-id":                            field(func(v *routeTable) *string { return v.VpcId }),
		"route.destination-cidr-block":      routeOf(func(r *ec2.Route) *string { return r.DestinationCidrBlock }),
		"route.gateway-id":                  routeOf(func(r *ec2.Route) *string { return r.GatewayId }),
		"route.instance-id":                 routeOf(func(r *ec2.Route) *string { return r.InstanceId }),
		"route.nat-gateway-id":              routeOf(func(r *ec2.Route) *string { return r.NatGatewayId }),
		"route.origin":                      routeOf(func(r *ec2.Route) *string { return r.Origin }),
		"route.state":                       routeOf(func(r *ec2.Route) *string { return r.State }),
		"route.destination-ipv6-cidr-block": none[routeTable](), "route.destination-prefix-list-id": none[routeTable](), "route.egress-only-internet-gateway-id": none[routeTable](),
		"route.transit-gateway-id": none[routeTable](), "route.vpc-peering-connection-id": none[routeTable](),
	}},
}

func routeAssociation(get func(*ec2.RouteTableAssociation) []string) func(*routeTable) []string {
	return each(func(v *routeTable) []ec2.RouteTableAssociation { return v.Associations }, get)
}

func routeOf(get func(*ec2.Route) *string) func(*routeTable) []string {
	return each(func(v *routeTable) []ec2.Route { return v.Routes }, func(r *ec2.Route) []string { return texts(get(r)) })
}

var associated = &ec2.RouteTableAssociationState{State: ptr("associated")}

func describeRouteTable(tx store.Tx, t network.RouteTable) ec2.RouteTable {
	out := ec2.RouteTable{RouteTableId: ptr(t.ID), VpcId: ptr(t.VpcID), OwnerId: ptr(t.Account), Associations: []ec2.RouteTableAssociation{}, PropagatingVgws: []ec2.PropagatingVgw{}, Tags: tagsOf(tx, t.Scope, t.ID)}
	for _, r := range t.Routes {
		state := "blackhole"
		if network.RouteActive(tx, t, r) {
			state = "active"
		}
		w := ec2.Route{DestinationCidrBlock: ptr(r.DestinationCIDR), GatewayId: str(r.GatewayID), InstanceId: str(r.InstanceID), NetworkInterfaceId: str(r.NetworkInterfaceID), NatGatewayId: str(r.NatGatewayID), Origin: ptr(r.Origin), State: ptr(state)}
		if r.InstanceID != "" {
			w.InstanceOwnerId = ptr(t.Account)
		}
		out.Routes = append(out.Routes, w)
	}
	for _, a := range t.Associations {
		out.Associations = append(out.Associations, ec2.RouteTableAssociation{RouteTableAssociationId: ptr(a.ID), RouteTableId: ptr(t.ID), SubnetId: str(a.SubnetID), Main: ptr(a.Main), AssociationState: associated})
	}
	return out
}

func (s *Server) createRouteTable(c *api.Call, in *ec2.CreateRouteTableRequest) (*ec2.CreateRouteTableResult, error) {
	vpcID, err := vpcIDs.need("vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	var out ec2.RouteTable
	err = c.Update(func(w *store.WriteTx) error {
		id, err := compute.Once(w, c.Scope(), "CreateRouteTable", api.Val(in.ClientToken), in, func() (string, error) {
			t, err := network.CreateRouteTable(w, c.Scope(), vpcID)
			if err != nil {
				return "", err
			}
			return t.ID, tagged(w, c.Scope(), t.ID, "route-table", in.TagSpecifications)
		})
		if err != nil {
			return err
		}
		t, err := network.GetRouteTable(w, c.Scope(), id)
		if err != nil {
			return err
		}
		out = describeRouteTable(w, t)
		return nil
	})
	return &ec2.CreateRouteTableResult{RouteTable: &out, ClientToken: in.ClientToken}, err
}

func (s *Server) deleteRouteTable(c *api.Call, in *ec2.DeleteRouteTableRequest) (*ec2.DeleteRouteTableOutput, error) {
	id, err := tableIDs.need("routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DeleteRouteTable(w, c.Scope(), id) })
}

func (s *Server) describeRouteTables(c *api.Call, in *ec2.DescribeRouteTablesRequest) (*ec2.DescribeRouteTablesResult, error) {
	out, next, err := tableListing.describe(c, in.RouteTableIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeRouteTablesResult{RouteTables: out, NextToken: next}, err
}

func (s *Server) associateRouteTable(c *api.Call, in *ec2.AssociateRouteTableRequest) (*ec2.AssociateRouteTableResult, error) {
	if err := unsupported("GatewayId", in.GatewayId != nil, "PublicIpv4Pool", in.PublicIpv4Pool != nil); err != nil {
		return nil, err
	}
	id, err := tableIDs.need("routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	sn, err := subnetIDs.need("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	var assoc string
	err = c.Update(func(w *store.WriteTx) error {
		assoc, err = network.AssociateRouteTable(w, c.Scope(), id, sn)
		return err
	})
	return &ec2.AssociateRouteTableResult{AssociationId: ptr(assoc), AssociationState: associated}, err
}

func (s *Server) disassociateRouteTable(c *api.Call, in *ec2.DisassociateRouteTableRequest) (*ec2.DisassociateRouteTableOutput, error) {
	id, err := need("associationId", in.AssociationId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DisassociateRouteTable(w, c.Scope(), id) })
}

func (s *Server) replaceRouteTableAssociation(c *api.Call, in *ec2.ReplaceRouteTableAssociationRequest) (*ec2.ReplaceRouteTableAssociationResult, error) {
	assoc, err := need("associationId", in.AssociationId)
	if err != nil {
		return nil, err
	}
	id, err := tableIDs.need("routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	err = c.Update(func(w *store.WriteTx) error {
		assoc, err = network.ReplaceRouteTableAssociation(w, c.Scope(), assoc, id)
		return err
	})
	return &ec2.ReplaceRouteTableAssociationResult{NewAssociationId: ptr(assoc), AssociationState: associated}, err
}

func (s *Server) createRoute(c *api.Call, in *ec2.CreateRouteRequest) (*ec2.CreateRouteResult, error) {
	if err := unsupported("CarrierGatewayId", in.CarrierGatewayId != nil, "CoreNetworkArn", in.CoreNetworkArn != nil, "DestinationIpv6CidrBlock", in.DestinationIpv6CidrBlock != nil,
		"DestinationPrefixListId", in.DestinationPrefixListId != nil, "EgressOnlyInternetGatewayId", in.EgressOnlyInternetGatewayId != nil, "LocalGatewayId", in.LocalGatewayId != nil,
		"OdbNetworkArn", in.OdbNetworkArn != nil, "TransitGatewayId", in.TransitGatewayId != nil, "VpcEndpointId", in.VpcEndpointId != nil, "VpcPeeringConnectionId", in.VpcPeeringConnectionId != nil); err != nil {
		return nil, err
	}
	id, err := tableIDs.need("routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	cidr, err := need("destinationCidrBlock", in.DestinationCidrBlock)
	if err != nil {
		return nil, err
	}
	r := network.Route{DestinationCIDR: cidr, GatewayID: api.Val(in.GatewayId), InstanceID: api.Val(in.InstanceId), NetworkInterfaceID: api.Val(in.NetworkInterfaceId), NatGatewayID: api.Val(in.NatGatewayId)}
	err = c.Update(func(w *store.WriteTx) error { return network.CreateRoute(w, c.Scope(), id, r) })
	return &ec2.CreateRouteResult{Return: ptr(true)}, err
}

func (s *Server) replaceRoute(c *api.Call, in *ec2.ReplaceRouteRequest) (*ec2.ReplaceRouteOutput, error) {
	if err := unsupported("CarrierGatewayId", in.CarrierGatewayId != nil, "CoreNetworkArn", in.CoreNetworkArn != nil, "DestinationIpv6CidrBlock", in.DestinationIpv6CidrBlock != nil,
		"DestinationPrefixListId", in.DestinationPrefixListId != nil, "EgressOnlyInternetGatewayId", in.EgressOnlyInternetGatewayId != nil, "LocalGatewayId", in.LocalGatewayId != nil,
		"OdbNetworkArn", in.OdbNetworkArn != nil, "TransitGatewayId", in.TransitGatewayId != nil, "VpcEndpointId", in.VpcEndpointId != nil, "VpcPeeringConnectionId", in.VpcPeeringConnectionId != nil, "LocalTarget", api.Val(in.LocalTarget)); err != nil {
		return nil, err
	}
	id, err := tableIDs.need("routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	cidr, err := need("destinationCidrBlock", in.DestinationCidrBlock)
	if err != nil {
		return nil, err
	}
	r := network.Route{DestinationCIDR: cidr, GatewayID: api.Val(in.GatewayId), InstanceID: api.Val(in.InstanceId), NetworkInterfaceID: api.Val(in.NetworkInterfaceId), NatGatewayID: api.Val(in.NatGatewayId)}
	return nil, c.Update(func(w *store.WriteTx) error { return network.ReplaceRoute(w, c.Scope(), id, r) })
}

func (s *Server) deleteRoute(c *api.Call, in *ec2.DeleteRouteRequest) (*ec2.DeleteRouteOutput, error) {
	if err := unsupported("DestinationIpv6CidrBlock", in.DestinationIpv6CidrBlock != nil, "DestinationPrefixListId", in.DestinationPrefixListId != nil); err != nil {
		return nil, err
	}
	id, err := tableIDs.need("routeTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	cidr, err := need("destinationCidrBlock", in.DestinationCidrBlock)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DeleteRoute(w, c.Scope(), id, cidr) })
}

type igw = ec2.InternetGateway

var gatewayListing = listing[network.InternetGateway, igw]{
	table: network.InternetGateways, ids: gatewayIDs, id: func(v network.InternetGateway) string { return v.ID }, convert: describeInternetGateway,
	kind: describe.Kind[igw]{IDs: "internetGatewayIdSet", Min: 5, Max: 1000, Tags: eachTag(func(v *igw) []ec2.Tag { return v.Tags }), Filters: attrs[igw]{
		"attachment.state":    each(func(v *igw) []ec2.InternetGatewayAttachment { return v.Attachments }, func(a *ec2.InternetGatewayAttachment) []string { return texts(a.State) }),
		"attachment.vpc-id":   each(func(v *igw) []ec2.InternetGatewayAttachment { return v.Attachments }, func(a *ec2.InternetGatewayAttachment) []string { return texts(a.VpcId) }),
		"internet-gateway-id": field(func(v *igw) *string { return v.InternetGatewayId }), "owner-id": field(func(v *igw) *string { return v.OwnerId }),
	}},
}

func describeInternetGateway(tx store.Tx, g network.InternetGateway) ec2.InternetGateway {
	out := ec2.InternetGateway{InternetGatewayId: ptr(g.ID), OwnerId: ptr(g.Account), Attachments: []ec2.InternetGatewayAttachment{}, Tags: tagsOf(tx, g.Scope, g.ID)}
	if g.VpcID != "" {
		out.Attachments = append(out.Attachments, ec2.InternetGatewayAttachment{VpcId: ptr(g.VpcID), State: ptr("available")})
	}
	return out
}

func (s *Server) createInternetGateway(c *api.Call, in *ec2.CreateInternetGatewayRequest) (*ec2.CreateInternetGatewayResult, error) {
	var out ec2.InternetGateway
	err := c.Update(func(w *store.WriteTx) error {
		g, err := network.CreateInternetGateway(w, c.Scope())
		if err != nil {
			return err
		}
		if err := tagged(w, c.Scope(), g.ID, "internet-gateway", in.TagSpecifications); err != nil {
			return err
		}
		out = describeInternetGateway(w, g)
		return nil
	})
	return &ec2.CreateInternetGatewayResult{InternetGateway: &out}, err
}

func gatewayAndVpc(igwID, vpcID *string) (string, string, error) {
	id, err := gatewayIDs.need("internetGatewayId", igwID)
	if err != nil {
		return "", "", err
	}
	v, err := vpcIDs.need("vpcId", vpcID)
	return id, v, err
}

func (s *Server) attachInternetGateway(c *api.Call, in *ec2.AttachInternetGatewayRequest) (*ec2.AttachInternetGatewayOutput, error) {
	id, v, err := gatewayAndVpc(in.InternetGatewayId, in.VpcId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.AttachInternetGateway(w, c.Scope(), id, v) })
}

func (s *Server) detachInternetGateway(c *api.Call, in *ec2.DetachInternetGatewayRequest) (*ec2.DetachInternetGatewayOutput, error) {
	id, v, err := gatewayAndVpc(in.InternetGatewayId, in.VpcId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DetachInternetGateway(w, c.Scope(), id, v) })
}

func (s *Server) deleteInternetGateway(c *api.Call, in *ec2.DeleteInternetGatewayRequest) (*ec2.DeleteInternetGatewayOutput, error) {
	id, err := gatewayIDs.need("internetGatewayId", in.InternetGatewayId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return network.DeleteInternetGateway(w, c.Scope(), id) })
}

func (s *Server) describeInternetGateways(c *api.Call, in *ec2.DescribeInternetGatewaysRequest) (*ec2.DescribeInternetGatewaysResult, error) {
	out, next, err := gatewayListing.describe(c, in.InternetGatewayIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeInternetGatewaysResult{InternetGateways: out, NextToken: next}, err
}
