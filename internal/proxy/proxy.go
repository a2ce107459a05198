package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"
)

// Options are what a Proxy takes from outside.
type Options struct {
	// Listen opens a listener; nil is net.Listen.
	Listen func(network, addr string) (net.Listener, error)
	// Dial connects to a target; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Log  *slog.Logger
	// Clock is the time; nil is time.Now.
	Clock func() time.Time
	// MaxConnections bounds the client connections; above it new ones are refused. 0 is 65536.
	MaxConnections int
}

// Proxy is one load-balancer node. Safe for concurrent use.
type Proxy struct {
	opt Options
}

// New returns a Proxy that serves nothing yet.
func New(opt Options) *Proxy { return &Proxy{opt: opt} }

// Apply replaces the configuration. On error nothing has changed.
func (p *Proxy) Apply(cfg Config) error { return errors.ErrUnsupported }

// Stats returns the counters since the last call.
func (p *Proxy) Stats() Stats { return Stats{} }

// Shutdown stops accepting, lets running exchanges finish until ctx ends, then closes everything.
func (p *Proxy) Shutdown(ctx context.Context) error { return nil }

// Standalone is the configuration of a proxy without a cloud.
type Standalone struct {
	Config
}

// LoadStandalone reads a configuration file.
func LoadStandalone(path string) (Standalone, error) { return Standalone{}, errors.ErrUnsupported }

// RunStandalone serves until ctx ends.
func RunStandalone(ctx context.Context, s Standalone, log *slog.Logger) error {
	return errors.ErrUnsupported
}

// Short is the short form of a standalone configuration, as flags give it.
type Short struct {
	HTTP, HTTPS       string // listen addresses
	CertFile, KeyFile string
	Backends          []string // target addresses
}

// Standalone returns the configuration that the short form stands for.
func (s Short) Standalone() (Standalone, error) { return Standalone{}, errors.ErrUnsupported }
