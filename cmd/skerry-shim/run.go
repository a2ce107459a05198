//go:build cgo

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"skerry/internal/shim"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/utils"
	"golang.org/x/sys/unix"
)

// Bounds.
const (
	maxClients      = 64               // connections served at once; more wait in the kernel's queue
	rebootTimeout   = 30 * time.Second // graceful part of a reboot
	minBoot         = time.Second      // a boot shorter than this counts as a failed one
	maxShortBoots   = 5                // reboots of its own in a row after such boots before the instance is given up
	maxStopTimeout  = 10 * time.Minute
	betweenBoots    = 10 * time.Second      // that a stop waits for a boot which is under way
	firstAsk        = 20 * time.Millisecond // between requests to shut down
	maxAsk          = 2 * time.Second
	consoleColumns  = 120
	consoleRows     = 40
	requestDeadline = 5 * time.Second
	lastWords       = time.Second // for answers at the end
)

// supervisor owns the container of one instance. mu guards the fields below it; the goroutine of run is the only one
// that boots and reaps.
type supervisor struct {
	dir     string
	cfg     shim.Config
	kind    initKind
	console *shim.ConsoleLog
	clients sync.WaitGroup

	mu      sync.Mutex
	c       *libcontainer.Container
	st      shim.State
	running bool
	done    bool
	gone    chan struct{} // closed when the current boot's init is reaped
	changed chan struct{} // closed at every change of running, done or st
	want    string        // "", stopped, killed, reboot: why the init is about to end
}

func run(dir string) error {
	lock, err := shim.Lock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	s := &supervisor{dir: dir, changed: make(chan struct{})}
	if err := shim.ReadJSON(filepath.Join(dir, shim.ConfigFile), &s.cfg); err != nil {
		return err
	}
	if s.kind, err = detectInit(s.cfg.Rootfs); err != nil {
		return err
	}
	if s.console, err = shim.OpenConsole(dir); err != nil {
		return err
	}
	l, err := shim.Listen(dir)
	if err != nil {
		return err
	}
	for short := 0; ; {
		t := time.Now()
		p, con, err := s.boot()
		if err != nil {
			s.finish(shim.Exit{Code: 1, Reason: "failed: " + err.Error(), StartedAt: t, At: time.Now()})
			return err
		}
		if s.st.Boots == 1 {
			ready(nil)
			go s.serve(l) // ends with the process
			debug.FreeOSMemory()
		}
		ps, werr := p.Wait()
		con.finish()
		again, ex := s.ended(ps, werr)
		s.mu.Lock()
		asked := s.want != ""
		s.mu.Unlock()
		if time.Since(t) < minBoot && ex.Reason == "reboot" && !asked {
			short++
		} else {
			short = 0
		}
		if !again || short >= maxShortBoots {
			if again {
				ex.Reason = "failed: rebooted too often in too short a time"
			}
			s.finish(ex)
			return nil
		}
	}
}

