package scaling

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

const maxSteps = 20

// Alarm is an alarm that invokes a policy, as far as the policy and its activities use it.
type Alarm struct {
	Name, ARN   string
	Description string
	State       string
	OldState    string
	Value       float64 // the metric, aggregated over the newest period
	HasValue    bool    // false when the metric is missing
	Recent      Recent  // of the periods that the alarm judged
	Threshold   float64
	// Trigger is what the activities' details repeat of the alarm's configuration.
	Namespace, MetricName, Statistic, Comparison string
	Period, Evaluations                          int
	Dimensions                                   []Dimension
	ChangedAt                                    time.Time
}

// Recent sums up the periods that an alarm judged; N is how many have a value.
type Recent struct {
	N                         int
	Average, Minimum, Maximum float64
}

// of is what a step policy looks at: its aggregation of the periods, or the newest value where they are not known.
func (r Recent) of(aggregation string, newest float64) float64 {
	switch {
	case r.N == 0:
		return newest
	case aggregation == "Minimum":
		return r.Minimum
	case aggregation == "Maximum":
		return r.Maximum
	}
	return r.Average
}

// Shrink is a scale-in by a policy. Until its time others that want one too count as simultaneous.
type Shrink struct {
	By    string
	From  int
	Until time.Time
}

// details is the form of InvokingAlarms in an activity's details.
func (a Alarm) details() json.RawMessage {
	type trigger struct {
		MetricName         string      `json:"MetricName,omitempty"`
		Namespace          string      `json:"Namespace,omitempty"`
		Statistic          string      `json:"Statistic,omitempty"`
		Dimensions         []Dimension `json:"Dimensions,omitempty"`
		Period             int         `json:"Period"`
		EvaluationPeriods  int         `json:"EvaluationPeriods"`
		ComparisonOperator string      `json:"ComparisonOperator"`
		Threshold          float64     `json:"Threshold"`
	}
	b, err := json.Marshal([]any{struct {
		ARN             string  `json:"AlarmArn"`
		Name            string  `json:"AlarmName"`
		Description     string  `json:"AlarmDescription,omitempty"`
		Trigger         trigger `json:"Trigger"`
		New             string  `json:"NewStateValue"`
		Old             string  `json:"OldStateValue"`
		StateChangeTime int64   `json:"StateChangeTime"`
	}{a.ARN, a.Name, a.Description, trigger{a.MetricName, a.Namespace, strings.ToUpper(a.Statistic), a.Dimensions, a.Period, a.Evaluations, a.Comparison, a.Threshold},
		a.State, a.OldState, a.ChangedAt.UnixMilli()}})
	if err != nil {
		return nil
	}
	return b
}

// IsPolicyARN tells whether an alarm's action is a scaling policy.
func IsPolicyARN(arn string) bool {
	return strings.HasPrefix(arn, "arn:aws:autoscaling:") && strings.Contains(arn, ":scalingPolicy:")
}

// Warmup is how long a new member does not count for a policy.
func (e *Engine) Warmup(g Group, p *Policy) time.Duration {
	switch {
	case p != nil && p.Warmup != nil:
		return e.scaled(*p.Warmup)
	case g.DefaultWarmup != nil:
		return e.scaled(*g.DefaultWarmup)
	}
	return e.scaled(g.DefaultCooldown)
}

// capacity is what a policy's arithmetic sees of a group now.
func (e *Engine) capacity(tx store.Tx, g Group, warm time.Duration) Capacity {
	c := Capacity{Min: e.floor(tx, g), Max: g.Max, Desired: g.Desired}
	now := tx.Now()
	for _, m := range MembersOf(tx, g) {
		c.Add(&m, now, warm)
	}
	return c.Of(g)
}

// Add counts a member, for a policy whose warm-up is warm.
func (c *Capacity) Add(m *Member, now time.Time, warm time.Duration) {
	n := max(1, m.Weight)
	switch m.State {
	case InService:
		if now.Before(m.InServiceAt.Add(warm)) {
			c.Warming += n
		} else {
			c.InService += n
		}
	case Pending, PendingWait, PendingProceed:
		c.Warming += n
		c.Busy = true
	case Terminating:
		c.Busy = c.Busy || !m.Ending
	}
}

