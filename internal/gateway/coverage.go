package gateway

import (
	"fmt"
	"reflect"
	"strings"

	"skerry/api"
)

// Coverage writes which operations a table serves, as the text of docs/coverage.md.
func Coverage(m *api.Mux) []byte {
	var b strings.Builder
	b.WriteString(`# Coverage

Generated from the handlers (docs/howto/add-an-operation.md says how); do not edit.

- **yes**: served.
- **empty**: served, and there are none of what it lists: no filter finds one, an id is not found.
- **refused**: known, and refused with the reason why this cloud has no such thing.
- **no**: refused by name, as is every operation that is not listed here.

Every member of a served operation's input is honoured or refused, but for those in the last column: they are accepted
and have no effect yet, and the log names them when one is sent.

| Service | API version | Protocols | Yes | Empty | Refused | No |
|---|---|---|---|---|---|---|
`)
	for _, s := range m.Services() {
		count := map[string]int{}
		for _, op := range s.Operations {
			count[served(m, s, op)]++
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %d | %d | %d | %d |\n", s.Name, s.Name, s.Version, strings.Join(s.Protocols, ", "), count["yes"], count["empty"], count["refused"], count["no"])
	}
	for _, s := range m.Services() {
		fmt.Fprintf(&b, "\n## %s\n\n| Operation | Served | Without effect |\n|---|---|---|\n", s.Name)
		for _, op := range s.Operations {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", op.Name, served(m, s, op), strings.Join(op.Inert, ", "))
		}
	}
	return []byte(b.String())
}

func served(m *api.Mux, s *api.Service, op api.OpInfo) string {
	switch {
	case m.Lookup(s, op.Name) == nil:
		return "no"
	case op.Note != "":
		return op.Note
	}
	return "yes"
}

// inertMembers lists the members without effect that the request sets.
func inertMembers(x *Exchange) []string {
	var set []string
	for _, op := range x.Service.Operations {
		if op.Name != x.Operation {
			continue
		}
		for _, path := range op.Inert {
			if isSet(reflect.ValueOf(x.In).Elem(), strings.Split(path, ".")) {
				set = append(set, path)
			}
		}
	}
	return set
}

func isSet(v reflect.Value, path []string) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return !v.IsNil() && (len(path) == 0 || isSet(v.Elem(), path))
	case reflect.Slice:
		for i := 0; i < v.Len() && len(path) > 0; i++ {
			if isSet(v.Index(i), path) {
				return true
			}
		}
		return len(path) == 0 && v.Len() > 0
	case reflect.Map:
		return v.Len() > 0
	case reflect.Struct:
		if len(path) > 0 {
			f := v.FieldByName(path[0])
			return f.IsValid() && isSet(f, path[1:])
		}
	}
	return len(path) == 0
}
