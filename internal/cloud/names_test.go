package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/balance"
	"skerry/internal/network"
	"skerry/internal/store"
)

// balancer makes a load balancer in the first n default subnets.
func balancer(t *testing.T, db *store.DB, name, scheme string, n int) (lb balance.LoadBalancer) {
	t.Helper()
	err := db.Update(func(w *store.WriteTx) (err error) {
		if err := network.EnsureDefaultVPC(w, here); err != nil {
			return err
		}
		p := balance.LoadBalancerParams{Name: name, Type: balance.Network, Scheme: scheme}
		for s := range network.Subnets.All(w) {
			if len(p.Subnets) < n {
				p.Subnets = append(p.Subnets, balance.SubnetMapping{SubnetID: s.ID})
			}
		}
		lb, err = balance.CreateLoadBalancer(w, here, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lb
}

func TestFrontsFollowLoadBalancers(t *testing.T) {
	t.Parallel()
	db, err := store.Open("", store.Options{Rand: rand.NewChaCha8([32]byte{5})})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	setPool := func(p string) error {
		return db.Update(func(w *store.WriteTx) error { return network.SetPublicPool(w, netip.MustParsePrefix(p)) })
	}
	if err := setPool("127.81.0.0/28"); err != nil { // 13 addresses
		t.Fatal(err)
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var fronts map[netip.Addr][]netip.Addr
	var fail error
	var log bytes.Buffer
	n := &names{c: &control{db: db, id: "test", log: slog.New(slog.NewTextHandler(&log, nil))}, hosts: hosts,
		setFronts: func(_ context.Context, m map[netip.Addr][]netip.Addr) error { fronts = m; return fail }}
	step := func(ok bool) {
		t.Helper()
		if got := n.step(t.Context()); got != ok {
			t.Fatalf("step: %v\n%s", got, log.String())
		}
	}
	count := func() (c int) {
		for range network.Fronts(db.Read()) {
			c++
		}
		return c
	}
	lines := func() string { b, _ := os.ReadFile(hosts); return string(b) }

	two := balancer(t, db, "two", balance.InternetFacing, 2)
	one := balancer(t, db, "one", balance.InternetFacing, 1)
	inner := balancer(t, db, "inner", balance.Internal, 2)
	step(true)
	f, ok := network.Front(db.Read(), two.ARN)
	if !ok || count() != 1 {
		t.Fatalf("%d fronts; of the one with two nodes: %+v", count(), f)
	}
	a, b := netip.MustParseAddr(two.Nodes[0].PublicIP), netip.MustParseAddr(two.Nodes[1].PublicIP)
	if want := map[netip.Addr][]netip.Addr{netip.MustParseAddr(f.IP): {a, b}}; !reflect.DeepEqual(fronts, want) {
		t.Errorf("fronts %v, wanted %v", fronts, want)
	}
	name := balance.NameOf(db.Read(), two).Name
	want := fmt.Sprintf("127.0.0.1 localhost\n# begin skerry test\n%s %s\n%s %s\n%s %s\n%s %s\n# end skerry test\n",
		one.Nodes[0].PublicIP, balance.NameOf(db.Read(), one).Name, f.IP, name, a, name, b, name)
	if got := lines(); got != want {
		t.Errorf("hosts file:\n%s\nwanted\n%s", got, want)
	}
	first := map[netip.Addr]bool{}
	for range 60 { // chance misses one in 10^18
		as, ok := n.lookup(name)
		if !ok || len(as) != 2 || as[0] == as[1] || !slices.Contains([]netip.Addr{a, b}, as[1]) {
			t.Fatalf("DNS answers %v", as)
		}
		first[as[0]] = true
	}
	if !first[a] || !first[b] {
		t.Errorf("DNS answers always begin with the same address: %v", first)
	}

	// a zone's data plane serves alone: only its node stays behind the front
	err = db.Update(func(w *store.WriteTx) error {
		balance.ApplyReport(w, two.Nodes[1].Zone, []string{two.Nodes[1].ENIID}, nil)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	now := balance.NameOf(db.Read(), two).Public
	step(true)
	if got := fronts[netip.MustParseAddr(f.IP)]; !slices.Equal(got, now) {
		t.Errorf("behind the front is %v, the name has %v", got, now)
	}

	// the pool ends: what got no front has its nodes' names
	balancer(t, db, "more", balance.InternetFacing, 2)
	balancer(t, db, "yetmore", balance.InternetFacing, 2)
	var filled int
	for ; ; filled++ {
		if db.Update(func(w *store.WriteTx) error { _, err := network.AllocateAddress(w, here); return err }) != nil {
			break
		}
	}
	step(true)
	step(true)
	if count() != 1 || strings.Count(log.String(), "got no front") != 1 {
		t.Errorf("%d fronts with the pool used up by %d; log:\n%s", count(), filled, log.String())
	}

	// it is deleted: its address is given back when the fabric has let it go, not before
	fail = errors.New("no")
	err = db.Update(func(w *store.WriteTx) error { return balance.DeleteLoadBalancer(w, here, two.ARN) })
	if err != nil {
		t.Fatal(err)
	}
	step(false)
	if _, ok := network.Front(db.Read(), two.ARN); !ok {
		t.Error("the front was given back though the fabric has it still")
	}
	fail = nil
	step(true)
	if _, ok := network.Front(db.Read(), two.ARN); ok || strings.Contains(lines(), name) {
		t.Errorf("the front of a deleted load balancer is left: %v\n%s", ok, lines())
	}
	step(true)
	if count() != 2 {
		t.Errorf("%d fronts when there was room again, wanted 2", count())
	}
	_ = inner
}

// A reader of the hosts file finds the lines of others at any time, and never a broken one.
func TestHostsFileIsWholeForReaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hosts")
	const others = "127.0.0.1 localhost\n10.1.2.3 somebody\n"
	if err := os.WriteFile(path, []byte(others), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { // writes until the reader has seen enough
		r := rand.New(rand.NewPCG(1, 1))
		for ctx.Err() == nil {
			m := map[string][]string{}
			for i := range r.IntN(4) {
				m[fmt.Sprintf("name-%d.test", i)] = []string{"127.81.0.2", "127.81.10.30"}[:1+r.IntN(2)]
			}
			if err := hostsBlock(path, "test", m); err != nil {
				done <- err
				return
			}
		}
		done <- hostsBlock(path, "test", nil)
	}()
	reads := map[string]int{}
	for ctx.Err() == nil {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(b), others) {
			t.Fatalf("a reader found\n%s", b)
		}
		reads[string(b)]++
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != others {
		t.Errorf("in the end it is\n%s", b)
	}
	if len(reads) < 3 {
		t.Errorf("the reader saw only %v", slices.Collect(maps.Keys(reads)))
	}
}

func TestHostsFileIsNotTouchedWithoutAChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hosts")
	m := map[string][]string{"a.test": {"127.81.0.2"}}
	for range 2 {
		if err := hostsBlock(path, "test", m); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := hostsBlock(path, "test", m); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.ModTime().Unix() != 1 {
		t.Errorf("written though nothing changed: %v, %v", st.ModTime(), err)
	}
}
