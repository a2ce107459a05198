package gateway

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"skerry/api"
	"skerry/internal/fault"
	"skerry/internal/sigv4"
	"skerry/internal/wire"
)

// refusal is an error of the gateway itself, before or around a handler.
type refusal struct {
	status  int
	code    string
	msg     string
	cause   error
	unknown bool // what was asked for is not served
}

func (e *refusal) Error() string {
	if e.cause != nil {
		return e.code + ": " + e.msg + ": " + e.cause.Error()
	}
	return e.code + ": " + e.msg
}

func (e *refusal) Unwrap() error { return e.cause }

func (e *refusal) because(err error) *refusal {
	c := *e
	c.cause = err
	return &c
}

var (
	errPanic           = &refusal{status: http.StatusInternalServerError, code: "InternalError", msg: "An internal error has occurred"}
	errTooLarge        = &refusal{status: http.StatusRequestEntityTooLarge, code: "RequestEntityTooLarge", msg: "The request is larger than " + strconv.Itoa(MaxBody) + " bytes."}
	errMalformed       = &refusal{status: http.StatusBadRequest, code: "MalformedQueryString", msg: "The request is malformed."}
	errUnknownPath     = &refusal{status: http.StatusNotFound, code: "UnknownOperationException", msg: "The path of the request leads to no operation."}
	errUnknownProtocol = &refusal{status: http.StatusUnsupportedMediaType, code: "UnsupportedMediaType", msg: "The request's protocol is not known: send a form, an X-Amz-Target header, or Smithy RPC v2 CBOR."}
)

// KeyError is an access key that does not count. Msg, if set, replaces AWS's text.
type KeyError struct {
	Expired bool
	Msg     string
}

func (e *KeyError) Error() string {
	switch {
	case e.Msg != "":
		return e.Msg
	case e.Expired:
		return "The security token included in the request is expired"
	}
	return "The security token included in the request is invalid."
}

func strconvQuote(s string) string {
	if len(s) > 80 {
		s = s[:80]
	}
	return strconv.Quote(s)
}

// dialect picks a code by the exchange's protocol.
func (x *Exchange) dialect(ec2, query, json string) string {
	switch x.Protocol {
	case wire.EC2:
		return ec2
	case wire.Query:
		return query
	}
	return json
}

// busy refuses a request beyond MaxInFlight, so that clients come again.
func (x *Exchange) busy() error {
	if x.Protocol == wire.EC2 {
		return &refusal{status: http.StatusServiceUnavailable, code: "RequestLimitExceeded", msg: "Request limit exceeded."}
	}
	return &refusal{status: http.StatusBadRequest, code: x.dialect("", "Throttling", "ThrottlingException"), msg: "Rate exceeded"}
}

func (x *Exchange) unknownOperation() error {
	e := &refusal{status: http.StatusBadRequest, unknown: true}
	e.code = x.dialect("UnsupportedOperation", "InvalidAction", "UnknownOperationException")
	e.msg = "The operation " + x.Operation + " of " + x.Service.Name + " is not served."
	return e
}

// unknownParameters refuses what EC2 refuses too. The other services ignore what they do not know; here the log says so.
func (x *Exchange) unknownParameters(names []string) error {
	slices.Sort(names)
	if x.Protocol == wire.EC2 {
		return fault.New(fault.Invalid, "UnknownParameter", "The parameter %s is not recognized", names[0])
	}
	x.Gateway.opts.Log.Warn("parameters that no shape has were ignored", "operation", x.name(), "request", x.RequestID, "parameters", strings.Join(names[:min(len(names), 20)], " "))
	return nil
}

func (x *Exchange) badParameter(err error) error {
	var pe *wire.ParamError
	if !errors.As(err, &pe) {
		return &refusal{status: 400, code: x.dialect("MalformedQueryString", "MalformedQueryString", "SerializationException"), msg: "The request is malformed.", cause: err}
	}
	switch x.Protocol {
	case wire.EC2:
		return fault.New(fault.Invalid, "InvalidParameterValue", "Invalid value '%s' for %s. Expected: %s", pe.Value, pe.Path, pe.Want)
	case wire.Query:
		return fault.New(fault.Invalid, "MalformedInput", "%s", pe.Error())
	}
	return fault.New(fault.Invalid, "SerializationException", "%s", pe.Error())
}

// failure gives an error the form that the client's dialect has for it.
func (x *Exchange) failure(err error) *wire.Failure {
	f := &wire.Failure{RequestID: x.RequestID}
	var sig *sigv4.Error
	var key *KeyError
	var ref *refusal
	switch {
	case errors.As(err, &ref):
		f.Code, f.Message, f.Status = ref.code, ref.msg, ref.status
	case errors.As(err, &sig):
		x.signatureFailure(f, sig)
	case errors.As(err, &key):
		x.keyFailure(f, key)
	default:
		x.faultFailure(f, err)
	}
	x.shape(f)
	return f
}

func (x *Exchange) signatureFailure(f *wire.Failure, e *sigv4.Error) {
	f.Message, f.Status = e.Msg, x.authStatus()
	switch e.Reason {
	case sigv4.Missing:
		f.Code = x.dialect("MissingAuthenticationToken", "MissingAuthenticationToken", "MissingAuthenticationTokenException")
		if x.Protocol == wire.EC2 {
			f.Status = http.StatusForbidden
		}
	case sigv4.Incomplete:
		f.Code, f.Status = x.dialect("IncompleteSignature", "IncompleteSignature", "IncompleteSignatureException"), http.StatusBadRequest
	case sigv4.Expired:
		f.Code = x.dialect("RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException")
		if x.Protocol == wire.EC2 {
			f.Status, f.Message = http.StatusBadRequest, "Request has expired. "+e.Msg
		}
	default:
		f.Code = x.dialect("AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException")
	}
}

