package scaling

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Bounds of one plan.
const (
	maxLaunches    = 20 // in one plan; the next round makes more
	softShare      = 10 // percent of desired that may be replaced at once for a failed ELB check
	backoffFirst   = 15 // seconds
	backoffLast    = 900
	maxBackoffStep = 6 // doublings: 15 s to 15 min
	rebalancePause = 60
)

// elbPeriod is how long a member must have failed its load balancer's checks: AWS asks ELB now and then, not always, so a
// target that is back at once is not replaced. It is not scaled, as it is about real machines.
const elbPeriod = 5 * time.Second

// impairedFor is how long a member's status checks must have failed, in seconds: AWS gives them a few minutes to recover.
const impairedFor = 120

// anyZone is the backoff of failures that have nothing to do with a zone.
const anyZone = "*"

// View is a member with what the world says about it.
type View struct {
	Member
	Instance Instance // State is empty when EC2 does not know it any more
	Targets  map[string]TargetState
}

func (v *View) weight() int { return max(1, v.Weight) }

// alive tells whether the instance runs or is about to.
func (v *View) alive() bool { return v.Instance.State == "running" || v.Instance.State == "pending" }

// gone tells whether EC2 has finished with the instance.
func (v *View) gone() bool { return v.Instance.State == "" || v.Instance.State == "terminated" }

// Situation is everything that a decision about one group depends on.
type Situation struct {
	Now       time.Time
	TimeScale int
	Group     Group
	Members   []View
	Hooks     []Hook
	Subnets   []Subnet // of the group, in order
	// Current is the launch template that the group launches from now, resolved; zero when it can't be.
	Current Template
	// Mixed is the mixed policy that the group launches by now, and Offers what it comes to in each zone.
	Mixed  *Mixed
	Offers []Offer
	// Configurations tells when the launch configurations that members come from were made.
	Configurations map[string]time.Time
	// Exists tells which of the attached target groups are still there.
	Exists map[string]bool
	// Refresh is the instance refresh under way, or nil; Alarmed tells whether one of its alarms is in ALARM.
	Refresh *Refresh
	Alarmed bool
}

func (s Situation) scaled(seconds int) time.Duration {
	return (&Engine{TimeScale: s.TimeScale}).scaled(seconds)
}

// Kind is what an action does.
type Kind int

// The kinds of actions.
const (
	Launch     Kind = iota // one instance in Zone, Subnet
	Mark                   // the member is unhealthy: Cause
	Retire                 // take the member out of service and terminate it
	Hold                   // the member waits for the hooks
	Expire                 // the member's hook Token has timed out
	Admit                  // register with the target groups and be in service
	Kill                   // terminate the instance
	Remove                 // the instance is gone: forget the member
	Lose                   // the instance died before it was in service
	Release                // the detached member has drained: let it go
	Park                   // the member has drained: standby
	Register               // a member in service joins a target group attached later
	Deregister             // a member leaves a target group that is detached
	Attach                 // the target group's attachment is now State
	Settle                 // desired and actual agree, nothing is under way: forget reasons, start a cooldown
	Bury                   // the deleted group has no members left
	Refreshed              // the refresh's progress changed
	Suspect                // the member has begun to fail its load balancer's checks
	Trust                  // it passes them again
	Draw                   // take the member out of the warm pool into the group
	Shelve                 // the prepared member goes to rest in the warm pool
	Rest                   // it does
	Cool                   // the deleted warm pool has no members left
	Retain                 // the abandoned member stays, out of service
	Proceed                // the member's hooks are through
)

var kindNames = [...]string{"Launch", "Mark", "Retire", "Hold", "Expire", "Admit", "Kill", "Remove", "Lose", "Release", "Park", "Register",
	"Deregister", "Attach", "Settle", "Bury", "Refreshed", "Suspect", "Trust", "Draw", "Shelve", "Rest", "Cool", "Retain", "Proceed"}

