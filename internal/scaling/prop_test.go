package scaling

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"skerry/internal/store"
)

// Whatever users, clouds and failures do, the group stays within its bounds, every instance is accounted for, and when
// they let it be, it settles at its desired capacity, balanced over its zones.
func TestGroupsConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.SampledFrom([]int{1, 20}).Draw(t, "scale"))
		g := settings(rapid.IntRange(0, 3).Draw(t, "min"), rapid.IntRange(4, 9).Draw(t, "max"))
		g.Attachments = []Attachment{{ARN: tgA}}
		g.HealthCheckType = rapid.SampledFrom([]string{"EC2", "ELB"}).Draw(t, "health")
		var hooks []Hook
		if rapid.Bool().Draw(t, "hooks") {
			hooks = []Hook{{Name: "up", Transition: LaunchHook, Heartbeat: 30, DefaultResult: "CONTINUE"}, {Name: "down", Transition: TerminateHook, Heartbeat: 30}}
		}
		if rapid.IntRange(0, 2).Draw(t, "maintained") == 0 {
			g.MinHealthy, g.MaxHealthy, g.DefaultWarmup = new(rapid.SampledFrom([]int{50, 100}).Draw(t, "least")), new(rapid.SampledFrom([]int{100, 120, 150}).Draw(t, "most")), new(rapid.IntRange(0, 10).Draw(t, "default warmup"))
		}
		w.create(g, rapid.IntRange(g.Min, g.Max).Draw(t, "desired"), hooks...)
		n := rapid.IntRange(1, 25).Draw(t, "events")
		for range n {
			w.disturb(t)
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 20000).Draw(t, "pause")) * time.Millisecond)
			w.step()
			w.check(t, true)
		}
		clear(w.refuse)
		w.must(func(tx *store.WriteTx) error { return w.e.Resume(tx, here, "g", nil) })
		for range 300 {
			w.heal()
			next := w.step()
			if limit := w.now.Add(time.Minute); next.IsZero() || next.After(limit) {
				next = limit
			}
			if soon := w.now.Add(time.Second); w.moving() || next.Before(soon) {
				next = soon
			}
			w.now = next
		}
		w.check(t, false)
		gr := w.group()
		in := w.in(InService)
		if len(in) != gr.Desired || len(w.members())-len(w.in(Standby)) != gr.Desired+gr.WarmSize() {
			t.Fatalf("desired %d, members %+v", gr.Desired, w.members())
		}
		protected := slices.ContainsFunc(in, func(m Member) bool { return m.Protected })
		if z := zonesOf(in); !protected && (z["za"]-z["zb"] > 1 || z["zb"]-z["za"] > 1) {
			t.Fatalf("zones %v", z)
		}
		for _, r := range RefreshesOf(w.db.Read(), gr) {
			if r.Active() {
				t.Fatalf("the refresh never ends: %+v", r)
			}
			for _, m := range in {
				if r.Status == RefreshSuccessful && m.LaunchedAt.Before(r.Start) && !m.Protected && !r.Preferences.SkipMatching && !m.InServiceAt.After(r.End) {
					t.Fatalf("%s is as old as before the refresh %+v", m.ID, r)
				}
			}
		}
		if p := Decide(w.e.situation(w.db.Read(), gr)); len(p.Actions) != 0 {
			t.Fatalf("a settled group still plans %+v", p.Actions)
		}
	})
}

// moving tells whether an instance is on its way to another state.
func (w *world) moving() bool {
	for i := range fakeInstances.All(w.db.Read()) {
		if i.State == "pending" || i.State == "shutting-down" || i.State == "stopping" {
			return true
		}
	}
	return false
}

// heal is a world without failures: targets of running instances are healthy.
func (w *world) heal() {
	w.must(func(tx *store.WriteTx) error {
		for f := range fakeTargets.All(tx) {
			if f.State == "initial" || f.State == "unhealthy" {
				f.State = "healthy"
				fakeTargets.Put(tx, f)
			}
		}
		return nil
	})
}

