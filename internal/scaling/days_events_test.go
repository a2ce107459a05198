package scaling

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/store"
)

// happen does one event. A refusal by the engine is as good.
func (p *play) happen(ev dayEvent) {
	p.quiet = p.now
	ms := p.members()
	var m Member
	if len(ms) > 0 {
		m = ms[ev.N%len(ms)]
	}
	try := func(fn func(tx *store.WriteTx) error) {
		if err := p.db.Update(fn); err != nil && !errors.Is(err, errCrash) {
			if _, ok := fault.As(err); !ok {
				p.t.Fatalf("%s: %v", ev.Kind, err)
			}
		}
	}
	state, spot := "", false
	if i, ok := fakeInstances.Get(p.db.Read(), here.Key(m.ID)); ok {
		state, spot = i.State, i.Spot
	}
	switch ev.Kind {
	case "die", "stop":
		if state == "running" || state == "pending" {
			p.excused[m.ID] = true
			p.setInstance(m.ID, map[string]string{"die": "shutting-down", "stop": "stopped"}[ev.Kind])
		}
	case "unhealthy":
		p.excused[m.ID] = true
		try(func(tx *store.WriteTx) error { return p.e.SetHealth(tx, here, m.ID, Unhealthy, false) })
	case "target":
		if t, ok := fakeTargets.Get(p.db.Read(), here.Key(tgA+" "+m.ID)); ok && t.State == "healthy" {
			p.excused[m.ID] = true
			p.setTarget(tgA, m.ID, "unhealthy")
		}
	case "zone":
		z := []string{"za", "zb"}[ev.N%2]
		if len(p.zoneBack) > 0 {
			return
		}
		p.refuse[z] = "the zone is down"
		p.zoneBack[z] = p.now.Add(time.Duration(5+ev.N%90) * time.Minute)
		for _, m := range ms {
			if i, _ := fakeInstances.Get(p.db.Read(), here.Key(m.ID)); m.Zone == z && (i.State == "running" || i.State == "pending") {
				p.excused[m.ID] = true
				p.setInstance(m.ID, "shutting-down")
			}
		}
	case "wrong":
		p.wrong = fault.New(fault.Invalid, "InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist")
		p.rightAt = p.now.Add(time.Duration(1+ev.N%30) * time.Minute)
	case "desired":
		n := ev.N % (p.d.group.Max + 1)
		try(func(tx *store.WriteTx) error { return p.e.SetDesired(tx, here, "g", n, false) })
	case "terminate":
		p.excused[m.ID] = true
		try(func(tx *store.WriteTx) error { _, err := p.e.TerminateMember(tx, here, m.ID, ev.N%2 == 0); return err })
	case "standby":
		try(func(tx *store.WriteTx) error {
			_, err := p.e.EnterStandby(tx, here, "g", []string{m.ID}, ev.N%2 == 0)
			return err
		})
	case "back":
		for _, m := range ms {
			if m.State == Standby {
				try(func(tx *store.WriteTx) error { _, err := p.e.ExitStandby(tx, here, "g", []string{m.ID}); return err })
			}
		}
	case "detach":
		try(func(tx *store.WriteTx) error {
			_, err := p.e.Detach(tx, here, "g", []string{m.ID}, ev.N%2 == 0)
			return err
		})
	case "protect":
		if ev.N%3 == 0 { // it may go at once
			p.excused[m.ID] = true
		}
		try(func(tx *store.WriteTx) error {
			return p.e.SetProtection(tx, here, "g", []string{m.ID}, ev.N%3 > 0)
		})
	case "suspend":
		if ev.N%3 == 0 {
			try(func(tx *store.WriteTx) error {
				return p.e.Suspend(tx, here, "g", []string{Processes[ev.N/3%len(Processes)]})
			})
		} else {
			try(func(tx *store.WriteTx) error { return p.e.Resume(tx, here, "g", nil) })
		}
	case "refresh":
		p.newVersion()
		pref := Preferences{MinHealthy: 50 + ev.N%51, MaxHealthy: 100, Warmup: ev.N % 200, Protected: "Ignore", Standby: "Ignore", AutoRollback: ev.N%2 == 0}
		if pref.MinHealthy == 100 {
			pref.MaxHealthy = 110
		}
		try(func(tx *store.WriteTx) error {
			_, err := p.e.StartRefresh(tx, Refresh{Scope: here, Group: "g", Preferences: pref})
			return err
		})
	case "cancel":
		try(func(tx *store.WriteTx) error { _, err := p.e.CancelRefresh(tx, here, "g", ev.N%2 == 0); return err })
	case "sizes":
		lo := ev.N % 3
		hi := max(lo+2, 4+ev.N/3%12)
		try(func(tx *store.WriteTx) error {
			_, err := p.e.UpdateGroup(tx, here, "g", &lo, &hi, nil, func(*Group) {})
			return err
		})
	case "crash":
		p.calls = 1 + ev.N%4
	case "restart":
		p.reopen()
	case "dry": // a type can't be had
		p.types = map[string]bool{"t2.micro": true, "c5.large": ev.N%3 > 0, "m5.large": ev.N%3 != 1, "m5.xlarge": ev.N%3 != 2}
		p.rightAt = p.now.Add(time.Duration(1+ev.N%60) * time.Minute)
	case "interrupt":
		if spot && state == "running" {
			p.must(func(tx *store.WriteTx) error {
				i, _ := fakeInstances.Get(tx, here.Key(m.ID))
				i.AtRisk, i.Interrupting = true, true
				fakeInstances.Put(tx, i)
				return nil
			})
			p.excused[m.ID] = true
			p.ends[m.ID] = p.now.Add(2 * time.Minute)
		}
	case "pool":
		if !p.d.pool {
			return
		}
		switch least, most, reuse := ev.N%4, p.d.group.Max, ev.N%2 == 0; {
		case ev.N%5 == 4:
			try(func(tx *store.WriteTx) error { return p.e.DeleteWarmPool(tx, here, "g", true) })
		default:
			try(func(tx *store.WriteTx) error {
				return p.e.PutWarmPool(tx, here, "g", []string{"Stopped", "Running"}[ev.N/7%2], &least, &most, &reuse)
			})
		}
	case "attach":
		id := ""
		p.must(func(tx *store.WriteTx) error {
			i := fakeInstance{Scope: here, Instance: Instance{ID: tx.NewID("i"), State: "running", ImageID: "ami-1", InstanceType: "t2.micro", SubnetID: "subnet-za", Zone: "za", VpcID: "vpc-1",
				LaunchTime: p.now}, Since: p.now}
			fakeInstances.Put(tx, i)
			id = i.ID
			return nil
		})
		p.excused[id] = true // it may go at once
		try(func(tx *store.WriteTx) error { return p.e.AttachInstances(tx, here, "g", []string{id}) })
	case "balancer":
		try(func(tx *store.WriteTx) error {
			if ev.N%2 == 0 {
				return p.e.AttachTargetGroups(tx, here, "g", []string{tgB})
			}
			return p.e.DetachTargetGroups(tx, here, "g", []string{tgB})
		})
	case "hook":
		try(func(tx *store.WriteTx) error {
			if ev.N%3 == 0 {
				return p.e.DeleteHook(tx, here, "g", "more")
			}
			return p.e.PutHook(tx, Hook{Scope: here, Group: "g", Name: "more", Transition: []string{LaunchHook, TerminateHook}[ev.N%2], Heartbeat: 30 + ev.N%90, DefaultResult: "CONTINUE"})
		})
	case "complete":
		for _, m := range ms {
			for _, h := range m.Pauses {
				result := "CONTINUE"
				if ev.N%2 == 0 {
					result = "ABANDON"
				}
				try(func(tx *store.WriteTx) error { return p.e.Complete(tx, here, "g", h.Hook, h.Token, m.ID, result) })
			}
		}
	case "policy":
		if p.d.target > 0 {
			p.d.target = float64(30 + ev.N%50)
			try(func(tx *store.WriteTx) error { return p.e.DeletePolicy(tx, here, "g", "cpu") }) // it is made anew
		}
	case "schedule":
		at := Scheduled{Scope: here, Group: "g", Name: "once", Start: p.now.Add(time.Duration(10+ev.N%200) * time.Minute)}
		n := ev.N % (p.d.group.Max + 1)
		if ev.N%2 == 0 {
			at.Desired = &n
		} else {
			lo := min(n, 2)
			at.Min, at.Max = &lo, &p.d.group.Max
		}
		try(func(tx *store.WriteTx) error { return p.e.PutSchedule(tx, at) })
	case "settings":
		try(func(tx *store.WriteTx) error {
			_, err := p.e.UpdateGroup(tx, here, "g", nil, nil, nil, func(g *Group) {
				switch ev.N % 3 {
				case 0:
					g.TerminationPolicies = [][]string{{"Default"}, {"NewestInstance"}, {"ClosestToNextInstanceHour"}, {"AllocationStrategy", "OldestInstance"}}[ev.N/3%4]
				case 1:
					g.Subnets, g.ZoneNames = []string{"subnet-za", "subnet-zb", "subnet-zc"}[:2+ev.N/3%2], nil
				case 2:
					g.CapacityRebalance, g.ProtectNew = ev.N/3%2 == 0, ev.N/6%4 == 0
				}
			})
			return err
		})
	case "surge":
		p.surge = p.now.Add(time.Duration(10+ev.N%60) * time.Minute)
	}
}

