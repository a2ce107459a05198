package require

import (
	"syscall"
	"testing"
	"time"
)

// Spent is the processor time that the test's process has used while f ran: what a limit on work is held against, for time on
// the wall depends on who else uses the machine. Only a test that runs alone in its process can use it.
func Spent(t testing.TB, f func()) time.Duration {
	t.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}
