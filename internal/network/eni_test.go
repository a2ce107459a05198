package network

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"skerry/internal/store"
)

func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v := w.vpc("10.0.0.0/16")
	sn := w.subnet(v, "10.0.0.0/28")
	take := func(ip string) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error {
			_, err := AllocateENI(tx, here, ENIParams{SubnetID: sn.ID, PrivateIP: ip})
			return err
		}
	}
	for _, c := range [][2]string{{"10.0.0.7", ""}, {"10.0.0.7", "InvalidIPAddress.InUse"}, {"10.0.0.0", "InvalidParameterValue"}, {"10.0.0.1", "InvalidParameterValue"}, {"10.0.0.3", "InvalidParameterValue"},
		{"10.0.0.15", "InvalidParameterValue"}, {"10.0.0.16", "InvalidParameterValue"}, {"::1", "InvalidParameterValue"}, {"seven", "InvalidParameterValue"}} {
		w.wants(c[0], c[1], take(c[0]))
	}
	for range 10 { // 16 less 5 reserved less the one taken
		w.wants("any", "", take(""))
	}
	w.wants("one more", "InsufficientFreeAddressesInSubnet", take(""))
	w.wants("unknown subnet", "InvalidSubnetID.NotFound", func(tx *store.WriteTx) error {
		_, err := AllocateENI(tx, here, ENIParams{SubnetID: "subnet-1"})
		return err
	})
}

func TestAddressesRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	sn := w.subnet(w.vpc("10.0.0.0/16"), "10.0.0.0/24")
	first := w.eni(sn, ENIParams{Public: true})
	w.write(func(tx *store.WriteTx) error { return ReleaseENI(tx, here, first.ID) })
	if e := w.eni(sn, ENIParams{Public: true}); e.PrivateIP == first.PrivateIP || e.PublicIP == first.PublicIP {
		t.Errorf("%s and %s were given out again at once", e.PrivateIP, e.PublicIP)
	}
}

func TestAttachment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	sn := w.subnet(w.vpc("10.0.0.0/16"), "10.0.0.0/24")
	primary, second := w.eni(sn, ENIParams{InstanceID: "i-1"}), w.eni(sn, ENIParams{})
	lb := w.eni(sn, ENIParams{RequesterID: "amazon-elb"})
	attach := func(id string, index int) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error { _, err := AttachENI(tx, here, id, "i-1", index); return err }
	}
	w.wants("the same index", "InvalidParameterValue", attach(second.ID, 0))
	w.wants("attach", "", attach(second.ID, 1))
	w.wants("twice", "InvalidNetworkInterface.InUse", attach(second.ID, 2))
	w.wants("delete attached", "InvalidParameterValue", func(tx *store.WriteTx) error { return DeleteENI(tx, here, second.ID) })
	detach := func(e ENI) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error {
			e, err := GetENI(tx, here, e.ID)
			if err != nil {
				return err
			}
			return DetachENI(tx, here, e.AttachmentID)
		}
	}
	w.wants("primary", "OperationNotPermitted", detach(primary))
	w.wants("a service's", "OperationNotPermitted", detach(lb))
	w.wants("second", "", detach(second))
	w.wants("no attachment", "InvalidAttachmentID.NotFound", func(tx *store.WriteTx) error { return DetachENI(tx, here, "eni-attach-1") })
	w.wants("delete", "", func(tx *store.WriteTx) error { return DeleteENI(tx, here, second.ID) })
}

func TestGroupsOfAnInterface(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v, other := w.vpc("10.0.0.0/16"), w.vpc("10.0.0.0/16")
	sn := w.subnet(v, "10.0.0.0/24")
	e := w.eni(sn, ENIParams{})
	if len(e.GroupIDs) != 1 || e.GroupIDs[0] != v.DefaultGroupID {
		t.Errorf("%v", e.GroupIDs)
	}
	var ids []string
	for n := range MaxGroupsPerENI + 1 {
		ids = append(ids, w.group(v, fmt.Sprint("g", n)).ID)
	}
	set := func(ids ...string) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error { _, err := SetGroups(tx, here, e.ID, ids); return err }
	}
	w.wants("too many", "SecurityGroupsPerInterfaceLimitExceeded", set(ids...))
	w.wants("another VPC's", "InvalidParameter", set(other.DefaultGroupID))
	w.wants("two, one twice", "", set(ids[0], ids[1], ids[0]))
	if e, _ = GetENI(w.db.Read(), here, e.ID); !slices.Equal(e.GroupIDs, ids[:2]) {
		t.Errorf("%v", e.GroupIDs)
	}
}

func TestElasticAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v := w.vpc("10.0.0.0/16")
	sn := w.subnet(v, "10.0.0.0/24")
	a, b := w.eni(sn, ENIParams{InstanceID: "i-1", Public: true}), w.eni(sn, ENIParams{InstanceID: "i-2"})
	var eip, two Address
	w.write(func(tx *store.WriteTx) (err error) {
		if eip, err = AllocateAddress(tx, here); err != nil {
			return err
		}
		two, err = AllocateAddress(tx, here)
		return err
	})
	tie := func(id, eni string, again bool) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error { _, err := AssociateAddress(tx, here, id, eni, again); return err }
	}
	w.wants("without a gateway", "Gateway.NotAttached", tie(eip.AllocationID, a.ID, true))
	w.gateway(v)
	w.wants("tie", "", tie(eip.AllocationID, a.ID, false))
	now := func(id string) ENI { e, _ := GetENI(w.db.Read(), here, id); return e }
	if e := now(a.ID); e.PublicIP != eip.PublicIP || e.AllocationID != eip.AllocationID {
		t.Errorf("%+v", e)
	}
	if _, ok := PublicAddresses.Get(w.db.Read(), a.PublicIP); ok {
		t.Error("the address of the pool was not given back")
	}
	w.wants("to another", "Resource.AlreadyAssociated", tie(eip.AllocationID, b.ID, false))
	w.wants("a second one", "Resource.AlreadyAssociated", tie(two.AllocationID, a.ID, false))
	w.wants("moved", "", tie(eip.AllocationID, b.ID, true))
	if now(a.ID).PublicIP != "" || now(b.ID).PublicIP != eip.PublicIP {
		t.Errorf("%+v %+v", now(a.ID), now(b.ID))
	}
	w.wants("release in use", "InvalidIPAddress.InUse", func(tx *store.WriteTx) error { return ReleaseAddress(tx, here, eip.AllocationID) })
	w.write(func(tx *store.WriteTx) error { GiveAutoPublic(tx, now(b.ID)); return nil })
	if now(b.ID).PublicIP != eip.PublicIP {
		t.Error("a stop takes an elastic address away")
	}
	w.write(func(tx *store.WriteTx) error { return ReleaseENI(tx, here, b.ID) })
	if got, err := GetAddress(w.db.Read(), here, eip.AllocationID); err != nil || got.AssociationID != "" || got.InstanceID != "" {
		t.Errorf("an elastic address outlives the interface: %+v %v", got, err)
	}
	w.wants("untie none", "InvalidAssociationID.NotFound", func(tx *store.WriteTx) error { _, err := DisassociateAddress(tx, here, "eipassoc-1"); return err })
	w.wants("release", "", func(tx *store.WriteTx) error { return ReleaseAddress(tx, here, eip.AllocationID) })
	w.wants("release twice", "InvalidAllocationID.NotFound", func(tx *store.WriteTx) error { return ReleaseAddress(tx, here, eip.AllocationID) })
	// the interface that wants an address of the pool gets one at the next start
	w.write(func(tx *store.WriteTx) error { _, err := TakeAutoPublic(tx, now(a.ID)); return err })
	if now(a.ID).PublicIP == "" {
		t.Error("no address of the pool")
	}
}

func TestPublicPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/29")
	if a, ok := DNSAddress(w.db.Read()); !ok || a.String() != "127.99.0.1" {
		t.Errorf("%s", a)
	}
	var got []string
	for range 5 {
		w.write(func(tx *store.WriteTx) error {
			a, err := AllocateAddress(tx, here)
			got = append(got, a.PublicIP)
			return err
		})
	}
	if want := []string{"127.99.0.2", "127.99.0.3", "127.99.0.4", "127.99.0.5", "127.99.0.6"}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	w.wants("one more", "InsufficientAddressCapacity", func(tx *store.WriteTx) error { _, err := AllocateAddress(tx, here); return err })
	w.wants("a pool beside it", "IncorrectState", func(tx *store.WriteTx) error { return SetPublicPool(tx, netip.MustParsePrefix("127.98.0.0/16")) })
	w.wants("a pool around it", "", func(tx *store.WriteTx) error { return SetPublicPool(tx, netip.MustParsePrefix("127.99.0.0/16")) })
	w.wants("one more", "", func(tx *store.WriteTx) error { _, err := AllocateAddress(tx, here); return err })
	for _, p := range []string{"127.99.0.0/30", "fd00::/64"} {
		w.wants(p, "InvalidParameterValue", func(tx *store.WriteTx) error { return SetPublicPool(tx, netip.MustParsePrefix(p)) })
	}
}

func TestFronts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/29") // five addresses
	take := func(holder string) (ip string) {
		t.Helper()
		w.write(func(tx *store.WriteTx) (err error) { ip, err = TakeFront(tx, here, holder); return err })
		return ip
	}
	a, b := take("arn:a"), take("arn:b")
	if a == b || take("arn:a") != a {
		t.Errorf("fronts %s and %s; and for the first again %s", a, b, take("arn:a"))
	}
	if f, ok := Front(w.db.Read(), "arn:b"); !ok || f.IP != b {
		t.Errorf("front of b: %+v", f)
	}
	seen := map[string]bool{a: true, b: true}
	for range 3 {
		w.write(func(tx *store.WriteTx) error {
			x, err := AllocateAddress(tx, here)
			seen[x.PublicIP] = true
			return err
		})
	}
	if len(seen) != 5 {
		t.Errorf("addresses with two owners: %v", seen)
	}
	w.wants("one more", "InsufficientAddressCapacity", func(tx *store.WriteTx) error { _, err := TakeFront(tx, here, "arn:c"); return err })
	w.wants("a pool beside it", "IncorrectState", func(tx *store.WriteTx) error { return SetPublicPool(tx, netip.MustParsePrefix("127.98.0.0/29")) })
	w.write(func(tx *store.WriteTx) error { GiveFront(tx, "arn:a"); GiveFront(tx, "arn:z"); return nil })
	if n := count(Fronts(w.db.Read())); n != 1 {
		t.Errorf("%d fronts after one of two was given back", n)
	}
	if c := take("arn:c"); c != a {
		t.Errorf("%s was given, only %s was free", c, a)
	}
}

