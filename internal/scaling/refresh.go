package scaling

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Statuses of an instance refresh.
const (
	RefreshPending            = "Pending"
	RefreshInProgress         = "InProgress"
	RefreshBaking             = "Baking"
	RefreshSuccessful         = "Successful"
	RefreshFailed             = "Failed"
	RefreshCancelling         = "Cancelling"
	RefreshCancelled          = "Cancelled"
	RefreshRollback           = "RollbackInProgress"
	RefreshRollbackSuccessful = "RollbackSuccessful"
	RefreshRollbackFailed     = "RollbackFailed"
)

// Bounds of refreshes.
const (
	maxRefreshes   = 50         // kept a group, AWS keeps six weeks
	stuckAfter     = 3600       // seconds without progress, then it fails
	maxRefreshLife = 14 * 86400 // seconds

	maxRefreshAlarms = 10
)

// Preferences of an instance refresh. Seconds and percentages.
type Preferences struct {
	MinHealthy, MaxHealthy int
	Warmup                 int
	SkipMatching           bool
	AutoRollback           bool
	Checkpoints            []int    `json:",omitempty"`
	CheckpointDelay        int      `json:",omitempty"`
	Protected              string   // Wait, Ignore, Refresh
	Standby                string   // Wait, Ignore, Terminate
	Bake                   int      `json:",omitempty"`
	Alarms                 []string `json:",omitempty"`
}

// Refresh is an instance refresh of a group: its members are replaced, a share at a time.
type Refresh struct {
	scope.Scope
	ID, Group, Status string
	Reason            string `json:",omitempty"`
	Start, End        time.Time
	Preferences       Preferences
	Document          json.RawMessage `json:",omitempty"` // the preferences as they were sent
	Desired           json.RawMessage `json:",omitempty"` // the desired configuration as it was sent
	// Template and Mixed are what the group launches from while the refresh goes on, and after it succeeded.
	Template *TemplateRef    `json:",omitempty"`
	Mixed    *Mixed          `json:",omitempty"`
	MixedDoc json.RawMessage `json:",omitempty"`
	Progress
	Moved    time.Time // of the last progress
	WaitTill time.Time // of a checkpoint, or baking
	Passed   int       // checkpoints that are behind
	// The rest is set when the replaced members are replaced back: Back of RollbackTotal are still to be.
	RollbackStart       time.Time `json:",omitempty"`
	RollbackReason      string    `json:",omitempty"`
	RollbackTotal, Back int       `json:",omitempty"`
	OnRollback          *Progress `json:",omitempty"`
}

// Progress is how far a refresh has come: the instances that are still to be replaced, and the percentage of the capacity
// that is replaced and warm.
type Progress struct {
	Left, Percent int
	Live          Part
	Warm          *Part `json:",omitempty"` // of a group with a warm pool
}

// Part is the progress in the group itself, or in its warm pool.
type Part struct{ Left, Percent int }

func (p Progress) same(o Progress) bool {
	return p.Left == o.Left && p.Percent == o.Percent && p.Live == o.Live && (p.Warm == nil) == (o.Warm == nil) && (p.Warm == nil || *p.Warm == *o.Warm)
}

// Refreshes is the table of instance refreshes.
var Refreshes = store.NewTable("scaling_refresh", func(r Refresh) string { return r.Key(r.ID) }, byGroup(func(r Refresh) (scope.Scope, string) { return r.Scope, r.Group }))

func init() { Tables = append(Tables, Refreshes) }

// Active tells whether the refresh still goes on.
func (r Refresh) Active() bool {
	switch r.Status {
	case RefreshPending, RefreshInProgress, RefreshBaking, RefreshRollback, RefreshCancelling:
		return true
	}
	return false
}

// mark is what members that the refresh launches now carry.
func (r Refresh) mark() string {
	if r.Status == RefreshRollback {
		return r.ID + "/back"
	}
	return r.ID
}

