package scaling

import (
	"strings"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/store"
)

// TestARefreshThatKeepsAllLaunchesFirst: with a minimum of 100 % one replacement at a time comes before a member goes, also
// where the maximum is 100 %.
func TestARefreshThatKeepsAllLaunchesFirst(t *testing.T) {
	for _, n := range []int{1, 3} {
		w := newWorld(t, 1)
		w.create(settings(1, 10), n)
		w.run(2 * time.Second)
		w.newVersion()
		r := w.refresh(Preferences{MinHealthy: 100, MaxHealthy: 100, Warmup: 1}, nil)
		least, most := n, n
		for range 200 {
			w.now = w.now.Add(250 * time.Millisecond)
			w.step()
			least, most = min(least, len(w.in(InService))), max(most, len(w.in(InService))+len(w.in(Pending)))
		}
		if s := w.refreshed(r.ID); s.Status != RefreshSuccessful || least != n || most != n+1 || versions(w.in(InService)) != strings.Repeat("2", n) {
			t.Errorf("%d members: %s %s, %d to %d, versions %s", n, s.Status, s.Reason, least, most, versions(w.in(InService)))
		}
	}
}

func TestARefreshWithAConfigurationHoldsTheGroups(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 2)
	w.run(2 * time.Second)
	w.newVersion()
	update := func(edit func(*Group)) error {
		return w.db.Update(func(tx *store.WriteTx) error {
			_, err := w.e.UpdateGroup(tx, here, "g", nil, nil, nil, edit)
			return err
		})
	}
	pin := func(g *Group) { g.Template = &TemplateRef{ID: "lt-1", Version: "1"} }
	w.refresh(Preferences{MinHealthy: 50, Warmup: 600}, &TemplateRef{ID: "lt-1", Version: "2"})
	wantError(t, update(pin), "ValidationError", "An active instance refresh with a desired configuration exists. All configuration options derived from the desired configuration are not available for update while the instance refresh is active.")
	if err := update(func(g *Group) { g.GracePeriod = 5 }); err != nil {
		t.Errorf("what has nothing to do with it: %v", err)
	}
	w.must(func(tx *store.WriteTx) error { _, err := w.e.CancelRefresh(tx, here, "g", false); return err })
	w.refresh(Preferences{MinHealthy: 50, Warmup: 600}, nil)
	if err := update(pin); err != nil {
		t.Errorf("while a refresh without a configuration goes on: %v", err)
	}
}

func TestProtectionIsForMembersInServiceOrStandby(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 2), 1, Hook{Name: "up", Transition: LaunchHook, Heartbeat: 60})
	w.run(2 * time.Second)
	id := w.in(PendingWait)[0].ID
	err := w.db.Update(func(tx *store.WriteTx) error { return w.e.SetProtection(tx, here, "g", []string{id}, true) })
	wantError(t, err, "ValidationError", "The instance "+id+" is not in InService or EnteringStandby or Standby.")
}

func TestAWarmPoolOfSpotInstancesIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	w.must(func(tx *store.WriteTx) error {
		fakeTemplates.Put(tx, fakeTemplate{Scope: here, Template: Template{ID: "lt-2", Name: "spot", Spot: true}, Latest: 1, Default: 1})
		return nil
	})
	g := settings(1, 2)
	g.Template = &TemplateRef{ID: "lt-2"}
	w.create(g, 1)
	put := func() error {
		return w.db.Update(func(tx *store.WriteTx) error { return w.e.PutWarmPool(tx, here, "g", "", nil, nil, nil) })
	}
	update := func(id string) error {
		return w.db.Update(func(tx *store.WriteTx) error {
			_, err := w.e.UpdateGroup(tx, here, "g", nil, nil, nil, func(g *Group) { g.Template = &TemplateRef{ID: id} })
			return err
		})
	}
	wantError(t, put(), "ValidationError", "requests Spot Instances")
	if err := update("lt-1"); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	wantError(t, update("lt-2"), "ValidationError", "requests Spot Instances")
}

// TestAFullSubnetLeavesItsZone: another subnet of the zone is tried, before other zones are.
func TestAFullSubnetLeavesItsZone(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 20)
	g.Subnets = []string{"subnet-za", "subnet-za2", "subnet-zb"}
	w.full = map[string]bool{"subnet-za": true}
	w.create(g, 6)
	w.run(5 * time.Second)
	if z := zonesOf(w.in(InService)); z["za"] != 3 || z["zb"] != 3 {
		t.Errorf("in service %v", z)
	}
	delete(w.full, "subnet-za")
	w.run(20 * time.Second)
	w.desire(12)
	w.run(5 * time.Second)
	n := 0
	for _, m := range w.in(InService) {
		if m.SubnetID == "subnet-za" {
			n++
		}
	}
	if z := zonesOf(w.in(InService)); n != 3 || z["za"] != 6 || z["zb"] != 6 {
		t.Errorf("%d where there is room again, in all %v", n, z)
	}
}

