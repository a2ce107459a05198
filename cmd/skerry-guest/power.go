package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Signals that init takes, by glibc's numbers where they are real-time ones (SIGRTMIN is 34), as systemd has them. It also
// takes those that busybox's shell sends, which has poweroff (SIGUSR2), halt (SIGUSR1) and reboot (SIGTERM) built in;
// SIGPWR is what the shim sends, SIGINT stands for ctrl-alt-del.
const (
	sigHalt     = syscall.Signal(34 + 3)
	sigPowerOff = syscall.Signal(34 + 4)
	sigReboot   = syscall.Signal(34 + 5)
)

// How long what runs may take to end after SIGTERM, and after SIGKILL.
const (
	termGrace = 5 * time.Second
	killGrace = 2 * time.Second
)

// power is the programs poweroff, reboot, halt and shutdown: it asks init, or with -f the kernel.
func power(name string, args []string) int {
	sig, cmd := sigPowerOff, unix.LINUX_REBOOT_CMD_POWER_OFF
	if name == "reboot" {
		sig, cmd = sigReboot, unix.LINUX_REBOOT_CMD_RESTART
	}
	force := false
	for _, a := range args {
		switch {
		case a == "-f" || a == "--force":
			force = true
		case name == "shutdown" && a == "-r":
			sig, cmd = sigReboot, unix.LINUX_REBOOT_CMD_RESTART
		case name == "shutdown" && (a == "-h" || a == "-P" || a == "now" || a == "+0"):
		default:
			fmt.Fprintf(os.Stderr, "%s: %s is not supported here; use -f, and for shutdown -h, -P, -r, now\n", name, a)
			return 2
		}
	}
	var err error
	if force {
		err = unix.Reboot(cmd)
	} else {
		err = unix.Kill(1, sig)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// down ends everything and then the machine. It does not return unless the kernel refuses.
func (g *guest) down(cmd int) int {
	word := "power-off"
	if cmd == unix.LINUX_REBOOT_CMD_RESTART {
		word = "reboot"
	}
	g.logf("init", "the system goes down for %s", word)
	unix.Kill(-1, unix.SIGTERM) // everybody but init
	unix.Kill(-1, unix.SIGCONT)
	if !g.procs.alone(termGrace) {
		unix.Kill(-1, unix.SIGKILL)
		g.procs.alone(killGrace)
	}
	if f, err := os.Open(g.path("/")); err == nil {
		unix.Syncfs(int(f.Fd())) // sync would wait for the whole host
		f.Close()
	}
	if err := unix.Reboot(cmd); err != nil {
		g.logf("init", "%s: %v", word, err)
	}
	return 0
}
