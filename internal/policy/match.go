package policy

import "strings"

// Glob tells whether s matches the pattern: * is any text, ? any one character. Linear in practice, and at worst the
// product of the lengths.
func Glob(pattern, s string) bool { return glob(literal(pattern), s) }

// pat is a pattern of which some characters stand for themselves although they are * or ?.
type pat struct {
	text string
	raw  map[int]bool // positions of text that are literal
}

func literal(s string) pat { return pat{text: s} }

func glob(p pat, s string) bool {
	i, j := 0, 0
	star, back := -1, 0
	for j < len(s) {
		switch {
		case i < len(p.text) && p.text[i] == '*' && !p.raw[i]:
			star, back = i, j
			i++
		case i < len(p.text) && (p.text[i] == s[j] || (p.text[i] == '?' && !p.raw[i])):
			i++
			j++
		case star >= 0:
			back++
			i, j = star+1, back
		default:
			return false
		}
	}
	for i < len(p.text) && p.text[i] == '*' && !p.raw[i] {
		i++
	}
	return i == len(p.text)
}

// expand puts a request's values in the place of ${…} variables. A variable that the request has no value for, and no
// default, makes the pattern match nothing. ${*}, ${?} and ${$} are the characters themselves, and so is all of a value.
func expand(s string, vars bool, get func(key string) []string) (pat, bool) {
	if !vars || !strings.Contains(s, "${") {
		return pat{text: s}, true
	}
	out := pat{raw: map[int]bool{}}
	var b strings.Builder
	lit := func(v string) {
		for k := range len(v) {
			out.raw[b.Len()] = true
			b.WriteByte(v[k])
		}
	}
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			break
		}
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:i])
		name := s[i+2 : i+end]
		s = s[i+end+1:]
		if name == "*" || name == "?" || name == "$" {
			lit(name)
			continue
		}
		name, def, hasDef := strings.Cut(name, ",")
		v := get(strings.TrimSpace(name))
		switch {
		case len(v) == 1:
			lit(v[0])
		case hasDef:
			lit(strings.Trim(strings.TrimSpace(def), "'"))
		default:
			return pat{}, false
		}
	}
	out.text = b.String()
	return out, true
}

// arnMatch compares ARNs part by part, each of the six with wildcards; the last part may hold colons.
func arnMatch(p pat, s string) bool {
	sp := strings.SplitN(s, ":", 6)
	if len(sp) != 6 {
		return p.text == "*"
	}
	at := 0
	for n, part := range sp {
		end := len(p.text)
		if n < 5 {
			for end = at; end < len(p.text) && (p.text[end] != ':' || p.raw[end]); end++ {
			}
			if end == len(p.text) {
				return n == 0 && p.text == "*"
			}
		}
		sub := pat{text: p.text[at:end], raw: map[int]bool{}}
		for i := range p.raw {
			if i >= at && i < end {
				sub.raw[i-at] = true
			}
		}
		if !glob(sub, part) {
			return false
		}
		at = end + 1
	}
	return true
}
