package metric

import (
	"slices"
	"strings"
	"testing"

	"skerry/internal/event"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func TestRules(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:cloudwatch:us-east-1:1:alarm:"
	state := map[string]string{"a": StateAlarm, "b": StateOK, "c d": StateInsufficient, "e-(f)": StateAlarm}
	for text, want := range map[string]bool{
		"ALARM(a)": true, "OK(a)": false, "NOT OK(a)": true, "ALARM(a) AND ALARM(b)": false, "ALARM(a) OR ALARM(b)": true, `INSUFFICIENT_DATA("c d")`: true, `ALARM("e-(f)")`: true,
		"TRUE": true, "FALSE OR NOT FALSE": true, "ALARM(a) OR ALARM(b) AND FALSE": true, "(ALARM(a) OR ALARM(b)) AND FALSE": false, "NOT (ALARM(b) OR OK(a))": true,
		" ALARM( a )\n  AND\tNOT ALARM(b) ": true, "ALARM(" + arn + "a)": true, `NOT NOT ALARM("a")`: true, "ALARM(a)AND(TRUE)": true,
		`AT_LEAST(2, ALARM, (a, b, "e-(f)"))`: true, `AT_LEAST(2,OK,(a,b,"e-(f)"))`: false, `AT_LEAST(3, NOT OK, (a, "c d", "e-(f)"))`: true, `AT_LEAST(50%, ALARM, (a, b, "c d"))`: false,
		`AT_LEAST(33%, ALARM, (a, b, "c d"))`: true, `AT_LEAST(100 %, NOT INSUFFICIENT_DATA, (a,b)) AND ALARM(a)`: true, "NOT AT_LEAST(1, INSUFFICIENT_DATA, (a, " + arn + "b))": true,
	} {
		r, err := parseRule(text, arn)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := r.holds(func(n string) string { return state[n] }); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if r, err := parseRule(`ALARM(a) OR (OK(b) AND ALARM("a"))`, arn); err != nil || !slices.Equal(r.children(nil), []string{"a", "b"}) {
		t.Errorf("children: %v", err)
	}
	for text, part := range map[string]string{"": "too early", "ALARM": "'(' is missing", "ALARM(a": "')' is missing", `ALARM("a)`: "no end", "ALARM()": "empty", "a": "not expected", "ALARM(a) ALARM(b)": "not expected",
		"ALARM(a) AND": "too early", "NOT": "too early", "(TRUE": "')' is missing", "TRUEX": "not expected", "AT_LEAST(0, ALARM, (a))": "a number above 0", "AT_LEAST(2, ALARM, (a))": "2 of 1 alarms", "AT_LEAST(101%, ALARM, (a))": "up to 100%",
		"AT_LEAST(1, FALSE, (a))": "takes ALARM, OK", "AT_LEAST(1, ALARM, a)": "'(' is missing", "AT_LEAST(1, ALARM, (a)": "')' is missing", "AT_LEAST(1, ALARM, ())": "empty", "AT_LEAST": "'(' is missing", "AT_LEAST(1": "',' is missing",
		"AT_LEAST(99999999999999999999, OK, (a))": "a number", "ALARM(arn:aws:cloudwatch:eu-west-1:1:alarm:a)": "other accounts and regions",
		strings.Repeat("(", 200) + "TRUE": "nested", strings.Repeat("TRUE OR ", 600) + "TRUE": "elements", strings.Repeat(" ", 11000): "characters"} {
		if _, err := parseRule(text, arn); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%.40q: %v, wanted %q", text, err, part)
		}
	}
}

// FuzzRules: what is read can be evaluated.
func FuzzRules(f *testing.F) {
	for _, s := range []string{"ALARM(a) AND NOT (OK(b) OR TRUE)", `INSUFFICIENT_DATA("x y")`, "((((", "ALARM(", "AT_LEAST(60%, NOT OK, (a, b))"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := parseRule(text, "arn:"); err == nil {
			r.holds(func(string) string { return StateOK })
			r.children(nil)
		}
	})
}

