package cloud

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"skerry/internal/fabric"
	"skerry/internal/store"
)

// maxDataDir is the longest data directory: the sockets of zones lie in it, and a socket's path has 107 bytes.
const maxDataDir = 107 - len("/zones/ap-northeast-12a.sock")

// check refuses what cannot work, in a sentence with the way out. It changes nothing.
func (c *control) check() error {
	o := &c.o
	if _, port, err := net.SplitHostPort(o.Listen); err != nil || port == "" {
		return fmt.Errorf("--listen takes ADDRESS:PORT such as 127.0.0.1:4566, not %q", o.Listen)
	}
	if o.RootKeyFile != "" {
		if _, _, err := readRootKey(o.RootKeyFile); err != nil {
			return err
		}
	} else if !loopback(o.Listen) {
		return fmt.Errorf("%s can be reached from outside of this host, where the well-known keys must not work; give a key of your own with --root-key FILE", o.Listen)
	}
	switch o.Driver {
	case "auto", "container":
		if err := missing(); err != nil {
			return err
		}
		o.Driver = "container"
	case "sim":
	default:
		return fmt.Errorf("--driver takes auto, container or sim, not %q", o.Driver)
	}
	if err := checkDir(o.DataDir); err != nil {
		return err
	}
	s, err := readSettings(o.DataDir)
	switch {
	case errors.Is(err, errNoCloud):
	case err != nil:
		return err
	case s.Driver != o.Driver:
		return fmt.Errorf("the cloud in %s has --driver %s, which can't be changed; choose another --data-dir, or remove it with 'skerry down --purge'", o.DataDir, s.Driver)
	}
	if err := store.Check(o.DataDir); err != nil {
		return c.unusable(err)
	}
	if o.Driver == "sim" {
		c.log.Warn("THE SIM DRIVER IS ON: instances are records only; nothing boots, no packet flows")
	}
	return nil
}

// checkDir refuses a data directory that can't be read and written, or can't be made.
func checkDir(dir string) error {
	if len(dir) > maxDataDir {
		return fmt.Errorf("the data directory's path has %d bytes, and sockets in it allow %d; choose a shorter one with --data-dir", len(dir), maxDataDir)
	}
	for at := dir; ; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		switch {
		case errors.Is(err, os.ErrNotExist) && at != filepath.Dir(at):
			continue
		case errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("the data directory %s can't be made, a part of its path is a file; choose another with --data-dir", dir)
		case err != nil:
			return fmt.Errorf("the data directory can't be used: %w; choose another with --data-dir", err)
		case !st.IsDir():
			return fmt.Errorf("%s is not a directory; choose another with --data-dir", at)
		}
		if err := unix.Access(at, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
			if at == dir {
				return fmt.Errorf("the data directory %s can't be read and written (%w); run as its owner, or choose another with --data-dir", dir, err)
			}
			return fmt.Errorf("the data directory %s can't be made in %s (%w); run as root, or choose another with --data-dir", dir, at, err)
		}
		return nil
	}
}

// unusable words an error of the state.
func (c *control) unusable(err error) error {
	dir := c.o.DataDir
	file := filepath.Join(dir, store.FileName)
	switch {
	case errors.Is(err, store.ErrInUse):
		return fmt.Errorf("another control plane runs on %s; stop it first, or choose another directory with --data-dir", dir)
	case errors.Is(err, store.ErrNewer):
		return fmt.Errorf("the state in %s can't be used, %w; run that version, or choose another directory with --data-dir", dir, err)
	case errors.Is(err, store.ErrCorrupt):
		return fmt.Errorf("the state %s can't be used, %w; it was left as it is: put a backup in its place, or remove the cloud with 'skerry down --purge --data-dir %s'", file, err, dir)
	}
	return fmt.Errorf("the state %s can't be opened: %w; make it readable, or choose another directory with --data-dir", file, err)
}

func listen(address string) (net.Listener, error) {
	lis, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another program; stop it, or choose another address with --listen", address)
	case err != nil:
		return nil, fmt.Errorf("the API can't listen on %s: %w; choose another address with --listen", address, err)
	}
	return lis, nil
}

// claim reserves the public pool on this machine, once the kernel has been asked for all that the network needs.
func (c *control) claim() (err error) {
	if c.o.Driver == "sim" {
		return nil
	}
	c.fabric, err = fabric.New(fabric.Options{CloudID: c.id, RunDir: runDir(c.id), PublicPool: c.o.PublicPool, Egress: c.o.Egress, Log: c.log})
	return err
}
