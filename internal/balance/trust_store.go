package balance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Quotas of AWS; the sizes of a whole bundle and of a list are this cloud's own.
const (
	MaxTrustStores       = 20 // a region
	MaxVerifyListeners   = 2  // a load balancer: listeners that verify clients
	maxCACertificates    = 25 // a trust store
	maxCACertificate     = 16 << 10
	maxCASubjects        = 10_000 // bytes of all subjects together
	maxRevocationLists   = 30     // a trust store
	maxRevokedEntries    = 500_000
	MaxBundle            = 1 << 20 // bytes of a bundle
	MaxRevocationContent = 8 << 20 // bytes of a list
)

// TrustStore is a set of certificate authorities that clients' certificates are verified against.
type TrustStore struct {
	scope.Scope
	ARN            string
	Name           string
	ID             string
	Bundle         string // PEM
	Certificates   int32
	LastRevocation int64
	CreatedAt      time.Time
}

// Revocation is a certificate revocation list of a trust store.
type Revocation struct {
	scope.Scope
	StoreARN string
	ID       int64
	Entries  int64
	Content  []byte // as it was given: PEM or DER
	DER      []byte
}

// The trust stores' tables.
var (
	TrustStores = store.NewTable("trust-store", func(v TrustStore) string { return v.Key(v.ARN) },
		store.Index[TrustStore]{Name: "name", Keys: func(v TrustStore) []string { return []string{v.Key(v.Name)} }})
	Revocations = store.NewTable("trust-store-revocation", func(v Revocation) string { return revocationKey(v.Scope, v.StoreARN, v.ID) })
)

func revocationKey(s scope.Scope, arn string, id int64) string {
	digits := strconv.FormatInt(id, 10)
	return s.Key(arn) + " " + strings.Repeat("0", max(0, 20-len(digits))) + digits // in their order
}

var trustStoreName = regexp.MustCompile(`^([a-zA-Z0-9]+-)*[a-zA-Z0-9]+$`)

func badBundle(format string, args ...any) error {
	return fault.New(fault.Invalid, "InvalidCaCertificatesBundle", format, args...)
}

func badRevocation(format string, args ...any) error {
	return fault.New(fault.Invalid, "InvalidRevocationContent", format, args...)
}

// ParseBundle reads the certificates of a bundle and refuses what a trust store can't have. Text between the certificates
// is ignored.
func ParseBundle(bundle []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	subjects := 0
	for rest := bundle; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			if bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, badBundle("The CA certificates bundle is not valid: it holds a block that is not PEM")
			}
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, badBundle("The CA certificates bundle is not valid: it holds a block of type '%s'", b.Type)
		}
		if len(b.Bytes) > maxCACertificate {
			return nil, badBundle("The CA certificates bundle is not valid: certificate %d is larger than %d bytes", len(out)+1, maxCACertificate)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fault.New(fault.Invalid, "InvalidCaCertificatesBundle", "The CA certificates bundle is not valid: certificate %d cannot be read", len(out)+1).Wrap(err)
		}
		if why := unfit(c); why != "" {
			return nil, badBundle("The CA certificates bundle is not valid: certificate %d (%s) %s", len(out)+1, c.Subject, why)
		}
		out, subjects = append(out, c), subjects+len(c.RawSubject)
	}
	switch {
	case len(out) == 0:
		return nil, badBundle("The CA certificates bundle is not valid: it holds no PEM certificate")
	case len(out) > maxCACertificates:
		return nil, badBundle("The CA certificates bundle holds %d certificates. The maximum is %d", len(out), maxCACertificates)
	case subjects > maxCASubjects:
		return nil, badBundle("The subjects of the CA certificates bundle have %d bytes. The maximum is %d", subjects, maxCASubjects)
	}
	return out, nil
}

