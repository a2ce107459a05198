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
