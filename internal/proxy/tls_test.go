package proxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"skerry/internal/tlsfront"
)

// certificate makes a self-signed certificate; the organisation tells them apart.
func certificate(t *testing.T, org string, useRSA bool, names ...string) Certificate {
	t.Helper()
	var key any
	var pub any
	if useRSA {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key, pub = k, &k.PublicKey
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, pub = k, &k.PublicKey
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{org}}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Certificate{ARN: org, CertPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb}))}
}

// secure makes the simple configuration's listener HTTPS.
func secure(cfg Config, policy string, certs ...Certificate) Config {
	cfg.Listeners = []Listener{cfg.Listeners[0]}
	l := &cfg.Listeners[0]
	l.Protocol, l.Port, l.Certificates, l.SSLPolicy = HTTPS, 443, certs, policy
	return cfg
}

func TestSNI(t *testing.T) {
	t.Parallel()
	ec, rs := certificate(t, "ec", false, "both.test"), certificate(t, "rsa", true, "both.test")
	cfg := secure(simple(named(t, "x")), "ELBSecurityPolicy-2016-08", certificate(t, "default", false, "default.test"), certificate(t, "exact", false, "a.company.test"),
		certificate(t, "wild", false, "*.company.test"), rs, ec)
	b := newLB(t, cfg)
	ask := func(name string, c *tls.Config) string {
		t.Helper()
		c.ServerName, c.InsecureSkipVerify = name, true
		conn, err := tls.Dial("tcp", b.addr(front), c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.Organization[0]
	}
	onlyRSA := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	for _, c := range []struct {
		name, want string
		c          *tls.Config
	}{
		{"a.company.test", "exact", &tls.Config{}}, {"A.COMPANY.test", "exact", &tls.Config{}}, {"b.company.test", "wild", &tls.Config{}},
		{"x.b.company.test", "default", &tls.Config{}}, {"company.test", "default", &tls.Config{}}, {"", "default", &tls.Config{}}, {"other.test", "default", &tls.Config{}},
		{"both.test", "ec", &tls.Config{}}, {"both.test", "rsa", onlyRSA},
	} {
		if got := ask(c.name, c.c); got != c.want {
			t.Errorf("%q got the certificate %s, want %s", c.name, got, c.want)
		}
	}
	// New certificates count for new connections, at once.
	b.apply(secure(simple(named(t, "y")), "", certificate(t, "new", false, "default.test")))
	if got := ask("", &tls.Config{}); got != "new" {
		t.Errorf("after Apply: %s", got)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	cert := certificate(t, "x", true, "a")
	b := newLB(t, secure(simple(named(t, "x")), "", cert))
	handshake := func(c *tls.Config) (uint16, error) {
		c.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", b.addr(front), c)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		return conn.ConnectionState().Version, nil
	}
	for _, c := range []struct {
		policy   string
		min, max uint16
		cbc      bool // does it accept ECDHE-RSA-AES128-SHA
	}{
		{"ELBSecurityPolicy-2016-08", tls.VersionTLS10, tls.VersionTLS12, true},
		{"", tls.VersionTLS10, tls.VersionTLS12, true},
		{"ELBSecurityPolicy-TLS13-1-3-2021-06", tls.VersionTLS13, tls.VersionTLS13, false},
		{"ELBSecurityPolicy-TLS13-1-2-2021-06", tls.VersionTLS12, tls.VersionTLS13, false},
		{"ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06", tls.VersionTLS12, tls.VersionTLS13, true},
		{"ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", tls.VersionTLS12, tls.VersionTLS13, false},
		{"ELBSecurityPolicy-TLS13-1-2-FIPS-2023-04", tls.VersionTLS12, tls.VersionTLS13, false},
		{"ELBSecurityPolicy-TLS-1-1-2017-01", tls.VersionTLS11, tls.VersionTLS12, true},
		{"ELBSecurityPolicy-FS-1-2-Res-2020-10", tls.VersionTLS12, tls.VersionTLS12, false},
	} {
		b.apply(secure(simple(named(t, "x")), c.policy, cert))
		for v := uint16(tls.VersionTLS10); v <= tls.VersionTLS13; v++ {
			_, err := handshake(&tls.Config{MinVersion: v, MaxVersion: v})
			if want := v >= c.min && v <= c.max; (err == nil) != want {
				t.Errorf("%s, %s: %v", c.policy, tls.VersionName(v), err)
			}
		}
		_, err := handshake(&tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}})
		if (err == nil) != c.cbc {
			t.Errorf("%s, a CBC suite: %v", c.policy, err)
		}
	}
	if _, ok := tlsfront.LookupPolicy("ELBSecurityPolicy-nope"); ok {
		t.Error("an unknown policy is accepted")
	}
	if n := b.Stats().Counters["ClientTLSNegotiationErrorCount"]; n == 0 {
		t.Error("failed handshakes are not counted")
	}
	for id, want := range map[uint16]string{tls.TLS_AES_128_GCM_SHA256: "TLS_AES_128_GCM_SHA256", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "ECDHE-RSA-AES128-GCM-SHA256",
		tls.TLS_RSA_WITH_AES_256_CBC_SHA: "AES256-SHA", tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256: "ECDHE-ECDSA-AES128-SHA256"} {
		if got := tlsfront.SuiteName(id); got != want {
			t.Errorf("suite %s, want %s", got, want)
		}
	}
}

