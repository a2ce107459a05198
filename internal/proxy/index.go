package proxy

import (
	"bytes"
	"net/netip"
	"slices"
)

// Bounds of the rule index.
const (
	indexFrom  = 8   // fewer rules are tried one by one
	maxLiteral = 256 // longer texts are not indexed
	maxLists   = 24  // lists of candidates for one request; with more, all rules are tried
)

// ruleIndex finds the few rules that a request can match. Each rule is listed under one of its conditions, its anchor:
// under every literal text (whole, beginning or end) that one of the condition's values asks for. A rule without such a
// condition is a candidate for every request. Candidates are tried in order, whole, so the answer is always that of
// trying all rules.
type ruleIndex struct {
	always  []int32
	host    texts // folded
	path    texts
	methods map[string][]int32
	headers map[string]*texts  // by folded name; values folded
	pairs   map[string][]int32 // key=value of a query, folded
	values  map[string][]int32 // a query's value for any key, folded
	sources map[netip.Prefix][]int32
	bits4   []int // the lengths of the prefixes in sources
	bits6   []int
}

// texts lists rules by a literal that a text must be, begin or end with.
type texts struct {
	whole, begin, end    map[string][]int32
	beginSizes, endSizes []int
}

// anchor is one key under which a rule may be listed.
type anchor struct {
	in     anchorKind
	header string
	text   string
	source netip.Prefix
}

type anchorKind uint8

const (
	wholeHost anchorKind = iota
	beginHost
	endHost
	wholePath
	beginPath
	endPath
	aMethod
	wholeHeader
	beginHeader
	endHeader
	aPair
	aValue
	aSource
)

// longest returns the longest literal that what p matches must be (0), begin with (1) or end with (2).
func (p *pattern) longest() (text string, where anchorKind) {
	if p.exact {
		return string(p.text), 0
	}
	first := bytes.IndexAny(p.text, "\x00\x01")
	last := bytes.LastIndexAny(p.text, "\x00\x01")
	if end := p.text[last+1:]; len(end) > first {
		return string(end), 2
	}
	return string(p.text[:first]), 1
}

// anchors returns the keys of a condition, nil if some value has none.
func (c *condition) anchors() (as []anchor) {
	if len(c.regexps) > 0 {
		return nil
	}
	base, header := wholeHost, ""
	switch c.field {
	case PathPattern:
		base = wholePath
	case HTTPHeader:
		base, header = wholeHeader, string(c.header)
	case RequestMethod:
		for _, m := range c.methods {
			as = append(as, anchor{in: aMethod, text: m})
		}
		return as
	case SourceIP:
		for _, s := range c.sources {
			as = append(as, anchor{in: aSource, source: s})
		}
		return as
	}
	for i := range c.patterns {
		p := &c.patterns[i]
		text, where := p.longest()
		a := anchor{in: base + where, header: header, text: text}
		if c.field == QueryField {
			if where != 0 || c.keys[i] != nil && !c.keys[i].exact {
				return nil
			}
			a.in = aValue
			if c.keys[i] != nil {
				a.in, a.text = aPair, string(c.keys[i].text)+"="+text
			}
		}
		// A path begins with a slash: that says nothing.
		if len(a.text) > maxLiteral || where != 0 && (a.text == "" || a.in == beginPath && a.text == "/") {
			return nil
		}
		as = append(as, a)
	}
	return as
}

// newRuleIndex indexes rules, which are in order.
func newRuleIndex(rules []rule) *ruleIndex {
	if len(rules) < indexFrom {
		return nil
	}
	popular := map[anchor]int{}
	all := make([][][]anchor, len(rules))
	for i := range rules {
		for k := range rules[i].conditions {
			as := rules[i].conditions[k].anchors()
			all[i] = append(all[i], as)
			for _, a := range as {
				popular[a]++
			}
		}
	}
	x := &ruleIndex{methods: map[string][]int32{}, headers: map[string]*texts{}, pairs: map[string][]int32{}, values: map[string][]int32{}, sources: map[netip.Prefix][]int32{}}
	for i := range rules {
		var best []anchor
		least := 0
		for _, as := range all[i] {
			if as == nil {
				continue
			}
			n := 0
			for _, a := range as {
				n += popular[a]
			}
			if best == nil || n < least {
				best, least = as, n
			}
		}
		if best == nil {
			x.always = append(x.always, int32(i))
			continue
		}
		for _, a := range best {
			x.add(a, int32(i))
		}
	}
	for _, t := range x.headers {
		t.sort()
	}
	x.host.sort()
	x.path.sort()
	slices.Sort(x.bits4)
	slices.Sort(x.bits6)
	return x
}

func (x *ruleIndex) add(a anchor, i int32) {
	switch a.in {
	case wholeHost, beginHost, endHost:
		x.host.add(a.in-wholeHost, a.text, i)
	case wholePath, beginPath, endPath:
		x.path.add(a.in-wholePath, a.text, i)
	case wholeHeader, beginHeader, endHeader:
		t := x.headers[a.header]
		if t == nil {
			t = &texts{}
			x.headers[a.header] = t
		}
		t.add(a.in-wholeHeader, a.text, i)
	case aMethod:
		list(x.methods, a.text, i)
	case aPair:
		list(x.pairs, a.text, i)
	case aValue:
		list(x.values, a.text, i)
	case aSource:
		bits := &x.bits4
		if a.source.Addr().Is6() {
			bits = &x.bits6
		}
		if n := a.source.Bits(); !slices.Contains(*bits, n) {
			*bits = append(*bits, n)
		}
		list(x.sources, a.source, i)
	}
}

// list appends i to m's list, once.
func list[K comparable](m map[K][]int32, k K, i int32) {
	if l := m[k]; len(l) == 0 || l[len(l)-1] != i {
		m[k] = append(l, i)
	}
}