func (x *Exchange) keyFailure(f *wire.Failure, e *KeyError) {
	f.Message, f.Status = e.Error(), x.authStatus()
	if e.Expired {
		f.Code = x.dialect("RequestExpired", "ExpiredToken", "ExpiredTokenException")
		if x.Protocol == wire.EC2 {
			f.Status = http.StatusBadRequest
		}
		return
	}
	f.Code = x.dialect("AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException")
	if x.Protocol == wire.EC2 && e.Msg == "" {
		f.Message = "AWS was not able to validate the provided access credentials"
	}
}

func (x *Exchange) authStatus() int {
	switch x.Protocol {
	case wire.EC2:
		return http.StatusUnauthorized
	case wire.Query:
		return http.StatusForbidden
	}
	return http.StatusBadRequest
}

// kindStatus is the HTTP status of a kind of fault where the service's model has none for its code.
var kindStatus = map[fault.Kind]int{
	fault.Internal: 500, fault.Invalid: 400, fault.NotFound: 400, fault.Exists: 400, fault.Conflict: 400, fault.State: 400,
	fault.Denied: 403, fault.Limit: 400, fault.Capacity: 500, fault.Unavailable: 503, fault.Unsupported: 400,
}

// codeStatus holds the codes whose status does not follow from their kind.
var codeStatus = map[string]int{
	"AuthFailure": 401, "UnauthorizedOperation": 403, "DryRunOperation": 412, "RequestLimitExceeded": 503,
}

func (x *Exchange) faultFailure(f *wire.Failure, err error) {
	e, ok := fault.As(err)
	if !ok || e.Kind == fault.Internal {
		f.Code = x.dialect("InternalError", "InternalFailure", "InternalFailure")
		f.Message, f.Status = "An internal error has occurred", http.StatusInternalServerError
		return
	}
	if e.Kind == fault.Denied && (e.Code == "InvalidClientTokenId" || e.Code == "ExpiredToken") { // of a key that was looked up
		x.keyFailure(f, &KeyError{Expired: e.Code == "ExpiredToken"})
		return
	}
	f.Code, f.Message, f.Status = e.Code, e.Msg, kindStatus[e.Kind]
	if s := codeStatus[e.Code]; s != 0 {
		f.Status = s
	}
	switch e.Code {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		f.Code = x.dialect("UnauthorizedOperation", "AccessDenied", "AccessDeniedException")
		f.Status = http.StatusForbidden
		if x.Protocol == wire.JSON || x.Protocol == wire.CBOR {
			f.Status = http.StatusBadRequest
		}
		if x.Protocol == wire.EC2 && !strings.HasPrefix(f.Message, "You are not authorized") {
			f.Message = "You are not authorized to perform this operation. " + f.Message
		}
	case "Unavailable":
		f.Code = x.dialect("Unavailable", "ServiceUnavailable", "ServiceUnavailable")
	}
}

// shape looks the code up in the service's model: for the name that JSON and CBOR clients know, and the HTTP status.
func (x *Exchange) shape(f *wire.Failure) {
	if x.Service == nil {
		return
	}
	if x.Protocol == wire.CBOR {
		f.Namespace = "com.amazonaws." + x.Service.Name
	}
	i := slices.IndexFunc(x.Service.Errors, func(e api.ErrorShape) bool { return e.Shape == f.Code })
	if i < 0 {
		i = slices.IndexFunc(x.Service.Errors, func(e api.ErrorShape) bool { return e.Code == f.Code })
	}
	if i >= 0 {
		e := x.Service.Errors[i]
		f.Code, f.Shape, f.Status = e.Code, e.Shape, e.Status
	}
}

func contentType(p wire.Protocol, s *api.Service) string {
	switch p {
	case wire.CBOR:
		return "application/cbor"
	case wire.JSON:
		if s != nil && s.JSONVersion != "" {
			return "application/x-amz-json-" + s.JSONVersion
		}
		return "application/x-amz-json-1.1"
	case wire.EC2:
		return "text/xml;charset=UTF-8"
	}
	return "text/xml"
}

func (x *Exchange) head(w http.ResponseWriter) {
	h := w.Header()
	h.Set("x-amzn-RequestId", x.RequestID)
	h.Set("Content-Type", contentType(x.Protocol, x.Service))
	h.Set("Content-Length", strconv.Itoa(len(x.Reply)))
	if x.Protocol == wire.CBOR {
		h.Set("smithy-protocol", "rpc-v2-cbor")
	}
}

func (x *Exchange) succeed(w http.ResponseWriter) {
	x.head(w)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(x.Reply) // a client that has gone is no error of ours
}

func (x *Exchange) fail(w http.ResponseWriter, f *wire.Failure) {
	x.Reply = wire.EncodeError(x.Protocol, x.Service, f)
	x.head(w)
	if x.Protocol == wire.JSON || x.Protocol == wire.CBOR {
		w.Header().Set("x-amzn-ErrorType", f.Type())
		if x.Service != nil && x.Service.QueryCompatible {
			w.Header().Set("x-amzn-query-error", f.Code+";"+f.Side())
		}
	}
	w.WriteHeader(f.Status)
	_, _ = w.Write(x.Reply)
}
