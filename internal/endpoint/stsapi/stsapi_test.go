package stsapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"skerry/api"
	apists "skerry/api/sts"
	"skerry/internal/access"
	"skerry/internal/awsclient"
	"skerry/internal/endpoint/stsapi"
	"skerry/internal/gateway"
	"skerry/internal/identity"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// cloud is STS behind a real gateway, with a function that makes clients of a key.
func newCloud(t *testing.T) (*store.DB, func(id, secret, token string) *sts.Client) {
	t.Helper()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := api.NewMux(&apists.Service)
	(&stsapi.Server{DB: db}).Register(m)
	srv := httptest.NewServer(gateway.New(gateway.Options{Mux: m, DB: db,
		Credentials: func(id string, r *http.Request) (gateway.Credential, error) {
			k, err := identity.Lookup(db.Read(), id)
			if err == nil {
				return gateway.Credential{AccessKeyID: id, Secret: k.Secret, SessionToken: k.SessionToken, Principal: api.Principal(k.Principal)}, nil
			}
			if id == "skerry" {
				return gateway.WellKnown(id, r)
			}
			return gateway.Credential{}, err
		},
		Permit: (&access.Checker{DB: db}).Permit, Authorize: (&access.Checker{DB: db}).Authorize}))
	t.Cleanup(func() { srv.Close(); db.Close() })
	return db, func(id, secret, token string) *sts.Client {
		return sts.NewFromConfig(awsclient.Config(srv.URL, "eu-west-1", id, secret, token))
	}
}

func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code || !strings.Contains(e.ErrorMessage(), text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

// TestInstanceRole is what a client inside an instance does with the credentials of the metadata service.
func TestInstanceRole(t *testing.T) {
	t.Parallel()
	db, client := newCloud(t)
	const account = "000000000000"
	var c identity.Credentials
	err := db.Update(func(w *store.WriteTx) (err error) {
		if _, err = identity.CreateRole(w, account, identity.NewRole{Name: "web", Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`}); err != nil {
			return err
		}
		p, err := identity.CreateInstanceProfile(w, account, "web", "", nil)
		if err != nil {
			return err
		}
		if err := identity.AddRole(w, account, "web", "web"); err != nil {
			return err
		}
		c, err = identity.InstanceCredentials(w, scope.Scope{Account: account, Region: "eu-west-1"}, "i-0123456789abcdef0", p.ARN())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	who, err := client(c.AccessKeyID, c.Secret, c.SessionToken).GetCallerIdentity(context.Background(), nil)
	if err != nil || *who.Arn != "arn:aws:sts::000000000000:assumed-role/web/i-0123456789abcdef0" || !strings.HasPrefix(*who.UserId, "AROA") || !strings.HasSuffix(*who.UserId, ":i-0123456789abcdef0") {
		t.Errorf("who: %+v %v", who, err)
	}
	_, err = client(c.AccessKeyID, c.Secret, "").GetCallerIdentity(context.Background(), nil)
	refused(t, err, "InvalidClientTokenId", "invalid")
	_, err = client(c.AccessKeyID, c.Secret, c.SessionToken).GetSessionToken(context.Background(), nil)
	refused(t, err, "AccessDenied", "Cannot call GetSessionToken with session credentials")
	_, err = client("ASIAUNKNOWN234567ABC", "x", "y").GetCallerIdentity(context.Background(), nil)
	refused(t, err, "InvalidClientTokenId", "invalid")
}

func TestRootSession(t *testing.T) {
	t.Parallel()
	_, client := newCloud(t)
	root := client("skerry", "skerry", "")
	got, err := root.GetSessionToken(context.Background(), &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(7200)})
	if err != nil {
		t.Fatal(err)
	}
	if life := time.Until(*got.Credentials.Expiration); life > time.Hour || life < 58*time.Minute {
		t.Errorf("a session of root lives %v, want an hour at most", life)
	}
	c := got.Credentials
	if who, err := client(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken).GetCallerIdentity(context.Background(), nil); err != nil || *who.Arn != "arn:aws:iam::000000000000:root" {
		t.Errorf("who: %+v %v", who, err)
	}
	_, err = root.GetSessionToken(context.Background(), &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(60)})
	refused(t, err, "ValidationError", "durationSeconds")
	info, err := root.GetAccessKeyInfo(context.Background(), &sts.GetAccessKeyInfoInput{AccessKeyId: c.AccessKeyId})
	if err != nil || *info.Account != "000000000000" {
		t.Errorf("the account of the key: %+v %v", info, err)
	}
	_, err = root.GetAccessKeyInfo(context.Background(), &sts.GetAccessKeyInfoInput{AccessKeyId: aws.String("BKIA0000000000000000")})
	refused(t, err, "ValidationError", "")
}
