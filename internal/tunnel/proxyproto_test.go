package tunnel

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"testing"
)

// parseProxy reads a header as a target would; it is strict.
func parseProxy(b []byte) (client, local netip.AddrPort, rest []byte, err error) {
	bad := func(why string) (netip.AddrPort, netip.AddrPort, []byte, error) {
		return netip.AddrPort{}, netip.AddrPort{}, nil, errors.New(why)
	}
	if len(b) < 16 || string(b[:12]) != "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A" {
		return bad("no signature")
	}
	n := 16 + int(binary.BigEndian.Uint16(b[14:]))
	if b[12] != 0x21 || n > len(b) {
		return bad("version or length")
	}
	head, body := b[:n], b[16:n]
	size := map[byte]int{0x11: 4, 0x21: 16}[b[13]]
	if size == 0 || len(body) < 2*size+4 {
		return bad("family")
	}
	src, _ := netip.AddrFromSlice(body[:size])
	dst, _ := netip.AddrFromSlice(body[size : 2*size])
	ports := body[2*size:]
	client = netip.AddrPortFrom(src, binary.BigEndian.Uint16(ports))
	local = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(ports[2:]))
	for tlv := ports[4:]; len(tlv) > 0; {
		if len(tlv) < 3 {
			return bad("half a TLV")
		}
		l := int(binary.BigEndian.Uint16(tlv[1:]))
		if len(tlv) < 3+l {
			return bad("TLV beyond the end")
		}
		if tlv[0] == 0x03 {
			at := n - len(tlv) + 3
			sum := append([]byte(nil), head...)
			clear(sum[at : at+4])
			if l != 4 || crc32.Checksum(sum, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(head[at:]) {
				return bad("checksum")
			}
		}
		tlv = tlv[3+l:]
	}
	return client, local, b[n:], nil
}

// FuzzProxy: every pair of addresses arrives as it was.
func FuzzProxy(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1}, uint16(1), []byte{10, 0, 0, 1}, uint16(443), []byte("GET"))
	f.Add(make([]byte, 16), uint16(0), []byte{0: 0x20, 1: 1, 15: 1}, uint16(65535), []byte{})
	f.Fuzz(func(t *testing.T, a []byte, ap uint16, b []byte, bp uint16, data []byte) {
		x, ok1 := netip.AddrFromSlice(a)
		y, ok2 := netip.AddrFromSlice(b)
		if !ok1 || !ok2 {
			return
		}
		client, local := netip.AddrPortFrom(x, ap), netip.AddrPortFrom(y, bp)
		c, l, rest, err := parseProxy(append(appendProxy([]byte{}, client, local), data...))
		same := func(p, q netip.AddrPort) bool { return p.Addr().Unmap() == q.Addr().Unmap() && p.Port() == q.Port() }
		if err != nil || !same(c, client) || !same(l, local) || string(rest) != string(data) {
			t.Fatalf("%v %v became %v %v, %q: %v", client, local, c, l, rest, err)
		}
	})
}
