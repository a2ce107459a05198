package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/api"
	"skerry/api/acm"
	"skerry/api/autoscaling"
	"skerry/api/cloudwatch"
	"skerry/api/ec2"
	"skerry/api/elbv2"
	"skerry/api/iam"
	"skerry/api/sts"
	"skerry/internal/fault"
	"skerry/internal/require"
)

// cloud is a gateway with handlers that remember what they were asked.
type cloud struct {
	url     string
	log     *logBuffer
	metrics []cloudwatch.PutMetricDataInput
}

// logBuffer is a log that tests read while the gateway writes.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{log: &logBuffer{}}
	m := api.NewMux(&ec2.Service, &autoscaling.Service, &elbv2.Service, &cloudwatch.Service, &iam.Service, &sts.Service, &acm.Service)
	api.Handle(m, sts.GetCallerIdentity, func(c *api.Call, in *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
		return &sts.GetCallerIdentityResponse{Account: &c.Account, Arn: &c.Principal.ARN, UserId: &c.Principal.UserID}, nil
	})
	api.Handle(m, ec2.DescribeRegions, func(c *api.Call, in *ec2.DescribeRegionsRequest) (*ec2.DescribeRegionsResult, error) {
		names := in.RegionNames
		if len(names) == 0 {
			names = []string{c.Region}
		}
		out := &ec2.DescribeRegionsResult{}
		for _, n := range names {
			if n == "mars-1" {
				return nil, fault.New(fault.NotFound, "InvalidParameterValue", "Invalid region names: %s", n)
			}
			if n == "panic" {
				panic("secret text")
			}
			out.Regions = append(out.Regions, ec2.Region{RegionName: api.Ptr(n), Endpoint: api.Ptr("ec2." + n + ".amazonaws.com"), OptInStatus: api.Ptr("opt-in-not-required")})
		}
		return out, nil
	})
	api.Handle(m, ec2.DeleteVpc, func(c *api.Call, in *ec2.DeleteVpcRequest) (*ec2.DeleteVpcOutput, error) { return nil, nil })
	api.Handle(m, iam.GetRole, func(c *api.Call, in *iam.GetRoleRequest) (*iam.GetRoleResponse, error) {
		return nil, fault.New(fault.NotFound, "NoSuchEntity", "The role with name %s cannot be found.", *in.RoleName)
	})
	api.Handle(m, autoscaling.DescribeAutoScalingGroups, func(c *api.Call, in *autoscaling.AutoScalingGroupNamesType) (*autoscaling.AutoScalingGroupsType, error) {
		return &autoscaling.AutoScalingGroupsType{}, nil
	})
	api.Handle(m, cloudwatch.PutMetricData, func(_ *api.Call, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		c.metrics = append(c.metrics, *in)
		return nil, nil
	})
	api.Handle(m, cloudwatch.GetMetricStatistics, func(_ *api.Call, in *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
		return &cloudwatch.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []cloudwatch.Datapoint{{Timestamp: in.StartTime, Average: api.Ptr(12.25), Unit: api.Ptr("Percent")}}}, nil
	})
	api.Handle(m, cloudwatch.GetDashboard, func(_ *api.Call, in *cloudwatch.GetDashboardInput) (*cloudwatch.GetDashboardOutput, error) {
		return nil, fault.New(fault.NotFound, "ResourceNotFound", "Dashboard %s does not exist", *in.DashboardName)
	})
	api.Handle(m, acm.ImportCertificate, func(_ *api.Call, in *acm.ImportCertificateRequest) (*acm.ImportCertificateResponse, error) {
		return &acm.ImportCertificateResponse{CertificateArn: api.Ptr("arn:" + string(in.Certificate))}, nil
	})
	s := httptest.NewServer(New(Options{Mux: m, Log: slog.New(slog.NewTextHandler(c.log, nil)), Credentials: WellKnown}))
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// aws runs the unmodified CLI against the cloud.
func (c *cloud) aws(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path := require.Tool(t, "aws")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+c.url, "AWS_ACCESS_KEY_ID=skerry", "AWS_SECRET_ACCESS_KEY=skerry", "AWS_SESSION_TOKEN=",
		"AWS_DEFAULT_REGION=eu-west-1", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestCLI(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/cert", []byte("PEM \xff"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		want string
		fail bool
	}{
		{args: "sts get-caller-identity --query Arn --output text", want: "arn:aws:iam::000000000000:root"},
		{args: "ec2 describe-regions --region-names us-east-1 eu-west-1 --query Regions[].RegionName --output text", want: "us-east-1\teu-west-1"},
		{args: "ec2 describe-regions --region-names mars-1", want: "(InvalidParameterValue) when calling the DescribeRegions operation: Invalid region names: mars-1", fail: true},
		{args: "ec2 describe-regions --dry-run", want: "(DryRunOperation)", fail: true},
		{args: "ec2 delete-vpc --vpc-id vpc-1", want: ""},
		{args: "ec2 describe-fleets", want: "(UnsupportedOperation) when calling the DescribeFleets operation: The operation DescribeFleets of ec2 is not served.", fail: true},
		{args: "autoscaling describe-auto-scaling-groups --query length(AutoScalingGroups)", want: "0"},
		{args: "iam get-role --role-name r", want: "(NoSuchEntity)", fail: true},
		{args: "cloudwatch put-metric-data --namespace N --metric-data MetricName=m,Value=1.5,Unit=Count,Dimensions=[{Name=a,Value=b}]", want: ""},
		{args: "cloudwatch get-metric-statistics --namespace N --metric-name m --period 60 --start-time 2026-01-02T03:04:05Z --end-time 2026-01-02T03:05:05Z --statistics Average --query Datapoints[0].[Average] --output text", want: "12.25"},
		{args: "cloudwatch get-dashboard --dashboard-name d", want: "Dashboard d does not exist", fail: true},
		{args: "acm import-certificate --certificate fileb://" + dir + "/cert --private-key fileb://" + dir + "/cert --query CertificateArn --output text", want: "arn:PEM"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out, err := c.aws(t, strings.Fields(tt.args)...)
			if (err != nil) != tt.fail {
				t.Fatalf("err %v: %s\n%s", err, out, c.log)
			}
			out = strings.ReplaceAll(out, " (reached max retries: 0)", "") // some versions say so
			if got := strings.TrimSpace(out); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if len(c.metrics) != 1 || *c.metrics[0].MetricData[0].Value != 1.5 || *c.metrics[0].MetricData[0].Dimensions[0].Value != "b" {
		t.Errorf("metrics arrived as %+v", c.metrics)
	}
}
