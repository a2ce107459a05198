package live

import (
	"encoding/json"

	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

const groupTag = "aws:autoscaling:groupName"

// Compute serves scaling.Compute by the package compute.
type Compute struct{}

var _ scaling.Compute = Compute{}

// Instance finds an instance.
func (Compute) Instance(tx store.Tx, s scope.Scope, id string) (scaling.Instance, bool) {
	i, ok := compute.Instances.Get(tx, s.Key(id))
	return instance(i), ok
}

func instance(i compute.Instance) scaling.Instance {
	return scaling.Instance{ID: i.ID, State: i.State, ImageID: i.ImageID, InstanceType: i.InstanceType, SubnetID: i.SubnetID, Zone: i.AvailabilityZone,
		VpcID: i.VpcID, Reason: i.StateReasonMessage, LaunchTime: i.LaunchTime, Spot: i.Spot != nil, AtRisk: i.Spot != nil && (!i.Spot.RecommendedAt.IsZero() || !i.Spot.NoticedAt.IsZero()),
		Detailed: i.Monitoring, ImpairedSince: i.Checks.Since(), Interrupting: i.Spot != nil && !i.Spot.NoticedAt.IsZero()}
}

// Resolve finds a launch template's version.
func (Compute) Resolve(tx store.Tx, s scope.Scope, ref scaling.TemplateRef) (scaling.Template, error) {
	v, t, err := version(tx, s, ref)
	if err != nil {
		return scaling.Template{}, err
	}
	return scaling.Template{ID: t.ID, Name: t.Name, Version: int(v.Version), InstanceType: v.Spec.InstanceType, ImageID: v.Spec.ImageID, Requirements: v.Spec.InstanceRequirements,
		Spot: v.Spec.InstanceMarketOptions != nil && v.Spec.InstanceMarketOptions.MarketType != ""}, nil
}

func version(tx store.Tx, s scope.Scope, ref scaling.TemplateRef) (compute.LaunchTemplateVersion, compute.LaunchTemplate, error) {
	name := ref.Name
	if ref.ID != "" {
		name = ""
	}
	t, err := compute.GetLaunchTemplate(tx, s, ref.ID, name)
	if err != nil {
		return compute.LaunchTemplateVersion{}, t, err
	}
	v, err := compute.ResolveLaunchTemplate(tx, s, t.ID, "", ref.Version)
	return v, t, err
}

// CheckLaunch tells why Launch would fail with a template, but for a want of capacity.
func (Compute) CheckLaunch(w *store.WriteTx, s scope.Scope, r scaling.LaunchRequest) error {
	if r.Template == nil {
		return nil
	}
	v, over, err := fromTemplate(w, s, r)
	if err != nil {
		return err
	}
	return compute.CheckTemplate(w, s, v, over)
}

// fromTemplate gives the template's version that a request launches from, and what it says beside it.
func fromTemplate(tx store.Tx, s scope.Scope, r scaling.LaunchRequest) (compute.LaunchTemplateVersion, compute.LaunchOverrides, error) {
	over := compute.LaunchOverrides{SubnetID: r.SubnetID, Tags: r.Tags, ASGName: r.Group, Count: 1, InstanceType: r.InstanceType, Market: market(r.Spot, r.MaxPrice)}
	v, _, err := version(tx, s, *r.Template)
	if err != nil || r.ImageID == "" {
		return v, over, err
	}
	image, err := json.Marshal(map[string]string{"ImageId": r.ImageID})
	if err == nil {
		v.Document, err = compute.OverlayDocument(v.Document, image)
	}
	return v, over, err
}

// Launch writes a pending instance.
func (c Compute) Launch(w *store.WriteTx, s scope.Scope, r scaling.LaunchRequest) (scaling.Instance, error) {
	var res *compute.Reservation
	var err error
	if r.Template != nil {
		v, over, verr := fromTemplate(w, s, r)
		if verr != nil {
			return scaling.Instance{}, verr
		}
		res, err = compute.LaunchFromTemplate(w, s, v, over)
	} else {
		spec, serr := configured(r)
		if serr != nil {
			return scaling.Instance{}, serr
		}
		res, err = compute.Launch(w, compute.LaunchParams{Scope: s, Spec: spec, MinCount: 1, MaxCount: 1, ASGName: r.Group,
			RequesterID: "autoscaling.amazonaws.com", SystemTags: r.Tags})
	}
	if err != nil {
		return scaling.Instance{}, err
	}
	if len(res.Instances) != 1 {
		return scaling.Instance{}, fault.New(fault.Internal, "InternalError", "a launch of one instance made %d", len(res.Instances))
	}
	return instance(res.Instances[0]), nil
}

// market is how a spot instance is asked for; nil for one on demand, or what the template says.
func market(spot bool, price string) *compute.MarketSpec {
	if !spot {
		return nil
	}
	return &compute.MarketSpec{MarketType: "spot", SpotOptions: &compute.SpotMarketSpec{MaxPrice: price}}
}

// Match lists the types that meet requirements.
func (Compute) Match(tx store.Tx, s scope.Scope, ref scaling.TemplateRef, image string, requirements json.RawMessage, spot bool) ([]string, error) {
	var r compute.Requirements
	if err := json.Unmarshal(requirements, &r); err != nil {
		return nil, fault.New(fault.Invalid, "ValidationError", "InstanceRequirements cannot be read: %v", err)
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	if image == "" {
		v, _, err := version(tx, s, ref)
		if err != nil {
			return nil, err
		}
		image = v.Spec.ImageID
	}
	arch := "x86_64"
	if i, err := compute.GetImage(tx, s, image); err == nil {
		arch = i.Architecture
	}
	var out []string
	for _, t := range r.Match(arch, spot) {
		out = append(out, t.Name)
	}
	return out, nil
}

// Pools tells about types in a zone.
func (Compute) Pools(tx store.Tx, s scope.Scope, types []string, zone string, rooms bool) []scaling.Pool {
	out := make([]scaling.Pool, len(types))
	var free func(compute.Type) int
	if rooms {
		free = compute.Rooms(tx, s, zone)
	}
	for i, name := range types {
		t, ok := compute.TypeByName(name)
		if !ok {
			continue
		}
		out[i] = scaling.Pool{Price: t.Price(), Spot: t.SpotPrice(zone), VCPU: t.VCPU, MemoryMiB: t.MemoryMiB}
		if rooms {
			out[i].Room = free(t)
		}
	}
	return out
}

// configured is what a launch configuration says, as compute's specification.
func configured(r scaling.LaunchRequest) (compute.LaunchSpec, error) {
	l := r.Configuration
	spec := compute.LaunchSpec{ImageID: l.ImageID, InstanceType: l.InstanceType, KeyName: l.KeyName, UserData: l.UserData,
		Monitoring: &compute.EnabledSpec{Enabled: l.Monitoring}, EbsOptimized: l.EbsOptimized}
	if len(l.BlockDevices) > 0 {
		if err := json.Unmarshal(l.BlockDevices, &spec.BlockDeviceMappings); err != nil {
			return spec, err
		}
	}
	if r.InstanceType != "" {
		spec.InstanceType = r.InstanceType
	}
	spec.InstanceMarketOptions = market(l.SpotPrice != "", l.SpotPrice)
	if l.PublicIP != nil {
		spec.NetworkInterfaces = []compute.InterfaceSpec{{SubnetID: r.SubnetID, Groups: l.SecurityGroups, AssociatePublicIPAddress: l.PublicIP}}
	} else {
		spec.SubnetID, spec.SecurityGroupIDs = r.SubnetID, l.SecurityGroups
	}
	if p := l.InstanceProfile; len(p) > 4 && p[:4] == "arn:" {
		spec.IamInstanceProfile = &compute.ProfileSpec{Arn: p}
	} else if p != "" {
		spec.IamInstanceProfile = &compute.ProfileSpec{Name: p}
	}
	if l.HttpTokens != "" || l.HttpEndpoint != "" || l.HopLimit > 0 {
		spec.MetadataOptions = &compute.MetadataSpec{HttpTokens: l.HttpTokens, HttpEndpoint: l.HttpEndpoint}
		if l.HopLimit > 0 {
			spec.MetadataOptions.HttpPutResponseHopLimit = &l.HopLimit
		}
	}
	return spec, nil
}

// Terminate starts the termination, whatever protects the instance from the API.
func (Compute) Terminate(w *store.WriteTx, s scope.Scope, id string) error {
	_, err := compute.TerminateUnprotected(w, s, []string{id})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// Stop begins to stop an instance.
func (Compute) Stop(w *store.WriteTx, s scope.Scope, id string) error {
	_, err := compute.Stop(w, s, []string{id}, false)
	return err
}

// Start begins to start a stopped instance.
func (Compute) Start(w *store.WriteTx, s scope.Scope, id string) error {
	_, err := compute.Start(w, s, []string{id})
	return err
}

// SetGroup writes or clears the group of an instance's record and tag.
func (Compute) SetGroup(w *store.WriteTx, s scope.Scope, id, group string) error {
	i, ok := compute.Instances.Get(w, s.Key(id))
	if !ok {
		return nil
	}
	i.ASGName = group
	compute.Instances.Put(w, i)
	if group == "" {
		tag.Delete(w, s, id, groupTag, nil)
		return nil
	}
	tag.SetSystem(w, s, id, map[string]string{groupTag: group})
	return nil
}

// Subnet finds a subnet.
func (Compute) Subnet(tx store.Tx, s scope.Scope, id string) (scaling.Subnet, error) {
	sn, err := network.GetSubnet(tx, s, id)
	return scaling.Subnet{ID: sn.ID, Zone: sn.AvailabilityZone, VpcID: sn.VpcID}, err
}

// DefaultSubnet finds the default subnet of a zone.
func (Compute) DefaultSubnet(w *store.WriteTx, s scope.Scope, zone string) (scaling.Subnet, error) {
	if _, ok := network.ZoneByName(s.Region, zone); !ok {
		return scaling.Subnet{}, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid availability zone: [%s]", zone)
	}
	if err := network.EnsureDefaultVPC(w, s); err != nil {
		return scaling.Subnet{}, err
	}
	if v, ok := network.DefaultVPC(w, s); ok {
		for sn := range network.Subnets.By(w, "vpc", s.Key(v.ID)) {
			if sn.DefaultForAZ && sn.AvailabilityZone == zone {
				return scaling.Subnet{ID: sn.ID, Zone: zone, VpcID: sn.VpcID}, nil
			}
		}
	}
	return scaling.Subnet{}, fault.New(fault.NotFound, "MissingInput", "No default subnet for availability zone: '%s'.", zone)
}

// Tables are those that the loop watches.
func (Compute) Tables() []store.AnyTable { return []store.AnyTable{compute.Instances} }
