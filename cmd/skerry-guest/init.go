package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// guest is the running machine.
type guest struct {
	root    string // "" in an instance; a directory in tests
	started time.Time
	procs   procs
	md      *imds

	mu      sync.Mutex
	console io.Writer
	region  string
	keys    string // authorized keys from the metadata
}

func (g *guest) path(p string) string { return filepath.Join(g.root, p) }

// logf writes one line to the console in the form of a kernel and journal console: seconds since boot, program, text.
func (g *guest) logf(who, format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(g.console, "[%12.6f] %s: %s\r\n", time.Since(g.started).Seconds(), who, fmt.Sprintf(format, args...))
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// boot is the whole life of init.
func boot() int {
	debug.SetGCPercent(50)
	g := &guest{started: time.Now(), console: os.Stdout, md: newIMDS("http://169.254.169.254")}
	sigs := make(chan os.Signal, 16)
	children := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPWR, syscall.SIGUSR1, syscall.SIGUSR2, sigHalt, sigPowerOff, sigReboot)
	signal.Notify(children, syscall.SIGCHLD)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGPIPE) // dropped; children would inherit it if they were ignored
	os.Setenv("PATH", defaultPath)
	unix.Umask(0o022)
	if name := g.hostname(); name != "" {
		if err := unix.Sethostname([]byte(name)); err != nil {
			g.logf("init", "hostname %q: %v", name, err)
		}
	}
	var un unix.Utsname
	unix.Uname(&un)
	g.logf("init", "Skerry nano 1, %s on Linux %s", unix.ByteSliceToString(un.Nodename[:]), unix.ByteSliceToString(un.Release[:]))
	g.region = os.Getenv("AWS_DEFAULT_REGION")

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if l, err := net.Listen("tcp", ":22"); err != nil {
		g.logf("sshd", "%v", err)
	} else {
		go g.serveSSH(l) // ends with the process
	}
	go g.firstBoot(ctx) // ends by itself, or with the process
	for {
		select {
		case <-children:
			g.procs.reap()
		case s := <-sigs:
			cancel()
			switch s {
			case syscall.SIGINT, syscall.SIGTERM, sigReboot:
				return g.down(unix.LINUX_REBOOT_CMD_RESTART)
			default:
				return g.down(unix.LINUX_REBOOT_CMD_POWER_OFF)
			}
		}
	}
}

// environ is what user data and logins find in their environment.
func (g *guest) environ(home, user, shell string) []string {
	g.mu.Lock()
	region := g.region
	g.mu.Unlock()
	env := []string{"PATH=" + defaultPath, "HOME=" + home, "USER=" + user, "LOGNAME=" + user, "SHELL=" + shell}
	have := map[string]bool{"PATH": true, "HOME": true, "USER": true, "LOGNAME": true, "SHELL": true, "TERM": true, "AWS_DEFAULT_REGION": true}
	if region != "" {
		env = append(env, "AWS_DEFAULT_REGION="+region)
	}
	if os.Getenv("AWS_ENDPOINT_URL") == "" {
		env = append(env, "AWS_ENDPOINT_URL="+apiURL)
	}
	for _, kv := range os.Environ() { // what the instance was started with
		if k, _, _ := strings.Cut(kv, "="); !have[k] {
			env = append(env, kv)
		}
	}
	return env
}

// apiURL is where the cloud's API answers inside of every VPC.
const apiURL = "http://api.skerry.internal:4566"
