package elbapi

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/certificate"
	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// cloud is a region with a VPC of two zones, an internet gateway, and the handlers.
type cloud struct {
	t       *testing.T
	s       *Server
	c       *api.Call
	vpc     string
	subnets []string
	igw     string
}

var home = scope.Scope{Account: "000000000000", Region: "us-east-1"}

func newCloud(t *testing.T) *cloud { return newCloudWith(t, store.Options{}) }

func newCloudWith(t *testing.T, o store.Options) *cloud {
	t.Helper()
	db, err := store.Open("", o)
	if err != nil {
		t.Fatal(err)
	}
	x := &cloud{t: t, s: &Server{DB: db}, c: &api.Call{Account: home.Account, Region: home.Region, DB: db}}
	x.update(func(w *store.WriteTx) error {
		if err := network.SetPublicPool(w, netip.MustParsePrefix("127.99.0.0/16")); err != nil {
			return err
		}
		v, err := network.CreateVPC(w, home, network.VPCParams{CIDR: "10.0.0.0/16"})
		if err != nil {
			return err
		}
		x.vpc = v.ID
		for i, z := range []string{"us-east-1a", "us-east-1b"} {
			sn, err := network.CreateSubnet(w, home, network.SubnetParams{VpcID: v.ID, CIDR: fmt.Sprintf("10.0.%d.0/24", i), AvailabilityZone: z})
			if err != nil {
				return err
			}
			x.subnets = append(x.subnets, sn.ID)
		}
		igw, err := network.CreateInternetGateway(w, home)
		if err != nil {
			return err
		}
		x.igw = igw.ID
		return network.AttachInternetGateway(w, home, igw.ID, v.ID)
	})
	return x
}

func (x *cloud) update(fn func(w *store.WriteTx) error) {
	x.t.Helper()
	if err := x.s.DB.Update(fn); err != nil {
		x.t.Fatal(err)
	}
}

// instance makes an instance's records in a state.
func (x *cloud) instance(id, subnet, state string) {
	x.t.Helper()
	x.update(func(w *store.WriteTx) error {
		e, err := network.AllocateENI(w, home, network.ENIParams{SubnetID: subnet, InstanceID: id})
		if err != nil {
			return err
		}
		compute.Instances.Put(w, compute.Instance{Scope: home, ID: id, State: state, VpcID: e.VpcID, SubnetID: subnet, AvailabilityZone: e.AvailabilityZone, PrivateIP: e.PrivateIP, ENIID: e.ID})
		return nil
	})
}

