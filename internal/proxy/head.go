package proxy

import (
	"bytes"
	"errors"
)

// Limits of heads. The request's are the load balancer's documented ones.
const (
	maxLine         = 16 << 10 // request line; one header
	maxRequestHead  = 64 << 10
	maxResponseHead = 32 << 10
	maxFields       = 512
)

// errMore says that the head is not complete yet.
var errMore = errors.New("head incomplete")

// statusError is a message that must not be forwarded, with the status that says so and the reason for the log.
type statusError struct {
	status int
	reason string
	odd    oddity // the desync reason; repair may mend it
}

func (e *statusError) Error() string { return e.reason }

var (
	errBadHeader       = &statusError{400, "BadHeader", badHeader}
	errBadMethod       = &statusError{400, "BadMethod", badMethod}
	errBadURI          = &statusError{400, "BadUri", badURI}
	errBadVersion      = &statusError{400, "BadVersion", badVersion}
	errVersion         = &statusError{505, "UnsupportedVersion", nonCompliantVersion}
	errHost            = &statusError{400, "BadHost", noOddity}
	errBadLength       = &statusError{400, "BadContentLength", badContentLength}
	errLengths         = &statusError{400, "MultipleContentLength", multipleContentLength}
	errBothFramings    = &statusError{400, "BothTeClPresent", bothTeClPresent}
	errCodings         = &statusError{400, "MultipleTransferEncodingChunked", multipleChunked}
	errCodingVersion   = &statusError{400, "BadTransferEncoding", badTransferEncoding}
	errCoding          = &statusError{501, "UnsupportedTransferEncoding", badTransferEncoding}
	errHeaderTooLarge  = &statusError{431, "HeaderTooLarge", noOddity}
	errLineTooLong     = &statusError{414, "UriTooLong", noOddity}
	errExpectation     = &statusError{417, "UnsupportedExpectation", noOddity}
	errBadResponse     = &statusError{502, "MalformedResponse", noOddity}
	errBadChunk        = &statusError{400, "BadChunk", badTransferEncoding}
	errTrailerTooLarge = &statusError{400, "TrailerTooLarge", noOddity}
)

// Character classes.
const (
	isToken byte = 1 << iota // of a method or header name
	isValue                  // of a header value
	isURI                    // of a request target
	isHost                   // of a Host header
	isPlain                  // of a header name that drop_invalid_header_fields lets pass
	isASCII                  // of a header value, without bytes beyond ASCII
)

var class [256]byte

func init() {
	for c := range 256 {
		b := byte(c)
		switch alnum := b >= '0' && b <= '9' || b|32 >= 'a' && b|32 <= 'z'; {
		case alnum, b == '-':
			class[b] = isToken | isValue | isURI | isHost | isPlain | isASCII
		case b >= 0x80:
			class[b] = isValue | isURI
		case b > ' ' && b < 0x7f:
			class[b] = isValue | isASCII
			if b != '#' {
				class[b] |= isURI
			}
			if bytes.IndexByte([]byte("!#$%&'*+.^_`|~"), b) >= 0 {
				class[b] |= isToken
			}
			if bytes.IndexByte([]byte("._~%!$&'()*+,;=:[]"), b) >= 0 {
				class[b] |= isHost
			}
		case b == ' ', b == '\t':
			class[b] = isValue | isASCII
		}
	}
}

func allOf(b []byte, cl byte) bool {
	for _, c := range b {
		if class[c]&cl == 0 {
			return false
		}
	}
	return true
}

// equalFold compares with a lower-case ASCII string.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 32
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// parseLength reads a Content-Length: digits only, and few enough not to overflow.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// fieldID names the headers that the proxy looks at.
type fieldID uint8

const (
	fOther fieldID = iota
	fHost
	fConnection
	fContentLength
	fTransferEncoding
	fUpgrade
	fExpect
	fCookie
	fForwardedFor
	fForwardedProto
	fForwardedPort
	fTraceID
	fDate
	fSetCookie
	fServer
	fHop // a header that never passes: Keep-Alive, Proxy-Connection, TE
	fTLSInfo
)

