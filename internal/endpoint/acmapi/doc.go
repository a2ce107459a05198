// Package acmapi joins ACM's wire contract to the package certificate: a function an operation, under AWS's name. It decides
// nothing, and owns no goroutine.
package acmapi
