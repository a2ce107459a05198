package proxy

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Names of the cookies that the load balancer sets.
const (
	cookieLB      = "AWSALB"
	cookieLBCORS  = "AWSALBCORS"
	cookieApp     = "AWSALBAPP-0"
	cookieTG      = "AWSALBTG"
	cookieTGCORS  = "AWSALBTGCORS"
	cookieExpires = 7 * 24 * time.Hour
)

// sealer makes and reads the values of stickiness cookies: a purpose, an identity and a deadline, encrypted and
// authenticated, so that a client can neither read which target it has nor choose one.
type sealer struct{ aead cipher.AEAD }

const sealedPlain = 16 // identity, deadline (Unix seconds)

func newSealer(key []byte, name string) *sealer {
	if len(key) == 0 {
		key = []byte("cookie key of " + name)
	}
	k := sha256.Sum256(append([]byte("skerry stickiness cookie\x00"), key...))
	b, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // the key has the right size
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic(err)
	}
	return &sealer{a}
}

// seal appends the value that names id until then.
func (s *sealer) seal(dst []byte, purpose string, id uint64, until time.Time) []byte {
	var buf [12 + sealedPlain + 16]byte
	rand.Read(buf[:12])
	var plain [sealedPlain]byte
	binary.BigEndian.PutUint64(plain[:], id)
	binary.BigEndian.PutUint64(plain[8:], uint64(until.Unix()))
	out := s.aead.Seal(buf[:12], buf[:12], plain[:], []byte(purpose))
	return base64.StdEncoding.AppendEncode(dst, out)
}

// open returns the identity that the value names, if it is genuine and not over.
func (s *sealer) open(v []byte, purpose string, now time.Time) (uint64, bool) {
	id, genuine, over := s.read(v, purpose, now)
	return id, genuine && !over
}

// read is open that tells what is wrong.
func (s *sealer) read(v []byte, purpose string, now time.Time) (id uint64, genuine, over bool) {
	var buf [12 + sealedPlain + 16 + 2]byte
	if base64.StdEncoding.DecodedLen(len(v)) > len(buf) {
		return 0, false, false
	}
	n, err := base64.StdEncoding.Decode(buf[:], v)
	if err != nil || n != 12+sealedPlain+16 {
		return 0, false, false
	}
	plain, err := s.aead.Open(buf[12:12], buf[:12], buf[12:n], []byte(purpose))
	if err != nil {
		return 0, false, false
	}
	return binary.BigEndian.Uint64(plain), true, now.Unix() >= int64(binary.BigEndian.Uint64(plain[8:]))
}

// cookie returns the value of the named cookie in the request.
func (r *request) cookie(name string) ([]byte, bool) {
	for i := range r.fields {
		if r.fields[i].id != fCookie {
			continue
		}
		for v := r.fields[i].value; len(v) > 0; {
			c := v
			if k := bytes.IndexByte(v, ';'); k >= 0 {
				c, v = v[:k], v[k+1:]
			} else {
				v = nil
			}
			if c = trim(c); len(c) > len(name) && c[len(name)] == '=' && string(c[:len(name)]) == name {
				return c[len(name)+1:], true
			}
		}
	}
	return nil, false
}

// setsCookie tells whether the response sets a cookie of that name.
func (r *response) setsCookie(name string) bool {
	for i := range r.fields {
		if f := &r.fields[i]; f.id == fSetCookie {
			if v := f.value; len(v) > len(name) && v[len(name)] == '=' && string(v[:len(name)]) == name {
				return true
			}
		}
	}
	return false
}

// appendCookie appends the Set-Cookie lines of one stickiness cookie, with its twin for cross-origin requests if it has one.
func (s *sealer) appendCookie(dst []byte, name, twin, purpose string, id uint64, now time.Time, stickyFor, life time.Duration) []byte {
	dst = append(dst, "Set-Cookie: "...)
	dst = append(dst, name...)
	dst = append(dst, '=')
	from := len(dst)
	dst = s.seal(dst, purpose, id, now.Add(stickyFor))
	val := dst[from:]
	dst = append(dst, "; Expires="...)
	dst = now.Add(life).UTC().AppendFormat(dst, timeFormat)
	dst = append(dst, "; Path=/\r\n"...)
	if twin != "" {
		dst = append(dst, "Set-Cookie: "...)
		dst = append(dst, twin...)
		dst = append(dst, '=')
		dst = append(dst, val...)
		dst = append(dst, "; Expires="...)
		dst = now.Add(life).UTC().AppendFormat(dst, timeFormat)
		dst = append(dst, "; Path=/; SameSite=None; Secure\r\n"...)
	}
	return dst
}

// timeFormat is that of HTTP dates, for times in UTC.
const timeFormat = "Mon, 02 Jan 2006 15:04:05 GMT"
