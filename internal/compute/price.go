package compute

import (
	"hash/fnv"
	"math"
	"strings"
)

// perVCPU is the price of a vCPU's hour by family, in US dollars: Linux, on demand, in us-east-1. Sizes of these families
// cost in proportion.
var perVCPU = map[string]float64{"m5": 0.048, "r5": 0.063, "c5": 0.0425, "m6i": 0.048, "c6i": 0.0425, "r6i": 0.063, "m7i": 0.0504, "c7i": 0.044625,
	"m6g": 0.0385, "c6g": 0.034, "r6g": 0.0504, "m7g": 0.0408, "c7g": 0.03625, "r7g": 0.05355}

// perGiB is the price of a GiB's hour of the burstable families, whose sizes cost in proportion to their memory.
var perGiB = map[string]float64{"t2": 0.0116, "t3": 0.0104, "t3a": 0.0094, "t4g": 0.0084}

// single prices are of sizes that follow no rule.
var single = map[string]float64{"t2.small": 0.023, "g5.xlarge": 1.006, "g5.2xlarge": 1.212, "g5.4xlarge": 1.624, "g5.8xlarge": 2.448, "g5.12xlarge": 5.672,
	"g5.16xlarge": 4.096, "g5.24xlarge": 8.144, "g5.48xlarge": 16.288}

// Price is what an hour of the type costs on demand, in US dollars.
func (t Type) Price() float64 {
	if p, ok := single[t.Name]; ok {
		return p
	}
	if p, ok := perGiB[t.Family]; ok {
		return tidy(p * float64(t.MemoryMiB) / 1024)
	}
	return tidy(perVCPU[t.Family] * float64(t.VCPU))
}

// SpotPrice is what an hour of the type costs as a spot instance in a zone: 28 to 42 percent of its price on demand, fixed
// for each type and zone.
func (t Type) SpotPrice(zone string) float64 {
	h := fnv.New32a()
	h.Write([]byte(strings.Join([]string{t.Name, zone}, " ")))
	return tidy(t.Price() * (0.28 + 0.14*float64(h.Sum32()%1000)/1000))
}

// tidy rounds to a hundredth of a cent, and no price to nothing.
func tidy(v float64) float64 { return max(0.0001, math.Round(v*1e4)/1e4) }
