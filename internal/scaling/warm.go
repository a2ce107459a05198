package scaling

import (
	"slices"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Lifecycle states of a member of the warm pool.
const (
	WarmedPending            = "Warmed:Pending"
	WarmedPendingWait        = "Warmed:Pending:Wait"
	WarmedPendingProceed     = "Warmed:Pending:Proceed"
	WarmedStopped            = "Warmed:Stopped"
	WarmedRunning            = "Warmed:Running"
	WarmedTerminating        = "Warmed:Terminating"
	WarmedTerminatingWait    = "Warmed:Terminating:Wait"
	WarmedTerminatingProceed = "Warmed:Terminating:Proceed"
)

// WarmPool keeps instances that are prepared, so that growing the group is quick. They are members, but not part of its
// capacity.
type WarmPool struct {
	State         string // Stopped or Running: how its instances wait
	Min           int
	Prepared      *int `json:",omitempty"` // most members of group and pool together; nil is the group's greatest size
	Reuse         bool `json:",omitempty"` // scaling in brings instances back
	Deleting      bool `json:",omitempty"`
	ForceDeleting bool `json:",omitempty"`
}

// Warmed tells whether a member belongs to the warm pool.
func (m Member) Warmed() bool {
	switch m.State {
	case WarmedPending, WarmedPendingWait, WarmedPendingProceed, WarmedStopped, WarmedRunning, WarmedTerminating, WarmedTerminatingWait, WarmedTerminatingProceed:
		return true
	}
	return false
}

// WarmSize is how many instances the group's warm pool should hold.
func (g Group) WarmSize() int {
	if g.Warm == nil || g.Warm.Deleting || g.Deleting {
		return 0
	}
	return max(g.Warm.Min, deref(g.Warm.Prepared, g.Max)-g.Desired, 0)
}

// warmed tells whether a member is part of what the pool holds, or is about to be.
func (d *decider) warmed(v *View) bool {
	switch v.State {
	case WarmedPending, WarmedPendingWait, WarmedPendingProceed, WarmedStopped, WarmedRunning:
		return !d.leaving[v.ID]
	}
	return false
}

// warmMember advances one member of the pool by its first unfinished step.
func (d *decider) warmMember(v View) {
	force := d.s.Group.ForceDeleting || d.s.Group.Warm != nil && d.s.Group.Warm.ForceDeleting
	if force {
		switch v.State {
		case WarmedTerminating, WarmedTerminatingWait:
			if v.Ending {
				break
			}
			d.plan.do(Action{Kind: Kill, Member: v.ID})
			return
		case WarmedTerminatingProceed:
		default:
			d.retireWarm(v, whySelected(v.ID))
			return
		}
	}
	alive := v.Instance.State == "running"
	switch v.State {
	case WarmedPending:
		hook := LaunchHook
		if v.Reused {
			hook = TerminateHook
		}
		switch {
		case v.Instance.State == "pending":
		case !alive:
			d.lose(v)
		case d.s.Now.Before(v.DrainUntil):
			d.plan.at(v.DrainUntil)
		case d.hooked(hook):
			d.plan.do(Action{Kind: Hold, Member: v.ID})
		default:
			d.plan.do(Action{Kind: Shelve, Member: v.ID})
		}
	case WarmedPendingWait:
		if !alive {
			d.lose(v)
			return
		}
		switch waits, abandoned := d.pauses(v); {
		case abandoned:
			d.retireWarm(v, whyAbandon)
		case !waits:
			d.plan.do(Action{Kind: Proceed, Member: v.ID})
		}
	case WarmedPendingProceed:
		switch {
		case v.Instance.State == "running" && d.s.Now.Before(v.ProceedTill):
			d.plan.at(v.ProceedTill)
		case v.Instance.State == "running":
			d.plan.do(Action{Kind: Shelve, Member: v.ID})
		case v.Instance.State == "stopping":
		case v.Instance.State == "stopped":
			d.plan.do(Action{Kind: Rest, Member: v.ID})
		default:
			d.lose(v)
		}
	case WarmedStopped, WarmedRunning:
		g := d.s.Group
		well := v.State == WarmedRunning && alive || v.State == WarmedStopped && v.Instance.State == "stopped"
		switch {
		case d.staleWarm(v):
			d.retireWarm(v, whyRefresh, whySelected(v.ID))
		case g.SuspendedProcess(ProcReplaceUnhealthy) || g.SuspendedProcess(ProcTerminate):
		case v.Health == Unhealthy:
			d.retireWarm(v, whyUser)
		case !well && !g.SuspendedProcess(ProcHealthCheck):
			d.plan.do(Action{Kind: Mark, Member: v.ID, Cause: "ec2"})
			d.retireWarm(v, whyEC2)
		case v.State == WarmedRunning && !g.SuspendedProcess(ProcHealthCheck) && d.impaired(&v, time.Time{}):
			d.plan.do(Action{Kind: Mark, Member: v.ID, Cause: "status"})
			d.retireWarm(v, whyStatus)
		}
	case WarmedTerminating:
		if v.Ending {
			d.ending(v)
			return
		}
		if d.hooked(TerminateHook) && !v.Abandoned {
			d.plan.do(Action{Kind: Hold, Member: v.ID})
			return
		}
		d.plan.do(Action{Kind: Kill, Member: v.ID})
	case WarmedTerminatingWait:
		if waits, abandoned := d.pauses(v); abandoned || !waits {
			d.plan.do(Action{Kind: Kill, Member: v.ID})
		}
	case WarmedTerminatingProceed:
		d.ending(v)
	}
}

// staleWarm tells whether an instance refresh replaces a member of the pool: after those in service, and as nobody uses them
// all at once.
func (d *decider) staleWarm(v View) bool { return d.renewed && d.outdated(&v) }

// lose gives up a member that died before it was in service.
func (d *decider) lose(v View) {
	d.leaving[v.ID] = true
	d.plan.do(Action{Kind: Lose, Member: v.ID})
}

func (d *decider) retireWarm(v View, why ...string) {
	d.leaving[v.ID] = true
	d.plan.do(Action{Kind: Retire, Member: v.ID, Why: why, Warm: true})
}

// draw finds a member of the pool for the zone with the fewest members that has one, and takes it out of the pool.
func (d *decider) draw(zs *zones) (View, bool) {
	if d.s.Group.Warm == nil {
		return View{}, false
	}
	var best View
	var in *zone
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if v.State != WarmedStopped && v.State != WarmedRunning || d.leaving[v.ID] || v.Health == Unhealthy || d.outdated(v) {
			continue
		}
		for _, z := range zs.list {
			if z.name == v.Zone && !z.blocked && (in == nil || z.count < in.count) {
				best, in = *v, z
			}
		}
	}
	if in != nil {
		in.count++
		in.used[best.SubnetID]++
		d.leaving[best.ID], d.drawn[best.ID] = true, true
	}
	return best, in != nil
}

