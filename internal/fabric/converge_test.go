package fabric

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"skerry/internal/require"
)

// carrier is what the kernel settles in its own time.
var carrier = regexp.MustCompile(`<[^>]*>|state (UP|DOWN|UNKNOWN|LOWERLAYERDOWN)`)

// state is everything that a fabric could have left in a namespace, without counters.
func state(t testing.TB, ns string) string {
	t.Helper()
	var out []string
	for _, args := range [][]string{{"nft", "list", "ruleset"}, {"ip", "-o", "link"}, {"ip", "-o", "-4", "addr"}, {"ip", "-4", "route", "show", "table", "all"}, {"ip", "-4", "neigh", "show", "nud", "permanent"}} {
		for line := range strings.Lines(inNS(t, ns, args...)) {
			if !strings.HasPrefix(line, "broadcast") && !strings.Contains(line, "fe80") {
				out = append(out, carrier.ReplaceAllString(line, ""))
			}
		}
	}
	return strings.Join(out, "")
}

func TestApplyAgainChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-open"), instance(t, "b", "10.0.1.10", "b", "sg-web")
	a.PublicIP = w.public(5)
	v.Interfaces = []Interface{a, b, node("lb", "10.0.0.20", "a", "sg-web")}
	w.apply(v)
	serve(t, b.NetNS, "10.0.1.10:80", "b")
	c, _, err := dial(a.NetNS, "10.0.1.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ns := w.f.VPCNamespace("vpc-1")
	before := [2]string{state(t, ns), state(t, a.NetNS)}
	w.apply(v)
	w.restart()
	w.apply(v) // also by a process that remembers nothing
	if after := [2]string{state(t, ns), state(t, a.NetNS)}; after != before {
		t.Errorf("state changed:\n%s", cmp.Diff(before, after))
	}
	echoes(t, c, "after three applies")
}

// Every point at which a process could have been killed leaves some of the things below undone or half done.
func TestApplyConvergesFromAnyHalfDoneState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-open"), instance(t, "b", "10.0.1.10", "b", "sg-web")
	a.PublicIP = w.public(5)
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	serve(t, b.NetNS, "0.0.0.0:80", "b")
	serve(t, a.NetNS, "0.0.0.0:80", "a")
	ns := w.f.VPCNamespace("vpc-1")
	host := gatewayName(w.f.o.CloudID, 1)
	sh := func(ns, line string) { inNS(t, ns, "sh", "-c", line) }
	for name, damage := range map[string]func(){
		"nothing but the namespace": func() {
			sh(ns, "nft flush ruleset; ip link del igw; ip link del ea; ip link del eb; ip addr flush dev lo")
		},
		"no rules":                      func() { sh(ns, "nft flush ruleset") },
		"the file but no namespace":     func() { w.f.Remove(w.ctx, "vpc-1"); os.WriteFile(ns, nil, 0o444) },
		"no host table":                 func() { sh("", "nft delete table "+hostTable(w.f.o.CloudID)) },
		"no host route":                 func() { sh("", "ip route flush dev "+host) },
		"a gateway that is down":        func() { sh("", "ip link set "+host+" down") },
		"a link not configured":         func() { sh(ns, "ip addr flush dev ea; ip route flush dev ea; ip link set ea down") },
		"an instance's end not touched": func() { sh(a.NetNS, "ip addr flush dev eth0; ip link set eth0 down; ip link set lo down") },
		"a link of nobody": func() {
			sh(ns, "ip link add eghost type veth peer name x; ip route add 10.0.0.77/32 dev eghost || true")
		},
		"a foreign eth0": func() { sh(ns, "ip link del ea"); sh(a.NetNS, "ip link add eth0 type veth peer name x") },
	} {
		damage()
		w.restart() // the process that did it is gone
		w.apply(v)
		t.Log(name)
		reaches(t, a.NetNS, "10.0.1.10:80", "b 10.0.0.10")
		reaches(t, "", a.PublicIP.String()+":80", "a")
		if links := inNS(t, ns, "ip", "-o", "link"); strings.Contains(links, "eghost") {
			t.Errorf("%s: a stale link stayed", name)
		}
		if t.Failed() {
			t.Fatalf("after %q", name)
		}
	}
}

// victim tells a child process of the test to apply what it holds, and to be killed while it does.
const victim = "SKERRY_FABRIC_TEST_VICTIM"

type victimsWork struct {
	Options Options
	VPC     VPC
}

func applyAsVictim() {
	var work victimsWork
	if err := json.Unmarshal([]byte(os.Getenv(victim)), &work); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	f, err := New(work.Options)
	if err == nil {
		fmt.Println("begin")
		err = f.Apply(context.Background(), work.VPC)
	}
	fmt.Println("end", err)
}

