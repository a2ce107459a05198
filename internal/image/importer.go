package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	refname "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"

	"skerry/internal/embedded"
)

const zstdMemory = 512 << 20 // largest window of a compressed archive

// Import makes an image of a root file system (tar, also .gz, .bz2, .xz, .zst), of an OCI layout (a directory or a tar), of
// what `docker save` writes, or of a reference into a registry. An empty name is made from the source's.
func (s *Store) Import(ctx context.Context, source, name string) (Image, error) {
	if name == "" {
		name = nameOf(source)
	}
	if !validName.MatchString(name) {
		return Image{}, fmt.Errorf("image name %q: letters, digits, dots, dashes and underscores, 3 to 128 of them; give another", name)
	}
	if _, err := s.read(name); err == nil {
		return Image{}, fmt.Errorf("an image named %s exists already; give another name", name)
	}
	dir, err := s.draft()
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(dir)
	r := record{Name: name, Created: time.Now().UTC().Truncate(time.Second), Description: "imported from " + filepath.Base(source)}
	root := filepath.Join(dir, rootDir)
	st, err := os.Stat(source)
	switch {
	case err == nil && st.IsDir():
		err = s.fromLayout(ctx, source, root, &r)
	case err == nil:
		err = s.fromFile(ctx, source, dir, root, &r)
	case looksLikePath(source): // err says what is wrong with it
	default:
		err = fromRegistry(ctx, source, root, &r)
	}
	if err == nil {
		err = makeBootable(root)
	}
	if err != nil {
		return Image{}, fmt.Errorf("importing %s: %w", source, err)
	}
	return s.finish(dir, r)
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// nameOf makes an image name of a file name or a reference.
func nameOf(source string) string {
	n := filepath.Base(source)
	for _, ext := range []string{".gz", ".xz", ".bz2", ".zst", ".tgz", ".txz", ".tar"} {
		n = strings.TrimSuffix(n, ext)
	}
	return strings.Trim(unfit.ReplaceAllString(n, "-"), "-._")
}

func looksLikePath(s string) bool {
	return filepath.IsAbs(s) || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".tar") || strings.Contains(s, ".tar.") || strings.HasSuffix(s, ".tgz")
}

// fromFile unpacks an archive, and once more when it is an archive of an image.
func (s *Store) fromFile(ctx context.Context, file, dir, root string, r *record) error {
	open := func() (io.ReadCloser, error) { return openArchive(ctx, file) }
	in, err := open()
	if err != nil {
		return err
	}
	err = extract(ctx, in, root)
	if cerr := in.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	has := func(p string) bool { _, err := os.Lstat(filepath.Join(root, p)); return err == nil }
	switch {
	case has("index.json") && has("oci-layout"):
		lay := filepath.Join(dir, "layout")
		if err := renew(root, lay); err != nil {
			return err
		}
		defer os.RemoveAll(lay)
		return s.fromLayout(ctx, lay, root, r)
	case has("manifest.json") && !has("etc") && !has("usr"):
		if err := renew(root, ""); err != nil {
			return err
		}
		img, err := tarball.Image(func() (io.ReadCloser, error) { return open() }, nil)
		if err != nil {
			return err
		}
		return fromImage(ctx, img, root, r)
	}
	return nil
}

// renew moves a directory away, or removes it, and makes an empty one in its place.
func renew(root, to string) error {
	var err error
	if to == "" {
		err = os.RemoveAll(root)
	} else {
		err = os.Rename(root, to)
	}
	if err != nil {
		return err
	}
	return os.Mkdir(root, 0o755)
}

func (s *Store) fromLayout(ctx context.Context, dir, root string, r *record) error {
	p, err := layout.FromPath(dir)
	if err != nil {
		return fmt.Errorf("not an OCI image layout: %w", err)
	}
	idx, err := p.ImageIndex()
	if err != nil {
		return err
	}
	img, err := pick(idx, 0)
	if err != nil {
		return err
	}
	return fromImage(ctx, img, root, r)
}

