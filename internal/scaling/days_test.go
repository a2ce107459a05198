package scaling

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // the heap is small, and short-lived
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

var dayKinds = []string{"die", "die", "die", "stop", "unhealthy", "target", "zone", "wrong", "dry", "desired", "desired", "terminate", "standby", "back", "detach", "attach", "protect",
	"suspend", "refresh", "cancel", "sizes", "crash", "crash", "crash", "restart", "surge", "interrupt", "pool", "balancer", "hook", "complete", "policy", "schedule", "settings"}

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
	pool      bool // it may have a warm pool
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
	switch r.IntN(4) {
	case 0:
		d.pool = true
	case 1:
		g.Template, g.Mixed = nil, &Mixed{Template: TemplateRef{ID: "lt-1", Version: "$Latest"}}
		weighted := r.IntN(2) == 0
		for i, t := range []string{"c5.large", "m5.large", "m5.xlarge"} {
			o := Override{InstanceType: t}
			if weighted {
				o.Weight = 1 + i
			}
			g.Mixed.Overrides = append(g.Mixed.Overrides, o)
		}
		g.Mixed.Distribution = &Distribution{OnDemand: []string{Prioritized, LowestPrice}[r.IntN(2)], Base: r.IntN(3), Percent: 50 * r.IntN(3),
			Spot: []string{LowestPrice, CapacityOptimized, CapacityPrioritized, PriceCapacity}[r.IntN(4)]}
		g.CapacityRebalance = r.IntN(2) == 0
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
	log      store.Memory
	sizes    [3]int // of the group, when it was looked at last

	changes   time.Time            // what change has found
	changesAt uint64               // after so many commits, and one
	rightAt   time.Time            // launches are refused until then
	ends      map[string]time.Time // of spot instances that are interrupted
	calls     int                  // of compute and balancer until the control plane is killed
	surge     time.Time
	history3  []float64
}

// maxSpins is how often the loop may ask to be called again at once: each time it has made as many rounds as it makes.
const maxSpins = 20

// playDay plays a seed's day, with all its events or with those listed.
func playDay(seed uint64, keep []int) (err error) {
	p := &play{d: newDay(seed), excused: map[string]bool{}, before: map[string]Member{}, zoneBack: map[string]time.Time{}, ends: map[string]time.Time{}}
	defer func() {
		if f, ok := recover().(failure); ok {
			err = fmt.Errorf("at %s: %w", p.now.Format("15:04:05"), f.err)
		} else if f := recover(); f != nil {
			panic(f)
		}
	}()
	p.world = newWorldIn(dayFatal{}, 1, "", &p.log)
	p.boot, p.die = p.d.boot, p.d.die
	p.e.Compute, p.e.Balancer = crashing{p.e.Compute, p}, crashingBalancer{p.e.Balancer, p}
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
	wake, spins := p.turn(), 0
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
		for _, t := range p.ends {
			soon(t)
		}
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
		for _, id := range slices.Sorted(maps.Keys(p.ends)) {
			if !p.now.Before(p.ends[id]) {
				delete(p.ends, id)
				p.quiet, acts = p.now, true
				if i, ok := fakeInstances.Get(p.db.Read(), here.Key(id)); ok && i.State == "running" {
					p.setInstance(id, "shutting-down")
				}
			}
		}
		if !p.rightAt.IsZero() && !p.now.Before(p.rightAt) {
			p.rightAt, p.wrong, p.types, acts = time.Time{}, nil, nil, true
			p.quiet = p.now
		}
		if c := p.change(); acts || !wake.IsZero() && !p.now.Before(wake) || !c.IsZero() && !p.now.Before(c) {
			wake = p.turn()
			if spins++; wake.IsZero() || wake.After(p.now) {
				spins = 0
			} else if spins > maxSpins {
				p.t.Fatalf("the loop spins: it always has more to do")
			}
			p.holds()
		}
	}
	p.reopen()
	p.holds()
	return nil
}

