package tlsfront

import (
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// Config says what the TLS of one listener is.
type Config struct {
	Policy       string        // name of a security policy; empty is the API's default
	Certificates []Certificate // the default one first
	Protocols    []string      // ALPN, preferred first; empty negotiates none
	// Mismatch lets clients connect that offer only other protocols; then none is agreed on.
	Mismatch bool
	Mutual   MutualTLS
	// TicketSecret is shared by the nodes whose tickets resume at each other; empty: sessions don't resume. Scope tells apart what
	// shares a secret and must not.
	TicketSecret []byte
	Scope        string
}

// Certificate is a certificate chain and its private key, PEM.
type Certificate struct {
	ARN     string
	CertPEM string
	KeyPEM  string
}

// Modes of MutualTLS.
const (
	Off         = "off" // also empty
	Passthrough = "passthrough"
	Verify      = "verify"
)

// MutualTLS says what is asked of clients.
type MutualTLS struct {
	Mode          string `json:"mode,omitempty"`
	TrustStoreARN string `json:"trustStoreArn,omitempty"`
	// CAs are the trust store's certificates, PEM; CRLs its revocation lists, each PEM or DER.
	CAs  string   `json:"cas,omitempty"`
	CRLs [][]byte `json:"crls,omitempty"`
	// CAFile and CRLFiles name files instead, in a configuration file.
	CAFile   string   `json:"caFile,omitempty"`
	CRLFiles []string `json:"crlFiles,omitempty"`

	IgnoreClientCertificateExpiry bool `json:"ignoreClientCertificateExpiry,omitempty"`
	AdvertiseTrustStoreCaNames    bool `json:"advertiseTrustStoreCaNames,omitempty"`
}

// Server is a listener's TLS. Safe for concurrent use.
type Server struct {
	base    *tls.Config // callbacks are added for each accepter
	certs   *certificates
	mutual  *verifier // nil: no certificate is asked for
	tickets *tickets  // nil: none
	quick   bool      // what most clients send first is answered without crypto/tls
	spare   sync.Pool // *accepter
}

// New compiles a configuration.
func New(c Config) (*Server, error) {
	if len(c.Certificates) == 0 {
		return nil, errors.New("a TLS listener needs a certificate")
	}
	p, ok := LookupPolicy(c.Policy)
	if !ok {
		return nil, fmt.Errorf("security policy %q does not exist", c.Policy)
	}
	s := &Server{}
	var err error
	if s.certs, err = newCertificates(c.Certificates); err != nil {
		return nil, err
	}
	if s.mutual, err = newVerifier(c.Mutual); err != nil {
		return nil, fmt.Errorf("mutual TLS: %w", err)
	}
	s.base = &tls.Config{MinVersion: p.Min, MaxVersion: p.Max, CipherSuites: p.Suites, CurvePreferences: p.Curves, NextProtos: c.Protocols}
	if s.mutual != nil {
		s.base.ClientAuth = s.mutual.auth
		s.base.ClientCAs = s.mutual.advertised
	}
	// A resumed session shows no certificate again, so as with AWS there is none with mutual TLS.
	if s.mutual == nil && len(c.TicketSecret) > 0 {
		s.tickets = newTickets(c.TicketSecret, c.Scope)
	} else {
		s.base.SessionTicketsDisabled = true
	}
	s.certs.mismatch = c.Mismatch
	s.quick = p.Max == tls.VersionTLS13 && s.mutual == nil
	return s, nil
}

// Equal tells whether two configurations say the same.
func (c Config) Equal(d Config) bool { return reflect.DeepEqual(c, d) }
