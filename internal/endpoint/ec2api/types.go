package ec2api

import (
	"slices"
	"strconv"
	"strings"

	"skerry/api"
	"skerry/api/ec2"
	"skerry/internal/compute"
	"skerry/internal/describe"
	"skerry/internal/fault"
	"skerry/internal/network"
)

func (s *Server) registerTypes(m *api.Mux) {
	on(m, ec2.DescribeInstanceTypes, s.describeInstanceTypes)
	on(m, ec2.DescribeInstanceTypeOfferings, s.describeInstanceTypeOfferings)
}

type typeInfo = ec2.InstanceTypeInfo

var typeKind = describe.Kind[typeInfo]{IDs: "InstanceType", Min: 5, Max: 100, Filters: typeFilters()}

func typeFilters() attrs[typeInfo] {
	flag := func(get func(*typeInfo) *bool) func(*typeInfo) []string {
		return func(v *typeInfo) []string { return bools(get(v)) }
	}
	list := func(get func(*typeInfo) []string) func(*typeInfo) []string { return get }
	f := attrs[typeInfo]{
		"auto-recovery-supported": flag(func(v *typeInfo) *bool { return v.AutoRecoverySupported }), "bare-metal": flag(func(v *typeInfo) *bool { return v.BareMetal }),
		"burstable-performance-supported": flag(func(v *typeInfo) *bool { return v.BurstablePerformanceSupported }), "current-generation": flag(func(v *typeInfo) *bool { return v.CurrentGeneration }),
		"dedicated-hosts-supported": flag(func(v *typeInfo) *bool { return v.DedicatedHostsSupported }), "free-tier-eligible": flag(func(v *typeInfo) *bool { return v.FreeTierEligible }),
		"hibernation-supported": flag(func(v *typeInfo) *bool { return v.HibernationSupported }), "instance-storage-supported": flag(func(v *typeInfo) *bool { return v.InstanceStorageSupported }),
		"hypervisor": field(func(v *typeInfo) *string { return v.Hypervisor }), "instance-type": field(func(v *typeInfo) *string { return v.InstanceType }),
		"ebs-info.ebs-optimized-support": field(func(v *typeInfo) *string { return v.EbsInfo.EbsOptimizedSupport }), "ebs-info.encryption-support": field(func(v *typeInfo) *string { return v.EbsInfo.EncryptionSupport }),
		"ebs-info.nvme-support":      field(func(v *typeInfo) *string { return v.EbsInfo.NvmeSupport }),
		"memory-info.size-in-mib":    func(v *typeInfo) []string { return []string{strconv.FormatInt(api.Val(v.MemoryInfo.SizeInMiB), 10)} },
		"network-info.efa-supported": flag(func(v *typeInfo) *bool { return v.NetworkInfo.EfaSupported }), "network-info.ena-support": field(func(v *typeInfo) *string { return v.NetworkInfo.EnaSupport }),
		"network-info.encryption-in-transit-supported": flag(func(v *typeInfo) *bool { return v.NetworkInfo.EncryptionInTransitSupported }),
		"network-info.ipv4-addresses-per-interface":    func(v *typeInfo) []string { return nums(v.NetworkInfo.Ipv4AddressesPerInterface) },
		"network-info.ipv6-addresses-per-interface":    func(v *typeInfo) []string { return nums(v.NetworkInfo.Ipv6AddressesPerInterface) },
		"network-info.ipv6-supported":                  flag(func(v *typeInfo) *bool { return v.NetworkInfo.Ipv6Supported }),
		"network-info.maximum-network-cards":           func(v *typeInfo) []string { return nums(v.NetworkInfo.MaximumNetworkCards) },
		"network-info.maximum-network-interfaces":      func(v *typeInfo) []string { return nums(v.NetworkInfo.MaximumNetworkInterfaces) },
		"network-info.network-performance":             field(func(v *typeInfo) *string { return v.NetworkInfo.NetworkPerformance }),
		"nitro-enclaves-support":                       field(func(v *typeInfo) *string { return v.NitroEnclavesSupport }), "nitro-tpm-support": field(func(v *typeInfo) *string { return v.NitroTpmSupport }),
		"processor-info.supported-architecture": list(func(v *typeInfo) []string { return v.ProcessorInfo.SupportedArchitectures }),
		"processor-info.sustained-clock-speed-in-ghz": func(v *typeInfo) []string {
			return []string{strconv.FormatFloat(api.Val(v.ProcessorInfo.SustainedClockSpeedInGhz), 'f', -1, 64)}
		},
		"supported-boot-mode": list(func(v *typeInfo) []string { return v.SupportedBootModes }), "supported-root-device-type": list(func(v *typeInfo) []string { return v.SupportedRootDeviceTypes }),
		"supported-usage-class": list(func(v *typeInfo) []string { return v.SupportedUsageClasses }), "supported-virtualization-type": list(func(v *typeInfo) []string { return v.SupportedVirtualizationTypes }),
		"vcpu-info.default-cores": func(v *typeInfo) []string { return nums(v.VCpuInfo.DefaultCores) }, "vcpu-info.default-threads-per-core": func(v *typeInfo) []string { return nums(v.VCpuInfo.DefaultThreadsPerCore) },
		"vcpu-info.default-vcpus":          func(v *typeInfo) []string { return nums(v.VCpuInfo.DefaultVCpus) },
		"vcpu-info.valid-cores":            func(v *typeInfo) []string { return numbers(v.VCpuInfo.ValidCores) },
		"vcpu-info.valid-threads-per-core": func(v *typeInfo) []string { return numbers(v.VCpuInfo.ValidThreadsPerCore) },
		"instance-storage-info.total-size-in-gb": func(v *typeInfo) []string {
			if v.InstanceStorageInfo == nil {
				return nil
			}
			return []string{strconv.FormatInt(api.Val(v.InstanceStorageInfo.TotalSizeInGB), 10)}
		},
	}
	for _, n := range []string{"ebs-info.attachment-limit-type", "ebs-info.maximum-ebs-attachments", "ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps", "ebs-info.ebs-optimized-info.baseline-iops",
		"ebs-info.ebs-optimized-info.baseline-throughput-in-mbps", "ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps", "ebs-info.ebs-optimized-info.maximum-iops", "ebs-info.ebs-optimized-info.maximum-throughput-in-mbps",
		"instance-storage-info.disk.count", "instance-storage-info.disk.size-in-gb", "instance-storage-info.disk.type", "instance-storage-info.encryption-support", "instance-storage-info.nvme-support", "network-info.bandwidth-weightings",
		"network-info.efa-info.maximum-efa-interfaces", "network-info.flexible-ena-queues-support", "nitro-tpm-info.supported-versions", "processor-info.supported-features", "reboot-migration-support"} {
		f[n] = none[typeInfo]()
	}
	return f
}