// from gives the group as it launches while the refresh goes on.
func (r *Refresh) from(g Group) Group {
	if r == nil || !r.Active() || r.Status == RefreshRollback || r.Status == RefreshCancelling {
		return g
	}
	if r.Template != nil {
		g.Template, g.Mixed, g.LaunchConfiguration = r.Template, nil, ""
	}
	if r.Mixed != nil {
		g.Template, g.Mixed, g.LaunchConfiguration = nil, r.Mixed, ""
	}
	return g
}

// ActiveRefresh finds a group's refresh that goes on.
func ActiveRefresh(tx store.Tx, g Group) (Refresh, bool) {
	for _, r := range of(tx, Refreshes, g.Scope, g.Name) {
		if r.Active() {
			return r, true
		}
	}
	return Refresh{}, false
}

// RefreshesOf lists a group's refreshes, the latest first.
func RefreshesOf(tx store.Tx, g Group) []Refresh {
	list := of(tx, Refreshes, g.Scope, g.Name)
	slices.SortStableFunc(list, func(a, b Refresh) int { return b.Start.Compare(a.Start) })
	return list
}

// matches tells whether a member is as the group would launch it now: from the same version of the same template, and by a
// mixed policy as one of its overrides says, with their types, images and templates of their own.
func (d *decider) matches(v *View) bool {
	switch {
	case d.s.Current.ID == "":
		return v.LaunchConfiguration != "" && v.LaunchConfiguration == d.s.Group.LaunchConfiguration
	case d.s.Mixed == nil:
		return v.from(d.s.Current)
	}
	return slices.ContainsFunc(d.s.Offers, func(o Offer) bool {
		return o.InstanceType == v.InstanceType && v.from(o.From) && (o.ImageID == "" || o.ImageID == v.ImageID)
	})
}

// fresh tells whether a member came from what the group launches from now, as far as that can be told.
func (d *decider) fresh(v *View) bool {
	return d.s.Current.ID == "" || v.from(d.s.Current) || slices.ContainsFunc(d.s.Offers, func(o Offer) bool { return o.From.ID == "" || v.from(o.From) })
}

// from tells whether a member came from a template's version.
func (m *Member) from(t Template) bool {
	return m.Template != nil && m.Template.ID == t.ID && number(m.Template.Version) == int64(t.Version)
}

// runs tells whether a refresh goes on that may replace members.
func (d *decider) runs() bool {
	r := d.s.Refresh
	return r != nil && r.Active() && r.Status != RefreshCancelling
}

// outdated tells whether a member is not as the refresh under way wants it, whatever its state.
func (d *decider) outdated(v *View) bool {
	if !d.runs() {
		return false
	}
	r := d.s.Refresh
	if r.Status == RefreshRollback {
		return v.Member.Refresh == r.ID
	}
	if v.Member.Refresh == r.ID { // it may have been overtaken: a new version became what the desired configuration names
		return (r.Template != nil || r.Mixed != nil) && !d.fresh(v)
	}
	return !v.LaunchedAt.After(r.Start) && !(r.Preferences.SkipMatching && d.matches(v))
}

// ignored tells whether the refresh leaves an outdated member alone.
func (d *decider) ignored(v *View) bool {
	p := &d.s.Refresh.Preferences
	return (v.State == Standby || v.State == EnteringStandby) && p.Standby == "Ignore" || v.Protected && p.Protected == "Ignore" && d.s.Refresh.Status != RefreshRollback
}

// holds tells whether the refresh waits until a user lets an outdated member go.
func (d *decider) holds(v *View) bool {
	r := d.s.Refresh
	return v.State == Standby && r.Preferences.Standby != "Terminate" || v.Protected && r.Preferences.Protected != "Refresh" && r.Status != RefreshRollback
}

// stale tells whether a refresh has to replace a member that is there.
func (d *decider) stale(v *View) bool {
	return (v.State == InService || v.State == Standby) && d.outdated(v) && !d.ignored(v)
}

