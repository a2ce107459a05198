package cloud

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"skerry/internal/gateway"
)

var update = flag.Bool("update", false, "write docs/coverage.md")

// TestCoverage keeps docs/coverage.md true: it says which operations the composed cloud serves.
func TestCoverage(t *testing.T) {
	const path = "../../docs/coverage.md"
	want := gateway.Coverage(newMux(&control{}))
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the handlers serve: run go test ./internal/cloud -run Coverage -update", path)
	}
}
