package image

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Changes are what an instance has written: an overlay's upper directory with owners in the instance's range of ids.
type Changes struct {
	Upper   string
	FirstID int      // the host's id of the instance's root
	IDs     int      // size of the range
	Layers  []string // below it, topmost first; they must be of this store
}

// Commit makes a private image of an instance's changes. What tells one machine from another is left out. The instance may be
// running: then the image is as a disk would be after a power cut.
func (s *Store) Commit(ctx context.Context, c Changes, name, description string) (Image, error) {
	if !validName.MatchString(name) {
		return Image{}, fmt.Errorf("image name %q: letters, digits, dots, dashes and underscores, 3 to 128 of them", name)
	}
	r := record{Name: name, Description: description, Private: true, Created: time.Now().UTC().Truncate(time.Second)}
	for i, l := range c.Layers {
		rel, err := filepath.Rel(s.Dir, l)
		base := filepath.Dir(rel)
		if err != nil || filepath.Base(rel) != rootDir || !validName.MatchString(base) {
			return Image{}, fmt.Errorf("layer %s is not of this store", l)
		}
		if i == 0 {
			b, err := s.read(base)
			if err != nil {
				return Image{}, fmt.Errorf("image %s, which the instance was made of: %w", base, err)
			}
			r.Architecture, r.RootSizeGiB = b.Architecture, b.RootSizeGiB
		}
		r.Below = append(r.Below, base)
	}
	dir, err := s.draft()
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(dir)
	k := &copier{c: c, to: filepath.Join(dir, rootDir), links: map[uint64]string{}}
	if k.upper, err = unix.Open(c.Upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return Image{}, fmt.Errorf("what the instance has written: %w", err)
	}
	defer unix.Close(k.upper)
	err = filepath.WalkDir(c.Upper, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, os.ErrNotExist) { // gone meanwhile
				return nil
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(c.Upper, p)
		if err != nil {
			return err
		}
		if personal(rel) {
			return nil
		}
		if err := k.copy(rel); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ELOOP) {
			return fmt.Errorf("copying %s: %w", rel, err)
		}
		return nil
	})
	if err != nil {
		return Image{}, err
	}
	return s.finish(dir, r)
}

// personal are files that no two machines share: new ones are made at the first boot.
func personal(rel string) bool {
	switch rel {
	case "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed":
		return true
	}
	ok, _ := filepath.Match("etc/ssh/ssh_host_*_key*", rel)
	return ok
}

// Remove deletes an image. Images that are based on it, and instances that have its layer mounted (inUse), keep it.
func (s *Store) Remove(name string, inUse []string) error {
	list, err := s.All()
	if err != nil {
		return err
	}
	layer := filepath.Join(s.Dir, name, rootDir)
	found := false
	for _, i := range list {
		if i.Name == name {
			found = true
		} else if slices.Contains(i.Layers, layer) {
			return fmt.Errorf("image %s is based on %s", i.Name, name)
		}
	}
	if !found {
		return fmt.Errorf("image %s: %w", name, os.ErrNotExist)
	}
	if slices.Contains(inUse, layer) {
		return fmt.Errorf("image %s is in use by an instance", name)
	}
	tmp := filepath.Join(s.Dir, fmt.Sprintf("%s%s-%d", tmpPrefix, name, time.Now().UnixNano()))
	if err := os.Rename(filepath.Join(s.Dir, name), tmp); err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}

type copier struct {
	c     Changes
	upper int // a descriptor of c.Upper
	to    string
	links map[uint64]string // inode → where its copy is, for files with several names
}

// id gives an owner back as the instance sees it; what is not the instance's becomes root's.
func (k *copier) id(host uint32) int {
	if n := int(host) - k.c.FirstID; n >= 0 && n < k.c.IDs {
		return n
	}
	return 0
}

// copy copies one name. Its directory is opened without following links: the instance, which may run, could put a link to
// somewhere of the host in the place of a directory that has been listed. Such a name counts as gone.
func (k *copier) copy(rel string) error {
	dir, err := unix.Openat2(k.upper, filepath.Dir(rel), &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ENOTDIR {
		return os.ErrNotExist
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	from := fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(rel))
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	to := filepath.Join(k.to, rel)
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		if first, ok := k.links[st.Ino]; ok {
			return os.Link(first, to)
		}
		k.links[st.Ino] = to
	}
	switch kind {
	case unix.S_IFDIR:
		if rel != "." {
			if err := os.Mkdir(to, 0o755); err != nil {
				return err
			}
		}
	case unix.S_IFREG:
		if err := copyFile(from, to); err != nil {
			return err
		}
	case unix.S_IFLNK:
		l, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(l, to); err != nil {
			return err
		}
	case unix.S_IFSOCK:
		return nil
	default: // whiteouts (character device 0:0), named pipes
		if err := unix.Mknod(to, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	if err := os.Lchown(to, k.id(st.Uid), k.id(st.Gid)); err != nil {
		return err
	}
	if kind != unix.S_IFLNK {
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return err
		}
	}
	if err := copyAttributes(from, to); err != nil {
		return err
	}
	ts := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func copyFile(from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) // it may be a pipe by now
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in) // copy_file_range: shared blocks where the file system can
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

const (
	capRevision2 = 0x02000000
	capRevision3 = 0x03000000
	capMask      = 0xff000000
)

// copyAttributes copies what an overlay and the kernel keep beside a file: opaque directories, capabilities.
func copyAttributes(from, to string) error {
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(from, buf)
	if err != nil || n == 0 {
		return nil // a file system without them
	}
	for _, a := range strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		switch {
		case a == "security.capability", strings.HasPrefix(a, "user."), a == "trusted.overlay.opaque", a == "trusted.overlay.redirect", a == "trusted.overlay.metacopy":
		default:
			continue
		}
		val := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(from, a, val)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", a, err)
		}
		val = val[:m]
		// Inside a user namespace capabilities are tied to its root's id; an image's are its own root's.
		if a == "security.capability" && m == 24 && binary.LittleEndian.Uint32(val)&capMask == capRevision3 {
			binary.LittleEndian.PutUint32(val, binary.LittleEndian.Uint32(val)&^uint32(capMask)|capRevision2)
			val = val[:20]
		}
		if err := unix.Lsetxattr(to, a, val, 0); err != nil {
			return fmt.Errorf("attribute %s: %w", a, err)
		}
	}
	return nil
}
