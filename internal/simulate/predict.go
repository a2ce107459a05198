package simulate

import (
	"fmt"
	"math"
	"time"

	"skerry/internal/scaling"
)

// prediction is a predictive policy with its forecast.
type prediction struct {
	policy   *Policy
	forecast scaling.Forecast
	made     bool
	next     time.Time // when to look again
	first    time.Time // when there was the first forecast
}

// loadOf is the metric whose total a predictive policy forecasts.
func loadOf(c *scaling.Predictive) (Metric, error) {
	switch c.Load {
	case "ASGTotalCPUUtilization":
		return Utilisation, nil
	case "ASGTotalNetworkIn":
		return NetworkIn, nil
	case "ASGTotalNetworkOut":
		return NetworkOut, nil
	case "ALBTargetGroupRequestCount":
		return RequestsPerTarget, nil
	}
	return 0, fmt.Errorf("the load metric %q is not simulated", c.Load)
}

func (p *prediction) buffer() time.Duration {
	return time.Duration(p.policy.Predictive.Buffer) * time.Second
}

// foretell makes the forecasts that are due and scales by them.
func (w *world) foretell() {
	for _, p := range w.predictions {
		if w.now.Before(p.next) {
			continue
		}
		c := p.policy.Predictive
		if !p.made || p.forecast.Stale(w.now, time.Hour) {
			start := w.now.Truncate(time.Hour)
			of, _ := loadOf(c) // it was checked
			f, ok := p.policy.Foresee(scaling.Past{Load: w.past(of, start)}, w.now, start)
			if !ok {
				f = scaling.Forecast{At: w.now, Start: w.now}
			} else if p.first.IsZero() {
				p.first = w.now
			}
			p.forecast, p.made = f, true
		}
		p.next = c.Next(w.now, time.Hour, p.buffer())
		if !c.Scale {
			continue
		}
		if g, ok := c.Raise(w.group, p.forecast.Wanted(w.now, time.Hour, p.buffer())); ok {
			w.group, w.dirty = g, true
		}
	}
}

// floor is the capacity below which other policies do not take the group.
func (w *world) floor() int {
	n := w.group.Min
	for _, p := range w.predictions {
		if p.policy.Predictive.Scale {
			n = max(n, min(w.group.Max, p.forecast.Wanted(w.now, time.Hour, p.buffer())))
		}
	}
	return n
}

// record adds a step's loads to its hour.
func (w *world) record(at time.Time, loads [metrics]float64) {
	if len(w.predictions) == 0 {
		return
	}
	hour := int(at.Sub(w.s.Start.Truncate(time.Hour)) / time.Hour)
	for m := range w.loads {
		for len(w.loads[m]) <= hour {
			w.loads[m] = append(w.loads[m], 0)
		}
		w.loads[m][hour] += loads[m]
	}
}

// past is a load by hours before start, the newest first: as it was played, and before that what History says.
func (w *world) past(of Metric, start time.Time) []float64 {
	base := w.s.Start.Truncate(time.Hour)
	here := int(start.Sub(base) / time.Hour)
	out := make([]float64, scaling.ForecastPast)
	for i := range out {
		switch hour := here - 1 - i; {
		case hour > 0 || hour == 0 && base.Equal(w.s.Start): // not half an hour
			out[i] = w.loads[of][hour]
		case time.Duration(-hour)*time.Hour <= w.s.History:
			out[i] = w.s.repeated(of, base.Add(time.Duration(hour)*time.Hour))
		default:
			out[i] = math.NaN()
		}
	}
	return out
}

// repeated is the load of an hour before the trace, as if the trace had repeated itself in whole days until its start.
func (s *Scenario) repeated(of Metric, at time.Time) float64 {
	length := time.Duration(len(s.Trace.Demand)) * s.Trace.Step
	period := (length + day - 1) / day * day
	x := (at.Sub(s.Start)%period + period) % period
	sum := 0.0
	for end := x + time.Hour; x < end; x += s.Trace.Step {
		i := int(x % period / s.Trace.Step)
		if i >= len(s.Trace.Demand) {
			return math.NaN()
		}
		sum += s.Trace.Demand[i] * min(s.Trace.Step, end-x).Seconds()
	}
	switch of {
	case Utilisation: // percent, of each instance in each minute
		return sum * s.Service.Seconds() / float64(s.Workers) / 60 * 100
	case NetworkIn:
		return sum * s.BytesIn
	case NetworkOut:
		return sum * s.BytesOut
	}
	return sum
}

// notes tells what a user may not expect: of the beginning, and of the predictive policies.
func (w *world) notes(first Point) (out []string) {
	if first.Unserved >= 1 {
		out = append(out, fmt.Sprintf("the group begins with a desired capacity of %d, which is too little for the traffic's first step; --desired says another one", w.s.Group.Desired))
	}
	for _, p := range w.predictions {
		switch {
		case !p.policy.Predictive.Scale:
			out = append(out, fmt.Sprintf("policy %s is ForecastOnly: it changes nothing", p.policy.Name))
		case p.first.IsZero() || !p.first.Before(w.now):
			out = append(out, fmt.Sprintf("policy %s has made no forecast: it needs a day of load; take a longer trace, or say by --history that the trace repeats one", p.policy.Name))
		}
	}
	return out
}
