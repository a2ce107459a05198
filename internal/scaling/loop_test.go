package scaling

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func TestANewGroupLaunchesOverItsZones(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(2, 10)
	g.Attachments = []Attachment{{ARN: tgA}, {ARN: tgB}}
	g.Tags = []Tag{{Key: "Name", Value: "web", Propagate: true}, {Key: "own", Value: "x"}}
	w.create(g, 2)
	w.run(2 * time.Second)
	if got := zonesOf(w.in(InService)); got["za"] != 1 || got["zb"] != 1 {
		t.Fatalf("in service by zone: %v", got)
	}
	for _, m := range w.members() {
		if m.Health != Healthy || m.Template.Version != "1" || m.Template.Name != "web" {
			t.Errorf("member %+v", m)
		}
		for _, tg := range []string{tgA, tgB} {
			if got := w.e.Balancer.Health(w.db.Read(), here, tg, m.ID); got != "initial" {
				t.Errorf("%s in %s is %q", m.ID, tg, got)
			}
		}
		i, _ := fakeInstances.Get(w.db.Read(), here.Key(m.ID))
		if i.Tags["Name"] != "web" || i.Tags["aws:autoscaling:groupName"] != "g" || i.Tags["own"] != "" {
			t.Errorf("tags %v", i.Tags)
		}
	}
	h := w.history()
	if len(h) != 2 {
		t.Fatalf("%d activities", len(h))
	}
	want := "At 2024-03-01T12:00:00Z a user request created an AutoScalingGroup changing the desired capacity from 0 to 2.  " +
		"At 2024-03-01T12:00:00Z an instance was started in response to a difference between desired and actual capacity, increasing the capacity from 0 to 2."
	for _, a := range h {
		if a.Cause != want || a.Status != StatusSuccessful || a.Progress != 100 || !strings.HasPrefix(a.Description, "Launching a new EC2 instance: i-") {
			t.Errorf("activity %+v", a)
		}
		if !strings.Contains(a.Details, `"Subnet ID":"subnet-z`) || !strings.Contains(a.Details, `"Availability Zone":"z`) {
			t.Errorf("details %s", a.Details)
		}
	}
}

func TestATerminatedInstanceIsReplacedAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(2, 4)
	g.Attachments = []Attachment{{ARN: tgB}}
	w.create(g, 2)
	w.run(2 * time.Second)
	victim := w.in(InService)[0]
	w.setInstance(victim.ID, "shutting-down")
	w.step() // one look, no time passes
	if n := len(w.in(Pending)); n != 1 {
		t.Fatalf("%d pending right after the instance went down", n)
	}
	if p := w.in(Pending)[0]; p.Zone != victim.Zone {
		t.Errorf("the replacement is in %s, not in %s", p.Zone, victim.Zone)
	}
	w.run(3 * time.Second)
	if len(w.in(InService)) != 2 || len(w.members()) != 2 {
		t.Fatalf("members %+v", w.members())
	}
	var causes []string
	for _, a := range w.history() {
		causes = append(causes, a.Cause)
	}
	all := strings.Join(causes, "\n")
	for _, part := range []string{"an instance was taken out of service in response to an EC2 health check indicating it has been terminated or stopped.",
		"an instance was launched in response to an unhealthy instance needing to be replaced."} {
		if !strings.Contains(all, part) {
			t.Errorf("no cause says %q:\n%s", part, all)
		}
	}
}

