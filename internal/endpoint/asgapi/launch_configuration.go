package asgapi

import (
	"encoding/json"
	"slices"
	"strings"

	"skerry/api"
	as "skerry/api/autoscaling"
	"skerry/internal/compute"
	"skerry/internal/fault"
	"skerry/internal/identity"
	"skerry/internal/scaling"
	"skerry/internal/scope"
	"skerry/internal/store"
)

func (s *Server) createLaunchConfiguration(c *api.Call, in *as.CreateLaunchConfigurationType) (*as.CreateLaunchConfigurationOutput, error) {
	if err := required("LaunchConfigurationName", in.LaunchConfigurationName); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		in := in
		if in.InstanceId != nil {
			like, err := likeInstance(w, c.Scope(), *in.InstanceId)
			if err != nil {
				return err
			}
			in = overridden(like, in)
		}
		l, err := launchConfiguration(c.Scope(), in)
		if err != nil {
			return err
		}
		if err := launchable(w, l); err != nil {
			return err
		}
		return s.Engine.CreateLaunchConfiguration(w, l)
	})
}

func launchConfiguration(sc scope.Scope, in *as.CreateLaunchConfigurationType) (scaling.LaunchConfiguration, error) {
	switch {
	case in.PlacementTenancy != nil && *in.PlacementTenancy != "default":
		return scaling.LaunchConfiguration{}, fault.New(fault.Unsupported, "ValidationError", "PlacementTenancy %s is not supported.", *in.PlacementTenancy)
	case api.Val(in.KernelId) != "", api.Val(in.RamdiskId) != "":
		return scaling.LaunchConfiguration{}, fault.New(fault.Unsupported, "ValidationError", "KernelId and RamdiskId are not supported.")
	case api.Val(in.ClassicLinkVPCId) != "", len(in.ClassicLinkVPCSecurityGroups) > 0:
		return scaling.LaunchConfiguration{}, fault.New(fault.Unsupported, "ValidationError", "EC2-Classic (ClassicLinkVPCId, ClassicLinkVPCSecurityGroups) is not supported.")
	case api.Val(in.ImageId) == "", api.Val(in.InstanceType) == "":
		return scaling.LaunchConfiguration{}, invalid("Valid requests must contain either the InstanceID parameter or both the ImageId and InstanceType parameters.")
	}
	l := scaling.LaunchConfiguration{Scope: sc, Name: *in.LaunchConfigurationName, Document: document(in), Launch: scaling.LaunchSpec{
		ImageID: *in.ImageId, InstanceType: *in.InstanceType, KeyName: api.Val(in.KeyName), SecurityGroups: in.SecurityGroups, UserData: api.Val(in.UserData),
		InstanceProfile: api.Val(in.IamInstanceProfile), Monitoring: in.InstanceMonitoring == nil || in.InstanceMonitoring.Enabled == nil || *in.InstanceMonitoring.Enabled,
		PublicIP: in.AssociatePublicIpAddress, SpotPrice: api.Val(in.SpotPrice), EbsOptimized: in.EbsOptimized}}
	if len(in.BlockDeviceMappings) > 0 {
		l.Launch.BlockDevices = document(blockDevices(in.BlockDeviceMappings))
	}
	if m := in.MetadataOptions; m != nil {
		l.Launch.HttpTokens, l.Launch.HttpEndpoint, l.Launch.HopLimit = api.Val(m.HttpTokens), api.Val(m.HttpEndpoint), int(api.Val(m.HttpPutResponseHopLimit))
	}
	return l, nil
}

// launchable checks that what a launch configuration names is there.
func launchable(tx store.Tx, l scaling.LaunchConfiguration) error {
	if _, err := compute.GetImage(tx, l.Scope, l.Launch.ImageID); err != nil {
		return invalid("AMI cannot be described: %s", l.Launch.ImageID)
	}
	if _, ok := compute.TypeByName(l.Launch.InstanceType); !ok {
		return invalid("Invalid InstanceType: %s", l.Launch.InstanceType)
	}
	if k := l.Launch.KeyName; k != "" {
		if _, err := compute.GetKeyPair(tx, l.Scope, k); err != nil {
			return invalid("The key pair '%s' does not exist", k)
		}
	}
	if p := l.Launch.InstanceProfile; p != "" {
		arn, name := "", p
		if strings.HasPrefix(p, "arn:") {
			arn, name = p, ""
		}
		if _, err := identity.ResolveProfile(tx, l.Scope, arn, name); err != nil {
			return invalid("Invalid IamInstanceProfile: %s", p)
		}
	}
	return nil
}

// blockDevices are a launch configuration's mappings as EC2 names them: all is the same but for NoDevice.
func blockDevices(list []as.BlockDeviceMapping) []compute.BlockDeviceSpec {
	var out []compute.BlockDeviceSpec
	for _, m := range list {
		d := compute.BlockDeviceSpec{DeviceName: api.Val(m.DeviceName), VirtualName: api.Val(m.VirtualName)}
		if api.Val(m.NoDevice) {
			d.NoDevice = api.Ptr("")
		}
		if e := m.Ebs; e != nil {
			d.Ebs = &compute.EbsSpec{DeleteOnTermination: e.DeleteOnTermination, Encrypted: e.Encrypted, Iops: intPtr(e.Iops), SnapshotID: api.Val(e.SnapshotId),
				Throughput: intPtr(e.Throughput), VolumeSize: intPtr(e.VolumeSize), VolumeType: api.Val(e.VolumeType)}
		}
		out = append(out, d)
	}
	return out
}

