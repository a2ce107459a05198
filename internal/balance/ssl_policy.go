package balance

import "slices"

// DefaultSSLPolicy is what a listener made through the API has unless it names another.
const DefaultSSLPolicy = "ELBSecurityPolicy-2016-08"

// SSLPolicy is a security policy: the protocols and ciphers (OpenSSL's names) of a listener.
type SSLPolicy struct {
	Name      string
	Protocols []string
	Ciphers   []string
}

var (
	tls13Ciphers = []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
	fips13       = tls13Ciphers[:2]
	gcm          = []string{"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"}
	cbcSHA2      = []string{"ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA384"}
	rsaKX        = []string{"AES128-GCM-SHA256", "AES128-SHA256", "AES256-GCM-SHA384", "AES256-SHA256"}
	cbcSHA1      = []string{"ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-ECDSA-AES256-SHA"}
	rsaSHA1      = []string{"AES128-SHA", "AES256-SHA"}
	strong       = slices.Concat(gcm, cbcSHA2)
	legacy       = slices.Concat(gcm, cbcSHA2, cbcSHA1, rsaKX, rsaSHA1)
)

// SSLPolicies in the order that they are described.
var SSLPolicies = []SSLPolicy{
	{"ELBSecurityPolicy-TLS13-1-3-2021-06", []string{"TLSv1.3"}, tls13Ciphers},
	{"ELBSecurityPolicy-TLS13-1-2-Res-2021-06", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, gcm)},
	{"ELBSecurityPolicy-TLS13-1-2-2021-06", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, strong)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, strong, rsaKX)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, legacy)},
	{"ELBSecurityPolicy-TLS13-1-1-2021-06", []string{"TLSv1.1", "TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, legacy)},
	{"ELBSecurityPolicy-TLS13-1-0-2021-06", []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, legacy)},
	{"ELBSecurityPolicy-2016-08", []string{"TLSv1", "TLSv1.1", "TLSv1.2"}, legacy},
	{"ELBSecurityPolicy-TLS-1-1-2017-01", []string{"TLSv1.1", "TLSv1.2"}, legacy},
	{"ELBSecurityPolicy-TLS-1-2-2017-01", []string{"TLSv1.2"}, slices.Concat(strong, rsaKX)},
	{"ELBSecurityPolicy-TLS-1-2-Ext-2018-06", []string{"TLSv1.2"}, legacy},
	{"ELBSecurityPolicy-FS-2018-06", []string{"TLSv1", "TLSv1.1", "TLSv1.2"}, slices.Concat(strong, cbcSHA1)},
	{"ELBSecurityPolicy-FS-1-1-2019-08", []string{"TLSv1.1", "TLSv1.2"}, slices.Concat(strong, cbcSHA1)},
	{"ELBSecurityPolicy-FS-1-2-2019-08", []string{"TLSv1.2"}, slices.Concat(strong, cbcSHA1)},
	{"ELBSecurityPolicy-FS-1-2-Res-2019-08", []string{"TLSv1.2"}, strong},
	{"ELBSecurityPolicy-FS-1-2-Res-2020-10", []string{"TLSv1.2"}, gcm},
	{"ELBSecurityPolicy-2015-05", []string{"TLSv1", "TLSv1.1", "TLSv1.2"}, legacy},
	{"ELBSecurityPolicy-TLS-1-0-2015-04", []string{"TLSv1", "TLSv1.1", "TLSv1.2"}, slices.Concat(legacy, []string{"DES-CBC3-SHA"})},

	// With key exchange by approved curves and suites only.
	{"ELBSecurityPolicy-TLS13-1-3-FIPS-2023-04", []string{"TLSv1.3"}, fips13},
	{"ELBSecurityPolicy-TLS13-1-2-Res-FIPS-2023-04", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, gcm)},
	{"ELBSecurityPolicy-TLS13-1-2-FIPS-2023-04", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, strong)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext0-FIPS-2023-04", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, strong, cbcSHA1)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext1-FIPS-2023-04", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, strong, rsaKX)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext2-FIPS-2023-04", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, legacy)},
	{"ELBSecurityPolicy-TLS13-1-1-FIPS-2023-04", []string{"TLSv1.1", "TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, legacy)},
	{"ELBSecurityPolicy-TLS13-1-0-FIPS-2023-04", []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, legacy)},

	// With hybrid post-quantum key exchange.
	{"ELBSecurityPolicy-TLS13-1-3-PQ-2025-09", []string{"TLSv1.3"}, tls13Ciphers},
	{"ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, gcm)},
	{"ELBSecurityPolicy-TLS13-1-2-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, strong)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext1-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, strong, rsaKX)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext2-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, legacy)},
	{"ELBSecurityPolicy-TLS13-1-0-PQ-2025-09", []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}, slices.Concat(tls13Ciphers, legacy)},
	{"ELBSecurityPolicy-TLS13-1-3-FIPS-PQ-2025-09", []string{"TLSv1.3"}, fips13},
	{"ELBSecurityPolicy-TLS13-1-2-Res-FIPS-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, gcm)},
	{"ELBSecurityPolicy-TLS13-1-2-FIPS-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, strong)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext0-FIPS-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, strong, cbcSHA1)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext1-FIPS-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, strong, rsaKX)},
	{"ELBSecurityPolicy-TLS13-1-2-Ext2-FIPS-PQ-2025-09", []string{"TLSv1.2", "TLSv1.3"}, slices.Concat(fips13, legacy)},
}

// KnownSSLPolicy tells whether a policy exists.
func KnownSSLPolicy(name string) bool {
	return slices.ContainsFunc(SSLPolicies, func(p SSLPolicy) bool { return p.Name == name })
}
