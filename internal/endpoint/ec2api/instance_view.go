package ec2api

import (
	"fmt"
	"strconv"
	"time"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/network"
	"skerry/internal/store"
)

// described is an instance in its wire form with its record.
type described struct {
	ec2.Instance
	record compute.Instance
}

var instanceListing = listing[compute.Instance, described]{
	table: compute.Instances, ids: instanceIDs, id: func(i compute.Instance) string { return i.ID }, convert: describeInstance, order: byAge,
	kind: describe.Kind[described]{IDs: "instancesSet", Min: 5, Max: 1000, Filters: instanceFilters(),
		Tags: eachTag(func(d *described) []ec2.Tag { return d.Tags })},
}

// byAge orders instances as they came, those of one launch by their index.
func byAge(i compute.Instance) string {
	return fmt.Sprintf("%020d %s %06d %s", i.CreatedAt.UnixNano(), i.ReservationID, i.AmiLaunchIndex, i.ID)
}

func groupsOf(tx store.Tx, i compute.Instance) []ec2.GroupIdentifier {
	out := []ec2.GroupIdentifier{}
	for _, id := range i.SecurityGroupIDs {
		g, _ := network.SecurityGroups.Get(tx, i.Key(id))
		out = append(out, ec2.GroupIdentifier{GroupId: ptr(id), GroupName: ptr(g.Name)})
	}
	return out
}

func describeInstance(tx store.Tx, i compute.Instance) described {
	d := described{record: i, Instance: ec2.Instance{
		InstanceId: ptr(i.ID), ImageId: ptr(i.ImageID), InstanceType: ptr(i.InstanceType), Architecture: ptr(i.Architecture), KeyName: str(i.KeyName), AmiLaunchIndex: num(i.AmiLaunchIndex),
		State: stateOf(i.State), StateTransitionReason: ptr(i.StateTransitionReason), LaunchTime: when(i.LaunchTime), ClientToken: ptr(i.ClientToken),
		SubnetId: str(i.SubnetID), VpcId: str(i.VpcID), PrivateIpAddress: str(i.PrivateIP), PublicIpAddress: str(i.PublicIP), PrivateDnsName: ptr(i.PrivateDNSName()), PublicDnsName: ptr(publicName(tx, i)),
		Placement:  &ec2.Placement{AvailabilityZone: ptr(i.AvailabilityZone), AvailabilityZoneId: str(network.ZoneID(i.Region, i.AvailabilityZone)), GroupName: ptr(""), Tenancy: ptr(i.Tenancy)},
		Monitoring: monitoring(i.Monitoring), EbsOptimized: ptr(i.EbsOptimized), EnaSupport: ptr(true), Hypervisor: ptr("xen"), VirtualizationType: ptr("hvm"),
		RootDeviceName: ptr(i.RootDeviceName), RootDeviceType: ptr("ebs"), SecurityGroups: groupsOf(tx, i), BlockDeviceMappings: []ec2.InstanceBlockDeviceMapping{}, NetworkInterfaces: []ec2.InstanceNetworkInterface{}, Tags: tagsOf(tx, i.Scope, i.ID),
		MetadataOptions: metadataOptions(i), CpuOptions: &ec2.CpuOptions{CoreCount: num(i.CoreCount), ThreadsPerCore: num(i.ThreadsPerCore)},
		EnclaveOptions: &ec2.EnclaveOptions{Enabled: ptr(false)}, HibernationOptions: &ec2.HibernationOptions{Configured: ptr(false)},
		MaintenanceOptions:               &ec2.InstanceMaintenanceOptions{AutoRecovery: ptr(i.AutoRecovery)},
		CapacityReservationSpecification: &ec2.CapacityReservationSpecificationResponse{CapacityReservationPreference: ptr("open")},
		PlatformDetails:                  str(i.PlatformDetails), UsageOperation: ptr("RunInstances"), UsageOperationUpdateTime: when(i.CreatedAt), BootMode: ptr("uefi-preferred"), CurrentInstanceBootMode: ptr("uefi"),
	}}
	if i.StateReasonCode != "" {
		d.StateReason = &ec2.StateReason{Code: ptr(i.StateReasonCode), Message: ptr(i.StateReasonMessage)}
	}
	if i.Spot != nil {
		d.InstanceLifecycle, d.SpotInstanceRequestId = ptr("spot"), ptr(i.Spot.RequestID)
	}
	if i.IamInstanceProfileArn != "" {
		d.IamInstanceProfile = &ec2.IamInstanceProfile{Arn: ptr(i.IamInstanceProfileArn), Id: ptr(i.IamInstanceProfileID)}
	}
	if i.State != compute.Terminated {
		d.PrivateDnsNameOptions = &ec2.PrivateDnsNameOptionsResponse{HostnameType: str(i.HostnameType), EnableResourceNameDnsARecord: ptr(i.ResourceNameDNSA), EnableResourceNameDnsAAAARecord: ptr(false)}
	}
	for _, b := range i.BlockDevices {
		d.BlockDeviceMappings = append(d.BlockDeviceMappings, ec2.InstanceBlockDeviceMapping{DeviceName: ptr(b.DeviceName), Ebs: &ec2.EbsInstanceBlockDevice{VolumeId: ptr(b.VolumeID),
			Status: ptr("attached"), AttachTime: when(b.AttachTime), DeleteOnTermination: ptr(b.DeleteOnTermination)}})
	}
	if i.ENIID != "" {
		for e := range network.ENIs.By(tx, "instance", i.Key(i.ID)) {
			if e.ID == i.ENIID {
				d.SourceDestCheck = ptr(e.SourceDestCheck)
			}
			d.NetworkInterfaces = append(d.NetworkInterfaces, instanceInterface(tx, e))
		}
	}
	return d
}

