// Package asgapi serves the Auto Scaling API, version 2011-01-01: one small function an operation, which reads the
// request's shape, calls the transition in scaling, and writes the answer's shape.
//
// Invariants: a handler changes state in one transaction or not at all; what is answered is what was sent, with AWS's
// defaults for what was left out; what isn't there is refused by its name. The package starts no goroutine.
package asgapi
