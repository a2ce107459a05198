package fabric

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNS runs a command inside a namespace and returns what it says.
func inNS(t testing.TB, ns string, args ...string) string {
	t.Helper()
	out := ""
	if err := InNamespace(ns, func() error {
		b, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		out = string(b)
		return err
	}); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestVPCsWithEqualRangesAreSeparate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	one, two := twoZones("vpc-1", 1), twoZones("vpc-2", 2)
	a1, b1 := instance(t, "a1", "10.0.0.10", "a", "sg-open"), instance(t, "b1", "10.0.1.10", "b", "sg-open")
	a2, b2 := instance(t, "a2", "10.0.0.10", "a", "sg-open"), instance(t, "c2", "10.0.1.11", "b", "sg-open")
	one.Interfaces, two.Interfaces = []Interface{a1, b1}, []Interface{a2, b2}
	w.apply(one)
	w.apply(two)
	serve(t, b1.NetNS, "10.0.1.10:80", "one")
	serve(t, b2.NetNS, "10.0.1.11:80", "two")
	reaches(t, a1.NetNS, "10.0.1.10:80", "one")
	reaches(t, a2.NetNS, "10.0.1.11:80", "two")
	blocked(t, a1.NetNS, "10.0.1.11:80", "that instance is in another VPC")
	blocked(t, a2.NetNS, "10.0.1.10:80", "that instance is in another VPC")
}

func TestGroupReference(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	v.Groups = append(v.Groups, Group{ID: "sg-ref", Ingress: []Rule{{Proto: "tcp", FromPort: 80, ToPort: 80, GroupID: "sg-friend"}}},
		Group{ID: "sg-friend", Egress: []Rule{{Proto: "tcp", FromPort: 80, ToPort: 80, GroupID: "sg-ref"}}})
	friend, stranger := instance(t, "friend", "10.0.0.10", "a", "sg-friend"), instance(t, "stranger", "10.0.0.11", "a", "sg-out")
	b, other := instance(t, "b", "10.0.0.12", "a", "sg-ref"), instance(t, "other", "10.0.0.13", "a", "sg-open")
	v.Interfaces = []Interface{friend, stranger, b, other}
	w.apply(v)
	serve(t, b.NetNS, "10.0.0.12:80", "b")
	serve(t, other.NetNS, "10.0.0.13:80", "other")
	reaches(t, friend.NetNS, "10.0.0.12:80", "b 10.0.0.10")
	blocked(t, friend.NetNS, "10.0.0.13:80", "its egress names only the group sg-ref")
	blocked(t, stranger.NetNS, "10.0.0.12:80", "it is not of the group that the rule names")

	v.Interfaces[1].GroupIDs = []string{"sg-out", "sg-friend"} // a new member, known at once
	w.apply(v)
	reaches(t, stranger.NetNS, "10.0.0.12:80", "b 10.0.0.11")
}

func TestRevokedRuleCutsNewConnectionsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-out"), instance(t, "b", "10.0.0.11", "a", "sg-web")
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	serve(t, b.NetNS, "10.0.0.11:80", "b")
	c, _, err := dial(a.NetNS, "10.0.0.11:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	v.Interfaces[1].GroupIDs = []string{"sg-closed"}
	w.apply(v)
	echoes(t, c, "after the rule was revoked")
	blocked(t, a.NetNS, "10.0.0.11:80", "the rule was revoked")
}

func echoes(t testing.TB, c net.Conn, when string) {
	t.Helper()
	if _, err := fmt.Fprint(c, when); err != nil {
		t.Errorf("connection %s: %v", when, err)
	} else if got, err := readLine(c, 20*time.Second); err != nil || got != when {
		t.Errorf("connection %s: read %q, %v", when, got, err)
	}
}

func TestICMPRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	v.Groups = append(v.Groups, Group{ID: "sg-ping", Ingress: []Rule{{Proto: "icmp", FromPort: 8, ToPort: 0, CIDR: netip.MustParsePrefix("10.0.0.0/24")}}})
	a, b, c := instance(t, "a", "10.0.0.10", "a", "sg-out"), instance(t, "b", "10.0.1.10", "b", "sg-ping"), instance(t, "c", "10.0.1.11", "b", "sg-out")
	v.Interfaces = []Interface{a, b, c}
	w.apply(v)
	if !ping(t, a, b.IP) {
		t.Error("echo request from the range of the rule was not answered")
	}
	if ping(t, c, b.IP) {
		t.Error("echo request from outside of the rule's range was answered")
	}
	if ping(t, a, c.IP) {
		t.Error("echo request was answered although no rule allows ICMP")
	}
}

