package asgapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// AWS's defaults.
const defaultCooldown = 300

func (s *Server) createAutoScalingGroup(c *api.Call, in *as.CreateAutoScalingGroupType) (*as.CreateAutoScalingGroupOutput, error) {
	if err := required("AutoScalingGroupName", in.AutoScalingGroupName); err != nil {
		return nil, err
	}
	switch {
	case in.MinSize == nil:
		return nil, invalid("1 validation error detected: Value null at 'minSize' failed to satisfy constraint: Member must not be null")
	case in.MaxSize == nil:
		return nil, invalid("1 validation error detected: Value null at 'maxSize' failed to satisfy constraint: Member must not be null")
	}
	g := scaling.Group{Scope: c.Scope(), Name: *in.AutoScalingGroupName, Min: int(*in.MinSize), Max: int(*in.MaxSize), DefaultCooldown: defaultCooldown,
		HealthCheckType: "EC2", TerminationPolicies: []string{"Default"}, DeletionProtection: "none"}
	if in.DefaultCooldown != nil {
		g.DefaultCooldown = int(*in.DefaultCooldown)
	}
	u := settings{LaunchTemplate: in.LaunchTemplate, MixedInstancesPolicy: in.MixedInstancesPolicy, LaunchConfigurationName: in.LaunchConfigurationName,
		VPCZoneIdentifier: in.VPCZoneIdentifier, AvailabilityZones: in.AvailabilityZones, AvailabilityZoneIds: in.AvailabilityZoneIds,
		DefaultInstanceWarmup: in.DefaultInstanceWarmup, HealthCheckType: in.HealthCheckType, HealthCheckGracePeriod: in.HealthCheckGracePeriod,
		TerminationPolicies: in.TerminationPolicies, NewInstancesProtectedFromScaleIn: in.NewInstancesProtectedFromScaleIn, MaxInstanceLifetime: in.MaxInstanceLifetime,
		CapacityRebalance: in.CapacityRebalance, ServiceLinkedRoleARN: in.ServiceLinkedRoleARN, DeletionProtection: in.DeletionProtection, Context: in.Context,
		PlacementGroup: in.PlacementGroup, DesiredCapacityType: in.DesiredCapacityType, InstanceMaintenancePolicy: in.InstanceMaintenancePolicy,
		AvailabilityZoneDistribution: in.AvailabilityZoneDistribution, AvailabilityZoneImpairmentPolicy: in.AvailabilityZoneImpairmentPolicy,
		CapacityReservationSpecification: in.CapacityReservationSpecification, InstanceLifecyclePolicy: in.InstanceLifecyclePolicy}
	sources := 0
	for _, given := range []bool{in.LaunchTemplate != nil, in.MixedInstancesPolicy != nil, in.LaunchConfigurationName != nil, in.InstanceId != nil} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return nil, invalid("Valid requests must contain either launchTemplate, LaunchConfigurationName, InstanceId or MixedInstancesPolicy parameter.")
	}
	if err := u.apply(&g); err != nil {
		return nil, err
	}
	arns, err := targetGroups(in.TargetGroupARNs, in.TrafficSources)
	if err != nil {
		return nil, err
	}
	for _, arn := range arns {
		g.Attachments = append(g.Attachments, scaling.Attachment{ARN: arn})
	}
	if len(in.LoadBalancerNames) > 0 {
		return nil, errClassic()
	}
	for _, t := range in.Tags {
		g.Tags = append(g.Tags, scaling.Tag{Key: api.Val(t.Key), Value: api.Val(t.Value), Propagate: api.Val(t.PropagateAtLaunch)})
	}
	var hooks []scaling.Hook
	for _, h := range in.LifecycleHookSpecificationList {
		hooks = append(hooks, scaling.Hook{Name: api.Val(h.LifecycleHookName), Transition: api.Val(h.LifecycleTransition), Heartbeat: int(api.Val(h.HeartbeatTimeout)),
			DefaultResult: api.Val(h.DefaultResult), NotificationTarget: api.Val(h.NotificationTargetARN), NotificationMetadata: api.Val(h.NotificationMetadata), Role: api.Val(h.RoleARN)})
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		if in.InstanceId != nil {
			if err := s.fromInstance(w, &g, *in.InstanceId); err != nil {
				return err
			}
		}
		_, err := s.Engine.CreateGroup(w, g, intPtr(in.DesiredCapacity), hooks)
		return err
	})
}

