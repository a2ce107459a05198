package fabric

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// MaxFrontNodes bounds the addresses that one front is spread over.
const MaxFrontNodes = 64

// SetFronts makes these, and no others, the cloud's fronts: public addresses that nobody has, whose new connections go to
// the public addresses behind them, each to one of them at random. A front with none refuses. Connections that were made
// before stay where they are, unless their front goes: the next owner of an address starts with none. The rules are part
// of the host's table, so they change in one transaction, and Heal and Teardown include them. Idempotent.
func (f *Fabric) SetFronts(ctx context.Context, fronts map[netip.Addr][]netip.Addr) error {
	want := map[netip.Addr][]netip.Addr{}
	for front, to := range fronts {
		to = slices.Clone(to)
		slices.SortFunc(to, netip.Addr.Compare) // the order means nothing: do not rewrite the chain for it
		want[front] = slices.Compact(to)
	}
	if err := f.pool.checkFronts(want); err != nil {
		return err
	}
	s := &f.host
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []netip.Addr
	for front := range s.fronts {
		if _, stays := want[front]; !stays {
			gone = append(gone, front)
		}
	}
	if s.rules != nil && maps.EqualFunc(s.fronts, want, slices.Equal) {
		return nil
	}
	if s.rules == nil && len(want) == 0 {
		if there, err := tableExists("", hostTable(f.o.CloudID)); err != nil || !there {
			s.fronts = want
			return err
		}
	}
	if err := s.look(f); err != nil {
		return err
	}
	s.fronts = want
	if err := s.write(ctx, f); err != nil {
		return fmt.Errorf("fronts: %w", err)
	}
	if !f.pool.translated() {
		if err := routeFronts(s.h, f.pool, want); err != nil {
			s.rules = nil // unknown: the next call does it all again
			return fmt.Errorf("fronts: %w", err)
		}
	}
	return forget("", gone)
}

// routeFronts gives the fronts a way, which a connect needs before the rules get to see its first packet: the host's lo,
// where nothing takes them. Loopback's addresses have it already. A front with nothing behind it keeps the unreachable
// route of the pool.
func routeFronts(h *netlink.Handle, p pool, fronts map[netip.Addr][]netip.Addr) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	have, err := routesOf(h, lo.Attrs().Index)
	if err != nil {
		return err
	}
	route := func(a netip.Addr) *netlink.Route {
		return &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: single(a), Scope: netlink.SCOPE_LINK, Protocol: routeProto}
	}
	var errs []error
	there := map[netip.Addr]bool{}
	for _, a := range have {
		if !p.public.Contains(a) {
			continue
		}
		there[a] = len(fronts[a]) > 0
		if !there[a] {
			if err := h.RouteDel(route(a)); err != nil && ignoreMissing(err) != nil {
				errs = append(errs, fmt.Errorf("remove route to %v: %w", a, err))
			}
		}
	}
	for a, to := range fronts {
		if len(to) > 0 && !there[a] {
			if err := h.RouteReplace(route(a)); err != nil {
				errs = append(errs, fmt.Errorf("route to %v: %w", a, err))
			}
		}
	}
	return errors.Join(errs...)
}

// checkFronts refuses what contradicts itself.
func (p pool) checkFronts(fronts map[netip.Addr][]netip.Addr) error {
	given := func(a netip.Addr) bool {
		return p.public.Contains(a) && a.Compare(offset(p.public, 2)) >= 0
	}
	for front, to := range fronts {
		if !given(front) {
			return fmt.Errorf("front %v: no address of the pool %v that can be given out", front, p.public)
		}
		if len(to) > MaxFrontNodes {
			return fmt.Errorf("front %v: %d addresses behind it, at most %d are possible", front, len(to), MaxFrontNodes)
		}
		for _, a := range to {
			if _, also := fronts[a]; also || !given(a) {
				return fmt.Errorf("front %v: %v cannot be behind it", front, a)
			}
		}
	}
	return nil
}
