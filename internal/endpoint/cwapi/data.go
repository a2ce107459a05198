package cwapi

import (
	"slices"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/cloudwatch"
	"skerry/internal/fault"
	"skerry/internal/metric"
)

// maxData is how many data one PutMetricData may have.
const maxData = 1000

func (s *Server) putMetricData(c *api.Call, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
	ns := api.Val(in.Namespace)
	if strings.HasPrefix(ns, "AWS/") {
		return nil, invalid("The value %s for parameter Namespace is invalid.", ns)
	}
	if api.Val(in.StrictEntityValidation) {
		return nil, unserved("The parameter StrictEntityValidation")
	}
	data := in.MetricData
	for _, e := range in.EntityMetricData { // entities only relate metrics to resources; their data are as any
		data = append(data[:len(data):len(data)], e.MetricData...)
	}
	if len(data) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The parameter MetricData is required.")
	}
	if len(data) > maxData {
		return nil, invalid("The collection MetricData must not have a size greater than %d.", maxData)
	}
	out := make([]metric.Datum, len(data))
	for i, d := range data {
		var err error
		if out[i], err = s.datum(ns, d); err != nil {
			return nil, metric.Numbered(err, i)
		}
	}
	if err := s.Metrics.Put(c.Scope(), out); err != nil {
		return nil, err
	}
	return &cloudwatch.PutMetricDataOutput{}, nil
}

func (s *Server) datum(ns string, d cloudwatch.MetricDatum) (metric.Datum, error) {
	out := metric.Datum{Namespace: ns, Name: api.Val(d.MetricName), Unit: api.Val(d.Unit), Value: api.Val(d.Value), Values: d.Values, Counts: d.Counts}
	given := 0
	for _, is := range []bool{d.Value != nil, len(d.Values) > 0, d.StatisticValues != nil} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return out, fault.New(fault.Invalid, "InvalidParameterCombination", "At least one of the parameters must be specified.")
	case given > 1:
		return out, combination("The parameters MetricData.member.N.Value and MetricData.member.N.Values and MetricData.member.N.StatisticValues are mutually exclusive and you have specified more than one.")
	case len(d.Counts) > 0 && len(d.Values) == 0:
		return out, combination("The parameter MetricData.member.N.Counts needs MetricData.member.N.Values.")
	}
	if v := d.StatisticValues; v != nil {
		if v.SampleCount == nil || v.Sum == nil || v.Minimum == nil || v.Maximum == nil {
			return out, fault.New(fault.Invalid, "MissingParameter", "The parameter MetricData.member.N.StatisticValues needs SampleCount, Sum, Minimum and Maximum.")
		}
		out.Stats = &metric.StatisticSet{SampleCount: *v.SampleCount, Sum: *v.Sum, Minimum: *v.Minimum, Maximum: *v.Maximum}
	}
	switch r := api.Val(d.StorageResolution); r {
	case 0, 60:
		out.HighResolution = s.TimeScale > 1
	case 1:
		out.HighResolution = true
	default:
		return out, invalid("The value %d for parameter MetricData.member.N.StorageResolution is invalid. It must be 1 or 60.", r)
	}
	if d.Timestamp != nil {
		out.Timestamp = *d.Timestamp
	}
	var err error
	out.Dimensions, err = dimensions(d.Dimensions)
	return out, err
}

// Bounds of queries.
const (
	maxStatistics = 5
	maxDatapoints = 1440
	maxQueries    = 500
)

// kept is how long data are kept: what a query asks for before that is not there.
const kept = 456 * 24 * time.Hour

// window is the time that a query asks about, and its period. Times are whole seconds.
type window struct {
	start, end time.Time
	period     time.Duration
}

// count is how many whole periods the window has. The times may be further apart than a Duration holds.
func (w window) count() int64 {
	p := int64(w.period / time.Second)
	return (w.end.Unix() - w.start.Unix()) / p
}

