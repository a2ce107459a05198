package scaling

import (
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/store"
)

// watch lets time pass in quarters of a second and looks at the group each time.
func (w *world) watch(d time.Duration, look func()) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(250 * time.Millisecond)
		w.step()
		look()
	}
}

func TestARefreshLaunchesAndTerminatesAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 10)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 90, MaxHealthy: 110, Warmup: 5}, nil)
	w.step()
	if in, up := len(w.in(InService)), len(w.in(Pending)); in != 9 || up != 2 {
		t.Fatalf("%d in service and %d pending after the first step", in, up)
	}
	least, most, percents := 10, 0, []int{}
	w.watch(90*time.Second, func() {
		in := len(w.in(InService))
		least, most = min(least, in), max(most, in+len(w.in(Pending)))
		if p := w.refreshed(r.ID).Percent; len(percents) == 0 || percents[len(percents)-1] != p {
			percents = append(percents, p)
		}
	})
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || versions(w.in(InService)) != "2222222222" {
		t.Fatalf("refresh %+v, versions %s", got, versions(w.members()))
	}
	if least < 9 || most > 11 {
		t.Errorf("between %d and %d instances, 9 and 11 are the bounds", least, most)
	}
	for i, p := range percents {
		if i > 0 && p < percents[i-1] {
			t.Errorf("the percentage goes back: %v", percents)
			break
		}
	}
	if len(percents) < 5 {
		t.Errorf("the percentages are only %v", percents)
	}
}

func TestARefreshSaysWhatItWaitsFor(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 2)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 50, Warmup: 10}, nil)
	reasons := map[string]bool{}
	w.watch(60*time.Second, func() {
		text := w.refreshed(r.ID).Reason
		for _, m := range w.members() {
			text = strings.ReplaceAll(text, m.ID, "i")
		}
		reasons[text] = true
	})
	for _, want := range []string{"Waiting for instances to warm up before continuing. For example: i is warming up.",
		"Waiting for remaining instances to be available. For example: i has insufficient data to evaluate its health with Amazon EC2."} {
		if !reasons[want] {
			t.Errorf("it never says %q: %v", want, reasons)
		}
	}
}

// The delay of a checkpoint is as long as what a refresh may stand still, by default: it is no standstill.
func TestACheckpointsDelayIsNoStandstill(t *testing.T) {
	w := newWorld(t, 60)
	w.create(settings(1, 10), 4)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 0, Checkpoints: []int{25, 100}, CheckpointDelay: 3600}, nil)
	w.run(30 * time.Second)
	if got := w.refreshed(r.ID); got.Percent != 25 || got.Left != 3 || got.Passed != 1 {
		t.Fatalf("at the checkpoint %+v", got)
	}
	w.run(60 * time.Second)
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || versions(w.in(InService)) != "2222" {
		t.Fatalf("refresh %+v", got)
	}
}

func TestARefreshOfAPartEndsAtItsLastCheckpoint(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 4)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 0, Checkpoints: []int{50}, CheckpointDelay: 3600}, nil)
	w.run(10 * time.Second)
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || got.Percent != 50 || got.Left != 2 {
		t.Fatalf("refresh %+v", got)
	}
	if v := versions(w.in(InService)); strings.Count(v, "2") != 2 {
		t.Fatalf("versions %s", v)
	}
}

// A checkpoint that the group has grown away from is reached again.
func TestACheckpointIsReachedAgainAfterScalingOut(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 20), 4)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 0, Checkpoints: []int{50, 100}, CheckpointDelay: 20, Warmup: 30}, nil)
	w.run(33 * time.Second)
	if got := w.refreshed(r.ID); got.Percent != 50 || got.WaitTill.IsZero() {
		t.Fatalf("refresh %+v", got)
	}
	w.desire(6)
	w.run(21 * time.Second)
	if got := w.refreshed(r.ID); got.Percent != 33 || got.Passed != 0 {
		t.Fatalf("two of six are new and warm: %+v", got)
	}
	w.run(200 * time.Second)
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || got.Percent != 100 {
		t.Fatalf("refresh %+v", got)
	}
}

