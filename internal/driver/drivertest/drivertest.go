package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"skerry/internal/driver"
)

// Rig is what the suite needs of a driver under test.
type Rig struct {
	Driver driver.Driver
	// Spec returns a spec of an image whose init runs until it is stopped. n tells instances apart.
	Spec func(n int) driver.Spec
	// Reopen gives the driver up as a crash of the control plane would and opens another on the same data; nil when the
	// driver keeps nothing.
	Reopen func() driver.Driver
	// Crash makes a running instance end by itself; nil when the driver has no way.
	Crash func(id string)
}

const patience = 20 * time.Second

// Run checks every promise of the driver interface. Each check makes its own instances and destroys them.
func Run(t *testing.T, r Rig) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	s := &suite{ctx: ctx, Rig: r}
	t.Run("absent", s.absent)
	t.Run("life", s.life)
	t.Run("idempotent", s.idempotent)
	t.Run("reboot", s.reboot)
	t.Run("stats", s.stats)
	if s.Crash != nil {
		t.Run("ends by itself", s.crash)
	}
	t.Run("destroy while running", s.destroyRunning)
	t.Run("many at once", s.many)
	if s.Reopen != nil {
		t.Run("adoption", s.adopt)
	}
}

type suite struct {
	Rig
	ctx context.Context
	mu  sync.Mutex
	n   int
}

func (s *suite) spec(t *testing.T) driver.Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	sp := s.Spec(s.n)
	t.Cleanup(func() {
		if err := s.Driver.Destroy(context.Background(), sp.ID); err != nil {
			t.Errorf("destroying %s: %v", sp.ID, err)
		}
	})
	return sp
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// status returns the row of an instance, ok=false when List doesn't have it.
func (s *suite) status(t *testing.T, id string) (driver.Status, bool) {
	t.Helper()
	list, err := s.Driver.List(s.ctx)
	must(t, err)
	for i, st := range list {
		if i > 0 && list[i-1].ID >= st.ID {
			t.Errorf("List is not ordered by id: %s before %s", list[i-1].ID, st.ID)
		}
	}
	for _, st := range list {
		if st.ID == id {
			return st, true
		}
	}
	return driver.Status{}, false
}

func (s *suite) want(t *testing.T, id string, want driver.State) driver.Status {
	t.Helper()
	st, ok := s.status(t, id)
	if !ok || st.State != want {
		t.Fatalf("%s is %+v (listed: %v), want %s", id, st, ok, want)
	}
	return st
}

func (s *suite) await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// drain empties the event queue and reports whether a matching event was in it.
func (s *suite) drain(id string, state driver.State) (found bool) {
	for {
		select {
		case e := <-s.Driver.Events():
			found = found || e.ID == id && e.State == state
		default:
			return found
		}
	}
}

func (s *suite) absent(t *testing.T) {
	id := s.Spec(999).ID
	for op, err := range map[string]error{
		"Start":  s.Driver.Start(s.ctx, id),
		"Stop":   s.Driver.Stop(s.ctx, id, true, 0),
		"Reboot": s.Driver.Reboot(s.ctx, id),
	} {
		if !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("%s of an absent instance: %v, want ErrNotFound", op, err)
		}
	}
	if _, err := s.Driver.Console(s.ctx, id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Console of an absent instance: %v, want ErrNotFound", err)
	}
	if _, err := s.Driver.Stats(s.ctx, id); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("Stats of an absent instance: %v, want ErrNotFound", err)
	}
	if err := s.Driver.Destroy(s.ctx, id); err != nil {
		t.Errorf("Destroy of an absent instance: %v, want success", err)
	}
	if _, ok := s.status(t, id); ok {
		t.Error("an absent instance is listed")
	}
}

