package simulate

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"skerry/internal/compute"
	"skerry/internal/scaling"
)

// mixedGroup is one of two instance types, with their weights.
func mixedGroup(a string, wa int, b string, wb int) scaling.Group {
	return scaling.Group{Name: "g", Min: 8, Max: 80, Desired: 8, Mixed: &scaling.Mixed{Overrides: []scaling.Override{{InstanceType: a, Weight: wa}, {InstanceType: b, Weight: wb}}}}
}

func tracks(metric string, target float64) Policy {
	t := &scaling.Tracking{Predefined: metric, Target: target}
	if metric == "ALBRequestCountPerTarget" {
		t.ResourceLabel = simulatedLabel
	}
	return Policy{Policy: scaling.Policy{Name: metric, Type: scaling.TargetTracking, Enabled: true, Tracking: t}}
}

func mustRun(t *testing.T, s Scenario) Result {
	t.Helper()
	r, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func last(r Result) Point { return r.Points[len(r.Points)-1] }

// 40 requests a second of 30,000 bytes in and 10,000 out are 72 MB and 24 MB a minute.
func TestNetworkMetrics(t *testing.T) {
	for metric, target := range map[string]float64{"ASGAverageNetworkIn": 6e6, "ASGAverageNetworkOut": 2e6, "ALBRequestCountPerTarget": 200} {
		s := scenario(steady(40, 60), scaling.Group{Name: "g", Min: 4, Max: 50, Desired: 4}, tracks(metric, target))
		s.BytesIn, s.BytesOut, s.Workers = 30000, 10000, 4
		if d := last(mustRun(t, s)).Desired; d != 12 {
			t.Errorf("%s: a target that 12 instances keep is kept by %d", metric, d)
		}
	}
}

// A customized metric is what the scenario says it is.
func TestCustomizedMetric(t *testing.T) {
	p := Policy{Policy: scaling.Policy{Name: "p", Type: scaling.TargetTracking, Tracking: &scaling.Tracking{MetricName: "Load", Namespace: "App", Statistic: "Average", Target: 50}}}
	s := scenario(steady(60, 60), scaling.Group{Name: "g", Min: 2, Max: 50, Desired: 2}, p)
	s.Metrics = map[string]Metric{"Load": Utilisation}
	if d := last(mustRun(t, s)).Desired; d != 12 {
		t.Errorf("60 requests a second of a tenth of a second are kept at 50 %% by %d instances", d)
	}
}

// Metric math is computed over the series of the simulation, in target tracking as the API's documents have it.
func TestMetricMath(t *testing.T) {
	for name, c := range map[string]struct {
		doc  string
		want int
	}{
		"requests per instance": {`{"PolicyName":"p","PolicyType":"TargetTrackingScaling","TargetTrackingConfiguration":{"TargetValue":300,"CustomizedMetricSpecification":{"Metrics":[
			{"Id":"each","Expression":"requests / size","ReturnData":true},
			{"Id":"requests","MetricStat":{"Metric":{"Namespace":"AWS/ApplicationELB","MetricName":"RequestCount","Dimensions":[{"Name":"LoadBalancer","Value":"app/l/1"}]},"Stat":"Sum"},"ReturnData":false},
			{"Id":"size","MetricStat":{"Metric":{"Namespace":"AWS/AutoScaling","MetricName":"GroupInServiceInstances"},"Stat":"Average"},"ReturnData":false}]}}}`, 12},
		"one metric": {`{"PolicyName":"p","PolicyType":"TargetTrackingScaling","TargetTrackingConfiguration":{"TargetValue":50,"CustomizedMetricSpecification":{"Metrics":[
			{"Id":"m","MetricStat":{"Metric":{"Namespace":"AWS/EC2","MetricName":"CPUUtilization"},"Stat":"Average"}}]}}}`, 12},
		"memory": {`{"PolicyName":"p","PolicyType":"TargetTrackingScaling","TargetTrackingConfiguration":{"TargetValue":56,"CustomizedMetricSpecification":{"Namespace":"CWAgent","MetricName":"mem_used_percent","Statistic":"Average"}}}`, 13},
		"an alarm": {`{"ScalingPolicies":[{"PolicyName":"p","PolicyType":"StepScaling","AdjustmentType":"ExactCapacity","MetricAggregationType":"Maximum","StepAdjustments":[{"MetricIntervalLowerBound":0,"ScalingAdjustment":7}]}],
			"MetricAlarms":[{"AlarmName":"a","Threshold":2,"ComparisonOperator":"GreaterThanThreshold","EvaluationPeriods":2,"AlarmActions":["p"],"Metrics":[
			{"Id":"growth","Expression":"RATE(m)*60+DATAPOINT_COUNT(m)","ReturnData":true},
			{"Id":"m","MetricStat":{"Metric":{"Namespace":"AWS/EC2","MetricName":"CPUUtilization"},"Stat":"Average","Period":120},"ReturnData":false}]}]}`, 7},
	} {
		candidate, err := ReadCandidate("c", []byte(c.doc))
		if err != nil {
			t.Fatal(name, err)
		}
		s := scenario(steady(60, 60), scaling.Group{Name: "g", Min: 4, Max: 50, Desired: 4})
		s.Candidate, s.MemIdle, s.MemBusy = candidate, 10, 100
		r := mustRun(t, s)
		if d := last(r).Desired; d != c.want {
			t.Errorf("%s: %d are wanted, not %d", name, d, c.want)
		}
		if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "begins with a desired capacity of 4") {
			t.Errorf("%s: nothing is said of a beginning that is too small: %q", name, r.Notes)
		}
	}
}