// likeInstance is the request for a launch configuration like an instance: all of it but its block devices and what it got
// after its launch.
func likeInstance(tx store.Tx, sc scope.Scope, id string) (*as.CreateLaunchConfigurationType, error) {
	i, err := compute.GetInstance(tx, sc, id)
	if err != nil || i.State == compute.Terminated {
		return nil, fault.New(fault.NotFound, "ValidationError", "Invalid Instance ID: %s", id)
	}
	out := &as.CreateLaunchConfigurationType{ImageId: &i.ImageID, InstanceType: &i.InstanceType, KeyName: text(i.KeyName), SecurityGroups: i.SecurityGroupIDs, UserData: text(i.UserData),
		IamInstanceProfile: text(i.IamInstanceProfileArn), InstanceMonitoring: &as.InstanceMonitoring{Enabled: &i.Monitoring}, EbsOptimized: &i.EbsOptimized,
		AssociatePublicIpAddress: api.Ptr(i.PublicIP != ""), MetadataOptions: &as.InstanceMetadataOptions{HttpTokens: text(i.MetadataOptions.HttpTokens),
			HttpEndpoint: text(i.MetadataOptions.HttpEndpoint), HttpPutResponseHopLimit: num(i.MetadataOptions.HttpPutResponseHopLimit)}}
	return out, nil
}

// overridden is like with what in says otherwise.
func overridden(like, in *as.CreateLaunchConfigurationType) *as.CreateLaunchConfigurationType {
	out := *in
	out.InstanceId = nil
	keep(&out.ImageId, like.ImageId)
	keep(&out.InstanceType, like.InstanceType)
	keep(&out.KeyName, like.KeyName)
	keep(&out.UserData, like.UserData)
	keep(&out.IamInstanceProfile, like.IamInstanceProfile)
	keep(&out.InstanceMonitoring, like.InstanceMonitoring)
	keep(&out.EbsOptimized, like.EbsOptimized)
	keep(&out.AssociatePublicIpAddress, like.AssociatePublicIpAddress)
	keep(&out.MetadataOptions, like.MetadataOptions)
	if out.SecurityGroups == nil {
		out.SecurityGroups = like.SecurityGroups
	}
	return &out
}

// keep gives what was not said.
func keep[T any](p **T, v *T) {
	if *p == nil {
		*p = v
	}
}

func (s *Server) deleteLaunchConfiguration(c *api.Call, in *as.LaunchConfigurationNameType) (*as.DeleteLaunchConfigurationOutput, error) {
	if err := required("LaunchConfigurationName", in.LaunchConfigurationName); err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error {
		return s.Engine.DeleteLaunchConfiguration(w, c.Scope(), *in.LaunchConfigurationName)
	})
}

func (s *Server) describeLaunchConfigurations(c *api.Call, in *as.LaunchConfigurationNamesType) (*as.LaunchConfigurationsType, error) {
	out := &as.LaunchConfigurationsType{}
	return out, c.View(func(tx store.Tx) error {
		var rows []scaling.LaunchConfiguration
		for l := range scaling.LaunchConfigurations.Prefix(tx, c.Scope().Prefix()) {
			if len(in.LaunchConfigurationNames) == 0 || slices.Contains(in.LaunchConfigurationNames, l.Name) {
				rows = append(rows, l)
			}
		}
		rows, next, err := page(rows, func(l scaling.LaunchConfiguration) string { return l.Name }, in.MaxRecords, in.NextToken, 50, 100)
		if err != nil {
			return err
		}
		out.NextToken = next
		for _, l := range rows {
			var w as.LaunchConfiguration
			if err := json.Unmarshal(l.Document, &w); err != nil {
				return err
			}
			w.CreatedTime, w.LaunchConfigurationARN, w.LaunchConfigurationName = when(l.CreatedAt), api.Ptr(l.ARN()), &l.Name
			w.InstanceMonitoring = &as.InstanceMonitoring{Enabled: api.Ptr(l.Launch.Monitoring)}
			fill(&w.EbsOptimized, false)
			fill(&w.KernelId, "")
			fill(&w.RamdiskId, "")
			fill(&w.KeyName, "")
			fill(&w.UserData, "")
			for _, list := range []*[]string{&w.SecurityGroups, &w.ClassicLinkVPCSecurityGroups} {
				if *list == nil {
					*list = []string{}
				}
			}
			if w.BlockDeviceMappings == nil {
				w.BlockDeviceMappings = []as.BlockDeviceMapping{}
			}
			out.LaunchConfigurations = append(out.LaunchConfigurations, w)
		}
		return nil
	})
}
