package zone

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestNamesInsideAVPC(t *testing.T) {
	d := Desired{APIName: "api.skerry.internal",
		VPCs: []VPC{{ID: "vpc-1"}, {ID: "vpc-2"}},
		Hosts: []Host{{VPC: "vpc-1", IP: netip.MustParseAddr("10.0.0.5"), Name: "ip-10-0-0-5.ec2.internal",
			Public: netip.MustParseAddr("127.99.0.5"), PublicName: "ec2-127-99-0-5.compute-1.amazonaws.com"}},
		Names: []Name{{Name: "web-1.us-east-1.elb.amazonaws.com", Addrs: addrs("127.99.0.7")},
			{Name: "web-1.us-east-1.elb.amazonaws.com", VPC: "vpc-1", Addrs: addrs("10.0.0.7", "10.0.1.7")}}}
	n := buildNames(d)
	for _, c := range []struct {
		vpc, name string
		qtype     uint16
		rcode     int
		want      []string
	}{
		{"vpc-1", "ip-10-0-0-5.ec2.internal.", dns.TypeA, dns.RcodeSuccess, []string{"10.0.0.5"}},
		{"vpc-1", "IP-10-0-0-5.EC2.internal.", dns.TypeA, dns.RcodeSuccess, []string{"10.0.0.5"}},
		{"vpc-1", "ip-10-0-0-5.ec2.internal.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"vpc-2", "ip-10-0-0-5.ec2.internal.", dns.TypeA, dns.RcodeNameError, nil}, // another VPC's instance
		{"vpc-1", "5.0.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, []string{"ip-10-0-0-5.ec2.internal."}},
		{"vpc-1", "6.0.0.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil},
		{"vpc-1", "ec2-127-99-0-5.compute-1.amazonaws.com.", dns.TypeA, dns.RcodeSuccess, []string{"10.0.0.5"}}, // inside: the private address
		{"vpc-2", "ec2-127-99-0-5.compute-1.amazonaws.com.", dns.TypeA, dns.RcodeSuccess, []string{"127.99.0.5"}},
		{"vpc-1", "web-1.us-east-1.elb.amazonaws.com.", dns.TypeA, dns.RcodeSuccess, []string{"10.0.0.7", "10.0.1.7"}},
		{"vpc-2", "web-1.us-east-1.elb.amazonaws.com.", dns.TypeA, dns.RcodeSuccess, []string{"127.99.0.7"}},
		{"vpc-2", "gone-1.us-east-1.elb.amazonaws.com.", dns.TypeA, dns.RcodeNameError, nil},
		{"vpc-2", "api.skerry.internal.", dns.TypeA, dns.RcodeSuccess, []string{"169.254.169.250"}},
		{"vpc-2", "instance-data.", dns.TypeA, dns.RcodeSuccess, []string{"169.254.169.254"}},
		{"vpc-2", "example.com.", dns.TypeA, dns.RcodeNameError, nil}, // no egress
	} {
		q := new(dns.Msg).SetQuestion(c.name, c.qtype)
		m := resolve(n, c.vpc, nil, q, false)
		var got []string
		for _, rr := range m.Answer {
			switch v := rr.(type) {
			case *dns.A:
				got = append(got, v.A.String())
			case *dns.PTR:
				got = append(got, v.Ptr)
			}
		}
		slices.Sort(got) // answers take turns in their order
		same := len(got) == len(c.want)
		for i := range got {
			same = same && got[i] == c.want[i]
		}
		if m.Rcode != c.rcode || !same || m.Id != q.Id {
			t.Errorf("%s %s %s: %s %v, wanted %s %v", c.vpc, c.name, dns.TypeToString[c.qtype], dns.RcodeToString[m.Rcode], got, dns.RcodeToString[c.rcode], c.want)
		}
	}
}

func TestUnknownNamesGoToTheHostsResolverWithEgressOnly(t *testing.T) {
	upstream := HostDNS{Lookup: func(name string) ([]netip.Addr, bool) { return addrs("192.0.2.1"), name == "example.com" }}
	stop, err := ServeHostDNS("127.0.0.1:0", upstream)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	l, err := kernelNet{}.ListenPacket("", "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serveDNS(&dns.Server{PacketConn: l, Handler: upstream})
	defer s.Shutdown()
	f := newForwarder(l.LocalAddr().String())
	ask := func(egress bool, name string) *dns.Msg {
		return resolve(buildNames(Desired{Egress: egress}), "vpc-1", f, new(dns.Msg).SetQuestion(name, dns.TypeA), false)
	}
	if m := ask(true, "example.com."); len(m.Answer) != 1 {
		t.Errorf("with egress: %v", m)
	}
	if m := ask(false, "example.com."); m.Rcode != dns.RcodeNameError {
		t.Errorf("without egress: %v", m)
	}
	if m := ask(true, "ip-10-9-9-9.ec2.internal."); m.Rcode != dns.RcodeNameError || len(m.Answer) > 0 {
		t.Errorf("an internal name left the cloud: %v", m)
	}
	if m := ask(true, "other.example."); m.Rcode != dns.RcodeRefused {
		t.Errorf("the upstream's refusal became %v", m)
	}
}

func TestAnswersTakeTurns(t *testing.T) {
	n := buildNames(Desired{Names: []Name{{Name: "lb.example", Addrs: addrs("10.0.0.7", "10.0.1.7")}}})
	first := map[string]int{}
	for range 10 {
		m := resolve(n, "vpc-1", nil, new(dns.Msg).SetQuestion("lb.example.", dns.TypeA), false)
		if len(m.Answer) != 2 {
			t.Fatalf("answer: %v", m.Answer)
		}
		first[m.Answer[0].(*dns.A).A.String()]++
	}
	if first["10.0.0.7"] == 0 || first["10.0.1.7"] == 0 {
		t.Errorf("all clients are led to one zone: %v", first)
	}
}

func TestANamePrefersItsZonesAddress(t *testing.T) {
	name := "net-1.elb.us-east-1.amazonaws.com."
	for share, least := range map[int]int{0: 0, 85: 170, 100: 200} {
		n := buildNames(Desired{VPCs: []VPC{{ID: "vpc-1"}}, Names: []Name{{Name: name, Addrs: addrs("10.0.0.7", "10.0.1.7"), Local: netip.MustParseAddr("10.0.1.7"), LocalShare: share}}})
		local := 0
		for range 200 {
			m := resolve(n, "vpc-1", nil, new(dns.Msg).SetQuestion(name, dns.TypeA), false)
			if len(m.Answer) == 1 && m.Answer[0].(*dns.A).A.String() == "10.0.1.7" {
				local++
			} else if len(m.Answer) != 2 {
				t.Fatalf("answer %v", m.Answer)
			}
		}
		if local < least-1 || local > least+1 {
			t.Errorf("a share of %d percent: %d of 200 answers held the zone's address alone", share, local)
		}
	}
}

// TestNodeDialsByName: a load balancer's node reaches an identity provider by the names of its VPC.
func TestNodeDialsByName(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	known := buildNames(Desired{VPCs: []VPC{{ID: "vpc-1"}}, Names: []Name{{Name: "idp.example", Addrs: addrs("127.0.0.1")}, {Name: "nowhere.example"}}})
	n := &nodes{o: Options{Net: &fakeNet{}}, names: func() *names { return known }}
	for host, ok := range map[string]bool{"idp.example": true, "IDP.example.": true, "127.0.0.1": true, "nowhere.example": false} {
		c, err := n.dial(t.Context(), "vpc-1", "", netip.Addr{}, "tcp", net.JoinHostPort(host, port))
		if (err == nil) != ok {
			t.Errorf("%s: %v", host, err)
		}
		if err == nil {
			c.Close()
		}
	}
}
