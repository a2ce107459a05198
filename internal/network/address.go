package network

import (
	"skerry/internal/fault"
	"skerry/internal/scope"
	"skerry/internal/store"
	"skerry/internal/tag"
)

// GetAddress finds an elastic address by its allocation id.
func GetAddress(tx store.Tx, s scope.Scope, allocationID string) (Address, error) {
	if v, ok := Addresses.Get(tx, s.Key(allocationID)); ok {
		return v, nil
	}
	return Address{}, fault.New(fault.NotFound, "InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist", allocationID)
}

// AddressByIP finds an elastic address by the address itself.
func AddressByIP(tx store.Tx, s scope.Scope, ip string) (Address, error) {
	for a := range Addresses.By(tx, "ip", s.Key(ip)) {
		return a, nil
	}
	return Address{}, fault.New(fault.NotFound, "InvalidAddress.NotFound", "Address '%s' not found.", ip)
}

// AddressByAssociation finds an elastic address by its association id.
func AddressByAssociation(tx store.Tx, s scope.Scope, id string) (Address, error) {
	for a := range Addresses.By(tx, "association", s.Key(id)) {
		return a, nil
	}
	return Address{}, fault.New(fault.NotFound, "InvalidAssociationID.NotFound", "The association ID '%s' does not exist", id)
}

// AllocateAddress takes an elastic address from the pool.
func AllocateAddress(w *store.WriteTx, s scope.Scope) (Address, error) {
	n := 0
	for range Addresses.Prefix(w, s.Prefix()) {
		n++
	}
	if n >= MaxAddresses {
		return Address{}, fault.New(fault.Limit, "AddressLimitExceeded", "The maximum number of addresses has been reached.")
	}
	a := Address{Scope: s, AllocationID: w.NewID("eipalloc"), CreatedAt: w.Now()}
	var err error
	if a.PublicIP, err = takePublic(w, s, a.AllocationID); err != nil {
		return Address{}, err
	}
	Addresses.Put(w, a)
	return a, nil
}

// ReleaseAddress gives an elastic address back; an associated one is refused.
func ReleaseAddress(w *store.WriteTx, s scope.Scope, allocationID string) error {
	a, err := GetAddress(w, s, allocationID)
	if err != nil {
		return err
	}
	if a.AssociationID != "" {
		return fault.New(fault.Conflict, "InvalidIPAddress.InUse", "Address %s is in use.", a.PublicIP)
	}
	givePublic(w, a.PublicIP)
	Addresses.Delete(w, s.Key(allocationID))
	tag.DeleteAll(w, s, allocationID)
	return nil
}

// AssociateAddress ties an elastic address to an interface. The interface's address of the pool is given back, an elastic
// one that it had is untied. An address that is tied elsewhere moves only when reassociate is set.
func AssociateAddress(w *store.WriteTx, s scope.Scope, allocationID, eniID string, reassociate bool) (Address, error) {
	a, err := GetAddress(w, s, allocationID)
	if err != nil {
		return Address{}, err
	}
	e, err := GetENI(w, s, eniID)
	if err != nil {
		return Address{}, err
	}
	if a.NetworkInterfaceID == eniID {
		return a, nil
	}
	if a.AssociationID != "" && !reassociate {
		return Address{}, fault.New(fault.Conflict, "Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", allocationID, a.AssociationID)
	}
	if _, ok := VPCGateway(w, s, e.VpcID); !ok {
		return Address{}, fault.New(fault.State, "Gateway.NotAttached", "Network %s is not attached to any internet gateway", e.VpcID)
	}
	if a.AssociationID != "" {
		if a, err = untie(w, a); err != nil {
			return Address{}, err
		}
	}
	if e.AssociationID != "" {
		if !reassociate {
			return Address{}, fault.New(fault.Conflict, "Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", eniID, e.AssociationID)
		}
		old, err := GetAddress(w, s, e.AllocationID)
		if err != nil {
			return Address{}, err
		}
		if _, err := untie(w, old); err != nil {
			return Address{}, err
		}
		e, _ = ENIs.Get(w, s.Key(eniID))
	}
	if e.PublicIP != "" {
		givePublic(w, e.PublicIP)
	}
	a.AssociationID, a.NetworkInterfaceID, a.InstanceID, a.PrivateIP = w.NewID("eipassoc"), e.ID, e.InstanceID, e.PrivateIP
	e.PublicIP, e.AllocationID, e.AssociationID = a.PublicIP, a.AllocationID, a.AssociationID
	Addresses.Put(w, a)
	ENIs.Put(w, e)
	return a, nil
}

// DisassociateAddress unties an elastic address, which stays allocated.
func DisassociateAddress(w *store.WriteTx, s scope.Scope, associationID string) (Address, error) {
	a, err := AddressByAssociation(w, s, associationID)
	if err != nil {
		return Address{}, err
	}
	return untie(w, a)
}

func untie(w *store.WriteTx, a Address) (Address, error) {
	if e, ok := ENIs.Get(w, a.Key(a.NetworkInterfaceID)); ok && e.AllocationID == a.AllocationID {
		e.PublicIP, e.AllocationID, e.AssociationID = "", "", ""
		ENIs.Put(w, e)
	}
	a.AssociationID, a.NetworkInterfaceID, a.InstanceID, a.PrivateIP = "", "", "", ""
	Addresses.Put(w, a)
	return a, nil
}
