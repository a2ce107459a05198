package asgapi

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/compute"
	"skerry/internal/event"
	"skerry/internal/metric"
	"skerry/internal/scaling/live"
	"skerry/internal/store"
)

// TestTheSDKSpeaksEveryOperation goes through every operation with the SDK's client: it reads what it gets, and what it
// asked for is in there.
func TestTheSDKSpeaksEveryOperation(t *testing.T) {
	c := newCloud(t)
	metrics, err := metric.Open(t.TempDir(), metric.Options{Clock: func() time.Time { return c.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Close()
	c.Engine.Metrics, c.Engine.TimeScale = live.Metrics{Store: metrics}, 1
	called := map[string]bool{}
	cl := sdk.New(c.client().Options(), func(o *sdk.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
			return s.Initialize.Add(middleware.InitializeMiddlewareFunc("note", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				called[middleware.GetOperationName(ctx)] = true
				return next.HandleInitialize(ctx, in)
			}), middleware.After)
		})
	})
	ctx, p, n, g := context.Background(), aws.String, aws.Int32, aws.String("g")
	ok := func(what string, good bool, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !good {
			t.Errorf("%s: not what was asked for", what)
		}
	}
	denied := func(what string, err error, code, text string) {
		t.Helper()
		var e smithy.APIError
		if !errors.As(err, &e) || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), text) {
			t.Errorf("%s: %v, want %s %q", what, err, code, text)
		}
	}

	// What there is to choose from.
	limits, err := cl.DescribeAccountLimits(ctx, &sdk.DescribeAccountLimitsInput{})
	ok("limits", err == nil && *limits.MaxNumberOfAutoScalingGroups == 500 && *limits.NumberOfAutoScalingGroups == 0, err)
	adjustments, err := cl.DescribeAdjustmentTypes(ctx, &sdk.DescribeAdjustmentTypesInput{})
	ok("adjustment types", err == nil && len(adjustments.AdjustmentTypes) == 3, err)
	hookTypes, err := cl.DescribeLifecycleHookTypes(ctx, &sdk.DescribeLifecycleHookTypesInput{})
	ok("hook types", err == nil && len(hookTypes.LifecycleHookTypes) == 2, err)
	metricTypes, err := cl.DescribeMetricCollectionTypes(ctx, &sdk.DescribeMetricCollectionTypesInput{})
	ok("metric types", err == nil && len(metricTypes.Metrics) > 10 && len(metricTypes.Granularities) == 1, err)
	notificationTypes, err := cl.DescribeAutoScalingNotificationTypes(ctx, &sdk.DescribeAutoScalingNotificationTypesInput{})
	ok("notification types", err == nil && len(notificationTypes.AutoScalingNotificationTypes) == 5, err)
	processes, err := cl.DescribeScalingProcessTypes(ctx, &sdk.DescribeScalingProcessTypesInput{})
	ok("process types", err == nil && len(processes.Processes) == 9, err)
	termination, err := cl.DescribeTerminationPolicyTypes(ctx, &sdk.DescribeTerminationPolicyTypesInput{})
	ok("termination policies", err == nil && slices.Contains(termination.TerminationPolicyTypes, "Default"), err)

	// Launch configurations.
	_, err = cl.CreateLaunchConfiguration(ctx, &sdk.CreateLaunchConfigurationInput{LaunchConfigurationName: p("lc"), ImageId: &c.image, InstanceType: p("t3.micro"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: p("/dev/sda1"), Ebs: &types.Ebs{VolumeSize: n(3)}}}})
	ok("launch configuration", true, err)
	configs, err := cl.DescribeLaunchConfigurations(ctx, &sdk.DescribeLaunchConfigurationsInput{LaunchConfigurationNames: []string{"lc"}})
	ok("launch configurations", err == nil && *configs.LaunchConfigurations[0].BlockDeviceMappings[0].Ebs.VolumeSize == 3, err)
	_, err = cl.CreateAutoScalingGroup(ctx, &sdk.CreateAutoScalingGroupInput{AutoScalingGroupName: p("old"), MinSize: n(1), MaxSize: n(1), LaunchConfigurationName: p("lc"), VPCZoneIdentifier: &c.subnets[0]})
	ok("its group", true, err)
	c.run(time.Second)
	for i := range compute.Instances.All(c.DB.Read()) {
		ok("its instance", i.InstanceType == "t3.micro" && i.BlockDevices[0].DeviceName == i.RootDeviceName, nil)
	}
	_, err = cl.DeleteLaunchConfiguration(ctx, &sdk.DeleteLaunchConfigurationInput{LaunchConfigurationName: p("lc")})
	denied("a launch configuration in use", err, "ResourceInUse", "attached to AutoScalingGroup old")
	_, err = cl.DeleteAutoScalingGroup(ctx, &sdk.DeleteAutoScalingGroupInput{AutoScalingGroupName: p("old"), ForceDelete: aws.Bool(true)})
	ok("its group is gone", true, err)
	_, err = cl.DescribeScalingActivities(ctx, &sdk.DescribeScalingActivitiesInput{AutoScalingGroupName: p("old")})
	ok("while it goes it has activities", true, err)
	c.run(2 * time.Second)
	_, err = cl.DeleteLaunchConfiguration(ctx, &sdk.DeleteLaunchConfigurationInput{LaunchConfigurationName: p("lc")})
	ok("the launch configuration is gone", true, err)

	// A group, its instances, and what is said about them.
	_, err = cl.CreateAutoScalingGroup(ctx, &sdk.CreateAutoScalingGroupInput{AutoScalingGroupName: g, MinSize: n(0), MaxSize: n(8), DesiredCapacity: n(1), LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &c.lt},
		VPCZoneIdentifier: &c.subnets[0]})
	ok("group", true, err)
	launched, err := cl.LaunchInstances(ctx, &sdk.LaunchInstancesInput{AutoScalingGroupName: g, RequestedCapacity: n(2), ClientToken: p("t")})
	ok("instances", err == nil && len(launched.Instances) == 1 && len(launched.Instances[0].InstanceIds) == 2 && *launched.Instances[0].MarketType == "OnDemand", err)
	_, err = cl.UpdateAutoScalingGroup(ctx, &sdk.UpdateAutoScalingGroupInput{AutoScalingGroupName: g, MinSize: n(1), DefaultCooldown: n(0)})
	ok("update", true, err)
	_, err = cl.SetDesiredCapacity(ctx, &sdk.SetDesiredCapacityInput{AutoScalingGroupName: g, DesiredCapacity: n(4)})
	ok("desired", true, err)
	c.run(time.Second)
	groups, err := cl.DescribeAutoScalingGroups(ctx, &sdk.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"g"}})
	ok("groups", err == nil && len(groups.AutoScalingGroups[0].Instances) == 4 && *groups.AutoScalingGroups[0].Instances[0].ImageId == c.image && groups.AutoScalingGroups[0].Tags != nil, err)
	names := &sdk.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{"g"}}
	ok("it exists", true, sdk.NewGroupExistsWaiter(cl).Wait(ctx, names, time.Minute))
	ok("it is in service", true, sdk.NewGroupInServiceWaiter(cl).Wait(ctx, names, time.Minute))
	ids := launched.Instances[0].InstanceIds
	members, err := cl.DescribeAutoScalingInstances(ctx, &sdk.DescribeAutoScalingInstancesInput{InstanceIds: ids})
	ok("members", err == nil && len(members.AutoScalingInstances) == 2 && *members.AutoScalingInstances[0].ImageId == c.image, err)
	standby, err := cl.EnterStandby(ctx, &sdk.EnterStandbyInput{AutoScalingGroupName: g, InstanceIds: ids[:1], ShouldDecrementDesiredCapacity: aws.Bool(true)})
	ok("standby", err == nil && standby.Activities[0].StatusCode == types.ScalingActivityStatusCodeInProgress, err)
	c.run(time.Second)
	back, err := cl.ExitStandby(ctx, &sdk.ExitStandbyInput{AutoScalingGroupName: g, InstanceIds: ids[:1]})
	ok("back", err == nil && back.Activities[0].StatusCode == types.ScalingActivityStatusCodePreInService, err)
	c.run(time.Second)
	detached, err := cl.DetachInstances(ctx, &sdk.DetachInstancesInput{AutoScalingGroupName: g, InstanceIds: ids[:1], ShouldDecrementDesiredCapacity: aws.Bool(true)})
	ok("detached", err == nil && strings.HasPrefix(*detached.Activities[0].Description, "Detaching"), err)
	c.run(time.Second)
	_, err = cl.AttachInstances(ctx, &sdk.AttachInstancesInput{AutoScalingGroupName: g, InstanceIds: ids[:1]})
	ok("attached", true, err)
	c.run(time.Second)
	_, err = cl.SetInstanceProtection(ctx, &sdk.SetInstanceProtectionInput{AutoScalingGroupName: g, InstanceIds: ids, ProtectedFromScaleIn: aws.Bool(true)})
	ok("protection", true, err)
	_, err = cl.SetInstanceHealth(ctx, &sdk.SetInstanceHealthInput{InstanceId: &ids[1], HealthStatus: p("Unhealthy")})
	ok("health", true, err)
	c.run(time.Second)
	ended, err := cl.TerminateInstanceInAutoScalingGroup(ctx, &sdk.TerminateInstanceInAutoScalingGroupInput{InstanceId: &ids[0], ShouldDecrementDesiredCapacity: aws.Bool(true)})
	ok("terminated", err == nil && strings.Contains(*ended.Activity.Description, ids[0]), err)
	c.run(time.Second)
	acts, err := cl.DescribeScalingActivities(ctx, &sdk.DescribeScalingActivitiesInput{AutoScalingGroupName: g, Filters: []types.Filter{{Name: p("Status"), Values: []string{"Successful"}}}})
	ok("activities", err == nil && len(acts.Activities) > 6, err)

	_, err = cl.SuspendProcesses(ctx, &sdk.SuspendProcessesInput{AutoScalingGroupName: g, ScalingProcesses: []string{"AZRebalance"}})
	ok("suspended", true, err)
	_, err = cl.ResumeProcesses(ctx, &sdk.ResumeProcessesInput{AutoScalingGroupName: g})
	ok("resumed", true, err)
	_, err = cl.EnableMetricsCollection(ctx, &sdk.EnableMetricsCollectionInput{AutoScalingGroupName: g, Granularity: p("1Minute")})
	ok("metrics", true, err)
	_, err = cl.DisableMetricsCollection(ctx, &sdk.DisableMetricsCollectionInput{AutoScalingGroupName: g, Metrics: []string{"GroupMaxSize"}})
	ok("fewer metrics", true, err)
	tag := types.Tag{ResourceId: g, ResourceType: p("auto-scaling-group"), Key: p("k"), Value: p("v"), PropagateAtLaunch: aws.Bool(true)}
	_, err = cl.CreateOrUpdateTags(ctx, &sdk.CreateOrUpdateTagsInput{Tags: []types.Tag{tag}})
	ok("tags", true, err)
	tags, err := cl.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: []types.Filter{{Name: p("key"), Values: []string{"k"}}}})
	ok("tags again", err == nil && len(tags.Tags) == 1 && *tags.Tags[0].Value == "v", err)
	_, err = cl.DeleteTags(ctx, &sdk.DeleteTagsInput{Tags: []types.Tag{tag}})
	ok("no tags", true, err)

	// Load balancing.
	_, err = cl.AttachLoadBalancerTargetGroups(ctx, &sdk.AttachLoadBalancerTargetGroupsInput{AutoScalingGroupName: g, TargetGroupARNs: []string{c.tg}})
	ok("target group", true, err)
	targets, err := cl.DescribeLoadBalancerTargetGroups(ctx, &sdk.DescribeLoadBalancerTargetGroupsInput{AutoScalingGroupName: g})
	ok("target groups", err == nil && *targets.LoadBalancerTargetGroups[0].State == "Adding", err)
	_, err = cl.DetachLoadBalancerTargetGroups(ctx, &sdk.DetachLoadBalancerTargetGroupsInput{AutoScalingGroupName: g, TargetGroupARNs: []string{c.tg}})
	ok("no target group", true, err)
	c.run(time.Second)
	source := []types.TrafficSourceIdentifier{{Identifier: &c.tg, Type: p("elbv2")}}
	_, err = cl.AttachTrafficSources(ctx, &sdk.AttachTrafficSourcesInput{AutoScalingGroupName: g, TrafficSources: source})
	ok("traffic source", true, err)
	c.run(time.Second)
	sources, err := cl.DescribeTrafficSources(ctx, &sdk.DescribeTrafficSourcesInput{AutoScalingGroupName: g})
	ok("traffic sources", err == nil && *sources.TrafficSources[0].Type == "elbv2" && *sources.TrafficSources[0].State == "Added", err)
	_, err = cl.DetachTrafficSources(ctx, &sdk.DetachTrafficSourcesInput{AutoScalingGroupName: g, TrafficSources: source})
	ok("no traffic source", true, err)
	_, err = cl.AttachLoadBalancers(ctx, &sdk.AttachLoadBalancersInput{AutoScalingGroupName: g, LoadBalancerNames: []string{"old"}})
	denied("a classic load balancer", err, "ValidationError", "not supported")
	_, err = cl.DetachLoadBalancers(ctx, &sdk.DetachLoadBalancersInput{AutoScalingGroupName: g, LoadBalancerNames: []string{"old"}})
	denied("no classic load balancer", err, "ValidationError", "not part of the group")
	classic, err := cl.DescribeLoadBalancers(ctx, &sdk.DescribeLoadBalancersInput{AutoScalingGroupName: g})
	ok("classic load balancers", err == nil && len(classic.LoadBalancers) == 0, err)

	// Policies and schedules.
	_, err = cl.PutScalingPolicy(ctx, &sdk.PutScalingPolicyInput{AutoScalingGroupName: g, PolicyName: p("one"), AdjustmentType: p("ChangeInCapacity"), ScalingAdjustment: n(1)})
	ok("policy", true, err)
	_, err = cl.ExecutePolicy(ctx, &sdk.ExecutePolicyInput{AutoScalingGroupName: g, PolicyName: p("one")})
	ok("executed", true, err)
	c.run(time.Second)
	var data []metric.Datum
	for h := 1; h <= 48; h++ {
		data = append(data, metric.Datum{Namespace: "AWS/EC2", Name: "CPUUtilization", Dimensions: map[string]string{"AutoScalingGroupName": "g"}, Unit: "Percent", Timestamp: c.now.Add(-time.Duration(h) * time.Hour), Value: 6000})
	}
	ok("history", true, metrics.Put(here, data))
	_, err = cl.PutScalingPolicy(ctx, &sdk.PutScalingPolicyInput{AutoScalingGroupName: g, PolicyName: p("ahead"), PolicyType: p("PredictiveScaling"), PredictiveScalingConfiguration: &types.PredictiveScalingConfiguration{
		MetricSpecifications: []types.PredictiveScalingMetricSpecification{{TargetValue: aws.Float64(50), PredefinedMetricPairSpecification: &types.PredictiveScalingPredefinedMetricPair{PredefinedMetricType: types.PredefinedMetricPairTypeASGCPUUtilization}}}}})
	ok("predictive policy", true, err)
	forecast, err := cl.GetPredictiveScalingForecast(ctx, &sdk.GetPredictiveScalingForecastInput{AutoScalingGroupName: g, PolicyName: p("ahead"), StartTime: &c.now, EndTime: aws.Time(c.now.Add(3 * time.Hour))})
	ok("forecast", err == nil && len(forecast.CapacityForecast.Values) > 1 && forecast.CapacityForecast.Values[0] == 2, err)
	policies, err := cl.DescribePolicies(ctx, &sdk.DescribePoliciesInput{AutoScalingGroupName: g})
	ok("policies", err == nil && len(policies.ScalingPolicies) == 2 && policies.ScalingPolicies[0].PredictiveScalingConfiguration.SchedulingBufferTime == nil, err)
	_, err = cl.DeletePolicy(ctx, &sdk.DeletePolicyInput{AutoScalingGroupName: g, PolicyName: p("ahead")})
	ok("no policy", true, err)
	_, err = cl.PutScheduledUpdateGroupAction(ctx, &sdk.PutScheduledUpdateGroupActionInput{AutoScalingGroupName: g, ScheduledActionName: p("a"), Recurrence: p("0 0 * * *"), MinSize: n(0)})
	ok("schedule", true, err)
	put, err := cl.BatchPutScheduledUpdateGroupAction(ctx, &sdk.BatchPutScheduledUpdateGroupActionInput{AutoScalingGroupName: g, ScheduledUpdateGroupActions: []types.ScheduledUpdateGroupActionRequest{{ScheduledActionName: p("b"), MinSize: n(0), Recurrence: p("0 1 * * *")}, {ScheduledActionName: p("c")}}})
	ok("schedules", err == nil && len(put.FailedScheduledUpdateGroupActions) == 1, err)
	actions, err := cl.DescribeScheduledActions(ctx, &sdk.DescribeScheduledActionsInput{AutoScalingGroupName: g})
	ok("scheduled actions", err == nil && len(actions.ScheduledUpdateGroupActions) == 2, err)
	_, err = cl.DeleteScheduledAction(ctx, &sdk.DeleteScheduledActionInput{AutoScalingGroupName: g, ScheduledActionName: p("a")})
	ok("one schedule less", true, err)
	gone, err := cl.BatchDeleteScheduledAction(ctx, &sdk.BatchDeleteScheduledActionInput{AutoScalingGroupName: g, ScheduledActionNames: []string{"a", "b"}})
	ok("no schedules", err == nil && len(gone.FailedScheduledActions) == 1, err)

	// Hooks and notifications.
	_, err = cl.PutLifecycleHook(ctx, &sdk.PutLifecycleHookInput{AutoScalingGroupName: g, LifecycleHookName: p("up"), LifecycleTransition: p("autoscaling:EC2_INSTANCE_LAUNCHING"), NotificationTargetARN: p("arn:aws:sqs:us-east-1:000000000000:q")})
	denied("a target without a sink", err, "ValidationError", "--events-sink")
	c.update(func(w *store.WriteTx) error { event.SetSink(w, true); return nil })
	_, err = cl.PutLifecycleHook(ctx, &sdk.PutLifecycleHookInput{AutoScalingGroupName: g, LifecycleHookName: p("up"), LifecycleTransition: p("autoscaling:EC2_INSTANCE_LAUNCHING"), NotificationTargetARN: p("arn:aws:sqs:us-east-1:000000000000:q")})
	ok("hook", true, err)
	hooks, err := cl.DescribeLifecycleHooks(ctx, &sdk.DescribeLifecycleHooksInput{AutoScalingGroupName: g})
	ok("hooks", err == nil && *hooks.LifecycleHooks[0].NotificationTargetARN == "arn:aws:sqs:us-east-1:000000000000:q", err)
	waiting, err := cl.LaunchInstances(ctx, &sdk.LaunchInstancesInput{AutoScalingGroupName: g, RequestedCapacity: n(1), ClientToken: p("u")})
	ok("an instance that waits", err == nil && len(waiting.Instances) == 1, err)
	c.run(time.Second)
	id := waiting.Instances[0].InstanceIds[0]
	_, err = cl.RecordLifecycleActionHeartbeat(ctx, &sdk.RecordLifecycleActionHeartbeatInput{AutoScalingGroupName: g, LifecycleHookName: p("up"), InstanceId: &id})
	ok("heartbeat", true, err)
	_, err = cl.CompleteLifecycleAction(ctx, &sdk.CompleteLifecycleActionInput{AutoScalingGroupName: g, LifecycleHookName: p("up"), InstanceId: &id, LifecycleActionResult: p("CONTINUE")})
	ok("completed", true, err)
	_, err = cl.DeleteLifecycleHook(ctx, &sdk.DeleteLifecycleHookInput{AutoScalingGroupName: g, LifecycleHookName: p("up")})
	ok("no hook", true, err)
	topic := p("arn:aws:sns:us-east-1:000000000000:t")
	_, err = cl.PutNotificationConfiguration(ctx, &sdk.PutNotificationConfigurationInput{AutoScalingGroupName: g, TopicARN: topic, NotificationTypes: []string{"autoscaling:EC2_INSTANCE_LAUNCH"}})
	ok("notification", true, err)
	told, err := cl.DescribeNotificationConfigurations(ctx, &sdk.DescribeNotificationConfigurationsInput{AutoScalingGroupNames: []string{"g"}})
	ok("notifications", err == nil && len(told.NotificationConfigurations) == 1, err)
	_, err = cl.DeleteNotificationConfiguration(ctx, &sdk.DeleteNotificationConfigurationInput{AutoScalingGroupName: g, TopicARN: topic})
	ok("no notification", true, err)

	// Refreshes and warm pools.
	c.run(time.Second)
	refresh, err := cl.StartInstanceRefresh(ctx, &sdk.StartInstanceRefreshInput{AutoScalingGroupName: g, Preferences: &types.RefreshPreferences{MinHealthyPercentage: n(50), SkipMatching: aws.Bool(false)}})
	ok("refresh", err == nil && *refresh.InstanceRefreshId != "", err)
	_, err = cl.RollbackInstanceRefresh(ctx, &sdk.RollbackInstanceRefreshInput{AutoScalingGroupName: g})
	denied("nothing to roll back to", err, "IrreversibleInstanceRefresh", "")
	_, err = cl.CancelInstanceRefresh(ctx, &sdk.CancelInstanceRefreshInput{AutoScalingGroupName: g})
	ok("cancelled", true, err)
	c.run(time.Second)
	refreshes, err := cl.DescribeInstanceRefreshes(ctx, &sdk.DescribeInstanceRefreshesInput{AutoScalingGroupName: g})
	ok("refreshes", err == nil && strings.HasPrefix(string(refreshes.InstanceRefreshes[0].Status), "Cancel"), err)
	_, err = cl.PutWarmPool(ctx, &sdk.PutWarmPoolInput{AutoScalingGroupName: g, MinSize: n(0), MaxGroupPreparedCapacity: n(0)})
	ok("warm pool", true, err)
	pool, err := cl.DescribeWarmPool(ctx, &sdk.DescribeWarmPoolInput{AutoScalingGroupName: g})
	ok("warm pools", err == nil && *pool.WarmPoolConfiguration.MaxGroupPreparedCapacity == 0 && len(pool.Instances) == 0, err)
	_, err = cl.DeleteWarmPool(ctx, &sdk.DeleteWarmPoolInput{AutoScalingGroupName: g})
	ok("no warm pool", true, err)
	_, err = cl.DeleteAutoScalingGroup(ctx, &sdk.DeleteAutoScalingGroupInput{AutoScalingGroupName: g, ForceDelete: aws.Bool(true)})
	ok("group going", true, err)
	c.run(2 * time.Second)
	ok("group gone", true, sdk.NewGroupNotExistsWaiter(cl).Wait(ctx, names, time.Minute))

	m := api.NewMux(&as.Service)
	(&Server{}).Register(m)
	for _, h := range m.Handlers() {
		if !called[h.Name] {
			t.Errorf("%s was not called", h.Name)
		}
	}
}
