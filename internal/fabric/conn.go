package fabric

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ListenIn listens on addr inside the network namespace at ns. The listener belongs to the namespace for good.
func ListenIn(ns, network, addr string) (net.Listener, error) {
	return listenIn(ns, network, addr, net.ListenConfig{})
}

// ListenReusePortIn is ListenIn with SO_REUSEPORT: several listeners share the address and the kernel spreads connections.
func ListenReusePortIn(ns, network, addr string) (net.Listener, error) {
	return listenIn(ns, network, addr, net.ListenConfig{Control: reusePort})
}

func listenIn(ns, network, addr string, c net.ListenConfig) (l net.Listener, err error) {
	c.SetMultipathTCP(false) // such a socket takes no IP options (TTL), and NAT would break its subflows
	err = InNamespace(ns, func() (err error) {
		l, err = c.Listen(context.Background(), network, addr)
		return err
	})
	return l, err
}

// ListenPacketIn is ListenIn for datagrams.
func ListenPacketIn(ns, network, addr string) (p net.PacketConn, err error) {
	err = InNamespace(ns, func() (err error) {
		p, err = net.ListenPacket(network, addr)
		return err
	})
	return p, err
}

func reusePort(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
		return e
	}
	return err
}

// DialIn connects to addr, an IPv4 address and port, from inside the network namespace at ns. network is tcp or tcp4 (fast)
// or anything that net.Dial knows. Only socket() needs the namespace, so a worker thread inside keeps some fresh sockets in
// stock, and connecting is left to the runtime's poller: no thread waits.
func DialIn(ctx context.Context, ns, network, addr string) (net.Conn, error) {
	return DialFrom(ctx, ns, netip.Addr{}, network, addr)
}

// DialFrom is DialIn with a local address, unless that is the zero Addr.
func DialFrom(ctx context.Context, ns string, local netip.Addr, network, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil || !to.Addr().Is4() || network != "tcp" && network != "tcp4" || ns == "" {
		return dialSlow(ctx, ns, local, network, addr)
	}
	fd, err := stockOf(ns).get(ctx)
	if err != nil {
		return nil, opError(network, to, err)
	}
	c, err := connect(ctx, fd, local, to)
	if err != nil {
		return nil, opError(network, to, err)
	}
	return c, nil
}

