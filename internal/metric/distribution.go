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

// spread is a statistic of the values between two bounds, each a percentile or a value; the lower one is not part of it.
type spread struct {
	kind      string // tm trimmed mean, wm winsorized mean, tc trimmed count, ts trimmed sum, pr percentage
	low, high float64
	percent   bool
}

// readSpread reads tm90, TM(10%:90%), TM(150:1000), PR(:300), IQM and so on.
func readSpread(name string) (spread, bool) {
	if name == "IQM" {
		return spread{"tm", 25, 75, true}, true
	}
	if len(name) < 3 {
		return spread{}, false
	}
	s := spread{kind: strings.ToLower(name[:2])}
	if !slices.Contains([]string{"tm", "wm", "tc", "ts", "pr"}, s.kind) {
		return s, false
	}
	rest := name[2:]
	if name[:2] == s.kind { // tm90
		v, ok := percentile("p" + rest)
		s.high, s.percent = v, true
		return s, ok && s.kind != "pr"
	}
	rest, opened := strings.CutPrefix(rest, "(")
	rest, closed := strings.CutSuffix(rest, ")")
	from, to, two := strings.Cut(rest, ":")
	if name[:2] != strings.ToUpper(s.kind) || !opened || !closed || !two || from+to == "" || len(rest) > 40 {
		return s, false
	}
	s.percent = strings.HasSuffix(from+to, "%") || strings.HasSuffix(from, "%")
	bound := func(text string, none float64) (float64, bool) {
		if text == "" {
			return none, true
		}
		digits, is := strings.CutSuffix(text, "%")
		v, err := strconv.ParseFloat(digits, 64)
		return v, err == nil && is == s.percent && sane(v) && (!s.percent || v >= 0 && v <= 100)
	}
	least, most := math.Inf(-1), math.Inf(1)
	if s.percent {
		least, most = 0, 100
	}
	var ok, also bool
	s.low, ok = bound(from, least)
	s.high, also = bound(to, most)
	return s, ok && also && s.low < s.high && !(s.kind == "pr" && s.percent)
}

// spread is a statistic of a part of the values; false if the distribution is not known, or there is nothing in between.
func (p Point) spread(s spread) (float64, bool) {
	list := p.bins
	mid := bin.value
	if p.Minimum == p.Maximum {
		list = []bin{{count: p.SampleCount}}
		mid = func(bin) float64 { return p.Minimum }
	}
	if len(list) == 0 {
		return 0, false
	}
	value := func(b bin) float64 { return min(max(mid(b), p.Minimum), p.Maximum) }
	total := 0.0
	for _, b := range list {
		total += b.count
	}
	var count, sum, before, all float64
	low, high := s.low, s.high
	if s.percent && s.kind == "wm" {
		low, _ = p.Percentile(s.low)
		high, _ = p.Percentile(s.high)
	}
	for _, b := range list {
		v := value(b)
		n := b.count
		if s.percent {
			n = max(0, min(before+n, total*high/100)-max(before, total*low/100))
		} else if v <= low || v > high {
			n = 0
		}
		count, sum, before = count+n, sum+n*v, before+b.count
		all += b.count * min(max(v, low), high)
	}
	switch {
	case s.kind == "pr":
		return 100 * count / total, true
	case s.kind == "tc":
		return count, true
	case s.kind == "ts":
		return sum, true
	case s.kind == "wm":
		return min(max(all/total, p.Minimum), p.Maximum), true
	}
	return min(max(sum/count, p.Minimum), p.Maximum), count > 0
}

// IsExtended tells whether name is that of a statistic of how values are spread.
func IsExtended(name string) bool {
	_, ok := readSpread(name)
	return ok || IsPercentile(name)
}

// lowSample tells whether a percentile of so many values says little: CloudWatch wants 10 values on either side of it.
func lowSample(statistic string, count float64) bool {
	p, ok := percentile(statistic)
	if !ok || p <= 0 || p >= 100 {
		return false
	}
	p /= 100
	return count*min(p, 1-p) < 10-1e-9
}
