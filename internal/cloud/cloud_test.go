package cloud

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"skerry/internal/compute"
	"skerry/internal/fabric"
	"skerry/internal/network"
	"skerry/internal/require"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/zone"
)

// TestMain lets the test binary be a zone's data plane, as bin/skerry is.
func TestMain(m *testing.M) {
	if len(os.Args) == 8 && os.Args[1] == "zone" { // zone --data-dir D --zone Z --time-scale N
		err := zone.Run(context.Background(), zone.Options{DataDir: os.Args[3], CloudID: ID(os.Args[3]), Zone: os.Args[5], TimeScale: 20,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// needRoot skips a test that needs namespaces where there are none to be had.
func needRoot(t *testing.T) {
	t.Helper()
	require.That(t, "root", missing())
}

// startCloud runs a cloud of the test's own and takes it down at its end.
func startCloud(t *testing.T, pool string) (c *control, url string) {
	t.Helper()
	dir := t.TempDir()
	ready := make(chan string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log, err := os.Create(dir + "/test.log")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{DataDir: dir, Listen: "127.0.0.1:0", PublicPool: netip.MustParsePrefix(pool), Driver: "container", TimeScale: 20, Ephemeral: true,
		Ready: func(u string) { ready <- u }, Log: slog.New(slog.NewTextHandler(log, nil))}
	o.started = func(x *control) { c = x }
	go func() { done <- Run(ctx, o) }()
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(dir + "/test.log")
			t.Logf("%s", b[max(0, len(b)-20000):])
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case url = <-ready:
		return c, url
	case err := <-done:
		done <- nil
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	return nil, ""
}

// patience is how long a test waits for what should come at once, on whatever machine.
const patience = time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}

var here = scope.Scope{Account: "000000000000", Region: "us-east-1"}

func TestInstanceFromRecordToPacketsAndBack(t *testing.T) {
	needRoot(t)
	c, _ := startCloud(t, "127.81.0.0/16")
	var id string
	start := time.Now()
	err := c.db.Update(func(w *store.WriteTx) error {
		if err := network.EnsureDefaultVPC(w, here); err != nil {
			return err
		}
		v, _ := network.DefaultVPC(w, here)
		if _, err := network.Authorize(w, here, v.DefaultGroupID, []network.Rule{{Protocol: "tcp", FromPort: 80, ToPort: 80, CIDRv4: "0.0.0.0/0"}}); err != nil {
			return err
		}
		img := ""
		for i := range compute.Images.All(w) {
			img = i.ID
		}
		r, err := compute.Launch(w, compute.LaunchParams{Scope: here, MinCount: 1, MaxCount: 1, Spec: compute.LaunchSpec{ImageID: img, InstanceType: "t2.micro",
			UserData: base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho hello from $(hostname)\nmkdir /srv; echo served >/srv/index.html; httpd -p 80 -h /srv\n"))}})
		if err == nil {
			id = r.Instances[0].ID
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func() compute.Instance {
		i, _ := compute.Instances.Get(c.db.Read(), here.Key(id))
		return i
	}
	eventually(t, "running", func() bool { return get().State == compute.Running })
	t.Logf("running after %s", time.Since(start))
	t.Cleanup(func() {
		b, _ := c.console(context.Background(), id)
		t.Logf("console: %s", b)
	})
	eventually(t, "user data ran", func() bool {
		b, _ := c.driver.Console(context.Background(), id)
		return strings.Contains(string(b), "hello from ip-172-31-")
	})
	t.Logf("user data after %s", time.Since(start))
	public := get().PublicIP
	eventually(t, "its web server answers on "+public, func() bool {
		conn, err := net.DialTimeout("tcp", public+":80", time.Second)
		if err != nil {
			return false
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /index.html HTTP/1.0\r\n\r\n")
		b := make([]byte, 1024)
		n := 0
		for n < len(b) {
			m, err := conn.Read(b[n:])
			n += m
			if err != nil {
				break
			}
		}
		return strings.Contains(string(b[:n]), "served")
	})
	if conn, err := net.DialTimeout("tcp", public+":22", 500*time.Millisecond); err == nil {
		conn.Close()
		t.Error("port 22 is open though no rule says so")
	}
	// Its status checks pass until its interface is down.
	eth0 := func(change func(netlink.Link) error) {
		t.Helper()
		if err := fabric.InNamespace(c.networks.netNS(id), func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return change(l)
		}); err != nil {
			t.Fatal(err)
		}
		c.checkInstances(context.Background())
	}
	eth0(func(netlink.Link) error { return nil })
	if k := get().Checks; k != (compute.Checks{}) {
		t.Errorf("checks %+v", k)
	}
	eth0(netlink.LinkSetDown)
	if k := get().Checks; k.Instance.IsZero() || !k.System.IsZero() {
		t.Errorf("with its interface down: checks %+v", k)
	}
	eth0(netlink.LinkSetUp)
	if k := get().Checks; k != (compute.Checks{}) {
		t.Errorf("with its interface up again: checks %+v", k)
	}
	if err := c.db.Update(func(w *store.WriteTx) error { _, err := compute.Terminate(w, here, []string{id}); return err }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "terminated", func() bool { return get().State == compute.Terminated })
	if b, err := c.console(context.Background(), id); err != nil || !strings.Contains(string(b), "hello from ip-172-31-") || !strings.Contains(string(b), "goes down") {
		t.Errorf("its console after its end: %v %s", err, b)
	}
	c.sweepConsoles(time.Now())
	if _, err := c.console(context.Background(), id); err != nil {
		t.Errorf("its console is gone at once: %v", err)
	}
	c.sweepConsoles(time.Now().Add(compute.VisibleFor + time.Minute))
	if _, err := c.console(context.Background(), id); err == nil {
		t.Error("its console is kept longer than it is described")
	}
}
