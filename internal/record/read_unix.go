//go:build unix

package record

import "syscall"

// readNow reads what is there.
func readNow(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), b)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, errWait
		}
		return max(n, 0), err
	}
}
