package elbapi

import (
	"slices"
	"strconv"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/fault"
)

var limits = []struct {
	name string
	max  int
}{
	{"application-load-balancers", balance.MaxLoadBalancers},
	{"condition-values-per-alb-rule", balance.MaxValues},
	{"condition-wildcards-per-alb-rule", balance.MaxWildcards},
	{"listeners-per-application-load-balancer", balance.MaxListeners},
	{"listeners-per-network-load-balancer", balance.MaxListeners},
	{"network-load-balancers", balance.MaxLoadBalancers},
	{"rules-per-application-load-balancer", balance.MaxRules},
	{"target-groups", balance.MaxTargetGroups},
	{"target-groups-per-action-on-application-load-balancer", balance.MaxGroupsPerForward},
	{"target-groups-per-action-on-network-load-balancer", balance.MaxGroupsPerForward},
	{"target-groups-per-application-load-balancer", balance.MaxGroupsPerLB},
	{"targets-per-application-load-balancer", 1000},
	{"targets-per-availability-zone-per-network-load-balancer", 500},
	{"targets-per-network-load-balancer", 3000},
	{"certificates-per-application-load-balancer", balance.MaxCertificates},
	{"certificates-per-network-load-balancer", balance.MaxCertificates},
	{"targets-per-target-group", 1000},
	{"target-id-registrations-per-application-load-balancer", 1000},
	{"trust-stores", balance.MaxTrustStores},
}

func (s *Server) describeAccountLimits(c *api.Call, in *elbv2.DescribeAccountLimitsInput) (*elbv2.DescribeAccountLimitsOutput, error) {
	var rows []elbv2.Limit
	for _, l := range limits {
		rows = append(rows, elbv2.Limit{Name: api.Ptr(l.name), Max: api.Ptr(strconv.Itoa(l.max))})
	}
	rows, next, err := page(rows, func(l elbv2.Limit) string { return *l.Name }, in.Marker, in.PageSize)
	return &elbv2.DescribeAccountLimitsOutput{Limits: rows, NextMarker: next}, err
}

func (s *Server) describeSSLPolicies(c *api.Call, in *elbv2.DescribeSSLPoliciesInput) (*elbv2.DescribeSSLPoliciesOutput, error) {
	if t := api.Val(in.LoadBalancerType); t != "" && t != balance.Application && t != balance.Network {
		return nil, invalid("Load balancer type '%s' must be one of 'application, network'", t)
	}
	rows := balance.SSLPolicies
	if len(in.Names) > 0 {
		rows = nil
		for _, name := range in.Names {
			i := slices.IndexFunc(balance.SSLPolicies, func(p balance.SSLPolicy) bool { return p.Name == name })
			if i < 0 {
				return nil, fault.New(fault.NotFound, "SSLPolicyNotFound", "SSL policy '%s' not found", name)
			}
			rows = append(rows, balance.SSLPolicies[i])
		}
	}
	rows, next, err := page(rows, func(p balance.SSLPolicy) string { return p.Name }, in.Marker, in.PageSize)
	if err != nil {
		return nil, err
	}
	out := &elbv2.DescribeSSLPoliciesOutput{NextMarker: next}
	for _, p := range rows {
		w := elbv2.SslPolicy{Name: api.Ptr(p.Name), SslProtocols: p.Protocols, SupportedLoadBalancerTypes: []string{balance.Application, balance.Network}}
		for i, c := range p.Ciphers {
			w.Ciphers = append(w.Ciphers, elbv2.Cipher{Name: api.Ptr(c), Priority: api.Ptr(int32(i + 1))})
		}
		out.SslPolicies = append(out.SslPolicies, w)
	}
	return out, nil
}