// pick finds the image for this machine in an index, which may hold further indexes.
func pick(idx v1.ImageIndex, depth int) (v1.Image, error) {
	if depth > 4 {
		return nil, errors.New("indexes are nested too deeply")
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, d := range m.Manifests {
		if p := d.Platform; p != nil && p.Architecture != "" && (p.OS != "linux" || p.Architecture != runtime.GOARCH) {
			found = append(found, p.OS+"/"+p.Architecture)
			continue
		}
		if d.MediaType.IsIndex() {
			sub, err := idx.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			if img, err := pick(sub, depth+1); err == nil {
				return img, nil
			}
			continue
		}
		if d.MediaType.IsImage() {
			return idx.Image(d.Digest)
		}
	}
	return nil, fmt.Errorf("no image for linux/%s in it; it has %v", runtime.GOARCH, found)
}

func fromRegistry(ctx context.Context, ref, root string, r *record) error {
	n, err := refname.ParseReference(ref)
	if err != nil {
		return fmt.Errorf("neither a file nor an image reference: %w", err)
	}
	img, err := remote.Image(n, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return err
	}
	r.Description = "imported from " + n.Name()
	return fromImage(ctx, img, root, r)
}

// Command is what a container image runs. The guest starts it after user data.
type Command struct {
	Args []string
	Env  []string
	Dir  string
}

// CommandFile is where it is in the image.
const CommandFile = "etc/skerry/command.json"

// fromImage flattens an image's layers into root.
func fromImage(ctx context.Context, img v1.Image, root string, r *record) error {
	cf, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if cf.Architecture != "" && cf.Architecture != runtime.GOARCH {
		return fmt.Errorf("the image is for %s, this machine is %s", cf.Architecture, runtime.GOARCH)
	}
	in := mutate.Extract(img)
	err = extract(ctx, in, root)
	if cerr := in.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	args := append(append([]string{}, cf.Config.Entrypoint...), cf.Config.Cmd...)
	if len(args) == 0 {
		return nil
	}
	b, err := json.Marshal(Command{Args: args, Env: cf.Config.Env, Dir: cf.Config.WorkingDir})
	if err != nil {
		return err
	}
	return putFile(root, CommandFile, b, 0o644)
}

// putFile writes a file of a root file system whose links are not trusted.
func putFile(dir, name string, b []byte, mode os.FileMode) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extractor{root: root}
	at, err := x.resolve(name, false)
	if err != nil {
		return err
	}
	if err := root.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if err := root.RemoveAll(at); err != nil {
		return err
	}
	return root.WriteFile(at, b, mode)
}

// makeBootable gives an image without an init of its own the guest as init.
func makeBootable(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extractor{root: root}
	has := func(p string) bool {
		at, err := x.resolve(p, false)
		if err != nil {
			return false
		}
		_, err = root.Lstat(at)
		return err == nil
	}
	if !has("bin/sh") && !has("usr/bin/sh") && !has("sbin/init") {
		if has("etc") || has("usr") || has("bin") || has(CommandFile) {
			return errors.New("there is neither an init nor a shell in it; an instance could not run user data or be logged in to")
		}
		return errors.New("this is not a root file system: it has none of /bin, /usr, /etc, and it is no OCI layout")
	}
	if has("lib/systemd/systemd") || has("usr/lib/systemd/systemd") || has("sbin/init") && !has(CommandFile) {
		return nil
	}
	guest, err := embedded.Guest()
	if err != nil {
		return err
	}
	return putFile(dir, "sbin/skerry-guest", guest, 0o755)
}

// openArchive opens a file and undoes its compression, which its first bytes tell.
func openArchive(ctx context.Context, file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(f, 1<<16)
	magic, err := br.Peek(6)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("the file is too short for an archive: %w", err)
	}
	var r io.Reader = br
	closers := []func() error{f.Close}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			f.Close()
			return nil, err
		}
		r = z
	case bytes.HasPrefix(magic, []byte("BZh")):
		r = bzip2.NewReader(br)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxMemory(zstdMemory), zstd.WithDecoderConcurrency(1))
		if err != nil {
			f.Close()
			return nil, err
		}
		r = z
		closers = append(closers, func() error { z.Close(); return nil })
	case bytes.Equal(magic, []byte("\xfd7zXZ\x00")):
		if _, err := exec.LookPath("xz"); err != nil {
			f.Close()
			return nil, errors.New("the archive is compressed with xz, which is missing; install xz-utils")
		}
		cmd := exec.CommandContext(ctx, "xz", "-dc")
		cmd.Stdin = br
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		r = out
		closers = append(closers, func() error {
			io.Copy(io.Discard, out)
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("xz: %w: %s", err, strings.TrimSpace(stderr.String()))
			}
			return nil
		})
	}
	return &archive{Reader: r, closers: closers}, nil
}

type archive struct {
	io.Reader
	closers []func() error
}

func (a *archive) Close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	return errors.Join(errs...)
}
