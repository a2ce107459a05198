package compute

import (
	"sort"
	"strings"

	"skerry/internal/fault"
)

// Type is an instance type.
type Type struct {
	Name          string
	Family        string
	VCPU          int
	Cores         int
	MemoryMiB     int
	Architectures []string
	ClockGHz      float64
	Manufacturer  string
	Hypervisor    string // nitro or xen
	Network       string // performance, as text
	MaxENIs       int
	IPsPerENI     int
	Burstable     bool
	Baseline      float64 // of one vCPU, for burstable types: 0.1 is 10 %
	DefaultCredit string  // standard or unlimited
	FreeTier      bool
	EbsOptimized  string // default or unsupported
	GPU           *GPU
	DiskGB        int // instance store, total
	Disks         int
}

// GPU is what a type has of them.
type GPU struct {
	Name, Manufacturer   string
	Count, MemoryMiBEach int
}

// ThreadsPerCore is the default number of threads of a core.
func (t Type) ThreadsPerCore() int { return t.VCPU / t.Cores }

// DefaultType is used where a launch names none.
const DefaultType = "t2.micro"

type size struct {
	name    string
	vcpu    int
	mib     int
	network string
}

type family struct {
	name, arch, maker string
	ghz               float64
	smt               int // threads a core
	sizes             []size
}

// mem lists sizes whose memory is a multiple of GiB a vCPU.
func mem(gibPerVCPU int, sizes ...size) []size {
	for i := range sizes {
		sizes[i].mib = sizes[i].vcpu * gibPerVCPU * 1024
	}
	return sizes
}

func gen5() []size {
	return []size{{"large", 2, 0, "Up to 10 Gigabit"}, {"xlarge", 4, 0, "Up to 10 Gigabit"}, {"2xlarge", 8, 0, "Up to 10 Gigabit"}, {"4xlarge", 16, 0, "Up to 10 Gigabit"},
		{"8xlarge", 32, 0, "10 Gigabit"}, {"12xlarge", 48, 0, "12 Gigabit"}, {"16xlarge", 64, 0, "20 Gigabit"}, {"24xlarge", 96, 0, "25 Gigabit"}}
}

func gen6i() []size {
	return []size{{"large", 2, 0, "Up to 12.5 Gigabit"}, {"xlarge", 4, 0, "Up to 12.5 Gigabit"}, {"2xlarge", 8, 0, "Up to 12.5 Gigabit"}, {"4xlarge", 16, 0, "Up to 12.5 Gigabit"},
		{"8xlarge", 32, 0, "12.5 Gigabit"}, {"12xlarge", 48, 0, "18.75 Gigabit"}, {"16xlarge", 64, 0, "25 Gigabit"}, {"24xlarge", 96, 0, "37.5 Gigabit"}, {"32xlarge", 128, 0, "50 Gigabit"}}
}

func gen7i() []size {
	return []size{{"large", 2, 0, "Up to 12.5 Gigabit"}, {"xlarge", 4, 0, "Up to 12.5 Gigabit"}, {"2xlarge", 8, 0, "Up to 12.5 Gigabit"}, {"4xlarge", 16, 0, "Up to 12.5 Gigabit"},
		{"8xlarge", 32, 0, "12.5 Gigabit"}, {"12xlarge", 48, 0, "18.75 Gigabit"}, {"16xlarge", 64, 0, "25 Gigabit"}, {"24xlarge", 96, 0, "37.5 Gigabit"}, {"48xlarge", 192, 0, "50 Gigabit"}}
}

func gen6g() []size {
	return []size{{"medium", 1, 0, "Up to 10 Gigabit"}, {"large", 2, 0, "Up to 10 Gigabit"}, {"xlarge", 4, 0, "Up to 10 Gigabit"}, {"2xlarge", 8, 0, "Up to 10 Gigabit"},
		{"4xlarge", 16, 0, "Up to 10 Gigabit"}, {"8xlarge", 32, 0, "12 Gigabit"}, {"12xlarge", 48, 0, "20 Gigabit"}, {"16xlarge", 64, 0, "25 Gigabit"}}
}

