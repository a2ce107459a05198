package simulate

import (
	"fmt"
	"time"

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
}

// Policy is a scaling policy with the alarms that invoke it. Target tracking makes its own.
type Policy struct {
	scaling.Policy
	Alarms []Alarm
}

// Alarm is an alarm that invokes a step or simple policy. Its metric is one of the two that the simulation has.
type Alarm struct {
	Name                           string
	Metric                         Metric
	Threshold                      float64
	Comparison                     string
	Period, Evaluations, Datapoint int // seconds; periods; periods that must breach, 0 for all
}

// Metric is a series that the simulation makes.
type Metric int

// The metrics. Utilisation is the average share of the workers that are busy, percent; RequestsPerTarget is requests in a
// minute over the targets in service.
const (
	Utilisation Metric = iota
	RequestsPerTarget
)

// Scenario is one run.
type Scenario struct {
	Group     scaling.Group // Min, Max, Desired, Subnets and the rest as in a cloud
	Zones     []string      // of the group; one a subnet
	Candidate Candidate
	Trace     Trace
	Start     time.Time     // of the trace; scheduled actions go by it
	Service   time.Duration // mean time of a request in a worker
	Workers   int           // requests that an instance serves at once
	Boot      time.Duration // from the launch to the end of its hooks
	Drain     time.Duration // from being taken out to the termination
	Patience  time.Duration // requests don't wait longer
	Price     float64       // USD an instance-hour
	MTBF      time.Duration // mean time between failures of one instance, 0 for none
	Seed      uint64        // of the failures
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
	if m := s.Group.Mixed; m != nil {
		for _, o := range m.Overrides {
			if o.Weight > 1 {
				return fmt.Errorf("weighted instance types are not simulated")
			}
		}
	}
	if s.Service <= 0 || s.Workers <= 0 || s.Boot < 0 || s.Drain < 0 || s.Patience < 0 || s.Price < 0 || s.MTBF < 0 {
		return fmt.Errorf("service time and workers must be more than nothing, and boot, drain, patience, price and failures not less")
	}
	for _, p := range s.Candidate.Policies {
		switch p.Type {
		case scaling.TargetTracking:
			if p.Tracking == nil || p.Tracking.Target <= 0 {
				return fmt.Errorf("policy %s: target tracking needs a target above 0", p.Name)
			}
			if _, err := metricOf(p.Tracking); err != nil {
				return fmt.Errorf("policy %s: %w", p.Name, err)
			}
		case scaling.StepScaling, scaling.SimpleScaling:
			if len(p.Alarms) == 0 {
				return fmt.Errorf("policy %s: a policy of type %s does nothing without an alarm; give MetricAlarms whose AlarmActions name it", p.Name, p.Type)
			}
		default:
			return fmt.Errorf("policy %s: policies of type %s are not simulated", p.Name, p.Type)
		}
	}
	s.Group.Desired = max(s.Group.Min, min(s.Group.Max, s.Group.Desired))
	return nil
}

// metricOf tells which series a target tracking policy follows. A customized metric is taken for a utilisation.
func metricOf(t *scaling.Tracking) (Metric, error) {
	switch t.Predefined {
	case "ASGAverageCPUUtilization":
		return Utilisation, nil
	case "ALBRequestCountPerTarget":
		return RequestsPerTarget, nil
	case "":
		if t.MetricName == "RequestCountPerTarget" {
			return RequestsPerTarget, nil
		}
		return Utilisation, nil
	}
	return 0, fmt.Errorf("the metric %s is not simulated; ASGAverageCPUUtilization, ALBRequestCountPerTarget and customized metrics are", t.Predefined)
}