// String returns the kind's name.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// Action is one effect of a plan. Why is the sentence of the activity's cause, without its time.
type Action struct {
	Kind      Kind
	Member    string
	Zone      string
	Subnet    string
	Cause     string   // of Mark: ec2, status, elb, user
	Why       []string // sentences
	Reasoned  bool     // the group's reasons come first in the cause
	Replaces  bool     // of Launch: pays one of the group's owed replacements
	Rebalance bool
	Drain     bool    // of Retire: wait for the deregistration delay
	Token     string  // of Expire
	Spot      bool    // of Launch: a spot instance
	Offers    []Offer // of Launch by a mixed policy: to be tried in their order
	Warm      bool    // of Launch and Retire: of the warm pool
	Return    bool    // of Retire: into the warm pool
	ARN       string  // of Register, Deregister, Attach
	State     string  // of Attach
	Refresh   *Refresh
}

// Plan is what to do now, in order, and when to look again if nothing changes before; a zero Wake means never.
type Plan struct {
	Actions []Action
	Wake    time.Time
}

func (p *Plan) do(a Action) { p.Actions = append(p.Actions, a) }

// at asks to look again at t.
func (p *Plan) at(t time.Time) {
	if !t.IsZero() && (p.Wake.IsZero() || t.Before(p.Wake)) {
		p.Wake = t
	}
}

// The sentences of causes, AWS's own.
const (
	whyEC2      = "an instance was taken out of service in response to an EC2 health check indicating it has been terminated or stopped."
	whyELB      = "an instance was taken out of service in response to an ELB system health check failure."
	whyStatus   = "an instance was taken out of service in response to an EC2 instance status checks failure."
	whyUser     = "an instance was taken out of service in response to a user health-check."
	whyReplaced = "an instance was launched in response to an unhealthy instance needing to be replaced."
	whyLifetime = "an instance was taken out of service in response to instance max lifetime expiration."
	whyAged     = "an instance was launched in response to instance max lifetime expiration."
	whyRefresh  = "an instance was taken out of service in response to an instance refresh."
	whyRenewed  = "an instance was launched in response to an instance refresh."
	whyAbandon  = "an instance was taken out of service in response to a launch lifecycle action that was abandoned."
	whyDelete   = "a user request force deleted the AutoScalingGroup changing the desired capacity from %d to 0."
)

var whySick = map[string]string{"ec2": whyEC2, "status": whyStatus, "elb": whyELB, "user": whyUser}

// mild tells of causes that a member may live with for a while: those are replaced a share at a time.
func mild(cause string) bool { return cause == "elb" || cause == "status" }

func whySelected(id string) string { return "instance " + id + " was selected for termination." }

// Decide says what a group needs next. It is pure: equal situations give equal plans.
func Decide(s Situation) Plan {
	if order := byAge; !slices.IsSortedFunc(s.Members, order) {
		s.Members = slices.Clone(s.Members)
		slices.SortFunc(s.Members, order)
	}
	d := &decider{s: s, leaving: map[string]bool{}, drawn: map[string]bool{}, asksELB: checks(s.Group.HealthCheckType, "ELB")}
	if s.Group.Warm != nil && d.runs() && !d.halted() {
		l := d.look(s.Refresh)
		d.renewed = len(l.old)+l.holds+l.comings == 0
	}
	for i := range s.Members {
		if v := &s.Members[i]; v.State != InService || s.Group.ForceDeleting {
			d.member(*v)
		}
	}
	if s.Group.Deleting {
		if len(s.Members) == 0 {
			d.plan.do(Action{Kind: Bury})
		}
		return d.plan
	}
	d.attachments()
	d.replaceUnhealthy()
	d.capacity()
	d.warm()
	return d.plan
}

func byAge(a, b View) int { return cmp.Or(a.LaunchedAt.Compare(b.LaunchedAt), cmp.Compare(a.ID, b.ID)) }

type decider struct {
	s       Situation
	asksELB bool // the group's health is the load balancers' too
	plan    Plan
	leaving map[string]bool // members that this plan takes out
	drawn   map[string]bool // members of the warm pool that it brings in

	launches int            // that the plan has
	bought   map[string]int // spot launches of the plan, by zone and type
	returned int            // members that go back into the warm pool

	replacing bool // an instance refresh replaces members: other replacements wait
	renewed   bool // it has replaced all but the warm pool
}

