package demo

import (
	"strings"
	"testing"
	"time"
)

func sample() Snapshot {
	return Snapshot{At: time.Unix(0, 0), Phase: "growing", Desired: 3, CPU: 62, Rate: 80, Sent: 900, Failed: 1,
		ByZone:     map[string]int64{"us-east-1b": 400, "us-east-1a": 500},
		Instances:  []Instance{{ID: "i-1", Zone: "us-east-1a", State: "InService", Target: "healthy", CPU: 61}, {ID: "i-2", Zone: "us-east-1b", State: "Pending", CPU: -1}},
		Activities: []string{"Successful Launching a new EC2 instance: i-1"}, Log: []string{"one", "two"}}
}

func TestRenderShowsEveryInstanceAndTheTarget(t *testing.T) {
	got := render(sample())
	for _, want := range []string{"62 % [##################.|"[:8], "desired 3, in the group 2, healthy 1", "us-east-1a 500, us-east-1b 400", "i-1 ", "i-2 ", "Launching", "  two"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestBarMarksTheTarget(t *testing.T) {
	for v, want := range map[float64]string{0: "...............|..............", 100: "###############|##############", -1: "...............|..............", 250: "###############|##############"} {
		if got := bar(v, 50); got != want {
			t.Errorf("bar(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestPlainWritesOnlyWhatIsNew(t *testing.T) {
	var b strings.Builder
	p := &plain{w: &b}
	p.show(sample())
	once := b.String()
	p.show(sample())
	if b.String() != once {
		t.Errorf("an unchanged snapshot wrote more: %q", b.String()[len(once):])
	}
	if !strings.Contains(once, "desired 3, in group 2, healthy by zone [us-east-1a 1], cpu 62 %") {
		t.Errorf("no status line in %q", once)
	}
}

func TestMetricPeriod(t *testing.T) {
	for in, want := range map[float64]int32{0.5: 1, 1: 1, 3: 5, 60: 60, 30: 30, 12: 30} {
		if got := metricPeriod(in); got != want {
			t.Errorf("metricPeriod(%v) = %d, want %d", in, got, want)
		}
	}
}
