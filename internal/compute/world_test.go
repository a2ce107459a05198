package compute

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// world is a store in memory in virtual time with a default VPC and one image.
type world struct {
	*testing.T
	db  *store.DB
	s   scope.Scope
	ami string
	now atomic.Int64 // seconds
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, s: scope.Scope{Account: "000000000000", Region: "eu-west-1"}}
	w.now.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Unix())
	db, err := store.Open("", store.Options{Clock: func() time.Time { return time.Unix(w.now.Load(), 0).UTC() }, Rand: rand.NewChaCha8([32]byte{1})})
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	w.write(func(tx *store.WriteTx) error {
		if err := network.SetPublicPool(tx, netip.MustParsePrefix("127.99.0.0/16")); err != nil {
			return err
		}
		SetHost(tx, Host{VCPU: 4, MemoryMiB: 8192, Architectures: []string{"x86_64"}})
		w.ami = PutImage(tx, Image{Name: "nano", Layers: []string{"/nano"}}).ID
		if _, err := identity.CreateInstanceProfile(tx, w.s.Account, "web", "/", nil); err != nil {
			return err
		}
		return network.EnsureDefaultVPC(tx, w.s)
	})
	return w
}

func (w *world) write(fn func(*store.WriteTx) error) {
	w.Helper()
	if err := w.db.Update(fn); err != nil {
		w.Fatal(err)
	}
}

func (w *world) pass(d time.Duration) { w.now.Add(int64(d / time.Second)) }

// try launches and returns the error too.
func (w *world) try(n int, spec LaunchSpec, change ...func(*LaunchParams)) ([]Instance, error) {
	if spec.ImageID == "" {
		spec.ImageID = w.ami
	}
	p := LaunchParams{Scope: w.s, Spec: spec, MinCount: n, MaxCount: n}
	for _, f := range change {
		f(&p)
	}
	var out []Instance
	err := w.db.Update(func(tx *store.WriteTx) error {
		r, err := Launch(tx, p)
		if err == nil {
			out = r.Instances
		}
		return err
	})
	return out, err
}

func (w *world) launch(n int, spec LaunchSpec, change ...func(*LaunchParams)) []Instance {
	w.Helper()
	out, err := w.try(n, spec, change...)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) get(id string) Instance {
	w.Helper()
	i, err := GetInstance(w.db.Read(), w.s, id)
	if err != nil {
		w.Fatal(err)
	}
	return i
}

func code(err error) string {
	if err == nil {
		return ""
	}
	if f, ok := fault.As(err); ok {
		return f.Code
	}
	return err.Error()
}

func (w *world) wants(what string, err error, want string) {
	w.Helper()
	if code(err) != want {
		w.Errorf("%s: %v, want %q", what, err, want)
	}
}

func ptr[T any](v T) *T { return &v }
