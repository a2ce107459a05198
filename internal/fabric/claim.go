package fabric

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Directories that the clouds of a machine share.
const (
	poolsDir      = "/run/skerry/pools"      // a file a cloud: its process (see process), then its public pools
	forwardingDir = "/run/skerry/forwarding" // a directory a device, in it a file a cloud
)

var preflights atomic.Uint32

// Preflight says in one sentence what this machine lacks for a fabric, nil if nothing. It tries in a namespace of its own
// and changes nothing.
func Preflight() error {
	if os.Geteuid() != 0 {
		return errors.New("the network needs root (network namespaces, nftables): run as root, or use --driver sim")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return errors.New("the program nft is not installed: apt-get install nftables")
	}
	path := fmt.Sprintf("/run/skerry/preflight-%d-%d", os.Getpid(), preflights.Add(1))
	if err := makeNS(path); err != nil {
		return fmt.Errorf("this machine does not let network namespaces be made and configured (is this a container without privileges?): %w", err)
	}
	defer dropNS(path)
	p, _ := newPool(netip.MustParsePrefix("127.127.0.0/16"))
	v := VPC{ID: "preflight", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}, ZonePorts: map[string]uint16{"z": 0}}
	fronts := map[netip.Addr][]netip.Addr{offset(p.public, 2): {offset(p.public, 3), offset(p.public, 4)}, offset(p.public, 5): nil}
	script := v.rules(p, false).full() + hostRules("preflight", p, true, nil, nil, fronts).full()
	if err := nft(context.Background(), path, script); err != nil {
		return fmt.Errorf("the kernel or the program nft lacks something of nftables (needed: inet tables, nat, maps, numgen, conntrack; nft 1.0 or later): %w", err)
	}
	two := []NLBTarget{{IP: DNSAddr, Port: 80, Weight: 1}, {IP: APIAddr, Port: 80, Weight: 1}}
	if err := applyNLB(path, "z", []NLBService{{VIP: IMDSAddr, Port: 80, Proto: "tcp", Targets: two}}); err != nil {
		return fmt.Errorf("the kernel lacks something of nftables that network load balancers need (jhash, set counters, ct timeout, reject): %w", err)
	}
	if err := applyNLB(path, "z", nil); err != nil {
		return err
	}
	h, err := handleAt(path)
	if err != nil {
		return err
	}
	defer h.Close()
	a := netlink.NewLinkAttrs()
	a.Name = "probe0"
	veth := netlink.NewVeth(a)
	veth.PeerName = "probe1"
	if err := h.LinkAdd(veth); err != nil {
		return fmt.Errorf("the kernel makes no veth pairs (CONFIG_VETH): %w", err)
	}
	return nil
}

// claim reserves a public pool on this machine, or says who has it.
func claim(cloudID string, p pool) error {
	return locked(poolsDir, func() error {
		es, err := os.ReadDir(poolsDir)
		if err != nil {
			return err
		}
		for _, e := range es {
			other := e.Name()
			if other == cloudID || strings.HasPrefix(other, ".") {
				continue
			}
			pools, err := claimed(other)
			if err != nil {
				return err
			}
			for _, q := range pools {
				if (q.public.Overlaps(p.public) || q.transit.Overlaps(p.transit)) && alive(other) {
					return fmt.Errorf("the public pool %v overlaps %v of another cloud on this machine (id %s; transit addresses %v and %v): choose another with --public-pool, or take that cloud down",
						p.public, q.public, other, p.transit, q.transit)
				}
			}
		}
		if err := foreignAddress(p); err != nil {
			return err
		}
		mine, err := claimed(cloudID)
		if err != nil {
			return err
		}
		text := process(os.Getpid()) + "\n" + p.public.String() + "\n"
		for _, q := range mine { // an earlier pool may have left something behind until Teardown
			if q.public != p.public {
				text += q.public.String() + "\n"
			}
		}
		tmp := filepath.Join(poolsDir, "."+cloudID)
		if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
			return err
		}
		return os.Rename(tmp, filepath.Join(poolsDir, cloudID))
	})
}

