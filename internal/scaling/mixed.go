package scaling

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Allocation strategies. What they mean here: prices are those of compute's catalogue, and a pool's capacity is how many
// more instances of its type fit on the machine.
const (
	Prioritized         = "prioritized"                    // on demand: the overrides in their order
	LowestPrice         = "lowest-price"                   // the cheapest by unit; spot: the least used of the cheapest pools
	CapacityOptimized   = "capacity-optimized"             // the pool with the most room
	CapacityPrioritized = "capacity-optimized-prioritized" // the overrides in their order, those with room first
	PriceCapacity       = "price-capacity-optimized"       // the cheapest pool among those with at least half of the most room
)

// Distribution says what a mixed instances policy buys. Percent is of the capacity above Base that is bought on demand.
type Distribution struct {
	OnDemand      string
	Base, Percent int
	Spot          string
	Pools         int    `json:",omitempty"` // of lowest-price
	MaxPrice      string `json:",omitempty"`
}

// onDemand is how much of a total capacity is to be on demand. Without a distribution all is.
func (m *Mixed) onDemand(total int) int {
	if m == nil || m.Distribution == nil {
		return total
	}
	d := m.Distribution
	return min(total, d.Base+(max(0, total-d.Base)*d.Percent+99)/100)
}

// Offer is one way to launch an instance in a zone.
type Offer struct {
	Priority     int // place of the override
	InstanceType string
	ImageID      string       `json:",omitempty"`
	Template     *TemplateRef `json:",omitempty"`
	From         Template     // what it launches from now; zero when that can't be resolved
	Weight       int
	Zone         string
	Price, Spot  float64 // of an hour
	Room         int     // more that fit
	NotOnDemand  bool    // the requirements' price protection leaves it out
	NotSpot      bool
}

func (o Offer) unit(spot bool) float64 {
	if spot {
		return o.Spot / float64(max(1, o.Weight))
	}
	return o.Price / float64(max(1, o.Weight))
}

// offers orders a zone's offers as the allocation strategy wants them: the launch tries one after the other.
func (d *decider) offers(zone string, spot bool) []Offer {
	if d.s.Mixed == nil {
		return nil
	}
	var out []Offer
	for _, o := range d.s.Offers {
		if o.Zone == zone && !(spot && o.NotSpot) && !(!spot && o.NotOnDemand) {
			out = append(out, o)
		}
	}
	strategy, pools := Prioritized, 0
	if x := d.s.Mixed.Distribution; x != nil {
		strategy = x.OnDemand
		if spot {
			strategy, pools = x.Spot, x.Pools
		}
	}
	cheap := func(a, b Offer) int { return cmp.Or(cmp.Compare(a.unit(spot), b.unit(spot)), a.Priority-b.Priority) }
	switch strategy {
	case Prioritized: // types that a template's requirements gave have one priority
		slices.SortStableFunc(out, func(a, b Offer) int { return cmp.Or(a.Priority-b.Priority, cheap(a, b)) })
	case LowestPrice:
		slices.SortStableFunc(out, cheap)
		if n := min(pools, len(out)); spot && n > 1 {
			slices.SortStableFunc(out[:n], func(a, b Offer) int { return d.used(a) - d.used(b) })
		}
	case CapacityOptimized:
		slices.SortStableFunc(out, func(a, b Offer) int { return cmp.Or(b.Room*b.Weight-a.Room*a.Weight, a.Priority-b.Priority) })
	case CapacityPrioritized:
		slices.SortStableFunc(out, func(a, b Offer) int { return min(1, b.Room) - min(1, a.Room) })
	case PriceCapacity:
		most := 0
		for _, o := range out {
			most = max(most, o.Room*o.Weight)
		}
		slices.SortStableFunc(out, func(a, b Offer) int {
			if x, y := a.Room*a.Weight*2 >= most, b.Room*b.Weight*2 >= most; x != y {
				return map[bool]int{true: -1, false: 1}[x]
			}
			return cheap(a, b)
		})
	}
	return out
}

