package live

import (
	"encoding/json"
	"time"

	"skerry/internal/fault"
	"skerry/internal/metric"
	"skerry/internal/scaling"
	"skerry/internal/scope"
)

// Metrics serves scaling.Metrics by the store of the package metric.
type Metrics struct{ Store *metric.Store }

var _ scaling.Metrics = Metrics{}

// read understands queries, of which one returns data.
func read(queries json.RawMessage) (*metric.Math, string, error) {
	m, returned, err := metric.ReadMath(queries, true)
	if err == nil && len(returned) != 1 {
		err = fault.New(fault.Invalid, "ValidationError", "Exactly one of the metrics must return data.")
	}
	if err != nil {
		return nil, "", err
	}
	return m, returned[0], nil
}

// CheckHours refuses queries that do not come to one series.
func (x Metrics) CheckHours(queries json.RawMessage) error {
	_, err := x.Hours(scope.Scope{}, queries, time.Unix(0, 0), time.Hour, 1)
	return err
}

// Hours are hourly values of what queries come to.
func (x Metrics) Hours(s scope.Scope, queries json.RawMessage, start time.Time, hour time.Duration, n int) ([]float64, error) {
	m, result, err := read(queries)
	if err != nil {
		return nil, err
	}
	lines, single, err := m.Lines(result, metric.Grid{Start: start, Period: hour, Seconds: 3600, N: n}, x.Store.Source(s))
	if err == nil && (!single || len(lines) != 1) {
		err = fault.New(fault.Invalid, "ValidationError", "Error in expression '%s': it must return a single time series.", result)
	}
	if err != nil {
		return nil, err
	}
	return lines[0].Values, nil
}
