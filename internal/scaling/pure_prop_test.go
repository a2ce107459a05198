package scaling

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// anySituation draws a group in any condition, healthy or not.
func anySituation(t *rapid.T) Situation {
	now := time.Unix(1e9, 0).UTC()
	g := settings(rapid.IntRange(0, 3).Draw(t, "min"), rapid.IntRange(4, 12).Draw(t, "max"))
	g.Desired = rapid.IntRange(g.Min, g.Max).Draw(t, "desired")
	g.TerminationPolicies = rapid.SampledFrom([][]string{{"Default"}, {"OldestInstance"}, {"NewestInstance", "Default"}, {"OldestLaunchTemplate", "AllocationStrategy", "ClosestToNextInstanceHour"}}).Draw(t, "policies")
	g.CapacityRebalance = rapid.Bool().Draw(t, "capacity rebalance")
	for _, p := range Processes {
		if rapid.IntRange(0, 9).Draw(t, p) == 0 {
			g.Suspended = append(g.Suspended, Suspension{Process: p})
		}
	}
	s := Situation{Now: now, TimeScale: 1, Group: g, Subnets: []Subnet{{ID: "subnet-za", Zone: "za"}, {ID: "subnet-zb", Zone: "zb"}, {ID: "subnet-zc", Zone: "zc"}}, Current: Template{ID: "lt-1", Version: 3}}
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 1:
		s.Group.Template = nil
		s.Group.Mixed = &Mixed{Template: TemplateRef{ID: "lt-1"}, Distribution: &Distribution{OnDemand: rapid.SampledFrom([]string{Prioritized, LowestPrice}).Draw(t, "od"),
			Base: rapid.IntRange(0, 3).Draw(t, "base"), Percent: rapid.IntRange(0, 100).Draw(t, "percent"), Pools: 2,
			Spot: rapid.SampledFrom([]string{LowestPrice, CapacityOptimized, CapacityPrioritized, PriceCapacity}).Draw(t, "spot")}}
		s.Mixed = s.Group.Mixed
		for i, typ := range []string{"c5.large", "m5.large", "t3.nano"} {
			for _, z := range []string{"za", "zb", "zc"} {
				s.Offers = append(s.Offers, Offer{Priority: i, InstanceType: typ, Weight: 1, Zone: z, Price: float64(3 - i), Spot: float64(i + 1), Room: i})
			}
		}
	case 2:
		s.Group.Warm = &WarmPool{State: "Stopped", Reuse: rapid.Bool().Draw(t, "reuse")}
	}
	if rapid.IntRange(0, 2).Draw(t, "refreshing") == 0 {
		p := Preferences{MinHealthy: rapid.SampledFrom([]int{0, 50, 90, 100}).Draw(t, "min healthy"), MaxHealthy: rapid.SampledFrom([]int{100, 110, 150}).Draw(t, "max healthy"),
			Warmup: rapid.SampledFrom([]int{0, 3600}).Draw(t, "warmup"), SkipMatching: rapid.Bool().Draw(t, "skip"), Protected: rapid.SampledFrom([]string{"Wait", "Ignore"}).Draw(t, "protected pref"),
			Standby: rapid.SampledFrom([]string{"Wait", "Ignore", "Terminate"}).Draw(t, "standby pref"), Checkpoints: rapid.SampledFrom([][]int{nil, {30, 100}, {50}}).Draw(t, "checkpoints")}
		p.MaxHealthy = min(p.MaxHealthy, p.MinHealthy+100)
		s.Refresh = &Refresh{ID: "r", Group: g.Name, Start: now.Add(-time.Minute), Moved: now.Add(-time.Minute), Preferences: p,
			Status: rapid.SampledFrom([]string{RefreshPending, RefreshInProgress, RefreshInProgress, RefreshCancelling, RefreshBaking}).Draw(t, "status")}
	}
	if rapid.IntRange(0, 3).Draw(t, "aged") == 0 {
		s.Group.MaxInstanceLifetime = new(3 * 3600)
	}
	if rapid.IntRange(0, 3).Draw(t, "maintained") == 0 {
		s.Group.MinHealthy, s.Group.MaxHealthy = new(rapid.SampledFrom([]int{50, 90, 100}).Draw(t, "least")), new(rapid.SampledFrom([]int{100, 120, 150}).Draw(t, "most"))
	}
	if rapid.IntRange(0, 3).Draw(t, "hooked") == 0 {
		s.Hooks = []Hook{{Name: "h", Transition: LaunchHook}, {Name: "t", Transition: TerminateHook}}
	}
	states := []string{InService, InService, InService, InService, Pending, PendingWait, Terminating, TerminatingProceed, Standby, Detaching}
	if s.Group.Warm != nil {
		states = append(states, WarmedStopped, WarmedStopped, WarmedPending)
	}
	for i := range rapid.IntRange(0, 14).Draw(t, "members") {
		zone := rapid.SampledFrom([]string{"za", "zb", "zc"}).Draw(t, "zone")
		m := Member{ID: fmt.Sprintf("i-%02d", i), Zone: zone, SubnetID: "subnet-" + zone, State: rapid.SampledFrom(states).Draw(t, "state"), Health: Healthy,
			Protected: rapid.IntRange(0, 3).Draw(t, "protected") == 0, LaunchedAt: now.Add(-time.Duration(rapid.IntRange(1, 5).Draw(t, "age")) * time.Hour),
			Template: &TemplateRef{ID: "lt-1", Version: rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "version")}}
		if s.Refresh != nil && rapid.IntRange(0, 2).Draw(t, "new") == 0 {
			m.Refresh, m.LaunchedAt, m.InServiceAt = "r", now.Add(-30*time.Second), now.Add(-time.Duration(rapid.IntRange(0, 20).Draw(t, "for"))*time.Second)
		}
		v := View{Member: m, Instance: Instance{ID: m.ID, State: "running"}}
		if s.Mixed != nil {
			v.Spot, v.InstanceType = rapid.Bool().Draw(t, "is spot"), rapid.SampledFrom([]string{"c5.large", "m5.large", "t3.nano"}).Draw(t, "type")
			v.Instance.AtRisk = v.Spot && rapid.IntRange(0, 5).Draw(t, "risk") == 0
		}
		if v.State == WarmedStopped {
			v.Instance.State = "stopped"
		}
		if rapid.IntRange(0, 7).Draw(t, "ill") == 0 {
			v.Instance.State = rapid.SampledFrom([]string{"stopped", "terminated", "shutting-down", ""}).Draw(t, "instance")
		}
		s.Members = append(s.Members, v)
	}
	return s
}

