package metric

import (
	"time"

	"skerry/internal/scope"
)

// statistic queries the points of a metric, with their distributions if the statistic needs them.
func (s *Store) statistic(sc scope.Scope, of Stat, start, end time.Time, period time.Duration) ([]Point, error) {
	return s.query(sc, of.Namespace, of.Metric, of.Dimensions, start, end, period, of.Unit, 0, IsExtended(of.Statistic))
}

// Source gives expressions the metrics of a scope.
func (s *Store) Source(sc scope.Scope) Source {
	return Source{Fetch: func(of Stat, g Grid) ([]float64, error) {
		found, err := s.query(sc, of.Namespace, of.Metric, of.Dimensions, g.Start, g.Start.Add(time.Duration(g.N)*g.Period), g.Period, of.Unit, g.Start.UnixNano(), IsExtended(of.Statistic))
		if err != nil {
			return nil, err
		}
		out := make([]float64, g.N)
		for i := range out {
			out[i] = missing
		}
		for _, p := range found {
			if i := int(p.Time.Sub(g.Start) / g.Period); i >= 0 && i < g.N {
				if v, ok := p.Stat(of.Statistic); ok {
					out[i] = v
				}
			}
		}
		return out, nil
	}}
}
