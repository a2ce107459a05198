package metric

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"skerry/internal/fault"
	"skerry/internal/scope"
)

var east = scope.Scope{Account: "000000000000", Region: "us-east-1"}

// clocked opens a store whose time the test moves; dir "" keeps it in memory.
func clocked(t testing.TB, dir string, most int) (*Store, *time.Time) {
	t.Helper()
	now := time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)
	s, err := Open(dir, Options{Clock: func() time.Time { return now }, MaxSeries: most})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, &now
}

func cpu(dims map[string]string, at time.Time, v float64) Datum {
	return Datum{Namespace: "AWS/EC2", Name: "CPUUtilization", Dimensions: dims, Unit: "Percent", Timestamp: at, Value: v, HighResolution: true}
}

func (s *Store) mustPut(t testing.TB, ds ...Datum) {
	t.Helper()
	if err := s.Put(east, ds); err != nil {
		t.Fatal(err)
	}
}

func (s *Store) points(t testing.TB, name string, dims map[string]string, start, end time.Time, period time.Duration) []Point {
	t.Helper()
	ps, err := s.Query(east, "AWS/EC2", name, dims, start, end, period, "")
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// TestGroupAggregates: samples of several instances in one period are one point of their group.
func TestGroupAggregates(t *testing.T) {
	s, now := clocked(t, "", 0)
	g := map[string]string{"AutoScalingGroupName": "g"}
	t0 := now.Truncate(time.Minute)
	for i, v := range []float64{20, 40, 90} {
		s.mustPut(t, cpu(g, t0.Add(time.Duration(i)*700*time.Millisecond), v))
	}
	s.mustPut(t, cpu(g, t0.Add(3*time.Second), 10))
	ps := s.points(t, "CPUUtilization", g, t0, t0.Add(time.Minute), 3*time.Second)
	if len(ps) != 2 || ps[0].SampleCount != 3 || ps[0].Minimum != 20 || ps[0].Maximum != 90 || ps[1].SampleCount != 1 {
		t.Fatalf("periods of 3 s: %+v", ps)
	}
	if avg, _ := ps[0].Stat("Average"); avg != 50 {
		t.Errorf("the average is %v", avg)
	}
	if ps := s.points(t, "CPUUtilization", g, t0, t0.Add(time.Minute), time.Minute); len(ps) != 1 || ps[0].SampleCount != 4 || ps[0].Sum != 160 {
		t.Errorf("a period of a minute: %+v", ps)
	}
	if ps := s.points(t, "CPUUtilization", nil, t0, t0.Add(time.Minute), time.Minute); len(ps) != 0 {
		t.Errorf("another set of dimensions has %+v", ps)
	}
}

// TestReopen: what Put has returned for is there after a restart, and in the list.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s, now := clocked(t, dir, 0)
	d := map[string]string{"InstanceId": "i-1"}
	s.mustPut(t, cpu(d, *now, 7), cpu(d, now.Add(-time.Hour), 3))
	s.mustPut(t, Datum{Namespace: "x", Name: "y", Value: 1})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, now = clocked(t, dir, 0)
	if ps := s.points(t, "CPUUtilization", d, now.Add(-2*time.Hour), now.Add(time.Hour), time.Minute); len(ps) != 2 || ps[0].Sum != 3 || ps[1].Sum != 7 {
		t.Errorf("after a restart: %+v", ps)
	}
	if l := s.List(east, Filter{ActiveWithin: 3 * time.Hour}); len(l) != 2 {
		t.Errorf("the list: %+v", l)
	}
	s.mustPut(t, cpu(map[string]string{"InstanceId": "i-2"}, *now, 9)) // gets an id of its own
	if ps := s.points(t, "CPUUtilization", d, now.Add(-2*time.Hour), now.Add(time.Hour), time.Minute); len(ps) != 2 {
		t.Errorf("a new series writes into an old one: %+v", ps)
	}
}

func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(strings.Repeat("no database ", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, Options{}); err == nil {
		s.Close()
		t.Error("a file that is no store was opened")
	}
}

