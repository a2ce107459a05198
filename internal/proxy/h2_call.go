package proxy

import (
	"bytes"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2call is one request to a target on a stream. To the exchange it is a connection that speaks HTTP/1.1: the head and the
// body that are written to it become frames, and the target's frames are read from it as a head and a body.
type h2call struct {
	c           *h2client
	interrupted atomic.Bool
	canRead     chan struct{}
	canWrite    chan struct{}
	src         bodySource // the request's body, as it is written; the writer's
	head        bool       // the request is HEAD

	// Guarded by c.mu.
	id         uint32 // 0: not sent yet
	closed     bool
	err        error
	sendWindow int64
	recvWindow int64
	in         []byte // the answer in HTTP/1.1's form; in[used:] is not read yet
	used       int
	owed       int64 // flow-control bytes in in
	debt       int64
	answered   bool // the final head is in
	chunked    bool // its body is framed as chunks
	ended      bool // all of the answer is in
	sent       bool // all of the request is out
	cut        bool // the target wants no more of it
}

func (k *h2call) wakeWriter() {
	select {
	case k.canWrite <- struct{}{}:
	default:
	}
}

func (k *h2call) wake() {
	k.wakeWriter()
	select {
	case k.canRead <- struct{}{}:
	default:
	}
}

// takeHead takes a header block: an interim head, the final one, or trailers.
func (k *h2call) takeHead(f *http2.MetaHeadersFrame) bool {
	if f.Truncated || k.ended {
		return false
	}
	if k.answered { // trailers
		if !f.StreamEnded() || len(f.PseudoFields()) > 0 {
			return false
		}
		if k.ended = true; !k.chunked {
			return true
		}
		k.in = append(k.in, "0\r\n"...)
		if !k.takeFields(f.Fields, true) {
			return false
		}
		k.in = append(k.in, '\r', '\n')
		return true
	}
	ps := f.PseudoFields()
	if len(ps) != 1 || ps[0].Name != ":status" || len(ps[0].Value) != 3 {
		return false
	}
	status := ps[0].Value
	if status[0] == '1' && (f.StreamEnded() || status == "101" || len(k.in)-k.used > maxInterim*maxResponseHead) {
		return false
	}
	k.in = append(k.in, "HTTP/1.1 "...)
	k.in = append(k.in, status...)
	k.in = append(k.in, " \r\n"...)
	sized := false
	fs := f.RegularFields()
	trailers := hasField(fs, "trailer")
	for i := range fs {
		if fs[i].Name == "content-length" {
			if trailers {
				fs = append(fs[:i:i], fs[i+1:]...) // trailers need chunks
			} else {
				sized = true
			}
			break
		}
	}
	if !k.takeFields(fs, false) {
		return false
	}
	if status[0] == '1' {
		k.in = append(k.in, '\r', '\n')
		return true
	}
	k.answered, k.ended = true, f.StreamEnded()
	if !k.head && status != "204" && status != "304" && !sized {
		k.chunked = true
		k.in = append(k.in, "transfer-encoding: chunked\r\n"...)
	}
	k.in = append(k.in, '\r', '\n')
	if k.ended && k.chunked {
		k.in = append(k.in, "0\r\n\r\n"...)
	}
	return true
}

func hasField(fs []hpack.HeaderField, name string) bool {
	return slices.ContainsFunc(fs, func(f hpack.HeaderField) bool { return f.Name == name })
}

func (k *h2call) takeFields(fs []hpack.HeaderField, trailers bool) bool {
	for i := range fs {
		f := &fs[i]
		switch f.Name {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
			return false
		case "content-length":
			if trailers {
				continue
			}
		}
		k.in = append(k.in, f.Name...)
		k.in = append(k.in, ": "...)
		k.in = append(k.in, f.Value...)
		k.in = append(k.in, '\r', '\n')
	}
	return true
}

// takeData takes data; n is what flow control counts.
func (k *h2call) takeData(b []byte, n int64, end bool) {
	k.owed += n
	if k.used > 0 && len(k.in)+len(b)+32 > cap(k.in) {
		k.in = k.in[:copy(k.in, k.in[k.used:])]
		k.used = 0
	}
	switch {
	case !k.chunked:
		k.in = append(k.in, b...)
	case len(b) > 0:
		k.in = appendChunk(k.in, b)
	}
	if k.ended = end; end && k.chunked {
		k.in = append(k.in, "0\r\n\r\n"...)
	}
}

// Read reads the answer.
func (k *h2call) Read(b []byte) (int, error) {
	c := k.c
	for {
		c.mu.Lock()
		if k.used < len(k.in) {
			n := copy(b, k.in[k.used:])
			if k.used += n; k.used == len(k.in) {
				k.in, k.used = k.in[:0], 0
				if k.debt += k.owed; k.debt >= callWindow/2 && !k.ended && !k.closed && k.err == nil {
					c.out = appendWindowUpdate(c.out, k.id, k.debt)
					k.recvWindow += k.debt
					k.debt = 0
					c.signal()
				}
				k.owed = 0
			}
			c.mu.Unlock()
			return n, nil
		}
		ended, err := k.ended, k.err
		c.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case ended:
			return 0, io.EOF
		case k.interrupted.Load():
			return 0, os.ErrDeadlineExceeded
		}
		<-k.canRead
	}
}

