package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"skerry/internal/compute"
	"skerry/internal/driver"
	"skerry/internal/identity"
	"skerry/internal/network"
	"skerry/internal/reconcile"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Bounds of the instances' loop.
const (
	workLimit     = 64               // instances that are worked on at once; drivers bound what costs CPU
	launchTries   = 3                // of a launch, before it is given up as failed
	stopTimeout   = 30 * time.Second // of a clean shutdown
	tryPause      = 500 * time.Millisecond
	maxTryPause   = 30 * time.Second
	sweepInterval = time.Minute
	checkPause    = 50 * time.Millisecond
)

// machine is what the control plane has done to an instance, beyond what its record says.
type machine struct {
	scope.Scope
	ID      string
	Reboots int
}

var machines = store.NewTable("machine", func(m machine) string { return m.Key(m.ID) })

// instances makes pending, stopping and shutting-down records real, and records what happens to instances by themselves.
type instances struct {
	c    *control
	work *reconcile.Keyed
	kick chan struct{}
	look chan struct{} // an instance may have ended unheard

	mu    sync.Mutex
	tries map[string]try
}

type try struct {
	n     int
	after time.Time
}

func newInstances(c *control) *instances {
	return &instances{c: c, work: reconcile.NewKeyed(workLimit), kick: make(chan struct{}, 1), look: make(chan struct{}, 1), tries: map[string]try{}}
}

func (l *instances) wake() { poke(l.kick) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// adopt compares the driver's instances with the records at start: it learns the namespaces of those that run, destroys
// what has no record, and lets the loop see to the rest.
func (l *instances) adopt(ctx context.Context) error {
	list, err := l.c.driver.List(ctx)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		if err := l.c.images.Prune(); err != nil {
			l.c.log.Warn("what an upgrade left of the built-in image could not be removed", "err", err)
		}
	}
	have := map[string]driver.Status{}
	for _, s := range list {
		have[s.ID] = s
	}
	status := maps.Clone(have)
	var live, lost, stray []compute.Instance
	l.c.db.View(func(tx *store.ReadTx) error {
		for i := range compute.Instances.All(tx) {
			s, ok := have[i.ID]
			if i.State != compute.Terminated {
				delete(have, i.ID)
			}
			switch i.State {
			case compute.Running:
				if ok && s.State == driver.Running {
					live = append(live, i)
				} else {
					lost = append(lost, i)
				}
			case compute.Stopping, compute.ShuttingDown: // their links stay until they are gone
				if ok {
					live = append(live, i)
				}
			case compute.Stopped:
				if ok && s.State == driver.Running {
					stray = append(stray, i)
				}
			}
		}
		return nil
	})
	for id := range have { // terminated or unknown
		if err := l.c.driver.Destroy(ctx, id); err != nil {
			l.c.log.Error("an instance without a record could not be destroyed", "instance", id, "err", err)
		}
	}
	for _, i := range live {
		ns, err := l.c.driver.Create(ctx, l.spec(i)) // of an instance that is there: only tells its namespace
		if err != nil {
			return fmt.Errorf("adopting %s: %w", i.ID, err)
		}
		l.c.networks.setNetNS(i.ID, ns)
	}
	for _, i := range lost {
		l.exited(i, status[i.ID])
	}
	for _, i := range stray { // a start that was given up
		if err := l.c.driver.Stop(ctx, i.ID, true, 0); err != nil {
			l.c.log.Error("a stopped instance runs and could not be stopped", "instance", i.ID, "err", err)
		}
	}
	return nil
}

