// Package wire translates between api shapes and the bytes of AWS's protocols: ec2 query, query, JSON 1.0 and 1.1, and
// Smithy RPC v2 CBOR, with each one's error envelope.
//
// The codecs are walkers over Go types. What a type looks like on the wire is worked out once from its tags and kept as
// a plan; plans are immutable and shared by all goroutines. A decoder never panics, recurses no deeper than MaxDepth,
// and allocates no more than a fixed multiple of its input (MaxDecoded). A parameter that no shape has is reported to the
// caller, never dropped without a trace. Encoders append to memory and cannot fail.
//
// Less formally: bytes in, structs out, and back. You may not assume that decode and encode are inverse: AWS names a
// member differently in the two directions. The package knows no service, no HTTP and no domain; it imports the standard
// library, api and a CBOR parser. It owns no goroutine.
package wire