func gen7g() []size {
	return []size{{"medium", 1, 0, "Up to 12.5 Gigabit"}, {"large", 2, 0, "Up to 12.5 Gigabit"}, {"xlarge", 4, 0, "Up to 12.5 Gigabit"}, {"2xlarge", 8, 0, "Up to 15 Gigabit"},
		{"4xlarge", 16, 0, "Up to 15 Gigabit"}, {"8xlarge", 32, 0, "15 Gigabit"}, {"12xlarge", 48, 0, "22.5 Gigabit"}, {"16xlarge", 64, 0, "30 Gigabit"}}
}

func burst() []size {
	const net = "Up to 5 Gigabit"
	return []size{{"nano", 2, 512, net}, {"micro", 2, 1024, net}, {"small", 2, 2048, net}, {"medium", 2, 4096, net}, {"large", 2, 8192, net}, {"xlarge", 4, 16384, net}, {"2xlarge", 8, 32768, net}}
}

var families = []family{
	{"t2", "x86_64", "Intel", 2.4, 1, []size{{"nano", 1, 512, "Low to Moderate"}, {"micro", 1, 1024, "Low to Moderate"}, {"small", 1, 2048, "Low to Moderate"},
		{"medium", 2, 4096, "Low to Moderate"}, {"large", 2, 8192, "Low to Moderate"}, {"xlarge", 4, 16384, "Moderate"}, {"2xlarge", 8, 32768, "Moderate"}}},
	{"t3", "x86_64", "Intel", 2.5, 2, burst()},
	{"t3a", "x86_64", "AMD", 2.2, 2, burst()},
	{"t4g", "arm64", "AWS", 2.5, 1, burst()},
	{"m5", "x86_64", "Intel", 3.1, 2, mem(4, gen5()...)},
	{"r5", "x86_64", "Intel", 3.1, 2, mem(8, gen5()...)},
	{"c5", "x86_64", "Intel", 3.4, 2, mem(2, size{"large", 2, 0, "Up to 10 Gigabit"}, size{"xlarge", 4, 0, "Up to 10 Gigabit"}, size{"2xlarge", 8, 0, "Up to 10 Gigabit"},
		size{"4xlarge", 16, 0, "Up to 10 Gigabit"}, size{"9xlarge", 36, 0, "12 Gigabit"}, size{"12xlarge", 48, 0, "12 Gigabit"}, size{"18xlarge", 72, 0, "25 Gigabit"}, size{"24xlarge", 96, 0, "25 Gigabit"})},
	{"m6i", "x86_64", "Intel", 3.5, 2, mem(4, gen6i()...)},
	{"c6i", "x86_64", "Intel", 3.5, 2, mem(2, gen6i()...)},
	{"r6i", "x86_64", "Intel", 3.5, 2, mem(8, gen6i()...)},
	{"m7i", "x86_64", "Intel", 3.2, 2, mem(4, gen7i()...)},
	{"c7i", "x86_64", "Intel", 3.2, 2, mem(2, gen7i()...)},
	{"m6g", "arm64", "AWS", 2.5, 1, mem(4, gen6g()...)},
	{"c6g", "arm64", "AWS", 2.5, 1, mem(2, gen6g()...)},
	{"r6g", "arm64", "AWS", 2.5, 1, mem(8, gen6g()...)},
	{"m7g", "arm64", "AWS", 2.6, 1, mem(4, gen7g()...)},
	{"c7g", "arm64", "AWS", 2.6, 1, mem(2, gen7g()...)},
	{"r7g", "arm64", "AWS", 2.6, 1, mem(8, gen7g()...)},
	{"g5", "x86_64", "AMD", 3.3, 2, mem(4, size{"xlarge", 4, 0, "Up to 10 Gigabit"}, size{"2xlarge", 8, 0, "Up to 10 Gigabit"}, size{"4xlarge", 16, 0, "Up to 25 Gigabit"},
		size{"8xlarge", 32, 0, "25 Gigabit"}, size{"12xlarge", 48, 0, "40 Gigabit"}, size{"16xlarge", 64, 0, "25 Gigabit"}, size{"24xlarge", 96, 0, "50 Gigabit"}, size{"48xlarge", 192, 0, "100 Gigabit"})},
}

