package compute

import (
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// MaxKeyPairs is the quota of key pairs.
const MaxKeyPairs = 5000

// KeyPair is the public half of a key pair.
type KeyPair struct {
	scope.Scope
	ID, Name, Type string // Type: rsa or ed25519
	Fingerprint    string
	PublicKey      string // one line, OpenSSH's format
	CreatedAt      time.Time
}

// KeyPairs is the table of key pairs.
var KeyPairs = store.NewTable("key-pair", func(k KeyPair) string { return k.Key(k.ID) },
	store.Index[KeyPair]{Name: "name", Keys: func(k KeyPair) []string { return []string{k.Key(k.Name)} }})

// KeyMaterial is a key before it has a name.
type KeyMaterial struct {
	Type, Fingerprint, PublicKey string
	PrivatePEM                   string // empty for imported keys
}

// GenerateKey makes a key of type rsa (or "") or ed25519. Call it outside of a transaction: RSA takes its time.
func GenerateKey(random io.Reader, keyType string) (KeyMaterial, error) {
	switch keyType {
	case "", "rsa":
		k, err := rsa.GenerateKey(random, 2048)
		if err != nil {
			return KeyMaterial{}, fmt.Errorf("making an RSA key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return KeyMaterial{}, err
		}
		pub, err := ssh.NewPublicKey(&k.PublicKey)
		if err != nil {
			return KeyMaterial{}, err
		}
		sum := sha1.Sum(der)
		return KeyMaterial{Type: "rsa", Fingerprint: colons(sum[:]), PublicKey: authorized(pub),
			PrivatePEM: string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}))}, nil
	case "ed25519":
		public, private, err := ed25519.GenerateKey(random)
		if err != nil {
			return KeyMaterial{}, fmt.Errorf("making an ED25519 key: %w", err)
		}
		pub, err := ssh.NewPublicKey(public)
		if err != nil {
			return KeyMaterial{}, err
		}
		block, err := ssh.MarshalPrivateKey(private, "")
		if err != nil {
			return KeyMaterial{}, err
		}
		return KeyMaterial{Type: "ed25519", Fingerprint: sha256Fingerprint(pub), PublicKey: authorized(pub), PrivatePEM: string(pem.EncodeToMemory(block))}, nil
	}
	return KeyMaterial{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter keyType is invalid. Valid values are: rsa, ed25519.", keyType)
}

// ParsePublicKey reads a public key in OpenSSH's format, RFC 4716's, or base64 of DER.
func ParsePublicKey(text []byte) (KeyMaterial, error) {
	bad := fault.New(fault.Invalid, "InvalidKey.Format", "Key is not in valid OpenSSH public key format")
	var pub ssh.PublicKey
	trimmed := strings.TrimSpace(string(text))
	if p, _, _, _, err := ssh.ParseAuthorizedKey([]byte(trimmed)); err == nil {
		pub = p
	} else if strings.HasPrefix(trimmed, "---- BEGIN SSH2 PUBLIC KEY ----") {
		if pub = parseRFC4716(trimmed); pub == nil {
			return KeyMaterial{}, bad
		}
	} else if der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(trimmed), "")); err == nil {
		k, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return KeyMaterial{}, bad
		}
		if pub, err = ssh.NewPublicKey(k); err != nil {
			return KeyMaterial{}, bad
		}
	} else {
		return KeyMaterial{}, bad
	}
	crypto, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return KeyMaterial{}, bad
	}
	switch k := crypto.CryptoPublicKey().(type) {
	case ed25519.PublicKey:
		return KeyMaterial{Type: "ed25519", Fingerprint: sha256Fingerprint(pub), PublicKey: authorized(pub)}, nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n != 1024 && n != 2048 && n != 4096 {
			return KeyMaterial{}, fault.New(fault.Invalid, "InvalidKey.Format", "Invalid RSA key length: %d. It must be 1024, 2048 or 4096 bits.", n)
		}
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return KeyMaterial{}, bad
		}
		sum := md5.Sum(der)
		return KeyMaterial{Type: "rsa", Fingerprint: colons(sum[:]), PublicKey: authorized(pub)}, nil
	}
	return KeyMaterial{}, bad
}

// parseRFC4716 reads the body between the markers, leaving out header lines and their continuations.
func parseRFC4716(text string) ssh.PublicKey {
	var body strings.Builder
	header := false
	for _, l := range strings.Split(text, "\n") {
		l = strings.TrimSpace(l)
		switch {
		case header || strings.Contains(l, ":"):
			header = strings.HasSuffix(l, "\\")
		case !strings.HasPrefix(l, "----"):
			body.WriteString(l)
		}
	}
	blob, err := base64.StdEncoding.DecodeString(body.String())
	if err != nil {
		return nil
	}
	pub, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil
	}
	return pub
}

// CreateKeyPair gives a key a name.
func CreateKeyPair(w *store.WriteTx, s scope.Scope, name string, m KeyMaterial) (KeyPair, error) {
	if name == "" {
		return KeyPair{}, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter KeyName")
	}
	if len(name) > 255 || strings.IndexFunc(name, func(r rune) bool { return r < 32 || r > 126 }) >= 0 || strings.TrimSpace(name) != name {
		return KeyPair{}, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter KeyName is invalid. Character sets beyond ASCII are not supported.", name)
	}
	if _, ok := keyByName(w, s, name); ok {
		return KeyPair{}, fault.New(fault.Exists, "InvalidKeyPair.Duplicate", "The keypair '%s' already exists.", name)
	}
	n := 0
	for range KeyPairs.Prefix(w, s.Prefix()) {
		n++
	}
	if n >= MaxKeyPairs {
		return KeyPair{}, fault.New(fault.Limit, "KeyPairLimitExceeded", "The maximum number of key pairs has been reached.")
	}
	k := KeyPair{Scope: s, ID: w.NewID("key"), Name: name, Type: m.Type, Fingerprint: m.Fingerprint, PublicKey: m.PublicKey, CreatedAt: w.Now()}
	KeyPairs.Put(w, k)
	return k, nil
}

func keyByName(tx store.Tx, s scope.Scope, name string) (KeyPair, bool) {
	for k := range KeyPairs.By(tx, "name", s.Key(name)) {
		return k, true
	}
	return KeyPair{}, false
}

// GetKeyPair finds a key pair by its name.
func GetKeyPair(tx store.Tx, s scope.Scope, name string) (KeyPair, error) {
	if k, ok := keyByName(tx, s, name); ok {
		return k, nil
	}
	return KeyPair{}, fault.New(fault.NotFound, "InvalidKeyPair.NotFound", "The key pair '%s' does not exist", name)
}

// DeleteKeyPair deletes a key pair by its name or its id; one that is not there is a success, with a zero KeyPair.
func DeleteKeyPair(w *store.WriteTx, s scope.Scope, name, id string) KeyPair {
	k, ok := KeyPairs.Get(w, s.Key(id))
	if id == "" {
		k, ok = keyByName(w, s, name)
	}
	if !ok {
		return KeyPair{}
	}
	KeyPairs.Delete(w, s.Key(k.ID))
	tag.DeleteAll(w, s, k.ID)
	return k
}

func authorized(pub ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
}

// sha256Fingerprint is ssh-keygen's, without its prefix and with the padding that it leaves out.
func sha256Fingerprint(pub ssh.PublicKey) string {
	sum := sha256.Sum256(pub.Marshal())
	return base64.StdEncoding.EncodeToString(sum[:])
}

func colons(b []byte) string {
	parts := make([]string, len(b))
	for i := range b {
		parts[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(parts, ":")
}
