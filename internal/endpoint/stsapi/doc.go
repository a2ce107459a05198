// Package stsapi joins STS's wire contract to the package identity: a function an operation, under AWS's name. It decides
// nothing, and owns no goroutine.
package stsapi
