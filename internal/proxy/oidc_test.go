package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

// provider is a certified OpenID provider library's example, with its login page, on TLS.
type provider struct {
	*httptest.Server
	calls sync.Map // path → *atomic.Int64
	deny  atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
}

func newProvider(t *testing.T) *provider {
	p := &provider{}
	mux := http.NewServeMux()
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := p.calls.LoadOrStore(r.URL.Path, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		if f := p.deny.Load(); f != nil && (*f)(w, r) {
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	users := storage.NewUserStore(p.URL)
	clients := map[string]*storage.Client{"lb": storage.WebClient("lb", "se cret", "https://lb.test/oauth2/idpresponse")}
	before := slog.Default()
	mux.Handle("/", exampleop.SetupServer(p.URL, storage.NewStorageWithClients(users, clients), nil, false))
	slog.SetDefault(before)
	return p
}

func (p *provider) count(path string) int64 {
	if n, ok := p.calls.Load(path); ok {
		return n.(*atomic.Int64).Load()
	}
	return 0
}

// instead makes the provider answer a path in another way.
func (p *provider) instead(path string, h http.HandlerFunc) {
	f := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == path {
			h(w, r)
			return true
		}
		return false
	}
	p.deny.Store(&f)
}

func (p *provider) settings() *OIDC {
	return &OIDC{Issuer: p.URL, AuthorizationEndpoint: p.URL + "/auth", TokenEndpoint: p.URL + "/oauth/token", UserInfoEndpoint: p.URL + "/userinfo",
		ClientID: "lb", ClientSecret: "se cret", Scope: "openid email profile offline_access", ExtraParams: map[string]string{"display": "page"}}
}

// guarded is a load balancer whose rule asks for authentication, with a browser.
type guarded struct {
	*lb
	idp     *provider
	cfg     Config
	now     atomic.Int64 // ns that the clock is ahead
	logs    string
	browser *http.Client
}

func newGuarded(t *testing.T, p *provider, before Action) *guarded {
	t.Helper()
	target := server(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s\n%s\n%s\n%s", r.URL.RequestURI(), r.Header[http.CanonicalHeaderKey(headerAccess)], r.Header[http.CanonicalHeaderKey(headerIdentity)], strings.Join(r.Header[http.CanonicalHeaderKey(headerData)], "|"))
	})
	g := &guarded{logs: t.TempDir(), idp: p, cfg: secure(simple(addrOf(target)), "", certificate(t, "lb", false, "lb.test"))}
	g.cfg.CookieKey = []byte("a secret of all nodes")
	g.cfg.Attributes = with(g.cfg.Attributes, "access_logs.s3.enabled", "true", "access_logs.s3.bucket", "b")
	l := &g.cfg.Listeners[0]
	l.ARN = "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener/app/t/1/2"
	before.Order = 1
	last := forwardTo("g")
	last[0].Order = 2
	l.Rules = []Rule{{Priority: 1, Conditions: []Condition{{Field: PathPattern, Values: []string{"/private*"}}}, Actions: append([]Action{before}, last...)}}
	g.start(t)
	g.restartBrowser(t)
	return g
}

// start makes another node with the same configuration.
func (g *guarded) start(t *testing.T) {
	pool := x509.NewCertPool()
	pool.AddCert(g.idp.Certificate())
	b := &lb{t: t, addrs: map[string]string{}}
	b.Proxy = New(Options{RootCAs: pool, Logs: Logs{Dir: g.logs, Account: "1", Region: "r", Address: "10.0.0.1"}, Clock: func() time.Time { return time.Now().Add(time.Duration(g.now.Load())) },
		Listen: func(network, addr string) (net.Listener, error) {
			l, err := net.Listen(network, "127.0.0.1:0")
			if err == nil {
				b.mu.Lock()
				b.addrs[addr] = l.Addr().String()
				b.mu.Unlock()
			}
			return l, err
		}})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b.Shutdown(ctx)
	})
	g.lb = b
	b.apply(g.cfg)
}

