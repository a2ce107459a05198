package proxy

import "skerry/internal/tlsfront"

// Config is all that one load-balancer node serves. It is plain data, and the JSON form of docs/format/proxy.md.
// Attribute maps have the keys and values of the Elastic Load Balancing API; a key that is absent has its default there.
type Config struct {
	LBName       string                 `json:"name,omitempty"` // app/NAME/ID
	Zone         string                 `json:"zone,omitempty"`
	Attributes   map[string]string      `json:"attributes,omitempty"`
	Listeners    []Listener             `json:"listeners"`
	TargetGroups map[string]TargetGroup `json:"targetGroups,omitempty"` // by ARN, or any name that the actions use
	// CookieKey keys the stickiness cookies. Nodes of one load balancer must share it. Empty: derived from LBName.
	CookieKey []byte `json:"cookieKey,omitempty"`
	// GetBodies counts a body of GET or HEAD that is framed once as compliant. The service calls it ambiguous.
	GetBodies bool `json:"getBodies,omitempty"`
}

// Protocols of listeners and target groups.
const (
	HTTP  = "HTTP"
	HTTPS = "HTTPS"
)

// Versions of HTTP that targets speak.
const (
	HTTP1 = "HTTP1"
	HTTP2 = "HTTP2"
	GRPC  = "GRPC"
)

// Listener is one address that the node accepts connections on.
type Listener struct {
	ARN            string            `json:"arn,omitempty"`
	Addr           string            `json:"address"`  // host:port
	Protocol       string            `json:"protocol"` // HTTP or HTTPS
	Port           int               `json:"port,omitempty"`
	Certificates   []Certificate     `json:"certificates,omitempty"` // the default one first
	SSLPolicy      string            `json:"sslPolicy,omitempty"`
	MutualTLS      MutualTLS         `json:"mutualTls,omitzero"`
	Attributes     map[string]string `json:"attributes,omitempty"`
	Rules          []Rule            `json:"rules,omitempty"`
	DefaultActions []Action          `json:"defaultActions"`
	DefaultARN     string            `json:"defaultArn,omitempty"`
}

// MutualTLS says what certificate is asked of clients.
type MutualTLS = tlsfront.MutualTLS

// Certificate is a certificate chain and its private key, PEM. In a configuration file, certFile and keyFile name files.
type Certificate struct {
	ARN      string `json:"arn,omitempty"`
	CertPEM  string `json:"certPem,omitempty"`
	KeyPEM   string `json:"keyPem,omitempty"`
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
}

// Rule is one rule of a listener: all conditions must match. Rules are tried by ascending priority.
type Rule struct {
	ARN        string      `json:"arn,omitempty"`
	Priority   int         `json:"priority"`
	Conditions []Condition `json:"conditions"`
	Transforms []Transform `json:"transforms,omitempty"`
	Actions    []Action    `json:"actions"`
}

// Types of transforms.
const (
	HostHeaderRewrite = "host-header-rewrite"
	URLRewrite        = "url-rewrite"
)

// Transform rewrites what the target gets, after the rule has matched: the host, or path and query. Regex is searched in it and
// what it finds is replaced; $1 in Replace stands for its first group. A rule has at most one of each type.
type Transform struct {
	Type    string `json:"type"`
	Regex   string `json:"regex"`
	Replace string `json:"replace"`
}

// Fields of conditions.
const (
	HostHeader    = "host-header"
	PathPattern   = "path-pattern"
	HTTPHeader    = "http-header"
	RequestMethod = "http-request-method"
	QueryField    = "query-string"
	SourceIP      = "source-ip"
)

// Condition is one condition: any of its values may match.
type Condition struct {
	Field  string        `json:"field"`
	Header string        `json:"header,omitempty"` // of http-header
	Values []string      `json:"values,omitempty"`
	Regex  []string      `json:"regexValues,omitempty"`
	Query  []QueryString `json:"query,omitempty"` // of query-string
}

// QueryString is a pattern of one key and value; an empty key matches any.
type QueryString struct {
	Key   string `json:"key,omitempty"`
	Value string `json:"value"`
}

// Types of actions.
const (
	Forward       = "forward"
	RedirectTo    = "redirect"
	FixedResponse = "fixed-response"

	AuthenticateOIDC = "authenticate-oidc"
	JWTValidation    = "jwt-validation"
)

