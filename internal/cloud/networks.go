package cloud

import (
	"cmp"
	"context"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"skerry/internal/compute"
	"skerry/internal/fabric"
	"skerry/internal/network"
	"skerry/internal/store"
)

// requesterELB marks load balancers' interfaces: their addresses live in the VPC's own namespace.
const requesterELB = "amazon-elb"

// networkTables are those that desiredVPC reads.
var networkTables = []store.AnyTable{network.VPCs, network.Subnets, network.RouteTables, network.InternetGateways, network.ENIs, network.SecurityGroups, compute.Instances}

// desiredVPC is a VPC's network as the state wants it; netns says where an instance's link goes, "" while it has no
// namespace. Interfaces without a place are left out. Pure, and in a fixed order: equal states give equal results.
func desiredVPC(tx store.Tx, v network.VPC, netns func(instanceID string) string) fabric.VPC {
	d := fabric.VPC{ID: v.ID, Index: v.Index, CIDRs: []netip.Prefix{netip.MustParsePrefix(v.CIDR)}, ZonePorts: map[string]uint16{}}
	_, d.HasIGW = network.VPCGateway(tx, v.Scope, v.ID)
	for i, z := range network.Zones(v.Region) {
		d.ZonePorts[z.Name] = uint16(i)
	}
	for s := range network.Subnets.By(tx, "vpc", v.Key(v.ID)) {
		d.Subnets = append(d.Subnets, fabric.Subnet{ID: s.ID, CIDR: s.Prefix(), Zone: s.AvailabilityZone, Gateway: s.Gateway(), RouteToIGW: routesOut(tx, s)})
	}
	for g := range network.SecurityGroups.By(tx, "vpc", v.Key(v.ID)) {
		fg := fabric.Group{ID: g.ID}
		for _, r := range g.Rules {
			fr := fabric.Rule{Proto: r.Protocol, FromPort: int(r.FromPort), ToPort: int(r.ToPort), GroupID: r.GroupID}
			if r.CIDRv4 != "" {
				fr.CIDR = netip.MustParsePrefix(r.CIDRv4)
			} else if r.GroupID == "" {
				continue // IPv6 ranges and prefix lists have no traffic here
			}
			if r.Egress {
				fg.Egress = append(fg.Egress, fr)
			} else {
				fg.Ingress = append(fg.Ingress, fr)
			}
		}
		d.Groups = append(d.Groups, fg)
	}
	for e := range network.ENIs.By(tx, "vpc", v.Key(v.ID)) {
		i := fabric.Interface{ID: e.ID, MAC: e.MAC, IP: netip.MustParseAddr(e.PrivateIP), SubnetID: e.SubnetID, Zone: e.AvailabilityZone,
			GroupIDs: slices.Clone(e.GroupIDs), SourceDestCheck: e.SourceDestCheck}
		if e.PublicIP != "" {
			i.PublicIP = netip.MustParseAddr(e.PublicIP)
		}
		switch {
		case e.RequesterID == requesterELB:
			i.Local = true
		case e.InstanceID != "" && e.DeviceIndex == 0:
			if i.NetNS = netns(e.InstanceID); i.NetNS == "" {
				continue // nothing to plug in yet, or any more
			}
		default:
			continue
		}
		d.Interfaces = append(d.Interfaces, i)
	}
	slices.SortFunc(d.Interfaces, func(a, b fabric.Interface) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Groups, func(a, b fabric.Group) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Subnets, func(a, b fabric.Subnet) int { return cmp.Compare(a.ID, b.ID) })
	return d
}

// routesOut tells whether a subnet's route table leads to an internet gateway.
func routesOut(tx store.Tx, s network.Subnet) bool {
	t, ok := network.SubnetRouteTable(tx, s)
	if !ok {
		return false
	}
	for _, r := range t.Routes {
		if r.GatewayID != "" && r.GatewayID != "local" && network.RouteActive(tx, t, r) {
			return true
		}
	}
	return false
}

// networks keeps the machine's VPC namespaces equal to the state. A VPC gets one with the first thing in it, and keeps it.
type networks struct {
	c *control

	mu      sync.Mutex
	netns   map[string]string     // instance → namespace path, from the driver
	applied map[string]fabric.VPC // VPC key → what the fabric last took; the id alone when that isn't known
	stop    map[string]func()     // VPC key → closes the API's listener inside
}

func (n *networks) setNetNS(instanceID, path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if path == "" {
		delete(n.netns, instanceID)
	} else {
		n.netns[instanceID] = path
	}
}

func (n *networks) netNS(instanceID string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.netns[instanceID]
}

