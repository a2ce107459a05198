//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"skerry/internal/shim"

	"github.com/opencontainers/cgroups"
	devcfg "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"golang.org/x/sys/unix"
)

// initKind says how an image boots and how it wants to be shut down.
type initKind struct {
	name     string
	argv     []string
	shutdown syscall.Signal // asks for power-off
	reboot   syscall.Signal // asks for a reboot
	env      []string
}

// glibc's SIGRTMIN, which systemd counts from, is 34: +4 asks for poweroff.target, +5 for reboot.target.
const (
	sigSystemdPowerOff = syscall.Signal(34 + 4)
	sigSystemdReboot   = syscall.Signal(34 + 5)
)

// detectInit looks into the root file system without following a link out of it.
func detectInit(rootfs string) (initKind, error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return initKind{}, err
	}
	defer root.Close()
	has := func(p string) bool { _, err := root.Lstat(p); return err == nil }
	switch {
	case has("sbin/skerry-guest"):
		return initKind{name: "guest", argv: []string{"/sbin/skerry-guest"}, shutdown: unix.SIGPWR, reboot: syscall.SIGINT}, nil
	case has("usr/lib/systemd/systemd"), has("lib/systemd/systemd"):
		return initKind{name: "systemd", argv: []string{"/sbin/init", "systemd.show_status=1"}, shutdown: sigSystemdPowerOff, reboot: sigSystemdReboot, env: []string{"container=skerry"}}, nil
	default:
		return initKind{name: "init", argv: []string{"/sbin/init"}, shutdown: syscall.SIGTERM, reboot: syscall.SIGTERM}, nil
	}
}

// caps are what a machine's root has, in its own user namespace: none of them reaches the host.
var caps = strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_SETFCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL")

// denied are calls that reach kernel parts which have had holes open to user namespaces, or that are the host's own.
// reboot is allowed: inside a pid namespace it ends that namespace's init, which is how an instance powers off.
var denied = strings.Fields("keyctl add_key request_key bpf kexec_load kexec_file_load init_module finit_module delete_module open_by_handle_at userfaultfd perf_event_open swapon swapoff io_uring_setup io_uring_enter io_uring_register")

const pidsLimit = 32768

func containerConfig(c shim.Config, k initKind) *configs.Config {
	var rules []*devcfg.Rule
	for _, d := range specconv.AllowedDevices {
		rules = append(rules, &d.Rule)
	}
	pids := int64(pidsLimit)
	res := &cgroups.Resources{Devices: rules, PidsLimit: &pids, Memory: int64(c.MemoryMiB) << 20}
	if c.VCPU > 0 {
		res.CpuPeriod = 100000
		res.CpuQuota = int64(c.VCPU * 100000)
		if res.CpuQuota < 1000 {
			res.CpuQuota = 1000 // the kernel's least
		}
	}
	eperm := uint(unix.EPERM)
	sc := &configs.Seccomp{DefaultAction: configs.Allow}
	for _, s := range denied {
		sc.Syscalls = append(sc.Syscalls, &configs.Syscall{Name: s, Action: configs.Errno, ErrnoRet: &eperm})
	}
	const df = unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NODEV
	ids := []configs.IDMap{{ContainerID: 0, HostID: int64(c.UIDBase), Size: 65536}}
	cfg := &configs.Config{
		Rootfs:       c.Rootfs,
		Capabilities: &configs.Capabilities{Bounding: caps, Effective: caps, Permitted: caps},
		Namespaces: configs.Namespaces{
			{Type: configs.NEWNS}, {Type: configs.NEWUTS}, {Type: configs.NEWIPC}, {Type: configs.NEWPID}, {Type: configs.NEWCGROUP},
			{Type: configs.NEWNET, Path: c.NetNS}, {Type: configs.NEWUSER, Path: c.UserNS},
		},
		UIDMappings: ids, GIDMappings: ids,
		Cgroups:   &cgroups.Cgroup{Path: c.CgroupPath, Resources: res},
		MaskPaths: []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"}, ReadonlyPaths: []string{"/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"},
		Devices: specconv.AllowedDevices, Hostname: c.Hostname, Seccomp: sc,
		Rlimits: []configs.Rlimit{openFiles()},
		Mounts: []*configs.Mount{
			{Source: "proc", Destination: "/proc", Device: "proc", Flags: df},
			{Source: "tmpfs", Destination: "/dev", Device: "tmpfs", Flags: unix.MS_NOSUID | unix.MS_STRICTATIME, Data: "mode=755"},
			{Source: "devpts", Destination: "/dev/pts", Device: "devpts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
			{Source: "shm", Destination: "/dev/shm", Device: "tmpfs", Flags: df, Data: "mode=1777"},
			{Source: "mqueue", Destination: "/dev/mqueue", Device: "mqueue", Flags: df},
			{Source: "sysfs", Destination: "/sys", Device: "sysfs", Flags: df | unix.MS_RDONLY},
			{Source: "tmpfs", Destination: "/run", Device: "tmpfs", Flags: unix.MS_NOSUID | unix.MS_NODEV, Data: "mode=755"},
			{Source: "tmpfs", Destination: "/run/lock", Device: "tmpfs", Flags: df, Data: "mode=1777"},
		},
	}
	cg := &configs.Mount{Source: "cgroup", Destination: "/sys/fs/cgroup", Device: "cgroup", Flags: df}
	if k.name != "systemd" {
		cg.Flags |= unix.MS_RDONLY
	}
	cfg.Mounts = append(cfg.Mounts, cg)
	return cfg
}

// delegate gives the container's root the groups that systemd manages itself. Must run between Start and Exec.
func delegate(c shim.Config) {
	if cgroups.IsCgroup2UnifiedMode() {
		dir := filepath.Join("/sys/fs/cgroup", c.CgroupPath)
		for _, f := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
			os.Chown(filepath.Join(dir, f), c.UIDBase, c.UIDBase)
		}
		return
	}
	dir := filepath.Join("/sys/fs/cgroup/systemd", c.CgroupPath)
	for _, f := range []string{"", "cgroup.procs", "tasks"} {
		os.Chown(filepath.Join(dir, f), c.UIDBase, c.UIDBase)
	}
}

func environ(c shim.Config, k initKind) []string {
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux", "HOME=/root"}, k.env...)
	keys := make([]string, 0, len(c.Env))
	for n := range c.Env {
		keys = append(keys, n)
	}
	sort.Strings(keys)
	for _, n := range keys {
		env = append(env, n+"="+c.Env[n])
	}
	return env
}

// openFiles is the limit of open files inside: what systems give their services, or what this process may hand on.
func openFiles() configs.Rlimit {
	want := unix.Rlimit{Cur: 65536, Max: 1 << 20}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) != nil { // without CAP_SYS_RESOURCE the limit can't be raised
		var own unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &own) == nil {
			want.Max = min(want.Max, own.Max)
			want.Cur = min(want.Cur, want.Max)
		}
	}
	return configs.Rlimit{Type: unix.RLIMIT_NOFILE, Hard: want.Max, Soft: want.Cur}
}