// A load balancer publishes no requests per target where there are none, so that a group that follows them stays as it is; one that
// follows the processors shrinks.
func TestNoRequestsAreNoData(t *testing.T) {
	for metric, want := range map[string]int{"ALBRequestCountPerTarget": 9, "ASGAverageCPUUtilization": 2} {
		s := scenario(steady(0, 120), scaling.Group{Name: "g", Min: 2, Max: 50, Desired: 9}, tracks(metric, 50))
		if d := last(mustRun(t, s)).Desired; d != want {
			t.Errorf("%s: %d are wanted, not %d", metric, d, want)
		}
	}
}

// A second policy with a target that is much easier to keep never takes capacity that the first one needs.
func TestTheLargerOfTwoPolicies(t *testing.T) {
	trace := Trace{Step: time.Minute}
	for m := range 12 * 60 {
		trace.Demand = append(trace.Demand, 60+50*math.Sin(float64(m)/60))
	}
	s := scenario(trace, scaling.Group{Name: "g", Min: 2, Max: 50, Desired: 16}, tracks("ASGAverageCPUUtilization", 50))
	want := mustRun(t, s)
	s.Candidate.Policies = append(s.Candidate.Policies, tracks("ALBRequestCountPerTarget", 5000))
	for range 2 {
		for i, p := range mustRun(t, s).Points {
			if p.Desired < want.Points[i].Desired {
				t.Fatalf("in minute %d the two want %d, the stricter alone %d", i, p.Desired, want.Points[i].Desired)
			}
		}
		s.Candidate.Policies[0], s.Candidate.Policies[1] = s.Candidate.Policies[1], s.Candidate.Policies[0]
	}
}

