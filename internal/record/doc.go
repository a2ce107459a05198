// Package record is the TLS record layer of a connection whose handshake is over: it opens and seals the records of TLS 1.3, and
// of TLS 1.2 with an AEAD suite. It does no I/O and starts nothing, so an event loop can carry TLS without a goroutine; Conn puts
// a net.Conn around it for the code that wants one.
//
// Vocabulary. A State is one connection's keys and sequence numbers, in both directions. A record is five bytes of header and what
// they announce. A control record carries no data of the application: an alert, a KeyUpdate.
//
// Guarantees.
//   - Nothing is believed of a record before its tag has been checked; after an error a State opens nothing more.
//   - Open and Seal allocate nothing, but for the buffers that they append to and the ciphers after Rest or a KeyUpdate.
//   - What a peer may send without saying anything (empty records, KeyUpdates, warnings) is counted and bounded.
//   - A KeyUpdate that the peer asks for goes out before the next data; keys are changed before the cipher's own limit.
//
// One goroutine may read (Next, Open) while another writes (Seal, SealAt, Alert); Rest needs both at rest.
//
// The package knows no certificate and no handshake: secrets come from outside.
package record
