package record

import (
	"fmt"
	"io"
)

// Content types.
const (
	typeCCS       = 20
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
)

// Alerts that this side sends.
const (
	CloseNotify          = 0
	unexpectedMessage    = 10
	badRecordMAC         = 20
	recordOverflow       = 22
	decodeError          = 50
	InternalError        = 80
	userCanceled         = 90
	noRenegotiation      = 100
	keyUpdate            = 24 // handshake message
	keyUpdateLen         = 5
	warning, fatal       = 1, 2
	updateNot, updateToo = 0, 1
)

// Fault is why a State opens nothing more: what the peer sent is wrong. Alert is what to tell it.
type Fault struct {
	Alert byte
	text  string
}

func (f *Fault) Error() string { return "tls: " + f.text }

var (
	errType     = &Fault{unexpectedMessage, "unexpected record"}
	errMAC      = &Fault{badRecordMAC, "record with a wrong tag"}
	errOverflow = &Fault{recordOverflow, "record too large"}
	errDecode   = &Fault{decodeError, "malformed record"}
	errUseless  = &Fault{unexpectedMessage, "too many records without data"}
	errRenegotn = &Fault{noRenegotiation, "renegotiation"}
	errFailed   = &Fault{InternalError, "the connection has failed"}
)

// RemoteAlert is a fatal alert that the peer sent.
type RemoteAlert byte

func (a RemoteAlert) Error() string { return fmt.Sprintf("tls: the peer sent alert %d", byte(a)) }

// Length returns the length of the record that b begins with, 0 if its header is not complete.
func Length(b []byte) (int, error) {
	if len(b) < headerLen {
		return 0, nil
	}
	n := int(b[3])<<8 | int(b[4])
	if b[1] != 3 {
		return 0, errDecode
	}
	if headerLen+n > MaxRecord {
		return 0, errOverflow
	}
	return headerLen + n, nil
}

// Next opens, in place, the record that b begins with. plain is its data within b; it is nil for a control record, which Next has
// acted on. used is the record's length: 0 if it is not complete. The error is io.EOF after a close_notify, a *Fault or a
// RemoteAlert; used then counts the record that brought it.
func (s *State) Next(b []byte) (plain []byte, used int, err error) {
	n, err := s.complete(b)
	if n == 0 {
		return nil, 0, err
	}
	at := headerLen
	if s.explicit() {
		at += nonceLen
	}
	if n < at {
		return nil, n, s.fail(errDecode)
	}
	plain, err = s.open(b[at:at], b[:n])
	return plain, n, err
}

// Open opens the complete records that src begins with and appends their data to dst, within its capacity; the buffers must not
// overlap. A record is only opened when dst has room for all of it, tag included, so an empty dst needs MaxRecord bytes. used
// counts the bytes of src that are done with. Data may come with an error: it came before the record that brought it.
func (s *State) Open(dst, src []byte) (out []byte, used int, err error) {
	for {
		n, err := s.complete(src[used:])
		if n == 0 || n > cap(dst)-len(dst) {
			return dst, used, err
		}
		plain, err := s.open(dst[len(dst):], src[used:used+n])
		used += n
		dst = dst[:len(dst)+len(plain)]
		if err != nil {
			return dst, used, err
		}
	}
}

// complete returns the length of the record at b's beginning if it is all there.
func (s *State) complete(b []byte) (int, error) {
	if s.failed {
		return 0, errFailed
	}
	n, err := Length(b)
	if err != nil {
		return 0, s.fail(err)
	}
	if n == 0 || n > len(b) {
		return 0, nil
	}
	return n, nil
}

func (s *State) fail(err error) error {
	s.failed = true
	return err
}