// retire takes a member out of service and lets it go.
func (d *decider) retire(v View, reasoned bool, why ...string) {
	d.leaving[v.ID] = true
	d.plan.do(Action{Kind: Retire, Member: v.ID, Why: why, Reasoned: reasoned, Drain: v.alive() && !d.s.Group.ForceDeleting})
}

// member advances one member's life by its first unfinished step.
func (d *decider) member(v View) {
	if v.Warmed() {
		d.warmMember(v)
		return
	}
	g := d.s.Group
	if g.ForceDeleting {
		switch v.State {
		case Terminating, TerminatingWait, TerminatingRetained:
			if v.Ending {
				break
			}
			d.plan.do(Action{Kind: Kill, Member: v.ID})
			return
		case Pending, PendingWait, PendingProceed, InService, Standby, EnteringStandby:
			d.retire(v, true, whySelected(v.ID))
			return
		}
	}
	switch v.State {
	case Pending, PendingProceed:
		switch {
		case v.Instance.State == "pending":
		case v.Instance.State != "running":
			d.lose(v)
		case v.State == Pending && !v.Adopted && d.hooked(LaunchHook):
			d.plan.do(Action{Kind: Hold, Member: v.ID})
		case v.State == PendingProceed && d.s.Now.Before(v.ProceedTill):
			d.plan.at(v.ProceedTill)
		default:
			d.plan.do(Action{Kind: Admit, Member: v.ID})
		}
	case PendingWait:
		if v.Instance.State != "running" {
			d.lose(v)
			return
		}
		switch waits, abandoned := d.pauses(v); {
		case abandoned:
			d.retire(v, false, whyAbandon)
		case !waits:
			d.plan.do(Action{Kind: Proceed, Member: v.ID})
		}
	case Terminating:
		if v.Ending {
			d.ending(v)
			return
		}
		if v.alive() && d.s.Now.Before(v.DrainUntil) {
			d.plan.at(v.DrainUntil)
			return
		}
		if d.hooked(TerminateHook) && !v.Abandoned && !g.ForceDeleting {
			d.plan.do(Action{Kind: Hold, Member: v.ID})
			return
		}
		d.plan.do(Action{Kind: Kill, Member: v.ID})
	case TerminatingWait:
		switch waits, abandoned := d.pauses(v); {
		case abandoned && g.RetainAbandoned && v.alive():
			d.plan.do(Action{Kind: Retain, Member: v.ID})
		case abandoned || !waits:
			d.plan.do(Action{Kind: Kill, Member: v.ID})
		}
	case TerminatingRetained:
		if v.gone() {
			d.plan.do(Action{Kind: Remove, Member: v.ID})
		}
	case TerminatingProceed:
		d.ending(v)
	case Detaching, EnteringStandby:
		if v.alive() && d.s.Now.Before(v.DrainUntil) {
			d.plan.at(v.DrainUntil)
			return
		}
		d.plan.do(Action{Kind: map[string]Kind{Detaching: Release, EnteringStandby: Park}[v.State], Member: v.ID})
	case Standby:
		if v.gone() {
			d.plan.do(Action{Kind: Remove, Member: v.ID})
		}
	}
}

// ending waits for the end of a member that is being terminated.
func (d *decider) ending(v View) {
	switch v.Instance.State {
	case "shutting-down":
	case "", "terminated":
		d.plan.do(Action{Kind: Remove, Member: v.ID})
	default: // it was started again meanwhile
		d.plan.do(Action{Kind: Kill, Member: v.ID})
	}
}

func (d *decider) hooked(transition string) bool {
	return slices.ContainsFunc(d.s.Hooks, func(h Hook) bool { return h.Transition == transition })
}

// pauses tells whether any of a member's hooks is still open, and whether one was abandoned. It plans the expiry of those
// whose time is up.
func (d *decider) pauses(v View) (waits, abandoned bool) {
	for _, p := range v.Pauses {
		end := p.Deadline
		if p.GlobalUntil.Before(end) {
			end = p.GlobalUntil
		}
		switch {
		case p.Result == "ABANDON":
			abandoned = true
		case p.Result != "":
		case !d.s.Now.Before(end):
			d.plan.do(Action{Kind: Expire, Member: v.ID, Token: p.Token})
			waits = true // decided again with the result
		default:
			d.plan.at(end)
			waits = true
		}
	}
	return waits, abandoned
}

