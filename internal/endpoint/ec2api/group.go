package ec2api

import (
	"iter"
	"slices"
	"strings"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func (s *Server) registerGroups(m *api.Mux) {
	on(m, ec2.CreateSecurityGroup, s.createSecurityGroup)
	on(m, ec2.DeleteSecurityGroup, s.deleteSecurityGroup)
	on(m, ec2.DescribeSecurityGroups, s.describeSecurityGroups)
	on(m, ec2.DescribeSecurityGroupRules, s.describeSecurityGroupRules)
	on(m, ec2.AuthorizeSecurityGroupIngress, s.authorizeSecurityGroupIngress)
	on(m, ec2.AuthorizeSecurityGroupEgress, s.authorizeSecurityGroupEgress)
	on(m, ec2.RevokeSecurityGroupIngress, s.revokeSecurityGroupIngress)
	on(m, ec2.RevokeSecurityGroupEgress, s.revokeSecurityGroupEgress)
	on(m, ec2.ModifySecurityGroupRules, s.modifySecurityGroupRules)
	on(m, ec2.UpdateSecurityGroupRuleDescriptionsIngress, s.updateSecurityGroupRuleDescriptionsIngress)
	on(m, ec2.UpdateSecurityGroupRuleDescriptionsEgress, s.updateSecurityGroupRuleDescriptionsEgress)
	on(m, ec2.DescribeSecurityGroupReferences, s.describeSecurityGroupReferences)
	on(m, ec2.GetSecurityGroupsForVpc, s.getSecurityGroupsForVpc)
	on(m, ec2.DescribeStaleSecurityGroups, s.describeStaleSecurityGroups)
	on(m, ec2.DescribeSecurityGroupVpcAssociations, s.describeSecurityGroupVpcAssociations)
}

// groupID finds the group that a request names by id, or by name in the default VPC.
func groupID(tx store.Tx, s scope.Scope, id, name *string) (string, error) {
	if api.Val(id) != "" {
		return *id, groupIDs.check(*id)
	}
	if api.Val(name) == "" {
		return "", fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter groupId")
	}
	v, ok := network.DefaultVPC(tx, s)
	if !ok {
		return "", fault.New(fault.State, "VPCIdNotSpecified", "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.")
	}
	g, err := network.GroupByName(tx, s, v.ID, *name)
	return g.ID, err
}

func (s *Server) createSecurityGroup(c *api.Call, in *ec2.CreateSecurityGroupRequest) (*ec2.CreateSecurityGroupResult, error) {
	if in.VpcId != nil {
		if err := vpcIDs.check(*in.VpcId); err != nil {
			return nil, err
		}
	}
	var out ec2.CreateSecurityGroupResult
	err := c.Update(func(w *store.WriteTx) error {
		g, err := network.CreateGroup(w, c.Scope(), api.Val(in.VpcId), api.Val(in.GroupName), api.Val(in.Description))
		if err != nil {
			return err
		}
		if err := tagged(w, c.Scope(), g.ID, "security-group", in.TagSpecifications); err != nil {
			return err
		}
		out = ec2.CreateSecurityGroupResult{GroupId: ptr(g.ID), SecurityGroupArn: ptr(g.ARN("ec2", "security-group/"+g.ID)), Tags: tagsOf(w, c.Scope(), g.ID)}
		return nil
	})
	return &out, err
}

func (s *Server) deleteSecurityGroup(c *api.Call, in *ec2.DeleteSecurityGroupRequest) (*ec2.DeleteSecurityGroupResult, error) {
	var id string
	err := c.Update(func(w *store.WriteTx) error {
		var err error
		if id, err = groupID(w, c.Scope(), in.GroupId, in.GroupName); err != nil {
			return err
		}
		return network.DeleteGroup(w, c.Scope(), id)
	})
	return &ec2.DeleteSecurityGroupResult{Return: ptr(true), GroupId: ptr(id)}, err
}

type sgroup = ec2.SecurityGroup

var groupListing = listing[network.SecurityGroup, sgroup]{
	table: network.SecurityGroups, ids: groupIDs, id: func(v network.SecurityGroup) string { return v.ID }, convert: describeGroup,
	kind: describe.Kind[sgroup]{IDs: "groupIds", Min: 5, Max: 1000, Tags: eachTag(func(v *sgroup) []ec2.Tag { return v.Tags }), Filters: groupFilters()},
}

func groupFilters() attrs[sgroup] {
	f := attrs[sgroup]{
		"description": field(func(v *sgroup) *string { return v.Description }), "group-id": field(func(v *sgroup) *string { return v.GroupId }), "group-name": field(func(v *sgroup) *string { return v.GroupName }),
		"owner-id": field(func(v *sgroup) *string { return v.OwnerId }), "vpc-id": field(func(v *sgroup) *string { return v.VpcId }),
	}
	for prefix, list := range map[string]func(*sgroup) []ec2.IpPermission{"ip-permission.": func(v *sgroup) []ec2.IpPermission { return v.IpPermissions }, "egress.ip-permission.": func(v *sgroup) []ec2.IpPermission { return v.IpPermissionsEgress }} {
		f[prefix+"cidr"] = each(list, func(p *ec2.IpPermission) []string {
			return collect(p.IpRanges, func(r ec2.IpRange) *string { return r.CidrIp })
		})
		f[prefix+"ipv6-cidr"] = each(list, func(p *ec2.IpPermission) []string {
			return collect(p.Ipv6Ranges, func(r ec2.Ipv6Range) *string { return r.CidrIpv6 })
		})
		f[prefix+"group-id"] = each(list, func(p *ec2.IpPermission) []string {
			return collect(p.UserIdGroupPairs, func(r ec2.UserIdGroupPair) *string { return r.GroupId })
		})
		f[prefix+"group-name"] = each(list, func(p *ec2.IpPermission) []string {
			return collect(p.UserIdGroupPairs, func(r ec2.UserIdGroupPair) *string { return r.GroupName })
		})
		f[prefix+"user-id"] = each(list, func(p *ec2.IpPermission) []string {
			return collect(p.UserIdGroupPairs, func(r ec2.UserIdGroupPair) *string { return r.UserId })
		})
		f[prefix+"from-port"] = each(list, func(p *ec2.IpPermission) []string { return nums(p.FromPort) })
		f[prefix+"to-port"] = each(list, func(p *ec2.IpPermission) []string { return nums(p.ToPort) })
		f[prefix+"protocol"] = each(list, func(p *ec2.IpPermission) []string { return texts(p.IpProtocol) })
		f[prefix+"prefix-list-id"] = none[sgroup]()
	}
	return f
}

func collect[E any](list []E, get func(E) *string) []string {
	var out []string
	for _, e := range list {
		out = append(out, texts(get(e))...)
	}
	return out
}

func describeGroup(tx store.Tx, g network.SecurityGroup) ec2.SecurityGroup {
	in, out := []network.Rule{}, []network.Rule{}
	for _, r := range g.Rules {
		if r.Egress {
			out = append(out, r)
		} else {
			in = append(in, r)
		}
	}
	return ec2.SecurityGroup{GroupId: ptr(g.ID), GroupName: ptr(g.Name), Description: ptr(g.Description), OwnerId: ptr(g.Account), VpcId: ptr(g.VpcID), SecurityGroupArn: ptr(g.ARN("ec2", "security-group/"+g.ID)),
		IpPermissions: permissions(in), IpPermissionsEgress: permissions(out), Tags: tagsOf(tx, g.Scope, g.ID)}
}

// permissions groups rules by protocol and ports, as the API shows them.
func permissions(rules []network.Rule) []ec2.IpPermission {
	type ports struct {
		proto    string
		from, to int32
	}
	out := []ec2.IpPermission{}
	at := map[ports]int{}
	for _, r := range rules {
		k := ports{r.Protocol, r.FromPort, r.ToPort}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			p := ec2.IpPermission{IpProtocol: ptr(r.Protocol), IpRanges: []ec2.IpRange{}, Ipv6Ranges: []ec2.Ipv6Range{}, PrefixListIds: []ec2.PrefixListId{}, UserIdGroupPairs: []ec2.UserIdGroupPair{}}
			if hasPorts(r.Protocol) {
				p.FromPort, p.ToPort = ptr(r.FromPort), ptr(r.ToPort)
			}
			out = append(out, p)
		}
		switch {
		case r.CIDRv4 != "":
			out[i].IpRanges = append(out[i].IpRanges, ec2.IpRange{CidrIp: ptr(r.CIDRv4), Description: str(r.Description)})
		case r.CIDRv6 != "":
			out[i].Ipv6Ranges = append(out[i].Ipv6Ranges, ec2.Ipv6Range{CidrIpv6: ptr(r.CIDRv6), Description: str(r.Description)})
		case r.GroupID != "":
			out[i].UserIdGroupPairs = append(out[i].UserIdGroupPairs, ec2.UserIdGroupPair{GroupId: ptr(r.GroupID), UserId: ptr(r.GroupAccount), Description: str(r.Description)})
		}
	}
	return out
}

