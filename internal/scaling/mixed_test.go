package scaling

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"skerry/internal/store"
)

func mixedGroup(lo, hi int, d Distribution, overrides ...Override) Group {
	g := settings(lo, hi)
	g.Template, g.Mixed = nil, &Mixed{Template: TemplateRef{ID: "lt-1"}, Overrides: overrides, Distribution: &d}
	return g
}

// bought counts capacity in service on demand and spot.
func (w *world) bought() (onDemand, spot int) {
	for _, m := range w.in(InService) {
		if m.Spot {
			spot += max(1, m.Weight)
		} else {
			onDemand += max(1, m.Weight)
		}
	}
	return onDemand, spot
}

func TestTheSplitOfAMixedPolicy(t *testing.T) {
	for _, c := range []struct{ base, percent, total, onDemand int }{{0, 100, 5, 5}, {0, 0, 5, 0}, {1, 50, 5, 3}, {1, 50, 6, 4}, {3, 0, 2, 2}, {2, 25, 10, 4}, {0, 34, 10, 4}} {
		m := &Mixed{Distribution: &Distribution{Base: c.base, Percent: c.percent}}
		if got := m.onDemand(c.total); got != c.onDemand {
			t.Errorf("%+v gives %d on demand", c, got)
		}
	}
	if (&Mixed{}).onDemand(7) != 7 {
		t.Error("without a distribution everything is on demand")
	}
	w := newWorld(t, 1)
	w.create(mixedGroup(0, 20, Distribution{OnDemand: Prioritized, Base: 1, Percent: 50, Spot: LowestPrice, Pools: 2}, Override{InstanceType: "c5.large"}, Override{InstanceType: "m5.large"}, Override{InstanceType: "t3.nano"}), 5)
	check := func(onDemand, spot int) {
		t.Helper()
		if a, b := w.bought(); a != onDemand || b != spot {
			t.Fatalf("on demand %d, spot %d", a, b)
		}
	}
	w.run(3 * time.Second)
	check(3, 2)
	for _, m := range w.in(InService) {
		if !m.Spot && m.InstanceType != "c5.large" || m.Spot && m.InstanceType == "m5.large" {
			t.Errorf("%+v", m)
		}
	}
	for _, c := range [][3]int{{10, 6, 4}, {4, 3, 1}, {2, 2, 0}, {1, 1, 0}, {9, 5, 4}} {
		w.desire(c[0])
		w.run(4 * time.Second)
		check(c[1], c[2])
	}
	// The two cheapest pools of each zone carry the spot instances.
	types := map[string]int{}
	for _, m := range w.in(InService) {
		if m.Spot {
			types[m.InstanceType]++
		}
	}
	if types["t3.nano"] != 2 || types["c5.large"] != 2 {
		t.Errorf("spot pools %v", types)
	}
}

func TestAChangedDistributionReplacesLaunchFirst(t *testing.T) {
	w := newWorld(t, 60)
	w.create(mixedGroup(0, 4, Distribution{OnDemand: Prioritized, Percent: 100, Spot: CapacityOptimized}, Override{InstanceType: "c5.large"}, Override{InstanceType: "m5.large"}), 4)
	w.run(3 * time.Second)
	w.must(func(tx *store.WriteTx) error {
		_, err := w.e.UpdateGroup(tx, here, "g", nil, nil, nil, func(g *Group) {
			m := *g.Mixed
			d := *m.Distribution
			d.Base, d.Percent = 1, 0
			m.Distribution = &d
			g.Mixed = &m
		})
		return err
	})
	for end := w.now.Add(20 * time.Second); w.now.Before(end); w.now = w.now.Add(250 * time.Millisecond) {
		w.step()
		if n := len(w.in(InService)); n < 4 {
			t.Fatalf("only %d in service meanwhile", n)
		}
	}
	if a, b := w.bought(); a != 1 || b != 3 {
		t.Fatalf("on demand %d, spot %d: %v", a, b, w.group().Balanced)
	}
	for _, m := range w.in(InService) {
		if m.Spot && m.InstanceType != "m5.large" {
			t.Errorf("the pool with the most room is m5.large's, not %s's", m.InstanceType)
		}
	}
}

func TestWeightedCapacity(t *testing.T) {
	w := newWorld(t, 1)
	w.create(mixedGroup(0, 10, Distribution{OnDemand: LowestPrice, Percent: 100, Spot: LowestPrice}, Override{InstanceType: "m5.large", Weight: 2}, Override{InstanceType: "m5.xlarge", Weight: 4}), 7)
	w.run(3 * time.Second)
	// By unit m5.xlarge (18/4) is cheaper than m5.large (10/2): two of them are 8, one more than 7.
	if in := w.in(InService); len(in) != 2 || in[0].InstanceType != "m5.xlarge" || in[0].Weight != 4 {
		t.Fatalf("members %+v", in)
	}
	w.desire(4)
	w.run(3 * time.Second)
	if n, _ := w.bought(); n != 4 {
		t.Fatalf("capacity %d", n)
	}
	w.desire(3) // nothing can go without falling below
	w.run(3 * time.Second)
	if n, _ := w.bought(); n != 4 {
		t.Fatalf("capacity %d", n)
	}
}

