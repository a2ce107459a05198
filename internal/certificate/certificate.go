package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Limits of AWS, in bytes but for the last.
const (
	maxCertificate = 32 << 10
	maxKey         = 5 << 10
	maxChain       = 2 << 20
	maxPerRegion   = 2500
)

// Certificate is one imported certificate.
type Certificate struct {
	scope.Scope
	ARN                          string
	Certificate, Chain, Key      string // PEM
	DomainName                   string
	Names                        []string // subject alternative names
	Subject, Issuer, Serial      string
	KeyAlgorithm, SignatureAlgo  string
	KeyUsages, ExtendedKeyUsages []string
	NotBefore, NotAfter          time.Time
	ImportedAt                   time.Time
	TransparencyLogging          string // ENABLED or DISABLED: stored, nothing is logged
}

// Certificates is the table.
var Certificates = store.NewTable("certificate", func(c Certificate) string { return c.Scope.Key(c.ARN) })

// Tables lists the package's tables.
var Tables = []store.AnyTable{Certificates}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "ValidationException", format, args...)
}

// Params are those of Import; ARN is set for a re-import.
type Params struct {
	ARN                     string
	Certificate, Chain, Key []byte
	Tags                    map[string]string
}

// Import checks and keeps a certificate. A re-import keeps the ARN, so that listeners go on with the new one.
func Import(w *store.WriteTx, s scope.Scope, p Params) (Certificate, error) {
	c, err := parse(p, w.Now())
	if err != nil {
		return Certificate{}, err
	}
	c.Scope, c.ARN, c.ImportedAt = s, p.ARN, w.Now()
	if p.ARN != "" {
		old, err := Get(w, s, p.ARN)
		if err != nil {
			return Certificate{}, err
		}
		if len(p.Tags) > 0 {
			return Certificate{}, invalid("Tagging is not permitted on re-import.")
		}
		c.TransparencyLogging = old.TransparencyLogging
	} else {
		n := 0
		for range Certificates.Prefix(w, s.Prefix()) {
			n++
		}
		if n >= maxPerRegion {
			return Certificate{}, fault.New(fault.Limit, "LimitExceededException", "You have reached the maximum number of certificates. Delete certificates that are not in use, or contact AWS to request an increase to your limit.")
		}
		hi, lo := w.Rand().Uint64(), w.Rand().Uint64()
		c.ARN = s.ARN("acm", fmt.Sprintf("certificate/%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&(1<<48-1)))
		c.TransparencyLogging = "DISABLED"
		if err := tag.Set(w, s, c.ARN, p.Tags); err != nil {
			return Certificate{}, tagError(err)
		}
	}
	Certificates.Put(w, c)
	return c, nil
}

// tagError gives the tag package's errors the codes of ACM.
func tagError(err error) error {
	f, ok := fault.As(err)
	switch {
	case !ok:
		return err
	case f.Kind == fault.Limit:
		return fault.New(fault.Limit, "TooManyTagsException", "%s", f.Msg)
	default:
		return fault.New(fault.Invalid, "InvalidTagException", "%s", f.Msg)
	}
}

// AddTags adds tags to a certificate.
func AddTags(w *store.WriteTx, s scope.Scope, arn string, tags map[string]string) error {
	if _, err := Get(w, s, arn); err != nil {
		return err
	}
	if err := tag.Set(w, s, arn, tags); err != nil {
		return tagError(err)
	}
	return nil
}

// Get finds a certificate.
func Get(tx store.Tx, s scope.Scope, arn string) (Certificate, error) {
	if !strings.HasPrefix(arn, s.ARN("acm", "certificate/")) {
		if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":acm:") {
			return Certificate{}, fault.New(fault.Invalid, "InvalidArnException", "The ARN %s is not valid for this service.", arn)
		}
	} else if c, ok := Certificates.Get(tx, s.Key(arn)); ok {
		return c, nil
	}
	return Certificate{}, fault.New(fault.NotFound, "ResourceNotFoundException", "Could not find certificate %s.", arn)
}

// Delete removes a certificate that nothing uses.
func Delete(w *store.WriteTx, s scope.Scope, arn string, usedBy []string) error {
	if _, err := Get(w, s, arn); err != nil {
		return err
	}
	if len(usedBy) > 0 {
		return fault.New(fault.Conflict, "ResourceInUseException", "Certificate %s in account %s is in use.", arn, s.Account)
	}
	Certificates.Delete(w, s.Key(arn))
	tag.DeleteAll(w, s, arn)
	return nil
}

// parse reads a certificate, its key and its chain, and refuses what does not fit together or is not valid now.
func parse(p Params, now time.Time) (Certificate, error) {
	switch {
	case len(p.Certificate) > maxCertificate:
		return Certificate{}, invalid("The certificate must not be longer than %d bytes.", maxCertificate)
	case len(p.Key) > maxKey:
		return Certificate{}, invalid("The private key must not be longer than %d bytes.", maxKey)
	case len(p.Chain) > maxChain:
		return Certificate{}, invalid("The certificate chain must not be longer than %d bytes.", maxChain)
	}
	leafs, err := readCertificates(p.Certificate)
	switch {
	case err != nil || len(leafs) == 0:
		return Certificate{}, invalid("The certificate is not valid: it must be one PEM-encoded X.509 certificate.")
	case len(leafs) > 1:
		return Certificate{}, invalid("The certificate field contains more than one certificate. You can specify only one certificate in this field.")
	}
	leaf := leafs[0]
	if err := checkKey(leaf, p.Key); err != nil {
		return Certificate{}, err
	}
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return Certificate{}, invalid("The certificate is not valid now: it is valid from %s to %s.", leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	chain, err := readCertificates(p.Chain)
	if err != nil || len(p.Chain) > 0 && len(chain) == 0 {
		return Certificate{}, invalid("The certificate chain is not valid: it must be PEM-encoded X.509 certificates.")
	}
	signed := leaf
	for _, c := range chain {
		if signed.CheckSignatureFrom(c) != nil {
			return Certificate{}, invalid("Could not validate the certificate with the certificate chain.")
		}
		signed = c
	}
	c := Certificate{Certificate: string(p.Certificate), Chain: string(p.Chain), Key: string(p.Key), Names: leaf.DNSNames, Subject: leaf.Subject.String(), Issuer: leaf.Issuer.CommonName,
		KeyAlgorithm: keyAlgorithm(leaf.PublicKey), SignatureAlgo: signatureAlgorithm(leaf), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		KeyUsages: keyUsages(leaf.KeyUsage), ExtendedKeyUsages: extendedKeyUsages(leaf.ExtKeyUsage)}
	c.Serial = colons(leaf.SerialNumber.Bytes())
	if c.DomainName = leaf.Subject.CommonName; c.DomainName == "" && len(leaf.DNSNames) > 0 {
		c.DomainName = leaf.DNSNames[0]
	}
	if len(c.Names) == 0 && c.DomainName != "" {
		c.Names = []string{c.DomainName}
	}
	return c, nil
}

func readCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		b, rest := pem.Decode(text)
		if b == nil {
			if strings.TrimSpace(string(rest)) != "" {
				return nil, fmt.Errorf("not PEM")
			}
			return out, nil
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block of type %s", b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		out, text = append(out, c), rest
	}
}

// checkKey refuses a key that is encrypted, of an unsupported kind, or another certificate's.
func checkKey(leaf *x509.Certificate, key []byte) error {
	for rest := key; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "" {
			return invalid("The private key is encrypted. Only unencrypted private keys are supported.")
		}
	}
	if keyAlgorithm(leaf.PublicKey) == "" {
		return invalid("The private key is not supported.")
	}
	pair, err := tls.X509KeyPair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), key)
	if err != nil {
		if strings.Contains(err.Error(), "does not match") {
			return invalid("The certificate and the private key do not match.")
		}
		return invalid("The private key is not supported.")
	}
	if _, ok := pair.PrivateKey.(crypto.Signer); !ok {
		return invalid("The private key is not supported.")
	}
	return nil
}

