package ec2api

import (
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/awsclient"
	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/gateway"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// cloud is EC2's API over a store in memory, in virtual time, without anything behind it.
type cloud struct { // copied to speak for another scope

	t     *testing.T
	db    *store.DB
	s     *Server
	mux   *api.Mux
	scope scope.Scope
	now   *atomic.Int64 // seconds
	ami   string
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t, now: new(atomic.Int64), scope: scope.Scope{Account: "000000000000", Region: "us-east-1"}}
	c.now.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Unix())
	db, err := store.Open("", store.Options{Clock: func() time.Time { return time.Unix(c.now.Load(), 0).UTC() }, Rand: rand.NewChaCha8([32]byte{7})})
	if err != nil {
		t.Fatal(err)
	}
	c.db, c.s, c.mux = db, &Server{DB: db}, api.NewMux(&ec2.Service)
	c.s.Register(c.mux)
	c.write(func(w *store.WriteTx) error {
		if err := network.SetPublicPool(w, netip.MustParsePrefix("127.99.0.0/16")); err != nil {
			return err
		}
		compute.SetHost(w, compute.Host{VCPU: 4, MemoryMiB: 16384, Architectures: []string{"x86_64"}})
		c.ami = compute.PutImage(w, compute.Image{Name: "skerry-nano-1", Layers: []string{"/images/nano"}}).ID
		return network.EnsureDefaultVPC(w, c.scope)
	})
	return c
}

func (c *cloud) write(fn func(*store.WriteTx) error) {
	c.t.Helper()
	if err := c.db.Update(fn); err != nil {
		c.t.Fatal(err)
	}
}

// call runs an operation through its typed handler.
func call[In, Out any](c *cloud, op api.Op[In, Out], in In) (*Out, error) {
	h := c.mux.Lookup(op.Service, op.Name)
	if h == nil {
		c.t.Fatalf("no handler for %s", op.Name)
	}
	out, err := h.Run(&api.Call{Ctx: context.Background(), Account: c.scope.Account, Region: c.scope.Region, DB: c.db, Now: time.Unix(c.now.Load(), 0).UTC(), Authorize: func(string, string) error { return nil }}, &in)
	if err != nil {
		return nil, err
	}
	return out.(*Out), nil
}

// must is call without an error.
func must[In, Out any](c *cloud, op api.Op[In, Out], in In) *Out {
	c.t.Helper()
	out, err := call(c, op, in)
	if err != nil {
		c.t.Fatalf("%s: %v", op.Name, err)
	}
	return out
}

// fails is call with an error of the code.
func fails[In, Out any](c *cloud, op api.Op[In, Out], in In, code string) *fault.Error {
	c.t.Helper()
	_, err := call(c, op, in)
	f, ok := fault.As(err)
	if !ok || f.Code != code {
		c.t.Errorf("%s: %v, want %s", op.Name, err, code)
		return &fault.Error{}
	}
	return f
}

// client serves the API over HTTP and returns the SDK's client. It may retry: on a busy machine the reply can arrive before
// the SDK's transport has noticed that its request is written, and the SDK then drops the connection.
func (c *cloud) client() *sdk.Client {
	srv := httptest.NewServer(gateway.New(gateway.Options{Mux: c.mux, DB: c.db, Credentials: gateway.WellKnown}))
	c.t.Cleanup(srv.Close)
	return sdk.NewFromConfig(awsclient.Config(srv.URL, c.scope.Region, "skerry", "skerry", ""))
}

func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// settle does what the reconciler does: everything that is on its way arrives.
func (c *cloud) settle() {
	c.t.Helper()
	c.write(func(w *store.WriteTx) error {
		for i := range compute.Instances.All(w) {
			switch i.State {
			case compute.Pending:
				compute.MarkRunning(w, i.Scope, i.ID)
			case compute.Stopping:
				compute.MarkStopped(w, i.Scope, i.ID)
			case compute.ShuttingDown:
				compute.MarkTerminated(w, i.Scope, i.ID)
			}
		}
		return nil
	})
}

func (c *cloud) run(n int32, change ...func(*ec2.RunInstancesRequest)) []ec2.Instance {
	c.t.Helper()
	in := ec2.RunInstancesRequest{ImageId: &c.ami, MinCount: &n, MaxCount: &n, InstanceType: ptr("t2.nano")}
	for _, f := range change {
		f(&in)
	}
	return must(c, ec2.RunInstances, in).Instances
}

func (c *cloud) instance(id string) ec2.Instance {
	c.t.Helper()
	return must(c, ec2.DescribeInstances, ec2.DescribeInstancesRequest{InstanceIds: []string{id}}).Reservations[0].Instances[0]
}

func b64(s string) *string { return ptr(base64.StdEncoding.EncodeToString([]byte(s))) }

// storeTags is the ids of the resources that have tags.
func storeTags(c *cloud) map[string]bool {
	out := map[string]bool{}
	for t := range tag.Tags.All(c.db.Read()) {
		out[t.ResourceID] = true
	}
	return out
}