// fromInstance makes a group's launch configuration, of its own name, from an instance; its subnet is the group's when the
// request names none.
func (s *Server) fromInstance(w *store.WriteTx, g *scaling.Group, id string) error {
	like, err := likeInstance(w, g.Scope, id)
	if err != nil {
		return err
	}
	like.LaunchConfigurationName = &g.Name
	l, err := launchConfiguration(g.Scope, like)
	if err != nil {
		return err
	}
	g.LaunchConfiguration = g.Name
	if i, err := compute.GetInstance(w, g.Scope, id); err == nil && len(g.Subnets) == 0 && len(g.ZoneNames) == 0 {
		g.Subnets = []string{i.SubnetID}
	}
	return s.Engine.CreateLaunchConfiguration(w, l)
}

func errClassic() error {
	return fault.New(fault.Unsupported, "ValidationError", "Classic Load Balancers (LoadBalancerNames) are not supported. Use target groups.")
}

// settings are what CreateAutoScalingGroup and UpdateAutoScalingGroup have in common; what is nil stays.
type settings struct {
	LaunchTemplate                   *as.LaunchTemplateSpecification
	MixedInstancesPolicy             *as.MixedInstancesPolicy
	LaunchConfigurationName          *string
	VPCZoneIdentifier                *string
	AvailabilityZones                []string
	AvailabilityZoneIds              []string
	DefaultInstanceWarmup            *int32
	HealthCheckType                  *string
	HealthCheckGracePeriod           *int32
	TerminationPolicies              []string
	NewInstancesProtectedFromScaleIn *bool
	MaxInstanceLifetime              *int32
	CapacityRebalance                *bool
	ServiceLinkedRoleARN             *string
	DeletionProtection               *string
	Context                          *string
	PlacementGroup                   *string
	DesiredCapacityType              *string
	InstanceMaintenancePolicy        *as.InstanceMaintenancePolicy
	AvailabilityZoneDistribution     *as.AvailabilityZoneDistribution
	AvailabilityZoneImpairmentPolicy *as.AvailabilityZoneImpairmentPolicy
	CapacityReservationSpecification *as.CapacityReservationSpecification
	InstanceLifecyclePolicy          *as.InstanceLifecyclePolicy
}

// set assigns a value that was given.
func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (u settings) apply(g *scaling.Group) error {
	if err := u.source(g); err != nil {
		return err
	}
	if err := u.place(g); err != nil {
		return err
	}
	if w := u.DefaultInstanceWarmup; w != nil {
		g.DefaultWarmup = intPtr(w)
		if *w == -1 {
			g.DefaultWarmup = nil
		}
	}
	set(&g.HealthCheckType, u.HealthCheckType)
	if u.HealthCheckGracePeriod != nil {
		g.GracePeriod = int(*u.HealthCheckGracePeriod)
	}
	if len(u.TerminationPolicies) > 0 {
		g.TerminationPolicies = slices.Clone(u.TerminationPolicies)
	}
	set(&g.ProtectNew, u.NewInstancesProtectedFromScaleIn)
	if l := u.MaxInstanceLifetime; l != nil {
		g.MaxInstanceLifetime = intPtr(l)
		if *l == 0 {
			g.MaxInstanceLifetime = nil
		}
	}
	set(&g.CapacityRebalance, u.CapacityRebalance)
	set(&g.ServiceLinkedRole, u.ServiceLinkedRoleARN)
	set(&g.DeletionProtection, u.DeletionProtection)
	set(&g.Context, u.Context)
	set(&g.PlacementGroup, u.PlacementGroup)
	set(&g.DesiredCapacityType, u.DesiredCapacityType)
	if g.PlacementGroup != "" {
		return invalid("The Placement Group '%s' is unknown.", g.PlacementGroup)
	}
	return u.documents(g)
}

