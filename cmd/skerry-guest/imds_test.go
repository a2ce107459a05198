package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The service's process ends and comes up again while an instance boots: nothing is lost.
func TestMetadataIsAskedForAgain(t *testing.T) {
	t.Parallel()
	var asked, session atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			session.Add(1)
			w.Write([]byte("token"))
			return
		}
		if strings.HasSuffix(r.URL.Path, "/off") {
			w.WriteHeader(403)
			return
		}
		switch n := asked.Add(1); {
		case n < 10:
			w.WriteHeader(503)
		case n == 10:
			w.WriteHeader(401) // the session was another process's
		case n < 15:
			panic(http.ErrAbortHandler)
		case strings.HasSuffix(r.URL.Path, "/none"):
			w.WriteHeader(404)
		default:
			w.Write([]byte("value of " + r.Header.Get("X-aws-ec2-metadata-token")))
		}
	}))
	defer srv.Close()
	m := newIMDS(srv.URL)
	if b, err := m.get(context.Background(), "meta-data/x"); err != nil || string(b) != "value of token" || session.Load() != 1 {
		t.Errorf("%q %v, %d sessions", b, err, session.Load())
	}
	if _, err := m.get(context.Background(), "meta-data/none"); !errors.Is(err, errNoItem) {
		t.Errorf("an absent item: %v", err)
	}
	if _, err := m.get(context.Background(), "meta-data/off"); !errors.Is(err, errTurnedOff) {
		t.Errorf("a service that is turned off: %v", err)
	}
	asked.Store(-1 << 20)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err := m.get(ctx, "meta-data/x"); err == nil {
		t.Error("the shutdown does not end it")
	}
}
