package metric

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// A distribution is how the values of a slot are spread, in bins whose bounds grow by 2 %: a percentile is exact to 1 %. It is
// not known if a part of the data came as a statistic set of different values; one value needs no bins.
type bin struct {
	at    int32 // see binOf
	count float64
}

const (
	maxBins = 160 // of a slot: beyond, neighbours become one
	binZero = 0
	binMid  = 20_000 // the bin of ±1 is ±binMid
)

var binStep = math.Log(1.02)

func binOf(v float64) int32 {
	if v == 0 {
		return binZero
	}
	k := binMid + int32(max(-binMid+1, min(binMid, math.Round(math.Log(math.Abs(v))/binStep))))
	if v < 0 {
		return -k
	}
	return k
}

// value is the middle of a bin.
func (b bin) value() float64 {
	switch {
	case b.at == binZero:
		return 0
	case b.at < 0:
		return -math.Exp(float64(-b.at-binMid) * binStep)
	}
	return math.Exp(float64(b.at-binMid) * binStep)
}

// same tells whether all values of the slot are one.
func (s *slot) same() bool { return s.min == s.max }

// mergeBins returns the distribution of both slots' data, nil if it is not known or needs none.
func mergeBins(a, b *slot) []bin {
	switch {
	case a.count == 0:
		return b.bins
	case b.count == 0:
		return a.bins
	case a.same() && b.same() && a.min == b.min:
		return nil
	case !a.same() && a.bins == nil, !b.same() && b.bins == nil:
		return nil
	}
	var one [2]bin
	of := func(s *slot, room []bin) []bin {
		if s.same() {
			room[0] = bin{binOf(s.min), s.count}
			return room[:1]
		}
		return s.bins
	}
	x, y := of(a, one[:1]), of(b, one[1:])
	out := make([]bin, 0, len(x)+len(y))
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].at < y[0].at:
			out, x = append(out, x[0]), x[1:]
		case len(x) == 0 || y[0].at < x[0].at:
			out, y = append(out, y[0]), y[1:]
		default:
			out = append(out, bin{x[0].at, x[0].count + y[0].count})
			x, y = x[1:], y[1:]
		}
	}
	for len(out) > maxBins {
		n := 0
		for i := 0; i < len(out); i += 2 {
			b := out[i]
			if i+1 < len(out) {
				b = bin{out[i+1].at, b.count + out[i+1].count}
			}
			out[n] = b
			n++
		}
		out = out[:n]
	}
	return out
}

// Percentile returns the value that p percent of the data don't exceed; false if the distribution is not known.
func (p Point) Percentile(percent float64) (float64, bool) {
	if p.Minimum == p.Maximum {
		return p.Minimum, true
	}
	if len(p.bins) == 0 {
		return 0, false
	}
	total := 0.0
	for _, b := range p.bins {
		total += b.count
	}
	left := math.Max(total*percent/100, math.SmallestNonzeroFloat64)
	i := slices.IndexFunc(p.bins, func(b bin) bool {
		left -= b.count
		return left <= total*1e-12
	})
	switch {
	case percent <= 0:
		return p.Minimum, true
	case i < 0 || percent >= 100:
		return p.Maximum, true
	}
	return math.Min(math.Max(p.bins[i].value(), p.Minimum), p.Maximum), true
}

// percentile reads the name of a percentile: p0 to p100, with up to ten decimals.
func percentile(name string) (float64, bool) {
	digits, ok := strings.CutPrefix(name, "p")
	if !ok || digits == "" || len(digits) > 14 || strings.Trim(digits, "0123456789.") != "" || digits[0] == '.' {
		return 0, false
	}
	v, err := strconv.ParseFloat(digits, 64)
	return v, err == nil && v <= 100
}

// IsPercentile tells whether name is that of a percentile.
func IsPercentile(name string) bool {
	_, ok := percentile(name)
	return ok
}

// NeedsDistribution tells whether a statistic is one of how values are spread.
func NeedsDistribution(name string) bool { return IsPercentile(name) }