// documents are the settings that are kept as they were sent.
func (u settings) documents(g *scaling.Group) error {
	g.Documents = maps.Clone(g.Documents)
	if g.Documents == nil {
		g.Documents = map[string]json.RawMessage{}
	}
	if p := u.InstanceMaintenancePolicy; p != nil {
		lo, hi := api.Val(p.MinHealthyPercentage), api.Val(p.MaxHealthyPercentage)
		switch {
		case p.MinHealthyPercentage == nil || p.MaxHealthyPercentage == nil:
			return invalid("Both MinHealthyPercentage and MaxHealthyPercentage must be specified for an instance maintenance policy.")
		case lo == -1 && hi == -1:
			delete(g.Documents, "InstanceMaintenancePolicy")
			g.MinHealthy, g.MaxHealthy = nil, nil
		case lo < 0 || lo > 100 || hi < 100 || hi > 200 || hi-lo > 100:
			return invalid("MinHealthyPercentage must be between 0 and 100, MaxHealthyPercentage between 100 and 200, and their difference at most 100.")
		default:
			g.Documents["InstanceMaintenancePolicy"] = document(p)
			g.MinHealthy, g.MaxHealthy = api.Ptr(int(lo)), api.Ptr(int(hi))
		}
	}
	if d := u.AvailabilityZoneDistribution; d != nil {
		switch api.Val(d.CapacityDistributionStrategy) {
		case "balanced-only", "balanced-best-effort":
		default:
			return invalid("Invalid CapacityDistributionStrategy: %s", api.Val(d.CapacityDistributionStrategy))
		}
		g.BalancedOnly = *d.CapacityDistributionStrategy == "balanced-only"
	}
	if p := u.AvailabilityZoneImpairmentPolicy; p != nil {
		switch b := api.Val(p.ImpairedZoneHealthCheckBehavior); {
		case api.Val(p.ZonalShiftEnabled):
			return fault.New(fault.Unsupported, "ValidationError", "AvailabilityZoneImpairmentPolicy.ZonalShiftEnabled is not supported: this cloud has no zonal shifts.")
		case b != "" && b != "ReplaceUnhealthy" && b != "IgnoreUnhealthy":
			return invalid("Invalid ImpairedZoneHealthCheckBehavior: %s", b)
		}
		g.Documents["AvailabilityZoneImpairmentPolicy"] = document(u.AvailabilityZoneImpairmentPolicy)
	}
	if r := u.CapacityReservationSpecification; r != nil {
		if p := api.Val(r.CapacityReservationPreference); p != "" && p != "default" && p != "none" || r.CapacityReservationTarget != nil {
			return fault.New(fault.Unsupported, "ValidationError", "Capacity reservations are not supported: CapacityReservationPreference can be default or none, without a CapacityReservationTarget.")
		}
		g.Documents["CapacityReservationSpecification"] = document(u.CapacityReservationSpecification)
	}
	if u.InstanceLifecyclePolicy != nil {
		g.Documents["InstanceLifecyclePolicy"] = document(u.InstanceLifecyclePolicy)
		t := u.InstanceLifecyclePolicy.RetentionTriggers
		g.RetainAbandoned = t != nil && api.Val(t.TerminateHookAbandon) == "retain"
	}
	return nil
}

// source replaces what the group launches from, when one is given.
func (u settings) source(g *scaling.Group) error {
	clear := func() {
		g.Template, g.Mixed, g.LaunchConfiguration = nil, nil, ""
		g.Documents = maps.Clone(g.Documents)
		delete(g.Documents, "MixedInstancesPolicy")
	}
	n := 0
	if u.LaunchTemplate != nil {
		n++
		ref, err := template(u.LaunchTemplate)
		if err != nil {
			return err
		}
		clear()
		g.Template = &ref
	}
	if name := u.LaunchConfigurationName; name != nil {
		n++
		clear()
		g.LaunchConfiguration = *name
	}
	if u.MixedInstancesPolicy != nil {
		n++
		policy := merged(*g, u.MixedInstancesPolicy)
		m, err := mixed(policy)
		if err != nil {
			return err
		}
		clear()
		g.Mixed = &m
		if g.Documents == nil {
			g.Documents = map[string]json.RawMessage{}
		}
		g.Documents["MixedInstancesPolicy"] = document(policy)
	}
	if n > 1 {
		return invalid("Valid requests must contain either launchTemplate, LaunchConfigurationName, InstanceId or MixedInstancesPolicy parameter.")
	}
	return nil
}

func template(t *as.LaunchTemplateSpecification) (scaling.TemplateRef, error) {
	id, name := api.Val(t.LaunchTemplateId), api.Val(t.LaunchTemplateName)
	if (id == "") == (name == "") {
		return scaling.TemplateRef{}, invalid("Valid requests must contain either launchTemplateId or LaunchTemplateName")
	}
	return scaling.TemplateRef{ID: id, Name: name, Version: api.Val(t.Version)}, nil
}

