package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"skerry/internal/driver"
)

// noLimit is above every memory limit that means something: v1 shows "none" as the largest page-aligned number.
const noLimit = 1 << 62

// Stats returns the counters of a running instance. The network's are those of the instance's own interfaces since its
// namespace was made; the others begin with the current run.
func (d *Driver) Stats(_ context.Context, id string) (driver.Stats, error) {
	d.mu.Lock()
	in := d.insts[id]
	if in == nil || !in.exists {
		d.mu.Unlock()
		return driver.Stats{}, fmt.Errorf("instance %s: %w", id, driver.ErrNotFound)
	}
	state, pid := in.status.State, in.pid
	d.mu.Unlock()
	if state != driver.Running {
		return driver.Stats{}, fmt.Errorf("instance %s is not running", id)
	}
	s, err := d.cg.stats(d.cgroupPath(id))
	if err != nil {
		return s, fmt.Errorf("instance %s: %w", id, err)
	}
	s.CPUWaitNanos = in.wait.read(d.cg, d.cgroupPath(id))
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return s, fmt.Errorf("instance %s: %w", id, err)
	}
	netDev(string(b), &s)
	return s, nil
}

func (c cgroupFS) stats(path string) (s driver.Stats, err error) {
	if c.v2() {
		dir := filepath.Join(c.unified, path)
		if s.CPUNanos, err = readKey(filepath.Join(dir, "cpu.stat"), "usage_usec"); err != nil {
			return s, err
		}
		s.CPUNanos *= 1000
		return s, memory(&s, dir, "memory.current", "memory.max", "inactive_file")
	}
	if s.CPUNanos, err = readUint(filepath.Join(c.v1["cpuacct"], path, "cpuacct.usage")); err != nil {
		return s, err
	}
	return s, memory(&s, filepath.Join(c.v1["memory"], path), "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
}

func memory(s *driver.Stats, dir, usage, limit, cache string) (err error) {
	if s.MemoryBytes, err = readUint(filepath.Join(dir, usage)); err != nil {
		return err
	}
	inactive, err := readKey(filepath.Join(dir, "memory.stat"), cache)
	if err != nil {
		return err
	}
	s.MemoryBytes -= min(inactive, s.MemoryBytes)
	if s.MemoryLimit, err = readUint(filepath.Join(dir, limit)); err != nil {
		return err
	}
	if s.MemoryLimit >= noLimit {
		s.MemoryLimit = 0
	}
	return nil
}

// netDev sums the counters of /proc/net/dev over all interfaces but the loopback.
func netDev(text string, s *driver.Stats) {
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(f) < 10 {
			continue
		}
		for i, p := range map[int]*uint64{0: &s.NetRxBytes, 1: &s.NetRxPkts, 8: &s.NetTxBytes, 9: &s.NetTxPkts} {
			n, _ := strconv.ParseUint(f[i], 10, 64)
			*p += n
		}
	}
}
