package compute

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// MaxLaunch is the most instances of one launch.
const MaxLaunch = 1000

// lastLaunchedGrain is how exact an image's LastLaunchedAt is: as EC2's, to the day, so that launches do not each write the image.
const lastLaunchedGrain = 24 * time.Hour

// tokenLife is how long a client token is remembered.
const tokenLife = 24 * time.Hour

// Reservation is what one launch made.
type Reservation struct {
	scope.Scope
	ID          string
	RequesterID string
	Instances   []Instance // by AmiLaunchIndex, in their current state
}

// LaunchParams are the parameters of Launch.
type LaunchParams struct {
	scope.Scope
	Spec               LaunchSpec
	From               *LaunchTemplateVersion // the version that Spec comes from, for the system tags
	MinCount, MaxCount int
	ClientToken        string
	ASGName            string
	RequesterID        string
	SystemTags         map[string]string // on the instances, unchecked: what a group propagates
}

// Launch checks everything and writes pending instances with their interfaces, root volumes and tags: as many as fit up to
// MaxCount, and none if fewer than MinCount would.
func Launch(w *store.WriteTx, p LaunchParams) (*Reservation, error) {
	params := []any{p.Spec, p.MinCount, p.MaxCount, p.ASGName}
	id, err := Once(w, p.Scope, "RunInstances", p.ClientToken, params, func() (string, error) { return create(w, p) })
	if err != nil {
		return nil, err
	}
	return reservation(w, p.Scope, id), nil
}

// create launches, and returns the reservation's id.
func create(w *store.WriteTx, p LaunchParams) (string, error) {
	l, err := prepare(w, p)
	if err != nil {
		return "", err
	}
	id := w.NewID("r")
	for n := 0; n < l.count; n++ {
		if err := l.one(w, id, n); err != nil {
			return "", err
		}
	}
	if w.Now().Sub(l.image.LastLaunchedAt) >= lastLaunchedGrain {
		l.image.LastLaunchedAt = w.Now()
		Images.Put(w, l.image)
	}
	return id, nil
}

func reservation(tx store.Tx, s scope.Scope, id string) *Reservation {
	r := &Reservation{Scope: s, ID: id}
	for i := range Instances.By(tx, "reservation", s.Key(id)) {
		r.Instances = append(r.Instances, i)
		r.RequesterID = i.RequesterID
	}
	sort.Slice(r.Instances, func(a, b int) bool { return r.Instances[a].AmiLaunchIndex < r.Instances[b].AmiLaunchIndex })
	return r
}

// launch is a launch whose parameters were checked.
type launch struct {
	p         LaunchParams
	image     Image
	typ       Type
	subnet    network.Subnet
	eni       InterfaceSpec // the primary interface's
	existing  bool          // it is there already
	groups    []string
	privateIP string
	public    bool
	root      EbsSpec
	profile   [2]string // ARN, id
	metadata  MetadataOptions
	credits   string
	count     int
	unlimited bool
	spot      *Spot // nil: on demand
}