// merged is a mixed instances policy with what it leaves out taken from the group's: the templates, and each member of the
// distribution.
func merged(g scaling.Group, in *as.MixedInstancesPolicy) *as.MixedInstancesPolicy {
	old := restore[as.MixedInstancesPolicy](g, "MixedInstancesPolicy")
	if old == nil || g.Mixed == nil {
		return in
	}
	out := *in
	keep(&out.LaunchTemplate, old.LaunchTemplate)
	if t := out.LaunchTemplate; t != nil && t.LaunchTemplateSpecification == nil && old.LaunchTemplate != nil {
		full := *t
		full.LaunchTemplateSpecification = old.LaunchTemplate.LaunchTemplateSpecification
		out.LaunchTemplate = &full
	}
	if in.InstancesDistribution == nil || old.InstancesDistribution == nil {
		keep(&out.InstancesDistribution, old.InstancesDistribution)
		return &out
	}
	d, was := *in.InstancesDistribution, old.InstancesDistribution
	keep(&d.OnDemandAllocationStrategy, was.OnDemandAllocationStrategy)
	keep(&d.OnDemandBaseCapacity, was.OnDemandBaseCapacity)
	keep(&d.OnDemandPercentageAboveBaseCapacity, was.OnDemandPercentageAboveBaseCapacity)
	keep(&d.SpotAllocationStrategy, was.SpotAllocationStrategy)
	keep(&d.SpotMaxPrice, was.SpotMaxPrice)
	if s := api.Val(d.SpotAllocationStrategy); s == "" || s == scaling.LowestPrice {
		keep(&d.SpotInstancePools, was.SpotInstancePools)
	}
	out.InstancesDistribution = &d
	return &out
}

func mixed(p *as.MixedInstancesPolicy) (scaling.Mixed, error) {
	if p.LaunchTemplate == nil || p.LaunchTemplate.LaunchTemplateSpecification == nil {
		return scaling.Mixed{}, invalid("A mixed instances policy must contain a launch template.")
	}
	ref, err := template(p.LaunchTemplate.LaunchTemplateSpecification)
	if err != nil {
		return scaling.Mixed{}, err
	}
	m := scaling.Mixed{Template: ref}
	required := false
	for _, o := range p.LaunchTemplate.Overrides {
		v := scaling.Override{InstanceType: api.Val(o.InstanceType), ImageID: api.Val(o.ImageId)}
		if o.InstanceRequirements != nil {
			v.Requirements, required = document(o.InstanceRequirements), true
		}
		if o.WeightedCapacity != nil {
			n, err := strconv.Atoi(*o.WeightedCapacity)
			if err != nil || n < 1 || n > 999 {
				return m, invalid("WeightedCapacity must be a number between 1 and 999.")
			}
			v.Weight = n
		}
		if o.LaunchTemplateSpecification != nil {
			t, err := template(o.LaunchTemplateSpecification)
			if err != nil {
				return m, err
			}
			v.Template = &t
		}
		m.Overrides = append(m.Overrides, v)
	}
	if p.InstancesDistribution != nil {
		d := *p.InstancesDistribution
		distributionDefaults(&d, required)
		m.Distribution = &scaling.Distribution{OnDemand: *d.OnDemandAllocationStrategy, Base: int(*d.OnDemandBaseCapacity), Percent: int(*d.OnDemandPercentageAboveBaseCapacity),
			Spot: *d.SpotAllocationStrategy, Pools: int(api.Val(d.SpotInstancePools)), MaxPrice: api.Val(d.SpotMaxPrice)}
	} else if required {
		m.Distribution = &scaling.Distribution{OnDemand: scaling.LowestPrice, Percent: 100, Spot: scaling.LowestPrice, Pools: 2}
	}
	return m, nil
}

