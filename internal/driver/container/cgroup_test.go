package container

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skerry/internal/driver"
)

func TestParseCgroups(t *testing.T) {
	for name, c := range map[string]struct {
		mounts string
		v2     bool
		want   cgroupFS
	}{
		"pure v2": {"24 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", true,
			cgroupFS{unified: "/sys/fs/cgroup", v1: map[string]string{}}},
		"hybrid": {`24 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
26 24 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
27 24 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
28 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
29 20 0:27 / /home/x/cgroup rw - cgroup2 cgroup2 rw
`, false, cgroupFS{unified: "/sys/fs/cgroup/unified", v1: map[string]string{"name=systemd": "/sys/fs/cgroup/systemd", "cpu": "/sys/fs/cgroup/cpu,cpuacct",
			"cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"}}},
	} {
		got, err := parseCgroups(c.mounts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, got, cmp.AllowUnexported(cgroupFS{})); d != "" || got.v2() != c.v2 {
			t.Errorf("%s: v2 %v %s", name, got.v2(), d)
		}
	}
	if _, err := parseCgroups("24 20 0:22 / / rw - ext4 /dev/vda rw\n"); err == nil {
		t.Error("a machine without cgroups is taken")
	}
}

func TestStatsOfBothVersions(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"v2/g/cpu.stat": "usage_usec 1500\nuser_usec 1000\n", "v2/g/memory.current": "5000\n", "v2/g/memory.max": "max\n", "v2/g/memory.stat": "anon 1000\ninactive_file 2000\n",
		"cpuacct/g/cpuacct.usage": "1500000\n", "memory/g/memory.usage_in_bytes": "5000\n", "memory/g/memory.limit_in_bytes": "9223372036854771712\n",
		"memory/g/memory.stat": "inactive_file 1\ntotal_inactive_file 2000\n",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := driver.Stats{CPUNanos: 1500000, MemoryBytes: 3000}
	for name, c := range map[string]cgroupFS{
		"v2": {unified: filepath.Join(dir, "v2")},
		"v1": {v1: map[string]string{"cpuacct": filepath.Join(dir, "cpuacct"), "memory": filepath.Join(dir, "memory")}},
	} {
		got, err := c.stats("/g")
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", name, err, d)
		}
		if _, err := c.stats("/absent"); err == nil {
			t.Errorf("%s: an absent group has stats", name)
		}
	}
}

func TestNetDev(t *testing.T) {
	var s driver.Stats
	netDev(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 999 9 0 0 0 0 0 0 999 9 0 0 0 0 0 0
  eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0
  eth1:    1    1 0 0 0 0 0 0    2    2 0 0 0 0 0 0
`, &s)
	if want := (driver.Stats{NetRxBytes: 1001, NetRxPkts: 11, NetTxBytes: 2002, NetTxPkts: 22}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

func TestIDRangesDontOverlap(t *testing.T) {
	a, b := &Driver{idBase: 0}, &Driver{idBase: idRanges - 1}
	seen := map[int]bool{}
	for i := uint32(0); i < idRanges; i += 7 {
		for _, d := range []*Driver{a} {
			f := d.firstID(i)
			if seen[f] || f < 1<<20 || int64(f)+idSize > 1<<31 {
				t.Fatalf("index %d gives %d", i, f)
			}
			seen[f] = true
		}
	}
	if b.firstID(1) != a.firstID(0) {
		t.Errorf("the ranges don't go round: %d", b.firstID(1))
	}
}
