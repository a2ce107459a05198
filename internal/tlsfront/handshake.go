package tlsfront

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"skerry/internal/record"
)

// Session is a connection after its handshake.
type Session struct {
	Facts *Facts
	State *record.State // nil: crypto/tls goes on with the connection
	Rest  []byte        // read beyond the handshake, sealed; if State is not nil
	tc    *tls.Conn
	w     *wire
}

// Conn returns a net.Conn over nc, which is the handshake's connection. plain has been opened by State already, and rest is what
// is at hand behind it; the caller must have taken Rest into account.
func (s *Session) Conn(nc net.Conn, plain, rest []byte) net.Conn {
	if s.State != nil {
		return record.NewConn(nc, s.State, plain, rest)
	}
	s.w.nc, s.w.sock, s.w.yield = nc, nil, nil
	return s.tc
}

// accepter does one handshake at a time. Its configurations' callbacks know it, so that nothing need be looked up by connection.
type accepter struct {
	s          *Server
	cfg, plain *tls.Config // plain agrees on no protocol
	epoch      int64       // of the ticket keys
	facts      *Facts
	in, out    [48]byte // traffic secrets; in: TLS 1.2's master secret
	nin, nout  int
	old        []byte // the master secret of the session in a ticket, TLS 1.2
	h          *Handshake
}

func (s *Server) accepter(now time.Time) *accepter {
	a, _ := s.spare.Get().(*accepter)
	if a == nil {
		a = &accepter{s: s, cfg: s.base.Clone(), epoch: -1}
		a.cfg.KeyLogWriter = (*keyLog)(a)
		a.cfg.GetCertificate = a.certificate
		a.cfg.VerifyConnection = a.verify
		a.plain = a.cfg.Clone()
		a.plain.NextProtos = nil
		a.cfg.GetConfigForClient = a.hello
		a.cfg.UnwrapSession = a.unwrap
		a.plain.UnwrapSession = a.unwrap
	}
	if e := ticketEpoch(now); s.tickets != nil && e != a.epoch {
		a.epoch = e
		keys := s.tickets.keys(e)
		a.cfg.SetSessionTicketKeys(keys)
		a.plain.SetSessionTicketKeys(keys)
	}
	return a
}

// unwrap opens a ticket, as crypto/tls does, and keeps the secret that it holds: of a resumed TLS 1.2 session none is logged.
func (a *accepter) unwrap(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
	s, err := a.cfg.DecryptTicket(ticket, cs)
	if s != nil {
		a.old = masterOf(s)
	}
	return s, err
}

// masterOf returns the secret of a TLS 1.2 session, nil if it is not where crypto/tls puts it today. Who uses it makes sure.
func masterOf(s *tls.SessionState) []byte {
	const at, size = 2 + 1 + 2 + 8, 48 // behind version, side, suite and time
	b, err := s.Bytes()
	if err != nil || len(b) < at+1+size || binary.BigEndian.Uint16(b) != tls.VersionTLS12 || b[at] != size {
		return nil
	}
	return b[at+1:][:size]
}

// hello sees every client's hello.
func (a *accepter) hello(h *tls.ClientHelloInfo) (*tls.Config, error) {
	a.facts.ServerName, a.facts.Offered = h.ServerName, h.SupportedProtos
	if a.s.certs.mismatch && len(h.SupportedProtos) > 0 && len(a.cfg.NextProtos) > 0 &&
		!slices.ContainsFunc(h.SupportedProtos, func(p string) bool { return slices.Contains(a.cfg.NextProtos, p) }) {
		return a.plain, nil
	}
	return nil, nil
}

func (a *accepter) certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := a.s.certs.choose(h)
	a.facts.Certificate = c
	if c.slow != nil && a.h.Away != nil {
		cert := c.cert
		cert.PrivateKey = &awayKey{c.slow, a.h}
		return &cert, nil
	}
	return &c.cert, nil
}

func (a *accepter) verify(cs tls.ConnectionState) error {
	v := a.s.mutual
	if v == nil {
		return nil
	}
	a.facts.Client = cs.PeerCertificates
	if why := v.judge(cs.PeerCertificates, a.facts.Began); why != "" {
		a.facts.Verified = "Failed:" + string(why)
		return why
	}
	if v.verifies {
		a.facts.Verified = Success
	}
	return nil
}

// keyLog takes the secrets out of the lines that crypto/tls writes.
type keyLog accepter

var (
	labelIn  = []byte("CLIENT_TRAFFIC_SECRET_0 ")
	labelOut = []byte("SERVER_TRAFFIC_SECRET_0 ")
	label12  = []byte("CLIENT_RANDOM ")
)

