package metric

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"skerry/internal/fault"
)

const (
	maxMath     = 10 // metrics and expressions that an alarm may read
	maxSearches = 50 // of a list
)

// Stat is a statistic of one metric.
type Stat struct {
	Namespace, Metric, Statistic, Unit string
	Dimensions                         map[string]string
}

// Query is one of a list of metrics and expressions that read one another.
type Query struct {
	ID, Label  string
	Of         *Stat  // a metric, or
	Expression string //
	Period     int    // seconds; none of an expression is that of what it reads
}

// Math is such a list, understood: every expression is read, what it reads is there, and none reads itself. It belongs to one
// goroutine.
type Math struct {
	queries  []Query
	at       map[string]int
	trees    map[string]*node // of the expressions
	cells    int              // points that its evaluations made
	searches int
}

func badExpression(id string, format string, args ...any) error {
	return fault.New(fault.Invalid, "ValidationError", "Error in expression '%s': %s.", id, fmt.Sprintf(format, args...))
}

// ParseMath reads a list of queries. search tells whether expressions may search for metrics.
func ParseMath(qs []Query, search bool) (*Math, error) {
	m := &Math{queries: qs, at: map[string]int{}, trees: map[string]*node{}}
	for i, q := range qs {
		m.at[q.ID] = i
		if q.Of != nil {
			continue
		}
		n, err := parse(q.Expression)
		if err != nil {
			return nil, badExpression(q.ID, "%v", err)
		}
		if !search && n.calls("SEARCH") {
			return nil, badExpression(q.ID, "the function SEARCH is not supported here")
		}
		m.trees[q.ID] = n
	}
	done := map[string]bool{}
	var follow func(id string, path []string) error
	follow = func(id string, path []string) error {
		n := m.trees[id]
		if n == nil || done[id] {
			return nil
		}
		if slices.Contains(path, id) {
			return badExpression(id, "it reads its own value")
		}
		var bad error
		n.ids(func(on string) {
			if _, there := m.at[on]; !there && bad == nil {
				bad = badExpression(id, "Metrics list contains no metric with id '%s'", on)
			}
			if bad == nil {
				bad = follow(on, append(path, id))
			}
		})
		done[id] = true
		return bad
	}
	for _, q := range qs {
		if err := follow(q.ID, nil); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Stats are the statistics of metrics that the list reads.
func (m *Math) Stats() (out []Stat) {
	for _, q := range m.queries {
		if q.Of != nil {
			out = append(out, *q.Of)
		}
	}
	return out
}

// Again forgets what evaluations have cost, which is bounded: the list is evaluated for something else.
func (m *Math) Again() { m.cells = 0 }

// Period is the period of a query in seconds: the longest of its own and of those that it reads; 0 when none has one.
func (m *Math) Period(id string) int { return m.period(id, map[string]int{}) }

// period is Period; known are those of the queries that were looked at.
func (m *Math) period(id string, known map[string]int) int {
	if p, ok := known[id]; ok {
		return p
	}
	longest := m.queries[m.at[id]].Period
	if n := m.trees[id]; n != nil {
		n.ids(func(on string) { longest = max(longest, m.period(on, known)) })
		if n.calls("METRICS") {
			for _, q := range m.queries {
				if q.Of != nil {
					longest = max(longest, q.Period)
				}
			}
		}
		longest = max(longest, n.searched())
	}
	known[id] = longest
	return longest
}

// searched is the longest period of the searches in an expression.
func (n *node) searched() (longest int) {
	if n.op == "call" && n.name == "SEARCH" && len(n.args) == 3 && n.args[2].op == "number" && n.args[2].number < 1e9 {
		longest = int(n.args[2].number)
	}
	for _, a := range n.args {
		longest = max(longest, a.searched())
	}
	return longest
}

// Source is where an evaluation gets the values of metrics, over a grid; missing ones are not numbers.
type Source struct {
	Fetch  func(s Stat, g Grid) ([]float64, error)
	Search func(text, statistic string, g Grid) ([]Line, error) // nil: refused
}

// Lines are the series that a query comes to. Single is false for an array of them.
func (m *Math) Lines(id string, g Grid, from Source) (lines []Line, single bool, err error) {
	known := map[string]value{}
	e := &evaluation{grid: g, cells: &m.cells}
	fetch := func(q Query) (Line, error) {
		l, err := e.line(q.Label)
		if err != nil {
			return l, err
		}
		l.Values, err = from.Fetch(*q.Of, g)
		return l, err
	}
	e.read = func(id string) (value, error) {
		if v, ok := known[id]; ok {
			return v, nil
		}
		var v value
		var err error
		if q := m.queries[m.at[id]]; q.Of != nil {
			var l Line
			l, err = fetch(q)
			v = value{kind: aSeries, lines: []Line{l}}
		} else if v, err = e.eval(m.trees[id]); err != nil && !errors.As(err, new(*fault.Error)) {
			err = badExpression(id, "%v", err)
		}
		known[id] = v
		return v, err
	}
	e.metrics = func(containing string) ([]Line, error) {
		var out []Line
		for _, q := range m.queries {
			if q.Of == nil || !strings.Contains(q.ID, containing) {
				continue
			}
			v, err := e.read(q.ID)
			if err != nil {
				return nil, err
			}
			out = append(out, v.lines...)
		}
		return out, nil
	}
	if from.Search != nil {
		e.search = func(text, statistic string) ([]Line, error) {
			if m.searches++; m.searches > maxSearches {
				return nil, fmt.Errorf("all expressions together may search up to %d times", maxSearches)
			}
			lines, err := from.Search(text, statistic, g)
			return lines, cmp.Or(err, e.spend(len(lines)))
		}
	}
	v, err := e.read(id)
	if err == nil && v.kind != aSeries && v.kind != anArray {
		err = badExpression(id, "it must return a time series or an array of time series, not %s", v.kind)
	}
	return v.lines, v.kind == aSeries, err
}

// query is one of an alarm's Metrics, as the API's JSON has it.
type query struct {
	ID         string `json:"Id"`
	Expression string
	Label      string
	ReturnData *bool
	Period     int
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

func (q query) stat() Stat {
	s := q.MetricStat
	d := map[string]string{}
	for _, x := range s.Metric.Dimensions {
		d[x.Name] = x.Value
	}
	return Stat{s.Metric.Namespace, s.Metric.MetricName, s.Stat, s.Unit, d}
}

// queries reads the Metrics of an alarm; they were checked.
func (a Alarm) queries() []query {
	var qs []query
	if json.Unmarshal(a.Queries, &qs) != nil {
		return nil
	}
	return qs
}

// IsMath tells of an alarm over an expression.
func (a Alarm) IsMath() bool { return len(a.Queries) > 0 && a.MetricName == "" }

// CheckMath refuses metrics and expressions that an alarm of the period can't evaluate.
func CheckMath(queries json.RawMessage, period int) error {
	return Alarm{Queries: queries, Period: period}.checkFormula()
}

// ReadMath reads metrics and expressions from the API's JSON, and tells the ids of those that return data.
func ReadMath(queries json.RawMessage, search bool) (m *Math, returned []string, err error) {
	var qs []query
	if err := json.Unmarshal(queries, &qs); err != nil {
		return nil, nil, fault.New(fault.Invalid, "ValidationError", "The list of metrics cannot be read: %v", err)
	}
	var list []Query
	for _, q := range qs {
		if q.returns() {
			returned = append(returned, q.ID)
		}
		x := Query{ID: q.ID, Label: q.Label, Expression: q.Expression, Period: q.Period}
		if q.MetricStat != nil {
			of := q.stat()
			x.Of, x.Period = &of, q.MetricStat.Period
		}
		list = append(list, x)
	}
	m, err = ParseMath(list, search)
	return m, returned, err
}

// formula is what an alarm over an expression reads, and the id of what it compares.
func (a Alarm) formula() (m *Math, result string, err error) {
	m, returned, err := ReadMath(a.Queries, false)
	if err == nil && len(returned) != 1 {
		err = fault.New(fault.Invalid, "ValidationError", "Exactly one of the metrics of an alarm must return data.")
	}
	if err != nil {
		return nil, "", err
	}
	return m, returned[0], nil
}

// checkFormula refuses queries that the alarm can't evaluate. Their periods are the alarm's, and they come to one series.
func (a Alarm) checkFormula() error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "ValidationError", format, args...)
	}
	m, result, err := a.formula()
	if err != nil {
		return err
	}
	metrics := 0
	for _, q := range m.queries {
		if q.Of == nil {
			continue
		}
		metrics++
		if q.Period != a.Period {
			return bad("Metrics of an alarm must have one period; %d and %d are given.", a.Period, q.Period)
		}
	}
	switch {
	case len(m.queries) > maxMath:
		return bad("An alarm may have up to %d metrics and expressions.", maxMath)
	case metrics == 0:
		return bad("An alarm needs at least one metric.")
	}
	// What it comes to doesn't depend on the data, so that one point that is missing tells.
	_, single, err := m.Lines(result, Grid{Seconds: a.Period, N: 1}, Source{Fetch: func(Stat, Grid) ([]float64, error) { return []float64{missing}, nil }})
	if err == nil && !single {
		err = badExpression(result, "it must return a single time series")
	}
	return err
}
