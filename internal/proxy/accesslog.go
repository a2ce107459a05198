package proxy

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strconv"
	"time"

	"skerry/internal/gzline"
	"skerry/internal/tlsfront"
)

// entry is a line of the access log in the making. The exchange owns it. How it comes about:
//
//   - exchange.reset begins it, exchange.noted keeps the request's words, which are gone when the line is written;
//   - carryOut, answered, local and fail note what they do;
//   - exchange.account writes the line, once, when the exchange has ended: on a loop in release, else after serve. Without
//     noted before, as for a request that a loop hands over, there is no line.
//
// If the table has no access log, all of this costs a comparison with nil.
type entry struct {
	log     *logStream // nil: off
	text    []byte     // what outlives the request: see words, trace, to
	words   int        // text begins with the request line and the user agent, quoted
	uri     [2]int     // the path and query in it
	trace   [2]int     // then comes the trace
	to      [2]int     // the location
	rewrote [2]int     // the host that a transform made, escaped
	reuri   [2]int     // the URI that a transform made, escaped
	created time.Time
	sentAt  time.Time // zero: never sent
	gotAt   time.Time // zero: no answer
	begunAt time.Time // when the answer's head began to go out; zero: at gotAt, as it does on a loop
	status  int       // what the client got
	target  int       // what the target answered, 0 = nothing
	matched int       // the rule's priority, 0 = the default rule, notMatched
	action  string    // actions_executed
	reason  string    // error_reason
	change  string    // request_transform_status
	h2      bool
}

// notMatched is the priority of a rule that was not looked for.
const notMatched = -2

const (
	maxAgent    = 8 << 10
	keepLogText = 4 << 10
)

// begin begins an entry; log is nil where there is no log.
func (e *entry) begin(log *logStream) {
	text := e.text[:0]
	if cap(text) > keepLogText {
		text = nil
	}
	*e = entry{log: log, text: text, matched: notMatched}
}

// noted keeps what the line says of a parsed request. r is nil for one that could not be parsed.
func (x *exchange) noted(r *request, now time.Time) {
	e := &x.entry
	if e.log == nil {
		return
	}
	e.created = now
	e.h2 = x.peer.facts != nil && x.peer.facts.Protocol == "h2"
	b := append(e.text[:0], '"')
	if r == nil || len(r.method) == 0 || r.target == nil {
		b = append(b, "- "...)
		b = append(b, x.lt.proto...)
		b = append(b, "://"...)
		b = append(b, x.lt.addr...)
		b = append(b, `- -" "-"`...)
		e.text, e.words = b, len(b)
		return
	}
	b = append(b, r.method...)
	b = append(b, ' ')
	b = append(b, x.lt.proto...)
	b = append(b, "://"...)
	if host := r.hostname; len(host) > 0 {
		b = appendLogged(b, host)
		b = append(b, ':')
		b = append(b, x.lt.port...)
	} else {
		b = append(b, x.lt.addr...)
	}
	e.uri[0] = len(b)
	b = appendLogged(b, r.target)
	e.uri[1] = len(b)
	switch {
	case e.h2:
		b = append(b, ` HTTP/2.0" "`...)
	case r.minor == 0:
		b = append(b, ` HTTP/1.0" "`...)
	default:
		b = append(b, ` HTTP/1.1" "`...)
	}
	agent := []byte(nil)
	for i := range r.fields {
		if f := &r.fields[i]; len(f.name) == 10 && f.id == fOther && equalFold(f.name, "user-agent") {
			agent = f.value
			break
		}
	}
	if len(agent) == 0 {
		b = append(b, '-')
	} else {
		b = appendLogged(b, agent[:min(len(agent), maxAgent)])
	}
	b = append(b, '"')
	// The trace that the target gets is made here, so that both say the same.
	from := len(b)
	b = appendTrace(b, r, now)
	r.trace = b[from:]
	e.trace = [2]int{from + len("X-Amzn-Trace-Id: "), len(b) - 2}
	e.text, e.words = b, from
}

// refusedFor keeps what the line says of a request that could not be parsed.
func (x *exchange) refusedFor(se *statusError, now time.Time) {
	x.refused = se.odd
	x.entry.status = se.status
	x.noted(nil, now)
}

// rewrite lets a rule's transforms change the request, and notes what they made of it.
func (x *exchange) rewrite(t *transforms) bool {
	r, e := x.req, &x.entry
	if e.log == nil {
		return t.rewrite(r)
	}
	host, target := r.hostname, r.target
	if !t.rewrite(r) {
		e.change = "TransformInvalidHttpMessage"
		return false
	}
	e.change = "TransformSuccess"
	keep := func(was, is []byte) (at [2]int) {
		if string(was) != string(is) {
			at[0] = len(e.text)
			e.text = appendLogged(e.text, is)
			at[1] = len(e.text)
		}
		return at
	}
	e.rewrote, e.reuri = keep(host, r.hostname), keep(target, r.target)
	return true
}

