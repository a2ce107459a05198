package zone

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skerry/internal/require"
)

// a clock that tests move.
type testClock struct{ t time.Time }

func (c *testClock) now() time.Time { return c.t }

func testInstance(id, ip string) *Instance {
	return &Instance{VPC: "vpc-1", IP: netip.MustParseAddr(ip), Account: "000000000000", Region: "us-east-1", Zone: "us-east-1a", ZoneID: "use1-az1", ID: id,
		ImageID: "ami-1", Type: "t2.micro", Architecture: "x86_64", ReservationID: "r-1", LaunchTime: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC),
		LocalHostname: "ip-10-0-0-5.ec2.internal", SecurityGroups: []string{"web", "ssh"}, RootDevice: "/dev/xvda",
		Options:    MetadataOptions{HopLimit: 1},
		Interfaces: []Interface{{ID: "eni-1", MAC: "0a:00:00:00:00:05", PrivateIP: ip, SubnetID: "subnet-1", SubnetCIDR: "10.0.0.0/24", VpcID: "vpc-1", VpcCIDRs: []string{"10.0.0.0/16"}, SecurityGroupIDs: []string{"sg-1"}}}}
}

func testIMDS(clock *testClock, instances ...*Instance) *imds {
	return &imds{vpc: "vpc-1", key: []byte("0123456789abcdef0123456789abcdef"), now: clock.now, log: slog.New(slog.DiscardHandler),
		lookup: func(_ string, ip netip.Addr) (*Instance, bool) {
			for _, i := range instances {
				if i.IP == ip {
					return i, true
				}
			}
			return nil, false
		}}
}

// ask sends a request as the instance with the address.
func ask(h http.Handler, from, method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, "http://169.254.169.254"+path, nil)
	r.RemoteAddr = from + ":40000"
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(r *http.Response) string { b, _ := io.ReadAll(r.Body); return string(b) }

func TestMetadataSessions(t *testing.T) {
	clock := &testClock{time.Unix(1_700_000_000, 0)}
	one, two := testInstance("i-1", "10.0.0.5"), testInstance("i-2", "10.0.0.6")
	h := testIMDS(clock, one, two)
	put := func(headers ...string) *http.Response {
		return ask(h, "10.0.0.5", "PUT", "/latest/api/token", headers...)
	}
	const ttl = "X-aws-ec2-metadata-token-ttl-seconds"
	for _, c := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"no ttl", nil, 400}, {"zero", []string{ttl, "0"}, 400}, {"too long", []string{ttl, "21601"}, 400}, {"no number", []string{ttl, "soon"}, 400},
		{"through a proxy", []string{ttl, "60", "X-Forwarded-For", "10.0.0.9"}, 403}, {"longest", []string{ttl, "21600"}, 200}, {"shortest", []string{ttl, "1"}, 200},
	} {
		if r := put(c.headers...); r.StatusCode != c.status {
			t.Errorf("PUT, %s: %d, wanted %d", c.name, r.StatusCode, c.status)
		}
	}
	if r := ask(h, "10.0.0.5", "PUT", "/2021-03-23/api/token", ttl, "60"); r.StatusCode != 403 {
		t.Errorf("PUT to a version: %d", r.StatusCode)
	}
	if r := ask(h, "10.0.0.5", "GET", "/latest/api/token"); r.StatusCode != 405 || r.Header.Get("Allow") != "OPTIONS, PUT" {
		t.Errorf("GET of the token path: %d, Allow %q", r.StatusCode, r.Header.Get("Allow"))
	}
	r := put(ttl, "60")
	token := body(r)
	if len(token) != 56 || r.Header.Get(ttl) != "60" {
		t.Errorf("token %q with ttl %q", token, r.Header.Get(ttl))
	}
	const path = "/latest/meta-data/instance-id"
	get := func(from string, headers ...string) int { return ask(h, from, "GET", path, headers...).StatusCode }
	if r := ask(h, "10.0.0.5", "GET", path, tokenHeader, token); r.StatusCode != 200 || body(r) != "i-1" || r.Header.Get(tokenTTLHeader) != "60" {
		t.Errorf("GET with the token: %d, ttl %q", r.StatusCode, r.Header.Get(tokenTTLHeader))
	}
	if got := get("10.0.0.6", tokenHeader, token); got != 401 {
		t.Errorf("another instance's token: %d", got)
	}
	if got := get("10.0.0.5", tokenHeader, "nonsense"); got != 401 {
		t.Errorf("a wrong token, though none is needed: %d", got)
	}
	if got := get("10.0.0.5"); got != 200 {
		t.Errorf("v1 while it is allowed: %d", got)
	}
	one.Options.TokensRequired = true
	if got := get("10.0.0.5"); got != 401 {
		t.Errorf("v1 when tokens are required: %d", got)
	}
	clock.t = clock.t.Add(61 * time.Second)
	if got := get("10.0.0.5", tokenHeader, token); got != 401 {
		t.Errorf("an expired token: %d", got)
	}
	one.Options.Disabled = true
	if got := get("10.0.0.5"); got != 403 {
		t.Errorf("GET when disabled: %d", got)
	}
	if got := put(ttl, "60").StatusCode; got != 403 {
		t.Errorf("PUT when disabled: %d", got)
	}
	if got := get("10.0.0.99"); got != 404 {
		t.Errorf("an address of nobody: %d", got)
	}
	if r := ask(h, "10.0.0.6", "POST", path); r.StatusCode != 405 {
		t.Errorf("POST: %d", r.StatusCode)
	}
}

