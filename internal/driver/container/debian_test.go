package container

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"skerry/internal/driver"
	"skerry/internal/image"
	"skerry/internal/require"
)

// TestDebianBoots boots an image that `skerry image build debian` made. Building takes a minute and a package mirror, so
// the image comes from outside: SKERRY_DEBIAN_IMAGES names an image store that has one.
func TestDebianBoots(t *testing.T) {
	dir := os.Getenv("SKERRY_DEBIAN_IMAGES")
	if dir == "" {
		require.That(t, "debian-image", errors.New("SKERRY_DEBIAN_IMAGES names no image store"))
	}
	list, err := (&image.Store{Dir: dir}).List()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	var s driver.Spec
	for _, i := range list {
		if strings.HasPrefix(i.Name, "skerry-debian-") {
			s = r.spec(1)
			s.Layers, s.MemoryMiB = i.Layers, 1024
			s.Env = map[string]string{"AWS_DEFAULT_REGION": "eu-west-1"}
		}
	}
	ns, err := r.Create(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	signer, line := keyPair(t)
	metadata(t, ns, s.ID, "#!/bin/bash\necho \"user data ran in $AWS_DEFAULT_REGION against $AWS_ENDPOINT_URL, $(systemctl is-active ssh), $(hostname)\"\necho x >/root/ran\n", line)
	start := time.Now()
	if err := r.Start(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	up := time.Since(start)
	out := ""
	for end := time.Now().Add(60 * time.Second); !strings.Contains(out, "user data ran in") && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		b, _ := r.Console(context.Background(), s.ID)
		out = string(b)
	}
	t.Logf("start %v, user data after %v", up, time.Since(start))
	if !strings.Contains(out, "user data ran in eu-west-1 against http://api.skerry.internal:4566, active, ip-10-0-0-1") {
		t.Errorf("user data's output is not on the console:\n%s", out)
	}
	run := func(user, cmd string) string {
		c, err := sshDial(t, ns, user, signer)
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		defer c.Close()
		sess, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		out, _ := sess.CombinedOutput(cmd)
		return strings.TrimSpace(string(out))
	}
	if got := run("root", "id -u; echo $AWS_DEFAULT_REGION"); got != "0\neu-west-1" {
		t.Errorf("root: %q", got)
	}
	if got := run("admin", "sudo -n id -u; systemctl --failed --no-legend | wc -l"); got != "0\n0" {
		t.Errorf("admin: %q; failed units: %s", got, run("root", "systemctl --failed --no-legend"))
	}
	// Once an instance, not once a boot.
	if err := r.Reboot(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, _ := r.Console(context.Background(), s.ID)
		if out = string(b); strings.Count(out, "finished at") == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the second boot doesn't get far:\n%s", out)
		}
	}
	if strings.Count(out, "user data ran in") != 1 {
		t.Errorf("user data ran again after a reboot:\n%s", out)
	}
	run("admin", "sudo -n poweroff")
	if st := r.awaitExit(t, s.ID); st.ExitReason != "poweroff" {
		t.Errorf("after poweroff: %+v", st)
	}
	start = time.Now()
	if err := r.Start(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(context.Background(), s.ID, false, 30*time.Second); err != nil { // before init listens to anybody
		t.Fatal(err)
	}
	if d := time.Since(start); d > 25*time.Second {
		t.Errorf("starting and stopping took %v", d)
	}
}
