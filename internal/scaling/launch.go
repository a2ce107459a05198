package scaling

import (
	"fmt"
	"slices"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// maxOrdered is AWS's bound of the instances of one LaunchInstances.
const maxOrdered = 100

// orderLife is how long a client token is remembered.
const orderLife = 24 * time.Hour

// Order asks for capacity at once, in one place.
type Order struct {
	Capacity     int
	Zone, Subnet string // empty where the group has only one
	Retry        bool   // what can't be launched at once, the group is to launch when it can
}

// Ordered is what became of an order.
type Ordered struct {
	Placed []Placed
	Failed *FailedOrder `json:",omitempty"`
}

// Placed are instances of one kind that were launched.
type Placed struct {
	InstanceType, Zone, Subnet string
	Spot                       bool
	IDs                        []string
}

// FailedOrder is why an order was not carried out whole.
type FailedOrder struct {
	InstanceType, Zone, Subnet string
	Spot                       bool
	Code, Message              string
}

// order is the record of a client token that was used.
type order struct {
	scope.Scope
	Group, Token string
	Order        Order
	Result       Ordered
	At           time.Time
}

var orders = store.NewTable("scaling_order", func(o order) string { return o.Key(o.Group + ":" + o.Token) }, byGroup(func(o order) (scope.Scope, string) { return o.Scope, o.Group }))

func init() { Tables = append(Tables, orders) }

// Launch is LaunchInstances: the instances are members when it returns, and desired has grown by them. The same token with
// the same order gives the same answer.
func (e *Engine) Launch(w *store.WriteTx, s scope.Scope, group, token string, o Order) (Ordered, error) {
	g, err := openGroup(w, s, group)
	if err != nil {
		return Ordered{}, err
	}
	for _, old := range of(w, orders, s, g.Name) {
		switch {
		case w.Now().Sub(old.At) > orderLife:
			orders.Delete(w, old.Key(old.Group+":"+old.Token))
		case old.Token == token && old.Order != o:
			return Ordered{}, fault.New(fault.Invalid, "IdempotentParameterMismatch", "The client token %s was used with other parameters.", token)
		case old.Token == token:
			return old.Result, nil
		}
	}
	spot, err := g.orderable(o)
	if err != nil {
		return Ordered{}, err
	}
	// The group's zones with what they hold, down to what the order leaves.
	d := &decider{s: e.situation(w, g), leaving: map[string]bool{}}
	d.s.Group.Backoff = nil // it is asked for now
	zs := d.zones().list
	if o.Subnet != "" {
		for _, z := range zs {
			z.subnets = slices.DeleteFunc(z.subnets, func(id string) bool { return id != o.Subnet })
		}
	}
	zs = slices.DeleteFunc(zs, func(z *zone) bool { return len(z.subnets) == 0 || o.Zone != "" && z.name != o.Zone })
	switch {
	case len(zs) == 0:
		return Ordered{}, invalid("The Availability Zone or subnet of the request is not one of the Auto Scaling group %s.", g.Name)
	case len(zs) > 1:
		return Ordered{}, invalid("An Availability Zone or a subnet must be specified for an Auto Scaling group with several Availability Zones.")
	}
	var out Ordered
	x := &executor{e: e, w: w, g: g, now: w.Now()}
	from, left := g.Desired, o.Capacity
	for n := 0; left > 0 && n < maxOrdered; n++ {
		a := Action{Spot: spot}
		a.Why = []string{fmt.Sprintf("an instance was launched in response to a user request, increasing the capacity from %d to %d.", x.g.Desired, x.g.Desired+d.placeIn(zs[0], &a))}
		m, err := x.launch(a)
		if err != nil {
			if out.Failed, err = x.unordered(d, a, err); err != nil {
				return out, err
			}
			break
		}
		out.add(m)
		x.g.Desired += max(1, m.Weight)
		left -= max(1, m.Weight)
	}
	if left > 0 && o.Retry {
		x.g.reason(w, fmt.Sprintf("a user request to launch instances changed the desired capacity from %d to %d.", x.g.Desired, from+o.Capacity))
		x.g.Desired = from + o.Capacity
	}
	Groups.Put(w, x.g)
	orders.Put(w, order{Scope: s, Group: g.Name, Token: token, Order: o, Result: out, At: w.Now()})
	return out, nil
}

// orderable checks that a group can launch at once, and tells whether that is spot capacity.
func (g Group) orderable(o Order) (spot bool, err error) {
	switch {
	case g.LaunchConfiguration != "":
		return false, invalid("LaunchInstances is not supported for Auto Scaling groups that use a launch configuration. Use a launch template.")
	case g.SuspendedProcess(ProcLaunch):
		return false, invalid("Instances cannot be launched while the Launch process is suspended.")
	case o.Capacity < 1:
		return false, invalid("RequestedCapacity must be at least 1.")
	case g.Desired+o.Capacity > g.Max:
		return false, g.unsized("launch", o.Capacity)
	}
	weighted := g.Mixed != nil && slices.ContainsFunc(g.Mixed.Overrides, func(o Override) bool { return o.Weight > 0 })
	if o.Capacity > maxOrdered && !weighted {
		return false, invalid("Up to %d instances can be launched in one call.", maxOrdered)
	}
	if g.Mixed == nil || g.Mixed.Distribution == nil || g.Mixed.Distribution.Percent == 100 {
		return false, nil
	}
	if g.Mixed.Distribution.Base == 0 && g.Mixed.Distribution.Percent == 0 {
		return true, nil
	}
	return false, invalid("LaunchInstances is not supported for mixed instances policies that combine On-Demand and Spot Instances.")
}

// unordered records a launch that failed.
func (x *executor) unordered(d *decider, a Action, err error) (*FailedOrder, error) {
	le, ok := isLaunchError(err)
	if !ok {
		return nil, err
	}
	f, ok := fault.As(le.err)
	if !ok {
		return nil, err
	}
	out := &FailedOrder{InstanceType: d.s.Current.InstanceType, Zone: a.Zone, Subnet: a.Subnet, Spot: a.Spot, Code: f.Code, Message: f.Msg}
	if len(a.Offers) > 0 {
		out.InstanceType = a.Offers[0].InstanceType
	}
	act := begin(x.w, x.g, "Launching a new EC2 instance", causeOf(nil, x.now, a.Why...), a.Subnet, a.Zone, nil)
	x.g.end(x.w, act.ID, StatusFailed, failureText(f.Msg))
	return out, nil
}

func (o *Ordered) add(m Member) {
	for i, p := range o.Placed {
		if p.InstanceType == m.InstanceType && p.Zone == m.Zone && p.Subnet == m.SubnetID && p.Spot == m.Spot {
			o.Placed[i].IDs = append(p.IDs, m.ID)
			return
		}
	}
	o.Placed = append(o.Placed, Placed{InstanceType: m.InstanceType, Zone: m.Zone, Subnet: m.SubnetID, Spot: m.Spot, IDs: []string{m.ID}})
}
