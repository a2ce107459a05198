package asgapi

import (
	"slices"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

func (s *Server) putWarmPool(c *api.Call, in *as.PutWarmPoolType) (*as.PutWarmPoolAnswer, error) {
	var reuse *bool
	if p := in.InstanceReusePolicy; p != nil {
		reuse = p.ReuseOnScaleIn
	}
	return nil, s.change(c, in.AutoScalingGroupName, "PutWarmPool", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.PutWarmPool(w, c.Scope(), g.Name, api.Val(in.PoolState), intPtr(in.MinSize), intPtr(in.MaxGroupPreparedCapacity), reuse)
	})
}

func (s *Server) describeWarmPool(c *api.Call, in *as.DescribeWarmPoolType) (*as.DescribeWarmPoolAnswer, error) {
	out := &as.DescribeWarmPoolAnswer{Instances: []as.Instance{}}
	return out, c.View(func(tx store.Tx) error {
		g, err := s.group(c, tx, in.AutoScalingGroupName, "DescribeWarmPool")
		if err != nil || g.Warm == nil {
			return err
		}
		rows, next, err := page(warmMembers(tx, g), func(m scaling.Member) string { return m.ID }, in.MaxRecords, in.NextToken, 50, 50)
		if err != nil {
			return err
		}
		out.NextToken, out.WarmPoolConfiguration = next, warmPoolWire(*g.Warm)
		for _, m := range rows {
			out.Instances = append(out.Instances, memberWire(m))
		}
		return nil
	})
}

func (s *Server) deleteWarmPool(c *api.Call, in *as.DeleteWarmPoolType) (*as.DeleteWarmPoolAnswer, error) {
	return nil, s.change(c, in.AutoScalingGroupName, "DeleteWarmPool", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.DeleteWarmPool(w, c.Scope(), g.Name, api.Val(in.ForceDelete))
	})
}

func warmMembers(tx store.Tx, g scaling.Group) []scaling.Member {
	return slices.DeleteFunc(scaling.MembersOf(tx, g), func(m scaling.Member) bool { return !m.Warmed() })
}

func warmPoolWire(p scaling.WarmPool) *as.WarmPoolConfiguration {
	out := &as.WarmPoolConfiguration{MinSize: num(p.Min), MaxGroupPreparedCapacity: numPtr(p.Prepared), PoolState: &p.State}
	if p.Reuse {
		out.InstanceReusePolicy = &as.InstanceReusePolicy{ReuseOnScaleIn: &p.Reuse}
	}
	if p.Deleting {
		out.Status = api.Ptr("PendingDelete")
	}
	return out
}
