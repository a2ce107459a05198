package container

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/crypto/ssh"

	"skerry/internal/driver"
)

// inNetNS runs f on a thread inside a network namespace. The thread is not used again.
func inNetNS(t testing.TB, path string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromPath(path)
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// metadata serves a small instance metadata tree inside of a network namespace.
func metadata(t testing.TB, ns, id, userData, key string) {
	t.Helper()
	items := map[string]string{"meta-data/instance-id": id, "meta-data/placement/region": "eu-west-1",
		"meta-data/": "instance-id\nplacement/", "meta-data/placement/": "region", "dynamic/instance-identity/": "document", "dynamic/instance-identity/document": "{}"}
	if userData != "" {
		items["user-data"] = userData
	}
	if key != "" {
		items["meta-data/public-keys/0/openssh-key"] = key
		items["meta-data/public-keys/"] = "0=key"
		items["meta-data/"] += "\npublic-keys/"
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := strings.Cut(r.URL.Path[1:], "/") // behind the version
		v, ok := items[path]
		if !ok {
			v, ok = items[path+"/"]
		}
		switch {
		case r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut && r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != "":
			io.WriteString(w, "token")
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token":
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			io.WriteString(w, v)
		}
	})
	var l net.Listener
	inNetNS(t, ns, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr("169.254.169.254/32")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(lo, a); err != nil {
			return err
		}
		l, err = net.Listen("tcp", "169.254.169.254:80")
		return err
	})
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

