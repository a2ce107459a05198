package demo

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// logLines and activityLines are how many lines of each a screen shows.
const (
	logLines      = 8
	activityLines = 6
	barWidth      = 30
	plainEvery    = 5 * time.Second // between status lines when nothing but rates changes
)

// screen shows snapshots: one screen redrawn on a terminal, plain lines elsewhere.
type screen interface {
	show(Snapshot)
	close(Snapshot)
}

func newScreen(w io.Writer, live bool, interrupt func()) screen {
	if !live {
		return &plain{w: w}
	}
	l := &liveScreen{done: make(chan struct{})}
	l.program = tea.NewProgram(model{interrupt: interrupt}, tea.WithOutput(w), tea.WithoutSignalHandler())
	go func() { l.program.Run(); close(l.done) }() // ends at close, or when the user quits
	return l
}

// plain writes what is new as lines: readable in a log.
type plain struct {
	w     io.Writer
	lines int
	shape string    // of the last status line
	at    time.Time // when it was written
}

func (p *plain) show(s Snapshot) {
	for ; p.lines < len(s.Log); p.lines++ {
		fmt.Fprintln(p.w, s.Log[p.lines])
	}
	if len(s.Instances) == 0 {
		return
	}
	shape := fmt.Sprint(s.Desired, len(s.Instances), s.healthy(), s.Failed)
	if shape == p.shape && s.At.Sub(p.at) < plainEvery || s.At.Equal(p.at) {
		return
	}
	p.shape, p.at = shape, s.At
	fmt.Fprintf(p.w, "%s   %s\n", s.At.Format("15:04:05"), statusLine(s))
}

func (p *plain) close(s Snapshot) { p.show(s) }

// statusLine is the whole state in one line.
func statusLine(s Snapshot) string {
	zones := map[string]int{}
	for _, i := range s.Instances {
		if i.Target == "healthy" {
			zones[i.Zone]++
		}
	}
	var parts []string
	for z, n := range zones {
		parts = append(parts, fmt.Sprintf("%s %d", z, n))
	}
	sort.Strings(parts)
	return fmt.Sprintf("desired %d, in group %d, healthy by zone [%s], cpu %s of %.0f %%, %.0f requests/s, failed %d",
		s.Desired, len(s.Instances), strings.Join(parts, ", "), percent(s.CPU), cpuTarget, s.Rate, s.Failed)
}

func percent(v float64) string {
	if v < 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", v)
}

// bar draws v of 100 with a mark at the target: readable without colour.
func bar(v, target float64) string {
	fill := int(max(0, min(100, v)) / 100 * barWidth)
	mark := int(target / 100 * barWidth)
	b := []byte(strings.Repeat("#", fill) + strings.Repeat(".", barWidth-fill))
	b[mark] = '|'
	return string(b)
}

// render draws a snapshot as a screen of text.
func render(s Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Skerry demo: %s\n\n", s.Phase)
	fmt.Fprintf(&b, "group CPU  %5s [%s] target %.0f %%\n", percent(s.CPU), bar(s.CPU, cpuTarget), cpuTarget)
	fmt.Fprintf(&b, "capacity   desired %d, in the group %d, healthy %d\n", s.Desired, len(s.Instances), s.healthy())
	fmt.Fprintf(&b, "requests   %.0f/s, median %d ms, sent %d, failed %d\n", s.Rate, s.Median.Milliseconds(), s.Sent, s.Failed)
	var zones []string
	for z, n := range s.ByZone {
		zones = append(zones, fmt.Sprintf("%s %d", z, n))
	}
	sort.Strings(zones)
	fmt.Fprintf(&b, "answered   %s\n\n", strings.Join(zones, ", "))
	fmt.Fprintf(&b, "%-20s %-12s %-20s %-10s %s\n", "instance", "zone", "state", "target", "cpu")
	for _, i := range s.Instances {
		fmt.Fprintf(&b, "%-20s %-12s %-20s %-10s %5s [%s]\n", i.ID, i.Zone, i.State, i.Target, percent(i.CPU), bar(i.CPU, cpuTarget))
	}
	b.WriteString("\nactivities\n")
	for i, a := range s.Activities {
		if i == activityLines {
			break
		}
		fmt.Fprintf(&b, "  %s\n", a)
	}
	b.WriteString("\nlog\n")
	for _, l := range s.Log[max(0, len(s.Log)-logLines):] {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	return b.String()
}

// writeFigures writes the closing table.
func writeFigures(w io.Writer, fs []Figure) {
	width := 0
	for _, f := range fs {
		width = max(width, len(f.Name))
	}
	fmt.Fprintln(w)
	for _, f := range fs {
		fmt.Fprintf(w, "%-*s  %s\n", width, f.Name, f.Value)
	}
}

// liveScreen runs the terminal program.
type liveScreen struct {
	program *tea.Program
	done    chan struct{}
	once    sync.Once
}

func (l *liveScreen) show(s Snapshot) { l.program.Send(s) }

func (l *liveScreen) close(s Snapshot) {
	l.once.Do(func() {
		l.program.Send(s)
		l.program.Quit()
		<-l.done
	})
}

// model is the terminal program's state: the newest snapshot.
type model struct {
	snap      Snapshot
	interrupt func()
}

func (m model) Init() tea.Cmd { return nil }

func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case Snapshot:
		m.snap = msg
	case tea.KeyMsg:
		if s := msg.String(); s == "q" || s == "ctrl+c" {
			m.interrupt()
			return m, tea.Quit
		}
	}
	return m, nil
}

func (m model) View() string { return render(m.snap) }
