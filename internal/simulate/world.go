package simulate

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"skerry/internal/metric"
	"skerry/internal/scaling"
)

const (
	maxRounds = 4096            // of decisions at one time
	goneAfter = 5 * time.Second // from the termination's begin to its end
	removed   = ""              // state of a member that the next clearing takes away
)

// event is a change of an instance that time brings.
type event struct {
	at    time.Time
	id    string
	state string
}

// world is a group and its machines in virtual time.
type world struct {
	s       Scenario
	e       scaling.Engine
	rand    *rand.Rand
	now     time.Time
	group   scaling.Group
	members []scaling.View // by launch
	boots   []event        // by time
	ends    []event        // by time
	wake    time.Time
	dirty   bool
	serial  int
	subnets []scaling.Subnet

	inService, pending, leaving, alive int
	alarms                             []*alarm
	scheduled                          []scaling.Scheduled
	queue                              queue
	aliveSeconds                       float64
	err                                error
}

// alarm is one with the policy that it invokes.
type alarm struct {
	metric.Alarm
	of     Metric
	policy *Policy
	low    bool // of target tracking
	points []metric.Datapoint
	sum    float64 // of the period under way
	n      float64
	began  time.Time
}

// Run plays a scenario. The error says what of it can't be simulated.
func Run(s Scenario) (Result, error) {
	if err := s.check(); err != nil {
		return Result{}, err
	}
	w := &world{s: s, e: scaling.Engine{TimeScale: 1}, rand: rand.New(rand.NewPCG(s.Seed, 2)), now: s.Start, group: s.Group, dirty: true}
	w.group.Attachments, w.group.HealthCheckType = nil, "EC2"
	w.queue = queue{rate: float64(s.Workers) / s.Service.Seconds(), workers: s.Workers, patience: s.Patience.Seconds()}
	for i, z := range s.Zones {
		w.subnets = append(w.subnets, scaling.Subnet{ID: fmt.Sprintf("subnet-%d", i), Zone: z, VpcID: "vpc"})
	}
	if len(w.subnets) == 0 {
		w.subnets = []scaling.Subnet{{ID: "subnet-0", Zone: "a", VpcID: "vpc"}}
	}
	w.listen()
	for _, a := range s.Candidate.Scheduled {
		a.Next = a.NextRun(s.Start)
		w.scheduled = append(w.scheduled, a)
	}
	w.begin()
	r := Result{Candidate: s.Candidate.Name, Points: make([]Point, 0, len(s.Trace.Demand))}
	for _, demand := range s.Trace.Demand {
		r.Points = append(r.Points, w.step(demand))
		if w.err != nil {
			return Result{}, w.err
		}
	}
	r.sum(w)
	return r, nil
}

// begin puts the desired instances in service, as if they had always been there.
func (w *world) begin() {
	born := w.now.Add(-24 * time.Hour)
	for range w.group.Desired {
		best := 0
		for i := range w.subnets {
			if w.serial%len(w.subnets) == i {
				best = i
			}
		}
		v := w.newMember(w.subnets[best], born)
		v.State, v.InServiceAt, v.Instance.State = scaling.InService, born, "running"
		w.members = append(w.members, v)
	}
	w.inService, w.alive = len(w.members), len(w.members)
}

func (w *world) newMember(at scaling.Subnet, now time.Time) scaling.View {
	w.serial++
	m := scaling.Member{Scope: w.group.Scope, ID: fmt.Sprintf("i-%017x", w.serial), Group: w.group.Name, Zone: at.Zone, SubnetID: at.ID, State: scaling.Pending,
		Health: scaling.Healthy, LaunchedAt: now, Protected: w.group.ProtectNew}
	return scaling.View{Member: m, Instance: scaling.Instance{ID: m.ID, State: "pending", SubnetID: at.ID, Zone: at.Zone, LaunchTime: now}}
}

