package cwapi

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/cloudwatch"
	"skerry/internal/fault"
	"skerry/internal/metric"
)

var idForm = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]*$`)

// checkQueries refuses queries that CloudWatch refuses.
func checkQueries(qs []cloudwatch.MetricDataQuery) error {
	if len(qs) == 0 || len(qs) > maxQueries {
		return invalid("The collection MetricDataQueries must have a size between 1 and %d.", maxQueries)
	}
	seen := map[string]bool{}
	for i, q := range qs {
		id := api.Val(q.Id)
		name := fmt.Sprintf("MetricDataQueries.member.%d", i+1)
		switch {
		case !idForm.MatchString(id):
			return fault.New(fault.Invalid, "ValidationError", "The value %s for parameter %s.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$", id, name)
		case seen[id]:
			return fault.New(fault.Invalid, "ValidationError", "The values for parameter id in MetricDataQueries are not unique.")
		case q.Expression != nil && q.MetricStat != nil:
			return combination("Exactly one of the parameters %s.MetricStat and %s.Expression must be given.", name, name)
		case q.Expression != nil:
			seen[id] = true
			continue
		case q.MetricStat == nil || q.MetricStat.Metric == nil:
			return combination("Exactly one of the parameters %s.MetricStat and %s.Expression must be given.", name, name)
		case q.AccountId != nil:
			return unserved("The parameter " + name + ".AccountId")
		}
		seen[id] = true
		st := api.Val(q.MetricStat.Stat)
		if !slices.Contains(metric.Statistics, st) && !metric.IsExtended(st) {
			return fault.New(fault.Invalid, "ValidationError", "The value %s for parameter %s.MetricStat.Stat is not a valid statistic.", st, name)
		}
		if u := api.Val(q.MetricStat.Unit); u != "" && !metric.Units[u] {
			return invalid("The value %s for parameter %s.MetricStat.Unit is invalid.", u, name)
		}
	}
	return nil
}

// cursor is where a page of GetMetricData begins: at a result of a query, after some of its values.
type cursor struct{ Query, Result, Skip int }

func (s *Server) getMetricData(c *api.Call, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
	if err := checkQueries(in.MetricDataQueries); err != nil {
		return nil, err
	}
	most := metric.MaxPoints
	if in.MaxDatapoints != nil {
		if most = int(*in.MaxDatapoints); most < 1 || most > metric.MaxPoints {
			return nil, invalid("The value %d for parameter MaxDatapoints is invalid. It must be between 1 and %d.", most, metric.MaxPoints)
		}
	}
	ascending := false
	switch by := api.Val(in.ScanBy); by {
	case "", "TimestampDescending":
	case "TimestampAscending":
		ascending = true
	default:
		return nil, invalid("The value %s for parameter ScanBy is invalid.", by)
	}
	from := cursor{}
	if t := api.Val(in.NextToken); t != "" {
		b, err := base64.RawURLEncoding.DecodeString(t)
		if err != nil || json.Unmarshal(b, &from) != nil || from.Query < 0 || from.Query >= len(in.MetricDataQueries) || from.Result < 0 || from.Skip < 0 {
			return nil, fault.New(fault.Invalid, "InvalidNextToken", "The value for parameter NextToken is invalid.")
		}
	}
	math, err := mathOf(in.MetricDataQueries)
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.GetMetricDataOutput{MetricDataResults: []cloudwatch.MetricDataResult{}, Messages: []cloudwatch.MessageData{}}
	for i, q := range in.MetricDataQueries {
		if i < from.Query || !api.Val(orTrue(q.ReturnData)) {
			continue
		}
		var results []cloudwatch.MetricDataResult
		if q.Expression != nil {
			results, err = s.computed(c, in, math, q, ascending)
		} else {
			results, err = s.result(c, in, q, ascending)
		}
		if err != nil {
			return nil, err
		}
		for n, r := range results {
			skip := 0
			if i == from.Query {
				if n < from.Result {
					continue
				}
				if n == from.Result {
					skip = from.Skip
				}
			}
			skip = min(skip, len(r.Values))
			r.Timestamps, r.Values = r.Timestamps[skip:], r.Values[skip:]
			if len(r.Values) > most {
				r.Timestamps, r.Values, r.StatusCode = r.Timestamps[:most], r.Values[:most], api.Ptr("PartialData")
				b, err := json.Marshal(cursor{i, n, skip + most})
				if err != nil {
					return nil, err
				}
				out.NextToken = api.Ptr(base64.RawURLEncoding.EncodeToString(b))
				out.MetricDataResults = append(out.MetricDataResults, r)
				return out, nil
			}
			most -= len(r.Values)
			out.MetricDataResults = append(out.MetricDataResults, r)
		}
	}
	return out, nil
}

// mathOf reads the queries as ones that read one another.
func mathOf(qs []cloudwatch.MetricDataQuery) (*metric.Math, error) {
	list := make([]metric.Query, len(qs))
	for i, q := range qs {
		list[i] = metric.Query{ID: api.Val(q.Id), Label: api.Val(q.Label), Expression: api.Val(q.Expression), Period: int(api.Val(q.Period))}
		st := q.MetricStat
		if st == nil {
			continue
		}
		dims, err := dimensions(st.Metric.Dimensions)
		if err != nil {
			return nil, err
		}
		if list[i].Label == "" {
			list[i].Label = api.Val(st.Metric.MetricName)
		}
		list[i].Label, err = label(list[i].Label, st, dims)
		if err != nil {
			return nil, err
		}
		list[i].Period = int(api.Val(st.Period))
		list[i].Of = &metric.Stat{Namespace: api.Val(st.Metric.Namespace), Metric: api.Val(st.Metric.MetricName), Statistic: api.Val(st.Stat), Unit: api.Val(st.Unit), Dimensions: dims}
	}
	return metric.ParseMath(list, true)
}

// computed are the results of an expression: one for each series that it comes to.
func (s *Server) computed(c *api.Call, in *cloudwatch.GetMetricDataInput, math *metric.Math, q cloudwatch.MetricDataQuery, ascending bool) ([]cloudwatch.MetricDataResult, error) {
	period := math.Period(*q.Id)
	if period == 0 {
		return nil, fault.New(fault.Invalid, "ValidationError", "Error in expression '%s': it reads no metric, so that a Period must be given.", *q.Id)
	}
	win, err := asked(c.Now, in.StartTime, in.EndTime, period)
	if err != nil {
		return nil, err
	}
	win = win.clip(c.Now)
	start := metric.Floor(win.start, win.period)
	n := int64(win.end.Sub(start)+win.period-1) / int64(win.period)
	if n > metric.MaxPoints {
		return nil, invalid("The query asks for more than %d points. Make the period longer or the time shorter.", metric.MaxPoints)
	}
	lines, single, err := math.Lines(*q.Id, metric.Grid{Start: start, Period: win.period, Seconds: period, N: int(n)}, s.Metrics.Source(c.Scope()))
	if err != nil {
		return nil, err
	}
	if strings.Contains(api.Val(q.Label), "${") {
		return nil, unserved("A dynamic label of an expression")
	}
	var out []cloudwatch.MetricDataResult
	for _, l := range lines {
		r := cloudwatch.MetricDataResult{Id: q.Id, StatusCode: api.Ptr("Complete"), Timestamps: []time.Time{}, Values: []float64{}}
		for i, v := range l.Values {
			if v == v { // else it is missing
				r.Timestamps, r.Values = append(r.Timestamps, start.Add(time.Duration(i)*win.period)), append(r.Values, v)
			}
		}
		if !ascending {
			slices.Reverse(r.Timestamps)
			slices.Reverse(r.Values)
		}
		text := cmp.Or(api.Val(q.Label), *q.Id)
		switch {
		case single:
		case q.Label == nil:
			text = l.Label
		default:
			text = strings.TrimSpace(*q.Label + " " + l.Label)
		}
		r.Label = &text
		out = append(out, r)
	}
	return out, nil
}

func orTrue(v *bool) *bool {
	if v == nil {
		return api.Ptr(true)
	}
	return v
}

func (s *Server) result(c *api.Call, in *cloudwatch.GetMetricDataInput, q cloudwatch.MetricDataQuery, ascending bool) ([]cloudwatch.MetricDataResult, error) {
	st := q.MetricStat
	r := cloudwatch.MetricDataResult{Id: q.Id, StatusCode: api.Ptr("Complete"), Timestamps: []time.Time{}, Values: []float64{}}
	win, err := asked(c.Now, in.StartTime, in.EndTime, int(api.Val(st.Period)))
	if err != nil {
		return nil, err
	}
	dims, err := dimensions(st.Metric.Dimensions)
	if err != nil {
		return nil, err
	}
	win = win.clip(c.Now)
	var points []metric.Point
	if metric.IsExtended(api.Val(st.Stat)) {
		points, err = s.Metrics.QueryDistribution(c.Scope(), api.Val(st.Metric.Namespace), api.Val(st.Metric.MetricName), dims, win.start, win.end, win.period, api.Val(st.Unit), false)
	} else {
		points, err = s.Metrics.Query(c.Scope(), api.Val(st.Metric.Namespace), api.Val(st.Metric.MetricName), dims, win.start, win.end, win.period, api.Val(st.Unit))
	}
	if err != nil {
		return nil, err
	}
	if !ascending {
		slices.Reverse(points)
	}
	for _, p := range points {
		v, ok := p.Stat(api.Val(st.Stat))
		if !ok {
			continue // nothing is known of how its values are spread
		}
		r.Timestamps, r.Values = append(r.Timestamps, p.Time), append(r.Values, v)
	}
	if r.Label = q.Label; r.Label == nil {
		r.Label = st.Metric.MetricName
	}
	text, err := label(*r.Label, st, dims)
	r.Label = &text
	return []cloudwatch.MetricDataResult{r}, err
}

// label puts values in the place of the dynamic parts of a label that the query alone tells, and refuses others.
func label(text string, st *cloudwatch.MetricStat, dims map[string]string) (string, error) {
	rs := []string{"${PROP('MetricName')}", api.Val(st.Metric.MetricName), "${PROP('Namespace')}", api.Val(st.Metric.Namespace), "${PROP('Stat')}", api.Val(st.Stat),
		"${PROP('Period')}", fmt.Sprint(api.Val(st.Period))}
	for k, v := range dims {
		rs = append(rs, "${PROP('Dim."+k+"')}", v)
	}
	if left := strings.NewReplacer(blank(rs)...).Replace(text); strings.Contains(left, "${") {
		return "", unserved("The dynamic label " + left[strings.Index(left, "${"):])
	}
	return strings.NewReplacer(rs...).Replace(text), nil
}

// blank replaces the new ones of pairs of old and new by nothing.
func blank(pairs []string) []string {
	out := slices.Clone(pairs)
	for i := 1; i < len(out); i += 2 {
		out[i] = ""
	}
	return out
}

// listPage is how many metrics a page of ListMetrics has.
const listPage = 500

func (s *Server) listMetrics(c *api.Call, in *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
	f := metric.Filter{Namespace: api.Val(in.Namespace), Name: api.Val(in.MetricName), Dimensions: map[string]string{}}
	for _, d := range in.Dimensions {
		f.Dimensions[api.Val(d.Name)] = api.Val(d.Value)
	}
	switch v := in.RecentlyActive; {
	case v == nil:
	case *v == "PT3H":
		f.ActiveWithin = 3 * time.Hour
	default:
		return nil, invalid("The value %s for parameter RecentlyActive is invalid. Expecting PT3H.", *v)
	}
	if api.Val(in.IncludeLinkedAccounts) {
		return nil, unserved("The parameter IncludeLinkedAccounts")
	}
	out := &cloudwatch.ListMetricsOutput{Metrics: []cloudwatch.Metric{}}
	if in.OwningAccount != nil && *in.OwningAccount != c.Account {
		return out, nil
	}
	key := func(m metric.Series) string {
		k := m.Namespace + "\x00" + m.Name
		for _, d := range dimensionList(m.Dimensions) {
			k += "\x00" + *d.Name + "\x00" + *d.Value
		}
		return k
	}
	all, next, err := page(s.Metrics.List(c.Scope(), f), key, in.NextToken, listPage)
	for _, m := range all {
		out.Metrics = append(out.Metrics, cloudwatch.Metric{Namespace: api.Ptr(m.Namespace), MetricName: api.Ptr(m.Name), Dimensions: dimensionList(m.Dimensions)})
	}
	out.NextToken = next
	return out, err
}
