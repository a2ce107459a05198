package cloud

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"skerry/internal/compute"
	"skerry/internal/store"
)

// Bounds of the status checks.
const (
	checksEvery   = time.Minute // as EC2, before the time scale
	leastChecks   = 5 * time.Second
	checksAtOnce  = 16
	checksConfirm = 2 * time.Second // one that fails is asked again
)

var errSilent = errors.New("it does not answer at its address")

// checked is what a look at a running instance found.
type checked struct{ system, instance error }

// runChecks looks at the running instances until ctx ends: whether what holds each answers (the system's check), and whether it
// answers ARP for its address and its processes can run (the instance's).
func (c *control) runChecks(ctx context.Context) {
	for pause(ctx, nil, max(checksEvery/time.Duration(c.o.TimeScale), leastChecks)) {
		c.checkInstances(ctx)
	}
}

func (c *control) checkInstances(ctx context.Context) {
	var running []compute.Instance
	c.db.View(func(tx *store.ReadTx) error {
		for i := range compute.Instances.By(tx, "state", compute.Running) {
			running = append(running, i)
		}
		return nil
	})
	found := c.lookAt(ctx, running)
	var doubt, news []compute.Instance
	for _, i := range running {
		if f := found[i.ID]; f.system != nil || f.instance != nil {
			doubt = append(doubt, i)
		}
	}
	if len(doubt) > 0 {
		if !pause(ctx, nil, checksConfirm) {
			return
		}
		for id, f := range c.lookAt(ctx, doubt) {
			found[id] = f
		}
	}
	for _, i := range running {
		if f, ok := found[i.ID]; ok && (f.system == nil != i.Checks.System.IsZero() || f.instance == nil != i.Checks.Instance.IsZero()) {
			news = append(news, i)
		}
	}
	if len(news) == 0 || ctx.Err() != nil {
		return
	}
	if err := c.db.Update(func(w *store.WriteTx) error {
		for _, i := range news {
			compute.SetChecks(w, i.Scope, i.ID, found[i.ID].system == nil, found[i.ID].instance == nil)
		}
		return nil
	}); err != nil {
		c.log.Error("status checks could not be recorded", "err", err)
		return
	}
	for _, i := range news {
		c.log.Warn("an instance's status checks changed", "instance", i.ID, "system", found[i.ID].system, "instance_check", found[i.ID].instance)
	}
}

// lookAt checks instances; one about which nothing can be said, as it has just ended, is left out.
func (c *control) lookAt(ctx context.Context, list []compute.Instance) map[string]checked {
	out := map[string]checked{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, checksAtOnce)
	for _, i := range list {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if v, err := c.driver.Vitals(ctx, i.ID); err == nil {
				mu.Lock()
				out[i.ID] = checked{v.Holder, v.Guest}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if c.fabric == nil {
		return out
	}
	vpcs := map[string]map[string]netip.Addr{}
	for _, i := range list {
		if ip, err := netip.ParseAddr(i.PrivateIP); err == nil {
			if vpcs[i.VpcID] == nil {
				vpcs[i.VpcID] = map[string]netip.Addr{}
			}
			vpcs[i.VpcID][i.ENIID] = ip
		}
	}
	silent := map[string]bool{}
	for vpc, ifaces := range vpcs {
		answered, err := c.fabric.Probe(ctx, vpc, ifaces)
		if err != nil {
			c.log.Debug("the interfaces of a VPC can't be asked", "vpc", vpc, "err", err)
			continue
		}
		for id := range ifaces {
			silent[id] = !answered[id]
		}
	}
	for _, i := range list {
		if v, ok := out[i.ID]; ok && v.instance == nil && silent[i.ENIID] {
			v.instance = errSilent
			out[i.ID] = v
		}
	}
	return out
}
