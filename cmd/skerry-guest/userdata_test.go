package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func gz(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(s))
	z.Close()
	return b.String()
}

const mixed = `Content-Type: multipart/mixed; boundary="==x=="
MIME-Version: 1.0

--==x==
Content-Type: text/cloud-config; charset="us-ascii"
Content-Disposition: attachment; filename="cc.txt"

runcmd: [echo]
--==x==
Content-Type: text/x-shellscript
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="../../evil"

IyEvYmluL3NoCmVjaG8gaGkK
--==x==
Content-Type: text/plain

nothing of use
--==x==--
`

func declared(kind, body string) string {
	return "Content-Type: " + kind + "\nMIME-Version: 1.0\n\n" + body
}

func TestParseUserData(t *testing.T) {
	nested := strings.Replace(mixed, "nothing of use", "", 1)
	for name, c := range map[string]struct {
		in      string
		want    string // kind:name:body, ...
		refused string
	}{
		"none":              {"", "", ""},
		"blank":             {" \n", "", ""},
		"script":            {"#!/bin/sh\necho", "0:part-001:#!/bin/sh\necho", ""},
		"script after BOM":  {"\xef\xbb\xbf#!/bin/sh\n", "0:part-001:#!/bin/sh\n", ""},
		"cloud-config":      {"#cloud-config\nruncmd: []\n", "1:part-001:#cloud-config\nruncmd: []\n", ""},
		"boothook":          {"#cloud-boothook\necho\n", "2:part-001:#cloud-boothook\necho\n", ""},
		"declared boothook": {declared("text/cloud-boothook", "#!/bin/sh\necho\n"), "2:part-001:#!/bin/sh\necho\n", ""},
		"declared per boot": {declared("text/x-shellscript-per-boot", "#!/bin/sh\n"), "3:part-001:#!/bin/sh\n", ""},
		"declared config":   {declared("text/cloud-config", "runcmd: []\n"), "1:part-001:runcmd: []\n", ""},
		"declared plain":    {declared("text/plain", "#!/bin/sh\n"), "0:part-001:#!/bin/sh\n", ""},
		"declared include":  {declared("text/x-include-url", "http://x/\n"), "", "text/x-include-url, which is not supported"},
		"declared jinja":    {declared("text/jinja2", "#!/bin/sh\n"), "", "text/jinja2"},
		"compressed":        {gz("#!/bin/sh\necho"), "0:part-001:#!/bin/sh\necho", ""},
		"twice compressed":  {gz(gz("#!/bin/sh\n")), "0:part-001:#!/bin/sh\n", ""},
		"MIME":              {mixed, "1:cc.txt:runcmd: [echo]|0:evil:#!/bin/sh\necho hi\n", "part-003"},
		"MIME compressed":   {gz(nested), "1:cc.txt:runcmd: [echo]|0:evil:#!/bin/sh\necho hi\n", ""},
		"no known form":     {"echo hello", "", "neither a script"},
		"include":           {"#include\nhttp://x/", "", "neither a script"},
		"broken gzip":       {"\x1f\x8bxx", "", "compressed user data"},
		"no boundary":       {"Content-Type: multipart/mixed\n\nx", "", "boundary"},
		"cut off MIME":      {mixed[:200], "", "MIME user data"},
		"unknown transfer":  {strings.Replace(mixed, "base64", "uuencode", 1), "1:cc.txt:runcmd: [echo]", "uuencode"},
		"nested too deeply": {gz(gz(gz(gz(gz(gz("#!/bin/sh")))))), "", "nested deeper"},
	} {
		t.Run(name, func(t *testing.T) {
			parts, refused := parseUserData([]byte(c.in))
			var got []string
			for _, p := range parts {
				got = append(got, fmt.Sprintf("%d:%s:%s", p.kind, p.name, p.body))
			}
			if s := strings.Join(got, "|"); s != c.want {
				t.Errorf("parts %q, want %q", s, c.want)
			}
			if s := strings.Join(refused, "|"); (s == "") != (c.refused == "") || !strings.Contains(s, c.refused) {
				t.Errorf("refused %q, want something with %q", s, c.refused)
			}
		})
	}
}

