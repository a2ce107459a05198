package identity

import (
	"strings"
	"unicode"

	"skerry/internal/fault"
	"skerry/internal/policy"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Bounds of a role's sessions, in seconds.
const (
	MinSession     = 3600
	MaxSession     = 43200
	DefaultSession = 3600
)

// NewRole are the properties of a role to be made.
type NewRole struct {
	Name, Path, Trust, Description, Boundary string
	MaxSession                               int // 0: DefaultSession
	Tags                                     map[string]string
}

// CreateRole makes a role.
func CreateRole(w *store.WriteTx, account string, n NewRole) (Role, error) {
	e, err := newEntity(w, account, "AROA", "roleName", n.Name, n.Path, 64, n.Tags)
	if err != nil {
		return Role{}, err
	}
	if n.MaxSession == 0 {
		n.MaxSession = DefaultSession
	}
	if err := checkMaxSession(n.MaxSession); err != nil {
		return Role{}, err
	}
	if strings.HasPrefix(e.Path, "/aws-service-role/") {
		return Role{}, invalid("The specified value for path is invalid. The path /aws-service-role/ is reserved for service-linked roles.")
	}
	if len(n.Description) > 1000 {
		return Role{}, invalid("1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 1000")
	}
	if err := checkTrust(w, account, n.Trust); err != nil {
		return Role{}, err
	}
	if _, ok := Roles.Get(w, e.key()); ok {
		return Role{}, exists("Role", n.Name)
	}
	if count(w, Roles, account) >= MaxRoles {
		return Role{}, limit("RolesPerAccount", MaxRoles)
	}
	r := Role{Entity: e, Trust: n.Trust, Description: n.Description, MaxSession: n.MaxSession}
	if n.Boundary != "" {
		if _, _, err := PolicyDocument(w, account, n.Boundary); err != nil {
			return Role{}, err
		}
		r.Boundary = n.Boundary
	}
	Roles.Put(w, r)
	return r, nil
}

func checkMaxSession(n int) error {
	if n < MinSession {
		return invalid("1 validation error detected: Value '%d' at 'maxSessionDuration' failed to satisfy constraint: Member must have value greater than or equal to %d", n, MinSession)
	}
	if n > MaxSession {
		return invalid("1 validation error detected: Value '%d' at 'maxSessionDuration' failed to satisfy constraint: Member must have value less than or equal to %d", n, MaxSession)
	}
	return nil
}

// checkTrust refuses a trust policy that is malformed, too long, or names principals of this account that don't exist.
func checkTrust(tx store.Tx, account, text string) error {
	d, err := policy.Parse(text, policy.Trust)
	if err != nil {
		return err
	}
	if size(text) > maxTrust {
		return limit("ACLSizePerRole", maxTrust)
	}
	for _, s := range d.Statements {
		for _, p := range s.Principals["AWS"] {
			rest, ok := strings.CutPrefix(p, "arn:aws:iam::"+account+":")
			if !ok {
				continue
			}
			kind, path, _ := strings.Cut(rest, "/")
			name := path[strings.LastIndex(path, "/")+1:]
			found := true
			switch kind {
			case "user":
				u, ok := Users.Get(tx, key(account, name))
				found = ok && u.ARN() == p
			case "role":
				r, ok := Roles.Get(tx, key(account, name))
				found = ok && r.ARN() == p
			}
			if !found {
				return fault.New(fault.Invalid, "MalformedPolicyDocument", "Invalid principal in policy: \"AWS\":%q", p)
			}
		}
	}
	return nil
}

// size is the length of a document as quotas count it: without white space.
func size(doc string) int {
	n := 0
	for _, r := range doc {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// GetRole finds a role by its name.
func GetRole(tx store.Tx, account, name string) (Role, error) {
	r, ok := Roles.Get(tx, key(account, name))
	if !ok {
		return r, noEntity("The role with name %s cannot be found.", name)
	}
	return r, nil
}

// EditRole changes a role by a function. The role of a service is its service's.
func EditRole(w *store.WriteTx, account, name string, edit func(r *Role) error) (Role, error) {
	r, err := GetRole(w, account, name)
	if err != nil {
		return r, err
	}
	if r.Service != "" {
		return r, fault.New(fault.Invalid, "UnmodifiableEntity", "Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", r.Name)
	}
	r.Grants = r.clone()
	if err := edit(&r); err != nil {
		return r, err
	}
	Roles.Put(w, r)
	return r, nil
}

// UpdateTrust replaces a role's trust policy.
func UpdateTrust(w *store.WriteTx, account, name, trust string) error {
	_, err := EditRole(w, account, name, func(r *Role) error {
		r.Trust = trust
		return checkTrust(w, account, trust)
	})
	return err
}

// UpdateRole changes description and longest session; nil leaves as it is.
func UpdateRole(w *store.WriteTx, account, name string, description *string, maxSession *int) (Role, error) {
	return EditRole(w, account, name, func(r *Role) error {
		if description != nil {
			if len(*description) > 1000 {
				return invalid("1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 1000")
			}
			r.Description = *description
		}
		if maxSession != nil {
			r.MaxSession = *maxSession
			return checkMaxSession(*maxSession)
		}
		return nil
	})
}

// DeleteRole removes a role that nothing hangs on.
func DeleteRole(w *store.WriteTx, account, name string) error {
	r, err := GetRole(w, account, name)
	if err != nil {
		return err
	}
	if r.Service != "" {
		return fault.New(fault.Invalid, "UnmodifiableEntity", "Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", r.Name)
	}
	for range InstanceProfiles.By(w, "role", r.key()) {
		return conflict("Cannot delete entity, must remove roles from instance profile first.")
	}
	if err := r.deletable(); err != nil {
		return err
	}
	Roles.Delete(w, r.key())
	return nil
}

// serviceLinked are the services that have a linked role, with the role's name.
var serviceLinked = map[string]string{
	"autoscaling.amazonaws.com":             "AWSServiceRoleForAutoScaling",
	"elasticloadbalancing.amazonaws.com":    "AWSServiceRoleForElasticLoadBalancing",
	"spot.amazonaws.com":                    "AWSServiceRoleForEC2Spot",
	"spotfleet.amazonaws.com":               "AWSServiceRoleForEC2SpotFleet",
	"ec2fleet.amazonaws.com":                "AWSServiceRoleForEC2Fleet",
	"ec2-instance-connect.amazonaws.com":    "AWSServiceRoleForEc2InstanceConnect",
	"application-autoscaling.amazonaws.com": "AWSServiceRoleForApplicationAutoScaling",
}

// CreateServiceLinkedRole makes the role of a service. Only some services take a suffix.
func CreateServiceLinkedRole(w *store.WriteTx, account, service, suffix, description string) (Role, error) {
	name, ok := serviceLinked[service]
	if !ok {
		return Role{}, fault.New(fault.Invalid, "InvalidInput", "Service role name is not valid for %s", service)
	}
	if suffix != "" {
		if service != "autoscaling.amazonaws.com" {
			return Role{}, fault.New(fault.Invalid, "InvalidInput", "Custom suffix is not allowed for %s", service)
		}
		if err := checkName("customSuffix", suffix, 64-len(name)-1); err != nil {
			return Role{}, err
		}
		name += "_" + suffix
	}
	if _, ok := Roles.Get(w, key(account, name)); ok {
		return Role{}, fault.New(fault.Invalid, "InvalidInput", "Service role name %s has been taken in this account, please try a different suffix.", name)
	}
	r := Role{Entity: Entity{Scope: scope.Scope{Account: account, Region: scope.Global}, Name: name, Path: "/aws-service-role/" + service + "/", ID: newID(w.Rand(), "AROA"), CreatedAt: w.Now()},
		Trust:       `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + service + `"},"Action":"sts:AssumeRole"}]}`,
		Description: description, MaxSession: DefaultSession, Service: service}
	Roles.Put(w, r)
	return r, nil
}

// DeleteServiceLinkedRole removes the role of a service.
func DeleteServiceLinkedRole(w *store.WriteTx, account, name string) error {
	r, err := GetRole(w, account, name)
	if err != nil {
		return err
	}
	if r.Service == "" {
		return fault.New(fault.Invalid, "InvalidInput", "The role %s is not a service-linked role.", r.Name)
	}
	Roles.Delete(w, r.key())
	return nil
}
