package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

var here = scope.Scope{Account: "000000000000", Region: "us-east-1"}

func pair(t *testing.T, key crypto.Signer, until time.Duration) (certPEM, keyPEM []byte) {
	t.Helper()
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(0xabcd), Subject: pkix.Name{CommonName: "a.test"}, DNSNames: []string{"a.test", "*.a.test"}, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(until)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})
}

func ec(t *testing.T) crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestImport(t *testing.T) {
	cert, key := pair(t, ec(t), time.Hour)
	_, otherKey := pair(t, ec(t), time.Hour)
	old, oldKey := pair(t, ec(t), -time.Hour)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	edCert, edKey := pair(t, ed, time.Hour)
	unrelated, _ := pair(t, ec(t), time.Hour)
	for _, tt := range []struct {
		name string
		p    Params
		want string // part of the message, "" for success
	}{
		{"fits", Params{Certificate: cert, Key: key}, ""},
		{"a chain that did not sign it", Params{Certificate: cert, Key: key, Chain: unrelated}, "certificate chain"},
		{"another certificate's key", Params{Certificate: cert, Key: otherKey}, "do not match"},
		{"expired", Params{Certificate: old, Key: oldKey}, "not valid now"},
		{"two certificates", Params{Certificate: append(append([]byte{}, cert...), cert...), Key: key}, "more than one certificate"},
		{"no PEM", Params{Certificate: []byte("hello"), Key: key}, "not valid"},
		{"ed25519", Params{Certificate: edCert, Key: edKey}, "not supported"},
		{"too long", Params{Certificate: make([]byte, maxCertificate+1), Key: key}, "longer"},
		{"reserved tag", Params{Certificate: cert, Key: key, Tags: map[string]string{"aws:x": "y"}}, "aws:"},
		{"re-import of nothing", Params{Certificate: cert, Key: key, ARN: here.ARN("acm", "certificate/nope")}, "Could not find"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, err := store.Open("", store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			var c Certificate
			err = db.Update(func(w *store.WriteTx) (err error) { c, err = Import(w, here, tt.p); return err })
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if c.DomainName != "a.test" || c.KeyAlgorithm != "EC_prime256v1" || c.Serial != "ab:cd" || c.SignatureAlgo != "SHA256WITHECDSA" || !strings.HasPrefix(c.ARN, "arn:aws:acm:us-east-1:000000000000:certificate/") {
					t.Errorf("read %+v", c)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			n := 0
			for range Certificates.All(db.Read()) {
				n++
			}
			if n != 0 {
				t.Errorf("a refused import left %d records", n)
			}
		})
	}
}

func TestDeleteInUse(t *testing.T) {
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	cert, key := pair(t, ec(t), time.Hour)
	var c Certificate
	if err := db.Update(func(w *store.WriteTx) (err error) {
		c, err = Import(w, here, Params{Certificate: cert, Key: key})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	del := func(usedBy ...string) error {
		return db.Update(func(w *store.WriteTx) error { return Delete(w, here, c.ARN, usedBy) })
	}
	if err := del("arn:listener"); !fault.Is(err, fault.Conflict) {
		t.Errorf("deleting a certificate in use: %v", err)
	}
	if err := del(); err != nil {
		t.Error(err)
	}
	if err := del(); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleting it again: %v", err)
	}
}
