package cwapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"skerry/api"
	"skerry/api/cloudwatch"
	"skerry/internal/fault"
	"skerry/internal/metric"
	"skerry/internal/store"
	"skerry/internal/tag"
)

func (s *Server) putMetricAlarm(c *api.Call, in *cloudwatch.PutMetricAlarmInput) (*cloudwatch.PutMetricAlarmOutput, error) {
	a, err := alarmOf(in)
	if err != nil {
		return nil, err
	}
	a.Scope = c.Scope()
	tags := map[string]string{}
	for _, t := range in.Tags {
		tags[api.Val(t.Key)] = api.Val(t.Value)
	}
	err = c.Update(func(w *store.WriteTx) error {
		_, err := metric.PutAlarm(w, a, tags)
		return err
	})
	return &cloudwatch.PutMetricAlarmOutput{}, err
}

// alarmOf reads the settings of an alarm.
func alarmOf(in *cloudwatch.PutMetricAlarmInput) (metric.Alarm, error) {
	a := metric.Alarm{Name: api.Val(in.AlarmName), Description: api.Val(in.AlarmDescription), Namespace: api.Val(in.Namespace), MetricName: api.Val(in.MetricName),
		Statistic: api.Val(in.Statistic), ExtendedStatistic: api.Val(in.ExtendedStatistic), Unit: api.Val(in.Unit), Period: int(api.Val(in.Period)),
		EvaluationPeriods: int(api.Val(in.EvaluationPeriods)), DatapointsToAlarm: int(api.Val(in.DatapointsToAlarm)), Comparison: api.Val(in.ComparisonOperator),
		TreatMissingData: api.Val(in.TreatMissingData), LowSampleCount: api.Val(in.EvaluateLowSampleCountPercentile), ActionsEnabled: api.Val(orTrue(in.ActionsEnabled)),
		OKActions: in.OKActions, AlarmActions: in.AlarmActions, InsufficientActions: in.InsufficientDataActions}
	switch {
	case in.ThresholdMetricId != nil:
		return a, unserved("The parameter ThresholdMetricId (anomaly detection)")
	case in.EvaluationCriteria != nil:
		return a, unserved("The parameter EvaluationCriteria (PromQL)")
	case in.EvaluationInterval != nil:
		return a, unserved("The parameter EvaluationInterval")
	case in.Threshold == nil:
		return a, fault.New(fault.Invalid, "MissingParameter", "The parameter Threshold is required.")
	case in.DatapointsToAlarm != nil && *in.DatapointsToAlarm < 1:
		return a, invalid("The parameter DatapointsToAlarm must be greater than or equal to 1.")
	}
	a.Threshold = *in.Threshold
	var err error
	if a.Dimensions, err = dimensions(in.Dimensions); err != nil {
		return a, err
	}
	if len(in.Metrics) == 0 {
		return a, nil
	}
	if in.MetricName != nil || in.Namespace != nil || in.Statistic != nil || in.ExtendedStatistic != nil || in.Period != nil || in.Unit != nil || len(in.Dimensions) > 0 {
		return a, combination("The parameter Metrics may not be given with MetricName, Namespace, Dimensions, Period, Unit, Statistic or ExtendedStatistic.")
	}
	if slices.ContainsFunc(in.Metrics, func(q cloudwatch.MetricDataQuery) bool { return q.Expression != nil }) {
		return a, formula(&a, in.Metrics)
	}
	return a, oneMetric(&a, in.Metrics)
}

// formula reads an alarm over an expression. Its metrics share one period.
func formula(a *metric.Alarm, qs []cloudwatch.MetricDataQuery) error {
	if err := checkQueries(qs); err != nil {
		return err
	}
	for _, q := range qs {
		if q.MetricStat == nil {
			continue
		}
		a.Period = max(a.Period, int(api.Val(q.MetricStat.Period)))
		if _, err := dimensions(q.MetricStat.Metric.Dimensions); err != nil {
			return err
		}
	}
	var err error
	a.Queries, err = json.Marshal(qs)
	return err
}