// Of completes what was counted: what is missing of the group's desired capacity.
func (c Capacity) Of(g Group) Capacity {
	missing := g.Desired - c.InService - c.Warming
	c.Busy = c.Busy || missing != 0
	if len(g.Backoff) == 0 && !g.SuspendedProcess(ProcLaunch) { // else nobody knows when they come
		c.Missing = max(0, missing)
	}
	return c
}

// Warm tells whether an instance counts in its group's aggregated metrics: it is in service, and its warm-up is over. An
// instance that is in no group counts.
func (e *Engine) Warm(tx store.Tx, s scope.Scope, instanceID string) bool {
	m, ok := Members.Get(tx, s.Key(instanceID))
	if !ok {
		return true
	}
	if m.State != InService {
		return false
	}
	g, ok := Groups.Get(tx, s.Key(m.Group))
	if !ok {
		return true
	}
	warm := time.Duration(0)
	if g.DefaultWarmup != nil {
		warm = e.scaled(*g.DefaultWarmup)
	}
	for _, p := range of(tx, Policies, s, g.Name) {
		if (p.Type == TargetTracking || p.Type == StepScaling) && p.Warmup != nil {
			warm = max(warm, e.scaled(*p.Warmup))
		}
	}
	return !tx.Now().Before(m.InServiceAt.Add(warm))
}

// OnAlarm lets an alarm invoke a policy. CloudWatch calls it when the alarm goes to a state that has the policy among its
// actions, and every minute while it stays there. A policy or group that is gone is a success.
func (e *Engine) OnAlarm(w *store.WriteTx, policyARN string, a Alarm) error {
	for p := range Policies.By(w, "arn", policyARN) {
		g, ok := Groups.Get(w, p.Key(p.Group))
		if !ok || g.Deleting || !p.Enabled || g.SuspendedProcess(ProcAlarmNotification) {
			return nil
		}
		n, change := e.judgePolicy(w, g, p, a)
		if !change {
			return nil
		}
		g.reason(w, fmt.Sprintf("a monitor alarm %s in state %s triggered policy %s changing the desired capacity from %d to %d.", a.Name, a.State, p.Name, g.Desired, n))
		g.Alarms = a.details()
		e.apply(w, g, p, n)
		return nil
	}
	return nil
}

func (e *Engine) judgePolicy(tx store.Tx, g Group, p Policy, a Alarm) (int, bool) {
	c := e.capacity(tx, g, e.Warmup(g, &p))
	return Propose(g, p, c, a, tx.Now(), func() (int, bool) { return e.agreed(tx, g, p) })
}

// Propose is the desired capacity that a policy wants when an alarm invokes it, and whether that is a change.
// agreed tells whether every other target tracking policy of the group would scale in too, and the most capacity that one of
// them leaves. Of policies that scale in at the same time, the one that leaves the most capacity has its way. Pure.
func Propose(g Group, p Policy, c Capacity, a Alarm, now time.Time, agreed func() (int, bool)) (int, bool) {
	s := g.Shrank
	if s == nil || s.By == p.Name || !now.Before(s.Until) || s.From <= c.Desired {
		return propose(g, p, c, a, now, agreed)
	}
	before := c
	before.Desired = s.From
	before.InService = max(c.InService, min(s.From, c.InService+s.From-c.Desired))
	g.HoldIn = time.Time{} // it is the same look
	n, change := propose(g, p, before, a, now, agreed)
	if !change {
		return 0, false
	}
	n = max(n, c.Desired)
	return n, n != c.Desired
}

