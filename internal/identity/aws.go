package identity

import (
	"encoding/json"
	"time"

	"skerry/internal/scope"
)

// awsAccount stands in the ARN of AWS's own policies for an account.
const awsAccount = "aws"

// grant is one statement of a policy of AWS: what it allows on everything, or everything but.
type grant struct {
	allow, but []string
}

// The policies of AWS that this cloud offers: their names and what they allow, as far as services are served here or are
// known by name.
var awsPolicies = []struct {
	name, path, description string
	grants                  []grant
}{
	{"AdministratorAccess", "/", "Provides full access to AWS services and resources.", []grant{{allow: []string{"*"}}}},
	{"PowerUserAccess", "/", "Provides full access to AWS services and resources, but does not allow management of Users and groups.",
		[]grant{{but: []string{"iam:*", "organizations:*", "account:*"}},
			{allow: []string{"iam:CreateServiceLinkedRole", "iam:DeleteServiceLinkedRole", "iam:ListRoles", "organizations:DescribeOrganization", "account:ListRegions"}}}},
	{"ReadOnlyAccess", "/", "Provides read-only access to AWS services and resources.",
		[]grant{{allow: []string{"acm:Describe*", "acm:Get*", "acm:List*", "autoscaling:Describe*", "autoscaling:GetPredictiveScalingForecast",
			"cloudwatch:Describe*", "cloudwatch:Get*", "cloudwatch:List*", "ec2:Describe*", "ec2:Get*", "ec2:List*", "ec2:SearchTransitGatewayRoutes",
			"elasticloadbalancing:Describe*", "elasticloadbalancing:Get*", "iam:Get*", "iam:List*", "iam:GenerateCredentialReport", "iam:Simulate*",
			"sts:GetAccessKeyInfo", "sts:GetCallerIdentity", "sts:GetSessionToken", "tag:Get*"}}}},
	{"SecurityAudit", "/", "The security audit template grants access to read security configuration metadata.",
		[]grant{{allow: []string{"acm:Describe*", "acm:List*", "autoscaling:Describe*", "cloudwatch:Describe*", "cloudwatch:List*", "ec2:Describe*",
			"elasticloadbalancing:Describe*", "iam:Get*", "iam:List*", "iam:Simulate*"}}}},
	{"IAMFullAccess", "/", "Provides full access to IAM.", []grant{{allow: []string{"iam:*"}}}},
	{"IAMReadOnlyAccess", "/", "Provides read only access to IAM.", []grant{{allow: []string{"iam:Get*", "iam:List*", "iam:GenerateCredentialReport", "iam:Simulate*"}}}},
	{"AmazonEC2FullAccess", "/", "Provides full access to Amazon EC2.",
		[]grant{{allow: []string{"ec2:*", "elasticloadbalancing:*", "cloudwatch:*", "autoscaling:*", "iam:CreateServiceLinkedRole"}}}},
	{"AmazonEC2ReadOnlyAccess", "/", "Provides read only access to Amazon EC2.",
		[]grant{{allow: []string{"ec2:Describe*", "ec2:GetSecurityGroupsForVpc", "elasticloadbalancing:Describe*", "cloudwatch:ListMetrics",
			"cloudwatch:GetMetricStatistics", "cloudwatch:Describe*", "autoscaling:Describe*"}}}},
	{"AmazonVPCFullAccess", "/", "Provides full access to Amazon VPC.",
		[]grant{{allow: []string{"ec2:*Address*", "ec2:*DhcpOptions*", "ec2:*InternetGateway*", "ec2:*NetworkAcl*", "ec2:*NetworkInterface*", "ec2:*Route*",
			"ec2:*SecurityGroup*", "ec2:*Subnet*", "ec2:*Vpc*", "ec2:*NatGateway*", "ec2:CreateTags", "ec2:DeleteTags", "ec2:DescribeTags",
			"ec2:DescribeAvailabilityZones", "ec2:DescribeAccountAttributes", "ec2:DescribeInstances", "ec2:DescribeKeyPairs"}}}},
	{"AutoScalingFullAccess", "/", "Provides full access to Auto Scaling.",
		[]grant{{allow: []string{"autoscaling:*", "cloudwatch:PutMetricAlarm", "ec2:DescribeAccountAttributes", "ec2:DescribeAvailabilityZones",
			"ec2:DescribeImages", "ec2:DescribeInstanceAttribute", "ec2:DescribeInstances", "ec2:DescribeKeyPairs", "ec2:DescribeLaunchTemplateVersions",
			"ec2:DescribePlacementGroups", "ec2:DescribeSecurityGroups", "ec2:DescribeSpotInstanceRequests", "ec2:DescribeSubnets", "ec2:DescribeVpcClassicLink",
			"elasticloadbalancing:DescribeLoadBalancers", "elasticloadbalancing:DescribeTargetGroups", "iam:CreateServiceLinkedRole"}}}},
	{"AutoScalingReadOnlyAccess", "/", "Provides read-only access to Auto Scaling.", []grant{{allow: []string{"autoscaling:Describe*"}}}},
	{"ElasticLoadBalancingFullAccess", "/", "Provides full access to Amazon ElasticLoadBalancing.",
		[]grant{{allow: []string{"elasticloadbalancing:*", "ec2:DescribeAccountAttributes", "ec2:DescribeAddresses", "ec2:DescribeInternetGateways",
			"ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs", "ec2:DescribeVpcClassicLink", "ec2:DescribeInstances",
			"ec2:DescribeNetworkInterfaces", "ec2:DescribeClassicLinkInstances", "ec2:DescribeRouteTables", "ec2:DescribeCoipPools",
			"ec2:GetCoipPoolUsage", "ec2:DescribeVpcPeeringConnections", "cognito-idp:DescribeUserPoolClient", "iam:CreateServiceLinkedRole"}}}},
	{"ElasticLoadBalancingReadOnly", "/", "Provides read only access to Amazon ElasticLoadBalancing and dependent services.",
		[]grant{{allow: []string{"elasticloadbalancing:Describe*", "elasticloadbalancing:Get*", "ec2:DescribeInstances", "ec2:DescribeClassicLinkInstances", "ec2:DescribeSecurityGroups"}}}},
	{"CloudWatchFullAccess", "/", "Provides full access to CloudWatch.",
		[]grant{{allow: []string{"autoscaling:Describe*", "cloudwatch:*", "logs:*", "sns:*", "iam:GetPolicy", "iam:GetPolicyVersion", "iam:GetRole", "oam:ListSinks", "iam:CreateServiceLinkedRole"}}}},
	{"CloudWatchReadOnlyAccess", "/", "Provides read only access to CloudWatch.",
		[]grant{{allow: []string{"autoscaling:Describe*", "cloudwatch:Describe*", "cloudwatch:Get*", "cloudwatch:List*", "logs:Get*", "logs:Describe*", "logs:FilterLogEvents", "sns:Get*", "sns:List*"}}}},
	{"CloudWatchAgentServerPolicy", "/", "Permissions required to use AmazonCloudWatchAgent on servers.",
		[]grant{{allow: []string{"cloudwatch:PutMetricData", "ec2:DescribeVolumes", "ec2:DescribeTags", "logs:PutLogEvents", "logs:PutRetentionPolicy",
			"logs:DescribeLogStreams", "logs:DescribeLogGroups", "logs:CreateLogStream", "logs:CreateLogGroup", "ssm:GetParameter"}}}},
	{"AWSCertificateManagerFullAccess", "/", "Provides full access to AWS Certificate Manager (ACM).", []grant{{allow: []string{"acm:*"}}}},
	{"AWSCertificateManagerReadOnly", "/", "Provides read only access to AWS Certificate Manager (ACM).",
		[]grant{{allow: []string{"acm:DescribeCertificate", "acm:ListCertificates", "acm:GetCertificate", "acm:ListTagsForCertificate", "acm:GetAccountConfiguration"}}}},
	{"AmazonSSMManagedInstanceCore", "/", "The policy for Amazon EC2 Role to enable AWS Systems Manager service core functionality.",
		[]grant{{allow: []string{"ssm:DescribeAssociation", "ssm:GetDeployablePatchSnapshotForInstance", "ssm:GetDocument", "ssm:DescribeDocument", "ssm:GetManifest",
			"ssm:GetParameter", "ssm:GetParameters", "ssm:ListAssociations", "ssm:ListInstanceAssociations", "ssm:PutInventory", "ssm:PutComplianceItems",
			"ssm:PutConfigurePackageResult", "ssm:UpdateAssociationStatus", "ssm:UpdateInstanceAssociationStatus", "ssm:UpdateInstanceInformation",
			"ssmmessages:*", "ec2messages:*"}}}},
	{"AmazonS3ReadOnlyAccess", "/", "Provides read only access to all buckets.", []grant{{allow: []string{"s3:Get*", "s3:List*", "s3:Describe*"}}}},
	{"AmazonS3FullAccess", "/", "Provides full access to all buckets.", []grant{{allow: []string{"s3:*"}}}},
}

