package cloud

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"skerry/internal/balance"
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
				if math.Abs(d.Stats.Maximum-c.want) > 0.1 {
					t.Errorf("%s: %.2f, want %.2f", name, d.Stats.Maximum, c.want)
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
	if d := instanceMetrics(compute.Instance{ID: "i-1"}, 1, last, cur)[0]; d.Stats.Sum != 250 {
		t.Errorf("after a new start of the counter: %v", d.Stats)
	}
}

func TestRequestsPerTargetAreFoundByTheGroupAlone(t *testing.T) {
	stats := func(n float64) zone.BalancerStats {
		return zone.BalancerStats{Name: "app/l/1", Type: "application", Groups: map[string]zone.GroupStats{
			"g": {Name: "targetgroup/g/2", Counters: map[string]float64{"RequestCount": 2 * n, "RequestCountPerTarget": n}}}}
	}
	got := map[string]float64{} // number of dimensions and name → sum
	for _, d := range balancerMetrics("us-east-1a", stats(10), stats(15), time.Unix(60, 0), 10*time.Second) {
		if d.Dimensions["TargetGroup"] == "targetgroup/g/2" {
			got[fmt.Sprint(len(d.Dimensions), d.Name)] += d.Stats.Sum
		}
	}
	want := map[string]float64{"1RequestCountPerTarget": 5, "2RequestCountPerTarget": 5, "3RequestCountPerTarget": 5, "2RequestCount": 10, "3RequestCount": 10}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCapacityUnitsOfANetworkLoadBalancer(t *testing.T) {
	cur := zone.BalancerStats{Name: "net/l/1", Type: "network", Gauges: map[string]float64{"ActiveFlowCount_TLS": 6000},
		Counters: map[string]float64{"NewFlowCount_TCP": 8000, "NewFlowCount_TLS": 10, "ProcessedBytes_TCP": 1000, "ProcessedBytes_UDP": 3e9 / 360}}
	got := map[string]float64{}
	for _, d := range balancerMetrics("us-east-1a", zone.BalancerStats{}, cur, time.Unix(60, 0), 10*time.Second) {
		if strings.HasPrefix(d.Name, "ConsumedLCUs") {
			got[d.Name] = math.Round(d.Value*1e6) / 1e6
		}
	}
	want := map[string]float64{"ConsumedLCUs_TCP": 1, "ConsumedLCUs_UDP": 3, "ConsumedLCUs_TLS": 2, "ConsumedLCUs": 6}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCapacityUnits(t *testing.T) {
	for _, c := range []struct{ connections, active, bytes, rules, want float64 }{
		{want: 0},
		{connections: 250, want: 1}, // 25 a second
		{active: 6000, want: 2},
		{bytes: 1e9 / 360, want: 1}, // 1 GB an hour
		{rules: 5000, want: 0.5},
		{rules: -100, want: 0},
		{connections: 250, active: 9000, bytes: 1e9 / 360, rules: 20000, want: 3},
	} {
		if got := capacityUnits(c.connections, c.active, c.bytes, c.rules, 10*time.Second); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestZoneMetrics(t *testing.T) {
	got := map[string]float64{}
	for _, d := range zoneMetrics("AWS/ApplicationELB", map[string]string{"TargetGroup": "g", "LoadBalancer": "l"},
		[]balance.ZoneState{{Zone: "a", Healthy: 2, DNS: true, Routing: true}, {Zone: "b", Healthy: 1, Unhealthy: 1, Routing: true}, {Zone: "c", Unhealthy: 2}}, time.Unix(60, 0)) {
		got[d.Dimensions["AvailabilityZone"]+d.Name] = d.Value
	}
	want := map[string]float64{
		"HealthyStateDNS": 1, "UnhealthyStateDNS": 2, "HealthyStateRouting": 2, "UnhealthyStateRouting": 1,
		"aHealthyStateDNS": 1, "aUnhealthyStateDNS": 0, "aHealthyStateRouting": 1, "aUnhealthyStateRouting": 0, "aHealthyHostCount": 2, "aUnHealthyHostCount": 0,
		"bHealthyStateDNS": 0, "bUnhealthyStateDNS": 1, "bHealthyStateRouting": 1, "bUnhealthyStateRouting": 0, "bHealthyHostCount": 1, "bUnHealthyHostCount": 1,
		"cHealthyStateDNS": 0, "cUnhealthyStateDNS": 1, "cHealthyStateRouting": 0, "cUnhealthyStateRouting": 1, "cHealthyHostCount": 0, "cUnHealthyHostCount": 2,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestZonalHealth(t *testing.T) {
	got := map[string]float64{}
	for _, d := range zonalHealth("net/a/1", map[string]bool{"a": true, "b": false}, time.Unix(60, 0)) {
		if d.Namespace != "AWS/NetworkELB" || d.Name != "ZonalHealthStatus" || d.Dimensions["LoadBalancer"] != "net/a/1" {
			t.Errorf("%+v", d)
		}
		got[d.Dimensions["AvailabilityZone"]] += d.Value
	}
	if !maps.Equal(got, map[string]float64{"": 1, "a": 1, "b": 0}) {
		t.Errorf("got %v", got)
	}
}

func TestReservedUnits(t *testing.T) {
	for kind, ns := range map[string]string{balance.Application: "AWS/ApplicationELB", balance.Network: "AWS/NetworkELB"} {
		d := reservedUnits(balance.LoadBalancer{Type: kind, Name: "a", ID: "1", CapacityUnits: 200}, time.Unix(60, 0))
		if d.Namespace != ns || d.Name != "ReservedLCUs" || d.Value != 200 || !strings.HasSuffix(d.Dimensions["LoadBalancer"], "/a/1") {
			t.Errorf("%s: %+v", kind, d)
		}
	}
}