// unfit tells what keeps a certificate from being an authority here, empty if nothing does.
func unfit(c *x509.Certificate) string {
	if c.Version != 3 {
		return "is not an X.509v3 certificate"
	}
	if !c.IsCA || !c.BasicConstraintsValid {
		return "is not a certificate authority"
	}
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return "has an RSA key of " + strconv.Itoa(n) + " bits; 2048 to 8192 are supported"
		}
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < 256 {
			return "has a key on a curve that is not supported"
		}
	default:
		return "has a key that is neither RSA nor ECDSA"
	}
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.UnknownSignatureAlgorithm:
		return "is signed with " + c.SignatureAlgorithm.String() + ", which is not supported"
	}
	return ""
}

// parseRevocations reads a revocation list, PEM or DER. One of the store's authorities must have signed it: another one's
// would have no effect.
func parseRevocations(content []byte, authorities []*x509.Certificate) (Revocation, error) {
	der := content
	if b, rest := pem.Decode(content); b != nil {
		if b.Type != "X509 CRL" {
			return Revocation{}, badRevocation("The revocation content is not valid: it holds a PEM block of type '%s'", b.Type)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return Revocation{}, badRevocation("The revocation content is not valid: something follows the list")
		}
		der = b.Bytes
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return Revocation{}, fault.New(fault.Invalid, "InvalidRevocationContent", "The revocation content is not a valid certificate revocation list").Wrap(err)
	}
	if !slices.ContainsFunc(authorities, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubject, l.RawIssuer) && l.CheckSignatureFrom(c) == nil
	}) {
		return Revocation{}, badRevocation("The revocation content is not valid: no certificate of the trust store has signed it")
	}
	return Revocation{Entries: int64(len(l.RevokedCertificateEntries)), Content: content, DER: der}, nil
}

// GetTrustStore finds a trust store by its ARN.
func GetTrustStore(tx store.Tx, s scope.Scope, arn string) (TrustStore, error) {
	if v, ok := TrustStores.Get(tx, s.Key(arn)); ok {
		return v, nil
	}
	if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":truststore/") {
		return TrustStore{}, invalid("'%s' is not a valid trust store ARN", arn)
	}
	return TrustStore{}, fault.New(fault.NotFound, "TrustStoreNotFound", "Trust store '%s' not found", arn)
}

// CreateTrustStore makes a trust store of a bundle.
func CreateTrustStore(w *store.WriteTx, s scope.Scope, name string, bundle []byte, tags map[string]string) (TrustStore, error) {
	if len(name) > 32 || !trustStoreName.MatchString(name) {
		return TrustStore{}, invalid("The trust store name '%s' can have at most 32 characters, which are alphanumeric or single hyphens between those", name)
	}
	for range TrustStores.By(w, "name", s.Key(name)) {
		return TrustStore{}, fault.New(fault.Exists, "DuplicateTrustStoreName", "A trust store with the name '%s' already exists", name)
	}
	n := 0
	for range TrustStores.Prefix(w, s.Prefix()) {
		n++
	}
	if n >= MaxTrustStores {
		return TrustStore{}, fault.New(fault.Limit, "TooManyTrustStores", "The maximum number of trust stores has been reached")
	}
	cas, err := ParseBundle(bundle)
	if err != nil {
		return TrustStore{}, err
	}
	t := TrustStore{Scope: s, Name: name, ID: hex16(w), Bundle: string(bundle), Certificates: int32(len(cas)), CreatedAt: w.Now()}
	t.ARN = s.ARN("elasticloadbalancing", "truststore/"+name+"/"+t.ID)
	TrustStores.Put(w, t)
	tag.SetSystem(w, s, t.ARN, tags)
	return t, nil
}

// ModifyTrustStore replaces a trust store's bundle. Its revocation lists stay; one whose authority is gone has no effect.
func ModifyTrustStore(w *store.WriteTx, s scope.Scope, arn string, bundle []byte) (TrustStore, error) {
	t, err := GetTrustStore(w, s, arn)
	if err != nil {
		return TrustStore{}, err
	}
	cas, err := ParseBundle(bundle)
	if err != nil {
		return TrustStore{}, err
	}
	t.Bundle, t.Certificates = string(bundle), int32(len(cas))
	TrustStores.Put(w, t)
	return t, nil
}

