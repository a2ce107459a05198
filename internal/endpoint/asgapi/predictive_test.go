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
			Timestamp: c.now.Add(-time.Duration(h) * time.Hour), Value: 1800})
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
	if err != nil || len(f.CapacityForecast.Values) != 6 || f.CapacityForecast.Values[0] != 3 || f.LoadForecast[0].Values[5] != 1800 || *f.LoadForecast[0].MetricSpecification.TargetValue != 50 {
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
