package sigv4

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"
)

const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

var at = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

// verify parses and proves a request.
func verify(r *http.Request, body string, now time.Time) error {
	s, err := Parse(r)
	if err != nil {
		return err
	}
	return s.Verify(r, []byte(body), secret, now)
}

// TestVectors checks signatures that AWS has published.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, url, headers, signed, sum, service string }{
		{"get-vanilla", "https://example.amazonaws.com/", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", "service"},
		{"ListUsers", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", "application/x-www-form-urlencoded; charset=utf-8", "content-type;host;x-amz-date", "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7", "iam"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", tt.url, nil)
			r.Header.Set("X-Amz-Date", "20150830T123600Z")
			if tt.headers != "" {
				r.Header.Set("Content-Type", tt.headers)
			}
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/"+tt.service+"/aws4_request, SignedHeaders="+tt.signed+", Signature="+tt.sum)
			if err := verify(r, "", at); err != nil {
				t.Error(err)
			}
		})
	}
}

// signed returns a request that the SDK's signer signed.
func signed(t interface{ Fatal(...any) }, method, target, body, token string, edit func(*http.Request)) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if edit != nil {
		edit(r)
	}
	sum := sha256.Sum256([]byte(body))
	r.URL.Host = r.Host
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: secret, SessionToken: token}, r, hex.EncodeToString(sum[:]), "sts", "us-east-1", at); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestChangesAreNoticed(t *testing.T) {
	t.Parallel()
	const body = "Action=GetCallerIdentity"
	for _, tt := range []struct {
		name string
		edit func(*http.Request)
		body string
		now  time.Duration
		want Reason
		text string
	}{
		{"method", func(r *http.Request) { r.Method = "GET" }, body, 0, Mismatch, "does not match"},
		{"path", func(r *http.Request) { r.URL.Path = "/x" }, body, 0, Mismatch, "does not match"},
		{"query", func(r *http.Request) { r.URL.RawQuery = "a=2" }, body, 0, Mismatch, "does not match"},
		{"body", nil, body + "x", 0, Mismatch, "does not match"},
		{"host", func(r *http.Request) { r.Host = "other:4566" }, body, 0, Mismatch, "does not match"},
		{"a signed header", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, body, 0, Mismatch, "does not match"},
		{"an added header", func(r *http.Request) { r.Header.Set("X-Amz-Target", "A.B") }, body, 0, Mismatch, "'X-Amz-Target' must be a 'SignedHeader'"},
		{"the token", func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "other") }, body, 0, Mismatch, "does not match"},
		{"the region", func(r *http.Request) { replaceAuth(r, "us-east-1", "us-east-2") }, body, 0, Mismatch, "does not match"},
		{"the day", func(r *http.Request) { replaceAuth(r, "20150830", "20150831") }, body, 0, Scope, "20150831"},
		{"the terminator", func(r *http.Request) { replaceAuth(r, "aws4_request", "aws5_request") }, body, 0, Scope, "aws5_request"},
		{"the algorithm", func(r *http.Request) { replaceAuth(r, Algorithm, "AWS4-ECDSA-P256-SHA256") }, body, 0, Incomplete, "AWS4-ECDSA-P256-SHA256"},
		{"no signature", func(r *http.Request) { replaceAuth(r, "Signature=", "Sig=") }, body, 0, Incomplete, "requires 'Signature' parameter"},
		{"no host", func(r *http.Request) { replaceAuth(r, ";host", "") }, body, 0, Mismatch, "'Host'"},
		{"no date", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, body, 0, Incomplete, "'X-Amz-Date'"},
		{"no authorization", func(r *http.Request) { r.Header.Del("Authorization") }, body, 0, Missing, "missing Authentication Token"},
		{"a streamed body", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD") }, body, 0, Incomplete, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"},
		{"another body's hash", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", strings.Repeat("0", 64)) }, body, 0, Mismatch, "x-amz-content-sha256"},
		{"an unsigned payload, unsaid", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, body, 0, Mismatch, "does not match"},
		{"too old", nil, body, Skew + time.Second, Expired, "20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"},
		{"too early", nil, body, -Skew - time.Second, Early, "20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := signed(t, "POST", "http://127.0.0.1:4566/?a=1", body, "token", nil)
			if err := verify(r, body, at.Add(Skew)); err != nil {
				t.Fatalf("unchanged: %v", err)
			}
			if tt.edit != nil {
				tt.edit(r)
			}
			err := verify(r, tt.body, at.Add(tt.now))
			var e *Error
			if !errors.As(err, &e) || e.Reason != tt.want || !strings.Contains(e.Msg, tt.text) {
				t.Errorf("got %v, want %s with %q", err, tt.want, tt.text)
			}
		})
	}
}

