package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	nsfsMagic    = 0x6e736673
	overlayMagic = 0x794c7630
)

func fsType(path string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return 0
	}
	return int64(st.Type)
}

// ensureNamespaces makes the instance's user namespace and the network namespace that belongs to it, bound to the files
// user and net in its run directory. Both or none: a network namespace whose owner is another user namespace is useless
// to the container (it could neither mount sysfs nor open low ports).
func ensureNamespaces(run string, idBase int) error {
	user, net := filepath.Join(run, "user"), filepath.Join(run, "net")
	if fsType(user) == nsfsMagic && fsType(net) == nsfsMagic {
		return nil
	}
	if err := dropNamespaces(run); err != nil {
		return err
	}
	if err := bindNamespaces(user, net, idBase); err != nil {
		dropNamespaces(run)
		return err
	}
	return loopbackUp(net)
}

func bindNamespaces(user, net string, idBase int) error {
	// A child is needed: a threaded process cannot enter a new user namespace. It is traced, so it stops at its execve
	// and runs not one instruction of a program; tracing binds it to this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: idBase, Size: idSize}}
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: ids, GidMappings: ids,
		GidMappingsEnableSetgroups: true, Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("new user and network namespaces: %w; user.max_user_namespaces and user.max_net_namespaces must allow them", err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for name, path := range map[string]string{"user": user, "net": net} {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
		if err != nil {
			return err
		}
		f.Close()
		if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/%s", cmd.Process.Pid, name), path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding the %s namespace: %w", name, err)
		}
	}
	return nil
}

func loopbackUp(path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}}) // lo is always the first
}

func dropNamespaces(run string) error {
	return errors.Join(unmount(filepath.Join(run, "net")), unmount(filepath.Join(run, "user")))
}

// unmount detaches everything mounted on path and removes nothing. Absent and not mounted are success.
func unmount(path string) error {
	for range 16 { // mounts on top of each other, left by crashes
		switch err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
		case nil:
		case unix.EINVAL, unix.ENOENT:
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return nil
}