// boot starts the container and returns when its init runs.
func (s *supervisor) boot() (*libcontainer.Process, *console, error) {
	states := filepath.Join(s.dir, "state")
	os.RemoveAll(states) // of a shim that was killed
	if err := os.MkdirAll(states, 0o700); err != nil {
		return nil, nil, err
	}
	c, err := libcontainer.Create(states, s.cfg.ID, containerConfig(s.cfg, s.kind))
	if err != nil {
		return nil, nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console")
	con := &console{peer: make(chan *os.File, 1), copied: make(chan struct{})}
	go con.copy(ours, s.console)
	p := &libcontainer.Process{Args: s.kind.argv, Env: environ(s.cfg, s.kind), Init: true, Cwd: "/", ConsoleSocket: theirs, ConsoleWidth: consoleColumns, ConsoleHeight: consoleRows}
	s.joinUnified(filepath.Base(s.cfg.CgroupPath))
	err = c.Start(p)
	s.joinUnified("shims")
	theirs.Close()
	if err == nil {
		if s.kind.name == "systemd" {
			delegate(s.cfg)
		}
		err = c.Exec()
	}
	if err != nil {
		c.Destroy()
		con.finish()
		return nil, nil, fmt.Errorf("start %s: %w", s.kind.argv[0], err)
	}
	pid, err := p.Pid()
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.c, s.running, s.want, s.gone = c, true, "", make(chan struct{})
	s.st = shim.State{PID: pid, PIDStart: shim.PIDStart(pid), StartedAt: time.Now(), Boots: s.st.Boots + 1}
	os.Remove(filepath.Join(s.dir, shim.ExitFile))
	if err := shim.WriteJSON(filepath.Join(s.dir, shim.StateFile), s.st); err != nil {
		fmt.Fprintln(os.Stderr, "skerry-shim: state record:", err)
	}
	s.notify()
	return p, con, nil
}

// joinUnified moves this process, and with it whatever it starts from then on, between the cloud's groups in a unified
// hierarchy beside v1. Only measuring depends on it, so an instance boots without.
func (s *supervisor) joinUnified(name string) {
	if s.cfg.Unified == "" {
		return
	}
	dir := filepath.Join(s.cfg.Unified, filepath.Dir(s.cfg.CgroupPath), name)
	if name != "shims" {
		os.Remove(dir) // of the boot before, so that counters begin anew
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "skerry-shim: unified control group:", err)
	}
}

// console is the master side of one boot's terminal, being copied to the log.
type console struct {
	peer   chan *os.File // gets one file, or nil
	copied chan struct{} // closed at the end of the output
}

// copy receives the terminal and copies it. It holds the other side open as well: an init such as systemd closes its own,
// and a terminal without a holder fails for whoever opens it next.
func (c *console) copy(ours *os.File, log io.Writer) {
	defer close(c.copied)
	m, err := utils.RecvFile(ours)
	ours.Close()
	if err != nil {
		c.peer <- nil
		return
	}
	defer m.Close()
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, m.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		fmt.Fprintln(os.Stderr, "skerry-shim: console:", e)
		c.peer <- nil
	} else {
		c.peer <- os.NewFile(fd, "console")
	}
	io.Copy(log, m) // ends with EIO when nobody holds the other side
}

// finish waits for the rest of the output, after everything in the container has ended.
func (c *console) finish() {
	if f := <-c.peer; f != nil {
		f.Close()
	}
	<-c.copied
}

// ended takes the container down after its init is gone and says whether to boot again.
func (s *supervisor) ended(ps *os.ProcessState, werr error) (again bool, ex shim.Exit) {
	ex = shim.Exit{At: time.Now(), Reason: "exit"}
	var ee interface{ Sys() any }
	if ps == nil && !errors.As(werr, &ee) {
		ex.Code, ex.Reason = 255, fmt.Sprint("failed: ", werr)
	} else if ps != nil {
		ws := ps.Sys().(syscall.WaitStatus)
		switch {
		case ws.Signaled():
			ex.Code = 128 + int(ws.Signal())
			switch ws.Signal() { // what reboot(2) does to a pid namespace's init
			case syscall.SIGINT:
				ex.Code, ex.Reason = 0, "poweroff"
			case syscall.SIGHUP:
				ex.Code, ex.Reason = 0, "reboot"
			case syscall.SIGKILL:
				ex.Reason = "killed"
			}
		default:
			ex.Code = ws.ExitStatus()
		}
	}
	s.mu.Lock()
	c := s.c
	ex.StartedAt = s.st.StartedAt
	if s.want != "" {
		ex.Reason = s.want
	}
	s.mu.Unlock()
	if err := c.Destroy(); err != nil {
		fmt.Fprintln(os.Stderr, "skerry-shim: take down:", err)
	}
	s.mu.Lock()
	s.running = false
	close(s.gone)
	s.notify()
	s.mu.Unlock()
	return ex.Reason == "reboot", ex
}

