package zone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry/internal/fabric"
	"skerry/internal/require"
)

// The tests with packets run in a process of their own whose "host" is a fresh network namespace with its own /run: they
// touch nothing of the machine, and the end of the process removes whatever they forgot. A third kind of process is the
// zone's own, so that it can be killed.
const (
	inWorld = "SKERRY_ZONE_TEST_WORLD"
	asZone  = "SKERRY_ZONE_TEST_DIR"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asZone) != "":
		err := Run(context.Background(), Options{DataDir: os.Getenv(asZone), CloudID: "z1", Zone: "us-east-1a", TimeScale: 20, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		fmt.Fprintln(os.Stderr, "zone:", err)
		os.Exit(1)
	case os.Geteuid() != 0:
		os.Exit(m.Run()) // the ones that need it say so
	case os.Getenv(inWorld) == "":
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), inWorld+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(max(exit.ExitCode(), 1))
		} else if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	lo, e := netlink.LinkByName("lo")
	if err = errors.Join(err, e); err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		fmt.Println("test world:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// instanceNS makes an instance's network namespace as a driver does: of a user namespace, nothing in it configured.
func instanceNS(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat") // waits for the end of its input
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1 << 20, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: ids, GidMappings: ids}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = unix.Mount(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), path, "", unix.MS_BIND, "")
	in.Close()
	cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// zoneWorld is a VPC with two instances and two load-balancer nodes, and the zone's process.
type zoneWorld struct {
	t              *testing.T
	dir            string
	vpcNS          string
	client, server string // namespaces of the instances
	c              *Client
	proc           *exec.Cmd
	alb, nlb       netip.Addr
	hits           atomic.Int32
	sick           atomic.Bool
}

func newZoneWorld(t *testing.T) *zoneWorld {
	t.Helper()
	if os.Getenv(inWorld) == "" {
		require.That(t, "root", errors.New("packet-level tests run in a host's namespace of their own"))
	}
	w := &zoneWorld{t: t, dir: t.TempDir(), client: instanceNS(t), server: instanceNS(t), alb: netip.MustParseAddr("10.0.0.20"), nlb: netip.MustParseAddr("10.0.0.21")}
	f, err := fabric.New(fabric.Options{CloudID: "z1", PublicPool: netip.MustParsePrefix("127.62.0.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Teardown(context.Background()); err != nil {
			t.Errorf("teardown: %v", err)
		}
	})
	all := fabric.Rule{Proto: "-1", FromPort: -1, ToPort: -1, CIDR: netip.MustParsePrefix("0.0.0.0/0")}
	eni := func(id, ip, ns string) fabric.Interface {
		return fabric.Interface{ID: "eni-" + id, IP: netip.MustParseAddr(ip), SubnetID: "subnet-a", Zone: "us-east-1a", NetNS: ns, Local: ns == "", GroupIDs: []string{"sg-open"}, SourceDestCheck: true}
	}
	v := fabric.VPC{ID: "vpc-1", Index: 1, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
		Subnets:   []fabric.Subnet{{ID: "subnet-a", CIDR: netip.MustParsePrefix("10.0.0.0/24"), Zone: "us-east-1a"}},
		ZonePorts: map[string]uint16{"us-east-1a": 0}, Groups: []fabric.Group{{ID: "sg-open", Ingress: []fabric.Rule{all}, Egress: []fabric.Rule{all}}},
		Interfaces: []fabric.Interface{eni("client", "10.0.0.10", w.client), eni("server", "10.0.0.11", w.server), eni("alb", w.alb.String(), ""), eni("nlb", w.nlb.String(), "")}}
	if err := f.Apply(context.Background(), v); err != nil {
		t.Fatal(err)
	}
	w.vpcNS = f.VPCNamespace("vpc-1")
	l, err := fabric.ListenIn(w.server, "tcp4", "10.0.0.11:8080")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.UserAgent() == checkAgent {
			if w.hits.Add(1); w.sick.Load() {
				rw.WriteHeader(500)
			}
			return
		}
		fmt.Fprintf(rw, "hello from %s to %s", r.Host, r.RemoteAddr)
	})}
	go web.Serve(l)
	t.Cleanup(func() { web.Close() })
	w.c = NewClient(w.dir, "us-east-1a")
	w.start()
	t.Cleanup(w.kill)
	return w
}

