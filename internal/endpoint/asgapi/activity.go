package asgapi

import (
	"slices"
	"time"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

func (s *Server) describeScalingActivities(c *api.Call, in *as.DescribeScalingActivitiesType) (*as.ActivitiesType, error) {
	out := &as.ActivitiesType{}
	match, err := activityFilter(in.Filters)
	if err != nil {
		return nil, err
	}
	return out, c.View(func(tx store.Tx) error {
		name := arnName(c.Scope(), api.Val(in.AutoScalingGroupName))
		deleted := api.Val(in.IncludeDeletedGroups)
		if name != "" && !deleted {
			if _, err := scaling.GetGroup(tx, c.Scope(), name); err != nil {
				return err
			}
		}
		var rows []scaling.Activity
		take := func(a scaling.Activity) {
			if (deleted || !a.Deleted) && (len(in.ActivityIds) == 0 || slices.Contains(in.ActivityIds, a.ID)) && match(a) {
				rows = append(rows, a)
			}
		}
		if name != "" {
			for a := range scaling.Activities.By(tx, "group", c.Scope().Key(name)) {
				take(a)
			}
		} else {
			for a := range scaling.Activities.Prefix(tx, c.Scope().Prefix()) {
				take(a)
			}
		}
		scaling.SortActivities(rows)
		rows, next, err := page(rows, func(a scaling.Activity) string { return a.ID }, in.MaxRecords, in.NextToken, 100, 100)
		if err != nil {
			return err
		}
		out.NextToken = next
		for _, a := range rows {
			v := activityWire(a)
			if deleted && !a.Deleted {
				v.AutoScalingGroupState = api.Ptr("InService")
			}
			out.Activities = append(out.Activities, v)
		}
		return nil
	})
}

// activityFilter reads the filters StartTimeLowerBound, StartTimeUpperBound and Status.
func activityFilter(filters []as.Filter) (func(scaling.Activity) bool, error) {
	var after, before time.Time
	var status []string
	for _, f := range filters {
		var to *time.Time
		switch n := api.Val(f.Name); n {
		case "Status":
			status = append(status, f.Values...)
			continue
		case "StartTimeLowerBound":
			to = &after
		case "StartTimeUpperBound":
			to = &before
		default:
			return nil, invalid("Filter type %s is not correct. Allowed Filter types are: StartTimeLowerBound StartTimeUpperBound Status", n)
		}
		if len(f.Values) != 1 {
			return nil, invalid("The filter %s takes one value.", *f.Name)
		}
		t, err := time.Parse(time.RFC3339, f.Values[0])
		if err != nil {
			return nil, invalid("The value %s of the filter %s is not a time such as 2024-03-01T12:00:00Z.", f.Values[0], *f.Name)
		}
		*to = t
	}
	return func(a scaling.Activity) bool {
		return !a.Start.Before(after) && (before.IsZero() || !a.Start.After(before)) && (len(status) == 0 || slices.Contains(status, a.Status))
	}, nil
}

func activityWire(a scaling.Activity) as.Activity {
	w := as.Activity{ActivityId: &a.ID, AutoScalingGroupARN: &a.GroupARN, AutoScalingGroupName: &a.Group, Cause: &a.Cause, Description: &a.Description,
		Details: &a.Details, EndTime: when(a.End), Progress: num(a.Progress), StartTime: when(a.Start), StatusCode: &a.Status, StatusMessage: text(a.StatusMessage)}
	if a.Deleted {
		w.AutoScalingGroupState = api.Ptr("Deleted")
	}
	return w
}

func activitiesWire(list []scaling.Activity) []as.Activity {
	var out []as.Activity
	for _, a := range list {
		out = append(out, activityWire(a))
	}
	return out
}
