package describe

import (
	"fmt"
	"slices"
	"testing"

	"skerry/internal/fault"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"abc", "abc", true}, {"abc", "abcd", false}, {"a*", "a", true}, {"a*", "abc", true}, {"*c", "abc", true}, {"a*c*e", "abcde", true},
		{"a*c*e", "abcdf", false}, {"a?c", "abc", true}, {"a?c", "ac", true}, {"a?c", "abbc", false}, {"??", "", true}, {"", "", true}, {"", "a", false},
		{`a\*`, "a*", true}, {`a\*`, "ab", false}, {`a\?`, "a?", true}, {`a\?`, "a", false}, {`a\\b`, `a\b`, true}, {"*", "", true},
		{"ä?", "äö", true}, {"2021-09-29*", "2021-09-29T11:22:33.000Z", true}, {"A", "a", false}, {"*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
	} {
		if got := Match(c.pattern, c.text); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}

type thing struct {
	id, colour string
	tags       map[string]string
}

var things = &Kind[thing]{Min: 5, Max: 10, IDs: "thingsSet",
	Filters: map[string]func(*thing) []string{"colour": func(v *thing) []string { return []string{v.colour} }, "big": func(*thing) []string { return Bool(true) }},
	Tags: func(v *thing, yield func(k, v string) bool) {
		for k, val := range v.tags {
			if !yield(k, val) {
				return
			}
		}
	}}

func page(t *testing.T, q Query, rows []thing) ([]thing, string, error) {
	t.Helper()
	return Page(things, q, slices.Values(rows), func(v thing) string { return v.id }, func(v thing) thing { return v })
}

func code(err error) string {
	if f, ok := fault.As(err); ok {
		return f.Code
	}
	return fmt.Sprint(err)
}

func TestFilters(t *testing.T) {
	rows := []thing{{"1", "red", map[string]string{"Name": "web-1", "env": "prod"}}, {"2", "blue", map[string]string{"Name": "web-2"}}, {"3", "red", nil}}
	for _, c := range []struct {
		filters []Filter
		want    string
	}{
		{nil, "123"},
		{[]Filter{{"colour", []string{"red"}}}, "13"},
		{[]Filter{{"colour", []string{"red", "blue"}}}, "123"},
		{[]Filter{{"colour", []string{"red"}}, {"tag:Name", []string{"web-*"}}}, "1"},
		{[]Filter{{"tag-key", []string{"env"}}}, "1"},
		{[]Filter{{"tag-value", []string{"web-2"}}}, "2"},
		{[]Filter{{"tag:name", []string{"*"}}}, ""},
		{[]Filter{{"big", []string{"false"}}}, ""},
	} {
		out, next, err := page(t, Query{Filters: c.filters}, rows)
		got := ""
		for _, v := range out {
			got += v.id
		}
		if err != nil || next != "" || got != c.want {
			t.Errorf("%v: %q, %q, %v; want %q", c.filters, got, next, err, c.want)
		}
	}
	many := Filter{Name: "colour"}
	for n := range MaxValues + 1 {
		many.Values = append(many.Values, fmt.Sprint(n))
	}
	for want, f := range map[string]Filter{"InvalidParameterValue": {Name: "weight", Values: []string{"1"}}, "FilterLimitExceeded": many} {
		if _, _, err := page(t, Query{Filters: []Filter{f}}, rows); code(err) != want {
			t.Errorf("%s: %v, want %s", f.Name, err, want)
		}
	}
	for _, f := range []Filter{{Name: "colour"}, {Name: "", Values: []string{"x"}}, {Name: "tag:", Values: []string{"x"}}} {
		if _, _, err := page(t, Query{Filters: []Filter{f}}, rows); code(err) != "InvalidParameterValue" {
			t.Errorf("%v: %v", f, err)
		}
	}
}

func TestPagesGiveEachRowOnce(t *testing.T) {
	var rows []thing
	for n := range 23 {
		rows = append(rows, thing{id: fmt.Sprintf("%03d", n), colour: []string{"red", "blue"}[n%2]})
	}
	five := int32(5)
	q := Query{MaxResults: &five, Filters: []Filter{{"colour", []string{"red"}}}}
	var got []string
	pages := 0
	for {
		out, next, err := page(t, q, rows)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, v := range out {
			got = append(got, v.id)
		}
		if next == "" {
			break
		}
		if pages == 1 { // a row that was given out goes, one that was not comes
			rows = append(slices.Delete(slices.Clone(rows), 0, 1), thing{id: "900", colour: "red"})
		}
		q.NextToken = &next
	}
	if len(got) != 13 || pages != 3 || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != 13 {
		t.Errorf("%d pages: %v", pages, got)
	}
}

func TestWindow(t *testing.T) {
	n := func(v int32) *int32 { return &v }
	s := func(v string) *string { return &v }
	for name, c := range map[string]struct {
		q    Query
		code string
	}{
		"too few":      {Query{MaxResults: n(4)}, "InvalidParameterValue"},
		"with ids":     {Query{MaxResults: n(5), HasIDs: true}, "InvalidParameterCombination"},
		"bad token":    {Query{NextToken: s("%%%")}, "InvalidNextToken"},
		"other token":  {Query{NextToken: s("YWJj")}, "InvalidNextToken"},
		"too long":     {Query{NextToken: s(string(make([]byte, 5000)))}, "InvalidNextToken"},
		"empty token":  {Query{NextToken: s("")}, "<nil>"},
		"more is less": {Query{MaxResults: n(5000)}, "<nil>"},
	} {
		if _, _, err := page(t, c.q, nil); code(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}