// notedLocation keeps where a redirect leads to.
func (x *exchange) notedLocation(loc []byte) {
	if e := &x.entry; e.log != nil {
		from := len(e.text)
		e.text = appendLogged(e.text, loc)
		e.to = [2]int{from, len(e.text)}
	}
}

// record writes the entry of an exchange that has ended. shard names a part of the buffer that nobody else uses at the time,
// or anyShard.
func (x *exchange) record(shard int, now time.Time) {
	e := &x.entry
	if e.log == nil || e.created.IsZero() {
		return
	}
	log := e.log
	e.log = nil
	s := log.lock(shard)
	s.done(log, x.appendEntry(s, log.name, now))
	s.mu.Unlock()
}

// appendEntry makes the line, in the shard's buffer.
func (x *exchange) appendEntry(s *logShard, lb string, now time.Time) []byte {
	e, g, t, p := &x.entry, x.choice.g, x.choice.t, &s.lines
	kind := x.lt.proto
	switch upgraded := e.target == 101; {
	case upgraded && x.peer.tls:
		kind = "wss"
	case upgraded:
		kind = "ws"
	case e.h2 && g != nil && g.version == GRPC:
		kind = "grpcs"
	case e.h2:
		kind = "h2"
	}
	b := append(p.Begin(), kind...)
	b = append(b, ' ')
	b = s.clock.append(b, now, p)
	b = append(b, ' ')
	b = append(b, lb...)
	b = append(b, ' ')
	p.Mark(b)
	b = x.peer.addr.AppendTo(b)
	b = append(b, ' ')
	p.Mark(b)
	if t != nil {
		b = append(b, t.addr...)
	} else {
		b = append(b, '-')
	}
	p.Mark(b)
	if e.sentAt.IsZero() || e.gotAt.IsZero() {
		b = append(b, " -1 -1 -1 "...)
	} else {
		b = append(b, ' ')
		b = appendSeconds(b, e.sentAt.Sub(e.created))
		b = append(b, ' ')
		p.Mark(b)
		b = appendSeconds(b, e.gotAt.Sub(e.sentAt))
		b = append(b, ' ')
		if e.begunAt.IsZero() {
			b = append(b, "0.000 "...)
		} else {
			b = appendSeconds(b, e.begunAt.Sub(e.gotAt))
			b = append(b, ' ')
		}
	}
	p.Mark(b)
	b = appendElbStatus(b, e.status)
	b = append(b, ' ')
	b = appendCode(b, e.target)
	b = append(b, ' ')
	b = strconv.AppendInt(b, x.received.Load(), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, x.bytes.Load(), 10)
	b = append(b, ' ')
	p.Mark(b)
	b = append(b, e.text[:e.uri[0]]...)
	p.Mark(b)
	b = append(b, e.text[e.uri[0]:e.uri[1]]...)
	p.Mark(b)
	b = append(b, e.text[e.uri[1]:e.words]...)
	p.Mark(b)
	if x.peer.tls {
		b = append(b, ' ')
		b = append(b, x.peer.suite...)
		b = append(b, ' ')
		b = append(b, x.peer.tlsVer...)
	} else {
		b = append(b, " - -"...)
	}
	b = append(b, ' ')
	if g != nil {
		b = append(b, g.key...)
	} else {
		b = append(b, '-')
	}
	p.Mark(b)
	b = appendQuoted(b, e.text[e.trace[0]:e.trace[1]])
	p.Mark(b)
	if f := x.peer.facts; f == nil {
		b = append(b, ` "-" "-"`...)
	} else {
		b = append(b, ' ', '"')
		if f.ServerName == "" {
			b = append(b, '-')
		} else {
			b = appendLogged(b, f.ServerName)
		}
		b = append(b, '"')
		switch {
		case f.Resumed:
			b = append(b, ` "session-reused"`...)
		case f.Certificate != nil:
			b = appendQuoted(b, f.Certificate.ARN)
		default:
			b = append(b, ` "-"`...)
		}
	}
	b = append(b, ' ')
	if e.matched == notMatched {
		b = append(b, '-')
	} else {
		b = strconv.AppendInt(b, int64(e.matched), 10)
	}
	b = append(b, ' ')
	b = s.clock.append(b, e.created, p)
	b = appendQuoted(b, e.action)
	b = appendQuoted(b, e.text[e.to[0]:e.to[1]])
	b = appendQuoted(b, e.reason)
	p.Mark(b)
	if t != nil {
		b = appendQuoted(b, t.addr)
	} else {
		b = append(b, ` "-"`...)
	}
	p.Mark(b)
	b = append(b, ' ', '"')
	b = appendCode(b, e.target)
	b = append(b, '"')
	odd := x.oddity()
	b = appendQuoted(b, odd.class().String())
	b = appendQuoted(b, odd.String())
	b = append(b, ' ')
	p.Mark(b)
	b = appendConnTrace(b, x.peer.addr, x.peer.born)
	p.Mark(b)
	b = appendQuoted(b, e.text[e.rewrote[0]:e.rewrote[1]])
	b = appendQuoted(b, e.text[e.reuri[0]:e.reuri[1]])
	b = appendQuoted(b, e.change)
	return append(b, '\n')
}

