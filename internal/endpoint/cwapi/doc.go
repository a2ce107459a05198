// Package cwapi joins CloudWatch's wire contract to the package metric: a function an operation, under AWS's name. It
// decides nothing, and owns no goroutine.
//
// At a time scale above 1 a minute of an alarm is seconds long, so what clients publish is kept a second apart there,
// whatever its StorageResolution says; else an alarm would see one datapoint in many periods.
package cwapi
