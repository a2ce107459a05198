package fabric

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestProbe: who has its address and a link that is up answers, whatever its groups let through.
func TestProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	v := twoZones("vpc-1", 1)
	names := []string{"a", "b", "c", "d"}
	ips := map[string]netip.Addr{"eni-gone": netip.MustParseAddr("10.0.0.99")}
	for i, n := range names {
		i := instance(t, n, netip.AddrFrom4([4]byte{10, 0, byte(i % 2), byte(10 + i)}).String(), []string{"a", "b"}[i%2], "sg-closed")
		v.Interfaces = append(v.Interfaces, i)
		ips[i.ID] = i.IP
	}
	w.apply(v)
	check := func(want ...string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got, err := w.f.Probe(w.ctx, "vpc-1", ips)
			list := slices.Sorted(maps.Keys(got))
			if err == nil && time.Now().Before(end) && slices.ContainsFunc(want, func(id string) bool { return !got[id] }) {
				continue // a link that was set up has its carrier a moment later
			}
			if err != nil || !slices.Equal(list, want) {
				t.Errorf("%v answered (%v), wanted %v", list, err, want)
			}
			return
		}
	}
	check("eni-a", "eni-b", "eni-c", "eni-d")
	in := func(i int, fn func(h *netlink.Handle, eth0 netlink.Link) error) {
		t.Helper()
		h, err := handleAt(v.Interfaces[i].NetNS)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		l, err := h.LinkByName("eth0")
		if err == nil {
			err = fn(h, l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	in(1, func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetDown(l) })
	in(2, func(h *netlink.Handle, l netlink.Link) error {
		return h.AddrDel(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(v.Interfaces[2].IP, 24))})
	})
	check("eni-a", "eni-d")
	in(1, func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetUp(l) })
	check("eni-a", "eni-b", "eni-d")
}
