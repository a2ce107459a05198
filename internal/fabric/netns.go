package fabric

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// InNamespace runs fn on an OS thread that has entered the network namespace at path ("" = the process's own). fn must
// not start goroutines that rely on the namespace. A thread that cannot be brought back is given up, never reused.
func InNamespace(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	ns, err := openNS(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return inNSFile(ns, fn)
}

func inNSFile(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function ended its goroutine") // stands when fn calls runtime.Goexit
		defer func() { done <- err }()
		runtime.LockOSThread() // unlocked only after the way back worked: else the thread ends with this goroutine
		own, e := os.Open("/proc/thread-self/ns/net")
		if e != nil {
			err = e
			return
		}
		defer own.Close()
		if e := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); e != nil {
			err = fmt.Errorf("enter network namespace %s: %w", ns.Name(), e)
			return
		}
		defer func() {
			if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = fn()
	}()
	return <-done
}

// openNS opens the namespace file at path and makes sure that it is one.
func openNS(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	if !isNS(path) {
		f.Close()
		return nil, fmt.Errorf("network namespace: %s: %w", path, errNotNS)
	}
	return f, nil
}

var errNotNS = errors.New("nothing is mounted there")

func isNS(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && (st.Type == unix.NSFS_MAGIC || st.Type == unix.PROC_SUPER_MAGIC)
}

// nsInode tells namespaces apart; 0 = none at path.
func nsInode(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || !isNS(path) {
		return 0
	}
	return st.Ino
}

// vpcSysctls make a namespace a router. A namespace inherits some of the host's settings, so none is left to chance.
var vpcSysctls = [][2]string{
	{"net/ipv4/ip_forward", "1"},
	{"net/ipv4/conf/all/rp_filter", "0"}, // anti-spoofing is nftables' here
	{"net/ipv4/conf/default/rp_filter", "0"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/default/send_redirects", "0"},
	{"net/ipv4/conf/all/accept_redirects", "0"},
	{"net/ipv4/conf/default/accept_redirects", "0"},
	{"net/ipv4/conf/default/proxy_arp", "1"},
	{"net/ipv4/tcp_tw_reuse", "1"},                             // load balancers connect often to few addresses
	{"net/netfilter/nf_conntrack_tcp_timeout_time_wait", "10"}, // and must not fill the table with what is over
	{"net/ipv6/conf/all/disable_ipv6", "1"},
	{"net/ipv6/conf/default/disable_ipv6", "1"},
}

// makeNS creates a routing namespace and mounts it at path. What is mounted is configured.
func makeNS(path string) error {
	if isNS(path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("new network namespace: %w", err)
			}
			for _, s := range vpcSysctls {
				if err := sysctl(s[0], s[1]); err != nil {
					return err
				}
			}
			if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount network namespace at %s: %w", path, err)
			}
			return nil
		}()
	}()
	return <-done
}

// dropNS unmounts and removes the namespace's name. Absent = success.
func dropNS(path string) error {
	for range 8 { // mounts may be stacked after a crash between two makers
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			break
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sysctl writes a setting of the calling thread's namespace. IPv6's and conntrack's may be absent.
func sysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) && (strings.HasPrefix(name, "net/ipv6/") || strings.HasPrefix(name, "net/netfilter/")) {
		return nil
	}
	return err
}
