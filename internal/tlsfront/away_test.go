package tlsfront

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// elsewhere is an Away that counts.
type elsewhere struct{ jobs atomic.Int64 }

func (e *elsewhere) Away(_ Socket, job func()) {
	e.jobs.Add(1)
	go job()
}

// TestAway: a long key is used elsewhere in every kind of full handshake, and in no other.
func TestAway(t *testing.T) {
	t.Parallel()
	long, short := issue(t, nil, rsaKey(t, slowBits), nil).config("long"), issue(t, nil, rsaKey(t, 2048), nil).config("short")
	x := []tls.CurveID{tls.X25519}
	for name, c := range map[string]struct {
		cert Certificate
		cfg  *tls.Config
		uses int64
	}{
		"quick":               {long, &tls.Config{CurvePreferences: x}, 1},
		"TLS 1.3, two hellos": {long, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, 1},
		"TLS 1.2":             {long, &tls.Config{MaxVersion: tls.VersionTLS12}, 1},
		"TLS 1.2, RSA":        {long, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, 1},
		"TLS 1.0":             {long, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, 1},
		"short key":           {short, &tls.Config{CurvePreferences: x}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &elsewhere{}
			s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-0-2021-06", Certificates: []Certificate{c.cert}, TicketSecret: []byte("k")})
			addr, out := echoWith(t, s, true, e)
			cfg := c.cfg
			cfg.InsecureSkipVerify, cfg.ServerName, cfg.ClientSessionCache = true, "a.test", tls.NewLRUClientSessionCache(4)
			for i := range 3 {
				conn, err := tls.Dial("tcp", addr, cfg)
				if err != nil {
					t.Fatal(err)
				}
				talk(t, conn, "one", strings.Repeat("x", 20000))
				if got := conn.ConnectionState().DidResume; got != (i > 0) {
					t.Errorf("connection %d resumed: %v", i, got)
				}
				conn.Close()
				if o := <-out; o.err != nil {
					t.Fatal(o.err)
				}
			}
			if n := e.jobs.Load(); n != c.uses {
				t.Errorf("the key was used elsewhere %d times, want %d", n, c.uses)
			}
		})
	}
}

// held is an Away that runs nothing until it is told to.
type held struct{ jobs []func() }

func (e *held) Away(_ Socket, job func()) { e.jobs = append(e.jobs, job) }

// TestAwayAborted: a handshake that ends while its key is in use elsewhere is over at once, and so is the work that has not begun.
func TestAwayAborted(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Certificates: []Certificate{issue(t, nil, rsaKey(t, slowBits), nil).config("long")}})
	for name, cfg := range map[string]*tls.Config{
		"quick":      {CurvePreferences: []tls.CurveID{tls.X25519}, ServerName: "a.test"},
		"crypto/tls": {MaxVersion: tls.VersionTLS12, ServerName: "a.test"},
	} {
		before := inFlight.Load()
		e := &held{}
		sock := &script{in: firstWords(t, cfg), piece: 4096}
		h := s.Begin(sock, time.Now())
		h.Away = e
		for range 10 { // it does not read what follows, an end here, before it has its signature
			if h.Step() {
				t.Fatalf("%s: over without a signature: %v", name, h.err)
			}
		}
		if len(e.jobs) != 1 {
			t.Fatalf("%s: %d jobs", name, len(e.jobs))
		}
		h.Abort()
		if _, err := h.Result(); err == nil || errors.Is(err, io.EOF) || !h.Step() {
			t.Errorf("%s: %v", name, err)
		}
		began := time.Now()
		e.jobs[0]()
		if took := time.Since(began); took > time.Millisecond {
			t.Logf("%s: the work took %v although nobody waits", name, took)
		}
		if n := inFlight.Load(); n > before+8 { // other tests run
			t.Errorf("%s: %d handshakes in flight", name, n)
		}
	}
}
