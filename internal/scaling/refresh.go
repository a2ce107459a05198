package scaling

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
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
	Total    int             // members to replace
	Left     int             // still to be replaced
	Percent  int
	Moved    time.Time // of the last progress
	WaitTill time.Time // of a checkpoint, or baking
	Passed   int       // checkpoints that are behind
	// RollbackStart and RollbackReason are set when the replaced members are replaced back.
	RollbackStart  time.Time `json:",omitempty"`
	RollbackReason string    `json:",omitempty"`
	RollbackTotal  int       `json:",omitempty"`
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

// matches tells whether a member is as the group would launch it now. A mixed policy's members match by their type too.
func (d *decider) matches(v *View) bool {
	if v.Template == nil || d.s.Current.ID == "" || v.Template.ID != d.s.Current.ID || v.Template.Version != strconv.Itoa(d.s.Current.Version) {
		return false
	}
	return d.s.Mixed == nil || slices.ContainsFunc(d.s.Offers, func(o Offer) bool { return o.InstanceType == v.InstanceType })
}

// stale tells whether a refresh has to replace a member.
func (d *decider) stale(v *View) bool {
	r := d.s.Refresh
	if r == nil || !r.Active() || r.Status == RefreshCancelling {
		return false
	}
	if r.Status == RefreshRollback {
		return v.Member.Refresh == r.ID
	}
	if v.Member.Refresh == r.ID || v.LaunchedAt.After(r.Start) {
		return false
	}
	if r.Preferences.SkipMatching && d.matches(v) {
		return false
	}
	if v.Protected && r.Preferences.Protected == "Ignore" || v.State == Standby && r.Preferences.Standby == "Ignore" {
		return false
	}
	return v.State == InService || v.State == Standby
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

// refresh takes a refresh one step on. It is called while nothing else is under way in the group.
func (d *decider) refresh() bool {
	g, r := d.s.Group, d.s.Refresh
	if r == nil || !r.Active() || r.Status == RefreshCancelling || g.SuspendedProcess(ProcInstanceRefresh) || g.SuspendedProcess(ProcLaunch) || g.SuspendedProcess(ProcTerminate) {
		return false
	}
	next := *r
	old, ready, held := d.survey(&next)
	next.Left = len(old) + held
	if next.Status == RefreshPending {
		next.Status, next.Total, next.Moved = RefreshInProgress, next.Left, d.s.Now
	}
	if next.Left < r.Left {
		next.Moved = d.s.Now
	}
	if next.Total > 0 {
		next.Percent = 100 * (next.Total - min(next.Left, next.Total)) / next.Total
	}
	acted := d.advance(&next, old, ready, held)
	if !sameRefresh(next, *r) {
		d.plan.do(Action{Kind: Refreshed, Refresh: &next})
		return true
	}
	return acted
}

func sameRefresh(a, b Refresh) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Left == b.Left && a.Total == b.Total && a.Percent == b.Percent && a.Passed == b.Passed &&
		a.Moved.Equal(b.Moved) && a.WaitTill.Equal(b.WaitTill) && a.End.Equal(b.End)
}

// survey finds the members that can be replaced, whether those that were launched are warm, and how many hold it up.
func (d *decider) survey(r *Refresh) (old []View, ready bool, held int) {
	ready = true
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if v.Member.Refresh == r.mark() && v.State == InService {
			if warm := v.InServiceAt.Add(d.s.scaled(r.Preferences.Warmup)); d.s.Now.Before(warm) {
				d.plan.at(warm)
				ready = false
			}
		}
		if !d.stale(v) {
			continue
		}
		switch {
		case v.State == Standby && r.Preferences.Standby != "Terminate", v.Protected && r.Preferences.Protected != "Refresh" && r.Status != RefreshRollback:
			held++
		default:
			old = append(old, *v)
		}
	}
	return old, ready, held
}

