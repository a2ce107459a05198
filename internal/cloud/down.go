package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"skerry/internal/store"
)

// DefaultDataDir is where a cloud keeps everything unless told otherwise.
const DefaultDataDir = "/var/lib/skerry"

// stopGrace is how long a process of the cloud may take to end after SIGTERM before it is killed.
const stopGrace = 10 * time.Second

// processes finds every process of the cloud by its data directory on the command line, grouped as ps shows them:
// "up", "zones", "instances".
func processes(dataDir string) map[string][]int {
	out := map[string][]int{}
	want := resolve(dataDir)
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range dirs {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		var pid int
		fmt.Sscanf(p, "/proc/%d/", &pid)
		if pid == os.Getpid() || len(args) < 2 {
			continue
		}
		kind := map[string]string{"up": "up", "zone": "zones"}[args[1]]
		if filepath.Base(args[0]) == "skerry-shim" {
			kind = "instances"
		}
		if kind == "" {
			continue
		}
		dir, named := dirOf(args)
		if !named && (kind != "up" || !strings.HasPrefix(filepath.Base(args[0]), "skerry")) { // other programs have an "up" as well
			continue
		}
		if !filepath.IsAbs(dir) {
			cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
			if err != nil {
				continue
			}
			dir = filepath.Join(cwd, dir)
		}
		if resolve(dir) == want {
			out[kind] = append(out[kind], pid)
		}
	}
	return out
}

// dirOf is the data directory that a command line names, or the default.
func dirOf(args []string) (dir string, named bool) {
	for i, a := range args {
		if d, ok := strings.CutPrefix(a, "--data-dir="); ok {
			return d, true
		}
		if a == "--data-dir" && i+1 < len(args) {
			return args[i+1], true
		}
	}
	return DefaultDataDir, false
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

// Down stops everything of the cloud in dir and removes what it made on the machine. Repeating it is harmless. What it
// has to say goes to w.
func Down(ctx context.Context, dir string, purge bool, w io.Writer) error {
	s, err := readSettings(dir)
	if err != nil {
		remains := len(processes(dir)) > 0 || fileExists(runDir(cloudID(dir)))
		switch {
		case remains || purge && !errors.Is(err, errNoCloud) || purge && fileExists(filepath.Join(dir, store.FileName)):
			s = settings{Driver: "container", HostsFile: true} // whatever it was, nothing may be left of it
		case purge:
			fmt.Fprintf(w, "there is no cloud in %s\n", dir)
			return nil
		default:
			return err
		}
	}
	if s.Driver != "sim" && os.Geteuid() != 0 {
		return errors.New("taking a cloud down needs root, as starting it did: run 'skerry down' as root (sudo)")
	}
	procs := processes(dir)
	stopProcesses(procs["up"])
	if err := store.Check(dir); errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("another process holds %s, so nothing was taken down; stop it first", filepath.Join(dir, store.FileName))
	}
	stopProcesses(procs["zones"])
	if err := tearDown(ctx, dir, s, slog.New(slog.DiscardHandler)); err != nil {
		return fmt.Errorf("not everything could be removed; run 'skerry down' again: %w", err)
	}
	if purge || !fileExists(filepath.Join(dir, store.FileName)) { // without state there is nothing to come back to
		return removeDir(dir, w)
	}
	return nil
}

// ours are the names of a cloud in its data directory.
var ours = []string{"bin", consolesDir, "images", "instances", "metrics", "zones", controlSocket, settingsFile, settingsFile + ".new", secretFile, secretFile + ".new", "s3", store.FileName, LogFile, LogFile + ".1"}

// removeDir deletes the cloud in dir, and dir itself if nothing of somebody else's is in it.
func removeDir(dir string, w io.Writer) error {
	es, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the data directory can't be removed: %w", err)
	}
	var errs []error
	var foreign []string
	for _, e := range es {
		if slices.Contains(ours, e.Name()) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		} else {
			foreign = append(foreign, e.Name())
		}
	}
	if len(foreign) > 0 {
		fmt.Fprintf(w, "%s stays, for it holds what is not the cloud's: %s\n", dir, strings.Join(foreign[:min(len(foreign), 5)], ", "))
	} else if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.EBUSY) { // a mount point stays, empty
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