// used is how many spot members a pool has, those that the plan launches included.
func (d *decider) used(o Offer) int {
	n := d.bought[o.Zone+" "+o.InstanceType]
	for i := range d.s.Members {
		if v := &d.s.Members[i]; v.Spot && v.Zone == o.Zone && v.InstanceType == o.InstanceType && d.counts(v) {
			n++
		}
	}
	return n
}

// place completes a launch: zone, subnet, purchase option and offers. It returns the capacity that it brings; false when
// launches are held back.
func (d *decider) place(zs *zones, a *Action) (int, bool) {
	z := zs.next(a.Spot)
	if z == nil {
		return 0, false
	}
	return d.placeIn(z, a), true
}

func (d *decider) placeIn(z *zone, a *Action) int {
	a.Kind, a.Zone, a.Subnet, a.Offers = Launch, z.name, z.take(), d.offers(z.name, a.Spot)
	if len(a.Offers) == 0 {
		return 1
	}
	if a.Spot {
		if d.bought == nil {
			d.bought = map[string]int{}
		}
		d.bought[a.Zone+" "+a.Offers[0].InstanceType]++
	}
	return max(1, a.Offers[0].Weight)
}

// onDemand is the capacity of the group that is bought on demand now.
func (d *decider) onDemand() int {
	n := 0
	for i := range d.s.Members {
		if v := &d.s.Members[i]; !v.Spot && d.counts(v) {
			n += v.weight()
		}
	}
	return n
}

// option keeps those members whose purchase option the group has too much of.
func (d *decider) option(pool []*View, onDemand int) []*View {
	if d.s.Mixed == nil || d.s.Mixed.Distribution == nil {
		return pool
	}
	tooMuch := onDemand > d.s.Mixed.onDemand(d.s.Group.Desired)
	if some := keep(pool, func(v *View) bool { return v.Spot != tooMuch }); len(some) > 0 {
		return some
	}
	return pool
}

// offStrategy keeps those members that the allocation strategies would launch last.
func (d *decider) offStrategy(pool []*View) []*View {
	m := d.s.Mixed
	if m == nil {
		return pool
	}
	rank := func(v *View) int64 {
		strategy := Prioritized
		if m.Distribution != nil {
			strategy = m.Distribution.OnDemand
			if v.Spot {
				strategy = m.Distribution.Spot
			}
		}
		for _, o := range d.s.Offers {
			if o.InstanceType != v.InstanceType || o.Zone != v.Zone {
				continue
			}
			switch strategy {
			case LowestPrice, PriceCapacity:
				return -int64(o.unit(v.Spot) * 1e7)
			case CapacityOptimized:
				return int64(o.Room)
			}
			return -int64(o.Priority)
		}
		return -1 << 62 // no override any more
	}
	return least(pool, rank)
}

// convert replaces a member whose purchase option the group has too much of, launch first: its policy has changed. It does
// so only where that brings the group nearer to its split: what is launched is as heavy as the member at least, so that the
// member goes for it, and no heavier than the split is off. Else weighted groups would launch and terminate for ever.
func (d *decider) convert() bool {
	g, m := d.s.Group, d.s.Mixed
	if m == nil || m.Distribution == nil || g.SuspendedProcess(ProcAZRebalance) || g.SuspendedProcess(ProcLaunch) || g.SuspendedProcess(ProcTerminate) || g.Desired == 0 {
		return false
	}
	off := m.onDemand(g.Desired) - d.onDemand() // on demand that is missing
	spot := off < 0
	if off = max(off, -off); off == 0 {
		return false
	}
	lightest := 0 // of those that may go
	for i := range d.s.Members {
		v := &d.s.Members[i]
		if v.State == InService && !v.Protected && !d.leaving[v.ID] && v.Spot != spot && (lightest == 0 || v.weight() < lightest) {
			lightest = v.weight()
		}
	}
	if lightest == 0 || lightest > off {
		return false
	}
	if d.s.Now.Before(g.Balanced) {
		d.plan.at(g.Balanced)
		return false
	}
	a := Action{Spot: spot, Rebalance: true, Why: []string{whyConverted}}
	n, ok := d.place(d.zones(), &a)
	if !ok || n < lightest || n > off {
		return false
	}
	d.plan.do(a)
	return true
}

