package simulate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scaling"
)

// Bounds of a scenario.
const (
	maxSteps     = 400 * 24 * 60 // minutes of more than a year
	maxInstances = 20000
)

// Candidate is a set of policies that is tried.
type Candidate struct {
	Name      string
	Policies  []Policy
	Scheduled []scaling.Scheduled
	Warm      *scaling.WarmPool // in place of the group's, unless nil
}

// Policy is a scaling policy with the alarms that invoke it. Target tracking makes its own.
type Policy struct {
	scaling.Policy
	Alarms []Alarm
}

// Alarm is an alarm that invokes a step or simple policy.
type Alarm struct {
	Name                           string
	Metric                         Metric // or
	MetricName                     string // by which it is found
	Statistic                      string // Average, Minimum, Maximum; Sum of RequestsPerTarget
	Threshold                      float64
	Comparison                     string
	Missing                        string // TreatMissingData
	Period, Evaluations, Datapoint int    // seconds; periods; periods that must breach, 0 for all
}

// Metric is a series that the simulation makes.
type Metric int

// The metrics. Utilisation is the average share of the workers that are busy, percent; RequestsPerTarget is requests in a
// minute over the targets in service; NetworkIn and NetworkOut are bytes in a minute, of one instance.
const (
	Utilisation Metric = iota
	RequestsPerTarget
	NetworkIn
	NetworkOut
	metrics // how many there are
)

var metricNames = [metrics]string{"CPUUtilization", "RequestCountPerTarget", "NetworkIn", "NetworkOut"}

// ParseMetric finds a metric by CloudWatch's name.
func ParseMetric(name string) (Metric, error) {
	for m, n := range metricNames {
		if n == name {
			return Metric(m), nil
		}
	}
	return 0, fmt.Errorf("the metric %s is not simulated; %s are", name, strings.Join(metricNames[:], ", "))
}

// Scenario is one run.
type Scenario struct {
	Group     scaling.Group // Min, Max, Desired, Subnets and the rest as in a cloud
	Zones     []string      // of the group; one a subnet
	Candidate Candidate
	Trace     Trace
	Start     time.Time         // of the trace; scheduled actions go by it
	Service   time.Duration     // mean time of a request in a worker
	Workers   int               // requests that an instance serves at once
	Boot      time.Duration     // from the launch to the end of its hooks
	Drain     time.Duration     // from being taken out to the termination
	Patience  time.Duration     // requests don't wait longer
	WarmBoot  time.Duration     // from the start of a stopped instance of the warm pool to the end of its hooks
	BytesIn   float64           // of a request, for network metrics
	BytesOut  float64           // of its response
	Price     float64           // USD an instance-hour, of types that the catalogue does not price
	History   time.Duration     // before the trace for which forecasts take it to have repeated itself
	MTBF      time.Duration     // mean time between failures of one instance, 0 for none
	Seed      uint64            // of the failures
	Metrics   map[string]Metric // what customized metrics are, by their name
}

// check refuses what can't be simulated, and fills in what is left out.
func (s *Scenario) check() error {
	if len(s.Trace.Demand) == 0 {
		return fmt.Errorf("the trace has no demand in it")
	}
	if len(s.Trace.Demand) > maxSteps {
		return fmt.Errorf("the trace has %d steps; up to %d can be simulated", len(s.Trace.Demand), maxSteps)
	}
	if s.Trace.Step < time.Second || s.Trace.Step > time.Hour {
		return fmt.Errorf("a step of %v is out of the range of 1 second to 1 hour", s.Trace.Step)
	}
	if s.Group.Max > maxInstances {
		return fmt.Errorf("a group of up to %d instances can't be simulated; the most is %d", s.Group.Max, maxInstances)
	}
	if s.Group.Min < 0 || s.Group.Max < s.Group.Min {
		return fmt.Errorf("the group's sizes contradict each other: min %d, max %d", s.Group.Min, s.Group.Max)
	}
	if s.Group.DesiredCapacityType == "memory-mib" {
		return fmt.Errorf("groups whose capacity is counted in memory-mib are not simulated; units and vcpu are")
	}
	if s.Service <= 0 || s.Workers <= 0 || s.Boot < 0 || s.Drain < 0 || s.Patience < 0 || s.Price < 0 || s.MTBF < 0 || s.WarmBoot < 0 || s.BytesIn < 0 || s.BytesOut < 0 || s.History < 0 {
		return fmt.Errorf("service time and workers must be more than nothing, and no time, price or size less")
	}
	s.Candidate.Policies = slices.Clone(s.Candidate.Policies)
	for i := range s.Candidate.Policies {
		if err := s.checkPolicy(&s.Candidate.Policies[i]); err != nil {
			return fmt.Errorf("policy %s: %w", s.Candidate.Policies[i].Name, err)
		}
	}
	s.Group.Desired = max(s.Group.Min, min(s.Group.Max, s.Group.Desired))
	return nil
}

