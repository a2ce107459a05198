// Package simulate holds the simulation against a running cloud: the same policy and the same load must want the same
// capacities at the same times.
package simulate

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"skerry/internal/require"
	"skerry/internal/scaling"
	"skerry/internal/simulate"
	"skerry/internal/testcloud"
)

const (
	scale  = 60 // a minute is a second
	rate   = 10 // requests a second that one instance serves
	target = 50
	late   = 0.75 // minutes that the cloud's alarms wait for their data, and this test's look after that
)

// demand is requests a second in each minute: low, four times that, and low again.
func demand() (d []float64) {
	for m := range 58 {
		if m >= 6 && m < 18 {
			d = append(d, 40)
		} else {
			d = append(d, 10)
		}
	}
	return d
}

func TestTheSimulationIsLikeTheCloud(t *testing.T) {
	binary := require.Binary(t)
	require.Root(t)
	t.Parallel()
	want := simulated(t)
	c, err := testcloud.New(binary, "127.84.0.0/16", "--driver", "sim", "--time-scale", fmt.Sprint(scale))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
	})
	got, lag := lived(t, c)
	t.Logf("simulated %v", want)
	t.Logf("lived     %v, its load told up to %.1f minutes late", got, lag)
	if len(got) != len(want) {
		t.Fatalf("the cloud changed the capacity %d times, the simulation %d times", len(got), len(want))
	}
	for i := range got {
		if got[i].desired != want[i].desired {
			t.Errorf("change %d: the cloud wants %d, the simulation %d", i, got[i].desired, want[i].desired)
		}
		if d := got[i].minute - want[i].minute; d < -1 || d > 1+late+lag {
			t.Errorf("change %d to %d: in the cloud after %.1f minutes, in the simulation after %.1f", i, got[i].desired, got[i].minute, want[i].minute)
		}
	}
}

// change is a new desired capacity.
type change struct {
	minute  float64
	desired int
}

func simulated(t *testing.T) (out []change) {
	warm := 60
	s := simulate.Scenario{Group: scaling.Group{Name: "web", Min: 1, Max: 20, Desired: 2, DefaultCooldown: 300, DefaultWarmup: &warm}, Zones: []string{"a", "b"},
		Trace: simulate.Trace{Step: time.Minute, Demand: demand()}, Start: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Service: time.Second / rate, Workers: 1,
		Boot: 5 * time.Second, Patience: time.Second, Price: 1, Metrics: map[string]simulate.Metric{"Load": simulate.Utilisation}, Candidate: simulate.Candidate{Name: "c", Policies: []simulate.Policy{{Policy: scaling.Policy{Name: "load",
			Type: scaling.TargetTracking, Enabled: true, Tracking: &scaling.Tracking{Namespace: "App", MetricName: "Load", Statistic: "Average", Target: target}}}}}}
	r, err := simulate.Run(s)
	if err != nil {
		t.Fatal(err)
	}
	last := s.Group.Desired
	for i, p := range r.Points {
		if p.Desired != last {
			last = p.Desired
			out = append(out, change{float64(i + 1), last}) // at the step's end
		}
	}
	if len(out) < 3 {
		t.Fatalf("the simulation has %d changes only", len(out))
	}
	return out
}

// lived plays the same against the cloud: a metric tells the load of the instances that are there. lag is by how many minutes
// a busy machine held up this side of it.
func lived(t *testing.T, c *testcloud.Cloud) (out []change, lag float64) {
	ctx := context.Background()
	image, err := c.Image(ctx)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.EC2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("web"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &image, InstanceType: types.InstanceTypeT2Micro}})
	must(err)
	_, err = c.ASG.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: aws.String("web"), MinSize: aws.Int32(1), MaxSize: aws.Int32(20),
		DesiredCapacity: aws.Int32(2), DefaultInstanceWarmup: aws.Int32(60), AvailabilityZones: []string{testcloud.Region + "a", testcloud.Region + "b"},
		LaunchTemplate: &astypes.LaunchTemplateSpecification{LaunchTemplateName: aws.String("web"), Version: aws.String("$Latest")}})
	must(err)
	describe := func() (desired, inService int) {
		g, err := c.ASG.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"web"}})
		must(err)
		for _, i := range g.AutoScalingGroups[0].Instances {
			if i.LifecycleState == astypes.LifecycleStateInService {
				inService++
			}
		}
		return int(*g.AutoScalingGroups[0].DesiredCapacity), inService
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, n := describe(); n == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the group did not get its first two instances")
		}
	}
	time.Sleep(2 * time.Second) // they are warm
	_, err = c.ASG.PutScalingPolicy(ctx, &autoscaling.PutScalingPolicyInput{AutoScalingGroupName: aws.String("web"), PolicyName: aws.String("load"),
		PolicyType: aws.String("TargetTrackingScaling"), TargetTrackingConfiguration: &astypes.TargetTrackingConfiguration{TargetValue: aws.Float64(target),
			CustomizedMetricSpecification: &astypes.CustomizedMetricSpecification{Namespace: aws.String("App"), MetricName: aws.String("Load"), Statistic: astypes.MetricStatisticAverage}}})
	must(err)
	cw := cloudwatch.New(cloudwatch.Options{Region: testcloud.Region, BaseEndpoint: aws.String("http://" + c.Listen), Credentials: c.ASG.Options().Credentials})
	load := demand()
	begin := time.Now().Truncate(time.Second).Add(time.Second)
	last := 2
	for at := begin; ; at = at.Add(100 * time.Millisecond) {
		time.Sleep(time.Until(at))
		minute := time.Since(begin).Seconds() * scale / 60
		if int(minute) >= len(load) {
			return out, lag
		}
		desired, n := describe()
		if desired != last {
			last = desired
			out = append(out, change{minute, last})
		}
		if n > 0 {
			_, err := cw.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: aws.String("App"), MetricData: []cwtypes.MetricDatum{
				{MetricName: aws.String("Load"), Value: aws.Float64(min(100, 100*load[int(minute)]/float64(n*rate)))}}})
			must(err)
		}
		lag = max(lag, (time.Since(at).Seconds()-0.1)*scale/60) // a tenth is one turn
	}
}
