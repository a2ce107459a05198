package asgapi

import (
	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

func (s *Server) attachInstances(c *api.Call, in *as.AttachInstancesQuery) (*as.AttachInstancesOutput, error) {
	return nil, s.change(c, in.AutoScalingGroupName, "AttachInstances", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.AttachInstances(w, c.Scope(), g.Name, in.InstanceIds)
	})
}

// decrement reads the flag that AWS insists on.
func decrement(p *bool) (bool, error) {
	if p == nil {
		return false, invalid("1 validation error detected: Value null at 'shouldDecrementDesiredCapacity' failed to satisfy constraint: Member must not be null")
	}
	return *p, nil
}

func (s *Server) detachInstances(c *api.Call, in *as.DetachInstancesQuery) (*as.DetachInstancesAnswer, error) {
	less, err := decrement(in.ShouldDecrementDesiredCapacity)
	if err != nil {
		return nil, err
	}
	out := &as.DetachInstancesAnswer{}
	return out, s.change(c, in.AutoScalingGroupName, "DetachInstances", func(w *store.WriteTx, g scaling.Group) error {
		list, err := s.Engine.Detach(w, c.Scope(), g.Name, in.InstanceIds, less)
		out.Activities = activitiesWire(list)
		return err
	})
}

func (s *Server) enterStandby(c *api.Call, in *as.EnterStandbyQuery) (*as.EnterStandbyAnswer, error) {
	less, err := decrement(in.ShouldDecrementDesiredCapacity)
	if err != nil {
		return nil, err
	}
	out := &as.EnterStandbyAnswer{}
	return out, s.change(c, in.AutoScalingGroupName, "EnterStandby", func(w *store.WriteTx, g scaling.Group) error {
		list, err := s.Engine.EnterStandby(w, c.Scope(), g.Name, in.InstanceIds, less)
		out.Activities = activitiesWire(list)
		return err
	})
}

func (s *Server) exitStandby(c *api.Call, in *as.ExitStandbyQuery) (*as.ExitStandbyAnswer, error) {
	out := &as.ExitStandbyAnswer{}
	return out, s.change(c, in.AutoScalingGroupName, "ExitStandby", func(w *store.WriteTx, g scaling.Group) error {
		list, err := s.Engine.ExitStandby(w, c.Scope(), g.Name, in.InstanceIds)
		out.Activities = activitiesWire(list)
		return err
	})
}

// ofMember authorises an action on the group of an instance.
func (s *Server) ofMember(c *api.Call, tx store.Tx, id *string, action string) error {
	if err := required("InstanceId", id); err != nil {
		return err
	}
	m, ok := scaling.Members.Get(tx, c.Scope().Key(*id))
	if !ok {
		return nil // the transition says so
	}
	g, err := scaling.GetGroup(tx, c.Scope(), m.Group)
	if err != nil {
		return nil
	}
	return authorize(c, "autoscaling:"+action, g.ARN())
}

func (s *Server) setInstanceHealth(c *api.Call, in *as.SetInstanceHealthQuery) (*as.SetInstanceHealthOutput, error) {
	return nil, c.Update(func(w *store.WriteTx) error {
		if err := s.ofMember(c, w, in.InstanceId, "SetInstanceHealth"); err != nil {
			return err
		}
		return s.Engine.SetHealth(w, c.Scope(), *in.InstanceId, api.Val(in.HealthStatus), in.ShouldRespectGracePeriod == nil || *in.ShouldRespectGracePeriod)
	})
}

func (s *Server) setInstanceProtection(c *api.Call, in *as.SetInstanceProtectionQuery) (*as.SetInstanceProtectionAnswer, error) {
	if in.ProtectedFromScaleIn == nil {
		return nil, invalid("1 validation error detected: Value null at 'protectedFromScaleIn' failed to satisfy constraint: Member must not be null")
	}
	return nil, s.change(c, in.AutoScalingGroupName, "SetInstanceProtection", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.SetProtection(w, c.Scope(), g.Name, in.InstanceIds, *in.ProtectedFromScaleIn)
	})
}

func (s *Server) terminateInstanceInAutoScalingGroup(c *api.Call, in *as.TerminateInstanceInAutoScalingGroupType) (*as.ActivityType, error) {
	less, err := decrement(in.ShouldDecrementDesiredCapacity)
	if err != nil {
		return nil, err
	}
	out := &as.ActivityType{}
	return out, c.Update(func(w *store.WriteTx) error {
		if err := s.ofMember(c, w, in.InstanceId, "TerminateInstanceInAutoScalingGroup"); err != nil {
			return err
		}
		a, err := s.Engine.TerminateMember(w, c.Scope(), *in.InstanceId, less)
		if err == nil {
			out.Activity = api.Ptr(activityWire(a))
		}
		return err
	})
}

func (s *Server) launchInstances(c *api.Call, in *as.LaunchInstancesRequest) (*as.LaunchInstancesResult, error) {
	o := scaling.Order{Capacity: int(api.Val(in.RequestedCapacity)), Retry: api.Val(in.RetryStrategy) == "retry-with-group-configuration"}
	if len(in.SubnetIds) > 0 {
		o.Subnet = in.SubnetIds[0]
	}
	zones, err := zoneNames(c.Region, in.AvailabilityZones, in.AvailabilityZoneIds)
	if err != nil {
		return nil, err
	}
	if len(zones) > 0 {
		o.Zone = zones[0]
	}
	out := &as.LaunchInstancesResult{AutoScalingGroupName: in.AutoScalingGroupName, ClientToken: in.ClientToken}
	return out, s.change(c, in.AutoScalingGroupName, "LaunchInstances", func(w *store.WriteTx, g scaling.Group) error {
		got, err := s.Engine.Launch(w, c.Scope(), g.Name, api.Val(in.ClientToken), o)
		for _, p := range got.Placed {
			out.Instances = append(out.Instances, as.InstanceCollection{AvailabilityZone: &p.Zone, AvailabilityZoneId: text(network.ZoneID(c.Region, p.Zone)), InstanceIds: p.IDs,
				InstanceType: &p.InstanceType, MarketType: market(p.Spot), SubnetId: &p.Subnet})
		}
		if f := got.Failed; f != nil {
			out.Errors = []as.LaunchInstancesError{{AvailabilityZone: &f.Zone, AvailabilityZoneId: text(network.ZoneID(c.Region, f.Zone)), ErrorCode: &f.Code, ErrorMessage: &f.Message,
				InstanceType: text(f.InstanceType), MarketType: market(f.Spot), SubnetId: &f.Subnet}}
		}
		return err
	})
}

func market(spot bool) *string {
	if spot {
		return api.Ptr("Spot")
	}
	return api.Ptr("OnDemand")
}