// asked checks a query's times and period, and rounds the start down as CloudWatch does: the older, the coarser.
func asked(now time.Time, start, end *time.Time, period int) (window, error) {
	switch {
	case start == nil:
		return window{}, fault.New(fault.Invalid, "MissingParameter", "The parameter StartTime is required.")
	case end == nil:
		return window{}, fault.New(fault.Invalid, "MissingParameter", "The parameter EndTime is required.")
	case !start.Before(*end):
		return window{}, combination("The parameter StartTime must be less than the parameter EndTime.")
	case period != 1 && period != 5 && period != 10 && period != 20 && period != 30 && (period <= 0 || period%60 != 0):
		return window{}, invalid("The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
	}
	step := time.Minute
	switch age := now.Sub(*start); {
	case age > 63*24*time.Hour:
		step = time.Hour
	case age > 15*24*time.Hour:
		step = 5 * time.Minute
	case period < 60:
		step = time.Duration(period) * time.Second
	}
	return window{start.Truncate(step), *end, time.Duration(period) * time.Second}, nil
}

// clip leaves out what can hold no data, in whole periods, so that the times that remain are near enough to count with.
func (w window) clip(now time.Time) window {
	p := int64(w.period / time.Second)
	if early := now.Add(-kept).Unix() - w.start.Unix(); early > p {
		w.start = time.Unix(w.start.Unix()+early/p*p, 0)
	}
	if late := now.Add(24 * time.Hour); w.end.After(late) {
		w.end = late
	}
	return w
}

func (s *Server) getMetricStatistics(c *api.Call, in *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
	win, err := asked(c.Now, in.StartTime, in.EndTime, int(api.Val(in.Period)))
	if err != nil {
		return nil, err
	}
	switch {
	case len(in.Statistics) == 0 && len(in.ExtendedStatistics) == 0:
		return nil, fault.New(fault.Invalid, "InvalidParameterCombination", "At least one of the parameters Statistics and ExtendedStatistics must be specified.")
	case len(in.Statistics) > maxStatistics:
		return nil, invalid("The collection Statistics must not have a size greater than %d.", maxStatistics)
	}
	for _, st := range in.ExtendedStatistics {
		if !metric.IsExtended(st) {
			return nil, invalid("The value %s for parameter ExtendedStatistics is invalid.", st)
		}
	}
	for _, st := range in.Statistics {
		if !slices.Contains(metric.Statistics, st) {
			return nil, invalid("The value %s for parameter Statistics is invalid.", st)
		}
	}
	if u := api.Val(in.Unit); u != "" && !metric.Units[u] {
		return nil, invalid("The value %s for parameter Unit is invalid.", u)
	}
	if n := win.count(); n > maxDatapoints {
		return nil, combination("You have requested up to %d datapoints, which exceeds the limit of %d. You may reduce the datapoints requested by increasing Period, or decreasing the time range.", n, maxDatapoints)
	}
	dims, err := dimensions(in.Dimensions)
	if err != nil {
		return nil, err
	}
	win = win.clip(c.Now)
	var points []metric.Point
	if len(in.ExtendedStatistics) > 0 {
		points, err = s.Metrics.QueryDistribution(c.Scope(), api.Val(in.Namespace), api.Val(in.MetricName), dims, win.start, win.end, win.period, api.Val(in.Unit), true)
	} else {
		points, err = s.Metrics.QueryFrom(c.Scope(), api.Val(in.Namespace), api.Val(in.MetricName), dims, win.start, win.end, win.period, api.Val(in.Unit))
	}
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []cloudwatch.Datapoint{}}
	for _, p := range points {
		d := cloudwatch.Datapoint{Timestamp: api.Ptr(p.Time), Unit: api.Ptr(p.Unit)}
		for _, st := range in.Statistics {
			v, _ := p.Stat(st)
			switch st {
			case "Average":
				d.Average = &v
			case "Sum":
				d.Sum = &v
			case "Minimum":
				d.Minimum = &v
			case "Maximum":
				d.Maximum = &v
			case "SampleCount":
				d.SampleCount = &v
			}
		}
		for _, st := range in.ExtendedStatistics {
			if v, ok := p.Stat(st); ok {
				if d.ExtendedStatistics == nil {
					d.ExtendedStatistics = map[string]float64{}
				}
				d.ExtendedStatistics[st] = v
			}
		}
		if len(in.Statistics) == 0 && d.ExtendedStatistics == nil {
			continue // nothing is known of it
		}
		out.Datapoints = append(out.Datapoints, d)
	}
	return out, nil
}
