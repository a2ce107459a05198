package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"skerry/internal/scaling"
)

// The parts of the API's documents that the simulation reads, by the names that the CLI uses.
type groupDocument struct {
	AutoScalingGroupName  string
	MinSize, MaxSize      int
	DesiredCapacity       *int
	DefaultCooldown       *int
	DefaultInstanceWarmup *int
	AvailabilityZones     []string
	TerminationPolicies   []string
	SuspendedProcesses    []struct{ ProcessName string }
	MixedInstancesPolicy  *struct {
		LaunchTemplate struct {
			Overrides []struct{ WeightedCapacity string }
		}
	}
}

type policyDocument struct {
	PolicyName                  string
	PolicyType                  string
	AdjustmentType              string
	ScalingAdjustment           *int
	MinAdjustmentMagnitude      *int
	Cooldown                    *int
	EstimatedInstanceWarmup     *int
	Enabled                     *bool
	PolicyARN                   string
	StepAdjustments             []stepDocument
	TargetTrackingConfiguration *struct {
		PredefinedMetricSpecification *struct{ PredefinedMetricType, ResourceLabel string }
		CustomizedMetricSpecification *struct{ MetricName, Namespace, Statistic string }
		TargetValue                   float64
		DisableScaleIn                bool
	}
	Alarms []json.RawMessage
}

type stepDocument struct {
	MetricIntervalLowerBound, MetricIntervalUpperBound *float64
	ScalingAdjustment                                  int
}

type alarmDocument struct {
	AlarmName          string
	AlarmActions       []string
	MetricName         string
	Threshold          float64
	ComparisonOperator string
	Period             int
	EvaluationPeriods  int
	DatapointsToAlarm  int
}

type scheduleDocument struct {
	ScheduledActionName               string
	Recurrence, TimeZone              string
	StartTime, EndTime                *time.Time
	MinSize, MaxSize, DesiredCapacity *int
}

// ReadGroup reads a group, and its zones, from the CLI's JSON: what describe-auto-scaling-groups prints with one group in
// it, that group alone, or the input of create-auto-scaling-group. Members that the simulation has no use for are passed over.
func ReadGroup(doc []byte) (scaling.Group, []string, error) {
	var list struct{ AutoScalingGroups []groupDocument }
	var d groupDocument
	if err := json.Unmarshal(doc, &list); err != nil {
		return scaling.Group{}, nil, fmt.Errorf("reading the group: %w", err)
	}
	switch len(list.AutoScalingGroups) {
	case 0:
		if err := json.Unmarshal(doc, &d); err != nil {
			return scaling.Group{}, nil, fmt.Errorf("reading the group: %w", err)
		}
	case 1:
		d = list.AutoScalingGroups[0]
	default:
		return scaling.Group{}, nil, fmt.Errorf("the document holds %d groups; one is simulated", len(list.AutoScalingGroups))
	}
	if d.AutoScalingGroupName == "" || d.MaxSize == 0 {
		return scaling.Group{}, nil, fmt.Errorf("the document has no group with an AutoScalingGroupName and a MaxSize above 0")
	}
	g := scaling.Group{Name: d.AutoScalingGroupName, Min: d.MinSize, Max: d.MaxSize, Desired: d.MinSize, DefaultCooldown: 300, DefaultWarmup: d.DefaultInstanceWarmup,
		TerminationPolicies: d.TerminationPolicies}
	if d.DesiredCapacity != nil {
		g.Desired = *d.DesiredCapacity
	}
	if d.DefaultCooldown != nil {
		g.DefaultCooldown = *d.DefaultCooldown
	}
	for _, p := range d.SuspendedProcesses {
		g.Suspended = append(g.Suspended, scaling.Suspension{Process: p.ProcessName})
	}
	if m := d.MixedInstancesPolicy; m != nil {
		for _, o := range m.LaunchTemplate.Overrides {
			if o.WeightedCapacity != "" && o.WeightedCapacity != "1" {
				return g, nil, fmt.Errorf("weighted instance types are not simulated")
			}
		}
	}
	return g, d.AvailabilityZones, nil
}

