package wire

import (
	"math"
	"strings"
	"testing"
	"time"

	"skerry/api"
	"skerry/api/acm"
	"skerry/api/autoscaling"
	"skerry/api/cloudwatch"
	"skerry/api/ec2"
	"skerry/api/elbv2"
	"skerry/api/iam"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// flat takes the layout out of a golden text.
func flat(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimSpace(line))
	}
	return b.String()
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		got, want string
	}{
		{"ec2: items, unset members, an empty list, times with milliseconds, characters that XML cannot carry",
			string(EncodeEC2(&ec2.Service, "DescribeInstances", "rid", &ec2.DescribeInstancesResult{Reservations: []ec2.Reservation{{
				ReservationId: api.Ptr("r-1"), Groups: []ec2.GroupIdentifier{},
				Instances: []ec2.Instance{{InstanceId: api.Ptr("i-1"), LaunchTime: &noon, EbsOptimized: api.Ptr(false), AmiLaunchIndex: api.Ptr[int32](0),
					State: &ec2.InstanceState{Code: api.Ptr[int32](16), Name: api.Ptr("running")},
					Tags:  []ec2.Tag{{Key: api.Ptr("a<b>&\"c"), Value: api.Ptr("\x00\xff\r\n\t")}, {Key: api.Ptr(""), Value: nil}}}},
			}}})),
			`<?xml version="1.0" encoding="UTF-8"?>
			<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>rid</requestId>
			<reservationSet><item><groupSet/><instancesSet><item><amiLaunchIndex>0</amiLaunchIndex><ebsOptimized>false</ebsOptimized>
			<instanceId>i-1</instanceId><launchTime>2026-01-02T12:00:00.000Z</launchTime><instanceState><code>16</code><name>running</name></instanceState>
			<tagSet><item><key>a&lt;b&gt;&amp;&quot;c</key><value>` + "\uFFFD\uFFFD&#xD;\n\t" + `</value></item><item><key></key></item></tagSet></item></instancesSet>
			<reservationId>r-1</reservationId></item></reservationSet></DescribeInstancesResponse>`},
		{"ec2: nothing to answer", string(EncodeEC2(&ec2.Service, "DeleteVpc", "rid", &ec2.DeleteVpcOutput{})),
			`<?xml version="1.0" encoding="UTF-8"?>
			<DeleteVpcResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>rid</requestId><return>true</return></DeleteVpcResponse>`},
		{"query: members, an unset list at the top is empty, a set one inside too, floats, times",
			string(EncodeQuery(&autoscaling.Service, "DescribePolicies", "rid", &autoscaling.PoliciesType{ScalingPolicies: []autoscaling.ScalingPolicy{{
				Alarms: []autoscaling.Alarm{}, TargetTrackingConfiguration: &autoscaling.TargetTrackingConfiguration{TargetValue: api.Ptr(50.0)}}}})),
			`<DescribePoliciesResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribePoliciesResult><ScalingPolicies><member><Alarms/>
			<TargetTrackingConfiguration><TargetValue>50.0</TargetValue></TargetTrackingConfiguration></member></ScalingPolicies></DescribePoliciesResult>
			<ResponseMetadata><RequestId>rid</RequestId></ResponseMetadata></DescribePoliciesResponse>`},
		{"query: no groups", string(EncodeQuery(&autoscaling.Service, "DescribeAutoScalingGroups", "rid", &autoscaling.AutoScalingGroupsType{})),
			`<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribeAutoScalingGroupsResult><AutoScalingGroups/>
			</DescribeAutoScalingGroupsResult><ResponseMetadata><RequestId>rid</RequestId></ResponseMetadata></DescribeAutoScalingGroupsResponse>`},
		{"query: a map", string(EncodeQuery(&iam.Service, "GetAccountSummary", "rid", &iam.GetAccountSummaryResponse{SummaryMap: map[string]int32{"Users": 2, "Roles": 1}})),
			`<GetAccountSummaryResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetAccountSummaryResult><SummaryMap><entry><key>Roles</key><value>1</value></entry>
			<entry><key>Users</key><value>2</value></entry></SummaryMap></GetAccountSummaryResult><ResponseMetadata><RequestId>rid</RequestId></ResponseMetadata></GetAccountSummaryResponse>`},
		{"query: a time of day without and with a fraction", string(EncodeQuery(&elbv2.Service, "X", "rid", &elbv2.DescribeLoadBalancersOutput{LoadBalancers: []elbv2.LoadBalancer{
			{CreatedTime: &noon}, {CreatedTime: api.Ptr(noon.Add(5 * time.Millisecond))}}})),
			`<XResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><XResult><LoadBalancers><member><CreatedTime>2026-01-02T12:00:00Z</CreatedTime></member>
			<member><CreatedTime>2026-01-02T12:00:00.005Z</CreatedTime></member></LoadBalancers></XResult><ResponseMetadata><RequestId>rid</RequestId></ResponseMetadata></XResponse>`},
		{"json", string(EncodeJSON(&cloudwatch.GetMetricDataOutput{MetricDataResults: []cloudwatch.MetricDataResult{{Id: api.Ptr("a\"\\\n\x01é"),
			Timestamps: []time.Time{noon, noon.Add(250 * time.Millisecond)}, Values: []float64{1, 2.5, 1e21, math.NaN(), math.Inf(-1)}}}})),
			`{"Messages":[],"MetricDataResults":[{"Id":"a\"\\\n\u0001é","Timestamps":[1767355200,1767355200.250],"Values":[1.0,2.5,1e+21,"NaN","-Infinity"]}]}`},
		{"json: a blob as text", string(EncodeJSON(&acm.ImportCertificateRequest{Certificate: []byte("\xff\x00")})), `{"Certificate":"/wA=","Tags":[]}`},
		{"cbor", string(EncodeCBOR(&cloudwatch.GetMetricStatisticsOutput{Label: api.Ptr("m"), Datapoints: []cloudwatch.Datapoint{{Average: api.Ptr(1.5), Timestamp: &noon}}})),
			"\xa2\x6aDatapoints\x81\xa2\x67Average\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00\x69Timestamp\xc1\x1a\x69\x57\xb3\x40\x65Label\x61m"},
		{"ec2: an error", string(EncodeError(EC2, &ec2.Service, &Failure{Code: "C", Message: "a<b", Status: 400, RequestID: "rid"})),
			`<?xml version="1.0" encoding="UTF-8"?>
			<Response><Errors><Error><Code>C</Code><Message>a&lt;b</Message></Error></Errors><RequestID>rid</RequestID></Response>`},
		{"query: an error", string(EncodeError(Query, &iam.Service, &Failure{Code: "C", Message: "m", Status: 400, RequestID: "rid"})),
			`<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>C</Code><Message>m</Message></Error><RequestId>rid</RequestId></ErrorResponse>`},
		{"query: our error, of no service", string(EncodeError(Query, nil, &Failure{Code: "C", Message: "m", Status: 500, RequestID: "rid"})),
			`<ErrorResponse><Error><Type>Receiver</Type><Code>C</Code><Message>m</Message></Error><RequestId>rid</RequestId></ErrorResponse>`},
		{"json: an error", string(EncodeError(JSON, &acm.Service, &Failure{Code: "C", Shape: "S", Message: "m", Status: 400})), `{"__type":"S","message":"m"}`},
		{"cbor: an error", string(EncodeError(CBOR, &cloudwatch.Service, &Failure{Code: "C", Namespace: "n", Message: "m", Status: 400})), "\xa3\x66__type\x63n#C\x67message\x61m\x67Message\x61m"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, want := tt.got, tt.want
			if strings.HasPrefix(want, "<") {
				got, want = strings.ReplaceAll(got, "?>\n", "?>"), flat(want)
				if strings.Contains(tt.want, "\uFFFD") { // flat joins what a value holds
					got = strings.ReplaceAll(got, "\n\t</value>", "</value>")
				}
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"2026-01-02T12:00:00Z", "2026-01-02T12:00:00.000Z", "2026-01-02T14:00:00+02:00", "2026-01-02T12:00:00", "2026-01-02T12:00Z",
		"20260102T120000Z", "1767355200", "1767355200.0", "1.7673552E9", "Fri, 02 Jan 2026 12:00:00 GMT"} {
		if got, err := ParseTime(s); err != nil || !got.Equal(noon) {
			t.Errorf("%s: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "yesterday", "NaN", "Infinity", "1e300", "0x10", "2026-13-01"} {
		if got, err := ParseTime(s); err == nil {
			t.Errorf("%s is no time, got %v", s, got)
		}
	}
}

func BenchmarkEncodeDescribeInstances(b *testing.B) {
	out := &ec2.DescribeInstancesResult{}
	for range 1000 {
		out.Reservations = append(out.Reservations, ec2.Reservation{ReservationId: api.Ptr("r-0123456789abcdef0"), Instances: []ec2.Instance{{
			InstanceId: api.Ptr("i-0123456789abcdef0"), ImageId: api.Ptr("ami-0123456789abcdef0"), LaunchTime: &noon, PrivateIpAddress: api.Ptr("10.0.0.1"),
			State: &ec2.InstanceState{Code: api.Ptr[int32](16), Name: api.Ptr("running")}, Tags: []ec2.Tag{{Key: api.Ptr("Name"), Value: api.Ptr("web")}}}}})
	}
	for b.Loop() {
		b.SetBytes(int64(len(EncodeEC2(&ec2.Service, "DescribeInstances", "rid", out))))
	}
}
