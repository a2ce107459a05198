package balance

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// MaxTargetGroups is the quota a region.
const MaxTargetGroups = 3000

// CheckParams are health check settings as a client gives them: zero members are not given.
type CheckParams struct {
	Enabled            *bool
	Protocol           string
	Port               string
	Path               string
	Interval, Timeout  int32
	Healthy, Unhealthy int32
	HTTPCode, GRPCCode string
}

// TargetGroupParams are the parameters of CreateTargetGroup.
type TargetGroupParams struct {
	Name            string
	Protocol        string
	ProtocolVersion string
	Port            int32
	VpcID           string
	TargetType      string
	IPAddressType   string
	Check           CheckParams
	Tags            map[string]string
}

// CreateTargetGroup makes a target group. The same parameters again give the one that is there.
func CreateTargetGroup(w *store.WriteTx, s scope.Scope, p TargetGroupParams) (TargetGroup, error) {
	if err := checkName(groupName, p.Name); err != nil {
		return TargetGroup{}, err
	}
	if err := p.defaults(); err != nil {
		return TargetGroup{}, err
	}
	if _, ok := network.VPCs.Get(w, s.Key(p.VpcID)); !ok {
		return TargetGroup{}, invalid("The VPC ID '%s' is not found", p.VpcID)
	}
	g := TargetGroup{Scope: s, Name: p.Name, Protocol: p.Protocol, ProtocolVersion: p.ProtocolVersion, Port: p.Port, VpcID: p.VpcID,
		TargetType: p.TargetType, IPAddressType: p.IPAddressType, CreatedAt: w.Now()}
	var err error
	if g.Check, err = p.Check.apply(g, defaultCheck(g)); err != nil {
		return TargetGroup{}, err
	}
	for old := range TargetGroups.By(w, "name", s.Key(p.Name)) {
		same := old
		same.Attributes, same.ARN, same.ID, same.CreatedAt = nil, "", "", g.CreatedAt
		if equalGroups(same, g) {
			return old, nil
		}
		return TargetGroup{}, fault.New(fault.Exists, "DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", p.Name)
	}
	n := 0
	for range TargetGroups.Prefix(w, s.Prefix()) {
		n++
	}
	if n >= MaxTargetGroups {
		return TargetGroup{}, fault.New(fault.Limit, "TooManyTargetGroups", "The maximum number of target groups has been reached")
	}
	g.ID = hex16(w)
	g.ARN = s.ARN("elasticloadbalancing", g.Dimension())
	if g.Protocol == UDP || g.Protocol == TCPUDP { // AWS's newer default for these protocols
		g.Attributes = map[string]string{"deregistration_delay.connection_termination.enabled": "true"}
	}
	TargetGroups.Put(w, g)
	tag.SetSystem(w, s, g.ARN, p.Tags)
	return g, nil
}

func equalGroups(a, b TargetGroup) bool {
	return a.Name == b.Name && a.Protocol == b.Protocol && a.ProtocolVersion == b.ProtocolVersion && a.Port == b.Port && a.VpcID == b.VpcID &&
		a.TargetType == b.TargetType && a.IPAddressType == b.IPAddressType && a.Check == b.Check
}

