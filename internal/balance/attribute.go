package balance

import (
	"slices"
	"strconv"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// attribute is a key that a resource may have: its default, and what a value may be.
type attribute struct {
	key   string
	def   string
	check values
}

// values are those that an attribute may have, and how a message names them.
type values struct {
	has  func(string) bool
	text string
}

var (
	boolean   = oneOf("true", "false")
	bucket    = values{isBucket, "the name of a bucket"}
	logPrefix = values{isPrefix, "the beginning of an object's name"}
	appCookie = values{isAppCookie, "the name of a cookie that does not begin with AWSALB, AWSALBAPP or AWSALBTG"}
	anyHeader = values{isHeaderValue, "the value of a header with at most 1024 characters"}
	frames    = values{isFrameOption, "DENY, SAMEORIGIN or ALLOW-FROM with an origin"}
)

func isText(v string) bool { return len(v) <= 1024 }

func oneOf(list ...string) values {
	text := "'" + strings.Join(list, ", ") + "'"
	if len(list) > 1 {
		text = "one of " + text
	}
	return values{func(v string) bool { return slices.Contains(list, v) }, text}
}

func number(low, high int) values {
	return values{func(v string) bool {
		n, err := strconv.Atoi(v)
		return err == nil && n >= low && n <= high && strconv.Itoa(n) == v
	}, "between '" + strconv.Itoa(low) + "' and '" + strconv.Itoa(high) + "' inclusive"}
}

func either(a, b values) values {
	return values{func(v string) bool { return a.has(v) || b.has(v) }, a.text + " or " + b.text}
}

var lbCommon = []attribute{
	{"access_logs.s3.enabled", "false", boolean}, {"access_logs.s3.bucket", "", bucket}, {"access_logs.s3.prefix", "", logPrefix},
	{"deletion_protection.enabled", "false", boolean}, {"ipv6.deny_all_igw_traffic", "false", boolean}, {"zonal_shift.config.enabled", "false", boolean},
}

var lbApplication = append(slices.Clone(lbCommon), []attribute{
	{"load_balancing.cross_zone.enabled", "true", oneOf("true")},
	{"connection_logs.s3.enabled", "false", boolean}, {"connection_logs.s3.bucket", "", bucket}, {"connection_logs.s3.prefix", "", logPrefix},
	{"health_check_logs.s3.enabled", "false", boolean}, {"health_check_logs.s3.bucket", "", bucket}, {"health_check_logs.s3.prefix", "", logPrefix},
	{"idle_timeout.timeout_seconds", "60", number(1, 4000)}, {"client_keep_alive.seconds", "3600", number(60, 604800)},
	{"routing.http.desync_mitigation_mode", "defensive", oneOf("monitor", "defensive", "strictest")},
	{"routing.http.drop_invalid_header_fields.enabled", "false", boolean}, {"routing.http.preserve_host_header.enabled", "false", boolean},
	{"routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "false", boolean}, {"routing.http.xff_client_port.enabled", "false", boolean},
	{"routing.http.xff_header_processing.mode", "append", oneOf("append", "preserve", "remove")},
	{"routing.http2.enabled", "true", boolean}, {"waf.fail_open.enabled", "false", boolean},
}...)

var lbNetwork = append(slices.Clone(lbCommon), []attribute{
	{"load_balancing.cross_zone.enabled", "false", boolean},
	{"dns_record.client_routing_policy", "any_availability_zone", oneOf("any_availability_zone", "availability_zone_affinity", "partial_availability_zone_affinity")},
	{"secondary_ips.auto_assigned.per_subnet", "0", number(0, 7)},
}...)

var groupCommon = []attribute{
	{"deregistration_delay.timeout_seconds", "300", number(0, 3600)}, {"stickiness.enabled", "false", boolean},
	{"load_balancing.cross_zone.enabled", "use_load_balancer_configuration", oneOf("true", "false", "use_load_balancer_configuration")},
	{"target_group_health.dns_failover.minimum_healthy_targets.count", "1", either(oneOf("off"), number(1, maxTargets))},
	{"target_group_health.dns_failover.minimum_healthy_targets.percentage", "off", either(oneOf("off"), number(1, 100))},
	{"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1", number(1, maxTargets)},
	{"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", "off", either(oneOf("off"), number(1, 100))},
}

var groupApplication = append(slices.Clone(groupCommon), []attribute{
	{"stickiness.type", "lb_cookie", oneOf("lb_cookie", "app_cookie")}, {"stickiness.lb_cookie.duration_seconds", "86400", number(1, 604800)},
	{"stickiness.app_cookie.cookie_name", "", appCookie}, {"stickiness.app_cookie.duration_seconds", "86400", number(1, 604800)},
	{"load_balancing.algorithm.type", "round_robin", oneOf("round_robin", "least_outstanding_requests", "weighted_random")},
	{"load_balancing.algorithm.anomaly_mitigation", "off", oneOf("on", "off")},
	{"slow_start.duration_seconds", "0", either(oneOf("0"), number(30, 900))},
}...)

var groupNetwork = append(slices.Clone(groupCommon), []attribute{
	{"stickiness.type", "source_ip", oneOf("source_ip")},
	{"deregistration_delay.connection_termination.enabled", "false", boolean}, {"preserve_client_ip.enabled", "", boolean},
	{"proxy_protocol_v2.enabled", "false", boolean},
}...)

var groupConnections = append(slices.Clone(groupNetwork), []attribute{
	{"target_health_state.unhealthy.connection_termination.enabled", "true", boolean},
	{"target_health_state.unhealthy.draining_interval_seconds", "0", number(0, 360000)},
}...)

var listenerApplication = []attribute{
	{"routing.http.response.server.enabled", "true", boolean},
	{"routing.http.response.strict_transport_security.header_value", "", anyHeader},
	{"routing.http.response.access_control_allow_origin.header_value", "", anyHeader},
	{"routing.http.response.access_control_allow_methods.header_value", "", anyHeader},
	{"routing.http.response.access_control_allow_headers.header_value", "", anyHeader},
	{"routing.http.response.access_control_allow_credentials.header_value", "", either(oneOf(""), oneOf("true"))},
	{"routing.http.response.access_control_expose_headers.header_value", "", anyHeader},
	{"routing.http.response.access_control_max_age.header_value", "", either(oneOf(""), number(0, 86400))},
	{"routing.http.response.content_security_policy.header_value", "", anyHeader},
	{"routing.http.response.x_content_type_options.header_value", "", oneOf("", "nosniff")},
	{"routing.http.response.x_frame_options.header_value", "", frames},
}

var listenerTLS = append(slices.Clone(listenerApplication), []attribute{
	{"routing.http.request.x_amzn_tls_version.header_name", "X-Amzn-Tls-Version", headerNameLike("X-Amzn-Tls-Version")},
	{"routing.http.request.x_amzn_tls_cipher_suite.header_name", "X-Amzn-Tls-Cipher-Suite", headerNameLike("X-Amzn-Tls-Cipher-Suite")},
	{"routing.http.request.x_amzn_mtls_clientcert.header_name", "X-Amzn-Mtls-Clientcert", headerNameLike("X-Amzn-Mtls-Clientcert")},
	{"routing.http.request.x_amzn_mtls_clientcert_serial_number.header_name", "X-Amzn-Mtls-Clientcert-Serial-Number", headerNameLike("X-Amzn-Mtls-Clientcert-Serial-Number")},
	{"routing.http.request.x_amzn_mtls_clientcert_issuer.header_name", "X-Amzn-Mtls-Clientcert-Issuer", headerNameLike("X-Amzn-Mtls-Clientcert-Issuer")},
	{"routing.http.request.x_amzn_mtls_clientcert_subject.header_name", "X-Amzn-Mtls-Clientcert-Subject", headerNameLike("X-Amzn-Mtls-Clientcert-Subject")},
	{"routing.http.request.x_amzn_mtls_clientcert_validity.header_name", "X-Amzn-Mtls-Clientcert-Validity", headerNameLike("X-Amzn-Mtls-Clientcert-Validity")},
	{"routing.http.request.x_amzn_mtls_clientcert_leaf.header_name", "X-Amzn-Mtls-Clientcert-Leaf", headerNameLike("X-Amzn-Mtls-Clientcert-Leaf")},
}...)

var listenerTCP = []attribute{{"tcp.idle_timeout.seconds", "350", number(60, 6000)}}

// isHeaderValue tells whether a response may have the value; empty is no header.
func isHeaderValue(v string) bool {
	return isText(v) && !strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r >= 0x7f })
}

