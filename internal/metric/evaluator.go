package metric

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Waits of the evaluator, before the time scale.
const (
	usualInterval = time.Minute      // between evaluations
	quickInterval = 10 * time.Second // of alarms with a period below a minute
	stepEvery     = 250 * time.Millisecond
	historyEvery  = time.Hour              // between removals of old history
	settle        = 400 * time.Millisecond // data of a period may come so late
)

// Evaluator moves alarms from state to state. Set the fields before use; Step and Run belong to one goroutine.
type Evaluator struct {
	DB    *store.DB
	Store *Store
	Clock func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: none
	// TimeScale divides periods and intervals: at 20, an alarm of 60 s looks at spans of 3 s of the data, whose timestamps
	// are real.
	TimeScale int
	// OnAction does an action of an alarm that has changed its state, or, for scaling policies, is still in it, unless it is a
	// message to a topic. It works in the transaction of the change.
	OnAction func(w *store.WriteTx, a Alarm, oldState string, v Verdict, actionARN string) error

	last  map[string]int64 // by alarm key: the interval that was evaluated last
	swept time.Time        // when old history was removed last
}

func (e *Evaluator) scaled(d time.Duration) time.Duration {
	return max(time.Second, d/time.Duration(max(1, e.TimeScale)))
}

// Run evaluates until ctx ends.
func (e *Evaluator) Run(ctx context.Context) {
	t := time.NewTicker(stepEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			e.Step()
		case <-ctx.Done():
			return
		}
	}
}

// Step evaluates the alarms that are due.
func (e *Evaluator) Step() {
	if e.Clock == nil {
		e.Clock = time.Now
	}
	if e.last == nil {
		e.last = map[string]int64{}
	}
	now := e.Clock()
	seen := map[string]bool{}
	var due []Alarm
	e.DB.View(func(tx *store.ReadTx) error {
		for a := range Alarms.All(tx) {
			if a.IsComposite() {
				if a.Fresh || a.overdue(now) {
					due = append(due, a)
				}
				continue // others move it
			}
			key := a.Key(a.Name)
			seen[key] = true
			interval := e.scaled(usualInterval)
			if a.Period < 60 {
				interval = e.scaled(quickInterval)
			}
			n := now.Add(-e.settle(interval)).UnixNano() / int64(interval)
			if e.last[key] < n {
				e.last[key] = n
				due = append(due, a)
			}
		}
		return nil
	})
	for k := range e.last {
		if !seen[k] {
			delete(e.last, k)
		}
	}
	if now.Sub(e.swept) >= historyEvery {
		e.swept = now
		more := true
		for more {
			if err := e.DB.Update(func(w *store.WriteTx) error { more = SweepHistory(w); return nil }); err != nil {
				e.fail("old history could not be removed", "err", err)
				break
			}
		}
		for more = e.Store != nil; more; {
			var err error
			if more, err = e.Store.Sweep(); err != nil {
				e.fail("old metrics could not be removed", "err", err)
				break
			}
		}
	}
	for _, a := range due {
		if err := e.evaluate(a, now); err != nil {
			e.fail("an alarm could not be evaluated", "alarm", a.Name, "region", a.Region, "err", err)
		}
	}
}

func (e *Evaluator) fail(text string, args ...any) {
	if e.Log != nil {
		e.Log.Error(text, args...)
	}
}

// settle is how long an evaluation waits for the data of the newest period.
func (e *Evaluator) settle(interval time.Duration) time.Duration { return min(settle, interval/4) }

// Floor is the beginning of the period that t lies in: periods are aligned to the Unix epoch.
func Floor(t time.Time, period time.Duration) time.Time {
	ns := t.UnixNano()
	return time.Unix(0, ns-mod(ns, int64(period))).UTC()
}

// points are the periods of an alarm's evaluation range that are complete at now, oldest first.
func (e *Evaluator) points(a Alarm, now time.Time) ([]Datapoint, error) {
	period := e.scaled(time.Duration(a.Period) * time.Second)
	n := rangeOf(a.EvaluationPeriods)
	end := Floor(now.Add(-e.settle(period)), period)
	start := end.Add(-time.Duration(n) * period)
	if !a.IsMath() {
		return e.series(a.Scope, Stat{a.Namespace, a.MetricName, cmp.Or(a.Statistic, a.ExtendedStatistic), a.Unit, a.Dimensions}, start, period, n)
	}
	m, result, err := a.formula()
	if err != nil {
		return nil, err
	}
	lines, _, err := m.Lines(result, Grid{Start: start, Period: period, Seconds: a.Period, N: n}, e.Store.Source(a.Scope))
	if err != nil || len(lines) != 1 {
		return nil, err
	}
	out := make([]Datapoint, n)
	for i, v := range lines[0].Values {
		out[i] = Datapoint{Time: start.Add(time.Duration(i) * period), Value: v, Missing: math.IsNaN(v)}
	}
	return out, nil
}

