package fabric

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
)

// Options are a fabric's settings.
type Options struct {
	CloudID    string       // at most 8 letters and digits; part of every name on the host
	RunDir     string       // "" = /run/skerry-<CloudID>; namespaces are mounted below it
	PublicPool netip.Prefix // where public addresses come from
	Egress     bool         // may instances reach out through this machine
	Log        *slog.Logger // nil = none
}

// Fabric is the network of one cloud on this machine.
type Fabric struct {
	o    Options
	pool pool
	log  *slog.Logger

	mu   sync.Mutex // guards vpcs; a VPC's own lock is taken without it
	vpcs map[string]*vpcState

	host hostState
}

// vpcState is what this process knows about a VPC's namespace. Losing it costs a full rewrite.
type vpcState struct {
	mu    sync.Mutex
	inode uint64 // of the namespace all of this is about
	h     *netlink.Handle
	rules *ruleset // what the table holds; nil = unknown
	plugs map[string]plug
	index uint32
}

func (s *vpcState) reset() {
	if s.h != nil {
		s.h.Close()
	}
	s.inode, s.h, s.rules, s.plugs = 0, nil, nil, map[string]plug{}
}

// New checks that the machine can do what is needed and claims the public pool. It changes nothing else.
func New(o Options) (*Fabric, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if err := checkCloudID(o.CloudID); err != nil {
		return nil, err
	}
	o.RunDir = cmp.Or(o.RunDir, "/run/skerry-"+o.CloudID)
	p, err := newPool(o.PublicPool)
	if err != nil {
		return nil, err
	}
	if err := Preflight(); err != nil {
		return nil, err
	}
	if err := claim(o.CloudID, p); err != nil {
		return nil, err
	}
	f := &Fabric{o: o, pool: p, log: o.Log, vpcs: map[string]*vpcState{}}
	f.host.h, err = handle()
	return f, err
}

// Remains is for Teardown alone: it claims no pool and asks nothing of the kernel, so that what an earlier process left can
// be removed whatever has happened to the machine since.
func Remains(o Options) (*Fabric, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkCloudID(o.CloudID); err != nil {
		return nil, err
	}
	o.RunDir = cmp.Or(o.RunDir, "/run/skerry-"+o.CloudID)
	f := &Fabric{o: o, log: o.Log, vpcs: map[string]*vpcState{}}
	var err error
	f.host.h, err = handle()
	return f, err
}

func checkCloudID(id string) error {
	if len(id) == 0 || len(id) > 8 {
		return fmt.Errorf("cloud id %q: 1 to 8 letters and digits", id)
	}
	for _, c := range id {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
			return fmt.Errorf("cloud id %q: small letters and digits only", id)
		}
	}
	return nil
}

// VPCNamespace returns the path of a VPC's network namespace, whether it exists or not.
func (f *Fabric) VPCNamespace(vpcID string) string { return VPCNamespace(f.o.RunDir, vpcID) }

// VPCNamespace is Fabric.VPCNamespace for other processes of the cloud.
func VPCNamespace(runDir, vpcID string) string { return filepath.Join(runDir, "netns", vpcID) }

func (f *Fabric) state(id string) *vpcState {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.vpcs[id]
	if s == nil {
		s = &vpcState{plugs: map[string]plug{}}
		f.vpcs[id] = s
	}
	return s
}

