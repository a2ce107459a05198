package scaling

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// launchError carries a launch's failure out of the transaction that it spoils.
type launchError struct {
	action Action
	err    error
}

func (e *launchError) Error() string { return "launching in " + e.action.Zone + ": " + e.err.Error() }
func (e *launchError) Unwrap() error { return e.err }

// situation reads what a decision about the group needs.
func (e *Engine) situation(tx store.Tx, g Group) Situation {
	s := Situation{Now: tx.Now(), TimeScale: e.TimeScale, Group: g, Hooks: of(tx, Hooks, g.Scope, g.Name), Exists: map[string]bool{}}
	for _, a := range g.Attachments {
		s.Exists[a.ARN] = e.Balancer.Check(tx, g.Scope, a.ARN) == nil
	}
	s.Members = make([]View, 0, g.Desired+g.Desired/8+2)
	for m := range Members.By(tx, "group", g.Key(g.Name)) {
		v := View{Member: m}
		if len(g.Attachments) > 0 {
			v.Targets = make(map[string]TargetState, len(g.Attachments))
		}
		if i, ok := e.Compute.Instance(tx, g.Scope, m.ID); ok {
			v.Instance = i
		}
		for _, a := range g.Attachments {
			if a.State == "Removing" || slices.Contains(m.Targets, a.ARN) {
				v.Targets[a.ARN] = e.Balancer.Health(tx, g.Scope, a.ARN, m.ID)
			}
		}
		if name := m.LaunchConfiguration; name != "" {
			if lc, ok := LaunchConfigurations.Get(tx, g.Key(name)); ok {
				if s.Configurations == nil {
					s.Configurations = map[string]time.Time{}
				}
				s.Configurations[name] = lc.CreatedAt
			}
		}
		s.Members = append(s.Members, v)
	}
	for _, id := range g.Subnets {
		if sn, err := e.Compute.Subnet(tx, g.Scope, id); err == nil {
			s.Subnets = append(s.Subnets, sn)
		}
	}
	if r, ok := ActiveRefresh(tx, g); ok {
		s.Refresh = &r
		for _, name := range r.Preferences.Alarms {
			s.Alarmed = s.Alarmed || e.Alarms.State(tx, g.Scope, name) == "ALARM"
		}
	}
	from := s.Refresh.from(g)
	if s.Mixed = from.Mixed; s.Mixed != nil {
		var zones []string
		for _, sn := range s.Subnets {
			if !slices.Contains(zones, sn.Zone) {
				zones = append(zones, sn.Zone)
			}
		}
		s.Offers = e.Offers(tx, from, s.Mixed, zones)
	}
	if ref := from.template(); ref != nil {
		if t, err := e.Compute.Resolve(tx, g.Scope, *ref); err == nil {
			s.Current = t
		}
	}
	return s
}

// template is the launch template that the group launches from, or nil.
func (g Group) template() *TemplateRef {
	if g.Mixed != nil {
		return &g.Mixed.Template
	}
	return g.Template
}

// carryOut carries a plan out in the transaction, with at most launches launches. It returns what was done. An error is a
// *launchError, or a defect; the transaction is spoilt.
func (e *Engine) carryOut(w *store.WriteTx, g Group, plan Plan, launches int) (done []Action, err error) {
	x := &executor{e: e, w: w, g: g, now: w.Now(), reasons: g.Reasons, alarms: g.Alarms}
	for _, a := range plan.Actions {
		if a.Kind == Launch || a.Kind == Draw {
			if launches <= 0 {
				continue
			}
			launches--
		}
		if err := x.run(a); err != nil {
			return nil, err
		}
		done = append(done, a)
		if a.Kind == Bury {
			return done, nil
		}
	}
	if len(done) > 0 {
		if x.used {
			x.g.Reasons, x.g.Alarms = nil, nil
		}
		if x.g.Unpruned += len(done); x.g.Unpruned >= pruneEvery {
			prune(w, x.g)
			x.g.Unpruned = 0
		}
		Groups.Put(w, x.g)
	}
	return done, nil
}

// executor applies the actions of one plan to the rows.
type executor struct {
	e       *Engine
	w       *store.WriteTx
	g       Group
	now     time.Time
	reasons []string
	alarms  []byte
	used    bool // the reasons went into a cause
}

