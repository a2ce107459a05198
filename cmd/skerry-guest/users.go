package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

type account struct {
	name        string
	uid, gid    int
	home, shell string
}

var validUser = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// lines returns the fields of /etc/passwd or /etc/group.
func (g *guest) lines(file string) [][]string {
	b, _ := os.ReadFile(g.path(file))
	var out [][]string
	for l := range strings.Lines(string(b)) {
		if f := strings.Split(strings.TrimSpace(l), ":"); len(f) >= 4 {
			out = append(out, f)
		}
	}
	return out
}

func (g *guest) user(name string) (account, bool) {
	for _, f := range g.lines("/etc/passwd") {
		if f[0] == name && len(f) >= 7 {
			a := account{name: name, home: f[5], shell: f[6]}
			var err1, err2 error
			a.uid, err1 = strconv.Atoi(f[2])
			a.gid, err2 = strconv.Atoi(f[3])
			return a, err1 == nil && err2 == nil
		}
	}
	if name == "root" { // images made of containers may have no list of users at all
		return account{name: name, home: "/root", shell: "/bin/sh"}, true
	}
	return account{}, false
}

func (g *guest) userByID(uid int) account {
	for _, f := range g.lines("/etc/passwd") {
		if f[2] == strconv.Itoa(uid) {
			if a, ok := g.user(f[0]); ok {
				return a
			}
		}
	}
	return account{name: strconv.Itoa(uid), uid: uid}
}

func (g *guest) group(name string) (int, bool) {
	for _, f := range g.lines("/etc/group") {
		if f[0] == name {
			n, err := strconv.Atoi(f[2])
			return n, err == nil
		}
	}
	return 0, false
}

// groups are the ids of the further groups of a user.
func (g *guest) groups(name string) (out []uint32) {
	for _, f := range g.lines("/etc/group") {
		for _, m := range strings.Split(f[3], ",") {
			if n, err := strconv.Atoi(f[2]); m == name && err == nil {
				out = append(out, uint32(n))
			}
		}
	}
	return out
}

// keyUsers are those who get the instance's key: root, and ec2-user where the image has it.
func (g *guest) keyUsers() []string {
	if _, ok := g.user("ec2-user"); ok {
		return []string{"root", "ec2-user"}
	}
	return []string{"root"}
}

// addUser makes a user with a group and a home of its own, unless it is there, and lets its keys in.
func (g *guest) addUser(e userEntry) error {
	if !validUser.MatchString(e.Name) {
		return fmt.Errorf("users: %q is not a user name", e.Name)
	}
	if _, ok := g.user(e.Name); !ok {
		id := e.UID
		if id == 0 {
			id = 1000
			for _, f := range g.lines("/etc/passwd") {
				if n, err := strconv.Atoi(f[2]); err == nil && n >= id && n < 60000 {
					id = n + 1
				}
			}
		}
		a := account{name: e.Name, uid: id, gid: id, home: e.HomeDir, shell: e.Shell}
		if a.home == "" {
			a.home = "/home/" + e.Name
		}
		if _, err := os.Stat(g.path(a.shell)); a.shell == "" || err != nil {
			a.shell = "/bin/sh"
		}
		if strings.ContainsAny(a.home+a.shell, ":\n") {
			return fmt.Errorf("users: %s: malformed home or shell", e.Name)
		}
		if err := appendLine(g.path("/etc/group"), fmt.Sprintf("%s:x:%d:", a.name, a.gid)); err != nil {
			return err
		}
		if err := appendLine(g.path("/etc/passwd"), fmt.Sprintf("%s:x:%d:%d::%s:%s", a.name, a.uid, a.gid, a.home, a.shell)); err != nil {
			return err
		}
		if err := os.MkdirAll(g.path(a.home), 0o755); err != nil {
			return err
		}
		if err := os.Chown(g.path(a.home), a.uid, a.gid); err != nil {
			return err
		}
	}
	return g.authorize(e.Name, e.Keys)
}

// authorize adds keys to a user's authorized_keys, those that are not there yet.
func (g *guest) authorize(name string, keys []string) error {
	a, ok := g.user(name)
	if !ok {
		return fmt.Errorf("there is no user %s", name)
	}
	dir := g.path(filepath.Join(a.home, ".ssh"))
	file := filepath.Join(dir, "authorized_keys")
	old, _ := os.ReadFile(file)
	have := map[string]bool{}
	for l := range bytes.Lines(old) {
		have[string(bytes.TrimSpace(l))] = true
	}
	var add []string
	for _, k := range keys {
		if k = strings.TrimSpace(k); k != "" && !have[k] {
			have[k] = true
			add = append(add, k)
		}
	}
	if len(add) == 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := appendLine(file, strings.Join(add, "\n")); err != nil {
		return err
	}
	for _, p := range []string{dir, file} {
		if err := os.Chown(p, a.uid, a.gid); err != nil {
			return err
		}
	}
	return os.Chmod(file, 0o600)
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