// distributionDefaults fills in what AWS fills in.
func distributionDefaults(d *as.InstancesDistribution, required bool) {
	onDemand := scaling.Prioritized
	if required {
		onDemand = scaling.LowestPrice
	}
	fill(&d.OnDemandAllocationStrategy, onDemand)
	fill(&d.OnDemandBaseCapacity, 0)
	fill(&d.OnDemandPercentageAboveBaseCapacity, 100)
	fill(&d.SpotAllocationStrategy, scaling.LowestPrice)
	if *d.SpotAllocationStrategy == scaling.LowestPrice {
		fill(&d.SpotInstancePools, 2)
	}
	if api.Val(d.SpotMaxPrice) == "" {
		d.SpotMaxPrice = nil
	}
}

// zoneNames are zones that a request names either way.
func zoneNames(region string, names, ids []string) ([]string, error) {
	if len(names) > 0 && len(ids) > 0 {
		return nil, invalid("AvailabilityZones and AvailabilityZoneIds cannot be specified together.")
	}
	zones := slices.Clone(names)
	for _, id := range ids {
		found := ""
		for _, z := range network.Zones(region) {
			if z.ID == id {
				found = z.Name
			}
		}
		if found == "" {
			return nil, invalid("Invalid Availability Zone ID: %s", id)
		}
		zones = append(zones, found)
	}
	for _, z := range zones {
		if _, ok := network.ZoneByName(region, z); !ok {
			return nil, invalid("Invalid availability zone: %s", z)
		}
	}
	return zones, nil
}

// place replaces the group's subnets and zones, when they are given.
func (u settings) place(g *scaling.Group) error {
	zones, err := zoneNames(g.Region, u.AvailabilityZones, u.AvailabilityZoneIds)
	if err != nil {
		return err
	}
	var subnets []string
	if u.VPCZoneIdentifier != nil {
		for _, id := range strings.Split(*u.VPCZoneIdentifier, ",") {
			if id = strings.TrimSpace(id); id != "" {
				subnets = append(subnets, id)
			}
		}
	}
	switch {
	case len(zones) > 0:
		g.ZoneNames, g.ZonesGiven, g.Subnets = zones, true, subnets
	case len(subnets) > 0:
		g.ZoneNames, g.ZonesGiven, g.Subnets = nil, false, subnets
	}
	return nil
}

func (s *Server) updateAutoScalingGroup(c *api.Call, in *as.UpdateAutoScalingGroupType) (*as.UpdateAutoScalingGroupOutput, error) {
	u := settings{LaunchTemplate: in.LaunchTemplate, MixedInstancesPolicy: in.MixedInstancesPolicy, LaunchConfigurationName: in.LaunchConfigurationName,
		VPCZoneIdentifier: in.VPCZoneIdentifier, AvailabilityZones: in.AvailabilityZones, AvailabilityZoneIds: in.AvailabilityZoneIds,
		DefaultInstanceWarmup: in.DefaultInstanceWarmup, HealthCheckType: in.HealthCheckType, HealthCheckGracePeriod: in.HealthCheckGracePeriod,
		TerminationPolicies: in.TerminationPolicies, NewInstancesProtectedFromScaleIn: in.NewInstancesProtectedFromScaleIn, MaxInstanceLifetime: in.MaxInstanceLifetime,
		CapacityRebalance: in.CapacityRebalance, ServiceLinkedRoleARN: in.ServiceLinkedRoleARN, DeletionProtection: in.DeletionProtection, Context: in.Context,
		PlacementGroup: in.PlacementGroup, DesiredCapacityType: in.DesiredCapacityType, InstanceMaintenancePolicy: in.InstanceMaintenancePolicy,
		AvailabilityZoneDistribution: in.AvailabilityZoneDistribution, AvailabilityZoneImpairmentPolicy: in.AvailabilityZoneImpairmentPolicy,
		CapacityReservationSpecification: in.CapacityReservationSpecification, InstanceLifecyclePolicy: in.InstanceLifecyclePolicy}
	return nil, s.change(c, in.AutoScalingGroupName, "UpdateAutoScalingGroup", func(w *store.WriteTx, g scaling.Group) error {
		edited := g
		if err := u.apply(&edited); err != nil {
			return err
		}
		if in.DefaultCooldown != nil {
			edited.DefaultCooldown = int(*in.DefaultCooldown)
		}
		_, err := s.Engine.UpdateGroup(w, c.Scope(), g.Name, intPtr(in.MinSize), intPtr(in.MaxSize), intPtr(in.DesiredCapacity), func(g *scaling.Group) { *g = edited })
		return err
	})
}

