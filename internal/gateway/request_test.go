package gateway

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"skerry/api"
	"skerry/api/acm"
	"skerry/api/autoscaling"
	"skerry/api/cloudwatch"
	"skerry/api/ec2"
	"skerry/api/elbv2"
	"skerry/api/iam"
	"skerry/api/sts"
	"skerry/internal/fault"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// request is one to send in memory, signed by the SDK's signer.
type request struct {
	service, region, key string // defaults: sts, eu-west-1, skerry
	method, path, body   string
	header               map[string]string
	unsigned             bool
	edit                 func(*http.Request) // after signing
}

func (q request) send(t *testing.T, h http.Handler) *httptest.ResponseRecorder {
	t.Helper()
	or := func(s, def string) string {
		if s == "" {
			return def
		}
		return s
	}
	r := httptest.NewRequest(or(q.method, "POST"), "http://127.0.0.1:4566"+or(q.path, "/"), strings.NewReader(q.body))
	r.RemoteAddr = "127.0.0.1:5000"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	if !q.unsigned {
		r.URL.Host = r.Host
		sum := sha256.Sum256([]byte(q.body))
		key := or(q.key, "skerry")
		secret := "test"
		if key == "skerry" {
			secret = key
		}
		if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: key, SecretAccessKey: secret}, r, hex.EncodeToString(sum[:]), or(q.service, "sts"), or(q.region, "eu-west-1"), now); err != nil {
			t.Fatal(err)
		}
	}
	if q.edit != nil {
		q.edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func services() *api.Mux {
	return api.NewMux(&ec2.Service, &autoscaling.Service, &elbv2.Service, &cloudwatch.Service, &iam.Service, &sts.Service, &acm.Service)
}

func serve(m *api.Mux, edit func(*Options)) http.Handler {
	o := Options{Mux: m, Clock: func() time.Time { return now }, Credentials: WellKnown}
	if edit != nil {
		edit(&o)
	}
	return New(o)
}

func whoami(m *api.Mux) *api.Mux {
	api.Handle(m, sts.GetCallerIdentity, func(c *api.Call, in *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
		return &sts.GetCallerIdentityResponse{Account: &c.Account}, nil
	})
	return m
}

const whoamiForm = "Action=GetCallerIdentity&Version=2011-06-15"

func TestWellKnownKeysAreForThisMachine(t *testing.T) {
	t.Parallel()
	h := serve(whoami(services()), nil)
	for _, tt := range []struct {
		name string
		edit func(*http.Request)
		want string // empty: served
	}{
		{"from IPv6 loopback", func(r *http.Request) { r.RemoteAddr = "[::1]:9" }, ""},
		{"from an address of the public pool", func(r *http.Request) { r.RemoteAddr = "127.127.3.4:9" }, ""},
		{"from another machine", func(r *http.Request) { r.RemoteAddr = "10.0.0.2:9" }, "comes from 10.0.0.2:9"},
		{"from an instance", func(r *http.Request) { r.RemoteAddr = "169.254.1.2:9" }, "comes from 169.254.1.2:9"},
		{"a page of its own", func(r *http.Request) {
			r.Header.Set("Origin", "http://127.0.0.1:4566")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}, ""},
		{"a foreign page", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, "Origin"},
		{"a page of no origin", func(r *http.Request) { r.Header.Set("Origin", "null") }, "Origin"},
		{"a page of another port", func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:80") }, "Origin"},
		{"a foreign site", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, "Sec-Fetch-Site"},
		{"another site of this machine", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, "Sec-Fetch-Site"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := request{body: whoamiForm, edit: tt.edit}.send(t, h)
			if tt.want == "" {
				if w.Code != 200 {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				return
			}
			if w.Code != 403 || !strings.Contains(w.Body.String(), "<Code>InvalidClientTokenId</Code>") || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	for host, ok := range map[string]bool{"localhost:4566": true, "LOCALHOST": true, "a.localhost:1": true, "127.1.2.3:4566": true, "[::1]:4566": true, "localhost.": true,
		"evil.example": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "10.0.0.1": false, "": false, "[::ffff:10.0.0.1]:1": false} {
		if loopbackName(host) != ok {
			t.Errorf("host %q: want %t", host, ok)
		}
	}
	for key, account := range map[string]string{"test": RootAccount, "skerry": RootAccount, "111122223333": "111122223333"} {
		r := httptest.NewRequest("POST", "http://localhost/", nil)
		r.RemoteAddr = "127.0.0.1:1"
		if c, err := WellKnown(key, r); err != nil || c.Principal.Account != account {
			t.Errorf("%s: %+v %v", key, c, err)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	m := services()
	var answer error
	api.Handle(m, ec2.DescribeVpcs, func(*api.Call, *ec2.DescribeVpcsRequest) (*ec2.DescribeVpcsResult, error) { return nil, answer })
	api.Handle(m, iam.ListUsers, func(*api.Call, *iam.ListUsersRequest) (*iam.ListUsersResponse, error) { return nil, answer })
	api.Handle(m, cloudwatch.ListMetrics, func(*api.Call, *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		return nil, answer
	})
	api.Handle(m, acm.ListCertificates, func(*api.Call, *acm.ListCertificatesRequest) (*acm.ListCertificatesResponse, error) {
		return nil, answer
	})
	var log bytes.Buffer
	h := serve(m, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	inEC2 := request{service: "ec2", body: "Action=DescribeVpcs&Version=2016-11-15"}
	inIAM := request{service: "iam", region: "us-east-1", body: "Action=ListUsers&Version=2010-05-08"}
	inJSON := request{service: "acm", body: "{}", header: map[string]string{"X-Amz-Target": "CertificateManager.ListCertificates", "Content-Type": "application/x-amz-json-1.1"}}
	inCBOR := request{service: "monitoring", path: "/service/GraniteServiceVersion20100801/operation/ListMetrics", header: map[string]string{"Smithy-Protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}}
	for _, tt := range []struct {
		name   string
		err    error
		in     request
		status int
		want   string
	}{
		{"not found", fault.New(fault.NotFound, "InvalidVpcID.NotFound", "The vpc ID 'v' does not exist"), inEC2, 400, "<Code>InvalidVpcID.NotFound</Code><Message>The vpc ID 'v' does not exist</Message>"},
		{"no capacity", fault.New(fault.Capacity, "InsufficientInstanceCapacity", "none"), inEC2, 500, "InsufficientInstanceCapacity"},
		{"denied by EC2's name elsewhere", fault.New(fault.Denied, "UnauthorizedOperation", "no"), inIAM, 403, "<Code>AccessDenied</Code><Message>no</Message>"},
		{"denied by the general name in EC2", fault.New(fault.Denied, "AccessDenied", "no"), inEC2, 403, "<Code>UnauthorizedOperation</Code><Message>You are not authorized to perform this operation. no</Message>"},
		{"denied in JSON", fault.New(fault.Denied, "AccessDenied", "no"), inJSON, 400, `{"__type":"AccessDeniedException","message":"no"}`},
		{"a status of the model", fault.New(fault.NotFound, "NoSuchEntity", "none"), inIAM, 404, "<Type>Sender</Type><Code>NoSuchEntity</Code>"},
		{"a code that a shape has", fault.New(fault.Limit, "LimitExceeded", "x"), inCBOR, 400, "com.amazonaws.cloudwatch#LimitExceededFault"},
		{"an expired key", fault.New(fault.Denied, "ExpiredToken", "x"), inIAM, 403, "<Code>ExpiredToken</Code>"},
		{"the disk is full", fault.New(fault.Unavailable, "Unavailable", "The state could not be written to disk").Wrap(errors.New("no space")), inEC2, 503, "<Code>Unavailable</Code><Message>The state could not be written to disk</Message>"},
		{"the disk is full, elsewhere", fault.New(fault.Unavailable, "Unavailable", "x"), inIAM, 503, "<Type>Receiver</Type><Code>ServiceUnavailable</Code>"},
		{"an unknown error", errors.New("secret"), inEC2, 500, "<Code>InternalError</Code><Message>An internal error has occurred</Message>"},
		{"an unknown error in CBOR", errors.New("secret"), inCBOR, 500, "#InternalFailure"},
		{"a wrapped fault", errors.Join(errors.New("secret"), fault.New(fault.State, "IncorrectState", "x")), inEC2, 400, "<Code>IncorrectState</Code>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer = tt.err
			w := tt.in.send(t, h)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if id := w.Header().Get("X-Amzn-Requestid"); len(id) != 36 || !strings.Contains(log.String(), id) {
				t.Errorf("request id %q is not in the log", id)
			}
		})
	}
	answer = fault.New(fault.NotFound, "ResourceNotFound", "none")
	w := inCBOR.send(t, h)
	if w.Header().Get("X-Amzn-Query-Error") != "ResourceNotFound;Sender" || w.Header().Get("Smithy-Protocol") != "rpc-v2-cbor" || w.Header().Get("X-Amzn-Errortype") != "ResourceNotFound" {
		t.Errorf("headers %v", w.Header())
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := serve(whoami(services()), nil)
	zipped := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, s)
		_ = z.Close()
		return b.String()
	}
	for _, tt := range []struct {
		name   string
		in     request
		status int
		want   string
	}{
		{"served", request{body: whoamiForm}, 200, "<Account>000000000000</Account>"},
		{"served by GET", request{method: "GET", path: "/?" + whoamiForm}, 200, "<Account>"},
		{"served, compressed", request{body: zipped(whoamiForm), header: map[string]string{"Content-Encoding": "gzip"}}, 200, "<Account>"},
		{"health needs no key", request{method: "GET", path: "/_skerry/health", unsigned: true}, 200, "ok"},
		{"unsigned", request{body: whoamiForm, unsigned: true}, 403, "<Code>MissingAuthenticationToken</Code>"},
		{"unsigned EC2", request{body: "Action=DescribeVpcs&Version=2016-11-15", unsigned: true}, 403, "<Response><Errors><Error><Code>MissingAuthenticationToken</Code>"},
		{"no region", request{body: whoamiForm, region: "nowhere"}, 403, "valid region, not 'nowhere'"},
		{"a service that is not there", request{service: "s3", body: "Action=X"}, 400, "The service 's3' is not served"},
		{"the classic load balancers", request{service: "elasticloadbalancing", body: "Action=DescribeLoadBalancers&Version=2012-06-01"}, 400, "<Code>InvalidAction</Code><Message>Could not find operation DescribeLoadBalancers for version 2012-06-01"},
		{"no action", request{body: "Version=2011-06-15"}, 400, "<Code>MissingAction</Code>"},
		{"an action without a handler", request{body: "Action=AssumeRole"}, 400, "<Code>InvalidAction</Code><Message>The operation AssumeRole of sts is not served."},
		{"the key of one service for another", request{service: "sts", header: map[string]string{"X-Amz-Target": "CertificateManager.ListCertificates"}, body: "{}"}, 400, "correct service: 'acm'"},
		{"an unknown target", request{service: "acm", header: map[string]string{"X-Amz-Target": "Foo.Bar"}, body: "{}"}, 400, "UnknownOperationException"},
		{"an unknown path", request{method: "GET", path: "/bucket/key"}, 404, "UnknownOperationException"},
		{"another method", request{method: "DELETE"}, 405, "MethodNotAllowed"},
		{"no form", request{body: "{}", header: map[string]string{"Content-Type": "application/json"}}, 415, "UnsupportedMediaType"},
		{"a malformed form", request{body: "Action=%zz"}, 400, "MalformedQueryString"},
		{"an unknown encoding", request{body: whoamiForm, header: map[string]string{"Content-Encoding": "br"}}, 415, "gzip"},
		{"no gzip", request{body: whoamiForm, header: map[string]string{"Content-Encoding": "gzip"}}, 400, "malformed"},
		{"too large", request{body: strings.Repeat("a", MaxBody+1)}, 413, "RequestEntityTooLarge"},
		{"too large, compressed", request{body: zipped(strings.Repeat("a", MaxBody+1)), header: map[string]string{"Content-Encoding": "gzip"}}, 413, "RequestEntityTooLarge"},
		{"a long URL", request{method: "GET", path: "/?a=" + strings.Repeat("b", MaxURL)}, 414, "RequestURITooLong"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if w := tt.in.send(t, h); w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d %.300s", w.Code, w.Body)
			}
		})
	}
}

func TestValidation(t *testing.T) {
	t.Parallel()
	m := services()
	api.Handle(m, ec2.DescribeVpcs, func(*api.Call, *ec2.DescribeVpcsRequest) (*ec2.DescribeVpcsResult, error) { return nil, nil })
	api.Handle(m, ec2.DeleteVpc, func(*api.Call, *ec2.DeleteVpcRequest) (*ec2.DeleteVpcOutput, error) { return nil, nil })
	api.Handle(m, ec2.CreateVpc, func(*api.Call, *ec2.CreateVpcRequest) (*ec2.CreateVpcResult, error) { return nil, nil })
	api.Handle(m, autoscaling.CreateAutoScalingGroup, func(*api.Call, *autoscaling.CreateAutoScalingGroupType) (*autoscaling.CreateAutoScalingGroupOutput, error) {
		return nil, nil
	})
	api.Handle(m, elbv2.CreateTargetGroup, func(*api.Call, *elbv2.CreateTargetGroupInput) (*elbv2.CreateTargetGroupOutput, error) {
		return nil, nil
	})
	api.Handle(m, iam.GetRole, func(*api.Call, *iam.GetRoleRequest) (*iam.GetRoleResponse, error) { return nil, nil })
	api.Handle(m, acm.ListTagsForCertificate, func(*api.Call, *acm.ListTagsForCertificateRequest) (*acm.ListTagsForCertificateResponse, error) {
		return nil, nil
	})
	h := serve(m, nil)
	for _, tt := range []struct {
		service, body string
		want          string // empty: valid
	}{
		{"ec2", "Action=DeleteVpc", "<Code>MissingParameter</Code><Message>The request must contain the parameter VpcId</Message>"},
		{"ec2", "Action=DescribeVpcs&MaxResults=1", "<Code>InvalidParameterValue</Code><Message>Value ( 1 ) for parameter MaxResults is invalid. Expecting a value greater than or equal to 5.</Message>"},
		{"ec2", "Action=DescribeVpcs&MaxResults=x", "<Code>InvalidParameterValue</Code><Message>Invalid value &apos;x&apos; for MaxResults"},
		{"ec2", "Action=DescribeVpcs&VpcName=x", "<Code>UnknownParameter</Code><Message>The parameter VpcName is not recognized</Message>"},
		{"ec2", "Action=CreateVpc&InstanceTenancy=mine", "Value (mine) for parameter InstanceTenancy is invalid. Expecting one of: default, dedicated, host."},
		{"ec2", "Action=DescribeVpcs&MaxResults=5", ""},
		{"autoscaling", "Action=CreateAutoScalingGroup&AutoScalingGroupName=&MinSize=1",
			"<Code>ValidationError</Code><Message>2 validation errors detected: Value '' at 'autoScalingGroupName' failed to satisfy constraint: Member must have length greater than or equal to 1; Value null at 'maxSize' failed to satisfy constraint: Member must not be null</Message>"},
		{"autoscaling", "Action=CreateAutoScalingGroup&AutoScalingGroupName=g&MinSize=1&MaxSize=1&Tags.member.1.Value=x", "Value null at 'tags.1.member.key'"},
		{"autoscaling", "Action=CreateAutoScalingGroup&AutoScalingGroupName=g&MinSize=1&MaxSize=1&Future=x", ""},
		{"elasticloadbalancing", "Action=CreateTargetGroup&Name=t&Protocol=GOPHER", "Value 'GOPHER' at 'protocol' failed to satisfy constraint: Member must satisfy enum value set: [HTTP, HTTPS, TCP,"},
		{"elasticloadbalancing", "Action=CreateTargetGroup&Name=t&Port=70000", "Value '70000' at 'port' failed to satisfy constraint: Member must have value less than or equal to 65535"},
		{"iam", "Action=GetRole&RoleName=a%20b", `Value 'a b' at 'roleName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`},
		{"iam", "Action=GetRole&RoleName=ok", ""},
		{"acm", "{}", `{"__type":"ValidationException","message":"1 validation error detected: Value null at 'certificateArn' failed to satisfy constraint: Member must not be null"}`},
	} {
		t.Run(tt.service+" "+tt.body, func(t *testing.T) {
			q := request{service: tt.service, body: tt.body}
			if tt.service == "acm" {
				q.header = map[string]string{"X-Amz-Target": "CertificateManager.ListTagsForCertificate"}
			}
			w := q.send(t, h)
			want := strings.ReplaceAll(tt.want, "&apos;", "'")
			switch {
			case tt.want == "" && w.Code != 200, tt.want != "" && (w.Code != 400 || !strings.Contains(w.Body.String(), want)):
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// TestAuthorization: whether the caller may do it is asked with the decoded input and what the request says of itself,
// before the handler and before a dry run ends; without a say for operations that are not served.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	m := whoami(services())
	api.Handle(m, ec2.TerminateInstances, func(c *api.Call, in *ec2.TerminateInstancesRequest) (*ec2.TerminateInstancesResult, error) {
		return nil, c.Authorize("iam:PassRole", in.InstanceIds[0])
	})
	var asked []string
	h := serve(m, func(o *Options) {
		o.Permit = func(c *api.Call, h *api.Handler, in any) error {
			asked = append(asked, h.Name, c.Principal.AccessKeyID, c.Keys["aws:requestedregion"][0], c.Keys["aws:sourceip"][0], c.Keys["aws:securetransport"][0])
			if x, ok := in.(*ec2.TerminateInstancesRequest); ok && x.InstanceIds[0] == "i-no" {
				return fault.New(fault.Denied, "AccessDenied", "User: %s is not authorized", c.Principal.ARN)
			}
			return nil
		}
		o.Authorize = func(c *api.Call, action, resource string) error {
			asked = append(asked, action)
			if resource == "i-other" {
				return fault.New(fault.Denied, "AccessDenied", "no")
			}
			return nil
		}
	})
	permit := func(op string) []string { return []string{op, "skerry", "eu-west-1", "127.0.0.1", "false"} }
	for _, tt := range []struct {
		service, body string
		want          []string
		status        int
	}{
		{"sts", whoamiForm, permit("GetCallerIdentity"), 200},
		{"ec2", "Action=TerminateInstances&InstanceId.1=i-1", append(permit("TerminateInstances"), "iam:PassRole"), 200},
		{"ec2", "Action=TerminateInstances&InstanceId.1=i-other", append(permit("TerminateInstances"), "iam:PassRole"), 403},
		{"ec2", "Action=TerminateInstances&InstanceId.1=i-no&DryRun=true", permit("TerminateInstances"), 403},
		{"ec2", "Action=TerminateInstances&InstanceId.1=i-1&DryRun=true", permit("TerminateInstances"), 412},
		{"ec2", "Action=TerminateInstances&InstanceId.1=i-1&Bad=1", nil, 400},
		{"ec2", "Action=StopInstances&InstanceId.1=i-1", nil, 400},
	} {
		t.Run(tt.service+" "+tt.body, func(t *testing.T) {
			asked = nil
			w := request{service: tt.service, body: tt.body}.send(t, h)
			if w.Code != tt.status || !slices.Equal(asked, tt.want) {
				t.Errorf("%d %s\nasked %q", w.Code, w.Body, asked)
			}
		})
	}
}

func TestTooManyAtATime(t *testing.T) {
	t.Parallel()
	m := services()
	in, out := make(chan struct{}), make(chan struct{})
	api.Handle(m, sts.GetCallerIdentity, func(*api.Call, *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
		in <- struct{}{}
		<-out
		return nil, nil
	})
	h := serve(m, nil)
	g := h.(*Gateway)
	g.inFlight = make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { request{body: whoamiForm}.send(t, h) })
	<-in
	if w := (request{body: whoamiForm}).send(t, h); w.Code != 400 || !strings.Contains(w.Body.String(), "<Code>Throttling</Code>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	close(out)
	wg.Wait()
}

// TestSlowBody opens a request whose body never comes: it must not hold its place for long.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	h := serve(services(), nil)
	h.(*Gateway).bodyTimeout = 50 * time.Millisecond
	s := httptest.NewServer(h)
	defer s.Close()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%s", resp.Status)
	}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	text := string(Coverage(whoami(services())))
	for _, want := range []string{"| [sts](#sts) | 2011-06-15 | query | 1 | 0 | 0 | 4 |", "| GetCallerIdentity | yes |", "| AssumeRole | no |", "\n## cloudwatch\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func FuzzRequest(f *testing.F) {
	h := serve(whoami(services()), nil)
	f.Add("POST", "/", whoamiForm, "application/x-www-form-urlencoded", "", "AWS4-HMAC-SHA256 Credential=test/20260102/eu-west-1/ec2/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64))
	f.Add("GET", "/service/GraniteServiceVersion20100801/operation/X", "\xa0", "application/cbor", "A.B", "")
	f.Fuzz(func(t *testing.T, method, path, body, ct, target, auth string) {
		r := httptest.NewRequest("POST", "http://localhost/", strings.NewReader(body))
		r.Method, r.URL.Path, r.RemoteAddr = method, path, "127.0.0.1:1"
		r.Header = http.Header{"Content-Type": {ct}, "X-Amz-Date": {"20260102T030405Z"}, "Smithy-Protocol": {"rpc-v2-cbor"}, "Authorization": {auth}}
		if target != "" {
			r.Header.Set("X-Amz-Target", target)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if path != "/_skerry/health" && (w.Code == 200 || w.Code == 500) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
