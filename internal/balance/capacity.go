package balance

import (
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Bounds of AWS for capacity reservations.
const (
	maxCapacityUnits  = 15000 // of a load balancer
	capacityDecreases = 2     // a day
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
	if units > maxCapacityUnits {
		return lb, fault.New(fault.Limit, "CapacityUnitsLimitExceeded", "The maximum number of capacity units of a load balancer is %d", maxCapacityUnits)
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