// Apply makes the kernel's state of one VPC equal to v, whatever there was. On an error the rest is done nevertheless, and
// the same call again continues; only a v that contradicts itself is refused as a whole. Idempotent. Connections that were
// allowed when they began go on even if no rule allows them any more, as in AWS (security groups track connections).
func (f *Fabric) Apply(ctx context.Context, v VPC) error {
	if err := v.check(f.pool); err != nil {
		return err
	}
	s := f.state(v.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := f.apply(ctx, s, &v); err != nil {
		return fmt.Errorf("vpc %s: %w", v.ID, err)
	}
	return nil
}

func (f *Fabric) apply(ctx context.Context, s *vpcState, v *VPC) error {
	ns := f.VPCNamespace(v.ID)
	inode := nsInode(ns)
	if inode == 0 {
		if err := makeNS(ns); err != nil {
			return err
		}
		inode = nsInode(ns)
	}
	if s.inode != inode || s.h == nil {
		s.reset()
		h, err := handleAt(ns)
		if err != nil {
			return err
		}
		s.inode, s.h = inode, h
	}
	s.index = v.Index

	// Without its table a namespace would forward everything, so a new one waits for it. Later a link whose rules are
	// not in place yet passes nothing, so both are done at the same time.
	want := v.rules(f.pool, f.o.Egress)
	ruled := make(chan error, 1)
	if s.rules == nil {
		if err := f.applyRules(ctx, s, ns, want); err != nil {
			return err
		}
		ruled <- nil
	} else {
		go func() { ruled <- f.applyRules(ctx, s, ns, want) }()
	}
	err := f.applyLinks(ctx, s, ns, v)
	return errors.Join(<-ruled, err)
}

func (f *Fabric) applyRules(ctx context.Context, s *vpcState, ns string, want *ruleset) error {
	script := ""
	if s.rules == nil {
		script = want.full()
	} else {
		script = want.since(s.rules)
	}
	if err := nft(ctx, ns, script); err != nil {
		s.rules = nil // unknown: the next round replaces the table
		return err
	}
	s.rules = want
	return nil
}

func (f *Fabric) applyLinks(ctx context.Context, s *vpcState, ns string, v *VPC) error {
	links, err := vpcLinks(s.h)
	if err != nil {
		return err
	}
	var errs []error
	var dead []netip.Addr // addresses whose connections end
	var stale []netlink.Link
	desired := map[string]Interface{}
	for _, i := range v.Interfaces {
		if !i.Local {
			desired[linkName(i.ID)] = i
		}
	}
	for _, name := range slices.Sorted(maps.Keys(links)) {
		l := links[name]
		if !isInterface(l) {
			continue
		}
		i, keeps := desired[name]
		addrs, moved := []netip.Addr(nil), false
		if !keeps || s.plugs[name].iface.IP != i.IP {
			if addrs, err = routesOf(s.h, l.Attrs().Index); err != nil {
				errs = append(errs, err)
			}
			for _, a := range addrs {
				moved = moved || a != i.IP
			}
		}
		if !keeps || moved {
			stale = append(stale, l)
			delete(links, name)
			delete(s.plugs, name)
			dead = append(dead, addrs...)
		}
	}
	errs = append(errs, delLinks(ns, s.h, stale))
	for _, name := range slices.Sorted(maps.Keys(desired)) {
		i := desired[name]
		if i.NetNS == "" {
			continue // what there is stays: a control plane that does not know yet where an instance is must not cut it off
		}
		want := plug{iface: i, subnet: v.subnet(i.SubnetID), ns: nsInode(i.NetNS)}
		have, known := s.plugs[name]
		if l, there := links[name]; there && known && l.Attrs().Index == have.ifindex && have.same(want) {
			continue
		}
		delete(s.plugs, name)
		if err := plugIn(ns, s.h, links[name], &want, f.pool); err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", i.ID, err))
			continue
		}
		s.plugs[name] = want
	}

	local := map[netip.Addr]bool{IMDSAddr: true, DNSAddr: true, APIAddr: true, v.resolver(): true}
	for _, i := range v.Interfaces {
		if i.Local {
			local[i.IP] = true
		}
	}
	gone, err := localAddrs(s.h, links["lo"], local)
	dead = append(dead, gone...)
	errs = append(errs, err, unreachableRanges(s.h, v))
	transit, err := f.applyGateway(ctx, s, ns, v, links[gatewayLink])
	errs = append(errs, err, forget(ns, append(dead, transit...)), forget("", transit))
	return errors.Join(errs...)
}

// Remove takes a VPC away with everything in it. Absent = success.
func (f *Fabric) Remove(ctx context.Context, vpcID string) error {
	if err := checkWord("vpc id", vpcID); err != nil {
		return err
	}
	s := f.state(vpcID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset()
	gateway, err := emptyNS(f.VPCNamespace(vpcID))
	if err != nil {
		return fmt.Errorf("vpc %s: %w", vpcID, err)
	}
	if err := dropNS(f.VPCNamespace(vpcID)); err != nil {
		return fmt.Errorf("vpc %s: %w", vpcID, err)
	}
	if gateway != "" {
		err = f.host.drop(ctx, f, gateway)
	}
	f.mu.Lock()
	delete(f.vpcs, vpcID)
	f.mu.Unlock()
	return err
}

// emptyNS deletes the links of a VPC's namespace, which may live on in a process that is still inside. It returns the
// name that the gateway's link has on the host, "" if there is none.
func emptyNS(path string) (gateway string, err error) {
	if !isNS(path) {
		return "", nil
	}
	h, err := handleAt(path)
	if err != nil {
		return "", err
	}
	defer h.Close()
	links, err := vpcLinks(h)
	if err != nil {
		return "", err
	}
	var all []netlink.Link
	for name, l := range links {
		if name == gatewayLink {
			gateway = l.Attrs().Alias
		}
		if name == gatewayLink || isInterface(l) {
			all = append(all, l)
		}
	}
	return gateway, delLinks(path, h, all)
}

// List returns the ids of the VPCs that have a namespace, whatever else of them there is.
func (f *Fabric) List(context.Context) ([]string, error) {
	es, err := os.ReadDir(filepath.Join(f.o.RunDir, "netns"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for _, e := range es {
		if !strings.HasPrefix(e.Name(), ".") {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
