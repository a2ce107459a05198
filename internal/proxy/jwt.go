package proxy

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxKeys      = 10               // of a key set
	maxClaims    = 10               // additional ones of a jwt-validation action
	keysFresh    = 10 * time.Minute // a key set is fetched again after it
	keysAgain    = 15 * time.Second // and no sooner than this, whoever asks for an unknown key
	clockLeeway  = 30 * time.Second // for times of issue
	dataLifetime = 2 * time.Minute  // of x-amzn-oidc-data
)

// tokenError is a token that doesn't stand.
type tokenError struct {
	code string // for the access log
	why  string
}

func (e *tokenError) Error() string { return "token: " + e.why }

func badFormat(why string) error { return &tokenError{"JWTRequestFormatInvalid", why} }
func badValue(why string) error  { return &tokenError{"JWTClaimValueInvalid", why} }

// token is a JSON Web Token taken apart.
type token struct {
	alg, kid  string
	signed    []byte // what the signature is over
	signature []byte
	claims    map[string]json.RawMessage
}

func parseToken(s string) (*token, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return nil, badFormat("not three parts")
	}
	dec := func(s string) []byte {
		b, _ := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
		return b
	}
	var head struct {
		Alg  string   `json:"alg"`
		Kid  string   `json:"kid"`
		Crit []string `json:"crit"`
	}
	if json.Unmarshal(dec(parts[0]), &head) != nil || len(head.Crit) > 0 {
		return nil, badFormat("malformed header")
	}
	t := &token{alg: head.Alg, kid: head.Kid, signed: []byte(parts[0] + "." + parts[1]), signature: dec(parts[2])}
	if json.Unmarshal(dec(parts[1]), &t.claims) != nil || t.claims == nil {
		return nil, badFormat("malformed claims")
	}
	return t, nil
}

// text returns a claim that is a string.
func (t *token) text(name string) string {
	var s string
	json.Unmarshal(t.claims[name], &s)
	return s
}

// list returns a claim that is a string or a list of strings.
func (t *token) list(name string) []string {
	var l []string
	if json.Unmarshal(t.claims[name], &l) != nil {
		if s := t.text(name); s != "" {
			return []string{s}
		}
	}
	return l
}

// time returns a claim that is a time; ok is false if it is absent or none.
func (t *token) time(name string) (at time.Time, ok bool) {
	var f float64
	raw := t.claims[name]
	if len(raw) == 0 || json.Unmarshal(raw, &f) != nil || f < 0 || f > 1e12 || bytes.Equal(raw, []byte("null")) {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// current checks the claims that every token must or may have: issuer, expiry, and the times of issue.
func (t *token) current(issuer string, now time.Time) error {
	for _, name := range [...]string{"iss", "exp"} {
		if len(t.claims[name]) == 0 {
			return &tokenError{"JWTClaimNotPresent", "no " + name}
		}
	}
	for _, name := range [...]string{"exp", "nbf", "iat"} {
		at, ok := t.time(name)
		switch {
		case !ok && len(t.claims[name]) > 0:
			return &tokenError{"JWTClaimFormatInvalid", "a malformed " + name}
		case !ok:
		case name == "exp" && !now.Before(at):
			return badValue("expired")
		case name != "exp" && at.After(now.Add(clockLeeway)):
			return badValue("not valid yet by its " + name)
		}
	}
	if t.text("iss") != issuer {
		return badValue("another issuer")
	}
	return nil
}

// verify checks the signature: RS256 or ES256.
func (t *token) verify(key crypto.PublicKey) bool {
	sum := sha256.Sum256(t.signed)
	switch k := key.(type) {
	case *rsa.PublicKey:
		return t.alg == "RS256" && rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], t.signature) == nil
	case *ecdsa.PublicKey:
		if t.alg != "ES256" || len(t.signature) != 64 {
			return false
		}
		return ecdsa.Verify(k, sum[:], new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:]))
	}
	return false
}

// keySet is a provider's keys, fetched when they are needed and kept while the provider can't be reached.
type keySet struct {
	fetching sync.Mutex

	mu      sync.Mutex // guards what follows; not held while fetching
	keys    map[string]crypto.PublicKey
	fetched time.Time
	tried   time.Time
	err     error // of the latest try
}

