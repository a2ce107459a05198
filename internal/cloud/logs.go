package cloud

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// LogFile is the log of a detached control plane, in its data directory.
const LogFile = "skerry.log"

// Bounds of every log: two files of logMax bytes, the older one called .1, looked at every logCheckEvery.
const (
	logMax        = 16 << 20
	logCheckEvery = 10 * time.Second
)

// logTo makes a file the process's standard error, for the log and for whatever the runtime says at its end.
func logTo(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("the log can't be written: %w; choose another directory with --data-dir", err)
	}
	defer f.Close()
	return unix.Dup3(int(f.Fd()), 2, 0)
}

// boundLogs keeps the logs of the control plane and of the zones' data planes within their bounds until ctx ends. Their
// writers append, so that cutting a file is all that is needed.
func (c *control) boundLogs(ctx context.Context) {
	t := time.NewTicker(logCheckEvery)
	defer t.Stop()
	for {
		zones, _ := filepath.Glob(filepath.Join(c.o.DataDir, "zones", "*.log"))
		for _, path := range append(zones, filepath.Join(c.o.DataDir, LogFile)) {
			if err := boundLog(path, logMax); err != nil {
				c.log.Warn("a log could not be cut", "path", path, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// boundLog turns a log over when it has more than limit bytes: its last limit bytes become path.1, and it begins anew. On
// a full disk the old lines go: the new ones matter more.
func boundLog(path string, limit int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() <= limit {
		return err
	}
	err = keepTail(io.NewSectionReader(f, st.Size()-limit, limit), path+".1")
	if terr := f.Truncate(0); terr != nil {
		return terr
	}
	return err
}

func keepTail(r io.Reader, path string) error {
	old, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(old, r)
	if cerr := old.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}
