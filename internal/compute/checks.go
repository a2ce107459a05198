package compute

import (
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Checks are the status checks of an instance that runs: since when they fail; zero is that they pass. System is about what
// holds the instance, Instance about whether it can be reached and its processes can do anything.
type Checks struct{ System, Instance time.Time }

// Since is when the first of the checks that fail began to; zero when they pass.
func (c Checks) Since() time.Time {
	if c.Instance.IsZero() || !c.System.IsZero() && c.System.Before(c.Instance) {
		return c.System
	}
	return c.Instance
}

// SetChecks records whether a running instance passes its checks. False: nothing has changed.
func SetChecks(w *store.WriteTx, s scope.Scope, id string, system, instance bool) bool {
	i, ok := Instances.Get(w, s.Key(id))
	if !ok || i.State != Running {
		return false
	}
	next := i.Checks
	set := func(t *time.Time, passes bool) {
		switch {
		case passes:
			*t = time.Time{}
		case t.IsZero():
			*t = w.Now()
		}
	}
	set(&next.System, system)
	set(&next.Instance, instance)
	if next == i.Checks {
		return false
	}
	i.Checks = next
	Instances.Put(w, i)
	return true
}
