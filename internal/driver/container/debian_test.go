package container

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skerry/internal/driver"
	"skerry/internal/image"
)

// TestDebianBoots boots an image that `skerry image build debian` made. Building takes a minute and a package mirror, so
// the image comes from outside: SKERRY_DEBIAN_IMAGES names an image store that has one.
func TestDebianBoots(t *testing.T) {
	dir := os.Getenv("SKERRY_DEBIAN_IMAGES")
	if dir == "" {
		t.Skip("SKIPPED: SKERRY_DEBIAN_IMAGES names no image store")
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
	metadata(t, ns, s.ID, "#!/bin/bash\necho \"user data ran in $AWS_DEFAULT_REGION against $AWS_ENDPOINT_URL, $(systemctl is-active ssh), $(hostname)\"\necho x >/root/ran\n", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPPjMC0Fp1NJWcbyMRfZ4zQ1p5JCNx7sO8g2zKxmTPzL key")
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
	root := filepath.Join(r.o.RunDir, "instances", s.ID, "root")
	for _, home := range []string{"root", "home/admin"} {
		if b, err := os.ReadFile(filepath.Join(root, home, ".ssh/authorized_keys")); err != nil || !strings.Contains(string(b), "AAAAC3NzaC1lZDI1NTE5") {
			t.Errorf("the key is not in %s: %q %v", home, b, err)
		}
	}
	start = time.Now()
	if err := r.Stop(context.Background(), s.ID, false, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if t2 := time.Since(start); t2 > 20*time.Second {
		t.Errorf("shutting down took %v", t2)
	}
	t.Logf("stopped in %v\n%s", time.Since(start), out)
}