// cancelled ends a refresh that is being cancelled, once no instance is on its way in or out.
func (d *decider) cancelled(busy bool) {
	if r := d.s.Refresh; r != nil && r.Status == RefreshCancelling && !busy {
		next := *r
		next.Status, next.End, next.Reason = RefreshCancelled, d.s.Now, whyCancelled
		d.plan.do(Action{Kind: Refreshed, Refresh: &next})
	}
}

const whyCancelled = "Cancelled due to user request."

// halted tells whether a process is suspended without which nothing is replaced.
func (d *decider) halted() bool {
	g := &d.s.Group
	return g.SuspendedProcess(ProcInstanceRefresh) || g.SuspendedProcess(ProcLaunch) || g.SuspendedProcess(ProcTerminate)
}

// survey is how a group looks to its refresh.
type survey struct {
	old               []*View // to be replaced
	held              *View   // the first of those that a user has to let go
	holds             int
	coming            *View // the first of those that will be old when they are in service
	comings           int
	starting, warming *View // the first of the new ones that are not in service and healthy, and not warm
	fresh             int   // new ones, ready or not
	done, other       int   // capacity that is replaced and warm, and that the refresh has nothing to do with
	pool              poolSurvey
}

// poolSurvey counts the members of the warm pool.
type poolSurvey struct{ left, coming, done int }

func first(a *View, b *View) *View {
	if a != nil {
		return a
	}
	return b
}

func (d *decider) look(r *Refresh) (s survey) {
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if d.leaving[v.ID] {
			continue
		}
		stay := starts(v.State) || v.State == InService
		switch {
		case v.Warmed():
			switch {
			case !d.warmed(v):
			case d.outdated(v):
				s.pool.left++
			case v.State == WarmedStopped || v.State == WarmedRunning:
				s.pool.done++
			default:
				s.pool.coming++
			}
		case d.outdated(v) && d.ignored(v):
			if stay {
				s.other += v.weight()
			}
		case d.outdated(v):
			switch {
			case v.State == EnteringStandby || starts(v.State):
				s.coming = first(s.coming, v)
				s.comings++
			case v.State != InService && v.State != Standby:
			case d.holds(v):
				s.held = first(s.held, v)
				s.holds++
			default:
				s.old = append(s.old, v)
			}
		case v.Member.Refresh == r.mark() && stay:
			s.fresh++
			switch {
			case d.ready(v, r.Preferences.Warmup):
				s.done += v.weight()
			case v.State == InService && v.Health == Healthy && d.proven(v):
				s.warming = first(s.warming, v)
			default:
				s.starting = first(s.starting, v)
			}
		case stay:
			s.other += v.weight()
		}
	}
	return s
}

func percent(done, of int) int {
	if of <= 0 {
		return 100
	}
	return min(100, 100*done/of)
}

// measure tells how far the refresh has come. While it is rolled back, the percentage goes down to 0.
func (r *Refresh) measure(g *Group, s survey) {
	if r.Status == RefreshRollback {
		r.Back = len(s.old) + s.holds + s.comings + s.pool.left
		share := func(at int) int { return at * min(r.Back, r.RollbackTotal) / max(1, r.RollbackTotal) }
		if at := r.OnRollback; at != nil {
			r.Percent, r.Live.Percent = share(at.Percent), share(at.Live.Percent)
			if at.Warm != nil {
				r.Warm = &Part{at.Warm.Left, share(at.Warm.Percent)}
			}
		}
		return
	}
	r.Live = Part{len(s.old) + s.holds + s.comings, percent(s.done, g.Desired-s.other)}
	r.Warm, r.Left, r.Percent = nil, r.Live.Left, r.Live.Percent
	if g.Warm != nil {
		all := max(g.WarmSize(), s.pool.left+s.pool.coming+s.pool.done)
		r.Warm = &Part{s.pool.left, percent(s.pool.done, all)}
		r.Left += s.pool.left
		r.Percent = percent(s.done+s.pool.done, max(0, g.Desired-s.other)+all)
	}
}

