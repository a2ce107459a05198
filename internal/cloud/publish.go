package cloud

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"skerry/internal/balance"
	"skerry/internal/compute"
	"skerry/internal/driver"
	"skerry/internal/metric"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/zone"
)

// How often AWS publishes, before the time scale.
const (
	detailedEvery = time.Minute
	basicEvery    = 5 * time.Minute
)

// sample is one reading of an instance's counters.
type sample struct {
	due   time.Time // the end of the period
	at    time.Time // when exactly
	stats driver.Stats
}

// publisher turns counters into CloudWatch data.
type publisher struct {
	c         *control
	instances map[string]sample // by instance key: what the last datum was made of
	zones     map[string]zone.Report
}

// publish measures and publishes until ctx ends.
func (c *control) publish(ctx context.Context) {
	p := &publisher{c: c, instances: map[string]sample{}, zones: map[string]zone.Report{}}
	every := p.every()
	for {
		now := c.clock()
		end := metric.Floor(now, every).Add(every)
		select {
		case <-time.After(end.Sub(now)):
		case <-ctx.Done():
			return
		}
		p.step(ctx, end)
	}
}

// every is the length of a publication's period.
func (p *publisher) every() time.Duration {
	return max(detailedEvery/time.Duration(p.c.o.TimeScale), time.Second)
}

// step publishes what is due for the periods that end now. As in CloudWatch, a datum bears the time at which its period
// began.
func (p *publisher) step(ctx context.Context, end time.Time) {
	batch := map[scope.Scope][]metric.Datum{}
	p.instanceData(ctx, end, batch)
	if p.c.zones != nil {
		p.balancerData(ctx, end, batch)
	}
	p.groupData(end, batch)
	for sc, data := range batch {
		if err := p.c.metrics.Put(sc, data); err != nil {
			p.c.log.Error("metrics could not be stored", "region", sc.Region, "err", err)
		}
	}
}

func (p *publisher) instanceData(ctx context.Context, end time.Time, batch map[scope.Scope][]metric.Datum) {
	var running []compute.Instance
	warming := map[string]bool{} // in a group, and not yet part of its aggregates
	p.c.db.View(func(tx *store.ReadTx) error {
		running = slices.Collect(compute.Instances.By(tx, "state", compute.Running))
		for _, i := range running {
			if i.ASGName != "" && !p.c.scaler.Engine.Warm(tx, i.Scope, i.ID) {
				warming[i.Key(i.ID)] = true
			}
		}
		return nil
	})
	seen := map[string]bool{}
	for _, i := range running {
		key := i.Key(i.ID)
		seen[key] = true
		every := basicEvery
		if i.Monitoring {
			every = detailedEvery
		}
		every /= time.Duration(p.c.o.TimeScale)
		last, ok := p.instances[key]
		if ok && end.Sub(last.due) < every*9/10 {
			continue
		}
		st, err := p.c.driver.Stats(ctx, i.ID)
		if err != nil {
			continue // it has ended meanwhile; its state will say so
		}
		cur := sample{due: end, at: p.c.clock(), stats: st}
		p.instances[key] = cur
		if !ok || st.CPUNanos < last.stats.CPUNanos { // the first reading of this run
			continue
		}
		t, _ := compute.TypeByName(i.InstanceType)
		if warming[key] {
			i.ASGName = ""
		}
		batch[i.Scope] = append(batch[i.Scope], instanceMetrics(i, float64(t.VCPU), last, cur)...)
	}
	for k := range p.instances {
		if !seen[k] {
			delete(p.instances, k)
		}
	}
}

