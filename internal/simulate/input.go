package simulate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	VPCZoneIdentifier     string
	TerminationPolicies   []string
	SuspendedProcesses    []struct{ ProcessName string }
	MaxInstanceLifetime   *int
	DesiredCapacityType   string
	CapacityRebalance     bool
	MixedInstancesPolicy  *mixedDocument
	WarmPoolConfiguration *warmDocument

	NewInstancesProtectedFromScaleIn bool
	AvailabilityZoneDistribution     struct{ CapacityDistributionStrategy string }
}

type mixedDocument struct {
	LaunchTemplate struct {
		Overrides []struct {
			InstanceType, WeightedCapacity string
			InstanceRequirements           json.RawMessage
		}
	}
	InstancesDistribution *struct {
		OnDemandAllocationStrategy, SpotAllocationStrategy, SpotMaxPrice             string
		OnDemandBaseCapacity, OnDemandPercentageAboveBaseCapacity, SpotInstancePools *int
	}
}

type warmDocument struct {
	MaxGroupPreparedCapacity *int
	MinSize                  int
	PoolState                string
	InstanceReusePolicy      struct{ ReuseOnScaleIn bool }
}

type policyDocument struct {
	PolicyName                  string
	PolicyType                  string
	AdjustmentType              string
	MetricAggregationType       string
	ScalingAdjustment           *int
	MinAdjustmentMagnitude      *int
	Cooldown                    *int
	EstimatedInstanceWarmup     *int
	Enabled                     *bool
	PolicyARN                   string
	StepAdjustments             []stepDocument
	TargetTrackingConfiguration *struct {
		PredefinedMetricSpecification *struct{ PredefinedMetricType, ResourceLabel string }
		CustomizedMetricSpecification *struct {
			MetricName, Namespace, Statistic string
			Period                           int
			Metrics                          json.RawMessage
		}
		TargetValue    float64
		DisableScaleIn bool
	}
	PredictiveScalingConfiguration *predictiveDocument
	Alarms                         []json.RawMessage
}

type predictiveDocument struct {
	MetricSpecifications []struct {
		TargetValue                                                             float64
		PredefinedMetricPairSpecification                                       *predefinedDocument
		PredefinedLoadMetricSpecification, PredefinedScalingMetricSpecification *predefinedDocument
	}
	Mode, MaxCapacityBreachBehavior string
	SchedulingBufferTime            *int
	MaxCapacityBuffer               int
}

type predefinedDocument struct{ PredefinedMetricType, ResourceLabel string }

type stepDocument struct {
	MetricIntervalLowerBound, MetricIntervalUpperBound *float64
	ScalingAdjustment                                  int
}

type alarmDocument struct {
	AlarmName          string
	AlarmActions       []string
	MetricName         string
	Statistic          string
	ExtendedStatistic  string
	TreatMissingData   string
	Threshold          float64
	ComparisonOperator string
	Period             int
	EvaluationPeriods  int
	DatapointsToAlarm  int
	Metrics            json.RawMessage
}

type scheduleDocument struct {
	ScheduledActionName               string
	Recurrence, TimeZone              string
	StartTime, EndTime                *time.Time
	MinSize, MaxSize, DesiredCapacity *int
}

// ErrNoPolicies says that a document holds nothing that makes a candidate.
var ErrNoPolicies = errors.New("there is no scaling policy, scheduled action or warm pool")

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
	g.MaxInstanceLifetime, g.DesiredCapacityType, g.CapacityRebalance, g.ProtectNew = d.MaxInstanceLifetime, d.DesiredCapacityType, d.CapacityRebalance, d.NewInstancesProtectedFromScaleIn
	g.BalancedOnly = d.AvailabilityZoneDistribution.CapacityDistributionStrategy == "balanced-only"
	var err error
	if d.MixedInstancesPolicy != nil {
		if g.Mixed, err = d.MixedInstancesPolicy.mixed(); err != nil {
			return g, nil, err
		}
	}
	if g.Warm, err = d.WarmPoolConfiguration.pool(); err != nil {
		return g, nil, err
	}
	zones := d.AvailabilityZones
	if len(zones) == 0 && d.VPCZoneIdentifier != "" { // which zones they are in is not said: each its own
		for _, s := range strings.Split(d.VPCZoneIdentifier, ",") {
			zones = append(zones, strings.TrimSpace(s))
		}
	}
	return g, zones, nil
}

