package proxy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skerry/internal/require"
)

// clientCA is an authority with a client's certificate.
type clientCA struct {
	ca, leaf, key string // PEM
	pair          tls.Certificate
}

func newClientCA(t *testing.T) *clientCA {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "The CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(0xBEEF), Subject: pkix.Name{CommonName: "me", Organization: []string{"Company, Ltd"}}, NotBefore: time.Unix(1700000000, 0), NotAfter: time.Now().Add(time.Hour)}
	make := func(c, by *x509.Certificate, pub any) []byte {
		b, err := x509.CreateCertificate(rand.Reader, c, by, pub, caKey)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	text := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &clientCA{ca: text("CERTIFICATE", make(ca, ca, &caKey.PublicKey)), leaf: text("CERTIFICATE", make(leaf, ca, &key.PublicKey)), key: text("PRIVATE KEY", kb)}
	if c.pair, err = tls.X509KeyPair([]byte(c.leaf), []byte(c.key)); err != nil {
		t.Fatal(err)
	}
	return c
}

// headers answers with the headers that it got.
func headers(t *testing.T) string {
	return addrOf(server(t, func(w http.ResponseWriter, r *http.Request) { json.NewEncoder(w).Encode(r.Header) }))
}

func TestMutualTLSHeaders(t *testing.T) {
	t.Parallel()
	ca := newClientCA(t)
	base := secure(simple(headers(t)), "ELBSecurityPolicy-TLS13-1-2-2021-06", certificate(t, "x", false, "a.test"))
	cfgOf := func(m MutualTLS, attrs ...string) Config {
		cfg := base
		cfg.Listeners = []Listener{base.Listeners[0]}
		cfg.Listeners[0].MutualTLS, cfg.Listeners[0].Attributes = m, with(map[string]string{}, attrs...)
		return cfg
	}
	verify := MutualTLS{Mode: "verify", CAs: ca.ca}
	const prefix = "X-Amzn-Mtls-Clientcert"
	forged := []string{prefix, prefix + "-Serial-Number", prefix + "-Issuer", prefix + "-Subject", prefix + "-Validity", prefix + "-Leaf", "x-amzn-MTLS-clientcert-new", "My-Serial"}
	for _, proto := range []string{"http/1.1", "h2"} {
		for _, c := range []struct {
			name string
			cfg  Config
			want map[string]string // "" stands for absence
		}{
			{"off", cfgOf(MutualTLS{}), map[string]string{prefix: "", prefix + "-Serial-Number": "", "X-Amzn-Mtls-Clientcert-New": "", "My-Serial": "forged"}},
			{"passthrough", cfgOf(MutualTLS{Mode: "passthrough"}), map[string]string{prefix: "PEM " + ca.leaf, prefix + "-Leaf": "", prefix + "-Subject": ""}},
			{"verify", cfgOf(verify), map[string]string{prefix: "", prefix + "-Leaf": "PEM " + ca.leaf, prefix + "-Serial-Number": "BEEF", prefix + "-Issuer": "CN=The CA", prefix + "-Subject": `CN=me,O=Company\, Ltd`,
				prefix + "-Validity": "NotBefore=2023-11-14T22:13:20Z;NotAfter=" + ca.pair.Leaf.NotAfter.UTC().Format(time.RFC3339)}},
			{"renamed", cfgOf(verify, "routing.http.request.x_amzn_mtls_clientcert_serial_number.header_name", "My-Serial"),
				map[string]string{"My-Serial": "BEEF", prefix + "-Serial-Number": "", prefix + "-Issuer": "CN=The CA"}},
		} {
			b := newLB(t, c.cfg)
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{ca.pair}, NextProtos: []string{proto}}, ForceAttemptHTTP2: proto == "h2"}
			t.Cleanup(tr.CloseIdleConnections)
			req, err := http.NewRequest("GET", "https://"+b.addr(front)+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range forged {
				req.Header.Set(h, "forged")
			}
			resp, err := (&http.Client{Transport: tr, Timeout: longest}).Do(req)
			if err != nil {
				t.Fatalf("%s, %s: %v", c.name, proto, err)
			}
			var got http.Header
			err = json.NewDecoder(resp.Body).Decode(&got)
			resp.Body.Close()
			if err != nil || resp.ProtoMajor == 2 != (proto == "h2") {
				t.Fatalf("%s: %v %s", c.name, err, resp.Proto)
			}
			for k, want := range c.want {
				v := got[http.CanonicalHeaderKey(k)]
				if text, ok := strings.CutPrefix(want, "PEM "); ok {
					plain, err := url.PathUnescape(strings.Join(v, ""))
					if err != nil || plain != text || strings.ContainsAny(v[0], " \n") {
						t.Errorf("%s, %s: %s is %q", c.name, proto, k, v)
					}
				} else if want == "" && v != nil || want != "" && (len(v) != 1 || v[0] != want) {
					t.Errorf("%s, %s: %s is %q, want %q", c.name, proto, k, v, want)
				}
			}
			for k, v := range got {
				if strings.HasPrefix(k, prefix) && strings.Contains(strings.Join(v, ""), "forged") {
					t.Errorf("%s, %s: forged %s passes", c.name, proto, k)
				}
			}
		}
	}
	// A plain listener lets nobody forge them either.
	plain := newLB(t, simple(headers(t)))
	if got := text(plain.dial().get("/", prefix+"-Subject: forged")); strings.Contains(got, "forged") {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{"host", "a b", "Content-Length"} {
		b := newLB(t, simple("127.0.0.1:1"))
		if b.Apply(cfgOf(verify, "routing.http.request.x_amzn_mtls_clientcert_leaf.header_name", bad)) == nil {
			t.Errorf("a header can be named %q", bad)
		}
	}
}

func TestMutualTLSRefuses(t *testing.T) {
	t.Parallel()
	ca, other := newClientCA(t), newClientCA(t)
	cfg := secure(simple(named(t, "x")), "ELBSecurityPolicy-TLS13-1-2-2021-06", certificate(t, "x", false, "a.test"))
	cfg.Listeners[0].MutualTLS = MutualTLS{Mode: "verify", CAs: ca.ca}
	b := newLB(t, cfg)
	for _, certs := range [][]tls.Certificate{nil, {other.pair}} {
		c, err := tls.Dial("tcp", b.addr(front), &tls.Config{InsecureSkipVerify: true, Certificates: certs})
		if err == nil {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			var one [1]byte
			if _, err = c.Read(one[:]); err == nil {
				t.Error("a client that is not trusted gets an answer")
			}
			c.Close()
		}
	}
	n := 0.0 // a client knows of its refusal a moment before it is counted
	for end := time.Now().Add(5 * time.Second); n < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		n += b.Stats().Counters["ClientTLSNegotiationErrorCount"]
	}
	if n += b.Stats().Counters["ClientTLSNegotiationErrorCount"]; n != 2 {
		t.Errorf("%v errors are counted", n)
	}
}

