package ec2api

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"skerry/internal/identity"
	"skerry/internal/store"
)

// TestReferenceNetwork walks the EC2 part of the reference architecture with the SDK, and takes it down again.
func TestReferenceNetwork(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ec := c.client()
	ctx := context.Background()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	wants := func(err error, code string) {
		t.Helper()
		if codeOf(err) != code {
			t.Errorf("%v, want %s", err, code)
		}
	}
	vpc, err := ec.CreateVpc(ctx, &sdk.CreateVpcInput{CidrBlock: aws.String("10.20.0.0/16"), TagSpecifications: []types.TagSpecification{{ResourceType: "vpc", Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("ref")}}}}})
	ok(err)
	id := vpc.Vpc.VpcId
	igw, err := ec.CreateInternetGateway(ctx, nil)
	ok(err)
	gw := igw.InternetGateway.InternetGatewayId
	_, err = ec.AttachInternetGateway(ctx, &sdk.AttachInternetGatewayInput{VpcId: id, InternetGatewayId: gw})
	ok(err)
	tables, err := ec.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{*id}}, {Name: aws.String("association.main"), Values: []string{"true"}}}})
	ok(err)
	if len(tables.RouteTables) != 1 {
		t.Fatalf("%d main tables", len(tables.RouteTables))
	}
	_, err = ec.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: tables.RouteTables[0].RouteTableId, DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: gw})
	ok(err)
	var subnets []string
	for n, z := range []string{"us-east-1a", "us-east-1b"} {
		sn, err := ec.CreateSubnet(ctx, &sdk.CreateSubnetInput{VpcId: id, AvailabilityZone: &z, CidrBlock: aws.String([]string{"10.20.10.0/24", "10.20.11.0/24"}[n])})
		ok(err)
		_, err = ec.ModifySubnetAttribute(ctx, &sdk.ModifySubnetAttributeInput{SubnetId: sn.Subnet.SubnetId, MapPublicIpOnLaunch: &types.AttributeBooleanValue{Value: aws.Bool(true)}})
		ok(err)
		subnets = append(subnets, *sn.Subnet.SubnetId)
	}
	lb, err := ec.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: aws.String("lb"), Description: aws.String("lb"), VpcId: id})
	ok(err)
	web, err := ec.CreateSecurityGroup(ctx, &sdk.CreateSecurityGroupInput{GroupName: aws.String("web"), Description: aws.String("web"), VpcId: id})
	ok(err)
	open := &sdk.AuthorizeSecurityGroupIngressInput{GroupId: lb.GroupId, IpPermissions: []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(80), ToPort: aws.Int32(80), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}}
	_, err = ec.AuthorizeSecurityGroupIngress(ctx, open)
	ok(err)
	_, err = ec.AuthorizeSecurityGroupIngress(ctx, open)
	wants(err, "InvalidPermission.Duplicate")
	if !strings.Contains(err.Error(), `the specified rule "peer: 0.0.0.0/0, TCP, from port: 80, to port: 80, ALLOW" already exists`) {
		t.Error(err)
	}
	_, err = ec.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{GroupId: web.GroupId, IpPermissions: []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(80), ToPort: aws.Int32(80),
		UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: lb.GroupId}}}}})
	ok(err)

	images, err := ec.DescribeImages(ctx, &sdk.DescribeImagesInput{Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"skerry-nano-*"}}}})
	ok(err)
	if len(images.Images) != 1 || *images.Images[0].ImageId != c.ami || images.Images[0].CreationDate == nil {
		t.Fatalf("images: %+v", images.Images)
	}
	key, err := ec.CreateKeyPair(ctx, &sdk.CreateKeyPairInput{KeyName: aws.String("ref"), KeyType: types.KeyTypeEd25519})
	ok(err)
	if !strings.HasPrefix(*key.KeyMaterial, "-----BEGIN OPENSSH PRIVATE KEY-----") {
		t.Errorf("key material %.40q", *key.KeyMaterial)
	}
	c.write(func(w *store.WriteTx) error {
		_, err := identity.CreateInstanceProfile(w, c.scope.Account, "ref", "/", nil)
		return err
	})
	lt, err := ec.CreateLaunchTemplate(ctx, &sdk.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("ref"), LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &c.ami, InstanceType: "t2.micro", KeyName: aws.String("ref"),
		SecurityGroupIds: []string{*web.GroupId}, IamInstanceProfile: &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: aws.String("ref")},
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: "required"}, Monitoring: &types.LaunchTemplatesMonitoringRequest{Enabled: aws.Bool(true)}, UserData: b64("#!/bin/sh\n"),
		TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{{ResourceType: "instance", Tags: []types.Tag{{Key: aws.String("from"), Value: aws.String("ref")}}}}}})
	ok(err)
	run, err := ec.RunInstances(ctx, &sdk.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(2), SubnetId: &subnets[1], LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: lt.LaunchTemplate.LaunchTemplateId, Version: aws.String("$Latest")}})
	ok(err)
	if len(run.Instances) != 2 || run.Instances[0].State.Name != "pending" {
		t.Fatalf("%+v", run.Instances)
	}
	c.settle()
	list, err := ec.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("tag:from"), Values: []string{"ref"}}, {Name: aws.String("instance-state-name"), Values: []string{"running"}}}})
	ok(err)
	if len(list.Reservations) != 1 || len(list.Reservations[0].Instances) != 2 {
		t.Fatalf("%+v", list.Reservations)
	}
	i := list.Reservations[0].Instances[0]
	if i.PublicIpAddress == nil || !strings.HasPrefix(*i.PrivateIpAddress, "10.20.11.") || *i.Placement.AvailabilityZone != "us-east-1b" || i.MetadataOptions.HttpTokens != "required" || i.Monitoring.State != "enabled" ||
		*i.KeyName != "ref" || i.IamInstanceProfile == nil || *i.SecurityGroups[0].GroupName != "web" || len(i.BlockDeviceMappings) != 1 || len(i.Tags) != 3 || i.NetworkInterfaces[0].Attachment.Status != "attached" {
		t.Errorf("instance %+v", i)
	}

	_, err = ec.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: lb.GroupId})
	wants(err, "DependencyViolation")
	_, err = ec.DetachInternetGateway(ctx, &sdk.DetachInternetGatewayInput{VpcId: id, InternetGatewayId: gw})
	wants(err, "DependencyViolation")
	_, err = ec.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*i.InstanceId, *list.Reservations[0].Instances[1].InstanceId}})
	ok(err)
	c.settle()
	_, err = ec.DeleteLaunchTemplate(ctx, &sdk.DeleteLaunchTemplateInput{LaunchTemplateId: lt.LaunchTemplate.LaunchTemplateId})
	ok(err)
	_, err = ec.DeleteKeyPair(ctx, &sdk.DeleteKeyPairInput{KeyName: aws.String("ref")})
	ok(err)
	for _, g := range []*string{web.GroupId, lb.GroupId} {
		_, err = ec.DeleteSecurityGroup(ctx, &sdk.DeleteSecurityGroupInput{GroupId: g})
		ok(err)
	}
	for _, sn := range subnets {
		_, err = ec.DeleteSubnet(ctx, &sdk.DeleteSubnetInput{SubnetId: &sn})
		ok(err)
	}
	_, err = ec.DetachInternetGateway(ctx, &sdk.DetachInternetGatewayInput{VpcId: id, InternetGatewayId: gw})
	ok(err)
	_, err = ec.DeleteInternetGateway(ctx, &sdk.DeleteInternetGatewayInput{InternetGatewayId: gw})
	ok(err)
	_, err = ec.DeleteVpc(ctx, &sdk.DeleteVpcInput{VpcId: id})
	ok(err)
	_, err = ec.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{VpcIds: []string{*id}})
	wants(err, "InvalidVpcID.NotFound")
	for tg := range storeTags(c) {
		if !strings.HasPrefix(tg, "i-") { // terminated instances stay described for an hour
			t.Errorf("a tag of %s is left", tg)
		}
	}
}
