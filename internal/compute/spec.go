package compute

import (
	"encoding/base64"
	"encoding/json"
	"maps"

	"skerry/internal/fault"
)

// MaxUserData is the limit of user data, decoded.
const MaxUserData = 16384

// LaunchSpec says what to launch. Its JSON names are those of the API's launch template data, so a template's document
// and a RunInstances request are read into it alike. Nil and empty mean: not given.
type LaunchSpec struct {
	ImageID                           string             `json:"ImageId,omitempty"`
	InstanceType                      string             `json:",omitempty"`
	KeyName                           string             `json:",omitempty"`
	SecurityGroupIDs                  []string           `json:"SecurityGroupIds,omitempty"`
	SecurityGroups                    []string           `json:",omitempty"` // names
	SubnetID                          string             `json:"SubnetId,omitempty"`
	PrivateIPAddress                  string             `json:"PrivateIpAddress,omitempty"`
	UserData                          string             `json:",omitempty"` // base64
	IamInstanceProfile                *ProfileSpec       `json:",omitempty"`
	Monitoring                        *EnabledSpec       `json:",omitempty"`
	MetadataOptions                   *MetadataSpec      `json:",omitempty"`
	NetworkInterfaces                 []InterfaceSpec    `json:",omitempty"`
	BlockDeviceMappings               []BlockDeviceSpec  `json:",omitempty"`
	TagSpecifications                 []TagSpec          `json:",omitempty"`
	Placement                         *PlacementSpec     `json:",omitempty"`
	DisableAPITermination             *bool              `json:"DisableApiTermination,omitempty"`
	DisableAPIStop                    *bool              `json:"DisableApiStop,omitempty"`
	InstanceInitiatedShutdownBehavior string             `json:",omitempty"`
	EbsOptimized                      *bool              `json:",omitempty"`
	CreditSpecification               *CreditSpec        `json:",omitempty"`
	CPUOptions                        *CPUSpec           `json:"CpuOptions,omitempty"`
	PrivateDNSNameOptions             *DNSNameSpec       `json:"PrivateDnsNameOptions,omitempty"`
	MaintenanceOptions                *MaintenanceSpec   `json:",omitempty"`
	InstanceMarketOptions             *MarketSpec        `json:",omitempty"`
	HibernationOptions                *ConfiguredSpec    `json:",omitempty"`
	EnclaveOptions                    *EnabledSpec       `json:",omitempty"`
	InstanceRequirements              json.RawMessage    `json:",omitempty"`
	KernelID                          string             `json:"KernelId,omitempty"`
	RAMDiskID                         string             `json:"RamDiskId,omitempty"`
	SecondaryInterfaces               []json.RawMessage  `json:",omitempty"`
	LicenseSpecifications             []json.RawMessage  `json:",omitempty"`
	ElasticGpuSpecifications          []json.RawMessage  `json:",omitempty"`
	ElasticInferenceAccelerators      []json.RawMessage  `json:",omitempty"`
	CapacityReservationSpecification  *CapacityReference `json:",omitempty"`
}

// The parts of a LaunchSpec.
type (
	ProfileSpec struct {
		Arn  string `json:",omitempty"`
		Name string `json:",omitempty"`
	}
	EnabledSpec    struct{ Enabled bool }
	ConfiguredSpec struct{ Configured bool }
	MetadataSpec   struct {
		HttpTokens              string `json:",omitempty"`
		HttpEndpoint            string `json:",omitempty"`
		HttpPutResponseHopLimit *int   `json:",omitempty"`
		HttpProtocolIpv6        string `json:",omitempty"`
		InstanceMetadataTags    string `json:",omitempty"`
	}
	InterfaceSpec struct {
		AssociatePublicIPAddress       *bool             `json:"AssociatePublicIpAddress,omitempty"`
		DeleteOnTermination            *bool             `json:",omitempty"`
		Description                    string            `json:",omitempty"`
		DeviceIndex                    *int              `json:",omitempty"`
		Groups                         []string          `json:",omitempty"`
		InterfaceType                  string            `json:",omitempty"`
		NetworkInterfaceID             string            `json:"NetworkInterfaceId,omitempty"`
		PrivateIPAddress               string            `json:"PrivateIpAddress,omitempty"`
		PrivateIPAddresses             []PrivateIPSpec   `json:"PrivateIpAddresses,omitempty"`
		SecondaryPrivateIPAddressCount int               `json:"SecondaryPrivateIpAddressCount,omitempty"`
		SubnetID                       string            `json:"SubnetId,omitempty"`
		Ipv6AddressCount               int               `json:",omitempty"`
		Ipv6Addresses                  []json.RawMessage `json:",omitempty"`
		NetworkCardIndex               int               `json:",omitempty"`
	}
	PrivateIPSpec struct {
		Primary          bool
		PrivateIPAddress string `json:"PrivateIpAddress"`
	}
	BlockDeviceSpec struct {
		DeviceName  string   `json:",omitempty"`
		Ebs         *EbsSpec `json:",omitempty"`
		NoDevice    *string  `json:",omitempty"`
		VirtualName string   `json:",omitempty"`
	}
	EbsSpec struct {
		DeleteOnTermination *bool  `json:",omitempty"`
		Encrypted           *bool  `json:",omitempty"`
		Iops                *int   `json:",omitempty"`
		KmsKeyID            string `json:"KmsKeyId,omitempty"`
		SnapshotID          string `json:"SnapshotId,omitempty"`
		Throughput          *int   `json:",omitempty"`
		VolumeSize          *int   `json:",omitempty"`
		VolumeType          string `json:",omitempty"`
	}
	TagSpec struct {
		ResourceType string
		Tags         []TagPair
	}
	TagPair       struct{ Key, Value string }
	PlacementSpec struct {
		AvailabilityZone     string `json:",omitempty"`
		AvailabilityZoneID   string `json:"AvailabilityZoneId,omitempty"`
		Tenancy              string `json:",omitempty"`
		GroupName            string `json:",omitempty"`
		GroupID              string `json:"GroupId,omitempty"`
		HostID               string `json:"HostId,omitempty"`
		HostResourceGroupArn string `json:",omitempty"`
		Affinity             string `json:",omitempty"`
		PartitionNumber      *int   `json:",omitempty"`
	}
	CreditSpec struct {
		CPUCredits string `json:"CpuCredits,omitempty"`
	}
	CPUSpec struct {
		CoreCount      int `json:",omitempty"`
		ThreadsPerCore int `json:",omitempty"`
	}
	DNSNameSpec struct {
		HostnameType                 string `json:",omitempty"`
		EnableResourceNameDNSARecord *bool  `json:"EnableResourceNameDnsARecord,omitempty"`
	}
	MaintenanceSpec struct {
		AutoRecovery string `json:",omitempty"`
	}
	MarketSpec struct {
		MarketType  string          `json:",omitempty"`
		SpotOptions *SpotMarketSpec `json:",omitempty"`
	}
	SpotMarketSpec struct {
		MaxPrice                     string `json:",omitempty"`
		SpotInstanceType             string `json:",omitempty"`
		InstanceInterruptionBehavior string `json:",omitempty"`
		BlockDurationMinutes         int    `json:",omitempty"`
		ValidUntil                   string `json:",omitempty"`
	}
	CapacityReference struct {
		CapacityReservationPreference string          `json:",omitempty"`
		CapacityReservationTarget     json.RawMessage `json:",omitempty"`
	}
)