// TestOpenSSLAndCurl: clients of another making, with and without resumption, in both versions, and as mutual TLS clients.
func TestOpenSSLAndCurl(t *testing.T) {
	t.Parallel()
	openssl, curl := require.Tool(t, "openssl"), require.Tool(t, "curl")
	ca := newClientCA(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	cert, key, session := file("c.pem", ca.leaf), file("k.pem", ca.key), filepath.Join(dir, "s")
	cfg := secure(simple(headers(t)), "ELBSecurityPolicy-TLS13-1-2-2021-06", certificate(t, "x", false, "a.test"), certificate(t, "y", true, "b.test"))
	b := newLB(t, cfg)
	addr := b.addr(front)
	run := func(stdin, prog string, args ...string) string {
		t.Helper()
		cmd := exec.Command(prog, args...)
		cmd.Stdin = strings.NewReader(stdin)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil && prog == curl {
			t.Errorf("%s: %v\n%s", args, err, &out)
		}
		return out.String()
	}
	const request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
	for _, v := range []string{"-tls1_2", "-tls1_3"} {
		for _, suite := range []string{"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"} {
			args := []string{"s_client", "-connect", addr, "-servername", "a.test", v, "-ign_eof", "-ciphersuites", suite}
			first := run(request, openssl, append(args, "-sess_out", session)...)
			if !strings.Contains(first, "200 OK") || !strings.Contains(first, "New, TLS") {
				t.Fatalf("%s %s:\n%s", v, suite, first)
			}
			if again := run(request, openssl, append(args, "-sess_in", session)...); !strings.Contains(again, "200 OK") || !strings.Contains(again, "Reused, TLS") {
				t.Errorf("%s %s, resumed:\n%s", v, suite, again)
			}
		}
		rsa := run(request, openssl, "s_client", "-connect", addr, "-servername", "b.test", v, "-ign_eof")
		if !strings.Contains(rsa, "200 OK") || !strings.Contains(rsa, "O = y") {
			t.Errorf("%s, RSA:\n%s", v, rsa)
		}
	}
	// K at the beginning of a line asks for new keys in both directions; then the request goes on with them.
	cmd := exec.Command(openssl, "s_client", "-connect", addr, "-tls1_3", "-crlf")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	stop := time.AfterFunc(longest, func() { cmd.Process.Kill() })
	defer stop.Stop()
	var said strings.Builder
	until := func(text string) {
		t.Helper()
		buf := make([]byte, 4096)
		for !strings.Contains(said.String(), text) {
			n, err := out.Read(buf)
			said.Write(buf[:n])
			if err != nil {
				t.Fatalf("no %q in what openssl says: %v\n%s", text, err, &said)
			}
		}
	}
	until("Verify return code")
	for range 2 { // each line is read at once
		io.WriteString(in, "K\n")
		until("KEYUPDATE")
		said.Reset()
		io.WriteString(in, "GET / HTTP/1.1\n")
		time.Sleep(20 * time.Millisecond)
		io.WriteString(in, "Host: a.test\n")
		time.Sleep(20 * time.Millisecond)
		io.WriteString(in, "\n")
		until("200 OK")
		until("}")
		said.Reset()
	}
	for _, args := range [][]string{{"--http1.1"}, {"--http2"}, {"--http1.1", "--tls-max", "1.2"}, {"--http2", "--tls-max", "1.2"}} {
		url := "https://" + addr + "/"
		got := run("", curl, append([]string{"-sSk", "-w", "%{http_code} ", url, url}, args...)...)
		if strings.Count(got, "200 ") != 2 {
			t.Errorf("curl %v: %s", args, got)
		}
	}
	cfg.Listeners[0].MutualTLS = MutualTLS{Mode: "verify", CAs: ca.ca, AdvertiseTrustStoreCaNames: true}
	b.apply(cfg)
	for _, args := range [][]string{{"--http1.1"}, {"--http2"}, {"--http1.1", "--tls-max", "1.2"}} {
		if got := run("", curl, append([]string{"-sSk", "--cert", cert, "--key", key, "https://" + addr + "/"}, args...)...); !strings.Contains(got, "CN=me") {
			t.Errorf("curl %v: %s", args, got)
		}
	}
	asked := run(request, openssl, "s_client", "-connect", addr, "-ign_eof", "-cert", cert, "-key", key)
	if !strings.Contains(asked, "Acceptable client certificate CA names") || !strings.Contains(asked, "CN = The CA") || !strings.Contains(asked, "BEEF") {
		t.Errorf("%s", asked)
	}
}
