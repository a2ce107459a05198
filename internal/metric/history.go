package metric

import (
	"encoding/json"
	"fmt"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Bounds of alarm histories.
const (
	historyPerAlarm = 200
	historyFor      = 30 * 24 * time.Hour
	maxHistoryData  = 4095 // characters, as CloudWatch's contract has it
	historySweep    = 1000 // items that one sweep removes at most, so that no writer waits long
)

// HistoryItem is one line of an alarm's history. Type: ConfigurationUpdate, StateUpdate, Action.
type HistoryItem struct {
	scope.Scope
	Alarm, Type, Summary, Data string
	Composite                  bool `json:",omitempty"`
	At                         time.Time
	Seq                        uint64
}

// History is the table of history items, in the order in which they came for each alarm.
var History = store.NewTable("alarm-history", func(h HistoryItem) string { return historyKey(h.Scope, h.Alarm, h.Seq) })

func historyKey(s scope.Scope, alarm string, seq uint64) string {
	return fmt.Sprintf("%s %020d", s.Key(alarm), seq)
}

// HistoryOf returns an alarm's history, oldest first. It outlives the alarm.
func HistoryOf(tx store.Tx, s scope.Scope, alarm string) []HistoryItem {
	var items []HistoryItem
	for h := range History.Prefix(tx, s.Key(alarm)+" ") {
		if h.Alarm == alarm { // and not one whose name begins with this one and a blank
			items = append(items, h)
		}
	}
	return items
}

// note adds a line to an alarm's history and drops what is too much.
func note(w *store.WriteTx, a Alarm, kind, summary string, data map[string]any) {
	text := ""
	if b, err := json.Marshal(data); err == nil && data != nil && len(b) <= maxHistoryData {
		text = string(b)
	}
	items := HistoryOf(w, a.Scope, a.Name)
	seq := uint64(1)
	if n := len(items); n > 0 {
		seq = items[n-1].Seq + 1
	}
	for len(items) >= historyPerAlarm {
		History.Delete(w, historyKey(a.Scope, a.Name, items[0].Seq))
		items = items[1:]
	}
	History.Put(w, HistoryItem{Scope: a.Scope, Alarm: a.Name, Type: kind, Summary: summary, Data: text, Composite: a.IsComposite(), At: w.Now(), Seq: seq})
}

// change is what happened to an alarm's settings.
type change struct{ kind, verb string }

var (
	created = change{"Create", "created"}
	updated = change{"Update", "updated"}
	deleted = change{"Delete", "deleted"}
)

// noteConfiguration writes a change of the settings, with the settings, into the history, and tells of it.
func noteConfiguration(w *store.WriteTx, a Alarm, c change, before *Alarm) {
	tellConfiguration(w, a, c, before)
	settings := map[string]any{"alarmName": a.Name, "alarmArn": a.ARN, "actionsEnabled": a.ActionsEnabled, "okactions": listed(a.OKActions), "alarmActions": listed(a.AlarmActions),
		"insufficientDataActions": listed(a.InsufficientActions), "namespace": a.Namespace, "metricName": a.MetricName, "dimensions": pairs(a.Dimensions), "statistic": a.Statistic, "period": a.Period,
		"evaluationPeriods": a.EvaluationPeriods, "datapointsToAlarm": a.breachesToAlarm(), "threshold": a.Threshold, "comparisonOperator": a.Comparison, "stateValue": a.State}
	if a.IsComposite() {
		for _, k := range []string{"namespace", "metricName", "dimensions", "statistic", "period", "evaluationPeriods", "datapointsToAlarm", "threshold", "comparisonOperator"} {
			delete(settings, k)
		}
		settings["alarmRule"] = a.Rule
	}
	for k, v := range map[string]string{"alarmDescription": a.Description, "unit": a.Unit, "treatMissingData": a.TreatMissingData} {
		if v != "" {
			settings[k] = v
		}
	}
	note(w, a, "ConfigurationUpdate", fmt.Sprintf("Alarm %q %s", a.Name, c.verb), map[string]any{"version": "1.0", "type": c.kind, c.verb + "Alarm": settings})
}

// SweepHistory removes history that is older than 30 days. It tells whether more is left.
func SweepHistory(w *store.WriteTx) (more bool) {
	before := w.Now().Add(-historyFor)
	var old []HistoryItem
	for h := range History.All(w) {
		if !h.At.Before(before) {
			continue
		}
		if len(old) == historySweep {
			more = true
			break
		}
		old = append(old, h)
	}
	for _, h := range old {
		History.Delete(w, historyKey(h.Scope, h.Alarm, h.Seq))
	}
	return more
}
