package balance

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/store"
)

// Types of actions.
const (
	ForwardType  = "forward"
	RedirectType = "redirect"
	FixedType    = "fixed-response"
	OIDCType     = "authenticate-oidc"
	CognitoType  = "authenticate-cognito"
	JWTType      = "jwt-validation"
)

// Bounds of AWS for actions.
const (
	maxActions       = 5 // a rule
	MaxStickySeconds = 604800
)

func badAction(format string, args ...any) error {
	return fault.New(fault.Invalid, "InvalidLoadBalancerAction", format, args...)
}

// checkActions checks the actions of a rule or listener, in their order, and fills in their defaults. The old ones are those
// that they replace.
func checkActions(tx store.Tx, lb LoadBalancer, l Listener, actions, old []Action) ([]Action, error) {
	if err := checkSequence(actions); err != nil {
		return nil, err
	}
	out := slices.Clone(actions)
	for i := range out {
		a := &out[i]
		if a.Order < 0 || a.Order > 50000 {
			return nil, invalid("The order '%d' of an action must be between 1 and 50000", a.Order)
		}
		if lb.Type == Network && a.Type != ForwardType {
			return nil, badAction("Actions of type '%s' are not supported for network load balancers", a.Type)
		}
		var err error
		switch a.Type {
		case ForwardType:
			*a, err = checkForward(tx, lb, l, *a)
		case RedirectType:
			*a, err = checkRedirect(l, *a)
		case FixedType:
			*a, err = checkFixed(*a)
		case "":
			err = invalid("An action type must be specified")
		case OIDCType:
			*a, err = checkOIDC(l, *a, old)
		case JWTType:
			*a, err = checkJWT(l, *a)
		case CognitoType: // there are no user pools
			err = fault.New(fault.Unsupported, "InvalidLoadBalancerAction", "Actions of type '%s' are not supported", a.Type)
		default:
			err = invalid("Action type '%s' must be one of 'redirect, fixed-response, forward, authenticate-cognito, authenticate-oidc, jwt-validation'", a.Type)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// checkSequence refuses actions that can't follow each other: one may authenticate the client, and one decides, last.
func checkSequence(actions []Action) error {
	switch {
	case len(actions) == 0:
		return invalid("An action must be specified")
	case len(actions) > maxActions:
		return fault.New(fault.Limit, "TooManyActions", "The maximum number of actions per rule has been reached")
	}
	deciding, before := 0, 0
	orders := map[int32]bool{}
	for _, a := range actions {
		switch a.Type {
		case ForwardType, RedirectType, FixedType:
			deciding++
		case OIDCType, CognitoType, JWTType:
			before++
		default:
			continue // refused by its type
		}
		if len(actions) > 1 && (a.Order == 0 || orders[a.Order]) {
			return badAction("Each action must have an order of its own when multiple actions are specified")
		}
		orders[a.Order] = true
	}
	last := actions[len(actions)-1].Type
	switch {
	case deciding > 1 || deciding == 0 && before > 0:
		return badAction("You must specify exactly one of the following action types: 'forward', 'fixed-response', 'redirect'")
	case before > 1:
		return badAction("You can specify at most one of the following action types: 'authenticate-oidc', 'authenticate-cognito', 'jwt-validation'")
	case before > 0 && (last == OIDCType || last == CognitoType || last == JWTType):
		return badAction("The last action to be performed must be one of the following types: 'forward', 'fixed-response', 'redirect'")
	}
	return nil
}

// only tells whether an action has no other configuration than its type's.
func (a Action) only(kind string) bool {
	return (a.Forward == nil && a.TargetGroupARN == "" || kind == ForwardType) && (a.Redirect == nil || kind == RedirectType) && (a.Fixed == nil || kind == FixedType) &&
		(a.OIDC == nil || kind == OIDCType) && (a.JWT == nil || kind == JWTType)
}

func checkForward(tx store.Tx, lb LoadBalancer, l Listener, a Action) (Action, error) {
	if !a.only(ForwardType) {
		return a, badAction("A 'forward' action can only have a ForwardConfig")
	}
	if a.Forward == nil || len(a.Forward.Groups) == 0 {
		if a.TargetGroupARN == "" {
			return a, badAction("You must specify a list of target groups with valid target group ARNs for a 'forward' action")
		}
		f := Forward{}
		if a.Forward != nil {
			f = *a.Forward
		}
		f.Groups = []Weighted{{ARN: a.TargetGroupARN, Weight: 1}}
		a.Forward = &f
	} else if a.TargetGroupARN != "" && (len(a.Forward.Groups) > 1 || a.Forward.Groups[0].ARN != a.TargetGroupARN) {
		return a, badAction("You cannot specify both a target group ARN and a ForwardConfig that differs from it")
	}
	f := *a.Forward
	if len(f.Groups) > MaxGroupsPerForward {
		return a, fault.New(fault.Limit, "TooManyTargetGroups", "The maximum number of target groups of an action has been reached")
	}
	seen := map[string]bool{}
	for _, g := range f.Groups {
		if g.Weight < 0 || g.Weight > 999 {
			return a, invalid("The weight '%d' of target group '%s' must be between 0 and 999", g.Weight, g.ARN)
		}
		if seen[g.ARN] {
			return a, badAction("Target group '%s' is specified more than once", g.ARN)
		}
		seen[g.ARN] = true
		if err := checkGroup(tx, lb, l, g.ARN); err != nil {
			return a, err
		}
	}
	if lb.Type == Network {
		if err := checkAction(tx, lb, f); err != nil {
			return a, err
		}
	}
	if f.StickyEnabled {
		if lb.Type == Network {
			return a, badAction("Target group stickiness is not supported for network load balancers")
		}
		if f.StickySeconds < 1 || f.StickySeconds > MaxStickySeconds {
			return a, invalid("Target group stickiness duration must be between 1 and %d seconds", MaxStickySeconds)
		}
	}
	a.Forward = &f
	a.TargetGroupARN = ""
	if len(f.Groups) == 1 { // both forms are shown for a single group
		a.TargetGroupARN = f.Groups[0].ARN
	}
	return a, nil
}

// checkGroup refuses a target group that the load balancer's listener can't forward to.
func checkGroup(tx store.Tx, lb LoadBalancer, l Listener, arn string) error {
	g, err := GetTargetGroup(tx, lb.Scope, arn)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.NotFound, "TargetGroupNotFound", "One or more target groups not found")
		}
		return err
	}
	if g.VpcID != lb.VpcID {
		return fault.New(fault.Invalid, "InvalidConfigurationRequest", "The following target groups are in a different VPC than load balancer '%s': %s", lb.ARN, arn)
	}
	for _, other := range UsedBy(tx, g) {
		if other != lb.ARN {
			return fault.New(fault.Limit, "TargetGroupAssociationLimit", "The following target groups cannot be associated with more than one load balancer: %s", arn)
		}
	}
	ok := g.Protocol == HTTP || g.Protocol == HTTPS
	if lb.Type == Network {
		switch l.Protocol {
		case TCP:
			ok = g.Protocol == TCP || g.Protocol == TCPUDP
		case UDP:
			ok = g.Protocol == UDP || g.Protocol == TCPUDP
		case TLS:
			ok = g.Protocol == TCP || g.Protocol == TLS
		default:
			ok = g.Protocol == TCPUDP
		}
	}
	if !ok {
		return fault.New(fault.Invalid, "IncompatibleProtocols", "The specified target group protocol '%s' is not compatible with the %s listener of load balancer '%s'", g.Protocol, l.Protocol, lb.ARN)
	}
	if v := g.ProtocolVersion; (v == "HTTP2" || v == GRPC) && l.Protocol != HTTPS {
		return badAction("Listener protocol '%s' is not supported with a target group with the protocol-version '%s'", l.Protocol, v)
	}
	uses := GroupsOf(tx, lb)
	if lb.Type == Application && !slices.Contains(uses, arn) && len(uses) >= MaxGroupsPerLB {
		return fault.New(fault.Limit, "TooManyUniqueTargetGroupsPerLoadBalancer", "You have reached the maximum number of unique target groups that you can associate with a load balancer of type %s: %d", lb.Type, MaxGroupsPerLB)
	}
	if !slices.Contains(uses, arn) {
		return checkTargets(tx, lb, append(uses, arn))
	}
	return nil
}

