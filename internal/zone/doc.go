// Package zone is a zone's data plane: the process that carries its load-balancer nodes, checks targets' health, and
// serves instance metadata and DNS. It is also that process's protocol with the control plane: the types Desired and
// Report, and the Client.
//
// Vocabulary. The desired state says what the zone should serve; the control plane pushes it whole, the process writes it
// to its file and then applies it. An observation is what one node of this zone knows about one target. A report is all
// observations and counters; the control plane pulls it, and a pull may wait for the next change.
//
// Guarantees. A desired state is in the process's file before it is acknowledged. A process that starts applies its file before it
// waits for anybody: killed with the control plane away, it serves what it served. Applying is level-triggered and
// idempotent; a part that can't be applied now is tried again and does not keep the other parts from it. What goes away
// from the desired state drains as its service does; nothing that stays is interrupted.
//
// Less formally: no packet and no metadata answer of a running workload ever waits for the control plane. You may not
// assume that a report reflects the last pushed state until its Applied says so.
//
//	desired.go report.go client.go  the protocol
//	process.go control.go           the process: file, socket, apply
//	imds*.go dns.go                 metadata and names, one listener a VPC
//	check.go machine.go checklog.go  health checks: the rim, the pure state machine, the log
//	node.go nlb.go nlbcount.go      load-balancer nodes, and what the kernel counts for network load balancers
//	nlbtunnel.go                    listeners of network load balancers that the kernel can't serve
//
// Run owns every goroutine and waits for them. The package must not import store or any domain package: it knows
// addresses, not records.
package zone
