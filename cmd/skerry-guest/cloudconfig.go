package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v3"
)

// config is what of cloud-config this image honours.
type config struct {
	Hostname          string      `yaml:"hostname"`
	FQDN              string      `yaml:"fqdn"`
	PreserveHostname  bool        `yaml:"preserve_hostname"`
	WriteFiles        []writeFile `yaml:"write_files"`
	BootCmd           []yaml.Node `yaml:"bootcmd"`
	RunCmd            []yaml.Node `yaml:"runcmd"`
	Users             []yaml.Node `yaml:"users"`
	SSHAuthorizedKeys []string    `yaml:"ssh_authorized_keys"`
}

type writeFile struct {
	Path        string `yaml:"path"`
	Content     string `yaml:"content"`
	Encoding    string `yaml:"encoding"`
	Owner       string `yaml:"owner"`
	Permissions string `yaml:"permissions"`
	Append      bool   `yaml:"append"`
	Defer       bool   `yaml:"defer"`
}

type userEntry struct {
	Name    string   `yaml:"name"`
	UID     int      `yaml:"uid"`
	HomeDir string   `yaml:"homedir"`
	Shell   string   `yaml:"shell"`
	Keys    []string `yaml:"ssh_authorized_keys"`
}

// What is honoured, of the whole and of the entries of two of its lists.
var (
	configKeys = []string{"hostname", "fqdn", "preserve_hostname", "write_files", "bootcmd", "runcmd", "users", "ssh_authorized_keys"}
	fileKeys   = []string{"path", "content", "encoding", "owner", "permissions", "append", "defer"}
	userKeys   = []string{"name", "uid", "homedir", "shell", "ssh_authorized_keys"}
)

// parseConfig reads a cloud-config and names the keys that have no effect here.
func parseConfig(b []byte) (c config, unused []string, err error) {
	var doc yaml.Node
	var all map[string]yaml.Node
	err = yaml.Unmarshal(b, &doc)
	if err == nil {
		err = decodeNode(&doc, &c)
	}
	if err == nil {
		err = decodeNode(&doc, &all)
	}
	if err != nil {
		return c, nil, fmt.Errorf("cloud-config: %w", err)
	}
	for k, n := range all {
		known := map[string][]string{"write_files": fileKeys, "users": userKeys}[k]
		if !slices.Contains(configKeys, k) {
			unused = append(unused, k)
			continue
		}
		if known == nil {
			continue
		}
		for _, e := range n.Content {
			for i := 0; e.Kind == yaml.MappingNode && i < len(e.Content); i += 2 {
				if sub := e.Content[i].Value; !slices.Contains(known, sub) {
					unused = append(unused, k+"."+sub)
				}
			}
		}
	}
	slices.Sort(unused)
	return c, slices.Compact(unused), nil
}

// decodeNode decodes a part of a document. The decoder panics on some keys that are no scalars.
func decodeNode(n *yaml.Node, to any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("line %d: %v", n.Line, p)
		}
	}()
	return n.Decode(to)
}

// apply does everything of a cloud-config but its commands.
func (g *guest) apply(c config) (errs []error) {
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	name := c.Hostname
	if name == "" {
		name, _, _ = strings.Cut(c.FQDN, ".")
	}
	if name != "" && !c.PreserveHostname {
		note(g.setHostname(name))
	}
	for _, n := range c.Users {
		if n.Kind == yaml.ScalarNode { // "default", or a bare name
			if n.Value != "default" {
				note(g.addUser(userEntry{Name: n.Value}))
			}
			continue
		}
		var u userEntry
		if err := decodeNode(&n, &u); err != nil {
			note(fmt.Errorf("users: %w", err))
			continue
		}
		note(g.addUser(u))
	}
	if len(c.SSHAuthorizedKeys) > 0 {
		for _, u := range g.keyUsers() {
			note(g.authorize(u, c.SSHAuthorizedKeys))
		}
	}
	for _, deferred := range []bool{false, true} {
		for _, f := range c.WriteFiles {
			if f.Defer == deferred {
				note(g.writeFile(f))
			}
		}
	}
	return errs
}

