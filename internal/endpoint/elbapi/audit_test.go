package elbapi

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/compute"
	"skerry/internal/network"
	"skerry/internal/store"
	"slices"
	"strings"
	"testing"
)

// TestConversationsHaveTheModelsErrors: an operation answers with the errors that its model lists, and with those of every
// operation. AWS's documents show some beside them.
func TestConversationsHaveTheModelsErrors(t *testing.T) {
	raw, err := os.ReadFile("../../../api/models/elbv2.json")
	if err != nil {
		t.Fatal(err)
	}
	var model struct {
		Operations map[string]struct{ Errors []struct{ Shape string } }
		Shapes     map[string]struct{ Error struct{ Code string } }
	}
	if err := json.Unmarshal(raw, &model); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("testdata/wire/*.txt")
	code := regexp.MustCompile(`<Code>(\w+)</Code>`)
	n := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		op := ""
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "> "); ok {
				op, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
			}
			m := code.FindStringSubmatch(line)
			if m == nil || !strings.HasPrefix(line, "  <Code>") || m[1] == "ValidationError" {
				continue
			}
			n++
			if !slices.ContainsFunc(model.Operations[op].Errors, func(e struct{ Shape string }) bool { return model.Shapes[e.Shape].Error.Code == m[1] }) {
				t.Errorf("%s: %s answers %s, which its model doesn't list", file, op, m[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d errors found", n)
	}
}

// TestWhatClientsMayNotAsk goes through requests that look right, and are refused by name.
func TestWhatClientsMayNotAsk(t *testing.T) {
	x := newCloud(t)
	lb, listener, group := x.pair()
	x.instance("i-1", x.subnets[0], compute.Running)
	p, n := api.Ptr[string], api.Ptr[int32]
	net := *must[elbv2.CreateLoadBalancerOutput](t)(x.createLB("net", "network")).LoadBalancers[0].LoadBalancerArn
	ips := *must[elbv2.CreateTargetGroupOutput](t)(x.s.createTargetGroup(x.c, &elbv2.CreateTargetGroupInput{Name: p("ips"), Protocol: p("HTTP"), Port: n(80), VpcId: &x.vpc, TargetType: p("ip")})).TargetGroups[0].TargetGroupArn
	rules := must[elbv2.DescribeRulesOutput](t)(x.s.describeRules(x.c, &elbv2.DescribeRulesInput{ListenerArn: &listener})).Rules
	text := elbv2.Action{Type: p("fixed-response"), FixedResponseConfig: &elbv2.FixedResponseActionConfig{StatusCode: p("200")}}
	register := func(group string, target elbv2.TargetDescription) error {
		_, err := x.s.registerTargets(x.c, &elbv2.RegisterTargetsInput{TargetGroupArn: &group, Targets: []elbv2.TargetDescription{target}})
		return err
	}
	balancer := func(arn, k, v string) error {
		_, err := x.s.modifyLoadBalancerAttributes(x.c, &elbv2.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &arn, Attributes: []elbv2.LoadBalancerAttribute{{Key: &k, Value: &v}}})
		return err
	}
	groups := func(kv ...string) error {
		in := &elbv2.ModifyTargetGroupAttributesInput{TargetGroupArn: &group}
		for i := 0; i < len(kv); i += 2 {
			in.Attributes = append(in.Attributes, elbv2.TargetGroupAttribute{Key: &kv[i], Value: &kv[i+1]})
		}
		_, err := x.s.modifyTargetGroupAttributes(x.c, in)
		return err
	}
	capacity := func(arn string, units int32) error {
		_, err := x.s.modifyCapacityReservation(x.c, &elbv2.ModifyCapacityReservationInput{LoadBalancerArn: &arn, MinimumLoadBalancerCapacity: &elbv2.MinimumLoadBalancerCapacity{CapacityUnits: &units}})
		return err
	}
	const algorithm = "load_balancing.algorithm.type"
	for _, c := range []struct {
		what          string
		do            func() error
		code, message string
	}{
		{"the default rule by ModifyRule", func() error {
			_, err := x.s.modifyRule(x.c, &elbv2.ModifyRuleInput{RuleArn: rules[0].RuleArn, Actions: []elbv2.Action{text}})
			return err
		}, "OperationNotPermitted", "Default rule '" + *rules[0].RuleArn + "' cannot be modified"},
		{"21 load balancers", func() error {
			_, err := x.s.describeLoadBalancers(x.c, &elbv2.DescribeLoadBalancersInput{Names: make([]string, 21)})
			return err
		}, "ValidationError", "Up to 20 load balancers can be described at a time, but 21 were specified"},
		{"seven wildcards", func() error {
			_, err := x.s.createRule(x.c, &elbv2.CreateRuleInput{ListenerArn: &listener, Priority: n(1), Actions: []elbv2.Action{text}, Conditions: []elbv2.RuleCondition{{Field: p("path-pattern"), Values: []string{"/*/*/*/*", "/*/*/*"}}}})
			return err
		}, "ValidationError", "A rule can only have '6' condition wildcards"},
		{"a path that AWS can't match", func() error {
			_, err := x.s.createRule(x.c, &elbv2.CreateRuleInput{ListenerArn: &listener, Priority: n(1), Actions: []elbv2.Action{text}, Conditions: []elbv2.RuleCondition{{Field: p("path-pattern"), Values: []string{"^/api/"}}}})
			return err
		}, "ValidationError", "Condition value '^/api/' contains a character that is not valid"},
		{"a path with an escape", func() error {
			_, err := x.s.createRule(x.c, &elbv2.CreateRuleInput{ListenerArn: &listener, Priority: n(1), Actions: []elbv2.Action{text}, Conditions: []elbv2.RuleCondition{{Field: p("path-pattern"), PathPatternConfig: &elbv2.PathPatternConditionConfig{Values: []string{"/a%20b"}}}}})
			return err
		}, "ValidationError", "Condition value '/a%20b' contains a character that is not valid"},
		{"stickiness of no time, though off", func() error {
			_, err := x.s.modifyListener(x.c, &elbv2.ModifyListenerInput{ListenerArn: &listener, DefaultActions: []elbv2.Action{{Type: p("forward"), ForwardConfig: &elbv2.ForwardActionConfig{
				TargetGroups: []elbv2.TargetGroupTuple{{TargetGroupArn: &group}}, TargetGroupStickinessConfig: &elbv2.TargetGroupStickinessConfig{Enabled: api.Ptr(false), DurationSeconds: n(0)}}}}})
			return err
		}, "ValidationError", "Target group stickiness duration must be between 1 and 604800 seconds"},
		{"IsDefault", func() error {
			_, err := x.s.modifyListener(x.c, &elbv2.ModifyListenerInput{ListenerArn: &listener, Certificates: []elbv2.Certificate{{CertificateArn: p("arn:x"), IsDefault: api.Ptr(true)}}})
			return err
		}, "ValidationError", "You cannot specify IsDefault for a certificate"},
		{"a port for targets' agents", func() error {
			_, err := x.s.createTargetGroup(x.c, &elbv2.CreateTargetGroupInput{Name: p("agents"), Protocol: p("HTTP"), Port: n(80), VpcId: &x.vpc, TargetControlPort: n(3000)})
			return err
		}, "InvalidConfigurationRequest", "The parameter TargetControlPort is not supported"},
		{"a group's name", func() error { _, err := x.createGroup("a_b", "HTTP"); return err }, "ValidationError", "Target group name 'a_b' can only contain characters that are alphanumeric characters or hyphens(-)"},
		{"an instance's zone", func() error {
			return register(group, elbv2.TargetDescription{Id: p("i-1"), AvailabilityZone: p("us-east-1a")})
		}, "ValidationError", "An Availability Zone cannot be specified for targets of type 'instance'"},
		{"another zone for an address", func() error {
			return register(ips, elbv2.TargetDescription{Id: p("10.0.0.9"), AvailabilityZone: p("all")})
		}, "ValidationError",
			"The IP address '10.0.0.9' is within the VPC, and cannot have its Availability Zone overridden to 'all' from 'us-east-1a'"},
		{"no zone for one outside", func() error { return register(ips, elbv2.TargetDescription{Id: p("192.168.1.1")}) }, "ValidationError", "The Availability Zone is required for IP address '192.168.1.1' because it is not in the VPC"},
		{"a zone for one outside, behind HTTP", func() error {
			return register(ips, elbv2.TargetDescription{Id: p("192.168.1.1"), AvailabilityZone: p("us-east-1a")})
		}, "ValidationError",
			"You must specify a valid Availability Zone or select 'all' for all enabled Availability zones, since the IP address '192.168.1.1' is outside the VPC"},
		{"to take out what no target is called", func() error {
			_, err := x.s.deregisterTargets(x.c, &elbv2.DeregisterTargetsInput{TargetGroupArn: &group, Targets: []elbv2.TargetDescription{{Id: p("10.0.0.9")}}})
			return err
		}, "ValidationError", "Instance ID '10.0.0.9' is not valid"},
		{"the health of no instance", func() error {
			_, err := x.s.describeTargetHealth(x.c, &elbv2.DescribeTargetHealthInput{TargetGroupArn: &group, Targets: []elbv2.TargetDescription{{Id: p("i-9")}}})
			return err
		}, "InvalidTarget", "The following targets do not exist: 'i-9'"},
		{"an attribute of the other type", func() error { return balancer(net, "idle_timeout.timeout_seconds", "5") }, "InvalidConfigurationRequest",
			"Load balancer attribute key 'idle_timeout.timeout_seconds' is not supported on load balancers with type 'network'"},
		{"an attribute of none", func() error { return balancer(lb, "idle_timeout", "5") }, "ValidationError", "Load balancer attribute key 'idle_timeout' is not recognized"},
		{"a number with a sign", func() error { return balancer(lb, "idle_timeout.timeout_seconds", "+5") }, "ValidationError", ""},
		{"the other kind's stickiness", func() error { return groups("stickiness.type", "source_ip") }, "InvalidConfigurationRequest", "Stickiness type 'source_ip' is not supported for target groups with the HTTP protocol"},
		{"stickiness with weights", func() error { return groups(algorithm, "weighted_random", "stickiness.enabled", "true") }, "InvalidConfigurationRequest",
			"You cannot have both stickiness and weighted random algorithm enabled on the same target group."},
		{"slow start with weights", func() error { return groups(algorithm, "weighted_random", "slow_start.duration_seconds", "30") }, "InvalidConfigurationRequest",
			"You cannot enable both slow start and weighted random algorithm on a target group"},
		{"too little capacity", func() error { return capacity(lb, 99) }, "InvalidConfigurationRequest", ""},
		{"too much", func() error { return capacity(lb, 1501) }, "CapacityUnitsLimitExceeded", ""},
		{"too little for two zones", func() error { return capacity(net, 5499) }, "InvalidConfigurationRequest", ""},
		{"a tag of more than 128 characters", func() error {
			_, err := x.s.addTags(x.c, &elbv2.AddTagsInput{ResourceArns: []string{lb}, Tags: []elbv2.Tag{{Key: p(strings.Repeat("ü", 129))}}})
			return err
		}, "ValidationError", ""},
		{"a tag of the system's", func() error {
			_, err := x.s.addTags(x.c, &elbv2.AddTagsInput{ResourceArns: []string{lb}, Tags: []elbv2.Tag{{Key: p("Aws:x")}}})
			return err
		}, "ValidationError", "The tag key 'Aws:x' cannot begin with 'aws:'"},
		{"to remove one", func() error {
			_, err := x.s.removeTags(x.c, &elbv2.RemoveTagsInput{ResourceArns: []string{lb}, TagKeys: []string{"aws:x"}})
			return err
		}, "ValidationError", "The tag key 'aws:x' cannot begin with 'aws:'"},
		{"an address outside of the subnet", func() error {
			_, err := x.s.createLoadBalancer(x.c, &elbv2.CreateLoadBalancerInput{Name: p("far"), Type: p("network"), Scheme: p("internal"), SubnetMappings: []elbv2.SubnetMapping{{SubnetId: &x.subnets[0], PrivateIPv4Address: p("10.9.0.1")}}})
			return err
		}, "InvalidConfigurationRequest", ""},
	} {
		refused(t, c.what, c.do(), c.code, c.message)
	}
	if _, err := x.s.addTags(x.c, &elbv2.AddTagsInput{ResourceArns: []string{lb}, Tags: []elbv2.Tag{{Key: p(strings.Repeat("ü", 128)), Value: p(strings.Repeat("ü", 256))}}}); err != nil {
		t.Errorf("a tag as long as may be: %v", err)
	}
}

