//go:build !cgo

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "skerry-shim: built without cgo; build it with CGO_ENABLED=1 -tags seccomp, as tools/build-embedded.sh does")
	os.Exit(2)
}
