package elbapi

import (
	"slices"

	"skerry/api"
	"skerry/api/elbv2"
	"skerry/internal/balance"
	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/store"
)

func matcher(m *elbv2.Matcher) (http, grpc string, err error) {
	if m == nil {
		return "", "", nil
	}
	if m.HttpCode != nil && m.GrpcCode != nil {
		return "", "", invalid("You cannot specify both an HTTP code and a gRPC code")
	}
	return api.Val(m.HttpCode), api.Val(m.GrpcCode), nil
}

func (s *Server) createTargetGroup(c *api.Call, in *elbv2.CreateTargetGroupInput) (*elbv2.CreateTargetGroupOutput, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	http, grpc, err := matcher(in.Matcher)
	if err != nil {
		return nil, err
	}
	if in.TargetControlPort != nil { // requests would not wait for the targets' agents
		return nil, fault.New(fault.Unsupported, "InvalidConfigurationRequest", "The parameter TargetControlPort is not supported")
	}
	out := &elbv2.CreateTargetGroupOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		g, err := balance.CreateTargetGroup(w, c.Scope(), balance.TargetGroupParams{Name: api.Val(in.Name), Protocol: api.Val(in.Protocol), ProtocolVersion: api.Val(in.ProtocolVersion),
			Port: api.Val(in.Port), VpcID: api.Val(in.VpcId), TargetType: api.Val(in.TargetType), IPAddressType: api.Val(in.IpAddressType), Tags: tags,
			Check: balance.CheckParams{Enabled: in.HealthCheckEnabled, Protocol: api.Val(in.HealthCheckProtocol), Port: api.Val(in.HealthCheckPort), Path: api.Val(in.HealthCheckPath),
				Interval: api.Val(in.HealthCheckIntervalSeconds), Timeout: api.Val(in.HealthCheckTimeoutSeconds), Healthy: api.Val(in.HealthyThresholdCount), Unhealthy: api.Val(in.UnhealthyThresholdCount),
				HTTPCode: http, GRPCCode: grpc}})
		if err != nil {
			return err
		}
		out.TargetGroups = []elbv2.TargetGroup{toTargetGroup(w, g)}
		return nil
	})
}

func (s *Server) modifyTargetGroup(c *api.Call, in *elbv2.ModifyTargetGroupInput) (*elbv2.ModifyTargetGroupOutput, error) {
	arn, err := required(in.TargetGroupArn, "targetGroupArn")
	if err != nil {
		return nil, err
	}
	http, grpc, err := matcher(in.Matcher)
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "ModifyTargetGroup", arn); err != nil {
		return nil, err
	}
	out := &elbv2.ModifyTargetGroupOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		g, err := balance.ModifyTargetGroup(w, c.Scope(), arn, balance.CheckParams{Enabled: in.HealthCheckEnabled, Protocol: api.Val(in.HealthCheckProtocol), Port: api.Val(in.HealthCheckPort),
			Path: api.Val(in.HealthCheckPath), Interval: api.Val(in.HealthCheckIntervalSeconds), Timeout: api.Val(in.HealthCheckTimeoutSeconds), Healthy: api.Val(in.HealthyThresholdCount),
			Unhealthy: api.Val(in.UnhealthyThresholdCount), HTTPCode: http, GRPCCode: grpc})
		if err != nil {
			return err
		}
		out.TargetGroups = []elbv2.TargetGroup{toTargetGroup(w, g)}
		return nil
	})
}

func toTargetGroup(tx store.Tx, g balance.TargetGroup) elbv2.TargetGroup {
	h := g.Check
	out := elbv2.TargetGroup{TargetGroupArn: &g.ARN, TargetGroupName: &g.Name, Protocol: &g.Protocol, Port: &g.Port, VpcId: &g.VpcID, TargetType: &g.TargetType,
		IpAddressType: &g.IPAddressType, HealthCheckEnabled: &h.Enabled, HealthCheckProtocol: &h.Protocol, HealthCheckPort: &h.Port, HealthCheckIntervalSeconds: &h.Interval,
		HealthCheckTimeoutSeconds: &h.Timeout, HealthyThresholdCount: &h.Healthy, UnhealthyThresholdCount: &h.Unhealthy, LoadBalancerArns: balance.UsedBy(tx, g)}
	if out.LoadBalancerArns == nil {
		out.LoadBalancerArns = []string{}
	}
	if g.ProtocolVersion != "" {
		out.ProtocolVersion = &g.ProtocolVersion
	}
	if h.Path != "" {
		out.HealthCheckPath = &h.Path
	}
	if h.HTTPCode != "" {
		out.Matcher = &elbv2.Matcher{HttpCode: &h.HTTPCode}
	}
	if h.GRPCCode != "" {
		out.Matcher = &elbv2.Matcher{GrpcCode: &h.GRPCCode}
	}
	return out
}