func (x *executor) cause(a Action) (string, []byte) {
	if !a.Reasoned {
		return causeOf(nil, x.now, a.Why...), nil
	}
	x.used = true
	return causeOf(x.reasons, x.now, a.Why...), x.alarms
}

func (x *executor) run(a Action) error {
	switch a.Kind {
	case Launch:
		_, err := x.launch(a)
		return err
	case Settle:
		x.g.Reasons, x.g.Alarms, x.g.Owed = nil, nil, 0
		if x.g.Cooling > 0 {
			x.g.CoolTill = x.now.Add(x.e.scaled(x.g.Cooling))
			x.g.Cooling = 0
		}
		return nil
	case Attach:
		x.attach(a)
		return nil
	case Bury:
		x.bury()
		return nil
	case Refreshed:
		x.refreshed(*a.Refresh)
		return nil
	case Cool:
		x.g.Warm = nil
		return nil
	}
	m, ok := Members.Get(x.w, x.g.Key(a.Member))
	if !ok {
		return nil
	}
	return x.member(a, m)
}

func (x *executor) member(a Action, m Member) error {
	switch a.Kind {
	case Mark:
		m.Health, m.Cause = Unhealthy, a.Cause
	case Suspect:
		m.FailingSince = x.now
	case Trust:
		m.FailingSince = time.Time{}
	case Retire:
		return x.retire(a, m)
	case Draw:
		return x.draw(a, m)
	case Shelve:
		return x.shelve(m)
	case Retain:
		x.g.end(x.w, m.ActivityID, StatusCancelled, "The terminate lifecycle action was abandoned: the instance is retained.")
		m.State, m.ActivityID, m.Pauses, m.Abandoned = TerminatingRetained, "", nil, true
	case Rest:
		x.g.end(x.w, m.ActivityID, StatusSuccessful, "")
		m.State, m.ActivityID, m.Reused = WarmedStopped, "", false
	case Hold:
		x.hold(&m)
	case Expire:
		m.Pauses = slices.Clone(m.Pauses) // the row is shared
		for i, p := range m.Pauses {
			if p.Token == a.Token && p.Result == "" {
				m.Pauses[i].Result, m.Pauses[i].TimedOut = p.DefaultResult, true
			}
		}
		m.proceed(x.now)
	case Proceed:
		m.proceed(x.now)
	case Admit:
		return x.admit(m)
	case Kill:
		for _, p := range m.Pauses {
			m.Abandoned = m.Abandoned || p.Result == "ABANDON"
		}
		if err := x.e.Compute.Terminate(x.w, x.g.Scope, m.ID); err != nil {
			return err
		}
		m.Pauses, m.Ending = nil, true
		switch m.State { // one that no hook has held stays as it is
		case TerminatingWait, TerminatingRetained:
			m.State = TerminatingProceed
		case WarmedTerminatingWait:
			m.State = WarmedTerminatingProceed
		}
		x.g.progress(x.w, m.ActivityID, StatusInProgress, 50)
	case Remove:
		x.g.end(x.w, m.ActivityID, StatusSuccessful, "")
		Members.Delete(x.w, m.Key(m.ID))
		return nil
	case Lose:
		return x.lose(m)
	case Release:
		x.g.end(x.w, m.ActivityID, StatusSuccessful, "")
		Members.Delete(x.w, m.Key(m.ID))
		return x.e.Compute.SetGroup(x.w, x.g.Scope, m.ID, "")
	case Park:
		x.g.end(x.w, m.ActivityID, StatusSuccessful, "")
		m.State, m.ActivityID = Standby, ""
	case Register:
		if err := x.e.Balancer.Register(x.w, x.g.Scope, a.ARN, m.ID); err != nil {
			if _, ours := fault.As(err); !ours {
				return err
			}
			return nil // the target group refuses it: the attachment stays Adding
		}
		m.Targets = append(slices.Clone(m.Targets), a.ARN)
	case Deregister:
		if err := x.e.Balancer.Deregister(x.w, x.g.Scope, a.ARN, m.ID); err != nil {
			return err
		}
		m.Targets = slices.DeleteFunc(slices.Clone(m.Targets), func(t string) bool { return t == a.ARN })
	default:
		return fmt.Errorf("scaling: no execution for %v", a.Kind)
	}
	Members.Put(x.w, m)
	return nil
}