// DeleteTrustStore deletes a trust store with its revocation lists, unless a listener uses it.
func DeleteTrustStore(w *store.WriteTx, s scope.Scope, arn string) error {
	t, err := GetTrustStore(w, s, arn)
	if err != nil {
		return err
	}
	if len(AssociationsOf(w, t)) > 0 {
		return fault.New(fault.Conflict, "TrustStoreInUse", "Trust store '%s' is currently in use by a listener", arn)
	}
	for _, r := range RevocationsOf(w, t) {
		Revocations.Delete(w, revocationKey(s, arn, r.ID))
	}
	TrustStores.Delete(w, s.Key(arn))
	tag.DeleteAll(w, s, arn)
	return nil
}

// AssociationsOf lists the ARNs of the listeners that verify clients against a trust store, in order.
func AssociationsOf(tx store.Tx, t TrustStore) []string {
	var out []string
	for l := range Listeners.By(tx, "trust-store", t.Key(t.ARN)) {
		out = append(out, l.ARN)
	}
	slices.Sort(out)
	return out
}

// RevocationsOf lists a trust store's revocation lists in the order of their ids.
func RevocationsOf(tx store.Tx, t TrustStore) []Revocation {
	var out []Revocation
	for r := range Revocations.Prefix(tx, t.Key(t.ARN)+" ") {
		out = append(out, r)
	}
	return out
}

// RevokedEntries counts the entries of all revocation lists of a trust store.
func RevokedEntries(tx store.Tx, t TrustStore) int64 {
	n := int64(0)
	for r := range Revocations.Prefix(tx, t.Key(t.ARN)+" ") {
		n += r.Entries
	}
	return n
}

// AddRevocations adds revocation lists to a trust store: all of them or none.
func AddRevocations(w *store.WriteTx, s scope.Scope, arn string, contents [][]byte) ([]Revocation, error) {
	t, err := GetTrustStore(w, s, arn)
	if err != nil {
		return nil, err
	}
	cas, err := ParseBundle([]byte(t.Bundle))
	if err != nil {
		return nil, err
	}
	have, total := len(RevocationsOf(w, t)), RevokedEntries(w, t)
	var out []Revocation
	for _, c := range contents {
		r, err := parseRevocations(c, cas)
		if err != nil {
			return nil, err
		}
		have, total = have+1, total+r.Entries
		if have > maxRevocationLists || total > maxRevokedEntries {
			return nil, fault.New(fault.Limit, "TooManyTrustStoreRevocationEntries", "Trust store '%s' can have at most %d revocation lists with %d entries in all", arn, maxRevocationLists, maxRevokedEntries)
		}
		t.LastRevocation++
		r.Scope, r.StoreARN, r.ID = s, arn, t.LastRevocation
		Revocations.Put(w, r)
		out = append(out, r)
	}
	TrustStores.Put(w, t)
	return out, nil
}

// GetRevocation finds a revocation list of a trust store.
func GetRevocation(tx store.Tx, s scope.Scope, arn string, id int64) (Revocation, error) {
	if _, err := GetTrustStore(tx, s, arn); err != nil {
		return Revocation{}, err
	}
	r, ok := Revocations.Get(tx, revocationKey(s, arn, id))
	if !ok {
		return Revocation{}, fault.New(fault.NotFound, "RevocationIdNotFound", "Revocation ID '%d' not found", id)
	}
	return r, nil
}

// RemoveRevocations removes revocation lists: all of them or none.
func RemoveRevocations(w *store.WriteTx, s scope.Scope, arn string, ids []int64) error {
	for _, id := range ids {
		if _, err := GetRevocation(w, s, arn, id); err != nil {
			return err
		}
		Revocations.Delete(w, revocationKey(s, arn, id))
	}
	return nil
}
