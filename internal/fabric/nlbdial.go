package fabric

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// DialAs connects from the node's address to addr, an IPv4 address and port, inside the VPC namespace at ns, and the other
// side sees the client's address, with another port than the client's. The node's security groups apply to what is sent,
// and a rule of the target's for the node's group lets it in. It works where a zone's table is in place (see
// NLBService.Process); otherwise the other side sees the node.
//
// The socket carries the client's address as its mark, and the table makes that the source of the connection.
func DialAs(ctx context.Context, ns string, node, client netip.Addr, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil || !to.Addr().Is4() || !node.Is4() || !client.Is4() || ns == "" {
		return nil, fmt.Errorf("dial %s from %v as %v: IPv4 addresses and a namespace are needed", addr, node, client)
	}
	fd, err := stockOf(ns).get(ctx)
	if err != nil {
		return nil, opError("tcp", to, err)
	}
	a := client.As4()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(binary.NativeEndian.Uint32(a[:]))); err != nil {
		unix.Close(fd)
		return nil, opError("tcp", to, err)
	}
	c, err := connect(ctx, fd, node, to)
	if err != nil {
		return nil, opError("tcp", to, err)
	}
	return c, nil
}
