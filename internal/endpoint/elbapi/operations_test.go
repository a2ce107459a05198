package elbapi

import (
	"context"
	"slices"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go/middleware"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/certificate"
	"skerry/internal/compute"
	"skerry/internal/store"
)

// TestTheSDKSpeaksEveryOperation goes through every operation with the SDK's client: it reads what it gets, and what it
// asked for is in there.
func TestTheSDKSpeaksEveryOperation(t *testing.T) {
	x := serve(t)
	called := map[string]bool{}
	note := func(o *sdk.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
			return s.Initialize.Add(middleware.InitializeMiddlewareFunc("note", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				called[middleware.GetOperationName(ctx)] = true
				return next.HandleInitialize(ctx, in)
			}), middleware.After)
		})
	}
	x.Client = sdk.New(x.Client.Options(), note)
	ctx, p := x.ctx, api.Ptr[string]
	ok := func(what string, good bool, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !good {
			t.Errorf("%s: not what was asked for", what)
		}
	}
	cert := home.ARN("acm", "certificate/a")
	x.update(func(w *store.WriteTx) error {
		certificate.Certificates.Put(w, certificate.Certificate{Scope: home, ARN: cert})
		certificate.Certificates.Put(w, certificate.Certificate{Scope: home, ARN: cert + "2"})
		return nil
	})
	x.instance("i-00000000000000001", x.subnets[0], compute.Running)
	ca := newAuthority(t, "a", nil)
	x.object("certs", "ca", ca.pem())
	x.object("certs", "crl", ca.revoke(t, 1))

	limits, err := x.DescribeAccountLimits(ctx, &sdk.DescribeAccountLimitsInput{})
	ok("limits", err == nil && len(limits.Limits) > 10, err)
	policies, err := x.DescribeSSLPolicies(ctx, &sdk.DescribeSSLPoliciesInput{LoadBalancerType: types.LoadBalancerTypeEnumNetwork})
	ok("policies", err == nil && len(policies.SslPolicies) > 10, err)

	made, err := x.CreateLoadBalancer(ctx, &sdk.CreateLoadBalancerInput{Name: p("web"), Subnets: x.subnets, Tags: []types.Tag{{Key: p("a"), Value: p("1")}}})
	ok("load balancer", err == nil && made.LoadBalancers[0].Type == types.LoadBalancerTypeEnumApplication, err)
	lb := made.LoadBalancers[0].LoadBalancerArn
	described, err := x.DescribeLoadBalancers(ctx, &sdk.DescribeLoadBalancersInput{LoadBalancerArns: []string{*lb}})
	ok("described", err == nil && *described.LoadBalancers[0].LoadBalancerName == "web" && len(described.LoadBalancers[0].AvailabilityZones) == 2, err)
	attrs, err := x.ModifyLoadBalancerAttributes(ctx, &sdk.ModifyLoadBalancerAttributesInput{LoadBalancerArn: lb, Attributes: []types.LoadBalancerAttribute{{Key: p("client_keep_alive.seconds"), Value: p("60")}}})
	ok("attributes", err == nil && slices.ContainsFunc(attrs.Attributes, func(a types.LoadBalancerAttribute) bool {
		return *a.Key == "client_keep_alive.seconds" && *a.Value == "60"
	}), err)
	all, err := x.DescribeLoadBalancerAttributes(ctx, &sdk.DescribeLoadBalancerAttributesInput{LoadBalancerArn: lb})
	ok("all attributes", err == nil && len(all.Attributes) == len(attrs.Attributes), err)
	subnets, err := x.SetSubnets(ctx, &sdk.SetSubnetsInput{LoadBalancerArn: lb, Subnets: x.subnets})
	ok("subnets", err == nil && len(subnets.AvailabilityZones) == 2, err)
	groups, err := x.SetSecurityGroups(ctx, &sdk.SetSecurityGroupsInput{LoadBalancerArn: lb, SecurityGroups: described.LoadBalancers[0].SecurityGroups})
	ok("security groups", err == nil && len(groups.SecurityGroupIds) == 1, err)
	ipType, err := x.SetIpAddressType(ctx, &sdk.SetIpAddressTypeInput{LoadBalancerArn: lb, IpAddressType: types.IpAddressTypeIpv4})
	ok("address type", err == nil && ipType.IpAddressType == "ipv4", err)
	units, err := x.ModifyCapacityReservation(ctx, &sdk.ModifyCapacityReservationInput{LoadBalancerArn: lb, MinimumLoadBalancerCapacity: &types.MinimumLoadBalancerCapacity{CapacityUnits: api.Ptr(int32(100))}})
	ok("capacity", err == nil && *units.MinimumLoadBalancerCapacity.CapacityUnits == 100 && len(units.CapacityReservationState) == 2, err)
	capacity, err := x.DescribeCapacityReservation(ctx, &sdk.DescribeCapacityReservationInput{LoadBalancerArn: lb})
	ok("capacity again", err == nil && *capacity.MinimumLoadBalancerCapacity.CapacityUnits == 100 && *capacity.DecreaseRequestsRemaining == 2, err)
	_, err = x.ModifyIpPools(ctx, &sdk.ModifyIpPoolsInput{LoadBalancerArn: lb, RemoveIpamPools: []types.RemoveIpamPoolEnum{types.RemoveIpamPoolEnumIpv4}})
	ok("pools", true, err)

	group, err := x.CreateTargetGroup(ctx, &sdk.CreateTargetGroupInput{Name: p("grpc"), Protocol: types.ProtocolEnumHttp, ProtocolVersion: p("GRPC"), Port: api.Ptr(int32(80)), VpcId: &x.vpc, Matcher: &types.Matcher{GrpcCode: p("0")}})
	ok("group", err == nil && *group.TargetGroups[0].Matcher.GrpcCode == "0", err)
	tg := group.TargetGroups[0].TargetGroupArn
	changed, err := x.ModifyTargetGroup(ctx, &sdk.ModifyTargetGroupInput{TargetGroupArn: tg, HealthCheckIntervalSeconds: api.Ptr(int32(7))})
	ok("group changed", err == nil && *changed.TargetGroups[0].HealthCheckIntervalSeconds == 7, err)
	_, err = x.ModifyTargetGroupAttributes(ctx, &sdk.ModifyTargetGroupAttributesInput{TargetGroupArn: tg, Attributes: []types.TargetGroupAttribute{{Key: p("deregistration_delay.timeout_seconds"), Value: p("0")}}})
	ok("group's attributes", true, err)
	ga, err := x.DescribeTargetGroupAttributes(ctx, &sdk.DescribeTargetGroupAttributesInput{TargetGroupArn: tg})
	ok("group's attributes again", err == nil && slices.ContainsFunc(ga.Attributes, func(a types.TargetGroupAttribute) bool {
		return *a.Key == "deregistration_delay.timeout_seconds" && *a.Value == "0"
	}), err)
	target := []types.TargetDescription{{Id: p("i-00000000000000001")}}
	_, err = x.RegisterTargets(ctx, &sdk.RegisterTargetsInput{TargetGroupArn: tg, Targets: target})
	ok("target", true, err)
	health, err := x.DescribeTargetHealth(ctx, &sdk.DescribeTargetHealthInput{TargetGroupArn: tg})
	ok("health", err == nil && health.TargetHealthDescriptions[0].TargetHealth.Reason == types.TargetHealthReasonEnumNotInUse, err)

	store1, err := x.CreateTrustStore(ctx, &sdk.CreateTrustStoreInput{Name: p("t"), CaCertificatesBundleS3Bucket: p("certs"), CaCertificatesBundleS3Key: p("ca")})
	ok("trust store", err == nil && store1.TrustStores[0].Status == types.TrustStoreStatusActive, err)
	ts := store1.TrustStores[0].TrustStoreArn
	listener, err := x.CreateListener(ctx, &sdk.CreateListenerInput{LoadBalancerArn: lb, Protocol: types.ProtocolEnumHttps, Port: api.Ptr(int32(443)), Certificates: []types.Certificate{{CertificateArn: &cert}},
		DefaultActions: []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: tg}}})
	ok("listener", err == nil && *listener.Listeners[0].MutualAuthentication.Mode == "off", err)
	ln := listener.Listeners[0].ListenerArn
	verify, err := x.ModifyListener(ctx, &sdk.ModifyListenerInput{ListenerArn: ln, MutualAuthentication: &types.MutualAuthenticationAttributes{Mode: p("verify"), TrustStoreArn: ts}})
	ok("mutual TLS", err == nil && *verify.Listeners[0].MutualAuthentication.TrustStoreArn == *ts && verify.Listeners[0].MutualAuthentication.AdvertiseTrustStoreCaNames == "off", err)
	listeners, err := x.DescribeListeners(ctx, &sdk.DescribeListenersInput{LoadBalancerArn: lb})
	ok("listeners", err == nil && len(listeners.Listeners) == 1, err)
	_, err = x.ModifyListenerAttributes(ctx, &sdk.ModifyListenerAttributesInput{ListenerArn: ln, Attributes: []types.ListenerAttribute{{Key: p("routing.http.request.x_amzn_mtls_clientcert_leaf.header_name"), Value: p("X-Leaf")}}})
	ok("listener's attributes", true, err)
	for _, bad := range []string{"Content-Length", "X Leaf", "X-Forwarded-For", "X-Amzn-Mtls-Clientcert-Issuer"} {
		_, err = x.ModifyListenerAttributes(ctx, &sdk.ModifyListenerAttributesInput{ListenerArn: ln, Attributes: []types.ListenerAttribute{{Key: p("routing.http.request.x_amzn_mtls_clientcert_leaf.header_name"), Value: &bad}}})
		denied(t, bad, err, "ValidationError", 400, bad)
	}
	la, err := x.DescribeListenerAttributes(ctx, &sdk.DescribeListenerAttributesInput{ListenerArn: ln})
	ok("listener's attributes again", err == nil && slices.ContainsFunc(la.Attributes, func(a types.ListenerAttribute) bool { return *a.Value == "X-Leaf" }), err)
	second := []types.Certificate{{CertificateArn: p(cert + "2")}}
	_, err = x.AddListenerCertificates(ctx, &sdk.AddListenerCertificatesInput{ListenerArn: ln, Certificates: second})
	ok("certificate", true, err)
	certs, err := x.DescribeListenerCertificates(ctx, &sdk.DescribeListenerCertificatesInput{ListenerArn: ln})
	ok("certificates", err == nil && len(certs.Certificates) == 2 && *certs.Certificates[0].IsDefault, err)
	_, err = x.RemoveListenerCertificates(ctx, &sdk.RemoveListenerCertificatesInput{ListenerArn: ln, Certificates: second})
	ok("certificate gone", true, err)

	oidc := func(secret *string, keep *bool) []types.Action {
		return []types.Action{{Type: types.ActionTypeEnumAuthenticateOidc, Order: api.Ptr(int32(1)), AuthenticateOidcConfig: &types.AuthenticateOidcActionConfig{Issuer: p("https://i.test"),
			AuthorizationEndpoint: p("https://i.test/a"), TokenEndpoint: p("https://i.test/t"), UserInfoEndpoint: p("https://i.test/u"), ClientId: p("me"), ClientSecret: secret,
			UseExistingClientSecret: keep, AuthenticationRequestExtraParams: map[string]string{"prompt": "login"}}},
			{Type: types.ActionTypeEnumForward, Order: api.Ptr(int32(2)), TargetGroupArn: tg}}
	}
	rule, err := x.CreateRule(ctx, &sdk.CreateRuleInput{ListenerArn: ln, Priority: api.Ptr(int32(5)), Conditions: []types.RuleCondition{{Field: p("path-pattern"), RegexValues: []string{"^/a"}}},
		Transforms: []types.RuleTransform{{Type: types.TransformTypeEnumUrlRewrite, UrlRewriteConfig: &types.UrlRewriteConfig{Rewrites: []types.RewriteConfig{{Regex: p("a"), Replace: p("b")}}}}},
		Actions:    oidc(p("hidden"), nil)})
	ok("rule", err == nil && rule.Rules[0].Actions[0].AuthenticateOidcConfig.ClientSecret == nil && rule.Rules[0].Actions[0].AuthenticateOidcConfig.AuthenticationRequestExtraParams["prompt"] == "login" &&
		*rule.Rules[0].Actions[0].AuthenticateOidcConfig.SessionTimeout == 604800 && *rule.Rules[0].Transforms[0].UrlRewriteConfig.Rewrites[0].Replace == "b", err)
	id := rule.Rules[0].RuleArn
	_, err = x.ModifyRule(ctx, &sdk.ModifyRuleInput{RuleArn: id, Actions: oidc(nil, nil)})
	denied(t, "no secret", err, "InvalidLoadBalancerAction", 400, "secret")
	_, err = x.ModifyRule(ctx, &sdk.ModifyRuleInput{RuleArn: id, Actions: oidc(nil, api.Ptr(true)), ResetTransforms: api.Ptr(true)})
	ok("rule changed", true, err)
	if r, _ := balance.Rules.Get(x.s.DB.Read(), home.Key(*id)); r.Actions[0].OIDC.ClientSecret != "hidden" || len(r.Transforms) != 0 {
		t.Errorf("the rule: %+v", r)
	}
	_, err = x.SetRulePriorities(ctx, &sdk.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: id, Priority: api.Ptr(int32(6))}}})
	ok("priorities", true, err)
	rules, err := x.DescribeRules(ctx, &sdk.DescribeRulesInput{ListenerArn: ln})
	ok("rules", err == nil && len(rules.Rules) == 2 && *rules.Rules[0].Priority == "6" && *rules.Rules[1].IsDefault, err)
	list, err := x.DescribeTargetGroups(ctx, &sdk.DescribeTargetGroupsInput{LoadBalancerArn: lb})
	ok("groups", err == nil && len(list.TargetGroups) == 1 && list.TargetGroups[0].LoadBalancerArns[0] == *lb, err)

	_, err = x.AddTags(ctx, &sdk.AddTagsInput{ResourceArns: []string{*id, *ln, *tg, *ts}, Tags: []types.Tag{{Key: p("b"), Value: p("2")}}})
	ok("tags", true, err)
	_, err = x.RemoveTags(ctx, &sdk.RemoveTagsInput{ResourceArns: []string{*ln}, TagKeys: []string{"b"}})
	ok("tags gone", true, err)
	tags, err := x.DescribeTags(ctx, &sdk.DescribeTagsInput{ResourceArns: []string{*ln, *ts}})
	ok("tags again", err == nil && len(tags.TagDescriptions[0].Tags) == 0 && len(tags.TagDescriptions[1].Tags) == 1, err)

	_, err = x.DeleteRule(ctx, &sdk.DeleteRuleInput{RuleArn: id})
	ok("rule gone", true, err)
	_, err = x.DeleteTargetGroup(ctx, &sdk.DeleteTargetGroupInput{TargetGroupArn: tg})
	denied(t, "group in use", err, "ResourceInUse", 400, "is currently in use by a listener or a rule")
	_, err = x.DeregisterTargets(ctx, &sdk.DeregisterTargetsInput{TargetGroupArn: tg, Targets: target})
	ok("target gone", true, err)
	_, err = x.DeleteListener(ctx, &sdk.DeleteListenerInput{ListenerArn: ln})
	ok("listener gone", true, err)
	_, err = x.DeleteLoadBalancer(ctx, &sdk.DeleteLoadBalancerInput{LoadBalancerArn: lb})
	ok("load balancer gone", true, err)
	_, err = x.DeleteTargetGroup(ctx, &sdk.DeleteTargetGroupInput{TargetGroupArn: tg})
	ok("group gone", true, err)

	m := api.NewMux(&elbv2.Service)
	(&Server{}).Register(m)
	for _, h := range m.Handlers() { // those of trust stores are in TestATrustStoresLife
		if !called[h.Name] && !slices.Contains([]string{"ModifyTrustStore", "DeleteTrustStore", "DescribeTrustStores", "DescribeTrustStoreAssociations", "DeleteSharedTrustStoreAssociation",
			"AddTrustStoreRevocations", "RemoveTrustStoreRevocations", "DescribeTrustStoreRevocations", "GetTrustStoreCaCertificatesBundle", "GetTrustStoreRevocationContent", "GetResourcePolicy"}, h.Name) {
			t.Errorf("%s was not called", h.Name)
		}
	}
}
