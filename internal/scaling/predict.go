package scaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// PredictiveScaling is the type of policies that scale ahead of the load.
const PredictiveScaling = "PredictiveScaling"

// How forecasts are made: of hourly values, from at most two weeks, for two days, every six hours. All of it is AWS's
// policy and divided by the time scale.
const (
	hour          = 3600    // seconds
	ForecastPast  = 14 * 24 // hours
	forecastLeast = 24      // hours with a value, else there is no forecast
	forecastAhead = 48
	forecastEvery = 6
	sameWeekday   = 40 // what a day of the same weekday counts, against others
)

// Predictive is the configuration of a predictive scaling policy. Load and scaling metric are predefined ones of AWS, or
// queries (the API's JSON).
type Predictive struct {
	Load, Scaling   string          // ASGTotalCPUUtilization and ASGAverageCPUUtilization, and so on
	Apart           bool            `json:",omitempty"` // given as two metrics, not as a pair
	LoadQueries     json.RawMessage `json:",omitempty"`
	ScalingQueries  json.RawMessage `json:",omitempty"`
	CapacityQueries json.RawMessage `json:",omitempty"`
	ResourceLabel   string          `json:",omitempty"`
	Target          float64
	Scale           bool // ForecastAndScale
	Buffer          int  // seconds before the hour
	IncreaseMax     bool
	MaxBuffer       int  // percent above the forecast
	OwnBuffer       bool `json:",omitempty"` // Buffer was given
}

// Forecast is what a policy expects, hour by hour from Start.
type Forecast struct {
	scope.Scope
	Group, Policy string
	At, Start     time.Time
	Load          []float64
	Capacity      []int
	Correlation   *float64 `json:",omitempty"` // of the scaling metric and an instance's load
}

// Forecasts is the table of the newest forecast of each policy.
var Forecasts = store.NewTable("scaling_forecast", func(f Forecast) string { return f.Key(f.Group + ":" + f.Policy) }, byGroup(func(f Forecast) (scope.Scope, string) { return f.Scope, f.Group }))

func init() { Tables = append(Tables, Forecasts) }

// forecast continues an hourly series: past[i] is the hour i+1 hours ago, NaN without a value; the result begins with the
// hour that runs. Each hour is the mean of the same hour of earlier days, newer ones counting more and those of the same
// weekday most, times the level of the last day against what the same rule said for it. Pure.
func forecast(past []float64, ahead int) []float64 {
	at := func(ago int) float64 { // hours before the hour that runs
		if ago < 1 || ago > len(past) {
			return math.NaN()
		}
		return past[ago-1]
	}
	shape := func(h int) float64 { // h hours after the hour that runs; negative ones have passed
		sum, weights := 0.0, 0.0
		for day := 1; day*24-h <= len(past); day++ {
			v := at(day*24 - h)
			if math.IsNaN(v) {
				continue
			}
			w := math.Pow(0.85, float64(day-1))
			if day%7 == 0 {
				w *= sameWeekday
			}
			sum, weights = sum+w*v, weights+w
		}
		if weights == 0 {
			return math.NaN()
		}
		return sum / weights
	}
	was, said := 0.0, 0.0
	for ago := 1; ago <= 24; ago++ {
		if v, s := at(ago), shape(-ago); !math.IsNaN(v) && !math.IsNaN(s) {
			was, said = was+v, said+s
		}
	}
	level := 1.0
	if said > 0 {
		level = min(2, max(0.5, was/said))
	}
	out := make([]float64, ahead)
	for h := range out {
		out[h] = level * shape(h)
		if math.IsNaN(out[h]) { // this hour of the day was never seen: the last value known
			out[h] = 0
			for ago := 1; ago <= len(past); ago++ {
				if v := at(ago); !math.IsNaN(v) {
					out[h] = v
					break
				}
			}
		}
	}
	return out
}

// Foresee makes a policy's forecast at a time out of the hours before start. False without enough of a past. Pure.
func (p Policy) Foresee(was Past, now, start time.Time) (Forecast, bool) {
	known := 0
	for _, v := range was.Load {
		if !math.IsNaN(v) {
			known++
		}
	}
	per, ok := p.carried(was)
	if known < forecastLeast || !ok {
		return Forecast{}, false
	}
	f := Forecast{Scope: p.Scope, Group: p.Group, Policy: p.Name, At: now, Start: start, Load: forecast(was.Load, forecastAhead), Correlation: was.correlation()}
	for _, v := range f.Load {
		f.Capacity = append(f.Capacity, ceilRatio(1, v, per))
	}
	return f, true
}

