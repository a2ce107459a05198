package metric

import (
	"encoding/json"
	"slices"

	"skerry/internal/fault"
)

// maxMath is how many metrics and expressions an alarm may read.
const maxMath = 10

// stat is a statistic of one metric.
type stat struct {
	namespace, metric, statistic, unit string
	dimensions                         map[string]string
}

// query is one of an alarm's Metrics, as the API's JSON has it.
type query struct {
	ID         string `json:"Id"`
	Expression string
	Label      string
	ReturnData *bool
	MetricStat *struct {
		Metric struct {
			Namespace, MetricName string
			Dimensions            []struct{ Name, Value string }
		}
		Stat, Unit string
		Period     int
	}
}

func (q query) returns() bool { return q.ReturnData == nil || *q.ReturnData }

func (q query) stat() stat {
	s := q.MetricStat
	d := map[string]string{}
	for _, x := range s.Metric.Dimensions {
		d[x.Name] = x.Value
	}
	return stat{s.Metric.Namespace, s.Metric.MetricName, s.Stat, s.Unit, d}
}

// queries reads the Metrics of an alarm; they were checked.
func (a Alarm) queries() []query {
	var qs []query
	if json.Unmarshal(a.Queries, &qs) != nil {
		return nil
	}
	return qs
}

// formula is what an alarm over an expression reads, and the id of what it compares.
type formula struct {
	stats       map[string]stat
	expressions map[string]Expression
	result      string
}

// IsMath tells of an alarm over an expression.
func (a Alarm) IsMath() bool { return len(a.Queries) > 0 && a.MetricName == "" }

// value is the result at one point in time; at gives the metrics.
func (m formula) value(at func(id string) (float64, bool)) (float64, bool) {
	var read func(id string) (float64, bool)
	read = func(id string) (float64, bool) {
		if e, ok := m.expressions[id]; ok {
			return e.At(read)
		}
		return at(id)
	}
	return read(m.result)
}

// CheckMath refuses metrics and expressions that an alarm of the period can't evaluate.
func CheckMath(queries json.RawMessage, period int) error {
	_, err := Alarm{Queries: queries, Period: period}.formula()
	return err
}

// formula reads the queries of an alarm. Their periods are the alarm's.
func (a Alarm) formula() (formula, error) {
	m := formula{stats: map[string]stat{}, expressions: map[string]Expression{}}
	bad := func(format string, args ...any) (formula, error) {
		return m, fault.New(fault.Invalid, "ValidationError", format, args...)
	}
	var qs []query
	if err := json.Unmarshal(a.Queries, &qs); err != nil {
		return m, err
	}
	if len(qs) > maxMath {
		return bad("An alarm may have up to %d metrics and expressions.", maxMath)
	}
	for _, q := range qs {
		if q.returns() {
			if m.result != "" {
				return bad("Exactly one of the metrics of an alarm must return data.")
			}
			m.result = q.ID
		}
		if s := q.MetricStat; s != nil {
			if s.Period != a.Period {
				return bad("Metrics of an alarm must have one period; %d and %d are given.", a.Period, s.Period)
			}
			m.stats[q.ID] = q.stat()
			continue
		}
		e, err := ParseExpression(q.Expression)
		if err != nil {
			return bad("Error in expression '%s': %v.", q.ID, err)
		}
		m.expressions[q.ID] = e
	}
	if m.result == "" {
		return bad("Exactly one of the metrics of an alarm must return data.")
	}
	if len(m.stats) == 0 {
		return bad("An alarm needs at least one metric.")
	}
	// An expression reads metrics and other expressions, never itself.
	done := map[string]bool{}
	var follow func(id string, path []string) error
	follow = func(id string, path []string) error {
		e, ok := m.expressions[id]
		if done[id] || !ok {
			return nil
		}
		if slices.Contains(path, id) {
			return fault.New(fault.Invalid, "ValidationError", "Error in expression '%s': it reads its own value.", id)
		}
		for _, on := range e.IDs {
			if _, isStat := m.stats[on]; !isStat && m.expressions[on].eval == nil {
				return fault.New(fault.Invalid, "ValidationError", "Error in expression '%s': Metrics list contains no metric with id '%s'.", id, on)
			}
			if err := follow(on, append(path, id)); err != nil {
				return err
			}
		}
		done[id] = true
		return nil
	}
	for id := range m.expressions {
		if err := follow(id, nil); err != nil {
			return m, err
		}
	}
	return m, nil
}
