package proxy

import (
	"io"
	"net"
	"syscall"

	"skerry/internal/record"
)

// upgraded is an exchange that has become a tunnel.
type upgraded struct {
	u       *upstream
	c       net.Conn
	pending []byte // the client has sent it behind its request
}

// upgrade passes a 101 on, with what the target has sent behind it.
func (x *exchange) upgrade(u *upstream, first []byte) {
	h, ok := x.c.(interface {
		upgrade(x *exchange, first []byte) (net.Conn, []byte, error)
	})
	x.begun, x.keep = true, false
	if !ok {
		x.cut = true
		x.drop(u)
		return
	}
	c, pending, err := h.upgrade(x, first)
	if err != nil {
		x.gone(u)
		return
	}
	x.upgraded = &upgraded{u, c, pending}
}

// tunnel carries bytes both ways after an upgrade, until one side ends.
func (x *exchange) tunnel() {
	u, c, pending := x.upgraded.u, x.upgraded.c, x.upgraded.pending
	x.upgraded = nil
	u.lift()
	x.w.enter(tunnelling, x.lt.attrs.idle)
	x.w.attach(u, false)
	x.w.writing.Store(true)
	defer x.w.writing.Store(false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if len(pending) > 0 {
			if _, err := u.Write(pending); err != nil {
				u.Close()
				return
			}
			pending = nil
		}
		x.pump(u, c)
	}()
	x.pump(c, u)
	<-done
	x.w.detach()
	u.Close()
}

// pump copies until the source ends, then ends the destination's writing side; on an error, both connections. It holds no buffer
// while it waits for the source, if the source can be waited for without.
func (x *exchange) pump(dst, src net.Conn) {
	wait := waiter(src)
	for {
		if wait != nil {
			wait()
		}
		b := buffers.Get().(*buffer)
		n, err := src.Read(b.b)
		if n > 0 {
			x.w.touch()
			if _, up := dst.(*upstream); up {
				x.received.Add(int64(n))
			} else {
				x.bytes.Add(int64(n))
			}
			if _, werr := dst.Write(b.b[:n]); werr != nil {
				err = werr
			}
		}
		buffers.Put(b)
		switch {
		case err == io.EOF:
			closeWrite(dst)
			return
		case err != nil:
			x.w.cut(shuttingDown)
			closeWrite(dst)
			return
		}
	}
}

// waiter returns what waits until a connection has something to say, be it an error; nil if that can't be told.
func waiter(c net.Conn) func() {
	if u, ok := c.(*upstream); ok {
		c = u.Conn
	}
	sealed, ok := c.(*record.Conn)
	if _, plain := c.(*net.TCPConn); !ok && !plain {
		return nil
	}
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	return func() {
		if sealed != nil && sealed.AtHand() {
			return
		}
		raw.Read(func(fd uintptr) bool {
			var b [1]byte
			_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			return err != syscall.EAGAIN && err != syscall.EINTR
		})
	}
}

// closeWrite ends the writing side: TLS's and TCP's.
func closeWrite(c net.Conn) {
	if u, ok := c.(*upstream); ok {
		c = u.Conn
	}
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		if cw, ok := c.(interface{ CloseWrite() error }); ok {
			cw.CloseWrite()
		}
		c = t.NetConn()
	}
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
}