// advance replaces the next share, or ends the refresh.
func (d *decider) advance(r *Refresh, old []View, ready bool, held int) bool {
	g, p := d.s.Group, r.Preferences
	stuck := r.Moved.Add(d.s.scaled(stuckAfter))
	switch {
	case d.s.Alarmed && r.Status != RefreshRollback:
		r.fail(d.s, "One of the alarms of the instance refresh is in ALARM.")
		return false
	case !d.s.Now.Before(r.Start.Add(d.s.scaled(maxRefreshLife))), len(old)+held > 0 && !d.s.Now.Before(stuck):
		r.fail(d.s, "The instance refresh made no progress for too long.")
		return false
	case !ready:
		return false
	case d.s.Now.Before(r.WaitTill):
		d.plan.at(r.WaitTill)
		return false
	}
	for r.Status == RefreshInProgress && r.Passed < len(p.Checkpoints) && r.Percent >= p.Checkpoints[r.Passed] {
		r.Passed++
		if r.Passed == len(p.Checkpoints) && p.Checkpoints[r.Passed-1] < 100 { // a refresh of a part
			old, held = nil, 0
			break
		}
		if r.Percent < 100 {
			r.WaitTill = d.s.Now.Add(d.s.scaled(p.CheckpointDelay))
			r.Reason = fmt.Sprintf("Waiting for the checkpoint at %d%% to pass.", p.Checkpoints[r.Passed-1])
			d.plan.at(r.WaitTill)
			return false
		}
	}
	switch {
	case len(old) == 0 && held == 0 && r.Status == RefreshInProgress && p.Bake > 0:
		r.Status, r.WaitTill, r.Reason = RefreshBaking, d.s.Now.Add(d.s.scaled(p.Bake)), "Waiting for the bake time to pass."
		d.plan.at(r.WaitTill)
	case len(old) == 0 && held == 0:
		r.Status, r.End, r.Reason, r.Percent = map[string]string{RefreshRollback: RefreshRollbackSuccessful}[r.Status], d.s.Now, "", 100
		if r.Status == "" {
			r.Status = RefreshSuccessful
		}
	case len(old) == 0:
		r.Reason = fmt.Sprintf("Waiting for %d instances that are protected from scale in, or in standby.", held)
		d.plan.at(stuck)
	default:
		r.Reason = ""
		return d.replace(g, p, old)
	}
	return false
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
	r.Status, r.Reason, r.RollbackReason, r.RollbackStart = RefreshRollback, "", why, now
	r.Moved, r.WaitTill, r.Total, r.RollbackTotal, r.Left, r.Percent = now, time.Time{}, n, n, n, 0
}

// replace takes the next share of members out, or launches its replacements first when the group may be larger meanwhile.
func (d *decider) replace(g Group, p Preferences, old []View) bool {
	if extra := g.Desired * p.MaxHealthy / 100; extra > g.Desired {
		zones, onDemand := d.zones(), 0
		n := min(extra-g.Desired, len(old), maxLaunches)
		for range n {
			a := Action{Rebalance: true, Why: []string{whyRenewed}}
			a.Spot = d.s.Mixed != nil && onDemand >= d.s.Mixed.onDemand(g.Desired)
			m, ok := d.place(zones, &a)
			if !ok {
				return false
			}
			if !a.Spot {
				onDemand += m
			}
			d.plan.do(a)
		}
		return n > 0
	}
	keep := (g.Desired*p.MinHealthy + 99) / 100
	for _, v := range old[:min(len(old), max(1, g.Desired-keep))] {
		d.retire(v, false, whyRefresh, whySelected(v.ID))
	}
	return true
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
		return r, invalid("AutoRollback needs a DesiredConfiguration.")
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
	}
	n := 0
	for _, m := range MembersOf(w, g) {
		if m.Refresh == r.ID {
			n++
		}
	}
	r.turn(w.Now(), n, "Rolled back due to user request.")
	Refreshes.Put(w, r)
	return r, nil
}

// refreshed writes a refresh's progress; a success gives the group its configuration.
func (x *executor) refreshed(next Refresh) {
	if old, ok := Refreshes.Get(x.w, next.Key(next.ID)); ok && old.Passed < next.Passed {
		x.g.tellRefresh(x.w, next, "Checkpoint Reached")
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