// known returns the id of a header name.
func known(name []byte) fieldID {
	switch len(name) {
	case 2:
		if equalFold(name, "te") {
			return fHop
		}
	case 4:
		if equalFold(name, "host") {
			return fHost
		} else if equalFold(name, "date") {
			return fDate
		}
	case 6:
		if equalFold(name, "cookie") {
			return fCookie
		} else if equalFold(name, "expect") {
			return fExpect
		} else if equalFold(name, "server") {
			return fServer
		}
	case 7:
		if equalFold(name, "upgrade") {
			return fUpgrade
		}
	case 10:
		if equalFold(name, "connection") {
			return fConnection
		} else if equalFold(name, "keep-alive") {
			return fHop
		} else if equalFold(name, "set-cookie") {
			return fSetCookie
		}
	case 14:
		if equalFold(name, "content-length") {
			return fContentLength
		}
	case 15:
		if equalFold(name, "x-forwarded-for") {
			return fForwardedFor
		} else if equalFold(name, "x-amzn-trace-id") {
			return fTraceID
		}
	case 16:
		if equalFold(name, "x-forwarded-port") {
			return fForwardedPort
		} else if equalFold(name, "proxy-connection") {
			return fHop
		}
	case 17:
		if equalFold(name, "transfer-encoding") {
			return fTransferEncoding
		} else if equalFold(name, "x-forwarded-proto") {
			return fForwardedProto
		}
	case 18:
		if equalFold(name, "x-amzn-tls-version") {
			return fTLSInfo
		}
	case 23:
		if equalFold(name, "x-amzn-tls-cipher-suite") {
			return fTLSInfo
		}
	}
	if len(name) > len(mtlsPrefix) && equalFold(name[:len(mtlsPrefix)], mtlsPrefix) {
		return fTLSInfo
	}
	return fOther
}

const mtlsPrefix = "x-amzn-mtls-" // only we tell targets about clients' certificates

// field is one header line of a head.
type field struct {
	name, value []byte
	start, end  int // of the line in the head, with its CRLF
	id          fieldID
	drop        bool // does not pass on: hop-by-hop, nominated by Connection, or made anew
	beyondASCII bool // its value has bytes beyond ASCII
}

// headScanner finds the end of a head as its bytes arrive, each byte looked at once.
type headScanner struct {
	line int // start of the current line
	next int // first byte not looked at
}

// scan returns the length of the head that b begins with, or errMore. It also ends at an empty line that lacks its CR,
// which the parser then refuses, so that such a client has its answer at once.
func (s *headScanner) scan(b []byte, maxHead int) (int, error) {
	for {
		i := bytes.IndexByte(b[s.next:], '\n')
		if i < 0 {
			s.next = len(b)
			return 0, s.tooLong(len(b), maxHead)
		}
		i += s.next
		s.next = i + 1
		if n := i - s.line; n == 0 || n == 1 && b[s.line] == '\r' {
			if i+1 > maxHead {
				return 0, errHeaderTooLarge
			}
			return i + 1, nil
		} else if n > maxLine && maxHead != maxResponseHead {
			return 0, s.tooLong(i, maxHead)
		}
		s.line = i + 1
		if s.line > maxHead {
			return 0, errHeaderTooLarge
		}
	}
}

func (s *headScanner) tooLong(have, maxHead int) error {
	if have-s.line > maxLine && maxHead != maxResponseHead {
		if s.line == 0 {
			return errLineTooLong
		}
		return errHeaderTooLarge
	}
	if have > maxHead {
		return errHeaderTooLarge
	}
	return errMore
}

// parseFields reads the header lines of head from p to its final empty line, and appends them to fs.
func parseFields(head []byte, p int, fs []field) ([]field, error) {
	for {
		if p+2 > len(head) {
			return fs, errBadHeader
		}
		if head[p] == '\r' {
			if head[p+1] != '\n' || p+2 != len(head) {
				return fs, errBadHeader
			}
			return fs, nil
		}
		q := p
		for q < len(head) && class[head[q]]&isToken != 0 {
			q++
		}
		if q == p || q == len(head) || head[q] != ':' {
			return fs, errBadHeader
		}
		e, beyond := q+1, false
		for e < len(head) && class[head[e]]&isASCII != 0 {
			e++
		}
		if e < len(head) && head[e] >= 0x80 {
			beyond = true
			for e < len(head) && class[head[e]]&isValue != 0 {
				e++
			}
		}
		if e+1 >= len(head) || head[e] != '\r' || head[e+1] != '\n' {
			return fs, errBadHeader
		}
		if len(fs) == maxFields {
			return fs, errHeaderTooLarge
		}
		fs = append(fs, field{name: head[p:q], value: trim(head[q+1 : e]), start: p, end: e + 2, id: known(head[p:q]), beyondASCII: beyond})
		p = e + 2
	}
}

