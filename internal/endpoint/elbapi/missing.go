package elbapi

import (
	"maps"
	"slices"

	"skerry/internal/fault"
)

// missingValues are attributes' values that the data plane doesn't carry yet; "" is any but the default.
var missingValues = map[string]string{
	"secondary_ips.auto_assigned.per_subnet": "",
}

// servedValues refuses attributes' values that would have no effect. The defaults are what the resource has without them.
func servedValues(changes map[string]string, def func(string) string) error {
	for _, k := range slices.Sorted(maps.Keys(changes)) {
		if v, ok := missingValues[k]; ok && (changes[k] == v || v == "" && changes[k] != def(k)) {
			return fault.New(fault.Unsupported, "InvalidConfigurationRequest", "The value '%s' of the attribute '%s' is not supported", changes[k], k)
		}
	}
	return nil
}
