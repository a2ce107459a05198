package fabric

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ruleset is the content of one nftables table, as text that can be compared. It is built anew at every Apply; the
// difference to the one before is what nft gets to see.
type ruleset struct {
	table  string // family and name
	chains map[string]chain
	sets   map[string]set
}

type chain struct {
	hook  string // declaration of a base chain, "" for one that is jumped to
	rules []string
}

type set struct {
	kind  string            // set or map
	typ   string            // key type, for maps "key : value"; with "; counter" elements count what matches them
	elems map[string]string // key → value, "" in sets
}

func newRuleset(table string) *ruleset {
	return &ruleset{table: table, chains: map[string]chain{}, sets: map[string]set{}}
}

func (r *ruleset) declare(kind, name, typ string) {
	r.sets[name] = set{kind: kind, typ: typ, elems: map[string]string{}}
}

func (r *ruleset) chain(name, hook string, rules ...string) {
	r.chains[name] = chain{hook: hook, rules: rules}
}

func (r *ruleset) add(set, key, value string) { r.sets[set].elems[key] = value }

func elem(k, v string) string {
	if v == "" {
		return k
	}
	return k + " : " + v
}

// full returns a transaction that replaces the table, whatever there was.
func (r *ruleset) full() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s {}\ndelete table %s\ntable %s {\n", r.table, r.table, r.table)
	for _, name := range slices.Sorted(maps.Keys(r.sets)) {
		s := r.sets[name]
		fmt.Fprintf(&b, " %s %s { type %s;", s.kind, name, s.typ)
		if len(s.elems) > 0 {
			fmt.Fprintf(&b, " elements = { %s }", strings.Join(s.list(), ", "))
		}
		b.WriteString(" }\n")
	}
	for _, name := range slices.Sorted(maps.Keys(r.chains)) {
		c := r.chains[name]
		fmt.Fprintf(&b, " chain %s { %s\n", name, c.hook)
		for _, rule := range c.rules {
			fmt.Fprintf(&b, "  %s\n", rule)
		}
		b.WriteString(" }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (s set) list() []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s.elems)) {
		out = append(out, elem(k, s.elems[k]))
	}
	return out
}

// since returns a transaction that turns old into r, "" when they are equal. The order matters inside it: a chain must
// exist before anything jumps to it and may go only when nothing does.
func (r *ruleset) since(old *ruleset) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for _, name := range slices.Sorted(maps.Keys(r.sets)) {
		s := r.sets[name]
		o, had := old.sets[name]
		if !had {
			line("add %s %s %s { type %s; }", s.kind, r.table, name, s.typ)
			continue
		}
		var gone []string
		for _, k := range slices.Sorted(maps.Keys(o.elems)) {
			if v, keeps := s.elems[k]; !keeps || v != o.elems[k] {
				gone = append(gone, elem(k, o.elems[k]))
			}
		}
		if len(gone) > 0 {
			line("delete element %s %s { %s }", r.table, name, strings.Join(gone, ", "))
		}
	}
	var rewritten []string
	for _, name := range slices.Sorted(maps.Keys(r.chains)) {
		c := r.chains[name]
		o, had := old.chains[name]
		switch {
		case !had:
			line("add chain %s %s { %s }", r.table, name, c.hook)
			rewritten = append(rewritten, name)
		case !slices.Equal(c.rules, o.rules):
			line("flush chain %s %s", r.table, name)
			rewritten = append(rewritten, name)
		}
	}
	for _, name := range rewritten {
		for _, rule := range r.chains[name].rules {
			line("add rule %s %s %s", r.table, name, rule)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.sets)) {
		s, o := r.sets[name], old.sets[name]
		var fresh []string
		for _, k := range slices.Sorted(maps.Keys(s.elems)) {
			if v, had := o.elems[k]; !had || v != s.elems[k] {
				fresh = append(fresh, elem(k, s.elems[k]))
			}
		}
		if len(fresh) > 0 {
			line("add element %s %s { %s }", r.table, name, strings.Join(fresh, ", "))
		}
	}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(old.chains)) {
		if _, keeps := r.chains[name]; !keeps {
			line("flush chain %s %s", r.table, name) // what it jumps to may go in the same transaction
			gone = append(gone, name)
		}
	}
	for _, name := range gone {
		line("delete chain %s %s", r.table, name)
	}
	for _, name := range slices.Sorted(maps.Keys(old.sets)) {
		if _, keeps := r.sets[name]; !keeps {
			line("delete %s %s %s", old.sets[name].kind, r.table, name)
		}
	}
	return b.String()
}