// request is a parsed request head. Its slices point into the head's bytes. It is reused from request to request.
type request struct {
	head     []byte
	method   []byte
	target   []byte // path and query as they are forwarded
	path     []byte
	query    []byte // without the ?
	host     []byte // with its port, if it had one; nil if a HTTP/1.0 request had none
	hostname []byte // without it
	line     int    // length of the request line with its CRLF
	minor    byte
	fields   []field

	length     int64 // Content-Length, -1 without
	chunked    bool
	keepAlive  bool
	expect     bool
	upgrade    bool   // asks for a WebSocket
	noBodyRead bool   // HEAD
	idempotent bool   // may be sent again (RFC 9110 section 9.2.2)
	safe       bool   // and changes nothing (section 9.2.1)
	odd        oddity // what departs from the RFCs; judge weighs it
	bodyOdd    oddity // the same of a body that GET and HEAD do not have a use for
	http2      bool   // came over HTTP/2
	grpc       bool   // and is gRPC
	closes     bool   // both connections end with this exchange
	extra      []byte // lines that the target gets besides
	oddNames   bool   // has header names outside of [-A-Za-z0-9]
	hosts      int

	trace []byte // the line X-Amzn-Trace-Id, if it is made already
}

// parse reads a complete head. One that is not strictly right is repaired if that can be done, and r.odd says what was
// wrong: judge must then decide what becomes of the request.
func (r *request) parse(head []byte) error {
	err := r.parseStrict(head)
	if err == nil {
		return nil
	}
	var se *statusError
	if !errors.As(err, &se) || se.odd == noOddity {
		return err
	}
	fixed, why := repair(head)
	if why == noOddity {
		return err
	}
	if err := r.parseStrict(fixed); err != nil {
		return err
	}
	r.odd = worse(why, r.odd)
	return nil
}

func (r *request) parseStrict(head []byte) error {
	fs := r.fields[:0]
	*r = request{head: head, length: -1, fields: fs}
	e := bytes.IndexByte(head, '\n')
	if e < 1 || head[e-1] != '\r' {
		return errBadHeader
	}
	r.line = e + 1
	line := head[:e-1]
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 || !allOf(line[:sp], isToken) {
		return errBadMethod
	}
	rest := line[sp+1:]
	sp2 := bytes.LastIndexByte(rest, ' ')
	if sp2 <= 0 {
		return errBadVersion
	}
	r.method = line[:sp]
	switch v := rest[sp2+1:]; {
	case len(v) == 8 && string(v[:7]) == "HTTP/1." && (v[7] == '0' || v[7] == '1'):
		r.minor = v[7] - '0'
	case len(v) == 8 && string(v[:5]) == "HTTP/" && v[5] >= '0' && v[5] <= '9' && v[6] == '.' && v[7] >= '0' && v[7] <= '9':
		return errVersion
	default:
		return errBadVersion
	}
	if err := r.parseTarget(rest[:sp2]); err != nil {
		return err
	}
	r.keepAlive = r.minor == 1
	switch string(r.method) {
	case "HEAD":
		r.noBodyRead, r.idempotent, r.safe = true, true, true
	case "GET", "OPTIONS":
		r.idempotent, r.safe = true, true
	case "PUT", "DELETE":
		r.idempotent = true
	}
	var err error
	if r.fields, err = parseFields(head, r.line, fs); err != nil {
		return err
	}
	return r.examine()
}

// parseTarget reads the request target in origin, absolute or asterisk form.
func (r *request) parseTarget(t []byte) error {
	if !allOf(t, isURI) {
		return errBadURI
	}
	if t[0] != '/' {
		switch {
		case len(t) == 1 && t[0] == '*' && string(r.method) == "OPTIONS":
		case string(r.method) == "CONNECT" && allOf(t, isHost): // which is refused
		case len(t) > 7 && equalFold(t[:7], "http://"):
			t = t[7:]
			goto absolute
		case len(t) > 8 && equalFold(t[:8], "https://"):
			t = t[8:]
			goto absolute
		default:
			return errBadURI
		}
	}
	r.setTarget(t)
	return nil
absolute:
	i := bytes.IndexAny(t, "/?")
	if i < 0 {
		i = len(t)
	}
	if i == 0 || !allOf(t[:i], isHost) {
		return errBadURI
	}
	r.host = t[:i]
	switch t = t[i:]; {
	case len(t) == 0 && string(r.method) == "OPTIONS": // RFC 9112 section 3.2.4
		r.setTarget(asterisk)
	case len(t) == 0:
		r.setTarget(slash)
	case t[0] == '?':
		r.setTarget(append([]byte{'/'}, t...)) // rare
	default:
		r.setTarget(t)
	}
	return nil
}

