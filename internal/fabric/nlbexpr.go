package fabric

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The expressions that the rules of network load balancers are made of. Registers from 8 on hold four bytes each.

// Bits of TCP's flags, and of a connection's status.
const (
	tcpFin, tcpSyn, tcpRst, tcpAck = 1, 2, 4, 16
	ctConfirmed, ctDNAT            = 1 << 3, 1 << 5
)

func network(offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

func transport(offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

func ctLoad(key expr.CtKey) expr.Any { return &expr.Ct{Key: key, Register: 8} }

// bits masks what load put into register 8 and compares the result with 0.
func bits(load expr.Any, length uint32, mask uint32, op expr.CmpOp) []expr.Any {
	m := binary.NativeEndian.AppendUint32(nil, mask)
	if length == 1 {
		m = []byte{byte(mask)}
	}
	return []expr.Any{load, &expr.Bitwise{SourceRegister: 8, DestRegister: 8, Len: length, Mask: m, Xor: make([]byte, length)},
		&expr.Cmp{Op: op, Register: 8, Data: make([]byte, length)}}
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

func isRst() []expr.Any {
	return append(isTCP(), bits(transport(13, 1, 8), 1, tcpRst, expr.CmpOpNeq)...)
}

// direction matches packets of a flow's original (0) or reply (1) direction.
func direction(d byte) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 8}, &expr.Cmp{Op: expr.CmpOpEq, Register: 8, Data: []byte{d}}}
}

// packetKey loads an NLBKey out of a packet: the address at offset addr of its IP header, the port at offset port.
func packetKey(addr, port uint32) []expr.Any {
	return []expr.Any{network(addr, 4, 8), &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 9}, transport(port, 2, 10)}
}

// flowKey loads an NLBKey out of the connection: where its client sent to.
func flowKey() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyDST, Direction: 0, Register: 8}, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 9},
		&expr.Ct{Key: expr.CtKeyPROTODST, Direction: 0, Register: 10}}
}

// source loads a targetKey out of a packet's source.
func source() []expr.Any { return []expr.Any{network(12, 4, 8), transport(0, 2, 9)} }

func lookup(set string) []expr.Any { return []expr.Any{&expr.Lookup{SourceRegister: 8, SetName: set}} }

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}
