package metric

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A percentile is near to the exact one, whatever way the data came in, and survives the disk and coarsening.
func TestPercentiles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(rapid.Float64Range(1e-6, 1e6), rapid.Float64Range(-100, 100), rapid.Just(0.0)), 1, 120).Draw(t, "values")
		var block []slot
		for i, v := range values {
			s := slot{offset: uint16(i % 7), count: 1, sum: v, min: v, max: v}
			block = merge(block, s)
		}
		block, err := decodeBlock(encodeBlock(block))
		if err != nil {
			t.Fatal(err)
		}
		all := coarsen(block, 60)
		if len(all) != 1 {
			t.Fatalf("%d slots", len(all))
		}
		p := Point{SampleCount: all[0].count, Minimum: all[0].min, Maximum: all[0].max, bins: all[0].bins}
		slices.Sort(values)
		for _, percent := range []float64{0, 10, 50, 90, 99, 99.9, 100} {
			got, ok := p.Percentile(percent)
			if !ok {
				t.Fatal("not known")
			}
			k := max(0, int(math.Ceil(percent/100*float64(len(values))-1e-9))-1)
			want := values[k]
			if math.Abs(got-want) > 0.03*math.Abs(want)+1e-9 {
				t.Fatalf("p%v of %v: %v, want %v", percent, values, got, want)
			}
		}
	})
}

func TestDistributionOfStatistics(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	of := func(d Datum) slot {
		d.Namespace, d.Name = "n", "m"
		s, err := d.check(now)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	unknown := of(Datum{Stats: &StatisticSet{SampleCount: 10, Sum: 50, Minimum: 1, Maximum: 9}})
	if _, ok := (Point{Minimum: 1, Maximum: 9, bins: unknown.bins}).Percentile(50); ok {
		t.Error("a statistic set of different values has no percentiles")
	}
	known := of(Datum{Stats: &StatisticSet{SampleCount: 10, Sum: 18, Minimum: 1, Maximum: 9}, Spread: []Spread{{1, 9}, {9, 1}}})
	p := Point{Minimum: 1, Maximum: 9, bins: known.bins}
	if v, ok := p.Percentile(90); !ok || v != 1 {
		t.Errorf("p90 %v", v)
	}
	if v, ok := p.Percentile(91); !ok || math.Abs(v-9) > 0.1 {
		t.Errorf("p91 %v", v)
	}
	same := of(Datum{Stats: &StatisticSet{SampleCount: 3, Sum: 6, Minimum: 2, Maximum: 2}})
	if v, ok := (Point{Minimum: 2, Maximum: 2, bins: same.bins}).Percentile(99); !ok || v != 2 {
		t.Errorf("p99 of equal values: %v", v)
	}
	s := known
	s.add(unknown)
	if s.bins != nil {
		t.Error("what is known of a part is not known of the whole")
	}
}

func TestPercentileNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"p0": true, "p50": true, "p99.9": true, "p100": true, "p": false, "p101": false, "P90": false, "p.5": false, "p-1": false, "pNaN": false, "tm90": false, "p1e1": false} {
		if IsPercentile(name) != want {
			t.Errorf("%s", name)
		}
	}
}

func TestSpreadStatistics(t *testing.T) {
	t.Parallel()
	var p Point // the values 1, 2, 4 and 8
	s := slot{}
	for _, v := range []float64{1, 2, 4, 8} {
		one := slot{count: 1, sum: v, min: v, max: v}
		if s.count == 0 {
			s = one
		} else {
			s.add(one)
		}
	}
	p = Point{SampleCount: s.count, Sum: s.sum, Minimum: s.min, Maximum: s.max, bins: s.bins}
	for name, want := range map[string]float64{"tm50": 1.5, "TM(25%:75%)": 3, "TM(50%:)": 6, "TM(1:4)": 3, "wm50": 1.75, "WM(25%:75%)": 2.75, "WM(2:4)": 3, "tc75": 3, "TC(1:8)": 3, "TC(:0.5)": 0,
		"ts50": 3, "TS(2:8)": 12, "PR(2:)": 50, "PR(:2)": 50, "IQM": 3} {
		if got, ok := p.Stat(name); !ok || math.Abs(got-want) > 0.02*want {
			t.Errorf("%s: %v %v, want %v", name, got, ok, want)
		}
	}
	if _, ok := p.Stat("TM(100:)"); ok {
		t.Error("a mean of nothing is known")
	}
	same := Point{SampleCount: 4, Sum: 12, Minimum: 3, Maximum: 3}
	for name, want := range map[string]float64{"tm10": 3, "tc50": 2, "PR(:3)": 100, "PR(3:)": 0, "IQM": 3, "wm99": 3} {
		if got, ok := same.Stat(name); !ok || got != want {
			t.Errorf("of one value %s: %v %v, want %v", name, got, ok, want)
		}
	}
	if _, ok := (Point{SampleCount: 2, Sum: 4, Minimum: 1, Maximum: 3}).Stat("tm50"); ok {
		t.Error("a statistic set is spread in a known way")
	}
	for _, name := range []string{"tm", "tm101", "pr50", "TM()", "TM(:)", "TM(5)", "TM(10%:50)", "TM(90%:10%)", "TM(a:b)", "PR(10%:20%)", "Tm(1:2)", "tm(1:2)", "XX(1:2)", "TM(1:2", "TM(NaN:)", "TM(:Inf)", "IQM2", "TM(-5%:)"} {
		if IsExtended(name) {
			t.Errorf("%s is read", name)
		}
	}
}

// TestFewValues: an alarm may ignore a percentile of few values.
func TestFewValues(t *testing.T) {
	t.Parallel()
	for count, want := range map[float64]bool{99: true, 100: false} {
		if lowSample("p90", count) != want || lowSample("p10", count) != want || lowSample("tm90", count) {
			t.Errorf("of %v values", count)
		}
	}
	a := Alarm{ExtendedStatistic: "p90", EvaluationPeriods: 1, Threshold: 1, Comparison: "GreaterThanThreshold"}
	points := []Datapoint{{Value: 5, Low: true}}
	if v := Evaluate(a, points, time.Unix(0, 0)); v.State != StateAlarm {
		t.Errorf("evaluated: %q", v.State)
	}
	a.LowSampleCount = "ignore"
	if v := Evaluate(a, points, time.Unix(0, 0)); v.State != "" {
		t.Errorf("ignored: %q", v.State)
	}
}