func TestDecompressionIsBounded(t *testing.T) {
	_, refused := parseUserData([]byte(gz("#!/bin/sh\n" + strings.Repeat("a", maxUserData))))
	if len(refused) != 1 || !strings.Contains(refused[0], "larger than") {
		t.Errorf("refused: %q", refused)
	}
}

// syncBuffer is a console for tests.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func testGuest(t *testing.T) (*guest, *syncBuffer) {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"/etc/passwd":   fmt.Sprintf("root:x:%d:%d:root:/root:/bin/sh\nec2-user:x:%[1]d:%[2]d::/home/ec2-user:/bin/sh\n", os.Getuid(), os.Getgid()),
		"/etc/group":    fmt.Sprintf("root:x:%d:\nwheel:x:10:ec2-user\n", os.Getgid()),
		"/root/x":       "",
		"/var/log/x":    "",
		"/home/x":       "",
		"/etc/hostname": "old\n",
	} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	con := &syncBuffer{}
	return &guest{root: root, console: con, started: time.Now()}, con
}

func read(t *testing.T, g *guest, path string) string {
	t.Helper()
	b, err := os.ReadFile(g.path(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCloudConfigApplies(t *testing.T) {
	g, con := testGuest(t)
	g.userData(context.Background(), "i-1", []byte(fmt.Sprintf(`#cloud-config
hostname: web-1
packages: [nginx]
power_state: {mode: reboot}
ssh_authorized_keys: ["ssh-ed25519 AAAA one"]
users:
  - default
  - name: ann
    uid: %d
    sudo: ALL=(ALL) NOPASSWD:ALL
    ssh_authorized_keys: ["ssh-ed25519 BBBB two"]
  - name: "../bad"
write_files:
  - {path: /opt/a/plain, content: "hello\n", permissions: '0600'}
  - {path: /opt/a/plain, content: "more\n", append: true, permissions: '0600'}
  - {path: /opt/b64, content: aGk=, encoding: b64, owner: "ec2-user"}
  - {path: relative, content: x}
  - {path: /opt/bad, content: x, permissions: 'rwx', source: {uri: "http://x"}}
`, os.Getuid())), "ssh-ed25519 CCCC key")
	if got := g.hostname(); got != "web-1" {
		t.Errorf("the next boot is called %q", got)
	}
	for path, want := range map[string]string{
		"/etc/hostname":                       "web-1\n",
		"/opt/a/plain":                        "hello\nmore\n",
		"/opt/b64":                            "hi",
		"/root/.ssh/authorized_keys":          "ssh-ed25519 CCCC key\nssh-ed25519 AAAA one\n",
		"/home/ec2-user/.ssh/authorized_keys": "ssh-ed25519 CCCC key\nssh-ed25519 AAAA one\n",
	} {
		if got := read(t, g, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if os.Getuid() == 0 { // ann gets the first free id, which is nobody's but root's to give
		if got := read(t, g, "/home/ann/.ssh/authorized_keys"); got != "ssh-ed25519 BBBB two\n" {
			t.Errorf("ann's keys: %q", got)
		}
	}
	if st, err := os.Stat(g.path("/opt/a/plain")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v %v", st.Mode(), err)
	}
	out := con.String()
	for _, want := range []string{"no effect on this image: packages, power_state, users.sudo, write_files.source", `"../bad" is not a user name`, "relative: the path is not absolute", "permissions \"rwx\""} {
		if !strings.Contains(out, want) {
			t.Errorf("the console lacks %q:\n%s", want, out)
		}
	}
	// The same instance again changes nothing, another instance (an image made of the first) begins anew.
	os.WriteFile(g.path("/opt/b64"), []byte("changed"), 0o644)
	cc := []byte("#cloud-config\nwrite_files: [{path: /opt/b64, content: new}]\n")
	g.userData(context.Background(), "i-1", cc, "")
	if got := read(t, g, "/opt/b64"); got != "changed" {
		t.Errorf("at the second boot of one instance: %q", got)
	}
	g.userData(context.Background(), "i-2", cc, "")
	if got := read(t, g, "/opt/b64"); got != "new" {
		t.Errorf("at the first boot of another instance: %q", got)
	}
}

func TestInterpreter(t *testing.T) {
	for line, want := range map[string][2]string{
		"#!/bin/sh\n":           {"/bin/sh", ""},
		"#!/bin/bash -xe\necho": {"/bin/bash", "-xe"},
		"#! /bin/bash  -e \n":   {"/bin/bash", "-e"},
		"#!/usr/bin/env bash\n": {"/bin/bash", ""},
		"#!/usr/bin/env":        {"/usr/bin/env", ""},
		"#!":                    {"", ""},
	} {
		if path, arg := interpreter([]byte(line)); path != want[0] || arg != want[1] {
			t.Errorf("%q: %q %q, want %q", line, path, arg, want)
		}
	}
}

// A line without an end is shown after a moment, not when the next one comes; the log has it as it was.
func TestOutputIsShownAsItComes(t *testing.T) {
	g, con := testGuest(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { g.copyOutput(r, "x"); close(done) }()
	long := strings.Repeat("l", maxLine+5)
	fmt.Fprint(w, "one\r\ntwo\nwaiting")
	for end := time.Now().Add(30 * time.Second); !strings.Contains(con.String(), "x: waiting\r\n"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a line without an end is held back: %q", con.String())
		}
	}
	fmt.Fprint(w, " is over\n"+long+"\nlast")
	w.Close()
	<-done
	var got []string
	for l := range strings.Lines(con.String()) {
		_, text, _ := strings.Cut(strings.TrimRight(l, "\r\n"), "x: ")
		got = append(got, text)
	}
	want := []string{"one", "two", "waiting", " is over", long[:maxLine], "lllll", "last"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q", got)
	}
	if log := read(t, g, outputLog); log != "one\r\ntwo\nwaiting is over\n"+long+"\nlast" {
		t.Errorf("the log: %q", log)
	}
}

func TestRunCmdScript(t *testing.T) {
	c, _, err := parseConfig([]byte("runcmd:\n- echo a b\n- [echo, \"it's\", 5]\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := shellScript(c.RunCmd)
	if want := "#!/bin/sh\necho a b\n'echo' 'it'\\''s' '5'\n"; err != nil || string(b) != want {
		t.Errorf("%q %v, want %q", b, err, want)
	}
	c, _, _ = parseConfig([]byte("runcmd: [{a: b}]"))
	if _, err := shellScript(c.RunCmd); err == nil {
		t.Error("a map as a command is accepted")
	}
	if _, unused, err := parseConfig([]byte("#cloud-config\n")); err != nil || unused != nil {
		t.Errorf("an empty one: %v %v", unused, err)
	}
	for _, bad := range []string{"runcmd: {", "? [a]\n: b\n<<: {c: d}\n"} {
		if _, _, err := parseConfig([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Init reads user data: it must not end by any.
func FuzzUserData(f *testing.F) {
	f.Add([]byte(mixed))
	f.Add([]byte(gz(mixed)))
	f.Add([]byte("#cloud-config\nusers: [default, {name: a, groups: [x]}, &a b, *a]\nwrite_files: [{path: /x, content: !!binary aGk=}]\nruncmd: [a, [b, 1], &c {d: e}, *c]\nbootcmd: x\n"))
	f.Add([]byte("#cloud-config\n? [a]\n: b\n<<: {c: d}\n"))
	f.Add([]byte("#!/bin/bash -xe"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, refused := parseUserData(b)
		if len(parts) > maxParts || len(parts) == 0 && len(refused) == 0 && len(bytes.TrimSpace(b)) > 3 && !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) && !bytes.Contains(b, []byte(":")) {
			t.Errorf("%d parts, refused %q", len(parts), refused)
		}
		for _, p := range parts {
			if strings.ContainsAny(p.name, "/\x00") || p.name == "" {
				t.Errorf("a part is called %q", p.name)
			}
			if bytes.HasPrefix(p.body, []byte("#!")) {
				interpreter(p.body)
			}
			if p.kind != cloudConfig {
				continue
			}
			if c, _, err := parseConfig(p.body); err == nil {
				shellScript(c.BootCmd)
				shellScript(c.RunCmd)
				for _, w := range c.WriteFiles {
					decodeContent(w.Content, w.Encoding)
				}
				for _, n := range c.Users {
					var u userEntry
					decodeNode(&n, &u)
				}
			}
		}
	})
}
