package metric

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"
)

// Bounds of the evaluation of an expression.
const (
	maxLines = 500       // series of one array
	maxCells = 4_000_000 // points of all series that a list's evaluations make
)

// Line is a time series over the periods of a Grid. A point that is missing is not a number.
type Line struct {
	Label  string
	Values []float64
}

// Grid is the time of an evaluation: N periods from Start. Seconds is the period as expressions speak of it; with a time
// scale the real one is shorter.
type Grid struct {
	Start   time.Time
	Period  time.Duration
	Seconds int
	N       int
}

// value is what an expression comes to: a number, a series, or an array of series.
type value struct {
	kind   kind
	number float64
	lines  []Line // one for a series
	text   string // an argument's
}

type kind int

const (
	aNumber kind = iota
	aSeries
	anArray
	aText // a text or word, as an argument alone
)

func (k kind) String() string {
	return [...]string{"a number", "a time series", "an array of time series", "a text"}[k]
}

// evaluation is one evaluation of expressions over a grid.
type evaluation struct {
	grid    Grid
	read    func(id string) (value, error)
	metrics func(containing string) ([]Line, error)
	search  func(text, stat string) ([]Line, error) // nil: refused
	cells   *int
}

var missing = math.NaN()

// spend counts the points of series that are made.
func (e *evaluation) spend(lines int) error {
	if *e.cells += lines * e.grid.N; *e.cells > maxCells {
		return fmt.Errorf("it needs more than %d points; ask for a shorter time, a longer period or fewer metrics", maxCells)
	}
	return nil
}

// line makes a series in which every point is missing.
func (e *evaluation) line(label string) (Line, error) {
	if err := e.spend(1); err != nil {
		return Line{}, err
	}
	l := Line{label, make([]float64, e.grid.N)}
	for i := range l.Values {
		l.Values[i] = missing
	}
	return l, nil
}

