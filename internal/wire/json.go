package wire

import (
	"encoding/base64"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// EncodeJSON gives an AWS JSON reply: times in seconds since 1970, blobs in base64.
func EncodeJSON(out any) []byte {
	v := reflect.ValueOf(out).Elem()
	return jsonStructure(make([]byte, 0, 1024), planOf(v.Type()), v, true)
}

// skipped tells whether a member stays out of a JSON or CBOR document. An unset list at the top is an empty one.
func skipped(f *field, v reflect.Value, top bool) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map:
		return v.IsNil()
	case reflect.Slice:
		return v.IsNil() && (!top || f.plan.kind != kList)
	}
	return false
}

func jsonStructure(b []byte, p *plan, v reflect.Value, top bool) []byte {
	b = append(b, '{')
	first := true
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(f.index)
		if skipped(f, fv, top) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, f.json...)
		b = jsonValue(b, f.plan, fv)
	}
	return append(b, '}')
}

func jsonValue(b []byte, p *plan, v reflect.Value) []byte {
	if p.pointer {
		if v.IsNil() {
			return append(b, "null"...)
		}
		v = v.Elem()
	}
	switch p.kind {
	case kString:
		return appendJSONString(b, v.String())
	case kInt:
		return strconv.AppendInt(b, v.Int(), 10)
	case kBool:
		return strconv.AppendBool(b, v.Bool())
	case kFloat:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			b = append(b, '"')
			return append(appendFloat(b, f), '"')
		}
		return appendFloat(b, f)
	case kTime:
		t := v.Interface().(time.Time)
		if ms := t.UnixMilli(); ms%1000 != 0 {
			return strconv.AppendFloat(b, float64(ms)/1000, 'f', 3, 64)
		}
		return strconv.AppendInt(b, t.Unix(), 10)
	case kBlob:
		b = append(b, '"')
		return append(base64.StdEncoding.AppendEncode(b, v.Bytes()), '"')
	case kList:
		b = append(b, '[')
		for n := range v.Len() {
			if n > 0 {
				b = append(b, ',')
			}
			b = jsonValue(b, p.elem, v.Index(n))
		}
		return append(b, ']')
	case kMap:
		b = append(b, '{')
		for n, k := range sortedKeys(v) {
			if n > 0 {
				b = append(b, ',')
			}
			b = append(appendJSONString(b, k), ':')
			b = jsonValue(b, p.elem, v.MapIndex(reflect.ValueOf(k)))
		}
		return append(b, '}')
	}
	return jsonStructure(b, p, v, false)
}

const hex = "0123456789abcdef"

func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	last := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r >= 0x20 && r != '"' && r != '\\' && (r != utf8.RuneError || n > 1) {
			i += n
			continue
		}
		b = append(b, s[last:i]...)
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == utf8.RuneError:
			b = append(b, "\uFFFD"...)
		default:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		}
		i += n
		last = i
	}
	b = append(b, s[last:]...)
	return append(b, '"')
}