// start runs the zone's process.
func (w *zoneWorld) start() {
	w.t.Helper()
	w.proc = exec.Command("/proc/self/exe")
	w.proc.Env = append(os.Environ(), asZone+"="+w.dir)
	w.proc.Stderr = os.Stderr
	w.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := w.proc.Start(); err != nil {
		w.t.Fatal(err)
	}
	until(w.t, "the zone's process answers", func() bool { return w.c.Healthy(context.Background()) })
}

func (w *zoneWorld) kill() {
	if w.proc != nil {
		w.proc.Process.Kill()
		w.proc.Wait()
		w.proc = nil
	}
}

// http asks from inside an instance.
func (w *zoneWorld) http(ns, method, url string, headers ...string) (int, string, error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return fabric.DialIn(ctx, ns, "tcp4", addr)
	}}
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func (w *zoneWorld) dns(name string) []string {
	w.t.Helper()
	conn, err := fabric.DialIn(context.Background(), w.client, "udp4", "10.0.0.2:53")
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	dc := &dns.Conn{Conn: conn}
	if err := dc.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
		w.t.Fatal(err)
	}
	m, err := dc.ReadMsg()
	if err != nil {
		w.t.Fatalf("dns %s: %v", name, err)
	}
	var out []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			out = append(out, a.A.String())
		}
	}
	return out
}

func (w *zoneWorld) desired() Desired {
	in := testInstance("i-client", "10.0.0.10")
	in.Options = MetadataOptions{TokensRequired: true, HopLimit: 3}
	forward := func(group string) []Action {
		return []Action{{Type: "forward", Forward: []Weighted{{GroupARN: group, Weight: 1}}}}
	}
	group := func(arn, protocol string, node netip.Addr) TargetGroup {
		return TargetGroup{ARN: arn, Name: "targetgroup/" + arn + "/1", Protocol: protocol, VPC: "vpc-1", Namespace: w.vpcNS, NodeIP: node, Type: "instance",
			Attributes: map[string]string{"preserve_client_ip.enabled": "true"},
			Check:      HealthCheck{Enabled: true, Protocol: "HTTP", Port: "traffic-port", Path: "/", Interval: 5, Timeout: 2, Healthy: 2, Unhealthy: 2, Matcher: "200"},
			Targets:    []Target{{ID: "i-server", Port: 8080, IP: netip.MustParseAddr("10.0.0.11"), Zone: "us-east-1a", Registered: 1}}}
	}
	return Desired{Zone: "us-east-1a", APIName: "api.skerry.internal",
		VPCs:      []VPC{{ID: "vpc-1", Namespace: w.vpcNS, Region: "us-east-1", CIDR: netip.MustParsePrefix("10.0.0.0/16"), DNSSupport: true}},
		Instances: []Instance{*in},
		Hosts:     []Host{{VPC: "vpc-1", IP: netip.MustParseAddr("10.0.0.11"), Name: "ip-10-0-0-11.ec2.internal"}},
		Names:     []Name{{Name: "web-1.us-east-1.elb.amazonaws.com", VPC: "vpc-1", Addrs: []netip.Addr{w.alb}}},
		Balancers: []Balancer{
			{ARN: "alb", Name: "app/web/1", Type: "application", VPC: "vpc-1", Namespace: w.vpcNS, NodeIP: w.alb, Listeners: []Listener{{ARN: "l1", Protocol: "HTTP", Port: 80, Default: forward("g-http")}}},
			{ARN: "nlb", Name: "net/web/1", Type: "network", VPC: "vpc-1", Namespace: w.vpcNS, NodeIP: w.nlb, Listeners: []Listener{{ARN: "l2", Protocol: "TCP", Port: 81, Default: forward("g-tcp")}}},
		},
		Groups: []TargetGroup{group("g-http", "HTTP", w.alb), group("g-tcp", "TCP", w.nlb)},
	}.Seal()
}

