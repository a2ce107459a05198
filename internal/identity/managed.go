package identity

import (
	"fmt"
	"slices"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/policy"
	"skerry/internal/store"
)

// CreatePolicy makes a customer managed policy with its version v1.
func CreatePolicy(w *store.WriteTx, account, name, path, description, document string, tags map[string]string) (ManagedPolicy, error) {
	e, err := newEntity(w, account, "ANPA", "policyName", name, path, 128, tags)
	if err != nil {
		return ManagedPolicy{}, err
	}
	if len(description) > 1000 {
		return ManagedPolicy{}, invalid("1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 1000")
	}
	if err := checkManaged(document); err != nil {
		return ManagedPolicy{}, err
	}
	if _, ok := ManagedPolicies.Get(w, e.key()); ok {
		return ManagedPolicy{}, fault.New(fault.Exists, "EntityAlreadyExists", "A policy called %s already exists. Duplicate names are not allowed.", name)
	}
	if count(w, ManagedPolicies, account) >= MaxPolicies {
		return ManagedPolicy{}, limit("PoliciesPerAccount", MaxPolicies)
	}
	p := ManagedPolicy{Entity: e, Description: description, Versions: []Version{{"v1", document, w.Now()}}, Default: "v1", Last: 1, UpdatedAt: w.Now()}
	ManagedPolicies.Put(w, p)
	return p, nil
}

func checkManaged(document string) error {
	if _, err := policy.Parse(document, policy.Identity); err != nil {
		return err
	}
	if size(document) > maxManaged {
		return limit("PolicySize", maxManaged)
	}
	return nil
}

// GetPolicy finds a managed policy by ARN: the account's own, or AWS's.
func GetPolicy(tx store.Tx, account, arn string) (ManagedPolicy, error) {
	if p, ok := awsManaged[arn]; ok {
		return p, nil
	}
	rest, ok := strings.CutPrefix(arn, "arn:aws:iam::"+account+":policy/")
	if !ok && !(strings.HasPrefix(arn, "arn:") && strings.Count(arn, ":") >= 5) {
		return ManagedPolicy{}, invalid("ARN %s is not valid.", arn)
	}
	p, found := ManagedPolicies.Get(tx, key(account, rest[strings.LastIndex(rest, "/")+1:]))
	if !ok || !found || p.ARN() != arn {
		return p, noEntity("Policy %s does not exist or is not attachable.", arn)
	}
	return p, nil
}

// PolicyDocument finds the default version of a managed policy.
func PolicyDocument(tx store.Tx, account, arn string) (ManagedPolicy, Version, error) {
	p, err := GetPolicy(tx, account, arn)
	if err != nil {
		return p, Version{}, err
	}
	v, err := p.Version(p.Default)
	return p, v, err
}

// Version finds a version of the policy.
func (p ManagedPolicy) Version(id string) (Version, error) {
	for _, v := range p.Versions {
		if v.ID == id {
			return v, nil
		}
	}
	return Version{}, noEntity("Policy %s version %s does not exist or is not attachable.", p.ARN(), id)
}

func editPolicy(w *store.WriteTx, account, arn string, edit func(p *ManagedPolicy) error) (ManagedPolicy, error) {
	p, err := GetPolicy(w, account, arn)
	if err != nil {
		return p, err
	}
	if p.Account == awsAccount {
		return p, fault.New(fault.Denied, "AccessDenied", "Policy is outside your own account.")
	}
	p.Versions = slices.Clone(p.Versions)
	if err := edit(&p); err != nil {
		return p, err
	}
	ManagedPolicies.Put(w, p)
	return p, nil
}

// CreatePolicyVersion adds a version to a policy.
func CreatePolicyVersion(w *store.WriteTx, account, arn, document string, setDefault bool) (ManagedPolicy, Version, error) {
	var v Version
	p, err := editPolicy(w, account, arn, func(p *ManagedPolicy) error {
		if err := checkManaged(document); err != nil {
			return err
		}
		if len(p.Versions) >= MaxVersions {
			return fault.New(fault.Limit, "LimitExceeded", "A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", MaxVersions)
		}
		p.Last++
		v = Version{fmt.Sprintf("v%d", p.Last), document, w.Now()}
		p.Versions = append(p.Versions, v)
		p.UpdatedAt = w.Now()
		if setDefault {
			p.Default = v.ID
		}
		return nil
	})
	return p, v, err
}

// SetDefaultPolicyVersion makes a version the one that counts.
func SetDefaultPolicyVersion(w *store.WriteTx, account, arn, id string) error {
	_, err := editPolicy(w, account, arn, func(p *ManagedPolicy) error {
		if _, err := p.Version(id); err != nil {
			return err
		}
		p.Default, p.UpdatedAt = id, w.Now()
		return nil
	})
	return err
}

// DeletePolicyVersion removes a version that is not the default one.
func DeletePolicyVersion(w *store.WriteTx, account, arn, id string) error {
	_, err := editPolicy(w, account, arn, func(p *ManagedPolicy) error {
		if _, err := p.Version(id); err != nil {
			return err
		}
		if id == p.Default {
			return conflict("Cannot delete the default version of a policy.")
		}
		p.Versions = slices.DeleteFunc(p.Versions, func(v Version) bool { return v.ID == id })
		p.UpdatedAt = w.Now()
		return nil
	})
	return err
}

// TagPolicy adds and removes tags.
func TagPolicy(w *store.WriteTx, account, arn string, add map[string]string, drop []string) error {
	_, err := editPolicy(w, account, arn, func(p *ManagedPolicy) (err error) {
		p.Tags, err = SetTags(DropTags(p.Tags, drop), add)
		return err
	})
	return err
}

// Use is who has a managed policy.
type Use struct {
	Users  []User
	Groups []Group
	Roles  []Role
}

// UsersOf lists who has the policy attached, or as a boundary.
func UsersOf(tx store.Tx, account, arn string, boundary bool) Use {
	var u Use
	has := func(g Grants) bool {
		if boundary {
			return g.Boundary == arn
		}
		return slices.Contains(g.Attached, arn)
	}
	for v := range Users.By(tx, "policy", arn) {
		if v.Account == account && has(v.Grants) {
			u.Users = append(u.Users, v)
		}
	}
	for v := range Groups.By(tx, "policy", arn) {
		if v.Account == account && has(v.Grants) {
			u.Groups = append(u.Groups, v)
		}
	}
	for v := range Roles.By(tx, "policy", arn) {
		if v.Account == account && has(v.Grants) {
			u.Roles = append(u.Roles, v)
		}
	}
	return u
}

// Len counts them.
func (u Use) Len() int { return len(u.Users) + len(u.Groups) + len(u.Roles) }

// DeletePolicy removes a policy that nobody has, with its default version alone left.
func DeletePolicy(w *store.WriteTx, account, arn string) error {
	p, err := GetPolicy(w, account, arn)
	if err != nil {
		return err
	}
	if p.Account == awsAccount {
		return fault.New(fault.Denied, "AccessDenied", "Policy is outside your own account.")
	}
	if UsersOf(w, account, arn, false).Len() > 0 {
		return conflict("Cannot delete a policy attached to entities.")
	}
	if UsersOf(w, account, arn, true).Len() > 0 {
		return conflict("Cannot delete a policy that is used as a permissions boundary.")
	}
	if len(p.Versions) > 1 {
		return conflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
	}
	ManagedPolicies.Delete(w, p.key())
	return nil
}