func numbers(list []int32) []string {
	var out []string
	for _, n := range list {
		out = append(out, strconv.Itoa(int(n)))
	}
	return out
}

func describeType(t compute.Type) ec2.InstanceTypeInfo {
	nitro := t.Hypervisor == "nitro"
	ena, nvme := "required", "required"
	if !nitro {
		ena, nvme = "unsupported", "unsupported"
	}
	boot := []string{"legacy-bios", "uefi"}
	if t.Architectures[0] == "arm64" {
		boot = []string{"uefi"}
	}
	if !nitro {
		boot = []string{"legacy-bios"}
	}
	var cores, threads []int32
	for n := 1; n <= t.Cores; n++ {
		if n == t.Cores || n%2 == 0 || n == 1 {
			cores = append(cores, int32(n))
		}
	}
	for n := 1; n <= t.ThreadsPerCore(); n++ {
		threads = append(threads, int32(n))
	}
	strategies := []string{"cluster", "partition", "spread"}
	if t.Burstable {
		strategies = []string{"partition", "spread"}
	}
	out := ec2.InstanceTypeInfo{InstanceType: ptr(t.Name), CurrentGeneration: ptr(true), FreeTierEligible: ptr(t.FreeTier), SupportedUsageClasses: []string{"on-demand"}, SupportedRootDeviceTypes: []string{"ebs"}, SupportedVirtualizationTypes: []string{"hvm"},
		BareMetal: ptr(false), Hypervisor: ptr(t.Hypervisor), ProcessorInfo: &ec2.ProcessorInfo{SupportedArchitectures: t.Architectures, SustainedClockSpeedInGhz: ptr(t.ClockGHz), Manufacturer: ptr(t.Manufacturer)},
		VCpuInfo:   &ec2.VCpuInfo{DefaultVCpus: num(t.VCPU), DefaultCores: num(t.Cores), DefaultThreadsPerCore: num(t.ThreadsPerCore()), ValidCores: cores, ValidThreadsPerCore: threads},
		MemoryInfo: &ec2.MemoryInfo{SizeInMiB: ptr(int64(t.MemoryMiB))}, InstanceStorageSupported: ptr(t.DiskGB > 0),
		EbsInfo: &ec2.EbsInfo{EbsOptimizedSupport: ptr(t.EbsOptimized), EncryptionSupport: ptr("supported"), NvmeSupport: ptr(nvme)},
		NetworkInfo: &ec2.NetworkInfo{NetworkPerformance: ptr(t.Network), MaximumNetworkInterfaces: num(t.MaxENIs), MaximumNetworkCards: num(1), DefaultNetworkCardIndex: num(0), Ipv4AddressesPerInterface: num(t.IPsPerENI), Ipv6AddressesPerInterface: num(t.IPsPerENI),
			Ipv6Supported: ptr(true), EnaSupport: ptr(ena), EfaSupported: ptr(false), EncryptionInTransitSupported: ptr(false),
			NetworkCards: []ec2.NetworkCardInfo{{NetworkCardIndex: num(0), NetworkPerformance: ptr(t.Network), MaximumNetworkInterfaces: num(t.MaxENIs)}}},
		PlacementGroupInfo: &ec2.PlacementGroupInfo{SupportedStrategies: strategies}, HibernationSupported: ptr(false), BurstablePerformanceSupported: ptr(t.Burstable), DedicatedHostsSupported: ptr(false), AutoRecoverySupported: ptr(true),
		SupportedBootModes: boot, NitroEnclavesSupport: ptr("unsupported"), NitroTpmSupport: ptr("unsupported"), SupportedInRegion: ptr(true)}
	if t.DiskGB > 0 {
		out.InstanceStorageInfo = &ec2.InstanceStorageInfo{TotalSizeInGB: ptr(int64(t.DiskGB)), Disks: []ec2.DiskInfo{{SizeInGB: ptr(int64(t.DiskGB / t.Disks)), Count: num(t.Disks), Type: ptr("ssd")}}, NvmeSupport: ptr("required"), EncryptionSupport: ptr("required")}
	}
	if g := t.GPU; g != nil {
		out.GpuInfo = &ec2.GpuInfo{TotalGpuMemoryInMiB: num(g.Count * g.MemoryMiBEach), Gpus: []ec2.GpuDeviceInfo{{Name: ptr(g.Name), Manufacturer: ptr(g.Manufacturer), Count: num(g.Count), MemoryInfo: &ec2.GpuDeviceMemoryInfo{SizeInMiB: num(g.MemoryMiBEach)}}}}
	}
	return out
}