// ping sends one echo request from i and waits for the answer.
func ping(t testing.TB, i Interface, to netip.Addr) bool {
	t.Helper()
	ok := false
	if err := InNamespace(i.NetNS, func() error {
		c, err := net.ListenPacket("ip4:icmp", i.IP.String())
		if err != nil {
			return err
		}
		defer c.Close()
		c.WriteTo([]byte{8, 0, 0xf7, 0xfe, 0, 0, 0, 1}, &net.IPAddr{IP: to.AsSlice()})
		c.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 256)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return nil
			}
			if n > 0 && buf[0] == 0 && from.String() == to.String() {
				ok = true
				return nil
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestAntiSpoofing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-open"), instance(t, "b", "10.0.0.11", "a", "sg-open")
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	inNS(t, a.NetNS, "ip", "addr", "add", "10.0.0.99/32", "dev", "eth0")
	got := udpSink(t, b.NetNS, "10.0.0.11:9")
	udpSend(t, a.NetNS, "10.0.0.99:0", "10.0.0.11:9", "forged")
	udpSend(t, a.NetNS, "10.0.0.10:0", "10.0.0.11:9", "true")
	if first := <-got; first != "true 10.0.0.10" {
		t.Errorf("received %q: a packet with a forged source address came through", first)
	}
	v.Interfaces[0].SourceDestCheck = false
	w.apply(v)
	udpSend(t, a.NetNS, "10.0.0.99:0", "10.0.0.11:9", "router")
	select {
	case m := <-got:
		if m != "router 10.0.0.99" {
			t.Errorf("received %q", m)
		}
	case <-time.After(20 * time.Second):
		t.Error("without source/dest check an instance may send for others, but the packet was dropped")
	}
}

// udpSink receives at addr in ns: each message as "text source-address".
func udpSink(t testing.TB, ns, addr string) <-chan string {
	t.Helper()
	p, err := ListenPacketIn(ns, "udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	ch := make(chan string, 64)
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(from.String())
			ch <- string(buf[:n]) + " " + host
			p.WriteTo(buf[:n], from)
		}
	}()
	return ch
}

func udpSend(t testing.TB, ns, from, to, text string) {
	t.Helper()
	p, err := ListenPacketIn(ns, "udp4", from)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, _ := net.ResolveUDPAddr("udp4", to)
	if _, err := p.WriteTo([]byte(text), a); err != nil {
		t.Fatal(err)
	}
}

func TestPublicAddressFromTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-web"), instance(t, "b", "10.0.1.10", "b", "sg-web")
	a.PublicIP, b.PublicIP = w.public(5), w.public(6)
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	serve(t, a.NetNS, "10.0.0.10:80", "a")
	serve(t, a.NetNS, "10.0.0.10:81", "a")
	serve(t, b.NetNS, "10.0.1.10:80", "b")
	gateway := w.f.pool.gateway.String()
	reaches(t, "", a.PublicIP.String()+":80", "a "+gateway)
	blocked(t, "", a.PublicIP.String()+":81", "its security group has only port 80 open")
	blocked(t, "", b.PublicIP.String()+":80", "its subnet has no route to the internet gateway")
	serve(t, "", "0.0.0.0:8099", "the host")
	blocked(t, "", w.public(77).String()+":8099", "nobody has this public address")

	v.Interfaces[0].PublicIP, v.Interfaces[1].PublicIP = w.public(6), netip.Addr{} // moves
	w.apply(v)
	reaches(t, "", w.public(6).String()+":80", "a")
	blocked(t, "", w.public(5).String()+":80", "it was given back")

	v.HasIGW = false
	w.apply(v)
	blocked(t, "", w.public(6).String()+":80", "the internet gateway was detached")
	v.HasIGW = true
	w.apply(v)
	reaches(t, "", w.public(6).String()+":80", "a")
}

