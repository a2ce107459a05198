package cwapi

import (
	"skerry/api"
	"skerry/api/cloudwatch"
	"skerry/internal/metric"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func (s *Server) putCompositeAlarm(c *api.Call, in *cloudwatch.PutCompositeAlarmInput) (*cloudwatch.PutCompositeAlarmOutput, error) {
	a := metric.Alarm{Scope: c.Scope(), Name: api.Val(in.AlarmName), Description: api.Val(in.AlarmDescription), Rule: api.Val(in.AlarmRule), ActionsEnabled: api.Val(orTrue(in.ActionsEnabled)),
		OKActions: in.OKActions, AlarmActions: in.AlarmActions, InsufficientActions: in.InsufficientDataActions}
	switch wait, extension := in.ActionsSuppressorWaitPeriod, in.ActionsSuppressorExtensionPeriod; {
	case api.Val(in.ActionsSuppressor) == "" && (wait != nil || extension != nil):
		return nil, combination("ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod need an ActionsSuppressor.")
	case api.Val(in.ActionsSuppressor) == "":
	case wait == nil || extension == nil:
		return nil, combination("An ActionsSuppressor needs ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod.")
	default:
		a.Suppressor = &metric.Suppressor{Alarm: *in.ActionsSuppressor, Wait: int(*wait), Extension: int(*extension)}
	}
	tags := map[string]string{}
	for _, t := range in.Tags {
		tags[api.Val(t.Key)] = api.Val(t.Value)
	}
	return &cloudwatch.PutCompositeAlarmOutput{}, c.Update(func(w *store.WriteTx) error {
		_, err := metric.PutComposite(w, a, tags)
		return err
	})
}

func composite(a metric.Alarm) cloudwatch.CompositeAlarm {
	out := cloudwatch.CompositeAlarm{AlarmName: &a.Name, AlarmArn: &a.ARN, AlarmDescription: str(a.Description), AlarmRule: &a.Rule, ActionsEnabled: &a.ActionsEnabled,
		OKActions: list(a.OKActions), AlarmActions: list(a.AlarmActions), InsufficientDataActions: list(a.InsufficientActions), StateValue: &a.State, StateReason: &a.StateReason,
		StateReasonData: str(a.StateReasonData), StateUpdatedTimestamp: when(a.StateUpdatedAt), StateTransitionedTimestamp: when(a.StateTransitionedAt), AlarmConfigurationUpdatedTimestamp: when(a.UpdatedAt)}
	if s := a.Suppressor; s != nil {
		out.ActionsSuppressor, out.ActionsSuppressorWaitPeriod, out.ActionsSuppressorExtensionPeriod = &s.Alarm, api.Ptr(int32(s.Wait)), api.Ptr(int32(s.Extension))
	}
	out.ActionsSuppressedBy, out.ActionsSuppressedReason = str(a.Suppression.By), str(a.Suppression.Reason)
	return out
}

// related are the alarms in the rule of one, or those in whose rules one is.
func related(tx store.Tx, s scope.Scope, in *cloudwatch.DescribeAlarmsInput) ([]metric.Alarm, error) {
	if in.ParentsOfAlarmName != nil {
		_, err := metric.GetAlarm(tx, s, *in.ParentsOfAlarmName)
		return metric.Parents(tx, s, *in.ParentsOfAlarmName), err
	}
	a, err := metric.GetAlarm(tx, s, *in.ChildrenOfAlarmName)
	var out []metric.Alarm
	for _, name := range a.Children {
		if child, ok := metric.Alarms.Get(tx, s.Key(name)); ok {
			out = append(out, child)
		}
	}
	return out, err
}
