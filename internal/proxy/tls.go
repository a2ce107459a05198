package proxy

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

const handshakeTimeout = 10 * time.Second

// Cipher suites of the security policies, as far as crypto/tls has them. TLS 1.3's are not configurable there.
var (
	suitesGCM = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}
	suitesCBC2  = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}
	suitesCBC1  = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA}
	suitesRSA2  = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}
	suitesRSA1  = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA}
	suites3DES  = []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
	suitesPFS2  = slices.Concat(suitesGCM, suitesCBC2)
	suitesPFS   = slices.Concat(suitesPFS2, suitesCBC1)
	suitesExt1  = slices.Concat(suitesPFS2, suitesRSA2)
	suitesExt2  = slices.Concat(suitesPFS, suitesRSA2, suitesRSA1)
	defaultName = "ELBSecurityPolicy-2016-08"
)

type tlsPolicy struct {
	min, max uint16
	suites   []uint16
}

var tlsPolicies = map[string]tlsPolicy{
	"TLS13-1-3-2021-06":      {tls.VersionTLS13, tls.VersionTLS13, nil},
	"TLS13-1-2-Res-2021-06":  {tls.VersionTLS12, tls.VersionTLS13, suitesGCM},
	"TLS13-1-2-2021-06":      {tls.VersionTLS12, tls.VersionTLS13, suitesPFS2},
	"TLS13-1-2-Ext1-2021-06": {tls.VersionTLS12, tls.VersionTLS13, suitesExt1},
	"TLS13-1-2-Ext2-2021-06": {tls.VersionTLS12, tls.VersionTLS13, suitesExt2},
	"TLS13-1-1-2021-06":      {tls.VersionTLS11, tls.VersionTLS13, suitesExt2},
	"TLS13-1-0-2021-06":      {tls.VersionTLS10, tls.VersionTLS13, suitesExt2},
	"2016-08":                {tls.VersionTLS10, tls.VersionTLS12, suitesExt2},
	"2015-05":                {tls.VersionTLS10, tls.VersionTLS12, suitesExt2},
	"TLS-1-0-2015-04":        {tls.VersionTLS10, tls.VersionTLS12, slices.Concat(suitesExt2, suites3DES)},
	"TLS-1-1-2017-01":        {tls.VersionTLS11, tls.VersionTLS12, suitesExt2},
	"TLS-1-2-2017-01":        {tls.VersionTLS12, tls.VersionTLS12, suitesExt1},
	"TLS-1-2-Ext-2018-06":    {tls.VersionTLS12, tls.VersionTLS12, suitesExt2},
	"FS-2018-06":             {tls.VersionTLS10, tls.VersionTLS12, suitesPFS},
	"FS-1-1-2019-08":         {tls.VersionTLS11, tls.VersionTLS12, suitesPFS},
	"FS-1-2-2019-08":         {tls.VersionTLS12, tls.VersionTLS12, suitesPFS},
	"FS-1-2-Res-2019-08":     {tls.VersionTLS12, tls.VersionTLS12, suitesPFS2},
	"FS-1-2-Res-2020-10":     {tls.VersionTLS12, tls.VersionTLS12, suitesGCM},
}

// lookupPolicy finds a security policy. The PQ and FIPS variants have the versions and suites of their base.
func lookupPolicy(name string) (tlsPolicy, bool) {
	if name == "" {
		name = defaultName
	}
	s, ok := strings.CutPrefix(name, "ELBSecurityPolicy-")
	if !ok {
		return tlsPolicy{}, false
	}
	for _, suffix := range []string{"-PQ-2025-09", "-FIPS-2023-04", "-FIPS-PQ-2025-09"} {
		if base, ok := strings.CutSuffix(s, suffix); ok {
			s = strings.TrimSuffix(base, "-FIPS") + "-2021-06"
			break
		}
	}
	p, ok := tlsPolicies[s]
	return p, ok
}

// certificates chooses by server name.
type certificates struct {
	names    map[string][]*tls.Certificate // exact, lower case
	wildcard map[string][]*tls.Certificate // by what follows *
	fallback *tls.Certificate
}

func newCertificates(cs []Certificate) (*certificates, error) {
	out := &certificates{names: map[string][]*tls.Certificate{}, wildcard: map[string][]*tls.Certificate{}}
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
		p := &cert
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
	for _, m := range []map[string][]*tls.Certificate{out.names, out.wildcard} {
		for _, cs := range m {
			slices.SortStableFunc(cs, func(a, b *tls.Certificate) int { return rank(b) - rank(a) })
		}
	}
	return out, nil
}

// rank prefers ECDSA, then what is valid longer.
func rank(c *tls.Certificate) int {
	n := int(c.Leaf.NotAfter.Unix() / 3600)
	if _, ok := c.Leaf.PublicKey.(*ecdsa.PublicKey); ok {
		n += 1 << 30
	}
	return n
}

// choose returns the best certificate for the name that the client supports, or the default one: a connection is never
// refused for its name.
func (c *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	cs := c.names[name]
	if len(cs) == 0 {
		if i := strings.IndexByte(name, '.'); i > 0 {
			cs = c.wildcard[name[i:]]
		}
	}
	for _, x := range cs {
		if hello.SupportsCertificate(x) == nil {
			return x, nil
		}
	}
	if len(cs) > 0 {
		return cs[0], nil
	}
	return c.fallback, nil
}

// serverTLS builds a listener's configuration.
func serverTLS(l Listener, http2 bool) (*tls.Config, error) {
	if len(l.Certificates) == 0 {
		return nil, fmt.Errorf("an HTTPS listener needs a certificate")
	}
	p, ok := lookupPolicy(l.SSLPolicy)
	if !ok {
		return nil, fmt.Errorf("security policy %q does not exist", l.SSLPolicy)
	}
	cs, err := newCertificates(l.Certificates)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: p.min, MaxVersion: p.max, CipherSuites: p.suites, GetCertificate: cs.choose, NextProtos: []string{"http/1.1"}}
	if http2 {
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	return c, nil
}

// targetTLS is for connections to targets, whose certificates are not validated, as in the service.
var targetTLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, CipherSuites: suitesExt2, ClientSessionCache: tls.NewLRUClientSessionCache(256)}

// opensslName returns the name of a suite that the TLS headers carry: TLS 1.3's own, OpenSSL's of the older ones.
func opensslName(id uint16) string {
	n := tls.CipherSuiteName(id)
	rest, ok := strings.CutPrefix(n, "TLS_")
	if !ok || !strings.Contains(n, "_WITH_") {
		return n
	}
	rest = strings.Replace(rest, "_WITH_", "_", 1)
	rest = strings.Replace(strings.TrimPrefix(rest, "RSA_"), "_CBC", "", 1)
	rest = strings.Replace(rest, "3DES_EDE", "DES-CBC3", 1)
	rest = strings.NewReplacer("AES_128", "AES128", "AES_256", "AES256").Replace(rest)
	return strings.TrimSuffix(strings.ReplaceAll(rest, "_", "-"), "-POLY1305-SHA256") + map[bool]string{true: "-POLY1305"}[strings.Contains(rest, "POLY1305")]
}
