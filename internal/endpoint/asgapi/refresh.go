package asgapi

import (
	"encoding/json"
	"slices"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/fault"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

// AWS's defaults of refreshes.
const (
	defaultMinHealthy      = 90
	defaultCheckpointDelay = 3600
)

func (s *Server) startInstanceRefresh(c *api.Call, in *as.StartInstanceRefreshType) (*as.StartInstanceRefreshAnswer, error) {
	switch st := api.Val(in.Strategy); st {
	case "", "Rolling":
	case "ReplaceRootVolume":
		return nil, fault.New(fault.Unsupported, "ValidationError", "The strategy ReplaceRootVolume is not supported.")
	default:
		return nil, invalid("Invalid strategy: %s", st)
	}
	if p := in.Preferences; p != nil && p.MaxHealthyPercentage != nil && p.MinHealthyPercentage == nil {
		return nil, invalid("MaxHealthyPercentage needs MinHealthyPercentage.")
	}
	r := scaling.Refresh{Scope: c.Scope()}
	if d := in.DesiredConfiguration; d != nil {
		if (d.LaunchTemplate == nil) == (d.MixedInstancesPolicy == nil) {
			return nil, invalid("A desired configuration must contain either a LaunchTemplate or a MixedInstancesPolicy.")
		}
		r.Desired = document(d)
		if d.LaunchTemplate != nil {
			ref, err := template(d.LaunchTemplate)
			if err != nil {
				return nil, err
			}
			r.Template = &ref
		}
	}
	out := &as.StartInstanceRefreshAnswer{}
	return out, s.change(c, in.AutoScalingGroupName, "StartInstanceRefresh", func(w *store.WriteTx, g scaling.Group) error {
		r.Group = g.Name
		if d := in.DesiredConfiguration; d != nil && d.MixedInstancesPolicy != nil {
			policy := merged(g, d.MixedInstancesPolicy)
			m, err := mixed(policy)
			if err != nil {
				return err
			}
			r.Mixed, r.MixedDoc = &m, document(policy)
		}
		r.Preferences, r.Document = preferences(g, in.Preferences)
		r, err := s.Engine.StartRefresh(w, r)
		out.InstanceRefreshId = text(r.ID)
		return err
	})
}

// preferences are the request's with AWS's defaults, and the document that describes them.
func preferences(g scaling.Group, in *as.RefreshPreferences) (scaling.Preferences, json.RawMessage) {
	doc := as.RefreshPreferences{}
	if in != nil {
		doc = *in
	}
	lo, hi := defaultMinHealthy, 100
	if g.MinHealthy != nil {
		lo, hi = *g.MinHealthy, *g.MaxHealthy
	}
	if doc.MinHealthyPercentage != nil && doc.MaxHealthyPercentage == nil {
		hi = 100
	}
	fill(&doc.MinHealthyPercentage, int32(lo))
	fill(&doc.MaxHealthyPercentage, int32(hi))
	warm := g.GracePeriod
	if g.DefaultWarmup != nil {
		warm = *g.DefaultWarmup
	}
	fill(&doc.SkipMatching, false)
	fill(&doc.AutoRollback, false)
	fill(&doc.ScaleInProtectedInstances, "Wait")
	fill(&doc.StandbyInstances, "Wait")
	p := scaling.Preferences{MinHealthy: int(*doc.MinHealthyPercentage), MaxHealthy: int(*doc.MaxHealthyPercentage), Warmup: warm, SkipMatching: *doc.SkipMatching,
		AutoRollback: *doc.AutoRollback, Protected: *doc.ScaleInProtectedInstances, Standby: *doc.StandbyInstances, Bake: int(api.Val(doc.BakeTime))}
	if doc.InstanceWarmup != nil {
		p.Warmup = int(*doc.InstanceWarmup)
	}
	for _, v := range doc.CheckpointPercentages {
		p.Checkpoints = append(p.Checkpoints, int(v))
	}
	if len(p.Checkpoints) > 0 {
		fill(&doc.CheckpointDelay, int32(defaultCheckpointDelay))
		p.CheckpointDelay = int(*doc.CheckpointDelay)
	}
	if doc.AlarmSpecification != nil {
		p.Alarms = slices.Clone(doc.AlarmSpecification.Alarms)
	}
	return p, document(doc)
}

func (s *Server) cancelInstanceRefresh(c *api.Call, in *as.CancelInstanceRefreshType) (*as.CancelInstanceRefreshAnswer, error) {
	out := &as.CancelInstanceRefreshAnswer{}
	return out, s.change(c, in.AutoScalingGroupName, "CancelInstanceRefresh", func(w *store.WriteTx, g scaling.Group) error {
		r, err := s.Engine.CancelRefresh(w, c.Scope(), g.Name, in.WaitForTransitioningInstances == nil || *in.WaitForTransitioningInstances)
		out.InstanceRefreshId = text(r.ID)
		return err
	})
}

func (s *Server) rollbackInstanceRefresh(c *api.Call, in *as.RollbackInstanceRefreshType) (*as.RollbackInstanceRefreshAnswer, error) {
	out := &as.RollbackInstanceRefreshAnswer{}
	return out, s.change(c, in.AutoScalingGroupName, "RollbackInstanceRefresh", func(w *store.WriteTx, g scaling.Group) error {
		r, err := s.Engine.RollbackRefresh(w, c.Scope(), g.Name)
		out.InstanceRefreshId = text(r.ID)
		return err
	})
}

func (s *Server) describeInstanceRefreshes(c *api.Call, in *as.DescribeInstanceRefreshesType) (*as.DescribeInstanceRefreshesAnswer, error) {
	out := &as.DescribeInstanceRefreshesAnswer{}
	return out, c.View(func(tx store.Tx) error {
		g, err := s.group(c, tx, in.AutoScalingGroupName, "DescribeInstanceRefreshes")
		if err != nil {
			return err
		}
		var rows []scaling.Refresh
		for _, r := range scaling.RefreshesOf(tx, g) {
			if len(in.InstanceRefreshIds) == 0 || slices.Contains(in.InstanceRefreshIds, r.ID) {
				rows = append(rows, r)
			}
		}
		rows, next, err := page(rows, func(r scaling.Refresh) string { return r.ID }, in.MaxRecords, in.NextToken, 50, 100)
		if err != nil {
			return err
		}
		out.NextToken = next
		for _, r := range rows {
			w, err := refreshWire(r)
			if err != nil {
				return err
			}
			out.InstanceRefreshes = append(out.InstanceRefreshes, w)
		}
		return nil
	})
}

func refreshWire(r scaling.Refresh) (as.InstanceRefresh, error) {
	w := as.InstanceRefresh{AutoScalingGroupName: &r.Group, EndTime: when(r.End), InstanceRefreshId: &r.ID, StartTime: when(r.Start), Status: &r.Status,
		StatusReason: text(r.Reason), Strategy: api.Ptr("Rolling"), Preferences: &as.RefreshPreferences{}}
	if err := json.Unmarshal(r.Document, w.Preferences); err != nil {
		return w, err
	}
	if r.Desired != nil {
		w.DesiredConfiguration = &as.DesiredConfiguration{}
		if err := json.Unmarshal(r.Desired, w.DesiredConfiguration); err != nil {
			return w, err
		}
	}
	if r.Status != scaling.RefreshPending {
		w.InstancesToUpdate, w.PercentageComplete, w.ProgressDetails = num(r.Left), num(r.Percent), progressWire(r.Progress)
	}
	if at := r.OnRollback; at != nil {
		w.RollbackDetails = &as.RollbackDetails{RollbackReason: &r.RollbackReason, RollbackStartTime: when(r.RollbackStart), InstancesToUpdateOnRollback: num(at.Left),
			PercentageCompleteOnRollback: num(at.Percent), ProgressDetailsOnRollback: progressWire(*at)}
	}
	return w, nil
}

// progressWire gives the details of a refresh of a group with a warm pool; AWS has none for others.
func progressWire(p scaling.Progress) *as.InstanceRefreshProgressDetails {
	if p.Warm == nil {
		return nil
	}
	return &as.InstanceRefreshProgressDetails{
		LivePoolProgress: &as.InstanceRefreshLivePoolProgress{InstancesToUpdate: num(p.Live.Left), PercentageComplete: num(p.Live.Percent)},
		WarmPoolProgress: &as.InstanceRefreshWarmPoolProgress{InstancesToUpdate: num(p.Warm.Left), PercentageComplete: num(p.Warm.Percent)}}
}
