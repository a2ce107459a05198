package tlsfront

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"skerry/internal/record"
)

// The quick handshake is TLS 1.3 for what nearly all clients send first: one ClientHello in one record with a key share for X25519 or
// P-256, without early data. It costs half of what crypto/tls's does. Whatever is different in any way is left to crypto/tls,
// before anything has been answered; so is everything with mutual TLS and hybrid keys.

const (
	groupX25519 = uint16(tls.X25519)
	groupP256   = uint16(tls.CurveP256)

	msgServerHello = 2
	msgTicket      = 4
	msgExtensions  = 8
	msgCertificate = 11
	msgVerify      = 15
	msgFinished    = 20

	recordCCS       = 20
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23

	alertUnexpected = 10
	alertIllegal    = 47
	alertDecode     = 50
	alertDecrypt    = 51
	alertInternal   = 80
)

// What does not depend on a connection: the hash of nothing, and the early secret's derivate without a key shared before.
var constants = [2]struct{ empty, derived []byte }{constantsOf(false), constantsOf(true)}

func constantsOf(sha384 bool) (c struct{ empty, derived []byte }) {
	k := record.GetKDF(sha384)
	defer k.Put()
	c.empty = newHash(sha384).Sum(nil)
	c.derived = k.Expand(nil, k.Extract(nil, nil, make([]byte, k.Size())), "derived", c.empty, k.Size())
	return c
}

func newHash(sha384 bool) hash.Hash {
	if sha384 {
		return sha512.New384()
	}
	return sha256.New()
}

// alertError is a failure that the client is told.
type alertError struct {
	alert byte
	text  string
}

func (e *alertError) Error() string { return "tls: " + e.text }

// quickly plans the quick handshake for a client's first record; nil leaves it to crypto/tls.
func (s *Server) quickly(rec []byte, f *Facts) *quickHandshake {
	if rec[1] != 3 {
		return nil
	}
	h, ok := parseHello(rec[headerLen:])
	if !ok {
		return nil
	}
	q := &quickHandshake{s: s, f: f, h: h}
	if !q.plan() {
		return nil
	}
	return q
}

// quickHandshake is one of them.
type quickHandshake struct {
	s *Server
	w *wire
	f *Facts
	h clientHello // until it is answered

	suite  uint16
	sha384 bool
	kdf    *record.KDF
	group  uint16
	chosen *Chosen
	scheme uint16
	proto  string
	psk    []byte // the resumed session's secret
	pskAt  int
	asks   bool // for a ticket
	held   *heldFlight

	keys    *record.State // for the handshake
	app     *record.State // for what is sent after it
	want    []byte        // the client's Finished
	changed bool          // its ChangeCipherSpec has come
}

// plan makes all choices; false leaves them to crypto/tls.
func (q *quickHandshake) plan() bool {
	h, s := &q.h, q.s
	switch { // as crypto/tls prefers them
	case has(h.groups, groupX25519) && h.x25519 != nil && slices.Contains(s.base.CurvePreferences, tls.X25519):
		q.group = groupX25519
	case has(h.groups, groupP256) && h.p256 != nil && slices.Contains(s.base.CurvePreferences, tls.CurveP256):
		q.group = groupP256
	default:
		return false
	}
	for _, c := range s.base.CurvePreferences {
		if slices.Contains(curvesHybrid, c) && has(h.groups, uint16(c)) {
			return false
		}
	}
	for i := 0; i+1 < len(h.suites) && q.suite == 0; i += 2 { // AES unless the client prefers the other
		switch id := binary.BigEndian.Uint16(h.suites[i:]); {
		case id == tls.TLS_CHACHA20_POLY1305_SHA256:
			q.suite = id
		case id != tls.TLS_AES_128_GCM_SHA256 && id != tls.TLS_AES_256_GCM_SHA384:
		case has(h.suites, tls.TLS_AES_128_GCM_SHA256):
			q.suite = tls.TLS_AES_128_GCM_SHA256
		default:
			q.suite = id
		}
	}
	if q.suite == 0 {
		return false
	}
	q.sha384 = q.suite == tls.TLS_AES_256_GCM_SHA384
	if len(h.alpn) > 0 && len(s.base.NextProtos) > 0 {
		for _, p := range s.base.NextProtos {
			if slices.Contains(h.alpn, p) {
				q.proto = p
				break
			}
		}
		if q.proto == "" && !s.certs.mismatch {
			return false
		}
	}
	q.resume()
	if q.psk != nil {
		q.chosen = s.certs.named(h.serverName)
		return true
	}
	q.chosen = s.certs.choose(h.info())
	q.scheme = schemeFor(q.chosen, h.schemes)
	return q.scheme != 0
}