func metadataOptions(i compute.Instance) *ec2.InstanceMetadataOptionsResponse {
	m := i.MetadataOptions
	return &ec2.InstanceMetadataOptionsResponse{State: ptr("applied"), HttpTokens: ptr(m.HttpTokens), HttpEndpoint: ptr(m.HttpEndpoint), HttpPutResponseHopLimit: num(m.HttpPutResponseHopLimit),
		HttpProtocolIpv6: ptr(m.HttpProtocolIpv6), InstanceMetadataTags: ptr(m.InstanceMetadataTags)}
}

// publicName is the public DNS name, which VPCs without EnableDnsHostnames do not give.
func publicName(tx store.Tx, i compute.Instance) string {
	if v, ok := network.VPCs.Get(tx, i.Key(i.VpcID)); !ok || !v.EnableDNSHostnames {
		return ""
	}
	return network.PublicDNSName(i.Region, i.PublicIP)
}

func instanceInterface(tx store.Tx, e network.ENI) ec2.InstanceNetworkInterface {
	var assoc *ec2.InstanceNetworkInterfaceAssociation
	if e.PublicIP != "" {
		owner := "amazon"
		if e.AssociationID != "" {
			owner = e.Account
		}
		assoc = &ec2.InstanceNetworkInterfaceAssociation{IpOwnerId: ptr(owner), PublicIp: ptr(e.PublicIP), PublicDnsName: ptr(network.PublicDNSName(e.Region, e.PublicIP))}
	}
	name := network.PrivateDNSName(e.Region, e.PrivateIP)
	return ec2.InstanceNetworkInterface{NetworkInterfaceId: ptr(e.ID), Description: ptr(e.Description), InterfaceType: ptr(e.InterfaceType), MacAddress: ptr(e.MAC), OwnerId: ptr(e.Account),
		PrivateDnsName: str(name), PrivateIpAddress: ptr(e.PrivateIP), SourceDestCheck: ptr(e.SourceDestCheck), Status: ptr(e.Status()), SubnetId: ptr(e.SubnetID), VpcId: ptr(e.VpcID), Association: assoc,
		Attachment: &ec2.InstanceNetworkInterfaceAttachment{AttachmentId: ptr(e.AttachmentID), AttachTime: when(e.AttachTime), DeleteOnTermination: ptr(e.DeleteOnTermination), DeviceIndex: num(e.DeviceIndex), NetworkCardIndex: num(0), Status: ptr("attached")},
		Groups:     groupNames(tx, e), PrivateIpAddresses: []ec2.InstancePrivateIpAddress{{Primary: ptr(true), PrivateDnsName: str(name), PrivateIpAddress: ptr(e.PrivateIP), Association: assoc}}}
}

