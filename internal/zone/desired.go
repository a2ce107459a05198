package zone

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"time"

	"skerry/internal/proxy"
)

// Desired is everything that a zone should serve. It is plain data; nothing in it refers to the control plane.
type Desired struct {
	Version   string // Seal's hash of the rest
	Zone      string
	Egress    bool   // unknown names may be asked of the host's resolver
	APIName   string // the name of the API inside VPCs
	VPCs      []VPC
	Instances []Instance // those of this zone
	Hosts     []Host     // every instance address of the VPCs, for names
	Names     []Name
	Balancers []Balancer
	Groups    []TargetGroup
}

// VPC is a network that the zone serves.
type VPC struct {
	ID          string
	Namespace   string // path of its network namespace
	PortOffset  uint16 // of the zone's metadata and DNS listeners
	Region      string
	CIDR        netip.Prefix
	DNSSupport  bool
	DNSHostname bool
}

// Instance is what the metadata service knows about one instance.
type Instance struct {
	VPC             string
	IP              netip.Addr
	Account         string
	Region          string
	Zone            string
	ZoneID          string
	ID              string
	ImageID         string
	Type            string
	Architecture    string
	ReservationID   string
	LaunchIndex     int
	LaunchTime      time.Time
	Monitoring      bool
	LocalHostname   string
	PublicIP        string `json:",omitempty"`
	PublicHostname  string `json:",omitempty"`
	KeyName         string `json:",omitempty"`
	PublicKey       string `json:",omitempty"`
	SecurityGroups  []string
	UserData        []byte            `json:",omitempty"`
	RootDevice      string            `json:",omitempty"` // /dev/xvda
	BlockDevices    map[string]string `json:",omitempty"` // ebs1 → sdf
	Interfaces      []Interface
	Profile         *Profile          `json:",omitempty"`
	Lifecycle       string            `json:",omitempty"` // target lifecycle state, of group members
	Tags            map[string]string `json:",omitempty"`
	Spot            bool              `json:",omitempty"` // a spot instance
	SpotAction      string            `json:",omitempty"` // JSON, when an interruption is announced
	SpotTermination string            `json:",omitempty"`
	Rebalance       string            `json:",omitempty"`
	Options         MetadataOptions
}

// MetadataOptions are the instance's metadata options.
type MetadataOptions struct {
	TokensRequired bool
	Disabled       bool
	HopLimit       int
	Tags           bool
}

// Interface is one network interface of an instance.
type Interface struct {
	ID               string
	MAC              string
	DeviceIndex      int
	PrivateIP        string
	LocalHostname    string
	PublicIP         string `json:",omitempty"`
	PublicHostname   string `json:",omitempty"`
	SecurityGroups   []string
	SecurityGroupIDs []string
	SubnetID         string
	SubnetCIDR       string
	VpcID            string
	VpcCIDRs         []string
}

// Profile is the instance's profile and its role's current credentials.
type Profile struct {
	ARN         string
	ID          string
	Role        string `json:",omitempty"`
	Credentials *Credentials
}

// Credentials are a role's session credentials.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	Token           string
	LastUpdated     time.Time
	Expiration      time.Time
}

// Host is an instance's address for the VPC's names.
type Host struct {
	VPC        string
	IP         netip.Addr
	Name       string // ip-10-0-0-5.ec2.internal
	Public     netip.Addr
	PublicName string `json:",omitempty"` // ec2-…; inside the VPC it resolves to IP
}

// Name is a load balancer's DNS name as one VPC, or (VPC empty) every other one, resolves it.
type Name struct {
	Name  string
	VPC   string `json:",omitempty"`
	Addrs []netip.Addr
	// Local is this zone's own address among Addrs, if it is preferred: LocalShare percent of the answers hold nothing else.
	Local      netip.Addr `json:",omitzero"`
	LocalShare int        `json:",omitempty"`
}

// Seal sets Version from the content and returns the state.
func (d Desired) Seal() Desired {
	d.Version = ""
	b, err := json.Marshal(d)
	if err != nil {
		panic("zone: desired state is not plain data: " + err.Error())
	}
	sum := sha256.Sum256(b)
	d.Version = hex.EncodeToString(sum[:12])
	return d
}

// Balancer is one load-balancer node of this zone.
type Balancer struct {
	ARN        string
	Name       string // app/NAME/ID or net/NAME/ID, the dimension of its metrics
	Type       string // application or network
	VPC        string
	Namespace  string
	NodeIP     netip.Addr
	PublicIP   netip.Addr
	CookieKey  []byte `json:",omitempty"` // shared by the nodes of one load balancer; of a network one for session tickets
	Listeners  []Listener
	Attributes map[string]string
}

// Listener is one port of a node. Rules of a network load balancer are none; its default action is one forward.
type Listener struct {
	ARN          string
	Protocol     string
	Port         int
	Certificates []Certificate `json:",omitempty"` // the default one first
	SSLPolicy    string        `json:",omitempty"`
	ALPN         string        `json:",omitempty"`
	MutualTLS    MutualTLS     `json:",omitzero"`
	Attributes   map[string]string
	Rules        []Rule `json:",omitempty"` // by priority
	Default      []Action
	DefaultARN   string
}

// The parts of an application load balancer's rules are the proxy's own.
type (
	Certificate = proxy.Certificate
	Rule        = proxy.Rule
	Condition   = proxy.Condition
	QueryString = proxy.QueryString
	Action      = proxy.Action
	Weighted    = proxy.Weighted
	Redirect    = proxy.Redirect
	Fixed       = proxy.Fixed
	OIDC        = proxy.OIDC
	JWT         = proxy.JWT
	JWTClaim    = proxy.JWTClaim
	Transform   = proxy.Transform
	MutualTLS   = proxy.MutualTLS
)

// TargetGroup is a target group that a balancer of this zone uses, with the targets that its node may route to.
type TargetGroup struct {
	ARN             string
	Name            string // targetgroup/NAME/ID
	Protocol        string
	ProtocolVersion string
	VPC             string
	Namespace       string
	NodeIP          netip.Addr // of the balancer's node in this zone: where checks and requests come from
	Type            string
	Attributes      map[string]string
	Check           HealthCheck
	Targets         []Target
}

// HealthCheck are a target group's health check settings, as the API knows them: the process scales the times.
type HealthCheck struct {
	Enabled   bool
	Protocol  string // HTTP, HTTPS, TCP
	Port      string // traffic-port or a number
	Path      string
	Interval  int // seconds
	Timeout   int
	Healthy   int // thresholds
	Unhealthy int
	Matcher   string // codes: 200, 200-299, 200,302; of gRPC in a group of that version
}

// Target is one registered target.
type Target struct {
	ID         string
	Port       int
	IP         netip.Addr
	Zone       string
	Draining   bool  // gets no new requests
	Registered int64 // when, Unix nanoseconds: a target that comes back begins anew
}

// Key names the target inside its group.
func (t Target) Key() string { return t.ID + ":" + itoa(t.Port) }
