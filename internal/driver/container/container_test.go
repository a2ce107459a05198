package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"skerry/internal/driver"
	"skerry/internal/driver/drivertest"
	"skerry/internal/embedded"
	"skerry/internal/image"
	"skerry/internal/require"
	"skerry/internal/shim"
)

// need skips without root or without the embedded programs; where they are required that is a failure.
func need(t testing.TB) {
	t.Helper()
	require.Root(t)
	_, err := embedded.Shim()
	require.That(t, "build", err)
}

var clouds atomic.Int32

// rig is a driver on a data directory of its own, with the built-in image.
type rig struct {
	*Driver
	layers []string
	opts   Options
}

func newRig(t testing.TB) *rig {
	t.Helper()
	need(t)
	dir := t.TempDir()
	st := &image.Store{Dir: filepath.Join(dir, "images")}
	if err := st.EnsureBuiltin(); err != nil {
		t.Fatal(err)
	}
	img, err := st.Get(image.Nano)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{layers: img.Layers, opts: Options{DataDir: dir, CloudID: fmt.Sprintf("t%x%x", os.Getpid(), clouds.Add(1))}}
	if r.Driver, err = New(r.opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Teardown(context.Background()); err != nil {
			t.Errorf("teardown: %v", err)
		}
		r.Close()
		for _, left := range r.leftovers() {
			t.Errorf("left behind: %s", left)
		}
	})
	return r
}

// leftovers names what a cloud that is torn down has still got on the machine.
func (r *rig) leftovers() (out []string) {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for l := range strings.Lines(string(mounts)) {
		if strings.Contains(l, r.o.CloudID) {
			out = append(out, "mount "+l)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/skerry-" + r.o.CloudID)
	one, _ := filepath.Glob("/sys/fs/cgroup/skerry-" + r.o.CloudID)
	out = append(append(out, groups...), one...)
	if _, err := os.Stat(r.o.RunDir); err == nil {
		out = append(out, r.o.RunDir)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if b, _ := os.ReadFile(p); strings.Contains(string(b), r.o.DataDir) {
			out = append(out, "process "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	insts, _ := filepath.Glob(filepath.Join(r.o.DataDir, "instances", "*"))
	return append(out, insts...)
}

func (r *rig) spec(n int) driver.Spec {
	return driver.Spec{ID: fmt.Sprintf("i-%017x", n), Layers: r.layers, VCPU: 1, MemoryMiB: 256, Hostname: fmt.Sprintf("ip-10-0-0-%d", n), IP: fmt.Sprintf("10.0.0.%d", n), Index: uint32(n)}
}

func (r *rig) boot(t testing.TB, n int) string {
	t.Helper()
	s := r.spec(n)
	if _, err := r.Create(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	return s.ID
}

func (r *rig) awaitConsole(t testing.TB, id, text string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		b, err := r.Console(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), text) {
			return string(b)
		}
		if time.Now().After(end) {
			t.Fatalf("the console doesn't show %q:\n%s", text, b)
		}
	}
}

func TestSuite(t *testing.T) {
	r := newRig(t)
	drivertest.Run(t, drivertest.Rig{Driver: r.Driver, Spec: r.spec,
		Reopen: func() driver.Driver {
			r.Close()
			d, err := New(r.opts)
			if err != nil {
				t.Fatal(err)
			}
			r.Driver = d
			return d
		},
		Crash: func(id string) {
			var st shim.State
			if err := shim.ReadJSON(filepath.Join(shim.InstanceDir(r.o.DataDir, id), shim.StateFile), &st); err != nil {
				t.Fatal(err)
			}
			syscall.Kill(st.PID, syscall.SIGKILL)
		}})
}

func TestBoots(t *testing.T) {
	r := newRig(t)
	id := r.boot(t, 1)
	out := r.awaitConsole(t, id, "sshd: listening")
	t.Log(out)
	if !strings.Contains(out, "ip-10-0-0-1") {
		t.Errorf("the host name is not on the console:\n%s", out)
	}
}
