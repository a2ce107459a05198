package live

import (
	"encoding/json"
	"slices"

	"skerry/internal/fault"
	"skerry/internal/metric"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Alarms serves scaling.Alarms by the package metric.
type Alarms struct{}

var _ scaling.Alarms = Alarms{}

// Put makes or replaces an alarm.
func (Alarms) Put(w *store.WriteTx, s scope.Scope, a scaling.AlarmSpec) error {
	dims := map[string]string{}
	for _, d := range a.Dimensions {
		dims[d.Name] = d.Value
	}
	extended := ""
	if metric.IsExtended(a.Statistic) {
		a.Statistic, extended = "", a.Statistic
	}
	_, err := metric.PutAlarm(w, metric.Alarm{Scope: s, Name: a.Name, Description: a.Description, Namespace: a.Namespace, MetricName: a.MetricName, Dimensions: dims,
		Statistic: a.Statistic, ExtendedStatistic: extended, Unit: a.Unit, Period: a.Period, EvaluationPeriods: a.Evaluations, Threshold: a.Threshold, Comparison: a.Comparison,
		Queries: a.Queries, ActionsEnabled: true, AlarmActions: []string{a.Action}}, nil)
	return err
}

// CheckMath refuses metric math that an alarm can't evaluate.
func (Alarms) CheckMath(queries json.RawMessage, period int) error {
	return metric.CheckMath(queries, period)
}

// Delete removes alarms; one that is gone is a success.
func (Alarms) Delete(w *store.WriteTx, s scope.Scope, names []string) error {
	for _, n := range names {
		if err := metric.DeleteAlarms(w, s, []string{n}); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return nil
}

// State tells an alarm's state, empty for none.
func (Alarms) State(tx store.Tx, s scope.Scope, name string) string {
	a, err := metric.GetAlarm(tx, s, name)
	if err != nil {
		return ""
	}
	return a.State
}

// Value tells the newest value that an alarm has judged.
func (Alarms) Value(tx store.Tx, s scope.Scope, name string) (float64, bool) {
	a, err := metric.GetAlarm(tx, s, name)
	recent := a.Recent()
	if err != nil || len(recent) == 0 {
		return 0, false
	}
	return recent[len(recent)-1], true
}

// ByAction lists the alarms that have an ARN among their actions.
func (Alarms) ByAction(tx store.Tx, s scope.Scope, arn string) []string {
	var out []string
	for a := range metric.Alarms.By(tx, "action", s.Key(arn)) {
		out = append(out, a.Name)
	}
	return out
}

// OnAction is a metric.Evaluator's OnAction that lets alarms invoke the engine's policies. Actions that are no policies
// are left alone: nothing is there to receive them.
func OnAction(e *scaling.Engine) func(w *store.WriteTx, a metric.Alarm, oldState string, v metric.Verdict, arn string) error {
	return func(w *store.WriteTx, a metric.Alarm, oldState string, v metric.Verdict, arn string) error {
		if !scaling.IsPolicyARN(arn) {
			return nil
		}
		alarm := scaling.Alarm{Name: a.Name, ARN: a.ARN, Description: a.Description, State: a.State, OldState: oldState, Value: v.Value, HasValue: v.HasValue,
			Recent:    scaling.Recent{N: v.N, Average: v.Average, Minimum: v.Minimum, Maximum: v.Maximum},
			Threshold: a.Threshold, Namespace: a.Namespace, MetricName: a.MetricName, Statistic: a.Statistic, Comparison: a.Comparison, Period: a.Period,
			Evaluations: a.EvaluationPeriods, ChangedAt: a.StateTransitionedAt}
		for _, k := range sortedKeys(a.Dimensions) {
			alarm.Dimensions = append(alarm.Dimensions, scaling.Dimension{Name: k, Value: a.Dimensions[k]})
		}
		return e.OnAlarm(w, arn, alarm)
	}
}

func sortedKeys(m map[string]string) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}
