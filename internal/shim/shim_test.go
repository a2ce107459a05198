package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConsoleKeepsTheTail(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenConsole(dir)
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for i := 0; i < 40000; i++ {
		last = fmt.Sprintf("line %d of a long life\n", i)
		c.Write([]byte(last))
	}
	b, err := ReadConsole(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > ConsoleView || len(b) < ConsoleView-100 {
		t.Errorf("%d bytes are shown, want nearly %d", len(b), ConsoleView)
	}
	if !bytes.HasPrefix(b, []byte("line ")) || !bytes.HasSuffix(b, []byte(last)) {
		t.Errorf("it begins with %q and ends with %q", b[:20], b[len(b)-40:])
	}
	var size int64
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > 2*ConsoleMax {
		t.Errorf("the console takes %d bytes on disk, want at most %d", size, 2*ConsoleMax)
	}
	// A shim that is started again goes on where the file ends, and the view joins both files right after a turn.
	c, err = OpenConsole(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Write(bytes.Repeat([]byte("x"), ConsoleMax-100))
	c.Write([]byte("\nfirst of the new file\n"))
	if b, _ = ReadConsole(dir); len(b) < ConsoleView/2 && !bytes.Contains(b, []byte("first of the new file")) {
		t.Errorf("after a turn: %d bytes, %q", len(b), b[max(0, len(b)-60):])
	}
}

// Where the files can't be turned over the console stays bounded, and goes on.
func TestConsoleThatCannotTurn(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ConsoleFile+".1", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := OpenConsole(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		c.Write(bytes.Repeat([]byte("x"), ConsoleMax/4))
	}
	c.Write([]byte("\nlast\n"))
	if st, err := os.Stat(filepath.Join(dir, ConsoleFile)); err != nil || st.Size() > ConsoleMax {
		t.Errorf("%v %v, want at most %d", st.Size(), err, ConsoleMax)
	}
	if b, err := ReadConsole(dir); err != nil || !bytes.HasSuffix(b, []byte("\nlast\n")) {
		t.Errorf("it ends with %q %v", b[max(0, len(b)-20):], err)
	}
}

func TestConsoleOfNothing(t *testing.T) {
	if b, err := ReadConsole(t.TempDir()); err != nil || len(b) != 0 {
		t.Errorf("%q %v, want nothing", b, err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	if Alive(dir) {
		t.Error("an empty directory has a shim")
	}
	f, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !Alive(dir) {
		t.Error("the lock is held, and no shim is seen")
	}
	if _, err := Lock(dir); err == nil {
		t.Error("two shims have the lock")
	}
	f.Close()
	if Alive(dir) {
		t.Error("the lock is free, and a shim is seen")
	}
}

func TestKillHitsTheHolderOnly(t *testing.T) {
	dir := t.TempDir()
	f, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The record names a process of the right number and another start time: it is somebody else's by now.
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := f.WriteAt(fmt.Appendf(nil, "%12d %20d\n", cmd.Process.Pid, PIDStart(cmd.Process.Pid)+1), 0); err != nil {
		t.Fatal(err)
	}
	Kill(dir)
	if PIDStart(cmd.Process.Pid) == 0 {
		t.Fatal("a process that only has the number of the shim was killed")
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%12d %20d\n", cmd.Process.Pid, PIDStart(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	Kill(dir)
	for end := time.Now().Add(30 * time.Second); PIDStart(cmd.Process.Pid) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the shim was not killed")
		}
	}
}

func TestPIDStart(t *testing.T) {
	if PIDStart(os.Getpid()) == 0 {
		t.Error("this process has no start time")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	for end := time.Now().Add(30 * time.Second); PIDStart(pid) != 0; time.Sleep(time.Millisecond) { // ends as a zombie
		if time.Now().After(end) {
			t.Fatal("a zombie counts as a process")
		}
	}
	cmd.Wait()
	if PIDStart(pid) != 0 {
		t.Error("an ended process has a start time")
	}
}

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	if err := WriteJSON(filepath.Join(dir, StateFile), State{PID: 7}); err != nil {
		t.Fatal(err)
	}
	if err := Finish(dir, Exit{Code: 3, Reason: "exit"}); err != nil {
		t.Fatal(err)
	}
	var ex Exit
	if err := ReadJSON(filepath.Join(dir, ExitFile), &ex); err != nil || ex.Code != 3 {
		t.Errorf("%+v %v", ex, err)
	}
	if _, err := os.Stat(filepath.Join(dir, StateFile)); !os.IsNotExist(err) {
		t.Error("the state is there beside the exit")
	}
	if err := Finish(dir, ex); err != nil {
		t.Errorf("repeated: %v", err)
	}
}

// Socket addresses end at 107 bytes; data directories may be longer.
func TestSocketInALongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second shim takes over what a killed one left
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			var req Request
			json.NewDecoder(c).Decode(&req)
			json.NewEncoder(c).Encode(Reply{Running: req.Op == "status", State: State{PID: 5}})
		}()
		r, err := Do(context.Background(), dir, Request{Op: "status"})
		if err != nil || !r.Running || r.State.PID != 5 {
			t.Errorf("%+v %v", r, err)
		}
		l.Close()
	}
	if _, err := Do(context.Background(), dir, Request{Op: "status"}); err == nil {
		t.Error("nobody listens, and somebody answers")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Do(ctx, dir, Request{Op: "status"}); err != context.DeadlineExceeded {
		t.Errorf("a shim that doesn't answer: %v", err)
	}
}
