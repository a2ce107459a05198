package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"skerry/internal/testcloud"
)

// template makes the launch template that groups launch from.
func template(ctx context.Context, c *testcloud.Cloud) error {
	image, err := c.Image(ctx)
	if err != nil {
		return err
	}
	_, err = c.EC2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("bench"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &image, InstanceType: types.InstanceTypeT2Micro}})
	return err
}

func group(ctx context.Context, c *testcloud.Cloud, name string, most, desired int32) error {
	_, err := c.ASG.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: &name, MinSize: aws.Int32(0), MaxSize: &most, DesiredCapacity: &desired,
		AvailabilityZones: []string{testcloud.Region + "a", testcloud.Region + "b", testcloud.Region + "c"}, // two default subnets hold 8,182
		LaunchTemplate:    &astypes.LaunchTemplateSpecification{LaunchTemplateName: aws.String("bench"), Version: aws.String("$Latest")}})
	return err
}

// members describes a group's instances by their states.
func members(ctx context.Context, c *testcloud.Cloud, name string) (map[astypes.LifecycleState][]string, error) {
	out, err := c.ASG.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}})
	if err != nil {
		return nil, err
	}
	by := map[astypes.LifecycleState][]string{}
	for _, g := range out.AutoScalingGroups {
		for _, i := range g.Instances {
			by[i.LifecycleState] = append(by[i.LifecycleState], *i.InstanceId)
		}
	}
	return by, nil
}

func waitInService(ctx context.Context, c *testcloud.Cloud, name string, n int) error {
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		by, err := members(ctx, c, name)
		if err != nil {
			return err
		}
		if len(by[astypes.LifecycleStateInService]) == n {
			return nil
		}
	}
	return fmt.Errorf("group %s did not get %d instances in service", name, n)
}

// benchThousand: a group of 1,000 sim instances from nothing.
func benchThousand(ctx context.Context) ([]row, error) {
	c, _, err := start("127.96.0.0/16", "--driver", "sim")
	if err != nil {
		return nil, err
	}
	defer down(c)
	if err := template(ctx, c); err != nil {
		return nil, err
	}
	var took []time.Duration
	for i := range 3 {
		name := fmt.Sprintf("g%d", i)
		if err := group(ctx, c, name, 1000, 0); err != nil {
			return nil, err
		}
		began := time.Now()
		if _, err := c.ASG.SetDesiredCapacity(ctx, &autoscaling.SetDesiredCapacityInput{AutoScalingGroupName: &name, DesiredCapacity: aws.Int32(1000)}); err != nil {
			return nil, err
		}
		if err := waitInService(ctx, c, name, 1000); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		if _, err := c.ASG.DeleteAutoScalingGroup(ctx, &autoscaling.DeleteAutoScalingGroupInput{AutoScalingGroupName: &name, ForceDelete: aws.Bool(true)}); err != nil {
			return nil, err
		}
		time.Sleep(5 * time.Second)
	}
	return []row{limitRow("group of 1,000 sim instances, desired 0 to all in service", took, 3*time.Second)}, nil
}

// cpuOf is the processor time of a process, in seconds.
func cpuOf(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	u, _ := strconv.ParseFloat(f[11], 64)
	s, _ := strconv.ParseFloat(f[12], 64)
	return (u + s) / 100
}

// benchMany: 500 groups of 20: what they cost idle, and how fast one lost instance of 10,000 is replaced.
func benchMany(ctx context.Context) ([]row, error) {
	const groups, each = 500, 20
	c, _, err := start("127.97.0.0/16", "--driver", "sim")
	if err != nil {
		return nil, err
	}
	defer down(c)
	if err := template(ctx, c); err != nil {
		return nil, err
	}
	for i := range groups {
		if err := group(ctx, c, fmt.Sprintf("g%03d", i), each, each); err != nil {
			return nil, err
		}
	}
	for i := range groups {
		if err := waitInService(ctx, c, fmt.Sprintf("g%03d", i), each); err != nil {
			return nil, err
		}
	}
	time.Sleep(5 * time.Second)
	pid := c.PID("")
	const idle = 20 * time.Second
	before := cpuOf(pid)
	time.Sleep(idle)
	share := (cpuOf(pid) - before) / idle.Seconds() * 100
	var took []time.Duration
	for i := range 11 {
		name := fmt.Sprintf("g%03d", i*37)
		by, err := members(ctx, c, name)
		if err != nil {
			return nil, err
		}
		victim := by[astypes.LifecycleStateInService][0]
		began := time.Now()
		if _, err := c.ASG.SetInstanceHealth(ctx, &autoscaling.SetInstanceHealthInput{InstanceId: &victim, HealthStatus: aws.String("Unhealthy"), ShouldRespectGracePeriod: aws.Bool(false)}); err != nil {
			return nil, err
		}
		for replaced := false; !replaced; {
			if by, err = members(ctx, c, name); err != nil {
				return nil, err
			}
			n := 0
			for state, ids := range by {
				for _, id := range ids {
					if id != victim && state != astypes.LifecycleStateTerminating {
						n++
					}
				}
			}
			replaced = n == each
			if time.Since(began) > timeout {
				return nil, fmt.Errorf("%s was not replaced", victim)
			}
		}
		took = append(took, time.Since(began))
	}
	return []row{{"500 groups of 20 sim instances: the idle control plane", fmt.Sprintf("%.2f %% of a core over %v", share, idle), "<= 2 %", share <= 2},
		limitRow("one of 10,000 instances unhealthy to its replacement's launch", took, 200*time.Millisecond)}, nil
}

