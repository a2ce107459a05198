package simulate

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"skerry/internal/scaling"
)

const maxRounds = 4096 // of decisions at one time

// world is a group and its machines in virtual time.
type world struct {
	s       Scenario
	e       scaling.Engine
	rand    *rand.Rand
	now     time.Time
	group   scaling.Group
	members []scaling.View // by launch
	boots   []event        // by time
	warmups []event        // by time
	ends    []event        // by time
	wake    time.Time
	dirty   bool
	serial  int
	subnets []scaling.Subnet
	offers  []scaling.Offer

	inService, pending, leaving int // members
	units                       int // of capacity in service: as many as members, where types have no weights
	alive                       int // instances that cost
	cost                        float64
	alarms                      []*alarm
	scheduled                   []scaling.Scheduled
	predictions                 []*prediction
	loads                       [metrics][]float64 // by hour since the hour of the start
	queue                       queue
	aliveSeconds, spent         float64
	err                         error
}

// Run plays a scenario. The error says what of it can't be simulated.
func Run(s Scenario) (Result, error) {
	if err := s.check(); err != nil {
		return Result{}, err
	}
	w := &world{s: s, e: scaling.Engine{TimeScale: 1, Compute: market{}}, rand: rand.New(rand.NewPCG(s.Seed, 2)), now: s.Start, group: s.Group, dirty: true}
	w.group.Attachments, w.group.HealthCheckType = nil, "EC2"
	if s.Candidate.Warm != nil {
		w.group.Warm = s.Candidate.Warm
	}
	w.queue = queue{rate: float64(s.Workers) / s.Service.Seconds(), workers: s.Workers, patience: s.Patience.Seconds()}
	for i, z := range s.Zones {
		w.subnets = append(w.subnets, scaling.Subnet{ID: fmt.Sprintf("subnet-%d", i), Zone: z, VpcID: "vpc"})
	}
	if len(w.subnets) == 0 {
		w.subnets = []scaling.Subnet{{ID: "subnet-0", Zone: "a", VpcID: "vpc"}}
	}
	if err := w.buy(); err != nil {
		return Result{}, err
	}
	w.listen()
	for _, a := range s.Candidate.Scheduled {
		a.Next = a.NextRun(s.Start)
		w.scheduled = append(w.scheduled, a)
	}
	if w.begin(); w.err != nil {
		return Result{}, w.err
	}
	w.foretell()
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

// begin puts the desired capacity in service and fills the warm pool, as if they had always been there.
func (w *world) begin() {
	w.now = w.s.Start.Add(-day)
	suspended := w.group.Suspended
	w.group.Suspended = nil
	for range maxRounds {
		plan := scaling.Decide(w.situation())
		if len(plan.Actions) == 0 {
			break
		}
		for _, a := range plan.Actions {
			if w.act(a); w.err != nil {
				return
			}
		}
		for _, q := range []*[]event{&w.boots, &w.ends} {
			for _, ev := range *q {
				w.become(w.find(ev.id), ev.state)
			}
			*q = (*q)[:0]
		}
	}
	w.group.Suspended = suspended
	w.now, w.dirty = w.s.Start, true
}

// listen makes the alarms of the policies.
func (w *world) listen() {
	id := 0
	for i := range w.s.Candidate.Policies {
		p := &w.s.Candidate.Policies[i]
		p.Group = w.group.Name
		switch p.Type {
		case scaling.PredictiveScaling:
			w.predictions = append(w.predictions, &prediction{policy: p})
			continue
		case scaling.TargetTracking:
			specs := p.TrackingAlarms(func() string { id++; return fmt.Sprintf("%04d", id) })
			p.AlarmNames = nil
			for _, spec := range specs {
				p.AlarmNames = append(p.AlarmNames, spec.Name)
				a, _ := w.s.tracked(p, spec) // it was checked
				w.alarms = append(w.alarms, a)
			}
			continue
		}
		for _, x := range p.Alarms {
			a, _ := w.s.alarm(p, x)
			w.alarms = append(w.alarms, a)
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
	unserved, busy, served := w.queue.unserved, 0.0, 0.0
	members, capacity, work := 0.0, 0.0, 0.0 // seconds of members, of units, of busy members
	for w.now.Before(end) {
		next := w.next(end)
		dt := next.Sub(w.now).Seconds()
		if w.inService > 0 {
			use := min(1, demand/(float64(w.units)*w.queue.rate))
			if w.queue.backlog > 0 {
				use = 1
			}
			busy += use * dt
			served += dt
			members += float64(w.inService) * dt
			capacity += float64(w.units) * dt
			work += use * float64(w.inService) * dt
		}
		w.aliveSeconds += float64(w.alive) * dt
		w.spent += w.cost * dt
		w.queue.pass(dt, demand, w.units)
		w.now = next
		w.happen()
		if w.dirty {
			w.settle()
		}
	}
	step := w.s.Trace.Step.Seconds()
	p.InService, p.Capacity = members/step, capacity/step
	p.Unserved = w.queue.unserved - unserved
	p.P95 = w.queue.step.quantile(0.95) * 1000
	requests := max(0, demand*step-p.Unserved)
	values := [metrics]float64{math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN(), Requests: demand * 60, Waiting: w.queue.backlog, InService: float64(w.inService),
		DesiredCapacity: float64(w.group.Desired)}
	if served > 0 {
		p.Utilisation = busy / served * 100
		values[Utilisation] = p.Utilisation
		if demand > 0 { // load balancers tell nothing of a target that got no request
			values[RequestsPerTarget] = demand * 60 * served / members
		}
		values[NetworkIn], values[NetworkOut] = requests*w.s.BytesIn*60/members, requests*w.s.BytesOut*60/members
		values[Memory] = w.s.MemIdle + (w.s.MemBusy-w.s.MemIdle)*busy/served
	}
	w.record(begin, [metrics]float64{Utilisation: work / 60 * 100, RequestsPerTarget: demand * step, NetworkIn: requests * w.s.BytesIn, NetworkOut: requests * w.s.BytesOut})
	w.measure(values)
	if w.dirty {
		w.settle()
	}
	p.Desired, p.Pending, p.Terminating, p.Warm = w.group.Desired, w.pending, w.leaving, w.pooled()
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
	for _, q := range [...][]event{w.boots, w.warmups, w.ends} {
		if len(q) > 0 {
			soon(q[0].at)
		}
	}
	soon(w.wake)
	for i := range w.scheduled {
		soon(w.scheduled[i].Next)
	}
	for _, p := range w.predictions {
		soon(p.next)
	}
	return next
}

// happen does what is due.
func (w *world) happen() {
	for _, q := range [...]*[]event{&w.boots, &w.warmups, &w.ends} {
		n := 0
		for n < len(*q) && !(*q)[n].at.After(w.now) {
			ev := (*q)[n]
			if v := w.find(ev.id); v != nil && ev.follows(v.Instance.State) {
				w.become(v, ev.state)
			}
			n++
		}
		*q = (*q)[n:]
	}
	if !w.wake.IsZero() && !w.wake.After(w.now) {
		w.dirty = true
	}
	w.foretell()
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

func (w *world) situation() scaling.Situation {
	return scaling.Situation{Now: w.now, TimeScale: 1, Group: w.group, Members: w.members, Subnets: w.subnets, Mixed: w.group.Mixed, Offers: w.offers}
}

// settle decides and acts until there is nothing to do.
func (w *world) settle() {
	w.dirty = false
	for range maxRounds {
		plan := scaling.Decide(w.situation())
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

// capacity is what a policy's arithmetic sees.
func (w *world) capacity(p *Policy) scaling.Capacity {
	c := scaling.Capacity{Min: w.floor(), Max: w.group.Max, Desired: w.group.Desired}
	warm := w.e.Warmup(w.group, &p.Policy)
	for i := range w.members {
		c.Add(&w.members[i].Member, w.now, warm)
	}
	return c.Of(w.group)
}