func (s *Server) deleteTargetGroup(c *api.Call, in *elbv2.DeleteTargetGroupInput) (*elbv2.DeleteTargetGroupOutput, error) {
	arn, err := required(in.TargetGroupArn, "targetGroupArn")
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "DeleteTargetGroup", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return balance.DeleteTargetGroup(w, c.Scope(), arn) })
}

func (s *Server) describeTargetGroups(c *api.Call, in *elbv2.DescribeTargetGroupsInput) (*elbv2.DescribeTargetGroupsOutput, error) {
	given := 0
	for _, b := range []bool{in.LoadBalancerArn != nil, len(in.Names) > 0, len(in.TargetGroupArns) > 0} {
		if b {
			given++
		}
	}
	if given > 1 {
		return nil, invalid("You can specify only one of the following: load balancer ARN, target group names, target group ARNs")
	}
	out := &elbv2.DescribeTargetGroupsOutput{TargetGroups: []elbv2.TargetGroup{}}
	return out, c.View(func(tx store.Tx) error {
		var rows []balance.TargetGroup
		sc := c.Scope()
		switch {
		case in.LoadBalancerArn != nil:
			lb, err := balance.GetLoadBalancer(tx, sc, *in.LoadBalancerArn)
			if err != nil {
				return err
			}
			for _, arn := range balance.GroupsOf(tx, lb) {
				if g, ok := balance.TargetGroups.Get(tx, sc.Key(arn)); ok {
					rows = append(rows, g)
				}
			}
		case len(in.Names) > 0:
			for _, name := range in.Names {
				n := len(rows)
				for g := range balance.TargetGroups.By(tx, "name", sc.Key(name)) {
					rows = append(rows, g)
				}
				if len(rows) == n {
					return fault.New(fault.NotFound, "TargetGroupNotFound", "One or more target groups not found")
				}
			}
		case len(in.TargetGroupArns) > 0:
			for _, arn := range in.TargetGroupArns {
				g, err := balance.GetTargetGroup(tx, sc, arn)
				if fault.Is(err, fault.NotFound) {
					return fault.New(fault.NotFound, "TargetGroupNotFound", "One or more target groups not found")
				}
				if err != nil {
					return err
				}
				rows = append(rows, g)
			}
		default:
			for g := range balance.TargetGroups.Prefix(tx, sc.Prefix()) {
				rows = append(rows, g)
			}
		}
		rows, next, err := page(rows, func(g balance.TargetGroup) string { return g.ARN }, in.Marker, in.PageSize)
		if err != nil {
			return err
		}
		out.NextMarker = next
		for _, g := range rows {
			out.TargetGroups = append(out.TargetGroups, toTargetGroup(tx, g))
		}
		return nil
	})
}

func toGroupAttributes(list balance.Attributes) []elbv2.TargetGroupAttribute {
	out := []elbv2.TargetGroupAttribute{}
	for _, a := range list {
		out = append(out, elbv2.TargetGroupAttribute{Key: api.Ptr(a.Key), Value: api.Ptr(a.Value)})
	}
	return out
}

func (s *Server) describeTargetGroupAttributes(c *api.Call, in *elbv2.DescribeTargetGroupAttributesInput) (*elbv2.DescribeTargetGroupAttributesOutput, error) {
	arn, err := required(in.TargetGroupArn, "targetGroupArn")
	if err != nil {
		return nil, err
	}
	out := &elbv2.DescribeTargetGroupAttributesOutput{}
	return out, c.View(func(tx store.Tx) error {
		g, err := balance.GetTargetGroup(tx, c.Scope(), arn)
		out.Attributes = toGroupAttributes(g.AllAttributes())
		return err
	})
}

func (s *Server) modifyTargetGroupAttributes(c *api.Call, in *elbv2.ModifyTargetGroupAttributesInput) (*elbv2.ModifyTargetGroupAttributesOutput, error) {
	arn, err := required(in.TargetGroupArn, "targetGroupArn")
	if err != nil {
		return nil, err
	}
	changes, err := attributes(in.Attributes, func(a elbv2.TargetGroupAttribute) *string { return a.Key }, func(a elbv2.TargetGroupAttribute) *string { return a.Value })
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "ModifyTargetGroupAttributes", arn); err != nil {
		return nil, err
	}
	if err := servedValues(changes, balance.TargetGroup{}.Attribute); err != nil {
		return nil, err
	}
	out := &elbv2.ModifyTargetGroupAttributesOutput{}
	return out, c.Update(func(w *store.WriteTx) error {
		g, err := balance.ModifyTargetGroupAttributes(w, c.Scope(), arn, changes)
		out.Attributes = toGroupAttributes(g.AllAttributes())
		return err
	})
}

