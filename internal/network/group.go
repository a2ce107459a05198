package network

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Quotas of security groups.
const (
	MaxGroups        = 2500
	MaxRulesPerGroup = 60 // each direction and address family
)

var groupText = regexp.MustCompile(`^[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]*$`)

// GetGroup finds a security group by its id.
func GetGroup(tx store.Tx, s scope.Scope, id string) (SecurityGroup, error) {
	if g, ok := SecurityGroups.Get(tx, s.Key(id)); ok {
		return g, nil
	}
	return SecurityGroup{}, fault.New(fault.NotFound, "InvalidGroup.NotFound", "The security group '%s' does not exist", id)
}

// GroupByName finds a security group of a VPC by its name.
func GroupByName(tx store.Tx, s scope.Scope, vpcID, name string) (SecurityGroup, error) {
	for g := range SecurityGroups.By(tx, "name", s.Key(vpcID)+"/"+name) {
		return g, nil
	}
	return SecurityGroup{}, fault.New(fault.NotFound, "InvalidGroup.NotFound", "The security group '%s' does not exist in VPC '%s'", name, vpcID)
}

// CreateGroup makes a group that lets everything out and nothing in.
func CreateGroup(w *store.WriteTx, s scope.Scope, vpcID, name, description string) (SecurityGroup, error) {
	if vpcID == "" {
		v, ok := DefaultVPC(w, s)
		if !ok {
			return SecurityGroup{}, fault.New(fault.State, "VPCIdNotSpecified", "No default VPC for this user")
		}
		vpcID = v.ID
	}
	if _, err := GetVPC(w, s, vpcID); err != nil {
		return SecurityGroup{}, err
	}
	switch {
	case name == "":
		return SecurityGroup{}, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter GroupName")
	case description == "":
		return SecurityGroup{}, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter GroupDescription")
	case len(name) > 255 || !groupText.MatchString(name):
		return SecurityGroup{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter GroupName is invalid. Character sets beyond ASCII are not supported.", name)
	case strings.HasPrefix(name, "sg-"):
		return SecurityGroup{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter GroupName is invalid. Group names may not be in the format sg-*.", name)
	case name == "default":
		return SecurityGroup{}, fault.New(fault.Invalid, "InvalidParameterValue", "Cannot use reserved security group name: default")
	case len(description) > 255 || !groupText.MatchString(description):
		return SecurityGroup{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter GroupDescription is invalid. Character sets beyond ASCII are not supported.", description)
	}
	if _, err := GroupByName(w, s, vpcID, name); err == nil {
		return SecurityGroup{}, fault.New(fault.Exists, "InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, vpcID)
	}
	n := 0
	for range SecurityGroups.Prefix(w, s.Prefix()) {
		n++
	}
	if n >= MaxGroups {
		return SecurityGroup{}, fault.New(fault.Limit, "SecurityGroupLimitExceeded", "The maximum number of security groups has been reached.")
	}
	g := SecurityGroup{Scope: s, ID: w.NewID("sg"), VpcID: vpcID, Name: name, Description: description, CreatedAt: w.Now(),
		Rules: []Rule{{ID: w.NewID("sgr"), Egress: true, Protocol: "-1", FromPort: -1, ToPort: -1, CIDRv4: "0.0.0.0/0"}}}
	SecurityGroups.Put(w, g)
	return g, nil
}

// DeleteGroup deletes a group that no interface and no other group's rule uses.
func DeleteGroup(w *store.WriteTx, s scope.Scope, id string) error {
	g, err := GetGroup(w, s, id)
	if err != nil {
		return err
	}
	if g.Name == "default" {
		return fault.New(fault.Denied, "CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", id)
	}
	for range ENIs.By(w, "group", s.Key(id)) {
		return fault.New(fault.Conflict, "DependencyViolation", "resource %s has a dependent object", id)
	}
	for o := range SecurityGroups.By(w, "peer", s.Key(id)) {
		if o.ID != id {
			return fault.New(fault.Conflict, "DependencyViolation", "resource %s has a dependent object", id)
		}
	}
	SecurityGroups.Delete(w, s.Key(id))
	for _, r := range g.Rules {
		tag.DeleteAll(w, s, r.ID)
	}
	tag.DeleteAll(w, s, id)
	return nil
}

// same tells whether two rules allow the same traffic; ids and descriptions do not matter.
func (r Rule) same(o Rule) bool {
	r.ID, r.Description, r.GroupAccount = o.ID, o.Description, o.GroupAccount
	return r == o
}

// String is the form in which EC2's messages show a rule.
func (r Rule) String() string {
	peer := r.CIDRv4 + r.CIDRv6 + r.PrefixListID + r.GroupID
	if r.Protocol == "-1" {
		return fmt.Sprintf("peer: %s, ALL, ALLOW", peer)
	}
	ports := fmt.Sprintf("from port: %d, to port: %d", r.FromPort, r.ToPort)
	if r.Protocol == "icmp" || r.Protocol == "icmpv6" {
		ports = fmt.Sprintf("type: %d, code: %d", r.FromPort, r.ToPort)
	}
	return fmt.Sprintf("peer: %s, %s, %s, ALLOW", peer, strings.ToUpper(r.Protocol), ports)
}

var protocolNames = map[string]string{"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6", "tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "icmpv6", "-1": "-1", "all": "-1"}

// Normalize checks a rule as a client gave it and brings it to the form that is stored.
func (r Rule) Normalize(tx store.Tx, g SecurityGroup) (Rule, error) {
	proto := strings.ToLower(r.Protocol)
	if name, ok := protocolNames[proto]; ok {
		r.Protocol = name
	} else if n, err := strconv.Atoi(proto); err == nil && n >= 0 && n <= 255 {
		r.Protocol = strconv.Itoa(n)
	} else if proto == "" {
		return r, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter ipProtocol")
	} else {
		return r, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid value '%s' for IP protocol. Unknown protocol.", r.Protocol)
	}
	switch r.Protocol {
	case "tcp", "udp":
		if r.FromPort == -1 && r.ToPort == -1 {
			r.FromPort, r.ToPort = 0, 65535
		}
		if r.FromPort < 0 || r.FromPort > 65535 || r.ToPort < 0 || r.ToPort > 65535 {
			bad := r.FromPort
			if bad >= 0 && bad <= 65535 {
				bad = r.ToPort
			}
			return r, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid value '%d' for port. Must be between 0 and 65535, inclusive.", bad)
		}
		if r.FromPort > r.ToPort {
			return r, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid %s port range (%d, %d): the start port is greater than the end port.", strings.ToUpper(r.Protocol), r.FromPort, r.ToPort)
		}
	case "icmp", "icmpv6":
		if r.FromPort < -1 || r.FromPort > 255 || r.ToPort < -1 || r.ToPort > 255 {
			return r, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid ICMP type or code (%d, %d).", r.FromPort, r.ToPort)
		}
		if r.FromPort == -1 {
			r.ToPort = -1
		}
	default:
		r.FromPort, r.ToPort = -1, -1
	}
	if len(r.Description) > 255 || !groupText.MatchString(r.Description) {
		return r, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid rule description. Valid descriptions are strings less than 256 characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*")
	}
	switch {
	case r.CIDRv4 != "":
		p, err := netip.ParsePrefix(r.CIDRv4)
		if err != nil || !p.Addr().Is4() {
			return r, fault.New(fault.Invalid, "InvalidParameterValue", "CIDR block %s is malformed", r.CIDRv4)
		}
		r.CIDRv4 = p.Masked().String()
	case r.CIDRv6 != "":
		p, err := netip.ParsePrefix(r.CIDRv6)
		if err != nil || !p.Addr().Is6() {
			return r, fault.New(fault.Invalid, "InvalidParameterValue", "CIDR block %s is malformed", r.CIDRv6)
		}
		r.CIDRv6 = p.Masked().String()
	case r.GroupID != "":
		peer, err := GetGroup(tx, g.Scope, r.GroupID)
		if err != nil {
			return r, err
		}
		if peer.VpcID != g.VpcID {
			return r, fault.New(fault.Invalid, "InvalidGroup.NotFound", "You have specified two resources that belong to different networks.")
		}
		r.GroupAccount = g.Account
	case r.PrefixListID != "":
		return r, fault.New(fault.NotFound, "InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist", r.PrefixListID)
	default:
		return r, fault.New(fault.Invalid, "InvalidParameterValue", "A rule must have a peer: a CIDR block or a security group.")
	}
	return r, nil
}

// Authorize adds rules, all or none, and returns them with their ids.
func Authorize(w *store.WriteTx, s scope.Scope, groupID string, rules []Rule) ([]Rule, error) {
	g, err := GetGroup(w, s, groupID)
	if err != nil {
		return nil, err
	}
	g.Rules = slices.Clone(g.Rules)
	var added []Rule
	for _, r := range rules {
		if r, err = r.Normalize(w, g); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(g.Rules, r.same) {
			return nil, fault.New(fault.Exists, "InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", r)
		}
		r.ID = w.NewID("sgr")
		g.Rules = append(g.Rules, r)
		added = append(added, r)
	}
	if err := checkRuleCount(g); err != nil {
		return nil, err
	}
	SecurityGroups.Put(w, g)
	return added, nil
}

func checkRuleCount(g SecurityGroup) error {
	var n [2][2]int
	for _, r := range g.Rules {
		d, f := 0, 0
		if r.Egress {
			d = 1
		}
		if r.CIDRv6 != "" {
			f = 1
		}
		if n[d][f]++; n[d][f] > MaxRulesPerGroup {
			return fault.New(fault.Limit, "RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
		}
	}
	return nil
}

// Revoke removes rules by what they allow. In a group of the default VPC unknown rules are returned, elsewhere one unknown
// rule fails the whole.
func Revoke(w *store.WriteTx, s scope.Scope, groupID string, rules []Rule) (removed, unknown []Rule, err error) {
	g, err := GetGroup(w, s, groupID)
	if err != nil {
		return nil, nil, err
	}
	v, err := GetVPC(w, s, g.VpcID)
	if err != nil {
		return nil, nil, err
	}
	g.Rules = slices.Clone(g.Rules)
	for _, r := range rules {
		if n, err := r.Normalize(w, g); err == nil {
			r = n
		} else if r.GroupID == "" { // a group that is gone cannot have a rule either
			return nil, nil, err
		}
		i := slices.IndexFunc(g.Rules, r.same)
		if i < 0 {
			if !v.IsDefault {
				return nil, nil, fault.New(fault.NotFound, "InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			unknown = append(unknown, r)
			continue
		}
		removed = append(removed, g.Rules[i])
		g.Rules = slices.Delete(g.Rules, i, i+1)
	}
	SecurityGroups.Put(w, g)
	for _, r := range removed {
		tag.DeleteAll(w, s, r.ID)
	}
	return removed, unknown, nil
}

// RevokeByID removes rules of one direction by their ids, all or none.
func RevokeByID(w *store.WriteTx, s scope.Scope, groupID string, egress bool, ids []string) ([]Rule, error) {
	g, err := GetGroup(w, s, groupID)
	if err != nil {
		return nil, err
	}
	g.Rules = slices.Clone(g.Rules)
	var removed []Rule
	for _, id := range ids {
		i := slices.IndexFunc(g.Rules, func(r Rule) bool { return r.ID == id && r.Egress == egress })
		if i < 0 {
			return nil, fault.New(fault.NotFound, "InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
		}
		removed = append(removed, g.Rules[i])
		g.Rules = slices.Delete(g.Rules, i, i+1)
		tag.DeleteAll(w, s, id)
	}
	SecurityGroups.Put(w, g)
	return removed, nil
}

// ModifyRule replaces what a rule allows, by its id; direction and id stay.
func ModifyRule(w *store.WriteTx, s scope.Scope, groupID, id string, r Rule) error {
	g, err := GetGroup(w, s, groupID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(g.Rules, func(o Rule) bool { return o.ID == id })
	if i < 0 {
		return fault.New(fault.NotFound, "InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
	}
	r.Egress = g.Rules[i].Egress
	if r, err = r.Normalize(w, g); err != nil {
		return err
	}
	for j, o := range g.Rules {
		if j != i && r.same(o) {
			return fault.New(fault.Exists, "InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", r)
		}
	}
	r.ID = id
	g.Rules = slices.Clone(g.Rules)
	g.Rules[i] = r
	if err := checkRuleCount(g); err != nil {
		return err
	}
	SecurityGroups.Put(w, g)
	return nil
}

// DescribeRule sets a rule's description by what it allows.
func DescribeRule(w *store.WriteTx, s scope.Scope, groupID string, r Rule) error {
	g, err := GetGroup(w, s, groupID)
	if err != nil {
		return err
	}
	if r, err = r.Normalize(w, g); err != nil {
		return err
	}
	i := slices.IndexFunc(g.Rules, r.same)
	if i < 0 {
		return fault.New(fault.NotFound, "InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
	}
	g.Rules = slices.Clone(g.Rules)
	g.Rules[i].Description = r.Description
	SecurityGroups.Put(w, g)
	return nil
}

// DescribeRuleByID sets a rule's description by its id.
func DescribeRuleByID(w *store.WriteTx, s scope.Scope, groupID, id string, egress bool, text string) error {
	g, err := GetGroup(w, s, groupID)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(g.Rules, func(r Rule) bool { return r.ID == id && r.Egress == egress })
	if i < 0 {
		return fault.New(fault.NotFound, "InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
	}
	if len(text) > 255 || !groupText.MatchString(text) {
		return fault.New(fault.Invalid, "InvalidParameterValue", "Invalid rule description. Valid descriptions are strings less than 256 characters from the following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*")
	}
	g.Rules = slices.Clone(g.Rules)
	g.Rules[i].Description = text
	SecurityGroups.Put(w, g)
	return nil
}
