package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/metric"
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
	Metric                         Metric          // or
	MetricName                     string          // by which it is found, or
	Queries                        json.RawMessage // metric math, as the API's JSON
	Statistic                      string          // Average, Minimum, Maximum; Sum of RequestsPerTarget
	Threshold                      float64
	Comparison                     string
	Missing                        string // TreatMissingData
	Period, Evaluations, Datapoint int    // seconds; periods; periods that must breach, 0 for all
}

// Metric is a series that the simulation makes.
type Metric int

// The metrics. Utilisation is the average share of the workers that are busy, percent; RequestsPerTarget is requests in a
// minute over the targets in service; NetworkIn and NetworkOut are bytes in a minute, of one instance; Memory is that of an
// instance in use, percent. Requests is all of them in a minute, Waiting those that wait, InService and DesiredCapacity the
// group's sizes.
const (
	Utilisation Metric = iota
	RequestsPerTarget
	NetworkIn
	NetworkOut
	Memory
	Requests
	Waiting
	InService
	DesiredCapacity
	metrics // how many there are
)

var metricNames = [metrics]string{"CPUUtilization", "RequestCountPerTarget", "NetworkIn", "NetworkOut", "mem_used_percent", "RequestCount", "ApproximateNumberOfMessagesVisible",
	"GroupInServiceInstances", "GroupDesiredCapacity"}

// MetricNames are CloudWatch's names of what the simulation makes.
func MetricNames() []string { return metricNames[:] }

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
	MemIdle   float64           // percent of its memory that an idle instance uses, and
	MemBusy   float64           // one whose workers are all busy
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
	if s.MemIdle < 0 || s.MemBusy < s.MemIdle && s.MemBusy != 0 || s.MemBusy > 100 {
		return fmt.Errorf("the memory in use is between 0 and 100 %%, and of a busy instance not less than of an idle one")
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

// history lets policies be checked as in a cloud that has one, and formulas in one that has alarms.
type (
	history  struct{ scaling.Metrics }
	formulas struct{ scaling.Alarms }
)

func (formulas) CheckMath(queries json.RawMessage, period int) error {
	return metric.CheckMath(queries, period)
}

// checkPolicy refuses what a cloud refuses, and what the simulation has no series for.
func (s *Scenario) checkPolicy(p *Policy) error {
	label := ""
	switch {
	case p.Tracking != nil:
		label = p.Tracking.ResourceLabel
	case p.Predictive != nil:
		label = p.Predictive.ResourceLabel
	}
	g := s.Group
	if i := strings.Index(label, "/targetgroup/"); i >= 0 {
		g.Attachments = []scaling.Attachment{{ARN: ":" + label[i+1:]}}
	}
	if err := (&scaling.Engine{Metrics: history{}, Alarms: formulas{}}).CheckPolicy(p.Policy, g); err != nil {
		return plain(err)
	}
	switch p.Type {
	case scaling.TargetTracking:
		for _, spec := range p.TrackingAlarms(func() string { return "" }) {
			if _, err := s.tracked(p, spec); err != nil {
				return err
			}
		}
		return nil
	case scaling.PredictiveScaling:
		if !p.Predictive.IsPair() {
			return fmt.Errorf("predictive scaling is simulated with a load and a scaling metric that are a predefined pair")
		}
		of, err := loadOf(p.Predictive)
		if err != nil {
			return err
		}
		return s.made(of, "")
	}
	if len(p.Alarms) == 0 {
		return fmt.Errorf("a policy of type %s does nothing without an alarm; give MetricAlarms whose AlarmActions name it", p.Type)
	}
	for _, a := range p.Alarms {
		if a.Period < 0 || a.Period%10 != 0 || a.Evaluations < 0 || a.Datapoint > max(1, a.Evaluations) {
			return fmt.Errorf("alarm %s: its periods contradict each other", a.Name)
		}
		if _, err := s.alarm(p, a); err != nil {
			return fmt.Errorf("alarm %s: %w", a.Name, err)
		}
		if !slices.Contains([]string{"GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold"}, a.Comparison) {
			return fmt.Errorf("alarm %s: the comparison %q is not simulated", a.Name, a.Comparison)
		}
	}
	return nil
}

// plain is an error without what only a client of the API needs.
func plain(err error) error {
	if f, ok := fault.As(err); ok {
		return errors.New(f.Msg)
	}
	return err
}

// made refuses a series that the scenario does not say enough for.
func (s *Scenario) made(m Metric, statistic string) error {
	switch {
	case m == NetworkIn && s.BytesIn == 0, m == NetworkOut && s.BytesOut == 0:
		return fmt.Errorf("the metric %s needs the bytes of a request; say them by --bytes-in and --bytes-out", metricNames[m])
	case m == Memory && s.MemBusy == 0:
		return fmt.Errorf("the metric %s needs the memory that instances use; say it by --memory-idle and --memory-busy", metricNames[m])
	case statistic == "Sum" && (m == Utilisation || m == NetworkIn || m == NetworkOut || m == Memory):
		return fmt.Errorf("the Sum of %s is not simulated; Average, Minimum and Maximum are", metricNames[m])
	case !slices.Contains([]string{"", "Average", "Minimum", "Maximum", "Sum"}, statistic):
		return fmt.Errorf("the statistic %s is not simulated", statistic)
	}
	return nil
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
