package metric

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// data are series by id; a point that is not a number is missing.
type data map[string][]float64

var _x = math.NaN()

// compute evaluates an expression over data of a minute's period, of which the first begins at 12:00 on a Monday.
func compute(text string, d data) (lines []Line, single bool, err error) {
	var qs []Query
	n := 0
	for _, id := range slices.Sorted(maps.Keys(d)) {
		qs = append(qs, Query{ID: id, Label: "of " + id, Of: &Stat{Metric: id}, Period: 60})
		n = len(d[id])
	}
	m, err := ParseMath(append(qs, Query{ID: "result", Expression: text}), false)
	if err != nil {
		return nil, false, err
	}
	return m.Lines("result", Grid{Start: time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC), Period: time.Minute, Seconds: 60, N: n}, Source{Fetch: func(s Stat, g Grid) ([]float64, error) { return d[s.Metric], nil }})
}

func TestExpressions(t *testing.T) {
	d := data{"a": {1, 2, _x, 4}, "b": {4, 3, 2, 0}, "none": {_x, _x, _x, _x}}
	for _, c := range []struct {
		text string
		want string // of each line
	}{
		// operators, by rank
		{"a", "1 2 _ 4"}, {"a + b*2", "9 8 _ 4"}, {"(a+b)*2", "10 10 _ 8"}, {"b-a-1", "2 0 _ -5"}, {"-a+1", "0 -1 _ -3"}, {"b*0+2^3^2", "512 512 512 512"},
		{"-b^2", "-16 -9 -4 0"}, {"a/b*100", "25 66.66666666666666 _ _"}, {"a+none", "_ _ _ _"}, {"1/b", "0.25 0.3333333333333333 0.5 _"},
		{"b>2", "1 1 0 0"}, {"b>=3 AND a<2", "1 0 _ 0"}, {"b == 4 || b == 0", "1 0 0 1"}, {"b!=4 && b <= 2", "0 0 1 1"}, {"b > 1+2", "1 0 0 0"}, {"a<b", "1 1 _ 0"},
		{"b>3 OR b>2 AND b<1", "1 0 0 0"},
		// point by point
		{"ABS(a-b)", "3 1 _ 4"}, {"CEIL(b/3)", "2 1 1 0"}, {"FLOOR(b/3)", "1 1 0 0"}, {"FLOOR(LOG10(b*25)*1000)", "2000 1875 1698 _"}, {"LOG(b-3)", "0 _ _ _"},
		// numbers of a series
		{"b-AVG(b)", "1.75 0.75 -0.25 -2.25"}, {"b*0+SUM(a)", "7 7 7 7"}, {"b*0+MIN(a)", "1 1 1 1"}, {"b*0+MAX(a)", "4 4 4 4"}, {"b*0+DATAPOINT_COUNT(a)", "3 3 3 3"},
		{"b*0+STDDEV([b,b])", "0 0 0 0"}, {"b*0+FLOOR(STDDEV(b)*100)", "147 147 147 147"}, {"b*0+DATAPOINT_COUNT(none)", "0 0 0 0"}, {"b+SUM(none)", "_ _ _ _"},
		{"TIME_SERIES(PERIOD(a))", "60 60 60 60"}, {"TIME_SERIES(METRIC_COUNT(METRICS()))", "3 3 3 3"},
		// over several series
		{"SUM([a, b, none])", "5 5 2 4"}, {"AVG([a,b,none])", "2.5 2.5 2 2"}, {"MIN([b,a])", "1 2 2 0"}, {"MAX([none,a,b])", "4 3 2 4"}, {"MAX([none])", "_ _ _ _"},
		{"SUM(METRICS())", "5 5 2 4"}, {"SUM(METRICS('a'))", "1 2 _ 4"}, {"DATAPOINT_COUNT(METRICS())", "2 2 1 2"}, {"STDDEV([b, b*0])", "2 1.5 1 0"},
		{"METRICS() * 2", "[2 4 _ 8; 8 6 4 0; _ _ _ _]"}, {"b + METRICS(\"a\")", "[5 5 _ 4]"}, {"REMOVE_EMPTY(METRICS())", "[1 2 _ 4; 4 3 2 0]"}, {"FIRST(METRICS())", "1 2 _ 4"}, {"LAST([a,b])", "4 3 2 0"},
		{"SLICE(METRICS(), 1)", "[4 3 2 0; _ _ _ _]"}, {"SLICE(METRICS(), 0, 1)", "[1 2 _ 4]"}, {"SLICE(METRICS(), 7, 9)", "[]"}, {"SORT(METRICS(), SUM, DESC)", "[4 3 2 0; 1 2 _ 4; _ _ _ _]"},
		{"SORT(METRICS(), SUM, ASC, 1)", "[1 2 _ 4]"}, {"SORT([a,b], SUM, ASC, SUM(none))", "[1 2 _ 4; 4 3 2 0]"}, {"FILL(METRICS(), 0)", "[1 2 0 4; 4 3 2 0; 0 0 0 0]"}, {"IF(METRICS() > 1, 1, 0)", "[0 1 _ 1; 1 1 1 0; _ _ _ _]"},
		// along the time
		{"DIFF(a)", "_ 1 _ 2"}, {"DIFF_TIME(a)", "_ 60 _ 120"}, {"RATE(a)*60", "_ 1 _ 1"}, {"RUNNING_SUM(a)", "1 3 _ 7"},
		{"FILL(a, 0)", "1 2 0 4"}, {"FILL(a, b)", "1 2 2 4"}, {"FILL(a, REPEAT)", "1 2 2 4"}, {"FILL(a, LINEAR)", "1 2 3 4"}, {"FILL(none, LINEAR)", "_ _ _ _"}, {"FILL(none,7)", "7 7 7 7"},
		{"MINUTE(a)", "0 1 2 3"}, {"HOUR(none)", "12 12 12 12"}, {"DAY(a)", "1 1 1 1"}, {"DATE(a)*100+MONTH(a)", "101 101 101 101"}, {"YEAR(a)", "2024 2024 2024 2024"},
		{"EPOCH(a) - 1704110400", "0 60 120 180"},
		// choices
		{"IF(b > 2, a, -1)", "1 2 -1 -1"}, {"IF(a, 1, 0)", "1 1 _ 1"}, {"IF(b>2, b)", "4 3 _ _"}, {"IF(DAY(a)<6 AND MINUTE(a)>1, b)", "_ _ 2 0"}, {"IF(SUM(a) > 5, b, 0)", "4 3 2 0"}, {"IF(1 > 2, b, 9)", "9 9 9 9"}, {"IF(a > 1 AND b > 2, b, FILL(a, 0))", "1 3 _ 4"},
	} {
		lines, single, err := compute(c.text, d)
		var got []string
		for _, l := range lines {
			var vs []string
			for _, v := range l.Values {
				if math.IsNaN(v) {
					vs = append(vs, "_")
				} else {
					vs = append(vs, strconv.FormatFloat(v, 'g', -1, 64))
				}
			}
			got = append(got, strings.Join(vs, " "))
		}
		s := strings.Join(got, "; ")
		if !single {
			s = "[" + s + "]"
		}
		if err != nil || s != c.want {
			t.Errorf("%s: %s %v, wanted %s", c.text, s, err, c.want)
		}
	}
	for text, part := range map[string]string{"": "ends too early", "a+": "ends too early", "(a": "')' is missing", "a b": "not expected", "SEARCH('x','Sum',60)": "function SEARCH",
		"ANOMALY_DETECTION_BAND(a)": "function ANOMALY_DETECTION_BAND is not supported", "FILL(a)": "FILL takes 2 arguments", "Xa": "not an id", "1.5e": "not expected", "a>": "ends too early",
		strings.Repeat("(", 200) + "a": "nested", strings.Repeat("-", 200) + "a": "nested", strings.Repeat("a", 3000): "characters", "c": "no metric with id 'c'", "result": "its own value",
		"SUM(a)": "not a number", "5": "not a number", "'x'": "not a text", "a + 'x'": "does not take a text", "[a,b] + [a,b]": "two arrays", "[1]": "takes time series", "RATE(5)": "is not a time series",
		"SORT(METRICS(), COUNT, ASC)": "not an id", "SORT(METRICS(), SUM, UP)": "not an id", "SORT(METRICS(), SUM, MAX)": "in the order", "METRICS(a)": "takes a text", "TIME_SERIES(a)": "takes a number",
		"IF(a)": "IF takes 2 to 3 arguments", "a'": "not expected", "'a": "no end", "SLICE(METRICS(), a)": "numbers", "FILL(a, METRICS())": "fills with", "PERIOD(METRICS())": "takes a time series",
		"AND a": "not an id", "a AND": "ends too early", "SUM": "not a text", "1..2+a": "not a number"} {
		if _, _, err := compute(text, d); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%.40q: %v, wanted %q", text, err, part)
		}
	}
	if lines, _, _ := compute("METRICS()*2", d); lines[0].Label != "of a" {
		t.Errorf("a series lost its label: %q", lines[0].Label)
	}
}

