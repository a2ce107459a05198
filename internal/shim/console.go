package shim

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Bounds of a console: at most two files of ConsoleMax bytes on disk, of which ConsoleView are shown, as EC2 does.
const (
	ConsoleMax  = 512 << 10
	ConsoleView = 64 << 10
)

// ConsoleLog appends to an instance's console file and turns it over when it is full, so that the tail is always there
// and the disk never fills.
type ConsoleLog struct {
	mu   sync.Mutex
	path string
	f    *os.File
	n    int64
}

// OpenConsole opens the console log in dir.
func OpenConsole(dir string) (*ConsoleLog, error) {
	c := &ConsoleLog{path: filepath.Join(dir, ConsoleFile)}
	return c, c.open()
}

func (c *ConsoleLog) open() error {
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	c.f, c.n = f, st.Size()
	return nil
}

// Write appends p. A failing disk loses output and never stops the instance: the error is swallowed.
func (c *ConsoleLog) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n+int64(len(p)) > ConsoleMax && c.n > 0 {
		c.turn()
	}
	n, _ := c.f.Write(p)
	c.n += int64(n)
	return len(p), nil
}

// turn makes the file the older one and begins another. Where that can't be, what the file holds is given up.
func (c *ConsoleLog) turn() {
	full := c.f
	if os.Rename(c.path, c.path+".1") == nil {
		if c.open() == nil {
			full.Close()
			return
		}
		os.Rename(c.path+".1", c.path)
	}
	full.Truncate(0)
	c.n = 0
}

// ReadConsole returns the last ConsoleView bytes of the console in dir, cut at a line's start.
func ReadConsole(dir string) ([]byte, error) {
	path := filepath.Join(dir, ConsoleFile)
	b, cut, err := tail(path, ConsoleView)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if len(b) < ConsoleView {
		if old, oldCut, err := tail(path+".1", ConsoleView-len(b)); err == nil {
			b, cut = append(old, b...), oldCut
		}
	}
	if cut {
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return b, nil
}

// tail reads the last n bytes of a file and says whether there are more before them.
func tail(path string, n int) (b []byte, cut bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > int64(n) {
		if _, err := f.Seek(-int64(n), io.SeekEnd); err != nil {
			return nil, false, err
		}
		cut = true
	}
	b, err = io.ReadAll(io.LimitReader(f, int64(n)))
	return b, cut, err
}
