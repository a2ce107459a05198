package compute

import (
	"cmp"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/fault"
)

// Bounds are a range of an attribute; nil is open.
type Bounds struct {
	Min, Max *float64 `json:",omitempty"`
}

func (b *Bounds) holds(v float64) bool {
	return b == nil || (b.Min == nil || v >= *b.Min) && (b.Max == nil || v <= *b.Max)
}

// Requirements select instance types by their attributes. The JSON names are the API's.
type Requirements struct {
	VCpuCount, MemoryMiB                           *Bounds  `json:",omitempty"`
	MemoryGiBPerVCpu                               *Bounds  `json:",omitempty"`
	CpuManufacturers                               []string `json:",omitempty"`
	AllowedInstanceTypes, ExcludedInstanceTypes    []string `json:",omitempty"` // patterns with *
	InstanceGenerations                            []string `json:",omitempty"`
	BareMetal, BurstablePerformance                string   `json:",omitempty"` // included, excluded (the default), required
	RequireHibernateSupport                        bool     `json:",omitempty"`
	NetworkInterfaceCount                          *Bounds  `json:",omitempty"`
	NetworkBandwidthGbps                           *Bounds  `json:",omitempty"`
	BaselineEbsBandwidthMbps                       *Bounds  `json:",omitempty"`
	LocalStorage                                   string   `json:",omitempty"` // included (the default), excluded, required
	LocalStorageTypes                              []string `json:",omitempty"`
	TotalLocalStorageGB                            *Bounds  `json:",omitempty"`
	AcceleratorTypes                               []string `json:",omitempty"`
	AcceleratorCount                               *Bounds  `json:",omitempty"`
	AcceleratorManufacturers                       []string `json:",omitempty"`
	AcceleratorNames                               []string `json:",omitempty"`
	AcceleratorTotalMemoryMiB                      *Bounds  `json:",omitempty"`
	SpotMaxPricePercentageOverLowestPrice          *int     `json:",omitempty"`
	MaxSpotPriceAsPercentageOfOptimalOnDemandPrice *int     `json:",omitempty"`
	OnDemandMaxPricePercentageOverLowestPrice      *int     `json:",omitempty"`
	BaselinePerformanceFactors                     any      `json:",omitempty"`
}

// What EC2 protects prices by when nothing is said, in percent over the lowest.
const (
	spotProtection     = 100
	onDemandProtection = 20
)

// Check refuses requirements that contradict themselves, and what the catalogue does not know.
func (r Requirements) Check() error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "ValidationError", format, args...)
	}
	switch {
	case r.VCpuCount == nil || r.VCpuCount.Min == nil:
		return bad("InstanceRequirements must contain VCpuCount with a Min.")
	case r.MemoryMiB == nil || r.MemoryMiB.Min == nil:
		return bad("InstanceRequirements must contain MemoryMiB with a Min.")
	case len(r.AllowedInstanceTypes) > 0 && len(r.ExcludedInstanceTypes) > 0:
		return bad("AllowedInstanceTypes and ExcludedInstanceTypes cannot be specified together.")
	case r.SpotMaxPricePercentageOverLowestPrice != nil && r.MaxSpotPriceAsPercentageOfOptimalOnDemandPrice != nil:
		return bad("SpotMaxPricePercentageOverLowestPrice and MaxSpotPriceAsPercentageOfOptimalOnDemandPrice cannot be specified together.")
	case r.BaselineEbsBandwidthMbps != nil:
		return fault.New(fault.Unsupported, "ValidationError", "InstanceRequirements.BaselineEbsBandwidthMbps is not supported: the catalogue does not know the bandwidth of types.")
	case r.BaselinePerformanceFactors != nil:
		return fault.New(fault.Unsupported, "ValidationError", "InstanceRequirements.BaselinePerformanceFactors is not supported.")
	}
	for name, b := range map[string]*Bounds{"AcceleratorCount": r.AcceleratorCount, "AcceleratorTotalMemoryMiB": r.AcceleratorTotalMemoryMiB, "MemoryGiBPerVCpu": r.MemoryGiBPerVCpu,
		"MemoryMiB": r.MemoryMiB, "NetworkBandwidthGbps": r.NetworkBandwidthGbps, "NetworkInterfaceCount": r.NetworkInterfaceCount, "TotalLocalStorageGB": r.TotalLocalStorageGB, "VCpuCount": r.VCpuCount} {
		if b != nil && b.Min != nil && b.Max != nil && *b.Min > *b.Max {
			return bad("The Min of %s must not be greater than its Max.", name)
		}
	}
	return nil
}