// adopt removes the namespaces of VPCs that are gone from the state; the loop sees to the others.
func (n *networks) adopt(ctx context.Context) error {
	have, err := n.c.fabric.List(ctx)
	if err != nil {
		return err
	}
	known := map[string]string{} // id → key
	n.c.db.View(func(tx *store.ReadTx) error {
		for v := range network.VPCs.All(tx) {
			for range network.ENIs.By(tx, "vpc", v.Key(v.ID)) {
				known[v.ID] = v.Key(v.ID)
				break
			}
		}
		return nil
	})
	for _, id := range have {
		if key := known[id]; key != "" {
			n.setApplied(key, fabric.VPC{ID: id}) // there, whatever of it: to be applied, or removed with the VPC
		} else if err := n.c.fabric.Remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// sync makes one VPC's network equal to the state; the coalescer calls it, one at a time for a key.
func (n *networks) sync(ctx context.Context, key string) error {
	v, ok, want := n.want(key)
	n.mu.Lock()
	last, known := n.applied[key]
	stop := n.stop[key]
	n.mu.Unlock()
	if ok && len(want.Interfaces) == 0 && !known {
		return nil // a VPC without anything in it needs no namespace yet
	}
	if !ok {
		if !known {
			return nil
		}
		if stop != nil {
			stop()
		}
		n.mu.Lock()
		delete(n.stop, key)
		n.mu.Unlock()
		if err := n.c.fabric.Remove(ctx, last.ID); err != nil {
			return err // it stays known, so the next round removes it
		}
		n.mu.Lock()
		delete(n.applied, key)
		n.mu.Unlock()
		return nil
	}
	if !known || !reflect.DeepEqual(last, want) {
		for tries := 1; ; tries++ {
			err := n.c.fabric.Apply(ctx, want)
			if err == nil {
				break
			}
			n.setApplied(key, fabric.VPC{ID: v.ID}) // unlike any that is wanted: the next round applies again
			before := want
			if v, ok, want = n.want(key); !ok || tries == applyTries || reflect.DeepEqual(before, want) {
				return err
			} // else an instance may have gone meanwhile, which is no reason to fail those that wait for their link
		}
		n.setApplied(key, want)
	}
	if stop == nil {
		stop, err := n.c.serveInside(v)
		if err != nil {
			return err
		}
		n.mu.Lock()
		n.stop[key] = stop
		n.mu.Unlock()
	}
	return nil
}

// applyTries bounds how often a network that changes while it is applied is applied at once.
const applyTries = 5

// want reads what a VPC's network should be; not ok when it is gone.
func (n *networks) want(key string) (v network.VPC, ok bool, want fabric.VPC) {
	n.c.db.View(func(tx *store.ReadTx) error {
		if v, ok = network.VPCs.Get(tx, key); ok {
			want = desiredVPC(tx, v, n.netNS)
		}
		return nil
	})
	return v, ok, want
}

func (n *networks) setApplied(key string, v fabric.VPC) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.applied[key] = v
}

// run applies what changes, until ctx ends. Failures are tried again after a pause.
func (n *networks) run(ctx context.Context) {
	for {
		changed := n.c.db.Watch(networkTables...)
		var keys []string
		n.c.db.View(func(tx *store.ReadTx) error {
			for v := range network.VPCs.All(tx) {
				keys = append(keys, v.Key(v.ID))
			}
			return nil
		})
		n.mu.Lock()
		for k := range n.applied { // also those that are gone
			if !slices.Contains(keys, k) {
				keys = append(keys, k)
			}
		}
		n.mu.Unlock()
		retry := time.Duration(0)
		for _, k := range keys {
			if err := n.c.nets.Sync(ctx, k); err != nil && ctx.Err() == nil {
				n.c.log.Error("a VPC's network could not be applied; trying again", "vpc", k, "err", err)
				retry = retryPause
			}
		}
		if !pause(ctx, changed, retry) {
			return
		}
	}
}

// healEvery is how often the host's own rules are looked at: a firewall's reload may have flushed them.
const healEvery = 10 * time.Second

// heal puts the host's rules back when somebody has removed them, until ctx ends.
func (n *networks) heal(ctx context.Context) {
	for {
		select {
		case <-time.After(healEvery):
		case <-ctx.Done():
			return
		}
		switch healed, err := n.c.fabric.Heal(ctx); {
		case err != nil && ctx.Err() == nil:
			n.c.log.Error("the host's rules could not be put back", "err", err)
		case healed:
			n.c.log.Warn("the host's rules had been removed and were put back")
		}
	}
}

// retryPause is how long a loop waits after a failure; batchPause lets changes that come together be handled together.
const (
	retryPause = time.Second
	batchPause = 2 * time.Millisecond
)

// pause waits for a change, or for the retry if there is one, and then a moment for more changes. It tells whether the
// loop should go on.
func pause(ctx context.Context, changed <-chan struct{}, retry time.Duration) bool {
	var again <-chan time.Time
	if retry > 0 {
		again = time.After(retry)
	}
	select {
	case <-changed:
	case <-again:
	case <-ctx.Done():
		return false
	}
	select {
	case <-time.After(batchPause):
		return true
	case <-ctx.Done():
		return false
	}
}
