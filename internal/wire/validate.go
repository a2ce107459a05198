package wire

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"skerry/api"
)

// Rule is what a member breaks.
type Rule int

// The rules.
const (
	Required Rule = iota
	TooSmall      // a number's value, or a length, below Min
	TooLarge
	NoEnum // not one of the words
	NoMatch
)

// Violation is a member that its model does not allow.
type Violation struct {
	Path       string // as the protocol's messages name it
	Value      string // cut to maxShown bytes; empty for what is no scalar
	Rule       Rule
	Number     bool // the rule is about a value, not a length
	Constraint api.Constraint
}

const (
	maxViolations = 10
	maxShown      = 256
)

// Check lists what the shape lacks and what its service's constraints do not allow, at most ten of them.
func Check(in any, p Protocol, constraints map[string]api.Constraint) []Violation {
	v := reflect.ValueOf(in).Elem()
	c := &checker{protocol: p, constraints: constraints}
	c.structure(planOf(v.Type()), v, "")
	return c.found
}

type checker struct {
	protocol    Protocol
	constraints map[string]api.Constraint
	found       []Violation
}

func (c *checker) add(v Violation) {
	if len(c.found) < maxViolations {
		c.found = append(c.found, v)
	}
}

func (c *checker) structure(p *plan, v reflect.Value, path string) {
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(f.index)
		name := f.in
		if c.protocol != EC2 {
			name = strings.ToLower(f.name[:1]) + f.name[1:]
		}
		name = join(path, name)
		switch fv.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			if !fv.IsNil() {
				break
			}
			if f.required {
				c.add(Violation{Path: name, Rule: Required})
			}
			continue
		}
		c.value(f.plan, fv, name, f.shape)
		if f.plan.kind != kList {
			continue
		}
		for n := range fv.Len() {
			at := name + "." + strconv.Itoa(n+1)
			if c.protocol != EC2 {
				at += ".member"
			}
			c.value(f.plan.elem, fv.Index(n), at, f.items)
		}
	}
}

func (c *checker) value(p *plan, v reflect.Value, path, shape string) {
	if p.pointer {
		v = v.Elem()
	}
	if p.kind == kStruct {
		c.structure(p, v, path)
		return
	}
	if shape == "" {
		return
	}
	limit, ok := c.constraints[shape]
	if !ok {
		return
	}
	bad := Violation{Path: path, Constraint: limit}
	var size float64
	switch p.kind {
	case kString:
		s := v.String()
		size = float64(utf8.RuneCountInString(s))
		bad.Value = shown(s)
		if len(limit.Enum) > 0 && !contains(limit.Enum, s) {
			bad.Rule = NoEnum
			c.add(bad)
			return
		}
		if limit.GoPattern != "" && !pattern(limit.GoPattern).MatchString(s) {
			bad.Rule = NoMatch
			c.add(bad)
		}
	case kInt:
		size, bad.Number = float64(v.Int()), true
		bad.Value = strconv.FormatInt(v.Int(), 10)
	case kFloat:
		size, bad.Number = v.Float(), true
		bad.Value = string(appendFloat(nil, size))
	case kBlob, kList, kMap:
		size = float64(v.Len())
	default:
		return
	}
	switch {
	case limit.Min != nil && size < *limit.Min:
		bad.Rule = TooSmall
		c.add(bad)
	case limit.Max != nil && size > *limit.Max:
		bad.Rule = TooLarge
		c.add(bad)
	}
}

func contains(words []string, s string) bool {
	for _, w := range words {
		if w == s {
			return true
		}
	}
	return false
}

func shown(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}

var patterns sync.Map // the model's patterns, compiled: as many as the models have

func pattern(s string) *regexp.Regexp {
	if re, ok := patterns.Load(s); ok {
		return re.(*regexp.Regexp)
	}
	re := regexp.MustCompile(s)
	patterns.Store(s, re)
	return re
}
