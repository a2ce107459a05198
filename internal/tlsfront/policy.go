package tlsfront

import (
	"crypto/tls"
	"slices"
	"strings"
)

// DefaultPolicy is what a listener has unless it names another.
const DefaultPolicy = "ELBSecurityPolicy-2016-08"

const policyPrefix = "ELBSecurityPolicy-"

// Policy is a security policy as far as crypto/tls has it: it knows neither the AES-256 CBC suites with SHA-2 (ECDHE-ECDSA- and
// ECDHE-RSA-AES256-SHA384, AES256-SHA256), nor does it let TLS 1.3's three suites be chosen: the FIPS policies serve ChaCha20 too.
type Policy struct {
	Min, Max uint16
	Suites   []uint16 // of TLS 1.2 and before
	Curves   []tls.CurveID
}

var (
	suitesGCM = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}
	suitesCBC2 = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}
	suitesCBC1 = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA}
	suitesRSA2 = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}
	suitesRSA1 = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA}
	suites3DES = []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}

	suitesStrong = slices.Concat(suitesGCM, suitesCBC2)
	suitesFS     = slices.Concat(suitesStrong, suitesCBC1)
	suitesExt1   = slices.Concat(suitesStrong, suitesRSA2)
	suitesExt2   = slices.Concat(suitesFS, suitesRSA2, suitesRSA1)

	// TargetSuites are offered to targets.
	TargetSuites = suitesExt2

	curvesECC    = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	curvesFIPS   = []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521}
	curvesHybrid = []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024}
)

type policyBase struct {
	min, max uint16
	suites   []uint16
}

var policies = map[string]policyBase{
	"TLS13-1-3-2021-06":      {tls.VersionTLS13, tls.VersionTLS13, nil},
	"TLS13-1-2-Res-2021-06":  {tls.VersionTLS12, tls.VersionTLS13, suitesGCM},
	"TLS13-1-2-2021-06":      {tls.VersionTLS12, tls.VersionTLS13, suitesStrong},
	"TLS13-1-2-Ext1-2021-06": {tls.VersionTLS12, tls.VersionTLS13, suitesExt1},
	"TLS13-1-2-Ext0-2021-06": {tls.VersionTLS12, tls.VersionTLS13, suitesFS}, // only with FIPS
	"TLS13-1-2-Ext2-2021-06": {tls.VersionTLS12, tls.VersionTLS13, suitesExt2},
	"TLS13-1-1-2021-06":      {tls.VersionTLS11, tls.VersionTLS13, suitesExt2},
	"TLS13-1-0-2021-06":      {tls.VersionTLS10, tls.VersionTLS13, suitesExt2},
	"2016-08":                {tls.VersionTLS10, tls.VersionTLS12, suitesExt2},
	"2015-05":                {tls.VersionTLS10, tls.VersionTLS12, suitesExt2},
	"TLS-1-0-2015-04":        {tls.VersionTLS10, tls.VersionTLS12, slices.Concat(suitesExt2, suites3DES)},
	"TLS-1-1-2017-01":        {tls.VersionTLS11, tls.VersionTLS12, suitesExt2},
	"TLS-1-2-2017-01":        {tls.VersionTLS12, tls.VersionTLS12, suitesExt1},
	"TLS-1-2-Ext-2018-06":    {tls.VersionTLS12, tls.VersionTLS12, suitesExt2},
	"FS-2018-06":             {tls.VersionTLS10, tls.VersionTLS12, suitesFS},
	"FS-1-1-2019-08":         {tls.VersionTLS11, tls.VersionTLS12, suitesFS},
	"FS-1-2-2019-08":         {tls.VersionTLS12, tls.VersionTLS12, suitesFS},
	"FS-1-2-Res-2019-08":     {tls.VersionTLS12, tls.VersionTLS12, suitesStrong},
	"FS-1-2-Res-2020-10":     {tls.VersionTLS12, tls.VersionTLS12, suitesGCM},
}

// LookupPolicy finds a security policy. The PQ and FIPS variants have the versions and suites of their base; only the PQ ones
// agree on hybrid keys, and the FIPS ones on no X25519.
func LookupPolicy(name string) (Policy, bool) {
	if name == "" {
		name = DefaultPolicy
	}
	s, ok := strings.CutPrefix(name, policyPrefix)
	if !ok {
		return Policy{}, false
	}
	curves, variant := curvesECC, false
	for _, v := range []struct {
		suffix string
		curves []tls.CurveID
	}{
		{"-FIPS-PQ-2025-09", slices.Concat(curvesHybrid, curvesFIPS)},
		{"-PQ-2025-09", slices.Concat(curvesHybrid, curvesECC)},
		{"-FIPS-2023-04", curvesFIPS},
	} {
		if base, ok := strings.CutSuffix(s, v.suffix); ok && strings.HasPrefix(s, "TLS13-") {
			s, curves, variant = base+"-2021-06", v.curves, true
			break
		}
	}
	p, ok := policies[s]
	if strings.Contains(s, "-Ext0-") && !variant {
		ok = false
	}
	return Policy{p.min, p.max, p.suites, curves}, ok
}

// SuiteName returns the name of a suite that logs and headers carry: TLS 1.3's own, OpenSSL's of the older ones.
func SuiteName(id uint16) string {
	n := tls.CipherSuiteName(id)
	rest, ok := strings.CutPrefix(n, "TLS_")
	if !ok || !strings.Contains(n, "_WITH_") {
		return n
	}
	rest = strings.Replace(rest, "_WITH_", "_", 1)
	rest = strings.Replace(strings.TrimPrefix(rest, "RSA_"), "_CBC", "", 1)
	rest = strings.Replace(rest, "3DES_EDE", "DES-CBC3", 1)
	rest = strings.NewReplacer("AES_128", "AES128", "AES_256", "AES256").Replace(rest)
	rest = strings.ReplaceAll(rest, "_", "-")
	return strings.Replace(rest, "-POLY1305-SHA256", "-POLY1305", 1)
}

// VersionName returns OpenSSL's name of a version, as logs and headers carry it.
func VersionName(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "TLSv1.3"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS10:
		return "TLSv1"
	}
	return ""
}

// GroupName returns OpenSSL's name of a key exchange's group; empty for none.
func GroupName(c tls.CurveID) string {
	switch c {
	case tls.X25519:
		return "x25519"
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	case tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024:
		return c.String()
	}
	return ""
}