// atRisk tells of a spot member whose interruption is announced or likely, and that the group replaces beforehand.
func (d *decider) atRisk(v *View) bool {
	return d.s.Group.CapacityRebalance && v.State == InService && v.Instance.AtRisk && !d.leaving[v.ID]
}

// relieve launches replacements of members at risk; those leave when their replacements are in service.
func (d *decider) relieve(have, extra int) {
	g := d.s.Group
	if !g.CapacityRebalance || have < g.Desired || g.SuspendedProcess(ProcLaunch) {
		return
	}
	need, why := g.Desired-have-extra, whyWarned
	for i := range d.s.Members {
		if v := &d.s.Members[i]; d.atRisk(v) {
			if need += v.weight(); !v.Instance.Interrupting {
				why = whyRelieved
			}
		}
	}
	room := g.Max + max(1, g.Max/10) - have - extra
	zs := d.zones()
	for need > 0 && room > 0 && d.launches < maxLaunches {
		a := Action{Spot: true, Rebalance: true, Why: []string{why}}
		n, ok := d.place(zs, &a)
		if !ok {
			return
		}
		d.plan.do(a)
		d.launches++
		need, room = need-n, room-n
	}
}

// The sentences of these causes; AWS does not publish its own.
const (
	whyConverted   = "an instance was launched to bring the purchase options of the group to those of its mixed instances policy."
	whyWarned      = "an instance was launched in response to a spot interruption notice."
	whyRelieved    = "an instance was launched in response to an EC2 instance rebalance recommendation."
	whyRecommended = "an instance was taken out of service in response to an EC2 instance rebalance recommendation."
	whyInterrupted = "an instance was taken out of service in response to a spot interruption notice."
)

// Offers resolves a mixed policy's overrides for the group's zones. The transaction is for the ports.
func (e *Engine) Offers(tx store.Tx, g Group, m *Mixed, zones []string) []Offer {
	overrides := m.Overrides
	if len(overrides) == 0 {
		overrides = []Override{{}}
	}
	var out []Offer
	for i, o := range overrides {
		ref := m.Template
		if o.Template != nil {
			ref = *o.Template
		}
		base := Offer{Priority: i, ImageID: o.ImageID, Template: o.Template, Weight: max(1, o.Weight)}
		if t, err := e.Compute.Resolve(tx, g.Scope, ref); err == nil {
			base.From = t
		}
		requirements := o.requirements(base.From)
		if requirements == nil {
			base.InstanceType = cmp.Or(o.InstanceType, base.From.InstanceType)
			out = append(out, base)
			continue
		}
		matches := map[string]Offer{}
		for _, spot := range []bool{false, true} {
			types, err := e.Compute.Match(tx, g.Scope, ref, o.ImageID, requirements, spot)
			if err != nil {
				continue
			}
			for _, t := range types {
				x, ok := matches[t]
				if !ok {
					x = base
					x.InstanceType, x.NotSpot, x.NotOnDemand = t, true, true
				}
				x.NotSpot, x.NotOnDemand = x.NotSpot && !spot, x.NotOnDemand && spot
				matches[t] = x
			}
		}
		for _, t := range slices.Sorted(maps.Keys(matches)) {
			out = append(out, matches[t])
		}
	}
	var types []string
	for _, o := range out {
		types = append(types, o.InstanceType)
	}
	rooms := false
	if x := m.Distribution; x != nil {
		rooms = x.Spot == CapacityOptimized || x.Spot == CapacityPrioritized || x.Spot == PriceCapacity
	}
	var all []Offer
	for _, z := range zones {
		pools := e.Compute.Pools(tx, g.Scope, types, z, rooms)
		for i, o := range out {
			p := pools[i]
			o.Zone, o.Price, o.Spot, o.Room = z, p.Price, p.Spot, p.Room
			switch g.DesiredCapacityType {
			case "vcpu":
				o.Weight = p.VCPU
			case "memory-mib":
				o.Weight = p.MemoryMiB
			}
			all = append(all, o)
		}
	}
	return all
}

