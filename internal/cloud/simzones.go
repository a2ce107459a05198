package cloud

import (
	"context"
	"maps"
	"slices"
	"time"

	"skerry/internal/balance"
	"skerry/internal/compute"
	"skerry/internal/store"
)

// simZonesPause lets many changes be answered at once: a pass looks at every target.
const simZonesPause = 50 * time.Millisecond

// simReport is what the data plane of a zone would report.
type simReport struct {
	serving []string
	health  []balance.Observation
}

// simZones stands for the zones' data planes where there are none, with the sim driver: in a zone with power every node serves,
// and every target that runs is healthy.
func simZones(tx store.Tx) map[string]simReport {
	out := map[string]simReport{}
	down := compute.GetHost(tx).ZonesDown
	nodes := map[string][]string{} // zones with power, by load balancer
	for lb := range balance.LoadBalancers.All(tx) {
		for _, n := range lb.Nodes {
			r := out[n.Zone] // also of a zone without power: it says nothing
			if !slices.Contains(down, n.Zone) {
				r.serving = append(r.serving, lb.ARN)
				nodes[lb.Key(lb.ARN)] = append(nodes[lb.Key(lb.ARN)], n.Zone)
			}
			out[n.Zone] = r
		}
	}
	if len(out) == 0 {
		return out
	}
	for g := range balance.TargetGroups.All(tx) {
		used := balance.UsedBy(tx, g)
		if len(used) == 0 {
			continue
		}
		zones := nodes[g.Key(used[0])]
		for _, t := range balance.Targets(tx, g.Scope, g.ARN) {
			if i, ok := compute.Instances.Get(tx, t.Key(t.TargetID)); g.TargetType == "instance" && (!ok || i.State != compute.Running) {
				continue
			}
			for _, z := range zones {
				r := out[z]
				r.health = append(r.health, balance.Observation{GroupARN: g.ARN, TargetID: t.TargetID, Port: t.Port, State: balance.Healthy, Since: t.RegisteredAt})
				out[z] = r
			}
		}
	}
	return out
}

func (r simReport) equal(o simReport) bool {
	return slices.Equal(r.serving, o.serving) && slices.EqualFunc(r.health, o.health, func(a, b balance.Observation) bool {
		return a.GroupARN == b.GroupARN && a.TargetID == b.TargetID && a.Port == b.Port && a.Since.Equal(b.Since)
	})
}

// runSimZones reports for the zones until ctx ends.
func (c *control) runSimZones(ctx context.Context) {
	last := map[string]simReport{}
	for {
		changed := c.db.Watch(balance.LoadBalancers, balance.Listeners, balance.Rules, balance.TargetGroups, balance.Registrations, compute.Instances, compute.Hosts)
		var now map[string]simReport
		c.db.View(func(tx *store.ReadTx) error { now = simZones(tx); return nil })
		for z := range last { // its last node is gone
			if _, ok := now[z]; !ok {
				c.report(z, nil, nil)
			}
		}
		for _, z := range slices.Sorted(maps.Keys(now)) {
			if old, ok := last[z]; !ok || !old.equal(now[z]) {
				c.report(z, now[z].serving, now[z].health)
			}
		}
		last = now
		if !pause(ctx, changed, 0) {
			return
		}
		select {
		case <-time.After(simZonesPause):
		case <-ctx.Done():
			return
		}
	}
}
