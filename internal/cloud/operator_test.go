package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"golang.org/x/sys/unix"

	"skerry/internal/fault"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// simOptions are those of a cloud without real instances, which needs no root.
func simOptions(dir string) Options {
	return Options{DataDir: dir, Listen: "127.0.0.1:0", PublicPool: netip.MustParsePrefix("127.86.0.0/16"), Driver: "sim", TimeScale: 1, Log: slog.New(slog.DiscardHandler)}
}

// startSim runs a cloud until stop is called, which returns Run's error.
func startSim(t *testing.T, o Options) (c *control, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan bool, 1)
	done := make(chan error, 1)
	o.started = func(x *control) { c = x }
	o.Ready = func(string) { ready <- true }
	go func() { done <- Run(ctx, o) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { stop() })
	select {
	case <-ready:
	case err := <-done:
		stopped = true
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	return c, stop
}

// tree lists a directory's files with their contents.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var text []byte
		if d.Type().IsRegular() {
			text, err = os.ReadFile(p)
		}
		fmt.Fprintf(&b, "%s %x\n", p, text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWhatCannotWorkIsRefusedBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, o *Options) // the data directory is absent before
		want    string
		remedy  string
	}{
		{"a file as data directory", func(t *testing.T, o *Options) { write(t, o.DataDir, "x") }, "is not a directory", "--data-dir"},
		{"a file on the way", func(t *testing.T, o *Options) { write(t, o.DataDir, "x"); o.DataDir += "/sub" }, "a part of its path is a file", "--data-dir"},
		{"a long path", func(t *testing.T, o *Options) { o.DataDir += "/" + strings.Repeat("x", 100) }, "bytes", "shorter"},
		{"an unknown driver", func(t *testing.T, o *Options) { o.Driver = "vmware" }, `not "vmware"`, "auto, container or sim"},
		{"no port", func(t *testing.T, o *Options) { o.Listen = "127.0.0.1" }, `not "127.0.0.1"`, "ADDRESS:PORT"},
		{"every address", func(t *testing.T, o *Options) { o.Listen = ":0" }, "from outside of this host", "--root-key"},
		{"an address that isn't here", func(t *testing.T, o *Options) { o.Listen = "[::1%none]:0" }, "", "--"},
		{"no root key file", func(t *testing.T, o *Options) { o.RootKeyFile = o.DataDir + ".key" }, "can't be read", "--root-key"},
		{"half a root key", func(t *testing.T, o *Options) { o.RootKeyFile = o.DataDir + ".key"; write(t, o.RootKeyFile, "ONE\n") }, "must hold", "an access key id and a secret"},
		{"a port in use", func(t *testing.T, o *Options) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			o.Listen = l.Addr().String()
		}, "is in use", "--listen"},
		{"a damaged state", func(t *testing.T, o *Options) {
			os.Mkdir(o.DataDir, 0o700)
			write(t, filepath.Join(o.DataDir, store.FileName), strings.Repeat("no database ", 3000))
		}, "damaged", "backup"},
		{"a state of a later version", func(t *testing.T, o *Options) {
			os.Mkdir(o.DataDir, 0o700)
			db, err := bolt.Open(filepath.Join(o.DataDir, store.FileName), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.Update(func(tx *bolt.Tx) error {
				b, err := tx.CreateBucket([]byte("_format"))
				if err != nil {
					return err
				}
				return b.Put([]byte("version"), []byte("99"))
			}); err != nil {
				t.Fatal(err)
			}
		}, "newer version", "run that version"},
		{"another driver than before", func(t *testing.T, o *Options) {
			os.Mkdir(o.DataDir, 0o700)
			write(t, filepath.Join(o.DataDir, settingsFile), `{"Driver":"container"}`)
		}, "--driver container", "down --purge"},
		{"damaged settings", func(t *testing.T, o *Options) {
			os.Mkdir(o.DataDir, 0o700)
			write(t, filepath.Join(o.DataDir, settingsFile), `{`)
		}, "damaged", "removed"},
		{"a directory of somebody else's", func(t *testing.T, o *Options) {
			os.Mkdir(o.DataDir, 0o500)
			if os.Geteuid() == 0 { // who may write everywhere but on a file system that is read only
				if err := unix.Mount("tmpfs", o.DataDir, "tmpfs", unix.MS_RDONLY, "size=64k"); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { unix.Unmount(o.DataDir, 0) })
			}
		}, "can't be read and written", "run as its owner"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "sk") // short: sockets
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			o := simOptions(filepath.Join(dir, "d"))
			tt.prepare(t, &o)
			before := tree(t, dir)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			o.Ready = func(string) { t.Error("it started"); cancel() }
			err = Run(ctx, o)
			if err == nil {
				t.Fatal("nothing was refused")
			}
			if msg := err.Error(); !strings.Contains(msg, tt.want) || !strings.Contains(msg, tt.remedy) || strings.Contains(msg, "\n") {
				t.Errorf("the error is %q; want %q and %q in one line", msg, tt.want, tt.remedy)
			}
			if after := tree(t, dir); after != before {
				t.Errorf("it changed\n%.2000s\nto\n%.2000s", before, after)
			}
		})
	}
}

