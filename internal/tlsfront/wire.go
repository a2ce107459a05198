package tlsfront

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Socket is a connection for a handshake in steps: Read and Write do at once what they can, and return ErrWait when that is
// nothing. A closed connection is io.EOF.
type Socket interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
}

// ErrWait says that a Socket is not ready.
var ErrWait = errors.New("would wait")

var errAborted = errors.New("handshake aborted")

const (
	wireBuffer = 4 << 10
	typeHello  = 2 // ServerHello
	headerLen  = 5
)

var wireBuffers = sync.Pool{New: func() any { return new([wireBuffer]byte) }}

// wire is the connection that crypto/tls sees. It gives out at most one record a Read, and notes what the record layer needs of
// what is written.
type wire struct {
	sock  Socket          // in steps
	yield func(bool) bool // waits for sock; the argument tells whether to write
	nc    net.Conn        // or this, waiting

	buf  *[wireBuffer]byte
	r, w int
	left int  // of the record that is being read
	free bool // the handshake is over: no more bounds

	client  [32]byte // its random,
	random  [32]byte // and the server's
	greeted bool
	last    []byte // the last record that was written
}

func (w *wire) Read(p []byte) (int, error) {
	if w.free {
		if w.r < w.w {
			n := copy(p, w.buf[w.r:w.w])
			w.r += n
			return n, nil
		}
		return w.nc.Read(p)
	}
	for w.left == 0 {
		if w.w-w.r >= headerLen {
			w.left = headerLen + (int(w.buf[w.r+3])<<8 | int(w.buf[w.r+4]))
			break
		}
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	if w.w == w.r {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.buf[w.r:min(w.w, w.r+w.left)])
	w.r += n
	w.left -= n
	return n, nil
}

func (w *wire) fill() error {
	if w.r > 0 {
		w.w = copy(w.buf[:], w.buf[w.r:w.w])
		w.r = 0
	}
	for {
		var n int
		var err error
		if w.nc != nil {
			n, err = w.nc.Read(w.buf[w.w:])
		} else if n, err = w.sock.Read(w.buf[w.w:]); err == ErrWait {
			if w.yield == nil {
				return ErrWait
			}
			if !w.yield(false) {
				return errAborted
			}
			continue
		}
		w.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (w *wire) Write(b []byte) (int, error) {
	if w.free {
		return w.nc.Write(b)
	}
	w.note(b)
	if w.nc != nil {
		return w.nc.Write(b)
	}
	done := 0
	for done < len(b) {
		n, err := w.sock.Write(b[done:])
		done += max(n, 0)
		switch {
		case err == ErrWait:
			if !w.yield(true) {
				return done, errAborted
			}
		case err != nil:
			return done, err
		}
	}
	return done, nil
}

// hear remembers the client's random. Its hello is at hand, and not read yet.
func (w *wire) hear() {
	if b := w.buf[w.r:w.w]; len(b) >= headerLen+38 && b[headerLen] == clientHelloType {
		copy(w.client[:], b[headerLen+6:])
	}
}

// note remembers the server's random and the last record. crypto/tls writes whole records.
func (w *wire) note(b []byte) {
	if !w.greeted && len(b) >= headerLen+38 && b[headerLen] == typeHello {
		w.greeted = true
		copy(w.random[:], b[headerLen+6:])
	}
	for len(b) >= headerLen {
		n := headerLen + (int(b[3])<<8 | int(b[4]))
		if n >= len(b) {
			w.last = append(w.last[:0], b...)
			return
		}
		b = b[n:]
	}
}

func (w *wire) Close() error {
	if w.nc != nil {
		return w.nc.Close()
	}
	return io.ErrClosedPipe
}

func (w *wire) LocalAddr() net.Addr {
	if w.nc != nil {
		return w.nc.LocalAddr()
	}
	return &net.TCPAddr{}
}

func (w *wire) RemoteAddr() net.Addr {
	if w.nc != nil {
		return w.nc.RemoteAddr()
	}
	return &net.TCPAddr{}
}

func (w *wire) SetDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetDeadline(t)
	}
	return os.ErrNoDeadline
}

func (w *wire) SetReadDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetReadDeadline(t)
	}
	return os.ErrNoDeadline
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetWriteDeadline(t)
	}
	return os.ErrNoDeadline
}

// send writes at once what can be.
func (w *wire) send(b []byte) (int, error) {
	if w.nc != nil {
		return w.nc.Write(b)
	}
	n, err := w.sock.Write(b)
	return max(n, 0), err
}

// peek returns the whole first record without taking it; nil if it is not to be had in one piece. The error is ErrWait or nil: others
// come again.
func (w *wire) peek() ([]byte, error) {
	for {
		if n := w.w - w.r; n >= headerLen {
			size := headerLen + (int(w.buf[w.r+3])<<8 | int(w.buf[w.r+4]))
			if size > len(w.buf) || w.buf[w.r] != recordHandshake {
				return nil, nil
			}
			if n >= size {
				return w.buf[w.r : w.r+size], nil
			}
		}
		if err := w.fill(); err == ErrWait {
			return nil, err
		} else if err != nil {
			return nil, nil
		}
	}
}

// record takes the next record.
func (w *wire) record() ([]byte, error) {
	for {
		if n := w.w - w.r; n >= headerLen {
			size := headerLen + (int(w.buf[w.r+3])<<8 | int(w.buf[w.r+4]))
			if size > len(w.buf) {
				return nil, &alertError{alertDecode, "record too large"}
			}
			if n >= size {
				w.r += size
				return w.buf[w.r-size : w.r], nil
			}
		}
		if err := w.fill(); err != nil {
			return nil, err
		}
	}
}
