package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of asking the metadata service, which may be there some milliseconds after the machine.
const (
	imdsPatience  = 60 * time.Second
	imdsTimeout   = 2 * time.Second
	imdsFirstWait = time.Millisecond
	imdsMaxWait   = 500 * time.Millisecond
	imdsMaxBody   = 1 << 20
	imdsTokenTTL  = "21600"
)

var (
	errNoItem    = errors.New("no such item")
	errTurnedOff = errors.New("the metadata service is turned off for this instance")
)

// imds reads instance metadata with version 2 sessions.
type imds struct {
	base string
	c    *http.Client

	mu    sync.Mutex
	token string
}

func newIMDS(base string) *imds {
	return &imds{base: base, c: &http.Client{Timeout: imdsTimeout,
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: imdsTimeout}).DialContext}}}
}

// open gets a session, trying again until the service answers, ctx ends or the patience is over.
func (m *imds) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, imdsPatience)
	defer cancel()
	for wait := imdsFirstWait; ; wait = min(wait*3/2, imdsMaxWait) {
		body, status, err := m.do(ctx, http.MethodPut, "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", imdsTokenTTL)
		if err == nil && status == http.StatusOK {
			m.mu.Lock()
			m.token = string(body)
			m.mu.Unlock()
			return nil
		}
		if err == nil && status == http.StatusForbidden {
			return errTurnedOff
		}
		if err == nil {
			err = fmt.Errorf("status %d", status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the metadata service does not answer: %w", err)
		case <-time.After(wait):
		}
	}
}

// get reads one item; an absent one is errNoItem. What fails is tried again until the patience is over: the service's
// process may be on its way up again, and user data that can't be read is never run.
func (m *imds) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, imdsPatience)
	defer cancel()
	for wait := imdsFirstWait; ; wait = min(wait*3/2, imdsMaxWait) {
		m.mu.Lock()
		token := m.token
		m.mu.Unlock()
		body, status, err := m.do(ctx, http.MethodGet, "/latest/"+path, "X-aws-ec2-metadata-token", token)
		switch {
		case err != nil:
		case status == http.StatusOK:
			return body, nil
		case status == http.StatusNotFound:
			return nil, errNoItem
		case status == http.StatusForbidden:
			return nil, errTurnedOff
		case status == http.StatusUnauthorized:
			if err = m.open(ctx); err == nil {
				err = fmt.Errorf("%s: a new session is refused", path)
			}
		default:
			err = fmt.Errorf("%s: status %d", path, status)
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}

func (m *imds) do(ctx context.Context, method, path, header, value string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, m.base+path, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set(header, value)
	resp, err := m.c.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, imdsMaxBody))
	return b, resp.StatusCode, err
}
