package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"sort"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// The names of what the demo makes.
const (
	groupName = "skerry-demo"
	hostName  = "company.test"
)

// userData starts a web server that says where it runs, and a CGI program that costs some CPU a request.
const userData = `#!/bin/sh
md=http://169.254.169.254/latest
tok=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $md/api/token)
id=$(curl -s -H "X-aws-ec2-metadata-token: $tok" $md/meta-data/instance-id)
az=$(curl -s -H "X-aws-ec2-metadata-token: $tok" $md/meta-data/placement/availability-zone)
mkdir -p /srv/www/api /srv/www/images /srv/www/admin /srv/www/cgi-bin
for d in . api images admin; do echo "$d $id $az" >/srv/www/$d/index.html; done
cat >/srv/www/cgi-bin/work <<'CGI'
#!/bin/sh
i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
echo "Content-Type: text/plain"; echo; cat /srv/www/index.html
CGI
chmod +x /srv/www/cgi-bin/work
httpd -p 80 -h /srv/www
echo "web server of $id is up"
`

// clients are the SDK's clients for one endpoint.
type clients struct {
	ec2 *ec2.Client
	asg *autoscaling.Client
	elb *elb.Client
	cw  *cloudwatch.Client
	iam *iam.Client
	acm *acm.Client
}

func newClients(endpoint, region, keyID, secret string) clients {
	cfg := aws.Config{Region: region, BaseEndpoint: aws.String(endpoint), Credentials: credentials.NewStaticCredentialsProvider(keyID, secret, "")}
	return clients{ec2.NewFromConfig(cfg), autoscaling.NewFromConfig(cfg), elb.NewFromConfig(cfg), cloudwatch.NewFromConfig(cfg), iam.NewFromConfig(cfg), acm.NewFromConfig(cfg)}
}

// site is the built architecture: what the later phases need of it.
type site struct {
	albDNS, nlbDNS string
	targetGroup    string // of the ALB
	nlbTarget      string
	roots          *x509.CertPool
	zones          []string
}

// build makes the architecture of the demo and reports each step through say.
func build(ctx context.Context, c clients, region string, say func(string, ...any)) (*site, error) {
	s := &site{zones: []string{region + "a", region + "b"}}

	vpc, err := c.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.40.0.0/16")})
	if err != nil {
		return nil, err
	}
	vpcID := vpc.Vpc.VpcId
	igw, err := c.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	if err != nil {
		return nil, err
	}
	if _, err := c.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{VpcId: vpcID, InternetGatewayId: igw.InternetGateway.InternetGatewayId}); err != nil {
		return nil, err
	}
	tables, err := c.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []ec2types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{*vpcID}}, {Name: aws.String("association.main"), Values: []string{"true"}}}})
	if err != nil {
		return nil, err
	}
	if len(tables.RouteTables) != 1 {
		return nil, fmt.Errorf("the VPC has %d main route tables", len(tables.RouteTables))
	}
	if _, err := c.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: tables.RouteTables[0].RouteTableId,
		DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: igw.InternetGateway.InternetGatewayId}); err != nil {
		return nil, err
	}
	var subnets []string
	for i, z := range s.zones {
		sn, err := c.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpcID, AvailabilityZone: aws.String(z), CidrBlock: aws.String(fmt.Sprintf("10.40.%d.0/24", i))})
		if err != nil {
			return nil, err
		}
		subnets = append(subnets, *sn.Subnet.SubnetId)
		if _, err := c.ec2.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{SubnetId: sn.Subnet.SubnetId,
			MapPublicIpOnLaunch: &ec2types.AttributeBooleanValue{Value: aws.Bool(true)}}); err != nil {
			return nil, err
		}
	}
	say("network: %s over %s and %s", *vpcID, s.zones[0], s.zones[1])

	lbGroup, err := securityGroup(ctx, c, *vpcID, "demo-lb", permission(80, "0.0.0.0/0", ""), permission(443, "0.0.0.0/0", ""))
	if err != nil {
		return nil, err
	}
	webGroup, err := securityGroup(ctx, c, *vpcID, "demo-web", permission(80, "", lbGroup), permission(80, "10.40.0.0/16", ""), permission(22, "203.0.113.10/32", ""))
	if err != nil {
		return nil, err
	}
	say("security groups: %s open on 80 and 443; %s from the load balancers, SSH from 203.0.113.10", lbGroup, webGroup)

	template, err := launchTemplate(ctx, c, webGroup)
	if err != nil {
		return nil, err
	}
	say("launch template %s: skerry-nano, t2.micro, user data, role", template)

	if err := loadBalancers(ctx, c, s, *vpcID, subnets, lbGroup); err != nil {
		return nil, err
	}
	say("load balancers: https://%s, tcp %s:8080", s.albDNS, s.nlbDNS)
	return s, autoScalingGroup(ctx, c, s, template, subnets)
}

