package tlsfront

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"skerry/internal/record"
)

// script is a Socket that gives what is prepared, in pieces, and keeps what is written.
type script struct {
	in, out []byte
	piece   int
	waited  bool
}

func (s *script) Read(b []byte) (int, error) {
	if s.waited = !s.waited; s.waited {
		return 0, ErrWait
	}
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.in[:min(len(s.in), max(1, s.piece))])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error) {
	s.out = append(s.out, b...)
	return len(b), nil
}

// play gives a Server what a client says first.
func play(s *Server, in []byte, piece int) (out []byte, f *Facts, err error) {
	sock := &script{in: in, piece: piece}
	h := s.Begin(sock, time.Now())
	for !h.Step() {
	}
	_, err = h.Result()
	return sock.out, h.Facts, err
}

// firstWords records a client's first flight.
func firstWords(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	go tls.Client(a, cfg).Handshake()
	buf := make([]byte, 8192)
	n, err := b.Read(buf)
	b.Close()
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func quickly(s *Server, in []byte) bool {
	w := &wire{sock: &script{in: in, piece: len(in)}, buf: new([wireBuffer]byte)}
	rec, err := w.peek()
	if err == ErrWait {
		rec, _ = w.peek()
	}
	return rec != nil && s.quickly(rec, &Facts{}) != nil
}

func TestQuickOrNot(t *testing.T) {
	t.Parallel()
	x, p := []tls.CurveID{tls.X25519}, []tls.CurveID{tls.CurveP256}
	tls13 := Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Protocols: []string{"h2"}, TicketSecret: []byte("k")}
	with := func(fn func(*Config)) Config {
		c := tls13
		fn(&c)
		return c
	}
	for _, c := range []struct {
		name   string
		server Config
		client *tls.Config
		want   bool
	}{
		{"usual", tls13, &tls.Config{CurvePreferences: x, ServerName: "a.test"}, true},
		{"P-256", tls13, &tls.Config{CurvePreferences: p, ServerName: "a.test"}, true},
		{"Go's default, with hybrid keys", tls13, &tls.Config{ServerName: "a.test"}, true},
		{"no server name", tls13, &tls.Config{InsecureSkipVerify: true}, true},
		{"P-384 needs another hello", tls13, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}, ServerName: "a.test"}, false},
		{"TLS 1.2", tls13, &tls.Config{MaxVersion: tls.VersionTLS12, ServerName: "a.test"}, false},
		{"no common protocol", tls13, &tls.Config{NextProtos: []string{"x"}, ServerName: "a.test"}, false},
		{"no common protocol, which is let pass", with(func(c *Config) { c.Mismatch = true }), &tls.Config{NextProtos: []string{"x"}, ServerName: "a.test"}, true},
		{"hybrid keys wanted by both", with(func(c *Config) { c.Policy = "ELBSecurityPolicy-TLS13-1-2-PQ-2025-09" }), &tls.Config{ServerName: "a.test"}, false},
		{"hybrid keys not known to the client", with(func(c *Config) { c.Policy = "ELBSecurityPolicy-TLS13-1-2-PQ-2025-09" }), &tls.Config{CurvePreferences: x, ServerName: "a.test"}, true},
		{"FIPS has no X25519", with(func(c *Config) { c.Policy = "ELBSecurityPolicy-TLS13-1-2-FIPS-2023-04" }), &tls.Config{CurvePreferences: x, ServerName: "a.test"}, false},
		{"old policy", with(func(c *Config) { c.Policy = "" }), &tls.Config{ServerName: "a.test"}, false},
		{"mutual TLS", with(func(c *Config) { c.Mutual.Mode = Passthrough }), &tls.Config{ServerName: "a.test"}, false},
	} {
		s := newServer(t, c.server)
		in := firstWords(t, c.client)
		if s.quick && quickly(s, in) != c.want || !s.quick && c.want {
			t.Errorf("%s: quick: %v", c.name, !c.want)
		}
	}
}

