package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"skerry/internal/driver"
	"skerry/internal/shim"
)

// holderTimeout is how long a shim has to answer.
const holderTimeout = 2 * time.Second

// Vitals looks at a running instance; see driver.Driver.
func (d *Driver) Vitals(ctx context.Context, id string) (v driver.Vitals, err error) {
	d.mu.Lock()
	in := d.insts[id]
	if in == nil || !in.exists {
		d.mu.Unlock()
		return v, fmt.Errorf("instance %s: %w", id, driver.ErrNotFound)
	}
	state, pid := in.status.State, in.pid
	d.mu.Unlock()
	if state != driver.Running {
		return v, fmt.Errorf("instance %s is not running", id)
	}
	v.Guest = initLives(pid)
	if v.Guest == nil && d.cg.frozen(d.cgroupPath(id)) {
		v.Guest = errors.New("its processes are frozen")
	}
	ctx, cancel := context.WithTimeout(ctx, holderTimeout)
	defer cancel()
	if _, err := shim.Do(ctx, in.dir, shim.Request{Op: "status"}); err != nil {
		v.Holder = fmt.Errorf("its shim does not answer: %w", err)
	}
	return v, nil
}

// initLives tells why the process, an instance's init, can't do anything.
func initLives(pid int) error {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return err
	}
	rest := string(b)[strings.LastIndexByte(string(b), ')')+1:] // the name may hold anything
	if f := strings.Fields(rest); len(f) == 0 || strings.Contains("TtZX", f[0]) {
		return fmt.Errorf("its init is stopped or dead (%s)", strings.Join(f[:min(1, len(f))], ""))
	}
	return nil
}

// frozen tells whether a group's processes are.
func (c cgroupFS) frozen(path string) bool {
	read := func(file string) string {
		b, _ := os.ReadFile(file) // a group or a freezer that isn't there freezes nobody
		return strings.TrimSpace(string(b))
	}
	if c.v2() {
		return read(filepath.Join(c.unified, path, "cgroup.freeze")) == "1"
	}
	m := c.v1["freezer"]
	return m != "" && strings.HasPrefix(read(filepath.Join(m, path, "freezer.state")), "FR") // FREEZING, FROZEN
}
