package network

import (
	"testing"

	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

func TestVPCRanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	for cidr, code := range map[string]string{"10.0.0.0/16": "", "10.1.2.3/28": "", "10.0.0.0/15": "InvalidVpc.Range", "10.0.0.0/29": "InvalidVpc.Range", "10.0.0.0": "InvalidParameterValue", "fd00::/16": "InvalidParameterValue",
		"": "InvalidParameterValue", "127.0.0.0/16": "InvalidVpc.Range", "169.254.0.0/20": "InvalidVpc.Range", "100.64.0.0/16": "InvalidVpc.Range", "240.0.0.0/16": "InvalidVpc.Range"} {
		w.wants(cidr, code, func(tx *store.WriteTx) error { _, err := CreateVPC(tx, here, VPCParams{CIDR: cidr}); return err })
	}
	w.wants("tenancy", "InvalidParameterValue", func(tx *store.WriteTx) error {
		_, err := CreateVPC(tx, here, VPCParams{CIDR: "10.0.0.0/16", Tenancy: "mine"})
		return err
	})
	index := map[uint32]bool{}
	for v := range VPCs.All(w.db.Read()) {
		if index[v.Index] || v.Index == 0 {
			t.Errorf("index %d", v.Index)
		}
		index[v.Index] = true
		if v.CIDR == "10.1.2.3/28" {
			t.Error("host bits were kept")
		}
	}
}

func TestSubnets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v := w.vpc("10.0.0.0/16")
	sn := w.subnet(v, "10.0.1.0/24")
	if sn.Available() != 251 || sn.Gateway().String() != "10.0.1.1" || sn.NetworkACLID != v.DefaultACLID {
		t.Errorf("%+v", sn)
	}
	for cidr, code := range map[string]string{"10.0.1.0/24": "InvalidSubnet.Conflict", "10.0.0.0/16": "InvalidSubnet.Conflict", "10.0.1.128/25": "InvalidSubnet.Conflict", "10.1.0.0/24": "InvalidSubnet.Range",
		"10.0.0.0/15": "InvalidSubnet.Range", "10.0.2.0/29": "InvalidSubnet.Range", "x": "InvalidParameterValue"} {
		w.wants(cidr, code, func(tx *store.WriteTx) error {
			_, err := CreateSubnet(tx, here, SubnetParams{VpcID: v.ID, CIDR: cidr})
			return err
		})
	}
	w.wants("zone", "InvalidParameterValue", func(tx *store.WriteTx) error {
		_, err := CreateSubnet(tx, here, SubnetParams{VpcID: v.ID, CIDR: "10.0.9.0/24", AvailabilityZone: "eu-west-1a"})
		return err
	})
	w.wants("VPC", "InvalidVpcID.NotFound", func(tx *store.WriteTx) error {
		_, err := CreateSubnet(tx, here, SubnetParams{VpcID: "vpc-1", CIDR: "10.0.9.0/24"})
		return err
	})
	w.wants("of another region", "InvalidVpcID.NotFound", func(tx *store.WriteTx) error {
		_, err := CreateSubnet(tx, scope.Scope{Account: here.Account, Region: "eu-west-1"}, SubnetParams{VpcID: v.ID, CIDR: "10.0.9.0/24"})
		return err
	})
}

func TestDeletionOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v := w.vpc("10.0.0.0/16")
	sn, g, igw := w.subnet(v, "10.0.0.0/24"), w.group(v, "g"), w.gateway(v)
	e := w.eni(sn, ENIParams{GroupIDs: []string{g.ID}, Public: true})
	var rt RouteTable
	w.write(func(tx *store.WriteTx) (err error) {
		if rt, err = CreateRouteTable(tx, here, v.ID); err != nil {
			return err
		}
		if _, err := AssociateRouteTable(tx, here, rt.ID, sn.ID); err != nil {
			return err
		}
		for _, id := range []string{v.ID, sn.ID, g.ID, igw.ID, e.ID, rt.ID, v.DefaultGroupID, g.Rules[0].ID} {
			if err := tag.Set(tx, here, id, map[string]string{"a": "b"}); err != nil {
				return err
			}
		}
		return nil
	})
	steps := []struct {
		name string
		fn   func(*store.WriteTx) error
	}{
		{"interface", func(tx *store.WriteTx) error { return DeleteENI(tx, here, e.ID) }},
		{"group", func(tx *store.WriteTx) error { return DeleteGroup(tx, here, g.ID) }},
		{"subnet", func(tx *store.WriteTx) error { return DeleteSubnet(tx, here, sn.ID) }},
		{"route table", func(tx *store.WriteTx) error { return DeleteRouteTable(tx, here, rt.ID) }},
		{"detach", func(tx *store.WriteTx) error { return DetachInternetGateway(tx, here, igw.ID, v.ID) }},
		{"gateway", func(tx *store.WriteTx) error { return DeleteInternetGateway(tx, here, igw.ID) }},
		{"VPC", func(tx *store.WriteTx) error { return DeleteVPC(tx, here, v.ID) }},
	}
	for n := range steps {
		for _, later := range steps[n+1:] {
			if later.name == "route table" && n > 1 || later.name == "detach" && n > 0 || later.name == "subnet" && n > 0 || later.name == "VPC" && n == 5 {
				continue // independent of this step
			}
			w.wants(later.name+" before "+steps[n].name, "DependencyViolation", later.fn)
		}
		w.wants(steps[n].name, "", steps[n].fn)
	}
	w.empty()
}

func TestDefaultVPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	w.write(func(tx *store.WriteTx) error { return EnsureDefaultVPC(tx, here) })
	v, ok := DefaultVPC(w.db.Read(), here)
	if !ok || v.CIDR != "172.31.0.0/16" || !v.EnableDNSHostnames {
		t.Fatalf("%+v", v)
	}
	zones := map[string]string{}
	for sn := range Subnets.All(w.db.Read()) {
		if !sn.DefaultForAZ || !sn.MapPublicIPOnLaunch || sn.Available() != 4091 {
			t.Errorf("%+v", sn)
		}
		zones[sn.AvailabilityZone] = sn.ID
		if rt, ok := SubnetRouteTable(w.db.Read(), sn); !ok || len(rt.Routes) != 2 || !RouteActive(w.db.Read(), rt, rt.Routes[1]) {
			t.Errorf("routes of %s: %+v", sn.ID, rt)
		}
	}
	if len(zones) != 3 {
		t.Errorf("zones %v", zones)
	}
	w.wants("a second one", "DefaultVpcAlreadyExists", func(tx *store.WriteTx) error { _, err := CreateDefaultVPC(tx, here); return err })
	w.wants("a second default subnet", "DefaultSubnetAlreadyExistsInAvailabilityZone", func(tx *store.WriteTx) error { _, err := CreateDefaultSubnet(tx, here, "us-east-1a"); return err })
	w.write(func(tx *store.WriteTx) error { return DeleteSubnet(tx, here, zones["us-east-1b"]) })
	w.write(func(tx *store.WriteTx) error {
		sn, err := CreateDefaultSubnet(tx, here, "us-east-1b")
		if sn.CIDR != "172.31.16.0/20" {
			t.Errorf("%+v", sn)
		}
		return err
	})
	// a default VPC that its owner deleted does not come back
	w.write(func(tx *store.WriteTx) error {
		for sn := range Subnets.All(tx) {
			if err := DeleteSubnet(tx, here, sn.ID); err != nil {
				return err
			}
		}
		igw, _ := VPCGateway(tx, here, v.ID)
		if err := DetachInternetGateway(tx, here, igw.ID, v.ID); err != nil {
			return err
		}
		if err := DeleteVPC(tx, here, v.ID); err != nil {
			return err
		}
		return EnsureDefaultVPC(tx, here)
	})
	if _, ok := DefaultVPC(w.db.Read(), here); ok {
		t.Error("the default VPC came back")
	}
	w.wants("no default VPC", "DefaultVpcDoesNotExist", func(tx *store.WriteTx) error { _, err := CreateDefaultSubnet(tx, here, "us-east-1a"); return err })
}

func TestDhcpOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v := w.vpc("10.0.0.0/16")
	var d DhcpOptions
	w.write(func(tx *store.WriteTx) error {
		d = CreateDhcpOptions(tx, here, DhcpOptions{DomainName: "corp.test"})
		return AssociateDhcpOptions(tx, here, v.ID, d.ID)
	})
	w.wants("in use", "DependencyViolation", func(tx *store.WriteTx) error { return DeleteDhcpOptions(tx, here, d.ID) })
	w.wants("unknown", "InvalidDhcpOptionID.NotFound", func(tx *store.WriteTx) error { return AssociateDhcpOptions(tx, here, v.ID, "dopt-1") })
	w.write(func(tx *store.WriteTx) error { return AssociateDhcpOptions(tx, here, v.ID, "default") })
	w.wants("free", "", func(tx *store.WriteTx) error { return DeleteDhcpOptions(tx, here, d.ID) })
	w.wants("the region's own", "DependencyViolation", func(tx *store.WriteTx) error { return DeleteDhcpOptions(tx, here, v.DhcpOptionsID) })
}
