package policy

import (
	"cmp"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// operator compares the values of a request's key with one value of the condition.
type operator struct {
	match  func(want pat, got string) bool
	negate bool
}

var operators = map[string]operator{
	"StringEquals":              {match: func(w pat, g string) bool { return w.text == g }},
	"StringNotEquals":           {match: func(w pat, g string) bool { return w.text == g }, negate: true},
	"StringEqualsIgnoreCase":    {match: func(w pat, g string) bool { return strings.EqualFold(w.text, g) }},
	"StringNotEqualsIgnoreCase": {match: func(w pat, g string) bool { return strings.EqualFold(w.text, g) }, negate: true},
	"StringLike":                {match: glob},
	"StringNotLike":             {match: glob, negate: true},
	"NumericEquals":             {match: numeric(func(c int) bool { return c == 0 })},
	"NumericNotEquals":          {match: numeric(func(c int) bool { return c == 0 }), negate: true},
	"NumericLessThan":           {match: numeric(func(c int) bool { return c < 0 })},
	"NumericLessThanEquals":     {match: numeric(func(c int) bool { return c <= 0 })},
	"NumericGreaterThan":        {match: numeric(func(c int) bool { return c > 0 })},
	"NumericGreaterThanEquals":  {match: numeric(func(c int) bool { return c >= 0 })},
	"DateEquals":                {match: date(func(c int) bool { return c == 0 })},
	"DateNotEquals":             {match: date(func(c int) bool { return c == 0 }), negate: true},
	"DateLessThan":              {match: date(func(c int) bool { return c < 0 })},
	"DateLessThanEquals":        {match: date(func(c int) bool { return c <= 0 })},
	"DateGreaterThan":           {match: date(func(c int) bool { return c > 0 })},
	"DateGreaterThanEquals":     {match: date(func(c int) bool { return c >= 0 })},
	"Bool":                      {match: func(w pat, g string) bool { return strings.EqualFold(w.text, g) }},
	"BinaryEquals":              {match: binary},
	"IpAddress":                 {match: address},
	"NotIpAddress":              {match: address, negate: true},
	"ArnEquals":                 {match: arnMatch},
	"ArnLike":                   {match: arnMatch},
	"ArnNotEquals":              {match: arnMatch, negate: true},
	"ArnNotLike":                {match: arnMatch, negate: true},
}

// met tells whether the condition holds; known is false for an operator that IAM does not have.
func (c Condition) met(vars bool, keys map[string][]string) (met, known bool) {
	op := c.Operator
	all, one := false, false
	if rest, ok := strings.CutPrefix(op, "ForAllValues:"); ok {
		op, all = rest, true
	} else if rest, ok := strings.CutPrefix(op, "ForAnyValue:"); ok {
		op, one = rest, true
	}
	got, present := keys[strings.ToLower(c.Key)]
	present = present && len(got) > 0
	if op == "Null" {
		for _, v := range c.Values {
			if strings.EqualFold(v, strconv.FormatBool(!present)) {
				return true, true
			}
		}
		return false, true
	}
	op, ifExists := strings.CutSuffix(op, "IfExists")
	o, ok := operators[op]
	if !ok {
		return false, false
	}
	if !present {
		return ifExists || all || (o.negate && !one), true
	}
	get := func(k string) []string { return keys[strings.ToLower(k)] }
	hit := func(g string) bool { // one value of the request against all of the condition's
		for _, v := range c.Values {
			if w, ok := expand(v, vars, get); ok && o.match(w, g) {
				return !o.negate
			}
		}
		return o.negate
	}
	switch {
	case one:
		for _, g := range got {
			if hit(g) {
				return true, true
			}
		}
		return false, true
	case all, o.negate:
		for _, g := range got {
			if !hit(g) {
				return false, true
			}
		}
		return true, true
	}
	for _, g := range got {
		if hit(g) {
			return true, true
		}
	}
	return false, true
}

func numeric(ok func(int) bool) func(pat, string) bool {
	return func(w pat, g string) bool {
		a, err := strconv.ParseFloat(g, 64)
		b, err2 := strconv.ParseFloat(w.text, 64)
		if err != nil || err2 != nil || a != a || b != b {
			return false
		}
		return ok(cmp.Compare(a, b))
	}
}

func date(ok func(int) bool) func(pat, string) bool {
	return func(w pat, g string) bool {
		a, err := parseTime(g)
		b, err2 := parseTime(w.text)
		return err == nil && err2 == nil && ok(a.Compare(b))
	}
}

// parseTime reads the forms of dates that policies have: ISO 8601 with less or more of it, or seconds since the epoch.
func parseTime(s string) (t time.Time, err error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && len(s) > 4 {
		return time.Unix(n, 0), nil
	}
	for _, f := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02", "2006-01", "2006"} {
		if t, err = time.Parse(f, s); err == nil {
			return t, nil
		}
	}
	return t, err
}

func binary(w pat, g string) bool {
	a, err := base64.StdEncoding.DecodeString(w.text)
	b, err2 := base64.StdEncoding.DecodeString(g)
	return err == nil && err2 == nil && string(a) == string(b)
}

func address(w pat, g string) bool {
	a, err := netip.ParseAddr(g)
	if err != nil {
		return false
	}
	if p, err := netip.ParsePrefix(w.text); err == nil {
		return p.Contains(a.Unmap())
	}
	b, err := netip.ParseAddr(w.text)
	return err == nil && a.Unmap() == b.Unmap()
}
