package container

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/driver"
	"skerry/internal/shim"
)

func (r *rig) status(t testing.TB, id string) (driver.Status, bool) {
	t.Helper()
	list, err := r.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.ID == id {
			return s, true
		}
	}
	return driver.Status{}, false
}

func (r *rig) reopen(t testing.TB) {
	t.Helper()
	r.Close()
	d, err := New(r.opts)
	if err != nil {
		t.Fatal(err)
	}
	r.Driver = d
}

// shimPID finds the shim of an instance as ps shows it.
func (r *rig) shimPID(t testing.TB, id string) int {
	t.Helper()
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		if args := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(args, "skerry-shim --data-dir "+r.o.DataDir+" --instance "+id) {
			var pid int
			for _, c := range filepath.Base(filepath.Dir(p)) {
				pid = pid*10 + int(c-'0')
			}
			return pid
		}
	}
	t.Fatalf("ps shows no shim of %s", id)
	return 0
}

func TestShimKilled(t *testing.T) {
	r := newRig(t)
	id := r.boot(t, 1)
	var st shim.State
	if err := shim.ReadJSON(filepath.Join(shim.InstanceDir(r.o.DataDir, id), shim.StateFile), &st); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(r.shimPID(t, id), syscall.SIGKILL)
	if s := r.awaitExit(t, id); s.ExitReason != "lost" || s.ExitCode != 137 {
		t.Errorf("after the shim was killed: %+v, want lost", s)
	}
	for end := time.Now().Add(time.Minute); shim.PIDStart(st.PID) == st.PIDStart; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what the killed shim ran goes on without it")
		}
	}
	if err := r.Start(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if s, _ := r.status(t, id); s.State != driver.Running {
		t.Errorf("started again: %+v", s)
	}
}

// The shim dies while no control plane runs.
func TestShimKilledUnwatched(t *testing.T) {
	r := newRig(t)
	id := r.boot(t, 1)
	pid := r.shimPID(t, id)
	r.Close()
	syscall.Kill(pid, syscall.SIGKILL)
	for shim.Alive(shim.InstanceDir(r.o.DataDir, id)) {
		time.Sleep(time.Millisecond)
	}
	r.reopen(t)
	if s, _ := r.status(t, id); s.State != driver.Exited || s.ExitReason != "lost" {
		t.Errorf("after adoption: %+v, want lost", s)
	}
}

// The instance ends while no control plane runs.
func TestEndsUnwatched(t *testing.T) {
	r := newRig(t)
	id := r.boot(t, 1)
	r.Close()
	if _, err := shim.Do(context.Background(), shim.InstanceDir(r.o.DataDir, id), shim.Request{Op: "stop", Force: true}); err != nil {
		t.Fatal(err)
	}
	r.reopen(t)
	if s := r.awaitExit(t, id); s.ExitReason != "stopped" {
		t.Errorf("after adoption: %+v", s)
	}
}