// refresh takes a refresh one step on, and tells whether it replaces members in this plan. have is the group's capacity,
// extra what is launched beyond it, over whether shrink takes some of it, busy whether members come or go.
func (d *decider) refresh(have, extra int, over, busy bool) bool {
	r := d.s.Refresh
	if !d.runs() || d.halted() {
		return false
	}
	next, s := *r, d.look(r)
	if next.Status == RefreshPending {
		next.Status, next.Moved = RefreshInProgress, d.s.Now
	}
	next.measure(&d.s.Group, s)
	if next.Left < r.Left || next.Back < r.Back || next.Percent > r.Percent {
		next.Moved = d.s.Now
	}
	acted := d.advance(&next, s, have, extra, over, busy)
	if !sameRefresh(next, *r) {
		d.plan.do(Action{Kind: Refreshed, Refresh: &next})
	}
	return acted
}

func sameRefresh(a, b Refresh) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Progress.same(b.Progress) && a.Back == b.Back && a.Passed == b.Passed &&
		a.Moved.Equal(b.Moved) && a.WaitTill.Equal(b.WaitTill) && a.End.Equal(b.End)
}

// alarmLook is how often, in seconds, a refresh looks at its alarms.
const alarmLook = 10

// advance replaces the next share, or ends the refresh.
func (d *decider) advance(r *Refresh, s survey, have, extra int, over, busy bool) bool {
	g, p, back := &d.s.Group, &r.Preferences, r.Status == RefreshRollback
	if len(p.Alarms) > 0 && !back {
		d.plan.at(d.s.Now.Add(d.s.scaled(alarmLook)))
	}
	began := r.Start
	if back {
		began = r.RollbackStart
	}
	switch {
	case d.s.Alarmed && !back:
		r.fail(d.s, "One or more of the CloudWatch alarms of the instance refresh are in the ALARM state.")
		return false
	case !d.s.Now.Before(began.Add(d.s.scaled(maxRefreshLife))):
		r.fail(d.s, "The instance refresh did not complete within 14 days.")
		return false
	case d.s.Now.Before(r.WaitTill):
		d.plan.at(r.WaitTill)
		return false
	case r.Status == RefreshBaking:
		r.succeed(d.s.Now)
		return false
	case !r.WaitTill.IsZero(): // a checkpoint is behind
		r.WaitTill, r.Moved, r.Reason = time.Time{}, d.s.Now, ""
	}
	done := len(s.old)+s.holds+s.comings+s.pool.left+s.pool.coming == 0 && s.starting == nil && s.warming == nil && s.pool.done >= g.WarmSize()
	if stuck := r.Moved.Add(d.s.scaled(stuckAfter)); !done && s.warming == nil {
		if !d.s.Now.Before(stuck) {
			r.fail(d.s, "The instance refresh made no progress for an hour. "+r.Reason)
			return false
		}
		d.plan.at(stuck)
	}
	if !back && d.checkpoint(r, &done) {
		return false
	}
	if done && !busy && !over && have >= g.Desired || done && r.partial() {
		if r.Reason = ""; p.Bake > 0 && !back {
			r.Status, r.WaitTill, r.Reason = RefreshBaking, d.s.Now.Add(d.s.scaled(p.Bake)), "Waiting for the bake time to pass."
			d.plan.at(r.WaitTill)
			return false
		}
		r.succeed(d.s.Now)
		return false
	}
	d.replacing = true
	r.Reason = s.reason()
	acted := false
	var old []*View
	for _, v := range s.old {
		if v.State == Standby { // it is no part of the capacity
			d.retire(*v, false, whyRefresh, whySelected(v.ID))
			acted = true
		} else {
			old = append(old, v)
		}
	}
	if over || have+extra < g.Desired {
		return acted
	}
	room := -1
	if !back && r.Passed < len(p.Checkpoints) { // as few as bring it to the next checkpoint
		room = max(0, ((g.Desired-s.other)*p.Checkpoints[r.Passed]+99)/100-s.fresh)
	}
	return d.renew(old, room, d.span(), have, extra, whyRefresh, whyRenewed) || acted
}

