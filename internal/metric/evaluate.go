package metric

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// States of an alarm.
const (
	StateOK           = "OK"
	StateAlarm        = "ALARM"
	StateInsufficient = "INSUFFICIENT_DATA"
)

// Treatments of missing data.
const (
	Missing      = "missing"
	Ignore       = "ignore"
	Breaching    = "breaching"
	NotBreaching = "notBreaching"
)

// Datapoint is the statistic of one period. A missing one has no value.
type Datapoint struct {
	Time    time.Time
	Value   float64
	Missing bool
	Low     bool // a percentile of too few values to say much
}

// Verdict is what an evaluation finds. State is empty when the alarm keeps the one that it has.
type Verdict struct {
	State, Reason, ReasonData string
	Value                     float64 // of the newest period that has data
	HasValue                  bool
	// Of the newest periods that have data, N at most.
	N                         int
	Average, Minimum, Maximum float64
}

// rangeOf is how many periods an evaluation looks at for n that matter: CloudWatch reads more, so that late and missing
// data can be told apart. Its formula isn't published; five for three is (CloudWatch's user guide, missing data).
func rangeOf(n int) int { return n + 2 }

// breaches tells whether a value is beyond the threshold.
func breaches(comparison string, v, threshold float64) bool {
	switch comparison {
	case "GreaterThanThreshold":
		return v > threshold
	case "GreaterThanOrEqualToThreshold":
		return v >= threshold
	case "LessThanThreshold":
		return v < threshold
	case "LessThanOrEqualToThreshold":
		return v <= threshold
	}
	return false
}

// Evaluate judges an alarm by the periods of its evaluation range, oldest first, and says why. Pure.
func Evaluate(a Alarm, points []Datapoint, now time.Time) Verdict {
	v, real, breaching := judge(a, points, nil)
	if a.LowSampleCount == "ignore" && slices.ContainsFunc(real, func(p Datapoint) bool { return p.Low }) {
		v.State = "" // it keeps the one that it has
	}
	if v.State != "" {
		v.Reason = reason(a, v.State, real, breaching)
		v.ReasonData = reasonData(a, real, now)
	}
	return v
}

// Judge is Evaluate without the words. The datapoints that have a value are put into scratch, which may be nil.
func Judge(a Alarm, points, scratch []Datapoint) Verdict {
	v, _, _ := judge(a, points, scratch)
	return v
}

// judge has the rules that reproduce the published table of M out of N alarms with missing data.
func judge(a Alarm, points, scratch []Datapoint) (v Verdict, real []Datapoint, breaching int) {
	n, m := a.EvaluationPeriods, a.breachesToAlarm()
	real = scratch[:0]
	oldestBreach := 0 // age of the oldest breaching one, the newest period being 1
	for i, p := range points {
		if p.Missing {
			continue
		}
		real = append(real, p)
		if breaches(a.Comparison, p.Value, a.Threshold) {
			breaching++
			if oldestBreach == 0 {
				oldestBreach = len(points) - i
			}
		}
	}
	if len(real) > 0 {
		v.Value, v.HasValue = real[len(real)-1].Value, true
	}
	if len(real) < n {
		v.State = withMissing(a, len(real), breaching, oldestBreach)
		v.sumUp(real)
		return v, real, breaching
	}
	real = real[len(real)-n:]
	v.sumUp(real)
	breaching = 0
	for _, p := range real {
		if breaches(a.Comparison, p.Value, a.Threshold) {
			breaching++
		}
	}
	v.State = StateOK
	if breaching >= m {
		v.State = StateAlarm
	}
	return v, real, breaching
}

func (v *Verdict) sumUp(real []Datapoint) {
	for _, p := range real {
		if v.N++; v.N == 1 {
			v.Minimum, v.Maximum = p.Value, p.Value
		}
		v.Average += p.Value
		v.Minimum, v.Maximum = min(v.Minimum, p.Value), max(v.Maximum, p.Value)
	}
	if v.N > 0 {
		v.Average /= float64(v.N)
	}
}

// withMissing judges when fewer than N periods have data; empty keeps the state.
func withMissing(a Alarm, real, breaching, oldestBreach int) string {
	n, m := a.EvaluationPeriods, a.breachesToAlarm()
	alarm := func(is bool) string {
		if is {
			return StateAlarm
		}
		return StateOK
	}
	switch a.TreatMissingData {
	case Breaching:
		return alarm(breaching+n-real >= m)
	case NotBreaching:
		return alarm(breaching >= m)
	}
	ignore := a.TreatMissingData == Ignore
	switch {
	case real == 0 && ignore:
		return ""
	case real == 0:
		return StateInsufficient
	case breaching >= m:
		return StateAlarm
	case breaching > 0 && breaching == real: // too early to tell
		if !ignore && oldestBreach >= m {
			return StateAlarm
		}
		return ""
	}
	return StateOK
}

