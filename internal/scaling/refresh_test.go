package scaling

import (
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/store"
)

func (w *world) newVersion() {
	w.must(func(tx *store.WriteTx) error {
		t, _ := fakeTemplates.Get(tx, here.Key("lt-1"))
		t.Latest++
		fakeTemplates.Put(tx, t)
		return nil
	})
}

func (w *world) refresh(p Preferences, ref *TemplateRef) Refresh {
	w.t.Helper()
	if p.Protected == "" {
		p.Protected, p.Standby = "Wait", "Wait"
	}
	if p.MaxHealthy == 0 {
		p.MaxHealthy = 100
	}
	var r Refresh
	w.must(func(tx *store.WriteTx) (err error) {
		r, err = w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Preferences: p, Template: ref})
		return err
	})
	return r
}

func (w *world) refreshed(id string) Refresh {
	r, _ := Refreshes.Get(w.db.Read(), here.Key(id))
	return r
}

func versions(ms []Member) string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Template.Version)
	}
	return strings.Join(out, "")
}

func TestARefreshReplacesAShareAtATime(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 4)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 50, Warmup: 5}, nil)
	least := 4
	for range 200 {
		w.now = w.now.Add(250 * time.Millisecond)
		w.step()
		least = min(least, len(w.in(InService)))
	}
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || got.Percent != 100 {
		t.Fatalf("refresh %+v", got)
	}
	if least != 2 || versions(w.in(InService)) != "2222" {
		t.Fatalf("at least %d were in service, versions now %s", least, versions(w.members()))
	}
	all := ""
	for _, a := range w.history() {
		all += a.Cause + "\n"
	}
	for _, part := range []string{"an instance was taken out of service in response to an instance refresh.  At", "an instance was launched in response to an instance refresh."} {
		if !strings.Contains(all, part) {
			t.Errorf("no cause says %q:\n%s", part, all)
		}
	}
}

func TestARefreshLaunchesFirstWhenItMay(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 2)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 100, MaxHealthy: 150, Warmup: 2}, nil)
	for range 200 {
		w.now = w.now.Add(250 * time.Millisecond)
		w.step()
		if n := len(w.in(InService)); n < 2 {
			t.Fatalf("%d in service", n)
		}
	}
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful || versions(w.in(InService)) != "22" {
		t.Fatalf("refresh %+v, versions %s", got, versions(w.members()))
	}
}

func TestADesiredConfigurationIsTheGroupsAfterSuccess(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 10)
	g.Template.Version = "1"
	w.create(g, 2)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 0}, &TemplateRef{ID: "lt-1", Version: "2"})
	err := w.db.Update(func(tx *store.WriteTx) error {
		_, err := w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Preferences: r.Preferences})
		return err
	})
	wantError(t, err, "InstanceRefreshInProgress", "already in progress")
	w.run(10 * time.Second)
	if got := w.group().Template.Version; got != "2" || versions(w.in(InService)) != "22" {
		t.Fatalf("the group's version is %s, the members' %s; %+v", got, versions(w.members()), w.refreshed(r.ID))
	}
}

func TestARefreshIsRolledBack(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 10)
	g.Template.Version = "1"
	w.create(g, 4)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 75, Warmup: 3}, &TemplateRef{ID: "lt-1", Version: "2"})
	w.run(8 * time.Second)
	if v := versions(w.in(InService)); !strings.Contains(v, "2") || !strings.Contains(v, "1") {
		t.Fatalf("half way the versions are %s", v)
	}
	w.must(func(tx *store.WriteTx) error { _, err := w.e.RollbackRefresh(tx, here, "g"); return err })
	w.run(60 * time.Second)
	if got := w.refreshed(r.ID); got.Status != RefreshRollbackSuccessful || versions(w.in(InService)) != "1111" || w.group().Template.Version != "1" {
		t.Fatalf("refresh %+v, versions %s", got, versions(w.members()))
	}
	err := w.db.Update(func(tx *store.WriteTx) error { _, err := w.e.CancelRefresh(tx, here, "g", true); return err })
	wantError(t, err, "ActiveInstanceRefreshNotFound", "")
}

func TestARefreshWaitsForProtectedMembersAndCheckpoints(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 2)
	w.run(2 * time.Second)
	w.newVersion()
	id := w.members()[0].ID
	w.must(func(tx *store.WriteTx) error { return w.e.SetProtection(tx, here, "g", []string{id}, true) })
	r := w.refresh(Preferences{MinHealthy: 50, Checkpoints: []int{50, 100}, CheckpointDelay: 30}, nil)
	w.run(20 * time.Second)
	if got := w.refreshed(r.ID); got.Status != RefreshInProgress || got.Percent != 50 || !strings.Contains(got.Reason, "checkpoint at 50%") {
		t.Fatalf("refresh %+v", got)
	}
	w.run(20 * time.Second)
	if got := w.refreshed(r.ID); !strings.Contains(got.Reason, "is protected. Remove instance scale-in protection to continue.") {
		t.Fatalf("refresh %+v", got)
	}
	w.must(func(tx *store.WriteTx) error { return w.e.SetProtection(tx, here, "g", []string{id}, false) })
	w.run(20 * time.Second)
	if got := w.refreshed(r.ID); got.Status != RefreshSuccessful {
		t.Fatalf("refresh %+v", got)
	}
}

