package proxy

import (
	"fmt"
	"regexp"
)

const maxTransform = 1024 // bytes of a pattern or replacement

// transforms are a rule's rewrites of what the target gets.
type transforms struct{ host, url *transform }

type transform struct {
	re    *regexp.Regexp
	parts []replacePart
}

// replacePart is a literal, or a group of the match.
type replacePart struct {
	text  string
	group int // -1: text
}

func compileTransforms(ts []Transform) (*transforms, error) {
	if len(ts) == 0 {
		return nil, nil
	}
	out := &transforms{}
	for _, t := range ts {
		slot := &out.host
		switch t.Type {
		case HostHeaderRewrite:
		case URLRewrite:
			slot = &out.url
		default:
			return nil, fmt.Errorf("transform %q does not exist", t.Type)
		}
		if *slot != nil {
			return nil, fmt.Errorf("two transforms %s", t.Type)
		}
		if t.Regex == "" || len(t.Regex) > maxTransform || len(t.Replace) > maxTransform {
			return nil, fmt.Errorf("transform %s: want a pattern of at most %d characters", t.Type, maxTransform)
		}
		re, err := regexp.Compile(t.Regex)
		if err != nil {
			return nil, fmt.Errorf("transform %s: %w", t.Type, err)
		}
		*slot = &transform{re: re, parts: replaceParts(t.Replace, re.NumSubexp())}
	}
	return out, nil
}

// replaceParts cuts a replacement at its groups: $ and the longest number that is one. Any other $ is itself.
func replaceParts(s string, groups int) (out []replacePart) {
	text := ""
	for i := 0; i < len(s); i++ {
		n, k := 0, i+1
		if s[i] == '$' {
			for k < len(s) && s[k] >= '0' && s[k] <= '9' && n*10+int(s[k]-'0') <= groups {
				n = n*10 + int(s[k]-'0')
				k++
			}
		}
		if s[i] != '$' || k == i+1 {
			text += s[i : i+1]
			continue
		}
		if text != "" {
			out = append(out, replacePart{text, -1})
			text = ""
		}
		out = append(out, replacePart{group: n})
		i = k - 1
	}
	if text != "" {
		out = append(out, replacePart{text, -1})
	}
	return out
}

// apply replaces each match in b; nil means that there is none.
func (t *transform) apply(b []byte) (out []byte) {
	last := 0
	for _, m := range t.re.FindAllSubmatchIndex(b, -1) {
		if out == nil {
			out = make([]byte, 0, 2*len(b)+64)
		}
		out = append(out, b[last:m[0]]...)
		for _, p := range t.parts {
			if p.group < 0 {
				out = append(out, p.text...)
			} else if from := m[2*p.group]; from >= 0 {
				out = append(out, b[from:m[2*p.group+1]]...)
			}
		}
		last = m[1]
		if len(out) > maxLine {
			return out // refused by whoever asked
		}
	}
	if out == nil {
		return nil
	}
	return append(out, b[last:]...)
}

// rewrite changes what the target will get: the host without its port, path and query. It tells whether the result is a
// host and target; if not, the request is answered 500.
func (t *transforms) rewrite(r *request) bool {
	if t.host != nil && r.host != nil {
		if h := t.host.apply(r.hostname); h != nil {
			n := len(h)
			if n == 0 || n > maxLine || !allOf(h, isHost) {
				return false
			}
			r.host = append(h, r.host[len(r.hostname):]...)
			if !r.splitHost() || len(r.hostname) != n {
				return false
			}
		}
	}
	if t.url != nil {
		if u := t.url.apply(r.target); u != nil {
			if len(u) == 0 || len(u) > maxLine || u[0] != '/' || !allOf(u, isURI) {
				return false
			}
			r.target = u
		}
	}
	return true
}
