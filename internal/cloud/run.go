package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/access"
	"skerry/internal/compute"
	"skerry/internal/driver"
	"skerry/internal/driver/container"
	"skerry/internal/driver/sim"
	"skerry/internal/endpoint/elbapi"
	"skerry/internal/event"
	"skerry/internal/fabric"
	"skerry/internal/identity"
	"skerry/internal/image"
	"skerry/internal/metric"
	"skerry/internal/network"
	"skerry/internal/reconcile"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

// Options are those of `skerry up`.
type Options struct {
	DataDir     string // absolute
	Listen      string
	PublicPool  netip.Prefix
	Driver      string // auto, container, sim
	Egress      bool
	TimeScale   int
	RootKeyFile string
	EventsSink  string // file:PATH or a URL; "" is none
	HostsFile   bool
	Ephemeral   bool
	LogFile     string           // takes standard error once nothing can be refused any more; "" leaves it
	Ready       func(url string) // called once, when the API answers
	Log         *slog.Logger     // nil: text on standard error

	started func(*control) // for tests: called before Ready
	driver  driver.Driver  // for tests: instead of the sim driver
}

// Bounds of the API's servers.
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
	maxHeaderBytes  = 64 << 10
)

// control is a running control plane.
type control struct {
	o     Options
	id    string
	log   *slog.Logger
	clock func() time.Time

	secret   []byte // see secretFile
	db       *store.DB
	metrics  *metric.Store
	images   *image.Store
	driver   driver.Driver
	fabric   *fabric.Fabric // nil with the sim driver, which has no network
	zones    *supervisor    // nil with the sim driver
	scaler   *scaling.Reconciler
	alarms   *metric.Evaluator
	sink     *sink        // nil: nobody hears of events
	handler  http.Handler // of requests from this host
	contents *elbapi.Contents
	inside   http.Handler // of requests from instances
	networks *networks
	loop     *instances

	permissions *access.Checker
	usage       identity.Usage

	nets     *reconcile.Coalescer // by VPC key
	plans    *reconcile.Coalescer // by zone
	sessions *sessions
}

// Run is the control plane of a cloud, from its start until ctx ends; then the workloads stay, unless it is ephemeral.
// Whatever is wrong with the options or the machine is found before anything is changed.
func Run(ctx context.Context, o Options) (err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	c := &control{o: o, id: cloudID(o.DataDir), log: o.Log, clock: time.Now}
	if err := c.check(); err != nil {
		return err
	}
	o = c.o // check has chosen the driver
	if c.sink, err = newSink(o.EventsSink); err != nil {
		return err
	}
	lis, err := listen(o.Listen)
	if err != nil {
		return err
	}
	defer lis.Close()
	defer func() {
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("the disk of %s is full (%w); free some space and run 'skerry up' again, what runs goes on meanwhile", o.DataDir, err)
		}
	}()
	if err := c.claim(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.DataDir, 0o755); err != nil {
		return fmt.Errorf("the data directory cannot be made: %w; choose another with --data-dir or run as root", err)
	}
	if o.LogFile != "" {
		if err := logTo(o.LogFile); err != nil {
			return err
		}
	}
	if c.db, err = store.Open(o.DataDir, store.Options{}); err != nil {
		return c.unusable(err)
	}
	defer c.db.Close()
	if err := c.open(ctx); err != nil {
		return err
	}
	defer c.metrics.Close()
	s := settings{Listen: lis.Addr().String(), PublicPool: o.PublicPool.String(), Driver: o.Driver, Egress: o.Egress, TimeScale: o.TimeScale,
		RootKey: o.RootKeyFile, HostsFile: o.HostsFile, PID: os.Getpid()}
	if err := s.write(o.DataDir); err != nil {
		return err
	}
	if c.secret, err = readSecret(filepath.Join(o.DataDir, secretFile)); err != nil {
		return err
	}
	if err := c.serve(ctx, lis); err != nil {
		return err
	}
	if o.Ephemeral {
		c.log.Info("taking the ephemeral cloud down")
		c.db.Close()
		c.metrics.Close()
		stopProcesses(processes(o.DataDir)["zones"])
		if err := tearDown(context.WithoutCancel(ctx), o.DataDir, s, c.log); err != nil {
			return err
		}
		return removeDir(o.DataDir, os.Stderr)
	}
	return nil
}