func TestScaleInDrainsThenTerminates(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 4)
	g.Attachments = []Attachment{{ARN: tgA}}
	w.create(g, 3)
	w.run(2 * time.Second)
	w.must(func(tx *store.WriteTx) error { return w.e.SetDesired(tx, here, "g", 2, false) })
	w.step()
	out := w.in(Terminating)
	if len(out) != 1 || out[0].Zone != "za" {
		t.Fatalf("leaving %+v", out)
	}
	a := w.history()[0]
	want := "At 2024-03-01T12:00:02Z a user request explicitly set group desired capacity changing the desired capacity from 3 to 2.  " +
		"At 2024-03-01T12:00:02Z an instance was taken out of service in response to a difference between desired and actual capacity, shrinking the capacity from 3 to 2.  " +
		"At 2024-03-01T12:00:02Z instance " + out[0].ID + " was selected for termination."
	if a.Cause != want || a.Status != StatusDraining || a.Description != "Terminating EC2 instance: "+out[0].ID+" - Waiting For ELB Connection Draining." {
		t.Errorf("activity %+v", a)
	}
	w.run(9 * time.Second)
	if i, _ := fakeInstances.Get(w.db.Read(), here.Key(out[0].ID)); i.State != "running" {
		t.Fatalf("after 9 s of a 10 s delay it is %s", i.State)
	}
	w.run(3 * time.Second)
	if len(w.members()) != 2 || w.history()[0].Status != StatusSuccessful || w.history()[0].Description != "Terminating EC2 instance: "+out[0].ID {
		t.Fatalf("members %+v, activity %+v", w.members(), w.history()[0])
	}
}

func TestLaunchFailuresGoToTheOtherZoneAndBackOff(t *testing.T) {
	w := newWorld(t, 1)
	w.refuse["za"] = "We currently do not have sufficient t2.micro capacity in the Availability Zone you requested (za)."
	w.create(settings(2, 4), 2)
	w.run(5 * time.Second)
	if got := zonesOf(w.in(InService)); got["zb"] != 2 {
		t.Fatalf("in service %v", got)
	}
	failed := 0
	for _, a := range w.history() {
		if a.Status == StatusFailed {
			failed++
			if a.StatusMessage != w.refuse["za"]+" Launching EC2 instance failed." || a.Progress != 100 ||
				a.Description != "Launching a new EC2 instance.  Status Reason: "+a.StatusMessage {
				t.Errorf("activity %+v", a)
			}
		}
	}
	if failed != 1 {
		t.Fatalf("%d failed activities", failed)
	}
	// The zone recovers: the group is balanced again, launch first.
	delete(w.refuse, "za")
	w.run(80 * time.Second)
	if got := zonesOf(w.members()); got["za"] != 1 || got["zb"] != 1 {
		t.Fatalf("after the recovery %v", got)
	}
}

func TestAWrongTemplateBacksOffEverywhere(t *testing.T) {
	w := newWorld(t, 1)
	w.wrong = fault.New(fault.NotFound, "InvalidAMIID.NotFound", "The image id '[ami-x]' does not exist")
	w.create(settings(1, 4), 1)
	w.run(40 * time.Second) // at 0, 15 and not yet at 45
	if n := len(w.history()); n != 2 {
		t.Fatalf("%d tries within 40 s", n)
	}
	w.wrong = nil
	w.must(func(tx *store.WriteTx) error { // an update tries at once
		_, err := w.e.UpdateGroup(tx, here, "g", nil, nil, nil, func(*Group) {})
		return err
	})
	w.run(2 * time.Second)
	if len(w.in(InService)) != 1 {
		t.Fatalf("members %+v", w.members())
	}
}

func TestAGroupWhoseTemplateIsGoneCanBeMadeSmaller(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 4), 2)
	w.run(2 * time.Second)
	w.must(func(tx *store.WriteTx) error { fakeTemplates.Delete(tx, here.Key("lt-1")); return nil })
	w.must(func(tx *store.WriteTx) error {
		_, err := w.e.UpdateGroup(tx, here, "g", ptr(0), nil, ptr(0), func(*Group) {})
		return err
	})
	w.run(3 * time.Second)
	if len(w.members()) != 0 {
		t.Fatalf("members %+v", w.members())
	}
	err := w.db.Update(func(tx *store.WriteTx) error {
		_, err := w.e.UpdateGroup(tx, here, "g", nil, nil, nil, func(g *Group) { g.Template = &TemplateRef{ID: "lt-2"} })
		return err
	})
	wantError(t, err, "ValidationError", "You must use a valid fully-formed launch template.")
}

