// Package certificate holds imported certificates: their records, the checks that a chain and key fit, and what uses them.
//
// A certificate is kept as it was sent (PEM) with what was read out of it. Invariants: the private key belongs to the
// certificate; the chain verifies link by link; a certificate in use is not deleted. Functions take the transaction and
// change nothing when they return an error. There are no goroutines. It must not import api, net/http or balance: who uses
// a certificate is told by the caller.
package certificate
