package asgapi

import (
	"slices"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

func (s *Server) describeAccountLimits(c *api.Call, _ *as.DescribeAccountLimitsInput) (*as.DescribeAccountLimitsAnswer, error) {
	out := &as.DescribeAccountLimitsAnswer{MaxNumberOfAutoScalingGroups: num(scaling.MaxGroups), MaxNumberOfLaunchConfigurations: num(scaling.MaxConfigs)}
	return out, c.View(func(tx store.Tx) error {
		groups, configs := 0, 0
		for range scaling.Groups.Prefix(tx, c.Scope().Prefix()) {
			groups++
		}
		for range scaling.LaunchConfigurations.Prefix(tx, c.Scope().Prefix()) {
			configs++
		}
		out.NumberOfAutoScalingGroups, out.NumberOfLaunchConfigurations = num(groups), num(configs)
		return nil
	})
}

func (s *Server) describeAdjustmentTypes(*api.Call, *as.DescribeAdjustmentTypesInput) (*as.DescribeAdjustmentTypesAnswer, error) {
	out := &as.DescribeAdjustmentTypesAnswer{}
	for _, t := range []string{scaling.ChangeInCapacity, scaling.ExactCapacity, scaling.PercentChangeInCapacity} {
		out.AdjustmentTypes = append(out.AdjustmentTypes, as.AdjustmentType{AdjustmentType: &t})
	}
	return out, nil
}

func (s *Server) describeAutoScalingNotificationTypes(*api.Call, *as.DescribeAutoScalingNotificationTypesInput) (*as.DescribeAutoScalingNotificationTypesAnswer, error) {
	return &as.DescribeAutoScalingNotificationTypesAnswer{AutoScalingNotificationTypes: slices.Clone(scaling.NotificationTypes)}, nil
}

func (s *Server) describeLifecycleHookTypes(*api.Call, *as.DescribeLifecycleHookTypesInput) (*as.DescribeLifecycleHookTypesAnswer, error) {
	return &as.DescribeLifecycleHookTypesAnswer{LifecycleHookTypes: []string{scaling.LaunchHook, scaling.TerminateHook}}, nil
}

func (s *Server) describeMetricCollectionTypes(*api.Call, *as.DescribeMetricCollectionTypesInput) (*as.DescribeMetricCollectionTypesAnswer, error) {
	out := &as.DescribeMetricCollectionTypesAnswer{Granularities: []as.MetricGranularityType{{Granularity: api.Ptr(granularity)}}}
	for _, m := range scaling.GroupMetrics {
		out.Metrics = append(out.Metrics, as.MetricCollectionType{Metric: &m})
	}
	return out, nil
}

func (s *Server) describeScalingProcessTypes(*api.Call, *as.DescribeScalingProcessTypesInput) (*as.ProcessesType, error) {
	out := &as.ProcessesType{}
	for _, p := range scaling.Processes {
		out.Processes = append(out.Processes, as.ProcessType{ProcessName: &p})
	}
	return out, nil
}

func (s *Server) describeTerminationPolicyTypes(*api.Call, *as.DescribeTerminationPolicyTypesInput) (*as.DescribeTerminationPolicyTypesAnswer, error) {
	return &as.DescribeTerminationPolicyTypesAnswer{TerminationPolicyTypes: slices.Clone(scaling.TerminationPolicies)}, nil
}

// granularity is the only one.
const granularity = "1Minute"

func (s *Server) enableMetricsCollection(c *api.Call, in *as.EnableMetricsCollectionQuery) (*as.EnableMetricsCollectionOutput, error) {
	if g := api.Val(in.Granularity); g != granularity {
		return nil, invalid("Invalid Granularity: %s. The valid value is %s.", g, granularity)
	}
	return nil, s.change(c, in.AutoScalingGroupName, "EnableMetricsCollection", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.EnableMetrics(w, c.Scope(), g.Name, in.Metrics)
	})
}

func (s *Server) disableMetricsCollection(c *api.Call, in *as.DisableMetricsCollectionQuery) (*as.DisableMetricsCollectionOutput, error) {
	return nil, s.change(c, in.AutoScalingGroupName, "DisableMetricsCollection", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.DisableMetrics(w, c.Scope(), g.Name, in.Metrics)
	})
}