// reusable is how many members that leave the group may go back into the pool.
func (d *decider) reusable() int {
	g := d.s.Group
	if g.Warm == nil || !g.Warm.Reuse {
		return 0
	}
	n := g.WarmSize()
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if d.warmed(v) {
			n--
		}
	}
	return max(0, n)
}

// warm brings the pool to its size, once the group's own members are seen to.
func (d *decider) warm() {
	g := d.s.Group
	if g.Warm == nil {
		return
	}
	have, left := 0, false
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if d.warmed(v) {
			have++
		}
		left = left || v.Warmed() && !d.drawn[v.ID]
	}
	have += d.returned
	want := g.WarmSize()
	switch {
	case g.Warm.Deleting && !left:
		d.plan.do(Action{Kind: Cool})
	case have < want && !g.SuspendedProcess(ProcLaunch):
		zs := d.zonesOf(d.warmed)
		for ; have < want && d.launches < maxLaunches; have++ {
			a := Action{Warm: true, Why: []string{whyWarm}}
			if _, ok := d.place(zs, &a); !ok {
				return
			}
			d.launches++
			d.plan.do(a)
		}
	case have > want && !g.SuspendedProcess(ProcTerminate):
		d.coolDown(have - want)
	}
}

// coolDown takes members out of the pool: from the fullest zone, the oldest first.
func (d *decider) coolDown(n int) {
	for ; n > 0; n-- {
		count := map[string]int{}
		for i := range d.s.Members {
			v := &d.s.Members[i]
			if d.warmed(v) {
				count[v.Zone]++
			}
		}
		var victim *View
		for i := range d.s.Members {
			if v := &d.s.Members[i]; d.warmed(v) && (victim == nil || count[v.Zone] > count[victim.Zone]) {
				victim = v
			}
		}
		if victim == nil {
			return
		}
		d.retireWarm(*victim, whyShrunk, whySelected(victim.ID))
	}
}

// The sentences of the pool's causes; AWS's own are not published.
const (
	whyWarm   = "an instance was launched into the warm pool in response to a difference between its desired and actual size."
	whyShrunk = "an instance was taken out of the warm pool in response to a difference between its desired and actual size."
)

// shelve makes a prepared member wait as the pool's state says.
func (x *executor) shelve(m Member) error {
	m.Pauses = nil
	state := "Stopped"
	if x.g.Warm != nil {
		state = x.g.Warm.State
	}
	if state == "Running" {
		m.State = WarmedRunning
		x.g.end(x.w, m.ActivityID, StatusSuccessful, "")
		m.ActivityID, m.Reused = "", false
		Members.Put(x.w, m)
		return nil
	}
	if err := x.e.Compute.Stop(x.w, x.g.Scope, m.ID); err != nil {
		if _, ours := fault.As(err); !ours {
			return err
		}
		return x.lose(m) // it can't be stopped, so it can't be in the pool
	}
	m.State = WarmedPendingProceed
	Members.Put(x.w, m)
	return nil
}

