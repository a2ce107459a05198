package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// File names in an instance's directory.
const (
	ConfigFile  = "config.json"
	StateFile   = "state.json"
	ExitFile    = "exit.json"
	ConsoleFile = "console.log"
	LockFile    = "shim.lock"
	SocketFile  = "shim.sock"
)

// ReadyFD is the descriptor on which the shim answers its starter: "ok\n", or a sentence that says what failed.
const ReadyFD = 3

// Config says what to run.
type Config struct {
	ID         string
	Hostname   string
	Rootfs     string
	UserNS     string
	NetNS      string
	UIDBase    int
	CgroupPath string // absolute inside every hierarchy
	Unified    string // where cgroup v2 is mounted when the controllers are v1: init is born in CgroupPath there, too
	VCPU       float64
	MemoryMiB  int
	Env        map[string]string
}

// State describes the current run.
type State struct {
	PID       int
	PIDStart  uint64 // init's start time in clock ticks: guards against pid reuse
	StartedAt time.Time
	Boots     int
}

// Exit describes how the last run ended.
type Exit struct {
	Code      int
	Reason    string
	StartedAt time.Time
	At        time.Time
}

// Request is one line from a client. Op is status, stop, reboot or watch.
type Request struct {
	Op        string
	Force     bool `json:",omitempty"`
	TimeoutMS int  `json:",omitempty"`
}

// Reply is one line from the shim. watch sends one at every change and closes after the exit.
type Reply struct {
	Err     string `json:",omitempty"`
	Running bool
	State   State
}

// InstanceDir returns the directory of an instance.
func InstanceDir(dataDir, id string) string { return filepath.Join(dataDir, "instances", id) }

// sockPath names the socket through a descriptor of its directory: socket addresses end at 107 bytes, data directories
// don't. The file must stay open while the path is used.
func sockPath(dir string) (string, *os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), SocketFile), f, nil
}

// Listen opens the socket of an instance, replacing one that a dead shim left.
func Listen(dir string) (net.Listener, error) {
	p, f, err := sockPath(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the path names a descriptor that is closed by then
	return l, nil
}

// Watch sends one request and calls fn for each reply until fn returns false, the shim closes, or ctx ends.
func Watch(ctx context.Context, dir string, req Request, fn func(Reply) bool) error {
	p, f, err := sockPath(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", p)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := json.NewEncoder(c).Encode(req); err != nil {
		return err
	}
	r := bufio.NewReader(io.LimitReader(c, 1<<20))
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		var rep Reply
		if err := json.Unmarshal(line, &rep); err != nil {
			return err
		}
		if !fn(rep) {
			return nil
		}
	}
}

// Do sends one request and returns its reply.
func Do(ctx context.Context, dir string, req Request) (Reply, error) {
	var out Reply
	err := Watch(ctx, dir, req, func(r Reply) bool { out = r; return false })
	if err == nil && out.Err != "" {
		err = errors.New(out.Err)
	}
	return out, err
}

// Alive reports whether a shim holds the lock of an instance.
func Alive(dir string) bool {
	f, err := os.Open(filepath.Join(dir, LockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return true
	}
	return false
}

// Lock takes the lock of an instance for the life of the returned file. The wait is short: a driver that asks Alive
// holds it for an instant.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			pid := os.Getpid()
			if _, err := f.WriteAt(fmt.Appendf(nil, "%12d %20d\n", pid, PIDStart(pid)), 0); err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		}
		if try == 50 {
			f.Close()
			return nil, fmt.Errorf("another shim runs this instance: %w", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Kill ends the shim that holds the lock of an instance. The lock file's process id counts only together with its start
// time.
func Kill(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, LockFile))
	if err != nil || !Alive(dir) {
		return
	}
	var pid int
	var start uint64
	if n, _ := fmt.Sscan(string(b), &pid, &start); n == 2 && pid > 1 && start != 0 && PIDStart(pid) == start {
		unix.Kill(pid, unix.SIGKILL)
	}
}

// Finish records how a run ended. The state goes after the exit is on disk, so that one of both is always there.
func Finish(dir string, ex Exit) error {
	if err := WriteJSON(filepath.Join(dir, ExitFile), ex); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, StateFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// WriteJSON writes v to a file atomically.
func WriteJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// PIDStart returns the start time of a process in clock ticks since boot, 0 when there is no such process or it is a
// zombie.
func PIDStart(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0
	}
	n, _ := strconv.ParseUint(f[19], 10, 64)
	return n
}
