package record

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// careful never lets crypto/tls read past what it asks for, and notes the server's random.
type careful struct {
	net.Conn
	first []byte
}

func (c *careful) Read(p []byte) (int, error) { return c.Conn.Read(p[:1]) }
func (c *careful) Write(p []byte) (int, error) {
	if c.first == nil {
		c.first = bytes.Clone(p)
	}
	return c.Conn.Write(p)
}

// server makes a connection between crypto/tls's client and a State.
func server(t testing.TB, version, suite uint16) (*tls.Conn, net.Conn, *State) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var log bytes.Buffer
	cc := &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CipherSuites: []uint16{suite}}
	sc := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MinVersion: version, MaxVersion: version, CipherSuites: []uint16{suite}, KeyLogWriter: &log, SessionTicketsDisabled: true}
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := tls.Client(nc, cc)
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); raw.Close() })
	w := &careful{Conn: raw}
	srv := tls.Server(w, sc)
	if err := srv.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	secret := map[string][]byte{}
	var random []byte
	for line := range strings.Lines(log.String()) {
		f := strings.Fields(line)
		random, _ = hex.DecodeString(f[1])
		secret[f[0]], _ = hex.DecodeString(f[2])
	}
	got := srv.ConnectionState().CipherSuite
	var s *State
	if version == tls.VersionTLS13 {
		s, err = New13(got, secret["CLIENT_TRAFFIC_SECRET_0"], secret["SERVER_TRAFFIC_SECRET_0"], 0)
	} else {
		s, err = New12(got, secret["CLIENT_RANDOM"], random, w.first[11:43])
	}
	if err != nil {
		t.Fatal(err)
	}
	return client, raw, s
}

// each runs for every suite that crypto/tls lets a test choose.
func each(t *testing.T, fn func(t *testing.T, version, suite uint16)) {
	for _, s := range suites {
		if name := tls.CipherSuiteName(s.id); strings.Contains(name, "_ECDSA_") {
			t.Run(name, func(t *testing.T) { t.Parallel(); fn(t, tls.VersionTLS12, s.id) })
		}
	}
	t.Run("TLS 1.3", func(t *testing.T) { t.Parallel(); fn(t, tls.VersionTLS13, 0) })
}

func TestAgainstCryptoTLS(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, version, suite uint16) {
		client, raw, s := server(t, version, suite)
		c := NewConn(raw, s, nil, nil)
		big := make([]byte, 300<<10)
		rand.Read(big)
		var wg sync.WaitGroup
		wg.Add(1)
		go func() {
			defer wg.Done()
			client.Write([]byte("ping"))
			client.Write(big)
			client.CloseWrite()
		}()
		got := make([]byte, 4)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
			t.Fatalf("%q %v", got, err)
		}
		s.Rest() // between messages the ciphers may go
		all, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(all, big) {
			t.Fatalf("%d bytes, %v", len(all), err)
		}
		wg.Wait()
		go func() {
			c.Write([]byte("pong"))
			c.Write(big)
			c.Close()
		}()
		all, err = io.ReadAll(client)
		if err != nil || !bytes.Equal(all, append([]byte("pong"), big...)) {
			t.Fatalf("%d bytes, %v", len(all), err)
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("writing after the end works")
		}
	})
}

// TestLoopForms drives the three ways in which an event loop opens and seals.
func TestLoopForms(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, version, suite uint16) {
		client, raw, s := server(t, version, suite)
		for i := range 5 {
			client.Write(fmt.Appendf(nil, "message %d", i))
		}
		var src []byte
		buf := make([]byte, 4096)
		dst := make([]byte, 0, MaxRecord)
		for want := ""; !strings.HasSuffix(want, "4"); want = string(dst) {
			raw.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, err := raw.Read(buf[:7]) // in pieces
			if err != nil {
				t.Fatal(err)
			}
			src = append(src, buf[:n]...)
			var used int
			if dst, used, err = s.Open(dst, src); err != nil {
				t.Fatal(err)
			}
			src = append(src[:0], src[used:]...)
		}
		if string(dst) != "message 0message 1message 2message 3message 4" {
			t.Fatalf("%q", dst)
		}
		for _, n := range []int{0, 1, 100, MaxPlain} {
			b := make([]byte, Head+n+Tail)
			rand.Read(b)
			want := bytes.Clone(b[Head : Head+n])
			if n == 0 { // an empty record is legal, and nothing to the client
				raw.Write(s.SealAt(b, n))
				continue
			}
			raw.Write(s.SealAt(b, n))
			raw.Write(s.Seal(nil, want))
			got := make([]byte, 2*n)
			if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got[:n], want) || !bytes.Equal(got[n:], want) {
				t.Fatalf("%d: %v", n, err)
			}
		}
		raw.Write(s.Alert(nil, CloseNotify))
		if _, err := client.Read(buf); err != io.EOF {
			t.Errorf("after close_notify the client sees %v", err)
		}
	})
}

