package compute

import (
	"skerry/internal/identity"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// ResolveProfile finds an instance profile by ARN or by name, and returns its ARN and id.
func ResolveProfile(tx store.Tx, s scope.Scope, arn, name string) (string, string, error) {
	p, err := identity.ResolveProfile(tx, s, arn, name)
	if err != nil {
		return "", "", err
	}
	return p.ARN(), p.ID, nil
}
