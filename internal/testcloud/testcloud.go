// Package testcloud runs whole clouds for tests and benches: each in a directory of its own, with a port and a public pool
// of its own and no way out, through the binary as users run it, and takes them down again. Clients are the AWS SDK's.
//
// Nothing but tests and benches imports it.
package testcloud

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"skerry/internal/awsclient"
)

// Region is where tests build.
const Region = "us-east-1"

// waitLimit bounds every single wait.
const waitLimit = 2 * time.Minute

// Cloud is a running cloud.
type Cloud struct {
	Dir, Binary, Listen string
	EC2                 *ec2.Client
	ASG                 *autoscaling.Client
	ELB                 *elb.Client
	args                []string
}

// New prepares a cloud in a new directory; pool is its public pool, args are more of `skerry up`.
func New(binary, pool string, args ...string) (*Cloud, error) {
	dir, err := os.MkdirTemp("", "skerry-test-")
	if err != nil {
		return nil, err
	}
	listen, err := freePort()
	if err != nil {
		return nil, err
	}
	cfg := awsclient.Config("http://"+listen, Region, "skerry", "skerry", "")
	cfg.RetryMaxAttempts = 10
	return &Cloud{Dir: dir, Binary: binary, Listen: listen, EC2: ec2.NewFromConfig(cfg), ASG: autoscaling.NewFromConfig(cfg), ELB: elb.NewFromConfig(cfg),
		args: append([]string{"up", "--data-dir", dir, "--listen", listen, "--public-pool", pool, "--egress", "none", "--no-hosts-file", "--detach"}, args...)}, nil
}

// freePort finds an address to listen on that stays free until it is used, and while the control plane is away: its port is
// none of those that the kernel gives to outgoing connections.
func freePort() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", errors.New("no free port on 127.0.0.1")
}

// Up starts the control plane and returns how long it took to be ready.
func (c *Cloud) Up() (time.Duration, error) {
	start := time.Now()
	out, err := exec.Command(c.Binary, c.args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("up: %w: %s", err, out)
	}
	return time.Since(start), nil
}

// Down takes the cloud down and removes it.
func (c *Cloud) Down() error {
	if out, err := exec.Command(c.Binary, "down", "--data-dir", c.Dir, "--purge").CombinedOutput(); err != nil {
		return fmt.Errorf("down: %w: %s", err, out)
	}
	return nil
}

// PID finds the control plane's process, or with a zone that zone's data plane; 0 when there is none.
func (c *Cloud) PID(zone string) int {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		cmd, _ := os.ReadFile(p + "/cmdline")
		args := strings.Split(string(cmd), "\x00")
		if len(args) < 2 || !slices.Contains(args, c.Dir) || slices.Contains(args, "--detach") {
			continue
		}
		if zone == "" && args[1] == "up" || zone != "" && args[1] == "zone" && slices.Contains(args, zone) {
			pid, _ := strconv.Atoi(filepath.Base(p))
			return pid
		}
	}
	return 0
}

// Kill ends the control plane (or a zone's data plane) with SIGKILL and waits until it is gone.
func (c *Cloud) Kill(zone string) error {
	pid := c.PID(zone)
	if pid == 0 {
		return errors.New("no such process")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for range 10000 {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(b), ") Z ") {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errors.New("the process does not end")
}

// ResidentMiB is the resident memory of the control plane.
func (c *Cloud) ResidentMiB() int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID("")))
	for _, l := range strings.Split(string(status), "\n") {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.Atoi(f[1])
			return kib / 1024
		}
	}
	return -1
}

// WebScript is user data that serves a page on port 80, at every boot: a plain script runs at the first one only, and an
// instance that a warm pool stops and starts would serve nothing.
const WebScript = "#cloud-boothook\n#!/bin/sh\nmkdir -p /srv/www; echo hello >/srv/www/index.html; httpd -p 80 -h /srv/www\n"

// Image returns the id of the nano image.
func (c *Cloud) Image(ctx context.Context) (string, error) {
	out, err := c.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"skerry-nano-*"}}}})
	if err != nil {
		return "", err
	}
	if len(out.Images) == 0 {
		return "", fmt.Errorf("no nano image")
	}
	return *out.Images[0].ImageId, nil
}