// keyAlgorithm is ACM's name of a key's kind, empty for one that it does not take.
func keyAlgorithm(pub any) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); slices.Contains([]int{1024, 2048, 3072, 4096}, n) {
			return fmt.Sprintf("RSA_%d", n)
		}
	case *ecdsa.PublicKey:
		return map[string]string{"P-256": "EC_prime256v1", "P-384": "EC_secp384r1", "P-521": "EC_secp521r1"}[k.Curve.Params().Name]
	case ed25519.PublicKey:
	}
	return ""
}

// signatureAlgorithm writes an algorithm as ACM does: SHA256WITHRSA, SHA256WITHECDSA.
func signatureAlgorithm(c *x509.Certificate) string {
	s := c.SignatureAlgorithm.String() // SHA256-RSA, ECDSA-SHA256
	if hash, ok := strings.CutPrefix(s, "ECDSA-"); ok {
		return hash + "WITHECDSA"
	}
	if hash, ok := strings.CutSuffix(s, "-RSA"); ok {
		return hash + "WITHRSA"
	}
	return s
}

func keyUsages(u x509.KeyUsage) []string {
	var out []string
	for i, name := range []string{"DIGITAL_SIGNATURE", "NON_REPUDIATION", "KEY_ENCIPHERMENT", "DATA_ENCIPHERMENT", "KEY_AGREEMENT", "CERTIFICATE_SIGNING", "CRL_SIGNING", "ENCIPHER_ONLY", "DECIPHER_ONLY"} {
		if u&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return []string{"ANY"}
	}
	return out
}

func extendedKeyUsages(us []x509.ExtKeyUsage) []string {
	names := map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "TLS_WEB_SERVER_AUTHENTICATION", x509.ExtKeyUsageClientAuth: "TLS_WEB_CLIENT_AUTHENTICATION",
		x509.ExtKeyUsageCodeSigning: "CODE_SIGNING", x509.ExtKeyUsageEmailProtection: "EMAIL_PROTECTION", x509.ExtKeyUsageTimeStamping: "TIME_STAMPING", x509.ExtKeyUsageOCSPSigning: "OCSP_SIGNING"}
	var out []string
	for _, u := range us {
		if n := names[u]; n != "" {
			out = append(out, n)
		}
	}
	return out
}

func colons(b []byte) string {
	parts := make([]string, len(b))
	for i, x := range b {
		parts[i] = fmt.Sprintf("%02x", x)
	}
	return strings.Join(parts, ":")
}
