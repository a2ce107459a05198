// Package tlsfront is the TLS side of a load balancer's listeners: security policies, the choice of a certificate, verification of
// clients, session tickets, and the handshake, after which the connection is left to the record layer.
//
// Vocabulary. A Server is what one listener's TLS is, compiled from a Config; it is immutable. A Handshake is one handshake in steps,
// for an event loop that must not wait: it runs crypto/tls as a coroutine of its caller, without a goroutine that is scheduled. A
// Session is its outcome. Facts are what is known about a handshake, also a failed one, for logs and headers.
//
// What nearly all clients say first is answered by a handshake of this package's own (quick.go), which costs half of crypto/tls's;
// everything else, before anything was answered, by crypto/tls.
//
// Guarantees.
//   - crypto/tls never reads past the handshake: what follows it is in Session.Rest, still sealed.
//   - A Session whose State is not nil needs crypto/tls no more. Others (TLS 1.0 and 1.1, CBC suites, resumed TLS 1.2) go on through Session.Conn.
//   - Tickets resume at every node that has the same TicketSecret and Scope, and at no other; their keys change every day.
//   - No name of a client's hello refuses a connection: what no certificate is for gets the default one.
//   - The secrets that crypto/tls logs for the record layer go nowhere else.
//
// The package opens no socket and starts no goroutine; who calls it bounds the number of handshakes and their time.
package tlsfront
