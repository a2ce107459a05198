package live

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"skerry/internal/metric"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
)

var here = scope.Scope{Account: "000000000000", Region: "eu-west-1"}

// bench is a group of members that are in service, with real alarms over a real store of metrics.
type bench struct {
	t         *testing.T
	now       time.Time
	db        *store.DB
	metrics   *metric.Store
	engine    *scaling.Engine
	evaluator *metric.Evaluator
}

func newBench(t *testing.T, members int) *bench {
	t.Parallel()
	b := &bench{t: t, now: time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return b.now }
	var err error
	if b.db, err = store.Open("", store.Options{Clock: clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.db.Close() })
	if b.metrics, err = metric.Open("", metric.Options{Clock: clock}); err != nil {
		t.Fatal(err)
	}
	b.engine = &scaling.Engine{Compute: Compute{}, Balancer: Balancer{}, Alarms: Alarms{}, Metrics: Metrics{b.metrics}}
	b.evaluator = &metric.Evaluator{DB: b.db, Store: b.metrics, Clock: clock, OnAction: OnAction(b.engine)}
	b.do(func(w *store.WriteTx) error {
		scaling.Groups.Put(w, scaling.Group{Scope: here, Name: "web", Min: 1, Max: 20, Desired: members, DefaultCooldown: 300,
			Attachments: []scaling.Attachment{{ARN: "arn:aws:elasticloadbalancing:eu-west-1:000000000000:targetgroup/t/2", State: "InService"}}})
		for i := range members {
			scaling.Members.Put(w, scaling.Member{Scope: here, ID: fmt.Sprintf("i-%d", i), Group: "web", State: scaling.InService, Health: scaling.Healthy, InServiceAt: b.now.Add(-time.Hour)})
		}
		return nil
	})
	return b
}

