package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"skerry/api"
)

// RootAccount is the account of the keys that name none.
const RootAccount = "000000000000"

// WellKnown finds the keys that exist by default: skerry/skerry, test/test, and NNNNNNNNNNNN/test, the root of that
// account. Their secrets are no secrets, so they count only for a request that comes from this host's own loopback, to
// a loopback address, and not out of a web page of somebody else's (no drive-by, no DNS rebinding).
func WellKnown(accessKeyID string, r *http.Request) (Credential, error) {
	c := Credential{AccessKeyID: accessKeyID, Secret: "test"}
	account := RootAccount
	switch {
	case accessKeyID == "skerry":
		c.Secret = "skerry"
	case accessKeyID == "test":
	case isAccount(accessKeyID):
		account = accessKeyID
	default:
		return Credential{}, &KeyError{}
	}
	if why := foreign(r); why != "" {
		return Credential{}, &KeyError{Msg: "The access key '" + accessKeyID + "' is known to everybody, so it counts only for requests from this machine itself; this one " + why + "."}
	}
	c.Principal = RootOf(account)
	return c, nil
}

// RootOf returns the root principal of an account.
func RootOf(account string) api.Principal {
	return api.Principal{ARN: "arn:aws:iam::" + account + ":root", UserID: account, Account: account}
}

func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// foreign says why a request does not come from a program on this machine, or "".
func foreign(r *http.Request) string {
	if !loopbackAddr(r.RemoteAddr) {
		return "comes from " + r.RemoteAddr
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && !loopbackAddr(a.String()) {
		return "was sent to " + a.String()
	}
	if !loopbackName(r.Host) {
		return "names the host " + strconvQuote(r.Host)
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return "comes from a web page (Sec-Fetch-Site " + strconvQuote(site) + ")"
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || u.Host != r.Host {
			return "comes from a web page (Origin " + strconvQuote(origin) + ")"
		}
	}
	return ""
}

func loopbackAddr(hostport string) bool {
	a, err := netip.ParseAddrPort(hostport)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// loopbackName tells whether a Host header names this machine's loopback, in any way that DNS cannot be talked into.
func loopbackName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.Unmap().IsLoopback()
}
