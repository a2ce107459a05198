package metric

import (
	"fmt"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/store"
)

// What suppresses the actions of a composite alarm.
const (
	byAlarm     = "Alarm"           // its suppressor is in ALARM
	byWait      = "WaitPeriod"      // it may soon be
	byExtension = "ExtensionPeriod" // it was until now
)

// maxSuppressorWait bounds the periods of a suppressor, in seconds.
const maxSuppressorWait = 86400

// Suppressor is an alarm that holds back the actions of a composite alarm while it is in ALARM, and for a time before and after.
type Suppressor struct {
	Alarm           string // as given: a name or an ARN
	Wait, Extension int    // seconds
}

// Suppression is how a composite alarm's actions are held back at the moment.
type Suppression struct {
	By, Reason string    `json:",omitempty"`
	Until      time.Time `json:",omitzero"`  // of a period
	Owed       string    `json:",omitempty"` // the state whose actions were the last that were done, while those of another one wait
}

// suppressorName is the name of the alarm that suppresses the actions, "" for none.
func (a Alarm) suppressorName() string {
	if a.Suppressor == nil {
		return ""
	}
	return strings.TrimPrefix(a.Suppressor.Alarm, a.Scope.ARN("cloudwatch", "alarm:"))
}

// checkSuppressor refuses a suppressor that can't be one.
func (a Alarm) checkSuppressor(tx store.Tx) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "ValidationError", format, args...)
	}
	s := a.Suppressor
	if s == nil {
		return nil
	}
	switch name := a.suppressorName(); {
	case strings.HasPrefix(name, "arn:"):
		return bad("ActionsSuppressor must be an alarm of this account and region, not %s", name)
	case name == a.Name:
		return bad("ActionsSuppressor must be another alarm than the composite alarm itself")
	case s.Wait < 0 || s.Extension < 0 || s.Wait > maxSuppressorWait || s.Extension > maxSuppressorWait:
		return bad("ActionsSuppressorWaitPeriod and ActionsSuppressorExtensionPeriod must be between 0 and %d seconds", maxSuppressorWait)
	default:
		if _, ok := Alarms.Get(tx, a.Key(name)); !ok {
			return bad("Could not save the composite alarm as its ActionsSuppressor %s does not exist", name)
		}
	}
	return nil
}

// hold says what holds the actions back.
func (a *Alarm) hold(by string, until time.Time) {
	why := map[string]string{byAlarm: "the alarm %s is in ALARM", byWait: "the alarm %s may go to ALARM", byExtension: "the alarm %s was in ALARM until now"}
	a.Suppression.By, a.Suppression.Until = by, until
	a.Suppression.Reason = fmt.Sprintf("Actions suppressed by "+by+": "+why[by], a.suppressorName())
}

// withhold decides whether the actions of a composite alarm that has changed its state wait, and writes that. Pure but for that.
func (e *Evaluator) withhold(w *store.WriteTx, a Alarm, old string) (Alarm, bool) {
	if a.Suppressor == nil || !a.ActionsEnabled {
		return a, false
	}
	s, _ := Alarms.Get(w, a.Key(a.suppressorName()))
	switch {
	case s.State == StateAlarm:
		a.hold(byAlarm, time.Time{})
	case a.Suppression.By != "":
	case a.Suppressor.Wait > 0:
		a.hold(byWait, w.Now().Add(e.exactly(a.Suppressor.Wait)))
	default:
		return a, false
	}
	switch a.Suppression.Owed {
	case "":
		a.Suppression.Owed = old
	case a.State: // as if nothing had been
		if a.Suppression.Owed = ""; a.Suppression.By == byWait {
			a.Suppression = Suppression{}
		}
	}
	Alarms.Put(w, a)
	return a, true
}

// exactly is a time of AWS's, as it is lived here.
func (e *Evaluator) exactly(seconds int) time.Duration {
	return time.Duration(seconds) * time.Second / time.Duration(max(1, e.TimeScale))
}

// suppress lets composite alarms follow a suppressor that has changed its state: before the change ripples on when it is to
// ALARM, else after that.
func (e *Evaluator) suppress(w *store.WriteTx, s Alarm) error {
	for a := range Alarms.By(w, "suppressor", s.Key(s.Name)) {
		switch {
		case s.State == StateAlarm:
			a.hold(byAlarm, time.Time{})
		case a.Suppression.By != byAlarm:
			continue
		case a.Suppressor.Extension > 0:
			a.hold(byExtension, w.Now().Add(e.exactly(a.Suppressor.Extension)))
		default:
			if err := e.release(w, a); err != nil {
				return err
			}
			continue
		}
		Alarms.Put(w, a)
	}
	return nil
}

// release ends what holds a composite alarm's actions back, and does those that it owes.
func (e *Evaluator) release(w *store.WriteTx, a Alarm) error {
	owed := a.Suppression.Owed
	a.Suppression = Suppression{}
	Alarms.Put(w, a)
	if owed == "" || owed == a.State || !a.ActionsEnabled {
		return nil
	}
	return e.act(w, a, owed, Verdict{State: a.State}, true)
}

// overdue tells of a composite alarm that has waited long enough.
func (a Alarm) overdue(now time.Time) bool {
	return !a.Suppression.Until.IsZero() && !now.Before(a.Suppression.Until)
}