// attachments brings target groups attached or detached after the members were launched to their members.
func (d *decider) attachments() {
	g := d.s.Group
	for _, a := range g.Attachments {
		if a.State == "Removing" {
			left := false
			for _, v := range d.s.Members {
				if slices.Contains(v.Member.Targets, a.ARN) && v.State == InService {
					d.plan.do(Action{Kind: Deregister, Member: v.ID, ARN: a.ARN})
					left = true
				}
				if v.Targets[a.ARN] == "draining" && d.s.Exists[a.ARN] {
					left = true
				}
			}
			if !left {
				d.plan.do(Action{Kind: Attach, ARN: a.ARN, State: "Removed"})
			}
			continue
		}
		all, passed := true, false
		for _, v := range d.s.Members {
			if v.State != InService || d.leaving[v.ID] {
				continue
			}
			if !slices.Contains(v.Member.Targets, a.ARN) {
				if !a.AtCreation && !v.Unlisted && !g.SuspendedProcess(ProcAddToLoadBalancer) && d.s.Exists[a.ARN] {
					d.plan.do(Action{Kind: Register, Member: v.ID, ARN: a.ARN})
				}
				all = all && (a.AtCreation || v.Unlisted)
				continue
			}
			passed = passed || v.Targets[a.ARN] == "healthy"
		}
		switch {
		case a.State == "Adding" && all:
			d.plan.do(Action{Kind: Attach, ARN: a.ARN, State: "Added"})
		case a.State == "Added" && passed:
			d.plan.do(Action{Kind: Attach, ARN: a.ARN, State: "InService"})
		}
	}
}

// impaired tells whether a member's status checks have failed for so long, and its grace is over, that it is given up.
func (d *decider) impaired(v *View, grace time.Time) bool {
	since := v.Instance.ImpairedSince
	if since.IsZero() {
		return false
	}
	sure := since.Add(d.s.scaled(impairedFor))
	if sure.Before(grace) {
		sure = grace
	}
	if d.s.Now.Before(sure) {
		d.plan.at(sure)
		return false
	}
	return true
}

// judge tells why a member in service is unhealthy now, or "".
func (d *decider) judge(v *View) string {
	g := &d.s.Group
	if v.Health == Unhealthy {
		return cmp.Or(v.Cause, "user")
	}
	if g.SuspendedProcess(ProcHealthCheck) {
		return ""
	}
	if v.Instance.State != "running" {
		return "ec2"
	}
	grace := v.InServiceAt.Add((&Engine{TimeScale: d.s.TimeScale}).grace(*g))
	if d.impaired(v, grace) {
		return "status"
	}
	if !d.asksELB {
		return ""
	}
	failed := false
	for _, a := range g.Attachments {
		if (a.AtCreation || a.State == "InService") && slices.Contains(v.Member.Targets, a.ARN) && v.Targets[a.ARN] == "unhealthy" {
			failed = true
		}
	}
	switch {
	case !failed && !v.FailingSince.IsZero():
		d.plan.do(Action{Kind: Trust, Member: v.ID})
		return ""
	case !failed:
		return ""
	case v.FailingSince.IsZero():
		d.plan.do(Action{Kind: Suspect, Member: v.ID})
		return ""
	}
	if sure := v.FailingSince.Add(elbPeriod); sure.After(grace) {
		grace = sure
	}
	if d.s.Now.Before(grace) {
		d.plan.at(grace)
		return ""
	}
	return "elb"
}

