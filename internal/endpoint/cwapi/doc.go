// Package cwapi joins CloudWatch's wire contract to the package metric: a function an operation, under AWS's name. It
// decides nothing, and owns no goroutine.
package cwapi
