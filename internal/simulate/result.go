package simulate

import (
	"math"
	"time"
)

// Point is one step.
type Point struct {
	Time        time.Time `json:"time"`
	Demand      float64   `json:"requests_per_second"`
	Desired     int       `json:"desired"`
	InService   float64   `json:"in_service"` // instances, average over the step
	Capacity    float64   `json:"capacity"`   // their weights
	Pending     int       `json:"pending"`
	Terminating int       `json:"terminating"`
	Warm        int       `json:"warm_pool"`
	Utilisation float64   `json:"utilisation_percent"`
	Unserved    float64   `json:"unserved_requests"`
	P95         float64   `json:"p95_queue_ms"`
}

// Result is what a run gives.
type Result struct {
	Candidate     string   `json:"candidate"`
	Steps         int      `json:"steps"`
	PeakInstances int      `json:"peak_instances"` // most in service at the end of a step
	MeanInstances float64  `json:"mean_instances"`
	InstanceHours float64  `json:"instance_hours"` // from launch to termination
	Cost          float64  `json:"cost_usd"`
	Requests      int64    `json:"requests"`
	Unserved      int64    `json:"unserved_requests"`
	P95           float64  `json:"p95_queue_ms"`
	P99           float64  `json:"p99_queue_ms"`
	Changes       int      `json:"desired_changes"`
	Notes         []string `json:"notes,omitempty"`
	Points        []Point  `json:"-"`
}

func (r *Result) sum(w *world) {
	r.Steps = len(r.Points)
	mean := 0.0
	for i, p := range r.Points {
		r.PeakInstances = max(r.PeakInstances, int(math.Round(p.InService)))
		mean += p.InService / float64(r.Steps)
		if i > 0 && p.Desired != r.Points[i-1].Desired {
			r.Changes++
		}
	}
	r.MeanInstances = round(mean, 2)
	r.InstanceHours = round(w.aliveSeconds/3600, 2)
	r.Cost = round(w.spent/3600, 2)
	r.Notes = w.notes(r.Points[0])
	r.Requests = int64(math.Round(w.queue.requests))
	r.Unserved = int64(math.Round(w.queue.unserved))
	r.P95 = round(w.queue.waits.quantile(0.95)*1000, 3)
	r.P99 = round(w.queue.waits.quantile(0.99)*1000, 3)
}

func round(v float64, digits int) float64 {
	f := math.Pow(10, float64(digits))
	return math.Round(v*f) / f
}

// Objective is what a candidate must keep.
type Objective struct {
	P95      float64 // ms of queueing
	Unserved float64 // share of the requests
}

// Keeps tells whether a result keeps the objective.
func (o Objective) Keeps(r Result) bool {
	return r.P95 <= o.P95 && float64(r.Unserved) <= o.Unserved*float64(r.Requests)
}

// Cheapest is the index of the cheapest result that keeps the objective, the first of equals; -1 for none.
func (o Objective) Cheapest(rs []Result) int {
	best := -1
	for i, r := range rs {
		if o.Keeps(r) && (best < 0 || r.Cost < rs[best].Cost) {
			best = i
		}
	}
	return best
}