// open decrypts one record to dst and acts on control records.
func (s *State) open(dst, rec []byte) (plain []byte, err error) {
	h := &s.in
	if h.aead == nil {
		h.aead = h.cipher(s.su)
	}
	if h.seq == 1<<64-1 {
		return nil, s.fail(errOverflow)
	}
	var typ byte
	body := rec[headerLen:]
	if s.su.tls12 {
		typ, plain, err = s.open12(dst, rec[0], body)
	} else {
		typ, plain, err = s.open13(dst, rec[:headerLen], body)
	}
	if err != nil {
		return nil, s.fail(err)
	}
	h.seq++
	if typ == typeData && len(plain) > 0 {
		s.useless = 0
		return plain, nil
	}
	if s.useless++; s.useless > maxUseless {
		return nil, s.fail(errUseless)
	}
	switch typ {
	case typeData:
		return nil, nil
	case typeAlert:
		return nil, s.alert(plain)
	case typeHandshake:
		return nil, s.handshake(plain)
	}
	return nil, s.fail(errType)
}

func (s *State) open13(dst, head, body []byte) (byte, []byte, error) {
	if head[0] != typeData {
		return 0, nil, errType // also a ChangeCipherSpec: it belongs to the handshake
	}
	if len(body) < 1+tagLen {
		return 0, nil, errDecode
	}
	h := &s.in
	h.turn()
	p, err := h.aead.Open(dst, h.iv[:], body, head)
	h.turn()
	if err != nil {
		return 0, nil, errMAC
	}
	i := len(p) - 1
	for i >= 0 && p[i] == 0 {
		i--
	}
	if i < 0 {
		return 0, nil, errType
	}
	if i > MaxPlain {
		return 0, nil, errOverflow
	}
	return p[i], p[:i], nil
}

func (s *State) open12(dst []byte, typ byte, body []byte) (byte, []byte, error) {
	h := &s.in
	var nonce []byte
	if s.explicit() {
		if len(body) < nonceLen+tagLen {
			return 0, nil, errDecode
		}
		copy(h.iv[4:], body[:nonceLen])
		nonce, body = h.iv[:], body[nonceLen:]
	} else if len(body) < tagLen {
		return 0, nil, errDecode
	} else {
		h.turn()
		defer h.turn()
		nonce = h.iv[:]
	}
	if len(body)-tagLen > MaxPlain {
		return 0, nil, errOverflow
	}
	p, err := h.aead.Open(dst, nonce, body, h.aad12(typ, len(body)-tagLen))
	if err != nil {
		return 0, nil, errMAC
	}
	return typ, p, nil
}

func (s *State) alert(b []byte) error {
	if len(b) != 2 {
		return s.fail(errDecode)
	}
	switch level, desc := b[0], b[1]; {
	case desc == CloseNotify:
		return s.fail(io.EOF)
	case desc == userCanceled, s.su.tls12 && level == warning:
		return nil
	default:
		return s.fail(RemoteAlert(desc))
	}
}

// handshake acts on a message after the handshake: KeyUpdate is the only one that a peer may send. It ends its record.
func (s *State) handshake(b []byte) error {
	if s.su.tls12 {
		return s.fail(errRenegotn)
	}
	if len(b) != keyUpdateLen || b[0] != keyUpdate || b[1] != 0 || b[2] != 0 || b[3] != 1 || b[4] > updateToo {
		return s.fail(errType)
	}
	s.in.update(s.su)
	if b[4] == updateToo {
		s.owed.Store(true)
	}
	return nil
}

// OpenAny opens one whole record of TLS 1.3, in place, and acts on nothing that is in it: for a handshake.
func (s *State) OpenAny(rec []byte) (typ byte, plain []byte, err error) {
	n, err := s.complete(rec)
	if err != nil {
		return 0, nil, err
	}
	if n != len(rec) || s.su.tls12 {
		return 0, nil, s.fail(errDecode)
	}
	typ, plain, err = s.open13(rec[headerLen:headerLen], rec[:headerLen], rec[headerLen:])
	if err != nil {
		return 0, nil, s.fail(err)
	}
	s.in.seq++
	return typ, plain, nil
}
