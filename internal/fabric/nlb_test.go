package fabric

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
)

// farm is a VPC with an NLB's node at 10.0.0.20 and n targets 10.0.1.10… that serve port 80.
func farm(t testing.TB, w *world, n int, nodeGroups ...string) (VPC, []NLBTarget) {
	t.Helper()
	v, ts := idleFarm(t, w, n, nodeGroups...)
	for i, tgt := range ts {
		serve(t, v.Interfaces[2+i].NetNS, netip.AddrPortFrom(tgt.IP, tgt.Port).String(), fmt.Sprintf("t%d", i))
	}
	return v, ts
}

// idleFarm is a farm whose targets serve nothing.
func idleFarm(t testing.TB, w *world, n int, nodeGroups ...string) (VPC, []NLBTarget) {
	t.Helper()
	v := twoZones("vpc-1", 1)
	lb := node("lb", "10.0.0.20", "a", nodeGroups...)
	lb.PublicIP = w.public(9)
	v.Interfaces = []Interface{lb, instance(t, "client", "10.0.0.10", "a", "sg-out")}
	var ts []NLBTarget
	for i := range n {
		ip := fmt.Sprintf("10.0.1.%d", 10+i)
		v.Interfaces = append(v.Interfaces, instance(t, fmt.Sprintf("t%d", i), ip, "b", "sg-web"))
		ts = append(ts, NLBTarget{IP: netip.MustParseAddr(ip), Port: 80, Weight: 1})
	}
	w.apply(v)
	return v, ts
}

func service(ts ...NLBTarget) NLBService {
	return NLBService{VIP: netip.MustParseAddr("10.0.0.20"), Port: 8080, Proto: "tcp", Targets: ts, PreserveClientIP: true}
}

func (w *world) nlb(zone string, s ...NLBService) {
	w.t.Helper()
	if err := w.f.ApplyNLB(w.ctx, "vpc-1", zone, s); err != nil {
		w.t.Fatal(err)
	}
}

// spread counts which server answers n new connections.
func spread(t testing.TB, ns, addr string, n int) map[string]int {
	t.Helper()
	m := map[string]int{}
	for range n {
		c, line, err := dial(ns, addr)
		if err != nil {
			t.Fatalf("connection to %s: %v", addr, err)
		}
		c.Close()
		name, _, _ := strings.Cut(line, " ")
		m[name]++
	}
	return m
}

func TestNLBSpreadsAndKeepsTheClientAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 3)
	client := v.Interfaces[1].NetNS
	w.nlb("a", service(ts...))
	m := spread(t, client, "10.0.0.20:8080", 90)
	for _, name := range []string{"t0", "t1", "t2"} {
		if m[name] < 12 { // 30 expected; under 12 happens once in 100,000 runs
			t.Errorf("%s got %d of 90 connections: %v", name, m[name], m)
		}
	}
	reaches(t, client, "10.0.0.20:8080", "t")
	_, line, err := dial(client, "10.0.0.20:8080")
	if err != nil || !strings.HasSuffix(line, " 10.0.0.10") {
		t.Errorf("a target saw %q (%v), wanted the client's address 10.0.0.10", line, err)
	}
	// from the host, by the node's public address
	_, line, err = dial("", w.public(9).String()+":8080")
	if want := " " + w.f.pool.gateway.String(); err != nil || !strings.HasSuffix(line, want) {
		t.Errorf("from the host a target saw %q (%v), wanted%s", line, err, want)
	}
	ts[0].Weight, ts[1].Weight, ts[2].Weight = 8, 2, 0
	w.nlb("a", service(ts...))
	if m = spread(t, client, "10.0.0.20:8080", 60); m["t0"] <= m["t1"] || m["t1"] == 0 || m["t2"] != 0 {
		t.Errorf("weights 8, 2 and 0 gave %v", m)
	}
}