// find returns the keys that a token may be signed with, the one that it names or all, and whether to fetch them (again).
func (k *keySet) find(kid string, now time.Time) (found []crypto.PublicKey, fetch bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kid == "" {
		for _, key := range k.keys {
			found = append(found, key)
		}
	} else if key := k.keys[kid]; key != nil {
		found = append(found, key)
	}
	if k.keys == nil {
		err = k.err
	}
	return found, (len(found) == 0 || now.Sub(k.fetched) > keysFresh) && now.Sub(k.tried) > keysAgain, err
}

// candidates returns the keys for a token. The error says that the provider has none to offer now.
func (p *idp) candidates(ctx context.Context, endpoint, kid string, now time.Time) ([]crypto.PublicKey, error) {
	p.mu.Lock()
	k := p.keys[endpoint]
	if k == nil {
		k = &keySet{}
		p.keys[endpoint] = k
	}
	p.mu.Unlock()
	found, fetch, err := k.find(kid, now)
	if !fetch {
		return found, err
	}
	if len(found) > 0 { // old ones do while somebody else fetches
		if !k.fetching.TryLock() {
			return found, nil
		}
	} else {
		k.fetching.Lock()
	}
	defer k.fetching.Unlock()
	if found, fetch, err = k.find(kid, now); !fetch {
		return found, err
	}
	b, err := p.get(ctx, endpoint, "", maxJWKS)
	var keys map[string]crypto.PublicKey
	if err == nil {
		keys, err = parseKeySet(b)
	}
	k.mu.Lock()
	k.tried, k.err = now, err
	if err == nil {
		k.keys, k.fetched = keys, now
	}
	k.mu.Unlock()
	found, _, err = k.find(kid, now)
	return found, err
}

// keep forgets the key sets of other endpoints.
func (p *idp) keep(endpoints map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := range p.keys {
		if !endpoints[e] {
			delete(p.keys, e)
		}
	}
}