func replaceAuth(r *http.Request, old, text string) {
	r.Header.Set("Authorization", strings.ReplaceAll(r.Header.Get("Authorization"), old, text))
}

func TestPresigned(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "http://127.0.0.1:4566/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Expires=600", nil)
	r.URL.Host = r.Host
	empty := sha256.Sum256(nil)
	uri, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: secret, SessionToken: "to/ken+="}, r, hex.EncodeToString(empty[:]), "sts", "us-east-1", at)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		old, new string
		now      time.Duration
		want     Reason
	}{
		{"as it is", "", "", 0, -1},
		{"in its last second", "", "", 600 * time.Second, -1},
		{"over", "", "", 601 * time.Second, Expired},
		{"from the future", "", "", -Skew - time.Second, Early},
		{"another action", "GetCallerIdentity", "GetSessionToken", 0, Mismatch},
		{"longer", "Expires=600", "Expires=6000", 0, Mismatch},
		{"too long", "Expires=600", "Expires=604801", 0, Incomplete},
		{"for nobody", "X-Amz-Credential=AKID", "X-Amz-Credentia=AKID", 0, Incomplete},
		{"without the token", "X-Amz-Security-Token", "Token", 0, Mismatch},
		{"twice the key", "Version=", "X-Amz-Date=1&Version=", 0, Incomplete},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", strings.Replace(uri, tt.old, tt.new, 1), nil)
			err := verify(r, "", at.Add(tt.now))
			if tt.want < 0 {
				if err != nil {
					t.Fatal(err)
				}
				if s, _ := Parse(r); s.Token != "to/ken+=" || !s.Presigned {
					t.Errorf("parsed as %+v", s)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Reason != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestSDKAgrees signs requests of odd forms with the SDK's signer: what it signs is accepted, and not with another body.
func TestSDKAgrees(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~]{0,12}`)
		path := "/" + strings.Join(rapid.SliceOfN(rapid.StringMatching(`[A-Za-z0-9_.~-]{1,8}`).Filter(func(s string) bool { return strings.Trim(s, ".") != "" }), 0, 4).Draw(t, "path"), "/")
		body := text.Draw(t, "body")
		r := signed(t, rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method"), "http://localhost:4566"+path, body, text.Draw(t, "token"), func(r *http.Request) {
			q := r.URL.Query()
			for range rapid.IntRange(0, 4).Draw(t, "parameters") {
				q.Add(rapid.StringMatching(`[a-c%+ é]{1,2}`).Draw(t, "key"), text.Draw(t, "value"))
			}
			r.URL.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
			r.Header.Set("X-Amz-Meta", " a  b ")
			r.Header.Add("X-Amz-Meta", text.Draw(t, "header"))
		})
		if err := verify(r, body, at); err != nil {
			t.Fatalf("%v\n%s %s\n%v", err, r.Method, r.URL, r.Header)
		}
		if verify(r, body+"!", at) == nil {
			t.Fatal("another body was accepted")
		}
		// Sign signs the same but for the length, which the SDK signs when there is a body.
		want := r.Header.Get("Authorization")
		if err := Sign(r, []byte(body), "AKID", secret, "us-east-1", "sts", at); err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Get("Authorization"); body == "" && got != want {
			t.Fatalf("Sign: %s\nthe SDK: %s", got, want)
		}
		if err := verify(r, body, at); err != nil {
			t.Fatalf("Sign: %v", err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64), "20150830T123600Z", "/a/../b//", "X-Amz-Credential=%zz")
	f.Add("", "", "/", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A/20150830/r/s/aws4_request&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Signature="+strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, auth, date, path, query string) {
		r := httptest.NewRequest("GET", "http://localhost/", nil)
		r.Header["Authorization"], r.Header["X-Amz-Date"] = []string{auth}, []string{date}
		r.URL.Path, r.URL.RawQuery = path, query
		if err := verify(r, "", at); err == nil {
			t.Errorf("accepted %q %q %q %q", auth, date, path, query)
		}
	})
}
