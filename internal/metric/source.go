package metric

import (
	"fmt"
	"slices"
	"time"

	"skerry/internal/scope"
)

// statistic queries the points of a metric, with their distributions if the statistic needs them.
func (s *Store) statistic(sc scope.Scope, of Stat, start, end time.Time, period time.Duration) ([]Point, error) {
	return s.query(sc, of.Namespace, of.Metric, of.Dimensions, start, end, period, of.Unit, 0, IsExtended(of.Statistic))
}

// Source gives expressions the metrics of a scope.
func (s *Store) Source(sc scope.Scope) Source {
	fetch := func(of Stat, g Grid) ([]float64, error) {
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
	}
	return Source{Fetch: fetch, Search: func(text, statistic string, g Grid) ([]Line, error) {
		what, err := parseSearch(text)
		if err == nil && !slices.Contains(Statistics, statistic) && !IsExtended(statistic) {
			err = fmt.Errorf("'%s' is not a statistic", statistic)
		}
		if err != nil {
			return nil, err
		}
		found := s.find(sc, what)
		if len(found) > maxLines {
			return nil, fmt.Errorf("it finds more than %d metrics", maxLines)
		}
		var out []Line
		for _, m := range found {
			values, err := fetch(Stat{Namespace: m.Namespace, Metric: m.Name, Statistic: statistic, Dimensions: m.Dimensions}, g)
			if err != nil {
				return nil, err
			}
			out = append(out, Line{m.label(), values})
		}
		return out, nil
	}}
}