// TestQuickIsTheSame: both ways of doing a handshake lead to the same, first and resumed, with every key of a certificate.
func TestQuickIsTheSame(t *testing.T) {
	t.Parallel()
	certs := map[string]Certificate{"ec": named(t, "a.test").config("ec"), "rsa": issue(t, nil, rsaKey(t, 2048), nil).config("rsa")}
	for name, cert := range certs {
		for _, curve := range []tls.CurveID{tls.X25519, tls.CurveP256} {
			var facts [2][]Facts
			for i, quick := range []bool{true, false} {
				s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Certificates: []Certificate{cert}, Protocols: []string{"h2", "http/1.1"}, TicketSecret: []byte("k")})
				if s.quick = quick; !quick && !newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-3-2021-06"}).quick {
					t.Fatal("never quick")
				}
				addr, out := echo(t, s, true)
				cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", NextProtos: []string{"http/1.1", "x"}, CurvePreferences: []tls.CurveID{curve}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
				for n := range 3 {
					c, err := tls.Dial("tcp", addr, cfg)
					if err != nil {
						t.Fatal(err)
					}
					talk(t, c, "hello")
					if c.ConnectionState().DidResume != (n > 0) {
						t.Errorf("%s: resumption at connection %d: %v", name, n, c.ConnectionState().DidResume)
					}
					c.Close()
					o := <-out
					if o.err != nil {
						t.Fatal(o.err)
					}
					f := *o.facts
					f.Began, f.Took, f.Certificate = time.Time{}, 0, &Chosen{ARN: f.Certificate.ARN}
					facts[i] = append(facts[i], f)
				}
			}
			for n := range facts[0] {
				a, b := facts[0][n], facts[1][n]
				if a.Version != b.Version || a.Suite != b.Suite || a.Group != b.Group || a.Protocol != b.Protocol || a.ServerName != b.ServerName || a.Resumed != b.Resumed ||
					!slices.Equal(a.Offered, b.Offered) || a.Certificate.ARN != b.Certificate.ARN {
					t.Errorf("%s, connection %d:\n%+v\n%+v", name, n, a, b)
				}
			}
		}
	}
}

// tamper changes what a client sends.
type tamper struct {
	net.Conn
	change func(b []byte)
}

func (c tamper) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	c.change(b)
	return c.Conn.Write(b)
}

// TestQuickRefuses: a client that proves nothing gets nothing.
func TestQuickRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-3-2021-06", TicketSecret: []byte("k")})
	addr, out := echo(t, s, false)
	cache := tls.NewLRUClientSessionCache(4)
	cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", ClientSessionCache: cache}
	c, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	talk(t, c, "hello")
	c.Close()
	<-out
	for name, x := range map[string]struct {
		change func(b []byte)
		alert  byte
	}{
		"a wrong binder": {func(b []byte) {
			if len(b) > headerLen && b[headerLen] == clientHelloType {
				b[len(b)-1]++
			}
		}, alertDecrypt},
		"a Finished of which nothing can be read": {func(b []byte) {
			if b[0] == recordData || b[0] == recordCCS {
				b[len(b)-1]++
			}
		}, 20},
		"something else instead": {func(b []byte) {
			if b[0] == recordCCS {
				b[0] = recordHandshake
			}
		}, alertUnexpected},
	} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		client := tls.Client(tamper{nc, x.change}, cfg)
		_, err = client.Read(make([]byte, 1))
		nc.Close()
		op, ok := errors.AsType[*net.OpError](err)
		if !ok || op.Op != "remote error" {
			t.Errorf("%s: the client sees %v", name, err)
		}
		o := <-out
		if e, ok := errors.AsType[*alertError](o.err); !ok || e.alert != x.alert {
			t.Errorf("%s: %v", name, o.err)
		}
	}
}

