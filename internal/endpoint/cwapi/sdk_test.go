package cwapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"

	"skerry/api"
	"skerry/api/cloudwatch"
	"skerry/internal/awsclient"
	"skerry/internal/gateway"
	"skerry/internal/metric"
	"skerry/internal/store"
)

const region = "eu-west-1"

// cloud is CloudWatch behind the gateway, with the SDK's client for it.
type cloud struct {
	*Server
	*sdk.Client
	t   *testing.T
	ctx context.Context
	url string

	mu    sync.Mutex
	acted []string // actions of alarms
	seen  []string // protocols of requests
}

func (c *cloud) add(l *[]string, s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*l = append(*l, s)
}

// take returns what was added since it was called last.
func (c *cloud) take(l *[]string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := *l
	*l = nil
	return got
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	t.Parallel()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	ms, err := metric.Open("", metric.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ms.Close() })
	c := &cloud{t: t, ctx: context.Background()}
	c.Server = &Server{DB: db, Metrics: ms, Evaluator: &metric.Evaluator{DB: db, Store: ms, OnAction: func(_ *store.WriteTx, a metric.Alarm, old string, _ metric.Verdict, arn string) error {
		c.add(&c.acted, old+">"+a.State+" "+arn)
		return nil
	}}}
	m := api.NewMux(&cloudwatch.Service)
	c.Register(m)
	h := gateway.New(gateway.Options{Mux: m, DB: db, Credentials: gateway.WellKnown})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.add(&c.seen, cmp.Or(r.Header.Get("Smithy-Protocol"), r.Header.Get("Content-Type")))
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	c.url = srv.URL
	c.Client = c.client("skerry", "skerry")
	return c
}

func (c *cloud) client(key, secret string) *sdk.Client {
	return sdk.NewFromConfig(awsclient.Config(c.url, region, key, secret, ""))
}

// refused checks an error's code, HTTP status and a part of its message.
func refused(t *testing.T, err error, code string, status int, text string) {
	t.Helper()
	var ae smithy.APIError
	var re *awshttp.ResponseError
	if !errors.As(err, &ae) || !errors.As(err, &re) {
		t.Errorf("got %v, want %s", err, code)
	} else if ae.ErrorCode() != code || re.HTTPStatusCode() != status || !strings.Contains(ae.ErrorMessage(), text) {
		t.Errorf("got %s %d %q, want %s %d %q", ae.ErrorCode(), re.HTTPStatusCode(), ae.ErrorMessage(), code, status, text)
	}
}

func (c *cloud) put(ns string, data ...types.MetricDatum) {
	c.t.Helper()
	if _, err := c.PutMetricData(c.ctx, &sdk.PutMetricDataInput{Namespace: &ns, MetricData: data}); err != nil {
		c.t.Fatal(err)
	}
}

func datum(at time.Time, v float64) types.MetricDatum {
	return types.MetricDatum{MetricName: aws.String("Load"), Dimensions: dims("Host", "a"), Timestamp: &at, Value: &v, Unit: types.StandardUnitPercent}
}

func dims(pairs ...string) (out []types.Dimension) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, types.Dimension{Name: &pairs[i], Value: &pairs[i+1]})
	}
	return out
}

func statistics(start, end time.Time, period int32) *sdk.GetMetricStatisticsInput {
	return &sdk.GetMetricStatisticsInput{Namespace: aws.String("App"), MetricName: aws.String("Load"), Dimensions: dims("Host", "a"), StartTime: &start, EndTime: &end, Period: &period,
		Statistics: []types.Statistic{"Average", "Sum", "Minimum", "Maximum", "SampleCount"}}
}