func (s *Server) deleteAutoScalingGroup(c *api.Call, in *as.DeleteAutoScalingGroupType) (*as.DeleteAutoScalingGroupOutput, error) {
	return nil, s.change(c, in.AutoScalingGroupName, "DeleteAutoScalingGroup", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.DeleteGroup(w, c.Scope(), g.Name, api.Val(in.ForceDelete))
	})
}

func (s *Server) setDesiredCapacity(c *api.Call, in *as.SetDesiredCapacityType) (*as.SetDesiredCapacityOutput, error) {
	if in.DesiredCapacity == nil {
		return nil, invalid("1 validation error detected: Value null at 'desiredCapacity' failed to satisfy constraint: Member must not be null")
	}
	return nil, s.change(c, in.AutoScalingGroupName, "SetDesiredCapacity", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.SetDesired(w, c.Scope(), g.Name, int(*in.DesiredCapacity), api.Val(in.HonorCooldown))
	})
}

func (s *Server) suspendProcesses(c *api.Call, in *as.ScalingProcessQuery) (*as.SuspendProcessesOutput, error) {
	return nil, s.change(c, in.AutoScalingGroupName, "SuspendProcesses", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.Suspend(w, c.Scope(), g.Name, in.ScalingProcesses)
	})
}

func (s *Server) resumeProcesses(c *api.Call, in *as.ScalingProcessQuery) (*as.ResumeProcessesOutput, error) {
	return nil, s.change(c, in.AutoScalingGroupName, "ResumeProcesses", func(w *store.WriteTx, g scaling.Group) error {
		return s.Engine.Resume(w, c.Scope(), g.Name, in.ScalingProcesses)
	})
}

func (s *Server) describeAutoScalingGroups(c *api.Call, in *as.AutoScalingGroupNamesType) (*as.AutoScalingGroupsType, error) {
	out := &as.AutoScalingGroupsType{}
	return out, c.View(func(tx store.Tx) error {
		match, err := groupFilter(in.Filters)
		if err != nil {
			return err
		}
		var rows []scaling.Group
		for g := range scaling.Groups.Prefix(tx, c.Scope().Prefix()) {
			if (len(in.AutoScalingGroupNames) == 0 || slices.Contains(in.AutoScalingGroupNames, g.Name) || slices.Contains(in.AutoScalingGroupNames, g.ARN())) && match(g) {
				rows = append(rows, g)
			}
		}
		rows, next, err := page(rows, func(g scaling.Group) string { return g.Name }, in.MaxRecords, in.NextToken, 50, 100)
		if err != nil {
			return err
		}
		out.NextToken = next
		for _, g := range rows {
			v := groupWire(tx, g, in.IncludeInstances == nil || *in.IncludeInstances)
			v.PredictedCapacity = s.predicted(tx, g)
			out.AutoScalingGroups = append(out.AutoScalingGroups, v)
		}
		return nil
	})
}

// predicted is the capacity that a group's forecasts expect now; nil when it has none.
func (s *Server) predicted(tx store.Tx, g scaling.Group) *int32 {
	var most *int32
	for f := range scaling.Forecasts.By(tx, "group", g.Key(g.Name)) {
		if n := f.Wanted(tx.Now(), s.Engine.Hour(), 0); n > 0 && (most == nil || n > int(*most)) {
			most = num(n)
		}
	}
	return most
}

func groupFilter(filters []as.Filter) (func(scaling.Group) bool, error) {
	for _, f := range filters {
		n := api.Val(f.Name)
		if n != "tag-key" && n != "tag-value" && !strings.HasPrefix(n, "tag:") {
			return nil, invalid("Filter type %s is not correct. Allowed Filter types are: tag-key tag-value tag:key", n)
		}
	}
	return func(g scaling.Group) bool {
		for _, f := range filters {
			n, ok := api.Val(f.Name), false
			for _, t := range g.Tags {
				switch {
				case n == "tag-key":
					ok = ok || slices.Contains(f.Values, t.Key)
				case n == "tag-value":
					ok = ok || slices.Contains(f.Values, t.Value)
				default:
					ok = ok || t.Key == strings.TrimPrefix(n, "tag:") && slices.Contains(f.Values, t.Value)
				}
			}
			if !ok {
				return false
			}
		}
		return true
	}, nil
}

