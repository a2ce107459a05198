package api

// Service describes a service to the gateway. Generated, and never changed at run time.
type Service struct {
	Name            string   // the package's name, and the service's part of an IAM action except for elbv2 and cloudwatch's own
	SigningName     string   // the service in a SigV4 credential scope
	Version         string   // the API version that query clients send
	Protocols       []string // as the model names them, the preferred one first
	XMLNamespace    string
	TargetPrefix    string // of X-Amz-Target, and the service in a Smithy path
	JSONVersion     string
	QueryCompatible bool // JSON and CBOR clients may ask for the query dialect's error codes
	Global          bool // one endpoint for all regions
	Operations      []OpInfo
	Errors          []ErrorShape
	Constraints     map[string]Constraint // by shape, as the wire tags name it: of the shapes that requests hold
}

// Constraint is what a shape's model allows: of a number its value, of anything else its length.
type Constraint struct {
	Min, Max  *float64
	Enum      []string
	Pattern   string // as the model writes it, for messages
	GoPattern string // the same in Go's syntax, matching the whole text
}

// OpInfo names an operation of the manifest, what its handler does if it does nothing, and those of its input's members that have no effect yet, by their Go
// names; a member of a member is written with a dot.
type OpInfo struct {
	Name  string
	Inert []string
	Note  string // "refused": the handler gives the reason; "empty": there are none of what it lists; else empty
}

// ErrorShape maps an error's shape (JSON and CBOR name it) to its code (query clients know it) and HTTP status.
type ErrorShape struct {
	Shape  string
	Code   string
	Status int
}

// Op is an operation with its input and output types.
type Op[In, Out any] struct {
	Service *Service
	Name    string
}

// Ptr returns a pointer to v: for the optional members of a shape.
func Ptr[T any](v T) *T { return &v }

// Val returns what p points to, or the zero value.
func Val[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
