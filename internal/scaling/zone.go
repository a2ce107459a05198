package scaling

import (
	"slices"
	"strings"
	"time"
)

// zone is one zone of a group, with what it holds.
type zone struct {
	name        string
	subnets     []string
	used        map[string]int // members by subnet
	count       int            // capacity in members
	old         int            // members besides that are still to be replaced
	blocked     bool           // launches are held back
	spotBlocked bool           // those of spot instances are
}

// take picks the subnet with the fewest members, the first of equals, and counts one more.
func (z *zone) take() string {
	best := z.subnets[0]
	for _, s := range z.subnets[1:] {
		if z.used[s] < z.used[best] {
			best = s
		}
	}
	z.used[best]++
	z.count++
	return best
}

func (z *zone) held(spot bool) bool { return !spot && z.blocked || spot && z.spotBlocked }

// heldKey is the key of what holds launches back in a zone: spot capacity and capacity on demand are two things.
func heldKey(zone string, spot bool) string {
	if spot {
		return zone + "/spot"
	}
	return zone
}

// zones are a group's zones in the group's order, and the members' count in others.
type zones struct {
	list     []*zone
	others   map[string]int
	balanced bool // launch in the emptiest zone or nowhere
}

// zones counts the members by zone. Those that leave, or are about to, do not count.
func (d *decider) zones() *zones {
	return d.zonesOf(func(v *View) bool {
		return d.counts(v) || v.Rebalance && !d.leaving[v.ID] && strings.HasPrefix(v.State, Pending)
	})
}

// zonesWithout counts the members but for those that are still to be replaced, which decide between equals: what stays is
// to be balanced, and until then the whole as far as that allows.
func (d *decider) zonesWithout(old []*View) *zones {
	zs := d.zones()
	for _, v := range old {
		for _, z := range zs.list {
			if z.name == v.Zone && d.counts(v) {
				z.count--
				z.old++
			}
		}
	}
	return zs
}

// zonesOf counts those members that counted says.
func (d *decider) zonesOf(counted func(v *View) bool) *zones {
	g := d.s.Group
	zs := &zones{others: map[string]int{}, balanced: g.BalancedOnly}
	held := func(key string) time.Time { return g.Backoff[key].Until }
	everywhere := d.s.Now.Before(held(anyZone))
	if everywhere {
		d.plan.at(held(anyZone))
	}
	for _, s := range d.s.Subnets {
		i := slices.IndexFunc(zs.list, func(z *zone) bool { return z.name == s.Zone })
		if i < 0 {
			z := &zone{name: s.Zone, used: map[string]int{}, blocked: everywhere, spotBlocked: everywhere}
			if until := held(s.Zone); d.s.Now.Before(until) {
				z.blocked = true
				d.plan.at(until)
			}
			if until := held(heldKey(s.Zone, true)); d.s.Now.Before(until) {
				z.spotBlocked = true
				d.plan.at(until)
			}
			zs.list = append(zs.list, z)
			i = len(zs.list) - 1
		}
		if until := held(s.ID); d.s.Now.Before(until) {
			d.plan.at(until)
			continue
		}
		zs.list[i].subnets = append(zs.list[i].subnets, s.ID)
	}
	for _, z := range zs.list { // one without a subnet to launch in
		z.blocked, z.spotBlocked = z.blocked || len(z.subnets) == 0, z.spotBlocked || len(z.subnets) == 0
	}
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if !counted(v) {
			continue
		}
		if i := slices.IndexFunc(zs.list, func(z *zone) bool { return z.name == v.Zone }); i >= 0 {
			zs.list[i].count++
			zs.list[i].used[v.SubnetID]++
			continue
		}
		zs.others[v.Zone]++
	}
	return zs
}

func (zs *zones) all() []*zone { return zs.list }

// next is the zone with the fewest members, the first of equals in the group's order; nil when launches are held back.
func (zs *zones) next(spot bool) *zone {
	var best *zone
	for _, z := range zs.list {
		if z.held(spot) && !zs.balanced {
			continue
		}
		if best == nil || z.count < best.count || z.count == best.count && z.old < best.old {
			best = z
		}
	}
	if best != nil && best.held(spot) {
		return nil
	}
	return best
}

func (zs *zones) count(name string) int {
	for _, z := range zs.list {
		if z.name == name {
			return z.count
		}
	}
	return zs.others[name]
}

// strays lists the zones that hold members and are not the group's.
func (zs *zones) strays() []string {
	var out []string
	for z := range zs.others {
		out = append(out, z)
	}
	slices.Sort(out)
	return out
}

func splitList(s string) []string {
	var out []string
	for _, p := range strings.Split(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}