// TestAnElasticAddressServesOneLoadBalancer: another one gets the code that clients know.
func TestAnElasticAddressServesOneLoadBalancer(t *testing.T) {
	x := newCloud(t)
	var id string
	x.update(func(w *store.WriteTx) error {
		a, err := network.AllocateAddress(w, home)
		id = a.AllocationID
		return err
	})
	create := func(name string) error {
		_, err := x.s.createLoadBalancer(x.c, &elbv2.CreateLoadBalancerInput{Name: &name, Type: api.Ptr("network"), SubnetMappings: []elbv2.SubnetMapping{{SubnetId: &x.subnets[0], AllocationId: &id}}})
		return err
	}
	if err := create("one"); err != nil {
		t.Fatal(err)
	}
	refused(t, "the same address again", create("two"), "ResourceInUse", "The allocation IDs are not available for use")
}

// TestAddressesThatAreShown: of an internal network load balancer those that its maker has chosen.
func TestAddressesThatAreShown(t *testing.T) {
	x := newCloud(t)
	lb := must[elbv2.CreateLoadBalancerOutput](t)(x.s.createLoadBalancer(x.c, &elbv2.CreateLoadBalancerInput{Name: api.Ptr("in"), Type: api.Ptr("network"), Scheme: api.Ptr("internal"),
		SubnetMappings: []elbv2.SubnetMapping{{SubnetId: &x.subnets[0], PrivateIPv4Address: api.Ptr("10.0.0.40")}, {SubnetId: &x.subnets[1]}}})).LoadBalancers[0]
	if z := lb.AvailabilityZones; len(z[0].LoadBalancerAddresses) != 1 || *z[0].LoadBalancerAddresses[0].PrivateIPv4Address != "10.0.0.40" || len(z[1].LoadBalancerAddresses) != 0 {
		t.Errorf("%+v", z)
	}
}

