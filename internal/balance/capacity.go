package balance

import (
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Bounds of AWS for capacity reservations.
const (
	minCapacityALB    = 100 // units of an application load balancer
	maxCapacityALB    = 1500
	minCapacityNLB    = 2750 // of a network load balancer, a zone
	maxCapacityNLB    = 45000
	capacityDecreases = 2 // a day
)

func sameDay(a, b time.Time) bool {
	return a.UTC().Truncate(24 * time.Hour).Equal(b.UTC().Truncate(24 * time.Hour))
}

// DecreasesLeft is how many times the reservation may still shrink today.
func (l LoadBalancer) DecreasesLeft(now time.Time) int32 {
	if !sameDay(l.CapacityModified, now) {
		return capacityDecreases
	}
	return capacityDecreases - l.CapacityDecreases
}

// ReserveCapacity sets the units that a load balancer keeps ready at least; 0 reserves none. A load balancer here has the
// machine's capacity at once, so a reservation is provisioned as soon as it is made.
func ReserveCapacity(w *store.WriteTx, s scope.Scope, arn string, units int32) (LoadBalancer, error) {
	lb, err := GetLoadBalancer(w, s, arn)
	if err != nil {
		return lb, err
	}
	least, most := int32(minCapacityALB), int32(maxCapacityALB)
	if lb.Type == Network {
		n := int32(len(lb.Nodes))
		least, most = minCapacityNLB*n, maxCapacityNLB*n
		for l := range Listeners.By(w, "lb", s.Key(lb.ARN)) {
			if units > 0 && l.Protocol == TLS {
				return lb, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Capacity cannot be reserved for network load balancers with TLS listeners")
			}
		}
	}
	if units > most {
		return lb, fault.New(fault.Limit, "CapacityUnitsLimitExceeded", "The maximum number of capacity units of load balancer '%s' is %d", arn, most)
	}
	if units > 0 && units < least {
		return lb, fault.New(fault.Invalid, "InvalidConfigurationRequest", "The minimum number of capacity units of load balancer '%s' is %d", arn, least)
	}
	left := lb.DecreasesLeft(w.Now())
	if units > 0 && units < lb.CapacityUnits {
		if left == 0 {
			return lb, fault.New(fault.Limit, "CapacityDecreaseRequestLimitExceeded", "The maximum number of requests that decrease the capacity of load balancer '%s' has been reached for today", arn)
		}
		left--
	}
	lb.CapacityUnits, lb.CapacityModified, lb.CapacityDecreases = units, w.Now(), capacityDecreases-left
	LoadBalancers.Put(w, lb)
	return lb, nil
}