func TestStatistics(t *testing.T) {
	c := newCloud(t)
	t0 := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	c.put("App", datum(t0, 1), datum(t0.Add(59*time.Second), 3), datum(t0.Add(90*time.Second), 8))
	if seen := c.take(&c.seen); !slices.Equal(seen, []string{"rpc-v2-cbor"}) {
		t.Fatalf("the SDK spoke %q", seen)
	}
	c.put("App", types.MetricDatum{MetricName: aws.String("Load"), Dimensions: dims("Host", "a"), Timestamp: aws.Time(t0.Add(119 * time.Second)), Unit: "Percent", Values: []float64{2, 6}, Counts: []float64{3, 1}},
		types.MetricDatum{MetricName: aws.String("Load"), Dimensions: dims("Host", "a"), Timestamp: aws.Time(t0.Add(150 * time.Second)), Unit: "Percent",
			StatisticValues: &types.StatisticSet{SampleCount: aws.Float64(4), Sum: aws.Float64(20), Minimum: aws.Float64(2), Maximum: aws.Float64(9)}},
		types.MetricDatum{MetricName: aws.String("Load"), Dimensions: dims("Host", "b"), Timestamp: aws.Time(t0), Value: aws.Float64(1e6)})
	for _, tt := range []struct {
		name       string
		start, end time.Duration
		period     int32
		want       string // minute of the datapoint: average sum minimum maximum count
	}{
		{"minutes", 0, 3 * time.Minute, 60, "0: 2 4 1 3 2; 1: 4 20 2 8 5; 2: 5 20 2 9 4"},
		{"the end is exclusive", 0, time.Minute, 60, "0: 2 4 1 3 2"},
		{"the start is rounded down to its minute", 80 * time.Second, 2 * time.Minute, 60, "1: 4 20 2 8 5"},
		{"periods count from the start", -58 * time.Minute, 3 * time.Minute, 3600, "-58: 3.4285714285714284 24 1 8 7; 2: 5 20 2 9 4"},
		{"one long period", 0, time.Hour, 3600, "0: 4 44 1 9 11"},
		{"nothing there", time.Hour, 90 * time.Minute, 60, ""},
	} {
		out, err := c.GetMetricStatistics(c.ctx, statistics(t0.Add(tt.start), t0.Add(tt.end), tt.period))
		if err != nil {
			t.Fatal(tt.name, err)
		}
		slices.SortFunc(out.Datapoints, func(a, b types.Datapoint) int { return a.Timestamp.Compare(*b.Timestamp) })
		var got []string
		for _, p := range out.Datapoints {
			got = append(got, fmt.Sprintf("%v: %v %v %v %v %v", p.Timestamp.Sub(t0).Minutes(), *p.Average, *p.Sum, *p.Minimum, *p.Maximum, *p.SampleCount))
			if p.Unit != types.StandardUnitPercent {
				t.Errorf("%s: unit %s", tt.name, p.Unit)
			}
		}
		if s := strings.Join(got, "; "); s != tt.want || *out.Label != "Load" {
			t.Errorf("%s: %s of %s, want %s", tt.name, s, *out.Label, tt.want)
		}
	}
	in := statistics(t0, t0.Add(time.Hour), 60)
	in.Unit = types.StandardUnitBytes
	if out, err := c.GetMetricStatistics(c.ctx, in); err != nil || len(out.Datapoints) != 0 {
		t.Errorf("another unit: %v %v", out, err)
	}
	in = statistics(t0, t0.Add(time.Hour), 3600)
	in.Statistics = []types.Statistic{"Maximum"}
	if out, err := c.GetMetricStatistics(c.ctx, in); err != nil || *out.Datapoints[0].Maximum != 9 || out.Datapoints[0].Average != nil {
		t.Errorf("one statistic: %+v %v", out, err)
	}
	// times that no Duration spans
	for _, in := range []*sdk.GetMetricStatisticsInput{statistics(time.Unix(-1e10, 0), time.Unix(1e11, 0), 2147483640), statistics(time.Unix(0, 0), time.Now(), 2147483640)} {
		if out, err := c.GetMetricStatistics(c.ctx, in); err != nil || len(out.Datapoints) != 1 || *out.Datapoints[0].SampleCount != 11 {
			t.Errorf("a long time: %+v %v", out, err)
		}
	}
}

func TestHighResolution(t *testing.T) {
	c := newCloud(t)
	t0 := time.Now().UTC().Truncate(time.Minute).Add(-10 * time.Minute)
	var data []types.MetricDatum
	for i := range 60 {
		d := datum(t0.Add(time.Duration(i)*time.Second), float64(i))
		d.StorageResolution = aws.Int32(1)
		data = append(data, d)
	}
	c.put("App", data...)
	for _, p := range []int32{1, 5, 10, 20, 30, 60} {
		out, err := c.GetMetricStatistics(c.ctx, statistics(t0, t0.Add(time.Minute), p))
		if err != nil || len(out.Datapoints) != 60/int(p) {
			t.Errorf("period %d: %d datapoints, %v", p, len(out.Datapoints), err)
		}
	}
}