func prepare(w *store.WriteTx, p LaunchParams) (*launch, error) {
	l := &launch{p: p}
	s, spec := p.Scope, p.Spec
	if err := checkCounts(p); err != nil {
		return nil, err
	}
	if err := refuse(spec); err != nil {
		return nil, err
	}
	if spec.ImageID == "" {
		return nil, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter ImageId")
	}
	var err error
	if l.image, err = launchableImage(w, s, spec.ImageID); err != nil {
		return nil, err
	}
	name := spec.InstanceType
	if name == "" {
		name = DefaultType
	}
	if l.typ, err = typeFor(name); err != nil {
		return nil, err
	}
	if !slices.Contains(l.typ.Architectures, l.image.Architecture) {
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again. You can use 'describe-instance-types' or 'describe-images' to discover the architecture of the instance type or AMI.", strings.Join(l.typ.Architectures, ","), l.image.Architecture)
	}
	if spec.KeyName != "" {
		if _, err := GetKeyPair(w, s, spec.KeyName); err != nil {
			return nil, err
		}
	}
	if err := CheckUserData(spec.UserData); err != nil {
		return nil, err
	}
	if err := l.network(w); err != nil {
		return nil, err
	}
	if l.root, err = rootVolume(l.image, spec.BlockDeviceMappings); err != nil {
		return nil, err
	}
	if spec.IamInstanceProfile != nil {
		if l.profile[0], l.profile[1], err = ResolveProfile(w, s, spec.IamInstanceProfile.Arn, spec.IamInstanceProfile.Name); err != nil {
			return nil, err
		}
	}
	if err := l.metadataOptions(w); err != nil {
		return nil, err
	}
	if l.typ.Burstable {
		if l.credits, err = DefaultCredits(w, s, l.typ.Family); err != nil {
			return nil, err
		}
	}
	if err := l.options(); err != nil {
		return nil, err
	}
	if err := l.checkSpot(); err != nil {
		return nil, err
	}
	fit, err := capacity(w, s, l.typ, l.subnet.AvailabilityZone)
	if err != nil {
		return nil, err
	}
	if fit < p.MinCount {
		return nil, insufficient(GetHost(w), s, l.typ, l.subnet.AvailabilityZone)
	}
	l.count = min(p.MaxCount, fit)
	if !l.existing {
		free := l.subnet.Available()
		if free < p.MinCount {
			return nil, fault.New(fault.Capacity, "InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
		}
		l.count = min(l.count, free)
	}
	l.unlimited = GetHost(w).Unlimited
	return l, nil
}

// metadataOptions: the request's, else the region's defaults, else the image's, else EC2's.
func (l *launch) metadataOptions(tx store.Tx) error {
	base := MetadataOptions{HttpTokens: "optional", HttpEndpoint: "enabled", HttpPutResponseHopLimit: 1, HttpProtocolIpv6: "disabled", InstanceMetadataTags: "disabled"}
	if l.image.ImdsSupport == "v2.0" {
		base.HttpTokens, base.HttpPutResponseHopLimit = "required", 2
	}
	defaults := GetSettings(tx, l.p.Scope).Metadata
	base, err := MergeMetadata(base, &defaults)
	if err != nil {
		return err
	}
	l.metadata, err = MergeMetadata(base, l.p.Spec.MetadataOptions)
	return err
}

func checkCounts(p LaunchParams) error {
	switch {
	case p.MinCount < 1:
		return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%d) for parameter minCount is invalid. Expecting a value greater than 0.", p.MinCount)
	case p.MaxCount < 1:
		return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%d) for parameter maxCount is invalid. Expecting a value greater than 0.", p.MaxCount)
	case p.MinCount > p.MaxCount:
		return fault.New(fault.Invalid, "InvalidParameterCombination", "The minimum count (%d) must not be greater than the maximum count (%d).", p.MinCount, p.MaxCount)
	case p.MaxCount > MaxLaunch:
		return fault.New(fault.Limit, "InstanceLimitExceeded", "You have requested more instances (%d) than the limit of %d of one request allows for.", p.MaxCount, MaxLaunch)
	}
	return nil
}

// refuse names what is known and not served.
func refuse(spec LaunchSpec) error {
	no := func(what string) error {
		return fault.New(fault.Unsupported, "UnsupportedOperation", "%s is not supported.", what)
	}
	pl := spec.Placement
	switch {
	case spec.HibernationOptions != nil && spec.HibernationOptions.Configured:
		return no("HibernationOptions.Configured")
	case spec.EnclaveOptions != nil && spec.EnclaveOptions.Enabled:
		return no("EnclaveOptions.Enabled")
	case len(spec.InstanceRequirements) > 0:
		return no("InstanceRequirements")
	case spec.KernelID != "":
		return no("KernelId")
	case spec.RAMDiskID != "":
		return no("RamdiskId")
	case len(spec.SecondaryInterfaces) > 0:
		return no("SecondaryInterfaces")
	case len(spec.LicenseSpecifications) > 0:
		return no("LicenseSpecifications")
	case len(spec.ElasticGpuSpecifications) > 0:
		return no("ElasticGpuSpecification")
	case len(spec.ElasticInferenceAccelerators) > 0:
		return no("ElasticInferenceAccelerators")
	case spec.CapacityReservationSpecification != nil && len(spec.CapacityReservationSpecification.CapacityReservationTarget) > 0:
		return no("CapacityReservationSpecification.CapacityReservationTarget")
	case pl != nil && pl.Tenancy != "" && pl.Tenancy != "default":
		return no("Placement.Tenancy=" + pl.Tenancy)
	case pl != nil && (pl.HostID != "" || pl.HostResourceGroupArn != "" || pl.Affinity == "host"):
		return no("Placement on a dedicated host")
	case pl != nil && (pl.GroupName != "" || pl.GroupID != ""):
		return fault.New(fault.NotFound, "InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", pl.GroupName+pl.GroupID)
	}
	return nil
}