func (b *bench) do(fn func(w *store.WriteTx) error) {
	b.t.Helper()
	if err := b.db.Update(fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) policy(p scaling.Policy) {
	b.t.Helper()
	p.Scope, p.Group, p.Enabled = here, "web", true
	b.do(func(w *store.WriteTx) error { _, err := b.engine.PutPolicy(w, p); return err })
}

func (b *bench) desired() int {
	g, _ := scaling.Groups.Get(b.db.Read(), here.Key("web"))
	return g.Desired
}

// run lets minutes pass, with data that publish makes of each.
func (b *bench) run(minutes int, data ...metric.Datum) {
	b.t.Helper()
	for range minutes {
		for i := range data {
			data[i].Timestamp = b.now
		}
		if err := b.metrics.Put(here, data); err != nil {
			b.t.Fatal(err)
		}
		b.now = b.now.Add(time.Minute)
		b.evaluator.Step()
	}
	b.now = b.now.Add(time.Second) // the data of the last minute are in
	b.evaluator.Step()
	b.now = b.now.Add(59 * time.Second)
}

// TestTargetTrackingOfEveryMetric: from data, through alarms, to the desired capacity.
func TestTargetTrackingOfEveryMetric(t *testing.T) {
	group := map[string]string{"AutoScalingGroupName": "web"}
	queue := map[string]string{"QueueName": "jobs"}
	const backlog = `[{"Id":"backlog","Expression":"FILL(depth, 0) / IF(size > 0, size, 1)"},
		{"Id":"depth","MetricStat":{"Metric":{"Namespace":"AWS/SQS","MetricName":"Depth","Dimensions":[{"Name":"QueueName","Value":"jobs"}]},"Stat":"Sum"},"ReturnData":false},
		{"Id":"size","MetricStat":{"Metric":{"Namespace":"AWS/AutoScaling","MetricName":"GroupInServiceInstances","Dimensions":[{"Name":"AutoScalingGroupName","Value":"web"}]},"Stat":"Average"},"ReturnData":false}]`
	const latency = `[{"Id":"slow","MetricStat":{"Metric":{"Namespace":"App","MetricName":"Latency"},"Stat":"p90"}}]`
	size := metric.Datum{Namespace: "AWS/AutoScaling", Name: "GroupInServiceInstances", Dimensions: group, Value: 4}
	for name, c := range map[string]struct {
		tracking scaling.Tracking
		data     func(load float64) []metric.Datum // at the load of the target 1
	}{
		"processors": {scaling.Tracking{Predefined: "ASGAverageCPUUtilization", Target: 40}, func(l float64) []metric.Datum {
			return []metric.Datum{{Namespace: "AWS/EC2", Name: "CPUUtilization", Dimensions: group, Value: 40 * l}}
		}},
		"bytes in": {scaling.Tracking{Predefined: "ASGAverageNetworkIn", Target: 1e6}, func(l float64) []metric.Datum {
			return []metric.Datum{{Namespace: "AWS/EC2", Name: "NetworkIn", Dimensions: group, Value: 1e6 * l}}
		}},
		"bytes out": {scaling.Tracking{Predefined: "ASGAverageNetworkOut", Target: 1e6}, func(l float64) []metric.Datum {
			return []metric.Datum{{Namespace: "AWS/EC2", Name: "NetworkOut", Dimensions: group, Value: 1e6 * l}}
		}},
		"requests": {scaling.Tracking{Predefined: "ALBRequestCountPerTarget", ResourceLabel: "app/l/1/targetgroup/t/2", Target: 100}, func(l float64) []metric.Datum {
			return []metric.Datum{{Namespace: "AWS/ApplicationELB", Name: "RequestCountPerTarget", Dimensions: map[string]string{"LoadBalancer": "app/l/1", "TargetGroup": "targetgroup/t/2"}, Value: 100 * l}}
		}},
		"one's own": {scaling.Tracking{Namespace: "App", MetricName: "Load", Statistic: "Average", Target: 10}, func(l float64) []metric.Datum { return []metric.Datum{{Namespace: "App", Name: "Load", Value: 10 * l}} }},
		"a percentile": {scaling.Tracking{Queries: []byte(latency), Target: 2}, func(l float64) []metric.Datum {
			return []metric.Datum{{Namespace: "App", Name: "Latency", Value: 2 * l}}
		}},
		"metric math": {scaling.Tracking{Queries: []byte(backlog), Target: 25}, func(l float64) []metric.Datum {
			return []metric.Datum{{Namespace: "AWS/SQS", Name: "Depth", Dimensions: queue, Value: 100 * l}, size}
		}},
	} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, held %v", name, held), func(t *testing.T) {
				b := newBench(t, 4)
				tracking := c.tracking
				tracking.DisableScaleIn = held
				b.policy(scaling.Policy{Name: "track", Type: scaling.TargetTracking, Tracking: &tracking, Warmup: new(int)})
				b.run(3, c.data(1)...)
				if n := b.desired(); n != 4 {
					t.Fatalf("at its target it has %d", n)
				}
				b.run(15, c.data(0.7)...)
				want := 3
				if held {
					want = 4
				}
				if n := b.desired(); n != want {
					t.Fatalf("after a quiet time it has %d, not %d", n, want)
				}
				b.do(func(w *store.WriteTx) error { // as if nothing had been
					g, _ := scaling.Groups.Get(w, here.Key("web"))
					g.Desired = 4
					scaling.Groups.Put(w, g)
					return nil
				})
				b.run(3, c.data(1.6)...)
				if n := b.desired(); n != 7 { // 4 × 1.6, rounded up
					t.Fatalf("under load it has %d, not 7", n)
				}
			})
		}
	}
}

