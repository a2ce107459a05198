package container

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"sync"

	"skerry/internal/driver"
	"skerry/internal/embedded"
	"skerry/internal/shim"
)

// Ranges of user ids: idRanges of idSize each from idFirst on, above what distributions give out to users and below what
// systemd refuses.
const (
	idFirst  = 1 << 27
	idSize   = 1 << 16
	idRanges = 26000
)

// startsAtOnce bounds the boots that run at the same time, per processor: more would only wait for each other.
const startsAtOnce = 3

const specFile = "spec.json"

var validID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Options of New.
type Options struct {
	DataDir string
	CloudID string // names of mounts, cgroups and namespaces carry it
	RunDir  string // default /run/skerry-CLOUDID
	Log     *slog.Logger
}

// Driver runs containers. Safe for concurrent use.
type Driver struct {
	o      Options
	cg     cgroupFS
	shim   string // path of the shim program
	idBase uint32 // the first range of this cloud
	events chan driver.Event
	boots  chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // watchers

	mu    sync.Mutex
	insts map[string]*instance
}

// instance is what the driver knows about one. op serialises calls; the driver's mu guards the rest.
type instance struct {
	op     sync.Mutex
	id     string
	dir    string
	run    string
	exists bool
	status driver.Status
	pid    int
	boots  int
	watch  bool // a watcher runs
	wait   waitMeter
}

var _ driver.Driver = (*Driver)(nil)

// New opens the driver and adopts every instance that is there.
func New(o Options) (*Driver, error) {
	if o.RunDir == "" {
		o.RunDir = "/run/skerry-" + o.CloudID
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if !validID.MatchString(o.CloudID) {
		return nil, fmt.Errorf("cloud id %q is not a plain name", o.CloudID)
	}
	d := &Driver{o: o, events: make(chan driver.Event, driver.EventQueue), boots: make(chan struct{}, startsAtOnce*runtime.NumCPU()), insts: map[string]*instance{}}
	h := fnv.New32a()
	h.Write([]byte(o.CloudID))
	d.idBase = h.Sum32() % idRanges
	var err error
	if d.cg, err = findCgroups(); err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Join(o.DataDir, "instances"), filepath.Join(o.DataDir, "bin"), o.RunDir, filepath.Join(o.RunDir, "instances")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{o.RunDir, filepath.Join(o.RunDir, "instances")} { // the fabric may have made it
		if err := os.Chmod(dir, 0o711); err != nil {
			return nil, err
		}
	}
	if d.shim, err = writeShim(filepath.Join(o.DataDir, "bin")); err != nil {
		return nil, err
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if err := d.adopt(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// writeShim writes the shim under a name of its content, so that an upgrade never touches a program that runs.
func writeShim(dir string) (string, error) {
	b, err := embedded.Shim()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	sub := filepath.Join(dir, hex.EncodeToString(sum[:6]))
	path := filepath.Join(sub, "skerry-shim")
	if st, err := os.Stat(path); err == nil && st.Size() == int64(len(b)) {
		return path, nil
	}
	if err := os.MkdirAll(sub, 0o711); err != nil {
		return "", err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o755); err != nil {
		return "", err
	}
	return path, os.Rename(tmp, path)
}

// Close ends the driver's goroutines. Instances go on.
func (d *Driver) Close() {
	d.cancel()
	d.wg.Wait()
}

// adopt reads the instances' directory, watches what runs and completes the records of what died unwatched.
func (d *Driver) adopt() error {
	ents, err := os.ReadDir(filepath.Join(d.o.DataDir, "instances"))
	if err != nil {
		return err
	}
	for _, e := range ents {
		if !e.IsDir() || !validID.MatchString(e.Name()) {
			continue
		}
		in := d.get(e.Name())
		var s driver.Spec
		if err := shim.ReadJSON(filepath.Join(in.dir, specFile), &s); err != nil {
			// Create was cut off before the record, or the disk lost it: nothing of it can be run.
			d.o.Log.Warn("removing an instance without a record", "instance", in.id, "err", err)
			if err := d.remove(in); err != nil {
				d.o.Log.Error("an instance without a record could not be removed", "instance", in.id, "err", err)
			}
			continue
		}
		in.exists = true
		d.refresh(in)
	}
	// Mount points whose instance's directory was taken away from under the driver.
	ents, err = os.ReadDir(filepath.Join(d.o.RunDir, "instances"))
	if err != nil {
		return err
	}
	for _, e := range ents {
		if d.insts[e.Name()] == nil && validID.MatchString(e.Name()) {
			if err := d.remove(d.get(e.Name())); err != nil {
				d.o.Log.Error("the remains of an instance could not be removed", "instance", e.Name(), "err", err)
			}
		}
	}
	return nil
}

func (d *Driver) get(id string) *instance {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.insts[id]
	if in == nil {
		in = &instance{id: id, dir: shim.InstanceDir(d.o.DataDir, id), run: filepath.Join(d.o.RunDir, "instances", id)}
		in.status = driver.Status{ID: id, State: driver.Created}
		d.insts[id] = in
	}
	return in
}

// lock returns an instance with its op lock held; absent ones give ErrNotFound unless create is set.
func (d *Driver) lock(id string, create bool) (*instance, error) {
	if !validID.MatchString(id) {
		return nil, fmt.Errorf("instance id %q: %w", id, driver.ErrNotFound)
	}
	in := d.get(id)
	in.op.Lock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.insts[id] != in { // destroyed while this call waited
		in.op.Unlock()
		if create {
			return nil, fmt.Errorf("instance %s was destroyed meanwhile; try again", id)
		}
		return nil, fmt.Errorf("instance %s: %w", id, driver.ErrNotFound)
	}
	if !in.exists && !create {
		delete(d.insts, id)
		in.op.Unlock()
		return nil, fmt.Errorf("instance %s: %w", id, driver.ErrNotFound)
	}
	return in, nil
}

// List returns every instance of this cloud, ordered by id.
func (d *Driver) List(context.Context) ([]driver.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]driver.Status, 0, len(d.insts))
	for _, in := range d.insts {
		if in.exists {
			out = append(out, in.status)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

// Console returns the last 64 KiB of the console's output.
func (d *Driver) Console(_ context.Context, id string) ([]byte, error) {
	d.mu.Lock()
	in := d.insts[id]
	ok := in != nil && in.exists
	d.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("instance %s: %w", id, driver.ErrNotFound)
	}
	b, err := shim.ReadConsole(in.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Events returns the driver's one event channel.
func (d *Driver) Events() <-chan driver.Event { return d.events }

// Changes says where an instance's own files are and how their owners are shifted: what an image is made of.
func (d *Driver) Changes(id string) (upper string, firstID, ids int, layers []string, err error) {
	in, err := d.lock(id, false)
	if err != nil {
		return "", 0, 0, nil, err
	}
	defer in.op.Unlock()
	var s driver.Spec
	var c shim.Config
	if err := shim.ReadJSON(filepath.Join(in.dir, specFile), &s); err != nil {
		return "", 0, 0, nil, err
	}
	if err := shim.ReadJSON(filepath.Join(in.dir, shim.ConfigFile), &c); err != nil {
		return "", 0, 0, nil, err
	}
	return filepath.Join(in.dir, "fs", "upper"), c.UIDBase, idSize, s.Layers, nil
}