func TestSpotThatCannotBeHadIsNotBoughtOnDemand(t *testing.T) {
	w := newWorld(t, 1)
	w.refuse["za/spot"], w.refuse["zb/spot"] = "no spot", "no spot"
	w.create(mixedGroup(0, 4, Distribution{OnDemand: Prioritized, Base: 1, Spot: PriceCapacity}, Override{InstanceType: "c5.large"}), 4)
	w.run(5 * time.Second)
	if a, b := w.bought(); a != 1 || b != 0 {
		t.Fatalf("on demand %d, spot %d", a, b)
	}
	found := false
	for _, a := range w.history() {
		found = found || a.StatusMessage == "Could not launch Spot Instances. InsufficientInstanceCapacity - no spot. Launching EC2 instance failed."
	}
	if !found {
		t.Fatalf("activities %+v", w.history())
	}
	delete(w.refuse, "zb/spot")
	w.run(60 * time.Second)
	if a, b := w.bought(); a != 1 || b != 3 {
		t.Fatalf("with capacity in one zone on demand %d, spot %d", a, b)
	}
}

func TestCapacityRebalancing(t *testing.T) {
	for _, on := range []bool{true, false} {
		w := newWorld(t, 1)
		g := mixedGroup(0, 4, Distribution{OnDemand: Prioritized, Spot: PriceCapacity}, Override{InstanceType: "c5.large"})
		g.CapacityRebalance = on
		g.Attachments = []Attachment{{ARN: tgA}}
		w.create(g, 4)
		w.run(3 * time.Second)
		at := w.in(InService)[0]
		w.must(func(tx *store.WriteTx) error {
			i, _ := fakeInstances.Get(tx, here.Key(at.ID))
			i.AtRisk = true
			fakeInstances.Put(tx, i)
			return nil
		})
		w.step()
		if n := len(w.in(Pending)); n == 1 != on || len(w.in(InService)) != 4 {
			t.Fatalf("%v: %d pending", on, n)
		}
		w.run(20 * time.Second)
		kept := false
		for _, m := range w.in(InService) {
			kept = kept || m.ID == at.ID
		}
		if kept == on || len(w.members()) != 4 {
			t.Fatalf("%v: members %+v", on, w.members())
		}
		said := false
		for _, a := range w.history() {
			said = said || strings.Contains(a.Cause, "in response to an EC2 instance rebalance recommendation")
		}
		if said != on {
			t.Errorf("%v: activities %+v", on, w.history())
		}
	}
}

func TestInstanceRequirementsGiveTypesAndUnits(t *testing.T) {
	w := newWorld(t, 1)
	g := mixedGroup(0, 12, Distribution{OnDemand: LowestPrice, Percent: 50, Spot: PriceCapacity}, Override{Requirements: json.RawMessage(`["c5.large","m5.xlarge"]`)})
	g.DesiredCapacityType = "vcpu"
	w.create(g, 6)
	w.run(3 * time.Second)
	// m5.xlarge has 3 of these units, c5.large 1; by unit m5.xlarge is cheaper.
	if a, b := w.bought(); a != 3 || b != 3 || len(w.in(InService)) != 2 {
		t.Fatalf("on demand %d, spot %d, %+v", a, b, w.members())
	}
}

func TestMixedPoliciesAreChecked(t *testing.T) {
	w := newWorld(t, 1)
	ok := Distribution{OnDemand: Prioritized, Percent: 50, Spot: LowestPrice}
	for what, g := range map[string]Group{
		"weights":                mixedGroup(0, 1, ok, Override{InstanceType: "c5.large", Weight: 1}, Override{InstanceType: "m5.large"}),
		"unknown type":           mixedGroup(0, 1, ok, Override{InstanceType: "x.y"}),
		"strategy":               mixedGroup(0, 1, Distribution{OnDemand: "cheapest", Spot: LowestPrice}),
		"spot strategy":          mixedGroup(0, 1, Distribution{OnDemand: Prioritized, Spot: "diversified"}),
		"pools":                  mixedGroup(0, 1, Distribution{OnDemand: Prioritized, Spot: CapacityOptimized, Pools: 2}),
		"percent":                mixedGroup(0, 1, Distribution{OnDemand: Prioritized, Spot: LowestPrice, Percent: 101}),
		"price":                  mixedGroup(0, 1, Distribution{OnDemand: Prioritized, Spot: LowestPrice, MaxPrice: "cheap"}),
		"types and attributes":   mixedGroup(0, 1, Distribution{OnDemand: LowestPrice, Spot: LowestPrice}, Override{InstanceType: "c5.large"}, Override{Requirements: json.RawMessage(`["c5.large"]`)}),
		"attributes match none":  mixedGroup(0, 1, Distribution{OnDemand: LowestPrice, Spot: LowestPrice}, Override{Requirements: json.RawMessage(`[]`)}),
		"prioritized attributes": mixedGroup(0, 1, ok, Override{Requirements: json.RawMessage(`["c5.large"]`)}),
	} {
		err := w.db.Update(func(tx *store.WriteTx) error { _, err := w.e.CreateGroup(tx, g, nil, nil); return err })
		if err == nil {
			t.Errorf("%s was accepted", what)
			continue
		}
		wantError(t, err, "ValidationError", "")
	}
	g := mixedGroup(0, 1, ok)
	g.DesiredCapacityType = "vcpu"
	wantError(t, w.db.Update(func(tx *store.WriteTx) error { _, err := w.e.CreateGroup(tx, g, nil, nil); return err }), "ValidationError", "InstanceRequirements")
}
