package ec2api

import (
	"slices"
	"strings"
	"time"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/store"
)

func (s *Server) registerDefaults(m *api.Mux) {
	on(m, ec2.GetInstanceMetadataDefaults, s.getInstanceMetadataDefaults)
	on(m, ec2.ModifyInstanceMetadataDefaults, s.modifyInstanceMetadataDefaults)
	on(m, ec2.GetDefaultCreditSpecification, s.getDefaultCreditSpecification)
	on(m, ec2.ModifyDefaultCreditSpecification, s.modifyDefaultCreditSpecification)
	on(m, ec2.GetEbsEncryptionByDefault, s.getEbsEncryptionByDefault)
	on(m, ec2.DisableEbsEncryptionByDefault, s.disableEbsEncryptionByDefault)
	on(m, ec2.GetEbsDefaultKmsKeyId, s.getEbsDefaultKmsKeyId)
	on(m, ec2.GetSerialConsoleAccessStatus, s.getSerialConsoleAccessStatus)
	on(m, ec2.DisableSerialConsoleAccess, s.disableSerialConsoleAccess)
	on(m, ec2.GetImageBlockPublicAccessState, s.getImageBlockPublicAccessState)
	on(m, ec2.GetSnapshotBlockPublicAccessState, s.getSnapshotBlockPublicAccessState)
	on(m, ec2.GetPasswordData, s.getPasswordData)
	on(m, ec2.DescribeIdFormat, s.describeIdFormat)
	on(m, ec2.DescribeAggregateIdFormat, s.describeAggregateIdFormat)
	on(m, ec2.DescribeInstanceImageMetadata, s.describeInstanceImageMetadata)
	on(m, ec2.DescribeSnapshots, s.describeSnapshots)
	on(m, ec2.ModifyAvailabilityZoneGroup, s.modifyAvailabilityZoneGroup)
	on(m, ec2.ModifyVpcTenancy, s.modifyVpcTenancy)
	on(m, ec2.ModifyInstanceCpuOptions, s.modifyInstanceCpuOptions)
	on(m, ec2.ModifyInstancePlacement, s.modifyInstancePlacement)
	on(m, ec2.ReportInstanceStatus, s.reportInstanceStatus)
}

func (s *Server) getInstanceMetadataDefaults(c *api.Call, _ *ec2.GetInstanceMetadataDefaultsRequest) (*ec2.GetInstanceMetadataDefaultsResult, error) {
	d := compute.GetSettings(c.DB.Read(), c.Scope()).Metadata
	out := &ec2.InstanceMetadataDefaultsResponse{HttpTokens: str(d.HttpTokens), HttpEndpoint: str(d.HttpEndpoint), InstanceMetadataTags: str(d.InstanceMetadataTags), ManagedBy: ptr("account")}
	if d.HttpPutResponseHopLimit != nil {
		out.HttpPutResponseHopLimit = num(*d.HttpPutResponseHopLimit)
	}
	return &ec2.GetInstanceMetadataDefaultsResult{AccountLevel: out}, nil
}

func (s *Server) modifyInstanceMetadataDefaults(c *api.Call, in *ec2.ModifyInstanceMetadataDefaultsRequest) (*ec2.ModifyInstanceMetadataDefaultsResult, error) {
	if err := unsupported("HttpTokensEnforced", in.HttpTokensEnforced != nil && *in.HttpTokensEnforced != "disabled" && *in.HttpTokensEnforced != "no-preference"); err != nil {
		return nil, err
	}
	d := compute.MetadataSpec{HttpTokens: api.Val(in.HttpTokens), HttpEndpoint: api.Val(in.HttpEndpoint), InstanceMetadataTags: api.Val(in.InstanceMetadataTags)}
	if in.HttpPutResponseHopLimit != nil {
		d.HttpPutResponseHopLimit = ptr(int(*in.HttpPutResponseHopLimit))
	}
	err := c.Update(func(w *store.WriteTx) error { return compute.SetMetadataDefaults(w, c.Scope(), d) })
	return &ec2.ModifyInstanceMetadataDefaultsResult{Return: ptr(true)}, err
}

