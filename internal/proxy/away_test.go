//go:build linux && (amd64 || arm64)

package proxy

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// TestLongKey: a handshake that needs a long RSA key keeps no loop from its work, and can end before its turn has come.
func TestLongKey(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := secure(simple(named(t, "ok")), "ELBSecurityPolicy-TLS13-1-2-2021-06", Certificate{ARN: "long",
		CertPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyPEM:  string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))})
	const other = "10.0.0.1:8080"
	cfg.Listeners = append(cfg.Listeners, Listener{Addr: other, Protocol: HTTP, DefaultActions: forwardTo("g")})
	b := newLB(t, cfg)
	turns := b.engine.loops[0].turns
	for range cap(turns) { // all are in use
		turns <- struct{}{}
	}
	const clients = 8
	result := make(chan error, clients)
	leavers := make(chan net.Conn, clients)
	for i := range clients {
		version := uint16(tls.VersionTLS13 - i%2)
		nc, err := net.Dial("tcp", b.addr(front))
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(longest))
		go func() {
			defer nc.Close()
			c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
			err := c.Handshake()
			if i < clients/2 && err == nil {
				if _, err = c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err == nil {
					_, err = c.Read(make([]byte, 100))
				}
			}
			result <- err
		}()
		if i >= clients/2 {
			leavers <- nc
		}
	}
	waitFor(t, "handshakes wait for their turn", func() bool { return b.active.Load() == clients })
	nc, err := net.Dial("tcp", b.addr(other))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(longest))
	plain := &talk{nc, t, bufio.NewReader(nc)}
	for range 20 {
		if s := text(plain.get("/")); s != "ok" {
			t.Fatal(s)
		}
	}
	for range clients / 2 {
		(<-leavers).Close()
	}
	for range clients / 2 {
		if err := <-result; err == nil {
			t.Fatal("a handshake without a signature")
		}
	}
	for range cap(turns) {
		<-turns
	}
	for range clients / 2 {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	waitFor(t, "those that left are forgotten", func() bool { return b.active.Load() == 1 })
	if s := text(plain.get("/")); s != "ok" {
		t.Fatal(s)
	}
}