// info is what the choice of a certificate wants to know.
func (h *clientHello) info() *tls.ClientHelloInfo {
	list := func(b []byte) (out []uint16) {
		for i := 0; i+1 < len(b); i += 2 {
			out = append(out, binary.BigEndian.Uint16(b[i:]))
		}
		return out
	}
	i := &tls.ClientHelloInfo{ServerName: h.serverName}
	if h.serverName == "" {
		return i // gets the default certificate
	}
	i.CipherSuites, i.SupportedVersions = list(h.suites), []uint16{tls.VersionTLS13}
	for _, x := range list(h.groups) {
		i.SupportedCurves = append(i.SupportedCurves, tls.CurveID(x))
	}
	for _, x := range list(h.schemes) {
		i.SignatureSchemes = append(i.SignatureSchemes, tls.SignatureScheme(x))
	}
	return i
}

// schemeFor is how a certificate's key signs for a client; 0 if it can't.
func schemeFor(c *Chosen, schemes []byte) uint16 {
	switch k := c.cert.PrivateKey.(type) {
	case *ecdsa.PrivateKey:
		var x tls.SignatureScheme
		switch k.Curve {
		case elliptic.P256():
			x = tls.ECDSAWithP256AndSHA256
		case elliptic.P384():
			x = tls.ECDSAWithP384AndSHA384
		default:
			return 0
		}
		if has(schemes, uint16(x)) {
			return uint16(x)
		}
	case *rsa.PrivateKey:
		if k.Size() >= 256 && has(schemes, uint16(tls.PSSWithSHA256)) {
			return uint16(tls.PSSWithSHA256)
		}
	}
	return 0
}

// resume looks for a ticket of ours among the client's. A binder that is wrong is looked at later.
func (q *quickHandshake) resume() {
	if q.s.tickets == nil || !q.h.pskDHE {
		return
	}
	for i, id := range q.h.identities[:min(len(q.h.identities), maxIdentities)] {
		if secret := q.s.tickets.open(id, q.f.Began); len(secret) == len(constants[index(q.sha384)].empty) {
			q.psk, q.pskAt = secret, i
			return
		}
	}
}

func index(sha384 bool) int {
	if sha384 {
		return 1
	}
	return 0
}

// expand derives a secret of the hash's length.
func (q *quickHandshake) expand(secret []byte, label string, context []byte) []byte {
	return q.kdf.Expand(make([]byte, 0, sha512.Size384), secret, label, context, q.kdf.Size())
}

func (q *quickHandshake) extract(salt, key []byte) []byte {
	return q.kdf.Extract(make([]byte, 0, sha512.Size384), salt, key)
}

// finished appends what a side's Finished holds.
func (q *quickHandshake) finished(dst, secret, transcript []byte) []byte {
	return q.kdf.MAC(dst, q.expand(secret, "finished", nil), transcript, nil)
}

