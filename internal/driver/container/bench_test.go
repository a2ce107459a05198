package container

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"skerry/internal/require"
)

func report(b *testing.B, d []time.Duration) {
	slices.Sort(d)
	b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(d[len(d)*9/10].Microseconds())/1000, "p90-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLaunch is Create and Start, one at a time.
func BenchmarkLaunch(b *testing.B) {
	r := newRig(b)
	var took, create []time.Duration
	for n := 1; b.Loop(); n++ {
		s := r.spec(n)
		t := time.Now()
		if _, err := r.Create(context.Background(), s); err != nil {
			b.Fatal(err)
		}
		create = append(create, time.Since(t))
		if err := r.Start(context.Background(), s.ID); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(t))
		b.StopTimer()
		if err := r.Destroy(context.Background(), s.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(create)
	b.ReportMetric(float64(create[len(create)/2].Microseconds())/1000, "create-p50-ms")
	report(b, took)
}

// BenchmarkFifty launches fifty instances at the same time.
func BenchmarkFifty(b *testing.B) {
	r := newRig(b)
	for b.Loop() {
		var wg sync.WaitGroup
		for n := 1; n <= 50; n++ {
			wg.Add(1)
			go func() { defer wg.Done(); r.boot(b, n) }()
		}
		wg.Wait()
		b.StopTimer()
		t := time.Now()
		if err := r.Teardown(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(t).Seconds(), "teardown-s")
		b.StartTimer()
	}
}

// BenchmarkRunc is the runc binary with the same root file system and protections, everything but the container prepared.
func BenchmarkRunc(b *testing.B) {
	r := newRig(b)
	require.Tool(b, "runc")
	var took []time.Duration
	for n := 1; b.Loop(); n++ {
		b.StopTimer()
		s := r.spec(n)
		if _, err := r.Create(context.Background(), s); err != nil {
			b.Fatal(err)
		}
		bundle := b.TempDir()
		run := filepath.Join(r.o.RunDir, "instances", s.ID)
		ids := []map[string]any{{"containerID": 0, "hostID": r.firstID(s.Index), "size": idSize}}
		spec := map[string]any{"ociVersion": "1.0.2", "hostname": s.Hostname, "root": map[string]any{"path": filepath.Join(run, "root")},
			"process": map[string]any{"args": []string{"/bin/sleep", "100"}, "cwd": "/", "env": []string{"PATH=/bin"}, "user": map[string]any{"uid": 0, "gid": 0}},
			"mounts": []map[string]any{
				{"destination": "/proc", "type": "proc", "source": "proc"},
				{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "strictatime", "mode=755"}},
				{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
				{"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": []string{"nosuid", "nodev", "noexec"}},
				{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "nodev", "noexec", "ro"}},
				{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []string{"nosuid", "nodev", "noexec", "ro"}}},
			"linux": map[string]any{"cgroupsPath": r.cgroupPath(s.ID), "uidMappings": ids, "gidMappings": ids,
				"resources": map[string]any{"memory": map[string]any{"limit": 256 << 20}, "cpu": map[string]any{"quota": 100000, "period": 100000}, "pids": map[string]any{"limit": 512}},
				"seccomp":   map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{map[string]any{"names": []string{"keyctl", "bpf", "perf_event_open"}, "action": "SCMP_ACT_ERRNO"}}},
				"namespaces": []map[string]any{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
					{"type": "network", "path": filepath.Join(run, "net")}, {"type": "user", "path": filepath.Join(run, "user")}}}}
		text, _ := json.Marshal(spec)
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
			b.Fatal(err)
		}
		state := filepath.Join(r.o.DataDir, "runc")
		b.StartTimer()
		t := time.Now()
		cmd := exec.Command("runc", "--root", state, "run", "-d", "-b", bundle, s.ID)
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(t))
		b.StopTimer()
		if out, err := exec.Command("runc", "--root", state, "delete", "-f", s.ID).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		if err := r.Destroy(context.Background(), s.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	report(b, took)
}
