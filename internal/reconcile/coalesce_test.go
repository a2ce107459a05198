package reconcile

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestManyCallersShareFewRunsThatBeganAfterThem(t *testing.T) {
	var input, runs atomic.Int64
	var seen atomic.Int64
	c := NewCoalescer(func(context.Context, string) error {
		runs.Add(1)
		v := input.Load()
		time.Sleep(2 * time.Millisecond)
		seen.Store(v)
		return nil
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			mine := input.Add(1)
			if err := c.Sync(context.Background(), "k"); err != nil {
				t.Error(err)
			}
			if s := seen.Load(); s < mine {
				t.Errorf("returned before its own input %d was read (%d)", mine, s)
			}
		})
	}
	wg.Wait()
	if n := runs.Load(); n > 10 {
		t.Errorf("%d runs for 50 callers", n)
	}
}

func TestKeyedRunsOneAtATime(t *testing.T) {
	k := NewKeyed(4)
	block := make(chan struct{})
	if !k.Go("a", func() { <-block }, func() {}) {
		t.Fatal("refused the first")
	}
	if k.Go("a", func() {}, func() {}) {
		t.Error("took a second for the same key")
	}
	close(block)
	k.Wait()
	if !k.Go("a", func() {}, func() {}) {
		t.Error("refused after the first had ended")
	}
	k.Wait()
}
