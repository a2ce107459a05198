package compute

import (
	"strconv"
	"strings"
	"time"

	"skerry/internal/fault"
	"skerry/internal/network"
	"skerry/internal/scope"
	"skerry/internal/store"
)

// The states of an instance.
const (
	Pending      = "pending"
	Running      = "running"
	Stopping     = "stopping"
	Stopped      = "stopped"
	ShuttingDown = "shutting-down"
	Terminated   = "terminated"
)

// StateCode is the API's number of a state.
func StateCode(state string) int32 {
	switch state {
	case Pending:
		return 0
	case Running:
		return 16
	case ShuttingDown:
		return 32
	case Terminated:
		return 48
	case Stopping:
		return 64
	}
	return 80
}

// MetadataOptions say how the instance's metadata service answers.
type MetadataOptions struct {
	HttpTokens              string // optional or required
	HttpEndpoint            string // enabled or disabled
	HttpPutResponseHopLimit int
	HttpProtocolIpv6        string // enabled or disabled
	InstanceMetadataTags    string // enabled or disabled
}

// BlockDevice is a volume's place in an instance.
type BlockDevice struct {
	DeviceName          string
	VolumeID            string
	AttachTime          time.Time
	DeleteOnTermination bool
}

// Instance is one instance.
type Instance struct {
	scope.Scope
	ID, ReservationID, ImageID, InstanceType, Architecture, KeyName string
	SubnetID, VpcID, AvailabilityZone, PrivateIP, PublicIP, ENIID   string
	SecurityGroupIDs                                                []string
	State                                                           string
	StateSince                                                      time.Time
	LaunchTime                                                      time.Time // of the last start
	CreatedAt                                                       time.Time
	Booted                                                          bool // has been running: a failed start leads to stopped, not to terminated
	StateReasonCode, StateReasonMessage                             string
	StateTransitionReason                                           string
	IamInstanceProfileArn, IamInstanceProfileID                     string
	ProfileAssociationID                                            string
	ProfileAssociatedAt                                             time.Time
	UserData                                                        string // base64
	Monitoring                                                      bool
	MetadataOptions                                                 MetadataOptions
	ClientToken                                                     string
	DisableAPITermination, DisableAPIStop                           bool
	ShutdownBehavior                                                string // stop or terminate
	AmiLaunchIndex                                                  int
	ASGName                                                         string
	RequesterID                                                     string
	Index                                                           uint32   // unique among the cloud's records; selects the range of user ids
	Reboots                                                         int      // requested so far; the reconciler compares it with what it has done
	ForceStop                                                       bool     // the stop that is under way asks for no clean shutdown
	Layers                                                          []string // root file system, topmost first: kept here, for an image may be deregistered
	RootDeviceName                                                  string
	BlockDevices                                                    []BlockDevice
	EbsOptimized                                                    bool
	CPUCredits                                                      string // standard, unlimited, or empty for types that have none
	CoreCount, ThreadsPerCore                                       int
	HostnameType                                                    string // ip-name or resource-name
	ResourceNameDNSA                                                bool
	AutoRecovery                                                    string // default or disabled
	Tenancy                                                         string
	PlatformDetails                                                 string
	Spot                                                            *Spot `json:",omitempty"` // nil: on demand
	Checks                                                          Checks
}

// Instances is the table of instances. Its index values are scope keys, but for state, which is over the whole cloud.
var Instances = store.NewTable("instance", func(i Instance) string { return i.Key(i.ID) },
	store.Index[Instance]{Name: "vpc", Keys: func(i Instance) []string { return optional(i.Scope, i.VpcID) }},
	store.Index[Instance]{Name: "subnet", Keys: func(i Instance) []string { return optional(i.Scope, i.SubnetID) }},
	store.Index[Instance]{Name: "asg", Keys: func(i Instance) []string { return optional(i.Scope, i.ASGName) }},
	store.Index[Instance]{Name: "profile", Keys: func(i Instance) []string { return optional(i.Scope, i.ProfileAssociationID) }},
	store.Index[Instance]{Name: "reservation", Keys: func(i Instance) []string { return []string{i.Key(i.ReservationID)} }},
	store.Index[Instance]{Name: "index", Keys: func(i Instance) []string { return []string{strconv.Itoa(int(i.Index))} }},
	store.Index[Instance]{Name: "state", Keys: func(i Instance) []string { return []string{i.State} }})

