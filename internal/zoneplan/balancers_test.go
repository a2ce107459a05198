package zoneplan

import (
	"slices"
	"testing"

	"skerry/internal/balance"
	"skerry/internal/tlsfront"
)

// TestPoliciesAreServed: what the API offers, listeners have, with the same protocols.
func TestPoliciesAreServed(t *testing.T) {
	t.Parallel()
	versions := []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}
	for _, p := range balance.SSLPolicies {
		got, ok := tlsfront.LookupPolicy(p.Name)
		if !ok {
			t.Errorf("%s is offered and not served", p.Name)
			continue
		}
		least, most := int(got.Min-0x0301), int(got.Max-0x0301)
		if want := versions[least : most+1]; !slices.Equal(p.Protocols, want) {
			t.Errorf("%s: offered %v, served %v", p.Name, p.Protocols, want)
		}
	}
}
