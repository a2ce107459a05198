package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// sudoFile is the only place from which the program acts with more rights than its caller has. It is a copy of its own,
// because there the file is set-user-id, and what a program is called is the caller's choice.
const sudoFile = "/usr/bin/sudo"

// dropRights gives up set-user-id rights that the program was started with under any other name.
func dropRights() error {
	if syscall.Geteuid() == syscall.Getuid() {
		return nil
	}
	if exe, err := os.Readlink("/proc/self/exe"); err == nil && exe == sudoFile && filepath.Base(os.Args[0]) == "sudo" {
		return nil
	}
	if err := syscall.Setresgid(syscall.Getgid(), syscall.Getgid(), syscall.Getgid()); err != nil {
		return err
	}
	return syscall.Setresuid(syscall.Getuid(), syscall.Getuid(), syscall.Getuid())
}

// sudoCommand is what sudo's arguments ask for.
type sudoCommand struct {
	user         string
	login, shell bool
	env, args    []string
}

func parseSudo(args []string) (c sudoCommand, err error) {
	c.user = "root"
	for len(args) > 0 {
		a := args[0]
		switch {
		case a == "--":
			c.args = args[1:]
			return c, nil
		case a == "-u" || a == "--user":
			if len(args) < 2 {
				return c, fmt.Errorf("option %s needs a user", a)
			}
			c.user, args = args[1], args[1:]
		case a == "-i" || a == "--login":
			c.login = true
		case a == "-s" || a == "--shell":
			c.shell = true
		case a == "-n", a == "-E", a == "-H", a == "-S", a == "--non-interactive", a == "--preserve-env":
		case strings.HasPrefix(a, "-"):
			return c, fmt.Errorf("option %s is not supported here; use -u, -i, -s, -n, -E, -H", a)
		case strings.Contains(a, "=") && !strings.HasPrefix(a, "=") && !strings.Contains(a, "/"):
			c.env = append(c.env, a)
		default:
			c.args = args
			return c, nil
		}
		args = args[1:]
	}
	return c, nil
}

// sudo runs a program as another user. Members of wheel may, without a password, as on EC2's images.
func sudo(args []string, stderr io.Writer) int {
	fail := func(format string, a ...any) int { fmt.Fprintf(stderr, "sudo: "+format+"\n", a...); return 1 }
	c, err := parseSudo(args)
	if err != nil {
		return fail("%v", err)
	}
	if len(c.args) == 0 && !c.login && !c.shell {
		return fail("what shall be run? usage: sudo [-u USER] [-i|-s] [NAME=VALUE…] COMMAND [ARGUMENT…]")
	}
	g := &guest{}
	caller := g.userByID(syscall.Getuid())
	if syscall.Getuid() != 0 {
		wheel, ok := g.group("wheel")
		if !ok || !slices.Contains(g.groups(caller.name), uint32(wheel)) {
			return fail("%s is not in the group wheel", caller.name)
		}
	}
	to, ok := g.user(c.user)
	if !ok {
		return fail("there is no user %s", c.user)
	}
	env := []string{"PATH=" + defaultPath, "HOME=" + to.home, "USER=" + to.name, "LOGNAME=" + to.name, "SHELL=" + to.shell, "SUDO_USER=" + caller.name, fmt.Sprint("SUDO_UID=", syscall.Getuid())}
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); k == "TERM" || k == "LANG" || strings.HasPrefix(k, "LC_") || strings.HasPrefix(k, "AWS_") || k == "INSTANCE_ID" {
			env = append(env, kv)
		}
	}
	env = append(env, c.env...)
	argv := c.args
	path := ""
	switch {
	case c.login || c.shell:
		path, argv = to.shell, []string{filepath.Base(to.shell)}
		if c.login {
			argv[0] = "-" + argv[0]
		}
		if len(c.args) > 0 {
			var words []string
			for _, a := range c.args {
				words = append(words, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
			}
			argv = append(argv, "-c", strings.Join(words, " "))
		}
	case strings.Contains(argv[0], "/"):
		path = argv[0]
	default:
		for _, dir := range filepath.SplitList(defaultPath) {
			if st, err := os.Stat(filepath.Join(dir, argv[0])); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
				path = filepath.Join(dir, argv[0])
				break
			}
		}
		if path == "" {
			return fail("%s: command not found", argv[0])
		}
	}
	var groups []int
	for _, n := range g.groups(to.name) {
		groups = append(groups, int(n))
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fail("%v", err)
	}
	if err := syscall.Setresgid(to.gid, to.gid, to.gid); err != nil {
		return fail("%v", err)
	}
	if err := syscall.Setresuid(to.uid, to.uid, to.uid); err != nil {
		return fail("%v", err)
	}
	if c.login {
		os.Chdir(to.home)
	}
	return fail("%s: %v", path, syscall.Exec(path, argv, env))
}
