package elbapi

import (
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/bucket"
	"skerry/internal/certificate"
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// Server holds what the handlers need beside the call.
type Server struct {
	DB       *store.DB
	Buckets  bucket.Dir // where trust stores' bundles and revocation lists come from
	Contents *Contents
}

// Register adds the handlers to the table.
func (s *Server) Register(m *api.Mux) {
	api.Handle(m, elbv2.CreateLoadBalancer, s.createLoadBalancer)
	api.Handle(m, elbv2.DeleteLoadBalancer, s.deleteLoadBalancer)
	api.Handle(m, elbv2.DescribeLoadBalancers, s.describeLoadBalancers)
	api.Handle(m, elbv2.DescribeLoadBalancerAttributes, s.describeLoadBalancerAttributes)
	api.Handle(m, elbv2.ModifyLoadBalancerAttributes, s.modifyLoadBalancerAttributes)
	api.Handle(m, elbv2.SetSubnets, s.setSubnets)
	api.Handle(m, elbv2.SetSecurityGroups, s.setSecurityGroups)
	api.Handle(m, elbv2.SetIpAddressType, s.setIpAddressType)
	api.Handle(m, elbv2.DescribeCapacityReservation, s.describeCapacityReservation)
	api.Handle(m, elbv2.ModifyCapacityReservation, s.modifyCapacityReservation)
	api.Handle(m, elbv2.ModifyIpPools, s.modifyIpPools)

	api.Handle(m, elbv2.CreateListener, s.createListener)
	api.Handle(m, elbv2.ModifyListener, s.modifyListener)
	api.Handle(m, elbv2.DeleteListener, s.deleteListener)
	api.Handle(m, elbv2.DescribeListeners, s.describeListeners)
	api.Handle(m, elbv2.DescribeListenerAttributes, s.describeListenerAttributes)
	api.Handle(m, elbv2.ModifyListenerAttributes, s.modifyListenerAttributes)
	api.Handle(m, elbv2.AddListenerCertificates, s.addListenerCertificates)
	api.Handle(m, elbv2.RemoveListenerCertificates, s.removeListenerCertificates)
	api.Handle(m, elbv2.DescribeListenerCertificates, s.describeListenerCertificates)

	api.Handle(m, elbv2.CreateRule, s.createRule)
	api.Handle(m, elbv2.ModifyRule, s.modifyRule)
	api.Handle(m, elbv2.DeleteRule, s.deleteRule)
	api.Handle(m, elbv2.DescribeRules, s.describeRules)
	api.Handle(m, elbv2.SetRulePriorities, s.setRulePriorities)

	api.Handle(m, elbv2.CreateTargetGroup, s.createTargetGroup)
	api.Handle(m, elbv2.ModifyTargetGroup, s.modifyTargetGroup)
	api.Handle(m, elbv2.DeleteTargetGroup, s.deleteTargetGroup)
	api.Handle(m, elbv2.DescribeTargetGroups, s.describeTargetGroups)
	api.Handle(m, elbv2.DescribeTargetGroupAttributes, s.describeTargetGroupAttributes)
	api.Handle(m, elbv2.ModifyTargetGroupAttributes, s.modifyTargetGroupAttributes)
	api.Handle(m, elbv2.RegisterTargets, s.registerTargets)
	api.Handle(m, elbv2.DeregisterTargets, s.deregisterTargets)
	api.Handle(m, elbv2.DescribeTargetHealth, s.describeTargetHealth)

	api.Handle(m, elbv2.AddTags, s.addTags)
	api.Handle(m, elbv2.RemoveTags, s.removeTags)
	api.Handle(m, elbv2.DescribeTags, s.describeTags)
	api.Handle(m, elbv2.DescribeAccountLimits, s.describeAccountLimits)
	api.Handle(m, elbv2.DescribeSSLPolicies, s.describeSSLPolicies)

	api.Handle(m, elbv2.CreateTrustStore, s.createTrustStore)
	api.Handle(m, elbv2.ModifyTrustStore, s.modifyTrustStore)
	api.Handle(m, elbv2.DeleteTrustStore, s.deleteTrustStore)
	api.Handle(m, elbv2.DescribeTrustStores, s.describeTrustStores)
	api.Handle(m, elbv2.DescribeTrustStoreAssociations, s.describeTrustStoreAssociations)
	api.Handle(m, elbv2.DeleteSharedTrustStoreAssociation, s.deleteSharedTrustStoreAssociation)
	api.Handle(m, elbv2.AddTrustStoreRevocations, s.addTrustStoreRevocations)
	api.Handle(m, elbv2.RemoveTrustStoreRevocations, s.removeTrustStoreRevocations)
	api.Handle(m, elbv2.DescribeTrustStoreRevocations, s.describeTrustStoreRevocations)
	api.Handle(m, elbv2.GetTrustStoreCaCertificatesBundle, s.getTrustStoreCaCertificatesBundle)
	api.Handle(m, elbv2.GetTrustStoreRevocationContent, s.getTrustStoreRevocationContent)
	api.Handle(m, elbv2.GetResourcePolicy, s.getResourcePolicy)
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "ValidationError", format, args...)
}

