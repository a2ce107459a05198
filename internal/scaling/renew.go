package scaling

import "slices"

// span says how far replacing members may take a group's capacity, in percent of desired, and for how many seconds a new
// member warms up before it counts.
type span struct{ lo, hi, warmup int }

// span is that of the refresh under way, or of the instance maintenance policy, or what AWS does without one.
func (d *decider) span() span {
	if r := d.s.Refresh; r != nil && r.Active() && r.Status != RefreshCancelling {
		return span{r.Preferences.MinHealthy, r.Preferences.MaxHealthy, r.Preferences.Warmup}
	}
	g := &d.s.Group
	if g.MinHealthy != nil && g.MaxHealthy != nil {
		return span{*g.MinHealthy, *g.MaxHealthy, deref(g.DefaultWarmup, g.GracePeriod)}
	}
	return span{100 - lifetimeShare, 100, 0}
}

// keep is the least capacity that must be ready, top the most that the group may have.
func (s span) keep(desired int) int { return (desired*s.lo + 99) / 100 }

func (s span) top(desired int) int {
	top := desired * s.hi / 100
	if s.first() {
		top = max(top, desired+1)
	}
	return max(top, desired)
}

// first tells whether replacements are launched before members are taken out: where there may be more, and one at a time
// where there may not be fewer.
func (s span) first() bool { return s.hi > 100 || s.lo >= 100 }

// ready tells whether a member serves: it is in service, healthy by all that the group asks, and warm if it is to stay.
func (d *decider) ready(v *View, warmup int) bool {
	return v.State == InService && v.Health == Healthy && !d.leaving[v.ID] && (d.leaver(v) || !d.warming(v, warmup)) && d.proven(v)
}

func (d *decider) warming(v *View, warmup int) bool {
	warm := v.InServiceAt.Add(d.s.scaled(warmup))
	if d.s.Now.Before(warm) {
		d.plan.at(warm)
		return true
	}
	return false
}

// proven tells whether the load balancers, where the group asks them, have found a member healthy.
func (d *decider) proven(v *View) bool {
	if !d.asksELB {
		return true
	}
	for _, a := range d.s.Group.Attachments {
		if t := v.Targets[a.ARN]; a.State != "Removing" && (t == "initial" || t == "unhealthy") {
			return false
		}
	}
	return true
}

// aged tells whether a member is older than the group allows.
func (d *decider) aged(v *View) bool {
	life := d.s.Group.MaxInstanceLifetime
	return life != nil && *life > 0 && v.State == InService && !v.Protected && !d.s.Now.Before(v.LaunchedAt.Add(d.s.scaled(*life)))
}

// leaver tells whether a member in service is there only until its replacement is.
func (d *decider) leaver(v *View) bool {
	return v.State == InService && (d.stale(v) || d.aged(v) || v.Health == Unhealthy && mild(v.Cause))
}

// renew replaces members, room of them at most (less than 0 is no bound): it takes out as many as the span leaves ready,
// and launches as many as the span has room for, at once. Those that are in service beyond desired are taken out by shrink.
// It is called while the group has its capacity, the launches under way included, and nothing too much that could go.
// Nothing goes while no launch can be tried.
func (d *decider) renew(old []*View, room int, s span, have, extra int, out, in string) bool {
	g := &d.s.Group
	if zs := d.zones(); len(old) == 0 || room == 0 || zs.next(false) == nil && zs.next(true) == nil {
		return false
	}
	count, fresh, available, moving := map[string]int{}, 0, 0, extra > 0
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if d.counts(v) {
			count[v.Zone]++
		}
		if !v.Spot && (d.counts(v) || v.Rebalance && starts(v.State)) && !slices.Contains(old, v) {
			fresh += v.weight()
		}
		if d.ready(v, s.warmup) {
			available += v.weight()
		} else if starts(v.State) || v.State == InService && v.Health == Healthy {
			moving = true
		}
	}
	spare := available - s.keep(g.Desired)
	alone := !s.first() && !moving && !slices.ContainsFunc(old, func(v *View) bool { return v.weight() <= spare })
	pool, taken, left := slices.Clone(old), 0, have+extra
	for len(pool) > 0 && (room < 0 || taken < room) {
		fits := keep(pool, func(v *View) bool {
			return alone && taken == 0 || v.weight() <= spare && d.ready(v, s.warmup) || v.Health == Unhealthy
		})
		if len(fits) == 0 {
			break
		}
		v := d.choose(d.fullest(fits, count))
		if d.ready(v, s.warmup) {
			spare -= v.weight()
		}
		count[v.Zone]--
		left -= v.weight()
		taken++
		pool = keep(pool, func(p *View) bool { return p != v })
		d.retire(*v, false, out, whySelected(v.ID))
	}
	acted := taken > 0
	zones := d.zonesWithout(pool)
	wanted := g.Desired - left // what lacks, and one for each that is still to go
	lightest := 0
	for _, v := range pool {
		wanted += v.weight()
		if lightest == 0 || v.weight() < lightest {
			lightest = v.weight()
		}
	}
	top := s.top(g.Desired)
	if s.first() { // as heavy as the lightest one must be what takes its place
		top = max(top, g.Desired+lightest)
	}
	for n := 0; wanted > 0 && left < top && d.launches < maxLaunches && (room < 0 || n < room); n++ {
		a := Action{Kind: Launch, Rebalance: true, Replaces: n < taken, Why: []string{in}, Spot: d.s.Mixed != nil && fresh >= d.s.Mixed.onDemand(g.Desired)}
		m, ok := d.bring(zones, &a)
		if !ok {
			break
		}
		if !a.Spot {
			fresh += m
		}
		wanted, left, acted = wanted-m, left+m, true
		d.launches++
		d.plan.do(a)
	}
	return acted
}

// bring completes an action that adds a member: one of the warm pool, or else a launch. It returns the capacity that comes.
func (d *decider) bring(zs *zones, a *Action) (int, bool) {
	if v, ok := d.draw(zs); ok {
		a.Kind, a.Member, a.Zone, a.Subnet = Draw, v.ID, v.Zone, v.SubnetID
		return 1, true
	}
	return d.place(zs, a)
}

// starts tells whether a lifecycle state is on the way into service.
func starts(state string) bool {
	return state == Pending || state == PendingWait || state == PendingProceed
}

// lifetimeShare is the percentage of desired that is replaced at once because of its age, without a maintenance policy.
const lifetimeShare = 10

// expire replaces members that are older than the group allows, as many at once as its maintenance policy lets.
func (d *decider) expire(have, extra int) bool {
	g := &d.s.Group
	if g.MaxInstanceLifetime == nil || *g.MaxInstanceLifetime == 0 || g.SuspendedProcess(ProcTerminate) || g.SuspendedProcess(ProcLaunch) {
		return false
	}
	var old []*View
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if v.State != InService || v.Protected || d.leaving[v.ID] {
			continue
		}
		if d.aged(v) {
			old = append(old, v)
		} else {
			d.plan.at(v.LaunchedAt.Add(d.s.scaled(*g.MaxInstanceLifetime)))
		}
	}
	if len(old) == 0 {
		return false
	}
	return d.renew(old, -1, d.span(), have, extra, whyLifetime, whyAged)
}
