package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"skerry/internal/tlsfront"
)

const handshakeTimeout = 10 * time.Second

// frontTLS is a listener's TLS, kept from table to table while its configuration is the same.
type frontTLS struct {
	config tlsfront.Config
	server *tlsfront.Server
}

// processSecret keys the session tickets of load balancers without a key: they resume only here.
var processSecret = sync.OnceValue(func() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
})

// compileFront builds a listener's TLS, or takes the old one if it says the same.
func compileFront(l Listener, cfg *Config, port string, http2 bool, old *frontTLS) (*frontTLS, error) {
	c := tlsfront.Config{Policy: l.SSLPolicy, Mutual: l.MutualTLS, Protocols: []string{"http/1.1", "http/1.0"}, Mismatch: true,
		TicketSecret: cfg.CookieKey, Scope: cfg.LBName + "\x00" + port}
	if http2 {
		c.Protocols = []string{"h2", "http/1.1", "http/1.0"}
	}
	if len(c.TicketSecret) == 0 {
		c.TicketSecret = processSecret()
	}
	for _, x := range l.Certificates {
		c.Certificates = append(c.Certificates, tlsfront.Certificate{ARN: x.ARN, CertPEM: x.CertPEM, KeyPEM: x.KeyPEM})
	}
	if old != nil && old.config.Equal(c) {
		return old, nil
	}
	s, err := tlsfront.New(c)
	if err != nil {
		return nil, err
	}
	return &frontTLS{c, s}, nil
}

// handshake does the handshake over nc, and notes what is to be known about it in peer. It returns nil if it fails.
func (p *Proxy) handshake(ln *listener, lt *listenerTable, nc net.Conn, peer *peerInfo) *tlsfront.Session {
	nc.SetDeadline(time.Now().Add(handshakeTimeout))
	stop := context.AfterFunc(p.ctx, func() { nc.SetDeadline(past) })
	s, f, err := lt.tls.server.Accept(nc, p.opt.Clock())
	goesOn := stop()
	p.greeted(ln, peer, f, err)
	if err != nil || !goesOn {
		return nil
	}
	nc.SetDeadline(time.Time{})
	return s
}

// greeted notes the outcome of a handshake.
func (p *Proxy) greeted(ln *listener, peer *peerInfo, f *tlsfront.Facts, err error) {
	if lt := ln.table.Load(); lt.connLog != nil {
		lt.logConnection(anyShard, connEntry{at: p.opt.Clock(), client: peer.addr, born: peer.born, facts: f, failed: err != nil})
	}
	if err != nil {
		switch err {
		case io.EOF:
		case tlsfront.ErrBusy:
			p.counters.inc(cRejectedConnection)
		default:
			p.counters.inc(cTLSError)
		}
		return
	}
	f.Offered = nil // nobody asks, and the facts last as long as the connection
	peer.tls, peer.facts = true, f
	peer.tlsVer, peer.suite = tlsfront.VersionName(f.Version), tlsfront.SuiteName(f.Suite)
	if len(f.Client) > 0 {
		peer.mutual = mutualValues(f)
	}
}

// The headers about a client's certificate.
const (
	mtlsChain = iota // passthrough
	mtlsSerial
	mtlsIssuer
	mtlsSubject
	mtlsValidity
	mtlsLeaf
	numMTLS
)

// Names of headers that tell targets about TLS, and the last part of the attributes that rename them.
var tlsHeaderNames = [...]struct{ key, name string }{
	mtlsChain:    {"x_amzn_mtls_clientcert", "X-Amzn-Mtls-Clientcert"},
	mtlsSerial:   {"x_amzn_mtls_clientcert_serial_number", "X-Amzn-Mtls-Clientcert-Serial-Number"},
	mtlsIssuer:   {"x_amzn_mtls_clientcert_issuer", "X-Amzn-Mtls-Clientcert-Issuer"},
	mtlsSubject:  {"x_amzn_mtls_clientcert_subject", "X-Amzn-Mtls-Clientcert-Subject"},
	mtlsValidity: {"x_amzn_mtls_clientcert_validity", "X-Amzn-Mtls-Clientcert-Validity"},
	mtlsLeaf:     {"x_amzn_mtls_clientcert_leaf", "X-Amzn-Mtls-Clientcert-Leaf"},
	headerTLSVer: {"x_amzn_tls_version", "x-amzn-tls-version"},
	headerSuite:  {"x_amzn_tls_cipher_suite", "x-amzn-tls-cipher-suite"},
}

const (
	headerTLSVer = numMTLS
	headerSuite  = numMTLS + 1
)

// tlsHeaders are the names that one listener uses.
type tlsHeaders struct {
	names   [len(tlsHeaderNames)]string
	renamed []string // those that are not the usual ones, in lower case: clients may not send them
}

func readTLSHeaders(a *attributes) (h tlsHeaders) {
	for i, n := range tlsHeaderNames {
		h.names[i] = n.name
		key := "routing.http.request." + n.key + ".header_name"
		v, _ := a.get(key)
		if v == "" || strings.EqualFold(v, n.name) {
			continue
		}
		if !allOf([]byte(v), isToken) || known([]byte(v)) != fOther {
			a.bad(key, v, "a header's name")
			continue
		}
		h.names[i] = v
		h.renamed = append(h.renamed, strings.ToLower(v))
	}
	return h
}

// reserved tells whether a client may not send the header because this listener makes it.
func (h *tlsHeaders) reserved(name []byte) bool {
	for _, r := range h.renamed {
		if equalFold(name, r) {
			return true
		}
	}
	return false
}

// mutualValues are what the headers say about a client's certificate: the chain of one that nobody verified, or what the
// verification is about.
func mutualValues(f *tlsfront.Facts) *[numMTLS]string {
	var v [numMTLS]string
	if f.Verified == "" {
		var chain []byte
		for _, c := range f.Client {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		v[mtlsChain] = percent(chain)
		return &v
	}
	v[mtlsSerial], v[mtlsValidity] = f.ClientSerial(), f.ClientValidity()
	v[mtlsIssuer], v[mtlsSubject] = headerText(f.Client[0].Issuer.String()), headerText(f.ClientSubject())
	v[mtlsLeaf] = percent(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Client[0].Raw}))
	return &v
}

// percent encodes for a URL, with +, = and / left as they are.
func percent(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~+=/", c) >= 0:
			s.WriteByte(c)
		default:
			fmt.Fprintf(&s, "%%%02X", c)
		}
	}
	return s.String()
}

// headerText keeps a name that somebody else's certificate holds from breaking out of its header.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// appendTLSHeaders appends what the target is to know about the client's TLS.
func appendTLSHeaders(dst []byte, l *listenerTable, peer *peerInfo) []byte {
	line := func(i int, value string) {
		dst = append(dst, l.tlsHeaders.names[i]...)
		dst = append(dst, ": "...)
		dst = append(dst, value...)
		dst = append(dst, '\r', '\n')
	}
	if l.attrs.tlsHeaders {
		line(headerTLSVer, peer.tlsVer)
		line(headerSuite, peer.suite)
	}
	if peer.mutual != nil {
		for i, v := range peer.mutual {
			if v != "" {
				line(i, v)
			}
		}
	}
	return dst
}

// targetTLS is for connections to targets, whose certificates are not validated, as in the service.
var targetTLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, CipherSuites: tlsfront.TargetSuites, ClientSessionCache: tls.NewLRUClientSessionCache(256)}
