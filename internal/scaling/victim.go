package scaling

import (
	"math"
	"slices"
	"time"
)

// victims picks the members that leave when n units of capacity are too much: from the fullest zone each time, by the
// group's termination policies, the smallest id among equals. Unhealthy ones go first, then those that are replaced by a
// refresh or for their age. Members that are protected stay, unless a refresh is to replace them. Those that are not in
// service yet go only when no other is left.
func (d *decider) victims(n int) []*View {
	var pool, young, out []*View
	count, onDemand := map[string]int{}, d.onDemand()
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if !d.counts(v) {
			continue
		}
		count[v.Zone]++
		switch {
		case v.State == InService && (!v.Protected || d.stale(v) && !d.holds(v)):
			pool = append(pool, v)
		case starts(v.State):
			young = append(young, v)
		}
	}
	for n > 0 {
		if len(pool) == 0 {
			pool, young = young, nil
			// What weights overshoot by was launched a moment ago, and stays.
			if slices.ContainsFunc(pool, func(v *View) bool { return v.Weight > max(1, n) }) {
				break
			}
		}
		fits := keep(pool, func(v *View) bool { return v.weight() <= n || v.Weight <= 1 })
		if len(fits) == 0 {
			break
		}
		if sick := keep(fits, func(v *View) bool { return v.Health == Unhealthy || d.atRisk(v) }); len(sick) > 0 {
			fits = sick
		} else if old := keep(pool, func(v *View) bool { return d.stale(v) || d.aged(v) }); len(old) > 0 {
			// Those that are lighter are their replacements, or some of them.
			if fits = keep(old, func(v *View) bool { return v.weight() <= n }); len(fits) == 0 {
				break
			}
		}
		fits = d.option(fits, onDemand)
		v := d.choose(d.fullest(fits, count))
		if !v.Spot {
			onDemand -= v.weight()
		}
		count[v.Zone]--
		n -= v.weight()
		out = append(out, v)
		pool = slices.DeleteFunc(pool, func(p *View) bool { return p == v })
	}
	return out
}

// fullest keeps the members in the zones that hold most, zones outside the group first.
func (d *decider) fullest(pool []*View, count map[string]int) []*View {
	mine := map[string]bool{}
	for _, s := range d.s.Subnets {
		mine[s.Zone] = true
	}
	if stray := keep(pool, func(v *View) bool { return len(mine) > 0 && !mine[v.Zone] }); len(stray) > 0 {
		return stray
	}
	most := 0
	for _, v := range pool {
		most = max(most, count[v.Zone])
	}
	return keep(pool, func(v *View) bool { return count[v.Zone] == most })
}

func keep(pool []*View, want func(*View) bool) []*View {
	out := make([]*View, 0, len(pool))
	for _, v := range pool {
		if want(v) {
			out = append(out, v)
		}
	}
	return out
}

// choose narrows the pool by each policy in turn. The pool is not empty, and is ordered by launch time and id.
func (d *decider) choose(pool []*View) *View {
	policies, now := d.s.Group.TerminationPolicies, d.s.Now
	if len(policies) == 0 {
		policies = []string{"Default"}
	}
	for _, p := range policies {
		switch p {
		case "OldestInstance":
			pool = least(pool, func(v *View) int64 { return v.LaunchedAt.UnixNano() })
		case "NewestInstance":
			pool = least(pool, func(v *View) int64 { return -v.LaunchedAt.UnixNano() })
		case "OldestLaunchTemplate":
			pool = d.oldestTemplate(pool)
		case "OldestLaunchConfiguration":
			pool = d.oldestConfiguration(pool)
		case "ClosestToNextInstanceHour":
			pool = nearestHour(pool, now)
		case "AllocationStrategy":
			pool = d.offStrategy(pool)
		default:
			pool = d.offStrategy(pool)
			if lc := keep(pool, func(v *View) bool { return v.LaunchConfiguration != "" }); len(lc) > 0 {
				pool = d.oldestConfiguration(lc)
			} else {
				pool = d.oldestTemplate(pool)
			}
			pool = nearestHour(pool, now)
		}
	}
	return pool[0]
}

// least keeps the members with the smallest value.
func least(pool []*View, value func(*View) int64) []*View {
	low := value(pool[0])
	for _, v := range pool[1:] {
		low = min(low, value(v))
	}
	return keep(pool, func(v *View) bool { return value(v) == low })
}

// oldestTemplate keeps those from another template than the group's or its overrides', or else from the lowest version.
// Members without a template are the oldest of all.
func (d *decider) oldestTemplate(pool []*View) []*View {
	ours := func(id string) bool {
		return d.s.Current.ID == "" || id == d.s.Current.ID || slices.ContainsFunc(d.s.Offers, func(o Offer) bool { return o.From.ID == id })
	}
	if other := keep(pool, func(v *View) bool { return v.Template == nil || !ours(v.Template.ID) }); len(other) > 0 {
		return other
	}
	return least(pool, func(v *View) int64 { return number(v.Template.Version) })
}

// oldestConfiguration keeps those of another launch configuration than the group's, and of these, or else of all, those of
// the one that was made first. One that is deleted is older than those that are there.
func (d *decider) oldestConfiguration(pool []*View) []*View {
	lc := keep(pool, func(v *View) bool { return v.LaunchConfiguration != "" })
	if len(lc) == 0 {
		return pool
	}
	if other := keep(lc, func(v *View) bool { return v.LaunchConfiguration != d.s.Group.LaunchConfiguration }); len(other) > 0 {
		lc = other
	}
	return least(lc, func(v *View) int64 {
		if made, ok := d.s.Configurations[v.LaunchConfiguration]; ok {
			return made.UnixNano()
		}
		return math.MinInt64
	})
}

func nearestHour(pool []*View, now time.Time) []*View {
	return least(pool, func(v *View) int64 {
		used := now.Sub(v.LaunchedAt) % time.Hour
		if used < 0 {
			used += time.Hour
		}
		return int64(time.Hour - used)
	})
}

func number(s string) int64 {
	var n int64
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int64(c-'0')
	}
	return n
}
