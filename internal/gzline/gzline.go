// Package gzline packs lines that resemble the one before, such as those of an access log, into gzip members at a fraction of
// a general compressor's cost: it keeps no hash table and no history but one line, so it neither takes much time nor pushes
// anything else out of the processor's caches.
//
// How it works: whoever makes a line marks where its fields end. A field that is the same as in the line before becomes part of a
// match at a distance of about a line, another one becomes literals. Codes are DEFLATE's fixed ones (RFC 1951, 3.2.6); a member's
// frame is RFC 1952's. A match is never sought elsewhere, so lines of many different clients shrink less than gzip would
// have them; lines that have nothing in common don't grow, but for bytes beyond ASCII (by an eighth).
package gzline

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

const (
	minMatch  = 4 // a match costs 20 bits or so, a literal 8
	maxMatch  = 258
	window    = 32 << 10
	maxFields = 48
	slack     = 8 // bytes behind the end of lines and output that whole words may touch
)

// Packer makes one gzip member after the other. The zero value is ready.
type Packer struct {
	out   []byte // with the member's bytes but for those in acc
	acc   uint64 // what is not in out yet
	n     uint   // bits in it, fewer than 8
	crc   uint32
	size  uint32
	lines int

	two  [2]fields // the line in the making and the one before
	next int       // which is which
}

// fields is a line and where its fields end.
type fields struct {
	b   []byte
	end [maxFields]int32
	n   int
}

// Len is the size of the member so far.
func (p *Packer) Len() int { return len(p.out) }

// Lines tells how many lines are in it.
func (p *Packer) Lines() int { return p.lines }

// Begin returns the buffer to append a line to.
func (p *Packer) Begin() []byte {
	l := &p.two[p.next]
	l.n = 0
	return l.b[:0]
}

// Mark notes that a field ends at the end of b, the line so far. Fields are compared by their number, so it should be the same
// one in each line. Those beyond a bound count as one.
func (p *Packer) Mark(b []byte) {
	if l := &p.two[p.next]; l.n < maxFields-1 {
		l.end[l.n] = int32(len(b))
		l.n++
	}
}

// Add packs the line that Begin's buffer has become, its newline included. One without marks is marked at its spaces.
func (p *Packer) Add(b []byte) {
	l, prev := &p.two[p.next], &p.two[1-p.next]
	for at := 0; l.n == 0 || at > 0; {
		n := bytes.IndexByte(b[at:], ' ') + 1
		if n == 0 {
			break
		}
		at += n
		p.Mark(b[:at])
	}
	l.end[l.n] = int32(len(b))
	l.n++
	if cap(b)-len(b) < slack {
		b = append(b, make([]byte, slack)...)[:len(b)]
	}
	l.b = b
	if need := len(b) + len(b)/8 + 64; cap(p.out)-len(p.out) < need {
		p.out = append(make([]byte, 0, 2*cap(p.out)+need), p.out...)
	}
	if p.lines == 0 {
		p.out = append(p.out[:0], 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 3)
		p.acc, p.n = 0b011, 3 // the last block, fixed codes
		p.crc, p.size = 0, 0
		prev.b, prev.n = prev.b[:0], 0 // a member stands alone
	}
	p.crc = crc32.Update(p.crc, crc32.IEEETable, b)
	p.size += uint32(len(b))
	p.lines++

	from, was := 0, 0  // where the field begins, and the one before
	same, dist := 0, 0 // so many bytes up to from are as they are dist before
	for k := range l.n {
		to, is := int(l.end[k]), was
		if k < prev.n {
			is = int(prev.end[k])
		}
		if d := len(prev.b) - was + from; to-from == is-was && equal(b, prev.b, from, was, to-from) {
			if d != dist {
				p.repeat(b, from, same, dist)
				same, dist = 0, d
			}
			same += to - from
		} else {
			p.repeat(b, from, same, dist)
			same = 0
			p.literals(b, from, to)
		}
		from, was = to, is
	}
	p.repeat(b, from, same, dist)
	p.next = 1 - p.next
}

// equal compares n bytes. Both lines have slack behind them.
func equal(a, b []byte, i, j, n int) bool {
	a, b = a[:cap(a)], b[:cap(b)]
	for ; n > 8; i, j, n = i+8, j+8, n-8 {
		if binary.LittleEndian.Uint64(a[i:i+8]) != binary.LittleEndian.Uint64(b[j:j+8]) {
			return false
		}
	}
	return n == 0 || (binary.LittleEndian.Uint64(a[i:i+8])^binary.LittleEndian.Uint64(b[j:j+8]))<<(64-8*n) == 0
}

