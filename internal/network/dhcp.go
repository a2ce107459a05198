package network

import (
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// GetDhcpOptions finds a set of DHCP options by its id.
func GetDhcpOptions(tx store.Tx, s scope.Scope, id string) (DhcpOptions, error) {
	if d, ok := DhcpOptionSets.Get(tx, s.Key(id)); ok {
		return d, nil
	}
	return DhcpOptions{}, fault.New(fault.NotFound, "InvalidDhcpOptionID.NotFound", "The dhcpOption ID '%s' does not exist", id)
}

// CreateDhcpOptions makes a set of DHCP options.
func CreateDhcpOptions(w *store.WriteTx, s scope.Scope, d DhcpOptions) DhcpOptions {
	defaultDhcpOptions(w, s) // the region's own set comes first: it says that the region is in use
	d.Scope, d.ID, d.IsDefault = s, w.NewID("dopt"), false
	DhcpOptionSets.Put(w, d)
	return d
}

// DeleteDhcpOptions deletes a set that no VPC has.
func DeleteDhcpOptions(w *store.WriteTx, s scope.Scope, id string) error {
	d, err := GetDhcpOptions(w, s, id)
	if err != nil {
		return err
	}
	for v := range VPCs.Prefix(w, s.Prefix()) {
		if v.DhcpOptionsID == id {
			return fault.New(fault.Conflict, "DependencyViolation", "The dhcpOptions '%s' has dependencies and cannot be deleted.", id)
		}
	}
	if d.IsDefault {
		return fault.New(fault.Denied, "OperationNotPermitted", "The dhcpOptions '%s' are the region's own and cannot be deleted.", id)
	}
	DhcpOptionSets.Delete(w, s.Key(id))
	tag.DeleteAll(w, s, id)
	return nil
}

// AssociateDhcpOptions gives a VPC a set of options, or with "default" the region's own.
func AssociateDhcpOptions(w *store.WriteTx, s scope.Scope, vpcID, id string) error {
	v, err := GetVPC(w, s, vpcID)
	if err != nil {
		return err
	}
	d := defaultDhcpOptions(w, s)
	if id != "default" {
		if d, err = GetDhcpOptions(w, s, id); err != nil {
			return err
		}
	}
	v.DhcpOptionsID = d.ID
	VPCs.Put(w, v)
	return nil
}
