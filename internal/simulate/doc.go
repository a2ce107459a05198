// Package simulate plays an Auto Scaling group through a traffic trace in virtual time, with the code that a running cloud
// decides with: scaling.Decide, scaling.Propose, its forecasts, offers and scheduled actions, and
// metric.Judge. What is modelled is the world around it: how long machines take to boot and to go, how many requests they
// serve, and how long requests queue.
//
// Vocabulary. A Scenario is a group with one Candidate set of policies, a Trace of demand, and the service's properties. A
// step is one period of metrics, in which demand is constant. Run gives a Result with a Point for each step.
//
// The model of the service. An instance serves Workers requests at once, each for Service on average. Within a step the
// demand is Poisson and the queue is that of an M/M/c system, by Sakasegawa's approximation; demand beyond the capacity
// piles up in a queue that is served in order. A request that would wait longer than Patience finds no capacity: it is
// unserved. The metrics that alarms see are the utilisation of the instances, the requests per target and minute, and the
// bytes in and out of an instance and minute. An instance of weight n serves what n of weight 1 do.
//
// Equal scenarios give equal results: the only randomness is that of a seeded trace or of seeded failures. Nothing here
// does I/O but the readers and writers of input.go and plot.go, on what they are given. There are no goroutines.
package simulate