func TestTenLaunchesOfWhichThreeFit(t *testing.T) {
	w := newWorld(t, 1)
	w.e.Compute = limited{fakeCompute{w}, 3}
	w.create(settings(0, 20), 10)
	w.step()
	if n := len(w.members()); n != 3 {
		t.Fatalf("%d members, 3 fit", n)
	}
}

type limited struct {
	fakeCompute
	most int
}

func (l limited) Launch(w *store.WriteTx, s scope.Scope, r LaunchRequest) (Instance, error) {
	n := 0
	for range fakeInstances.All(w) {
		n++
	}
	if n >= l.most {
		return Instance{}, fault.New(fault.Capacity, "InsufficientInstanceCapacity", "full")
	}
	return l.fakeCompute.Launch(w, s, r)
}

func TestAPendingInstanceThatDiesIsCancelled(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 2), 1)
	w.step()
	id := w.members()[0].ID
	w.setInstance(id, "terminated")
	w.step()
	a := w.history()[len(w.history())-1]
	if a.Status != StatusCancelled || !strings.HasPrefix(a.StatusMessage, "Instance became unhealthy while waiting for instance to be in InService state.") {
		t.Fatalf("activity %+v", a)
	}
	w.run(3 * time.Second)
	if m := w.in(InService); len(m) != 1 || m[0].ID == id { // the other zone is free to try
		t.Fatalf("members %+v", w.members())
	}
}

func TestELBHealthCountsAfterTheGracePeriod(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(4, 8)
	g.Attachments = []Attachment{{ARN: tgA}}
	g.HealthCheckType, g.GracePeriod = "ELB", 60
	w.create(g, 4)
	w.run(2 * time.Second)
	first := w.in(InService)
	for _, m := range first {
		w.setTarget(tgA, m.ID, "unhealthy")
	}
	w.run(55 * time.Second)
	if n := len(w.in(InService)); n != 4 {
		t.Fatalf("%d in service within the grace period", n)
	}
	w.run(5 * time.Second)
	// One at a time: the group never loses more than a share for failed checks.
	left := slices.DeleteFunc(w.in(InService), func(m Member) bool {
		return !slices.ContainsFunc(first, func(f Member) bool { return f.ID == m.ID })
	})
	if len(left) != 3 {
		t.Fatalf("%d were taken out at once", 4-len(left))
	}
	all := ""
	for _, a := range w.history() {
		all += a.Cause + "\n"
	}
	if !strings.Contains(all, "an instance was taken out of service in response to an ELB system health check failure.") {
		t.Errorf("causes:\n%s", all)
	}
}

// impair lets an instance's status checks fail, or pass again.
func (w *world) impair(id string, fail bool) {
	w.must(func(tx *store.WriteTx) error {
		i, _ := fakeInstances.Get(tx, here.Key(id))
		if i.ImpairedSince = (time.Time{}); fail {
			i.ImpairedSince = w.now
		}
		fakeInstances.Put(tx, i)
		return nil
	})
}

func TestImpairedStatusChecksReplaceAMember(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(4, 8)
	g.GracePeriod = 300
	w.create(g, 4)
	w.run(2 * time.Second)
	first := w.in(InService)
	w.impair(first[0].ID, true)
	w.run(130 * time.Second)
	if len(w.in(InService)) != 4 {
		t.Fatal("replaced within the grace period")
	}
	w.impair(first[0].ID, false)
	w.run(180 * time.Second)
	for _, m := range first {
		w.impair(m.ID, true)
	}
	w.run(119 * time.Second)
	if len(w.in(InService)) != 4 {
		t.Fatal("the checks had no time to recover")
	}
	w.impair(first[1].ID, false)
	w.run(1 * time.Second)
	if n := len(w.in(Terminating)) + len(w.in(TerminatingProceed)); n != 1 {
		t.Fatalf("%d go at once", n)
	}
	w.run(20 * time.Second)
	left := slices.DeleteFunc(w.in(InService), func(m Member) bool {
		return !slices.ContainsFunc(first, func(f Member) bool { return f.ID == m.ID })
	})
	if len(w.in(InService)) != 4 || len(left) != 1 || left[0].ID != first[1].ID {
		t.Fatalf("members %+v", w.members())
	}
	all := ""
	for _, a := range w.history() {
		all += a.Cause + "\n"
	}
	if strings.Count(all, "an instance was taken out of service in response to an EC2 instance status checks failure.") != 3 {
		t.Errorf("causes:\n%s", all)
	}
}

