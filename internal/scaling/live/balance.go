package live

import (
	"time"

	"skerry/internal/balance"
	"skerry/internal/fault"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Balancer serves scaling.Balancer by the package balance.
type Balancer struct{}

var _ scaling.Balancer = Balancer{}

// Check refuses a target group that is not there, or has no instances as targets.
func (Balancer) Check(tx store.Tx, s scope.Scope, arn string) error {
	g, err := balance.GetTargetGroup(tx, s, arn)
	if err == nil && g.TargetType != "instance" {
		return fault.New(fault.Invalid, "ValidationError", "The target group %s has targets of type %s, not instance.", arn, g.TargetType)
	}
	return err
}

// Register adds an instance at the group's port.
func (Balancer) Register(w *store.WriteTx, s scope.Scope, arn, id string) error {
	return balance.Register(w, s, arn, []balance.Target{{ID: id}})
}

// Deregister starts draining.
func (Balancer) Deregister(w *store.WriteTx, s scope.Scope, arn, id string) error {
	err := balance.Deregister(w, s, arn, []balance.Target{{ID: id}})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// Health tells a target's state.
func (Balancer) Health(tx store.Tx, s scope.Scope, arn, id string) scaling.TargetState {
	g, err := balance.GetTargetGroup(tx, s, arn)
	if err != nil {
		return ""
	}
	for _, r := range registrations(tx, s, arn, id) {
		if r.Port == g.Port {
			return scaling.TargetState(balance.HealthOf(tx, s, arn, id, r.Port).State)
		}
	}
	return ""
}

// Delay is how long a target that was deregistered drains.
func (Balancer) Delay(tx store.Tx, s scope.Scope, arn, id string) time.Duration {
	longest := time.Duration(0)
	for _, r := range registrations(tx, s, arn, id) {
		if r.Draining() {
			longest = max(longest, time.Duration(r.DrainSeconds)*time.Second)
		}
	}
	return longest
}

func registrations(tx store.Tx, s scope.Scope, arn, id string) []balance.Registration {
	var out []balance.Registration
	for r := range balance.Registrations.By(tx, "target", s.Key(id)) {
		if r.GroupARN == arn {
			out = append(out, r)
		}
	}
	return out
}

// Tables are those that the loop watches.
func (Balancer) Tables() []store.AnyTable {
	return []store.AnyTable{balance.Registrations, balance.Observations, balance.TargetGroups}
}
