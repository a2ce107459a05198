package compute

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"skerry/internal/require"
	"skerry/internal/store"
)

// Public keys with what `openssl rsa -pubin -outform DER | openssl md5 -c` and `ssh-keygen -l` say of them.
const (
	rsaPublic     = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDSuvie3MPzxy/8iPuSp/2zlAyqM1/pHrkpNGl4Y5WLfwsJHNlEvw8uMwGlg8U3e2kK1FKTxhNcsUiuzb9WmrTmNnhVetzVrKpE9b3CEaJdE8fjssQbAV2yYDj2L0VX9uWfhFCkTLtVPWmuwLm5aczc4jb1Dog4r3fSer2nGAsrEQ== x"
	rsaMD5        = "c6:9b:23:af:51:72:5b:d8:5e:da:a8:47:1e:20:1c:9c"
	edPublic      = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMn2PToWpuBawPTDTHAm2NRtxbNJWvHri3vhvgpkY/20 me@example"
	edSHA256      = "8cAeXz7mSppR/E5u2ZUMJXwQI3a5pXCiJWX0CNHfSSA="
	privateHeader = "-----BEGIN OPENSSH PRIVATE KEY-----"
)

func TestFingerprints(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{rsaPublic: rsaMD5, edPublic: edSHA256} {
		if m, err := ParsePublicKey([]byte(text)); err != nil || m.Fingerprint != want {
			t.Errorf("%.20s: %s %v, want %s", text, m.Fingerprint, err, want)
		}
	}
	m, err := GenerateKey(rand.Reader, "rsa")
	if err != nil {
		t.Fatal(err)
	}
	openssl := require.Tool(t, "openssl")
	der := exec.Command(openssl, "pkcs8", "-nocrypt", "-topk8", "-outform", "DER")
	der.Stdin = strings.NewReader(m.PrivatePEM)
	raw, err := der.Output()
	if err != nil {
		t.Fatal(err)
	}
	sum := exec.Command(openssl, "sha1", "-c")
	sum.Stdin = bytes.NewReader(raw)
	out, err := sum.Output()
	if err != nil || !strings.Contains(string(out), m.Fingerprint) {
		t.Errorf("openssl says %s (%v), we %s", out, err, m.Fingerprint)
	}
}

func TestCreatedKeysLogIn(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"", "rsa", "ed25519"} {
		m, err := GenerateKey(rand.Reader, kind)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey([]byte(m.PrivatePEM))
		if err != nil {
			t.Fatalf("%q: %v", kind, err)
		}
		pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(m.PublicKey))
		if err != nil {
			t.Fatalf("%q: %v", kind, err)
		}
		sig, err := signer.Sign(rand.Reader, []byte("challenge"))
		if err != nil || pub.Verify([]byte("challenge"), sig) != nil {
			t.Errorf("%q: the private key does not fit the public one: %v", kind, err)
		}
		header, parts := "-----BEGIN RSA PRIVATE KEY-----", 20
		if kind == "ed25519" {
			header, parts = privateHeader, 1
			if want := strings.TrimPrefix(ssh.FingerprintSHA256(pub), "SHA256:"); strings.TrimRight(m.Fingerprint, "=") != want {
				t.Errorf("fingerprint %s, ssh-keygen says %s", m.Fingerprint, want)
			}
		}
		if !strings.HasPrefix(m.PrivatePEM, header) || len(strings.Split(m.Fingerprint, ":")) != parts {
			t.Errorf("%q: %.40q %s", kind, m.PrivatePEM, m.Fingerprint)
		}
	}
	if _, err := GenerateKey(rand.Reader, "dsa"); code(err) != "InvalidParameterValue" {
		t.Error(err)
	}
}

func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	ed, err := ParsePublicKey([]byte(edPublic + "\n"))
	if err != nil || ed.Type != "ed25519" || strings.Contains(ed.PublicKey, "me@example") {
		t.Fatalf("%+v %v", ed, err)
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(&k.PublicKey)
	pub, _ := ssh.NewPublicKey(&k.PublicKey)
	blob := base64.StdEncoding.EncodeToString(pub.Marshal())
	rfc := "---- BEGIN SSH2 PUBLIC KEY ----\nComment: \"a key\\\nof mine\"\n" + blob[:70] + "\n" + blob[70:] + "\n---- END SSH2 PUBLIC KEY ----\n"
	forms := map[string]string{"OpenSSH": string(ssh.MarshalAuthorizedKey(pub)), "DER": base64.StdEncoding.EncodeToString(der), "RFC 4716": rfc}
	for name, text := range forms {
		got, err := ParsePublicKey([]byte(text))
		if err != nil || got.Type != "rsa" || len(strings.Split(got.Fingerprint, ":")) != 16 || got.PublicKey != strings.TrimSpace(forms["OpenSSH"]) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	small, _ := rsa.GenerateKey(rand.Reader, 1536)
	odd, _ := ssh.NewPublicKey(&small.PublicKey)
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
	for name, text := range map[string]string{"empty": "", "words": "not a key", "private": string(private), "1536 bits": string(ssh.MarshalAuthorizedKey(odd)), "cut": edPublic[:40],
		"ECDSA": "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="} {
		if _, err := ParsePublicKey([]byte(text)); code(err) != "InvalidKey.Format" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyPairs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := KeyMaterial{Type: "ed25519", PublicKey: edPublic}
	create := func(name string) error {
		return w.db.Update(func(tx *store.WriteTx) error { _, err := CreateKeyPair(tx, w.s, name, m); return err })
	}
	w.wants("create", create("k"), "")
	w.wants("twice", create("k"), "InvalidKeyPair.Duplicate")
	w.wants("no name", create(""), "MissingParameter")
	w.wants("not ASCII", create("schlüssel"), "InvalidParameterValue")
	w.wants("long", create(strings.Repeat("k", 256)), "InvalidParameterValue")
	i := w.launch(1, LaunchSpec{KeyName: "k"})[0]
	w.write(func(tx *store.WriteTx) error {
		if k := DeleteKeyPair(tx, w.s, "k", ""); k.Name != "k" {
			t.Errorf("%+v", k)
		}
		if k := DeleteKeyPair(tx, w.s, "k", ""); k.Name != "" {
			t.Errorf("deleted twice: %+v", k)
		}
		return nil
	})
	if w.get(i.ID).KeyName != "k" {
		t.Error("the instance forgot its key's name")
	}
}

func TestED25519RandomIsInjected(t *testing.T) {
	t.Parallel()
	a, err := GenerateKey(strings.NewReader(strings.Repeat("a", ed25519.SeedSize)), "ed25519")
	if err != nil {
		t.Fatal(err)
	}
	b, err := GenerateKey(strings.NewReader(strings.Repeat("b", ed25519.SeedSize)), "ed25519")
	if err != nil || a.PublicKey == b.PublicKey {
		t.Errorf("%v, same key %v", err, a.PublicKey == b.PublicKey)
	}
}
