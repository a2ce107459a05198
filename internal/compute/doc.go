// Package compute holds instances and what they are launched from: images, key pairs, launch templates, instance types.
//
// It decides and writes records; the control plane's loop makes them real with a driver and reports back through the Mark
// functions. An instance goes
//
//	Launch -> pending -> MarkRunning -> running -> Stop -> stopping -> MarkStopped -> stopped -> Start -> pending ...
//	any of them -> Terminate -> shutting-down -> MarkTerminated -> terminated -> (an hour) -> Sweep
//
// and MarkFailed ends a launch as terminated and a start as stopped, with a state reason. Functions take the transaction
// and change nothing when they return an error (its owner drops it).
//
// Invariants:
//   - a state changes through this package only, along the edges above; Mark functions on a state that does not expect
//     them do nothing and say so, so a reconciler may repeat them;
//   - a live instance has its primary interface; a terminated one holds no interface, address or volume that was to go;
//   - PublicIP, PrivateIP and SecurityGroupIDs repeat the primary interface's values: whoever changes that interface
//     calls Refresh in the same transaction;
//   - Index is unique among the records of the whole cloud;
//   - the same client token and parameters give the same reservation.
//
// A launch template is kept as the JSON document of its request (every member, also those that have no effect) beside the
// parsed LaunchSpec, whose JSON names are the API's.
//
// It starts no goroutines. It must not import api, net/http, os/exec, or anything that touches the host.
package compute