// run works until ctx ends, and waits for the work that is under way.
func (l *instances) run(ctx context.Context) {
	defer l.work.Wait()
	for {
		changed := l.c.db.Watch(compute.Instances)
		next := time.Duration(0)
		now := l.c.clock()
		l.c.db.View(func(tx *store.ReadTx) error {
			for _, state := range []string{compute.ShuttingDown, compute.Stopping, compute.Pending, compute.Running} {
				for i := range compute.Instances.By(tx, "state", state) {
					if state == compute.Running {
						if i.Reboots == 0 {
							continue
						}
						if m, _ := machines.Get(tx, i.Key(i.ID)); m.Reboots >= i.Reboots {
							continue
						}
					}
					key := i.Key(i.ID)
					if wait := l.waiting(key, now); wait > 0 {
						if next == 0 || wait < next {
							next = wait
						}
						continue
					}
					l.work.Go(key, func() { l.step(ctx, i) }, l.wake)
				}
			}
			return nil
		})
		var again <-chan time.Time
		if next > 0 {
			again = time.After(next)
		}
		select {
		case <-changed:
		case <-l.kick:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

func (l *instances) waiting(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tries[key].after.Sub(now)
}

// step does what an instance's state asks for, and records that it is done.
func (l *instances) step(ctx context.Context, i compute.Instance) {
	key := i.Key(i.ID)
	var err error
	switch i.State {
	case compute.Pending:
		err = l.launch(ctx, i)
	case compute.Stopping:
		err = l.stop(ctx, i)
	case compute.ShuttingDown:
		err = l.destroy(ctx, i)
	case compute.Running:
		err = l.reboot(ctx, i)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		delete(l.tries, key)
		return
	}
	t := l.tries[key]
	t.n++
	t.after = l.c.clock().Add(min(maxTryPause, tryPause<<min(t.n, 10)))
	l.c.log.Error("an instance could not be brought to its state; trying again", "instance", i.ID, "state", i.State, "try", t.n, "err", err)
	if i.State == compute.Pending && t.n >= launchTries {
		if err := l.c.driver.Stop(ctx, i.ID, true, 0); err != nil && !errors.Is(err, driver.ErrNotFound) { // it may have come up without its link
			l.c.log.Error("an instance whose start failed could not be stopped", "instance", i.ID, "err", err)
		}
		l.fail(i, "Server.InternalError", "Internal error on launch")
		t = try{}
	}
	l.tries[key] = t
}

// spec is what the driver needs to know.
func (l *instances) spec(i compute.Instance) driver.Spec {
	s := driver.Spec{ID: i.ID, Layers: i.Layers, MAC: "", IP: i.PrivateIP, Index: i.Index,
		Hostname: strings.SplitN(network.PrivateDNSName(i.Region, i.PrivateIP), ".", 2)[0],
		Env:      map[string]string{"AWS_DEFAULT_REGION": i.Region}}
	if t, ok := compute.TypeByName(i.InstanceType); ok {
		s.VCPU, s.MemoryMiB = float64(t.VCPU), t.MemoryMiB
	}
	l.c.db.View(func(tx *store.ReadTx) error {
		if e, ok := network.ENIs.Get(tx, i.Key(i.ENIID)); ok {
			s.MAC = e.MAC
		}
		if sn, ok := network.Subnets.Get(tx, i.Key(i.SubnetID)); ok {
			s.Gateway, s.PrefixLen = sn.Gateway().String(), sn.Prefix().Bits()
		}
		return nil
	})
	return s
}

// launch boots a pending instance. Its metadata is there before its link is, so whoever asks gets the whole answer; the
// link is plugged in while init is on its way up.
func (l *instances) launch(ctx context.Context, i compute.Instance) error {
	if l.c.zoneOff(i.AvailabilityZone) {
		l.fail(i, "Server.InsufficientInstanceCapacity", "Insufficient capacity to satisfy instance request")
		return nil
	}
	described := make(chan error, 1)
	go func() { described <- l.c.describe(ctx, i) }() // waited for below
	ns, err := l.c.driver.Create(ctx, l.spec(i))
	if err := errors.Join(err, <-described); err != nil {
		return err
	}
	plugged := make(chan error, 1)
	go func() { plugged <- l.c.plug(ctx, i, ns) }() // waited for below
	err = l.c.driver.Start(ctx, i.ID)
	if err := errors.Join(err, <-plugged); err != nil {
		return err
	}
	if l.c.zoneOff(i.AvailabilityZone) { // the power failed meanwhile
		return l.c.driver.Stop(ctx, i.ID, true, 0)
	}
	err = l.c.db.Update(func(w *store.WriteTx) error {
		machines.Put(w, machine{Scope: i.Scope, ID: i.ID, Reboots: i.Reboots})
		compute.MarkRunning(w, i.Scope, i.ID)
		return nil
	})
	if err == nil {
		poke(l.look) // its end may have come before the record said that it runs
	}
	return err
}

// fail ends a launch or a start that cannot succeed.
func (l *instances) fail(i compute.Instance, code, detail string) {
	err := l.c.db.Update(func(w *store.WriteTx) error { compute.MarkFailed(w, i.Scope, i.ID, code, detail); return nil })
	if err != nil {
		l.c.log.Error("a failed launch could not be recorded", "instance", i.ID, "err", err)
	}
}

func (l *instances) stop(ctx context.Context, i compute.Instance) error {
	if err := l.c.driver.Stop(ctx, i.ID, i.ForceStop, stopTimeout); err != nil && !errors.Is(err, driver.ErrNotFound) {
		return err
	}
	return l.c.db.Update(func(w *store.WriteTx) error {
		compute.MarkStopped(w, i.Scope, i.ID)
		return nil
	})
}

func (l *instances) destroy(ctx context.Context, i compute.Instance) error {
	// It shuts down as a machine does, and while its link is there, so that whoever is connected hears of it.
	if err := l.c.driver.Stop(ctx, i.ID, l.c.zoneOff(i.AvailabilityZone), stopTimeout); err != nil && !errors.Is(err, driver.ErrNotFound) {
		return err
	}
	l.c.keepConsole(ctx, i.ID)
	l.c.networks.setNetNS(i.ID, "") // before its namespace is gone: the network's loop must not look for it
	if err := l.c.driver.Destroy(ctx, i.ID); err != nil {
		return err
	}
	l.c.sessions.forget(i.Key(i.ID))
	return l.c.db.Update(func(w *store.WriteTx) error {
		machines.Delete(w, i.Key(i.ID))
		identity.EndInstance(w, i.Scope, i.ID)
		compute.MarkTerminated(w, i.Scope, i.ID)
		return nil
	})
}

func (l *instances) reboot(ctx context.Context, i compute.Instance) error {
	if err := l.c.driver.Reboot(ctx, i.ID); err != nil && !errors.Is(err, driver.ErrNotFound) && !l.ended(ctx, i.ID) {
		return err
	}
	err := l.c.db.Update(func(w *store.WriteTx) error {
		machines.Put(w, machine{Scope: i.Scope, ID: i.ID, Reboots: i.Reboots})
		return nil
	})
	if err == nil {
		poke(l.look) // it may have ended before or while it was rebooted
	}
	return err
}

// ended tells whether an instance has ended, so that there is nothing to reboot.
func (l *instances) ended(ctx context.Context, id string) bool {
	list, err := l.c.driver.List(ctx)
	return err == nil && slices.ContainsFunc(list, func(s driver.Status) bool { return s.ID == id && s.State == driver.Exited })
}

// events follows the driver: an instance that ends by itself is stopped or terminated, as its shutdown behaviour says. A check
// looks at all instances, so those that come closely one after another share one.
func (l *instances) events(ctx context.Context) {
	for {
		select {
		case e := <-l.c.driver.Events():
			if e.State != driver.Exited {
				continue
			}
		case <-l.look:
		case <-ctx.Done():
			return
		}
		l.check(ctx)
		select {
		case <-time.After(checkPause):
		case <-ctx.Done():
			return
		}
	}
}

// check records which running instances the driver says have exited. It looks at all of them: events may be lost. The
// records are read first, so that an instance's earlier run isn't taken for the one that the record speaks of.
func (l *instances) check(ctx context.Context) {
	running := map[string]compute.Instance{}
	l.c.db.View(func(tx *store.ReadTx) error {
		for i := range compute.Instances.By(tx, "state", compute.Running) {
			if m, _ := machines.Get(tx, i.Key(i.ID)); m.Reboots >= i.Reboots { // else it is being rebooted
				running[i.ID] = i
			}
		}
		return nil
	})
	list, err := l.c.driver.List(ctx)
	if err != nil {
		l.c.log.Error("the driver does not list its instances", "err", err)
		return
	}
	for _, s := range list {
		if i, ok := running[s.ID]; ok && s.State == driver.Exited {
			l.exited(i, s)
		}
	}
}

// exited records that an instance, whose record said that it runs, is not running any more. A record that has gone on since
// is somebody else's to change.
func (l *instances) exited(i compute.Instance, s driver.Status) {
	err := l.c.db.Update(func(w *store.WriteTx) error {
		cur, ok := compute.Instances.Get(w, i.Key(i.ID))
		if !ok || cur.State != compute.Running || !cur.StateSince.Equal(i.StateSince) || cur.Reboots != i.Reboots {
			return nil
		}
		l.c.log.Warn("an instance ended by itself", "instance", i.ID, "reason", s.ExitReason, "exit_code", s.ExitCode)
		if s.ExitReason == "poweroff" {
			compute.MarkStopped(w, i.Scope, i.ID)
		} else {
			compute.MarkFailed(w, i.Scope, i.ID, "Server.InternalError", "the instance ended unexpectedly")
		}
		return nil
	})
	if err != nil {
		l.c.log.Error("the end of an instance could not be recorded", "instance", i.ID, "err", err)
	}
}

// sweep removes terminated records once they have been visible for AWS's hour, and looks for ends of instances that could
// not be recorded when they came.
func (l *instances) sweep(ctx context.Context) {
	for {
		select {
		case <-time.After(sweepInterval):
		case <-ctx.Done():
			return
		}
		if err := l.c.db.Update(func(w *store.WriteTx) error { compute.Sweep(w, w.Now()); return nil }); err != nil {
			l.c.log.Error("terminated instances could not be swept", "err", err)
		}
		l.c.sweepConsoles(time.Now())
		l.check(ctx)
	}
}