// isFrameOption tells whether X-Frame-Options may have the value; empty is no header.
func isFrameOption(v string) bool {
	origin, allows := strings.CutPrefix(v, "ALLOW-FROM ")
	return v == "" || v == "DENY" || v == "SAMEORIGIN" || allows && origin != "" && isHeaderValue(origin)
}

// ownHeaders are those that a load balancer or HTTP itself gives a meaning.
var ownHeaders = []string{"te", "host", "date", "cookie", "expect", "server", "upgrade", "connection", "keep-alive", "set-cookie", "content-length", "x-forwarded-for",
	"x-amzn-trace-id", "x-forwarded-port", "proxy-connection", "transfer-encoding", "x-forwarded-proto", "x-amzn-tls-version", "x-amzn-tls-cipher-suite"}

// headerNameLike tells whether a request header may have the name instead of its usual one.
func headerNameLike(usual string) values {
	return values{func(v string) bool {
		if strings.EqualFold(v, usual) {
			return true
		}
		low := strings.ToLower(v)
		return len(v) > 0 && len(v) <= maxHeaderChars && strings.Trim(low, "abcdefghijklmnopqrstuvwxyz0123456789-_") == "" &&
			!slices.Contains(ownHeaders, low) && !strings.HasPrefix(low, "x-amzn-mtls-clientcert")
	}, "the name of a header that has no meaning of its own, with at most " + strconv.Itoa(maxHeaderChars) + " characters"}
}

