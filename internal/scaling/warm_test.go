package scaling

import (
	"strings"
	"testing"
	"time"

	"skerry/internal/store"
)

func (w *world) warmPool(state string, least int, prepared *int, reuse bool) {
	w.t.Helper()
	w.must(func(tx *store.WriteTx) error { return w.e.PutWarmPool(tx, here, "g", state, &least, prepared, &reuse) })
}

func (w *world) desire(n int) {
	w.t.Helper()
	w.must(func(tx *store.WriteTx) error { return w.e.SetDesired(tx, here, "g", n, false) })
}

func TestAWarmPoolFillsAndGivesItsInstances(t *testing.T) {
	for state, want := range map[string]string{"Stopped": WarmedStopped, "Running": WarmedRunning} {
		w := newWorld(t, 1)
		g := settings(1, 5)
		g.Attachments = []Attachment{{ARN: tgA}}
		w.create(g, 2)
		w.warmPool(state, 0, nil, false)
		w.run(4 * time.Second)
		warm := w.in(want)
		if len(w.in(InService)) != 2 || len(warm) != 3 || len(w.members()) != 5 {
			t.Fatalf("%s: members %+v", state, w.members())
		}
		for _, m := range warm {
			if len(m.Targets) > 0 {
				t.Errorf("a member of the pool is a target: %+v", m)
			}
		}
		tries := w.tries
		w.desire(4)
		w.step()
		if n := len(w.in(Pending)) + len(w.in(InService)); n != 4 { // a running one is in service at once
			t.Fatalf("%d in the group", n)
		}
		w.run(2 * time.Second)
		if z := zonesOf(w.in(InService)); z["za"] != 2 || z["zb"] != 2 {
			t.Fatalf("zones %v", z)
		}
		if state == "Running" && w.tries != tries {
			t.Errorf("%d launches for what the pool had", w.tries-tries)
		}
		found := false
		for _, a := range w.history() {
			found = found || strings.HasPrefix(a.Description, "Launching a new EC2 instance from warm pool: i-") && a.Status == StatusSuccessful
		}
		if !found {
			t.Errorf("no activity of it: %+v", w.history())
		}
		w.desire(5)
		w.run(3 * time.Second)
		if len(w.in(InService)) != 5 || len(w.in(want)) != 0 {
			t.Fatalf("at its most %+v", w.members())
		}
	}
}

func TestAWarmPoolsSize(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 10), 2)
	w.warmPool("", 1, new(4), false)
	w.run(4 * time.Second)
	if n := len(w.in(WarmedStopped)); n != 2 {
		t.Fatalf("%d for a prepared capacity of 4 with 2 in the group", n)
	}
	w.warmPool("", 1, new(2), false)
	w.run(4 * time.Second)
	if n := len(w.in(WarmedStopped)); n != 1 || len(w.members()) != 3 {
		t.Fatalf("%d for a least size of 1", n)
	}
	w.must(func(tx *store.WriteTx) error { return w.e.SetDesired(tx, here, "g", 0, false) })
	w.run(6 * time.Second)
	if n := len(w.in(WarmedStopped)); n != 2 || len(w.in(InService)) != 0 {
		t.Fatalf("%d in the pool of an empty group", n)
	}
	err := w.db.Update(func(tx *store.WriteTx) error { return w.e.DeleteWarmPool(tx, here, "g", false) })
	wantError(t, err, "ResourceInUse", "warm pool")
	w.must(func(tx *store.WriteTx) error { return w.e.DeleteWarmPool(tx, here, "g", true) })
	w.run(3 * time.Second)
	if w.group().Warm != nil || len(w.members()) != 0 {
		t.Fatalf("after the deletion %+v", w.members())
	}
	err = w.db.Update(func(tx *store.WriteTx) error { return w.e.DeleteWarmPool(tx, here, "g", true) })
	wantError(t, err, "ValidationError", "No warm pool found")
	err = w.db.Update(func(tx *store.WriteTx) error { return w.e.PutWarmPool(tx, here, "g", "Hibernated", nil, nil, nil) })
	wantError(t, err, "ValidationError", "Hibernated is not supported")
}

