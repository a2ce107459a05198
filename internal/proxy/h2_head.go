package proxy

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// streamHead assembles a stream's request from decoded header fields: as an HTTP/1.1 head, which the one strict parser
// then reads, so that rules, checks and forwarding are the same for both versions. It refuses what RFC 9113 section 8 calls
// malformed. It is reused from block to block.
type streamHead struct {
	lines  []byte // regular fields, "name: value\r\n"
	cookie []byte
	method, scheme, authority, path,
	host string
	seen      byte // pseudo-headers
	regular   bool // a regular field came
	hosts     int
	length    int64 // content-length, -1 without
	trailers  bool  // this block holds trailers: no pseudo-header may come
	malformed bool
	large     bool // over the limits: fields are dropped from here on
	size      int
}

const (
	hasMethod = 1 << iota
	hasScheme
	hasAuthority
	hasPath
)

func (h *streamHead) reset(trailers bool) {
	*h = streamHead{lines: h.lines[:0], cookie: h.cookie[:0], length: -1, trailers: trailers}
}

// add takes the next field.
func (h *streamHead) add(f hpack.HeaderField) {
	if h.malformed || h.large {
		return
	}
	if n := len(f.Name) + len(f.Value) + 4; n > maxLine {
		h.large = true
		return
	} else if h.size += n; h.size > maxRequestHead {
		h.large = true
		return
	}
	if len(f.Name) == 0 || !plainValue(f.Value) {
		h.malformed = true
		return
	}
	if f.Name[0] == ':' {
		h.pseudo(f)
		return
	}
	h.regular = true
	for i := range len(f.Name) {
		if c := f.Name[i]; class[c]&isToken == 0 || c >= 'A' && c <= 'Z' {
			h.malformed = true
			return
		}
	}
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		h.malformed = true
		return
	case "te":
		h.malformed = f.Value != "trailers"
		return
	case "host":
		if h.trailers {
			return
		}
		h.hosts++
		h.malformed = h.hosts > 1
		h.host = f.Value
		return
	case "cookie":
		if !h.trailers {
			if len(h.cookie) > 0 {
				h.cookie = append(h.cookie, "; "...)
			}
			h.cookie = append(h.cookie, f.Value...)
		}
		return
	case "content-length":
		n, ok := parseLength([]byte(f.Value))
		h.malformed = !ok || h.length >= 0
		h.length = n
		return
	}
	h.lines = append(h.lines, f.Name...)
	h.lines = append(h.lines, ": "...)
	h.lines = append(h.lines, f.Value...)
	h.lines = append(h.lines, '\r', '\n')
}

// plainValue tells whether a value holds nothing that could end a line, and no space at its ends.
func plainValue(v string) bool {
	if v == "" {
		return true
	}
	if a, z := v[0], v[len(v)-1]; a == ' ' || a == '\t' || z == ' ' || z == '\t' {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c == 0 || c == '\r' || c == '\n' {
			return false
		}
	}
	return true
}

func (h *streamHead) pseudo(f hpack.HeaderField) {
	if h.regular || h.trailers {
		h.malformed = true
		return
	}
	var bit byte
	switch f.Name {
	case ":method":
		bit, h.method = hasMethod, f.Value
	case ":scheme":
		bit, h.scheme = hasScheme, f.Value
	case ":authority":
		bit, h.authority = hasAuthority, f.Value
	case ":path":
		bit, h.path = hasPath, f.Value
	}
	if bit == 0 || h.seen&bit != 0 {
		h.malformed = true
	}
	h.seen |= bit
}

// check ends the block: it tells whether the request is well-formed. end tells that no body follows.
func (h *streamHead) check(end bool) bool {
	if h.malformed {
		return false
	}
	if h.trailers || h.large {
		return true
	}
	if h.method == "CONNECT" {
		// Nobody tunnels here; the answer is an error, but the request is a correct one.
		if h.seen != hasMethod|hasAuthority {
			return false
		}
		h.path = "/"
	} else if h.seen|hasAuthority != hasMethod|hasScheme|hasAuthority|hasPath {
		return false
	} else if h.scheme != "https" && h.scheme != "http" {
		return false
	}
	if h.method == "" || strings.IndexFunc(h.method, func(c rune) bool { return c >= 0x80 || class[byte(c)]&isToken == 0 }) >= 0 {
		return false
	}
	if h.path == "" || h.path[0] != '/' && h.path != "*" || !noSpaces(h.path) {
		return false
	}
	if h.seen&hasAuthority != 0 {
		if !noSpaces(h.authority) || strings.IndexByte(h.authority, '@') >= 0 || h.hosts > 0 && !strings.EqualFold(h.host, h.authority) {
			return false
		}
		h.host = h.authority
	}
	return !end || h.length <= 0
}