// instanceMetrics are the data of the time between two readings, in AWS's dimensions. Pure.
func instanceMetrics(i compute.Instance, vcpu float64, last, cur sample) []metric.Datum {
	dims := []map[string]string{{"InstanceId": i.ID}, {"ImageId": i.ImageID}, {"InstanceType": i.InstanceType}, {}}
	if i.ASGName != "" {
		dims = append(dims, map[string]string{"AutoScalingGroupName": i.ASGName})
	}
	if !i.Monitoring { // basic monitoring has no aggregates but the group's
		dims = slices.DeleteFunc(dims, func(d map[string]string) bool {
			return d["InstanceId"] == "" && d["AutoScalingGroupName"] == ""
		})
	}
	var out []metric.Datum
	// Basic monitoring is a sample of each minute too, told five at a time: a level in each, or a fifth of an amount.
	samples := float64(basicEvery / detailedEvery)
	if i.Monitoring {
		samples = 1
	}
	level := func(ns, name, unit string, v float64, ds ...map[string]string) {
		for _, d := range ds {
			out = append(out, metric.Datum{Namespace: ns, Name: name, Dimensions: d, Unit: unit, Timestamp: last.due, HighResolution: true,
				Stats: &metric.StatisticSet{SampleCount: samples, Sum: samples * v, Minimum: v, Maximum: v}})
		}
	}
	amount := func(ns, name, unit string, v float64, ds ...map[string]string) {
		level(ns, name, unit, v/samples, ds...)
	}
	diff := func(a, b uint64) float64 {
		if b < a {
			return 0
		}
		return float64(b - a)
	}
	if dt := cur.at.Sub(last.at); dt > 0 && vcpu > 0 {
		// An instance that waits for the host's processors is as busy as one that has them: it has no idle time.
		busy := diff(last.stats.CPUNanos, cur.stats.CPUNanos) + diff(last.stats.CPUWaitNanos, cur.stats.CPUWaitNanos)
		level("AWS/EC2", "CPUUtilization", "Percent", min(100, 100*busy/float64(dt.Nanoseconds())/vcpu), dims...)
	}
	amount("AWS/EC2", "NetworkIn", "Bytes", diff(last.stats.NetRxBytes, cur.stats.NetRxBytes), dims...)
	amount("AWS/EC2", "NetworkOut", "Bytes", diff(last.stats.NetTxBytes, cur.stats.NetTxBytes), dims...)
	amount("AWS/EC2", "NetworkPacketsIn", "Count", diff(last.stats.NetRxPkts, cur.stats.NetRxPkts), dims...)
	amount("AWS/EC2", "NetworkPacketsOut", "Count", diff(last.stats.NetTxPkts, cur.stats.NetTxPkts), dims...)
	for name, failing := range map[string]time.Time{"StatusCheckFailed": i.Checks.Since(), "StatusCheckFailed_Instance": i.Checks.Instance, "StatusCheckFailed_System": i.Checks.System} {
		failed := 0.0
		if !failing.IsZero() {
			failed = 1
		}
		level("AWS/EC2", name, "Count", failed, dims...)
	}
	if cur.stats.MemoryLimit > 0 {
		d := []map[string]string{{"InstanceId": i.ID}}
		if i.ASGName != "" {
			d = append(d, map[string]string{"AutoScalingGroupName": i.ASGName})
		}
		level("CWAgent", "mem_used_percent", "Percent", 100*float64(cur.stats.MemoryBytes)/float64(cur.stats.MemoryLimit), d...)
	}
	return out
}

// balancerData publishes the load balancers' counters since the last look, node by node.
func (p *publisher) balancerData(ctx context.Context, end time.Time, batch map[scope.Scope][]metric.Datum) {
	known := p.c.zones.known()
	for z, r := range p.reports(ctx, known) {
		last := p.zones[z]
		p.zones[z] = r
		if last.Boot != r.Boot {
			last = zone.Report{} // counters began anew
		}
		for _, s := range r.Stats {
			var before zone.BalancerStats
			if n := slices.IndexFunc(last.Stats, func(o zone.BalancerStats) bool { return o.ARN == s.ARN }); n >= 0 {
				before = last.Stats[n]
			}
			sc := balance.ScopeOf(s.ARN)
			batch[sc] = append(batch[sc], balancerMetrics(z, before, s, end.Add(-p.every()), p.every())...)
		}
	}
	maps.DeleteFunc(p.zones, func(z string, _ zone.Report) bool { return !slices.Contains(known, z) })
}

