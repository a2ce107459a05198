package metric

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"skerry/internal/event"
	"skerry/internal/store"
)

const (
	eventSource = "aws.cloudwatch"
	stampLayout = "2006-01-02T15:04:05.000-0700" // CloudWatch's, in UTC
	maxSubject  = 100                            // characters, SNS's
)

// regionNames are how CloudWatch's messages call the regions; others go by their code.
var regionNames = map[string]string{"us-east-1": "US East (N. Virginia)", "us-east-2": "US East (Ohio)", "us-west-1": "US West (N. California)", "us-west-2": "US West (Oregon)",
	"ca-central-1": "Canada (Central)", "sa-east-1": "South America (Sao Paulo)", "eu-west-1": "EU (Ireland)", "eu-west-2": "EU (London)", "eu-west-3": "EU (Paris)",
	"eu-central-1": "EU (Frankfurt)", "eu-north-1": "EU (Stockholm)", "eu-south-1": "EU (Milan)", "af-south-1": "Africa (Cape Town)", "me-south-1": "Middle East (Bahrain)",
	"ap-east-1": "Asia Pacific (Hong Kong)", "ap-south-1": "Asia Pacific (Mumbai)", "ap-northeast-1": "Asia Pacific (Tokyo)", "ap-northeast-2": "Asia Pacific (Seoul)",
	"ap-northeast-3": "Asia Pacific (Osaka)", "ap-southeast-1": "Asia Pacific (Singapore)", "ap-southeast-2": "Asia Pacific (Sydney)"}

func (a Alarm) regionName() string { return cmp.Or(regionNames[a.Region], a.Region) }

func isTopic(arn string) bool { return strings.HasPrefix(arn, "arn:aws:sns:") }

func stamp(t time.Time) string { return t.UTC().Format(stampLayout) }

// notification is what CloudWatch publishes to a topic about an alarm that has changed its state.
func (a Alarm) notification(old string) map[string]any {
	m := map[string]any{"AlarmName": a.Name, "AlarmDescription": orNull(a.Description), "AWSAccountId": a.Account, "AlarmConfigurationUpdatedTimestamp": stamp(a.UpdatedAt),
		"NewStateValue": a.State, "NewStateReason": a.StateReason, "StateChangeTime": stamp(a.StateTransitionedAt), "Region": a.regionName(), "AlarmArn": a.ARN, "OldStateValue": old,
		"OKActions": listed(a.OKActions), "AlarmActions": listed(a.AlarmActions), "InsufficientDataActions": listed(a.InsufficientActions)}
	if a.IsComposite() {
		m["AlarmRule"] = a.Rule
		var data struct {
			Triggering []struct {
				Arn   string
				State struct{ Value, Timestamp string }
			} `json:"triggeringAlarms"`
		}
		if json.Unmarshal([]byte(a.StateReasonData), &data) == nil {
			m["TriggeringChildren"] = data.Triggering
		}
		return m
	}
	trigger := map[string]any{"Period": a.Period, "EvaluationPeriods": a.EvaluationPeriods, "DatapointsToAlarm": a.breachesToAlarm(), "ComparisonOperator": a.Comparison,
		"Threshold": a.Threshold, "TreatMissingData": cmp.Or(a.TreatMissingData, Missing), "EvaluateLowSampleCountPercentile": a.LowSampleCount}
	if a.IsMath() {
		var list []map[string]any
		for _, q := range a.queries() {
			x := map[string]any{"Id": q.ID, "ReturnData": q.returns()}
			if q.Label != "" {
				x["Label"] = q.Label
			}
			if s := q.MetricStat; s != nil {
				x["MetricStat"] = map[string]any{"Metric": map[string]any{"Namespace": s.Metric.Namespace, "MetricName": s.Metric.MetricName, "Dimensions": pairs(q.stat().Dimensions)},
					"Period": s.Period, "Stat": s.Stat}
			} else {
				x["Expression"] = q.Expression
			}
			list = append(list, x)
		}
		trigger["Metrics"] = list
	} else {
		trigger["MetricName"], trigger["Namespace"], trigger["Unit"], trigger["Dimensions"] = a.MetricName, a.Namespace, orNull(a.Unit), pairs(a.Dimensions)
		if trigger["StatisticType"] = "Statistic"; a.Statistic != "" {
			trigger["Statistic"] = snsStatistics[a.Statistic]
		} else {
			trigger["StatisticType"], trigger["ExtendedStatistic"] = "ExtendedStatistic", a.ExtendedStatistic
		}
	}
	m["Trigger"] = trigger
	return m
}

// snsStatistics are the statistics' names in messages.
var snsStatistics = map[string]string{"SampleCount": "SAMPLE_COUNT", "Average": "AVERAGE", "Sum": "SUM", "Minimum": "MINIMUM", "Maximum": "MAXIMUM"}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func listed(l []string) []string { return append([]string{}, l...) }

// pair is a dimension in messages and histories.
type pair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func pairs(m map[string]string) []pair {
	out := []pair{}
	for _, k := range sortedKeys(m) {
		out = append(out, pair{k, m[k]})
	}
	return out
}

