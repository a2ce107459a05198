package zone

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// identityFile holds the cloud's key and certificate for identity documents; verifiers take the certificate from it.
const identityFile = "identity.pem"

// documentSigner signs instance identity documents. Every zone of a cloud uses the same key.
type documentSigner struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

// loadSigner reads the cloud's key, or makes it. Two zones that make it at once agree on the first one's.
func loadSigner(zonesDir string, now time.Time) (*documentSigner, error) {
	path := filepath.Join(zonesDir, identityFile)
	if b, err := os.ReadFile(path); err == nil {
		return parseSigner(b)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "instance identity", Organization: []string{"Skerry"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(30, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	b := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})...)
	tmp, err := os.CreateTemp(zonesDir, identityFile+".*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !os.IsExist(err) {
		return nil, err
	}
	if b, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	return parseSigner(b)
}

func parseSigner(b []byte) (*documentSigner, error) {
	s := &documentSigner{}
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		b = rest
		var err error
		switch block.Type {
		case "CERTIFICATE":
			s.cert, err = x509.ParseCertificate(block.Bytes)
		case "RSA PRIVATE KEY":
			s.key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", identityFile, err)
		}
	}
	if s.key == nil || s.cert == nil {
		return nil, fmt.Errorf("%s: certificate or key is missing", identityFile)
	}
	return s, nil
}

// signature is the document's RSA-SHA256 signature in base64.
func (s *documentSigner) signature(doc string) (string, error) {
	sum := sha256.Sum256([]byte(doc))
	sig, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return wrap(base64.StdEncoding.EncodeToString(sig)), nil
}

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidSHA256     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidType       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidDigest     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
)

type cmsAttribute struct {
	Type   asn1.ObjectIdentifier
	Values []any `asn1:"set"`
}

type cmsSigner struct {
	Version int
	Issuer  struct {
		Name   asn1.RawValue
		Serial *big.Int
	}
	Digest     pkix.AlgorithmIdentifier
	Attributes asn1.RawValue
	Algorithm  pkix.AlgorithmIdentifier
	Signature  []byte
}

type cmsContent struct {
	Type    asn1.ObjectIdentifier
	Content any `asn1:"explicit,tag:0"`
}

type cmsSignedData struct {
	Version int
	Digests []pkix.AlgorithmIdentifier `asn1:"set"`
	Content cmsContent
	Certs   asn1.RawValue
	Signers []cmsSigner `asn1:"set"`
}

// pkcs7 is a signed message (RFC 5652, RSA and SHA-256) that holds the document, in base64 without the armour.
func (s *documentSigner) pkcs7(doc string) (string, error) {
	sum := sha256.Sum256([]byte(doc))
	// The signature covers the attributes as a SET; inside the signer info they carry tag 0 instead (RFC 5652, 5.4).
	attrs, err := asn1.MarshalWithParams([]cmsAttribute{{oidType, []any{oidData}}, {oidDigest, []any{sum[:]}}}, "set")
	if err != nil {
		return "", err
	}
	asum := sha256.Sum256(attrs)
	sig, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, asum[:])
	if err != nil {
		return "", err
	}
	sha := pkix.AlgorithmIdentifier{Algorithm: oidSHA256}
	signer := cmsSigner{Version: 1, Digest: sha, Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}, Signature: sig}
	signer.Issuer.Name, signer.Issuer.Serial = asn1.RawValue{FullBytes: s.cert.RawIssuer}, s.cert.SerialNumber
	var set asn1.RawValue
	if _, err := asn1.Unmarshal(attrs, &set); err != nil {
		return "", err
	}
	signer.Attributes = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: set.Bytes}
	der, err := asn1.Marshal(cmsContent{oidSignedData, cmsSignedData{
		Version: 1, Digests: []pkix.AlgorithmIdentifier{sha}, Content: cmsContent{oidData, []byte(doc)},
		Certs:   asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: s.cert.Raw},
		Signers: []cmsSigner{signer},
	}})
	if err != nil {
		return "", err
	}
	return wrap(base64.StdEncoding.EncodeToString(der)), nil
}

// wrap breaks base64 into the lines of 76 characters that AWS sends.
func wrap(s string) string {
	var lines []string
	for len(s) > 76 {
		lines, s = append(lines, s[:76]), s[76:]
	}
	return strings.Join(append(lines, s), "\n")
}
