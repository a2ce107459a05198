package cwapi

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// TestCompositeAlarms: put, described apart from metric alarms, following its children, deleted before them.
func TestCompositeAlarms(t *testing.T) {
	c := newCloud(t)
	c.alarm(alarmNamed("hot"))
	in := &sdk.PutCompositeAlarmInput{AlarmName: aws.String("both"), AlarmRule: aws.String(`ALARM("hot") AND TRUE`), AlarmDescription: aws.String("d"), AlarmActions: []string{topicARN}, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}
	if _, err := c.PutCompositeAlarm(c.ctx, in); err != nil {
		t.Fatal(err)
	}
	c.Evaluator.Step()
	describe := func(in *sdk.DescribeAlarmsInput) *sdk.DescribeAlarmsOutput {
		t.Helper()
		out, err := c.DescribeAlarms(c.ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := describe(&sdk.DescribeAlarmsInput{}); len(out.MetricAlarms) != 1 || len(out.CompositeAlarms) != 0 {
		t.Errorf("by default %+v", out)
	}
	of := &sdk.DescribeAlarmsInput{AlarmNames: []string{"both"}, AlarmTypes: []types.AlarmType{types.AlarmTypeCompositeAlarm}}
	a := describe(of).CompositeAlarms[0]
	if *a.AlarmRule != *in.AlarmRule || a.StateValue != "OK" || *a.AlarmArn != "arn:aws:cloudwatch:eu-west-1:000000000000:alarm:both" || a.AlarmActions[0] != topicARN || *a.AlarmDescription != "d" || !*a.ActionsEnabled {
		t.Errorf("%+v", a)
	}
	if _, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("hot"), StateValue: "ALARM", StateReason: aws.String("r")}); err != nil {
		t.Fatal(err)
	}
	if a = describe(of).CompositeAlarms[0]; a.StateValue != "ALARM" {
		t.Errorf("%+v", a)
	}
	if out := describe(&sdk.DescribeAlarmsInput{ChildrenOfAlarmName: aws.String("both")}); len(out.MetricAlarms) != 1 || *out.MetricAlarms[0].AlarmName != "hot" {
		t.Errorf("children %+v", out)
	}
	if out := describe(&sdk.DescribeAlarmsInput{ParentsOfAlarmName: aws.String("hot")}); len(out.CompositeAlarms) != 1 {
		t.Errorf("parents %+v", out)
	}
	h, err := c.DescribeAlarmHistory(c.ctx, &sdk.DescribeAlarmHistoryInput{AlarmName: aws.String("both"), AlarmTypes: []types.AlarmType{types.AlarmTypeCompositeAlarm}})
	if err != nil || len(h.AlarmHistoryItems) != 4 || h.AlarmHistoryItems[0].AlarmType != types.AlarmTypeCompositeAlarm { // made, OK, ALARM and its action
		t.Errorf("history %+v %v", h, err)
	}
	if tags, err := c.ListTagsForResource(c.ctx, &sdk.ListTagsForResourceInput{ResourceARN: a.AlarmArn}); err != nil || len(tags.Tags) != 1 {
		t.Errorf("tags %+v %v", tags, err)
	}
	_, err = c.DeleteAlarms(c.ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"hot"}})
	refused(t, err, "ValidationError", 400, "composite alarm(s) depending on it")
	in.ActionsSuppressorWaitPeriod = aws.Int32(60)
	_, err = c.PutCompositeAlarm(c.ctx, in)
	refused(t, err, "InvalidParameterCombination", 400, "need an ActionsSuppressor")
	in.ActionsSuppressor = aws.String("quiet")
	_, err = c.PutCompositeAlarm(c.ctx, in)
	refused(t, err, "InvalidParameterCombination", 400, "ActionsSuppressorExtensionPeriod")
	in.ActionsSuppressorExtensionPeriod = aws.Int32(120)
	_, err = c.PutCompositeAlarm(c.ctx, in)
	refused(t, err, "ValidationError", 400, "quiet does not exist")
	c.alarm(alarmNamed("quiet"))
	if _, err = c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("quiet"), StateValue: "ALARM", StateReason: aws.String("r")}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.PutCompositeAlarm(c.ctx, in); err != nil {
		t.Fatal(err)
	}
	if a = describe(of).CompositeAlarms[0]; *a.ActionsSuppressor != "quiet" || *a.ActionsSuppressorWaitPeriod != 60 || *a.ActionsSuppressorExtensionPeriod != 120 ||
		a.ActionsSuppressedBy != "Alarm" || aws.ToString(a.ActionsSuppressedReason) == "" {
		t.Errorf("%+v", a)
	}
	_, err = c.DeleteAlarms(c.ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"quiet"}})
	refused(t, err, "ValidationError", 400, "composite alarm(s) depending on it")
	if _, err = c.DeleteAlarms(c.ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"both"}}); err != nil {
		t.Error(err)
	}
	if _, err = c.DeleteAlarms(c.ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"hot"}}); err != nil {
		t.Error(err)
	}
}
