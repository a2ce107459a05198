package metric

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"skerry/internal/scope"
)

// Bounds of a search.
const (
	maxSearch = 1024 // characters
	maxTerms  = 100
)

// sought is what a search looks for: metrics of a namespace with exactly these dimensions, if there are any, which a term matches.
type sought struct {
	namespace string
	dims      []string // sorted
	schema    bool
	term      *term // nil: all
}

// term is an operator over other terms, or a text that a property of a metric has: one that is named, or any.
type term struct {
	op       string // AND, OR, NOT, or none
	args     []*term
	property string
	exact    string   // the whole property; or
	tokens   []string // words that it must have
}

type searchParser struct {
	rest         string
	terms, depth int
}

// parseSearch reads the first argument of SEARCH: '{Namespace, Dimension} Property="exact" words'.
func parseSearch(text string) (sought, error) {
	var s sought
	if len(text) > maxSearch {
		return s, fmt.Errorf("what it looks for may have up to %d characters", maxSearch)
	}
	p := &searchParser{rest: text}
	if p.take("{") {
		s.schema = true
		for i := 0; ; i++ {
			word, _, err := p.word("},")
			if err != nil {
				return s, err
			}
			if i == 0 {
				s.namespace = word
			} else {
				s.dims = append(s.dims, word)
			}
			if !p.take(",") {
				break
			}
		}
		slices.Sort(s.dims)
		if !p.take("}") {
			return s, fmt.Errorf("'}' is missing before '%s'", p.rest)
		}
		p.take(",")
	}
	if p.space() == "" && s.schema {
		return s, nil
	}
	var err error
	if s.term, err = p.either(); err == nil && p.space() != "" {
		err = fmt.Errorf("'%s' is not expected", p.rest)
	}
	return s, err
}

func (p *searchParser) space() string {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	return p.rest
}

func (p *searchParser) take(c string) bool {
	rest, ok := strings.CutPrefix(p.space(), c)
	if ok {
		p.rest = rest
	}
	return ok
}

// keyword takes an operator if it is next.
func (p *searchParser) keyword(w string) bool {
	rest, ok := strings.CutPrefix(p.space(), w)
	if ok = ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n(")); ok {
		p.rest = rest
	}
	return ok
}

// word reads a word up to a blank or one of the ends, or a text in quotes.
func (p *searchParser) word(ends string) (text string, quoted bool, err error) {
	if p.take(`"`) {
		text, rest, ok := strings.Cut(p.rest, `"`)
		if !ok {
			return "", true, fmt.Errorf("a text has no end")
		}
		p.rest = rest
		return text, true, nil
	}
	n := strings.IndexAny(p.space(), ends+" \t\r\n")
	if n < 0 {
		n = len(p.rest)
	}
	if n == 0 {
		return "", false, fmt.Errorf("a word is missing before '%s'", p.rest)
	}
	text, p.rest = p.rest[:n], p.rest[n:]
	return text, false, nil
}

func (p *searchParser) either() (*term, error) {
	left, err := p.both()
	for err == nil && p.keyword("OR") {
		var right *term
		right, err = p.both()
		left = &term{op: "OR", args: []*term{left, right}}
	}
	return left, err
}

// both reads terms that all have to match; AND between them may be left out.
func (p *searchParser) both() (*term, error) {
	left, err := p.one()
	for err == nil {
		and := p.keyword("AND")
		if rest := p.space(); !and && (rest == "" || rest[0] == ')' || rest == "OR" || strings.HasPrefix(rest, "OR ")) {
			break
		}
		var right *term
		right, err = p.one()
		left = &term{op: "AND", args: []*term{left, right}}
	}
	return left, err
}

func (p *searchParser) one() (*term, error) {
	p.terms++
	if p.depth++; p.depth > maxDepth || p.terms > maxTerms {
		return nil, fmt.Errorf("what it looks for has too many terms")
	}
	defer func() { p.depth-- }()
	if p.keyword("NOT") {
		t, err := p.one()
		return &term{op: "NOT", args: []*term{t}}, err
	}
	if p.take("(") {
		t, err := p.either()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("')' is missing before '%s'", p.rest)
		}
		return t, err
	}
	text, quoted, err := p.word("()=")
	if err != nil {
		return nil, err
	}
	t := &term{}
	if p.take("=") {
		if strings.HasPrefix(text, ":") {
			return nil, fmt.Errorf("the property %s is not supported", text)
		}
		t.property = text
		if p.take("(") { // several values
			t, err := p.either()
			if err == nil && !p.take(")") {
				err = fmt.Errorf("')' is missing before '%s'", p.rest)
			}
			t.of(text)
			return t, err
		}
		if text, quoted, err = p.word("()="); err != nil {
			return nil, err
		}
	}
	if t.exact = text; !quoted {
		t.exact, t.tokens = "", words(text, false)
	}
	return t, nil
}

// of lets the texts of a term be sought in one property.
func (t *term) of(property string) {
	if t == nil {
		return
	}
	if t.op == "" && t.property == "" {
		t.property = property
	}
	for _, a := range t.args {
		a.of(property)
	}
}

// words are the runs of letters and digits of a text, in lower case; with parts also the pieces that they have by their
// capital letters.
func words(text string, parts bool) (out []string) {
	for _, run := range strings.FieldsFunc(text, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }) {
		out = append(out, strings.ToLower(run))
		if !parts {
			continue
		}
		cs := []rune(run)
		from := 0
		for i := 1; i <= len(cs); i++ {
			if i == len(cs) || unicode.IsUpper(cs[i]) && (unicode.IsLower(cs[i-1]) || i+1 < len(cs) && unicode.IsLower(cs[i+1])) {
				out = append(out, strings.ToLower(string(cs[from:i])))
				from = i
			}
		}
	}
	return out
}

func (t *term) matches(m *Series) bool {
	switch t.op {
	case "AND":
		return t.args[0].matches(m) && t.args[1].matches(m)
	case "OR":
		return t.args[0].matches(m) || t.args[1].matches(m)
	case "NOT":
		return !t.args[0].matches(m)
	}
	var in []string
	switch t.property {
	case "":
		in = []string{m.Namespace, m.Name}
		for k, v := range m.Dimensions {
			in = append(in, k, v)
		}
	case "Namespace":
		in = []string{m.Namespace}
	case "MetricName":
		in = []string{m.Name}
	default:
		v, ok := m.Dimensions[t.property]
		if !ok {
			return false
		}
		in = []string{v}
	}
	if t.tokens == nil {
		return slices.Contains(in, t.exact)
	}
	var all []string
	for _, s := range in {
		all = append(all, words(s, true)...)
	}
	return !slices.ContainsFunc(t.tokens, func(w string) bool { return !slices.Contains(all, w) })
}

// find lists the metrics that are sought, in their order.
func (s *Store) find(sc scope.Scope, what sought) []Series {
	return slices.DeleteFunc(s.List(sc, Filter{Namespace: what.namespace}), func(m Series) bool {
		return what.schema && !slices.Equal(what.dims, sortedKeys(m.Dimensions)) || what.term != nil && !what.term.matches(&m)
	})
}

// label names a metric that was found: by its name and the values of its dimensions.
func (m *Series) label() string {
	parts := []string{m.Name}
	for _, k := range slices.Sorted(maps.Keys(m.Dimensions)) {
		parts = append(parts, m.Dimensions[k])
	}
	return strings.Join(parts, " ")
}
