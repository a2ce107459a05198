// Package fault is the one error type that crosses from the domain to clients.
//
// A fault names its kind (which decides the HTTP status and whether a client may retry), AWS's error code and AWS's
// message. Both texts are final: the gateway sends them as they are. Any other error that reaches the gateway is an
// InternalError whose text is logged and never sent.
//
// It imports only the standard library, so every layer may use it.
package fault

import (
	"errors"
	"fmt"
)

// Kind classifies a fault.
type Kind int

// The kinds. Only Limit, Capacity, Unavailable and Internal are worth a client's retry.
const (
	Internal    Kind = iota // our defect: the text stays inside
	Invalid                 // a malformed, missing or contradictory parameter
	NotFound                // the named resource does not exist
	Exists                  // a resource of that name exists already
	Conflict                // in use, or a dependency forbids it
	State                   // the resource's state does not allow it
	Denied                  // the caller may not
	Limit                   // a quota or a rate
	Capacity                // the host cannot hold it now
	Unavailable             // a part is not there now (disk full, starting)
	Unsupported             // known, and not served
)

var kindNames = [...]string{"Internal", "Invalid", "NotFound", "Exists", "Conflict", "State", "Denied", "Limit", "Capacity", "Unavailable", "Unsupported"}

// String returns the kind's name.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// Error is a fault. Code and Msg go to the client as they are; Err is the cause for the log.
type Error struct {
	Kind Kind
	Code string
	Msg  string
	Err  error
}

// New returns a fault with AWS's code and a formatted AWS message.
func New(kind Kind, code, format string, args ...any) *Error {
	msg := format
	if len(args) > 0 {
		msg = fmt.Sprintf(format, args...)
	}
	return &Error{Kind: kind, Code: code, Msg: msg}
}

// Wrap returns the fault with a cause attached for the log.
func (e *Error) Wrap(err error) *Error {
	c := *e
	c.Err = err
	return &c
}

// Error gives code, message and cause: for logs, not for clients.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Code + ": " + e.Msg + ": " + e.Err.Error()
	}
	return e.Code + ": " + e.Msg
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// As finds the fault in an error chain.
func As(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// Is reports whether err carries a fault of the kind.
func Is(err error, k Kind) bool {
	e, ok := As(err)
	return ok && e.Kind == k
}
