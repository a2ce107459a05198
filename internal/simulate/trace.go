package simulate

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Trace is demand over time: requests per second in each step.
type Trace struct {
	Step   time.Duration
	Demand []float64
}

const day = 24 * time.Hour

// Shapes are the names that Generate knows.
var Shapes = []string{"daily", "week", "spike", "black-friday"}

// Generate makes a trace of a shape, with peak requests per second in its busiest minute and a noise of some percent from
// the seed.
//
//   - daily is a day with its low at 4 and its peak at 20 o'clock; week is seven of them from a Monday, with quieter
//     weekends.
//   - spike is six quiet hours with, at the third, twenty minutes of full demand that come within one.
//   - black-friday is three days: an ordinary one, the one with a rise at midnight, one from 8 o'clock and a full evening,
//     and the day after.
func Generate(shape string, step time.Duration, peak float64, seed uint64) (Trace, error) {
	length, of := time.Duration(0), func(time.Duration) float64 { return 0 }
	switch shape {
	case "daily":
		length, of = day, daily
	case "week":
		length = 7 * day
		of = func(t time.Duration) float64 {
			if t >= 5*day {
				return 0.65 * daily(t%day)
			}
			return daily(t % day)
		}
	case "spike":
		length = 6 * time.Hour
		of = func(t time.Duration) float64 {
			return 0.1 + 0.9*bump(t.Minutes(), 180, 181, 200, 230)
		}
	case "black-friday":
		length = 3 * day
		of = func(t time.Duration) float64 {
			h := t.Hours() - 24 // of the day itself
			v := 0.3 * daily(t%day)
			v = max(v, 0.7*bump(h, 0, 0.1, 1, 3), 0.8*bump(h, 7.5, 8.5, 14, 18), bump(h, 17, 19, 22, 25))
			return v
		}
	default:
		return Trace{}, fmt.Errorf("there is no shape %q; there are %s", shape, strings.Join(Shapes, ", "))
	}
	if step <= 0 || peak <= 0 {
		return Trace{}, fmt.Errorf("a generated trace needs a step and a peak above 0")
	}
	r := rand.New(rand.NewPCG(seed, 1))
	t := Trace{Step: step}
	highest := 0.0
	for at := time.Duration(0); at < length; at += step {
		v := of(at) * (1 + 0.02*(2*r.Float64()-1))
		t.Demand = append(t.Demand, v)
		highest = max(highest, v)
	}
	for i := range t.Demand {
		t.Demand[i] *= peak / highest
	}
	return t, nil
}

// daily is the demand at a time of the day, between 0.2 and 1.
func daily(t time.Duration) float64 {
	x := math.Mod(t.Hours()-4+24, 24) // hours since the low
	if x < 16 {
		x = x / 16 / 2 // 16 hours up
	} else {
		x = 0.5 + (x-16)/8/2 // 8 down
	}
	return 0.2 + 0.8*(1-math.Cos(2*math.Pi*x))/2
}

// bump rises from a to b, stays until c and falls until d.
func bump(x, a, b, c, d float64) float64 {
	switch {
	case x <= a || x >= d:
		return 0
	case x < b:
		return (x - a) / (b - a)
	case x <= c:
		return 1
	}
	return (d - x) / (d - c)
}

// ReadTrace reads CSV: a time and the requests from then on until the next line's time, per line. A time is RFC 3339,
// seconds since 1970, or seconds since the start. The first line may be a header. The last line lasts as long as the one
// before.
func ReadTrace(r io.Reader, step time.Duration) (Trace, time.Time, error) {
	c := csv.NewReader(bufio.NewReader(r))
	c.FieldsPerRecord, c.TrimLeadingSpace, c.ReuseRecord, c.Comment = 2, true, true, '#'
	var at, rate []float64
	var start time.Time
	for line := 1; ; line++ {
		rec, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Trace{}, start, fmt.Errorf("reading the trace: %w", err)
		}
		n, nerr := strconv.ParseFloat(rec[1], 64)
		t, terr := readTime(rec[0])
		if line == 1 && (nerr != nil || terr != nil) {
			continue
		}
		if nerr != nil || terr != nil || n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
			return Trace{}, start, fmt.Errorf("trace, line %d: want a time and a number of requests, got %q", line, strings.Join(rec, ","))
		}
		if len(at) > 0 && t <= at[len(at)-1] {
			return Trace{}, start, fmt.Errorf("trace, line %d: its time is not after that of the line before", line)
		}
		if len(at) >= maxSteps {
			return Trace{}, start, fmt.Errorf("the trace has more than %d lines", maxSteps)
		}
		at, rate = append(at, t), append(rate, n)
	}
	if len(at) < 2 {
		return Trace{}, start, fmt.Errorf("a trace needs two lines at least: their times say how long the requests took")
	}
	if at[0] > 1e8 {
		start = time.Unix(int64(at[0]), 0).UTC()
	}
	last := len(at) - 1
	end := 2*at[last] - at[last-1]
	spans := append(at, end)
	out := Trace{Step: step}
	s := step.Seconds()
	if (end-at[0])/s > maxSteps {
		return Trace{}, start, fmt.Errorf("the trace is longer than %d steps", maxSteps)
	}
	for k, i := at[0], 0; k < end-s/2; k += s {
		requests := 0.0
		for x := k; x < k+s; { // requests of the lines that the step overlaps
			for i < last && spans[i+1] <= x {
				i++
			}
			y := min(k+s, spans[i+1])
			if y <= x {
				break
			}
			requests += rate[i] * (y - x) / (spans[i+1] - spans[i])
			x = y
		}
		out.Demand = append(out.Demand, requests/s)
	}
	return out, start, nil
}

func readTime(s string) (float64, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return n, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	return float64(t.UnixNano()) / 1e9, err
}
