package fabric

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// vpcTable is the table of security groups and address translation in a VPC's namespace.
const vpcTable = "inet skerry"

// nodeBlocked and nodeBlockedOut count the packets that security groups keep from a node and its own from others, by the node's
// address and the protocol.
const (
	nodeBlocked    = "node_blocked"
	nodeBlockedOut = "node_blocked_out"
)

// gatewayLink is the VPC's end of its internet gateway.
const gatewayLink = "igw"

// linkName is the VPC's end of an interface. 14 characters of the id are as unique as an id needs to be in one VPC; check
// refuses two that meet.
func linkName(id string) string {
	id = strings.TrimPrefix(id, "eni-")
	return "e" + id[max(0, len(id)-14):]
}

// rules is the whole rule set of a VPC; see the package's comment for how a packet goes through it.
func (v *VPC) rules(p pool, egress bool) *ruleset {
	r := newRuleset(vpcTable)
	r.declare("map", "node_in", "ipv4_addr : ipv4_addr")    // transit → node
	r.declare("map", "node_out", "ipv4_addr : ipv4_addr")   // node → transit
	r.declare("map", "public_in", "ipv4_addr : ipv4_addr")  // transit → instance
	r.declare("map", "public_out", "ipv4_addr : ipv4_addr") // instance → transit
	r.declare("set", "out", "ipv4_addr")                    // private addresses that may leave
	r.declare("set", "mine", "ipv4_addr")                   // transit addresses of this VPC
	r.declare("set", "nodes", "ipv4_addr")
	r.declare("set", "bound", "ifname . ipv4_addr")
	r.declare("set", "unbound", "ifname")
	r.declare("map", "sg_out", "ifname : verdict")
	r.declare("map", "sg_in", "ifname : verdict")
	r.declare("map", "node_sg_out", "ipv4_addr : verdict")
	r.declare("map", "node_sg_in", "ipv4_addr : verdict")
	for _, set := range []string{nodeBlocked, nodeBlockedOut} {
		r.declare("set", set, "ipv4_addr . inet_proto; counter")
	}
	r.declare("map", "zones", "ifname : verdict")
	v.groupRules(r, p)
	v.zoneRules(r)
	for _, i := range v.Interfaces {
		ip, link := i.IP.String(), quote(linkName(i.ID))
		in, out := v.interfaceChains(r, i)
		if i.Local {
			r.add("nodes", ip, "")
			if len(i.GroupIDs) > 0 {
				for _, proto := range []string{"tcp", "udp", "icmp"} {
					r.add(nodeBlocked, ip+" . "+proto, "")
					r.add(nodeBlockedOut, ip+" . "+proto, "")
				}
				r.add("node_sg_in", ip, "goto "+in+"_node")
				r.add("node_sg_out", ip, "goto "+out+"_node")
			}
		} else {
			if i.SourceDestCheck {
				r.add("bound", link+" . "+ip, "")
			} else {
				r.add("unbound", link, "")
			}
			r.add("sg_in", link, "goto "+in)
			r.add("sg_out", link, "goto "+out)
			if _, ok := v.ZonePorts[i.Zone]; ok {
				r.add("zones", link, "goto zone_"+i.Zone)
			}
		}
		if pub, ok := v.public(i); ok {
			t := p.toTransit(pub).String()
			r.add("mine", t, "")
			r.add("out", ip, "")
			if i.Local {
				r.add("node_in", t, ip)
				r.add("node_out", ip, t)
			} else {
				r.add("public_in", t, ip)
				r.add("public_out", ip, t)
			}
		}
		for _, g := range i.GroupIDs {
			if _, known := r.sets["member_"+g]; known {
				r.add("member_"+g, ip, "")
			}
		}
	}
	v.baseChains(r, p, egress)
	return r
}

func quote(s string) string { return `"` + s + `"` }

