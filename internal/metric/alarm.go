package metric

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Limits of alarms.
const (
	maxAlarms  = 5000
	maxActions = 5
)

// Alarm is a metric alarm, or with a Rule a composite one. Its settings are those of PutMetricAlarm or PutCompositeAlarm; the
// state is written by the evaluator and by SetAlarmState.
type Alarm struct {
	scope.Scope
	Name, ARN, Description                         string
	Namespace, MetricName                          string
	Dimensions                                     map[string]string
	Statistic, ExtendedStatistic, Unit             string
	Period, EvaluationPeriods, DatapointsToAlarm   int // seconds, periods, periods: none when not given
	Threshold                                      float64
	Comparison                                     string
	TreatMissingData                               string          // missing when empty
	LowSampleCount                                 string          // EvaluateLowSampleCountPercentile: evaluate when empty, ignore
	Queries                                        json.RawMessage `json:",omitempty"` // Metrics as given: one metric, or metrics and expressions
	Rule                                           string          `json:",omitempty"` // of a composite alarm
	Children                                       []string        `json:",omitempty"` // the alarms that it looks at
	Suppressor                                     *Suppressor     `json:",omitempty"`
	Suppression                                    Suppression     `json:",omitzero"`
	Fresh                                          bool            `json:",omitempty"` // it was put, and not evaluated since
	ActionsEnabled                                 bool
	OKActions, AlarmActions, InsufficientActions   []string
	State, StateReason, StateReasonData            string
	StateUpdatedAt, StateTransitionedAt, UpdatedAt time.Time
}

// Alarms is the table of alarms; the index action holds scope keys of action ARNs, child those of alarms in
// rules, suppressor those of suppressors.
var Alarms = store.NewTable("alarm", func(a Alarm) string { return a.Key(a.Name) },
	store.Index[Alarm]{Name: "action", Keys: func(a Alarm) []string {
		var ks []string
		for _, l := range [][]string{a.OKActions, a.AlarmActions, a.InsufficientActions} {
			for _, arn := range l {
				if k := a.Key(arn); !slices.Contains(ks, k) {
					ks = append(ks, k)
				}
			}
		}
		return ks
	}},
	store.Index[Alarm]{Name: "child", Keys: func(a Alarm) []string {
		var ks []string
		for _, c := range a.Children {
			ks = append(ks, a.Key(c))
		}
		return ks
	}},
	store.Index[Alarm]{Name: "suppressor", Keys: func(a Alarm) []string {
		if a.Suppressor == nil {
			return nil
		}
		return []string{a.Key(a.suppressorName())}
	}})

// Tables lists the package's tables.
var Tables = []store.AnyTable{Alarms, History}

// GetAlarm finds an alarm.
func GetAlarm(tx store.Tx, s scope.Scope, name string) (Alarm, error) {
	if a, ok := Alarms.Get(tx, s.Key(name)); ok {
		return a, nil
	}
	return Alarm{}, fault.New(fault.NotFound, "ResourceNotFound", "Alarm %s does not exist", name)
}

// PutAlarm makes an alarm, or replaces one and keeps its state.
func PutAlarm(w *store.WriteTx, a Alarm, tags map[string]string) (Alarm, error) {
	if err := a.check(); err != nil {
		return a, err
	}
	return put(w, a, tags)
}

func put(w *store.WriteTx, a Alarm, tags map[string]string) (Alarm, error) {
	if a.Name == "" || len(a.Name) > maxNameLen {
		return a, fault.New(fault.Invalid, "ValidationError", "1 validation error detected: Value '%s' at 'alarmName' failed to satisfy constraint: Member must have length between 1 and %d", a.Name, maxNameLen)
	}
	a.ARN = a.Scope.ARN("cloudwatch", "alarm:"+a.Name)
	a.UpdatedAt = w.Now()
	change, before := created, (*Alarm)(nil)
	if old, ok := Alarms.Get(w, a.Key(a.Name)); ok {
		before = &old
		if old.IsComposite() != a.IsComposite() {
			return a, fault.New(fault.Invalid, "ValidationError", "The alarm %s exists as one of the other type: metric alarms and composite alarms share their names.", a.Name)
		}
		a.State, a.StateReason, a.StateReasonData, a.StateUpdatedAt, a.StateTransitionedAt = old.State, old.StateReason, old.StateReasonData, old.StateUpdatedAt, old.StateTransitionedAt
		change = updated
	} else {
		n := 0
		for range Alarms.Prefix(w, a.Scope.Prefix()) {
			n++
		}
		if n >= maxAlarms {
			return a, fault.New(fault.Limit, "LimitExceeded", "The maximum limit of %d alarms has been reached.", maxAlarms)
		}
		a.State, a.StateReason = StateInsufficient, "Unchecked: Initial alarm creation"
		a.StateUpdatedAt, a.StateTransitionedAt = w.Now(), w.Now()
		if err := tag.Set(w, a.Scope, a.ARN, tags); err != nil {
			return a, err
		}
	}
	Alarms.Put(w, a)
	noteConfiguration(w, a, change, before)
	return a, nil
}