// reports asks the zones' data planes. One that doesn't answer within half a period is left out: it has no power, is just being
// restarted, or hangs.
func (p *publisher) reports(ctx context.Context, zones []string) map[string]zone.Report {
	ctx, cancel := context.WithTimeout(ctx, p.every()/2)
	defer cancel()
	out := map[string]zone.Report{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, z := range zones {
		wg.Go(func() {
			if r, err := p.c.zones.proc(z).client.Report(ctx); err == nil {
				mu.Lock()
				out[z] = r
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return out
}

// alwaysPublished are the metrics that AWS publishes even when nothing happened.
var alwaysPublished = map[string]bool{"HealthyHostCount": true, "UnHealthyHostCount": true, "AnomalousHostCount": true, "MitigatedHostCount": true}

// balancerMetrics are one node's data of the time between two reports, in AWS's dimensions, stamped at. Pure.
func balancerMetrics(z string, last, cur zone.BalancerStats, at time.Time, every time.Duration) []metric.Datum {
	ns := "AWS/ApplicationELB"
	if cur.Type == "network" {
		ns = "AWS/NetworkELB"
	}
	var out []metric.Datum
	add := func(d metric.Datum, dims ...map[string]string) {
		for _, m := range dims {
			d.Namespace, d.Dimensions, d.Timestamp, d.HighResolution = ns, m, at, true
			out = append(out, d)
		}
	}
	unit := func(name string) string {
		if strings.HasPrefix(name, "ProcessedBytes") {
			return "Bytes"
		}
		return "Count"
	}
	counters := func(last, cur map[string]float64, dims ...map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(cur)) {
			if v := cur[name] - last[name]; v > 0 {
				add(metric.Datum{Name: name, Unit: unit(name), Stats: &metric.StatisticSet{SampleCount: 1, Sum: v, Minimum: v, Maximum: v}}, dims...)
			}
		}
	}
	lb := []map[string]string{{"LoadBalancer": cur.Name}, {"LoadBalancer": cur.Name, "AvailabilityZone": z}}
	counters(last.Counters, cur.Counters, lb...)
	for _, name := range slices.Sorted(maps.Keys(cur.Gauges)) {
		if v := cur.Gauges[name]; v > 0 || alwaysPublished[name] {
			add(metric.Datum{Name: name, Unit: "Count", Value: v}, lb...)
		}
	}
	if n := cur.AuthLatency.Count - last.AuthLatency.Count; n > 0 {
		add(metric.Datum{Name: "ELBAuthLatency", Unit: "Milliseconds", Stats: &metric.StatisticSet{SampleCount: n, Sum: cur.AuthLatency.Sum - last.AuthLatency.Sum,
			Minimum: cur.AuthLatency.Min, Maximum: cur.AuthLatency.Max}}, lb...)
	}
	if cur.Type == "application" {
		diff := func(name string) float64 { return cur.Counters[name] - last.Counters[name] }
		used := capacityUnits(diff("NewConnectionCount"), cur.Gauges["ActiveConnectionCount"], diff("ProcessedBytes"), diff("RuleEvaluations")-freeRules*diff("RequestCount"), every)
		add(metric.Datum{Name: "ConsumedLCUs", Unit: "Count", Value: used}, map[string]string{"LoadBalancer": cur.Name})
		add(metric.Datum{Name: "PeakLCUs", Unit: "Count", Value: used}, map[string]string{"LoadBalancer": cur.Name})
		for _, name := range []string{"RequestCount", "ForwardedInvalidHeaderRequestCount", "DroppedInvalidHeaderRequestCount"} {
			if diff(name) == 0 { // AWS reports them always
				add(metric.Datum{Name: name, Unit: "Count", Value: 0}, lb...)
			}
		}
	} else {
		total := 0.0
		for _, p := range networkUnits {
			diff := func(name string) float64 { return cur.Counters[name+p.of] - last.Counters[name+p.of] }
			used := max(diff("NewFlowCount")/every.Seconds()/p.flows, cur.Gauges["ActiveFlowCount"+p.of]/p.active, diff("ProcessedBytes")/every.Seconds()*3600/1e9)
			if total += used; used > 0 {
				add(metric.Datum{Name: "ConsumedLCUs" + p.of, Unit: "Count", Value: used}, map[string]string{"LoadBalancer": cur.Name})
			}
		}
		add(metric.Datum{Name: "ConsumedLCUs", Unit: "Count", Value: total}, map[string]string{"LoadBalancer": cur.Name})
	}
	for _, arn := range slices.Sorted(maps.Keys(cur.Groups)) {
		g, before := cur.Groups[arn], last.Groups[arn]
		dims := []map[string]string{{"TargetGroup": g.Name, "LoadBalancer": cur.Name}, {"TargetGroup": g.Name, "LoadBalancer": cur.Name, "AvailabilityZone": z}}
		counters(before.Counters, g.Counters, dims...)
		if v := g.Counters["RequestCountPerTarget"] - before.Counters["RequestCountPerTarget"]; v > 0 { // the one that a group has on its own
			add(metric.Datum{Name: "RequestCountPerTarget", Unit: "Count", Stats: &metric.StatisticSet{SampleCount: 1, Sum: v, Minimum: v, Maximum: v}},
				map[string]string{"TargetGroup": g.Name})
		}
		for _, name := range slices.Sorted(maps.Keys(g.Gauges)) {
			add(metric.Datum{Name: name, Unit: "Count", Value: g.Gauges[name]}, dims...)
		}
		if n := g.Latency.Count - before.Latency.Count; n > 0 {
			var spread []metric.Spread
			for _, b := range g.Latency.Since(before.Latency) {
				spread = append(spread, metric.Spread{Value: b.Value, Count: b.Count})
			}
			add(metric.Datum{Name: "TargetResponseTime", Unit: "Seconds", Spread: spread, Stats: &metric.StatisticSet{SampleCount: n, Sum: g.Latency.Sum - before.Latency.Sum,
				Minimum: g.Latency.Min, Maximum: g.Latency.Max}}, append(dims, lb...)...)
		}
	}
	return out
}

// networkUnits are what a capacity unit of a network load balancer takes of each protocol: new flows a second and active ones, beside
// 1 GB an hour.
var networkUnits = []struct {
	of            string
	flows, active float64
}{{"_TCP", 800, 100000}, {"_UDP", 400, 50000}, {"_TLS", 50, 3000}}

// freeRules are the rules of a listener whose evaluation costs no capacity.
const freeRules = 10

// capacityUnits is what a node did in a time, in load balancer capacity units: the largest of new connections (25 a second
// each), active connections (3,000), bytes (1 GB an hour) and rule evaluations (1,000 a second).
func capacityUnits(connections, active, bytes, rules float64, in time.Duration) float64 {
	s := in.Seconds()
	return max(connections/s/25, active/3000, bytes/s*3600/1e9, max(rules, 0)/s/1000)
}

// groupData publishes the sizes of the groups that collect metrics, and targets' health counts.
func (p *publisher) groupData(end time.Time, batch map[scope.Scope][]metric.Datum) {
	now := end.Add(-p.every())
	p.c.db.View(func(tx *store.ReadTx) error {
		for _, m := range append(scaling.Measures(tx), p.c.scaler.Engine.ForecastMeasures(tx, now, p.every())...) {
			batch[m.Scope] = append(batch[m.Scope], metric.Datum{Namespace: "AWS/AutoScaling", Name: m.Metric, Unit: "None",
				Dimensions: m.Dimensions(), Timestamp: now, Value: m.Value, HighResolution: true})
		}
		for g := range balance.TargetGroups.All(tx) {
			health := balance.TargetHealth(tx, g.Scope, g.ARN)
			up, down := 0.0, 0.0
			for _, h := range health {
				switch h.State {
				case zone.Healthy:
					up++
				case zone.Unhealthy, zone.UnhealthyDraining:
					down++
				}
			}
			for _, arn := range balance.UsedBy(tx, g) {
				lb, ok := balance.LoadBalancers.Get(tx, g.Key(arn))
				if !ok {
					continue
				}
				ns := "AWS/ApplicationELB"
				if lb.Type == "network" {
					ns = "AWS/NetworkELB"
				}
				d := map[string]string{"TargetGroup": g.Dimension(), "LoadBalancer": lb.Dimension()}
				batch[g.Scope] = append(batch[g.Scope],
					metric.Datum{Namespace: ns, Name: "HealthyHostCount", Unit: "Count", Dimensions: d, Timestamp: now, Value: up, HighResolution: true},
					metric.Datum{Namespace: ns, Name: "UnHealthyHostCount", Unit: "Count", Dimensions: d, Timestamp: now, Value: down, HighResolution: true})
				if g.Check.Enabled {
					batch[g.Scope] = append(batch[g.Scope], zoneMetrics(ns, d, balance.ZoneStates(tx, lb, g), now)...)
				}
			}
		}
		for lb := range balance.LoadBalancers.All(tx) {
			if lb.Type == balance.Network && len(balance.GroupsOf(tx, lb)) > 0 {
				batch[lb.Scope] = append(batch[lb.Scope], zonalHealth(lb.Dimension(), balance.ZonalHealth(tx, lb), now)...)
			}
			if lb.CapacityUnits > 0 {
				batch[lb.Scope] = append(batch[lb.Scope], reservedUnits(lb, now))
			}
		}
		return nil
	})
}

// reservedUnits is the capacity that a load balancer keeps ready.
func reservedUnits(lb balance.LoadBalancer, at time.Time) metric.Datum {
	d := metric.Datum{Namespace: "AWS/ApplicationELB", Name: "ReservedLCUs", Unit: "Count", Dimensions: map[string]string{"LoadBalancer": lb.Dimension()}, Timestamp: at,
		Value: float64(lb.CapacityUnits), HighResolution: true}
	if lb.Type == balance.Network {
		d.Namespace = "AWS/NetworkELB"
	}
	return d
}

// zonalHealth is 1 of each healthy zone of a network load balancer and 0 of the others, by zone and all together. Pure.
func zonalHealth(lb string, zones map[string]bool, at time.Time) []metric.Datum {
	var out []metric.Datum
	for _, z := range slices.Sorted(maps.Keys(zones)) {
		d := metric.Datum{Namespace: "AWS/NetworkELB", Name: "ZonalHealthStatus", Unit: "Count", Dimensions: map[string]string{"LoadBalancer": lb}, Timestamp: at, HighResolution: true}
		if zones[z] {
			d.Value = 1
		}
		out = append(out, d)
		d.Dimensions = map[string]string{"LoadBalancer": lb, "AvailabilityZone": z}
		out = append(out, d)
	}
	return out
}

// zoneMetrics tell how the zones see a target group: each by itself, and how many of them have enough healthy targets for DNS
// and for routing. Pure.
func zoneMetrics(ns string, dims map[string]string, zones []balance.ZoneState, at time.Time) []metric.Datum {
	var out []metric.Datum
	add := func(name string, v float64, dims map[string]string) {
		out = append(out, metric.Datum{Namespace: ns, Name: name, Unit: "Count", Dimensions: dims, Timestamp: at, Value: v, HighResolution: true})
	}
	states := func(dims map[string]string, zones []balance.ZoneState) {
		var dns, routing float64
		for _, z := range zones {
			if z.DNS {
				dns++
			}
			if z.Routing {
				routing++
			}
		}
		n := float64(len(zones))
		add("HealthyStateDNS", dns, dims)
		add("UnhealthyStateDNS", n-dns, dims)
		add("HealthyStateRouting", routing, dims)
		add("UnhealthyStateRouting", n-routing, dims)
	}
	states(dims, zones)
	for i, z := range zones {
		d := maps.Clone(dims)
		d["AvailabilityZone"] = z.Zone
		add("HealthyHostCount", float64(z.Healthy), d)
		add("UnHealthyHostCount", float64(z.Unhealthy), d)
		states(d, zones[i:i+1])
	}
	return out
}
