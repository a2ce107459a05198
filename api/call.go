package api

import (
	"context"
	"time"

	"skerry/internal/scope"
	"skerry/internal/store"
)

// Principal is who signed a request.
type Principal struct {
	ARN            string
	UserID         string
	Account        string
	SourceInstance string // the instance whose role's credentials these are, else empty
	AccessKeyID    string // the key that signed: it tells a session from others of its name
}

// Call is one authenticated request, as a handler sees it. Owned by the request's goroutine.
type Call struct {
	Ctx       context.Context
	Account   string
	Region    string
	RequestID string
	Principal Principal
	Endpoint  string // http://HOST:PORT as the client addressed it
	DB        *store.DB
	Now       time.Time
	// Keys are the values of policies' condition keys that the request itself gives, by the key in lower case, as
	// aws:sourceip. Not to be changed.
	Keys map[string][]string
	// Authorize asks whether the principal may do the action ("ec2:RunInstances") to the resource ("*" or an ARN).
	// The gateway has asked for what the request names already; handlers ask for what only they find.
	Authorize func(action, resourceARN string) error
}

// Scope returns the account and region that the call's records live in.
func (c *Call) Scope() scope.Scope { return scope.Scope{Account: c.Account, Region: c.Region} }

// View runs fn on a snapshot of the state.
func (c *Call) View(fn func(store.Tx) error) error {
	return c.DB.View(func(r *store.ReadTx) error { return fn(r) })
}

// Update runs fn in a write transaction; an error from fn changes nothing.
func (c *Call) Update(fn func(*store.WriteTx) error) error { return c.DB.Update(fn) }