// oneMetric reads an alarm that is given as a list of queries. One without expressions is the same as a plain alarm.
func oneMetric(a *metric.Alarm, qs []cloudwatch.MetricDataQuery) error {
	if err := checkQueries(qs); err != nil {
		return err
	}
	if len(qs) != 1 {
		return combination("Exactly one of the metrics of an alarm must return data.")
	}
	q := qs[0]
	if !api.Val(orTrue(q.ReturnData)) {
		return combination("Exactly one of the metrics of an alarm must return data.")
	}
	a.Namespace, a.MetricName, a.Statistic = api.Val(q.MetricStat.Metric.Namespace), api.Val(q.MetricStat.Metric.MetricName), api.Val(q.MetricStat.Stat)
	a.Unit, a.Period = api.Val(q.MetricStat.Unit), int(api.Val(q.MetricStat.Period))
	if metric.IsExtended(a.Statistic) {
		a.Statistic, a.ExtendedStatistic = "", a.Statistic
	}
	var err error
	if a.Dimensions, err = dimensions(q.MetricStat.Metric.Dimensions); err != nil {
		return err
	}
	a.Queries, err = json.Marshal(qs)
	return err
}

func alarm(a metric.Alarm) cloudwatch.MetricAlarm {
	out := cloudwatch.MetricAlarm{AlarmName: &a.Name, AlarmArn: &a.ARN, AlarmDescription: str(a.Description), ActionsEnabled: &a.ActionsEnabled,
		OKActions: list(a.OKActions), AlarmActions: list(a.AlarmActions), InsufficientDataActions: list(a.InsufficientActions),
		EvaluationPeriods: api.Ptr(int32(a.EvaluationPeriods)), Threshold: &a.Threshold, ComparisonOperator: &a.Comparison, TreatMissingData: str(a.TreatMissingData),
		EvaluateLowSampleCountPercentile: str(a.LowSampleCount), StateValue: &a.State, StateReason: &a.StateReason, StateReasonData: str(a.StateReasonData),
		StateUpdatedTimestamp: when(a.StateUpdatedAt), StateTransitionedTimestamp: when(a.StateTransitionedAt), AlarmConfigurationUpdatedTimestamp: when(a.UpdatedAt),
	}
	if a.DatapointsToAlarm != 0 {
		out.DatapointsToAlarm = api.Ptr(int32(a.DatapointsToAlarm))
	}
	if len(a.Queries) > 0 && json.Unmarshal(a.Queries, &out.Metrics) == nil {
		out.Dimensions = []cloudwatch.Dimension{}
		return out
	}
	out.Namespace, out.MetricName, out.Statistic, out.Unit = &a.Namespace, &a.MetricName, str(a.Statistic), str(a.Unit)
	out.ExtendedStatistic = str(a.ExtendedStatistic)
	out.Period, out.Dimensions = api.Ptr(int32(a.Period)), dimensionList(a.Dimensions)
	return out
}

func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

// maxNames is how many names a request may give; maxPage how many alarms or items of history a page may have.
const (
	maxNames = 100
	maxPage  = 100
)

