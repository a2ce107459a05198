package fabric

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	instanceMTU = 9001 // as in a VPC
	// gatewayMTU is as large: a client on the host believes that the way to 127/8 takes anything, and hears of nothing
	// smaller on it. For the way out of the host, segments are held to what it takes.
	gatewayMTU = instanceMTU
)

// routeProto marks routes on the host as this package's.
const routeProto netlink.RouteProtocol = 83

// mac derives a locally administered address from a name, so that an interface keeps it wherever it appears.
func mac(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	m := net.HardwareAddr(sum[:6:6])
	m[0] = m[0]&^1 | 2
	return m
}

func (i Interface) mac() net.HardwareAddr {
	if m, err := net.ParseMAC(i.MAC); err == nil {
		return m
	}
	return mac(i.ID)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

func single(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, 32)) }

func addrOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok && a.Unmap().Is4()
}

// plug is one interface's place: what has to be the same for a link to stay as it is.
type plug struct {
	iface   Interface
	subnet  Subnet
	ns      uint64 // inode of the instance's namespace
	ifindex int    // VPC's end
}

func (a plug) same(b plug) bool {
	return a.ns == b.ns && a.iface.IP == b.iface.IP && a.iface.mac().String() == b.iface.mac().String() &&
		a.subnet.CIDR == b.subnet.CIDR && a.subnet.Gateway == b.subnet.Gateway
}

// dump repeats a kernel dump that a change in the middle of it made inconsistent.
func dump[T any](list func() (T, error)) (t T, err error) {
	for range 10 {
		if t, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return t, err
}

// handle opens a route socket in the calling thread's namespace.
func handle() (*netlink.Handle, error) { return netlink.NewHandle(unix.NETLINK_ROUTE) }

// handleAt opens a route socket in the namespace at path.
func handleAt(path string) (h *netlink.Handle, err error) {
	err = InNamespace(path, func() error { h, err = handle(); return err })
	return h, err
}

// plugIn makes the veth pair of an interface and configures both ends. h belongs to the VPC's namespace. A pair that is
// there already and connects the same two namespaces is configured again, any other is replaced.
func plugIn(vpcNS string, h *netlink.Handle, old netlink.Link, want *plug, p pool) error {
	i, name := want.iface, linkName(want.iface.ID)
	ns, err := openNS(i.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	if old != nil && !connected(old, ns, i.mac()) {
		if err := delLink(h, old); err != nil {
			return err
		}
		old = nil
	}
	if old == nil {
		if err := inNSFile(ns, removeStale); err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr, attrs.Flags = name, instanceMTU, mac("router "+i.ID), net.FlagUp
		veth := netlink.NewVeth(attrs)
		veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = "eth0", i.mac(), instanceMTU
		veth.PeerNamespace = netlink.NsFd(int(ns.Fd()))
		if err := h.LinkAdd(veth); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		if old, err = h.LinkByName(name); err != nil {
			return err
		}
	}
	index := old.Attrs().Index
	// Else an ARP answer for another instance waits up to 0.8 s. There is no default for it in a namespace.
	if err := InNamespace(vpcNS, func() error { return sysctl("net/ipv4/neigh/"+name+"/proxy_delay", "0") }); err != nil {
		return err
	}
	if old.Attrs().Alias != i.ID {
		if err := h.LinkSetAlias(old, i.ID); err != nil {
			return fmt.Errorf("name the link: %w", err)
		}
	}
	if old.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(old); err != nil {
			return err
		}
	}
	if err := h.AddrReplace(old, &netlink.Addr{IPNet: single(want.subnet.Gateway)}); err != nil {
		return fmt.Errorf("gateway address: %w", err)
	}
	if err := h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: single(i.IP), Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("route to the instance: %w", err)
	}
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: index, IP: i.IP.AsSlice(), HardwareAddr: i.mac(), State: netlink.NUD_PERMANENT}); err != nil {
		return fmt.Errorf("neighbour: %w", err)
	}
	if err := inNSFile(ns, func() error { return configureInstance(old.Attrs().ParentIndex, want, p) }); err != nil {
		return err
	}
	want.ifindex = index
	return nil
}

// connected tells whether link's other end is in ns and has the right address.
func connected(link netlink.Link, ns *os.File, want net.HardwareAddr) bool {
	ok := false
	inNSFile(ns, func() error {
		h, err := handle()
		if err != nil {
			return err
		}
		defer h.Close()
		peer, err := h.LinkByIndex(link.Attrs().ParentIndex)
		ok = err == nil && peer.Type() == "veth" && peer.Attrs().ParentIndex == link.Attrs().Index && peer.Attrs().HardwareAddr.String() == want.String()
		return nil
	})
	return ok
}

