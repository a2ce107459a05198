package proxy

import (
	"bytes"
	"strconv"
)

// severity says how far a request departs from the RFCs, in the words of the load balancer's logs.
type severity uint8

const (
	compliant severity = iota
	acceptable
	ambiguous
	severe
)

func (c severity) String() string {
	return [...]string{"-", "Acceptable", "Ambiguous", "Severe"}[c]
}

// oddity is what a request departs in. Zero is nothing.
type oddity uint8

const (
	noOddity oddity = iota
	getHeadZeroContentLength
	nonCompliantHeader
	nonCompliantVersion
	spaceInURI
	ambiguousURI
	bothTeClPresent
	duplicateContentLength
	emptyHeader
	suspiciousHeader
	undefinedContentLength
	undefinedTransferEncoding
	badContentLength
	badHeader
	badTransferEncoding
	badURI
	badMethod
	badVersion
	multipleContentLength
	multipleChunked
	numOddities
)

var oddities = [numOddities]struct {
	class severity
	name  string
}{
	noOddity:                  {compliant, "-"},
	getHeadZeroContentLength:  {acceptable, "GetHeadZeroContentLength"},
	nonCompliantHeader:        {acceptable, "NonCompliantHeader"},
	nonCompliantVersion:       {acceptable, "NonCompliantVersion"},
	spaceInURI:                {acceptable, "SpaceInUri"},
	ambiguousURI:              {ambiguous, "AmbiguousUri"},
	bothTeClPresent:           {ambiguous, "BothTeClPresent"},
	duplicateContentLength:    {ambiguous, "DuplicateContentLength"},
	emptyHeader:               {ambiguous, "EmptyHeader"},
	suspiciousHeader:          {ambiguous, "SuspiciousHeader"},
	undefinedContentLength:    {ambiguous, "UndefinedContentLengthSemantics"},
	undefinedTransferEncoding: {ambiguous, "UndefinedTransferEncodingSemantics"},
	badContentLength:          {severe, "BadContentLength"},
	badHeader:                 {severe, "BadHeader"},
	badTransferEncoding:       {severe, "BadTransferEncoding"},
	badURI:                    {severe, "BadUri"},
	badMethod:                 {severe, "BadMethod"},
	badVersion:                {severe, "BadVersion"},
	multipleContentLength:     {severe, "MultipleContentLength"},
	multipleChunked:           {severe, "MultipleTransferEncodingChunked"},
}

func (o oddity) class() severity { return oddities[o].class }
func (o oddity) String() string  { return oddities[o].name }

// worse returns the graver of two oddities, the first of equals.
func worse(a, b oddity) oddity {
	if b.class() > a.class() {
		return b
	}
	return a
}

// desyncMode is routing.http.desync_mitigation_mode.
type desyncMode uint8

const (
	monitor desyncMode = iota
	defensive
	strictest
)

var desyncModes = []string{"monitor", "defensive", "strictest"}

// judge applies the mode to a parsed request. It tells whether the request must be answered 400; otherwise r.closes says
// that both connections end with it. r.odd then holds what a log says.
func (a *balancerAttributes) judge(r *request) (block bool) {
	if !a.getBodies {
		r.odd = worse(r.odd, r.bodyOdd)
	}
	c := r.odd.class()
	switch {
	case c == compliant:
		return false
	case a.desync == strictest, c == severe && a.desync == defensive:
		return true
	}
	r.closes = c >= ambiguous
	return false
}

// suspicious tells whether a name that is no framing header could be taken for one by a lenient reader: its letters and
// digits are those of Content-Length or Transfer-Encoding.
func suspicious(name []byte) bool {
	if n := len(name); n < 13 || n > 64 {
		return false
	}
	var b [17]byte
	n := 0
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 32
		}
		if c < '0' || c > '9' && c < 'a' || c > 'z' {
			continue
		}
		if n == len(b) {
			return false
		}
		b[n] = c
		n++
	}
	return string(b[:n]) == "contentlength" || string(b[:n]) == "transferencoding"
}