// listen makes the alarms of the policies.
func (w *world) listen() {
	id := 0
	for i := range w.s.Candidate.Policies {
		p := &w.s.Candidate.Policies[i]
		p.Group = w.group.Name
		if p.Type == scaling.TargetTracking {
			of, _ := metricOf(p.Tracking) // it was checked
			specs := p.TrackingAlarms(func() string { id++; return fmt.Sprintf("%04d", id) })
			p.AlarmNames = nil
			for _, spec := range specs {
				p.AlarmNames = append(p.AlarmNames, spec.Name)
				w.alarms = append(w.alarms, &alarm{of: of, policy: p, low: spec.Comparison == "LessThanThreshold", began: w.now,
					Alarm: metric.Alarm{Name: spec.Name, Period: spec.Period, EvaluationPeriods: spec.Evaluations, Threshold: spec.Threshold, Comparison: spec.Comparison}})
			}
			continue
		}
		for _, a := range p.Alarms {
			w.alarms = append(w.alarms, &alarm{of: a.Metric, policy: p, began: w.now,
				Alarm: metric.Alarm{Name: a.Name, Period: cmp.Or(a.Period, 60), EvaluationPeriods: max(1, a.Evaluations), DatapointsToAlarm: a.Datapoint, Threshold: a.Threshold, Comparison: a.Comparison}})
		}
	}
}

// step lets one step of the trace pass.
func (w *world) step(demand float64) Point {
	begin := w.now
	end := begin.Add(w.s.Trace.Step)
	p := Point{Time: begin, Demand: demand}
	w.fail()
	if w.dirty {
		w.settle()
	}
	w.queue.step.reset()
	unserved, busy, served, capacity := w.queue.unserved, 0.0, 0.0, 0.0
	for w.now.Before(end) {
		next := w.next(end)
		dt := next.Sub(w.now).Seconds()
		if w.inService > 0 {
			use := min(1, demand/(float64(w.inService)*w.queue.rate))
			if w.queue.backlog > 0 {
				use = 1
			}
			busy += use * dt
			served += dt
			capacity += float64(w.inService) * dt
		}
		w.aliveSeconds += float64(w.alive) * dt
		w.queue.pass(dt, demand, w.inService)
		w.now = next
		w.happen()
		if w.dirty {
			w.settle()
		}
	}
	step := w.s.Trace.Step.Seconds()
	p.InService = capacity / step
	p.Unserved = w.queue.unserved - unserved
	p.P95 = w.queue.step.quantile(0.95) * 1000
	values := [2]float64{math.NaN(), math.NaN()}
	if served > 0 {
		values[Utilisation] = busy / served * 100
		values[RequestsPerTarget] = demand * 60 * served / capacity
		p.Utilisation = values[Utilisation]
	}
	w.measure(values, step)
	if w.dirty {
		w.settle()
	}
	p.Desired, p.Pending, p.Terminating = w.group.Desired, w.pending, w.leaving
	return p
}

// next is when something changes, at most end.
func (w *world) next(end time.Time) time.Time {
	next := end
	soon := func(t time.Time) {
		if !t.IsZero() && t.After(w.now) && t.Before(next) {
			next = t
		}
	}
	if len(w.boots) > 0 {
		soon(w.boots[0].at)
	}
	if len(w.ends) > 0 {
		soon(w.ends[0].at)
	}
	soon(w.wake)
	for i := range w.scheduled {
		soon(w.scheduled[i].Next)
	}
	return next
}

