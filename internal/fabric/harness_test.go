package fabric

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/require"
)

// The packet-level tests run in a process of their own whose "host" is a fresh network namespace with its own /run: they
// touch nothing of the machine, and the end of the process removes whatever they forgot.
const inWorld = "SKERRY_FABRIC_TEST_WORLD"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // the ones that need it say so
	}
	if os.Getenv(inWorld) == "" {
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
	if os.Getenv(victim) != "" {
		applyAsVictim()
		os.Exit(0)
	}
	if spec := os.Getenv(serveFor); spec != "" {
		serveElsewhere(spec)
		os.Exit(0)
	}
	for _, err := range []error{
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, ""),
		func() error {
			h, err := handle()
			if err != nil {
				return err
			}
			defer h.Close()
			lo, err := h.LinkByName("lo")
			if err != nil {
				return err
			}
			return h.LinkSetUp(lo)
		}(),
	} {
		if err != nil {
			fmt.Println("test world:", err)
			os.Exit(1)
		}
	}
	flag.Parse()
	flag.Set("test.parallel", "12") // they mostly wait for packets that should not come
	os.Exit(m.Run())
}

func needWorld(t testing.TB) {
	t.Helper()
	if os.Getenv(inWorld) == "" {
		require.That(t, "root", errors.New("packet-level tests run in a host's namespace of their own"))
	}
}

var worlds atomic.Uint32

// world is one cloud's fabric on the test's host.
type world struct {
	t    testing.TB
	ctx  context.Context
	f    *Fabric
	pool netip.Prefix
}

func newWorld(t testing.TB, egress bool) *world {
	needWorld(t)
	n := worlds.Add(1)
	w := &world{t: t, ctx: context.Background(), pool: netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 61, byte(n), 0}), 24)}
	w.f = w.open(fmt.Sprintf("t%d", n), egress)
	t.Cleanup(func() {
		if err := w.f.Teardown(w.ctx); err != nil {
			t.Errorf("teardown: %v", err)
		}
	})
	return w
}

// open makes a fabric for the same cloud, as a restarted process does.
func (w *world) open(id string, egress bool) *Fabric {
	w.t.Helper()
	f, err := New(Options{CloudID: id, PublicPool: w.pool, Egress: egress})
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) restart() {
	w.t.Helper()
	w.f = w.open(w.f.o.CloudID, w.f.o.Egress)
}

func (w *world) apply(v VPC) {
	w.t.Helper()
	if err := w.f.Apply(w.ctx, v); err != nil {
		w.t.Fatal(err)
	}
}

// public is the n-th address of the pool.
func (w *world) public(n byte) netip.Addr {
	a := w.pool.Addr().As4()
	a[3] = n
	return netip.AddrFrom4(a)
}

// namespace makes an instance's network namespace as the container driver does: it belongs to a user namespace of the
// instance, and nothing in it is configured.
func namespace(t testing.TB) string {
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

// twoZones is a VPC of two zones: subnet-a routes to the internet gateway, subnet-b does not.
func twoZones(id string, index uint32) VPC {
	return VPC{
		ID: id, Index: index, CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}, HasIGW: true,
		Subnets: []Subnet{
			{ID: "subnet-a", CIDR: netip.MustParsePrefix("10.0.0.0/24"), Zone: "a", RouteToIGW: true},
			{ID: "subnet-b", CIDR: netip.MustParsePrefix("10.0.1.0/24"), Zone: "b"},
		},
		ZonePorts: map[string]uint16{"a": 0, "b": 1},
		Groups: []Group{
			{ID: "sg-open", Ingress: []Rule{anywhere("-1", -1, -1)}, Egress: []Rule{anywhere("-1", -1, -1)}},
			{ID: "sg-closed"},
			{ID: "sg-out", Egress: []Rule{anywhere("-1", -1, -1)}},
			{ID: "sg-web", Ingress: []Rule{anywhere("tcp", 80, 80)}, Egress: []Rule{anywhere("-1", -1, -1)}},
		},
	}
}

func anywhere(proto string, from, to int) Rule {
	return Rule{Proto: proto, FromPort: from, ToPort: to, CIDR: netip.MustParsePrefix("0.0.0.0/0")}
}

func instance(t testing.TB, id, ip, subnet string, groups ...string) Interface {
	t.Helper()
	return Interface{ID: "eni-" + id, IP: netip.MustParseAddr(ip), SubnetID: "subnet-" + subnet, Zone: subnet, NetNS: namespace(t), GroupIDs: groups, SourceDestCheck: true}
}

func node(id, ip, subnet string, groups ...string) Interface {
	return Interface{ID: "eni-" + id, IP: netip.MustParseAddr(ip), SubnetID: "subnet-" + subnet, Zone: subnet, Local: true, GroupIDs: groups, SourceDestCheck: true}
}

// serve answers every TCP connection to addr in ns with a line "name client-address"; what a client sends comes back.
func serve(t testing.TB, ns, addr, name string) {
	t.Helper()
	l, err := ListenIn(ns, "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go answer(l, name)
}

func answer(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintf(c, "%s %s\n", name, host)
			buf := make([]byte, 64)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				c.Write(buf[:n])
			}
		}()
	}
}

// serveFor makes this program a server of other processes' tests: namespaces and addresses, as many as there are words for
// pairs. It ends with its standard input.
const serveFor = "SKERRY_FABRIC_SERVE"

func serveElsewhere(spec string) {
	f := strings.Fields(spec)
	for i := 0; i+1 < len(f); i += 2 {
		l, err := ListenIn(f[i], "tcp4", f[i+1])
		if err != nil {
			fmt.Println(err)
			return
		}
		go answer(l, fmt.Sprintf("t%d", i/2))
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// patience is how long a packet that should not arrive is waited for.
const patience = 200 * time.Millisecond

func dial(ns, addr string) (net.Conn, string, error) {
	d := 20 * time.Second
	return dialFor(d, ns, addr)
}

func dialFor(d time.Duration, ns, addr string) (net.Conn, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	c, err := DialIn(ctx, ns, "tcp4", addr)
	if err != nil {
		return nil, "", err
	}
	line, err := readLine(c, d)
	return c, line, err
}

func readLine(c net.Conn, d time.Duration) (string, error) {
	c.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	return strings.TrimSpace(string(buf[:n])), err
}

// reaches fails unless a server at addr answers ns with a line that begins with want.
func reaches(t testing.TB, ns, addr, want string) {
	t.Helper()
	c, line, err := dial(ns, addr)
	if err != nil {
		t.Errorf("%s: %v; wanted an answer of %q", addr, err, want)
		return
	}
	c.Close()
	if !strings.HasPrefix(line, want) {
		t.Errorf("%s answered %q, wanted %q", addr, line, want)
	}
}

// blocked fails if a server at addr answers.
func blocked(t testing.TB, ns, addr, why string) {
	t.Helper()
	if c, line, err := dialFor(patience, ns, addr); err == nil {
		c.Close()
		t.Errorf("%s answered %q although %s", addr, line, why)
	}
}