// baseChains are the ones that hang on hooks; apart from the pool and the ranges they are the same in every VPC.
func (v *VPC) baseChains(r *ruleset, p pool, egress bool) {
	var ranges []string
	for _, c := range v.CIDRs {
		ranges = append(ranges, c.Masked().String())
	}
	slices.Sort(ranges)
	ranges = append(ranges, "127.0.0.0/8", "169.254.0.0/16")
	local := []string{IMDSAddr.String(), DNSAddr.String(), APIAddr.String(), v.resolver().String()}

	probes := fmt.Sprintf("meta mark 0x%x accept", nlbMark) // what ends an NLB's flows: see CutFlows
	raw := []string{`iifname "lo" accept`, `iifname "igw" goto on_raw_igw`}
	if p.translated() {
		raw = append(raw,
			fmt.Sprintf("ip daddr %s drop", hosts(p.transit)),
			fmt.Sprintf("ip daddr %s ip daddr set ip daddr & %s | %s", hosts(p.public), hostMask(p.public), p.transit.Addr()))
	}
	raw = append(raw, "iifname . ip saddr @bound accept", "iifname @unbound accept")
	r.chain("on_raw", "type filter hook prerouting priority -300; policy drop;", raw...)
	r.chain("on_raw_igw", "",
		"ip saddr { "+strings.Join(ranges, ", ")+" } drop",
		"ip daddr set ip daddr map @node_in",
		"meta nfproto ipv4 accept",
		"drop")
	r.chain("on_egress", "type filter hook prerouting priority -150;",
		"ct state established,related accept",
		`iifname { "lo", "igw" } accept`,
		"ct state invalid drop",
		"ip daddr { "+strings.Join(local, ", ")+" } accept", // not subject to security groups; chain input guards them
		"iifname vmap @sg_out",
		"drop")
	r.chain("on_node_ingress", "type filter hook prerouting priority -145;",
		"ct state established,related accept",
		`iifname "lo" accept`,
		"ip daddr vmap @node_sg_in")
	r.chain("on_dnat", "type nat hook prerouting priority -100;",
		`iifname "igw" dnat ip to ip daddr map @public_in`,
		"iifname vmap @zones")
	forward := []string{
		"ct state established,related accept",
		"ct state invalid drop",
		"ct status dnat ct original ip daddr @nodes jump on_nlb_egress",
	}
	if p.translated() {
		forward = append(forward, fmt.Sprintf(`oifname "igw" ip daddr { %s, %s } drop`, p.gateway, p.vpc)) // the host's end
	}
	if !egress {
		forward = append(forward, fmt.Sprintf(`oifname "igw" ip daddr != %s reject with icmp type net-unreachable`, p.transit))
	}
	r.chain("on_forward", "type filter hook forward priority 0; policy drop;", append(forward,
		`oifname "igw" ip saddr @out accept`,
		`oifname "igw" reject with icmp type net-unreachable`,
		`iifname "igw" ct status dnat accept`,
		`iifname "igw" drop`,
		"accept")...)
	r.chain("on_nlb_egress", "", "ct original ip daddr vmap @node_sg_out")
	r.chain("on_output", "type filter hook output priority -150;",
		`oifname "lo" accept`,
		"ct state established,related accept",
		probes,
		"ip saddr vmap @node_sg_out")
	r.chain("on_input", "type filter hook input priority 150; policy drop;",
		`iifname "lo" accept`,
		"ct state established,related accept",
		"ct status dnat ct original ip daddr @nodes ip daddr vmap @node_sg_in", // an NLB's target that is itself a node
		"ip daddr @nodes accept",
		"ip daddr { "+strings.Join(local, ", ")+" } ct status dnat accept",
		fmt.Sprintf("ip daddr %s tcp dport %d accept", APIAddr, APIPort))
	r.chain("on_snat", "type nat hook postrouting priority 100;",
		`oifname "igw" snat ip to ip saddr map @public_out`)
	r.chain("on_ingress", "type filter hook postrouting priority 150;",
		"ct state established,related accept",
		`oifname { "lo", "igw" } accept`,
		probes,
		"oifname vmap @sg_in",
		"drop")
	last := []string{
		`oifname "igw" goto on_leave`,
	}
	if p.translated() {
		last = append(last, fmt.Sprintf("ip saddr %s ip saddr set ip saddr & %s | %s", hosts(p.transit), hostMask(p.public), p.public.Addr()))
	}
	r.chain("on_last", "type filter hook postrouting priority 300;", last...)
	r.chain("on_leave", "",
		"ip saddr set ip saddr map @node_out",
		"ip saddr != @mine drop", // whatever went wrong before: no private address leaves the VPC
	)
}

// hosts is the range of a pool's addresses that are given out: all but the first two.
func hosts(p netip.Prefix) string {
	last := fromU32(toU32(p.Addr()) | ^toU32Mask(p.Bits()))
	return offset(p, 2).String() + "-" + last.String()
}

func hostMask(p netip.Prefix) string { return fromU32(^toU32Mask(p.Bits())).String() }

// zoneRules lead metadata and DNS to the listeners of the zone that asks.
func (v *VPC) zoneRules(r *ruleset) {
	for zone, off := range v.ZonePorts {
		rules := []string{fmt.Sprintf("ip daddr %s tcp dport 80 dnat ip to %s:%d", IMDSAddr, IMDSAddr, IMDSPort+off)}
		for _, a := range []netip.Addr{DNSAddr, v.resolver()} {
			for _, proto := range []string{"udp", "tcp"} {
				rules = append(rules, fmt.Sprintf("ip daddr %s %s dport 53 dnat ip to %s:%d", a, proto, a, DNSPort+off))
			}
		}
		r.chain("zone_"+zone, "", rules...)
	}
}

