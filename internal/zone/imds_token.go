package zone

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Limits of a metadata session's life, in seconds.
const (
	minTokenTTL = 1
	maxTokenTTL = 21600
)

// newToken makes a session token for one instance: its expiry and a MAC over instance and expiry. Nothing is kept, so a
// token outlives a restart of the process (the key is a file) and is worth nothing to another instance.
func newToken(key []byte, instance string, expires time.Time) string {
	b := make([]byte, 8, 8+sha256.Size)
	binary.BigEndian.PutUint64(b, uint64(expires.UnixNano()))
	return base64.URLEncoding.EncodeToString(append(b, tokenMAC(key, instance, b)...))
}

// checkToken returns how long a token is still good for; zero or less means not at all.
func checkToken(key []byte, instance, token string, now time.Time) time.Duration {
	b, err := base64.URLEncoding.DecodeString(token)
	if err != nil || len(b) != 8+sha256.Size || !hmac.Equal(b[8:], tokenMAC(key, instance, b[:8])) {
		return 0
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))).Sub(now)
}

func tokenMAC(key []byte, instance string, expiry []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(instance))
	m.Write([]byte{0})
	m.Write(expiry)
	return m.Sum(nil)
}