// partial tells whether the refresh has passed the last of checkpoints that do not go up to all members.
func (r *Refresh) partial() bool {
	c := r.Preferences.Checkpoints
	return r.Status == RefreshInProgress && len(c) > 0 && r.Passed == len(c) && c[len(c)-1] < 100
}

// checkpoint passes the checkpoints that are reached, and tells whether the refresh waits at one. Those that it has fallen
// below because the group has grown are ahead again.
func (d *decider) checkpoint(r *Refresh, done *bool) bool {
	c := r.Preferences.Checkpoints
	for r.Passed > 0 && r.Live.Percent < c[r.Passed-1] {
		r.Passed--
	}
	before := r.Passed
	for r.Passed < len(c) && r.Live.Percent >= c[r.Passed] {
		r.Passed++
	}
	switch {
	case r.partial():
		*done = true
	case r.Passed > before && r.Live.Percent < 100:
		r.WaitTill = d.s.Now.Add(d.s.scaled(r.Preferences.CheckpointDelay))
		r.Reason = fmt.Sprintf("Waiting for the checkpoint at %d%% to pass.", c[r.Passed-1])
		d.plan.at(r.WaitTill)
		return true
	}
	return false
}

// The beginnings of status reasons, AWS's own.
const (
	waitWarm   = "Waiting for instances to warm up before continuing. For example: "
	waitOthers = "Waiting for remaining instances to be available. For example: "
)

// reason says what a refresh waits for.
func (s survey) reason() string {
	unseen := first(s.starting, s.coming)
	switch {
	case s.warming != nil:
		return waitWarm + s.warming.ID + " is warming up."
	case unseen != nil && unseen.State == InService && unseen.Health == Healthy:
		return waitOthers + unseen.ID + " has insufficient data to evaluate its health with Elastic Load Balancing."
	case unseen != nil:
		return waitOthers + unseen.ID + " has insufficient data to evaluate its health with Amazon EC2."
	case s.held != nil && len(s.old) == 0 && s.held.State == Standby:
		return waitOthers + s.held.ID + " is in Standby. Return the instance to service to continue."
	case s.held != nil && len(s.old) == 0:
		return waitOthers + s.held.ID + " is protected. Remove instance scale-in protection to continue."
	}
	return ""
}

// succeed ends a refresh, or its rollback.
func (r *Refresh) succeed(now time.Time) {
	r.End, r.Reason = now, ""
	if r.Status == RefreshRollback {
		r.Status = RefreshRollbackSuccessful
		return
	}
	r.Status = RefreshSuccessful
	if c := r.Preferences.Checkpoints; len(c) == 0 || c[len(c)-1] == 100 {
		r.Left, r.Percent, r.Live = 0, 100, Part{0, 100}
		if r.Warm != nil {
			r.Warm = &Part{0, 100}
		}
	}
}

// fail ends a refresh, or turns it around when it is to be rolled back by itself.
func (r *Refresh) fail(s Situation, why string) {
	switch {
	case r.Status == RefreshRollback:
		r.Status, r.End, r.Reason = RefreshRollbackFailed, s.Now, why
	case r.Preferences.AutoRollback:
		n := 0
		for _, v := range s.Members {
			if v.Member.Refresh == r.ID {
				n++
			}
		}
		r.turn(s.Now, n, why)
	default:
		r.Status, r.End, r.Reason = RefreshFailed, s.Now, why
	}
}

// turn begins the rollback of n members.
func (r *Refresh) turn(now time.Time, n int, why string) {
	at := r.Progress
	r.Status, r.Reason, r.RollbackReason, r.RollbackStart, r.OnRollback = RefreshRollback, "", why, now, &at
	r.Moved, r.WaitTill, r.RollbackTotal, r.Back = now, time.Time{}, n, n
}

// floating tells whether a group launches from whatever version of its template is the latest or the default one.
func floating(g Group) bool {
	ref := g.template()
	return ref != nil && number(ref.Version) == 0
}

// attributes tells whether a group's instance types are selected by their attributes.
func (g Group) attributes() bool {
	return g.Mixed != nil && slices.ContainsFunc(g.Mixed.Overrides, func(o Override) bool { return o.Requirements != nil })
}

