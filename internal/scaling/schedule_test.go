package scaling

import (
	"strings"
	"testing"
	"time"

	"skerry/internal/store"
)

func TestNextRun(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		name      string
		a         Scheduled
		now, want string
	}{
		{"every Friday at 18", Scheduled{Recurrence: "0 18 * * 5"}, "2024-03-01T12:00:00Z", "2024-03-01T18:00:00Z"}, // a Friday
		{"the week after", Scheduled{Recurrence: "0 18 * * 5"}, "2024-03-01T18:00:00Z", "2024-03-08T18:00:00Z"},
		{"in New York, winter", Scheduled{Recurrence: "0 9 * * *", TimeZone: "America/New_York"}, "2024-03-01T12:00:00Z", "2024-03-01T14:00:00Z"},
		{"in New York, summer", Scheduled{Recurrence: "0 9 * * *", TimeZone: "America/New_York"}, "2024-07-01T12:00:00Z", "2024-07-01T13:00:00Z"},
		{"the start comes first", Scheduled{Recurrence: "0 9 * * *", Start: at("2024-05-01T00:00:00Z")}, "2024-03-01T12:00:00Z", "2024-05-01T00:00:00Z"},
		{"once", Scheduled{Start: at("2024-05-01T00:00:00Z")}, "2024-03-01T12:00:00Z", "2024-05-01T00:00:00Z"},
		{"once, over", Scheduled{Start: at("2024-02-01T00:00:00Z")}, "2024-03-01T12:00:00Z", ""},
		{"after the end", Scheduled{Recurrence: "0 9 * * *", End: at("2024-03-02T00:00:00Z")}, "2024-03-01T12:00:00Z", ""},
		{"the day on which the clock is put forward", Scheduled{Recurrence: "0 9 * * *", TimeZone: "America/New_York"}, "2024-03-09T15:00:00Z", "2024-03-10T13:00:00Z"},
		{"a time that the clock leaves out", Scheduled{Recurrence: "30 2 * * *", TimeZone: "America/New_York"}, "2024-03-09T12:00:00Z", "2024-03-11T06:30:00Z"},
		{"a time that the clock repeats", Scheduled{Recurrence: "30 1 * * *", TimeZone: "America/New_York"}, "2024-11-03T04:00:00Z", "2024-11-03T05:30:00Z"},
		{"and not again", Scheduled{Recurrence: "30 1 * * *", TimeZone: "America/New_York"}, "2024-11-03T05:30:00Z", "2024-11-04T06:30:00Z"},
		{"every hour of that night", Scheduled{Recurrence: "0 * * * *", TimeZone: "America/New_York"}, "2024-11-03T05:00:00Z", "2024-11-03T06:00:00Z"},
		{"the day after", Scheduled{Recurrence: "0 9 * * *", TimeZone: "America/New_York"}, "2024-11-02T15:00:00Z", "2024-11-03T14:00:00Z"},
		{"31 February", Scheduled{Recurrence: "0 0 31 2 *"}, "2024-03-01T12:00:00Z", ""},
	} {
		got := ""
		if n := c.a.NextRun(at(c.now)); !n.IsZero() {
			got = n.UTC().Format(time.RFC3339)
		}
		if got != c.want {
			t.Errorf("%s: %q, wanted %q", c.name, got, c.want)
		}
	}
}

func TestScheduledActionsRun(t *testing.T) {
	w := newWorld(t, 1)
	w.create(settings(1, 5), 1)
	put := func(a Scheduled) error {
		a.Scope, a.Group = here, "g"
		return w.db.Update(func(tx *store.WriteTx) error { return w.e.PutSchedule(tx, a) })
	}
	if err := put(Scheduled{Name: "once", Start: w.now.Add(10 * time.Second), Min: ptr(2)}); err != nil {
		t.Fatal(err)
	}
	if err := put(Scheduled{Name: "hourly", Recurrence: "0 * * * *", Max: ptr(10), Desired: ptr(4)}); err != nil {
		t.Fatal(err)
	}
	wantError(t, put(Scheduled{Name: "same", Start: w.now.Add(10 * time.Second), Min: ptr(2)}), "AlreadyExists", "start time")
	wantError(t, put(Scheduled{Name: "past", Start: w.now.Add(-time.Second), Min: ptr(2)}), "ValidationError", "Given start time is in the past")
	wantError(t, put(Scheduled{Name: "cron", Recurrence: "x", Min: ptr(2)}), "ValidationError", "Given recurrence string: x is invalid")
	wantError(t, put(Scheduled{Name: "cron6", Recurrence: "0 0 0 * * *", Min: ptr(2)}), "ValidationError", "is invalid")
	wantError(t, put(Scheduled{Name: "zone", Recurrence: "0 0 * * *", TimeZone: "Mars/Base", Min: ptr(2)}), "ValidationError", "time zone")
	wantError(t, put(Scheduled{Name: "none", Recurrence: "0 0 * * *"}), "ValidationError", "At least one of")
	w.run(12 * time.Second)
	if g := w.group(); g.Min != 2 || g.Desired != 2 {
		t.Fatalf("after the first action: min %d desired %d", g.Min, g.Desired)
	}
	if _, ok := Schedules.Get(w.db.Read(), here.Key("g:once")); ok {
		t.Error("an action that runs once is still there")
	}
	if !strings.Contains(w.history()[0].Cause, "a scheduled action update of AutoScalingGroup constraints to min: 2, max: 5, desired: 2 changing the desired capacity from 1 to 2.") {
		t.Errorf("cause %q", w.history()[0].Cause)
	}
	w.now = w.now.Truncate(time.Hour).Add(time.Hour)
	w.run(2 * time.Second)
	if g := w.group(); g.Max != 10 || g.Desired != 4 {
		t.Fatalf("after the hourly action: max %d desired %d", g.Max, g.Desired)
	}
	a, ok := Schedules.Get(w.db.Read(), here.Key("g:hourly"))
	if !ok || !a.Next.Equal(w.now.Truncate(time.Hour).Add(time.Hour)) {
		t.Errorf("the hourly action runs next at %v", a.Next)
	}
}

// TestAnEndedRecurrenceGoes: an action whose recurrence has no time left before its end waits for that end, and is gone then.
func TestAnEndedRecurrenceGoes(t *testing.T) {
	end := time.Date(2024, 3, 2, 8, 0, 0, 0, time.UTC)
	a := Scheduled{Recurrence: "0 9 * * *", End: end}
	if run, drop, next := a.Due(end.Add(-time.Hour)); run || drop || !next.Equal(end) {
		t.Errorf("before its end: run %v, drop %v, look again at %v", run, drop, next)
	}
	if run, drop, _ := a.Due(end); run || !drop {
		t.Errorf("at its end: run %v, drop %v", run, drop)
	}
}
