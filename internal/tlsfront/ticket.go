package tlsfront

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"time"
)

const ticketPeriod = 24 * time.Hour // a key seals tickets for so long, and opens them before and after for as long again

// tickets derives the keys of session tickets: nodes that share the secret need not talk. Tickets of the quick handshake are ours:
// an epoch, a nonce, and the session's secret with the time, sealed. Those of crypto/tls are its own, with other keys.
type tickets struct {
	root  []byte
	ready atomic.Pointer[ticketKeys]
}

type ticketKeys struct {
	epoch int64
	aeads [3]cipher.AEAD // of the epoch before, of this one, and of the next
}

const (
	ticketHead  = 1 + 12 // epoch's last byte, nonce
	ticketPlain = 8      // time, before the secret
)

func newTickets(secret []byte, scope string) *tickets {
	root, err := hkdf.Key(sha256.New, secret, []byte(scope), "skerry session tickets", 32)
	if err != nil {
		panic(err) // only for lengths that are not used
	}
	return &tickets{root: root}
}

func ticketEpoch(now time.Time) int64 { return now.Unix() / int64(ticketPeriod/time.Second) }

func (t *tickets) key(epoch int64, use string) [32]byte {
	b, err := hkdf.Expand(sha256.New, t.root, string(binary.BigEndian.AppendUint64([]byte(use), uint64(epoch))), 32)
	if err != nil {
		panic(err)
	}
	return [32]byte(b)
}

// keys returns crypto/tls's of an epoch: its own first, then its neighbours', for tickets of yesterday and of nodes whose clock is
// ahead.
func (t *tickets) keys(epoch int64) [][32]byte {
	return [][32]byte{t.key(epoch, ""), t.key(epoch-1, ""), t.key(epoch+1, "")}
}

func (t *tickets) at(epoch int64) *ticketKeys {
	if k := t.ready.Load(); k != nil && k.epoch == epoch {
		return k
	}
	k := &ticketKeys{epoch: epoch}
	for i := range k.aeads {
		key := t.key(epoch+int64(i)-1, "quick")
		b, err := aes.NewCipher(key[:])
		if err != nil {
			panic(err) // the key has the right size
		}
		if k.aeads[i], err = cipher.NewGCM(b); err != nil {
			panic(err)
		}
	}
	t.ready.Store(k)
	return k
}

// seal makes a ticket for a session's secret.
func (t *tickets) seal(secret []byte, now time.Time) []byte {
	epoch := ticketEpoch(now)
	out := make([]byte, ticketHead, ticketHead+ticketPlain+len(secret)+16)
	out[0] = byte(epoch)
	rand.Read(out[1:])
	plain := append(binary.BigEndian.AppendUint64(nil, uint64(now.Unix())), secret...)
	return t.at(epoch).aeads[1].Seal(out, out[1:ticketHead], plain, out[:1])
}

// open returns the secret of a ticket, nil if it is none of ours or too old.
func (t *tickets) open(ticket []byte, now time.Time) []byte {
	if len(ticket) < ticketHead+ticketPlain {
		return nil
	}
	k := t.at(ticketEpoch(now))
	for i, a := range k.aeads {
		if byte(k.epoch+int64(i)-1) != ticket[0] {
			continue
		}
		plain, err := a.Open(nil, ticket[1:ticketHead], ticket[ticketHead:], ticket[:1])
		if err != nil || len(plain) < ticketPlain {
			return nil
		}
		made := time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
		if age := now.Sub(made); age > ticketPeriod || age < -ticketPeriod {
			return nil
		}
		return plain[ticketPlain:]
	}
	return nil
}
