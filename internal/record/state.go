package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"
)

// Sizes of records.
const (
	MaxPlain  = 16 << 10                   // data in one record
	MaxRecord = headerLen + MaxPlain + 256 // a whole record that a peer may send, of either version
	Head      = 32                         // room that SealAt needs before the data: a header, a KeyUpdate
	Tail      = 17                         // and behind it
	headerLen = 5
	tagLen    = 16
	nonceLen  = 8 // explicit part, TLS 1.2 with GCM
)

const (
	maxUseless  = 32      // control and empty records in a row
	updateAfter = 1 << 23 // records sealed with one key; AES-GCM's bound is 2^24.5 full ones
	maxEarly    = 8       // records that a server sends before its handshake is over
)

// suite is what a cipher suite means here.
type suite struct {
	id     uint16
	tls12  bool
	keyLen int
	chacha bool
	sha384 bool
}

var suites = [...]suite{
	{tls.TLS_AES_128_GCM_SHA256, false, 16, false, false},
	{tls.TLS_AES_256_GCM_SHA384, false, 32, false, true},
	{tls.TLS_CHACHA20_POLY1305_SHA256, false, 32, true, false},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, true, 16, false, false},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, true, 16, false, false},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, true, 16, false, false},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, true, 32, false, true},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, true, 32, false, true},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, true, 32, false, true},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, true, 32, true, false},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, true, 32, true, false},
}

func suiteOf(version, id uint16) *suite {
	for i := range suites {
		if s := &suites[i]; s.id == id && (s.tls12 && version == tls.VersionTLS12 || !s.tls12 && version == tls.VersionTLS13) {
			return s
		}
	}
	return nil
}

// Supported tells whether the package carries connections of this version and suite.
func Supported(version, cipherSuite uint16) bool { return suiteOf(version, cipherSuite) != nil }

func (s *suite) hash() func() hash.Hash {
	if s.sha384 {
		return sha512.New384
	}
	return sha256.New
}

func (s *suite) secretLen() int {
	if s.sha384 {
		return sha512.Size384
	}
	return sha256.Size
}

func (s *suite) cipher(key []byte) cipher.AEAD {
	if s.chacha {
		a, err := chacha20poly1305.New(key)
		if err != nil {
			panic(err) // the key's length is the suite's
		}
		return a
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic(err)
	}
	return a
}

// half is one direction.
type half struct {
	aead   cipher.AEAD // nil at rest
	seq    uint64
	iv     [12]byte
	secret [48]byte // TLS 1.3: the traffic secret; 1.2: the key
	aad    [13]byte // TLS 1.2
}

// State is the record layer of one connection.
type State struct {
	in, out half
	su      *suite
	useless uint8
	failed  bool        // in
	owed    atomic.Bool // a KeyUpdate must go out before the next data
}

// New13 returns the State of a TLS 1.3 connection from its application traffic secrets: in protects what the peer sends, out what
// is sent. outSeq records have already been sent with out's first key (session tickets).
func New13(cipherSuite uint16, in, out []byte, outSeq uint64) (*State, error) {
	su := suiteOf(tls.VersionTLS13, cipherSuite)
	if su == nil || len(in) != su.secretLen() || len(out) != su.secretLen() {
		return nil, fmt.Errorf("record: no TLS 1.3 suite %#x with secrets of %d and %d bytes", cipherSuite, len(in), len(out))
	}
	s := &State{su: su}
	copy(s.in.secret[:], in)
	copy(s.out.secret[:], out)
	s.out.seq = outSeq
	k := GetKDF(su.sha384)
	s.in.derive(su, k)
	s.out.derive(su, k)
	k.Put()
	return s, nil
}

// New12 returns the State of a server's TLS 1.2 connection after the Finished messages, from its master secret.
func New12(cipherSuite uint16, master, clientRandom, serverRandom []byte) (*State, error) {
	su := suiteOf(tls.VersionTLS12, cipherSuite)
	if su == nil || len(master) != 48 || len(clientRandom) != 32 || len(serverRandom) != 32 {
		return nil, fmt.Errorf("record: no TLS 1.2 suite %#x with these secrets", cipherSuite)
	}
	ivLen := 4
	if su.chacha {
		ivLen = 12
	}
	seed := append(append([]byte("key expansion"), serverRandom...), clientRandom...)
	b := prf12(su.hash(), master, seed, 2*su.keyLen+2*ivLen)
	s := &State{su: su}
	copy(s.in.secret[:], b[:su.keyLen])
	copy(s.out.secret[:], b[su.keyLen:2*su.keyLen])
	copy(s.in.iv[:], b[2*su.keyLen:2*su.keyLen+ivLen])
	copy(s.out.iv[:], b[2*su.keyLen+ivLen:])
	s.in.seq, s.out.seq = 1, 1 // 0 was the Finished
	s.in.aead, s.out.aead = s.in.cipher(su), s.out.cipher(su)
	return s, nil
}

