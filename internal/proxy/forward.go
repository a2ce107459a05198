package proxy

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"skerry/internal/tlsfront"
)

const maxForwardedFor = 30 // addresses in X-Forwarded-For

// peerInfo is what the proxy knows about a client connection.
type peerInfo struct {
	addr   netip.AddrPort
	text   []byte // the address
	local  []byte // our address, for requests without a host
	tls    bool
	tlsVer string
	suite  string
	mutual *[numMTLS]string // the client's certificate
	facts  *tlsfront.Facts  // of the handshake
	born   int64            // of the connection, Unix ns
}

// tooManyForwarders tells whether X-Forwarded-For holds more addresses than a request may have come through.
func (r *request) tooManyForwarders() bool {
	n := 0
	for i := range r.fields {
		if f := &r.fields[i]; f.id == fForwardedFor {
			n += bytes.Count(f.value, []byte{','}) + 1
		}
	}
	return n > maxForwardedFor
}

// appendRequest appends the head that the target gets: framed anew, without hop-by-hop headers, with those that tell about
// the client.
func appendRequest(dst []byte, r *request, l *listenerTable, peer *peerInfo, now time.Time) []byte {
	a := &l.attrs
	dst = append(dst, r.method...)
	dst = append(dst, ' ')
	dst = append(dst, r.target...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = appendHost(dst, r, l, peer)
	dst = append(dst, '\r', '\n')

	// Lines that pass on unchanged are copied in runs.
	run := r.line
	for i := range r.fields {
		f := &r.fields[i]
		drop := f.drop
		switch {
		case f.id == fForwardedFor:
			drop = a.forwarded != xffPreserve
		case len(l.tlsHeaders.renamed) > 0 && f.id == fOther && l.tlsHeaders.reserved(f.name):
			drop = true
		case a.dropOddNames && f.id == fOther && !allOf(f.name, isPlain):
			drop = true
		}
		if drop {
			dst = append(dst, r.head[run:f.start]...)
			run = f.end
		}
	}
	dst = append(dst, r.head[run:len(r.head)-2]...)

	if a.forwarded == xffAppend {
		dst = append(dst, "X-Forwarded-For: "...)
		for i := range r.fields {
			if f := &r.fields[i]; f.id == fForwardedFor && len(f.value) > 0 {
				dst = append(dst, f.value...)
				dst = append(dst, ", "...)
			}
		}
		if a.forwardedPort {
			dst = peer.addr.AppendTo(dst)
		} else {
			dst = append(dst, peer.text...)
		}
		dst = append(dst, '\r', '\n')
	}
	dst = append(dst, "X-Forwarded-Proto: "...)
	dst = append(dst, l.proto...)
	dst = append(dst, "\r\nX-Forwarded-Port: "...)
	dst = append(dst, l.port...)
	dst = append(dst, "\r\n"...)
	dst = appendTrace(dst, r, now)
	if peer.tls {
		dst = appendTLSHeaders(dst, l, peer)
	}
	dst = append(dst, r.extra...)
	switch {
	case r.chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.length >= 0:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, r.length, 10)
		dst = append(dst, '\r', '\n')
	}
	if r.upgrade {
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	return append(dst, '\r', '\n')
}

// appendHost appends the host as the target gets it: by default without a port at a listener on 80 or 443, with one elsewhere.
func appendHost(dst []byte, r *request, l *listenerTable, peer *peerInfo) []byte {
	switch {
	case r.host == nil:
		return append(dst, peer.local...)
	case l.attrs.preserveHost:
		return append(dst, r.host...)
	case l.stdPort:
		return append(dst, r.hostname...)
	}
	dst = append(dst, r.host...)
	if len(r.host) == len(r.hostname) {
		dst = append(dst, ':')
		dst = append(dst, l.port...)
	}
	return dst
}

const maxTraced = 7 << 10 // larger heads get a trace id of their own

// appendTrace appends X-Amzn-Trace-Id: a new root, or the client's with our mark in front.
func appendTrace(dst []byte, r *request, now time.Time) []byte {
	if r.trace != nil {
		return append(dst, r.trace...)
	}
	dst = append(dst, "X-Amzn-Trace-Id: "...)
	for i := range r.fields {
		f := &r.fields[i]
		if f.id != fTraceID || len(r.head) > maxTraced {
			continue
		}
		if root := bytes.Contains(f.value, []byte("Root=")); root {
			dst = append(dst, "Self="...)
			dst = appendTraceID(dst, now)
			for v := f.value; len(v) > 0; {
				part := v
				if k := bytes.IndexByte(v, ';'); k >= 0 {
					part, v = v[:k], v[k+1:]
				} else {
					v = nil
				}
				if part = trim(part); len(part) > 0 && !bytes.HasPrefix(part, []byte("Self=")) {
					dst = append(dst, ';')
					dst = append(dst, part...)
				}
			}
			return append(dst, '\r', '\n')
		}
		dst = append(dst, "Root="...)
		dst = appendTraceID(dst, now)
		for v := f.value; len(v) > 0; { // fields other than Self stay
			part := v
			if k := bytes.IndexByte(v, ';'); k >= 0 {
				part, v = v[:k], v[k+1:]
			} else {
				v = nil
			}
			if part = trim(part); bytes.IndexByte(part, '=') > 0 && !bytes.HasPrefix(part, []byte("Self=")) {
				dst = append(dst, ';')
				dst = append(dst, part...)
			}
		}
		return append(dst, '\r', '\n')
	}
	dst = append(dst, "Root="...)
	dst = appendTraceID(dst, now)
	return append(dst, '\r', '\n')
}

func appendTraceID(dst []byte, now time.Time) []byte {
	dst = append(dst, "1-"...)
	dst = appendHex(dst, uint64(now.Unix()), 8)
	dst = append(dst, '-')
	dst = appendHex(dst, rand.Uint64(), 16)
	return appendHex(dst, rand.Uint64(), 8)
}

// appendHex appends v in an even number of hexadecimal digits.
func appendHex(dst []byte, v uint64, digits int) []byte {
	for shift := 4*digits - 8; shift >= 0; shift -= 8 {
		dst = binary.LittleEndian.AppendUint16(dst, hexPairs[byte(v>>shift)])
	}
	return dst
}

var hexPairs = func() (pairs [256]uint16) {
	const digits = "0123456789abcdef"
	for i := range pairs {
		pairs[i] = uint16(digits[i>>4]) | uint16(digits[i&15])<<8
	}
	return pairs
}()

// bodyFraming says how a body is delimited on one side.
type bodyFraming uint8

const (
	noBody bodyFraming = iota
	byLength
	byChunks
	byClose
)

// responsePlan says what of the target's answer the client gets.
type responsePlan struct {
	framing bodyFraming
	length  int64 // of byLength, also of an answer to HEAD
	close   bool  // the client's connection ends with it
	minor   byte  // the client's version
}

// planResponse frames the answer for the client.
func planResponse(resp *response, req *request, keep bool) responsePlan {
	p := responsePlan{length: resp.length, close: !keep, minor: req.minor}
	switch {
	case resp.bodyless(req.noBodyRead):
		p.framing = noBody
	case resp.length >= 0:
		p.framing = byLength
	case req.minor == 0:
		p.framing, p.close = byClose, true
	default: // chunked, or until the target closes
		p.framing = byChunks
	}
	return p
}

// appendResponse appends the client's head of a target's answer. extra holds whole lines that are added.
func appendResponse(dst []byte, resp *response, p responsePlan, l *listenerTable, extra []byte, now time.Time) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(resp.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, resp.reason...)
	dst = append(dst, '\r', '\n')
	run := resp.line
	for i := range resp.fields {
		if f := &resp.fields[i]; f.drop || len(l.respSet) > 0 && f.id == fOther && setByListener(l, f.name) {
			dst = append(dst, resp.head[run:f.start]...)
			run = f.end
		}
	}
	dst = append(dst, resp.head[run:len(resp.head)-2]...)
	if resp.status == 101 {
		return append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
	}
	if resp.status/100 == 1 {
		return append(dst, '\r', '\n')
	}
	if !resp.date {
		dst = appendDate(dst, now)
	}
	for i := range l.respSet {
		dst = append(dst, l.respSet[i].line...)
	}
	dst = append(dst, extra...)
	switch {
	case p.framing == byChunks:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case p.framing == noBody && resp.chunked && resp.status != 204 && p.minor == 1:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case p.length >= 0 && resp.status != 204:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, p.length, 10)
		dst = append(dst, '\r', '\n')
	}
	return appendConnection(dst, p.close)
}

