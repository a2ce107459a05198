package proxy

import (
	"io"
	"net"
)

// tunnel carries bytes both ways after an upgrade, until one side ends.
func (x *exchange) tunnel(u *upstream, first []byte) {
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
		}
		x.pump(u, c)
	}()
	x.pump(c, u)
	<-done
	x.w.detach()
	u.Close()
}

// pump copies until the source ends, then ends the destination's writing side; on an error, both connections.
func (x *exchange) pump(dst, src net.Conn) {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	for {
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
