package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

const webScript = "#!/bin/sh\nmkdir -p /srv/www; echo hello >/srv/www/index.html; httpd -p 80 -h /srv/www\n"

// benchReplace: from the call of TerminateInstances to a healthy replacement behind the ALB, in real time.
func benchReplace(ctx context.Context) ([]row, error) {
	dir := tempDir()
	defer down(dir)
	c, _, err := up(dir, "127.94.0.0/16", "--time-scale", "1")
	if err != nil {
		return nil, err
	}
	tg, err := c.buildGroup(ctx)
	if err != nil {
		return nil, err
	}
	healthy, err := c.waitHealthy(ctx, tg, 2, nil)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for range 7 {
		start := time.Now()
		victim := healthy[0]
		if _, err := c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{victim}}); err != nil {
			return nil, err
		}
		if healthy, err = c.waitHealthy(ctx, tg, 2, []string{victim}); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return []row{limitRow("TerminateInstances to the replacement healthy behind the ALB", took, 5*time.Second)}, nil
}

// buildGroup makes an ALB and a group of two behind it, in the default VPC.
func (c *testCloud) buildGroup(ctx context.Context) (targetGroup string, err error) {
	image, err := c.image(ctx)
	if err != nil {
		return "", err
	}
	subnets, err := c.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{{Name: aws.String("default-for-az"), Values: []string{"true"}},
		{Name: aws.String("availability-zone"), Values: []string{region + "a", region + "b"}}}})
	if err != nil {
		return "", err
	}
	if len(subnets.Subnets) != 2 {
		return "", fmt.Errorf("%d default subnets", len(subnets.Subnets))
	}
	vpc := *subnets.Subnets[0].VpcId
	ids := []string{*subnets.Subnets[0].SubnetId, *subnets.Subnets[1].SubnetId}
	sg, err := c.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("web"), Description: aws.String("web"), VpcId: &vpc})
	if err != nil {
		return "", err
	}
	if _, err := c.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: sg.GroupId, IpProtocol: aws.String("tcp"),
		FromPort: aws.Int32(80), ToPort: aws.Int32(80), CidrIp: aws.String("0.0.0.0/0")}); err != nil {
		return "", err
	}
	lt, err := c.ec2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("web"), LaunchTemplateData: &types.RequestLaunchTemplateData{
		ImageId: &image, InstanceType: types.InstanceTypeT2Micro, SecurityGroupIds: []string{*sg.GroupId},
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(webScript)))}})
	if err != nil {
		return "", err
	}
	lb, err := c.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String("web"), Subnets: ids, SecurityGroups: []string{*sg.GroupId}})
	if err != nil {
		return "", err
	}
	tg, err := c.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: aws.String("web"), Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80), VpcId: &vpc,
		HealthCheckIntervalSeconds: aws.Int32(5), HealthCheckTimeoutSeconds: aws.Int32(2), HealthyThresholdCount: aws.Int32(2), UnhealthyThresholdCount: aws.Int32(2)})
	if err != nil {
		return "", err
	}
	targetGroup = *tg.TargetGroups[0].TargetGroupArn
	if _, err := c.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &targetGroup, Attributes: []elbtypes.TargetGroupAttribute{
		{Key: aws.String("deregistration_delay.timeout_seconds"), Value: aws.String("5")}}}); err != nil {
		return "", err
	}
	if _, err := c.elb.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &targetGroup}}}); err != nil {
		return "", err
	}
	_, err = c.asg.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: aws.String("web"), MinSize: aws.Int32(2), MaxSize: aws.Int32(4), DesiredCapacity: aws.Int32(2),
		LaunchTemplate: &astypes.LaunchTemplateSpecification{LaunchTemplateId: lt.LaunchTemplate.LaunchTemplateId, Version: aws.String("$Latest")}, VPCZoneIdentifier: aws.String(ids[0] + "," + ids[1]),
		TargetGroupARNs: []string{targetGroup}, HealthCheckType: aws.String("ELB"), HealthCheckGracePeriod: aws.Int32(60)})
	return targetGroup, err
}

// waitHealthy waits until n targets are healthy, the excluded ones not counted, and returns them.
func (c *testCloud) waitHealthy(ctx context.Context, tg string, n int, except []string) ([]string, error) {
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		out, err := c.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &tg})
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, d := range out.TargetHealthDescriptions {
			id := aws.ToString(d.Target.Id)
			if d.TargetHealth.State == elbtypes.TargetHealthStateEnumHealthy && !(len(except) > 0 && except[0] == id) {
				ids = append(ids, id)
			}
		}
		if len(ids) >= n {
			return ids, nil
		}
	}
	return nil, fmt.Errorf("no %d healthy targets in time", n)
}
