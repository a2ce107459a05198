// Package require is how a test says what it needs of the machine. Without it the test is skipped, loudly: on standard
// error too, under the name of the need. Where SKERRY_REQUIRED lists that name (separated by commas; all stands for every
// one), the lack is a failure instead: `make test` lists what it has installed. It also measures what a test spends.
//
// Only tests import it.
package require

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Variable lists the needs whose lack is a failure.
const Variable = "SKERRY_REQUIRED"

// That goes on if err is nil. Else the need is lacking for that reason.
func That(t testing.TB, need string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if required(os.Getenv(Variable), need) {
		t.Fatalf("%s is required and lacking: %v", need, err)
	}
	text := fmt.Sprintf("SKIPPED %s: it needs %s: %v", t.Name(), need, err)
	fmt.Fprintln(os.Stderr, text)
	t.Skip(text)
}

func required(list, need string) bool {
	names := strings.Split(list, ",")
	return slices.Contains(names, need) || slices.Contains(names, "all")
}

// Root needs the rights of root.
func Root(t testing.TB) {
	t.Helper()
	var err error
	if os.Geteuid() != 0 {
		err = errors.New("not root")
	}
	That(t, "root", err)
}

// Binary needs the built program, for a test in a directory two below the project's, and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/skerry")
	if err == nil {
		_, err = os.Stat(path)
	}
	That(t, "build", err)
	return path
}

// Tool needs a program, under its own name, and returns its path.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	That(t, name, err)
	return path
}
