// Command skerry-guest is the init of the built-in image: it brings the machine up, runs user data, serves SSH, reaps what
// dies, and takes the machine down. Under other names it is poweroff, reboot, halt, shutdown, sudo and curl.
//
// One goroutine reaps (proc.go) and every child is started through it, so that no wait can take another's child away.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := dropRights(); err != nil {
		fmt.Fprintln(os.Stderr, "skerry-guest:", err)
		os.Exit(126)
	}
	switch name := filepath.Base(os.Args[0]); name {
	case "curl":
		os.Exit(curl(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	case "sudo":
		os.Exit(sudo(os.Args[1:], os.Stderr))
	case "poweroff", "reboot", "halt", "shutdown":
		os.Exit(power(name, os.Args[1:]))
	default:
		if os.Getpid() != 1 {
			fmt.Fprintln(os.Stderr, "skerry-guest: this is the init of an instance; as a program it is called poweroff, reboot, halt, shutdown, sudo or curl")
			os.Exit(2)
		}
		os.Exit(boot())
	}
}
