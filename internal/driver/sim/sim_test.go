package sim_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"skerry/internal/driver"
	"skerry/internal/driver/drivertest"
	"skerry/internal/driver/sim"
)

// clock goes on by a millisecond at each look.
func clock() func() time.Time {
	var mu sync.Mutex
	now := time.Now()
	return func() time.Time { mu.Lock(); defer mu.Unlock(); now = now.Add(time.Millisecond); return now }
}

func TestSuite(t *testing.T) {
	d := sim.New(sim.Options{Clock: clock()})
	drivertest.Run(t, drivertest.Rig{Driver: d,
		Spec:  func(n int) driver.Spec { return driver.Spec{ID: fmt.Sprintf("i-%017x", n), MemoryMiB: 512} },
		Crash: func(id string) { d.Exit(id, 139, "exit") }})
}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	d := sim.New(sim.Options{Fail: func(op, id string) error {
		if op == "Start" && id == "i-2" {
			return boom
		}
		return nil
	}})
	for id, want := range map[string]error{"i-1": nil, "i-2": boom} {
		if _, err := d.Create(context.Background(), driver.Spec{ID: id}); err != nil {
			t.Fatal(err)
		}
		if err := d.Start(context.Background(), id); !errors.Is(err, want) {
			t.Errorf("Start %s: %v, want %v", id, err, want)
		}
	}
}

func TestCPUFollowsTheClock(t *testing.T) {
	now := time.Now()
	d := sim.New(sim.Options{Clock: func() time.Time { return now }, CPU: func(string) float64 { return 0.5 }})
	ctx := context.Background()
	if _, err := d.Create(ctx, driver.Spec{ID: "i-1"}); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(ctx, "i-1"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(10 * time.Second)
	if st, err := d.Stats(ctx, "i-1"); err != nil || st.CPUNanos != 5e9 {
		t.Errorf("%+v %v, want 5 s of CPU", st, err)
	}
}