func (t *texts) add(where anchorKind, text string, i int32) {
	if t.whole == nil {
		t.whole, t.begin, t.end = map[string][]int32{}, map[string][]int32{}, map[string][]int32{}
	}
	switch where {
	case 0:
		list(t.whole, text, i)
	case 1:
		list(t.begin, text, i)
		if !slices.Contains(t.beginSizes, len(text)) {
			t.beginSizes = append(t.beginSizes, len(text))
		}
	case 2:
		list(t.end, text, i)
		if !slices.Contains(t.endSizes, len(text)) {
			t.endSizes = append(t.endSizes, len(text))
		}
	}
}

func (t *texts) sort() {
	slices.Sort(t.beginSizes)
	slices.Sort(t.endSizes)
}

// candidates are lists of rules, each in order.
type candidates struct {
	lists [maxLists][]int32
	n     int
	over  bool // there were more lists
}

func (c *candidates) add(l []int32) {
	switch {
	case len(l) == 0:
	case c.n == maxLists:
		c.over = true
	default:
		c.lists[c.n] = l
		c.n++
	}
}

// next takes the lowest rule; it returns -1 when none is left.
func (c *candidates) next() int {
	low := int32(-1)
	for i := 0; i < c.n; i++ {
		if l := c.lists[i]; len(l) > 0 && (low < 0 || l[0] < low) {
			low = l[0]
		}
	}
	for i := 0; i < c.n; i++ {
		if l := c.lists[i]; len(l) > 0 && l[0] == low {
			c.lists[i] = l[1:]
		}
	}
	return int(low)
}

// fold lowers as much of b as fits into dst.
func fold(dst *[maxLiteral]byte, b []byte) []byte {
	n := min(len(b), len(dst))
	for i, c := range b[:n] {
		if c >= 'A' && c <= 'Z' {
			c |= 32
		}
		dst[i] = c
	}
	return dst[:n]
}

// find adds the lists for the text b.
func (t *texts) find(c *candidates, b []byte, folded bool) {
	var buf [maxLiteral]byte
	front := b
	if folded {
		front = fold(&buf, b)
	}
	if len(b) <= maxLiteral && len(t.whole) > 0 {
		c.add(t.whole[string(front)])
	}
	for _, n := range t.beginSizes {
		if n > len(front) {
			break
		}
		c.add(t.begin[string(front[:n])])
	}
	if len(t.endSizes) == 0 {
		return
	}
	back := b[max(0, len(b)-maxLiteral):]
	if folded {
		back = fold(&buf, back)
	}
	for _, n := range t.endSizes {
		if n > len(back) {
			break
		}
		c.add(t.end[string(back[len(back)-n:])])
	}
}

// find fills c with what the request may match.
func (x *ruleIndex) find(c *candidates, r *request, peer netip.Addr) {
	c.add(x.always)
	x.host.find(c, r.hostname, true)
	x.path.find(c, r.path, false)
	if len(x.methods) > 0 {
		c.add(x.methods[string(r.method)])
	}
	if len(x.headers) > 0 {
		var name [maxLiteral]byte
		for i := range r.fields {
			if f := &r.fields[i]; len(f.name) <= maxLiteral {
				if t := x.headers[string(fold(&name, f.name))]; t != nil {
					t.find(c, f.value, true)
				}
			}
		}
	}
	if len(x.pairs)+len(x.values) > 0 {
		x.findQuery(c, r.query)
	}
	if len(x.sources) > 0 {
		bits := x.bits4
		if peer.Is6() {
			bits = x.bits6
		}
		for _, n := range bits {
			if p, err := peer.Prefix(n); err == nil {
				c.add(x.sources[p])
			}
		}
	}
}

func (x *ruleIndex) findQuery(c *candidates, q []byte) {
	var buf [maxLiteral]byte
	for len(q) > 0 && !c.over {
		arg := q
		if i := bytes.IndexByte(q, '&'); i >= 0 {
			arg, q = q[:i], q[i+1:]
		} else {
			q = nil
		}
		i := bytes.IndexByte(arg, '=')
		if len(x.values) > 0 {
			val := []byte(nil)
			if i >= 0 {
				val = arg[i+1:]
			}
			if len(val) <= maxLiteral {
				c.add(x.values[string(fold(&buf, val))])
			}
		}
		if len(x.pairs) == 0 || len(arg) >= maxLiteral {
			continue
		}
		key := fold(&buf, arg)
		if i < 0 {
			key = append(key, '=')
		}
		c.add(x.pairs[string(key)])
	}
}

// decide returns the action for a request, and how many rules come before it with it: what the service counts as evaluated.
func (l *listenerTable) decide(r *request, peer netip.Addr) (*action, int) {
	if len(l.oidc) > 0 && isCallback(r.path) {
		return &l.back, 0
	}
	if l.index != nil {
		var c candidates
		l.index.find(&c, r, peer)
		if !c.over {
			for {
				i := c.next()
				if i < 0 {
					return &l.fallback[0], len(l.rules)
				}
				if l.rules[i].match(r, peer) {
					return &l.rules[i].action, i + 1
				}
			}
		}
	}
	return l.decideInTurn(r, peer)
}

// decideInTurn tries one rule after the other.
func (l *listenerTable) decideInTurn(r *request, peer netip.Addr) (*action, int) {
	for i := range l.rules {
		if l.rules[i].match(r, peer) {
			return &l.rules[i].action, i + 1
		}
	}
	return &l.fallback[0], len(l.rules)
}

func (ru *rule) match(r *request, peer netip.Addr) bool {
	for k := range ru.conditions {
		if !ru.conditions[k].match(r, peer) {
			return false
		}
	}
	return true
}