// breachesToAlarm is how many of the evaluated periods must breach: all, when that wasn't given.
func (a Alarm) breachesToAlarm() int {
	if a.DatapointsToAlarm == 0 {
		return a.EvaluationPeriods
	}
	return a.DatapointsToAlarm
}

// check refuses settings that CloudWatch refuses.
func (a Alarm) check() error {
	combination := func(text string) error { return fault.New(fault.Invalid, "InvalidParameterCombination", "%s", text) }
	value := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "ValidationError", format, args...)
	}
	switch {
	case a.EvaluationPeriods < 1:
		return fault.New(fault.Invalid, "MissingParameter", "The parameter EvaluationPeriods is required.")
	case relation[a.Comparison] == "":
		return fault.New(fault.Unsupported, "InvalidParameterValue", "The comparison operator %s is not served: anomaly detection bands are not there.", a.Comparison)
	case a.IsMath() && (a.MetricName != "" || a.Statistic != "" || a.ExtendedStatistic != ""):
		return combination("Metrics with an expression may not be given with MetricName or Statistic.")
	case a.IsMath():
		if err := a.checkFormula(); err != nil {
			return err
		}
	case a.MetricName == "" || a.Namespace == "":
		return fault.New(fault.Invalid, "MissingParameter", "The parameters MetricName and Namespace are required, or Metrics with one metric.")
	case a.Statistic == "" && a.ExtendedStatistic == "":
		return fault.New(fault.Invalid, "MissingParameter", "The parameter Statistic or ExtendedStatistic is required.")
	case a.Statistic != "" && a.ExtendedStatistic != "":
		return combination("The parameters Statistic and ExtendedStatistic are mutually exclusive.")
	case a.ExtendedStatistic != "" && !IsExtended(a.ExtendedStatistic):
		return invalid("The value %s for parameter ExtendedStatistic is invalid.", a.ExtendedStatistic)
	case a.ExtendedStatistic != "":
	case !slices.Contains(Statistics, a.Statistic):
		return value("1 validation error detected: Value '%s' at 'statistic' failed to satisfy constraint: Member must satisfy enum value set: [SampleCount, Average, Sum, Minimum, Maximum]", a.Statistic)
	}
	switch {
	case a.Period != 10 && a.Period != 20 && a.Period != 30 && (a.Period < 60 || a.Period%60 != 0):
		return value("Invalid Period: %d. It must be 10, 20, 30 or a multiple of 60.", a.Period)
	case a.Period < 3600 && a.Period*a.EvaluationPeriods > 86400:
		return value("Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= 86400).")
	case a.Period*a.EvaluationPeriods > 604800:
		return value("Metrics cannot be checked across more than seven days (EvaluationPeriods * Period must be <= 604800).")
	case a.DatapointsToAlarm < 0 || a.DatapointsToAlarm > a.EvaluationPeriods:
		return value("DatapointsToAlarm must be between 1 and EvaluationPeriods (%d).", a.EvaluationPeriods)
	case !slices.Contains([]string{"", "evaluate", "ignore"}, a.LowSampleCount):
		return value("Option %s is not supported. Supported options for parameter EvaluateLowSampleCountPercentile are evaluate and ignore.", a.LowSampleCount)
	case a.LowSampleCount != "" && !IsPercentile(a.ExtendedStatistic):
		return value("The parameter EvaluateLowSampleCountPercentile needs a percentile as ExtendedStatistic.")
	case a.TreatMissingData != "" && !slices.Contains([]string{Missing, Ignore, Breaching, NotBreaching}, a.TreatMissingData):
		return value("Unsupported treatMissingData value: %s", a.TreatMissingData)
	case !sane(a.Threshold):
		return value("The value %v for parameter Threshold is invalid.", a.Threshold)
	case a.Unit != "" && !Units[a.Unit]:
		return value("1 validation error detected: Value '%s' at 'unit' failed to satisfy constraint: Member must satisfy enum value set", a.Unit)
	case len(a.Dimensions) > MaxDimensions:
		return value("The collection Dimensions must not have a size greater than %d.", MaxDimensions)
	}
	return a.checkActions()
}

