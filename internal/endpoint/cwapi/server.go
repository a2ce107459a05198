package cwapi

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/cloudwatch"
	"skerry/internal/fault"
	"skerry/internal/metric"
	"skerry/internal/store"
)

// Server holds the handlers of CloudWatch.
type Server struct {
	DB        *store.DB
	Metrics   *metric.Store
	Evaluator *metric.Evaluator // runs the actions of SetAlarmState
	TimeScale int
}

// Register adds the handlers to the table.
func (s *Server) Register(m *api.Mux) {
	api.Handle(m, cloudwatch.PutMetricData, s.putMetricData)
	api.Handle(m, cloudwatch.GetMetricStatistics, s.getMetricStatistics)
	api.Handle(m, cloudwatch.GetMetricData, s.getMetricData)
	api.Handle(m, cloudwatch.ListMetrics, s.listMetrics)
	api.Handle(m, cloudwatch.PutMetricAlarm, s.putMetricAlarm)
	api.Handle(m, cloudwatch.PutCompositeAlarm, s.putCompositeAlarm)
	api.Handle(m, cloudwatch.DescribeAlarms, s.describeAlarms)
	api.Handle(m, cloudwatch.DescribeAlarmsForMetric, s.describeAlarmsForMetric)
	api.Handle(m, cloudwatch.DescribeAlarmHistory, s.describeAlarmHistory)
	api.Handle(m, cloudwatch.DeleteAlarms, s.deleteAlarms)
	api.Handle(m, cloudwatch.EnableAlarmActions, s.enableAlarmActions)
	api.Handle(m, cloudwatch.DisableAlarmActions, s.disableAlarmActions)
	api.Handle(m, cloudwatch.SetAlarmState, s.setAlarmState)
	api.Handle(m, cloudwatch.TagResource, s.tagResource)
	api.Handle(m, cloudwatch.UntagResource, s.untagResource)
	api.Handle(m, cloudwatch.ListTagsForResource, s.listTagsForResource)
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, "InvalidParameterValue", format, args...)
}

func combination(format string, args ...any) error {
	return fault.New(fault.Invalid, "InvalidParameterCombination", format, args...)
}

// unserved refuses something by its name.
func unserved(what string) error {
	return fault.New(fault.Unsupported, "InvalidParameterValue", "%s is not supported.", what)
}

// page cuts a list that is sorted by key.
func page[T any](all []T, key func(T) string, token *string, size int) ([]T, *string, error) {
	if t := api.Val(token); t != "" {
		b, err := base64.RawURLEncoding.DecodeString(t)
		after, ok := strings.CutPrefix(string(b), "after:")
		if err != nil || !ok {
			return nil, nil, fault.New(fault.Invalid, "InvalidNextToken", "The value for parameter NextToken is invalid.")
		}
		i := slices.IndexFunc(all, func(v T) bool { return key(v) > after })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	if len(all) > size {
		return all[:size], api.Ptr(base64.RawURLEncoding.EncodeToString([]byte("after:" + key(all[size-1])))), nil
	}
	return all, nil, nil
}

// size is the number of items that a page may have.
func size(v *int32, def, most int) (int, error) {
	if v == nil {
		return def, nil
	}
	if n := int(*v); n >= 1 && n <= most {
		return n, nil
	}
	return 0, invalid("The value %d for parameter MaxRecords is invalid. It must be between 1 and %d.", *v, most)
}

func dimensions(in []cloudwatch.Dimension) (map[string]string, error) {
	m := make(map[string]string, len(in))
	for _, d := range in {
		if _, twice := m[api.Val(d.Name)]; twice {
			return nil, invalid("The dimension %s is given twice.", api.Val(d.Name))
		}
		m[api.Val(d.Name)] = api.Val(d.Value)
	}
	return m, nil
}

func dimensionList(m map[string]string) []cloudwatch.Dimension {
	out := []cloudwatch.Dimension{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, cloudwatch.Dimension{Name: api.Ptr(k), Value: api.Ptr(m[k])})
	}
	return out
}

// str is the optional text: empty is absent.
func str(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}
