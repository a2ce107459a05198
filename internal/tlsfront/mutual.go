package tlsfront

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Limits of what a client may show.
const (
	maxClientChain = 5        // certificates: the leaf, and four above it
	maxClientCert  = 16 << 10 // bytes of one
)

// Why a client's certificate is refused, as connection logs have it.
const (
	certTooDeep     = "ClientCertMaxChainDepthExceeded"
	certTooLarge    = "ClientCertMaxSizeExceeded"
	certRevoked     = "ClientCertCrlHit"
	certUntrusted   = "ClientCertUntrusted"
	certTooEarly    = "ClientCertNotYetValid"
	certExpired     = "ClientCertExpired"
	certUnsupported = "ClientCertTypeUnsupported"
	certInvalid     = "ClientCertInvalid"
	certPurpose     = "ClientCertPurposeInvalid"
	certRejected    = "ClientCertRejected"
	unmapped        = "UnmappedConnectionError"
)

// refusal is a client certificate's.
type refusal string

func (r refusal) Error() string { return "client certificate refused: " + string(r) }

// verifier judges clients.
type verifier struct {
	auth         tls.ClientAuthType
	verifies     bool
	roots        *x509.CertPool
	advertised   *x509.CertPool // whose names the client is told; nil: none
	revoked      map[string]map[string]bool
	ignoreExpiry bool
}

func newVerifier(m MutualTLS) (*verifier, error) {
	v := &verifier{ignoreExpiry: m.IgnoreClientCertificateExpiry}
	switch m.Mode {
	case "", Off:
		return nil, nil
	case Passthrough:
		v.auth = tls.RequestClientCert
		return v, nil
	case Verify:
		v.auth, v.verifies = tls.RequireAnyClientCert, true
	default:
		return nil, fmt.Errorf("mode %q", m.Mode)
	}
	var cas []*x509.Certificate
	v.roots = x509.NewCertPool()
	for rest := []byte(m.CAs); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("trust store: %w", err)
		}
		cas = append(cas, c)
		v.roots.AddCert(c)
	}
	if len(cas) == 0 {
		return nil, errors.New("the trust store has no certificate")
	}
	if m.AdvertiseTrustStoreCaNames {
		v.advertised = v.roots
	}
	v.revoked = map[string]map[string]bool{}
	for i, b := range m.CRLs {
		if p, _ := pem.Decode(b); p != nil {
			b = p.Bytes
		}
		l, err := x509.ParseRevocationList(b)
		if err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
		for _, ca := range cas { // a list that none of them signed has no effect
			if !bytes.Equal(ca.RawSubject, l.RawIssuer) || l.CheckSignatureFrom(ca) != nil {
				continue
			}
			set := v.revoked[string(ca.RawSubject)]
			if set == nil {
				set = map[string]bool{}
				v.revoked[string(ca.RawSubject)] = set
			}
			for _, e := range l.RevokedCertificateEntries {
				set[string(e.SerialNumber.Bytes())] = true
			}
			break
		}
	}
	return v, nil
}

// judge returns why a client's chain is not accepted, empty if it is.
func (v *verifier) judge(chain []*x509.Certificate, now time.Time) refusal {
	if len(chain) > maxClientChain {
		return certTooDeep
	}
	for _, c := range chain {
		if len(c.Raw) > maxClientCert {
			return certTooLarge
		}
	}
	if !v.verifies {
		return ""
	}
	if len(chain) == 0 {
		return certRejected
	}
	leaf := chain[0]
	if leaf.Version != 3 || !supportedKey(leaf) {
		return certUnsupported
	}
	opts := x509.VerifyOptions{Roots: v.roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	switch {
	case now.Before(leaf.NotBefore):
		return certTooEarly
	case now.After(leaf.NotAfter):
		if !v.ignoreExpiry {
			return certExpired
		}
		opts.CurrentTime = leaf.NotAfter
	}
	chains, err := leaf.Verify(opts)
	if err != nil {
		return refusedBy(err)
	}
	for _, c := range chains {
		if len(c) <= maxClientChain && !v.anyRevoked(c) {
			return ""
		}
		if v.anyRevoked(c) {
			return certRevoked
		}
	}
	return certTooDeep
}

// anyRevoked tells whether a list of its issuer names a certificate of the chain.
func (v *verifier) anyRevoked(chain []*x509.Certificate) bool {
	for _, c := range chain {
		if v.revoked[string(c.RawIssuer)][string(c.SerialNumber.Bytes())] {
			return true
		}
	}
	return false
}

func refusedBy(err error) refusal {
	if x, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch x.Reason {
		case x509.Expired:
			return certExpired
		case x509.IncompatibleUsage:
			return certPurpose
		case x509.TooManyIntermediates:
			return certTooDeep
		}
		return certInvalid
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return certUntrusted
	}
	return certInvalid
}

// supportedKey tells whether the key is one that clients may have: RSA of 2048 to 8192 bits, or on a NIST curve from P-256 up.
func supportedKey(c *x509.Certificate) bool {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize >= 256
	}
	return false
}
