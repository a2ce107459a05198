package container

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// maxThreads bounds a look at an instance's threads; of one with more, the rest counts by its pressure alone.
const maxThreads = 4096

// waitMeter adds up for how long an instance wanted a processor that the host gave to others. A guest of a hypervisor
// would see it as steal.
//
// The kernel knows it in two ways, neither of which is enough. The pressure "full" of a group is the time in which tasks
// could run and none did, so an instance's own threads waiting for each other aren't in it; but it is an average over the
// processors, of which a single task that moves about fills only a part. The run delay of threads is exact, but contains
// their waiting for each other, and dies with them. So: the delay, at least the pressure, at most the pressure on all
// processors at once. What the instance's own limit held back is subtracted from it.
type waitMeter struct {
	mu      sync.Mutex
	begun   bool
	last    waitCounters
	threads map[int]uint64 // run delay by thread
	total   uint64
}

// waitCounters are nanoseconds since the group was made.
type waitCounters struct{ full, throttled uint64 }

// read measures and returns the sum since the first reading of this run, 0 where there is no pressure to be read.
func (m *waitMeter) read(c cgroupFS, path string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	cur, ok := c.waitCounters(path)
	if !ok {
		m.begun, m.total = false, 0
		return 0
	}
	return m.add(cur, c.runDelays(path), runtime.NumCPU())
}

func (m *waitMeter) add(cur waitCounters, threads map[int]uint64, cpus int) uint64 {
	first := !m.begun || cur.full < m.last.full || cur.throttled < m.last.throttled // a new run's groups are new
	var delay uint64
	for id, d := range threads {
		if before := m.threads[id]; d >= before { // else the id has a new bearer
			d -= before
		}
		delay += d
	}
	if first {
		m.total = 0
	} else {
		full := cur.full - m.last.full
		wait := min(max(delay, full), full*uint64(cpus))
		m.total += wait - min(wait, cur.throttled-m.last.throttled)
	}
	m.begun, m.last, m.threads = true, cur, threads
	return m.total
}

// waitCounters reads the group's counters; not ok when the kernel keeps no pressure for it.
func (c cgroupFS) waitCounters(path string) (w waitCounters, ok bool) {
	if c.unified == "" {
		return w, false
	}
	b, err := os.ReadFile(filepath.Join(c.unified, path, "cpu.pressure"))
	if err != nil {
		return w, false
	}
	if w.full, ok = pressure(string(b), "full"); !ok {
		return w, false
	}
	if c.v2() {
		w.throttled, _ = readKey(filepath.Join(c.unified, path, "cpu.stat"), "throttled_usec") // none without a limit
		w.throttled *= 1000
	} else {
		w.throttled, _ = readKey(filepath.Join(c.v1["cpu"], path, "cpu.stat"), "throttled_time")
	}
	return w, true
}

// pressure returns the total of one line of a pressure file, in nanoseconds.
func pressure(text, kind string) (uint64, bool) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == kind {
			for _, kv := range f[1:] {
				if v, ok := strings.CutPrefix(kv, "total="); ok {
					n, err := strconv.ParseUint(v, 10, 64)
					return n * 1000, err == nil
				}
			}
		}
	}
	return 0, false
}

// runDelays returns how long each of the group's threads has waited for a processor since it began.
func (c cgroupFS) runDelays(path string) map[int]uint64 {
	dir, file := filepath.Join(c.unified, path), "cgroup.threads"
	if !c.v2() {
		dir, file = filepath.Join(c.v1["cpuacct"], path), "tasks"
	}
	out := map[int]uint64{}
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil
		}
		b, _ := os.ReadFile(filepath.Join(p, file))
		for _, s := range strings.Fields(string(b)) {
			id, err := strconv.Atoi(s)
			if err != nil {
				continue
			}
			if len(out) == maxThreads {
				return fs.SkipAll
			}
			text, err := os.ReadFile("/proc/" + s + "/schedstat")
			if f := strings.Fields(string(text)); err == nil && len(f) == 3 { // else it has ended
				out[id], _ = strconv.ParseUint(f[1], 10, 64)
			}
		}
		return nil
	})
	return out
}