// interfaces gives how many interfaces, and addresses on each, the sizes have.
var interfaces = map[string][2]int{"nano": {2, 2}, "micro": {2, 2}, "small": {3, 4}, "medium": {2, 4}, "large": {3, 10}, "xlarge": {4, 15}, "2xlarge": {4, 15}, "4xlarge": {8, 30},
	"8xlarge": {8, 30}, "9xlarge": {8, 30}, "12xlarge": {8, 30}, "16xlarge": {15, 50}, "18xlarge": {15, 50}, "24xlarge": {15, 50}, "32xlarge": {15, 50}, "48xlarge": {15, 50}}

var baselineT2 = map[string]float64{"nano": 0.05, "micro": 0.1, "small": 0.2, "medium": 0.2, "large": 0.3, "xlarge": 0.225, "2xlarge": 0.17}
var baselineT3 = map[string]float64{"nano": 0.05, "micro": 0.1, "small": 0.2, "medium": 0.2, "large": 0.3, "xlarge": 0.4, "2xlarge": 0.4}

var gpus = map[string][3]int{"xlarge": {1, 250, 1}, "2xlarge": {1, 450, 1}, "4xlarge": {1, 600, 1}, "8xlarge": {1, 900, 1}, "12xlarge": {4, 3800, 1}, "16xlarge": {1, 1900, 1}, "24xlarge": {4, 3800, 1}, "48xlarge": {8, 7600, 2}}

// Types is the catalogue by name. It does not change.
var Types = map[string]Type{}

func init() {
	for _, f := range families {
		for _, z := range f.sizes {
			Types[f.name+"."+z.name] = build(f, z)
		}
	}
}

func build(f family, z size) Type {
	t := Type{Name: f.name + "." + z.name, Family: f.name, VCPU: z.vcpu, Cores: max(1, z.vcpu/f.smt), MemoryMiB: z.mib, Architectures: []string{f.arch}, ClockGHz: f.ghz,
		Manufacturer: f.maker, Hypervisor: "nitro", Network: z.network, MaxENIs: interfaces[z.name][0], IPsPerENI: interfaces[z.name][1], EbsOptimized: "default"}
	if strings.HasPrefix(f.name, "t") {
		t.Burstable, t.DefaultCredit, t.Baseline = true, "unlimited", baselineT3[z.name]
		switch z.name {
		case "medium":
			t.MaxENIs, t.IPsPerENI = 3, 6
		case "large":
			t.MaxENIs, t.IPsPerENI = 3, 12
		}
	}
	switch {
	case f.name == "t2":
		t.Hypervisor, t.EbsOptimized, t.DefaultCredit, t.Baseline = "xen", "unsupported", "standard", baselineT2[z.name]
		if z.name == "xlarge" || z.name == "2xlarge" {
			t.MaxENIs = 3
		}
	case f.name == "g5":
		g := gpus[z.name]
		t.GPU, t.DiskGB, t.Disks = &GPU{Name: "A10G", Manufacturer: "NVIDIA", Count: g[0], MemoryMiBEach: 24576}, g[1], g[2]
		switch z.name {
		case "12xlarge", "24xlarge":
			t.MaxENIs, t.IPsPerENI = 15, 50
		case "16xlarge":
			t.MaxENIs, t.IPsPerENI = 8, 30
		case "48xlarge":
			t.MaxENIs, t.IPsPerENI = 7, 50
		}
	}
	t.FreeTier = t.Name == "t2.micro" || t.Name == "t3.micro"
	return t
}

// TypeByName finds a type.
func TypeByName(name string) (Type, bool) {
	t, ok := Types[name]
	return t, ok
}

// TypeNames lists the catalogue in order of family and size.
func TypeNames() []string {
	names := make([]string, 0, len(Types))
	for n := range Types {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := Types[names[i]], Types[names[j]]
		if a.Family != b.Family {
			return a.Family < b.Family
		}
		if a.MemoryMiB != b.MemoryMiB {
			return a.MemoryMiB < b.MemoryMiB
		}
		return a.Name < b.Name
	})
	return names
}

func typeFor(name string) (Type, error) {
	if t, ok := TypeByName(name); ok {
		return t, nil
	}
	return Type{}, fault.New(fault.Invalid, "InvalidParameterValue", "Invalid value '%s' for InstanceType.", name)
}
