package fabric

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ofAddrs matches connections that any of the addresses takes part in.
type ofAddrs map[netip.Addr]bool

func (f ofAddrs) has(ips ...net.IP) bool {
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok && f[a.Unmap()] {
			return true
		}
	}
	return false
}

// MatchConntrackFlow implements netlink's filter.
func (f ofAddrs) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	return f.has(c.Forward.SrcIP, c.Forward.DstIP, c.Reverse.SrcIP, c.Reverse.DstIP)
}

// matchFunc is a filter that is a function.
type matchFunc func(*netlink.ConntrackFlow) bool

func (f matchFunc) MatchConntrackFlow(c *netlink.ConntrackFlow) bool { return f(c) }

// forget deletes the connections of addresses that are no longer there, in the namespace at ns: the next owner of an
// address starts with none.
func forget(ns string, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	set := ofAddrs{}
	for _, a := range addrs {
		set[a] = true
	}
	_, err := deleteFlows(ns, set)
	return err
}

func deleteFlows(ns string, f netlink.CustomConntrackFilter) (n int, err error) {
	err = InNamespace(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer h.Close()
		_, err = dump(func() (uint, error) {
			c, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, f)
			n += int(c)
			return c, err
		})
		return err
	})
	return n, err
}
