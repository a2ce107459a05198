package elbapi

import (
	"slices"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/fault"
	"skerry/internal/store"
)

func (s *Server) createLoadBalancer(c *api.Call, in *elbv2.CreateLoadBalancerInput) (*elbv2.CreateLoadBalancerOutput, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	mappings, err := subnetMappings(in.Subnets, in.SubnetMappings)
	if err != nil {
		return nil, err
	}
	for name, v := range map[string]bool{"CustomerOwnedIpv4Pool": in.CustomerOwnedIpv4Pool != nil, "IpamPools": in.IpamPools != nil,
		"EnablePrefixForIpv6SourceNat": api.Val(in.EnablePrefixForIpv6SourceNat) == "on"} {
		if v {
			return nil, fault.New(fault.Unsupported, "InvalidConfigurationRequest", "The parameter %s is not supported", name)
		}
	}
	out := &elbv2.CreateLoadBalancerOutput{}
	err = c.Update(func(w *store.WriteTx) error {
		lb, err := balance.CreateLoadBalancer(w, c.Scope(), balance.LoadBalancerParams{Name: api.Val(in.Name), Type: api.Val(in.Type), Scheme: api.Val(in.Scheme),
			IPAddressType: api.Val(in.IpAddressType), Subnets: mappings, SecurityGroupIDs: in.SecurityGroups, Tags: tags})
		if err != nil {
			return err
		}
		out.LoadBalancers = []elbv2.LoadBalancer{toLoadBalancer(lb)}
		return nil
	})
	return out, err
}

// subnetMappings reads subnets in either of their two forms.
func subnetMappings(subnets []string, mappings []elbv2.SubnetMapping) ([]balance.SubnetMapping, error) {
	if len(subnets) > 0 && len(mappings) > 0 {
		return nil, invalid("You can specify either subnets or subnet mappings, not both")
	}
	var out []balance.SubnetMapping
	for _, id := range subnets {
		out = append(out, balance.SubnetMapping{SubnetID: id})
	}
	for _, m := range mappings {
		if m.IPv6Address != nil || m.SourceNatIpv6Prefix != nil {
			return nil, fault.New(fault.Invalid, "InvalidConfigurationRequest", "IPv6 addresses cannot be specified for load balancers with IP address type 'ipv4'")
		}
		out = append(out, balance.SubnetMapping{SubnetID: api.Val(m.SubnetId), AllocationID: api.Val(m.AllocationId), PrivateIP: api.Val(m.PrivateIPv4Address)})
	}
	if len(out) == 0 {
		return nil, invalid("You must specify either subnets or subnet mappings")
	}
	return out, nil
}

func toLoadBalancer(lb balance.LoadBalancer) elbv2.LoadBalancer {
	out := elbv2.LoadBalancer{
		LoadBalancerArn: &lb.ARN, LoadBalancerName: &lb.Name, DNSName: &lb.DNSName, CanonicalHostedZoneId: hostedZone(lb.Region, lb.Type),
		CreatedTime: &lb.CreatedAt, Scheme: &lb.SchemeName, Type: &lb.Type, VpcId: &lb.VpcID, IpAddressType: &lb.IPAddressType,
		SecurityGroups: lb.SecurityGroupIDs, State: &elbv2.LoadBalancerState{Code: &lb.State}, AvailabilityZones: toZones(lb),
	}
	if lb.EnforcePrivateLink != "" {
		out.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic = &lb.EnforcePrivateLink
	}
	return out
}

func toZones(lb balance.LoadBalancer) []elbv2.AvailabilityZone {
	out := []elbv2.AvailabilityZone{}
	for _, n := range lb.Nodes {
		z := elbv2.AvailabilityZone{ZoneName: api.Ptr(n.Zone), SubnetId: api.Ptr(n.SubnetID), LoadBalancerAddresses: []elbv2.LoadBalancerAddress{}}
		// The addresses that the user has chosen are shown, and no others: those are the interfaces' to tell.
		if lb.Type == balance.Network && n.AllocationID != "" {
			z.LoadBalancerAddresses = append(z.LoadBalancerAddresses, elbv2.LoadBalancerAddress{AllocationId: api.Ptr(n.AllocationID), IpAddress: api.Ptr(n.PublicIP)})
		} else if n.Chosen {
			z.LoadBalancerAddresses = append(z.LoadBalancerAddresses, elbv2.LoadBalancerAddress{PrivateIPv4Address: api.Ptr(n.PrivateIP)})
		}
		out = append(out, z)
	}
	return out
}

func (s *Server) deleteLoadBalancer(c *api.Call, in *elbv2.DeleteLoadBalancerInput) (*elbv2.DeleteLoadBalancerOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "DeleteLoadBalancer", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return balance.DeleteLoadBalancer(w, c.Scope(), arn) })
}

// maxDescribed is how many load balancers a request may name.
const maxDescribed = 20