// TestForget: a store that is full forgets what has been idle longest, and refuses when all is in use.
func TestForget(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		s, now := clocked(t, dir, 40)
		dims := func(i int) map[string]string { return map[string]string{"InstanceId": fmt.Sprint("i-", i)} }
		for i := range 40 {
			s.mustPut(t, cpu(dims(i), now.Add(time.Duration(i)*time.Second), 1))
		}
		if err := s.Put(east, []Datum{cpu(dims(99), *now, 1)}); !fault.Is(err, fault.Limit) {
			t.Fatalf("a series too many: %v", err)
		}
		*now = now.Add(4 * time.Hour)
		s.mustPut(t, cpu(dims(0), *now, 5)) // in use again
		s.mustPut(t, cpu(dims(40), *now, 1))
		if n := len(s.List(east, Filter{})); n > 40 || n < 30 {
			t.Errorf("the store has %d metrics", n)
		}
		if ps := s.points(t, "CPUUtilization", dims(1), now.Add(-24*time.Hour), now.Add(time.Hour), time.Minute); len(ps) != 0 {
			t.Errorf("the longest idle is still there: %+v", ps)
		}
		for _, i := range []int{0, 39, 40} {
			if ps := s.points(t, "CPUUtilization", dims(i), now.Add(-24*time.Hour), now.Add(time.Hour), time.Minute); len(ps) == 0 {
				t.Errorf("series %d was forgotten", i)
			}
		}
		s.mustPut(t, cpu(dims(1), *now, 8)) // comes back empty
		if ps := s.points(t, "CPUUtilization", dims(1), now.Add(-24*time.Hour), now.Add(time.Hour), time.Minute); len(ps) != 1 || ps[0].Sum != 8 {
			t.Errorf("a series that came back: %+v", ps)
		}
	}
}

// TestRetention: data grow coarser with their age, lose nothing of their sums, and go in the end.
func TestRetention(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		s, now := clocked(t, dir, 0)
		t0 := now.Truncate(time.Hour)
		for i := range 600 {
			s.mustPut(t, cpu(nil, t0.Add(time.Duration(i)*time.Second), float64(i)))
		}
		total := func() (sum float64, n int) {
			for _, p := range s.points(t, "CPUUtilization", nil, t0, t0.Add(time.Hour), time.Second) {
				sum += p.Sum
				n++
			}
			return sum, n
		}
		for _, step := range []struct {
			age  time.Duration
			want int
		}{{0, 600}, {4*time.Hour + time.Hour, 10}, {16 * 24 * time.Hour, 2}, {64 * 24 * time.Hour, 1}, {456 * 24 * time.Hour, 0}} {
			*now = t0.Add(step.age + time.Hour)
			for more, i := true, 0; more; i++ {
				var err error
				if more, err = s.Sweep(); err != nil || i > 10 {
					t.Fatal(i, err)
				}
			}
			sum, n := total()
			if n != step.want || (n > 0 && sum != 599*600/2) {
				t.Errorf("after %v: %d points, sum %v; want %d", step.age, n, sum, step.want)
			}
		}
		if len(s.series) != 0 || len(s.metric) != 0 {
			t.Error("a series without data is still known")
		}
	}
}

func TestList(t *testing.T) {
	s, now := clocked(t, "", 0)
	s.mustPut(t, cpu(map[string]string{"InstanceId": "i-1"}, *now, 1), cpu(nil, *now, 1), Datum{Namespace: "app", Name: "old", Timestamp: now.Add(-10 * 24 * time.Hour), Value: 1})
	for _, tt := range []struct {
		f    Filter
		want int
	}{{Filter{}, 3}, {Filter{Namespace: "AWS/EC2"}, 2}, {Filter{Name: "old"}, 1}, {Filter{ActiveWithin: 3 * time.Hour}, 2},
		{Filter{Dimensions: map[string]string{"InstanceId": ""}}, 1}, {Filter{Dimensions: map[string]string{"InstanceId": "i-2"}}, 0}} {
		if got := s.List(east, tt.f); len(got) != tt.want {
			t.Errorf("%+v lists %d, want %d", tt.f, len(got), tt.want)
		}
	}
	if got := s.List(east.In("eu-west-1"), Filter{}); len(got) != 0 {
		t.Errorf("another region lists %+v", got)
	}
	*now = now.Add(15 * 24 * time.Hour)
	if got := s.List(east, Filter{}); len(got) != 0 {
		t.Errorf("after two idle weeks: %+v", got)
	}
}