// answered tells whether a URL is served through a load balancer, and by which client address the target knows it.
func (w *zoneWorld) answered(url string) (bool, string) {
	status, body, err := w.http(w.client, "GET", url)
	_, peer, ok := strings.Cut(body, " to ")
	host, _, _ := strings.Cut(peer, ":")
	return err == nil && status == 200 && ok, host
}

func TestAZoneServesItsInstances(t *testing.T) {
	w := newZoneWorld(t)
	ctx := context.Background()
	if err := w.c.Push(ctx, w.desired()); err != nil {
		t.Fatal(err)
	}
	r, err := w.c.Report(ctx)
	if err != nil || len(r.Problems) > 0 {
		t.Fatalf("report: %+v, %v", r, err)
	}
	const md = "http://169.254.169.254/latest/"
	w.metadata(t, md)
	if got := w.dns("ip-10-0-0-11.ec2.internal."); len(got) != 1 || got[0] != "10.0.0.11" {
		t.Errorf("an instance's name: %v", got)
	}
	if got := w.dns("web-1.us-east-1.elb.amazonaws.com."); len(got) != 1 || got[0] != w.alb.String() {
		t.Errorf("a load balancer's name: %v", got)
	}
	until(t, "both target groups are healthy", func() bool {
		r, _ = w.c.Report(ctx)
		n := 0
		for _, h := range r.Health {
			if h.State == Healthy {
				n++
			}
		}
		return n == 2
	})
	albURL, nlbURL := "http://"+w.alb.String()+"/", "http://"+w.nlb.String()+":81/"
	if ok, peer := w.answered(albURL); !ok || peer != w.alb.String() {
		t.Errorf("through the application load balancer: %v, the target sees %s", ok, peer)
	}
	if ok, peer := w.answered(nlbURL); !ok || peer != "10.0.0.10" {
		t.Errorf("through the network load balancer: %v, the target sees %s", ok, peer)
	}
	if r, err = w.c.Report(ctx); err != nil || len(r.Stats) != 2 || r.Stats[0].Counters["RequestCount"] != 1 || r.Stats[0].Groups["g-http"].Latency.Count != 1 {
		t.Errorf("counters: %+v, %v", r.Stats, err)
	}

	w.kill()
	if ok, _ := w.answered(nlbURL); !ok {
		t.Error("the kernel's load balancer needs the zone's process")
	}
	w.start() // nobody tells it anything
	w.metadata(t, md)
	until(t, "the application load balancer serves again", func() bool { ok, _ := w.answered(albURL); return ok })

	w.sick.Store(true)
	until(t, "the target is found unhealthy", func() bool {
		r, _ = w.c.Report(ctx)
		return len(r.Health) == 2 && r.Health[0].State == Unhealthy && r.Health[0].Description == "Health checks failed with these codes: [500]"
	})
}

// metadata takes a session and uses it, and looks at the packets of the answers on the way.
func (w *zoneWorld) metadata(t *testing.T, md string) {
	t.Helper()
	ttls := captureTTL(t, w.client)
	if status, _, err := w.http(w.client, "GET", md+"meta-data/instance-id"); err != nil || status != 401 {
		t.Errorf("without a token: %d, %v", status, err)
	}
	if status, _, err := w.http(w.server, "GET", md+"meta-data/instance-id"); err != nil || status != 404 {
		t.Errorf("an instance that the zone does not know: %d, %v", status, err)
	}
	status, token, err := w.http(w.client, "PUT", md+"api/token", tokenTTLHeader, "60")
	if err != nil || status != 200 {
		t.Fatalf("token: %d %q, %v", status, token, err)
	}
	if got := ttls(); got[3] == 0 {
		t.Errorf("no packet of the answer had the hop limit of 3: %v", got)
	}
	ttls = captureTTL(t, w.client)
	status, id, err := w.http(w.client, "GET", md+"meta-data/instance-id", tokenHeader, token)
	if err != nil || status != 200 || id != "i-client" {
		t.Errorf("with the token: %d %q, %v", status, id, err)
	}
	if got := ttls(); got[3] != 0 || len(got) == 0 {
		t.Errorf("the hop limit is for tokens only: %v", got)
	}
}