// requirements are those that an override's types are chosen by: its own, else those of its template t; nil where a type is named.
func (o Override) requirements(t Template) json.RawMessage {
	if o.Requirements == nil && o.InstanceType == "" {
		return t.Requirements
	}
	return o.Requirements
}

// checkMixed checks a mixed instances policy.
func (e *Engine) checkMixed(tx store.Tx, g Group) error {
	m := g.Mixed
	weighted, named, required := 0, 0, 0
	own := slices.ContainsFunc(m.Overrides, func(o Override) bool { return o.Requirements != nil })
	overrides := m.Overrides
	if len(overrides) == 0 {
		overrides = []Override{{}}
	}
	for _, o := range overrides {
		if o.Weight > 0 {
			weighted++
		}
		ref := m.Template
		if o.Template != nil {
			ref = *o.Template
		}
		t, _ := e.Compute.Resolve(tx, g.Scope, ref)
		if requirements := o.requirements(t); requirements != nil {
			required++
			if o.InstanceType != "" {
				return invalid("InstanceType and InstanceRequirements cannot be specified together in an override.")
			}
			types, err := e.Compute.Match(tx, g.Scope, ref, o.ImageID, requirements, true)
			if err != nil {
				return err
			}
			if len(types) == 0 {
				return invalid("No instance type meets the InstanceRequirements.")
			}
			continue
		}
		named++
		if o.InstanceType != "" && e.Compute.Pools(tx, g.Scope, []string{o.InstanceType}, "", false)[0].VCPU == 0 {
			return invalid("The instance type %s of an override is not known.", o.InstanceType)
		}
	}
	if required > 0 && named > 0 {
		return invalid("The overrides of a mixed instances policy must all name instance types, or all have InstanceRequirements.")
	}
	if weighted > 0 && weighted < len(m.Overrides) {
		return invalid("You must specify a weighted capacity for all instance types, or none.")
	}
	if len(m.Overrides) > maxOverrides {
		return fault.New(fault.Limit, "LimitExceeded", "A mixed instances policy may have up to %d overrides.", maxOverrides)
	}
	if t, err := e.Compute.Resolve(tx, g.Scope, m.Template); err == nil && t.Spot {
		return invalid("Incompatible launch template: the launch template of a mixed instances policy must not request Spot Instances (InstanceMarketOptions).")
	}
	d := m.Distribution
	if d == nil {
		return nil
	}
	switch {
	case d.OnDemand != Prioritized && d.OnDemand != LowestPrice:
		return invalid("Invalid OnDemandAllocationStrategy: %s.", d.OnDemand)
	case d.OnDemand == Prioritized && own:
		return invalid("The OnDemandAllocationStrategy prioritized cannot be used with InstanceRequirements.")
	case !slices.Contains([]string{LowestPrice, CapacityOptimized, CapacityPrioritized, PriceCapacity}, d.Spot):
		return invalid("Invalid SpotAllocationStrategy: %s.", d.Spot)
	case d.Spot == CapacityPrioritized && own:
		return invalid("The SpotAllocationStrategy capacity-optimized-prioritized cannot be used with InstanceRequirements.")
	case d.Pools != 0 && d.Spot != LowestPrice:
		return invalid("SpotInstancePools option is only available with the lowest-price allocation strategy.")
	case d.Pools < 0 || d.Pools > 20:
		return invalid("SpotInstancePools must be between 1 and 20.")
	case d.Base < 0:
		return invalid("OnDemandBaseCapacity must not be negative.")
	case d.Percent < 0 || d.Percent > 100:
		return invalid("OnDemandPercentageAboveBaseCapacity must be between 0 and 100.")
	}
	if d.MaxPrice != "" {
		if v, err := strconv.ParseFloat(d.MaxPrice, 64); err != nil || v <= 0 {
			return invalid("Invalid SpotMaxPrice: %s.", d.MaxPrice)
		}
	}
	return nil
}

