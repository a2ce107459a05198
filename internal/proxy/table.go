package proxy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// table is a compiled Config. It never changes once it serves; only the targets and group states that it points to live.
type table struct {
	attrs     balancerAttributes
	listeners map[string]*listenerTable // by address
	groups    map[string]*group
	sealer    *sealer
	access    *logStream // nil: none
	connLog   *logStream
	secret    []byte          // Config.CookieKey
	keySets   map[string]bool // endpoints of the jwt-validation actions
}

// listenerTable is one listener of a table.
type listenerTable struct {
	*table
	addr     string
	port     string // of X-Forwarded-Port and redirects
	proto    string // http or https
	stdPort  bool   // 80 or 443
	hidden   bool   // no Server header on own answers
	rules    []rule // by priority
	index    *ruleIndex
	oidc     []*oidc // of its actions, one for each setting
	back     action  // of what comes back from an identity provider
	fallback []action
	tls      *frontTLS // nil: not HTTPS
	tlsHeaders
	respSet []responseHeader
	unknown []string // attributes that have no meaning here
}

// responseHeader is a header that a listener attribute sets on every response.
type responseHeader struct {
	name string // lower case
	line []byte
}

type rule struct {
	conditions []condition
	action     action
}

type actionKind uint8

const (
	doForward actionKind = iota
	doRedirect
	doFixed
	doCallback
)

// String is the action's name in logs.
func (k actionKind) String() string {
	return [...]string{"forward", "redirect", "fixed-response", "authenticate"}[k]
}

type action struct {
	kind    actionKind
	plain   bool // an epoll loop carries it; else it needs a goroutine
	forward []weighted
	total   int // of the weights
	sticky  time.Duration
	to      redirect
	body    []byte // of a fixed response
	ctype   string
	status  int

	priority   int // of its rule; 0 is the default one's
	transforms *transforms
	oidc       *oidc // asks who the user is before the rest
	jwt        *JWT  // checks a token before
}

type weighted struct {
	g      *group
	weight int
}

// group is a target group in a table.
type group struct {
	*groupState
	attrs    groupAttributes
	tls      bool
	version  string    // HTTP2 or GRPC; else empty
	plain    bool      // HTTP/1.1 without TLS to targets with numeric addresses
	healthy  []*target // those that get new requests, as often as their weight says
	distinct int       // targets in healthy
	failOpen bool      // healthy holds the others too, because too few are
	members  map[uint64]member
}

type member struct {
	t     *target
	state string
}

// groupState is what a group keeps from table to table.
type groupState struct {
	key, name string
	counters  counters
	latency   latency
	next      nextTarget
}

// hash names a group or target in cookies.
func hash(parts ...string) uint64 {
	s := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return binary.BigEndian.Uint64(s[:])
}

// live are the parts that outlast tables. Apply owns it.
type live struct {
	groups  map[string]*groupState
	targets map[string]*target   // by group key, id and address
	fronts  map[string]*frontTLS // by listener address
	adopt   []func()             // what changes in the targets' live state once the table serves
}

// compile builds a table. It takes the live state that stays from old and returns the new state; old doesn't change.
func compile(cfg Config, old live, now time.Time) (*table, live, error) {
	t := &table{listeners: map[string]*listenerTable{}, groups: map[string]*group{}, sealer: newSealer(cfg.CookieKey, cfg.LBName)}
	lv := live{groups: map[string]*groupState{}, targets: map[string]*target{}, fronts: map[string]*frontTLS{}}
	var err error
	if t.attrs, err = readBalancerAttributes(cfg.Attributes); err != nil {
		return nil, lv, err
	}
	t.attrs.getBodies = cfg.GetBodies
	t.secret, t.keySets = cfg.CookieKey, map[string]bool{}
	for key, tg := range cfg.TargetGroups {
		if t.groups[key], err = compileGroup(key, tg, old, &lv, now); err != nil {
			return nil, lv, err
		}
	}
	for _, l := range cfg.Listeners {
		lt, err := t.compileListener(l, &cfg, old, &lv)
		if err != nil {
			return nil, lv, fmt.Errorf("listener %s: %w", l.Addr, err)
		}
		if t.listeners[l.Addr] != nil {
			return nil, lv, fmt.Errorf("listener %s: the address is there twice", l.Addr)
		}
		t.listeners[l.Addr] = lt
	}
	return t, lv, nil
}

