package scaling

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// series is a load by the hour, for the time of each.
type series func(t time.Time) float64

func (series) CheckHours(json.RawMessage) error { return nil }

func (f series) Hours(_ scope.Scope, _ json.RawMessage, start time.Time, hour time.Duration, n int) ([]float64, error) {
	out := make([]float64, n)
	for i := range out {
		out[i] = f(start.Add(time.Duration(i) * hour))
	}
	return out, nil
}

// shape is busy by day, and on five days a week.
func shape(t time.Time) float64 {
	v := 100 + 80*math.Sin(float64(t.Hour()-6)*math.Pi/12)
	if t.Weekday() == time.Saturday || t.Weekday() == time.Sunday {
		v /= 2
	}
	return v
}

func TestForecastsFollowDaysAndWeeks(t *testing.T) {
	now := time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC) // a Friday: the next days are a weekend
	past := make([]float64, ForecastPast)
	for i := range past {
		past[i] = shape(now.Add(-time.Duration(i+1) * time.Hour))
	}
	for h, v := range forecast(past, forecastAhead) {
		want := shape(now.Add(time.Duration(h) * time.Hour))
		if math.Abs(v-want) > 0.35*want {
			t.Errorf("in %d hours %.0f, not %.0f", h, v, want)
		}
	}
	// A day alone is repeated; a level that has doubled is carried on.
	day := past[:24]
	for h, v := range forecast(day, 24) {
		if v != day[23-h] {
			t.Errorf("in %d hours %v, not %v", h, v, day[23-h])
		}
	}
	risen := append([]float64(nil), past...)
	for i := range 24 {
		risen[i] *= 2
	}
	if a, b := forecast(past, 24), forecast(risen, 24); b[12] < 1.3*a[12] {
		t.Errorf("a doubled load gives %v, not well above %v", b[12], a[12])
	}
	if v := forecast(append(make([]float64, 3), math.NaN()), 2); v[0] != 0 {
		t.Errorf("%v", v)
	}
}

func TestPredictiveScalingIsThereBeforeTheLoad(t *testing.T) {
	for _, scale := range []bool{true, false} {
		w := newWorld(t, 1)
		// 60 samples an hour at 50 % are 3,000 an instance: 18,000 from 15:00 on are six instances.
		w.e.Metrics = series(func(t time.Time) float64 {
			if h := t.Hour(); h >= 15 && h < 18 {
				return 18000
			}
			return 6000
		})
		w.create(settings(1, 10), 2)
		p := Policy{Scope: here, Group: "g", Name: "ahead", Type: PredictiveScaling, Enabled: true,
			Predictive: &Predictive{Load: "ASGTotalCPUUtilization", Scaling: "ASGAverageCPUUtilization", Target: 50, Scale: scale, Buffer: 600}}
		w.must(func(tx *store.WriteTx) error { _, err := w.e.PutPolicy(tx, p); return err })
		at := func(hour, minute int) int {
			w.now = time.Date(2024, 3, 1, hour, minute, 0, 0, time.UTC)
			w.step()
			return w.group().Desired
		}
		if got := at(14, 49); got != 2 {
			t.Fatalf("%v: at 14:49 %d", scale, got)
		}
		want := map[bool]int{true: 6, false: 2}[scale]
		if got := at(14, 50); got != want {
			t.Fatalf("%v: at 14:50 %d, not %d", scale, got, want)
		}
		f, err := w.e.ForecastOf(w.db.Read(), mustPolicy(w, "ahead"))
		if err != nil {
			t.Fatal(err)
		}
		times, load, capacity := f.Between(time.Date(2024, 3, 1, 15, 0, 0, 0, time.UTC), time.Date(2024, 3, 1, 19, 0, 0, 0, time.UTC), time.Hour)
		if len(times) != 4 || math.Abs(load[0]-18000) > 1e-6 || capacity[0] != 6 || capacity[3] != 2 {
			t.Fatalf("forecast %v %v %v", times, load, capacity)
		}
		if !scale {
			continue
		}
		w.run(3 * time.Second)
		if a := w.history()[0]; !strings.Contains(a.Cause, "a predictive scaling policy ahead changing the desired capacity from 2 to 6.") {
			t.Errorf("cause %s", a.Cause)
		}
		// Others do not take the group below the forecast while it stands.
		if n := w.e.floor(w.db.Read(), w.group()); n != 6 {
			t.Errorf("the floor is %d", n)
		}
		w.now = time.Date(2024, 3, 1, 19, 0, 0, 0, time.UTC)
		if n := w.e.floor(w.db.Read(), w.group()); n != 2 {
			t.Errorf("afterwards the floor is %d", n)
		}
	}
}

