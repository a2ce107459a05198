package wire

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// Limits of what a request may make of itself in memory.
const (
	MaxDepth   = 32       // nesting of shapes
	MaxDecoded = 64 << 20 // bytes of list items of one request
)

type kind uint8

const (
	kString kind = iota
	kInt
	kBool
	kFloat
	kTime
	kBlob
	kStruct
	kList
	kMap
)

// plan is a type's form on the wire.
type plan struct {
	typ     reflect.Type
	kind    kind
	pointer bool
	size    int   // of a value in memory: what an item of a list costs
	elem    *plan // of a list's items and a map's values
	fields  []field
	byJSON  map[string]int
	byIn    map[string]int
}

// field is a member of a structure.
type field struct {
	index    int
	name     string // the member's name in JSON and CBOR
	in, out  string // its name in query requests and XML replies
	item     string // of a list: the name of an item in XML and query requests
	required bool
	shape    string // the names of the constraints of the member's shape and of a list's items
	items    string
	plan     *plan
	open     []byte // XML tags
	close    []byte
	empty    []byte
	itemOpen []byte
	itemEnd  []byte
	json     []byte // "name":
	cbor     []byte // the name as a CBOR text string
}

var (
	plans    sync.Map // reflect.Type → *plan
	planMu   sync.Mutex
	timeType = reflect.TypeFor[time.Time]()
)

// planOf returns the type's plan. A type that is no shape is a mistake in the code, so it panics.
func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	planMu.Lock()
	defer planMu.Unlock()
	made := map[reflect.Type]*plan{}
	p := build(t, made)
	for t, p := range made { // only now: nobody may see a plan whose inner plans are not filled in
		plans.LoadOrStore(t, p)
	}
	return p
}

func build(t reflect.Type, made map[reflect.Type]*plan) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	if p := made[t]; p != nil {
		return p
	}
	p := &plan{typ: t}
	made[t] = p
	e := t
	if t.Kind() == reflect.Pointer {
		p.pointer, e = true, t.Elem()
	}
	p.size = int(e.Size())
	switch {
	case e == timeType:
		p.kind = kTime
	case e.Kind() == reflect.String:
		p.kind = kString
	case e.Kind() == reflect.Int32, e.Kind() == reflect.Int64:
		p.kind = kInt
	case e.Kind() == reflect.Bool:
		p.kind = kBool
	case e.Kind() == reflect.Float64:
		p.kind = kFloat
	case e.Kind() == reflect.Slice && e.Elem().Kind() == reflect.Uint8:
		p.kind = kBlob
	case e.Kind() == reflect.Slice:
		p.kind, p.elem = kList, build(e.Elem(), made)
	case e.Kind() == reflect.Map && e.Key().Kind() == reflect.String:
		p.kind, p.elem = kMap, build(e.Elem(), made)
	case e.Kind() == reflect.Struct:
		p.kind = kStruct
		p.byJSON, p.byIn = map[string]int{}, map[string]int{}
		for i := range e.NumField() {
			p.fields = append(p.fields, newField(e.Field(i), i, made))
			p.byJSON[p.fields[i].name] = i
			p.byIn[p.fields[i].in] = i
		}
	default:
		panic(fmt.Sprintf("wire: no codec for type %s", t))
	}
	return p
}

func newField(sf reflect.StructField, i int, made map[reflect.Type]*plan) field {
	f := field{index: i, name: sf.Name, in: sf.Name, out: sf.Name, item: "member", plan: build(sf.Type, made)}
	if name, _, _ := strings.Cut(sf.Tag.Get("json"), ","); name != "" {
		f.name = name
	}
	for n, part := range strings.Split(sf.Tag.Get("wire"), ",") {
		switch {
		case part == "":
		case n == 0:
			f.in = part
		case n == 1:
			f.out = part
		case n == 2:
			f.item = part
		case part == "required":
			f.required = true
		case strings.HasPrefix(part, "shape="):
			f.shape = part[len("shape="):]
		case strings.HasPrefix(part, "items="):
			f.items = part[len("items="):]
		}
	}
	f.open, f.close, f.empty = []byte("<"+f.out+">"), []byte("</"+f.out+">"), []byte("<"+f.out+"/>")
	f.itemOpen, f.itemEnd = []byte("<"+f.item+">"), []byte("</"+f.item+">")
	f.json = append(appendJSONString(nil, f.name), ':')
	f.cbor = appendCBORText(nil, f.name)
	return f
}

// indirect returns what v holds, making it first if v is a nil pointer.
func (p *plan) indirect(v reflect.Value) reflect.Value {
	if !p.pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(p.typ.Elem()))
	}
	return v.Elem()
}
