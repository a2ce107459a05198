package zone

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skerry/internal/fabric"
)

// fakeNet puts every address on loopback: no namespaces, no privileges. A listener's port stays.
type fakeNet struct {
	mu      sync.Mutex
	listen  map[string]string // namespace and address → loopback address
	missing map[string]bool   // namespaces that are not there
	nlb     [][]fabric.NLBService
	counts  map[fabric.NLBKey]fabric.NLBCounts
	active  map[fabric.NLBKey]int
	blocked map[netip.Addr]fabric.Blocked
	cut     []netip.AddrPort
}

func (f *fakeNet) Listen(ns, network, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err == nil {
		f.put(ns+" tcp "+addr, l.Addr().String())
	}
	return l, err
}

func (f *fakeNet) put(k, v string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listen == nil {
		f.listen = map[string]string{}
	}
	f.listen[k] = v
}

func (f *fakeNet) at(k string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listen[k]
}

func (f *fakeNet) ListenPacket(ns, network, addr string) (net.PacketConn, error) {
	return net.ListenPacket("udp4", "127.0.0.1:0")
}

func (f *fakeNet) Dial(ctx context.Context, ns string, local netip.Addr, network, addr string) (net.Conn, error) {
	var d net.Dialer
	if to := f.at(ns + " tcp " + addr); to != "" {
		addr = to
	}
	return d.DialContext(ctx, "tcp4", addr)
}

func (f *fakeNet) Ident(ns string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.missing[ns] {
		return "", errors.New("no namespace")
	}
	return ns, nil
}

func (f *fakeNet) ApplyNLB(_ context.Context, _, _ string, s []fabric.NLBService) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nlb = append(f.nlb, s)
	return nil
}

func (f *fakeNet) lastNLB() []fabric.NLBService {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.nlb) == 0 {
		return nil
	}
	return f.nlb[len(f.nlb)-1]
}

func (f *fakeNet) CutFlows(_ string, cuts []fabric.NLBFlows) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range cuts {
		f.cut = append(f.cut, c.Target)
	}
	return len(cuts), nil
}

func (f *fakeNet) CutOthers(string, fabric.NLBKey, []netip.AddrPort) (int, error) { return 0, nil }

func (f *fakeNet) ReadNLB(string, string) (map[fabric.NLBKey]fabric.NLBCounts, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts), nil
}

func (f *fakeNet) CountFlows(string) (map[fabric.NLBKey]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.active), nil
}

func (f *fakeNet) DialAs(ctx context.Context, ns string, node, _ netip.Addr, addr string) (net.Conn, error) {
	return f.Dial(ctx, ns, node, "tcp4", addr)
}

func (f *fakeNet) ReadBlocked(string) (map[netip.Addr]fabric.Blocked, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.blocked), nil
}

// run starts a zone's process in dir and stops it with the test.
func run(t *testing.T, dir string, n Net) (c *Client, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{DataDir: dir, CloudID: "t", Zone: "us-east-1a", TimeScale: 50, Net: n, Resolver: "127.0.0.1:1"})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	c = NewClient(dir, "us-east-1a")
	until(t, "the zone answers", func() bool { return c.Healthy(ctx) })
	return c, stop
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up: %s", what)
		}
	}
}

// backend is a web server whose status tests choose.
func backend(t *testing.T) (port int, status *atomic.Int32, hits *atomic.Int32) {
	status, hits = &atomic.Int32{}, &atomic.Int32{}
	status.Store(200)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if r.Header.Get("User-Agent") != checkAgent || r.URL.Path != "/health" {
			w.WriteHeader(418)
			return
		}
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(s.Close)
	_, p, _ := net.SplitHostPort(s.Listener.Addr().String())
	port, _ = strconv.Atoi(p)
	return port, status, hits
}

const groupARN = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/web/1"

// desired is a zone with a network load balancer in front of loopback ports.
func desired(ports ...int) Desired {
	d := Desired{Zone: "us-east-1a",
		VPCs: []VPC{{ID: "vpc-1", Namespace: "ns-1", CIDR: netip.MustParsePrefix("10.0.0.0/16"), DNSSupport: true}},
		Balancers: []Balancer{{ARN: "lb", Name: "net/lb/1", Type: "network", VPC: "vpc-1", Namespace: "ns-1", NodeIP: netip.MustParseAddr("10.0.0.9"),
			Listeners: []Listener{{ARN: "l", Protocol: "TCP", Port: 80, Default: []Action{{Type: "forward", Forward: []Weighted{{GroupARN: groupARN, Weight: 1}}}}}}}},
		Groups: []TargetGroup{{ARN: groupARN, Name: "targetgroup/web/1", Protocol: "TCP", VPC: "vpc-1", Namespace: "ns-1",
			Attributes: map[string]string{"preserve_client_ip.enabled": "true"},
			Check:      HealthCheck{Enabled: true, Protocol: "HTTP", Port: "traffic-port", Path: "/health", Interval: 5, Timeout: 2, Healthy: 2, Unhealthy: 2, Matcher: "200"}}},
	}
	for i, p := range ports {
		d.Groups[0].Targets = append(d.Groups[0].Targets, Target{ID: fmt.Sprintf("i-%d", i), Port: p, IP: netip.MustParseAddr("127.0.0.1"), Zone: "us-east-1a", Registered: 1})
	}
	return d.Seal()
}

