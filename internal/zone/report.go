package zone

import (
	"time"

	"skerry/internal/proxy"
)

// Report is what the zone knows. Version changes whenever Health, Serving or Applied do; counters alone don't change it.
type Report struct {
	Zone     string
	Version  uint64 // of this process's observations; starts anew with the process
	Boot     string // names the process's life, so that a restart is noticed
	Applied  string // the version of the desired state in force
	Problems []string
	Serving  []string // ARNs of the load balancers whose node answers
	Health   []TargetHealth
	Stats    []BalancerStats // in answers to Client.Report only
}

// States of a target as one zone sees it.
const (
	Initial   = "initial"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"

	UnhealthyDraining = "unhealthy.draining" // in reports: unhealthy, and its flows may go on for a while
)

// TargetHealth is the observation of one target.
type TargetHealth struct {
	GroupARN    string
	TargetID    string
	Port        int
	State       string
	Reason      string `json:",omitempty"`
	Description string `json:",omitempty"`
	Since       time.Time
	Anomalous   bool `json:",omitempty"` // fails more often than the group's others
	Mitigated   bool `json:",omitempty"` // and gets fewer requests for it
}

// BalancerStats are the counters of one load-balancer node since the process started (Boot tells which life).
type BalancerStats struct {
	ARN      string
	Name     string
	Type     string
	Counters map[string]float64    // CloudWatch metric name → count so far
	Gauges   map[string]float64    `json:",omitempty"` // value now
	Groups   map[string]GroupStats `json:",omitempty"` // by target group ARN
	// ELBAuthLatency's samples so far, in ms, as in GroupStats.
	AuthLatency Summary `json:",omitzero"`
}

// GroupStats are the counters of one target group behind one node.
type GroupStats struct {
	Name     string
	Counters map[string]float64
	// TargetResponseTime's samples so far, in seconds: how many, their sum, smallest and largest since the last report.
	Latency Summary
	Gauges  map[string]float64 `json:",omitempty"` // value now
}

// Summary is a running sum of samples.
type Summary struct {
	Count    float64
	Sum      float64
	Min, Max float64
	Spread   []proxy.Bin `json:",omitempty"` // of all samples so far
}
