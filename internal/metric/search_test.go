package metric

import (
	"math"
	"strings"
	"testing"
	"time"

	"skerry/internal/scope"
)

// TestSearch: metrics found by their namespace, dimensions, and the words of what they are called.
func TestSearch(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
	st, err := Open("", Options{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	sc := scope.Scope{Account: "000000000000", Region: "us-east-1"}
	put := func(ns, name string, v float64, dims ...string) {
		d := map[string]string{}
		for i := 0; i < len(dims); i += 2 {
			d[dims[i]] = dims[i+1]
		}
		if err := st.Put(sc, []Datum{{Namespace: ns, Name: name, Dimensions: d, Value: v, Timestamp: now}}); err != nil {
			t.Fatal(err)
		}
	}
	put("AWS/EC2", "CPUUtilization", 1, "AutoScalingGroupName", "web-blue")
	put("AWS/EC2", "CPUUtilization", 2, "AutoScalingGroupName", "web-green")
	put("AWS/EC2", "CPUUtilization", 4, "InstanceId", "i-1")
	put("AWS/EC2", "NetworkIn", 8, "AutoScalingGroupName", "web-blue")
	put("My App", "queueDepth", 16, "Queue Name", "jobs")
	put("My App", "queueDepth", 32)
	sum := func(expression string) (float64, error) {
		m, err := ParseMath([]Query{{ID: "e", Expression: expression}}, true)
		if err != nil {
			return 0, err
		}
		lines, _, err := m.Lines("e", Grid{Start: now, Period: time.Minute, Seconds: 60, N: 1}, st.Source(sc))
		if err != nil || len(lines) != 1 || math.IsNaN(lines[0].Values[0]) {
			return 0, err
		}
		return lines[0].Values[0], nil
	}
	for what, want := range map[string]float64{
		`{AWS/EC2,AutoScalingGroupName} MetricName="CPUUtilization"`: 3, `{AWS/EC2,AutoScalingGroupName} MetricName="CPUUtilization" web-green`: 2, `{AWS/EC2,AutoScalingGroupName}`: 11,
		`{AWS/EC2,InstanceId}`: 4, `{AWS/EC2}`: 0, `{AWS/EC2,AutoScalingGroupName,InstanceId}`: 0, `{AWS/EC2,AutoScalingGroupName}, network`: 8, `utilization`: 7, `cpuutilization`: 7, `cpu`: 7, `CPUUtil`: 0, `WEB blue`: 9,
		`{"My App","Queue Name"} depth`: 16, `Namespace="My App" queue`: 48, `queue NOT jobs`: 32, `"web-blue" AND NOT NetworkIn`: 1, `AutoScalingGroupName=("web-blue" OR "web-green") MetricName=CPUUtilization`: 3,
		`(green OR "i-1") MetricName="CPUUtilization"`: 6, `"web"`: 0, `MetricName=Network`: 8, `networkIN`: 8, `"Queue Name"=jobs`: 16, `OR`: 0,
	} {
		if got, err := sum("SUM(SEARCH('" + what + "', 'Average', 60))"); got != want || err != nil && what != "OR" {
			t.Errorf("%s: %v %v, wanted %v", what, got, err, want)
		}
	}
	for what, part := range map[string]string{"SUM(SEARCH('', 'Sum'))": "missing", "SUM(SEARCH('{a', 'Sum'))": "'}' is missing", `SUM(SEARCH('"a', 'Sum'))`: "no end", "SUM(SEARCH('(a', 'Sum'))": "')' is missing",
		"SUM(SEARCH('a', 'Most'))": "not a statistic", "SUM(SEARCH(':aws.AccountId = LOCAL', 'Sum'))": "not supported", "SUM(SEARCH('" + strings.Repeat("(", 200) + "a', 'Sum'))": "too many", "SUM(SEARCH('a)', 'Sum'))": "not expected",
		"SUM(SEARCH('" + strings.Repeat("a ", 300) + "', 'Sum'))": "too many"} {
		if _, err := sum(what); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%.60s: %v, wanted %q", what, err, part)
		}
	}
	if _, err := sum(strings.Repeat("SUM(SEARCH('web', 'Sum'))+", 60) + "SUM(SEARCH('web', 'Sum'))"); err == nil || !strings.Contains(err.Error(), "up to 50 times") {
		t.Errorf("many searches: %v", err)
	}
}

// FuzzSearch: whatever is read can be matched.
func FuzzSearch(f *testing.F) {
	for _, s := range []string{`{AWS/EC2,InstanceId} MetricName="CPUUtilization" AND (a OR NOT b)`, `a=("b" OR c)`, "((((", `{"`} {
		f.Add(s)
	}
	m := Series{Namespace: "AWS/EC2", Name: "CPUUtilization", Dimensions: map[string]string{"InstanceId": "i-1"}}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSearch(text); err == nil && s.term != nil {
			s.term.matches(&m)
		}
	})
}
