package proxy

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setPatience bounds how long sent bytes may stay unacknowledged before the connection fails; 0 is the kernel's own bound, of
// many minutes. A live kernel acknowledges at once, however busy its programs are, so this tells a vanished target from a slow one.
func setPatience(raw syscall.RawConn, d time.Duration) {
	if raw == nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond)) // a refinement: without it only time limits remain
	})
}