// A segment may be as long as both ends believe: the host's end believes in the loopback's size.
func TestLongSegmentsFromTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a := instance(t, "a", "10.0.0.10", "a", "sg-web")
	a.PublicIP = w.public(5)
	v.Interfaces = []Interface{a}
	w.apply(v)
	lis, err := ListenIn(a.NetNS, "tcp4", "10.0.0.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	const size = 8000
	go func() {
		c, err := lis.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		n, err := io.ReadFull(c, make([]byte, size))
		fmt.Fprintln(c, n, err)
	}()
	c, err := DialIn(t.Context(), "", "tcp4", a.PublicIP.String()+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if got, err := readLine(c, 20*time.Second); err != nil || strings.TrimSpace(got) != "8000 <nil>" {
		t.Errorf("the instance received %q, %v", got, err)
	}
}

// A range that the operator owns is used as it is, without translation on the host.
func TestPublicPoolOutsideOfLoopback(t *testing.T) {
	needWorld(t) // not parallel: the host gets an address to speak with
	inNS(t, "", "ip", "addr", "add", "192.0.2.77/32", "dev", "lo")
	t.Cleanup(func() { exec.Command("ip", "addr", "del", "192.0.2.77/32", "dev", "lo").Run() })
	w := newWorld(t, false)
	if err := w.f.Teardown(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.pool = netip.MustParsePrefix("198.18.7.0/24")
	w.restart()
	v, two := twoZones("vpc-1", 1), twoZones("vpc-2", 2)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-web"), instance(t, "b", "10.0.0.10", "a", "sg-web")
	a.PublicIP, b.PublicIP = w.public(5), w.public(6)
	v.Interfaces, two.Interfaces = []Interface{a}, []Interface{b}
	w.apply(v)
	w.apply(two)
	serve(t, a.NetNS, "10.0.0.10:80", "a")
	serve(t, a.NetNS, "10.0.0.10:81", "a")
	reaches(t, "", "198.18.7.5:80", "a 192.0.2.77")
	blocked(t, "", "198.18.7.5:81", "only port 80 is open")
	reaches(t, b.NetNS, "198.18.7.5:80", "a 198.18.7.6")
	if out := inNS(t, a.NetNS, "ip", "route", "show", "table", "all"); strings.Contains(out, "198.18.7") {
		t.Errorf("an instance got a route that it does not need:\n%s", out)
	}
}

func TestRuleForTheHostAndForAPublicAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	v.Groups = append(v.Groups, Group{ID: "sg-me", Ingress: []Rule{{Proto: "tcp", FromPort: 80, ToPort: 80, CIDR: netip.MustParsePrefix("127.0.0.1/32")}}},
		Group{ID: "sg-peer", Ingress: []Rule{{Proto: "tcp", FromPort: 80, ToPort: 80, CIDR: netip.PrefixFrom(w.public(6), 32)}}})
	a, b, c := instance(t, "a", "10.0.0.10", "a", "sg-me"), instance(t, "b", "10.0.0.11", "a", "sg-out"), instance(t, "c", "10.0.0.12", "a", "sg-peer")
	a.PublicIP, b.PublicIP, c.PublicIP = w.public(5), w.public(6), w.public(7)
	v.Interfaces = []Interface{a, b, c}
	w.apply(v)
	serve(t, a.NetNS, "10.0.0.10:80", "a")
	serve(t, c.NetNS, "10.0.0.12:80", "c")
	reaches(t, "", w.public(5).String()+":80", "a")
	blocked(t, b.NetNS, w.public(5).String()+":80", "the rule is for 127.0.0.1 alone")
	blocked(t, "", w.public(7).String()+":80", "the rule is for the public address of b")
	reaches(t, b.NetNS, w.public(7).String()+":80", "c "+w.public(6).String())
	blocked(t, b.NetNS, "10.0.0.12:80", "by the private address b comes with its own private one")
}

func TestPublicAddressesAmongVPCs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	one, two := twoZones("vpc-1", 1), twoZones("vpc-2", 2)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-open"), instance(t, "b", "10.0.0.11", "a", "sg-open")
	private := instance(t, "p", "10.0.1.10", "b", "sg-open")
	c, lb := instance(t, "c", "10.0.0.10", "a", "sg-open"), node("lb", "10.0.0.20", "a", "sg-web")
	a.PublicIP, b.PublicIP, c.PublicIP, lb.PublicIP = w.public(5), w.public(6), w.public(7), w.public(8)
	one.Interfaces, two.Interfaces = []Interface{a, b, private}, []Interface{c, lb}
	w.apply(one)
	w.apply(two)
	serve(t, a.NetNS, "10.0.0.10:80", "a")
	serve(t, b.NetNS, "10.0.0.11:80", "b")
	serve(t, c.NetNS, "10.0.0.10:80", "c")
	serve(t, w.f.VPCNamespace("vpc-2"), "10.0.0.20:80", "lb")
	serve(t, w.f.VPCNamespace("vpc-2"), "10.0.0.20:81", "lb")
	reaches(t, a.NetNS, w.public(7).String()+":80", "c "+w.public(5).String())
	reaches(t, c.NetNS, w.public(6).String()+":80", "b "+w.public(7).String())
	reaches(t, a.NetNS, w.public(6).String()+":80", "b "+w.public(5).String()) // the own VPC's
	reaches(t, a.NetNS, w.public(5).String()+":80", "a "+w.public(5).String()) // itself
	reaches(t, a.NetNS, w.public(8).String()+":80", "lb")
	reaches(t, c.NetNS, w.public(8).String()+":80", "lb") // a load balancer's, of the own VPC
	reaches(t, c.NetNS, "10.0.0.20:80", "lb 10.0.0.10")
	reaches(t, "", w.public(8).String()+":80", "lb")
	blocked(t, "", w.public(8).String()+":81", "the node's security group has only port 80 open")
	blocked(t, c.NetNS, "10.0.0.20:81", "the node's security group has only port 80 open")
	blocked(t, private.NetNS, w.public(7).String()+":80", "it has no public address to leave with")
}

