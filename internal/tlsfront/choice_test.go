package tlsfront

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

func TestCertificateChoice(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, rsa3072 := rsaKey(t, 2048), rsaKey(t, 3072)
	named := func(d time.Duration, names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames, c.NotAfter = names, time.Now().Add(d) }
	}
	var certs []Certificate
	add := func(arn string, c *issuer) { certs = append(certs, c.config(arn)) }
	add("default", issue(t, nil, nil, named(time.Hour, "default.test")))
	add("rsa", issue(t, nil, rsa2048, named(9*time.Hour, "a.test", "keys.test")))
	add("ec-short", issue(t, nil, nil, named(time.Hour, "a.test", "dates.test")))
	add("ec-long", issue(t, nil, nil, named(2*time.Hour, "dates.test")))
	add("ec-large", issue(t, nil, p384, named(time.Minute, "a.test")))
	add("rsa-large", issue(t, nil, rsa3072, named(time.Minute, "keys.test")))
	add("wild", issue(t, nil, nil, named(9*time.Hour, "*.wild.test")))
	add("exact", issue(t, nil, rsa2048, named(time.Hour, "x.wild.test")))
	add("common", issue(t, nil, nil, func(c *x509.Certificate) { c.Subject.CommonName = "common.test" }))
	cs, err := newCertificates(certs)
	if err != nil {
		t.Fatal(err)
	}
	modern := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA256}
	for _, c := range []struct {
		name, want string
		schemes    []tls.SignatureScheme
	}{
		{"", "default", modern}, {"other.test", "default", modern}, {"a.test", "ec-large", modern}, {"A.Test.", "ec-large", modern},
		{"a.test", "ec-short", []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}},
		{"a.test", "rsa", []tls.SignatureScheme{tls.PSSWithSHA256}}, {"keys.test", "rsa-large", modern}, {"dates.test", "ec-long", modern},
		{"y.wild.test", "wild", modern}, {"x.wild.test", "exact", modern}, {"wild.test", "default", modern}, {"z.y.wild.test", "default", modern},
		{"x.wild.test", "wild", []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}, // it supports no RSA
		{"common.test", "common", modern},
		{"dates.test", "ec-long", []tls.SignatureScheme{tls.PSSWithSHA256}}, // supports none: the best, and it may fail
	} {
		hello := &tls.ClientHelloInfo{ServerName: c.name, SignatureSchemes: c.schemes, SupportedVersions: []uint16{tls.VersionTLS13}, SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256},
			CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}}
		if got := cs.choose(hello); got.ARN != c.want {
			t.Errorf("%q with %v: %s, want %s", c.name, c.schemes, got.ARN, c.want)
		}
	}
	if got := cs.named("a.test"); got.ARN != "ec-large" {
		t.Errorf("without a hello: %s", got.ARN)
	}
}

// TestMismatch: a client whose protocols are all unknown is let in where that is wanted.
func TestMismatch(t *testing.T) {
	t.Parallel()
	for _, let := range []bool{true, false} {
		s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Protocols: []string{"h2", "http/1.1"}, Mismatch: let, TicketSecret: []byte("k")})
		addr, out := echo(t, s, true)
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"x/1"}})
		if (err == nil) != let {
			t.Errorf("let in: %v", err)
		}
		if err == nil {
			talk(t, c, "hello")
			c.Close()
		}
		if o := <-out; (o.err == nil) != let || o.facts.Protocol != "" || len(o.facts.Offered) != 1 {
			t.Errorf("%+v %v", o.facts, o.err)
		}
	}
}

// TestTicketsResume: at another node, after an update, on the next day; not with another secret or scope, nor after two days.
func TestTicketsResume(t *testing.T) {
	t.Parallel()
	cert := []Certificate{named(t, "a.test").config("a")}
	mk := func(secret, scope string) *Server {
		return newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Certificates: cert, TicketSecret: []byte(secret), Scope: scope})
	}
	first, _ := echo(t, mk("k", "lb"), false)
	other := []Certificate{named(t, "b.test").config("b")}
	updated := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-3-2021-06", Certificates: other, TicketSecret: []byte("k"), Scope: "lb"})
	for _, c := range []struct {
		name string
		s    *Server
		want bool
	}{{"another node", mk("k", "lb"), true}, {"an update", updated, true}, {"another secret", mk("x", "lb"), false}, {"another load balancer", mk("k", "lb2"), false}} {
		cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		connect := func(addr string) bool {
			t.Helper()
			conn, err := tls.Dial("tcp", addr, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			talk(t, conn, "ticket please")
			return conn.ConnectionState().DidResume
		}
		connect(first)
		addr, _ := echo(t, c.s, true)
		if got := connect(addr); got != c.want {
			t.Errorf("%s: resumed %v", c.name, got)
		}
	}
	k := newTickets([]byte("k"), "lb")
	today, tomorrow, later := k.keys(100), k.keys(101), k.keys(102)
	if tomorrow[1] != today[0] || today[2] != tomorrow[0] || later[0] == today[0] || later[1] == today[0] || later[2] == today[0] {
		t.Error("the keys' rotation is not that of neighbours")
	}
}
