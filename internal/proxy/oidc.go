package proxy

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names and bounds of authentication.
const (
	callbackPath     = "/oauth2/idpresponse"
	publicKeyPath    = callbackPath + "/keys/" // and a key's id
	nonceCookie      = "AWSALBAuthNonce"
	sessionCookie    = "AWSELBAuthSessionCookie"
	sessionSeconds   = 604800
	loginTime        = 15 * time.Minute
	maxUserClaims    = 11 << 10
	maxSessionShards = 4
	maxCookieSize    = 4096
	maxSession       = 64 << 10 // bytes of a session before it is packed
	maxExtraParams   = 10
	headerAccess     = "x-amzn-oidc-accesstoken"
	headerIdentity   = "x-amzn-oidc-identity"
	headerData       = "x-amzn-oidc-data"
)

// oidc is a compiled authenticate-oidc action.
type oidc struct {
	OIDC
	id     string // names the settings that a session or state belongs to
	signer *signer
	arn    string // of the load balancer
	seal   *box
}

// box encrypts what only the load balancer's nodes may read.
type box struct{ aead cipher.AEAD }

func newBox(secret []byte) (*box, error) {
	k, err := hkdf.Key(sha256.New, secret, nil, "skerry session cookie", 32)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCMWithRandomNonce(b)
	return &box{a}, err
}

// put packs, encrypts and encodes v. It can be opened for the same purpose only.
func (b *box) put(v any, purpose string) (string, error) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.DefaultCompression)
	if err != nil {
		return "", err
	}
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b.aead.Seal(nil, nil, out.Bytes(), []byte(purpose))), nil
}

// get opens what put made.
func (b *box) get(s string, v any, purpose string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) < 28 {
		return false
	}
	plain, err := b.aead.Open(nil, nil, raw, []byte(purpose))
	if err != nil {
		return false
	}
	return json.NewDecoder(io.LimitReader(flate.NewReader(bytes.NewReader(plain)), maxSession)).Decode(v) == nil
}

// session is what the session cookies hold.
type session struct {
	Subject string          `json:"s"`
	Access  string          `json:"a"`
	Refresh string          `json:"r,omitempty"`
	Claims  json.RawMessage `json:"c"`
	Until   int64           `json:"u"`           // the session's end, Unix seconds
	Fresh   int64           `json:"f,omitempty"` // the access token's end, if it is known
}

// loginState is what the state parameter holds on its way over the provider.
type loginState struct {
	ID    string `json:"i"`
	URL   string `json:"u"`
	Nonce string `json:"n"` // also the ID token's; the browser has what it was made of
	At    int64  `json:"t"`
}

func (t *table) compileOIDC(c *OIDC, listenerARN string) (*oidc, error) {
	if c == nil {
		return nil, fmt.Errorf("an %s action needs its settings", AuthenticateOIDC)
	}
	o := &oidc{OIDC: *c}
	for _, x := range []struct{ name, url string }{{"authorization endpoint", o.AuthorizationEndpoint}, {"token endpoint", o.TokenEndpoint}, {"user info endpoint", o.UserInfoEndpoint}} {
		if err := httpsURL(x.name, x.url); err != nil {
			return nil, err
		}
	}
	if o.Issuer == "" || o.ClientID == "" || o.ClientSecret == "" {
		return nil, fmt.Errorf("%s needs an issuer, a client id and a client secret", AuthenticateOIDC)
	}
	if o.SessionCookieName == "" {
		o.SessionCookieName = sessionCookie
	}
	if o.SessionTimeoutSeconds == 0 {
		o.SessionTimeoutSeconds = sessionSeconds
	}
	if o.Scope == "" {
		o.Scope = "openid"
	}
	switch o.OnUnauthenticated {
	case "":
		o.OnUnauthenticated = OnUnauthenticatedAuthenticate
	case OnUnauthenticatedAuthenticate, OnUnauthenticatedAllow, OnUnauthenticatedDeny:
	default:
		return nil, fmt.Errorf("%s: on unauthenticated request %q", AuthenticateOIDC, o.OnUnauthenticated)
	}
	if len(o.SessionCookieName) > 128 || !allOf([]byte(o.SessionCookieName), isToken) || o.SessionTimeoutSeconds < 1 || o.SessionTimeoutSeconds > sessionSeconds || len(o.ExtraParams) > maxExtraParams {
		return nil, fmt.Errorf("%s: session cookie %q, timeout %d, %d extra parameters", AuthenticateOIDC, o.SessionCookieName, o.SessionTimeoutSeconds, len(o.ExtraParams))
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{o.Issuer, o.AuthorizationEndpoint, o.TokenEndpoint, o.UserInfoEndpoint, o.ClientID, o.Scope, o.SessionCookieName}, "\x00")))
	o.id = base64.RawURLEncoding.EncodeToString(sum[:12])
	if i := strings.LastIndexByte(listenerARN, '/'); i > 0 {
		o.arn = strings.Replace(listenerARN[:i], ":listener/", ":loadbalancer/", 1)
	}
	secret := t.secret
	if len(secret) == 0 {
		return nil, fmt.Errorf("%s needs a cookie key: sessions are encrypted with it", AuthenticateOIDC)
	}
	var err error
	if o.signer, err = newSigner(secret); err != nil {
		return nil, err
	}
	o.seal, err = newBox(secret)
	return o, err
}

