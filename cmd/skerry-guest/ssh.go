package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/gliderlabs/ssh"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Bounds of the SSH server.
const (
	maxSSHConns  = 64
	loginTimeout = 30 * time.Second
)

type connKey struct{}

// serveSSH serves logins with keys: those of the metadata for root and ec2-user, and every user's authorized_keys.
func (g *guest) serveSSH(l net.Listener) {
	signer, err := g.hostKey()
	if err != nil {
		g.logf("sshd", "no host key: %v", err)
		l.Close()
		return
	}
	g.logf("sshd", "listening on %s, host key %s", l.Addr(), xssh.FingerprintSHA256(signer.PublicKey()))
	slots := make(chan struct{}, maxSSHConns)
	s := &ssh.Server{Version: "Skerry", HostSigners: []ssh.Signer{signer}, Handler: g.session, PublicKeyHandler: g.allowed,
		ConnCallback: func(ctx ssh.Context, c net.Conn) net.Conn {
			select {
			case slots <- struct{}{}:
			default:
				return nil // closed by the server
			}
			c.SetDeadline(time.Now().Add(loginTimeout))
			ctx.SetValue(connKey{}, c)
			return &heldConn{Conn: c, release: sync.OnceFunc(func() { <-slots })}
		},
		LocalPortForwardingCallback: func(ctx ssh.Context, host string, port uint32) bool { loggedIn(ctx); return true },
		ChannelHandlers:             map[string]ssh.ChannelHandler{"session": ssh.DefaultSessionHandler, "direct-tcpip": ssh.DirectTCPIPHandler},
	}
	if err := s.Serve(l); err != nil {
		g.logf("sshd", "%v", err)
	}
}

// heldConn gives its slot back when it is closed.
type heldConn struct {
	net.Conn
	release func()
}

func (c *heldConn) Close() error { c.release(); return c.Conn.Close() }

// loggedIn lifts the deadline of the login.
func loggedIn(ctx ssh.Context) {
	if c, ok := ctx.Value(connKey{}).(net.Conn); ok {
		c.SetDeadline(time.Time{})
	}
}

func (g *guest) hostKey() (xssh.Signer, error) {
	file := g.path("/etc/ssh/ssh_host_ed25519_key")
	if b, err := os.ReadFile(file); err == nil {
		if s, err := xssh.ParsePrivateKey(b); err == nil {
			return s, nil
		}
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := xssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return xssh.NewSignerFromKey(key)
}

func (g *guest) allowed(ctx ssh.Context, key ssh.PublicKey) bool {
	a, ok := g.user(ctx.User())
	if !ok {
		return false
	}
	texts := []string{}
	if b, err := os.ReadFile(g.path(filepath.Join(a.home, ".ssh/authorized_keys"))); err == nil {
		texts = append(texts, string(b))
	}
	if a.name == "root" || a.name == "ec2-user" {
		g.mu.Lock()
		texts = append(texts, g.keys)
		g.mu.Unlock()
	}
	for _, t := range texts {
		for rest := []byte(t); len(rest) > 0; {
			k, _, _, r, err := ssh.ParseAuthorizedKey(rest)
			if err != nil {
				break
			}
			if ssh.KeysEqual(k, key) {
				return true
			}
			rest = r
		}
	}
	return false
}

// session runs a shell or a command.
func (g *guest) session(s ssh.Session) {
	loggedIn(s.Context().(ssh.Context))
	status, err := g.serveSession(s)
	if err != nil {
		fmt.Fprintln(s.Stderr(), "skerry-guest:", err)
		status = 255
	}
	s.Exit(status)
}

func (g *guest) serveSession(s ssh.Session) (int, error) {
	if s.Subsystem() != "" {
		return 0, fmt.Errorf("the subsystem %s is not served here", s.Subsystem())
	}
	a, ok := g.user(s.User())
	if !ok {
		return 0, errors.New("the user is gone")
	}
	env := g.environ(a.home, a.name, a.shell)
	for _, kv := range s.Environ() {
		if strings.HasPrefix(kv, "LANG=") || strings.HasPrefix(kv, "LC_") {
			env = append(env, kv)
		}
	}
	argv := []string{"-" + filepath.Base(a.shell)}
	if s.RawCommand() != "" {
		argv = []string{filepath.Base(a.shell), "-c", s.RawCommand()}
	}
	dir := a.home
	if st, err := os.Stat(g.path(dir)); err != nil || !st.IsDir() {
		dir = "/"
	}
	attr := &syscall.ProcAttr{Dir: g.path(dir), Sys: &syscall.SysProcAttr{Setsid: true}}
	if os.Geteuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: g.groups(a.name)}
	}
	shell := g.path(a.shell)
	req, windows, isPty := s.Pty()
	if isPty {
		attr.Env = append(env, "TERM="+req.Term)
		return g.withTerminal(s, shell, argv, attr, a, req.Window, windows)
	}
	attr.Env = env
	return g.withPipes(s, shell, argv, attr)
}