// counter is where the search for a free Index begins.
type counter struct {
	Name string
	Next uint32
}

// token remembers what a client token made.
type token struct {
	scope.Scope
	Token  string
	Hash   string
	Result string
	At     time.Time
}

var (
	counters = store.NewTable("compute-counter", func(c counter) string { return c.Name })
	tokens   = store.NewTable("launch-token", func(t token) string { return t.Key(t.Token) })
)

// Tables lists the package's tables.
var Tables = []store.AnyTable{Instances, Images, KeyPairs, LaunchTemplates, LaunchTemplateVersions, Volumes, Hosts, settings, counters, tokens}

func optional(s scope.Scope, id string) []string {
	if id == "" {
		return nil
	}
	return []string{s.Key(id)}
}

// Live tells whether the instance is neither terminated nor on its way there.
func (i Instance) Live() bool { return i.State != ShuttingDown && i.State != Terminated }

// ARN is the instance's ARN.
func (i Instance) ARN() string { return i.Scope.ARN("ec2", "instance/"+i.ID) }

// PrivateDNSName is the instance's private name, in the form that its subnet or its launch asked for.
func (i Instance) PrivateDNSName() string {
	if i.PrivateIP == "" {
		return ""
	}
	if i.HostnameType == "resource-name" {
		return i.ID + "." + i.Region + ".compute.internal"
	}
	return network.PrivateDNSName(i.Region, i.PrivateIP)
}

// GetInstance finds an instance by its id.
func GetInstance(tx store.Tx, s scope.Scope, id string) (Instance, error) {
	if i, ok := Instances.Get(tx, s.Key(id)); ok {
		return i, nil
	}
	return Instance{}, instancesNotFound(id)
}

// GetInstances finds instances by their ids in the order given, each once. The error names all that are missing.
func GetInstances(tx store.Tx, s scope.Scope, ids []string) ([]Instance, error) {
	var out []Instance
	var missing []string
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		if i, ok := Instances.Get(tx, s.Key(id)); ok {
			out = append(out, i)
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, instancesNotFound(missing...)
	}
	return out, nil
}

func instancesNotFound(ids ...string) error {
	if len(ids) == 1 {
		return fault.New(fault.NotFound, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", ids[0])
	}
	return fault.New(fault.NotFound, "InvalidInstanceID.NotFound", "The instance IDs '%s' do not exist", strings.Join(ids, ", "))
}

// InASG yields a group's instances that are not terminated, in the order of their ids.
func InASG(tx store.Tx, s scope.Scope, group string) []Instance {
	var out []Instance
	for i := range Instances.By(tx, "asg", s.Key(group)) {
		if i.State != Terminated {
			out = append(out, i)
		}
	}
	return out
}

// Refresh copies the primary interface's addresses and groups into the instance: for whoever changed the interface.
func Refresh(w *store.WriteTx, s scope.Scope, id string) {
	i, ok := Instances.Get(w, s.Key(id))
	if !ok {
		return
	}
	e, ok := network.ENIs.Get(w, s.Key(i.ENIID))
	if !ok {
		return
	}
	i.PrivateIP, i.PublicIP, i.SecurityGroupIDs = e.PrivateIP, e.PublicIP, e.GroupIDs
	Instances.Put(w, i)
}

// takeIndex finds an index that no record has. They rotate, so that a user id range rests before it is used again.
func takeIndex(w *store.WriteTx, unlimited bool) (uint32, error) {
	limit := uint32(maxIndex)
	if unlimited {
		limit = 1 << 31
	}
	c, _ := counters.Get(w, "instance-index")
	c.Name = "instance-index"
	for tried := uint32(0); tried < limit; tried++ {
		if c.Next < 1 || c.Next >= limit {
			c.Next = 1
		}
		at := c.Next
		c.Next++
		used := false
		for range Instances.By(w, "index", strconv.Itoa(int(at))) {
			used = true
			break
		}
		if !used {
			counters.Put(w, c)
			return at, nil
		}
	}
	return 0, fault.New(fault.Limit, "InstanceLimitExceeded", "The maximum number of instances of this cloud has been reached.")
}

// maxIndex bounds Index where it selects a range of 65,536 user ids below 2^32.
const maxIndex = 60000
