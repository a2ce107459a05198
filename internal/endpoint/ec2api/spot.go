package ec2api

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/network"
	"skerry/internal/store"
)

var spotIDs = idKind{"sir", "InvalidSpotInstanceRequestID.Malformed", "InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '%s' does not exist"}

var spotKind = describe.Kind[ec2.SpotInstanceRequest]{IDs: "spotInstanceRequestIdSet", Min: 5, Max: 1000, Tags: eachTag(func(v *ec2.SpotInstanceRequest) []ec2.Tag { return v.Tags }),
	Filters: map[string]func(*ec2.SpotInstanceRequest) []string{
		"spot-instance-request-id":   field(func(v *ec2.SpotInstanceRequest) *string { return v.SpotInstanceRequestId }),
		"instance-id":                field(func(v *ec2.SpotInstanceRequest) *string { return v.InstanceId }),
		"state":                      field(func(v *ec2.SpotInstanceRequest) *string { return v.State }),
		"status-code":                func(v *ec2.SpotInstanceRequest) []string { return texts(v.Status.Code) },
		"type":                       field(func(v *ec2.SpotInstanceRequest) *string { return v.Type }),
		"launched-availability-zone": field(func(v *ec2.SpotInstanceRequest) *string { return v.LaunchedAvailabilityZone }),
		"launch.instance-type":       func(v *ec2.SpotInstanceRequest) []string { return texts(v.LaunchSpecification.InstanceType) },
		"spot-price":                 field(func(v *ec2.SpotInstanceRequest) *string { return v.SpotPrice }),
	}}

// describeSpotInstanceRequests lists the requests that spot instances came from; they live as long as their instances.
func (s *Server) describeSpotInstanceRequests(c *api.Call, in *ec2.DescribeSpotInstanceRequestsRequest) (*ec2.DescribeSpotInstanceRequestsResult, error) {
	ids := in.SpotInstanceRequestIds
	if err := spotIDs.check(ids...); err != nil {
		return nil, err
	}
	out := &ec2.DescribeSpotInstanceRequestsResult{}
	return out, c.View(func(tx store.Tx) error {
		var rows []compute.Instance
		for i := range compute.Instances.Prefix(tx, c.Scope().Prefix()) {
			if i.Spot != nil && (len(ids) == 0 || slices.Contains(ids, i.Spot.RequestID)) {
				rows = append(rows, i)
			}
		}
		if len(rows) < len(slices.Compact(slices.Sorted(slices.Values(ids)))) {
			missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
				return slices.ContainsFunc(rows, func(i compute.Instance) bool { return i.Spot.RequestID == id })
			})
			return spotIDs.missing(missing)
		}
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: len(ids) > 0}
		list, next, err := describe.Page(&spotKind, q, slices.Values(rows), func(i compute.Instance) string { return i.ID }, func(i compute.Instance) ec2.SpotInstanceRequest { return spotRequest(tx, i) })
		out.SpotInstanceRequests, out.NextToken = list, str(next)
		return err
	})
}

// cancelSpotInstanceRequests cancels requests; their instances run on.
func (s *Server) cancelSpotInstanceRequests(c *api.Call, in *ec2.CancelSpotInstanceRequestsRequest) (*ec2.CancelSpotInstanceRequestsResult, error) {
	if err := spotIDs.check(in.SpotInstanceRequestIds...); err != nil {
		return nil, err
	}
	out := &ec2.CancelSpotInstanceRequestsResult{}
	for _, id := range in.SpotInstanceRequestIds {
		out.CancelledSpotInstanceRequests = append(out.CancelledSpotInstanceRequests, ec2.CancelledSpotInstanceRequest{SpotInstanceRequestId: &id, State: ptr("cancelled")})
	}
	return out, c.Update(func(w *store.WriteTx) error {
		if missing := compute.CancelSpotRequests(w, c.Scope(), in.SpotInstanceRequestIds); len(missing) > 0 {
			return spotIDs.missing(missing)
		}
		return nil
	})
}