// TestMathIsBounded: what an expression makes is bounded, whatever it multiplies.
func TestMathIsBounded(t *testing.T) {
	d := data{}
	for i := range 400 {
		d[fmt.Sprintf("m%d", i)] = make([]float64, 2000)
	}
	if _, _, err := compute("METRICS()+1+1+1+1+1+1+1+1", d); err == nil || !strings.Contains(err.Error(), "points") {
		t.Errorf("%v", err)
	}
	if _, _, err := compute("[METRICS(),METRICS()]", d); err == nil || !strings.Contains(err.Error(), "500 time series") {
		t.Errorf("%v", err)
	}
}

// TestMathReadsOtherExpressions: in any order, over the longest period of what they read.
func TestMathReadsOtherExpressions(t *testing.T) {
	m, err := ParseMath([]Query{{ID: "half", Expression: "both/2"}, {ID: "both", Expression: "a+b"}, {ID: "a", Of: &Stat{}, Period: 60}, {ID: "b", Of: &Stat{}, Period: 300}, {ID: "all", Expression: "SUM(METRICS())"}, {ID: "t", Expression: "TIME_SERIES(1)", Period: 10}}, false)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int{"half": 300, "a": 60, "all": 300, "t": 10} {
		if got := m.Period(id); got != want {
			t.Errorf("the period of %s is %d, not %d", id, got, want)
		}
	}
	chain := []Query{{ID: "e0", Of: &Stat{}, Period: 300}}
	for i := range 100 { // each reads the one before it twice
		chain = append(chain, Query{ID: fmt.Sprintf("e%d", i+1), Expression: fmt.Sprintf("e%d+e%d", i, i)})
	}
	if m, err = ParseMath(chain, false); err != nil || m.Period("e100") != 300 {
		t.Errorf("the period of a long chain is %d: %v", m.Period("e100"), err)
	}
	if _, err := ParseMath([]Query{{ID: "x", Expression: "y"}, {ID: "y", Expression: "x+1"}}, false); err == nil || !strings.Contains(err.Error(), "its own value") {
		t.Errorf("%v", err)
	}
}