// launch starts one instance and makes it a member.
func (x *executor) launch(a Action) (Member, error) {
	cause, alarms := x.cause(a)
	var refresh *Refresh
	if r, ok := ActiveRefresh(x.w, x.g); ok {
		refresh = &r
	}
	from := refresh.from(x.g)
	inst, tmpl, weight, err := x.e.start(x.w, from, a)
	if err != nil {
		return Member{}, &launchError{action: a, err: err}
	}
	description, state := "Launching a new EC2 instance: ", Pending
	if a.Warm {
		description, state = "Launching a new EC2 instance into warm pool: ", WarmedPending
	}
	act := begin(x.w, x.g, description+inst.ID, cause, a.Subnet, a.Zone, alarms)
	x.g.progress(x.w, act.ID, StatusPreInService, 30)
	m := Member{Scope: x.g.Scope, ID: inst.ID, Group: x.g.Name, Zone: inst.Zone, SubnetID: a.Subnet, InstanceType: inst.InstanceType,
		ImageID: inst.ImageID, LaunchConfiguration: from.LaunchConfiguration, State: state, Health: Healthy, Protected: x.g.ProtectNew, Spot: inst.Spot,
		LaunchedAt: x.now, ActivityID: act.ID, Rebalance: a.Rebalance, Replacement: a.Replaces}
	if tmpl != nil {
		m.Template = &TemplateRef{ID: tmpl.ID, Name: tmpl.Name, Version: strconv.Itoa(tmpl.Version)}
	}
	if refresh != nil {
		m.Refresh = refresh.mark()
	}
	m.Weight = WeightOf(from, weight)
	Members.Put(x.w, m)
	if a.Replaces && x.g.Owed > 0 {
		x.g.Owed--
	}
	if a.Rebalance {
		x.g.Balanced = x.now.Add(x.e.scaled(rebalancePause))
	}
	return m, nil
}

// failed records that a launch did not work, and holds the next one back: in the zone when another may do, everywhere
// when the request itself is at fault.
func (e *Engine) failed(w *store.WriteTx, sc scope.Scope, name string, le *launchError) {
	g, ok := Groups.Get(w, sc.Key(name))
	if !ok {
		return
	}
	a := le.action
	var reasons []string
	var alarms []byte
	if a.Reasoned {
		reasons, alarms = g.Reasons, g.Alarms
	}
	message, code, kind := "Internal error.", "", fault.Internal
	if f, ok := fault.As(le.err); ok {
		message, code, kind = f.Msg, f.Code, f.Kind
		if g.Mixed != nil {
			message = map[bool]string{false: "Could not launch On-Demand Instances. ", true: "Could not launch Spot Instances. "}[a.Spot] + f.Code + " - " + f.Msg
		}
	}
	act := begin(w, g, "Launching a new EC2 instance", causeOf(reasons, w.Now(), a.Why...), a.Subnet, a.Zone, alarms)
	g.end(w, act.ID, StatusFailed, failureText(message))
	g.Reasons, g.Alarms = nil, nil
	key := anyZone
	switch {
	case kind == fault.Capacity && code == "InsufficientFreeAddressesInSubnet":
		key = a.Subnet // another one of the zone may do
	case kind == fault.Capacity:
		key = heldKey(a.Zone, a.Spot)
	}
	g = e.despair(e.holdBack(g, key, w.Now()), w.Now())
	Groups.Put(w, g)
	prune(w, g)
}

// patientFor is how many launches in a row may be abandoned before the next ones wait.
const patientFor = 2

// suspendAfter is for how long a group's launches have failed when AWS suspends them.
const suspendAfter = 24 * time.Hour

// despair suspends the launches of a group that has tried for a day without one that worked. A pause that is longer than
// those between its tries begins the day anew.
func (e *Engine) despair(g Group, now time.Time) Group {
	f := Failing{Since: now, Last: now}
	if g.Failing != nil && now.Sub(g.Failing.Last) < e.scaled(4*backoffLast) {
		f.Since = g.Failing.Since
	}
	g.Failing = &f
	if now.Sub(f.Since) >= e.scale(suspendAfter) && !g.SuspendedProcess(ProcLaunch) {
		g.Suspended = append(slices.Clone(g.Suspended), Suspension{Process: ProcLaunch, Reason: "Administrator suspended at " + now.UTC().Format("2006-01-02T15:04:05Z") + ": launches have failed for 24 hours"})
		g.Failing = nil
	}
	return g
}

