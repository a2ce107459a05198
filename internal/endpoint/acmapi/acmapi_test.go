package acmapi_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/acm/types"
	"github.com/aws/smithy-go"

	"skerry/api"
	apiacm "skerry/api/acm"
	"skerry/internal/awsclient"
	"skerry/internal/endpoint/acmapi"
	"skerry/internal/gateway"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// issue makes a certificate for a name and its key, signed by another or by itself.
func issue(t *testing.T, name string, key, signer any, parent *x509.Certificate) (cert *x509.Certificate, certPEM, keyPEM []byte) {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if parent == nil {
		parent = tmpl
	}
	var pub any
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		pub = &k.PublicKey
	case *rsa.PrivateKey:
		pub = &k.PublicKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

func TestCertificates(t *testing.T) {
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var users []string
	m := api.NewMux(&apiacm.Service)
	(&acmapi.Server{UsedBy: func(store.Tx, scope.Scope, string) []string { return users }}).Register(m)
	srv := httptest.NewServer(gateway.New(gateway.Options{Mux: m, DB: db, Credentials: func(id string, r *http.Request) (gateway.Credential, error) { return gateway.WellKnown(id, r) }}))
	t.Cleanup(func() { srv.Close(); db.Close() })
	c := acm.NewFromConfig(awsclient.Config(srv.URL, "eu-west-1", "skerry", "skerry", ""))
	ctx := context.Background()

	caKey, key := ecKey(t), ecKey(t)
	ca, caPEM, _ := issue(t, "ca.test", caKey, caKey, nil)
	_, certPEM, keyPEM := issue(t, "www.test", key, caKey, ca)
	in := &acm.ImportCertificateInput{Certificate: certPEM, PrivateKey: keyPEM, CertificateChain: caPEM, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}
	made, err := c.ImportCertificate(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	arn := made.CertificateArn
	if !strings.HasPrefix(*arn, "arn:aws:acm:eu-west-1:000000000000:certificate/") {
		t.Errorf("the ARN is %s", *arn)
	}
	_, err = c.UpdateCertificateOptions(ctx, &acm.UpdateCertificateOptionsInput{CertificateArn: arn, Options: &types.CertificateOptions{Export: types.CertificateExportEnabled}})
	if ae := (smithy.APIError)(nil); !errors.As(err, &ae) || ae.ErrorCode() != "InvalidStateException" {
		t.Errorf("an imported one made exportable: %v", err)
	}
	d, err := c.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: arn})
	if err != nil {
		t.Fatal(err)
	}
	if x := d.Certificate; *x.DomainName != "www.test" || x.Status != types.CertificateStatusIssued || x.Type != types.CertificateTypeImported || x.KeyAlgorithm != "EC_prime256v1" ||
		*x.Issuer != "ca.test" || x.RenewalEligibility != types.RenewalEligibilityIneligible || len(x.InUseBy) != 0 {
		t.Errorf("described %+v", x)
	}
	got, err := c.GetCertificate(ctx, &acm.GetCertificateInput{CertificateArn: arn})
	if err != nil || *got.Certificate != string(certPEM) || *got.CertificateChain != string(caPEM) {
		t.Errorf("got %+v, %v", got, err)
	}

	// A re-import keeps the ARN and takes no tags.
	in.CertificateArn = arn
	_, err = c.ImportCertificate(ctx, in)
	refused(t, err, "ValidationException", "re-import")
	in.Tags = nil
	if again, err := c.ImportCertificate(ctx, in); err != nil || *again.CertificateArn != *arn {
		t.Errorf("imported again: %+v %v", again, err)
	}
	_, err = c.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: certPEM, PrivateKey: keyPEM, CertificateChain: certPEM})
	refused(t, err, "ValidationException", "certificate chain")
	_, other, _ := issue(t, "other.test", caKey, caKey, nil)
	_, err = c.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: other, PrivateKey: keyPEM})
	refused(t, err, "ValidationException", "do not match")
	_, err = c.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: bytes.Repeat([]byte("x"), 100), PrivateKey: keyPEM})
	refused(t, err, "ValidationException", "certificate is not valid")

	// Two RSA certificates, which alone are listed without a filter, in pages and in the order of their coming.
	var arns []string
	for _, n := range []string{"r1.test", "r2.test"} {
		rk, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		_, cp, kp := issue(t, n, rk, rk, nil)
		r, err := c.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: cp, PrivateKey: kp})
		if err != nil {
			t.Fatal(err)
		}
		arns = append(arns, *r.CertificateArn)
	}
	var listed []string
	ps := acm.NewListCertificatesPaginator(c, &acm.ListCertificatesInput{MaxItems: aws.Int32(1), SortBy: types.SortByCreatedAt, SortOrder: types.SortOrderDescending})
	for n := 0; ps.HasMorePages() && n < 5; n++ {
		page, err := ps.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range page.CertificateSummaryList {
			listed = append(listed, *x.CertificateArn)
		}
	}
	if len(listed) != 2 || listed[0] != arns[1] || listed[1] != arns[0] {
		t.Errorf("listed %v, want %v backwards", listed, arns)
	}
	ec, err := c.ListCertificates(ctx, &acm.ListCertificatesInput{Includes: &types.Filters{KeyTypes: []types.KeyAlgorithm{types.KeyAlgorithmEcPrime256v1}}})
	if err != nil || len(ec.CertificateSummaryList) != 1 || *ec.CertificateSummaryList[0].DomainName != "www.test" {
		t.Errorf("with EC keys: %+v %v", ec, err)
	}

	tag := []types.Tag{{Key: aws.String("x"), Value: aws.String("y")}}
	if _, err := c.AddTagsToCertificate(ctx, &acm.AddTagsToCertificateInput{CertificateArn: arn, Tags: tag}); err != nil {
		t.Fatal(err)
	}
	if ts, err := c.ListTagsForCertificate(ctx, &acm.ListTagsForCertificateInput{CertificateArn: arn}); err != nil || len(ts.Tags) != 2 {
		t.Errorf("tags: %+v %v", ts, err)
	}
	if _, err := c.RemoveTagsFromCertificate(ctx, &acm.RemoveTagsFromCertificateInput{CertificateArn: arn, Tags: tag}); err != nil {
		t.Fatal(err)
	}
	if ts, err := c.ListTagsForCertificate(ctx, &acm.ListTagsForCertificateInput{CertificateArn: arn}); err != nil || len(ts.Tags) != 1 {
		t.Errorf("tags after removing one: %+v %v", ts, err)
	}

	users = []string{"arn:aws:elasticloadbalancing:eu-west-1:000000000000:loadbalancer/app/a/1"}
	_, err = c.DeleteCertificate(ctx, &acm.DeleteCertificateInput{CertificateArn: arn})
	refused(t, err, "ResourceInUseException", "is in use")
	if d, err := c.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: arn}); err != nil || len(d.Certificate.InUseBy) != 1 {
		t.Errorf("in use by %+v %v", d, err)
	}
	users = nil
	if _, err := c.DeleteCertificate(ctx, &acm.DeleteCertificateInput{CertificateArn: arn}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: arn})
	refused(t, err, "ResourceNotFoundException", "Could not find certificate")
	_, err = c.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: aws.String("arn:aws:iam::000000000000:role/web-role-x")})
	refused(t, err, "ValidationException", "certificateArn")
}
