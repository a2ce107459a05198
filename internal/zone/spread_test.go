package zone

import (
	"slices"
	"testing"

	"skerry/internal/proxy"
)

func TestSpreadSince(t *testing.T) {
	t.Parallel()
	a := []proxy.Bin{{Value: 1, Count: 2}, {Value: 3, Count: 1}}
	b := []proxy.Bin{{Value: 2, Count: 5}, {Value: 3, Count: 4}}
	both := addSpread(a, b, 1)
	if !slices.Equal(both, []proxy.Bin{{Value: 1, Count: 2}, {Value: 2, Count: 5}, {Value: 3, Count: 5}}) {
		t.Errorf("%v", both)
	}
	if d := (Summary{Spread: both}).Since(Summary{Spread: a}); !slices.Equal(d, b) {
		t.Errorf("%v", d)
	}
	if d := (Summary{Spread: both}).Since(Summary{Spread: both}); len(d) != 0 {
		t.Errorf("%v", d)
	}
}