// Write takes the request: first its head, whole, then the body in the head's framing.
func (k *h2call) Write(b []byte) (int, error) {
	c := k.c
	body := b
	if k.id == 0 {
		i := bytes.Index(b, []byte("\r\n\r\n"))
		if i < 0 {
			return 0, errBadHeader
		}
		block, end := k.appendHead(nil, b[:i+2])
		c.mu.Lock()
		if c.closing || c.ended || k.closed {
			c.mu.Unlock()
			return 0, errNotProcessed
		}
		k.id = c.next
		c.next += 2
		c.reserved--
		c.calls[k.id] = k
		k.sendWindow, k.recvWindow, k.sent = c.peerWindow, callWindow, end
		c.out = appendBlock(c.out, k.id, block, end, c.resize)
		c.resize = false
		c.signal()
		c.mu.Unlock()
		if body = b[i+4:]; len(body) == 0 {
			return len(b), nil
		}
		body = append([]byte(nil), body...) // it may be sent again, and is decoded in place
	}
	n, _, end, err := k.src.decode(body)
	if err != nil {
		return 0, err
	}
	if err := k.send(body[:n], end); err != nil {
		return 1, err
	}
	return len(b), nil
}

// send frames data as the windows allow.
func (k *h2call) send(b []byte, end bool) error {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case k.err != nil:
			return k.err
		case k.cut, k.closed:
			return syscall.EPIPE
		case k.sent:
			return nil
		}
		n := int(min(int64(len(b)), h2MaxFrame, k.sendWindow, c.sendWindow, int64(max(0, callOut-len(c.out)))))
		if n > 0 || end && len(b) == 0 {
			var flags http2.Flags
			if end && n == len(b) {
				flags, k.sent = http2.FlagDataEndStream, true
			}
			c.out = appendFrame(c.out, http2.FrameData, flags, k.id, n)
			c.out = append(c.out, b[:n]...)
			b = b[n:]
			k.sendWindow -= int64(n)
			c.sendWindow -= int64(n)
			c.signal()
		}
		if len(b) == 0 {
			return nil
		}
		if n > 0 {
			continue
		}
		if k.interrupted.Load() {
			return os.ErrDeadlineExceeded
		}
		c.mu.Unlock()
		<-k.canWrite
		c.mu.Lock()
	}
}

