package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdkacm "github.com/aws/aws-sdk-go-v2/service/acm"
	sdkasg "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	sdkcw "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"skerry/internal/awsclient"
)

func (c *cloud) config(key, secret, token string) aws.Config {
	return awsclient.Config(c.url, "eu-west-1", key, secret, token)
}

// refused checks an SDK error's code, HTTP status and a part of its message.
func refused(t *testing.T, err error, code string, status int, text string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("got %v, want %s", err, code)
	}
	var resp *awshttp.ResponseError
	if !errors.As(err, &resp) {
		t.Fatalf("got %v, want an HTTP response", err)
	}
	if api.ErrorCode() != code || resp.HTTPStatusCode() != status || !strings.Contains(api.ErrorMessage(), text) {
		t.Errorf("got %s %d %q, want %s %d %q", api.ErrorCode(), resp.HTTPStatusCode(), api.ErrorMessage(), code, status, text)
	}
	if resp.ServiceRequestID() == "" {
		t.Error("the reply has no request id")
	}
}

func TestSDK(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx := context.Background()
	cfg := c.config("skerry", "skerry", "")

	who, err := sdksts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if err != nil || *who.Account != RootAccount {
		t.Fatalf("sts: %v %v", who, err)
	}
	other, err := sdksts.NewFromConfig(c.config("123456789012", "test", "")).GetCallerIdentity(ctx, nil)
	if err != nil || *other.Arn != "arn:aws:iam::123456789012:root" {
		t.Fatalf("the key of an account: %v %v", other, err)
	}
	regions, err := sdkec2.NewFromConfig(cfg).DescribeRegions(ctx, &sdkec2.DescribeRegionsInput{RegionNames: []string{"b", "a"}})
	if err != nil || len(regions.Regions) != 2 || *regions.Regions[0].RegionName != "b" {
		t.Fatalf("ec2: %v %v", regions, err)
	}
	if groups, err := sdkasg.NewFromConfig(cfg).DescribeAutoScalingGroups(ctx, nil); err != nil || len(groups.AutoScalingGroups) != 0 {
		t.Fatalf("autoscaling: %v %v", groups, err)
	}
	_, err = sdkiam.NewFromConfig(cfg).GetRole(ctx, &sdkiam.GetRoleInput{RoleName: aws.String("r")})
	refused(t, err, "NoSuchEntity", 404, "The role with name r cannot be found.")
	if _, ok := errors.AsType[*iamtypes.NoSuchEntityException](err); !ok {
		t.Errorf("the SDK does not know %v", err)
	}
	if cert, err := sdkacm.NewFromConfig(cfg).ImportCertificate(ctx, &sdkacm.ImportCertificateInput{Certificate: []byte("c"), PrivateKey: []byte("k")}); err != nil || *cert.CertificateArn != "arn:c" {
		t.Fatalf("acm: %v %v", cert, err)
	}

	// CBOR: the datum large enough that the SDK compresses it
	cw := sdkcw.NewFromConfig(cfg)
	at := time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC)
	data := make([]cwtypes.MetricDatum, 300)
	for i := range data {
		data[i] = cwtypes.MetricDatum{MetricName: aws.String("m"), Value: aws.Float64(float64(i)), Timestamp: &at,
			Dimensions: []cwtypes.Dimension{{Name: aws.String("name"), Value: aws.String(strings.Repeat("v", 60))}}}
	}
	if _, err := cw.PutMetricData(ctx, &sdkcw.PutMetricDataInput{Namespace: aws.String("N"), MetricData: data}); err != nil {
		t.Fatal(err)
	}
	got := c.metrics[len(c.metrics)-1]
	if len(got.MetricData) != 300 || *got.MetricData[299].Value != 299 || !got.MetricData[7].Timestamp.Equal(at) {
		t.Errorf("PutMetricData arrived as %d data, the last %+v", len(got.MetricData), got.MetricData[len(got.MetricData)-1])
	}
	stats, err := cw.GetMetricStatistics(ctx, &sdkcw.GetMetricStatisticsInput{Namespace: aws.String("N"), MetricName: aws.String("m"), Period: aws.Int32(60),
		StartTime: &at, EndTime: &at, Statistics: []cwtypes.Statistic{"Average"}})
	if err != nil || *stats.Datapoints[0].Average != 12.25 || !stats.Datapoints[0].Timestamp.Equal(at) {
		t.Fatalf("GetMetricStatistics: %+v %v", stats, err)
	}
	_, err = cw.GetDashboard(ctx, &sdkcw.GetDashboardInput{DashboardName: aws.String("d")})
	refused(t, err, "ResourceNotFound", 404, "Dashboard d does not exist")
	_, err = cw.ListDashboards(ctx, nil)
	refused(t, err, "UnknownOperationException", 400, "The operation ListDashboards of cloudwatch is not served.")
}

func TestPresigned(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx := context.Background()
	get := func(url string) (int, string) {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	req, err := sdksts.NewPresignClient(sdksts.NewFromConfig(c.config("skerry", "skerry", ""))).PresignGetCallerIdentity(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := get(req.URL); status != 200 || !strings.Contains(body, "<Account>000000000000</Account>") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := get(strings.Replace(req.URL, "GetCallerIdentity", "GetSessionToken", 1)); status != 403 || !strings.Contains(body, "<Code>SignatureDoesNotMatch</Code>") {
		t.Errorf("a changed URL: %d %s", status, body)
	}
}

func TestRefusedSignatures(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	ctx := context.Background()
	for _, tt := range []struct{ name, key, secret, token, query, ec2, json string }{
		{"wrong secret", "skerry", "no", "", "SignatureDoesNotMatch", "AuthFailure", "InvalidSignatureException"},
		{"unknown key", "AKIA", "no", "", "InvalidClientTokenId", "AuthFailure", "UnrecognizedClientException"},
		{"a token that is none", "skerry", "skerry", "tok", "InvalidClientTokenId", "AuthFailure", "UnrecognizedClientException"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := c.config(tt.key, tt.secret, tt.token)
			_, err := sdksts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
			refused(t, err, tt.query, 403, "")
			_, err = sdkec2.NewFromConfig(cfg).DescribeRegions(ctx, nil)
			refused(t, err, tt.ec2, 401, "")
			_, err = sdkacm.NewFromConfig(cfg).ListCertificates(ctx, nil)
			refused(t, err, tt.json, 400, "")
			_, err = sdkcw.NewFromConfig(cfg).ListDashboards(ctx, nil)
			refused(t, err, tt.json, 400, "")
		})
	}
}

func TestPanicIsInternal(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	_, err := sdkec2.NewFromConfig(c.config("test", "test", "")).DescribeRegions(context.Background(), &sdkec2.DescribeRegionsInput{RegionNames: []string{"panic"}})
	refused(t, err, "InternalError", 500, "An internal error has occurred")
	if log := c.log.String(); !strings.Contains(log, "secret text") || strings.Contains(err.Error(), "secret text") {
		t.Errorf("the log must have the panic's text, the client must not: %v\n%s", err, log)
	}
}
