package simulate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"skerry/internal/metric"
	"skerry/internal/scaling"
)

// alarm is one with the policy that it invokes.
type alarm struct {
	metric.Alarm
	policy *Policy
	inputs []*input
	math   *metric.Math // of several inputs; or
	result string
	points []metric.Datapoint
	began  time.Time // the period under way
	newest float64   // value, and whether there is one
	known  bool
}

// input is a statistic of a metric that an alarm reads.
type input struct {
	of          Metric
	statistic   string
	sum, n      float64 // of the period under way
	most, least float64
	values      []float64 // of the periods before; what is missing is not a number
}

func (in *input) add(v float64) {
	if math.IsNaN(v) {
		return
	}
	if in.n == 0 {
		in.most, in.least = v, v
	}
	in.sum, in.n, in.most, in.least = in.sum+v, in.n+1, max(in.most, v), min(in.least, v)
}

// value is the period's by the statistic. The metrics are per minute.
func (in *input) value(period int) float64 {
	switch {
	case in.n == 0:
		return math.NaN()
	case in.statistic == "Maximum":
		return in.most
	case in.statistic == "Minimum":
		return in.least
	case in.statistic == "Sum":
		return in.sum / in.n * float64(period) / 60
	}
	return in.sum / in.n
}

// tracked is an alarm that target tracking makes.
func (s *Scenario) tracked(p *Policy, a scaling.AlarmSpec) (*alarm, error) {
	return s.alarm(p, Alarm{Name: a.Name, MetricName: a.MetricName, Queries: a.Queries, Statistic: a.Statistic, Threshold: a.Threshold, Comparison: a.Comparison, Period: a.Period, Evaluations: a.Evaluations})
}

// alarm makes an alarm out of its settings. The error says what of them is not simulated.
func (s *Scenario) alarm(p *Policy, a Alarm) (*alarm, error) {
	out := &alarm{policy: p, began: s.Start, Alarm: metric.Alarm{Name: a.Name, Period: cmp.Or(a.Period, 60), EvaluationPeriods: max(1, a.Evaluations), DatapointsToAlarm: a.Datapoint,
		Threshold: a.Threshold, Comparison: a.Comparison, TreatMissingData: a.Missing}}
	read := func(of Metric, statistic string) error {
		if err := s.made(of, statistic); err != nil {
			return err
		}
		in := &input{of: of, statistic: statistic, values: make([]float64, out.EvaluationPeriods+2)} // as many as a cloud's evaluation looks at
		for i := range in.values {
			in.values[i] = math.NaN()
		}
		out.inputs = append(out.inputs, in)
		return nil
	}
	if a.Queries == nil {
		of, err := a.Metric, error(nil)
		if a.MetricName != "" {
			of, err = s.named(a.MetricName)
		}
		if err != nil {
			return nil, err
		}
		return out, read(of, a.Statistic)
	}
	if err := metric.CheckMath(a.Queries, out.Period); err != nil {
		return nil, plain(err)
	}
	var returned []string
	var err error
	if out.math, returned, err = metric.ReadMath(a.Queries, false); err != nil {
		return nil, plain(err)
	}
	out.result = returned[0] // it was checked
	for _, stat := range out.math.Stats() {
		of, err := s.named(stat.Metric)
		if err != nil {
			return nil, err
		}
		if err := read(of, stat.Statistic); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// measure takes a step's values, and tells whether a period has ended with it.
func (a *alarm) measure(values [metrics]float64, now time.Time) bool {
	for _, in := range a.inputs {
		in.add(values[in.of])
	}
	period := time.Duration(a.Period) * time.Second
	ended := 0
	for ; !a.began.Add(period).After(now); ended++ {
		for _, in := range a.inputs {
			copy(in.values, in.values[1:])
			in.values[len(in.values)-1] = in.value(a.Period)
		}
		a.began = a.began.Add(period)
	}
	if ended == 0 {
		return false
	}
	for _, in := range a.inputs {
		in.sum, in.n = 0, 0
	}
	return true
}

// judge evaluates the alarm over the periods that have ended.
func (a *alarm) judge(s *Scenario, scratch []metric.Datapoint) (metric.Verdict, error) {
	period := time.Duration(a.Period) * time.Second
	values := a.inputs[0].values
	start := a.began.Add(-time.Duration(len(values)) * period)
	if a.math != nil {
		a.math.Again()
		lines, _, err := a.math.Lines(a.result, metric.Grid{Start: start, Period: period, Seconds: a.Period, N: len(values)}, metric.Source{
			Fetch: func(stat metric.Stat, _ metric.Grid) ([]float64, error) {
				of, err := s.named(stat.Metric)
				i := slices.IndexFunc(a.inputs, func(in *input) bool { return in.of == of && in.statistic == stat.Statistic })
				return a.inputs[i].values, err // it was checked
			}})
		if err != nil {
			return metric.Verdict{}, plain(err)
		}
		values = lines[0].Values
	}
	a.points = a.points[:0]
	for i, v := range values {
		a.points = append(a.points, metric.Datapoint{Time: start.Add(time.Duration(i) * period), Value: v, Missing: math.IsNaN(v)})
	}
	return metric.Judge(a.Alarm, a.points, scratch), nil
}

// measure gives the step's values to the alarms, and lets those in ALARM invoke their policies.
func (w *world) measure(values [metrics]float64) {
	var scratch [64]metric.Datapoint
	for _, a := range w.alarms {
		if !a.measure(values, w.now) {
			continue
		}
		verdict, err := a.judge(&w.s, scratch[:0])
		if err != nil {
			w.err = err
			return
		}
		if verdict.State != "" {
			a.State = verdict.State
		}
		a.newest, a.known = verdict.Value, verdict.HasValue
		if a.State == metric.StateAlarm {
			w.invoke(a, verdict)
		}
	}
}

func (w *world) invoke(a *alarm, v metric.Verdict) {
	if w.group.SuspendedProcess(scaling.ProcAlarmNotification) {
		return
	}
	n, change := scaling.Propose(w.group, a.policy.Policy, w.capacity(a.policy),
		scaling.Alarm{Name: a.Name, State: a.State, Value: v.Value, HasValue: v.HasValue, Threshold: a.Threshold,
			Recent: scaling.Recent{N: v.N, Average: v.Average, Minimum: v.Minimum, Maximum: v.Maximum}}, w.now, func() (int, bool) { return w.agreed(a.policy) })
	if change {
		w.group = w.e.Follow(w.group, a.policy.Policy, n, w.now)
		w.dirty = true
	}
}

// agreed tells whether every other target tracking policy wants to scale in too, and the most that one of them leaves.
func (w *world) agreed(p *Policy) (most int, agreed bool) {
	for _, a := range w.alarms {
		if a.policy == p || a.policy.Type != scaling.TargetTracking || a.Comparison != "LessThanThreshold" {
			continue
		}
		n, in := a.policy.Agrees(w.capacity(a.policy), scaling.Alarm{State: a.State, Value: a.newest, HasValue: a.known})
		if !in {
			return 0, false
		}
		most = max(most, n)
	}
	return most, true
}
