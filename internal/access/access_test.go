package access

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"skerry/api"
	apias "skerry/api/autoscaling"
	apiec2 "skerry/api/ec2"
	apielb "skerry/api/elbv2"
	apiiam "skerry/api/iam"
	apists "skerry/api/sts"
	"skerry/internal/awsclient"
	"skerry/internal/compute"
	"skerry/internal/endpoint/asgapi"
	"skerry/internal/endpoint/ec2api"
	"skerry/internal/endpoint/elbapi"
	"skerry/internal/endpoint/iamapi"
	"skerry/internal/endpoint/stsapi"
	"skerry/internal/gateway"
	"skerry/internal/identity"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/scaling/live"
	"skerry/internal/scope"
	"skerry/internal/store"
)

const region = "us-east-1"

var (
	here = scope.Scope{Account: gateway.RootAccount, Region: region}
	ctx  = context.Background()
	p    = aws.String
)

// cloud is the API behind a gateway on loopback, with nothing behind it; root has built some things there.
type cloud struct {
	t                *testing.T
	db               *store.DB
	url              string
	ami, dev, prod   string // an image and two instances, tagged env=dev and env=prod
	vpc, subnet      string // the default ones
	sg, lt           string
	group, balancer  string // ARNs
	other            string // another subnet
	targets, profile string // ARNs
}

// clients are the SDK's for one key.
type clients struct {
	*cloud
	ec2 *ec2.Client
	asg *autoscaling.Client
	elb *elb.Client
	iam *iam.Client
	sts *sts.Client
}

func (c *cloud) as(id, secret, token string) clients {
	cfg := awsclient.Config(c.url, region, id, secret, token)
	return clients{c, ec2.NewFromConfig(cfg), autoscaling.NewFromConfig(cfg), elb.NewFromConfig(cfg), iam.NewFromConfig(cfg), sts.NewFromConfig(cfg)}
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{t: t, db: db}
	m := api.NewMux(&apiec2.Service, &apias.Service, &apielb.Service, &apiiam.Service, &apists.Service)
	(&ec2api.Server{DB: db}).Register(m)
	(&asgapi.Server{DB: db, Engine: &scaling.Engine{Compute: live.Compute{}, Balancer: live.Balancer{}, Alarms: live.Alarms{}, TimeScale: 1}}).Register(m)
	(&elbapi.Server{DB: db}).Register(m)
	(&iamapi.Server{DB: db}).Register(m)
	(&stsapi.Server{DB: db}).Register(m)
	k := &Checker{DB: db}
	srv := httptest.NewServer(gateway.New(gateway.Options{Mux: m, DB: db, Permit: k.Permit, Authorize: k.Authorize,
		Credentials: func(id string, r *http.Request) (gateway.Credential, error) {
			if k, err := identity.Lookup(db.Read(), id); err == nil {
				return gateway.Credential{AccessKeyID: id, Secret: k.Secret, SessionToken: k.SessionToken, Principal: api.Principal(k.Principal)}, nil
			}
			return gateway.WellKnown(id, r)
		}}))
	c.url = srv.URL
	t.Cleanup(func() { srv.Close(); db.Close() })
	c.build()
	return c
}

