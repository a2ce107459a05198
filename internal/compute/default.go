package compute

import (
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// DefaultSubnet is the subnet of a launch that names none.
func DefaultSubnet(tx store.Tx, s scope.Scope, p *PlacementSpec) (network.Subnet, error) {
	return defaultSubnet(tx, s, zoneOf(s, p))
}
