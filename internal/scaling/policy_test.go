package scaling

import (
	"strings"
	"testing"
	"time"

	"skerry/internal/store"
)

func TestAdjusted(t *testing.T) {
	for _, c := range []struct {
		name            string
		base, by        int
		kind            string
		magnitude, want int
	}{
		{"change", 4, 3, ChangeInCapacity, 0, 7},
		{"change down", 4, -3, ChangeInCapacity, 0, 1},
		{"exact", 4, 9, ExactCapacity, 0, 9},
		{"percent, above one: down", 10, 25, PercentChangeInCapacity, 0, 12},
		{"percent, between zero and one: one", 4, 10, PercentChangeInCapacity, 0, 5},
		{"percent, between minus one and zero: minus one", 4, -10, PercentChangeInCapacity, 0, 3},
		{"percent, below minus one: towards zero", 10, -66, PercentChangeInCapacity, 0, 4},
		{"percent with a magnitude", 10, 10, PercentChangeInCapacity, 3, 13},
		{"percent down with a magnitude", 10, -10, PercentChangeInCapacity, 3, 7},
		{"percent of nothing", 0, 50, PercentChangeInCapacity, 0, 0},
	} {
		if got := adjusted(c.base, c.by, c.kind, c.magnitude); got != c.want {
			t.Errorf("%s: %d, wanted %d", c.name, got, c.want)
		}
	}
}

func TestPickStep(t *testing.T) {
	up := []Step{{Lower: ptr(0.0), Upper: ptr(10.0), Adjustment: 1}, {Lower: ptr(10.0), Upper: ptr(20.0), Adjustment: 2}, {Lower: ptr(20.0), Adjustment: 3}}
	down := []Step{{Lower: ptr(-10.0), Upper: ptr(0.0), Adjustment: -1}, {Upper: ptr(-10.0), Adjustment: -2}}
	for _, c := range []struct {
		steps    []Step
		distance float64
		want     int
	}{
		{up, 0, 1}, {up, 9.9, 1}, {up, 10, 2}, {up, 20, 3}, {up, 1e9, 3}, {up, -1, 0},
		{down, -5, -1}, {down, -10, -2}, {down, -11, -2}, {down, 5, 0},
	} {
		if got, _ := pickStep(c.steps, c.distance); got.Adjustment != c.want {
			t.Errorf("distance %v: step %d, wanted %d", c.distance, got.Adjustment, c.want)
		}
	}
}

