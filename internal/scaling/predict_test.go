package scaling

import (
	"math"
	"strings"
	"testing"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// series is a load by the hour, for the time of each.
type series func(t time.Time) float64

func (f series) Sums(s scope.Scope, namespace, name string, dims []Dimension, start, end time.Time, period time.Duration) ([]Sum, error) {
	var out []Sum
	for t := start; t.Before(end); t = t.Add(period) {
		if v := f(t); !math.IsNaN(v) {
			out = append(out, Sum{At: t, Value: v})
		}
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
		// 12 samples an hour at 50 % are 600 an instance: 3,600 from 15:00 on are six instances.
		w.e.Metrics = series(func(t time.Time) float64 {
			if h := t.Hour(); h >= 15 && h < 18 {
				return 3600
			}
			return 1200
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
		if len(times) != 4 || math.Abs(load[0]-3600) > 1e-6 || capacity[0] != 6 || capacity[3] != 2 {
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
		w.e.Metrics = series(func(time.Time) float64 { return 3600 })
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
	p.Predictive.Load = "ASGTotalNetworkIn"
	wantError(t, w.db.Update(func(tx *store.WriteTx) error { _, err := w.e.PutPolicy(tx, p); return err }), "ValidationError", "not supported")
}
