// Package iamapi joins IAM's wire contract to the package identity: a function an operation, under AWS's name. It decides
// nothing, and owns no goroutine. IAM is one for all regions, so a call's region does not matter here.
package iamapi
