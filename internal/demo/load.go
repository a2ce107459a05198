package demo

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the load generator.
const (
	maxRate        = 400 // requests a second
	maxInFlight    = 64
	requestTimeout = 5 * time.Second
	maxAnswer      = 4 << 10
	maxReasons     = 20 // of failures that are told apart
)

// paths are asked in turn; the first costs the web server CPU time.
var paths = []string{"/cgi-bin/work", "/cgi-bin/work", "/cgi-bin/work", "/api/", "/images/", "/admin/"}

// load sends requests at a rate that can be changed while it runs. Safe for concurrent use.
type load struct {
	client *http.Client
	url    string
	rate   atomic.Int64
	sent   atomic.Int64
	failed atomic.Int64

	mu       sync.Mutex
	recent   []time.Duration  // answer times since the last call of latency; bounded
	failures map[string]int   // by reason; bounded
	zones    map[string]int64 // answers by the zone of the instance that gave them
}

func newLoad(dns string, roots *x509.CertPool) *load {
	return &load{url: "https://" + dns, zones: map[string]int64{}, failures: map[string]int{}, client: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: hostName},
		MaxIdleConnsPerHost: maxInFlight, MaxConnsPerHost: maxInFlight, IdleConnTimeout: 2 * time.Second,
	}}}
}

// run sends until ctx ends. A request that finds maxInFlight others under way is sent when one of them ends.
func (l *load) run(ctx context.Context) {
	slots := make(chan struct{}, maxInFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := 0; ; n++ {
		rate := l.rate.Load()
		if rate <= 0 {
			rate = 1
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second / time.Duration(rate)):
		}
		if l.rate.Load() <= 0 {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Add(1)
		go func() { // bounded by slots and requestTimeout
			defer wg.Done()
			l.once(paths[n%len(paths)])
			<-slots
		}()
	}
}

func (l *load) once(path string) {
	start := time.Now()
	l.sent.Add(1)
	fail := func(why string) {
		l.failed.Add(1)
		l.mu.Lock()
		if len(l.failures) < maxReasons || l.failures[why] > 0 {
			l.failures[why]++
		}
		l.mu.Unlock()
	}
	res, err := l.client.Get(l.url + path)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // without the address, which differs from request to request
			err = u.Err
		}
		fail(err.Error())
		return
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	res.Body.Close()
	if err != nil {
		fail(err.Error())
		return
	}
	if res.StatusCode != http.StatusOK {
		fail(res.Status)
		return
	}
	took := time.Since(start)
	l.mu.Lock()
	if len(l.recent) < 4096 {
		l.recent = append(l.recent, took)
	}
	if f := strings.Fields(string(body)); len(f) >= 3 {
		l.zones[f[2]]++
	}
	l.mu.Unlock()
}

// median returns the median answer time since the last call, and zero when there was no answer.
func (l *load) median() time.Duration {
	l.mu.Lock()
	r := l.recent
	l.recent = nil
	l.mu.Unlock()
	if len(r) == 0 {
		return 0
	}
	slices.Sort(r)
	return r[len(r)/2]
}

// answers returns how many answers came from each zone so far.
func (l *load) answers() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[string]int64{}
	for z, n := range l.zones {
		m[z] = n
	}
	return m
}

// why lists the reasons of failures, the most frequent first.
func (l *load) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, r := range slices.SortedFunc(maps.Keys(l.failures), func(a, b string) int { return cmp.Or(l.failures[b]-l.failures[a], strings.Compare(a, b)) }) {
		all = append(all, fmt.Sprintf("%d × %s", l.failures[r], r))
	}
	return strings.Join(all, "; ")
}
