// Package sim is the driver without instances: records that pass through the same states as real ones, on the clock it is
// given. It is for machines without root, for tests of the control plane, and for nothing else.
//
// Nothing runs by itself and there are no goroutines: every state changes inside a call. Safe for concurrent use.
// It imports nothing of Skerry's but the driver interface.
package sim