func groupNames(tx store.Tx, e network.ENI) []ec2.GroupIdentifier {
	out := []ec2.GroupIdentifier{}
	for _, id := range e.GroupIDs {
		g, _ := network.SecurityGroups.Get(tx, e.Key(id))
		out = append(out, ec2.GroupIdentifier{GroupId: ptr(id), GroupName: ptr(g.Name)})
	}
	return out
}

func nums(p *int32) []string {
	if p == nil {
		return nil
	}
	return []string{strconv.Itoa(int(*p))}
}

type attrs[T any] map[string]func(*T) []string

func instanceFilters() attrs[described] {
	type d = described
	text := func(get func(*d) *string) func(*d) []string { return field(get) }
	ifs := func(get func(*ec2.InstanceNetworkInterface) []string) func(*d) []string {
		return each(func(v *d) []ec2.InstanceNetworkInterface { return v.NetworkInterfaces }, get)
	}
	assoc := func(get func(*ec2.InstanceNetworkInterfaceAssociation) *string) func(*d) []string {
		return ifs(func(i *ec2.InstanceNetworkInterface) []string {
			if i.Association == nil {
				return nil
			}
			return texts(get(i.Association))
		})
	}
	bdm := func(get func(*ec2.InstanceBlockDeviceMapping) []string) func(*d) []string {
		return each(func(v *d) []ec2.InstanceBlockDeviceMapping { return v.BlockDeviceMappings }, get)
	}
	groups := func(get func(*ec2.GroupIdentifier) *string) func(*d) []string {
		return each(func(v *d) []ec2.GroupIdentifier { return v.SecurityGroups }, func(g *ec2.GroupIdentifier) []string { return texts(get(g)) })
	}
	f := attrs[d]{
		"architecture":                                 text(func(v *d) *string { return v.Architecture }),
		"availability-zone":                            text(func(v *d) *string { return v.Placement.AvailabilityZone }),
		"availability-zone-id":                         text(func(v *d) *string { return v.Placement.AvailabilityZoneId }),
		"block-device-mapping.attach-time":             bdm(func(b *ec2.InstanceBlockDeviceMapping) []string { return times(b.Ebs.AttachTime) }),
		"block-device-mapping.delete-on-termination":   bdm(func(b *ec2.InstanceBlockDeviceMapping) []string { return bools(b.Ebs.DeleteOnTermination) }),
		"block-device-mapping.device-name":             bdm(func(b *ec2.InstanceBlockDeviceMapping) []string { return texts(b.DeviceName) }),
		"block-device-mapping.status":                  bdm(func(b *ec2.InstanceBlockDeviceMapping) []string { return texts(b.Ebs.Status) }),
		"block-device-mapping.volume-id":               bdm(func(b *ec2.InstanceBlockDeviceMapping) []string { return texts(b.Ebs.VolumeId) }),
		"boot-mode":                                    text(func(v *d) *string { return v.BootMode }),
		"client-token":                                 text(func(v *d) *string { return v.ClientToken }),
		"current-instance-boot-mode":                   text(func(v *d) *string { return v.CurrentInstanceBootMode }),
		"dns-name":                                     text(func(v *d) *string { return v.PublicDnsName }),
		"ebs-optimized":                                func(v *d) []string { return bools(v.EbsOptimized) },
		"ena-support":                                  func(v *d) []string { return bools(v.EnaSupport) },
		"enclave-options.enabled":                      fixed[d]("false"),
		"hibernation-options.configured":               fixed[d]("false"),
		"hypervisor":                                   text(func(v *d) *string { return v.Hypervisor }),
		"iam-instance-profile.arn":                     func(v *d) []string { return texts(str(v.record.IamInstanceProfileArn)) },
		"iam-instance-profile.id":                      func(v *d) []string { return texts(str(v.record.IamInstanceProfileID)) },
		"image-id":                                     text(func(v *d) *string { return v.ImageId }),
		"instance-id":                                  text(func(v *d) *string { return v.InstanceId }),
		"instance-state-code":                          func(v *d) []string { return nums(v.State.Code) },
		"instance-state-name":                          text(func(v *d) *string { return v.State.Name }),
		"instance-type":                                text(func(v *d) *string { return v.InstanceType }),
		"instance.group-id":                            groups(func(g *ec2.GroupIdentifier) *string { return g.GroupId }),
		"instance.group-name":                          groups(func(g *ec2.GroupIdentifier) *string { return g.GroupName }),
		"ip-address":                                   text(func(v *d) *string { return v.PublicIpAddress }),
		"key-name":                                     text(func(v *d) *string { return v.KeyName }),
		"launch-index":                                 func(v *d) []string { return nums(v.AmiLaunchIndex) },
		"launch-time":                                  func(v *d) []string { return times(v.LaunchTime) },
		"maintenance-options.auto-recovery":            text(func(v *d) *string { return v.MaintenanceOptions.AutoRecovery }),
		"metadata-options.http-endpoint":               text(func(v *d) *string { return v.MetadataOptions.HttpEndpoint }),
		"metadata-options.http-protocol-ipv4":          fixed[d]("enabled"),
		"metadata-options.http-protocol-ipv6":          text(func(v *d) *string { return v.MetadataOptions.HttpProtocolIpv6 }),
		"metadata-options.http-put-response-hop-limit": func(v *d) []string { return nums(v.MetadataOptions.HttpPutResponseHopLimit) },
		"metadata-options.http-tokens":                 text(func(v *d) *string { return v.MetadataOptions.HttpTokens }),
		"metadata-options.instance-metadata-tags":      text(func(v *d) *string { return v.MetadataOptions.InstanceMetadataTags }),
		"metadata-options.state":                       text(func(v *d) *string { return v.MetadataOptions.State }),
		"monitoring-state":                             text(func(v *d) *string { return v.Monitoring.State }),
		"network-interface.addresses.association.ip-owner-id":           assoc(func(a *ec2.InstanceNetworkInterfaceAssociation) *string { return a.IpOwnerId }),
		"network-interface.addresses.association.public-dns-name":       assoc(func(a *ec2.InstanceNetworkInterfaceAssociation) *string { return a.PublicDnsName }),
		"network-interface.addresses.association.public-ip":             assoc(func(a *ec2.InstanceNetworkInterfaceAssociation) *string { return a.PublicIp }),
		"network-interface.association.ip-owner-id":                     assoc(func(a *ec2.InstanceNetworkInterfaceAssociation) *string { return a.IpOwnerId }),
		"network-interface.association.public-dns-name":                 assoc(func(a *ec2.InstanceNetworkInterfaceAssociation) *string { return a.PublicDnsName }),
		"network-interface.association.public-ip":                       assoc(func(a *ec2.InstanceNetworkInterfaceAssociation) *string { return a.PublicIp }),
		"network-interface.addresses.primary":                           ifs(func(*ec2.InstanceNetworkInterface) []string { return []string{"true"} }),
		"network-interface.addresses.private-dns-name":                  ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.PrivateDnsName) }),
		"network-interface.addresses.private-ip-address":                ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.PrivateIpAddress) }),
		"network-interface.attachment.attach-time":                      ifs(func(i *ec2.InstanceNetworkInterface) []string { return times(i.Attachment.AttachTime) }),
		"network-interface.attachment.attachment-id":                    ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.Attachment.AttachmentId) }),
		"network-interface.attachment.delete-on-termination":            ifs(func(i *ec2.InstanceNetworkInterface) []string { return bools(i.Attachment.DeleteOnTermination) }),
		"network-interface.attachment.device-index":                     ifs(func(i *ec2.InstanceNetworkInterface) []string { return nums(i.Attachment.DeviceIndex) }),
		"network-interface.attachment.instance-id":                      text(func(v *d) *string { return v.InstanceId }),
		"network-interface.attachment.instance-owner-id":                func(v *d) []string { return []string{v.record.Account} },
		"network-interface.attachment.network-card-index":               fixed[d]("0"),
		"network-interface.attachment.status":                           ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.Attachment.Status) }),
		"network-interface.availability-zone":                           text(func(v *d) *string { return v.Placement.AvailabilityZone }),
		"network-interface.description":                                 ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.Description) }),
		"network-interface.group-id":                                    groups(func(g *ec2.GroupIdentifier) *string { return g.GroupId }),
		"network-interface.group-name":                                  groups(func(g *ec2.GroupIdentifier) *string { return g.GroupName }),
		"network-interface.mac-address":                                 ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.MacAddress) }),
		"network-interface.network-interface-id":                        ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.NetworkInterfaceId) }),
		"network-interface.owner-id":                                    ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.OwnerId) }),
		"network-interface.private-dns-name":                            ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.PrivateDnsName) }),
		"network-interface.private-ip-address":                          ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.PrivateIpAddress) }),
		"network-interface.public-dns-name":                             assoc(func(a *ec2.InstanceNetworkInterfaceAssociation) *string { return a.PublicDnsName }),
		"network-interface.requester-managed":                           fixed[d]("false"),
		"network-interface.status":                                      ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.Status) }),
		"network-interface.source-dest-check":                           ifs(func(i *ec2.InstanceNetworkInterface) []string { return bools(i.SourceDestCheck) }),
		"network-interface.subnet-id":                                   ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.SubnetId) }),
		"network-interface.vpc-id":                                      ifs(func(i *ec2.InstanceNetworkInterface) []string { return texts(i.VpcId) }),
		"owner-id":                                                      func(v *d) []string { return []string{v.record.Account} },
		"platform-details":                                              text(func(v *d) *string { return v.PlatformDetails }),
		"private-dns-name":                                              text(func(v *d) *string { return v.PrivateDnsName }),
		"private-dns-name-options.enable-resource-name-dns-a-record":    func(v *d) []string { return describe.Bool(v.record.ResourceNameDNSA) },
		"private-dns-name-options.enable-resource-name-dns-aaaa-record": fixed[d]("false"),
		"private-dns-name-options.hostname-type":                        func(v *d) []string { return texts(str(v.record.HostnameType)) },
		"private-ip-address":                                            text(func(v *d) *string { return v.PrivateIpAddress }),
		"reason":                                                        text(func(v *d) *string { return v.StateTransitionReason }),
		"requester-id":                                                  func(v *d) []string { return texts(str(v.record.RequesterID)) },
		"reservation-id":                                                func(v *d) []string { return []string{v.record.ReservationID} },
		"root-device-name":                                              text(func(v *d) *string { return v.RootDeviceName }),
		"root-device-type":                                              text(func(v *d) *string { return v.RootDeviceType }),
		"source-dest-check":                                             func(v *d) []string { return bools(v.SourceDestCheck) },
		"instance-lifecycle":                                            text(func(v *d) *string { return v.InstanceLifecycle }),
		"spot-instance-request-id":                                      text(func(v *d) *string { return v.SpotInstanceRequestId }),
		"state-reason-code":                                             func(v *d) []string { return texts(str(v.record.StateReasonCode)) },
		"state-reason-message":                                          func(v *d) []string { return texts(str(v.record.StateReasonMessage)) },
		"subnet-id":                                                     text(func(v *d) *string { return v.SubnetId }),
		"tenancy":                                                       text(func(v *d) *string { return v.Placement.Tenancy }),
		"usage-operation":                                               text(func(v *d) *string { return v.UsageOperation }),
		"usage-operation-update-time":                                   func(v *d) []string { return times(v.UsageOperationUpdateTime) },
		"virtualization-type":                                           text(func(v *d) *string { return v.VirtualizationType }),
		"vpc-id":                                                        text(func(v *d) *string { return v.VpcId }),
	}
	for _, name := range []string{"affinity", "capacity-reservation-id", "host-id", "ipv6-address", "kernel-id", "outpost-arn", "placement-group-name", "placement-partition-number",
		"platform", "product-code", "product-code.type", "ramdisk-id", "tpm-support", "operator.managed", "operator.principal", "network-interface.requester-id",
		"network-interface.ipv6-addresses.ipv6-address", "network-interface.ipv6-address", "network-interface.outpost-arn", "network-interface.tag-key", "network-interface.tag-value",
		"network-interface.association.allocation-id", "network-interface.association.association-id", "network-interface.association.carrier-ip",
		"network-interface.addresses.association.allocation-id", "network-interface.addresses.association.association-id", "network-performance-options.bandwidth-weighting",
		"capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id"} {
		f[name] = none[d]()
	}
	f["capacity-reservation-specification.capacity-reservation-preference"] = fixed[d]("open")
	return f
}

