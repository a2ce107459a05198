package wire

import (
	"encoding/binary"
	"math"
	"reflect"
	"strings"
	"time"
)

// EncodeCBOR gives an RPC v2 CBOR reply: times as tag 1, numbers with a fraction as float64.
func EncodeCBOR(out any) []byte {
	v := reflect.ValueOf(out).Elem()
	return cborStructure(make([]byte, 0, 1024), planOf(v.Type()), v, true)
}

func appendCBORHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendCBORText(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return append(appendCBORHead(b, 3, uint64(len(s))), s...)
}

func appendCBORInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendCBORHead(b, 1, uint64(-(n + 1)))
	}
	return appendCBORHead(b, 0, uint64(n))
}

func appendCBORFloat(b []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xfb), math.Float64bits(f))
}

func cborStructure(b []byte, p *plan, v reflect.Value, top bool) []byte {
	n := uint64(0)
	for i := range p.fields {
		if !skipped(&p.fields[i], v.Field(p.fields[i].index), top) {
			n++
		}
	}
	b = appendCBORHead(b, 5, n)
	for i := range p.fields {
		f := &p.fields[i]
		fv := v.Field(f.index)
		if skipped(f, fv, top) {
			continue
		}
		b = append(b, f.cbor...)
		b = cborValue(b, f.plan, fv)
	}
	return b
}

func cborValue(b []byte, p *plan, v reflect.Value) []byte {
	if p.pointer {
		if v.IsNil() {
			return append(b, 0xf6)
		}
		v = v.Elem()
	}
	switch p.kind {
	case kString:
		return appendCBORText(b, v.String())
	case kInt:
		return appendCBORInt(b, v.Int())
	case kBool:
		if v.Bool() {
			return append(b, 0xf5)
		}
		return append(b, 0xf4)
	case kFloat:
		return appendCBORFloat(b, v.Float())
	case kTime:
		t := v.Interface().(time.Time)
		b = appendCBORHead(b, 6, 1)
		if ms := t.UnixMilli(); ms%1000 != 0 {
			return appendCBORFloat(b, float64(ms)/1000)
		}
		return appendCBORInt(b, t.Unix())
	case kBlob:
		return append(appendCBORHead(b, 2, uint64(v.Len())), v.Bytes()...)
	case kList:
		b = appendCBORHead(b, 4, uint64(v.Len()))
		for n := range v.Len() {
			b = cborValue(b, p.elem, v.Index(n))
		}
		return b
	case kMap:
		b = appendCBORHead(b, 5, uint64(v.Len()))
		for _, k := range sortedKeys(v) {
			b = appendCBORText(b, k)
			b = cborValue(b, p.elem, v.MapIndex(reflect.ValueOf(k)))
		}
		return b
	}
	return cborStructure(b, p, v, false)
}