func propose(g Group, p Policy, c Capacity, a Alarm, now time.Time, agreed func() (int, bool)) (int, bool) {
	if p.Type != SimpleScaling && !a.HasValue {
		return 0, false // how much depends on the metric, and it is missing
	}
	switch p.Type {
	case StepScaling:
		return step(c, p, a.Recent.of(p.Aggregation, a.Value)-a.Threshold)
	case PredictiveScaling:
		return 0, false
	case TargetTracking:
		t := p.Tracking
		if strings.HasPrefix(a.Name, alarmPrefix(p)+"AlarmHigh-") || a.Value > t.Target {
			return trackOut(c, a.Value, t.Target)
		}
		if t.DisableScaleIn || now.Before(g.HoldIn) {
			return 0, false
		}
		least, ok := agreed()
		n, change := trackIn(c, a.Value, t.Target)
		if n = max(n, least); !ok || !change || n >= c.Desired {
			return 0, false
		}
		return n, true
	}
	if g.Cooling > 0 || now.Before(g.CoolTill) {
		return 0, false
	}
	return simple(c, p)
}

// agreed tells whether every other target tracking policy that may scale in wants to, and the most capacity that one of them
// leaves: one that wants to keep the group keeps it.
func (e *Engine) agreed(tx store.Tx, g Group, p Policy) (most int, agreed bool) {
	for _, o := range of(tx, Policies, g.Scope, g.Name) {
		if o.Name == p.Name || o.Type != TargetTracking || !o.Enabled || o.Tracking.DisableScaleIn {
			continue
		}
		for _, name := range o.AlarmNames {
			if !strings.Contains(name, "-AlarmLow-") {
				continue
			}
			v, known := e.Alarms.Value(tx, g.Scope, name)
			n, in := o.Agrees(e.capacity(tx, g, e.Warmup(g, &o)), Alarm{State: e.Alarms.State(tx, g.Scope, name), Value: v, HasValue: known})
			if !in {
				return 0, false
			}
			most = max(most, n)
		}
	}
	return most, true
}

// Agrees tells whether a target tracking policy whose alarm for scaling in is low wants to, and what it leaves. Pure.
func (p Policy) Agrees(c Capacity, low Alarm) (int, bool) {
	if low.State != "ALARM" || !low.HasValue {
		return 0, false
	}
	return trackIn(c, low.Value, p.Tracking.Target)
}

// apply writes what a policy wants.
func (e *Engine) apply(w *store.WriteTx, g Group, p Policy, n int) {
	Groups.Put(w, e.Follow(g, p, n, w.Now()))
}

// Follow is the group with the desired capacity that a policy wants. A simple policy's cooldown begins when the group has
// got there.
func (e *Engine) Follow(g Group, p Policy, n int, now time.Time) Group {
	if p.Type == TargetTracking && n < g.Desired { // the next look must see what this one did
		// All the high alarm's periods; half of one is left for the evaluation that comes a moment early.
		g.HoldIn = now.Add(e.scaled(trackPeriod*highPeriods - trackPeriod/2))
	}
	switch s := g.Shrank; {
	case s != nil && now.Before(s.Until) && n < s.From: // at the same time as another, and in its place
		g.Shrank = &Shrink{p.Name, s.From, s.Until}
	case n < g.Desired:
		g.Shrank = &Shrink{p.Name, g.Desired, now.Add(e.scaled(trackPeriod / 2))}
	default:
		g.Shrank = nil
	}
	g.Desired = n
	if p.Type == SimpleScaling {
		g.Cooling = deref(p.Cooldown, g.DefaultCooldown)
	}
	return g
}

// Execute is ExecutePolicy.
func (e *Engine) Execute(w *store.WriteTx, s scope.Scope, group, policy string, honorCooldown bool, value, threshold *float64) error {
	p, err := FindPolicy(w, s, group, policy)
	if err != nil {
		return err
	}
	g, err := openGroup(w, s, p.Group)
	if err != nil {
		return err
	}
	if p.Type == TargetTracking || p.Type == PredictiveScaling {
		return invalid("Policy %s of type %s cannot be executed.", p.Name, p.Type)
	}
	var n int
	var change bool
	c := e.capacity(w, g, e.Warmup(g, &p))
	switch {
	case p.Type == StepScaling:
		if value == nil || threshold == nil {
			return invalid("MetricValue and BreachThreshold must be given for a policy of type StepScaling.")
		}
		if _, ok := pickStep(p.Steps, *value-*threshold); !ok {
			return invalid("No step adjustment found for the metric value %v and breach threshold %v.", *value, *threshold)
		}
		n, change = step(c, p, *value-*threshold)
	default:
		if value != nil || threshold != nil {
			return invalid("MetricValue and BreachThreshold may be given for a policy of type StepScaling only.")
		}
		if honorCooldown && (g.Cooling > 0 || w.Now().Before(g.CoolTill)) {
			return fault.New(fault.State, "ScalingActivityInProgress", "Scaling activity %s is in progress and blocks this request", latestActivity(w, g))
		}
		c.Busy = c.Busy && honorCooldown
		n, change = simple(c, p)
	}
	if change {
		g.reason(w, fmt.Sprintf("a user request executed policy %s changing the desired capacity from %d to %d.", p.Name, g.Desired, n))
		e.apply(w, g, p, n)
	}
	return nil
}

