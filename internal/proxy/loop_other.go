//go:build !linux || !(amd64 || arm64)

package proxy

import (
	"errors"
	"net"
	"net/netip"
)

// Engine needs Linux: elsewhere goroutines do everything.
type Engine struct{ loops []struct{} }

type pool struct{}

var errNoLoops = errors.New("event loops need Linux")

// NewEngine fails on this system.
func NewEngine(int) (*Engine, error) { return nil, errNoLoops }

// Close does nothing.
func (e *Engine) Close() {}

func (e *Engine) listen(*Proxy, *listener) {}
func (e *Engine) unlisten(*listener)       {}
func (e *Engine) expire(...*target)        {}
func (e *Engine) kill(*Proxy)              {}

// ListenSockets fails on this system.
func ListenSockets(string, int) ([]int, error) { return nil, errNoLoops }

// ListenSocketsFree fails on this system.
func ListenSocketsFree(string, int) ([]int, error) { return nil, errNoLoops }

func newSocket(netip.Addr) (int, error)  { return -1, errNoLoops }
func duplicates(net.Listener, int) []int { return nil }
func closeSocket(int)                    {}