// network finds the subnet, the groups and the primary interface's parameters.
func (l *launch) network(w *store.WriteTx) error {
	s, spec := l.p.Scope, l.p.Spec
	subnetID, groups := spec.SubnetID, spec.SecurityGroupIDs
	l.privateIP = spec.PrivateIPAddress
	if len(spec.NetworkInterfaces) > 0 {
		switch {
		case subnetID != "":
			return fault.New(fault.Invalid, "InvalidParameterCombination", "Network interfaces and an instance-level subnet ID may not be specified on the same request")
		case len(groups) > 0 || len(spec.SecurityGroups) > 0:
			return fault.New(fault.Invalid, "InvalidParameterCombination", "Network interfaces and an instance-level security groups may not be specified on the same request")
		case l.privateIP != "":
			return fault.New(fault.Invalid, "InvalidParameterCombination", "Network interfaces and an instance-level private IP address may not be specified on the same request")
		case len(spec.NetworkInterfaces) > 1:
			return fault.New(fault.Unsupported, "UnsupportedOperation", "More than one NetworkInterface at launch is not supported.")
		}
		l.eni = spec.NetworkInterfaces[0]
		if l.eni.DeviceIndex != nil && *l.eni.DeviceIndex != 0 {
			return fault.New(fault.Invalid, "InvalidParameterCombination", "Network interfaces must include a network interface with device index 0.")
		}
		if err := refuseInterface(l.eni); err != nil {
			return err
		}
		if l.eni.NetworkInterfaceID != "" {
			return l.useExisting(w)
		}
		subnetID, groups = l.eni.SubnetID, l.eni.Groups
		l.privateIP = l.eni.PrivateIPAddress
		for _, a := range l.eni.PrivateIPAddresses {
			if a.Primary || len(l.eni.PrivateIPAddresses) == 1 {
				l.privateIP = a.PrivateIPAddress
			}
		}
	}
	if l.privateIP != "" && l.p.MaxCount > 1 {
		return fault.New(fault.Invalid, "InvalidParameterCombination", "Cannot specify a private IP address for more than one instance.")
	}
	var err error
	if subnetID != "" {
		if l.subnet, err = network.GetSubnet(w, s, subnetID); err != nil {
			return err
		}
		if z := zoneOf(s, spec.Placement); z != "" && z != l.subnet.AvailabilityZone {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter availabilityZone is invalid. Subnet '%s' is in the availability zone %s", z, subnetID, l.subnet.AvailabilityZone)
		}
	} else if l.subnet, err = defaultSubnet(w, s, zoneOf(s, spec.Placement)); err != nil {
		return err
	}
	groups = slices.Clone(groups)
	if len(spec.SecurityGroups) > 0 {
		v, err := network.GetVPC(w, s, l.subnet.VpcID)
		if err != nil {
			return err
		}
		if !v.IsDefault {
			return fault.New(fault.Invalid, "InvalidParameterCombination", "The parameter groupName cannot be used with the parameter subnet")
		}
		for _, name := range spec.SecurityGroups {
			g, err := network.GroupByName(w, s, v.ID, name)
			if err != nil {
				return err
			}
			groups = append(groups, g.ID)
		}
	}
	if l.groups, err = network.CheckGroups(w, s, l.subnet, groups); err != nil {
		return err
	}
	l.public = l.subnet.MapPublicIPOnLaunch
	if l.eni.AssociatePublicIPAddress != nil {
		l.public = *l.eni.AssociatePublicIPAddress
	}
	return nil
}

