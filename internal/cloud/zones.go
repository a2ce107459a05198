package cloud

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"skerry/internal/zone"
)

// zoneCheckEvery is how often the supervisor looks whether a zone's process is there; its exit is noticed at once.
const zoneCheckEvery = 500 * time.Millisecond

// zoneStartTimeout bounds how long a started data plane may take until it answers.
const zoneStartTimeout = 10 * time.Second

// restartPause is how long a data plane that dies at once must wait until it is started again.
const restartPause = time.Second

// supervisor keeps one data-plane process a zone running. It starts them in sessions of their own, so that they survive
// the control plane, and adopts those that it finds. Safe for concurrent use.
type supervisor struct {
	ctx     context.Context // of the control plane's life
	exe     string
	dataDir string
	scale   int
	off     func(zone string) bool // has the zone no power?
	log     *slog.Logger
	wg      sync.WaitGroup

	mu    sync.Mutex
	zones map[string]*zoneProc
}

type zoneProc struct {
	client  *zone.Client
	applied string // version of the desired state that it has, "" if unknown
	ready   chan struct{}
	exited  chan struct{} // a child has ended
}

func newSupervisor(ctx context.Context, dataDir string, scale int, off func(string) bool, log *slog.Logger) (*supervisor, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dataDir, "zones"), 0o755); err != nil {
		return nil, err
	}
	s := &supervisor{ctx: ctx, exe: exe, dataDir: dataDir, scale: scale, off: off, log: log, zones: map[string]*zoneProc{}}
	pids, err := filepath.Glob(filepath.Join(dataDir, "zones", "*.pid"))
	for _, p := range pids { // those of an earlier life: adopted, or started again
		s.proc(strings.TrimSuffix(filepath.Base(p), ".pid"))
	}
	return s, err
}

func (s *supervisor) pidFile(z string) string { return filepath.Join(s.dataDir, "zones", z+".pid") }

func (s *supervisor) proc(z string) *zoneProc {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.zones[z]
	if p == nil {
		p = &zoneProc{client: zone.NewClient(s.dataDir, z), ready: make(chan struct{}), exited: make(chan struct{}, 1)}
		s.zones[z] = p
		s.wg.Add(1)
		go func() { defer s.wg.Done(); s.keep(z, p) }()
	}
	return p
}

// client returns the zone's client once its data plane has answered, starting the process if needed.
func (s *supervisor) client(ctx context.Context, z string) (*zone.Client, error) {
	p := s.proc(z)
	t := time.NewTimer(zoneStartTimeout)
	defer t.Stop()
	select {
	case <-p.ready:
		return p.client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	case <-t.C:
		return nil, context.DeadlineExceeded
	}
}

// known lists the zones under supervision, in order.
func (s *supervisor) known() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.zones))
}

// applied is the version of the desired state that a zone was last seen to have.
func (s *supervisor) applied(z string) string {
	p := s.proc(z)
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.applied
}

func (s *supervisor) setApplied(z, version string) {
	p := s.proc(z)
	s.mu.Lock()
	defer s.mu.Unlock()
	p.applied = version
}

// keep starts the zone's process when it isn't there, for as long as the control plane lives.
func (s *supervisor) keep(z string, p *zoneProc) {
	announced := false
	var started time.Time
	for s.ctx.Err() == nil {
		wait := zoneCheckEvery
		if s.off(z) {
			s.kill(z) // it may have been on its way up when the power failed
		} else {
			if !alive(s.pid(z)) {
				if pid := s.stray(z); pid > 0 {
					if err := writeDurable(s.pidFile(z), []byte(strconv.Itoa(pid)), 0o644); err != nil {
						s.log.Error("a zone's data plane could not be adopted", "zone", z, "pid", pid, "err", err)
					}
				} else if pause := restartPause - time.Since(started); pause > 0 {
					wait = pause
				} else {
					started = time.Now()
					if err := s.start(z, p); err != nil {
						s.log.Error("a zone's data plane could not be started", "zone", z, "err", err)
					}
				}
			}
			if !announced {
				if announced = p.client.Healthy(s.ctx); announced {
					close(p.ready)
				} else {
					wait = min(wait, 5*time.Millisecond)
				}
			}
		}
		select {
		case <-time.After(wait):
		case <-p.exited:
		case <-s.ctx.Done():
		}
	}
}

func (s *supervisor) pid(z string) int {
	b, err := os.ReadFile(s.pidFile(z))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(b))
	cmdline, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline") // a reused pid is somebody else's
	if dir, _ := dirOf(strings.Split(string(cmdline), "\x00")); len(cmdline) == 0 || !containsArg(cmdline, z) || resolve(dir) != resolve(s.dataDir) {
		return 0
	}
	return pid
}

// stray finds the zone's process that an earlier control plane started and was killed before it had written down: a second
// one would take its socket and find its ports in use.
func (s *supervisor) stray(z string) int {
	for _, pid := range processes(s.dataDir)["zones"] {
		if cmdline, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); containsArg(cmdline, z) {
			return pid
		}
	}
	return 0
}

func (s *supervisor) start(z string, p *zoneProc) error {
	log, err := os.OpenFile(filepath.Join(s.dataDir, "zones", z+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(s.exe, "zone", "--data-dir", s.dataDir, "--zone", z, "--time-scale", strconv.Itoa(s.scale))
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	s.log.Info("started a zone's data plane", "zone", z, "pid", c.Process.Pid)
	go func() { // reaps it; ends with the process
		c.Wait()
		select {
		case p.exited <- struct{}{}:
		default:
		}
	}()
	return writeDurable(s.pidFile(z), []byte(strconv.Itoa(c.Process.Pid)), 0o644)
}

// kill ends a zone's data plane at once, as a power failure would. It comes back by itself when the zone has power.
func (s *supervisor) kill(z string) {
	if pid := s.pid(z); pid > 0 {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

func containsArg(cmdline []byte, arg string) bool {
	start := 0
	for i, b := range cmdline {
		if b == 0 {
			if string(cmdline[start:i]) == arg {
				return true
			}
			start = i + 1
		}
	}
	return false
}
