package fabric

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostState is what this process knows about the host's own namespace.
type hostState struct {
	mu      sync.Mutex
	h       *netlink.Handle
	rules   *ruleset // nil = unknown
	gates   map[string]bool
	uplinks []string
	fronts  map[netip.Addr][]netip.Addr // as SetFronts wants them
}

// gatewayName is the host's end of a VPC's internet gateway: "sk", the cloud's id, the VPC's index in base 36.
func gatewayName(cloudID string, index uint32) string {
	n := strconv.FormatUint(uint64(index), 36)
	return "sk" + cloudID + strings.Repeat("0", 5-len(n)) + n
}

func isGateway(cloudID, name string) bool {
	return len(name) == len("sk")+len(cloudID)+5 && strings.HasPrefix(name, "sk"+cloudID)
}

// hostGateways lists the links of the cloud's gateways.
func hostGateways(h *netlink.Handle, cloudID string) (map[string]netlink.Link, error) {
	links, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links of the host: %w", err)
	}
	m := map[string]netlink.Link{}
	for _, l := range links {
		if l.Type() == "veth" && isGateway(cloudID, l.Attrs().Name) {
			m[l.Attrs().Name] = l
		}
	}
	return m, nil
}

// set makes the host's table know exactly one gateway more (or less).
func (s *hostState) set(ctx context.Context, f *Fabric, name string, there bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.look(f); err != nil {
		return err
	}
	had := s.gates[name]
	if there {
		s.gates[name] = true
	} else {
		delete(s.gates, name)
	}
	if s.rules != nil && had == there {
		return nil
	}
	return s.write(ctx, f)
}

// look learns what the table must hold from the kernel, if this process does not know it.
func (s *hostState) look(f *Fabric) error {
	if s.rules != nil {
		return nil
	}
	links, err := hostGateways(s.h, f.o.CloudID)
	if err != nil {
		return err
	}
	s.gates = map[string]bool{}
	for n := range links {
		s.gates[n] = true
	}
	if f.o.Egress {
		if s.uplinks, err = enableUplinks(s.h, f.o.CloudID); err != nil {
			return err
		}
	}
	return nil
}

// write makes the table equal to what is known.
func (s *hostState) write(ctx context.Context, f *Fabric) error {
	want := hostRules(f.o.CloudID, f.pool, f.o.Egress, slices.Sorted(maps.Keys(s.gates)), s.uplinks, s.fronts)
	script := ""
	if s.rules == nil {
		// A pool's address that no VPC has ends here, not at the default route.
		r := &netlink.Route{Dst: ipNet(f.pool.transit), Type: unix.RTN_UNREACHABLE, Protocol: routeProto, Priority: 1 << 20}
		if err := s.h.RouteReplace(r); err != nil {
			return fmt.Errorf("unreachable route of %v: %w", f.pool.transit, err)
		}
		script = want.full()
	} else {
		script = want.since(s.rules)
	}
	if err := nft(ctx, "", script); err != nil {
		s.rules = nil
		return err
	}
	s.rules = want
	return nil
}

func (s *hostState) drop(ctx context.Context, f *Fabric, name string) error {
	s.mu.Lock()
	unknown := s.rules == nil
	s.mu.Unlock()
	if unknown {
		if there, err := tableExists("", hostTable(f.o.CloudID)); err != nil || !there {
			return err
		}
	}
	return s.set(ctx, f, name, false)
}

// Heal looks whether the host's table still stands and puts it back if not: reloading a firewall often flushes
// everybody's rules. To be called now and then; it costs one question to the kernel.
func (f *Fabric) Heal(ctx context.Context) (healed bool, err error) {
	s := &f.host
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rules == nil {
		return false, nil // nothing was made yet, or the next Apply makes it anew
	}
	there, err := tableExists("", hostTable(f.o.CloudID))
	if err != nil || there {
		return false, err
	}
	f.log.Warn("the host's nftables table was flushed by somebody else; putting it back", "table", hostTable(f.o.CloudID))
	return true, nft(ctx, "", s.rules.full())
}