// holdBack doubles the time for which no launch is tried.
func (e *Engine) holdBack(g Group, key string, now time.Time) Group {
	g.Backoff = maps.Clone(g.Backoff)
	if g.Backoff == nil {
		g.Backoff = map[string]Backoff{}
	}
	b := g.Backoff[key]
	wait := min(backoffLast, backoffFirst<<min(b.Failures, maxBackoffStep))
	b.Failures++
	b.Until = now.Add(e.scaled(wait))
	g.Backoff[key] = b
	return g
}

// admit registers a member with the target groups and puts it in service.
func (x *executor) admit(m Member) error {
	if m.Unlisted = x.g.SuspendedProcess(ProcAddToLoadBalancer); !m.Unlisted {
		for _, a := range x.g.Attachments {
			if a.State == "Removing" || slices.Contains(m.Targets, a.ARN) {
				continue
			}
			if err := x.e.Balancer.Register(x.w, x.g.Scope, a.ARN, m.ID); err != nil {
				if _, ours := fault.As(err); !ours {
					return err
				}
				continue // a target group that was deleted meanwhile takes nobody
			}
			m.Targets = append(slices.Clone(m.Targets), a.ARN)
		}
	}
	m.State, m.InServiceAt, m.Pauses, m.Rebalance, m.Adopted, m.FailingSince = InService, x.now, nil, false, false, time.Time{}
	x.g.end(x.w, m.ActivityID, StatusSuccessful, "")
	m.ActivityID = ""
	Members.Put(x.w, m)
	x.g.Failing = nil
	if len(x.g.Backoff) > 0 {
		x.g.Backoff = maps.Clone(x.g.Backoff)
		delete(x.g.Backoff, heldKey(m.Zone, m.Spot))
		delete(x.g.Backoff, anyZone)
		delete(x.g.Backoff, m.SubnetID)
	}
	return nil
}

// leave deregisters a member from its target groups; with drain it returns when their delays are over.
func (e *Engine) leave(w *store.WriteTx, m *Member, drain bool) error {
	until := w.Now()
	for _, arn := range m.Targets {
		if err := e.Balancer.Deregister(w, m.Scope, arn, m.ID); err != nil {
			return err
		}
		if drain {
			if t := w.Now().Add(e.scale(e.Balancer.Delay(w, m.Scope, arn, m.ID))); t.After(until) {
				until = t
			}
		}
	}
	m.Targets, m.DrainUntil = nil, until
	return nil
}

// retire takes a member out of service.
func (x *executor) retire(a Action, m Member) error {
	cause, alarms := x.cause(a)
	if a.Return {
		return x.e.giveBack(x.w, x.g, m, cause, alarms)
	}
	if err := x.e.retire(x.w, x.g, m, cause, alarms, a.Drain); err != nil {
		return err
	}
	if !a.Reasoned && !a.Warm && m.State != Standby {
		x.g.Owed++
	}
	if slices.ContainsFunc(m.Pauses, func(p Pause) bool { return p.Result == "ABANDON" }) {
		// Once is nothing; instances that all give up would be launched as fast as they boot.
		b := x.g.Backoff[anyZone]
		x.g = x.e.holdBack(x.g, anyZone, x.now)
		if b.Failures < patientFor {
			b.Failures++
			x.g.Backoff[anyZone] = b
		}
	}
	return nil
}

