//go:build linux && (amd64 || arm64)

package proxy

import (
	"math"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls of the loops. Those that can't wait are raw: the scheduler need not know of them.

func epollAdd(ep int, fd, gen int32, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: fd, Pad: gen}
	return epollCtl(ep, unix.EPOLL_CTL_ADD, fd, &e)
}

func epollDelete(ep int, fd int32) { epollCtl(ep, unix.EPOLL_CTL_DEL, fd, &unix.EpollEvent{}) }

func epollCtl(ep, op int, fd int32, e *unix.EpollEvent) error {
	if _, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(ep), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(e)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// epollWait holds the processor, so the timeout must be short.
func epollWait(ep int, events []unix.EpollEvent, ms int) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(ms), 0, 0)
	if errno != 0 {
		return -1
	}
	return int(n)
}

// sysRead returns the bytes read, 0 at the end, or a negative errno.
func sysRead(fd int32, b []byte, flags int) int {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return -int(e)
		}
		return int(n)
	}
}

// sysWrite returns the bytes written or a negative errno.
func sysWrite(fd int32, b []byte) int {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return -int(e)
		}
		return int(n)
	}
}

const wouldWait = -int(unix.EAGAIN)

// sysAccept returns a new connection's descriptor, or a negative errno.
func sysAccept(fd int32) (int, netip.AddrPort) {
	var sa unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(sa))
	n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return -int(e), netip.AddrPort{}
	}
	return int(n), addrOfSockaddr(&sa)
}

func addrOfSockaddr(sa *unix.RawSockaddrAny) netip.AddrPort {
	port := func(p *uint16) uint16 { b := (*[2]byte)(unsafe.Pointer(p)); return uint16(b[0])<<8 | uint16(b[1]) }
	switch sa.Addr.Family {
	case unix.AF_INET:
		s := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), port(&s.Port))
	case unix.AF_INET6:
		s := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), port(&s.Port))
	}
	return netip.AddrPort{}
}

// localAddr is our address of a connection.
func localAddr(fd int32) netip.AddrPort {
	var sa unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(sa))
	if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); e != 0 {
		return netip.AddrPort{}
	}
	return addrOfSockaddr(&sa)
}

// sysConnect begins to connect.
func sysConnect(fd int32, to netip.AddrPort) unix.Errno {
	var e unix.Errno
	port := to.Port()
	if to.Addr().Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
		*(*[2]byte)(unsafe.Pointer(&sa.Port)) = [2]byte{byte(port >> 8), byte(port)}
		_, _, e = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	} else {
		sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.Addr().As16()}
		*(*[2]byte)(unsafe.Pointer(&sa.Port)) = [2]byte{byte(port >> 8), byte(port)}
		_, _, e = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	}
	if e == unix.EINPROGRESS || e == unix.EINTR {
		return 0
	}
	return e
}

func setOption(fd int32, level, name, value int) {
	v := int32(value)
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
}

// connectResult is the outcome of a connect that was under way.
func connectResult(fd int32) unix.Errno {
	var v int32
	size := uint32(unsafe.Sizeof(v))
	if _, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
		return e
	}
	return unix.Errno(v)
}

// mostFDs is the descriptor from which on clients get none: an eighth of what the process may have is kept. A client is refused at
// once then, and those that are there can be served.
func mostFDs() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Cur - l.Cur/8)
}

func sysClose(fd int32) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func sysShutdownWrite(fd int32) {
	unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// setReset makes closing the connection a reset.
func setReset(fd int32) {
	v := unix.Linger{Onoff: 1}
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
}

// connOf makes a net.Conn of a descriptor, which it takes over.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "tcp") // non-blocking already, so the poller takes it
	defer f.Close()
	return net.FileConn(f)
}

func closeSocket(fd int) { unix.Close(fd) }

// newSocket makes a socket for a connection to a target.
func newSocket(to netip.Addr) (int, error) {
	family := unix.AF_INET
	if !to.Is4() {
		family = unix.AF_INET6
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// ListenSockets opens n listening sockets that share the address; the kernel spreads connections over them.
func ListenSockets(addr string, n int) ([]int, error) { return listenSockets(addr, n, false) }

// ListenSocketsFree is ListenSockets for an address that the machine may get later.
func ListenSocketsFree(addr string, n int) ([]int, error) { return listenSockets(addr, n, true) }

func listenSockets(addr string, n int, free bool) (fds []int, err error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	for range n {
		fd, err := listenSocket(a, len(fds) > 0, n > 1, free)
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: a, Err: err}
		}
		if fds = append(fds, fd); a.Port == 0 {
			a.Port = int(localAddr(int32(fd)).Port())
		}
	}
	return fds, nil
}

// listenSocket opens one. The first of several binds alone, so that an address in use is an error, and then lets the others in.
func listenSocket(a *net.TCPAddr, joins, shares, free bool) (fd int, err error) {
	var sa unix.Sockaddr
	family := unix.AF_INET6
	if ip4 := a.IP.To4(); ip4 != nil {
		family = unix.AF_INET
		sa = &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip4)}
	} else if len(a.IP) == 0 {
		sa = &unix.SockaddrInet6{Port: a.Port}
	} else {
		sa = &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil && family == unix.AF_INET6 && len(a.IP) == 0 {
		sa = &unix.SockaddrInet4{Port: a.Port}
		family = unix.AF_INET
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	option := func(level, name, value int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, name, value))
		}
	}
	option(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if family == unix.AF_INET6 && len(a.IP) == 0 {
		option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if free {
		option(unix.SOL_IP, unix.IP_FREEBIND, 1)
	}
	if joins {
		option(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, sa))
	}
	if shares && !joins {
		option(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, 4096))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// duplicates returns n descriptors of a listener's socket, nil if it has none.
func duplicates(l net.Listener, n int) (fds []int) {
	raw, ok := l.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := raw.SyscallConn()
	if err != nil {
		return nil
	}
	rc.Control(func(fd uintptr) {
		for range n {
			d, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				for _, d := range fds {
					unix.Close(d)
				}
				fds = nil
				return
			}
			fds = append(fds, d)
		}
	})
	return fds
}