func (s *suite) life(t *testing.T) {
	sp := s.spec(t)
	_, err := s.Driver.Create(s.ctx, sp)
	must(t, err)
	s.want(t, sp.ID, driver.Created)
	before := time.Now().Add(-time.Second)
	must(t, s.Driver.Start(s.ctx, sp.ID))
	st := s.want(t, sp.ID, driver.Running)
	if st.StartedAt.Before(before) {
		t.Errorf("started at %v, before Start was called", st.StartedAt)
	}
	if !s.drain(sp.ID, driver.Running) {
		t.Error("no event says that the instance runs")
	}
	s.await(t, "console output", func() bool { b, err := s.Driver.Console(s.ctx, sp.ID); return err == nil && len(b) > 0 })
	must(t, s.Driver.Stop(s.ctx, sp.ID, false, 10*time.Second))
	st = s.want(t, sp.ID, driver.Exited)
	if st.ExitReason != "stopped" {
		t.Errorf("the reason of a stop is %q, want stopped", st.ExitReason)
	}
	s.await(t, "the event of the exit", func() bool { return s.drain(sp.ID, driver.Exited) })
	must(t, s.Driver.Start(s.ctx, sp.ID))
	again := s.want(t, sp.ID, driver.Running)
	if !again.StartedAt.After(st.StartedAt) {
		t.Errorf("the second run started at %v, the first at %v", again.StartedAt, st.StartedAt)
	}
	must(t, s.Driver.Stop(s.ctx, sp.ID, true, 0))
	s.want(t, sp.ID, driver.Exited)
	must(t, s.Driver.Destroy(s.ctx, sp.ID))
	if _, ok := s.status(t, sp.ID); ok {
		t.Error("a destroyed instance is listed")
	}
}

func (s *suite) idempotent(t *testing.T) {
	sp := s.spec(t)
	ns, err := s.Driver.Create(s.ctx, sp)
	must(t, err)
	again, err := s.Driver.Create(s.ctx, sp)
	must(t, err)
	if ns != again {
		t.Errorf("the second Create says namespace %q, the first %q", again, ns)
	}
	must(t, s.Driver.Start(s.ctx, sp.ID))
	first := s.want(t, sp.ID, driver.Running)
	must(t, s.Driver.Start(s.ctx, sp.ID))
	if again, err = s.Driver.Create(s.ctx, sp); err != nil || again != ns {
		t.Errorf("Create of a running instance: %q %v, want %q", again, err, ns)
	}
	if st := s.want(t, sp.ID, driver.Running); !st.StartedAt.Equal(first.StartedAt) {
		t.Error("a repeated Start began another run")
	}
	for range 2 {
		must(t, s.Driver.Stop(s.ctx, sp.ID, true, 0))
		s.want(t, sp.ID, driver.Exited)
	}
	for range 2 {
		must(t, s.Driver.Destroy(s.ctx, sp.ID))
	}
}

func (s *suite) start(t *testing.T) driver.Spec {
	t.Helper()
	sp := s.spec(t)
	_, err := s.Driver.Create(s.ctx, sp)
	must(t, err)
	must(t, s.Driver.Start(s.ctx, sp.ID))
	return sp
}

func (s *suite) reboot(t *testing.T) {
	sp := s.start(t)
	first := s.want(t, sp.ID, driver.Running)
	must(t, s.Driver.Reboot(s.ctx, sp.ID))
	if st := s.want(t, sp.ID, driver.Running); !st.StartedAt.After(first.StartedAt) {
		t.Errorf("after the reboot the run started at %v, before it at %v", st.StartedAt, first.StartedAt)
	}
	must(t, s.Driver.Stop(s.ctx, sp.ID, true, 0))
	if err := s.Driver.Reboot(s.ctx, sp.ID); err == nil {
		t.Error("Reboot of an instance that doesn't run succeeds")
	}
}