// holds looks at what must be true after every step.
func (p *play) holds() {
	g, ms := p.group(), p.members()
	if g.Desired < g.Min || g.Desired > g.Max {
		p.t.Fatalf("desired %d is outside of %d to %d", g.Desired, g.Min, g.Max)
	}
	if sizes := [3]int{g.Min, g.Max, g.Desired}; sizes != p.sizes { // a schedule does that too
		p.sizes, p.quiet = sizes, p.now
	}
	_, refreshing := ActiveRefresh(p.db.Read(), g)
	now := map[string]Member{}
	counted, in, pool, heaviest := 0, 0, 0, 1
	pausing, pooling := false, false // some are on their way
	for _, m := range ms {
		now[m.ID] = m
		switch m.State {
		case InService:
			in += max(1, m.Weight)
			counted += max(1, m.Weight)
			heaviest = max(heaviest, max(1, m.Weight))
		case Pending, PendingWait, PendingProceed:
			counted += max(1, m.Weight)
			heaviest = max(heaviest, max(1, m.Weight))
		case Standby, EnteringStandby:
		case WarmedStopped, WarmedRunning:
			pool++
		default:
			pausing = pausing || !m.Warmed()
			pooling = pooling || m.Warmed()
		}
		was, there := p.before[m.ID]
		if there && was.State == InService && was.Protected && m.State == Terminating && !p.excused[m.ID] && was.Health == Healthy {
			if i, ok := fakeInstances.Get(p.db.Read(), here.Key(m.ID)); ok && i.State == "running" {
				p.t.Fatalf("the protected instance %s was taken out: %+v", m.ID, p.world.history()[0].Cause)
			}
		}
	}
	p.before = now
	p.lives()
	// Beyond max only by what zone balance, and refreshes and replacements that launch first, are allowed.
	allowed := max(1, g.Max/10)
	if g.MaxHealthy != nil {
		allowed = max(allowed, (g.Desired**g.MaxHealthy+99)/100-g.Desired)
	}
	if refreshing {
		allowed = max(allowed, (g.Max+9)/10)
	}
	allowed += heaviest - 1
	protected := slices.ContainsFunc(ms, func(m Member) bool { return m.Protected })
	if counted > g.Max+allowed && !protected && !g.SuspendedProcess(ProcTerminate) && p.now.Sub(p.quiet) > 30*time.Minute {
		p.t.Fatalf("%d instances in a group of at most %d", counted, g.Max)
	}
	for i := range fakeInstances.All(p.db.Read()) {
		if i.Group == "g" && i.State != "terminated" && i.State != "shutting-down" {
			if _, ok := now[i.ID]; !ok {
				p.t.Fatalf("instance %s is %s and no member", i.ID, i.State)
			}
		}
	}
	if len(g.Suspended) > 0 || len(p.zoneBack)+len(p.ends) > 0 || p.wrong != nil || p.types != nil || refreshing || p.now.Sub(p.quiet) < 40*time.Minute {
		return
	}
	if g.MaxInstanceLifetime != nil && slices.ContainsFunc(ms, func(m Member) bool { return p.now.Sub(m.LaunchedAt) >= 24*time.Hour }) {
		return
	}
	// Nothing has happened for long: the group is as it should be. The bound: the longest backoff of failed launches (15 minutes), a
	// boot, two hooks, a drain.
	if in < g.Min {
		p.t.Fatalf("%d in service, min is %d, and nothing is in the way", in, g.Min)
	}
	if !pausing && counted == in && (in < g.Desired || in >= g.Desired+heaviest) && !(in > g.Desired && protected) {
		p.t.Fatalf("%d in service, desired is %d, and nothing is in the way", in, g.Desired)
	}
	if pausing || pooling || counted != in {
		if p.now.Sub(p.quiet) > 2*time.Hour {
			p.t.Fatalf("the group finds no rest: %s", p.history()[0].Cause)
		}
		return
	}
	if protected {
		return
	}
	if pool != g.WarmSize() {
		p.t.Fatalf("%d in the warm pool, it should hold %d, and nothing is in the way", pool, g.WarmSize())
	}
	z := zonesOf(p.in(InService))
	lo, hi := math.MaxInt, 0
	for _, s := range g.Subnets {
		n := z[strings.TrimPrefix(s, "subnet-")]
		lo, hi = min(lo, n), max(hi, n)
	}
	if hi-lo > 1 && heaviest == 1 {
		p.t.Fatalf("the zones are out of balance: %v", z)
	}
	if plan := Decide(p.e.situation(p.db.Read(), g)); len(plan.Actions) != 0 {
		p.t.Fatalf("a settled group still plans %+v", plan.Actions)
	}
}

