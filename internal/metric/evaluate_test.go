package metric

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// series makes datapoints of a picture, oldest first: 0 is below the threshold, X beyond it, - missing.
func series(picture string) []Datapoint {
	t0 := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var ps []Datapoint
	for i, c := range picture {
		p := Datapoint{Time: t0.Add(time.Duration(i) * time.Minute)}
		switch c {
		case 'X':
			p.Value = 90
		case '0':
			p.Value = 10
		default:
			p.Missing = true
		}
		ps = append(ps, p)
	}
	return ps
}

// TestPublishedTable has the cells that CloudWatch's documentation publishes. "keep" stands for no new state.
func TestPublishedTable(t *testing.T) {
	for _, tt := range []struct {
		m, n                                   int
		points                                 string
		missing, ignore, breaching, notBreaing string
	}{
		{3, 3, "0-X-X", "OK", "OK", "OK", "OK"},
		{3, 3, "0----", "OK", "OK", "OK", "OK"},
		{3, 3, "-----", "INSUFFICIENT_DATA", "keep", "ALARM", "OK"},
		{3, 3, "0XX-X", "ALARM", "ALARM", "ALARM", "ALARM"},
		{3, 3, "--X--", "ALARM", "keep", "ALARM", "OK"},
		{2, 3, "0-X-X", "ALARM", "ALARM", "ALARM", "ALARM"},
		{2, 3, "00X0X", "ALARM", "ALARM", "ALARM", "ALARM"},
		{2, 3, "0-X--", "OK", "OK", "ALARM", "OK"},
		{2, 3, "----0", "OK", "OK", "ALARM", "OK"},
		{2, 3, "---X-", "ALARM", "keep", "ALARM", "OK"},
		{3, 3, "----X", "keep", "keep", "ALARM", "OK"},
		{3, 3, "---X-", "keep", "keep", "ALARM", "OK"},
	} {
		for treatment, want := range map[string]string{"": tt.missing, Missing: tt.missing, Ignore: tt.ignore, Breaching: tt.breaching, NotBreaching: tt.notBreaing} {
			a := Alarm{EvaluationPeriods: tt.n, DatapointsToAlarm: tt.m, Threshold: 50, Comparison: "GreaterThanThreshold", TreatMissingData: treatment, Statistic: "Average", Period: 60}
			got := Evaluate(a, series(tt.points), time.Unix(0, 0)).State
			if got == "" {
				got = "keep"
			}
			if got != want {
				t.Errorf("%d of %d, %s, %q: %s, want %s", tt.m, tt.n, tt.points, treatment, got, want)
			}
		}
	}
}

func TestReasons(t *testing.T) {
	a := Alarm{EvaluationPeriods: 3, DatapointsToAlarm: 3, Threshold: 80, Comparison: "GreaterThanThreshold", Statistic: "Average", Period: 60, State: StateOK}
	for points, want := range map[string]string{
		"00XXX": "Threshold Crossed: 3 out of the last 3 datapoints [90.0 (01/01/24 00:04:00), 90.0 (01/01/24 00:03:00), 90.0 (01/01/24 00:02:00)] were greater than the threshold (80.0) (minimum 3 datapoints for OK -> ALARM transition).",
		"-----": "Insufficient Data: 3 datapoints were unknown.",
	} {
		if got := Evaluate(a, series(points), time.Unix(0, 0)).Reason; got != want {
			t.Errorf("%s: %q", points, got)
		}
	}
	a.State = StateAlarm
	want := "Threshold Crossed: 1 out of the last 3 datapoints [10.0 (01/01/24 00:04:00)] was not greater than the threshold (80.0) (minimum 1 datapoint for ALARM -> OK transition)."
	if got := Evaluate(a, series("00XX0"), time.Unix(0, 0)).Reason; got != want {
		t.Errorf("back to OK: %q", got)
	}
}

// TestMoreBreachingNeverHelps: turning a datapoint from fine into breaching never takes an alarm from ALARM to OK.
func TestMoreBreachingNeverHelps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "n")
		a := Alarm{EvaluationPeriods: n, DatapointsToAlarm: rapid.IntRange(1, n).Draw(t, "m"), Threshold: 50, Comparison: "GreaterThanThreshold", Statistic: "Average",
			TreatMissingData: rapid.SampledFrom([]string{Missing, Ignore, Breaching, NotBreaching}).Draw(t, "treatment")}
		var b strings.Builder
		for range rangeOf(n) {
			b.WriteByte(rapid.SampledFrom([]byte("0X-")).Draw(t, "point"))
		}
		before := Evaluate(a, series(b.String()), time.Time{}).State
		worse := []byte(b.String())
		i := rapid.IntRange(0, len(worse)-1).Draw(t, "which")
		if worse[i] == '0' {
			worse[i] = 'X'
		}
		if after := Evaluate(a, series(string(worse)), time.Time{}).State; before == StateAlarm && after == StateOK {
			t.Fatalf("%+v: %s alarms and %s does not", a, b.String(), worse)
		}
	})
}

// TestEvaluatorActs follows an alarm through data that arrives in real time and is looked at with a time scale.
func TestEvaluatorActs(t *testing.T) {
	now := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
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
	policy := "arn:aws:autoscaling:us-east-1:000000000000:scalingPolicy:u:autoScalingGroupName/g:policyName/p"
	var fired []string
	e := &Evaluator{DB: db, Store: st, Clock: clock, TimeScale: 20, OnAction: func(_ *store.WriteTx, a Alarm, old string, v Verdict, arn string) error {
		fired = append(fired, old+">"+a.State)
		if arn != policy || v.Value != 90 {
			t.Errorf("action %s with %v", arn, v.Value)
		}
		return nil
	}}
	err = db.Update(func(w *store.WriteTx) error {
		_, err := PutAlarm(w, Alarm{Scope: sc, Name: "high", Namespace: "AWS/EC2", MetricName: "CPUUtilization", Dimensions: map[string]string{"AutoScalingGroupName": "g"}, Statistic: "Average",
			Period: 60, EvaluationPeriods: 3, Threshold: 50, Comparison: "GreaterThanThreshold", ActionsEnabled: true, AlarmActions: []string{policy}}, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	feed := func(v float64, periods int) {
		for range periods * 3 {
			if now.Unix()%3 == 0 { // two instances publish what they did in the last 3 s
				for range 2 {
					if err := st.Put(sc, []Datum{{Namespace: "AWS/EC2", Name: "CPUUtilization", Dimensions: map[string]string{"AutoScalingGroupName": "g"}, Unit: "Percent", Timestamp: now.Add(-3 * time.Second), Value: v, HighResolution: true}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			e.Step()
			now = now.Add(500 * time.Millisecond)
			e.Step()
			now = now.Add(500 * time.Millisecond)
		}
	}
	state := func() string { a, _ := Alarms.Get(db.Read(), sc.Key("high")); return a.State }
	feed(10, 5)
	if state() != StateOK || len(fired) != 0 {
		t.Fatalf("quiet: %s, fired %v", state(), fired)
	}
	feed(90, 6)
	if state() != StateAlarm {
		t.Fatalf("after load: %s", state())
	}
	if len(fired) < 2 || fired[0] != "OK>ALARM" || fired[1] != "ALARM>ALARM" {
		t.Errorf("a scaling policy is called once a period while the alarm lasts, not %v", fired)
	}
	if len(fired) > 4 {
		t.Errorf("it was called %d times in at most 4 periods", len(fired))
	}
	n := len(fired)
	feed(10, 4)
	if state() != StateOK || len(fired) > n+2 {
		t.Errorf("after the load: %s, fired %v", state(), fired[n:])
	}
}
