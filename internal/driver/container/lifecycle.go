package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"skerry/internal/driver"
	"skerry/internal/shim"
)

// Bounds.
const (
	startTimeout = 60 * time.Second // until a shim says that init runs
	stopSlack    = 15 * time.Second // beyond the timeout of a stop, for taking down
	goneTimeout  = 10 * time.Second // until a shim that was killed is gone
	rebootSlack  = 90 * time.Second
	maxReadyText = 4096
)

// Create prepares the root file system and the namespaces; see driver.Driver.
func (d *Driver) Create(ctx context.Context, s driver.Spec) (string, error) {
	in, err := d.lock(s.ID, true)
	if err != nil {
		return "", err
	}
	defer in.op.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	net := filepath.Join(in.run, "net")
	if in.exists {
		if shim.Alive(in.dir) {
			return net, nil
		}
		var stored driver.Spec // not into s, whose slices are the caller's
		if err := shim.ReadJSON(filepath.Join(in.dir, specFile), &stored); err != nil {
			return "", err
		}
		if stored.VCPU != s.VCPU || stored.MemoryMiB != s.MemoryMiB || !maps.Equal(stored.Env, s.Env) { // of another type by now
			stored.VCPU, stored.MemoryMiB, stored.Env = s.VCPU, s.MemoryMiB, s.Env
			if err := shim.WriteJSON(filepath.Join(in.dir, specFile), stored); err != nil {
				return "", err
			}
		}
		s = stored
	}
	if err := d.prepare(in, s); err != nil {
		if !in.exists { // leave nothing of an instance that never was
			err = errors.Join(err, d.remove(in))
		}
		return "", fmt.Errorf("preparing instance %s: %w", s.ID, err)
	}
	return net, nil
}

