package simulate

import (
	"fmt"
	"time"

	"skerry/internal/scaling"
)

// Examples are the names that Example knows.
var Examples = []string{"week", "spike", "black-friday"}

// Example is a built-in scenario whose demand needs about peak instances in its busiest minute: two workers an instance,
// 100 ms a request, half a minute to boot, target tracking at 50 % of the CPU.
func Example(name string, peak int, step time.Duration, seed uint64) (Scenario, error) {
	if peak < 1 || peak > maxInstances/2 {
		return Scenario{}, fmt.Errorf("peak instances must be between 1 and %d", maxInstances/2)
	}
	found := false
	for _, e := range Examples {
		found = found || e == name
	}
	if !found {
		return Scenario{}, fmt.Errorf("there is no example %q; there are %v", name, Examples)
	}
	const target = 50.0
	s := Scenario{Zones: []string{"a", "b", "c"}, Start: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Service: 100 * time.Millisecond, Workers: 2, Boot: 30 * time.Second, WarmBoot: 10 * time.Second,
		Drain: 30 * time.Second, Patience: 5 * time.Second, Price: 0.0416, Seed: seed}
	var err error
	if s.Trace, err = Generate(name, step, float64(peak)*target/100*float64(s.Workers)/s.Service.Seconds(), seed); err != nil {
		return s, err
	}
	first := s.Trace.Demand[0] / (float64(s.Workers) / s.Service.Seconds() * target / 100)
	warm := 60
	s.Group = scaling.Group{Name: name, Min: max(1, peak/20), Max: peak + peak/4 + 1, Desired: int(first) + 1, DefaultCooldown: 300, DefaultWarmup: &warm,
		TerminationPolicies: []string{"Default"}}
	s.Candidate = Candidate{Name: "target tracking at 50 % of the CPU", Policies: []Policy{{Policy: scaling.Policy{Name: "cpu-50", Type: scaling.TargetTracking, Enabled: true,
		Tracking: &scaling.Tracking{Predefined: "ASGAverageCPUUtilization", Target: target}}}}}
	return s, nil
}