// Match lists the types of an architecture that meet the requirements, the cheapest first; price protection takes out what
// is much dearer than the cheapest of the newest generations.
func (r Requirements) Match(arch string, spot bool) []Type {
	var out []Type
	for _, name := range TypeNames() {
		if t := Types[name]; slices.Contains(t.Architectures, arch) && r.meets(t) {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b Type) int { return cmp.Compare(a.Price(), b.Price()) })
	lowest := math.Inf(1)
	for _, t := range out {
		if t.current() {
			lowest = min(lowest, t.Price())
		}
	}
	if math.IsInf(lowest, 1) && len(out) > 0 {
		lowest = out[0].Price()
	}
	limit := lowest * float64(100+value(r.OnDemandMaxPricePercentageOverLowestPrice, onDemandProtection)) / 100
	if spot {
		limit = lowest * float64(100+value(r.SpotMaxPricePercentageOverLowestPrice, spotProtection)) / 100
		if p := r.MaxSpotPriceAsPercentageOfOptimalOnDemandPrice; p != nil { // of what a spot instance costs, about a third
			limit = lowest * float64(*p) / 100 * 3
		}
	}
	return slices.DeleteFunc(out, func(t Type) bool { return t.Price() > limit+1e-9 })
}

func value(p *int, or int) int {
	if p == nil {
		return or
	}
	return *p
}

// current tells of a type of a current generation.
func (t Type) current() bool { return t.Family != "t2" }

// three is a choice of included, excluded and required.
func three(choice, or string, has bool) bool {
	switch cmp.Or(choice, or) {
	case "required":
		return has
	case "excluded":
		return !has
	}
	return true
}

func (r Requirements) meets(t Type) bool {
	gpus, gpuMemory := 0, 0
	if t.GPU != nil {
		gpus, gpuMemory = t.GPU.Count, t.GPU.Count*t.GPU.MemoryMiBEach
	}
	gib := float64(t.MemoryMiB) / 1024
	named := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { ok, err := path.Match(p, t.Name); return err == nil && ok })
	}
	maker := map[string]string{"Intel": "intel", "AMD": "amd", "AWS": "amazon-web-services", "Apple": "apple"}[t.Manufacturer]
	generation := "previous"
	if t.current() {
		generation = "current"
	}
	accelerated := r.AcceleratorCount != nil || len(r.AcceleratorTypes) > 0 || len(r.AcceleratorNames) > 0 || len(r.AcceleratorManufacturers) > 0 || r.AcceleratorTotalMemoryMiB != nil
	switch {
	case !r.VCpuCount.holds(float64(t.VCPU)), !r.MemoryMiB.holds(float64(t.MemoryMiB)), !r.MemoryGiBPerVCpu.holds(gib / float64(t.VCPU)):
	case len(r.CpuManufacturers) > 0 && !slices.Contains(r.CpuManufacturers, maker):
	case len(r.AllowedInstanceTypes) > 0 && !named(r.AllowedInstanceTypes), named(r.ExcludedInstanceTypes):
	case len(r.InstanceGenerations) > 0 && !slices.Contains(r.InstanceGenerations, generation):
	case !three(r.BareMetal, "excluded", false), !three(r.BurstablePerformance, "excluded", t.Burstable), r.RequireHibernateSupport:
	case !r.NetworkInterfaceCount.holds(float64(t.MaxENIs)), r.NetworkBandwidthGbps != nil && !r.NetworkBandwidthGbps.holds(t.gbps()):
	case !three(r.LocalStorage, "included", t.Disks > 0), !r.TotalLocalStorageGB.holds(float64(t.DiskGB)):
	case len(r.LocalStorageTypes) > 0 && t.Disks > 0 && !slices.Contains(r.LocalStorageTypes, "ssd"):
	case !accelerated && gpus > 0: // nobody gets an accelerator unasked
	case !r.AcceleratorCount.holds(float64(gpus)), r.AcceleratorTotalMemoryMiB != nil && !r.AcceleratorTotalMemoryMiB.holds(float64(gpuMemory)):
	case len(r.AcceleratorTypes) > 0 && (gpus == 0 || !slices.Contains(r.AcceleratorTypes, "gpu")):
	case len(r.AcceleratorManufacturers) > 0 && (gpus == 0 || !slices.Contains(r.AcceleratorManufacturers, strings.ToLower(t.GPU.Manufacturer))):
	case len(r.AcceleratorNames) > 0 && (gpus == 0 || !slices.Contains(r.AcceleratorNames, strings.ToLower(t.GPU.Name))):
	default:
		return true
	}
	return false
}

// gbps reads the network performance: "Up to 10 Gigabit" is 10, and what has no number is less than one.
func (t Type) gbps() float64 {
	v, n := 0.0, 0
	for _, f := range strings.Fields(t.Network) {
		if x, err := strconv.ParseFloat(f, 64); err == nil {
			v, n = x, n+1
		}
	}
	if n == 0 {
		return 0.5
	}
	return v
}
