package access

import (
	"encoding/json"
	"slices"
	"strconv"

	"skerry/internal/compute"
	"skerry/internal/identity"
	"skerry/internal/network"
)

// runInstances is the action that every launch needs, also that of an Auto Scaling group's maker.
const runInstances = "ec2:RunInstances"

// launch asks for a launch: for all that it uses and makes, what the launch template adds included.
func (f *finder) launch() {
	doc, err := json.Marshal(f.in.Addr().Interface())
	if err != nil {
		f.named("instance")
		return
	}
	spec, err := compute.ParseSpec(doc)
	if err != nil {
		f.named("instance") // the handler refuses it
		return
	}
	f.launches(spec, f.text("LaunchTemplate.LaunchTemplateId"), f.text("LaunchTemplate.LaunchTemplateName"), f.text("LaunchTemplate.Version"), nil)
}

// launches asks for a launch of what spec says over a template; into the subnets, if there are some.
func (f *finder) launches(own compute.LaunchSpec, id, name, version string, subnets []string) {
	spec := own
	var common map[string][]string
	if id != "" || name != "" {
		v, err := compute.ResolveLaunchTemplate(f.tx, f.scope, id, name, version)
		if err == nil {
			spec, err = compute.Overlay(v.Spec, own)
		}
		if err != nil { // the handler refuses it
			f.ask(runInstances, f.arn("launch-template", orAny(id)), nil)
			return
		}
		arn := f.arn("launch-template", v.TemplateID)
		common = map[string][]string{"ec2:launchtemplate": {arn}}
		f.ask(runInstances, arn, common)
	}
	ask := func(kind, id string, fromTemplate bool, keys map[string][]string) {
		all := map[string][]string{}
		for k, v := range common {
			all[k] = v
		}
		if common != nil {
			all["ec2:islaunchtemplateresource"] = []string{strconv.FormatBool(fromTemplate)}
		}
		for k, v := range keys {
			all[k] = v
		}
		f.ask(runInstances, f.arn(kind, orAny(id)), all)
	}
	subnets, groups, interfaces := f.place(spec, subnets)
	ask("image", spec.ImageID, own.ImageID == "", nil)
	for _, id := range subnets {
		ask("subnet", id, own.SubnetID == "" && len(own.NetworkInterfaces) == 0, nil)
	}
	for _, id := range groups {
		ask("security-group", id, len(own.SecurityGroupIDs)+len(own.SecurityGroups)+len(own.NetworkInterfaces) == 0, nil)
	}
	for _, id := range interfaces {
		ask("network-interface", id, len(own.NetworkInterfaces) == 0, f.zoneKeys(subnets))
	}
	ask("instance", "", own.InstanceType == "", f.instanceKeys(spec, subnets))
	f.volumes(spec, own, ask)
	if spec.KeyName != "" {
		ask("key-pair", spec.KeyName, own.KeyName == "", nil)
	}
	if p := spec.Placement; p != nil && p.GroupName != "" {
		ask("placement-group", p.GroupName, own.Placement == nil, nil)
	}
	f.passRole(spec.IamInstanceProfile)
	for _, t := range spec.TagSpecifications {
		if len(t.Tags) == 0 {
			continue
		}
		keys := map[string][]string{"ec2:createaction": {"RunInstances"}}
		for _, p := range t.Tags {
			tagKey(keys, p.Key, p.Value)
		}
		f.ask("ec2:CreateTags", f.arn(t.ResourceType, "*"), keys)
	}
}

func orAny(id string) string {
	if id == "" {
		return "*"
	}
	return id
}

// volumes asks for the root volume, with what a mapping says of it, and for snapshots.
func (f *finder) volumes(spec, own compute.LaunchSpec, ask func(kind, id string, fromTemplate bool, keys map[string][]string)) {
	keys := tagKeys(spec.TagSpecifications, "volume")
	for _, b := range spec.BlockDeviceMappings {
		if b.Ebs == nil {
			continue
		}
		if b.Ebs.VolumeSize != nil {
			keys["ec2:volumesize"] = []string{strconv.Itoa(*b.Ebs.VolumeSize)}
		}
		if b.Ebs.VolumeType != "" {
			keys["ec2:volumetype"] = []string{b.Ebs.VolumeType}
		}
		keys["ec2:encrypted"] = []string{strconv.FormatBool(b.Ebs.Encrypted != nil && *b.Ebs.Encrypted)}
		if b.Ebs.SnapshotID != "" {
			ask("snapshot", b.Ebs.SnapshotID, len(own.BlockDeviceMappings) == 0, nil)
		}
	}
	ask("volume", "", len(own.BlockDeviceMappings) == 0, keys)
}