func TestATargetThatRecoversIsNotReplaced(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 2)
	g.Attachments, g.HealthCheckType = []Attachment{{ARN: tgA}}, "ELB"
	w.create(g, 1)
	w.run(2 * time.Second)
	id := w.in(InService)[0].ID
	for _, s := range []TargetState{"unhealthy", "healthy", "unhealthy"} {
		w.setTarget(tgA, id, s)
		w.run(3 * time.Second)
	}
	if m := w.in(InService); len(m) != 1 || m[0].ID != id {
		t.Fatalf("members %+v", w.members())
	}
	w.run(3 * time.Second)
	if len(w.in(InService)) != 0 && w.in(InService)[0].ID == id {
		t.Fatal("it was not replaced when it went on failing")
	}
}

func TestGraceIsScaledNoFurtherThanABoot(t *testing.T) {
	for _, c := range []struct {
		scale, seconds int
		want           time.Duration
	}{{1, 60, time.Minute}, {20, 0, 0}, {20, 60, 30 * time.Second}, {20, 10, 10 * time.Second}, {20, 1200, time.Minute}} {
		if got := (&Engine{TimeScale: c.scale}).grace(Group{GracePeriod: c.seconds}); got != c.want {
			t.Errorf("%d s at scale %d: %v, wanted %v", c.seconds, c.scale, got, c.want)
		}
	}
}

func TestLifecycleHooks(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 2), 1, Hook{Name: "up", Transition: LaunchHook, Heartbeat: 60, DefaultResult: "ABANDON"},
		Hook{Name: "down", Transition: TerminateHook, Heartbeat: 60, DefaultResult: "CONTINUE"})
	w.run(2 * time.Second)
	wait := w.in(PendingWait)
	if len(wait) != 1 || w.history()[0].Status != StatusMidLifecycle {
		t.Fatalf("members %+v", w.members())
	}
	id := wait[0].ID
	err := w.db.Update(func(tx *store.WriteTx) error {
		return w.e.Complete(tx, here, "g", "up", "", "i-0", "CONTINUE")
	})
	wantError(t, err, "ValidationError", "No active Lifecycle Action found with instance ID i-0")
	w.now = w.now.Add(50 * time.Second)
	w.must(func(tx *store.WriteTx) error { return w.e.Heartbeat(tx, here, "g", "up", "", id) })
	w.run(30 * time.Second)
	if len(w.in(PendingWait)) != 1 {
		t.Fatal("the heartbeat did not hold the instance")
	}
	w.must(func(tx *store.WriteTx) error {
		return w.e.Complete(tx, here, "g", "up", wait[0].Pauses[0].Token, "", "CONTINUE")
	})
	if len(w.in(PendingProceed)) != 1 {
		t.Fatalf("completed: %+v", w.members())
	}
	if wake := w.step(); len(w.in(PendingProceed)) != 1 || !wake.Equal(w.now.Add(proceedFor)) {
		t.Fatalf("a step later, to look again at %v: %+v", wake, w.members())
	}
	w.run(proceedFor)
	if m := w.in(InService); len(m) != 1 || m[0].ID != id {
		t.Fatalf("members %+v", w.members())
	}
	// Out: the hook's time passes, the default lets it go on.
	w.must(func(tx *store.WriteTx) error {
		_, err := w.e.UpdateGroup(tx, here, "g", ptr(0), nil, ptr(0), func(*Group) {})
		return err
	})
	w.step()
	if len(w.in(TerminatingWait)) != 1 {
		t.Fatalf("members %+v", w.members())
	}
	w.run(59 * time.Second)
	if len(w.in(TerminatingWait)) != 1 {
		t.Fatal("it did not wait for the heartbeat timeout")
	}
	w.run(4 * time.Second)
	if len(w.members()) != 0 {
		t.Fatalf("members %+v", w.members())
	}
}

