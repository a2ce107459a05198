package scaling

import (
	"testing"
	"time"

	"skerry/internal/store"
)

func TestAbandonedInstancesAreRetainedWhenAsked(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(0, 3)
	g.RetainAbandoned = true
	w.create(g, 1, Hook{Name: "down", Transition: TerminateHook, Heartbeat: 600})
	w.run(2 * time.Second)
	w.desire(0)
	w.run(time.Second)
	m := w.in(TerminatingWait)[0]
	w.must(func(tx *store.WriteTx) error { return w.e.Complete(tx, here, "g", "down", "", m.ID, "ABANDON") })
	w.run(3 * time.Second)
	if len(w.in(TerminatingRetained)) != 1 || w.group().Desired != 0 {
		t.Fatalf("members %+v", w.members())
	}
	if i, _ := fakeInstances.Get(w.db.Read(), here.Key(m.ID)); i.State != "running" {
		t.Fatalf("the instance is %s", i.State)
	}
	w.must(func(tx *store.WriteTx) error { _, err := w.e.TerminateMember(tx, here, m.ID, false); return err })
	w.run(3 * time.Second)
	if len(w.members()) != 0 || len(w.in(InService)) != 0 {
		t.Fatalf("members %+v", w.members())
	}
}

func TestATenthOfAGroupExpiresAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(0, 30)
	g.MaxInstanceLifetime = new(86400)
	w.create(g, 20)
	w.run(2 * time.Second)
	w.now = w.now.Add(25 * time.Hour)
	w.step()
	if n := len(w.in(Terminating)) + len(w.in(TerminatingProceed)); n != 2 {
		t.Fatalf("%d leave at once", n)
	}
	w.run(60 * time.Second)
	if len(w.in(InService)) != 20 {
		t.Fatalf("members %+v", w.members())
	}
	for _, m := range w.members() {
		if w.now.Sub(m.LaunchedAt) > time.Hour {
			t.Fatalf("%s is still there", m.ID)
		}
	}
}