// isBucket tells whether v may name a bucket; empty is none.
func isBucket(v string) bool {
	if v == "" {
		return true
	}
	return len(v) >= 3 && len(v) <= 63 && strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789.-") == "" && v[0] != '.' && v[0] != '-' && !strings.Contains(v, "..")
}

// isPrefix tells whether v may stand in front of the names of a log's files.
func isPrefix(v string) bool {
	for part := range strings.SplitSeq(v, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\\") {
			return false
		}
	}
	return true
}

func isAppCookie(v string) bool {
	up := strings.ToUpper(v)
	for _, reserved := range []string{"AWSALB", "AWSALBAPP", "AWSALBTG"} {
		if strings.HasPrefix(up, reserved) {
			return false
		}
	}
	return len(v) <= 128 && !strings.ContainsAny(v, " \t;,=\"")
}

// stickinessOf lists the types of stickiness that a group may have.
func stickinessOf(g TargetGroup) []string {
	if g.Protocol == HTTP || g.Protocol == HTTPS {
		return []string{"lb_cookie", "app_cookie"}
	}
	return []string{"source_ip"}
}

func (l LoadBalancer) known() []attribute {
	if l.Type == Network {
		return lbNetwork
	}
	return lbApplication
}

func (g TargetGroup) known() []attribute {
	switch g.Protocol {
	case HTTP, HTTPS:
		return groupApplication
	case TCP, TLS:
		return groupConnections
	}
	return groupNetwork
}

func (l Listener) known() []attribute {
	switch l.Protocol {
	case HTTPS:
		return listenerTLS
	case HTTP:
		return listenerApplication
	case TCP, TCPUDP:
		return listenerTCP
	}
	return nil
}

// Attribute is an attribute's value, or its default.
func (l LoadBalancer) Attribute(key string) string {
	if key == "ipv6.deny_all_igw_traffic" && l.SchemeName == Internal && l.Attributes[key] == "" {
		return "true"
	}
	return value(l.known(), l.Attributes, key)
}

// Attribute is an attribute's value, or its default.
func (g TargetGroup) Attribute(key string) string {
	if key == "preserve_client_ip.enabled" && g.Attributes[key] == "" {
		// Instances see the client; addresses do not, unless the protocol has no connection to hide it in.
		if g.TargetType == "instance" || g.TargetType == "alb" || g.Protocol == UDP || g.Protocol == TCPUDP {
			return "true"
		}
		return "false"
	}
	return value(g.known(), g.Attributes, key)
}

// Attribute is an attribute's value, or its default.
func (l Listener) Attribute(key string) string { return value(l.known(), l.Attributes, key) }

func value(known []attribute, set map[string]string, key string) string {
	if v, ok := set[key]; ok {
		return v
	}
	for _, a := range known {
		if a.key == key {
			return a.def
		}
	}
	return ""
}

// Attributes of a resource in the order that they are described.
type Attributes []struct{ Key, Value string }

func list(known []attribute, get func(string) string) Attributes {
	var out Attributes
	for _, a := range known {
		out = append(out, struct{ Key, Value string }{a.key, get(a.key)})
	}
	return out
}