// TestAllOrNothing: one bad datum refuses all.
func TestAllOrNothing(t *testing.T) {
	s, now := clocked(t, "", 0)
	for _, bad := range []Datum{{Namespace: "a"}, {Namespace: "a", Name: "b", Value: math.Inf(1)}, {Namespace: "a", Name: "b", Unit: "Furlongs"},
		{Namespace: "a", Name: "b", Dimensions: map[string]string{"": "x"}}, {Namespace: "a", Name: "b", Values: []float64{1}, Counts: []float64{0}},
		{Namespace: "a", Name: "b", Stats: &StatisticSet{SampleCount: 1, Sum: 1, Minimum: 2, Maximum: 1}}, {Namespace: "a", Name: "b", Timestamp: now.Add(-15 * 24 * time.Hour)}} {
		err := s.Put(east, []Datum{cpu(nil, *now, 1), bad})
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if l := s.List(east, Filter{}); len(l) != 0 {
		t.Errorf("refused data left %+v", l)
	}
}

// TestModel compares memory, disk and a list of the data with each other.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		mem, now := clocked(t, "", 0)
		disk, _ := clocked(t, dir, 0)
		defer disk.Close()
		t0 := now.Add(-3 * time.Hour)
		type sample struct {
			sec int64
			v   float64
		}
		var all []sample
		for range rapid.IntRange(1, 4).Draw(rt, "puts") {
			var ds []Datum
			for range rapid.IntRange(1, 12).Draw(rt, "data") {
				at := t0.Add(time.Duration(rapid.IntRange(0, 9000).Draw(rt, "second")) * time.Second)
				v := float64(rapid.IntRange(-50, 50).Draw(rt, "value"))
				all = append(all, sample{at.Unix(), v})
				ds = append(ds, cpu(nil, at, v))
			}
			mem.mustPut(t, ds...)
			disk.mustPut(t, ds...)
		}
		period := rapid.SampledFrom([]int64{1, 3, 7, 60, 300, 3600, 7200}).Draw(rt, "period")
		want := map[int64]*Point{}
		for _, s := range all {
			at := s.sec - mod(s.sec, period)
			p := want[at]
			if p == nil {
				p = &Point{Minimum: math.Inf(1), Maximum: math.Inf(-1)}
				want[at] = p
			}
			p.SampleCount++
			p.Sum += s.v
			p.Minimum, p.Maximum = math.Min(p.Minimum, s.v), math.Max(p.Maximum, s.v)
		}
		end := t0.Add(4 * time.Hour)
		a := mem.points(t, "CPUUtilization", nil, t0, end, time.Duration(period)*time.Second)
		b := disk.points(t, "CPUUtilization", nil, t0, end, time.Duration(period)*time.Second)
		if !reflect.DeepEqual(a, b) || len(a) != len(want) {
			rt.Fatalf("memory %d, disk %d, want %d points", len(a), len(b), len(want))
		}
		for _, p := range a {
			w := want[p.Time.Unix()]
			if w == nil || p.SampleCount != w.SampleCount || p.Sum != w.Sum || p.Minimum != w.Minimum || p.Maximum != w.Maximum {
				rt.Fatalf("at %v: %+v, want %+v", p.Time, p, w)
			}
		}
	})
}

// FuzzBlock: a block is refused, or is what encodes to itself; nothing else is invented.
func FuzzBlock(f *testing.F) {
	f.Add(encodeBlock([]slot{{offset: 1, count: 1, sum: 2, min: 2, max: 2}, {offset: 3599, count: 3, sum: 6, min: 1, max: 3}}))
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		block, err := decodeBlock(b)
		if err != nil {
			return
		}
		again, err := decodeBlock(encodeBlock(block))
		if err != nil || len(again) != len(block) {
			t.Fatalf("%d slots became %d: %v", len(block), len(again), err)
		}
		for i := range block {
			if again[i].offset != block[i].offset || math.Float64bits(again[i].sum) != math.Float64bits(block[i].sum) {
				t.Fatalf("slot %d changed: %+v, %+v", i, block[i], again[i])
			}
		}
	})
}