// replaceUnhealthy marks members that fail their checks and takes them out: those that do not run, and those that a user
// has marked, at once; those that fail an ELB or a status check a share at a time.
func (d *decider) replaceUnhealthy() {
	g := d.s.Group
	starting, inService := 0, 0
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if v.State == InService && !d.leaving[v.ID] {
			inService += v.weight()
		}
		if starts(v.State) || v.Replacement && d.settling(v) {
			starting++
		}
	}
	soft := max(1, g.Desired*softShare/100) - starting
	// A group that may be larger meanwhile, and may not be smaller, launches the replacement first. The unhealthy member
	// is the first to go when the new one is in service.
	first := g.MinHealthy != nil && *g.MinHealthy == 100 && *g.MaxHealthy > 100 && !g.SuspendedProcess(ProcLaunch)
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if v.State != InService {
			continue
		}
		cause := d.judge(v)
		if cause == "" {
			continue
		}
		if v.Health != Unhealthy {
			d.plan.do(Action{Kind: Mark, Member: v.ID, Cause: cause})
		}
		if g.SuspendedProcess(ProcReplaceUnhealthy) || g.SuspendedProcess(ProcTerminate) {
			continue
		}
		if mild(cause) {
			if soft <= 0 {
				continue
			}
			soft--
			if first {
				if inService > g.Desired { // the replacement is there: shrink takes this one
					continue
				}
				a := Action{Spot: v.Spot, Rebalance: true, Why: []string{whyReplaced}}
				if _, ok := d.place(d.zones(), &a); ok {
					d.plan.do(a)
				}
				continue
			}
		}
		d.retire(*v, false, whySick[cause])
	}
}

// settling tells of a replacement in service that has not passed its first checks, or is not warm: others wait for it.
func (d *decider) settling(v *View) bool {
	if v.State != InService || v.Health != Healthy {
		return false
	}
	if d.asksELB {
		for _, a := range d.s.Group.Attachments {
			if a.State != "Removing" && v.Targets[a.ARN] == "initial" {
				return true
			}
		}
	}
	return d.warming(v, deref(d.s.Group.DefaultWarmup, 0))
}

// checks tells whether a health check type names one kind of check.
func checks(types, one string) bool {
	return slices.Contains(splitList(types), one)
}

// counts tells whether a member is part of the group's capacity.
func (d *decider) counts(v *View) bool {
	switch v.State {
	case Pending, PendingWait, PendingProceed:
		// One that is launched to balance zones takes another's place only when it is in service.
		return !d.leaving[v.ID] && !v.Rebalance
	case InService, EnteringStandby:
		return !d.leaving[v.ID] && v.State == InService
	}
	return false
}

// capacity launches what is missing, and takes out what is too much.
func (d *decider) capacity() {
	g := d.s.Group
	have, busy, extra := 0, len(d.leaving) > 0, 0
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if d.counts(v) {
			have += v.weight()
		}
		switch v.State {
		case Pending, PendingWait, PendingProceed:
			busy = true
			if v.Rebalance && !d.leaving[v.ID] {
				extra += v.weight()
			}
		case Terminating, Detaching, EnteringStandby:
			busy = busy || !v.Ending
		}
	}
	d.cancelled(busy)
	d.relieve(have, extra)
	// A weighted group may have more than it wants, by less than any member weighs that could go: that is its capacity.
	over := have > g.Desired && (d.s.Mixed == nil || len(d.victims(have-g.Desired)) > 0)
	if d.refresh(have, extra, over, busy) {
		return
	}
	owed := g.Owed
	for _, a := range d.plan.Actions {
		if a.Kind == Retire && !a.Reasoned && !a.Warm {
			owed++
		}
	}
	switch {
	case have < g.Desired:
		if !g.SuspendedProcess(ProcLaunch) {
			d.grow(have, extra, owed)
		}
	case over:
		if !g.SuspendedProcess(ProcTerminate) {
			d.shrink(have)
		}
	case busy:
	case !d.replacing && (d.convert() || d.rebalance() || d.expire(have, extra)):
	case len(g.Reasons) > 0 || g.Owed > 0 || g.Cooling > 0 || len(g.Alarms) > 0:
		d.plan.do(Action{Kind: Settle})
	}
}

func (d *decider) grow(have, extra, owed int) {
	g := d.s.Group
	zones, onDemand := d.zones(), d.onDemand()
	goal := g.Desired
	difference := fmt.Sprintf("an instance was started in response to a difference between desired and actual capacity, increasing the capacity from %d to %d.", have, goal)
	for ; have < goal-extra && d.launches < maxLaunches; d.launches++ {
		a := Action{Kind: Launch}
		n, ok := 0, false
		a.Spot = d.s.Mixed != nil && onDemand >= d.s.Mixed.onDemand(goal)
		if n, ok = d.bring(zones, &a); !ok {
			break
		}
		if !a.Spot {
			onDemand += n
		}
		if owed > 0 {
			owed--
			a.Replaces, a.Why = true, []string{whyReplaced}
			if d.s.Refresh != nil && d.s.Refresh.Active() {
				a.Why = []string{whyRenewed}
			}
		} else {
			a.Reasoned, a.Why = true, []string{difference}
		}
		d.plan.do(a)
		have += n
	}
}

