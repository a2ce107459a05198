//go:build linux && (amd64 || arm64)

package proxy

import (
	"golang.org/x/sys/unix"
)

type h2fast struct{}
type quick struct{}

func (f *h2fast) init(ep int)              {}
func (f *h2fast) gather()                  {}
func (f *h2fast) event(e *unix.EpollEvent) {}
func (f *h2fast) resume()                  {}
func (f *h2fast) look(now int64)           {}
func (f *h2fast) rest(now int64)           {}
func (f *h2fast) close()                   {}
func (f *h2fast) again(s *h2stream)        {}
func (f *h2fast) left(s *h2stream)         {}
