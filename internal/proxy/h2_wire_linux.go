//go:build linux && (amd64 || arm64)

package proxy

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"skerry/internal/record"
)

// h2wire is the client's socket with its record layer. It never waits.
type h2wire struct {
	fd    int32
	state *record.State
	in    *buffer // records that are not complete: in.b[r:w]
	r, w  int
	out   []byte // sealed; out[sent:] is to be written
	sent  int
	hup   bool // the peer has ended, or the socket failed: read on until that is seen
	full  bool // the socket takes no more for now
	ended bool // nothing is written any more
}

// read appends to dst what has come; dst has room for a record. again tells that nothing more is at hand.
func (w *h2wire) read(dst []byte) (out []byte, again bool, err error) {
	if w.in == nil {
		w.in = buffers.Get().(*buffer)
		w.r, w.w = 0, 0
	}
	if w.r > 0 {
		w.w = copy(w.in.b, w.in.b[w.r:w.w])
		w.r = 0
	}
	space := w.in.b[w.w:]
	n := sysRead(w.fd, space, 0)
	switch {
	case n > 0:
		w.w += n
		again = n < len(space) && !w.hup
	case n == wouldWait:
		again = true
	case n == 0:
		err = io.ErrUnexpectedEOF
	default:
		err = unix.Errno(-n)
	}
	out, used, oerr := w.state.Open(dst, w.in.b[:w.w])
	if w.r = used; w.r == w.w {
		buffers.Put(w.in)
		w.in = nil
	} else if again && cap(out)-len(out) < record.MaxRecord {
		again = false // there was no room for a record
	}
	if oerr != nil {
		if f, ok := oerr.(*record.Fault); ok && !w.ended {
			w.out = w.state.Alert(w.out, f.Alert)
			w.flush()
		}
		err = oerr
	}
	return out, again, err
}

// waiting is how many bytes wait to be written.
func (w *h2wire) waiting() int { return len(w.out) - w.sent }

// flush writes as much as the socket takes.
func (w *h2wire) flush() error {
	for w.sent < len(w.out) && !w.full {
		k := sysWrite(w.fd, w.out[w.sent:])
		switch {
		case k >= 0:
			w.sent += k
		case k == wouldWait:
			w.full = true
		default:
			return unix.Errno(-k)
		}
	}
	if w.sent == len(w.out) || w.sent >= pendingData {
		w.out = w.out[:copy(w.out, w.out[w.sent:])]
		w.sent = 0
	}
	return nil
}

// end says that nothing more will be written.
func (w *h2wire) end() {
	w.ended = true
	w.out = w.state.Alert(w.out, record.CloseNotify)
	w.flush()
	sysShutdownWrite(w.fd)
}

func (w *h2wire) close() {
	sysClose(w.fd)
	if w.in != nil {
		buffers.Put(w.in)
		w.in = nil
	}
}

// dupSocket returns a descriptor of the connection's socket that Go's poller doesn't know.
func dupSocket(c net.Conn) (fd int, err error) {
	raw := rawConn(c)
	if raw == nil {
		return -1, syscall.EINVAL
	}
	cerr := raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	})
	if cerr != nil {
		err = cerr
	}
	return fd, err
}