// hostname is the name that /etc/hostname holds: what user data set at the first boot is there at every later one. An
// empty one leaves the machine the name it came with.
func (g *guest) hostname() string {
	b, err := os.ReadFile(g.path("/etc/hostname"))
	if name := strings.TrimSpace(string(b)); err == nil && len(name) <= 64 && !strings.ContainsAny(name, " \t\n") {
		return name
	}
	return ""
}

func (g *guest) setHostname(name string) error {
	if g.root == "" {
		if err := unix.Sethostname([]byte(name)); err != nil {
			return fmt.Errorf("hostname: %w", err)
		}
	}
	return os.WriteFile(g.path("/etc/hostname"), []byte(name+"\n"), 0o644)
}

func (g *guest) writeFile(f writeFile) error {
	fail := func(err error) error { return fmt.Errorf("write_files %s: %w", f.Path, err) }
	if !filepath.IsAbs(f.Path) {
		return fail(fmt.Errorf("the path is not absolute"))
	}
	b, err := decodeContent(f.Content, f.Encoding)
	if err != nil {
		return fail(err)
	}
	mode := os.FileMode(0o644)
	if f.Permissions != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(f.Permissions, "0o"), 8, 12)
		if err != nil {
			return fail(fmt.Errorf("permissions %q are not an octal number", f.Permissions))
		}
		mode = os.FileMode(n & 0o777)
		for bit, m := range map[uint64]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
			if n&bit != 0 {
				mode |= m
			}
		}
	}
	p := g.path(f.Path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return fail(err)
	}
	flag := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if f.Append {
		flag = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	out, err := os.OpenFile(p, flag, mode.Perm())
	if err != nil {
		return fail(err)
	}
	_, err = out.Write(b)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fail(err)
	}
	if f.Owner != "" {
		user, group, _ := strings.Cut(f.Owner, ":")
		u, ok := g.user(user)
		if !ok {
			return fail(fmt.Errorf("there is no user %s", user))
		}
		gid := u.gid
		if group != "" {
			if gid, ok = g.group(group); !ok {
				return fail(fmt.Errorf("there is no group %s", group))
			}
		}
		if err := os.Chown(p, u.uid, gid); err != nil {
			return fail(err)
		}
	}
	if err := os.Chmod(p, mode); err != nil {
		return fail(err)
	}
	return nil
}

func decodeContent(s, encoding string) ([]byte, error) {
	b := []byte(s)
	switch strings.ToLower(encoding) {
	case "", "text/plain":
		return b, nil
	case "b64", "base64", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64":
		var err error
		if b, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), "")); err != nil {
			return nil, err
		}
	case "gz", "gzip":
	default:
		return nil, fmt.Errorf("encoding %q is not known", encoding)
	}
	if !strings.HasPrefix(strings.ToLower(encoding), "gz") {
		return b, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxUserData))
}

// shellScript makes a script of runcmd or bootcmd: a string is a line of shell, a list is one command with its arguments.
func shellScript(cmds []yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("#!/bin/sh\n")
	for _, n := range cmds {
		switch n.Kind {
		case yaml.ScalarNode:
			b.WriteString(n.Value + "\n")
		case yaml.SequenceNode:
			var words []string
			for _, w := range n.Content {
				if w.Kind != yaml.ScalarNode {
					return nil, fmt.Errorf("cloud-config: line %d: a command is a string or a list of strings", w.Line)
				}
				words = append(words, "'"+strings.ReplaceAll(w.Value, "'", `'\''`)+"'")
			}
			b.WriteString(strings.Join(words, " ") + "\n")
		default:
			return nil, fmt.Errorf("cloud-config: line %d: a command is a string or a list of strings", n.Line)
		}
	}
	return b.Bytes(), nil
}
