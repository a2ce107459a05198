package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"skerry/internal/sigv4"
)

// sign does what --aws-sigv4 asks for, aws:amz:REGION:SERVICE, with --user KEY:SECRET. As curl does, it takes a region or a
// service that isn't given from a host name of the form SERVICE.REGION.….
func (o *curlOptions) sign(r *http.Request) error {
	usage := func(format string, args ...any) error { return &curlError{curlUsage, fmt.Errorf(format, args...)} }
	given := strings.Split(o.sigv4, ":")
	p := append(given, "", "", "")
	if p[0] != "aws" || p[1] != "" && p[1] != "amz" || len(given) > 4 {
		return usage("option --aws-sigv4: %q is not aws:amz:REGION:SERVICE", o.sigv4)
	}
	key, secret, ok := strings.Cut(o.user, ":")
	if !ok || key == "" {
		return usage("option --aws-sigv4: needs --user KEY:SECRET")
	}
	host := append(strings.SplitN(r.URL.Hostname(), ".", 3), "", "")
	region, service := p[2], p[3]
	if region == "" {
		region = host[1]
	}
	if service == "" {
		service = host[0]
	}
	switch {
	case region == "" || service == "":
		return &curlError{curlURL, errors.New("aws-sigv4: region or service missing in parameters and hostname")}
	case service == "s3":
		return usage("option --aws-sigv4: requests of S3 are signed in a way of their own, which is not supported here")
	}
	var body []byte
	if r.GetBody != nil {
		b, err := r.GetBody()
		if err == nil {
			body, err = io.ReadAll(b)
		}
		if err != nil {
			return err
		}
	}
	if err := sigv4.Sign(r, body, key, secret, region, service, time.Now()); err != nil {
		return &curlError{curlURL, err}
	}
	return nil
}
