package metric

import (
	"math"
	"strconv"
	"strings"
	"time"

	"skerry/internal/fault"
)

// Bounds of published data.
const (
	MaxDimensions = 30
	MaxValues     = 150
	maxNameLen    = 255
	maxValueLen   = 1024
	maxPast       = 14 * 24 * time.Hour
	maxFuture     = 2 * time.Hour
)

// maxMagnitude is the largest value that a datum may have.
var maxMagnitude = math.Ldexp(1, 360)

// StatisticSet is a summary of values that the publisher has aggregated.
type StatisticSet struct {
	SampleCount, Sum, Minimum, Maximum float64
}

// Datum is one publication. The values are either Stats, or Values with Counts (each 1 when Counts is empty), or Value.
type Datum struct {
	Namespace, Name string
	Dimensions      map[string]string
	Unit            string    // "" is None
	Timestamp       time.Time // zero is the time of Put
	Value           float64
	Values, Counts  []float64
	Stats           *StatisticSet
	Spread          []Spread // with Stats: how its values are spread, by ascending value
	HighResolution  bool     // kept a second, not a minute apart
}

// Spread is a value of a distribution, with how often it, or one near to it, is there.
type Spread struct{ Value, Count float64 }

// Units are the units that a datum may have.
var Units = map[string]bool{"Seconds": true, "Microseconds": true, "Milliseconds": true, "Bytes": true, "Kilobytes": true, "Megabytes": true,
	"Gigabytes": true, "Terabytes": true, "Bits": true, "Kilobits": true, "Megabits": true, "Gigabits": true, "Terabits": true, "Percent": true,
	"Count": true, "Bytes/Second": true, "Kilobytes/Second": true, "Megabytes/Second": true, "Gigabytes/Second": true, "Terabytes/Second": true,
	"Bits/Second": true, "Kilobits/Second": true, "Megabits/Second": true, "Gigabits/Second": true, "Terabits/Second": true, "Count/Second": true, "None": true}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "InvalidParameterValue", format, args...)
}

// Numbered puts the position of a datum, counted from 0, into a message about it.
func Numbered(err error, i int) error {
	if f, ok := fault.As(err); ok {
		return fault.New(f.Kind, f.Code, "%s", strings.ReplaceAll(f.Msg, "MetricData.member.N", "MetricData.member."+strconv.Itoa(i+1)))
	}
	return err
}

// check refuses a datum that CloudWatch would refuse, and returns its aggregate.
func (d Datum) check(now time.Time) (slot, error) {
	if len(d.Namespace) < 1 || len(d.Namespace) > maxNameLen {
		return slot{}, invalid("The value %s for parameter Namespace is invalid.", d.Namespace)
	}
	if len(d.Name) < 1 || len(d.Name) > maxNameLen {
		return slot{}, invalid("The value %s for parameter MetricData.member.N.MetricName is invalid.", d.Name)
	}
	if len(d.Dimensions) > MaxDimensions {
		return slot{}, invalid("The collection MetricData.member.N.Dimensions must not have a size greater than %d.", MaxDimensions)
	}
	for k, v := range d.Dimensions {
		if k == "" || len(k) > maxNameLen || strings.HasPrefix(k, ":") || !printableASCII(k) {
			return slot{}, invalid("The value %s for parameter MetricData.member.N.Dimensions.member.N.Name is invalid.", k)
		}
		if strings.TrimSpace(v) == "" || len(v) > maxValueLen || !printableASCII(v) {
			return slot{}, invalid("The value %s for parameter MetricData.member.N.Dimensions.member.N.Value is invalid.", v)
		}
	}
	if d.Unit != "" && !Units[d.Unit] {
		return slot{}, invalid("The value %s for parameter MetricData.member.N.Unit is invalid.", d.Unit)
	}
	if t := d.Timestamp; !t.IsZero() && (now.Sub(t) > maxPast || t.Sub(now) > maxFuture) {
		return slot{}, invalid("The parameter MetricData.member.N.Timestamp must specify a time within the past two weeks.")
	}
	return d.aggregate()
}

func (d Datum) aggregate() (slot, error) {
	switch {
	case d.Stats != nil:
		s := slot{count: d.Stats.SampleCount, sum: d.Stats.Sum, min: d.Stats.Minimum, max: d.Stats.Maximum}
		if !(s.count > 0) || !sane(s.count) || !sane(s.sum) || !sane(s.min) || !sane(s.max) || s.min > s.max {
			return slot{}, invalid("The value for parameter MetricData.member.N.StatisticValues is invalid.")
		}
		if !s.same() {
			all := slot{}
			for _, v := range d.Spread {
				one := slot{count: v.Count, min: v.Value, max: v.Value}
				if !(v.Count > 0) || !sane(v.Value) || !sane(v.Count) {
					return slot{}, invalid("The value for parameter MetricData.member.N.StatisticValues is invalid.")
				}
				if all.count == 0 {
					all = one
				} else {
					all.add(one)
				}
			}
			if s.bins = all.bins; len(d.Spread) > 0 && all.same() {
				s.bins = []bin{{binOf(all.min), all.count}}
			}
		}
		return s, nil
	case len(d.Values) > 0:
		if len(d.Values) > MaxValues {
			return slot{}, invalid("The collection MetricData.member.N.Values must not have a size greater than %d.", MaxValues)
		}
		if len(d.Counts) > 0 && len(d.Counts) != len(d.Values) {
			return slot{}, fault.New(fault.Invalid, "InvalidParameterValue", "The parameters MetricData.member.N.Values and MetricData.member.N.Counts must be of the same size.")
		}
		s := slot{min: math.Inf(1), max: math.Inf(-1)}
		for i, v := range d.Values {
			n := 1.0
			if len(d.Counts) > 0 {
				n = d.Counts[i]
			}
			if !sane(v) || !sane(n) || n <= 0 {
				return slot{}, invalid("The value %v for parameter MetricData.member.N.Values is invalid.", v)
			}
			s.add(slot{count: n, sum: n * v, min: v, max: v})
		}
		return s, nil
	}
	if !sane(d.Value) {
		return slot{}, invalid("The value %v for parameter MetricData.member.N.Value is invalid.", d.Value)
	}
	return slot{count: 1, sum: d.Value, min: d.Value, max: d.Value}, nil
}

func sane(v float64) bool { return !math.IsNaN(v) && math.Abs(v) <= maxMagnitude }

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
