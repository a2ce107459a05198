package cloud

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopGrace is how long a process of the cloud may take to end after SIGTERM before it is killed.
const stopGrace = 10 * time.Second

// Status prints one screen about the cloud in dir.
func Status(ctx context.Context, dir string, w io.Writer) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	s, err := readSettings(abs)
	if err != nil {
		return err
	}
	state := "stopped (the workloads stay; 'skerry up' adopts them)"
	if c, err := net.DialTimeout("tcp", s.Listen, time.Second); err == nil {
		c.Close()
		state = "running"
	}
	fmt.Fprintf(w, "control plane  %s\napi            http://%s\ndata           %s (cloud %s)\npublic pool    %s\ndriver         %s\ntime scale     %d\n",
		state, s.Listen, abs, cloudID(abs), s.PublicPool, s.Driver, s.TimeScale)
	for kind, pids := range processes(abs) {
		fmt.Fprintf(w, "%-14s %d running\n", kind, len(pids))
	}
	return nil
}

// processes finds every process of the cloud by its data directory on the command line, grouped as ps shows them.
func processes(dataDir string) map[string][]int {
	out := map[string][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range dirs {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		var pid int
		fmt.Sscanf(p, "/proc/%d/", &pid)
		if pid == os.Getpid() || !has(args, dataDir) || len(args) < 2 {
			continue
		}
		switch name := filepath.Base(args[0]); {
		case name == "skerry-shim":
			out["instances"] = append(out["instances"], pid)
		case name == "skerry" && args[1] == "zone":
			out["zones"] = append(out["zones"], pid)
		case name == "skerry" && args[1] == "up":
			out["up"] = append(out["up"], pid)
		}
	}
	return out
}

func has(args []string, s string) bool {
	for i, a := range args {
		if a == "--data-dir="+s || a == s && i > 0 && args[i-1] == "--data-dir" {
			return true
		}
	}
	return false
}

// stopProcesses ends processes and waits for them: SIGTERM, then SIGKILL after the grace.
func stopProcesses(pids []int) {
	for _, p := range pids {
		syscall.Kill(p, syscall.SIGTERM)
	}
	deadline := time.Now().Add(stopGrace)
	for _, p := range pids {
		for alive(p) && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		if alive(p) {
			syscall.Kill(p, syscall.SIGKILL)
		}
	}
}

// Down stops everything of the cloud in dir and removes what it made on the machine. Repeating it is harmless.
func Down(ctx context.Context, dir string, purge bool) error {
	s, err := readSettings(dir)
	if err != nil {
		if purge && !fileExists(filepath.Join(dir, "state.db")) {
			return nil
		}
		return err
	}
	procs := processes(dir)
	stopProcesses(procs["up"])
	stopProcesses(procs["zones"])
	if err := tearDown(ctx, dir, s, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if purge {
		return os.RemoveAll(dir)
	}
	return nil
}