// parseKeySet reads a JSON Web Key Set. Keys of kinds that can't sign here are passed over.
func parseKeySet(b []byte) (map[string]crypto.PublicKey, error) {
	var set struct {
		Keys []struct{ Kty, Use, Kid, Crv, N, E, X, Y string } `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if len(set.Keys) == 0 || len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set: %d keys; there may be 1 to %d", len(set.Keys), maxKeys)
	}
	num := func(s string) *big.Int {
		b, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
		return new(big.Int).SetBytes(b)
	}
	out := map[string]crypto.PublicKey{}
	for i, k := range set.Keys {
		if k.Use != "" && k.Use != "sig" {
			continue
		}
		id := k.Kid
		if id == "" {
			id = fmt.Sprintf("\x00%d", i)
		}
		switch n, e := num(k.N), num(k.E); {
		case k.Kty == "RSA" && n.BitLen() >= 2048 && n.BitLen() <= 8192 && e.IsInt64() && e.Int64() > 1 && e.Int64() < 1<<31:
			out[id] = &rsa.PublicKey{N: n, E: int(e.Int64())}
		case k.Kty == "EC" && k.Crv == "P-256":
			raw := make([]byte, 65)
			raw[0] = 4
			x, y := num(k.X), num(k.Y)
			if x.BitLen() > 256 || y.BitLen() > 256 {
				continue
			}
			x.FillBytes(raw[1:33])
			y.FillBytes(raw[33:])
			if pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw); err == nil {
				out[id] = pub
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("key set: no RSA or P-256 key for signatures")
	}
	return out, nil
}

func compileJWT(c *JWT) (*JWT, error) {
	switch {
	case c == nil:
		return nil, fmt.Errorf("a %s action needs its settings", JWTValidation)
	case c.Issuer == "" || len(c.Issuer) > 256:
		return nil, fmt.Errorf("%s: issuer %q", JWTValidation, c.Issuer)
	case len(c.Claims) > maxClaims:
		return nil, fmt.Errorf("%s: more than %d additional claims", JWTValidation, maxClaims)
	}
	for _, x := range c.Claims {
		if x.Name == "" || len(x.Values) == 0 || len(x.Values) > maxClaims || x.Format == ClaimString && len(x.Values) > 1 ||
			!slices.Contains([]string{ClaimString, ClaimStringArray, ClaimSpaces}, x.Format) {
			return nil, fmt.Errorf("%s: additional claim %+v", JWTValidation, x)
		}
	}
	if err := httpsURL("jwks endpoint", c.JWKSEndpoint); err != nil {
		return nil, err
	}
	out := *c
	return &out, nil
}

// validate checks the bearer token of a request. The status is 0, 401, or 500 if the provider's keys can't be had.
func (p *idp) validate(ctx context.Context, c *JWT, r *request, now time.Time) (status int, err error) {
	var bearer string
	found := false
	for i := range r.fields {
		f := &r.fields[i]
		if f.id == fOther && equalFold(f.name, "authorization") {
			if found {
				return 401, badFormat("two Authorization headers")
			}
			found = true
			if len(f.value) > 7 && equalFold(f.value[:7], "bearer ") {
				bearer = string(trim(f.value[7:]))
			}
		}
	}
	if !found {
		return 401, &tokenError{"JWTHeaderNotPresent", "no Authorization header"}
	}
	t, err := parseToken(bearer)
	if err != nil {
		return 401, err
	}
	if err := t.current(c.Issuer, now); err != nil {
		return 401, err
	}
	keys, err := p.candidates(ctx, c.JWKSEndpoint, t.kid, now)
	if err != nil {
		return 500, err
	}
	if !slices.ContainsFunc(keys, t.verify) {
		return 401, &tokenError{"JWTSignatureValidationError", "no key of the provider has signed it"}
	}
	for _, x := range c.Claims {
		if len(t.claims[x.Name]) == 0 {
			return 401, &tokenError{"JWTClaimNotPresent", "no " + x.Name}
		}
		var have []string
		switch x.Format {
		case ClaimString:
			have = []string{t.text(x.Name)}
		case ClaimStringArray:
			have = t.list(x.Name)
		case ClaimSpaces:
			have = strings.Fields(t.text(x.Name))
		}
		for _, v := range x.Values {
			if !slices.Contains(have, v) {
				return 401, badValue("claim " + x.Name)
			}
		}
	}
	return 0, nil
}

// validate handles a jwt-validation action. It returns true if the request goes on.
func (x *exchange) validate(c *JWT, now time.Time) bool {
	status, err := x.p.idp.validate(x.p.ctx, c, x.req, now)
	if err == nil {
		x.p.counters.inc(cJWTSuccess)
	} else {
		x.p.counters.inc(cJWTFailure)
		x.entry.reason = "JWKSRequestTimeout"
		if te, ok := errors.AsType[*tokenError](err); ok {
			x.entry.reason = te.code
		}
		x.p.opt.Log.Debug("token validation", "listener", x.lt.addr, "status", status, "err", err)
		x.fail(status)
	}
	return err == nil
}

// signer signs what the load balancer says about users. All nodes of a load balancer derive the same key from its secret.
type signer struct {
	key *ecdsa.PrivateKey
	kid string
	pem []byte
}

func newSigner(secret []byte) (*signer, error) {
	for n := range 16 { // a candidate is out of range once in 2^32
		b, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("skerry oidc data key %d", n), 32)
		if err != nil {
			return nil, err
		}
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b)
		if err != nil {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return nil, err
		}
		s := sha256.Sum256(der)
		return &signer{key: key, kid: fmt.Sprintf("%x-%x-%x-%x-%x", s[:4], s[4:6], s[6:8], s[8:10], s[10:16]),
			pem: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}, nil
	}
	return nil, errors.New("no signing key")
}

// sign makes an ES256 token with padded base64url, as the service does.
func (s *signer) sign(head, claims any) (string, error) {
	h, err := json.Marshal(head)
	if err != nil {
		return "", err
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.URLEncoding.EncodeToString(h) + "." + base64.URLEncoding.EncodeToString(c)
	sum := sha256.Sum256([]byte(text))
	a, b, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", err
	}
	var sig [64]byte
	a.FillBytes(sig[:32])
	b.FillBytes(sig[32:])
	return text + "." + base64.URLEncoding.EncodeToString(sig[:]), nil
}