func (p *TargetGroupParams) defaults() error {
	switch p.TargetType {
	case "":
		p.TargetType = "instance"
	case "instance", "ip":
	case "alb":
		if p.Protocol != TCP {
			return invalid("Target groups of type 'alb' must have protocol 'TCP'")
		}
	case "lambda": // there are no functions
		return fault.New(fault.Unsupported, "InvalidConfigurationRequest", "Target groups of type 'lambda' are not supported")
	default:
		return invalid("Target type '%s' must be one of 'instance, ip, lambda, alb'", p.TargetType)
	}
	switch p.Protocol {
	case "":
		return invalid("A protocol must be specified")
	case HTTP, HTTPS, TCP, UDP, TCPUDP, TLS:
	case "GENEVE", "QUIC", "TCP_QUIC":
		return fault.New(fault.Unsupported, "InvalidConfigurationRequest", "Target groups with protocol '%s' are not supported", p.Protocol)
	default:
		return invalid("Protocol '%s' must be one of 'GENEVE, HTTP, HTTPS, TCP, TLS, UDP, TCP_UDP, QUIC, TCP_QUIC'", p.Protocol)
	}
	if p.Port < 1 || p.Port > 65535 {
		if p.Port == 0 {
			return invalid("A port must be specified")
		}
		return invalid("1 validation error detected: Value '%d' at 'port' failed to satisfy constraint: Member must have value between 1 and 65535", p.Port)
	}
	if p.VpcID == "" {
		return invalid("A VPC ID must be specified")
	}
	isHTTP := p.Protocol == HTTP || p.Protocol == HTTPS
	switch {
	case isHTTP && (p.ProtocolVersion == "" || p.ProtocolVersion == "HTTP1"):
		p.ProtocolVersion = "HTTP1"
	case isHTTP && (p.ProtocolVersion == "HTTP2" || p.ProtocolVersion == GRPC):
	case p.ProtocolVersion != "":
		return invalid("Protocol version '%s' is not valid for protocol '%s'", p.ProtocolVersion, p.Protocol)
	}
	switch p.IPAddressType {
	case "", "ipv4":
		p.IPAddressType = "ipv4"
	case "ipv6":
		return fault.New(fault.Invalid, "InvalidConfigurationRequest", "The VPC '%s' does not have an associated IPv6 CIDR block", p.VpcID)
	default:
		return invalid("IP address type '%s' must be one of 'ipv4, ipv6'", p.IPAddressType)
	}
	return nil
}

// defaultCheck are the health check settings of a group that names none.
func defaultCheck(g TargetGroup) HealthCheck {
	c := HealthCheck{Enabled: true, Port: "traffic-port", Interval: 30, Healthy: 5, Unhealthy: 2}
	switch g.Protocol {
	case HTTP, HTTPS:
		c.Protocol = HTTP
	default:
		c.Protocol = TCP
		if g.TargetType == "alb" {
			c.Protocol = HTTP
		}
	}
	return c
}

var (
	grpcCodes    = regexp.MustCompile(`^[0-9]{1,2}(-[0-9]{1,2})?(,[0-9]{1,2}(-[0-9]{1,2})?)*$`)
	matcherCodes = regexp.MustCompile(`^[0-9]{3}(-[0-9]{3})?(,[0-9]{3}(-[0-9]{3})?)*$`)
	checkPath    = regexp.MustCompile(`^/[\x21-\x7e]*$`)
)

// grpcPath is what a group of protocol version GRPC checks unless it names another.
const grpcPath = "/AWS.ALB/healthcheck"