func (s *Server) getDefaultCreditSpecification(c *api.Call, in *ec2.GetDefaultCreditSpecificationRequest) (*ec2.GetDefaultCreditSpecificationResult, error) {
	family, err := need("InstanceFamily", in.InstanceFamily)
	if err != nil {
		return nil, err
	}
	mode, err := compute.DefaultCredits(c.DB.Read(), c.Scope(), family)
	return &ec2.GetDefaultCreditSpecificationResult{InstanceFamilyCreditSpecification: &ec2.InstanceFamilyCreditSpecification{InstanceFamily: ptr(family), CpuCredits: ptr(mode)}}, err
}

func (s *Server) modifyDefaultCreditSpecification(c *api.Call, in *ec2.ModifyDefaultCreditSpecificationRequest) (*ec2.ModifyDefaultCreditSpecificationResult, error) {
	family, err := need("InstanceFamily", in.InstanceFamily)
	if err != nil {
		return nil, err
	}
	err = c.Update(func(w *store.WriteTx) error {
		return compute.SetDefaultCredits(w, c.Scope(), family, api.Val(in.CpuCredits))
	})
	return &ec2.ModifyDefaultCreditSpecificationResult{InstanceFamilyCreditSpecification: &ec2.InstanceFamilyCreditSpecification{InstanceFamily: ptr(family), CpuCredits: in.CpuCredits}}, err
}

func (s *Server) getEbsEncryptionByDefault(*api.Call, *ec2.GetEbsEncryptionByDefaultRequest) (*ec2.GetEbsEncryptionByDefaultResult, error) {
	return &ec2.GetEbsEncryptionByDefaultResult{EbsEncryptionByDefault: ptr(false), SseType: ptr("none")}, nil
}

func (s *Server) disableEbsEncryptionByDefault(*api.Call, *ec2.DisableEbsEncryptionByDefaultRequest) (*ec2.DisableEbsEncryptionByDefaultResult, error) {
	return &ec2.DisableEbsEncryptionByDefaultResult{EbsEncryptionByDefault: ptr(false)}, nil
}

func (s *Server) getEbsDefaultKmsKeyId(*api.Call, *ec2.GetEbsDefaultKmsKeyIdRequest) (*ec2.GetEbsDefaultKmsKeyIdResult, error) {
	return &ec2.GetEbsDefaultKmsKeyIdResult{KmsKeyId: ptr("alias/aws/ebs")}, nil
}

func (s *Server) getSerialConsoleAccessStatus(*api.Call, *ec2.GetSerialConsoleAccessStatusRequest) (*ec2.GetSerialConsoleAccessStatusResult, error) {
	return &ec2.GetSerialConsoleAccessStatusResult{SerialConsoleAccessEnabled: ptr(false), ManagedBy: ptr("account")}, nil
}

func (s *Server) disableSerialConsoleAccess(*api.Call, *ec2.DisableSerialConsoleAccessRequest) (*ec2.DisableSerialConsoleAccessResult, error) {
	return &ec2.DisableSerialConsoleAccessResult{SerialConsoleAccessEnabled: ptr(false)}, nil
}

func (s *Server) getImageBlockPublicAccessState(*api.Call, *ec2.GetImageBlockPublicAccessStateRequest) (*ec2.GetImageBlockPublicAccessStateResult, error) {
	return &ec2.GetImageBlockPublicAccessStateResult{ImageBlockPublicAccessState: ptr("unblocked"), ManagedBy: ptr("account")}, nil
}

func (s *Server) getSnapshotBlockPublicAccessState(*api.Call, *ec2.GetSnapshotBlockPublicAccessStateRequest) (*ec2.GetSnapshotBlockPublicAccessStateResult, error) {
	return &ec2.GetSnapshotBlockPublicAccessStateResult{State: ptr("unblocked"), ManagedBy: ptr("account")}, nil
}