var statusKind = describe.Kind[ec2.InstanceStatus]{IDs: "instancesSet", Min: 5, Max: 1000, Filters: map[string]func(*ec2.InstanceStatus) []string{
	"availability-zone":            field(func(v *ec2.InstanceStatus) *string { return v.AvailabilityZone }),
	"availability-zone-id":         field(func(v *ec2.InstanceStatus) *string { return v.AvailabilityZoneId }),
	"instance-state-code":          func(v *ec2.InstanceStatus) []string { return nums(v.InstanceState.Code) },
	"instance-state-name":          field(func(v *ec2.InstanceStatus) *string { return v.InstanceState.Name }),
	"instance-status.reachability": func(v *ec2.InstanceStatus) []string { return reachability(v.InstanceStatus) },
	"instance-status.status":       field(func(v *ec2.InstanceStatus) *string { return v.InstanceStatus.Status }),
	"system-status.reachability":   func(v *ec2.InstanceStatus) []string { return reachability(v.SystemStatus) },
	"system-status.status":         field(func(v *ec2.InstanceStatus) *string { return v.SystemStatus.Status }),
	"attached-ebs-status.status": func(v *ec2.InstanceStatus) []string {
		if v.AttachedEbsStatus == nil {
			return nil
		}
		return texts(v.AttachedEbsStatus.Status)
	},
	"event.code": none[ec2.InstanceStatus](), "event.description": none[ec2.InstanceStatus](), "event.instance-event-id": none[ec2.InstanceStatus](),
	"event.not-after": none[ec2.InstanceStatus](), "event.not-before": none[ec2.InstanceStatus](), "event.not-before-deadline": none[ec2.InstanceStatus](),
	"operator.managed": fixed[ec2.InstanceStatus]("false"), "operator.principal": none[ec2.InstanceStatus](),
}}

