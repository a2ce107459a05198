package zone

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"
)

// Bounds of the protocol.
const (
	maxDesired     = 256 << 20 // bytes of a pushed state
	maxReport      = 64 << 20
	reportWait     = 25 * time.Second     // how long a pull waits for a change
	gatherFor      = 5 * time.Millisecond // changes that come together are one report
	requestTimeout = 10 * time.Second
)

// Client talks to a zone's data plane over its socket. Safe for concurrent use.
type Client struct {
	zone string
	http *http.Client
}

// SocketPath is where the zone's process listens.
func SocketPath(dataDir, zone string) string { return filepath.Join(dataDir, "zones", zone+".sock") }

// NewClient returns a client of the zone's process, which need not run yet.
func NewClient(dataDir, zone string) *Client {
	path := SocketPath(dataDir, zone)
	return &Client{zone: zone, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		MaxIdleConns: 4, IdleConnTimeout: time.Minute,
	}}}
}

// Zone is the zone's name.
func (c *Client) Zone() string { return c.zone }

// Push replaces the zone's desired state. When it returns nil the state outlives the process, and is applied as far as it
// can be (Report.Problems).
func (c *Client) Push(ctx context.Context, d Desired) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*requestTimeout)
	defer cancel()
	return c.do(ctx, http.MethodPut, "/desired", b, nil)
}

// Report returns the zone's report as it is now.
func (c *Client) Report(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var r Report
	return r, c.do(ctx, http.MethodGet, "/report", nil, &r)
}

// Wait returns the report as soon as it differs from the given one (its Boot and Version), or unchanged after some
// seconds. It is how the control plane hears a health change at once.
func (c *Client) Wait(ctx context.Context, since Report) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, reportWait+requestTimeout)
	defer cancel()
	var r Report
	return r, c.do(ctx, http.MethodGet, "/report?boot="+since.Boot+"&since="+strconv.FormatUint(since.Version, 10), nil, &r)
}

// Applied returns the version of the desired state that the zone holds; a control plane that starts compares it.
func (c *Client) Applied(ctx context.Context) (string, error) {
	r, err := c.Report(ctx)
	return r.Applied, err
}

// Healthy tells whether the process answers.
func (c *Client) Healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return c.do(ctx, http.MethodGet, "/healthy", nil, nil) == nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://zone"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("zone %s: %w", c.zone, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		msg, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("zone %s: %s: %s", c.zone, resp.Status, bytes.TrimSpace(msg))
	}
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
		return err
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxReport)).Decode(out)
}
