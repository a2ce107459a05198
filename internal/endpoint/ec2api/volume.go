package ec2api

import (
	"strconv"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/network"
	"skerry/internal/store"
)

func (s *Server) registerVolumes(m *api.Mux) {
	on(m, ec2.DescribeVolumes, s.describeVolumes)
	on(m, ec2.DescribeVolumeStatus, s.describeVolumeStatus)
	on(m, ec2.DescribeVolumeAttribute, s.describeVolumeAttribute)
	on(m, ec2.DeleteVolume, s.deleteVolume)
	refuse(m, ec2.CreateVolume, "CreateVolume", noVolumes)
	refuse(m, ec2.AttachVolume, "AttachVolume", noVolumes)
	refuse(m, ec2.DetachVolume, "DetachVolume", noVolumes)
	refuse(m, ec2.ModifyVolume, "ModifyVolume", noVolumes)
	refuse(m, ec2.ModifyVolumeAttribute, "ModifyVolumeAttribute", noVolumes)
	refuse(m, ec2.CreateSnapshot, "CreateSnapshot", noVolumes)
	refuse(m, ec2.DeleteSnapshot, "DeleteSnapshot", noVolumes)
	refuse(m, ec2.DescribeSnapshotAttribute, "DescribeSnapshotAttribute", noVolumes)
}

const noVolumes = "instances have their root volume only, and images keep its contents"

type volume = ec2.Volume

var volumeListing = listing[compute.Volume, volume]{
	table: compute.Volumes, ids: volumeIDs, id: func(v compute.Volume) string { return v.ID }, convert: describeVolume,
	kind: describe.Kind[volume]{IDs: "volumeSet", Min: 5, Max: 1000, Tags: eachTag(func(v *volume) []ec2.Tag { return v.Tags }), Filters: attrs[volume]{
		"attachment.attach-time":           attached(func(a *ec2.VolumeAttachment) []string { return times(a.AttachTime) }),
		"attachment.delete-on-termination": attached(func(a *ec2.VolumeAttachment) []string { return bools(a.DeleteOnTermination) }),
		"attachment.device":                attached(func(a *ec2.VolumeAttachment) []string { return texts(a.Device) }),
		"attachment.instance-id":           attached(func(a *ec2.VolumeAttachment) []string { return texts(a.InstanceId) }),
		"attachment.status":                attached(func(a *ec2.VolumeAttachment) []string { return texts(a.State) }),
		"availability-zone":                field(func(v *volume) *string { return v.AvailabilityZone }), "availability-zone-id": field(func(v *volume) *string { return v.AvailabilityZoneId }),
		"create-time": func(v *volume) []string { return times(v.CreateTime) }, "encrypted": func(v *volume) []string { return bools(v.Encrypted) },
		"fast-restored": fixed[volume]("false"), "multi-attach-enabled": fixed[volume]("false"), "operator.managed": fixed[volume]("false"), "operator.principal": none[volume](),
		"size": func(v *volume) []string { return []string{strconv.Itoa(int(api.Val(v.Size)))} }, "snapshot-id": field(func(v *volume) *string { return v.SnapshotId }),
		"status": field(func(v *volume) *string { return v.State }), "volume-id": field(func(v *volume) *string { return v.VolumeId }), "volume-type": field(func(v *volume) *string { return v.VolumeType }),
	}},
}

func attached(get func(*ec2.VolumeAttachment) []string) func(*volume) []string {
	return each(func(v *volume) []ec2.VolumeAttachment { return v.Attachments }, get)
}