// simulatedLabel stands for a load balancer's target group where a policy names none.
const simulatedLabel = "app/simulated/0/targetgroup/simulated/0"

// history lets policies be checked as in a cloud that has one.
type history struct{ scaling.Metrics }

// checkPolicy refuses what a cloud refuses, and what the simulation has no series for.
func (s *Scenario) checkPolicy(p *Policy) error {
	label := ""
	switch {
	case p.Tracking != nil && len(p.Tracking.Queries) > 0:
		return fmt.Errorf("metric math is not simulated")
	case p.Tracking != nil:
		label = p.Tracking.ResourceLabel
	case p.Predictive != nil:
		label = p.Predictive.ResourceLabel
	}
	g := s.Group
	if i := strings.Index(label, "/targetgroup/"); i >= 0 {
		g.Attachments = []scaling.Attachment{{ARN: ":" + label[i+1:]}}
	}
	if err := (&scaling.Engine{Metrics: history{}}).CheckPolicy(p.Policy, g); err != nil {
		if f, ok := fault.As(err); ok {
			return errors.New(f.Msg)
		}
		return err
	}
	switch p.Type {
	case scaling.TargetTracking:
		of, err := s.metricOf(p.Tracking)
		if err != nil {
			return err
		}
		return s.made(of, p.Tracking.Statistic)
	case scaling.PredictiveScaling:
		of, err := loadOf(p.Predictive)
		if err != nil {
			return err
		}
		return s.made(of, "")
	}
	if len(p.Alarms) == 0 {
		return fmt.Errorf("a policy of type %s does nothing without an alarm; give MetricAlarms whose AlarmActions name it", p.Type)
	}
	p.Alarms = slices.Clone(p.Alarms)
	for i := range p.Alarms {
		a := &p.Alarms[i]
		if a.MetricName != "" {
			var err error
			if a.Metric, err = s.named(a.MetricName); err != nil {
				return fmt.Errorf("alarm %s: %w", a.Name, err)
			}
		}
		if err := s.made(a.Metric, a.Statistic); err != nil {
			return fmt.Errorf("alarm %s: %w", a.Name, err)
		}
		if a.Period < 0 || a.Period%10 != 0 || a.Evaluations < 0 || a.Datapoint > max(1, a.Evaluations) {
			return fmt.Errorf("alarm %s: its periods contradict each other", a.Name)
		}
		if !slices.Contains([]string{"GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold"}, a.Comparison) {
			return fmt.Errorf("alarm %s: the comparison %q is not simulated", a.Name, a.Comparison)
		}
	}
	return nil
}

// made refuses a series that the scenario does not say enough for.
func (s *Scenario) made(m Metric, statistic string) error {
	switch {
	case m == NetworkIn && s.BytesIn == 0, m == NetworkOut && s.BytesOut == 0:
		return fmt.Errorf("the metric %s needs the bytes of a request; say them by --bytes-in and --bytes-out", metricNames[m])
	case statistic == "Sum" && m != RequestsPerTarget:
		return fmt.Errorf("the Sum of %s is not simulated; Average, Minimum and Maximum are", metricNames[m])
	case !slices.Contains([]string{"", "Average", "Minimum", "Maximum", "Sum"}, statistic):
		return fmt.Errorf("the statistic %s is not simulated", statistic)
	}
	return nil
}

// metricOf tells which series a target tracking policy follows.
func (s *Scenario) metricOf(t *scaling.Tracking) (Metric, error) {
	switch t.Predefined {
	case "ASGAverageCPUUtilization":
		return Utilisation, nil
	case "ALBRequestCountPerTarget":
		return RequestsPerTarget, nil
	case "ASGAverageNetworkIn":
		return NetworkIn, nil
	case "ASGAverageNetworkOut":
		return NetworkOut, nil
	}
	return s.named(t.MetricName)
}

// named finds a metric by its name in CloudWatch, or by what the scenario says of it.
func (s *Scenario) named(name string) (Metric, error) {
	if m, ok := s.Metrics[name]; ok {
		return m, nil
	}
	m, err := ParseMetric(name)
	if err != nil {
		err = fmt.Errorf("%w. If it goes like one of them, say so: --metric %s=CPUUtilization", err, name)
	}
	return m, err
}
