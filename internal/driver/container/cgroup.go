package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupFS knows where the hierarchies of this machine are mounted.
type cgroupFS struct {
	unified string            // cgroup2, "" when there is none
	v1      map[string]string // controller → mount point; empty on a pure v2 machine
}

func (c cgroupFS) v2() bool { return len(c.v1) == 0 }

func findCgroups() (cgroupFS, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroupFS{}, err
	}
	return parseCgroups(string(b))
}

// parseCgroups reads the table of mounts in the form of /proc/self/mountinfo.
func parseCgroups(mounts string) (cgroupFS, error) {
	c := cgroupFS{v1: map[string]string{}}
	for line := range strings.Lines(mounts) {
		left, right, ok := strings.Cut(line, " - ")
		lf, rf := strings.Fields(left), strings.Fields(right)
		if !ok || len(lf) < 5 || len(rf) < 3 || !strings.HasPrefix(lf[4], "/sys/fs/cgroup") {
			continue
		}
		switch rf[0] {
		case "cgroup2":
			c.unified = lf[4]
		case "cgroup":
			for _, o := range strings.Split(rf[2], ",") {
				switch o {
				case "rw", "ro", "xattr", "noprefix", "clone_children":
				default:
					if !strings.Contains(o, "=") || o == "name=systemd" {
						c.v1[o] = lf[4]
					}
				}
			}
		}
	}
	if c.unified == "" && len(c.v1) == 0 {
		return c, errors.New("no cgroups are mounted under /sys/fs/cgroup; mount cgroup2 there")
	}
	return c, nil
}

// mounts lists every hierarchy once.
func (c cgroupFS) mounts() []string {
	seen := map[string]bool{}
	var out []string
	add := func(m string) {
		if m != "" && !seen[m] {
			seen[m] = true
			out = append(out, m)
		}
	}
	add(c.unified)
	for _, m := range c.v1 {
		add(m)
	}
	return out
}

func (d *Driver) cgroupPath(id string) string { return "/skerry-" + d.o.CloudID + "/" + id }

// joinShims moves a process out of the group of whoever started it, in the hierarchies by which service managers kill.
// In a unified hierarchy beside v1 the shim moves itself: into its instance's group while init is born, then here.
func (d *Driver) joinShims(pid int) error {
	for _, m := range []string{d.cg.v1["name=systemd"], d.cg.unified} {
		if m == "" {
			continue
		}
		dir := filepath.Join(m, d.cgroupPath("shims"))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if m == d.cg.unified && !d.cg.v2() {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("moving the shim to a group of its own: %w", err)
		}
	}
	return nil
}

// The CPU weight of all instances of a cloud together, a quarter of what any other process of the host has: when the
// machine is full, the control plane, the load balancers and whoever looks at the cloud come first. What the instances
// want and don't get counts as used in their metrics.
const (
	instancesShares = "256" // cpu.shares; the default is 1024
	instancesWeight = "25"  // cpu.weight; the default is 100
)

// yieldToHost gives the instances their weight. A hierarchy without the CPU controller has none to give.
func (d *Driver) yieldToHost() error {
	mount, file, value := d.cg.v1["cpu"], "cpu.shares", instancesShares
	if d.cg.v2() {
		mount, file, value = d.cg.unified, "cpu.weight", instancesWeight
	}
	if mount == "" {
		return nil
	}
	dir := filepath.Join(mount, d.cgroupPath(""))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && d.cg.v2() {
		return nil // the controller is enabled when the first instance starts
	}
	return err
}

// Bounds of removing a group.
const (
	cgroupTries = 200
	cgroupPause = 5 * time.Millisecond
)

// removeGroups kills whatever is left in an instance's groups and removes them, in every hierarchy.
func (c cgroupFS) removeGroups(path string) error {
	var errs []error
	for _, m := range c.mounts() {
		errs = append(errs, removeGroup(filepath.Join(m, path)))
	}
	return errors.Join(errs...)
}

func removeGroup(dir string) error {
	for try := 0; ; try++ {
		if err := unix.Rmdir(dir); err == nil || err == unix.ENOENT {
			return nil
		}
		var dirs []string
		filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- { // children first
			b, _ := os.ReadFile(filepath.Join(dirs[i], "cgroup.procs"))
			for _, f := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
					unix.Kill(pid, unix.SIGKILL)
				}
			}
			unix.Rmdir(dirs[i])
		}
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return nil
		}
		if try == cgroupTries {
			return fmt.Errorf("control group %s stays busy", dir)
		}
		time.Sleep(cgroupPause)
	}
}

func readUint(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	s := strings.TrimSpace(string(b))
	if s == "max" {
		return 0, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// readKey returns the value of one "key value" line, 0 when there is none.
func readKey(path, key string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, nil
}
