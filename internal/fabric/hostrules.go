package fabric

import (
	"fmt"
	"net/netip"
)

// hostTable is the cloud's table in the host's own namespace.
func hostTable(cloudID string) string { return "inet skerry-" + cloudID }

// hostRules is the whole rule set of the host for one cloud. gateways are the host's ends of the internet gateways;
// uplinks the devices that forward only because of this cloud, so that nothing else may be forwarded from them.
func hostRules(cloudID string, p pool, egress bool, gateways, uplinks []string) *ruleset {
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
	var out, post []string
	if p.translated() {
		out = append(out, fmt.Sprintf("ip daddr %s dnat ip prefix to ip daddr map { %s : %s }", hosts(p.public), p.public, p.transit))
		post = append(post, fmt.Sprintf("oifname %s ip saddr %s snat ip to %s", gw, loopback, p.gateway))
	}
	if egress && (p.translated() || private(p.public)) {
		post = append(post, "iifname "+gw+" oifname "+notGW+" masquerade")
	}
	r.chain("on_output", "type nat hook output priority -100;", out...)
	r.chain("on_postrouting", "type nat hook postrouting priority 100;", post...)
	return r
}

// private tells whether nobody beyond this machine would know the way back to p.
func private(p netip.Prefix) bool { return p.Addr().IsPrivate() || cgnat.Contains(p.Addr()) }
