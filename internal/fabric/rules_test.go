package fabric

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPool(t *testing.T) {
	p, err := newPool(netip.MustParsePrefix("127.127.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr("127.127.3.4")
	if got := p.toTransit(a); got.String() != "100.127.3.4" || p.toPublic(got) != a {
		t.Errorf("transit address of %v is %v, and back %v", a, got, p.toPublic(got))
	}
	if !p.translated() || p.gateway.String() != "100.127.0.0" || p.vpc.String() != "100.127.0.1" || hosts(p.public) != "127.127.0.2-127.127.255.255" {
		t.Errorf("%+v, hosts %s", p, hosts(p.public))
	}
	if p, err = newPool(netip.MustParsePrefix("203.0.113.0/24")); err != nil || p.translated() {
		t.Errorf("a range outside of loopback is its own transit range: %+v, %v", p, err)
	}
	for _, bad := range []string{"127.0.0.0/16", "127.0.0.0/8", "::/64", "203.0.113.0/31", "0.0.0.0/0"} {
		if _, err := newPool(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("pool %s was not refused", bad)
		}
	}
}

func TestRuleLines(t *testing.T) {
	p, _ := newPool(netip.MustParsePrefix("127.61.0.0/16"))
	for want, r := range map[string]Rule{
		"accept":                         anywhere("-1", -1, -1),
		"tcp dport 80 accept":            anywhere("tcp", 80, 80),
		"udp dport 1000-2000 accept":     anywhere("17", 1000, 2000),
		"meta l4proto tcp accept":        anywhere("tcp", 0, 65535),
		"tcp dport 0 accept":             anywhere("tcp", 0, 0),
		"meta l4proto udp accept":        anywhere("udp", -1, -1),
		"meta l4proto 47 accept":         anywhere("47", -1, -1),
		"meta l4proto icmp accept":       anywhere("icmp", -1, -1),
		"icmp type 8 accept":             anywhere("icmp", 8, -1),
		"icmp type 3 icmp code 4 accept": anywhere("1", 3, 4),
		"":                               anywhere("icmpv6", -1, -1),
		"ip saddr 10.1.2.0/24 accept":    {Proto: "-1", CIDR: netip.MustParsePrefix("10.1.2.3/24")},
		"ip saddr 127.61.3.0/24 accept\nip saddr 100.125.3.0/24 accept":                            {Proto: "-1", CIDR: netip.MustParsePrefix("127.61.3.0/24")},
		"ip saddr 127.0.0.0/8 accept\nip saddr 100.125.0.0/16 accept\nip saddr 100.125.0.0 accept": {Proto: "-1", CIDR: netip.MustParsePrefix("127.0.0.0/8")},
		"ip saddr @member_sg-1 tcp dport 1 accept\nct status dnat ct original ip daddr @member_sg-1 tcp dport 1 accept\nmeta mark != 0 ct status snat ct original ip saddr @member_sg-1 tcp dport 1 accept": {Proto: "tcp", FromPort: 1, ToPort: 1, GroupID: "sg-1"},
	} {
		if err := r.check(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		if got := strings.Join(r.lines("saddr", p), "\n"); got != want {
			t.Errorf("%+v:\n%s\nwanted\n%s", r, got, want)
		}
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	p, _ := newPool(netip.MustParsePrefix("127.61.0.0/16"))
	base := func() VPC {
		v := twoZones("vpc-1", 1)
		v.Interfaces = []Interface{node("a", "10.0.0.10", "a", "sg-web"), {ID: "eni-b", IP: netip.MustParseAddr("10.0.0.11"), SubnetID: "subnet-a"}}
		return v
	}
	v := base()
	if err := v.check(p); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*VPC){
		"vpc id":            func(v *VPC) { v.ID = "../x" },
		"index":             func(v *VPC) { v.Index = maxIndex + 1 },
		"no range":          func(v *VPC) { v.CIDRs = nil },
		"range of the pool": func(v *VPC) { v.CIDRs = []netip.Prefix{netip.MustParsePrefix("100.125.0.0/20")} },
		"zone":              func(v *VPC) { v.ZonePorts["a b"] = 1 },
		"group id":          func(v *VPC) { v.Groups[0].ID = "x } drop {" },
		"rule's group id":   func(v *VPC) { v.Groups[0].Ingress[0].GroupID = "x;" },
		"rule's protocol":   func(v *VPC) { v.Groups[0].Ingress[0].Proto = "tcp accept" },
		"rule of nothing":   func(v *VPC) { v.Groups[0].Ingress[0].CIDR = netip.Prefix{} },
		"interface id":      func(v *VPC) { v.Interfaces[0].ID = "eni a" },
		"twice":             func(v *VPC) { v.Interfaces[1].ID = "eni-a" },
		"same address":      func(v *VPC) { v.Interfaces[1].IP = v.Interfaces[0].IP },
		"no subnet":         func(v *VPC) { v.Interfaces[0].SubnetID = "subnet-z" },
		"IPv6":              func(v *VPC) { v.Interfaces[0].IP = netip.IPv6Loopback() },
		"node with a netns": func(v *VPC) { v.Interfaces[0].NetNS = "/x" },
		"not of the pool":   func(v *VPC) { v.Interfaces[0].PublicIP = netip.MustParseAddr("127.62.0.1") },
		"same public address": func(v *VPC) {
			v.Interfaces[0].PublicIP = netip.MustParseAddr("127.61.0.5")
			v.Interfaces[1].PublicIP = v.Interfaces[0].PublicIP
		},
		"mac":             func(v *VPC) { v.Interfaces[0].MAC = "zz" },
		"interface group": func(v *VPC) { v.Interfaces[0].GroupIDs = []string{"x y"} },
		"alike ids": func(v *VPC) {
			v.Interfaces[0] = Interface{ID: "eni-000aaaaaaaaaaaaaa", IP: netip.MustParseAddr("10.0.0.10"), SubnetID: "subnet-a"}
			v.Interfaces[1].ID = "eni-111aaaaaaaaaaaaaa"
		},
	} {
		v := base()
		change(&v)
		if err := v.check(p); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

// What since writes must lead the kernel to exactly what full would have written, whatever came before.
func TestDifferencesAddUpToTheWhole(t *testing.T) {
	needWorld(t)
	t.Parallel()
	seed := uint64(20)
	rnd := rand.New(rand.NewPCG(seed, 1))
	p, _ := newPool(netip.MustParsePrefix("127.61.0.0/16"))
	step, whole := namespace(t), namespace(t)
	var old *ruleset
	for round := range 25 {
		v := randomVPC(rnd)
		if err := v.check(p); err != nil {
			t.Fatal(err)
		}
		want := v.rules(p, rnd.IntN(2) == 0)
		script := want.full()
		if old != nil {
			script = want.since(old)
		}
		for ns, s := range map[string]string{step: script, whole: want.full()} {
			if err := nft(t.Context(), ns, s); err != nil {
				t.Fatalf("seed %d round %d: %v\n%s", seed, round, err, s)
			}
		}
		if diff := cmp.Diff(listed(t, whole), listed(t, step)); diff != "" {
			t.Fatalf("seed %d round %d: whole and differences part:\n%s\nafter\n%s", seed, round, diff, script)
		}
		if again := want.since(v.rules(p, true)); round == 0 && again == "" && want.full() != v.rules(p, true).full() {
			t.Errorf("a difference was not seen")
		}
		if again := want.since(want); again != "" {
			t.Errorf("equal states differ: %s", again)
		}
		old = want
	}
}

// listed is a namespace's rule set with what has no order sorted.
func listed(t testing.TB, ns string) string {
	blocks := strings.Split(inNS(t, ns, "nft", "list", "ruleset"), "\n\n")
	for i, b := range blocks {
		if at := strings.Index(b, "elements = {"); at >= 0 {
			fields := strings.FieldsFunc(b[at:], func(r rune) bool { return r == ',' || r == '\n' || r == '{' || r == '}' })
			for j := range fields {
				fields[j] = strings.TrimSpace(fields[j])
			}
			slices.Sort(fields)
			blocks[i] = b[:at] + strings.Join(fields, "\n")
		}
		blocks[i] = strings.TrimPrefix(strings.Trim(blocks[i], "\n}"), "table inet skerry {\n")
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

func randomVPC(r *rand.Rand) VPC {
	v := twoZones("vpc-1", 1)
	v.HasIGW = r.IntN(4) > 0
	v.Subnets[1].RouteToIGW = r.IntN(2) == 0
	if r.IntN(3) == 0 {
		delete(v.ZonePorts, "b")
	}
	v.Groups = nil
	for g := range r.IntN(5) {
		group := Group{ID: fmt.Sprintf("sg-%d", g)}
		for range r.IntN(4) {
			rule := anywhere([]string{"tcp", "udp", "icmp", "-1", "50"}[r.IntN(5)], r.IntN(3), 2+r.IntN(3))
			if r.IntN(2) == 0 {
				rule.GroupID = fmt.Sprintf("sg-%d", r.IntN(5))
			} else if r.IntN(2) == 0 {
				rule.CIDR = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(10 + 117*r.IntN(2)), byte(r.IntN(256)), 0, 0}), 8+r.IntN(17)).Masked()
			}
			group.Ingress = append(group.Ingress, rule)
			group.Egress = append(group.Egress, rule)
		}
		v.Groups = append(v.Groups, group)
	}
	for i := range r.IntN(6) {
		e := Interface{ID: fmt.Sprintf("eni-%d", i), IP: netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(10 + i)}), Zone: "a",
			Local: r.IntN(3) == 0, SourceDestCheck: r.IntN(4) > 0}
		e.SubnetID = []string{"subnet-a", "subnet-b"}[e.IP.As4()[2]]
		if r.IntN(2) == 0 {
			e.PublicIP = netip.AddrFrom4([4]byte{127, 61, 0, byte(10 + (i+r.IntN(2)*100)%200)})
		}
		for range r.IntN(3) {
			e.GroupIDs = append(e.GroupIDs, fmt.Sprintf("sg-%d", r.IntN(6)))
		}
		v.Interfaces = append(v.Interfaces, e)
	}
	return v
}