// Action is one action. Order sorts those of a rule; exactly one of the first three types is last and decides. One of the
// last two may stand before it, at an HTTPS listener.
type Action struct {
	Type          string     `json:"type"`
	Order         int        `json:"order,omitempty"`
	Forward       []Weighted `json:"forward,omitempty"`
	StickySeconds int        `json:"stickySeconds,omitempty"` // stickiness among the groups, 0 = off
	Redirect      *Redirect  `json:"redirect,omitempty"`
	Fixed         *Fixed     `json:"fixedResponse,omitempty"`
	OIDC          *OIDC      `json:"authenticateOidc,omitempty"`
	JWT           *JWT       `json:"jwtValidation,omitempty"`
}

// Values of OIDC.OnUnauthenticated.
const (
	OnUnauthenticatedAuthenticate = "authenticate"
	OnUnauthenticatedAllow        = "allow"
	OnUnauthenticatedDeny         = "deny"
)

// OIDC are the settings of an authenticate-oidc action. Endpoints are https URLs; empty texts have the API's defaults.
type OIDC struct {
	Issuer                string            `json:"issuer"`
	AuthorizationEndpoint string            `json:"authorizationEndpoint"`
	TokenEndpoint         string            `json:"tokenEndpoint"`
	UserInfoEndpoint      string            `json:"userInfoEndpoint"`
	ClientID              string            `json:"clientId"`
	ClientSecret          string            `json:"clientSecret"`
	SessionCookieName     string            `json:"sessionCookieName,omitempty"`
	SessionTimeoutSeconds int               `json:"sessionTimeout,omitempty"`
	Scope                 string            `json:"scope,omitempty"`
	ExtraParams           map[string]string `json:"authenticationRequestExtraParams,omitempty"`
	OnUnauthenticated     string            `json:"onUnauthenticatedRequest,omitempty"`
}

// JWT are the settings of a jwt-validation action.
type JWT struct {
	Issuer       string     `json:"issuer"`
	JWKSEndpoint string     `json:"jwksEndpoint"` // an https URL
	Claims       []JWTClaim `json:"additionalClaims,omitempty"`
}

// Formats of claims.
const (
	ClaimString      = "single-string"
	ClaimStringArray = "string-array"
	ClaimSpaces      = "space-separated-values"
)

// JWTClaim is a claim that a token must have: with one value equal to Values[0], or in a list all of Values.
type JWTClaim struct {
	Name   string   `json:"name"`
	Format string   `json:"format"`
	Values []string `json:"values"`
}

// Weighted is a target group with its share.
type Weighted struct {
	GroupARN string `json:"targetGroup"`
	Weight   int    `json:"weight"`
}

// Redirect holds the templates of a redirect; empty ones have the API's defaults.
type Redirect struct {
	Protocol   string `json:"protocol,omitempty"`
	Host       string `json:"host,omitempty"`
	Port       string `json:"port,omitempty"`
	Path       string `json:"path,omitempty"`
	Query      string `json:"query,omitempty"`
	StatusCode string `json:"statusCode,omitempty"` // HTTP_301 or HTTP_302
	DropQuery  bool   `json:"dropQuery,omitempty"`  // no query at all: an empty one is the request's
}

// Fixed is a fixed response.
type Fixed struct {
	StatusCode  string `json:"statusCode"`
	ContentType string `json:"contentType,omitempty"`
	Body        string `json:"body,omitempty"`
}

// TargetGroup is a target group with the targets that this node may choose.
type TargetGroup struct {
	ARN             string            `json:"arn,omitempty"`
	Name            string            `json:"name,omitempty"`
	Protocol        string            `json:"protocol,omitempty"`        // HTTP (default) or HTTPS
	ProtocolVersion string            `json:"protocolVersion,omitempty"` // HTTP1 (default), HTTP2 or GRPC
	Attributes      map[string]string `json:"attributes,omitempty"`
	Targets         []Target          `json:"targets"`
}

// States of targets. Empty counts as healthy.
const (
	Initial   = "initial"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
	Draining  = "draining"
	Unused    = "unused"
)

// Target is one registered target.
type Target struct {
	ID     string `json:"id,omitempty"`
	Addr   string `json:"address"` // host:port
	Zone   string `json:"zone,omitempty"`
	State  string `json:"state,omitempty"`
	Weight int    `json:"weight,omitempty"` // 0 counts as 1
}