func TestMetadataTree(t *testing.T) {
	in := testInstance("i-1", "10.0.0.5")
	in.PublicIP, in.PublicHostname = "127.0.1.5", "ec2-127-0-1-5.compute-1.amazonaws.com"
	in.KeyName, in.PublicKey = "my-key", "ssh-ed25519 AAAA my-key\n"
	in.UserData = []byte("#!/bin/sh\n\x00binary")
	in.Monitoring = true
	in.Lifecycle = "InService"
	in.Options.Tags, in.Tags = true, map[string]string{"Name": "web", "a/b": "slash"}
	in.Profile = &Profile{ARN: "arn:aws:iam::000000000000:instance-profile/p", ID: "AIPA1", Role: "r",
		Credentials: &Credentials{AccessKeyID: "ASIA1", SecretAccessKey: "s/\"x", Token: "t", LastUpdated: time.Unix(0, 0), Expiration: time.Unix(3600, 0)}}
	h := testIMDS(&testClock{time.Unix(0, 0)}, in)
	mac := "/latest/meta-data/network/interfaces/macs/0a:00:00:00:00:05/"
	for path, want := range map[string]string{
		"/latest":                                              "dynamic\nmeta-data\nuser-data",
		"/latest/meta-data/ami-id":                             "ami-1",
		"/2009-04-04/meta-data/instance-id":                    "i-1",
		"/latest/meta-data/placement/":                         "availability-zone\navailability-zone-id\nregion",
		"/latest/meta-data/placement/availability-zone":        "us-east-1a",
		"/latest/meta-data/placement/region":                   "us-east-1",
		"/latest/meta-data/security-groups":                    "web\nssh",
		"/latest/meta-data/mac":                                "0a:00:00:00:00:05",
		"/latest/meta-data/network/interfaces/macs/":           "0a:00:00:00:00:05/",
		mac + "subnet-ipv4-cidr-block":                         "10.0.0.0/24",
		mac + "vpc-ipv4-cidr-blocks":                           "10.0.0.0/16",
		mac + "device-number":                                  "0",
		"/latest/meta-data/public-keys/":                       "0=my-key",
		"/latest/meta-data/public-keys/0":                      "openssh-key",
		"/latest/meta-data/public-keys/0/openssh-key":          "ssh-ed25519 AAAA my-key",
		"/latest/meta-data/iam":                                "info\nsecurity-credentials/",
		"/latest/meta-data/iam/security-credentials/":          "r",
		"/latest/meta-data/tags/instance":                      "Name\na/b",
		"/latest/meta-data/tags/instance/Name":                 "web",
		"/latest/meta-data/tags/instance/a/b":                  "slash",
		"/latest/meta-data/autoscaling/target-lifecycle-state": "InService",
		"/latest/meta-data/events/maintenance/scheduled":       "[]",
		"/latest/meta-data/block-device-mapping/root":          "/dev/xvda",
		"/latest/meta-data/services/domain":                    "amazonaws.com",
		"/latest/dynamic/fws/instance-monitoring":              "enabled",
		"/latest/dynamic/instance-identity":                    "document",
		"/latest/user-data":                                    "#!/bin/sh\n\x00binary",
	} {
		r := ask(h, "10.0.0.5", "GET", path)
		if got := body(r); r.StatusCode != 200 || got != want {
			t.Errorf("%s: %d %q, wanted %q", path, r.StatusCode, got, want)
		}
	}
	for _, path := range []string{"/latest/meta-data/nothing", "/1999-01-01/meta-data/", "/latest/meta-data/spot/instance-action", "/latest/meta-data/ami-id/x",
		"/latest/meta-data/public-keys/1/openssh-key", "/latest/meta-data/iam/security-credentials/other", "/latest/meta-data/tags/instance/none",
		"/latest/meta-data/events/recommendations/rebalance", "/latest/dynamic/instance-identity/pkcs7"} {
		if r := ask(h, "10.0.0.5", "GET", path); r.StatusCode != 404 || !strings.Contains(body(r), "<h1>404 - Not Found</h1>") {
			t.Errorf("%s: %d, wanted 404 and its page", path, r.StatusCode)
		}
	}
	var creds struct{ Code, AccessKeyId, SecretAccessKey, Token, Expiration, Type string }
	r := ask(h, "10.0.0.5", "GET", "/latest/meta-data/iam/security-credentials/r")
	if err := json.Unmarshal([]byte(body(r)), &creds); err != nil || creds.Code != "Success" || creds.SecretAccessKey != "s/\"x" || creds.Expiration != "1970-01-01T01:00:00Z" || creds.Type != "AWS-HMAC" {
		t.Errorf("credentials: %+v, %v", creds, err)
	}
	if r.Header.Get("Accept-Ranges") != "none" || !strings.Contains(r.Header.Get("Server"), "EC2") {
		t.Errorf("headers of credentials: %v", r.Header)
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(identityDocument(in)), &doc); err != nil || doc["instanceId"] != "i-1" || doc["privateIp"] != "10.0.0.5" || doc["pendingTime"] != "2024-01-02T03:04:05Z" {
		t.Errorf("identity document: %v, %v", doc, err)
	}
	if r := ask(h, "10.0.0.5", "HEAD", "/latest/meta-data/ami-id"); r.StatusCode != 200 || body(r) != "" || r.Header.Get("Content-Length") != "5" {
		t.Errorf("HEAD: %d, length %s", r.StatusCode, r.Header.Get("Content-Length"))
	}
	if got := body(ask(h, "10.0.0.5", "GET", "/")); !strings.HasPrefix(got, "1.0\n2007-01-19\n") || !strings.HasSuffix(got, "\nlatest") {
		t.Errorf("versions: %q", got)
	}
}

