package elbapi

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"skerry/api"
	"skerry/internal/balance"
	"skerry/internal/store"
)

// ContentPath is where Contents are served.
const ContentPath = "/trust-store-content"

// locationLife is how long a location leads to its content, as AWS's presigned ones do.
const locationLife = 10 * time.Minute

func revocationMarker(id int64) string { return fmt.Sprintf("%020d", id) }

// Contents serves what trust stores hold, to whoever has a location that the API gave: those are signed and end soon. A
// location is worth nothing after the control plane has started anew. Safe for concurrent use.
type Contents struct {
	db    *store.DB
	clock func() time.Time
	key   [32]byte
}

// NewContents returns the contents of a cloud's trust stores. A nil clock is the real one.
func NewContents(db *store.DB, clock func() time.Time) *Contents {
	if clock == nil {
		clock = time.Now
	}
	c := &Contents{db: db, clock: clock}
	rand.Read(c.key[:])
	return c
}

func (s *Contents) sign(arn, id, expires string) string {
	m := hmac.New(sha256.New, s.key[:])
	fmt.Fprintf(m, "%s\n%s\n%s", arn, id, expires)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// location is a URL of a trust store's bundle (id 0) or of one of its revocation lists.
func (s *Contents) location(c *api.Call, arn string, id int64) string {
	q := url.Values{"TrustStore": {arn}, "Revocation": {strconv.FormatInt(id, 10)}, "Expires": {strconv.FormatInt(s.clock().Add(locationLife).Unix(), 10)}}
	q.Set("Signature", s.sign(arn, q.Get("Revocation"), q.Get("Expires")))
	return c.Endpoint + ContentPath + "?" + q.Encode()
}

// ServeHTTP answers with the content.
func (s *Contents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	arn, id, expires := q.Get("TrustStore"), q.Get("Revocation"), q.Get("Expires")
	until, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || !hmac.Equal([]byte(s.sign(arn, id, expires)), []byte(q.Get("Signature"))) || s.clock().Unix() > until {
		http.Error(w, "The location is not valid, or not any more.", http.StatusForbidden)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "The method is not allowed.", http.StatusMethodNotAllowed)
		return
	}
	tx, sc := s.db.Read(), balance.ScopeOf(arn)
	var content []byte
	if id == "0" {
		t, ok := balance.TrustStores.Get(tx, sc.Key(arn))
		content, err = []byte(t.Bundle), notThere(ok)
	} else {
		n, _ := strconv.ParseInt(id, 10, 64)
		v, gone := balance.GetRevocation(tx, sc, arn, n)
		content, err = v.Content, gone
	}
	if err != nil {
		http.Error(w, "There is no such content.", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "binary/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content)
}

func notThere(ok bool) error {
	if ok {
		return nil
	}
	return http.ErrMissingFile
}