func (s *supervisor) finish(ex shim.Exit) {
	if err := shim.Finish(s.dir, ex); err != nil {
		fmt.Fprintln(os.Stderr, "skerry-shim: exit record:", err)
	}
	s.mu.Lock()
	s.done = true
	s.notify()
	s.mu.Unlock()
	os.Remove(filepath.Join(s.dir, shim.SocketFile))
	answered := make(chan struct{})
	go func() { s.clients.Wait(); close(answered) }()
	select { // whoever asked for the end hears of it
	case <-answered:
	case <-time.After(lastWords):
	}
}

// notify must be called with mu held.
func (s *supervisor) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *supervisor) serve(l net.Listener) {
	slots := make(chan struct{}, maxClients)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		s.mu.Lock()
		if s.done {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.clients.Add(1)
		s.mu.Unlock()
		go func() { defer func() { c.Close(); <-slots; s.clients.Done() }(); s.answer(c) }()
	}
}

func (s *supervisor) answer(c net.Conn) {
	c.SetReadDeadline(time.Now().Add(requestDeadline))
	line, err := bufio.NewReader(io.LimitReader(c, 4096)).ReadBytes('\n')
	if err != nil {
		return
	}
	var req shim.Request
	out := json.NewEncoder(c)
	if err := json.Unmarshal(line, &req); err != nil {
		out.Encode(shim.Reply{Err: "malformed request: " + err.Error()})
		return
	}
	switch req.Op {
	case "status":
		out.Encode(s.reply(nil))
	case "stop":
		d := min(time.Duration(req.TimeoutMS)*time.Millisecond, maxStopTimeout)
		out.Encode(s.reply(s.stop("stopped", req.Force, d)))
	case "reboot":
		out.Encode(s.reply(s.reboot()))
	case "watch":
		s.watch(c, out)
	default:
		out.Encode(shim.Reply{Err: "unknown request " + req.Op})
	}
}

func (s *supervisor) reply(err error) shim.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := shim.Reply{Running: s.running, State: s.st}
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

func (s *supervisor) watch(c net.Conn, out *json.Encoder) {
	closed := make(chan struct{})
	c.SetReadDeadline(time.Time{})
	go func() { io.Copy(io.Discard, c); close(closed) }()
	for {
		s.mu.Lock()
		r, done, changed := shim.Reply{Running: s.running, State: s.st}, s.done, s.changed
		s.mu.Unlock()
		if out.Encode(r) != nil || done {
			return
		}
		select {
		case <-changed:
		case <-closed:
			return
		}
	}
}

// stop ends the current boot and returns when its init is gone.
func (s *supervisor) stop(want string, force bool, timeout time.Duration) error {
	s.mu.Lock()
	for end := time.Now().Add(betweenBoots); want == "stopped" && !s.running && !s.done; s.mu.Lock() { // it is rebooting: the next boot is what ends
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(time.Until(end)):
			return errors.New("the instance is between two boots, and does not come up")
		}
	}
	if !s.running {
		s.mu.Unlock()
		return nil
	}
	c, gone := s.c, s.gone
	if s.want == "" || want == "stopped" { // a stop overrules a reboot that is under way
		s.want = want
	}
	s.mu.Unlock()
	ask := s.kind.shutdown
	if want == "reboot" {
		ask = s.kind.reboot
	}
	if !force && timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		// Asked again and again: an init that has only just begun does not catch the signal yet, and the kernel drops it.
	asking:
		for wait := firstAsk; c.Signal(ask) == nil; wait = min(2*wait, maxAsk) {
			select {
			case <-gone:
				return nil
			case <-t.C:
				break asking
			case <-time.After(wait):
			}
		}
	}
	if err := c.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, libcontainer.ErrNotRunning) {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-time.After(maxStopTimeout):
		return errors.New("init does not end after SIGKILL")
	}
}

func (s *supervisor) reboot() error {
	s.mu.Lock()
	boots := s.st.Boots
	s.mu.Unlock()
	if err := s.stop("reboot", false, rebootTimeout); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		again, done, changed := s.running && s.st.Boots > boots, s.done, s.changed
		s.mu.Unlock()
		switch {
		case again:
			return nil
		case done:
			return errors.New("the instance did not boot again")
		}
		<-changed
	}
}
