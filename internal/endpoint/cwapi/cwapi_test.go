package cwapi_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"

	"skerry/api"
	apicw "skerry/api/cloudwatch"
	"skerry/internal/endpoint/cwapi"
	"skerry/internal/gateway"
	"skerry/internal/metric"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// cloud is CloudWatch behind a real gateway. The evaluator's clock is the test's; the rest of the time is real, since
// the SDK signs with it.
type cloud struct {
	t       *testing.T
	db      *store.DB
	metrics *metric.Store
	ev      *metric.Evaluator
	cw      *cloudwatch.Client

	mu    sync.Mutex
	now   time.Time
	fired []string
}

func (c *cloud) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *cloud) at(t time.Time) {
	c.mu.Lock()
	c.now = t
	c.mu.Unlock()
	c.ev.Step()
}

func newCloud(t *testing.T, scale int) *cloud {
	t.Helper()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ms, err := metric.Open("", metric.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, db: db, metrics: ms, now: time.Now()}
	c.ev = &metric.Evaluator{DB: db, Store: ms, Clock: c.clock, TimeScale: scale,
		OnAction: func(_ *store.WriteTx, a metric.Alarm, _ string, v metric.Verdict, arn string) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.fired = append(c.fired, fmt.Sprintf("%s %s %v", a.State, arn, v.Value))
			return nil
		}}
	m := api.NewMux(&apicw.Service)
	(&cwapi.Server{DB: db, Metrics: ms, Evaluator: c.ev, TimeScale: scale}).Register(m)
	srv := httptest.NewServer(gateway.New(gateway.Options{Mux: m, DB: db, Credentials: func(id string, r *http.Request) (gateway.Credential, error) { return gateway.WellKnown(id, r) }}))
	t.Cleanup(func() { srv.Close(); db.Close(); ms.Close() })
	c.cw = cloudwatch.NewFromConfig(aws.Config{Region: "eu-west-1", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("skerry", "skerry", "")})
	return c
}

func refused(t *testing.T, what string, err error, code, text string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), text) {
		t.Errorf("%s: got %v, want %s with %q", what, err, code, text)
	}
}

var (
	p    = aws.String
	dims = []types.Dimension{{Name: aws.String("host"), Value: aws.String("a")}}
)