func tagKeys(specs []compute.TagSpec, kind string) map[string][]string {
	keys := map[string][]string{}
	for _, t := range specs {
		if t.ResourceType == kind {
			for _, p := range t.Tags {
				tagKey(keys, p.Key, p.Value)
			}
		}
	}
	return keys
}

// place finds where a launch goes: subnets, security groups, and interfaces ("" is a new one), also those that are meant
// when none is named.
func (f *finder) place(spec compute.LaunchSpec, into []string) (subnets, groups, interfaces []string) {
	subnets = slices.Clone(into)
	groups = append(slices.Clone(spec.SecurityGroupIDs), f.groupsByName(spec.SecurityGroups)...)
	if spec.SubnetID != "" && len(into) == 0 {
		subnets = append(subnets, spec.SubnetID)
	}
	for _, e := range spec.NetworkInterfaces {
		interfaces = append(interfaces, e.NetworkInterfaceID)
		groups = append(groups, e.Groups...)
		if n, ok := network.ENIs.Get(f.tx, f.scope.Key(e.NetworkInterfaceID)); ok {
			subnets, groups = append(subnets, n.SubnetID), append(groups, n.GroupIDs...)
		} else if e.SubnetID != "" && len(into) == 0 {
			subnets = append(subnets, e.SubnetID)
		}
	}
	if len(interfaces) == 0 {
		interfaces = []string{""}
	}
	if len(subnets) == 0 {
		sn, _ := compute.DefaultSubnet(f.tx, f.scope, spec.Placement)
		subnets = []string{sn.ID}
	}
	if len(groups) == 0 {
		sn, _ := network.Subnets.Get(f.tx, f.scope.Key(subnets[0]))
		v, _ := network.VPCs.Get(f.tx, f.scope.Key(sn.VpcID))
		groups = []string{v.DefaultGroupID}
	}
	return subnets, groups, interfaces
}

func (f *finder) zoneKeys(subnets []string) map[string][]string {
	keys := map[string][]string{}
	for _, id := range subnets {
		if sn, ok := network.Subnets.Get(f.tx, f.scope.Key(id)); ok {
			keys["ec2:availabilityzone"] = append(keys["ec2:availabilityzone"], sn.AvailabilityZone)
			keys["ec2:vpc"] = []string{f.arn("vpc", sn.VpcID)}
			keys["ec2:subnet"] = append(keys["ec2:subnet"], f.arn("subnet", sn.ID))
		}
	}
	return keys
}

// instanceKeys are what conditions ask about an instance that is about to be made.
func (f *finder) instanceKeys(spec compute.LaunchSpec, subnets []string) map[string][]string {
	keys := tagKeys(spec.TagSpecifications, "instance")
	for k, v := range map[string]string{"ec2:instancetype": spec.InstanceType, "ec2:tenancy": "default", "ec2:rootdevicetype": "ebs", "ec2:instancemarkettype": "on-demand"} {
		keys[k] = []string{v}
	}
	if spec.InstanceType == "" {
		keys["ec2:instancetype"] = []string{compute.DefaultType}
	}
	if z := f.zoneKeys(subnets)["ec2:availabilityzone"]; len(z) > 0 {
		keys["ec2:availabilityzone"] = z
	}
	if m := spec.InstanceMarketOptions; m != nil && m.MarketType != "" {
		keys["ec2:instancemarkettype"] = []string{m.MarketType}
	}
	if m := spec.MetadataOptions; m != nil {
		if m.HttpTokens != "" {
			keys["ec2:metadatahttptokens"] = []string{m.HttpTokens}
		}
		if m.HttpEndpoint != "" {
			keys["ec2:metadatahttpendpoint"] = []string{m.HttpEndpoint}
		}
		if m.HttpPutResponseHopLimit != nil {
			keys["ec2:metadatahttpputresponsehoplimit"] = []string{strconv.Itoa(*m.HttpPutResponseHopLimit)}
		}
	}
	if p, ok := f.instanceProfile(spec.IamInstanceProfile); ok {
		keys["ec2:instanceprofile"] = []string{p.ARN()}
	}
	return keys
}

func (f *finder) instanceProfile(p *compute.ProfileSpec) (identity.InstanceProfile, bool) {
	if p == nil {
		return identity.InstanceProfile{}, false
	}
	found, err := identity.ResolveProfile(f.tx, f.scope, p.Arn, p.Name)
	return found, err == nil
}

// passRole asks whether the caller may give the profile's role away.
func (f *finder) passRole(p *compute.ProfileSpec) {
	found, ok := f.instanceProfile(p)
	if !ok || found.Role == "" {
		return
	}
	if r, err := identity.GetRole(f.tx, f.scope.Account, found.Role); err == nil {
		f.ask("iam:PassRole", r.ARN(), map[string][]string{"iam:passedtoservice": {"ec2.amazonaws.com"}})
	}
}
