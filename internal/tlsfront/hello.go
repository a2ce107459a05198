package tlsfront

import (
	"encoding/binary"
	"slices"
)

// Extensions that the quick handshake knows, and what is in them.
const (
	extServerName   = 0
	extStatus       = 5
	extPoints       = 11
	extCertSchemes  = 50
	extECH          = 0xfe0d
	extRenegotiate  = 0xff01
	extGroups       = 10
	extSchemes      = 13
	extALPN         = 16
	extPSK          = 41
	extEarlyData    = 42
	extVersions     = 43
	extCookie       = 44
	extPSKModes     = 45
	extKeyShare     = 51
	extQUIC         = 57
	version13       = 0x0304
	modePSKDHE      = 1
	maxIdentities   = 4
	maxHelloALPN    = 64
	maxHelloExts    = 64
	clientHelloType = 1
)

// clientHello is a client's hello as far as the quick handshake looks into it. All points into raw.
type clientHello struct {
	raw        []byte // the message
	session    []byte
	suites     []byte
	serverName string
	alpn       []string
	groups     []byte
	schemes    []byte
	x25519     []byte // key shares
	p256       []byte
	tls13      bool
	pskDHE     bool
	identities [][]byte
	binders    [][]byte
	bindersAt  int // where the list of binders begins in raw
}

// parser takes fields off the front of a message; bad stays true once something was not there.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if p.bad || n > len(p.b) {
		p.bad, p.b = true, nil // so that whoever goes through a list comes to its end
		return nil
	}
	out := p.b[:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) u8() int {
	if b := p.take(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (p *parser) u16() int {
	if b := p.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (p *parser) vec8() []byte  { return p.take(p.u8()) }
func (p *parser) vec16() []byte { return p.take(p.u16()) }

// end tells whether everything was there, and nothing more.
func (p *parser) end() bool { return !p.bad && len(p.b) == 0 }

// parseHello reads a client's hello. It returns false for all that is malformed or in the least unusual: crypto/tls, which sees
// the same bytes then, answers that.
func parseHello(msg []byte) (h clientHello, ok bool) {
	h.raw = msg
	p := parser{b: msg}
	if p.u8() != clientHelloType {
		return h, false
	}
	if n := p.u8()<<16 | p.u16(); n != len(p.b) {
		return h, false
	}
	if p.u16() != 0x0303 {
		return h, false
	}
	p.take(32)
	if h.session = p.vec8(); len(h.session) > 32 {
		return h, false
	}
	h.suites = p.vec16()
	if comp := p.vec8(); len(comp) != 1 || comp[0] != 0 || len(h.suites)%2 != 0 {
		return h, false
	}
	exts := parser{b: p.vec16()}
	if !p.end() {
		return h, false
	}
	var seen [maxHelloExts]int
	n := 0
	for len(exts.b) > 0 {
		id := exts.u16()
		body := exts.vec16()
		if exts.bad || n == len(seen) || slices.Contains(seen[:n], id) || n > 0 && seen[n-1] == extPSK { // that one is last
			return h, false
		}
		seen[n] = id
		n++
		if !h.extension(id, parser{b: body}) {
			return h, false
		}
	}
	return h, h.tls13
}

// extension reads one extension; false leaves the hello to crypto/tls.
func (h *clientHello) extension(id int, e parser) bool {
	switch id {
	case extEarlyData, extCookie, extQUIC:
		return false
	case extServerName:
		list := parser{b: e.vec16()}
		if !e.end() || list.u8() != 0 {
			return false
		}
		name := list.vec16()
		h.serverName = string(name)
		return list.end() && plainName(name)
	case extGroups:
		h.groups = e.vec16()
		return e.end() && len(h.groups)%2 == 0 && len(h.groups) > 0
	case extSchemes:
		h.schemes = e.vec16()
		return e.end() && len(h.schemes)%2 == 0 && len(h.schemes) > 0
	case extALPN:
		list := parser{b: e.vec16()}
		for len(list.b) > 0 {
			name := list.vec8()
			if list.bad || len(name) == 0 || len(h.alpn) == maxHelloALPN {
				return false
			}
			h.alpn = append(h.alpn, string(name))
		}
		return e.end() && len(h.alpn) > 0
	case extVersions:
		list := parser{b: e.vec8()}
		for len(list.b) > 0 {
			if list.u16() == version13 {
				h.tls13 = true
			}
		}
		return e.end() && !list.bad
	case extPSKModes:
		h.pskDHE = slices.Contains(e.vec8(), modePSKDHE)
		return e.end()
	case extKeyShare:
		list := parser{b: e.vec16()}
		for len(list.b) > 0 {
			group, share := list.u16(), list.vec16()
			switch {
			case list.bad, len(share) == 0:
				return false
			case group == int(groupX25519) && len(share) == 32 && h.x25519 == nil:
				h.x25519 = share
			case group == int(groupP256) && len(share) == 65 && h.p256 == nil:
				h.p256 = share
			case group == int(groupX25519), group == int(groupP256):
				return false
			}
		}
		return e.end()
	case extPSK:
		return h.psk(e)

	// These say nothing to us, but not all that may be in them is right.
	case extStatus:
		e.u8()
		e.vec16()
		e.vec16()
		return e.end()
	case extPoints:
		return len(e.vec8()) > 0 && e.end()
	case extCertSchemes:
		n := len(e.vec16())
		return e.end() && n > 0 && n%2 == 0
	case extRenegotiate:
		return len(e.vec8()) == 0 && e.end()
	case extECH: // we have no keys for it
		kind := e.u8()
		e.take(2 + 2 + 1)
		e.vec16()
		return kind == 0 && len(e.vec16()) > 0 && e.end()
	}
	return true
}

func (h *clientHello) psk(e parser) bool {
	ids := parser{b: e.vec16()}
	for len(ids.b) > 0 {
		id := ids.vec16()
		ids.take(4) // the ticket's age, which only early data needs
		if ids.bad || len(id) == 0 {
			return false
		}
		h.identities = append(h.identities, id)
	}
	h.bindersAt = len(h.raw) - len(e.b) // it is the last extension
	list := parser{b: e.vec16()}
	for len(list.b) > 0 {
		b := list.vec8()
		if list.bad || len(b) < 32 {
			return false
		}
		h.binders = append(h.binders, b)
	}
	return e.end() && len(h.binders) == len(h.identities) && len(h.identities) > 0
}

// plainName tells whether a server name is one that crypto/tls lets pass as it is.
func plainName(b []byte) bool {
	if len(b) == 0 || len(b) > 255 || b[len(b)-1] == '.' {
		return false
	}
	letters := false
	for _, c := range b {
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			letters = true
		case c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return letters
}

// has tells whether a list of 16-bit numbers holds one.
func has(list []byte, x uint16) bool {
	for i := 0; i+1 < len(list); i += 2 {
		if binary.BigEndian.Uint16(list[i:]) == x {
			return true
		}
	}
	return false
}