// h2client is an HTTP/2 client of the front listener.
func (b *lb) h2client() *http.Client {
	tr := &http2.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialTLSContext: func(ctx context.Context, n, _ string, c *tls.Config) (net.Conn, error) {
		return (&tls.Dialer{Config: c}).DialContext(ctx, n, b.addr(front))
	}}
	b.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: longest, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	echo := addrOf(server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			json.NewEncoder(w).Encode(map[string]any{"h": r.Header, "host": r.Host, "proto": r.Proto, "uri": r.RequestURI, "te": r.TransferEncoding, "cl": r.ContentLength})
		case "/trail":
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "ok")
			w.Header().Set("X-Sum", r.Trailer.Get("X-T"))
		case "/hints":
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			io.WriteString(w, "ok")
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/204":
			w.WriteHeader(204)
		case "/hang":
			<-r.Context().Done()
		case "/early":
			w.Header().Set("Connection", "close")
			w.WriteHeader(413)
		default:
			w.WriteHeader(200)
			http.NewResponseController(w).EnableFullDuplex()
			io.Copy(w, r.Body)
		}
	}))
	cfg := secure(simple(echo), "ELBSecurityPolicy-TLS13-1-2-2021-06", certificate(t, "x", false, "a.test"))
	cfg.Attributes["routing.http.x_amzn_tls_version_and_cipher_suite.enabled"] = "true"
	cfg.Attributes["idle_timeout.timeout_seconds"] = "1"
	cfg.TargetGroups["none"] = TargetGroup{}
	with(cfg.TargetGroups["g"].Attributes, "stickiness.enabled", "true", "stickiness.type", "lb_cookie")
	cfg.Listeners[0].Rules = []Rule{
		{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/none"}}}, Actions: forwardTo("none")},
		{Priority: 2, Conditions: []Condition{{Field: PathPattern, Values: []string{"/go"}}}, Actions: []Action{{Type: RedirectTo, Redirect: &Redirect{Host: "b.test"}}}},
		{Priority: 3, Conditions: []Condition{{Field: HostHeader, Values: []string{"tea.test"}}}, Actions: fixed(418)},
	}
	b := newLB(t, cfg)
	cl := b.h2client()
	do := func(method, url string, body io.Reader, kv ...string) (*http.Response, string, error) {
		t.Helper()
		req, err := http.NewRequest(method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(kv); i += 2 {
			req.Header.Add(kv[i], kv[i+1])
		}
		r, err := cl.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer r.Body.Close()
		got, err := io.ReadAll(r.Body)
		return r, string(got), err
	}
	must := func(r *http.Response, s string, err error) (*http.Response, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if r.ProtoMajor != 2 {
			t.Fatalf("answered in %s", r.Proto)
		}
		return r, s
	}

	r, s := must(do("GET", "https://a.test/head?x=y", nil, "X-Forwarded-For", "192.0.2.1", "Cookie", "a=b", "Cookie", "c=d"))
	var got struct {
		H                map[string][]string
		Host, Proto, URI string
		TE               []string
		CL               int64
	}
	if err := json.Unmarshal([]byte(s), &got); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"X-Forwarded-For": "192.0.2.1, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443", "Cookie": "a=b; c=d",
		"X-Amzn-Tls-Version": "TLSv1.3", "X-Amzn-Tls-Cipher-Suite": "TLS_AES_128_GCM_SHA256"} {
		if len(got.H[k]) != 1 || got.H[k][0] != want {
			t.Errorf("%s is %q, want %q", k, got.H[k], want)
		}
	}
	if got.Host != "a.test" || got.Proto != "HTTP/1.1" || got.URI != "/head?x=y" || len(got.TE) != 0 || got.CL != 0 {
		t.Errorf("%+v", got)
	}
	if cookieOf(r, "AWSALB") == "" {
		t.Errorf("no stickiness cookie: %v", r.Header)
	}
	if r.Header.Get("Connection") != "" || r.Header.Get("Date") == "" {
		t.Errorf("%v", r.Header)
	}
	for path, want := range map[string]int{"/none": 503, "/204": 204, "/go": 302, "/early": 413} {
		var body io.Reader
		if path == "/early" {
			body = io.MultiReader(bytes.NewReader(make([]byte, 3000000)))
		}
		method := "GET"
		if body != nil {
			method = "POST"
		}
		r, s, err := do(method, "https://a.test"+path, body)
		if err != nil || r.StatusCode != want {
			t.Fatalf("%s: %v %v", path, r, err)
		}
		if path == "/none" && (s != string(htmlPage(503)) || r.Header.Get("Server") != "awselb/2.0") {
			t.Errorf("%v %q", r, s)
		}
		if path == "/go" && r.Header.Get("Location") != "https://b.test:443/go" {
			t.Errorf("%v", r.Header)
		}
	}
	if r, _ := must(do("GET", "https://tea.test/", nil)); r.StatusCode != 418 {
		t.Errorf("host rule: %d", r.StatusCode)
	}
	if r, s := must(do("HEAD", "https://a.test/none", nil)); r.StatusCode != 503 || s != "" {
		t.Errorf("HEAD: %v %q", r, s)
	}
	if r, s := must(do("GET", "https://a.test/hints", nil)); r.StatusCode != 200 || s != "ok" || r.Header.Get("Link") == "" {
		t.Errorf("103 before it: %v %q", r, s)
	}
	big := bytes.Repeat([]byte("0123456789"), 300000)
	for name, body := range map[string]io.Reader{"length": bytes.NewReader(big), "no length": io.MultiReader(bytes.NewReader(big))} {
		if _, s := must(do("POST", "https://a.test/", body)); s != string(big) {
			t.Errorf("%s: %d of %d bytes came back", name, len(s), len(big))
		}
	}
	if _, s := must(do("POST", "https://a.test/", bytes.NewReader(nil))); s != "" {
		t.Errorf("empty body: %q", s)
	}
	req, _ := http.NewRequest("POST", "https://a.test/trail", io.MultiReader(strings.NewReader("x")))
	req.Trailer = http.Header{"X-T": {"7"}}
	if r, err := cl.Do(req); err != nil {
		t.Fatal(err)
	} else if io.ReadAll(r.Body); r.Trailer.Get("X-Sum") != "7" {
		t.Errorf("trailers %v", r.Trailer)
	}
	if r, s, err := do("GET", "https://a.test/cut", nil); err == nil {
		t.Errorf("a cut body looks complete: %v %q", r, s)
	}
	if r, _ := must(do("GET", "https://a.test/hang", nil)); r.StatusCode != 504 {
		t.Errorf("a target that hangs: %d", r.StatusCode)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			body := fmt.Sprint(i, strings.Repeat("x", i*100))
			if r, s, err := do("POST", "https://a.test/", strings.NewReader(body)); err != nil || s != body {
				t.Errorf("%v %v", r, err)
			}
		}()
	}
	wg.Wait()

	// A removed listener ends its connections after their streams.
	before := b.counters[cRequest].Load()
	pr, pw := io.Pipe()
	done := make(chan string, 1)
	go func() {
		_, s, err := do("POST", "https://a.test/", pr)
		done <- fmt.Sprint(s, err)
	}()
	pw.Write([]byte("a"))
	waitFor(t, "the stream is with its target", func() bool { return b.counters[cRequest].Load() > before })
	b.apply(simple(echo)) // HTTP now: the listener stays, in another protocol
	c2 := cfg
	c2.Listeners = []Listener{{Addr: "10.0.0.9:80", Protocol: HTTP, DefaultActions: forwardTo("g")}}
	b.apply(c2)
	pw.Write([]byte("b"))
	pw.Close()
	if s := <-done; s != "ab<nil>" {
		t.Errorf("the stream that was open got %q", s)
	}
	if s := b.Stats(); s.Counters["RequestCount"] < 100 {
		t.Errorf("%v", s.Counters)
	}
}

