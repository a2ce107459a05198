package live

import (
	"time"

	"skerry/internal/metric"
	"skerry/internal/scaling"
	"skerry/internal/scope"
)

// Metrics serves scaling.Metrics by the store of the package metric.
type Metrics struct{ Store *metric.Store }

var _ scaling.Metrics = Metrics{}

// Sums adds up a metric by period.
func (m Metrics) Sums(s scope.Scope, namespace, name string, dims []scaling.Dimension, start, end time.Time, period time.Duration) ([]scaling.Sum, error) {
	d := map[string]string{}
	for _, x := range dims {
		d[x.Name] = x.Value
	}
	points, err := m.Store.QueryFrom(s, namespace, name, d, start, end, period, "")
	if err != nil {
		return nil, err
	}
	var out []scaling.Sum
	for _, p := range points {
		if n := len(out); n > 0 && out[n-1].At.Equal(p.Time) { // another unit
			out[n-1].Value += p.Sum
			continue
		}
		out = append(out, scaling.Sum{At: p.Time, Value: p.Sum})
	}
	return out, nil
}