// answer appends the server's flight to dst. If the key takes long and may be used elsewhere, it returns errAway: sign is to run
// there, and signed then returns the flight.
func (q *quickHandshake) answer(dst []byte, away bool) (flight []byte, err error) {
	f, h := q.f, &q.h
	f.ServerName, f.Offered, f.Certificate, f.Resumed = h.serverName, h.alpn, q.chosen, q.psk != nil
	q.kdf, q.asks = record.GetKDF(q.sha384), h.pskDHE
	defer func() {
		q.h = clientHello{} // it points into what is read next
		if err != errAway {
			q.kdf.Put()
			q.kdf = nil
		}
	}()
	empty, early := constants[index(q.sha384)].empty, constants[index(q.sha384)].derived
	size := q.kdf.Size()
	transcript := newHash(q.sha384)
	var hashed, fins [sha512.Size384]byte
	sum := func() []byte { return transcript.Sum(hashed[:0]) }

	if q.psk != nil {
		secret := q.extract(nil, q.psk)
		transcript.Write(h.raw[:h.bindersAt])
		binder := q.finished(fins[:0], q.expand(secret, "res binder", empty), sum())
		if subtle.ConstantTimeCompare(binder, h.binders[q.pskAt]) != 1 {
			return nil, &alertError{alertDecrypt, "wrong binder of a session ticket"}
		}
		early = q.expand(secret, "derived", empty)
		transcript.Write(h.raw[h.bindersAt:])
	} else {
		transcript.Write(h.raw)
	}
	public, shared, err := q.exchange()
	if err != nil {
		return nil, err
	}
	flight = q.serverHello(dst, public)
	transcript.Write(flight[headerLen:])
	if len(h.session) > 0 {
		flight = append(flight, recordCCS, 3, 3, 0, 1, 1)
	}

	secret := q.extract(early, shared)
	at := sum()
	cSecret, sSecret := q.expand(secret, "c hs traffic", at), q.expand(secret, "s hs traffic", at)
	if q.keys, err = record.New13(q.suite, cSecret, sSecret, 0); err != nil {
		return nil, &alertError{alertInternal, err.Error()}
	}
	master := q.extract(q.expand(secret, "derived", empty), make([]byte, size))
	msgs := q.extensions(make([]byte, 0, 256+len(q.chosen.message)))
	if q.psk == nil {
		msgs = append(msgs, q.chosen.message...)
		transcript.Write(msgs)
		digest, opts := q.proof(sum())
		if away && q.chosen.slow != nil {
			q.held = &heldFlight{flight, msgs, transcript, cSecret, sSecret, master, digest, opts}
			return nil, errAway
		}
		from := len(msgs)
		sig, err := q.chosen.cert.PrivateKey.(crypto.Signer).Sign(rand.Reader, digest, opts)
		if err != nil {
			return nil, &alertError{alertInternal, "signing: " + err.Error()}
		}
		msgs = q.verify(msgs, sig)
		transcript.Write(msgs[from:])
	} else {
		transcript.Write(msgs)
	}
	return q.complete(flight, msgs, transcript, cSecret, sSecret, master)
}

// heldFlight is a flight that lacks the signature.
type heldFlight struct {
	flight, msgs             []byte
	transcript               hash.Hash
	cSecret, sSecret, master []byte
	digest                   []byte
	opts                     crypto.SignerOpts
}

// sign makes the signature. It touches nothing else of the handshake.
func (q *quickHandshake) sign() ([]byte, error) {
	return q.chosen.slow.Sign(rand.Reader, q.held.digest, q.held.opts)
}

// signed returns the flight that was held.
func (q *quickHandshake) signed(sig []byte, err error) ([]byte, error) {
	k := q.held
	q.held = nil
	defer func() {
		q.kdf.Put()
		q.kdf = nil
	}()
	if err != nil {
		return nil, &alertError{alertInternal, "signing: " + err.Error()}
	}
	from := len(k.msgs)
	msgs := q.verify(k.msgs, sig)
	k.transcript.Write(msgs[from:])
	return q.complete(k.flight, msgs, k.transcript, k.cSecret, k.sSecret, k.master)
}