// applyGateway makes the internet gateway equal to v: its link, the routes on both sides. It returns the transit
// addresses that went.
func (f *Fabric) applyGateway(ctx context.Context, s *vpcState, ns string, v *VPC, link netlink.Link) (gone []netip.Addr, err error) {
	name := gatewayName(f.o.CloudID, v.Index)
	hostLink, err := f.host.h.LinkByName(name)
	if err != nil && ignoreMissing(err) != nil {
		return nil, err
	}
	if err != nil {
		hostLink = nil
	}
	if !v.HasIGW {
		if link != nil {
			if err := delLink(s.h, link); err != nil {
				return nil, err
			}
		}
		if link == nil && hostLink == nil {
			return nil, nil
		}
		if hostLink != nil {
			gone, _ = routesOf(f.host.h, hostLink.Attrs().Index)
			if err := delLink(f.host.h, hostLink); err != nil {
				return nil, err
			}
		}
		return gone, f.host.drop(ctx, f, name)
	}
	if err := f.host.set(ctx, f, name, true); err != nil {
		return nil, err
	}
	macHost, macVPC := mac("host "+name), mac("vpc "+name)
	paired := link != nil && hostLink != nil && link.Attrs().ParentIndex == hostLink.Attrs().Index && hostLink.Attrs().ParentIndex == link.Attrs().Index
	if !paired {
		if err := f.makeGateway(ns, name, link, hostLink, s.h, macHost, macVPC); err != nil {
			return nil, err
		}
		if hostLink, err = f.host.h.LinkByName(name); err != nil {
			return nil, err
		}
		if link, err = s.h.LinkByName(gatewayLink); err != nil {
			return nil, err
		}
	}
	if err := f.gatewayEnds(s.h, name, link, hostLink, macHost, macVPC); err != nil {
		return nil, err
	}
	want := map[netip.Addr]bool{}
	for _, i := range v.Interfaces {
		if pub, ok := v.public(i); ok {
			want[f.pool.toTransit(pub)] = true
		}
	}
	have, err := routesOf(f.host.h, hostLink.Attrs().Index)
	if err != nil {
		return nil, err
	}
	route := func(a netip.Addr) *netlink.Route {
		return &netlink.Route{LinkIndex: hostLink.Attrs().Index, Dst: single(a), Gw: f.pool.vpc.AsSlice(), Flags: int(netlink.FLAG_ONLINK), Protocol: routeProto}
	}
	var errs []error
	for _, a := range have {
		if want[a] {
			delete(want, a)
			continue
		}
		if err := f.host.h.RouteDel(route(a)); err != nil && ignoreMissing(err) != nil {
			errs = append(errs, fmt.Errorf("remove route to %v: %w", a, err))
		}
		gone = append(gone, a)
	}
	for a := range want {
		// An address that moves from another VPC replaces that VPC's route; that VPC finds it gone.
		if err := f.host.h.RouteReplace(route(a)); err != nil {
			errs = append(errs, fmt.Errorf("route to %v: %w", a, err))
		}
	}
	return gone, errors.Join(errs...)
}

func (f *Fabric) makeGateway(ns, name string, link, hostLink netlink.Link, h *netlink.Handle, macHost, macVPC net.HardwareAddr) error {
	if link != nil {
		if err := delLink(h, link); err != nil {
			return err
		}
	}
	if hostLink != nil {
		if err := delLink(f.host.h, hostLink); err != nil {
			return err
		}
	}
	file, err := openNS(ns)
	if err != nil {
		return err
	}
	defer file.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, gatewayMTU, macHost
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = gatewayLink, macVPC, gatewayMTU
	veth.PeerNamespace = netlink.NsFd(int(file.Fd()))
	if err := f.host.h.LinkAdd(veth); err != nil {
		return fmt.Errorf("add gateway link: %w", err)
	}
	return nil
}