func (d *decider) shrink(have int) {
	g := d.s.Group
	sentence := fmt.Sprintf("an instance was taken out of service in response to a difference between desired and actual capacity, shrinking the capacity from %d to %d.", have, g.Desired)
	room := d.reusable()
	// Those that wait for their replacements go when these are ready: what is more than the span allows goes in any case.
	sure, spare, moving := have-g.Desired, 0, false
	sp := d.span()
	if sp.first() && slices.ContainsFunc(d.s.Members, func(v View) bool { return d.leaver(&v) }) {
		sure, spare = have-sp.top(g.Desired), -sp.keep(g.Desired)
		for i := range d.s.Members {
			v := &d.s.Members[i]
			if d.ready(v, sp.warmup) {
				spare += v.weight()
			} else if starts(v.State) || v.State == InService && v.Health == Healthy {
				moving = true
			}
		}
	}
	for _, v := range d.victims(have - g.Desired) {
		if sure -= v.weight(); sure < 0 {
			serves := d.ready(v, sp.warmup)
			if serves {
				spare -= v.weight()
			}
			if spare < 0 && (serves || moving) { // one that serves nobody is kept only until something comes
				return
			}
		}
		switch {
		case d.stale(v):
			d.retire(*v, true, whyRefresh, whySelected(v.ID))
		case d.aged(v):
			d.retire(*v, true, whyLifetime, whySelected(v.ID))
		case v.Health == Unhealthy && mild(v.Cause):
			d.retire(*v, true, whySick[v.Cause])
		case d.atRisk(v):
			d.retire(*v, true, map[bool]string{false: whyRecommended, true: whyInterrupted}[v.Instance.Interrupting])
		default:
			d.retire(*v, true, sentence, whySelected(v.ID))
			if room > 0 && v.State == InService && v.Health == Healthy && v.Instance.State == "running" {
				room--
				d.returned++
				d.plan.Actions[len(d.plan.Actions)-1].Return = true
			}
		}
	}
}

// rebalance launches one member in a zone that has too few, when nothing else is to be done. The member that is too much
// then is taken out of the fullest zone by shrink, once the new one is in service.
func (d *decider) rebalance() bool {
	g := d.s.Group
	if g.SuspendedProcess(ProcAZRebalance) || g.SuspendedProcess(ProcLaunch) || g.Desired == 0 || len(d.s.Subnets) == 0 {
		return false
	}
	zones := d.zones()
	low := zones.next(false)
	if low == nil {
		return false
	}
	high, from := 0, []string{}
	for _, z := range zones.all() {
		high = max(high, z.count)
	}
	stray := zones.strays()
	if high-low.count <= 1 && len(stray) == 0 {
		return false
	}
	var movable *View
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if v.State == InService && !v.Protected && (high-low.count > 1 && zones.count(v.Zone) == high || slices.Contains(stray, v.Zone)) &&
			(movable == nil || v.weight() <= movable.weight()) {
			movable = v
		}
	}
	if movable == nil || movable.Spot && low.spotBlocked {
		return false
	}
	if d.s.Now.Before(g.Balanced) {
		d.plan.at(g.Balanced)
		return false
	}
	for _, z := range zones.all() {
		if z.count == high && high-low.count > 1 {
			from = append(from, z.name)
		}
	}
	from = append(from, stray...)
	slices.Sort(from)
	text := "instances were launched to balance instances in zones"
	for _, z := range from {
		text += " " + z
	}
	a := Action{Spot: movable.Spot, Rebalance: true, Why: []string{text + " with other zones resulting in more than desired number of instances in the group."}}
	if n := d.placeIn(low, &a); n < movable.weight() || n >= 2*movable.weight() {
		return false // not one for one: it would go on for ever
	}
	d.plan.do(a)
	return true
}
