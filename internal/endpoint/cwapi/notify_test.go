package cwapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"skerry/internal/event"
	"skerry/internal/store"
)

// told returns what waits for the sink, and forgets it.
func (c *cloud) told() (out []event.Record) {
	c.t.Helper()
	if err := c.DB.Update(func(w *store.WriteTx) error {
		for r := range event.Records.All(w) {
			out = append(out, r)
		}
		if len(out) > 0 {
			event.Done(w, out[len(out)-1].Seq)
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	return out
}

func read(t *testing.T, b []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
}

// TestAlarmsNotifyTopics: with a sink, an alarm's change is an event, and a message to each of its topics.
func TestAlarmsNotifyTopics(t *testing.T) {
	c := newCloud(t)
	if err := c.DB.Update(func(w *store.WriteTx) error { event.SetSink(w, true); return nil }); err != nil {
		t.Fatal(err)
	}
	in := alarmNamed("hot")
	in.AlarmActions = []string{topicARN, policyARN, "arn:aws:lambda:eu-west-1:000000000000:function:f"}
	c.alarm(in)
	type bridge struct {
		DetailType string `json:"detail-type"`
		Source     string
		Resources  []string
		Detail     struct {
			AlarmName, Operation string
			State, PreviousState struct{ Value, Reason, ReasonData, Timestamp string }
			Configuration        struct {
				Description string
				Threshold   float64
				Metrics     []struct {
					ID, Expression string
					ReturnData     bool
					MetricStat     struct {
						Period int
						Stat   string
						Unit   string
						Metric struct {
							Namespace, Name string
							Dimensions      map[string]string
						}
					}
				}
			}
		}
	}
	all := c.told()
	var b bridge
	if len(all) != 1 {
		t.Fatalf("a new alarm told %d things", len(all))
	}
	if read(t, all[0].Body, &b); b.DetailType != "CloudWatch Alarm Configuration Change" || b.Detail.Operation != "create" || b.Detail.Configuration.Threshold != 70 {
		t.Errorf("%s", all[0].Body)
	}
	if _, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("hot"), StateValue: "ALARM", StateReason: aws.String("a test"), StateReasonData: aws.String(`{"by":"hand"}`)}); err != nil {
		t.Fatal(err)
	}
	if all = c.told(); len(all) != 2 || all[0].Kind != "EventBridge" || all[1].Kind != "SNS" || all[1].Topic != topicARN {
		t.Fatalf("told %+v", all)
	}
	b = bridge{}
	read(t, all[0].Body, &b)
	m := b.Detail.Configuration.Metrics
	if b.DetailType != "CloudWatch Alarm State Change" || b.Source != "aws.cloudwatch" || b.Resources[0] != "arn:aws:cloudwatch:eu-west-1:000000000000:alarm:hot" || b.Detail.AlarmName != "hot" ||
		b.Detail.State.Value != "ALARM" || b.Detail.State.ReasonData != `{"by":"hand"}` || b.Detail.PreviousState.Value != "INSUFFICIENT_DATA" || !strings.HasSuffix(b.Detail.State.Timestamp, "+0000") ||
		len(m) != 1 || m[0].MetricStat.Metric.Name != "CPUUtilization" || m[0].MetricStat.Metric.Dimensions["AutoScalingGroupName"] != "web" || m[0].MetricStat.Stat != "Average" || !m[0].ReturnData {
		t.Errorf("%s", all[0].Body)
	}
	var sns struct{ Type, TopicArn, Subject, Message string }
	read(t, all[1].Body, &sns)
	if sns.Type != "Notification" || sns.Subject != `ALARM: "hot" in EU (Ireland)` {
		t.Errorf("%s", all[1].Body)
	}
	type message struct {
		AlarmName, AlarmDescription, AWSAccountId, NewStateValue, NewStateReason, StateChangeTime, Region, AlarmArn, OldStateValue string
		AlarmActions, OKActions                                                                                                    []string
		Trigger                                                                                                                    struct {
			MetricName, Namespace, StatisticType, Statistic, ExtendedStatistic, Unit, ComparisonOperator, TreatMissingData string
			Dimensions                                                                                                     []struct{ Value, Name string }
			Period, EvaluationPeriods, DatapointsToAlarm                                                                   int
			Threshold                                                                                                      float64
			Metrics                                                                                                        []struct {
				Id, Expression string
				ReturnData     bool
				MetricStat     *struct {
					Stat   string
					Period int
					Metric struct{ MetricName string }
				}
			}
		}
	}
	var got message
	read(t, []byte(sns.Message), &got)
	tr := got.Trigger
	if got.AlarmName != "hot" || got.AlarmDescription != "too hot" || got.AWSAccountId != "000000000000" || got.NewStateValue != "ALARM" || got.OldStateValue != "INSUFFICIENT_DATA" ||
		got.NewStateReason != "a test" || got.Region != "EU (Ireland)" || len(got.AlarmActions) != 3 || tr.MetricName != "CPUUtilization" || tr.StatisticType != "Statistic" || tr.Statistic != "AVERAGE" ||
		tr.Unit != "Percent" || tr.Dimensions[0].Name != "AutoScalingGroupName" || tr.Dimensions[0].Value != "web" || tr.Period != 60 || tr.DatapointsToAlarm != 2 || tr.Threshold != 70 || tr.TreatMissingData != "notBreaching" {
		t.Errorf("%s", sns.Message)
	}
	h, err := c.DescribeAlarmHistory(c.ctx, &sdk.DescribeAlarmHistoryInput{AlarmName: aws.String("hot"), HistoryItemType: types.HistoryItemTypeAction, ScanBy: types.ScanByTimestampAscending})
	if err != nil || len(h.AlarmHistoryItems) != 3 {
		t.Fatalf("%+v %v", h, err)
	}
	var item struct{ ActionState, NotificationResource, PublishedMessage string }
	read(t, []byte(*h.AlarmHistoryItems[0].HistoryData), &item)
	if *h.AlarmHistoryItems[0].HistorySummary != "Successfully executed action "+topicARN || item.ActionState != "Succeeded" || item.PublishedMessage != sns.Message {
		t.Errorf("history %s, not %s", *h.AlarmHistoryItems[0].HistoryData, sns.Message)
	}
	if s := *h.AlarmHistoryItems[2].HistorySummary; !strings.HasPrefix(s, "Failed to execute action arn:aws:lambda:") {
		t.Error(s)
	}
	// in the same state nothing is sent again
	if _, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("hot"), StateValue: "ALARM", StateReason: aws.String("again")}); err != nil || len(c.told()) != 0 {
		t.Errorf("told again, %v", err)
	}

	// metric math has its queries in both forms
	in = alarmNamed("rate")
	in.Namespace, in.MetricName, in.Dimensions, in.Statistic, in.Unit, in.Period, in.DatapointsToAlarm = nil, nil, nil, "", "", nil, nil
	quiet := query("m1", "p90", 60)
	quiet.ReturnData = aws.Bool(false)
	in.Metrics = []types.MetricDataQuery{{Id: aws.String("e"), Expression: aws.String("m1*2"), Label: aws.String("twice")}, quiet}
	in.AlarmActions = []string{topicARN}
	c.alarm(in)
	c.told()
	if _, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("rate"), StateValue: "ALARM", StateReason: aws.String("a test")}); err != nil {
		t.Fatal(err)
	}
	all = c.told()
	got, b = message{}, bridge{}
	read(t, all[1].Body, &sns)
	read(t, []byte(sns.Message), &got)
	read(t, all[0].Body, &b)
	if q := got.Trigger.Metrics; len(q) != 2 || q[0].Expression != "m1*2" || !q[0].ReturnData || q[1].MetricStat.Stat != "p90" || q[1].MetricStat.Metric.MetricName != "Load" || q[1].ReturnData {
		t.Errorf("%s", sns.Message)
	}
	if q := b.Detail.Configuration.Metrics; len(q) != 2 || q[0].Expression != "m1*2" || q[1].MetricStat.Metric.Dimensions["Host"] != "a" {
		t.Errorf("%s", all[0].Body)
	}

	// switched off, an alarm tells of its change, and notifies nobody
	if _, err := c.DisableAlarmActions(c.ctx, &sdk.DisableAlarmActionsInput{AlarmNames: []string{"rate"}}); err != nil {
		t.Fatal(err)
	}
	c.told()
	if _, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("rate"), StateValue: "OK", StateReason: aws.String("r")}); err != nil {
		t.Fatal(err)
	}
	if all = c.told(); len(all) != 1 || all[0].Kind != "EventBridge" {
		t.Errorf("told %+v", all)
	}
}
