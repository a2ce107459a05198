package scaling

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

var (
	daysFor   = flag.Duration("days-for", 10*time.Second, "how long to play days of operation")
	daysSeeds = flag.Int("days-seeds", 10000, "the most days to play")
	daysFrom  = flag.Uint64("days-from", 1, "the first seed")
)

// TestDays plays days of operation in virtual time, each from a seed: load, boots, failures, lost zones, users' requests
// and crashes of the control plane between any two transactions, with the real loop stepping. What must hold is looked at
// after every step. A day that breaks it is reduced to the events that matter and written to testdata/days, whose days are
// always played.
func TestDays(t *testing.T) {
	kept, err := filepath.Glob("testdata/days/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range kept {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var k keptDay
		if err := json.Unmarshal(b, &k); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := playDay(k.Seed, k.Events); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	var next, played atomic.Uint64
	next.Store(*daysFrom)
	end := time.Now().Add(*daysFor)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				seed := next.Add(1) - 1
				if seed >= *daysFrom+uint64(*daysSeeds) {
					return
				}
				if err := playDay(seed, nil); err != nil {
					reportDay(t, seed, err)
					return
				}
				played.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d days played, from seed %d on", played.Load(), *daysFrom)
	if played.Load() < 3 {
		t.Errorf("only %d days were played", played.Load())
	}
}

// keptDay is a day with those of its events that matter.
type keptDay struct {
	Seed   uint64
	Events []int
	Why    string
}

// reportDay drops events from a failing day as long as it fails, and keeps what is left.
func reportDay(t *testing.T, seed uint64, why error) {
	d := newDay(seed)
	keep := make([]int, len(d.events))
	for i := range keep {
		keep[i] = i
	}
	for size := max(1, len(keep)/2); ; size /= 2 {
		for i := 0; i < len(keep); {
			less := slices.Delete(slices.Clone(keep), i, min(len(keep), i+size))
			if err := playDay(seed, less); err != nil {
				keep, why = less, err
			} else {
				i += size
			}
		}
		if size <= 1 {
			break
		}
	}
	var text strings.Builder
	for _, i := range keep {
		fmt.Fprintf(&text, "\n  %2d: %+v", i, d.events[i])
	}
	t.Errorf("seed %d: %v\nwith these of its %d events:%s", seed, why, len(d.events), text.String())
	b, err := json.Marshal(keptDay{seed, keep, why.Error()})
	if err == nil {
		err = errors.Join(os.MkdirAll("testdata/days", 0o755), os.WriteFile(fmt.Sprintf("testdata/days/%d.json", seed), append(b, '\n'), 0o644))
	}
	if err != nil {
		t.Error(err)
	}
}

// dayEvent is something that happens. N chooses among what is there.
type dayEvent struct {
	At   time.Duration
	Kind string
	N    int
}

var dayKinds = []string{"die", "die", "die", "stop", "unhealthy", "target", "zone", "wrong", "desired", "desired", "terminate", "standby", "back", "detach", "protect",
	"suspend", "refresh", "cancel", "sizes", "crash", "crash", "crash", "restart", "surge"}

// day is what a seed stands for.
type day struct {
	seed      uint64
	group     Group
	desired   int
	hooks     []Hook
	boot, die time.Duration
	target    float64
	base      float64 // of the load, in instances that it keeps fully busy
	events    []dayEvent
	schedule  *Scheduled
}

func newDay(seed uint64) day {
	r := rand.New(rand.NewPCG(seed, 0))
	d := day{seed: seed, group: settings(r.IntN(3), 4+r.IntN(12)), boot: time.Duration(1+r.IntN(90)) * time.Second, die: time.Duration(1+r.IntN(40)) * time.Second}
	g := &d.group
	if r.IntN(2) == 0 {
		g.Subnets = append(g.Subnets, "subnet-zc")
	}
	if r.IntN(2) == 0 {
		g.Attachments = []Attachment{{ARN: tgA}}
		if r.IntN(2) == 0 {
			g.HealthCheckType, g.GracePeriod = "ELB", r.IntN(300)
		}
	}
	if r.IntN(4) == 0 {
		life := 86400
		g.MaxInstanceLifetime = &life
	}
	if r.IntN(3) == 0 {
		lo, hi := 90, 120
		if r.IntN(2) == 0 {
			lo, hi = 100, 150
		}
		g.MinHealthy, g.MaxHealthy = &lo, &hi
	}
	g.TerminationPolicies = [][]string{{"Default"}, {"OldestInstance"}, {"NewestInstance", "Default"}, {"OldestLaunchTemplate"}}[r.IntN(4)]
	d.desired = g.Min + r.IntN(g.Max-g.Min+1)
	if r.IntN(3) == 0 {
		d.hooks = []Hook{{Name: "up", Transition: LaunchHook, Heartbeat: 30 + r.IntN(120), DefaultResult: []string{"CONTINUE", "CONTINUE", "ABANDON"}[r.IntN(3)]},
			{Name: "down", Transition: TerminateHook, Heartbeat: 30 + r.IntN(120)}}
		if d.hooks[0].DefaultResult == "ABANDON" {
			d.hooks = d.hooks[1:]
		}
	}
	if r.IntN(2) == 0 {
		d.target, d.base = 50, float64(g.Max)*0.45
	}
	if r.IntN(3) == 0 {
		n := g.Min + r.IntN(g.Max-g.Min+1)
		d.schedule = &Scheduled{Scope: here, Group: "g", Name: "evening", Recurrence: "0 18 * * *", Desired: &n}
	}
	for at := time.Duration(0); ; {
		at += time.Duration(r.ExpFloat64() * float64(40*time.Minute))
		if at > 23*time.Hour {
			return d
		}
		d.events = append(d.events, dayEvent{at, dayKinds[r.IntN(len(dayKinds))], r.IntN(1 << 20)})
	}
}

// errCrash is the end of the control plane in the middle of what it does.
var errCrash = errors.New("the control plane is killed")

// failure carries a broken invariant through the world's helpers.
type failure struct{ err error }

type dayFatal struct{}

func (dayFatal) Helper() {}
func (dayFatal) Fatalf(format string, args ...any) {
	panic(failure{fmt.Errorf(format, args...)})
}

// play is a day under way.
type play struct {
	*world
	d        day
	quiet    time.Time // since when nothing has disturbed the group
	excused  map[string]bool
	before   map[string]Member
	zoneBack map[string]time.Time
	rightAt  time.Time // launches are refused until then
	calls    int       // of compute and balancer until the control plane is killed
	surge    time.Time
	history3 []float64
	lastMove time.Time
}

// playDay plays a seed's day, with all its events or with those listed.
func playDay(seed uint64, keep []int) (err error) {
	p := &play{d: newDay(seed), excused: map[string]bool{}, before: map[string]Member{}, zoneBack: map[string]time.Time{}}
	defer func() {
		if f, ok := recover().(failure); ok {
			err = fmt.Errorf("at %s: %w", p.now.Format("15:04:05"), f.err)
		} else if f := recover(); f != nil {
			panic(f)
		}
	}()
	p.world = newWorld(dayFatal{}, 1)
	p.boot, p.die = p.d.boot, p.d.die
	p.e.Compute = crashing{p.e.Compute, p}
	p.create(p.d.group, p.d.desired, p.d.hooks...)
	if p.d.schedule != nil {
		p.must(func(tx *store.WriteTx) error { return p.e.PutSchedule(tx, *p.d.schedule) })
	}
	start := p.now
	p.quiet = start
	events := p.d.events
	if keep != nil {
		events = nil
		for _, i := range keep {
			events = append(events, p.d.events[i])
		}
	}
	end, minute := start.Add(24*time.Hour), start.Add(time.Minute)
	wake := p.turn()
	for p.now.Before(end) {
		next := end
		soon := func(t time.Time) {
			if !t.IsZero() && t.Before(next) {
				next = t
			}
		}
		if len(events) > 0 {
			soon(start.Add(events[0].At))
		}
		soon(wake)
		soon(p.change())
		soon(p.rightAt)
		for _, t := range p.zoneBack {
			soon(t)
		}
		if p.d.target > 0 {
			soon(minute)
		}
		if !next.After(p.now) {
			next = p.now.Add(time.Millisecond)
		}
		p.now = next
		acts := false
		if p.d.target > 0 && !p.now.Before(minute) {
			minute = minute.Add(time.Minute)
			acts = p.alarm()
		}
		for len(events) > 0 && !p.now.Before(start.Add(events[0].At)) {
			p.happen(events[0])
			events = events[1:]
			acts = true
		}
		for z, t := range p.zoneBack {
			if !p.now.Before(t) {
				delete(p.zoneBack, z)
				delete(p.refuse, z)
				p.quiet, acts = p.now, true
			}
		}
		if !p.rightAt.IsZero() && !p.now.Before(p.rightAt) {
			p.rightAt, p.wrong, acts = time.Time{}, nil, true
			p.quiet = p.now
		}
		if c := p.change(); acts || !wake.IsZero() && !p.now.Before(wake) || !c.IsZero() && !p.now.Before(c) {
			wake = p.turn()
			p.holds()
		}
	}
	return nil
}

// change is when a machine's or target's state changes by itself.
func (p *play) change() time.Time {
	next := time.Time{}
	soon := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	tx := p.db.Read()
	for i := range fakeInstances.All(tx) {
		switch i.State {
		case "pending":
			soon(i.Since.Add(p.boot))
		case "shutting-down":
			soon(i.Since.Add(p.die))
		}
	}
	for t := range fakeTargets.All(tx) {
		switch t.State {
		case "initial":
			soon(t.Since.Add(15 * time.Second))
		case "draining":
			g, _ := fakeGroups.Get(tx, here.Key(t.Group))
			soon(t.Since.Add(g.Delay))
		}
	}
	return next
}

// turn lets the world catch up and the loop look. A killed control plane comes back.
func (p *play) turn() time.Time {
	p.must(func(tx *store.WriteTx) error {
		for i := range fakeInstances.All(tx) {
			switch {
			case i.State == "pending" && !p.now.Before(i.Since.Add(p.boot)):
				i.State = "running"
			case i.State == "shutting-down" && !p.now.Before(i.Since.Add(p.die)):
				i.State = "terminated"
			case i.State == "terminated" && p.now.Sub(i.Since) > time.Hour:
				fakeInstances.Delete(tx, i.Key(i.ID))
				continue
			default:
				continue
			}
			i.Since = p.now
			fakeInstances.Put(tx, i)
		}
		for t := range fakeTargets.All(tx) {
			g, _ := fakeGroups.Get(tx, here.Key(t.Group))
			switch {
			case t.State == "initial" && !p.now.Before(t.Since.Add(15*time.Second)):
				t.State = "healthy"
				fakeTargets.Put(tx, t)
			case t.State == "draining" && !p.now.Before(t.Since.Add(g.Delay)):
				fakeTargets.Delete(tx, t.Key(t.Group+" "+t.ID))
			}
		}
		return nil
	})
	for range 20 {
		wake, err := p.r.Step(context.Background())
		if err == nil {
			return wake
		}
		if !errors.Is(err, errCrash) {
			p.t.Fatalf("Step: %v", err)
		}
		p.e = &Engine{Compute: p.e.Compute, Balancer: p.e.Balancer, Alarms: p.e.Alarms, TimeScale: 1}
		p.r = &Reconciler{DB: p.db, Engine: p.e, Clock: p.r.Clock}
	}
	p.t.Fatalf("the loop does not get past a crash")
	return time.Time{}
}

// crashing is a compute whose caller is killed at a call.
type crashing struct {
	Compute
	p *play
}

func (c crashing) dies() bool {
	if c.p.calls > 0 {
		if c.p.calls--; c.p.calls == 0 {
			return true
		}
	}
	return false
}

func (c crashing) Launch(w *store.WriteTx, s scope.Scope, r LaunchRequest) (Instance, error) {
	if c.dies() {
		return Instance{}, errCrash
	}
	return c.Compute.Launch(w, s, r)
}

func (c crashing) Terminate(w *store.WriteTx, s scope.Scope, id string) error {
	if c.dies() {
		return errCrash
	}
	return c.Compute.Terminate(w, s, id)
}

// alarm is CloudWatch's minute: it tells whether a policy was invoked.
func (p *play) alarm() bool {
	in := len(p.in(InService))
	hours := p.now.Sub(time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)).Hours()
	load := p.d.base * (0.6 + 0.4*math.Sin(hours/24*2*math.Pi))
	if p.now.Before(p.surge) {
		load *= 2.5
	}
	use := 100.0
	if in > 0 {
		use = min(100, load/float64(in)*100)
	}
	p.history3 = append(p.history3, use)
	if n := len(p.history3); n > 15 {
		p.history3 = p.history3[n-15:]
	}
	n := len(p.history3)
	all := func(k int, breach func(float64) bool) bool {
		return n >= k && !slices.ContainsFunc(p.history3[n-k:], func(v float64) bool { return !breach(v) })
	}
	high := all(3, func(v float64) bool { return v > p.d.target })
	low := all(15, func(v float64) bool { return v < lowThreshold(p.d.target) })
	if !high && !low {
		return false
	}
	policy := Policy{Scope: here, Group: "g", Name: "cpu", Type: TargetTracking, Enabled: true, Tracking: &Tracking{Predefined: "ASGAverageCPUUtilization", Target: p.d.target}}
	if _, ok := Policies.Get(p.db.Read(), here.Key("g:cpu")); !ok {
		p.must(func(tx *store.WriteTx) error { _, err := p.e.PutPolicy(tx, policy); return err })
	}
	before := p.group().Desired
	p.must(func(tx *store.WriteTx) error {
		stored, _ := Policies.Get(tx, here.Key("g:cpu"))
		name := "TargetTracking-g-AlarmLow-1"
		if high {
			name = "TargetTracking-g-AlarmHigh-1"
		}
		return p.e.OnAlarm(tx, stored.ARN(), Alarm{Name: name, State: "ALARM", Value: use, HasValue: true, Threshold: p.d.target})
	})
	if p.group().Desired == before {
		return false
	}
	p.quiet = p.now
	return true
}

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
	state := ""
	if i, ok := fakeInstances.Get(p.db.Read(), here.Key(m.ID)); ok {
		state = i.State
	}
	switch ev.Kind {
	case "die", "stop":
		if state == "running" || state == "pending" {
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
		p.r = &Reconciler{DB: p.db, Engine: p.e, Clock: p.r.Clock}
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
	_, refreshing := ActiveRefresh(p.db.Read(), g)
	now := map[string]Member{}
	counted, in, pausing := 0, 0, false
	for _, m := range ms {
		now[m.ID] = m
		switch m.State {
		case InService:
			in++
			counted++
		case Pending, PendingWait, PendingProceed:
			counted++
		case Standby, EnteringStandby:
		default:
			pausing = true
		}
		was, there := p.before[m.ID]
		if there && was.State == InService && was.Protected && m.State == Terminating && !p.excused[m.ID] && was.Health == Healthy {
			if i, ok := fakeInstances.Get(p.db.Read(), here.Key(m.ID)); ok && i.State == "running" {
				p.t.Fatalf("the protected instance %s was taken out: %+v", m.ID, p.world.history()[0].Cause)
			}
		}
	}
	p.before = now
	// Beyond max only by what zone balance, and refreshes and replacements that launch first, are allowed.
	allowed := max(1, g.Max/10)
	if g.MaxHealthy != nil {
		allowed = max(allowed, (g.Desired**g.MaxHealthy+99)/100-g.Desired)
	}
	if refreshing {
		allowed = max(allowed, (g.Max+9)/10)
	}
	if counted > g.Max+allowed && !g.SuspendedProcess(ProcTerminate) && p.now.Sub(p.quiet) > 30*time.Minute {
		p.t.Fatalf("%d instances in a group of at most %d", counted, g.Max)
	}
	for i := range fakeInstances.All(p.db.Read()) {
		if i.Group == "g" && i.State != "terminated" && i.State != "shutting-down" {
			if _, ok := now[i.ID]; !ok {
				p.t.Fatalf("instance %s is %s and no member", i.ID, i.State)
			}
		}
	}
	if len(g.Suspended) > 0 || len(p.zoneBack) > 0 || p.wrong != nil || refreshing || p.now.Sub(p.quiet) < 40*time.Minute {
		return
	}
	// Nothing has happened for long: the group is as it should be. The bound: the longest backoff of failed launches (15 minutes), a
	// boot, two hooks, a drain.
	if in < g.Min {
		p.t.Fatalf("%d in service, min is %d, and nothing is in the way", in, g.Min)
	}
	protected := slices.ContainsFunc(ms, func(m Member) bool { return m.Protected })
	if !pausing && counted == in && in != g.Desired && !(in > g.Desired && protected) {
		p.t.Fatalf("%d in service, desired is %d, and nothing is in the way", in, g.Desired)
	}
	if protected || pausing || counted != in {
		return
	}
	z := zonesOf(p.in(InService))
	lo, hi := math.MaxInt, 0
	for _, s := range g.Subnets {
		n := z[strings.TrimPrefix(s, "subnet-")]
		lo, hi = min(lo, n), max(hi, n)
	}
	if hi-lo > 1 {
		p.t.Fatalf("the zones are out of balance: %v", z)
	}
	if plan := Decide(p.e.situation(p.db.Read(), g)); len(plan.Actions) != 0 {
		p.t.Fatalf("a settled group still plans %+v", plan.Actions)
	}
}