func TestUnhealthyMembersAreReplacedFirstWhenTheGroupMayBeLarger(t *testing.T) {
	w := newWorld(t, 1)
	g := settings(1, 10)
	g.Attachments, g.HealthCheckType = []Attachment{{ARN: tgA}}, "ELB"
	g.MinHealthy, g.MaxHealthy = ptr(100), ptr(150)
	w.create(g, 2)
	w.run(2 * time.Second)
	sick := w.in(InService)[0].ID
	w.setTarget(tgA, sick, "unhealthy")
	for range 80 {
		w.now = w.now.Add(250 * time.Millisecond)
		w.step()
		for _, m := range w.in(InService) {
			if m.ID != sick {
				w.setTarget(tgA, m.ID, "healthy")
			}
		}
		if n := len(w.in(InService)); n < 2 || n > 3 {
			t.Fatalf("%d in service", n)
		}
	}
	if len(w.members()) != 2 || w.members()[0].ID == sick || w.members()[1].ID == sick {
		t.Fatalf("members %+v", w.members())
	}
}

func TestACancelledRefreshWaitsForWhatIsOnItsWay(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(0, 4), 2)
	w.run(3 * time.Second)
	w.must(func(tx *store.WriteTx) error {
		_, err := w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Preferences: Preferences{MinHealthy: 50, MaxHealthy: 100, Protected: "Wait", Standby: "Wait"}})
		return err
	})
	w.run(500 * time.Millisecond)
	var r Refresh
	w.must(func(tx *store.WriteTx) (err error) { r, err = w.e.CancelRefresh(tx, here, "g", true); return err })
	w.step()
	status := func() string { r, _ = Refreshes.Get(w.db.Read(), r.Key(r.ID)); return r.Status }
	if s := status(); s != RefreshCancelling {
		t.Fatalf("right away it is %s", s)
	}
	w.run(5 * time.Second)
	if s := status(); s != RefreshCancelled || r.End.IsZero() || len(w.in(InService)) != 2 {
		t.Fatalf("at last it is %s with %+v", s, w.members())
	}
}

// TestSkipMatchingComparesOverrides: what a policy's overrides say of a member's type, image and template counts.
func TestSkipMatchingComparesOverrides(t *testing.T) {
	policy := func(o ...Override) *Mixed {
		return &Mixed{Template: TemplateRef{ID: "lt-1", Version: "1"}, Overrides: o}
	}
	other := TemplateRef{ID: "lt-2", Version: "1"}
	for name, c := range map[string]struct {
		from, to *Mixed
		keep     int // members that stay
	}{
		"the same policy":           {policy(Override{InstanceType: "c5.large", Template: &other}), policy(Override{InstanceType: "c5.large", Template: &other}), 2},
		"another type":              {policy(Override{InstanceType: "c5.large"}), policy(Override{InstanceType: "m5.large"}), 0},
		"one more type":             {policy(Override{InstanceType: "c5.large"}), policy(Override{InstanceType: "m5.large"}, Override{InstanceType: "c5.large"}), 2},
		"an override's template":    {policy(Override{InstanceType: "c5.large"}), policy(Override{InstanceType: "c5.large", Template: &other}), 0},
		"an override's new version": {policy(Override{InstanceType: "c5.large", Template: &other}), policy(Override{InstanceType: "c5.large", Template: &TemplateRef{ID: "lt-2", Version: "2"}}), 0},
		"an override's image":       {policy(Override{InstanceType: "c5.large"}), policy(Override{InstanceType: "c5.large", ImageID: "ami-2"}), 0},
		"the template of another":   {policy(Override{InstanceType: "c5.large"}), policy(Override{InstanceType: "c5.large", Template: &other}, Override{InstanceType: "m5.large"}), 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.must(func(tx *store.WriteTx) error {
				fakeTemplates.Put(tx, fakeTemplate{Scope: here, Template: Template{ID: "lt-2", Name: "other"}, Latest: 2, Default: 1})
				return nil
			})
			g := settings(1, 4)
			g.Template, g.Mixed = nil, c.from
			w.create(g, 2)
			w.run(2 * time.Second)
			before := w.in(InService)
			var r Refresh
			w.must(func(tx *store.WriteTx) (err error) {
				r, err = w.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Mixed: c.to, Preferences: Preferences{MaxHealthy: 100, SkipMatching: true, Protected: "Wait", Standby: "Wait"}})
				return err
			})
			w.run(20 * time.Second)
			if got := w.refreshed(r.ID); got.Status != RefreshSuccessful {
				t.Fatalf("%s %s", got.Status, got.Reason)
			}
			kept := 0
			for _, m := range w.in(InService) {
				if slices.ContainsFunc(before, func(b Member) bool { return b.ID == m.ID }) {
					kept++
				}
			}
			if kept != c.keep || len(w.in(InService)) != 2 {
				t.Errorf("%d stayed, wanted %d: %+v", kept, c.keep, w.members())
			}
		})
	}
}

// TestARefreshOvertakenByAVersion: all members have the newest version in the end, also those replaced before it was made.
func TestARefreshOvertakenByAVersion(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 4), 3)
	w.run(2 * time.Second)
	w.newVersion()
	r := w.refresh(Preferences{MinHealthy: 60, Warmup: 2}, &TemplateRef{ID: "lt-1", Version: "$Latest"})
	w.run(4 * time.Second)
	if got := versions(w.in(InService)); !strings.Contains(got, "2") || !strings.Contains(got, "1") {
		t.Fatalf("versions %s", got)
	}
	w.newVersion()
	w.run(60 * time.Second)
	if got := versions(w.in(InService)); got != "333" || w.refreshed(r.ID).Status != RefreshSuccessful {
		t.Errorf("versions %s, %+v", got, w.refreshed(r.ID))
	}
}
