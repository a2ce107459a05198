package record

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	closeWait   = 5 * time.Second // for the close_notify of a connection that is given up
	smallBuffer = 1 << 10
)

// Conn is a net.Conn around a State: for code that reads and writes a connection that an event loop began.
type Conn struct {
	net.Conn
	s *State

	rmu   sync.Mutex
	small []byte // what an idle connection waits with
	large *[]byte
	buf   []byte // ciphertext: small, large, or what came with the connection
	r, w  int
	plain []byte // opened, in buf
	rerr  error

	wmu  sync.Mutex
	werr error
	shut bool
}

var errWait = errors.New("would wait")

var buffers = sync.Pool{New: func() any { b := make([]byte, MaxRecord); return &b }}

// NewConn returns a connection that goes on where s is. plain has been opened already, and cipher read; both are copied.
func NewConn(c net.Conn, s *State, plain, cipher []byte) *Conn {
	k := &Conn{Conn: c, s: s}
	if len(plain)+len(cipher) > 0 {
		k.buf = make([]byte, max(MaxRecord, len(plain)+len(cipher)))
		n := copy(k.buf, plain)
		k.plain, k.r = k.buf[:n], n
		k.w = n + copy(k.buf[n:], cipher)
	}
	return k
}

// State returns the record layer.
func (c *Conn) State() *State { return c.s }

// SyscallConn is the socket's, for looking at it.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, syscall.ENOTSUP
}

// Read reads data. After a close_notify it is io.EOF; a connection that ends without one is io.ErrUnexpectedEOF.
func (c *Conn) Read(p []byte) (int, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.plain) == 0 {
		if c.rerr != nil {
			return 0, c.rerr
		}
		if err := c.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

// AtHand tells whether there is something to be read, or a part of it, without the socket.
func (c *Conn) AtHand() bool {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if len(c.plain) == 0 && c.r == c.w {
		c.r, c.w = 0, 0
		c.shrink() // what waits holds little
	}
	return len(c.plain) > 0 || c.r < c.w || c.rerr != nil
}

// more opens the next record, or reads.
func (c *Conn) more() error {
	plain, used, err := c.s.Next(c.buf[c.r:c.w])
	c.r += used
	if used > 0 || err != nil {
		c.plain, c.rerr = plain, err
		if f, ok := err.(*Fault); ok {
			c.control(f.Alert)
		}
		return nil
	}
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
		c.shrink()
	case c.r > 0:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) { // a record that is larger than the small buffer
		c.large = buffers.Get().(*[]byte)
		copy(*c.large, c.buf)
		c.buf = *c.large
	}
	n, err := c.Conn.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
		c.rerr = err
	}
	return err // a deadline passes
}

// shrink gives the large buffer back.
func (c *Conn) shrink() {
	if c.large != nil {
		buffers.Put(c.large)
		c.large = nil
	}
	if c.small == nil {
		c.small = make([]byte, smallBuffer)
	}
	c.buf = c.small
}

// WriteTo writes all that is read to w, without a copy.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	var total int64
	for {
		if len(c.plain) > 0 {
			n, err := w.Write(c.plain)
			total += int64(n)
			c.plain = c.plain[n:]
			if err != nil {
				return total, err
			}
			continue
		}
		if c.rerr == io.EOF {
			return total, nil
		}
		if c.rerr != nil {
			return total, c.rerr
		}
		if err := c.more(); err != nil {
			return total, err
		}
	}
}

// ReadFrom sends all that r gives until it ends. What comes from a socket is sealed where it was read, and no buffer is held while
// nothing comes. A reader with a method Note is told of what was read around it.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	next, around := reader(r)
	note, _ := r.(interface{ Note(n int) })
	if !around {
		note = nil
	}
	var total int64
	for {
		b, n, err := next()
		if n > 0 {
			total += int64(n)
			if note != nil {
				note.Note(n)
			}
			c.wmu.Lock()
			werr := c.werr
			if werr == nil && c.shut {
				werr = net.ErrClosed
			}
			if werr == nil {
				if _, werr = c.Conn.Write(c.s.SealAt(*b, n)); werr != nil {
					c.werr = werr
				}
			}
			c.wmu.Unlock()
			if werr != nil {
				err = werr
			}
		}
		if b != nil {
			sealBuffers.Put(b)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

var sealBuffers = sync.Pool{New: func() any { b := make([]byte, Head+MaxPlain+Tail); return &b }}

// reader returns what reads into a buffer of sealBuffers, at Head; around says that it does so around r.
func reader(r io.Reader) (next func() (*[]byte, int, error), around bool) {
	if sc, ok := r.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil && raw != nil {
			return func() (b *[]byte, n int, err error) {
				werr := raw.Read(func(fd uintptr) bool {
					b = sealBuffers.Get().(*[]byte)
					n, err = readNow(fd, (*b)[Head:Head+MaxPlain])
					if err == errWait {
						sealBuffers.Put(b)
						b = nil
						return false
					}
					return true
				})
				switch {
				case werr != nil:
					return b, 0, werr
				case err != nil:
					return b, 0, err
				case n == 0:
					return b, 0, io.EOF
				}
				return b, n, nil
			}, true
		}
	}
	return func() (*[]byte, int, error) {
		b := sealBuffers.Get().(*[]byte)
		n, err := r.Read((*b)[Head : Head+MaxPlain])
		return b, n, err
	}, false
}

// Write writes data. After an error, also a deadline's, nothing more can be written: a part of a record may have gone out.
func (c *Conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.werr != nil {
		return 0, c.werr
	}
	if c.shut {
		return 0, net.ErrClosed
	}
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	done := 0
	for done < len(p) {
		n := min(len(p)-done, MaxPlain)
		out := c.s.Seal((*b)[:0], p[done:done+n])
		if _, err := c.Conn.Write(out); err != nil {
			c.werr = err
			return done, err
		}
		done += n
	}
	return done, nil
}

// control sends an alert, once, and nothing after it.
func (c *Conn) control(desc byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.werr != nil || c.shut {
		return c.werr
	}
	c.shut = true
	_, err := c.Conn.Write(c.s.Alert(nil, desc))
	return err
}

// CloseWrite says that nothing more will be sent; reading goes on.
func (c *Conn) CloseWrite() error { return c.control(CloseNotify) }

// Close closes the connection, with a close_notify if it can be sent.
func (c *Conn) Close() error {
	if c.wmu.TryLock() { // a Write that waits would keep this one waiting too
		told := c.shut || c.werr != nil
		c.wmu.Unlock()
		if !told {
			c.Conn.SetWriteDeadline(time.Now().Add(closeWait))
			c.control(CloseNotify)
		}
	}
	return c.Conn.Close()
}