func (s *Server) describeLoadBalancers(c *api.Call, in *elbv2.DescribeLoadBalancersInput) (*elbv2.DescribeLoadBalancersOutput, error) {
	if n := max(len(in.LoadBalancerArns), len(in.Names)); n > maxDescribed {
		return nil, invalid("Up to %d load balancers can be described at a time, but %d were specified", maxDescribed, n)
	}
	if len(in.LoadBalancerArns) > 0 && len(in.Names) > 0 {
		return nil, invalid("Load balancer names and ARNs cannot be specified at the same time")
	}
	out := &elbv2.DescribeLoadBalancersOutput{}
	return out, c.View(func(tx store.Tx) error {
		var rows []balance.LoadBalancer
		switch {
		case len(in.LoadBalancerArns) > 0:
			for _, arn := range in.LoadBalancerArns {
				lb, err := balance.GetLoadBalancer(tx, c.Scope(), arn)
				if fault.Is(err, fault.NotFound) {
					return fault.New(fault.NotFound, "LoadBalancerNotFound", "One or more load balancers not found")
				}
				if err != nil {
					return err
				}
				rows = append(rows, lb)
			}
		case len(in.Names) > 0:
			for _, name := range in.Names {
				n := len(rows)
				for lb := range balance.LoadBalancers.By(tx, "name", c.Scope().Key(name)) {
					rows = append(rows, lb)
				}
				if len(rows) == n {
					return fault.New(fault.NotFound, "LoadBalancerNotFound", "Load balancers '[%s]' not found", name)
				}
			}
		default:
			for lb := range balance.LoadBalancers.Prefix(tx, c.Scope().Prefix()) {
				rows = append(rows, lb)
			}
		}
		rows, next, err := page(rows, func(l balance.LoadBalancer) string { return l.ARN }, in.Marker, in.PageSize)
		if err != nil {
			return err
		}
		out.NextMarker, out.LoadBalancers = next, []elbv2.LoadBalancer{}
		for _, lb := range rows {
			out.LoadBalancers = append(out.LoadBalancers, toLoadBalancer(lb))
		}
		return nil
	})
}

func toLBAttributes(list balance.Attributes) []elbv2.LoadBalancerAttribute {
	out := []elbv2.LoadBalancerAttribute{}
	for _, a := range list {
		out = append(out, elbv2.LoadBalancerAttribute{Key: api.Ptr(a.Key), Value: api.Ptr(a.Value)})
	}
	return out
}

func (s *Server) describeLoadBalancerAttributes(c *api.Call, in *elbv2.DescribeLoadBalancerAttributesInput) (*elbv2.DescribeLoadBalancerAttributesOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	out := &elbv2.DescribeLoadBalancerAttributesOutput{}
	return out, c.View(func(tx store.Tx) error {
		lb, err := balance.GetLoadBalancer(tx, c.Scope(), arn)
		out.Attributes = toLBAttributes(lb.AllAttributes())
		return err
	})
}

func (s *Server) modifyLoadBalancerAttributes(c *api.Call, in *elbv2.ModifyLoadBalancerAttributesInput) (*elbv2.ModifyLoadBalancerAttributesOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	changes, err := attributes(in.Attributes, func(a elbv2.LoadBalancerAttribute) *string { return a.Key }, func(a elbv2.LoadBalancerAttribute) *string { return a.Value })
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "ModifyLoadBalancerAttributes", arn); err != nil {
		return nil, err
	}
	if err := servedValues(changes, balance.LoadBalancer{Type: balance.Network}.Attribute); err != nil {
		return nil, err
	}
	out := &elbv2.ModifyLoadBalancerAttributesOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		lb, err := balance.ModifyLoadBalancerAttributes(w, c.Scope(), arn, changes)
		out.Attributes = toLBAttributes(lb.AllAttributes())
		return err
	})
}

func (s *Server) setSubnets(c *api.Call, in *elbv2.SetSubnetsInput) (*elbv2.SetSubnetsOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	mappings, err := subnetMappings(in.Subnets, in.SubnetMappings)
	if err != nil {
		return nil, err
	}
	if api.Val(in.EnablePrefixForIpv6SourceNat) == "on" {
		return nil, fault.New(fault.Unsupported, "InvalidConfigurationRequest", "The parameter EnablePrefixForIpv6SourceNat is not supported")
	}
	if err := authorize(c, "SetSubnets", arn); err != nil {
		return nil, err
	}
	out := &elbv2.SetSubnetsOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		if t := api.Val(in.IpAddressType); t != "" {
			if _, err := balance.SetIPAddressType(w, c.Scope(), arn, t); err != nil {
				return err
			}
		}
		lb, err := balance.SetSubnets(w, c.Scope(), arn, mappings)
		if err != nil {
			return err
		}
		out.AvailabilityZones, out.IpAddressType = toZones(lb), api.Ptr(lb.IPAddressType)
		return nil
	})
}