func TestPolicyArithmetic(t *testing.T) {
	cap := func(desired, inService, warming int, busy bool) Capacity {
		return Capacity{Min: 1, Max: 10, Desired: desired, InService: inService, Warming: warming, Busy: busy}
	}
	stepUp := Policy{Type: StepScaling, AdjustmentType: ChangeInCapacity, Steps: []Step{{Lower: ptr(0.0), Upper: ptr(10.0), Adjustment: 1}, {Lower: ptr(10.0), Adjustment: 3}}}
	stepDown := Policy{Type: StepScaling, AdjustmentType: ChangeInCapacity, Steps: []Step{{Upper: ptr(0.0), Adjustment: -2}}}
	type result struct {
		n  int
		ok bool
	}
	of := func(n int, ok bool) result {
		if !ok {
			return result{}
		}
		return result{n, ok}
	}
	for _, c := range []struct {
		name      string
		got, want result
	}{
		{"tracking out, proportional and rounded up", of(trackOut(cap(2, 2, 0, false), 90, 50)), result{4, true}},
		{"tracking out, an exact quotient is not rounded up", of(trackOut(cap(3, 3, 0, false), 100, 50)), result{6, true}},
		{"tracking out counts warm members only", of(trackOut(cap(4, 2, 2, true), 90, 50)), result{}},
		{"tracking out again, the warm ones carry more", of(trackOut(cap(4, 2, 2, true), 130, 50)), result{6, true}},
		{"tracking out stops at max", of(trackOut(cap(8, 8, 0, false), 100, 50)), result{10, true}},
		{"tracking out with nothing warm adds one", of(trackOut(cap(1, 0, 1, true), 100, 50)), result{2, true}},
		{"tracking in rounds up", of(trackIn(cap(4, 4, 0, false), 30, 50)), result{3, true}},
		{"tracking in never more than half", of(trackIn(cap(8, 8, 0, false), 0, 50)), result{4, true}},
		{"tracking in stops at min", of(trackIn(cap(2, 2, 0, false), 0, 50)), result{1, true}},
		{"tracking in would not change anything", of(trackIn(cap(2, 2, 0, false), 40, 50)), result{}},
		{"tracking in waits for warm-up", of(trackIn(cap(4, 3, 1, false), 0, 50)), result{}},
		{"tracking in waits for launches", of(trackIn(Capacity{Min: 1, Max: 10, Desired: 4, InService: 3, Missing: 1}, 0, 50)), result{}},
		{"tracking in does not wait for terminations", of(trackIn(cap(4, 4, 0, true), 0, 50)), result{2, true}},
		{"tracking in when part of the group can't be launched", of(trackIn(Capacity{Min: 1, Max: 10, Desired: 6, InService: 4}, 40, 50)), result{4, true}},
		{"step out", of(step(cap(2, 2, 0, false), stepUp, 5)), result{3, true}},
		{"step out, a bigger breach", of(step(cap(2, 2, 0, false), stepUp, 15)), result{5, true}},
		{"step out again while the first warms up", of(step(cap(3, 2, 1, true), stepUp, 5)), result{}},
		{"step out, more, while the first warms up", of(step(cap(3, 2, 1, true), stepUp, 15)), result{5, true}},
		{"step in", of(step(cap(4, 4, 0, false), stepDown, -1)), result{2, true}},
		{"step in waits for warm-up", of(step(cap(4, 3, 1, false), stepDown, -1)), result{}},
		{"no step for it", of(step(cap(4, 4, 0, false), stepDown, 1)), result{}},
		{"simple", of(simple(cap(2, 2, 0, false), Policy{AdjustmentType: ChangeInCapacity, Adjustment: ptr(2)})), result{4, true}},
		{"simple while busy", of(simple(cap(2, 2, 0, true), Policy{AdjustmentType: ChangeInCapacity, Adjustment: ptr(2)})), result{}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, wanted %v", c.name, c.got, c.want)
		}
	}
}

func cpu50() Policy {
	return Policy{Scope: here, Group: "g", Name: "cpu50", Type: TargetTracking, Enabled: true, Warmup: ptr(60), Tracking: &Tracking{Predefined: "ASGAverageCPUUtilization", Target: 50}}
}

func (w *world) put(p Policy) Policy {
	w.t.Helper()
	w.must(func(tx *store.WriteTx) (err error) { p, err = w.e.PutPolicy(tx, p); return err })
	return p
}

func (w *world) alarm(p Policy, a Alarm) {
	w.t.Helper()
	a.State, a.HasValue = "ALARM", true
	w.must(func(tx *store.WriteTx) error { return w.e.OnAlarm(tx, p.ARN(), a) })
}

