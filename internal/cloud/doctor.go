package cloud

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// check is one thing that the machine must have for a feature.
type check struct {
	what, feature, remedy string
	required              bool // for the container driver
	ok                    func() bool
}

func fileExists(p string) bool { _, err := os.Stat(p); return err == nil }
func onPath(tool string) bool  { _, err := exec.LookPath(tool); return err == nil }

func filesystem(name string) bool {
	b, _ := os.ReadFile("/proc/filesystems")
	for _, l := range strings.Split(string(b), "\n") {
		if f := strings.Fields(l); len(f) > 0 && f[len(f)-1] == name {
			return true
		}
	}
	return module(name)
}

// module tells whether the kernel can load the module by itself, as it does for the first mount of a file system.
func module(name string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	b, err := os.ReadFile("/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/modules.dep")
	return err == nil && strings.Contains(string(b), "/"+name+".ko")
}

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var a, b int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	return a > major || a == major && b >= minor
}

func checks() []check {
	return []check{
		{"root privileges", "real instances and networks", "run as root (sudo -E), or use --driver sim", true, func() bool { return os.Geteuid() == 0 }},
		{"kernel 5.19 or later", "overlay file systems with mapped ids", "boot a newer kernel, or use --driver sim", true, func() bool { return kernelAtLeast(5, 19) }},
		{"overlay file system", "instances' root file systems", "modprobe overlay", true, func() bool { return filesystem("overlay") }},
		{"user namespaces", "instances without power over the host", "sysctl -w user.max_user_namespaces=65536", true, func() bool {
			b, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
			return err == nil && strings.TrimSpace(string(b)) != "0"
		}},
		{"cgroups", "CPU and memory of the instance type", "mount cgroup2 on /sys/fs/cgroup", true, func() bool {
			return fileExists("/sys/fs/cgroup/cgroup.controllers") || fileExists("/sys/fs/cgroup/cpu")
		}},
		{"nft", "security groups and load balancing in the kernel", "apt-get install nftables", true, func() bool { return onPath("nft") }},
		{"mmdebstrap", "skerry image build debian", "apt-get install mmdebstrap", false, func() bool { return onPath("mmdebstrap") }},
		{"/dev/kvm", "the vm driver (later)", "enable virtualisation; instances run as containers without it", false, func() bool { return fileExists("/dev/kvm") }},
	}
}

// Doctor prints what this machine has and lacks. It changes nothing.
func Doctor(w io.Writer) error {
	for _, c := range checks() {
		if c.ok() {
			fmt.Fprintf(w, "ok       %-24s %s\n", c.what, c.feature)
		} else {
			fmt.Fprintf(w, "missing  %-24s %s: %s\n", c.what, c.feature, c.remedy)
		}
	}
	return nil
}

// missing returns one sentence for the first requirement of the container driver that this machine lacks, or nil.
func missing() error {
	for _, c := range checks() {
		if c.required && !c.ok() {
			return fmt.Errorf("%s missing (needed for %s): %s", c.what, c.feature, c.remedy)
		}
	}
	return nil
}