// TestSeveralPoliciesAtOnce: a group grows if any policy says so, to the most of them, and shrinks if all of them agree.
func TestSeveralPoliciesAtOnce(t *testing.T) {
	b := newBench(t, 4)
	own := func(name string) scaling.Policy {
		return scaling.Policy{Name: name, Type: scaling.TargetTracking, Warmup: new(int), Tracking: &scaling.Tracking{Namespace: "App", MetricName: name, Statistic: "Average", Target: 10}}
	}
	datum := func(name string, v float64) metric.Datum {
		return metric.Datum{Namespace: "App", Name: name, Value: v}
	}
	b.policy(own("a"))
	b.policy(own("b"))
	b.run(16, datum("a", 1), datum("b", 10))
	if n := b.desired(); n != 4 {
		t.Fatalf("one policy alone shrank it to %d", n)
	}
	b.run(3, datum("a", 15), datum("b", 20))
	if n := b.desired(); n != 8 {
		t.Fatalf("the larger of 6 and 8 is %d", n)
	}
	b.run(1, datum("a", 10), datum("b", 10))
	b.do(func(w *store.WriteTx) error {
		g, _ := scaling.Groups.Get(w, here.Key("web"))
		g.Desired = 4
		scaling.Groups.Put(w, g)
		return nil
	})
	b.run(17, datum("a", 1), datum("b", 8.5)) // low, and yet four are what it needs
	b.run(1, datum("a", 10), datum("b", 10))
	b.run(17, datum("a", 8.5), datum("b", 1))
	if n := b.desired(); n != 4 {
		t.Fatalf("one that has just enough is brought to %d by the other", n)
	}
	b.run(3, datum("a", 1), datum("b", 7))
	if n := b.desired(); n != 3 {
		t.Fatalf("when both agree it has %d", n)
	}
}

// TestPoliciesActInAnyState: a policy may be an action for OK too, as often as the alarm is looked at, and SetAlarmState gives
// policies the metric's values by its reason's data.
func TestPoliciesActInAnyState(t *testing.T) {
	b := newBench(t, 4)
	one := 1
	b.policy(scaling.Policy{Name: "out", Type: scaling.StepScaling, AdjustmentType: scaling.ChangeInCapacity, Steps: []scaling.Step{{Lower: new(float64), Adjustment: 3}}})
	b.policy(scaling.Policy{Name: "in", Type: scaling.StepScaling, AdjustmentType: scaling.ChangeInCapacity, Steps: []scaling.Step{{Upper: new(float64), Adjustment: -one}}})
	arn := func(name string) string {
		p, err := scaling.FindPolicy(b.db.Read(), here, "web", name)
		if err != nil {
			t.Fatal(err)
		}
		return p.ARN()
	}
	b.do(func(w *store.WriteTx) error {
		_, err := metric.PutAlarm(w, metric.Alarm{Scope: here, Name: "load", Namespace: "App", MetricName: "Load", Statistic: "Average", Period: 60, EvaluationPeriods: 2, Threshold: 50,
			Comparison: "GreaterThanThreshold", ActionsEnabled: true, AlarmActions: []string{arn("out")}, OKActions: []string{arn("in")}}, nil)
		return err
	})
	if l := (Alarms{}).ByAction(b.db.Read(), here, arn("in")); len(l) != 1 || l[0] != "load" {
		t.Errorf("the policy's alarms are %v", l)
	}
	b.run(1, metric.Datum{Namespace: "App", Name: "Load", Value: 10})
	if n := b.desired(); n != 3 {
		t.Fatalf("at the alarm's OK %d are wanted", n)
	}
	b.do(func(w *store.WriteTx) error { // its members have gone
		scaling.Members.Delete(w, here.Key("i-3"))
		return nil
	})
	b.run(1, metric.Datum{Namespace: "App", Name: "Load", Value: 10})
	if n := b.desired(); n != 1 {
		t.Errorf("two looks later %d are wanted", n)
	}
	set := func(state, data string) {
		b.do(func(w *store.WriteTx) error { return b.evaluator.SetState(w, here, "load", state, "by hand", data) })
	}
	set(metric.StateAlarm, "")
	if n := b.desired(); n != 1 {
		t.Errorf("without a value of the metric %d are wanted", n)
	}
	set(metric.StateAlarm, `{"version":"1.0","recentDatapoints":[1,60,70]}`)
	if n := b.desired(); n != 4 {
		t.Errorf("with values beyond the threshold %d are wanted", n)
	}
	g, _ := scaling.Groups.Get(b.db.Read(), here.Key("web"))
	if why := strings.Join(g.Reasons, " "); !strings.Contains(why, "alarm load in state OK triggered policy in changing the desired capacity from 2 to 1.") {
		t.Errorf("%q", g.Reasons)
	}
}