func spotRequest(tx store.Tx, i compute.Instance) ec2.SpotInstanceRequest {
	state, code, message := "active", "fulfilled", "Your spot request is fulfilled."
	switch {
	case !i.Live() && !i.Spot.NoticedAt.IsZero(): // whoever ended it within its notice, its group for one
		state, code, message = "closed", "instance-terminated-no-capacity", "Your Spot instance was terminated because there is no Spot capacity available."
	case !i.Live():
		state, code, message = "closed", "instance-terminated-by-user", "Spot Instance terminated due to user-initiated termination."
	case !i.Spot.EndsAt.IsZero():
		code, message = "marked-for-termination", "Your Spot Instance is marked for termination."
	}
	if i.Spot.Cancelled {
		state = "cancelled"
		if code == "fulfilled" {
			code, message = "request-canceled-and-instance-running", "Your Spot request is canceled, but your Spot instance is still running."
		}
	}
	price := i.Spot.MaxPrice
	if t, ok := compute.TypeByName(i.InstanceType); ok && price == "" {
		price = dollars(t.Price())
	}
	return ec2.SpotInstanceRequest{SpotInstanceRequestId: ptr(i.Spot.RequestID), InstanceId: ptr(i.ID), State: &state, Type: ptr("one-time"), CreateTime: when(i.CreatedAt),
		Status: &ec2.SpotInstanceStatus{Code: &code, Message: &message, UpdateTime: when(i.StateSince)}, SpotPrice: &price, ProductDescription: ptr("Linux/UNIX"),
		LaunchedAvailabilityZone: ptr(i.AvailabilityZone), LaunchedAvailabilityZoneId: str(network.ZoneID(i.Region, i.AvailabilityZone)), InstanceInterruptionBehavior: ptr("terminate"),
		LaunchSpecification: &ec2.LaunchSpecification{ImageId: ptr(i.ImageID), InstanceType: ptr(i.InstanceType), KeyName: str(i.KeyName), SubnetId: str(i.SubnetID)},
		Tags:                tagsOf(tx, i.Scope, i.Spot.RequestID)}
}

func dollars(v float64) string { return strconv.FormatFloat(v, 'f', 6, 64) }

var priceKind = describe.Kind[ec2.SpotPrice]{Min: 5, Max: 1000, Filters: map[string]func(*ec2.SpotPrice) []string{
	"availability-zone":   field(func(v *ec2.SpotPrice) *string { return v.AvailabilityZone }),
	"instance-type":       field(func(v *ec2.SpotPrice) *string { return v.InstanceType }),
	"product-description": field(func(v *ec2.SpotPrice) *string { return v.ProductDescription }),
	"spot-price":          field(func(v *ec2.SpotPrice) *string { return v.SpotPrice }),
	"timestamp":           func(v *ec2.SpotPrice) []string { return times(v.Timestamp) },
}}

// describeSpotPriceHistory lists the catalogue's spot prices. They do not change: each has one entry, of the time that was
// asked for.
func (s *Server) describeSpotPriceHistory(c *api.Call, in *ec2.DescribeSpotPriceHistoryRequest) (*ec2.DescribeSpotPriceHistoryResult, error) {
	at := c.Now.Truncate(time.Hour)
	if in.StartTime != nil && in.StartTime.Before(at) {
		at = *in.StartTime
	}
	const product = "Linux/UNIX"
	var rows []ec2.SpotPrice
	for _, name := range compute.TypeNames() {
		t, _ := compute.TypeByName(name)
		if len(in.InstanceTypes) > 0 && !slices.Contains(in.InstanceTypes, name) || len(in.ProductDescriptions) > 0 && !slices.Contains(in.ProductDescriptions, product) {
			continue
		}
		for _, z := range network.Zones(c.Scope().Region) {
			if in.AvailabilityZone != nil && *in.AvailabilityZone != z.Name || in.AvailabilityZoneId != nil && *in.AvailabilityZoneId != z.ID {
				continue
			}
			rows = append(rows, ec2.SpotPrice{AvailabilityZone: ptr(z.Name), AvailabilityZoneId: ptr(z.ID), InstanceType: ptr(name), ProductDescription: ptr(product),
				SpotPrice: ptr(dollars(t.SpotPrice(z.Name))), Timestamp: &at})
		}
	}
	if in.EndTime != nil && in.EndTime.Before(at) {
		rows = nil
	}
	key := func(p ec2.SpotPrice) string { return *p.InstanceType + " " + *p.AvailabilityZone }
	slices.SortFunc(rows, func(a, b ec2.SpotPrice) int { return strings.Compare(key(a), key(b)) })
	q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken}
	list, next, err := describe.Page(&priceKind, q, slices.Values(rows), key, func(p ec2.SpotPrice) ec2.SpotPrice { return p })
	return &ec2.DescribeSpotPriceHistoryResult{SpotPriceHistory: list, NextToken: str(next)}, err
}
