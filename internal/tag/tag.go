// Package tag keeps the tags of EC2 resources in a table of their own, so that every kind of resource is tagged, filtered
// and cleaned up in one way.
//
// Invariants: a tag belongs to one resource id of one scope; a resource has at most MaxUser user tags (those that begin
// with aws: are not counted); a deleted resource leaves no tags (its delete function calls DeleteAll). It starts no
// goroutine and imports only store, scope and fault.
package tag

import (
	"sort"
	"strings"
	"unicode/utf8"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Limits of AWS.
const (
	MaxUser  = 50
	MaxKey   = 128
	MaxValue = 256
)

// Tag is one tag of one resource.
type Tag struct {
	scope.Scope
	ResourceID string
	Key        string
	Value      string
}

// Tags is the table; its primary key is account/region/resource/key, so a resource's tags are one prefix.
var Tags = store.NewTable("tag", func(t Tag) string { return t.Scope.Key(t.ResourceID) + "/" + t.Key })

// Tables lists the package's tables.
var Tables = []store.AnyTable{Tags}

// Of returns the tags of a resource in the order of their keys.
func Of(tx store.Tx, s scope.Scope, id string) []Tag {
	var out []Tag
	for t := range Tags.Prefix(tx, s.Key(id)+"/") {
		out = append(out, t)
	}
	return out
}

// Map returns the tags of a resource as a new map.
func Map(tx store.Tx, s scope.Scope, id string) map[string]string {
	m := map[string]string{}
	for t := range Tags.Prefix(tx, s.Key(id)+"/") {
		m[t.Key] = t.Value
	}
	return m
}

// Check refuses keys and values that AWS refuses. Keys that begin with aws: are the system's own.
func Check(tags map[string]string) error {
	for _, k := range sortedKeys(tags) {
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		}
		if k == "" {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Tag key cannot be empty.")
		}
		if utf8.RuneCountInString(k) > MaxKey {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Tag key exceeds the maximum length of %d characters", MaxKey)
		}
		if utf8.RuneCountInString(tags[k]) > MaxValue {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Tag value exceeds the maximum length of %d characters", MaxValue)
		}
	}
	return nil
}

// Set adds or overwrites user tags after Check and the count.
func Set(w *store.WriteTx, s scope.Scope, id string, tags map[string]string) error {
	if len(tags) == 0 {
		return nil
	}
	if err := Check(tags); err != nil {
		return err
	}
	n := len(tags)
	for _, t := range Of(w, s, id) {
		if _, replaced := tags[t.Key]; !replaced && !strings.HasPrefix(t.Key, "aws:") {
			n++
		}
	}
	if n > MaxUser {
		return fault.New(fault.Limit, "TagLimitExceeded", "The maximum number of Tags (%d) for this resource has been exceeded", MaxUser)
	}
	SetSystem(w, s, id, tags)
	return nil
}

// SetSystem adds or overwrites tags without a check: for aws: tags and for tags that were checked already.
func SetSystem(w *store.WriteTx, s scope.Scope, id string, tags map[string]string) {
	for _, k := range sortedKeys(tags) {
		Tags.Put(w, Tag{Scope: s, ResourceID: id, Key: k, Value: tags[k]})
	}
}

// Delete removes one tag; if value is not nil, only when it is equal. A missing tag is a success.
func Delete(w *store.WriteTx, s scope.Scope, id, key string, value *string) {
	k := s.Key(id) + "/" + key
	if t, ok := Tags.Get(w, k); ok && (value == nil || *value == t.Value) {
		Tags.Delete(w, k)
	}
}

// DeleteAll removes every tag of a resource.
func DeleteAll(w *store.WriteTx, s scope.Scope, id string) {
	for _, t := range Of(w, s, id) {
		Tags.Delete(w, s.Key(id)+"/"+t.Key)
	}
}

func sortedKeys(m map[string]string) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}
