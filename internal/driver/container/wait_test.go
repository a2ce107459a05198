package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"skerry/internal/require"
)

func TestWaitMeter(t *testing.T) {
	const ms = 1e6
	var m waitMeter
	for n, s := range []struct {
		what            string
		full, throttled uint64
		threads         map[int]uint64
		want            uint64 // the sum so far
	}{
		{"the first reading only begins", 500 * ms, 0, map[int]uint64{1: 900 * ms}, 0},
		{"a thread on one processor", 1000 * ms, 0, map[int]uint64{1: 1400 * ms}, 500 * ms},
		{"one that moves about: its own delay is exact", 1400 * ms, 0, map[int]uint64{1: 2000 * ms}, 1100 * ms},
		{"ten that wait for each other only", 1400 * ms, 0, map[int]uint64{1: 2500 * ms, 2: 500 * ms}, 1100 * ms},
		{"one that has ended, and one that is new", 1500 * ms, 0, map[int]uint64{3: 150 * ms}, 1250 * ms},
		{"short-lived ones that nobody saw", 1700 * ms, 0, nil, 1450 * ms},
		{"a limit that throttles", 1800 * ms, 80 * ms, map[int]uint64{4: 90 * ms}, 1470 * ms},
		{"a limit that throttles on two processors", 1900 * ms, 300 * ms, nil, 1470 * ms},
		{"idle", 1900 * ms, 300 * ms, map[int]uint64{4: 90 * ms}, 1470 * ms},
		{"a new run begins anew", 100 * ms, 0, map[int]uint64{5: 100 * ms}, 0},
		{"and counts on", 200 * ms, 0, map[int]uint64{5: 200 * ms}, 100 * ms},
	} {
		if got := m.add(waitCounters{s.full, s.throttled}, s.threads, 2); got != s.want {
			t.Fatalf("%d, %s: %d ms, want %d", n, s.what, got/ms, s.want/ms)
		}
	}
}

func TestWaitCounters(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v1 := cgroupFS{unified: filepath.Join(dir, "unified"), v1: map[string]string{"cpu": filepath.Join(dir, "cpu"), "cpuacct": filepath.Join(dir, "cpu")}}
	v2 := cgroupFS{unified: filepath.Join(dir, "unified")}
	if _, ok := v1.waitCounters("/g"); ok {
		t.Error("a group without a pressure file has pressure")
	}
	if _, ok := (cgroupFS{v1: v1.v1}).waitCounters("/g"); ok {
		t.Error("a machine without cgroup2 has pressure")
	}
	pid := strings.TrimSpace(string(mustRead(t, "/proc/self/stat")))
	pid, _, _ = strings.Cut(pid, " ")
	write("unified/g/cpu.pressure", "some avg10=1.00 avg60=2.00 avg300=3.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")
	write("unified/g/cpu.stat", "usage_usec 9\nthrottled_usec 2\n")
	write("cpu/g/cpu.stat", "nr_periods 9\nthrottled_time 3000\n")
	write("cpu/g/tasks", pid+"\n")
	write("unified/g/sub/cgroup.threads", pid+"\n999999999\n")
	for name, c := range map[string]struct {
		fs   cgroupFS
		want waitCounters
	}{"v1": {v1, waitCounters{5000, 3000}}, "v2": {v2, waitCounters{5000, 2000}}} {
		if got, ok := c.fs.waitCounters("/g"); !ok || got != c.want {
			t.Errorf("%s: %v %v", name, got, ok)
		}
		if got := c.fs.runDelays("/g"); len(got) != 1 {
			t.Errorf("%s: run delays of %v", name, got)
		}
	}
	m := waitMeter{begun: true, total: 1}
	if got := m.read(cgroupFS{}, "/g"); got != 0 {
		t.Errorf("without pressure the meter says %d", got)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Where the controllers are v1, an instance has a group in cgroup2 as well, from its first instruction to its end.
func TestUnifiedGroup(t *testing.T) {
	r := newRig(t)
	if r.cg.v2() || r.cg.unified == "" {
		require.That(t, "cgroup-hybrid", errors.New("no cgroup2 beside v1"))
	}
	id := r.boot(t, 1)
	dir := filepath.Join(r.cg.unified, r.cgroupPath(id))
	member := func() {
		t.Helper()
		r.mu.Lock()
		pid := r.insts[id].pid
		r.mu.Unlock()
		for p, want := range map[string]string{filepath.Join("/proc", strconv.Itoa(pid), "cgroup"): "0::" + r.cgroupPath(id) + "\n"} {
			if !strings.Contains(string(mustRead(t, p)), want) {
				t.Errorf("%s has no %q", p, want)
			}
		}
		b := string(mustRead(t, filepath.Join(r.cg.unified, r.cgroupPath("shims"), "cgroup.procs")))
		if len(strings.Fields(b)) != 1 {
			t.Errorf("the shims' group has %q", b)
		}
	}
	member()
	if err := r.Reboot(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	member()
	if _, err := r.Stats(context.Background(), id); err != nil {
		t.Error(err)
	}
	if err := r.Destroy(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}