func hasPorts(proto string) bool {
	return proto == "tcp" || proto == "udp" || proto == "icmp" || proto == "icmpv6"
}

func (s *Server) describeSecurityGroups(c *api.Call, in *ec2.DescribeSecurityGroupsRequest) (*ec2.DescribeSecurityGroupsResult, error) {
	ids := slices.Clone(in.GroupIds)
	if len(in.GroupNames) > 0 {
		tx := c.DB.Read()
		for _, name := range in.GroupNames {
			id, err := groupID(tx, c.Scope(), nil, ptr(name))
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
	}
	out, next, err := groupListing.describe(c, ids, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeSecurityGroupsResult{SecurityGroups: out, NextToken: next}, err
}

type sgrule = ec2.SecurityGroupRule

var ruleKind = describe.Kind[sgrule]{IDs: "securityGroupRuleIds", Min: 5, Max: 1000, Tags: eachTag(func(v *sgrule) []ec2.Tag { return v.Tags }), Filters: attrs[sgrule]{
	"group-id":               field(func(v *sgrule) *string { return v.GroupId }),
	"security-group-rule-id": field(func(v *sgrule) *string { return v.SecurityGroupRuleId }),
}}

type groupRule struct {
	group network.SecurityGroup
	rule  network.Rule
}

func describeRule(tx store.Tx, g network.SecurityGroup, r network.Rule) ec2.SecurityGroupRule {
	out := ec2.SecurityGroupRule{SecurityGroupRuleId: ptr(r.ID), SecurityGroupRuleArn: ptr(g.ARN("ec2", "security-group-rule/"+r.ID)), GroupId: ptr(g.ID), GroupOwnerId: ptr(g.Account), IsEgress: ptr(r.Egress), IpProtocol: ptr(r.Protocol),
		FromPort: ptr(r.FromPort), ToPort: ptr(r.ToPort), CidrIpv4: str(r.CIDRv4), CidrIpv6: str(r.CIDRv6), PrefixListId: str(r.PrefixListID), Description: str(r.Description), Tags: tagsOf(tx, g.Scope, r.ID)}
	if r.GroupID != "" {
		out.ReferencedGroupInfo = &ec2.ReferencedSecurityGroup{GroupId: ptr(r.GroupID), UserId: ptr(r.GroupAccount)}
	}
	return out
}

func (s *Server) describeSecurityGroupRules(c *api.Call, in *ec2.DescribeSecurityGroupRulesRequest) (*ec2.DescribeSecurityGroupRulesResult, error) {
	var out []ec2.SecurityGroupRule
	var next string
	err := c.View(func(tx store.Tx) error {
		var rows []groupRule
		if len(in.SecurityGroupRuleIds) > 0 {
			if err := ruleIDs.check(in.SecurityGroupRuleIds...); err != nil {
				return err
			}
			var missing []string
			for _, id := range slices.Compact(slices.Sorted(slices.Values(in.SecurityGroupRuleIds))) {
				found := false
				for g := range network.SecurityGroups.By(tx, "rule", c.Scope().Key(id)) {
					for _, r := range g.Rules {
						if r.ID == id {
							rows, found = append(rows, groupRule{g, r}), true
						}
					}
				}
				if !found {
					missing = append(missing, id)
				}
			}
			if len(missing) > 0 {
				return ruleIDs.missing(missing)
			}
		} else {
			for g := range ruleGroups(tx, c.Scope(), in.Filters) {
				for _, r := range g.Rules {
					rows = append(rows, groupRule{g, r})
				}
			}
			slices.SortFunc(rows, func(a, b groupRule) int { return strings.Compare(a.rule.ID, b.rule.ID) })
		}
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: len(in.SecurityGroupRuleIds) > 0}
		var err error
		out, next, err = describe.Page(&ruleKind, q, slices.Values(rows), func(r groupRule) string { return r.rule.ID }, func(r groupRule) ec2.SecurityGroupRule { return describeRule(tx, r.group, r.rule) })
		return err
	})
	return &ec2.DescribeSecurityGroupRulesResult{SecurityGroupRules: out, NextToken: str(next)}, err
}

// ruleGroups is the groups that a rule listing must look at: those that a plain group-id filter names, or all.
func ruleGroups(tx store.Tx, s scope.Scope, fs []ec2.Filter) iter.Seq[network.SecurityGroup] {
	for _, f := range fs {
		if api.Val(f.Name) == "group-id" && !slices.ContainsFunc(f.Values, func(v string) bool { return strings.ContainsAny(v, `*?\`) }) {
			return func(yield func(network.SecurityGroup) bool) {
				for _, id := range slices.Compact(slices.Sorted(slices.Values(f.Values))) {
					if g, ok := network.SecurityGroups.Get(tx, s.Key(id)); ok && !yield(g) {
						return
					}
				}
			}
		}
	}
	return network.SecurityGroups.Prefix(tx, s.Prefix())
}

// rulesOf turns a request's permissions, in either of their two forms, into rules.
func rulesOf(tx store.Tx, s scope.Scope, groupID string, egress bool, perms []ec2.IpPermission, flat ec2.IpPermission) ([]network.Rule, error) {
	if flat.IpProtocol != nil || len(flat.IpRanges) > 0 || len(flat.UserIdGroupPairs) > 0 {
		if len(perms) > 0 {
			return nil, fault.New(fault.Invalid, "InvalidParameterCombination", "The parameter 'ipPermissions' may not be used in combination with 'ipProtocol'")
		}
		perms = []ec2.IpPermission{flat}
	}
	if len(perms) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")
	}
	var out []network.Rule
	for _, p := range perms {
		proto := strings.ToLower(api.Val(p.IpProtocol))
		base := network.Rule{Egress: egress, Protocol: proto, FromPort: -1, ToPort: -1}
		needPorts := proto == "tcp" || proto == "udp" || proto == "6" || proto == "17"
		if needPorts && (p.FromPort == nil || p.ToPort == nil) {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
		}
		if p.FromPort != nil {
			base.FromPort = *p.FromPort
		}
		if p.ToPort != nil {
			base.ToPort = *p.ToPort
		}
		n := len(out)
		for _, r := range p.IpRanges {
			x := base
			x.CIDRv4, x.Description = api.Val(r.CidrIp), api.Val(r.Description)
			out = append(out, x)
		}
		for _, r := range p.Ipv6Ranges {
			x := base
			x.CIDRv6, x.Description = api.Val(r.CidrIpv6), api.Val(r.Description)
			out = append(out, x)
		}
		for _, r := range p.PrefixListIds {
			x := base
			x.PrefixListID, x.Description = api.Val(r.PrefixListId), api.Val(r.Description)
			out = append(out, x)
		}
		for _, r := range p.UserIdGroupPairs {
			x := base
			x.Description = api.Val(r.Description)
			if u := api.Val(r.UserId); u != "" && u != s.Account {
				return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "Security groups of another account (%s) are not supported.", u)
			}
			if r.VpcPeeringConnectionId != nil {
				return nil, fault.New(fault.NotFound, "InvalidVpcPeeringConnectionID.NotFound", "The vpcPeeringConnection ID '%s' does not exist", *r.VpcPeeringConnectionId)
			}
			if x.GroupID = api.Val(r.GroupId); x.GroupID == "" {
				g, err := network.GetGroup(tx, s, groupID)
				if err != nil {
					return nil, err
				}
				named, err := network.GroupByName(tx, s, g.VpcID, api.Val(r.GroupName))
				if err != nil {
					return nil, err
				}
				x.GroupID = named.ID
			} else if err := groupIDs.check(x.GroupID); err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		if len(out) == n {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid value 'null' for protocol. VPC security group rules must specify a source or destination.")
		}
	}
	return out, nil
}

// flatPermission is the older form of one permission in a request's own parameters.
func flatPermission(proto *string, from, to *int32, cidr, group, owner *string) ec2.IpPermission {
	p := ec2.IpPermission{IpProtocol: proto, FromPort: from, ToPort: to}
	if cidr != nil {
		p.IpRanges = []ec2.IpRange{{CidrIp: cidr}}
	}
	if group != nil {
		p.UserIdGroupPairs = []ec2.UserIdGroupPair{{GroupName: group, UserId: owner}}
		if proto == nil {
			p.IpProtocol = ptr("-1")
		}
	}
	return p
}

func (s *Server) authorize(c *api.Call, gid, name *string, egress bool, perms []ec2.IpPermission, flat ec2.IpPermission, tags []ec2.TagSpecification) ([]ec2.SecurityGroupRule, error) {
	out := []ec2.SecurityGroupRule{}
	err := c.Update(func(w *store.WriteTx) error {
		id, err := groupID(w, c.Scope(), gid, name)
		if err != nil {
			return err
		}
		g, err := network.GetGroup(w, c.Scope(), id)
		if err != nil {
			return err
		}
		rules, err := rulesOf(w, c.Scope(), id, egress, perms, flat)
		if err != nil {
			return err
		}
		added, err := network.Authorize(w, c.Scope(), id, rules)
		if err != nil {
			return err
		}
		for _, r := range added {
			if err := tagged(w, c.Scope(), r.ID, "security-group-rule", tags); err != nil {
				return err
			}
			out = append(out, describeRule(w, g, r))
		}
		return nil
	})
	return out, err
}

func (s *Server) authorizeSecurityGroupIngress(c *api.Call, in *ec2.AuthorizeSecurityGroupIngressRequest) (*ec2.AuthorizeSecurityGroupIngressResult, error) {
	out, err := s.authorize(c, in.GroupId, in.GroupName, false, in.IpPermissions, flatPermission(in.IpProtocol, in.FromPort, in.ToPort, in.CidrIp, in.SourceSecurityGroupName, in.SourceSecurityGroupOwnerId), in.TagSpecifications)
	return &ec2.AuthorizeSecurityGroupIngressResult{Return: ptr(true), SecurityGroupRules: out}, err
}

func (s *Server) authorizeSecurityGroupEgress(c *api.Call, in *ec2.AuthorizeSecurityGroupEgressRequest) (*ec2.AuthorizeSecurityGroupEgressResult, error) {
	out, err := s.authorize(c, in.GroupId, nil, true, in.IpPermissions, flatPermission(in.IpProtocol, in.FromPort, in.ToPort, in.CidrIp, in.SourceSecurityGroupName, in.SourceSecurityGroupOwnerId), in.TagSpecifications)
	return &ec2.AuthorizeSecurityGroupEgressResult{Return: ptr(true), SecurityGroupRules: out}, err
}

func (s *Server) revoke(c *api.Call, gid, name *string, egress bool, perms []ec2.IpPermission, flat ec2.IpPermission, ids []string) ([]ec2.RevokedSecurityGroupRule, []ec2.IpPermission, error) {
	var removed, unknown []network.Rule
	var id string
	err := c.Update(func(w *store.WriteTx) error {
		var err error
		if id, err = groupID(w, c.Scope(), gid, name); err != nil {
			return err
		}
		if len(ids) > 0 {
			if err := ruleIDs.check(ids...); err != nil {
				return err
			}
			removed, err = network.RevokeByID(w, c.Scope(), id, egress, ids)
			return err
		}
		rules, err := rulesOf(w, c.Scope(), id, egress, perms, flat)
		if err != nil {
			return err
		}
		removed, unknown, err = network.Revoke(w, c.Scope(), id, rules)
		return err
	})
	out := []ec2.RevokedSecurityGroupRule{}
	for _, r := range removed {
		out = append(out, ec2.RevokedSecurityGroupRule{SecurityGroupRuleId: ptr(r.ID), GroupId: ptr(id), IsEgress: ptr(r.Egress), IpProtocol: ptr(r.Protocol), FromPort: ptr(r.FromPort), ToPort: ptr(r.ToPort),
			CidrIpv4: str(r.CIDRv4), CidrIpv6: str(r.CIDRv6), ReferencedGroupId: str(r.GroupID), Description: str(r.Description)})
	}
	return out, permissions(unknown), err
}

func (s *Server) revokeSecurityGroupIngress(c *api.Call, in *ec2.RevokeSecurityGroupIngressRequest) (*ec2.RevokeSecurityGroupIngressResult, error) {
	removed, unknown, err := s.revoke(c, in.GroupId, in.GroupName, false, in.IpPermissions, flatPermission(in.IpProtocol, in.FromPort, in.ToPort, in.CidrIp, in.SourceSecurityGroupName, in.SourceSecurityGroupOwnerId), in.SecurityGroupRuleIds)
	return &ec2.RevokeSecurityGroupIngressResult{Return: ptr(true), RevokedSecurityGroupRules: removed, UnknownIpPermissions: unknown}, err
}

func (s *Server) revokeSecurityGroupEgress(c *api.Call, in *ec2.RevokeSecurityGroupEgressRequest) (*ec2.RevokeSecurityGroupEgressResult, error) {
	removed, unknown, err := s.revoke(c, in.GroupId, nil, true, in.IpPermissions, flatPermission(in.IpProtocol, in.FromPort, in.ToPort, in.CidrIp, in.SourceSecurityGroupName, in.SourceSecurityGroupOwnerId), in.SecurityGroupRuleIds)
	return &ec2.RevokeSecurityGroupEgressResult{Return: ptr(true), RevokedSecurityGroupRules: removed, UnknownIpPermissions: unknown}, err
}

func (s *Server) modifySecurityGroupRules(c *api.Call, in *ec2.ModifySecurityGroupRulesRequest) (*ec2.ModifySecurityGroupRulesResult, error) {
	id, err := groupIDs.need("groupId", in.GroupId)
	if err != nil {
		return nil, err
	}
	if len(in.SecurityGroupRules) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter SecurityGroupRule")
	}
	err = c.Update(func(w *store.WriteTx) error {
		for _, u := range in.SecurityGroupRules {
			rid, err := ruleIDs.need("SecurityGroupRuleId", u.SecurityGroupRuleId)
			if err != nil {
				return err
			}
			q := u.SecurityGroupRule
			if q == nil {
				return fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter SecurityGroupRule")
			}
			r := network.Rule{Protocol: api.Val(q.IpProtocol), FromPort: -1, ToPort: -1, CIDRv4: api.Val(q.CidrIpv4), CIDRv6: api.Val(q.CidrIpv6), GroupID: api.Val(q.ReferencedGroupId), PrefixListID: api.Val(q.PrefixListId), Description: api.Val(q.Description)}
			if q.FromPort != nil {
				r.FromPort = *q.FromPort
			}
			if q.ToPort != nil {
				r.ToPort = *q.ToPort
			}
			if err := network.ModifyRule(w, c.Scope(), id, rid, r); err != nil {
				return err
			}
		}
		return nil
	})
	return &ec2.ModifySecurityGroupRulesResult{Return: ptr(true)}, err
}

func (s *Server) updateDescriptions(c *api.Call, gid, name *string, egress bool, perms []ec2.IpPermission, byID []ec2.SecurityGroupRuleDescription) error {
	return c.Update(func(w *store.WriteTx) error {
		id, err := groupID(w, c.Scope(), gid, name)
		if err != nil {
			return err
		}
		for _, d := range byID {
			if err := network.DescribeRuleByID(w, c.Scope(), id, api.Val(d.SecurityGroupRuleId), egress, api.Val(d.Description)); err != nil {
				return err
			}
		}
		if len(byID) > 0 && len(perms) == 0 {
			return nil
		}
		rules, err := rulesOf(w, c.Scope(), id, egress, perms, ec2.IpPermission{})
		if err != nil {
			return err
		}
		for _, r := range rules {
			if err := network.DescribeRule(w, c.Scope(), id, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Server) updateSecurityGroupRuleDescriptionsIngress(c *api.Call, in *ec2.UpdateSecurityGroupRuleDescriptionsIngressRequest) (*ec2.UpdateSecurityGroupRuleDescriptionsIngressResult, error) {
	err := s.updateDescriptions(c, in.GroupId, in.GroupName, false, in.IpPermissions, in.SecurityGroupRuleDescriptions)
	return &ec2.UpdateSecurityGroupRuleDescriptionsIngressResult{Return: ptr(true)}, err
}

func (s *Server) updateSecurityGroupRuleDescriptionsEgress(c *api.Call, in *ec2.UpdateSecurityGroupRuleDescriptionsEgressRequest) (*ec2.UpdateSecurityGroupRuleDescriptionsEgressResult, error) {
	err := s.updateDescriptions(c, in.GroupId, in.GroupName, true, in.IpPermissions, in.SecurityGroupRuleDescriptions)
	return &ec2.UpdateSecurityGroupRuleDescriptionsEgressResult{Return: ptr(true)}, err
}

// describeSecurityGroupReferences lists references from peered VPCs; there is no peering, so groups are only checked.
func (s *Server) describeSecurityGroupReferences(c *api.Call, in *ec2.DescribeSecurityGroupReferencesRequest) (*ec2.DescribeSecurityGroupReferencesResult, error) {
	if len(in.GroupId) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter groupId")
	}
	_, err := groupListing.find(c.DB.Read(), c.Scope(), in.GroupId)
	return &ec2.DescribeSecurityGroupReferencesResult{SecurityGroupReferenceSet: []ec2.SecurityGroupReference{}}, err
}

func (s *Server) getSecurityGroupsForVpc(c *api.Call, in *ec2.GetSecurityGroupsForVpcRequest) (*ec2.GetSecurityGroupsForVpcResult, error) {
	id, err := vpcIDs.need("VpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	if _, err := network.GetVPC(c.DB.Read(), c.Scope(), id); err != nil {
		return nil, err
	}
	var fs []ec2.Filter
	for _, f := range in.Filters {
		switch api.Val(f.Name) {
		case "primary-vpc-id":
			f.Name = ptr("vpc-id")
		case "group-id", "description", "group-name", "owner-id":
		default:
			if !strings.HasPrefix(api.Val(f.Name), "tag") {
				return nil, fault.New(fault.Invalid, "InvalidParameterValue", "The filter '%s' is invalid", api.Val(f.Name))
			}
		}
		fs = append(fs, f)
	}
	fs = append(fs, ec2.Filter{Name: ptr("vpc-id"), Values: []string{id}})
	list, next, err := groupListing.describe(c, nil, fs, in.MaxResults, in.NextToken)
	out := &ec2.GetSecurityGroupsForVpcResult{NextToken: next, SecurityGroupForVpcs: []ec2.SecurityGroupForVpc{}}
	for _, g := range list {
		out.SecurityGroupForVpcs = append(out.SecurityGroupForVpcs, ec2.SecurityGroupForVpc{GroupId: g.GroupId, GroupName: g.GroupName, Description: g.Description, OwnerId: g.OwnerId, PrimaryVpcId: g.VpcId, Tags: g.Tags})
	}
	return out, err
}

func (s *Server) describeStaleSecurityGroups(c *api.Call, in *ec2.DescribeStaleSecurityGroupsRequest) (*ec2.DescribeStaleSecurityGroupsResult, error) {
	id, err := vpcIDs.need("VpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	_, err = network.GetVPC(c.DB.Read(), c.Scope(), id)
	return &ec2.DescribeStaleSecurityGroupsResult{}, err
}

func (s *Server) describeSecurityGroupVpcAssociations(*api.Call, *ec2.DescribeSecurityGroupVpcAssociationsRequest) (*ec2.DescribeSecurityGroupVpcAssociationsResult, error) {
	return &ec2.DescribeSecurityGroupVpcAssociationsResult{}, nil
}
