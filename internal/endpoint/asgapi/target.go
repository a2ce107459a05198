package asgapi

import (
	"strings"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/fault"
	"skerry/internal/scaling"
	"skerry/internal/store"
)

// targetGroups joins the two ways to name target groups.
func targetGroups(arns []string, sources []as.TrafficSourceIdentifier) ([]string, error) {
	out := append([]string(nil), arns...)
	for _, t := range sources {
		id := api.Val(t.Identifier)
		switch typ := api.Val(t.Type); {
		case typ == "elbv2", typ == "" && strings.Contains(id, ":targetgroup/") && strings.Contains(id, ":elasticloadbalancing:"):
			out = append(out, id)
		case typ == "elb", typ == "vpc-lattice", typ == "":
			return nil, fault.New(fault.Unsupported, "ValidationError", "The traffic source %s is not supported: only target groups (elbv2) are.", id)
		default:
			return nil, invalid("Invalid traffic source type: %s", typ)
		}
	}
	seen := map[string]bool{}
	for _, a := range out {
		if seen[a] {
			return nil, invalid("The target group %s is named more than once.", a)
		}
		seen[a] = true
	}
	return out, nil
}

func checkArns(arns []string) error {
	switch {
	case len(arns) == 0:
		return invalid("At least one target group must be specified.")
	case len(arns) > scaling.MaxAttachmentPerCall:
		return invalid("Up to %d target groups can be specified in one call.", scaling.MaxAttachmentPerCall)
	}
	return nil
}

func (s *Server) attach(c *api.Call, name *string, action string, arns []string) error {
	if err := checkArns(arns); err != nil {
		return err
	}
	return s.change(c, name, action, func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.AttachTargetGroups(w, c.Scope(), g.Name, arns)
	})
}

func (s *Server) detach(c *api.Call, name *string, action string, arns []string) error {
	if err := checkArns(arns); err != nil {
		return err
	}
	return s.change(c, name, action, func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.DetachTargetGroups(w, c.Scope(), g.Name, arns)
	})
}

func (s *Server) attachLoadBalancerTargetGroups(c *api.Call, in *as.AttachLoadBalancerTargetGroupsType) (*as.AttachLoadBalancerTargetGroupsResultType, error) {
	return nil, s.attach(c, in.AutoScalingGroupName, "AttachLoadBalancerTargetGroups", in.TargetGroupARNs)
}

func (s *Server) detachLoadBalancerTargetGroups(c *api.Call, in *as.DetachLoadBalancerTargetGroupsType) (*as.DetachLoadBalancerTargetGroupsResultType, error) {
	return nil, s.detach(c, in.AutoScalingGroupName, "DetachLoadBalancerTargetGroups", in.TargetGroupARNs)
}

func (s *Server) attachTrafficSources(c *api.Call, in *as.AttachTrafficSourcesType) (*as.AttachTrafficSourcesResultType, error) {
	arns, err := targetGroups(nil, in.TrafficSources)
	if err != nil {
		return nil, err
	}
	return nil, s.attach(c, in.AutoScalingGroupName, "AttachTrafficSources", arns)
}

func (s *Server) detachTrafficSources(c *api.Call, in *as.DetachTrafficSourcesType) (*as.DetachTrafficSourcesResultType, error) {
	arns, err := targetGroups(nil, in.TrafficSources)
	if err != nil {
		return nil, err
	}
	return nil, s.detach(c, in.AutoScalingGroupName, "DetachTrafficSources", arns)
}

// attachments is a page of a group's attachments.
func (s *Server) attachments(c *api.Call, name *string, action string, maxRecords *int32, token *string) (list []scaling.Attachment, next *string, err error) {
	err = c.View(func(tx store.Tx) error {
		g, err := s.group(c, tx, name, action)
		if err != nil {
			return err
		}
		list, next, err = page(g.Attachments, func(a scaling.Attachment) string { return a.ARN }, maxRecords, token, 100, 100)
		return err
	})
	return list, next, err
}

func (s *Server) describeLoadBalancerTargetGroups(c *api.Call, in *as.DescribeLoadBalancerTargetGroupsRequest) (*as.DescribeLoadBalancerTargetGroupsResponse, error) {
	list, next, err := s.attachments(c, in.AutoScalingGroupName, "DescribeLoadBalancerTargetGroups", in.MaxRecords, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &as.DescribeLoadBalancerTargetGroupsResponse{NextToken: next}
	for _, a := range list {
		out.LoadBalancerTargetGroups = append(out.LoadBalancerTargetGroups, as.LoadBalancerTargetGroupState{LoadBalancerTargetGroupARN: &a.ARN, State: &a.State})
	}
	return out, nil
}

func (s *Server) describeTrafficSources(c *api.Call, in *as.DescribeTrafficSourcesRequest) (*as.DescribeTrafficSourcesResponse, error) {
	list, next, err := s.attachments(c, in.AutoScalingGroupName, "DescribeTrafficSources", in.MaxRecords, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &as.DescribeTrafficSourcesResponse{NextToken: next}
	switch api.Val(in.TrafficSourceType) {
	case "", "elbv2":
	case "elb", "vpc-lattice":
		return out, nil
	default:
		return nil, invalid("Invalid traffic source type: %s", *in.TrafficSourceType)
	}
	for _, a := range list {
		out.TrafficSources = append(out.TrafficSources, as.TrafficSourceState{Identifier: &a.ARN, TrafficSource: &a.ARN, State: &a.State, Type: api.Ptr("elbv2")})
	}
	return out, nil
}

func (s *Server) attachLoadBalancers(c *api.Call, in *as.AttachLoadBalancersType) (*as.AttachLoadBalancersResultType, error) {
	return nil, s.change(c, in.AutoScalingGroupName, "AttachLoadBalancers", func(*store.WriteTx, scaling.Group) error { return errClassic() })
}

func (s *Server) detachLoadBalancers(c *api.Call, in *as.DetachLoadBalancersType) (*as.DetachLoadBalancersResultType, error) {
	return nil, s.change(c, in.AutoScalingGroupName, "DetachLoadBalancers", func(*store.WriteTx, scaling.Group) error {
		return invalid("Trying to remove Load Balancers that are not part of the group")
	})
}

// describeLoadBalancers lists classic load balancers: a group has none.
func (s *Server) describeLoadBalancers(c *api.Call, in *as.DescribeLoadBalancersRequest) (*as.DescribeLoadBalancersResponse, error) {
	return &as.DescribeLoadBalancersResponse{}, c.View(func(tx store.Tx) error {
		_, err := s.group(c, tx, in.AutoScalingGroupName, "DescribeLoadBalancers")
		return err
	})
}
