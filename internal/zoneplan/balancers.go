package zoneplan

import (
	"net/netip"
	"slices"

	"skerry/internal/balance"
	"skerry/internal/certificate"
	"skerry/internal/compute"
	"skerry/internal/zone"
)

// balancers adds the zone's nodes, the target groups that they use, and the names of the region's load balancers.
func (b *builder) balancers(d *zone.Desired) error {
	for lb := range balance.LoadBalancers.All(b.tx) {
		if lb.Region != b.region {
			continue
		}
		d.Names = append(d.Names, b.names(lb)...)
		i := slices.IndexFunc(lb.Nodes, func(n balance.Node) bool { return n.Zone == b.zone })
		if i < 0 {
			continue
		}
		ip, err := netip.ParseAddr(lb.Nodes[i].PrivateIP)
		if err != nil {
			return err
		}
		node := zone.Balancer{ARN: lb.ARN, Name: lb.Dimension(), Type: lb.Type, VPC: lb.VpcID, Namespace: b.o.Namespace(lb.VpcID), NodeIP: ip,
			Attributes: toMap(lb.AllAttributes())}
		node.CookieKey = cookieKey(b.o.Secret, lb.ARN, lb.CreatedAt.UnixNano())
		for l := range balance.Listeners.By(b.tx, "lb", lb.Key(lb.ARN)) {
			node.Listeners = append(node.Listeners, b.listener(l))
		}
		slices.SortFunc(node.Listeners, func(x, y zone.Listener) int { return x.Port - y.Port })
		for _, arn := range balance.GroupsOf(b.tx, lb) {
			if g, ok := balance.TargetGroups.Get(b.tx, lb.Key(arn)); ok {
				d.Groups = append(d.Groups, b.group(lb, g, node))
			}
		}
		d.Balancers = append(d.Balancers, node)
	}
	return nil
}

func toMap(list balance.Attributes) map[string]string {
	m := map[string]string{}
	for _, a := range list {
		m[a.Key] = a.Value
	}
	return m
}

// localShare is the percentage of answers that hold the asking zone's own address alone, by a network load balancer's policy.
var localShare = map[string]int{"availability_zone_affinity": 100, "partial_availability_zone_affinity": 85}

// names are how a load balancer's name resolves in its own VPC and elsewhere. Public addresses out of 127.0.0.0/8 mean
// something else inside an instance, so there its own VPC gets the private ones. A network load balancer's nodes have names
// of their own, ZONE.NAME.
func (b *builder) names(lb balance.LoadBalancer) []zone.Name {
	n := balance.NameOf(b.tx, lb)
	out := b.both(lb, n, "", -1)
	if lb.Type != balance.Network {
		return out
	}
	for _, node := range lb.Nodes {
		i := slices.IndexFunc(n.Private, func(a netip.Addr) bool { return a.String() == node.PrivateIP })
		if i < 0 {
			continue
		}
		if share := localShare[lb.Attribute("dns_record.client_routing_policy")]; node.Zone == b.zone && share > 0 {
			for k, local := range b.both(lb, n, "", i) {
				out[k].Local, out[k].LocalShare = local.Addrs[0], share
			}
		}
		out = append(out, b.both(lb, n, node.Zone+".", i)...)
	}
	return out
}

// both are a name's resolutions: everywhere and, where that differs, in its own VPC; of all its addresses or (i >= 0) one.
func (b *builder) both(lb balance.LoadBalancer, n balance.Name, prefix string, i int) []zone.Name {
	public, private := n.Public, n.Private
	if i >= 0 {
		private = private[i : i+1]
		if i < len(public) {
			public = public[i : i+1]
		}
	}
	if len(public) == 0 {
		return []zone.Name{{Name: prefix + n.Name, Addrs: private}}
	}
	out := []zone.Name{{Name: prefix + n.Name, Addrs: public}}
	if public[0].IsLoopback() {
		out = append(out, zone.Name{Name: prefix + n.Name, VPC: lb.VpcID, Addrs: private})
	}
	return out
}

func (b *builder) listener(l balance.Listener) zone.Listener {
	out := zone.Listener{ARN: l.ARN, Protocol: l.Protocol, Port: int(l.Port), SSLPolicy: l.SSLPolicy, ALPN: l.ALPN, Attributes: toMap(l.AllAttributes()),
		Default: actions(l.DefaultActions), DefaultARN: l.DefaultRuleARN}
	for _, arn := range l.Certificates {
		// A certificate in use can't be deleted; one that is gone nevertheless leaves the others working.
		if c, err := certificate.Get(b.tx, l.Scope, arn); err == nil {
			chain := c.Certificate
			if c.Chain != "" {
				if chain[len(chain)-1] != '\n' {
					chain += "\n"
				}
				chain += c.Chain
			}
			out.Certificates = append(out.Certificates, zone.Certificate{ARN: arn, CertPEM: chain, KeyPEM: c.Key})
		}
	}
	if m := l.MutualTLS; m.Mode != "" && m.Mode != "off" {
		out.MutualTLS = zone.MutualTLS{Mode: m.Mode, TrustStoreARN: m.TrustStoreARN, IgnoreClientCertificateExpiry: m.IgnoreExpiry, AdvertiseTrustStoreCaNames: m.AdvertiseCAs == "on"}
		if t, ok := balance.TrustStores.Get(b.tx, l.Key(m.TrustStoreARN)); ok { // one in use can't be deleted
			out.MutualTLS.CAs = t.Bundle
			for _, r := range balance.RevocationsOf(b.tx, t) {
				out.MutualTLS.CRLs = append(out.MutualTLS.CRLs, r.DER)
			}
		}
	}
	for _, r := range balance.RulesOf(b.tx, l) {
		z := zone.Rule{ARN: r.ARN, Priority: int(r.Priority), Actions: actions(r.Actions)}
		for _, c := range r.Conditions {
			zc := zone.Condition{Field: c.Field, Header: c.Header, Values: c.Values, Regex: c.Regex}
			for _, q := range c.Query {
				zc.Query = append(zc.Query, zone.QueryString{Key: q.Key, Value: q.Value})
			}
			z.Conditions = append(z.Conditions, zc)
		}
		for _, t := range r.Transforms {
			z.Transforms = append(z.Transforms, zone.Transform{Type: t.Type, Regex: t.Regex, Replace: t.Replace})
		}
		out.Rules = append(out.Rules, z)
	}
	return out
}

