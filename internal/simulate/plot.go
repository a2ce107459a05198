package simulate

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"strings"
	"time"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// Sizes of the plots, in pixels.
const (
	plotWidth, plotHeight  = 960, 320 // of one candidate
	plotLeft, plotRight    = 64, 16
	plotTop, plotBottom    = 52, 36
	plotTitle, plotLegend  = 32, 12 // above the plot
	plotColumns, plotLines = 72, 12 // of the terminal's
)

// series are a result's points reduced to n columns: the demand as the instances that it keeps fully busy, the capacity
// in service, and the requests without capacity.
type series struct {
	need, have, lost []float64
	most             float64
	start            time.Time
	length           time.Duration
}

func (s Scenario) series(r Result, n int) series {
	out := series{need: make([]float64, n), have: make([]float64, n), lost: make([]float64, n), start: s.Start, length: time.Duration(len(r.Points)) * s.Trace.Step}
	each := s.Service.Seconds() / float64(s.Workers)
	for i := range n {
		a := i * len(r.Points) / n
		b := max(a+1, (i+1)*len(r.Points)/n)
		for _, p := range r.Points[a:b] {
			out.need[i] = max(out.need[i], p.Demand*each)
			out.have[i] += p.Capacity / float64(b-a)
			out.lost[i] += p.Unserved
		}
		out.most = max(out.most, out.need[i], out.have[i])
	}
	if out.most == 0 {
		out.most = 1
	}
	return out
}

