// Package driver is the port between the control plane and whatever runs instances.
//
// Invariants every driver keeps (drivertest checks them): Create, Start, Stop and Destroy are idempotent; Destroy of an
// absent instance succeeds and leaves nothing behind; an instance outlives the process that started it and is found
// again by List; at most one event queue exists a driver, and an event says "look again", never what to do, so a slow
// reader loses only duplicates.
//
// The package holds types only. It imports nothing of Skerry's but the standard library.
package driver