func permission(port int32, cidr, group string) ec2types.IpPermission {
	p := ec2types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(port), ToPort: aws.Int32(port)}
	if cidr != "" {
		p.IpRanges = []ec2types.IpRange{{CidrIp: aws.String(cidr)}}
	} else {
		p.UserIdGroupPairs = []ec2types.UserIdGroupPair{{GroupId: aws.String(group)}}
	}
	return p
}

func securityGroup(ctx context.Context, c clients, vpc, name string, ps ...ec2types.IpPermission) (string, error) {
	g, err := c.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String(name), Description: aws.String(name), VpcId: aws.String(vpc)})
	if err != nil {
		return "", err
	}
	_, err = c.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: ps})
	return *g.GroupId, err
}

func launchTemplate(ctx context.Context, c clients, webGroup string) (string, error) {
	images, err := c.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{Filters: []ec2types.Filter{{Name: aws.String("name"), Values: []string{"skerry-nano-*"}}}})
	if err != nil {
		return "", err
	}
	if len(images.Images) == 0 {
		return "", fmt.Errorf("the cloud has no skerry-nano image")
	}
	sort.Slice(images.Images, func(i, j int) bool { return *images.Images[i].CreationDate > *images.Images[j].CreationDate })
	if _, err := c.ec2.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String(groupName), KeyType: ec2types.KeyTypeEd25519}); err != nil {
		return "", err
	}
	if _, err := c.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String(groupName), AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)}); err != nil {
		return "", err
	}
	if _, err := c.iam.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String(groupName)}); err != nil {
		return "", err
	}
	if _, err := c.iam.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String(groupName), RoleName: aws.String(groupName)}); err != nil {
		return "", err
	}
	t, err := c.ec2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String(groupName), LaunchTemplateData: &ec2types.RequestLaunchTemplateData{
		ImageId: images.Images[0].ImageId, InstanceType: ec2types.InstanceTypeT2Micro, KeyName: aws.String(groupName), SecurityGroupIds: []string{webGroup},
		IamInstanceProfile: &ec2types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: aws.String(groupName)},
		MetadataOptions:    &ec2types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: ec2types.LaunchTemplateHttpTokensStateRequired},
		Monitoring:         &ec2types.LaunchTemplatesMonitoringRequest{Enabled: aws.Bool(true)},
		UserData:           aws.String(base64.StdEncoding.EncodeToString([]byte(userData))),
	}})
	if err != nil {
		return "", err
	}
	return *t.LaunchTemplate.LaunchTemplateId, nil
}

// certificate makes a self-signed certificate for the site, and the pool that trusts it.
func certificate() (certPEM, keyPEM []byte, roots *x509.CertPool, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: hostName}, DNSNames: []string{hostName, "*." + hostName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, nil, nil, err
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, nil, err
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}), roots, nil
}

func targetGroup(ctx context.Context, c clients, name, vpc string, proto elbtypes.ProtocolEnum) (string, error) {
	tg, err := c.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: aws.String(name), Protocol: proto, Port: aws.Int32(80), VpcId: aws.String(vpc),
		HealthCheckIntervalSeconds: aws.Int32(5), HealthCheckTimeoutSeconds: aws.Int32(2), HealthyThresholdCount: aws.Int32(2), UnhealthyThresholdCount: aws.Int32(2)})
	if err != nil {
		return "", err
	}
	arn := *tg.TargetGroups[0].TargetGroupArn
	_, err = c.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &arn, Attributes: []elbtypes.TargetGroupAttribute{
		{Key: aws.String("deregistration_delay.timeout_seconds"), Value: aws.String("10")}}})
	return arn, err
}