// finite is v, or missing where it has no finite value.
func finite(v float64) float64 {
	if sane(v) {
		return v
	}
	return missing
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (e *evaluation) eval(n *node) (value, error) {
	switch n.op {
	case "number":
		return value{number: n.number}, nil
	case "text", "word":
		return value{kind: aText, text: n.name}, nil
	case "id":
		return e.read(n.name)
	case "list":
		out := value{kind: anArray}
		for _, a := range n.args {
			v, err := e.eval(a)
			if err != nil {
				return v, err
			}
			if v.kind != aSeries && v.kind != anArray {
				return v, fmt.Errorf("a list in brackets takes time series, not %s", v.kind)
			}
			out.lines = append(out.lines, v.lines...)
		}
		return out, e.bounded(len(out.lines))
	}
	args := make([]value, len(n.args))
	for i, a := range n.args {
		var err error
		if args[i], err = e.eval(a); err != nil {
			return value{}, err
		}
	}
	if n.op == "call" {
		return e.call(n.name, args)
	}
	if len(args) == 1 {
		return e.each(args[0], func(v float64) float64 { return 0 - v })
	}
	f := operators[n.op]
	return e.pair(n.op, args[0], args[1], func(a, b float64) float64 {
		if math.IsNaN(a) || math.IsNaN(b) {
			return missing
		}
		return f(a, b)
	})
}

func (e *evaluation) bounded(lines int) error {
	if lines > maxLines {
		return fmt.Errorf("an array may have up to %d time series", maxLines)
	}
	return nil
}

var operators = map[string]func(a, b float64) float64{
	"+": func(a, b float64) float64 { return a + b },
	"-": func(a, b float64) float64 { return a - b },
	"*": func(a, b float64) float64 { return a * b },
	"/": func(a, b float64) float64 {
		if b == 0 {
			return missing
		}
		return a / b
	},
	"^":   math.Pow,
	"==":  func(a, b float64) float64 { return truth(a == b) },
	"!=":  func(a, b float64) float64 { return truth(a != b) },
	"<":   func(a, b float64) float64 { return truth(a < b) },
	">":   func(a, b float64) float64 { return truth(a > b) },
	"<=":  func(a, b float64) float64 { return truth(a <= b) },
	">=":  func(a, b float64) float64 { return truth(a >= b) },
	"AND": func(a, b float64) float64 { return truth(a != 0 && b != 0) },
	"OR":  func(a, b float64) float64 { return truth(a != 0 || b != 0) },
}

// each applies a function to every point.
func (e *evaluation) each(v value, f func(float64) float64) (value, error) {
	if v.kind == aNumber {
		return value{number: finite(f(v.number))}, nil
	}
	return e.perLine(v, func(in, out []float64) {
		for i, x := range in {
			out[i] = finite(f(x))
		}
	})
}

// perLine makes a series out of each.
func (e *evaluation) perLine(v value, f func(in, out []float64)) (value, error) {
	if v.kind != aSeries && v.kind != anArray {
		return v, fmt.Errorf("%s is not a time series", v.kind)
	}
	out := value{kind: v.kind}
	for _, l := range v.lines {
		made, err := e.line(l.Label)
		if err != nil {
			return out, err
		}
		f(l.Values, made.Values)
		out.lines = append(out.lines, made)
	}
	return out, nil
}

// pair joins two values point by point. A number goes with everything, and a series with each series of an array.
func (e *evaluation) pair(op string, a, b value, f func(a, b float64) float64) (value, error) {
	switch {
	case a.kind == aText || b.kind == aText:
		return a, fmt.Errorf("%s does not take a text", op)
	case a.kind == aNumber && b.kind == aNumber:
		return value{number: finite(f(a.number, b.number))}, nil
	case a.kind == anArray && b.kind == anArray:
		return a, fmt.Errorf("%s does not take two arrays of time series", op)
	}
	shape := a
	if b.kind > a.kind {
		shape = b
	}
	out := value{kind: shape.kind}
	for i := range shape.lines {
		made, err := e.line(shape.lines[i].Label)
		if err != nil {
			return out, err
		}
		for j := range made.Values {
			made.Values[j] = finite(f(a.at(i, j), b.at(i, j)))
		}
		out.lines = append(out.lines, made)
	}
	return out, nil
}

// at is the value at a point of a line; numbers and single series are the same for every line.
func (v value) at(line, i int) float64 {
	switch v.kind {
	case aNumber:
		return v.number
	case aSeries:
		return v.lines[0].Values[i]
	}
	return v.lines[line].Values[i]
}

// function is one of CloudWatch's, with how many arguments it takes.
type function struct {
	least, most int
	call        func(e *evaluation, name string, args []value) (value, error)
}

var functions map[string]function

func init() {
	functions = map[string]function{
		"ABS": {1, 1, pointwise(math.Abs)}, "CEIL": {1, 1, pointwise(math.Ceil)}, "FLOOR": {1, 1, pointwise(math.Floor)},
		"LOG": {1, 1, pointwise(math.Log)}, "LOG10": {1, 1, pointwise(math.Log10)},
		"SUM": {1, 1, reduced}, "AVG": {1, 1, reduced}, "MIN": {1, 1, reduced}, "MAX": {1, 1, reduced}, "STDDEV": {1, 1, reduced}, "DATAPOINT_COUNT": {1, 1, reduced},
		"DIFF": {1, 1, stepped}, "DIFF_TIME": {1, 1, stepped}, "RATE": {1, 1, stepped}, "RUNNING_SUM": {1, 1, running},
		"MINUTE": {1, 1, timeOf}, "HOUR": {1, 1, timeOf}, "DAY": {1, 1, timeOf}, "DATE": {1, 1, timeOf}, "MONTH": {1, 1, timeOf}, "YEAR": {1, 1, timeOf}, "EPOCH": {1, 1, timeOf},
		"FILL": {2, 2, fill}, "IF": {2, 3, choose}, "PERIOD": {1, 1, period}, "TIME_SERIES": {1, 1, constant},
		"METRICS": {0, 1, metrics}, "METRIC_COUNT": {1, 1, counted}, "FIRST": {1, 1, ofArray}, "LAST": {1, 1, ofArray}, "REMOVE_EMPTY": {1, 1, withoutEmpty},
		"SLICE": {2, 3, slice}, "SORT": {3, 4, sorted}, "SEARCH": {2, 3, search},
	}
}

func (e *evaluation) call(name string, args []value) (value, error) {
	f := functions[name]
	if len(args) < f.least || len(args) > f.most {
		takes := fmt.Sprintf("%d to %d arguments", f.least, f.most)
		if f.least == f.most {
			takes = fmt.Sprintf("%d argument%s", f.least, plural(f.least))
		}
		return value{}, fmt.Errorf("the function %s takes %s", name, takes)
	}
	v, err := f.call(e, name, args)
	if err != nil && !strings.Contains(err.Error(), "function") {
		err = fmt.Errorf("the function %s: %w", name, err)
	}
	return v, err
}

func pointwise(f func(float64) float64) func(*evaluation, string, []value) (value, error) {
	return func(e *evaluation, _ string, args []value) (value, error) { return e.each(args[0], f) }
}

// total is what a reducing function makes of numbers, those that are missing left out. Without any it is missing, or 0
// for a count.
func total(name string, n int, at func(i int) float64) float64 {
	var sum, squares, count float64
	low, high := math.Inf(1), math.Inf(-1)
	for i := range n {
		if v := at(i); !math.IsNaN(v) {
			sum, squares, count = sum+v, squares+v*v, count+1
			low, high = min(low, v), max(high, v)
		}
	}
	switch {
	case name == "DATAPOINT_COUNT":
		return count
	case count == 0:
		return missing
	case name == "SUM":
		return finite(sum)
	case name == "AVG":
		return finite(sum / count)
	case name == "MIN":
		return low
	case name == "MAX":
		return high
	}
	mean := sum / count
	return finite(math.Sqrt(max(0, squares/count-mean*mean)))
}

// reduced makes a number of a series, and a series of an array.
func reduced(e *evaluation, name string, args []value) (value, error) {
	v := args[0]
	switch v.kind {
	case aNumber:
		return value{number: total(name, 1, func(int) float64 { return v.number })}, nil
	case aSeries:
		l := v.lines[0].Values
		return value{number: total(name, len(l), func(i int) float64 { return l[i] })}, nil
	case aText:
		return v, fmt.Errorf("it takes time series, not %s", v.kind)
	}
	out, err := e.line("")
	if err != nil {
		return v, err
	}
	for j := range out.Values {
		out.Values[j] = total(name, len(v.lines), func(i int) float64 { return v.lines[i].Values[j] })
	}
	return value{kind: aSeries, lines: []Line{out}}, nil
}

// stepped compares each point with the one before it that is there.
func stepped(e *evaluation, name string, args []value) (value, error) {
	return e.perLine(args[0], func(in, out []float64) {
		last := -1
		for i, v := range in {
			if math.IsNaN(v) {
				continue
			}
			if last >= 0 {
				seconds := float64((i - last) * e.grid.Seconds)
				switch name {
				case "DIFF":
					out[i] = finite(v - in[last])
				case "DIFF_TIME":
					out[i] = seconds
				default:
					out[i] = finite((v - in[last]) / seconds)
				}
			}
			last = i
		}
	})
}

func running(e *evaluation, _ string, args []value) (value, error) {
	return e.perLine(args[0], func(in, out []float64) {
		sum := 0.0
		for i, v := range in {
			if !math.IsNaN(v) {
				sum += v
				out[i] = finite(sum)
			}
		}
	})
}

// timeOf is a part of each point's time, in UTC, whether the point is there or not.
func timeOf(e *evaluation, name string, args []value) (value, error) {
	return e.perLine(args[0], func(_, out []float64) {
		for i := range out {
			t := e.grid.Start.Add(time.Duration(i) * e.grid.Period).UTC()
			v := 0
			switch name {
			case "MINUTE":
				v = t.Minute()
			case "HOUR":
				v = t.Hour()
			case "DAY":
				v = (int(t.Weekday())+6)%7 + 1 // Monday is 1
			case "DATE":
				v = t.Day()
			case "MONTH":
				v = int(t.Month())
			case "YEAR":
				v = t.Year()
			default:
				out[i] = float64(t.Unix())
				continue
			}
			out[i] = float64(v)
		}
	})
}

func fill(e *evaluation, _ string, args []value) (value, error) {
	with := args[1]
	switch {
	case with.kind == aText && with.text == "REPEAT":
		return e.perLine(args[0], func(in, out []float64) {
			last := missing
			for i, v := range in {
				if !math.IsNaN(v) {
					last = v
				}
				out[i] = last
			}
		})
	case with.kind == aText && with.text == "LINEAR":
		return e.perLine(args[0], func(in, out []float64) {
			last := -1
			for i, v := range in {
				if math.IsNaN(v) {
					continue
				}
				for j := last + 1; last >= 0 && j < i; j++ {
					out[j] = finite(in[last] + (v-in[last])*float64(j-last)/float64(i-last))
				}
				out[i], last = v, i
			}
		})
	case with.kind != aNumber && with.kind != aSeries:
		return with, fmt.Errorf("it fills with a number, a time series, REPEAT or LINEAR")
	case args[0].kind != aSeries && args[0].kind != anArray:
		return with, fmt.Errorf("it takes a time series, not %s", args[0].kind)
	}
	return e.pair("FILL", args[0], with, func(a, b float64) float64 {
		if math.IsNaN(a) {
			return b
		}
		return a
	})
}

// choose is IF: point by point, what a condition that is not 0 chooses. Where the condition is missing, so is the result; and
// where it is 0 and nothing is given for that.
func choose(e *evaluation, _ string, args []value) (value, error) {
	cond, shape := args[0], args[0]
	for _, v := range args {
		switch {
		case v.kind == aText:
			return v, fmt.Errorf("it does not take a text")
		case v.kind == anArray && shape.kind == anArray && len(v.lines) != len(shape.lines):
			return v, fmt.Errorf("its arrays have different lengths")
		}
		if v.kind > shape.kind {
			shape = v
		}
	}
	pick := func(line, i int) float64 {
		switch c := cond.at(line, i); {
		case math.IsNaN(c):
			return missing
		case c != 0:
			return args[1].at(line, i)
		}
		if len(args) == 2 {
			return missing
		}
		return args[2].at(line, i)
	}
	if shape.kind == aNumber {
		return value{number: pick(0, 0)}, nil
	}
	out := value{kind: shape.kind}
	for n := range shape.lines {
		made, err := e.line(shape.lines[n].Label)
		if err != nil {
			return out, err
		}
		for i := range made.Values {
			made.Values[i] = pick(n, i)
		}
		out.lines = append(out.lines, made)
	}
	return out, nil
}

func period(e *evaluation, _ string, args []value) (value, error) {
	if args[0].kind != aSeries {
		return value{}, fmt.Errorf("it takes a time series, not %s", args[0].kind)
	}
	return value{number: float64(e.grid.Seconds)}, nil
}

func constant(e *evaluation, _ string, args []value) (value, error) {
	if args[0].kind != aNumber {
		return value{}, fmt.Errorf("it takes a number, not %s", args[0].kind)
	}
	l, err := e.line("")
	for i := range l.Values {
		l.Values[i] = args[0].number
	}
	return value{kind: aSeries, lines: []Line{l}}, err
}

func metrics(e *evaluation, _ string, args []value) (value, error) {
	containing := ""
	if len(args) == 1 {
		if args[0].kind != aText {
			return value{}, fmt.Errorf("it takes a text, not %s", args[0].kind)
		}
		containing = args[0].text
	}
	lines, err := e.metrics(containing)
	if err == nil {
		err = e.bounded(len(lines))
	}
	return value{kind: anArray, lines: lines}, err
}

func needArray(v value) error {
	if v.kind != anArray {
		return fmt.Errorf("it takes an array of time series, not %s", v.kind)
	}
	return nil
}

func counted(_ *evaluation, _ string, args []value) (value, error) {
	if args[0].kind == aSeries {
		return value{number: 1}, nil
	}
	return value{number: float64(len(args[0].lines))}, needArray(args[0])
}

// ofArray is the first or last series of an array.
func ofArray(e *evaluation, name string, args []value) (value, error) {
	if err := needArray(args[0]); err != nil {
		return value{}, err
	}
	lines := args[0].lines
	switch {
	case len(lines) == 0:
		l, err := e.line("")
		return value{kind: aSeries, lines: []Line{l}}, err
	case name == "FIRST":
		return value{kind: aSeries, lines: lines[:1]}, nil
	}
	return value{kind: aSeries, lines: lines[len(lines)-1:]}, nil
}

func withoutEmpty(_ *evaluation, _ string, args []value) (value, error) {
	out := value{kind: anArray}
	for _, l := range args[0].lines {
		if slices.ContainsFunc(l.Values, func(v float64) bool { return !math.IsNaN(v) }) {
			out.lines = append(out.lines, l)
		}
	}
	return out, needArray(args[0])
}

// slice is a part of an array: from an index, counted from 0, up to another one.
func slice(_ *evaluation, _ string, args []value) (value, error) {
	if err := needArray(args[0]); err != nil {
		return value{}, err
	}
	n := len(args[0].lines)
	bound := []int{0, n}
	for i, a := range args[1:] {
		if a.kind != aNumber {
			return a, fmt.Errorf("its bounds are numbers, not %s", a.kind)
		}
		if !math.IsNaN(a.number) {
			bound[i] = int(max(0, min(float64(n), a.number)))
		}
	}
	return value{kind: anArray, lines: args[0].lines[min(bound[0], bound[1]):bound[1]]}, nil
}

// sorted orders an array by what a function makes of each series; those without data come last.
func sorted(_ *evaluation, _ string, args []value) (value, error) {
	if err := needArray(args[0]); err != nil {
		return value{}, err
	}
	by, order := args[1].text, args[2].text
	if !slices.Contains([]string{"AVG", "MIN", "MAX", "SUM"}, by) || order != "ASC" && order != "DESC" {
		return value{}, fmt.Errorf("it sorts by AVG, MIN, MAX or SUM, in the order ASC or DESC")
	}
	type ranked struct {
		line Line
		by   float64
	}
	list := make([]ranked, len(args[0].lines))
	for i, l := range args[0].lines {
		list[i] = ranked{l, total(by, len(l.Values), func(i int) float64 { return l.Values[i] })}
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i].by, list[j].by
		switch {
		case math.IsNaN(a) || math.IsNaN(b):
			return !math.IsNaN(a) && math.IsNaN(b)
		case order == "ASC":
			return a < b
		}
		return a > b
	})
	if len(args) == 4 {
		if args[3].kind != aNumber {
			return value{}, fmt.Errorf("how many is a number, not %s", args[3].kind)
		}
		if !math.IsNaN(args[3].number) {
			list = list[:int(max(0, min(float64(len(list)), args[3].number)))]
		}
	}
	out := value{kind: anArray}
	for _, r := range list {
		out.lines = append(out.lines, r.line)
	}
	return out, nil
}

func search(e *evaluation, _ string, args []value) (value, error) {
	if e.search == nil {
		return value{}, fmt.Errorf("the function SEARCH is not supported here")
	}
	switch {
	case args[0].kind != aText || args[1].kind != aText:
		return value{}, fmt.Errorf("it takes two texts and a period")
	case len(args) == 3 && (args[2].kind != aNumber || !(args[2].number >= 1) || args[2].number > 86400*365):
		return value{}, fmt.Errorf("its period is a number of seconds")
	}
	lines, err := e.search(args[0].text, args[1].text)
	if err == nil {
		err = e.bounded(len(lines))
	}
	return value{kind: anArray, lines: lines}, err
}
