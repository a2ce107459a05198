package tlsfront

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// issuer signs certificates; nil makes self-signed ones.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serials struct {
	sync.Mutex
	n int64
}

// issue makes a certificate. change may alter the template.
func issue(t testing.TB, by *issuer, key crypto.Signer, change func(*x509.Certificate)) *issuer {
	t.Helper()
	var err error
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	serials.Lock()
	serials.n++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serials.n), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	serials.Unlock()
	if change != nil {
		change(tmpl)
	}
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{c, key}
}

func pemOf(cs ...*issuer) string {
	var b bytes.Buffer
	for _, c := range cs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
	}
	return b.String()
}

func (i *issuer) config(arn string) Certificate {
	k, _ := x509.MarshalPKCS8PrivateKey(i.key)
	return Certificate{ARN: arn, CertPEM: pemOf(i), KeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}))}
}

// named makes a self-signed certificate for names.
func named(t testing.TB, names ...string) *issuer {
	return issue(t, nil, nil, func(c *x509.Certificate) { c.DNSNames = names })
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newServer(t testing.TB, c Config) *Server {
	t.Helper()
	if c.Certificates == nil {
		c.Certificates = []Certificate{named(t, "a.test").config("a")}
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fd is a Socket over a descriptor, with poll for readiness: as an event loop has it.
type fd struct{ raw syscall.RawConn }

func (s fd) do(fn func(int) (int, error)) (n int, err error) {
	s.raw.Control(func(f uintptr) { n, err = fn(int(f)) })
	if errors.Is(err, syscall.EAGAIN) {
		return 0, ErrWait
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (s fd) Read(b []byte) (int, error) {
	return s.do(func(f int) (int, error) { return syscall.Read(f, b) })
}
func (s fd) Write(b []byte) (int, error) {
	return s.do(func(f int) (int, error) { return syscall.Write(f, b) })
}

// chop writes in small pieces, with waits.
type chop struct {
	fd
	ready bool
}

func (c *chop) Write(b []byte) (int, error) {
	if c.ready = !c.ready; !c.ready {
		return 0, ErrWait
	}
	return c.fd.Write(b[:min(len(b), 300)])
}

// outcome is one connection as the server saw it.
type outcome struct {
	facts *Facts
	sess  *Session
	err   error
}

// echo serves connections in turn: in steps, or waiting. Each line comes back in capitals.
func echo(t testing.TB, s *Server, steps bool) (addr string, outcomes chan outcome) {
	t.Helper()
	return echoWith(t, s, steps, nil)
}

func echoWith(t testing.TB, s *Server, steps bool, away Away) (addr string, outcomes chan outcome) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	outcomes = make(chan outcome, 64)
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.SetDeadline(time.Now().Add(30 * time.Second))
			var o outcome
			if steps {
				raw, _ := nc.(*net.TCPConn).SyscallConn()
				h := s.Begin(&chop{fd: fd{raw}}, time.Now())
				h.Away = away
				for i := 0; !h.Step(); i++ {
					if i > 100000 {
						h.Abort()
						break
					}
					time.Sleep(100 * time.Microsecond)
				}
				o.sess, o.err = h.Result()
				o.facts = h.Facts
			} else {
				o.sess, o.facts, o.err = s.Accept(nc, time.Now())
			}
			outcomes <- o
			if o.err != nil {
				nc.Close()
				continue
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer nc.Close()
				c := o.sess.Conn(nc, nil, o.sess.Rest)
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					io.WriteString(c, strings.ToUpper(line))
				}
			}()
		}
	}()
	return l.Addr().String(), outcomes
}

// talk says lines and wants them back.
func talk(t testing.TB, c net.Conn, lines ...string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	for _, l := range lines {
		io.WriteString(c, l+"\n")
		if got, err := r.ReadString('\n'); got != strings.ToUpper(l)+"\n" {
			t.Fatalf("%q came back for %q: %v", got, l, err)
		}
	}
}

// TestTakeover: Go's client in every version, first and resumed, in steps and waiting.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]bool{"waiting": false, "steps": true} {
		for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" "+tls.VersionName(v), func(t *testing.T) {
				t.Parallel()
				s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-0-2021-06", TicketSecret: []byte("k"), Protocols: []string{"h2", "http/1.1"}})
				addr, out := echo(t, s, steps)
				cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: v, MaxVersion: v, ServerName: "a.test", NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
				for i := range 3 {
					c, err := tls.Dial("tcp", addr, cfg)
					if err != nil {
						t.Fatal(err)
					}
					talk(t, c, "one", "two", strings.Repeat("x", 40000))
					c.Close()
					o := <-out
					if o.err != nil {
						t.Fatal(o.err)
					}
					if taken := o.sess.State != nil; taken != (v >= tls.VersionTLS12) {
						t.Errorf("taken over: %v", taken)
					}
					f := o.facts
					if f.Resumed != (i > 0) || f.Version != v || f.ServerName != "a.test" || f.Certificate.ARN != "a" || f.Protocol != "http/1.1" || len(f.Offered) != 1 || f.Suite == 0 {
						t.Errorf("connection %d: %+v", i, f)
					}
					if v == tls.VersionTLS13 && f.Group != tls.X25519 {
						t.Errorf("keys by %v: only the PQ policies have hybrid ones", f.Group)
					}
				}
			})
		}
	}
}