func TestInstanceReachesNothingOfTheHostOrTheVPCNamespace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a := instance(t, "a", "10.0.0.10", "a", "sg-open")
	a.PublicIP = w.public(5)
	v.Interfaces = []Interface{a, node("lb", "10.0.0.20", "a")}
	w.apply(v)
	ns := w.f.VPCNamespace("vpc-1")
	serve(t, ns, "0.0.0.0:9000", "vpc")
	serve(t, "", "0.0.0.0:9100", "host")
	for _, addr := range []string{"10.0.0.1:9000", "169.254.169.254:9000", "169.254.169.250:9000", "169.254.169.253:9000", "10.0.0.2:9000"} {
		blocked(t, a.NetNS, addr, "instances reach only what is meant for them")
	}
	for _, addr := range []string{w.f.pool.gateway.String() + ":9100", w.f.pool.vpc.String() + ":9000", "192.0.2.2:9100"} {
		blocked(t, a.NetNS, addr, "the host is no part of the network")
	}
	reaches(t, a.NetNS, "10.0.0.20:9000", "vpc") // a node without groups is open, as an NLB
}

func TestMetadataAndDNSGoToTheZoneOfTheInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a, b := instance(t, "a", "10.0.0.10", "a", "sg-closed"), instance(t, "b", "10.0.1.10", "b", "sg-closed")
	v.Interfaces = []Interface{a, b}
	w.apply(v)
	ns := w.f.VPCNamespace("vpc-1")
	serve(t, ns, "169.254.169.254:18080", "imds-a")
	serve(t, ns, "169.254.169.254:18081", "imds-b")
	serve(t, ns, "169.254.169.253:15353", "dns-a")
	serve(t, ns, "10.0.0.2:15354", "dns-b")
	serve(t, ns, "169.254.169.250:4566", "api")
	reaches(t, a.NetNS, "169.254.169.254:80", "imds-a 10.0.0.10") // although its security group allows nothing
	reaches(t, b.NetNS, "169.254.169.254:80", "imds-b 10.0.1.10")
	reaches(t, a.NetNS, "169.254.169.253:53", "dns-a 10.0.0.10")
	reaches(t, b.NetNS, "10.0.0.2:53", "dns-b 10.0.1.10")
	reaches(t, a.NetNS, "169.254.169.250:4566", "api 10.0.0.10")
	blocked(t, a.NetNS, "169.254.169.254:18081", "that is another zone's listener, and not asked for by its port")
	got := udpSink(t, ns, "10.0.0.2:15353")
	udpSend(t, a.NetNS, "10.0.0.10:0", "10.0.0.2:53", "query")
	select {
	case m := <-got:
		if m != "query 10.0.0.10" {
			t.Errorf("resolver received %q", m)
		}
	case <-time.After(20 * time.Second):
		t.Error("a DNS query over UDP did not arrive")
	}
}

