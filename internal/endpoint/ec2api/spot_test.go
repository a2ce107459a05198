package ec2api

import (
	"context"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"skerry/internal/compute"
	"skerry/internal/store"
)

func TestTheSDKBuysSpotInstances(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ec, ctx := c.client(), context.Background()
	run := func(price *string) types.Instance {
		t.Helper()
		out, err := ec.RunInstances(ctx, &sdk.RunInstancesInput{ImageId: &c.ami, InstanceType: "t3.micro", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), InstanceMarketOptions: &types.InstanceMarketOptionsRequest{
			MarketType: types.MarketTypeSpot, SpotOptions: &types.SpotMarketOptions{MaxPrice: price, SpotInstanceType: types.SpotInstanceTypeOneTime}}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Instances[0]
	}
	cheap, any := run(aws.String("0.02")), run(nil)
	if any.InstanceLifecycle != types.InstanceLifecycleTypeSpot || aws.ToString(any.SpotInstanceRequestId) == "" {
		t.Errorf("instance %+v", any)
	}
	c.settle()
	requests, err := ec.DescribeSpotInstanceRequests(ctx, &sdk.DescribeSpotInstanceRequestsInput{SpotInstanceRequestIds: []string{*cheap.SpotInstanceRequestId}})
	if err != nil || len(requests.SpotInstanceRequests) != 1 {
		t.Fatalf("requests %+v %v", requests, err)
	}
	r := requests.SpotInstanceRequests[0]
	if *r.InstanceId != *cheap.InstanceId || r.State != types.SpotInstanceStateActive || *r.Status.Code != "fulfilled" || *r.SpotPrice != "0.02" || r.Type != types.SpotInstanceTypeOneTime ||
		r.LaunchSpecification.InstanceType != "t3.micro" || *r.LaunchedAvailabilityZone != *cheap.Placement.AvailabilityZone {
		t.Errorf("request %+v", r)
	}
	filter := func(name, value string) int {
		t.Helper()
		out, err := ec.DescribeSpotInstanceRequests(ctx, &sdk.DescribeSpotInstanceRequestsInput{Filters: []types.Filter{{Name: &name, Values: []string{value}}}})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.SpotInstanceRequests)
	}
	if n := filter("state", "active"); n != 2 {
		t.Errorf("%d active requests", n)
	}
	// An interruption is told of before it comes.
	c.write(func(w *store.WriteTx) error {
		i, _ := compute.Instances.Get(w, c.scope.Key(*any.InstanceId))
		i.Spot.NoticedAt, i.Spot.EndsAt = w.Now(), w.Now()
		compute.Instances.Put(w, i)
		return nil
	})
	if n := filter("status-code", "marked-for-termination"); n != 1 {
		t.Errorf("%d requests are marked", n)
	}
	cancel := func(ids ...string) error {
		_, err := ec.CancelSpotInstanceRequests(ctx, &sdk.CancelSpotInstanceRequestsInput{SpotInstanceRequestIds: ids})
		return err
	}
	if err := cancel(*any.SpotInstanceRequestId, "sir-0123456789abcdef0"); codeOf(err) != "InvalidSpotInstanceRequestID.NotFound" {
		t.Errorf("an unknown request is cancelled: %v", err)
	}
	if err := cancel(*any.SpotInstanceRequestId); err != nil || filter("state", "cancelled") != 1 {
		t.Errorf("%d requests are cancelled: %v", filter("state", "cancelled"), err)
	}
	if _, err := ec.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{*cheap.InstanceId, *any.InstanceId}}); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if n := filter("status-code", "instance-terminated-by-user"); n != 1 {
		t.Errorf("%d requests ended with their instances", n)
	}
	if n := filter("status-code", "instance-terminated-no-capacity"); n != 1 {
		t.Errorf("%d requests ended by the interruption", n)
	}
	_, err = ec.DescribeSpotInstanceRequests(ctx, &sdk.DescribeSpotInstanceRequestsInput{SpotInstanceRequestIds: []string{"sir-0123456789abcdef0"}})
	if codeOf(err) != "InvalidSpotInstanceRequestID.NotFound" {
		t.Errorf("an unknown request: %v", err)
	}
	if _, err := ec.RunInstances(ctx, &sdk.RunInstancesInput{ImageId: &c.ami, InstanceType: "t3.micro", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), InstanceMarketOptions: &types.InstanceMarketOptionsRequest{
		MarketType: types.MarketTypeSpot, SpotOptions: &types.SpotMarketOptions{MaxPrice: aws.String("0.0001")}}}); codeOf(err) != "SpotMaxPriceTooLow" {
		t.Errorf("too low a price: %v", err)
	}

	// Requests of their own are no part of the cloud: spot instances are launched by RunInstances and by groups.
	if _, err := ec.RequestSpotInstances(ctx, &sdk.RequestSpotInstancesInput{}); codeOf(err) != "UnsupportedOperation" {
		t.Errorf("RequestSpotInstances: %v", err)
	}
}

func TestTheSDKReadsSpotPrices(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ec, ctx := c.client(), context.Background()
	out, err := ec.DescribeSpotPriceHistory(ctx, &sdk.DescribeSpotPriceHistoryInput{InstanceTypes: []types.InstanceType{"t3.micro"}, ProductDescriptions: []string{"Linux/UNIX"}, AvailabilityZone: aws.String("us-east-1a")})
	if err != nil || len(out.SpotPriceHistory) != 1 {
		t.Fatalf("prices %+v %v", out, err)
	}
	p := out.SpotPriceHistory[0]
	kind, _ := compute.TypeByName("t3.micro")
	if v, err := strconv.ParseFloat(*p.SpotPrice, 64); err != nil || v <= 0 || v >= kind.Price() || p.InstanceType != "t3.micro" || *p.AvailabilityZone != "us-east-1a" || p.Timestamp == nil {
		t.Errorf("price %+v", p)
	}
	seen := map[string]bool{}
	pages := sdk.NewDescribeSpotPriceHistoryPaginator(ec, &sdk.DescribeSpotPriceHistoryInput{MaxResults: aws.Int32(100)})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range out.SpotPriceHistory {
			key := string(p.InstanceType) + " " + *p.AvailabilityZone
			if seen[key] {
				t.Errorf("%s twice", key)
			}
			seen[key] = true
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d pools", len(seen))
	}
	if out, err := ec.DescribeSpotPriceHistory(ctx, &sdk.DescribeSpotPriceHistoryInput{ProductDescriptions: []string{"Windows"}}); err != nil || len(out.SpotPriceHistory) != 0 {
		t.Errorf("Windows: %+v %v", out, err)
	}
}
