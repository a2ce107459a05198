package tlsfront

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// Chosen is a certificate as a Server holds it.
type Chosen struct {
	ARN     string
	Serial  string // hexadecimal
	cert    tls.Certificate
	message []byte          // shows the chain, TLS 1.3
	slow    *rsa.PrivateKey // the key, if it takes long to use
}

// certificates chooses by server name.
type certificates struct {
	names    map[string][]*Chosen // exact, lower case
	wildcard map[string][]*Chosen // by what follows *
	fallback *Chosen
	mismatch bool
}

func newCertificates(cs []Certificate) (*certificates, error) {
	out := &certificates{names: map[string][]*Chosen{}, wildcard: map[string][]*Chosen{}}
	for i, c := range cs {
		cert, err := tls.X509KeyPair([]byte(c.CertPEM), []byte(c.KeyPEM))
		if err != nil {
			return nil, fmt.Errorf("certificate %d (%s): %w", i+1, c.ARN, err)
		}
		if cert.Leaf == nil {
			if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
				return nil, fmt.Errorf("certificate %d: %w", i+1, err)
			}
		}
		p := &Chosen{ARN: c.ARN, Serial: serial(cert.Leaf), cert: cert, message: certificateMessage(cert.Certificate)}
		if k, ok := cert.PrivateKey.(*rsa.PrivateKey); ok && k.N.BitLen() >= slowBits {
			p.slow = k
		}
		if i == 0 {
			out.fallback = p
		}
		names := cert.Leaf.DNSNames
		if len(names) == 0 && cert.Leaf.Subject.CommonName != "" {
			names = []string{cert.Leaf.Subject.CommonName}
		}
		for _, n := range names {
			n = strings.ToLower(n)
			if rest, ok := strings.CutPrefix(n, "*"); ok {
				out.wildcard[rest] = append(out.wildcard[rest], p)
			} else {
				out.names[n] = append(out.names[n], p)
			}
		}
	}
	for _, m := range []map[string][]*Chosen{out.names, out.wildcard} {
		for _, cs := range m {
			slices.SortStableFunc(cs, better)
		}
	}
	return out, nil
}

// better orders certificates for one name: ECDSA before RSA, then the hash of the signature, then the larger key, then what is
// valid longer.
func better(a, b *Chosen) int {
	x, y := a.cert.Leaf, b.cert.Leaf
	return cmp.Or(
		cmp.Compare(kind(y), kind(x)),
		cmp.Compare(strongHash(y), strongHash(x)),
		cmp.Compare(keyBits(y), keyBits(x)),
		y.NotAfter.Compare(x.NotAfter),
	)
}

func kind(c *x509.Certificate) int {
	if _, ok := c.PublicKey.(*ecdsa.PublicKey); ok {
		return 1
	}
	return 0
}

func strongHash(c *x509.Certificate) int {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA:
		return 0
	}
	return 1
}

func keyBits(c *x509.Certificate) int {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize
	case *rsa.PublicKey:
		return k.N.BitLen()
	}
	return 0
}

// candidates returns the certificates for a name, the best first; nil if there are none.
func (c *certificates) candidates(name string) []*Chosen {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	cs := c.names[name]
	if w := strings.IndexByte(name, '.'); w > 0 {
		if more := c.wildcard[name[w:]]; len(cs) == 0 {
			cs = more
		} else if len(more) > 0 {
			cs = slices.Concat(cs, more) // if the client supports none of the exact ones
		}
	}
	return cs
}

// choose returns the best certificate for the name that the client supports, or the default one: a connection is never refused for
// its name.
func (c *certificates) choose(hello *tls.ClientHelloInfo) *Chosen {
	if len(c.names)+len(c.wildcard) == 0 || hello.ServerName == "" {
		return c.fallback
	}
	cs := c.candidates(hello.ServerName)
	if len(cs) == 1 {
		return cs[0]
	}
	for _, x := range cs {
		if hello.SupportsCertificate(&x.cert) == nil {
			return x
		}
	}
	if len(cs) > 0 {
		return cs[0]
	}
	return c.fallback
}

// named is what choose returns to a client that supports everything: for resumed sessions, that show no certificate.
func (c *certificates) named(name string) *Chosen {
	if cs := c.candidates(name); len(cs) > 0 {
		return cs[0]
	}
	return c.fallback
}