func loadBalancers(ctx context.Context, c clients, s *site, vpc string, subnets []string, lbGroup string) error {
	certPEM, keyPEM, roots, err := certificate()
	if err != nil {
		return err
	}
	s.roots = roots
	cert, err := c.acm.ImportCertificate(ctx, &acm.ImportCertificateInput{Certificate: certPEM, PrivateKey: keyPEM})
	if err != nil {
		return err
	}
	alb, err := c.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String("demo-alb"), Subnets: subnets, SecurityGroups: []string{lbGroup}})
	if err != nil {
		return err
	}
	albARN := alb.LoadBalancers[0].LoadBalancerArn
	s.albDNS = *alb.LoadBalancers[0].DNSName
	if s.targetGroup, err = targetGroup(ctx, c, "demo-web", vpc, elbtypes.ProtocolEnumHttp); err != nil {
		return err
	}
	if _, err := c.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &s.targetGroup, Attributes: []elbtypes.TargetGroupAttribute{
		{Key: aws.String("stickiness.enabled"), Value: aws.String("true")}, {Key: aws.String("stickiness.type"), Value: aws.String("lb_cookie")}}}); err != nil {
		return err
	}
	if _, err := c.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: albARN, Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumRedirect, RedirectConfig: &elbtypes.RedirectActionConfig{
			Protocol: aws.String("HTTPS"), Port: aws.String("443"), StatusCode: elbtypes.RedirectActionStatusCodeEnumHttp301}}}}); err != nil {
		return err
	}
	forward := []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &s.targetGroup}}
	https, err := c.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: albARN, Protocol: elbtypes.ProtocolEnumHttps, Port: aws.Int32(443),
		Certificates: []elbtypes.Certificate{{CertificateArn: cert.CertificateArn}}, DefaultActions: forward})
	if err != nil {
		return err
	}
	for i, path := range []string{"/api/*", "/images/*", "/admin/*"} {
		if _, err := c.elb.CreateRule(ctx, &elb.CreateRuleInput{ListenerArn: https.Listeners[0].ListenerArn, Priority: aws.Int32(int32(10 + i)), Actions: forward,
			Conditions: []elbtypes.RuleCondition{{Field: aws.String("path-pattern"), Values: []string{path}}}}); err != nil {
			return err
		}
	}
	if _, err := c.elb.CreateRule(ctx, &elb.CreateRuleInput{ListenerArn: https.Listeners[0].ListenerArn, Priority: aws.Int32(20),
		Conditions: []elbtypes.RuleCondition{{Field: aws.String("host-header"), Values: []string{"blog." + hostName}}},
		Actions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumRedirect, RedirectConfig: &elbtypes.RedirectActionConfig{
			Host: aws.String("www." + hostName), Path: aws.String("/blog/#{path}"), StatusCode: elbtypes.RedirectActionStatusCodeEnumHttp302}}}}); err != nil {
		return err
	}

	nlb, err := c.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String("demo-nlb"), Type: elbtypes.LoadBalancerTypeEnumNetwork, Subnets: subnets})
	if err != nil {
		return err
	}
	s.nlbDNS = *nlb.LoadBalancers[0].DNSName
	tcp, err := targetGroup(ctx, c, "demo-tcp", vpc, elbtypes.ProtocolEnumTcp)
	if err != nil {
		return err
	}
	_, err = c.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: nlb.LoadBalancers[0].LoadBalancerArn, Protocol: elbtypes.ProtocolEnumTcp, Port: aws.Int32(8080),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &tcp}}})
	s.nlbTarget = tcp
	return err
}

func autoScalingGroup(ctx context.Context, c clients, s *site, template string, subnets []string) error {
	name := aws.String(groupName)
	if _, err := c.asg.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: name, MinSize: aws.Int32(2), MaxSize: aws.Int32(10), DesiredCapacity: aws.Int32(2),
		LaunchTemplate:    &astypes.LaunchTemplateSpecification{LaunchTemplateId: &template, Version: aws.String("$Latest")},
		VPCZoneIdentifier: aws.String(subnets[0] + "," + subnets[1]), TargetGroupARNs: []string{s.targetGroup, s.nlbTarget},
		HealthCheckType: aws.String("ELB"), HealthCheckGracePeriod: aws.Int32(60),
		LifecycleHookSpecificationList: []astypes.LifecycleHookSpecification{{LifecycleHookName: aws.String("welcome"),
			LifecycleTransition: aws.String("autoscaling:EC2_INSTANCE_LAUNCHING"), HeartbeatTimeout: aws.Int32(300), DefaultResult: aws.String("CONTINUE")}},
		Tags: []astypes.Tag{{Key: aws.String("Name"), Value: aws.String("demo"), PropagateAtLaunch: aws.Bool(true)}},
	}); err != nil {
		return err
	}
	if _, err := c.asg.PutScalingPolicy(ctx, &autoscaling.PutScalingPolicyInput{AutoScalingGroupName: name, PolicyName: aws.String("cpu50"), PolicyType: aws.String("TargetTrackingScaling"),
		EstimatedInstanceWarmup: aws.Int32(60), TargetTrackingConfiguration: &astypes.TargetTrackingConfiguration{TargetValue: aws.Float64(cpuTarget),
			PredefinedMetricSpecification: &astypes.PredefinedMetricSpecification{PredefinedMetricType: astypes.MetricTypeASGAverageCPUUtilization}}}); err != nil {
		return err
	}
	_, err := c.asg.PutScheduledUpdateGroupAction(ctx, &autoscaling.PutScheduledUpdateGroupActionInput{AutoScalingGroupName: name, ScheduledActionName: aws.String("friday"),
		Recurrence: aws.String("0 18 * * 5"), MinSize: aws.Int32(4), MaxSize: aws.Int32(10), DesiredCapacity: aws.Int32(4)})
	return err
}