func compileGroup(key string, tg TargetGroup, old live, lv *live, now time.Time) (*group, error) {
	g := &group{groupState: old.groups[key], members: map[uint64]member{}}
	if g.groupState == nil {
		g.groupState = &groupState{key: key}
	}
	name := tg.Name
	if name == "" {
		name = key
	}
	if g.name == "" {
		g.name = name
	}
	lv.groups[key] = g.groupState
	var err error
	if g.attrs, err = readGroupAttributes(name, tg.Attributes); err != nil {
		return nil, err
	}
	switch tg.Protocol {
	case "", HTTP:
	case HTTPS:
		g.tls = true
	default:
		return nil, fmt.Errorf("target group %s: protocol %q is not served", name, tg.Protocol)
	}
	switch tg.ProtocolVersion {
	case "", HTTP1:
	case HTTP2, GRPC:
		g.version = tg.ProtocolVersion
	default:
		return nil, fmt.Errorf("target group %s: protocol version %q is not served", name, tg.ProtocolVersion)
	}
	g.plain = !g.tls && g.version == ""
	var healthy, others []Target
	hadTargets := false
	for k := range old.targets {
		if strings.HasPrefix(k, key+"\x00") {
			hadTargets = true
			break
		}
	}
	registered := 0
	for _, x := range tg.Targets {
		if _, _, err := net.SplitHostPort(x.Addr); err != nil {
			return nil, fmt.Errorf("target group %s: target address %q: want host:port", name, x.Addr)
		}
		numeric, err := netip.ParseAddrPort(x.Addr)
		if err != nil || numeric.Addr().Zone() != "" {
			g.plain = false
		}
		tk := key + "\x00" + x.ID + "\x00" + x.Addr
		if lv.targets[tk] != nil {
			return nil, fmt.Errorf("target group %s: target %s %s is there twice", name, x.ID, x.Addr)
		}
		tr := old.targets[tk]
		fresh := tr == nil
		if fresh {
			tr = &target{addr: x.Addr, numeric: netip.AddrPortFrom(numeric.Addr().Unmap(), numeric.Port()), id: hash(x.ID, x.Addr), tls: g.tls, speaksH2: g.version != ""}
		}
		lv.targets[tk] = tr
		g.members[tr.id] = member{tr, x.State}
		switch x.State {
		case Healthy, "":
			registered++
			healthy = append(healthy, x)
			// Whoever becomes healthy now ramps up, unless it came with the group's first targets.
			ramps := !fresh || hadTargets
			lv.adopt = append(lv.adopt, func() {
				if !tr.healthy.Swap(true) && ramps {
					tr.since.Store(now.UnixNano())
				}
			})
		case Initial, Unhealthy:
			registered++
			others = append(others, x)
			lv.adopt = append(lv.adopt, func() {
				if tr.healthy.Swap(false) {
					tr.expire(now, -1) // its idle connections may lead nowhere
					tr.ails = true
				}
			})
		case Draining, Unused:
		default:
			return nil, fmt.Errorf("target group %s: state %q of target %s does not exist", name, x.State, x.ID)
		}
	}
	// Too few healthy ones: all get requests (fail open).
	if n := len(healthy); registered > 0 && (n < g.attrs.minHealthy || n*100 < g.attrs.minPercent*registered) && len(others) > 0 {
		g.failOpen = true
		healthy = append(healthy, others...)
	}
	g.distinct = len(healthy)
	g.healthy = schedule(healthy, func(x Target) *target { return lv.targets[key+"\x00"+x.ID+"\x00"+x.Addr] })
	return g, nil
}