func refuseInterface(e InterfaceSpec) error {
	switch {
	case e.Ipv6AddressCount > 0 || len(e.Ipv6Addresses) > 0:
		return fault.New(fault.Unsupported, "UnsupportedOperation", "IPv6 addresses of a NetworkInterface are not supported.")
	case e.SecondaryPrivateIPAddressCount > 0 || len(e.PrivateIPAddresses) > 1:
		return fault.New(fault.Unsupported, "UnsupportedOperation", "Secondary private IP addresses of a NetworkInterface are not supported.")
	case e.InterfaceType != "" && e.InterfaceType != "interface":
		return fault.New(fault.Unsupported, "UnsupportedOperation", "InterfaceType %s is not supported.", e.InterfaceType)
	case e.NetworkCardIndex != 0:
		return fault.New(fault.Unsupported, "UnsupportedOperation", "NetworkCardIndex %d is not supported.", e.NetworkCardIndex)
	}
	return nil
}

func (l *launch) useExisting(w *store.WriteTx) error {
	e := l.eni
	if e.SubnetID != "" || len(e.Groups) > 0 || e.PrivateIPAddress != "" || e.AssociatePublicIPAddress != nil {
		return fault.New(fault.Invalid, "InvalidParameterCombination", "A network interface may not specify both a network interface ID and a subnet, security groups, a private IP address or a public IP address")
	}
	if l.p.MaxCount > 1 {
		return fault.New(fault.Invalid, "InvalidParameterCombination", "A network interface ID may not be specified when more than one instance is launched")
	}
	rec, err := network.GetENI(w, l.p.Scope, e.NetworkInterfaceID)
	if err != nil {
		return err
	}
	if rec.AttachmentID != "" {
		return fault.New(fault.Conflict, "InvalidNetworkInterface.InUse", "Interface: [%s] in use.", rec.ID)
	}
	l.existing, l.groups, l.privateIP = true, rec.GroupIDs, rec.PrivateIP
	l.subnet, err = network.GetSubnet(w, l.p.Scope, rec.SubnetID)
	return err
}

func zoneOf(s scope.Scope, p *PlacementSpec) string {
	if p == nil {
		return ""
	}
	if p.AvailabilityZone == "" && p.AvailabilityZoneID != "" {
		for _, z := range network.Zones(s.Region) {
			if z.ID == p.AvailabilityZoneID {
				return z.Name
			}
		}
		return p.AvailabilityZoneID
	}
	return p.AvailabilityZone
}

// defaultSubnet is the default VPC's subnet of a zone; without a zone, of one that takes instances and has the most free addresses.
func defaultSubnet(tx store.Tx, s scope.Scope, zone string) (network.Subnet, error) {
	v, ok := network.DefaultVPC(tx, s)
	if !ok {
		return network.Subnet{}, fault.New(fault.State, "VPCIdNotSpecified", "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.")
	}
	if zone != "" {
		if _, ok := network.ZoneByName(s.Region, zone); !ok {
			return network.Subnet{}, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid availability zone: [%s]", zone)
		}
	}
	down := GetHost(tx).ZonesDown
	var best network.Subnet
	for sn := range network.Subnets.By(tx, "vpc", s.Key(v.ID)) {
		if !sn.DefaultForAZ || zone != "" && sn.AvailabilityZone != zone {
			continue
		}
		worse := best.ID == "" || slices.Contains(down, best.AvailabilityZone)
		if worse || !slices.Contains(down, sn.AvailabilityZone) && (sn.Available() > best.Available() || sn.Available() == best.Available() && sn.AvailabilityZone < best.AvailabilityZone) {
			best = sn
		}
	}
	if best.ID == "" {
		return network.Subnet{}, fault.New(fault.State, "MissingInput", "No subnets found for the default VPC '%s'. Please specify a subnet.", v.ID)
	}
	return best, nil
}

