package ec2api

import (
	"slices"
	"strings"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

func (s *Server) registerAccount(m *api.Mux) {
	on(m, ec2.CreateTags, s.createTags)
	on(m, ec2.DeleteTags, s.deleteTags)
	on(m, ec2.DescribeTags, s.describeTags)
	on(m, ec2.DescribeRegions, s.describeRegions)
	on(m, ec2.DescribeAvailabilityZones, s.describeAvailabilityZones)
	on(m, ec2.DescribeAccountAttributes, s.describeAccountAttributes)
	s.registerDefaults(m)
	s.registerAbsent(m)
}

// resourceKind is a kind of resource as tags see it.
type resourceKind struct {
	ids    idKind
	name   string
	exists func(tx store.Tx, s scope.Scope, id string) bool
}

func in[R any](t *store.Table[R]) func(store.Tx, scope.Scope, string) bool {
	return func(tx store.Tx, s scope.Scope, id string) bool {
		_, ok := t.Get(tx, s.Key(id))
		return ok
	}
}

// resourceKinds is what can be tagged, by the prefix of its ids.
var resourceKinds = map[string]resourceKind{
	"i": {instanceIDs, "instance", in(compute.Instances)},
	"ami": {imageIDs, "image", func(tx store.Tx, s scope.Scope, id string) bool {
		_, err := compute.GetImage(tx, s, id)
		return err == nil
	}},
	"vol":    {volumeIDs, "volume", in(compute.Volumes)},
	"key":    {keyIDs, "key-pair", in(compute.KeyPairs)},
	"lt":     {templateIDs, "launch-template", in(compute.LaunchTemplates)},
	"vpc":    {vpcIDs, "vpc", in(network.VPCs)},
	"subnet": {subnetIDs, "subnet", in(network.Subnets)},
	"sg":     {groupIDs, "security-group", in(network.SecurityGroups)},
	"sgr": {ruleIDs, "security-group-rule", func(tx store.Tx, s scope.Scope, id string) bool {
		for range network.SecurityGroups.By(tx, "rule", s.Key(id)) {
			return true
		}
		return false
	}},
	"rtb":      {tableIDs, "route-table", in(network.RouteTables)},
	"igw":      {gatewayIDs, "internet-gateway", in(network.InternetGateways)},
	"eni":      {eniIDs, "network-interface", in(network.ENIs)},
	"eipalloc": {addressIDs, "elastic-ip", in(network.Addresses)},
	"acl":      {aclIDs, "network-acl", in(network.NetworkACLs)},
	"dopt":     {dhcpIDs, "dhcp-options", in(network.DhcpOptionSets)},
}

func kindOf(id string) (resourceKind, bool) {
	i := strings.LastIndexByte(id, '-')
	if i < 0 {
		return resourceKind{}, false
	}
	k, ok := resourceKinds[id[:i]]
	return k, ok
}

// maxTagged bounds the resources of one request.
const maxTagged = 1000

func taggable(tx store.Tx, s scope.Scope, ids []string) error {
	if len(ids) == 0 {
		return fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	if len(ids) > maxTagged {
		return fault.New(fault.Invalid, "InvalidParameterValue", "A request may name at most %d resources.", maxTagged)
	}
	for _, id := range ids {
		k, ok := kindOf(id)
		if !ok || k.ids.check(id) != nil {
			return fault.New(fault.Invalid, "InvalidID", "The ID '%s' is not valid", id)
		}
		if !k.exists(tx, s, id) {
			return k.ids.missing([]string{id})
		}
	}
	return nil
}

func (s *Server) createTags(c *api.Call, in *ec2.CreateTagsRequest) (*ec2.CreateTagsOutput, error) {
	if len(in.Tags) == 0 {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter tagSet")
	}
	tags := map[string]string{}
	for _, t := range in.Tags {
		if t.Key == nil {
			return nil, fault.New(fault.Invalid, "MissingParameter", "Tag key must have a value")
		}
		if _, dup := tags[*t.Key]; dup {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Duplicate tag key '%s' specified.", *t.Key)
		}
		tags[*t.Key] = api.Val(t.Value)
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		if err := taggable(w, c.Scope(), in.Resources); err != nil {
			return err
		}
		for _, id := range in.Resources {
			if err := tag.Set(w, c.Scope(), id, tags); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Server) deleteTags(c *api.Call, in *ec2.DeleteTagsRequest) (*ec2.DeleteTagsOutput, error) {
	for _, t := range in.Tags {
		if strings.HasPrefix(strings.ToLower(api.Val(t.Key)), "aws:") {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		}
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		if err := taggable(w, c.Scope(), in.Resources); err != nil {
			return err
		}
		for _, id := range in.Resources {
			for _, t := range in.Tags {
				tag.Delete(w, c.Scope(), id, api.Val(t.Key), t.Value)
			}
			if len(in.Tags) > 0 {
				continue
			}
			for _, t := range tag.Of(w, c.Scope(), id) { // no tag named: all of the user's
				if !strings.HasPrefix(t.Key, "aws:") {
					tag.Delete(w, c.Scope(), id, t.Key, nil)
				}
			}
		}
		return nil
	})
}

type tagInfo = ec2.TagDescription

var tagKind = describe.Kind[tagInfo]{Min: 5, Max: 1000, Filters: attrs[tagInfo]{
	"key": field(func(v *tagInfo) *string { return v.Key }), "value": field(func(v *tagInfo) *string { return v.Value }),
	"resource-id": field(func(v *tagInfo) *string { return v.ResourceId }), "resource-type": field(func(v *tagInfo) *string { return v.ResourceType }),
}, Tags: func(v *tagInfo, yield func(k, val string) bool) { yield(api.Val(v.Key), api.Val(v.Value)) }}

func (s *Server) describeTags(c *api.Call, in *ec2.DescribeTagsRequest) (*ec2.DescribeTagsResult, error) {
	var out []ec2.TagDescription
	var next string
	err := c.View(func(tx store.Tx) error {
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken}
		var err error
		out, next, err = describe.Page(&tagKind, q, tag.Tags.Prefix(tx, c.Scope().Prefix()), func(t tag.Tag) string { return t.ResourceID + "/" + t.Key }, func(t tag.Tag) ec2.TagDescription {
			k, _ := kindOf(t.ResourceID)
			return ec2.TagDescription{ResourceId: ptr(t.ResourceID), ResourceType: str(k.name), Key: ptr(t.Key), Value: ptr(t.Value)}
		})
		return err
	})
	return &ec2.DescribeTagsResult{Tags: out, NextToken: str(next)}, err
}

var regionKind = describe.Kind[ec2.Region]{Filters: attrs[ec2.Region]{
	"endpoint": field(func(v *ec2.Region) *string { return v.Endpoint }), "opt-in-status": field(func(v *ec2.Region) *string { return v.OptInStatus }), "region-name": field(func(v *ec2.Region) *string { return v.RegionName }),
}}

func (s *Server) describeRegions(_ *api.Call, in *ec2.DescribeRegionsRequest) (*ec2.DescribeRegionsResult, error) {
	for _, n := range in.RegionNames {
		if _, ok := network.RegionByName(n); !ok {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid region names provided: [%s]", n)
		}
	}
	rows := slices.DeleteFunc(network.Regions(), func(r network.Region) bool {
		return len(in.RegionNames) > 0 && !slices.Contains(in.RegionNames, r.Name)
	})
	out, _, err := describe.Page(&regionKind, describe.Query{Filters: filters(in.Filters)}, slices.Values(rows), func(r network.Region) string { return r.Name }, func(r network.Region) ec2.Region {
		status := "opt-in-not-required"
		if r.OptIn {
			status = "opted-in" // every region is there
		}
		return ec2.Region{RegionName: ptr(r.Name), Endpoint: ptr("ec2." + r.Name + ".amazonaws.com"), OptInStatus: ptr(status)}
	})
	return &ec2.DescribeRegionsResult{Regions: out}, err
}

type zone = ec2.AvailabilityZone

var zoneKind = describe.Kind[zone]{Filters: attrs[zone]{
	"group-name": field(func(v *zone) *string { return v.GroupName }), "group-long-name": field(func(v *zone) *string { return v.GroupLongName }), "opt-in-status": field(func(v *zone) *string { return v.OptInStatus }),
	"region-name": field(func(v *zone) *string { return v.RegionName }), "state": field(func(v *zone) *string { return v.State }), "zone-id": field(func(v *zone) *string { return v.ZoneId }),
	"zone-name": field(func(v *zone) *string { return v.ZoneName }), "zone-type": field(func(v *zone) *string { return v.ZoneType }),
	"message": none[zone](), "parent-zone-id": none[zone](), "parent-zone-name": none[zone](),
}}

func (s *Server) describeAvailabilityZones(c *api.Call, in *ec2.DescribeAvailabilityZonesRequest) (*ec2.DescribeAvailabilityZonesResult, error) {
	all := network.Zones(c.Region)
	for _, n := range in.ZoneNames {
		if !slices.ContainsFunc(all, func(z network.Zone) bool { return z.Name == n }) {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid availability zone: [%s]", n)
		}
	}
	for _, n := range in.ZoneIds {
		if !slices.ContainsFunc(all, func(z network.Zone) bool { return z.ID == n }) {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid availability zone-id: [%s]", n)
		}
	}
	rows := slices.DeleteFunc(all, func(z network.Zone) bool {
		return len(in.ZoneNames) > 0 && !slices.Contains(in.ZoneNames, z.Name) || len(in.ZoneIds) > 0 && !slices.Contains(in.ZoneIds, z.ID)
	})
	out, _, err := describe.Page(&zoneKind, describe.Query{Filters: filters(in.Filters)}, slices.Values(rows), func(z network.Zone) string { return z.Name }, func(z network.Zone) ec2.AvailabilityZone {
		return ec2.AvailabilityZone{ZoneName: ptr(z.Name), ZoneId: ptr(z.ID), ZoneType: ptr("availability-zone"), RegionName: ptr(c.Region), GroupName: ptr(c.Region + "-zg-1"), GroupLongName: ptr(c.Region + " 1"), NetworkBorderGroup: ptr(c.Region),
			OptInStatus: ptr("opt-in-not-required"), State: ptr("available"), Messages: []ec2.AvailabilityZoneMessage{}}
	})
	return &ec2.DescribeAvailabilityZonesResult{AvailabilityZones: out}, err
}

func (s *Server) describeAccountAttributes(c *api.Call, in *ec2.DescribeAccountAttributesRequest) (*ec2.DescribeAccountAttributesResult, error) {
	def := "none"
	if v, ok := network.DefaultVPC(c.DB.Read(), c.Scope()); ok {
		def = v.ID
	}
	values := []struct{ name, value string }{{"supported-platforms", "VPC"}, {"default-vpc", def}, {"max-instances", "1000"}, {"vpc-max-security-groups-per-interface", "16"}, {"max-elastic-ips", "1000"}, {"vpc-max-elastic-ips", "1000"}}
	out := &ec2.DescribeAccountAttributesResult{AccountAttributes: []ec2.AccountAttribute{}}
	for _, n := range in.AttributeNames {
		if !slices.ContainsFunc(values, func(v struct{ name, value string }) bool { return v.name == n }) {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter attributeName is invalid. Unknown account attribute.", n)
		}
	}
	for _, v := range values {
		if len(in.AttributeNames) == 0 || slices.Contains(in.AttributeNames, v.name) {
			out.AccountAttributes = append(out.AccountAttributes, ec2.AccountAttribute{AttributeName: ptr(v.name), AttributeValues: []ec2.AccountAttributeValue{{AttributeValue: ptr(v.value)}}})
		}
	}
	return out, nil
}
