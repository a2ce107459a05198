package asgapi

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/awsclient"
	"skerry/internal/event"
	"skerry/internal/gateway"
	"skerry/internal/store"
)

// client is the SDK's, against the gateway over the cloud.
func (c *cloud) client() *sdk.Client {
	m := api.NewMux(&as.Service)
	c.Register(m)
	srv := httptest.NewServer(gateway.New(gateway.Options{Mux: m, DB: c.DB, Credentials: gateway.WellKnown}))
	c.t.Cleanup(srv.Close)
	return sdk.NewFromConfig(awsclient.Config(srv.URL, here.Region, "skerry", "skerry", ""))
}

func TestTheSDKSeesWhatWasAskedFor(t *testing.T) {
	c := newCloud(t)
	cl, ctx := c.client(), context.Background()
	g := aws.String("web")
	_, err := cl.CreateAutoScalingGroup(ctx, &sdk.CreateAutoScalingGroupInput{AutoScalingGroupName: g, MinSize: aws.Int32(1), MaxSize: aws.Int32(4), DesiredCapacity: aws.Int32(2),
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("web")}, VPCZoneIdentifier: aws.String(c.subnets[0] + "," + c.subnets[1]),
		TargetGroupARNs: []string{c.tg}, HealthCheckGracePeriod: aws.Int32(60), TerminationPolicies: []string{"OldestInstance", "Default"}, MaxInstanceLifetime: aws.Int32(86400),
		DefaultInstanceWarmup: aws.Int32(20), NewInstancesProtectedFromScaleIn: aws.Bool(true),
		LifecycleHookSpecificationList: []types.LifecycleHookSpecification{{LifecycleHookName: aws.String("up"), LifecycleTransition: aws.String("autoscaling:EC2_INSTANCE_LAUNCHING"), HeartbeatTimeout: aws.Int32(600)}}})
	if err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	hooks, err := cl.DescribeLifecycleHooks(ctx, &sdk.DescribeLifecycleHooksInput{AutoScalingGroupName: g})
	if err != nil || len(hooks.LifecycleHooks) != 1 || *hooks.LifecycleHooks[0].GlobalTimeout != 60000 || *hooks.LifecycleHooks[0].DefaultResult != "ABANDON" {
		t.Fatalf("hooks %+v %v", hooks, err)
	}
	members, err := cl.DescribeAutoScalingInstances(ctx, &sdk.DescribeAutoScalingInstancesInput{})
	if err != nil || len(members.AutoScalingInstances) != 2 {
		t.Fatalf("instances %+v %v", members, err)
	}
	for _, m := range members.AutoScalingInstances {
		if *m.LifecycleState != "Pending:Wait" || *m.HealthStatus != "HEALTHY" || !*m.ProtectedFromScaleIn {
			t.Errorf("instance %+v", m)
		}
		if _, err := cl.CompleteLifecycleAction(ctx, &sdk.CompleteLifecycleActionInput{AutoScalingGroupName: g, LifecycleHookName: aws.String("up"), InstanceId: m.InstanceId, LifecycleActionResult: aws.String("CONTINUE")}); err != nil {
			t.Fatal(err)
		}
	}
	c.run(time.Second)
	out, err := cl.DescribeAutoScalingGroups(ctx, &sdk.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"web"}})
	if err != nil || len(out.AutoScalingGroups) != 1 {
		t.Fatalf("groups %+v %v", out, err)
	}
	d := out.AutoScalingGroups[0]
	if !slices.Equal(d.TerminationPolicies, []string{"OldestInstance", "Default"}) || *d.MaxInstanceLifetime != 86400 || *d.DefaultInstanceWarmup != 20 || *d.HealthCheckGracePeriod != 60 ||
		!slices.Equal(d.TargetGroupARNs, []string{c.tg}) || len(d.TrafficSources) != 1 || d.Status != nil || len(d.Instances) != 2 || d.Instances[0].LifecycleState != types.LifecycleStateInService {
		t.Fatalf("group %+v", d)
	}
	p, err := cl.PutScalingPolicy(ctx, &sdk.PutScalingPolicyInput{AutoScalingGroupName: g, PolicyName: aws.String("steps"), PolicyType: aws.String("StepScaling"), AdjustmentType: aws.String("PercentChangeInCapacity"),
		MinAdjustmentMagnitude: aws.Int32(1), StepAdjustments: []types.StepAdjustment{{MetricIntervalLowerBound: aws.Float64(0), ScalingAdjustment: aws.Int32(50)}}})
	if err != nil {
		t.Fatal(err)
	}
	ps, err := cl.DescribePolicies(ctx, &sdk.DescribePoliciesInput{AutoScalingGroupName: g})
	if err != nil || len(ps.ScalingPolicies) != 1 || *ps.ScalingPolicies[0].PolicyARN != *p.PolicyARN || *ps.ScalingPolicies[0].StepAdjustments[0].ScalingAdjustment != 50 {
		t.Fatalf("policies %+v %v", ps, err)
	}
	c.run(2 * time.Second) // the default warm-up, scaled
	if _, err := cl.ExecutePolicy(ctx, &sdk.ExecutePolicyInput{AutoScalingGroupName: g, PolicyName: aws.String("steps"), MetricValue: aws.Float64(9), BreachThreshold: aws.Float64(5)}); err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	acts, err := cl.DescribeScalingActivities(ctx, &sdk.DescribeScalingActivitiesInput{AutoScalingGroupName: g})
	if err != nil || len(acts.Activities) != 3 || acts.Activities[0].StatusCode != types.ScalingActivityStatusCodeMidLifecycleAction {
		t.Fatalf("activities %+v %v", acts, err)
	}
	topic, none := aws.String("arn:aws:sns:us-east-1:000000000000:t"), func() []event.Record { return slices.Collect(event.Records.All(c.DB.Read())) }
	put := &sdk.PutNotificationConfigurationInput{AutoScalingGroupName: g, TopicARN: topic, NotificationTypes: []string{"autoscaling:EC2_INSTANCE_TERMINATE"}}
	if _, err := cl.PutNotificationConfiguration(ctx, put); err == nil || !strings.Contains(err.Error(), "--events-sink") || len(none()) != 0 {
		t.Fatalf("a notification without a sink: %v", err)
	}
	if err := c.DB.Update(func(w *store.WriteTx) error { event.SetSink(w, true); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.PutNotificationConfiguration(ctx, put); err != nil {
		t.Fatal(err)
	}
	if got := none(); len(got) != 1 || !strings.Contains(string(got[0].Body), "TEST_NOTIFICATION") {
		t.Fatalf("records %v", got)
	}
	if list, err := cl.DescribeNotificationConfigurations(ctx, &sdk.DescribeNotificationConfigurationsInput{}); err != nil || len(list.NotificationConfigurations) != 1 {
		t.Fatalf("notifications %+v %v", list, err)
	}
	if _, err := cl.TerminateInstanceInAutoScalingGroup(ctx, &sdk.TerminateInstanceInAutoScalingGroupInput{InstanceId: d.Instances[0].InstanceId, ShouldDecrementDesiredCapacity: aws.Bool(false)}); err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	all := ""
	for _, r := range none() {
		all += r.Kind + " " + string(r.Body) + "\n"
	}
	for _, want := range []string{"EC2 Instance Terminate Successful", "EC2 Instance State-change Notification", "EC2 Instance-launch Lifecycle Action", `SNS {"Message":"{\"AccountId`, "autoscaling:EC2_INSTANCE_TERMINATE"} {
		if !strings.Contains(all, want) {
			t.Errorf("nothing tells of %s:\n%s", want, all)
		}
	}
	if _, err := cl.PutWarmPool(ctx, &sdk.PutWarmPoolInput{AutoScalingGroupName: g, MinSize: aws.Int32(1), MaxGroupPreparedCapacity: aws.Int32(4), PoolState: types.WarmPoolStateRunning,
		InstanceReusePolicy: &types.InstanceReusePolicy{ReuseOnScaleIn: aws.Bool(true)}}); err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	pool, err := cl.DescribeWarmPool(ctx, &sdk.DescribeWarmPoolInput{AutoScalingGroupName: g})
	if err != nil || len(pool.Instances) != 1 || pool.Instances[0].LifecycleState != types.LifecycleStateWarmedPendingWait || *pool.WarmPoolConfiguration.MaxGroupPreparedCapacity != 4 ||
		*pool.WarmPoolConfiguration.MinSize != 1 || pool.WarmPoolConfiguration.PoolState != types.WarmPoolStateRunning || !*pool.WarmPoolConfiguration.InstanceReusePolicy.ReuseOnScaleIn {
		t.Fatalf("pool %+v %v", pool, err)
	}
	if out, err := cl.DescribeAutoScalingGroups(ctx, &sdk.DescribeAutoScalingGroupsInput{}); err != nil || *out.AutoScalingGroups[0].WarmPoolSize != 1 || len(out.AutoScalingGroups[0].Instances) != 3 {
		t.Fatalf("group %+v %v", out, err)
	}
	if _, err := cl.DeleteWarmPool(ctx, &sdk.DeleteWarmPoolInput{AutoScalingGroupName: g, ForceDelete: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	_, err = cl.DeleteAutoScalingGroup(ctx, &sdk.DeleteAutoScalingGroupInput{AutoScalingGroupName: g})
	if _, ok := errors.AsType[*types.ResourceInUseFault](err); !ok {
		t.Fatalf("deleting a group with instances: %v", err)
	}
	if _, err := cl.DeleteAutoScalingGroup(ctx, &sdk.DeleteAutoScalingGroupInput{AutoScalingGroupName: g, ForceDelete: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	if out, err := cl.DescribeAutoScalingGroups(ctx, &sdk.DescribeAutoScalingGroupsInput{}); err != nil || len(out.AutoScalingGroups) != 0 {
		t.Fatalf("groups %+v %v", out, err)
	}
}
