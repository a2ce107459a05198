package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what is unpacked.
const (
	maxEntries = 2 << 20
	maxBytes   = 64 << 30
	maxLinks   = 40 // symbolic links on the way to one name, as the kernel has it
	maxName    = 4096
)

// extractor unpacks a tar into a directory. Names are resolved inside of it, links included, as they would be with the
// directory as root; os.Root guards that again.
type extractor struct {
	root  *os.Root
	owner bool // as root: keep owners
	dirs  []*tar.Header
	n     int
	bytes int64
}

const blockSize = 512

// zeroTail counts the zero bytes at the end of what was read: an archive that is whole ends with blocks of them.
type zeroTail struct {
	r     io.Reader
	zeros int
}

func (z *zeroTail) Read(p []byte) (int, error) {
	n, err := z.r.Read(p)
	rest := bytes.TrimRight(p[:n], "\x00")
	if len(rest) > 0 {
		z.zeros = 0
	}
	z.zeros = min(z.zeros+n-len(rest), 1<<20)
	return n, err
}

// extract unpacks the tar that r is into dir.
func extract(ctx context.Context, r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extractor{root: root, owner: os.Geteuid() == 0}
	end := &zeroTail{r: r}
	tr := tar.NewReader(end)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = x.entry(h, tr)
		}
		if err != nil {
			name := ""
			if h != nil {
				name = h.Name + ": "
			}
			return fmt.Errorf("unpacking: %s%w", name, err)
		}
	}
	if x.n == 0 {
		return errors.New("unpacking: the archive is empty")
	}
	if end.zeros < blockSize {
		return errors.New("unpacking: the archive is cut off")
	}
	for i := len(x.dirs) - 1; i >= 0; i-- { // after their contents, which change their times
		h := x.dirs[i]
		if name, err := x.resolve(h.Name, false); err == nil {
			x.root.Chtimes(name, time.Time{}, h.ModTime)
		}
	}
	return nil
}

// resolve gives the name, free of links, that p has inside the directory. The last component is followed when follow is
// set.
func (x *extractor) resolve(p string, follow bool) (string, error) {
	if len(p) > maxName {
		return "", errors.New("the name is too long")
	}
	at := []string{}
	rest := strings.Split(path.Clean("/"+p), "/")[1:]
	for links := 0; len(rest) > 0; {
		c := rest[0]
		rest = rest[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			if len(at) > 0 {
				at = at[:len(at)-1]
			}
			continue
		}
		full := path.Join(append(append([]string{}, at...), c)...)
		if len(rest) > 0 || follow {
			if fi, err := x.root.Lstat(full); err == nil && fi.Mode()&os.ModeSymlink != 0 {
				if links++; links > maxLinks {
					return "", errors.New("too many symbolic links")
				}
				to, err := x.root.Readlink(full)
				if err != nil {
					return "", err
				}
				if path.IsAbs(to) {
					at = at[:0]
				}
				rest = append(strings.Split(to, "/"), rest...)
				continue
			}
		}
		at = append(at, c)
	}
	if len(at) == 0 {
		return ".", nil
	}
	return path.Join(at...), nil
}

func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	if x.n++; x.n > maxEntries {
		return fmt.Errorf("more than %d entries", maxEntries)
	}
	if x.bytes += h.Size; x.bytes > maxBytes || h.Size < 0 {
		return fmt.Errorf("more than %d bytes", int64(maxBytes))
	}
	name, err := x.resolve(h.Name, false)
	if err != nil {
		return err
	}
	if name != "." {
		if err := x.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
	}
	old, oldErr := x.root.Lstat(name)
	if oldErr == nil && !(old.IsDir() && h.Typeflag == tar.TypeDir) {
		if name == "." {
			return errors.New("the root must be a directory")
		}
		if err := x.root.RemoveAll(name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if oldErr != nil || !old.IsDir() {
			if err := x.root.Mkdir(name, 0o755); err != nil {
				return err
			}
		}
		x.dirs = append(x.dirs, h)
	case tar.TypeReg:
		return x.file(h, name, r)
	case tar.TypeSymlink:
		if err := x.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		if x.owner {
			return x.root.Lchown(name, h.Uid, h.Gid)
		}
		return nil
	case tar.TypeLink:
		to, err := x.resolve(h.Linkname, false)
		if err != nil {
			return err
		}
		return x.root.Link(to, name)
	case tar.TypeFifo:
		if err := x.mkfifo(name); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock:
		return nil // /dev is made at boot
	default:
		return fmt.Errorf("entry type %q is not known", h.Typeflag)
	}
	return x.meta(h, name)
}

func (x *extractor) file(h *tar.Header, name string, r io.Reader) error {
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if x.owner && err == nil {
		err = f.Chown(h.Uid, h.Gid)
	}
	if err == nil {
		err = f.Chmod(h.FileInfo().Mode()) // after chown, which takes set-user-id away
	}
	for k, v := range h.PAXRecords {
		if a, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && a == "security.capability" && x.owner && err == nil {
			err = unix.Fsetxattr(int(f.Fd()), a, []byte(v), 0)
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return x.root.Chtimes(name, time.Time{}, h.ModTime)
}

func (x *extractor) meta(h *tar.Header, name string) error {
	if x.owner {
		if err := x.root.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	return x.root.Chmod(name, h.FileInfo().Mode())
}

// mkfifo makes a named pipe through a descriptor of its directory.
func (x *extractor) mkfifo(name string) error {
	d, err := x.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Mkfifoat(int(d.Fd()), path.Base(name), 0o600)
}
