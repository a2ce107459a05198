// Package live joins scaling's ports to the packages that serve them in a running cloud: compute, balance and metric.
//
// Every function works inside the caller's transaction and keeps nothing, so the values are safe for concurrent use. There
// are no goroutines. It must not import api, net/http, encoding/xml or os/exec.
package live