// Stale tells whether a forecast is to be made again. One for which there was not enough of a history is every hour.
func (f Forecast) Stale(now time.Time, step time.Duration) bool {
	if len(f.Load) == 0 {
		return !now.Before(f.At.Add(step))
	}
	return !now.Before(f.At.Add(forecastEvery * step))
}

// predict makes a policy's forecast out of the metric's history; false without enough of it.
func (e *Engine) predict(tx store.Tx, p Policy) (Forecast, bool, error) {
	now, step := tx.Now(), e.scaled(hour)
	start := now.Truncate(step)
	var was Past
	load, scaling, capacity := p.sources()
	for _, x := range []struct {
		of   json.RawMessage
		into *[]float64
	}{{load, &was.Load}, {scaling, &was.Scaling}, {capacity, &was.Capacity}} {
		hours, err := e.Metrics.Hours(p.Scope, x.of, start.Add(-ForecastPast*step), step, ForecastPast)
		if err != nil {
			return Forecast{}, false, err
		}
		slices.Reverse(hours)
		*x.into = hours
	}
	f, ok := p.Foresee(was, now, start)
	return f, ok, nil
}

// Wanted is the capacity that a forecast asks for now: that of the hour that runs, and the next one's within the buffer.
func (f Forecast) Wanted(now time.Time, step, buffer time.Duration) int {
	n := 0
	for _, t := range []time.Time{now, now.Add(buffer)} {
		if i := int(t.Sub(f.Start) / step); !t.Before(f.Start) && i < len(f.Capacity) {
			n = max(n, f.Capacity[i])
		}
	}
	return n
}

// floor is the capacity below which other policies do not take a group: what its forecast asks for now.
func (e *Engine) floor(tx store.Tx, g Group) int {
	n := g.Min
	for _, f := range of(tx, Forecasts, g.Scope, g.Name) {
		p, ok := Policies.Get(tx, f.Key(f.Group+":"+f.Policy))
		if ok && p.Enabled && p.Predictive != nil && p.Predictive.Scale {
			n = max(n, min(g.Max, f.Wanted(tx.Now(), e.scaled(hour), e.scaled(p.Predictive.Buffer))))
		}
	}
	return n
}

// predictions makes the forecasts that are due and scales by them; it returns when to look again. What hinders one policy does
// not hinder others.
func (r *Reconciler) predictions() (wake time.Time, failed error) {
	tx := r.DB.Read()
	for p := range Policies.All(tx) {
		if p.Predictive == nil || !p.Enabled || r.Engine.Metrics == nil {
			continue
		}
		next, err := r.prediction(tx, p)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("policy %s of group %s: %w", p.Name, p.Group, err))
		}
		if wake.IsZero() || next.Before(wake) {
			wake = next
		}
	}
	return wake, failed
}

// prediction makes a policy's forecast, if it is due, and scales by it.
func (r *Reconciler) prediction(tx store.Tx, p Policy) (time.Time, error) {
	e := r.Engine
	now, step := r.now(), e.scaled(hour)
	f, ok := Forecasts.Get(tx, p.Key(p.Group+":"+p.Name))
	if !ok || f.Stale(now, step) {
		next, enough, err := e.predict(tx, p)
		if err != nil {
			return now.Add(errorPause), err
		}
		if !enough {
			next = Forecast{Scope: p.Scope, Group: p.Group, Policy: p.Name, At: now, Start: now}
		}
		f = next
		if err := r.DB.Update(func(w *store.WriteTx) error {
			if cur, there := Policies.Get(w, p.Key(p.Group+":"+p.Name)); there && cur.UUID == p.UUID {
				Forecasts.Put(w, f)
			}
			return nil
		}); err != nil {
			return now.Add(errorPause), err
		}
	}
	next := p.Predictive.Next(now, step, e.scaled(p.Predictive.Buffer))
	if !p.Predictive.Scale {
		return next, nil
	}
	want := f.Wanted(now, step, e.scaled(p.Predictive.Buffer))
	g, there := Groups.Get(tx, p.Key(p.Group))
	if _, raise := p.Predictive.Raise(g, want); !there || !raise {
		return next, nil
	}
	if err := r.DB.Update(func(w *store.WriteTx) error { e.ahead(w, p, want); return nil }); err != nil {
		return now.Add(errorPause), err
	}
	return next, nil
}

// Next is when a policy looks at its forecast again: at the next hour, or before it by the buffer.
func (c *Predictive) Next(now time.Time, step, buffer time.Duration) time.Time {
	next := now.Truncate(step).Add(step)
	if early := next.Add(-buffer); now.Before(early) {
		return early
	}
	return next
}