func (c *cloud) put(data ...types.MetricDatum) {
	c.t.Helper()
	if _, err := c.cw.PutMetricData(context.Background(), &cloudwatch.PutMetricDataInput{Namespace: p("app"), MetricData: data}); err != nil {
		c.t.Fatal(err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 1)
	ctx := context.Background()
	t0 := time.Now().Add(-10 * time.Minute).Truncate(time.Minute)
	c.put(types.MetricDatum{MetricName: p("m"), Dimensions: dims, Timestamp: &t0, Value: aws.Float64(2), Unit: types.StandardUnitCount},
		types.MetricDatum{MetricName: p("m"), Dimensions: dims, Timestamp: aws.Time(t0.Add(59 * time.Second)), Values: []float64{1, 9}, Counts: []float64{2, 1}, Unit: types.StandardUnitCount},
		types.MetricDatum{MetricName: p("m"), Dimensions: dims, Timestamp: aws.Time(t0.Add(time.Minute)), Unit: types.StandardUnitCount,
			StatisticValues: &types.StatisticSet{SampleCount: aws.Float64(4), Sum: aws.Float64(20), Minimum: aws.Float64(1), Maximum: aws.Float64(8)}},
		types.MetricDatum{MetricName: p("m"), Timestamp: &t0, Value: aws.Float64(77)})
	stats, err := c.cw.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{Namespace: p("app"), MetricName: p("m"), Dimensions: dims, StartTime: &t0, EndTime: aws.Time(t0.Add(5 * time.Minute)),
		Period: aws.Int32(60), Statistics: []types.Statistic{"Average", "Sum", "SampleCount", "Minimum", "Maximum"}})
	if err != nil || len(stats.Datapoints) != 2 {
		t.Fatalf("statistics: %+v %v", stats, err)
	}
	for _, d := range stats.Datapoints {
		want := [5]float64{3.25, 13, 4, 1, 9}
		if d.Timestamp.Equal(t0.Add(time.Minute)) {
			want = [5]float64{5, 20, 4, 1, 8}
		}
		if got := [5]float64{*d.Average, *d.Sum, *d.SampleCount, *d.Minimum, *d.Maximum}; got != want || d.Unit != types.StandardUnitCount {
			t.Errorf("%v: %v %s, want %v", d.Timestamp, got, d.Unit, want)
		}
	}
	query := func(max *int32, token *string) *cloudwatch.GetMetricDataOutput {
		out, err := c.cw.GetMetricData(ctx, &cloudwatch.GetMetricDataInput{StartTime: &t0, EndTime: aws.Time(t0.Add(5 * time.Minute)), ScanBy: types.ScanByTimestampAscending, MaxDatapoints: max, NextToken: token,
			MetricDataQueries: []types.MetricDataQuery{
				{Id: p("a"), Label: p("${PROP('Dim.host')}"), MetricStat: &types.MetricStat{Metric: &types.Metric{Namespace: p("app"), MetricName: p("m"), Dimensions: dims}, Period: aws.Int32(60), Stat: p("Sum")}},
				{Id: p("b"), MetricStat: &types.MetricStat{Metric: &types.Metric{Namespace: p("app"), MetricName: p("m")}, Period: aws.Int32(300), Stat: p("Maximum")}},
			}})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	all := query(nil, nil)
	if r := all.MetricDataResults; len(r) != 2 || fmt.Sprint(r[0].Values) != "[13 20]" || *r[0].Label != "a" || fmt.Sprint(r[1].Values) != "[77]" || *r[1].Label != "m" || r[0].StatusCode != types.StatusCodeComplete {
		t.Errorf("data: %+v", r)
	}
	first := query(aws.Int32(1), nil)
	if r := first.MetricDataResults; len(r) != 1 || fmt.Sprint(r[0].Values) != "[13]" || r[0].StatusCode != types.StatusCodePartialData || first.NextToken == nil {
		t.Fatalf("the first page: %+v", first)
	}
	if r := query(aws.Int32(9), first.NextToken).MetricDataResults; len(r) != 2 || fmt.Sprint(r[0].Values, r[1].Values) != "[20] [77]" {
		t.Errorf("the second page: %+v", r)
	}
	list, err := c.cw.ListMetrics(ctx, &cloudwatch.ListMetricsInput{Namespace: p("app"), Dimensions: []types.DimensionFilter{{Name: p("host")}}, RecentlyActive: types.RecentlyActivePt3h})
	if err != nil || len(list.Metrics) != 1 || len(list.Metrics[0].Dimensions) != 1 {
		t.Errorf("the list: %+v %v", list, err)
	}
}

// TestManyMetrics: ListMetrics is paged, and a body that the SDK compresses is read.
func TestManyMetrics(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 1)
	var data []types.MetricDatum
	for i := range 700 {
		data = append(data, types.MetricDatum{MetricName: p(fmt.Sprintf("m%03d", i)), Value: aws.Float64(1), Dimensions: dims})
	}
	c.put(data...)
	seen := map[string]bool{}
	pages := cloudwatch.NewListMetricsPaginator(c.cw, &cloudwatch.ListMetricsInput{})
	n := 0
	for ; pages.HasMorePages() && n < 5; n++ {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Metrics {
			seen[*m.MetricName] = true
		}
	}
	if len(seen) != 700 || n != 2 {
		t.Errorf("%d metrics in %d pages", len(seen), n)
	}
}

