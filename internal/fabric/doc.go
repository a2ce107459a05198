// Package fabric is the network of one machine: it makes the kernel equal to a desired state of VPCs.
//
// Vocabulary. A VPC is a network namespace that routes. An interface is a veth pair between an instance's namespace (there
// it is eth0) and the VPC's; a node is an interface without an instance: an address that lives in the VPC's own
// namespace, for load balancers. Every public address has one transit address out of 100.64.0.0/10, under which the host
// and the VPC's internet gateway (a veth pair between the VPC and the host) know it.
//
// How a packet goes through a VPC. Instances are routed, never bridged, so that each packet passes these hooks of one
// nftables table (hook, priority: what happens):
//
//	prerouting  -300  source address must be the interface's own; transit address of a node becomes the node's (stateless)
//	prerouting  -150  egress rules of the sending instance, against the address that it asked for
//	prerouting  -145  ingress rules of a node, before an NLB translates the address away
//	prerouting  -110  NLB: node address and port become a target's           (a table of its own for each zone)
//	prerouting  -100  metadata and DNS to the zone's listener; public address becomes private
//	forward        0  only a public address leaves by the gateway; an NLB's own egress rules against the target
//	output      -150  egress rules of a node
//	input        150  ingress rules of a node; metadata, DNS and API listeners
//	postrouting   90  NLB that hides its clients: source becomes the node's
//	postrouting  100  private address becomes public on the way to the gateway
//	postrouting  150  ingress rules of the receiving instance, against the source that it will see
//	postrouting  300  a node's address becomes its transit address (stateless)
//
// The translation of node addresses is stateless because the kernel translates a destination once a connection, and that
// once belongs to the NLB.
//
// Invariants. Apply is idempotent and level-triggered; the rules of an interface are in place before its link. An update is
// one nftables transaction: no packet sees half of it. What is there is read from the kernel by name (names of
// everything carry the cloud's id), so a new process continues where the old one ended; memory holds only what was last
// written, to write less, and losing it costs one full (still atomic) rewrite. On the host nothing is routed but single
// transit addresses; what is not routed is dropped, never forwarded to a real network by accident.
//
// There are no goroutines of its own. All methods of Fabric are safe for concurrent use; calls for one VPC take turns.
//
// The package knows no AWS service and imports nothing of this module.
package fabric
