package zoneplan

import (
	"reflect"
	"testing"

	"skerry/internal/balance"
	"skerry/internal/store"
	"skerry/internal/zone"
)

// TestSettingsReachTheZone: what the API took is in the plan, word for word.
func TestSettingsReachTheZone(t *testing.T) {
	t.Parallel()
	x := newWorld(t, balance.Application)
	oidc := balance.OIDC{Issuer: "https://i.test", AuthorizationEndpoint: "https://i.test/a", TokenEndpoint: "https://i.test/t", UserInfoEndpoint: "https://i.test/u", ClientID: "id",
		ClientSecret: "secret", SessionTimeout: 60, Scope: "openid email", OnUnauthenticated: "deny", SessionCookieName: "S", ExtraParams: map[string]string{"prompt": "login"}}
	forward := balance.Action{Type: "forward", Order: 2, TargetGroupARN: x.group.ARN}
	x.update(func(w *store.WriteTx) error {
		ts := balance.TrustStore{Scope: home, ARN: home.ARN("elasticloadbalancing", "truststore/t/1"), Bundle: "PEM"}
		balance.TrustStores.Put(w, ts)
		balance.Revocations.Put(w, balance.Revocation{Scope: home, StoreARN: ts.ARN, ID: 1, DER: []byte("crl")})
		var l balance.Listener
		for l = range balance.Listeners.By(w, "lb", x.lb.Key(x.lb.ARN)) {
		}
		l, err := balance.ModifyListener(w, home, l.ARN, balance.ListenerParams{MutualTLS: &balance.MutualTLS{Mode: "verify", TrustStoreARN: ts.ARN, IgnoreExpiry: true, AdvertiseCAs: "on"}})
		if err != nil {
			return err
		}
		path := func(p string) []balance.Condition {
			return []balance.Condition{{Field: "path-pattern", Values: []string{p}}}
		}
		if _, err := balance.CreateRule(w, home, l.ARN, 1, balance.RuleParams{Conditions: path("/a"), Actions: []balance.Action{{Type: "authenticate-oidc", Order: 1, OIDC: &oidc}, forward},
			Transforms: []balance.Transform{{Type: "url-rewrite", Regex: "a", Replace: "b"}}}, nil); err != nil {
			return err
		}
		_, err = balance.CreateRule(w, home, l.ARN, 2, balance.RuleParams{Conditions: path("/b"), Actions: []balance.Action{{Type: "jwt-validation", Order: 1,
			JWT: &balance.JWT{Issuer: "i", JWKSEndpoint: "https://i.test/k", Claims: []balance.Claim{{Name: "aud", Format: "single-string", Values: []string{"me"}}}}}, forward}}, nil)
		return err
	})
	var d zone.Desired
	if err := x.db.View(func(tx *store.ReadTx) (err error) { d, err = Build(tx, "eu-west-1a", x.opts); return err }); err != nil {
		t.Fatal(err)
	}
	l := d.Balancers[0].Listeners[0]
	if m := l.MutualTLS; m.Mode != "verify" || m.CAs != "PEM" || len(m.CRLs) != 1 || string(m.CRLs[0]) != "crl" || !m.IgnoreClientCertificateExpiry || !m.AdvertiseTrustStoreCaNames {
		t.Errorf("mutual TLS: %+v", m)
	}
	if len(l.Rules) != 2 {
		t.Fatalf("rules: %+v", l.Rules)
	}
	want := zone.OIDC{Issuer: oidc.Issuer, AuthorizationEndpoint: oidc.AuthorizationEndpoint, TokenEndpoint: oidc.TokenEndpoint, UserInfoEndpoint: oidc.UserInfoEndpoint, ClientID: "id",
		ClientSecret: "secret", SessionTimeoutSeconds: 60, Scope: "openid email", OnUnauthenticated: "deny", SessionCookieName: "S", ExtraParams: oidc.ExtraParams}
	if a := l.Rules[0].Actions; len(a) != 2 || a[0].OIDC == nil || !reflect.DeepEqual(*a[0].OIDC, want) || a[1].Forward[0].GroupARN != x.group.ARN {
		t.Errorf("authentication: %+v", a)
	}
	if tr := l.Rules[0].Transforms; len(tr) != 1 || tr[0] != (zone.Transform{Type: "url-rewrite", Regex: "a", Replace: "b"}) {
		t.Errorf("transforms: %+v", tr)
	}
	if a := l.Rules[1].Actions; len(a) != 2 || a[0].JWT == nil || !reflect.DeepEqual(*a[0].JWT, zone.JWT{Issuer: "i", JWKSEndpoint: "https://i.test/k",
		Claims: []zone.JWTClaim{{Name: "aud", Format: "single-string", Values: []string{"me"}}}}) {
		t.Errorf("token validation: %+v", a)
	}
}
