package network

import (
	"net/netip"
	"slices"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// GetRouteTable finds a route table by its id.
func GetRouteTable(tx store.Tx, s scope.Scope, id string) (RouteTable, error) {
	if v, ok := RouteTables.Get(tx, s.Key(id)); ok {
		return v, nil
	}
	return RouteTable{}, fault.New(fault.NotFound, "InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist", id)
}

// SubnetRouteTable is the table that a subnet obeys: its own or the VPC's main one.
func SubnetRouteTable(tx store.Tx, sn Subnet) (RouteTable, bool) {
	for t := range RouteTables.By(tx, "subnet", sn.Key(sn.ID)) {
		return t, true
	}
	v, ok := VPCs.Get(tx, sn.Key(sn.VpcID))
	if !ok {
		return RouteTable{}, false
	}
	return RouteTables.Get(tx, v.Key(v.MainRouteTableID))
}

// RouteActive tells whether a route's target is there; one that is not is a blackhole.
func RouteActive(tx store.Tx, t RouteTable, r Route) bool {
	switch {
	case r.GatewayID == "local":
		return true
	case r.GatewayID != "":
		g, ok := InternetGateways.Get(tx, t.Key(r.GatewayID))
		return ok && g.VpcID == t.VpcID
	case r.NetworkInterfaceID != "":
		e, ok := ENIs.Get(tx, t.Key(r.NetworkInterfaceID))
		return ok && e.AttachmentID != ""
	}
	return false
}

// CreateRouteTable makes a table with the local route.
func CreateRouteTable(w *store.WriteTx, s scope.Scope, vpcID string) (RouteTable, error) {
	v, err := GetVPC(w, s, vpcID)
	if err != nil {
		return RouteTable{}, err
	}
	n := 0
	for range RouteTables.By(w, "vpc", s.Key(vpcID)) {
		n++
	}
	if n >= MaxRouteTablesPerVPC {
		return RouteTable{}, fault.New(fault.Limit, "RouteTableLimitExceeded", "The maximum number of route tables has been reached.")
	}
	t := RouteTable{Scope: s, ID: w.NewID("rtb"), VpcID: vpcID, CreatedAt: w.Now(), Routes: []Route{{DestinationCIDR: v.CIDR, GatewayID: "local", Origin: "CreateRouteTable"}}}
	RouteTables.Put(w, t)
	return t, nil
}

// DeleteRouteTable deletes a table that is neither main nor associated.
func DeleteRouteTable(w *store.WriteTx, s scope.Scope, id string) error {
	t, err := GetRouteTable(w, s, id)
	if err != nil {
		return err
	}
	if len(t.Associations) > 0 {
		return fault.New(fault.Conflict, "DependencyViolation", "The routeTable '%s' has dependencies and cannot be deleted.", id)
	}
	RouteTables.Delete(w, s.Key(id))
	tag.DeleteAll(w, s, id)
	return nil
}

// AssociateRouteTable ties a subnet to a table. A subnet that is tied to another one already is refused.
func AssociateRouteTable(w *store.WriteTx, s scope.Scope, tableID, subnetID string) (string, error) {
	t, err := GetRouteTable(w, s, tableID)
	if err != nil {
		return "", err
	}
	sn, err := GetSubnet(w, s, subnetID)
	if err != nil {
		return "", err
	}
	if sn.VpcID != t.VpcID {
		return "", fault.New(fault.Invalid, "InvalidParameterValue", "Route table %s and subnet %s belong to different networks", tableID, subnetID)
	}
	for o := range RouteTables.By(w, "subnet", s.Key(subnetID)) {
		if o.ID != tableID {
			return "", fault.New(fault.Conflict, "Resource.AlreadyAssociated", "the specified association for route table %s conflicts with an existing association", tableID)
		}
		for _, a := range o.Associations {
			if a.SubnetID == subnetID {
				return a.ID, nil
			}
		}
	}
	a := RouteTableAssociation{ID: w.NewID("rtbassoc"), SubnetID: subnetID}
	t.Associations = append(slices.Clone(t.Associations), a)
	RouteTables.Put(w, t)
	return a.ID, nil
}

func findAssociation(tx store.Tx, s scope.Scope, id string) (RouteTable, RouteTableAssociation, error) {
	for t := range RouteTables.By(tx, "association", s.Key(id)) {
		for _, a := range t.Associations {
			if a.ID == id {
				return t, a, nil
			}
		}
	}
	return RouteTable{}, RouteTableAssociation{}, fault.New(fault.NotFound, "InvalidAssociationID.NotFound", "The association ID '%s' does not exist", id)
}

func withoutAssociation(t RouteTable, id string) RouteTable {
	t.Associations = slices.DeleteFunc(slices.Clone(t.Associations), func(a RouteTableAssociation) bool { return a.ID == id })
	return t
}

// DisassociateRouteTable unties a subnet, which then obeys the main table.
func DisassociateRouteTable(w *store.WriteTx, s scope.Scope, associationID string) error {
	t, a, err := findAssociation(w, s, associationID)
	if err != nil {
		return err
	}
	if a.Main {
		return fault.New(fault.Invalid, "InvalidParameterValue", "cannot disassociate the main route table association %s", associationID)
	}
	RouteTables.Put(w, withoutAssociation(t, associationID))
	return nil
}

// ReplaceRouteTableAssociation moves a subnet, or being main, to another table of the VPC.
func ReplaceRouteTableAssociation(w *store.WriteTx, s scope.Scope, associationID, tableID string) (string, error) {
	old, a, err := findAssociation(w, s, associationID)
	if err != nil {
		return "", err
	}
	t, err := GetRouteTable(w, s, tableID)
	if err != nil {
		return "", err
	}
	if t.VpcID != old.VpcID {
		return "", fault.New(fault.Invalid, "InvalidParameterValue", "Route table %s and association %s belong to different networks", tableID, associationID)
	}
	if t.ID == old.ID {
		return a.ID, nil
	}
	RouteTables.Put(w, withoutAssociation(old, associationID))
	a.ID = w.NewID("rtbassoc")
	t.Associations = append(slices.Clone(t.Associations), a)
	RouteTables.Put(w, t)
	if a.Main {
		v, err := GetVPC(w, s, t.VpcID)
		if err != nil {
			return "", err
		}
		v.MainRouteTableID = t.ID
		VPCs.Put(w, v)
	}
	return a.ID, nil
}

// checkTarget fills in and checks a route's target.
func checkTarget(tx store.Tx, t RouteTable, r Route) (Route, error) {
	n := 0
	for _, target := range []string{r.GatewayID, r.InstanceID, r.NetworkInterfaceID, r.NatGatewayID} {
		if target != "" {
			n++
		}
	}
	if n != 1 {
		return r, fault.New(fault.Invalid, "InvalidParameterCombination", "Exactly one route target must be specified.")
	}
	switch {
	case r.GatewayID == "local":
		return r, fault.New(fault.Unsupported, "InvalidParameterValue", "The local target can only be used for the VPC's own range.")
	case r.GatewayID != "":
		g, err := GetInternetGateway(tx, t.Scope, r.GatewayID)
		if err != nil {
			return r, err
		}
		if g.VpcID != t.VpcID {
			return r, fault.New(fault.Invalid, "InvalidParameterValue", "route table %s and network gateway %s belong to different networks", t.ID, g.ID)
		}
	case r.InstanceID != "":
		for e := range ENIs.By(tx, "instance", t.Key(r.InstanceID)) {
			if e.DeviceIndex == 0 {
				r.NetworkInterfaceID = e.ID
			}
		}
		if r.NetworkInterfaceID == "" {
			return r, fault.New(fault.NotFound, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", r.InstanceID)
		}
		fallthrough
	case r.NetworkInterfaceID != "":
		e, err := GetENI(tx, t.Scope, r.NetworkInterfaceID)
		if err != nil {
			return r, err
		}
		if e.VpcID != t.VpcID {
			return r, fault.New(fault.Invalid, "InvalidParameterValue", "route table %s and interface %s belong to different networks", t.ID, e.ID)
		}
		r.InstanceID = e.InstanceID
	default:
		return r, fault.New(fault.NotFound, "NatGatewayNotFound", "NatGateway %s was not found", r.NatGatewayID)
	}
	return r, nil
}

// CreateRoute adds a route.
func CreateRoute(w *store.WriteTx, s scope.Scope, tableID string, r Route) error {
	t, err := GetRouteTable(w, s, tableID)
	if err != nil {
		return err
	}
	p, err := ParseCIDR(r.DestinationCIDR, "destinationCidrBlock")
	if err != nil {
		return err
	}
	r.DestinationCIDR, r.Origin = p.String(), "CreateRoute"
	for _, o := range t.Routes {
		if o.DestinationCIDR == r.DestinationCIDR {
			return fault.New(fault.Exists, "RouteAlreadyExists", "The route identified by %s already exists", r.DestinationCIDR)
		}
		if o.GatewayID == "local" && moreSpecific(p, o.DestinationCIDR) {
			return fault.New(fault.Invalid, "InvalidParameterValue", "The destination CIDR block %s is equal to or more specific than one of this VPC's CIDR blocks. This route can target only an interface or an instance.", r.DestinationCIDR)
		}
	}
	if len(t.Routes) >= MaxRoutesPerTable {
		return fault.New(fault.Limit, "RouteLimitExceeded", "The maximum number of routes has been reached.")
	}
	if r, err = checkTarget(w, t, r); err != nil {
		return err
	}
	t.Routes = append(slices.Clone(t.Routes), r)
	RouteTables.Put(w, t)
	return nil
}

func moreSpecific(p netip.Prefix, of string) bool {
	o := netip.MustParsePrefix(of)
	return o.Contains(p.Addr()) && p.Bits() >= o.Bits()
}

func findRoute(t RouteTable, cidr string) (int, error) {
	p, err := ParseCIDR(cidr, "destinationCidrBlock")
	if err != nil {
		return 0, err
	}
	for i, r := range t.Routes {
		if r.DestinationCIDR == p.String() {
			return i, nil
		}
	}
	return 0, fault.New(fault.NotFound, "InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", cidr, t.ID)
}

// ReplaceRoute gives an existing route another target.
func ReplaceRoute(w *store.WriteTx, s scope.Scope, tableID string, r Route) error {
	t, err := GetRouteTable(w, s, tableID)
	if err != nil {
		return err
	}
	i, err := findRoute(t, r.DestinationCIDR)
	if err != nil {
		return err
	}
	if t.Routes[i].GatewayID == "local" {
		return fault.New(fault.Invalid, "InvalidParameterValue", "cannot replace local route %s in route table %s", r.DestinationCIDR, tableID)
	}
	r.DestinationCIDR, r.Origin = t.Routes[i].DestinationCIDR, "CreateRoute"
	if r, err = checkTarget(w, t, r); err != nil {
		return err
	}
	t.Routes = slices.Clone(t.Routes)
	t.Routes[i] = r
	RouteTables.Put(w, t)
	return nil
}

// DeleteRoute removes a route; the local one stays.
func DeleteRoute(w *store.WriteTx, s scope.Scope, tableID, cidr string) error {
	t, err := GetRouteTable(w, s, tableID)
	if err != nil {
		return err
	}
	i, err := findRoute(t, cidr)
	if err != nil {
		return err
	}
	if t.Routes[i].GatewayID == "local" {
		return fault.New(fault.Invalid, "InvalidParameterValue", "cannot remove local route %s in route table %s", cidr, tableID)
	}
	t.Routes = slices.Delete(slices.Clone(t.Routes), i, i+1)
	RouteTables.Put(w, t)
	return nil
}
