package balance

import (
	"strconv"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Types, schemes and states as AWS names them.
const (
	Application = "application"
	Network     = "network"

	InternetFacing = "internet-facing"
	Internal       = "internal"

	Provisioning = "provisioning"
	Active       = "active"
)

// LoadBalancer is a load balancer.
type LoadBalancer struct {
	scope.Scope
	ARN                string
	Name               string
	ID                 string // the 16 hex digits of the ARN
	Type               string
	SchemeName         string // internet-facing or internal
	IPAddressType      string
	VpcID              string
	DNSName            string
	State              string
	SecurityGroupIDs   []string
	EnforcePrivateLink string // on or off: a network load balancer with security groups
	Nodes              []Node // by zone
	Attributes         map[string]string
	CapacityUnits      int32
	CapacityDecreases  int32
	CapacityModified   time.Time
	CreatedAt          time.Time
}

// Node is a load balancer's presence in a zone.
type Node struct {
	Zone         string
	SubnetID     string
	ENIID        string
	PrivateIP    string
	PublicIP     string
	AllocationID string // the user's elastic address
	Chosen       bool   // the private address is the user's choice
	Serving      bool   // the zone's data plane says that it listens
}

// Dimension is the load balancer's name in CloudWatch: app/NAME/ID.
func (l LoadBalancer) Dimension() string { return kindOf(l.Type) + "/" + l.Name + "/" + l.ID }

// Listener is a port of a load balancer.
type Listener struct {
	scope.Scope
	ARN             string
	LoadBalancerARN string
	Protocol        string
	Port            int32
	Certificates    []string // ARNs; the default one first
	SSLPolicy       string
	ALPN            string
	MutualTLS       MutualTLS // of HTTPS listeners
	Attributes      map[string]string
	DefaultRuleARN  string
	DefaultActions  []Action
	CreatedAt       time.Time
}

// MutualTLS is how a listener asks clients for certificates.
type MutualTLS struct {
	Mode          string // off, passthrough, verify; empty as off
	TrustStoreARN string // of verify
	IgnoreExpiry  bool
	AdvertiseCAs  string // on or off: of verify
}

// Rule is a rule of a listener; the default rule is part of the listener.
type Rule struct {
	scope.Scope
	ARN         string
	ListenerARN string
	Priority    int32
	Conditions  []Condition
	Transforms  []Transform
	Actions     []Action
	CreatedAt   time.Time
}

// Transform rewrites what the target gets: the host header, or path and query.
type Transform struct{ Type, Regex, Replace string }

// Condition is one condition. Config tells that the client used the field's own member rather than Values.
type Condition struct {
	Field  string
	Header string
	Values []string
	Regex  []string
	Query  []KeyValue
	Config bool
}

// KeyValue is a pattern of a query-string condition; no key matches any.
type KeyValue struct{ Key, Value string }

// Action is one action of a rule.
type Action struct {
	Type           string
	Order          int32
	TargetGroupARN string // the short form, kept as the client gave it
	Forward        *Forward
	Redirect       *Redirect
	Fixed          *FixedResponse
	OIDC           *OIDC
	JWT            *JWT
}

// OIDC is an authenticate-oidc action, defaults filled in.
type OIDC struct {
	Issuer, AuthorizationEndpoint, TokenEndpoint, UserInfoEndpoint string
	ClientID, ClientSecret                                         string
	UseExistingSecret                                              bool // only on its way in: the secret of the rule's action is taken over
	SessionCookieName, Scope, OnUnauthenticated                    string
	SessionTimeout                                                 int64 // seconds
	ExtraParams                                                    map[string]string
}

// JWT is a jwt-validation action.
type JWT struct {
	Issuer, JWKSEndpoint string
	Claims               []Claim
}

// Claim is a claim that a token must have.
type Claim struct {
	Name, Format string
	Values       []string
}

// Forward is a forward action's groups.
type Forward struct {
	Groups        []Weighted
	StickyEnabled bool
	StickySeconds int32
	Sticky        bool // a stickiness member was given
}

// Weighted is a target group and its weight.
type Weighted struct {
	ARN    string
	Weight int32
}

// Redirect is a redirect action's templates, defaults filled in.
type Redirect struct{ Protocol, Host, Port, Path, Query, StatusCode string }

// FixedResponse is a fixed-response action.
type FixedResponse struct{ StatusCode, ContentType, Body string }

// TargetGroup is a set of targets and how they are checked.
type TargetGroup struct {
	scope.Scope
	ARN             string
	Name            string
	ID              string
	Protocol        string
	ProtocolVersion string // of an application load balancer's: HTTP1, HTTP2, GRPC
	Port            int32
	VpcID           string
	TargetType      string // instance, ip, lambda, alb
	IPAddressType   string
	Check           HealthCheck
	Attributes      map[string]string
	CreatedAt       time.Time
}

// HealthCheck are a group's health check settings.
type HealthCheck struct {
	Enabled   bool
	Protocol  string
	Port      string // traffic-port or a number
	Path      string
	Interval  int32 // seconds
	Timeout   int32
	Healthy   int32
	Unhealthy int32
	HTTPCode  string
	GRPCCode  string
}

// Dimension is the group's name in CloudWatch: targetgroup/NAME/ID.
func (g TargetGroup) Dimension() string { return "targetgroup/" + g.Name + "/" + g.ID }

// Registration is a target in a group.
type Registration struct {
	scope.Scope
	GroupARN         string
	TargetID         string // i-…, an address, or an ARN
	Port             int32
	AvailabilityZone string // of an ip target, as the client gave it or as detected
	QuicServerID     string
	RegisteredAt     time.Time
	DrainingSince    time.Time // zero while registered
	DrainSeconds     int32
}

// Draining tells whether the target was deregistered.
func (r Registration) Draining() bool { return !r.DrainingSince.IsZero() }

// Name is the target's name inside its group.
func (r Registration) Name() string { return r.TargetID + ":" + strconv.Itoa(int(r.Port)) }

// Observation is what one zone's node says about one target.
type Observation struct {
	scope.Scope
	GroupARN    string
	TargetID    string
	Port        int32
	Zone        string
	State       string // initial, healthy, unhealthy
	Reason      string
	Description string
	Since       time.Time
	Anomalous   bool `json:",omitempty"`
	Mitigated   bool `json:",omitempty"`
}

func targetKey(s scope.Scope, group, id string, port int32) string {
	return s.Key(group) + " " + id + ":" + strconv.Itoa(int(port))
}

// The tables. Keys are account/region/ARN; a target's key continues its group's, an observation's its target's.
var (
	LoadBalancers = store.NewTable("load-balancer", func(v LoadBalancer) string { return v.Key(v.ARN) },
		store.Index[LoadBalancer]{Name: "name", Keys: func(v LoadBalancer) []string { return []string{v.Key(v.Name)} }},
		store.Index[LoadBalancer]{Name: "zone", Keys: func(v LoadBalancer) []string {
			var ks []string
			for _, n := range v.Nodes {
				ks = append(ks, n.Zone)
			}
			return ks
		}})
	Listeners = store.NewTable("listener", func(v Listener) string { return v.Key(v.ARN) },
		store.Index[Listener]{Name: "lb", Keys: func(v Listener) []string { return []string{v.Key(v.LoadBalancerARN)} }},
		store.Index[Listener]{Name: "certificate", Keys: func(v Listener) []string { return v.Certificates }},
		store.Index[Listener]{Name: "trust-store", Keys: func(v Listener) []string {
			if v.MutualTLS.TrustStoreARN == "" {
				return nil
			}
			return []string{v.Key(v.MutualTLS.TrustStoreARN)}
		}},
		store.Index[Listener]{Name: "group", Keys: func(v Listener) []string { return groupKeys(v.Scope, v.DefaultActions) }})
	Rules = store.NewTable("listener-rule", func(v Rule) string { return v.Key(v.ARN) },
		store.Index[Rule]{Name: "listener", Keys: func(v Rule) []string { return []string{v.Key(v.ListenerARN)} }},
		store.Index[Rule]{Name: "group", Keys: func(v Rule) []string { return groupKeys(v.Scope, v.Actions) }})
	TargetGroups = store.NewTable("target-group", func(v TargetGroup) string { return v.Key(v.ARN) },
		store.Index[TargetGroup]{Name: "name", Keys: func(v TargetGroup) []string { return []string{v.Key(v.Name)} }})
	Registrations = store.NewTable("target", func(v Registration) string { return targetKey(v.Scope, v.GroupARN, v.TargetID, v.Port) },
		store.Index[Registration]{Name: "target", Keys: func(v Registration) []string { return []string{v.Key(v.TargetID)} }},
		store.Index[Registration]{Name: "draining", Keys: func(v Registration) []string {
			if v.Draining() {
				return []string{"yes"}
			}
			return nil
		}})
	Observations = store.NewTable("target-observation", func(v Observation) string {
		return targetKey(v.Scope, v.GroupARN, v.TargetID, v.Port) + " " + v.Zone
	}, store.Index[Observation]{Name: "zone", Keys: func(v Observation) []string { return []string{v.Zone} }})
)

// Tables lists the package's tables.
var Tables = []store.AnyTable{LoadBalancers, Listeners, Rules, TargetGroups, Registrations, Observations, TrustStores, Revocations}

// groupKeys lists the keys of the target groups that actions forward to.
func groupKeys(s scope.Scope, actions []Action) []string {
	var ks []string
	for _, arn := range forwardedGroups(actions) {
		ks = append(ks, s.Key(arn))
	}
	return ks
}

// forwardedGroups lists the target groups of actions once each, in order.
func forwardedGroups(actions []Action) []string {
	var out []string
	seen := map[string]bool{}
	add := func(arn string) {
		if arn != "" && !seen[arn] {
			seen[arn] = true
			out = append(out, arn)
		}
	}
	for _, a := range actions {
		add(a.TargetGroupARN)
		if a.Forward != nil {
			for _, g := range a.Forward.Groups {
				add(g.ARN)
			}
		}
	}
	return out
}

func kindOf(lbType string) string {
	if lbType == Network {
		return "net"
	}
	return "app"
}
