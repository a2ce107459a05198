package elbapi

import (
	"skerry/internal/balance"
	"skerry/internal/fault"
)

// features are parts of the API by name.
type features map[string]bool

// missing are those that the data plane doesn't carry yet: they are refused by name instead of kept without effect.
var missing = features{balance.OIDCType: true, balance.JWTType: true, "transforms": true, "mutual-authentication": true}

func (f features) action(a balance.Action) error {
	if f[a.Type] {
		return fault.New(fault.Unsupported, "InvalidLoadBalancerAction", "Actions of type '%s' are not supported", a.Type)
	}
	return nil
}
