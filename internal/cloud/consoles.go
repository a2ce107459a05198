package cloud

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"skerry/internal/compute"
	"skerry/internal/driver"
)

// consolesDir holds the last console output of terminated instances, a file each, for as long as they are described.
const consolesDir = "consoles"

func (c *control) consoleDir() string { return filepath.Join(c.o.DataDir, consolesDir) }

// console is the console output of an instance, also after its end.
func (c *control) console(ctx context.Context, id string) ([]byte, error) {
	b, err := c.driver.Console(ctx, id)
	if errors.Is(err, driver.ErrNotFound) {
		if kept, kerr := os.ReadFile(filepath.Join(c.consoleDir(), id)); kerr == nil {
			return kept, nil
		}
	}
	return b, err
}

// keepConsole puts an instance's console output aside before the instance is destroyed. Simulated ones have nothing to
// say. Output that can't be kept holds nothing up.
func (c *control) keepConsole(ctx context.Context, id string) {
	if c.fabric == nil {
		return
	}
	b, err := c.driver.Console(ctx, id)
	if err == nil && len(b) > 0 {
		if err = os.MkdirAll(c.consoleDir(), 0o700); err == nil {
			err = os.WriteFile(filepath.Join(c.consoleDir(), id), b, 0o600)
		}
	}
	if err != nil && !errors.Is(err, driver.ErrNotFound) { // destroyed already
		c.log.Warn("an instance's last console output could not be kept", "instance", id, "err", err)
	}
}

// sweepConsoles removes the output of instances that are not described any more.
func (c *control) sweepConsoles(now time.Time) {
	ents, _ := os.ReadDir(c.consoleDir())
	for _, e := range ents {
		if st, err := e.Info(); err == nil && now.Sub(st.ModTime()) > compute.VisibleFor {
			os.Remove(filepath.Join(c.consoleDir(), e.Name()))
		}
	}
}
