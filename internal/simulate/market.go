package simulate

import (
	"encoding/json"
	"fmt"
	"strconv"

	"skerry/internal/compute"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// What a zone has room for, for the strategies that ask: much more than a group can use.
const (
	zoneVCPU      = 1 << 20
	zoneMemoryMiB = 4 << 20
)

// market is compute's catalogue of types, prices and room, without a cloud.
type market struct{ scaling.Compute }

// Resolve knows no launch templates: an override without a type has none.
func (market) Resolve(store.Tx, scope.Scope, scaling.TemplateRef) (scaling.Template, error) {
	return scaling.Template{}, fmt.Errorf("launch templates are not read")
}

// CheckLaunch finds nothing wrong.
func (market) CheckLaunch(*store.WriteTx, scope.Scope, scaling.LaunchRequest) error { return nil }

func (market) Match(_ store.Tx, _ scope.Scope, _ scaling.TemplateRef, _ string, requirements json.RawMessage, spot bool) ([]string, error) {
	var r compute.Requirements
	if err := json.Unmarshal(requirements, &r); err != nil {
		return nil, fmt.Errorf("InstanceRequirements cannot be read: %w", err)
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	var out []string
	for _, t := range r.Match("x86_64", spot) {
		out = append(out, t.Name)
	}
	return out, nil
}

func (market) Pools(_ store.Tx, _ scope.Scope, types []string, zone string, _ bool) []scaling.Pool {
	out := make([]scaling.Pool, len(types))
	for i, name := range types {
		if t, ok := compute.TypeByName(name); ok {
			out[i] = scaling.Pool{Price: t.Price(), Spot: t.SpotPrice(zone), VCPU: t.VCPU, MemoryMiB: t.MemoryMiB, Room: min(zoneVCPU/t.VCPU, zoneMemoryMiB/t.MemoryMiB)}
		}
	}
	return out
}

// buy works out what a mixed instances policy can launch.
func (w *world) buy() error {
	m := w.group.Mixed
	if m == nil {
		return nil
	}
	for _, o := range m.Overrides {
		if o.Requirements != nil {
			types, err := market{}.Match(nil, w.group.Scope, m.Template, "", o.Requirements, true)
			if err != nil {
				return err
			}
			if len(types) == 0 {
				return fmt.Errorf("no instance type meets the InstanceRequirements")
			}
		} else if _, ok := compute.TypeByName(o.InstanceType); !ok && o.InstanceType != "" {
			return fmt.Errorf("the instance type %s of an override is not known", o.InstanceType)
		}
	}
	var zones []string
	for _, s := range w.subnets {
		zones = append(zones, s.Zone)
	}
	w.offers = w.e.Offers(nil, w.group, m, zones)
	return nil
}

// offer is what a launch by a mixed policy gets: the first that its price allows.
func (w *world) offer(a scaling.Action) (scaling.Offer, bool) {
	if w.group.Mixed == nil {
		return scaling.Offer{}, false
	}
	for _, o := range a.Offers {
		if d := w.group.Mixed.Distribution; a.Spot && d != nil && d.MaxPrice != "" {
			if bid, err := strconv.ParseFloat(d.MaxPrice, 64); err != nil || bid < o.Spot {
				continue
			}
		}
		return o, true
	}
	w.err = fmt.Errorf("the mixed instances policy has nothing to launch in zone %s: %s", a.Zone,
		map[bool]string{true: "every spot price is above its SpotMaxPrice", false: "no override fits"}[a.Spot])
	return scaling.Offer{}, false
}

// price is what an hour of an instance costs: by the catalogue, where its type is known.
func (w *world) price(v *scaling.View) float64 {
	t, ok := compute.TypeByName(v.InstanceType)
	switch {
	case !ok:
		return w.s.Price
	case v.Spot:
		return t.SpotPrice(v.Zone)
	}
	return t.Price()
}