var slash, asterisk = []byte("/"), []byte("*")

func (r *request) setTarget(t []byte) {
	r.target, r.path, r.query = t, t, nil
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		r.path, r.query = t[:i], t[i+1:]
	}
}

// examine checks the headers that frame and address the message, and marks those that don't pass on.
func (r *request) examine() error {
	codings, nominates, upgrade := 0, false, []byte(nil)
	absolute := r.host
	for i := range r.fields {
		f := &r.fields[i]
		if f.beyondASCII {
			r.odd = worse(r.odd, nonCompliantHeader)
		}
		switch f.id {
		case fOther:
			if !r.oddNames && !allOf(f.name, isPlain) {
				r.oddNames = true
			}
			if len(f.name) >= 13 && suspicious(f.name) {
				r.odd = worse(r.odd, suspiciousHeader)
				f.drop = true
			}
		case fHost:
			r.hosts++
			r.host = f.value
			f.drop = true
		case fConnection:
			f.drop, nominates = true, true
			eachElement(f.value, func(e []byte) {
				switch {
				case equalFold(e, "close"):
					r.keepAlive = false
				case equalFold(e, "keep-alive") && r.minor == 0:
					r.keepAlive = true
				}
			})
		case fContentLength:
			if r.length >= 0 {
				return errLengths
			}
			n, ok := parseLength(f.value)
			if !ok {
				return errBadLength
			}
			r.length = n
			f.drop = true
		case fTransferEncoding:
			if codings++; codings > 1 {
				return errCodings
			}
			if !equalFold(f.value, "chunked") {
				return errCoding
			}
			r.chunked = true
			f.drop = true
		case fUpgrade:
			upgrade = f.value
			f.drop = true
		case fExpect:
			if !equalFold(f.value, "100-continue") {
				return errExpectation
			}
			r.expect = r.minor == 1
			f.drop = true
		case fHop, fForwardedProto, fForwardedPort, fTraceID, fTLSInfo:
			f.drop = true
		}
	}
	switch {
	case r.hosts > 1 || r.hosts == 0 && r.minor == 1:
		return errHost
	case r.chunked && r.length >= 0:
		return errBothFramings
	case r.chunked && r.minor == 0:
		return errCodingVersion
	}
	if r.hosts == 1 && (len(r.host) == 0 || !allOf(r.host, isHost)) {
		return errHost
	}
	if absolute != nil {
		r.host = absolute // RFC 9112 section 3.2.2
	}
	if !r.splitHost() {
		return errHost
	}
	if m := string(r.method); (m == "GET" || m == "HEAD") && (r.length >= 0 || r.chunked) {
		switch {
		case r.chunked:
			r.bodyOdd = undefinedTransferEncoding
		case r.length > 0:
			r.bodyOdd = undefinedContentLength
		default:
			r.bodyOdd = getHeadZeroContentLength
		}
	}
	if nominates {
		asksUpgrade := r.dropNominated()
		r.upgrade = asksUpgrade && upgrade != nil && equalFold(upgrade, "websocket") && r.minor == 1 &&
			!r.chunked && r.length <= 0 && string(r.method) == "GET"
	}
	return nil
}