func TestRefusedQueries(t *testing.T) {
	c := newCloud(t)
	now := time.Now()
	for _, tt := range []struct {
		change     func(*sdk.GetMetricStatisticsInput)
		code, text string
	}{
		{func(in *sdk.GetMetricStatisticsInput) { in.Period = aws.Int32(90) }, "InvalidParameterValue", "Period"},
		{func(in *sdk.GetMetricStatisticsInput) { in.Period = aws.Int32(7) }, "InvalidParameterValue", "Period"},
		{func(in *sdk.GetMetricStatisticsInput) { in.StartTime = in.EndTime }, "InvalidParameterCombination", "StartTime must be less than the parameter EndTime"},
		{func(in *sdk.GetMetricStatisticsInput) { in.StartTime = aws.Time(now.Add(-1441 * time.Minute)) }, "InvalidParameterCombination", "exceeds the limit of 1440"},
		{func(in *sdk.GetMetricStatisticsInput) { in.StartTime = aws.Time(time.Unix(-6e10, 0)) }, "InvalidParameterCombination", "exceeds the limit of 1440"},
		{func(in *sdk.GetMetricStatisticsInput) { in.Statistics = nil }, "InvalidParameterCombination", "Statistics"},
		{func(in *sdk.GetMetricStatisticsInput) { in.Statistics, in.ExtendedStatistics = nil, []string{"tm101"} }, "InvalidParameterValue", "tm101 for parameter ExtendedStatistics"},
	} {
		in := statistics(now.Add(-time.Hour), now, 60)
		tt.change(in)
		_, err := c.GetMetricStatistics(c.ctx, in)
		refused(t, err, tt.code, 400, tt.text)
	}
	edge := now.Truncate(time.Minute)
	if _, err := c.GetMetricStatistics(c.ctx, statistics(edge.Add(-1440*time.Minute), edge, 60)); err != nil {
		t.Errorf("1440 datapoints: %v", err)
	}
}

func TestRefusedData(t *testing.T) {
	c := newCloud(t)
	now := time.Now()
	one := func(f func(*types.MetricDatum)) []types.MetricDatum {
		d := datum(now, 2)
		f(&d)
		return []types.MetricDatum{datum(now, 1), d}
	}
	many := make([]types.MetricDatum, 1001)
	for i := range many {
		many[i] = datum(now, 1)
	}
	for _, tt := range []struct {
		ns, code, text string
		data           []types.MetricDatum
	}{
		{"AWS/EC2", "InvalidParameterValue", "The value AWS/EC2 for parameter Namespace is invalid.", []types.MetricDatum{datum(now, 1)}},
		{"App", "InvalidParameterValue", "Timestamp", one(func(d *types.MetricDatum) { d.Timestamp = aws.Time(now.Add(-15 * 24 * time.Hour)) })},
		{"App", "InvalidParameterValue", "Timestamp", one(func(d *types.MetricDatum) { d.Timestamp = aws.Time(now.Add(3 * time.Hour)) })},
		{"App", "InvalidParameterValue", "MetricData.member.2.Value", one(func(d *types.MetricDatum) { d.Value = aws.Float64(math.NaN()) })},
		{"App", "InvalidParameterValue", "MetricData.member.2.Value", one(func(d *types.MetricDatum) { d.Value = aws.Float64(math.Inf(1)) })},
		{"App", "InvalidParameterValue", "MetricData.member.2.Value", one(func(d *types.MetricDatum) { d.Value = aws.Float64(math.MaxFloat64) })},
		{"App", "InvalidParameterValue", "twice", one(func(d *types.MetricDatum) { d.Dimensions = dims("a", "1", "a", "2") })},
		{"App", "InvalidParameterValue", "MetricData.member.2.Dimensions", one(func(d *types.MetricDatum) { d.Dimensions = dims(":a", "1") })},
		{"App", "InvalidParameterCombination", "", one(func(d *types.MetricDatum) { d.Values = []float64{1} })},
		{"App", "InvalidParameterCombination", "", one(func(d *types.MetricDatum) { d.Value = nil })},
		{"App", "InvalidParameterValue", "MetricData.member.2.Values and MetricData.member.2.Counts", one(func(d *types.MetricDatum) { d.Value, d.Values, d.Counts = nil, []float64{1}, []float64{1, 2} })},
		{"App", "InvalidParameterValue", "StorageResolution", one(func(d *types.MetricDatum) { d.StorageResolution = aws.Int32(30) })},
		{"App", "InvalidParameterValue", "1000", many},
	} {
		_, err := c.PutMetricData(c.ctx, &sdk.PutMetricDataInput{Namespace: &tt.ns, MetricData: tt.data})
		refused(t, err, tt.code, 400, tt.text)
	}
	if out, err := c.ListMetrics(c.ctx, &sdk.ListMetricsInput{}); err != nil || len(out.Metrics) != 0 {
		t.Errorf("a refused request left %v %v", out, err)
	}
}