func setByListener(l *listenerTable, name []byte) bool {
	for i := range l.respSet {
		if equalFold(name, l.respSet[i].name) {
			return true
		}
	}
	return false
}

func appendConnection(dst []byte, closes bool) []byte {
	if closes {
		return append(dst, "Connection: close\r\n\r\n"...)
	}
	return append(dst, "Connection: keep-alive\r\n\r\n"...)
}

// dateLine is a Date header of one second.
type dateLine struct {
	unix int64
	line []byte
}

var lastDate atomic.Pointer[dateLine]

func appendDate(dst []byte, now time.Time) []byte {
	d := lastDate.Load()
	if unix := now.Unix(); d == nil || d.unix != unix {
		d = &dateLine{unix, append(now.UTC().AppendFormat([]byte("Date: "), timeFormat), '\r', '\n')}
		lastDate.Store(d)
	}
	return append(dst, d.line...)
}

// appendOwn appends an answer that the load balancer makes itself, with its body unless the request was HEAD.
func appendOwn(dst []byte, o ownAnswer, l *listenerTable, head, closes bool, now time.Time) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(o.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reason(o.status)...)
	dst = append(dst, '\r', '\n')
	if !l.hidden {
		dst = append(dst, "Server: awselb/2.0\r\n"...)
	}
	dst = appendDate(dst, now)
	if o.ctype != "" {
		dst = append(dst, "Content-Type: "...)
		dst = append(dst, o.ctype...)
		dst = append(dst, '\r', '\n')
	}
	for i := range l.respSet {
		dst = append(dst, l.respSet[i].line...)
	}
	dst = append(dst, o.lines...)
	if o.location != nil {
		dst = append(dst, "Location: "...)
		dst = append(dst, o.location...)
		dst = append(dst, '\r', '\n')
	}
	if o.status != 204 && o.status != 304 {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, int64(len(o.body)), 10)
		dst = append(dst, '\r', '\n')
	}
	dst = appendConnection(dst, closes)
	if !head && o.status != 204 && o.status != 304 {
		dst = append(dst, o.body...)
	}
	return dst
}

// appendStickiness appends the cookies that an answer carries.
func appendStickiness(dst []byte, c *choice, resp *response, l *listenerTable, tgFor time.Duration, now time.Time) []byte {
	if c.setGroup {
		dst = l.sealer.appendCookie(dst, cookieTG, cookieTGCORS, cookieTG, hash(c.g.key), now, tgFor, cookieExpires)
	}
	switch a := &c.g.attrs; a.sticky {
	case byLBCookie:
		dst = l.sealer.appendCookie(dst, cookieLB, cookieLBCORS, c.g.key, c.t.id, now, a.stickyFor, cookieExpires)
	case byAppCookie:
		if resp.setsCookie(a.appCookie) {
			dst = l.sealer.appendCookie(dst, cookieApp, "", c.g.key, c.t.id, now, a.stickyFor, a.stickyFor)
		}
	}
	return dst
}
