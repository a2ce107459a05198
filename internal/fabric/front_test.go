package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// twoNodes are two addresses of a VPC's own namespace in two zones, each with a server on port 80, and a front for them.
func twoNodes(t *testing.T, w *world, v *VPC) (front netip.Addr, nodes []netip.Addr) {
	t.Helper()
	front, nodes = w.public(9), []netip.Addr{w.public(5), w.public(6)}
	v.Subnets[1].RouteToIGW = true
	a, b := node("lba", "10.0.0.20", "a", "sg-web"), node("lbb", "10.0.1.20", "b", "sg-web")
	a.PublicIP, b.PublicIP = nodes[0], nodes[1]
	v.Interfaces = append(v.Interfaces, a, b)
	w.apply(*v)
	serve(t, w.f.VPCNamespace(v.ID), "10.0.0.20:80", "a")
	serve(t, w.f.VPCNamespace(v.ID), "10.0.1.20:80", "b")
	return front, nodes
}

func (w *world) fronts(m map[netip.Addr][]netip.Addr) {
	w.t.Helper()
	if err := w.f.SetFronts(w.ctx, m); err != nil {
		w.t.Fatal(err)
	}
}

// answers counts which server answers how many of n connections, and from where they seemed to come.
func answers(t testing.TB, ns, addr string, n int) map[string]int {
	t.Helper()
	m := map[string]int{}
	for range n {
		c, line, err := dial(ns, addr)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		c.Close()
		m[line]++
	}
	return m
}

// both fails unless both servers had a fair part of 60 connections: each 10 or more, which chance misses once in 10^8.
func both(t testing.TB, ns, addr, client, when string) {
	t.Helper()
	if m := answers(t, ns, addr, 60); m["a "+client] < 10 || m["b "+client] < 10 || m["a "+client]+m["b "+client] != 60 {
		t.Errorf("%s: answers %v, wanted about as many of a as of b for %s", when, m, client)
	}
}

func TestFrontSpreadsConnectionsOfTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	front, nodes := twoNodes(t, w, &v)
	addr, client := front.String()+":80", w.f.pool.gateway.String()
	all, none := map[netip.Addr][]netip.Addr{front: nodes}, map[netip.Addr][]netip.Addr{front: nil}

	blocked(t, "", addr, "it is no front yet")
	w.fronts(all)
	both(t, "", addr, client, "two nodes")
	reaches(t, "", nodes[0].String()+":80", "a "+client) // their own addresses lead where they led
	reaches(t, "", nodes[1].String()+":80", "b "+client)
	table := func() string { return inNS(t, "", "nft", "list", "table", "inet", "skerry-"+w.f.o.CloudID) }
	ruled := table()
	w.fronts(map[netip.Addr][]netip.Addr{front: {nodes[1], nodes[0], nodes[1]}})
	if again := table(); again != ruled {
		t.Errorf("the same fronts again changed the host:\n%s\nwas\n%s", again, ruled)
	}

	// One node less: what flows goes on, what is new meets only the other.
	var flows []net.Conn
	for range 8 {
		c, _, err := dial("", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		flows = append(flows, c)
	}
	w.fronts(map[netip.Addr][]netip.Addr{front: nodes[1:]})
	if m := answers(t, "", addr, 20); m["b "+client] != 20 {
		t.Errorf("answers %v with b alone behind the front", m)
	}
	w.fronts(none)
	start := time.Now()
	if c, line, err := dial("", addr); !errors.Is(err, unix.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("a front without nodes: %q, %v; wanted a refusal", line, err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("it was refused after %v", d)
	}
	if u, err := net.Dial("udp", addr); err != nil {
		t.Error(err)
	} else {
		u.Write([]byte("x"))
		u.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := u.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("UDP to a front without nodes: %v, wanted a refusal", err)
		}
		u.Close()
	}
	for i, c := range flows {
		echoes(t, c, fmt.Sprintf("flow %d after its node left the front", i))
		c.Close()
	}
	w.fronts(all)

	// They are part of the host's table: healed with it, kept when VPCs come and go and when a process starts again.
	inNS(t, "", "nft", "delete", "table", "inet", "skerry-"+w.f.o.CloudID)
	if healed, err := w.f.Heal(w.ctx); !healed || err != nil {
		t.Errorf("Heal: %v, %v", healed, err)
	}
	both(t, "", addr, client, "healed")
	c, _, err := dial("", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.apply(twoZones("vpc-2", 2))
	if err := w.f.Remove(w.ctx, "vpc-2"); err != nil {
		t.Fatal(err)
	}
	both(t, "", addr, client, "after another VPC came and went")
	w.restart()
	w.fronts(all)
	w.apply(v)
	both(t, "", addr, client, "after a restart")
	echoes(t, c, "after a restart")

	w.restart()
	w.fronts(nil) // a new process that knows none takes the former one's away
	blocked(t, "", addr, "the front is gone")
	if rules := table(); strings.Contains(rules, "front_") {
		t.Errorf("rules of a front are left:\n%s", rules)
	}
}

func TestFrontThatGoesTakesItsConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	front, nodes := twoNodes(t, w, &v)
	w.fronts(map[netip.Addr][]netip.Addr{front: nodes})
	c, _, err := dial("", front.String()+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.fronts(nil)
	if flows := inNS(t, "", "cat", "/proc/net/nf_conntrack"); strings.Contains(flows, "dst="+front.String()+" ") {
		t.Errorf("connections of a front that is gone are left:\n%s", flows)
	}
}

func TestFrontOutsideOfLoopback(t *testing.T) {
	needWorld(t) // not parallel: the host gets an address to speak with
	inNS(t, "", "ip", "addr", "add", "192.0.2.78/32", "dev", "lo")
	t.Cleanup(func() { exec.Command("ip", "addr", "del", "192.0.2.78/32", "dev", "lo").Run() })
	w := newWorld(t, false)
	if err := w.f.Teardown(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.pool = netip.MustParsePrefix("198.18.9.0/24")
	w.restart()
	v, two := twoZones("vpc-1", 1), twoZones("vpc-2", 2)
	front, nodes := twoNodes(t, w, &v)
	c := instance(t, "c", "10.0.0.10", "a", "sg-web")
	c.PublicIP = w.public(7)
	two.Interfaces = []Interface{c}
	w.apply(two)
	w.fronts(map[netip.Addr][]netip.Addr{front: nodes})
	both(t, "", front.String()+":80", "192.0.2.78", "from the host")
	both(t, c.NetNS, front.String()+":80", w.public(7).String(), "from an instance, through the host")
	w.fronts(map[netip.Addr][]netip.Addr{front: nil})
	for _, ns := range []string{"", c.NetNS} {
		if x, line, err := dial(ns, front.String()+":80"); !errors.Is(err, unix.EHOSTUNREACH) {
			if err == nil {
				x.Close()
			}
			t.Errorf("a front without nodes, from %q: %q, %v; wanted no route", ns, line, err)
		}
	}
	w.fronts(map[netip.Addr][]netip.Addr{front: nodes})
	if err := w.f.Teardown(w.ctx); err != nil {
		t.Fatal(err)
	}
	if routes := inNS(t, "", "ip", "-4", "route", "show", "table", "all"); strings.Contains(routes, front.String()) {
		t.Errorf("the route of a front is left:\n%s", routes)
	}
}

func TestFrontsThatContradictThemselvesAreRefused(t *testing.T) {
	p, _ := newPool(netip.MustParsePrefix("127.61.0.0/24"))
	ip := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 61, 0, n}) }
	out := netip.MustParseAddr("127.62.0.9")
	if err := p.checkFronts(map[netip.Addr][]netip.Addr{ip(9): {ip(2), ip(3)}, ip(10): nil}); err != nil {
		t.Error(err)
	}
	many := make([]netip.Addr, MaxFrontNodes+1)
	for i := range many {
		many[i] = ip(byte(20 + i))
	}
	for name, m := range map[string]map[netip.Addr][]netip.Addr{
		"a front outside of the pool": {out: {ip(5)}},
		"a node outside of the pool":  {ip(9): {out}},
		"the DNS server's address":    {ip(1): {ip(5)}},
		"the gateway's address":       {ip(9): {ip(0)}},
		"a front behind itself":       {ip(9): {ip(9)}},
		"a front behind a front":      {ip(9): {ip(10)}, ip(10): {ip(5)}},
		"too many nodes":              {ip(9): many},
		"IPv6":                        {ip(9): {netip.IPv6Loopback()}},
	} {
		if p.checkFronts(m) == nil {
			t.Errorf("%s was not refused", name)
		}
	}
}