// A reboot of the host takes mounts, namespaces and processes, and leaves the files.
func TestHostReboot(t *testing.T) {
	r := newRig(t)
	s, _ := r.bootWith(t, 1, "#!/bin/sh\necho written >/srv/file\n", "")
	r.awaitConsole(t, s.ID, "cloud-init: finished")
	pid := r.shimPID(t, s.ID)
	r.Close()
	syscall.Kill(pid, syscall.SIGKILL)
	for shim.Alive(shim.InstanceDir(r.o.DataDir, s.ID)) {
		time.Sleep(time.Millisecond)
	}
	if err := r.cg.removeGroups(r.cgroupPath(s.ID)); err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"root", "net", "user"} {
		if err := unmount(filepath.Join(r.o.RunDir, "instances", s.ID, m)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(r.o.RunDir); err != nil {
		t.Fatal(err)
	}
	r.reopen(t)
	if st, _ := r.status(t, s.ID); st.State != driver.Exited {
		t.Errorf("after the host's reboot: %+v", st)
	}
	if _, err := r.Create(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(r.o.RunDir, "instances", s.ID, "root/srv/file")); err != nil || string(b) != "written\n" {
		t.Errorf("what the instance wrote: %q %v", b, err)
	}
}

// The control plane is killed in the middle of Create: the next one finds nothing, or an instance that can be started.
func TestCreateCutOff(t *testing.T) {
	r := newRig(t)
	for n := 1; n <= 5; n++ {
		s := r.spec(n)
		in := &instance{id: s.ID, dir: shim.InstanceDir(r.o.DataDir, s.ID), run: filepath.Join(r.o.RunDir, "instances", s.ID)}
		first := r.firstID(s.Index)
		steps := []func() error{
			func() error { return os.MkdirAll(in.dir, 0o700) },
			func() error { return os.MkdirAll(in.run, 0o711) },
			func() error { return ensureNamespaces(in.run, first) },
			func() error { return seed(in, s, first) },
			func() error { return ensureRoot(in, s, first) },
		}
		for _, f := range steps[:n] {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.reopen(t)
	if left := r.leftovers(); len(left) > 0 {
		for _, l := range left {
			if !strings.HasPrefix(l, "/run/") && !strings.HasPrefix(l, "/sys/") {
				t.Errorf("the remains of a cut off Create: %s", l)
			}
		}
	}
	if list, _ := r.List(context.Background()); len(list) != 0 {
		t.Errorf("listed: %v", list)
	}
	r.boot(t, 3)
}

// The control plane is killed in the middle of Destroy: the record is there until everything else is gone.
func TestDestroyCutOff(t *testing.T) {
	r := newRig(t)
	id := r.boot(t, 1)
	if err := r.Stop(context.Background(), id, true, 0); err != nil {
		t.Fatal(err)
	}
	in := r.get(id)
	if err := dropRoot(in); err != nil {
		t.Fatal(err)
	}
	if err := dropNamespaces(in.run); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(in.run)
	os.Remove(filepath.Join(in.dir, shim.ConfigFile))
	r.reopen(t)
	if _, ok := r.status(t, id); !ok {
		t.Fatal("a half destroyed instance is not found again")
	}
	if err := r.Destroy(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(in.dir); !os.IsNotExist(err) {
		t.Errorf("its directory is there: %v", err)
	}
}

// A caller that gives up while the shim is on its way leaves an instance that the next call finds.
func TestStartCutOff(t *testing.T) {
	r := newRig(t)
	s := r.spec(1)
	if _, err := r.Create(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{time.Millisecond, 8 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		r.Start(ctx, s.ID)
		cancel()
		if err := r.Start(context.Background(), s.ID); err != nil {
			t.Fatal(err)
		}
		if st, _ := r.status(t, s.ID); st.State != driver.Running {
			t.Fatalf("after a second Start: %+v", st)
		}
		if err := r.Stop(context.Background(), s.ID, true, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTwoClouds(t *testing.T) {
	a, b := newRig(t), newRig(t)
	if a.boot(t, 1) != b.boot(t, 1) {
		t.Fatal("the ids differ: this test wants the same ones")
	}
	id := a.spec(1).ID
	a.awaitConsole(t, id, "sshd: listening")
	b.awaitConsole(t, id, "sshd: listening")
	if err := a.Teardown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s, _ := b.status(t, id); s.State != driver.Running {
		t.Errorf("the other cloud's instance: %+v", s)
	}
	if _, err := b.Stats(context.Background(), id); err != nil {
		t.Error(err)
	}
}

// plain is an image with an init of its own that is deaf to requests to end, over two layers.
func (r *rig) plain(t testing.TB) []string {
	t.Helper()
	top := filepath.Join(r.o.DataDir, "deaf")
	if err := os.MkdirAll(filepath.Join(top, "sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "sbin/init"), []byte("#!/bin/sh\ntrap '' TERM\necho deaf, $(ls /sbin)\nwhile :; do sleep 1; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(top, "sbin/skerry-guest"), unix.S_IFCHR, 0); err != nil { // takes the lower layer's away
		t.Fatal(err)
	}
	return append([]string{top}, r.layers...)
}

func TestDeafInit(t *testing.T) {
	r := newRig(t)
	boot := func(n int) string {
		s := r.spec(n)
		s.Layers = []string{filepath.Join(r.o.DataDir, "deaf"), r.layers[0]}
		if _, err := r.Create(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(context.Background(), s.ID); err != nil {
			t.Fatal(err)
		}
		r.awaitConsole(t, s.ID, "deaf")
		return s.ID
	}
	r.plain(t)
	id := boot(1)
	start := time.Now()
	if err := r.Stop(context.Background(), id, false, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 300*time.Millisecond || d > 20*time.Second {
		t.Errorf("a deaf init was stopped after %v, want the timeout", d)
	}
	// A forced end does not wait for a clean one that is under way.
	id = boot(2)
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop(context.Background(), id, false, 2*time.Minute) }()
	time.Sleep(50 * time.Millisecond)
	start = time.Now()
	if err := r.Destroy(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("Destroy waited %v for a stop that was under way", d)
	}
	<-stopped
}

func TestRefusesBadSpecs(t *testing.T) {
	r := newRig(t)
	for name, s := range map[string]driver.Spec{
		"no id":         {Layers: r.layers},
		"a path as id":  {ID: "../../etc", Layers: r.layers},
		"no layers":     {ID: "i-1"},
		"absent layers": {ID: "i-2", Layers: []string{"/no/such/layer"}},
	} {
		if _, err := r.Create(context.Background(), s); err == nil {
			t.Errorf("%s: Create succeeds", name)
		}
	}
	if list, _ := r.List(context.Background()); len(list) != 0 {
		t.Errorf("listed: %v", list)
	}
	if ents, _ := os.ReadDir(filepath.Join(r.o.RunDir, "instances")); len(ents) != 0 {
		t.Errorf("left: %v", ents)
	}
	s := r.spec(1)
	s.Layers = []string{t.TempDir()} // nothing to boot in it
	if _, err := r.Create(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(context.Background(), s.ID); err == nil || !strings.Contains(err.Error(), "init") {
		t.Errorf("Start of an empty image: %v", err)
	}
	if st := r.awaitExit(t, s.ID); !strings.HasPrefix(st.ExitReason, "failed: ") {
		t.Errorf("after a failed start: %+v", st)
	}
}

// The shim dies between the record of the end and the removal of the state: the end is the one that was recorded.
func TestShimKilledWhileItRecordsTheEnd(t *testing.T) {
	r := newRig(t)
	id := r.boot(t, 1)
	dir := shim.InstanceDir(r.o.DataDir, id)
	var st shim.State
	if err := shim.ReadJSON(filepath.Join(dir, shim.StateFile), &st); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(context.Background(), id, true, 0); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := shim.WriteJSON(filepath.Join(dir, shim.StateFile), st); err != nil {
		t.Fatal(err)
	}
	r.reopen(t)
	if s, _ := r.status(t, id); s.State != driver.Exited || s.ExitReason != "stopped" {
		t.Errorf("after adoption: %+v, want stopped", s)
	}
	if _, err := os.Stat(filepath.Join(dir, shim.StateFile)); !os.IsNotExist(err) {
		t.Errorf("the state is still there: %v", err)
	}
}

// A stop that comes while an instance is between two boots ends the next one.
func TestStopBetweenTwoBoots(t *testing.T) {
	r := newRig(t)
	s, _ := r.bootWith(t, 1, "#cloud-boothook\nsleep 0.1; reboot -f\n", "")
	dir := shim.InstanceDir(r.o.DataDir, s.ID)
	for {
		rep, err := shim.Do(context.Background(), dir, shim.Request{Op: "status"})
		if err != nil {
			t.Fatal(err)
		}
		if !rep.Running {
			break
		}
	}
	if err := r.Stop(context.Background(), s.ID, true, 0); err != nil {
		t.Fatal(err)
	}
	if st, _ := r.status(t, s.ID); st.State != driver.Exited || st.ExitReason != "stopped" {
		t.Errorf("after the stop: %+v", st)
	}
}

// However often an instance is rebooted from outside, it boots again: the limit is for those that reboot themselves.
func TestManyReboots(t *testing.T) {
	r := newRig(t)
	id := r.boot(t, 1)
	for range 7 {
		if err := r.Reboot(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	}
	if s, _ := r.status(t, id); s.State != driver.Running {
		t.Errorf("after seven reboots: %+v", s)
	}
}

// A stopped instance that is another type by now starts with that type's limits.
func TestLimitsOfAnotherType(t *testing.T) {
	r := newRig(t)
	id := r.boot(t, 1)
	if err := r.Stop(context.Background(), id, true, 0); err != nil {
		t.Fatal(err)
	}
	s := r.spec(1)
	s.MemoryMiB, s.Env = 2*s.MemoryMiB, map[string]string{"A": "b"}
	if _, err := r.Create(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if st, err := r.Stats(context.Background(), id); err != nil || st.MemoryLimit != uint64(s.MemoryMiB)<<20 {
		t.Errorf("%d %v, want %d MiB", st.MemoryLimit, err, s.MemoryMiB)
	}
}

// The shim dies at any moment of a boot. Whatever Start says then, the next one boots, and nothing of the first is left.
func TestShimKilledWhileItBoots(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	start := time.Now()
	id := r.boot(t, 1)
	whole := time.Since(start)
	dir := shim.InstanceDir(r.o.DataDir, id)
	const moments = 6
	for i := range moments {
		if err := r.Stop(ctx, id, true, 0); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- r.Start(ctx, id) }()
		for !shim.Alive(dir) && len(done) == 0 {
			time.Sleep(100 * time.Microsecond)
		}
		after := whole * time.Duration(i) / (moments - 1)
		time.Sleep(after)
		for shim.Alive(dir) { // again: it may not have written its number yet
			shim.Kill(dir)
			time.Sleep(100 * time.Microsecond)
		}
		first := <-done
		if err := r.Start(ctx, id); err != nil {
			t.Fatalf("after a boot that was killed %s after its begin (%v): %v", after, first, err)
		}
		inits := 0
		for end := time.Now().Add(time.Minute); inits != 1 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			inits = 0
			procs, _ := os.ReadFile(filepath.Join(r.groupDir(), id, "cgroup.procs"))
			for pid := range strings.FieldsSeq(string(procs)) {
				if cmd, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.Contains(string(cmd), "skerry-guest") {
					inits++
				}
			}
		}
		if inits != 1 {
			t.Errorf("%d inits run after a boot that was killed at %s (%v)", inits, after, first)
		}
	}
}

// groupDir is where the cloud's groups are, in one hierarchy.
func (r *rig) groupDir() string {
	if m := r.cg.v1["memory"]; m != "" {
		return filepath.Join(m, "skerry-"+r.o.CloudID)
	}
	return filepath.Join(r.cg.unified, "skerry-"+r.o.CloudID)
}