func TestProtectedMembersAreRefreshedWhenAsked(t *testing.T) {
	for _, hi := range []int{100, 150} {
		w := newWorld(t, 1)
		g := settings(1, 10)
		g.ProtectNew = true
		w.create(g, 2)
		w.run(2 * time.Second)
		w.newVersion()
		r := w.refresh(Preferences{MinHealthy: 50, MaxHealthy: hi, Warmup: 1, Protected: "Refresh", Standby: "Wait"}, nil)
		w.run(20 * time.Second)
		if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || versions(w.members()) != "22" {
			t.Errorf("at most %d%%: %+v, versions %s", hi, got, versions(w.members()))
		}
	}
}

func TestStandbyMembersInARefresh(t *testing.T) {
	for pref, want := range map[string]string{"Terminate": "2 Successful", "Ignore": "12 Successful", "Wait": "12 InProgress"} {
		w := newWorld(t, 1)
		w.create(settings(1, 10), 2)
		w.run(2 * time.Second)
		id := w.members()[0].ID
		w.must(func(tx *store.WriteTx) error {
			_, err := w.e.EnterStandby(tx, here, "g", []string{id}, true)
			return err
		})
		w.run(time.Second)
		w.newVersion()
		r := w.refresh(Preferences{MinHealthy: 0, Protected: "Wait", Standby: pref}, nil)
		w.run(20 * time.Second)
		vs := versions(w.in(Standby)) + versions(w.in(InService))
		got := w.refreshed(r.ID)
		if vs+" "+got.Status != want {
			t.Errorf("%s: versions %s, %+v", pref, vs, got)
		}
		if pref == "Wait" && got.Reason != waitOthers+id+" is in Standby. Return the instance to service to continue." {
			t.Errorf("it waits because %s", got.Reason)
		}
	}
}

func TestSkipMatchingLeavesWhatIsAsWanted(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 2)
	w.run(2 * time.Second)
	w.newVersion()
	w.desire(4)
	w.run(2 * time.Second)
	before := w.in(InService)
	r := w.refresh(Preferences{MinHealthy: 0, SkipMatching: true}, nil)
	w.run(10 * time.Second)
	kept := 0
	for _, m := range before {
		for _, o := range w.in(InService) {
			if m.ID == o.ID {
				kept++
			}
		}
	}
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || versions(w.in(InService)) != "2222" || kept != 2 {
		t.Fatalf("%d kept, refresh %+v, versions %s", kept, got, versions(w.members()))
	}
}

func TestAlarmsEndARefreshAlsoWhileItBakes(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 10)
	g.Template.Version = "1"
	w.create(g, 2)
	w.run(2 * time.Second)
	w.newVersion()
	set := func(state string) {
		w.must(func(tx *store.WriteTx) error {
			fakeAlarms.Put(tx, fakeAlarm{Scope: here, AlarmSpec: AlarmSpec{Name: "errors"}, State: state})
			return nil
		})
	}
	err := w.db.Update(func(tx *store.WriteTx) error {
		_, err := w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Preferences: Preferences{MaxHealthy: 100, Protected: "Wait", Standby: "Wait", Alarms: []string{"errors"}}})
		return err
	})
	wantError(t, err, "ValidationError", "The alarm errors does not exist.")
	set("OK")
	r := w.refresh(Preferences{MinHealthy: 50, Warmup: 1, AutoRollback: true, Bake: 60, Alarms: []string{"errors"}}, &TemplateRef{ID: "lt-1", Version: "2"})
	w.run(10 * time.Second)
	if got := w.refreshed(r.ID); got.Status != RefreshBaking || got.Percent != 100 || got.Reason == "" {
		t.Fatalf("refresh %+v", got)
	}
	if wake := w.step(); wake.IsZero() || wake.Sub(w.now) > 10*time.Second {
		t.Fatalf("the alarm is looked at next at %v, it is %v", wake, w.now)
	}
	set("ALARM")
	var percents []int
	w.watch(20*time.Second, func() {
		if got := w.refreshed(r.ID); got.Status == RefreshRollback {
			percents = append(percents, got.Percent)
		}
	})
	got := w.refreshed(r.ID)
	if got.Status != RefreshRollbackSuccessful || versions(w.in(InService)) != "11" || w.group().Template.Version != "1" || got.Percent != 0 || got.OnRollback == nil || got.OnRollback.Percent != 100 {
		t.Fatalf("refresh %+v, versions %s", got, versions(w.members()))
	}
	if !slices.Contains(percents, 50) {
		t.Errorf("the percentage goes down by %v", percents)
	}
}

