package asgapi

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"skerry/internal/compute"
	"skerry/internal/store"
)

func TestTheSDKBuysAMixOfInstances(t *testing.T) {
	c := newCloud(t)
	cl, ctx := c.client(), context.Background()
	policy := &types.MixedInstancesPolicy{LaunchTemplate: &types.LaunchTemplate{LaunchTemplateSpecification: &types.LaunchTemplateSpecification{LaunchTemplateId: &c.lt},
		Overrides: []types.LaunchTemplateOverrides{{InstanceType: aws.String("t3.micro"), WeightedCapacity: aws.String("1")}, {InstanceType: aws.String("t3.small"), WeightedCapacity: aws.String("2")}}},
		InstancesDistribution: &types.InstancesDistribution{OnDemandBaseCapacity: aws.Int32(2), OnDemandPercentageAboveBaseCapacity: aws.Int32(0), SpotAllocationStrategy: aws.String("price-capacity-optimized")}}
	if _, err := cl.CreateAutoScalingGroup(ctx, &sdk.CreateAutoScalingGroupInput{AutoScalingGroupName: aws.String("g"), MinSize: aws.Int32(0), MaxSize: aws.Int32(10), DesiredCapacity: aws.Int32(6),
		MixedInstancesPolicy: policy, VPCZoneIdentifier: aws.String(c.subnets[0] + "," + c.subnets[1]), CapacityRebalance: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	out, err := cl.DescribeAutoScalingGroups(ctx, &sdk.DescribeAutoScalingGroupsInput{})
	if err != nil {
		t.Fatal(err)
	}
	g := out.AutoScalingGroups[0]
	d := g.MixedInstancesPolicy.InstancesDistribution
	if *d.OnDemandBaseCapacity != 2 || *d.OnDemandAllocationStrategy != "prioritized" || *d.SpotAllocationStrategy != "price-capacity-optimized" || d.SpotInstancePools != nil || !*g.CapacityRebalance {
		t.Errorf("distribution %+v", d)
	}
	spot, onDemand := 0, 0
	var risky string
	for _, m := range g.Instances {
		i, _ := compute.Instances.Get(c.DB.Read(), here.Key(*m.InstanceId))
		n := map[string]int{"1": 1, "2": 2}[*m.WeightedCapacity]
		if i.Spot != nil {
			spot += n
			risky = i.ID
		} else {
			onDemand += n
		}
	}
	if onDemand != 2 || spot != 4 {
		t.Fatalf("on demand %d, spot %d: %+v", onDemand, spot, g.Instances)
	}
	if err := c.DB.Update(func(w *store.WriteTx) error { _, err := compute.Recommend(w, here, risky); return err }); err != nil {
		t.Fatal(err)
	}
	c.run(5 * time.Second)
	if i, _ := compute.Instances.Get(c.DB.Read(), here.Key(risky)); i.State != compute.Terminated {
		t.Errorf("the instance at risk is %s", i.State)
	}
	req := &types.InstanceRequirements{VCpuCount: &types.VCpuCountRequest{Min: aws.Int32(2), Max: aws.Int32(2)}, MemoryMiB: &types.MemoryMiBRequest{Min: aws.Int32(1024), Max: aws.Int32(8192)},
		BurstablePerformance: types.BurstablePerformanceIncluded, CpuManufacturers: []types.CpuManufacturer{types.CpuManufacturerAmd}}
	policy.LaunchTemplate.Overrides = []types.LaunchTemplateOverrides{{InstanceRequirements: req}}
	policy.InstancesDistribution = nil
	if _, err := cl.UpdateAutoScalingGroup(ctx, &sdk.UpdateAutoScalingGroupInput{AutoScalingGroupName: aws.String("g"), MixedInstancesPolicy: policy, DesiredCapacity: aws.Int32(8)}); err != nil {
		t.Fatal(err)
	}
	c.run(2 * time.Second)
	out, err = cl.DescribeAutoScalingGroups(ctx, &sdk.DescribeAutoScalingGroupsInput{})
	if err != nil {
		t.Fatal(err)
	}
	g, found := out.AutoScalingGroups[0], false
	for _, m := range g.Instances {
		found = found || *m.InstanceType == "t3a.micro"
	}
	if !found || *g.MixedInstancesPolicy.InstancesDistribution.OnDemandAllocationStrategy != "lowest-price" || *g.MixedInstancesPolicy.LaunchTemplate.Overrides[0].InstanceRequirements.VCpuCount.Max != 2 {
		t.Errorf("group %+v", g)
	}
	policy.LaunchTemplate.Overrides[0].InstanceRequirements.BaselineEbsBandwidthMbps = &types.BaselineEbsBandwidthMbpsRequest{Min: aws.Int32(1)}
	_, err = cl.UpdateAutoScalingGroup(ctx, &sdk.UpdateAutoScalingGroupInput{AutoScalingGroupName: aws.String("g"), MixedInstancesPolicy: policy})
	if err == nil {
		t.Error("a requirement that is not known was accepted")
	}
}

// TestTemplateRequirements: the cheapest types are chosen that have the attributes that the launch template asks for, where no override says otherwise.
func TestTemplateRequirements(t *testing.T) {
	c := newCloud(t)
	cl, ctx := c.client(), t.Context()
	c.update(func(w *store.WriteTx) error {
		v, err := compute.ResolveLaunchTemplate(w, here, c.lt, "", "1")
		if err != nil {
			return err
		}
		_, err = compute.CreateLaunchTemplate(w, here, "attributes", "", "", "", []byte(`{"ImageId":"`+v.Spec.ImageID+`","InstanceRequirements":{"VCpuCount":{"Min":2,"Max":2},"MemoryMiB":{"Min":512},"BurstablePerformance":"required"}}`))
		return err
	})
	for name, overrides := range map[string][]types.LaunchTemplateOverrides{"template": nil, "override": {{InstanceType: aws.String("t3.small")}}} {
		policy := &types.MixedInstancesPolicy{LaunchTemplate: &types.LaunchTemplate{LaunchTemplateSpecification: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("attributes"), Version: aws.String("$Latest")}, Overrides: overrides},
			InstancesDistribution: &types.InstancesDistribution{OnDemandPercentageAboveBaseCapacity: aws.Int32(50)}}
		if _, err := cl.CreateAutoScalingGroup(ctx, &sdk.CreateAutoScalingGroupInput{AutoScalingGroupName: &name, MinSize: aws.Int32(2), MaxSize: aws.Int32(2), MixedInstancesPolicy: policy, VPCZoneIdentifier: &c.subnets[0]}); err != nil {
			t.Fatal(name, err)
		}
	}
	c.run(time.Second)
	out, err := cl.DescribeAutoScalingGroups(ctx, &sdk.DescribeAutoScalingGroupsInput{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, g := range out.AutoScalingGroups {
		for _, i := range g.Instances {
			got[*g.AutoScalingGroupName] += *i.InstanceType + " "
		}
	}
	if want := map[string]string{"template": "t3a.nano t3a.nano ", "override": "t3.small t3.small "}; !maps.Equal(got, want) {
		t.Errorf("they run %v, want %v", got, want)
	}
}

// TestAMixedPolicyIsChangedInParts: what an update leaves out of the policy stays as it was.
func TestAMixedPolicyIsChangedInParts(t *testing.T) {
	c := newCloud(t)
	cl, ctx := c.client(), context.Background()
	if _, err := cl.CreateAutoScalingGroup(ctx, &sdk.CreateAutoScalingGroupInput{AutoScalingGroupName: aws.String("g"), MinSize: aws.Int32(0), MaxSize: aws.Int32(4), VPCZoneIdentifier: &c.subnets[0],
		MixedInstancesPolicy: &types.MixedInstancesPolicy{LaunchTemplate: &types.LaunchTemplate{LaunchTemplateSpecification: &types.LaunchTemplateSpecification{LaunchTemplateId: &c.lt},
			Overrides: []types.LaunchTemplateOverrides{{InstanceType: aws.String("t3.micro")}}},
			InstancesDistribution: &types.InstancesDistribution{OnDemandBaseCapacity: aws.Int32(1), OnDemandPercentageAboveBaseCapacity: aws.Int32(0), SpotInstancePools: aws.Int32(3), SpotMaxPrice: aws.String("0.02")}}}); err != nil {
		t.Fatal(err)
	}
	update := func(p types.MixedInstancesPolicy) *types.MixedInstancesPolicy {
		t.Helper()
		if _, err := cl.UpdateAutoScalingGroup(ctx, &sdk.UpdateAutoScalingGroupInput{AutoScalingGroupName: aws.String("g"), MixedInstancesPolicy: &p}); err != nil {
			t.Fatal(err)
		}
		out, err := cl.DescribeAutoScalingGroups(ctx, &sdk.DescribeAutoScalingGroupsInput{})
		if err != nil {
			t.Fatal(err)
		}
		return out.AutoScalingGroups[0].MixedInstancesPolicy
	}
	p := update(types.MixedInstancesPolicy{InstancesDistribution: &types.InstancesDistribution{OnDemandPercentageAboveBaseCapacity: aws.Int32(50)}})
	if d := p.InstancesDistribution; *d.OnDemandBaseCapacity != 1 || *d.OnDemandPercentageAboveBaseCapacity != 50 || *d.SpotInstancePools != 3 || aws.ToString(d.SpotMaxPrice) != "0.02" ||
		*p.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateId != c.lt || len(p.LaunchTemplate.Overrides) != 1 {
		t.Errorf("%+v of %+v", d, p.LaunchTemplate)
	}
	p = update(types.MixedInstancesPolicy{LaunchTemplate: &types.LaunchTemplate{Overrides: []types.LaunchTemplateOverrides{{InstanceType: aws.String("t3.small")}, {InstanceType: aws.String("t3.micro")}}}})
	if len(p.LaunchTemplate.Overrides) != 2 || *p.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateId != c.lt || *p.InstancesDistribution.OnDemandPercentageAboveBaseCapacity != 50 {
		t.Errorf("%+v", p)
	}
	// An empty price takes it away, another strategy the pools that it doesn't know.
	p = update(types.MixedInstancesPolicy{InstancesDistribution: &types.InstancesDistribution{SpotMaxPrice: aws.String(""), SpotAllocationStrategy: aws.String("price-capacity-optimized")}})
	if d := p.InstancesDistribution; d.SpotMaxPrice != nil || d.SpotInstancePools != nil || *d.SpotAllocationStrategy != "price-capacity-optimized" || *d.OnDemandBaseCapacity != 1 {
		t.Errorf("%+v", d)
	}
}
