package metric

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// diary is a database with a clock, and an alarm in it.
type diary struct {
	*store.DB
	t   *testing.T
	now time.Time
	sc  scope.Scope
}

func newDiary(t *testing.T) *diary {
	t.Parallel()
	d := &diary{t: t, now: time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC), sc: scope.Scope{Account: "000000000000", Region: "us-east-1"}}
	db, err := store.Open("", store.Options{Clock: func() time.Time { return d.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	d.DB = db
	return d
}

func (d *diary) do(f func(w *store.WriteTx) error) {
	d.t.Helper()
	if err := d.Update(f); err != nil {
		d.t.Fatal(err)
	}
}

func (d *diary) put(name string) {
	d.t.Helper()
	d.do(func(w *store.WriteTx) error {
		_, err := PutAlarm(w, Alarm{Scope: d.sc, Name: name, Namespace: "AWS/EC2", MetricName: "CPUUtilization", Dimensions: map[string]string{"InstanceId": "i-1"}, Statistic: "Average", Period: 60,
			EvaluationPeriods: 1, Threshold: 50, Comparison: "GreaterThanThreshold", ActionsEnabled: true,
			AlarmActions: []string{"arn:aws:automate:us-east-1:ec2:stop", "arn:aws:swf:us-east-1:000000000000:action/actions/AWS_EC2.InstanceId.Reboot/1.0", "arn:aws:sns:us-east-1:000000000000:t"}}, nil)
		return err
	})
}

func (d *diary) lines(name, kind string) (out []string) {
	for _, h := range HistoryOf(d.Read(), d.sc, name) {
		if h.Type == kind {
			out = append(out, h.Summary)
		}
	}
	return out
}

// TestHistoryIsBounded: an alarm keeps its newest lines, and another alarm whose name goes on after a blank keeps its own.
func TestHistoryIsBounded(t *testing.T) {
	d := newDiary(t)
	d.put("a b")
	e := &Evaluator{DB: d.DB}
	d.put("a")
	for i := range historyPerAlarm + 50 {
		d.now = d.now.Add(time.Second)
		d.do(func(w *store.WriteTx) error {
			return e.SetState(w, d.sc, "a", []string{StateOK, StateAlarm}[i%2], fmt.Sprint(i), "")
		})
	}
	all := HistoryOf(d.Read(), d.sc, "a")
	if len(all) != historyPerAlarm || !all[len(all)-1].At.Equal(d.now) {
		t.Errorf("%d lines, the last of %v", len(all), all[len(all)-1].At)
	}
	if !slices.IsSortedFunc(all, func(a, b HistoryItem) int { return a.At.Compare(b.At) }) {
		t.Error("the history is not in the order in which it came")
	}
	if got := d.lines("a b", "ConfigurationUpdate"); len(got) != 1 {
		t.Errorf("the other alarm has %q", got)
	}
}

// TestHistoryEnds: the history outlives its alarm, and not its age.
func TestHistoryEnds(t *testing.T) {
	d := newDiary(t)
	for i := range historySweep/2 + 10 {
		d.put(fmt.Sprintf("old-%d", i))
		d.do(func(w *store.WriteTx) error { return DeleteAlarms(w, d.sc, []string{fmt.Sprintf("old-%d", i)}) })
	}
	if got, want := d.lines("old-3", "ConfigurationUpdate"), []string{`Alarm "old-3" created`, `Alarm "old-3" deleted`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	d.now = d.now.Add(historyFor - time.Minute)
	d.put("new")
	e := &Evaluator{DB: d.DB, Clock: func() time.Time { return d.now }}
	st, err := Open("", Options{Clock: e.Clock})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	e.Store = st
	e.Step()
	if got := d.lines("old-3", "ConfigurationUpdate"); len(got) != 2 {
		t.Errorf("history of less than 30 days: %q", got)
	}
	d.now = d.now.Add(historyEvery + 2*time.Minute)
	e.Step()
	n := 0
	for h := range History.All(d.Read()) {
		n++
		if h.Alarm != "new" {
			t.Fatalf("%s has history of %v", h.Alarm, h.At)
		}
	}
	if n == 0 {
		t.Error("new history was removed")
	}
}

// TestActionsInHistory: an action that nothing receives is no success.
func TestActionsInHistory(t *testing.T) {
	d := newDiary(t)
	d.put("a")
	var acted []string
	e := &Evaluator{DB: d.DB, OnAction: func(_ *store.WriteTx, _ Alarm, _ string, _ Verdict, arn string) error {
		acted = append(acted, arn)
		return nil
	}}
	d.do(func(w *store.WriteTx) error { return e.SetState(w, d.sc, "a", StateAlarm, "r", "") })
	got := d.lines("a", "Action")
	want := []string{"Successfully executed action arn:aws:automate:us-east-1:ec2:stop",
		"Successfully executed action arn:aws:swf:us-east-1:000000000000:action/actions/AWS_EC2.InstanceId.Reboot/1.0",
		`Failed to execute action arn:aws:sns:us-east-1:000000000000:t. Received error: "` + noSink + `"`}
	if !slices.Equal(got, want) || len(acted) != 2 {
		t.Errorf("%q, want %q", got, want)
	}
	var data struct {
		Version, Type string
		CreatedAlarm  struct {
			AlarmName  string
			Threshold  float64
			Dimensions []struct{ Name, Value string }
		}
	}
	created := HistoryOf(d.Read(), d.sc, "a")[0]
	if err := json.Unmarshal([]byte(created.Data), &data); err != nil || data.Type != "Create" || data.CreatedAlarm.AlarmName != "a" || data.CreatedAlarm.Threshold != 50 || data.CreatedAlarm.Dimensions[0].Value != "i-1" {
		t.Errorf("%s: %v", created.Data, err)
	}
}