func reachability(s *ec2.InstanceStatusSummary) []string {
	if len(s.Details) == 0 {
		return nil
	}
	return texts(s.Details[0].Status)
}

// status is an instance's status checks.
func (s *Server) status(i compute.Instance) ec2.InstanceStatus {
	check := func(failing time.Time) *ec2.InstanceStatusSummary {
		if failing.IsZero() {
			return &ec2.InstanceStatusSummary{Status: ptr("ok"), Details: []ec2.InstanceStatusDetails{{Name: ptr("reachability"), Status: ptr("passed")}}}
		}
		return &ec2.InstanceStatusSummary{Status: ptr("impaired"), Details: []ec2.InstanceStatusDetails{{Name: ptr("reachability"), Status: ptr("failed"), ImpairedSince: when(failing)}}}
	}
	sum := func(status, detail string) *ec2.InstanceStatusSummary {
		out := &ec2.InstanceStatusSummary{Status: ptr(status)}
		if detail != "" {
			out.Details = []ec2.InstanceStatusDetails{{Name: ptr("reachability"), Status: ptr(detail)}}
		}
		return out
	}
	out := ec2.InstanceStatus{InstanceId: ptr(i.ID), AvailabilityZone: ptr(i.AvailabilityZone), AvailabilityZoneId: str(network.ZoneID(i.Region, i.AvailabilityZone)), InstanceState: stateOf(i.State), Events: nil}
	switch i.State {
	case compute.Running:
		out.SystemStatus, out.InstanceStatus = check(i.Checks.System), check(i.Checks.Instance)
		out.AttachedEbsStatus = &ec2.EbsStatusSummary{Status: ptr("ok"), Details: []ec2.EbsStatusDetails{{Name: ptr("reachability"), Status: ptr("passed")}}}
	case compute.Pending:
		out.SystemStatus, out.InstanceStatus = sum("initializing", "initializing"), sum("initializing", "initializing")
	default:
		out.SystemStatus, out.InstanceStatus = sum("not-applicable", ""), sum("not-applicable", "")
	}
	return out
}

var _ = api.Val[string]