func (k *keyLog) Write(line []byte) (int, error) {
	n := len(line)
	line = bytes.TrimSuffix(line, []byte{'\n'})
	secret := line[bytes.LastIndexByte(line, ' ')+1:]
	if len(secret) > 2*len(k.in) {
		return 0, errors.New("a secret of unknown length")
	}
	switch {
	case bytes.HasPrefix(line, labelIn):
		k.nin, _ = hex.Decode(k.in[:], secret)
	case bytes.HasPrefix(line, labelOut):
		k.nout, _ = hex.Decode(k.out[:], secret)
	case bytes.HasPrefix(line, label12):
		k.nin, _ = hex.Decode(k.in[:], secret)
	}
	return n, nil
}

// Accept does a handshake over nc, whose deadline bounds it. The facts are never nil.
func (s *Server) Accept(nc net.Conn, now time.Time) (*Session, *Facts, error) {
	h := &Handshake{Facts: &Facts{Began: now}, s: s, w: wire{nc: nc}, start: time.Now()}
	if h.quick(); !h.done {
		h.finish(s.run(h))
	}
	return h.sess, h.Facts, h.err
}

// run does one handshake with crypto/tls.
func (s *Server) run(h *Handshake) (sess *Session, err error) {
	w, f := &h.w, h.Facts
	a := s.accepter(f.Began)
	a.facts, a.h = f, h
	a.nin, a.nout, a.old = 0, 0, nil
	w.hear()
	sess = &Session{Facts: f}
	tc := tls.Server(w, a.cfg)
	if err = tc.Handshake(); err == nil {
		s.learn(f, tc.ConnectionState())
		sess.State, err = a.takeover(w, f)
	} else {
		f.failed(s, err)
	}
	if err == nil && sess.State == nil {
		w.free = true
		sess.tc, sess.w = tc, w // and a, which tc's configuration belongs to
		return sess, nil
	}
	clear(a.in[:])
	clear(a.out[:])
	clear(a.old)
	a.facts, a.h = nil, nil
	s.spare.Put(a)
	if err != nil {
		return nil, err
	}
	return sess, nil
}

func (s *Server) learn(f *Facts, cs tls.ConnectionState) {
	f.Version, f.Suite, f.Group, f.Protocol, f.Resumed = cs.Version, cs.CipherSuite, cs.CurveID, cs.NegotiatedProtocol, cs.DidResume
	if f.Certificate == nil {
		f.Certificate = s.certs.named(f.ServerName)
	}
}

// failed notes why a handshake failed.
func (f *Facts) failed(s *Server, err error) {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 { // crypto/tls's own type, which it does not export
			f.Alert, f.Alerted = byte(v.Uint()), true
		}
	}
	if s.mutual != nil && s.mutual.verifies && f.Verified == "" && err != io.EOF {
		f.Verified = "Failed:" + unmapped
	}
}

// takeover makes the record layer of a connection; nil if it is none that can be taken over.
func (a *accepter) takeover(w *wire, f *Facts) (*record.State, error) {
	if !record.Supported(f.Version, f.Suite) {
		return nil, nil
	}
	var s *record.State
	var err error
	if f.Version == tls.VersionTLS13 {
		if s, err = record.New13(f.Suite, a.in[:a.nin], a.out[:a.nout], 0); err == nil {
			s.Resume(w.last)
		}
	} else {
		master := a.in[:a.nin]
		if f.Resumed {
			master = a.old
		}
		s, err = record.New12(f.Suite, master, w.client[:], w.random[:])
		if err != nil || !s.Confirm(w.last) {
			return nil, nil // something is not as it was thought to be
		}
	}
	if err != nil {
		return nil, fmt.Errorf("taking over the connection: %w", err)
	}
	return s, nil
}

// maxInFlight bounds the handshakes that have begun and not ended, of all Servers together: what they hold is several kilobytes each.
const maxInFlight = 8192

var inFlight atomic.Int64

// ErrBusy ends a handshake that is one too many.
var ErrBusy = errors.New("too many handshakes at once")

// Handshake is a handshake in steps.
type Handshake struct {
	Facts *Facts
	Away  Away // nil: all is done in Step
	s     *Server
	w     wire
	start time.Time

	counted bool
	q       *quickHandshake // its first flight has been made
	flight  *[wireBuffer]byte
	pending []byte // of the flight

	work *work // a use of the private key that goes on elsewhere, or has ended

	next func() (bool, bool) // crypto/tls, as a coroutine
	stop func()

	sess    *Session
	err     error
	done    bool
	writing bool
}