// benchAlarm: on real instances, from an alarm's transition to the new instance in service.
func benchAlarm(ctx context.Context) ([]row, error) {
	c, _, err := start("127.99.0.0/16")
	if err != nil {
		return nil, err
	}
	defer down(c)
	if err := template(ctx, c); err != nil {
		return nil, err
	}
	if err := group(ctx, c, "web", 10, 1); err != nil {
		return nil, err
	}
	if err := waitInService(ctx, c, "web", 1); err != nil {
		return nil, err
	}
	p, err := c.ASG.PutScalingPolicy(ctx, &autoscaling.PutScalingPolicyInput{AutoScalingGroupName: aws.String("web"), PolicyName: aws.String("out"), PolicyType: aws.String("SimpleScaling"),
		AdjustmentType: aws.String("ChangeInCapacity"), ScalingAdjustment: aws.Int32(1), Cooldown: aws.Int32(0)})
	if err != nil {
		return nil, err
	}
	cw := cloudwatch.New(cloudwatch.Options{Region: testcloud.Region, BaseEndpoint: aws.String("http://" + c.Listen), Credentials: c.ASG.Options().Credentials})
	if _, err := cw.PutMetricAlarm(ctx, &cloudwatch.PutMetricAlarmInput{AlarmName: aws.String("high"), Namespace: aws.String("App"), MetricName: aws.String("Load"), Statistic: cwtypes.StatisticAverage,
		Period: aws.Int32(60), EvaluationPeriods: aws.Int32(1), Threshold: aws.Float64(1), ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold,
		AlarmActions: []string{*p.PolicyARN}}); err != nil {
		return nil, err
	}
	var took []time.Duration
	for n := 2; n <= 8; n++ {
		for _, state := range []cwtypes.StateValue{cwtypes.StateValueOk, cwtypes.StateValueAlarm} {
			began := time.Now()
			if _, err := cw.SetAlarmState(ctx, &cloudwatch.SetAlarmStateInput{AlarmName: aws.String("high"), StateValue: state, StateReason: aws.String("bench")}); err != nil {
				return nil, err
			}
			if state == cwtypes.StateValueAlarm {
				if err := waitInService(ctx, c, "web", n); err != nil {
					return nil, err
				}
				took = append(took, time.Since(began))
			}
		}
		time.Sleep(time.Second)
	}
	return []row{limitRow("alarm's transition to the new nano instance InService", took, 2*time.Second)}, nil
}

// benchDecide: the decision core, by its own benchmark.
func benchDecide(ctx context.Context) ([]row, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "NONE", "-bench", "Decide", "-benchtime", "2000x", "./internal/scaling").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var rows []row
	for _, m := range regexp.MustCompile(`(?m)^BenchmarkDecide/(\d+)\S*\s+\d+\s+([\d.]+) ns/op.*?(\d+) allocs/op`).FindAllStringSubmatch(string(out), -1) {
		ns, _ := strconv.ParseFloat(m[2], 64)
		n, _ := strconv.Atoi(m[1])
		want := time.Duration(n) * 500 * time.Nanosecond
		rows = append(rows, row{"a decision about a group of " + m[1], fmt.Sprintf("%.1f µs, %s allocations", ns/1000, m[3]), "<= " + want.String(), ns <= float64(want)})
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the benchmark printed nothing to read: %s", out)
	}
	return rows, nil
}

// benchWeek: a week of a thousand instances simulated.
func benchWeek(ctx context.Context) ([]row, error) {
	var took []time.Duration
	for range 5 {
		out, err := exec.CommandContext(ctx, *binary, "simulate", "--example", "week", "--peak-instances", "1000", "--json").Output()
		if err != nil {
			return nil, err
		}
		var r struct {
			Elapsed float64 `json:"elapsed_ms"`
			Steps   int     `json:"steps"`
		}
		if err := json.Unmarshal(out, &r); err != nil {
			return nil, err
		}
		if r.Steps != 10080 {
			return nil, fmt.Errorf("%d steps", r.Steps)
		}
		took = append(took, time.Duration(r.Elapsed*float64(time.Millisecond)))
	}
	return []row{limitRow("a week of 1,000 instances in steps of a minute, simulated", took, time.Second)}, nil
}
