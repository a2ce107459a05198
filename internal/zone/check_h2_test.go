package zone

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// TestChecksOverHTTP2 checks targets that speak HTTP/2 and gRPC, and one that doesn't.
func TestChecksOverHTTP2(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.ProtoMajor != 2 || r.UserAgent() != checkAgent:
			w.WriteHeader(500)
		case r.URL.Path == "/grpc": // by hand, with trailers
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			if b, _ := io.ReadAll(r.Body); len(b) == 5 && r.Method == "POST" && r.Header.Get("Te") == "trailers" {
				w.Header().Set("Grpc-Status", "0")
			} else {
				w.Header().Set("Grpc-Status", "3")
			}
			w.Write([]byte{0, 0, 0, 0, 0})
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		default:
			w.WriteHeader(204)
		}
	})
	clear := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	clear.Protocols.SetUnencryptedHTTP2(true)
	cl := listen()
	go clear.Serve(cl)
	secured := httptest.NewUnstartedServer(handler)
	secured.EnableHTTP2 = true
	secured.StartTLS()
	old := httptest.NewServer(handler)
	gl := listen()
	gs := grpc.NewServer()
	go gs.Serve(gl)
	t.Cleanup(func() { clear.Close(); secured.Close(); old.Close(); gs.Stop() })

	c := newChecker(t.Context(), Options{Net: &fakeNet{}, Log: slog.New(slog.DiscardHandler), Now: time.Now}, nil)
	for name, x := range map[string]struct {
		addr, protocol, version, path, matcher string
		want                                   result
	}{
		"in the clear":   {cl.Addr().String(), "HTTP", "HTTP2", "/", "204", result{OK: true, Code: 204}},
		"other status":   {cl.Addr().String(), "HTTP", "HTTP2", "/", "200-203", result{Reason: reasonMismatch, Code: 204, Detail: "ResponseCodeMismatch"}},
		"TLS":            {secured.Listener.Addr().String(), "HTTPS", "HTTP2", "/", "204", result{OK: true, Code: 204}},
		"HTTP/1.1":       {old.Listener.Addr().String(), "HTTP", "HTTP2", "/", "200", result{Reason: reasonFailed, Detail: "TargetError"}},
		"too slow":       {cl.Addr().String(), "HTTP", "HTTP2", "/slow", "200", result{Reason: reasonTimeout, Detail: "TimedOut"}},
		"gRPC":           {gl.Addr().String(), "HTTP", "GRPC", "/AWS.ALB/healthcheck", "12", result{OK: true, Code: 12}},
		"gRPC mismatch":  {gl.Addr().String(), "HTTP", "GRPC", "/AWS.ALB/healthcheck", "0,1-5", result{Reason: reasonMismatch, Code: 12, Detail: "GRPCUnexpectedStatus"}},
		"gRPC trailers":  {cl.Addr().String(), "HTTP", "GRPC", "/grpc", "0", result{OK: true}},
		"gRPC over TLS":  {secured.Listener.Addr().String(), "HTTPS", "GRPC", "/grpc", "0-99", result{OK: true}},
		"no grpc-status": {cl.Addr().String(), "HTTP", "GRPC", "/", "0-99", result{Reason: reasonFailed, Detail: "GRPCStatusHeaderEmpty"}},
	} {
		p := checkPlan{version: x.version, addr: netip.MustParseAddrPort(x.addr), check: HealthCheck{Protocol: x.protocol, Path: x.path, Matcher: x.matcher}}
		timeout := 20 * time.Second
		if x.want.Reason == reasonTimeout {
			timeout = 400 * time.Millisecond
		}
		if got := c.once(context.Background(), p, timeout); got != x.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
