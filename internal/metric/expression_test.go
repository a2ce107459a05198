package metric

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

func TestExpressions(t *testing.T) {
	at := func(id string) (float64, bool) {
		v, ok := map[string]float64{"a": 6, "b": 4, "zero": 0}[id]
		return v, ok
	}
	for _, c := range []struct {
		text string
		want float64
		ok   bool
	}{
		{"a", 6, true}, {"a + b*2", 14, true}, {"(a+b)*2", 20, true}, {"a-b-1", 1, true}, {"-a+1", -5, true}, {"2^3^2", 512, true}, {"-2^2", -4, true},
		{"a/b*100", 150, true}, {"a/zero", 0, false}, {"a+none", 0, false}, {"FILL(none, 3)+a", 9, true}, {"FILL(a,0)", 6, true},
		{"SUM([a, b, none])", 10, true}, {"AVG([a,b,none])", 5, true}, {"MIN([b,a])", 4, true}, {"MAX([none,a,b])", 6, true}, {"MAX([none])", 0, false},
		{"ABS(b-a)", 2, true}, {"CEIL(a/b)", 2, true}, {"FLOOR(a/b)", 1, true}, {"1.5e", 0, false},
	} {
		e, err := ParseExpression(c.text)
		if c.text == "1.5e" {
			if err == nil {
				t.Errorf("%s is read", c.text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if v, ok := e.At(at); ok != c.ok || ok && v != c.want {
			t.Errorf("%s: %v %v, wanted %v %v", c.text, v, ok, c.want, c.ok)
		}
	}
	if e, _ := ParseExpression("a/(b+c2)"); !slices.Equal(e.IDs, []string{"a", "b", "c2"}) {
		t.Errorf("reads %v", e.IDs)
	}
	for text, part := range map[string]string{"": "ends too early", "a+": "ends too early", "(a": "')' is missing", "a b": "not expected", "IF(a>b,1,2)": "function IF is not supported",
		"SEARCH('x','Sum',60)": "function SEARCH", "SUM(METRICS())": "brackets alone", "a>b": "not expected", "FILL(a)": "two arguments", "Xa": "not an id",
		strings.Repeat("(", 200) + "a": "nested", strings.Repeat("-", 200) + "a": "nested", strings.Repeat("a", 3000): "characters"} {
		if _, err := ParseExpression(text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%.20q: %v, wanted %q", text, err, part)
		}
	}
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
