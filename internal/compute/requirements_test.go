package compute

import (
	"strings"
	"testing"
)

func between(lo float64, hi ...float64) *Bounds {
	b := &Bounds{Min: &lo}
	if len(hi) > 0 {
		b.Max = &hi[0]
	}
	return b
}

func TestRequirementsSelectTypes(t *testing.T) {
	any := 100000
	base := func(edit func(*Requirements)) Requirements {
		r := Requirements{VCpuCount: between(2, 4), MemoryMiB: between(2048, 16384), OnDemandMaxPricePercentageOverLowestPrice: &any}
		if edit != nil {
			edit(&r)
		}
		return r
	}
	for _, c := range []struct {
		what   string
		arch   string
		r      Requirements
		has    string
		hasNot string
	}{
		{"plain", "x86_64", base(nil), "c5.large m5.large m5.xlarge c5.xlarge", "m5.2xlarge t3.medium c6g.large g5.xlarge"},
		{"arm", "arm64", base(nil), "c6g.large m7g.xlarge", "m5.large"},
		{"burstable too", "x86_64", base(func(r *Requirements) { r.BurstablePerformance = "included" }), "t3.medium m5.large t2.medium", "t3.micro"},
		{"burstable only", "x86_64", base(func(r *Requirements) { r.BurstablePerformance = "required" }), "t3.medium", "m5.large"},
		{"current burstable", "x86_64", base(func(r *Requirements) {
			r.BurstablePerformance = "required"
			r.InstanceGenerations = []string{"current"}
		}), "t3.medium", "t2.medium"},
		{"maker", "x86_64", base(func(r *Requirements) { r.BurstablePerformance = "required"; r.CpuManufacturers = []string{"amd"} }), "t3a.medium", "t3.medium"},
		{"excluded", "x86_64", base(func(r *Requirements) { r.ExcludedInstanceTypes = []string{"m5*", "c?.large"} }), "c6i.large", "m5.large c5.large"},
		{"allowed", "x86_64", base(func(r *Requirements) { r.AllowedInstanceTypes = []string{"r5.*"} }), "r5.large", "m5.large"},
		{"memory a vCPU", "x86_64", base(func(r *Requirements) { r.MemoryGiBPerVCpu = between(4, 4) }), "m5.large", "c5.large r5.large"},
		{"accelerator", "x86_64", base(func(r *Requirements) {
			r.AcceleratorCount = between(1)
			r.AcceleratorNames = []string{"a10g"}
			r.AcceleratorManufacturers = []string{"nvidia"}
		}), "g5.xlarge", "m5.xlarge"},
		{"local disks", "x86_64", base(func(r *Requirements) {
			r.AcceleratorCount = between(0)
			r.LocalStorage = "required"
			r.TotalLocalStorageGB = between(200)
		}), "g5.xlarge", "m5.large"},
		{"network", "x86_64", base(func(r *Requirements) { r.NetworkBandwidthGbps = between(12) }), "m6i.large", "m5.large"},
		{"interfaces", "x86_64", base(func(r *Requirements) { r.NetworkInterfaceCount = between(4) }), "m5.xlarge", "m5.large"},
		{"metal", "x86_64", base(func(r *Requirements) { r.BareMetal = "required" }), "", "m5.large"},
		{"dear ones", "x86_64", base(func(r *Requirements) { r.OnDemandMaxPricePercentageOverLowestPrice = nil }), "c5.large m5.large", "r5.large m5.xlarge"},
	} {
		if err := c.r.Check(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		got := map[string]bool{}
		for _, m := range c.r.Match(c.arch, false) {
			got[m.Name] = true
		}
		for _, n := range strings.Fields(c.has) {
			if !got[n] {
				t.Errorf("%s: %s is missing of %v", c.what, n, got)
			}
		}
		for _, n := range strings.Fields(c.hasNot) {
			if got[n] {
				t.Errorf("%s: %s is there", c.what, n)
			}
		}
	}
	for _, r := range []Requirements{{}, {VCpuCount: between(1)}, base(func(r *Requirements) { r.VCpuCount = between(4, 2) }), base(func(r *Requirements) { r.BaselineEbsBandwidthMbps = between(1) }),
		base(func(r *Requirements) { r.AllowedInstanceTypes, r.ExcludedInstanceTypes = []string{"a"}, []string{"b"} })} {
		if r.Check() == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
}

func TestPrices(t *testing.T) {
	for name, want := range map[string]float64{"t3.nano": 0.0052, "t2.micro": 0.0116, "m5.large": 0.096, "c5.9xlarge": 1.53, "r6g.16xlarge": 3.2256, "g5.xlarge": 1.006} {
		if got := Types[name].Price(); got != want {
			t.Errorf("%s costs %v, not %v", name, got, want)
		}
	}
	for _, typ := range Types {
		if p, s := typ.Price(), typ.SpotPrice("us-east-1a"); p <= 0 || s <= 0 || s > p/2 {
			t.Errorf("%s costs %v, and %v as a spot instance", typ.Name, p, s)
		}
	}
}
