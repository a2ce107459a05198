// Package balance holds the records of Elastic Load Balancing and every rule about changing them: load balancers and
// their nodes, listeners, rules, target groups, targets, trust stores, and what each zone observed about each target's
// health.
//
// It decides and writes records; the zones' data planes carry the traffic and check the targets. Functions take the
// transaction, return *fault.Error with AWS's code and message, and change nothing when they return an error (the
// transaction is then dropped by its owner).
//
// Vocabulary. A node is a load balancer's presence in one enabled zone: a network interface that the service manages.
// A registration is a target in a target group; it drains after its deregistration and then vanishes (Sweep). An
// observation is one zone's opinion about one registration; a target's health is a pure function of registration,
// instance state, use of the group, and observations (TargetHealth).
//
// Invariants:
//   - a load balancer has one node for each of its zones, and each node has an interface of its own;
//   - a target group is used by one load balancer at most; its uses are derived from listeners and rules, never stored;
//   - a listener has exactly one default rule, which shows the listener's default actions;
//   - what a listener or rule holds, the proxy compiles: everything that it would refuse is refused here;
//   - a trust store that a listener verifies clients by exists;
//   - an observation exists only for a registration that exists and a zone that lives (ForgetZone).
//
// One writer per field: handlers write what users ask for; ApplyReport and ForgetZone write observations, nodes' Serving
// and the state active; Sweep ends draining. There are no goroutines. It must not import api, scaling, zone, or anything
// that touches the network.
package balance
