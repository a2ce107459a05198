package simulate

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"skerry/internal/require"
	"skerry/internal/scaling"
)

func example(t *testing.T, name string, peak int) (Scenario, Result) {
	t.Helper()
	s, err := Example(name, peak, time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// The goal is a week of 1,000 instances in a second; a test may run on a slow machine, and with the race detector.
func TestAWeekOfAThousandInstances(t *testing.T) {
	var s Scenario
	var r Result
	if took := require.Spent(t, func() { s, r = example(t, "week", 1000) }); took > 10*time.Second {
		t.Errorf("it took %v of a processor", took)
	}
	if r.Steps != 7*24*60 || r.PeakInstances < 900 || r.PeakInstances > 1100 || r.Unserved != 0 {
		t.Errorf("%d steps, a peak of %d instances, %d unserved", r.Steps, r.PeakInstances, r.Unserved)
	}
	// Target tracking keeps the CPU near its target: over the week the mean instance is half busy.
	work := float64(r.Requests) * s.Service.Seconds() / float64(s.Workers) / 3600 // instance-hours at full load
	if use := work / r.InstanceHours; use < 0.35 || use > 0.55 {
		t.Errorf("the instances were busy for %.0f %% of %.0f hours", use*100, r.InstanceHours)
	}
	for _, p := range r.Points {
		if p.Desired > s.Group.Max || p.Desired < s.Group.Min || p.InService > float64(s.Group.Max)*1.1 {
			t.Fatalf("out of bounds: %+v", p)
		}
	}
}

func TestEqualScenariosGiveEqualResults(t *testing.T) {
	for _, name := range Examples {
		s, a := example(t, name, 40)
		s.MTBF, s.Seed = 5*time.Hour, 7
		b, err := Run(s)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Run(s)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(b, c) {
			t.Errorf("%s: two runs differ", name)
		}
		if reflect.DeepEqual(a, b) {
			t.Errorf("%s: failures change nothing", name)
		}
	}
}

func steady(rate float64, minutes int) Trace {
	t := Trace{Step: time.Minute}
	for range minutes {
		t.Demand = append(t.Demand, rate)
	}
	return t
}

func scenario(trace Trace, group scaling.Group, ps ...Policy) Scenario {
	return Scenario{Group: group, Zones: []string{"a", "b"}, Candidate: Candidate{Name: "c", Policies: ps}, Trace: trace, Start: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
		Service: 100 * time.Millisecond, Workers: 1, Boot: 30 * time.Second, Drain: 10 * time.Second, Patience: time.Second, Price: 1}
}

// A group without policies that stays at its size costs what its instances cost, and one that loses them gets new ones.
func TestASteadyGroup(t *testing.T) {
	s := scenario(steady(20, 600), scaling.Group{Name: "g", Min: 4, Max: 4})
	r, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	if r.InstanceHours != 40 || r.Cost != 40 || r.Requests != 20*600*60 || r.Unserved != 0 || r.Changes != 0 {
		t.Errorf("%+v", r)
	}
	s.MTBF = 10 * time.Hour
	r, err = Run(s)
	if err != nil {
		t.Fatal(err)
	}
	low, last := 4.0, r.Points[len(r.Points)-1]
	for _, p := range r.Points {
		low = min(low, p.InService)
	}
	if low >= 4 || low < 2 || r.MeanInstances < 3.9 || last.Desired != 4 {
		t.Errorf("the fewest in service were %.2f, the mean %.2f, desired %d", low, r.MeanInstances, last.Desired)
	}
}

// More than the group can serve is unserved, but for what queues within the patience.
func TestOverload(t *testing.T) {
	r, err := Run(scenario(steady(50, 60), scaling.Group{Name: "g", Min: 2, Max: 2})) // 20 a second
	if err != nil {
		t.Fatal(err)
	}
	if lost := float64(r.Unserved) / float64(r.Requests); math.Abs(lost-0.6) > 0.01 {
		t.Errorf("%.3f of the requests were unserved, not three fifths", lost)
	}
	if r.P95 < 800 || r.P95 > 1100 {
		t.Errorf("p95 is %.0f ms at a patience of a second", r.P95)
	}
}

// The waits of M/M/c systems against Erlang C.
func TestQueueAgainstErlang(t *testing.T) {
	for _, c := range []struct {
		instances int
		rho       float64
	}{{1, 0.5}, {5, 0.8}, {10, 0.8}, {50, 0.95}, {100, 0.97}} {
		q := queue{rate: 10, workers: 1, patience: 1e6}
		demand := c.rho * 10 * float64(c.instances)
		q.pass(1000, demand, c.instances)
		// Erlang C
		n, a := float64(c.instances), c.rho*float64(c.instances)
		b := 1.0
		for k := 1.0; k <= n; k++ {
			b = a * b / (k + a*b)
		}
		waits := b / (1 - c.rho*(1-b))
		decay := n * 10 * (1 - c.rho)
		want := 0.0
		if waits > 0.05 {
			want = -math.Log(0.05/waits) / decay
		}
		if got := q.waits.quantile(0.95); math.Abs(got-want) > 0.2*want+0.005 {
			t.Errorf("c = %d, load %.2f: p95 is %.4f s, by Erlang %.4f s", c.instances, c.rho, got, want)
		}
	}
}

func TestStepPolicyAndSchedule(t *testing.T) {
	group, _, err := ReadGroup([]byte(`{"AutoScalingGroups":[{"AutoScalingGroupName":"web","MinSize":2,"MaxSize":20,"DesiredCapacity":2,"DefaultCooldown":300,
		"AvailabilityZones":["us-east-1a","us-east-1b"],"DefaultInstanceWarmup":60,"Tags":[{"Key":"x"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ReadCandidate("steps", []byte(`{"ScalingPolicies":[{"PolicyName":"out","PolicyType":"StepScaling","AdjustmentType":"ChangeInCapacity",
		"StepAdjustments":[{"MetricIntervalLowerBound":0,"MetricIntervalUpperBound":20,"ScalingAdjustment":1},{"MetricIntervalLowerBound":20,"ScalingAdjustment":4}]},
		{"PolicyName":"in","AdjustmentType":"ChangeInCapacity","ScalingAdjustment":-1,"Cooldown":60}],
		"MetricAlarms":[{"AlarmName":"high","MetricName":"CPUUtilization","Threshold":60,"ComparisonOperator":"GreaterThanThreshold","Period":60,"EvaluationPeriods":1,"AlarmActions":["out"]},
		{"AlarmName":"low","MetricName":"CPUUtilization","Threshold":20,"ComparisonOperator":"LessThanThreshold","Period":300,"EvaluationPeriods":1,
		 "AlarmActions":["arn:aws:autoscaling:us-east-1:000000000000:scalingPolicy:1:autoScalingGroupName/web:policyName/in"]}],
		"ScheduledUpdateGroupActions":[{"ScheduledActionName":"noon","Recurrence":"0 12 * * *","MinSize":10}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s := scenario(steady(17, 5), group, c.Policies...) // 85 % of two
	s.Candidate = c
	s.Trace.Demand = append(s.Trace.Demand, steady(2, 13*60).Demand...)
	r, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	if d := r.Points[1].Desired; d != 6 {
		t.Errorf("after the second breach the group wants %d, not 2 and 4", d)
	}
	if d := r.Points[5*60].Desired; d != 2 {
		t.Errorf("in quiet hours it wants %d", d)
	}
	if d := r.Points[12*60+5].Desired; d != 10 {
		t.Errorf("after noon it wants %d", d)
	}
}

func TestWhatIsNotSimulatedIsRefused(t *testing.T) {
	tracking := func(tr scaling.Tracking) Policy {
		tr.Target = 50
		return Policy{Policy: scaling.Policy{Name: "p", Type: scaling.TargetTracking, Tracking: &tr}}
	}
	two := 2
	add := scaling.Policy{Name: "p", Type: scaling.SimpleScaling, AdjustmentType: scaling.ChangeInCapacity, Adjustment: &two}
	group := scaling.Group{Min: 1, Max: 2}
	bid := mixedGroup("t3.micro", 1, "t3.small", 2)
	bid.Mixed.Distribution = &scaling.Distribution{OnDemand: scaling.Prioritized, Spot: scaling.LowestPrice, MaxPrice: "0.0001"}
	unknown := mixedGroup("x99.tiny", 1, "t3.small", 2)
	for want, s := range map[string]Scenario{
		"--bytes-in":          scenario(steady(1, 5), group, tracking(scaling.Tracking{Predefined: "ASGAverageNetworkIn"})),
		"without an alarm":    scenario(steady(1, 5), group, Policy{Policy: add}),
		"AdjustmentType":      scenario(steady(1, 5), group, Policy{Policy: scaling.Policy{Name: "p", Type: scaling.StepScaling}}),
		"no demand":           scenario(Trace{Step: time.Minute}, group),
		"contradict":          scenario(steady(1, 5), scaling.Group{Min: 3, Max: 2}),
		"--metric Depth=":     scenario(steady(1, 5), group, tracking(scaling.Tracking{MetricName: "Depth", Namespace: "App", Statistic: "Average"})),
		"Sum of CPU":          scenario(steady(1, 5), group, tracking(scaling.Tracking{MetricName: "CPUUtilization", Namespace: "AWS/EC2", Statistic: "Sum"})),
		"at least one metric": scenario(steady(1, 5), group, tracking(scaling.Tracking{Queries: []byte(`[{"Id":"a","Expression":"1"}]`)})),
		"the metric Depth is": scenario(steady(1, 5), group, tracking(scaling.Tracking{Queries: []byte(`[{"Id":"a","Expression":"b*2"},{"Id":"b","ReturnData":false,"MetricStat":{"Metric":{"Namespace":"N","MetricName":"Depth"},"Stat":"Average"}}]`)})),
		"p90 is not":          scenario(steady(1, 5), group, tracking(scaling.Tracking{Queries: []byte(`[{"Id":"b","MetricStat":{"Metric":{"Namespace":"N","MetricName":"CPUUtilization"},"Stat":"p90"}}]`)})),
		"--memory-busy":       scenario(steady(1, 5), group, tracking(scaling.Tracking{MetricName: "mem_used_percent", Namespace: "CWAgent", Statistic: "Average"})),
		"predefined pair":     scenario(steady(1, 5), group, Policy{Policy: scaling.Policy{Name: "p", Type: scaling.PredictiveScaling, Predictive: &scaling.Predictive{Load: "ASGTotalCPUUtilization", Scaling: "ASGAverageNetworkIn", Target: 1}}}),
		"alarm a: the metric": scenario(steady(1, 5), group, Policy{Policy: add, Alarms: []Alarm{{Name: "a", MetricName: "Depth"}}}),
		"comparison":          scenario(steady(1, 5), group, Policy{Policy: add, Alarms: []Alarm{{Name: "a"}}}),
		"SpotMaxPrice":        scenario(steady(1, 5), bid),
		"x99.tiny":            scenario(steady(1, 5), unknown),
	} {
		if _, err := Run(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted an error with %q, got %v", want, err)
		}
	}
	for _, doc := range []string{`{"WarmPoolConfiguration":{"PoolState":"Hibernated"}}`, `{"PolicyName":"p","PolicyType":"PredictiveScaling","PredictiveScalingConfiguration":{"MetricSpecifications":[]}}`} {
		if _, err := ReadCandidate("x", []byte(doc)); err == nil {
			t.Errorf("%s is taken", doc)
		}
	}
	for _, doc := range []string{"", "{", "[]", `{"ScalingPolicies":[{"PolicyType":"StepScaling"}]}`} {
		if _, err := ReadCandidate("x", []byte(doc)); err == nil {
			t.Errorf("%q is taken for policies", doc)
		}
	}
	if _, _, err := ReadGroup([]byte(`{"AutoScalingGroups":[]}`)); err == nil {
		t.Error("no group is taken for one")
	}
}

func TestReadTrace(t *testing.T) {
	tr, start, err := ReadTrace(strings.NewReader("time,requests\n2024-05-01T10:00:00Z,600\n2024-05-01T10:05:00Z,1200\n2024-05-01T10:10:00Z,0\n"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if !start.Equal(time.Date(2024, 5, 1, 10, 0, 0, 0, time.UTC)) || len(tr.Demand) != 15 || tr.Demand[0] != 2 || tr.Demand[7] != 4 || tr.Demand[12] != 0 {
		t.Errorf("%v %v", start, tr.Demand)
	}
	tr, _, err = ReadTrace(strings.NewReader("0,90\n90,90\n"), time.Minute) // steps overlap lines
	if err != nil || len(tr.Demand) != 3 {
		t.Fatalf("%v %v", tr, err)
	}
	for _, d := range tr.Demand {
		if math.Abs(d-1) > 1e-9 {
			t.Errorf("demand %v", tr.Demand)
		}
	}
	for _, bad := range []string{"", "0,1\n", "0,1\n0,2\n", "0,1\n1,x\n", "0,1\n60,-1\n", "0,1\n60\n", "0,1\n1e18,1\n"} {
		if _, _, err := ReadTrace(strings.NewReader(bad), time.Minute); err == nil {
			t.Errorf("%q is taken for a trace", bad)
		}
	}
}

func TestPlots(t *testing.T) {
	s, r := example(t, "spike", 20)
	var svg, raster bytes.Buffer
	if err := s.SVG(&svg, []Result{r, r}); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(&svg); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PNG(&raster, []Result{r}); err != nil {
		t.Fatal(err)
	}
	if img, err := png.Decode(&raster); err != nil || img.Bounds().Dx() != plotWidth {
		t.Fatal(err)
	}
	if text := s.Text(r); strings.Count(text, "\n") != plotLines+3 || !strings.Contains(text, "●") || r.Unserved > 0 && !strings.Contains(text, "×") {
		t.Errorf("\n%s", text)
	}
}

func TestObjective(t *testing.T) {
	o := Objective{P95: 100, Unserved: 0.01}
	rs := []Result{{Cost: 5, Requests: 1000}, {Cost: 1, Requests: 1000, Unserved: 11}, {Cost: 2, Requests: 1000, Unserved: 10}, {Cost: 1, P95: 101}}
	if i := o.Cheapest(rs); i != 2 {
		t.Errorf("the cheapest is %d", i)
	}
	if i := o.Cheapest(rs[3:]); i != -1 {
		t.Errorf("none keeps it, got %d", i)
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add("time,requests\n0,1\n60,2\n")
	f.Fuzz(func(t *testing.T, s string) {
		tr, _, err := ReadTrace(strings.NewReader(s), time.Minute)
		if err == nil && len(tr.Demand) > maxSteps+1 {
			t.Errorf("%d steps", len(tr.Demand))
		}
	})
}