func (c *cloud) update(fn func(w *store.WriteTx) error) {
	c.t.Helper()
	if err := c.db.Update(fn); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cloud) build() {
	c.t.Helper()
	ok := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	c.update(func(w *store.WriteTx) error {
		if err := network.SetPublicPool(w, netip.MustParsePrefix("127.99.0.0/16")); err != nil {
			return err
		}
		compute.SetHost(w, compute.Host{VCPU: 64, MemoryMiB: 1 << 18, Architectures: []string{"x86_64"}})
		c.ami = compute.PutImage(w, compute.Image{Name: "skerry-nano-1", Layers: []string{"/images/nano"}}).ID
		if err := network.EnsureDefaultVPC(w, here); err != nil {
			return err
		}
		v, _ := network.DefaultVPC(w, here)
		c.vpc, c.sg = v.ID, v.DefaultGroupID
		for s := range network.Subnets.By(w, "vpc", here.Key(v.ID)) {
			switch s.AvailabilityZone {
			case region + "a":
				c.subnet = s.ID
			case region + "b":
				c.other = s.ID
			}
		}
		if _, err := identity.CreateRole(w, here.Account, identity.NewRole{Name: "web", Trust: trust(`"Service":"ec2.amazonaws.com"`)}); err != nil {
			return err
		}
		prof, err := identity.CreateInstanceProfile(w, here.Account, "web", "", nil)
		if err != nil {
			return err
		}
		c.profile = prof.ARN()
		if err := identity.AddRole(w, here.Account, "web", "web"); err != nil {
			return err
		}
		lt, err := compute.CreateLaunchTemplate(w, here, "web", "", "", "", []byte(`{"ImageId":"`+c.ami+`","InstanceType":"t3.micro","IamInstanceProfile":{"Name":"web"}}`))
		c.lt = lt.ID
		return err
	})
	root := c.as("skerry", "skerry", "")
	for env, id := range map[string]*string{"dev": &c.dev, "prod": &c.prod} {
		r, err := root.ec2.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: &c.ami, InstanceType: "t3.micro", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: &c.subnet,
			TagSpecifications: []types.TagSpecification{{ResourceType: "instance", Tags: []types.Tag{{Key: p("Env"), Value: &env}}}}})
		ok(err)
		*id = *r.Instances[0].InstanceId
	}
	for _, name := range []string{"web", "other"} {
		_, err := root.asg.CreateAutoScalingGroup(ctx, groupInput(name, c.subnet))
		ok(err)
		c.update(func(w *store.WriteTx) error {
			g, err := scaling.GetGroup(w, here, name)
			if name == "web" {
				c.group = g.ARN()
			}
			return err
		})
	}
	lb, err := root.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: p("web"), Subnets: []string{c.subnet, c.other}, Tags: []elbtypes.Tag{{Key: p("env"), Value: p("dev")}}})
	ok(err)
	c.balancer = *lb.LoadBalancers[0].LoadBalancerArn
	tg, err := root.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: p("web"), Protocol: "HTTP", Port: aws.Int32(80), VpcId: &c.vpc})
	ok(err)
	c.targets = *tg.TargetGroups[0].TargetGroupArn
}

func groupInput(name, subnet string) *autoscaling.CreateAutoScalingGroupInput {
	return &autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: &name, MinSize: aws.Int32(0), MaxSize: aws.Int32(3), VPCZoneIdentifier: &subnet,
		LaunchTemplate: &astypes.LaunchTemplateSpecification{LaunchTemplateName: p("web")}}
}