var awsManaged = buildAWS()

// AWSPolicies lists AWS's own policies by ARN.
func AWSPolicies() []ManagedPolicy {
	out := make([]ManagedPolicy, 0, len(awsManaged))
	for _, p := range awsPolicies {
		out = append(out, awsManaged["arn:aws:iam::aws:policy"+p.path+p.name])
	}
	return out
}

func buildAWS() map[string]ManagedPolicy {
	m := map[string]ManagedPolicy{}
	at := time.Date(2015, 2, 6, 18, 39, 46, 0, time.UTC)
	for n, p := range awsPolicies {
		type statement struct {
			Effect    string
			Action    []string `json:",omitempty"`
			NotAction []string `json:",omitempty"`
			Resource  string
		}
		doc := struct {
			Version   string
			Statement []statement
		}{Version: "2012-10-17"}
		for _, g := range p.grants {
			doc.Statement = append(doc.Statement, statement{Effect: "Allow", Action: g.allow, NotAction: g.but, Resource: "*"})
		}
		text, err := json.Marshal(doc)
		if err != nil {
			panic(err)
		}
		id := []byte("ANPASKERRYAWSPOLICYAA")
		id[19], id[20] = idAlphabet[n/26%26], idAlphabet[n%26]
		v := ManagedPolicy{Entity: Entity{Scope: scope.Scope{Account: awsAccount, Region: scope.Global}, Name: p.name, Path: p.path, ID: string(id), CreatedAt: at},
			Description: p.description, Versions: []Version{{"v1", string(text), at}}, Default: "v1", Last: 1, UpdatedAt: at}
		m[v.ARN()] = v
	}
	return m
}
