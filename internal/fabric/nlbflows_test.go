package fabric

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// pairs is a server whose connections the test holds: each new one comes out of the channel.
func pairs(t testing.TB, ns, addr string) <-chan net.Conn {
	t.Helper()
	l, err := ListenIn(ns, "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ch := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			ch <- c
		}
	}()
	return ch
}

// pair opens a flow through an NLB and returns both of its ends.
func pair(t testing.TB, ns, addr string, server <-chan net.Conn) (client, target net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client, err := DialIn(ctx, ns, "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	select {
	case target = <-server:
		t.Cleanup(func() { target.Close() })
	case <-ctx.Done():
		t.Fatal("no connection arrived at the target")
	}
	return client, target
}

// isReset waits until c is reset.
func isReset(t testing.TB, c net.Conn, who string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%s read %d bytes and %v, wanted a reset", who, n, err)
	}
}

// passes tells whether a byte written on one end arrives at the other.
func passes(t testing.TB, from, to net.Conn, when string) {
	t.Helper()
	if _, err := from.Write([]byte{1}); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	to.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := to.Read(make([]byte, 1)); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// rest is how long conntrack would keep flows to the NLB's node if nothing came any more.
func (w *world) rest(proto uint8) time.Duration {
	w.t.Helper()
	rest := time.Duration(-1)
	err := InNamespace(w.f.VPCNamespace("vpc-1"), func() error {
		flows, err := dump(func() ([]*netlink.ConntrackFlow, error) {
			return netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		})
		for _, f := range flows {
			if f.Forward.Protocol == proto && is(f.Forward.DstIP, netip.MustParseAddr("10.0.0.20")) {
				rest = max(rest, time.Duration(f.TimeOut)*time.Second)
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return rest
}

func is(ip []byte, a netip.Addr) bool { return addrPort(ip, 0).Addr() == a }

// forgetWritten makes this process know as little as one that has just begun.
func (w *world) forgetWritten() {
	nlbWritten.Lock()
	defer nlbWritten.Unlock()
	for k := range nlbWritten.m {
		if k.ns == w.f.VPCNamespace("vpc-1") {
			delete(nlbWritten.m, k)
		}
	}
}

func TestNLBIdleFlowsAreReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 1)
	ts[0].Port = 81
	v.Groups[3].Ingress[0].ToPort = 81
	w.apply(v)
	server := pairs(t, v.Interfaces[2].NetNS, "10.0.1.10:81")
	for name, hide := range map[string]bool{"": false, "hidden ": true} {
		s := service(ts...)
		s.Idle, s.PreserveClientIP = 2*time.Second, !hide
		w.nlb("a", s)
		a, at := pair(t, v.Interfaces[1].NetNS, "10.0.0.20:8080", server)
		b, bt := pair(t, v.Interfaces[1].NetNS, "10.0.0.20:8080", server)
		passes(t, a, at, name+"in time")
		until(t, "the flows are forgotten", func() bool { return w.rest(unix.IPPROTO_TCP) < 0 })
		a.Write([]byte{1})
		isReset(t, a, name+"client that spoke too late")
		bt.Write([]byte{1})
		isReset(t, bt, name+"target that spoke too late")
		a.Close()
		b.Close()
	}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up: %s", what)
		}
	}
}

func TestNLBIdleTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 2)
	v.Groups[3].Ingress = append(v.Groups[3].Ingress, anywhere("udp", 80, 80))
	w.apply(v)
	tcp, udp := service(ts...), service(ts...)
	udp.Proto = "udp"
	w.nlb("a", tcp, udp)
	c, _, err := dial(v.Interfaces[1].NetNS, "10.0.0.20:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	udpSend(t, v.Interfaces[1].NetNS, "10.0.0.10:0", "10.0.0.20:8080", "x")
	about := func(proto uint8, want time.Duration, when string) {
		t.Helper()
		if got := w.rest(proto); got > want || got < want-10*time.Second {
			t.Errorf("%s: protocol %d is kept for %v, wanted %v", when, proto, got, want)
		}
	}
	about(unix.IPPROTO_TCP, NLBIdleTCP, "at first")
	about(unix.IPPROTO_UDP, NLBIdleUDP, "at first")
	w.nlb("a", tcp)
	w.forgetWritten()
	w.nlb("a", tcp, udp)
	echoes(t, c, "after the table was written anew")
	about(unix.IPPROTO_TCP, NLBIdleTCP, "after the table was written anew")
	tcp.Idle = 60 * time.Second
	w.nlb("a", tcp, udp)
	echoes(t, c, "after its listener's idle time was changed")
	about(unix.IPPROTO_TCP, NLBIdleTCP, "a flow keeps the idle time that it began with")
	d, _, err := dial(v.Interfaces[1].NetNS, "10.0.0.20:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c.Close()
	until(t, "the new flow's idle time", func() bool {
		r := w.rest(unix.IPPROTO_TCP)
		return r > 50*time.Second && r <= 60*time.Second
	})
}

func TestNLBCutFlowsAreResetAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 2, "sg-nlb")
	v.Groups = append(v.Groups, Group{ID: "sg-nlb", Ingress: []Rule{anywhere("tcp", 1, 65535)}, Egress: []Rule{anywhere("tcp", 81, 81)}},
		Group{ID: "sg-81", Ingress: []Rule{{Proto: "tcp", FromPort: 81, ToPort: 81, GroupID: "sg-nlb"}}, Egress: []Rule{anywhere("-1", -1, -1)}})
	v.Interfaces[2].GroupIDs, v.Interfaces[3].GroupIDs = []string{"sg-81"}, []string{"sg-81"}
	w.apply(v)
	ns, client := w.f.VPCNamespace("vpc-1"), v.Interfaces[1].NetNS
	ts[0].Port, ts[1].Port = 81, 81
	one, two := pairs(t, v.Interfaces[2].NetNS, "10.0.1.10:81"), pairs(t, v.Interfaces[3].NetNS, "10.0.1.11:81")
	for name, hide := range map[string]bool{"": false, "hidden ": true} {
		s := service(ts[0])
		s.PreserveClientIP = !hide
		w.nlb("a", s)
		c, ct := pair(t, client, "10.0.0.20:8080", one)
		passes(t, ct, c, name+"before")
		s.Targets = ts[1:]
		w.nlb("a", s)
		d, dt := pair(t, client, "10.0.0.20:8080", two)
		if n, err := CutFlows(ns, []NLBFlows{{s.Key(), netip.MustParseAddrPort("10.0.1.10:81")}}); err != nil || n != 1 {
			t.Errorf("%scut %d flows: %v", name, n, err)
		}
		isReset(t, c, name+"silent client")
		isReset(t, ct, name+"silent target")
		passes(t, d, dt, name+"the flow to the other target")
		passes(t, dt, d, name+"the flow to the other target")
		if n, err := CutOthers(ns, s.Key(), []netip.AddrPort{netip.MustParseAddrPort("10.0.1.11:81")}); err != nil || n != 0 {
			t.Errorf("%scut %d flows to targets that are not listed, wanted none: %v", name, n, err)
		}
		if n, err := CutOthers(ns, s.Key(), nil); err != nil || n != 1 {
			t.Errorf("%scut %d flows to targets that are not listed, wanted one: %v", name, n, err)
		}
		isReset(t, d, name+"client of a target that is not listed")
	}
	// from the host, by the node's public address
	s := service(ts[0])
	w.nlb("a", s)
	c, ct := pair(t, "", w.public(9).String()+":8080", one)
	if n, err := CutOthers(ns, s.Key(), nil); err != nil || n != 1 {
		t.Errorf("cut %d flows of the host: %v", n, err)
	}
	isReset(t, c, "client on the host")
	isReset(t, ct, "its target")
}

func TestNLBCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 2, "sg-nlb")
	v.Groups = append(v.Groups, Group{ID: "sg-nlb", Ingress: []Rule{anywhere("tcp", 8080, 8080)}, Egress: []Rule{anywhere("-1", -1, -1)}})
	w.apply(v)
	ns, client := w.f.VPCNamespace("vpc-1"), v.Interfaces[1].NetNS
	open, shut, empty := service(ts...), service(ts...), service()
	shut.Port, empty.Port = 8081, 8080
	empty.VIP = netip.MustParseAddr("10.0.0.20")
	w.nlb("a", open, shut)
	other := service(ts...)
	other.Port = 8082
	w.nlb("b", other)
	spread(t, client, "10.0.0.20:8080", 5)
	c, _, err := dial(client, "10.0.0.20:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	blocked(t, client, "10.0.0.20:8081", "the load balancer's group has only port 8080 open")
	read := func() map[NLBKey]NLBCounts {
		t.Helper()
		m, err := ReadNLB(ns, "a")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := read()
	if n := m[open.Key()]; len(m) != 2 || n.Flows != 6 || n.Packets < 6*3 || n.Bytes < n.Packets*40 {
		t.Errorf("counts %+v, wanted six flows", m)
	}
	if n := m[shut.Key()]; n.Flows != 0 || n.Packets != 0 {
		t.Errorf("counts %+v of a service that the group blocks", n)
	}
	if b, err := ReadBlocked(ns); err != nil || b[open.VIP].In.TCP == 0 || b[open.VIP].In.UDP != 0 || b[open.VIP].Out != (Packets{}) {
		t.Errorf("blocked %+v: %v", b, err)
	}
	if active, err := CountFlows(ns); err != nil || active[open.Key()] != 1 || active[shut.Key()] != 0 {
		t.Errorf("open flows %v (%v), wanted one", active, err)
	}
	before := m[open.Key()]
	w.nlb("a", service(ts[0]), shut) // a change of targets keeps the counts
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	until(t, "the client's reset is counted", func() bool { return read()[open.Key()].ClientResets == before.ClientResets+1 })
	if n := read()[open.Key()]; n.Flows != 6 || n.TargetResets != 0 {
		t.Errorf("after a change of targets: %+v", n)
	}
	bad := service(NLBTarget{IP: ts[0].IP, Port: 81, Weight: 1})
	v.Groups[3].Ingress[0].ToPort = 81
	w.apply(v)
	w.nlb("a", bad, shut)
	if _, _, err := dial(client, "10.0.0.20:8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a target that doesn't listen: %v", err)
	}
	if n := read()[open.Key()]; n.TargetResets != 1 {
		t.Errorf("the target's reset is not counted: %+v", n)
	}
	w.nlb("a", empty, shut)
	if _, _, err := dial(client, "10.0.0.20:8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("no target: %v", err)
	}
	if n := read()[open.Key()]; n.NodeResets != 1 || n.Flows != 8 {
		t.Errorf("the node's reset is not counted: %+v", n)
	}
	// What the load balancer's group keeps from targets.
	v.Groups[len(v.Groups)-1].Egress = nil
	w.apply(v)
	w.nlb("a", service(ts...), shut)
	blocked(t, client, "10.0.0.20:8080", "the load balancer's group lets nothing out")
	if b, err := ReadBlocked(ns); err != nil || b[open.VIP].Out.TCP == 0 || b[open.VIP].Out.UDP != 0 {
		t.Errorf("blocked %+v: %v", b, err)
	}
}

