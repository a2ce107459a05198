// Package gateway is the front door: it takes HTTP requests in any of AWS's protocols and brings each to the handler of
// its operation. One port serves every service; the credential scope names service and region.
//
// A request is an Exchange that goes through Stages, in order, until one fails: that list is the whole story. Every
// reply, also a refusal, carries a request id and is logged in one line. What a handler returns as a fault goes to the
// client with its code and message; any other error, and a panic, is an InternalError whose text only the log has.
//
// Vocabulary: a dialect is a protocol's way to name things and to fail (EC2's AuthFailure is the other query services'
// InvalidClientTokenId). Invariants: nothing is decoded for a handler before the signature is proven; bodies, parameters
// and requests in flight are bounded; nothing that a client sends reaches a log unescaped.
//
// It owns no goroutine beyond those net/http gives it, and imports no endpoint and no domain package.
package gateway