// failures ends the node and returns the actions and error reasons of the access log's lines that have
// one, sorted.
func (g *guarded) failures() (out []string) {
	if err := g.Shutdown(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	lines, _ := logLines(g.t, g.logs, "1_")
	for _, line := range lines {
		if f := strings.Split(line, `"`); f[15] != "-" {
			out = append(out, f[11]+" "+f[15])
		}
	}
	slices.Sort(out)
	return out
}

func (g *guarded) restartBrowser(t *testing.T) {
	jar, _ := cookiejar.New(nil)
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "lb.test:") {
			addr = g.addr(front)
		}
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	g.browser = &http.Client{Jar: jar, Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: longest}
}

func (g *guarded) visit(u string, header ...string) (*http.Response, string) {
	g.t.Helper()
	req, _ := http.NewRequest("GET", u, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	r, err := g.browser.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r, string(b)
}

// login goes from a redirect to the provider through its login page, and returns where that sends the browser back to.
func (g *guarded) login(loc string) string {
	g.t.Helper()
	r, _ := g.visit(loc)
	page, err := r.Location()
	if err != nil {
		g.t.Fatalf("the provider answered %d to %s", r.StatusCode, loc)
	}
	form := url.Values{"id": {page.Query().Get("authRequestID")}, "username": {"test-user@127.0.0.1"}, "password": {"verysecure"}}
	r, err = g.browser.PostForm(g.idp.URL+"/login/username", form)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Body.Close()
	back, err := r.Location()
	if err != nil {
		g.t.Fatalf("login answered %d", r.StatusCode)
	}
	r, body := g.visit(back.String())
	if r.StatusCode != 302 {
		g.t.Fatalf("the provider answered %d %s", r.StatusCode, body)
	}
	return r.Header.Get("Location")
}

// TestOIDC takes a user through a login at a real provider, and on.
func TestOIDC(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := newGuarded(t, p, Action{Type: AuthenticateOIDC, OIDC: p.settings()})

	r, _ := g.visit("https://lb.test/private?a=b&c")
	u, err := r.Location()
	if err != nil || r.StatusCode != 302 {
		t.Fatalf("%d %v", r.StatusCode, err)
	}
	q := u.Query()
	if u.Path != "/auth" || q.Get("redirect_uri") != "https://lb.test/oauth2/idpresponse" || q.Get("response_type") != "code" || q.Get("client_id") != "lb" ||
		q.Get("scope") != p.settings().Scope || q.Get("display") != "page" || q.Get("state") == "" || q.Get("nonce") == "" {
		t.Errorf("sent to %s", u)
	}
	back := g.login(u.String())
	r, body := g.visit(back)
	if r.StatusCode != 302 || r.Header.Get("Location") != "https://lb.test/private?a=b&c" {
		t.Fatalf("back from the provider: %d %s %s", r.StatusCode, r.Header.Get("Location"), body)
	}
	for _, c := range r.Cookies() {
		if !c.Secure || !c.HttpOnly || c.Path != "/" || c.Name != nonceCookie && c.Name != sessionCookie+"-0" {
			t.Errorf("cookie %v", c)
		}
	}
	if r, _ := g.visit(back); r.StatusCode != 401 { // the nonce is used up
		t.Errorf("the same way back again: %d", r.StatusCode)
	}

	r, body = g.visit("https://lb.test/private?x", headerIdentity, "root", headerData, "x", headerAccess, "y")
	parts := strings.Split(body, "\n")
	if r.StatusCode != 200 || parts[0] != "/private?x" || parts[2] != "[id1]" || len(parts[1]) < 20 {
		t.Fatalf("%d %q", r.StatusCode, body)
	}
	claims := g.checkData(parts[3])
	if claims["sub"] != "id1" || claims["email"] != "test-user@zitadel.ch" || claims["iss"] != p.URL {
		t.Errorf("claims %v", claims)
	}

	// A node of the same load balancer, after a restart, knows the session; another load balancer doesn't.
	g.start(t)
	g.browser.Transport.(*http.Transport).CloseIdleConnections()
	if r, _ := g.visit("https://lb.test/private"); r.StatusCode != 200 {
		t.Errorf("after a restart: %d", r.StatusCode)
	}
	// Elsewhere the headers are the client's own affair.
	if _, body := g.visit("https://lb.test/open", headerIdentity, "root"); !strings.Contains(body, "[root]") {
		t.Errorf("%q", body)
	}

	// When the access token is over, it is renewed, with the claims.
	g.now.Store(int64(6 * time.Minute))
	tokens, infos := p.count("/oauth/token"), p.count("/userinfo")
	r, body = g.visit("https://lb.test/private")
	if r.StatusCode != 200 || p.count("/oauth/token") != tokens+1 || p.count("/userinfo") != infos+1 || len(r.Cookies()) == 0 || strings.Split(body, "\n")[1] == parts[1] {
		t.Errorf("%d, %v: the tokens were not renewed", r.StatusCode, r.Cookies())
	}
	if r, _ := g.visit("https://lb.test/private"); r.StatusCode != 200 || p.count("/oauth/token") != tokens+1 {
		t.Errorf("%d: renewed again", r.StatusCode)
	}
	// A refused renewal needs a new login.
	g.now.Store(int64(12 * time.Minute))
	p.instead("/oauth/token", func(w http.ResponseWriter, r *http.Request) { http.Error(w, `{"error":"invalid_grant"}`, 400) })
	if r, _ := g.visit("https://lb.test/private"); r.StatusCode != 302 {
		t.Errorf("after a refused renewal: %d", r.StatusCode)
	}
	// So does a session that is over, even with good tokens.
	p.deny.Store(nil)
	g.now.Store(int64(sessionSeconds+1) * int64(time.Second))
	if r, _ := g.visit("https://lb.test/private"); r.StatusCode != 302 {
		t.Errorf("after the session's end: %d", r.StatusCode)
	}
	s := g.Stats()
	if s.Counters["ELBAuthRefreshTokenSuccess"] != 1 {
		t.Errorf("%v", s.Counters)
	}
}

// checkData checks x-amzn-oidc-data as a target would: with the public key that the load balancer serves.
func (g *guarded) checkData(s string) map[string]any {
	g.t.Helper()
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		g.t.Fatalf("data %q", s)
	}
	var head, claims map[string]any
	for i, v := range []*map[string]any{&head, &claims} {
		b, err := base64.URLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(b, v) != nil {
			g.t.Fatalf("part %q: %v", parts[i], err)
		}
	}
	if head["alg"] != "ES256" || head["signer"] != "arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/app/t/1" || head["client"] != "lb" || head["exp"] != claims["exp"] {
		g.t.Errorf("header %v", head)
	}
	r, text := g.visit("https://lb.test" + publicKeyPath + head["kid"].(string))
	block, _ := pem.Decode([]byte(text))
	if r.StatusCode != 200 || block == nil {
		g.t.Fatalf("public key: %d %q", r.StatusCode, text)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		g.t.Fatal(err)
	}
	sig, err := base64.URLEncoding.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		g.t.Fatalf("signature %q", parts[2])
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(key.(*ecdsa.PublicKey), sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		g.t.Error("the signature doesn't fit the public key")
	}
	if r, _ := g.visit("https://lb.test" + publicKeyPath + "other"); r.StatusCode != 404 {
		g.t.Errorf("an unknown key: %d", r.StatusCode)
	}
	return claims
}