// open makes everything that the loops and services stand on.
func (c *control) open(ctx context.Context) (err error) {
	o := c.o
	if c.metrics, err = metric.Open(filepath.Join(o.DataDir, "metrics"), metric.Options{Clock: c.clock}); err != nil {
		return fmt.Errorf("the metrics in %s cannot be opened: %w", o.DataDir, err)
	}
	defer func() {
		if err != nil {
			c.metrics.Close()
		}
	}()
	if err := c.db.Update(func(w *store.WriteTx) error { return network.SetPublicPool(w, o.PublicPool) }); err != nil {
		return fmt.Errorf("--public-pool %s: %w", o.PublicPool, err)
	}
	if err := c.db.Update(func(w *store.WriteTx) error { event.SetSink(w, c.sink != nil); return nil }); err != nil {
		return err
	}
	c.images = &image.Store{Dir: filepath.Join(o.DataDir, "images")}
	if o.Driver == "sim" {
		if c.driver = o.driver; c.driver == nil {
			c.driver = sim.New(sim.Options{})
		}
	} else {
		if c.driver, err = container.New(container.Options{DataDir: o.DataDir, CloudID: c.id, Log: c.log}); err != nil {
			return err
		}
		if c.zones, err = newSupervisor(ctx, o.DataDir, o.TimeScale, c.zoneOff, c.log); err != nil {
			return err
		}
	}
	c.networks = &networks{c: c, netns: map[string]string{}, applied: map[string]fabric.VPC{}, stop: map[string]func(){}}
	c.loop = newInstances(c)
	c.sessions = &sessions{c: c}
	c.nets = reconcile.NewCoalescer(c.networks.sync)
	c.plans = reconcile.NewCoalescer(c.syncZone)
	if err := c.setHost(); err != nil {
		return err
	}
	if err := c.publishImages(); err != nil {
		return err
	}
	c.compose()
	return nil
}

// runDir is where namespaces and other things that don't outlive a reboot are kept.
func runDir(id string) string { return "/run/skerry-" + id }

// setHost records what the machine can hold.
func (c *control) setHost() error {
	h := compute.Host{Unlimited: true}
	if c.fabric != nil {
		var si unix.Sysinfo_t
		if err := unix.Sysinfo(&si); err != nil {
			return err
		}
		arch := map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
		h = compute.Host{VCPU: runtime.NumCPU(), MemoryMiB: int(uint64(si.Totalram) * uint64(si.Unit) >> 20), Architectures: []string{arch}}
	}
	return c.db.Update(func(w *store.WriteTx) error { compute.SetHost(w, h); return nil })
}

// publishImages makes an AMI of each image in the store.
func (c *control) publishImages() error {
	if err := c.images.EnsureBuiltin(); err != nil {
		return fmt.Errorf("the built-in image cannot be written: %w", err)
	}
	list, err := c.images.List()
	if err != nil {
		return err
	}
	return c.db.Update(func(w *store.WriteTx) error {
		for _, i := range list {
			compute.PutImage(w, compute.Image{ID: i.ID, Name: i.Name, Description: i.Description, Architecture: i.Architecture, CreatedAt: i.Created,
				Layers: i.Layers, StoreName: i.Name, RootSizeGiB: i.RootSizeGiB})
		}
		return nil
	})
}

// serve starts the loops and the API, says that it is ready, and returns when ctx has ended and everything has stopped.
func (c *control) serve(ctx context.Context, lis net.Listener) error {
	loops, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	start := func(f func(context.Context)) { wg.Add(1); go func() { defer wg.Done(); f(loops) }() }

	if err := c.loop.adopt(ctx); err != nil {
		return err
	}
	if c.fabric != nil {
		if err := c.networks.adopt(ctx); err != nil {
			return err
		}
		names := c.newNames()
		names.step(ctx) // before the networks write the host's rules, so that no front is missing from them
		start(c.networks.run)
		start(c.networks.heal)
		start(c.runZones)
		start(names.run)
	} else {
		start(c.runSimZones)
	}
	c.stayDark(ctx)
	start(c.loop.run)
	start(c.loop.events)
	start(c.loop.sweep)
	start(c.runTargets)
	start(func(ctx context.Context) {
		if err := c.scaler.Run(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("the Auto Scaling loop ended", "err", err)
		}
	})
	start(c.runAlarms)
	start(c.runInterruptions)
	start(c.runChecks)
	if c.sink != nil {
		start(c.runSink)
	}
	start(c.publish)
	start(c.runControl)
	start(c.boundLogs)
	start(c.keepUsage)

	srv := newServer(c.handler)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(lis) }() // ends with Shutdown
	c.log.Info("ready", "api", lis.Addr().String(), "data", c.o.DataDir, "cloud", c.id, "driver", c.o.Driver)
	if c.o.started != nil {
		c.o.started(c)
	}
	if c.o.Ready != nil {
		c.o.Ready("http://" + lis.Addr().String())
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer done()
	if srv.Shutdown(stop) != nil {
		srv.Close()
	}
	cancel()
	wg.Wait()
	return err
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
}
