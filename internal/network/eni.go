package network

import (
	"fmt"
	"slices"

	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// MaxGroupsPerENI is the quota of security groups an interface.
const MaxGroupsPerENI = 16

// ENIParams are the parameters of AllocateENI.
type ENIParams struct {
	SubnetID            string
	PrivateIP           string   // empty: any free one
	GroupIDs            []string // empty: the VPC's default group
	Description         string
	RequesterID         string // set for interfaces that a service manages (amazon-elb)
	InterfaceType       string // default interface
	Public              bool   // takes an address of the public pool
	InstanceID          string // attached to it at DeviceIndex
	DeviceIndex         int
	DeleteOnTermination bool
}

// GetENI finds an interface by its id.
func GetENI(tx store.Tx, s scope.Scope, id string) (ENI, error) {
	if v, ok := ENIs.Get(tx, s.Key(id)); ok {
		return v, nil
	}
	return ENI{}, fault.New(fault.NotFound, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
}

// AllocateENI makes an interface with a private address of the subnet and, if asked for, a public one.
func AllocateENI(w *store.WriteTx, s scope.Scope, p ENIParams) (ENI, error) {
	sn, err := GetSubnet(w, s, p.SubnetID)
	if err != nil {
		return ENI{}, err
	}
	groups, err := CheckGroups(w, s, sn, p.GroupIDs)
	if err != nil {
		return ENI{}, err
	}
	sn, ip, err := takePrivate(w, sn, p.PrivateIP)
	if err != nil {
		return ENI{}, err
	}
	e := ENI{Scope: s, ID: w.NewID("eni"), SubnetID: sn.ID, VpcID: sn.VpcID, AvailabilityZone: sn.AvailabilityZone, PrivateIP: ip, GroupIDs: groups,
		Description: p.Description, InterfaceType: p.InterfaceType, RequesterID: p.RequesterID, RequesterManaged: p.RequesterID != "",
		SourceDestCheck: true, AutoPublic: p.Public, DeleteOnTermination: p.DeleteOnTermination, CreatedAt: w.Now()}
	if e.InterfaceType == "" {
		e.InterfaceType = "interface"
	}
	e.MAC = mac(e.ID)
	if p.Public {
		if e.PublicIP, err = takePublic(w, s, e.ID); err != nil {
			return ENI{}, err
		}
	}
	if p.InstanceID != "" || e.RequesterManaged {
		e.InstanceID, e.DeviceIndex, e.AttachmentID, e.AttachTime = p.InstanceID, p.DeviceIndex, w.NewID("eni-attach"), w.Now()
	}
	Subnets.Put(w, sn)
	ENIs.Put(w, e)
	return e, nil
}

// ReleaseENI deletes an interface, attached or not, and gives its addresses back: an elastic one stays allocated. An
// interface that is gone already is a success.
func ReleaseENI(w *store.WriteTx, s scope.Scope, id string) error {
	e, ok := ENIs.Get(w, s.Key(id))
	if !ok {
		return nil
	}
	if e.AssociationID != "" {
		if a, ok := Addresses.Get(w, s.Key(e.AllocationID)); ok {
			if _, err := untie(w, a); err != nil {
				return err
			}
		}
	} else if e.PublicIP != "" {
		givePublic(w, e.PublicIP)
	}
	if sn, ok := Subnets.Get(w, s.Key(e.SubnetID)); ok {
		sn.InUse = max(0, sn.InUse-1)
		Subnets.Put(w, sn)
	}
	ENIs.Delete(w, s.Key(id))
	tag.DeleteAll(w, s, id)
	return nil
}

// DeleteENI is the user's delete: an interface in use is refused.
func DeleteENI(w *store.WriteTx, s scope.Scope, id string) error {
	e, err := GetENI(w, s, id)
	if err != nil {
		return err
	}
	if e.AttachmentID != "" {
		return fault.New(fault.Conflict, "InvalidParameterValue", "Network interface '%s' is currently in use.", id)
	}
	return ReleaseENI(w, s, id)
}

// AttachENI attaches a free interface to an instance at a device index.
func AttachENI(w *store.WriteTx, s scope.Scope, id, instanceID string, index int) (ENI, error) {
	e, err := GetENI(w, s, id)
	if err != nil {
		return ENI{}, err
	}
	if e.AttachmentID != "" {
		return ENI{}, fault.New(fault.Conflict, "InvalidNetworkInterface.InUse", "Interface: [%s] in use.", id)
	}
	for o := range ENIs.By(w, "instance", s.Key(instanceID)) {
		if o.DeviceIndex == index {
			return ENI{}, fault.New(fault.Conflict, "InvalidParameterValue", "Instance '%s' already has an interface attached at device index '%d'.", instanceID, index)
		}
	}
	e.InstanceID, e.DeviceIndex, e.AttachmentID, e.AttachTime, e.DeleteOnTermination = instanceID, index, w.NewID("eni-attach"), w.Now(), false
	ENIs.Put(w, e)
	if a, ok := Addresses.Get(w, s.Key(e.AllocationID)); ok {
		a.InstanceID = instanceID
		Addresses.Put(w, a)
	}
	return e, nil
}

// DetachENI detaches an interface from its instance; the instance's first one stays.
func DetachENI(w *store.WriteTx, s scope.Scope, attachmentID string) error {
	for e := range ENIs.By(w, "attachment", s.Key(attachmentID)) {
		if e.RequesterManaged {
			return fault.New(fault.Denied, "OperationNotPermitted", "You are not allowed to manage '%s' attachments.", e.InterfaceType)
		}
		if e.DeviceIndex == 0 {
			return fault.New(fault.Denied, "OperationNotPermitted", "The network interface at device index 0 and networkCard index 0 cannot be detached.")
		}
		Detach(w, e)
		return nil
	}
	return fault.New(fault.NotFound, "InvalidAttachmentID.NotFound", "The attachment ID '%s' does not exist.", attachmentID)
}

// Detach frees an interface without a check: for an instance that ends.
func Detach(w *store.WriteTx, e ENI) {
	e.InstanceID, e.DeviceIndex, e.AttachmentID, e.DeleteOnTermination = "", 0, "", false
	ENIs.Put(w, e)
	if a, ok := Addresses.Get(w, e.Key(e.AllocationID)); ok {
		a.InstanceID = ""
		Addresses.Put(w, a)
	}
}

// TakeAutoPublic gives an interface an address of the pool if it wants one and has none: at an instance's start.
func TakeAutoPublic(w *store.WriteTx, e ENI) (ENI, error) {
	if !e.AutoPublic || e.PublicIP != "" {
		return e, nil
	}
	ip, err := takePublic(w, e.Scope, e.ID)
	if err != nil {
		return e, err
	}
	e.PublicIP = ip
	ENIs.Put(w, e)
	return e, nil
}

// GiveAutoPublic gives an interface's address of the pool back: at an instance's stop. Elastic ones stay.
func GiveAutoPublic(w *store.WriteTx, e ENI) ENI {
	if e.PublicIP != "" && e.AssociationID == "" {
		givePublic(w, e.PublicIP)
		e.PublicIP = ""
		ENIs.Put(w, e)
	}
	return e
}

// SetGroups replaces the security groups of an interface.
func SetGroups(w *store.WriteTx, s scope.Scope, id string, groups []string) (ENI, error) {
	e, err := GetENI(w, s, id)
	if err != nil {
		return ENI{}, err
	}
	sn, err := GetSubnet(w, s, e.SubnetID)
	if err != nil {
		return ENI{}, err
	}
	if e.GroupIDs, err = CheckGroups(w, s, sn, groups); err != nil {
		return ENI{}, err
	}
	ENIs.Put(w, e)
	return e, nil
}

// CheckGroups checks that groups exist in the subnet's VPC and returns them without duplicates; none means the default one.
func CheckGroups(tx store.Tx, s scope.Scope, sn Subnet, ids []string) ([]string, error) {
	if len(ids) == 0 {
		v, err := GetVPC(tx, s, sn.VpcID)
		if err != nil {
			return nil, err
		}
		return []string{v.DefaultGroupID}, nil
	}
	var out []string
	for _, id := range ids {
		g, err := GetGroup(tx, s, id)
		if err != nil {
			return nil, err
		}
		if g.VpcID != sn.VpcID {
			return nil, fault.New(fault.Invalid, "InvalidParameter", "Security group %s and subnet %s belong to different networks.", id, sn.ID)
		}
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	if len(out) > MaxGroupsPerENI {
		return nil, fault.New(fault.Limit, "SecurityGroupsPerInterfaceLimitExceeded", "The maximum number of security groups per interface has been reached.")
	}
	return out, nil
}

// mac derives a locally administered hardware address from the last 40 random bits of an interface's id.
func mac(id string) string {
	h := id[len(id)-10:]
	return fmt.Sprintf("0a:%s:%s:%s:%s:%s", h[0:2], h[2:4], h[4:6], h[6:8], h[8:10])
}