// brittle has no metrics for one load.
type brittle struct{ series }

func (b brittle) Hours(s scope.Scope, queries json.RawMessage, start time.Time, hour time.Duration, n int) ([]float64, error) {
	if strings.Contains(string(queries), "NetworkIn") {
		return nil, errors.New("no metrics")
	}
	return b.series.Hours(s, queries, start, hour, n)
}

// TestOneForecastDoesNotHinderOthers: a policy whose metrics can't be read is told of, and the others scale.
func TestOneForecastDoesNotHinderOthers(t *testing.T) {
	w := newWorld(t, 1)
	w.e.Metrics = brittle{func(time.Time) float64 { return 18000 }}
	w.create(settings(1, 10), 2)
	for _, name := range []string{"a-broken", "b-sound"} {
		load, busy := "ASGTotalNetworkIn", "ASGAverageNetworkIn"
		if name == "b-sound" {
			load, busy = "ASGTotalCPUUtilization", "ASGAverageCPUUtilization"
		}
		w.put(Policy{Scope: here, Group: "g", Name: name, Type: PredictiveScaling, Enabled: true, Predictive: &Predictive{Load: load, Scaling: busy, Target: 50, Scale: true}})
	}
	_, err := w.r.predictions()
	if err == nil || !strings.Contains(err.Error(), "a-broken") || strings.Contains(err.Error(), "b-sound") {
		t.Errorf("%v", err)
	}
	if n := w.group().Desired; n != 6 {
		t.Errorf("%d are wanted", n)
	}
}

func mustPolicy(w *world, name string) Policy {
	p, ok := Policies.Get(w.db.Read(), here.Key("g:"+name))
	if !ok {
		w.t.Fatalf("no policy %s", name)
	}
	return p
}

func TestPredictiveScalingAboveTheGreatestSize(t *testing.T) {
	for more, want := range map[bool][2]int{false: {4, 4}, true: {6, 7}} {
		w := newWorld(t, 1)
		w.e.Metrics = series(func(time.Time) float64 { return 18000 })
		w.create(settings(1, 4), 2)
		p := Policy{Scope: here, Group: "g", Name: "ahead", Type: PredictiveScaling, Enabled: true,
			Predictive: &Predictive{Load: "ASGTotalCPUUtilization", Scaling: "ASGAverageCPUUtilization", Target: 50, Scale: true, IncreaseMax: more}}
		if more {
			p.Predictive.MaxBuffer = 10
		}
		w.must(func(tx *store.WriteTx) error { _, err := w.e.PutPolicy(tx, p); return err })
		w.step()
		if g := w.group(); g.Desired != want[0] || g.Max != want[1] {
			t.Errorf("%v: desired %d of at most %d", more, g.Desired, g.Max)
		}
	}
	w := newWorld(t, 1)
	w.e.Metrics = series(func(t time.Time) float64 { return math.NaN() })
	w.create(settings(1, 4), 2)
	p := Policy{Scope: here, Group: "g", Name: "ahead", Type: PredictiveScaling, Enabled: true, Predictive: &Predictive{Load: "ASGTotalCPUUtilization", Scaling: "ASGAverageCPUUtilization", Target: 50}}
	w.must(func(tx *store.WriteTx) error { _, err := w.e.PutPolicy(tx, p); return err })
	w.step()
	_, err := w.e.ForecastOf(w.db.Read(), mustPolicy(w, "ahead"))
	wantError(t, err, "ValidationError", "not enough data")
	p.Predictive.Load = "Nothing"
	wantError(t, w.db.Update(func(tx *store.WriteTx) error { _, err := w.e.PutPolicy(tx, p); return err }), "ValidationError", "Invalid load metric")
}

