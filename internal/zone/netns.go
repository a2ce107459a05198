package zone

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Net opens sockets inside network namespaces, named by path. The zone's only way to the network: tests replace it.
type Net interface {
	Listen(ns, network, addr string) (net.Listener, error)
	ListenPacket(ns, network, addr string) (net.PacketConn, error)
	// Dial connects from the local address, if it is valid.
	Dial(ctx context.Context, ns string, local netip.Addr, network, addr string) (net.Conn, error)
	// Ident changes when another namespace has come under the path; an error means that there is none.
	Ident(ns string) (string, error)
}

// kernelNet is Linux.
type kernelNet struct{}

// inNamespace runs fn on a thread that has entered the namespace. The thread ends if it can't come back.
func inNamespace(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		there, err := os.Open(path)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer there.Close()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("entering %s: %w", path, err)
			return
		}
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// listenConfig binds addresses that the namespace does not have yet: the control plane may add them a moment later, and a
// restarted process must not depend on the order.
var listenConfig = net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
	var serr error
	if err := c.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) }); err != nil {
		return err
	}
	return serr
}}

func (kernelNet) Listen(ns, network, addr string) (l net.Listener, err error) {
	err = inNamespace(ns, func() (err error) { l, err = listenConfig.Listen(context.Background(), network, addr); return err })
	return l, err
}

func (kernelNet) ListenPacket(ns, network, addr string) (c net.PacketConn, err error) {
	err = inNamespace(ns, func() (err error) {
		c, err = listenConfig.ListenPacket(context.Background(), network, addr)
		return err
	})
	return c, err
}

func (kernelNet) Dial(ctx context.Context, ns string, local netip.Addr, network, addr string) (c net.Conn, err error) {
	d := net.Dialer{FallbackDelay: -1, Timeout: 30 * time.Second}
	if local.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: local.AsSlice()}
	}
	err = inNamespace(ns, func() (err error) { c, err = d.DialContext(ctx, network, addr); return err })
	return c, err
}

func (kernelNet) Ident(ns string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(ns, &st); err != nil {
		return "", fmt.Errorf("namespace %s: %w", ns, err)
	}
	return fmt.Sprintf("%x:%x", st.Dev, st.Ino), nil
}

func itoa(n int) string { return strconv.Itoa(n) }