func (d *mixedDocument) mixed() (*scaling.Mixed, error) {
	m := &scaling.Mixed{}
	onDemand := scaling.Prioritized
	for _, o := range d.LaunchTemplate.Overrides {
		v := scaling.Override{InstanceType: o.InstanceType, Requirements: o.InstanceRequirements}
		if len(o.InstanceRequirements) > 0 {
			onDemand = scaling.LowestPrice
		}
		if o.WeightedCapacity != "" {
			n, err := strconv.Atoi(o.WeightedCapacity)
			if err != nil || n < 1 || n > 999 {
				return nil, fmt.Errorf("the WeightedCapacity %q is no number between 1 and 999", o.WeightedCapacity)
			}
			v.Weight = n
		}
		m.Overrides = append(m.Overrides, v)
	}
	i := d.InstancesDistribution
	if i == nil {
		if onDemand == scaling.LowestPrice {
			m.Distribution = &scaling.Distribution{OnDemand: onDemand, Percent: 100, Spot: scaling.LowestPrice, Pools: 2}
		}
		return m, nil
	}
	m.Distribution = &scaling.Distribution{OnDemand: cmp.Or(i.OnDemandAllocationStrategy, onDemand), Spot: cmp.Or(i.SpotAllocationStrategy, scaling.LowestPrice),
		Base: or(i.OnDemandBaseCapacity, 0), Percent: or(i.OnDemandPercentageAboveBaseCapacity, 100), MaxPrice: i.SpotMaxPrice}
	if m.Distribution.Spot == scaling.LowestPrice {
		m.Distribution.Pools = or(i.SpotInstancePools, 2)
	}
	return m, nil
}

func (d *warmDocument) pool() (*scaling.WarmPool, error) {
	if d == nil {
		return nil, nil
	}
	p := &scaling.WarmPool{State: cmp.Or(d.PoolState, "Stopped"), Min: d.MinSize, Prepared: d.MaxGroupPreparedCapacity, Reuse: d.InstanceReusePolicy.ReuseOnScaleIn}
	if p.Prepared != nil && *p.Prepared < 0 { // -1: up to the group's greatest size
		p.Prepared = nil
	}
	if p.State != "Stopped" && p.State != "Running" {
		return nil, fmt.Errorf("a warm pool in the state %s is not simulated; Stopped and Running are", p.State)
	}
	return p, nil
}

func or(p *int, def int) int {
	if p == nil {
		return def
	}
	return *p
}

