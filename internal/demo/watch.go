package demo

import (
	"context"
	"sort"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
)

// cpuTarget is the target of the group's scaling policy, in percent.
const cpuTarget = 50.0

// Instance is one member of the group as a Snapshot shows it.
type Instance struct {
	ID, Zone, State, Health string
	Target                  string // state in the target group, "" when not registered
	CPU                     float64
}

// Snapshot is one look at the cloud, all of it from the API.
type Snapshot struct {
	At         time.Time
	Phase      string
	Instances  []Instance
	Desired    int
	CPU        float64 // the group's average, percent; negative when there is none yet
	Rate       float64 // requests a second since the last look
	Sent       int64
	Failed     int64
	Median     time.Duration
	ByZone     map[string]int64
	Activities []string // newest first
	Log        []string // the demo's own steps, oldest first
}

// healthy counts the instances that are in service and healthy behind the ALB.
func (s Snapshot) healthy() int {
	n := 0
	for _, i := range s.Instances {
		if i.State == string(astypes.LifecycleStateInService) && i.Target == "healthy" {
			n++
		}
	}
	return n
}

func (s Snapshot) has(id string) bool {
	for _, i := range s.Instances {
		if i.ID == id {
			return true
		}
	}
	return false
}

// look asks the API for the state of the group. Instances that wait in the launch hook are waved through: the demo plays
// the part of the hook's owner.
func look(ctx context.Context, c clients, s *site, scale float64) (Snapshot, error) {
	snap := Snapshot{At: time.Now(), CPU: -1}
	groups, err := c.asg.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{groupName}})
	if err != nil {
		return snap, err
	}
	if len(groups.AutoScalingGroups) == 0 {
		return snap, nil
	}
	g := groups.AutoScalingGroups[0]
	snap.Desired = int(aws.ToInt32(g.DesiredCapacity))
	health := map[string]string{}
	th, err := c.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &s.targetGroup})
	if err != nil {
		return snap, err
	}
	for _, d := range th.TargetHealthDescriptions {
		health[aws.ToString(d.Target.Id)] = string(d.TargetHealth.State)
	}
	for _, i := range g.Instances {
		id := aws.ToString(i.InstanceId)
		snap.Instances = append(snap.Instances, Instance{ID: id, Zone: aws.ToString(i.AvailabilityZone), State: string(i.LifecycleState),
			Health: aws.ToString(i.HealthStatus), Target: health[id], CPU: c.cpu(ctx, "InstanceId", id, scale)})
		if i.LifecycleState == astypes.LifecycleStatePendingWait {
			_, err := c.asg.CompleteLifecycleAction(ctx, &autoscaling.CompleteLifecycleActionInput{AutoScalingGroupName: aws.String(groupName),
				LifecycleHookName: aws.String("welcome"), InstanceId: i.InstanceId, LifecycleActionResult: aws.String("CONTINUE")})
			if err != nil {
				return snap, err
			}
		}
	}
	sort.Slice(snap.Instances, func(i, j int) bool {
		a, b := snap.Instances[i], snap.Instances[j]
		return a.Zone < b.Zone || a.Zone == b.Zone && a.ID < b.ID
	})
	snap.CPU = c.cpu(ctx, "AutoScalingGroupName", groupName, scale)
	acts, err := c.asg.DescribeScalingActivities(ctx, &autoscaling.DescribeScalingActivitiesInput{AutoScalingGroupName: aws.String(groupName), MaxRecords: aws.Int32(8)})
	if err != nil {
		return snap, err
	}
	for _, a := range acts.Activities {
		snap.Activities = append(snap.Activities, aws.ToTime(a.StartTime).Format("15:04:05")+" "+string(a.StatusCode)+" "+aws.ToString(a.Description))
	}
	return snap, nil
}

// metricPeriod is the shortest period that CloudWatch serves which holds a datum every interval seconds.
func metricPeriod(interval float64) int32 {
	for _, p := range []int32{1, 5, 10, 30} {
		if float64(p) >= interval {
			return p
		}
	}
	return 60
}

// cpu returns the newest average of CPUUtilization, or -1.
func (c clients) cpu(ctx context.Context, dimension, value string, scale float64) float64 {
	now := time.Now()
	period := metricPeriod(60 / scale)
	out, err := c.cw.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{Namespace: aws.String("AWS/EC2"), MetricName: aws.String("CPUUtilization"),
		Dimensions: []cwtypes.Dimension{{Name: &dimension, Value: &value}}, StartTime: aws.Time(now.Add(-4 * time.Duration(period) * time.Second)), EndTime: &now,
		Period: aws.Int32(period), Statistics: []cwtypes.Statistic{cwtypes.StatisticAverage}})
	if err != nil || len(out.Datapoints) == 0 {
		return -1
	}
	newest := out.Datapoints[0]
	for _, d := range out.Datapoints {
		if d.Timestamp.After(*newest.Timestamp) {
			newest = d
		}
	}
	return aws.ToFloat64(newest.Average)
}
