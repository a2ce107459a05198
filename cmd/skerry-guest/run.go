package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"
)

const (
	stateDir   = "/var/lib/skerry"
	outputLog  = "/var/log/cloud-init-output.log"
	maxLine    = 4096    // of output on the console; longer ones are cut in pieces
	maxLogSize = 4 << 20 // of the output log
)

// firstBoot asks the metadata service who this instance is, and runs user data unless it has been run for this instance.
func (g *guest) firstBoot(ctx context.Context) {
	defer g.command(ctx)
	defer func() {
		if p := recover(); p != nil { // user data must not take the machine down
			g.logf("cloud-init", "given up: %v", p)
		}
	}()
	if err := g.md.open(ctx); err != nil {
		g.logf("cloud-init", "%v; no user data is run", err)
		return
	}
	var id, data, key, region []byte
	var idErr, dataErr error
	var wg sync.WaitGroup
	for _, f := range []func(){
		func() { id, idErr = g.md.get(ctx, "meta-data/instance-id") },
		func() { data, dataErr = g.md.get(ctx, "user-data") },
		func() { key, _ = g.md.get(ctx, "meta-data/public-keys/0/openssh-key") },
		func() { region, _ = g.md.get(ctx, "meta-data/placement/region") },
	} {
		wg.Add(1)
		go func() { defer wg.Done(); f() }()
	}
	wg.Wait()
	g.mu.Lock()
	g.keys = string(key)
	if len(region) > 0 {
		g.region = string(region)
	}
	g.mu.Unlock()
	if idErr != nil {
		g.logf("cloud-init", "the metadata service does not tell the instance's id: %v; no user data is run", idErr)
		return
	}
	if dataErr != nil && !errors.Is(dataErr, errNoItem) {
		g.logf("cloud-init", "user data can't be read: %v", dataErr)
		return
	}
	g.userData(ctx, string(id), data, string(key))
}

// userData does what user data asks for: boot hooks and bootcmd at every boot, everything else once an instance.
func (g *guest) userData(ctx context.Context, id string, data []byte, key string) {
	marker := g.path(filepath.Join(stateDir, "instance-id"))
	before, _ := os.ReadFile(marker)
	first := strings.TrimSpace(string(before)) != id
	scripts := g.path(filepath.Join(stateDir, "instance/scripts"))
	if first {
		os.RemoveAll(g.path(filepath.Join(stateDir, "instance")))
		for _, u := range g.keyUsers() {
			if err := g.authorize(u, strings.Split(key, "\n")); err != nil {
				g.logf("cloud-init", "ssh keys: %v", err)
			}
		}
	}
	if err := os.MkdirAll(scripts, 0o700); err != nil {
		g.logf("cloud-init", "%v", err)
		return
	}
	// Before the scripts run: a script that reboots the machine has run.
	if err := os.WriteFile(marker, []byte(id+"\n"), 0o644); err != nil {
		g.logf("cloud-init", "%v", err)
	}
	parts, refused := parseUserData(data)
	for _, r := range refused {
		g.logf("cloud-init", "%s", r)
	}
	start := time.Now()
	var late []part // scripts, then runcmd
	var runcmd []part
	for _, p := range parts {
		switch p.kind {
		case bootHook:
			body := p.body
			if bytes.HasPrefix(body, []byte("#cloud-boothook")) {
				_, body, _ = bytes.Cut(body, []byte("\n"))
			}
			if !bytes.HasPrefix(body, []byte("#!")) {
				body = append([]byte("#!/bin/sh\n"), body...)
			}
			g.script(ctx, part{name: "boothook-" + p.name, body: body}, id)
		case cloudConfig:
			c, unused, err := parseConfig(p.body)
			if err != nil {
				g.logf("cloud-init", "%v", err)
				continue
			}
			if first && len(unused) > 0 {
				g.logf("cloud-init", "%s: no effect on this image: %s", p.name, strings.Join(unused, ", "))
			}
			g.commands(ctx, "bootcmd", c.BootCmd, id, func(p part) { g.script(ctx, p, id) })
			if first {
				for _, err := range g.apply(c) {
					g.logf("cloud-init", "%v", err)
				}
				g.commands(ctx, "runcmd", c.RunCmd, id, func(p part) { runcmd = append(runcmd, p) })
			}
		default:
			if first || p.kind == bootScript {
				late = append(late, p)
			}
		}
	}
	late = append(late, runcmd...)
	for _, p := range late {
		g.script(ctx, p, id)
	}
	if first && ctx.Err() == nil {
		g.logf("cloud-init", "finished: %d user data parts, %.3f seconds, up %.3f seconds", len(parts), time.Since(start).Seconds(), time.Since(g.started).Seconds())
	}
}

func (g *guest) commands(ctx context.Context, name string, cmds []yaml.Node, id string, run func(part)) {
	if len(cmds) == 0 {
		return
	}
	b, err := shellScript(cmds)
	if err != nil {
		g.logf("cloud-init", "%v", err)
		return
	}
	run(part{name: name, body: b})
}