func (s *Server) describeInstanceTypes(_ *api.Call, in *ec2.DescribeInstanceTypesRequest) (*ec2.DescribeInstanceTypesResult, error) {
	var missing []string
	for _, n := range in.InstanceTypes {
		if _, ok := compute.TypeByName(n); !ok {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		return nil, fault.New(fault.Invalid, "InvalidInstanceType", "The following supplied instance types do not exist: [%s]", strings.Join(missing, ", "))
	}
	names := slices.Sorted(slices.Values(compute.TypeNames()))
	if len(in.InstanceTypes) > 0 {
		names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(in.InstanceTypes, n) })
	}
	q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken, HasIDs: len(in.InstanceTypes) > 0}
	out, next, err := describe.Page(&typeKind, q, slices.Values(names), func(n string) string { return n }, func(n string) ec2.InstanceTypeInfo {
		t, _ := compute.TypeByName(n)
		return describeType(t)
	})
	return &ec2.DescribeInstanceTypesResult{InstanceTypes: out, NextToken: str(next)}, err
}

type offering = ec2.InstanceTypeOffering

var offeringKind = describe.Kind[offering]{Min: 5, Max: 1000, Filters: attrs[offering]{
	"instance-type": field(func(v *offering) *string { return v.InstanceType }), "location": field(func(v *offering) *string { return v.Location }),
}}

func (s *Server) describeInstanceTypeOfferings(c *api.Call, in *ec2.DescribeInstanceTypeOfferingsRequest) (*ec2.DescribeInstanceTypeOfferingsResult, error) {
	kind := api.Val(in.LocationType)
	var places []string
	switch kind {
	case "", "region":
		kind, places = "region", []string{c.Region}
	case "availability-zone":
		for _, z := range network.Zones(c.Region) {
			places = append(places, z.Name)
		}
	case "availability-zone-id":
		for _, z := range network.Zones(c.Region) {
			places = append(places, z.ID)
		}
	default:
		return nil, fault.New(fault.Invalid, "InvalidParameterValue", "Value (%s) for parameter locationType is invalid. Valid values are: region, availability-zone, availability-zone-id.", kind)
	}
	var rows []offering
	for _, n := range slices.Sorted(slices.Values(compute.TypeNames())) {
		for _, p := range places {
			rows = append(rows, offering{InstanceType: ptr(n), Location: ptr(p), LocationType: ptr(kind)})
		}
	}
	q := describe.Query{Filters: filters(in.Filters), MaxResults: in.MaxResults, NextToken: in.NextToken}
	out, next, err := describe.Page(&offeringKind, q, slices.Values(rows), func(o offering) string { return *o.InstanceType + "/" + *o.Location }, func(o offering) offering { return o })
	return &ec2.DescribeInstanceTypeOfferingsResult{InstanceTypeOfferings: out, NextToken: str(next)}, err
}