func TestWhatCannotBeRolledBack(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 1) // by $Latest
	w.run(2 * time.Second)
	w.newVersion()
	p := Preferences{MaxHealthy: 100, Protected: "Wait", Standby: "Wait", AutoRollback: true}
	start := func(version string) error {
		return w.db.Update(func(tx *store.WriteTx) error {
			_, err := w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Preferences: p, Template: &TemplateRef{ID: "lt-1", Version: version}})
			return err
		})
	}
	wantError(t, start("2"), "ValidationError", "AutoRollback")
	p.AutoRollback = false
	if err := start("2"); err != nil {
		t.Fatal(err)
	}
	err := w.db.Update(func(tx *store.WriteTx) error { _, err := w.e.RollbackRefresh(tx, here, "g"); return err })
	wantError(t, err, "IrreversibleInstanceRefresh", "$Latest")
}

func TestARefreshStandsStillWhileAProcessIsSuspended(t *testing.T) {
	w := newWorld(t, 60)
	w.create(settings(1, 10), 2)
	w.run(2 * time.Second)
	w.newVersion()
	w.must(func(tx *store.WriteTx) error { return w.e.Suspend(tx, here, "g", []string{ProcInstanceRefresh}) })
	r := w.refresh(Preferences{MinHealthy: 50}, nil)
	w.run(90 * time.Second) // of which an hour is 60
	if got := w.refreshed(r.ID); got.Status != RefreshPending || versions(w.in(InService)) != "11" {
		t.Fatalf("refresh %+v", got)
	}
	w.must(func(tx *store.WriteTx) error { return w.e.Resume(tx, here, "g", []string{ProcInstanceRefresh}) })
	w.run(10 * time.Second)
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || versions(w.in(InService)) != "22" {
		t.Fatalf("refresh %+v", got)
	}
}

func TestTheWarmPoolIsRefreshedAfterTheGroup(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 5), 2)
	w.warmPool("Stopped", 0, nil, false)
	w.run(5 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 50, Warmup: 3}, nil)
	half := false
	w.watch(40*time.Second, func() {
		if got := w.refreshed(r.ID); got.Live.Left > 0 && versions(w.in(WarmedStopped)) != "111" {
			t.Fatalf("the pool is replaced while the group has old members: %+v", w.members())
		} else if got.Warm != nil && got.Live.Percent != got.Warm.Percent && got.Percent > 0 && got.Percent < 100 {
			half = true
		}
	})
	got := w.refreshed(r.ID)
	if got.Status != RefreshSuccessful || versions(w.in(InService)) != "22" || versions(w.in(WarmedStopped)) != "222" || got.Warm == nil || got.Warm.Percent != 100 {
		t.Fatalf("refresh %+v, members %+v", got, w.members())
	}
	if !half {
		t.Error("the pool's progress is not told apart from the group's")
	}
}

// What scales out during a refresh does not come from the old members of the warm pool.
func TestOldMembersOfThePoolAreNotDrawnDuringARefresh(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 5), 2)
	w.warmPool("Stopped", 0, nil, false)
	w.run(5 * time.Second)
	w.newVersion()
	w.refresh(Preferences{MinHealthy: 50, Warmup: 30}, nil)
	w.run(2 * time.Second)
	w.desire(4)
	w.run(3 * time.Second)
	if v := versions(w.in(InService)); strings.Count(v, "1") > 1 || len(v) != 4 {
		t.Fatalf("versions %s", v)
	}
}

func TestOldMembersAreReplacedAsTheMaintenancePolicySays(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(0, 30)
	g.MaxInstanceLifetime, g.MinHealthy, g.MaxHealthy, g.DefaultWarmup = new(86400), new(100), new(150), new(5)
	w.create(g, 4)
	w.run(2 * time.Second)
	w.now = w.now.Add(25 * time.Hour)
	most := 0
	w.watch(60*time.Second, func() {
		if n := len(w.in(InService)); n < 4 {
			t.Fatalf("%d in service", n)
		} else {
			most = max(most, n)
		}
	})
	if most != 6 || len(w.in(InService)) != 4 {
		t.Fatalf("at most %d, at last %+v", most, w.members())
	}
	for _, m := range w.members() {
		if w.now.Sub(m.LaunchedAt) > time.Hour {
			t.Errorf("%s is still there", m.ID)
		}
	}
	all := ""
	for _, a := range w.history() {
		all += a.Cause + "\n"
	}
	if !strings.Contains(all, whyAged) || !strings.Contains(all, whyLifetime) {
		t.Errorf("the causes are\n%s", all)
	}
}

