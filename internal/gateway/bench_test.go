package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// BenchmarkRequest is the cost of everything around a handler: parsing, proof of the signature, decoding, encoding, log.
func BenchmarkRequest(b *testing.B) {
	h := serve(whoami(services()), nil)
	r := httptest.NewRequest("POST", "http://127.0.0.1:4566/", nil)
	r.RemoteAddr = "127.0.0.1:5000"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.URL.Host = r.Host
	sum := sha256.Sum256([]byte(whoamiForm))
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "skerry", SecretAccessKey: "skerry"}, r, hex.EncodeToString(sum[:]), "sts", "eu-west-1", now); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r := r.Clone(context.Background())
		r.Body = readCloser{bytes.NewReader([]byte(whoamiForm))}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != 200 {
			b.Fatalf("%d %s", w.Code, w.Body)
		}
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