// TestWhatAnInstanceCarries is learnt where the metrics are no predefined pair.
func TestWhatAnInstanceCarries(t *testing.T) {
	p := Policy{Predictive: &Predictive{Load: "ASGTotalCPUUtilization", Scaling: "ASGAverageCPUUtilization", Target: 50}}
	if per, ok := p.carried(Past{}); per != 3000 || !ok {
		t.Errorf("a pair: %v %v", per, ok)
	}
	p.Predictive.Scaling = "ALBRequestCountPerTarget"
	var was Past
	for i := range 30 { // 100 of load an instance is 20 of the scaling metric, but for hours that say nothing
		n := float64(2 + i%3)
		was.Load, was.Scaling, was.Capacity = append(was.Load, 100*n+float64(i)), append(was.Scaling, 20+float64(i)/n/5), append(was.Capacity, n)
	}
	was.Load[3], was.Scaling[4], was.Capacity[5] = math.NaN(), math.NaN(), 0
	if per, ok := p.carried(was); !ok || math.Abs(per-250) > 0.1 {
		t.Errorf("learnt: %v %v", per, ok)
	}
	if r := was.correlation(); r == nil || math.Abs(*r-1) > 1e-6 {
		t.Errorf("correlation %v", r)
	}
	if per, ok := p.carried(Past{was.Load[:20], was.Scaling[:20], was.Capacity[:20]}); ok {
		t.Errorf("out of too little: %v", per)
	}
	if r := (Past{[]float64{1, 1}, []float64{2, 2}, []float64{1, 1}}).correlation(); r != nil {
		t.Errorf("what never changes correlates: %v", *r)
	}
}

// TestForecastsAreMetrics: at the beginning of an hour, in AWS's dimensions.
func TestForecastsAreMetrics(t *testing.T) {
	w := newWorld(t, 1)
	w.e.Metrics = series(func(t time.Time) float64 { return 6000 + float64(t.Hour()) })
	w.create(settings(1, 10), 2)
	p := Policy{Scope: here, Group: "g", Name: "ahead", Type: PredictiveScaling, Enabled: true, Predictive: &Predictive{Load: "ASGTotalCPUUtilization", Scaling: "ASGAverageCPUUtilization", Target: 50}}
	w.now = time.Date(2024, 3, 1, 14, 30, 0, 0, time.UTC)
	w.must(func(tx *store.WriteTx) error { _, err := w.e.PutPolicy(tx, p); return err })
	w.step()
	if ms := w.e.ForecastMeasures(w.db.Read(), time.Date(2024, 3, 1, 15, 1, 0, 0, time.UTC), time.Minute); len(ms) != 0 {
		t.Errorf("within the hour: %+v", ms)
	}
	ms := w.e.ForecastMeasures(w.db.Read(), time.Date(2024, 3, 1, 15, 0, 59, 0, time.UTC), time.Minute)
	if len(ms) < 2 || ms[0].Metric != "PredictiveScalingCapacityForecast" || ms[0].Value != 3 || ms[1].Metric != "PredictiveScalingLoadForecast" || math.Abs(ms[1].Value-6015) > 10 {
		t.Fatalf("%+v", ms)
	}
	if d := ms[0].Dimensions(); len(d) != 2 || d["PolicyName"] != "ahead" || d["AutoScalingGroupName"] != "g" {
		t.Errorf("%v", d)
	}
	if d := ms[1].Dimensions(); len(d) != 3 || d["PairIndex"] != "0" {
		t.Errorf("%v", d)
	}
}