// FuzzExpressions: whatever is read can be evaluated, and comes to a finite value or none.
func FuzzExpressions(f *testing.F) {
	for _, s := range []string{"a+b*2", "IF(a>b AND NOT, 1, FILL(b,LINEAR))", "SUM(METRICS('a'))/PERIOD(a)", "SORT([a,b],MAX,DESC,1)", "-a^-b^2", "SLICE(METRICS(),1,0)", "RATE(DIFF(RUNNING_SUM(a)))",
		"[[a],[b]]", "((((", "'x", "EPOCH(a)==1", "STDDEV(LOG(a))"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := data{"a": {1, _x, -3, 1e100}, "b": {0, 0, 5, _x}}
		lines, single, err := compute(text, d)
		if err != nil {
			return
		}
		if single && len(lines) != 1 {
			t.Fatalf("%q: one series of %d", text, len(lines))
		}
		for _, l := range lines {
			if len(l.Values) != 4 {
				t.Fatalf("%q: %d points", text, len(l.Values))
			}
			for _, v := range l.Values {
				if !math.IsNaN(v) && !sane(v) {
					t.Fatalf("%q: %v", text, v)
				}
			}
		}
	})
}

// TestEvaluatorDoesMath: an alarm over a rate follows both of its metrics, and has no data where one of them has none.
func TestEvaluatorDoesMath(t *testing.T) {
	t0 := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
	now := t0
	clock := func() time.Time { return now }
	db, err := store.Open("", store.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	st, err := Open("", Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	sc := scope.Scope{Account: "000000000000", Region: "us-east-1"}
	e := &Evaluator{DB: db, Store: st, Clock: clock}
	queries := `[{"Id":"half","Expression":"rate/2"},{"Id":"rate","Expression":"errors/requests*100","ReturnData":false},
		{"Id":"errors","MetricStat":{"Metric":{"Namespace":"App","MetricName":"Errors","Dimensions":[{"Name":"Host","Value":"a"}]},"Stat":"Sum","Period":60},"ReturnData":false},
		{"Id":"requests","MetricStat":{"Metric":{"Namespace":"App","MetricName":"Requests"},"Stat":"Sum","Period":60},"ReturnData":false}]`
	if err := db.Update(func(w *store.WriteTx) error {
		_, err := PutAlarm(w, Alarm{Scope: sc, Name: "rate", Queries: json.RawMessage(queries), Period: 60, EvaluationPeriods: 1, Threshold: 5, Comparison: "GreaterThanThreshold"}, nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		errors, requests float64
		want             string
	}{{1, 100, StateOK}, {20, 100, StateAlarm}, {0, 50, StateOK}, {11, 0, StateOK}, {11, 100, StateAlarm}} {
		at := t0.Add(time.Duration(i) * time.Minute)
		now = at.Add(30 * time.Second)
		if err := st.Put(sc, []Datum{{Namespace: "App", Name: "Errors", Dimensions: map[string]string{"Host": "a"}, Timestamp: at, Value: c.errors}, {Namespace: "App", Name: "Requests", Timestamp: at, Value: c.requests}}); err != nil {
			t.Fatal(err)
		}
		now = at.Add(61 * time.Second)
		e.Step()
		if a, _ := Alarms.Get(db.Read(), sc.Key("rate")); a.State != c.want {
			t.Errorf("%v of %v: %s, wanted %s (%s)", c.errors, c.requests, a.State, c.want, a.StateReason)
		}
	}
	now = now.Add(time.Hour)
	e.Step()
	if a, _ := Alarms.Get(db.Read(), sc.Key("rate")); a.State != StateInsufficient {
		t.Errorf("without data: %s", a.State)
	}
}