// complete appends all that is encrypted to the flight. msgs, which are in the transcript, lack the Finished only.
func (q *quickHandshake) complete(flight, msgs []byte, transcript hash.Hash, cSecret, sSecret, master []byte) ([]byte, error) {
	f, size := q.f, q.kdf.Size()
	var hashed [sha512.Size384]byte
	sum := func() []byte { return transcript.Sum(hashed[:0]) }
	from := len(msgs)
	msgs = q.finished(append(msgs, msgFinished, 0, 0, byte(size)), sSecret, sum())
	transcript.Write(msgs[from:])
	flight = q.keys.SealMessage(flight, msgs)

	at := sum()
	st, err := record.New13(q.suite, q.expand(master, "c ap traffic", at), q.expand(master, "s ap traffic", at), 0)
	if err != nil {
		return nil, &alertError{alertInternal, err.Error()}
	}
	// What the client's Finished must be is known, so a ticket can go out with the first flight.
	q.want = q.finished(append(make([]byte, 0, 4+sha512.Size384), msgFinished, 0, 0, byte(size)), cSecret, at)
	if q.s.tickets != nil && q.asks {
		transcript.Write(q.want)
		flight = st.SealMessage(flight, q.ticket(q.expand(master, "res master", sum())))
	}
	q.app = st
	f.Version, f.Suite, f.Group, f.Protocol = tls.VersionTLS13, q.suite, tls.CurveID(q.group), q.proto
	return flight, nil
}

// exchange makes our share of the key, and the key.
func (q *quickHandshake) exchange() (public, shared []byte, err error) {
	curve, share := ecdh.X25519(), q.h.x25519
	if q.group == groupP256 {
		curve, share = ecdh.P256(), q.h.p256
	}
	peer, err := curve.NewPublicKey(share)
	if err != nil {
		return nil, nil, &alertError{alertIllegal, "the client's key share is no key"}
	}
	key, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, &alertError{alertInternal, err.Error()}
	}
	if shared, err = key.ECDH(peer); err != nil {
		return nil, nil, &alertError{alertIllegal, "the client's key share is degenerate"}
	}
	return key.PublicKey().Bytes(), shared, nil
}

// serverHello appends the record.
func (q *quickHandshake) serverHello(dst, public []byte) []byte {
	begin := len(dst)
	dst = append(dst, recordHandshake, 3, 3, 0, 0, msgServerHello, 0, 0, 0, 3, 3)
	var random [32]byte
	rand.Read(random[:])
	dst = append(dst, random[:]...)
	dst = append(append(dst, byte(len(q.h.session))), q.h.session...)
	dst = binary.BigEndian.AppendUint16(dst, q.suite)
	dst = append(dst, 0, 0, 0) // no compression; length of the extensions
	exts := len(dst)
	dst = append(dst, 0, extVersions, 0, 2, version13>>8, version13&0xff)
	dst = append(dst, 0, extKeyShare, 0, byte(4+len(public)))
	dst = binary.BigEndian.AppendUint16(dst, q.group)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(public)))
	dst = append(dst, public...)
	if q.psk != nil {
		dst = append(dst, 0, extPSK, 0, 2, 0, byte(q.pskAt))
	}
	binary.BigEndian.PutUint16(dst[exts-2:], uint16(len(dst)-exts))
	binary.BigEndian.PutUint16(dst[begin+3:], uint16(len(dst)-begin-headerLen))
	binary.BigEndian.PutUint16(dst[begin+headerLen+2:], uint16(len(dst)-begin-headerLen-4))
	return dst
}

func (q *quickHandshake) extensions(dst []byte) []byte {
	n := len(q.proto)
	if n == 0 {
		return append(dst, msgExtensions, 0, 0, 2, 0, 0)
	}
	dst = append(dst, msgExtensions, 0, 0, byte(9+n), 0, byte(7+n), 0, extALPN, 0, byte(3+n), 0, byte(1+n), byte(n))
	return append(dst, q.proto...)
}

// certificateMessage is the message that shows a chain.
func certificateMessage(chain [][]byte) []byte {
	var list []byte
	u24 := func(b []byte, n int) []byte { return append(b, byte(n>>16), byte(n>>8), byte(n)) }
	for _, c := range chain {
		list = append(u24(list, len(c)), c...)
		list = append(list, 0, 0) // no extensions
	}
	out := u24([]byte{msgCertificate}, 4+len(list))
	return append(u24(append(out, 0), len(list)), list...)
}