func (s *suite) stats(t *testing.T) {
	sp := s.start(t)
	st, err := s.Driver.Stats(s.ctx, sp.ID)
	must(t, err)
	if want := uint64(sp.MemoryMiB) << 20; st.MemoryLimit != want {
		t.Errorf("memory limit %d, want %d", st.MemoryLimit, want)
	}
	if sp.MemoryMiB > 0 && (st.MemoryBytes == 0 || st.MemoryBytes > st.MemoryLimit) {
		t.Errorf("memory in use %d of %d", st.MemoryBytes, st.MemoryLimit)
	}
	later, err := s.Driver.Stats(s.ctx, sp.ID)
	must(t, err)
	if later.CPUNanos < st.CPUNanos {
		t.Errorf("CPU time runs backwards: %d after %d", later.CPUNanos, st.CPUNanos)
	}
	if v, err := s.Driver.Vitals(s.ctx, sp.ID); err != nil || v != (driver.Vitals{}) {
		t.Errorf("its vitals are %+v, %v", v, err)
	}
	must(t, s.Driver.Stop(s.ctx, sp.ID, true, 0))
	if _, err := s.Driver.Vitals(s.ctx, sp.ID); err == nil {
		t.Error("an instance that doesn't run has vitals")
	}
	if _, err := s.Driver.Stats(s.ctx, sp.ID); err == nil {
		t.Error("an instance that doesn't run has stats")
	}
}

func (s *suite) crash(t *testing.T) {
	sp := s.start(t)
	s.drain(sp.ID, driver.Running)
	s.Crash(sp.ID)
	s.await(t, "the event of the exit", func() bool { return s.drain(sp.ID, driver.Exited) })
	st := s.want(t, sp.ID, driver.Exited)
	if st.ExitReason == "" || st.ExitReason == "stopped" {
		t.Errorf("the reason of an end by itself is %q", st.ExitReason)
	}
	must(t, s.Driver.Start(s.ctx, sp.ID))
	s.want(t, sp.ID, driver.Running)
}

func (s *suite) destroyRunning(t *testing.T) {
	sp := s.start(t)
	must(t, s.Driver.Destroy(s.ctx, sp.ID))
	if _, ok := s.status(t, sp.ID); ok {
		t.Error("a destroyed instance is listed")
	}
	// The name can be used again, for a new instance.
	_, err := s.Driver.Create(s.ctx, sp)
	must(t, err)
	s.want(t, sp.ID, driver.Created)
}

// many runs calls for several instances, and the same calls for one instance, at the same time.
func (s *suite) many(t *testing.T) {
	const n = 6
	var wg sync.WaitGroup
	errs := make(chan error, 4*n)
	for range n {
		sp := s.spec(t)
		for range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if _, err := s.Driver.Create(s.ctx, sp); err != nil {
					errs <- fmt.Errorf("Create %s: %w", sp.ID, err)
					return
				}
				if err := s.Driver.Start(s.ctx, sp.ID); err != nil {
					errs <- fmt.Errorf("Start %s: %w", sp.ID, err)
				}
			}()
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	list, err := s.Driver.List(s.ctx)
	must(t, err)
	running := 0
	for _, st := range list {
		if st.State == driver.Running {
			running++
		}
	}
	if running != n {
		t.Errorf("%d instances run, want %d", running, n)
	}
}

func (s *suite) adopt(t *testing.T) {
	up, down, fresh := s.start(t), s.start(t), s.spec(t)
	must(t, s.Driver.Stop(s.ctx, down.ID, true, 0))
	ns, err := s.Driver.Create(s.ctx, fresh)
	must(t, err)
	before := s.want(t, up.ID, driver.Running)
	s.Driver = s.Reopen()
	after := s.want(t, up.ID, driver.Running)
	if !after.StartedAt.Equal(before.StartedAt) {
		t.Errorf("the run started at %v, after adoption it says %v", before.StartedAt, after.StartedAt)
	}
	if st := s.want(t, down.ID, driver.Exited); st.ExitReason != "stopped" {
		t.Errorf("after adoption the reason is %q, want stopped", st.ExitReason)
	}
	s.want(t, fresh.ID, driver.Created)
	if again, err := s.Driver.Create(s.ctx, fresh); err != nil || again != ns {
		t.Errorf("Create after adoption: %q %v, want %q", again, err, ns)
	}
	if _, err := s.Driver.Stats(s.ctx, up.ID); err != nil {
		t.Errorf("stats of an adopted instance: %v", err)
	}
	s.drain("", "")
	must(t, s.Driver.Stop(s.ctx, up.ID, false, 10*time.Second))
	s.await(t, "the event of an adopted instance's exit", func() bool { return s.drain(up.ID, driver.Exited) })
}
