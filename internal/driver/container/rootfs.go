package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"skerry/internal/driver"
)

// Resolver is the address that instances ask for names: the VPC's own resolver, as on EC2.
const Resolver = "169.254.169.253"

// ensureRoot mounts the instance's root file system on the directory root of its run directory: the image's layers, with
// their owners shifted into the instance's range of ids by idmapped mounts, under a directory of its own.
func ensureRoot(in *instance, s driver.Spec, idBase int) error {
	root := filepath.Join(in.run, "root")
	if fsType(root) == overlayMagic {
		return nil
	}
	layers := s.Layers
	if len(layers) == 0 && s.ImageDir != "" {
		layers = []string{filepath.Join(s.ImageDir, "rootfs")}
	}
	if len(layers) == 0 {
		return fmt.Errorf("instance %s: no image layers", in.id)
	}
	upper, work := filepath.Join(in.dir, "fs", "upper"), filepath.Join(in.dir, "fs", "work")
	for _, d := range []string{filepath.Dir(upper), upper, work, root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chown(upper, idBase, idBase); err != nil {
		return err
	}
	ns, err := os.Open(filepath.Join(in.run, "user"))
	if err != nil {
		return err
	}
	defer ns.Close()
	var lowers []string
	defer func() { // the overlay has its own clones of them
		for _, l := range lowers {
			unmount(l)
			os.Remove(l)
		}
	}()
	for i, l := range layers {
		at := filepath.Join(in.run, fmt.Sprint("lower-", i))
		if err := unmount(at); err != nil {
			return err
		}
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		lowers = append(lowers, at)
		if err := idmapped(l, at, int(ns.Fd())); err != nil {
			return fmt.Errorf("layer %s: %w", l, err)
		}
	}
	opts := "lowerdir=" + strings.Join(lowers, ":") + ",upperdir=" + escapeOption(upper) + ",workdir=" + escapeOption(work)
	if err := unix.Mount("overlay", root, "overlay", unix.MS_NODEV, opts); err != nil {
		return fmt.Errorf("overlay root file system: %w (an overlay needs a file system such as ext4, xfs or tmpfs under the data directory, and Linux 5.19)", err)
	}
	return nil
}

// escapeOption guards a path in overlayfs' option string.
func escapeOption(p string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`).Replace(p)
}

// idmapped mounts src on dst with the owners mapped through a user namespace.
func idmapped(src, dst string, userNS int) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, src, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userNS)}); err != nil {
		return fmt.Errorf("id-mapped mount: %w", err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dst, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// seed writes the files that tell a machine who it is, before its first boot. They go to the upper directory, which is
// the driver's own, so that no link in an image can point them elsewhere.
func seed(in *instance, s driver.Spec, idBase int) error {
	marker := filepath.Join(in.dir, "seeded")
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	hosts := "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
	if s.IP != "" && s.Hostname != "" {
		hosts += s.IP + " " + s.Hostname + "\n"
	}
	etc := filepath.Join(in.dir, "fs", "upper", "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	files := map[string]string{"hostname": s.Hostname + "\n", "hosts": hosts, "resolv.conf": "nameserver " + Resolver + "\noptions timeout:1 attempts:3\n"}
	for name, text := range files {
		p := filepath.Join(etc, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Chown(p, idBase, idBase); err != nil {
			return err
		}
	}
	if err := os.Chown(etc, idBase, idBase); err != nil {
		return err
	}
	return os.WriteFile(marker, nil, 0o600)
}

func dropRoot(in *instance) error {
	err := unmount(filepath.Join(in.run, "root"))
	left, _ := filepath.Glob(filepath.Join(in.run, "lower-*"))
	for _, l := range left {
		err = errors.Join(err, unmount(l))
	}
	return err
}
