package network

import (
	"fmt"
	"strings"
	"testing"

	"skerry/internal/store"
)

func tcp(port int32, cidr string) Rule {
	return Rule{Protocol: "tcp", FromPort: port, ToPort: port, CIDRv4: cidr}
}

func (w *world) authorize(g SecurityGroup, rules ...Rule) func(*store.WriteTx) error {
	return func(tx *store.WriteTx) error { _, err := Authorize(tx, here, g.ID, rules); return err }
}

func TestRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v, other := w.vpc("10.0.0.0/16"), w.vpc("10.0.0.0/16")
	g, peer, foreign := w.group(v, "g"), w.group(v, "peer"), w.group(other, "g")
	for _, c := range []struct {
		name string
		r    Rule
		code string
	}{
		{"ssh", tcp(22, "0.0.0.0/0"), ""},
		{"ssh by number", Rule{Protocol: "6", FromPort: 22, ToPort: 22, CIDRv4: "0.0.0.0/0"}, "InvalidPermission.Duplicate"},
		{"host bits", tcp(80, "10.0.0.5/24"), ""},
		{"without them", tcp(80, "10.0.0.0/24"), "InvalidPermission.Duplicate"},
		{"another description", Rule{Protocol: "tcp", FromPort: 22, ToPort: 22, CIDRv4: "0.0.0.0/0", Description: "x"}, "InvalidPermission.Duplicate"},
		{"the other way", Rule{Egress: true, Protocol: "tcp", FromPort: 22, ToPort: 22, CIDRv4: "0.0.0.0/0"}, ""},
		{"all", Rule{Protocol: "-1", FromPort: 7, ToPort: 9, CIDRv4: "10.0.0.0/8"}, ""},
		{"all without ports", Rule{Protocol: "all", FromPort: -1, ToPort: -1, CIDRv4: "10.0.0.0/8"}, "InvalidPermission.Duplicate"},
		{"ping", Rule{Protocol: "icmp", FromPort: 8, ToPort: -1, CIDRv4: "0.0.0.0/0"}, ""},
		{"a group", Rule{Protocol: "tcp", FromPort: 80, ToPort: 80, GroupID: peer.ID}, ""},
		{"itself", Rule{Protocol: "-1", GroupID: g.ID}, ""},
		{"IPv6", Rule{Protocol: "udp", FromPort: 53, ToPort: 53, CIDRv6: "2001:db8::/32"}, ""},
		{"no group", Rule{Protocol: "tcp", FromPort: 80, ToPort: 80, GroupID: "sg-1"}, "InvalidGroup.NotFound"},
		{"another VPC's group", Rule{Protocol: "tcp", FromPort: 80, ToPort: 80, GroupID: foreign.ID}, "InvalidGroup.NotFound"},
		{"ports turned round", Rule{Protocol: "tcp", FromPort: 90, ToPort: 80, CIDRv4: "0.0.0.0/0"}, "InvalidParameterValue"},
		{"port 65536", tcp(65536, "0.0.0.0/0"), "InvalidParameterValue"},
		{"no protocol", Rule{CIDRv4: "0.0.0.0/0"}, "MissingParameter"},
		{"a word", Rule{Protocol: "http", CIDRv4: "0.0.0.0/0"}, "InvalidParameterValue"},
		{"bad range", tcp(1, "10.0.0.0/33"), "InvalidParameterValue"},
		{"IPv6 as IPv4", tcp(1, "::/0"), "InvalidParameterValue"},
		{"no peer", Rule{Protocol: "tcp", FromPort: 1, ToPort: 1}, "InvalidParameterValue"},
		{"prefix list", Rule{Protocol: "tcp", FromPort: 1, ToPort: 1, PrefixListID: "pl-1"}, "InvalidPrefixListID.NotFound"},
		{"description", Rule{Protocol: "tcp", FromPort: 1, ToPort: 1, CIDRv4: "0.0.0.0/0", Description: "ünsafe"}, "InvalidParameterValue"},
	} {
		w.wants(c.name, c.code, w.authorize(g, c.r))
	}
	w.wants("one of two twice", "InvalidPermission.Duplicate", w.authorize(g, tcp(443, "0.0.0.0/0"), tcp(22, "0.0.0.0/0")))
	after, _ := GetGroup(w.db.Read(), here, g.ID)
	if len(after.Rules) != 9 { // egress all, and the eight above
		t.Errorf("%d rules: %+v", len(after.Rules), after.Rules)
	}
	var many []Rule
	for n := range MaxRulesPerGroup + 1 {
		many = append(many, tcp(int32(1000+n), "0.0.0.0/0"))
	}
	w.wants("too many", "RulesPerSecurityGroupLimitExceeded", w.authorize(peer, many...))
	w.wants("just enough", "", w.authorize(peer, many[:MaxRulesPerGroup]...))
}

func TestRuleText(t *testing.T) {
	for want, r := range map[string]Rule{
		"peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW": tcp(22, "0.0.0.0/0"),
		"peer: 0.0.0.0/0, ALL, ALLOW":                             {Protocol: "-1", CIDRv4: "0.0.0.0/0"},
		"peer: sg-1, ICMP, type: 8, code: 0, ALLOW":               {Protocol: "icmp", FromPort: 8, GroupID: "sg-1"},
	} {
		if got := fmt.Sprint(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	w.write(func(tx *store.WriteTx) error { return EnsureDefaultVPC(tx, here) })
	d, _ := DefaultVPC(w.db.Read(), here)
	v := w.vpc("10.0.0.0/16")
	for _, c := range []struct {
		vpc     VPC
		code    string
		unknown int
	}{{v, "InvalidPermission.NotFound", 0}, {d, "", 1}} {
		g := w.group(c.vpc, "g")
		w.wants("open", "", w.authorize(g, tcp(80, "0.0.0.0/0"), tcp(81, "0.0.0.0/0")))
		var removed, unknown []Rule
		w.wants("revoke one of two", c.code, func(tx *store.WriteTx) (err error) {
			removed, unknown, err = Revoke(tx, here, g.ID, []Rule{tcp(80, "0.0.0.0/0"), tcp(99, "0.0.0.0/0")})
			return err
		})
		after, _ := GetGroup(w.db.Read(), here, g.ID)
		if c.unknown == 0 && len(after.Rules) != 3 || c.unknown == 1 && (len(after.Rules) != 2 || len(removed) != 1 || len(unknown) != 1) {
			t.Errorf("%+v: %+v, %+v, %+v", c.vpc.IsDefault, after.Rules, removed, unknown)
		}
		w.wants("by id, the wrong way round", "InvalidSecurityGroupRuleId.NotFound", func(tx *store.WriteTx) error {
			_, err := RevokeByID(tx, here, g.ID, true, []string{after.Rules[len(after.Rules)-1].ID})
			return err
		})
		w.wants("by id", "", func(tx *store.WriteTx) error {
			_, err := RevokeByID(tx, here, g.ID, false, []string{after.Rules[len(after.Rules)-1].ID})
			return err
		})
		w.wants("out of everything", "", func(tx *store.WriteTx) error {
			_, _, err := Revoke(tx, here, g.ID, []Rule{{Egress: true, Protocol: "-1", CIDRv4: "0.0.0.0/0"}})
			return err
		})
	}
}

func TestModifyRule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	g := w.group(w.vpc("10.0.0.0/16"), "g")
	var rules []Rule
	w.write(func(tx *store.WriteTx) (err error) {
		rules, err = Authorize(tx, here, g.ID, []Rule{tcp(80, "0.0.0.0/0"), tcp(81, "0.0.0.0/0")})
		return err
	})
	mod := func(id string, r Rule) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error { return ModifyRule(tx, here, g.ID, id, r) }
	}
	w.wants("into another", "InvalidPermission.Duplicate", mod(rules[0].ID, tcp(81, "0.0.0.0/0")))
	w.wants("into itself", "", mod(rules[0].ID, tcp(80, "0.0.0.0/0")))
	w.wants("into a third", "", mod(rules[0].ID, tcp(82, "10.0.0.0/8")))
	w.wants("none", "InvalidSecurityGroupRuleId.NotFound", mod("sgr-1", tcp(83, "0.0.0.0/0")))
	w.wants("describe", "", func(tx *store.WriteTx) error { return DescribeRuleByID(tx, here, g.ID, rules[1].ID, false, "why") })
	w.wants("describe by what it allows", "", func(tx *store.WriteTx) error {
		r := tcp(82, "10.0.0.0/8")
		r.Description = "inside"
		return DescribeRule(tx, here, g.ID, r)
	})
	after, _ := GetGroup(w.db.Read(), here, g.ID)
	if r := after.Rules[1]; r.ID != rules[0].ID || r.FromPort != 82 || r.Description != "inside" {
		t.Errorf("%+v", r)
	}
	if r := after.Rules[2]; r.Description != "why" {
		t.Errorf("%+v", r)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "127.99.0.0/16")
	v := w.vpc("10.0.0.0/16")
	g := w.group(v, "web")
	create := func(name, description string) func(*store.WriteTx) error {
		return func(tx *store.WriteTx) error { _, err := CreateGroup(tx, here, v.ID, name, description); return err }
	}
	for _, c := range [][3]string{{"web", "x", "InvalidGroup.Duplicate"}, {"", "x", "MissingParameter"}, {"a", "", "MissingParameter"}, {"sg-a", "x", "InvalidParameterValue"}, {"default", "x", "InvalidParameterValue"},
		{"ä", "x", "InvalidParameterValue"}, {strings.Repeat("a", 256), "x", "InvalidParameterValue"}, {"a", "<x>", "InvalidParameterValue"}, {"a b_c.d-e", "x", ""}} {
		w.wants(c[0], c[2], create(c[0], c[1]))
	}
	w.wants("default", "CannotDelete", func(tx *store.WriteTx) error { return DeleteGroup(tx, here, v.DefaultGroupID) })
	peer := w.group(v, "peer")
	w.wants("refer", "", w.authorize(g, Rule{Protocol: "-1", GroupID: peer.ID}))
	w.wants("referred to", "DependencyViolation", func(tx *store.WriteTx) error { return DeleteGroup(tx, here, peer.ID) })
	w.wants("itself only", "", w.authorize(g, Rule{Protocol: "-1", GroupID: g.ID}))
	w.wants("referring", "", func(tx *store.WriteTx) error { return DeleteGroup(tx, here, g.ID) })
	w.wants("not referred to any more", "", func(tx *store.WriteTx) error { return DeleteGroup(tx, here, peer.ID) })
}
