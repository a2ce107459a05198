package wire

import (
	"errors"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Form is a query request's parameters, in the order that lets a structure be read in one pass.
type Form struct {
	pairs []pair
	ec2   bool
}

// pair holds a key with its dots as zero bytes: sorted so, everything below a prefix is adjacent.
type pair struct{ key, value string }

// MaxParams bounds the parameters of one query request.
const MaxParams = 200_000

// errBadForm is a request body that is no form.
var errBadForm = errors.New("the request's parameters are malformed")

// ParseForm reads form-encoded texts (the query string, the body) as one set of parameters.
func ParseForm(ec2 bool, texts ...string) (*Form, error) {
	f := &Form{ec2: ec2}
	for _, text := range texts {
		for text != "" {
			var one string
			one, text, _ = strings.Cut(text, "&")
			if one == "" {
				continue
			}
			k, v, _ := strings.Cut(one, "=")
			key, err := url.QueryUnescape(k)
			if err != nil {
				return nil, errBadForm
			}
			value, err := url.QueryUnescape(v)
			if err != nil || key == "" || strings.Contains(key, "\x00") || len(f.pairs) >= MaxParams || strings.Count(key, ".") > 2*MaxDepth {
				return nil, errBadForm
			}
			f.pairs = append(f.pairs, pair{strings.ReplaceAll(key, ".", "\x00"), value})
		}
	}
	slices.SortStableFunc(f.pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	for i := 1; i < len(f.pairs); i++ {
		if f.pairs[i].key == f.pairs[i-1].key {
			return nil, &ParamError{Path: dotted(f.pairs[i].key), Want: "the parameter once"}
		}
	}
	return f, nil
}

// Get returns a parameter's value.
func (f *Form) Get(key string) string {
	i, ok := slices.BinarySearchFunc(f.pairs, strings.ReplaceAll(key, ".", "\x00"), func(p pair, k string) int { return strings.Compare(p.key, k) })
	if !ok {
		return ""
	}
	return f.pairs[i].value
}

// Decode fills the shape that in points to. It reports the parameters that the shape has no member for. The
// skipped names are the envelope's own; a * at the end of one stands for any rest.
func (f *Form) Decode(in any, skip ...string) (unknown []string, err error) {
	v := reflect.ValueOf(in).Elem()
	d := &formDecoder{ec2: f.ec2}
	pairs := slices.DeleteFunc(slices.Clone(f.pairs), func(p pair) bool {
		return slices.ContainsFunc(skip, func(name string) bool {
			prefix, any := strings.CutSuffix(name, "*")
			return p.key == name || any && strings.HasPrefix(p.key, prefix)
		})
	})
	err = d.structure(planOf(v.Type()), v, pairs, 0, 0)
	return d.unknown, err
}

type formDecoder struct {
	ec2     bool
	unknown []string
	budget  int
}

func dotted(key string) string { return strings.ReplaceAll(key, "\x00", ".") }

// segment returns the part of the key from at to the next dot.
func segment(key string, at int) string {
	if i := strings.IndexByte(key[at:], 0); i >= 0 {
		return key[at : at+i]
	}
	return key[at:]
}

// bare tells whether the first pair is a value with no further segment.
func bare(pairs []pair, at int) bool { return len(pairs) > 0 && at > len(pairs[0].key) }

// groups calls fn for each first segment of the keys with the pairs that have it, and where their rest begins. A bare
// value has no segment: an empty one says nothing ("List=" beside "List.1="), any other is lost.
func (d *formDecoder) groups(pairs []pair, at int, fn func(name string, group []pair, rest int) error) error {
	if bare(pairs, at) {
		if pairs[0].value != "" {
			d.lost(pairs[:1])
		}
		pairs = pairs[1:]
	}
	for i := 0; i < len(pairs); {
		name := segment(pairs[i].key, at)
		j := i + 1
		for j < len(pairs) && segment(pairs[j].key, at) == name {
			j++
		}
		if err := fn(name, pairs[i:j], at+len(name)+1); err != nil {
			return err
		}
		i = j
	}
	return nil
}

func (d *formDecoder) lost(pairs []pair) {
	for _, p := range pairs {
		d.unknown = append(d.unknown, dotted(p.key))
	}
}

func bad(p *plan, pr pair) error {
	return &ParamError{Path: dotted(pr.key), Value: pr.value, Want: p.want()}
}

func (d *formDecoder) structure(p *plan, v reflect.Value, pairs []pair, at, depth int) error {
	if depth > MaxDepth {
		return errBadForm
	}
	return d.groups(pairs, at, func(name string, group []pair, rest int) error {
		i, ok := p.byIn[name]
		if !ok {
			d.lost(group)
			return nil
		}
		f := &p.fields[i]
		return d.value(f.plan, f.item, v.Field(f.index), group, rest, depth+1)
	})
}

// value decodes the pairs, whose keys have been read up to at, into v. The first pair may be the bare value.
func (d *formDecoder) value(p *plan, item string, v reflect.Value, pairs []pair, at, depth int) error {
	isBare := bare(pairs, at)
	switch p.kind {
	case kStruct:
		v = p.indirect(v)
		if isBare && pairs[0].value != "" {
			return bad(p, pairs[0])
		}
		return d.structure(p, v, pairs, at, depth)
	case kList:
		v = p.indirect(v)
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		if isBare && pairs[0].value != "" { // "List=" is the empty list
			return bad(p, pairs[0])
		}
		if d.ec2 {
			return d.list(p, v, pairs, at, depth)
		}
		return d.groups(pairs, at, func(name string, group []pair, rest int) error {
			if name != item {
				d.lost(group)
				return nil
			}
			return d.list(p, v, group, rest, depth)
		})
	case kMap:
		v = p.indirect(v)
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		return d.groups(pairs, at, func(name string, group []pair, rest int) error {
			if name == "entry" {
				return d.groups(group, rest, func(n string, entry []pair, rest int) error { return d.entry(p, v, entry, rest, depth) })
			}
			d.lost(group)
			return nil
		})
	}
	if !isBare {
		d.lost(pairs)
		return nil
	}
	d.lost(pairs[1:])
	if err := p.setText(v, pairs[0].value); err != nil {
		return bad(p, pairs[0])
	}
	return nil
}

func isIndex(s string) bool {
	n, err := strconv.ParseUint(s, 10, 31)
	return err == nil && strconv.FormatUint(n, 10) == s
}

// list decodes numbered items. The numbers give the order and may have gaps.
func (d *formDecoder) list(p *plan, v reflect.Value, pairs []pair, at, depth int) error {
	type numbered struct {
		n     uint64
		pairs []pair
		rest  int
	}
	var items []numbered
	_ = d.groups(pairs, at, func(name string, group []pair, rest int) error {
		if !isIndex(name) {
			d.lost(group)
			return nil
		}
		n, _ := strconv.ParseUint(name, 10, 31)
		items = append(items, numbered{n, group, rest})
		return nil
	})
	slices.SortFunc(items, func(a, b numbered) int { return int(int64(a.n) - int64(b.n)) })
	if d.budget += len(items) * p.elem.size; d.budget > MaxDecoded {
		return errBadForm
	}
	if len(items) == 0 {
		return nil
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, it := range items {
		if err := d.value(p.elem, "member", list.Index(i), it.pairs, it.rest, depth+1); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func (d *formDecoder) entry(p *plan, m reflect.Value, pairs []pair, at, depth int) error {
	key := ""
	value := reflect.New(p.elem.typ).Elem()
	err := d.groups(pairs, at, func(name string, group []pair, rest int) error {
		switch name {
		case "key":
			key = group[0].value
			return nil
		case "value":
			return d.value(p.elem, "member", value, group, rest, depth+1)
		}
		d.lost(group)
		return nil
	})
	if err != nil {
		return err
	}
	m.SetMapIndex(reflect.ValueOf(key), value)
	return nil
}