// splitHost takes the port from the host.
func (r *request) splitHost() bool {
	h := r.host
	if len(h) > 0 && h[0] == '[' {
		i := bytes.IndexByte(h, ']')
		if i < 2 || bytes.IndexByte(h[1:i], '[') >= 0 {
			return false
		}
		r.hostname = h[:i+1]
	} else {
		i := bytes.IndexByte(h, ':')
		if i < 0 {
			i = len(h)
		}
		if i == 0 && len(h) > 0 || bytes.ContainsAny(h[:i], "[]") {
			return false
		}
		r.hostname = h[:i]
	}
	port := h[len(r.hostname):]
	return len(port) == 0 || port[0] == ':' && digits(port[1:])
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// dropNominated marks the headers that Connection names, except those that a sender may not take away, and tells
// whether it names Upgrade.
func (r *request) dropNominated() (upgrade bool) {
	return dropNominated(r.fields)
}

func dropNominated(fs []field) (upgrade bool) {
	for i := range fs {
		if fs[i].id != fConnection {
			continue
		}
		eachElement(fs[i].value, func(e []byte) {
			switch {
			case equalFold(e, "close"), equalFold(e, "keep-alive"):
				return
			case equalFold(e, "upgrade"):
				upgrade = true
				return
			}
			for k := range fs {
				if f := &fs[k]; len(f.name) == len(e) && bytes.EqualFold(f.name, e) && !protected(f.id) {
					f.drop = true
				}
			}
		})
	}
	return upgrade
}

func protected(id fieldID) bool {
	switch id {
	case fHost, fContentLength, fTransferEncoding, fForwardedFor, fCookie, fSetCookie:
		return true
	}
	return false
}

// eachElement calls fn for each element of a comma-separated list.
func eachElement(v []byte, fn func([]byte)) {
	for len(v) > 0 {
		e := v
		if i := bytes.IndexByte(v, ','); i >= 0 {
			e, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		if e = trim(e); len(e) > 0 {
			fn(e)
		}
	}
}

// hasBody tells whether bytes of a body follow the head.
func (r *request) hasBody() bool { return r.chunked || r.length > 0 }

// response is a parsed response head, reused like request.
type response struct {
	head      []byte
	line      int
	status    int
	reason    []byte // after the status, without its space
	minor     byte
	fields    []field
	length    int64
	chunked   bool
	keepAlive bool
	upgrade   bool // its Connection names Upgrade
	date      bool
}

// parse reads a complete head of a response. Targets may end lines with a bare LF (RFC 9112 section 2.2 lets a recipient
// take it, and CGI programs write it): what passes on has CRLF. Requests may not, for two servers could disagree there.
func (r *response) parse(head []byte) error {
	err := r.parseStrict(head)
	if err != nil {
		if fixed := withCRLF(head); len(fixed) != len(head) {
			return r.parseStrict(fixed)
		}
	}
	return err
}

// withCRLF returns a copy of head with a CR before each LF that lacks it.
func withCRLF(head []byte) []byte {
	out := make([]byte, 0, len(head)+16)
	for i, c := range head {
		if c == '\n' && (i == 0 || head[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}

func (r *response) parseStrict(head []byte) error {
	fs := r.fields[:0]
	*r = response{head: head, length: -1, fields: fs}
	e := bytes.IndexByte(head, '\n')
	if e < 13 || head[e-1] != '\r' || string(head[:7]) != "HTTP/1." || head[7] != '0' && head[7] != '1' || head[8] != ' ' {
		return errBadResponse
	}
	r.line = e + 1
	r.minor = head[7] - '0'
	code := head[9:12]
	if !digits(code) || code[0] < '1' || code[0] > '9' || !allOf(head[12:e-1], isValue) || e > 13 && head[12] != ' ' {
		return errBadResponse
	}
	r.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	if r.reason = head[12 : e-1]; len(r.reason) > 0 {
		r.reason = r.reason[1:]
	}
	r.keepAlive = r.minor == 1
	var err error
	if r.fields, err = parseFields(head, r.line, fs); err != nil {
		return errBadResponse
	}
	codings, nominates := 0, false
	for i := range r.fields {
		f := &r.fields[i]
		switch f.id {
		case fConnection:
			f.drop, nominates = true, true
			eachElement(f.value, func(e []byte) {
				switch {
				case equalFold(e, "close"):
					r.keepAlive = false
				case equalFold(e, "keep-alive") && r.minor == 0:
					r.keepAlive = true
				}
			})
		case fContentLength:
			n, ok := parseLength(f.value)
			if !ok || r.length >= 0 {
				return errBadResponse
			}
			r.length = n
			f.drop = true
		case fTransferEncoding:
			if codings++; codings > 1 || !equalFold(f.value, "chunked") || r.minor == 0 {
				return errBadResponse
			}
			r.chunked = true
			f.drop = true
		case fHop, fUpgrade:
			f.drop = true
		case fDate:
			r.date = true
		}
	}
	if r.chunked && r.length >= 0 {
		return errBadResponse
	}
	if r.status == 204 && (r.chunked || r.length > 0) {
		r.keepAlive = false // who announces a body there may send it: it would be the next answer
	}
	if nominates {
		r.upgrade = dropNominated(r.fields)
	}
	return nil
}

// bodyless tells whether an answer to such a request has no body whatever its headers say.
func (r *response) bodyless(head bool) bool {
	return head || r.status/100 == 1 || r.status == 204 || r.status == 304
}
