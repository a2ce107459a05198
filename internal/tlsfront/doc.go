// Package tlsfront is the TLS side of a load balancer's listeners: security policies, the choice of a certificate, verification of
// clients, session tickets, and the handshake, after which the connection is left to the record layer.
//
// Vocabulary. A Server is what one listener's TLS is, compiled from a Config; it is immutable. A Handshake is one handshake in steps,
// for an event loop that must not wait: where crypto/tls does it, as a coroutine of the caller that no scheduler sees. A
// Session is its outcome. Facts are what is known about a handshake, also a failed one, for logs and headers.
//
// What nearly all clients say first is answered by a handshake of this package's own (quick.go), which costs half of crypto/tls's;
// everything else, before anything was answered, by crypto/tls.
//
// Guarantees.
//   - crypto/tls never reads past the handshake: what follows it is in Session.Rest, still sealed.
//   - A Session whose State is not nil needs crypto/tls no more. Others (TLS 1.0 and 1.1, CBC suites) go on through Session.Conn.
//   - Tickets resume at every node that has the same TicketSecret and Scope, and at no other; their keys change every day.
//   - No name of a client's hello refuses a connection: what no certificate is for gets the default one.
//   - The secrets that crypto/tls logs for the record layer go nowhere else.
//   - Handshakes in flight are bounded in number, and hold nothing before the client's first byte.
//
// An RSA key of 3072 bits or more takes milliseconds to sign: a Handshake with an Away leaves that to it.
//
// The package opens no socket and starts no goroutine; who calls it bounds their time.
package tlsfront