// configuration is an alarm's in events: what it reads and how.
func (a Alarm) configuration() map[string]any {
	c := map[string]any{"description": a.Description}
	if a.IsComposite() {
		c["alarmRule"] = a.Rule
		if s := a.Suppressor; s != nil {
			c["actionsSuppressor"], c["actionsSuppressorWaitPeriod"], c["actionsSuppressorExtensionPeriod"] = s.Alarm, s.Wait, s.Extension
		}
		return c
	}
	of := func(id, label string, returns bool, s Stat, period int) map[string]any {
		dims := map[string]string{}
		for k, v := range s.Dimensions {
			dims[k] = v
		}
		x := map[string]any{"id": id, "returnData": returns, "metricStat": map[string]any{"period": period, "stat": s.Statistic,
			"metric": map[string]any{"namespace": s.Namespace, "name": s.Metric, "dimensions": dims}}}
		if label != "" {
			x["label"] = label
		}
		if s.Unit != "" {
			x["metricStat"].(map[string]any)["unit"] = s.Unit
		}
		return x
	}
	var metrics []map[string]any
	if a.IsMath() {
		for _, q := range a.queries() {
			if q.MetricStat != nil {
				metrics = append(metrics, of(q.ID, q.Label, q.returns(), q.stat(), q.MetricStat.Period))
				continue
			}
			x := map[string]any{"id": q.ID, "expression": q.Expression, "returnData": q.returns()}
			if q.Label != "" {
				x["label"] = q.Label
			}
			metrics = append(metrics, x)
		}
	} else {
		metrics = append(metrics, of("m1", "", true, Stat{a.Namespace, a.MetricName, cmp.Or(a.Statistic, a.ExtendedStatistic), a.Unit, a.Dimensions}, a.Period))
	}
	c["metrics"] = metrics
	return c
}

// stateDetail is an alarm's state in events.
func (a Alarm) stateDetail() map[string]any {
	s := map[string]any{"value": a.State, "reason": a.StateReason, "timestamp": stamp(a.StateUpdatedAt)}
	if a.StateReasonData != "" {
		s["reasonData"] = a.StateReasonData
	}
	if a.Suppression.By != "" {
		s["actionsSuppressedBy"], s["actionsSuppressedReason"] = a.Suppression.By, a.Suppression.Reason
	}
	return s
}

// tellState tells of an alarm that has another state than before.
func tellState(w *store.WriteTx, old, a Alarm) {
	if event.HasSink(w) {
		event.Emit(w, a.Scope, eventSource, "CloudWatch Alarm State Change", []string{a.ARN},
			map[string]any{"alarmName": a.Name, "configuration": a.configuration(), "previousState": old.stateDetail(), "state": a.stateDetail()})
	}
}

// tellConfiguration tells of an alarm that was made, changed or deleted; before is nil when it was made.
func tellConfiguration(w *store.WriteTx, a Alarm, c change, before *Alarm) {
	if !event.HasSink(w) {
		return
	}
	settings := func(a Alarm) map[string]any {
		m := a.configuration()
		m["alarmName"], m["actionsEnabled"], m["timestamp"] = a.Name, a.ActionsEnabled, stamp(a.UpdatedAt)
		m["okActions"], m["alarmActions"], m["insufficientDataActions"] = listed(a.OKActions), listed(a.AlarmActions), listed(a.InsufficientActions)
		if a.IsComposite() {
			return m
		}
		m["evaluationPeriods"], m["datapointsToAlarm"], m["threshold"] = a.EvaluationPeriods, a.breachesToAlarm(), a.Threshold
		m["comparisonOperator"], m["treatMissingData"] = a.Comparison, cmp.Or(a.TreatMissingData, Missing)
		return m
	}
	d := map[string]any{"alarmName": a.Name, "operation": strings.ToLower(c.kind), "state": a.stateDetail(), "configuration": settings(a)}
	if before != nil && c == updated {
		d["previousConfiguration"] = settings(*before)
	}
	event.Emit(w, a.Scope, eventSource, "CloudWatch Alarm Configuration Change", []string{a.ARN}, d)
}

// noSink is why a message to a topic went nowhere.
const noSink = "This cloud has no sink that takes messages to topics: start it with 'skerry up --events-sink file:PATH' or an http:// URL."

// publish sends an alarm's state to a topic, and writes into the history what came of it.
func publish(w *store.WriteTx, a Alarm, old, topic string) {
	if !event.HasSink(w) {
		noteAction(w, a, topic, noSink, nil)
		return
	}
	subject := []rune(fmt.Sprintf("%s: %q in %s", a.State, a.Name, a.regionName()))
	m := a.notification(old)
	event.Notify(w, topic, string(subject[:min(len(subject), maxSubject)]), m)
	noteAction(w, a, topic, "", m)
}

// noteAction writes an action into the history: done, or failed for a reason. message is what was published.
func noteAction(w *store.WriteTx, a Alarm, arn, why string, message map[string]any) {
	d := map[string]any{"actionState": "Succeeded", "stateUpdateTimestamp": a.StateTransitionedAt.UnixMilli(), "notificationResource": arn}
	if why != "" {
		d["actionState"], d["error"] = "Failed", why
		note(w, a, "Action", "Failed to execute action "+arn+`. Received error: "`+why+`"`, d)
		return
	}
	if text, err := json.Marshal(message); err == nil && message != nil && len(text) < maxHistoryData-500 {
		d["publishedMessage"] = string(text)
	}
	if b, err := json.Marshal(d); err == nil && len(b) > maxHistoryData {
		delete(d, "publishedMessage") // escaped, it is longer than history takes
	}
	note(w, a, "Action", "Successfully executed action "+arn, d)
}
