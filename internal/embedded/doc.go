// Package embedded carries the programs that instances need inside the one binary: the shim that runs a container, the
// guest that is init of the built-in image, and busybox.
//
// The files are made by tools/build-embedded.sh. The package compiles without them, and then each function says how to
// make them. It imports the standard library alone.
package embedded