// StartRefresh starts an instance refresh.
func (e *Engine) StartRefresh(w *store.WriteTx, r Refresh) (Refresh, error) {
	g, err := openGroup(w, r.Scope, r.Group)
	if err != nil {
		return r, err
	}
	if _, on := ActiveRefresh(w, g); on {
		return r, fault.New(fault.State, "InstanceRefreshInProgress", "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.")
	}
	p := r.Preferences
	switch {
	case p.MinHealthy < 0 || p.MinHealthy > 100:
		return r, invalid("MinHealthyPercentage must be between 0 and 100.")
	case p.MaxHealthy < 100 || p.MaxHealthy > 200 || p.MaxHealthy-p.MinHealthy > 100:
		return r, invalid("MaxHealthyPercentage must be between 100 and 200, and at most 100 above MinHealthyPercentage.")
	case p.Warmup < 0, p.CheckpointDelay < 0, p.CheckpointDelay > 172800, p.Bake < 0, p.Bake > 172800:
		return r, invalid("InstanceWarmup, CheckpointDelay and BakeTime must be between 0 and 172800 seconds.")
	case !slices.Contains([]string{"Wait", "Ignore", "Refresh"}, p.Protected):
		return r, invalid("Invalid ScaleInProtectedInstances: %s.", p.Protected)
	case !slices.Contains([]string{"Wait", "Ignore", "Terminate"}, p.Standby):
		return r, invalid("Invalid StandbyInstances: %s.", p.Standby)
	case p.AutoRollback && r.Template == nil && r.Mixed == nil:
		return r, invalid("The request isn't valid. The AutoRollback parameter cannot be set to true when the DesiredConfiguration parameter is empty. Set AutoRollback to false or specify a desired configuration and try again.")
	case g.attributes() && (p.SkipMatching || r.Template != nil || r.Mixed != nil):
		return r, invalid("SkipMatching and DesiredConfiguration are not supported for an Auto Scaling group whose mixed instances policy has InstanceRequirements.")
	case p.AutoRollback && (floating(g) || floating(Group{Template: r.Template, Mixed: r.Mixed})):
		return r, invalid("AutoRollback needs launch template versions that are numbers, in the Auto Scaling group and in the DesiredConfiguration: $Latest and $Default cannot be rolled back to.")
	case len(p.Alarms) > maxRefreshAlarms:
		return r, invalid("An instance refresh may watch up to %d alarms.", maxRefreshAlarms)
	}
	for _, name := range p.Alarms {
		if e.Alarms.State(w, g.Scope, name) == "" {
			return r, invalid("The alarm %s does not exist.", name)
		}
	}
	for i, c := range p.Checkpoints {
		if c < 1 || c > 100 || i > 0 && c <= p.Checkpoints[i-1] {
			return r, invalid("CheckpointPercentages must be between 1 and 100, and ascending.")
		}
	}
	trial := g
	if r.Template != nil {
		trial.Template, trial.Mixed, trial.LaunchConfiguration = r.Template, nil, ""
	}
	if r.Mixed != nil {
		trial.Template, trial.Mixed, trial.LaunchConfiguration = nil, r.Mixed, ""
	}
	if trial, err = e.settle(w, trial); err != nil {
		return r, err
	}
	if r.Template != nil {
		r.Template = trial.Template
	}
	if r.Mixed != nil {
		r.Mixed = trial.Mixed
	}
	list := RefreshesOf(w, g)
	for i := maxRefreshes - 1; i < len(list); i++ {
		Refreshes.Delete(w, list[i].Key(list[i].ID))
	}
	r.ID, r.Group, r.Status, r.Start, r.Moved = newUUID(w.Rand()), g.Name, RefreshPending, w.Now(), w.Now()
	Refreshes.Put(w, r)
	g.tellRefresh(w, r, "Started")
	return r, nil
}