func TestAnAbandonedLaunchTellsItsReason(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 2), 1, Hook{Name: "up", Transition: LaunchHook, Heartbeat: 60})
	w.run(2 * time.Second)
	m := w.in(PendingWait)[0]
	w.must(func(tx *store.WriteTx) error { return w.e.Complete(tx, here, "g", "up", "", m.ID, "ABANDON") })
	w.step()
	const message = "Instance failed to complete user's Lifecycle Action: Lifecycle Action with token "
	a, _ := Activities.Get(w.db.Read(), here.Key(m.ActivityID))
	if a.Status != StatusCancelled || !strings.HasPrefix(a.StatusMessage, message) || a.Description != "Launching a new EC2 instance: "+m.ID+".  Status Reason: "+a.StatusMessage {
		t.Errorf("%+v", a)
	}
	if id := instanceIn(a.Description); id != m.ID {
		t.Errorf("the events name %q", id)
	}
}

func TestAnAbandonedLaunchIsReplaced(t *testing.T) {
	w := newWorld(t, 20) // the heartbeat of 60 s is 3 s
	w.create(settings(1, 2), 1, Hook{Name: "up", Transition: LaunchHook, Heartbeat: 60})
	w.run(2 * time.Second)
	id := w.in(PendingWait)[0].ID
	w.run(3 * time.Second)
	for _, m := range w.members() {
		if m.ID == id && !strings.HasPrefix(m.State, Terminating) {
			t.Fatalf("after its timeout %s is %s", id, m.State)
		}
	}
	found := false
	for _, a := range w.history() {
		found = found || a.Status == StatusCancelled && strings.Contains(a.StatusMessage, "was abandoned: Heartbeat Timeout")
	}
	if !found {
		t.Fatalf("history %+v", w.history())
	}
}

func TestDeleteWithAndWithoutForce(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 2), 1, Hook{Name: "down", Transition: TerminateHook})
	w.run(2 * time.Second)
	del := func(force bool) error {
		return w.db.Update(func(tx *store.WriteTx) error { return w.e.DeleteGroup(tx, here, "g", force) })
	}
	wantError(t, del(false), "ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances")
	if err := del(true); err != nil {
		t.Fatal(err)
	}
	if g := w.group(); !g.Deleting {
		t.Fatal("the group does not say that it is being deleted")
	}
	w.run(2 * time.Second)
	if w.group().Name != "" || len(w.history()) != 2 || !w.history()[0].Deleted {
		t.Fatalf("group %+v, history %+v", w.group(), w.history())
	}
	for i := range fakeInstances.All(w.db.Read()) {
		if i.State != "terminated" {
			t.Errorf("%s is %s", i.ID, i.State)
		}
	}
}

func TestSuspendedProcesses(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(2, 4), 2)
	w.run(2 * time.Second)
	suspend := func(p ...string) {
		w.must(func(tx *store.WriteTx) error { return w.e.Suspend(tx, here, "g", p) })
	}
	suspend(ProcReplaceUnhealthy)
	id := w.in(InService)[0].ID
	w.setInstance(id, "stopped")
	w.step()
	if m, _ := Members.Get(w.db.Read(), here.Key(id)); m.Health != Unhealthy || m.State != InService {
		t.Fatalf("member %+v", m)
	}
	suspend(ProcLaunch)
	w.must(func(tx *store.WriteTx) error { return w.e.Resume(tx, here, "g", []string{ProcReplaceUnhealthy}) })
	w.run(3 * time.Second)
	if len(w.members()) != 1 {
		t.Fatalf("members %+v", w.members())
	}
	w.must(func(tx *store.WriteTx) error { return w.e.Resume(tx, here, "g", nil) })
	w.run(2 * time.Second)
	if len(w.in(InService)) != 2 {
		t.Fatalf("members %+v", w.members())
	}
	err := w.db.Update(func(tx *store.WriteTx) error { return w.e.Suspend(tx, here, "g", []string{"Nothing"}) })
	wantError(t, err, "ValidationError", "Invalid Process type: Nothing.")
}