// alive tells whether a claim still means something: its process runs or its table is there. A machine that crashed or
// a data directory that was deleted must not block a pool for ever.
func alive(cloudID string) bool {
	b, _ := os.ReadFile(filepath.Join(poolsDir, cloudID))
	line, _, _ := strings.Cut(string(b), "\n")
	pid, _, _ := strings.Cut(line, "@")
	if n, err := strconv.Atoi(pid); err == nil && process(n) == line {
		return true
	}
	there, err := tableExists("", hostTable(cloudID))
	return there || err != nil
}

// process names a process so that a later one with its number is not taken for it: number and start time; "" = none.
func process(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fmt.Sprintf("%d@%s", pid, fields[19])
}

// foreignAddress refuses a pool whose transit range this machine uses for something else (some VPNs live there).
func foreignAddress(p pool) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, unix.AF_INET) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		q, ok := addrOf(a.IPNet)
		if !ok || loopback.Contains(q.Addr()) {
			continue
		}
		if p.transit.Contains(q.Addr()) || p.translated() && p.transit.Overlaps(q.Masked()) {
			return fmt.Errorf("the public pool %v would use %v between host and VPCs, where this machine has the address %v: choose another with --public-pool", p.public, p.transit, q)
		}
	}
	return nil
}

// claimed returns the pools that a cloud has claimed.
func claimed(cloudID string) ([]pool, error) {
	b, err := os.ReadFile(filepath.Join(poolsDir, cloudID))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []pool
	for _, line := range strings.Fields(string(b)) {
		if q, err := netip.ParsePrefix(line); err == nil {
			if p, err := newPool(q); err == nil {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

func unclaim(cloudID string) error {
	if err := os.Remove(filepath.Join(poolsDir, cloudID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// locked runs fn while no other cloud's process is in the directory.
func locked(dir string, fn func() error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	return fn()
}

// enableUplinks lets the devices of the host's default routes forward, if they don't, and returns those that do only
// for the sake of clouds. Forwarding is a setting of each device; the machine's global one stays as it is.
func enableUplinks(h *netlink.Handle, cloudID string) (ours []string, err error) {
	err = locked(forwardingDir, func() error {
		routes, err := dump(func() ([]netlink.Route, error) { return h.RouteList(nil, unix.AF_INET) })
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if p, ok := addrOf(r.Dst); r.Dst != nil && (!ok || p.Bits() != 0) || r.LinkIndex == 0 {
				continue
			}
			l, err := h.LinkByIndex(r.LinkIndex)
			if err != nil {
				continue
			}
			name := l.Attrs().Name
			dir, file := filepath.Join(forwardingDir, name), "/proc/sys/net/ipv4/conf/"+name+"/forwarding"
			now, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			_, known := os.Stat(dir)
			if string(bytes.TrimSpace(now)) == "1" && known != nil {
				continue // forwards by itself
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, cloudID), nil, 0o644); err != nil {
				return err
			}
			if err := os.WriteFile(file, []byte("1"), 0); err != nil {
				return fmt.Errorf("let %s forward: %w", name, err)
			}
			ours = append(ours, name)
		}
		return nil
	})
	return ours, err
}

// disableUplinks undoes enableUplinks when no other cloud needs it.
func disableUplinks(cloudID string) error {
	if _, err := os.Stat(forwardingDir); err != nil {
		return nil
	}
	return locked(forwardingDir, func() error {
		es, err := os.ReadDir(forwardingDir)
		if err != nil {
			return err
		}
		for _, e := range es {
			dir := filepath.Join(forwardingDir, e.Name())
			if os.Remove(filepath.Join(dir, cloudID)) != nil || os.Remove(dir) != nil {
				continue // not ours, or somebody else's too
			}
			if err := sysctl("net/ipv4/conf/"+e.Name()+"/forwarding", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}