// oddity is what the line says of the request's form.
func (x *exchange) oddity() oddity {
	if x.refused != noOddity {
		return x.refused
	}
	return x.req.odd
}

func appendQuoted[T string | []byte](b []byte, s T) []byte {
	if len(s) == 0 {
		return append(b, ` "-"`...)
	}
	b = append(b, ' ', '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendElbStatus(b []byte, code int) []byte {
	if code == 0 {
		return append(b, "000"...)
	}
	return strconv.AppendInt(b, int64(code), 10)
}

func appendCode(b []byte, code int) []byte {
	if code == 0 {
		return append(b, '-')
	}
	return strconv.AppendInt(b, int64(code), 10)
}

// appendLogged appends bytes of a request inside quotes: what is no printable ASCII, the quote and the backslash are escaped.
func appendLogged[T string | []byte](b []byte, s T) []byte {
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		b = append(b, '\\', 'x', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		from = i + 1
	}
	return append(b, s[from:]...)
}

// appendSeconds appends a time in seconds with three decimals.
func appendSeconds(b []byte, d time.Duration) []byte {
	ms := max(0, (d + time.Millisecond/2).Milliseconds())
	b = strconv.AppendInt(b, ms/1000, 10)
	ms %= 1000
	return append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
}

// logClock formats times; it keeps the text of a second.
type logClock struct {
	unix int64
	text [20]byte // 2006-01-02T15:04:05.
}

// append appends a time in UTC with microseconds, and marks what changes with each line.
func (c *logClock) append(b []byte, t time.Time, p *gzline.Packer) []byte {
	if s := t.Unix(); s != c.unix {
		c.unix = s
		t.UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05.")
	}
	b = append(b, c.text[:]...)
	p.Mark(b)
	us := t.Nanosecond() / 1000
	b = append(b, byte('0'+us/100000), byte('0'+us/10000%10), byte('0'+us/1000%10), byte('0'+us/100%10), byte('0'+us/10%10), byte('0'+us%10), 'Z')
	p.Mark(b)
	return b
}

// appendConnTrace appends the connection's trace id, the same in both logs: it follows from the client's address and the
// time at which the connection began, so an idle connection need not hold it.
func appendConnTrace(b []byte, from netip.AddrPort, born int64) []byte {
	a := from.Addr().As16()
	x := binary.LittleEndian.Uint64(a[:]) ^ bits.RotateLeft64(binary.LittleEndian.Uint64(a[8:]), 32) ^ uint64(from.Port())*0x9e3779b97f4a7c15
	y := uint64(born)
	for range 3 {
		hi, lo := bits.Mul64(x^0xa0761d6478bd642f, y^0xe7037ed1a0b428db)
		x, y = hi^lo, bits.RotateLeft64(y, 29)^lo
	}
	b = append(b, "TID_"...)
	b = appendHex(b, x, 16)
	return appendHex(b, y, 16)
}

// connEntry is a line of the connection log: how a client's connection began. A fact that is empty is absent.
type connEntry struct {
	at     time.Time
	client netip.AddrPort
	born   int64           // of the connection, as in peerInfo
	facts  *tlsfront.Facts // nil without TLS
	failed bool
}

// logConnection writes a line of the connection log, if there is one.
func (lt *listenerTable) logConnection(shard int, e connEntry) {
	log := lt.connLog
	if log == nil {
		return
	}
	s := log.lock(shard)
	s.done(log, e.append(&s.lines, &s.clock, lt.port))
	s.mu.Unlock()
}

func (e *connEntry) append(p *gzline.Packer, clock *logClock, port string) []byte {
	b := p.Begin()
	word := func(s string) {
		b = append(b, ' ')
		if s == "" {
			s = "-"
		}
		b = append(b, s...)
		p.Mark(b)
	}
	b = clock.append(b, e.at, p)
	b = append(b, ' ')
	b = e.client.Addr().AppendTo(b)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(e.client.Port()), 10)
	word(port)
	f := e.facts
	if f == nil {
		f = &tlsfront.Facts{}
	}
	if f.Version == 0 {
		b = append(b, " - - -"...)
	} else {
		word(tlsfront.VersionName(f.Version))
		word(tlsfront.SuiteName(f.Suite))
		b = append(b, ' ')
		b = appendSeconds(b, f.Took)
	}
	if subject := f.ClientSubject(); subject == "" {
		b = append(b, ` "-"`...)
	} else {
		b = append(b, ' ', '"')
		b = appendLogged(b, subject)
		b = append(b, '"')
	}
	word(f.ClientValidity())
	word(f.ClientSerial())
	switch {
	case f.Verified == "" && e.failed:
		word("Failed:UnmappedConnectionError")
	default:
		word(f.Verified)
	}
	b = append(b, ' ')
	b = appendConnTrace(b, e.client, e.born)
	if f.Group == 0 {
		word("")
	} else {
		word(f.Group.String())
	}
	return append(b, '\n')
}
