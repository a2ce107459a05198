package cloud

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"skerry/internal/fabric"
	"skerry/internal/network"
	"skerry/internal/reconcile"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/zone"
)

// fakeZone answers as a zone's data plane does, and hands over what it is told; with hangs, it takes requests and says nothing.
func fakeZone(t *testing.T, dir, z string, hangs bool) chan zone.Desired {
	t.Helper()
	told := make(chan zone.Desired, 16)
	path := zone.SocketPath(dir, z)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthy":
		case hangs, r.URL.Query().Has("since") && r.URL.Query().Get("since") != "0":
			<-r.Context().Done()
		case r.URL.Path == "/report":
			json.NewEncoder(w).Encode(zone.Report{Boot: z, Version: 1})
		default:
			var d zone.Desired
			if json.NewDecoder(r.Body).Decode(&d) == nil {
				told <- d
			}
		}
	})}
	go srv.Serve(lis)
	t.Cleanup(func() { srv.Close() })
	return told
}

// A data plane that hangs keeps the control plane from no other: not from telling it what changes, and not from its counters.
func TestHungZone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fakeZone(t, dir, "us-east-1a", true)
	told := fakeZone(t, dir, "us-east-1b", false)

	ctx, cancel := context.WithCancel(t.Context())
	c := &control{db: db, log: slog.New(slog.NewTextHandler(t.Output(), nil)), clock: time.Now, o: Options{TimeScale: 10}, fabric: &fabric.Fabric{}}
	c.sessions = &sessions{c: c}
	c.plans = reconcile.NewCoalescer(c.syncZone)
	// As far as the supervisor knows, no zone has power: it starts nothing, and looks at nothing.
	if c.zones, err = newSupervisor(ctx, dir, 1, func(string) bool { return true }, c.log); err != nil {
		t.Fatal(err)
	}
	for _, z := range []string{"us-east-1a", "us-east-1b"} {
		close(c.zones.proc(z).ready)
	}
	var vpc network.VPC
	err = db.Update(func(w *store.WriteTx) (err error) {
		sc := scope.Scope{Account: "000000000000", Region: "us-east-1"}
		if vpc, err = network.CreateVPC(w, sc, network.VPCParams{CIDR: "10.0.0.0/16"}); err != nil {
			return err
		}
		for i, z := range []string{"us-east-1a", "us-east-1b"} {
			s, err := network.CreateSubnet(w, sc, network.SubnetParams{VpcID: vpc.ID, CIDR: []string{"10.0.0.0/24", "10.0.1.0/24"}[i], AvailabilityZone: z})
			if err != nil {
				return err
			}
			if _, err := network.AllocateENI(w, sc, network.ENIParams{SubnetID: s.ID}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); c.runZones(ctx) }()
	defer func() { cancel(); <-done; c.zones.wg.Wait() }()

	next := func() zone.Desired {
		t.Helper()
		select {
		case d := <-told:
			return d
		case <-time.After(patience):
			t.Fatal("the zone that answers was told nothing")
		}
		panic("unreachable")
	}
	first := next()
	if len(first.VPCs) != 1 {
		t.Fatalf("told %+v", first)
	}
	if err := db.Update(func(w *store.WriteTx) error {
		vpc.EnableDNSHostnames = true
		network.VPCs.Put(w, vpc)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for d := next(); !d.VPCs[0].DNSHostname; d = next() { // the first may come twice: the data plane has a new life
	}
	start := time.Now()
	p := &publisher{c: c, zones: map[string]zone.Report{}}
	got := p.reports(ctx, []string{"us-east-1a", "us-east-1b"})
	if took := time.Since(start); len(got) != 1 || got["us-east-1b"].Boot != "us-east-1b" || took > 2*p.every() {
		t.Errorf("reports %v after %v", got, took)
	}
}
