package identity

import (
	"bytes"
	"compress/zlib"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"sort"
	"strings"

	"skerry/internal/fault"
	"skerry/internal/store"
)

// secret is a key of the cloud's own.
type secret struct {
	Name string
	Key  []byte
}

var secrets = store.NewTable("iam.secret", func(s secret) string { return s.Name })

// MaxMessage bounds an encoded message and what it unpacks to.
const MaxMessage = 10240

// Refusal is what an encoded authorization failure message tells to whom may decode it.
type Refusal struct {
	Principal Principal
	Query     Query
	Explicit  bool // a policy denies it
}

// messageKey is the key of the messages, made when it is needed first.
func messageKey(db *store.DB) ([]byte, error) {
	if s, ok := secrets.Get(db.Read(), "messages"); ok {
		return s.Key, nil
	}
	var key []byte
	err := db.Update(func(w *store.WriteTx) error {
		s, ok := secrets.Get(w, "messages")
		if !ok {
			s = secret{Name: "messages", Key: random(w.Rand(), 32)}
			secrets.Put(w, s)
		}
		key = s.Key
		return nil
	})
	return key, err
}

func sealer(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants
	}
	return aead
}

// EncodeMessage writes a refusal so that only DecodeMessage for the same account reads it.
func EncodeMessage(db *store.DB, r Refusal) (string, error) {
	key, err := messageKey(db)
	if err != nil {
		return "", err
	}
	doc, err := json.Marshal(r.document())
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, _ = z.Write(doc) // a buffer takes everything
	_ = z.Close()
	mac := hmac.New(sha256.New, key)
	mac.Write(doc)
	nonce := mac.Sum(nil)[:12] // of the text: the same text gives the same message, and no other one the same nonce
	return base64.RawURLEncoding.EncodeToString(sealer(key).Seal(nonce, nonce, b.Bytes(), []byte(r.Principal.Account))), nil
}

// DecodeMessage reads a message of the account. Its fault is InvalidAuthorizationMessageException.
func DecodeMessage(db *store.DB, account, text string) (string, error) {
	invalid := fault.New(fault.Invalid, "InvalidAuthorizationMessageException", "The EncodedMessage is invalid")
	key, err := messageKey(db)
	if err != nil {
		return "", err
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < 12 || len(text) > MaxMessage {
		return "", invalid
	}
	packed, err := sealer(key).Open(nil, b[:12], b[12:], []byte(account))
	if err != nil {
		return "", invalid
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", invalid
	}
	doc, err := io.ReadAll(io.LimitReader(z, 8*MaxMessage))
	if err != nil {
		return "", invalid
	}
	return string(doc), nil
}

type items struct {
	Items []any `json:"items"`
}

// document is the form in which AWS tells it.
func (r Refusal) document() any {
	type value struct {
		Value string `json:"value"`
	}
	type condition struct {
		Key    string `json:"key"`
		Values items  `json:"values"`
	}
	type principal struct {
		ID   string `json:"id"`
		Name string `json:"name,omitempty"`
		ARN  string `json:"arn"`
	}
	conditions := items{[]any{}}
	keys := make([]string, 0, len(r.Query.Context))
	for k := range r.Query.Context {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		vs := items{[]any{}}
		for _, v := range r.Query.Context[k] {
			vs.Items = append(vs.Items, value{v})
		}
		conditions.Items = append(conditions.Items, condition{k, vs})
	}
	none := items{[]any{}}
	return struct {
		Allowed           bool  `json:"allowed"`
		ExplicitDeny      bool  `json:"explicitDeny"`
		MatchedStatements items `json:"matchedStatements"`
		Failures          items `json:"failures"`
		Context           any   `json:"context"`
	}{false, r.Explicit, none, none, struct {
		Principal  principal `json:"principal"`
		Action     string    `json:"action"`
		Resource   string    `json:"resource"`
		Conditions items     `json:"conditions"`
	}{principal{r.Principal.UserID, r.Principal.ARN[strings.LastIndex(r.Principal.ARN, "/")+1:], r.Principal.ARN}, r.Query.Action, r.Query.Resource, conditions}}
}
