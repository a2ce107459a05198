package network

import (
	"sort"
	"strings"
)

// Region is a public region.
type Region struct {
	Name  string
	Short string // prefix of zone ids
	OptIn bool
}

var regions = map[string]Region{}

func init() {
	for _, r := range []Region{
		{"us-east-1", "use1", false}, {"us-east-2", "use2", false}, {"us-west-1", "usw1", false}, {"us-west-2", "usw2", false},
		{"ca-central-1", "cac1", false}, {"ca-west-1", "caw1", true}, {"mx-central-1", "mxc1", true}, {"sa-east-1", "sae1", false},
		{"eu-central-1", "euc1", false}, {"eu-central-2", "euc2", true}, {"eu-west-1", "euw1", false}, {"eu-west-2", "euw2", false},
		{"eu-west-3", "euw3", false}, {"eu-north-1", "eun1", false}, {"eu-south-1", "eus1", true}, {"eu-south-2", "eus2", true},
		{"ap-east-1", "ape1", true}, {"ap-east-2", "ape2", true}, {"ap-south-1", "aps1", false}, {"ap-south-2", "aps2", true},
		{"ap-southeast-1", "apse1", false}, {"ap-southeast-2", "apse2", false}, {"ap-southeast-3", "apse3", true},
		{"ap-southeast-4", "apse4", true}, {"ap-southeast-5", "apse5", true}, {"ap-southeast-6", "apse6", true}, {"ap-southeast-7", "apse7", true},
		{"ap-northeast-1", "apne1", false}, {"ap-northeast-2", "apne2", false}, {"ap-northeast-3", "apne3", false},
		{"af-south-1", "afs1", true}, {"il-central-1", "ilc1", true}, {"me-central-1", "mec1", true}, {"me-south-1", "mes1", true},
	} {
		regions[r.Name] = r
	}
}

// Regions lists the public regions by name.
func Regions() []Region {
	out := make([]Region, 0, len(regions))
	for _, r := range regions {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// RegionByName finds a public region.
func RegionByName(name string) (Region, bool) {
	r, ok := regions[name]
	return r, ok
}

// Zone is an availability zone.
type Zone struct {
	Name string
	ID   string
}

// Zones lists a region's three zones.
func Zones(region string) []Zone {
	short := strings.ReplaceAll(region, "-", "")
	if r, ok := regions[region]; ok {
		short = r.Short
	}
	return []Zone{{region + "a", short + "-az1"}, {region + "b", short + "-az2"}, {region + "c", short + "-az3"}}
}

// ZoneByName finds a zone of a region.
func ZoneByName(region, name string) (Zone, bool) {
	for _, z := range Zones(region) {
		if z.Name == name {
			return z, true
		}
	}
	return Zone{}, false
}

// ZoneID returns the id of a zone of a region, empty for an unknown one.
func ZoneID(region, name string) string {
	z, _ := ZoneByName(region, name)
	return z.ID
}

func zoneList(region string) string {
	var names []string
	for _, z := range Zones(region) {
		names = append(names, z.Name)
	}
	return strings.Join(names, ", ")
}

// PrivateDomain is the domain of private names in a region.
func PrivateDomain(region string) string {
	if region == "us-east-1" {
		return "ec2.internal"
	}
	return region + ".compute.internal"
}

// PrivateDNSName is the ip-name form of an address's private name.
func PrivateDNSName(region, ip string) string {
	if ip == "" {
		return ""
	}
	return "ip-" + strings.ReplaceAll(ip, ".", "-") + "." + PrivateDomain(region)
}

// PublicDNSName is the public name of a public address.
func PublicDNSName(region, ip string) string {
	if ip == "" {
		return ""
	}
	domain := region + ".compute.amazonaws.com"
	if region == "us-east-1" {
		domain = "compute-1.amazonaws.com"
	}
	return "ec2-" + strings.ReplaceAll(ip, ".", "-") + "." + domain
}
