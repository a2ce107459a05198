package metric

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// IsComposite tells of an alarm over other alarms.
func (a Alarm) IsComposite() bool { return a.Rule != "" }

func (a Alarm) rule() (*rule, error) {
	r, err := parseRule(a.Rule, a.Scope.ARN("cloudwatch", "alarm:"))
	if err != nil {
		return nil, fault.New(fault.Invalid, "ValidationError", "Invalid alarm rule: %v.", err)
	}
	return r, nil
}

// PutComposite makes a composite alarm, or replaces one and keeps its state until it is evaluated.
func PutComposite(w *store.WriteTx, a Alarm, tags map[string]string) (Alarm, error) {
	bad := func(format string, args ...any) (Alarm, error) {
		return a, fault.New(fault.Invalid, "ValidationError", format, args...)
	}
	if strings.TrimSpace(a.Rule) == "" {
		return a, fault.New(fault.Invalid, "MissingParameter", "The parameter AlarmRule is required.")
	}
	if err := a.checkActions(); err != nil {
		return a, err
	}
	r, err := a.rule()
	if err != nil {
		return a, err
	}
	if err := a.checkSuppressor(w); err != nil {
		return a, err
	}
	a.Children = r.children(nil)
	var missing []string
	for _, c := range a.Children {
		if _, ok := Alarms.Get(w, a.Key(c)); !ok && c != a.Name {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		return bad("Could not save the composite alarm as alarms [%s] in the alarm rule do not exist", strings.Join(missing, ", "))
	}
	if slices.Contains(a.Children, a.Name) || slices.ContainsFunc(parentsFirst(w, a.Scope, a.Name), func(p Alarm) bool { return slices.Contains(a.Children, p.Name) }) {
		return bad("Could not save the composite alarm as its alarm rule would make it depend on itself")
	}
	a.Fresh = true
	if a.Suppressor != nil {
		old, _ := Alarms.Get(w, a.Key(a.Name))
		if old.suppressorName() == a.suppressorName() {
			a.Suppression = old.Suppression
		} else if s, _ := Alarms.Get(w, a.Key(a.suppressorName())); s.State == StateAlarm {
			a.hold(byAlarm, time.Time{})
		}
	}
	return put(w, a, tags)
}

// Parents are the composite alarms whose rule looks at an alarm.
func Parents(tx store.Tx, s scope.Scope, name string) []Alarm {
	return slices.Collect(Alarms.By(tx, "child", s.Key(name)))
}

// parentsFirst are all the composite alarms that depend on an alarm, each after those that it depends on.
func parentsFirst(tx store.Tx, s scope.Scope, name string) []Alarm {
	var out []Alarm
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		for _, p := range Parents(tx, s, name) {
			if !seen[p.Name] {
				seen[p.Name] = true
				visit(p.Name)
				out = append(out, p)
			}
		}
	}
	visit(name)
	slices.Reverse(out)
	return out
}

// ripple evaluates what depends on an alarm that has changed its state.
func (e *Evaluator) ripple(w *store.WriteTx, changed Alarm) error {
	moved := map[string]Alarm{changed.Name: changed}
	order := []Alarm{changed}
	for _, p := range parentsFirst(w, changed.Scope, changed.Name) {
		for _, c := range p.Children {
			by, ok := moved[c]
			if !ok {
				continue
			}
			p, _ = Alarms.Get(w, p.Key(p.Name)) // what suppresses it may have changed
			now, did, err := e.judgeComposite(w, p, &by)
			if err != nil {
				return err
			}
			if did {
				moved[p.Name] = now
				order = append(order, now)
			}
			break
		}
	}
	for _, a := range order {
		if a.State != StateAlarm {
			if err := e.suppress(w, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// judgeComposite gives a composite alarm the state that its rule says. by is the alarm that has changed, if one has.
func (e *Evaluator) judgeComposite(w *store.WriteTx, a Alarm, by *Alarm) (now Alarm, changed bool, err error) {
	r, err := a.rule()
	if err != nil {
		return a, false, err
	}
	state := StateOK
	if r.holds(func(name string) string {
		c, _ := Alarms.Get(w, a.Key(name))
		return c.State
	}) {
		state = StateAlarm
	}
	if a.Fresh {
		a.Fresh = false
		Alarms.Put(w, a)
	}
	if state == a.State {
		return a, false, nil
	}
	v := Verdict{State: state, Reason: fmt.Sprintf("%s was created and its alarm rule evaluates to %s", a.ARN, state), ReasonData: "{}"}
	if by != nil {
		v.Reason = fmt.Sprintf("%s transitioned to %s at %s", by.ARN, by.State, by.StateTransitionedAt.UTC().Format("Monday 02 January, 2006 15:04:05 UTC"))
		if b, err := json.Marshal(map[string]any{"triggeringAlarms": []any{map[string]any{"arn": by.ARN,
			"state": map[string]any{"value": by.State, "timestamp": by.StateTransitionedAt.UTC().Format(time.RFC3339Nano)}}}}); err == nil {
			v.ReasonData = string(b)
		}
	}
	now, err = e.transitionOnly(w, a, v)
	return now, true, err
}

// checkDelete refuses to delete alarms that others depend on which stay, and several composite ones at a time.
func checkDelete(tx store.Tx, s scope.Scope, names []string) error {
	composite := 0
	var held []string
	for _, name := range names {
		a, ok := Alarms.Get(tx, s.Key(name))
		if !ok {
			continue
		}
		if a.IsComposite() {
			composite++
		}
		if slices.ContainsFunc(slices.AppendSeq(Parents(tx, s, name), Alarms.By(tx, "suppressor", s.Key(name))), func(p Alarm) bool { return !slices.Contains(names, p.Name) }) {
			held = append(held, name)
		}
	}
	it := "it"
	if len(held) > 1 {
		it = "them"
	}
	switch {
	case len(held) > 0:
		return fault.New(fault.Invalid, "ValidationError", "Cannot delete %s as there are composite alarm(s) depending on %s.", strings.Join(held, ","), it)
	case composite > 1:
		return fault.New(fault.Invalid, "ValidationError", "Only one composite alarm may be deleted at a time.")
	}
	return nil
}
