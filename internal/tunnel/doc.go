// Package tunnel is the user-space part of a network load balancer's node: it carries the connections that must be looked into,
// TLS listeners and TCP listeners whose targets want PROXY protocol headers. All others stay in the kernel.
//
// Vocabulary. A flow is one client connection with its connection to one target, which it keeps for life. A Config says everything
// that a node serves; Apply makes it count for new flows.
//
// Guarantees.
//   - A flow goes to the target group and target that its addresses choose, or its client's address alone where the group is sticky.
//   - An end of one side is passed on as what it was: a close as a close, a reset as a reset. A flow whose target was lost, or that was
//     idle for too long, is reset on both sides.
//   - Apply ends no flow, but those to targets that the group's attributes say must end; it changes nothing if it returns an error.
//   - Plain flows are moved by the kernel (splice); the others take buffers only while bytes are on their way.
//   - Flows are bounded in number, handshakes and connects in time.
//
// A Tunnel owns its goroutines: one a listener, two a flow, one for time limits. Shutdown waits for them.
package tunnel
