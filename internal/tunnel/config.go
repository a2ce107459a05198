package tunnel

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"skerry/internal/tlsfront"
)

// Config is all that one node serves. Attribute maps have the keys and values of the Elastic Load Balancing API; a key that is
// absent has its default there.
type Config struct {
	LBName    string // net/NAME/ID
	Listeners []Listener
	Groups    map[string]Group // by ARN, or any name that the listeners use
	// TicketSecret keys session tickets. Nodes of one load balancer share it.
	TicketSecret []byte
}

// Protocols.
const (
	TCP = "TCP"
	TLS = "TLS"
)

// Listener is one address that the node accepts connections on.
type Listener struct {
	ARN          string
	Addr         string // host:port
	Protocol     string // TCP or TLS
	Certificates []tlsfront.Certificate
	SSLPolicy    string
	ALPN         string // name of an ALPN policy; empty is None
	Mutual       tlsfront.MutualTLS
	Attributes   map[string]string
	Forward      []Weighted
}

// Weighted is a target group with its share of the new flows.
type Weighted struct {
	Group  string
	Weight int
}

// Group is a target group with the targets that this node may choose.
type Group struct {
	Protocol   string // TCP or TLS
	Attributes map[string]string
	Targets    []Target
}

// States of targets. Empty counts as healthy.
const (
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
	Draining  = "draining" // keeps its flows, gets no new ones
)

// Target is one registered target.
type Target struct {
	ID    string
	Addr  string // host:port
	State string
}

// alpnPolicies are the protocols of the ALPN policies, preferred first.
var alpnPolicies = map[string][]string{
	"": nil, "None": nil,
	"HTTP1Only":      {"http/1.1", "http/1.0"},
	"HTTP2Only":      {"h2"},
	"HTTP2Optional":  {"http/1.1", "http/1.0", "h2"},
	"HTTP2Preferred": {"h2", "http/1.1", "http/1.0"},
}

const (
	defaultIdle = 350 * time.Second // of TLS listeners always
	minIdle     = 60
	maxIdle     = 6000
)

// table is one listener compiled.
type table struct {
	arn    string
	tls    *tlsfront.Server
	config tlsfront.Config // of tls
	idle   time.Duration
	groups []weighted // those with a weight
	total  int        // of all weights
}

type weighted struct {
	g      *group
	weight int
}

// group is a target group compiled.
type group struct {
	key       string
	tls       bool
	proxy     bool // PROXY protocol
	preserve  bool // the client's address
	sticky    bool
	cutGone   bool          // flows end when their target leaves the group
	cutSick   bool          // flows end when their target becomes unhealthy
	sickAfter time.Duration // if not, they end then; 0: not at all
	failOpen  bool
	targets   []*target // that get new flows
	byKey     map[string]string
}

// compile checks a configuration. old are the listeners that serve now; their TLS is kept where it stays the same.
func compile(cfg Config, old map[string]*listener, targets func(key, addr string) *target) (map[string]*table, map[string]*group, error) {
	groups := map[string]*group{}
	for key, g := range cfg.Groups {
		c, err := compileGroup(key, g, targets)
		if err != nil {
			return nil, nil, fmt.Errorf("target group %s: %w", key, err)
		}
		groups[key] = c
	}
	out := map[string]*table{}
	for _, l := range cfg.Listeners {
		if out[l.Addr] != nil {
			return nil, nil, fmt.Errorf("listener %s is there twice", l.Addr)
		}
		var was *table
		if o := old[l.Addr]; o != nil {
			was = o.table.Load()
		}
		t, err := compileListener(l, cfg, was)
		if err != nil {
			return nil, nil, fmt.Errorf("listener %s: %w", l.Addr, err)
		}
		for _, w := range l.Forward {
			g := groups[w.Group]
			if g == nil {
				return nil, nil, fmt.Errorf("listener %s: target group %q does not exist", l.Addr, w.Group)
			}
			if len(l.Forward) == 1 || w.Weight > 0 && len(g.targets) > 0 {
				t.groups, t.total = append(t.groups, weighted{g, w.Weight}), t.total+w.Weight
			}
		}
		out[l.Addr] = t
	}
	return out, groups, nil
}