var signedPrefix = append(bytes.Repeat([]byte{' '}, 64), "TLS 1.3, server CertificateVerify\x00"...)

// proof is what the signature is over.
func (q *quickHandshake) proof(transcript []byte) ([]byte, crypto.SignerOpts) {
	var opts crypto.SignerOpts = crypto.SHA256
	digest := sha256.New()
	switch tls.SignatureScheme(q.scheme) {
	case tls.ECDSAWithP384AndSHA384:
		opts, digest = crypto.SHA384, sha512.New384()
	case tls.PSSWithSHA256:
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	digest.Write(signedPrefix)
	digest.Write(transcript)
	return digest.Sum(nil), opts
}

// verify appends the message that proves the key.
func (q *quickHandshake) verify(dst, sig []byte) []byte {
	n := 4 + len(sig)
	dst = append(dst, msgVerify, byte(n>>16), byte(n>>8), byte(n))
	dst = binary.BigEndian.AppendUint16(dst, q.scheme)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(sig)))
	return append(dst, sig...)
}

// ticket makes the message with a ticket.
func (q *quickHandshake) ticket(master []byte) []byte {
	nonce := []byte{0} // there is one ticket a connection
	t := q.s.tickets.seal(q.expand(master, "resumption", nonce), q.f.Began)
	var age [4]byte
	rand.Read(age[:]) // only early data needs it back
	b := make([]byte, 4, 32+len(t))
	b = binary.BigEndian.AppendUint32(b, uint32(ticketPeriod/time.Second))
	b = append(append(b, age[:]...), byte(len(nonce)))
	b = binary.BigEndian.AppendUint16(append(b, nonce...), uint16(len(t)))
	b = append(append(b, t...), 0, 0)
	n := len(b) - 4
	b[0], b[1], b[2], b[3] = msgTicket, byte(n>>16), byte(n>>8), byte(n)
	return b
}

// readFinished reads the client's Finished.
func (q *quickHandshake) readFinished() error {
	for {
		rec, err := q.w.record()
		if err != nil {
			return err
		}
		switch rec[0] {
		case recordCCS: // means nothing in TLS 1.3, but some send it
			if q.changed || len(rec) != headerLen+1 || rec[headerLen] != 1 {
				return &alertError{alertUnexpected, "unexpected ChangeCipherSpec"}
			}
			q.changed = true
			continue
		case recordAlert:
			return q.alerted(rec[headerLen:])
		case recordData:
		default:
			return &alertError{alertUnexpected, "unexpected record in a handshake"}
		}
		typ, msg, err := q.keys.OpenAny(rec)
		if err != nil {
			if e, ok := errors.AsType[*record.Fault](err); ok {
				return &alertError{e.Alert, "handshake: " + e.Error()}
			}
			return err
		}
		switch {
		case typ == recordAlert:
			return q.alerted(msg)
		case typ != recordHandshake || len(msg) == 0 || msg[0] != msgFinished:
			return &alertError{alertUnexpected, "the client's Finished is missing"}
		case len(msg) != len(q.want):
			return &alertError{alertDecode, "the client's Finished is malformed"}
		case subtle.ConstantTimeCompare(msg, q.want) != 1:
			return &alertError{alertDecrypt, "the client's Finished is wrong"}
		}
		return nil
	}
}

func (q *quickHandshake) alerted(b []byte) error {
	if len(b) != 2 {
		return &alertError{alertDecode, "malformed alert"}
	}
	if b[1] == record.CloseNotify {
		return io.EOF
	}
	q.f.Alert, q.f.Alerted = b[1], true
	return fmt.Errorf("tls: the client sent alert %d", b[1])
}

// alert makes the record that tells the client. Behind our Finished it goes with the keys of what follows the handshake.
func (q *quickHandshake) alert(alert byte) []byte {
	if q.app != nil {
		return q.app.Alert(nil, alert)
	}
	return []byte{recordAlert, 3, 3, 0, 2, 2, alert}
}