func (s *Server) setSecurityGroups(c *api.Call, in *elbv2.SetSecurityGroupsInput) (*elbv2.SetSecurityGroupsOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "SetSecurityGroups", arn); err != nil {
		return nil, err
	}
	out := &elbv2.SetSecurityGroupsOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		lb, err := balance.SetSecurityGroups(w, c.Scope(), arn, in.SecurityGroups, api.Val(in.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic))
		if err != nil {
			return err
		}
		out.SecurityGroupIds = lb.SecurityGroupIDs
		if lb.EnforcePrivateLink != "" {
			out.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic = api.Ptr(lb.EnforcePrivateLink)
		}
		return nil
	})
}

func (s *Server) setIpAddressType(c *api.Call, in *elbv2.SetIpAddressTypeInput) (*elbv2.SetIpAddressTypeOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "SetIpAddressType", arn); err != nil {
		return nil, err
	}
	out := &elbv2.SetIpAddressTypeOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		lb, err := balance.SetIPAddressType(w, c.Scope(), arn, api.Val(in.IpAddressType))
		out.IpAddressType = api.Ptr(lb.IPAddressType)
		return err
	})
}

func toCapacity(lb balance.LoadBalancer, now time.Time) ([]elbv2.ZonalCapacityReservationState, *int32, *elbv2.MinimumLoadBalancerCapacity, *time.Time) {
	left := api.Ptr(lb.DecreasesLeft(now))
	if lb.CapacityUnits == 0 {
		return []elbv2.ZonalCapacityReservationState{}, left, nil, nil
	}
	var zones []elbv2.ZonalCapacityReservationState
	for _, n := range lb.Nodes {
		zones = append(zones, elbv2.ZonalCapacityReservationState{AvailabilityZone: api.Ptr(n.Zone), State: &elbv2.CapacityReservationStatus{Code: api.Ptr("provisioned")},
			EffectiveCapacityUnits: api.Ptr(float64(lb.CapacityUnits) / float64(len(lb.Nodes)))})
	}
	return zones, left, &elbv2.MinimumLoadBalancerCapacity{CapacityUnits: api.Ptr(lb.CapacityUnits)}, &lb.CapacityModified
}

func (s *Server) describeCapacityReservation(c *api.Call, in *elbv2.DescribeCapacityReservationInput) (*elbv2.DescribeCapacityReservationOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	out := &elbv2.DescribeCapacityReservationOutput{}
	return out, c.View(func(tx store.Tx) error {
		lb, err := balance.GetLoadBalancer(tx, c.Scope(), arn)
		if err != nil {
			return err
		}
		out.CapacityReservationState, out.DecreaseRequestsRemaining, out.MinimumLoadBalancerCapacity, out.LastModifiedTime = toCapacity(lb, c.Now)
		return nil
	})
}

func (s *Server) modifyCapacityReservation(c *api.Call, in *elbv2.ModifyCapacityReservationInput) (*elbv2.ModifyCapacityReservationOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	units := int32(0)
	switch {
	case api.Val(in.ResetCapacityReservation) && in.MinimumLoadBalancerCapacity != nil:
		return nil, invalid("You cannot specify both MinimumLoadBalancerCapacity and ResetCapacityReservation")
	case in.MinimumLoadBalancerCapacity != nil:
		if units = api.Val(in.MinimumLoadBalancerCapacity.CapacityUnits); units < 1 {
			return nil, invalid("CapacityUnits must be at least 1")
		}
	case !api.Val(in.ResetCapacityReservation):
		return nil, invalid("You must specify MinimumLoadBalancerCapacity or ResetCapacityReservation")
	}
	if err := authorize(c, "ModifyCapacityReservation", arn); err != nil {
		return nil, err
	}
	out := &elbv2.ModifyCapacityReservationOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		lb, err := balance.ReserveCapacity(w, c.Scope(), arn, units)
		if err != nil {
			return err
		}
		out.CapacityReservationState, out.DecreaseRequestsRemaining, out.MinimumLoadBalancerCapacity, out.LastModifiedTime = toCapacity(lb, w.Now())
		return nil
	})
}

func (s *Server) modifyIpPools(c *api.Call, in *elbv2.ModifyIpPoolsInput) (*elbv2.ModifyIpPoolsOutput, error) {
	arn, err := required(in.LoadBalancerArn, "loadBalancerArn")
	if err != nil {
		return nil, err
	}
	return &elbv2.ModifyIpPoolsOutput{}, c.View(func(tx store.Tx) error {
		if _, err := balance.GetLoadBalancer(tx, c.Scope(), arn); err != nil {
			return err
		}
		if in.IpamPools != nil {
			return fault.New(fault.Unsupported, "ValidationError", "The parameter IpamPools is not supported")
		}
		if slices.ContainsFunc(in.RemoveIpamPools, func(p string) bool { return !strings.EqualFold(p, "ipv4") }) {
			return invalid("RemoveIpamPools must be one of 'ipv4'")
		}
		return nil // there is none to remove
	})
}
