package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skerry/internal/fault"
)

type row struct {
	ID, VPC string
	N       int
	Tags    []string
}

var rows = NewTable("test_rows", func(r row) string { return r.ID },
	Index[row]{Name: "vpc", Keys: func(r row) []string { return []string{r.VPC} }},
	Index[row]{Name: "tag", Keys: func(r row) []string { return r.Tags }})

func ids(seq func(func(row) bool)) string {
	var out []string
	for r := range seq {
		out = append(out, r.ID)
	}
	return strings.Join(out, " ")
}

func TestTransactionsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(w *WriteTx) error {
		rows.Put(w, row{ID: "a/2", VPC: "v1", Tags: []string{"x", "y"}})
		rows.Put(w, row{ID: "a/1", VPC: "v1"})
		rows.Put(w, row{ID: "b/1", VPC: "v11", N: 7})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	before := db.Read()
	if err := db.Update(func(w *WriteTx) error {
		rows.Delete(w, "a/2")
		r, _ := rows.Get(w, "b/1")
		r.N++
		rows.Put(w, r)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("no")
	if err := db.Update(func(w *WriteTx) error { rows.Put(w, row{ID: "never"}); return refused }); err != refused {
		t.Fatalf("want the function's own error, got %v", err)
	}
	if got := ids(rows.All(before)); got != "a/1 a/2 b/1" {
		t.Errorf("an old snapshot moved: %s", got)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("second opener: want ErrInUse, got %v", err)
	}
	db.Close()
	db, err = Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := db.Read()
	if got := ids(rows.All(r)); got != "a/1 b/1" {
		t.Errorf("after reopening: %s", got)
	}
	if b, _ := rows.Get(r, "b/1"); b.N != 8 {
		t.Errorf("b/1 = %+v", b)
	}
}

func TestIndexesAndPrefixes(t *testing.T) {
	db, _ := Open("", Options{})
	db.Update(func(w *WriteTx) error {
		for i := range 5 {
			rows.Put(w, row{ID: fmt.Sprintf("s/%d", i), VPC: "v" + strings.Repeat("1", i%2+1), Tags: []string{fmt.Sprint(i), "all"}})
		}
		for r := range rows.Prefix(w, "s/") { // changing what one walks over
			r.N = 1
			rows.Put(w, r)
		}
		return nil
	})
	r := db.Read()
	for _, c := range []struct{ got, want string }{
		{ids(rows.By(r, "vpc", "v1")), "s/0 s/2 s/4"},
		{ids(rows.By(r, "vpc", "v11")), "s/1 s/3"},
		{ids(rows.By(r, "tag", "all")), "s/0 s/1 s/2 s/3 s/4"},
		{ids(rows.By(r, "tag", "3")), "s/3"},
		{ids(rows.Prefix(r, "s/4")), "s/4"},
		{ids(rows.Prefix(r, "t")), ""},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestWatch(t *testing.T) {
	db, _ := Open("", Options{})
	ch := db.Watch(rows)
	select {
	case <-ch:
		t.Fatal("closed before any change")
	default:
	}
	db.Update(func(w *WriteTx) error { return nil })
	select {
	case <-ch:
		t.Fatal("closed by an empty transaction")
	default:
	}
	db.Update(func(w *WriteTx) error { rows.Put(w, row{ID: "1"}); return nil })
	select {
	case <-ch:
	case <-time.After(time.Second):
		t.Fatal("not closed by a change")
	}
}

func TestIDsAndTimeComeFromOutside(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	id := func() (s string) {
		db, _ := Open("", Options{Clock: func() time.Time { return at }, Rand: strings.NewReader(strings.Repeat("k", 64))})
		db.Update(func(w *WriteTx) error {
			if !w.Now().Equal(at) {
				t.Errorf("now %v", w.Now())
			}
			s = w.NewID("i")
			return nil
		})
		return
	}
	a, b := id(), id()
	if a != b || len(a) != len("i-")+17 {
		t.Errorf("ids %q %q", a, b)
	}
}

func TestAFullDiskRefusesAndChangesNothing(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	db.bolt.Close() // the log can no longer be written
	err = db.Update(func(w *WriteTx) error { rows.Put(w, row{ID: "x"}); return nil })
	if !fault.Is(err, fault.Unavailable) {
		t.Fatalf("want Unavailable, got %v", err)
	}
	if _, ok := rows.Get(db.Read(), "x"); ok {
		t.Error("the refused row is visible")
	}
}

func TestACorruptFileIsNamed(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, FileName), []byte("not a database"), 0o600)
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), FileName) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkUpdate(b *testing.B) {
	db, _ := Open(b.TempDir(), Options{})
	defer db.Close()
	i := 0
	for b.Loop() {
		db.Update(func(w *WriteTx) error { rows.Put(w, row{ID: fmt.Sprint(i)}); return nil })
		i++
	}
}

func TestMemoryIsALog(t *testing.T) {
	var m Memory
	open := func() *DB {
		db, err := Open("", Options{Memory: &m})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	db.Update(func(w *WriteTx) error {
		rows.Put(w, row{ID: "a/1", Tags: []string{"x"}})
		rows.Put(w, row{ID: "a/2"})
		return nil
	})
	db.Update(func(w *WriteTx) error {
		rows.Delete(w, "a/2")
		rows.Put(w, row{ID: "a/3"})
		return nil
	})
	db.Update(func(w *WriteTx) error {
		rows.Put(w, row{ID: "a/4"})
		return errors.New("it is killed")
	})
	if got := ids(rows.All(open().Read())); got != "a/1 a/3" {
		t.Errorf("after reopening: %s", got)
	}
	if err := m.Drift(db); err != nil {
		t.Error(err)
	}
	shared, _ := rows.Get(db.Read(), "a/1")
	shared.Tags[0] = "y"
	if err := m.Drift(db); err == nil {
		t.Error("a row that was written into is not noticed")
	}
}