// change is when a machine's or target's state changes by itself.
func (p *play) change() time.Time {
	if p.changesAt == p.db.Commits()+1 {
		return p.changes
	}
	next := time.Time{}
	defer func() { p.changes, p.changesAt = next, p.db.Commits()+1 }()
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
		case "shutting-down", "stopping":
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
	if c := p.change(); !c.IsZero() && !p.now.Before(c) {
		p.catchUp()
	}
	for range 20 {
		wake, err := p.r.Step(context.Background())
		if err == nil {
			return wake
		}
		if !errors.Is(err, errCrash) {
			p.t.Fatalf("Step: %v", err)
		}
		p.reopen()
	}
	p.t.Fatalf("the loop does not get past a crash")
	return time.Time{}
}

// catchUp changes the machines and targets whose time has come.
func (p *play) catchUp() {
	p.must(func(tx *store.WriteTx) error {
		for i := range fakeInstances.All(tx) {
			switch {
			case i.State == "pending" && !p.now.Before(i.Since.Add(p.boot)):
				i.State = "running"
			case i.State == "shutting-down" && !p.now.Before(i.Since.Add(p.die)):
				i.State = "terminated"
			case i.State == "stopping" && !p.now.Before(i.Since.Add(p.die)):
				i.State = "stopped"
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
}

// reopen starts the control plane again, from what it had committed. That must be what it had in memory.
func (p *play) reopen() {
	if err := p.log.Drift(p.db); err != nil {
		p.t.Fatalf("in memory is what was not committed: %v", err)
	}
	p.e = &Engine{Compute: p.e.Compute, Balancer: p.e.Balancer, Alarms: p.e.Alarms, TimeScale: 1}
	p.open("", &p.log)
	p.changesAt = 0
}

// crashing is a compute whose caller is killed at a call, crashingBalancer a balancer.
type crashing struct {
	Compute
	p *play
}

type crashingBalancer struct {
	Balancer
	p *play
}

func (p *play) dies() error {
	if p.calls > 0 {
		if p.calls--; p.calls == 0 {
			return errCrash
		}
	}
	return nil
}

func (c crashing) Launch(w *store.WriteTx, s scope.Scope, r LaunchRequest) (Instance, error) {
	i, err := c.Compute.Launch(w, s, r)
	return i, cmp.Or(c.p.dies(), err)
}

func (c crashing) Terminate(w *store.WriteTx, s scope.Scope, id string) error {
	return cmp.Or(c.p.dies(), c.Compute.Terminate(w, s, id))
}

func (c crashing) Stop(w *store.WriteTx, s scope.Scope, id string) error {
	return cmp.Or(c.p.dies(), c.Compute.Stop(w, s, id))
}

func (c crashing) Start(w *store.WriteTx, s scope.Scope, id string) error {
	return cmp.Or(c.p.dies(), c.Compute.Start(w, s, id))
}

func (c crashingBalancer) Register(w *store.WriteTx, s scope.Scope, arn, id string) error {
	return cmp.Or(c.p.dies(), c.Balancer.Register(w, s, arn, id))
}

func (c crashingBalancer) Deregister(w *store.WriteTx, s scope.Scope, arn, id string) error {
	return cmp.Or(c.p.dies(), c.Balancer.Deregister(w, s, arn, id))
}

// alarm is CloudWatch's minute: it tells whether a policy was invoked.
func (p *play) alarm() bool {
	in := 0
	for m := range Members.By(p.db.Read(), "group", here.Key("g")) {
		if m.State == InService {
			in += max(1, m.Weight)
		}
	}
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
	before, stored := p.group(), Policy{}
	stored, _ = Policies.Get(p.db.Read(), here.Key("g:cpu"))
	a := Alarm{Name: "TargetTracking-g-AlarmLow-1", State: "ALARM", Value: use, HasValue: true, Threshold: p.d.target}
	if high {
		a.Name = "TargetTracking-g-AlarmHigh-1"
	}
	if _, change := p.e.judgePolicy(p.db.Read(), before, stored, a); !change {
		return false // as OnAlarm finds, without a transaction
	}
	p.must(func(tx *store.WriteTx) error { return p.e.OnAlarm(tx, stored.ARN(), a) })
	if p.group().Desired == before.Desired {
		return false
	}
	p.quiet = p.now
	return true
}
