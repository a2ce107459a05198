package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// runcOnce runs the nano image's root file system with the runc binary until its shell prints the time, and returns how
// long that took. It is what launching would cost without a cloud around it: no network, no metadata, no supervision.
func runcOnce(ctx context.Context, dir string) (time.Duration, error) {
	layers, err := filepath.Glob(filepath.Join(dir, "images", "*", "rootfs"))
	if err != nil || len(layers) == 0 {
		return 0, fmt.Errorf("no root file system of an image under %s (%v)", dir, err)
	}
	bundle, err := os.MkdirTemp("", "skerry-runc-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bundle)
	if err := os.Chmod(bundle, 0o711); err != nil { // root of the user namespace passes through
		return 0, err
	}
	start := time.Now()
	for _, d := range []string{"upper", "work", "rootfs"} {
		if err := os.Mkdir(filepath.Join(bundle, d), 0o755); err != nil {
			return 0, err
		}
	}
	if out, err := exec.Command("mount", "-t", "overlay", "overlay", "-o", "lowerdir="+layers[0]+",upperdir="+bundle+"/upper,workdir="+bundle+"/work", bundle+"/rootfs").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("overlay: %w: %s", err, out)
	}
	defer exec.Command("umount", bundle+"/rootfs").Run()
	b, err := json.Marshal(runcConfig())
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o644); err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, "runc", "run", "--bundle", bundle, filepath.Base(bundle)).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("runc: %w: %s", err, out)
	}
	at, ok := stamp(out)
	if !ok {
		return 0, fmt.Errorf("runc printed no time: %q", out)
	}
	return at.Sub(start), nil
}

// runcConfig is an OCI configuration with the namespaces that an instance has.
func runcConfig() map[string]any {
	ids := []map[string]any{{"containerID": 0, "hostID": 400000000, "size": 65536}}
	return map[string]any{
		"ociVersion": "1.0.2",
		"process":    map[string]any{"args": []string{"/bin/sh", "-c", stampCommand}, "cwd": "/", "env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, "user": map[string]any{"uid": 0, "gid": 0}},
		"root":       map[string]any{"path": "rootfs"},
		"hostname":   "runc",
		"mounts": []map[string]any{{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=65536k"}}},
		"linux": map[string]any{"uidMappings": ids, "gidMappings": ids,
			"namespaces": []map[string]any{{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "user"}}},
	}
}