// TestOIDCTurnedAway has what ends a login, with its status and metric.
func TestOIDCTurnedAway(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := newGuarded(t, p, Action{Type: AuthenticateOIDC, OIDC: p.settings()})
	state := func(back string) url.Values {
		u, err := url.Parse(back)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query()
	}
	jsonAnswer := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, s) }
	}
	var want []string // in the log
	callback := "https://lb.test" + callbackPath + "?"
	for _, c := range []struct {
		name   string
		do     func(back string) string
		status int
		metric string
		reason string
	}{
		{"no state", func(string) string { return callback + "code=x" }, 401, "ELBAuthFailure", "AuthMissingStateParam"},
		{"access denied", func(b string) string { return callback + "error=access_denied&state=" + state(b).Get("state") }, 401, "ELBAuthFailure", "AuthMissingCodeParam"},
		{"the provider's error", func(b string) string { return callback + "error=server_error&state=" + state(b).Get("state") }, 561, "ELBAuthFailure", "AuthMissingCodeParam"},
		{"no code", func(b string) string { return callback + "state=" + state(b).Get("state") }, 401, "ELBAuthFailure", "AuthMissingCodeParam"},
		{"a code of nobody's", func(b string) string { return callback + "code=x&state=" + state(b).Get("state") }, 561, "ELBAuthFailure", "AuthInvalidGrantError"},
		{"another browser", func(b string) string { g.restartBrowser(t); return b }, 401, "ELBAuthFailure", "AuthMissingAWSALBAuthNonce"},
		{"too late", func(b string) string { g.now.Store(int64(16 * time.Minute)); return b }, 401, "ELBAuthFailure", "AuthInvalidStateParam"},
		{"token endpoint fails", func(b string) string {
			p.instead("/oauth/token", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 503) })
			return b
		}, 561, "ELBAuthError", "AuthTokenEpRequestFailed"},
		{"token endpoint gone", func(b string) string {
			p.instead("/oauth/token", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
			return b
		}, 500, "ELBAuthError", "AuthTokenEpRequestTimeout"},
		{"no ID token", func(b string) string {
			p.instead("/oauth/token", jsonAnswer(`{"access_token":"a","token_type":"Bearer"}`))
			return b
		}, 401, "ELBAuthFailure", "AuthInvalidIdToken"},
		{"malformed tokens", func(b string) string { p.instead("/oauth/token", jsonAnswer(`[]`)); return b }, 500, "ELBAuthFailure", "AuthInvalidTokenResponse"},
		{"ID token of another issuer", func(b string) string {
			p.instead("/oauth/token", jsonAnswer(`{"access_token":"a","token_type":"Bearer","id_token":"`+unsigned(map[string]any{"iss": "x", "exp": 1e11, "sub": "s", "aud": "lb"})+`"}`))
			return b
		}, 401, "ELBAuthFailure", "AuthInvalidIdToken"},
		{"ID token of another login", func(b string) string {
			p.instead("/oauth/token", jsonAnswer(`{"access_token":"a","token_type":"Bearer","id_token":"`+unsigned(map[string]any{"iss": p.URL, "exp": 1e11, "sub": "s", "aud": "lb", "nonce": "n"})+`"}`))
			return b
		}, 401, "ELBAuthFailure", "AuthInvalidIdToken"},
		{"claims of 12 KiB", func(b string) string {
			p.instead("/userinfo", jsonAnswer(`{"sub":"id1","x":"`+strings.Repeat("x", 12<<10)+`"}`))
			return b
		}, 401, "ELBAuthUserClaimsSizeExceeded", "AuthUserinfoResponseSizeExceeded"},
		{"claims of another user", func(b string) string { p.instead("/userinfo", jsonAnswer(`{"sub":"id2"}`)); return b }, 500, "ELBAuthFailure", "AuthInvalidUserinfoResponse"},
		{"user info refused", func(b string) string {
			p.instead("/userinfo", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) })
			return b
		}, 561, "ELBAuthError", "AuthUserinfoEpRequestFailed"},
		{"nothing", func(b string) string { return b }, 302, "ELBAuthSuccess", ""},
		{"another state", func(string) string { return callback + "code=x&state=y" }, 401, "ELBAuthFailure", "AuthInvalidStateParam"},
		{"another nonce", func(b string) string {
			g.restartBrowser(t)
			g.visit("https://lb.test/private")
			return b
		}, 401, "ELBAuthFailure", "AuthInvalidAWSALBAuthNonce"},
		{"claims without end", func(b string) string {
			p.instead("/userinfo", jsonAnswer(`{"sub":"id1","x":"`+strings.Repeat("x", 100<<10)+`"}`))
			return b
		}, 401, "ELBAuthUserClaimsSizeExceeded", "AuthUserinfoResponseSizeExceeded"},
		{"user info gone", func(b string) string {
			p.instead("/userinfo", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
			return b
		}, 500, "ELBAuthError", "AuthUserinfoEpRequestTimeout"},
	} {
		if c.reason != "" {
			want = append(want, "authenticate "+c.reason)
		}
		t.Run(c.name, func(t *testing.T) {
			g.restartBrowser(t)
			g.now.Store(0)
			p.deny.Store(nil)
			r, _ := g.visit("https://lb.test/private")
			back := g.login(r.Header.Get("Location"))
			g.Stats()
			if r, body := g.visit(c.do(back)); r.StatusCode != c.status || c.status >= 400 && !strings.Contains(body, fmt.Sprint(c.status)) {
				t.Errorf("status %d, want %d: %s", r.StatusCode, c.status, body)
			}
			s := g.Stats()
			if s.Counters[c.metric] != 1 {
				t.Errorf("%s was not counted: %v", c.metric, s.Counters)
			}
			if c.metric == "ELBAuthSuccess" && s.AuthLatency.Count != 1 {
				t.Errorf("latency %v", s.AuthLatency)
			}
		})
	}
	// Large claims take several cookies.
	noise := make([]byte, 6000)
	rand.Read(noise)
	p.instead("/userinfo", jsonAnswer(`{"sub":"id1","x":"`+base64.StdEncoding.EncodeToString(noise)+`"}`))
	g.restartBrowser(t)
	r, _ := g.visit("https://lb.test/private")
	r, _ = g.visit(g.login(r.Header.Get("Location")))
	n := 0
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, sessionCookie) {
			n++
			if len(c.Raw) > maxCookieSize {
				t.Errorf("a cookie of %d bytes", len(c.Raw))
			}
		}
	}
	if r, body := g.visit("https://lb.test/private"); n < 2 || r.StatusCode != 200 || len(body) < 8000 {
		t.Errorf("%d cookies, then %d and %d bytes", n, r.StatusCode, len(body))
	}
	if got := g.failures(); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("reasons in the access log:\n%q, want\n%q", got, want)
	}
}

