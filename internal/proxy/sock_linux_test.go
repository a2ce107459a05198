package proxy

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPatience(t *testing.T) {
	l := rawTarget(t)
	defer l.Close()
	p := New(Options{})
	defer p.Shutdown(t.Context())
	tg := &target{addr: l.Addr().String()}
	u, err := p.dial(context.Background(), tg)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	get := func() (ms int) {
		u.raw.Control(func(fd uintptr) { ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
		if err != nil {
			t.Fatal(err)
		}
		return ms
	}
	if ms := get(); ms != int(patience.Milliseconds()) {
		t.Errorf("%d ms; a vanished target would hold its requests for minutes", ms)
	}
	u.lift()
	if ms := get(); ms != 0 {
		t.Errorf("%d ms; a target that reads slowly would be cut", ms)
	}
	tg.give(u, p.opt.Clock())
	if ms := get(); ms != int(patience.Milliseconds()) {
		t.Errorf("%d ms after the long request", ms)
	}
}