// A plan does not depend on the order of what it is made from, is the same each time, leaves its situation alone, keeps what
// is protected and what the group needs, and launches no more than the group lacks.
func TestPlans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySituation(t)
		plan := Decide(s)
		shuffled := s
		shuffled.Members = rapid.Permutation(slices.Clone(s.Members)).Draw(t, "order")
		if other := Decide(shuffled); !reflect.DeepEqual(plan, other) {
			t.Fatalf("in another order\n%+v\nis\n%+v", plan, other)
		}
		have, leaving, launches, extras, draws := 0, map[string]bool{}, 0, 0, 0
		for _, a := range plan.Actions {
			switch {
			case a.Kind == Retire && !a.Warm, a.Kind == Lose:
				leaving[a.Member] = true
			case a.Kind == Launch && a.Rebalance:
				extras++
			case a.Kind == Launch && !a.Warm:
				launches++
			case a.Kind == Draw:
				draws++
			}
		}
		d := &decider{s: s, leaving: map[string]bool{}}
		g := s.Group
		replacing := d.runs() && !d.halted() || g.MaxInstanceLifetime != nil
		sp, counted, ready, still := d.span(), 0, 0, 0
		for i := range s.Members {
			v := &s.Members[i]
			well := v.Instance.State == "running"
			if d.counts(v) && well {
				counted++
				if !leaving[v.ID] {
					have++
				}
			}
			if well && v.State == InService && (d.leaver(v) || !s.Now.Before(v.InServiceAt.Add(time.Duration(sp.warmup)*time.Second))) {
				ready++
				if !leaving[v.ID] {
					still++
				}
			}
			if leaving[v.ID] && v.Protected && well && v.State == InService {
				t.Fatalf("%s is protected, and leaves: %+v", v.ID, plan.Actions)
			}
		}
		blind := g.SuspendedProcess(ProcHealthCheck) || g.SuspendedProcess(ProcReplaceUnhealthy) // the dead count as if they lived
		gone := counted - have
		if !replacing && !blind && gone > max(0, counted-g.Desired) {
			t.Fatalf("%d of %d healthy ones leave a group that wants %d: %+v", gone, counted, g.Desired, plan.Actions)
		}
		// Replacing takes no more than the span leaves ready, one at a time where it leaves nothing to take, and brings no
		// more than it has room for.
		if alone := !sp.first() && gone == 1; replacing && !blind && counted <= g.Desired && still < min(ready, sp.keep(g.Desired)) && !alone {
			t.Fatalf("%d of %d stay ready, and %d shall: %+v", still, ready, sp.keep(g.Desired), plan.Actions)
		}
		if total := have + launches + draws + extras; replacing && !blind && !g.CapacityRebalance && extras+draws > 0 && total > max(sp.top(g.Desired), g.Desired+1) {
			t.Fatalf("%d instances in a group that wants %d, of at most %d%%: %+v", total, g.Desired, sp.hi, plan.Actions)
		}
		if !replacing && (launches > 0 || draws > 0) && have+launches+draws > g.Desired || extras > max(1, g.Max/10)+len(s.Members) {
			t.Fatalf("%d, %d launches, %d drawn and %d extra in a group that wants %d", have, launches, draws, extras, g.Desired)
		}
		if (launches+extras > 0 || draws > 0) && g.SuspendedProcess(ProcLaunch) {
			t.Fatalf("launches while Launch is suspended: %+v", plan.Actions)
		}
	})
}