func TestOIDCUnauthenticated(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for mode, want := range map[string]int{OnUnauthenticatedDeny: 401, OnUnauthenticatedAllow: 200, OnUnauthenticatedAuthenticate: 302} {
		o := p.settings()
		o.OnUnauthenticated = mode
		g := newGuarded(t, p, Action{Type: AuthenticateOIDC, OIDC: o})
		r, body := g.visit("https://lb.test/private", headerIdentity, "root", "Cookie", sessionCookie+"-0=forged")
		if r.StatusCode != want || want == 200 && !strings.HasPrefix(body, "/private\n[]\n[]\n") {
			t.Errorf("%s: %d %q", mode, r.StatusCode, body)
		}
		if got := g.failures(); mode == OnUnauthenticatedDeny && !slices.Equal(got, []string{"authenticate AuthInvalidCookie"}) || mode != OnUnauthenticatedDeny && got != nil {
			t.Errorf("%s: %q in the log", mode, got)
		}
	}
	g := newGuarded(t, p, Action{Type: AuthenticateOIDC, OIDC: p.settings()})
	c, err := tls.Dial("tcp", g.addr(front), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	talk := &talk{c, t, nil}
	talk.send("GET /private HTTP/1.0\r\n\r\n")
	b, _ := io.ReadAll(c)
	if !strings.HasPrefix(string(b), "HTTP/1.1 401 ") {
		t.Errorf("HTTP/1.0 without a host: %q", b)
	}
	if got := g.failures(); !slices.Equal(got, []string{"authenticate AuthMissingHostHeader"}) {
		t.Errorf("HTTP/1.0 without a host: %q in the log", got)
	}
}

// unsigned is a token that nobody has signed.
func unsigned(claims map[string]any) string {
	b, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(b) + "."
}

// TestJWTValidation sends tokens to a rule that checks them.
func TestJWTValidation(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var ecKey *signer
	if ecKey, err = newSigner([]byte("ec")); err != nil {
		t.Fatal(err)
	}
	p := &provider{}
	var fetches atomic.Int64
	var down atomic.Bool
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		if down.Load() {
			http.Error(w, "down", 503)
			return
		}
		b64 := base64.RawURLEncoding.EncodeToString
		pub, _ := ecKey.key.PublicKey.Bytes()
		json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{
			{"kty": "RSA", "kid": "one", "use": "sig", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())},
			{"kty": "EC", "kid": "two", "crv": "P-256", "x": b64(pub[1:33]), "y": b64(pub[33:])},
			{"kty": "oct", "kid": "three", "k": "AAAA"},
		}})
	}))
	t.Cleanup(p.Close)
	g := newGuarded(t, p, Action{Type: JWTValidation, JWT: &JWT{Issuer: "https://issuer.test", JWKSEndpoint: p.URL + "/jwks", Claims: []JWTClaim{
		{Name: "client", Format: ClaimString, Values: []string{"c1"}}, {Name: "aud", Format: ClaimStringArray, Values: []string{"api"}}, {Name: "scope", Format: ClaimSpaces, Values: []string{"read", "write"}},
	}}})
	now := time.Now().Unix()
	good := func(change ...any) map[string]any {
		m := map[string]any{"iss": "https://issuer.test", "exp": now + 300, "iat": now, "client": "c1", "aud": []string{"x", "api"}, "scope": "read write admin"}
		for i := 0; i < len(change); i += 2 {
			if m[change[i].(string)] = change[i+1]; change[i+1] == nil {
				delete(m, change[i].(string))
			}
		}
		return m
	}
	rs := func(k *rsa.PrivateKey, kid string, claims map[string]any) string {
		h, _ := json.Marshal(map[string]string{"alg": "RS256", "kid": kid})
		c, _ := json.Marshal(claims)
		text := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
		sum := sha256.Sum256([]byte(text))
		sig, err := rsa.SignPKCS1v15(nil, k, 5, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(sig)
	}
	es, err := ecKey.sign(map[string]string{"alg": "ES256", "kid": "two"}, good())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, c := range []struct {
		name, auth string
		want       int
		reason     string
	}{
		{"good", "Bearer " + rs(key, "one", good()), 200, ""},
		{"ES256", "bearer " + es, 200, ""},
		{"no key id", "Bearer " + rs(key, "", good()), 200, ""},
		{"audience as a string", "Bearer " + rs(key, "one", good("aud", "api")), 200, ""},
		{"nothing", "", 401, "JWTHeaderNotPresent"},
		{"other scheme", "Basic eDp5", 401, "JWTRequestFormatInvalid"},
		{"no token", "Bearer x", 401, "JWTRequestFormatInvalid"},
		{"unsigned", "Bearer " + unsigned(good()), 401, "JWTSignatureValidationError"},
		{"other key", "Bearer " + rs(other, "one", good()), 401, "JWTSignatureValidationError"},
		{"unknown key", "Bearer " + rs(other, "four", good()), 401, "JWTSignatureValidationError"},
		{"other kind of key", "Bearer " + rs(key, "two", good()), 401, "JWTSignatureValidationError"},
		{"other issuer", "Bearer " + rs(key, "one", good("iss", "x")), 401, "JWTClaimValueInvalid"},
		{"expired", "Bearer " + rs(key, "one", good("exp", now-1)), 401, "JWTClaimValueInvalid"},
		{"no expiry", "Bearer " + rs(key, "one", good("exp", nil)), 401, "JWTClaimNotPresent"},
		{"not yet", "Bearer " + rs(key, "one", good("nbf", now+100)), 401, "JWTClaimValueInvalid"},
		{"issued in the future", "Bearer " + rs(key, "one", good("iat", now+100)), 401, "JWTClaimValueInvalid"},
		{"other client", "Bearer " + rs(key, "one", good("client", "c2")), 401, "JWTClaimValueInvalid"},
		{"other audience", "Bearer " + rs(key, "one", good("aud", []string{"x"})), 401, "JWTClaimValueInvalid"},
		{"no client", "Bearer " + rs(key, "one", good("client", nil)), 401, "JWTClaimNotPresent"},
		{"expiry in words", "Bearer " + rs(key, "one", good("exp", "soon")), 401, "JWTClaimFormatInvalid"},
		{"scope lacking", "Bearer " + rs(key, "one", good("scope", "read")), 401, "JWTClaimValueInvalid"},
	} {
		if c.reason != "" {
			want = append(want, "jwt-validation "+c.reason)
		}
		var hs []string
		if c.auth != "" {
			hs = []string{"Authorization", c.auth}
		}
		if r, body := g.visit("https://lb.test/private", hs...); r.StatusCode != c.want {
			t.Errorf("%s: %d %s", c.name, r.StatusCode, body)
		}
	}
	if s := g.Stats().Counters; s["JWTValidationSuccessCount"] != 4 || s["JWTValidationFailureCount"] != float64(len(want)) {
		t.Errorf("counters %v", s)
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
	// Keys stay while the provider is away; a node that has none answers 500.
	down.Store(true)
	g.now.Store(int64(time.Minute))
	if r, _ := g.visit("https://lb.test/private", "Authorization", "Bearer "+rs(key, "one", good())); r.StatusCode != 200 {
		t.Errorf("while the provider is away: %d", r.StatusCode)
	}
	if got := g.failures(); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("reasons in the access log:\n%q, want\n%q", got, want)
	}
	g.start(t)
	g.browser.Transport.(*http.Transport).CloseIdleConnections()
	if r, _ := g.visit("https://lb.test/private", "Authorization", "Bearer "+rs(key, "one", good())); r.StatusCode != 500 {
		t.Errorf("without keys: %d", r.StatusCode)
	}
	if got := g.failures(); !slices.Contains(got, "jwt-validation JWKSRequestTimeout") {
		t.Errorf("without keys: %q in the log", got)
	}
}