// rootVolume overlays the request's mapping of the root device over the image's. Other volumes are refused by name.
func rootVolume(img Image, specs []BlockDeviceSpec) (EbsSpec, error) {
	yes := !img.DeleteRootOnTerminationIsKept
	sizeGiB := img.RootSizeGiB
	root := EbsSpec{DeleteOnTermination: &yes, VolumeSize: &sizeGiB, VolumeType: img.VolumeType, SnapshotID: img.SnapshotID}
	for _, b := range specs {
		if b.DeviceName == "" {
			return root, fault.New(fault.Invalid, "MissingParameter", "The request must contain the parameter deviceName")
		}
		if b.DeviceName != img.RootDeviceName {
			if b.NoDevice != nil || strings.HasPrefix(b.VirtualName, "ephemeral") { // nothing to remove; no instance store to map
				continue
			}
			return root, fault.New(fault.Unsupported, "UnsupportedOperation", "A volume at %s is not supported: instances have their root volume (%s) only.", b.DeviceName, img.RootDeviceName)
		}
		if b.NoDevice != nil {
			return root, fault.New(fault.Invalid, "InvalidBlockDeviceMapping", "The root device %s cannot be removed.", b.DeviceName)
		}
		e := b.Ebs
		if e == nil {
			continue
		}
		if e.DeleteOnTermination != nil {
			root.DeleteOnTermination = e.DeleteOnTermination
		}
		if e.Encrypted != nil {
			root.Encrypted = e.Encrypted
		}
		if e.VolumeType != "" {
			if !slices.Contains([]string{"gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"}, e.VolumeType) {
				return root, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid volume type: %s", e.VolumeType)
			}
			root.VolumeType = e.VolumeType
		}
		if e.SnapshotID != "" && e.SnapshotID != img.SnapshotID {
			return root, fault.New(fault.Invalid, "InvalidBlockDeviceMapping", "snapshotId cannot be modified on root device")
		}
		if e.VolumeSize != nil {
			if *e.VolumeSize < img.RootSizeGiB {
				return root, fault.New(fault.Invalid, "InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB", *e.VolumeSize, img.SnapshotID, img.RootSizeGiB)
			}
			if *e.VolumeSize > 65536 {
				return root, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid volume size: %d", *e.VolumeSize)
			}
			root.VolumeSize = e.VolumeSize
		}
		root.Iops, root.Throughput = e.Iops, e.Throughput
	}
	return root, nil
}

// MergeMetadata checks new metadata options and puts them over the old.
func MergeMetadata(m MetadataOptions, in *MetadataSpec) (MetadataOptions, error) {
	if in == nil {
		return m, nil
	}
	oneOf := func(dst *string, v, param string, allowed ...string) error {
		if v == "" {
			return nil
		}
		if !slices.Contains(allowed, v) {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter %s is invalid. Valid values are: %s.", v, param, strings.Join(allowed, ", "))
		}
		*dst = v
		return nil
	}
	for _, err := range []error{
		oneOf(&m.HttpTokens, in.HttpTokens, "httpTokens", "optional", "required"),
		oneOf(&m.HttpEndpoint, in.HttpEndpoint, "httpEndpoint", "disabled", "enabled"),
		oneOf(&m.HttpProtocolIpv6, in.HttpProtocolIpv6, "httpProtocolIpv6", "disabled", "enabled"),
		oneOf(&m.InstanceMetadataTags, in.InstanceMetadataTags, "instanceMetadataTags", "disabled", "enabled"),
	} {
		if err != nil {
			return m, err
		}
	}
	if in.HttpPutResponseHopLimit != nil {
		if n := *in.HttpPutResponseHopLimit; n < 1 || n > 64 {
			return m, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%d) for parameter httpPutResponseHopLimit is invalid. The value must be between 1 and 64.", n)
		}
		m.HttpPutResponseHopLimit = *in.HttpPutResponseHopLimit
	}
	return m, nil
}

