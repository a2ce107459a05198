package identity

import (
	"strings"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Entity is what users, groups, roles, instance profiles and policies have in common.
type Entity struct {
	scope.Scope
	Name, Path, ID string
	CreatedAt      time.Time
	Tags           map[string]string `json:",omitempty"`
}

// Grants are the policies of a user, group or role.
type Grants struct {
	Inline   map[string]string `json:",omitempty"` // documents by name
	Attached []string          `json:",omitempty"` // ARNs of managed policies, sorted
	Boundary string            `json:",omitempty"` // ARN
}

// User is a person or program with long-lived keys.
type User struct {
	Entity
	Grants
	Groups []string `json:",omitempty"` // names, sorted
}

// Group gives its policies to its users.
type Group struct {
	Entity
	Grants
}

// Role is assumed by those that its trust policy names.
type Role struct {
	Entity
	Grants
	Trust       string
	Description string    `json:",omitempty"`
	MaxSession  int       // seconds
	UsedAt      time.Time `json:",omitempty"`
	UsedIn      string    `json:",omitempty"`
	Service     string    `json:",omitempty"` // of a service-linked role
}

// InstanceProfile gives its role to instances.
type InstanceProfile struct {
	Entity
	Role string `json:",omitempty"` // name
}

// Version is one version of a managed policy.
type Version struct {
	ID        string // v1, v2, …
	Document  string
	CreatedAt time.Time
}

// ManagedPolicy is a customer managed policy.
type ManagedPolicy struct {
	Entity
	Description string `json:",omitempty"`
	Versions    []Version
	Default     string
	Last        int // number of the newest version ever
	UpdatedAt   time.Time
}

// AccessKey is a long-lived key: a user's, or root's when User is empty.
type AccessKey struct {
	ID, Secret  string
	Account     string
	User        string `json:",omitempty"`
	Active      bool
	CreatedAt   time.Time
	UsedAt      time.Time `json:",omitempty"`
	UsedRegion  string    `json:",omitempty"`
	UsedService string    `json:",omitempty"`
}

// Session is a set of temporary credentials.
type Session struct {
	ID, Secret, Token string
	Account           string
	ARN, UserID       string            // the principal's
	Role, RoleID      string            `json:",omitempty"` // of a role's session
	User              string            `json:",omitempty"` // of a user's session
	Instance          string            `json:",omitempty"` // key of the instance
	Policies          []string          `json:",omitempty"` // documents that limit it
	PolicyARNs        []string          `json:",omitempty"`
	Tags              map[string]string `json:",omitempty"`
	CreatedAt         time.Time
	ExpiresAt         time.Time
}

// Alias is an account's other name.
type Alias struct {
	Account, Name string
}

func key(account, name string) string {
	return scope.Scope{Account: account, Region: scope.Global}.Key(strings.ToLower(name))
}

func (e Entity) key() string { return e.Scope.Key(strings.ToLower(e.Name)) }

func attached(g Grants) []string {
	if g.Boundary == "" {
		return g.Attached
	}
	return append(append([]string{}, g.Attached...), g.Boundary)
}

// The tables. Primary keys: account/aws-global/name in lower case; an access key's or session's id.
var (
	Users = store.NewTable("iam.user", func(v User) string { return v.key() },
		store.Index[User]{Name: "policy", Keys: func(v User) []string { return attached(v.Grants) }},
		store.Index[User]{Name: "group", Keys: func(v User) []string {
			var ks []string
			for _, g := range v.Groups {
				ks = append(ks, key(v.Account, g))
			}
			return ks
		}})
	Groups = store.NewTable("iam.group", func(v Group) string { return v.key() },
		store.Index[Group]{Name: "policy", Keys: func(v Group) []string { return attached(v.Grants) }})
	Roles = store.NewTable("iam.role", func(v Role) string { return v.key() },
		store.Index[Role]{Name: "policy", Keys: func(v Role) []string { return attached(v.Grants) }})
	InstanceProfiles = store.NewTable("iam.instance_profile", func(v InstanceProfile) string { return v.key() },
		store.Index[InstanceProfile]{Name: "role", Keys: func(v InstanceProfile) []string {
			if v.Role == "" {
				return nil
			}
			return []string{key(v.Account, v.Role)}
		}})
	ManagedPolicies = store.NewTable("iam.policy", func(v ManagedPolicy) string { return v.key() })
	AccessKeys      = store.NewTable("iam.access_key", func(v AccessKey) string { return v.ID },
		store.Index[AccessKey]{Name: "owner", Keys: func(v AccessKey) []string { return []string{key(v.Account, v.User)} }})
	Sessions = store.NewTable("iam.session", func(v Session) string { return v.ID },
		store.Index[Session]{Name: "instance", Keys: func(v Session) []string {
			if v.Instance == "" {
				return nil
			}
			return []string{v.Instance}
		}},
		store.Index[Session]{Name: "arn", Keys: func(v Session) []string { return []string{v.ARN} }})
	Aliases = store.NewTable("iam.alias", func(v Alias) string { return v.Account })
)

// Tables lists the package's tables.
var Tables = []store.AnyTable{Users, Groups, Roles, InstanceProfiles, ManagedPolicies, AccessKeys, Sessions, Aliases, secrets}

func (e Entity) arn(kind string) string {
	return scope.Scope{Account: e.Account, Region: scope.Global}.ARN("iam", kind+e.Path+e.Name)
}

// ARN names the user.
func (u User) ARN() string { return u.arn("user") }

// ARN names the group.
func (g Group) ARN() string { return g.arn("group") }

// ARN names the role.
func (r Role) ARN() string { return r.arn("role") }

// ARN names the profile.
func (p InstanceProfile) ARN() string { return p.arn("instance-profile") }

// ARN names the policy.
func (p ManagedPolicy) ARN() string { return p.arn("policy") }

// RootARN names the root of an account.
func RootARN(account string) string { return "arn:aws:iam::" + account + ":root" }
