package elbapi

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"skerry/api"
	"skerry/internal/balance"
	"skerry/internal/store"
)

// authority is a certificate authority of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string, change func(*x509.Certificate)) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name)}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// revoke is a list with so many entries, DER.
func (a authority) revoke(t *testing.T, entries int) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for i := range entries {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(int64(i + 1)), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestATrustStoresLife(t *testing.T) {
	x := serve(t)
	a, b := newAuthority(t, "a", nil), newAuthority(t, "b", nil)
	both := append(append([]byte("The authorities\n"), a.pem()...), b.pem()...)
	x.object("certs", "ca/bundle.pem", both)
	x.object("certs", "b.pem", b.pem())
	create := func(name, key string) (*sdk.CreateTrustStoreOutput, error) {
		return x.CreateTrustStore(x.ctx, &sdk.CreateTrustStoreInput{Name: &name, CaCertificatesBundleS3Bucket: api.Ptr("certs"), CaCertificatesBundleS3Key: &key, Tags: []types.Tag{{Key: api.Ptr("env"), Value: api.Ptr("test")}}})
	}
	made, err := create("clients", "ca/bundle.pem")
	if err != nil {
		t.Fatal(err)
	}
	ts := made.TrustStores[0]
	arn := *ts.TrustStoreArn
	if !strings.HasPrefix(arn, "arn:aws:elasticloadbalancing:us-east-1:000000000000:truststore/clients/") || len(arn[strings.LastIndex(arn, "/")+1:]) != 16 ||
		ts.Status != types.TrustStoreStatusActive || *ts.NumberOfCaCertificates != 2 || *ts.TotalRevokedEntries != 0 {
		t.Errorf("made: %+v", ts)
	}
	_, err = create("clients", "b.pem")
	denied(t, "the name again", err, "DuplicateTrustStoreName", 400, "'clients'")
	_, err = create("others", "none.pem")
	denied(t, "no such object", err, "CaCertificatesBundleNotFound", 400, "s3://certs/none.pem")
	_, err = x.CreateTrustStore(x.ctx, &sdk.CreateTrustStoreInput{Name: api.Ptr("v"), CaCertificatesBundleS3Bucket: api.Ptr("certs"), CaCertificatesBundleS3Key: api.Ptr("b.pem"), CaCertificatesBundleS3ObjectVersion: api.Ptr("3")})
	denied(t, "a version of an object", err, "CaCertificatesBundleNotFound", 400, "")
	if _, err := create("others", "b.pem"); err != nil {
		t.Fatal(err)
	}

	// What it holds is what was read then, and can be had.
	x.object("certs", "ca/bundle.pem", []byte("changed"))
	loc, err := x.GetTrustStoreCaCertificatesBundle(x.ctx, &sdk.GetTrustStoreCaCertificatesBundleInput{TrustStoreArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	if code, text := fetch(t, *loc.Location); code != 200 || text != string(both) {
		t.Errorf("the bundle's location answers %d with %d bytes", code, len(text))
	}
	if code, _ := fetch(t, strings.Replace(*loc.Location, "clients", "others", 1)); code != 403 {
		t.Errorf("a location that was changed answers %d", code)
	}

	// Revocation lists, PEM and DER.
	x.object("certs", "a.crl", a.revoke(t, 3))
	x.object("certs", "b.crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: b.revoke(t, 4)}))
	x.object("certs", "foreign.crl", newAuthority(t, "a", nil).revoke(t, 1))
	revoke := func(keys ...string) (*sdk.AddTrustStoreRevocationsOutput, error) {
		in := &sdk.AddTrustStoreRevocationsInput{TrustStoreArn: &arn}
		for _, k := range keys {
			in.RevocationContents = append(in.RevocationContents, types.RevocationContent{S3Bucket: api.Ptr("certs"), S3Key: &k, RevocationType: types.RevocationTypeCrl})
		}
		return x.AddTrustStoreRevocations(x.ctx, in)
	}
	added, err := revoke("a.crl", "b.crl")
	if err != nil {
		t.Fatal(err)
	}
	if r := added.TrustStoreRevocations; len(r) != 2 || *r[0].RevocationId != 1 || *r[0].NumberOfRevokedEntries != 3 || *r[1].RevocationId != 2 || *r[1].NumberOfRevokedEntries != 4 {
		t.Errorf("revocations: %+v", r)
	}
	_, err = revoke("a.crl", "foreign.crl")
	denied(t, "another authority's list", err, "InvalidRevocationContent", 400, "has signed it")
	_, err = revoke("b.pem")
	denied(t, "a certificate", err, "InvalidRevocationContent", 400, "'CERTIFICATE'")
	_, err = revoke("none")
	denied(t, "no such list", err, "RevocationContentNotFound", 400, "")
	got, err := x.DescribeTrustStores(x.ctx, &sdk.DescribeTrustStoresInput{Names: []string{"clients"}})
	if err != nil || len(got.TrustStores) != 1 || *got.TrustStores[0].TotalRevokedEntries != 7 {
		t.Errorf("described: %+v, %v", got, err)
	}
	first, err := x.DescribeTrustStoreRevocations(x.ctx, &sdk.DescribeTrustStoreRevocationsInput{TrustStoreArn: &arn, PageSize: api.Ptr(int32(1))})
	if err != nil || len(first.TrustStoreRevocations) != 1 || first.NextMarker == nil {
		t.Fatalf("a page: %+v, %v", first, err)
	}
	second, err := x.DescribeTrustStoreRevocations(x.ctx, &sdk.DescribeTrustStoreRevocationsInput{TrustStoreArn: &arn, PageSize: api.Ptr(int32(1)), Marker: first.NextMarker})
	if err != nil || len(second.TrustStoreRevocations) != 1 || *second.TrustStoreRevocations[0].RevocationId != 2 || second.NextMarker != nil {
		t.Errorf("the next page: %+v, %v", second, err)
	}
	_, err = x.DescribeTrustStoreRevocations(x.ctx, &sdk.DescribeTrustStoreRevocationsInput{TrustStoreArn: &arn, RevocationIds: []int64{9}})
	denied(t, "an unknown list", err, "RevocationIdNotFound", 400, "")
	crl, err := x.GetTrustStoreRevocationContent(x.ctx, &sdk.GetTrustStoreRevocationContentInput{TrustStoreArn: &arn, RevocationId: api.Ptr(int64(1))})
	if err != nil {
		t.Fatal(err)
	}
	if code, text := fetch(t, *crl.Location); code != 200 || len(text) == 0 {
		t.Errorf("the list's location answers %d with %d bytes", code, len(text))
	}
	_, err = x.RemoveTrustStoreRevocations(x.ctx, &sdk.RemoveTrustStoreRevocationsInput{TrustStoreArn: &arn, RevocationIds: []int64{1, 9}})
	denied(t, "one of two is unknown", err, "RevocationIdNotFound", 400, "'9'")
	if _, err := x.RemoveTrustStoreRevocations(x.ctx, &sdk.RemoveTrustStoreRevocationsInput{TrustStoreArn: &arn, RevocationIds: []int64{1}}); err != nil {
		t.Fatal(err)
	}
	if added, err = revoke("a.crl"); err != nil || *added.TrustStoreRevocations[0].RevocationId != 3 {
		t.Errorf("an id came twice: %+v, %v", added, err)
	}

	changed, err := x.ModifyTrustStore(x.ctx, &sdk.ModifyTrustStoreInput{TrustStoreArn: &arn, CaCertificatesBundleS3Bucket: api.Ptr("certs"), CaCertificatesBundleS3Key: api.Ptr("b.pem")})
	if err != nil || *changed.TrustStores[0].NumberOfCaCertificates != 1 {
		t.Errorf("another bundle: %+v, %v", changed, err)
	}
	tags, err := x.DescribeTags(x.ctx, &sdk.DescribeTagsInput{ResourceArns: []string{arn}})
	if err != nil || len(tags.TagDescriptions[0].Tags) != 1 {
		t.Errorf("tags: %+v, %v", tags, err)
	}

	// A listener that uses it keeps it.
	lb, listener, _ := x.pair()
	_ = lb
	x.update(func(w *store.WriteTx) error {
		l, err := balance.GetListener(w, home, listener)
		l.MutualTLS = balance.MutualTLS{Mode: "verify", TrustStoreARN: arn}
		balance.Listeners.Put(w, l)
		return err
	})
	of, err := x.DescribeTrustStoreAssociations(x.ctx, &sdk.DescribeTrustStoreAssociationsInput{TrustStoreArn: &arn})
	if err != nil || len(of.TrustStoreAssociations) != 1 || *of.TrustStoreAssociations[0].ResourceArn != listener {
		t.Errorf("associations: %+v, %v", of, err)
	}
	_, err = x.DeleteTrustStore(x.ctx, &sdk.DeleteTrustStoreInput{TrustStoreArn: &arn})
	denied(t, "delete in use", err, "TrustStoreInUse", 400, "")
	_, err = x.DeleteSharedTrustStoreAssociation(x.ctx, &sdk.DeleteSharedTrustStoreAssociationInput{TrustStoreArn: &arn, ResourceArn: &listener})
	denied(t, "the association is the account's own", err, "DeleteAssociationSameAccount", 400, "")
	_, err = x.DeleteSharedTrustStoreAssociation(x.ctx, &sdk.DeleteSharedTrustStoreAssociationInput{TrustStoreArn: &arn, ResourceArn: api.Ptr(listener + "0")})
	denied(t, "no association", err, "AssociationNotFound", 400, "")
	_, err = x.GetResourcePolicy(x.ctx, &sdk.GetResourcePolicyInput{ResourceArn: &arn})
	denied(t, "a policy", err, "ResourceNotFound", 400, "")
	if _, err := x.DeleteListener(x.ctx, &sdk.DeleteListenerInput{ListenerArn: &listener}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.DeleteTrustStore(x.ctx, &sdk.DeleteTrustStoreInput{TrustStoreArn: &arn}); err != nil {
		t.Fatal(err)
	}
	_, err = x.DeleteTrustStore(x.ctx, &sdk.DeleteTrustStoreInput{TrustStoreArn: &arn})
	denied(t, "delete again", err, "TrustStoreNotFound", 400, "")
	if code, _ := fetch(t, *crl.Location); code != 404 {
		t.Errorf("a list that is gone: its location answers %d", code)
	}
	for r := range balance.Revocations.All(x.s.DB.Read()) {
		t.Errorf("the list %d was left behind", r.ID)
	}
}

func TestBundlesThatAreRefused(t *testing.T) {
	x := serve(t)
	good := newAuthority(t, "good", nil).pem()
	plain := newAuthority(t, "plain", func(c *x509.Certificate) { c.IsCA = false }).pem()
	long := newAuthority(t, "long", func(c *x509.Certificate) { c.Subject.Organization = []string{strings.Repeat("x", 17<<10)} }).pem()
	var many []byte
	for i := range 26 {
		many = append(many, newAuthority(t, fmt.Sprint("ca", i), nil).pem()...)
	}
	for _, c := range []struct {
		name    string
		content []byte
		text    string
	}{
		{"empty", nil, "holds no PEM certificate"},
		{"text", []byte("hello"), "holds no PEM certificate"},
		{"a torn block", good[:len(good)-40], "not PEM"},
		{"no certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "cannot be read"},
		{"a key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "'PRIVATE KEY'"},
		{"no authority", append(bytes.Clone(good), plain...), "is not a certificate authority"},
		{"a large certificate", long, "larger than 16384 bytes"},
		{"too many", many, "The maximum is 25"},
		{"too large", bytes.Repeat([]byte("#\n"), balance.MaxBundle), "larger than"},
	} {
		x.object("certs", "bundle", c.content)
		_, err := x.CreateTrustStore(x.ctx, &sdk.CreateTrustStoreInput{Name: api.Ptr("bad"), CaCertificatesBundleS3Bucket: api.Ptr("certs"), CaCertificatesBundleS3Key: api.Ptr("bundle")})
		denied(t, c.name, err, "InvalidCaCertificatesBundle", 400, c.text)
	}
}
