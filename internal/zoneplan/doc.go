// Package zoneplan builds what a zone's data plane should serve from the state: a pure, deterministic function of a
// snapshot, so that the control plane pushes only when the result's Version differs from what the zone has applied.
//
// It is the one place where the zone's protocol meets the domain: zone knows no records, and the records no zone process.
// There are no goroutines. It must not import api or anything that touches the host.
package zoneplan