// isCallback tells whether a request comes back from a provider, or asks for a public key.
func isCallback(path []byte) bool {
	return bytes.HasPrefix(path, []byte(callbackPath)) && (len(path) == len(callbackPath) || bytes.HasPrefix(path, []byte(publicKeyPath)))
}

// refusal is an answer that ends authentication.
type refusal struct {
	status int
	code   string  // for the access log
	count  counter // cAuthFailure, cAuthError or another; numCounters for none
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

func refuse401(code, why string) *refusal { return &refusal{401, code, cAuthFailure, errors.New(why)} }

func unhandled(err error) *refusal { return &refusal{500, "AuthUnhandledException", cAuthError, err} }

func noHost(why string) *refusal {
	return &refusal{401, "AuthMissingHostHeader", cAuthError, errors.New(why)}
}

// ofProvider is the refusal for what a provider's endpoint answered, or didn't.
func ofProvider(endpoint string, err error) *refusal {
	var ie *idpError
	switch {
	case errors.As(err, &ie) && ie.status == 400 && bytes.Contains(ie.body, []byte(`"invalid_grant"`)):
		return &refusal{561, "AuthInvalidGrantError", cAuthFailure, err}
	case ie != nil:
		return &refusal{561, "Auth" + endpoint + "RequestFailed", cAuthError, err}
	}
	return &refusal{500, "Auth" + endpoint + "RequestTimeout", cAuthError, err}
}

// authenticate handles an authenticate action that stands before the deciding one. It returns true if the request goes on;
// otherwise it has been answered.
func (x *exchange) authenticate(o *oidc, now time.Time) bool {
	r := x.req
	for i := range r.fields { // nobody but us says who the user is
		if f := &r.fields[i]; f.id == fOther && oidcHeader(f.name) {
			f.drop = true
		}
	}
	s, ok := o.session(r, now)
	if ok && s.Fresh > 0 && now.Unix() >= s.Fresh && s.Refresh != "" {
		ctx, cancel := context.WithTimeout(x.p.ctx, 2*idpTimeout)
		fresh, ref := o.refresh(ctx, x.p.idp, s, now)
		cancel()
		x.w.touch()
		if ref == nil {
			s = fresh
			var lines []byte
			if lines, ref = o.cookies(s, r, now); ref == nil {
				x.cookies = append(x.cookies, lines...)
				x.p.counters.inc(cAuthRefresh)
			}
		}
		if ref != nil {
			x.p.opt.Log.Debug("refreshing a session", "listener", x.lt.addr, "err", ref.err)
			ok = false
		}
	}
	if ok {
		lines, err := o.headers(s, now)
		if err != nil {
			x.turnAway(unhandled(err))
			return false
		}
		r.extra = append(r.extra, lines...)
		return true
	}
	switch o.OnUnauthenticated {
	case OnUnauthenticatedAllow:
		return true
	case OnUnauthenticatedDeny:
		if _, had := r.cookie(o.SessionCookieName + "-0"); had {
			x.entry.reason = "AuthInvalidCookie"
		}
		x.fail(401)
		return false
	}
	loc, cookie, ref := o.login(r, now)
	if ref != nil {
		x.turnAway(ref)
		return false
	}
	x.local(ownAnswer{status: 302, ctype: "text/html", body: htmlPages[302], location: loc, lines: cookie})
	return false
}

func oidcHeader(name []byte) bool {
	return equalFold(name, headerAccess) || equalFold(name, headerIdentity) || equalFold(name, headerData)
}

func (x *exchange) turnAway(ref *refusal) {
	if ref.count != numCounters {
		x.p.counters.inc(ref.count)
	}
	x.entry.reason = ref.code
	x.p.opt.Log.Debug("authentication", "listener", x.lt.addr, "status", ref.status, "code", ref.code, "err", ref.err)
	x.fail(ref.status)
}

// session reads the request's session cookies.
func (o *oidc) session(r *request, now time.Time) (s session, ok bool) {
	var text strings.Builder
	for i := range maxSessionShards {
		v, found := r.cookie(o.SessionCookieName + "-" + strconv.Itoa(i))
		if !found {
			break
		}
		text.Write(v)
	}
	if text.Len() == 0 || !o.seal.get(text.String(), &s, "session "+o.id) || now.Unix() >= s.Until {
		return session{}, false
	}
	return s, true
}

// cookies returns the lines that set a session.
func (o *oidc) cookies(s session, r *request, now time.Time) ([]byte, *refusal) {
	text, err := o.seal.put(s, "session "+o.id)
	if err != nil {
		return nil, unhandled(err)
	}
	size := maxCookieSize - len(o.SessionCookieName) - 128
	if len(text) > maxSessionShards*size {
		return nil, &refusal{401, "AuthUserinfoResponseSizeExceeded", cAuthClaimsSize, fmt.Errorf("a session of %d bytes", len(text))}
	}
	var out []byte
	for i := range maxSessionShards {
		name := o.SessionCookieName + "-" + strconv.Itoa(i)
		part := text[:min(len(text), size)]
		text = text[len(part):]
		if part != "" {
			out = appendAuthCookie(out, name, part, now.Add(cookieExpires))
		} else if _, old := r.cookie(name); old {
			out = appendAuthCookie(out, name, "", time.Unix(0, 0))
		}
	}
	return out, nil
}

func appendAuthCookie(dst []byte, name, value string, until time.Time) []byte {
	dst = append(dst, "Set-Cookie: "+name+"="+value+"; Expires="...)
	dst = until.UTC().AppendFormat(dst, timeFormat)
	return append(dst, "; Path=/; Secure; HttpOnly\r\n"...)
}

// login returns where an unauthenticated user is sent, and the cookie that binds the way back to this browser.
func (o *oidc) login(r *request, now time.Time) (loc, cookie []byte, ref *refusal) {
	if len(r.host) == 0 {
		return nil, nil, noHost("no host to come back to")
	}
	secret, ok := r.cookie(nonceCookie)
	if raw, err := base64.RawURLEncoding.DecodeString(string(secret)); !ok || err != nil || len(raw) != 24 {
		raw = make([]byte, 24)
		rand.Read(raw)
		secret = base64.RawURLEncoding.AppendEncode(nil, raw)
	}
	nonce := nonceOf(secret)
	state, err := o.seal.put(loginState{ID: o.id, URL: "https://" + string(r.host) + string(r.target), Nonce: nonce, At: now.Unix()}, "state")
	if err != nil {
		return nil, nil, unhandled(err)
	}
	u, err := url.Parse(o.AuthorizationEndpoint)
	if err != nil {
		return nil, nil, unhandled(err)
	}
	q := u.Query()
	for k, v := range o.ExtraParams {
		q.Set(k, v)
	}
	for k, v := range map[string]string{"client_id": o.ClientID, "redirect_uri": redirectURI(r), "response_type": "code", "scope": o.Scope, "state": state, "nonce": nonce} {
		q.Set(k, v)
	}
	u.RawQuery = q.Encode()
	loc = []byte(u.String())
	if len(loc) > maxLocation {
		return nil, nil, &refusal{414, "", numCounters, errors.New("the URL is too long to come back to")}
	}
	return loc, appendAuthCookie(nil, nonceCookie, string(secret), now.Add(loginTime)), nil
}

func nonceOf(secret []byte) string {
	sum := sha256.Sum256(append([]byte("nonce "), secret...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func redirectURI(r *request) string { return "https://" + string(r.host) + callbackPath }

// callback answers a request that comes back from a provider, and those for public keys.
func (x *exchange) callback(now time.Time) {
	r := x.req
	if id, ok := bytes.CutPrefix(r.path, []byte(publicKeyPath)); ok {
		for _, o := range x.lt.oidc {
			if string(id) == o.signer.kid {
				x.local(ownAnswer{status: 200, ctype: "application/x-pem-file", body: o.signer.pem})
				return
			}
		}
		x.local(ownAnswer{status: 404, ctype: "text/html", body: htmlPages[404]})
		return
	}
	o, state, code, ref := x.lt.returned(r, now)
	if ref != nil {
		x.turnAway(ref)
		return
	}
	ctx, cancel := context.WithTimeout(x.p.ctx, 3*idpTimeout)
	start := time.Now()
	s, ref := o.exchange(ctx, x.p.idp, code, redirectURI(r), state.Nonce, now)
	cancel()
	x.p.authLatency.add(time.Since(start)*1000, anyShard) // the metric is in milliseconds
	x.w.touch()
	var lines []byte
	if ref == nil {
		lines, ref = o.cookies(s, r, now)
	}
	if ref != nil {
		x.turnAway(ref)
		return
	}
	x.p.counters.inc(cAuthSuccess)
	lines = appendAuthCookie(lines, nonceCookie, "", time.Unix(0, 0))
	x.local(ownAnswer{status: 302, ctype: "text/html", body: htmlPages[302], location: []byte(state.URL), lines: lines})
}

// returned checks the parameters that a provider sent the browser back with.
func (l *listenerTable) returned(r *request, now time.Time) (o *oidc, s loginState, code string, ref *refusal) {
	q, err := url.ParseQuery(string(r.query))
	switch {
	case err != nil || len(l.oidc) == 0:
		return nil, s, "", refuse401("AuthInvalidStateParam", "malformed query")
	case q.Get("state") == "":
		return nil, s, "", refuse401("AuthMissingStateParam", "no state")
	}
	if !l.oidc[0].seal.get(q.Get("state"), &s, "state") {
		return nil, s, "", refuse401("AuthInvalidStateParam", "no state of ours")
	}
	i := slices.IndexFunc(l.oidc, func(o *oidc) bool { return o.id == s.ID })
	if i < 0 {
		return nil, s, "", refuse401("AuthInvalidStateParam", "the action is gone")
	}
	secret, _ := r.cookie(nonceCookie)
	switch at := time.Unix(s.At, 0); {
	case len(secret) == 0:
		return nil, s, "", refuse401("AuthMissingAWSALBAuthNonce", "the login began in another browser")
	case nonceOf(secret) != s.Nonce:
		return nil, s, "", refuse401("AuthInvalidAWSALBAuthNonce", "the login began in another browser")
	case now.Sub(at) > loginTime || at.After(now.Add(clockLeeway)):
		return nil, s, "", refuse401("AuthInvalidStateParam", "the login took too long")
	case len(r.host) == 0:
		return nil, s, "", noHost("no host")
	}
	if e := q.Get("error"); e == "access_denied" {
		return nil, s, "", refuse401("AuthMissingCodeParam", "the provider denied access")
	} else if e != "" {
		return nil, s, "", &refusal{561, "AuthMissingCodeParam", cAuthFailure, fmt.Errorf("the provider says %.100q", e)}
	}
	if code = q.Get("code"); code == "" {
		return nil, s, "", refuse401("AuthMissingCodeParam", "no code")
	}
	return l.oidc[i], s, code, nil
}

// tokens is a token endpoint's answer.
type tokens struct {
	Access  string      `json:"access_token"`
	Type    string      `json:"token_type"`
	ID      string      `json:"id_token"`
	Refresh string      `json:"refresh_token"`
	Expires json.Number `json:"expires_in"`
}

// exchange turns a code into a session.
func (o *oidc) exchange(ctx context.Context, p *idp, code, redirect, nonce string, now time.Time) (session, *refusal) {
	t, ref := o.token(ctx, p, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}})
	if ref != nil {
		return session{}, ref
	}
	if t.ID == "" {
		return session{}, refuse401("AuthInvalidIdToken", "no ID token")
	}
	sub, err := o.checkID(t.ID, nonce, now)
	if err != nil {
		return session{}, &refusal{401, "AuthInvalidIdToken", cAuthFailure, err}
	}
	return o.user(ctx, p, t, sub, now.Add(time.Duration(o.SessionTimeoutSeconds)*time.Second).Unix(), now)
}

// refresh renews a session's tokens and claims; the session's end stays.
func (o *oidc) refresh(ctx context.Context, p *idp, s session, now time.Time) (session, *refusal) {
	t, ref := o.token(ctx, p, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.Refresh}})
	if ref != nil {
		return session{}, ref
	}
	if t.Refresh == "" {
		t.Refresh = s.Refresh
	}
	return o.user(ctx, p, t, s.Subject, s.Until, now)
}