// FindPolicy finds a policy by its ARN, or by its name in a group.
func FindPolicy(tx store.Tx, s scope.Scope, group, policy string) (Policy, error) {
	if IsPolicyARN(policy) {
		for p := range Policies.By(tx, "arn", policy) {
			if p.Scope == s && (group == "" || group == p.Group) {
				return p, nil
			}
		}
		return Policy{}, fault.New(fault.NotFound, "ValidationError", "PolicyARN %s not found", policy)
	}
	if group == "" {
		return Policy{}, invalid("The AutoScalingGroupName must be given with a policy's name.")
	}
	g, err := GetGroup(tx, s, group)
	if err != nil {
		return Policy{}, err
	}
	if p, ok := Policies.Get(tx, s.Key(g.Name+":"+policy)); ok {
		return p, nil
	}
	return Policy{}, fault.New(fault.NotFound, "ValidationError", "Policy %s not found for Auto Scaling group %s", policy, g.Name)
}

// PutPolicy makes or replaces a policy. Target tracking gets its alarms.
func (e *Engine) PutPolicy(w *store.WriteTx, p Policy) (Policy, error) {
	g, err := openGroup(w, p.Scope, p.Group)
	if err != nil {
		return p, err
	}
	p.Group = g.Name
	if p.Name == "" || len(p.Name) > 255 || strings.Contains(p.Name, ":") {
		return p, invalid("Policy name must be between 1 and 255 characters long and hold no colon.")
	}
	if p.Type != SimpleScaling && p.Cooldown != nil && *p.Cooldown == 0 {
		p.Cooldown = nil // clients send 0 for "none"; Terraform does with every change
	}
	if err := p.check(e, g); err != nil {
		return p, err
	}
	old, exists := Policies.Get(w, p.Key(p.Group+":"+p.Name))
	if !exists && len(of(w, Policies, p.Scope, p.Group)) >= MaxPolicies {
		return p, fault.New(fault.Limit, "LimitExceeded", "A group may have up to %d scaling policies.", MaxPolicies)
	}
	p.UUID = newUUID(w.Rand())
	var stale []string
	if exists {
		p.UUID, p.AlarmNames, stale = old.UUID, old.AlarmNames, old.AlarmNames
	}
	var specs []AlarmSpec
	if p.Type == TargetTracking {
		specs = p.TrackingAlarms(func() string { return newUUID(w.Rand()) })
	}
	p.AlarmNames = nil
	for _, a := range specs {
		p.AlarmNames = append(p.AlarmNames, a.Name)
		if err := e.Alarms.Put(w, p.Scope, a); err != nil {
			return p, err
		}
	}
	stale = slices.DeleteFunc(slices.Clone(stale), func(n string) bool { return slices.Contains(p.AlarmNames, n) })
	if len(stale) > 0 {
		if err := e.Alarms.Delete(w, p.Scope, stale); err != nil {
			return p, err
		}
	}
	Forecasts.Delete(w, p.Key(p.Group+":"+p.Name)) // of other settings
	Policies.Put(w, p)
	return p, nil
}

func alarmPrefix(p Policy) string { return "TargetTracking-" + p.Group + "-" }

// Counts of the alarms that target tracking makes: periods of 60 s.
const (
	trackPeriod = 60
	highPeriods = 3
	lowPeriods  = 15
)

