package identity

import (
	"maps"
	"regexp"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Quotas of IAM.
const (
	MaxUsers      = 5000
	MaxGroups     = 300
	MaxRoles      = 1000
	MaxProfiles   = 1000
	MaxPolicies   = 1500
	MaxAttached   = 10
	MaxVersions   = 5
	MaxGroupsUser = 10
	MaxTags       = 50
	maxTrust      = 2048
	maxManaged    = 6144
	maxInlineUser = 2048
	maxInlineGrp  = 5120
	maxInlineRole = 10240
)

func limit(quota string, n int) error {
	return fault.New(fault.Limit, "LimitExceeded", "Cannot exceed quota for %s: %d", quota, n)
}

func noEntity(format string, args ...any) error {
	return fault.New(fault.NotFound, "NoSuchEntity", format, args...)
}

func exists(kind, name string) error {
	return fault.New(fault.Exists, "EntityAlreadyExists", "%s with name %s already exists.", kind, name)
}

func conflict(text string) error { return fault.New(fault.Conflict, "DeleteConflict", "%s", text) }

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "ValidationError", format, args...)
}

var (
	nameForm = regexp.MustCompile(`^[\w+=,.@-]+$`)
	pathForm = regexp.MustCompile(`^(/|/[!-~]+/)$`)
)

// checkName refuses names that IAM refuses; member is the parameter's name in lower camel case.
func checkName(member, name string, most int) error {
	if len(name) < 1 {
		return invalid("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length greater than or equal to 1", member)
	}
	if len(name) > most {
		return invalid("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", member, most)
	}
	if !nameForm.MatchString(name) {
		return invalid("The specified value for %s is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-", member)
	}
	return nil
}

func checkPath(path string) error {
	if len(path) > 512 || !pathForm.MatchString(path) {
		return invalid("The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.")
	}
	return nil
}

// newEntity checks name, path and tags, and makes the common part of a record.
func newEntity(w *store.WriteTx, account, prefix, member, name, path string, most int, tags map[string]string) (Entity, error) {
	if path == "" {
		path = "/"
	}
	if err := checkName(member, name, most); err != nil {
		return Entity{}, err
	}
	if err := checkPath(path); err != nil {
		return Entity{}, err
	}
	if err := checkTags(tags); err != nil {
		return Entity{}, err
	}
	return Entity{Scope: scope.Scope{Account: account, Region: scope.Global}, Name: name, Path: path, ID: newID(w.Rand(), prefix), CreatedAt: w.Now(),
		Tags: maps.Clone(tags)}, nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > MaxTags {
		return fault.New(fault.Limit, "LimitExceeded", "The number of tags has reached the maximum limit.")
	}
	seen := map[string]bool{}
	for k, v := range tags {
		if k == "" || len(k) > 128 || len(v) > 256 {
			return invalid("1 validation error detected: Value at 'tags' failed to satisfy constraint: keys have 1 to 128 characters, values up to 256.")
		}
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return fault.New(fault.Invalid, "InvalidInput", "System tags cannot be added/updated by user.")
		}
		if seen[strings.ToLower(k)] {
			return fault.New(fault.Invalid, "InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[strings.ToLower(k)] = true
	}
	return nil
}

// SetTags returns tags with some added or replaced; keys differ without regard to case.
func SetTags(have, add map[string]string) (map[string]string, error) {
	if err := checkTags(add); err != nil {
		return nil, err
	}
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range add {
		for o := range out {
			if strings.EqualFold(o, k) {
				delete(out, o)
			}
		}
		out[k] = v
	}
	if len(out) > MaxTags {
		return nil, fault.New(fault.Limit, "LimitExceeded", "The number of tags has reached the maximum limit.")
	}
	return out, nil
}

// DropTags returns tags without some.
func DropTags(have map[string]string, keys []string) map[string]string {
	out := maps.Clone(have)
	for _, k := range keys {
		for o := range out {
			if strings.EqualFold(o, k) {
				delete(out, o)
			}
		}
	}
	return out
}

func count[T any](tx store.Tx, t *store.Table[T], account string) int {
	n := 0
	for range t.Prefix(tx, scope.Scope{Account: account, Region: scope.Global}.Prefix()) {
		n++
	}
	return n
}

// List returns an account's records of a table in the order of their names.
func List[T any](tx store.Tx, t *store.Table[T], account string) []T {
	var out []T
	for v := range t.Prefix(tx, scope.Scope{Account: account, Region: scope.Global}.Prefix()) {
		out = append(out, v)
	}
	return out
}