// token asks the token endpoint. The client authenticates by HTTP Basic or, if the provider refuses that, in the form.
func (o *oidc) token(ctx context.Context, p *idp, form url.Values) (t tokens, ref *refusal) {
	for _, inForm := range [...]bool{false, true} {
		if inForm {
			form.Set("client_id", o.ClientID)
			form.Set("client_secret", o.ClientSecret)
		}
		req, err := http.NewRequest("POST", o.TokenEndpoint, strings.NewReader(form.Encode()))
		if err != nil {
			return t, unhandled(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Accept", "application/json")
		if !inForm {
			req.SetBasicAuth(url.QueryEscape(o.ClientID), url.QueryEscape(o.ClientSecret))
		}
		b, err := p.do(ctx, req, maxIDPAnswer)
		var ie *idpError
		if !inForm && errors.As(err, &ie) && (ie.status == 401 || ie.status == 400 && bytes.Contains(ie.body, []byte(`"invalid_client"`))) {
			continue
		}
		if err != nil {
			return t, ofProvider("TokenEp", err)
		}
		if err := json.Unmarshal(b, &t); err != nil || t.Access == "" || !strings.EqualFold(t.Type, "bearer") || !allOf([]byte(t.Access), isValue) {
			return t, &refusal{500, "AuthInvalidTokenResponse", cAuthFailure, errors.New("the token endpoint's answer is malformed")}
		}
		return t, nil
	}
	return t, ref
}

// checkID checks an ID token that came from the token endpoint itself, whose TLS certificate stands for its signature
// (OpenID Connect Core 3.1.3.7), and returns its subject.
func (o *oidc) checkID(s, nonce string, now time.Time) (sub string, err error) {
	t, err := parseToken(s)
	if err != nil {
		return "", err
	}
	if err := t.current(o.Issuer, now); err != nil {
		return "", err
	}
	aud := t.list("aud")
	switch sub = t.text("sub"); {
	case sub == "":
		return "", badValue("no subject")
	case !slices.Contains(aud, o.ClientID), len(t.claims["azp"]) > 0 && t.text("azp") != o.ClientID, len(aud) > 1 && t.text("azp") != o.ClientID:
		return "", badValue("for another client")
	case t.text("nonce") != nonce:
		return "", badValue("another nonce")
	}
	return sub, nil
}

// user completes a session with the user's claims.
func (o *oidc) user(ctx context.Context, p *idp, t tokens, sub string, until int64, now time.Time) (session, *refusal) {
	b, err := p.get(ctx, o.UserInfoEndpoint, t.Access, maxIDPAnswer)
	switch {
	case len(b) > maxUserClaims:
		return session{}, &refusal{401, "AuthUserinfoResponseSizeExceeded", cAuthClaimsSize, fmt.Errorf("claims of more than %d bytes", maxUserClaims)}
	case err != nil:
		return session{}, ofProvider("UserinfoEp", err)
	}
	var who struct {
		Subject string `json:"sub"`
	}
	var claims bytes.Buffer
	if json.Compact(&claims, b) != nil || json.Unmarshal(b, &who) != nil || who.Subject != sub || !allOf([]byte(sub), isValue) {
		return session{}, &refusal{500, "AuthInvalidUserinfoResponse", cAuthFailure, errors.New("the user info endpoint's answer is malformed, or about another user")}
	}
	s := session{Subject: sub, Access: t.Access, Refresh: t.Refresh, Claims: claims.Bytes(), Until: until}
	if n, err := t.Expires.Int64(); err == nil && n > 0 && n < 1<<31 {
		s.Fresh = now.Unix() + n
	}
	return s, nil
}

// headers returns the lines that tell a target who the user is.
func (o *oidc) headers(s session, now time.Time) ([]byte, error) {
	exp := now.Add(dataLifetime).Unix()
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(s.Claims, &claims); err != nil {
		return nil, err
	}
	iss, err := json.Marshal(o.Issuer)
	if err != nil {
		return nil, err
	}
	claims["exp"], claims["iss"] = strconv.AppendInt(nil, exp, 10), iss
	data, err := o.signer.sign(map[string]any{"typ": "JWT", "alg": "ES256", "kid": o.signer.kid, "signer": o.arn, "iss": o.Issuer, "client": o.ClientID, "exp": exp}, claims)
	if err != nil {
		return nil, err
	}
	return []byte(headerAccess + ": " + s.Access + "\r\n" + headerIdentity + ": " + s.Subject + "\r\n" + headerData + ": " + data + "\r\n"), nil
}