func query(id, stat string, period int32) types.MetricDataQuery {
	return types.MetricDataQuery{Id: &id, MetricStat: &types.MetricStat{Stat: &stat, Period: &period, Metric: &types.Metric{Namespace: aws.String("App"), MetricName: aws.String("Load"), Dimensions: dims("Host", "a")}}}
}

func TestGetMetricData(t *testing.T) {
	c := newCloud(t)
	t0 := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	var data []types.MetricDatum
	for i := range 10 {
		data = append(data, datum(t0.Add(time.Duration(i)*time.Minute), float64(i)))
	}
	c.put("App", data...)
	hidden := query("c", "Sum", 60)
	hidden.ReturnData = aws.Bool(false)
	named := query("d", "Sum", 300)
	named.Label = aws.String("${PROP('Dim.Host')} of ${PROP('Stat')}")
	in := &sdk.GetMetricDataInput{StartTime: aws.Time(t0.Add(time.Minute)), EndTime: aws.Time(t0.Add(time.Hour)), MetricDataQueries: []types.MetricDataQuery{query("a", "Average", 60), query("b", "SampleCount", 3600), hidden, named}}
	out, err := c.GetMetricData(c.ctx, in)
	if err != nil || len(out.MetricDataResults) != 3 {
		t.Fatalf("%+v %v", out, err)
	}
	text := func(rs []types.MetricDataResult) (s string) {
		for _, r := range rs {
			s += fmt.Sprintf("%s %s %s:", *r.Id, *r.Label, r.StatusCode)
			for i, v := range r.Values {
				s += fmt.Sprintf(" %v=%v", r.Timestamps[i].Sub(t0).Minutes(), v)
			}
			s += "; "
		}
		return s
	}
	if got, want := text(out.MetricDataResults), "a Load Complete: 9=9 8=8 7=7 6=6 5=5 4=4 3=3 2=2 1=1; b Load Complete: 0=10; d a of Sum Complete: 5=35 0=10; "; got != want {
		t.Errorf("newest first, and periods of the clock: %s, want %s", got, want)
	}
	in.ScanBy, in.MaxDatapoints = types.ScanByTimestampAscending, aws.Int32(4)
	var pages []string
	for p := sdk.NewGetMetricDataPaginator(c, in); p.HasMorePages(); {
		out, err := p.NextPage(c.ctx)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, text(out.MetricDataResults))
	}
	want := []string{"a Load PartialData: 1=1 2=2 3=3 4=4; ", "a Load PartialData: 5=5 6=6 7=7 8=8; ", "a Load Complete: 9=9; b Load Complete: 0=10; d a of Sum Complete: 0=10 5=35; "}
	if !slices.Equal(pages, want) {
		t.Errorf("pages %q, want %q", pages, want)
	}
	in.MaxDatapoints = nil
	for _, tt := range []struct {
		code, text string
		change     func(*types.MetricDataQuery)
	}{
		{"ValidationError", "Error in expression 'a': the function ANOMALY", func(q *types.MetricDataQuery) {
			q.MetricStat, q.Expression = nil, aws.String("ANOMALY_DETECTION_BAND(b)")
		}},
		{"ValidationError", "not a number", func(q *types.MetricDataQuery) { q.MetricStat, q.Expression = nil, aws.String("SUM(b)") }},
		{"ValidationError", "no metric with id 'z'", func(q *types.MetricDataQuery) { q.MetricStat, q.Expression = nil, aws.String("z+b") }},
		{"ValidationError", "a Period must be given", func(q *types.MetricDataQuery) { q.MetricStat, q.Expression = nil, aws.String("TIME_SERIES(4)") }},
		{"ValidationError", "TM(5) for parameter", func(q *types.MetricDataQuery) { q.MetricStat.Stat = aws.String("TM(5)") }},
		{"ValidationError", "Mode", func(q *types.MetricDataQuery) { q.MetricStat.Stat = aws.String("Mode") }},
		{"ValidationError", "pattern", func(q *types.MetricDataQuery) { q.Id = aws.String("A") }},
		{"ValidationError", "not unique", func(q *types.MetricDataQuery) { q.Id = aws.String("b") }},
		{"InvalidParameterCombination", "MetricStat", func(q *types.MetricDataQuery) { q.MetricStat = nil }},
		{"InvalidParameterValue", "${LAST}", func(q *types.MetricDataQuery) { q.Label = aws.String("now ${LAST}") }},
	} {
		in.MetricDataQueries[0] = query("a", "Average", 60)
		tt.change(&in.MetricDataQueries[0])
		_, err := c.GetMetricData(c.ctx, in)
		refused(t, err, tt.code, 400, tt.text)
	}
	in.MetricDataQueries[0], in.NextToken = query("a", "Average", 60), aws.String("nonsense")
	_, err = c.GetMetricData(c.ctx, in)
	refused(t, err, "InvalidNextToken", 400, "NextToken")
}