// retire deregisters a member and starts its termination's activity.
func (e *Engine) retire(w *store.WriteTx, g Group, m Member, cause string, alarms []byte, drain bool) error {
	if m.ActivityID != "" { // it was on its way in
		message := ""
		for _, p := range m.Pauses {
			if p.Result == "ABANDON" {
				how := "Lifecycle Action Completed with ABANDON Result"
				if p.TimedOut {
					how = "Heartbeat Timeout"
				}
				message = "Instance failed to complete user's Lifecycle Action: Lifecycle Action with token " + p.Token + " was abandoned: " + how
			}
		}
		g.end(w, m.ActivityID, StatusCancelled, message)
	}
	if err := e.leave(w, &m, drain); err != nil {
		return err
	}
	description, state := "Terminating EC2 instance: ", Terminating
	if m.Warmed() {
		description, state = "Terminating EC2 instance from warm pool: ", WarmedTerminating
	}
	act := begin(w, g, description+m.ID, cause, m.SubnetID, m.Zone, alarms)
	if m.DrainUntil.After(w.Now()) {
		g.progress(w, act.ID, StatusDraining, 50)
	}
	m.State, m.ActivityID, m.Pauses = state, act.ID, nil
	Members.Put(w, m)
	return nil
}

// hold makes a member wait for the hooks of its transition.
func (x *executor) hold(m *Member) {
	transition, next := LaunchHook, PendingWait
	switch m.State {
	case Terminating:
		transition, next = TerminateHook, TerminatingWait
	case WarmedTerminating:
		transition, next = TerminateHook, WarmedTerminatingWait
	case WarmedPending:
		next = WarmedPendingWait
		if m.Reused {
			transition = TerminateHook
		}
	}
	m.State, m.Pauses = next, nil
	x.g.progress(x.w, m.ActivityID, StatusMidLifecycle, 60)
	for _, h := range of(x.w, Hooks, x.g.Scope, x.g.Name) {
		if h.Transition != transition {
			continue
		}
		beat := x.e.scaled(h.Heartbeat)
		p := Pause{Hook: h.Name, Token: newUUID(x.w.Rand()), DefaultResult: h.DefaultResult, Heartbeat: beat,
			Deadline: x.now.Add(beat), GlobalUntil: x.now.Add(x.e.scaled(h.GlobalTimeout()))}
		m.Pauses = append(m.Pauses, p)
		x.g.tellHook(x.w, h, p, *m)
	}
}

// lose forgets a member that died before it was in service.
func (x *executor) lose(m Member) error {
	reason := "Client.UserInitiatedShutdown: User initiated shutdown"
	if i, ok := x.e.Compute.Instance(x.w, x.g.Scope, m.ID); ok && i.Reason != "" {
		reason = i.Reason
	}
	x.g.end(x.w, m.ActivityID, StatusCancelled, "Instance became unhealthy while waiting for instance to be in InService state. Termination Reason: "+reason)
	if err := x.e.leave(x.w, &m, false); err != nil {
		return err
	}
	if err := x.e.Compute.Terminate(x.w, x.g.Scope, m.ID); err != nil {
		return err
	}
	m.State, m.ActivityID, m.Pauses, m.Ending = map[bool]string{false: Terminating, true: WarmedTerminating}[m.Warmed()], "", nil, true
	Members.Put(x.w, m)
	x.g = x.e.holdBack(x.g, heldKey(m.Zone, m.Spot), x.now)
	return nil
}

func (x *executor) attach(a Action) {
	x.g.Attachments = slices.Clone(x.g.Attachments)
	for i, at := range x.g.Attachments {
		if at.ARN != a.ARN {
			continue
		}
		if a.State == "Removed" {
			x.g.Attachments = slices.Delete(x.g.Attachments, i, i+1)
			return
		}
		x.g.Attachments[i].State = a.State
		return
	}
}

// bury removes a deleted group with all that was its own; its activities stay, marked.
func (x *executor) bury() {
	for _, a := range of(x.w, Activities, x.g.Scope, x.g.Name) {
		a.Deleted = true
		if !a.Done() {
			a.End, a.Status, a.Progress = x.now, StatusSuccessful, 100
		}
		Activities.Put(x.w, a)
	}
	for _, r := range of(x.w, Refreshes, x.g.Scope, x.g.Name) {
		Refreshes.Delete(x.w, r.Key(r.ID))
	}
	for _, o := range of(x.w, orders, x.g.Scope, x.g.Name) {
		orders.Delete(x.w, o.Key(o.Group+":"+o.Token))
	}
	Groups.Delete(x.w, x.g.Key(x.g.Name))
}

// isLaunchError finds a launch's failure in an error.
func isLaunchError(err error) (*launchError, bool) {
	var le *launchError
	ok := errors.As(err, &le)
	return le, ok
}