// apply returns base with the given settings, their defaults by protocol filled in, checked.
func (p CheckParams) apply(g TargetGroup, base HealthCheck) (HealthCheck, error) {
	c := base
	isALB, isGRPC := g.Protocol == HTTP || g.Protocol == HTTPS, g.ProtocolVersion == GRPC
	if p.Enabled != nil {
		if !*p.Enabled {
			return c, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Health check enabled must be true for target groups with target type '%s'", g.TargetType)
		}
		c.Enabled = true
	}
	switch p.Protocol {
	case "":
	case HTTP, HTTPS:
		c.Protocol = p.Protocol
	case TCP:
		if isALB || g.TargetType == "alb" {
			return c, invalid("Health check protocol 'TCP' is not supported for target groups with protocol '%s'", g.Protocol)
		}
		c.Protocol = TCP
	default:
		return c, invalid("Health check protocol '%s' must be one of 'HTTP, HTTPS, TCP'", p.Protocol)
	}
	if p.Port != "" {
		if p.Port != "traffic-port" {
			if n, err := strconv.Atoi(p.Port); err != nil || n < 1 || n > 65535 {
				return c, invalid("Health check port '%s' must be 'traffic-port' or a port between 1 and 65535", p.Port)
			}
		}
		c.Port = p.Port
	}
	set := func(what string, v int32, to *int32, low, high int32) error {
		if v == 0 {
			return nil
		}
		if v < low || v > high {
			return invalid("%s must be between %d and %d", what, low, high)
		}
		*to = v
		return nil
	}
	for _, err := range []error{
		set("Health check interval", p.Interval, &c.Interval, 5, 300),
		set("Health check timeout", p.Timeout, &c.Timeout, 2, 120),
		set("Healthy threshold count", p.Healthy, &c.Healthy, 2, 10),
		set("Unhealthy threshold count", p.Unhealthy, &c.Unhealthy, 2, 10),
	} {
		if err != nil {
			return c, err
		}
	}
	if c.Protocol == TCP {
		if p.Path != "" || p.HTTPCode != "" || p.GRPCCode != "" {
			return c, invalid("Health check path and matcher cannot be specified for health check protocol 'TCP'")
		}
		c.Path, c.HTTPCode, c.GRPCCode = "", "", ""
	} else {
		if p.Path != "" {
			if !checkPath.MatchString(p.Path) || len(p.Path) > 1024 {
				return c, invalid("Health check path '%s' must begin with a '/' and contain valid characters", p.Path)
			}
			c.Path = p.Path
		}
		if c.Path == "" {
			c.Path = "/"
			if isGRPC {
				c.Path = grpcPath
			}
		}
		if p.GRPCCode != "" && !isGRPC {
			return c, invalid("A gRPC code can be specified for target groups with protocol version 'GRPC' only")
		}
		if p.HTTPCode != "" && isGRPC {
			return c, invalid("An HTTP code cannot be specified for target groups with protocol version 'GRPC'")
		}
		if p.GRPCCode != "" {
			if !grpcCodes.MatchString(p.GRPCCode) || !codesWithin(p.GRPCCode, 0, 99) {
				return c, invalid("Health check matcher gRPC code '%s' must be within '0-99' inclusive", p.GRPCCode)
			}
			c.GRPCCode = p.GRPCCode
		}
		if c.GRPCCode == "" && isGRPC {
			c.GRPCCode = "12"
		}
		high := 499
		if !isALB {
			high = 599
		}
		if p.HTTPCode != "" {
			if !matcherCodes.MatchString(p.HTTPCode) || !codesWithin(p.HTTPCode, 200, high) {
				return c, invalid("Health check matcher HTTP code '%s' must be within '200-%d' inclusive", p.HTTPCode, high)
			}
			c.HTTPCode = p.HTTPCode
		}
		if c.HTTPCode == "" && !isGRPC {
			c.HTTPCode = "200"
			if !isALB {
				c.HTTPCode = "200-399"
			}
		}
	}
	if c.Timeout == 0 {
		switch {
		case isALB:
			c.Timeout = 5
		case c.Protocol == HTTP:
			c.Timeout = 6
		default:
			c.Timeout = 10
		}
		if c.Timeout >= c.Interval { // only an interval was given
			c.Timeout = max(2, c.Interval-1)
		}
	}
	if c.Timeout >= c.Interval {
		return c, invalid("Health check interval must be greater than the timeout.")
	}
	return c, nil
}

func codesWithin(list string, low, high int) bool {
	for _, part := range strings.Split(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, _ := strconv.Atoi(from)
		b, _ := strconv.Atoi(to)
		if a < low || b > high || a > b {
			return false
		}
	}
	return true
}

// ModifyTargetGroup changes the health check settings that are given.
func ModifyTargetGroup(w *store.WriteTx, s scope.Scope, arn string, p CheckParams) (TargetGroup, error) {
	g, err := GetTargetGroup(w, s, arn)
	if err != nil {
		return TargetGroup{}, err
	}
	if g.Check, err = p.apply(g, g.Check); err != nil {
		return TargetGroup{}, err
	}
	TargetGroups.Put(w, g)
	return g, nil
}

// DeleteTargetGroup deletes a group with its targets, unless a listener or rule forwards to it. A group that is gone is a
// success.
func DeleteTargetGroup(w *store.WriteTx, s scope.Scope, arn string) error {
	g, err := GetTargetGroup(w, s, arn)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(UsedBy(w, g)) > 0 {
		return fault.New(fault.Conflict, "ResourceInUse", "Target group '%s' is currently in use by a listener or a rule", arn)
	}
	for _, r := range slices.Clone(Targets(w, s, arn)) {
		remove(w, r)
	}
	TargetGroups.Delete(w, s.Key(arn))
	tag.DeleteAll(w, s, arn)
	return nil
}
