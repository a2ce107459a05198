package gateway

import (
	"bytes"
	"compress/gzip"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"skerry/api"
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/sigv4"
	"skerry/internal/wire"
)

// guess finds the dialect for what fails early, from the request's head alone.
func (x *Exchange) guess() {
	r := x.Request
	switch {
	case strings.HasPrefix(r.URL.Path, "/service/"):
		x.Protocol = wire.CBOR
	case r.Header.Get("X-Amz-Target") != "":
		x.Protocol = wire.JSON
	default:
		x.Protocol = wire.Query
		if s, err := sigv4.Parse(r); err == nil && s.Service == "ec2" {
			x.Protocol = wire.EC2
		}
	}
}

func bounds(x *Exchange) error {
	r := x.Request
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return &refusal{status: http.StatusMethodNotAllowed, code: "MethodNotAllowed", msg: "The method " + strconvQuote(r.Method) + " is not allowed; use POST or GET."}
	}
	if len(r.URL.RawQuery) > MaxURL {
		return &refusal{status: http.StatusRequestURITooLong, code: "RequestURITooLong", msg: "The request's URL is too long."}
	}
	_ = x.conn.SetReadDeadline(time.Now().Add(x.Gateway.bodyTimeout)) // what cannot have one has no slow clients either
	body, err := io.ReadAll(r.Body)
	if err == nil { // else the deadline stays: the server would read on before it answers
		_ = x.conn.SetReadDeadline(time.Time{})
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case err != nil:
		return &refusal{status: http.StatusBadRequest, code: "RequestTimeout", msg: "The request's body did not arrive.", cause: err}
	}
	x.Raw, x.Body = body, body
	switch enc := r.Header.Get("Content-Encoding"); enc {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return errMalformed.because(err)
		}
		if x.Body, err = io.ReadAll(io.LimitReader(z, MaxBody+1)); err != nil {
			return errMalformed.because(err)
		}
		if len(x.Body) > MaxBody {
			return errTooLarge
		}
	default:
		return &refusal{status: http.StatusUnsupportedMediaType, code: "UnsupportedMediaType", msg: "The content encoding " + strconvQuote(enc) + " is not supported; gzip is."}
	}
	return nil
}

var rpcPath = regexp.MustCompile(`^/service/([A-Za-z0-9_.]+)/operation/([A-Za-z0-9_]+)$`)

// detect finds protocol, service and operation, and reads the signature's claims.
func detect(x *Exchange) error {
	r := x.Request
	var err error
	x.Signature, err = sigv4.Parse(r)
	if err != nil && x.Protocol != wire.Query {
		return err
	}
	switch x.Protocol {
	case wire.CBOR:
		m := rpcPath.FindStringSubmatch(r.URL.Path)
		if m == nil || r.Header.Get("Smithy-Protocol") != "rpc-v2-cbor" {
			return errUnknownPath
		}
		x.Operation = m[2]
		return x.serviceByTarget(m[1][strings.LastIndexByte(m[1], '.')+1:])
	case wire.JSON:
		target, op, ok := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		if !ok {
			return &refusal{status: 400, code: "UnknownOperationException", msg: "The X-Amz-Target header must be PREFIX.OPERATION."}
		}
		x.Operation = op
		return x.serviceByTarget(target)
	}
	return x.detectQuery(err)
}

func (x *Exchange) serviceByTarget(target string) error {
	for _, s := range x.Gateway.opts.Mux.Services() {
		if s.TargetPrefix != "" && s.TargetPrefix == target {
			x.Service = s
			if x.Signature.Service != s.SigningName {
				return wrongService(s)
			}
			return nil
		}
	}
	return &refusal{status: 400, code: "UnknownOperationException", msg: "No service has the operation " + target + "." + x.Operation + "."}
}

func wrongService(s *api.Service) error {
	return &sigv4.Error{Reason: sigv4.Scope, Msg: "Credential should be scoped to correct service: '" + s.SigningName + "'."}
}

// detectQuery finds the service of a form request by its credential scope, and by its version where two share a scope.
func (x *Exchange) detectQuery(unsigned error) error {
	r := x.Request
	if r.URL.Path != "/" && r.URL.Path != "" {
		return errUnknownPath
	}
	texts := []string{r.URL.RawQuery}
	if r.Method == http.MethodPost {
		if ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); len(x.Body) > 0 && !strings.EqualFold(strings.TrimSpace(ct), "application/x-www-form-urlencoded") {
			return errUnknownProtocol
		}
		texts = append(texts, string(x.Body))
	}
	ec2 := x.Signature != nil && x.Signature.Service == "ec2"
	var err error
	x.Form, err = wire.ParseForm(ec2, texts...)
	if err != nil {
		return errMalformed.because(err)
	}
	x.Operation = x.Form.Get("Action")
	version := x.Form.Get("Version")
	if unsigned != nil {
		for _, s := range x.Gateway.opts.Mux.Services() { // only to answer in the right dialect
			if s.Version == version && version != "" {
				x.Service = s
				if s.Protocols[0] == "ec2" {
					x.Protocol = wire.EC2
				}
			}
		}
		return unsigned
	}
	for _, s := range x.Gateway.opts.Mux.Services() {
		if s.SigningName != x.Signature.Service || s.XMLNamespace == "" {
			continue
		}
		x.Service = s
		if version == s.Version || version == "" {
			break
		}
	}
	switch {
	case x.Service == nil:
		return &refusal{status: 400, code: "UnsupportedOperation", msg: "The service '" + x.Signature.Service + "' is not served (operation '" + x.Operation + "').", unknown: true}
	case x.Operation == "":
		return &refusal{status: 400, code: "MissingAction", msg: "The request must contain the parameter Action"}
	case version != "" && version != x.Service.Version:
		return &refusal{status: 400, code: "InvalidAction", msg: "Could not find operation " + x.Operation + " for version " + version, unknown: true}
	}
	return nil
}

var regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)

func authenticate(x *Exchange) error {
	s, o := x.Signature, x.Gateway.opts
	if !regionName.MatchString(s.Region) && s.Region != scope.Global {
		return &sigv4.Error{Reason: sigv4.Scope, Msg: "Credential should be scoped to a valid region, not '" + s.Region + "'."}
	}
	if o.Credentials == nil {
		return &KeyError{}
	}
	cred, err := o.Credentials(s.AccessKeyID, x.Request)
	if err != nil {
		return err
	}
	if err := s.Verify(x.Request, x.Raw, cred.Secret, o.Clock()); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(cred.SessionToken), []byte(s.Token)) == 0 {
		return &KeyError{}
	}
	region := s.Region
	switch {
	case x.Service.Global:
		region = scope.Global
	case region == scope.Global:
		region = "us-east-1"
	}
	x.Call = &api.Call{
		Ctx: x.Request.Context(), Account: cred.Principal.Account, Region: region, RequestID: x.RequestID,
		Principal: cred.Principal, Endpoint: "http://" + x.Request.Host, DB: o.DB, Now: x.Start.UTC(), Keys: conditionKeys(x),
	}
	x.Call.Principal.AccessKeyID = s.AccessKeyID
	x.Call.Authorize = func(action, resource string) error { return o.Authorize(x.Call, action, resource) }
	return nil
}

// conditionKeys are what policies may ask about the request as such.
func conditionKeys(x *Exchange) map[string][]string {
	r := x.Request
	keys := map[string][]string{
		"aws:requestedregion": {x.Signature.Region},
		"aws:securetransport": {strconv.FormatBool(r.TLS != nil)},
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		keys["aws:sourceip"] = []string{peer.Addr().Unmap().String()}
	}
	for key, header := range map[string]string{"aws:useragent": "User-Agent", "aws:referer": "Referer"} {
		if v := r.Header.Get(header); v != "" {
			keys[key] = []string{v}
		}
	}
	return keys
}

// authorize asks whether the caller may do the operation to what the request names.
func authorize(x *Exchange) error { return x.Gateway.opts.Permit(x.Call, x.Handler, x.In) }

func findHandler(x *Exchange) error {
	if x.Handler = x.Gateway.opts.Mux.Lookup(x.Service, x.Operation); x.Handler != nil {
		return nil
	}
	x.Gateway.opts.Log.Warn("an operation that is not served was asked for", "operation", x.name(), "request", x.RequestID)
	return x.unknownOperation()
}

func decode(x *Exchange) error {
	x.In = x.Handler.NewIn()
	var unknown []string
	var err error
	switch x.Protocol {
	case wire.CBOR:
		unknown, err = wire.DecodeCBOR(x.Body, x.In)
	case wire.JSON:
		unknown, err = wire.DecodeJSON(x.Body, x.In)
	default:
		skip := []string{"Action", "Version"}
		if x.Signature.Presigned {
			skip = append(skip, "X-Amz-*")
		}
		unknown, err = x.Form.Decode(x.In, skip...)
	}
	if err != nil {
		return x.badParameter(err)
	}
	if len(unknown) > 0 {
		return x.unknownParameters(unknown)
	}
	return nil
}

// dryRun ends a request that only asks whether it would be allowed.
func dryRun(x *Exchange) error {
	if f := reflect.ValueOf(x.In).Elem().FieldByName("DryRun"); f.IsValid() {
		if p, ok := f.Interface().(*bool); ok && api.Val(p) {
			return &refusal{status: http.StatusPreconditionFailed, code: "DryRunOperation", msg: "Request would have succeeded, but DryRun flag is set."}
		}
	}
	return nil
}

func handle(x *Exchange) (err error) {
	x.Out, err = x.Handler.Run(x.Call, x.In)
	return err
}

func encode(x *Exchange) error {
	switch x.Protocol {
	case wire.EC2:
		if f := reflect.ValueOf(x.Out).Elem().FieldByName("Return"); f.IsValid() && f.Type() == reflect.TypeFor[*bool]() && f.IsNil() {
			f.Set(reflect.ValueOf(api.Ptr(true))) // what succeeded returns true
		}
		x.Reply = wire.EncodeEC2(x.Service, x.Operation, x.RequestID, x.Out)
	case wire.Query:
		x.Reply = wire.EncodeQuery(x.Service, x.Operation, x.RequestID, x.Out)
	case wire.JSON:
		x.Reply = wire.EncodeJSON(x.Out)
	case wire.CBOR:
		x.Reply = wire.EncodeCBOR(x.Out)
	default:
		return fault.New(fault.Internal, "InternalError", "no encoder for protocol %s", x.Protocol)
	}
	return nil
}
