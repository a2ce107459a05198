package fabric

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The expressions that the rules of network load balancers are made of. Registers from 8 on hold four bytes each.

// Bits of TCP's flags.
const tcpFin, tcpSyn, tcpRst, tcpAck = 1, 2, 4, 16

func network(offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func transport(offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

func isTCP() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 8}, &expr.Cmp{Op: expr.CmpOpEq, Register: 8, Data: []byte{unix.IPPROTO_TCP}}}
}

// notSyn matches TCP segments that don't begin a connection.
func notSyn() []expr.Any {
	return append(isTCP(), transport(13, 1, 8),
		&expr.Bitwise{SourceRegister: 8, DestRegister: 8, Len: 1, Mask: []byte{tcpFin | tcpSyn | tcpRst | tcpAck}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 8, Data: []byte{tcpSyn}})
}

// isRst matches TCP segments with the flag RST; what it sees must be TCP.
func isRst() []expr.Any {
	return []expr.Any{transport(13, 1, 8), &expr.Bitwise{SourceRegister: 8, DestRegister: 8, Len: 1, Mask: []byte{tcpRst}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 8, Data: []byte{0}}}
}

func ctMark() []expr.Any { return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 8}} }

// direction matches packets of a flow's original (0) or reply (1) direction.
func direction(d byte) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 8}, &expr.Cmp{Op: expr.CmpOpEq, Register: 8, Data: []byte{d}}}
}

// packetKey loads an NLBKey out of a packet: the address at offset addr of its IP header, the port at offset port.
func packetKey(addr, port uint32) []expr.Any {
	return []expr.Any{network(addr, 4, 8), &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 9}, transport(port, 2, 10)}
}

// source loads a targetKey out of a packet's source.
func source() []expr.Any { return []expr.Any{network(12, 4, 8), transport(0, 2, 9)} }

func lookup(set string) []expr.Any { return []expr.Any{&expr.Lookup{SourceRegister: 8, SetName: set}} }

func verdictMap(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 8, SetName: set, IsDestRegSet: true}}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}