// TestQuickFinished: what may come instead of a Finished.
func TestQuickFinished(t *testing.T) {
	t.Parallel()
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	want := append([]byte{msgFinished, 0, 0, 32}, key(9)...)
	ccs := []byte{recordCCS, 3, 3, 0, 1, 1}
	for name, c := range map[string]struct {
		make func(client *record.State) []byte
		want error
	}{
		"it":              {func(s *record.State) []byte { return s.SealMessage(nil, want) }, nil},
		"it, after a CCS": {func(s *record.State) []byte { return append(bytes.Clone(ccs), s.SealMessage(nil, want)...) }, nil},
		"two CCS": {func(s *record.State) []byte {
			return append(append(bytes.Clone(ccs), ccs...), s.SealMessage(nil, want)...)
		}, &alertError{alert: alertUnexpected}},
		"another": {func(s *record.State) []byte {
			return s.SealMessage(nil, append([]byte{msgFinished, 0, 0, 32}, key(8)...))
		}, &alertError{alert: alertDecrypt}},
		"a short one":          {func(s *record.State) []byte { return s.SealMessage(nil, want[:20]) }, &alertError{alert: alertDecode}},
		"one with an addendum": {func(s *record.State) []byte { return s.SealMessage(nil, append(bytes.Clone(want), 0)) }, &alertError{alert: alertDecode}},
		"data":                 {func(s *record.State) []byte { return s.Seal(nil, want) }, &alertError{alert: alertUnexpected}},
		"a certificate":        {func(s *record.State) []byte { return s.SealMessage(nil, []byte{msgCertificate, 0, 0, 0}) }, &alertError{alert: alertUnexpected}},
		"an alert":             {func(s *record.State) []byte { return s.Alert(nil, 42) }, nil},
		"an alert in clear":    {func(*record.State) []byte { return []byte{recordAlert, 3, 3, 0, 2, 2, 48} }, nil},
		"a close":              {func(s *record.State) []byte { return s.Alert(nil, record.CloseNotify) }, io.EOF},
		"the end":              {func(*record.State) []byte { return nil }, io.EOF},
		"garbage":              {func(*record.State) []byte { return append([]byte{recordData, 3, 3, 0, 40}, make([]byte, 40)...) }, &alertError{alert: 20}},
		"too much":             {func(*record.State) []byte { return []byte{recordData, 3, 3, 0x50, 0} }, &alertError{alert: alertDecode}},
	} {
		client, err := record.New13(tls.TLS_AES_128_GCM_SHA256, key(1), key(2), 0)
		if err != nil {
			t.Fatal(err)
		}
		own, _ := record.New13(tls.TLS_AES_128_GCM_SHA256, key(2), key(1), 0)
		q := quickHandshake{keys: own, f: &Facts{}, w: &wire{sock: &script{in: c.make(client), piece: 7}, buf: new([wireBuffer]byte)}, want: want}
		for err = ErrWait; err == ErrWait; {
			err = q.readFinished()
		}
		if alert, ok := c.want.(*alertError); ok {
			if got, ok := err.(*alertError); !ok || got.alert != alert.alert {
				t.Errorf("%s: %v", name, err)
			}
		} else if q.f.Alerted != (name == "an alert" || name == "an alert in clear") || !q.f.Alerted && err != c.want || q.f.Alerted && err == nil {
			t.Errorf("%s: %v %+v", name, err, q.f)
		}
	}
}

