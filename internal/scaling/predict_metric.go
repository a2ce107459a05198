package scaling

import (
	"encoding/json"
	"math"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Metrics is what forecasts need of CloudWatch.
type Metrics interface {
	// CheckHours refuses metrics and expressions (the API's JSON) that do not come to one series.
	CheckHours(queries json.RawMessage) error
	// Hours are n hourly values from start of what queries come to; one that is missing is not a number.
	Hours(s scope.Scope, queries json.RawMessage, start time.Time, hour time.Duration, n int) ([]float64, error)
}

// perHour is how often an instance's metrics are sampled in an hour, and load balancers'.
const perHour = 60

// The predefined metrics: of the load, how busy one instance is for it. Sums of an instance's samples, and requests of a minute.
var (
	loadMetrics = map[string]string{"ASGTotalCPUUtilization": "CPUUtilization", "ASGTotalNetworkIn": "NetworkIn", "ASGTotalNetworkOut": "NetworkOut",
		"ALBTargetGroupRequestCount": "RequestCount"}
	scalingMetrics = map[string]string{"ASGAverageCPUUtilization": "CPUUtilization", "ASGAverageNetworkIn": "NetworkIn", "ASGAverageNetworkOut": "NetworkOut",
		"ALBRequestCountPerTarget": "RequestCountPerTarget"}
	metricPairs = map[string]string{"ASGTotalCPUUtilization": "ASGAverageCPUUtilization", "ASGTotalNetworkIn": "ASGAverageNetworkIn", "ASGTotalNetworkOut": "ASGAverageNetworkOut",
		"ALBTargetGroupRequestCount": "ALBRequestCountPerTarget"}
)

// IsPair tells whether load and scaling metric are a predefined pair: then it is known how much load one instance carries.
func (c *Predictive) IsPair() bool {
	return len(c.LoadQueries) == 0 && len(c.ScalingQueries) == 0 && metricPairs[c.Load] == c.Scaling
}

// queries are one metric's, as the API's JSON, divided by a number.
func queries(namespace, name, stat string, dims []Dimension, by float64) json.RawMessage {
	type metricStat struct {
		Metric any
		Stat   string
		Period int
	}
	type query struct {
		Id         string
		Expression string      `json:",omitempty"`
		MetricStat *metricStat `json:",omitempty"`
		ReturnData bool
	}
	list := []query{{Id: "m", ReturnData: by == 1, MetricStat: &metricStat{struct {
		Namespace, MetricName string
		Dimensions            []Dimension
	}{namespace, name, dims}, stat, hour}}}
	if by != 1 {
		list = append(list, query{Id: "e", ReturnData: true, Expression: "m / " + decimal(by)})
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil
	}
	return b
}

func decimal(v float64) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "1"
	}
	return string(b)
}

// sources are the queries of the load's hourly sum, of the scaling metric's average, and of the capacity. Without a metric of
// its own the capacity is counted by the samples of the group's instances.
func (p Policy) sources() (load, scaling, capacity json.RawMessage) {
	c := p.Predictive
	group := []Dimension{{"AutoScalingGroupName", p.Group}}
	target := func() []Dimension {
		lb, tg, _ := splitLabel(c.ResourceLabel)
		return []Dimension{{"TargetGroup", tg}, {"LoadBalancer", lb}}
	}
	if load = c.LoadQueries; len(load) == 0 {
		name := loadMetrics[c.Load]
		if load = queries("AWS/EC2", name, "Sum", group, 1); c.Load == "ALBTargetGroupRequestCount" {
			load = queries("AWS/ApplicationELB", name, "Sum", target(), 1)
		}
	}
	if scaling = c.ScalingQueries; len(scaling) == 0 {
		name := scalingMetrics[c.Scaling]
		if scaling = queries("AWS/EC2", name, "Average", group, 1); c.Scaling == "ALBRequestCountPerTarget" {
			scaling = queries("AWS/ApplicationELB", name, "Sum", target(), perHour)
		}
	}
	if capacity = c.CapacityQueries; len(capacity) == 0 {
		capacity = queries("AWS/EC2", "CPUUtilization", "SampleCount", group, perHour)
	}
	return load, scaling, capacity
}

// Past is what was, by hours before the one that runs, the newest first; what is missing is not a number. Scaling and Capacity
// may be absent where the metrics are a predefined pair.
type Past struct{ Load, Scaling, Capacity []float64 }

// carried is the load of an hour that one instance carries at the target; false without enough of a past. The scaling metric is
// taken to grow with the load of an instance: the factor is what it was over all of the past.
func (p Policy) carried(was Past) (float64, bool) {
	c := p.Predictive
	if c.IsPair() {
		return c.Target * perHour, true
	}
	busy, load, hours := 0.0, 0.0, 0
	was.each(func(l, s, n float64) {
		busy, load, hours = busy+s*n, load+l, hours+1
	})
	if hours < forecastLeast || !(busy > 0) || !(load > 0) {
		return 0, false
	}
	return c.Target * load / busy, true
}

// each calls fn with the hours of which all is known, and in which there was load and an instance.
func (w Past) each(fn func(load, scaling, capacity float64)) {
	for i, l := range w.Load {
		if i >= len(w.Scaling) || i >= len(w.Capacity) {
			return
		}
		if s, n := w.Scaling[i], w.Capacity[i]; l > 0 && !math.IsNaN(s) && n > 0 {
			fn(l, s, n)
		}
	}
}

// correlation is Pearson's, of the scaling metric and the load of one instance; nil where it isn't known.
func (w Past) correlation() *float64 {
	var n, x, y, xx, yy, xy float64
	w.each(func(load, scaling, capacity float64) {
		a, b := load/capacity, scaling
		n, x, y, xx, yy, xy = n+1, x+a, y+b, xx+a*a, yy+b*b, xy+a*b
	})
	if n < 2 {
		return nil
	}
	r := (n*xy - x*y) / math.Sqrt((n*xx-x*x)*(n*yy-y*y))
	if math.IsNaN(r) || math.IsInf(r, 0) { // one of them never changed
		return nil
	}
	r = min(1, max(-1, r))
	return &r
}

// ForecastMeasures are the forecasts' metrics at the beginning of an hour of theirs: of the hour that begins within the time
// before now.
func (e *Engine) ForecastMeasures(tx store.Tx, now time.Time, within time.Duration) []Measure {
	step := e.scaled(hour)
	begun := now.Truncate(step)
	if now.Sub(begun) >= within {
		return nil
	}
	var out []Measure
	for f := range Forecasts.All(tx) {
		p, ok := Policies.Get(tx, f.Key(f.Group+":"+f.Policy))
		i := int(begun.Sub(f.Start) / step)
		if !ok || !p.Enabled || begun.Before(f.Start) || i >= len(f.Load) {
			continue
		}
		m := Measure{Scope: f.Scope, Group: f.Group, Policy: f.Policy, Metric: "PredictiveScalingCapacityForecast", Value: float64(f.Capacity[i])}
		out = append(out, m)
		m.Pair, m.Metric, m.Value = true, "PredictiveScalingLoadForecast", f.Load[i]
		out = append(out, m)
		if f.Correlation != nil {
			m.Metric, m.Value = "PredictiveScalingMetricPairCorrelation", *f.Correlation
			out = append(out, m)
		}
	}
	return out
}
