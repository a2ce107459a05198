package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of what a signature may say.
const (
	Skew       = 5 * time.Minute    // how far a signing time may be off
	MaxExpires = 7 * 24 * time.Hour // how long a presigned request may be good for
	maxHeader  = 8 << 10            // bytes of an Authorization header
	maxSigned  = 128                // signed headers
)

// Algorithm is the one that is served.
const Algorithm = "AWS4-HMAC-SHA256"

const unsignedPayload = "UNSIGNED-PAYLOAD"

// Reason says why a request is not accepted.
type Reason int

// The reasons.
const (
	Missing    Reason = iota // the request is not signed
	Incomplete               // the signature's parts are missing or malformed
	Mismatch                 // the signature is another one
	Expired                  // the signing time is too old, or a presigned request's time is over
	Early                    // the signing time lies in the future
	Scope                    // signed for another service, region form or day
)

var reasonNames = [...]string{"Missing", "Incomplete", "Mismatch", "Expired", "Early", "Scope"}

// String returns the reason's name.
func (r Reason) String() string {
	if r < 0 || int(r) >= len(reasonNames) {
		return "Reason(" + strconv.Itoa(int(r)) + ")"
	}
	return reasonNames[r]
}

// Error is a request that is not accepted. Msg is AWS's text for the client.
type Error struct {
	Reason Reason
	Msg    string
}

func (e *Error) Error() string { return e.Reason.String() + ": " + e.Msg }

func refuse(r Reason, format string, args ...any) *Error {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	return &Error{Reason: r, Msg: format}
}

// Signature is what a request claims about itself.
type Signature struct {
	AccessKeyID   string
	Date          string // of the scope, YYYYMMDD
	Region        string
	Service       string
	Time          time.Time
	Expires       time.Duration // presigned only
	SignedHeaders []string
	Sum           []byte
	Token         string // the session token of temporary credentials
	Presigned     bool
}

const timeLayout = "20060102T150405Z"

// Present tells whether the request carries a signature of any kind.
func Present(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || strings.Contains(r.URL.RawQuery, "X-Amz-Algorithm=") || strings.Contains(r.URL.RawQuery, "X-Amz-Credential=")
}

// Parse reads the signature off a request.
func Parse(r *http.Request) (*Signature, error) {
	if auth := r.Header.Get("Authorization"); auth != "" {
		return parseHeader(r, auth)
	}
	if !Present(r) {
		return nil, refuse(Missing, "Request is missing Authentication Token")
	}
	return parseQuery(r)
}

func parseHeader(r *http.Request, auth string) (*Signature, error) {
	if len(auth) > maxHeader || len(r.Header["Authorization"]) > 1 {
		return nil, refuse(Incomplete, "The Authorization header is too long or given more than once.")
	}
	algorithm, rest, _ := strings.Cut(auth, " ")
	if algorithm != Algorithm {
		return nil, refuse(Incomplete, "Unsupported AWS 'algorithm': '%s'. Only %s is supported.", algorithm, Algorithm)
	}
	s := &Signature{Token: r.Header.Get("X-Amz-Security-Token")}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := parts[k]; !ok || twice {
			return nil, refuse(Incomplete, "'%s' not a valid key=value pair (missing equal-sign) in Authorization header: '%s'.", part, auth)
		}
		parts[k] = v
	}
	for _, k := range []string{"Credential", "Signature", "SignedHeaders"} {
		if parts[k] == "" {
			return nil, refuse(Incomplete, "Authorization header requires '%s' parameter. Authorization=%s", k, auth)
		}
	}
	date := r.Header.Get("X-Amz-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	if date == "" {
		return nil, refuse(Incomplete, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=%s", auth)
	}
	return s, s.fill(parts["Credential"], date, parts["SignedHeaders"], parts["Signature"])
}

