package record

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"sync"
)

// KDF derives TLS 1.3's secrets with one hash function. It allocates only what it appends to; one goroutine uses it at a time.
type KDF struct {
	h    hash.Hash
	pad  [128]byte
	info [128]byte
	sum  [sha512.Size]byte
}

var kdfs = [2]sync.Pool{
	{New: func() any { return &KDF{h: sha256.New()} }},
	{New: func() any { return &KDF{h: sha512.New384()} }},
}

func kdfIndex(sha384 bool) int {
	if sha384 {
		return 1
	}
	return 0
}

// GetKDF returns a KDF; Put gives it back.
func GetKDF(sha384 bool) *KDF { return kdfs[kdfIndex(sha384)].Get().(*KDF) }

// Put gives the KDF back, without what it has seen.
func (k *KDF) Put() {
	clear(k.pad[:])
	clear(k.info[:])
	clear(k.sum[:])
	k.h.Reset()
	kdfs[kdfIndex(k.h.Size() == sha512.Size384)].Put(k)
}

// Size is the length of secrets.
func (k *KDF) Size() int { return k.h.Size() }

// MAC appends the HMAC of a message in two parts. The key is no longer than a block.
func (k *KDF) MAC(dst, key, a, b []byte) []byte {
	pad := k.pad[:k.h.BlockSize()]
	clear(pad)
	copy(pad, key)
	for i := range pad {
		pad[i] ^= 0x36
	}
	k.h.Reset()
	k.h.Write(pad)
	k.h.Write(a)
	k.h.Write(b)
	sum := k.h.Sum(k.sum[:0])
	for i := range pad {
		pad[i] ^= 0x36 ^ 0x5c
	}
	k.h.Reset()
	k.h.Write(pad)
	k.h.Write(sum)
	return k.h.Sum(dst)
}

// Extract appends HKDF-Extract.
func (k *KDF) Extract(dst, salt, key []byte) []byte { return k.MAC(dst, salt, key, nil) }

// Expand appends HKDF-Expand-Label: n bytes, no more than Size.
func (k *KDF) Expand(dst, secret []byte, label string, context []byte, n int) []byte {
	b := append(k.info[:0], byte(n>>8), byte(n), byte(len("tls13 ")+len(label)))
	b = append(append(b, "tls13 "...), label...)
	b = append(b, byte(len(context)))
	b = append(append(b, context...), 1)
	at := len(dst)
	return k.MAC(dst, secret, b, nil)[:at+n]
}
