package iamapi

import (
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/iam"
	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/store"
)

// Server holds the handlers of IAM.
type Server struct {
	DB *store.DB
}

// Register adds the handlers to the table.
func (s *Server) Register(m *api.Mux) {
	s.registerRoles(m)
	s.registerProfiles(m)
	s.registerUsers(m)
	s.registerGroups(m)
	s.registerGrants(m)
	s.registerPolicies(m)
	s.registerAccount(m)
}

// defaultPage is how many items a page has when the client names no number.
const defaultPage = 100

// page cuts a sorted list to what the marker and the number ask for.
func page[T any](all []T, key func(T) string, marker *string, most *int32) (out []T, truncated *bool, next *string, err error) {
	if t := api.Val(marker); t != "" {
		b, err := base64.RawURLEncoding.DecodeString(t)
		after, ok := strings.CutPrefix(string(b), "after:")
		if err != nil || !ok {
			return nil, nil, nil, fault.New(fault.Invalid, "ValidationError", "Invalid Marker.")
		}
		i := slices.IndexFunc(all, func(v T) bool { return key(v) > after })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	n := defaultPage
	if most != nil {
		n = int(*most)
		if n < 1 || n > 1000 {
			return nil, nil, nil, fault.New(fault.Invalid, "ValidationError", "1 validation error detected: Value '%d' at 'maxItems' failed to satisfy constraint: Member must have value between 1 and 1000", n)
		}
	}
	if len(all) > n {
		t := base64.RawURLEncoding.EncodeToString([]byte("after:" + key(all[n-1])))
		return all[:n], api.Ptr(true), &t, nil
	}
	return all, api.Ptr(false), nil, nil
}

func same(s string) string { return s }

// under keeps the entities whose path begins with the prefix.
func under[T any](all []T, path func(T) string, prefix *string) []T {
	if api.Val(prefix) == "" {
		return all
	}
	return slices.DeleteFunc(all, func(v T) bool { return !strings.HasPrefix(path(v), *prefix) })
}

// str is the optional text: empty is absent.
func str(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// document encodes a policy as IAM's replies carry it.
func document(text string) *string {
	return api.Ptr(strings.ReplaceAll(url.QueryEscape(text), "+", "%20"))
}

func tagMap(tags []iam.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[api.Val(t.Key)] = api.Val(t.Value)
	}
	return m
}

func tagList(m map[string]string) []iam.Tag {
	var out []iam.Tag
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, iam.Tag{Key: api.Ptr(k), Value: api.Ptr(m[k])})
	}
	return out
}

func tagKey(t iam.Tag) string { return *t.Key }

func boundary(arn string) *iam.AttachedPermissionsBoundary {
	if arn == "" {
		return nil
	}
	return &iam.AttachedPermissionsBoundary{PermissionsBoundaryArn: &arn, PermissionsBoundaryType: api.Ptr("Policy")}
}

func lower(s string) string { return strings.ToLower(s) }

// caller is the name of the user that calls, which some operations take when none is named; root has none.
func caller(c *api.Call, named *string) (string, error) {
	if n := api.Val(named); n != "" {
		return n, nil
	}
	if identity.Principal(c.Principal).IsRoot() {
		return "", nil
	}
	if i := strings.Index(c.Principal.ARN, ":user/"); i > 0 {
		return c.Principal.ARN[strings.LastIndex(c.Principal.ARN, "/")+1:], nil
	}
	return "", fault.New(fault.Invalid, "ValidationError", "Must specify userName when calling with non-User credentials")
}

// change runs fn in a transaction and answers with nothing.
func change[Out any](c *api.Call, fn func(w *store.WriteTx) error) (*Out, error) {
	if err := c.Update(fn); err != nil {
		return nil, err
	}
	return new(Out), nil
}