// getPasswordData is empty, as for every instance that does not run Windows.
func (s *Server) getPasswordData(c *api.Call, in *ec2.GetPasswordDataRequest) (*ec2.GetPasswordDataResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	_, err = compute.GetInstance(c.DB.Read(), c.Scope(), id)
	return &ec2.GetPasswordDataResult{InstanceId: ptr(id), PasswordData: ptr(""), Timestamp: ptr(c.Now.UTC().Truncate(time.Second))}, err
}

// idFormats lists the resources whose ids are long: all.
func idFormats() []ec2.IdFormat {
	var out []ec2.IdFormat
	for _, name := range []string{"dhcp-options", "elastic-ip-allocation", "elastic-ip-association", "image", "instance", "internet-gateway", "network-acl", "network-acl-association", "network-interface",
		"network-interface-attachment", "reservation", "route-table", "route-table-association", "security-group", "snapshot", "subnet", "volume", "vpc", "vpc-cidr-block-association"} {
		out = append(out, ec2.IdFormat{Resource: ptr(name), UseLongIds: ptr(true)})
	}
	return out
}

func (s *Server) describeIdFormat(_ *api.Call, in *ec2.DescribeIdFormatRequest) (*ec2.DescribeIdFormatResult, error) {
	list := idFormats()
	if in.Resource != nil {
		list = slices.DeleteFunc(list, func(f ec2.IdFormat) bool { return *f.Resource != *in.Resource })
		if len(list) == 0 {
			return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter resource is invalid. Unknown resource.", *in.Resource)
		}
	}
	return &ec2.DescribeIdFormatResult{Statuses: list}, nil
}

func (s *Server) describeAggregateIdFormat(*api.Call, *ec2.DescribeAggregateIdFormatRequest) (*ec2.DescribeAggregateIdFormatResult, error) {
	return &ec2.DescribeAggregateIdFormatResult{UseLongIdsAggregated: ptr(true), Statuses: idFormats()}, nil
}

type imageMetadata = ec2.InstanceImageMetadata

var imageMetadataListing = listing[compute.Instance, imageMetadata]{
	table: compute.Instances, ids: instanceIDs, id: func(i compute.Instance) string { return i.ID },
	convert: func(tx store.Tx, i compute.Instance) imageMetadata {
		out := imageMetadata{InstanceId: ptr(i.ID), InstanceType: ptr(i.InstanceType), LaunchTime: when(i.LaunchTime), AvailabilityZone: ptr(i.AvailabilityZone), ZoneId: str(network.ZoneID(i.Region, i.AvailabilityZone)),
			State: stateOf(i.State), OwnerId: ptr(i.Account), Tags: tagsOf(tx, i.Scope, i.ID), ImageMetadata: &ec2.ImageMetadata{ImageId: ptr(i.ImageID)}}
		if img, err := compute.GetImage(tx, i.Scope, i.ImageID); err == nil {
			out.ImageMetadata = &ec2.ImageMetadata{ImageId: ptr(img.ID), Name: ptr(img.Name), OwnerId: ptr(img.OwnerID), ImageOwnerAlias: str(img.OwnerAlias), State: ptr(img.State), CreationDate: ptr(isoMillis(img.CreatedAt)), IsPublic: ptr(img.Public), DeprecationTime: str(isoMillis(img.DeprecationTime))}
		}
		return out
	},
	kind: describe.Kind[imageMetadata]{IDs: "instancesSet", Min: 5, Max: 1000, Tags: eachTag(func(v *imageMetadata) []ec2.Tag { return v.Tags }), Filters: attrs[imageMetadata]{
		"availability-zone": field(func(v *imageMetadata) *string { return v.AvailabilityZone }), "instance-id": field(func(v *imageMetadata) *string { return v.InstanceId }),
		"instance-state-name": field(func(v *imageMetadata) *string { return v.State.Name }), "instance-type": field(func(v *imageMetadata) *string { return v.InstanceType }),
		"launch-time": func(v *imageMetadata) []string { return times(v.LaunchTime) }, "owner-id": field(func(v *imageMetadata) *string { return v.OwnerId }), "zone-id": field(func(v *imageMetadata) *string { return v.ZoneId }),
		"image-allowed": fixed[imageMetadata]("true"), "owner-alias": field(func(v *imageMetadata) *string { return v.ImageMetadata.ImageOwnerAlias }),
	}},
}

func (s *Server) describeInstanceImageMetadata(c *api.Call, in *ec2.DescribeInstanceImageMetadataRequest) (*ec2.DescribeInstanceImageMetadataResult, error) {
	out, next, err := imageMetadataListing.describe(c, in.InstanceIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeInstanceImageMetadataResult{InstanceImageMetadata: out, NextToken: next}, err
}

type snapshot = ec2.Snapshot

var snapshotKind = describe.Kind[snapshot]{IDs: "snapshotSet", Min: 5, Max: 1000, Tags: eachTag(func(v *snapshot) []ec2.Tag { return v.Tags }), Filters: attrs[snapshot]{
	"description": field(func(v *snapshot) *string { return v.Description }), "encrypted": fixed[snapshot]("false"), "owner-alias": field(func(v *snapshot) *string { return v.OwnerAlias }), "owner-id": field(func(v *snapshot) *string { return v.OwnerId }),
	"progress": field(func(v *snapshot) *string { return v.Progress }), "snapshot-id": field(func(v *snapshot) *string { return v.SnapshotId }), "start-time": func(v *snapshot) []string { return times(v.StartTime) },
	"status": field(func(v *snapshot) *string { return v.State }), "storage-tier": fixed[snapshot]("standard"), "transfer-type": none[snapshot](), "volume-id": field(func(v *snapshot) *string { return v.VolumeId }),
	"volume-size": func(v *snapshot) []string { return nums(v.VolumeSize) },
}}

// describeSnapshots lists the snapshots that images' root volumes are made of; there are no others.
func (s *Server) describeSnapshots(c *api.Call, in *ec2.DescribeSnapshotsRequest) (*ec2.DescribeSnapshotsResult, error) {
	ids := idKind{"snap", "InvalidSnapshotID.Malformed", "InvalidSnapshot.NotFound", "The snapshot '%s' does not exist."}
	if err := ids.check(in.SnapshotIds...); err != nil {
		return nil, err
	}
	var out []snapshot
	var next string
	err := c.View(func(tx store.Tx) error {
		found := map[string]bool{}
		var rows []compute.Image
		for _, i := range compute.VisibleImages(tx, c.Scope()) {
			if found[i.SnapshotID] || i.SnapshotID == "" || len(in.SnapshotIds) > 0 && !slices.Contains(in.SnapshotIds, i.SnapshotID) || len(in.OwnerIds) > 0 && !ownedBy(i, c.Account, in.OwnerIds) {
				continue
			}
			found[i.SnapshotID] = true
			rows = append(rows, i)
		}
		var missing []string
		for _, id := range in.SnapshotIds {
			if !found[id] && len(in.OwnerIds) == 0 {
				missing = append(missing, id)
			}
		}
		if len(missing) > 0 {
			return ids.missing(missing)
		}
		slices.SortFunc(rows, func(a, b compute.Image) int { return strings.Compare(a.SnapshotID, b.SnapshotID) })
		q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: len(in.SnapshotIds) > 0}
		var err error
		out, next, err = describe.Page(&snapshotKind, q, slices.Values(rows), func(i compute.Image) string { return i.SnapshotID }, func(i compute.Image) snapshot {
			state, progress := "completed", "100%"
			if i.State == "pending" {
				state, progress = "pending", "0%"
			}
			return snapshot{SnapshotId: ptr(i.SnapshotID), Description: ptr("Created for " + i.ID), OwnerId: ptr(i.OwnerID), OwnerAlias: str(i.OwnerAlias), VolumeSize: num(i.RootSizeGiB), VolumeId: ptr("vol-ffffffff"), State: ptr(state), Progress: ptr(progress),
				Encrypted: ptr(false), StorageTier: ptr("standard"), StartTime: when(i.CreatedAt), Tags: tagsOf(tx, c.Scope(), i.SnapshotID)}
		})
		return err
	})
	return &ec2.DescribeSnapshotsResult{Snapshots: out, NextToken: str(next)}, err
}

func (s *Server) modifyAvailabilityZoneGroup(c *api.Call, in *ec2.ModifyAvailabilityZoneGroupRequest) (*ec2.ModifyAvailabilityZoneGroupResult, error) {
	if g := api.Val(in.GroupName); g != c.Region+"-zg-1" {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter groupName is invalid. Unknown zone group.", g)
	}
	if o := api.Val(in.OptInStatus); o != "opted-in" {
		return nil, fault.New(fault.Unsupported, "UnsupportedOperation", "The zone group %s cannot be opted out of.", *in.GroupName)
	}
	return &ec2.ModifyAvailabilityZoneGroupResult{Return: ptr(true)}, nil
}

func (s *Server) modifyVpcTenancy(c *api.Call, in *ec2.ModifyVpcTenancyRequest) (*ec2.ModifyVpcTenancyResult, error) {
	id, err := vpcIDs.need("VpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	if t := api.Val(in.InstanceTenancy); t != "default" {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter instanceTenancy is invalid. Valid values are: default.", t)
	}
	err = c.Update(func(w *store.WriteTx) error {
		v, err := network.GetVPC(w, c.Scope(), id)
		if err != nil {
			return err
		}
		v.InstanceTenancy = "default"
		network.VPCs.Put(w, v)
		return nil
	})
	return &ec2.ModifyVpcTenancyResult{ReturnValue: ptr(true)}, err
}

func (s *Server) modifyInstanceCpuOptions(c *api.Call, in *ec2.ModifyInstanceCpuOptionsRequest) (*ec2.ModifyInstanceCpuOptionsResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	if err := unsupported("NestedVirtualization", in.NestedVirtualization != nil && *in.NestedVirtualization != "disabled"); err != nil {
		return nil, err
	}
	var i compute.Instance
	err = c.Update(func(w *store.WriteTx) error {
		i, err = compute.SetCPUOptions(w, c.Scope(), id, int(api.Val(in.CoreCount)), int(api.Val(in.ThreadsPerCore)))
		return err
	})
	return &ec2.ModifyInstanceCpuOptionsResult{InstanceId: ptr(id), CoreCount: num(i.CoreCount), ThreadsPerCore: num(i.ThreadsPerCore)}, err
}

// modifyInstancePlacement knows one placement: the shared machine.
func (s *Server) modifyInstancePlacement(c *api.Call, in *ec2.ModifyInstancePlacementRequest) (*ec2.ModifyInstancePlacementResult, error) {
	id, err := instanceIDs.need("InstanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	if _, err := compute.GetInstance(c.DB.Read(), c.Scope(), id); err != nil {
		return nil, err
	}
	err = unsupported("Tenancy", in.Tenancy != nil && *in.Tenancy != "default", "HostId", in.HostId != nil, "HostResourceGroupArn", in.HostResourceGroupArn != nil, "Affinity", in.Affinity != nil && *in.Affinity != "default",
		"GroupName", api.Val(in.GroupName) != "", "GroupId", api.Val(in.GroupId) != "", "PartitionNumber", in.PartitionNumber != nil)
	return &ec2.ModifyInstancePlacementResult{Return: ptr(true)}, err
}

// reportInstanceStatus takes a report, which AWS too only keeps to itself.
func (s *Server) reportInstanceStatus(c *api.Call, in *ec2.ReportInstanceStatusRequest) (*ec2.ReportInstanceStatusOutput, error) {
	if err := someInstances(in.Instances); err != nil {
		return nil, err
	}
	if st := api.Val(in.Status); st != "ok" && st != "impaired" {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter status is invalid. Valid values are: ok, impaired.", st)
	}
	list, err := compute.GetInstances(c.DB.Read(), c.Scope(), in.Instances)
	if err == nil {
		s.log().Info("an instance's status was reported", "instances", len(list), "status", *in.Status, "reasons", strings.Join(in.ReasonCodes, ","))
	}
	return nil, err
}