// ParseSpec reads a launch template's document. Members that have no effect are left out.
func ParseSpec(document []byte) (LaunchSpec, error) {
	var s LaunchSpec
	if len(document) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(document, &s); err != nil {
		return s, fault.New(fault.Invalid, "InvalidParameterValue", "The launch template data is invalid.").Wrap(err)
	}
	return s, nil
}

// OverlayDocument puts the top-level members of over in the place of base's.
func OverlayDocument(base, over []byte) ([]byte, error) {
	out, add := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if len(base) > 0 {
		if err := json.Unmarshal(base, &out); err != nil {
			return nil, err
		}
	}
	if len(over) > 0 {
		if err := json.Unmarshal(over, &add); err != nil {
			return nil, err
		}
	}
	maps.Copy(out, add)
	return json.Marshal(out)
}

// Overlay gives base with each member that over has in its place; tags are united, over's winning.
func Overlay(base, over LaunchSpec) (LaunchSpec, error) {
	b, err := json.Marshal(base)
	if err != nil {
		return LaunchSpec{}, err
	}
	o, err := json.Marshal(over)
	if err != nil {
		return LaunchSpec{}, err
	}
	doc, err := OverlayDocument(b, o)
	if err != nil {
		return LaunchSpec{}, err
	}
	out, err := ParseSpec(doc)
	if err != nil {
		return LaunchSpec{}, err
	}
	if len(over.SecurityGroupIDs) > 0 || len(over.SecurityGroups) > 0 { // one parameter in two forms
		out.SecurityGroupIDs, out.SecurityGroups = over.SecurityGroupIDs, over.SecurityGroups
	}
	out.TagSpecifications = uniteTags(base.TagSpecifications, over.TagSpecifications)
	return out, nil
}

func uniteTags(base, over []TagSpec) []TagSpec {
	var out []TagSpec
	for _, specs := range [][]TagSpec{base, over} {
		for _, t := range specs {
			i := 0
			for i < len(out) && out[i].ResourceType != t.ResourceType {
				i++
			}
			if i == len(out) {
				out = append(out, TagSpec{ResourceType: t.ResourceType})
			}
			for _, p := range t.Tags {
				j := 0
				for j < len(out[i].Tags) && out[i].Tags[j].Key != p.Key {
					j++
				}
				if j == len(out[i].Tags) {
					out[i].Tags = append(out[i].Tags, p)
				} else {
					out[i].Tags[j] = p
				}
			}
		}
	}
	return out
}

// tagsFor gives the tags that a launch puts on resources of a type.
func (s LaunchSpec) tagsFor(resourceType string) map[string]string {
	m := map[string]string{}
	for _, t := range s.TagSpecifications {
		if t.ResourceType == resourceType {
			for _, p := range t.Tags {
				m[p.Key] = p.Value
			}
		}
	}
	return m
}

// CheckUserData checks base64 and size.
func CheckUserData(b64 string) error {
	if b64 == "" {
		return nil
	}
	if len(b64) > 25600 {
		return fault.New(fault.Invalid, "InvalidParameterValue", "Encoded User data is limited to 25600 bytes")
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return fault.New(fault.Invalid, "InvalidParameterValue", "Invalid BASE64 encoding of user data.")
	}
	if len(raw) > MaxUserData {
		return fault.New(fault.Invalid, "InvalidParameterValue", "User data is limited to 16384 bytes")
	}
	return nil
}
