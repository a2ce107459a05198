package wire

import (
	"encoding/base64"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"skerry/api"
)

const xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// EncodeEC2 gives an EC2 reply. An operation without output members answers <return>true</return>.
func EncodeEC2(svc *api.Service, op, requestID string, out any) []byte {
	b := make([]byte, 0, 4096)
	b = append(b, xmlHeader...)
	b = append(b, "<"+op+`Response xmlns="`+svc.XMLNamespace+`/"><requestId>`...)
	b = appendText(b, requestID)
	b = append(b, "</requestId>"...)
	v := reflect.ValueOf(out).Elem()
	p := planOf(v.Type())
	if len(p.fields) == 0 {
		b = append(b, "<return>true</return>"...)
	}
	b = (&xmlEncoder{ec2: true}).structure(b, p, v, true)
	return append(b, "</"+op+"Response>"...)
}

// EncodeQuery gives a query reply.
func EncodeQuery(svc *api.Service, op, requestID string, out any) []byte {
	b := make([]byte, 0, 4096)
	b = append(b, "<"+op+`Response xmlns="`+svc.XMLNamespace+`">`...)
	b = append(b, "<"+op+"Result>"...)
	v := reflect.ValueOf(out).Elem()
	b = (&xmlEncoder{}).structure(b, planOf(v.Type()), v, true)
	b = append(b, "</"+op+"Result><ResponseMetadata><RequestId>"...)
	b = appendText(b, requestID)
	return append(b, "</RequestId></ResponseMetadata></"+op+"Response>"...)
}

type xmlEncoder struct{ ec2 bool }

// structure writes the members that are set. At the top of a reply an unset list is an empty one: clients ask for its
// length.
func (e *xmlEncoder) structure(b []byte, p *plan, v reflect.Value, top bool) []byte {
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(f.index)
		switch fv.Kind() {
		case reflect.Pointer, reflect.Map:
			if fv.IsNil() {
				continue
			}
		case reflect.Slice:
			if fv.IsNil() && (!top || f.plan.kind != kList) {
				continue
			}
			if fv.Len() == 0 && f.plan.kind == kList {
				b = append(b, f.empty...)
				continue
			}
		}
		b = append(b, f.open...)
		if f.plan.kind == kList {
			for n := range fv.Len() {
				b = append(b, f.itemOpen...)
				b = e.value(b, f.plan.elem, fv.Index(n))
				b = append(b, f.itemEnd...)
			}
		} else {
			b = e.value(b, f.plan, fv)
		}
		b = append(b, f.close...)
	}
	return b
}

func (e *xmlEncoder) value(b []byte, p *plan, v reflect.Value) []byte {
	if p.pointer {
		if v.IsNil() {
			return b
		}
		v = v.Elem()
	}
	switch p.kind {
	case kString:
		return appendText(b, v.String())
	case kInt:
		return strconv.AppendInt(b, v.Int(), 10)
	case kBool:
		return strconv.AppendBool(b, v.Bool())
	case kFloat:
		return appendFloat(b, v.Float())
	case kTime:
		return e.time(b, v.Interface().(time.Time))
	case kBlob:
		return base64.StdEncoding.AppendEncode(b, v.Bytes())
	case kStruct:
		return e.structure(b, p, v, false)
	case kList: // a list in a list or map
		item := "member"
		if e.ec2 {
			item = "item"
		}
		for n := range v.Len() {
			b = append(b, "<"+item+">"...)
			b = e.value(b, p.elem, v.Index(n))
			b = append(b, "</"+item+">"...)
		}
	case kMap:
		for _, k := range sortedKeys(v) {
			b = append(b, "<entry><key>"...)
			b = appendText(b, k)
			b = append(b, "</key><value>"...)
			b = e.value(b, p.elem, v.MapIndex(reflect.ValueOf(k)))
			b = append(b, "</value></entry>"...)
		}
	}
	return b
}

// time writes EC2's three digits of a second; the query services leave them out of whole seconds.
func (e *xmlEncoder) time(b []byte, t time.Time) []byte {
	t = t.UTC()
	if e.ec2 || t.Nanosecond() >= int(time.Millisecond) {
		return t.AppendFormat(b, "2006-01-02T15:04:05.000Z")
	}
	return t.AppendFormat(b, "2006-01-02T15:04:05Z")
}

func sortedKeys(v reflect.Value) []string {
	keys := make([]string, 0, v.Len())
	for _, k := range v.MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	return keys
}

func appendFloat(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return append(strconv.AppendFloat(b, f, 'f', -1, 64), ".0"...)
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

// appendText escapes character data. What XML cannot carry becomes U+FFFD.
func appendText(b []byte, s string) []byte {
	last := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		esc := ""
		switch {
		case r == '&':
			esc = "&amp;"
		case r == '<':
			esc = "&lt;"
		case r == '>':
			esc = "&gt;"
		case r == '"':
			esc = "&quot;"
		case r == '\r':
			esc = "&#xD;"
		case r == '\t' || r == '\n':
		case r < 0x20, r == utf8.RuneError && n == 1, r == 0xFFFE, r == 0xFFFF:
			esc = "\uFFFD"
		}
		if esc != "" {
			b = append(b, s[last:i]...)
			b = append(b, esc...)
			last = i + n
		}
		i += n
	}
	return append(b, s[last:]...)
}