// TestHTTP2Off: without the attribute a client gets HTTP/1.1.
func TestHTTP2Off(t *testing.T) {
	t.Parallel()
	cfg := secure(simple(named(t, "x")), "", certificate(t, "x", true, "a"))
	cfg.Attributes["routing.http2.enabled"] = "false"
	b := newLB(t, cfg)
	conn, err := tls.Dial("tcp", b.addr(front), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("negotiated %q", p)
	}
}

// TestTargetTLS: an HTTPS target group, certificates unchecked.
func TestTargetTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "secret") }))
	t.Cleanup(s.Close)
	cfg := simple(addrOf(s))
	g := cfg.TargetGroups["g"]
	g.Protocol = HTTPS
	cfg.TargetGroups["g"] = g
	c := newLB(t, cfg).dial()
	for range 3 {
		if got := text(c.get("/")); got != "secret" {
			t.Errorf("%q", got)
		}
	}
	cfg = simple(named(t, "plain"))
	g = cfg.TargetGroups["g"]
	g.Protocol = HTTPS
	cfg.TargetGroups["g"] = g
	b := newLB(t, cfg)
	if r := b.dial().get("/"); r.StatusCode != 502 || b.Stats().Groups["g"].Counters["TargetTLSNegotiationErrorCount"] != 1 {
		t.Errorf("a target without TLS: %d", r.StatusCode)
	}
}