func TestBadAuthentication(t *testing.T) {
	good := OIDC{Issuer: "i", AuthorizationEndpoint: "https://a/a", TokenEndpoint: "https://a/t", UserInfoEndpoint: "https://a/u", ClientID: "c", ClientSecret: "s"}
	for want, change := range map[string]func(c *Config, o *OIDC){
		"for HTTPS listeners":     func(c *Config, o *OIDC) { c.Listeners[0].Protocol = HTTP },
		"not an https URL":        func(c *Config, o *OIDC) { o.TokenEndpoint = "http://a/t" },
		"needs an issuer":         func(c *Config, o *OIDC) { o.ClientSecret = "" },
		"needs a cookie key":      func(c *Config, o *OIDC) { c.CookieKey = nil },
		"session cookie":          func(c *Config, o *OIDC) { o.SessionCookieName = "a b" },
		"unauthenticated request": func(c *Config, o *OIDC) { o.OnUnauthenticated = "shrug" },
		"authenticate-cognito":    func(c *Config, o *OIDC) { c.Listeners[0].DefaultActions[0].Type = "authenticate-cognito" },
		"jwks endpoint": func(c *Config, o *OIDC) {
			c.Listeners[0].DefaultActions[0] = Action{Type: JWTValidation, JWT: &JWT{Issuer: "i"}}
		},
		"more than two actions": func(c *Config, o *OIDC) {
			l := &c.Listeners[0]
			l.DefaultActions = append(l.DefaultActions[:1:1], l.DefaultActions...)
		},
		"authenticate-oidc action": func(c *Config, o *OIDC) { c.Listeners[0].DefaultActions[0].OIDC = nil },
	} {
		cfg := secure(simple("127.0.0.1:1"), "", certificate(t, "lb", false, "lb.test"))
		cfg.CookieKey = []byte("k")
		o := good
		cfg.Listeners[0].DefaultActions = append([]Action{{Type: AuthenticateOIDC, OIDC: &o}}, Action{Type: Forward, Order: 2, Forward: []Weighted{{"g", 1}}})
		change(&cfg, &o)
		if _, _, err := compile(cfg, live{}, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
