//go:build linux && (amd64 || arm64)

package proxy

import (
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// h2parker waits for the HTTP/2 connections of a Proxy that have nothing to do: a parked one has neither a goroutine nor an epoll set.
// Its own goroutine begins with the first of them.
type h2parker struct {
	mu   sync.Mutex
	m    map[int32]*h2conn // by descriptor
	ep   int
	set  *os.File // the epoll set, which Go's own poller waits for; nil: not begun, or over
	done chan struct{}
	over bool
}

// park leaves an idle connection to the parker; it tells whether the goroutine must leave it alone now. c.mu is held.
func (c *h2conn) park() bool {
	f := &c.fast
	if c.goingAway || c.over || c.dead || c.readable || c.in != nil || c.wire.in != nil || c.wire.hup || len(c.out)+c.wire.waiting() > 0 || c.block.id != 0 ||
		len(c.streams)+c.busy > 0 || f.holds() || len(f.ready) > 0 || c.woken.Load() || c.drain.Load() || c.killed.Load() {
		return false
	}
	old := c.set.Load()
	if !c.p.parker.add(c) {
		return false
	}
	old.Close()
	c.setRaw = nil
	c.streams = nil
	c.closed, c.closedAt = slices.Clip(slices.DeleteFunc(c.closed, func(s closedStream) bool { return !s.reset })), 0
	if len(c.closed) == 0 {
		c.closed = nil
	}
	if c.woken.Load() { // meanwhile
		c.p.parker.take(c.wire.fd)
	}
	return true
}

func (k *h2parker) add(c *h2conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || k.set == nil && !k.begin() {
		return false
	}
	if epollAdd(k.ep, c.wire.fd, 0, unix.EPOLLIN|unix.EPOLLRDHUP) != nil {
		return false
	}
	k.m[c.wire.fd] = c
	c.parked.Store(true)
	return true
}

func (k *h2parker) begin() bool {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	unix.SetNonblock(ep, true)
	set := os.NewFile(uintptr(ep), "epoll")
	raw, err := set.SyscallConn()
	if err != nil {
		set.Close()
		return false
	}
	k.ep, k.set, k.m, k.done = ep, set, map[int32]*h2conn{}, make(chan struct{})
	go k.run(raw)
	return true
}

func (k *h2parker) run(raw syscall.RawConn) {
	defer close(k.done)
	events := make([]unix.EpollEvent, 64)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n = epollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for i := range n {
			k.take(events[i].Fd)
		}
	}
}

// take has a parked connection go on, if it is still there.
func (k *h2parker) take(fd int32) {
	k.mu.Lock()
	c := k.m[fd]
	if c != nil {
		delete(k.m, fd)
		epollDelete(k.ep, fd)
		c.parked.Store(false)
	}
	k.mu.Unlock()
	if c != nil {
		go c.live()
	}
}

// stop ends the parker; there are no connections any more.
func (k *h2parker) stop() {
	k.mu.Lock()
	k.over = true
	set := k.set
	k.mu.Unlock()
	if set != nil {
		set.Close()
		<-k.done
	}
}
