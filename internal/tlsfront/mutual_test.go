package tlsfront

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

func authority(t *testing.T, by *issuer, name string) *issuer {
	return issue(t, by, nil, func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.BasicConstraintsValid = name, true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		c.NotBefore, c.NotAfter = time.Now().Add(-100*time.Hour), time.Now().Add(100*time.Hour)
	})
}

// revoke makes a revocation list of certificates.
func revoke(t *testing.T, by *issuer, cs ...*issuer) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range cs {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.cert.SerialNumber, RevocationTime: time.Now()})
	}
	b, err := x509.CreateRevocationList(rand.Reader, l, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func clientOf(cs ...*issuer) *tls.Config {
	cfg := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	if len(cs) > 0 {
		c := tls.Certificate{PrivateKey: cs[0].key}
		for _, x := range cs {
			c.Certificate = append(c.Certificate, x.cert.Raw)
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
	}
	return cfg
}

func TestMutual(t *testing.T) {
	t.Parallel()
	root := authority(t, nil, "root")
	middle := authority(t, root, "middle")
	stranger := authority(t, nil, "stranger")
	at := func(from, to time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := issue(t, root, nil, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "client, one", Organization: []string{"Company"}}
		c.SerialNumber = big.NewInt(0xabcdef)
	})
	below := issue(t, middle, nil, nil)
	expired, early := issue(t, root, nil, at(-3*time.Hour, -time.Hour)), issue(t, root, nil, at(time.Hour, 2*time.Hour))
	gone, goneMiddle := issue(t, root, nil, nil), authority(t, root, "gone")
	serverOnly := issue(t, root, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	deep := []*issuer{root}
	for range 5 {
		deep = append([]*issuer{authority(t, deep[0], "deep")}, deep...)
	}
	fat := issue(t, root, nil, func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("x.", 9000) + "test"} })
	verify := MutualTLS{Mode: Verify, CAs: pemOf(root), CRLs: [][]byte{revoke(t, root, gone, goneMiddle), revoke(t, stranger, leaf)}}
	lenient := verify
	lenient.IgnoreClientCertificateExpiry = true
	pass := MutualTLS{Mode: Passthrough}
	for _, c := range []struct {
		name   string
		m      MutualTLS
		client *tls.Config
		want   string // Facts.Verified
		shown  int
	}{
		{"trusted", verify, clientOf(leaf), Success, 1},
		{"by an intermediate", verify, clientOf(below, middle), Success, 2},
		{"intermediate missing", verify, clientOf(below), "Failed:" + certUntrusted, 1},
		{"by a stranger", verify, clientOf(issue(t, stranger, nil, nil)), "Failed:" + certUntrusted, 1},
		{"none", verify, clientOf(), "Failed:" + unmapped, 0},
		{"expired", verify, clientOf(expired), "Failed:" + certExpired, 1},
		{"expired, which is ignored", lenient, clientOf(expired), Success, 1},
		{"expired stranger", lenient, clientOf(issue(t, stranger, nil, at(-3*time.Hour, -time.Hour))), "Failed:" + certUntrusted, 1},
		{"not yet valid", lenient, clientOf(early), "Failed:" + certTooEarly, 1},
		{"revoked", verify, clientOf(gone), "Failed:" + certRevoked, 1},
		{"below a revoked one", verify, clientOf(issue(t, goneMiddle, nil, nil), goneMiddle), "Failed:" + certRevoked, 2},
		{"for servers", verify, clientOf(serverOnly), "Failed:" + certPurpose, 1},
		{"weak key", verify, clientOf(issue(t, root, p224, nil)), "Failed:" + certUnsupported, 1},
		{"too deep", verify, clientOf(append([]*issuer{issue(t, deep[0], nil, nil)}, deep...)...), "Failed:" + certTooDeep, 7},
		{"too large", verify, clientOf(fat), "Failed:" + certTooLarge, 1},
		{"passed through", pass, clientOf(issue(t, stranger, nil, nil), stranger), "", 2},
		{"none to pass through", pass, clientOf(), "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				if c.name == "weak key" && v == tls.VersionTLS13 {
					continue // the client itself refuses to use it
				}
				s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Mutual: c.m, TicketSecret: []byte("k")})
				addr, out := echo(t, s, v == tls.VersionTLS13)
				cfg := c.client.Clone()
				cfg.MaxVersion = v
				for range 2 {
					conn, err := tls.Dial("tcp", addr, cfg)
					good := c.want == Success || c.want == ""
					if err == nil && good {
						talk(t, conn, "hello")
					} else if err == nil { // with TLS 1.3 the client learns of it later
						conn.SetDeadline(time.Now().Add(30 * time.Second))
						_, err = conn.Read(make([]byte, 1))
					}
					if conn != nil {
						conn.Close()
					}
					if (err == nil) != good {
						t.Errorf("the client sees %v", err)
					}
					o := <-out
					if o.facts.Verified != c.want || len(o.facts.Client) != c.shown || o.facts.Resumed || (o.err == nil) != good {
						t.Errorf("%s: %+v %v", tls.VersionName(v), o.facts, o.err)
					}
					if good && o.sess.State == nil {
						t.Error("not taken over")
					}
				}
			}
		})
	}
	f := Facts{Client: []*x509.Certificate{leaf.cert}}
	if f.ClientSerial() != "ABCDEF" || f.ClientSubject() != `CN=client\, one,O=Company` || !strings.HasPrefix(f.ClientValidity(), "NotBefore=2") {
		t.Errorf("%s %s %s", f.ClientSerial(), f.ClientSubject(), f.ClientValidity())
	}
	for _, m := range []MutualTLS{{Mode: "x"}, {Mode: Verify}, {Mode: Verify, CAs: "x"}, {Mode: Verify, CAs: pemOf(root), CRLs: [][]byte{[]byte("x")}}} {
		if _, err := newVerifier(m); err == nil {
			t.Errorf("%+v is accepted", m)
		}
	}
}

// TestAdvertisedNames: the client is told the authorities only where that is wanted.
func TestAdvertisedNames(t *testing.T) {
	t.Parallel()
	root := authority(t, nil, "root")
	for _, tell := range []bool{true, false} {
		s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Mutual: MutualTLS{Mode: Verify, CAs: pemOf(root), AdvertiseTrustStoreCaNames: tell}})
		addr, _ := echo(t, s, false)
		told := -1
		leaf := issue(t, root, nil, nil)
		cfg := &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			told = len(r.AcceptableCAs)
			return &tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}, nil
		}}
		c, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		talk(t, c, "hello")
		c.Close()
		if want := map[bool]int{true: 1, false: 0}[tell]; told != want {
			t.Errorf("told %d names", told)
		}
	}
}
