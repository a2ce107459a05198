package cloud

import (
	"context"
	"fmt"
	"sync"
	"time"

	"skerry/internal/balance"
	"skerry/internal/compute"
	"skerry/internal/identity"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/store"
	"skerry/internal/zone"
	"skerry/internal/zoneplan"
)

// How long an instance's role credentials live, and how long before their end new ones are made.
const (
	renewBefore = time.Hour
	renewEvery  = 5 * time.Minute
)

// zoneTables are those that a zone's plan is built from.
var zoneTables = append([]store.AnyTable{identity.Roles, identity.InstanceProfiles, scaling.Members}, zoneplan.Tables...)

// sessions keeps the credentials that instances get for their roles. The state has them too; this is the pointer to the
// newest. Safe for concurrent use.
type sessions struct {
	c  *control
	mu sync.Mutex
	m  map[string]session // by instance key
}

type session struct {
	profile string
	p       zone.Profile
}

// profile returns the instance's profile with its role's current credentials, for zoneplan.
func (s *sessions) profile(_ store.Tx, i compute.Instance) (zone.Profile, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.m[i.Key(i.ID)]
	return x.p, ok && x.profile == i.IamInstanceProfileArn
}

// renew makes credentials for every instance of a zone with a profile that has none or old ones. It runs before the zone's
// plan is built, outside of its snapshot; the coalescer lets one run at a time for a zone.
func (s *sessions) renew(z string) {
	now := s.c.clock()
	var due []compute.Instance
	s.c.db.View(func(tx *store.ReadTx) error {
		for _, state := range []string{compute.Pending, compute.Running} {
			for i := range compute.Instances.By(tx, "state", state) {
				if i.AvailabilityZone != z || i.IamInstanceProfileArn == "" {
					continue
				}
				s.mu.Lock()
				x, ok := s.m[i.Key(i.ID)]
				s.mu.Unlock()
				if !ok || x.profile != i.IamInstanceProfileArn || x.p.Credentials == nil || x.p.Credentials.Expiration.Sub(now) < renewBefore {
					due = append(due, i)
				}
			}
		}
		return nil
	})
	for _, i := range due {
		s.issue(i)
	}
}

func (s *sessions) issue(i compute.Instance) {
	x := session{profile: i.IamInstanceProfileArn, p: zone.Profile{ARN: i.IamInstanceProfileArn, ID: i.IamInstanceProfileID}}
	err := s.c.db.Update(func(w *store.WriteTx) error {
		c, err := identity.InstanceCredentials(w, i.Scope, i.ID, i.IamInstanceProfileArn)
		if err != nil {
			return err
		}
		x.p.Role = c.Role
		x.p.Credentials = &zone.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.Secret, Token: c.SessionToken, LastUpdated: w.Now(), Expiration: c.Expiration}
		return nil
	})
	if err != nil { // a profile without a role is a state that users can make: the metadata service says so
		s.c.log.Info("an instance got no role credentials", "instance", i.ID, "profile", i.IamInstanceProfileArn, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]session{}
	}
	s.m[i.Key(i.ID)] = x
}

// forget drops the credentials of an instance that is gone.
func (s *sessions) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, key)
}

// lifecycle is the state that an instance is on its way to in its Auto Scaling group, empty outside one.
func lifecycle(tx store.Tx, i compute.Instance) string {
	m, ok := scaling.Members.Get(tx, i.Key(i.ID))
	if !ok {
		return ""
	}
	switch m.State {
	case scaling.Pending, scaling.PendingWait, scaling.PendingProceed, scaling.InService:
		return "InService"
	case scaling.Standby, scaling.EnteringStandby:
		return "Standby"
	case scaling.Detaching:
		return "Detached"
	}
	if m.Warmed() {
		g, _ := scaling.Groups.Get(tx, i.Key(m.Group))
		switch {
		case m.State == scaling.WarmedTerminating, m.State == scaling.WarmedTerminatingWait, m.State == scaling.WarmedTerminatingProceed:
			return "Warmed:Terminated"
		case g.Warm != nil:
			return "Warmed:" + g.Warm.State
		}
	}
	return "Terminated"
}

// plan is the desired state of a zone.
func (c *control) plan(z string) (d zone.Desired, err error) {
	err = c.db.View(func(tx *store.ReadTx) error {
		d, err = zoneplan.Build(tx, z, zoneplan.Options{Namespace: c.fabric.VPCNamespace, Credentials: c.sessions.profile, Lifecycle: lifecycle, Egress: c.o.Egress, Secret: c.secret})
		return err
	})
	return d, err
}

// syncZone tells a zone's data plane what to do, if that differs from what it does; the coalescer calls it.
func (c *control) syncZone(ctx context.Context, z string) error {
	if c.zoneOff(z) {
		return nil
	}
	cl, err := c.zones.client(ctx, z)
	if err != nil {
		return fmt.Errorf("the data plane of %s does not answer: %w", z, err)
	}
	c.sessions.renew(z)
	d, err := c.plan(z)
	if err != nil {
		return err
	}
	if c.zones.applied(z) == d.Version {
		return nil
	}
	if err := cl.Push(ctx, d); err != nil {
		c.zones.setApplied(z, "")
		return err
	}
	c.zones.setApplied(z, d.Version)
	return nil
}

