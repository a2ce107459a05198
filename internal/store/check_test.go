package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

var checked = NewTable("checked", func(s string) string { return s[:4] })

// filled makes a state of a few hundred pages and closes it.
func filled(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	db, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(w *WriteTx) error {
		for i := range 2000 {
			checked.Put(w, fmt.Sprintf("%04d%0200d", i, i))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := Check(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("of a state that is open, Check says %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, FileName)
}

func TestCheckFindsDamageAndLeavesIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func([]byte) []byte
	}{
		{"cut off", func(b []byte) []byte { return b[:len(b)/8] }},
		{"cut to a page", func(b []byte) []byte { return b[:4096] }},
		{"some other file", func([]byte) []byte { return []byte("this is no database\n") }},
		{"noise in front", func(b []byte) []byte { copy(b, bytes.Repeat([]byte{0xa5}, 8192)); return b }},
		{"noise behind the heads", func(b []byte) []byte {
			copy(b[8192:], bytes.Repeat([]byte{0xa5, 0x17, 0x99}, (len(b)-8192)/3))
			return b
		}},
		{"zeroes behind the heads", func(b []byte) []byte { clear(b[8192:]); return b }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, file := filled(t)
			if err := Check(dir); err != nil {
				t.Fatalf("of a good one: %v", err)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b = tt.spoil(b)
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Check(dir); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v", err)
			}
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(b, after) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestNewerFormatsAreRefused(t *testing.T) {
	t.Parallel()
	dir, file := filled(t)
	set := func(v string) {
		b, err := bolt.Open(file, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := b.Update(func(tx *bolt.Tx) error {
			if v == "" {
				return tx.DeleteBucket(formatBucket)
			}
			return tx.Bucket(formatBucket).Put(formatKey, []byte(v))
		}); err != nil {
			t.Fatal(err)
		}
	}
	set(fmt.Sprint(Format + 1))
	if err := Check(dir); !errors.Is(err, ErrNewer) {
		t.Errorf("Check: %v", err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrNewer) {
		t.Errorf("Open: %v", err)
	}
	set("") // of before there were versions
	db, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	if err := Check(dir); err != nil {
		t.Error(err)
	}
}

func TestCheckOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{filepath.Join(dir, "none"), dir} {
		if err := Check(d); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(dir); err != nil {
		t.Errorf("of an empty file: %v", err)
	}
}