var relation = map[string]string{"GreaterThanThreshold": "greater than", "GreaterThanOrEqualToThreshold": "greater than or equal to",
	"LessThanThreshold": "less than", "LessThanOrEqualToThreshold": "less than or equal to"}

// reason is CloudWatch's sentence about a state.
func reason(a Alarm, state string, real []Datapoint, breaching int) string {
	n, m := a.EvaluationPeriods, a.breachesToAlarm()
	if state == StateInsufficient {
		return fmt.Sprintf("Insufficient Data: %s unknown.", were(n))
	}
	if len(real) == 0 {
		return fmt.Sprintf("Threshold Crossed: no datapoints were received for %d period%s and %s missing datapoint%s %s treated as [%s].", n, plural(n), strconv.Itoa(n), plural(n), wasWere(n),
			map[bool]string{true: "Breaching", false: "NonBreaching"}[state == StateAlarm])
	}
	count, not, minimum := breaching, "", ""
	if state == StateOK {
		count, not = len(real)-breaching, "not "
	}
	switch {
	case a.State == StateOK && state == StateAlarm:
		minimum = fmt.Sprintf(" (minimum %d datapoint%s for OK -> ALARM transition)", m, plural(m))
	case a.State == StateAlarm && state == StateOK:
		minimum = fmt.Sprintf(" (minimum %d datapoint%s for ALARM -> OK transition)", n-m+1, plural(n-m+1))
	}
	var list []string
	for i := len(real) - 1; i >= 0; i-- {
		if p := real[i]; breaches(a.Comparison, p.Value, a.Threshold) == (state == StateAlarm) {
			list = append(list, fmt.Sprintf("%s (%s)", decimal(p.Value), p.Time.UTC().Format("02/01/06 15:04:05")))
		}
	}
	return fmt.Sprintf("Threshold Crossed: %d out of the last %d datapoints [%s] %s %s%s the threshold (%s)%s.", count, n, strings.Join(list, ", "), wasWere(count), not, relation[a.Comparison], decimal(a.Threshold), minimum)
}

func were(n int) string {
	return fmt.Sprintf("%d datapoint%s %s", n, plural(n), wasWere(n))
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

func wasWere(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// decimal writes a number as Java does: always with a fraction.
func decimal(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// reasonData is the machine-readable form of a reason.
func reasonData(a Alarm, real []Datapoint, now time.Time) string {
	const layout = "2006-01-02T15:04:05.000-0700"
	type evaluated struct {
		Timestamp string  `json:"timestamp"`
		Value     float64 `json:"value"`
	}
	d := struct {
		Version   string      `json:"version"`
		QueryDate string      `json:"queryDate"`
		StartDate string      `json:"startDate,omitempty"`
		Statistic string      `json:"statistic,omitempty"`
		Period    int         `json:"period"`
		Recent    []float64   `json:"recentDatapoints"`
		Threshold float64     `json:"threshold"`
		Evaluated []evaluated `json:"evaluatedDatapoints"`
	}{Version: "1.0", QueryDate: now.UTC().Format(layout), Statistic: cmp.Or(a.Statistic, a.ExtendedStatistic), Period: a.Period, Threshold: a.Threshold, Recent: []float64{}, Evaluated: []evaluated{}}
	if len(real) > 0 {
		d.StartDate = real[0].Time.UTC().Format(layout)
	}
	for i, p := range real {
		d.Recent = append(d.Recent, p.Value)
		q := real[len(real)-1-i]
		d.Evaluated = append(d.Evaluated, evaluated{q.Time.UTC().Format(layout), q.Value})
	}
	b, err := json.Marshal(d)
	if err != nil {
		return ""
	}
	return string(b)
}

// Recent are the values that the alarm's state was found with, oldest first, as far as its reason's data tell.
func (a Alarm) Recent() []float64 {
	var d struct {
		Recent []float64 `json:"recentDatapoints"`
	}
	if json.Unmarshal([]byte(a.StateReasonData), &d) != nil {
		return nil
	}
	return d.Recent
}
