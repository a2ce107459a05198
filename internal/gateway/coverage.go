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
	b.WriteString("# Coverage\n\nGenerated from the table of handlers; do not edit. An operation that is not served is refused by name, and so is one\n" +
		"that is not listed here. Every member of a served operation's input is honoured or refused, but for those named in the\nlast column: they are accepted and have no effect yet, and the log says so when one is sent.\n\n")
	b.WriteString("| Service | API version | Protocols | Served | Listed |\n|---|---|---|---|---|\n")
	for _, s := range m.Services() {
		served := 0
		for _, op := range s.Operations {
			if m.Lookup(s, op.Name) != nil {
				served++
			}
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %d | %d |\n", s.Name, s.Name, s.Version, strings.Join(s.Protocols, ", "), served, len(s.Operations))
	}
	for _, s := range m.Services() {
		fmt.Fprintf(&b, "\n## %s\n\n| Operation | Served | Without effect |\n|---|---|---|\n", s.Name)
		for _, op := range s.Operations {
			served := "no"
			if m.Lookup(s, op.Name) != nil {
				served = "yes"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", op.Name, served, strings.Join(op.Inert, ", "))
		}
	}
	return []byte(b.String())
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
