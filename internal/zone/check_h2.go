package zone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"

	"golang.org/x/net/http2"

	"skerry/internal/proxy"
)

// speaksH2 tells whether targets of a version are checked over HTTP/2.
func speaksH2(version string) bool { return version == proxy.HTTP2 || version == proxy.GRPC }

var errNoGRPCStatus = errors.New("the answer has no grpc-status")

// probeH2 asks for the path over HTTP/2, with prior knowledge or after ALPN has agreed on it. It returns the HTTP status, or
// gRPC's if the targets speak gRPC.
func probeH2(ctx context.Context, conn net.Conn, p checkPlan) (int, error) {
	t := &http2.Transport{AllowHTTP: true, DisableCompression: true, MaxHeaderListSize: maxCheckHead}
	cc, err := t.NewClientConn(conn)
	if err != nil {
		return 0, err
	}
	defer cc.Close()
	scheme := "http://"
	if p.check.Protocol == "HTTPS" {
		scheme = "https://"
	}
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if p.version == proxy.GRPC {
		method, body = http.MethodPost, bytes.NewReader(make([]byte, 5)) // one empty message, not compressed
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+p.addr.String()+p.check.Path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", checkAgent)
	if p.version == proxy.GRPC {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
	} else {
		req.Header.Set("Accept-Encoding", "gzip, compressed")
	}
	resp, err := cc.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if p.version != proxy.GRPC {
		return resp.StatusCode, nil
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxCheckHead)); err != nil {
		return 0, err
	}
	s := resp.Header.Get("Grpc-Status")
	if s == "" {
		s = resp.Trailer.Get("Grpc-Status")
	}
	code, err := strconv.Atoi(s)
	if err != nil {
		return 0, errNoGRPCStatus
	}
	return code, nil
}
