package demo

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// Options say which cloud the demo runs on and where it shows itself.
type Options struct {
	Endpoint, Region string
	KeyID, Secret    string
	TimeScale        float64 // the cloud's, to know how long its waits take
	// PowerZone switches a zone of the cloud off or on.
	PowerZone func(ctx context.Context, zone string, on bool) error
	Out       io.Writer
	Live      bool // a terminal: redraw one screen; else plain lines
}

// lookEvery is how often the demo asks the API for the state of things.
const lookEvery = 500 * time.Millisecond

// phaseLimit bounds every wait for something to happen, before the time scale.
const phaseLimit = 3 * time.Minute

// maxLog bounds the demo's own log.
const maxLog = 200

// show is the running demo.
type show struct {
	o    Options
	c    clients
	site *site
	load *load

	mu    sync.Mutex
	phase string
	log   []string
	last  Snapshot
	fresh chan struct{} // closed and replaced at each new snapshot
	fatal error
}

// Figure is one line of the closing table.
type Figure struct{ Name, Value string }

// Run plays the demo and returns nil when everything happened that should.
func Run(ctx context.Context, o Options) error {
	d := &show{o: o, c: newClients(o.Endpoint, o.Region, o.KeyID, o.Secret), fresh: make(chan struct{}), phase: "building"}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	screen := newScreen(o.Out, o.Live, cancel)
	d.say("building the reference architecture through %s", o.Endpoint)

	var wg sync.WaitGroup
	wg.Add(1)
	go func() { defer wg.Done(); d.draw(ctx, screen) }()
	figures, err := d.play(ctx, &wg)
	cancel()
	wg.Wait()
	screen.close(d.snapshot())
	if err != nil {
		return err
	}
	writeFigures(o.Out, figures)
	return nil
}

func (d *show) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, time.Now().Format("15:04:05")+" "+fmt.Sprintf(format, args...))
	if len(d.log) > maxLog {
		d.log = d.log[len(d.log)-maxLog:]
	}
}

func (d *show) enter(phase string) {
	d.mu.Lock()
	d.phase = phase
	d.mu.Unlock()
	d.say("== %s", phase)
}

func (d *show) snapshot() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.last
	s.Phase = d.phase
	s.Log = append([]string(nil), d.log...)
	return s
}

// observe looks at the cloud again and again until ctx ends. It gives up when the API fails for a whole phase.
func (d *show) observe(ctx context.Context) {
	lastGood, lastSent := time.Now(), int64(0)
	for ctx.Err() == nil {
		start := time.Now()
		s, err := look(ctx, d.c, d.site, d.o.TimeScale)
		if err != nil {
			if ctx.Err() == nil && time.Since(lastGood) > phaseLimit {
				d.mu.Lock()
				d.fatal = fmt.Errorf("the API does not answer: %w", err)
				d.mu.Unlock()
			}
		} else {
			d.mu.Lock()
			s.Sent, s.Failed, s.ByZone, s.Median = d.load.sent.Load(), d.load.failed.Load(), d.load.answers(), d.load.median()
			if dt := s.At.Sub(d.last.At).Seconds(); dt > 0 && !d.last.At.IsZero() {
				s.Rate = float64(s.Sent-lastSent) / dt
			}
			lastSent, lastGood = s.Sent, time.Now()
			d.last = s
			close(d.fresh)
			d.fresh = make(chan struct{})
			d.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(0, lookEvery-time.Since(start))):
		}
	}
}