func describeVolume(tx store.Tx, v compute.Volume) ec2.Volume {
	out := ec2.Volume{VolumeId: ptr(v.ID), AvailabilityZone: ptr(v.AvailabilityZone), AvailabilityZoneId: str(network.ZoneID(v.Region, v.AvailabilityZone)), VolumeType: ptr(v.Type), Size: num(v.SizeGiB), SnapshotId: ptr(v.SnapshotID),
		Encrypted: ptr(v.Encrypted), MultiAttachEnabled: ptr(false), State: ptr("available"), CreateTime: when(v.CreatedAt), Attachments: []ec2.VolumeAttachment{}, Tags: tagsOf(tx, v.Scope, v.ID)}
	if v.IOPS > 0 {
		out.Iops = num(v.IOPS)
	}
	if v.Throughput > 0 {
		out.Throughput = num(v.Throughput)
	}
	if v.InstanceID != "" {
		out.State = ptr("in-use")
		out.Attachments = append(out.Attachments, ec2.VolumeAttachment{VolumeId: ptr(v.ID), InstanceId: ptr(v.InstanceID), Device: ptr(v.Device), State: ptr("attached"), AttachTime: when(v.AttachTime), DeleteOnTermination: ptr(v.DeleteOnTermination)})
	}
	return out
}

func (s *Server) describeVolumes(c *api.Call, in *ec2.DescribeVolumesRequest) (*ec2.DescribeVolumesResult, error) {
	out, next, err := volumeListing.describe(c, in.VolumeIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeVolumesResult{Volumes: out, NextToken: next}, err
}

type volumeState = ec2.VolumeStatusItem

var volumeStatusListing = listing[compute.Volume, volumeState]{
	table: compute.Volumes, ids: volumeIDs, id: func(v compute.Volume) string { return v.ID },
	convert: func(_ store.Tx, v compute.Volume) volumeState {
		return volumeState{VolumeId: ptr(v.ID), AvailabilityZone: ptr(v.AvailabilityZone), VolumeStatus: &ec2.VolumeStatusInfo{Status: ptr("ok")}}
	},
	kind: describe.Kind[volumeState]{IDs: "volumeSet", Min: 5, Max: 1000, Filters: attrs[volumeState]{
		"availability-zone": field(func(v *volumeState) *string { return v.AvailabilityZone }), "volume-status.status": fixed[volumeState]("ok"),
		"action.code": none[volumeState](), "action.description": none[volumeState](), "action.event-id": none[volumeState](), "event.description": none[volumeState](), "event.event-id": none[volumeState](),
		"event.event-type": none[volumeState](), "event.not-after": none[volumeState](), "event.not-before": none[volumeState](), "volume-status.details-name": none[volumeState](), "volume-status.details-status": none[volumeState](),
	}},
}

func (s *Server) describeVolumeStatus(c *api.Call, in *ec2.DescribeVolumeStatusRequest) (*ec2.DescribeVolumeStatusResult, error) {
	out, next, err := volumeStatusListing.describe(c, in.VolumeIds, in.Filters, in.MaxResults, in.NextToken)
	return &ec2.DescribeVolumeStatusResult{VolumeStatuses: out, NextToken: next}, err
}

func (s *Server) describeVolumeAttribute(c *api.Call, in *ec2.DescribeVolumeAttributeRequest) (*ec2.DescribeVolumeAttributeResult, error) {
	id, err := volumeIDs.need("volumeId", in.VolumeId)
	if err != nil {
		return nil, err
	}
	if _, err := compute.GetVolume(c.DB.Read(), c.Scope(), id); err != nil {
		return nil, err
	}
	out := &ec2.DescribeVolumeAttributeResult{VolumeId: ptr(id)}
	switch a := api.Val(in.Attribute); a {
	case "autoEnableIO":
		out.AutoEnableIO = boolean(false)
	case "productCodes":
	default:
		return nil, unknownAttribute(a)
	}
	return out, nil
}

func (s *Server) deleteVolume(c *api.Call, in *ec2.DeleteVolumeRequest) (*ec2.DeleteVolumeOutput, error) {
	id, err := volumeIDs.need("volumeId", in.VolumeId)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(w *store.WriteTx) error { return compute.DeleteVolume(w, c.Scope(), id) })
}
