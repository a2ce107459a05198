package asgapi

import (
	"encoding/json"
	"slices"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func (s *Server) putScalingPolicy(c *api.Call, in *as.PutScalingPolicyType) (*as.PolicyARNType, error) {
	if err := required("PolicyName", in.PolicyName); err != nil {
		return nil, err
	}
	p := scaling.Policy{Scope: c.Scope(), Name: *in.PolicyName, Type: api.Val(in.PolicyType), Enabled: in.Enabled == nil || *in.Enabled,
		AdjustmentType: api.Val(in.AdjustmentType), Adjustment: intPtr(in.ScalingAdjustment), MinMagnitude: intPtr(in.MinAdjustmentMagnitude),
		MinStep: intPtr(in.MinAdjustmentStep), Cooldown: intPtr(in.Cooldown), Warmup: intPtr(in.EstimatedInstanceWarmup), Aggregation: api.Val(in.MetricAggregationType)}
	if p.Type == "" {
		p.Type = scaling.SimpleScaling
	}
	switch p.Aggregation {
	case "Minimum", "Maximum", "Average":
	case "":
		if p.Type == scaling.StepScaling {
			p.Aggregation = "Average"
		}
	default:
		return nil, invalid("Invalid MetricAggregationType: %s.", p.Aggregation)
	}
	for _, st := range in.StepAdjustments {
		if st.ScalingAdjustment == nil {
			return nil, invalid("ScalingAdjustment must be specified for each step adjustment.")
		}
		p.Steps = append(p.Steps, scaling.Step{Lower: st.MetricIntervalLowerBound, Upper: st.MetricIntervalUpperBound, Adjustment: int(*st.ScalingAdjustment)})
	}
	if c := in.PredictiveScalingConfiguration; c != nil {
		var err error
		if p.Predictive, err = predictive(c); err != nil {
			return nil, err
		}
	}
	if t := in.TargetTrackingConfiguration; t != nil {
		p.Tracking = tracking(t)
	}
	out := &as.PolicyARNType{}
	return out, s.change(c, in.AutoScalingGroupName, "PutScalingPolicy", func(w *store.WriteTx, g scaling.Group) error {
		p.Group = g.Name
		p, err := s.Engine.PutPolicy(w, p)
		out.PolicyARN, out.Alarms = api.Ptr(p.ARN()), alarmsWire(p.Scope, p.AlarmNames)
		return err
	})
}

func tracking(t *as.TargetTrackingConfiguration) *scaling.Tracking {
	out := &scaling.Tracking{Target: api.Val(t.TargetValue), DisableScaleIn: api.Val(t.DisableScaleIn)}
	if m := t.PredefinedMetricSpecification; m != nil {
		out.Predefined, out.ResourceLabel = api.Val(m.PredefinedMetricType), api.Val(m.ResourceLabel)
	}
	if m := t.CustomizedMetricSpecification; m != nil {
		out.Namespace, out.MetricName, out.Statistic, out.Unit = api.Val(m.Namespace), api.Val(m.MetricName), api.Val(m.Statistic), api.Val(m.Unit)
		out.Period = int(api.Val(m.Period))
		for _, d := range m.Dimensions {
			out.Dimensions = append(out.Dimensions, scaling.Dimension{Name: api.Val(d.Name), Value: api.Val(d.Value)})
		}
		if len(m.Metrics) > 0 {
			out.Queries = document(m.Metrics)
		}
	}
	return out
}

func trackingWire(t *scaling.Tracking) *as.TargetTrackingConfiguration {
	if t == nil {
		return nil
	}
	out := &as.TargetTrackingConfiguration{TargetValue: &t.Target, DisableScaleIn: &t.DisableScaleIn}
	if t.Predefined != "" {
		out.PredefinedMetricSpecification = &as.PredefinedMetricSpecification{PredefinedMetricType: &t.Predefined, ResourceLabel: text(t.ResourceLabel)}
		return out
	}
	m := &as.CustomizedMetricSpecification{MetricName: text(t.MetricName), Namespace: text(t.Namespace), Statistic: text(t.Statistic), Unit: text(t.Unit)}
	if t.Period > 0 {
		m.Period = num(t.Period)
	}
	for _, d := range t.Dimensions {
		m.Dimensions = append(m.Dimensions, as.MetricDimension{Name: &d.Name, Value: &d.Value})
	}
	if len(t.Queries) > 0 && json.Unmarshal(t.Queries, &m.Metrics) != nil {
		m.Metrics = nil
	}
	out.CustomizedMetricSpecification = m
	return out
}

func alarmsWire(sc scope.Scope, names []string) []as.Alarm {
	out := []as.Alarm{}
	for _, n := range names {
		out = append(out, as.Alarm{AlarmName: &n, AlarmARN: api.Ptr(sc.ARN("cloudwatch", "alarm:"+n))})
	}
	return out
}

func (s *Server) describePolicies(c *api.Call, in *as.DescribePoliciesType) (*as.PoliciesType, error) {
	out := &as.PoliciesType{}
	return out, c.View(func(tx store.Tx) error {
		name := arnName(c.Scope(), api.Val(in.AutoScalingGroupName))
		if name != "" {
			if _, err := scaling.GetGroup(tx, c.Scope(), name); err != nil {
				return err
			}
		}
		var rows []scaling.Policy
		for p := range scaling.Policies.Prefix(tx, c.Scope().Prefix()) {
			if name != "" && p.Group != name || len(in.PolicyTypes) > 0 && !slices.Contains(in.PolicyTypes, p.Type) ||
				len(in.PolicyNames) > 0 && !slices.Contains(in.PolicyNames, p.Name) && !slices.Contains(in.PolicyNames, p.ARN()) {
				continue
			}
			rows = append(rows, p)
		}
		rows, next, err := page(rows, scaling.Policy.ARN, in.MaxRecords, in.NextToken, 50, 100)
		if err != nil {
			return err
		}
		out.NextToken = next
		for _, p := range rows {
			names := p.AlarmNames
			if s.Engine.Alarms != nil {
				for _, n := range s.Engine.Alarms.ByAction(tx, p.Scope, p.ARN()) {
					if !slices.Contains(names, n) {
						names = append(slices.Clone(names), n)
					}
				}
			}
			w := as.ScalingPolicy{AdjustmentType: text(p.AdjustmentType), Alarms: alarmsWire(p.Scope, names), AutoScalingGroupName: &p.Group, Cooldown: numPtr(p.Cooldown),
				Enabled: api.Ptr(p.Enabled), EstimatedInstanceWarmup: numPtr(p.Warmup), MetricAggregationType: text(p.Aggregation), MinAdjustmentMagnitude: numPtr(p.MinMagnitude),
				MinAdjustmentStep: numPtr(p.MinStep), PolicyARN: api.Ptr(p.ARN()), PolicyName: &p.Name, PolicyType: &p.Type, ScalingAdjustment: numPtr(p.Adjustment),
				StepAdjustments: []as.StepAdjustment{}, TargetTrackingConfiguration: trackingWire(p.Tracking), PredictiveScalingConfiguration: predictiveWire(p.Predictive)}
			for _, st := range p.Steps {
				w.StepAdjustments = append(w.StepAdjustments, as.StepAdjustment{MetricIntervalLowerBound: st.Lower, MetricIntervalUpperBound: st.Upper, ScalingAdjustment: num(st.Adjustment)})
			}
			out.ScalingPolicies = append(out.ScalingPolicies, w)
		}
		return nil
	})
}

// ofPolicy finds a policy and authorises the action on its group.
func (s *Server) ofPolicy(c *api.Call, tx store.Tx, group, name *string, action string) (scaling.Policy, error) {
	if err := required("PolicyName", name); err != nil {
		return scaling.Policy{}, err
	}
	p, err := scaling.FindPolicy(tx, c.Scope(), arnName(c.Scope(), api.Val(group)), *name)
	if err != nil {
		return p, err
	}
	g, err := scaling.GetGroup(tx, c.Scope(), p.Group)
	if err != nil {
		return p, err
	}
	return p, authorize(c, "autoscaling:"+action, g.ARN())
}

func (s *Server) deletePolicy(c *api.Call, in *as.DeletePolicyType) (*as.DeletePolicyOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		p, err := s.ofPolicy(c, w, in.AutoScalingGroupName, in.PolicyName, "DeletePolicy")
		if err != nil {
			return err
		}
		return s.Engine.DeletePolicy(w, c.Scope(), p.Group, p.Name)
	})
}

func (s *Server) executePolicy(c *api.Call, in *as.ExecutePolicyType) (*as.ExecutePolicyOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		p, err := s.ofPolicy(c, w, in.AutoScalingGroupName, in.PolicyName, "ExecutePolicy")
		if err != nil {
			return err
		}
		return s.Engine.Execute(w, c.Scope(), p.Group, p.Name, api.Val(in.HonorCooldown), in.MetricValue, in.BreachThreshold)
	})
}
