package cwapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"skerry/internal/require"
)

const (
	policyARN = "arn:aws:autoscaling:eu-west-1:000000000000:scalingPolicy:u:autoScalingGroupName/web:policyName/out"
	topicARN  = "arn:aws:sns:eu-west-1:000000000000:ops"
)

func alarmNamed(name string) *sdk.PutMetricAlarmInput {
	return &sdk.PutMetricAlarmInput{AlarmName: &name, AlarmDescription: aws.String("too hot"), Namespace: aws.String("AWS/EC2"), MetricName: aws.String("CPUUtilization"),
		Dimensions: dims("AutoScalingGroupName", "web"), Statistic: "Average", Unit: "Percent", Period: aws.Int32(60), EvaluationPeriods: aws.Int32(3), DatapointsToAlarm: aws.Int32(2),
		Threshold: aws.Float64(70), ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold, TreatMissingData: aws.String("notBreaching"),
		AlarmActions: []string{policyARN}, OKActions: []string{topicARN}, Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}}
}

func (c *cloud) alarm(in *sdk.PutMetricAlarmInput) {
	c.t.Helper()
	if _, err := c.PutMetricAlarm(c.ctx, in); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cloud) names(in *sdk.DescribeAlarmsInput) (names []string, pages int) {
	c.t.Helper()
	for p := sdk.NewDescribeAlarmsPaginator(c, in); p.HasMorePages(); pages++ {
		out, err := p.NextPage(c.ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, a := range out.MetricAlarms {
			names = append(names, *a.AlarmName)
		}
	}
	return names, pages
}

func (c *cloud) one(name string) types.MetricAlarm {
	c.t.Helper()
	out, err := c.DescribeAlarms(c.ctx, &sdk.DescribeAlarmsInput{AlarmNames: []string{name}})
	if err != nil || len(out.MetricAlarms) != 1 {
		c.t.Fatalf("alarm %s: %v %v", name, out, err)
	}
	return out.MetricAlarms[0]
}

// TestAlarmLife follows an alarm from its making to its end.
func TestAlarmLife(t *testing.T) {
	c := newCloud(t)
	c.alarm(alarmNamed("hot"))
	a := c.one("hot")
	if *a.AlarmArn != "arn:aws:cloudwatch:eu-west-1:000000000000:alarm:hot" || a.StateValue != "INSUFFICIENT_DATA" || *a.StateReason != "Unchecked: Initial alarm creation" ||
		*a.AlarmDescription != "too hot" || *a.Namespace != "AWS/EC2" || *a.MetricName != "CPUUtilization" || *a.Dimensions[0].Value != "web" || a.Statistic != "Average" || a.Unit != "Percent" ||
		*a.Period != 60 || *a.EvaluationPeriods != 3 || *a.DatapointsToAlarm != 2 || *a.Threshold != 70 || a.ComparisonOperator != "GreaterThanThreshold" || *a.TreatMissingData != "notBreaching" ||
		!*a.ActionsEnabled || !slices.Equal(a.AlarmActions, []string{policyARN}) || !slices.Equal(a.OKActions, []string{topicARN}) || len(a.InsufficientDataActions) != 0 ||
		time.Since(*a.StateUpdatedTimestamp) > time.Minute || time.Since(*a.AlarmConfigurationUpdatedTimestamp) > time.Minute {
		t.Errorf("%+v", a)
	}

	set := func(state types.StateValue) {
		t.Helper()
		if _, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("hot"), StateValue: state, StateReason: aws.String("a test"), StateReasonData: aws.String(`{"by":"hand"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	set("ALARM")
	if a = c.one("hot"); a.StateValue != "ALARM" || *a.StateReason != "a test" || *a.StateReasonData != `{"by":"hand"}` {
		t.Errorf("%+v", a)
	}
	set("OK")
	if got, want := c.take(&c.acted), []string{"INSUFFICIENT_DATA>ALARM " + policyARN}; !slices.Equal(got, want) {
		t.Errorf("actions %q, want %q", got, want)
	}
	off := &sdk.DisableAlarmActionsInput{AlarmNames: []string{"hot"}}
	if _, err := c.DisableAlarmActions(c.ctx, off); err != nil || *c.one("hot").ActionsEnabled {
		t.Errorf("disabled: %v", err)
	}
	set("ALARM")
	if got := c.take(&c.acted); len(got) != 0 || c.one("hot").StateValue != "ALARM" {
		t.Errorf("disabled actions ran: %q", got)
	}
	if _, err := c.EnableAlarmActions(c.ctx, &sdk.EnableAlarmActionsInput{AlarmNames: []string{"hot"}}); err != nil || !*c.one("hot").ActionsEnabled {
		t.Errorf("enabled: %v", err)
	}

	// a change keeps the state, and replaces all the settings
	again := alarmNamed("hot")
	again.Threshold, again.DatapointsToAlarm, again.AlarmDescription, again.OKActions, again.ActionsEnabled = aws.Float64(50), nil, nil, nil, aws.Bool(false)
	c.alarm(again)
	if a = c.one("hot"); a.StateValue != "ALARM" || *a.Threshold != 50 || a.DatapointsToAlarm != nil || a.AlarmDescription != nil || len(a.OKActions) != 0 || *a.ActionsEnabled {
		t.Errorf("changed: %+v", a)
	}

	history := func(kind types.HistoryItemType) (all []string) {
		t.Helper()
		for p := sdk.NewDescribeAlarmHistoryPaginator(c, &sdk.DescribeAlarmHistoryInput{AlarmName: aws.String("hot"), HistoryItemType: kind, ScanBy: types.ScanByTimestampAscending, MaxRecords: aws.Int32(2)}); p.HasMorePages(); {
			out, err := p.NextPage(c.ctx)
			if err != nil || len(out.AlarmHistoryItems) > 2 {
				t.Fatal(out, err)
			}
			for _, h := range out.AlarmHistoryItems {
				var data map[string]any
				if err := json.Unmarshal([]byte(*h.HistoryData), &data); err != nil || data["version"] == nil && kind != "Action" {
					t.Errorf("%s: data %s", *h.HistorySummary, *h.HistoryData)
				}
				all = append(all, *h.HistorySummary)
			}
		}
		return all
	}
	for kind, want := range map[types.HistoryItemType][]string{
		"ConfigurationUpdate": {`Alarm "hot" created`, `Alarm "hot" updated`, `Alarm "hot" updated`, `Alarm "hot" updated`},
		"StateUpdate":         {"Alarm updated from INSUFFICIENT_DATA to ALARM", "Alarm updated from ALARM to OK", "Alarm updated from OK to ALARM"},
		"Action": {"Successfully executed action " + policyARN,
			"Failed to execute action " + topicARN + `. Received error: "This cloud has no sink that takes messages to topics: start it with 'skerry up --events-sink file:PATH' or an http:// URL."`},
	} {
		if got := history(kind); !slices.Equal(got, want) {
			t.Errorf("history: %q, want %q", got, want)
		}
	}

	if _, err := c.DeleteAlarms(c.ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"hot", "nobody"}}); err != nil {
		t.Fatal(err)
	}
	if names, _ := c.names(&sdk.DescribeAlarmsInput{}); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
	if got := history("ConfigurationUpdate"); len(got) != 5 || got[4] != `Alarm "hot" deleted` {
		t.Errorf("the history outlives the alarm: %q", got)
	}
	_, err := c.DeleteAlarms(c.ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"hot"}})
	refused(t, err, "ResourceNotFound", 404, "hot")
	_, err = c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("hot"), StateValue: "OK", StateReason: aws.String("r")})
	refused(t, err, "ResourceNotFound", 404, "hot")
}

func TestDescribeAlarms(t *testing.T) {
	c := newCloud(t)
	for i := range 7 {
		in := alarmNamed(fmt.Sprintf("TargetTracking-web-%d", i))
		if i >= 5 {
			in.AlarmName = aws.String(fmt.Sprintf("other %d", i))
			in.AlarmActions = nil
		}
		c.alarm(in)
	}
	if _, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("other 5"), StateValue: "ALARM", StateReason: aws.String("r")}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name         string
		in           sdk.DescribeAlarmsInput
		pages, count int
	}{
		{"all", sdk.DescribeAlarmsInput{}, 1, 7},
		{"pages", sdk.DescribeAlarmsInput{MaxRecords: aws.Int32(3)}, 3, 7},
		{"prefix", sdk.DescribeAlarmsInput{AlarmNamePrefix: aws.String("TargetTracking-web")}, 1, 5},
		{"prefix, pages", sdk.DescribeAlarmsInput{AlarmNamePrefix: aws.String("TargetTracking-web"), MaxRecords: aws.Int32(2)}, 3, 5},
		{"names", sdk.DescribeAlarmsInput{AlarmNames: []string{"other 6", "other 5", "nobody", "other 5"}}, 1, 2},
		{"state", sdk.DescribeAlarmsInput{StateValue: "ALARM"}, 1, 1},
		{"state and names", sdk.DescribeAlarmsInput{StateValue: "ALARM", AlarmNames: []string{"other 6"}}, 1, 0},
		{"action", sdk.DescribeAlarmsInput{ActionPrefix: aws.String("arn:aws:autoscaling:")}, 1, 5},
		{"metric alarms", sdk.DescribeAlarmsInput{AlarmTypes: []types.AlarmType{"MetricAlarm", "CompositeAlarm"}}, 1, 7},
		{"composite alarms", sdk.DescribeAlarmsInput{AlarmTypes: []types.AlarmType{"CompositeAlarm"}}, 1, 0},
	} {
		names, pages := c.names(&tt.in)
		unique := slices.Compact(slices.Sorted(slices.Values(names)))
		if pages != tt.pages || len(names) != tt.count || len(unique) != tt.count {
			t.Errorf("%s: %q on %d pages, want %d on %d", tt.name, names, pages, tt.count, tt.pages)
		}
	}
	if out, err := c.client("123456789012", "test").DescribeAlarms(c.ctx, nil); err != nil || len(out.MetricAlarms) != 0 {
		t.Errorf("another account sees %v %v", out, err)
	}
	_, err := c.DescribeAlarms(c.ctx, &sdk.DescribeAlarmsInput{NextToken: aws.String("x")})
	refused(t, err, "InvalidNextToken", 400, "NextToken")
	_, err = c.DescribeAlarms(c.ctx, &sdk.DescribeAlarmsInput{AlarmNames: []string{"a"}, AlarmNamePrefix: aws.String("a")})
	refused(t, err, "InvalidParameterCombination", 400, "")

	other := alarmNamed("of another metric")
	other.Dimensions = dims("AutoScalingGroupName", "db")
	c.alarm(other)
	for _, tt := range []struct {
		change func(*sdk.DescribeAlarmsForMetricInput)
		count  int
	}{
		{func(*sdk.DescribeAlarmsForMetricInput) {}, 7},
		{func(in *sdk.DescribeAlarmsForMetricInput) { in.Dimensions = dims("AutoScalingGroupName", "db") }, 1},
		{func(in *sdk.DescribeAlarmsForMetricInput) { in.Dimensions = nil }, 0},
		{func(in *sdk.DescribeAlarmsForMetricInput) { in.Statistic, in.Period = "Average", aws.Int32(60) }, 7},
		{func(in *sdk.DescribeAlarmsForMetricInput) { in.Period = aws.Int32(120) }, 0},
	} {
		in := &sdk.DescribeAlarmsForMetricInput{Namespace: aws.String("AWS/EC2"), MetricName: aws.String("CPUUtilization"), Dimensions: dims("AutoScalingGroupName", "web")}
		tt.change(in)
		if out, err := c.DescribeAlarmsForMetric(c.ctx, in); err != nil || len(out.MetricAlarms) != tt.count {
			t.Errorf("%+v: %d alarms, %v, want %d", in, len(out.MetricAlarms), err, tt.count)
		}
	}
}

// TestAlarmOfOneQuery: an alarm may be given as a list of queries.
func TestAlarmOfOneQuery(t *testing.T) {
	c := newCloud(t)
	in := alarmNamed("hot")
	in.Namespace, in.MetricName, in.Dimensions, in.Statistic, in.Unit, in.Period = nil, nil, nil, "", "", nil
	in.Metrics = []types.MetricDataQuery{query("m1", "Average", 60)}
	c.alarm(in)
	a := c.one("hot")
	if len(a.Metrics) != 1 || *a.Metrics[0].Id != "m1" || *a.Metrics[0].MetricStat.Metric.Dimensions[0].Value != "a" || a.MetricName != nil || a.Period != nil {
		t.Errorf("%+v", a)
	}
	in.Metrics[0].MetricStat.Stat = aws.String("p90")
	c.alarm(in)
	if a := c.one("hot"); *a.Metrics[0].MetricStat.Stat != "p90" {
		t.Errorf("%+v", a)
	}
	in.Metrics = append(in.Metrics, query("m2", "Sum", 60))
	_, err := c.PutMetricAlarm(c.ctx, in)
	refused(t, err, "InvalidParameterCombination", 400, "Exactly one")
	in.Metrics, in.MetricName = in.Metrics[:1], aws.String("CPUUtilization")
	_, err = c.PutMetricAlarm(c.ctx, in)
	refused(t, err, "InvalidParameterCombination", 400, "Metrics")
}

// TestAlarmOfAnExpression: metric math is read, kept as it was given, and checked.
func TestAlarmOfAnExpression(t *testing.T) {
	c := newCloud(t)
	in := alarmNamed("rate")
	in.Namespace, in.MetricName, in.Dimensions, in.Statistic, in.Unit, in.Period = nil, nil, nil, "", "", nil
	in.DatapointsToAlarm = nil
	quiet := func(q types.MetricDataQuery) types.MetricDataQuery { q.ReturnData = aws.Bool(false); return q }
	rate := types.MetricDataQuery{Id: aws.String("rate"), Expression: aws.String("m1 / m2 * 100"), Label: aws.String("in percent"), ReturnData: aws.Bool(true)}
	in.Metrics = []types.MetricDataQuery{rate, quiet(query("m1", "Sum", 60)), quiet(query("m2", "Sum", 60))}
	c.alarm(in)
	if a := c.one("rate"); len(a.Metrics) != 3 || *a.Metrics[0].Expression != *rate.Expression || *a.Metrics[0].Label != "in percent" || a.Metrics[0].MetricStat != nil || *a.Metrics[2].ReturnData || a.DatapointsToAlarm != nil || a.MetricName != nil || a.Period != nil {
		t.Errorf("%+v", a)
	}
	for part, change := range map[string]func(q []types.MetricDataQuery){
		"no metric with id 'm3'":                func(q []types.MetricDataQuery) { q[0].Expression = aws.String("m1/m3") },
		"its own value":                         func(q []types.MetricDataQuery) { q[0].Expression = aws.String("m1/rate") },
		"function SEARCH is not supported here": func(q []types.MetricDataQuery) { q[0].Expression = aws.String("SUM(SEARCH('x', 'Sum', 60))") },
		"must return a single time series":      func(q []types.MetricDataQuery) { q[0].Expression = aws.String("METRICS()") },
		"not a number":                          func(q []types.MetricDataQuery) { q[0].Expression = aws.String("SUM(m1)") },
		"Exactly one of the metrics":            func(q []types.MetricDataQuery) { q[1].ReturnData = nil },
		"must have one period":                  func(q []types.MetricDataQuery) { q[2] = quiet(query("m2", "Sum", 120)) },
		"Exactly one of the metrics of":         func(q []types.MetricDataQuery) { q[0].ReturnData = aws.Bool(false) },
		"at least one metric": func(q []types.MetricDataQuery) {
			q[1] = quiet(rate)
			q[1].Id, q[1].Expression = aws.String("m1"), aws.String("1")
			q[2] = q[1]
			q[2].Id = aws.String("m2")
		},
	} {
		bad := *in
		bad.Metrics = slices.Clone(in.Metrics)
		change(bad.Metrics)
		_, err := c.PutMetricAlarm(c.ctx, &bad)
		refused(t, err, "ValidationError", 400, part)
	}
}

func TestRefusedAlarms(t *testing.T) {
	c := newCloud(t)
	for _, tt := range []struct {
		code, text string
		change     func(*sdk.PutMetricAlarmInput)
	}{
		{"MissingParameter", "Threshold", func(in *sdk.PutMetricAlarmInput) { in.Threshold = nil }},
		{"MissingParameter", "MetricName", func(in *sdk.PutMetricAlarmInput) { in.MetricName = nil }},
		{"MissingParameter", "Statistic", func(in *sdk.PutMetricAlarmInput) { in.Statistic = "" }},
		{"InvalidParameterCombination", "ExtendedStatistic", func(in *sdk.PutMetricAlarmInput) { in.ExtendedStatistic = aws.String("p90") }},
		{"InvalidParameterValue", "tm101", func(in *sdk.PutMetricAlarmInput) { in.Statistic, in.ExtendedStatistic = "", aws.String("tm101") }},
		{"InvalidParameterValue", "LessThanLowerThreshold", func(in *sdk.PutMetricAlarmInput) { in.ComparisonOperator = "LessThanLowerThreshold" }},
		{"InvalidParameterValue", "ThresholdMetricId", func(in *sdk.PutMetricAlarmInput) { in.ThresholdMetricId = aws.String("ad1") }},
		{"ValidationError", "Period", func(in *sdk.PutMetricAlarmInput) { in.Period = aws.Int32(90) }},
		{"ValidationError", "86400", func(in *sdk.PutMetricAlarmInput) { in.EvaluationPeriods = aws.Int32(1441) }},
		{"ValidationError", "DatapointsToAlarm", func(in *sdk.PutMetricAlarmInput) { in.DatapointsToAlarm = aws.Int32(4) }},
		{"ValidationError", "NaN", func(in *sdk.PutMetricAlarmInput) { in.Threshold = aws.Float64(math.NaN()) }},
		{"InvalidParameterValue", "twice", func(in *sdk.PutMetricAlarmInput) { in.Dimensions = append(in.Dimensions, in.Dimensions...) }},
		{"ValidationException", "less than or equal to 5", func(in *sdk.PutMetricAlarmInput) { in.AlarmActions = slices.Repeat([]string{policyARN}, 6) }},
		{"ValidationError", "treatMissingData", func(in *sdk.PutMetricAlarmInput) { in.TreatMissingData = aws.String("perhaps") }},
		{"ValidationError", "arn", func(in *sdk.PutMetricAlarmInput) { in.AlarmActions = []string{"stop"} }},
		{"ValidationError", "us-east-1", func(in *sdk.PutMetricAlarmInput) {
			in.AlarmActions = []string{"arn:aws:sns:us-east-1:000000000000:ops"}
		}},
		{"ValidationError", "InstanceId", func(in *sdk.PutMetricAlarmInput) { in.AlarmActions = []string{"arn:aws:automate:eu-west-1:ec2:stop"} }},
	} {
		in := alarmNamed("hot")
		tt.change(in)
		_, err := c.PutMetricAlarm(c.ctx, in)
		if err == nil {
			t.Errorf("not refused for its %s", tt.text)
			continue
		}
		refused(t, err, tt.code, 400, tt.text)
	}
	if names, _ := c.names(&sdk.DescribeAlarmsInput{}); len(names) != 0 {
		t.Errorf("refused alarms exist: %v", names)
	}
	c.alarm(alarmNamed("hot"))
	_, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("hot"), StateValue: "OK", StateReason: aws.String("r"), StateReasonData: aws.String("{")})
	refused(t, err, "InvalidFormat", 400, "JSON")
}

func TestAlarmTags(t *testing.T) {
	c := newCloud(t)
	c.alarm(alarmNamed("hot"))
	arn := c.one("hot").AlarmArn
	tags := func() (s string) {
		t.Helper()
		out, err := c.ListTagsForResource(c.ctx, &sdk.ListTagsForResourceInput{ResourceARN: arn})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range out.Tags {
			s += *g.Key + "=" + *g.Value + " "
		}
		return s
	}
	if _, err := c.TagResource(c.ctx, &sdk.TagResourceInput{ResourceARN: arn, Tags: []types.Tag{{Key: aws.String("env"), Value: aws.String("x")}}}); err != nil || tags() != "env=x team=a " {
		t.Errorf("%v, tags %q", err, tags())
	}
	if _, err := c.UntagResource(c.ctx, &sdk.UntagResourceInput{ResourceARN: arn, TagKeys: []string{"team"}}); err != nil || tags() != "env=x " {
		t.Errorf("%v, tags %q", err, tags())
	}
	again := alarmNamed("hot")
	if c.alarm(again); tags() != "env=x " {
		t.Errorf("a change of the settings changes no tags: %q", tags())
	}
	if _, err := c.DeleteAlarms(c.ctx, &sdk.DeleteAlarmsInput{AlarmNames: []string{"hot"}}); err != nil {
		t.Fatal(err)
	}
	_, err := c.ListTagsForResource(c.ctx, &sdk.ListTagsForResourceInput{ResourceARN: arn})
	refused(t, err, "ResourceNotFoundException", 404, "does not exist")
}

// TestNameWithBlank: the history of an alarm isn't that of another one whose name begins the same way.
func TestNameWithBlank(t *testing.T) {
	c := newCloud(t)
	c.alarm(alarmNamed("hot"))
	c.alarm(alarmNamed("hot too"))
	for _, name := range []string{"hot", "hot too"} {
		out, err := c.DescribeAlarmHistory(c.ctx, &sdk.DescribeAlarmHistoryInput{AlarmName: &name})
		if err != nil || len(out.AlarmHistoryItems) != 1 || *out.AlarmHistoryItems[0].AlarmName != name {
			t.Errorf("%s: %v %v", name, out, err)
		}
	}
}

// TestQueryProtocol: older clients send forms.
func TestQueryProtocol(t *testing.T) {
	c := newCloud(t)
	send := func(form url.Values) (int, string) {
		t.Helper()
		body := form.Encode()
		req, err := http.NewRequest("POST", c.url+"/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		sum := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(c.ctx, aws.Credentials{AccessKeyID: "skerry", SecretAccessKey: "skerry"}, req, hex.EncodeToString(sum[:]), "monitoring", region, time.Now()); err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	form := url.Values{"Action": {"PutMetricAlarm"}, "Version": {"2010-08-01"}, "AlarmName": {"hot"}, "Namespace": {"App"}, "MetricName": {"Load"}, "Dimensions.member.1.Name": {"Host"}, "Dimensions.member.1.Value": {"a"},
		"Statistic": {"Average"}, "Period": {"60"}, "EvaluationPeriods": {"1"}, "Threshold": {"1.5"}, "ComparisonOperator": {"GreaterThanThreshold"}, "AlarmActions.member.1": {policyARN}, "OKActions": {""}}
	if status, body := send(form); status != 200 || !strings.Contains(body, "<PutMetricAlarmResponse") {
		t.Fatalf("%d %s", status, body)
	}
	status, body := send(url.Values{"Action": {"DescribeAlarms"}, "Version": {"2010-08-01"}, "AlarmNamePrefix": {"ho"}})
	for _, want := range []string{"<DescribeAlarmsResult>", "<MetricAlarms><member>", "<AlarmName>hot</AlarmName>", "<Threshold>1.5</Threshold>", "<AlarmActions><member>" + policyARN + "</member></AlarmActions>"} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("%d %s has no %s", status, body, want)
		}
	}
	form.Set("Period", "61")
	if status, body := send(form); status != 400 || !strings.Contains(body, "<Code>ValidationError</Code>") || !strings.Contains(body, "<Type>Sender</Type>") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := send(url.Values{"Action": {"ListDashboards"}, "Version": {"2010-08-01"}}); status != 400 || !strings.Contains(body, "<Code>InvalidAction</Code>") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := send(url.Values{"Action": {"DeleteAlarms"}, "Version": {"2010-08-01"}, "AlarmNames.member.1": {"nobody"}}); status != 404 || !strings.Contains(body, "<Code>ResourceNotFound</Code>") {
		t.Errorf("%d %s", status, body)
	}
}

// TestCLI has the commands that scripts use. Each takes half a second and more, so there are few.
func TestCLI(t *testing.T) {
	c := newCloud(t)
	path := require.Tool(t, "aws")
	start := time.Now().UTC().Truncate(time.Minute).Add(-10 * time.Minute)
	times := " --start-time " + start.Format(time.RFC3339) + " --end-time " + start.Add(time.Hour).Format(time.RFC3339)
	for _, tt := range []struct {
		args, want string
		fails      bool
	}{
		{args: "put-metric-data --namespace App --metric-name Load --value 3 --timestamp " + start.Format(time.RFC3339)},
		{args: "get-metric-statistics --namespace App --metric-name Load --period 60 --statistics Average --query Datapoints[].[Average,Unit] --output text" + times, want: "3.0\tNone"},
		{args: "put-metric-alarm --alarm-name TargetTracking-web --namespace App --metric-name Load --statistic Average --period 60 --evaluation-periods 2 --threshold 4 --comparison-operator GreaterThanThreshold --alarm-actions " + policyARN},
		{args: "describe-alarms --alarm-name-prefix TargetTracking-web --query length(MetricAlarms)", want: "1"},
		{args: "delete-alarms --alarm-names nobody", want: "(ResourceNotFound) when calling the DeleteAlarms operation", fails: true},
	} {
		ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
		cmd := exec.CommandContext(ctx, path, append([]string{"cloudwatch"}, strings.Fields(tt.args)...)...)
		cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+c.url, "AWS_ACCESS_KEY_ID=skerry", "AWS_SECRET_ACCESS_KEY=skerry", "AWS_SESSION_TOKEN=", "AWS_DEFAULT_REGION="+region,
			"AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true")
		text, err := cmd.CombinedOutput()
		cancel()
		out := strings.ReplaceAll(string(text), " (reached max retries: 0)", "") // some versions say so
		if (err != nil) != tt.fails || !strings.Contains(out, tt.want) || tt.want == "" && len(out) > 0 {
			t.Errorf("aws cloudwatch %s: %v %s, want %q", tt.args, err, out, tt.want)
		}
	}
	t.Logf("the CLI spoke %q", slices.Compact(c.take(&c.seen)))
}
