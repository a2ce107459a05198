package scaling

import (
	"fmt"
	"testing"
	"time"

	"skerry/internal/store"
)

// order runs LaunchInstances.
func (w *world) order(token string, o Order) (out Ordered, err error) {
	w.t.Helper()
	w.must(func(tx *store.WriteTx) error { out, err = w.e.Launch(tx, here, "g", token, o); return nil })
	return out, err
}

func TestAnOrderIsMembersAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(0, 6)
	g.Suspended = []Suspension{{Process: ProcAZRebalance}} // it would move one of them to the other zone
	w.create(g, 0)
	out, err := w.order("a", Order{Capacity: 2, Zone: "zb"})
	if err != nil || len(out.Placed) != 1 || len(out.Placed[0].IDs) != 2 || out.Placed[0].Zone != "zb" || len(w.in(Pending)) != 2 || w.group().Desired != 2 {
		t.Fatalf("%+v %v, desired %d", out, err, w.group().Desired)
	}
	if again, err := w.order("a", Order{Capacity: 2, Zone: "zb"}); err != nil || fmt.Sprint(again) != fmt.Sprint(out) {
		t.Errorf("the same order answers %+v %v", again, err)
	}
	w.run(3 * time.Second)
	if len(w.in(InService)) != 2 || w.tries != 2 {
		t.Errorf("%d in service after %d launches", len(w.in(InService)), w.tries)
	}
	// A token is forgotten, and its records with it.
	w.now = w.now.Add(orderLife + time.Second)
	if out, err = w.order("a", Order{Capacity: 1, Subnet: "subnet-za"}); err != nil || out.Placed[0].Subnet != "subnet-za" || w.group().Desired != 3 {
		t.Errorf("%+v %v, desired %d", out, err, w.group().Desired)
	}
}

func TestAnOrderThatFails(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 6), 0)
	w.refuse["za"] = "za is full"
	out, err := w.order("a", Order{Capacity: 2, Zone: "za"})
	if err != nil || out.Failed == nil || out.Failed.Code != "InsufficientInstanceCapacity" || out.Failed.Message != "za is full" || out.Failed.Zone != "za" || w.group().Desired != 0 {
		t.Fatalf("%+v %v, desired %d", out, err, w.group().Desired)
	}
	if h := w.history(); len(h) != 1 || h[0].Status != StatusFailed || h[0].StatusMessage != "za is full. Launching EC2 instance failed." {
		t.Errorf("history %+v", h)
	}
	w.run(3 * time.Second)
	if n := len(w.members()); n != 0 {
		t.Errorf("%d members", n)
	}
	// With a retry, the group finds another way.
	if out, err = w.order("b", Order{Capacity: 2, Zone: "za", Retry: true}); err != nil || out.Failed == nil || w.group().Desired != 2 {
		t.Fatalf("%+v %v, desired %d", out, err, w.group().Desired)
	}
	w.run(5 * time.Second)
	if n := len(w.in(InService)); n != 2 {
		t.Errorf("%d in service", n)
	}
	delete(w.refuse, "za")
	w.must(func(tx *store.WriteTx) error { return w.e.DeleteGroup(tx, here, "g", true) })
	w.run(60 * time.Second)
	for o := range orders.All(w.db.Read()) {
		t.Errorf("the order %s is left over", o.Token)
	}
}

func TestOrdersThatNoGroupTakes(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(0, 3)
	g.Template, g.Mixed = nil, &Mixed{Template: TemplateRef{ID: "lt-1"}, Distribution: &Distribution{OnDemand: Prioritized, Base: 1, Percent: 50, Spot: LowestPrice, Pools: 2}}
	w.create(g, 0)
	if _, err := w.order("a", Order{Capacity: 1, Zone: "za"}); err == nil {
		t.Error("a mix of purchase options was ordered")
	}
	w.must(func(tx *store.WriteTx) error {
		g := w.group()
		m := *g.Mixed
		m.Distribution = &Distribution{OnDemand: Prioritized, Percent: 0, Spot: LowestPrice, Pools: 2}
		g.Mixed = &m
		Groups.Put(tx, g)
		return nil
	})
	out, err := w.order("a", Order{Capacity: 2, Zone: "za"})
	if err != nil || len(out.Placed) != 1 || !out.Placed[0].Spot || len(out.Placed[0].IDs) != 2 {
		t.Errorf("spot instances: %+v %v", out, err)
	}
	for what, o := range map[string]Order{"beyond the maximum": {Capacity: 2, Zone: "za"}, "nowhere": {Capacity: 1}, "elsewhere": {Capacity: 1, Zone: "zc"}, "a subnet of another zone": {Capacity: 1, Zone: "za", Subnet: "subnet-zb"}} {
		if out, err := w.order(what, o); err == nil {
			t.Errorf("%s: %+v", what, out)
		}
	}
}