// TestAPortHasOneListener: TCP and UDP of one port are a listener of both.
func TestAPortHasOneListener(t *testing.T) {
	x := newCloud(t)
	lb := *must[elbv2.CreateLoadBalancerOutput](t)(x.createLB("net", "network")).LoadBalancers[0].LoadBalancerArn
	tcp := *must[elbv2.CreateTargetGroupOutput](t)(x.createGroup("tcp", "TCP")).TargetGroups[0].TargetGroupArn
	udp := *must[elbv2.CreateTargetGroupOutput](t)(x.createGroup("udp", "UDP")).TargetGroups[0].TargetGroupArn
	must[elbv2.CreateListenerOutput](t)(x.createListener(lb, "TCP", 53, tcp))
	_, err := x.createListener(lb, "UDP", 53, udp)
	refused(t, "UDP beside TCP", err, "DuplicateListener", "A listener already exists on this port for this load balancer '"+lb+"'")
	other := must[elbv2.CreateListenerOutput](t)(x.createListener(lb, "UDP", 54, udp)).Listeners[0].ListenerArn
	_, err = x.s.modifyListener(x.c, &elbv2.ModifyListenerInput{ListenerArn: other, Port: api.Ptr(int32(53))})
	refused(t, "moved there", err, "DuplicateListener", "")
}

