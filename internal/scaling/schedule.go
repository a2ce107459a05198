package scaling

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // zones of scheduled actions, whatever the machine has installed

	"github.com/robfig/cron/v3"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

// parseRecurrence reads a recurrence of five fields in a time zone ("" is UTC).
func parseRecurrence(recurrence, zone string) (cron.Schedule, *time.Location, error) {
	loc := time.UTC
	if zone != "" {
		l, err := time.LoadLocation(zone)
		if err != nil || strings.EqualFold(zone, "Local") {
			return nil, nil, fault.New(fault.Invalid, "ValidationError", "Given time zone string %s is invalid.", zone)
		}
		loc = l
	}
	bad := func() error {
		return fault.New(fault.Invalid, "ValidationError", "Given recurrence string: %s is invalid", recurrence)
	}
	if len(strings.Fields(recurrence)) != 5 || strings.HasPrefix(recurrence, "TZ=") || strings.HasPrefix(recurrence, "CRON_TZ=") {
		return nil, nil, bad()
	}
	s, err := cronParser.Parse(recurrence)
	if err != nil {
		return nil, nil, bad()
	}
	return s, loc, nil
}

// NextRun is when the action runs first after the time, its start included; zero when it never does.
func (a Scheduled) NextRun(after time.Time) time.Time {
	if a.Recurrence == "" {
		if a.Start.After(after) {
			return a.Start
		}
		return time.Time{}
	}
	s, loc, err := parseRecurrence(a.Recurrence, a.TimeZone)
	if err != nil {
		return time.Time{}
	}
	if a.Start.After(after) {
		return a.Start
	}
	next := s.Next(after.In(loc))
	// An hour that a clock put back repeats is the same hour of the day; "every hour" is meant by the clock on the wall.
	if clock := func(t time.Time) string { return t.Format("02 15:04") }; !strings.HasPrefix(strings.Fields(a.Recurrence)[1], "*") && clock(next.Add(-time.Hour).In(loc)) == clock(next) {
		next = s.Next(next)
	}
	next = next.UTC()
	if !a.End.IsZero() && next.After(a.End) || next.Year() <= 1 {
		return time.Time{}
	}
	return next
}

// Due tells what to do with a scheduled action now: run it, drop it, or look again at its next time.
func (a Scheduled) Due(now time.Time) (run, drop bool, next time.Time) {
	if !a.End.IsZero() && !now.Before(a.End) {
		return false, true, time.Time{}
	}
	if a.Next.IsZero() {
		return false, a.Recurrence == "" || a.End.IsZero(), a.End
	}
	if now.Before(a.Next) {
		return false, false, a.Next
	}
	next = a.NextRun(now)
	return true, next.IsZero() && a.Recurrence == "", next
}

// bounds are the sizes that an update leaves a group with; unset ones stay, and desired follows them.
func bounds(g Group, lo, hi, want *int) (Group, error) {
	if lo != nil {
		g.Min = *lo
	}
	if hi != nil {
		g.Max = *hi
	}
	if g.Min < 0 || g.Max < 0 || want != nil && *want < 0 {
		return g, fault.New(fault.Invalid, "ValidationError", "Sizes must not be negative.")
	}
	if g.Max < g.Min {
		return g, fault.New(fault.Invalid, "ValidationError", "Max bound, %d, must be greater than or equal to min bound, %d", g.Max, g.Min)
	}
	if want != nil {
		if *want < g.Min || *want > g.Max {
			return g, fault.New(fault.Invalid, "ValidationError", "Desired capacity:%d must be between the specified min size:%d and max size:%d", *want, g.Min, g.Max)
		}
		g.Desired = *want
		return g, nil
	}
	g.Desired = max(g.Min, min(g.Max, g.Desired))
	return g, nil
}