func TestOneDirectoryHasOneControlPlane(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, stop := startSim(t, simOptions(dir))
	if err := Run(context.Background(), simOptions(dir)); err == nil || !strings.Contains(err.Error(), "another control plane runs") {
		t.Errorf("a second one says %v", err)
	}
	var out bytes.Buffer
	if err := Status(context.Background(), dir, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"running (process ", "http://127.0.0.1:", "sim: instances are records only", "instances      none"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the status:\n%s", want, &out)
		}
	}
	if err := Down(context.Background(), dir, true, &out); err == nil || !strings.Contains(err.Error(), "another process holds") {
		t.Errorf("down beside a process that can't be found says %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestDownCanBeRepeated(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	parent := t.TempDir()
	dir := filepath.Join(parent, "cloud")
	var out bytes.Buffer
	if err := Down(ctx, dir, false, &out); !errors.Is(err, errNoCloud) {
		t.Errorf("of nothing: %v", err)
	}
	if err := Down(ctx, dir, true, &out); err != nil {
		t.Errorf("with --purge of nothing: %v", err)
	}
	_, stop := startSim(t, simOptions(dir))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := Status(ctx, dir, &out); err != nil || !strings.Contains(out.String(), "control plane  stopped") {
		t.Errorf("status of a stopped one: %v\n%s", err, &out)
	}
	for range 2 {
		if err := Down(ctx, dir, false, &out); err != nil {
			t.Fatal(err)
		}
	}
	mine := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := Down(ctx, dir, true, &out); err != nil || !strings.Contains(out.String(), "thesis.txt") {
		t.Errorf("with a file of somebody else's: %v, %q", err, &out)
	}
	if got := strings.Count(tree(t, dir), "\n"); got != 2 || !fileExists(mine) {
		t.Errorf("that should be left alone:\n%.500s", tree(t, dir))
	}
	os.Remove(mine)
	_, stop = startSim(t, simOptions(dir))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Down(ctx, dir, true, &out); err != nil {
			t.Error(err)
		}
		if fileExists(dir) {
			t.Errorf("the directory is still there:\n%.500s", tree(t, dir))
		}
	}
}

func TestAnEphemeralCloudLeavesNothing(t *testing.T) {
	t.Parallel()
	o := simOptions(filepath.Join(t.TempDir(), "cloud"))
	o.Ephemeral = true
	_, stop := startSim(t, o)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if fileExists(o.DataDir) {
		t.Errorf("left over:\n%.500s", tree(t, o.DataDir))
	}
}

// TestAFullDisk fills the file system of the data directory: writes are refused, reads go on, and nothing is lost.
func TestAFullDisk(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c, stop := startSim(t, simOptions(dir))
	put := func(key string) error {
		return c.db.Update(func(w *store.WriteTx) error {
			return tag.Set(w, here, key, map[string]string{"k": strings.Repeat("x", 200)})
		})
	}
	if err := put("before"); err != nil {
		t.Fatal(err)
	}
	fill := filepath.Join(dir, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(block)
	}
	f.Close()
	var refused error
	kept := []string{"before"}
	for i := 0; refused == nil && i < 3000; i++ {
		key := fmt.Sprint("during", i)
		if refused = put(key); refused == nil {
			kept = append(kept, key)
		}
	}
	if f, ok := fault.As(refused); !ok || f.Kind != fault.Unavailable || !strings.Contains(f.Msg, "Free space") {
		t.Errorf("a write says %v", refused)
	}
	if err := boundLog(fill, 1<<20); err == nil { // the log's older half has no room: the log is cut all the same
		t.Error("there was room for the log")
	}
	if err := put("after"); err != nil {
		t.Errorf("with room again: %v", err)
	}
	kept = append(kept, "after")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Check(dir); err != nil {
		t.Fatal(err)
	}
	c, stop = startSim(t, simOptions(dir))
	for _, k := range kept {
		if len(tag.Of(c.db.Read(), here, k)) != 1 {
			t.Errorf("%s was acknowledged and is lost", k)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestLogsAreBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), LogFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := boundLog(path+"none", 10); err != nil {
		t.Error(err)
	}
	fmt.Fprint(f, "0123456789")
	if err := boundLog(path, 10); err != nil || fileExists(path+".1") {
		t.Errorf("a log within its bound was turned over (%v)", err)
	}
	fmt.Fprint(f, "abc")
	if err := boundLog(path, 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "def") // the writer goes on with the file that it has open
	for p, want := range map[string]string{path: "def", path + ".1": "3456789abc"} {
		if b, err := os.ReadFile(p); err != nil || string(b) != want {
			t.Errorf("%s holds %q (%v), want %q", p, b, err, want)
		}
	}
}