// Version is the connection's, as crypto/tls numbers it.
func (s *State) Version() uint16 {
	if s.su.tls12 {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// CipherSuite is the connection's.
func (s *State) CipherSuite() uint16 { return s.su.id }

// Rest gives the ciphers' memory back until they are needed: for a connection that is idle. It is then 300 bytes.
func (s *State) Rest() { s.in.aead, s.out.aead = nil, nil }

// Resting tells whether Rest was called and nothing has come or gone since.
func (s *State) Resting() bool { return s.in.aead == nil && s.out.aead == nil }

// derive makes what follows from the traffic secret: the nonce's base, and the cipher.
func (h *half) derive(su *suite, k *KDF) {
	var b [sha512.Size384]byte
	copy(h.iv[:], k.Expand(b[:0], h.secret[:su.secretLen()], "iv", nil, len(h.iv)))
	h.aead = su.cipher(k.Expand(b[:0], h.secret[:su.secretLen()], "key", nil, su.keyLen))
}

// cipher makes the cipher again.
func (h *half) cipher(su *suite) cipher.AEAD {
	if su.tls12 {
		return su.cipher(h.secret[:su.keyLen])
	}
	k := GetKDF(su.sha384)
	defer k.Put()
	var b [sha512.Size384]byte
	return su.cipher(k.Expand(b[:0], h.secret[:su.secretLen()], "key", nil, su.keyLen))
}

// update goes on to the next key of TLS 1.3.
func (h *half) update(su *suite) {
	k := GetKDF(su.sha384)
	defer k.Put()
	n := su.secretLen()
	var b [sha512.Size384]byte
	copy(h.secret[:], k.Expand(b[:0], h.secret[:n], "traffic upd", nil, n))
	h.derive(su, k)
	h.seq = 0
}

// turn mixes the sequence number into the nonce, or out of it again.
func (h *half) turn() {
	binary.BigEndian.PutUint64(h.iv[4:], binary.BigEndian.Uint64(h.iv[4:])^h.seq)
}

// aad12 is the additional data of TLS 1.2.
func (h *half) aad12(typ byte, n int) []byte {
	binary.BigEndian.PutUint64(h.aad[:], h.seq)
	h.aad[8], h.aad[9], h.aad[10], h.aad[11], h.aad[12] = typ, 3, 3, byte(n>>8), byte(n)
	return h.aad[:]
}

// explicit tells whether records carry a part of the nonce.
func (s *State) explicit() bool { return s.su.tls12 && !s.su.chacha }

// prf12 is TLS 1.2's pseudo-random function; seed begins with the label.
func prf12(h func() hash.Hash, secret, seed []byte, n int) []byte {
	m := hmac.New(h, secret)
	sum := func(parts ...[]byte) []byte {
		m.Reset()
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	var out []byte
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

// Resume sets where a TLS 1.3 State goes on to send: behind last, if it was sealed with the State's key as one of the first
// records (a session ticket), or else at the beginning.
func (s *State) Resume(last []byte) {
	if s.su.tls12 {
		return
	}
	for s.out.seq = 0; s.out.seq < maxEarly; s.out.seq++ {
		if s.sealed(last, s.out.seq) {
			s.out.seq++
			return
		}
	}
	s.out.seq = 0
}

// Confirm tells whether last, the server's Finished of TLS 1.2, was sealed with the State's key: whether its secret is the right one.
func (s *State) Confirm(last []byte) bool { return s.su.tls12 && s.sealed(last, 0) }

// sealed tells whether a record was sealed by this side, with this sequence number.
func (s *State) sealed(rec []byte, seq uint64) bool {
	n, err := Length(rec)
	if err != nil || n == 0 || n > len(rec) {
		return false
	}
	peer := &State{su: s.su, in: s.out}
	peer.in.seq = seq
	var body []byte
	if body = rec[headerLen:n]; s.su.tls12 {
		_, _, err = peer.open12(make([]byte, 0, n), rec[0], body)
	} else {
		_, _, err = peer.open13(make([]byte, 0, n), rec[:headerLen], body)
	}
	return err == nil
}