func (r *rig) bootWith(t testing.TB, n int, userData, key string) (driver.Spec, string) {
	t.Helper()
	s := r.spec(n)
	ns, err := r.Create(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	metadata(t, ns, s.ID, userData, key)
	if err := r.Start(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	return s, ns
}

func (r *rig) awaitExit(t testing.TB, id string) driver.Status {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		list, err := r.List(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range list {
			if st.ID == id && st.State == driver.Exited {
				return st
			}
		}
		if time.Now().After(end) {
			b, _ := r.Console(context.Background(), id)
			t.Fatalf("%s doesn't end:\n%s", id, b)
		}
	}
}

// What reference architectures do in user data: sessions of the metadata service, files, a web server, something that
// goes on in the background.
func TestUserDataRunsOnce(t *testing.T) {
	r := newRig(t)
	script := `#!/bin/sh
md=http://169.254.169.254/latest
tok=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $md/api/token)
id=$(curl -s -H "X-aws-ec2-metadata-token: $tok" $md/meta-data/instance-id)
code=$(curl -s -o /dev/null -w '%{http_code}' $md/meta-data/instance-id)
mkdir -p /srv/www; echo "page of $id" >/srv/www/index.html
echo "run $(cat /runs 2>/dev/null)x on $id as $(id -un), $code without a token, $AWS_DEFAULT_REGION $AWS_ENDPOINT_URL"
echo x >>/runs
httpd -p 8080 -h /srv/www
( sleep 1000 ) &
false
`
	s, ns := r.bootWith(t, 1, script, "")
	out := r.awaitConsole(t, s.ID, "cloud-init: finished")
	want := "run x on " + s.ID + " as root, 401 without a token, eu-west-1 http://api.skerry.internal:4566"
	if !strings.Contains(out, want) {
		t.Errorf("the console lacks %q:\n%s", want, out)
	}
	if !strings.Contains(out, "part-001 failed: exit status 1") {
		t.Errorf("the console doesn't tell that the script failed:\n%s", out)
	}
	var page string
	inNetNS(t, ns, func() error {
		c, err := net.Dial("tcp", "127.0.0.1:8080")
		if err != nil {
			return err
		}
		defer c.Close()
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		b, err := io.ReadAll(c)
		page = string(b)
		return err
	})
	if !strings.Contains(page, "page of "+s.ID) {
		t.Errorf("the web server of user data answers %q", page)
	}
	if err := r.Reboot(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); strings.Count(out, "sshd: listening") < 2 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		b, _ := r.Console(context.Background(), s.ID)
		out = string(b)
	}
	time.Sleep(100 * time.Millisecond) // a second run would have begun by then
	b, _ := r.Console(context.Background(), s.ID)
	if strings.Count(string(b), "run x") != 1 || strings.Contains(string(b), "run xx") {
		t.Errorf("user data ran again after a reboot:\n%s", b)
	}
}

// Parts of several kinds: what is for every boot runs at every boot, the rest at the first; bash's options are kept by sh.
func TestMultipartUserData(t *testing.T) {
	r := newRig(t)
	s, _ := r.bootWith(t, 1, `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=="

--==
Content-Type: text/cloud-boothook

#!/bin/sh
echo "hook at $(hostname)"
--==
Content-Type: text/x-shellscript

#!/bin/bash -xe
echo "strict"; false
echo "went on"
--==
Content-Type: text/x-shellscript-per-boot

#!/bin/sh
n=$(cat /boots 2>/dev/null)x; echo $n >/boots; echo "script of each boot: $n"
--==
Content-Type: text/jinja2

{{ x }}
--==--
`, "")
	out := r.awaitConsole(t, s.ID, "cloud-init: finished")
	for _, want := range []string{"hook at " + s.Hostname, "strict", "part-002 failed: exit status 1", "run by /bin/sh -xe", "script of each boot", "text/jinja2, which is not supported here"} {
		if !strings.Contains(out, want) {
			t.Errorf("the console lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, ": went on") {
		t.Errorf("bash's -e is not honoured:\n%s", out)
	}
	if err := r.Reboot(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	out = r.awaitConsole(t, s.ID, "script of each boot: xx")
	if !strings.Contains(out, "goes down for reboot") {
		t.Errorf("the reboot was none to the machine:\n%s", out)
	}
	out = out[strings.LastIndex(out, "Skerry nano"):]
	if !strings.Contains(out, "hook at ") || strings.Contains(out, "strict") {
		t.Errorf("at the second boot:\n%s", out)
	}
}

func TestPowerOffInside(t *testing.T) {
	r := newRig(t)
	s, _ := r.bootWith(t, 1, "#!/bin/sh\npoweroff\n", "")
	if st := r.awaitExit(t, s.ID); st.ExitReason != "poweroff" || st.ExitCode != 0 {
		t.Errorf("after poweroff inside: %+v", st)
	}
	s, _ = r.bootWith(t, 2, "#!/bin/sh\nreboot\n", "")
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b, _ := r.Console(context.Background(), s.ID)
		if strings.Count(string(b), "Skerry nano") == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no second boot after reboot inside:\n%s", b)
		}
	}
}

// keyPair makes a login key and its line in authorized_keys.
func keyPair(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// sshDial logs in to the SSH server inside of a network namespace.
func sshDial(t testing.TB, ns, user string, auth ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	var c net.Conn
	inNetNS(t, ns, func() (err error) { c, err = net.Dial("tcp", "127.0.0.1:22"); return err })
	cc, chans, reqs, err := ssh.NewClientConn(c, "instance", &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(auth)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 30 * time.Second})
	if err != nil {
		c.Close()
		return nil, err
	}
	return ssh.NewClient(cc, chans, reqs), nil
}

func TestSSH(t *testing.T) {
	r := newRig(t)
	signer, line := keyPair(t)
	userData := `#cloud-config
users: [default, {name: guest, ssh_authorized_keys: ["` + strings.TrimSpace(line) + `"]}]
`
	s, ns := r.bootWith(t, 1, userData, line)
	r.awaitConsole(t, s.ID, "cloud-init: finished")
	dial := func(user string, auth ssh.Signer) (*ssh.Client, error) { return sshDial(t, ns, user, auth) }
	for user, home := range map[string]string{"root": "/root", "ec2-user": "/home/ec2-user"} {
		c, err := dial(user, signer)
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		defer c.Close()
		sess, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		sess.Stdin = strings.NewReader("from stdin")
		out, err := sess.CombinedOutput("id -un; pwd; echo $AWS_ENDPOINT_URL; cat; exit 7")
		if e, ok := err.(*ssh.ExitError); !ok || e.ExitStatus() != 7 {
			t.Errorf("%s: exit status: %v, want 7", user, err)
		}
		if want := user + "\n" + home + "\nhttp://api.skerry.internal:4566\nfrom stdin"; string(out) != want {
			t.Errorf("%s: got %q, want %q", user, out, want)
		}
		if sess, err = c.NewSession(); err != nil {
			t.Fatal(err)
		}
		out, err = sess.CombinedOutput("exec 2>&1; sudo -n id -u; sudo X=1 sh -c 'echo $X $SUDO_USER'; sudo -u ec2-user -i id -un; sudo -Z; sudo nothing-there; id -u")
		uid := map[string]string{"root": "0", "ec2-user": "1000"}[user]
		if want := "0\n1 " + user + "\nec2-user\nsudo: option -Z is not supported here; use -u, -i, -s, -n, -E, -H\nsudo: nothing-there: command not found\n" + uid + "\n"; err != nil || string(out) != want {
			t.Errorf("%s: sudo: %q %v, want %q", user, out, err, want)
		}
		sess, err = c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := sess.RequestPty("xterm", 33, 99, ssh.TerminalModes{}); err != nil {
			t.Fatal(err)
		}
		var screen bytes.Buffer
		sess.Stdout = &screen
		in, err := sess.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := sess.Shell(); err != nil {
			t.Fatal(err)
		}
		io.WriteString(in, "stty size; tty; exit 3\n")
		if err := sess.Wait(); err == nil || !strings.Contains(err.Error(), "status 3") {
			t.Errorf("%s: the shell's end: %v, want status 3", user, err)
		}
		if !strings.Contains(screen.String(), "33 99") || !strings.Contains(screen.String(), "/dev/pts/") {
			t.Errorf("%s: the terminal shows %q", user, screen.String())
		}
	}
	c, err := dial("guest", signer)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for cmd, want := range map[string]string{
		"sudo id": "sudo: guest is not in the group wheel\n",
		// The set-user-id program under another name has no rights of its own.
		"ln -s /usr/bin/sudo /tmp/curl; echo new >/tmp/x; /tmp/curl -s -o /etc/evil http://169.254.169.254/latest/; ls /etc/evil": "ls: /etc/evil: No such file or directory\n",
	} {
		sess, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := sess.CombinedOutput(cmd); err == nil || string(out) != want {
			t.Errorf("%s: %q %v, want %q", cmd, out, err, want)
		}
	}
	wrong, _ := keyPair(t)
	if _, err := dial("root", wrong); err == nil {
		t.Error("a foreign key logs in")
	}
	if _, err := dial("nobody", signer); err == nil {
		t.Error("the instance's key logs in as nobody")
	}
}

func TestLimitsAndIsolation(t *testing.T) {
	r := newRig(t)
	script := `#!/bin/sh
echo "map $(cat /proc/self/uid_map)"
echo "seccomp $(grep Seccomp: /proc/self/status)"
echo "caps-bpf $(mount -t tmpfs none /mnt && echo mounted)"
echo 1 >/proc/sys/kernel/sysrq && echo escaped
mknod /dev/kmem0 c 1 1 2>/dev/null && echo escaped
ls /sys/fs/cgroup >/dev/null && echo cgroups
echo done
tail /dev/zero >/dev/null
echo "tail ended $?"
while :; do :; done
`
	s := r.spec(1)
	s.MemoryMiB, s.VCPU = 96, 0.25
	ns, err := r.Create(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	metadata(t, ns, s.ID, script, "")
	if err := r.Start(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	if m := r.cg.v1["cpu"]; m != "" {
		if b, err := os.ReadFile(filepath.Join(m, r.cgroupPath(""), "cpu.shares")); err != nil || strings.TrimSpace(string(b)) != instancesShares {
			t.Errorf("the instances' weight is %s, %v", b, err)
		}
	}
	out := r.awaitConsole(t, s.ID, "tail ended")
	if strings.Contains(out, "escaped") {
		t.Errorf("the instance reaches the host:\n%s", out)
	}
	if !strings.Contains(out, "seccomp Seccomp:	2") {
		t.Errorf("no system call filter:\n%s", out)
	}
	if !strings.Contains(out, fmt.Sprint("0  ", r.firstID(1))) && !strings.Contains(out, fmt.Sprint(r.firstID(1))) {
		t.Errorf("no user namespace:\n%s", out)
	}
	if !strings.Contains(out, "tail ended 137") {
		t.Errorf("memory isn't limited:\n%s", out)
	}
	start := time.Now()
	a, err := r.Stats(context.Background(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	used := time.Duration(0)
	for end := start.Add(30 * time.Second); used < 250*time.Millisecond; { // a second, where nobody else wants the processor
		if time.Now().After(end) {
			t.Fatalf("a busy loop got %v in half a minute", used)
		}
		time.Sleep(50 * time.Millisecond)
		b, err := r.Stats(context.Background(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		used = time.Duration(b.CPUNanos - a.CPUNanos)
	}
	if cpu := float64(used) / float64(time.Since(start)); cpu > 0.4 {
		t.Errorf("a busy loop with 0.25 processors takes %.2f", cpu)
	}
}