func TestStandbyDetachAttach(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 3)
	g.Attachments = []Attachment{{ARN: tgA}}
	w.create(g, 2)
	w.run(2 * time.Second)
	ids := []string{w.members()[0].ID, w.members()[1].ID}
	move := func(fn func(tx *store.WriteTx) ([]Activity, error)) {
		t.Helper()
		w.must(func(tx *store.WriteTx) error { _, err := fn(tx); return err })
	}
	move(func(tx *store.WriteTx) ([]Activity, error) { return w.e.EnterStandby(tx, here, "g", ids[:1], true) })
	w.run(11 * time.Second)
	if len(w.in(Standby)) != 1 || w.group().Desired != 1 || len(w.members()) != 2 {
		t.Fatalf("members %+v", w.members())
	}
	err := w.db.Update(func(tx *store.WriteTx) error {
		_, err := w.e.EnterStandby(tx, here, "g", ids[1:], true)
		return err
	})
	wantError(t, err, "ValidationError", "has min-size=1, max-size=3, and desired-size=1. To place into standby 1 instance, please update the AutoScalingGroup sizes appropriately.")
	move(func(tx *store.WriteTx) ([]Activity, error) { return w.e.ExitStandby(tx, here, "g", ids[:1]) })
	w.step()
	if len(w.in(InService)) != 2 || w.group().Desired != 2 {
		t.Fatalf("members %+v", w.members())
	}
	move(func(tx *store.WriteTx) ([]Activity, error) { return w.e.Detach(tx, here, "g", ids[:1], false) })
	w.run(12 * time.Second)
	if len(w.in(InService)) != 2 || len(w.members()) != 2 {
		t.Fatalf("a detached instance was not replaced: %+v", w.members())
	}
	if i, _ := fakeInstances.Get(w.db.Read(), here.Key(ids[0])); i.State != "running" || i.Group != "" {
		t.Fatalf("the detached instance: %+v", i)
	}
	w.must(func(tx *store.WriteTx) error { return w.e.AttachInstances(tx, here, "g", ids[:1]) })
	w.step()
	if len(w.in(InService)) != 3 || w.group().Desired != 3 {
		t.Fatalf("members %+v", w.members())
	}
	err = w.db.Update(func(tx *store.WriteTx) error { return w.e.AttachInstances(tx, here, "g", ids[:1]) })
	wantError(t, err, "ValidationError", "is already part of AutoScalingGroup:g")
}

func TestTargetGroupsAttachedLater(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 3), 1)
	w.run(2 * time.Second)
	id := w.members()[0].ID
	w.must(func(tx *store.WriteTx) error { return w.e.AttachTargetGroups(tx, here, "g", []string{tgA}) })
	w.step()
	if got := w.group().Attachments[0].State; got != "Added" {
		t.Fatalf("attachment is %s", got)
	}
	w.setTarget(tgA, id, "healthy")
	w.step()
	if got := w.group().Attachments[0].State; got != "InService" {
		t.Fatalf("attachment is %s", got)
	}
	w.must(func(tx *store.WriteTx) error { return w.e.DetachTargetGroups(tx, here, "g", []string{tgA}) })
	w.run(5 * time.Second)
	if len(w.group().Attachments) != 1 {
		t.Fatal("the attachment is gone before its targets have drained")
	}
	w.run(6 * time.Second)
	if len(w.group().Attachments) != 0 || len(w.members()[0].Targets) != 0 {
		t.Fatalf("attachments %+v", w.group().Attachments)
	}
	err := w.db.Update(func(tx *store.WriteTx) error { return w.e.AttachTargetGroups(tx, here, "g", []string{"arn:none"}) })
	wantError(t, err, "ValidationError", "Provided Target Groups may not be valid. Please ensure they exist and try again.")
}

func TestMixedPolicyTakesTheFirstTypeThatWorks(t *testing.T) {
	w := newWorld(t, 1)
	w.types = map[string]bool{"m5.large": true}
	g := settings(1, 2)
	g.Template, g.Mixed = nil, &Mixed{Template: TemplateRef{ID: "lt-1"}, Overrides: []Override{{InstanceType: "c5.large"}, {InstanceType: "m5.large"}}}
	w.create(g, 1)
	w.run(2 * time.Second)
	if m := w.in(InService); len(m) != 1 || m[0].InstanceType != "m5.large" {
		t.Fatalf("members %+v", w.members())
	}
}