// removeStale clears the way for eth0: what a former half-done attempt left.
func removeStale() error {
	h, err := handle()
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName("eth0")
	if err != nil {
		return ignoreMissing(err)
	}
	return delLink(h, l)
}

// configureInstance sets up the instance's end; it runs inside the instance's namespace.
func configureInstance(index int, want *plug, p pool) error {
	h, err := handle()
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if lo.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("instance lo up: %w", err)
		}
	}
	eth, err := h.LinkByIndex(index)
	if err != nil {
		return err
	}
	addr := ipNet(netip.PrefixFrom(want.iface.IP, want.subnet.CIDR.Bits()))
	if err := h.AddrReplace(eth, &netlink.Addr{IPNet: addr}); err != nil {
		return fmt.Errorf("instance address: %w", err)
	}
	if eth.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(eth); err != nil {
			return fmt.Errorf("instance link up: %w", err)
		}
	}
	gw := net.IP(want.subnet.Gateway.AsSlice())
	if err := h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), Gw: gw}); err != nil {
		return fmt.Errorf("instance default route: %w", err)
	}
	if !p.translated() {
		return nil
	}
	// Public addresses out of 127/8 must leave the instance: a more specific route beside the one to lo.
	if err := sysctl("net/ipv4/conf/"+eth.Attrs().Name+"/route_localnet", "1"); err != nil {
		return err
	}
	r := &netlink.Route{LinkIndex: index, Dst: ipNet(p.public), Gw: gw, Table: unix.RT_TABLE_LOCAL}
	if err := h.RouteReplace(r); err != nil {
		return fmt.Errorf("instance route to public addresses: %w", err)
	}
	return nil
}

func delLink(h *netlink.Handle, l netlink.Link) error {
	if err := h.LinkDel(l); err != nil && ignoreMissing(err) != nil {
		return fmt.Errorf("delete link %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// doomed is the link group whose members go together.
const doomed = 0x5e11

// delLinks deletes links of the namespace at ns all at once: the kernel waits for its readers once, not for each of them.
func delLinks(ns string, h *netlink.Handle, links []netlink.Link) error {
	if len(links) < 2 {
		for _, l := range links {
			return delLink(h, l)
		}
		return nil
	}
	for _, l := range links {
		if err := h.LinkSetGroup(l, doomed); err != nil && ignoreMissing(err) != nil {
			return fmt.Errorf("delete link %s: %w", l.Attrs().Name, err)
		}
	}
	return InNamespace(ns, func() error {
		req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(doomed)))
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		if err != nil && ignoreMissing(err) != nil {
			return fmt.Errorf("delete %d links: %w", len(links), err)
		}
		return nil
	})
}

func ignoreMissing(err error) error {
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// vpcLinks returns the links of a VPC's namespace by name.
func vpcLinks(h *netlink.Handle) (map[string]netlink.Link, error) {
	list, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	m := make(map[string]netlink.Link, len(list))
	for _, l := range list {
		m[l.Attrs().Name] = l
	}
	return m, nil
}

// isInterface tells whether a link of a VPC's namespace is the end of an interface.
func isInterface(l netlink.Link) bool {
	return l.Type() == "veth" && l.Attrs().Name != gatewayLink && strings.HasPrefix(l.Attrs().Name, "e")
}

// routesOf returns the single addresses that are routed to a link.
func routesOf(h *netlink.Handle, link int) ([]netip.Addr, error) {
	filter := &netlink.Route{LinkIndex: link, Table: unix.RT_TABLE_MAIN}
	rs, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []netip.Addr
	for _, r := range rs {
		if p, ok := addrOf(r.Dst); ok && p.Bits() == 32 {
			out = append(out, p.Addr())
		}
	}
	return out, nil
}

// localAddrs makes the /32 addresses of the namespace's lo equal to want and returns those that went. (Not a dummy link:
// many kernels have none.)
func localAddrs(h *netlink.Handle, lo netlink.Link, want map[netip.Addr]bool) (gone []netip.Addr, err error) {
	if lo.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(lo); err != nil {
			return nil, err
		}
	}
	have := map[netip.Addr]bool{}
	list, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(lo, unix.AF_INET) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range list {
		p, ok := addrOf(a.IPNet)
		switch {
		case !ok || loopback.Contains(p.Addr()):
		case want[p.Addr()]:
			have[p.Addr()] = true
		default:
			if err := h.AddrDel(lo, &a); err != nil && ignoreMissing(err) != nil {
				return nil, fmt.Errorf("remove address %v: %w", p, err)
			}
			gone = append(gone, p.Addr())
		}
	}
	for a := range want {
		if !have[a] {
			if err := h.AddrReplace(lo, &netlink.Addr{IPNet: single(a)}); err != nil {
				return nil, fmt.Errorf("add address %v: %w", a, err)
			}
		}
	}
	return gone, nil
}
