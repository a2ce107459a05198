//go:build !linux || !(amd64 || arm64)

package proxy

import (
	"net"
	"time"

	"skerry/internal/tlsfront"
)

// servesH2 tells whether this build offers HTTP/2 to clients.
const servesH2 = false

type spares struct{}

func (spares) expire(time.Time, time.Duration) {}

type h2parker struct{}

func (*h2parker) stop() {}

type h2set struct{}

func (h2set) tick(int64)      {}
func (h2set) close(*listener) {}
func (h2set) kill()           {}

func (p *Proxy) serveH2(*listener, net.Conn, *tlsfront.Session, peerInfo) {}