// happen does what is due.
func (w *world) happen() {
	for _, q := range []*[]event{&w.boots, &w.ends} {
		n := 0
		for n < len(*q) && !(*q)[n].at.After(w.now) {
			ev := (*q)[n]
			if v := w.find(ev.id); v != nil && !(ev.state == "running" && v.Instance.State != "pending") {
				w.become(v, ev.state)
			}
			n++
		}
		*q = (*q)[n:]
	}
	if !w.wake.IsZero() && !w.wake.After(w.now) {
		w.dirty = true
	}
	for i := 0; i < len(w.scheduled); i++ {
		a := &w.scheduled[i]
		run, drop, next := a.Due(w.now)
		if run && !w.group.SuspendedProcess(scaling.ProcScheduledActions) {
			if g, err := a.On(w.group); err == nil {
				w.group, w.dirty = g, true
			}
		}
		if drop || run && next.IsZero() {
			w.scheduled = slices.Delete(w.scheduled, i, i+1)
			i--
		} else if run {
			a.Next = next
		}
	}
}

// become changes an instance's state.
func (w *world) become(v *scaling.View, state string) {
	v.Instance.State = state
	w.dirty = true
	if state == "terminated" {
		w.alive--
	}
}

// fail lets instances die, as many as the mean time between failures makes probable.
func (w *world) fail() {
	if w.s.MTBF == 0 {
		return
	}
	expected := float64(w.inService) * float64(w.s.Trace.Step) / float64(w.s.MTBF)
	for n := poisson(w.rand, expected); n > 0 && w.inService > 0; n-- {
		k := w.rand.IntN(w.inService)
		for i := range w.members {
			if v := &w.members[i]; v.State == scaling.InService {
				if k == 0 {
					if v.Instance.State == "running" {
						w.become(v, "terminated")
					}
					break
				}
				k--
			}
		}
	}
}

func poisson(r *rand.Rand, mean float64) int {
	n, p, limit := 0, r.Float64(), math.Exp(-min(mean, 500))
	for p > limit {
		n++
		p *= r.Float64()
	}
	return n
}

// find finds a member; ids ascend with the launches.
func (w *world) find(id string) *scaling.View {
	i, ok := slices.BinarySearchFunc(w.members, id, func(v scaling.View, id string) int { return cmp.Compare(v.ID, id) })
	if !ok {
		return nil
	}
	return &w.members[i]
}

// settle decides and acts until there is nothing to do.
func (w *world) settle() {
	w.dirty = false
	for range maxRounds {
		plan := scaling.Decide(scaling.Situation{Now: w.now, TimeScale: 1, Group: w.group, Members: w.members, Subnets: w.subnets})
		w.wake = plan.Wake
		if len(plan.Actions) == 0 {
			return
		}
		for _, a := range plan.Actions {
			if w.act(a); w.err != nil {
				return
			}
		}
		w.members = slices.DeleteFunc(w.members, func(v scaling.View) bool { return v.State == removed })
	}
	w.err = fmt.Errorf("the group found no rest at %s", w.now.Format(time.RFC3339))
}

// act carries one action out, as the executor of a cloud does on its rows.
func (w *world) act(a scaling.Action) {
	switch a.Kind {
	case scaling.Launch:
		v := w.newMember(scaling.Subnet{ID: a.Subnet, Zone: a.Zone}, w.now)
		v.Rebalance = a.Rebalance
		w.members = append(w.members, v)
		w.boots = append(w.boots, event{w.now.Add(w.s.Boot), v.ID, "running"})
		w.pending++
		w.alive++
		if a.Replaces && w.group.Owed > 0 {
			w.group.Owed--
		}
		if a.Rebalance {
			w.group.Balanced = w.now.Add(time.Minute)
		}
		return
	case scaling.Settle:
		w.group.Owed = 0
		if w.group.Cooling > 0 {
			w.group.CoolTill, w.group.Cooling = w.now.Add(time.Duration(w.group.Cooling)*time.Second), 0
		}
		return
	}
	v := w.find(a.Member)
	if v == nil {
		return
	}
	switch a.Kind {
	case scaling.Mark:
		v.Health, v.Cause = scaling.Unhealthy, a.Cause
	case scaling.Admit:
		v.State, v.InServiceAt, v.Rebalance = scaling.InService, w.now, false
		w.pending--
		w.inService++
	case scaling.Retire:
		if v.State == scaling.InService {
			w.inService--
		} else {
			w.pending--
		}
		w.leaving++
		v.State, v.DrainUntil = scaling.Terminating, w.now
		if a.Drain {
			v.DrainUntil = w.now.Add(w.s.Drain)
		}
		if !a.Reasoned {
			w.group.Owed++
		}
	case scaling.Kill, scaling.Lose:
		if a.Kind == scaling.Lose {
			w.pending--
			w.leaving++
		}
		v.State = scaling.TerminatingProceed
		if v.Instance.State != "terminated" {
			v.Instance.State = "shutting-down"
			w.ends = append(w.ends, event{w.now.Add(goneAfter), v.ID, "terminated"})
		}
	case scaling.Remove:
		w.leaving--
		v.State = removed
	default:
		w.err = fmt.Errorf("the action %v is not simulated", a.Kind)
	}
}

