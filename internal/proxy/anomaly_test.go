package proxy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestJudgeConduct(t *testing.T) {
	t.Parallel()
	cs := []conduct{{weight: wholeWeight}, {weight: wholeWeight}, {weight: wholeWeight}}
	period := func(errors ...int64) {
		for i := range cs {
			cs[i].answers, cs[i].errors = 100, errors[i]
		}
		judgeConduct(cs, true)
	}
	weights := func() (w []int32) {
		for _, c := range cs {
			w = append(w, c.weight)
		}
		return w
	}
	for i, step := range []struct {
		errors [3]int64
		want   []int32
	}{
		{[3]int64{0, 0, 2}, []int32{1024, 1024, 1024}},
		{[3]int64{50, 50, 50}, []int32{1024, 1024, 1024}}, // all alike
		{[3]int64{0, 1, 40}, []int32{1024, 1024, 256}},
		{[3]int64{0, 0, 15}, []int32{1024, 1024, 64}},
		{[3]int64{0, 0, 90}, []int32{1024, 1024, 64}}, // never nothing: else nobody would see it recover
		{[3]int64{0, 0, 5}, []int32{1024, 1024, 128}},
		{[3]int64{0, 0, 0}, []int32{1024, 1024, 256}},
		{[3]int64{0, 0, 0}, []int32{1024, 1024, 512}},
		{[3]int64{0, 0, 0}, []int32{1024, 1024, 1024}},
	} {
		if period(step.errors[:]...); !slices.Equal(weights(), step.want) {
			t.Fatalf("step %d, errors %v: weights %v, want %v", i, step.errors, weights(), step.want)
		}
	}
	two := []conduct{{100, 0, false, wholeWeight}, {100, 100, false, wholeWeight}}
	if judgeConduct(two, true); two[1].anomalous || two[1].weight != wholeWeight {
		t.Error("two targets are too few to tell which is odd")
	}
	seen := []conduct{{100, 0, false, wholeWeight}, {100, 0, false, wholeWeight}, {100, 100, false, wholeWeight}}
	if judgeConduct(seen, false); !seen[2].anomalous || seen[2].weight != wholeWeight {
		t.Error("without mitigation it is seen, and nothing else")
	}
}

// Whatever happens: weights stay in their bounds, not all targets are anomalous, and a group that is well is whole again soon.
func TestJudgeConductAlways(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cs := make([]conduct, rapid.IntRange(1, 8).Draw(t, "targets"))
		for i := range cs {
			cs[i].weight = wholeWeight
		}
		for range rapid.IntRange(1, 6).Draw(t, "periods") {
			anomalous := 0
			for i := range cs {
				cs[i].answers = rapid.Int64Range(0, 200).Draw(t, "answers")
				cs[i].errors = rapid.Int64Range(0, cs[i].answers).Draw(t, "errors")
			}
			judgeConduct(cs, true)
			for _, c := range cs {
				if c.weight < leastWeight || c.weight > wholeWeight {
					t.Fatalf("weight %d", c.weight)
				}
				if c.anomalous {
					anomalous++
				}
			}
			if anomalous == len(cs) {
				t.Fatalf("all of %d are anomalous: %v", len(cs), cs)
			}
		}
		for range 5 {
			for i := range cs {
				cs[i].answers, cs[i].errors = 10, 0
			}
			judgeConduct(cs, true)
		}
		for _, c := range cs {
			if c.anomalous || c.weight != wholeWeight {
				t.Fatalf("not whole again: %v", cs)
			}
		}
	})
}

func TestWeightedRandom(t *testing.T) {
	t.Parallel()
	now := time.Now()
	g := groupOf(t, map[string]string{"load_balancing.algorithm.type": "weighted_random", "load_balancing.algorithm.anomaly_mitigation": "on"},
		Target{ID: "a"}, Target{ID: "b"}, Target{ID: "c"})
	ids := map[*target]string{}
	for _, id := range []string{"a", "b", "c"} {
		ids[g.members[hash(id, "127.0.0.1:1")].t] = id
	}
	share := func() map[string]int {
		m := map[string]int{}
		for range 30000 {
			m[ids[g.pick(nil, now)]]++
		}
		return m
	}
	for id, n := range share() {
		if n < 9500 || n > 10500 {
			t.Errorf("%s got %d of 30000", id, n)
		}
	}
	bad := g.members[hash("c", "127.0.0.1:1")].t
	for m := range ids {
		for range 100 {
			m.conducted(m != bad)
		}
	}
	g.judge()
	g.judge() // nothing new: the weight begins to come back
	if n := share()["c"]; n < 5500 || n > 6500 {
		t.Errorf("c got %d of 30000 at half its weight, want a fifth", n)
	}
	if a := g.anomalies(); !a["127.0.0.1:1"] {
		t.Errorf("anomalies %v", a)
	}
}

// In its slow start a target's share grows linearly; the rest is shared evenly by the others.
func TestSlowStartShares(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(rt, "targets")
		age := rapid.IntRange(1, 9).Draw(rt, "tenths")
		var targets []Target
		for i := range n {
			targets = append(targets, Target{ID: fmt.Sprint(i)})
		}
		g := groupOf(t, map[string]string{"slow_start.duration_seconds": "100"}, targets...)
		start := time.Unix(1000, 0)
		fresh := g.members[hash("0", "127.0.0.1:1")].t
		fresh.since.Store(start.UnixNano())
		got := map[*target]int{}
		const total = 12000
		for range total {
			got[g.pick(nil, start.Add(time.Duration(age)*10*time.Second))]++
		}
		// Each of its turns is taken with the chance age/10.
		p := float64(age) / 10
		want := total * p / (float64(n) - 1 + p)
		if x := float64(got[fresh]); x < want*0.85-60 || x > want*1.15+60 {
			rt.Errorf("%d targets, %d tenths: the new one got %v, want about %v", n, age, x, want)
		}
		least, most := total, 0
		for tr, k := range got {
			if tr != fresh {
				least, most = min(least, k), max(most, k)
			}
		}
		if most-least > 2 {
			rt.Errorf("the others got %d to %d", least, most)
		}
	})
	// Where all are in their slow start, none is.
	g := groupOf(t, map[string]string{"slow_start.duration_seconds": "100"}, Target{ID: "a"}, Target{ID: "b"})
	now := time.Unix(1000, 0)
	got := map[*target]int{}
	i := 0
	for _, m := range g.members {
		m.t.since.Store(now.Add(-time.Duration(i) * 90 * time.Second).UnixNano())
		i++
	}
	for range 100 {
		got[g.pick(nil, now)]++
	}
	for _, k := range got {
		if k != 50 {
			t.Errorf("shares %v", got)
		}
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for us := uint64(0); us < 4e9; us += 1 + us/40 {
		i := spreadBin(time.Duration(us) * time.Microsecond)
		if v := spreadValue(i) * 1e6; v < float64(us)*0.968-1 || v > float64(us)*1.033+1 {
			t.Fatalf("%d µs are counted as %v", us, v)
		}
	}
	if i := spreadBin(1 << 62); i != spreadBins-1 {
		t.Errorf("bin %d", i)
	}
	var l latency
	for i := range 100 {
		l.add(time.Duration(i+1)*time.Millisecond, i-1)
	}
	s, n, last := l.drain(), 0.0, -1.0
	for _, b := range s.Spread {
		if b.Value <= last {
			t.Error("not sorted")
		}
		n, last = n+b.Count, b.Value
	}
	if s.Count != 100 || n != 100 || s.Min != 0.001 || s.Max != 0.1 || l.drain().Count != 0 {
		t.Errorf("%+v", s)
	}
}
