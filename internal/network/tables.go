package network

import (
	"strconv"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// VPC is a virtual network.
type VPC struct {
	scope.Scope
	ID                               string
	CIDR                             string
	CIDRAssociationID                string
	IsDefault                        bool
	DhcpOptionsID                    string
	MainRouteTableID                 string
	DefaultGroupID                   string
	DefaultACLID                     string
	EnableDNSSupport                 bool
	EnableDNSHostnames               bool
	EnableNetworkAddressUsageMetrics bool
	InstanceTenancy                  string
	Index                            uint32 // unique over the cloud, for names and transit addresses of the fabric
	CreatedAt                        time.Time
}

// Subnet is a range of a VPC in one zone.
type Subnet struct {
	scope.Scope
	ID                  string
	VpcID               string
	CIDR                string
	AvailabilityZone    string
	DefaultForAZ        bool
	MapPublicIPOnLaunch bool
	HostnameType        string // ip-name or resource-name
	ResourceNameDNSA    bool
	NetworkACLID        string
	ACLAssociationID    string
	InUse               int    // addresses held by interfaces
	Next                uint32 // where the search for a free address begins
	CreatedAt           time.Time
}

// RouteTable is the routes of the subnets that it is associated with.
type RouteTable struct {
	scope.Scope
	ID           string
	VpcID        string
	Routes       []Route
	Associations []RouteTableAssociation
	CreatedAt    time.Time
}

// Route is one route; exactly one target is set. The local route has GatewayID "local".
type Route struct {
	DestinationCIDR    string
	GatewayID          string
	NetworkInterfaceID string
	InstanceID         string
	NatGatewayID       string
	Origin             string // CreateRouteTable or CreateRoute
}

// RouteTableAssociation ties a table to a subnet, or (Main) to every subnet without one of its own.
type RouteTableAssociation struct {
	ID       string
	SubnetID string
	Main     bool
}

// InternetGateway is a gateway, attached to VpcID or to nothing.
type InternetGateway struct {
	scope.Scope
	ID        string
	VpcID     string
	CreatedAt time.Time
}

// Address is an elastic address. It is associated when NetworkInterfaceID is set.
type Address struct {
	scope.Scope
	AllocationID       string
	PublicIP           string
	AssociationID      string
	NetworkInterfaceID string
	InstanceID         string
	PrivateIP          string
	CreatedAt          time.Time
}

// ENI is an elastic network interface.
type ENI struct {
	scope.Scope
	ID                  string
	SubnetID            string
	VpcID               string
	AvailabilityZone    string
	PrivateIP           string
	MAC                 string
	GroupIDs            []string
	Description         string
	InterfaceType       string // interface, network_load_balancer, ...
	RequesterID         string
	RequesterManaged    bool
	SourceDestCheck     bool
	PublicIP            string // an elastic address when AssociationID is set, else one of the pool
	AllocationID        string
	AssociationID       string
	AutoPublic          bool // wants a pool address whenever its instance runs
	InstanceID          string
	AttachmentID        string
	DeviceIndex         int
	DeleteOnTermination bool
	AttachTime          time.Time
	CreatedAt           time.Time
}

// Status is AWS's status of the interface.
func (e ENI) Status() string {
	if e.AttachmentID != "" {
		return "in-use"
	}
	return "available"
}

// SecurityGroup is a group with its rules.
type SecurityGroup struct {
	scope.Scope
	ID          string
	VpcID       string
	Name        string
	Description string
	Rules       []Rule
	CreatedAt   time.Time
}

// Rule allows one kind of traffic from or to one peer. Exactly one of CIDRv4, CIDRv6, PrefixListID, GroupID is set.
// Protocol is tcp, udp, icmp, icmpv6, a number, or -1 for all. Ports are -1 where they have no meaning (for ICMP: type and
// code, -1 meaning all).
type Rule struct {
	ID           string
	Egress       bool
	Protocol     string
	FromPort     int32
	ToPort       int32
	CIDRv4       string
	CIDRv6       string
	PrefixListID string
	GroupID      string
	GroupAccount string
	Description  string
}

// NetworkACL is a stateless filter of subnets.
type NetworkACL struct {
	scope.Scope
	ID        string
	VpcID     string
	IsDefault bool
	Entries   []ACLEntry
}

// ACLEntry is one rule of a network ACL.
type ACLEntry struct {
	Number   int32
	Egress   bool
	Protocol string // a number, -1 for all
	Allow    bool
	CIDR     string
}

// DhcpOptions is a set of DHCP options.
type DhcpOptions struct {
	scope.Scope
	ID                 string
	DomainName         string
	DomainNameServers  []string
	NTPServers         []string
	NetBIOSNameServers []string
	NetBIOSNodeType    string
	IsDefault          bool // the region's own set
}

// Pool is the one range of public addresses of the cloud.
type Pool struct {
	Prefix string
	Next   uint32 // offset where the search for a free address begins
}

// PublicAddress is a public address in use and who holds it: an interface, an allocation, or what it is a front of.
type PublicAddress struct {
	scope.Scope
	IP       string
	HolderID string
	Front    bool
}

// The tables. Regional ones have the key account/region/id; index values are scope keys too, so two scopes never meet.
var (
	VPCs = store.NewTable("vpc", func(v VPC) string { return v.Key(v.ID) },
		store.Index[VPC]{Name: "index", Keys: func(v VPC) []string { return []string{strconv.Itoa(int(v.Index))} }})
	Subnets = store.NewTable("subnet", func(v Subnet) string { return v.Key(v.ID) },
		store.Index[Subnet]{Name: "vpc", Keys: func(v Subnet) []string { return []string{v.Key(v.VpcID)} }},
		store.Index[Subnet]{Name: "acl", Keys: func(v Subnet) []string { return []string{v.Key(v.NetworkACLID)} }})
	RouteTables = store.NewTable("route-table", func(v RouteTable) string { return v.Key(v.ID) },
		store.Index[RouteTable]{Name: "vpc", Keys: func(v RouteTable) []string { return []string{v.Key(v.VpcID)} }},
		store.Index[RouteTable]{Name: "association", Keys: func(v RouteTable) []string {
			var ks []string
			for _, a := range v.Associations {
				ks = append(ks, v.Key(a.ID))
			}
			return ks
		}},
		store.Index[RouteTable]{Name: "subnet", Keys: func(v RouteTable) []string {
			var ks []string
			for _, a := range v.Associations {
				if a.SubnetID != "" {
					ks = append(ks, v.Key(a.SubnetID))
				}
			}
			return ks
		}})
	InternetGateways = store.NewTable("internet-gateway", func(v InternetGateway) string { return v.Key(v.ID) },
		store.Index[InternetGateway]{Name: "vpc", Keys: func(v InternetGateway) []string {
			if v.VpcID == "" {
				return nil
			}
			return []string{v.Key(v.VpcID)}
		}})
	Addresses = store.NewTable("address", func(v Address) string { return v.Key(v.AllocationID) },
		store.Index[Address]{Name: "association", Keys: func(v Address) []string {
			if v.AssociationID == "" {
				return nil
			}
			return []string{v.Key(v.AssociationID)}
		}},
		store.Index[Address]{Name: "ip", Keys: func(v Address) []string { return []string{v.Key(v.PublicIP)} }})
	ENIs = store.NewTable("network-interface", func(v ENI) string { return v.Key(v.ID) },
		store.Index[ENI]{Name: "vpc", Keys: func(v ENI) []string { return []string{v.Key(v.VpcID)} }},
		store.Index[ENI]{Name: "subnet", Keys: func(v ENI) []string { return []string{v.Key(v.SubnetID)} }},
		store.Index[ENI]{Name: "ip", Keys: func(v ENI) []string { return []string{v.Key(v.SubnetID) + "/" + v.PrivateIP} }},
		store.Index[ENI]{Name: "instance", Keys: func(v ENI) []string {
			if v.InstanceID == "" {
				return nil
			}
			return []string{v.Key(v.InstanceID)}
		}},
		store.Index[ENI]{Name: "attachment", Keys: func(v ENI) []string {
			if v.AttachmentID == "" {
				return nil
			}
			return []string{v.Key(v.AttachmentID)}
		}},
		store.Index[ENI]{Name: "group", Keys: func(v ENI) []string {
			var ks []string
			for _, g := range v.GroupIDs {
				ks = append(ks, v.Key(g))
			}
			return ks
		}})
	SecurityGroups = store.NewTable("security-group", func(v SecurityGroup) string { return v.Key(v.ID) },
		store.Index[SecurityGroup]{Name: "vpc", Keys: func(v SecurityGroup) []string { return []string{v.Key(v.VpcID)} }},
		store.Index[SecurityGroup]{Name: "name", Keys: func(v SecurityGroup) []string { return []string{v.Key(v.VpcID) + "/" + v.Name} }},
		store.Index[SecurityGroup]{Name: "rule", Keys: func(v SecurityGroup) []string {
			var ks []string
			for _, r := range v.Rules {
				ks = append(ks, v.Key(r.ID))
			}
			return ks
		}},
		store.Index[SecurityGroup]{Name: "peer", Keys: func(v SecurityGroup) []string {
			var ks []string
			seen := map[string]bool{}
			for _, r := range v.Rules {
				if r.GroupID != "" && !seen[r.GroupID] {
					seen[r.GroupID] = true
					ks = append(ks, v.Key(r.GroupID))
				}
			}
			return ks
		}})
	NetworkACLs = store.NewTable("network-acl", func(v NetworkACL) string { return v.Key(v.ID) },
		store.Index[NetworkACL]{Name: "vpc", Keys: func(v NetworkACL) []string { return []string{v.Key(v.VpcID)} }})
	DhcpOptionSets  = store.NewTable("dhcp-options", func(v DhcpOptions) string { return v.Key(v.ID) })
	PublicPool      = store.NewTable("public-pool", func(Pool) string { return "pool" })
	PublicAddresses = store.NewTable("public-address", func(v PublicAddress) string { return v.IP },
		store.Index[PublicAddress]{Name: "use", Keys: func(v PublicAddress) []string {
			if !v.Front {
				return nil
			}
			return []string{useFront}
		}})
)

// Tables lists the package's tables.
var Tables = []store.AnyTable{VPCs, Subnets, RouteTables, InternetGateways, Addresses, ENIs, SecurityGroups, NetworkACLs,
	DhcpOptionSets, PublicPool, PublicAddresses}