// groupRules make a chain for each direction of each group, and a set of member addresses for each group that a rule
// refers to.
func (v *VPC) groupRules(r *ruleset, p pool) {
	for _, g := range v.Groups {
		for _, d := range []struct {
			name, side string
			rules      []Rule
		}{{"in", "saddr", g.Ingress}, {"out", "daddr", g.Egress}} {
			var lines []string
			for _, rule := range d.rules {
				if rule.GroupID != "" {
					if _, known := r.sets["member_"+rule.GroupID]; !known {
						r.declare("set", "member_"+rule.GroupID, "ipv4_addr")
					}
				}
				lines = append(lines, rule.lines(d.side, p)...)
			}
			slices.Sort(lines) // the order of allow rules means nothing: do not rewrite the chain for it
			r.chain("group_"+g.ID+"_"+d.name, "", slices.Compact(lines)...)
		}
	}
}

// interfaceChains returns the names of the chains for a list of groups, made on first use: each group in turn, then drop.
func (v *VPC) interfaceChains(r *ruleset, i Interface) (in, out string) {
	ids := slices.Clone(i.GroupIDs)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, " ")))
	base := "sg_" + hex.EncodeToString(sum[:8])
	in, out = base+"_in", base+"_out"
	if _, had := r.chains[in]; had && (!i.Local || r.chains[in+"_node"].rules != nil) {
		return in, out
	}
	var ins, outs []string
	for _, id := range ids {
		if _, known := r.chains["group_"+id+"_in"]; known {
			ins = append(ins, "jump group_"+id+"_in")
			outs = append(outs, "jump group_"+id+"_out")
		}
	}
	if i.Local {
		r.chain(in+"_node", "", append(slices.Clone(ins), "ip daddr . meta l4proto @"+nodeBlocked+" drop", "drop")...)
		// What goes on to a target still bears the client's address: the node's is the one that the flow began with.
		r.chain(out+"_node", "", append(slices.Clone(outs), "ct status dnat ct original ip daddr . meta l4proto @"+nodeBlockedOut+" drop",
			"ip saddr . meta l4proto @"+nodeBlockedOut+" drop", "drop")...)
	}
	r.chain(in, "", append(ins, "drop")...)
	r.chain(out, "", append(outs, "drop")...)
	return in, out
}

// lines turns a rule into nftables rules; side is the field that holds the other end's address.
func (rule Rule) lines(side string, p pool) []string {
	proto, ok := rule.proto()
	if !ok {
		return nil
	}
	verdict := strings.TrimSpace(proto + " accept")
	if rule.GroupID != "" {
		set := "@member_" + rule.GroupID
		lines := []string{fmt.Sprintf("ip %s %s %s", side, set, verdict)}
		if side == "saddr" { // a client of an NLB comes with its own address, in the name of the NLB's group
			lines = append(lines, fmt.Sprintf("ct status dnat ct original ip daddr %s %s", set, verdict),
				fmt.Sprintf("meta mark != 0 ct status snat ct original ip saddr %s %s", set, verdict)) // of DialAs
		}
		return lines
	}
	if !rule.CIDR.IsValid() || !rule.CIDR.Addr().Is4() {
		return nil
	}
	c := rule.CIDR.Masked()
	if c.Bits() == 0 {
		return []string{verdict}
	}
	lines := []string{fmt.Sprintf("ip %s %s %s", side, c, verdict)}
	if p.translated() {
		if c.Overlaps(p.public) { // inside the VPC public addresses go by their transit addresses
			t := p.transit
			if c.Bits() > p.public.Bits() {
				t = netip.PrefixFrom(p.toTransit(c.Addr()), c.Bits())
			}
			lines = append(lines, fmt.Sprintf("ip %s %s %s", side, t, verdict))
		}
		if c.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) { // and the host's own clients by the gateway's
			lines = append(lines, fmt.Sprintf("ip %s %s %s", side, p.gateway, verdict))
		}
	}
	return lines
}

// proto is the match for the rule's protocol and ports; not ok = nothing that IPv4 carries.
func (rule Rule) proto() (string, bool) {
	switch rule.Proto {
	case "-1", "all", "":
		return "", true
	case "tcp", "6", "udp", "17":
		name := map[string]string{"6": "tcp", "17": "udp"}[rule.Proto]
		name = cmp.Or(name, rule.Proto)
		from, to := rule.FromPort, rule.ToPort
		switch {
		case from <= 0 && (to >= 65535 || to < 0):
			return "meta l4proto " + name, true
		case from == to:
			return fmt.Sprintf("%s dport %d", name, from), true
		}
		return fmt.Sprintf("%s dport %d-%d", name, max(from, 0), min(to, 65535)), true
	case "icmp", "1":
		switch {
		case rule.FromPort < 0:
			return "meta l4proto icmp", true
		case rule.ToPort < 0:
			return fmt.Sprintf("icmp type %d", rule.FromPort), true
		}
		return fmt.Sprintf("icmp type %d icmp code %d", rule.FromPort, rule.ToPort), true
	case "icmpv6", "58":
		return "", false
	}
	n, err := strconv.ParseUint(rule.Proto, 10, 8)
	if err != nil {
		return "", false // check has refused it
	}
	return fmt.Sprintf("meta l4proto %d", n), true
}