func actions(in []balance.Action) []zone.Action {
	var out []zone.Action
	for _, a := range in {
		z := zone.Action{Type: a.Type, Order: int(a.Order)}
		if f := a.Forward; f != nil {
			for _, g := range f.Groups {
				z.Forward = append(z.Forward, zone.Weighted{GroupARN: g.ARN, Weight: int(g.Weight)})
			}
			if f.StickyEnabled {
				z.StickySeconds = int(f.StickySeconds)
			}
		}
		if r := a.Redirect; r != nil {
			z.Redirect = &zone.Redirect{Protocol: r.Protocol, Host: r.Host, Port: r.Port, Path: r.Path, Query: r.Query, StatusCode: r.StatusCode, DropQuery: r.Query == ""}
		}
		if f := a.Fixed; f != nil {
			z.Fixed = &zone.Fixed{StatusCode: f.StatusCode, ContentType: f.ContentType, Body: f.Body}
		}
		if o := a.OIDC; o != nil {
			z.OIDC = &zone.OIDC{Issuer: o.Issuer, AuthorizationEndpoint: o.AuthorizationEndpoint, TokenEndpoint: o.TokenEndpoint, UserInfoEndpoint: o.UserInfoEndpoint,
				ClientID: o.ClientID, ClientSecret: o.ClientSecret, SessionCookieName: o.SessionCookieName, SessionTimeoutSeconds: int(o.SessionTimeout), Scope: o.Scope,
				ExtraParams: o.ExtraParams, OnUnauthenticated: o.OnUnauthenticated}
		}
		if j := a.JWT; j != nil {
			z.JWT = &zone.JWT{Issuer: j.Issuer, JWKSEndpoint: j.JWKSEndpoint}
			for _, c := range j.Claims {
				z.JWT.Claims = append(z.JWT.Claims, zone.JWTClaim{Name: c.Name, Format: c.Format, Values: c.Values})
			}
		}
		out = append(out, z)
	}
	return out
}

// group is a target group with the targets that the zone's node may route to.
func (b *builder) group(lb balance.LoadBalancer, g balance.TargetGroup, node zone.Balancer) zone.TargetGroup {
	h := g.Check
	out := zone.TargetGroup{ARN: g.ARN, Name: g.Dimension(), Protocol: g.Protocol, ProtocolVersion: g.ProtocolVersion, VPC: g.VpcID, Namespace: node.Namespace,
		NodeIP: node.NodeIP, Type: g.TargetType, Attributes: toMap(g.AllAttributes()),
		Check: zone.HealthCheck{Enabled: h.Enabled, Protocol: h.Protocol, Port: h.Port, Path: h.Path, Interval: int(h.Interval), Timeout: int(h.Timeout),
			Healthy: int(h.Healthy), Unhealthy: int(h.Unhealthy), Matcher: h.HTTPCode}}
	if g.ProtocolVersion == balance.GRPC {
		out.Check.Matcher = h.GRPCCode
	}
	cross := balance.CrossZone(lb, g)
	for _, r := range balance.Targets(b.tx, g.Scope, g.ARN) {
		t, ok := b.target(lb, g, r)
		if ok && (cross || t.Zone == "all" || t.Zone == b.zone) {
			out.Targets = append(out.Targets, t)
		}
	}
	return out
}

// target finds a registration's address. One that can't take traffic (its instance is not there, its zone isn't enabled)
// is left out; one whose instance is going drains, so that what it still answers isn't cut.
func (b *builder) target(lb balance.LoadBalancer, g balance.TargetGroup, r balance.Registration) (zone.Target, bool) {
	t := zone.Target{ID: r.TargetID, Port: int(r.Port), Zone: r.AvailabilityZone, Draining: r.Draining(), Registered: r.RegisteredAt.UnixNano()}
	ip := r.TargetID
	switch g.TargetType {
	case "instance":
		i, ok := compute.Instances.Get(b.tx, r.Key(r.TargetID))
		if !ok || i.State == compute.Terminated || i.State == compute.Stopped {
			return t, false
		}
		ip, t.Zone = i.PrivateIP, i.AvailabilityZone
		t.Draining = t.Draining || i.State == compute.ShuttingDown || i.State == compute.Stopping
	case "alb":
		alb, ok := balance.LoadBalancers.Get(b.tx, r.Key(r.TargetID))
		if !ok {
			return t, false
		}
		n := alb.Nodes[0]
		if i := slices.IndexFunc(alb.Nodes, func(n balance.Node) bool { return n.Zone == b.zone }); i >= 0 {
			n = alb.Nodes[i]
		}
		ip, t.Zone = n.PrivateIP, "all"
	}
	var err error
	if t.IP, err = netip.ParseAddr(ip); err != nil {
		return t, false
	}
	isNode := slices.ContainsFunc(lb.Nodes, func(n balance.Node) bool { return n.PrivateIP == ip })
	enabled := t.Zone == "" || t.Zone == "all" || slices.ContainsFunc(lb.Nodes, func(n balance.Node) bool { return n.Zone == t.Zone })
	return t, enabled && !isNode
}