// TrackingAlarms are the alarms that a target tracking policy acts through. Names that it has already are kept, others end
// in an id from newID.
func (p Policy) TrackingAlarms(newID func() string) []AlarmSpec {
	t := p.Tracking
	base := AlarmSpec{Description: "DO NOT EDIT OR DELETE. For TargetTrackingScaling policy " + p.ARN() + ".", Action: p.ARN(), Period: trackPeriod,
		Statistic: "Average"}
	group := []Dimension{{"AutoScalingGroupName", p.Group}}
	switch t.Predefined {
	case "ASGAverageCPUUtilization":
		base.Namespace, base.MetricName, base.Dimensions = "AWS/EC2", "CPUUtilization", group
	case "ASGAverageNetworkIn":
		base.Namespace, base.MetricName, base.Dimensions = "AWS/EC2", "NetworkIn", group
	case "ASGAverageNetworkOut":
		base.Namespace, base.MetricName, base.Dimensions = "AWS/EC2", "NetworkOut", group
	case "ALBRequestCountPerTarget":
		lb, tg, _ := splitLabel(t.ResourceLabel)
		base.Namespace, base.MetricName, base.Statistic = "AWS/ApplicationELB", "RequestCountPerTarget", "Sum"
		base.Dimensions = []Dimension{{"TargetGroup", tg}, {"LoadBalancer", lb}}
	default:
		if len(t.Queries) > 0 {
			one, queries, period, err := t.math()
			if err == nil && queries != nil { // it was checked
				base.Queries, base.Period, base.Statistic = queries, period, ""
				break
			}
			t = &one
		}
		base.Namespace, base.MetricName, base.Dimensions, base.Statistic, base.Unit = t.Namespace, t.MetricName, t.Dimensions, t.Statistic, t.Unit
		if t.Period > 0 {
			base.Period = t.Period
		}
	}
	name := func(kind string) string {
		for _, n := range p.AlarmNames {
			if strings.Contains(n, kind) {
				return n
			}
		}
		return alarmPrefix(p) + kind + newID()
	}
	high := base
	high.Name, high.Threshold, high.Comparison, high.Evaluations = name("AlarmHigh-"), t.Target, "GreaterThanThreshold", highPeriods
	out := []AlarmSpec{high}
	if !t.DisableScaleIn {
		low := base
		low.Name, low.Threshold, low.Comparison, low.Evaluations = name("AlarmLow-"), lowThreshold(t.Target), "LessThanThreshold", lowPeriods
		out = append(out, low)
	}
	return out
}

// math reads Metrics: one metric alone becomes the policy's metric; metric math is given back as queries, all of one period.
func (t Tracking) math() (one Tracking, queries json.RawMessage, period int, err error) {
	var qs []map[string]json.RawMessage
	type metricStat struct {
		Metric *struct {
			Namespace, MetricName string
			Dimensions            []Dimension `json:",omitempty"`
		}
		Stat   string
		Unit   string `json:",omitempty"`
		Period int
	}
	if json.Unmarshal(t.Queries, &qs) != nil || len(qs) == 0 {
		return t, nil, 0, invalid("Metrics of a CustomizedMetricSpecification cannot be read.")
	}
	period = trackPeriod
	for _, q := range qs {
		var p int
		json.Unmarshal(q["Period"], &p) // absent is none
		var m *metricStat
		if json.Unmarshal(q["MetricStat"], &m); m != nil {
			p = max(p, m.Period)
		}
		if p > 0 {
			period = p
		}
	}
	for _, q := range qs {
		var m *metricStat
		if json.Unmarshal(q["MetricStat"], &m); m == nil {
			continue
		}
		if m.Metric == nil || m.Metric.Namespace == "" || m.Metric.MetricName == "" || m.Stat == "" {
			return t, nil, 0, invalid("A MetricStat must contain a Metric with a Namespace and a MetricName, and a Stat.")
		}
		if len(qs) == 1 {
			t.Namespace, t.MetricName, t.Dimensions = m.Metric.Namespace, m.Metric.MetricName, m.Metric.Dimensions
			t.Statistic, t.Unit, t.Period = m.Stat, m.Unit, period
			return t, nil, period, nil
		}
		m.Period = period
		b, err := json.Marshal(m)
		if err != nil {
			return t, nil, 0, err
		}
		q["MetricStat"] = b
	}
	for _, q := range qs {
		delete(q, "Period")
	}
	queries, err = json.Marshal(qs)
	return t, queries, period, err
}