func parseQuery(r *http.Request) (*Signature, error) {
	pairs, err := queryPairs(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	q := map[string]string{}
	for _, p := range pairs {
		if _, twice := q[p.key]; twice && strings.HasPrefix(p.key, "X-Amz-") {
			return nil, refuse(Incomplete, "AWS query-string parameter '%s' is given more than once.", p.key)
		}
		q[p.key] = p.value
	}
	if a := q["X-Amz-Algorithm"]; a != Algorithm {
		return nil, refuse(Incomplete, "Unsupported AWS 'algorithm': '%s'. Only %s is supported.", a, Algorithm)
	}
	for _, k := range []string{"X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		if q[k] == "" {
			return nil, refuse(Incomplete, "AWS query-string parameters must include '%s'. Re-examine the query-string parameters.", k)
		}
	}
	s := &Signature{Presigned: true, Token: q["X-Amz-Security-Token"], Expires: 15 * time.Minute}
	if e := q["X-Amz-Expires"]; e != "" {
		n, err := strconv.Atoi(e)
		if err != nil || n < 1 || n > int(MaxExpires/time.Second) {
			return nil, refuse(Incomplete, "X-Amz-Expires must be between 1 and %d seconds.", int(MaxExpires/time.Second))
		}
		s.Expires = time.Duration(n) * time.Second
	}
	return s, s.fill(q["X-Amz-Credential"], q["X-Amz-Date"], q["X-Amz-SignedHeaders"], q["X-Amz-Signature"])
}