func TestTargetTrackingMakesAndActsThroughTwoAlarms(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(2, 10), 2)
	p := w.put(cpu50())
	if len(p.AlarmNames) != 2 || !strings.HasPrefix(p.AlarmNames[0], "TargetTracking-g-AlarmHigh-") || !strings.HasPrefix(p.AlarmNames[1], "TargetTracking-g-AlarmLow-") {
		t.Fatalf("alarms %v", p.AlarmNames)
	}
	high, _ := fakeAlarms.Get(w.db.Read(), here.Key(p.AlarmNames[0]))
	low, _ := fakeAlarms.Get(w.db.Read(), here.Key(p.AlarmNames[1]))
	if high.Threshold != 50 || high.Evaluations != 3 || high.Period != 60 || high.Comparison != "GreaterThanThreshold" || high.Action != p.ARN() ||
		low.Threshold != 45 || low.Evaluations != 15 || low.Comparison != "LessThanThreshold" || high.Dimensions[0] != (Dimension{"AutoScalingGroupName", "g"}) {
		t.Fatalf("high %+v\nlow %+v", high, low)
	}
	if again := w.put(cpu50()); again.AlarmNames[0] != p.AlarmNames[0] || again.UUID != p.UUID {
		t.Fatalf("a policy that is put again has other alarms: %v", again.AlarmNames)
	}
	w.run(90 * time.Second)
	w.alarm(p, Alarm{Name: p.AlarmNames[0], Value: 75, Threshold: 50})
	w.run(2 * time.Second)
	if w.group().Desired != 3 || len(w.in(InService)) != 3 {
		t.Fatalf("desired %d", w.group().Desired)
	}
	a := w.history()[0]
	want := "a monitor alarm " + p.AlarmNames[0] + " in state ALARM triggered policy cpu50 changing the desired capacity from 2 to 3.  At "
	if !strings.Contains(a.Cause, want) || !strings.Contains(a.Details, `"InvokingAlarms":[{"AlarmArn"`) {
		t.Errorf("activity %+v", a)
	}
	w.alarm(p, Alarm{Name: p.AlarmNames[0], Value: 75, Threshold: 50}) // a minute later, the third still warms up
	if w.group().Desired != 3 {
		t.Fatalf("the same load grew the group twice: %d", w.group().Desired)
	}
	w.alarm(p, Alarm{Name: p.AlarmNames[1], Value: 5, Threshold: 45})
	if w.group().Desired != 3 {
		t.Fatal("it shrank while a member warmed up")
	}
	w.run(60 * time.Second)
	w.alarm(p, Alarm{Name: p.AlarmNames[1], Value: 5, Threshold: 45})
	w.run(3 * time.Second)
	if w.group().Desired != 2 || len(w.members()) != 2 {
		t.Fatalf("desired %d, members %+v", w.group().Desired, w.members())
	}
	w.must(func(tx *store.WriteTx) error { return w.e.DeletePolicy(tx, here, "g", "cpu50") })
	for a := range fakeAlarms.All(w.db.Read()) {
		t.Errorf("alarm %s is left over", a.Name)
	}
}

func TestScaleInNeedsEveryTrackingPolicy(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 4)
	p := w.put(cpu50())
	o := cpu50()
	o.Name, o.Tracking = "net", &Tracking{Predefined: "ASGAverageNetworkIn", Target: 1e6}
	o = w.put(o)
	w.run(90 * time.Second)
	w.alarm(p, Alarm{Name: p.AlarmNames[1], Value: 0})
	if w.group().Desired != 4 {
		t.Fatal("one policy alone shrank the group")
	}
	w.must(func(tx *store.WriteTx) error {
		a, _ := fakeAlarms.Get(tx, here.Key(o.AlarmNames[1]))
		a.State = "ALARM"
		fakeAlarms.Put(tx, a)
		return nil
	})
	w.alarm(p, Alarm{Name: p.AlarmNames[1], Value: 0})
	if w.group().Desired != 2 {
		t.Fatalf("desired %d", w.group().Desired)
	}
}