// A process is really killed at many points of a large Apply; the next one finishes the work and leaves no rest.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	for i := range 12 {
		e := instance(t, fmt.Sprintf("k%02d", i), fmt.Sprintf("10.0.0.%d", 10+i), "a", "sg-web")
		e.PublicIP = w.public(byte(10 + i))
		v.Interfaces = append(v.Interfaces, e)
	}
	serveAll := func() {
		for i, e := range v.Interfaces {
			serve(t, e.NetNS, "0.0.0.0:80", fmt.Sprintf("k%02d", i))
		}
	}
	serveAll()
	work, err := json.Marshal(victimsWork{Options{CloudID: w.f.o.CloudID, PublicPool: w.pool}, v})
	if err != nil {
		t.Fatal(err)
	}
	cut := 0
	for _, after := range []time.Duration{0, 2, 5, 9, 14, 20, 27, 35} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), victim+"="+string(work))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		if !said.Scan() || said.Text() != "begin" {
			t.Fatalf("the victim said %q", said.Text())
		}
		time.Sleep(after * time.Millisecond) // not synchronisation: where it is hit is left to chance
		cmd.Process.Kill()
		if !said.Scan() {
			cut++
		}
		cmd.Wait()
		w.restart()
		w.apply(v)
		for _, i := range []int{0, 5, 11} {
			reaches(t, "", fmt.Sprintf("%v:80", w.public(byte(10+i))), fmt.Sprintf("k%02d", i))
			reaches(t, v.Interfaces[(i+1)%12].NetNS, fmt.Sprintf("10.0.0.%d:80", 10+i), fmt.Sprintf("k%02d", i))
		}
		if t.Failed() {
			t.Fatalf("after a kill at %d ms", after)
		}
		if err := w.f.Remove(w.ctx, v.ID); err != nil { // the next victim starts with nothing
			t.Fatal(err)
		}
	}
	t.Logf("%d of 8 were hit before they had ended", cut)
	if cut == 0 {
		t.Error("no process was killed in time: the test shows nothing")
	}
}

func TestHealAfterAFirewallReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a := instance(t, "a", "10.0.0.10", "a", "sg-web")
	a.PublicIP = w.public(5)
	v.Interfaces = []Interface{a}
	w.apply(v)
	serve(t, a.NetNS, "10.0.0.10:80", "a")
	if healed, err := w.f.Heal(w.ctx); healed || err != nil {
		t.Errorf("Heal with nothing broken: %v, %v", healed, err)
	}
	inNS(t, "", "nft", "delete", "table", "inet", "skerry-"+w.f.o.CloudID)
	if healed, err := w.f.Heal(w.ctx); !healed || err != nil {
		t.Errorf("Heal: %v, %v", healed, err)
	}
	reaches(t, "", w.public(5).String()+":80", "a")
}

// A control plane that starts again may apply before it has found its instances.
func TestUnknownPlaceKeepsTheLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-open"), instance(t, "b", "10.0.1.10", "b", "sg-web")
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	serve(t, b.NetNS, "10.0.1.10:80", "b")
	c, _, err := dial(a.NetNS, "10.0.1.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.restart()
	v.Interfaces[1].NetNS = ""
	w.apply(v)
	echoes(t, c, "after a restart without knowing the namespace")
	v.Interfaces[1].NetNS = b.NetNS
	w.apply(v)
	echoes(t, c, "when it was known again")
}

func TestInstanceThatComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-open"), instance(t, "b", "10.0.1.10", "b", "sg-web")
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	// b's namespace vanishes with everything in it, and Apply has nowhere to plug it in
	if err := unix.Unmount(b.NetNS, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	v.Interfaces[0].GroupIDs = []string{"sg-out"}
	if err := w.f.Apply(w.ctx, v); err == nil || !strings.Contains(err.Error(), "eni-b") {
		t.Errorf("Apply with a namespace that is gone: %v; wanted an error that names the interface", err)
	}
	// it starts again
	b.NetNS = namespace(t)
	v.Interfaces[1].NetNS = b.NetNS
	w.apply(v)
	serve(t, b.NetNS, "10.0.1.10:80", "b")
	reaches(t, a.NetNS, "10.0.1.10:80", "b")

	// another one gets its address: at once, and without its connections
	c, _, err := dial(a.NetNS, "10.0.1.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	heir := instance(t, "heir", "10.0.1.10", "b", "sg-web")
	v.Interfaces[1] = heir
	w.apply(v)
	serve(t, heir.NetNS, "10.0.1.10:80", "heir")
	start := time.Now()
	reaches(t, a.NetNS, "10.0.1.10:80", "heir")
	if d := time.Since(start); d > 4*time.Second { // two SYNs may be lost while the link comes up; a neighbour entry of the former owner would take longer
		t.Errorf("the new owner of an address answered after %v", d)
	}
	if flows := inNS(t, w.f.VPCNamespace("vpc-1"), "cat", "/proc/net/nf_conntrack"); strings.Count(flows, "dport=80") > 1 {
		t.Errorf("connections of the former owner are left:\n%s", flows)
	}
}

func TestTeardownLeavesNothing(t *testing.T) {
	needWorld(t)
	before := state(t, "")
	func() {
		w := newWorld(t, false)
		one, two := twoZones("vpc-1", 1), twoZones("vpc-2", 2)
		a := instance(t, "a", "10.0.0.10", "a", "sg-open")
		a.PublicIP = w.public(5)
		one.Interfaces = []Interface{a}
		w.apply(one)
		w.apply(two)
		if ids, err := w.f.List(w.ctx); err != nil || strings.Join(ids, " ") != "vpc-1 vpc-2" {
			t.Errorf("List: %v, %v", ids, err)
		}
		if err := w.f.Remove(w.ctx, "vpc-2"); err != nil {
			t.Fatal(err)
		}
		if err := w.f.Remove(w.ctx, "vpc-2"); err != nil {
			t.Errorf("Remove again: %v", err)
		}
		if links := inNS(t, "", "ip", "-o", "link"); strings.Contains(links, gatewayName(w.f.o.CloudID, 2)) {
			t.Errorf("a removed VPC's gateway is left:\n%s", links)
		}
		w.restart()
		if err := w.f.Teardown(w.ctx); err != nil {
			t.Fatal(err)
		}
		if l := inNS(t, a.NetNS, "ip", "-o", "link"); strings.Contains(l, "eth0") {
			t.Error("the instance still has eth0")
		}
		if err := w.f.Teardown(w.ctx); err != nil {
			t.Errorf("Teardown again: %v", err)
		}
		for _, dir := range []string{w.f.o.RunDir, poolsDir + "/" + w.f.o.CloudID} {
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is left", dir)
			}
		}
		if mounts, _ := os.ReadFile("/proc/self/mounts"); strings.Contains(string(mounts), w.f.o.RunDir+"/") {
			t.Error("a mount is left")
		}
	}()
	if after := state(t, ""); after != before {
		t.Errorf("the host is not as before:\n%s", cmp.Diff(before, after))
	}
}

func TestOverlappingPoolsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	w.apply(v)
	for _, pool := range []string{w.pool.String(), "127.61.0.0/16", fmt.Sprintf("127.125.%d.0/25", w.pool.Addr().As4()[2])} {
		if _, err := New(Options{CloudID: "other", PublicPool: netip.MustParsePrefix(pool)}); err == nil || !strings.Contains(err.Error(), "overlaps") {
			t.Errorf("pool %s beside %v: %v, wanted a refusal", pool, w.pool, err)
		}
	}
	if err := w.f.Teardown(w.ctx); err != nil {
		t.Fatal(err)
	}
	f, err := New(Options{CloudID: "other", PublicPool: w.pool})
	if err != nil {
		t.Fatalf("after the teardown of the first the pool should be free: %v", err)
	}
	if err := f.Teardown(w.ctx); err != nil {
		t.Error(err)
	}
}

func TestInterfaceStats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-open"), instance(t, "b", "10.0.1.10", "b", "sg-open")
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	got := udpSink(t, b.NetNS, "10.0.1.10:9")
	text := strings.Repeat("x", 1000)
	for range 20 {
		udpSend(t, a.NetNS, "10.0.0.10:0", "10.0.1.10:9", text)
		<-got
	}
	s, err := w.f.InterfaceStats(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if sent, received := s["eni-a"].TxBytes, s["eni-b"].RxBytes; sent < 20_000 || received < 20_000 || s["eni-a"].TxPackets < 20 {
		t.Errorf("a sent %d bytes, b received %d; wanted more than 20,000 each: %+v", sent, received, s)
	}
}

func TestDialIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a := instance(t, "a", "10.0.0.10", "a", "sg-web")
	v.Interfaces = []Interface{a, node("lb", "10.0.0.20", "a")}
	w.apply(v)
	ns := w.f.VPCNamespace("vpc-1")
	serve(t, a.NetNS, "10.0.0.10:80", "a")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				c, err := DialFrom(w.ctx, ns, netip.MustParseAddr("10.0.0.20"), "tcp", "10.0.0.10:80")
				if err != nil {
					t.Error(err)
					return
				}
				if got := c.RemoteAddr().String(); got != "10.0.0.10:80" {
					t.Errorf("remote address %s", got)
				}
				if line, err := readLine(c, 20*time.Second); line != "a 10.0.0.20" {
					t.Errorf("answer %q, %v", line, err)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := DialIn(ctx, ns, "tcp", "10.0.0.10:81"); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a dropped SYN: %v, wanted a timeout", err)
	}
	if _, err := DialIn(w.ctx, ns, "tcp", "10.0.0.20:81"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a closed port: %v, wanted a refusal", err)
	}
	if _, err := DialIn(w.ctx, ns+"x", "tcp", "10.0.0.20:81"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no namespace: %v", err)
	}
	if _, err := DialIn(w.ctx, ns, "tcp", "10.0.200.1:80"); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("an address that nobody has: %v, wanted no route", err)
	}
	// the namespace is made anew at the same path: the old stock must not be used
	if err := w.f.Remove(w.ctx, "vpc-1"); err != nil {
		t.Fatal(err)
	}
	v.Interfaces[0].NetNS = namespace(t)
	w.apply(v)
	serve(t, v.Interfaces[0].NetNS, "10.0.0.10:80", "again")
	reaches(t, ns, "10.0.0.10:80", "again")
}

func TestListenersShareAPort(t *testing.T) {
	t.Parallel()
	ns := ""
	needWorld(t)
	ns = namespace(t)
	inNS(t, ns, "ip", "link", "set", "lo", "up")
	for range 2 {
		l, err := ListenReusePortIn(ns, "tcp4", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	if _, err := ListenIn(ns, "tcp4", "127.0.0.1:80"); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("without sharing: %v, wanted address in use", err)
	}
	var c net.Conn
	c, err := DialIn(context.Background(), ns, "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// However a function inside a namespace ends, the process's other goroutines stay where they are.
func TestInNamespaceBringsTheThreadBack(t *testing.T) {
	needWorld(t)
	ns := namespace(t)
	own, inside := nsInode("/proc/thread-self/ns/net"), uint64(0)
	for range 50 {
		InNamespace(ns, func() error { inside = nsInode("/proc/thread-self/ns/net"); return errors.New("x") })
	}
	if inside != nsInode(ns) || inside == own {
		t.Errorf("inside %d, wanted %d", inside, nsInode(ns))
	}
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		if i := nsInode("/proc/self/task/" + task.Name() + "/ns/net"); i == inside {
			t.Errorf("thread %s is left in the namespace", task.Name())
		}
	}
}

// A step that became quadratic shows in the processor's time, one that waits for each interface in turn in the time on the
// wall: fifty at once would take as long then as fifty one by one, on whatever machine.
func TestApplyIsQuick(t *testing.T) {
	needWorld(t)
	const n = 50
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	w.apply(v)
	add := func(name string, i int) { // 100 addresses a round
		v.Interfaces = append(v.Interfaces, instance(t, name, fmt.Sprintf("10.0.0.%d", 10+i), "a", "sg-web"))
	}
	var most, one, ratio float64 = 0, 1e9, 1e9
	for round := 0; round < 3 && ratio > 0.8; round++ { // a neighbour's burst may fall into one round
		for i := range n {
			add(fmt.Sprintf("x%02d", i), i)
		}
		start := time.Now()
		most = max(most, require.Spent(t, func() { w.apply(v) }).Seconds())
		fifty := time.Since(start)
		single := time.Duration(0)
		for i := range n {
			add(fmt.Sprintf("y%02d", i), n+i)
			start = time.Now()
			one = min(one, require.Spent(t, func() { w.apply(v) }).Seconds())
			single += time.Since(start)
		}
		ratio = min(ratio, fifty.Seconds()/single.Seconds())
		start = time.Now()
		w.apply(v)
		same := time.Since(start)
		v.Interfaces = nil
		start = time.Now()
		w.apply(v)
		t.Logf("%d interfaces: %v; as many one by one: %v; no change: %v; all removed: %v", n, fifty, single, same, time.Since(start))
	}
	t.Logf("processor time: %d interfaces %.1f ms, one more %.1f ms", n, most*1e3, one*1e3)
	if ratio > 0.8 {
		t.Errorf("%d interfaces take %.2f of the time that they take one by one", n, ratio)
	}
	if most > 0.9 {
		t.Errorf("%d interfaces take %.1f ms of a processor", n, most*1e3)
	}
	if one > 0.03 {
		t.Errorf("one more interface takes %.1f ms of a processor", one*1e3)
	}
}

func BenchmarkDialIn(b *testing.B) {
	needWorld(b)
	ns := namespace(b)
	if out, err := exec.Command("nsenter", "--net="+ns, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		b.Fatal(string(out), err)
	}
	l, err := ListenIn(ns, "tcp4", "127.0.0.1:80")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	for b.Loop() {
		c, err := DialIn(context.Background(), ns, "tcp", "127.0.0.1:80")
		if err != nil {
			b.Fatal(err)
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