// fill reads the four parts that both forms have.
func (s *Signature) fill(credential, date, signed, sum string) error {
	c := strings.Split(credential, "/")
	if len(c) != 5 || slices.Contains(c, "") {
		return refuse(Incomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", credential)
	}
	s.AccessKeyID, s.Date, s.Region, s.Service = c[0], c[1], c[2], c[3]
	if c[4] != "aws4_request" {
		return refuse(Scope, "Credential should be scoped with a valid terminator: 'aws4_request', not '%s'.", c[4])
	}
	var err error
	for _, layout := range []string{timeLayout, http.TimeFormat, time.RFC3339} {
		if s.Time, err = time.Parse(layout, date); err == nil {
			break
		}
	}
	if err != nil {
		return refuse(Incomplete, "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", date)
	}
	s.Time = s.Time.UTC()
	if s.Time.Format("20060102") != s.Date {
		return refuse(Scope, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", s.Date, s.Time.Format("20060102"), s.Time.Format(timeLayout))
	}
	s.SignedHeaders = strings.Split(signed, ";")
	if len(s.SignedHeaders) > maxSigned || !slices.IsSorted(s.SignedHeaders) || slices.Contains(s.SignedHeaders, "") || signed != strings.ToLower(signed) {
		return refuse(Incomplete, "SignedHeaders must be a sorted list of lower-case header names, got '%s'.", signed)
	}
	if s.Sum, err = hex.DecodeString(sum); err != nil || len(s.Sum) != sha256.Size {
		return refuse(Incomplete, "Signature must be 64 hexadecimal digits, got '%s'.", sum)
	}
	return nil
}

// Verify proves the signature with the access key's secret, at the given time. The body is the whole body.
func (s *Signature) Verify(r *http.Request, body []byte, secret string, now time.Time) error {
	if err := s.checkTime(now); err != nil {
		return err
	}
	payload, err := s.payload(r, body)
	if err != nil {
		return err
	}
	if err := s.checkHeaders(r); err != nil {
		return err
	}
	sum, err := s.sum(r, payload, secret)
	if err != nil {
		return err
	}
	if !hmac.Equal(sum, s.Sum) {
		return refuse(Mismatch, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

// sum is the signature that the request has with this secret; payload is the body's hash.
func (s *Signature) sum(r *http.Request, payload, secret string) ([]byte, error) {
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(r.Method + "\n" + canonicalPath(r.URL.EscapedPath()) + "\n" + query + "\n")
	for _, name := range s.SignedHeaders {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.SignedHeaders, ";") + "\n" + payload)
	hash := sha256.Sum256([]byte(b.String()))
	toSign := Algorithm + "\n" + s.Time.Format(timeLayout) + "\n" + s.scope() + "\n" + hex.EncodeToString(hash[:])
	return mac(signingKey(secret, s.Date, s.Region, s.Service), toSign), nil
}

func (s *Signature) scope() string {
	return s.Date + "/" + s.Region + "/" + s.Service + "/aws4_request"
}

func (s *Signature) checkTime(now time.Time) error {
	now = now.UTC()
	t, n := s.Time.Format(timeLayout), now.Format(timeLayout)
	if latest := now.Add(Skew); s.Time.After(latest) {
		return refuse(Early, "Signature not yet current: %s is still later than %s (%s + %d min.)", t, latest.Format(timeLayout), n, int(Skew.Minutes()))
	}
	if s.Presigned {
		if end := s.Time.Add(s.Expires); now.After(end) {
			return refuse(Expired, "Signature expired: %s is now earlier than %s (the request was valid for %d s)", end.Format(timeLayout), n, int(s.Expires.Seconds()))
		}
		return nil
	}
	if earliest := now.Add(-Skew); s.Time.Before(earliest) {
		return refuse(Expired, "Signature expired: %s is now earlier than %s (%s - %d min.)", t, earliest.Format(timeLayout), n, int(Skew.Minutes()))
	}
	return nil
}

// payload returns the body's hash as the client signed it.
func (s *Signature) payload(r *http.Request, body []byte) (string, error) {
	hash := sha256.Sum256(body)
	actual := hex.EncodeToString(hash[:])
	switch claimed := r.Header.Get("X-Amz-Content-Sha256"); {
	case claimed == "":
		return actual, nil
	case claimed == unsignedPayload:
		return unsignedPayload, nil
	case strings.HasPrefix(claimed, "STREAMING-"):
		return "", refuse(Incomplete, "The payload type %s is not supported. Send the request in one piece.", claimed)
	case claimed != actual:
		return "", refuse(Mismatch, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return actual, nil
}

// checkHeaders refuses a request with a header that means something and is not signed.
func (s *Signature) checkHeaders(r *http.Request) error {
	if !slices.Contains(s.SignedHeaders, "host") {
		return refuse(Mismatch, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range r.Header {
		low := strings.ToLower(name)
		if strings.HasPrefix(low, "x-amz-") && low != "x-amz-content-sha256" && !slices.Contains(s.SignedHeaders, low) {
			return refuse(Mismatch, "'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	if r.Header.Get("X-Amz-Security-Token") != "" && s.Presigned && r.Header.Get("X-Amz-Security-Token") != s.Token {
		return refuse(Mismatch, "The session token is given twice, and differs.")
	}
	return nil
}

func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		if r.Header.Get("Content-Length") == "" {
			return strconv.FormatInt(r.ContentLength, 10)
		}
	}
	values := slices.Clone(r.Header[http.CanonicalHeaderKey(name)])
	for i, v := range values {
		values[i] = strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == '\t' }), " ")
	}
	return strings.Join(values, ",")
}

func signingKey(secret, date, region, service string) []byte {
	k := mac([]byte("AWS4"+secret), date)
	return mac(mac(mac(k, region), service), "aws4_request")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

type pair struct{ key, value string }

func queryPairs(raw string) ([]pair, error) {
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		key, err1 := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err1 != nil || err2 != nil {
			return nil, refuse(Incomplete, "The query string is malformed.")
		}
		pairs = append(pairs, pair{key, value})
	}
	return pairs, nil
}

func canonicalQuery(raw string) (string, error) {
	pairs, err := queryPairs(raw)
	if err != nil {
		return "", err
	}
	var parts []string
	for _, p := range pairs {
		if p.key != "X-Amz-Signature" {
			parts = append(parts, escape(p.key)+"\x00"+escape(p.value))
		}
	}
	slices.Sort(parts) // by key, then value: the zero byte sorts before any that escape leaves
	return strings.ReplaceAll(strings.Join(parts, "&"), "\x00", "="), nil
}

// canonicalPath escapes the path, which arrives escaped once, a second time, and takes dot segments and empty ones out.
func canonicalPath(escaped string) string {
	var out []string
	segments := strings.Split(strings.TrimPrefix(escaped, "/"), "/")
	for i, seg := range segments {
		switch seg {
		case "", ".":
			if i < len(segments)-1 || len(out) == 0 {
				continue
			}
			out = append(out, "")
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, escape(seg))
		}
	}
	return "/" + strings.Join(out, "/")
}

const upperHex = "0123456789ABCDEF"

// escape percent-encodes everything but RFC 3986's unreserved characters.
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}
