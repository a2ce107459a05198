package tlsfront

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"skerry/internal/balance"
)

// missing are the ciphers that policies name and crypto/tls does not have.
var missing = []string{"ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA384", "AES256-SHA256"}

// TestPoliciesAreTheDescribedOnes: what DescribeSSLPolicies tells is what a listener does.
func TestPoliciesAreTheDescribedOnes(t *testing.T) {
	t.Parallel()
	for _, want := range balance.SSLPolicies {
		p, ok := LookupPolicy(want.Name)
		if !ok {
			t.Errorf("%s is described and not served", want.Name)
			continue
		}
		var versions []string
		for v := p.Min; v <= p.Max; v++ {
			versions = append(versions, VersionName(v))
		}
		if !slices.Equal(slices.Sorted(slices.Values(want.Protocols)), slices.Sorted(slices.Values(versions))) {
			t.Errorf("%s: protocols %v are described, %v served", want.Name, want.Protocols, versions)
		}
		var served []string
		for _, s := range p.Suites {
			served = append(served, SuiteName(s))
		}
		if p.Max == tls.VersionTLS13 {
			served = append(served, "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
		}
		for _, c := range served {
			if !slices.Contains(want.Ciphers, c) && !(c == "TLS_CHACHA20_POLY1305_SHA256" && strings.Contains(want.Name, "-FIPS-")) {
				t.Errorf("%s: %s is served and not described", want.Name, c)
			}
		}
		for _, c := range want.Ciphers {
			if !slices.Contains(served, c) && !slices.Contains(missing, c) {
				t.Errorf("%s: %s is described and not served", want.Name, c)
			}
		}
		hybrid := slices.Contains(p.Curves, tls.X25519MLKEM768)
		if fips := !slices.Contains(p.Curves, tls.X25519); fips != strings.Contains(want.Name, "-FIPS-") {
			t.Errorf("%s: X25519: %v", want.Name, !fips)
		}
		if hybrid != strings.Contains(want.Name, "-PQ-") {
			t.Errorf("%s: hybrid keys: %v", want.Name, hybrid)
		}
	}
	for name := range policies {
		if !strings.Contains(name, "-Ext0-") && !balance.KnownSSLPolicy(policyPrefix+name) {
			t.Errorf("%s is served and not described", name)
		}
	}
	for _, name := range []string{"ELBSecurityPolicy-nope", "ELBSecurityPolicy-TLS13-1-2-Ext0-2021-06", "TLS13-1-2-2021-06", "ELBSecurityPolicy-2016-08-PQ-2025-09", "ELBSecurityPolicy-FS-FIPS-2023-04"} {
		if _, ok := LookupPolicy(name); ok {
			t.Errorf("%s exists", name)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for id, want := range map[uint16]string{
		tls.TLS_AES_128_GCM_SHA256: "TLS_AES_128_GCM_SHA256", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "ECDHE-RSA-AES128-GCM-SHA256",
		tls.TLS_RSA_WITH_AES_128_CBC_SHA: "AES128-SHA", tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA: "DES-CBC3-SHA",
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305", tls.TLS_RSA_WITH_AES_256_GCM_SHA384: "AES256-GCM-SHA384",
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA: "ECDHE-ECDSA-AES256-SHA", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256: "ECDHE-RSA-AES128-SHA256",
	} {
		if got := SuiteName(id); got != want {
			t.Errorf("%#x is %q, want %q", id, got, want)
		}
	}
}
