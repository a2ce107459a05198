package wire

import (
	"reflect"
	"strconv"
	"strings"
)

// Missing lists the required members that the shape lacks, named as the protocol's messages name them.
func Missing(in any, p Protocol) []string {
	v := reflect.ValueOf(in).Elem()
	var missing []string
	walkMissing(planOf(v.Type()), v, p, "", &missing)
	return missing
}

func walkMissing(pl *plan, v reflect.Value, p Protocol, path string, missing *[]string) {
	for i := range pl.fields {
		f := &pl.fields[i]
		fv := v.Field(f.index)
		name := f.in
		if p != EC2 {
			name = strings.ToLower(f.name[:1]) + f.name[1:]
		}
		name = join(path, name)
		null := false
		switch fv.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			null = fv.IsNil()
		}
		if null {
			if f.required {
				*missing = append(*missing, name)
			}
			continue
		}
		switch f.plan.kind {
		case kStruct:
			if f.plan.pointer {
				fv = fv.Elem()
			}
			walkMissing(f.plan, fv, p, name, missing)
		case kList:
			if f.plan.elem.kind != kStruct {
				continue
			}
			for n := range fv.Len() {
				at := name + "." + strconv.Itoa(n+1)
				if p != EC2 {
					at += ".member"
				}
				walkMissing(f.plan.elem, fv.Index(n), p, at, missing)
			}
		}
	}
}