func TestRefusedData(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 1)
	ctx := context.Background()
	v := aws.Float64(1)
	for _, tt := range []struct {
		name, ns, code, text string
		d                    types.MetricDatum
	}{
		{"AWS's namespace", "AWS/EC2", "InvalidParameterValue", "Namespace", types.MetricDatum{MetricName: p("m"), Value: v}},
		{"no value", "app", "InvalidParameterCombination", "At least one", types.MetricDatum{MetricName: p("m")}},
		{"two values", "app", "InvalidParameterCombination", "mutually exclusive", types.MetricDatum{MetricName: p("m"), Value: v, Values: []float64{1}}},
		{"NaN", "app", "InvalidParameterValue", "MetricData.member.1.Value", types.MetricDatum{MetricName: p("m"), Value: aws.Float64(math.NaN())}},
		{"too large", "app", "InvalidParameterValue", "Value", types.MetricDatum{MetricName: p("m"), Value: aws.Float64(math.MaxFloat64)}},
		{"too old", "app", "InvalidParameterValue", "two weeks", types.MetricDatum{MetricName: p("m"), Value: v, Timestamp: aws.Time(time.Now().Add(-15 * 24 * time.Hour))}},
		{"in the future", "app", "InvalidParameterValue", "Timestamp", types.MetricDatum{MetricName: p("m"), Value: v, Timestamp: aws.Time(time.Now().Add(3 * time.Hour))}},
		{"resolution", "app", "InvalidParameterValue", "StorageResolution", types.MetricDatum{MetricName: p("m"), Value: v, StorageResolution: aws.Int32(5)}},
		{"counts that don't fit", "app", "InvalidParameterValue", "same size", types.MetricDatum{MetricName: p("m"), Values: []float64{1, 2}, Counts: []float64{1}}},
		{"dimension twice", "app", "InvalidParameterValue", "twice", types.MetricDatum{MetricName: p("m"), Value: v, Dimensions: append(dims, dims...)}},
		{"colon", "app", "InvalidParameterValue", "Dimensions", types.MetricDatum{MetricName: p("m"), Value: v, Dimensions: []types.Dimension{{Name: p(":x"), Value: p("y")}}}},
	} {
		good := types.MetricDatum{MetricName: p("good"), Value: v}
		_, err := c.cw.PutMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: &tt.ns, MetricData: []types.MetricDatum{tt.d, good}})
		refused(t, tt.name, err, tt.code, tt.text)
	}
	if l, err := c.cw.ListMetrics(ctx, nil); err != nil || len(l.Metrics) != 0 {
		t.Errorf("refused requests left %+v, %v", l.Metrics, err)
	}
	stat := func(change func(in *cloudwatch.GetMetricStatisticsInput)) error {
		in := &cloudwatch.GetMetricStatisticsInput{Namespace: p("app"), MetricName: p("m"), StartTime: aws.Time(time.Now().Add(-time.Hour)), EndTime: aws.Time(time.Now()), Period: aws.Int32(60), Statistics: []types.Statistic{"Sum"}}
		change(in)
		_, err := c.cw.GetMetricStatistics(ctx, in)
		return err
	}
	refused(t, "percentiles", stat(func(in *cloudwatch.GetMetricStatisticsInput) {
		in.Statistics, in.ExtendedStatistics = nil, []string{"p90"}
	}), "InvalidParameterValue", "p90")
	refused(t, "no statistic", stat(func(in *cloudwatch.GetMetricStatisticsInput) { in.Statistics = nil }), "InvalidParameterCombination", "At least one")
	refused(t, "reversed", stat(func(in *cloudwatch.GetMetricStatisticsInput) { in.StartTime, in.EndTime = in.EndTime, in.StartTime }), "InvalidParameterCombination", "StartTime must be less")
	refused(t, "odd period", stat(func(in *cloudwatch.GetMetricStatisticsInput) { in.Period = aws.Int32(61) }), "InvalidParameterValue", "Period")
	refused(t, "too many points", stat(func(in *cloudwatch.GetMetricStatisticsInput) { in.Period = aws.Int32(1) }), "InvalidParameterCombination", "exceeds the limit of 1440")
	_, err := c.cw.GetMetricData(ctx, &cloudwatch.GetMetricDataInput{StartTime: aws.Time(time.Now().Add(-time.Hour)), EndTime: aws.Time(time.Now()), MetricDataQueries: []types.MetricDataQuery{{Id: p("e"), Expression: p("1+1")}}})
	refused(t, "expression", err, "ValidationError", "Error in expression 'e'")
}

func input(name string) *cloudwatch.PutMetricAlarmInput {
	return &cloudwatch.PutMetricAlarmInput{AlarmName: &name, Namespace: p("app"), MetricName: p("m"), Dimensions: dims, Statistic: types.StatisticAverage, Period: aws.Int32(60),
		EvaluationPeriods: aws.Int32(2), Threshold: aws.Float64(50), ComparisonOperator: types.ComparisonOperatorGreaterThanThreshold}
}

