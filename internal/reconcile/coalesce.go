// Package reconcile has the small mechanics that level-triggered loops share: coalesced synchronisation by key and
// bounded, keyed work. It knows no domain. Goroutines are owned by the caller's context.
package reconcile

import (
	"context"
	"sync"
)

// Coalescer runs one function a key at a time and lets any number of callers wait for a run that began after they asked:
// fifty launches in one network cost two or three rounds, not fifty. Safe for concurrent use.
type Coalescer struct {
	fn func(ctx context.Context, key string) error

	mu   sync.Mutex
	keys map[string]*round
}

type round struct {
	running bool
	next    *outcome // the run that callers of now wait for
}

type outcome struct {
	done chan struct{}
	err  error
}

// NewCoalescer returns a coalescer of fn, which must read its inputs when it is called.
func NewCoalescer(fn func(ctx context.Context, key string) error) *Coalescer {
	return &Coalescer{fn: fn, keys: map[string]*round{}}
}

// Sync waits until fn has run for key, having begun after this call, and returns that run's error.
func (c *Coalescer) Sync(ctx context.Context, key string) error {
	c.mu.Lock()
	r := c.keys[key]
	if r == nil {
		r = &round{}
		c.keys[key] = r
	}
	if r.next == nil {
		r.next = &outcome{done: make(chan struct{})}
	}
	o := r.next
	if !r.running {
		r.running = true
		go c.run(ctx, key, r)
	}
	c.mu.Unlock()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Coalescer) run(ctx context.Context, key string, r *round) {
	for {
		c.mu.Lock()
		o := r.next
		if o == nil {
			r.running = false
			delete(c.keys, key)
			c.mu.Unlock()
			return
		}
		r.next = nil
		c.mu.Unlock()
		// The run outlives the caller that happened to start it: others wait for it too.
		o.err = c.fn(context.WithoutCancel(ctx), key)
		close(o.done)
	}
}

// Keyed runs work with one goroutine a key at most and a global bound. Safe for concurrent use.
type Keyed struct {
	slots chan struct{}
	mu    sync.Mutex
	busy  map[string]bool
	wg    sync.WaitGroup
}

// NewKeyed allows limit pieces of work at once.
func NewKeyed(limit int) *Keyed {
	return &Keyed{slots: make(chan struct{}, limit), busy: map[string]bool{}}
}

// Go runs fn unless work for key is under way or the bound is reached; it tells whether it took it. after runs when the
// key is free again.
func (k *Keyed) Go(key string, fn, after func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.busy[key] {
		return false
	}
	select {
	case k.slots <- struct{}{}:
	default:
		return false
	}
	k.busy[key] = true
	k.wg.Add(1)
	go func() {
		defer k.wg.Done()
		fn()
		k.mu.Lock()
		delete(k.busy, key)
		k.mu.Unlock()
		<-k.slots
		after()
	}()
	return true
}

// Wait waits for all work.
func (k *Keyed) Wait() { k.wg.Wait() }
