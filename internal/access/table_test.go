package access

import (
	"reflect"
	"strings"
	"testing"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/api/elbv2"
	"skerry/internal/endpoint/ec2api"
	"skerry/internal/endpoint/elbapi"
)

// TestTablesAreComplete: an operation that writes and that no table knows would be asked about "*" only, and a deny of one
// resource would not hold for it. A member's name that the input has not would ask for any.
func TestTablesAreComplete(t *testing.T) {
	m := api.NewMux(&ec2.Service, &elbv2.Service)
	(&ec2api.Server{}).Register(m)
	(&elbapi.Server{}).Register(m)
	known := map[string]bool{}
	for _, h := range m.Handlers() {
		known[h.Service.Name+":"+h.Name] = true
		read := strings.HasPrefix(h.Name, "Describe") || strings.HasPrefix(h.Name, "Get")
		if h.Service == &elbv2.Service {
			member, ok := elbMembers[h.Name]
			if !ok && !read && h.Name != "CreateLoadBalancer" && h.Name != "CreateTargetGroup" && h.Name != "CreateTrustStore" {
				t.Errorf("elbMembers has not %s", h.Name)
			}
			if ok && !hasMember(h.In, member) {
				t.Errorf("%s has no member %s", h.Name, member)
			}
			continue
		}
		terms, ok := ec2Terms[h.Name]
		if !ok && !read {
			t.Errorf("ec2Terms has not %s", h.Name)
		}
		for _, term := range strings.Fields(terms) {
			if name, ok := strings.CutPrefix(term, "@"); ok {
				if ec2Lookups[name] == nil {
					t.Errorf("%s: there is no lookup %s", h.Name, name)
				}
				continue
			}
			kind, member, ok := strings.Cut(strings.Replace(term, "?", ":", 1), ":")
			kind = strings.TrimSuffix(kind, "/*")
			if !isType(kind) && term != "*" {
				t.Errorf("%s: %s is no type of resource", h.Name, kind)
			}
			if ok && !hasMember(h.In, member) {
				t.Errorf("%s has no member %s", h.Name, member)
			}
		}
	}
	for op := range ec2Terms {
		if !known["ec2:"+op] {
			t.Errorf("ec2Terms has %s, which is not served", op)
		}
	}
	for op := range elbMembers {
		if !known["elbv2:"+op] {
			t.Errorf("elbMembers has %s, which is not served", op)
		}
	}
}

func isType(kind string) bool {
	for _, k := range ec2Types {
		if k == kind {
			return true
		}
	}
	return false
}

// hasMember tells whether the path leads to a string or strings, as texts finds them.
func hasMember(in reflect.Type, path string) bool {
	name, rest, deeper := strings.Cut(path, ".")
	f, ok := in.FieldByName(name)
	if !ok {
		return false
	}
	if !deeper {
		return f.Type == reflect.TypeFor[*string]() || f.Type == reflect.TypeFor[[]string]()
	}
	return (f.Type.Kind() == reflect.Pointer || f.Type.Kind() == reflect.Slice) && hasMember(f.Type.Elem(), rest)
}
