package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	refname "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"skerry/internal/embedded"
	"skerry/internal/require"
)

type entry struct {
	name, body, link string
	kind             byte
	mode             int64
}

func archiveOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body)), Linkname: e.link, ModTime: time.Unix(1700000000, 0), Uid: os.Getuid(), Gid: os.Getgid()}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExtractStaysInside(t *testing.T) {
	for name, c := range map[string]struct {
		entries []entry
		inside  map[string]string // file → content afterwards
		err     string
	}{
		"plain":                {[]entry{{name: "a/b", body: "x"}}, map[string]string{"a/b": "x"}, ""},
		"dot dot is the root":  {[]entry{{name: "../../../../tmp/evil", body: "x"}}, map[string]string{"tmp/evil": "x"}, ""},
		"absolute is the root": {[]entry{{name: "/etc/evil", body: "x"}}, map[string]string{"etc/evil": "x"}, ""},
		"through an absolute link": {[]entry{{name: "run", kind: tar.TypeSymlink, link: "/outside"}, {name: "run/evil", body: "x"}},
			map[string]string{"outside/evil": "x"}, ""},
		"through a relative link": {[]entry{{name: "run", kind: tar.TypeSymlink, link: "../../../outside"}, {name: "run/evil", body: "x"}},
			map[string]string{"outside/evil": "x"}, ""},
		"onto a link":          {[]entry{{name: "f", kind: tar.TypeSymlink, link: "/etc/passwd"}, {name: "f", body: "mine"}}, map[string]string{"f": "mine"}, ""},
		"hard link out":        {[]entry{{name: "f", kind: tar.TypeLink, link: "../../../../../etc/passwd"}}, nil, "no such file"},
		"hard link in":         {[]entry{{name: "a", body: "x"}, {name: "b", kind: tar.TypeLink, link: "a"}}, map[string]string{"b": "x"}, ""},
		"a loop of links":      {[]entry{{name: "l", kind: tar.TypeSymlink, link: "l"}, {name: "l/x", body: "x"}}, nil, "too many symbolic links"},
		"merged usr":           {[]entry{{name: "lib", kind: tar.TypeSymlink, link: "usr/lib"}, {name: "lib/x", body: "x"}}, map[string]string{"usr/lib/x": "x"}, ""},
		"later one counts":     {[]entry{{name: "a", body: "1"}, {name: "a", body: "2"}}, map[string]string{"a": "2"}, ""},
		"file for directory":   {[]entry{{name: "d/x", body: "1"}, {name: "d", body: "2"}}, map[string]string{"d": "2"}, ""},
		"the root itself":      {[]entry{{name: ".", kind: tar.TypeSymlink, link: "/"}}, nil, "root must be a directory"},
		"devices are left out": {[]entry{{name: "dev/sda", kind: tar.TypeBlock}, {name: "a", body: "x"}}, map[string]string{"a": "x"}, ""},
		"empty":                {nil, nil, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			dir := filepath.Join(top, "deep", "root")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			err := extract(context.Background(), bytes.NewReader(archiveOf(t, c.entries...)), dir)
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			for f, want := range c.inside {
				if b, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(b) != want {
					t.Errorf("%s: %q %v, want %q", f, b, err, want)
				}
			}
			ents, _ := os.ReadDir(top)
			deep, _ := os.ReadDir(filepath.Join(top, "deep"))
			if len(ents) != 1 || len(deep) != 1 {
				t.Errorf("something was written outside: %v %v", ents, deep)
			}
		})
	}
}

func TestExtractKeepsModes(t *testing.T) {
	dir := t.TempDir()
	err := extract(context.Background(), bytes.NewReader(archiveOf(t, entry{name: "su", body: "x", mode: 0o4755}, entry{name: "tmp", kind: tar.TypeDir, mode: 0o1777}, entry{name: "tmp/f", kind: tar.TypeFifo, mode: 0o600})), dir)
	if err != nil {
		t.Fatal(err)
	}
	for f, want := range map[string]os.FileMode{"su": 0o755 | os.ModeSetuid, "tmp": 0o777 | os.ModeSticky | os.ModeDir, "tmp/f": 0o600 | os.ModeNamedPipe} {
		if st, err := os.Lstat(filepath.Join(dir, f)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v %v, want %v", f, st.Mode(), err, want)
		}
	}
	if st, _ := os.Stat(filepath.Join(dir, "tmp")); st.ModTime().Unix() != 1700000000 {
		t.Errorf("the directory's time is %v", st.ModTime())
	}
}

func rootfs(t *testing.T) []byte {
	return archiveOf(t, entry{name: "bin/sh", body: "sh"}, entry{name: "etc/motd", body: "hello"}, entry{name: "sbin/init", body: "init"})
}

