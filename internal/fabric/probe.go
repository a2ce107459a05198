package fabric

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// ProbeTimeout is how long interfaces have to answer: their kernels do it at once, whatever the instances are busy with.
const ProbeTimeout = time.Second

// Probe asks interfaces of a VPC, by id, whether their instances have the addresses, by ARP as a switch would, and returns
// those that answered. What was not plugged in does not answer.
func (f *Fabric) Probe(ctx context.Context, vpc string, ifaces map[string]netip.Addr) (map[string]bool, error) {
	answered := map[string]bool{}
	path := f.VPCNamespace(vpc)
	h, err := handleAt(path)
	if err != nil {
		return nil, err
	}
	links, err := vpcLinks(h)
	h.Close()
	if err != nil {
		return nil, err
	}
	fd := -1
	if err := InNamespace(path, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(swap(unix.ETH_P_ARP)))
		return err
	}); err != nil {
		return nil, fmt.Errorf("an ARP socket in %s: %w", vpc, err)
	}
	defer unix.Close(fd)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) // less does for fewer
	type plugged struct {
		id string
		ip netip.Addr
	}
	asked := map[int]plugged{}
	for id, ip := range ifaces {
		l := links[linkName(id)]
		if l == nil || l.Attrs().Alias != id || !ip.Is4() {
			continue
		}
		to := &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index, Protocol: swap(unix.ETH_P_ARP), Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
		if err := unix.Sendto(fd, arpProbe(l.Attrs().HardwareAddr, ip), 0, to); err == nil { // one whose other end is down takes nothing
			asked[l.Attrs().Index] = plugged{id, ip}
		}
	}
	buf := make([]byte, 64)
	for deadline := time.Now().Add(ProbeTimeout); len(asked) > 0 && ctx.Err() == nil; {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			wait := time.Until(deadline)
			if wait <= 0 {
				return answered, nil
			}
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
				return answered, err
			}
			continue
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return answered, err
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		if p, waits := asked[ll.Ifindex]; waits && arpReplyOf(buf[:n]) == p.ip {
			answered[p.id] = true
			delete(asked, ll.Ifindex)
		}
	}
	return answered, ctx.Err()
}

func swap(v uint16) uint16 { return v<<8 | v>>8 }

// arpProbe asks for an address in the name of none, so that nobody learns anything from it.
func arpProbe(from []byte, ip netip.Addr) []byte {
	b := make([]byte, 42)
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(b[6:], from)
	copy(b[12:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}) // ARP, Ethernet, IPv4, a request
	copy(b[22:], from)
	copy(b[38:], ip.AsSlice())
	return b
}

// arpReplyOf is whose address an ARP reply tells; not valid for other packets.
func arpReplyOf(b []byte) netip.Addr {
	if len(b) < 42 || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_ARP || binary.BigEndian.Uint16(b[20:]) != 2 {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(b[28:32])
	return a
}
