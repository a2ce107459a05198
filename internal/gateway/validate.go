package gateway

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/wire"
)

// validate checks the input against its model, in the words of the dialect.
func validate(x *Exchange) error {
	found := wire.Check(x.In, x.Protocol, x.Service.Constraints)
	if x.Protocol == wire.EC2 {
		return ec2Violation(found)
	}
	if len(found) == 0 {
		return nil
	}
	var lines []string
	for _, v := range found {
		value := "'" + v.Value + "'"
		if v.Rule == wire.Required {
			value = "null"
		}
		lines = append(lines, "Value "+value+" at '"+v.Path+"' failed to satisfy constraint: "+constraintText(v))
	}
	count := "1 validation error"
	if len(found) > 1 {
		count = strconv.Itoa(len(found)) + " validation errors"
	}
	return fault.New(fault.Invalid, x.dialect("", "ValidationError", "ValidationException"), "%s detected: %s", count, strings.Join(lines, "; "))
}

func number(f *float64) string {
	if *f == math.Trunc(*f) {
		return strconv.FormatFloat(*f, 'f', 0, 64)
	}
	return strconv.FormatFloat(*f, 'g', -1, 64)
}

func constraintText(v wire.Violation) string {
	subject := "length"
	if v.Number {
		subject = "value"
	}
	switch v.Rule {
	case wire.Required:
		return "Member must not be null"
	case wire.TooSmall:
		return fmt.Sprintf("Member must have %s greater than or equal to %s", subject, number(v.Constraint.Min))
	case wire.TooLarge:
		return fmt.Sprintf("Member must have %s less than or equal to %s", subject, number(v.Constraint.Max))
	case wire.NoEnum:
		return "Member must satisfy enum value set: [" + strings.Join(v.Constraint.Enum, ", ") + "]"
	}
	return "Member must satisfy regular expression pattern: " + v.Constraint.Pattern
}

// ec2Violation words the first violation as EC2 does. The lengths and patterns of EC2's names are the handlers' to
// check: each kind of resource has a code of its own for them.
func ec2Violation(found []wire.Violation) error {
	for _, v := range found {
		switch {
		case v.Rule == wire.Required:
			return fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter %s", v.Path)
		case v.Rule == wire.TooSmall && v.Number:
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value ( %s ) for parameter %s is invalid. Expecting a value greater than or equal to %s.", v.Value, v.Path, number(v.Constraint.Min))
		case v.Rule == wire.TooLarge && v.Number:
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value ( %s ) for parameter %s is invalid. Expecting a value less than or equal to %s.", v.Value, v.Path, number(v.Constraint.Max))
		case v.Rule == wire.NoEnum:
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expecting one of: %s.", v.Value, v.Path, strings.Join(v.Constraint.Enum, ", "))
		}
	}
	return nil
}
