package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// errBadBody is a JSON or CBOR document that cannot be read.
var errBadBody = errors.New("the request's body is malformed")

var cborMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: MaxDepth, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 16,
		DefaultMapType: reflect.TypeFor[map[string]any](), TimeTag: cbor.DecTagOptional, UTF8: cbor.UTF8RejectInvalid,
		IntDec: cbor.IntDecConvertNone, BigIntDec: cbor.BigIntDecodeValue,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// DecodeJSON fills the shape that in points to from an AWS JSON document. It reports the members that the shape lacks.
func DecodeJSON(body []byte, in any) (unknown []string, err error) {
	if len(strings.TrimSpace(string(body[:min(len(body), 64)]))) == 0 && len(strings.TrimSpace(string(body))) == 0 {
		body = []byte("{}")
	}
	if deep(body) {
		return nil, errBadBody
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil || doc == nil {
		return nil, errBadBody
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errBadBody
	}
	return decodeTree(doc, in)
}

// deep tells whether a JSON text nests deeper than any request may.
func deep(body []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// DecodeCBOR fills the shape that in points to from an RPC v2 CBOR document. No body is the empty structure.
func DecodeCBOR(body []byte, in any) (unknown []string, err error) {
	doc := map[string]any{}
	if len(body) > 0 {
		if err := cborMode.Unmarshal(body, &doc); err != nil || doc == nil {
			return nil, errBadBody
		}
	}
	return decodeTree(doc, in)
}

func decodeTree(doc map[string]any, in any) ([]string, error) {
	v := reflect.ValueOf(in).Elem()
	d := &treeDecoder{}
	err := d.structure(planOf(v.Type()), v, doc, "", 0)
	return d.unknown, err
}

type treeDecoder struct {
	unknown []string
	budget  int
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (d *treeDecoder) structure(p *plan, v reflect.Value, doc map[string]any, path string, depth int) error {
	if depth > MaxDepth {
		return errBadBody
	}
	for name, x := range doc {
		i, ok := p.byJSON[name]
		if !ok {
			if name != "__type" {
				d.unknown = append(d.unknown, join(path, name))
			}
			continue
		}
		if x == nil {
			continue
		}
		f := &p.fields[i]
		if err := d.value(f.plan, v.Field(f.index), x, join(path, name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (d *treeDecoder) value(p *plan, v reflect.Value, x any, path string, depth int) error {
	wrong := func() error {
		s, _ := x.(string)
		if n, ok := x.(json.Number); ok {
			s = n.String()
		}
		return &ParamError{Path: path, Value: s, Want: p.want()}
	}
	switch p.kind {
	case kStruct:
		m, ok := x.(map[string]any)
		if !ok {
			return wrong()
		}
		return d.structure(p, p.indirect(v), m, path, depth)
	case kList:
		list, ok := x.([]any)
		if !ok {
			return wrong()
		}
		if d.budget += len(list) * p.elem.size; d.budget > MaxDecoded {
			return errBadBody
		}
		s := reflect.MakeSlice(v.Type(), len(list), len(list))
		n := 0
		for i, item := range list {
			if item == nil {
				continue // AWS drops nulls in lists
			}
			if err := d.value(p.elem, s.Index(n), item, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
				return err
			}
			n++
		}
		v.Set(s.Slice(0, n))
		return nil
	case kMap:
		m, ok := x.(map[string]any)
		if !ok {
			return wrong()
		}
		made := reflect.MakeMapWithSize(v.Type(), len(m))
		for k, item := range m {
			if item == nil {
				continue
			}
			e := reflect.New(p.elem.typ).Elem()
			if err := d.value(p.elem, e, item, join(path, k), depth+1); err != nil {
				return err
			}
			made.SetMapIndex(reflect.ValueOf(k), e)
		}
		v.Set(made)
		return nil
	case kString:
		s, ok := x.(string)
		if !ok {
			return wrong()
		}
		p.indirect(v).SetString(s)
	case kBool:
		b, ok := x.(bool)
		if !ok {
			return wrong()
		}
		p.indirect(v).SetBool(b)
	case kInt:
		n, ok := asInt(x)
		if e := p.indirect(v); !ok || e.OverflowInt(n) {
			return wrong()
		}
		p.indirect(v).SetInt(n)
	case kFloat:
		f, ok := asFloat(x)
		if !ok {
			return wrong()
		}
		p.indirect(v).SetFloat(f)
	case kTime:
		t, ok := asTime(x)
		if !ok {
			return wrong()
		}
		p.indirect(v).Set(reflect.ValueOf(t))
	case kBlob:
		b, ok := x.([]byte)
		if s, isText := x.(string); isText {
			var err error
			b, err = base64.StdEncoding.DecodeString(s)
			ok = err == nil
		}
		if !ok {
			return wrong()
		}
		if b == nil {
			b = []byte{}
		}
		p.indirect(v).SetBytes(b)
	}
	return nil
}

func asInt(x any) (int64, bool) {
	switch n := x.(type) {
	case json.Number:
		i, err := n.Int64()
		if err == nil {
			return i, true
		}
		f, err := n.Float64()
		if err != nil {
			return 0, false
		}
		return asInt(f)
	case uint64:
		return int64(n), n <= math.MaxInt64
	case int64:
		return n, true
	case float32:
		return asInt(float64(n))
	case float64:
		if n != math.Trunc(n) || math.Abs(n) >= 1<<53 {
			return 0, false
		}
		return int64(n), true
	}
	return 0, false
}

func asFloat(x any) (float64, bool) {
	switch n := x.(type) {
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	case string:
		switch n {
		case "NaN", "Infinity", "-Infinity":
			f, err := parseFloat(n)
			return f, err == nil
		}
	case uint64:
		return float64(n), true
	case int64:
		return float64(n), true
	case float32:
		return float64(n), true
	case float64:
		return n, true
	case big.Int:
		f, _ := n.Float64()
		return f, true
	}
	return 0, false
}

func asTime(x any) (time.Time, bool) {
	switch t := x.(type) {
	case time.Time:
		return t.UTC().Round(time.Microsecond), true // what a double is exact to
	case string:
		at, err := ParseTime(t)
		return at, err == nil
	}
	f, ok := asFloat(x)
	if !ok {
		return time.Time{}, false
	}
	at, err := epoch(f)
	return at, err == nil
}