const maxOverrides = 40

// start launches through the group's template or configuration. Of a mixed policy's offers the first that can be launched
// is taken; which one that is shows only in trying, and a failed try may have written rows, so Compute.Launch must not.
func (e *Engine) start(w *store.WriteTx, g Group, a Action) (Instance, *Template, int, error) {
	tags := map[string]string{"aws:autoscaling:groupName": g.Name}
	for _, t := range g.Tags {
		if t.Propagate {
			tags[t.Key] = t.Value
		}
	}
	r := LaunchRequest{Group: g.Name, SubnetID: a.Subnet, Tags: tags}
	if g.LaunchConfiguration != "" {
		lc, ok := LaunchConfigurations.Get(w, g.Key(g.LaunchConfiguration))
		if !ok {
			return Instance{}, nil, 0, fault.New(fault.Invalid, "ValidationError", "Launch configuration name not found - Launch configuration %s not found", g.LaunchConfiguration)
		}
		r.Configuration = &lc.Launch
		inst, err := e.Compute.Launch(w, g.Scope, r)
		return inst, nil, 0, err
	}
	ref := g.template()
	if ref == nil {
		return Instance{}, nil, 0, fault.New(fault.Invalid, "ValidationError", "The Auto Scaling group %s has no launch template.", g.Name)
	}
	offers := a.Offers
	if g.Mixed == nil {
		offers = []Offer{{}}
	} else if a.Spot && g.Mixed.Distribution != nil {
		r.Spot, r.MaxPrice = true, g.Mixed.Distribution.MaxPrice
	}
	last := error(fault.New(fault.Capacity, "InsufficientInstanceCapacity", "There is no %s capacity available that matches your request.", map[bool]string{true: "Spot", false: "On-Demand"}[a.Spot]))
	for _, o := range offers {
		from := *ref
		if o.Template != nil {
			from = *o.Template
		}
		t, err := e.Compute.Resolve(w, g.Scope, from)
		if err != nil {
			return Instance{}, nil, 0, err
		}
		r.Template = &TemplateRef{ID: t.ID, Version: strconv.Itoa(t.Version)}
		tags["aws:ec2launchtemplate:id"], tags["aws:ec2launchtemplate:version"] = t.ID, strconv.Itoa(t.Version)
		r.Tags, r.ImageID = maps.Clone(tags), o.ImageID
		r.InstanceType = ""
		if g.Mixed != nil {
			r.InstanceType = o.InstanceType
		}
		inst, err := e.Compute.Launch(w, g.Scope, r)
		if err == nil {
			return inst, &t, o.Weight, nil
		}
		last = err
		if !fault.Is(err, fault.Capacity) && !fault.Is(err, fault.Unsupported) {
			break
		}
	}
	return Instance{}, nil, 0, last
}

// WeightOf is what a member of a mixed group counts for; 0 where nothing is weighted.
func WeightOf(g Group, offered int) int {
	if g.Mixed == nil || offered <= 1 && !slices.ContainsFunc(g.Mixed.Overrides, func(o Override) bool { return o.Weight > 0 }) && g.DesiredCapacityType != "vcpu" && g.DesiredCapacityType != "memory-mib" {
		return 0
	}
	return offered
}

// Pool is what a port tells about a type in a zone; a type that is not known has no VCPU.
type Pool struct {
	Price, Spot     float64
	Room            int
	VCPU, MemoryMiB int
}

// Market is the part of Compute that mixed instances policies need.
type Market interface {
	// Match lists the types that meet requirements (the API's JSON), for the template's architecture. Refused requirements
	// are an error.
	Match(tx store.Tx, s scope.Scope, template TemplateRef, image string, requirements json.RawMessage, spot bool) ([]string, error)
	// Pools tells about types in a zone, in their order; how much room there is only when it is asked for.
	Pools(tx store.Tx, s scope.Scope, types []string, zone string, rooms bool) []Pool
}