// PutSchedule makes or replaces a scheduled action.
func (e *Engine) PutSchedule(w *store.WriteTx, a Scheduled) error {
	g, err := openGroup(w, a.Scope, a.Group)
	if err != nil {
		return err
	}
	a.Group = g.Name
	if a.Name == "" || len(a.Name) > 255 || strings.Contains(a.Name, ":") {
		return invalid("Scheduled action name must be between 1 and 255 characters long and hold no colon.")
	}
	old, exists := Schedules.Get(w, a.Key(a.Group+":"+a.Name))
	if a.Min == nil && a.Max == nil && a.Desired == nil {
		return invalid("At least one of the parameters MinSize, MaxSize and DesiredCapacity must be specified.")
	}
	if a.Min != nil && a.Max != nil && *a.Max < *a.Min {
		return invalid("Max bound, %d, must be greater than or equal to min bound, %d", *a.Max, *a.Min)
	}
	if a.Desired != nil && (a.Min != nil && *a.Desired < *a.Min || a.Max != nil && *a.Desired > *a.Max) {
		return invalid("Desired capacity:%d must be between the specified min size:%d and max size:%d", *a.Desired, deref(a.Min, g.Min), deref(a.Max, g.Max))
	}
	if a.Recurrence == "" && a.Start.IsZero() {
		return invalid("Either a start time or a recurrence must be specified.")
	}
	if a.Recurrence != "" {
		if _, _, err := parseRecurrence(a.Recurrence, a.TimeZone); err != nil {
			return err
		}
	} else if a.TimeZone != "" {
		return invalid("A time zone can be specified with a recurrence only.")
	}
	now := w.Now()
	if !a.Start.IsZero() && a.Start.Before(now) && !(exists && a.Start.Equal(old.Start)) {
		return invalid("Given start time is in the past")
	}
	if !a.End.IsZero() && a.End.Before(now) {
		return invalid("Given end time is in the past")
	}
	if !a.End.IsZero() && !a.Start.IsZero() && !a.Start.Before(a.End) {
		return invalid("Given start time is after the end time")
	}
	n := 0
	for _, o := range of(w, Schedules, a.Scope, a.Group) {
		n++
		if o.Name != a.Name && !a.Start.IsZero() && a.Start.Equal(o.Start) {
			return fault.New(fault.Exists, "AlreadyExists", "A scheduled action with the start time %s already exists in this group.", a.Start.UTC().Format(time.RFC3339))
		}
	}
	if !exists && n >= MaxSchedules {
		return fault.New(fault.Limit, "LimitExceeded", "A group may have up to %d scheduled actions.", MaxSchedules)
	}
	a.UUID = newUUID(w.Rand())
	if exists {
		a.UUID = old.UUID
	}
	a.Next = a.NextRun(now)
	if a.Start.IsZero() {
		a.Start = a.Next // as AWS describes it
	}
	Schedules.Put(w, a)
	return nil
}

// DeleteSchedule deletes a scheduled action.
func (e *Engine) DeleteSchedule(w *store.WriteTx, s scope.Scope, group, name string) error {
	g, err := GetGroup(w, s, group)
	if err != nil {
		return err
	}
	if !Schedules.Delete(w, s.Key(g.Name+":"+name)) {
		return fault.New(fault.NotFound, "ValidationError", "Scheduled action name not found: %s", name)
	}
	return nil
}

// runScheduled runs a scheduled action if it is due.
func (e *Engine) runScheduled(w *store.WriteTx, a Scheduled) {
	run, drop, next := a.Due(w.Now())
	if run {
		if g, ok := Groups.Get(w, a.Key(a.Group)); ok && !g.Deleting && !g.SuspendedProcess(ProcScheduledActions) {
			if changed, err := a.On(g); err == nil {
				if changed.Desired != g.Desired {
					changed.reason(w, fmt.Sprintf("a scheduled action update of AutoScalingGroup constraints to min: %d, max: %d, desired: %d changing the desired capacity from %d to %d.",
						changed.Min, changed.Max, changed.Desired, g.Desired, changed.Desired))
				}
				Groups.Put(w, changed)
			}
		}
	}
	key := a.Key(a.Group + ":" + a.Name)
	switch {
	case drop:
		Schedules.Delete(w, key)
	case run:
		a.Next = next
		if !next.IsZero() {
			a.Start = next
		}
		Schedules.Put(w, a)
	}
}

// On is the group as the scheduled action wants it. Sizes that it would contradict are brought along, as an action was
// checked when it was made and the group may have changed since. Pure.
func (a Scheduled) On(g Group) (Group, error) {
	g, err := bounds(g, a.Min, a.Max, nil)
	if err == nil && a.Desired != nil {
		g.Desired = max(g.Min, min(g.Max, *a.Desired))
	}
	return g, err
}