// disturb does one thing that may happen to a group. Refused requests change nothing.
func (w *world) disturb(t *rapid.T) {
	ms := w.members()
	pick := func() (Member, bool) {
		if len(ms) == 0 {
			return Member{}, false
		}
		return ms[rapid.IntRange(0, len(ms)-1).Draw(t, "member")], true
	}
	try := func(fn func(tx *store.WriteTx) error) { _ = w.db.Update(fn) } // a refusal is as good
	switch rapid.IntRange(0, 14).Draw(t, "event") {
	case 0, 1:
		n := rapid.IntRange(0, 10).Draw(t, "desired")
		try(func(tx *store.WriteTx) error { return w.e.SetDesired(tx, here, "g", n, false) })
	case 2, 3:
		if m, ok := pick(); ok {
			if i, _ := fakeInstances.Get(w.db.Read(), here.Key(m.ID)); i.State == "terminated" || i.State == "shutting-down" {
				return
			}
			w.setInstance(m.ID, rapid.SampledFrom([]string{"shutting-down", "stopped", "terminated"}).Draw(t, "state"))
		}
	case 4:
		if m, ok := pick(); ok && m.State == InService && slices.Contains(m.Targets, tgA) {
			w.setTarget(tgA, m.ID, "unhealthy")
		}
	case 5:
		zone := rapid.SampledFrom([]string{"za", "zb"}).Draw(t, "zone")
		if _, down := w.refuse[zone]; down {
			delete(w.refuse, zone)
		} else {
			w.refuse[zone] = "no capacity"
		}
	case 6:
		if m, ok := pick(); ok {
			less := rapid.Bool().Draw(t, "decrement")
			try(func(tx *store.WriteTx) error { _, err := w.e.TerminateMember(tx, here, m.ID, less); return err })
		}
	case 7:
		if m, ok := pick(); ok {
			less := rapid.Bool().Draw(t, "decrement")
			try(func(tx *store.WriteTx) error {
				_, err := w.e.EnterStandby(tx, here, "g", []string{m.ID}, less)
				return err
			})
		}
	case 8:
		if m, ok := pick(); ok {
			try(func(tx *store.WriteTx) error { _, err := w.e.ExitStandby(tx, here, "g", []string{m.ID}); return err })
		}
	case 9:
		if m, ok := pick(); ok {
			less := rapid.Bool().Draw(t, "decrement")
			try(func(tx *store.WriteTx) error {
				_, err := w.e.Detach(tx, here, "g", []string{m.ID}, less)
				return err
			})
		}
	case 10:
		if m, ok := pick(); ok {
			try(func(tx *store.WriteTx) error { return w.e.SetHealth(tx, here, m.ID, Unhealthy, false) })
		}
	case 12:
		state := rapid.SampledFrom([]string{"Stopped", "Running"}).Draw(t, "pool")
		least, reuse := rapid.IntRange(0, 2).Draw(t, "pool min"), rapid.Bool().Draw(t, "reuse")
		switch rapid.IntRange(0, 2).Draw(t, "pool event") {
		case 0:
			try(func(tx *store.WriteTx) error { return w.e.DeleteWarmPool(tx, here, "g", true) })
		default:
			try(func(tx *store.WriteTx) error { return w.e.PutWarmPool(tx, here, "g", state, &least, nil, &reuse) })
		}
	case 13:
		p := Preferences{MinHealthy: rapid.SampledFrom([]int{0, 50, 90, 100}).Draw(t, "min healthy"), MaxHealthy: rapid.SampledFrom([]int{100, 110, 150}).Draw(t, "max healthy"),
			Warmup: rapid.IntRange(0, 20).Draw(t, "warmup"), SkipMatching: rapid.Bool().Draw(t, "skip"), Protected: rapid.SampledFrom([]string{"Ignore", "Refresh"}).Draw(t, "protected pref"),
			Standby: rapid.SampledFrom([]string{"Ignore", "Terminate"}).Draw(t, "standby pref"), CheckpointDelay: 10, Checkpoints: rapid.SampledFrom([][]int{nil, {30, 100}}).Draw(t, "checkpoints")}
		p.MaxHealthy = min(p.MaxHealthy, p.MinHealthy+100)
		w.newVersion()
		try(func(tx *store.WriteTx) error {
			_, err := w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Preferences: p})
			return err
		})
	case 14:
		try(func(tx *store.WriteTx) error {
			_, err := w.e.CancelRefresh(tx, here, "g", rapid.Bool().Draw(t, "wait"))
			return err
		})
	case 11:
		p := rapid.SampledFrom(Processes).Draw(t, "process")
		if rapid.Bool().Draw(t, "suspend") {
			try(func(tx *store.WriteTx) error { return w.e.Suspend(tx, here, "g", []string{p}) })
		} else {
			try(func(tx *store.WriteTx) error { return w.e.Resume(tx, here, "g", []string{p}) })
		}
	}
}

// check holds after every step.
func (w *world) check(t *rapid.T, disturbed bool) {
	g := w.group()
	if g.Desired < g.Min || g.Desired > g.Max {
		t.Fatalf("desired %d is outside of %d to %d", g.Desired, g.Min, g.Max)
	}
	live := map[string]bool{}
	counted := 0
	for _, m := range w.members() {
		live[m.ID] = true
		switch m.State {
		case Pending, PendingWait, InService:
			counted++
		}
	}
	most := max(g.Max+1, g.Max+g.Max/10)
	for _, r := range RefreshesOf(w.db.Read(), g) {
		most = max(most, span{hi: r.Preferences.MaxHealthy}.top(g.Max))
	}
	if counted > most && !g.SuspendedProcess(ProcTerminate) {
		t.Fatalf("%d instances in a group of at most %d", counted, g.Max)
	}
	for i := range fakeInstances.All(w.db.Read()) {
		if i.Group == "g" && i.State != "terminated" && i.State != "shutting-down" && !live[i.ID] {
			t.Fatalf("instance %s is %s and no member", i.ID, i.State)
		}
	}
	for _, a := range w.history() {
		if a.Done() && a.Progress != 100 || a.Cause == "" {
			t.Fatalf("activity %+v", a)
		}
		if !disturbed && !a.Done() {
			t.Fatalf("activity is never done: %+v", a)
		}
	}
}