const maxSchedule = 4096

// schedule lists each target as often as its weight says, interleaved.
func schedule(ts []Target, of func(Target) *target) []*target {
	g, most := 0, 0
	weight := func(x Target) int { return max(1, min(x.Weight, maxSchedule/max(1, len(ts)))) }
	for _, x := range ts {
		w := weight(x)
		for a, b := g, w; ; a, b = b, a%b {
			if b == 0 {
				g = a
				break
			}
		}
		most = max(most, w)
	}
	var out []*target
	for round := range most / max(1, g) {
		for _, x := range ts {
			if weight(x)/g > round {
				out = append(out, of(x))
			}
		}
	}
	return out
}

func (t *table) compileListener(l Listener, cfg *Config, old live, lv *live) (*listenerTable, error) {
	_, port, err := net.SplitHostPort(l.Addr)
	if err != nil {
		return nil, fmt.Errorf("want host:port")
	}
	if l.Port != 0 {
		port = strconv.Itoa(l.Port)
	}
	lt := &listenerTable{table: t, addr: l.Addr, port: port, stdPort: port == "80" || port == "443"}
	a := attributes{of: "listener " + l.Addr, m: l.Attributes}
	lt.hidden = !a.bool("routing.http.response.server.enabled", true)
	lt.respSet = responseHeaders(&a)
	lt.tlsHeaders = readTLSHeaders(&a)
	lt.unknown = a.unknown()
	if a.err != nil {
		return nil, a.err
	}
	switch l.Protocol {
	case HTTP:
		lt.proto = "http"
	case HTTPS:
		lt.proto = "https"
		if lt.tls, err = compileFront(l, cfg, port, t.attrs.http2 && servesH2, old.fronts[l.Addr]); err != nil {
			return nil, err
		}
		lv.fronts[l.Addr] = lt.tls
	default:
		return nil, fmt.Errorf("protocol %q is not served", l.Protocol)
	}
	lt.back.kind = doCallback
	fallback, err := lt.compileActions(l, l.DefaultActions)
	if err != nil {
		return nil, fmt.Errorf("default action: %w", err)
	}
	lt.fallback = []action{fallback}
	rules := slices.Clone(l.Rules)
	slices.SortStableFunc(rules, func(a, b Rule) int { return a.Priority - b.Priority })
	for _, r := range rules {
		var c rule
		for _, x := range r.Conditions {
			cc, err := compileCondition(x)
			if err != nil {
				return nil, fmt.Errorf("rule %d: %w", r.Priority, err)
			}
			c.conditions = append(c.conditions, cc)
		}
		if c.action, err = lt.compileActions(l, r.Actions); err != nil {
			return nil, fmt.Errorf("rule %d: %w", r.Priority, err)
		}
		if c.action.transforms, err = compileTransforms(r.Transforms); err != nil {
			return nil, fmt.Errorf("rule %d: %w", r.Priority, err)
		}
		c.action.priority = r.Priority
		lt.rules = append(lt.rules, c)
	}
	lt.index = newRuleIndex(lt.rules)
	return lt, nil
}

