package tlsfront

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

const ticketPeriod = 24 * time.Hour // a key seals tickets for so long, and opens them before and after for as long again

// tickets derives the keys of session tickets: nodes that share the secret need not talk.
type tickets struct{ root []byte }

func newTickets(secret []byte, scope string) *tickets {
	root, err := hkdf.Key(sha256.New, secret, []byte(scope), "skerry session tickets", 32)
	if err != nil {
		panic(err) // only for lengths that are not used
	}
	return &tickets{root}
}

func ticketEpoch(now time.Time) int64 { return now.Unix() / int64(ticketPeriod/time.Second) }

// keys returns those of an epoch: its own first, then its neighbours', for tickets of yesterday and of nodes whose clock is ahead.
func (t *tickets) keys(epoch int64) [][32]byte {
	var out [][32]byte
	for _, e := range []int64{epoch, epoch - 1, epoch + 1} {
		info := binary.BigEndian.AppendUint64(nil, uint64(e))
		b, err := hkdf.Expand(sha256.New, t.root, string(info), 32)
		if err != nil {
			panic(err)
		}
		out = append(out, [32]byte(b))
	}
	return out
}