// options checks the small ones.
func (l *launch) options() error {
	spec := l.p.Spec
	if b := spec.InstanceInitiatedShutdownBehavior; b != "" && b != "stop" && b != "terminate" {
		return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter instanceInitiatedShutdownBehavior is invalid. Valid values are: stop, terminate.", b)
	}
	if c := spec.CreditSpecification; c != nil && c.CPUCredits != "" {
		if c.CPUCredits != "standard" && c.CPUCredits != "unlimited" {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter cpuCredits is invalid. Valid values are: standard, unlimited.", c.CPUCredits)
		}
		if !l.typ.Burstable {
			return fault.New(fault.Invalid, "InvalidParameterCombination", "The parameter creditSpecification is not supported for instance type %s.", l.typ.Name)
		}
	}
	if c := spec.CPUOptions; c != nil && (c.CoreCount != 0 || c.ThreadsPerCore != 0) {
		if c.CoreCount < 1 || c.CoreCount > l.typ.Cores || c.ThreadsPerCore < 1 || c.ThreadsPerCore > l.typ.ThreadsPerCore() {
			return fault.New(fault.Invalid, "InvalidParameterValue", "The specified CpuOptions (CoreCount %d, ThreadsPerCore %d) are not valid for instance type %s.", c.CoreCount, c.ThreadsPerCore, l.typ.Name)
		}
	}
	if m := spec.MaintenanceOptions; m != nil && m.AutoRecovery != "" && m.AutoRecovery != "default" && m.AutoRecovery != "disabled" {
		return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter autoRecovery is invalid. Valid values are: default, disabled.", m.AutoRecovery)
	}
	if d := spec.PrivateDNSNameOptions; d != nil && d.HostnameType != "" && d.HostnameType != "ip-name" && d.HostnameType != "resource-name" {
		return fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter hostnameType is invalid. Valid values are: ip-name, resource-name.", d.HostnameType)
	}
	return l.checkTags()
}

func (l *launch) checkTags() error {
	seen := map[string]bool{}
	for _, t := range l.p.Spec.TagSpecifications {
		switch t.ResourceType {
		case "instance", "volume", "network-interface", "spot-instances-request":
		default:
			return fault.New(fault.Invalid, "InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", t.ResourceType)
		}
		if seen[t.ResourceType] {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Duplicate resource type '%s' in tag specifications", t.ResourceType)
		}
		seen[t.ResourceType] = true
		if len(t.Tags) == 0 {
			return fault.New(fault.Invalid, "InvalidParameterValue", "Tag specification must have at least one tag")
		}
	}
	return nil
}

// one writes the n-th instance.
func (l *launch) one(w *store.WriteTx, reservationID string, n int) error {
	s, spec, now := l.p.Scope, l.p.Spec, w.Now()
	index, err := takeIndex(w, l.unlimited)
	if err != nil {
		return err
	}
	i := Instance{Scope: s, ID: w.NewID("i"), ReservationID: reservationID, ImageID: l.image.ID, InstanceType: l.typ.Name, Architecture: l.image.Architecture, KeyName: spec.KeyName,
		SubnetID: l.subnet.ID, VpcID: l.subnet.VpcID, AvailabilityZone: l.subnet.AvailabilityZone, State: Pending, StateSince: now, LaunchTime: now, CreatedAt: now,
		StateReasonCode: "pending", StateReasonMessage: "pending", UserData: spec.UserData, Monitoring: spec.Monitoring != nil && spec.Monitoring.Enabled,
		MetadataOptions: l.metadata, ClientToken: l.p.ClientToken, DisableAPITermination: spec.DisableAPITermination != nil && *spec.DisableAPITermination,
		DisableAPIStop: spec.DisableAPIStop != nil && *spec.DisableAPIStop, ShutdownBehavior: spec.InstanceInitiatedShutdownBehavior, AmiLaunchIndex: n, ASGName: l.p.ASGName,
		RequesterID: l.p.RequesterID, Index: index, Layers: l.image.Layers, RootDeviceName: l.image.RootDeviceName, EbsOptimized: spec.EbsOptimized != nil && *spec.EbsOptimized,
		CPUCredits: l.credits, CoreCount: l.typ.Cores, ThreadsPerCore: l.typ.ThreadsPerCore(), HostnameType: l.subnet.HostnameType, ResourceNameDNSA: l.subnet.ResourceNameDNSA,
		AutoRecovery: "default", Tenancy: "default", PlatformDetails: l.image.PlatformDetails}
	if i.ShutdownBehavior == "" {
		i.ShutdownBehavior = "stop"
	}
	if l.spot != nil {
		sp := *l.spot
		sp.RequestID = w.NewID("sir")
		i.Spot, i.ShutdownBehavior = &sp, "terminate"
	}
	if c := spec.CreditSpecification; c != nil && c.CPUCredits != "" {
		i.CPUCredits = c.CPUCredits
	}
	if c := spec.CPUOptions; c != nil && c.CoreCount > 0 {
		i.CoreCount, i.ThreadsPerCore = c.CoreCount, c.ThreadsPerCore
	}
	if d := spec.PrivateDNSNameOptions; d != nil {
		if d.HostnameType != "" {
			i.HostnameType = d.HostnameType
		}
		if d.EnableResourceNameDNSARecord != nil {
			i.ResourceNameDNSA = *d.EnableResourceNameDNSARecord
		}
	}
	if m := spec.MaintenanceOptions; m != nil && m.AutoRecovery != "" {
		i.AutoRecovery = m.AutoRecovery
	}
	if l.profile[0] != "" {
		i.IamInstanceProfileArn, i.IamInstanceProfileID, i.ProfileAssociationID, i.ProfileAssociatedAt = l.profile[0], l.profile[1], w.NewID("iip-assoc"), now
	}
	if err := l.attach(w, &i); err != nil {
		return err
	}
	v := l.volume(w, i)
	i.BlockDevices = []BlockDevice{{DeviceName: v.Device, VolumeID: v.ID, AttachTime: now, DeleteOnTermination: v.DeleteOnTermination}}
	Volumes.Put(w, v)
	Instances.Put(w, i)
	i.tell(w, "EC2 Instance State-change Notification", map[string]string{"instance-id": i.ID, "state": Pending})
	if err := tag.Set(w, s, i.ID, spec.tagsFor("instance")); err != nil {
		return err
	}
	tag.SetSystem(w, s, i.ID, l.p.SystemTags)
	if f := l.p.From; f != nil {
		tag.SetSystem(w, s, i.ID, map[string]string{"aws:ec2launchtemplate:id": f.TemplateID, "aws:ec2launchtemplate:version": strconv.FormatInt(f.Version, 10)})
	}
	if err := tag.Set(w, s, v.ID, spec.tagsFor("volume")); err != nil {
		return err
	}
	return tag.Set(w, s, i.ENIID, spec.tagsFor("network-interface"))
}