// describe tells the zone's data plane about an instance that is about to start.
func (c *control) describe(ctx context.Context, i compute.Instance) error {
	if c.fabric == nil {
		return nil
	}
	return c.plans.Sync(ctx, i.AvailabilityZone)
}

// plug connects an instance to its network.
func (c *control) plug(ctx context.Context, i compute.Instance, ns string) error {
	if c.fabric == nil {
		return nil
	}
	c.networks.setNetNS(i.ID, ns)
	return c.nets.Sync(ctx, i.Key(i.VpcID))
}

// busyZones are the zones that have interfaces: those need a data plane.
func busyZones(tx store.Tx) []string {
	seen := map[string]bool{}
	var out []string
	for s := range network.Subnets.All(tx) {
		if s.InUse > 0 && !seen[s.AvailabilityZone] {
			seen[s.AvailabilityZone] = true
			out = append(out, s.AvailabilityZone)
		}
	}
	return out
}

// runZones tells the zones' data planes what changes until ctx ends, and listens to each. Each zone has loops of its own: one
// that hangs delays no other.
func (c *control) runZones(ctx context.Context) {
	begun := map[string]bool{}
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		changed := c.db.Watch(network.Subnets)
		var zones []string
		c.db.View(func(tx *store.ReadTx) error { zones = busyZones(tx); return nil })
		for _, z := range append(zones, c.zones.known()...) {
			if !begun[z] {
				begun[z] = true
				wg.Go(func() { c.listen(ctx, z) })
				wg.Go(func() { c.tell(ctx, z) })
			}
		}
		if !pause(ctx, changed, renewEvery) {
			return
		}
	}
}

// tell pushes what changes to one zone's data plane, until ctx ends.
func (c *control) tell(ctx context.Context, z string) {
	for {
		changed := c.db.Watch(zoneTables...)
		retry := renewEvery
		if err := c.plans.Sync(ctx, z); err != nil && ctx.Err() == nil {
			c.log.Error("a zone's data plane could not be told its state; trying again", "zone", z, "err", err)
			retry = retryPause
		}
		if !pause(ctx, changed, retry) {
			return
		}
	}
}

// listen takes over what a zone reports, as soon as it changes, until ctx ends. A data plane that is gone has no opinion:
// its observations are dropped, so that names stop pointing at its nodes.
func (c *control) listen(ctx context.Context, z string) {
	cl := c.zones.proc(z).client
	var last zone.Report
	gone := false
	for ctx.Err() == nil {
		r, err := cl.Wait(ctx, last)
		if err != nil {
			if !gone && ctx.Err() == nil && !cl.Healthy(ctx) {
				gone, last = true, zone.Report{}
				c.zones.setApplied(z, "")
				c.report(z, nil, nil)
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if gone || r.Boot != last.Boot {
			gone = false
			c.zones.setApplied(z, r.Applied) // a new life: it has what it kept on disk
			if err := c.plans.Sync(ctx, z); err != nil {
				c.log.Error("a restarted data plane could not be told its state", "zone", z, "err", err)
			}
		}
		if r.Version != last.Version || r.Boot != last.Boot {
			var obs []balance.Observation
			for _, h := range r.Health {
				obs = append(obs, balance.Observation{GroupARN: h.GroupARN, TargetID: h.TargetID, Port: int32(h.Port), State: h.State, Reason: h.Reason, Description: h.Description, Since: h.Since,
					Anomalous: h.Anomalous, Mitigated: h.Mitigated})
			}
			c.report(z, r.Serving, obs)
			for _, p := range r.Problems {
				c.log.Warn("a zone's data plane has a problem", "zone", z, "problem", p)
			}
		}
		last = r
	}
}

func (c *control) report(z string, serving []string, obs []balance.Observation) {
	if err := c.db.Update(func(w *store.WriteTx) error { balance.ApplyReport(w, z, serving, obs); return nil }); err != nil {
		c.log.Error("a zone's report could not be recorded", "zone", z, "err", err)
	}
}

// runTargets ends what is over at target groups, until ctx ends: draining targets, and those whose instance is gone.
func (c *control) runTargets(ctx context.Context) {
	for {
		changed := c.db.Watch(balance.Registrations, compute.Instances)
		var next time.Time
		err := c.db.Update(func(w *store.WriteTx) error { next = balance.Sweep(w, c.o.TimeScale); return nil })
		if err != nil && ctx.Err() == nil {
			c.log.Error("target groups could not be swept; trying again", "err", err)
			next = c.clock().Add(retryPause)
		}
		wait := time.Duration(0)
		if !next.IsZero() {
			wait = max(next.Sub(c.clock()), batchPause)
		}
		if !pause(ctx, changed, wait) {
			return
		}
	}
}