// compileActions compiles the deciding action, which is the last one by order.
func (lt *listenerTable) compileActions(l Listener, as []Action) (action, error) {
	if len(as) == 0 {
		return action{}, fmt.Errorf("no action")
	}
	as = slices.Clone(as)
	slices.SortStableFunc(as, func(a, b Action) int { return a.Order - b.Order })
	out, err := lt.compileAction(as[len(as)-1])
	if err != nil || len(as) == 1 {
		return out, err
	}
	if len(as) > 2 {
		return action{}, fmt.Errorf("more than two actions")
	}
	if l.Protocol != HTTPS {
		return action{}, fmt.Errorf("action %q is for HTTPS listeners", as[0].Type)
	}
	out.plain = false
	switch a := as[0]; a.Type {
	case AuthenticateOIDC:
		o, err := lt.compileOIDC(a.OIDC, l.ARN)
		if err != nil {
			return action{}, err
		}
		out.oidc = o
		if !slices.ContainsFunc(lt.oidc, func(x *oidc) bool { return x.id == o.id }) {
			lt.oidc = append(lt.oidc, o)
		}
	case JWTValidation:
		if out.jwt, err = compileJWT(a.JWT); err != nil {
			return action{}, err
		}
		lt.keySets[out.jwt.JWKSEndpoint] = true
	default:
		return action{}, fmt.Errorf("action %q before the last is not served", a.Type)
	}
	return out, nil
}

func (t *table) compileAction(a Action) (action, error) {
	switch a.Type {
	case Forward:
		out := action{kind: doForward, plain: true, sticky: time.Duration(a.StickySeconds) * time.Second}
		for _, w := range a.Forward {
			g := t.groups[w.GroupARN]
			if g == nil {
				return action{}, fmt.Errorf("target group %q does not exist", w.GroupARN)
			}
			weight := w.Weight
			if len(a.Forward) == 1 {
				weight = max(weight, 1)
			}
			if weight < 0 || weight > 999 {
				return action{}, fmt.Errorf("weight %d is out of range", weight)
			}
			out.forward = append(out.forward, weighted{g, weight})
			out.total += weight
			out.plain = out.plain && g.plain
		}
		if len(out.forward) == 0 {
			return action{}, fmt.Errorf("a forward action needs a target group")
		}
		return out, nil
	case RedirectTo:
		if a.Redirect == nil {
			return action{}, fmt.Errorf("a redirect action needs its settings")
		}
		return compileRedirect(*a.Redirect)
	case FixedResponse:
		if a.Fixed == nil {
			return action{}, fmt.Errorf("a fixed-response action needs its settings")
		}
		code, err := strconv.Atoi(a.Fixed.StatusCode)
		if err != nil || code < 200 || code > 599 {
			return action{}, fmt.Errorf("status code %q of a fixed response", a.Fixed.StatusCode)
		}
		ct := a.Fixed.ContentType
		if ct == "" {
			ct = "text/plain"
		}
		if !allOf([]byte(ct), isValue) {
			return action{}, fmt.Errorf("content type %q", ct)
		}
		return action{kind: doFixed, plain: true, status: code, body: []byte(a.Fixed.Body), ctype: ct + "; charset=utf-8"}, nil
	}
	return action{}, fmt.Errorf("action %q is not served", a.Type)
}

// responseHeaders reads the listener attributes that set headers on responses.
func responseHeaders(a *attributes) (out []responseHeader) {
	for _, h := range [...]struct{ key, name string }{
		{"strict_transport_security", "Strict-Transport-Security"},
		{"access_control_allow_origin", "Access-Control-Allow-Origin"},
		{"access_control_allow_methods", "Access-Control-Allow-Methods"},
		{"access_control_allow_headers", "Access-Control-Allow-Headers"},
		{"access_control_allow_credentials", "Access-Control-Allow-Credentials"},
		{"access_control_expose_headers", "Access-Control-Expose-Headers"},
		{"access_control_max_age", "Access-Control-Max-Age"},
		{"content_security_policy", "Content-Security-Policy"},
		{"x_content_type_options", "X-Content-Type-Options"},
		{"x_frame_options", "X-Frame-Options"},
	} {
		key := "routing.http.response." + h.key + ".header_value"
		if v, _ := a.get(key); v != "" {
			if !allOf([]byte(v), isValue) {
				a.bad(key, v, "a header value")
				continue
			}
			out = append(out, responseHeader{strings.ToLower(h.name), []byte(h.name + ": " + v + "\r\n")})
		}
	}
	return out
}
