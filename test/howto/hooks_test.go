// Package howto tries what docs/howto tells users to write.
package howto

import (
	"context"
	"encoding/base64"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"skerry/internal/awsclient"
	"skerry/internal/require"
	"skerry/internal/testcloud"
)

// quoted is what stands between single quotes after a word of the page.
func quoted(t *testing.T, page, after string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, after+" '")
	text, _, ok2 := strings.Cut(rest, "'")
	if !ok || !ok2 {
		t.Fatalf("hooks.md has no %s '…'", after)
	}
	return text
}

// TestHooks runs hooks.md's user data on an instance of a group with both hooks: nobody else completes anything.
func TestHooks(t *testing.T) {
	binary := require.Binary(t)
	require.Root(t)
	t.Parallel()
	b, err := os.ReadFile("../../docs/howto/hooks.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	_, rest, _ := strings.Cut(page, "```sh\n")
	script, _, _ := strings.Cut(rest, "```")
	c, err := testcloud.New(binary, "127.142.0.0/16", "--time-scale", "10")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(c.Dir); err == nil {
			t.Errorf("%s is still there", c.Dir)
		}
	})
	if _, err := c.Up(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := awsclient.Config("http://"+c.Listen, testcloud.Region, "skerry", "skerry", "")
	role, web := iam.NewFromConfig(cfg), aws.String("web")
	must(role.CreateRole(ctx, &iam.CreateRoleInput{RoleName: web, AssumeRolePolicyDocument: aws.String(quoted(t, page, "--assume-role-policy-document"))}))
	must(role.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: web, PolicyName: web, PolicyDocument: aws.String(quoted(t, page, "--policy-document"))}))
	must(role.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: web}))
	must(role.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: web, RoleName: web}))
	image, err := c.Image(ctx)
	must(nil, err)
	must(c.EC2.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: web, LaunchTemplateData: &types.RequestLaunchTemplateData{
		ImageId: &image, InstanceType: types.InstanceTypeT3Nano, UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(script))),
		IamInstanceProfile: &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: web}}}))
	hook := func(name, on string) astypes.LifecycleHookSpecification {
		return astypes.LifecycleHookSpecification{LifecycleHookName: &name, LifecycleTransition: aws.String("autoscaling:EC2_INSTANCE_" + on),
			HeartbeatTimeout: aws.Int32(7200), DefaultResult: aws.String("ABANDON")}
	}
	must(c.ASG.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{AutoScalingGroupName: web, MinSize: aws.Int32(0), MaxSize: aws.Int32(1), DesiredCapacity: aws.Int32(1),
		AvailabilityZones: []string{testcloud.Region + "a"}, LaunchTemplate: &astypes.LaunchTemplateSpecification{LaunchTemplateName: web},
		LifecycleHookSpecificationList: []astypes.LifecycleHookSpecification{hook("up", "LAUNCHING"), hook("down", "TERMINATING")}}))

	var seen []string // states, each once
	var id string
	watch := func(until string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			out, err := c.ASG.DescribeAutoScalingInstances(ctx, &autoscaling.DescribeAutoScalingInstancesInput{})
			must(nil, err)
			state := ""
			for _, i := range out.AutoScalingInstances {
				id, state = *i.InstanceId, *i.LifecycleState
			}
			if !slices.Contains(seen, state) {
				seen = append(seen, state)
			}
			if state == until {
				return
			}
			if time.Now().After(end) {
				console := ""
				if o, err := c.EC2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &id, Latest: aws.Bool(true)}); err == nil {
					text, _ := base64.StdEncoding.DecodeString(aws.ToString(o.Output))
					console = string(text)
				}
				t.Fatalf("not %q after a minute; states %v; console:\n%s", until, seen, console)
			}
		}
	}
	watch("InService")
	must(c.ASG.SetDesiredCapacity(ctx, &autoscaling.SetDesiredCapacityInput{AutoScalingGroupName: web, DesiredCapacity: aws.Int32(0)}))
	watch("")
	for _, s := range []string{"Pending:Wait", "Terminating:Wait"} {
		if !slices.Contains(seen, s) {
			t.Errorf("no %s among the states %v", s, seen)
		}
	}
	m, err := cloudwatch.NewFromConfig(cfg).ListMetrics(ctx, &cloudwatch.ListMetricsInput{Namespace: aws.String("Web"), MetricName: aws.String("Started")})
	must(nil, err)
	if len(m.Metrics) != 1 {
		t.Errorf("the instance's metric is not there: %v", m.Metrics)
	}
}