func (s *Server) describeAlarms(c *api.Call, in *cloudwatch.DescribeAlarmsInput) (*cloudwatch.DescribeAlarmsOutput, error) {
	n, err := size(in.MaxRecords, 50, maxPage)
	switch {
	case err != nil:
		return nil, err
	case len(in.AlarmNames) > maxNames:
		return nil, invalid("The collection AlarmNames must not have a size greater than %d.", maxNames)
	case len(in.AlarmNames) > 0 && in.AlarmNamePrefix != nil:
		return nil, combination("AlarmNamePrefix and AlarmNames are mutually exclusive.")
	case in.AlarmNamePrefix != nil && *in.AlarmNamePrefix == "":
		return nil, invalid("The parameter AlarmNamePrefix must not be empty.")
	case in.StateValue != nil && !slices.Contains([]string{metric.StateOK, metric.StateAlarm, metric.StateInsufficient}, *in.StateValue):
		return nil, invalid("The value %s for parameter StateValue is invalid.", *in.StateValue)
	}
	out := &cloudwatch.DescribeAlarmsOutput{MetricAlarms: []cloudwatch.MetricAlarm{}, CompositeAlarms: []cloudwatch.CompositeAlarm{}}
	wanted := func(a metric.Alarm) bool {
		if a.IsComposite() {
			return slices.Contains(in.AlarmTypes, "CompositeAlarm")
		}
		return len(in.AlarmTypes) == 0 || slices.Contains(in.AlarmTypes, "MetricAlarm")
	}
	if in.ChildrenOfAlarmName != nil || in.ParentsOfAlarmName != nil {
		if in.ChildrenOfAlarmName != nil && in.ParentsOfAlarmName != nil || len(in.AlarmNames) > 0 || in.AlarmNamePrefix != nil || in.StateValue != nil || in.ActionPrefix != nil || len(in.AlarmTypes) > 0 {
			return nil, combination("ChildrenOfAlarmName and ParentsOfAlarmName may be given with MaxRecords and NextToken alone.")
		}
		wanted = func(metric.Alarm) bool { return true }
	}
	return out, c.View(func(tx store.Tx) error {
		var all []metric.Alarm
		switch {
		case in.ChildrenOfAlarmName != nil || in.ParentsOfAlarmName != nil:
			var err error
			if all, err = related(tx, c.Scope(), in); err != nil {
				return err
			}
		case len(in.AlarmNames) > 0:
			for _, name := range slices.Compact(slices.Sorted(slices.Values(in.AlarmNames))) {
				if a, ok := metric.Alarms.Get(tx, c.Scope().Key(name)); ok {
					all = append(all, a)
				}
			}
		default:
			for a := range metric.Alarms.Prefix(tx, c.Scope().Key(api.Val(in.AlarmNamePrefix))) {
				all = append(all, a)
			}
		}
		all = slices.DeleteFunc(all, func(a metric.Alarm) bool {
			return !wanted(a) || in.StateValue != nil && a.State != *in.StateValue || in.ActionPrefix != nil && !acts(a, *in.ActionPrefix)
		})
		as, next, err := page(all, func(a metric.Alarm) string { return a.Name }, in.NextToken, n)
		for _, a := range as {
			switch {
			case a.IsComposite():
				out.CompositeAlarms = append(out.CompositeAlarms, composite(a))
			default:
				out.MetricAlarms = append(out.MetricAlarms, alarm(a))
			}
		}
		out.NextToken = next
		return err
	})
}

func acts(a metric.Alarm, prefix string) bool {
	return slices.ContainsFunc(slices.Concat(a.OKActions, a.AlarmActions, a.InsufficientActions), func(s string) bool { return strings.HasPrefix(s, prefix) })
}

func (s *Server) describeAlarmsForMetric(c *api.Call, in *cloudwatch.DescribeAlarmsForMetricInput) (*cloudwatch.DescribeAlarmsForMetricOutput, error) {
	dims, err := dimensions(in.Dimensions)
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.DescribeAlarmsForMetricOutput{MetricAlarms: []cloudwatch.MetricAlarm{}}
	return out, c.View(func(tx store.Tx) error {
		for a := range metric.Alarms.Prefix(tx, c.Scope().Prefix()) {
			if a.MetricName != api.Val(in.MetricName) || a.Namespace != api.Val(in.Namespace) || !maps.Equal(a.Dimensions, dims) ||
				in.Statistic != nil && a.Statistic != *in.Statistic || in.ExtendedStatistic != nil && a.ExtendedStatistic != *in.ExtendedStatistic ||
				in.Period != nil && a.Period != int(*in.Period) || in.Unit != nil && a.Unit != *in.Unit {
				continue
			}
			out.MetricAlarms = append(out.MetricAlarms, alarm(a))
		}
		return nil
	})
}

