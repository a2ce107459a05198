package cwapi

import (
	"math"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// Percentiles are served of all that did not come as a statistic set.
func TestPercentiles(t *testing.T) {
	c := newCloud(t)
	t0 := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	var data []types.MetricDatum
	for i := range 100 {
		data = append(data, datum(t0.Add(time.Duration(i%60)*time.Second), float64(i+1)))
	}
	c.put("App", data...)
	in := statistics(t0, t0.Add(time.Hour), 3600)
	in.Statistics, in.ExtendedStatistics = nil, []string{"p50", "p99.9"}
	out, err := c.GetMetricStatistics(c.ctx, in)
	if err != nil || len(out.Datapoints) != 1 {
		t.Fatalf("%v, %+v", err, out)
	}
	if d := out.Datapoints[0].ExtendedStatistics; math.Abs(d["p50"]-50) > 1 || math.Abs(d["p99.9"]-100) > 2 {
		t.Errorf("%v", d)
	}
	got, err := c.GetMetricData(c.ctx, &sdk.GetMetricDataInput{StartTime: &t0, EndTime: aws.Time(t0.Add(time.Hour)), MetricDataQueries: []types.MetricDataQuery{query("a", "p90", 3600)}})
	if err != nil || len(got.MetricDataResults[0].Values) != 1 || math.Abs(got.MetricDataResults[0].Values[0]-90) > 2 {
		t.Errorf("%v, %+v", err, got)
	}
	for stat, want := range map[string]float64{"tm90": 45.5, "TM(10%:90%)": 50.5, "TM(20:40)": 30, "wm90": 50, "tc25": 25, "ts50": 1275, "PR(:25)": 25, "IQM": 50.5, "TS(90.5:)": 955} {
		got, err := c.GetMetricData(c.ctx, &sdk.GetMetricDataInput{StartTime: &t0, EndTime: aws.Time(t0.Add(time.Hour)), MetricDataQueries: []types.MetricDataQuery{query("a", stat, 3600)}})
		if err != nil || len(got.MetricDataResults[0].Values) != 1 || math.Abs(got.MetricDataResults[0].Values[0]-want) > want/25+1 {
			t.Errorf("%s: %v, %+v, not %v", stat, err, got.MetricDataResults, want)
		}
	}
	sum := datum(t0.Add(90*time.Minute), 0)
	sum.Value, sum.StatisticValues = nil, &types.StatisticSet{SampleCount: aws.Float64(2), Sum: aws.Float64(4), Minimum: aws.Float64(1), Maximum: aws.Float64(3)}
	c.put("App", sum)
	in.StartTime, in.EndTime = aws.Time(t0.Add(time.Hour)), aws.Time(t0.Add(2*time.Hour))
	if out, err := c.GetMetricStatistics(c.ctx, in); err != nil || len(out.Datapoints) != 0 {
		t.Errorf("of a statistic set: %v, %+v", err, out)
	}
	alarm := alarmNamed("slow")
	alarm.Statistic, alarm.ExtendedStatistic = "", aws.String("p90")
	c.alarm(alarm)
	as, err := c.DescribeAlarms(c.ctx, &sdk.DescribeAlarmsInput{AlarmNames: []string{"slow"}})
	if err != nil || aws.ToString(as.MetricAlarms[0].ExtendedStatistic) != "p90" {
		t.Errorf("%v, %+v", err, as)
	}
}
