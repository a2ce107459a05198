package compute

import "testing"

// TestCatalogue compares some types with AWS's own figures.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		vcpu, cores, mib, enis, ips int
		arch                        string
		baseline                    float64
	}{
		"t2.micro": {1, 1, 1024, 2, 2, "x86_64", 0.1}, "t3.micro": {2, 1, 1024, 2, 2, "x86_64", 0.1}, "t3.xlarge": {4, 2, 16384, 4, 15, "x86_64", 0.4}, "t4g.small": {2, 2, 2048, 3, 4, "arm64", 0.2},
		"t2.medium": {2, 2, 4096, 3, 6, "x86_64", 0.2}, "m5.large": {2, 1, 8192, 3, 10, "x86_64", 0}, "m5.24xlarge": {96, 48, 393216, 15, 50, "x86_64", 0}, "c5.9xlarge": {36, 18, 73728, 8, 30, "x86_64", 0},
		"c5.18xlarge": {72, 36, 147456, 15, 50, "x86_64", 0}, "m6i.32xlarge": {128, 64, 524288, 15, 50, "x86_64", 0}, "m7g.medium": {1, 1, 4096, 2, 4, "arm64", 0}, "c7g.16xlarge": {64, 64, 131072, 15, 50, "arm64", 0},
		"r6g.2xlarge": {8, 8, 65536, 4, 15, "arm64", 0}, "r5.xlarge": {4, 2, 32768, 4, 15, "x86_64", 0}, "g5.48xlarge": {192, 96, 786432, 7, 50, "x86_64", 0},
	} {
		got, ok := TypeByName(name)
		if !ok || got.VCPU != want.vcpu || got.Cores != want.cores || got.MemoryMiB != want.mib || got.MaxENIs != want.enis || got.IPsPerENI != want.ips || got.Architectures[0] != want.arch || got.Baseline != want.baseline || got.Burstable != (want.baseline > 0) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, f := range []string{"t2", "t3", "t3a", "t4g", "m5", "m6i", "m7g", "c5", "c6i", "c7g", "r5", "r6g", "g5"} {
		if _, ok := TypeByName(f + ".xlarge"); !ok {
			t.Errorf("family %s is missing", f)
		}
	}
	for _, n := range TypeNames() {
		v := Types[n]
		if v.VCPU < 1 || v.MemoryMiB < 512 || v.Cores*v.ThreadsPerCore() != v.VCPU || v.MaxENIs < 2 || v.Network == "" || v.ClockGHz < 2 {
			t.Errorf("%+v", v)
		}
	}
}
