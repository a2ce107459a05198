package zone

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the metadata service.
const (
	imdsConns      = 256 // simultaneous connections a VPC
	imdsTimeout    = 5 * time.Second
	imdsMaxHeader  = 16 << 10
	tokenPath      = "/latest/api/token"
	tokenHeader    = "X-Aws-Ec2-Metadata-Token"
	tokenTTLHeader = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
)

// imds answers the metadata requests of one VPC's instances. Who asks is known by the source address of the connection,
// which the VPC's anti-spoofing rules guarantee, and never by anything in the request.
type imds struct {
	vpc    string
	key    []byte
	lookup func(vpc string, ip netip.Addr) (*Instance, bool)
	signer *documentSigner
	now    func() time.Time
	log    *slog.Logger
}

type connKey struct{}

func (s *imds) serve(l net.Listener) *http.Server {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: imdsTimeout, ReadTimeout: imdsTimeout, WriteTimeout: imdsTimeout, MaxHeaderBytes: imdsMaxHeader,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	go srv.Serve(&limitListener{Listener: l, slots: make(chan struct{}, imdsConns)}) // ends with the listener
	return srv
}

// ServeHTTP is the metadata service: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
func (s *imds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Server", "EC2ws")
	h.Set("Connection", "close")
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		imdsError(w, http.StatusNotFound)
		return
	}
	inst, ok := s.lookup(s.vpc, peer.Addr().Unmap())
	if !ok {
		imdsError(w, http.StatusNotFound)
		return
	}
	if inst.Options.Disabled {
		imdsError(w, http.StatusForbidden)
		return
	}
	path := r.URL.Path
	if strings.HasSuffix(path, "/api/token") {
		s.token(w, r, inst, path)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		imdsError(w, http.StatusMethodNotAllowed)
		return
	}
	if sent := r.Header.Values(tokenHeader); len(sent) > 0 {
		left := checkToken(s.key, inst.ID, sent[0], s.now())
		if left <= 0 {
			imdsError(w, http.StatusUnauthorized)
			return
		}
		h.Set(tokenTTLHeader, strconv.Itoa(int((left+time.Second-1)/time.Second)))
	} else if inst.Options.TokensRequired {
		imdsError(w, http.StatusUnauthorized)
		return
	}
	item, ok := lookupItem(inst, path, s.signer)
	if !ok {
		imdsError(w, http.StatusNotFound)
		return
	}
	h.Set("Content-Type", "text/plain")
	h.Set("Accept-Ranges", "bytes")
	switch {
	case item.secret:
		h.Set("Accept-Ranges", "none")
	case item.binary:
		h.Set("Content-Type", "application/octet-stream")
	}
	h.Set("Last-Modified", inst.LaunchTime.UTC().Format(http.TimeFormat))
	h.Set("Content-Length", strconv.Itoa(len(item.body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		w.Write(item.body)
	}
}

// token answers the session path. Only `latest` has it; a request that came through a proxy is refused, so that an open
// one can't be used to take a token; the answer travels HopLimit hops and no more.
func (s *imds) token(w http.ResponseWriter, r *http.Request, inst *Instance, path string) {
	switch {
	case r.Method != http.MethodPut:
		w.Header().Set("Allow", "OPTIONS, PUT")
		imdsError(w, http.StatusMethodNotAllowed)
		return
	case path != tokenPath, len(r.Header.Values("X-Forwarded-For")) > 0:
		imdsError(w, http.StatusForbidden)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(tokenTTLHeader))
	if err != nil || ttl < minTokenTTL || ttl > maxTokenTTL {
		imdsError(w, http.StatusBadRequest)
		return
	}
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		if err := setHopLimit(c, max(1, min(64, inst.Options.HopLimit))); err != nil {
			s.log.Warn("the hop limit of a metadata answer could not be set", "instance", inst.ID, "err", err)
			imdsError(w, http.StatusInternalServerError)
			return
		}
	}
	token := newToken(s.key, inst.ID, s.now().Add(time.Duration(ttl)*time.Second))
	w.Header().Set(tokenTTLHeader, strconv.Itoa(ttl))
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(token)))
	w.Write([]byte(token))
}

// setHopLimit sets the TTL of every further packet of the connection, which closes after this answer.
func setHopLimit(c net.Conn, hops int) error {
	for {
		u, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = u.NetConn()
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil // not a network connection: a test's pipe
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, hops) }); err != nil {
		return err
	}
	return serr
}

// imdsError writes the small page that the service sends with every error.
func imdsError(w http.ResponseWriter, status int) {
	title := fmt.Sprintf("%d - %s", status, http.StatusText(status))
	if status == http.StatusMethodNotAllowed {
		title = "405 - Not Allowed"
	}
	body := `<?xml version="1.0" encoding="iso-8859-1"?>` + "\n" + `<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"` + "\n\t" +
		`"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">` + "\n" + `<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">` + "\n <head>\n  <title>" +
		title + "</title>\n </head>\n <body>\n  <h1>" + title + "</h1>\n </body>\n</html>\n"
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write([]byte(body))
}

// limitListener holds at most cap(slots) connections open; further ones wait in the kernel's queue.
type limitListener struct {
	net.Listener
	slots chan struct{}
}

func (l *limitListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitConn{Conn: c, release: func() { <-l.slots }}, nil
}

type limitConn struct {
	net.Conn
	release func()
	once    sync.Once
}

// NetConn returns the connection below.
func (c *limitConn) NetConn() net.Conn { return c.Conn }

// Close gives the slot back once.
func (c *limitConn) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}