func TestSimplePolicyCoolsDown(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 1)
	w.run(2 * time.Second)
	p := w.put(Policy{Scope: here, Group: "g", Name: "up", Type: SimpleScaling, Enabled: true, AdjustmentType: ChangeInCapacity, Adjustment: ptr(1), Cooldown: ptr(60)})
	w.alarm(p, Alarm{Name: "a", Value: 1})
	w.alarm(p, Alarm{Name: "a", Value: 1})
	w.run(30 * time.Second)
	w.alarm(p, Alarm{Name: "a", Value: 1})
	if w.group().Desired != 2 {
		t.Fatalf("within the cooldown desired is %d", w.group().Desired)
	}
	err := w.db.Update(func(tx *store.WriteTx) error { return w.e.SetDesired(tx, here, "g", 5, true) })
	wantError(t, err, "ScalingActivityInProgress", "is in progress and blocks this request")
	w.run(35 * time.Second)
	w.alarm(p, Alarm{Name: "a", Value: 1})
	if w.group().Desired != 3 {
		t.Fatalf("after the cooldown desired is %d", w.group().Desired)
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 1)
	for _, c := range []struct {
		part string
		p    Policy
	}{
		{"ScalingAdjustment must be specified", Policy{Type: SimpleScaling, AdjustmentType: ChangeInCapacity}},
		{"AdjustmentType must be specified", Policy{Type: SimpleScaling, Adjustment: ptr(1)}},
		{"StepAdjustments must be specified", Policy{Type: StepScaling, AdjustmentType: ChangeInCapacity}},
		{"can't overlap", Policy{Type: StepScaling, AdjustmentType: ChangeInCapacity, Steps: []Step{{Lower: ptr(0.0), Upper: ptr(10.0)}, {Lower: ptr(5.0)}}}},
		{"can't be a gap", Policy{Type: StepScaling, AdjustmentType: ChangeInCapacity, Steps: []Step{{Lower: ptr(0.0), Upper: ptr(10.0)}, {Lower: ptr(15.0)}}}},
		{"no upper bound", Policy{Type: StepScaling, AdjustmentType: ChangeInCapacity, Steps: []Step{{Lower: ptr(0.0), Upper: ptr(10.0)}}}},
		{"TargetValue must be greater", Policy{Type: TargetTracking, Tracking: &Tracking{Predefined: "ASGAverageCPUUtilization"}}},
		{"Invalid PredefinedMetricType", Policy{Type: TargetTracking, Tracking: &Tracking{Predefined: "Nothing", Target: 1}}},
		{"Invalid ResourceLabel", Policy{Type: TargetTracking, Tracking: &Tracking{Predefined: "ALBRequestCountPerTarget", Target: 1, ResourceLabel: "x"}}},
		{"is not attached", Policy{Type: TargetTracking, Tracking: &Tracking{Predefined: "ALBRequestCountPerTarget", Target: 1, ResourceLabel: "app/l/1/targetgroup/t/2"}}},
		{"PredictiveScalingConfiguration must be specified", Policy{Type: "PredictiveScaling"}},
		{"Invalid PolicyType", Policy{Type: "x"}},
	} {
		c.p.Scope, c.p.Group, c.p.Name = here, "g", "p"
		err := w.db.Update(func(tx *store.WriteTx) error { _, err := w.e.PutPolicy(tx, c.p); return err })
		wantError(t, err, "ValidationError", c.part)
	}
}

func TestACooldownOfZeroIsNone(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 1)
	for _, p := range []Policy{
		{Type: StepScaling, AdjustmentType: ChangeInCapacity, Steps: []Step{{Lower: ptr(0.0), Adjustment: 2}}},
		{Type: TargetTracking, Tracking: &Tracking{Predefined: "ASGAverageCPUUtilization", Target: 50}},
	} {
		p.Scope, p.Group, p.Name, p.Cooldown = here, "g", p.Type, ptr(0)
		if got := w.put(p); got.Cooldown != nil {
			t.Errorf("%s keeps a cooldown of %d", p.Type, *got.Cooldown)
		}
		p.Cooldown = ptr(60)
		err := w.db.Update(func(tx *store.WriteTx) error { _, err := w.e.PutPolicy(tx, p); return err })
		wantError(t, err, "ValidationError", "Cooldown")
	}
}

func TestExecutePolicy(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 10), 1)
	w.run(2 * time.Second)
	p := w.put(Policy{Scope: here, Group: "g", Name: "step", Type: StepScaling, Enabled: true, Warmup: ptr(0), AdjustmentType: ChangeInCapacity, Steps: []Step{{Lower: ptr(0.0), Adjustment: 2}}})
	exec := func(value, threshold *float64) error {
		return w.db.Update(func(tx *store.WriteTx) error { return w.e.Execute(tx, here, "", p.ARN(), false, value, threshold) })
	}
	wantError(t, exec(nil, nil), "ValidationError", "MetricValue and BreachThreshold must be given")
	if err := exec(ptr(60.0), ptr(50.0)); err != nil {
		t.Fatal(err)
	}
	w.run(2 * time.Second)
	if w.group().Desired != 3 || !strings.Contains(w.history()[0].Cause, "a user request executed policy step changing the desired capacity from 1 to 3.") {
		t.Fatalf("desired %d, %+v", w.group().Desired, w.history()[0])
	}
}