func (s *Server) describeAlarmHistory(c *api.Call, in *cloudwatch.DescribeAlarmHistoryInput) (*cloudwatch.DescribeAlarmHistoryOutput, error) {
	n, err := size(in.MaxRecords, 100, maxPage)
	if err != nil {
		return nil, err
	}
	if by := api.Val(in.ScanBy); by != "" && by != "TimestampDescending" && by != "TimestampAscending" {
		return nil, invalid("The value %s for parameter ScanBy is invalid.", by)
	}
	if t := api.Val(in.HistoryItemType); t != "" && !slices.Contains([]string{"ConfigurationUpdate", "StateUpdate", "Action", "AlarmContributorStateUpdate", "AlarmContributorAction"}, t) {
		return nil, invalid("The value %s for parameter HistoryItemType is invalid.", t)
	}
	out := &cloudwatch.DescribeAlarmHistoryOutput{AlarmHistoryItems: []cloudwatch.AlarmHistoryItem{}}
	if in.AlarmContributorId != nil {
		return out, nil
	}
	kind := func(h metric.HistoryItem) string {
		if h.Composite {
			return "CompositeAlarm"
		}
		return "MetricAlarm"
	}
	kinds := in.AlarmTypes
	if len(kinds) == 0 {
		kinds = []string{"MetricAlarm"}
	}
	var all []metric.HistoryItem
	if err := c.View(func(tx store.Tx) error {
		for h := range metric.History.Prefix(tx, c.Scope().Prefix()) {
			if !slices.Contains(kinds, kind(h)) || in.AlarmName != nil && h.Alarm != *in.AlarmName || in.HistoryItemType != nil && h.Type != *in.HistoryItemType ||
				in.StartDate != nil && h.At.Before(*in.StartDate) || in.EndDate != nil && !h.At.Before(*in.EndDate) {
				continue
			}
			all = append(all, h)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	descending := api.Val(in.ScanBy) != "TimestampAscending"
	key := func(h metric.HistoryItem) string {
		at, seq := uint64(h.At.UnixNano()), h.Seq
		if descending {
			at, seq = ^at, ^seq
		}
		return fmt.Sprintf("%020d %020d %s", at, seq, h.Alarm)
	}
	slices.SortFunc(all, func(a, b metric.HistoryItem) int { return strings.Compare(key(a), key(b)) })
	items, next, err := page(all, key, in.NextToken, n)
	for _, h := range items {
		out.AlarmHistoryItems = append(out.AlarmHistoryItems, cloudwatch.AlarmHistoryItem{AlarmName: api.Ptr(h.Alarm), AlarmType: api.Ptr(kind(h)), HistoryItemType: api.Ptr(h.Type),
			HistorySummary: api.Ptr(h.Summary), HistoryData: str(h.Data), Timestamp: when(h.At)})
	}
	out.NextToken = next
	return out, err
}

func checkNames(names []string) error {
	if len(names) == 0 || len(names) > maxNames {
		return invalid("The collection AlarmNames must have a size between 1 and %d.", maxNames)
	}
	return nil
}

func (s *Server) deleteAlarms(c *api.Call, in *cloudwatch.DeleteAlarmsInput) (*cloudwatch.DeleteAlarmsOutput, error) {
	if err := checkNames(in.AlarmNames); err != nil {
		return nil, err
	}
	return &cloudwatch.DeleteAlarmsOutput{}, c.Update(func(w *store.WriteTx) error {
		return metric.DeleteAlarms(w, c.Scope(), slices.Compact(slices.Sorted(slices.Values(in.AlarmNames))))
	})
}

func enable(c *api.Call, names []string, on bool) error {
	if err := checkNames(names); err != nil {
		return err
	}
	return c.Update(func(w *store.WriteTx) error {
		for _, n := range names {
			if err := metric.EnableActions(w, c.Scope(), n, on); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Server) enableAlarmActions(c *api.Call, in *cloudwatch.EnableAlarmActionsInput) (*cloudwatch.EnableAlarmActionsOutput, error) {
	return &cloudwatch.EnableAlarmActionsOutput{}, enable(c, in.AlarmNames, true)
}

func (s *Server) disableAlarmActions(c *api.Call, in *cloudwatch.DisableAlarmActionsInput) (*cloudwatch.DisableAlarmActionsOutput, error) {
	return &cloudwatch.DisableAlarmActionsOutput{}, enable(c, in.AlarmNames, false)
}

func (s *Server) setAlarmState(c *api.Call, in *cloudwatch.SetAlarmStateInput) (*cloudwatch.SetAlarmStateOutput, error) {
	state, reason, data := api.Val(in.StateValue), api.Val(in.StateReason), api.Val(in.StateReasonData)
	switch {
	case !slices.Contains([]string{metric.StateOK, metric.StateAlarm, metric.StateInsufficient}, state):
		return nil, invalid("The value %s for parameter StateValue is invalid. Expecting one of: OK, ALARM, INSUFFICIENT_DATA.", state)
	case len(reason) > 1023 || len(data) > 4000:
		return nil, invalid("The values for parameters StateReason and StateReasonData may be up to 1023 and 4000 characters long.")
	case data != "" && !json.Valid([]byte(data)):
		return nil, fault.New(fault.Invalid, "InvalidFormat", "StateReasonData was not valid JSON")
	}
	return &cloudwatch.SetAlarmStateOutput{}, c.Update(func(w *store.WriteTx) error {
		return s.Evaluator.SetState(w, c.Scope(), api.Val(in.AlarmName), state, reason, data)
	})
}

// tagged finds the alarm that an ARN names.
func tagged(c *api.Call, tx store.Tx, arn *string) error {
	name, ok := strings.CutPrefix(api.Val(arn), c.Scope().ARN("cloudwatch", "alarm:"))
	if ok {
		_, ok = metric.Alarms.Get(tx, c.Scope().Key(name))
	}
	if !ok {
		return fault.New(fault.NotFound, "ResourceNotFoundException", "The resource %s does not exist.", api.Val(arn))
	}
	return nil
}

func (s *Server) tagResource(c *api.Call, in *cloudwatch.TagResourceInput) (*cloudwatch.TagResourceOutput, error) {
	tags := map[string]string{}
	for _, t := range in.Tags {
		tags[api.Val(t.Key)] = api.Val(t.Value)
	}
	return &cloudwatch.TagResourceOutput{}, c.Update(func(w *store.WriteTx) error {
		if err := tagged(c, w, in.ResourceARN); err != nil {
			return err
		}
		return tag.Set(w, c.Scope(), *in.ResourceARN, tags)
	})
}

func (s *Server) untagResource(c *api.Call, in *cloudwatch.UntagResourceInput) (*cloudwatch.UntagResourceOutput, error) {
	return &cloudwatch.UntagResourceOutput{}, c.Update(func(w *store.WriteTx) error {
		if err := tagged(c, w, in.ResourceARN); err != nil {
			return err
		}
		for _, k := range in.TagKeys {
			tag.Delete(w, c.Scope(), *in.ResourceARN, k, nil)
		}
		return nil
	})
}

func (s *Server) listTagsForResource(c *api.Call, in *cloudwatch.ListTagsForResourceInput) (*cloudwatch.ListTagsForResourceOutput, error) {
	out := &cloudwatch.ListTagsForResourceOutput{Tags: []cloudwatch.Tag{}}
	return out, c.View(func(tx store.Tx) error {
		if err := tagged(c, tx, in.ResourceARN); err != nil {
			return err
		}
		for _, t := range tag.Of(tx, c.Scope(), *in.ResourceARN) {
			out.Tags = append(out.Tags, cloudwatch.Tag{Key: api.Ptr(t.Key), Value: api.Ptr(t.Value)})
		}
		return nil
	})
}
