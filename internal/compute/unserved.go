package compute

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// Unserved lists the members of a launch's document, as "Parent.Member", that LaunchSpec does not know and that ask for
// something: a false, a zero or an empty member asks for nothing. Members named in known are left out.
func Unserved(document []byte, known ...string) []string {
	var v map[string]any
	if json.Unmarshal(document, &v) != nil {
		return nil
	}
	var out []string
	walk(v, reflect.TypeFor[LaunchSpec](), "", func(name string) {
		if !slices.Contains(known, name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	})
	slices.Sort(out)
	return out
}

func walk(v any, t reflect.Type, path string, report func(string)) {
	switch t.Kind() {
	case reflect.Pointer:
		walk(v, t.Elem(), path, report)
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok || t == reflect.TypeFor[json.RawMessage]() {
			return
		}
		for _, e := range list {
			walk(e, t.Elem(), path, report)
		}
	case reflect.Struct:
		members, _ := v.(map[string]any)
		for name, m := range members {
			full := strings.TrimPrefix(path+"."+name, ".")
			if f, ok := member(t, name); ok {
				walk(m, f, full, report)
			} else if asks(m) {
				report(full)
			}
		}
	}
}

func member(t reflect.Type, name string) (reflect.Type, bool) {
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" {
			tag = f.Name
		}
		if strings.EqualFold(tag, name) {
			return f.Type, true
		}
	}
	return nil, false
}

// asks tells whether a value is more than nothing.
func asks(v any) bool {
	switch x := v.(type) {
	case bool:
		return x
	case float64:
		return x != 0
	case string:
		return x != ""
	case []any:
		return slices.ContainsFunc(x, asks)
	case map[string]any:
		for _, m := range x {
			if asks(m) {
				return true
			}
		}
	}
	return false
}