func TestStandalone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := certificate(t, "x", false, "localhost")
	os.WriteFile(filepath.Join(dir, "c.pem"), []byte(c.CertPEM), 0o600)
	os.WriteFile(filepath.Join(dir, "k.pem"), []byte(c.KeyPEM), 0o600)
	write := func(s string) string {
		p := filepath.Join(dir, "config.json")
		if err := os.WriteFile(p, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := `{"listeners": [{"address": "127.0.0.1:0", "protocol": "HTTPS", "certificates": [{"certFile": "c.pem", "keyFile": "k.pem"}],
		"rules": [{"priority": 1, "conditions": [{"field": "path-pattern", "values": ["/x"]}], "actions": [{"type": "fixed-response", "fixedResponse": {"statusCode": "200"}}]}],
		"defaultActions": [{"type": "forward", "forward": [{"targetGroup": "web", "weight": 1}]}]}],
		"targetGroups": {"web": {"targets": [{"address": "127.0.0.1:1"}]}}}`
	s, err := LoadStandalone(write(good))
	if err != nil {
		t.Fatal(err)
	}
	if s.Listeners[0].Certificates[0].KeyPEM != c.KeyPEM {
		t.Error("the key's file was not read")
	}
	for bad, want := range map[string]string{
		`{`: "unexpected", `{"listeners": [], "x": 1}`: `unknown field "x"`, `{"listeners": []}`: "no listener", good + "{}": "follows",
		strings.Replace(good, "c.pem", "d.pem", 1):                                                           "d.pem",
		strings.Replace(good, `"web": {`, `"web": {"attributes": {"a.b": "c"}, `, 1):                         "without effect in a proxy: a.b",
		strings.Replace(good, `"targetGroup": "web"`, `"targetGroup": "y"`, 1):                               `"y" does not exist`,
		strings.Replace(good, `"listeners"`, `"attributes": {"routing.http2.enabled": "x"}, "listeners"`, 1): "routing.http2.enabled",
	} {
		if _, err := LoadStandalone(write(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s…: %v, want an error with %q", bad, err, want)
		}
	}
	if _, err := LoadStandalone(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, sh := range []Short{{}, {HTTP: ":1"}, {Backends: []string{"a:1"}}, {HTTPS: ":1", Backends: []string{"a:1"}}, {HTTP: "x", Backends: []string{"a:1"}}} {
		if _, err := sh.Standalone(); err == nil {
			t.Errorf("%+v is accepted", sh)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	sh, err := Short{HTTP: addr, HTTPS: "127.0.0.1:0", CertFile: filepath.Join(dir, "c.pem"), KeyFile: filepath.Join(dir, "k.pem"), Backends: []string{named(t, "back")}}.Standalone()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- RunStandalone(ctx, sh, slog.New(slog.DiscardHandler)) }()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	waitFor(t, "it serves", func() bool {
		r, err := (&http.Client{Transport: tr}).Get("http://" + addr)
		if err != nil {
			return false
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return string(b) == "back"
	})
	if err := RunStandalone(context.Background(), sh, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a port in use is no error")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestDocumentedExample: the configuration in docs/format/proxy.md is one that loads.
func TestDocumentedExample(t *testing.T) {
	b, err := os.ReadFile("../../docs/format/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```json\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no example")
	}
	dir := t.TempDir()
	c := certificate(t, "x", false, "company.test")
	for name, s := range map[string]string{"company.test.pem": c.CertPEM, "company.test.key": c.KeyPEM, "config.json": example} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := LoadStandalone(filepath.Join(dir, "config.json")); err != nil {
		t.Error(err)
	}
}
