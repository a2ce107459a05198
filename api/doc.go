// Package api is the wire contract's hand-written half: operations as typed values, the table that joins them to
// handlers, and the call that a handler receives. The shapes are generated, one package a service (api/ec2, …), by
// tools/awsgen from api/models and api/operations.txt.
//
// Invariants: a shape's optional scalars are pointers, here and only here; every member of a shape is present, so nothing
// that a client sends is dropped without a trace; an operation has at most one handler, and Handle panics on a second.
// A Mux is built at start, then read by any number of goroutines. The package owns no goroutine, and imports no codec,
// no domain package and no net/http.
package api

//go:generate go run -C ../tools/awsgen . -api ../../api
