package gateway

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"skerry/api"
	"skerry/internal/sigv4"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// Limits of a request, and of how many are served at a time.
const (
	MaxBody     = 6 << 20 // bytes, also of what a compressed body unpacks to
	MaxURL      = 64 << 10
	MaxInFlight = 512
	BodyTimeout = 30 * time.Second // for a body to arrive
)

// Credential is an access key that exists, and who it belongs to.
type Credential struct {
	AccessKeyID  string
	Secret       string
	SessionToken string // of temporary credentials: the request must carry it
	Principal    api.Principal
}

// Options configure a gateway.
type Options struct {
	Mux   *api.Mux
	DB    *store.DB
	Clock func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: none
	// Credentials finds an access key. For one that does not count it returns a *KeyError, or a fault Denied with the
	// code InvalidClientTokenId or ExpiredToken; both are sent in the client's dialect.
	Credentials func(accessKeyID string, r *http.Request) (Credential, error)
	// Permit tells whether the caller may do the operation with the input: to all that the input names. nil permits all.
	Permit func(c *api.Call, h *api.Handler, in any) error
	// Authorize tells whether the caller may do an action to a resource, for handlers that find more; nil allows all.
	Authorize func(c *api.Call, action, resource string) error
}

// Gateway serves the operations of a Mux over HTTP. Safe for concurrent use.
type Gateway struct {
	opts        Options
	inFlight    chan struct{}
	bodyTimeout time.Duration
}

// New returns the handler of the API's port.
func New(o Options) http.Handler {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Authorize == nil {
		o.Authorize = func(*api.Call, string, string) error { return nil }
	}
	if o.Permit == nil {
		o.Permit = func(*api.Call, *api.Handler, any) error { return nil }
	}
	return &Gateway{opts: o, inFlight: make(chan struct{}, MaxInFlight), bodyTimeout: BodyTimeout}
}

// Exchange is one request on its way. Owned by the request's goroutine; each stage fills in its part.
type Exchange struct {
	Gateway   *Gateway
	Request   *http.Request
	RequestID string
	Start     time.Time
	conn      *http.ResponseController

	Raw       []byte // the body as it was signed
	Body      []byte // the body, unpacked
	Form      *wire.Form
	Protocol  wire.Protocol
	Service   *api.Service
	Operation string
	Signature *sigv4.Signature
	Call      *api.Call
	Handler   *api.Handler
	In, Out   any
	Reply     []byte
}

// Stage is a step of the pipeline. Its error ends the exchange and goes to the client in its dialect.
type Stage struct {
	Name string
	Run  func(*Exchange) error
}

// Stages is the pipeline, in order.
var Stages = []Stage{
	{"bounds", bounds},
	{"detect", detect},
	{"authenticate", authenticate},
	{"find handler", findHandler},
	{"decode", decode},
	{"validate", validate},
	{"authorize", authorize},
	{"dry run", dryRun},
	{"handle", handle},
	{"encode", encode},
}

// ServeHTTP takes a request through the stages.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/_skerry/health" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{\"status\":\"ok\"}\n"))
		return
	}
	x := &Exchange{Gateway: g, Request: r, RequestID: newRequestID(), Start: g.opts.Clock(), conn: http.NewResponseController(w)}
	began := time.Now()
	x.guess()
	var err error
	select {
	case g.inFlight <- struct{}{}:
		err = x.run(w)
		<-g.inFlight
	default:
		err = x.busy()
	}
	status, code := http.StatusOK, ""
	if err != nil {
		f := x.failure(err)
		status, code = f.Status, f.Code
		x.fail(w, f)
	} else {
		x.succeed(w)
	}
	x.logLine(status, code, err, time.Since(began))
}

func (x *Exchange) run(w http.ResponseWriter) (err error) {
	defer func() {
		if p := recover(); p != nil {
			x.Gateway.opts.Log.Error("a handler panicked", "request", x.RequestID, "operation", x.name(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	x.Request.Body = http.MaxBytesReader(w, x.Request.Body, MaxBody)
	for _, s := range Stages {
		if err := s.Run(x); err != nil {
			return err
		}
	}
	return nil
}

func (x *Exchange) logLine(status int, code string, err error, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("request", x.RequestID), slog.String("operation", x.name()), slog.String("protocol", x.Protocol.String()),
		slog.Int("status", status), slog.Duration("took", took), slog.Int("in", len(x.Raw)), slog.Int("out", len(x.Reply)),
		slog.String("peer", x.Request.RemoteAddr),
	}
	if x.Call != nil {
		attrs = append(attrs, slog.String("principal", x.Call.Principal.ARN), slog.String("region", x.Call.Region))
	}
	if x.In != nil {
		if inert := inertMembers(x); len(inert) > 0 {
			attrs = append(attrs, slog.String("without_effect", strings.Join(inert, " ")))
		}
	}
	level := slog.LevelInfo
	if err != nil {
		attrs = append(attrs, slog.String("code", code), slog.String("error", err.Error()))
		if status >= 500 {
			level = slog.LevelError
		}
	}
	x.Gateway.opts.Log.LogAttrs(context.Background(), level, "request", attrs...)
}

// name returns what the log calls the operation.
func (x *Exchange) name() string {
	if x.Service == nil {
		return x.Operation
	}
	return x.Service.Name + ":" + x.Operation
}

// newRequestID returns a random UUID.
func newRequestID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