// The Sum of requests in five minutes is five times that in one.
func TestStatisticsOfAlarms(t *testing.T) {
	group, _, err := ReadGroup([]byte(`{"AutoScalingGroupName":"g","MinSize":2,"MaxSize":9}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		statistic string
		threshold float64
		want      int
	}{{"Sum", 2500, 3}, {"Sum", 3500, 2}, {"Maximum", 610, 3}, {"Average", 610, 2}} {
		doc := fmt.Sprintf(`{"ScalingPolicies":[{"PolicyName":"out","PolicyType":"SimpleScaling","AdjustmentType":"ExactCapacity","ScalingAdjustment":3}],
			"MetricAlarms":[{"AlarmName":"a","MetricName":"RequestCountPerTarget","Statistic":%q,"Threshold":%v,"ComparisonOperator":"GreaterThanThreshold","Period":300,"EvaluationPeriods":1,"AlarmActions":["out"]}]}`, c.statistic, c.threshold)
		candidate, err := ReadCandidate("c", []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		trace := steady(20, 5) // 600 a minute and target
		trace.Demand[2] = 21
		trace.Demand = append(trace.Demand, steady(0, 1).Demand...)
		s := scenario(trace, group)
		s.Candidate = candidate
		s.Workers = 4
		if d := last(mustRun(t, s)).Desired; d != c.want {
			t.Errorf("%s over %v: %d wanted, not %d", c.statistic, c.threshold, d, c.want)
		}
	}
}

// Weights are what instances serve and what is counted; the catalogue's prices are paid, a share of them as spot.
func TestWeightsAndSpot(t *testing.T) {
	group := mixedGroup("c5.large", 2, "c5.xlarge", 4)
	s := scenario(steady(40, 240), group)
	r := mustRun(t, s)
	if p := last(r); p.InService != 4 || p.Capacity != 8 || p.Utilisation != 50 {
		t.Errorf("8 units of the first type are %v instances with %v units, %v %% busy", p.InService, p.Capacity, p.Utilisation)
	}
	typ, _ := compute.TypeByName("c5.large")
	if want := 4 * 4 * typ.Price(); math.Abs(r.Cost-want) > 0.006 {
		t.Errorf("four hours of four instances cost %v, not %v", r.Cost, want)
	}
	s.Group.Mixed.Distribution = &scaling.Distribution{OnDemand: scaling.Prioritized, Base: 2, Percent: 0, Spot: scaling.LowestPrice, Pools: 1}
	spot := mustRun(t, s)
	if spot.Cost > 0.7*r.Cost || spot.Cost < 0.4*r.Cost {
		t.Errorf("three of four instances as spot cost %v, all on demand %v", spot.Cost, r.Cost)
	}
	s.Candidate.Policies = []Policy{tracks("ASGAverageCPUUtilization", 50)}
	s.Trace = steady(100, 120)
	if p := last(mustRun(t, s)); p.Desired != 20 || p.Capacity < 20 || p.Capacity > 23 {
		t.Errorf("100 requests a second are kept at 50 %% by %d units, %v in service", p.Desired, p.Capacity)
	}
	s.Group.DesiredCapacityType = "vcpu"
	s.Group.Mixed.Overrides = []scaling.Override{{Requirements: []byte(`{"VCpuCount":{"Min":2,"Max":4},"MemoryMiB":{"Min":4096},"AllowedInstanceTypes":["c5.large","c5.xlarge"]}`)}}
	s.Group.Mixed.Distribution = &scaling.Distribution{OnDemand: scaling.LowestPrice, Percent: 100, Spot: scaling.LowestPrice, Pools: 2}
	if p := last(mustRun(t, s)); p.Desired != 20 || p.Capacity < 20 || p.InService > 10 {
		t.Errorf("in vCPUs: %d wanted, %v in service on %v instances", p.Desired, p.Capacity, p.InService)
	}
}

// A warm pool costs nothing while it is stopped, and is quicker than a boot.
func TestWarmPool(t *testing.T) {
	trace := steady(10, 60)
	trace.Demand = append(trace.Demand, steady(90, 60).Demand...)
	trace.Demand = append(trace.Demand, steady(10, 120).Demand...)
	s := scenario(trace, scaling.Group{Name: "g", Min: 2, Max: 20, Desired: 2}, tracks("ASGAverageCPUUtilization", 50))
	s.Boot, s.WarmBoot = 5*time.Minute, 10*time.Second
	cold := mustRun(t, s)
	played := map[string]Result{}
	for _, c := range []scaling.WarmPool{{State: "Stopped"}, {State: "Running"}, {State: "Stopped", Reuse: true}} {
		s.Candidate.Warm = &c
		r := mustRun(t, s)
		if p := r.Points[30]; p.Warm != 18 || p.Desired != 2 {
			t.Errorf("%+v: in quiet hours %d are in the pool, and the group wants %d", c, p.Warm, p.Desired)
		}
		if p := last(r); p.Warm+p.Desired != 20 || p.Pending+p.Terminating != 0 {
			t.Errorf("%+v: at last %d are in the pool and %d in the group: %+v", c, p.Warm, p.Desired, p)
		}
		if r.Unserved >= cold.Unserved {
			t.Errorf("%+v: %d requests are unserved, %d without a pool", c, r.Unserved, cold.Unserved)
		}
		played[fmt.Sprint(c.State, c.Reuse)] = r
	}
	stopped, running, reused := played["Stoppedfalse"], played["Runningfalse"], played["Stoppedtrue"]
	if stopped.Cost > cold.Cost*1.5 || running.Cost < 1.5*stopped.Cost || reused.Cost >= stopped.Cost {
		t.Errorf("without a pool it costs %v, with a stopped one %v, with a running one %v, with one that takes instances back %v", cold.Cost, stopped.Cost, running.Cost, reused.Cost)
	}
	// The pool of the group itself, as describe-auto-scaling-groups prints it.
	group, _, err := ReadGroup([]byte(`{"AutoScalingGroupName":"g","MinSize":2,"MaxSize":20,"WarmPoolConfiguration":{"MinSize":3,"MaxGroupPreparedCapacity":4,"PoolState":"Stopped","InstanceReusePolicy":{"ReuseOnScaleIn":true}}}`))
	if err != nil || group.Warm == nil || group.WarmSize() != 3 || !group.Warm.Reuse {
		t.Errorf("%+v %v", group.Warm, err)
	}
}

func predictivePolicy(t *testing.T, mode, more string) Policy {
	t.Helper()
	c, err := ReadCandidate("c", []byte(`{"PolicyName":"ahead","PolicyType":"PredictiveScaling","PredictiveScalingConfiguration":{"Mode":"`+mode+`","SchedulingBufferTime":600,
		"MetricSpecifications":[{"TargetValue":50,"PredefinedMetricPairSpecification":{"PredefinedMetricType":"ASGCPUUtilization"}}]`+more+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	return c.Policies[0]
}

// On a day like those before it the capacity is there before the load is.
func TestPredictiveScaling(t *testing.T) {
	trace := Trace{Step: time.Minute}
	for h := range 24 {
		trace.Demand = append(trace.Demand, steady(map[bool]float64{true: 100, false: 10}[h >= 9 && h < 17], 60).Demand...)
	}
	s := scenario(trace, scaling.Group{Name: "g", Min: 2, Max: 40, Desired: 2}, tracks("ASGAverageCPUUtilization", 50), predictivePolicy(t, "ForecastAndScale", ""))
	s.History = 14 * day
	r := mustRun(t, s)
	if p := r.Points[9*60-12]; p.Desired > 4 {
		t.Errorf("before the buffer %d are wanted", p.Desired)
	}
	if p := r.Points[9*60-9]; p.Desired != 20 {
		t.Errorf("ten minutes before the rise %d are wanted, not 20", p.Desired)
	}
	if r.Unserved > 0 || len(r.Notes) > 0 {
		t.Errorf("%d requests are unserved; notes %q", r.Unserved, r.Notes)
	}
	if p := r.Points[20*60]; p.Desired > 4 {
		t.Errorf("hours after the fall %d are wanted", p.Desired)
	}
	s.Group.Max = 15
	if d := mustRun(t, s).Points[9*60+30].Desired; d != 15 {
		t.Errorf("a group of at most 15 is brought to %d", d)
	}
	s.Candidate.Policies[1] = predictivePolicy(t, "ForecastAndScale", `,"MaxCapacityBreachBehavior":"IncreaseMaxCapacity","MaxCapacityBuffer":10`)
	if d := mustRun(t, s).Points[9*60+30].Desired; d != 20 {
		t.Errorf("one that may grow is brought to %d", d)
	}
	for want, change := range map[string]func(){"ForecastOnly": func() { s.Candidate.Policies[1] = predictivePolicy(t, "ForecastOnly", "") }, "--history": func() { s.History = 0 }} {
		before, history := s.Candidate.Policies[1], s.History
		change()
		if r := mustRun(t, s); len(r.Notes) != 1 || r.Points[9*60-9].Desired > 4 {
			t.Errorf("%s: notes %q, and %d are wanted before the rise", want, r.Notes, r.Points[9*60-9].Desired)
		}
		s.Candidate.Policies[1], s.History = before, history
	}
	// Without a history it has learnt on the second day.
	s.History, s.Group.Max = 0, 40
	s.Trace.Demand = append(append([]float64{}, trace.Demand...), trace.Demand...)
	s.Trace.Demand = append(s.Trace.Demand, trace.Demand...)
	r = mustRun(t, s)
	if a, b := r.Points[9*60-9].Desired, r.Points[(24+9)*60-9].Desired; a > 4 || b < 15 {
		t.Errorf("before the rise %d are wanted on the first day and %d on the second", a, b)
	}
}
