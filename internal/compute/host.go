package compute

import (
	"fmt"
	"slices"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// MemoryOversubscription is how many times the host's memory the instances may be promised together: most use little of it.
const MemoryOversubscription = 4

// Host is the one record of what the machine can hold. Without the record, or with Unlimited, everything fits.
type Host struct {
	VCPU          int
	MemoryMiB     int
	Architectures []string // x86_64, arm64
	ZonesDown     []string // zones that take no instances now
	Unlimited     bool     // nothing real runs: the sim driver
}

// Hosts is the table of the one record.
var Hosts = store.NewTable("host", func(Host) string { return "host" })

// SetHost writes the record; it keeps the zones that are down.
func SetHost(w *store.WriteTx, h Host) {
	if old, ok := Hosts.Get(w, "host"); ok && h.ZonesDown == nil {
		h.ZonesDown = old.ZonesDown
	}
	Hosts.Put(w, h)
}

// GetHost reads the record.
func GetHost(tx store.Tx) Host {
	if h, ok := Hosts.Get(tx, "host"); ok {
		return h
	}
	return Host{Unlimited: true}
}

// SetZoneDown takes a zone out of service for launches and starts, or puts it back.
func SetZoneDown(w *store.WriteTx, zone string, down bool) {
	h := GetHost(w)
	h.ZonesDown = slices.DeleteFunc(slices.Clone(h.ZonesDown), func(z string) bool { return z == zone })
	if down {
		h.ZonesDown = append(h.ZonesDown, zone)
	}
	Hosts.Put(w, h)
}

// capacity tells how many more instances of a type fit in a zone, or why none can ever.
func capacity(tx store.Tx, s scope.Scope, t Type, zone string) (int, error) {
	return GetHost(tx).fit(s, t, zone, func() int { return promised(tx) })
}

// promised is the memory of the instances that there are, in MiB.
func promised(tx store.Tx) int {
	sum := 0
	for _, state := range []string{Pending, Running, Stopping} {
		for i := range Instances.By(tx, "state", state) {
			if o, ok := TypeByName(i.InstanceType); ok {
				sum += o.MemoryMiB
			}
		}
	}
	return sum
}

// Rooms tells, of each type that it is asked about, how many more instances fit in a zone.
func Rooms(tx store.Tx, s scope.Scope, zone string) func(Type) int {
	h, taken := GetHost(tx), 0
	if !h.Unlimited {
		taken = promised(tx)
	}
	return func(t Type) int {
		n, err := h.fit(s, t, zone, func() int { return taken })
		if err != nil {
			return 0
		}
		return min(n, maxIndex)
	}
}

func (h Host) fit(s scope.Scope, t Type, zone string, promised func() int) (int, error) {
	if slices.Contains(h.ZonesDown, zone) {
		return 0, insufficient(h, s, t, zone)
	}
	if h.Unlimited {
		return 1 << 30, nil
	}
	if len(h.Architectures) > 0 && !slices.ContainsFunc(t.Architectures, func(a string) bool { return slices.Contains(h.Architectures, a) }) {
		return 0, fault.New(fault.Unsupported, "Unsupported", "The requested configuration is currently not supported. Please check the documentation for supported configurations.")
	}
	if t.VCPU > h.VCPU || t.MemoryMiB > h.MemoryMiB {
		return 0, insufficient(h, s, t, zone)
	}
	free := h.MemoryMiB*MemoryOversubscription - promised()
	if n := free / t.MemoryMiB; n > 0 {
		return n, nil
	}
	return 0, insufficient(h, s, t, zone)
}

// insufficient is the error of a zone that has no room for a type. All zones share one machine, so the others are offered
// only when it is the zone that is down.
func insufficient(h Host, s scope.Scope, t Type, zone string) error {
	msg := fmt.Sprintf("We currently do not have sufficient %s capacity in the Availability Zone you requested (%s). Our system will be working on provisioning additional capacity.", t.Name, zone)
	var others []string
	for _, z := range network.Zones(s.Region) {
		if !slices.Contains(h.ZonesDown, z.Name) {
			others = append(others, z.Name)
		}
	}
	if slices.Contains(h.ZonesDown, zone) && len(others) > 0 {
		msg += fmt.Sprintf(" You can currently get %s capacity by not specifying an Availability Zone in your request or choosing %s.", t.Name, strings.Join(others, ", "))
	}
	return fault.New(fault.Capacity, "InsufficientInstanceCapacity", "%s", msg)
}