// TestAlarm follows an alarm through its states: at a time scale of 20 a period is three seconds of the data.
func TestAlarm(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 20)
	ctx := context.Background()
	const policy = "arn:aws:autoscaling:eu-west-1:000000000000:scalingPolicy:u:autoScalingGroupName/g:policyName/p"
	const topic = "arn:aws:sns:eu-west-1:000000000000:topic"
	in := input("cpu")
	in.AlarmActions, in.OKActions = []string{policy, topic}, []string{topic}
	in.Tags = []types.Tag{{Key: p("k"), Value: p("v")}}
	if _, err := c.cw.PutMetricAlarm(ctx, in); err != nil {
		t.Fatal(err)
	}
	get := func() types.MetricAlarm {
		t.Helper()
		out, err := c.cw.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{"cpu"}})
		if err != nil || len(out.MetricAlarms) != 1 {
			t.Fatalf("%+v %v", out, err)
		}
		return out.MetricAlarms[0]
	}
	a := get()
	if a.StateValue != types.StateValueInsufficientData || *a.StateReason != "Unchecked: Initial alarm creation" || *a.AlarmArn != "arn:aws:cloudwatch:eu-west-1:000000000000:alarm:cpu" || *a.DatapointsToAlarm != 2 || !*a.ActionsEnabled {
		t.Errorf("made: %+v", a)
	}
	// Real data: a low-resolution datum each 3 s, two of them beyond the threshold.
	t0 := metric.Floor(time.Now().Add(-time.Minute), 3*time.Second)
	for i, v := range []float64{10, 90, 91} {
		c.put(types.MetricDatum{MetricName: p("m"), Dimensions: dims, Value: aws.Float64(v), Timestamp: aws.Time(t0.Add(time.Duration(i) * 3 * time.Second))})
	}
	c.at(t0.Add(7 * time.Second)) // 10 and 90 are complete
	if a = get(); a.StateValue != types.StateValueOk {
		t.Errorf("one beyond: %s %s", a.StateValue, *a.StateReason)
	}
	c.at(t0.Add(10 * time.Second))
	if a = get(); a.StateValue != types.StateValueAlarm || !strings.HasPrefix(*a.StateReason, "Threshold Crossed: 2 out of the last 2 datapoints [91.0 (") || !strings.Contains(*a.StateReason, "were greater than the threshold (50.0) (minimum 2 datapoints for OK -> ALARM transition).") {
		t.Errorf("two beyond: %s %s", a.StateValue, *a.StateReason)
	}
	c.at(t0.Add(10200 * time.Millisecond)) // the same evaluation period: nothing happens twice
	c.at(t0.Add(13 * time.Second))         // the policy is invoked once more, the topic is not
	want := []string{"OK " + topic + " 90", "ALARM " + policy + " 91", "ALARM " + topic + " 91", "ALARM " + policy + " 91"}
	if fmt.Sprint(c.fired) != fmt.Sprint(want) {
		t.Errorf("actions %q, want %q", c.fired, want)
	}
	if _, err := c.cw.DisableAlarmActions(ctx, &cloudwatch.DisableAlarmActionsInput{AlarmNames: []string{"cpu"}}); err != nil {
		t.Fatal(err)
	}
	c.at(t0.Add(16 * time.Second))
	if len(c.fired) != len(want) {
		t.Errorf("disabled actions ran: %q", c.fired)
	}
	c.at(t0.Add(60 * time.Second))
	if a = get(); a.StateValue != types.StateValueInsufficientData || *a.StateReason != "Insufficient Data: 2 datapoints were unknown." {
		t.Errorf("without data: %s %s", a.StateValue, *a.StateReason)
	}
	h, err := c.cw.DescribeAlarmHistory(ctx, &cloudwatch.DescribeAlarmHistoryInput{AlarmName: p("cpu"), HistoryItemType: types.HistoryItemTypeStateUpdate, MaxRecords: aws.Int32(2)})
	if err != nil || len(h.AlarmHistoryItems) != 2 || *h.AlarmHistoryItems[0].HistorySummary != "Alarm updated from ALARM to INSUFFICIENT_DATA" || h.NextToken == nil {
		t.Errorf("history: %+v %v", h, err)
	}
	tags, err := c.cw.ListTagsForResource(ctx, &cloudwatch.ListTagsForResourceInput{ResourceARN: a.AlarmArn})
	if err != nil || len(tags.Tags) != 1 {
		t.Errorf("tags: %+v %v", tags, err)
	}
	if _, err := c.cw.SetAlarmState(ctx, &cloudwatch.SetAlarmStateInput{AlarmName: p("cpu"), StateValue: types.StateValueAlarm, StateReason: p("a test")}); err != nil {
		t.Fatal(err)
	}
	if a = get(); a.StateValue != types.StateValueAlarm || *a.StateReason != "a test" {
		t.Errorf("set by hand: %s %s", a.StateValue, *a.StateReason)
	}
}