// The table goes with the last service and comes back with the next, also where another process wrote it.
func TestNLBTableComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 2)
	for range 3 {
		w.nlb("a", service(ts...))
		reaches(t, v.Interfaces[1].NetNS, "10.0.0.20:8080", "t")
		w.forgetWritten()
		w.nlb("a", service(ts...))
		reaches(t, v.Interfaces[1].NetNS, "10.0.0.20:8080", "t")
		w.nlb("a")
		w.nlb("a")
		if _, _, err := dialFor(patience, v.Interfaces[1].NetNS, "10.0.0.20:8080"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("without a service: %v", err)
		}
	}
}

func TestNLBStickyClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 3)
	s := service(ts...)
	s.StickySourceIP = true
	w.nlb("a", s)
	m := spread(t, v.Interfaces[1].NetNS, "10.0.0.20:8080", 30)
	if len(m) != 1 {
		t.Fatalf("one client's connections went to %v", m)
	}
	var mine string
	for mine = range m {
	}
	for i := range ts { // another target that leaves moves nobody
		if name := fmt.Sprintf("t%d", i); name != mine {
			s.Targets = append(append([]NLBTarget(nil), ts[:i]...), ts[i+1:]...)
			w.nlb("a", s)
			if m := spread(t, v.Interfaces[1].NetNS, "10.0.0.20:8080", 5); m[mine] != 5 {
				t.Errorf("without %s, connections went to %v instead of %s", name, m, mine)
			}
		}
	}
}

