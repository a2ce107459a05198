package bucket

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	d := Dir(filepath.Join(base, Name))
	for name, text := range map[string]string{"s3/certs/a/b.pem": "hello", "s3/certs/large": "0123456789", "secret": "no"} {
		p := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../secret", filepath.Join(base, "s3/certs/link")); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Read("certs", "a/b.pem", 5); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := d.Read("certs", "large", 9); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an object of one byte too many: %v", err)
	}
	for _, c := range [][2]string{{"certs", "a"}, {"certs", "none"}, {"certs", ""}, {"certs", "../../secret"}, {"certs", "/etc/passwd"}, {"certs", "link"},
		{"certs", "a/b.pem/c"}, {"other", "a/b.pem"}, {"..", "secret"}, {"ab", "x"}, {"Certs", "a/b.pem"}} {
		if b, err := d.Read(c[0], c[1], 100); !errors.Is(err, ErrNotFound) {
			t.Errorf("bucket %q, key %q: %q, %v", c[0], c[1], b, err)
		}
	}
	if _, err := Dir(filepath.Join(base, "none")).Read("certs", "a", 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("without the folder: %v", err)
	}
}