// pair returns two States that talk to each other.
func pair(t testing.TB, suite uint16) (a, b *State) {
	t.Helper()
	su := suiteOf(tls.VersionTLS13, suite)
	x, y := bytes.Repeat([]byte{1}, su.secretLen()), bytes.Repeat([]byte{2}, su.secretLen())
	a, err := New13(suite, x, y, 3)
	if err != nil {
		t.Fatal(err)
	}
	b, err = New13(suite, y, x, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.in.seq = 3
	return a, b
}

func TestKeyUpdate(t *testing.T) {
	t.Parallel()
	for _, suite := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256} {
		a, b := pair(t, suite)
		say := func(from, to *State, text string) {
			t.Helper()
			room := make([]byte, Head+len(text)+Tail)
			copy(room[Head:], text)
			got, _, err := to.Open(make([]byte, 0, MaxRecord), append(from.Seal(nil, []byte(text)), from.SealAt(room, len(text))...))
			if err != nil || string(got) != text+text {
				t.Fatalf("%q %v", got, err)
			}
		}
		say(a, b, "one")
		say(b, a, "two")
		ask := a.seal(nil, typeHandshake, []byte{keyUpdate, 0, 0, 1, updateToo})
		a.out.update(a.su)
		if _, used, err := b.Next(ask); used != len(ask) || err != nil {
			t.Fatal(used, err)
		}
		say(a, b, "with the new key")
		old := b.out.secret
		say(b, a, "updated too, before the next data")
		if b.out.secret == old || a.in.secret != b.out.secret {
			t.Error("the answering KeyUpdate was not sent")
		}
		b.owed.Store(true)
		room := make([]byte, Head+5+Tail)
		copy(room[Head:], "hello")
		got, _, err := a.Open(make([]byte, 0, MaxRecord), b.SealAt(room, 5))
		if err != nil || string(got) != "hello" {
			t.Errorf("KeyUpdate ahead of a record in place: %q %v", got, err)
		}
		a.out.seq, b.in.seq = updateAfter, updateAfter // worn out
		say(a, b, "a key is used for so long only")
		if a.out.seq != 2 {
			t.Errorf("sequence number %d", a.out.seq)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	typed := func(typ byte, b ...byte) func(*State) []byte {
		return func(s *State) []byte { return s.seal(nil, typ, b) }
	}
	for name, c := range map[string]struct {
		make func(*State) []byte
		want error
	}{
		"close_notify":          {typed(typeAlert, 1, 0), io.EOF},
		"fatal alert":           {typed(typeAlert, 2, 40), RemoteAlert(40)},
		"user_canceled":         {typed(typeAlert, 1, userCanceled), nil},
		"half an alert":         {typed(typeAlert, 1), errDecode},
		"plain alert":           {func(*State) []byte { return []byte{typeAlert, 3, 3, 0, 2, 2, 40} }, errType},
		"ChangeCipherSpec":      {func(*State) []byte { return []byte{typeCCS, 3, 3, 0, 1, 1} }, errType},
		"unknown type":          {typed(99, 1), errType},
		"only padding":          {typed(0, 0, 0), errType},
		"another message":       {typed(typeHandshake, 4, 0, 0, 0), errType},
		"KeyUpdate and more":    {typed(typeHandshake, keyUpdate, 0, 0, 1, 0, keyUpdate), errType},
		"KeyUpdate with 2":      {typed(typeHandshake, keyUpdate, 0, 0, 1, 2), errType},
		"other version":         {func(*State) []byte { return []byte{23, 2, 3, 0, 30} }, errDecode},
		"too large":             {func(*State) []byte { return []byte{23, 3, 3, 0x41, 1} }, errOverflow},
		"large, in the padding": {func(s *State) []byte { return s.seal(nil, typeData, make([]byte, MaxPlain+1)) }, errOverflow},
		"too short":             {func(*State) []byte { return append([]byte{23, 3, 3, 0, 16}, make([]byte, 16)...) }, errDecode},
		"wrong tag":             {func(s *State) []byte { b := s.Seal(nil, []byte("x")); b[len(b)-1]++; return b }, errMAC},
		"wrong header":          {func(s *State) []byte { b := s.Seal(nil, []byte("xx")); b[2] = 1; return b }, errMAC},
		"repeated":              {func(s *State) []byte { b := s.Seal(nil, []byte("x")); return append(b, b...) }, errMAC},
	} {
		a, b := pair(t, tls.TLS_AES_128_GCM_SHA256)
		_, _, err := b.Open(make([]byte, 0, 2*MaxRecord), c.make(a))
		if err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil {
			if _, _, err := b.Next(a.Seal(nil, []byte("more"))); err == nil {
				t.Errorf("%s: the connection goes on", name)
			}
		}
	}
	// Padding is taken away, and records without data are bounded.
	a, b := pair(t, tls.TLS_AES_128_GCM_SHA256)
	if p, _, err := b.Next(a.seal(nil, typeData, append([]byte("x"), typeData, 0, 0)[:1])); err != nil || string(p) != "x" {
		t.Errorf("%q %v", p, err)
	}
	padded := append([]byte("padded"), typeData)
	padded = append(padded, make([]byte, 100)...)
	if p, _, err := b.Next(a.seal(nil, 0, padded)); err != nil || string(p) != "padded" {
		t.Errorf("padding: %q %v", p, err)
	}
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, _, err = b.Next(a.seal(nil, typeData, nil))
	}
	if !errors.Is(err, errUseless) || n != maxUseless+1 {
		t.Errorf("%d empty records: %v", n, err)
	}
}

// TestTLS12Faults: a client that wants to renegotiate, or changes its cipher again, is told no.
func TestTLS12Faults(t *testing.T) {
	t.Parallel()
	for typ, want := range map[byte]error{typeHandshake: errRenegotn, typeCCS: errType} {
		_, _, s := server(t, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
		s.in = s.out // as if it had come from the peer
		peer := &State{su: s.su, out: s.in}
		if _, _, err := s.Next(peer.seal(nil, typ, []byte{1, 0, 0, 0})); err != want {
			t.Errorf("%d: %v", typ, err)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	a, b := pair(t, tls.TLS_AES_128_GCM_SHA256)
	buf := make([]byte, Head+1000+Tail)
	out := make([]byte, 0, 4096)
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := b.Open(dst, a.Seal(out, buf[:1000])); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Next(a.SealAt(buf, 1000)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestConnEnds: what a reader sees of a connection that is cut, and of a deadline.
func TestConnEnds(t *testing.T) {
	t.Parallel()
	client, raw, s := server(t, tls.VersionTLS13, 0)
	c := NewConn(raw, s, []byte("opened before"), nil)
	b := make([]byte, 64)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "opened before" {
		t.Fatalf("%q %v", b[:n], err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(b); !isTimeout(err) {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Time{})
	go client.Write([]byte("later"))
	if n, err := c.Read(b); err != nil || string(b[:n]) != "later" {
		t.Fatalf("a deadline spoils the connection: %q %v", b[:n], err)
	}
	client.NetConn().Close()
	if _, err := c.Read(b); err == nil || err == io.EOF {
		t.Errorf("a cut connection ends with %v", err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// FuzzOpen: whatever comes, in whatever pieces, a State neither panics nor opens what was not sealed for it.
func FuzzOpen(f *testing.F) {
	a, _ := pair(f, tls.TLS_AES_128_GCM_SHA256)
	f.Add(a.Seal(nil, []byte("hello")), 3)
	f.Add(a.Alert(nil, CloseNotify), 1)
	f.Add([]byte{23, 3, 3, 0x40, 0x11}, 2)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		_, r := pair(t, tls.TLS_AES_128_GCM_SHA256)
		_, whole := pair(t, tls.TLS_AES_128_GCM_SHA256)
		want, _, werr := whole.Open(make([]byte, 0, len(b)+MaxRecord), b)
		var got []byte
		var err error
		for rest := bytes.Clone(b); err == nil; {
			part := rest
			if cut > 0 && cut < len(rest) {
				part = rest[:cut]
			}
			var plain []byte
			var used int
			plain, used, err = r.Next(part)
			got = append(got, plain...)
			if used == 0 && len(part) == len(rest) {
				break
			}
			if used == 0 {
				cut += len(part)
			}
			rest = rest[used:]
		}
		if !bytes.Equal(got, want) || (err == nil) != (werr == nil) {
			t.Fatalf("in pieces %q %v, whole %q %v", got, err, want, werr)
		}
	})
}

// FuzzPlain: what is inside a record, whatever it is, does no harm.
func FuzzPlain(f *testing.F) {
	f.Add(byte(typeHandshake), []byte{keyUpdate, 0, 0, 1, 1})
	f.Add(byte(typeAlert), []byte{1, 0})
	f.Add(byte(0), []byte{1, 23, 0, 0})
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		if len(b) > MaxPlain {
			return
		}
		x, y := pair(t, tls.TLS_CHACHA20_POLY1305_SHA256)
		p, used, err := y.Next(x.seal(nil, typ, b))
		if typ == typeData && (err != nil || !bytes.Equal(p, b)) {
			t.Fatalf("%q became %q, %v", b, p, err)
		}
		if used == 0 {
			t.Fatal("a whole record is not seen as one")
		}
	})
}
