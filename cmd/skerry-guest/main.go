// Command skerry-guest is the init of the built-in image: it brings the machine up, runs user data, serves SSH, reaps what
// dies, and takes the machine down. Under other names it is poweroff, reboot, halt, shutdown and curl.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	default:
		fmt.Println("hello", name)
	}
}
