package zoneplan

import (
	"cmp"

	"skerry/internal/compute"
	"skerry/internal/store"
	"skerry/internal/zone"
)

// Options are what the state does not hold.
type Options struct {
	// Namespace is the path of a VPC's network namespace (fabric.VPCNamespace).
	Namespace func(vpcID string) string
	// Credentials are the current credentials of an instance's role; ok false for an instance without a profile. The
	// caller renews them: a changed result changes the plan.
	Credentials func(tx store.Tx, i compute.Instance) (p zone.Profile, ok bool)
	// Lifecycle is an instance's target lifecycle state in its Auto Scaling group, empty outside one.
	Lifecycle func(tx store.Tx, i compute.Instance) string
	Egress    bool
	APIName   string // default api.skerry.internal
}

// Build is the desired state of one zone (us-east-1a), over all accounts.
func Build(tx store.Tx, zoneName string, o Options) (zone.Desired, error) {
	d := zone.Desired{Zone: zoneName, Egress: o.Egress, APIName: cmp.Or(o.APIName, "api.skerry.internal")}
	networks(tx, &d, o)
	instances(tx, &d, o)
	return d.Seal(), nil
}
