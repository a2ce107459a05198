package cloud

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"skerry/internal/driver/container"
	"skerry/internal/fabric"
)

// tearDown removes everything of a cloud from the machine but its data directory: instances, networks, names. The control
// plane and the zones' data planes must have ended. Repeating it is harmless.
func tearDown(ctx context.Context, dir string, s settings, log *slog.Logger) error {
	var errs []error
	id := cloudID(dir)
	if s.Driver != "sim" {
		d, err := container.New(container.Options{DataDir: dir, CloudID: id, Log: log})
		if err == nil {
			err = d.Teardown(ctx)
			d.Close()
		}
		errs = append(errs, err)
		f, err := fabric.Remains(fabric.Options{CloudID: id, RunDir: runDir(id), Log: log})
		if err == nil {
			err = f.Teardown(ctx)
		}
		errs = append(errs, err, os.RemoveAll(runDir(id)))
	}
	if s.HostsFile {
		errs = append(errs, hostsBlock(hostsPath, id, nil))
	}
	return errors.Join(errs...)
}

// ID is the id that names of a cloud on this machine carry.
func ID(dataDir string) string { return cloudID(dataDir) }