// Begin prepares a handshake over sock. All steps must be the same goroutine's; if it is locked to its thread, then it must have
// been so at the first.
func (s *Server) Begin(sock Socket, now time.Time) *Handshake {
	return &Handshake{Facts: &Facts{Began: now}, s: s, w: wire{sock: sock}, start: time.Now()}
}

// Step goes on until the handshake is over, or waits for the socket: to be writable, if Writing, else readable; or for what is Away,
// during which it does nothing. A panic in crypto/tls is the caller's.
func (h *Handshake) Step() (done bool) {
	if h.done {
		return true
	}
	panics := true
	defer func() {
		if panics {
			h.finish(nil, errAborted)
		}
	}()
	done = h.step()
	panics = false
	return done
}

func (h *Handshake) step() (done bool) {
	if h.work != nil && !h.work.ready.Load() {
		return false
	}
	if h.next == nil {
		if waits := h.quick(); waits || h.done {
			return h.done
		}
		h.next, h.stop = iter.Pull(func(yield func(bool) bool) {
			h.w.yield = yield
			h.sess, h.err = h.s.run(h)
		})
	}
	writing, more := h.next()
	if h.writing = writing; !more {
		h.finish(h.sess, h.err)
	}
	return h.done
}

// quick does the quick handshake as far as it goes now. If it neither waits nor is done, the handshake is left to crypto/tls.
func (h *Handshake) quick() (waits bool) {
	w := &h.w
	if h.q == nil {
		if w.buf == nil {
			w.buf = wireBuffers.Get().(*[wireBuffer]byte)
		}
		rec, err := w.peek()
		if w.w > 0 && !h.counted {
			h.counted = true
			if inFlight.Add(1) > maxInFlight {
				h.finish(nil, ErrBusy)
				return false
			}
		}
		if err == ErrWait {
			if w.w == 0 { // nothing is held while nothing has come
				h.release()
			}
			h.writing = false
			return true
		}
		if rec == nil || !h.s.quick {
			return false
		}
		q := h.s.quickly(rec, h.Facts)
		if q == nil {
			return false
		}
		q.w = w
		h.flight = wireBuffers.Get().(*[wireBuffer]byte)
		h.pending, err = q.answer(h.flight[:0], h.Away != nil)
		w.r += len(rec)
		h.q = q
		if err == errAway {
			h.writing = false
			h.sendAway(q.sign)
			return true
		}
		if err != nil {
			h.fail(err)
			return false
		}
	} else if h.work != nil {
		var err error
		if h.pending, err = h.q.signed(h.back()); err != nil {
			h.fail(err)
			return false
		}
	}
	for len(h.pending) > 0 {
		n, err := w.send(h.pending)
		h.pending = h.pending[n:]
		if err == ErrWait {
			h.writing = true
			return true
		}
		if err != nil {
			h.finish(nil, err)
			return false
		}
	}
	switch err := h.q.readFinished(); err {
	case ErrWait:
		h.writing = false
		return true
	case nil:
		h.finish(&Session{Facts: h.Facts, State: h.q.app}, nil)
	default:
		h.fail(err)
	}
	return false
}

// fail ends the quick handshake and tells the client, if it can be told at once.
func (h *Handshake) fail(err error) {
	if e, ok := errors.AsType[*alertError](err); ok && len(h.pending) == 0 {
		h.w.send(h.q.alert(e.alert))
	}
	h.finish(nil, err)
}

func (h *Handshake) release() {
	if h.w.buf != nil {
		wireBuffers.Put(h.w.buf)
		h.w.buf = nil
	}
	if h.flight != nil {
		wireBuffers.Put(h.flight)
		h.flight, h.pending = nil, nil
	}
}

func (h *Handshake) finish(sess *Session, err error) {
	h.sess, h.err, h.done = sess, err, true
	h.Facts.Took = time.Since(h.start)
	if h.work != nil {
		h.work.gone.Store(true)
		h.work = nil
	}
	if h.counted {
		inFlight.Add(-1)
	}
	if sess != nil && sess.State == nil {
		return // crypto/tls goes on, with its buffer
	}
	if w := &h.w; sess != nil && w.r < w.w {
		sess.Rest = bytes.Clone(w.buf[w.r:w.w])
	}
	h.release()
	h.q = nil
}

// Writing tells what the handshake waits for.
func (h *Handshake) Writing() bool { return h.writing }

// Result is the outcome, after Step has returned true.
func (h *Handshake) Result() (*Session, error) { return h.sess, h.err }

// Abort ends a handshake that is not over. The socket may see a last Write.
func (h *Handshake) Abort() {
	if h.done {
		return
	}
	err := errAborted
	if h.next != nil {
		if h.stop(); h.err != nil {
			err = h.err
		}
	}
	h.finish(nil, err)
}
