package compute

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// Once makes a creation idempotent: with a client token that was used for the same operation and parameters it gives the
// id that was made then, and does not run create. Without a token it only runs create.
func Once(w *store.WriteTx, s scope.Scope, operation, clientToken string, params any, create func() (id string, err error)) (string, error) {
	if clientToken == "" {
		return create()
	}
	if len(clientToken) > 64 {
		return "", fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter clientToken is invalid. The length must be at most 64.", clientToken)
	}
	doc, err := json.Marshal(params)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(doc)
	hash, key := hex.EncodeToString(sum[:]), operation+" "+clientToken
	if t, ok := tokens.Get(w, s.Key(key)); ok {
		if t.Hash != hash {
			return "", fault.New(fault.Invalid, "IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
		}
		return t.Result, nil
	}
	id, err := create()
	if err == nil {
		tokens.Put(w, token{Scope: s, Token: key, Hash: hash, Result: id, At: w.Now()})
	}
	return id, err
}