// Raise is the group with the desired capacity that is forecast, and whether that is more than it has. A policy that may
// exceed the greatest size raises that too. Pure.
func (c *Predictive) Raise(g Group, want int) (Group, bool) {
	if want <= g.Desired {
		return g, false
	}
	if c.IncreaseMax {
		g.Max = max(g.Max, want+(want*c.MaxBuffer+99)/100)
	}
	want = min(want, g.Max)
	raised := want > g.Desired
	g.Desired = max(g.Desired, want)
	return g, raised
}

// ahead raises a group's desired capacity to what is forecast.
func (e *Engine) ahead(w *store.WriteTx, p Policy, want int) {
	g, ok := Groups.Get(w, p.Key(p.Group))
	if !ok || g.Deleting {
		return
	}
	raised, ok := p.Predictive.Raise(g, want)
	if !ok {
		return
	}
	raised.reason(w, fmt.Sprintf("a predictive scaling policy %s changing the desired capacity from %d to %d.", p.Name, g.Desired, raised.Desired))
	Groups.Put(w, raised)
}

// checkPredictive checks a predictive scaling policy.
func (p Policy) checkPredictive(e *Engine, g Group) error {
	c := p.Predictive
	switch {
	case c == nil:
		return invalid("PredictiveScalingConfiguration must be specified for policy type PredictiveScaling.")
	case p.AdjustmentType != "" || p.Adjustment != nil || len(p.Steps) > 0 || p.Cooldown != nil || p.MinMagnitude != nil || p.Tracking != nil || p.Warmup != nil:
		return invalid("Only PredictiveScalingConfiguration can be specified for policy type PredictiveScaling.")
	case !(c.Target > 0) || math.IsInf(c.Target, 0):
		return invalid("TargetValue must be greater than zero.")
	case len(c.LoadQueries) == 0 && loadMetrics[c.Load] == "":
		return invalid("Invalid load metric: %s.", c.Load)
	case len(c.ScalingQueries) == 0 && scalingMetrics[c.Scaling] == "":
		return invalid("Invalid scaling metric: %s.", c.Scaling)
	case c.Buffer < 0 || c.Buffer > hour:
		return invalid("SchedulingBufferTime must be between 0 and 3600 seconds.")
	case c.MaxBuffer < 0 || c.MaxBuffer > 100:
		return invalid("MaxCapacityBuffer must be between 0 and 100.")
	case c.MaxBuffer > 0 && !c.IncreaseMax:
		return invalid("MaxCapacityBuffer can be specified with the MaxCapacityBreachBehavior IncreaseMaxCapacity only.")
	case e.Metrics == nil:
		return fault.New(fault.Unsupported, "ValidationError", "Predictive scaling is not supported: there is no history of metrics.")
	}
	for _, qs := range []json.RawMessage{c.LoadQueries, c.ScalingQueries, c.CapacityQueries} {
		if len(qs) > 0 {
			if err := e.Metrics.CheckHours(qs); err != nil {
				return err
			}
		}
	}
	if c.Load == "ALBTargetGroupRequestCount" || c.Scaling == "ALBRequestCountPerTarget" {
		t := Policy{Tracking: &Tracking{Predefined: "ALBRequestCountPerTarget", ResourceLabel: c.ResourceLabel, Target: 1}}
		return t.checkTracking(e, g)
	}
	return nil
}

// ForecastOf is a policy's newest forecast.
func (e *Engine) ForecastOf(tx store.Tx, p Policy) (Forecast, error) {
	if p.Predictive == nil {
		return Forecast{}, invalid("Policy %s is of type %s, not PredictiveScaling.", p.Name, p.Type)
	}
	f, ok := Forecasts.Get(tx, p.Key(p.Group+":"+p.Name))
	if (!ok || len(f.Load) == 0) && e.Metrics != nil {
		var err error
		if f, ok, err = e.predict(tx, p); err != nil {
			return f, err
		}
	}
	if !ok {
		return f, invalid("There is not enough data to generate forecasts: at least %d hours of the load metric are needed.", forecastLeast)
	}
	return f, nil
}

// Between cuts a forecast to the hours that begin in a time, each with its time. Step is the length of an hour.
func (f Forecast) Between(start, end time.Time, step time.Duration) (times []time.Time, load, capacity []float64) {
	for i := range f.Load {
		t := f.Start.Add(time.Duration(i) * step)
		if t.Before(start) || !t.Before(end) {
			continue
		}
		times, load, capacity = append(times, t), append(load, f.Load[i]), append(capacity, float64(f.Capacity[i]))
	}
	return times, slices.Clip(load), slices.Clip(capacity)
}

// Hour is how long an hour of forecasts is.
func (e *Engine) Hour() time.Duration { return e.scaled(hour) }
