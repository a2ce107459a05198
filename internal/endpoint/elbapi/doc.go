// Package elbapi serves the operations of Elastic Load Balancing v2: each handler reads its input, calls the domain
// (balance, tag) in one transaction, and turns records into wire shapes. What is checked here is the request's form; every
// rule about load balancers is balance's.
//
// The objects that trust stores are made of come from a folder that stands for S3 (bucket); Contents gives out again what was
// taken over. testdata/wire holds conversations of every operation, byte for byte.
//
// Errors are those of the operation's model. Some of it never come, because their cases don't: trust stores and capacity
// reservations are ready at once (TrustStoreNotReady, CapacityReservationPending, PriorRequestNotComplete, InsufficientCapacity), every zone has
// load balancers (AvailabilityZoneNotSupported), health is always known (HealthUnavailable), and the validation of the
// request refuses a scheme before anybody else does (InvalidScheme).
//
// Handlers run on the request's goroutine; the package owns none. A parameter that has no effect is stored and returned,
// one that can't be honoured is refused by name.
package elbapi
