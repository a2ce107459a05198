// Package drivertest is the conformance suite of the driver interface: every driver, the simulated one too, passes it.
//
// It knows nothing of any driver: a Rig says how to make instances, how to lose the driver's process, and how to make an
// instance end. Tests alone import it.
package drivertest
