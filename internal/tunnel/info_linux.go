package tunnel

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketInfo is what the kernel knows about a connection.
type socketInfo struct {
	received uint64        // bytes
	quiet    time.Duration // since data came or went
	closed   bool
}

// tcpInfo tells whether the kernel knows.
func tcpInfo(c net.Conn) (out socketInfo, ok bool) {
	sc, is := c.(syscall.Conn)
	if !is {
		return out, false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return out, false
	}
	raw.Control(func(fd uintptr) {
		i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		out = socketInfo{i.Bytes_received, time.Duration(min(i.Last_data_recv, i.Last_data_sent)) * time.Millisecond, i.State == unix.BPF_TCP_CLOSE}
		ok = true
	})
	return out, ok
}

// gone tells whether the peer has reset the connection.
func gone(c net.Conn) bool {
	i, ok := tcpInfo(c)
	return ok && i.closed
}
