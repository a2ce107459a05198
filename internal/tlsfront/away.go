package tlsfront

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
	"sync/atomic"
)

// slowBits is the size from which on a use of an RSA key takes milliseconds: too long for an event loop.
const slowBits = 3072

// Away runs what takes long: job, on a goroutine of its own. Then the handshake over sock wants a Step by whom it belongs to.
type Away interface {
	Away(sock Socket, job func())
}

var errAway = errors.New("under way elsewhere")

// work is one use of a private key elsewhere.
type work struct {
	ready atomic.Bool // out and err are there
	gone  atomic.Bool // nobody waits for them
	out   []byte
	err   error
}

// sendAway has fn run elsewhere. Step does nothing until it has.
func (h *Handshake) sendAway(fn func() ([]byte, error)) {
	k := &work{err: errAborted}
	h.work = k
	h.Away.Away(h.w.sock, func() {
		defer k.ready.Store(true)
		if !k.gone.Load() {
			k.out, k.err = fn()
		}
	})
}

// back takes the outcome.
func (h *Handshake) back() ([]byte, error) {
	k := h.work
	h.work = nil
	return k.out, k.err
}

// awayKey is a key that crypto/tls, running as a coroutine, uses elsewhere.
type awayKey struct {
	*rsa.PrivateKey
	h *Handshake
}

func (k *awayKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.wait(func() ([]byte, error) { return k.PrivateKey.Sign(rand, digest, opts) })
}

func (k *awayKey) Decrypt(rand io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.wait(func() ([]byte, error) { return k.PrivateKey.Decrypt(rand, ciphertext, opts) })
}

func (k *awayKey) wait(fn func() ([]byte, error)) ([]byte, error) {
	k.h.sendAway(fn)
	if !k.h.w.yield(false) {
		return nil, errAborted
	}
	return k.h.back()
}
