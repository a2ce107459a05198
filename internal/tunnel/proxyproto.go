package tunnel

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// proxySignature begins a PROXY protocol header, version 2.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

const (
	proxyCommand = 0x21 // version 2, PROXY
	proxyTCP4    = 0x11
	proxyTCP6    = 0x21
	tlvCRC32C    = 0x03
	crcLen       = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendProxy appends the header that tells a target of a TCP connection from client to local. It ends with its checksum.
func appendProxy(dst []byte, client, local netip.AddrPort) []byte {
	begin := len(dst)
	dst = append(dst, proxySignature...)
	src, to := client.Addr().Unmap(), local.Addr().Unmap()
	if src.Is4() && to.Is4() {
		dst = append(dst, proxyCommand, proxyTCP4, 0, 0)
		a, b := src.As4(), to.As4()
		dst = append(append(dst, a[:]...), b[:]...)
	} else {
		dst = append(dst, proxyCommand, proxyTCP6, 0, 0)
		a, b := src.As16(), to.As16()
		dst = append(append(dst, a[:]...), b[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, client.Port())
	dst = binary.BigEndian.AppendUint16(dst, local.Port())
	dst = append(dst, tlvCRC32C, 0, crcLen, 0, 0, 0, 0)
	head := dst[begin:]
	binary.BigEndian.PutUint16(head[len(proxySignature)+2:], uint16(len(head)-len(proxySignature)-4))
	binary.BigEndian.PutUint32(head[len(head)-crcLen:], crc32.Checksum(head, castagnoli))
	return dst
}