func templateWire(t *scaling.TemplateRef) *as.LaunchTemplateSpecification {
	if t == nil {
		return nil
	}
	return &as.LaunchTemplateSpecification{LaunchTemplateId: text(t.ID), LaunchTemplateName: text(t.Name), Version: text(t.Version)}
}

func groupWire(tx store.Tx, g scaling.Group, instances bool) as.AutoScalingGroup {
	out := as.AutoScalingGroup{AutoScalingGroupARN: api.Ptr(g.ARN()), AutoScalingGroupName: &g.Name, AvailabilityZones: g.ZoneNames,
		CapacityRebalance: api.Ptr(g.CapacityRebalance), Context: text(g.Context), CreatedTime: when(g.CreatedAt), DefaultCooldown: num(g.DefaultCooldown),
		DefaultInstanceWarmup: numPtr(g.DefaultWarmup), DesiredCapacity: num(g.Desired), DesiredCapacityType: text(g.DesiredCapacityType),
		DeletionProtection: text(g.DeletionProtection), HealthCheckGracePeriod: num(g.GracePeriod), HealthCheckType: &g.HealthCheckType,
		LaunchConfigurationName: text(g.LaunchConfiguration), LaunchTemplate: templateWire(g.Template), MaxInstanceLifetime: numPtr(g.MaxInstanceLifetime),
		MaxSize: num(g.Max), MinSize: num(g.Min), NewInstancesProtectedFromScaleIn: api.Ptr(g.ProtectNew), PlacementGroup: text(g.PlacementGroup),
		ServiceLinkedRoleARN: text(g.ServiceLinkedRole), TerminationPolicies: g.TerminationPolicies, VPCZoneIdentifier: api.Ptr(strings.Join(g.Subnets, ",")),
		MixedInstancesPolicy:             restore[as.MixedInstancesPolicy](g, "MixedInstancesPolicy"),
		InstanceMaintenancePolicy:        restore[as.InstanceMaintenancePolicy](g, "InstanceMaintenancePolicy"),
		AvailabilityZoneImpairmentPolicy: restore[as.AvailabilityZoneImpairmentPolicy](g, "AvailabilityZoneImpairmentPolicy"),
		CapacityReservationSpecification: restore[as.CapacityReservationSpecification](g, "CapacityReservationSpecification"),
		InstanceLifecyclePolicy:          restore[as.InstanceLifecyclePolicy](g, "InstanceLifecyclePolicy"),
		// Lists that are empty are answered as such.
		EnabledMetrics: []as.EnabledMetric{}, LoadBalancerNames: []string{}, SuspendedProcesses: []as.SuspendedProcess{}, Tags: []as.TagDescription{},
		TargetGroupARNs: []string{}, TrafficSources: []as.TrafficSourceIdentifier{}}
	fill(&out.CapacityReservationSpecification, as.CapacityReservationSpecification{CapacityReservationPreference: api.Ptr("default")})
	fill(&out.AvailabilityZoneImpairmentPolicy, as.AvailabilityZoneImpairmentPolicy{ZonalShiftEnabled: api.Ptr(false), ImpairedZoneHealthCheckBehavior: api.Ptr("IgnoreUnhealthy")})
	if out.LaunchTemplate != nil {
		fill(&out.LaunchTemplate.Version, "$Default")
	}
	strategy := "balanced-best-effort"
	if g.BalancedOnly {
		strategy = "balanced-only"
	}
	out.AvailabilityZoneDistribution = &as.AvailabilityZoneDistribution{CapacityDistributionStrategy: &strategy}
	if p := out.MixedInstancesPolicy; p != nil && g.Mixed != nil {
		completeMixed(p, *g.Mixed)
	}
	for _, z := range g.ZoneNames {
		if id := network.ZoneID(g.Region, z); id != "" {
			out.AvailabilityZoneIds = append(out.AvailabilityZoneIds, id)
		}
	}
	if g.Warm != nil {
		out.WarmPoolConfiguration, out.WarmPoolSize = warmPoolWire(*g.Warm), num(len(warmMembers(tx, g)))
	}
	if g.Deleting {
		out.Status = api.Ptr("Delete in progress")
	}
	for _, m := range g.Metrics {
		out.EnabledMetrics = append(out.EnabledMetrics, as.EnabledMetric{Metric: &m, Granularity: api.Ptr("1Minute")})
	}
	for _, p := range g.Suspended {
		out.SuspendedProcesses = append(out.SuspendedProcesses, as.SuspendedProcess{ProcessName: &p.Process, SuspensionReason: &p.Reason})
	}
	for _, t := range g.Tags {
		out.Tags = append(out.Tags, tagWire(g, t))
	}
	for _, a := range g.Attachments {
		if a.State != "Removing" {
			out.TargetGroupARNs = append(out.TargetGroupARNs, a.ARN)
			out.TrafficSources = append(out.TrafficSources, as.TrafficSourceIdentifier{Identifier: &a.ARN, Type: api.Ptr("elbv2")})
		}
	}
	if instances {
		out.Instances = []as.Instance{}
		for _, m := range scaling.MembersOf(tx, g) {
			if !m.Warmed() {
				out.Instances = append(out.Instances, memberWire(m))
			}
		}
	}
	return out
}