func TestMetadataListsNothingThatIsAbsent(t *testing.T) {
	h := testIMDS(&testClock{time.Unix(0, 0)}, testInstance("i-1", "10.0.0.5"))
	list := "\n" + body(ask(h, "10.0.0.5", "GET", "/latest/meta-data/")) + "\n"
	for _, absent := range []string{"public-ipv4", "public-keys/", "iam/", "tags/", "spot/", "autoscaling/"} {
		if strings.Contains(list, "\n"+absent+"\n") {
			t.Errorf("the listing names %s, which the instance doesn't have", absent)
		}
	}
	for _, there := range []string{"ami-id", "network/", "placement/"} {
		if !strings.Contains(list, "\n"+there+"\n") {
			t.Errorf("the listing lacks %s: %q", there, list)
		}
	}
	for _, path := range []string{"/latest/user-data", "/latest/meta-data/tags/", "/latest/meta-data/iam/"} {
		if r := ask(h, "10.0.0.5", "GET", path); r.StatusCode != 404 {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}

// The signed document is verified by openssl, as its readers do.
func TestIdentityDocumentSignatures(t *testing.T) {
	dir := t.TempDir()
	s, err := loadSigner(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadSigner(dir, time.Now())
	if err != nil || !again.cert.Equal(s.cert) {
		t.Fatalf("the second zone has another key: %v", err)
	}
	doc := identityDocument(testInstance("i-1", "10.0.0.5"))
	sig, err := s.signature(doc)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(sig, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cert.CheckSignature(x509.SHA256WithRSA, []byte(doc), raw); err != nil {
		t.Errorf("signature: %v", err)
	}
	p7, err := s.pkcs7(doc)
	if err != nil {
		t.Fatal(err)
	}
	require.Tool(t, "openssl")
	message := filepath.Join(dir, "p7.pem")
	os.WriteFile(message, []byte("-----BEGIN PKCS7-----\n"+p7+"\n-----END PKCS7-----\n"), 0o600)
	out, err := exec.Command("openssl", "smime", "-verify", "-in", message, "-inform", "PEM", "-certfile", filepath.Join(dir, identityFile), "-noverify").Output()
	if err != nil || strings.ReplaceAll(string(out), "\r\n", "\n") != doc {
		t.Errorf("openssl verified %q: %v", out, err)
	}
}