// TestCompositeAlarms follow the alarms that they look at, each once a change, and are held by what depends on them.
func TestCompositeAlarms(t *testing.T) {
	t.Parallel()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sc := scope.Scope{Account: "000000000000", Region: "us-east-1"}
	e := &Evaluator{DB: db}
	do := func(fn func(w *store.WriteTx) error) {
		t.Helper()
		if err := db.Update(fn); err != nil {
			t.Fatal(err)
		}
	}
	do(func(w *store.WriteTx) error { event.SetSink(w, true); return nil })
	plain := func(name string) {
		do(func(w *store.WriteTx) error {
			_, err := PutAlarm(w, Alarm{Scope: sc, Name: name, Namespace: "n", MetricName: "m", Statistic: "Sum", Period: 60, EvaluationPeriods: 1, Comparison: "GreaterThanThreshold"}, nil)
			return err
		})
	}
	put := func(name, rule string) error {
		return db.Update(func(w *store.WriteTx) error {
			_, err := PutComposite(w, Alarm{Scope: sc, Name: name, Rule: rule, ActionsEnabled: true, AlarmActions: []string{"arn:aws:sns:us-east-1:000000000000:t"}}, nil)
			return err
		})
	}
	refusedFor := func(err error, part string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v, wanted %q", err, part)
		}
	}
	state := func(name string) Alarm {
		a, _ := Alarms.Get(db.Read(), sc.Key(name))
		return a
	}
	set := func(name, to string) {
		t.Helper()
		do(func(w *store.WriteTx) error { return e.SetState(w, sc, name, to, "r", "") })
	}
	plain("a")
	plain("b")
	refusedFor(put("x", "ALARM(a) OR ALARM(none)"), "alarms [none] in the alarm rule do not exist")
	for name, rule := range map[string]string{"both": "ALARM(a) AND ALARM(b)", "any": "ALARM(a) OR ALARM(b)"} {
		if err := put(name, rule); err != nil {
			t.Fatal(err)
		}
	}
	if err := put("top", "ALARM(any) AND NOT ALARM(both)"); err != nil {
		t.Fatal(err)
	}
	refusedFor(put("any", "ALARM(a) OR ALARM(top)"), "depend on itself")
	refusedFor(put("any", "ALARM(any)"), "depend on itself")
	refusedFor(put("a", "TRUE"), "other type")
	if s := state("top"); s.State != StateInsufficient {
		t.Errorf("before it is evaluated: %s", s.State)
	}
	for _, n := range []string{"any", "both", "top"} {
		if err := e.evaluate(state(n), state(n).UpdatedAt); err != nil {
			t.Fatal(err)
		}
		if s := state(n); s.State != StateOK || s.Fresh {
			t.Errorf("%s: %+v", n, s)
		}
	}
	for _, c := range []struct{ alarm, to, any, both, top string }{
		{"a", StateAlarm, StateAlarm, StateOK, StateAlarm}, {"b", StateAlarm, StateAlarm, StateAlarm, StateOK}, {"a", StateOK, StateAlarm, StateOK, StateAlarm}, {"b", StateInsufficient, StateOK, StateOK, StateOK},
	} {
		set(c.alarm, c.to)
		if any, both, top := state("any").State, state("both").State, state("top").State; any != c.any || both != c.both || top != c.top {
			t.Errorf("%s %s: any %s, both %s, top %s", c.alarm, c.to, any, both, top)
		}
	}
	if r := state("any").StateReason; !strings.HasPrefix(r, "arn:aws:cloudwatch:us-east-1:000000000000:alarm:b transitioned to INSUFFICIENT_DATA at ") {
		t.Error(r)
	}
	messages := 0
	for r := range event.Records.All(db.Read()) {
		if r.Kind == "SNS" && strings.Contains(string(r.Body), `AlarmRule\":\"ALARM(any)`) && strings.Contains(string(r.Body), "TriggeringChildren") {
			messages++
		}
	}
	if messages != 2 { // top was in ALARM twice
		t.Errorf("%d messages", messages)
	}
	del := func(names ...string) error {
		return db.Update(func(w *store.WriteTx) error { return DeleteAlarms(w, sc, names) })
	}
	refusedFor(del("a"), "Cannot delete a as there are composite alarm(s) depending on it.")
	refusedFor(del("a", "b"), "Cannot delete a,b as there are composite alarm(s) depending on them.")
	refusedFor(del("top", "any"), "Only one composite alarm")
	for _, names := range [][]string{{"top"}, {"any"}, {"both", "a", "b"}} {
		if err := del(names...); err != nil {
			t.Error(err)
		}
	}
	refusedFor(db.Update(func(w *store.WriteTx) error {
		_, err := PutComposite(w, Alarm{Scope: sc, Name: "x", Rule: "TRUE", AlarmActions: []string{"arn:aws:automate:us-east-1:ec2:stop"}}, nil)
		return err
	}), "not supported for composite alarms")
}