// captureTTL counts the TTLs of packets from the metadata address that arrive in a namespace, until it is called.
func captureTTL(t *testing.T, ns string) func() map[int]int {
	t.Helper()
	var fd int
	err := fabric.InNamespace(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(unix.ETH_P_IP>>8|unix.ETH_P_IP<<8&0xff00))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() map[int]int {
		defer unix.Close(fd)
		out := map[int]int{}
		b := make([]byte, 2048)
		for {
			n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
			if err != nil {
				return out
			}
			if n >= 20 && netip.AddrFrom4([4]byte(b[12:16])) == fabric.IMDSAddr {
				out[int(b[8])]++
			}
		}
	}
}

// TestFlowsByWeight: real connections go to a listener's groups by their weights, in the kernel and, where the groups differ,
// through the process.
func TestFlowsByWeight(t *testing.T) {
	w := newZoneWorld(t)
	l, err := fabric.ListenIn(w.server, "tcp4", "10.0.0.11:8081")
	if err != nil {
		t.Fatal(err)
	}
	second := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprintf(rw, "second to %s", r.RemoteAddr) })}
	go second.Serve(l)
	t.Cleanup(func() { second.Close() })
	ctx := context.Background()
	d := w.desired()
	g := d.Groups[1]
	g.ARN, g.Attributes = "g-second", map[string]string{"preserve_client_ip.enabled": "true"}
	g.Targets = []Target{{ID: "i-server", Port: 8081, IP: netip.MustParseAddr("10.0.0.11"), Zone: "us-east-1a", Registered: 1}}
	d.Groups = append(d.Groups, g)
	d.Balancers[1].Listeners[0].Default[0].Forward = []Weighted{{GroupARN: "g-tcp", Weight: 3}, {GroupARN: "g-second", Weight: 1}}
	push := func() {
		t.Helper()
		if err := w.c.Push(ctx, d.Seal()); err != nil {
			t.Fatal(err)
		}
		until(t, "the groups are healthy", func() bool {
			r, _ := w.c.Report(ctx)
			n := 0
			for _, h := range r.Health {
				if h.State == Healthy {
					n++
				}
			}
			return n == 3
		})
	}
	const flows = 120
	count := func() (first, second int, peers map[string]bool) {
		peers = map[string]bool{}
		for range flows {
			_, body, err := w.http(w.client, "GET", "http://"+w.nlb.String()+":81/")
			if err != nil {
				t.Fatal(err)
			}
			who, peer, _ := strings.Cut(body, " to ")
			host, _, _ := strings.Cut(peer, ":")
			if who == "second" {
				second++
				host += " second"
			} else {
				first++
			}
			peers[host] = true
		}
		return first, second, peers
	}
	push()
	if first, second, peers := count(); first+second != flows || second < flows/10 || second > flows*45/100 || len(peers) != 2 || !peers["10.0.0.10"] {
		t.Errorf("in the kernel, 3 to 1: %d and %d, seen as %v", first, second, peers)
	}
	d.Groups[2].Attributes = map[string]string{"preserve_client_ip.enabled": "false"}
	push()
	if first, second, peers := count(); first+second != flows || second < flows/10 || second > flows*45/100 || !peers["10.0.0.10"] || !peers[w.nlb.String()+" second"] {
		t.Errorf("through the process, 3 to 1: %d and %d, seen as %v", first, second, peers)
	}
	d.Balancers[1].Listeners[0].Default[0].Forward[0].Weight = 0
	push()
	if first, second, _ := count(); first != 0 || second != flows {
		t.Errorf("all to the second: %d and %d", first, second)
	}
}
