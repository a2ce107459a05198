package proxy

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// attributes reads an attribute map: every getter consumes its key, notes a malformed value, and done reports.
type attributes struct {
	of   string
	m    map[string]string
	used []string
	err  error
}

func (a *attributes) get(key string) (string, bool) {
	a.used = append(a.used, key)
	v, ok := a.m[key]
	return v, ok
}

func (a *attributes) bad(key, v, want string) {
	if a.err == nil {
		a.err = fmt.Errorf("%s: attribute %s: %q is not %s", a.of, key, v, want)
	}
}

func (a *attributes) bool(key string, def bool) bool {
	switch v, ok := a.get(key); {
	case !ok:
		return def
	case v == "true":
		return true
	case v != "false":
		a.bad(key, v, "true or false")
	}
	return false
}

func (a *attributes) int(key string, def, lo, hi int) int {
	v, ok := a.get(key)
	if !ok || v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < lo || n > hi {
		a.bad(key, v, fmt.Sprintf("a number from %d to %d", lo, hi))
		return def
	}
	return n
}

func (a *attributes) seconds(key string, def, lo, hi int) time.Duration {
	return time.Duration(a.int(key, def, lo, hi)) * time.Second
}

func (a *attributes) oneOf(key, def string, values ...string) string {
	v, ok := a.get(key)
	if !ok {
		return def
	}
	if !slices.Contains(values, v) {
		a.bad(key, v, fmt.Sprintf("one of %v", values))
		return def
	}
	return v
}

// unknown returns the keys that nobody asked for.
func (a *attributes) unknown() (keys []string) {
	for k := range a.m {
		if !slices.Contains(a.used, k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// balancerAttributes are a load balancer's attributes as the engine uses them.
type balancerAttributes struct {
	idle          time.Duration
	keepAlive     time.Duration // longest life of a client connection
	desync        desyncMode
	getBodies     bool // Config.GetBodies
	dropOddNames  bool
	preserveHost  bool
	tlsHeaders    bool
	forwardedPort bool // the client's port in X-Forwarded-For
	forwarded     string
	http2         bool
	accessLog     logTarget
	connectionLog logTarget
	unknown       []string
}

// Modes of routing.http.xff_header_processing.mode.
const (
	xffAppend   = "append"
	xffPreserve = "preserve"
	xffRemove   = "remove"
)

func readBalancerAttributes(m map[string]string) (balancerAttributes, error) {
	a := attributes{of: "load balancer", m: m}
	b := balancerAttributes{
		idle:          a.seconds("idle_timeout.timeout_seconds", 60, 1, 4000),
		keepAlive:     a.seconds("client_keep_alive.seconds", 3600, 60, 604800),
		desync:        desyncMode(slices.Index(desyncModes, a.oneOf("routing.http.desync_mitigation_mode", "defensive", desyncModes...))),
		dropOddNames:  a.bool("routing.http.drop_invalid_header_fields.enabled", false),
		preserveHost:  a.bool("routing.http.preserve_host_header.enabled", false),
		tlsHeaders:    a.bool("routing.http.x_amzn_tls_version_and_cipher_suite.enabled", false),
		forwardedPort: a.bool("routing.http.xff_client_port.enabled", false),
		forwarded:     a.oneOf("routing.http.xff_header_processing.mode", xffAppend, xffAppend, xffPreserve, xffRemove),
		http2:         a.bool("routing.http2.enabled", true),
	}
	b.accessLog, b.connectionLog = a.logTarget(accessLogs), a.logTarget(connectionLogs)
	b.unknown = a.unknown()
	return b, a.err
}

// logTarget is where a log goes.
type logTarget struct {
	on             bool
	bucket, prefix string
}

func (a *attributes) logTarget(k logKind) (t logTarget) {
	t.on = a.bool(k.attribute+".enabled", false)
	t.bucket, _ = a.get(k.attribute + ".bucket")
	t.prefix, _ = a.get(k.attribute + ".prefix")
	if !filepath.IsLocal(filepath.Join("x", t.bucket)) || strings.ContainsAny(t.bucket, "/\\\x00") || t.bucket == ".." {
		a.bad(k.attribute+".bucket", t.bucket, "the name of a bucket")
	}
	if t.prefix != "" && (!filepath.IsLocal(t.prefix) || strings.ContainsRune(t.prefix, 0)) {
		a.bad(k.attribute+".prefix", t.prefix, "a prefix")
	}
	return t
}

// groupAttributes are a target group's.
type groupAttributes struct {
	sticky     stickiness
	stickyFor  time.Duration
	appCookie  string
	algorithm  string
	mitigation bool // of anomalies
	slowStart  time.Duration
	minHealthy int // below it, requests go to all targets
	minPercent int
	unknown    []string
}

type stickiness uint8

const (
	notSticky stickiness = iota
	byLBCookie
	byAppCookie
)

// Algorithms of target choice.
const (
	roundRobin       = "round_robin"
	leastOutstanding = "least_outstanding_requests"
	weightedRandom   = "weighted_random"
)

func readGroupAttributes(name string, m map[string]string) (groupAttributes, error) {
	a := attributes{of: "target group " + name, m: m}
	g := groupAttributes{
		algorithm: a.oneOf("load_balancing.algorithm.type", roundRobin, roundRobin, leastOutstanding, weightedRandom),
		slowStart: a.seconds("slow_start.duration_seconds", 0, 0, 900),
	}
	g.mitigation = a.oneOf("load_balancing.algorithm.anomaly_mitigation", "off", "on", "off") == "on"
	on := a.bool("stickiness.enabled", false)
	kind := a.oneOf("stickiness.type", "lb_cookie", "lb_cookie", "app_cookie", "source_ip")
	lbFor := a.seconds("stickiness.lb_cookie.duration_seconds", 86400, 1, 604800)
	appFor := a.seconds("stickiness.app_cookie.duration_seconds", 86400, 1, 604800)
	g.appCookie, _ = a.get("stickiness.app_cookie.cookie_name")
	switch {
	case on && kind == "lb_cookie":
		g.sticky, g.stickyFor = byLBCookie, lbFor
	case on && kind == "app_cookie" && g.appCookie != "":
		g.sticky, g.stickyFor = byAppCookie, appFor
	}
	g.minHealthy = a.int("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", 1, 1, 1<<20)
	if v, _ := a.get("target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage"); v != "" && v != "off" {
		g.minPercent = a.int("target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", 0, 1, 100)
	}
	g.unknown = a.unknown()
	return g, a.err
}