func TestNLBStickySlotsMoveOnlyTheirOwn(t *testing.T) {
	var ts []NLBTarget
	for i := range 8 {
		ts = append(ts, NLBTarget{IP: netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), Port: 80, Weight: 1})
	}
	ts[7].Weight = 3
	all := NLBService{Targets: ts, StickySourceIP: true}.slots()
	some := NLBService{Targets: ts[1:], StickySourceIP: true}.slots()
	count := map[NLBTarget]int{}
	for i := range all {
		count[all[i]]++
		if all[i] != some[i] && all[i] != ts[0] {
			t.Fatalf("slot %d moved from %v to %v although %v left", i, all[i], some[i], ts[0])
		}
	}
	for i, tgt := range ts {
		want := stickySlots * tgt.Weight / 10
		if got := count[tgt]; got < want*3/4 || got > want*5/4 {
			t.Errorf("target %d of weight %d has %d slots of %d", i, tgt.Weight, got, stickySlots)
		}
	}
}

// churn keeps conns connections busy through an NLB while its targets change, and returns how many of them failed. The
// targets' ends are in a process of their own, because descriptors are few.
func churn(t testing.TB, conns int, changes int, every time.Duration) (failed, exchanged int64) {
	t.Helper()
	w := newWorld(t, false)
	v, ts := idleFarm(t, w, 4)
	var spec strings.Builder
	for i, tgt := range ts {
		fmt.Fprintf(&spec, "%s %s ", v.Interfaces[2+i].NetNS, netip.AddrPortFrom(tgt.IP, tgt.Port))
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serveFor+"="+spec.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the servers: %s%v", line, err)
	}
	client := v.Interfaces[1].NetNS
	w.nlb("a", service(ts...))
	stop := make(chan struct{})
	var wg, ready sync.WaitGroup
	var bad, good atomic.Int64
	gate := make(chan struct{}, 64)
	for range conns {
		wg.Add(1)
		ready.Add(1)
		go func() {
			defer wg.Done()
			gate <- struct{}{}
			c, _, err := dial(client, "10.0.0.20:8080")
			<-gate
			ready.Done()
			if err != nil {
				bad.Add(1)
				return
			}
			defer c.Close()
			buf := make([]byte, 8)
			for {
				c.SetDeadline(time.Now().Add(30 * time.Second))
				if _, err := c.Write([]byte("x")); err != nil {
					bad.Add(1)
					return
				}
				if n, err := c.Read(buf); err != nil || n != 1 {
					bad.Add(1)
					return
				}
				good.Add(1)
				select {
				case <-stop:
					return
				case <-time.After(500 * time.Millisecond):
				}
			}
		}()
	}
	ready.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range changes {
		<-tick.C
		s := service(ts...)
		s.Targets = append([]NLBTarget(nil), ts...)
		s.Targets[i%4].Weight = 0
		if i%2 == 0 {
			s.Targets = append(s.Targets[:i%4], s.Targets[i%4+1:]...)
		}
		w.nlb("a", s)
		if c, _, err := dial(client, "10.0.0.20:8080"); err != nil { // and a new flow at each state
			bad.Add(1)
		} else {
			c.Close()
		}
	}
	close(stop)
	wg.Wait()
	return bad.Load(), good.Load()
}

// The same at full size: go test ./internal/fabric -run - -bench NLBTargetChanges -benchtime 1x
func TestNLBTargetChangesBreakNothing(t *testing.T) {
	t.Parallel()
	needWorld(t)
	if failed, n := churn(t, 200, 40, 50*time.Millisecond); failed > 0 || n < 200 {
		t.Errorf("%d connections failed, %d exchanges succeeded", failed, n)
	}
}

func BenchmarkNLBTargetChanges(b *testing.B) {
	needWorld(b)
	for b.Loop() {
		failed, n := churn(b, 10000, 200, 50*time.Millisecond)
		b.ReportMetric(float64(failed), "failed")
		b.ReportMetric(float64(n), "exchanges")
		if failed > 0 {
			b.Errorf("%d of 10000 connections failed", failed)
		}
	}
}