func TestNLBChangesLeaveFlowsAndOtherZonesAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 2)
	client := v.Interfaces[1].NetNS
	other := service(ts[1])
	other.Port = 9090
	w.nlb("b", other)
	w.nlb("a", service(ts[0]))
	c, line, err := dial(client, "10.0.0.20:8080")
	if err != nil || !strings.HasPrefix(line, "t0") {
		t.Fatal(line, err)
	}
	defer c.Close()
	w.nlb("a", service(ts[1])) // t0 is being drained
	echoes(t, c, "after its target left the list")
	if m := spread(t, client, "10.0.0.20:8080", 8); m["t1"] != 8 {
		t.Errorf("new connections went to %v, wanted only t1", m)
	}
	w.restart()
	w.apply(v) // a new control plane rewrites the VPC's table
	echoes(t, c, "after the VPC's rules were replaced")
	reaches(t, client, "10.0.0.20:9090", "t1")
	w.nlb("a")
	echoes(t, c, "after the listener went")
	if _, _, err := dialFor(patience, client, "10.0.0.20:8080"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("without targets a connection gave %v, wanted a refusal", err)
	}
	reaches(t, client, "10.0.0.20:9090", "t1")

	n, err := CutFlows(w.f.VPCNamespace("vpc-1"), []NLBFlows{{service().Key(), netip.MustParseAddrPort("10.0.1.10:80")}})
	if err != nil || n != 1 {
		t.Errorf("CutFlows ended %d flows (%v), wanted the one to t0", n, err)
	}
	fmt.Fprint(c, "x")
	if got, err := readLine(c, patience); err == nil {
		t.Errorf("a flow that was cut still answers %q", got)
	}
}

func TestNLBHidesClientsWhereAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 1)
	s := service(ts...)
	w.nlb("a", s)
	blocked(t, v.Interfaces[2].NetNS, "10.0.0.20:8080", "a target that sees its clients' addresses can't be its own client")
	s.PreserveClientIP = false
	w.nlb("a", s)
	reaches(t, v.Interfaces[1].NetNS, "10.0.0.20:8080", "t0 10.0.0.20")
	reaches(t, v.Interfaces[2].NetNS, "10.0.0.20:8080", "t0 10.0.0.20")
	reaches(t, "", w.public(9).String()+":8080", "t0 10.0.0.20")
}

func TestNLBSecurityGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 1, "sg-nlb")
	client := v.Interfaces[1].NetNS
	v.Groups = append(v.Groups,
		Group{ID: "sg-nlb", Ingress: []Rule{anywhere("tcp", 8080, 8080)}, Egress: []Rule{anywhere("-1", -1, -1)}},
		Group{ID: "sg-behind", Ingress: []Rule{{Proto: "tcp", FromPort: 80, ToPort: 80, GroupID: "sg-nlb"}}})
	v.Interfaces[2].GroupIDs = []string{"sg-behind"}
	w.apply(v)
	s := service(ts...)
	hidden := s
	hidden.Port = 8081
	w.nlb("a", s, hidden)
	reaches(t, client, "10.0.0.20:8080", "t0 10.0.0.10") // its target allows the load balancer's group, not the client
	blocked(t, client, "10.0.0.20:8081", "the load balancer's group has only port 8080 open")
	blocked(t, client, "10.0.1.10:80", "the target allows the load balancer's group only")
	v.Groups[len(v.Groups)-2].Egress = nil
	w.apply(v)
	blocked(t, client, "10.0.0.20:8080", "the load balancer's group has no egress rule")
}

// A target may be another load balancer's node (target type alb), whose own security group decides.
func TestNLBInFrontOfANode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	v.Interfaces = []Interface{node("nlb", "10.0.0.20", "a"), node("alb", "10.0.0.21", "a", "sg-web"), instance(t, "client", "10.0.0.10", "a", "sg-out")}
	w.apply(v)
	serve(t, w.f.VPCNamespace("vpc-1"), "10.0.0.21:80", "alb")
	serve(t, w.f.VPCNamespace("vpc-1"), "10.0.0.21:81", "alb")
	to := func(port uint16) NLBService {
		s := service(NLBTarget{IP: netip.MustParseAddr("10.0.0.21"), Port: port, Weight: 1})
		s.Port += port
		return s
	}
	w.nlb("a", to(80), to(81))
	reaches(t, v.Interfaces[2].NetNS, "10.0.0.20:8160", "alb 10.0.0.10")
	blocked(t, v.Interfaces[2].NetNS, "10.0.0.20:8161", "the target's security group has only port 80 open")
}

func TestNLBForUDP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 2)
	v.Groups = append(v.Groups, Group{ID: "sg-udp", Ingress: []Rule{anywhere("udp", 80, 80)}})
	for i := range 2 {
		v.Interfaces[2+i].GroupIDs = []string{"sg-udp"}
	}
	w.apply(v)
	s := service(ts...)
	s.Proto = "udp"
	w.nlb("a", s)
	one, two := udpSink(t, v.Interfaces[2].NetNS, "10.0.1.10:80"), udpSink(t, v.Interfaces[3].NetNS, "10.0.1.11:80")
	for i := range 40 {
		udpSend(t, v.Interfaces[1].NetNS, "10.0.0.10:0", "10.0.0.20:8080", fmt.Sprint(i))
	}
	got := map[int]int{}
	for range 40 {
		select {
		case <-one:
			got[1]++
		case <-two:
			got[2]++
		}
	}
	if got[1] < 5 || got[2] < 5 {
		t.Errorf("40 UDP flows went %v to the two targets", got)
	}
}