func (l *launch) attach(w *store.WriteTx, i *Instance) error {
	var e network.ENI
	var err error
	if l.existing {
		if e, err = network.AttachENI(w, l.p.Scope, l.eni.NetworkInterfaceID, i.ID, 0); err != nil {
			return err
		}
		if l.eni.DeleteOnTermination != nil && *l.eni.DeleteOnTermination {
			e.DeleteOnTermination = true
			network.ENIs.Put(w, e)
		}
	} else {
		keep := l.eni.DeleteOnTermination != nil && !*l.eni.DeleteOnTermination
		if e, err = network.AllocateENI(w, l.p.Scope, network.ENIParams{SubnetID: l.subnet.ID, PrivateIP: l.privateIP, GroupIDs: l.groups, Description: l.eni.Description,
			Public: l.public, InstanceID: i.ID, DeleteOnTermination: !keep}); err != nil {
			return err
		}
	}
	i.ENIID, i.PrivateIP, i.PublicIP, i.SecurityGroupIDs = e.ID, e.PrivateIP, e.PublicIP, e.GroupIDs
	return nil
}

func (l *launch) volume(w *store.WriteTx, i Instance) Volume {
	v := Volume{Scope: i.Scope, ID: w.NewID("vol"), AvailabilityZone: i.AvailabilityZone, Type: l.root.VolumeType, SnapshotID: l.root.SnapshotID, SizeGiB: *l.root.VolumeSize,
		Encrypted: l.root.Encrypted != nil && *l.root.Encrypted, InstanceID: i.ID, Device: i.RootDeviceName, DeleteOnTermination: *l.root.DeleteOnTermination, AttachTime: w.Now(), CreatedAt: w.Now()}
	switch v.Type {
	case "gp3":
		v.IOPS, v.Throughput = 3000, 125
	case "gp2":
		v.IOPS = min(16000, max(100, 3*v.SizeGiB))
	}
	if l.root.Iops != nil {
		v.IOPS = *l.root.Iops
	}
	if l.root.Throughput != nil {
		v.Throughput = *l.root.Throughput
	}
	return v
}
