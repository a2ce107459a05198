// Package demo builds the reference architecture on a running cloud with the AWS SDK for Go, drives load at it, breaks
// it, and shows what happens: a client like any other, that knows nothing of Skerry but its endpoint and, for the power
// switch of a zone, one function it is given.
//
//	build.go   the architecture: network, image, role, template, certificate, load balancers, group
//	load.go    requests at a rate, counted
//	watch.go   one look at the cloud through its API, as a Snapshot
//	story.go   the phases: grow, kill, zone off, zone on, shrink
//	view.go    a Snapshot as lines of text; live screen or plain lines
//
// Run owns all goroutines and returns when they have ended. Every wait is bounded.
package demo
