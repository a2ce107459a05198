package elbapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/smithy-go"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/awsclient"
	"skerry/internal/bucket"
	"skerry/internal/gateway"
	"skerry/internal/store"
)

// served is a cloud behind the gateway, with the SDK's client for it.
type served struct {
	*cloud
	*sdk.Client
	ctx context.Context
	url string
	dir string // of the buckets
}

func serve(t *testing.T) *served {
	t.Helper()
	t.Parallel()
	return serveWith(t, store.Options{})
}

func serveWith(t *testing.T, o store.Options) *served {
	t.Helper()
	x := &served{cloud: newCloudWith(t, o), ctx: context.Background(), dir: t.TempDir()}
	x.s.Buckets, x.s.Contents = bucket.Dir(x.dir), NewContents(x.s.DB, nil)
	m := api.NewMux(&elbv2.Service)
	x.s.Register(m)
	h := gateway.New(gateway.Options{Mux: m, DB: x.s.DB, Credentials: gateway.WellKnown})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == ContentPath {
			x.s.Contents.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	x.url = srv.URL
	x.Client = sdk.NewFromConfig(awsclient.Config(x.url, home.Region, "skerry", "skerry", ""))
	return x
}

// object puts an object into a bucket.
func (x *served) object(bucket, key string, content []byte) {
	x.t.Helper()
	p := filepath.Join(x.dir, bucket, key)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		x.t.Fatal(err)
	}
	if err := os.WriteFile(p, content, 0o644); err != nil {
		x.t.Fatal(err)
	}
}

// denied checks the code, HTTP status and a part of the message of an error that a client got.
func denied(t *testing.T, what string, err error, code string, status int, text string) {
	t.Helper()
	var ae smithy.APIError
	var re *awshttp.ResponseError
	if !errors.As(err, &ae) || !errors.As(err, &re) {
		t.Errorf("%s: got %v, want %s", what, err, code)
	} else if ae.ErrorCode() != code || re.HTTPStatusCode() != status || !strings.Contains(ae.ErrorMessage(), text) {
		t.Errorf("%s: got %s %d %q, want %s %d %q", what, ae.ErrorCode(), re.HTTPStatusCode(), ae.ErrorMessage(), code, status, text)
	}
}
