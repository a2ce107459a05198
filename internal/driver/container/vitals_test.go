package container

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// TestVitals: an init that is stopped is a guest that can't do anything, a shim that is stopped a holder that doesn't answer.
func TestVitals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id := r.boot(t, 1)
	check := func(guest, holder bool) {
		t.Helper()
		for { // a process stops and goes on some moments after its signal
			v, err := r.Vitals(ctx, id)
			if err == nil && (v.Guest == nil) == guest && (v.Holder == nil) == holder {
				return
			}
			if err != nil {
				t.Fatalf("%+v %v, want %t %t", v, err, guest, holder)
			}
		}
	}
	check(true, true)
	r.mu.Lock()
	init := r.insts[id].pid
	r.mu.Unlock()
	for _, c := range []struct {
		pid           int
		guest, holder bool
	}{{init, false, true}, {r.shimPID(t, id), true, false}} {
		if err := syscall.Kill(c.pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		check(c.guest, c.holder)
		if err := syscall.Kill(c.pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		check(true, true)
	}
}
