package main

import (
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// procs starts children and reaps everything that dies, its own children and what was orphaned to init alike.
type procs struct {
	mu   sync.Mutex
	mine map[int]chan syscall.WaitStatus
}

// start runs a program. Its status comes on the channel, once.
func (p *procs) start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	p.mu.Lock() // held until the child is known: it may be dead before ForkExec returns
	defer p.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, &os.PathError{Op: "exec", Path: path, Err: err}
	}
	if p.mine == nil {
		p.mine = map[int]chan syscall.WaitStatus{}
	}
	c := make(chan syscall.WaitStatus, 1)
	p.mine[pid] = c
	return pid, c, nil
}

// reap collects what is dead now. It is called at every SIGCHLD.
func (p *procs) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		p.mu.Lock()
		c := p.mine[pid]
		delete(p.mine, pid)
		p.mu.Unlock()
		if c != nil {
			c <- ws
		}
	}
}

// alone waits until init is the only process, and says whether it is.
func (p *procs) alone(patience time.Duration) bool {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		p.reap()
		if !others() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func others() bool {
	d, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil && pid != 1 {
			return true
		}
	}
	return false
}

// code is a status as a shell has it.
func code(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