func TestScalingInFillsTheWarmPool(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 4)
	g.Attachments = []Attachment{{ARN: tgA}}
	w.create(g, 4)
	w.warmPool("Stopped", 0, nil, true)
	w.run(4 * time.Second)
	tries := w.tries
	w.desire(2)
	w.step()
	if n := len(w.in(WarmedPending)); n != 2 {
		t.Fatalf("members %+v", w.members())
	}
	w.run(14 * time.Second) // the delay of the target group is 10 s
	if len(w.in(WarmedStopped)) != 2 || len(w.in(InService)) != 2 || w.tries != tries {
		t.Fatalf("%d launches, members %+v", w.tries-tries, w.members())
	}
	w.desire(4)
	w.run(3 * time.Second)
	if len(w.in(InService)) != 4 || len(w.members()) != 4 {
		t.Fatalf("members %+v", w.members())
	}
}

func TestHooksOfTheWarmPool(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 1), 0, Hook{Name: "up", Transition: LaunchHook, Heartbeat: 600}, Hook{Name: "down", Transition: TerminateHook, Heartbeat: 600})
	w.warmPool("Stopped", 0, nil, true)
	complete := func(state, hook string) {
		t.Helper()
		ms := w.in(state)
		if len(ms) != 1 {
			t.Fatalf("wanted one %s, got %+v", state, w.members())
		}
		w.must(func(tx *store.WriteTx) error { return w.e.Complete(tx, here, "g", hook, "", ms[0].ID, "CONTINUE") })
		if proceed := strings.TrimSuffix(state, "Wait") + "Proceed"; len(w.in(proceed)) != 1 {
			t.Fatalf("wanted one %s, got %+v", proceed, w.members())
		}
		w.run(3 * time.Second)
	}
	w.run(2 * time.Second)
	complete(WarmedPendingWait, "up")
	if len(w.in(WarmedStopped)) != 1 {
		t.Fatalf("members %+v", w.members())
	}
	w.desire(1)
	w.run(2 * time.Second)
	complete(PendingWait, "up") // again, on the way into service
	if len(w.in(InService)) != 1 {
		t.Fatalf("members %+v", w.members())
	}
	w.desire(0)
	w.run(2 * time.Second)
	complete(WarmedPendingWait, "down")
	if len(w.in(WarmedStopped)) != 1 {
		t.Fatalf("members %+v", w.members())
	}
	w.must(func(tx *store.WriteTx) error {
		zero := 0
		return w.e.PutWarmPool(tx, here, "g", "", nil, &zero, nil)
	})
	w.run(2 * time.Second)
	complete(WarmedTerminatingWait, "down")
	if len(w.members()) != 0 {
		t.Fatalf("members %+v", w.members())
	}
}

func TestAnInstanceThatLeavesThePoolByItselfIsReplaced(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 1), 0)
	w.warmPool("Stopped", 0, nil, false)
	w.run(4 * time.Second)
	gone := w.in(WarmedStopped)[0]
	w.setInstance(gone.ID, "terminated")
	w.run(4 * time.Second)
	if ms := w.in(WarmedStopped); len(ms) != 1 || ms[0].ID == gone.ID || len(w.members()) != 1 {
		t.Fatalf("members %+v", w.members())
	}
}

func TestARefreshReplacesTheWarmPool(t *testing.T) {
	w := newWorld(t, 60)
	w.create(settings(0, 4), 1)
	w.warmPool("Stopped", 0, nil, false)
	w.run(4 * time.Second)
	old := map[string]bool{}
	for _, m := range w.members() {
		old[m.ID] = true
	}
	w.must(func(tx *store.WriteTx) error {
		_, err := w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Preferences: Preferences{MinHealthy: 0, MaxHealthy: 100, Protected: "Wait", Standby: "Wait"}})
		return err
	})
	w.run(10 * time.Second)
	if len(w.in(WarmedStopped)) != 3 || len(w.in(InService)) != 1 {
		t.Fatalf("members %+v", w.members())
	}
	for _, m := range w.members() {
		if old[m.ID] {
			t.Errorf("%s was not replaced", m.ID)
		}
	}
}
