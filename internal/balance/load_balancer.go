package balance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Quotas of AWS a region.
const (
	MaxLoadBalancers = 50
	minFreeAddresses = 8 // in each subnet of an application load balancer
	minSubnetBits    = 27
)

// requester is how EC2 names the owner of the interfaces.
const requester = "amazon-elb"

var resourceName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$`)

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "ValidationError", format, args...)
}

// The kinds of names, as AWS's messages begin.
const (
	balancerName = "The load balancer name"
	groupName    = "Target group name"
)

// checkName refuses the name of a load balancer or target group.
func checkName(kind, name string) error {
	switch {
	case name == "":
		return invalid("%s must be specified", kind)
	case len(name) > 32:
		return invalid("%s '%s' cannot be longer than '32' characters", kind, name)
	case strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-"):
		return invalid("%s '%s' cannot begin or end with '-'", kind, name)
	case !resourceName.MatchString(name):
		return invalid("%s '%s' can only contain characters that are alphanumeric characters or hyphens(-)", kind, name)
	case kind == balancerName && strings.HasPrefix(name, "internal-"):
		return invalid("%s '%s' cannot begin with the prefix 'internal-'", kind, name)
	}
	return nil
}

// SubnetMapping is a subnet of a load balancer with the address that its node is to have.
type SubnetMapping struct {
	SubnetID     string
	AllocationID string
	PrivateIP    string
}

// LoadBalancerParams are the parameters of CreateLoadBalancer.
type LoadBalancerParams struct {
	Name             string
	Type             string
	Scheme           string
	IPAddressType    string
	Subnets          []SubnetMapping
	SecurityGroupIDs []string
	Tags             map[string]string
}

// GetLoadBalancer finds a load balancer by its ARN.
func GetLoadBalancer(tx store.Tx, s scope.Scope, arn string) (LoadBalancer, error) {
	if v, ok := LoadBalancers.Get(tx, s.Key(arn)); ok {
		return v, nil
	}
	if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":loadbalancer/") {
		return LoadBalancer{}, invalid("'%s' is not a valid load balancer ARN", arn)
	}
	return LoadBalancer{}, fault.New(fault.NotFound, "LoadBalancerNotFound", "Load balancer '%s' not found", arn)
}

func hex16(w *store.WriteTx) string { return fmt.Sprintf("%016x", w.Rand().Uint64()) }

// CreateLoadBalancer makes a load balancer in state provisioning; it is active when its nodes serve. The same parameters
// again give the one that is there.
func CreateLoadBalancer(w *store.WriteTx, s scope.Scope, p LoadBalancerParams) (LoadBalancer, error) {
	if err := checkName(balancerName, p.Name); err != nil {
		return LoadBalancer{}, err
	}
	if err := p.defaults(); err != nil {
		return LoadBalancer{}, err
	}
	subnets, err := checkSubnets(w, s, p.Type, p.Scheme, p.Subnets)
	if err != nil {
		return LoadBalancer{}, err
	}
	for old := range LoadBalancers.By(w, "name", s.Key(p.Name)) {
		if p.same(w, old) {
			return old, nil
		}
		return LoadBalancer{}, fault.New(fault.Exists, "DuplicateLoadBalancerName", "A load balancer with the same name '%s' exists, but with different settings", p.Name)
	}
	n := 0
	for lb := range LoadBalancers.Prefix(w, s.Prefix()) {
		if lb.Type == p.Type {
			n++
		}
	}
	if n >= MaxLoadBalancers {
		return LoadBalancer{}, fault.New(fault.Limit, "TooManyLoadBalancers", "The maximum number of load balancers has been reached")
	}
	lb := LoadBalancer{Scope: s, Name: p.Name, ID: hex16(w), Type: p.Type, SchemeName: p.Scheme, IPAddressType: p.IPAddressType, VpcID: subnets[0].VpcID,
		State: Provisioning, SecurityGroupIDs: p.SecurityGroupIDs, CreatedAt: w.Now()}
	lb.ARN = s.ARN("elasticloadbalancing", "loadbalancer/"+lb.Dimension())
	lb.DNSName = dnsName(w, lb)
	if lb.SecurityGroupIDs, err = checkGroups(w, s, lb, subnets[0], p.SecurityGroupIDs); err != nil {
		return LoadBalancer{}, err
	}
	if lb.Type == Network && len(lb.SecurityGroupIDs) > 0 {
		lb.EnforcePrivateLink = "on"
	}
	for i, sn := range subnets {
		node, err := addNode(w, lb, sn, p.Subnets[i])
		if err != nil {
			return LoadBalancer{}, err
		}
		lb.Nodes = append(lb.Nodes, node)
	}
	lb.Nodes = sortNodes(lb.Nodes)
	LoadBalancers.Put(w, lb)
	tag.SetSystem(w, s, lb.ARN, p.Tags)
	return lb, nil
}

func (p *LoadBalancerParams) defaults() error {
	switch p.Type {
	case "":
		p.Type = Application
	case Application, Network:
	case "gateway":
		return fault.New(fault.Unsupported, "InvalidConfigurationRequest", "Load balancers of type 'gateway' are not supported")
	default:
		return invalid("Load balancer type '%s' must be one of 'application, network, gateway'", p.Type)
	}
	switch p.Scheme {
	case "":
		p.Scheme = InternetFacing
	case InternetFacing, Internal:
	default:
		return fault.New(fault.Invalid, "InvalidScheme", "The requested scheme is not valid: '%s'", p.Scheme)
	}
	if err := checkIPType(p.IPAddressType); err != nil {
		return err
	}
	if p.IPAddressType == "" {
		p.IPAddressType = "ipv4"
	}
	return nil
}

func checkIPType(t string) error {
	switch t {
	case "", "ipv4":
		return nil
	case "dualstack", "dualstack-without-public-ipv4":
		return fault.New(fault.Invalid, "InvalidSubnet", "You must specify subnets with an associated IPv6 CIDR block.")
	}
	return invalid("IP address type '%s' must be one of 'ipv4, dualstack, dualstack-without-public-ipv4'", t)
}

// same tells whether the parameters describe an existing load balancer.
func (p LoadBalancerParams) same(tx store.Tx, lb LoadBalancer) bool {
	var have, want []string
	for _, n := range lb.Nodes {
		have = append(have, n.SubnetID+" "+n.AllocationID)
	}
	for _, m := range p.Subnets {
		want = append(want, m.SubnetID+" "+m.AllocationID)
		if m.PrivateIP != "" && !slices.ContainsFunc(lb.Nodes, func(n Node) bool { return n.SubnetID == m.SubnetID && n.PrivateIP == m.PrivateIP }) {
			return false
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	groups := p.SecurityGroupIDs
	if len(groups) == 0 && lb.Type == Application {
		if v, ok := network.VPCs.Get(tx, lb.Key(lb.VpcID)); ok {
			groups = []string{v.DefaultGroupID}
		}
	}
	tags := tag.Map(tx, lb.Scope, lb.ARN)
	for k, v := range p.Tags {
		if tags[k] != v {
			return false
		}
	}
	return lb.Type == p.Type && lb.SchemeName == p.Scheme && lb.IPAddressType == p.IPAddressType && slices.Equal(have, want) && sameSet(groups, lb.SecurityGroupIDs)
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func dnsName(w *store.WriteTx, lb LoadBalancer) string {
	if lb.Type == Network {
		return fmt.Sprintf("%s-%s.elb.%s.amazonaws.com", lb.Name, lb.ID, lb.Region)
	}
	prefix := ""
	if lb.SchemeName == Internal {
		prefix = "internal-"
	}
	// 9 or 10 digits; AWS writes these names in lower case only when resolving, so the name keeps its case.
	return fmt.Sprintf("%s%s-%d.%s.elb.amazonaws.com", prefix, lb.Name, 100_000_000+w.Rand().Uint32N(2_000_000_000), lb.Region)
}

// checkSubnets resolves the subnets of a load balancer and refuses a set that it can't have.
func checkSubnets(tx store.Tx, s scope.Scope, lbType, scheme string, mappings []SubnetMapping) ([]network.Subnet, error) {
	var out []network.Subnet
	zones := map[string]bool{}
	if len(mappings) == 0 {
		return nil, invalid("A load balancer must have at least one subnet")
	}
	for _, m := range mappings {
		sn, ok := network.Subnets.Get(tx, s.Key(m.SubnetID))
		if !ok {
			return nil, fault.New(fault.NotFound, "SubnetNotFound", "The subnet ID '%s' does not exist", m.SubnetID)
		}
		if len(out) > 0 && sn.VpcID != out[0].VpcID {
			return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "All subnets must belong to the same VPC: '%s'", out[0].VpcID)
		}
		if zones[sn.AvailabilityZone] {
			return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone")
		}
		zones[sn.AvailabilityZone] = true
		if lbType == Application && (sn.Prefix().Bits() > minSubnetBits || m.AllocationID != "" || m.PrivateIP != "") {
			if sn.Prefix().Bits() > minSubnetBits {
				return nil, fault.New(fault.Invalid, "InvalidSubnet", "Subnet '%s' must be at least a /%d CIDR block", sn.ID, minSubnetBits)
			}
			return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Addresses cannot be specified for application load balancers")
		}
		if m.AllocationID != "" && scheme == Internal {
			return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Elastic IPs are not supported for load balancers with scheme 'internal'")
		}
		if m.PrivateIP != "" && scheme != Internal {
			return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Private IPv4 addresses can be specified for internal load balancers only")
		}
		out = append(out, sn)
	}
	if lbType == Application && len(out) < 2 {
		return nil, invalid("At least two subnets in two different Availability Zones must be specified")
	}
	if scheme == InternetFacing {
		if _, ok := network.VPCGateway(tx, s, out[0].VpcID); !ok {
			return nil, fault.New(fault.Invalid, "InvalidSubnet", "VPC %s has no internet gateway", out[0].VpcID)
		}
	}
	return out, nil
}

// checkGroups resolves security groups: an application load balancer without any takes the VPC's default one.
func checkGroups(tx store.Tx, s scope.Scope, lb LoadBalancer, sn network.Subnet, ids []string) ([]string, error) {
	if len(ids) == 0 && lb.Type == Network {
		return nil, nil
	}
	for _, id := range ids {
		g, ok := network.SecurityGroups.Get(tx, s.Key(id))
		if !ok {
			return nil, fault.New(fault.Invalid, "InvalidSecurityGroup", "The security group '%s' does not exist", id)
		}
		if g.VpcID != lb.VpcID {
			return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "One or more security groups are invalid")
		}
	}
	groups, err := network.CheckGroups(tx, s, sn, ids)
	if err != nil {
		return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "One or more security groups are invalid").Wrap(err)
	}
	return groups, nil
}

// addNode makes a node in a subnet with its interface and addresses.
func addNode(w *store.WriteTx, lb LoadBalancer, sn network.Subnet, m SubnetMapping) (Node, error) {
	if lb.Type == Application && sn.Available() < minFreeAddresses {
		return Node{}, fault.New(fault.Invalid, "InvalidSubnet", "Not enough IP space available in %s. ELB requires at least %d free IP addresses in each subnet.", sn.ID, minFreeAddresses)
	}
	p := network.ENIParams{SubnetID: sn.ID, PrivateIP: m.PrivateIP, GroupIDs: lb.SecurityGroupIDs, Description: "ELB " + lb.Dimension(),
		RequesterID: requester, Public: lb.SchemeName == InternetFacing && m.AllocationID == ""}
	if lb.Type == Network {
		p.InterfaceType = "network_load_balancer"
	}
	e, err := network.AllocateENI(w, lb.Scope, p)
	if err != nil {
		f, _ := fault.As(err)
		if f != nil && f.Code == "InsufficientFreeAddressesInSubnet" {
			return Node{}, fault.New(fault.Invalid, "InvalidSubnet", "Not enough IP space available in %s. ELB requires at least %d free IP addresses in each subnet.", sn.ID, minFreeAddresses).Wrap(err)
		}
		if f != nil { // the code would be EC2's
			return Node{}, fault.New(fault.Invalid, "InvalidConfigurationRequest", "%s", f.Msg).Wrap(err)
		}
		return Node{}, err
	}
	if len(lb.SecurityGroupIDs) == 0 { // open: an interface allocated without groups would take the VPC's default one
		e.GroupIDs = nil
		network.ENIs.Put(w, e)
	}
	n := Node{Zone: sn.AvailabilityZone, SubnetID: sn.ID, ENIID: e.ID, PrivateIP: e.PrivateIP, PublicIP: e.PublicIP, AllocationID: m.AllocationID, Chosen: m.PrivateIP != ""}
	if m.AllocationID != "" {
		a, ok := network.Addresses.Get(w, lb.Key(m.AllocationID))
		if !ok {
			return Node{}, fault.New(fault.NotFound, "AllocationIdNotFound", "The allocation IDs '%s' do not exist", m.AllocationID)
		}
		if a.NetworkInterfaceID != "" {
			return Node{}, fault.New(fault.Conflict, "ResourceInUse", "The allocation IDs are not available for use")
		}
		if a, err = network.AssociateAddress(w, lb.Scope, m.AllocationID, e.ID, false); err != nil {
			return Node{}, fault.New(fault.Conflict, "ResourceInUse", "The allocation IDs are not available for use").Wrap(err)
		}
		n.PublicIP = a.PublicIP
	}
	return n, nil
}

func sortNodes(nodes []Node) []Node {
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Zone, b.Zone) })
	return nodes
}

// DeleteLoadBalancer deletes a load balancer with its listeners and rules; target groups stay. One that is gone is a
// success.
func DeleteLoadBalancer(w *store.WriteTx, s scope.Scope, arn string) error {
	lb, err := GetLoadBalancer(w, s, arn)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if lb.Attribute("deletion_protection.enabled") == "true" {
		return fault.New(fault.Denied, "OperationNotPermitted", "Load balancer '%s' cannot be deleted because deletion protection is enabled", arn)
	}
	for r := range Registrations.By(w, "target", s.Key(arn)) {
		return fault.New(fault.Conflict, "ResourceInUse", "Load balancer '%s' is currently registered as a target in target group '%s'", arn, r.GroupARN)
	}
	for l := range Listeners.By(w, "lb", s.Key(arn)) {
		dropListener(w, l)
	}
	for _, n := range lb.Nodes {
		if err := network.ReleaseENI(w, s, n.ENIID); err != nil {
			return err
		}
	}
	LoadBalancers.Delete(w, s.Key(arn))
	tag.DeleteAll(w, s, arn)
	return nil
}

// SetSubnets makes a load balancer's zones equal to the subnets. A node whose subnet stays keeps its addresses.
func SetSubnets(w *store.WriteTx, s scope.Scope, arn string, mappings []SubnetMapping) (LoadBalancer, error) {
	lb, err := GetLoadBalancer(w, s, arn)
	if err != nil {
		return LoadBalancer{}, err
	}
	subnets, err := checkSubnets(w, s, lb.Type, lb.SchemeName, mappings)
	if err != nil {
		return LoadBalancer{}, err
	}
	if subnets[0].VpcID != lb.VpcID {
		return LoadBalancer{}, fault.New(fault.Invalid, "InvalidConfigurationRequest", "All subnets must belong to the same VPC: '%s'", lb.VpcID)
	}
	var nodes []Node
	kept := map[string]bool{}
	for _, n := range lb.Nodes {
		if i := slices.IndexFunc(mappings, func(m SubnetMapping) bool { return m.SubnetID == n.SubnetID }); i >= 0 {
			if m := mappings[i]; m.AllocationID != "" && m.AllocationID != n.AllocationID || m.PrivateIP != "" && m.PrivateIP != n.PrivateIP {
				return LoadBalancer{}, fault.New(fault.Invalid, "InvalidConfigurationRequest", "The addresses of an enabled Availability Zone cannot be changed: '%s'", n.Zone)
			}
			nodes, kept[n.SubnetID] = append(nodes, n), true
			continue
		}
		if err := network.ReleaseENI(w, s, n.ENIID); err != nil {
			return LoadBalancer{}, err
		}
	}
	for i, sn := range subnets {
		if kept[sn.ID] {
			continue
		}
		n, err := addNode(w, lb, sn, mappings[i])
		if fault.Is(err, fault.Conflict) {
			return LoadBalancer{}, fault.New(fault.Invalid, "InvalidConfigurationRequest", "The allocation IDs are not available for use").Wrap(err)
		}
		if err != nil {
			return LoadBalancer{}, err
		}
		nodes = append(nodes, n)
	}
	lb.Nodes = sortNodes(nodes)
	LoadBalancers.Put(w, lb)
	return lb, nil
}

// SetSecurityGroups replaces the groups of a load balancer and of its nodes. A network load balancer made without groups
// never gets any, and one with groups keeps at least one.
func SetSecurityGroups(w *store.WriteTx, s scope.Scope, arn string, ids []string, enforcePrivateLink string) (LoadBalancer, error) {
	lb, err := GetLoadBalancer(w, s, arn)
	if err != nil {
		return LoadBalancer{}, err
	}
	if lb.Type == Network && len(lb.SecurityGroupIDs) == 0 {
		return LoadBalancer{}, fault.New(fault.Invalid, "InvalidConfigurationRequest", "You cannot set security groups on a load balancer that was created without security groups")
	}
	if len(ids) == 0 {
		return LoadBalancer{}, fault.New(fault.Invalid, "InvalidConfigurationRequest", "A load balancer must have at least one security group")
	}
	switch enforcePrivateLink {
	case "":
	case "on", "off":
		if lb.Type != Network {
			return LoadBalancer{}, fault.New(fault.Invalid, "InvalidConfigurationRequest", "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic is supported for network load balancers only")
		}
		lb.EnforcePrivateLink = enforcePrivateLink
	default:
		return LoadBalancer{}, invalid("EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic '%s' must be one of 'on, off'", enforcePrivateLink)
	}
	sn, err := network.GetSubnet(w, s, lb.Nodes[0].SubnetID)
	if err != nil {
		return LoadBalancer{}, err
	}
	if lb.SecurityGroupIDs, err = checkGroups(w, s, lb, sn, ids); err != nil {
		return LoadBalancer{}, err
	}
	for _, n := range lb.Nodes {
		if _, err := network.SetGroups(w, s, n.ENIID, lb.SecurityGroupIDs); err != nil {
			return LoadBalancer{}, err
		}
	}
	LoadBalancers.Put(w, lb)
	return lb, nil
}

// SetIPAddressType changes the address type; VPCs here have IPv4 only.
func SetIPAddressType(w *store.WriteTx, s scope.Scope, arn, t string) (LoadBalancer, error) {
	lb, err := GetLoadBalancer(w, s, arn)
	if err != nil {
		return lb, err
	}
	if t == "" {
		return lb, invalid("An IP address type must be specified")
	}
	return lb, checkIPType(t)
}