// lives looks at single members: none ends in the moment in which it was launched, none waits for a hook that is not there,
// none is terminated before its connections have drained.
func (p *play) lives() {
	tx := p.db.Read()
	for id, m := range p.before {
		switch m.State {
		case Terminating, TerminatingWait, TerminatingProceed:
			if m.LaunchedAt.Equal(p.now) && !p.excused[id] && p.types == nil { // without a type others come, and weigh more
				p.t.Fatalf("instance %s was launched to be terminated: %s", id, p.world.history()[0].Cause)
			}
		}
		switch m.State {
		case PendingWait, TerminatingWait, WarmedPendingWait, WarmedTerminatingWait:
			if len(m.Pauses) == 0 {
				p.t.Fatalf("instance %s is %s, and for nothing", id, m.State)
			}
		}
		i, _ := fakeInstances.Get(tx, here.Key(id))
		if m.State != TerminatingProceed || i.State != "shutting-down" || !i.Since.Equal(p.now) || p.excused[id] {
			continue
		}
		for _, arn := range []string{tgA, tgB} {
			g, _ := fakeGroups.Get(tx, here.Key(arn))
			if t, ok := fakeTargets.Get(tx, here.Key(arn+" "+id)); ok && (t.State != "draining" || p.now.Before(t.Since.Add(g.Delay))) {
				p.t.Fatalf("instance %s was terminated while it is %s in a target group", id, t.State)
			}
		}
	}
}