// maxPage is AWS's largest page, and what a request without a size gets.
const maxPage = 400

// page cuts one page out of rows that are in a stable order; key names a row in the marker.
func page[T any](rows []T, key func(T) string, marker *string, size *int32) ([]T, *string, error) {
	n := maxPage
	if size != nil {
		if *size < 1 || *size > maxPage {
			return nil, nil, invalid("1 validation error detected: Value '%d' at 'pageSize' failed to satisfy constraint: Member must have value between 1 and %d", *size, maxPage)
		}
		n = int(*size)
	}
	if m := api.Val(marker); m != "" {
		last, err := base64.RawURLEncoding.DecodeString(m)
		if err != nil {
			return nil, nil, invalid("The marker '%s' is not valid", m)
		}
		i := slices.IndexFunc(rows, func(r T) bool { return key(r) == string(last) })
		if i < 0 { // the row has gone; the order is that of the keys
			i = slices.IndexFunc(rows, func(r T) bool { return key(r) > string(last) }) - 1
			if i == -2 {
				return nil, nil, nil
			}
		}
		rows = rows[i+1:]
	}
	if len(rows) <= n {
		return rows, nil, nil
	}
	rows = rows[:n]
	return rows, api.Ptr(base64.RawURLEncoding.EncodeToString([]byte(key(rows[n-1])))), nil
}

// reserved tells whether a tag is the system's own.
func reserved(key string) bool { return len(key) >= 4 && strings.EqualFold(key[:4], "aws:") }

// tagMap reads tags and refuses what ELB refuses.
func tagMap(tags []elbv2.Tag) (map[string]string, error) {
	m := map[string]string{}
	for _, t := range tags {
		k := api.Val(t.Key)
		switch {
		case k == "" || utf8.RuneCountInString(k) > tag.MaxKey:
			return nil, invalid("1 validation error detected: Value '%s' at 'tags' failed to satisfy constraint: Member must have length between 1 and 128", k)
		case utf8.RuneCountInString(api.Val(t.Value)) > tag.MaxValue:
			return nil, invalid("1 validation error detected: Value '%s' at 'tags' failed to satisfy constraint: Member must have length less than or equal to 256", api.Val(t.Value))
		case reserved(k):
			return nil, invalid("The tag key '%s' cannot begin with 'aws:'", k)
		}
		if _, twice := m[k]; twice {
			return nil, fault.New(fault.Invalid, "DuplicateTagKeys", "A tag key was specified more than once: '%s'", k)
		}
		m[k] = api.Val(t.Value)
	}
	if len(m) > tag.MaxUser {
		return nil, fault.New(fault.Limit, "TooManyTags", "The maximum number of tags per resource has been reached")
	}
	return m, nil
}

// required refuses a missing ARN in the words of the service's validation.
func required(v *string, member string) (string, error) {
	if api.Val(v) == "" {
		return "", invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
	}
	return *v, nil
}

// authorize asks for the resource by its ARN.
func authorize(c *api.Call, op, arn string) error {
	if c.Authorize == nil {
		return nil
	}
	return c.Authorize("elasticloadbalancing:"+op, arn)
}

// attributes reads a list of keys and values; each key may come once.
func attributes[T any](list []T, key, value func(T) *string) (map[string]string, error) {
	m := map[string]string{}
	for _, a := range list {
		k := api.Val(key(a))
		if k == "" {
			return nil, invalid("An attribute key must be specified")
		}
		if _, twice := m[k]; twice {
			return nil, invalid("The attribute key '%s' is specified more than once", k)
		}
		m[k] = api.Val(value(a))
	}
	if len(m) == 0 {
		return nil, invalid("At least one attribute must be specified")
	}
	return m, nil
}

func certificateExists(tx store.Tx, s scope.Scope, arn string) bool {
	_, err := certificate.Get(tx, s, arn)
	return err == nil
}
