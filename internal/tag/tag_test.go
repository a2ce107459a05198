package tag

import (
	"fmt"
	"strings"
	"testing"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
)

var here = scope.Scope{Account: "000000000000", Region: "us-east-1"}

func open(t *testing.T) func(fn func(*store.WriteTx) error) error {
	t.Helper()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return db.Update
}

func code(err error) string {
	if f, ok := fault.As(err); ok {
		return f.Code
	}
	return fmt.Sprint(err)
}

func TestSetAndDelete(t *testing.T) {
	t.Parallel()
	update := open(t)
	err := update(func(w *store.WriteTx) error {
		if err := Set(w, here, "i-1", map[string]string{"a": "1", "b": "2", "": "x"}); code(err) != "InvalidParameterValue" {
			t.Errorf("an empty key: %v", err)
		}
		if err := Set(w, here, "i-1", map[string]string{"a": "1", "b": "2"}); err != nil {
			return err
		}
		if err := Set(w, here, "i-1", map[string]string{"b": "3"}); err != nil {
			return err
		}
		SetSystem(w, here, "i-1", map[string]string{"aws:x": "y"})
		if err := Set(w, here, "i-10", map[string]string{"other": "1"}); err != nil {
			return err
		}
		if got := fmt.Sprint(Map(w, here, "i-1")); got != "map[a:1 aws:x:y b:3]" {
			t.Error(got)
		}
		one := "1"
		Delete(w, here, "i-1", "b", &one)
		Delete(w, here, "i-1", "a", &one)
		Delete(w, here, "i-1", "none", nil)
		if got := fmt.Sprint(Map(w, here, "i-1")); got != "map[aws:x:y b:3]" {
			t.Error(got)
		}
		DeleteAll(w, here, "i-1")
		if len(Of(w, here, "i-1")) != 0 || len(Of(w, here, "i-10")) != 1 || len(Of(w, here.In("eu-west-1"), "i-10")) != 0 {
			t.Error("the tags of one resource are not those of another")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for n := range MaxUser {
		many[fmt.Sprint("k", n)] = ""
	}
	err := open(t)(func(w *store.WriteTx) error {
		SetSystem(w, here, "i-1", map[string]string{"aws:a": "", "aws:b": ""})
		if err := Set(w, here, "i-1", many); err != nil {
			t.Errorf("%d tags beside the system's: %v", MaxUser, err)
		}
		if err := Set(w, here, "i-1", map[string]string{"k0": "again"}); err != nil {
			t.Errorf("overwriting one of them: %v", err)
		}
		if err := Set(w, here, "i-1", map[string]string{"one": "more"}); code(err) != "TagLimitExceeded" {
			t.Errorf("one more: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"AWS:x": "", strings.Repeat("k", MaxKey+1): "", "k": strings.Repeat("v", MaxValue+1)} {
		if err := Check(map[string]string{k: v}); code(err) != "InvalidParameterValue" {
			t.Errorf("%.20q: %v", k, err)
		}
	}
	if err := Check(map[string]string{strings.Repeat("ä", MaxKey): strings.Repeat("ö", MaxValue)}); err != nil {
		t.Errorf("limits count characters: %v", err)
	}
}