func TestLaunchesAreSuspendedAfterADayOfFailures(t *testing.T) {
	w := newWorld(t, 60)
	w.wrong = fault.New(fault.Invalid, "InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist")
	w.create(settings(1, 10), 1)
	day := w.now.Add(24 * time.Minute)
	for w.now.Before(day.Add(20 * time.Second)) {
		if next := w.step(); next.IsZero() {
			break
		} else {
			w.now = next
		}
		if s := w.group().Suspended; len(s) > 0 && w.now.Before(day) {
			t.Fatalf("%v: %+v", w.now, s)
		}
	}
	if s := w.group().Suspended; len(s) != 1 || s[0].Process != ProcLaunch || !strings.HasPrefix(s[0].Reason, "Administrator suspended at 2024-03-01T12:") {
		t.Fatalf("suspended %+v, %+v", s, w.group().Failing)
	}
	tries := w.tries
	w.now = w.now.Add(time.Hour)
	w.step()
	if w.tries != tries {
		t.Error("it tries on")
	}
	w.wrong = nil
	w.must(func(tx *store.WriteTx) error { return w.e.Resume(tx, here, "g", nil) })
	w.run(2 * time.Second)
	if len(w.in(InService)) != 1 || w.group().Failing != nil {
		t.Fatalf("members %+v", w.members())
	}
}

// Failures far between are not a day of failures.
func TestADayOfFailuresIsWithoutPause(t *testing.T) {
	w := newWorld(t, 60)
	w.wrong = fault.New(fault.Invalid, "InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist")
	w.create(settings(0, 10), 1)
	w.step()
	w.desire(0)
	w.now = w.now.Add(48 * time.Hour)
	w.step()
	w.desire(1)
	w.step()
	if s := w.group().Suspended; len(s) != 0 {
		t.Fatalf("suspended %+v", s)
	}
}

// A member that no hook holds is Terminating until EC2 has ended it; one that a hook held proceeds.
func TestTheStatesOfATermination(t *testing.T) {
	for _, hooked := range []bool{false, true} {
		w := newWorld(t, 1)
		var hooks []Hook
		want := "Terminating"
		if hooked {
			hooks, want = []Hook{{Name: "down", Transition: TerminateHook, Heartbeat: 30, DefaultResult: "CONTINUE"}}, "Terminating:Wait Terminating:Proceed"
		}
		w.create(settings(0, 2), 1, hooks...)
		w.run(2 * time.Second)
		w.desire(0)
		var states []string
		w.watch(40*time.Second, func() {
			for _, m := range w.members() {
				if len(states) == 0 || states[len(states)-1] != m.State {
					states = append(states, m.State)
				}
			}
		})
		if got := strings.Join(states, " "); got != want || len(w.members()) != 0 {
			t.Errorf("hooked %t: %s, wanted %s; members %+v", hooked, got, want, w.members())
		}
	}
}

// What comes into service while AddToLoadBalancer is suspended is not registered later either.
func TestMembersAreNotRegisteredAfterwards(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 3), 1)
	w.run(2 * time.Second)
	w.must(func(tx *store.WriteTx) error { return w.e.AttachTargetGroups(tx, here, "g", []string{tgA}) })
	w.step()
	w.must(func(tx *store.WriteTx) error { return w.e.Suspend(tx, here, "g", []string{ProcAddToLoadBalancer}) })
	w.desire(2)
	w.run(2 * time.Second)
	w.must(func(tx *store.WriteTx) error { return w.e.Resume(tx, here, "g", nil) })
	w.desire(3)
	w.run(2 * time.Second)
	n := 0
	for _, m := range w.in(InService) {
		n += len(m.Targets)
	}
	if n != 2 || w.group().Attachments[0].State != "Added" {
		t.Fatalf("%d registered, members %+v", n, w.members())
	}
}

