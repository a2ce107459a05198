package metric

import (
	"strings"
	"testing"
	"time"

	"skerry/internal/event"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// TestSuppressedActions: a suppressor holds the actions of a composite alarm back while it is in ALARM, and the two periods the ones
// that it may come too late, or go too early for.
func TestSuppressedActions(t *testing.T) {
	t.Parallel()
	sc := scope.Scope{Account: "000000000000", Region: "us-east-1"}
	type at struct {
		second      int
		alarm, to   string // nothing: time passes
		by, actions string // of the composite alarm, after it: what suppresses, and the states that it has told by now
	}
	for name, c := range map[string]struct {
		wait, extension int
		steps           []at
	}{
		"no suppressor in sight": {60, 60, []at{{0, "cpu", StateAlarm, "WaitPeriod", ""}, {59, "", "", "WaitPeriod", ""}, {60, "", "", "", "ALARM"}, {70, "cpu", StateOK, "WaitPeriod", "ALARM"}, {131, "", "", "", "ALARM OK"}}},
		"the suppressor comes in time": {60, 60, []at{{0, "cpu", StateAlarm, "WaitPeriod", ""}, {30, "mute", StateAlarm, "Alarm", ""}, {900, "", "", "Alarm", ""},
			{1000, "mute", StateOK, "ExtensionPeriod", ""}, {1059, "", "", "ExtensionPeriod", ""}, {1061, "", "", "", "ALARM"}}},
		"all is over before the extension": {60, 60, []at{{0, "mute", StateAlarm, "Alarm", ""}, {10, "cpu", StateAlarm, "Alarm", ""}, {20, "mute", StateInsufficient, "ExtensionPeriod", ""},
			{50, "cpu", StateOK, "ExtensionPeriod", ""}, {81, "", "", "", ""}}},
		"a short alarm within the wait": {60, 0, []at{{0, "cpu", StateAlarm, "WaitPeriod", ""}, {30, "cpu", StateOK, "", ""}, {100, "", "", "", ""}, {110, "cpu", StateAlarm, "WaitPeriod", ""}, {171, "", "", "", "ALARM"}}},
		"without periods":               {0, 0, []at{{0, "cpu", StateAlarm, "", "ALARM"}, {10, "mute", StateAlarm, "Alarm", "ALARM"}, {20, "cpu", StateOK, "Alarm", "ALARM"}, {30, "mute", StateOK, "", "ALARM OK"}}},
		"it is its own child":           {0, 0, []at{{0, "both", StateAlarm, "Alarm", ""}, {10, "both", StateOK, "", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			t0 := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
			now := t0
			db, err := store.Open("", store.Options{Clock: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			e := &Evaluator{DB: db, Clock: func() time.Time { return now }}
			do := func(fn func(w *store.WriteTx) error) {
				t.Helper()
				if err := db.Update(fn); err != nil {
					t.Fatal(err)
				}
			}
			do(func(w *store.WriteTx) error {
				event.SetSink(w, true)
				for _, name := range []string{"cpu", "mute", "both"} {
					a, err := PutAlarm(w, Alarm{Scope: sc, Name: name, Namespace: "n", MetricName: "m", Statistic: "Sum", Period: 60, EvaluationPeriods: 1, Comparison: "GreaterThanThreshold"}, nil)
					if err != nil {
						return err
					}
					a.State = StateOK
					Alarms.Put(w, a)
				}
				by := "mute"
				if strings.Contains(name, "own child") {
					by = sc.ARN("cloudwatch", "alarm:both")
				}
				topic := []string{"arn:aws:sns:us-east-1:000000000000:t"}
				a, err := PutComposite(w, Alarm{Scope: sc, Name: "top", Rule: "AT_LEAST(1, ALARM, (cpu, both))", ActionsEnabled: true, AlarmActions: topic, OKActions: topic, Suppressor: &Suppressor{by, c.wait, c.extension}}, nil)
				a.State, a.Fresh = StateOK, false
				Alarms.Put(w, a)
				return err
			})
			for _, s := range c.steps {
				now = t0.Add(time.Duration(s.second) * time.Second)
				if s.alarm != "" {
					do(func(w *store.WriteTx) error { return e.SetState(w, sc, s.alarm, s.to, "r", "") })
				} else if a, _ := Alarms.Get(db.Read(), sc.Key("top")); a.overdue(now) {
					if err := e.evaluate(a, now); err != nil {
						t.Fatal(err)
					}
				}
				var told []string
				for r := range event.Records.All(db.Read()) {
					if r.Kind == "SNS" {
						told = append(told, map[bool]string{true: "ALARM", false: "OK"}[strings.Contains(string(r.Body), `NewStateValue\":\"ALARM`)])
					}
				}
				a, _ := Alarms.Get(db.Read(), sc.Key("top"))
				if a.Suppression.By != s.by || (a.Suppression.Reason == "") != (s.by == "") || strings.Join(told, " ") != s.actions {
					t.Errorf("second %d: suppressed by %q, told %q; wanted %q and %q (%+v)", s.second, a.Suppression.By, told, s.by, s.actions, a.Suppression)
				}
			}
		})
	}
}