// AllAttributes lists every attribute with its value or default.
func (l LoadBalancer) AllAttributes() Attributes { return list(l.known(), l.Attribute) }

// AllAttributes lists every attribute with its value or default.
func (g TargetGroup) AllAttributes() Attributes { return list(g.known(), g.Attribute) }

// AllAttributes lists every attribute with its value or default.
func (l Listener) AllAttributes() Attributes { return list(l.known(), l.Attribute) }

// set returns the values with the changes, checked against what is known. Other kinds of the same resource know the keys of
// others, and where tells what this one is.
func set(what, where string, known []attribute, others [][]attribute, old, changes map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range old {
		out[k] = v
	}
	for _, k := range sortedKeys(changes) {
		i := slices.IndexFunc(known, func(a attribute) bool { return a.key == k })
		if i < 0 {
			if slices.ContainsFunc(slices.Concat(others...), func(a attribute) bool { return a.key == k }) {
				return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "%s attribute key '%s' is not supported on %s", what, k, where)
			}
			return nil, invalid("%s attribute key '%s' is not recognized", what, k)
		}
		if !known[i].check.has(changes[k]) {
			return nil, invalid("%s attribute value '%s' is not valid for key '%s': it must be %s", what, changes[k], k, known[i].check.text)
		}
		out[k] = changes[k]
	}
	return out, nil
}

// ModifyLoadBalancerAttributes changes attributes of a load balancer.
func ModifyLoadBalancerAttributes(w *store.WriteTx, s scope.Scope, arn string, changes map[string]string) (LoadBalancer, error) {
	lb, err := GetLoadBalancer(w, s, arn)
	if err != nil {
		return lb, err
	}
	before := lb.Attribute("secondary_ips.auto_assigned.per_subnet")
	if lb.Attributes, err = set("Load balancer", "load balancers with type '"+lb.Type+"'", lb.known(), [][]attribute{lbApplication, lbNetwork}, lb.Attributes, changes); err != nil {
		return lb, err
	}
	for _, log := range []string{"access_logs", "connection_logs", "health_check_logs"} {
		if lb.Attribute(log+".s3.enabled") == "true" && lb.Attribute(log+".s3.bucket") == "" {
			return lb, fault.New(fault.Invalid, "InvalidConfigurationRequest", "The %s.s3.bucket attribute must be specified when %s are enabled", log, strings.ReplaceAll(log, "_", " "))
		}
		if !isBucket(lb.Attribute(log + ".s3.bucket")) {
			return lb, fault.New(fault.Invalid, "InvalidConfigurationRequest", "The value '%s' of the attribute '%s.s3.bucket' is not the name of a bucket", lb.Attribute(log+".s3.bucket"), log)
		}
		if p := lb.Attribute(log + ".s3.prefix"); p != "" && !isPrefix(p) {
			return lb, fault.New(fault.Invalid, "InvalidConfigurationRequest", "The value '%s' of the attribute '%s.s3.prefix' is not valid", p, log)
		}
		if strings.Contains(lb.Attribute(log+".s3.prefix"), "AWSLogs") {
			return lb, fault.New(fault.Invalid, "InvalidConfigurationRequest", "The prefix cannot contain 'AWSLogs'")
		}
	}
	if old, _ := strconv.Atoi(before); old > 0 {
		if now, _ := strconv.Atoi(lb.Attribute("secondary_ips.auto_assigned.per_subnet")); now < old {
			return lb, fault.New(fault.Invalid, "InvalidConfigurationRequest", "The number of secondary addresses per subnet cannot be decreased")
		}
	}
	LoadBalancers.Put(w, lb)
	return lb, nil
}

