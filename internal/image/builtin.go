package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"skerry/internal/embedded"
)

// guestNames are the names under which the guest program is found in PATH.
var guestNames = []string{"sbin/poweroff", "sbin/reboot", "sbin/halt", "sbin/shutdown", "bin/curl"}

var nanoFiles = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nec2-user:x:1000:1000:EC2 user:/home/ec2-user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
	"etc/group":         "root:x:0:\nwheel:x:10:ec2-user\nec2-user:x:1000:\nnogroup:x:65534:\n",
	"etc/shells":        "/bin/sh\n",
	"etc/nsswitch.conf": "hosts: files dns\n",
	"etc/os-release":    "NAME=\"Skerry nano\"\nID=skerry-nano\nVERSION_ID=1\nPRETTY_NAME=\"Skerry nano 1\"\n",
	"etc/issue":         "Skerry nano 1\n",
	"etc/profile":       "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n[ \"$(id -u)\" = 0 ] && PS1='# ' || PS1='$ '\nexport PS1\n",
	"etc/hostname":      "localhost\n",
	"etc/hosts":         "127.0.0.1 localhost\n",
	"etc/resolv.conf":   "",
}

// nanoVersion counts changes of what writeNano makes of its inputs.
const nanoVersion = 2

// EnsureBuiltin writes the built-in image when it is missing or this binary carries other programs than it was made of.
// Instances of an older one keep their files: only the directory's name goes over to the new one.
func (s *Store) EnsureBuiltin() error {
	bb, err := embedded.Busybox()
	if err != nil {
		return err
	}
	guest, err := embedded.Guest()
	if err != nil {
		return err
	}
	applets, err := embedded.Applets()
	if err != nil {
		return err
	}
	h := sha256.New()
	h.Write(bb)
	h.Write(guest)
	fmt.Fprint(h, nanoVersion, applets, guestNames, nanoFiles)
	sum := hex.EncodeToString(h.Sum(nil))
	old, err := s.read(Nano)
	if err == nil && old.Sum == sum {
		return nil
	}
	dir, err := s.draft()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := writeNano(filepath.Join(dir, rootDir), bb, guest, applets); err != nil {
		return err
	}
	created := time.Now().UTC().Truncate(time.Second)
	if !old.Created.IsZero() {
		created = old.Created
		if err := os.Rename(filepath.Join(s.Dir, Nano), filepath.Join(s.Dir, fmt.Sprintf("%s%s-%d", oldPrefix, Nano, time.Now().UnixNano()))); err != nil {
			return err
		}
	}
	_, err = s.finish(dir, record{Name: Nano, Description: "Skerry nano: busybox and a small init with SSH, user data and curl", Created: created, Sum: sum})
	return err
}

// Prune removes built-in images that newer ones replaced. No instance may be there: one could have been made of them.
func (s *Store) Prune() error {
	old, err := filepath.Glob(filepath.Join(s.Dir, oldPrefix+"*"))
	for _, p := range old {
		err = errors.Join(err, os.RemoveAll(p))
	}
	return err
}

func writeNano(root string, bb, guest []byte, applets []string) error {
	for dir, mode := range map[string]os.FileMode{"bin": 0o755, "sbin": 0o755, "etc": 0o755, "usr/bin": 0o755, "usr/sbin": 0o755, "usr/local/bin": 0o755, "proc": 0o755, "sys": 0o755,
		"dev": 0o755, "run": 0o755, "tmp": 0o777 | os.ModeSticky, "var/log": 0o755, "var/lib": 0o755, "var/tmp": 0o777 | os.ModeSticky, "srv": 0o755, "mnt": 0o755, "opt": 0o755,
		"root": 0o700, "home/ec2-user": 0o755} {
		p := filepath.Join(root, dir)
		if err := os.MkdirAll(p, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(p, mode); err != nil {
			return err
		}
	}
	for name, text := range nanoFiles {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for name, b := range map[string][]byte{"bin/busybox": bb, "sbin/skerry-guest": guest} {
		if err := os.WriteFile(filepath.Join(root, name), b, 0o755); err != nil {
			return err
		}
	}
	sudo := filepath.Join(root, "usr/bin/sudo")
	if err := os.WriteFile(sudo, guest, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(sudo, 0o755|os.ModeSetuid); err != nil {
		return err
	}
	if err := os.Symlink("../run", filepath.Join(root, "var/run")); err != nil {
		return err
	}
	for _, a := range applets {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			return err
		}
	}
	for _, n := range guestNames {
		if err := os.Symlink("/sbin/skerry-guest", filepath.Join(root, n)); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 {
		return os.Chown(filepath.Join(root, "home/ec2-user"), 1000, 1000)
	}
	return nil
}
