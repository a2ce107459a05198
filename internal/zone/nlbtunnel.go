package zone

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"skerry/internal/fabric"
	"skerry/internal/proxy"
	"skerry/internal/tlsfront"
	"skerry/internal/tunnel"
)

// tunnelNode is the part of a network load balancer's node that this process serves.
type tunnelNode struct {
	ident   string
	ip      netip.Addr
	tunnel  *tunnel.Tunnel
	log     *proxy.LineLog // of TLS listeners
	applied *tunnel.Config
	logs    map[string]string // the attributes that log has
}

// applyTunnel makes the listeners of a network load balancer's node that the kernel can't serve equal to what it wants.
func (n *nodes) applyTunnel(b Balancer, ident string) error {
	cfg, ok := n.tunnelConfig(b)
	a := n.tunnels[b.ARN]
	if a != nil && (a.ident != ident || a.ip != b.NodeIP) {
		n.retireTunnel(b.ARN)
		a = nil
	}
	if a == nil {
		if !ok {
			return nil
		}
		ns, node := b.Namespace, b.NodeIP
		log := n.o.Log.With("zone", n.o.Zone, "load_balancer", b.Name)
		lines := proxy.NewLineLog(n.o.logs(b), n.o.Now, log)
		a = &tunnelNode{ident: ident, ip: node, log: lines, tunnel: tunnel.New(tunnel.Options{
			Listen: func(network, addr string) (net.Listener, error) { return n.o.Net.Listen(ns, network, addr) },
			Dial: func(ctx context.Context, from netip.AddrPort, addr string) (net.Conn, error) {
				if from.IsValid() {
					return n.o.Net.DialAs(ctx, ns, node, from.Addr().Unmap(), addr)
				}
				return n.o.Net.Dial(ctx, ns, node, "tcp4", addr)
			},
			Access: func(e *tunnel.Entry) { lines.Add(e.Append) },
			Log:    log, Clock: n.o.Now, Scale: float64(max(1, n.o.TimeScale)),
		})}
		n.tunnels[b.ARN] = a
	}
	if a.logs == nil || !maps.Equal(a.logs, b.Attributes) {
		if err := a.log.Use(b.Name, b.Attributes); err != nil {
			return err
		}
		a.logs = maps.Clone(b.Attributes)
	}
	if a.applied != nil && reflect.DeepEqual(*a.applied, cfg) {
		return nil
	}
	if err := a.tunnel.Apply(cfg); err != nil {
		return fmt.Errorf("load balancer %s: %w", b.Name, err)
	}
	a.applied = &cfg
	return nil
}

// tunnelConfig is what the process serves of a node, targets' health included; not ok without a listener for it.
func (n *nodes) tunnelConfig(b Balancer) (cfg tunnel.Config, ok bool) {
	cfg = tunnel.Config{LBName: b.Name, Groups: map[string]tunnel.Group{}, TicketSecret: b.CookieKey}
	for _, l := range b.Listeners {
		groups := n.forwardedTo(l)
		if len(groups) == 0 || !l.userSpace(groups) {
			continue
		}
		tl := tunnel.Listener{ARN: l.ARN, Addr: netip.AddrPortFrom(b.NodeIP, uint16(l.Port)).String(), Protocol: l.tunnelProtocol(),
			SSLPolicy: l.SSLPolicy, ALPN: l.ALPN, Attributes: l.Attributes}
		for _, c := range l.Certificates {
			tl.Certificates = append(tl.Certificates, tlsfront.Certificate{ARN: c.ARN, CertPEM: c.CertPEM, KeyPEM: c.KeyPEM})
		}
		for _, g := range groups {
			tl.Forward = append(tl.Forward, tunnel.Weighted{Group: g.ARN, Weight: g.weight})
			cfg.Groups[g.ARN] = n.tunnelGroup(g.TargetGroup)
		}
		cfg.Listeners = append(cfg.Listeners, tl)
	}
	return cfg, len(cfg.Listeners) > 0
}

func (n *nodes) tunnelGroup(g TargetGroup) tunnel.Group {
	out := tunnel.Group{Protocol: tunnel.TCP, Attributes: g.Attributes}
	if g.Protocol == "TLS" {
		out.Protocol = tunnel.TLS
	}
	for _, t := range g.Targets {
		p := tunnel.Target{ID: t.Key(), Addr: netip.AddrPortFrom(t.IP, uint16(t.Port)).String(), State: tunnel.Draining}
		if !t.Draining {
			p.State = n.checks.state(g, t)
		}
		out.Targets = append(out.Targets, p)
	}
	return out
}

// userSpace tells whether a listener is served by this process: because it looks into its connections, or because its groups'
// flows differ in what the kernel does for a whole listener. TCP_UDP's packets have no PROXY protocol: the kernel serves them.
func (l Listener) userSpace(groups []forwarded) bool {
	if l.Protocol != "TCP" {
		return l.Protocol == "TLS"
	}
	return slices.ContainsFunc(groups, func(g forwarded) bool {
		differs := func(key string) bool { return g.Attributes[key] != groups[0].Attributes[key] }
		return g.Attributes["proxy_protocol_v2.enabled"] == "true" || differs("preserve_client_ip.enabled") || differs("stickiness.enabled")
	})
}

func (l Listener) tunnelProtocol() string {
	if l.Protocol == "TLS" {
		return tunnel.TLS
	}
	return tunnel.TCP
}

// process is the listener's entry in the kernel's table, which helps the process.
func (l Listener) process(b Balancer) fabric.NLBService {
	return fabric.NLBService{VIP: b.NodeIP, Port: uint16(l.Port), Proto: "tcp", Process: true}
}

// retireTunnel ends a node that goes away in the background; its flows have a moment to end by themselves.
func (n *nodes) retireTunnel(arn string) {
	a := n.tunnels[arn]
	delete(n.tunnels, arn)
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		ctx, cancel := context.WithTimeout(context.Background(), nodeDrain)
		defer cancel()
		a.shutdown(ctx)
	}()
}

func (a *tunnelNode) shutdown(ctx context.Context) {
	a.tunnel.Shutdown(ctx)
	a.log.Close()
}

// countTunnels adds what the process carried to the totals of its load balancers. The caller holds mu, and has brought the
// kernel's part up to date.
func (n *nodes) countTunnels() {
	for arn, a := range n.tunnels {
		t := n.total(arn)
		if t == nil {
			continue
		}
		s := a.tunnel.Stats()
		for k, v := range s.Counters {
			t.Counters[k] += v
		}
		if !n.kernelServes(arn) || t.Gauges == nil {
			t.Gauges = map[string]float64{}
		}
		for k, v := range s.Gauges {
			t.Gauges[k] += v
		}
	}
}

// kernelServes tells whether the kernel serves a listener of a load balancer.
func (n *nodes) kernelServes(arn string) bool {
	for _, s := range n.nlbs {
		if slices.ContainsFunc(s.services, func(k kernelService) bool { return k.arn == arn }) {
			return true
		}
	}
	return false
}
