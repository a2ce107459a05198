package zone

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"skerry/internal/fabric"
	"skerry/internal/proxy"
)

// Net is the zone's way to the network: sockets inside network namespaces, named by path, and the load balancing that the
// kernel does there. Tests replace it.
type Net interface {
	Listen(ns, network, addr string) (net.Listener, error)
	ListenPacket(ns, network, addr string) (net.PacketConn, error)
	// Dial connects from the local address, if it is valid.
	Dial(ctx context.Context, ns string, local netip.Addr, network, addr string) (net.Conn, error)
	// Ident changes when another namespace has come under the path; an error means that there is none.
	Ident(ns string) (string, error)
	ApplyNLB(ctx context.Context, ns, zone string, services []fabric.NLBService) error
	CutFlows(ns string, cuts []fabric.NLBFlows) (int, error)
	CutOthers(ns string, service fabric.NLBKey, targets []netip.AddrPort) (int, error)
	ReadNLB(ns, zone string) (map[fabric.NLBKey]fabric.NLBCounts, error)
	CountFlows(ns string) (map[fabric.NLBKey]int, error)
	// DialAs is Dial from the node's address, but the other side sees the client's.
	DialAs(ctx context.Context, ns string, node, client netip.Addr, addr string) (net.Conn, error)
	ReadBlocked(ns string) (map[netip.Addr]fabric.Blocked, error)
}

// loopNet is a Net that makes sockets for the event loops of load-balancer nodes. One that doesn't leaves them to goroutines.
type loopNet interface {
	ListenSockets(ns, addr string, n int) ([]int, error)
	// Socket makes an unconnected TCP socket; it must not wait.
	Socket(ns string, local, to netip.Addr) (int, error)
}

// kernelNet is Linux.
type kernelNet struct{}

// freeBind binds addresses that the namespace does not have yet: the control plane may add them a moment later, and a
// restarted process must not depend on the order.
func freeBind(_, _ string, c syscall.RawConn) error {
	var serr error
	if err := c.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) }); err != nil {
		return err
	}
	return serr
}

func listenConfig() net.ListenConfig {
	c := net.ListenConfig{Control: freeBind}
	c.SetMultipathTCP(false) // such a socket takes no IP options, and the hop limit of metadata answers is one
	return c
}

func (kernelNet) Listen(ns, network, addr string) (l net.Listener, err error) {
	c := listenConfig()
	err = fabric.InNamespace(ns, func() (err error) { l, err = c.Listen(context.Background(), network, addr); return err })
	return l, err
}

func (kernelNet) ListenPacket(ns, network, addr string) (p net.PacketConn, err error) {
	c := listenConfig()
	err = fabric.InNamespace(ns, func() (err error) { p, err = c.ListenPacket(context.Background(), network, addr); return err })
	return p, err
}

func (kernelNet) Dial(ctx context.Context, ns string, local netip.Addr, network, addr string) (net.Conn, error) {
	return fabric.DialFrom(ctx, ns, local, network, addr)
}

func (kernelNet) ListenSockets(ns, addr string, n int) (fds []int, err error) {
	err = fabric.InNamespace(ns, func() (err error) { fds, err = proxy.ListenSocketsFree(addr, n); return err })
	return fds, err
}

func (kernelNet) Socket(ns string, local, to netip.Addr) (int, error) {
	return fabric.SocketFrom(ns, local, to)
}

func (kernelNet) Ident(ns string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(ns, &st); err != nil {
		return "", fmt.Errorf("namespace %s: %w", ns, err)
	}
	return fmt.Sprintf("%x:%x", st.Dev, st.Ino), nil
}

func (kernelNet) ApplyNLB(ctx context.Context, ns, zone string, services []fabric.NLBService) error {
	return fabric.ApplyNLB(ctx, ns, zone, services)
}

func (kernelNet) CutFlows(ns string, cuts []fabric.NLBFlows) (int, error) {
	return fabric.CutFlows(ns, cuts)
}

func (kernelNet) CutOthers(ns string, service fabric.NLBKey, targets []netip.AddrPort) (int, error) {
	return fabric.CutOthers(ns, service, targets)
}

func (kernelNet) ReadNLB(ns, zone string) (map[fabric.NLBKey]fabric.NLBCounts, error) {
	return fabric.ReadNLB(ns, zone)
}

func (kernelNet) CountFlows(ns string) (map[fabric.NLBKey]int, error) { return fabric.CountFlows(ns) }

func itoa(n int) string { return strconv.Itoa(n) }

func (kernelNet) DialAs(ctx context.Context, ns string, node, client netip.Addr, addr string) (net.Conn, error) {
	return fabric.DialAs(ctx, ns, node, client, addr)
}

func (kernelNet) ReadBlocked(ns string) (map[netip.Addr]fabric.Blocked, error) {
	return fabric.ReadBlocked(ns)
}
