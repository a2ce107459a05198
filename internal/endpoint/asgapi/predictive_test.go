package asgapi

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/metric"
	"skerry/internal/scaling/live"
)

func TestTheSDKForecastsAndUsesMetricMath(t *testing.T) {
	c := newCloud(t)
	store, err := metric.Open(t.TempDir(), metric.Options{Clock: func() time.Time { return c.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	c.Engine.Metrics = live.Metrics{Store: store}
	c.Engine.TimeScale = 1
	must[*as.CreateAutoScalingGroupOutput](t)(c.createAutoScalingGroup(c.call(), c.request()))
	var data []metric.Datum
	for h := 1; h <= 48; h++ {
		data = append(data, metric.Datum{Namespace: "AWS/EC2", Name: "CPUUtilization", Dimensions: map[string]string{"AutoScalingGroupName": "g"}, Unit: "Percent",
			Timestamp: c.now.Add(-time.Duration(h) * time.Hour), Value: 9000})
	}
	if err := store.Put(here, data); err != nil {
		t.Fatal(err)
	}
	cl, ctx, g := c.client(), context.Background(), aws.String("g")
	put := &sdk.PutScalingPolicyInput{AutoScalingGroupName: g, PolicyName: aws.String("ahead"), PolicyType: aws.String("PredictiveScaling"),
		PredictiveScalingConfiguration: &types.PredictiveScalingConfiguration{Mode: types.PredictiveScalingModeForecastAndScale, SchedulingBufferTime: aws.Int32(60),
			MetricSpecifications: []types.PredictiveScalingMetricSpecification{{TargetValue: aws.Float64(50), PredefinedMetricPairSpecification: &types.PredictiveScalingPredefinedMetricPair{
				PredefinedMetricType: types.PredefinedMetricPairTypeASGCPUUtilization}}}}}
	if _, err := cl.PutScalingPolicy(ctx, put); err != nil {
		t.Fatal(err)
	}
	f, err := cl.GetPredictiveScalingForecast(ctx, &sdk.GetPredictiveScalingForecastInput{AutoScalingGroupName: g, PolicyName: aws.String("ahead"), StartTime: &c.now, EndTime: aws.Time(c.now.Add(6 * time.Hour))})
	if err != nil || len(f.CapacityForecast.Values) != 6 || f.CapacityForecast.Values[0] != 3 || f.LoadForecast[0].Values[5] != 9000 || *f.LoadForecast[0].MetricSpecification.TargetValue != 50 {
		t.Fatalf("forecast %+v %v", f, err)
	}
	c.run(time.Second)
	if n := *c.describe().DesiredCapacity; n != 3 {
		t.Errorf("desired %d", n)
	}
	math := &types.CustomizedMetricSpecification{Metrics: []types.TargetTrackingMetricDataQuery{
		{Id: aws.String("load"), ReturnData: aws.Bool(false), MetricStat: &types.TargetTrackingMetricStat{Stat: aws.String("Sum"), Metric: &types.Metric{Namespace: aws.String("app"), MetricName: aws.String("queue")}}},
		{Id: aws.String("size"), ReturnData: aws.Bool(false), MetricStat: &types.TargetTrackingMetricStat{Stat: aws.String("Average"), Metric: &types.Metric{Namespace: aws.String("AWS/AutoScaling"), MetricName: aws.String("GroupInServiceInstances"),
			Dimensions: []types.MetricDimension{{Name: aws.String("AutoScalingGroupName"), Value: g}}}}},
		{Id: aws.String("each"), Expression: aws.String("load / size"), Label: aws.String("backlog")}}}
	track := &sdk.PutScalingPolicyInput{AutoScalingGroupName: g, PolicyName: aws.String("backlog"), PolicyType: aws.String("TargetTrackingScaling"),
		TargetTrackingConfiguration: &types.TargetTrackingConfiguration{TargetValue: aws.Float64(100), CustomizedMetricSpecification: math}}
	out, err := cl.PutScalingPolicy(ctx, track)
	if err != nil {
		t.Fatal(err)
	}
	a, err := metric.GetAlarm(c.DB.Read(), here, *out.Alarms[0].AlarmName)
	if err != nil || !a.IsMath() || a.Period != 60 || !strings.Contains(string(a.Queries), "load / size") {
		t.Fatalf("alarm %+v %v", a, err)
	}
	ps := must[*as.PoliciesType](t)(c.describePolicies(c.call(), &as.DescribePoliciesType{AutoScalingGroupName: api.Ptr("g")}))
	if len(ps.ScalingPolicies) != 2 || *ps.ScalingPolicies[0].PredictiveScalingConfiguration.SchedulingBufferTime != 60 || len(ps.ScalingPolicies[1].TargetTrackingConfiguration.CustomizedMetricSpecification.Metrics) != 3 {
		t.Errorf("policies %+v", ps.ScalingPolicies)
	}
	math.Metrics[2].Expression = aws.String("load / nothing")
	if _, err = cl.PutScalingPolicy(ctx, track); err == nil {
		t.Error("an expression that reads nothing was accepted")
	}
}

// TestCustomizedPredictiveMetrics: how much load an instance carries is learnt from what was.
func TestCustomizedPredictiveMetrics(t *testing.T) {
	c := newCloud(t)
	store, err := metric.Open(t.TempDir(), metric.Options{Clock: func() time.Time { return c.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	c.Engine.Metrics = live.Metrics{Store: store}
	c.Engine.TimeScale = 1
	must[*as.CreateAutoScalingGroupOutput](t)(c.createAutoScalingGroup(c.call(), c.request()))
	var data []metric.Datum
	put := func(name string, at time.Time, v float64) {
		data = append(data, metric.Datum{Namespace: "App", Name: name, Timestamp: at, Value: v})
	}
	for h := 1; h <= 48; h++ { // an instance is 20 % busy with 100 jobs an hour; there were 4 or 5 for 800 or 1000
		at := c.now.Add(-time.Duration(h) * time.Hour)
		n := float64(4 + h%2)
		put("Jobs", at, 150*n)
		put("Jobs", at.Add(time.Minute), 50*n)
		put("Busy", at, 39)
		put("Busy", at.Add(time.Minute), 41)
		put("Size", at, n)
	}
	if err := store.Put(here, data); err != nil {
		t.Fatal(err)
	}
	stat := func(id, name, stat string, returned bool) types.MetricDataQuery {
		return types.MetricDataQuery{Id: &id, ReturnData: &returned, MetricStat: &types.MetricStat{Stat: &stat, Metric: &types.Metric{Namespace: aws.String("App"), MetricName: &name}}}
	}
	cl, ctx, g := c.client(), context.Background(), aws.String("g")
	spec := types.PredictiveScalingMetricSpecification{TargetValue: aws.Float64(50),
		CustomizedLoadMetricSpecification:     &types.PredictiveScalingCustomizedLoadMetric{MetricDataQueries: []types.MetricDataQuery{stat("j", "Jobs", "Sum", false), {Id: aws.String("load"), Expression: aws.String("j * 2")}}},
		CustomizedScalingMetricSpecification:  &types.PredictiveScalingCustomizedScalingMetric{MetricDataQueries: []types.MetricDataQuery{stat("b", "Busy", "Average", true)}},
		CustomizedCapacityMetricSpecification: &types.PredictiveScalingCustomizedCapacityMetric{MetricDataQueries: []types.MetricDataQuery{stat("s", "Size", "Average", true)}}}
	in := &sdk.PutScalingPolicyInput{AutoScalingGroupName: g, PolicyName: aws.String("ahead"), PolicyType: aws.String("PredictiveScaling"),
		PredictiveScalingConfiguration: &types.PredictiveScalingConfiguration{MetricSpecifications: []types.PredictiveScalingMetricSpecification{spec}}}
	if _, err := cl.PutScalingPolicy(ctx, in); err != nil {
		t.Fatal(err)
	}
	f, err := cl.GetPredictiveScalingForecast(ctx, &sdk.GetPredictiveScalingForecastInput{AutoScalingGroupName: g, PolicyName: aws.String("ahead"), StartTime: &c.now, EndTime: aws.Time(c.now.Add(6 * time.Hour))})
	if err != nil {
		t.Fatal(err)
	}
	// 1600 or 2000 jobs, twice as they are counted; 500 of them make an instance 50 % busy
	for i, n := range f.CapacityForecast.Values {
		if load := f.LoadForecast[0].Values[i]; n != 4 || load < 1600-1 || load > 2000+1 {
			t.Errorf("hour %d: %v for %v", i, n, load)
		}
	}
	ps, err := cl.DescribePolicies(ctx, &sdk.DescribePoliciesInput{AutoScalingGroupName: g})
	if err != nil {
		t.Fatal(err)
	}
	if m := ps.ScalingPolicies[0].PredictiveScalingConfiguration.MetricSpecifications[0]; *m.CustomizedLoadMetricSpecification.MetricDataQueries[1].Expression != "j * 2" ||
		*m.CustomizedScalingMetricSpecification.MetricDataQueries[0].MetricStat.Stat != "Average" || *m.CustomizedCapacityMetricSpecification.MetricDataQueries[0].Id != "s" || m.PredefinedMetricPairSpecification != nil {
		t.Errorf("described %+v", m)
	}
	m := &in.PredictiveScalingConfiguration.MetricSpecifications[0]
	m.CustomizedLoadMetricSpecification = nil
	if _, err := cl.PutScalingPolicy(ctx, in); err == nil || !strings.Contains(err.Error(), "each either predefined or customized") {
		t.Errorf("without a load: %v", err)
	}
	m.PredefinedLoadMetricSpecification = &types.PredictiveScalingPredefinedLoadMetric{PredefinedMetricType: types.PredefinedLoadMetricTypeASGTotalCPUUtilization}
	if _, err := cl.PutScalingPolicy(ctx, in); err != nil {
		t.Errorf("a predefined load with a scaling metric of one's own: %v", err)
	}
	m.CustomizedScalingMetricSpecification.MetricDataQueries[0].ReturnData = aws.Bool(false)
	if _, err := cl.PutScalingPolicy(ctx, in); err == nil || !strings.Contains(err.Error(), "must return data") {
		t.Errorf("with nothing returned: %v", err)
	}
}
