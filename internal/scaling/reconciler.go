package scaling

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Bounds of the loop.
const (
	maxRounds  = 64               // of one group in one step
	slowLook   = 30 * time.Second // the loop looks at everything at least that often
	errorPause = time.Second
)

// Reconciler keeps every group at its size. Set the fields before use; Step and Run belong to one goroutine.
type Reconciler struct {
	DB     *store.DB
	Engine *Engine
	Log    *slog.Logger
	Clock  func() time.Time // nil: time.Now; must be the DB's
}

// Watched lists the tables whose changes make the loop look.
func (r *Reconciler) Watched() []store.AnyTable {
	t := []store.AnyTable{Groups, Members, Hooks, Schedules, Refreshes, Policies}
	t = append(t, r.Engine.Compute.Tables()...)
	return append(t, r.Engine.Balancer.Tables()...)
}

func (r *Reconciler) now() time.Time {
	if r.Clock != nil {
		return r.Clock()
	}
	return time.Now()
}

// Step brings every group as far as it gets without waiting, and returns when to look again; zero means at the next
// change. An error is the first that a group met; the other groups were served.
func (r *Reconciler) Step(ctx context.Context) (time.Time, error) {
	var wake time.Time
	var first error
	soon := func(t time.Time) {
		if !t.IsZero() && (wake.IsZero() || t.Before(wake)) {
			wake = t
		}
	}
	t, err := r.schedules()
	soon(t)
	if err != nil {
		first = err
	}
	t, err = r.predictions()
	soon(t)
	if err != nil {
		r.log().Error("a forecast could not be made", "err", err)
		if first == nil {
			first = err
		}
	}
	for g := range Groups.All(r.DB.Read()) {
		if err := ctx.Err(); err != nil {
			return wake, err
		}
		t, err := r.group(g.Scope, g.Name)
		soon(t)
		if err != nil {
			r.log().Error("an Auto Scaling group could not be brought to its size", "account", g.Account, "region", g.Region, "group", g.Name, "err", err)
			soon(r.now().Add(errorPause))
			if first == nil {
				first = err
			}
		}
	}
	return wake, first
}

func (r *Reconciler) log() *slog.Logger {
	if r.Log != nil {
		return r.Log
	}
	return slog.New(slog.DiscardHandler)
}

// group repeats rounds until the group waits for something. A launch that fails spoils its round's transaction: the round
// is done again with one launch, so that those before it are kept, and then the failure is recorded.
func (r *Reconciler) group(sc scope.Scope, name string) (time.Time, error) {
	launches := maxLaunches
	for range maxRounds {
		// What needs nothing is found on a snapshot, without the writer.
		commits := r.DB.Commits()
		tx := r.DB.Read()
		g, ok := Groups.Get(tx, sc.Key(name))
		if !ok {
			return time.Time{}, nil
		}
		plan := Decide(r.Engine.situation(tx, g))
		if len(plan.Actions) == 0 {
			return plan.Wake, nil
		}
		var done []Action
		var wake time.Time
		err := r.DB.Update(func(w *store.WriteTx) (err error) {
			if r.DB.Commits() != commits { // somebody else was here meanwhile
				if g, ok = Groups.Get(w, sc.Key(name)); !ok {
					return nil
				}
				plan = Decide(r.Engine.situation(w, g))
			}
			done, err = r.Engine.carryOut(w, g, plan, launches)
			wake = plan.Wake
			return err
		})
		if le, ok := isLaunchError(err); ok {
			if launches > 1 {
				launches = 1
				continue
			}
			r.log().Warn("a launch failed", "account", sc.Account, "region", sc.Region, "group", name, "zone", le.action.Zone, "err", le.err)
			if err := r.DB.Update(func(w *store.WriteTx) error { r.Engine.failed(w, sc, name, le); return nil }); err != nil {
				return time.Time{}, err
			}
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
		if len(done) == 0 {
			return wake, nil
		}
		for _, a := range done {
			r.log().Info("auto scaling", "account", sc.Account, "region", sc.Region, "group", name, "action", a.Kind.String(), "instance", a.Member, "zone", a.Zone, "why", strings.Join(a.Why, " "))
		}
	}
	return r.now(), nil // more to do: the next step goes on
}

// schedules runs the scheduled actions that are due.
func (r *Reconciler) schedules() (time.Time, error) {
	var wake time.Time
	now := r.now()
	due := false
	for a := range Schedules.All(r.DB.Read()) {
		run, drop, next := a.Due(now)
		if run || drop {
			due = true
		} else if !next.IsZero() && (wake.IsZero() || next.Before(wake)) {
			wake = next
		}
		if !a.End.IsZero() && (wake.IsZero() || a.End.Before(wake)) {
			wake = a.End
		}
	}
	if !due {
		return wake, nil
	}
	err := r.DB.Update(func(w *store.WriteTx) error {
		for a := range Schedules.All(w) {
			r.Engine.runScheduled(w, a)
		}
		return nil
	})
	return now, err
}

// Run steps at every change of the tables it depends on and at every deadline, until ctx ends.
func (r *Reconciler) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := r.DB.Watch(r.Watched()...)
		wake, err := r.Step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := slowLook
		if !wake.IsZero() {
			wait = min(wait, max(0, wake.Sub(r.now())))
		}
		if err != nil {
			wait = min(wait, errorPause)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
		}
	}
}
