// Package sigv4 verifies AWS Signature Version 4, in the Authorization header and in presigned query strings, and signs
// requests in their header.
//
// Verification is pure: a request, the secret and a time go in, an error comes out. Parse reads what the client claims
// (bounded, before any secret is looked up), Verify proves it. Every x-amz-* header and the host must be signed, the body
// is compared with its signed hash, the time must be near, and signatures are compared in constant time. Chunked
// (STREAMING-…) bodies and SigV4A are refused by name.
//
// An *Error carries a Reason, from which the gateway makes the code of the client's dialect, and AWS's message. The
// package imports only the standard library; it owns no goroutine.
package sigv4
