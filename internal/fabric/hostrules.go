package fabric

import (
	"fmt"
	"net/netip"
	"strings"
)

// hostTable is the cloud's table in the host's own namespace.
func hostTable(cloudID string) string { return "inet skerry-" + cloudID }

// hostRules is the whole rule set of the host for one cloud. gateways are the host's ends of the internet gateways;
// uplinks the devices that forward only because of this cloud, so that nothing else may be forwarded from them; fronts the
// public addresses whose connections are spread over others.
func hostRules(cloudID string, p pool, egress bool, gateways, uplinks []string, fronts map[netip.Addr][]netip.Addr) *ruleset {
	r := newRuleset(hostTable(cloudID))
	r.declare("set", "gateways", "ifname")
	r.declare("set", "uplinks", "ifname")
	for _, g := range gateways {
		r.add("gateways", quote(g), "")
	}
	for _, u := range uplinks {
		r.add("uplinks", quote(u), "")
	}
	const gw, notGW = "@gateways", "!= @gateways"
	// On the wire a gateway never carries 127/8: answers that were asked for come to a transit address.
	r.chain("on_raw", "type filter hook prerouting priority -300;",
		"iifname "+gw+" ip daddr "+loopback.String()+" drop",
		"iifname "+gw+" ip saddr "+loopback.String()+" drop",
		"iifname "+gw+" meta nfproto ipv6 drop")
	r.chain("on_input", "type filter hook input priority 0;",
		"iifname "+gw+" ct state established,related accept",
		"iifname "+gw+" drop")
	forward := []string{
		"iifname " + gw + " tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu",
		"oifname " + gw + " tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu",
		"iifname " + gw + " oifname " + gw + " accept",
	}
	if egress {
		forward = append(forward, "iifname "+gw+" accept")
	} else {
		forward = append(forward, "iifname "+gw+" drop")
	}
	forward = append(forward, "oifname "+gw+" ct state established,related accept")
	if !p.translated() {
		forward = append(forward, fmt.Sprintf("oifname %s ip daddr %s accept", gw, p.public))
	}
	forward = append(forward,
		"oifname "+gw+" drop",
		"iifname @uplinks ct state established,related accept",
		"iifname @uplinks drop")
	r.chain("on_forward", "type filter hook forward priority 0;", forward...)
	frontRules(r, p, fronts)
	out, post := []string{"ip daddr vmap @fronts"}, []string(nil)
	if p.translated() {
		out = append(out, fmt.Sprintf("ip daddr %s dnat ip prefix to ip daddr map { %s : %s }", hosts(p.public), p.public, p.transit))
		post = append(post, fmt.Sprintf("oifname %s ip saddr %s snat ip to %s", gw, loopback, p.gateway))
	}
	if egress && (p.translated() || private(p.public)) {
		post = append(post, "iifname "+gw+" oifname "+notGW+" masquerade")
	}
	if !p.translated() { // clients beyond the host, and instances, ask for such an address as well
		r.chain("on_prerouting", "type nat hook prerouting priority -100;", "ip daddr vmap @fronts")
	}
	r.chain("on_output", "type nat hook output priority -100;", out...)
	r.chain("on_postrouting", "type nat hook postrouting priority 100;", post...)
	return r
}

// frontRules make a chain for each front: a new connection goes to one of the front's addresses at random, and stays
// there because the kernel translates a connection's destination once. Without any it is refused.
func frontRules(r *ruleset, p pool, fronts map[netip.Addr][]netip.Addr) {
	r.declare("map", "fronts", "ipv4_addr : verdict")
	for front, to := range fronts {
		var rules, elems []string
		for i, a := range to {
			elems = append(elems, fmt.Sprintf("%d : %s", i, p.toTransit(a)))
		}
		switch {
		case len(to) > 1:
			rules = []string{fmt.Sprintf("dnat ip to numgen random mod %d map { %s }", len(to), strings.Join(elems, ", "))}
		case len(to) == 1:
			rules = []string{"dnat ip to " + p.toTransit(to[0]).String()}
		case p.translated():
			rules = []string{"meta l4proto tcp reject with tcp reset", "reject"}
		default:
			continue // the unreachable route of the pool refuses it
		}
		name := "front_" + strings.ReplaceAll(front.String(), ".", "_")
		r.chain(name, "", rules...)
		r.add("fronts", front.String(), "goto "+name)
	}
}

// private tells whether nobody beyond this machine would know the way back to p.
func private(p netip.Prefix) bool { return p.Addr().IsPrivate() || cgnat.Contains(p.Addr()) }
