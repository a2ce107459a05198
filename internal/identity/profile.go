package identity

import (
	"strings"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// CreateInstanceProfile makes a profile without a role.
func CreateInstanceProfile(w *store.WriteTx, account, name, path string, tags map[string]string) (InstanceProfile, error) {
	e, err := newEntity(w, account, "AIPA", "instanceProfileName", name, path, 128, tags)
	if err != nil {
		return InstanceProfile{}, err
	}
	if _, ok := InstanceProfiles.Get(w, e.key()); ok {
		return InstanceProfile{}, fault.New(fault.Exists, "EntityAlreadyExists", "Instance Profile %s already exists.", name)
	}
	if count(w, InstanceProfiles, account) >= MaxProfiles {
		return InstanceProfile{}, limit("InstanceProfilesPerAccount", MaxProfiles)
	}
	p := InstanceProfile{Entity: e}
	InstanceProfiles.Put(w, p)
	return p, nil
}

// GetInstanceProfile finds a profile by its name.
func GetInstanceProfile(tx store.Tx, account, name string) (InstanceProfile, error) {
	p, ok := InstanceProfiles.Get(tx, key(account, name))
	if !ok {
		return p, noEntity("Instance Profile %s cannot be found.", name)
	}
	return p, nil
}

// ProfileByARN finds a profile of an account by its ARN.
func ProfileByARN(tx store.Tx, account, arn string) (InstanceProfile, error) {
	p, ok := InstanceProfiles.Get(tx, key(account, arn[strings.LastIndex(arn, "/")+1:]))
	if !ok || p.ARN() != arn {
		return p, noEntity("Instance Profile %s cannot be found.", arn)
	}
	return p, nil
}

// ResolveProfile finds the profile that an EC2 request names by ARN or by name. Its faults are EC2's.
func ResolveProfile(tx store.Tx, s scope.Scope, arn, name string) (InstanceProfile, error) {
	switch {
	case arn != "" && name != "":
		return InstanceProfile{}, fault.New(fault.Invalid, "InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
	case arn != "":
		p, err := ProfileByARN(tx, s.Account, arn)
		if err != nil {
			return p, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN", arn)
		}
		return p, nil
	case name == "":
		return InstanceProfile{}, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter iamInstanceProfile.name or iamInstanceProfile.arn")
	}
	p, ok := InstanceProfiles.Get(tx, key(s.Account, name))
	if !ok {
		return p, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", name)
	}
	return p, nil
}

// AddRole puts a role into a profile, which holds one at most.
func AddRole(w *store.WriteTx, account, profile, role string) error {
	p, err := GetInstanceProfile(w, account, profile)
	if err != nil {
		return err
	}
	r, err := GetRole(w, account, role)
	if err != nil {
		return err
	}
	if r.Service != "" {
		return fault.New(fault.Invalid, "UnmodifiableEntity", "Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", r.Name)
	}
	if p.Role != "" {
		return limit("InstanceSessionsPerInstanceProfile", 1)
	}
	p.Role = r.Name
	InstanceProfiles.Put(w, p)
	return nil
}

// RemoveRole takes the role out of a profile.
func RemoveRole(w *store.WriteTx, account, profile, role string) error {
	p, err := GetInstanceProfile(w, account, profile)
	if err != nil {
		return err
	}
	if !strings.EqualFold(p.Role, role) || p.Role == "" {
		return noEntity("The role with name %s cannot be found.", role)
	}
	p.Role = ""
	InstanceProfiles.Put(w, p)
	return nil
}

// ProfilesOf lists the profiles that hold a role.
func ProfilesOf(tx store.Tx, r Role) []InstanceProfile {
	var out []InstanceProfile
	for p := range InstanceProfiles.By(tx, "role", r.key()) {
		out = append(out, p)
	}
	return out
}

// TagInstanceProfile adds and removes tags.
func TagInstanceProfile(w *store.WriteTx, account, name string, add map[string]string, drop []string) error {
	p, err := GetInstanceProfile(w, account, name)
	if err != nil {
		return err
	}
	if p.Tags, err = SetTags(DropTags(p.Tags, drop), add); err != nil {
		return err
	}
	InstanceProfiles.Put(w, p)
	return nil
}

// DeleteInstanceProfile removes a profile that holds no role.
func DeleteInstanceProfile(w *store.WriteTx, account, name string) error {
	p, err := GetInstanceProfile(w, account, name)
	if err != nil {
		return err
	}
	if p.Role != "" {
		return conflict("Cannot delete entity, must remove roles from instance profile first.")
	}
	InstanceProfiles.Delete(w, p.key())
	return nil
}