// TestLaunchesThatAreAllAbandonedWait: one or two are replaced at once; a group whose launches all give up does not launch as
// fast as they do.
func TestLaunchesThatAreAllAbandonedWait(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 2), 1, Hook{Name: "up", Transition: LaunchHook, Heartbeat: 60})
	tries := 0
	for range 240 {
		for _, m := range w.in(PendingWait) {
			tries++
			w.must(func(tx *store.WriteTx) error { return w.e.Complete(tx, here, "g", "up", "", m.ID, "ABANDON") })
		}
		w.run(250 * time.Millisecond)
	}
	if tries < 3 || tries > 6 {
		t.Errorf("%d launches in a minute", tries)
	}
}

func TestAnAttachedMemberWeighsWhatItsTypeDoes(t *testing.T) {
	w := newWorld(t, 1)
	w.create(mixedGroup(0, 6, Distribution{OnDemand: Prioritized, Percent: 100, Spot: LowestPrice}, Override{InstanceType: "c5.large", Weight: 2}, Override{InstanceType: "m5.xlarge", Weight: 4}), 0)
	attach := func(id, typ string) error {
		return w.db.Update(func(tx *store.WriteTx) error {
			fakeInstances.Put(tx, fakeInstance{Scope: here, Instance: Instance{ID: id, State: "running", InstanceType: typ, Zone: "za", SubnetID: "subnet-za", LaunchTime: w.now}})
			return w.e.AttachInstances(tx, here, "g", []string{id})
		})
	}
	if err := attach("i-1", "m5.xlarge"); err != nil {
		t.Fatal(err)
	}
	w.run(2 * time.Second)
	if m := w.in(InService); len(m) != 1 || m[0].Weight != 4 || w.group().Desired != 4 {
		t.Errorf("desired %d, members %+v", w.group().Desired, m)
	}
	if err := attach("i-2", "m5.xlarge"); !fault.Is(err, fault.Invalid) {
		t.Errorf("more than the group may have: %v", err)
	}
}

// TestFailedChecksWaitForTheReplacement: the next member that fails is replaced when the one before has been, and the new one
// passes its own checks and is warm.
func TestFailedChecksWaitForTheReplacement(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(3, 8)
	g.Attachments, g.HealthCheckType, g.DefaultWarmup = []Attachment{{ARN: tgA}}, "ELB", ptr(20)
	w.create(g, 3)
	w.run(2 * time.Second)
	first := w.in(InService)
	for _, m := range first {
		w.setTarget(tgA, m.ID, "unhealthy")
	}
	left := func() (n int) {
		for _, m := range w.in(InService) {
			for _, f := range first {
				if f.ID == m.ID {
					n++
				}
			}
		}
		return n
	}
	w.run(60 * time.Second)
	if n := left(); n != 2 {
		t.Fatalf("%d are left while the replacement's target is initial", n)
	}
	for _, m := range w.in(InService) {
		if m.Replacement {
			w.setTarget(tgA, m.ID, "healthy")
		}
	}
	w.run(2 * time.Second)
	if n := left(); n != 1 {
		t.Fatalf("%d are left once it is healthy and warm", n)
	}
	w.run(10 * time.Second)
	for _, m := range w.in(InService) {
		if m.Replacement {
			w.setTarget(tgA, m.ID, "healthy")
		}
	}
	if w.run(5 * time.Second); left() != 1 {
		t.Fatalf("%d are left before the second replacement is warm", left())
	}
	if w.run(20 * time.Second); left() != 0 {
		t.Fatalf("%d are left", left())
	}
}

func TestAnInstanceOfAnotherVPCIsNotAttached(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(0, 6)
	g.Attachments = []Attachment{{ARN: tgA}}
	w.create(g, 0)
	err := w.db.Update(func(tx *store.WriteTx) error {
		fakeInstances.Put(tx, fakeInstance{Scope: here, Instance: Instance{ID: "i-1", State: "running", Zone: "za", SubnetID: "subnet-za", VpcID: "vpc-2", LaunchTime: w.now}})
		return w.e.AttachInstances(tx, here, "g", []string{"i-1"})
	})
	wantError(t, err, "ValidationError", "is not in the VPC")
}

func TestAReplacementTellsWhatItAnswers(t *testing.T) {
	for _, noticed := range []bool{true, false} {
		w := newWorld(t, 1)
		g := mixedGroup(0, 6, Distribution{OnDemand: Prioritized, Spot: LowestPrice, Pools: 2}, Override{InstanceType: "c5.large"})
		g.CapacityRebalance = true
		w.create(g, 1)
		w.run(2 * time.Second)
		w.must(func(tx *store.WriteTx) error {
			i, _ := fakeInstances.Get(tx, here.Key(w.in(InService)[0].ID))
			i.AtRisk, i.Interrupting = true, noticed
			fakeInstances.Put(tx, i)
			return nil
		})
		w.step()
		want := map[bool]string{true: "an instance was launched in response to a spot interruption notice.", false: "an instance was launched in response to an EC2 instance rebalance recommendation."}[noticed]
		if c := w.history()[0].Cause; !strings.HasSuffix(c, want) {
			t.Errorf("cause %q", c)
		}
	}
}