func TestOldestLaunchConfiguration(t *testing.T) {
	at := func(hours int) time.Time { return time.Unix(1e9, 0).Add(time.Duration(hours) * time.Hour) }
	s := Situation{Now: at(100), TimeScale: 1, Group: settings(0, 9), Subnets: []Subnet{{ID: "subnet-za", Zone: "za"}},
		Configurations: map[string]time.Time{"first": at(1), "second": at(2), "third": at(3)}}
	for id, lc := range map[string]string{"i-1": "third", "i-2": "first", "i-3": "second", "i-4": "deleted"} {
		s.Members = append(s.Members, View{Member: Member{ID: id, State: InService, Health: Healthy, Zone: "za", SubnetID: "subnet-za", LaunchConfiguration: lc, LaunchedAt: at(10)},
			Instance: Instance{ID: id, State: "running"}})
	}
	s.Group.TerminationPolicies, s.Group.Template = []string{"OldestLaunchConfiguration"}, nil
	for current, want := range map[string]string{"third": "i-4", "first": "i-4"} {
		s.Group.LaunchConfiguration, s.Group.Desired = current, 3
		if p := Decide(s); len(p.Actions) != 1 || p.Actions[0].Member != want {
			t.Errorf("the group's is %s: %+v, wanted %s", current, p.Actions, want)
		}
	}
	s.Members = slices.DeleteFunc(s.Members, func(v View) bool { return v.ID == "i-4" })
	for current, want := range map[string]string{"third": "i-2", "first": "i-3"} {
		s.Group.LaunchConfiguration, s.Group.Desired = current, 2
		if p := Decide(s); len(p.Actions) != 1 || p.Actions[0].Member != want {
			t.Errorf("the group's is %s: %+v, wanted %s", current, p.Actions, want)
		}
	}
}

// A weighted group has a little more than it wants, and what is launched may weigh less or more than what goes.
func TestARefreshOfAWeightedGroup(t *testing.T) {
	for _, c := range []struct{ lo, hi, before, after int }{{90, 100, 4, 4}, {100, 110, 4, 4}, {100, 110, 4, 1}, {50, 150, 4, 1}, {90, 100, 4, 1}, {90, 110, 2, 5}, {100, 200, 1, 4}} {
		w := newWorld(t, 1)
		g := settings(1, 30)
		g.Template = nil
		policy := func(version string, weight int) *Mixed {
			return &Mixed{Template: TemplateRef{ID: "lt-1", Version: version}, Overrides: []Override{{InstanceType: "m5.large", Weight: weight}}}
		}
		g.Mixed = policy("1", c.before)
		w.create(g, 10)
		w.run(2 * time.Second)
		w.newVersion()
		var r Refresh
		w.must(func(tx *store.WriteTx) (err error) {
			r, err = w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Mixed: policy("2", c.after),
				Preferences: Preferences{MinHealthy: c.lo, MaxHealthy: c.hi, Warmup: 2, Protected: "Wait", Standby: "Wait"}})
			return err
		})
		w.run(120 * time.Second)
		got, units := w.refreshed(r.ID), 0
		for _, m := range w.in(InService) {
			units += max(1, m.Weight)
		}
		if v := versions(w.members()); got.Status != RefreshSuccessful || strings.Contains(v, "1") || units < 10 || units >= 10+max(c.before, c.after) {
			t.Errorf("%+v: %d units, %s, versions %s", c, units, got.Reason+got.Status, v)
		}
		if p := Decide(w.e.situation(w.db.Read(), w.group())); len(p.Actions) > 0 {
			t.Errorf("%+v: it still plans %+v", c, p.Actions)
		}
	}
}

// A replacement that fails its checks too does not leave the group with both.
func TestAReplacementThatIsIllIsReplacedToo(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 10)
	g.Attachments, g.HealthCheckType = []Attachment{{ARN: tgA}}, "ELB"
	g.MinHealthy, g.MaxHealthy = new(100), new(150)
	w.create(g, 2)
	w.run(2 * time.Second)
	first := map[string]bool{}
	for _, m := range w.members() {
		first[m.ID] = true
	}
	sick := w.in(InService)[0].ID
	well := w.now.Add(40 * time.Second)
	w.watch(100*time.Second, func() {
		serving := 0
		for _, m := range w.in(InService) {
			state := TargetState("healthy")
			if m.ID == sick || !first[m.ID] && m.LaunchedAt.Before(well) {
				state = "unhealthy"
			} else {
				serving++
			}
			if len(m.Targets) > 0 {
				w.setTarget(tgA, m.ID, state)
			}
		}
		if serving < 1 || len(w.in(InService)) > 3 {
			t.Fatalf("%d serve of %+v", serving, w.in(InService))
		}
	})
	for _, m := range w.members() {
		if m.State != InService || m.Health != Healthy || m.ID == sick {
			t.Errorf("member %+v", m)
		}
	}
	if len(w.members()) != 2 {
		t.Errorf("%d members", len(w.members()))
	}
}