// CancelRefresh stops the refresh that goes on; what it has replaced stays replaced. With wait it is cancelling until the
// instances that are on their way in and out have got there.
func (e *Engine) CancelRefresh(w *store.WriteTx, s scope.Scope, group string, wait bool) (Refresh, error) {
	g, err := openGroup(w, s, group)
	if err != nil {
		return Refresh{}, err
	}
	r, on := ActiveRefresh(w, g)
	if !on {
		return r, fault.New(fault.NotFound, "ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found for Auto Scaling group %s", g.Name)
	}
	if wait {
		r.Status, r.Reason = RefreshCancelling, "Waiting for the instances that are being launched or terminated."
		Refreshes.Put(w, r)
		return r, nil
	}
	r.Status, r.End, r.Reason = RefreshCancelled, w.Now(), whyCancelled
	Refreshes.Put(w, r)
	g.tellRefresh(w, r, "Cancelled")
	return r, nil
}

// RollbackRefresh turns the refresh that goes on around: the members that it launched are replaced by the group's own
// configuration.
func (e *Engine) RollbackRefresh(w *store.WriteTx, s scope.Scope, group string) (Refresh, error) {
	g, err := openGroup(w, s, group)
	if err != nil {
		return Refresh{}, err
	}
	r, on := ActiveRefresh(w, g)
	switch {
	case !on:
		return r, fault.New(fault.NotFound, "ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found for Auto Scaling group %s", g.Name)
	case r.Status == RefreshCancelling:
		return r, fault.New(fault.State, "IrreversibleInstanceRefresh", "The Instance Refresh is being cancelled.")
	case r.Status == RefreshRollback:
		return r, fault.New(fault.State, "IrreversibleInstanceRefresh", "The Instance Refresh is being rolled back already.")
	case r.Template == nil && r.Mixed == nil:
		return r, fault.New(fault.State, "IrreversibleInstanceRefresh", "The Instance Refresh has no desired configuration and cannot be rolled back.")
	case floating(g):
		return r, fault.New(fault.State, "IrreversibleInstanceRefresh", "The Auto Scaling group uses the launch template version $Latest or $Default and cannot be rolled back.")
	}
	n := 0
	for _, m := range MembersOf(w, g) {
		if m.Refresh == r.ID {
			n++
		}
	}
	r.turn(w.Now(), n, "Rolled back due to user request.")
	Refreshes.Put(w, r)
	g.tellRefresh(w, r, "Rollback Started")
	return r, nil
}

// refreshed writes a refresh's progress; a success gives the group its configuration.
func (x *executor) refreshed(next Refresh) {
	if old, ok := Refreshes.Get(x.w, next.Key(next.ID)); ok {
		if old.Passed < next.Passed {
			x.g.tellRefresh(x.w, next, "Checkpoint Reached")
		}
		if next.Status == RefreshRollback && old.Status != RefreshRollback {
			x.g.tellRefresh(x.w, next, "Rollback Started")
		}
	}
	if word := map[string]string{RefreshSuccessful: "Succeeded", RefreshFailed: "Failed", RefreshCancelled: "Cancelled", RefreshRollbackSuccessful: "Rollback Succeeded", RefreshRollbackFailed: "Rollback Failed"}[next.Status]; word != "" {
		x.g.tellRefresh(x.w, next, word)
	}
	Refreshes.Put(x.w, next)
	if next.Status != RefreshSuccessful {
		return
	}
	if next.Template != nil {
		x.g.Template, x.g.Mixed, x.g.LaunchConfiguration = next.Template, nil, ""
		x.g.setDocument("MixedInstancesPolicy", nil)
	}
	if next.Mixed != nil {
		x.g.Template, x.g.Mixed, x.g.LaunchConfiguration = nil, next.Mixed, ""
		x.g.setDocument("MixedInstancesPolicy", next.MixedDoc)
	}
}

// setDocument replaces one stored document, or removes it.
func (g *Group) setDocument(name string, doc json.RawMessage) {
	all := map[string]json.RawMessage{}
	for k, v := range g.Documents {
		if k != name {
			all[k] = v
		}
	}
	if doc != nil {
		all[name] = doc
	}
	g.Documents = all
}
