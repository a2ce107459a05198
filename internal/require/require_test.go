package require

import "testing"

func TestRequired(t *testing.T) {
	for _, tt := range []struct {
		list string
		want bool
	}{{"", false}, {"root", true}, {"aws,root", true}, {"roots", false}, {"all", true}} {
		if got := required(tt.list, "root"); got != tt.want {
			t.Errorf("%q: %v", tt.list, got)
		}
	}
}