// script writes a part to a file, runs it and waits for it. What it leaves in the background goes on.
func (g *guest) script(ctx context.Context, p part, id string) {
	if ctx.Err() != nil {
		return
	}
	file := filepath.Join(stateDir, "instance/scripts", p.name)
	if err := os.WriteFile(g.path(file), p.body, 0o700); err != nil {
		g.logf("cloud-init", "%v", err)
		return
	}
	argv := []string{file}
	if !bytes.HasPrefix(p.body, []byte("#!")) {
		argv = []string{"/bin/sh", file}
	} else if in, arg := interpreter(p.body); filepath.Base(in) == "bash" {
		if _, err := os.Stat(g.path(in)); err != nil {
			argv = []string{"/bin/sh"}
			if arg != "" { // such as -xe: a script that relies on it must not go on without
				argv = append(argv, arg)
			}
			g.logf("cloud-init", "%s asks for %s, which this image doesn't have: it is run by %s", p.name, in, strings.Join(argv, " "))
			argv = append(argv, file)
		}
	}
	ws, err := g.run("cloud-init", "/", argv, append(g.environ("/root", "root", "/bin/sh"), "INSTANCE_ID="+id))
	switch {
	case err != nil:
		g.logf("cloud-init", "%s can't be run: %v", p.name, err)
	case code(ws) != 0:
		g.logf("cloud-init", "%s failed: exit status %d", p.name, code(ws))
	}
}

// command runs what an image made of a container is for. It is not started again when it ends.
func (g *guest) command(ctx context.Context) {
	b, err := os.ReadFile(g.path("/etc/skerry/command.json"))
	if err != nil || ctx.Err() != nil {
		return
	}
	var c struct {
		Args, Env []string
		Dir       string
	}
	if err := json.Unmarshal(b, &c); err != nil || len(c.Args) == 0 {
		g.logf("init", "/etc/skerry/command.json can't be read: %v", err)
		return
	}
	env := append(g.environ("/root", "root", "/bin/sh"), c.Env...)
	path := defaultPath
	for _, kv := range c.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	if !strings.Contains(c.Args[0], "/") {
		for _, dir := range filepath.SplitList(path) {
			if st, err := os.Stat(g.path(filepath.Join(dir, c.Args[0]))); err == nil && st.Mode()&0o111 != 0 {
				c.Args[0] = filepath.Join(dir, c.Args[0])
				break
			}
		}
	}
	if c.Dir == "" {
		c.Dir = "/"
	}
	g.logf("init", "starting %s", strings.Join(c.Args, " "))
	ws, err := g.run("command", c.Dir, c.Args, env)
	if err != nil {
		g.logf("init", "%v", err)
		return
	}
	g.logf("init", "%s ended: exit status %d", c.Args[0], code(ws))
}

// interpreter is the program that a script's first line names, also behind env, and the argument that it gives it.
func interpreter(b []byte) (path, arg string) {
	line, _, _ := strings.Cut(string(b[2:]), "\n")
	path, arg, _ = strings.Cut(strings.TrimSpace(line), " ")
	if arg = strings.TrimSpace(arg); filepath.Base(path) == "env" && arg != "" {
		return "/bin/" + filepath.Base(arg), ""
	}
	return path, arg
}

// run runs a program with its output on the console and in the log, and returns when it has ended, also when children of
// its own still hold the output.
func (g *guest) run(who, dir string, argv, env []string) (syscall.WaitStatus, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		r.Close()
		w.Close()
		return 0, err
	}
	pid, done, err := g.procs.start(argv[0], argv, &syscall.ProcAttr{Dir: dir, Env: env,
		Files: []uintptr{null.Fd(), w.Fd(), w.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true}})
	null.Close()
	w.Close()
	if err != nil {
		r.Close()
		return 0, err
	}
	copied := make(chan struct{})
	go func() { defer close(copied); g.copyOutput(r, fmt.Sprintf("%s[%d]", who, pid)); r.Close() }()
	ws := <-done
	r.SetReadDeadline(time.Now()) // a last line without an end is not held back any longer
	select {                      // so that its last lines come before what is said about it
	case <-copied:
	case <-time.After(20 * time.Millisecond):
	}
	return ws, nil
}

// lineWait is how long a line without an end is held back, before it is shown as it is.
const lineWait = 200 * time.Millisecond

// copyOutput copies what a program writes to the output log and, line by line, to the console.
func (g *guest) copyOutput(r *os.File, who string) {
	log, err := os.OpenFile(g.path(outputLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err == nil {
		defer log.Close()
	}
	var lines lineCutter
	for {
		wait := time.Time{}
		if len(lines.rest) > 0 {
			wait = time.Now().Add(lineWait)
		}
		r.SetReadDeadline(wait)
		room := lines.room()
		n, err := r.Read(room)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if log != nil && n > 0 {
			if st, serr := log.Stat(); serr == nil && st.Size() < maxLogSize {
				log.Write(room[:n])
			}
		}
		for _, line := range lines.cut(n, err != nil) {
			g.logf(who, "%s", bytes.TrimRight(line, "\r\n"))
		}
		if err != nil && !late {
			return
		}
	}
}

// lineCutter makes lines of what is read. A line longer than its room comes in pieces.
type lineCutter struct {
	buf  [maxLine]byte
	rest []byte // of buf: what has no end yet
}

// room is where the next bytes go.
func (c *lineCutter) room() []byte {
	n := copy(c.buf[:], c.rest)
	c.rest = c.buf[:n]
	return c.buf[n:]
}

// cut returns the lines that are complete with n more bytes, and with all set what is left, too. They are good until room is
// called.
func (c *lineCutter) cut(n int, all bool) (lines [][]byte) {
	c.rest = c.rest[:len(c.rest)+n]
	for {
		i := bytes.IndexByte(c.rest, '\n')
		if i < 0 {
			break
		}
		lines, c.rest = append(lines, c.rest[:i+1]), c.rest[i+1:]
	}
	if len(c.rest) > 0 && (all || len(c.rest) == maxLine) {
		lines, c.rest = append(lines, c.rest), nil
	}
	return lines
}