func (d *show) draw(ctx context.Context, screen screen) {
	for ctx.Err() == nil {
		screen.show(d.snapshot())
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

// until waits for a snapshot that satisfies cond and returns it with the time that took.
func (d *show) until(ctx context.Context, what string, limit time.Duration, cond func(Snapshot) bool) (Snapshot, time.Duration, error) {
	start := time.Now()
	deadline := time.After(limit)
	for {
		d.mu.Lock()
		s, fresh, fatal := d.last, d.fresh, d.fatal
		d.mu.Unlock()
		if fatal != nil {
			return s, 0, fatal
		}
		if s.At.After(start) && cond(s) {
			took := time.Since(start)
			d.say("%s (%.1f s)", what, took.Seconds())
			return s, took, nil
		}
		select {
		case <-fresh:
		case <-ctx.Done():
			return s, 0, ctx.Err()
		case <-deadline:
			why := ""
			if w := d.load.why(); w != "" {
				why = "; failed requests: " + w
			}
			return s, 0, fmt.Errorf("gave up after %s waiting for: %s%s", limit, what, why)
		}
	}
}

// play goes through the phases and returns the figures.
func (d *show) play(ctx context.Context, wg *sync.WaitGroup) ([]Figure, error) {
	start := time.Now()
	var err error
	if d.site, err = build(ctx, d.c, d.o.Region, d.say); err != nil {
		return nil, fmt.Errorf("building the architecture: %w", err)
	}
	d.load = newLoad(d.site.albDNS, d.site.roots)
	wg.Add(2)
	go func() { defer wg.Done(); d.observe(ctx) }()
	go func() { defer wg.Done(); d.load.run(ctx) }()

	limit := phaseLimit
	two := func(s Snapshot) bool { return s.healthy() >= 2 }
	if _, _, err = d.until(ctx, "two instances healthy behind the load balancer", limit, two); err != nil {
		return nil, err
	}
	figures := []Figure{{"first API call to a healthy pair", seconds(time.Since(start))}}

	d.enter("load: the group grows")
	stopRamp := d.ramp(ctx, wg)
	grown, took, err := d.until(ctx, "the group has grown", limit, func(s Snapshot) bool { return s.healthy() >= 3 })
	stopRamp()
	if err != nil {
		return nil, err
	}
	figures = append(figures, Figure{"load to a third healthy instance", seconds(took)})

	d.enter("an instance is killed")
	victim := grown.Instances[0].ID
	n := grown.healthy()
	before := d.load.failed.Load()
	if _, err := d.c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{victim}}); err != nil {
		return nil, err
	}
	d.say("terminated %s", victim)
	if _, took, err = d.until(ctx, victim+" is replaced", limit, func(s Snapshot) bool { return !s.has(victim) && s.healthy() >= n }); err != nil {
		return nil, err
	}
	figures = append(figures, Figure{"terminate to replacement healthy", seconds(took)}, Figure{"requests failed meanwhile", fmt.Sprint(d.load.failed.Load() - before)})

	if d.o.PowerZone != nil {
		more, err := d.zonePhase(ctx, limit)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}

	d.enter("the load ends: the group shrinks")
	d.load.rate.Store(2)
	if _, took, err = d.until(ctx, "the group is back at two", 2*limit, func(s Snapshot) bool { return s.Desired == 2 && len(s.Instances) == 2 }); err != nil {
		return nil, err
	}
	figures = append(figures, Figure{"end of load to two instances", seconds(took)},
		Figure{"requests sent", fmt.Sprint(d.load.sent.Load())}, Figure{"requests failed", fmt.Sprint(d.load.failed.Load())})
	if w := d.load.why(); w != "" {
		figures = append(figures, Figure{"why they failed", w})
	}
	return figures, nil
}

// zonePhase powers the second zone off, waits until the group stands in the first, and powers it on again.
func (d *show) zonePhase(ctx context.Context, limit time.Duration) ([]Figure, error) {
	dark := d.site.zones[1]
	d.enter("zone " + dark + " loses power")
	n := d.snapshot().Desired
	before := d.load.failed.Load()
	if err := d.o.PowerZone(ctx, dark, false); err != nil {
		return nil, err
	}
	_, took, err := d.until(ctx, "all capacity stands in the other zone", limit, func(s Snapshot) bool {
		up := 0
		for _, i := range s.Instances {
			if i.Zone == dark {
				return false
			}
			if i.Target == "healthy" {
				up++
			}
		}
		return up >= min(n, s.Desired)
	})
	if err != nil {
		return nil, err
	}
	figures := []Figure{{"zone lost to full capacity in the other", seconds(took)}, {"requests failed meanwhile", fmt.Sprint(d.load.failed.Load() - before)}}
	d.enter("zone " + dark + " has power again")
	if err := d.o.PowerZone(ctx, dark, true); err != nil {
		return nil, err
	}
	_, took, err = d.until(ctx, "the group stands in both zones again", limit, func(s Snapshot) bool {
		zones := map[string]bool{}
		for _, i := range s.Instances {
			if i.Target == "healthy" {
				zones[i.Zone] = true
			}
		}
		return len(zones) == 2
	})
	if err != nil {
		return nil, err
	}
	return append(figures, Figure{"zone back to balance over both", seconds(took)}), nil
}

// ramp raises the rate until the group's CPU is well above its target, and keeps it there. It returns how to stop the
// ramp (the load stays).
func (d *show) ramp(ctx context.Context, wg *sync.WaitGroup) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	d.load.rate.Store(20)
	wg.Add(1)
	go func() { // ends with ctx
		defer wg.Done()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(2 * time.Second):
			}
			s := d.snapshot()
			if r := d.load.rate.Load(); s.CPU < cpuTarget*1.3 && s.Median < time.Second && r < maxRate {
				d.load.rate.Store(r + max(5, r/4))
			}
		}
	}()
	return cancel
}

func seconds(t time.Duration) string { return fmt.Sprintf("%.1f s", t.Seconds()) }