// splitLabel splits app/NAME/ID/targetgroup/NAME/ID.
func splitLabel(label string) (lb, tg string, ok bool) {
	i := strings.Index(label, "/targetgroup/")
	if i < 0 || !strings.HasPrefix(label, "app/") {
		return "", "", false
	}
	return label[:i], label[i+1:], strings.Count(label, "/") == 5
}

// CheckPolicy refuses a policy that a group can't have.
func (e *Engine) CheckPolicy(p Policy, g Group) error { return p.check(e, g) }

func (p Policy) check(e *Engine, g Group) error {
	switch p.Type {
	case SimpleScaling, StepScaling:
		switch p.AdjustmentType {
		case ChangeInCapacity, ExactCapacity, PercentChangeInCapacity:
		case "":
			return invalid("AdjustmentType must be specified for policy type %s.", p.Type)
		default:
			return invalid("Invalid AdjustmentType: %s.", p.AdjustmentType)
		}
		if p.MinMagnitude != nil && p.AdjustmentType != PercentChangeInCapacity {
			return invalid("MinAdjustmentMagnitude is only supported with the adjustment type PercentChangeInCapacity.")
		}
		if p.Tracking != nil {
			return invalid("TargetTrackingConfiguration cannot be specified for policy type %s.", p.Type)
		}
		if p.Type == SimpleScaling {
			return p.checkSimple()
		}
		return p.checkSteps()
	case TargetTracking:
		return p.checkTracking(e, g)
	case PredictiveScaling:
		return p.checkPredictive(e, g)
	}
	return invalid("Invalid PolicyType: %s.", p.Type)
}

func (p Policy) checkSimple() error {
	switch {
	case p.Adjustment == nil:
		return invalid("ScalingAdjustment must be specified for policy type SimpleScaling.")
	case len(p.Steps) > 0:
		return invalid("StepAdjustments cannot be specified for policy type SimpleScaling.")
	case p.AdjustmentType == ExactCapacity && *p.Adjustment < 0:
		return invalid("ScalingAdjustment must not be negative for the adjustment type ExactCapacity.")
	case p.Cooldown != nil && *p.Cooldown < 0:
		return invalid("Cooldown must not be negative.")
	}
	return nil
}

// checkSteps wants the steps' intervals to touch one another, without overlap or gap.
func (p Policy) checkSteps() error {
	switch {
	case p.Adjustment != nil:
		return invalid("ScalingAdjustment cannot be specified for policy type StepScaling.")
	case p.Cooldown != nil:
		return invalid("Cooldown cannot be specified for policy type StepScaling.")
	case len(p.Steps) == 0:
		return invalid("StepAdjustments must be specified for policy type StepScaling.")
	case len(p.Steps) > maxSteps:
		return fault.New(fault.Limit, "LimitExceeded", "A policy may have up to %d step adjustments.", maxSteps)
	}
	type interval struct{ low, high float64 }
	var list []interval
	for _, s := range p.Steps {
		i := interval{deref(s.Lower, math.Inf(-1)), deref(s.Upper, math.Inf(1))}
		if s.Lower == nil && s.Upper == nil && len(p.Steps) > 1 {
			return invalid("At least one of MetricIntervalLowerBound and MetricIntervalUpperBound must be specified for each step adjustment.")
		}
		if !(i.low < i.high) {
			return invalid("The MetricIntervalLowerBound of a step adjustment must be less than its MetricIntervalUpperBound.")
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b interval) int {
		if a.low < b.low {
			return -1
		}
		return 1
	})
	for i := 1; i < len(list); i++ {
		if list[i].low < list[i-1].high {
			return invalid("StepAdjustment intervals can't overlap")
		}
		if list[i].low > list[i-1].high {
			return invalid("There can't be a gap between StepAdjustment intervals")
		}
	}
	if list[0].low < 0 && !math.IsInf(list[0].low, -1) {
		return invalid("A step adjustment with a negative lower bound needs one with no lower bound.")
	}
	if last := list[len(list)-1].high; last > 0 && !math.IsInf(last, 1) {
		return invalid("A step adjustment with a positive upper bound needs one with no upper bound.")
	}
	return nil
}

