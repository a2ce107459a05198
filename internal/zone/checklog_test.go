package zone

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCheckLine(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC)
	p := checkPlan{group: "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123456789abcdef", addr: netip.MustParseAddrPort("10.0.0.7:8080"), check: HealthCheck{Protocol: "HTTP"}}
	l := checkLog{name: "app/l/fedcba9876543210", node: netip.MustParseAddr("10.0.0.5")}
	for _, c := range []struct {
		protocol, version string
		r                 result
		want              string
	}{
		{"HTTP", "HTTP1", result{OK: true, Code: 200}, "http 2026-01-02T03:04:05.000678Z 0.019584011 10.0.0.7:8080 web PASS 200 -"},
		{"HTTPS", "HTTP1", result{Code: 404, Detail: "ResponseCodeMismatch"}, "https 2026-01-02T03:04:05.000678Z 0.019584011 10.0.0.7:8080 web FAIL 404 ResponseCodeMismatch"},
		{"HTTP", "HTTP2", result{Detail: "ConnectionReset"}, "h2 2026-01-02T03:04:05.000678Z 0.019584011 10.0.0.7:8080 web FAIL - ConnectionReset"},
		{"HTTPS", "GRPC", result{OK: true}, "grpc 2026-01-02T03:04:05.000678Z 0.019584011 10.0.0.7:8080 web PASS 0 -"},
		{"HTTP", "GRPC", result{Detail: "GRPCUnexpectedStatus"}, "grpc 2026-01-02T03:04:05.000678Z 0.019584011 10.0.0.7:8080 web FAIL 0 GRPCUnexpectedStatus"},
	} {
		p.check.Protocol, p.version = c.protocol, c.version
		if got, want := string(appendCheck(nil, l, p, c.r, at, 19584011*time.Nanosecond)), c.want+" app/l/fedcba9876543210 10.0.0.5\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What a check that fails says in the log.
func TestCheckReasons(t *testing.T) {
	t.Parallel()
	serve := func(answer string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					c.Read(make([]byte, 1024))
					io.WriteString(c, answer)
				}()
			}
		}()
		return l.Addr().String()
	}
	c := newChecker(t.Context(), Options{Net: &fakeNet{}, Log: slog.New(slog.DiscardHandler), Now: time.Now}, nil)
	for want, addr := range map[string]string{"ConnectionReset": "127.0.0.1:1", "TargetError": serve("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), "ResponseCodeMismatch": serve("HTTP/1.1 404 No\r\n\r\n")} {
		p := checkPlan{addr: netip.MustParseAddrPort(addr), check: HealthCheck{Protocol: "HTTP", Path: "/", Matcher: "200"}}
		if got := c.once(context.Background(), p, 20*time.Second); got.OK || got.Detail != want {
			t.Errorf("%+v, want %s", got, want)
		}
	}
	p := checkPlan{addr: netip.MustParseAddrPort(serve("")), check: HealthCheck{Protocol: "HTTP", Path: "/", Matcher: "200"}}
	if got := c.once(context.Background(), p, 20*time.Second); got.Detail != "ConnectionReset" {
		t.Errorf("a target that closes: %+v", got)
	}
}

// The log of health checks follows the load balancer's attributes.
func TestCheckLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := newNodes(Options{DataDir: dir, Net: &fakeNet{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, Zone: "us-east-1a"}, &reporter{}, newChecker(t.Context(), Options{}, nil))
	group := "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123456789abcdef"
	b := Balancer{ARN: "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/l/fedcba9876543210", Name: "app/l/fedcba9876543210", Type: "application",
		NodeIP: netip.MustParseAddr("10.0.0.5"), Listeners: []Listener{{Default: []Action{{Type: "forward", Forward: []Weighted{{GroupARN: group, Weight: 1}}}}}}}
	check := func(path string) {
		n.logCheck(checkPlan{group: group, addr: netip.MustParseAddrPort("10.0.0.7:80"), check: HealthCheck{Protocol: "HTTP", Path: path}}, result{OK: true, Code: 200}, time.Now(), time.Millisecond)
	}
	apply := func(attributes map[string]string) {
		t.Helper()
		b.Attributes = attributes
		n.desired, n.byGroup = Desired{Balancers: []Balancer{b}}, map[string]TargetGroup{group: {ARN: group}}
		if errs := n.applyCheckLogs(); errs != nil {
			t.Fatal(errs)
		}
	}
	check("before all")
	apply(nil)
	check("off")
	apply(map[string]string{"health_check_logs.s3.enabled": "true", "health_check_logs.s3.bucket": "logs", "health_check_logs.s3.prefix": "p"})
	check("on")
	apply(map[string]string{"health_check_logs.s3.enabled": "false"})
	check("off again")
	n.desired.Balancers = nil // the load balancer is deleted
	n.applyCheckLogs()
	if len(n.healths) != 0 {
		t.Error("its log stays")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "s3/logs/p/AWSLogs/123456789012/elasticloadbalancing/us-east-1/*/*/*/health_check_log_123456789012_elasticloadbalancing_us-east-1_app.l.fedcba9876543210_*_10.0.0.5_*.log.gz"))
	if len(files) != 1 {
		t.Fatalf("files %q", files)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); err != nil || len(lines) != 1 || !strings.HasSuffix(lines[0], " 10.0.0.7:80 web PASS 200 - app/l/fedcba9876543210 10.0.0.5") {
		t.Errorf("%q %v", text, err)
	}
}