func compressed(t *testing.T, kind string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	switch kind {
	case "":
		return b
	case ".gz":
		w := gzip.NewWriter(&out)
		w.Write(b)
		w.Close()
	case ".zst":
		w, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(b)
		w.Close()
	case ".xz":
		require.Tool(t, "xz")
		cmd := exec.Command("xz", "-c")
		cmd.Stdin, cmd.Stdout = bytes.NewReader(b), &out
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestImportArchives(t *testing.T) {
	for _, kind := range []string{"", ".gz", ".zst", ".xz"} {
		t.Run("tar"+kind, func(t *testing.T) {
			s := &Store{Dir: filepath.Join(t.TempDir(), "images")}
			file := filepath.Join(t.TempDir(), "my rootfs.tar"+kind)
			whole := compressed(t, kind, rootfs(t))
			if err := os.WriteFile(file, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			img, err := s.Import(context.Background(), file, "")
			if err != nil {
				t.Fatal(err)
			}
			if img.Name != "my-rootfs" || len(img.Layers) != 1 {
				t.Errorf("%+v", img)
			}
			if b, err := os.ReadFile(filepath.Join(img.Layers[0], "etc/motd")); err != nil || string(b) != "hello" {
				t.Errorf("%q %v", b, err)
			}
			if _, err := s.Import(context.Background(), file, ""); err == nil || !strings.Contains(err.Error(), "exists already") {
				t.Errorf("a second import: %v", err)
			}
			if err := os.WriteFile(file, whole[:len(whole)*2/3], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Import(context.Background(), file, "cut-off"); err == nil {
				t.Error("a cut off archive is imported")
			}
			list, err := s.List()
			if err != nil || len(list) != 1 {
				t.Errorf("list %v %v", list, err)
			}
			if left, _ := filepath.Glob(filepath.Join(s.Dir, ".tmp-*")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestImportRefuses(t *testing.T) {
	dir := t.TempDir()
	s := &Store{Dir: filepath.Join(dir, "images")}
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for source, want := range map[string]string{
		filepath.Join(dir, "absent.tar"):                                     "no such file",
		write("noise.tar", bytes.Repeat([]byte("noise "), 200)):              "unpacking",
		write("tiny.tar", []byte("x")):                                       "too short",
		write("docs.tar", archiveOf(t, entry{name: "README", body: "x"})):    "not a root file system",
		write("bare.tar", archiveOf(t, entry{name: "etc/passwd", body: ""})): "neither an init nor a shell",
		dir: "not an OCI image layout",
	} {
		if _, err := s.Import(context.Background(), source, "some-name"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something with %q", source, err, want)
		}
	}
	if _, err := s.Import(context.Background(), "x", "bad name"); err == nil {
		t.Error("a malformed name is taken")
	}
}

// container makes a small image whose second layer takes a file of the first away.
func container(t *testing.T) v1.Image {
	t.Helper()
	img := empty.Image
	for _, b := range [][]byte{
		archiveOf(t, entry{name: "bin/sh", body: "sh"}, entry{name: "etc/old", body: "x"}, entry{name: "etc/motd", body: "one"}),
		archiveOf(t, entry{name: "etc/.wh.old"}, entry{name: "etc/motd", body: "two"}),
	} {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.Config(img, v1.Config{Entrypoint: []string{"serve"}, Cmd: []string{"--all"}, Env: []string{"A=b"}, WorkingDir: "/srv"})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestImportContainerImages(t *testing.T) {
	_, err := embedded.Guest()
	require.That(t, "build", err)
	dir := t.TempDir()
	lay := filepath.Join(dir, "layout")
	p, err := layout.Write(lay, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(container(t)); err != nil {
		t.Fatal(err)
	}
	ociTar := filepath.Join(dir, "oci.tar")
	if out, err := exec.Command("tar", "-C", lay, "-cf", ociTar, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	saved := filepath.Join(dir, "saved.tar")
	tag, err := refname.NewTag("app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(saved, tag, container(t)); err != nil {
		t.Fatal(err)
	}
	s := &Store{Dir: filepath.Join(dir, "images")}
	for name, source := range map[string]string{"from-layout": lay, "from-oci-tar": ociTar, "from-docker-save": saved} {
		img, err := s.Import(context.Background(), source, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		root := img.Layers[0]
		if b, _ := os.ReadFile(filepath.Join(root, "etc/motd")); string(b) != "two" {
			t.Errorf("%s: motd %q", name, b)
		}
		if _, err := os.Lstat(filepath.Join(root, "etc/old")); err == nil {
			t.Errorf("%s: a removed file is there", name)
		}
		if b, _ := os.ReadFile(filepath.Join(root, CommandFile)); string(b) != `{"Args":["serve","--all"],"Env":["A=b"],"Dir":"/srv"}` {
			t.Errorf("%s: command %s", name, b)
		}
		if _, err := os.Stat(filepath.Join(root, "sbin/skerry-guest")); err != nil {
			t.Errorf("%s: no init: %v", name, err)
		}
	}
}

func TestCommitAndRemove(t *testing.T) {
	require.Root(t)
	dir := t.TempDir()
	s := &Store{Dir: filepath.Join(dir, "images")}
	file := filepath.Join(dir, "base.tar")
	if err := os.WriteFile(file, rootfs(t), 0o600); err != nil {
		t.Fatal(err)
	}
	base, err := s.Import(context.Background(), file, "base")
	if err != nil {
		t.Fatal(err)
	}
	up := filepath.Join(dir, "upper")
	for name, own := range map[string]int{"etc/app.conf": 5000, "home/ann/x": 6000, "etc/machine-id": 5000, "etc/ssh/ssh_host_ed25519_key": 5000} {
		p := filepath.Join(up, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(name), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(p, own, own); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(up, "etc/app.conf"), filepath.Join(up, "etc/app.link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(up, "etc/motd"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	img, err := s.Commit(context.Background(), Changes{Upper: up, FirstID: 5000, IDs: 65536, Layers: base.Layers}, "golden", "with the app")
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Layers) != 2 || img.Layers[1] != base.Layers[0] {
		t.Fatalf("layers %v", img.Layers)
	}
	for name, want := range map[string]uint32{"etc/app.conf": 0, "home/ann/x": 1000, "etc/motd": 0} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(img.Layers[0], name), &st); err != nil || st.Uid != want {
			t.Errorf("%s: owner %d %v, want %d", name, st.Uid, err, want)
		}
		if name == "etc/motd" && (st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0) {
			t.Errorf("the whiteout is %o %d", st.Mode, st.Rdev)
		}
		if name == "etc/app.conf" && st.Nlink != 2 {
			t.Errorf("a file with two names has %d", st.Nlink)
		}
	}
	for _, name := range []string{"etc/machine-id", "etc/ssh/ssh_host_ed25519_key"} {
		if _, err := os.Lstat(filepath.Join(img.Layers[0], name)); err == nil {
			t.Errorf("%s of one machine is in the image", name)
		}
	}
	if _, err := s.Commit(context.Background(), Changes{Upper: up, Layers: []string{"/etc"}}, "foreign", ""); err == nil {
		t.Error("a layer of elsewhere is taken")
	}
	if list, _ := s.List(); len(list) != 1 || list[0].Name != "base" {
		t.Errorf("an image of an instance is for everyone: %v", list)
	}
	if all, _ := s.All(); len(all) != 2 || !all[1].Private {
		t.Errorf("all images: %v", all)
	}
	if err := s.Remove("base", nil); err == nil {
		t.Error("an image that another is based on is removed")
	}
	if err := s.Remove("golden", img.Layers); err == nil {
		t.Error("an image that an instance uses is removed")
	}
	for _, n := range []string{"golden", "base"} {
		if err := s.Remove(n, nil); err != nil {
			t.Error(err)
		}
	}
	if list, _ := s.List(); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
}

// An instance puts a link to the host in the place of a directory that has just been listed.
func TestCommitDoesNotLeaveTheInstance(t *testing.T) {
	up, host, to := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "secret"), []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dir": host, "file": filepath.Join(host, "secret"), "up": "../" + filepath.Base(host)} {
		if err := os.Symlink(target, filepath.Join(up, name)); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(up, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	k := &copier{upper: fd, to: to, links: map[uint64]string{}}
	for _, d := range []string{"dir", "up"} {
		os.Mkdir(filepath.Join(to, d), 0o755)
		if err := k.copy(d + "/secret"); err == nil {
			t.Errorf("%s/secret was copied", d)
		}
	}
	if err := copyFile(filepath.Join(up, "file"), filepath.Join(to, "file")); err == nil {
		t.Error("a link was followed")
	}
	filepath.WalkDir(to, func(p string, e os.DirEntry, err error) error {
		if b, _ := os.ReadFile(p); string(b) == "of the host" {
			t.Errorf("%s holds what is the host's", p)
		}
		return nil
	})
}

func TestBuiltin(t *testing.T) {
	_, err := embedded.Guest()
	require.That(t, "build", err)
	s := &Store{Dir: filepath.Join(t.TempDir(), "images")}
	if err := s.EnsureBuiltin(); err != nil {
		t.Fatal(err)
	}
	img, err := s.Get(Nano)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(img.Layers[0], "bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.EnsureBuiltin(); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(filepath.Join(img.Layers[0], "bin/busybox"))
	if !os.SameFile(before, after) {
		t.Error("a second call writes the image again")
	}
	// A binary that carries other programs replaces it under the same id and name.
	r, _ := s.read(Nano)
	os.WriteFile(filepath.Join(s.Dir, Nano, recordFile), []byte(`{"Name":"`+Nano+`","Created":"2020-01-01T00:00:00Z","Sum":"old"}`), 0o600)
	if err := s.EnsureBuiltin(); err != nil {
		t.Fatal(err)
	}
	again, _ := s.Get(Nano)
	if now, _ := s.read(Nano); now.Sum != r.Sum || again.ID != img.ID || again.Created.Year() != 2020 {
		t.Errorf("after an upgrade: %+v", again)
	}
	if list, _ := s.List(); len(list) != 1 {
		t.Errorf("list: %v", list)
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	if ents, _ := os.ReadDir(s.Dir); len(ents) != 1 {
		t.Errorf("beside the image there is still something: %v", ents)
	}
	if len(img.ID) != len("ami-")+17 {
		t.Errorf("id %s", img.ID)
	}
	if st, _ := os.Stat(s.Dir); st.Mode().Perm() != 0o700 {
		t.Errorf("the store is open to others: %v", st.Mode())
	}
}
