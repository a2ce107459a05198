package asgapi

import (
	"slices"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

func (s *Server) describeScalingActivities(c *api.Call, in *as.DescribeScalingActivitiesType) (*as.ActivitiesType, error) {
	out := &as.ActivitiesType{}
	if len(in.Filters) > 0 {
		return nil, invalid("Filters of DescribeScalingActivities are not supported.")
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
			if (deleted || !a.Deleted) && (len(in.ActivityIds) == 0 || slices.Contains(in.ActivityIds, a.ID)) {
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
			out.Activities = append(out.Activities, activityWire(a))
		}
		return nil
	})
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
