//go:build !linux

package proxy

import (
	"syscall"
	"time"
)

// setPatience has no counterpart on this system: a vanished target is found by the time limits alone.
func setPatience(syscall.RawConn, time.Duration) {}
