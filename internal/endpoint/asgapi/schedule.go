package asgapi

import (
	"slices"
	"time"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/fault"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

// maxBatch is AWS's bound of the batch operations.
const maxBatch = 50

func (s *Server) putScheduledUpdateGroupAction(c *api.Call, in *as.PutScheduledUpdateGroupActionType) (*as.PutScheduledUpdateGroupActionOutput, error) {
	if err := required("ScheduledActionName", in.ScheduledActionName); err != nil {
		return nil, err
	}
	start := in.StartTime
	if start == nil {
		start = in.Time
	}
	a := scheduled(in.ScheduledActionName, start, in.EndTime, in.Recurrence, in.TimeZone, in.MinSize, in.MaxSize, in.DesiredCapacity)
	return nil, s.change(c, in.AutoScalingGroupName, "PutScheduledUpdateGroupAction", func(w *store.WriteTx, g scaling.Group) error {
		a.Scope, a.Group = c.Scope(), g.Name
		return s.Engine.PutSchedule(w, a)
	})
}

func scheduled(name *string, start, end *time.Time, recurrence, zone *string, lo, hi, want *int32) scaling.Scheduled {
	return scaling.Scheduled{Name: api.Val(name), Start: api.Val(start).UTC(), End: api.Val(end).UTC(), Recurrence: api.Val(recurrence), TimeZone: api.Val(zone),
		Min: intPtr(lo), Max: intPtr(hi), Desired: intPtr(want)}
}

// failure is how the batch operations report one action's error.
func failure(name *string, err error) (as.FailedScheduledUpdateGroupActionRequest, bool) {
	f, ok := fault.As(err)
	if !ok || f.Kind == fault.Internal {
		return as.FailedScheduledUpdateGroupActionRequest{}, false
	}
	return as.FailedScheduledUpdateGroupActionRequest{ScheduledActionName: name, ErrorCode: &f.Code, ErrorMessage: &f.Msg}, true
}

func (s *Server) batchPutScheduledUpdateGroupAction(c *api.Call, in *as.BatchPutScheduledUpdateGroupActionType) (*as.BatchPutScheduledUpdateGroupActionAnswer, error) {
	if n := len(in.ScheduledUpdateGroupActions); n < 1 || n > maxBatch {
		return nil, invalid("Between 1 and %d scheduled actions can be specified in one call.", maxBatch)
	}
	out := &as.BatchPutScheduledUpdateGroupActionAnswer{}
	return out, s.change(c, in.AutoScalingGroupName, "BatchPutScheduledUpdateGroupAction", func(w *store.WriteTx, g scaling.Group) error {
		for _, r := range in.ScheduledUpdateGroupActions {
			a := scheduled(r.ScheduledActionName, r.StartTime, r.EndTime, r.Recurrence, r.TimeZone, r.MinSize, r.MaxSize, r.DesiredCapacity)
			a.Scope, a.Group = c.Scope(), g.Name
			if err := s.Engine.PutSchedule(w, a); err != nil {
				f, ok := failure(r.ScheduledActionName, err)
				if !ok {
					return err
				}
				out.FailedScheduledUpdateGroupActions = append(out.FailedScheduledUpdateGroupActions, f)
			}
		}
		return nil
	})
}

func (s *Server) batchDeleteScheduledAction(c *api.Call, in *as.BatchDeleteScheduledActionType) (*as.BatchDeleteScheduledActionAnswer, error) {
	if n := len(in.ScheduledActionNames); n < 1 || n > maxBatch {
		return nil, invalid("Between 1 and %d scheduled actions can be specified in one call.", maxBatch)
	}
	out := &as.BatchDeleteScheduledActionAnswer{}
	return out, s.change(c, in.AutoScalingGroupName, "BatchDeleteScheduledAction", func(w *store.WriteTx, g scaling.Group) error {
		for _, name := range in.ScheduledActionNames {
			if err := s.Engine.DeleteSchedule(w, c.Scope(), g.Name, name); err != nil {
				f, ok := failure(&name, err)
				if !ok {
					return err
				}
				out.FailedScheduledActions = append(out.FailedScheduledActions, f)
			}
		}
		return nil
	})
}

func (s *Server) deleteScheduledAction(c *api.Call, in *as.DeleteScheduledActionType) (*as.DeleteScheduledActionOutput, error) {
	if err := required("ScheduledActionName", in.ScheduledActionName); err != nil {
		return nil, err
	}
	return nil, s.change(c, in.AutoScalingGroupName, "DeleteScheduledAction", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.DeleteSchedule(w, c.Scope(), g.Name, *in.ScheduledActionName)
	})
}

func (s *Server) describeScheduledActions(c *api.Call, in *as.DescribeScheduledActionsType) (*as.ScheduledActionsType, error) {
	out := &as.ScheduledActionsType{}
	return out, c.View(func(tx store.Tx) error {
		name := arnName(c.Scope(), api.Val(in.AutoScalingGroupName))
		if name != "" {
			if _, err := scaling.GetGroup(tx, c.Scope(), name); err != nil {
				return err
			}
		}
		var rows []scaling.Scheduled
		for a := range scaling.Schedules.Prefix(tx, c.Scope().Prefix()) {
			if name != "" && a.Group != name || len(in.ScheduledActionNames) > 0 && !slices.Contains(in.ScheduledActionNames, a.Name) && !slices.Contains(in.ScheduledActionNames, a.ARN()) ||
				in.StartTime != nil && a.Start.Before(*in.StartTime) || in.EndTime != nil && a.Start.After(*in.EndTime) {
				continue
			}
			rows = append(rows, a)
		}
		rows, next, err := page(rows, scaling.Scheduled.ARN, in.MaxRecords, in.NextToken, 50, 100)
		if err != nil {
			return err
		}
		out.NextToken = next
		for _, a := range rows {
			out.ScheduledUpdateGroupActions = append(out.ScheduledUpdateGroupActions, as.ScheduledUpdateGroupAction{AutoScalingGroupName: &a.Group, DesiredCapacity: numPtr(a.Desired),
				EndTime: when(a.End), MaxSize: numPtr(a.Max), MinSize: numPtr(a.Min), Recurrence: text(a.Recurrence), ScheduledActionARN: api.Ptr(a.ARN()), ScheduledActionName: &a.Name,
				StartTime: when(a.Start), Time: when(a.Start), TimeZone: text(a.TimeZone)})
		}
		return nil
	})
}