func TestRunSeesAChangeWithinATenthOfASecond(t *testing.T) {
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, refuse: map[string]string{}}
	w.e = &Engine{Compute: fakeCompute{w}, Balancer: fakeBalancer{}, Alarms: fakeCloudWatch{}}
	r := &Reconciler{DB: db, Engine: w.e}
	w.must(func(tx *store.WriteTx) error {
		fakeTemplates.Put(tx, fakeTemplate{Scope: here, Template: Template{ID: "lt-1", Name: "web"}, Latest: 1, Default: 1})
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	wait := func(what string, ok func() bool) time.Duration {
		t.Helper()
		start := time.Now()
		for {
			ch := db.Watch(Members, Groups)
			if ok() {
				return time.Since(start)
			}
			select {
			case <-ch:
			case <-time.After(30 * time.Second):
				t.Fatalf("%s: not within 30 s: %+v", what, w.members())
			}
		}
	}
	w.create(settings(1, 2), 1)
	wait("launched", func() bool { return len(w.in(Pending)) == 1 })
	best := time.Hour
	for n := 0; n < 20 && best > 100*time.Millisecond; n++ { // a busy machine may hold up some of them
		id := w.in(Pending)[0].ID
		w.setInstance(id, "running")
		wait("in service", func() bool { return len(w.in(InService)) == 1 })
		w.setInstance(id, "shutting-down")
		best = min(best, wait("replaced", func() bool { return len(w.in(Pending)) == 1 && w.in(Pending)[0].ID != id }))
	}
	if best > 100*time.Millisecond {
		t.Errorf("a replacement takes %v", best)
	}
}

// The control plane ends between any two steps of a group's life, and the next one goes on from the rows.
func TestARestartAtAnyMomentLosesNothing(t *testing.T) {
	dir := t.TempDir()
	w := newWorldIn(t, 20, dir, nil)
	defer func() { w.db.Close() }()
	g := settings(1, 6)
	g.Attachments, g.HealthCheckType = []Attachment{{ARN: tgA}}, "ELB"
	w.create(g, 3, Hook{Name: "up", Transition: LaunchHook, Heartbeat: 30, DefaultResult: "CONTINUE"}, Hook{Name: "down", Transition: TerminateHook, Heartbeat: 30})
	restart := func() {
		if err := w.db.Close(); err != nil {
			t.Fatal(err)
		}
		w.open(dir, nil)
	}
	for i := range 60 {
		w.now = w.now.Add(250 * time.Millisecond)
		w.step()
		restart()
		if i == 20 {
			w.setInstance(w.in(InService)[0].ID, "shutting-down")
		}
	}
	if len(w.in(InService)) != 3 || len(w.members()) != 3 || w.group().Owed != 0 {
		t.Fatalf("members %+v", w.members())
	}
	w.must(func(tx *store.WriteTx) error { return w.e.DeleteGroup(tx, here, "g", true) })
	for range 20 {
		w.now = w.now.Add(250 * time.Millisecond)
		w.step()
		restart()
	}
	if w.group().Name != "" {
		t.Fatalf("group %+v, members %+v", w.group(), w.members())
	}
	for i := range fakeInstances.All(w.db.Read()) {
		if i.State != "terminated" {
			t.Errorf("%s is %s", i.ID, i.State)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 2), 0)
	w.must(func(tx *store.WriteTx) error {
		g := w.group()
		for i := range pruneActivities + 5 {
			a := begin(tx, g, fmt.Sprintf("n %d", i), "", "", "", nil)
			g.end(tx, a.ID, StatusSuccessful, "")
		}
		prune(tx, g)
		return nil
	})
	if n := len(w.history()); n != maxActivities {
		t.Fatalf("%d activities", n)
	}
}

func ptr[T any](v T) *T { return &v }