func TestWarmMembersCountInMetrics(t *testing.T) {
	for _, p := range []Policy{cpu50(), {Scope: here, Group: "g", Name: "step", Type: StepScaling, Enabled: true, AdjustmentType: ChangeInCapacity, Warmup: ptr(60), Steps: []Step{{Lower: ptr(0.0), Adjustment: 1}}}} {
		w := newWorld(t, 1)
		w.create(settings(1, 10), 1)
		w.put(p)
		w.run(2 * time.Second)
		id := w.members()[0].ID
		if w.e.Warm(w.db.Read(), here, id) {
			t.Errorf("%s: a member that warms up counts", p.Name)
		}
		w.run(60 * time.Second)
		if !w.e.Warm(w.db.Read(), here, id) {
			t.Errorf("%s: a warm member does not count", p.Name)
		}
	}
}

// TestSimultaneousScaleIn: of policies that scale in at once, whatever their order, the one that leaves the most has its way.
func TestSimultaneousScaleIn(t *testing.T) {
	e := &Engine{}
	now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	by := func(name string, n int) Policy {
		return Policy{Name: name, Type: StepScaling, AdjustmentType: ChangeInCapacity, Steps: []Step{{Upper: ptr(0.0), Adjustment: n}}}
	}
	one, three := by("one", -1), by("three", -3)
	half := Policy{Name: "half", Type: TargetTracking, Tracking: &Tracking{Target: 50}}
	for _, c := range []struct {
		order []Policy
		apart time.Duration
		want  int
	}{
		{[]Policy{one, three}, time.Second, 7}, {[]Policy{three, one}, time.Second, 7}, {[]Policy{three, one, three}, time.Second, 7},
		{[]Policy{three, one}, time.Minute, 4}, {[]Policy{three, three}, time.Minute, 2},
		{[]Policy{half, one}, time.Second, 7}, {[]Policy{one, half}, time.Second, 7}, {[]Policy{half, three}, time.Second, 5},
	} {
		g, at := Group{Desired: 8}, now
		for _, p := range c.order {
			if n, change := Propose(g, p, Capacity{Min: 1, Max: 10, Desired: g.Desired, InService: g.Desired}, Alarm{Value: 20, HasValue: true, Threshold: 45}, at, func() (int, bool) { return 0, true }); change {
				g = e.Follow(g, p, n, at)
			}
			at = at.Add(c.apart)
		}
		if g.Desired != c.want {
			t.Errorf("%s and so on, %v apart: %d, not %d", c.order[0].Name, c.apart, g.Desired, c.want)
		}
	}
}

// TestStepAggregation: a step policy looks at its aggregation of the periods that the alarm judged.
func TestStepAggregation(t *testing.T) {
	p := Policy{Type: StepScaling, AdjustmentType: ChangeInCapacity, Steps: []Step{{Lower: ptr(0.0), Upper: ptr(10.0), Adjustment: 1}, {Lower: ptr(10.0), Upper: ptr(20.0), Adjustment: 2}, {Lower: ptr(20.0), Adjustment: 3}}}
	a := Alarm{Value: 61, HasValue: true, Threshold: 50, Recent: Recent{N: 3, Average: 72, Minimum: 55, Maximum: 65}}
	for aggregation, want := range map[string]int{"": 7, "Average": 7, "Minimum": 5, "Maximum": 6} {
		p.Aggregation = aggregation
		if n, _ := Propose(Group{Desired: 4}, p, Capacity{Max: 10, Desired: 4, InService: 4}, a, time.Time{}, nil); n != want {
			t.Errorf("%s: %d, not %d", aggregation, n, want)
		}
	}
	a.Recent = Recent{}
	if n, _ := Propose(Group{Desired: 4}, p, Capacity{Max: 10, Desired: 4, InService: 4}, a, time.Time{}, nil); n != 6 {
		t.Errorf("the newest value alone: %d", n)
	}
}