// TestSecurityGroupsOfAnotherVPC: the code that clients know for it; one that does not exist has another.
func TestSecurityGroupsOfAnotherVPC(t *testing.T) {
	x := newCloud(t)
	var far string
	x.update(func(w *store.WriteTx) error {
		v, err := network.CreateVPC(w, home, network.VPCParams{CIDR: "10.8.0.0/16"})
		far = v.DefaultGroupID
		return err
	})
	create := func(groups ...string) error {
		_, err := x.s.createLoadBalancer(x.c, &elbv2.CreateLoadBalancerInput{Name: api.Ptr("web"), Subnets: x.subnets, SecurityGroups: groups})
		return err
	}
	refused(t, "of another VPC", create(far), "InvalidConfigurationRequest", "One or more security groups are invalid")
	refused(t, "of none", create("sg-1"), "InvalidSecurityGroup", "The security group 'sg-1' does not exist")
}

// TestOneTargetsRegistrations: a target may be registered a thousand times with one load balancer, at a port each.
func TestOneTargetsRegistrations(t *testing.T) {
	x := newCloud(t)
	_, listener, group := x.pair()
	x.instance("i-1", x.subnets[0], compute.Running)
	var list []elbv2.TargetDescription
	for i := range 1000 {
		list = append(list, elbv2.TargetDescription{Id: api.Ptr("i-1"), Port: api.Ptr(int32(1000 + i))})
	}
	if _, err := x.s.registerTargets(x.c, &elbv2.RegisterTargetsInput{TargetGroupArn: &group, Targets: list}); err != nil {
		t.Fatal(err)
	}
	second := *must[elbv2.CreateTargetGroupOutput](t)(x.createGroup("second", "HTTP")).TargetGroups[0].TargetGroupArn
	if _, err := x.s.registerTargets(x.c, &elbv2.RegisterTargetsInput{TargetGroupArn: &second, Targets: list[:1]}); err != nil {
		t.Fatal(err)
	}
	_, err := x.s.createRule(x.c, &elbv2.CreateRuleInput{ListenerArn: &listener, Priority: api.Ptr(int32(1)), Conditions: []elbv2.RuleCondition{{Field: api.Ptr("path-pattern"), Values: []string{"/a"}}},
		Actions: []elbv2.Action{{Type: api.Ptr("forward"), TargetGroupArn: &second}}})
	refused(t, "the 1001st", err, "TooManyRegistrationsForTargetId", "")
}