// Terminate terminates instances and waits until they are.
func (c *Cloud) Terminate(ctx context.Context, ids []string) error {
	if _, err := c.EC2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}); err != nil {
		return err
	}
	return c.WaitState(ctx, ids, types.InstanceStateNameTerminated)
}

// WaitState waits until all of the instances are in a state.
func (c *Cloud) WaitState(ctx context.Context, ids []string, want types.InstanceStateName) error {
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		out, err := c.EC2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids})
		if err != nil {
			return err
		}
		n := 0
		for _, r := range out.Reservations {
			for _, i := range r.Instances {
				if i.State.Name == want {
					n++
				}
			}
		}
		if n == len(ids) {
			return nil
		}
	}
	return fmt.Errorf("not all %s in time", want)
}

// BuildGroup makes an ALB and a group of two behind it, in the default VPC.
func (c *Cloud) BuildGroup(ctx context.Context) (targetGroup, balancer string, err error) {
	image, err := c.Image(ctx)
	if err != nil {
		return "", "", err
	}
	subnets, err := c.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{{Name: aws.String("default-for-az"), Values: []string{"true"}},
		{Name: aws.String("availability-zone"), Values: []string{Region + "a", Region + "b"}}}})
	if err != nil {
		return "", "", err
	}
	if len(subnets.Subnets) != 2 {
		return "", "", fmt.Errorf("%d default subnets", len(subnets.Subnets))
	}
	vpc := *subnets.Subnets[0].VpcId
	ids := []string{*subnets.Subnets[0].SubnetId, *subnets.Subnets[1].SubnetId}
	sg, err := c.EC2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("web"), Description: aws.String("web"), VpcId: &vpc})
	if err != nil {
		return "", "", err
	}
	if _, err := c.EC2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: sg.GroupId, IpProtocol: aws.String("tcp"),
		FromPort: aws.Int32(80), ToPort: aws.Int32(80), CidrIp: aws.String("0.0.0.0/0")}); err != nil {
		return "", "", err
	}
	lt, err := c.EC2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("web"), LaunchTemplateData: &types.RequestLaunchTemplateData{
		ImageId: &image, InstanceType: types.InstanceTypeT2Micro, SecurityGroupIds: []string{*sg.GroupId},
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(WebScript)))}})
	if err != nil {
		return "", "", err
	}
	lb, err := c.ELB.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String("web"), Subnets: ids, SecurityGroups: []string{*sg.GroupId}})
	if err != nil {
		return "", "", err
	}
	tg, err := c.ELB.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: aws.String("web"), Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80), VpcId: &vpc,
		HealthCheckIntervalSeconds: aws.Int32(5), HealthCheckTimeoutSeconds: aws.Int32(2), HealthyThresholdCount: aws.Int32(2), UnhealthyThresholdCount: aws.Int32(2)})
	if err != nil {
		return "", "", err
	}
	targetGroup = *tg.TargetGroups[0].TargetGroupArn
	if _, err := c.ELB.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &targetGroup, Attributes: []elbtypes.TargetGroupAttribute{
		{Key: aws.String("deregistration_delay.timeout_seconds"), Value: aws.String("5")}}}); err != nil {
		return "", "", err
	}
	if _, err := c.ELB.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Protocol: elbtypes.ProtocolEnumHttp, Port: aws.Int32(80),
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &targetGroup}}}); err != nil {
		return "", "", err
	}
	_, err = c.ASG.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: aws.String("web"), MinSize: aws.Int32(2), MaxSize: aws.Int32(4), DesiredCapacity: aws.Int32(2),
		LaunchTemplate: &astypes.LaunchTemplateSpecification{LaunchTemplateId: lt.LaunchTemplate.LaunchTemplateId, Version: aws.String("$Latest")}, VPCZoneIdentifier: aws.String(ids[0] + "," + ids[1]),
		TargetGroupARNs: []string{targetGroup}, HealthCheckType: aws.String("ELB"), HealthCheckGracePeriod: aws.Int32(60)})
	return targetGroup, *lb.LoadBalancers[0].LoadBalancerArn, err
}

// WaitHealthy waits until n targets are healthy, the excluded ones not counted, and returns them.
func (c *Cloud) WaitHealthy(ctx context.Context, tg string, n int, except []string) ([]string, error) {
	for end := time.Now().Add(waitLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		out, err := c.ELB.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &tg})
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