// ReadCandidate reads a set of policies from the CLI's JSON: what describe-policies prints, the input of
// put-scaling-policy, or a list of such inputs. Beside ScalingPolicies there may be MetricAlarms (of describe-alarms),
// which invoke the step and simple policies that their AlarmActions name by ARN or by name, and
// ScheduledUpdateGroupActions.
func ReadCandidate(name string, doc []byte) (Candidate, error) {
	c := Candidate{Name: name}
	var all struct {
		ScalingPolicies             []policyDocument
		MetricAlarms                []alarmDocument
		ScheduledUpdateGroupActions []scheduleDocument
	}
	bad := func(err error) (Candidate, error) { return c, fmt.Errorf("reading the policies of %s: %w", name, err) }
	if trimmed := bytes.TrimSpace(doc); len(trimmed) > 0 && trimmed[0] == '[' {
		if err := json.Unmarshal(doc, &all.ScalingPolicies); err != nil {
			return bad(err)
		}
	} else {
		if err := json.Unmarshal(doc, &all); err != nil {
			return bad(err)
		}
		var one policyDocument
		if err := json.Unmarshal(doc, &one); err == nil && one.PolicyName != "" {
			all.ScalingPolicies = append(all.ScalingPolicies, one)
		}
	}
	for _, d := range all.ScalingPolicies {
		p, err := d.policy()
		if err != nil {
			return bad(err)
		}
		for _, a := range all.MetricAlarms {
			if p.Type != scaling.TargetTracking && slices.ContainsFunc(a.AlarmActions, func(arn string) bool {
				return arn == d.PolicyARN || arn == d.PolicyName || strings.HasSuffix(arn, ":policyName/"+d.PolicyName)
			}) {
				alarm, err := a.alarm()
				if err != nil {
					return bad(err)
				}
				p.Alarms = append(p.Alarms, alarm)
			}
		}
		if d.Enabled == nil || *d.Enabled {
			c.Policies = append(c.Policies, p)
		}
	}
	for _, d := range all.ScheduledUpdateGroupActions {
		a := scaling.Scheduled{Name: d.ScheduledActionName, Recurrence: d.Recurrence, TimeZone: d.TimeZone, Min: d.MinSize, Max: d.MaxSize, Desired: d.DesiredCapacity}
		if d.Recurrence == "" && d.StartTime == nil {
			return bad(fmt.Errorf("the scheduled action %s has neither a StartTime nor a Recurrence", d.ScheduledActionName))
		}
		if d.StartTime != nil && d.Recurrence == "" {
			a.Start = *d.StartTime
		}
		if d.EndTime != nil {
			a.End = *d.EndTime
		}
		c.Scheduled = append(c.Scheduled, a)
	}
	if len(c.Policies) == 0 && len(c.Scheduled) == 0 {
		return c, fmt.Errorf("%s holds no scaling policy and no scheduled action", name)
	}
	return c, nil
}

func (d policyDocument) policy() (Policy, error) {
	p := Policy{Policy: scaling.Policy{Name: d.PolicyName, Type: d.PolicyType, Enabled: true, AdjustmentType: d.AdjustmentType, Adjustment: d.ScalingAdjustment,
		MinMagnitude: d.MinAdjustmentMagnitude, Cooldown: d.Cooldown, Warmup: d.EstimatedInstanceWarmup}}
	if p.Type == "" {
		p.Type = scaling.SimpleScaling
	}
	for _, s := range d.StepAdjustments {
		p.Steps = append(p.Steps, scaling.Step{Lower: s.MetricIntervalLowerBound, Upper: s.MetricIntervalUpperBound, Adjustment: s.ScalingAdjustment})
	}
	if t := d.TargetTrackingConfiguration; t != nil {
		p.Tracking = &scaling.Tracking{Target: t.TargetValue, DisableScaleIn: t.DisableScaleIn}
		if m := t.PredefinedMetricSpecification; m != nil {
			p.Tracking.Predefined, p.Tracking.ResourceLabel = m.PredefinedMetricType, m.ResourceLabel
		}
		if m := t.CustomizedMetricSpecification; m != nil {
			p.Tracking.MetricName, p.Tracking.Namespace, p.Tracking.Statistic = m.MetricName, m.Namespace, m.Statistic
		}
		if p.Tracking.Predefined == "ALBRequestCountPerTarget" && p.Tracking.ResourceLabel == "" {
			p.Tracking.ResourceLabel = "app/simulated/0/targetgroup/simulated/0"
		}
	}
	if p.Name == "" {
		return p, fmt.Errorf("a policy has no PolicyName")
	}
	return p, nil
}

func (d alarmDocument) alarm() (Alarm, error) {
	a := Alarm{Name: d.AlarmName, Threshold: d.Threshold, Comparison: d.ComparisonOperator, Period: d.Period, Evaluations: d.EvaluationPeriods, Datapoint: d.DatapointsToAlarm}
	switch d.MetricName {
	case "CPUUtilization":
	case "RequestCountPerTarget":
		a.Metric = RequestsPerTarget
	default:
		return a, fmt.Errorf("the alarm %s is on the metric %s; CPUUtilization and RequestCountPerTarget are simulated", d.AlarmName, d.MetricName)
	}
	return a, nil
}