// capacity is what a policy's arithmetic sees.
func (w *world) capacity(p *Policy) scaling.Capacity {
	warming := w.warming(w.e.Warmup(w.group, &p.Policy))
	c := scaling.Capacity{Min: w.group.Min, Max: w.group.Max, Desired: w.group.Desired, InService: w.inService - warming, Warming: warming + w.pending}
	missing := w.group.Desired - w.inService - w.pending
	c.Missing = max(0, missing)
	c.Busy = missing != 0 || w.pending > 0 || w.leaving > 0
	return c
}

// warming counts the members in service that are not warm yet: the youngest ones.
func (w *world) warming(warm time.Duration) int {
	n := 0
	for i := len(w.members) - 1; i >= 0; i-- {
		v := &w.members[i]
		if v.State != scaling.InService {
			continue
		}
		if !w.now.Before(v.InServiceAt.Add(warm)) {
			break
		}
		n++
	}
	return n
}

// measure gives the step's values to the alarms, and lets those in ALARM invoke their policies.
func (w *world) measure(values [2]float64, step float64) {
	var scratch [64]metric.Datapoint
	for _, a := range w.alarms {
		if v := values[a.of]; !math.IsNaN(v) {
			a.sum += v
			a.n++
		}
		period := time.Duration(a.Period) * time.Second
		judged := false
		for !a.began.Add(period).After(w.now) {
			p := metric.Datapoint{Time: a.began, Missing: a.n == 0}
			if a.n > 0 {
				p.Value = a.sum / a.n
			}
			if most := a.EvaluationPeriods + 2; len(a.points) == most { // as many as a cloud's evaluation looks at
				copy(a.points, a.points[1:])
				a.points = a.points[:most-1]
			}
			a.points = append(a.points, p)
			a.began = a.began.Add(period)
			judged = true
		}
		if !judged {
			continue
		}
		a.sum, a.n = 0, 0
		verdict := metric.Judge(a.Alarm, a.points, scratch[:0])
		if verdict.State != "" {
			a.State = verdict.State
		}
		if a.State == metric.StateAlarm {
			w.invoke(a, verdict)
		}
	}
}

func (w *world) invoke(a *alarm, v metric.Verdict) {
	if w.group.SuspendedProcess(scaling.ProcAlarmNotification) {
		return
	}
	n, change := scaling.Propose(w.group, a.policy.Policy, w.capacity(a.policy),
		scaling.Alarm{Name: a.Name, State: a.State, Value: v.Value, HasValue: v.HasValue, Threshold: a.Threshold}, w.now, func() bool { return w.agreed(a.policy) })
	if change {
		w.group = w.e.Follow(w.group, a.policy.Policy, n, w.now)
		w.dirty = true
	}
}

// agreed tells whether every other target tracking policy wants to scale in too.
func (w *world) agreed(p *Policy) bool {
	for _, a := range w.alarms {
		if a.low && a.policy != p && a.State != metric.StateAlarm {
			return false
		}
	}
	return true
}