// gatewayEnds configures both ends where they differ from what they should be: settings first, up last, so that a link
// that is up is complete.
func (f *Fabric) gatewayEnds(h *netlink.Handle, name string, link, hostLink netlink.Link, macHost, macVPC net.HardwareAddr) error {
	if hostLink.Attrs().Flags&net.FlagUp != 0 && link.Attrs().Flags&net.FlagUp != 0 && link.Attrs().Alias == name {
		return nil
	}
	for k, val := range map[string]string{"rp_filter": "0", "forwarding": "1", "send_redirects": "0", "accept_redirects": "0"} {
		if err := sysctl("net/ipv4/conf/"+name+"/"+k, val); err != nil {
			return err
		}
	}
	if err := sysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1"); err != nil {
		return err
	}
	if f.pool.translated() {
		if err := sysctl("net/ipv4/conf/"+name+"/route_localnet", "1"); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: f.pool.gateway.AsSlice(), HardwareAddr: macHost, State: netlink.NUD_PERMANENT}); err != nil {
		return fmt.Errorf("gateway neighbour: %w", err)
	}
	out := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), Gw: f.pool.gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if err := f.host.h.LinkSetUp(hostLink); err != nil {
		return err
	}
	if err := h.RouteReplace(out); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	if err := f.host.h.NeighSet(&netlink.Neigh{LinkIndex: hostLink.Attrs().Index, IP: f.pool.vpc.AsSlice(), HardwareAddr: macVPC, State: netlink.NUD_PERMANENT}); err != nil {
		return fmt.Errorf("gateway neighbour on the host: %w", err)
	}
	for range 20 { // the end that came up first sends only when the kernel has noticed the second: a SYN lost now costs 1 s
		if l, err := h.LinkByName(gatewayLink); err != nil || l.Attrs().OperState == netlink.OperUp {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return h.LinkSetAlias(link, name)
}

// unreachableRanges keeps packets to addresses that nobody has inside the VPC.
func unreachableRanges(h *netlink.Handle, v *VPC) error {
	filter := &netlink.Route{Type: unix.RTN_UNREACHABLE, Table: unix.RT_TABLE_MAIN}
	rs, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_TYPE|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	want := map[netip.Prefix]bool{}
	for _, c := range v.CIDRs {
		want[c.Masked()] = true
	}
	for _, r := range rs {
		p, ok := addrOf(r.Dst)
		if want[p] {
			delete(want, p)
		} else if ok {
			if err := h.RouteDel(&r); err != nil && ignoreMissing(err) != nil {
				return err
			}
		}
	}
	for p := range want {
		if err := h.RouteReplace(&netlink.Route{Dst: ipNet(p), Type: unix.RTN_UNREACHABLE}); err != nil {
			return fmt.Errorf("unreachable route of %v: %w", p, err)
		}
	}
	return nil
}

// Teardown removes everything of the cloud from this machine, also what an earlier process or a half-done call left.
func (f *Fabric) Teardown(ctx context.Context) error {
	f.mu.Lock()
	states := slices.Collect(maps.Values(f.vpcs))
	f.vpcs = map[string]*vpcState{}
	f.mu.Unlock()
	for _, s := range states {
		s.mu.Lock()
		s.reset()
		s.mu.Unlock()
	}
	ids, err := f.List(ctx)
	errs := []error{err}
	for _, id := range ids {
		_, err := emptyNS(f.VPCNamespace(id))
		errs = append(errs, err, dropNS(f.VPCNamespace(id)))
	}
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	f.host.rules, f.host.fronts = nil, nil
	errs = append(errs, teardownHost(ctx, f.host.h, f.o.CloudID))
	errs = append(errs, removeEmpty(f.o.RunDir+"/netns"), removeEmpty(f.o.RunDir))
	return errors.Join(errs...)
}

// teardownHost removes a cloud's links, routes, table, and its claim; the claim last, for it says what else there may be.
func teardownHost(ctx context.Context, h *netlink.Handle, cloudID string) error {
	var errs []error
	links, err := hostGateways(h, cloudID)
	errs = append(errs, err)
	for _, l := range links {
		errs = append(errs, delLink(h, l))
	}
	if pools, err := claimed(cloudID); err != nil {
		errs = append(errs, err)
	} else {
		for _, p := range pools {
			if !p.translated() {
				errs = append(errs, routeFronts(h, p, nil))
			}
			r := &netlink.Route{Dst: ipNet(p.transit), Type: unix.RTN_UNREACHABLE, Protocol: routeProto, Priority: 1 << 20}
			if err := h.RouteDel(r); err != nil && ignoreMissing(err) != nil {
				errs = append(errs, fmt.Errorf("remove unreachable route of %v: %w", p.transit, err))
			}
			_, err := deleteFlows("", matchFunc(func(c *netlink.ConntrackFlow) bool { return p.takesPart(c) }))
			errs = append(errs, err)
		}
	}
	t := hostTable(cloudID)
	errs = append(errs, nft(ctx, "", "table "+t+" {}\ndelete table "+t+"\n"), disableUplinks(cloudID))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return unclaim(cloudID)
}

// takesPart tells whether a connection of the host is one with the pool.
func (p pool) takesPart(c *netlink.ConntrackFlow) bool {
	for _, ip := range []net.IP{c.Forward.SrcIP, c.Forward.DstIP, c.Reverse.SrcIP, c.Reverse.DstIP} {
		if a, ok := netip.AddrFromSlice(ip); ok && p.transit.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

func removeEmpty(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}