func noSpaces(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// appendTo appends the request as an HTTP/1.1 head.
func (h *streamHead) appendTo(dst []byte, end bool) []byte {
	dst = append(dst, h.method...)
	dst = append(dst, ' ')
	dst = append(dst, h.path...)
	dst = append(dst, " HTTP/1.1\r\nhost: "...)
	dst = append(dst, h.host...)
	dst = append(dst, '\r', '\n')
	dst = append(dst, h.lines...)
	if len(h.cookie) > 0 {
		dst = append(dst, "cookie: "...)
		dst = append(dst, h.cookie...)
		dst = append(dst, '\r', '\n')
	}
	n := h.length
	if n < 0 && end && (h.method == "POST" || h.method == "PUT" || h.method == "PATCH") {
		n = 0
	}
	switch {
	case n >= 0:
		dst = append(dst, "content-length: "...)
		dst = strconv.AppendInt(dst, n, 10)
		dst = append(dst, '\r', '\n')
	case !end:
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	}
	return append(dst, '\r', '\n')
}

// appendTrailer appends the trailer fields that may pass on.
func (h *streamHead) appendTrailer(dst []byte) []byte {
	for b := h.lines; len(b) > 0; {
		n := bytes.IndexByte(b, '\n') + 1
		line := b[:n]
		name := line[:bytes.IndexByte(line, ':')]
		if known(name) == fOther && !forbiddenTrailer(name) && allOf(trim(line[len(name)+1:n-2]), isValue) {
			dst = append(dst, line...)
		}
		b = b[n:]
	}
	return dst
}

// Header blocks are encoded without a dynamic table: no state, so any goroutine may encode, and nothing to guess about.

var staticNames = map[string]byte{
	"accept-ranges": 18, "access-control-allow-origin": 20, "age": 21, "allow": 22, "cache-control": 24, "content-disposition": 25,
	"content-encoding": 26, "content-language": 27, "content-length": 28, "content-location": 29, "content-range": 30, "content-type": 31,
	"date": 33, "etag": 34, "expires": 36, "last-modified": 44, "link": 45, "location": 46, "proxy-authenticate": 48, "refresh": 52,
	"retry-after": 53, "server": 54, "set-cookie": 55, "strict-transport-security": 56, "vary": 59, "via": 60, "www-authenticate": 61,
}

func appendStatus(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, 0x88)
	case 204:
		return append(dst, 0x89)
	case 206:
		return append(dst, 0x8a)
	case 304:
		return append(dst, 0x8b)
	case 400:
		return append(dst, 0x8c)
	case 404:
		return append(dst, 0x8d)
	case 500:
		return append(dst, 0x8e)
	}
	return append(dst, 0x08, 3, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
}

// appendField appends a field as a literal; the name becomes lower-case.
func appendField(dst, name, value []byte) []byte {
	var low [64]byte
	if len(name) <= len(low) {
		for i, c := range name {
			if c >= 'A' && c <= 'Z' {
				c |= 32
			}
			low[i] = c
		}
		name = low[:len(name)]
	} else {
		name = bytes.ToLower(name)
	}
	if i := staticNames[string(name)]; i != 0 {
		dst = appendHpackInt(dst, 0, 4, uint64(i))
	} else {
		dst = append(dst, 0)
		dst = appendHpackInt(dst, 0, 7, uint64(len(name)))
		dst = append(dst, name...)
	}
	dst = appendHpackInt(dst, 0, 7, uint64(len(value)))
	return append(dst, value...)
}

func appendHpackInt(dst []byte, first byte, bits int, n uint64) []byte {
	top := uint64(1)<<bits - 1
	if n < top {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(top))
	for n -= top; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|128)
	}
	return append(dst, byte(n))
}

// appendLines appends whole header lines as fields.
func appendLines(dst, lines []byte) []byte {
	for len(lines) > 0 {
		line := lines
		if i := bytes.Index(lines, lineEnd); i >= 0 {
			line, lines = lines[:i], lines[i+2:]
		} else {
			lines = nil
		}
		if n, v, ok := bytes.Cut(line, colon); ok {
			dst = appendField(dst, n, trim(v))
		}
	}
	return dst
}

var (
	lineEnd = []byte("\r\n")
	colon   = []byte(":")
	bDate   = []byte("date")
	bLen    = []byte("content-length")
	bType   = []byte("content-type")
	bLoc    = []byte("location")
	bSrv    = []byte("server")
	bAWSLB  = []byte("awselb/2.0")
)

// appendStreamOwn appends the header block of an answer that the load balancer makes itself.
func appendStreamOwn(dst []byte, o ownAnswer, l *listenerTable, date []byte) []byte {
	dst = appendStatus(dst, o.status)
	if !l.hidden {
		dst = appendField(dst, bSrv, bAWSLB)
	}
	dst = appendField(dst, bDate, date)
	if o.ctype != "" {
		dst = appendField(dst, bType, []byte(o.ctype))
	}
	for i := range l.respSet {
		dst = appendLines(dst, l.respSet[i].line)
	}
	dst = appendLines(dst, o.lines)
	if o.location != nil {
		dst = appendField(dst, bLoc, o.location)
	}
	if o.status != 204 && o.status != 304 {
		var n [20]byte
		dst = appendField(dst, bLen, strconv.AppendInt(n[:0], int64(len(o.body)), 10))
	}
	return dst
}

// appendStreamResponse appends the header block of a target's answer.
func appendStreamResponse(dst []byte, resp *response, p responsePlan, l *listenerTable, extra, date []byte) []byte {
	dst = appendStatus(dst, resp.status)
	for i := range resp.fields {
		f := &resp.fields[i]
		if f.drop || len(l.respSet) > 0 && f.id == fOther && setByListener(l, f.name) {
			continue
		}
		dst = appendField(dst, f.name, f.value)
	}
	if resp.status/100 == 1 {
		return dst
	}
	if !resp.date {
		dst = appendField(dst, bDate, date)
	}
	for i := range l.respSet {
		dst = appendLines(dst, l.respSet[i].line)
	}
	dst = appendLines(dst, extra)
	if p.length >= 0 && resp.status != 204 {
		var n [20]byte
		dst = appendField(dst, bLen, strconv.AppendInt(n[:0], p.length, 10))
	}
	return dst
}
