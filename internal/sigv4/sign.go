package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Sign signs a request for a service, in its Authorization header: the host, the content type and every x-amz-* header. A
// session token goes into X-Amz-Security-Token before. The body is the whole body.
func Sign(r *http.Request, body []byte, accessKeyID, secret, region, service string, now time.Time) error {
	now = now.UTC()
	r.Header.Del("Authorization")
	r.Header.Set("X-Amz-Date", now.Format(timeLayout))
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	s := Signature{AccessKeyID: accessKeyID, Date: now.Format("20060102"), Region: region, Service: service, Time: now, SignedHeaders: []string{"host"}}
	for name := range r.Header {
		if low := strings.ToLower(name); low == "content-type" || strings.HasPrefix(low, "x-amz-") {
			s.SignedHeaders = append(s.SignedHeaders, low)
		}
	}
	slices.Sort(s.SignedHeaders)
	hash := sha256.Sum256(body)
	sum, err := s.sum(r, hex.EncodeToString(hash[:]), secret)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", Algorithm+" Credential="+accessKeyID+"/"+s.scope()+", SignedHeaders="+strings.Join(s.SignedHeaders, ";")+", Signature="+hex.EncodeToString(sum))
	return nil
}
