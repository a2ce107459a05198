package balance

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/store"
)

// Defaults and bounds of AWS for authentication.
const (
	DefaultSessionCookie  = "AWSELBAuthSessionCookie"
	DefaultSessionTimeout = 604800 // seconds; also the longest
	DefaultScope          = "openid"

	maxExtraParams   = 10
	maxClaims        = 10
	maxClaimValues   = 10
	maxIssuer        = 256
	maxAuthText      = 2048 // of an endpoint, an id or a secret
	maxRewriteChars  = 1024
	maxCookieName    = 128
	unauthenticated  = "authenticate"
	formatSingle     = "single-string"
	hostRewrite      = "host-header-rewrite"
	urlRewrite       = "url-rewrite"
	mutualOff        = "off"
	mutualPass       = "passthrough"
	mutualVerify     = "verify"
	claimFormatsText = "single-string, string-array, space-separated-values"
)

var cookieToken = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// isHTTPS tells whether a text is an https URL with a host and without a fragment.
func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.Fragment == "" && len(s) <= maxAuthText && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

func checkOIDC(l Listener, a Action, old []Action) (Action, error) {
	if a.OIDC == nil || !a.only(OIDCType) {
		return a, badAction("An 'authenticate-oidc' action must have an AuthenticateOidcConfig and nothing else")
	}
	if l.Protocol != HTTPS {
		return a, badAction("Actions of type 'authenticate-oidc' are supported only on HTTPS listeners")
	}
	o := *a.OIDC
	for what, v := range map[string]string{"issuer": o.Issuer, "authorization endpoint": o.AuthorizationEndpoint, "token endpoint": o.TokenEndpoint, "user info endpoint": o.UserInfoEndpoint} {
		if !isHTTPS(v) {
			return a, badAction("The OIDC %s '%s' must be a full URL with the HTTPS protocol", what, v)
		}
	}
	if o.ClientID == "" || len(o.ClientID) > maxAuthText || len(o.ClientSecret) > maxAuthText {
		return a, badAction("The OIDC client ID must be specified, and client ID and secret can have at most %d characters", maxAuthText)
	}
	if o.UseExistingSecret {
		if o.ClientSecret != "" {
			return a, badAction("You cannot specify both ClientSecret and UseExistingClientSecret")
		}
		i := slices.IndexFunc(old, func(b Action) bool { return b.OIDC != nil })
		if i < 0 {
			return a, badAction("There is no existing client secret that could be used")
		}
		o.ClientSecret, o.UseExistingSecret = old[i].OIDC.ClientSecret, false
	}
	if o.ClientSecret == "" {
		return a, badAction("The OIDC client secret must be specified")
	}
	if o.SessionCookieName == "" {
		o.SessionCookieName = DefaultSessionCookie
	}
	if !cookieToken.MatchString(o.SessionCookieName) || len(o.SessionCookieName) > maxCookieName {
		return a, badAction("The session cookie name '%s' is not valid", o.SessionCookieName)
	}
	if o.Scope == "" {
		o.Scope = DefaultScope
	}
	if !slices.Contains(strings.Fields(o.Scope), DefaultScope) || len(o.Scope) > maxAuthText {
		return a, badAction("The scope '%s' must contain 'openid'", o.Scope)
	}
	if o.SessionTimeout == 0 {
		o.SessionTimeout = DefaultSessionTimeout
	}
	if o.SessionTimeout < 1 || o.SessionTimeout > DefaultSessionTimeout {
		return a, badAction("The session timeout must be between 1 and %d seconds", DefaultSessionTimeout)
	}
	if o.OnUnauthenticated == "" {
		o.OnUnauthenticated = unauthenticated
	}
	if !slices.Contains([]string{"deny", "allow", unauthenticated}, o.OnUnauthenticated) {
		return a, badAction("OnUnauthenticatedRequest '%s' must be one of 'deny, allow, authenticate'", o.OnUnauthenticated)
	}
	if len(o.ExtraParams) > maxExtraParams {
		return a, badAction("At most %d extra parameters of the authentication request can be specified", maxExtraParams)
	}
	if len(o.ExtraParams) == 0 {
		o.ExtraParams = nil
	}
	a.OIDC = &o
	return a, nil
}

