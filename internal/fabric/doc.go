// Package fabric is the network of one machine: it makes the kernel equal to a desired state of VPCs.
//
// Vocabulary. A VPC is a network namespace that routes. An interface is a veth pair between an instance's namespace (there
// it is eth0) and the VPC's; a node is an interface without an instance: an address that lives in the VPC's own
// namespace, for load balancers. Every public address has one transit address, out of 100.64.0.0/10, under which the host
// and the VPC's internet gateway (a veth pair between the VPC and the host) know it. A public pool outside of 127.0.0.0/8
// needs no such translation: its addresses are their own transit addresses.
//
// How a packet goes through a VPC. Instances are routed, never bridged, so that each packet passes these hooks of one
// nftables table (hook, priority, chain: what happens):
//
//	prerouting  -300 on_raw           an instance's source address must be its own; public addresses that it asks for become
//	                                  transit addresses; transit address of a node becomes the node's (all stateless)
//	prerouting  -150 on_egress        egress rules of the sending instance, against the address that it asked for
//	prerouting  -145 on_node_ingress  ingress rules of a node, before an NLB translates the address away
//	prerouting  -110                  NLB: node's address and port become a target's (a table of its own for each zone: see
//	                                  nlbtable.go)
//	prerouting  -100 on_dnat          transit address of an instance becomes its private one (only on the way in from the
//	                                  gateway); metadata and DNS go to the zone's listener
//	prerouting   -90                  NLB: flows' packets, bytes and resets are counted, here and in output
//	forward        0 on_forward       only who has a public address leaves by the gateway, only what was asked for comes in;
//	                                  an NLB's own egress rules against the target
//	output      -150 on_output        egress rules of a node
//	input        150 on_input         nodes; metadata, DNS and API listeners; nothing else
//	postrouting   90                  NLB that hides its clients: source becomes the node's
//	postrouting  100 on_snat          private address becomes the transit address on the way to the gateway
//	postrouting  150 on_ingress       ingress rules of the receiving instance, against the source that it will see
//	postrouting  300 on_last          a node's address becomes its transit address, transit addresses public ones for
//	                                  instances; whatever else would leave by the gateway with a private source is dropped
//
// The translation of node addresses is stateless because the kernel translates a destination once a connection, and that
// once belongs to the NLB. A packet to a public address, also of the own VPC, takes the way of any other: out by the
// gateway, to the host, and in by the gateway; so the other side sees a public source, as in AWS.
//
// On the host, a table of the cloud's own translates the pool to transit addresses for local clients, who appear in the
// VPC as the pool's first transit address (a security group rule that covers 127.0.0.1 means them). A front is a public
// address that no interface has: the same table sends each new connection to one of the addresses behind it. Only single transit
// addresses are routed there; what is not routed ends in an unreachable route, and what comes out of a gateway reaches
// other gateways and, with egress, the world, but never a socket of the host.
//
// Invariants. Apply is idempotent and level-triggered. A namespace has its table before its first link, and a link that
// the table does not know passes nothing. An update is one nftables transaction: no packet sees half of it. What is there is
// read from the kernel by name (names of everything on the host carry the cloud's id), so a new process continues where
// the old one ended; memory holds only what was last written, to write less, and losing it costs one full (still atomic)
// rewrite. Connections end with their address; a rule that is taken back stops new ones only, as in AWS.
//
// Probe asks interfaces by ARP whether somebody is there: what instances' status checks are made of.
//
// Goroutines: one for each namespace that DialIn is used with, on a thread inside it, which ends when it is not used for a
// while. All functions and methods are safe for concurrent use; calls for one VPC take turns.
//
// Limits. IPv4 only. A firewall of the machine that drops forwarded packets by default (Docker makes one) also drops
// packets between VPCs by public addresses and on the way out. Devices that become the default route after the first
// gateway was made are not made to forward.
//
// The package knows no AWS service and imports nothing of this module. Its tests run in a host of their own (see
// harness_test.go).
package fabric