var keyword = regexp.MustCompile(`#\{[^}]*\}`)

// redirectKeywords are the keywords that each part of a redirect may hold.
var redirectKeywords = map[string][]string{
	"protocol": {"#{protocol}"}, "port": {"#{port}"}, "host": {"#{host}"},
	"path":  {"#{host}", "#{path}", "#{port}"},
	"query": {"#{host}", "#{path}", "#{port}", "#{protocol}", "#{query}"},
}

func checkRedirect(l Listener, a Action) (Action, error) {
	if a.Redirect == nil || !a.only(RedirectType) {
		return a, badAction("A 'redirect' action must have a RedirectConfig and nothing else")
	}
	r := *a.Redirect
	def := func(v *string, d string) {
		if *v == "" {
			*v = d
		}
	}
	def(&r.Protocol, "#{protocol}")
	def(&r.Host, "#{host}")
	def(&r.Port, "#{port}")
	def(&r.Path, "/#{path}")
	if r.StatusCode != "HTTP_301" && r.StatusCode != "HTTP_302" {
		return a, invalid("The redirect status code '%s' must be one of 'HTTP_301, HTTP_302'", r.StatusCode)
	}
	if r.Protocol != "#{protocol}" && r.Protocol != HTTP && r.Protocol != HTTPS {
		return a, invalid("The redirect protocol '%s' must be one of 'HTTP, HTTPS, #{protocol}'", r.Protocol)
	}
	if r.Port != "#{port}" {
		if n, err := strconv.Atoi(r.Port); err != nil || n < 1 || n > 65535 {
			return a, invalid("The redirect port '%s' must be between 1 and 65535, or #{port}", r.Port)
		}
	}
	if !strings.HasPrefix(r.Path, "/") || len(r.Path) > 128 {
		return a, invalid("The redirect path '%s' must begin with '/' and have at most 128 characters", r.Path)
	}
	for _, v := range []string{r.Host, r.Path, r.Query} {
		if !isHeaderValue(v) {
			return a, invalid("The redirect '%s' contains characters that are not valid", v)
		}
	}
	if len(r.Host) > 128 || len(r.Query) > 128 {
		return a, invalid("The host and query of a redirect can have at most 128 characters")
	}
	for part, value := range map[string]string{"protocol": r.Protocol, "host": r.Host, "port": r.Port, "path": r.Path, "query": r.Query} {
		for _, k := range keyword.FindAllString(value, -1) {
			allowed := redirectKeywords[part]
			if !slices.Contains(allowed, k) {
				return a, invalid("The keyword '%s' cannot be used in the %s of a redirect", k, part)
			}
		}
	}
	if l.Protocol == HTTPS && r.Protocol == HTTP {
		return a, badAction("HTTPS requests cannot be redirected to HTTP")
	}
	if (r.Protocol == "#{protocol}" || r.Protocol == l.Protocol) && r.Host == "#{host}" && (r.Port == "#{port}" || r.Port == strconv.Itoa(int(l.Port))) && r.Path == "/#{path}" {
		return a, badAction("The redirect configuration is not valid because it creates a loop.")
	}
	a.Redirect = &r
	return a, nil
}

var (
	fixedStatus  = regexp.MustCompile(`^[245][0-9][0-9]$`)
	contentTypes = []string{"text/plain", "text/css", "text/html", "application/javascript", "application/json"}
)

func checkFixed(a Action) (Action, error) {
	if a.Fixed == nil || !a.only(FixedType) {
		return a, badAction("A 'fixed-response' action must have a FixedResponseConfig and nothing else")
	}
	f := *a.Fixed
	if !fixedStatus.MatchString(f.StatusCode) {
		return a, invalid("The fixed-response status code '%s' must match '2XX', '4XX' or '5XX'", f.StatusCode)
	}
	if f.ContentType != "" && !slices.Contains(contentTypes, f.ContentType) {
		return a, invalid("The fixed-response content type '%s' must be one of '%s'", f.ContentType, strings.Join(contentTypes, ", "))
	}
	if len(f.Body) > 1024 {
		return a, invalid("The fixed-response message body can have at most 1024 characters")
	}
	return a, nil
}