// draw starts a member of the pool and makes it one of the group.
func (x *executor) draw(a Action, m Member) error {
	if m.State == WarmedStopped {
		if err := x.e.Compute.Start(x.w, x.g.Scope, m.ID); err != nil {
			return &launchError{action: a, err: err}
		}
	}
	cause, alarms := x.cause(a)
	act := begin(x.w, x.g, "Launching a new EC2 instance from warm pool: "+m.ID, cause, m.SubnetID, m.Zone, alarms)
	x.g.progress(x.w, act.ID, StatusPreInService, 30)
	m.State, m.ActivityID, m.Pauses, m.Protected, m.DrainUntil, m.Rebalance, m.Replacement = Pending, act.ID, nil, x.g.ProtectNew, time.Time{}, a.Rebalance, a.Replaces
	Members.Put(x.w, m)
	if a.Replaces && x.g.Owed > 0 {
		x.g.Owed--
	}
	return nil
}

// giveBack takes a member out of service and into the warm pool.
func (e *Engine) giveBack(w *store.WriteTx, g Group, m Member, cause string, alarms []byte) error {
	if err := e.leave(w, &m, true); err != nil {
		return err
	}
	act := begin(w, g, "Returning EC2 instance to warm pool: "+m.ID, cause, m.SubnetID, m.Zone, alarms)
	if m.DrainUntil.After(w.Now()) {
		g.progress(w, act.ID, StatusDraining, 50)
	}
	m.State, m.ActivityID, m.Pauses, m.Reused, m.Protected = WarmedPending, act.ID, nil, true, false
	Members.Put(w, m)
	return nil
}

const noWarm = "You can't add a warm pool to an Auto Scaling group that has a mixed instances policy or a launch template or launch configuration that requests Spot Instances."

// buysSpot tells whether a group's template or configuration asks for spot instances.
func (e *Engine) buysSpot(tx store.Tx, g Group) bool {
	if g.Template != nil {
		t, err := e.Compute.Resolve(tx, g.Scope, *g.Template)
		return err == nil && t.Spot
	}
	lc, ok := LaunchConfigurations.Get(tx, g.Key(g.LaunchConfiguration))
	return ok && lc.Launch.SpotPrice != ""
}

// PutWarmPool makes or changes a group's warm pool; what is nil or empty stays as it was, or is AWS's default.
func (e *Engine) PutWarmPool(w *store.WriteTx, s scope.Scope, group, state string, least, prepared *int, reuse *bool) error {
	g, err := openGroup(w, s, group)
	if err != nil {
		return err
	}
	p := WarmPool{State: "Stopped"}
	if g.Warm != nil {
		p = *g.Warm
	}
	if p.Deleting {
		return invalid("The warm pool of the Auto Scaling group %s is pending delete.", g.Name)
	}
	switch state {
	case "":
	case "Stopped", "Running":
		p.State = state
	case "Hibernated":
		return fault.New(fault.Unsupported, "ValidationError", "The warm pool state Hibernated is not supported: instances cannot hibernate. Use Stopped or Running.")
	default:
		return invalid("Invalid PoolState: %s.", state)
	}
	p.Min = deref(least, p.Min)
	if p.Min < 0 {
		return invalid("The MinSize of a warm pool must not be negative.")
	}
	if prepared != nil {
		p.Prepared = prepared
		if *prepared == -1 {
			p.Prepared = nil
		} else if *prepared < 0 {
			return invalid("MaxGroupPreparedCapacity must be -1 or more.")
		}
	}
	p.Reuse = deref(reuse, p.Reuse)
	if g.Mixed != nil || e.buysSpot(w, g) {
		return invalid(noWarm)
	}
	g.Warm = &p
	Groups.Put(w, g)
	return nil
}

// DeleteWarmPool begins to delete a group's warm pool. Without force it must be empty.
func (e *Engine) DeleteWarmPool(w *store.WriteTx, s scope.Scope, group string, force bool) error {
	g, err := GetGroup(w, s, group)
	if err != nil {
		return err
	}
	if g.Warm == nil {
		return fault.New(fault.NotFound, "ValidationError", "No warm pool found for Auto Scaling group %s", g.Name)
	}
	if !force && slices.ContainsFunc(MembersOf(w, g), Member.Warmed) {
		return fault.New(fault.Conflict, "ResourceInUse", "You cannot delete a warm pool while there are instances still in it. Use ForceDelete, or set its size to 0 first.")
	}
	p := *g.Warm
	p.Deleting, p.ForceDeleting = true, p.ForceDeleting || force
	g.Warm = &p
	Groups.Put(w, g)
	return nil
}