// completeMixed fills in what AWS fills in: the template's other name, and the distribution's defaults.
func completeMixed(p *as.MixedInstancesPolicy, m scaling.Mixed) {
	if p.LaunchTemplate != nil {
		spec := *templateWire(&m.Template)
		if given := p.LaunchTemplate.LaunchTemplateSpecification; given != nil {
			spec.Version = given.Version
		}
		fill(&spec.Version, "$Default")
		p.LaunchTemplate.LaunchTemplateSpecification = &spec
		if p.LaunchTemplate.Overrides == nil {
			p.LaunchTemplate.Overrides = []as.LaunchTemplateOverrides{}
		}
	}
	if p.InstancesDistribution == nil {
		p.InstancesDistribution = &as.InstancesDistribution{}
	}
	distributionDefaults(p.InstancesDistribution, slices.ContainsFunc(m.Overrides, func(o scaling.Override) bool { return o.Requirements != nil }))
}

func fill[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func weightWire(m scaling.Member) *string {
	if m.Weight == 0 {
		return nil
	}
	return api.Ptr(strconv.Itoa(m.Weight))
}

func memberWire(m scaling.Member) as.Instance {
	return as.Instance{AvailabilityZone: &m.Zone, AvailabilityZoneId: text(network.ZoneID(m.Region, m.Zone)), HealthStatus: &m.Health, ImageId: text(m.ImageID),
		InstanceId: &m.ID, InstanceType: text(m.InstanceType), LaunchConfigurationName: text(m.LaunchConfiguration), LaunchTemplate: templateWire(m.Template),
		LifecycleState: &m.State, ProtectedFromScaleIn: api.Ptr(m.Protected), WeightedCapacity: weightWire(m)}
}

func (s *Server) describeAutoScalingInstances(c *api.Call, in *as.DescribeAutoScalingInstancesType) (*as.AutoScalingInstancesType, error) {
	out := &as.AutoScalingInstancesType{}
	return out, c.View(func(tx store.Tx) error {
		var rows []scaling.Member
		for m := range scaling.Members.Prefix(tx, c.Scope().Prefix()) {
			if len(in.InstanceIds) == 0 || slices.Contains(in.InstanceIds, m.ID) {
				rows = append(rows, m)
			}
		}
		rows, next, err := page(rows, func(m scaling.Member) string { return m.ID }, in.MaxRecords, in.NextToken, 50, 50)
		if err != nil {
			return err
		}
		out.NextToken = next
		for _, m := range rows {
			out.AutoScalingInstances = append(out.AutoScalingInstances, as.AutoScalingInstanceDetails{AutoScalingGroupName: &m.Group, AvailabilityZone: &m.Zone,
				AvailabilityZoneId: text(network.ZoneID(m.Region, m.Zone)), HealthStatus: api.Ptr(strings.ToUpper(m.Health)), ImageId: text(m.ImageID), InstanceId: &m.ID,
				InstanceType: text(m.InstanceType), LaunchConfigurationName: text(m.LaunchConfiguration), LaunchTemplate: templateWire(m.Template),
				LifecycleState: &m.State, ProtectedFromScaleIn: api.Ptr(m.Protected), WeightedCapacity: weightWire(m)})
		}
		return nil
	})
}

// arnName is the group's name in a scope's ARN or the name itself.
func arnName(_ scope.Scope, v string) string {
	if i := strings.Index(v, ":autoScalingGroupName/"); i >= 0 {
		return v[i+len(":autoScalingGroupName/"):]
	}
	return v
}
