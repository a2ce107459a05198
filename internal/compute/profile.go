package compute

import (
	"strings"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// ResolveProfile finds an instance profile by ARN or by name, and returns its ARN and id.
func ResolveProfile(_ store.Tx, s scope.Scope, arn, name string) (string, string, error) {
	switch {
	case arn != "" && name != "":
		return "", "", fault.New(fault.Invalid, "InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
	case arn != "":
		i := strings.LastIndex(arn, "/")
		if !strings.HasPrefix(arn, "arn:aws:iam::"+s.Account+":instance-profile/") {
			return "", "", fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN", arn)
		}
		name = arn[i+1:]
	case name == "":
		return "", "", fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter iamInstanceProfile.name or iamInstanceProfile.arn")
	}
	return s.In(scope.Global).ARN("iam", "instance-profile/"+name), name, nil
}