// ReadCandidate reads a set of policies from the CLI's JSON: what describe-policies prints, the input of
// put-scaling-policy, or a list of such inputs. Beside ScalingPolicies there may be MetricAlarms (of describe-alarms),
// which invoke the step and simple policies that their AlarmActions name by ARN or by name, ScheduledUpdateGroupActions,
// and the WarmPoolConfiguration that describe-warm-pool prints, for the group's.
func ReadCandidate(name string, doc []byte) (Candidate, error) {
	c := Candidate{Name: name}
	var all struct {
		ScalingPolicies             []policyDocument
		MetricAlarms                []alarmDocument
		ScheduledUpdateGroupActions []scheduleDocument
		WarmPoolConfiguration       *warmDocument
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
			if (p.Type == scaling.StepScaling || p.Type == scaling.SimpleScaling) && slices.ContainsFunc(a.AlarmActions, func(arn string) bool {
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
	var err error
	if c.Warm, err = all.WarmPoolConfiguration.pool(); err != nil {
		return bad(err)
	}
	if len(c.Policies) == 0 && len(c.Scheduled) == 0 && c.Warm == nil {
		return c, fmt.Errorf("%w: %s", ErrNoPolicies, name)
	}
	return c, nil
}

func (d policyDocument) policy() (Policy, error) {
	p := Policy{Policy: scaling.Policy{Name: d.PolicyName, Type: d.PolicyType, Enabled: true, AdjustmentType: d.AdjustmentType, Aggregation: d.MetricAggregationType, Adjustment: d.ScalingAdjustment,
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
			p.Tracking.MetricName, p.Tracking.Namespace, p.Tracking.Statistic, p.Tracking.Period = m.MetricName, m.Namespace, m.Statistic, m.Period
			if given(m.Metrics) {
				p.Tracking.Queries = m.Metrics
			}
		}
		if p.Tracking.Predefined == "ALBRequestCountPerTarget" && p.Tracking.ResourceLabel == "" {
			p.Tracking.ResourceLabel = simulatedLabel
		}
	}
	if c := d.PredictiveScalingConfiguration; c != nil {
		var err error
		if p.Predictive, err = c.predictive(); err != nil {
			return p, fmt.Errorf("policy %s: %w", d.PolicyName, err)
		}
	}
	if p.Type == scaling.TargetTracking || p.Type == scaling.PredictiveScaling { // describe-policies prints what has no meaning for them
		p.AdjustmentType, p.Adjustment, p.MinMagnitude, p.Cooldown = "", nil, nil, nil
	} else if p.Type == scaling.StepScaling {
		p.Cooldown = nil
	}
	if p.Name == "" {
		return p, fmt.Errorf("a policy has no PolicyName")
	}
	return p, nil
}

// The load metric of each predefined pair, and its scaling metric.
var predefinedPairs = map[string][2]string{"ASGCPUUtilization": {"ASGTotalCPUUtilization", "ASGAverageCPUUtilization"}, "ASGNetworkIn": {"ASGTotalNetworkIn", "ASGAverageNetworkIn"},
	"ASGNetworkOut": {"ASGTotalNetworkOut", "ASGAverageNetworkOut"}, "ALBRequestCount": {"ALBTargetGroupRequestCount", "ALBRequestCountPerTarget"}}

func (d *predictiveDocument) predictive() (*scaling.Predictive, error) {
	if len(d.MetricSpecifications) != 1 {
		return nil, fmt.Errorf("MetricSpecifications must contain exactly one metric specification")
	}
	m := d.MetricSpecifications[0]
	p := &scaling.Predictive{Target: m.TargetValue, Scale: d.Mode == "ForecastAndScale", Buffer: or(d.SchedulingBufferTime, 300),
		IncreaseMax: d.MaxCapacityBreachBehavior == "IncreaseMaxCapacity", MaxBuffer: d.MaxCapacityBuffer}
	if pair := m.PredefinedMetricPairSpecification; pair != nil {
		x := predefinedPairs[pair.PredefinedMetricType]
		p.Load, p.Scaling, p.ResourceLabel = x[0], x[1], pair.ResourceLabel
	} else if load, scale := m.PredefinedLoadMetricSpecification, m.PredefinedScalingMetricSpecification; load != nil && scale != nil {
		p.Load, p.Scaling, p.ResourceLabel = load.PredefinedMetricType, scale.PredefinedMetricType, load.ResourceLabel
	} else {
		return nil, fmt.Errorf("predictive scaling is simulated with predefined metrics only")
	}
	if p.Load == "ALBTargetGroupRequestCount" && p.ResourceLabel == "" {
		p.ResourceLabel = simulatedLabel
	}
	return p, nil
}

// given tells whether a document has a list that is not empty.
func given(list json.RawMessage) bool {
	var l []json.RawMessage
	return json.Unmarshal(list, &l) == nil && len(l) > 0
}

func (d alarmDocument) alarm() (Alarm, error) {
	a := Alarm{Name: d.AlarmName, MetricName: d.MetricName, Statistic: cmp.Or(d.Statistic, d.ExtendedStatistic), Threshold: d.Threshold, Comparison: d.ComparisonOperator, Period: d.Period,
		Evaluations: d.EvaluationPeriods, Datapoint: d.DatapointsToAlarm, Missing: d.TreatMissingData}
	switch {
	case given(d.Metrics):
		var list []struct{ MetricStat *struct{ Period int } }
		if err := json.Unmarshal(d.Metrics, &list); err != nil {
			return a, fmt.Errorf("the Metrics of the alarm %s: %w", d.AlarmName, err)
		}
		a.Queries = d.Metrics
		for _, q := range list {
			if q.MetricStat != nil {
				a.Period = max(a.Period, q.MetricStat.Period)
			}
		}
	case d.MetricName == "":
		return a, fmt.Errorf("the alarm %s has neither a MetricName nor Metrics", d.AlarmName)
	}
	return a, nil
}
