package container

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"skerry/internal/image"
)

// An image of an instance boots as a machine of its own: it has what was written, and runs its own user data.
func TestImageOfAnInstance(t *testing.T) {
	r := newRig(t)
	st := &image.Store{Dir: filepath.Join(r.o.DataDir, "images")}
	s, _ := r.bootWith(t, 1, "#!/bin/sh\necho golden >/srv/file\nrm /etc/issue\n", "")
	r.awaitConsole(t, s.ID, "cloud-init: finished")
	first := hostKey(r.awaitConsole(t, s.ID, "sshd: listening"))
	upper, firstID, ids, layers, err := r.Changes(s.ID)
	if err != nil {
		t.Fatal(err)
	}
	img, err := st.Commit(context.Background(), image.Changes{Upper: upper, FirstID: firstID, IDs: ids, Layers: layers}, "golden", "")
	if err != nil {
		t.Fatal(err)
	}
	s = r.spec(2)
	s.Layers = img.Layers
	ns, err := r.Create(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	metadata(t, ns, s.ID, "#!/bin/sh\necho \"has $(cat /srv/file) $(stat -c %u /srv/file) $(ls /etc/issue 2>&1 | grep -c 'No such') $(hostname) $(cat /etc/hostname)\"\n", "")
	if err := r.Start(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	out := r.awaitConsole(t, s.ID, "cloud-init: finished")
	if !strings.Contains(out, "has golden 0 1 ip-10-0-0-2 ip-10-0-0-2") {
		t.Errorf("the instance of the image says:\n%s", out)
	}
	if second := hostKey(r.awaitConsole(t, s.ID, "sshd: listening")); first == "" || second == first {
		t.Errorf("host keys %q and %q: each machine makes its own", first, second)
	}
}

func hostKey(console string) string {
	_, key, _ := strings.Cut(console, "host key ")
	key, _, _ = strings.Cut(key, "\r\n")
	return key
}