// prepare does what is missing, in an order in which every prefix is found and continued or removed later.
func (d *Driver) prepare(in *instance, s driver.Spec) error {
	if err := os.MkdirAll(in.dir, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(in.run, 0o711); err != nil {
		return err
	}
	c := shim.Config{ID: s.ID, Hostname: s.Hostname, Rootfs: filepath.Join(in.run, "root"), UserNS: filepath.Join(in.run, "user"), NetNS: filepath.Join(in.run, "net"),
		UIDBase: d.firstID(s.Index), CgroupPath: d.cgroupPath(s.ID), VCPU: s.VCPU, MemoryMiB: s.MemoryMiB, Env: s.Env}
	if !d.cg.v2() {
		c.Unified = d.cg.unified
	}
	if err := shim.WriteJSON(filepath.Join(in.dir, shim.ConfigFile), c); err != nil {
		return err
	}
	if err := ensureNamespaces(in.run, c.UIDBase); err != nil {
		return err
	}
	if err := seed(in, s, c.UIDBase); err != nil {
		return err
	}
	if err := ensureRoot(in, s, c.UIDBase); err != nil {
		return err
	}
	if in.exists {
		return nil
	}
	if err := shim.WriteJSON(filepath.Join(in.dir, specFile), s); err != nil {
		return err
	}
	d.mu.Lock()
	in.exists = true
	d.mu.Unlock()
	return nil
}

// firstID is the first of the instance's 65,536 user ids. Clouds begin at different places of the range.
func (d *Driver) firstID(index uint32) int {
	return idFirst + int((uint64(d.idBase)+uint64(index))%idRanges)*idSize
}

// Start boots the instance; see driver.Driver.
func (d *Driver) Start(ctx context.Context, id string) error {
	in, err := d.lock(id, false)
	if err != nil {
		return err
	}
	defer in.op.Unlock()
	if shim.Alive(in.dir) {
		if r, err := shim.Do(ctx, in.dir, shim.Request{Op: "status"}); err == nil && r.Running {
			d.running(in, r.State)
			return nil
		}
		// On its way up for a starter that is gone, or on its way out.
		if err := d.settle(ctx, in); err != nil {
			return err
		}
		if d.state(in) == driver.Running {
			return nil
		}
	}
	var s driver.Spec
	if err := shim.ReadJSON(filepath.Join(in.dir, specFile), &s); err != nil {
		return err
	}
	if err := d.prepare(in, s); err != nil {
		return fmt.Errorf("preparing instance %s: %w", id, err)
	}
	select {
	case d.boots <- struct{}{}:
		defer func() { <-d.boots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := d.cg.removeGroups(d.cgroupPath(id)); err != nil { // of a shim that was killed
		return err
	}
	if err := d.yieldToHost(); err != nil {
		return fmt.Errorf("the instances' CPU weight: %w", err)
	}
	if err := d.spawn(ctx, in); err != nil {
		// A shim that an earlier control plane started may have been on its way, and has won.
		if ctx.Err() == nil && shim.Alive(in.dir) && d.settle(ctx, in) == nil && d.state(in) == driver.Running {
			return nil
		}
		d.refresh(in)
		return fmt.Errorf("starting instance %s: %w", id, err)
	}
	var st shim.State
	if err := shim.ReadJSON(filepath.Join(in.dir, shim.StateFile), &st); err != nil {
		d.refresh(in) // it has ended already
		return nil
	}
	d.running(in, st)
	return nil
}

// spawn starts the shim and waits until it says that init runs.
func (d *Driver) spawn(ctx context.Context, in *instance) error {
	log, err := os.OpenFile(filepath.Join(in.dir, "shim.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(d.shim, "--data-dir", d.o.DataDir, "--instance", in.id)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=2"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }() // ends with the shim, or with this process
	abandon := func() { cmd.Process.Kill(); <-ended }
	if err := d.joinShims(cmd.Process.Pid); err != nil && !errors.Is(err, syscall.ESRCH) {
		abandon()
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReaderSize(r, maxReadyText).ReadString('\n')
	switch line = strings.TrimSpace(line); {
	case ctx.Err() != nil:
		abandon() // else it might come up when nobody expects it any more
		return fmt.Errorf("the shim does not answer: %w", ctx.Err())
	case line == "ok":
		return nil
	case line != "":
		return errors.New(line)
	default:
		text, _ := os.ReadFile(filepath.Join(in.dir, "shim.log"))
		return fmt.Errorf("the shim ended without an answer: %.300s", text)
	}
}

// settle waits until a shim that is neither up nor gone is one of both.
func (d *Driver) settle(ctx context.Context, in *instance) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for shim.Alive(in.dir) {
		if r, err := shim.Do(ctx, in.dir, shim.Request{Op: "status"}); err == nil && r.Running {
			d.running(in, r.State)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the shim of %s does not answer: %w", in.id, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	d.refresh(in)
	return nil
}

// Stop shuts the instance down; see driver.Driver.
func (d *Driver) Stop(ctx context.Context, id string, force bool, timeout time.Duration) error {
	if force {
		d.preempt(ctx, id)
	}
	in, err := d.lock(id, false)
	if err != nil {
		return err
	}
	defer in.op.Unlock()
	return d.stop(ctx, in, force, timeout)
}

// preempt kills an instance without waiting for its lock: a clean shutdown that is under way must not hold up a forced one.
// It only speeds up what the caller does next.
func (d *Driver) preempt(ctx context.Context, id string) {
	d.mu.Lock()
	in := d.insts[id]
	running := in != nil && in.exists && in.status.State == driver.Running
	d.mu.Unlock()
	if !running {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	shim.Do(ctx, in.dir, shim.Request{Op: "stop", Force: true})
}

func (d *Driver) stop(ctx context.Context, in *instance, force bool, timeout time.Duration) error {
	if !shim.Alive(in.dir) {
		d.refresh(in)
		return nil
	}
	sctx, cancel := context.WithTimeout(ctx, timeout+stopSlack)
	defer cancel()
	for shim.Alive(in.dir) { // a shim that boots does not listen yet, one that ends does not any more
		_, err := shim.Do(sctx, in.dir, shim.Request{Op: "stop", Force: force, TimeoutMS: int(timeout.Milliseconds())})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if sctx.Err() != nil {
			d.o.Log.Warn("a shim does not answer; killing it", "instance", in.id, "err", err)
			shim.Kill(in.dir)
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err := d.gone(in); err != nil {
		return err
	}
	d.refresh(in)
	return nil
}

// gone waits for the shim to let go of its lock, and kills it when it does not.
func (d *Driver) gone(in *instance) error {
	start := time.Now()
	for killed := false; shim.Alive(in.dir); time.Sleep(time.Millisecond) {
		switch t := time.Since(start); {
		case t > 2*goneTimeout:
			return fmt.Errorf("the shim of instance %s does not end", in.id)
		case t > goneTimeout && !killed:
			killed = true
			shim.Kill(in.dir)
		}
	}
	return nil
}

// Reboot shuts the instance down and boots it again; see driver.Driver.
func (d *Driver) Reboot(ctx context.Context, id string) error {
	in, err := d.lock(id, false)
	if err != nil {
		return err
	}
	defer in.op.Unlock()
	if !shim.Alive(in.dir) {
		d.refresh(in)
		return fmt.Errorf("instance %s is not running", id)
	}
	ctx, cancel := context.WithTimeout(ctx, rebootSlack)
	defer cancel()
	r, err := shim.Do(ctx, in.dir, shim.Request{Op: "reboot"})
	if err != nil {
		return fmt.Errorf("rebooting instance %s: %w", id, err)
	}
	d.running(in, r.State)
	return nil
}

// Destroy removes the instance with everything that Create and Start made; see driver.Driver.
func (d *Driver) Destroy(ctx context.Context, id string) error {
	d.preempt(ctx, id)
	in, err := d.lock(id, true)
	if err != nil {
		return nil // a name that no instance can have, or destroyed by another call just now
	}
	defer in.op.Unlock()
	if in.exists {
		if err := d.stop(ctx, in, true, 0); err != nil {
			return fmt.Errorf("destroying instance %s: %w", id, err)
		}
	}
	if err := d.remove(in); err != nil {
		return fmt.Errorf("destroying instance %s: %w", id, err)
	}
	return nil
}

// remove takes away everything of an instance that does not run any more, whatever there is of it, the record last.
func (d *Driver) remove(in *instance) error {
	if shim.Alive(in.dir) {
		shim.Kill(in.dir)
		if err := d.gone(in); err != nil {
			return err
		}
	}
	if err := errors.Join(d.cg.removeGroups(d.cgroupPath(in.id)), dropRoot(in), dropNamespaces(in.run)); err != nil {
		return err
	}
	if err := os.RemoveAll(in.run); err != nil {
		return err
	}
	ents, err := os.ReadDir(in.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range ents {
		if e.Name() != specFile {
			if err := os.RemoveAll(filepath.Join(in.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(in.dir); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	in.exists = false
	if d.insts[in.id] == in {
		delete(d.insts, in.id)
	}
	return nil
}
