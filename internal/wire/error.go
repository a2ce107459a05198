package wire

import (
	"strconv"

	"skerry/api"
)

// Protocol is one of the wire dialects.
type Protocol int

// The protocols.
const (
	EC2 Protocol = iota
	Query
	JSON
	CBOR
)

var protocolNames = [...]string{"ec2", "query", "json", "rpc-v2-cbor"}

// String returns the protocol's name, as a service's model gives it where it does.
func (p Protocol) String() string {
	if p < 0 || int(p) >= len(protocolNames) {
		return "Protocol(" + strconv.Itoa(int(p)) + ")"
	}
	return protocolNames[p]
}

// Failure is an error as a client gets it.
type Failure struct {
	Code      string // the code of the query dialects
	Shape     string // the shape's name, which JSON and CBOR clients know it by; empty: the code
	Namespace string // of the shape, for CBOR: com.amazonaws.cloudwatch
	Message   string
	Status    int
	RequestID string
}

// Sender tells whether the client is to blame.
func (f *Failure) Sender() bool { return f.Status < 500 }

// Side returns Sender or Receiver: who is to blame.
func (f *Failure) Side() string {
	if f.Sender() {
		return "Sender"
	}
	return "Receiver"
}

// Type returns the name that JSON and CBOR clients know the error by.
func (f *Failure) Type() string {
	if f.Shape != "" {
		return f.Shape
	}
	return f.Code
}

// EncodeError gives the protocol's error document. The service may be nil.
func EncodeError(p Protocol, svc *api.Service, f *Failure) []byte {
	var b []byte
	switch p {
	case EC2:
		b = append(b, xmlHeader+"<Response><Errors><Error><Code>"...)
		b = appendText(b, f.Code)
		b = append(b, "</Code><Message>"...)
		b = appendText(b, f.Message)
		b = append(b, "</Message></Error></Errors><RequestID>"...)
		b = appendText(b, f.RequestID)
		return append(b, "</RequestID></Response>"...)
	case Query:
		ns := ""
		if svc != nil && svc.XMLNamespace != "" {
			ns = ` xmlns="` + svc.XMLNamespace + `"`
		}
		b = append(b, "<ErrorResponse"+ns+"><Error><Type>"+f.Side()+"</Type><Code>"...)
		b = appendText(b, f.Code)
		b = append(b, "</Code><Message>"...)
		b = appendText(b, f.Message)
		b = append(b, "</Message></Error><RequestId>"...)
		b = appendText(b, f.RequestID)
		return append(b, "</RequestId></ErrorResponse>"...)
	case CBOR:
		name := f.Type()
		if f.Namespace != "" {
			name = f.Namespace + "#" + name
		}
		b = appendCBORHead(b, 5, 3)
		b = appendCBORText(b, "__type")
		b = appendCBORText(b, name)
		for _, member := range []string{"message", "Message"} { // some shapes have the one, some the other, and clients know their shape's only
			b = appendCBORText(b, member)
			b = appendCBORText(b, f.Message)
		}
		return b
	}
	b = append(b, `{"__type":`...)
	b = appendJSONString(b, f.Type())
	b = append(b, `,"message":`...)
	b = appendJSONString(b, f.Message)
	return append(b, '}')
}
