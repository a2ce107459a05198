package zone

import (
	"fmt"
	"time"
)

// machine is the health of one target as one node sees it: pure, stepped by the results of checks.
//
// A new target is `initial`. One success makes it healthy: the healthy threshold counts only for the way back from
// unhealthy. UnhealthyThreshold failures in a row make it unhealthy from either state.
// (Target group health checks, Elastic Load Balancing user guide: "initial ... one successful health check".)
type machine struct {
	State       string
	Reason      string
	Description string
	Since       time.Time
	streak      int // successes in a row if positive, failures if negative
}

// AWS's reason codes that a check can give.
const (
	reasonRegistration = "Elb.RegistrationInProgress"
	reasonInitial      = "Elb.InitialHealthChecking"
	reasonMismatch     = "Target.ResponseCodeMismatch"
	reasonTimeout      = "Target.Timeout"
	reasonFailed       = "Target.FailedHealthChecks"
	reasonInternal     = "Elb.InternalError" // a check that could not be made; it changes nothing
)

// result is the outcome of one check.
type result struct {
	OK     bool
	Reason string // why not
	Code   int    // of the answer, if there was one
	Detail string // the reason in the log of health checks
}

func (r result) description() string {
	switch r.Reason {
	case reasonMismatch:
		return fmt.Sprintf("Health checks failed with these codes: [%d]", r.Code)
	case reasonTimeout:
		return "Request timed out"
	}
	return "Health checks failed"
}

func newMachine(now time.Time) machine {
	return machine{State: Initial, Reason: reasonRegistration, Description: "Target registration is in progress", Since: now}
}

// step returns the machine after a result.
func (m machine) step(r result, healthy, unhealthy int, now time.Time) machine {
	switch {
	case r.OK && m.streak >= 0:
		m.streak++
	case r.OK:
		m.streak = 1
	case m.streak <= 0:
		m.streak--
	default:
		m.streak = -1
	}
	next := m.State
	switch {
	case m.State == Initial && r.OK, m.State == Unhealthy && m.streak >= healthy:
		next = Healthy
	case m.State != Unhealthy && -m.streak >= unhealthy:
		next = Unhealthy
	}
	if next != m.State {
		m.State, m.Since = next, now
	}
	switch m.State {
	case Healthy:
		m.Reason, m.Description = "", ""
	case Unhealthy:
		if !r.OK { // the latest failure is the one that users look for
			m.Reason, m.Description = r.Reason, r.description()
		}
	case Initial:
		m.Reason, m.Description = reasonInitial, "Initial health checks in progress"
	}
	return m
}