// The metadata service sets the TTL of its answers to the hop limit; 1 has to be enough for the instance itself.
func TestHopLimitOfOneReachesTheInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	a := instance(t, "a", "10.0.0.10", "a", "sg-closed")
	v.Interfaces = []Interface{a}
	w.apply(v)
	l, err := ListenIn(w.f.VPCNamespace("vpc-1"), "tcp4", "169.254.169.254:18080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, _ := l.(*net.TCPListener).SyscallConn()
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 1) })
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "token")
			c.Close()
		}
	}()
	reaches(t, a.NetNS, "169.254.169.254:80", "token")
}

func TestEgress(t *testing.T) {
	// Not parallel: the "internet" is one address beyond the host for all. The host's way there is its default route.
	needWorld(t)
	internet := namespace(t)
	inNS(t, "", "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", "/proc/self/ns/net")
	h, err := handle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	up1, err := h.LinkByName("up1")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(internet)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := h.LinkSetNsFd(up1, int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec.Command("ip", "link", "del", "up0").Run() })
	inNS(t, internet, "ip", "addr", "add", "198.51.100.1/24", "dev", "up1")
	inNS(t, internet, "ip", "link", "set", "up1", "up")
	inNS(t, internet, "ip", "route", "add", "default", "via", "198.51.100.2")
	inNS(t, "", "ip", "addr", "add", "198.51.100.2/24", "dev", "up0")
	inNS(t, "", "ip", "link", "set", "up0", "up")
	inNS(t, "", "ip", "route", "add", "default", "via", "198.51.100.1")
	serve(t, internet, "198.51.100.1:80", "internet")
	seen := sniff(t, internet, "up1")

	const forwarding = "/proc/sys/net/ipv4/conf/up0/forwarding"
	os.WriteFile(forwarding, []byte("0"), 0)
	for _, egress := range []bool{false, true} {
		w := newWorld(t, egress)
		v := twoZones("vpc-1", 1)
		a, b := instance(t, "a", "10.0.0.10", "a", "sg-open"), instance(t, "b", "10.0.1.10", "b", "sg-open")
		c := instance(t, "c", "10.0.0.11", "a", "sg-open")
		a.PublicIP, b.PublicIP = w.public(5), w.public(6)
		v.Interfaces = []Interface{a, b, c, node("lb", "10.0.0.20", "a")}
		w.apply(v)
		if egress {
			reaches(t, a.NetNS, "198.51.100.1:80", "internet 198.51.100.2")
			blocked(t, internet, w.f.pool.toTransit(a.PublicIP).String()+":80", "the address is known on this host only")
		} else {
			blocked(t, a.NetNS, "198.51.100.1:80", "there is no egress")
		}
		blocked(t, b.NetNS, "198.51.100.1:80", "its subnet has no route to the internet gateway")
		blocked(t, c.NetNS, "198.51.100.1:80", "it has no public address")
		blocked(t, w.f.VPCNamespace("vpc-1"), "198.51.100.1:80", "the VPC itself has no public address")
		if p, err := ListenPacketIn(w.f.VPCNamespace("vpc-1"), "udp4", "10.0.0.20:0"); err != nil {
			t.Error(err)
		} else {
			p.WriteTo([]byte("leak"), &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 9}) // may be refused at once
			p.Close()
		}
		if err := w.f.Teardown(w.ctx); err != nil {
			t.Fatal(err)
		}
		if now, _ := os.ReadFile(forwarding); strings.TrimSpace(string(now)) != "0" {
			t.Errorf("egress %v: the uplink still forwards after the teardown", egress)
		}
	}
	for p := range seen() {
		if p != "198.51.100.2" && p != "198.51.100.1" {
			t.Errorf("a packet from %s left the host", p)
		}
	}
}

// sniff records the source addresses of the IPv4 packets that a link receives.
func sniff(t testing.TB, ns, link string) func() map[string]bool {
	t.Helper()
	fd := -1
	if err := InNamespace(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_IP)))
		if err != nil {
			return err
		}
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: i.Index})
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() map[string]bool {
		m := map[string]bool{}
		buf := make([]byte, 2048)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				if len(m) == 0 {
					t.Error("the sniffer saw nothing at all")
				}
				return m
			}
			if n >= 20 {
				m[net.IP(buf[12:16]).String()] = true
			}
		}
	}
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }
