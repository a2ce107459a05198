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

func (s *Server) createLaunchConfiguration(c *api.Call, in *as.CreateLaunchConfigurationType) (*as.CreateLaunchConfigurationOutput, error) {
	if err := required("LaunchConfigurationName", in.LaunchConfigurationName); err != nil {
		return nil, err
	}
	switch {
	case in.InstanceId != nil:
		return nil, fault.New(fault.Unsupported, "ValidationError", "Making a launch configuration from an instance (InstanceId) is not supported.")
	case in.PlacementTenancy != nil && *in.PlacementTenancy != "default":
		return nil, fault.New(fault.Unsupported, "ValidationError", "PlacementTenancy %s is not supported.", *in.PlacementTenancy)
	case api.Val(in.ImageId) == "":
		return nil, invalid("Valid requests must contain either the InstanceID parameter or both the ImageId and InstanceType parameters.")
	case api.Val(in.InstanceType) == "":
		return nil, invalid("Valid requests must contain either the InstanceID parameter or both the ImageId and InstanceType parameters.")
	}
	l := scaling.LaunchConfiguration{Scope: c.Scope(), Name: *in.LaunchConfigurationName, Document: document(in), Launch: scaling.LaunchSpec{
		ImageID: *in.ImageId, InstanceType: *in.InstanceType, KeyName: api.Val(in.KeyName), SecurityGroups: in.SecurityGroups, UserData: api.Val(in.UserData),
		InstanceProfile: api.Val(in.IamInstanceProfile), Monitoring: in.InstanceMonitoring == nil || in.InstanceMonitoring.Enabled == nil || *in.InstanceMonitoring.Enabled,
		PublicIP: in.AssociatePublicIpAddress, SpotPrice: api.Val(in.SpotPrice)}}
	if m := in.MetadataOptions; m != nil {
		l.Launch.HttpTokens, l.Launch.HttpEndpoint, l.Launch.HopLimit = api.Val(m.HttpTokens), api.Val(m.HttpEndpoint), int(api.Val(m.HttpPutResponseHopLimit))
	}
	return nil, c.Update(func(w *store.WriteTx) error { return s.Engine.CreateLaunchConfiguration(w, l) })
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
			out.LaunchConfigurations = append(out.LaunchConfigurations, w)
		}
		return nil
	})
}