func TestDescribeAlarms(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 1)
	ctx := context.Background()
	for _, n := range []string{"web-1", "web-2", "web-3", "db-1"} {
		if _, err := c.cw.PutMetricAlarm(ctx, input(n)); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	pages := cloudwatch.NewDescribeAlarmsPaginator(c.cw, &cloudwatch.DescribeAlarmsInput{AlarmNamePrefix: p("web-"), MaxRecords: aws.Int32(2), StateValue: types.StateValueInsufficientData})
	for n := 0; pages.HasMorePages() && n < 5; n++ {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.MetricAlarms {
			names = append(names, *a.AlarmName)
		}
	}
	if fmt.Sprint(names) != "[web-1 web-2 web-3]" {
		t.Errorf("by prefix and pages: %v", names)
	}
	of, err := c.cw.DescribeAlarmsForMetric(ctx, &cloudwatch.DescribeAlarmsForMetricInput{Namespace: p("app"), MetricName: p("m"), Dimensions: dims})
	if err != nil || len(of.MetricAlarms) != 4 {
		t.Errorf("of the metric: %+v %v", of, err)
	}
	of, err = c.cw.DescribeAlarmsForMetric(ctx, &cloudwatch.DescribeAlarmsForMetricInput{Namespace: p("app"), MetricName: p("m")})
	if err != nil || len(of.MetricAlarms) != 0 {
		t.Errorf("of the metric in no dimension: %+v %v", of, err)
	}
	_, err = c.cw.DeleteAlarms(ctx, &cloudwatch.DeleteAlarmsInput{AlarmNames: []string{"nope"}})
	refused(t, "deleting a missing alarm", err, "ResourceNotFound", "nope")
	if _, err := c.cw.DeleteAlarms(ctx, &cloudwatch.DeleteAlarmsInput{AlarmNames: []string{"db-1", "web-1"}}); err != nil {
		t.Fatal(err)
	}
	if all, err := c.cw.DescribeAlarms(ctx, nil); err != nil || len(all.MetricAlarms) != 2 {
		t.Errorf("after deleting two: %v", err)
	}
	for what, change := range map[string]func(in *cloudwatch.PutMetricAlarmInput){
		"odd period":        func(in *cloudwatch.PutMetricAlarmInput) { in.Period = aws.Int32(61) },
		"more than a day":   func(in *cloudwatch.PutMetricAlarmInput) { in.EvaluationPeriods = aws.Int32(2000) },
		"M above N":         func(in *cloudwatch.PutMetricAlarmInput) { in.DatapointsToAlarm = aws.Int32(3) },
		"no threshold":      func(in *cloudwatch.PutMetricAlarmInput) { in.Threshold = nil },
		"threshold NaN":     func(in *cloudwatch.PutMetricAlarmInput) { in.Threshold = aws.Float64(math.NaN()) },
		"anomaly detection": func(in *cloudwatch.PutMetricAlarmInput) { in.ThresholdMetricId = p("x") },
		"percentile":        func(in *cloudwatch.PutMetricAlarmInput) { in.Statistic, in.ExtendedStatistic = "", p("p99") },
		"unknown treatment": func(in *cloudwatch.PutMetricAlarmInput) { in.TreatMissingData = p("whatever") },
		"six actions": func(in *cloudwatch.PutMetricAlarmInput) {
			in.AlarmActions = strings.Split("arn:a arn:b arn:c arn:d arn:e arn:f", " ")
		},
		"metric and metrics": func(in *cloudwatch.PutMetricAlarmInput) {
			in.Metrics = []types.MetricDataQuery{{Id: p("a"), Expression: p("1")}}
		},
		"a dimension is twice": func(in *cloudwatch.PutMetricAlarmInput) { in.Dimensions = append(dims, dims...) },
	} {
		in := input("bad")
		change(in)
		if _, err := c.cw.PutMetricAlarm(ctx, in); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if a, err := c.cw.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{"bad"}}); err != nil || len(a.MetricAlarms) != 0 {
		t.Errorf("a refused alarm is there: %v", err)
	}
}

// TestScopes: metrics and alarms of a region are no other's.
func TestScopes(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 1)
	c.put(types.MetricDatum{MetricName: p("m"), Value: aws.Float64(1)})
	if got := c.metrics.List(scope.Scope{Account: gateway.RootAccount, Region: "us-east-1"}, metric.Filter{}); len(got) != 0 {
		t.Errorf("another region has %+v", got)
	}
	if got := c.metrics.List(scope.Scope{Account: gateway.RootAccount, Region: "eu-west-1"}, metric.Filter{}); len(got) != 1 {
		t.Errorf("the region has %+v", got)
	}
}