// appendHead appends the header block for an HTTP/1.1 head, and notes how the body behind it is framed. end tells that there
// is none.
func (k *h2call) appendHead(dst, head []byte) (block []byte, end bool) {
	i := bytes.IndexByte(head, '\n')
	line, fields := head[:i-1], head[i+1:]
	sp, sp2 := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	method := line[:sp]
	k.head = string(method) == "HEAD"
	switch string(method) {
	case "GET":
		dst = append(dst, 0x82)
	case "POST":
		dst = append(dst, 0x83)
	default:
		dst = appendIndexed(dst, 2, method)
	}
	if k.c.t.tls {
		dst = append(dst, 0x87)
	} else {
		dst = append(dst, 0x86)
	}
	dst = appendIndexed(dst, 4, line[sp+1:sp2])
	// The pseudo-headers come first.
	each := func(fn func(id fieldID, name, value []byte)) {
		for b := fields; len(b) > 0; {
			i := bytes.IndexByte(b, '\n')
			j := bytes.IndexByte(b, ':')
			fn(known(b[:j]), b[:j], trim(b[j+1:i-1]))
			b = b[i+1:]
		}
	}
	each(func(id fieldID, _, value []byte) {
		if id == fHost {
			dst = appendIndexed(dst, 1, value)
		}
	})
	end = true
	grpc := false
	each(func(id fieldID, name, value []byte) {
		switch id {
		case fHost, fConnection, fUpgrade, fHop:
			return
		case fTransferEncoding:
			end = false
			k.src = bodySource{framing: byChunks}
			return
		case fContentLength:
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 {
				end = false
				k.src = bodySource{framing: byLength, left: n}
			}
		case fOther:
			grpc = grpc || isContentType(name) && isGRPC(value)
		}
		dst = appendField(dst, name, value)
	})
	if grpc {
		dst = appendField(dst, []byte("te"), []byte("trailers"))
	}
	return dst, end
}

// appendIndexed appends a field whose name is in the static table.
func appendIndexed(dst []byte, index uint64, value []byte) []byte {
	dst = appendHpackInt(dst, 0, 4, index)
	dst = appendHpackInt(dst, 0, 7, uint64(len(value)))
	return append(dst, value...)
}

// Close ends the call: one that is not complete is reset.
func (k *h2call) Close() error {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	if k.id == 0 {
		c.reserved--
	} else if c.calls[k.id] == k {
		delete(c.calls, k.id)
		if !k.ended || !k.sent {
			c.out = appendReset(c.out, k.id, http2.ErrCodeCancel)
			c.signal()
		}
	}
	k.wake()
	if len(c.calls)+c.reserved == 0 {
		c.idleSince = c.p.opt.Clock()
		if c.closing || c.t.removed.Load() {
			c.endLocked(nil)
		}
	}
	return nil
}

// SetDeadline interrupts the call, or undoes that: there is no other use.
func (k *h2call) SetDeadline(t time.Time) error {
	k.interrupted.Store(!t.IsZero())
	k.wake()
	return nil
}

func (k *h2call) SetReadDeadline(t time.Time) error  { return k.SetDeadline(t) }
func (k *h2call) SetWriteDeadline(t time.Time) error { return k.SetDeadline(t) }
func (k *h2call) LocalAddr() net.Addr                { return k.c.c.LocalAddr() }
func (k *h2call) RemoteAddr() net.Addr               { return k.c.c.RemoteAddr() }

func isContentType(name []byte) bool { return len(name) == 12 && equalFold(name, "content-type") }

// isGRPC tells whether a content type is gRPC's.
func isGRPC(v []byte) bool {
	const t = "application/grpc"
	return len(v) >= len(t) && equalFold(v[:len(t)], t) && (len(v) == len(t) || v[len(t)] == '+' || v[len(t)] == ';')
}

// mismatch tells whether the group's targets do not speak the version that the request needs.
func (g *group) mismatch(r *request) bool {
	switch g.version {
	case HTTP2:
		return !r.http2
	case GRPC:
		return !r.grpc || string(r.method) != "POST"
	}
	return r.grpc
}

// noteVersion notes that the request came over HTTP/2.
func (r *request) noteVersion() {
	r.http2 = true
	for i := range r.fields {
		if f := &r.fields[i]; f.id == fOther && isContentType(f.name) {
			r.grpc = isGRPC(f.value)
		}
	}
}