// TestAddressAccounting allocates, ties, unties and releases at random in small ranges, and after each step checks that
// no address has two owners, that the counts are right, and that nothing is lost.
func TestAddressAccounting(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		w := newWorld(t, "127.99.0.0/28")
		v := w.vpc("10.0.0.0/16")
		w.gateway(v)
		subnets := []Subnet{w.subnet(v, "10.0.0.0/28"), w.subnet(v, "10.0.1.0/28")}
		r := rand.New(rand.NewPCG(seed, 1))
		refused := 0
		for step := range 300 {
			if w.db.Update(func(tx *store.WriteTx) error { return randomAddressStep(tx, r, subnets) }) != nil {
				refused++
			}
			checkAddresses(w, subnets, fmt.Sprintf("seed %d, step %d", seed, step))
			if t.Failed() {
				return
			}
		}
		if refused == 0 {
			t.Errorf("seed %d: the ranges never ran out", seed)
		}
	}
}

func randomAddressStep(tx *store.WriteTx, r *rand.Rand, subnets []Subnet) error {
	enis, eips := slices.Collect(ENIs.All(tx)), slices.Collect(Addresses.All(tx))
	switch k := r.IntN(10); {
	case k < 4 || len(enis) == 0:
		sn := subnets[r.IntN(len(subnets))]
		ip := ""
		if r.IntN(3) == 0 {
			ip = nth(sn.Prefix(), uint32(r.IntN(16))).String()
		}
		_, err := AllocateENI(tx, here, ENIParams{SubnetID: sn.ID, PrivateIP: ip, Public: r.IntN(2) == 0, InstanceID: fmt.Sprint("i-", r.IntN(1000))})
		return err
	case k == 4:
		_, err := AllocateAddress(tx, here)
		return err
	case k == 5 && len(eips) > 0:
		return ReleaseAddress(tx, here, eips[r.IntN(len(eips))].AllocationID)
	case k == 6 && len(eips) > 0:
		_, err := AssociateAddress(tx, here, eips[r.IntN(len(eips))].AllocationID, enis[r.IntN(len(enis))].ID, r.IntN(2) == 0)
		return err
	case k == 7 && len(eips) > 0:
		_, err := DisassociateAddress(tx, here, eips[r.IntN(len(eips))].AssociationID)
		return err
	case k == 8:
		GiveAutoPublic(tx, enis[r.IntN(len(enis))])
		_, err := TakeAutoPublic(tx, enis[r.IntN(len(enis))])
		return err
	}
	return ReleaseENI(tx, here, enis[r.IntN(len(enis))].ID)
}

func checkAddresses(w *world, subnets []Subnet, at string) {
	w.Helper()
	tx := w.db.Read()
	private, public, used := map[string]bool{}, map[string]bool{}, map[string]int{}
	for e := range ENIs.All(tx) {
		if private[e.SubnetID+e.PrivateIP] {
			w.Errorf("%s: %s has two owners", at, e.PrivateIP)
		}
		private[e.SubnetID+e.PrivateIP] = true
		used[e.SubnetID]++
		if e.PublicIP == "" {
			continue
		}
		if public[e.PublicIP] {
			w.Errorf("%s: %s has two owners", at, e.PublicIP)
		}
		public[e.PublicIP] = true
		if e.AssociationID != "" {
			if a, err := GetAddress(tx, here, e.AllocationID); err != nil || a.NetworkInterfaceID != e.ID || a.PublicIP != e.PublicIP || a.AssociationID != e.AssociationID {
				w.Errorf("%s: %s does not know its interface: %+v %v", at, e.PublicIP, a, err)
			}
		}
	}
	for a := range Addresses.All(tx) {
		if a.NetworkInterfaceID == "" {
			public[a.PublicIP] = true
		} else if e, err := GetENI(tx, here, a.NetworkInterfaceID); err != nil || e.AllocationID != a.AllocationID {
			w.Errorf("%s: %s is tied to %+v %v", at, a.PublicIP, e, err)
		}
	}
	if n := count(PublicAddresses.All(tx)); n != len(public) {
		w.Errorf("%s: %d public addresses are in use, %d have owners", at, n, len(public))
	}
	for _, sn := range subnets {
		if s, _ := GetSubnet(tx, here, sn.ID); s.InUse != used[sn.ID] {
			w.Errorf("%s: %s counts %d, there are %d", at, sn.ID, s.InUse, used[sn.ID])
		}
	}
}