// TestMetricMath: expressions over the queries of a request, for one result or several, page by page.
func TestMetricMath(t *testing.T) {
	c := newCloud(t)
	t0 := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	for i := range 5 {
		at := t0.Add(time.Duration(i) * time.Minute)
		errors := datum(at, float64(i))
		errors.MetricName = aws.String("Errors")
		if i == 3 { // a minute without load
			c.put("App", errors)
			continue
		}
		c.put("App", errors, datum(at, 10))
	}
	errors := query("errors", "Sum", 60)
	errors.MetricStat.Metric.MetricName = aws.String("Errors")
	errors.ReturnData = aws.Bool(false)
	load := query("load", "Sum", 60)
	load.ReturnData = aws.Bool(false)
	expr := func(id, text string) types.MetricDataQuery {
		return types.MetricDataQuery{Id: &id, Expression: &text}
	}
	named := expr("filled", "FILL(METRICS(), 0)")
	named.Label = aws.String("with 0:")
	coarse := expr("coarse", "errors * 2")
	coarse.Period = aws.Int32(300)
	in := &sdk.GetMetricDataInput{StartTime: &t0, EndTime: aws.Time(t0.Add(5 * time.Minute)), ScanBy: types.ScanByTimestampAscending,
		MetricDataQueries: []types.MetricDataQuery{expr("rate", "100*errors/load"), errors, load, named, expr("top", "IF(rate > 15, 1, 0)"), coarse}}
	text := func(rs []types.MetricDataResult) (s string) {
		for _, r := range rs {
			s += fmt.Sprintf("%s/%s %s:", *r.Id, *r.Label, r.StatusCode)
			for i, v := range r.Values {
				s += fmt.Sprintf(" %v=%v", r.Timestamps[i].Sub(t0).Minutes(), v)
			}
			s += "; "
		}
		return s
	}
	out, err := c.GetMetricData(c.ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	want := "rate/rate Complete: 0=0 1=10 2=20 4=40; filled/with 0: Errors Complete: 0=0 1=1 2=2 3=3 4=4; filled/with 0: Load Complete: 0=10 1=10 2=10 3=0 4=10; top/top Complete: 0=0 1=0 2=1 4=1; coarse/coarse Complete: 0=20; "
	if got := text(out.MetricDataResults); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	in.MaxDatapoints = aws.Int32(6)
	pages := ""
	for p := sdk.NewGetMetricDataPaginator(c, in); p.HasMorePages(); {
		out, err := p.NextPage(c.ctx)
		if err != nil {
			t.Fatal(err)
		}
		pages += text(out.MetricDataResults) + "| "
	}
	if want := "rate/rate Complete: 0=0 1=10 2=20 4=40; filled/with 0: Errors PartialData: 0=0 1=1; | filled/with 0: Errors Complete: 2=2 3=3 4=4; filled/with 0: Load PartialData: 0=10 1=10 2=10; | filled/with 0: Load Complete: 3=0 4=10; top/top Complete: 0=0 1=0 2=1 4=1; coarse/coarse PartialData:; | coarse/coarse Complete: 0=20; | "; pages != want {
		t.Errorf("pages %s\nwant  %s", pages, want)
	}
	in.ScanBy, in.MaxDatapoints, in.MetricDataQueries = "", nil, []types.MetricDataQuery{expr("r", "RATE(errors)*60"), errors}
	if out, err = c.GetMetricData(c.ctx, in); err != nil || text(out.MetricDataResults) != "r/r Complete: 4=1 3=1 2=1 1=1; " {
		t.Errorf("newest first: %s %v", text(out.MetricDataResults), err)
	}
}

func TestListMetrics(t *testing.T) {
	c := newCloud(t)
	var data []types.MetricDatum
	for i := range 620 {
		data = append(data, types.MetricDatum{MetricName: aws.String(fmt.Sprintf("m%03d", i)), Dimensions: dims("Host", "a", "Kind", "x"), Value: aws.Float64(1)})
	}
	c.put("App", data...)
	c.put("Other", datum(time.Now().Add(-4*time.Hour), 1), datum(time.Now().Add(-4*time.Hour), 2))
	count := func(in *sdk.ListMetricsInput) (pages, metrics int) {
		t.Helper()
		seen := map[string]bool{}
		for p := sdk.NewListMetricsPaginator(c, in); p.HasMorePages(); pages++ {
			out, err := p.NextPage(c.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range out.Metrics {
				seen[*m.Namespace+"/"+*m.MetricName+"/"+*m.Dimensions[0].Value] = true
				metrics++
			}
		}
		if metrics != len(seen) {
			t.Errorf("%d metrics, %d of them different", metrics, len(seen))
		}
		return pages, metrics
	}
	for _, tt := range []struct {
		in             sdk.ListMetricsInput
		pages, metrics int
	}{
		{sdk.ListMetricsInput{}, 2, 621},
		{sdk.ListMetricsInput{RecentlyActive: types.RecentlyActivePt3h}, 2, 620},
		{sdk.ListMetricsInput{Namespace: aws.String("Other")}, 1, 1},
		{sdk.ListMetricsInput{MetricName: aws.String("m007")}, 1, 1},
		{sdk.ListMetricsInput{Dimensions: []types.DimensionFilter{{Name: aws.String("Kind")}}}, 2, 620},
		{sdk.ListMetricsInput{Dimensions: []types.DimensionFilter{{Name: aws.String("Host"), Value: aws.String("b")}}}, 1, 0},
	} {
		if pages, metrics := count(&tt.in); pages != tt.pages || metrics != tt.metrics {
			t.Errorf("%+v: %d metrics on %d pages, want %d on %d", tt.in, metrics, pages, tt.metrics, tt.pages)
		}
	}
	if out, err := c.client("123456789012", "test").ListMetrics(c.ctx, &sdk.ListMetricsInput{}); err != nil || len(out.Metrics) != 0 {
		t.Errorf("another account sees %v %v", out, err)
	}
	_, err := c.ListMetrics(c.ctx, &sdk.ListMetricsInput{NextToken: aws.String("!")})
	refused(t, err, "InvalidNextToken", 400, "NextToken")
}

// TestCompressed: the SDK compresses large requests.
func TestCompressed(t *testing.T) {
	c := newCloud(t)
	var data []types.MetricDatum
	for i := range 900 {
		data = append(data, types.MetricDatum{MetricName: aws.String("Load"), Dimensions: dims("Host", "a"), Value: aws.Float64(float64(i))})
	}
	c.put("App", data...)
	out, err := c.GetMetricStatistics(c.ctx, statistics(time.Now().Add(-time.Hour), time.Now().Add(time.Minute), 86400))
	if err != nil || len(out.Datapoints) != 1 || *out.Datapoints[0].SampleCount != 900 || *out.Datapoints[0].Maximum != 899 {
		t.Errorf("%+v %v", out, err)
	}
}

// TestNotServed: what has no handler is refused by its name.
func TestNotServed(t *testing.T) {
	c := newCloud(t)
	_, err := c.PutDashboard(c.ctx, &sdk.PutDashboardInput{DashboardName: aws.String("x"), DashboardBody: aws.String("{}")})
	refused(t, err, "UnknownOperationException", 400, "PutDashboard")
	req, err := http.NewRequest("POST", c.url, bytes.NewBufferString("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 400 {
		t.Errorf("an unsigned request: %d", resp.StatusCode)
	}
}