func compileListener(l Listener, cfg Config, was *table) (*table, error) {
	_, port, err := net.SplitHostPort(l.Addr)
	if err != nil {
		return nil, fmt.Errorf("want host:port")
	}
	t := &table{arn: l.ARN, idle: defaultIdle}
	switch l.Protocol {
	case TCP:
		if v := l.Attributes["tcp.idle_timeout.seconds"]; v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n < minIdle || n > maxIdle {
				return nil, fmt.Errorf("tcp.idle_timeout.seconds: %q is not a number from %d to %d", v, minIdle, maxIdle)
			}
			t.idle = time.Duration(n) * time.Second
		}
	case TLS:
		protocols, ok := alpnPolicies[l.ALPN]
		if !ok {
			return nil, fmt.Errorf("ALPN policy %q does not exist", l.ALPN)
		}
		t.config = tlsfront.Config{Policy: l.SSLPolicy, Certificates: l.Certificates, Protocols: protocols, Mismatch: true, Mutual: l.Mutual,
			TicketSecret: cfg.TicketSecret, Scope: cfg.LBName + "\x00" + port}
		if was != nil && was.tls != nil && was.config.Equal(t.config) {
			t.tls = was.tls
		} else if t.tls, err = tlsfront.New(t.config); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("protocol %q is not served", l.Protocol)
	}
	return t, nil
}

func compileGroup(key string, g Group, targets func(key, addr string) *target) (*group, error) {
	on := func(name string, def bool) bool {
		if v, ok := g.Attributes[name]; ok {
			return v == "true"
		}
		return def
	}
	out := &group{key: key, tls: g.Protocol == TLS, byKey: map[string]string{},
		proxy:    on("proxy_protocol_v2.enabled", false),
		preserve: on("preserve_client_ip.enabled", false),
		sticky:   on("stickiness.enabled", false),
		cutGone:  on("deregistration_delay.connection_termination.enabled", false),
		cutSick:  on("target_health_state.unhealthy.connection_termination.enabled", true)}
	if g.Protocol != TCP && g.Protocol != TLS {
		return nil, fmt.Errorf("protocol %q is not served", g.Protocol)
	}
	if v, err := strconv.Atoi(g.Attributes["target_health_state.unhealthy.draining_interval_seconds"]); err == nil {
		out.sickAfter = time.Duration(v) * time.Second
	}
	ts := slices.SortedFunc(slices.Values(g.Targets), func(a, b Target) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Addr, b.Addr)) })
	var healthy, all []*target
	for _, t := range ts {
		if _, _, err := net.SplitHostPort(t.Addr); err != nil {
			return nil, fmt.Errorf("target %s: want host:port", t.ID)
		}
		k := key + "\x00" + t.ID + "\x00" + t.Addr
		if _, twice := out.byKey[k]; twice {
			return nil, fmt.Errorf("target %s at %s is there twice", t.ID, t.Addr)
		}
		live := targets(k, t.Addr)
		out.byKey[k] = t.State
		switch t.State {
		case Draining:
			continue
		case "", Healthy:
			healthy = append(healthy, live)
		}
		all = append(all, live)
	}
	out.targets = healthy
	if !enough(g.Attributes, len(healthy), len(all)) && len(all) > 0 {
		out.targets, out.failOpen = all, true
	}
	return out, nil
}

// enough tells whether the healthy targets take all flows; with too few of them all targets do.
func enough(attrs map[string]string, healthy, all int) bool {
	const key = "target_group_health.unhealthy_state_routing.minimum_healthy_targets."
	if n, err := strconv.Atoi(attrs[key+"count"]); err == nil && healthy < n {
		return false
	}
	if n, err := strconv.Atoi(attrs[key+"percentage"]); err == nil && healthy*100 < n*all {
		return false
	}
	return healthy > 0
}