// Text draws a result for a terminal: capacity in service as columns, on them what the demand keeps busy, and below a mark
// where requests found no capacity.
func (s Scenario) Text(r Result) string {
	d := s.series(r, plotColumns)
	parts := []rune(" ▁▂▃▄▅▆▇█")
	var b strings.Builder
	for line := plotLines - 1; line >= 0; line-- {
		label := ""
		if line == plotLines-1 {
			label = fmt.Sprintf("%.0f", d.most)
		} else if line == 0 {
			label = "0"
		}
		fmt.Fprintf(&b, "%6s ", label)
		for i := range d.have {
			have := d.have[i]/d.most*plotLines - float64(line)
			need := d.need[i] / d.most * plotLines
			switch {
			case int(math.Min(need, plotLines-0.001)) == line && need > 0:
				b.WriteRune('●')
			default:
				b.WriteRune(parts[int(math.Round(8*math.Max(0, math.Min(1, have))))])
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("       ")
	for _, l := range d.lost {
		b.WriteRune(map[bool]rune{true: '×', false: '─'}[l >= 1])
	}
	fmt.Fprintf(&b, "\n       %-*s%s\n       █ instances in service   ● instances that the demand keeps busy   × requests without capacity\n",
		max(1, len(d.have)-16), s.Start.Format("2006-01-02 15:04"), s.Start.Add(d.length).Format("2006-01-02 15:04"))
	return b.String()
}

var ink = struct{ have, need, lost, grid, text string }{"#9ecae1", "#d95f0e", "#c51b1b", "#dddddd", "#333333"}

// legend is what the colours mean, and how far from the left it stands.
var legend = []struct {
	at          int
	color, text string
}{{0, ink.have, "instances in service"}, {190, ink.need, "instances that the demand keeps busy"}, {490, ink.lost, "requests without capacity"}}

// SVG draws the results, one below the other.
func (s Scenario) SVG(w io.Writer, rs []Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight*len(rs))
	b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	for k, r := range rs {
		d := s.series(r, plotWidth-plotLeft-plotRight)
		top := k*plotHeight + plotTop
		high := float64(plotHeight - plotTop - plotBottom)
		y := func(v float64) float64 { return float64(top) + high*(1-v/d.most) }
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s" font-size="14">%s</text>`+"\n", plotLeft, top-plotTitle, ink.text, escape(r.title()))
		for _, l := range legend {
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotLeft+l.at, top-plotLegend-9, l.color, plotLeft+l.at+16, top-plotLegend, ink.text, l.text)
		}
		for i := range 5 {
			v := d.most * float64(i) / 4
			fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s"/><text x="%d" y="%.1f" fill="%s" text-anchor="end">%.0f</text>`+"\n",
				plotLeft, plotWidth-plotRight, y(v), y(v), ink.grid, plotLeft-6, y(v)+4, ink.text, v)
		}
		fmt.Fprintf(&b, `<polygon fill="%s" points="%d,%.1f`, ink.have, plotLeft, y(0))
		for i, v := range d.have {
			fmt.Fprintf(&b, " %d,%.1f", plotLeft+i, y(v))
		}
		fmt.Fprintf(&b, ` %d,%.1f"/>`+"\n"+`<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, plotLeft+len(d.have)-1, y(0), ink.need)
		for i, v := range d.need {
			fmt.Fprintf(&b, "%d,%.1f ", plotLeft+i, y(v))
		}
		b.WriteString(`"/>` + "\n")
		for i, v := range d.lost {
			if v >= 1 {
				fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="%s"/>`+"\n", plotLeft+i, plotLeft+i, y(0), y(0)+6, ink.lost)
			}
		}
		for i, t := range d.times() {
			fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="%s" text-anchor="middle">%s</text>`+"\n", plotLeft+i*(len(d.have)-1)/4, y(0)+20, ink.text, t)
		}
	}
	fmt.Fprintf(&b, "</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (d series) times() (out []string) {
	for i := range 5 {
		out = append(out, d.start.Add(d.length*time.Duration(i)/4).Format("Jan 2 15:04"))
	}
	return out
}

func (r Result) title() string {
	return fmt.Sprintf("%s: %.0f instance-hours, %.2f USD, %d of %d requests without capacity", r.Candidate, r.InstanceHours, r.Cost, r.Unserved, r.Requests)
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// PNG draws the same as SVG.
func (s Scenario) PNG(w io.Writer, rs []Result) error {
	img := image.NewRGBA(image.Rect(0, 0, plotWidth, plotHeight*len(rs)))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	for k, r := range rs {
		d := s.series(r, plotWidth-plotLeft-plotRight)
		top := k*plotHeight + plotTop
		high := float64(plotHeight - plotTop - plotBottom)
		y := func(v float64) int { return top + int(math.Round(high*(1-v/d.most))) }
		bar := func(x, from, to int, c color.Color) {
			for i := min(from, to); i <= max(from, to); i++ {
				img.Set(x, i, c)
			}
		}
		for i := range 5 {
			v := d.most * float64(i) / 4
			for x := plotLeft; x < plotWidth-plotRight; x++ {
				img.Set(x, y(v), hex(ink.grid))
			}
			label(img, fmt.Sprintf("%.0f", v), plotLeft-6, y(v)+4, 1)
		}
		for i, v := range d.have {
			bar(plotLeft+i, y(0), y(v), hex(ink.have))
		}
		for i, v := range d.need {
			bar(plotLeft+i, y(d.need[max(0, i-1)]), y(v), hex(ink.need))
			if d.lost[i] >= 1 {
				bar(plotLeft+i, y(0), y(0)+6, hex(ink.lost))
			}
		}
		label(img, r.title(), plotLeft, top-plotTitle, 0)
		for _, l := range legend {
			x, y := plotLeft+l.at, top-plotLegend
			draw.Draw(img, image.Rect(x, y-9, x+10, y+1), image.NewUniform(hex(l.color)), image.Point{}, draw.Src)
			label(img, l.text, x+16, y, 0)
		}
		for i, t := range d.times() {
			label(img, t, plotLeft+i*(len(d.have)-1)/4, y(0)+20, 0.5)
		}
	}
	return png.Encode(w, img)
}

// label writes text; of its width, the share align is left of x.
func label(img draw.Image, text string, x, y int, align float64) {
	face := basicfont.Face7x13
	x -= int(float64(len(text)*face.Advance) * align)
	d := font.Drawer{Dst: img, Src: image.NewUniform(hex(ink.text)), Face: face, Dot: fixed.P(max(0, min(x, plotWidth-len(text)*face.Advance)), y)}
	d.DrawString(text)
}

func hex(s string) color.RGBA {
	var r, g, b uint8
	fmt.Sscanf(s, "#%02x%02x%02x", &r, &g, &b)
	return color.RGBA{r, g, b, 255}
}
