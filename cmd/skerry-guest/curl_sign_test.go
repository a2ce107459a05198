package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"skerry/internal/sigv4"
)

func TestCurlSigns(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "other auth=%q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s, err := sigv4.Parse(r)
		if err == nil {
			err = s.Verify(r, body, "secret", time.Now())
		}
		if err != nil {
			w.WriteHeader(403)
			fmt.Fprint(w, err)
			return
		}
		switch r.URL.Path {
		case "/to":
			http.Redirect(w, r, "/there", 307)
		case "/away":
			http.Redirect(w, r, other.URL+"/", 302)
		default:
			fmt.Fprintf(w, "%s %s %s %s token=%s %s", s.AccessKeyID, s.Region, s.Service, r.RequestURI, s.Token, body)
		}
	}))
	defer srv.Close()
	const as = "--aws-sigv4 aws:amz:eu-west-1:autoscaling --user AKID:secret "
	for _, c := range []struct {
		args string
		code int
		out  string
	}{
		{as + "U/", 0, "AKID eu-west-1 autoscaling / token= "},
		{as + "-d Action=CompleteLifecycleAction -d Version=2011-01-01 U/", 0, "AKID eu-west-1 autoscaling / token= Action=CompleteLifecycleAction&Version=2011-01-01"},
		{as + "-H x-amz-security-token:T+/= -d a=b U/", 0, "AKID eu-west-1 autoscaling / token=T+/= a=b"},
		{as + "-H X-Amz-Target:A.B -H Content-Type:application/x-amz-json-1.0 -d {} U/", 0, "AKID eu-west-1 autoscaling / token= {}"},
		{as + "-G --data-urlencode b=x=y&z --data-urlencode a=%+ U/p/q", 0, "AKID eu-west-1 autoscaling /p/q?b=x%3Dy%26z&a=%25%2B token= "},
		{as + "-L -d a=b U/to", 0, "AKID eu-west-1 autoscaling /there token= a=b"},
		{as + "-L U/away", 0, `other auth=""`},
		{"--user AKID:wrong --aws-sigv4 aws:amz:r:s U/", 0, "Mismatch: The request signature"},
		{"--aws-sigv4 aws:amz:r:s U/", curlUsage, ""},
		{"--aws-sigv4 osc --user k:s U/", curlUsage, ""},
		{"--aws-sigv4 aws:amz:r:s:x --user k:s U/", curlUsage, ""},
		{"--aws-sigv4 aws:amz:r:s3 --user k:s U/", curlUsage, ""},
		{"--aws-sigv4 aws:amz --user k:s http://localhost/", curlURL, ""},
	} {
		var args []string
		for a := range strings.FieldsSeq(c.args) {
			args = append(args, strings.Replace(a, "U/", srv.URL+"/", 1))
		}
		var out bytes.Buffer
		if code := curl(args, nil, &out, io.Discard); code != c.code || !strings.HasPrefix(out.String(), c.out) || c.out == "" && out.Len() > 0 {
			t.Errorf("%s: status %d, %q; want %d, %q", c.args, code, out.String(), c.code, c.out)
		}
	}
	// A region and a service that aren't given come from the host's name.
	r := httptest.NewRequest("GET", "http://monitoring.eu-north-1.amazonaws.com/", nil)
	o := curlOptions{sigv4: "aws:amz", user: "AKID:secret"}
	if err := o.sign(r); err != nil || !strings.Contains(r.Header.Get("Authorization"), "/eu-north-1/monitoring/aws4_request") {
		t.Errorf("%v, %q", err, r.Header.Get("Authorization"))
	}
}
