package asgapi

import (
	"slices"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

func (s *Server) putLifecycleHook(c *api.Call, in *as.PutLifecycleHookType) (*as.PutLifecycleHookAnswer, error) {
	if err := required("LifecycleHookName", in.LifecycleHookName); err != nil {
		return nil, err
	}
	h := scaling.Hook{Scope: c.Scope(), Name: *in.LifecycleHookName, Transition: api.Val(in.LifecycleTransition), Heartbeat: int(api.Val(in.HeartbeatTimeout)),
		DefaultResult: api.Val(in.DefaultResult), NotificationTarget: api.Val(in.NotificationTargetARN), NotificationMetadata: api.Val(in.NotificationMetadata), Role: api.Val(in.RoleARN)}
	return nil, s.change(c, in.AutoScalingGroupName, "PutLifecycleHook", func(w *store.WriteTx, g scaling.Group) error {
		h.Group = g.Name
		if t := in.NotificationTargetARN; t != nil && *t == "" { // an empty target takes the old one away, an absent one leaves it
			if old, ok := scaling.Hooks.Get(w, h.Key(h.Group+":"+h.Name)); ok {
				old.NotificationTarget, old.Role = "", ""
				scaling.Hooks.Put(w, old)
			}
		}
		return s.Engine.PutHook(w, h)
	})
}

func (s *Server) deleteLifecycleHook(c *api.Call, in *as.DeleteLifecycleHookType) (*as.DeleteLifecycleHookAnswer, error) {
	if err := required("LifecycleHookName", in.LifecycleHookName); err != nil {
		return nil, err
	}
	return nil, s.change(c, in.AutoScalingGroupName, "DeleteLifecycleHook", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.DeleteHook(w, c.Scope(), g.Name, *in.LifecycleHookName)
	})
}

func (s *Server) describeLifecycleHooks(c *api.Call, in *as.DescribeLifecycleHooksType) (*as.DescribeLifecycleHooksAnswer, error) {
	out := &as.DescribeLifecycleHooksAnswer{}
	return out, c.View(func(tx store.Tx) error {
		g, err := s.group(c, tx, in.AutoScalingGroupName, "DescribeLifecycleHooks")
		if err != nil {
			return err
		}
		for _, h := range scaling.HooksOf(tx, g) {
			if len(in.LifecycleHookNames) > 0 && !slices.Contains(in.LifecycleHookNames, h.Name) {
				continue
			}
			out.LifecycleHooks = append(out.LifecycleHooks, as.LifecycleHook{AutoScalingGroupName: &g.Name, DefaultResult: &h.DefaultResult, GlobalTimeout: num(h.GlobalTimeout()),
				HeartbeatTimeout: num(h.Heartbeat), LifecycleHookName: &h.Name, LifecycleTransition: &h.Transition, NotificationMetadata: text(h.NotificationMetadata),
				NotificationTargetARN: text(h.NotificationTarget), RoleARN: text(h.Role)})
		}
		return nil
	})
}

func (s *Server) completeLifecycleAction(c *api.Call, in *as.CompleteLifecycleActionType) (*as.CompleteLifecycleActionAnswer, error) {
	if err := required("LifecycleHookName", in.LifecycleHookName); err != nil {
		return nil, err
	}
	return nil, s.change(c, in.AutoScalingGroupName, "CompleteLifecycleAction", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.Complete(w, c.Scope(), g.Name, *in.LifecycleHookName, api.Val(in.LifecycleActionToken), api.Val(in.InstanceId), api.Val(in.LifecycleActionResult))
	})
}

func (s *Server) recordLifecycleActionHeartbeat(c *api.Call, in *as.RecordLifecycleActionHeartbeatType) (*as.RecordLifecycleActionHeartbeatAnswer, error) {
	if err := required("LifecycleHookName", in.LifecycleHookName); err != nil {
		return nil, err
	}
	return nil, s.change(c, in.AutoScalingGroupName, "RecordLifecycleActionHeartbeat", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.Heartbeat(w, c.Scope(), g.Name, *in.LifecycleHookName, api.Val(in.LifecycleActionToken), api.Val(in.InstanceId))
	})
}
