package cloud

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"skerry/internal/awsclient"
)

// TestSimulatedZones: without data planes load balancers become active all the same, and targets healthy as long as their
// instances run in a zone with power.
func TestSimulatedZones(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	c, _ := startSim(t, simOptions(dir))
	s, err := readSettings(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := awsclient.Config("http://"+s.Listen, "us-east-1", "skerry", "skerry", "")
	machines, lbs := ec2.NewFromConfig(cfg), elb.NewFromConfig(cfg)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	images, err := machines.DescribeImages(ctx, &ec2.DescribeImagesInput{})
	must(err)
	subnets, err := machines.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{{Name: aws.String("availability-zone"), Values: []string{"us-east-1a", "us-east-1b"}}}})
	must(err)
	var ids []string
	for _, s := range subnets.Subnets {
		ids = append(ids, *s.SubnetId)
	}
	run, err := machines.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: images.Images[0].ImageId, InstanceType: "t3.nano", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: &ids[0]})
	must(err)
	id, zone := run.Instances[0].InstanceId, *run.Instances[0].Placement.AvailabilityZone
	lb, err := lbs.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String("web"), Subnets: ids})
	must(err)
	arn := lb.LoadBalancers[0].LoadBalancerArn
	tg, err := lbs.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: aws.String("web"), Protocol: "HTTP", Port: aws.Int32(80), VpcId: subnets.Subnets[0].VpcId})
	must(err)
	group := tg.TargetGroups[0].TargetGroupArn
	_, err = lbs.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: arn, Protocol: "HTTP", Port: aws.Int32(80), DefaultActions: []elbtypes.Action{{Type: "forward", TargetGroupArn: group}}})
	must(err)
	_, err = lbs.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: group, Targets: []elbtypes.TargetDescription{{Id: id}}})
	must(err)

	eventually(t, "active", func() bool {
		out, err := lbs.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{*arn}})
		must(err)
		return out.LoadBalancers[0].State.Code == "active"
	})
	state := func() elbtypes.TargetHealthStateEnum {
		out, err := lbs.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: group})
		must(err)
		return out.TargetHealthDescriptions[0].TargetHealth.State
	}
	eventually(t, "healthy", func() bool { return state() == "healthy" })
	must(c.powerZone(ctx, zone, false))
	eventually(t, "without power not in use", func() bool { return state() != "healthy" })
}
