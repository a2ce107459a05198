package cwapi

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"skerry/internal/event"
	"skerry/internal/metric"
	"skerry/internal/store"
)

// TestEvaluation follows an alarm through its states, from data that clients publish: at a time scale of 20 a period is
// three seconds of the data, so that even a datum of low resolution must be kept by its second. The evaluator's clock is
// the test's; the rest of the time is real, since the SDK signs with it.
func TestEvaluation(t *testing.T) {
	c := newCloud(t)
	var now atomic.Int64
	var fired []string
	c.Evaluator.Clock = func() time.Time { return time.Unix(0, now.Load()) }
	c.Evaluator.TimeScale, c.TimeScale = 20, 20
	c.Evaluator.OnAction = func(_ *store.WriteTx, a metric.Alarm, _ string, v metric.Verdict, arn string) error {
		c.add(&fired, fmt.Sprintf("%s %s %v", a.State, arn, v.Value))
		return nil
	}
	at := func(t time.Time) { now.Store(t.UnixNano()); c.Evaluator.Step() }

	if err := c.DB.Update(func(w *store.WriteTx) error { event.SetSink(w, true); return nil }); err != nil {
		t.Fatal(err)
	}
	in := alarmNamed("cpu")
	in.Namespace, in.MetricName, in.Dimensions, in.TreatMissingData = aws.String("App"), aws.String("Load"), dims("Host", "a"), nil
	in.Threshold, in.EvaluationPeriods = aws.Float64(50), aws.Int32(2)
	in.AlarmActions = []string{policyARN, topicARN}
	c.alarm(in)

	t0 := metric.Floor(time.Now().Add(-time.Minute), 3*time.Second)
	for i, v := range []float64{10, 90, 91} {
		c.put("App", datum(t0.Add(time.Duration(i)*3*time.Second), v))
	}
	is := func(state types.StateValue, parts ...string) {
		t.Helper()
		a := c.one("cpu")
		if a.StateValue != state {
			t.Errorf("%s: %s", a.StateValue, *a.StateReason)
		}
		for _, p := range parts {
			if !strings.Contains(*a.StateReason, p) {
				t.Errorf("the reason %q has no %q", *a.StateReason, p)
			}
		}
	}
	at(t0.Add(7 * time.Second)) // 10 and 90 are complete
	is("OK")
	at(t0.Add(10 * time.Second))
	is("ALARM", "Threshold Crossed: 2 out of the last 2 datapoints [91.0 (", "were greater than the threshold (50.0) (minimum 2 datapoints for OK -> ALARM transition).")
	at(t0.Add(10200 * time.Millisecond)) // in the same interval: nothing happens twice
	at(t0.Add(13 * time.Second))         // the policy is invoked once more, the topic is not
	want := []string{"ALARM " + policyARN + " 91", "ALARM " + policyARN + " 91"}
	if got := c.take(&fired); !slices.Equal(got, want) {
		t.Errorf("actions %q, want %q", got, want)
	}
	topics := 0
	for _, r := range c.told() {
		if r.Topic == topicARN {
			topics++
		}
	}
	if topics != 2 { // OK and ALARM
		t.Errorf("%d messages to the topic", topics)
	}
	if _, err := c.DisableAlarmActions(c.ctx, &sdk.DisableAlarmActionsInput{AlarmNames: []string{"cpu"}}); err != nil {
		t.Fatal(err)
	}
	at(t0.Add(16 * time.Second))
	at(t0.Add(60 * time.Second))
	is("INSUFFICIENT_DATA", "Insufficient Data: 2 datapoints were unknown.")
	if got := c.take(&fired); len(got) != 0 {
		t.Errorf("disabled actions ran: %q", got)
	}
	if _, err := c.SetAlarmState(c.ctx, &sdk.SetAlarmStateInput{AlarmName: aws.String("cpu"), StateValue: "ALARM", StateReason: aws.String("a test")}); err != nil {
		t.Fatal(err)
	}
	is("ALARM", "a test")
	at(t0.Add(63 * time.Second))
	is("INSUFFICIENT_DATA") // a state that was set lasts until the next evaluation
}