// TestPagesOfRules: the next page goes on where the last one ended, though its last rule is gone.
func TestPagesOfRules(t *testing.T) {
	x := newCloud(t)
	_, listener, _ := x.pair()
	for _, priority := range []int32{50, 10, 40, 20, 30} {
		must[elbv2.CreateRuleOutput](t)(x.s.createRule(x.c, &elbv2.CreateRuleInput{ListenerArn: &listener, Priority: &priority, Conditions: []elbv2.RuleCondition{{Field: api.Ptr("path-pattern"), Values: []string{"/a"}}},
			Actions: []elbv2.Action{{Type: api.Ptr("fixed-response"), FixedResponseConfig: &elbv2.FixedResponseActionConfig{StatusCode: api.Ptr("200")}}}}))
	}
	var got []string
	var marker *string
	for range 6 {
		out := must[elbv2.DescribeRulesOutput](t)(x.s.describeRules(x.c, &elbv2.DescribeRulesInput{ListenerArn: &listener, PageSize: api.Ptr(int32(2)), Marker: marker}))
		for _, r := range out.Rules {
			got = append(got, *r.Priority)
		}
		if marker = out.NextMarker; marker == nil {
			break
		}
		if _, err := x.s.deleteRule(x.c, &elbv2.DeleteRuleInput{RuleArn: out.Rules[1].RuleArn}); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Join(got, " ") != "10 20 30 40 50 default" {
		t.Errorf("pages: %v", got)
	}
}

// TestANetworkLoadBalancersWeights: a listener forwards to up to five groups by weight, whose targets are counted together.
func TestANetworkLoadBalancersWeights(t *testing.T) {
	x := newCloud(t)
	lb := *must[elbv2.CreateLoadBalancerOutput](t)(x.createLB("net", "network")).LoadBalancers[0].LoadBalancerArn
	forward := func(n int) []elbv2.Action {
		f := &elbv2.ForwardActionConfig{}
		for i := range n {
			arn := *must[elbv2.CreateTargetGroupOutput](t)(x.createGroup(fmt.Sprintf("g%d", i), "TCP")).TargetGroups[0].TargetGroupArn
			f.TargetGroups = append(f.TargetGroups, elbv2.TargetGroupTuple{TargetGroupArn: &arn, Weight: api.Ptr(int32(i))})
		}
		return []elbv2.Action{{Type: api.Ptr("forward"), ForwardConfig: f}}
	}
	create := func(n int) (*elbv2.CreateListenerOutput, error) {
		return x.s.createListener(x.c, &elbv2.CreateListenerInput{LoadBalancerArn: &lb, Protocol: api.Ptr("TCP"), Port: api.Ptr(int32(80)), DefaultActions: forward(n)})
	}
	_, err := create(6)
	refused(t, "six groups", err, "TooManyTargetGroups", "")
	a := must[elbv2.CreateListenerOutput](t)(create(5)).Listeners[0].DefaultActions[0]
	if a.TargetGroupArn != nil || len(a.ForwardConfig.TargetGroups) != 5 || *a.ForwardConfig.TargetGroups[4].Weight != 4 {
		t.Errorf("%+v", a)
	}
	many := func(group, n int) error {
		var list []elbv2.TargetDescription
		for i := range n {
			list = append(list, elbv2.TargetDescription{Id: api.Ptr(fmt.Sprintf("i-%d", group%2)), Port: api.Ptr(int32(1000 + i))})
		}
		_, err := x.s.registerTargets(x.c, &elbv2.RegisterTargetsInput{TargetGroupArn: a.ForwardConfig.TargetGroups[group].TargetGroupArn, Targets: list})
		return err
	}
	x.instance("i-0", x.subnets[0], compute.Running)
	x.instance("i-1", x.subnets[1], compute.Running)
	if err := many(0, 400); err != nil {
		t.Fatal(err)
	}
	if err := many(1, 400); err != nil {
		t.Fatal(err)
	}
	refused(t, "too many in all groups", many(3, 201), "TooManyTargets", "")
}
