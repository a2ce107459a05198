package network

import (
	"testing"

	"skerry/internal/store"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v, other := w.vpc("10.0.0.0/16"), w.vpc("10.0.0.0/16")
	igw, foreign := w.gateway(v), w.gateway(other)
	e := w.eni(w.subnet(v, "10.0.0.0/24"), ENIParams{InstanceID: "i-1"})
	add := func(r Route) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error { return CreateRoute(tx, here, v.MainRouteTableID, r) }
	}
	for _, c := range []struct {
		name string
		r    Route
		code string
	}{
		{"to the gateway", Route{DestinationCIDR: "0.0.0.0/0", GatewayID: igw.ID}, ""},
		{"twice", Route{DestinationCIDR: "0.0.0.0/0", GatewayID: igw.ID}, "RouteAlreadyExists"},
		{"host bits", Route{DestinationCIDR: "192.0.2.7/24", GatewayID: igw.ID}, ""},
		{"the same without", Route{DestinationCIDR: "192.0.2.0/24", GatewayID: igw.ID}, "RouteAlreadyExists"},
		{"to an instance", Route{DestinationCIDR: "198.51.100.0/24", InstanceID: "i-1"}, ""},
		{"to no instance", Route{DestinationCIDR: "203.0.113.0/24", InstanceID: "i-2"}, "InvalidInstanceID.NotFound"},
		{"to no gateway", Route{DestinationCIDR: "203.0.113.0/24", GatewayID: "igw-1"}, "InvalidInternetGatewayID.NotFound"},
		{"to another VPC's gateway", Route{DestinationCIDR: "203.0.113.0/24", GatewayID: foreign.ID}, "InvalidParameterValue"},
		{"to a NAT gateway", Route{DestinationCIDR: "203.0.113.0/24", NatGatewayID: "nat-1"}, "NatGatewayNotFound"},
		{"to nothing", Route{DestinationCIDR: "203.0.113.0/24"}, "InvalidParameterCombination"},
		{"to two", Route{DestinationCIDR: "203.0.113.0/24", GatewayID: igw.ID, NetworkInterfaceID: e.ID}, "InvalidParameterCombination"},
		{"inside the VPC", Route{DestinationCIDR: "10.0.7.0/24", GatewayID: igw.ID}, "InvalidParameterValue"},
		{"no range", Route{DestinationCIDR: "all", GatewayID: igw.ID}, "InvalidParameterValue"},
	} {
		w.wants(c.name, c.code, add(c.r))
	}
	w.wants("delete local", "InvalidParameterValue", func(tx *store.WriteTx) error { return DeleteRoute(tx, here, v.MainRouteTableID, "10.0.0.0/16") })
	w.wants("delete none", "InvalidRoute.NotFound", func(tx *store.WriteTx) error { return DeleteRoute(tx, here, v.MainRouteTableID, "203.0.113.0/24") })
	w.wants("replace", "", func(tx *store.WriteTx) error {
		return ReplaceRoute(tx, here, v.MainRouteTableID, Route{DestinationCIDR: "0.0.0.0/0", NetworkInterfaceID: e.ID})
	})
	w.wants("replace local", "InvalidParameterValue", func(tx *store.WriteTx) error {
		return ReplaceRoute(tx, here, v.MainRouteTableID, Route{DestinationCIDR: "10.0.0.0/16", GatewayID: igw.ID})
	})
	w.write(func(tx *store.WriteTx) error { return ReleaseENI(tx, here, e.ID) })
	t1, _ := GetRouteTable(w.db.Read(), here, v.MainRouteTableID)
	for _, r := range t1.Routes {
		if got, want := RouteActive(w.db.Read(), t1, r), r.NetworkInterfaceID == ""; got != want {
			t.Errorf("%+v is active: %v", r, got)
		}
	}
	w.write(func(tx *store.WriteTx) error { return DeleteRoute(tx, here, v.MainRouteTableID, "0.0.0.0/0") })
}

func TestRouteTableAssociations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v := w.vpc("10.0.0.0/16")
	sn := w.subnet(v, "10.0.0.0/24")
	of := func() string {
		rt, _ := SubnetRouteTable(w.db.Read(), sn)
		return rt.ID
	}
	if of() != v.MainRouteTableID {
		t.Error("a subnet without a table of its own obeys the main one")
	}
	var a, b RouteTable
	var assoc, again string
	w.write(func(tx *store.WriteTx) (err error) {
		a, _ = CreateRouteTable(tx, here, v.ID)
		b, _ = CreateRouteTable(tx, here, v.ID)
		if assoc, err = AssociateRouteTable(tx, here, a.ID, sn.ID); err != nil {
			return err
		}
		again, err = AssociateRouteTable(tx, here, a.ID, sn.ID)
		return err
	})
	if of() != a.ID || again != assoc {
		t.Errorf("%s %s %s", of(), assoc, again)
	}
	w.wants("tied elsewhere", "Resource.AlreadyAssociated", func(tx *store.WriteTx) error { _, err := AssociateRouteTable(tx, here, b.ID, sn.ID); return err })
	w.wants("in use", "DependencyViolation", func(tx *store.WriteTx) error { return DeleteRouteTable(tx, here, a.ID) })
	w.write(func(tx *store.WriteTx) (err error) {
		assoc, err = ReplaceRouteTableAssociation(tx, here, assoc, b.ID)
		return err
	})
	if of() != b.ID {
		t.Error("replaced")
	}
	w.write(func(tx *store.WriteTx) error { return DisassociateRouteTable(tx, here, assoc) })
	if of() != v.MainRouteTableID {
		t.Error("untied")
	}
	main, _ := GetRouteTable(w.db.Read(), here, v.MainRouteTableID)
	w.wants("untie main", "InvalidParameterValue", func(tx *store.WriteTx) error { return DisassociateRouteTable(tx, here, main.Associations[0].ID) })
	w.write(func(tx *store.WriteTx) error {
		_, err := ReplaceRouteTableAssociation(tx, here, main.Associations[0].ID, a.ID)
		return err
	})
	if of() != a.ID {
		t.Error("another main table")
	}
	w.wants("the old main one", "", func(tx *store.WriteTx) error { return DeleteRouteTable(tx, here, main.ID) })
}
