package proxy

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// pattern matches with the wildcards * (any run) and ? (any one character).
type pattern struct {
	text   []byte // with 0 for ? and 1 for *, which no head holds
	fold   bool   // text is lower case, and so is what it is compared with
	prefix bool   // text[:len-1] is literal and the rest is *
	exact  bool
}

const (
	anyOne = 0
	anyRun = 1
)

// newPattern compiles a pattern. In a query-string pattern \ takes the meaning from a wildcard.
func newPattern(s string, fold, escapes bool) pattern {
	p := pattern{fold: fold, exact: true, prefix: true}
	if fold {
		s = strings.ToLower(s)
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case escapes && c == '\\' && i+1 < len(s) && (s[i+1] == '*' || s[i+1] == '?' || s[i+1] == '\\'):
			i++
			c = s[i]
		case c == '*':
			c = anyRun
			p.exact = false
			if i != len(s)-1 {
				p.prefix = false
			}
		case c == '?':
			c = anyOne
			p.exact, p.prefix = false, false
		}
		p.text = append(p.text, c)
	}
	return p
}

func (p *pattern) same(x, y byte) bool {
	if p.fold && y >= 'A' && y <= 'Z' {
		y |= 32
	}
	return x == y
}

func (p *pattern) literal(text, b []byte) bool {
	if !p.fold {
		return bytes.Equal(text, b)
	}
	for i := range text {
		if !p.same(text[i], b[i]) {
			return false
		}
	}
	return true
}

// match tells whether the pattern matches all of b. It needs no memory and O(len(p)·len(b)) time.
func (p *pattern) match(b []byte) bool {
	switch {
	case p.exact:
		return len(b) == len(p.text) && p.literal(p.text, b)
	case p.prefix:
		n := len(p.text) - 1
		return len(b) >= n && p.literal(p.text[:n], b[:n])
	}
	t, i, star, mark := 0, 0, -1, 0
	for i < len(b) {
		switch {
		case t < len(p.text) && p.text[t] == anyRun:
			star, mark = t, i
			t++
		case t < len(p.text) && (p.text[t] == anyOne || p.same(p.text[t], b[i])):
			t++
			i++
		case star >= 0:
			mark++
			t, i = star+1, mark
		default:
			return false
		}
	}
	for t < len(p.text) && p.text[t] == anyRun {
		t++
	}
	return t == len(p.text)
}

// condition is a compiled Condition.
type condition struct {
	field    string
	header   []byte // lower case
	patterns []pattern
	keys     []*pattern // of query-string, nil for any key
	methods  []string
	regexps  []*regexp.Regexp
	sources  []netip.Prefix
}

func compileCondition(c Condition) (condition, error) {
	out := condition{field: c.Field, header: []byte(strings.ToLower(c.Header))}
	for _, s := range c.Regex {
		expr := s
		if c.Field != PathPattern { // hosts and values of headers have no case
			expr = "(?i:" + s + ")"
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			return out, fmt.Errorf("regular expression %q: %w", s, err)
		}
		out.regexps = append(out.regexps, re)
	}
	switch c.Field {
	case HostHeader, PathPattern, HTTPHeader:
		if c.Field == HTTPHeader && c.Header == "" {
			return out, fmt.Errorf("an http-header condition needs a header name")
		}
		for _, v := range c.Values {
			out.patterns = append(out.patterns, newPattern(v, c.Field != PathPattern, false))
		}
	case RequestMethod:
		out.methods = c.Values
	case QueryField:
		qs := c.Query
		for _, v := range c.Values { // "value" or "key=value"
			k, val, ok := strings.Cut(v, "=")
			if !ok {
				k, val = "", v
			}
			qs = append(qs, QueryString{Key: k, Value: val})
		}
		for _, q := range qs {
			var key *pattern
			if q.Key != "" {
				k := newPattern(q.Key, true, true)
				key = &k
			}
			out.keys = append(out.keys, key)
			out.patterns = append(out.patterns, newPattern(q.Value, true, true))
		}
	case SourceIP:
		for _, v := range c.Values {
			pf, err := netip.ParsePrefix(v)
			if err != nil {
				return out, fmt.Errorf("source-ip %q is not a CIDR block", v)
			}
			out.sources = append(out.sources, pf.Masked())
		}
	default:
		return out, fmt.Errorf("condition field %q does not exist", c.Field)
	}
	if len(out.patterns)+len(out.methods)+len(out.regexps)+len(out.sources) == 0 {
		return out, fmt.Errorf("a %s condition needs a value", c.Field)
	}
	return out, nil
}

func (c *condition) any(b []byte) bool {
	for i := range c.patterns {
		if c.patterns[i].match(b) {
			return true
		}
	}
	for _, re := range c.regexps {
		if re.Match(b) {
			return true
		}
	}
	return false
}

// match tells whether the request from that peer meets the condition.
func (c *condition) match(r *request, peer netip.Addr) bool {
	switch c.field {
	case HostHeader:
		return c.any(r.hostname)
	case PathPattern:
		return c.any(r.path)
	case HTTPHeader:
		for i := range r.fields {
			if f := &r.fields[i]; len(f.name) == len(c.header) && equalFold(f.name, string(c.header)) && c.any(f.value) {
				return true
			}
		}
	case RequestMethod:
		for _, m := range c.methods {
			if m == string(r.method) {
				return true
			}
		}
	case QueryField:
		return c.matchQuery(r.query)
	case SourceIP:
		for _, pf := range c.sources {
			if pf.Contains(peer) {
				return true
			}
		}
	}
	return false
}

func (c *condition) matchQuery(q []byte) bool {
	for len(q) > 0 {
		arg := q
		if i := bytes.IndexByte(q, '&'); i >= 0 {
			arg, q = q[:i], q[i+1:]
		} else {
			q = nil
		}
		key, val := arg, []byte(nil)
		if i := bytes.IndexByte(arg, '='); i >= 0 {
			key, val = arg[:i], arg[i+1:]
		}
		for i := range c.patterns {
			if (c.keys[i] == nil || c.keys[i].match(key)) && c.patterns[i].match(val) {
				return true
			}
		}
	}
	return false
}
