package describe

import (
	"encoding/base64"
	"iter"
	"strconv"
	"strings"

	"skerry/internal/fault"
)

// Bounds of a request.
const (
	MaxFilters = 50
	MaxValues  = 200 // of all filters together
	MaxToken   = 1024
)

// Filter is a name with the values of which one must match.
type Filter struct {
	Name   string
	Values []string
}

// Query is what a request asks for besides ids.
type Query struct {
	Filters    []Filter
	MaxResults *int32
	NextToken  *string
	HasIDs     bool // the rows were named by their ids: no pages
}

// Kind describes one kind of resource in its described form.
type Kind[T any] struct {
	Filters map[string]func(*T) []string
	Tags    func(*T, func(key, value string) bool) // yields the tags; nil where tags are no filter
	IDs     string                                 // the parameter of ids, as messages name it
	Min     int                                    // of MaxResults
	Max     int                                    // of MaxResults, and the page's size without it; 0 = one page with all
}

// Bool is the text of a boolean as filters compare it.
func Bool(b bool) []string { return []string{strconv.FormatBool(b)} }

// Compile checks filters and returns the test of all of them.
func (k *Kind[T]) Compile(filters []Filter) (func(*T) bool, error) {
	if len(filters) > MaxFilters {
		return nil, fault.New(fault.Invalid, "FilterLimitExceeded", "The maximum number of filters (%d) has been exceeded.", MaxFilters)
	}
	var tests []func(*T) bool
	total := 0
	for _, f := range filters {
		if total += len(f.Values); total > MaxValues {
			return nil, fault.New(fault.Invalid, "FilterLimitExceeded", "The maximum number of filter values (%d) has been exceeded.", MaxValues)
		}
		if f.Name == "" {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "The filter 'null' is invalid")
		}
		if len(f.Values) == 0 {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "The filter '%s' is invalid", f.Name)
		}
		t, ok := k.test(f)
		if !ok {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "The filter '%s' is invalid", f.Name)
		}
		tests = append(tests, t)
	}
	return func(v *T) bool {
		for _, t := range tests {
			if !t(v) {
				return false
			}
		}
		return true
	}, nil
}

func (k *Kind[T]) test(f Filter) (func(*T) bool, bool) {
	match := matcher(f.Values)
	if get, ok := k.Filters[f.Name]; ok {
		return func(v *T) bool {
			for _, s := range get(v) {
				if match(s) {
					return true
				}
			}
			return false
		}, true
	}
	if k.Tags == nil {
		return nil, false
	}
	name, isTag := strings.CutPrefix(f.Name, "tag:")
	switch {
	case isTag && name != "":
		return func(v *T) bool {
			found := false
			k.Tags(v, func(key, value string) bool {
				found = key == name && match(value)
				return !found
			})
			return found
		}, true
	case f.Name == "tag-key":
		return func(v *T) bool {
			found := false
			k.Tags(v, func(key, _ string) bool { found = match(key); return !found })
			return found
		}, true
	case f.Name == "tag-value":
		return func(v *T) bool {
			found := false
			k.Tags(v, func(_, value string) bool { found = match(value); return !found })
			return found
		}, true
	}
	return nil, false
}

// matcher tests whether a text matches one of the patterns.
func matcher(patterns []string) func(string) bool {
	plain := map[string]bool{}
	var wild []string
	for _, p := range patterns {
		if strings.ContainsAny(p, `*?\`) {
			wild = append(wild, p)
		} else {
			plain[p] = true
		}
	}
	return func(s string) bool {
		if plain[s] {
			return true
		}
		for _, p := range wild {
			if Match(p, s) {
				return true
			}
		}
		return false
	}
}

// Match tests a text against a pattern: * is any number of characters, ? none or one, \ takes the next one literally.
func Match(pattern, s string) bool {
	type atom struct {
		r    rune
		kind byte // 'c' literal, '*', '?'
	}
	var atoms []atom
	rs := []rune(pattern)
	for i := 0; i < len(rs); i++ {
		switch {
		case rs[i] == '\\' && i+1 < len(rs):
			i++
			atoms = append(atoms, atom{rs[i], 'c'})
		case rs[i] == '*' || rs[i] == '?':
			atoms = append(atoms, atom{kind: byte(rs[i])})
		default:
			atoms = append(atoms, atom{rs[i], 'c'})
		}
	}
	// on[i]: the first i atoms can match the text so far.
	on := make([]bool, len(atoms)+1)
	skip := func() {
		for i, a := range atoms {
			if on[i] && a.kind != 'c' {
				on[i+1] = true
			}
		}
	}
	on[0] = true
	skip()
	for _, r := range s {
		for i := len(atoms); i > 0; i-- {
			a := atoms[i-1]
			switch a.kind {
			case 'c':
				on[i] = on[i-1] && a.r == r
			case '?':
				on[i] = on[i-1]
			case '*':
				on[i] = on[i] || on[i-1]
			}
		}
		on[0] = false
		skip()
	}
	return on[len(atoms)]
}

// Page converts, filters and pages rows, which come in the order of their keys. The token is empty on the last page.
func Page[R, T any](k *Kind[T], q Query, rows iter.Seq[R], key func(R) string, convert func(R) T) ([]T, string, error) {
	match, err := k.Compile(q.Filters)
	if err != nil {
		return nil, "", err
	}
	size, after, err := k.window(q)
	if err != nil {
		return nil, "", err
	}
	out := []T{}
	last := ""
	for r := range rows {
		id := key(r)
		if after != "" && id <= after {
			continue
		}
		v := convert(r)
		if !match(&v) {
			continue
		}
		if size > 0 && len(out) == size {
			return out, token(last), nil
		}
		out = append(out, v)
		last = id
	}
	return out, "", nil
}

func (k *Kind[T]) window(q Query) (size int, after string, err error) {
	if k.Max == 0 {
		return 0, "", nil
	}
	size = k.Max
	if q.MaxResults != nil {
		n := int(*q.MaxResults)
		if q.HasIDs && k.IDs != "" {
			return 0, "", fault.New(fault.Invalid, "InvalidParameterCombination", "The parameter %s cannot be used with the parameter maxResults", k.IDs)
		}
		if n < k.Min {
			return 0, "", fault.New(fault.Invalid, "InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value greater than %d.", n, k.Min)
		}
		size = min(n, k.Max)
	}
	if q.HasIDs {
		return 0, "", nil
	}
	if q.NextToken != nil && *q.NextToken != "" {
		if after, err = parse(*q.NextToken); err != nil {
			return 0, "", err
		}
	}
	return size, after, nil
}

const tokenPrefix = "v1 "

func token(key string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(tokenPrefix + key))
}

func parse(t string) (string, error) {
	bad := fault.New(fault.Invalid, "InvalidNextToken", "The token '%.64s' is invalid", t)
	if len(t) > MaxToken {
		return "", bad
	}
	b, err := base64.RawURLEncoding.DecodeString(t)
	if err != nil {
		return "", bad
	}
	key, ok := strings.CutPrefix(string(b), tokenPrefix)
	if !ok || key == "" {
		return "", bad
	}
	return key, nil
}