// repair rewrites a complete head that the strict parser refused into one that says the same thing in one way only, and
// tells what was wrong with it. What is no longer unmistakable is left out:
//
//   - of several framings, the chunked coding wins over lengths, and the first length over others;
//   - a length or coding that can't be read goes, and the request has no body;
//   - a line that is no header field, or whose name is no token, goes, and so does a continuation line;
//   - control characters in a value become spaces; in the target they are percent-encoded, like spaces and #;
//   - a minor version above 1 is taken for 1.1, a malformed version for 1.0.
//
// noOddity means that nothing helps: lines that end in LF alone, a request line that has not three parts, a malformed
// method. The head that comes back holds no bytes of the old one.
func repair(head []byte) ([]byte, oddity) {
	line, rest, ok := cutLine(head)
	if !ok {
		return nil, noOddity
	}
	out := make([]byte, 0, len(head)+64)
	out, why := repairLine(out, line)
	if why == badMethod {
		return nil, noOddity
	}
	var (
		length  = int64(-1)
		lengths oddity
		codings []byte
		coded   bool
	)
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return nil, noOddity
		}
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(trim(line)) == 0 {
				why = worse(why, emptyHeader)
			} else {
				why = worse(why, badHeader)
			}
			continue
		}
		colon := bytes.IndexByte(line, ':')
		if bytes.IndexByte(line, 0) >= 0 || bytes.IndexByte(line, '\r') >= 0 || colon < 0 {
			why = worse(why, badHeader)
			if colon < 0 {
				continue
			}
		}
		name, value := line[:colon], trim(line[colon+1:])
		if !allOf(name, isToken) || len(name) == 0 {
			switch {
			case len(trim(name)) == 0:
				why = worse(why, emptyHeader)
			case suspicious(name):
				why = worse(why, suspiciousHeader)
			default:
				why = worse(why, nonCompliantHeader)
			}
			continue
		}
		switch known(name) {
		case fContentLength:
			var o oddity
			length, o = readLengths(value, length)
			lengths = worse(lengths, o)
		case fTransferEncoding:
			if coded {
				codings = append(codings, ',')
			}
			codings = append(codings, value...)
			coded = true
		default:
			out = append(out, name...)
			out = append(out, ": "...)
			for _, c := range value {
				if class[c]&isValue == 0 {
					why = worse(why, nonCompliantHeader)
					c = ' '
				}
				out = append(out, c)
			}
			out = append(out, '\r', '\n')
		}
	}
	why = worse(why, lengths)
	chunked := false
	if coded {
		var o oddity
		if chunked, o = readCodings(codings); o == noOddity && !chunked {
			// A coding that exists elsewhere: its own error says so.
			return nil, noOddity
		}
		why = worse(why, o)
		if length >= 0 || lengths != noOddity {
			why = worse(why, bothTeClPresent)
		}
	}
	switch {
	case chunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case length >= 0:
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, length, 10)
		out = append(out, '\r', '\n')
	}
	return append(out, '\r', '\n'), why
}

// cutLine takes a line without its CRLF from b.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, false
	}
	return b[:i-1], b[i+1:], true
}

// repairLine appends a request line. badMethod means that it is beyond repair.
func repairLine(out, line []byte) ([]byte, oddity) {
	why := noOddity
	sp, sp2 := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	if sp <= 0 || sp2 <= sp || !allOf(line[:sp], isToken) {
		return out, badMethod
	}
	target, version := line[sp+1:sp2], line[sp2+1:]
	switch v := version; {
	case len(v) == 8 && string(v[:7]) == "HTTP/1." && v[7] >= '0' && v[7] <= '9':
		if v[7] > '1' {
			why = nonCompliantVersion
			version = []byte("HTTP/1.1")
		}
	case len(v) == 8 && string(v[:5]) == "HTTP/" && v[6] == '.':
		return out, badMethod // another version: its own error says so
	case len(v) > 5 && bytes.EqualFold(v[:5], []byte("HTTP/")):
		why = badVersion
		version = []byte("HTTP/1.0")
	default:
		return out, badMethod
	}
	if t := bytes.Trim(target, " "); len(t) != len(target) {
		why = worse(why, spaceInURI)
		target = t
	}
	if len(target) == 0 {
		return out, badMethod
	}
	out = append(out, line[:sp]...)
	out = append(out, ' ')
	for _, c := range target {
		if class[c]&isURI != 0 {
			out = append(out, c)
			continue
		}
		switch c {
		case ' ':
			why = worse(why, spaceInURI)
		case 0, '\r':
			why = worse(why, badURI)
		default:
			why = worse(why, ambiguousURI)
		}
		out = append(out, '%')
		out = appendHex(out, uint64(c), 2)
	}
	out = append(out, ' ')
	out = append(out, version...)
	return append(out, '\r', '\n'), why
}

var comma = []byte{','}

// readLengths reads the value of a Content-Length after one that said have, or none (-1). It returns the first length.
func readLengths(v []byte, have int64) (int64, oddity) {
	why := noOddity
	for more := true; more; {
		var e []byte
		e, v, more = bytes.Cut(v, comma)
		n, ok := parseLength(trim(e))
		switch {
		case !ok:
			why = worse(why, badContentLength)
		case have < 0:
			have = n
		case n != have:
			why = worse(why, multipleContentLength)
		default:
			why = worse(why, duplicateContentLength)
		}
	}
	return have, why
}

// readCodings reads all Transfer-Encoding values as one list. It returns whether the body is chunked; not chunked without
// an oddity is a coding that isn't supported.
func readCodings(v []byte) (chunked bool, why oddity) {
	other, identity := false, false
	for more := true; more; {
		var e []byte
		e, v, more = bytes.Cut(v, comma)
		switch e = trim(e); {
		case equalFold(e, "chunked"):
			if chunked {
				why = worse(why, multipleChunked)
			}
			chunked = true
		case equalFold(e, "identity"):
			identity = true
		case len(e) > 0 && allOf(e, isToken):
			other = true
		default:
			why = worse(why, badTransferEncoding)
		}
	}
	switch {
	case other:
		return false, noOddity
	case identity && chunked:
		why = worse(why, badTransferEncoding)
	case identity:
		why = worse(why, undefinedTransferEncoding)
	}
	return chunked, why
}
