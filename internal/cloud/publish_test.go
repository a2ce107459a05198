package cloud

import (
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"skerry/internal/compute"
	"skerry/internal/driver"
	"skerry/internal/zone"
)

func TestCPUUtilizationOfAStarvedInstance(t *testing.T) {
	start := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		used, wait time.Duration
		vcpu, want float64
	}{
		"a burner that gets what it wants":            {3 * time.Second, 0, 1, 100},
		"a burner that gets half":                     {1500 * time.Millisecond, 1480 * time.Millisecond, 1, 99.33},
		"one of two threads of a starved machine":     {time.Second, 2 * time.Second, 2, 50},
		"an idle one on a busy host":                  {10 * time.Millisecond, 20 * time.Millisecond, 1, 1},
		"a kernel that does not say what waits":       {1500 * time.Millisecond, 0, 1, 50},
		"more threads than processors is full anyhow": {time.Second, 9 * time.Second, 2, 100},
	} {
		last := sample{due: start, at: start, stats: driver.Stats{CPUNanos: 7e9, CPUWaitNanos: 5e9}}
		cur := sample{due: start.Add(3 * time.Second), at: start.Add(3 * time.Second)}
		cur.stats = driver.Stats{CPUNanos: last.stats.CPUNanos + uint64(c.used), CPUWaitNanos: last.stats.CPUWaitNanos + uint64(c.wait)}
		found := false
		for _, d := range instanceMetrics(compute.Instance{ID: "i-1"}, c.vcpu, last, cur) {
			if d.Name == "CPUUtilization" {
				found = true
				if math.Abs(d.Value-c.want) > 0.1 {
					t.Errorf("%s: %.2f, want %.2f", name, d.Value, c.want)
				}
			}
		}
		if !found {
			t.Errorf("%s: no datum", name)
		}
	}
	// A counter that began anew, as the waiting does with the control plane, is no negative load.
	last := sample{due: start, at: start, stats: driver.Stats{CPUNanos: 1e9, CPUWaitNanos: 5e9}}
	cur := sample{at: start.Add(2 * time.Second), stats: driver.Stats{CPUNanos: 2e9}}
	if d := instanceMetrics(compute.Instance{ID: "i-1"}, 1, last, cur)[0]; d.Value != 50 {
		t.Errorf("after a new start of the counter: %v", d.Value)
	}
}

func TestRequestsPerTargetAreFoundByTheGroupAlone(t *testing.T) {
	stats := func(n float64) zone.BalancerStats {
		return zone.BalancerStats{Name: "app/l/1", Type: "application", Groups: map[string]zone.GroupStats{
			"g": {Name: "targetgroup/g/2", Counters: map[string]float64{"RequestCount": 2 * n, "RequestCountPerTarget": n}}}}
	}
	got := map[string]float64{} // number of dimensions and name → sum
	for _, d := range balancerMetrics("us-east-1a", stats(10), stats(15), time.Unix(60, 0)) {
		if d.Dimensions["TargetGroup"] == "targetgroup/g/2" {
			got[fmt.Sprint(len(d.Dimensions), d.Name)] += d.Stats.Sum
		}
	}
	want := map[string]float64{"1RequestCountPerTarget": 5, "2RequestCountPerTarget": 5, "3RequestCountPerTarget": 5, "2RequestCount": 10, "3RequestCount": 10}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