// repeat writes that the n bytes before b[to:] are as they are dist before.
func (p *Packer) repeat(b []byte, to, n, dist int) {
	if n < minMatch || dist > window {
		p.literals(b, to-n, to)
		return
	}
	for n > 0 {
		m := min(n, maxMatch)
		if n > maxMatch && n < maxMatch+3 {
			m = n - 3 // a match is of three at least
		}
		p.match(m, dist)
		n -= m
	}
}

// put writes the k lowest bits of v, at most 56. The others must be zero.
func (p *Packer) put(v uint64, k uint) {
	out := p.out
	acc, n := p.acc|v<<p.n, p.n+k
	binary.LittleEndian.PutUint64(out[len(out):len(out)+8], acc)
	p.out = out[:len(out)+int(n>>3)]
	p.acc, p.n = acc>>(n&^7), n&7
}

// literals writes b[from:to]. b has slack behind it.
func (p *Packer) literals(b []byte, from, to int) {
	b = b[:cap(b)]
	out, acc, n := p.out, p.acc, p.n
	for ; to-from >= 8; from += 8 {
		v := binary.LittleEndian.Uint64(b[from : from+8])
		if v&beyondASCII != 0 {
			break
		}
		v = codes(v)
		out = out[:len(out)+8]
		binary.LittleEndian.PutUint64(out[len(out)-8:], acc|v<<n)
		acc = v >> (64 - n)
	}
	p.out, p.acc = out, acc
	for from < to {
		k := min(to-from, 7)
		v := binary.LittleEndian.Uint64(b[from:from+8]) & (1<<(8*k) - 1)
		if v&beyondASCII == 0 {
			p.put(codes(v)&(1<<(8*k)-1), uint(8*k))
		} else {
			for _, c := range b[from : from+k] {
				l := literal[c]
				p.put(uint64(l.bits), uint(l.n))
			}
		}
		from += k
	}
}

const beyondASCII = 0x8080808080808080

// codes gives the codes of eight ASCII characters: of eight bits each, the character plus 0x30, reversed.
func codes(v uint64) uint64 {
	const by1, by2, by4 = 0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f
	v += 0x3030303030303030
	v = v>>1&by1 | v&by1<<1
	v = v>>2&by2 | v&by2<<2
	return v>>4&by4 | v&by4<<4
}

// Codes, reversed, for DEFLATE writes them from the most significant bit on.
var (
	literal [256]code
	length  [maxMatch + 1]code // with the extra bits
)

type code struct {
	bits uint16
	n    uint8
}

func init() {
	for i := range literal {
		if i < 144 {
			literal[i] = code{bits.Reverse16(uint16(0x30+i)) >> 8, 8}
		} else {
			literal[i] = code{bits.Reverse16(uint16(0x190+i-144)) >> 7, 9}
		}
	}
	for n := 3; n <= maxMatch; n++ {
		symbol, extra, base := lengthSymbol(n)
		var c code
		if symbol < 280 {
			c = code{bits.Reverse16(uint16(symbol-256)) >> 9, 7}
		} else {
			c = code{bits.Reverse16(uint16(0xc0+symbol-280)) >> 8, 8}
		}
		length[n] = code{c.bits | uint16(n-base)<<c.n, c.n + uint8(extra)}
	}
}

// lengthSymbol is a match length's symbol, how many extra bits follow and the length that zero in them means.
func lengthSymbol(n int) (symbol, extra, base int) {
	switch {
	case n == maxMatch:
		return 285, 0, maxMatch
	case n < 11:
		return 254 + n, 0, n
	}
	extra = bits.Len(uint(n-3)) - 3
	k := (n - 3) >> extra // 4..7
	return 257 + 4*extra + k, extra, k<<extra + 3
}

// match writes a match of n bytes, 3 to 258, at a distance of up to 32 KiB.
func (p *Packer) match(n, dist int) {
	l := length[n]
	v, k := uint64(l.bits), uint(l.n)
	d := uint(dist - 1)
	symbol, extra := d, uint(0)
	if d >= 4 {
		extra = uint(bits.Len(d)) - 2
		symbol = 2*extra + d>>extra
	}
	v |= uint64(bits.Reverse8(uint8(symbol))>>3) << k
	k += 5
	v |= uint64(d&(1<<extra-1)) << k
	p.put(v, k+extra)
}

// Take ends the member and returns it, nil if it has no line. The next one is made in out.
func (p *Packer) Take(out []byte) []byte {
	if p.lines == 0 {
		return nil
	}
	b := p.out
	for k := p.n + 7; k > 0; k -= min(k, 8) { // the end of the block: seven zeros
		b = append(b, byte(p.acc))
		p.acc = 0
	}
	b = binary.LittleEndian.AppendUint32(b, p.crc)
	b = binary.LittleEndian.AppendUint32(b, p.size)
	p.out, p.lines = out[:0], 0
	return b
}