// series are n periods of a statistic from start.
func (e *Evaluator) series(s scope.Scope, of Stat, start time.Time, period time.Duration, n int) ([]Datapoint, error) {
	found, err := e.Store.statistic(s, of, start, start.Add(time.Duration(n)*period), period)
	if err != nil {
		return nil, err
	}
	out := make([]Datapoint, n)
	for i := range out {
		out[i] = Datapoint{Time: start.Add(time.Duration(i) * period), Missing: true}
	}
	for _, p := range found {
		if i := int(p.Time.Sub(start) / period); i >= 0 && i < n {
			v, ok := p.Stat(of.Statistic)
			out[i].Value, out[i].Missing, out[i].Low = v, !ok, lowSample(of.Statistic, p.SampleCount)
		}
	}
	return out, nil
}

func (e *Evaluator) evaluate(a Alarm, now time.Time) error {
	if a.IsComposite() {
		return e.DB.Update(func(w *store.WriteTx) error {
			cur, ok := Alarms.Get(w, a.Key(a.Name))
			if ok && cur.overdue(now) {
				if err := e.release(w, cur); err != nil {
					return err
				}
				cur, ok = Alarms.Get(w, a.Key(a.Name))
			}
			if !ok || !cur.Fresh {
				return nil
			}
			cur, changed, err := e.judgeComposite(w, cur, nil)
			if err == nil && changed {
				err = e.ripple(w, cur)
			}
			return err
		})
	}
	points, err := e.points(a, now)
	if err != nil {
		return err
	}
	v := Evaluate(a, points, now)
	again := (v.State == "" || v.State == a.State) && a.ActionsEnabled && slices.ContainsFunc(a.actions(), isPolicy)
	if (v.State == "" || v.State == a.State) && !again {
		return nil
	}
	return e.DB.Update(func(w *store.WriteTx) error {
		cur, ok := Alarms.Get(w, a.Key(a.Name))
		if !ok || cur.State != a.State || !cur.UpdatedAt.Equal(a.UpdatedAt) {
			return nil // changed meanwhile: the next evaluation sees it
		}
		if v.State == "" {
			v.State, v.Reason, v.ReasonData = cur.State, cur.StateReason, cur.StateReasonData
		}
		return e.transition(w, cur, v)
	})
}

// transition gives an alarm its state, and does what follows: its actions, and the composite alarms over it.
func (e *Evaluator) transition(w *store.WriteTx, a Alarm, v Verdict) error {
	old := a.State
	a, err := e.transitionOnly(w, a, v)
	if err == nil && a.State != old {
		err = e.ripple(w, a)
	}
	return err
}

// transitionOnly gives an alarm its state and does the actions that follow, or owes them.
func (e *Evaluator) transitionOnly(w *store.WriteTx, a Alarm, v Verdict) (Alarm, error) {
	old := a.State
	a, changed := become(w, a, v.State, v.Reason, v.ReasonData)
	if changed {
		if a.State == StateAlarm {
			if err := e.suppress(w, a); err != nil {
				return a, err
			}
		}
		var waits bool
		if a, waits = e.withhold(w, a, old); waits {
			return a, nil
		}
	}
	return a, e.act(w, a, old, v, changed)
}

// act does the actions of an alarm's state; those that are not scaling policies only when it has changed.
func (e *Evaluator) act(w *store.WriteTx, a Alarm, old string, v Verdict, changed bool) error {
	if !a.ActionsEnabled {
		return nil
	}
	for _, arn := range a.actions() {
		if !changed && !isPolicy(arn) {
			continue
		}
		if isTopic(arn) {
			publish(w, a, old, arn)
			continue
		}
		if e.OnAction != nil {
			if err := e.OnAction(w, a, old, v, arn); err != nil {
				return err
			}
		}
		switch {
		case changed && (isPolicy(arn) || isInstanceAction(arn)):
			noteAction(w, a, arn, "", nil)
		case changed:
			noteAction(w, a, arn, "There is no service here that receives this action.", nil)
		}
	}
	return nil
}

// SetState is SetAlarmState: the state lasts until the next evaluation says otherwise; actions run. Scaling policies take the
// metric's values from the reason's data, if there are any.
func (e *Evaluator) SetState(w *store.WriteTx, s scope.Scope, name, state, reason, data string) error {
	a, err := GetAlarm(w, s, name)
	if err != nil {
		return err
	}
	v := Verdict{State: state, Reason: reason, ReasonData: data}
	recent := Alarm{StateReasonData: data}.Recent()
	var real []Datapoint
	for _, x := range recent[max(0, len(recent)-max(1, a.EvaluationPeriods)):] {
		real = append(real, Datapoint{Value: x})
		v.Value, v.HasValue = x, true
	}
	v.sumUp(real)
	return e.transition(w, a, v)
}

func isPolicy(arn string) bool {
	return strings.Contains(arn, ":autoscaling:") && strings.Contains(arn, ":scalingPolicy:")
}

// isInstanceAction tells of the actions that EC2 does to the instance that a metric is of.
func isInstanceAction(arn string) bool {
	part := strings.SplitN(arn, ":", 6)
	return len(part) == 6 && (part[2] == "automate" && part[4] == "ec2" || part[2] == "swf" && strings.Contains(part[5], "AWS_EC2.InstanceId."))
}