func targets(in []elbv2.TargetDescription) ([]balance.Target, error) {
	var out []balance.Target
	for _, t := range in {
		id, err := required(t.Id, "targets.member.id")
		if err != nil {
			return nil, err
		}
		if t.Port != nil && (*t.Port < 1 || *t.Port > 65535) {
			return nil, invalid("1 validation error detected: Value '%d' at 'targets.member.port' failed to satisfy constraint: Member must have value between 1 and 65535", *t.Port)
		}
		out = append(out, balance.Target{ID: id, Port: api.Val(t.Port), AvailabilityZone: api.Val(t.AvailabilityZone), QuicServerID: api.Val(t.QuicServerId)})
	}
	if len(out) == 0 {
		return nil, invalid("You must specify at least one target")
	}
	return out, nil
}

func (s *Server) registerTargets(c *api.Call, in *elbv2.RegisterTargetsInput) (*elbv2.RegisterTargetsOutput, error) {
	arn, err := required(in.TargetGroupArn, "targetGroupArn")
	if err != nil {
		return nil, err
	}
	list, err := targets(in.Targets)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(list, func(t balance.Target) bool { return t.QuicServerID != "" }) {
		return nil, fault.New(fault.Invalid, "InvalidTarget", "QuicServerId can be specified for target groups with protocol QUIC or TCP_QUIC only")
	}
	if err := authorize(c, "RegisterTargets", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		for _, t := range list { // the domain also takes pending ones, for launches
			if i, ok := compute.Instances.Get(w, c.Scope().Key(t.ID)); ok && i.State != compute.Running {
				return balance.NotRunning(t.ID)
			}
		}
		return balance.Register(w, c.Scope(), arn, list)
	})
}

func (s *Server) deregisterTargets(c *api.Call, in *elbv2.DeregisterTargetsInput) (*elbv2.DeregisterTargetsOutput, error) {
	arn, err := required(in.TargetGroupArn, "targetGroupArn")
	if err != nil {
		return nil, err
	}
	list, err := targets(in.Targets)
	if err != nil {
		return nil, err
	}
	if err := authorize(c, "DeregisterTargets", arn); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return balance.Deregister(w, c.Scope(), arn, list) })
}

func (s *Server) describeTargetHealth(c *api.Call, in *elbv2.DescribeTargetHealthInput) (*elbv2.DescribeTargetHealthOutput, error) {
	arn, err := required(in.TargetGroupArn, "targetGroupArn")
	if err != nil {
		return nil, err
	}
	for _, inc := range in.Include {
		if inc != "AnomalyDetection" && inc != "All" {
			return nil, invalid("Include '%s' must be one of 'AnomalyDetection, All'", inc)
		}
	}
	out := &elbv2.DescribeTargetHealthOutput{TargetHealthDescriptions: []elbv2.TargetHealthDescription{}}
	return out, c.View(func(tx store.Tx) error {
		g, err := balance.GetTargetGroup(tx, c.Scope(), arn)
		if err != nil {
			return err
		}
		var rows []balance.Health
		if len(in.Targets) == 0 {
			rows = balance.TargetHealth(tx, c.Scope(), arn)
		}
		for _, t := range in.Targets {
			h := balance.HealthOf(tx, c.Scope(), arn, api.Val(t.Id), api.Val(t.Port))
			if err := balance.CheckDescribed(tx, g, h); err != nil {
				return err
			}
			rows = append(rows, h)
		}
		for _, h := range rows {
			d := elbv2.TargetHealthDescription{HealthCheckPort: api.Ptr(h.CheckPort), Target: &elbv2.TargetDescription{Id: api.Ptr(h.Target.TargetID), Port: api.Ptr(h.Target.Port)},
				TargetHealth: &elbv2.TargetHealth{State: api.Ptr(h.State)}}
			if h.Target.AvailabilityZone != "" {
				d.Target.AvailabilityZone = api.Ptr(h.Target.AvailabilityZone)
			}
			if h.Reason != "" {
				d.TargetHealth.Reason, d.TargetHealth.Description = api.Ptr(h.Reason), api.Ptr(h.Description)
			}
			if h.State != balance.Unused { // nothing shifts traffic away from a zone here
				d.AdministrativeOverride = &elbv2.AdministrativeOverride{State: api.Ptr("no_override"), Reason: api.Ptr("AdministrativeOverride.NoOverride"), Description: api.Ptr("No override is currently active on target")}
			}
			if len(in.Include) > 0 {
				d.AnomalyDetection = &elbv2.AnomalyDetection{Result: api.Ptr("normal"), MitigationInEffect: api.Ptr("no")}
				if h.Anomalous {
					d.AnomalyDetection.Result = api.Ptr("anomalous")
				}
				if h.Mitigated {
					d.AnomalyDetection.MitigationInEffect = api.Ptr("yes")
				}
			}
			out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, d)
		}
		return nil
	})
}
