package wire

import (
	"encoding/base64"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// ParamError is a request's parameter that cannot be decoded.
type ParamError struct {
	Path  string // as the client wrote it
	Value string
	Want  string // what was expected: "integer", "boolean", …
}

// Error is for logs and for dialects without an own wording.
func (e *ParamError) Error() string {
	if e.Value == "" {
		return "Invalid value for parameter " + e.Path + ": expected " + e.Want
	}
	return "Invalid value " + strconv.Quote(e.Value) + " for parameter " + e.Path + ": expected " + e.Want
}

var errScalar = errors.New("not of this type")

// setText sets a scalar from its text in a query request.
func (p *plan) setText(v reflect.Value, s string) error {
	switch p.kind {
	case kString:
		p.indirect(v).SetString(s)
	case kInt:
		bits := p.size * 8
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, bits)
		if err != nil {
			return errScalar
		}
		p.indirect(v).SetInt(n)
	case kBool:
		b, err := parseBool(s)
		if err != nil {
			return err
		}
		p.indirect(v).SetBool(b)
	case kFloat:
		f, err := parseFloat(s)
		if err != nil {
			return err
		}
		if math.IsNaN(f) || math.IsInf(f, 0) { // AWS's services take no such number in any member
			return errScalar
		}
		p.indirect(v).SetFloat(f)
	case kTime:
		t, err := ParseTime(s)
		if err != nil {
			return err
		}
		p.indirect(v).Set(reflect.ValueOf(t))
	case kBlob:
		b, err := parseBase64(s)
		if err != nil {
			return err
		}
		p.indirect(v).SetBytes(b)
	default:
		return errScalar
	}
	return nil
}

func (p *plan) want() string {
	switch p.kind {
	case kInt:
		return "integer"
	case kBool:
		return "boolean"
	case kFloat:
		return "number"
	case kTime:
		return "timestamp"
	case kBlob:
		return "base64"
	case kList:
		return "list"
	case kMap:
		return "map"
	case kStruct:
		return "structure"
	}
	return "string"
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errScalar
}

func parseFloat(s string) (float64, error) {
	switch s = strings.TrimSpace(s); s {
	case "NaN":
		return math.NaN(), nil
	case "Infinity":
		return math.Inf(1), nil
	case "-Infinity":
		return math.Inf(-1), nil
	}
	if strings.ContainsAny(s, "xX_pPiI") { // Go's literals that AWS does not know
		return 0, errScalar
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) {
		return 0, errScalar
	}
	return f, nil
}

func parseBase64(s string) ([]byte, error) {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == ' ' {
			return -1
		}
		return r
	}, s)
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, errScalar
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04:05-0700", "2006-01-02T15:04Z", "2006-01-02T15:04", "2006-01-02", "20060102T150405Z", time.RFC1123}

// ParseTime reads a timestamp in any form that AWS's clients send: ISO 8601, RFC 1123, or seconds since 1970.
func ParseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	if f, err := parseFloat(s); err == nil {
		return epoch(f)
	}
	return time.Time{}, errScalar
}

// epoch turns seconds since 1970 into a time, exact to the microsecond.
func epoch(f float64) (time.Time, error) {
	if math.IsNaN(f) || f < -62135596800 || f > 253402300799 { // years 1 to 9999
		return time.Time{}, errScalar
	}
	sec, frac := math.Modf(f)
	return time.Unix(int64(sec), int64(math.Round(frac*1e6))*1000).UTC(), nil
}
