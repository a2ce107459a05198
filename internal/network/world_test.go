package network

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

var here = scope.Scope{Account: "000000000000", Region: "us-east-1"}

// world is a store in memory with a pool of public addresses.
type world struct {
	*testing.T
	db *store.DB
}

func newWorld(t *testing.T, pool string) *world {
	t.Helper()
	db, err := store.Open("", store.Options{Clock: func() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }, Rand: rand.NewChaCha8([32]byte{3})})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, db}
	w.write(func(tx *store.WriteTx) error { return SetPublicPool(tx, netip.MustParsePrefix(pool)) })
	return w
}

func (w *world) write(fn func(*store.WriteTx) error) {
	w.Helper()
	if err := w.db.Update(fn); err != nil {
		w.Fatal(err)
	}
}

// wants runs fn and compares its error's code; a refused change must leave nothing.
func (w *world) wants(what, code string, fn func(*store.WriteTx) error) {
	w.Helper()
	err := w.db.Update(fn)
	got := ""
	if f, ok := fault.As(err); ok {
		got = f.Code
	} else if err != nil {
		got = err.Error()
	}
	if got != code {
		w.Errorf("%s: %v, want %q", what, err, code)
	}
}

func (w *world) vpc(cidr string) VPC {
	w.Helper()
	var v VPC
	w.write(func(tx *store.WriteTx) (err error) { v, err = CreateVPC(tx, here, VPCParams{CIDR: cidr}); return err })
	return v
}

func (w *world) subnet(v VPC, cidr string) Subnet {
	w.Helper()
	var sn Subnet
	w.write(func(tx *store.WriteTx) (err error) {
		sn, err = CreateSubnet(tx, here, SubnetParams{VpcID: v.ID, CIDR: cidr, AvailabilityZone: "us-east-1b"})
		return err
	})
	return sn
}

func (w *world) group(v VPC, name string) SecurityGroup {
	w.Helper()
	var g SecurityGroup
	w.write(func(tx *store.WriteTx) (err error) { g, err = CreateGroup(tx, here, v.ID, name, name); return err })
	return g
}

func (w *world) gateway(v VPC) InternetGateway {
	w.Helper()
	var g InternetGateway
	w.write(func(tx *store.WriteTx) (err error) {
		if g, err = CreateInternetGateway(tx, here); err != nil {
			return err
		}
		return AttachInternetGateway(tx, here, g.ID, v.ID)
	})
	return g
}

func (w *world) eni(sn Subnet, p ENIParams) ENI {
	w.Helper()
	p.SubnetID = sn.ID
	var e ENI
	w.write(func(tx *store.WriteTx) (err error) { e, err = AllocateENI(tx, here, p); return err })
	return e
}

func count[T any](seq func(func(T) bool)) int {
	n := 0
	for range seq {
		n++
	}
	return n
}

// empty checks that no record of any table is left but the region's own DHCP options and the pool.
func (w *world) empty() {
	w.Helper()
	tx := w.db.Read()
	for name, n := range map[string]int{"VPCs": count(VPCs.All(tx)), "subnets": count(Subnets.All(tx)), "route tables": count(RouteTables.All(tx)), "gateways": count(InternetGateways.All(tx)), "addresses": count(Addresses.All(tx)),
		"interfaces": count(ENIs.All(tx)), "groups": count(SecurityGroups.All(tx)), "ACLs": count(NetworkACLs.All(tx)), "public addresses": count(PublicAddresses.All(tx)), "tags": count(tag.Tags.All(tx))} {
		if n != 0 {
			w.Errorf("%d %s are left", n, name)
		}
	}
}