func trust(principal string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{` + principal + `},"Action":"sts:AssumeRole"}]}`
}

// user makes a user with the statements and returns its clients.
func (c *cloud) user(name, statements string) clients {
	c.t.Helper()
	var k identity.AccessKey
	c.update(func(w *store.WriteTx) (err error) {
		if _, err = identity.CreateUser(w, here.Account, name, "", "", nil); err != nil {
			return err
		}
		if statements != "" {
			if err = identity.PutInline(w, identity.OfUser, here.Account, name, "p", c.doc(statements)); err != nil {
				return err
			}
		}
		k, err = identity.CreateAccessKey(w, here.Account, name)
		return err
	})
	return c.as(k.ID, k.Secret, "")
}

// doc wraps statements and puts the cloud's things into them.
func (c *cloud) doc(statements string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.NewReplacer("DEV", c.dev, "PROD", c.prod, "AMI", c.ami, "SUBNET", c.subnet, "OTHERNET", c.other, "SG", c.sg, "TEMPLATE", c.lt,
		"GROUP", c.group, "BALANCER", c.balancer, "TARGETS", c.targets, "VPC", c.vpc).Replace(statements) + `]}`
}

// allow is a statement that allows actions on resources; deny one that denies. Both take lists as "a b".
func allow(actions, resources string, condition ...string) string {
	return statement("Allow", actions, resources, condition)
}
func deny(actions, resources string, condition ...string) string {
	return statement("Deny", actions, resources, condition)
}
func statement(effect, actions, resources string, condition []string) string {
	list := func(s string) string { return `["` + strings.ReplaceAll(s, " ", `","`) + `"]` }
	s := `{"Effect":"` + effect + `","Action":` + list(actions) + `,"Resource":` + list(resources)
	for _, c := range condition {
		s += `,"Condition":` + c
	}
	return s + "}"
}

func result(err error) (code, text string) {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode(), e.ErrorMessage()
	}
	if err != nil {
		return "?", err.Error()
	}
	return "", ""
}

// dryRun is what EC2 answers to a dry run that would have been allowed.
const dryRun = "DryRunOperation"

func (c clients) terminate(ids ...string) error {
	_, err := c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids, DryRun: aws.Bool(true)})
	return err
}

func (c clients) run(edit ...func(*ec2.RunInstancesInput)) error {
	in := &ec2.RunInstancesInput{ImageId: &c.ami, InstanceType: "t3.micro", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: &c.subnet, DryRun: aws.Bool(true)}
	for _, e := range edit {
		e(in)
	}
	_, err := c.ec2.RunInstances(ctx, in)
	return err
}

func (c clients) desired(group string) error {
	_, err := c.asg.SetDesiredCapacity(ctx, &autoscaling.SetDesiredCapacityInput{AutoScalingGroupName: &group, DesiredCapacity: aws.Int32(1)})
	return err
}

// launching is what AWS documents as needed for a launch, but for the instance itself.
const launching = "arn:aws:ec2:us-east-1::image/AMI arn:aws:ec2:us-east-1:000000000000:subnet/SUBNET arn:aws:ec2:us-east-1:000000000000:network-interface/* arn:aws:ec2:us-east-1:000000000000:security-group/SG arn:aws:ec2:us-east-1:000000000000:volume/*"

// TestPolicies: users with policies do what these allow, through the SDK.
func TestPolicies(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	const (
		instances = "arn:aws:ec2:us-east-1:000000000000:instance/"
		user      = "User: arn:aws:iam::000000000000:user/"
	)
	tagged := func(value string) func(*ec2.RunInstancesInput) {
		return func(in *ec2.RunInstancesInput) {
			in.TagSpecifications = []types.TagSpecification{{ResourceType: "instance", Tags: []types.Tag{{Key: p("Env"), Value: &value}}}}
		}
	}
	for _, tt := range []struct {
		name, statements string
		do               func(c clients) error
		code, text       string // of the error
	}{
		{"nothing allowed", "", func(c clients) error { return c.terminate(c.dev) }, "UnauthorizedOperation",
			"You are not authorized to perform this operation. " + user + "NAME is not authorized to perform: ec2:TerminateInstances on resource: " + instances + c.dev + " because no identity-based policy allows the ec2:TerminateInstances action"},
		{"by action", allow("ec2:TerminateInstances", "*"), func(c clients) error { return c.terminate(c.dev, c.prod) }, dryRun, ""},
		{"by wildcards, without regard to case", allow("EC2:Term*nstance?", "*"), func(c clients) error { return c.terminate(c.dev) }, dryRun, ""},
		{"another action", allow("ec2:Stop*", "*"), func(c clients) error { return c.terminate(c.dev) }, "UnauthorizedOperation", ""},
		{"by ARN", allow("ec2:*", instances+"DEV"), func(c clients) error { return c.terminate(c.dev) }, dryRun, ""},
		{"one of two", allow("ec2:*", instances+"DEV"), func(c clients) error { return c.terminate(c.dev, c.prod) }, "UnauthorizedOperation", instances + c.prod},
		{"another region", allow("ec2:*", "arn:aws:ec2:eu-west-1:000000000000:instance/*"), func(c clients) error { return c.terminate(c.dev) }, "UnauthorizedOperation", ""},
		{"all but one", allow("ec2:*", "*") + "," + deny("ec2:Terminate*", instances+"PROD"), func(c clients) error { return c.terminate(c.dev, c.prod) }, "UnauthorizedOperation", "with an explicit deny in an identity-based policy"},
		{"the others", allow("ec2:*", "*") + "," + deny("ec2:Terminate*", instances+"PROD"), func(c clients) error { return c.terminate(c.dev) }, dryRun, ""},
		{"by tag", allow("ec2:*", "*", `{"StringEquals":{"aws:ResourceTag/Env":"dev"}}`), func(c clients) error { return c.terminate(c.dev) }, dryRun, ""},
		{"by EC2's key for tags", allow("ec2:*", "*", `{"StringLike":{"ec2:ResourceTag/Env":"d*"}}`), func(c clients) error { return c.terminate(c.prod) }, "UnauthorizedOperation", c.prod},
		{"by type", allow("ec2:*", "*", `{"StringLike":{"ec2:InstanceType":"m5.*"}}`), func(c clients) error { return c.terminate(c.dev) }, "UnauthorizedOperation", ""},
		{"from here", allow("ec2:*", "*", `{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"},"StringEquals":{"aws:RequestedRegion":"us-east-1"},"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}`),
			func(c clients) error { return c.terminate(c.dev) }, dryRun, ""},
		{"from elsewhere", allow("ec2:*", "*", `{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`), func(c clients) error { return c.terminate(c.dev) }, "UnauthorizedOperation", ""},
		{"lists have no resources", allow("ec2:Describe*", instances+"DEV"), func(c clients) error {
			_, err := c.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{c.dev}})
			return err
		}, "UnauthorizedOperation", "on resource: * because"},
		{"what isn't there is denied first", "", func(c clients) error { return c.terminate("i-0123456789abcdef0") }, "UnauthorizedOperation", "i-0123456789abcdef0"},
		{"a rule's peer is no resource", allow("ec2:AuthorizeSecurityGroupIngress", "arn:aws:ec2:*:*:security-group/SG"), func(c clients) error {
			_, err := c.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &c.sg, DryRun: aws.Bool(true),
				IpPermissions: []types.IpPermission{{IpProtocol: p("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: p("sg-0123456789abcdef0")}}}}})
			return err
		}, dryRun, ""},
		{"a group by name", allow("ec2:*", "*") + "," + deny("ec2:Authorize*", "arn:aws:ec2:*:*:security-group/SG"), func(c clients) error {
			_, err := c.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupName: p("default"), IpProtocol: p("tcp"), FromPort: aws.Int32(1), ToPort: aws.Int32(1), CidrIp: p("0.0.0.0/0"), DryRun: aws.Bool(true)})
			return err
		}, "UnauthorizedOperation", "explicit deny"},
		{"making a VPC", allow("ec2:CreateVpc", "arn:aws:ec2:*:*:vpc/*"), func(c clients) error {
			_, err := c.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("10.0.0.0/16"), DryRun: aws.Bool(true)})
			return err
		}, dryRun, ""},
		{"making a subnet", allow("ec2:CreateSubnet", "arn:aws:ec2:*:*:subnet/* arn:aws:ec2:*:*:vpc/vpc-1"), func(c clients) error {
			_, err := c.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &c.vpc, CidrBlock: p("172.31.200.0/24"), DryRun: aws.Bool(true)})
			return err
		}, "UnauthorizedOperation", "vpc/" + c.vpc},
		{"a key pair by its name", allow("ec2:*KeyPair", "arn:aws:ec2:*:*:key-pair/mine-*"), func(c clients) error {
			_, err := c.ec2.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: p("yours")})
			return err
		}, "UnauthorizedOperation", "key-pair/yours"},

		{"a launch", allow("ec2:RunInstances", launching+" "+instances+"*"), func(c clients) error { return c.run() }, dryRun, ""},
		{"a launch elsewhere", allow("ec2:RunInstances", launching+" "+instances+"*"), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) { in.SubnetId = &c.other })
		}, "UnauthorizedOperation", "subnet/" + c.other},
		{"a launch with another image", allow("ec2:RunInstances", launching+" "+instances+"*"), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) { in.ImageId = p("ami-0123456789abcdef0") })
		}, "UnauthorizedOperation", "arn:aws:ec2:us-east-1::image/ami-0123456789abcdef0"},
		{"a launch with a key", allow("ec2:RunInstances", launching+" "+instances+"*"), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) { in.KeyName = p("k") })
		}, "UnauthorizedOperation", "key-pair/k"},
		{"a launch of an allowed type", allow("ec2:RunInstances", launching) + "," + allow("ec2:RunInstances", instances+"*", `{"StringEquals":{"ec2:InstanceType":["t3.micro"]}}`), func(c clients) error { return c.run() }, dryRun, ""},
		{"a launch of another type", allow("ec2:RunInstances", launching) + "," + allow("ec2:RunInstances", instances+"*", `{"StringEquals":{"ec2:InstanceType":["t3.micro"]}}`), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) { in.InstanceType = "m5.large" })
		}, "UnauthorizedOperation", instances + "*"},
		{"the subnet that is meant", allow("ec2:RunInstances", "*") + "," + deny("ec2:RunInstances", "arn:aws:ec2:*:*:subnet/OTHERNET"), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) {
				in.SubnetId, in.Placement = nil, &types.Placement{AvailabilityZone: p(region + "b")}
			})
		}, "UnauthorizedOperation", "subnet/" + c.other},
		{"a launch with tags", allow("ec2:RunInstances", "*"), func(c clients) error { return c.run(tagged("dev")) }, "UnauthorizedOperation", "ec2:CreateTags on resource: " + instances + "*"},
		{"tags at a launch", allow("ec2:RunInstances", "*") + "," + allow("ec2:CreateTags", "*", `{"StringEquals":{"ec2:CreateAction":"RunInstances"}}`), func(c clients) error { return c.run(tagged("dev")) }, dryRun, ""},
		{"a required tag", allow("ec2:RunInstances", launching) + "," + allow("ec2:CreateTags", "*") + "," + allow("ec2:RunInstances", instances+"*", `{"StringEquals":{"aws:RequestTag/Env":"dev"}}`), func(c clients) error { return c.run(tagged("dev")) }, dryRun, ""},
		{"the required tag with another value", allow("ec2:RunInstances", launching) + "," + allow("ec2:CreateTags", "*") + "," + allow("ec2:RunInstances", instances+"*", `{"StringEquals":{"aws:RequestTag/Env":"dev"}}`), func(c clients) error { return c.run(tagged("prod")) }, "UnauthorizedOperation", ""},
		{"a launch with a role", allow("ec2:*", "*"), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) {
				in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: p("web")}
			})
		}, "UnauthorizedOperation", "iam:PassRole on resource: arn:aws:iam::000000000000:role/web"},
		{"passing the role", allow("ec2:*", "*") + "," + allow("iam:PassRole", "arn:aws:iam::*:role/web", `{"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"}}`), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) {
				in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Arn: &c.profile}
			})
		}, dryRun, ""},
		{"the template's role", allow("ec2:*", "*"), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) {
				in.LaunchTemplate = &types.LaunchTemplateSpecification{LaunchTemplateId: &c.lt}
			})
		}, "UnauthorizedOperation", "iam:PassRole"},
		{"only through the template", allow("iam:PassRole", "*") + "," + allow("ec2:RunInstances", "*", `{"ArnLike":{"ec2:LaunchTemplate":"arn:aws:ec2:*:*:launch-template/TEMPLATE"}}`), func(c clients) error { return c.run() }, "UnauthorizedOperation", ""},
		{"through the template", allow("iam:PassRole", "*") + "," + allow("ec2:RunInstances", "*", `{"ArnLike":{"ec2:LaunchTemplate":"arn:aws:ec2:*:*:launch-template/TEMPLATE"}}`), func(c clients) error {
			return c.run(func(in *ec2.RunInstancesInput) {
				in.LaunchTemplate, in.ImageId, in.InstanceType = &types.LaunchTemplateSpecification{LaunchTemplateName: p("web")}, nil, ""
			})
		}, dryRun, ""},

		{"a group by its name", allow("autoscaling:*", "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/web"), func(c clients) error { return c.desired("web") }, "", ""},
		{"a group by its ARN", allow("autoscaling:SetDesiredCapacity", "GROUP"), func(c clients) error { return c.desired("web") }, "", ""},
		{"another group", allow("autoscaling:*", "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/web"), func(c clients) error { return c.desired("other") }, "AccessDenied",
			user + "NAME is not authorized to perform: autoscaling:SetDesiredCapacity on resource: arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:"},
		{"a group's maker launches", allow("autoscaling:*", "*"), func(c clients) error {
			_, err := c.asg.CreateAutoScalingGroup(ctx, groupInput("new", c.subnet))
			return err
		}, "AccessDenied", "ec2:RunInstances"},
		{"a group in a subnet", allow("autoscaling:* iam:PassRole", "*") + "," + allow("ec2:RunInstances", "*") + "," + deny("ec2:RunInstances", "arn:aws:ec2:*:*:subnet/OTHERNET"), func(c clients) error {
			_, err := c.asg.CreateAutoScalingGroup(ctx, groupInput("new", c.other))
			return err
		}, "AccessDenied", "subnet/" + c.other},
		{"a new group", allow("autoscaling:CreateAutoScalingGroup", "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/new*") + "," + allow("ec2:RunInstances iam:PassRole", "*"), func(c clients) error {
			_, err := c.asg.CreateAutoScalingGroup(ctx, groupInput("new1", c.subnet))
			return err
		}, "", ""},

		{"a launch configuration with a role", allow("autoscaling:*", "*"), func(c clients) error {
			_, err := c.asg.CreateLaunchConfiguration(ctx, &autoscaling.CreateLaunchConfigurationInput{LaunchConfigurationName: p("lc"), ImageId: &c.ami, InstanceType: p("t3.micro"), IamInstanceProfile: p("web")})
			return err
		}, "AccessDenied", "iam:PassRole on resource: arn:aws:iam::000000000000:role/web"},
		{"a launch configuration like an instance without one", allow("autoscaling:*", "*"), func(c clients) error {
			_, err := c.asg.CreateLaunchConfiguration(ctx, &autoscaling.CreateLaunchConfigurationInput{LaunchConfigurationName: p("lc"), InstanceId: &c.dev})
			return err
		}, "", ""},
		{"a refresh to a template", allow("autoscaling:*", "*"), func(c clients) error {
			_, err := c.asg.StartInstanceRefresh(ctx, &autoscaling.StartInstanceRefreshInput{AutoScalingGroupName: p("web"), DesiredConfiguration: &astypes.DesiredConfiguration{
				LaunchTemplate: &astypes.LaunchTemplateSpecification{LaunchTemplateName: p("web"), Version: p("1")}}})
			return err
		}, "AccessDenied", "ec2:RunInstances"},

		{"a load balancer by its ARN", allow("elasticloadbalancing:*", "BALANCER"), func(c clients) error {
			_, err := c.elb.SetIpAddressType(ctx, &elb.SetIpAddressTypeInput{LoadBalancerArn: &c.balancer, IpAddressType: "ipv4"})
			return err
		}, "", ""},
		{"another load balancer", allow("elasticloadbalancing:*", "arn:aws:elasticloadbalancing:*:*:loadbalancer/app/other/*"), func(c clients) error {
			_, err := c.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &c.balancer})
			return err
		}, "AccessDenied", "elasticloadbalancing:DeleteLoadBalancer on resource: " + c.balancer},
		{"a load balancer by its tag", allow("elasticloadbalancing:*", "*", `{"StringEquals":{"aws:ResourceTag/env":"prod"}}`), func(c clients) error {
			_, err := c.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &c.balancer})
			return err
		}, "AccessDenied", ""},
		{"a listener needs its load balancer", allow("elasticloadbalancing:*", "TARGETS"), func(c clients) error {
			_, err := c.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: &c.balancer, Port: aws.Int32(80), Protocol: "HTTP", DefaultActions: []elbtypes.Action{{Type: "forward", TargetGroupArn: &c.targets}}})
			return err
		}, "AccessDenied", c.balancer},
		{"a target group's name", allow("elasticloadbalancing:CreateTargetGroup", "arn:aws:elasticloadbalancing:*:*:targetgroup/mine-*/*"), func(c clients) error {
			_, err := c.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: p("mine-1"), Protocol: "HTTP", Port: aws.Int32(80), VpcId: &c.vpc})
			return err
		}, "", ""},
		{"tags of a target group", allow("elasticloadbalancing:CreateTargetGroup", "*"), func(c clients) error {
			_, err := c.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: p("t"), Protocol: "HTTP", Port: aws.Int32(80), VpcId: &c.vpc, Tags: []elbtypes.Tag{{Key: p("a"), Value: p("b")}}})
			return err
		}, "AccessDenied", "elasticloadbalancing:AddTags"},
		{"targets", allow("elasticloadbalancing:RegisterTargets", "TARGETS"), func(c clients) error {
			_, err := c.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &c.targets, Targets: []elbtypes.TargetDescription{{Id: &c.dev}}})
			return err
		}, "AccessDenied", "elasticloadbalancing:DeregisterTargets on resource: " + c.targets},

		{"oneself", allow("iam:*AccessKey*", "arn:aws:iam::*:user/${aws:username}"), func(c clients) error {
			_, err := c.iam.ListAccessKeys(ctx, nil)
			return err
		}, "", ""},
		{"another user", allow("iam:*AccessKey*", "arn:aws:iam::*:user/${aws:username}"), func(c clients) error {
			_, err := c.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: p("u0")})
			return err
		}, "AccessDenied", "iam:ListAccessKeys on resource: arn:aws:iam::000000000000:user/u0"},
		{"only this policy", allow("iam:AttachRolePolicy", "*", `{"ArnEquals":{"iam:PolicyARN":"arn:aws:iam::aws:policy/AmazonEC2ReadOnlyAccess"}}`), func(c clients) error {
			_, err := c.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: p("web"), PolicyArn: p("arn:aws:iam::aws:policy/AdministratorAccess")})
			return err
		}, "AccessDenied", "iam:AttachRolePolicy on resource: arn:aws:iam::000000000000:role/web"},
		{"who am I", deny("*", "*"), func(c clients) error {
			_, err := c.sts.GetCallerIdentity(ctx, nil)
			return err
		}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := "u" + strings.Map(func(r rune) rune {
				if r >= 'a' && r <= 'z' {
					return r
				}
				return -1
			}, tt.name)
			code, text := result(tt.do(c.user(name, tt.statements)))
			if code != tt.code || tt.text != "" && !strings.Contains(text, strings.ReplaceAll(tt.text, "NAME", name)) {
				t.Errorf("got %s %q, want %s %q", code, text, tt.code, tt.text)
			}
		})
	}
}

// TestRoles: a role's credentials may do what the role may and, if the session has policies, what these allow too; and
// sessions of one name do not limit each other.
func TestRoles(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.update(func(w *store.WriteTx) error {
		if _, err := identity.CreateRole(w, here.Account, identity.NewRole{Name: "ops", Trust: trust(`"AWS":"arn:aws:iam::000000000000:root"`)}); err != nil {
			return err
		}
		return identity.PutInline(w, identity.OfRole, here.Account, "ops", "p", c.doc(allow("ec2:*Instances", "*")))
	})
	ann := c.user("ann", allow("sts:AssumeRole", "arn:aws:iam::*:role/ops"))
	arn := p("arn:aws:iam::000000000000:role/ops")
	assume := func(policy *string) clients {
		t.Helper()
		got, err := ann.sts.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: arn, RoleSessionName: p("job"), Policy: policy})
		if err != nil {
			t.Fatal(err)
		}
		return c.as(*got.Credentials.AccessKeyId, *got.Credentials.SecretAccessKey, *got.Credentials.SessionToken)
	}
	whole, limited := assume(nil), assume(p(c.doc(allow("ec2:*", "arn:aws:ec2:*:*:instance/DEV"))))
	for _, tt := range []struct {
		name       string
		who        clients
		id, code   string
		text       string
		authorized bool
	}{
		{name: "its user may not", who: ann, id: c.dev, code: "UnauthorizedOperation", text: "user/ann"},
		{name: "the role may", who: whole, id: c.prod, code: dryRun},
		{name: "the limited session may here", who: limited, id: c.dev, code: dryRun},
		{name: "and not there", who: limited, id: c.prod, code: "UnauthorizedOperation", text: "assumed-role/ops/job is not authorized to perform: ec2:TerminateInstances on resource: arn:aws:ec2:us-east-1:000000000000:instance/" + c.prod + " because no session policy allows"},
	} {
		if code, text := result(tt.who.terminate(tt.id)); code != tt.code || !strings.Contains(text, tt.text) {
			t.Errorf("%s: got %s %q, want %s %q", tt.name, code, text, tt.code, tt.text)
		}
	}
	if code, _ := result(c.user("bob", "").assume(arn)); code != "AccessDenied" {
		t.Errorf("a user without the permission assumes the role: %s", code)
	}
	if code, _ := result(c.user("eve", allow("sts:*", "*", `{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`)).assume(arn)); code != "AccessDenied" {
		t.Errorf("a user assumes the role from elsewhere: %s", code)
	}
}

func (c clients) assume(arn *string) error {
	_, err := c.sts.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: arn, RoleSessionName: p("job")})
	return err
}

// TestInstanceRole: what a client inside an instance may do with the credentials of the metadata service, until the
// instance's sessions end.
func TestInstanceRole(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	var cr identity.Credentials
	c.update(func(w *store.WriteTx) (err error) {
		if err = identity.PutInline(w, identity.OfRole, here.Account, "web", "p", c.doc(allow("ec2:TerminateInstances", "*", `{"ArnEquals":{"ec2:SourceInstanceARN":"arn:aws:ec2:us-east-1:000000000000:instance/DEV"}}`))); err != nil {
			return err
		}
		cr, err = identity.InstanceCredentials(w, here, c.dev, c.profile)
		return err
	})
	me := c.as(cr.AccessKeyID, cr.Secret, cr.SessionToken)
	who, err := me.sts.GetCallerIdentity(ctx, nil)
	if err != nil || *who.Arn != "arn:aws:sts::000000000000:assumed-role/web/"+c.dev {
		t.Fatalf("who: %+v %v", who, err)
	}
	if code, text := result(me.terminate(c.prod)); code != dryRun {
		t.Errorf("what the role allows: %s %s", code, text)
	}
	_, err = me.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{c.prod}})
	if code, text := result(err); code != "UnauthorizedOperation" || !strings.Contains(text, "User: "+*who.Arn+" is not authorized to perform: ec2:StopInstances on resource: arn:aws:ec2:us-east-1:000000000000:instance/"+c.prod) {
		t.Errorf("what the role doesn't allow: %s %s", code, text)
	}
	c.update(func(w *store.WriteTx) error { identity.EndInstance(w, here, c.dev); return nil })
	if code, _ := result(me.terminate(c.prod)); code != "AuthFailure" {
		t.Errorf("after the instance's end: %s", code)
	}
}

// TestDecodedMessage: EC2's refusals carry what their account can decode, and nobody else can.
func TestDecodedMessage(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ann := c.user("ann", allow("sts:DecodeAuthorizationMessage", "*")+","+deny("ec2:Term*", "arn:aws:ec2:*:*:instance/DEV"))
	_, text := result(ann.terminate(c.dev))
	_, encoded, ok := strings.Cut(text, " Encoded authorization failure message: ")
	if !ok || strings.Contains(encoded, " ") {
		t.Fatalf("no message in %q", text)
	}
	got, err := ann.sts.DecodeAuthorizationMessage(ctx, &sts.DecodeAuthorizationMessageInput{EncodedMessage: &encoded})
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Allowed, ExplicitDeny bool
		Context               struct {
			Principal        struct{ ID, Name, ARN string }
			Action, Resource string
			Conditions       struct {
				Items []struct {
					Key    string
					Values struct{ Items []struct{ Value string } }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(*got.DecodedMessage), &m); err != nil {
		t.Fatal(err)
	}
	if m.Allowed || !m.ExplicitDeny || m.Context.Action != "ec2:TerminateInstances" || m.Context.Resource != "arn:aws:ec2:us-east-1:000000000000:instance/"+c.dev || m.Context.Principal.Name != "ann" {
		t.Errorf("decoded: %s", *got.DecodedMessage)
	}
	keys := map[string]string{}
	for _, i := range m.Context.Conditions.Items {
		keys[i.Key] = i.Values.Items[0].Value
	}
	if keys["aws:sourceip"] != "127.0.0.1" || keys["ec2:instancetype"] != "t3.micro" {
		t.Errorf("the conditions' keys: %v", keys)
	}
	for name, who := range map[string]clients{"another account's root": c.as("111122223333", "test", ""), "root with a changed message": c.as("skerry", "skerry", "")} {
		text := encoded
		if name != "another account's root" {
			text = "A" + encoded[1:] + "A"
		}
		_, err := who.sts.DecodeAuthorizationMessage(ctx, &sts.DecodeAuthorizationMessageInput{EncodedMessage: &text})
		if code, _ := result(err); code != "InvalidAuthorizationMessageException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = c.user("bob", "").sts.DecodeAuthorizationMessage(ctx, &sts.DecodeAuthorizationMessageInput{EncodedMessage: &encoded})
	if code, _ := result(err); code != "AccessDenied" {
		t.Errorf("who may not decode: %v", err)
	}
}
