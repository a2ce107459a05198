package sim

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"skerry/internal/driver"
)

// Options of New.
type Options struct {
	Clock func() time.Time // default time.Now
	// Fail, when set, is asked before each call and makes it fail with the error that it returns. op is the method's name.
	Fail func(op, id string) error
	// Vitals, when set, is how a running instance fares.
	Vitals func(id string) driver.Vitals
	// CPU, when set, is the load of an instance in processors; Stats integrates it over the clock.
	CPU func(id string) float64
}

// Driver keeps records.
type Driver struct {
	o      Options
	events chan driver.Event

	mu    sync.Mutex
	insts map[string]*instance
}

type instance struct {
	spec    driver.Spec
	status  driver.Status
	console []byte
	cpu     float64 // nanoseconds up to last
	last    time.Time
}

var _ driver.Driver = (*Driver)(nil)

// New returns an empty driver.
func New(o Options) *Driver {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Driver{o: o, events: make(chan driver.Event, driver.EventQueue), insts: map[string]*instance{}}
}

// ask says whether a call may go on. mu is held.
func (d *Driver) ask(ctx context.Context, op, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.o.Fail != nil {
		return d.o.Fail(op, id)
	}
	return nil
}

// find asks and finds an instance. mu is held.
func (d *Driver) find(ctx context.Context, op, id string) (*instance, error) {
	if err := d.ask(ctx, op, id); err != nil {
		return nil, err
	}
	if in := d.insts[id]; in != nil {
		return in, nil
	}
	return nil, fmt.Errorf("instance %s: %w", id, driver.ErrNotFound)
}

func (d *Driver) set(in *instance, s driver.State) {
	in.status.State = s
	driver.Emit(d.events, driver.Event{ID: in.spec.ID, State: s, At: d.o.Clock()})
}

func (d *Driver) boot(in *instance) {
	now := d.o.Clock()
	in.status = driver.Status{ID: in.spec.ID, StartedAt: now}
	in.cpu, in.last = 0, now
	in.console = fmt.Appendf(in.console, "sim: %s boots\n", in.spec.ID)
	if n := len(in.console); n > consoleMax {
		in.console = in.console[n-consoleMax:]
	}
	d.set(in, driver.Running)
}

const consoleMax = 64 << 10

func (d *Driver) end(in *instance, code int, reason string) {
	in.status.ExitCode, in.status.ExitReason = code, reason
	d.set(in, driver.Exited)
}

// Create makes a record. There is no network namespace.
func (d *Driver) Create(ctx context.Context, s driver.Spec) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ask(ctx, "Create", s.ID); err != nil || d.insts[s.ID] != nil {
		return "", err
	}
	d.insts[s.ID] = &instance{spec: s, status: driver.Status{ID: s.ID, State: driver.Created}}
	return "", nil
}

// Start makes the instance run.
func (d *Driver) Start(ctx context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, err := d.find(ctx, "Start", id)
	if err == nil && in.status.State != driver.Running {
		d.boot(in)
	}
	return err
}

// Stop makes it exit.
func (d *Driver) Stop(ctx context.Context, id string, force bool, timeout time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, err := d.find(ctx, "Stop", id)
	if err == nil && in.status.State == driver.Running {
		d.end(in, 0, "stopped")
	}
	return err
}

// Reboot begins a new run.
func (d *Driver) Reboot(ctx context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, err := d.find(ctx, "Reboot", id)
	if err != nil {
		return err
	}
	if in.status.State != driver.Running {
		return fmt.Errorf("instance %s is not running", id)
	}
	d.boot(in)
	return nil
}

// Destroy forgets it.
func (d *Driver) Destroy(ctx context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ask(ctx, "Destroy", id); err != nil {
		return err
	}
	delete(d.insts, id)
	return nil
}

// List returns every instance, ordered by id.
func (d *Driver) List(ctx context.Context) ([]driver.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ask(ctx, "List", ""); err != nil {
		return nil, err
	}
	out := make([]driver.Status, 0, len(d.insts))
	for _, in := range d.insts {
		out = append(out, in.status)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

// Console returns a line for each boot.
func (d *Driver) Console(ctx context.Context, id string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, err := d.find(ctx, "Console", id)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), in.console...), nil
}

// Vitals looks at a running instance; see driver.Driver.
func (d *Driver) Vitals(ctx context.Context, id string) (driver.Vitals, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, err := d.find(ctx, "Vitals", id)
	if err != nil {
		return driver.Vitals{}, err
	}
	if in.status.State != driver.Running {
		return driver.Vitals{}, fmt.Errorf("instance %s is not running", id)
	}
	if d.o.Vitals != nil {
		return d.o.Vitals(id), nil
	}
	return driver.Vitals{}, nil
}

// Stats returns CPU time as Options.CPU has it, and no network traffic.
func (d *Driver) Stats(ctx context.Context, id string) (driver.Stats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in, err := d.find(ctx, "Stats", id)
	if err != nil {
		return driver.Stats{}, err
	}
	if in.status.State != driver.Running {
		return driver.Stats{}, fmt.Errorf("instance %s is not running", id)
	}
	now := d.o.Clock()
	if d.o.CPU != nil {
		in.cpu += d.o.CPU(id) * float64(now.Sub(in.last))
	}
	in.last = now
	limit := uint64(in.spec.MemoryMiB) << 20
	return driver.Stats{CPUNanos: uint64(in.cpu), MemoryBytes: limit / 10, MemoryLimit: limit}, nil
}

// Events returns the driver's one event channel.
func (d *Driver) Events() <-chan driver.Event { return d.events }

// Exit makes a running instance end by itself, as a crash or a poweroff inside it would. It reports whether it ran.
func (d *Driver) Exit(id string, code int, reason string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.insts[id]
	if in == nil || in.status.State != driver.Running {
		return false
	}
	d.end(in, code, reason)
	return true
}
