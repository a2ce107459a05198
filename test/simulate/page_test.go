package simulate

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"skerry/internal/require"
)

// elapsed is what no two runs have in common.
var elapsed = regexp.MustCompile(`"elapsed_ms":[0-9.]+`)

// TestThePageShowsWhatIsPrinted runs the commands of the page about the simulation that need no cloud, on files that a cloud has
// printed: each line that the page shows below one is a line of its output, in that order.
func TestThePageShowsWhatIsPrinted(t *testing.T) {
	t.Parallel()
	binary := require.Binary(t)
	page, err := os.ReadFile("../../docs/howto/simulate.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	var shown []string // of the last command, that are still to be found
	var command string
	check := func() {
		if len(shown) > 0 {
			t.Errorf("%s\ndoes not print, or not in this order:\n%s", command, shown[0])
		}
		shown = nil
	}
	var output []string
	for _, line := range strings.Split(string(page), "\n") {
		text, block := strings.CutPrefix(line, "    ")
		c, begins := strings.CutPrefix(text, "$ ")
		switch {
		case !block:
			check()
			output = nil
		case begins:
			check()
			command, output = c, nil
			args := strings.Fields(c)
			switch {
			case args[0] == "cat":
				b, err := os.ReadFile(filepath.Join("testdata", args[1]))
				if err != nil {
					t.Fatal(err)
				}
				output = strings.Split(string(b), "\n")
			case args[0] == "skerry" && !strings.Contains(c, "--group web"):
				ran++
				run := exec.Command(binary, args[1:]...)
				run.Dir = "testdata"
				var problem bytes.Buffer
				run.Stderr = &problem
				b, err := run.Output()
				if err != nil {
					t.Errorf("%s: %v: %s", c, err, problem.String())
				}
				output = strings.Split(elapsed.ReplaceAllString(string(b), ""), "\n")
			}
		case output != nil:
			shown = append(shown, text)
			text = elapsed.ReplaceAllString(text, "")
			for i, o := range output {
				if strings.TrimRight(o, " ") == strings.TrimRight(text, " ") {
					output, shown = output[i+1:], shown[:len(shown)-1]
					break
				}
			}
		}
	}
	check()
	if ran < 3 {
		t.Errorf("the page has %d commands that were run", ran)
	}
}