// checkActions refuses actions that the alarm can't have.
func (a Alarm) checkActions() error {
	value := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "ValidationError", format, args...)
	}
	for _, l := range [][]string{a.OKActions, a.AlarmActions, a.InsufficientActions} {
		if len(l) > maxActions {
			return value("An alarm may have up to %d actions a state.", maxActions)
		}
		for _, arn := range l {
			part := strings.SplitN(arn, ":", 6)
			switch {
			case len(part) < 6 || part[0] != "arn":
				return value("Invalid arn syntax: %s", arn)
			case part[3] != "" && part[3] != a.Region:
				return value("Invalid region %s specified. Only %s is supported.", part[3], a.Region)
			case a.IsComposite() && (isInstanceAction(arn) || isPolicy(arn)):
				return value("The action %s is not supported for composite alarms.", arn)
			case isInstanceAction(arn) && a.Dimensions["InstanceId"] == "":
				return value("The action %s needs a metric with the dimension InstanceId.", arn)
			}
		}
	}
	return nil
}

// DeleteAlarms removes the alarms that exist; it refuses when none of them does. The history stays until its age removes
// it.
func DeleteAlarms(w *store.WriteTx, s scope.Scope, names []string) error {
	if err := checkDelete(w, s, names); err != nil {
		return err
	}
	var missing error
	n := 0
	for _, name := range names {
		a, err := GetAlarm(w, s, name)
		if err != nil {
			missing = err
			continue
		}
		n++
		Alarms.Delete(w, a.Key(a.Name))
		tag.DeleteAll(w, s, a.ARN)
		noteConfiguration(w, a, deleted, nil)
	}
	if n == 0 {
		return missing
	}
	return nil
}

// EnableActions switches an alarm's actions on or off.
func EnableActions(w *store.WriteTx, s scope.Scope, name string, on bool) error {
	a, err := GetAlarm(w, s, name)
	if err != nil || a.ActionsEnabled == on {
		return err
	}
	before := a
	a.ActionsEnabled, a.UpdatedAt = on, w.Now()
	Alarms.Put(w, a)
	noteConfiguration(w, a, updated, &before)
	return nil
}

// become gives the alarm a state, writes history, and tells whether it is another one than before.
func become(w *store.WriteTx, a Alarm, state, reason, data string) (Alarm, bool) {
	old := a
	changed := a.State != state
	a.State, a.StateReason, a.StateReasonData, a.StateUpdatedAt = state, reason, data, w.Now()
	if changed {
		a.StateTransitionedAt = w.Now()
	}
	Alarms.Put(w, a)
	if changed {
		type st struct {
			Value  string          `json:"stateValue"`
			Reason string          `json:"stateReason"`
			Data   json.RawMessage `json:"stateReasonData,omitempty"`
		}
		raw := func(s string) json.RawMessage {
			if json.Valid([]byte(s)) {
				return json.RawMessage(s)
			}
			return nil
		}
		note(w, a, "StateUpdate", fmt.Sprintf("Alarm updated from %s to %s", old.State, state), map[string]any{"version": "1.0",
			"oldState": st{old.State, old.StateReason, raw(old.StateReasonData)}, "newState": st{state, reason, raw(data)}})
		tellState(w, old, a)
	}
	return a, changed
}

// actions are those of the alarm's state.
func (a Alarm) actions() []string {
	switch a.State {
	case StateOK:
		return a.OKActions
	case StateAlarm:
		return a.AlarmActions
	}
	return a.InsufficientActions
}
