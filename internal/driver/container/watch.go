package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"skerry/internal/driver"
	"skerry/internal/shim"
)

func (d *Driver) state(in *instance) driver.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return in.status.State
}

// running records that init runs, tells it when that is news, and sees to it that the shim is watched.
func (d *Driver) running(in *instance, st shim.State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.status.State == driver.Exited && !st.StartedAt.After(in.status.StartedAt) {
		return // a reply that was under way when the run ended
	}
	news := in.status.State != driver.Running || in.pid != st.PID || !in.status.StartedAt.Equal(st.StartedAt)
	in.status = driver.Status{ID: in.id, State: driver.Running, StartedAt: st.StartedAt}
	in.pid, in.boots = st.PID, st.Boots
	if news {
		driver.Emit(d.events, driver.Event{ID: in.id, State: driver.Running, At: st.StartedAt})
	}
	if !in.watch && d.ctx.Err() == nil {
		in.watch = true
		d.wg.Add(1)
		go d.watchShim(in)
	}
}

// refresh reads what the files say about an instance.
func (d *Driver) refresh(in *instance) {
	if shim.Alive(in.dir) {
		var st shim.State
		if shim.ReadJSON(filepath.Join(in.dir, shim.StateFile), &st) == nil {
			d.running(in, st)
			return
		}
		// Booting or ending: the watcher follows it.
		d.mu.Lock()
		defer d.mu.Unlock()
		if !in.watch && d.ctx.Err() == nil {
			in.watch = true
			d.wg.Add(1)
			go d.watchShim(in)
		}
		return
	}
	var ex shim.Exit
	var st shim.State
	ended := shim.ReadJSON(filepath.Join(in.dir, shim.ExitFile), &ex) == nil
	switch {
	case shim.ReadJSON(filepath.Join(in.dir, shim.StateFile), &st) != nil:
		if !ended {
			return // never ran
		}
	case ended && ex.StartedAt.Equal(st.StartedAt): // the shim was killed while it recorded the end
		shim.Finish(in.dir, ex)
	default:
		// The shim died without a word: what it ran has lost its console and nobody waits for it.
		if st.PIDStart != 0 && shim.PIDStart(st.PID) == st.PIDStart {
			syscall.Kill(st.PID, syscall.SIGKILL)
		}
		if err := d.cg.removeGroups(d.cgroupPath(in.id)); err != nil {
			d.o.Log.Error("what a lost shim left could not be removed", "instance", in.id, "err", err)
		}
		ex = shim.Exit{Code: 128 + int(syscall.SIGKILL), Reason: "lost", StartedAt: st.StartedAt, At: time.Now()}
		shim.Finish(in.dir, ex)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !in.exists {
		return
	}
	news := in.status.State != driver.Exited || !in.status.StartedAt.Equal(ex.StartedAt)
	in.status = driver.Status{ID: in.id, State: driver.Exited, StartedAt: ex.StartedAt, ExitCode: ex.Code, ExitReason: ex.Reason}
	in.pid = 0
	if news {
		driver.Emit(d.events, driver.Event{ID: in.id, State: driver.Exited, At: ex.At})
	}
}

const teardownsAtOnce = 8

// Pauses of a watcher that cannot reach its shim, which is booting or ending.
const (
	watchPause    = 2 * time.Millisecond
	maxWatchPause = time.Second
)

// watchShim follows one shim until it is gone or the driver closes.
func (d *Driver) watchShim(in *instance) {
	defer d.wg.Done()
	pause := watchPause
	for d.ctx.Err() == nil && shim.Alive(in.dir) {
		shim.Watch(d.ctx, in.dir, shim.Request{Op: "watch"}, func(r shim.Reply) bool {
			pause = watchPause
			if r.Running {
				d.mu.Lock()
				live := in.exists
				d.mu.Unlock()
				if live {
					d.running(in, r.State)
				}
			}
			return true
		})
		select {
		case <-d.ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxWatchPause)
	}
	d.mu.Lock()
	in.watch = false
	d.mu.Unlock()
	if d.ctx.Err() == nil {
		// Not while a call may start another shim, whose record would be taken for the one of a lost one.
		in.op.Lock()
		d.refresh(in)
		in.op.Unlock()
	}
}

// Teardown destroys every instance of the cloud and what the driver itself made outside of the data directory.
func (d *Driver) Teardown(ctx context.Context) error {
	list, err := d.List(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(list)+2)
	var wg sync.WaitGroup
	slots := make(chan struct{}, teardownsAtOnce)
	for i, s := range list {
		wg.Add(1)
		slots <- struct{}{}
		go func() { defer func() { <-slots; wg.Done() }(); errs[i] = d.Destroy(ctx, s.ID) }()
	}
	wg.Wait()
	errs[len(list)] = d.cg.removeGroups(d.cgroupPath(""))
	if err := os.RemoveAll(filepath.Join(d.o.RunDir, "instances")); err != nil {
		errs[len(list)+1] = err
	}
	os.Remove(d.o.RunDir) // others may keep things there
	return errors.Join(errs...)
}