func TestNLBSlots(t *testing.T) {
	at := func(last byte, weight int) NLBTarget {
		return NLBTarget{IP: netip.AddrFrom4([4]byte{10, 0, 0, last}), Port: 80, Weight: weight}
	}
	for name, c := range map[string]struct {
		targets []NLBTarget
		want    map[byte]int
	}{
		"none":             {nil, map[byte]int{}},
		"all drained":      {[]NLBTarget{at(1, 0)}, map[byte]int{}},
		"equal":            {[]NLBTarget{at(1, 7), at(2, 7)}, map[byte]int{1: 1, 2: 1}},
		"by weight":        {[]NLBTarget{at(1, 30), at(2, 10), at(3, 0)}, map[byte]int{1: 3, 2: 1}},
		"too fine to hold": {[]NLBTarget{at(1, 99991), at(2, 1)}, map[byte]int{1: maxSlots - 1, 2: 1}},
	} {
		got := map[byte]int{}
		for _, s := range (NLBService{Targets: c.targets}).slots() {
			got[s.IP.As4()[3]]++
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: slots %v, wanted %v", name, got, c.want)
		}
	}
}

func TestNLBRefusesWhatItCannotDo(t *testing.T) {
	good := service(NLBTarget{IP: netip.MustParseAddr("10.0.0.5"), Port: 80, Weight: 1})
	bad := func(change func(*NLBService)) []NLBService { s := good; change(&s); return []NLBService{s} }
	for name, s := range map[string][]NLBService{
		"protocol":   bad(func(s *NLBService) { s.Proto = "sctp" }),
		"port":       bad(func(s *NLBService) { s.Port = 0 }),
		"no address": bad(func(s *NLBService) { s.VIP = netip.Addr{} }),
		"IPv6":       bad(func(s *NLBService) { s.Targets = []NLBTarget{{IP: netip.MustParseAddr("::1"), Port: 1}} }),
		"weight":     bad(func(s *NLBService) { s.Targets = []NLBTarget{{IP: s.VIP, Port: 1, Weight: -1}} }),
		"twice":      {good, good},
	} {
		if err := checkNLB("a", s); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	if err := checkNLB(`a"; flush ruleset`, nil); err == nil {
		t.Error("a zone name with a quote was not refused")
	}
}

func TestDialAsAClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v, ts := farm(t, w, 1, "sg-nlb")
	v.Groups = append(v.Groups,
		Group{ID: "sg-nlb", Ingress: []Rule{anywhere("tcp", 8080, 8080)}, Egress: []Rule{anywhere("tcp", 80, 80)}},
		Group{ID: "sg-behind", Ingress: []Rule{{Proto: "tcp", FromPort: 80, ToPort: 81, GroupID: "sg-nlb"}}})
	v.Interfaces[2].GroupIDs = []string{"sg-behind"}
	w.apply(v)
	s := service(ts...)
	s.Process = true
	w.nlb("a", s)
	ns, nodeIP := w.f.VPCNamespace("vpc-1"), netip.MustParseAddr("10.0.0.20")
	serve(t, v.Interfaces[2].NetNS, "10.0.1.10:81", "closed")
	for _, client := range []string{"10.0.0.10", "192.0.2.7", "203.0.113.255"} {
		c, err := DialAs(w.ctx, ns, nodeIP, netip.MustParseAddr(client), "10.0.1.10:80")
		if err != nil {
			t.Errorf("as %s: %v", client, err)
			continue
		}
		if line, err := readLine(c, patience); err != nil || line != "t0 "+client {
			t.Errorf("as %s the target answered %q, %v", client, line, err)
		}
		echoes(t, c, "as "+client)
		c.Close()
	}
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if _, err := DialAs(ctx, ns, nodeIP, netip.MustParseAddr("10.0.0.10"), "10.0.1.10:81"); err == nil {
		t.Error("the node's security group has only port 80 open on the way out")
	}
	blocked(t, v.Interfaces[1].NetNS, "10.0.1.10:80", "the target allows the load balancer's group only")
	if _, _, err := dialFor(patience, v.Interfaces[1].NetNS, "10.0.0.20:8080"); err == nil {
		t.Error("the kernel serves a listener that a process should")
	}
}