// FuzzHello: what the quick handshake answers, crypto/tls would have answered in the same way.
func FuzzHello(f *testing.F) {
	c := named(f, "a.test").config("a")
	mk := func(quick bool) *Server {
		s := newServer(f, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06", Certificates: []Certificate{c}, Protocols: []string{"h2", "http/1.1"}, TicketSecret: []byte("k")})
		s.quick = quick
		return s
	}
	quick, slow := mk(true), mk(false)
	for _, cfg := range []*tls.Config{
		{ServerName: "a.test"}, {ServerName: "a.test", CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{"h2", "x"}},
		{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.CurveP256}}, {ServerName: "a.test", MaxVersion: tls.VersionTLS12},
	} {
		f.Add(firstWords(f, cfg), 4096)
	}
	names, _ := filepath.Glob("testdata/hello/*")
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 100)
	}
	f.Fuzz(func(t *testing.T, in []byte, piece int) {
		if len(in) > 20000 {
			return
		}
		piece = max(16, piece)
		out, qf, _ := play(quick, in, piece)
		if len(out) == 0 || out[0] != recordHandshake || len(in) < headerLen || !quickly(quick, in) {
			return // it was crypto/tls that answered, or nobody
		}
		ref, sf, _ := play(slow, in, piece)
		if len(ref) == 0 || ref[0] != recordHandshake {
			t.Fatalf("crypto/tls answers %x", ref)
		}
		choices := func(b []byte) (session []byte, rest []byte) {
			p := parser{b: b[headerLen+4+2+32:]}
			session = p.vec8()
			p.take(3) // crypto/tls looks at suites of TLS 1.2 too, for what the client prefers
			exts := parser{b: p.vec16()}
			var group []byte
			for len(exts.b) > 0 && !exts.bad {
				id, body := exts.u16(), exts.vec16()
				if id == extKeyShare {
					group = body[:2]
				}
			}
			return session, group
		}
		s1, c1 := choices(out)
		s2, c2 := choices(ref)
		if !bytes.Equal(s1, s2) || !bytes.Equal(c1, c2) || qf.ServerName != sf.ServerName || !slices.Equal(qf.Offered, sf.Offered) {
			t.Fatalf("%x %x %q %q, crypto/tls %x %x %q %q", s1, c1, qf.ServerName, qf.Offered, s2, c2, sf.ServerName, sf.Offered)
		}
	})
}

// TestInFlight: handshakes that began are bounded in number; those that wait for a client's first byte hold nothing.
func TestInFlight(t *testing.T) { // not parallel: it fills what all share
	s := newServer(t, Config{Policy: "ELBSecurityPolicy-TLS13-1-2-2021-06"})
	in := firstWords(t, &tls.Config{ServerName: "a.test"})
	silent := s.Begin(&script{}, time.Now())
	if silent.Step() || silent.w.buf != nil || inFlight.Load() != 0 {
		t.Errorf("%d in flight, or a buffer held, for a client that said nothing", inFlight.Load())
	}
	half := s.Begin(&script{in: in, piece: 100}, time.Now())
	for range 3 {
		half.Step()
	}
	if inFlight.Load() != 1 {
		t.Errorf("%d in flight", inFlight.Load())
	}
	inFlight.Add(maxInFlight - 1)
	if _, _, err := play(s, in, 4096); err != ErrBusy {
		t.Errorf("one too many: %v", err)
	}
	inFlight.Add(1 - maxInFlight)
	half.Abort()
	silent.Abort()
	if _, _, err := play(s, in, 4096); err == ErrBusy || err == nil || inFlight.Load() != 0 {
		t.Errorf("%v, %d in flight", err, inFlight.Load())
	}
}

func TestTicketsOfTheQuickHandshake(t *testing.T) {
	t.Parallel()
	k := newTickets([]byte("k"), "lb")
	now := time.Unix(1700000000, 0)
	secret := bytes.Repeat([]byte{7}, 32)
	ticket := k.seal(secret, now)
	for age, want := range map[time.Duration]bool{0: true, time.Hour: true, 23 * time.Hour: true, 25 * time.Hour: false, 72 * time.Hour: false, -time.Hour: true, -49 * time.Hour: false} {
		if got := bytes.Equal(k.open(ticket, now.Add(age)), secret); got != want {
			t.Errorf("after %v: %v", age, got)
		}
	}
	for i := range ticket {
		bad := bytes.Clone(ticket)
		bad[i]++
		if k.open(bad, now) != nil {
			t.Fatalf("byte %d may change", i)
		}
	}
	if newTickets([]byte("k"), "x").open(ticket, now) != nil || k.open(ticket[:10], now) != nil || k.open(nil, now) != nil {
		t.Error("opened what is not its own")
	}
}