// SocketFrom returns an unconnected, non-blocking TCP socket of the namespace at ns for a connection to an address, bound to the
// local address unless that is the zero Addr. It waits only when the stock of such sockets is used up.
func SocketFrom(ns string, local, to netip.Addr) (fd int, err error) {
	switch {
	case !to.Is4():
		err = InNamespace(ns, func() (err error) { fd, err = newSocketOf(unix.AF_INET6); return err })
	case ns == "":
		fd, err = newSocketOf(unix.AF_INET)
	default:
		fd, err = stockOf(ns).get(context.Background())
	}
	if err != nil {
		return -1, err
	}
	if local.IsValid() && local.Is4() == to.Is4() {
		if err := bindLocal(fd, local); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// bindLocal gives a socket its local address. The port is chosen by connect, where the same one serves for different destinations.
func bindLocal(fd int, local netip.Addr) error {
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: local.As16()}
	if local.Is4() {
		sa = &unix.SockaddrInet4{Addr: local.As4()}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

func opError(network string, to netip.AddrPort, err error) error {
	return &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
}

func dialSlow(ctx context.Context, ns string, local netip.Addr, network, addr string) (c net.Conn, err error) {
	d := net.Dialer{FallbackDelay: -1}
	d.SetMultipathTCP(false)
	if local.IsValid() {
		if len(network) >= 3 && network[:3] == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		}
	}
	err = InNamespace(ns, func() (err error) {
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// connect takes over fd, a non-blocking TCP socket.
func connect(ctx context.Context, fd int, local netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if local.IsValid() {
		if err := bindLocal(fd, local); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	f := os.NewFile(uintptr(fd), "tcp") // non-blocking already, so the poller takes it
	defer f.Close()
	if err != nil {
		if err := connected4(ctx, f); err != nil {
			return nil, err
		}
	}
	return net.FileConn(f)
}

// connected4 waits until the connection of f stands.
func connected4(ctx context.Context, f *os.File) error {
	if d, ok := ctx.Deadline(); ok {
		if err := f.SetWriteDeadline(d); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	waited := raw.Write(func(fd uintptr) bool {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch e := syscall.Errno(n); {
		case err != nil:
			result = os.NewSyscallError("getsockopt", err)
			return true
		case e != 0:
			result = os.NewSyscallError("connect", e)
			return true
		}
		if _, err := unix.Getpeername(int(fd)); err != nil {
			return false // not yet
		}
		result = nil
		return true
	})
	if waited != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return waited
	}
	return result
}

// stock is a supply of fresh sockets of one namespace. Its worker is the only one inside; it ends, and lets go of the
// namespace, when nobody asked for a while.
type stock struct {
	ns    string
	inode uint64
	ready chan int      // sockets
	want  chan struct{} // wakes the worker; capacity 1
	done  chan struct{} // closed when the worker has ended
	err   error         // why, valid after done
}

const (
	stockSize = 32
	stockIdle = 10 * time.Second
)

var stocks = struct {
	sync.Mutex
	m map[string]*stock
}{m: map[string]*stock{}}

// stockOf returns the supply of the namespace that is at ns now.
func stockOf(ns string) *stock {
	inode := nsInode(ns)
	stocks.Lock()
	defer stocks.Unlock()
	s := stocks.m[ns]
	if s != nil && s.inode == inode {
		select {
		case <-s.done:
		default:
			return s
		}
	}
	if s != nil {
		s.wake() // sees that it has been replaced, and ends
	}
	s = &stock{ns: ns, inode: inode, ready: make(chan int, stockSize), want: make(chan struct{}, 1), done: make(chan struct{})}
	stocks.m[ns] = s
	go s.work()
	return s
}

func (s *stock) wake() {
	select {
	case s.want <- struct{}{}:
	default:
	}
}

func (s *stock) get(ctx context.Context) (int, error) {
	if len(s.ready) < stockSize/2 {
		s.wake()
	}
	select {
	case fd := <-s.ready:
		return fd, nil
	default:
	}
	select {
	case fd := <-s.ready:
		return fd, nil
	case <-s.done:
		select {
		case fd := <-s.ready:
			return fd, nil
		default:
		}
		if s.err != nil {
			return 0, s.err
		}
		fd := -1 // the worker went to sleep between stockOf and here
		err := InNamespace(s.ns, func() (err error) { fd, err = newSocket(); return err })
		return fd, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func newSocket() (int, error) { return newSocketOf(unix.AF_INET) }

func newSocketOf(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // as package net does
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	return fd, nil
}

// work keeps the supply filled. The thread is never given back: it ends with the worker.
func (s *stock) work() {
	runtime.LockOSThread()
	s.err = s.fill()
	stocks.Lock()
	if stocks.m[s.ns] == s {
		delete(stocks.m, s.ns)
	}
	stocks.Unlock()
	close(s.done)
	for { // whoever still holds s opens its own
		select {
		case fd := <-s.ready:
			unix.Close(fd)
		default:
			return
		}
	}
}

func (s *stock) fill() error {
	ns, err := openNS(s.ns)
	if err != nil {
		return err
	}
	err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	ns.Close()
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", s.ns, err)
	}
	idle := time.NewTimer(stockIdle)
	defer idle.Stop()
	for {
		for len(s.ready) < stockSize {
			fd, err := newSocket()
			if err != nil {
				if len(s.ready) > 0 && (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) {
					break
				}
				return err
			}
			s.ready <- fd // never blocks: this is the only sender
		}
		select {
		case <-s.want:
			stocks.Lock()
			current := stocks.m[s.ns] == s
			stocks.Unlock()
			if !current {
				return nil
			}
			idle.Reset(stockIdle)
		case <-idle.C:
			return nil
		}
	}
}
