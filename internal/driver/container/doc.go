// Package container runs instances as containers: a user namespace each, an overlay of the image's layers as root file
// system, a network namespace that the fabric plugs eth0 into, and one shim process (cmd/skerry-shim) that owns the
// container and outlives the control plane.
//
//	DATA/bin/skerry-shim-SUM            the shim, written from the binary
//	DATA/instances/ID/spec.json         the Spec: an instance exists when this file does
//	DATA/instances/ID/fs/{upper,work}   what the instance wrote
//	DATA/instances/ID/…                 the shim's files, see package shim
//	/run/skerry-CLOUD/instances/ID/     mount points: root, user, net, lower-N; gone after a reboot of the host
//	CGROUP/skerry-CLOUD/ID              in every hierarchy; CGROUP/skerry-CLOUD/shims holds the shims. Where the controllers
//	                                    are v1, the group in cgroup2 is there for its cpu.pressure alone (see waitMeter)
//
// Invariants: every step looks at what is there and does what is missing, so each call can be repeated after a crash at
// any point; Destroy removes spec.json last, so that what is half removed is found again. Mount points are under /run,
// because the container's root must be able to reach them whatever the permissions above the data directory are.
//
// Goroutines: one watcher for each running shim, owned by the Driver and ended by Close. The package is pure Go and must
// not import libcontainer.
package container