func (g *guest) withTerminal(s ssh.Session, shell string, argv []string, attr *syscall.ProcAttr, a account, first ssh.Window, windows <-chan ssh.Window) (int, error) {
	m, tty, err := pty.Open()
	if err != nil {
		return 0, err
	}
	defer m.Close()
	tty.Chown(a.uid, a.gid)
	pty.Setsize(m, &pty.Winsize{Rows: uint16(first.Height), Cols: uint16(first.Width)})
	attr.Files = []uintptr{tty.Fd(), tty.Fd(), tty.Fd()}
	attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	pid, done, err := g.procs.start(shell, argv, attr)
	tty.Close()
	if err != nil {
		return 0, err
	}
	go func() { // ends with the session
		for w := range windows {
			pty.Setsize(m, &pty.Winsize{Rows: uint16(w.Height), Cols: uint16(w.Width)})
		}
	}()
	go io.Copy(m, s) // ends with the session
	out := make(chan struct{})
	go func() { defer close(out); io.Copy(s, m) }()
	return g.finish(s, pid, done, out), nil
}

func (g *guest) withPipes(s ssh.Session, shell string, argv []string, attr *syscall.ProcAttr) (int, error) {
	var mine, theirs [3]*os.File
	closeAll := func(fs []*os.File) {
		for _, f := range fs {
			if f != nil {
				f.Close()
			}
		}
	}
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(mine[:])
			closeAll(theirs[:])
			return 0, err
		}
		if mine[i], theirs[i] = r, w; i == 0 {
			mine[i], theirs[i] = w, r
		}
	}
	attr.Files = []uintptr{theirs[0].Fd(), theirs[1].Fd(), theirs[2].Fd()}
	pid, done, err := g.procs.start(shell, argv, attr)
	closeAll(theirs[:])
	if err != nil {
		closeAll(mine[:])
		return 0, err
	}
	go func() { io.Copy(mine[0], s); mine[0].Close() }() // ends with the session
	out := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); io.Copy(s, mine[1]); mine[1].Close() }()
	go func() { defer wg.Done(); io.Copy(s.Stderr(), mine[2]); mine[2].Close() }()
	go func() { wg.Wait(); close(out) }()
	return g.finish(s, pid, done, out), nil
}

// outputGrace is how long output may still come after the end of the program whose children hold it.
const outputGrace = 500 * time.Millisecond

// finish waits for the program and its output; when the client goes away the program gets a hangup.
func (g *guest) finish(s ssh.Session, pid int, done <-chan syscall.WaitStatus, out <-chan struct{}) int {
	var ws syscall.WaitStatus
	select {
	case ws = <-done:
	case <-s.Context().Done():
		unix.Kill(-pid, unix.SIGHUP)
		ws = <-done
	}
	select {
	case <-out:
	case <-time.After(outputGrace):
	}
	return code(ws)
}
