package scaling

import "math"

// Adjustment types.
const (
	ChangeInCapacity        = "ChangeInCapacity"
	ExactCapacity           = "ExactCapacity"
	PercentChangeInCapacity = "PercentChangeInCapacity"
)

// Capacity is what the policy arithmetic works on.
type Capacity struct {
	Min, Max, Desired int
	InService         int  // in service and warmed up: what the metric speaks of
	Warming           int  // in service and warming up, or on the way there
	Missing           int  // asked for, and about to be launched
	Busy              bool // launches or terminations are under way
}

// growing tells whether members are on their way in or warm up: policies don't shrink the group then.
func (c Capacity) growing() bool { return c.Warming > 0 || c.Missing > 0 }

func (c Capacity) clamp(n int) int { return max(c.Min, min(c.Max, n)) }

// adjusted applies an adjustment to a base capacity. A percentage above one is rounded down, one between zero and one
// changes by one, and the same towards zero below; magnitude is the least change that a percentage makes.
func adjusted(base, adjustment int, kind string, magnitude int) int {
	switch kind {
	case ExactCapacity:
		return adjustment
	case PercentChangeInCapacity:
		exact := float64(base) * float64(adjustment) / 100
		change := int(exact) // towards zero
		switch {
		case exact > 0:
			change = max(change, 1, magnitude)
		case exact < 0:
			change = min(change, -1, -magnitude)
		}
		return base + change
	}
	return base + adjustment
}

// pickStep finds the step whose interval holds the metric's distance from the threshold. Above the threshold a lower
// bound is part of its step, below it an upper bound is.
func pickStep(steps []Step, distance float64) (Step, bool) {
	for _, s := range steps {
		low, high := math.Inf(-1), math.Inf(1)
		if s.Lower != nil {
			low = *s.Lower
		}
		if s.Upper != nil {
			high = *s.Upper
		}
		if distance >= 0 && distance >= low && distance < high || distance < 0 && distance > low && distance <= high {
			return s, true
		}
	}
	return Step{}, false
}

// simple is what a simple policy makes of the capacity. While the group cools down or works, it does nothing.
func simple(c Capacity, p Policy) (int, bool) {
	if p.Adjustment == nil || c.Busy {
		return 0, false
	}
	return changed(c, adjusted(c.Desired, *p.Adjustment, p.AdjustmentType, deref(p.MinMagnitude, deref(p.MinStep, 0))))
}

// step is what a step policy makes of the capacity, given how far the metric is from the alarm's threshold. Members that
// warm up count for what they are there for: growing looks at the capacity without them, so that a second alarm for the
// same load adds only what a bigger step adds; shrinking waits for them.
func step(c Capacity, p Policy, distance float64) (int, bool) {
	s, ok := pickStep(p.Steps, distance)
	if !ok {
		return 0, false
	}
	m := deref(p.MinMagnitude, 0)
	if p.AdjustmentType == ExactCapacity {
		if n := c.clamp(s.Adjustment); n < c.Desired && c.growing() {
			return 0, false
		}
		return changed(c, s.Adjustment)
	}
	if s.Adjustment > 0 {
		n := adjusted(c.Desired-min(c.Warming+c.Missing, c.Desired), s.Adjustment, p.AdjustmentType, m)
		if n <= c.Desired {
			return 0, false
		}
		return changed(c, n)
	}
	if c.growing() {
		return 0, false
	}
	return changed(c, adjusted(c.Desired, s.Adjustment, p.AdjustmentType, m))
}

// trackOut is the capacity that brings the metric down to the target: proportional to the members that carried the load,
// rounded up.
func trackOut(c Capacity, metric, target float64) (int, bool) {
	if target <= 0 || metric <= target {
		return 0, false
	}
	n := c.Desired + 1
	if c.InService > 0 {
		n = ceilRatio(c.InService, metric, target)
	}
	if n <= c.Desired {
		return 0, false
	}
	return changed(c, n)
}

// trackIn is the capacity that lets the metric rise up to the target, rounded up so that less is removed, and not more
// than half of the group at once. Nothing is removed while the group grows or members warm up.
func trackIn(c Capacity, metric, target float64) (int, bool) {
	if target <= 0 || metric >= target || c.growing() {
		return 0, false
	}
	n := max(ceilRatio(c.InService, metric, target), c.Desired/2)
	if n >= c.Desired {
		return 0, false
	}
	return changed(c, n)
}

// ceilRatio is ceil(n * metric / target), bounded, and safe from a quotient that is an integer but for rounding.
func ceilRatio(n int, metric, target float64) int {
	v := float64(n) * math.Max(metric, 0) / target
	if !(v < 1e6) {
		return 1e6
	}
	return int(math.Ceil(v - 1e-9))
}

func changed(c Capacity, n int) (int, bool) {
	n = c.clamp(n)
	return n, n != c.Desired
}

// lowThreshold is the low alarm's threshold: a tenth below the target, whatever the group's size.
func lowThreshold(target float64) float64 { return target * 0.9 }

func deref[T any](p *T, or T) T {
	if p == nil {
		return or
	}
	return *p
}
