package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Bounds of talking to identity providers.
const (
	idpTimeout     = 10 * time.Second // one request
	idpConcurrent  = 64               // requests under way; more are refused at once
	idpConnections = 16               // a provider
	maxIDPAnswer   = 64 << 10
	maxJWKS        = 150 << 10
)

// idp is how a node talks to identity providers: from its own network, with their certificates verified. Safe for
// concurrent use.
type idp struct {
	client http.Client
	slots  chan struct{}

	mu   sync.Mutex
	keys map[string]*keySet // by JWKS endpoint; those of the tables in use
}

func newIDP(opt *Options) *idp {
	return &idp{slots: make(chan struct{}, idpConcurrent), keys: map[string]*keySet{}, client: http.Client{
		Timeout:       idpTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialContext: opt.Dial, TLSClientConfig: &tls.Config{RootCAs: opt.RootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: idpTimeout, MaxConnsPerHost: idpConnections, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, DisableCompression: true,
			MaxResponseHeaderBytes: maxResponseHead},
	}}
}

func (p *idp) close() { p.client.CloseIdleConnections() }

var errIDPBusy = errors.New("too many requests to identity providers are under way")

// idpError is an answer of a provider that says no.
type idpError struct {
	endpoint string
	status   int
	body     []byte
}

func (e *idpError) Error() string { return fmt.Sprintf("%s answered %d", e.endpoint, e.status) }

// do sends a request and returns the body of a 2xx answer, its beginning if it is too long. Another answer is an *idpError.
func (p *idp) do(ctx context.Context, req *http.Request, limit int64) ([]byte, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		return nil, errIDPBusy
	}
	resp, err := p.client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case resp.StatusCode/100 != 2:
		return nil, &idpError{req.URL.Host + req.URL.Path, resp.StatusCode, b}
	case err != nil:
		return nil, err
	case int64(len(b)) > limit:
		return b, fmt.Errorf("%s%s answered more than %d bytes", req.URL.Host, req.URL.Path, limit)
	}
	return b, nil
}

// get fetches a resource.
func (p *idp) get(ctx context.Context, endpoint, bearer string, limit int64) ([]byte, error) {
	req, err := http.NewRequest("GET", endpoint, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return p.do(ctx, req, limit)
}

// httpsURL checks an endpoint of a configuration.
func httpsURL(name, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Fragment != "" || !allOf([]byte(s), isURI) {
		return fmt.Errorf("%s %q is not an https URL", name, s)
	}
	return nil
}