func (p Policy) checkTracking(e *Engine, g Group) error {
	t := p.Tracking
	switch {
	case t == nil:
		return invalid("TargetTrackingConfiguration must be specified for policy type TargetTrackingScaling.")
	case p.AdjustmentType != "" || p.Adjustment != nil || len(p.Steps) > 0 || p.Cooldown != nil || p.MinMagnitude != nil:
		return invalid("AdjustmentType, ScalingAdjustment, StepAdjustments, MinAdjustmentMagnitude and Cooldown cannot be specified for policy type TargetTrackingScaling.")
	case !(t.Target > 0) || math.IsInf(t.Target, 0):
		return invalid("TargetValue must be greater than zero.")
	case t.Predefined == "" && t.MetricName == "" && len(t.Queries) == 0:
		return invalid("Either PredefinedMetricSpecification or CustomizedMetricSpecification must be specified.")
	case t.Predefined != "" && (t.MetricName != "" || len(t.Queries) > 0):
		return invalid("Only one of PredefinedMetricSpecification and CustomizedMetricSpecification can be specified.")
	}
	switch t.Predefined {
	case "":
		if len(t.Queries) > 0 {
			if t.MetricName != "" {
				return invalid("A customized metric is given either by Metrics, or by its MetricName, Namespace and Statistic.")
			}
			one, queries, period, err := t.math()
			if err != nil {
				return err
			}
			if queries != nil {
				if err := e.Alarms.CheckMath(queries, period); err != nil {
					return err
				}
				break
			}
			t = &one // whose statistic the alarm checks: it may be a percentile
		}
		if len(t.Queries) == 0 && (t.Namespace == "" || !slices.Contains([]string{"Average", "Minimum", "Maximum", "SampleCount", "Sum"}, t.Statistic)) {
			return invalid("A customized metric needs a Namespace and one of the statistics Average, Minimum, Maximum, SampleCount and Sum.")
		}
	case "ASGAverageCPUUtilization", "ASGAverageNetworkIn", "ASGAverageNetworkOut":
		if t.ResourceLabel != "" {
			return invalid("ResourceLabel cannot be specified for the metric type %s.", t.Predefined)
		}
	case "ALBRequestCountPerTarget":
		_, tg, ok := splitLabel(t.ResourceLabel)
		if !ok {
			return invalid("Invalid ResourceLabel: %s. It has the form app/load-balancer-name/load-balancer-id/targetgroup/target-group-name/target-group-id.", t.ResourceLabel)
		}
		if !slices.ContainsFunc(g.Attachments, func(a Attachment) bool { return strings.HasSuffix(a.ARN, ":"+tg) && a.State != "Removing" }) {
			return invalid("The load balancer target group of the ResourceLabel is not attached to the Auto Scaling group.")
		}
	default:
		return invalid("Invalid PredefinedMetricType: %s.", t.Predefined)
	}
	if p.Warmup != nil && *p.Warmup < 0 {
		return invalid("EstimatedInstanceWarmup must not be negative.")
	}
	return nil
}

// DeletePolicy deletes a policy with the alarms that it has made.
func (e *Engine) DeletePolicy(w *store.WriteTx, s scope.Scope, group, policy string) error {
	p, err := FindPolicy(w, s, group, policy)
	if err != nil {
		return err
	}
	return e.dropPolicy(w, p)
}

func (e *Engine) dropPolicy(w *store.WriteTx, p Policy) error {
	if len(p.AlarmNames) > 0 {
		if err := e.Alarms.Delete(w, p.Scope, p.AlarmNames); err != nil {
			return err
		}
	}
	Forecasts.Delete(w, p.Key(p.Group+":"+p.Name))
	Policies.Delete(w, p.Key(p.Group+":"+p.Name))
	return nil
}
