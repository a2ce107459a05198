//go:build cgo

package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"skerry/internal/shim"

	_ "github.com/opencontainers/cgroups/devices"
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter"
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
}

func main() {
	dataDir := flag.String("data-dir", "", "the cloud's data directory")
	id := flag.String("instance", "", "the instance's id")
	flag.Parse()
	if *dataDir == "" || *id == "" {
		fmt.Fprintln(os.Stderr, "skerry-shim: --data-dir and --instance are required; skerry starts this program itself")
		os.Exit(2)
	}
	// A shim ends with its instance and by nothing less than SIGKILL.
	// Caught and dropped, not ignored: what is ignored stays so in the container's init.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	debug.SetGCPercent(40)
	if err := run(shim.InstanceDir(*dataDir, *id)); err != nil {
		ready(err)
		fmt.Fprintln(os.Stderr, "skerry-shim:", err)
		os.Exit(1)
	}
}

// ready answers the starter, once. The starter may be gone already.
func ready(err error) {
	f := os.NewFile(shim.ReadyFD, "ready")
	if f == nil || readyDone {
		return
	}
	readyDone = true
	if err != nil {
		fmt.Fprintln(f, err)
	} else {
		fmt.Fprintln(f, "ok")
	}
	f.Close()
}

var readyDone bool