// ModifyTargetGroupAttributes changes attributes of a target group.
func ModifyTargetGroupAttributes(w *store.WriteTx, s scope.Scope, arn string, changes map[string]string) (TargetGroup, error) {
	g, err := GetTargetGroup(w, s, arn)
	if err != nil {
		return g, err
	}
	if v := changes["stickiness.type"]; slices.Contains([]string{"lb_cookie", "app_cookie", "source_ip"}, v) && !slices.Contains(stickinessOf(g), v) {
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Stickiness type '%s' is not supported for target groups with the %s protocol", v, g.Protocol)
	}
	if g.Attributes, err = set("Target group", "target groups with protocol '"+g.Protocol+"'", g.known(), [][]attribute{groupApplication, groupConnections}, g.Attributes, changes); err != nil {
		return g, err
	}
	on := func(key string) bool { return g.Attribute(key) == "true" }
	algorithm := g.Attribute("load_balancing.algorithm.type")
	switch {
	case on("stickiness.enabled") && g.Attribute("stickiness.type") == "app_cookie" && g.Attribute("stickiness.app_cookie.cookie_name") == "":
		return g, invalid("The cookie name must be specified when the stickiness type is 'app_cookie'")
	case g.Attribute("load_balancing.algorithm.anomaly_mitigation") == "on" && algorithm != "weighted_random":
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Anomaly mitigation can be enabled for algorithm type 'weighted_random' only")
	case algorithm != "" && algorithm != "round_robin" && g.Attribute("slow_start.duration_seconds") != "0":
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "You cannot enable both slow start and %s algorithm on a target group", strings.ReplaceAll(algorithm, "_", " "))
	case algorithm == "weighted_random" && on("stickiness.enabled"):
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "You cannot have both stickiness and weighted random algorithm enabled on the same target group.")
	case algorithm != "" && on("stickiness.enabled") && g.Attribute("load_balancing.cross_zone.enabled") == "false":
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Stickiness cannot be enabled when cross-zone load balancing is disabled")
	case (g.Protocol == UDP || g.Protocol == TCPUDP) && !on("preserve_client_ip.enabled"):
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Client IP preservation cannot be disabled for target groups with protocol '%s'", g.Protocol)
	case (g.Protocol == UDP || g.Protocol == TCPUDP) && on("proxy_protocol_v2.enabled"):
		return g, fault.New(fault.Unsupported, "InvalidConfigurationRequest", "Proxy protocol version 2 is not supported for target groups with protocol '%s'", g.Protocol)
	case g.TargetType == "alb" && !on("preserve_client_ip.enabled"):
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Client IP preservation cannot be disabled for target groups with target type 'alb'")
	case g.Protocol == TLS && on("stickiness.enabled"):
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Stickiness cannot be enabled for target groups with protocol 'TLS'")
	case !slices.Contains([]string{"", "0"}, g.Attribute("target_health_state.unhealthy.draining_interval_seconds")) && on("target_health_state.unhealthy.connection_termination.enabled"):
		return g, fault.New(fault.Invalid, "InvalidConfigurationRequest", "An unhealthy draining interval can be specified only when connection termination for unhealthy targets is disabled")
	}
	if err := checkThresholds(g); err != nil {
		return g, err
	}
	TargetGroups.Put(w, g)
	return g, nil
}

// checkThresholds refuses a group whose zones would leave DNS later than its requests go to all targets.
func checkThresholds(g TargetGroup) error {
	const dns, routing = "target_group_health.dns_failover.minimum_healthy_targets.", "target_group_health.unhealthy_state_routing.minimum_healthy_targets."
	for _, unit := range []string{"count", "percentage"} {
		d, err1 := strconv.Atoi(g.Attribute(dns + unit))
		r, err2 := strconv.Atoi(g.Attribute(routing + unit))
		if err1 == nil && err2 == nil && d < r {
			return fault.New(fault.Invalid, "InvalidConfigurationRequest", "The DNS failover threshold must be greater than or equal to the unhealthy state routing threshold: %s", unit)
		}
	}
	return nil
}

// ModifyListenerAttributes changes attributes of a listener.
func ModifyListenerAttributes(w *store.WriteTx, s scope.Scope, arn string, changes map[string]string) (Listener, error) {
	l, err := GetListener(w, s, arn)
	if err != nil {
		return l, err
	}
	if l.Attributes, err = set("Listener", "listeners with protocol '"+l.Protocol+"'", l.known(), [][]attribute{listenerTLS, listenerTCP}, l.Attributes, changes); err != nil {
		return l, err
	}
	Listeners.Put(w, l)
	return l, nil
}

// CheckPort is the port at which a target is checked, as ELB describes it.
func (g TargetGroup) CheckPort(port int32) string {
	if g.Check.Port == "" || g.Check.Port == "traffic-port" {
		return strconv.Itoa(int(port))
	}
	return g.Check.Port
}

// CrossZone tells whether nodes may route to targets of other zones.
func CrossZone(lb LoadBalancer, g TargetGroup) bool {
	if v := g.Attribute("load_balancing.cross_zone.enabled"); v != "use_load_balancer_configuration" {
		return v == "true"
	}
	return lb.Attribute("load_balancing.cross_zone.enabled") == "true"
}