func checkJWT(l Listener, a Action) (Action, error) {
	if a.JWT == nil || !a.only(JWTType) {
		return a, badAction("A 'jwt-validation' action must have a JwtValidationConfig and nothing else")
	}
	if l.Protocol != HTTPS {
		return a, badAction("Actions of type 'jwt-validation' are supported only on HTTPS listeners")
	}
	j := *a.JWT
	if !isHTTPS(j.JWKSEndpoint) {
		return a, badAction("The JWKS endpoint '%s' must be a full URL with the HTTPS protocol", j.JWKSEndpoint)
	}
	if j.Issuer == "" || len(j.Issuer) > maxIssuer {
		return a, badAction("The issuer must be specified and can have at most %d characters", maxIssuer)
	}
	if len(j.Claims) > maxClaims {
		return a, badAction("At most %d additional claims can be specified", maxClaims)
	}
	seen := map[string]bool{}
	for _, c := range j.Claims {
		switch {
		case c.Name == "" || len(c.Name) > maxIssuer || seen[c.Name]:
			return a, badAction("The claim name '%s' must be specified once and can have at most %d characters", c.Name, maxIssuer)
		case slices.Contains([]string{"exp", "iss", "nbf", "iat"}, c.Name):
			return a, badAction("The claim '%s' cannot be an additional claim: it is always validated", c.Name)
		case !slices.Contains(strings.Split(claimFormatsText, ", "), c.Format):
			return a, badAction("The format '%s' of claim '%s' must be one of '%s'", c.Format, c.Name, claimFormatsText)
		case len(c.Values) == 0 || len(c.Values) > maxClaimValues || c.Format == formatSingle && len(c.Values) != 1:
			return a, badAction("The claim '%s' must have between 1 and %d values, and exactly one with the format 'single-string'", c.Name, maxClaimValues)
		case slices.ContainsFunc(c.Values, func(v string) bool { return v == "" || len(v) > maxIssuer }):
			return a, badAction("The values of claim '%s' must have between 1 and %d characters", c.Name, maxIssuer)
		}
		seen[c.Name] = true
	}
	a.JWT = &j
	return a, nil
}

// checkTransforms refuses transforms that AWS refuses: a rule has at most one of each type.
func checkTransforms(transforms []Transform) error {
	seen := map[string]bool{}
	for _, t := range transforms {
		if t.Type != hostRewrite && t.Type != urlRewrite {
			return invalid("Transform type '%s' must be one of 'host-header-rewrite, url-rewrite'", t.Type)
		}
		if seen[t.Type] {
			return invalid("A rule can only have one '%s' transform", t.Type)
		}
		seen[t.Type] = true
		if t.Regex == "" || len(t.Regex) > maxRewriteChars || len(t.Replace) > maxRewriteChars {
			return invalid("The regex of a '%s' transform must be specified, and regex and replace can have at most %d characters", t.Type, maxRewriteChars)
		}
		if _, err := regexp.Compile(t.Regex); err != nil {
			return invalid("The regex '%s' of a '%s' transform is not valid", t.Regex, t.Type)
		}
		if strings.ContainsFunc(t.Replace, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return invalid("The replacement '%s' of a '%s' transform contains characters that are not valid", t.Replace, t.Type)
		}
	}
	return nil
}

// checkMutualTLS returns a listener's mutual authentication with what is given, checked.
func checkMutualTLS(tx store.Tx, lb LoadBalancer, l Listener, given *MutualTLS) (MutualTLS, error) {
	m := l.MutualTLS
	if given != nil {
		m = *given
	}
	if l.Protocol != HTTPS {
		if given != nil && given.Mode != "" && given.Mode != mutualOff {
			return m, fault.New(fault.Invalid, "InvalidConfigurationRequest", "Mutual authentication is supported for HTTPS listeners only")
		}
		return MutualTLS{}, nil
	}
	if m.Mode == "" {
		m.Mode = mutualOff
	}
	switch m.Mode {
	case mutualOff, mutualPass:
		if m.TrustStoreARN != "" || m.IgnoreExpiry || m.AdvertiseCAs == "on" {
			return m, invalid("A trust store, IgnoreClientCertificateExpiry and AdvertiseTrustStoreCaNames can be specified for mutual authentication mode 'verify' only")
		}
		m.AdvertiseCAs = ""
	case mutualVerify:
		if m.TrustStoreARN == "" {
			return m, invalid("A trust store ARN must be specified for mutual authentication mode 'verify'")
		}
		if _, err := GetTrustStore(tx, l.Scope, m.TrustStoreARN); err != nil {
			return m, err
		}
		switch m.AdvertiseCAs {
		case "":
			m.AdvertiseCAs = "off"
		case "on", "off":
		default:
			return m, invalid("AdvertiseTrustStoreCaNames '%s' must be one of 'on, off'", m.AdvertiseCAs)
		}
		n := 0
		for o := range Listeners.By(tx, "lb", l.Key(lb.ARN)) {
			if o.ARN != l.ARN && !portsClash(o, l) && o.MutualTLS.Mode == mutualVerify {
				n++
			}
		}
		if n >= MaxVerifyListeners {
			return m, fault.New(fault.Limit, "InvalidConfigurationRequest", "The maximum number of listeners that verify clients on load balancer '%s' has been reached: %d", lb.ARN, MaxVerifyListeners)
		}
	default:
		return m, invalid("Mutual authentication mode '%s' must be one of 'off, passthrough, verify'", m.Mode)
	}
	return m, nil
}