func must[T any](t *testing.T) func(*T, error) *T {
	return func(v *T, err error) *T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused checks an error's code, and its message where one is given.
func refused(t *testing.T, what string, err error, code, message string) {
	t.Helper()
	f, ok := fault.As(err)
	if !ok || f.Code != code || message != "" && f.Msg != message {
		t.Errorf("%s: %v, wanted %s: %s", what, err, code, message)
	}
}

func (x *cloud) createLB(name, kind string) (*elbv2.CreateLoadBalancerOutput, error) {
	return x.s.createLoadBalancer(x.c, &elbv2.CreateLoadBalancerInput{Name: &name, Type: &kind, Subnets: x.subnets})
}

func (x *cloud) createGroup(name, protocol string) (*elbv2.CreateTargetGroupOutput, error) {
	return x.s.createTargetGroup(x.c, &elbv2.CreateTargetGroupInput{Name: &name, Protocol: &protocol, Port: api.Ptr(int32(80)), VpcId: &x.vpc})
}

func (x *cloud) createListener(lb, protocol string, port int32, group string) (*elbv2.CreateListenerOutput, error) {
	return x.s.createListener(x.c, &elbv2.CreateListenerInput{LoadBalancerArn: &lb, Protocol: &protocol, Port: &port,
		DefaultActions: []elbv2.Action{{Type: api.Ptr("forward"), TargetGroupArn: &group}}})
}

// pair is an application load balancer with a listener in front of a group.
func (x *cloud) pair() (lb, listener, group string) {
	x.t.Helper()
	lb = *must[elbv2.CreateLoadBalancerOutput](x.t)(x.createLB("web", "application")).LoadBalancers[0].LoadBalancerArn
	group = *must[elbv2.CreateTargetGroupOutput](x.t)(x.createGroup("web", "HTTP")).TargetGroups[0].TargetGroupArn
	listener = *must[elbv2.CreateListenerOutput](x.t)(x.createListener(lb, "HTTP", 80, group)).Listeners[0].ListenerArn
	return lb, listener, group
}

func TestALoadBalancersLife(t *testing.T) {
	x := newCloud(t)
	lb := must[elbv2.CreateLoadBalancerOutput](t)(x.createLB("web", "application")).LoadBalancers[0]
	if *lb.State.Code != "provisioning" || *lb.Scheme != "internet-facing" || len(lb.AvailabilityZones) != 2 || len(lb.SecurityGroups) != 1 ||
		!strings.HasPrefix(*lb.DNSName, "web-") || !strings.HasSuffix(*lb.DNSName, ".us-east-1.elb.amazonaws.com") || *lb.CanonicalHostedZoneId != "Z35SXDOTRQ7X7K" {
		t.Errorf("created: %+v", lb)
	}
	again := must[elbv2.CreateLoadBalancerOutput](t)(x.createLB("web", "application")).LoadBalancers[0]
	if *again.LoadBalancerArn != *lb.LoadBalancerArn {
		t.Error("the same settings made a second one")
	}
	_, err := x.createLB("web", "network")
	refused(t, "another type of that name", err, "DuplicateLoadBalancerName", "A load balancer with the same name 'web' exists, but with different settings")
	for _, z := range []string{"us-east-1a", "us-east-1b"} {
		x.update(func(w *store.WriteTx) error {
			balance.ApplyReport(w, z, []string{*lb.LoadBalancerArn}, nil)
			return nil
		})
	}
	got := must[elbv2.DescribeLoadBalancersOutput](t)(x.s.describeLoadBalancers(x.c, &elbv2.DescribeLoadBalancersInput{Names: []string{"web"}}))
	if *got.LoadBalancers[0].State.Code != "active" {
		t.Errorf("all nodes serve, and its state is %s", *got.LoadBalancers[0].State.Code)
	}
	n := 0
	for e := range network.ENIs.All(x.s.DB.Read()) {
		if e.RequesterID != "amazon-elb" || !strings.HasPrefix(e.Description, "ELB app/web/") || e.PublicIP == "" || e.AttachmentID == "" {
			t.Errorf("a node's interface: %+v", e)
		}
		n++
	}
	if n != 2 {
		t.Errorf("%d interfaces for two zones", n)
	}
	protect := []elbv2.LoadBalancerAttribute{{Key: api.Ptr("deletion_protection.enabled"), Value: api.Ptr("true")}}
	must[elbv2.ModifyLoadBalancerAttributesOutput](t)(x.s.modifyLoadBalancerAttributes(x.c, &elbv2.ModifyLoadBalancerAttributesInput{LoadBalancerArn: lb.LoadBalancerArn, Attributes: protect}))
	_, err = x.s.deleteLoadBalancer(x.c, &elbv2.DeleteLoadBalancerInput{LoadBalancerArn: lb.LoadBalancerArn})
	refused(t, "delete under protection", err, "OperationNotPermitted", "")
	protect[0].Value = api.Ptr("false")
	must[elbv2.ModifyLoadBalancerAttributesOutput](t)(x.s.modifyLoadBalancerAttributes(x.c, &elbv2.ModifyLoadBalancerAttributesInput{LoadBalancerArn: lb.LoadBalancerArn, Attributes: protect}))
	for range 2 { // the second finds nothing, which is a success too
		if _, err := x.s.deleteLoadBalancer(x.c, &elbv2.DeleteLoadBalancerInput{LoadBalancerArn: lb.LoadBalancerArn}); err != nil {
			t.Fatal(err)
		}
	}
	for e := range network.ENIs.All(x.s.DB.Read()) {
		t.Errorf("interface %s was left behind", e.ID)
	}
}

func TestLoadBalancersThatAreRefused(t *testing.T) {
	x := newCloud(t)
	create := func(change func(in *elbv2.CreateLoadBalancerInput)) error {
		in := &elbv2.CreateLoadBalancerInput{Name: api.Ptr("web"), Subnets: x.subnets}
		change(in)
		_, err := x.s.createLoadBalancer(x.c, in)
		return err
	}
	type in = elbv2.CreateLoadBalancerInput
	for _, c := range []struct {
		name          string
		change        func(*in)
		code, message string
	}{
		{"one zone", func(i *in) { i.Subnets = x.subnets[:1] }, "ValidationError", "At least two subnets in two different Availability Zones must be specified"},
		{"one zone twice", func(i *in) { i.Subnets = []string{x.subnets[0], x.subnets[0]} }, "InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone"},
		{"no subnets", func(i *in) { i.Subnets = nil }, "ValidationError", ""},
		{"unknown subnet", func(i *in) { i.Subnets = []string{"subnet-1", x.subnets[0]} }, "SubnetNotFound", "The subnet ID 'subnet-1' does not exist"},
		{"both forms", func(i *in) { i.SubnetMappings = []elbv2.SubnetMapping{{SubnetId: &x.subnets[0]}} }, "ValidationError", ""},
		{"unknown group", func(i *in) { i.SecurityGroups = []string{"sg-1"} }, "InvalidSecurityGroup", ""},
		{"name with a hyphen in front", func(i *in) { i.Name = api.Ptr("-web") }, "ValidationError", "The load balancer name '-web' cannot begin or end with '-'"},
		{"reserved prefix", func(i *in) { i.Name = api.Ptr("internal-web") }, "ValidationError", ""},
		{"long name", func(i *in) { i.Name = api.Ptr(strings.Repeat("a", 33)) }, "ValidationError", ""},
		{"no name", func(i *in) { i.Name = nil }, "ValidationError", ""},
		{"strange type", func(i *in) { i.Type = api.Ptr("classic") }, "ValidationError", ""},
		{"gateway", func(i *in) { i.Type = api.Ptr("gateway") }, "InvalidConfigurationRequest", ""},
		{"IPv6", func(i *in) { i.IpAddressType = api.Ptr("dualstack") }, "InvalidSubnet", "You must specify subnets with an associated IPv6 CIDR block."},
		{"tag twice", func(i *in) { i.Tags = []elbv2.Tag{{Key: api.Ptr("a")}, {Key: api.Ptr("a")}} }, "DuplicateTagKeys", ""},
	} {
		refused(t, c.name, create(c.change), c.code, c.message)
	}
	tx := x.s.DB.Read()
	for range balance.LoadBalancers.All(tx) {
		t.Error("a refused request left a load balancer")
	}
	for range network.ENIs.All(tx) {
		t.Error("a refused request left an interface")
	}
	x.update(func(w *store.WriteTx) error { return network.DetachInternetGateway(w, home, x.igw, x.vpc) })
	refused(t, "no gateway", create(func(*in) {}), "InvalidSubnet", "VPC "+x.vpc+" has no internet gateway")
	if err := create(func(i *in) { i.Scheme = api.Ptr("internal") }); err != nil {
		t.Errorf("an internal one needs no gateway: %v", err)
	}
}

func TestListenersAndRules(t *testing.T) {
	x := newCloud(t)
	lb, listener, group := x.pair()
	again := must[elbv2.CreateListenerOutput](t)(x.createListener(lb, "HTTP", 80, group))
	if *again.Listeners[0].ListenerArn != listener {
		t.Error("the same listener was made twice")
	}
	redirect := elbv2.Action{Type: api.Ptr("redirect"), RedirectConfig: &elbv2.RedirectActionConfig{Protocol: api.Ptr("HTTPS"), Port: api.Ptr("443"), StatusCode: api.Ptr("HTTP_301")}}
	_, err := x.s.createListener(x.c, &elbv2.CreateListenerInput{LoadBalancerArn: &lb, Protocol: api.Ptr("HTTP"), Port: api.Ptr(int32(80)), DefaultActions: []elbv2.Action{redirect}})
	refused(t, "the port with other actions", err, "DuplicateListener", "A listener already exists on this port for this load balancer '"+lb+"'")
	_, err = x.createListener(lb, "TCP", 81, group)
	refused(t, "a protocol of the other kind", err, "ValidationError", "Listener protocol 'TCP' must be one of 'HTTPS, HTTP'")
	_, err = x.createListener(lb, "HTTPS", 443, group)
	refused(t, "HTTPS without a certificate", err, "ValidationError", "")
	_, err = x.s.createListener(x.c, &elbv2.CreateListenerInput{LoadBalancerArn: &lb, Protocol: api.Ptr("HTTPS"), Port: api.Ptr(int32(443)), DefaultActions: []elbv2.Action{redirect},
		Certificates: []elbv2.Certificate{{CertificateArn: api.Ptr("arn:aws:acm:us-east-1:000000000000:certificate/x")}}})
	refused(t, "an unknown certificate", err, "CertificateNotFound", "Certificate 'arn:aws:acm:us-east-1:000000000000:certificate/x' not found")

	teapot := elbv2.Action{Type: api.Ptr("fixed-response"), FixedResponseConfig: &elbv2.FixedResponseActionConfig{StatusCode: api.Ptr("418"), ContentType: api.Ptr("text/plain"), MessageBody: api.Ptr("short and stout")}}
	rule := func(priority int32, cond elbv2.RuleCondition, a elbv2.Action) (*elbv2.CreateRuleOutput, error) {
		return x.s.createRule(x.c, &elbv2.CreateRuleInput{ListenerArn: &listener, Priority: &priority, Conditions: []elbv2.RuleCondition{cond}, Actions: []elbv2.Action{a}})
	}
	path := elbv2.RuleCondition{Field: api.Ptr("path-pattern"), Values: []string{"/teapot*"}}
	r10 := must[elbv2.CreateRuleOutput](t)(rule(10, path, teapot)).Rules[0]
	if *r10.Priority != "10" || *r10.IsDefault || r10.Conditions[0].PathPatternConfig.Values[0] != "/teapot*" {
		t.Errorf("rule: %+v", r10)
	}
	_, err = rule(10, path, teapot)
	refused(t, "its priority again", err, "PriorityInUse", "Priority '10' is currently in use")
	r20 := must[elbv2.CreateRuleOutput](t)(rule(20, elbv2.RuleCondition{Field: api.Ptr("host-header"), HostHeaderConfig: &elbv2.HostHeaderConditionConfig{Values: []string{"*.example.com"}}}, redirect)).Rules[0]
	for name, c := range map[string]elbv2.RuleCondition{
		"no value":            {Field: api.Ptr("path-pattern")},
		"strange field":       {Field: api.Ptr("cookie"), Values: []string{"a"}},
		"header as plain":     {Field: api.Ptr("http-header"), Values: []string{"a"}},
		"no field":            {HostHeaderConfig: &elbv2.HostHeaderConditionConfig{Values: []string{"a.test"}}},
		"method in lower":     {Field: api.Ptr("http-request-method"), HttpRequestMethodConfig: &elbv2.HttpRequestMethodConditionConfig{Values: []string{"get"}}},
		"no network":          {Field: api.Ptr("source-ip"), SourceIpConfig: &elbv2.SourceIpConditionConfig{Values: []string{"10.0.0.300/8"}}},
		"six values":          {Field: api.Ptr("path-pattern"), Values: []string{"/1", "/2", "/3", "/4", "/5", "/6"}},
		"a value with spaces": {Field: api.Ptr("path-pattern"), Values: []string{"/a b"}},
		"the host header":     {Field: api.Ptr("http-header"), HttpHeaderConfig: &elbv2.HttpHeaderConditionConfig{HttpHeaderName: api.Ptr("Host"), Values: []string{"x"}}},
	} {
		_, err := rule(30, c, teapot)
		refused(t, name, err, "ValidationError", "")
	}
	for name, a := range map[string]elbv2.Action{
		"loop":               {Type: api.Ptr("redirect"), RedirectConfig: &elbv2.RedirectActionConfig{StatusCode: api.Ptr("HTTP_301")}},
		"no configuration":   {Type: api.Ptr("fixed-response")},
		"forward to nowhere": {Type: api.Ptr("forward")},
		"oidc":               {Type: api.Ptr("authenticate-oidc")},
	} {
		_, err := rule(30, path, a)
		refused(t, name, err, "InvalidLoadBalancerAction", "")
	}
	_, err = rule(30, path, elbv2.Action{Type: api.Ptr("forward"), TargetGroupArn: api.Ptr("arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/none/1")})
	refused(t, "an unknown group", err, "TargetGroupNotFound", "One or more target groups not found")

	out := must[elbv2.SetRulePrioritiesOutput](t)(x.s.setRulePriorities(x.c, &elbv2.SetRulePrioritiesInput{RulePriorities: []elbv2.RulePriorityPair{
		{RuleArn: r10.RuleArn, Priority: api.Ptr(int32(20))}, {RuleArn: r20.RuleArn, Priority: api.Ptr(int32(10))}}}))
	if len(out.Rules) != 2 {
		t.Errorf("swapped: %+v", out)
	}
	rules := must[elbv2.DescribeRulesOutput](t)(x.s.describeRules(x.c, &elbv2.DescribeRulesInput{ListenerArn: &listener})).Rules
	if len(rules) != 3 || *rules[0].RuleArn != *r20.RuleArn || *rules[2].Priority != "default" || !*rules[2].IsDefault {
		t.Errorf("rules in order: %+v", rules)
	}
	_, err = x.s.deleteRule(x.c, &elbv2.DeleteRuleInput{RuleArn: rules[2].RuleArn})
	refused(t, "delete the default rule", err, "OperationNotPermitted", "Default rule '"+*rules[2].RuleArn+"' cannot be deleted")
	if _, err := x.s.deleteListener(x.c, &elbv2.DeleteListenerInput{ListenerArn: &listener}); err != nil {
		t.Fatal(err)
	}
	for range balance.Rules.All(x.s.DB.Read()) {
		t.Error("a rule outlived its listener")
	}
}

func TestAGroupServesOneLoadBalancer(t *testing.T) {
	x := newCloud(t)
	lb, listener, group := x.pair()
	_, err := x.s.deleteTargetGroup(x.c, &elbv2.DeleteTargetGroupInput{TargetGroupArn: &group})
	refused(t, "delete in use", err, "ResourceInUse", "Target group '"+group+"' is currently in use by a listener or a rule")
	other := *must[elbv2.CreateLoadBalancerOutput](t)(x.createLB("other", "application")).LoadBalancers[0].LoadBalancerArn
	_, err = x.createListener(other, "HTTP", 80, group)
	refused(t, "a second load balancer", err, "TargetGroupAssociationLimit", "The following target groups cannot be associated with more than one load balancer: "+group)
	tcp := *must[elbv2.CreateTargetGroupOutput](t)(x.createGroup("tcp", "TCP")).TargetGroups[0].TargetGroupArn
	_, err = x.createListener(lb, "HTTP", 81, tcp)
	refused(t, "a TCP group behind HTTP", err, "IncompatibleProtocols", "")
	g := must[elbv2.DescribeTargetGroupsOutput](t)(x.s.describeTargetGroups(x.c, &elbv2.DescribeTargetGroupsInput{LoadBalancerArn: &lb})).TargetGroups
	if len(g) != 1 || *g[0].TargetGroupArn != group || g[0].LoadBalancerArns[0] != lb || *g[0].Matcher.HttpCode != "200" || *g[0].HealthCheckTimeoutSeconds != 5 {
		t.Errorf("groups of the load balancer: %+v", g)
	}
	if _, err := x.s.deleteListener(x.c, &elbv2.DeleteListenerInput{ListenerArn: &listener}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.s.deleteTargetGroup(x.c, &elbv2.DeleteTargetGroupInput{TargetGroupArn: &group}); err != nil {
		t.Errorf("delete when free: %v", err)
	}
}

func TestTargetGroupsThatAreRefused(t *testing.T) {
	x := newCloud(t)
	type in = elbv2.CreateTargetGroupInput
	for _, c := range []struct {
		name          string
		change        func(*in)
		code, message string
	}{
		{"no protocol", func(i *in) { i.Protocol = nil }, "ValidationError", "A protocol must be specified"},
		{"no port", func(i *in) { i.Port = nil }, "ValidationError", "A port must be specified"},
		{"no VPC", func(i *in) { i.VpcId = nil }, "ValidationError", "A VPC ID must be specified"},
		{"unknown VPC", func(i *in) { i.VpcId = api.Ptr("vpc-1") }, "ValidationError", ""},
		{"lambda", func(i *in) { i.TargetType = api.Ptr("lambda") }, "InvalidConfigurationRequest", ""},
		{"timeout as long as the interval", func(i *in) {
			i.HealthCheckIntervalSeconds, i.HealthCheckTimeoutSeconds = api.Ptr(int32(5)), api.Ptr(int32(5))
		}, "ValidationError", "Health check interval must be greater than the timeout."},
		{"interval of a second", func(i *in) { i.HealthCheckIntervalSeconds = api.Ptr(int32(1)) }, "ValidationError", ""},
		{"codes out of range", func(i *in) { i.Matcher = &elbv2.Matcher{HttpCode: api.Ptr("100-299")} }, "ValidationError", ""},
		{"a relative path", func(i *in) { i.HealthCheckPath = api.Ptr("health") }, "ValidationError", ""},
		{"TCP checks for HTTP", func(i *in) { i.HealthCheckProtocol = api.Ptr("TCP") }, "ValidationError", ""},
	} {
		i := &in{Name: api.Ptr("web"), Protocol: api.Ptr("HTTP"), Port: api.Ptr(int32(80)), VpcId: &x.vpc}
		c.change(i)
		_, err := x.s.createTargetGroup(x.c, i)
		refused(t, c.name, err, c.code, c.message)
	}
	g := must[elbv2.CreateTargetGroupOutput](t)(x.createGroup("web", "HTTP")).TargetGroups[0]
	again := must[elbv2.CreateTargetGroupOutput](t)(x.createGroup("web", "HTTP")).TargetGroups[0]
	if *g.TargetGroupArn != *again.TargetGroupArn {
		t.Error("the same settings made a second group")
	}
	_, err := x.createGroup("web", "HTTPS")
	refused(t, "that name with other settings", err, "DuplicateTargetGroupName", "A target group with the same name 'web' exists, but with different settings")
	attr := func(k, v string) error {
		_, err := x.s.modifyTargetGroupAttributes(x.c, &elbv2.ModifyTargetGroupAttributesInput{TargetGroupArn: g.TargetGroupArn, Attributes: []elbv2.TargetGroupAttribute{{Key: &k, Value: &v}}})
		return err
	}
	refused(t, "an attribute of the other kind", attr("preserve_client_ip.enabled", "true"), "InvalidConfigurationRequest", "Target group attribute key 'preserve_client_ip.enabled' is not supported on target groups with protocol 'HTTP'")
	refused(t, "a delay that is too long", attr("deregistration_delay.timeout_seconds", "3601"), "ValidationError", "")
	if err := attr("deregistration_delay.timeout_seconds", "5"); err != nil {
		t.Error(err)
	}
}

func (x *cloud) health(group string, targets ...elbv2.TargetDescription) string {
	x.t.Helper()
	out := must[elbv2.DescribeTargetHealthOutput](x.t)(x.s.describeTargetHealth(x.c, &elbv2.DescribeTargetHealthInput{TargetGroupArn: &group, Targets: targets}))
	s := ""
	for _, d := range out.TargetHealthDescriptions {
		s += *d.Target.Id + " " + *d.TargetHealth.State + " " + api.Val(d.TargetHealth.Reason) + ";"
	}
	return s
}

func TestTargets(t *testing.T) {
	x := newCloud(t)
	_, _, group := x.pair()
	x.instance("i-1", x.subnets[0], compute.Running)
	x.instance("i-2", x.subnets[1], compute.Stopped)
	one := []elbv2.TargetDescription{{Id: api.Ptr("i-1")}}
	register := func(ts ...elbv2.TargetDescription) error {
		_, err := x.s.registerTargets(x.c, &elbv2.RegisterTargetsInput{TargetGroupArn: &group, Targets: ts})
		return err
	}
	refused(t, "a stopped one", register(elbv2.TargetDescription{Id: api.Ptr("i-2")}), "InvalidTarget", "The following targets are not in a running state and cannot be registered: 'i-2'")
	refused(t, "no instance", register(elbv2.TargetDescription{Id: api.Ptr("10.0.0.1")}), "ValidationError", "Instance ID '10.0.0.1' is not valid")
	refused(t, "one of two is wrong", register(one[0], elbv2.TargetDescription{Id: api.Ptr("i-9")}), "InvalidTarget", "")
	if got := x.health(group); got != "" {
		t.Errorf("a refused registration left %s", got)
	}
	if got := x.health(group, one...); got != "i-1 unused Target.NotRegistered;" {
		t.Errorf("before: %s", got)
	}
	if err := register(one...); err != nil {
		t.Fatal(err)
	}
	if got := x.health(group); got != "i-1 initial Elb.RegistrationInProgress;" {
		t.Errorf("registered: %s", got)
	}
	now := x.s.DB.Read().Now()
	x.update(func(w *store.WriteTx) error {
		balance.ApplyReport(w, "us-east-1a", nil, []balance.Observation{{GroupARN: group, TargetID: "i-1", Port: 80, State: balance.Healthy, Since: now}})
		return nil
	})
	if got := x.health(group); got != "i-1 healthy ;" {
		t.Errorf("observed: %s", got)
	}
	if _, err := x.s.deregisterTargets(x.c, &elbv2.DeregisterTargetsInput{TargetGroupArn: &group, Targets: one}); err != nil {
		t.Fatal(err)
	}
	if got := x.health(group); got != "i-1 draining Target.DeregistrationInProgress;" {
		t.Errorf("deregistered: %s", got)
	}
	if err := register(one...); err != nil {
		t.Fatal(err)
	}
	if got := x.health(group); got != "i-1 initial Elb.RegistrationInProgress;" {
		t.Errorf("back again, its health must be found anew: %s", got)
	}
}

func TestCertificatesOfAListener(t *testing.T) {
	x := newCloud(t)
	lb, _, group := x.pair()
	var arns []string
	x.update(func(w *store.WriteTx) error {
		for i := range 3 {
			arn := home.ARN("acm", fmt.Sprintf("certificate/%d", i))
			certificate.Certificates.Put(w, certificate.Certificate{Scope: home, ARN: arn})
			arns = append(arns, arn)
		}
		return nil
	})
	l := must[elbv2.CreateListenerOutput](t)(x.s.createListener(x.c, &elbv2.CreateListenerInput{LoadBalancerArn: &lb, Protocol: api.Ptr("HTTPS"), Port: api.Ptr(int32(443)),
		Certificates: []elbv2.Certificate{{CertificateArn: &arns[0]}}, DefaultActions: []elbv2.Action{{Type: api.Ptr("forward"), TargetGroupArn: &group}}})).Listeners[0]
	if *l.SslPolicy != "ELBSecurityPolicy-2016-08" || *l.Certificates[0].CertificateArn != arns[0] {
		t.Errorf("listener: %+v", l)
	}
	must[elbv2.AddListenerCertificatesOutput](t)(x.s.addListenerCertificates(x.c, &elbv2.AddListenerCertificatesInput{ListenerArn: l.ListenerArn, Certificates: []elbv2.Certificate{{CertificateArn: &arns[1]}}}))
	for _, arn := range []string{arns[0], arns[2], arns[2]} { // also the one that it has
		must[elbv2.ModifyListenerOutput](t)(x.s.modifyListener(x.c, &elbv2.ModifyListenerInput{ListenerArn: l.ListenerArn, Certificates: []elbv2.Certificate{{CertificateArn: &arn}}}))
	}
	got := must[elbv2.DescribeListenerCertificatesOutput](t)(x.s.describeListenerCertificates(x.c, &elbv2.DescribeListenerCertificatesInput{ListenerArn: l.ListenerArn})).Certificates
	if len(got) != 2 || *got[0].CertificateArn != arns[2] || !*got[0].IsDefault || *got[1].CertificateArn != arns[1] {
		t.Errorf("after a new default: %v %v", got, arns)
	}
	_, err := x.s.removeListenerCertificates(x.c, &elbv2.RemoveListenerCertificatesInput{ListenerArn: l.ListenerArn, Certificates: []elbv2.Certificate{{CertificateArn: &arns[2]}}})
	refused(t, "remove the default", err, "OperationNotPermitted", "")
	if used := balance.CertificateUsers(x.s.DB.Read(), arns[1]); len(used) != 1 || used[0] != lb {
		t.Errorf("users of the certificate: %v", used)
	}
}

func TestPages(t *testing.T) {
	x := newCloud(t)
	for i := range 5 {
		must[elbv2.CreateTargetGroupOutput](t)(x.createGroup(fmt.Sprintf("g%d", i), "HTTP"))
	}
	var names []string
	var marker *string
	for range 5 {
		out := must[elbv2.DescribeTargetGroupsOutput](t)(x.s.describeTargetGroups(x.c, &elbv2.DescribeTargetGroupsInput{PageSize: api.Ptr(int32(2)), Marker: marker}))
		for _, g := range out.TargetGroups {
			names = append(names, *g.TargetGroupName)
		}
		if marker = out.NextMarker; marker == nil {
			break
		}
	}
	if strings.Join(names, " ") != "g0 g1 g2 g3 g4" {
		t.Errorf("pages: %v", names)
	}
	_, err := x.s.describeTargetGroups(x.c, &elbv2.DescribeTargetGroupsInput{PageSize: api.Ptr(int32(401))})
	refused(t, "a page too large", err, "ValidationError", "")
}

func TestEveryOperationHasAHandler(t *testing.T) {
	m := api.NewMux(&elbv2.Service)
	(&Server{}).Register(m)
	if missing := m.Missing(); len(missing) > 0 {
		t.Errorf("no handler: %v", missing)
	}
}

func TestTags(t *testing.T) {
	x := newCloud(t)
	lb, listener, _ := x.pair()
	arns := []string{lb, listener}
	tags := []elbv2.Tag{{Key: api.Ptr("a"), Value: api.Ptr("1")}, {Key: api.Ptr("b"), Value: api.Ptr("2")}}
	must[elbv2.AddTagsOutput](t)(&elbv2.AddTagsOutput{}, func() error {
		_, err := x.s.addTags(x.c, &elbv2.AddTagsInput{ResourceArns: arns, Tags: tags})
		return err
	}())
	if _, err := x.s.removeTags(x.c, &elbv2.RemoveTagsInput{ResourceArns: arns, TagKeys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	out := must[elbv2.DescribeTagsOutput](t)(x.s.describeTags(x.c, &elbv2.DescribeTagsInput{ResourceArns: arns}))
	for _, d := range out.TagDescriptions {
		if len(d.Tags) != 1 || *d.Tags[0].Key != "b" {
			t.Errorf("tags of %s: %v", *d.ResourceArn, d.Tags)
		}
	}
	_, err := x.s.describeTags(x.c, &elbv2.DescribeTagsInput{ResourceArns: []string{lb + "0"}})
	refused(t, "an unknown one", err, "LoadBalancerNotFound", "")
}
