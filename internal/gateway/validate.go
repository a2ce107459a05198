package gateway

import (
	"skerry/internal/fault"
	"skerry/internal/wire"
)

// validate checks the input against its model.
func validate(x *Exchange) error {
	missing := wire.Missing(x.In, x.Protocol)
	if len(missing) == 0 {
		return nil
	}
	if x.Protocol == wire.EC2 {
		return fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter %s", missing[0])
	}
	return fault.New(fault.Invalid, x.dialect("", "ValidationError", "ValidationException"),
		"1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", missing[0])
}