func TestHealthReachesTheReportAndTheKernel(t *testing.T) {
	n := &fakeNet{}
	c, _ := run(t, t.TempDir(), n)
	ctx := context.Background()
	good, status, _ := backend(t)
	bad, badStatus, _ := backend(t)
	badStatus.Store(503)
	if err := c.Push(ctx, desired(good, bad)); err != nil {
		t.Fatal(err)
	}
	var r Report
	states := func() string {
		var err error
		if r, err = c.Wait(ctx, r); err != nil {
			t.Fatal(err)
		}
		s := ""
		for _, h := range r.Health {
			s += h.State + " " + h.Reason + ";"
		}
		return s
	}
	until(t, "one healthy, one unhealthy", func() bool { return states() == "healthy ;unhealthy Target.ResponseCodeMismatch;" })
	if len(r.Serving) != 1 || r.Applied != desired(good, bad).Version {
		t.Errorf("serving %v, applied %q", r.Serving, r.Applied)
	}
	s := n.lastNLB()
	if len(s) != 1 || len(s[0].Targets) != 2 || int(s[0].Targets[0].Port) != good || s[0].Targets[0].Weight != 1 || s[0].Targets[1].Weight != 0 || !s[0].PreserveClientIP {
		t.Errorf("the kernel got %+v, wanted the healthy target alone", s)
	}
	status.Store(500)
	until(t, "both unhealthy", func() bool {
		return states() == "unhealthy Target.ResponseCodeMismatch;unhealthy Target.ResponseCodeMismatch;"
	})
	if s := n.lastNLB(); len(s[0].Targets) != 2 || s[0].Targets[0].Weight != 1 || s[0].Targets[1].Weight != 1 {
		t.Errorf("no target is healthy, yet not all of them get flows: %+v", s)
	}
	badStatus.Store(200)
	until(t, "the other one recovers", func() bool { return states() == "unhealthy Target.ResponseCodeMismatch;healthy ;" })
	until(t, "flows to the unhealthy one are cut", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return slices.ContainsFunc(n.cut, func(a netip.AddrPort) bool { return int(a.Port()) == good })
	})
}

// The wait for a change must not depend on a polling interval.
func TestAChangeIsHeardAtOnce(t *testing.T) {
	c, _ := run(t, t.TempDir(), &fakeNet{})
	ctx := context.Background()
	port, _, hits := backend(t)
	if err := c.Push(ctx, desired(port)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var r Report
	until(t, "healthy", func() bool {
		r, _ = c.Wait(ctx, r)
		return len(r.Health) == 1 && r.Health[0].State == Healthy
	})
	if d := time.Since(began); d > reportWait/2 {
		t.Errorf("a target that answers was healthy after %v", d)
	}
	if hits.Load() == 0 {
		t.Error("nobody asked the target")
	}
}

func TestARestartedProcessServesWhatItServed(t *testing.T) {
	dir, n := t.TempDir(), &fakeNet{}
	c, stop := run(t, dir, n)
	ctx := context.Background()
	port, _, _ := backend(t)
	d := desired(port)
	if err := c.Push(ctx, d); err != nil {
		t.Fatal(err)
	}
	before, err := c.Report(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	c, _ = run(t, dir, n)
	r, err := c.Report(ctx)
	if err != nil || r.Applied != d.Version || r.Boot == before.Boot || len(r.Serving) != 1 {
		t.Errorf("after the restart: %+v, %v", r, err)
	}
}

func TestWhatCannotBeAppliedIsTriedAgain(t *testing.T) {
	n := &fakeNet{missing: map[string]bool{"ns-1": true}}
	c, _ := run(t, t.TempDir(), n)
	ctx := context.Background()
	if err := c.Push(ctx, desired(1)); err != nil {
		t.Fatalf("a namespace that comes later is no reason to refuse: %v", err)
	}
	r, _ := c.Report(ctx)
	if len(r.Problems) == 0 || len(r.Serving) != 0 {
		t.Errorf("without the namespace: %+v", r)
	}
	n.mu.Lock()
	n.missing = nil
	n.mu.Unlock()
	until(t, "applied", func() bool { r, _ := c.Report(ctx); return len(r.Problems) == 0 && len(r.Serving) == 1 })
}

func TestBadPushesChangeNothing(t *testing.T) {
	dir := t.TempDir()
	c, _ := run(t, dir, &fakeNet{})
	ctx := context.Background()
	d := desired()
	d.Zone = "us-east-1b"
	if err := c.Push(ctx, d); err == nil {
		t.Error("a state for another zone was taken")
	}
	if err := c.do(ctx, http.MethodPut, "/desired", []byte("{"), nil); err == nil {
		t.Error("half a state was taken")
	}
	if _, err := os.Stat(filepath.Join(dir, "zones", "us-east-1a.json")); err == nil {
		t.Error("a refused state was kept")
	}
}

func TestATargetThatComesBackBeginsAnew(t *testing.T) {
	c, _ := run(t, t.TempDir(), &fakeNet{})
	ctx := context.Background()
	port, _, _ := backend(t)
	d := desired(port)
	c.Push(ctx, d)
	var r Report
	until(t, "healthy", func() bool { r, _ = c.Report(ctx); return len(r.Health) == 1 && r.Health[0].State == Healthy })
	since := r.Health[0].Since
	d.Groups[0].Targets[0].Draining = true
	c.Push(ctx, d.Seal())
	if r, _ = c.Report(ctx); len(r.Health) != 0 {
		t.Errorf("a draining target is still observed: %+v", r.Health)
	}
	d.Groups[0].Targets[0].Draining, d.Groups[0].Targets[0].Registered = false, 2
	c.Push(ctx, d.Seal())
	until(t, "healthy again", func() bool { r, _ = c.Report(ctx); return len(r.Health) == 1 && r.Health[0].State == Healthy })
	if !r.Health[0].Since.After(since) {
		t.Error("the health of its first life was kept")
	}
}
